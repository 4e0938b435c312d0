//! Attention as ONNX Runtime's optimiser fuses it.

use kinglet::DType;

use crate::array::Array;
use crate::graph::{BinaryOp, TensorId};
use crate::import::{Context, Failure};
use crate::ops::attention::split_heads;
use crate::ops::matmul::emit_matmul;
use crate::ops::quantize::reals_of;

fn heads(c: &Context<'_, '_>) -> usize {
    usize::try_from(c.int("num_heads", 0)).unwrap_or(0)
}

/// `softmax(scale·Q·Kᵀ + mask)·V` of tensors by heads, as `[batch, time, hidden]`. `mask` is that of keys that count, `extra` is added to the
/// scores.
fn attend(
    c: &mut Context<'_, '_>,
    [q, k, v]: [TensorId; 3],
    mask: Option<TensorId>,
    extra: Option<TensorId>,
) -> Result<TensorId, Failure> {
    let (&[batch, heads, rows, size], &[.., keys, _], &[.., out]) = (&c.shape(q)[..], &c.shape(k)[..], &c.shape(v)[..])
    else {
        return Err(Failure::malformed("its inputs are not by heads"));
    };
    let scale = if c.float("scale", 0.0) == 0.0 { 1.0 / (size as f64).sqrt() } else { c.float("scale", 0.0).into() };
    let q = c.binary_with(BinaryOp::Mul, q, scale)?;
    let mut score = c.product(q, k, [false, true])?;
    let zero = c.add_constant(Array::scalar(0.0));
    if let Some(mask) = mask {
        let filter = c.add_constant(Array::scalar(c.float("mask_filter_value", -10000.0).into()));
        let truth = c.as_type(mask, DType::Bool)?;
        let bias = c.select(truth, zero, filter)?;
        score = c.binary(BinaryOp::Add, score, bias)?;
    }
    if c.flag("unidirectional", false) {
        // A query sees the keys before it and its own, the last of which is the last query's.
        let past =
            keys.checked_sub(rows).ok_or_else(|| Failure::malformed(format!("{rows} queries and {keys} keys")))?;
        let (row, column) = (c.counting(DType::I64, rows, 2, 4)?, c.counting(DType::I64, keys, 3, 4)?);
        let row = c.binary_with(BinaryOp::Add, row, past as f64)?;
        let seen = c.binary(BinaryOp::LessOrEqual, column, row)?;
        let never = c.add_constant(Array::scalar(f64::NEG_INFINITY));
        let bias = c.select(seen, zero, never)?;
        score = c.binary(BinaryOp::Add, score, bias)?;
    }
    if let Some(extra) = extra {
        score = c.binary(BinaryOp::Add, score, extra)?;
    }
    if c.shape(score) != [batch, heads, rows, keys] {
        return Err(Failure::malformed(format!("scores of shape {:?}", c.shape(score))));
    }
    let weights = c.softmax(score, 3, false)?;
    let y = c.product(weights, v, [false, false])?;
    let y = c.transposed(y, &[0, 2, 1, 3])?;
    c.reshaped(y, &[batch, rows, heads * out])
}

/// The mask of input `i` in a shape that broadcasts to `[batch, heads, queries, keys]`: 1 for keys that count. One number a sample is how many do.
fn mask(c: &mut Context<'_, '_>, i: usize, keys: usize) -> Result<Option<TensorId>, Failure> {
    let Some(mask) = c.optional(i) else { return Ok(None) };
    let shape = c.shape(mask);
    Ok(Some(match shape[..] {
        [batch] => {
            let ends = c.reshaped(mask, &[batch, 1, 1, 1])?;
            let column = c.counting(c.dtype(mask), keys, 3, 4)?;
            c.binary(BinaryOp::Less, column, ends)?
        }
        [batch, n] if n == keys => c.reshaped(mask, &[batch, 1, 1, n])?,
        [batch, rows, n] if n == keys => c.reshaped(mask, &[batch, 1, rows, n])?,
        _ => {
            let reason = format!("a mask of shape {shape:?} for {keys} keys");
            return Err(Failure::unsupported(
                reason,
                "give a mask of shape [batch], [batch, keys] or [batch, queries, keys]",
            ));
        }
    }))
}

/// Refuses what goes with caches that are shared in place, and rotations.
fn plain(c: &Context<'_, '_>) -> Result<(), Failure> {
    for name in ["do_rotary", "past_present_share_buffer"] {
        if c.flag(name, false) {
            return Err(Failure::unsupported(format!("attribute {name}"), "export the model without it"));
        }
    }
    Ok(())
}

/// What follows the projection `[batch, time, q + k + v]` of `Attention` and `QAttention`; past and present are `[2, batch, heads, time, size]`.
fn projected(
    c: &mut Context<'_, '_>,
    qkv: TensorId,
    sizes: [usize; 3],
    [at_mask, at_past, at_extra]: [usize; 3],
) -> Result<(), Failure> {
    plain(c)?;
    let heads = heads(c);
    let mut parts = Vec::new();
    let mut from = 0;
    for size in sizes {
        let part = c.sliced(qkv, 2, from, size, 1)?;
        parts.push(split_heads(c, part, heads)?);
        from += size;
    }
    let [q, mut k, mut v] = parts[..] else { unreachable!("three are cut") };
    if let Some(past) = c.optional(at_past) {
        if c.shape(past).len() != 5 || c.shape(past)[0] != 2 {
            return Err(Failure::malformed(format!("a past of shape {:?}", c.shape(past))));
        }
        for (i, own) in [&mut k, &mut v].into_iter().enumerate() {
            let before = c.position(past, i)?;
            *own = c.concatenated(&[before, *own], 2)?;
        }
    }
    if c.has_output(1) {
        let present = c.stack(&[k, v], 0)?;
        c.output(1, present);
    }
    let keys = c.shape(k)[2];
    let mask = mask(c, at_mask, keys)?;
    let extra = c.optional(at_extra);
    let y = attend(c, [q, k, v], mask, extra)?;
    c.output(0, y);
    Ok(())
}

/// The sizes of queries, keys and values in a projection to so many features.
fn sizes(c: &Context<'_, '_>, features: usize) -> Result<[usize; 3], Failure> {
    let listed = c.ints("qkv_hidden_sizes").unwrap_or_default();
    let sizes: Vec<usize> = listed.iter().map(|&n| usize::try_from(n).unwrap_or(0)).collect();
    let sizes = match sizes[..] {
        [] => [features / 3; 3],
        [q, k, v] => [q, k, v],
        _ => [0; 3],
    };
    if sizes.iter().sum::<usize>() != features || sizes.contains(&0) || sizes[0] != sizes[1] {
        return Err(Failure::malformed(format!("{features} features as queries, keys and values of {sizes:?}")));
    }
    Ok(sizes)
}

/// `Attention` of com.microsoft: with the projection of x `[batch, time, hidden]` to queries, keys and values.
pub fn attention(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (x, w) = (c.input(0)?, c.input(1)?);
    if c.shape(x).len() != 3 || c.shape(w).len() != 2 {
        return Err(Failure::malformed(format!("input and weights of shapes {:?} and {:?}", c.shape(x), c.shape(w))));
    }
    let mut qkv = emit_matmul(c, x, w, DType::F32)?;
    if let Some(bias) = c.optional(2) {
        qkv = c.binary(BinaryOp::Add, qkv, bias)?;
    }
    let sizes = sizes(c, c.shape(w)[1])?;
    projected(c, qkv, sizes, [3, 4, 5])
}

/// `QAttention`: the same with quantised x and weights.
pub fn quantized(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (x, w) = (reals_of(c, [0, 3, 6], 0)?, reals_of(c, [1, 4, 7], 1)?);
    if c.shape(x).len() != 3 || c.shape(w).len() != 2 {
        return Err(Failure::malformed(format!("input and weights of shapes {:?} and {:?}", c.shape(x), c.shape(w))));
    }
    let qkv = emit_matmul(c, x, w, DType::F32)?;
    let bias = c.input(2)?;
    let qkv = c.binary(BinaryOp::Add, qkv, bias)?;
    let sizes = sizes(c, c.shape(w)[1])?;
    projected(c, qkv, sizes, [5, 8, usize::MAX])
}

/// `MultiHeadAttention`: of queries, keys and values that are projected already.
pub fn multi_head(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let heads = heads(c);
    let mut given = Vec::new();
    let mut from = 0;
    for i in 0..3 {
        let mut x = c.optional(i).ok_or_else(|| {
            Failure::unsupported("packed queries, keys and values", "export the model with separate ones")
        })?;
        // Keys and values may be by heads already, for which there is no bias.
        if c.shape(x).len() == 3 {
            if let Some(bias) = c.optional(3) {
                let (n, all) = (c.shape(x)[2], c.shape(bias));
                if all.len() != 1 || from + n > all[0] {
                    return Err(Failure::malformed(format!("a bias of shape {all:?}")));
                }
                let part = c.sliced(bias, 0, from, n, 1)?;
                x = c.binary(BinaryOp::Add, x, part)?;
                from += n;
            }
            x = split_heads(c, x, heads)?;
        }
        given.push(x);
    }
    let [q, mut k, mut v] = given[..] else { unreachable!("three are read") };
    for (own, past) in [(&mut k, 6), (&mut v, 7)] {
        if let Some(past) = c.optional(past) {
            if c.shape(past).len() != 4 || c.shape(*own).len() != 4 {
                return Err(Failure::malformed(format!("a past of shape {:?}", c.shape(past))));
            }
            *own = c.concatenated(&[past, *own], 2)?;
        }
    }
    if [q, k, v].iter().any(|&t| c.shape(t).len() != 4) || c.has_output(3) {
        return Err(Failure::unsupported(
            "packed keys and values, or scores as an output",
            "export the model without them",
        ));
    }
    c.output(1, k);
    c.output(2, v);
    let keys = c.shape(k)[2];
    let mask = mask(c, 4, keys)?;
    let extra = c.optional(5);
    let y = attend(c, [q, k, v], mask, extra)?;
    c.output(0, y);
    Ok(())
}
