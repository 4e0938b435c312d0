//! Attention and what goes with it, as products, masks and softmax.

use kinglet::DType;

use crate::array::Array;
use crate::graph::{BinaryOp, ReduceOp, TensorId, UnaryOp};
use crate::import::{Context, Failure};

/// `[batch, time, heads · size]` as `[batch, heads, time, size]`.
pub(super) fn split_heads(c: &mut Context<'_, '_>, x: TensorId, heads: usize) -> Result<TensorId, Failure> {
    let &[batch, time, hidden] = &c.shape(x)[..] else {
        return Err(Failure::malformed(format!("an input of shape {:?}", c.shape(x))));
    };
    if heads == 0 || !hidden.is_multiple_of(heads) {
        return Err(Failure::malformed(format!("{hidden} features of {heads} heads")));
    }
    let x = c.reshaped(x, &[batch, time, heads, hidden / heads])?;
    c.transposed(x, &[0, 2, 1, 3])
}

/// As [`split_heads`], by the attribute that says how many there are; an input of four axes is split already.
fn by_heads(c: &mut Context<'_, '_>, x: TensorId, heads: &str) -> Result<TensorId, Failure> {
    if c.shape(x).len() == 4 {
        return Ok(x);
    }
    split_heads(c, x, usize::try_from(c.int(heads, 0)).unwrap_or(0))
}

/// `Attention` (opset 23): `softmax(softcap(scale·Q·Kᵀ) + mask)·V`, heads of keys shared by groups of heads of queries.
pub fn attention(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (q, k, v) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let flat = c.shape(q).len() == 3;
    let q = by_heads(c, q, "q_num_heads")?;
    let (mut k, mut v) = (by_heads(c, k, "kv_num_heads")?, by_heads(c, v, "kv_num_heads")?);
    let mut past = 0;
    if let (Some(keys), Some(values)) = (c.optional(4), c.optional(5)) {
        past = c.shape(keys).get(2).copied().unwrap_or(0);
        for (own, before) in [(&mut k, keys), (&mut v, values)] {
            if c.shape(before).len() != 4 {
                return Err(Failure::malformed(format!("a past of shape {:?}", c.shape(before))));
            }
            *own = c.concatenated(&[before, *own], 2)?;
        }
    }
    c.output(1, k);
    c.output(2, v);
    let &[batch, heads, rows, size] = &c.shape(q)[..] else { unreachable!("it is by heads") };
    let (&[_, shared, keys, _], &[.., out]) = (&c.shape(k)[..], &c.shape(v)[..]) else { unreachable!("as above") };
    if shared == 0
        || heads % shared != 0
        || c.shape(k) != [batch, shared, keys, size]
        || c.shape(v) != [batch, shared, keys, out]
    {
        let shapes = [q, k, v].map(|t| c.shape(t));
        return Err(Failure::malformed(format!("queries, keys and values of shapes {shapes:?}")));
    }
    let scale = if c.has("scale") { f64::from(c.float("scale", 1.0)) } else { 1.0 / (size as f64).sqrt() };
    let scores = [batch, heads, rows, keys];

    // Of each key the products with the group of heads that share it.
    let group = |t: usize, size: usize| [batch, shared, heads / shared, t, size];
    let (gq, gk, gv) = (c.reshaped(q, &group(rows, size))?, c.shared(k)?, c.shared(v)?);
    let gq = c.binary_with(BinaryOp::Mul, gq, scale)?;
    let qk = c.product(gq, gk, [false, true])?;
    let mut score = c.reshaped(qk, &scores)?;
    let mut shown = vec![score];
    let softcap = c.float("softcap", 0.0);
    if softcap != 0.0 {
        let small = c.unary_with(UnaryOp::Affine, [1.0 / softcap, 0.0], score)?;
        let bent = c.unary(UnaryOp::Tanh, small)?;
        score = c.unary_with(UnaryOp::Affine, [softcap, 0.0], bent)?;
    }
    shown.push(score);
    let bias = bias(c, [rows, keys], past)?;
    if let Some(bias) = bias {
        score = c.binary(BinaryOp::Add, score, bias)?;
        if c.shape(score) != scores {
            return Err(Failure::malformed(format!("a mask of shape {:?} for scores {scores:?}", c.shape(bias))));
        }
    }
    shown.push(score);
    let mut weights = c.softmax(score, 3, false)?;
    if bias.is_some() {
        // A row in which nothing may be attended gives 0.
        let most = c.reduced(ReduceOp::Max, score, &[3], true)?;
        let none = c.binary_with(BinaryOp::Equal, most, f64::NEG_INFINITY)?;
        let zero = c.scalar_like(weights, 0.0);
        weights = c.select(none, zero, weights)?;
    }
    shown.push(weights);
    let weights = c.reshaped(weights, &group(rows, keys))?;
    let y = c.product(weights, gv, [false, false])?;
    let y = c.reshaped(y, &[batch, heads, rows, out])?;
    let y = if flat {
        let y = c.transposed(y, &[0, 2, 1, 3])?;
        c.reshaped(y, &[batch, rows, heads * out])?
    } else {
        y
    };
    c.output(0, y);
    let mode = c.int("qk_matmul_output_mode", 0);
    let shown = usize::try_from(mode).ok().and_then(|m| shown.get(m).copied());
    c.output(3, shown.ok_or_else(|| Failure::malformed(format!("qk_matmul_output_mode = {mode}")))?);
    Ok(())
}

impl Context<'_, '_> {
    /// `[batch, heads, time, size]` with an axis of 1 for the queries that share a head.
    fn shared(&mut self, x: TensorId) -> Result<TensorId, Failure> {
        let mut shape = self.shape(x);
        shape.insert(2, 1);
        self.reshaped(x, &shape)
    }
}

/// What is added to the scores `[…, rows, keys]`: the mask, and −∞ for keys that a query may not see.
fn bias(c: &mut Context<'_, '_>, [rows, keys]: [usize; 2], past: usize) -> Result<Option<TensorId>, Failure> {
    let never = c.add_constant(Array::scalar(f64::NEG_INFINITY));
    let zero = c.add_constant(Array::scalar(0.0));
    let mut bias = None;
    if let Some(mask) = c.optional(3) {
        let truth = c.dtype(mask) == DType::Bool;
        let mut mask = if truth { c.select(mask, zero, never)? } else { mask };
        // A shorter mask leaves out the last keys.
        let shape = c.shape(mask);
        if let Some(&n) = shape.last().filter(|&&n| n < keys && n > 1) {
            let rest = [&shape[..shape.len() - 1], &[keys - n]].concat();
            let rest = c.expanded(never, &rest)?;
            mask = c.concatenated(&[mask, rest], shape.len() - 1)?;
        }
        bias = Some(mask);
    }
    let column = c.counting(DType::I64, keys, 3, 4)?;
    let mut allow = None;
    let mut both = |c: &mut Context<'_, '_>, allowed: TensorId| -> Result<(), Failure> {
        allow = Some(match allow {
            Some(other) => c.binary(BinaryOp::And, other, allowed)?,
            None => allowed,
        });
        Ok(())
    };
    // How many keys there are before the first query.
    let mut offset = c.add_constant(Array::int(DType::I64, &[], vec![past as i64]));
    if let Some(lengths) = c.optional(6) {
        let n = c.shape(lengths).iter().product();
        let lengths = c.reshaped(lengths, &[n, 1, 1, 1])?;
        let real = c.binary(BinaryOp::Less, column, lengths)?;
        both(c, real)?;
        offset = c.binary_with(BinaryOp::Sub, lengths, rows as f64)?;
    }
    let row = c.counting(DType::I64, rows, 2, 4)?;
    let position = c.binary(BinaryOp::Add, row, offset)?;
    if c.flag("is_causal", false) {
        let seen = c.binary(BinaryOp::LessOrEqual, column, position)?;
        both(c, seen)?;
    }
    for (name, op, sign) in
        [("left_window_size", BinaryOp::GreaterOrEqual, -1.0), ("right_window_size", BinaryOp::LessOrEqual, 1.0)]
    {
        let reach = c.int(name, -1);
        if reach >= 0 {
            let end = c.binary_with(BinaryOp::Add, position, sign * reach as f64)?;
            let near = c.binary(op, column, end)?;
            both(c, near)?;
        }
    }
    let Some(allow) = allow else { return Ok(bias) };
    let masked = c.select(allow, zero, never)?;
    Ok(Some(match bias {
        Some(bias) => c.binary(BinaryOp::Add, bias, masked)?,
        None => masked,
    }))
}

/// `RotaryEmbedding` (opset 23): pairs of features are turned by angles whose cosines and sines are given by position.
pub fn rotary_embedding(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (x, mut cos, mut sin) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let shape = c.shape(x);
    let x = by_heads(c, x, "num_heads")?;
    let &[batch, heads, time, size] = &c.shape(x)[..] else { unreachable!("it is by heads") };
    let turned = match c.int("rotary_embedding_dim", 0) {
        0 => size,
        n => usize::try_from(n)
            .ok()
            .filter(|&n| n <= size)
            .ok_or_else(|| Failure::malformed(format!("rotary_embedding_dim = {n}")))?,
    };
    let half = turned / 2;
    for cache in [&mut cos, &mut sin] {
        if let Some(positions) = c.optional(3) {
            *cache = c.gathered(*cache, positions, 0)?;
        }
        let own = c.shape(*cache);
        if turned % 2 != 0 || own.len() != 3 || own[1..] != [time, half] {
            return Err(Failure::malformed(format!(
                "angles of shape {own:?} for {time} positions of {turned} features"
            )));
        }
        *cache = c.reshaped(*cache, &[own[0], 1, time, half])?;
    }
    let interleaved = c.flag("interleaved", false);
    let (first, second) = if interleaved {
        let front = c.sliced(x, 3, 0, turned, 1)?;
        let pairs = c.reshaped(front, &[batch, heads, time, half, 2])?;
        let part = |c: &mut Context<'_, '_>, i: usize| {
            let t = c.sliced(pairs, 4, i, 1, 1)?;
            c.reshaped(t, &[batch, heads, time, half])
        };
        (part(c, 0)?, part(c, 1)?)
    } else {
        (c.sliced(x, 3, 0, half, 1)?, c.sliced(x, 3, half, half, 1)?)
    };
    let mut mixed = |op: BinaryOp, a: (TensorId, TensorId), b: (TensorId, TensorId)| {
        let (a, b) = (c.binary(BinaryOp::Mul, a.0, a.1)?, c.binary(BinaryOp::Mul, b.0, b.1)?);
        c.binary(op, a, b)
    };
    let real = mixed(BinaryOp::Sub, (first, cos), (second, sin))?;
    let imaginary = mixed(BinaryOp::Add, (first, sin), (second, cos))?;
    let y = if interleaved {
        let pairs = c.stack(&[real, imaginary], 4)?;
        c.reshaped(pairs, &[batch, heads, time, turned])?
    } else {
        c.concatenated(&[real, imaginary], 3)?
    };
    let y = if turned < size {
        let rest = c.sliced(x, 3, turned, size - turned, 1)?;
        c.concatenated(&[y, rest], 3)?
    } else {
        y
    };
    let y = if shape.len() == 3 {
        let y = c.transposed(y, &[0, 2, 1, 3])?;
        c.reshaped(y, &shape)?
    } else {
        y
    };
    c.output(0, y);
    Ok(())
}
