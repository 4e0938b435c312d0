//! Matrix products.

use kinglet::DType;

use super::quantize::{dequantized, integers_of, reals_of};
use crate::array::{Array, broadcast};
use crate::graph::{BinaryOp, Op, Post, Quant, TensorId};
use crate::import::{Context, Failure};

fn product(transpose_a: bool, transpose_b: bool) -> Op {
    Op::MatMul { transpose_a, transpose_b, post: Post::default() }
}

/// Emits a matrix product of tensors of any rank from 1 on (1-D ones as NumPy has it).
pub(super) fn emit_matmul(
    c: &mut Context<'_, '_>,
    a: TensorId,
    b: TensorId,
    dtype: DType,
) -> Result<TensorId, Failure> {
    let (mut sa, mut sb) = (c.shape(a), c.shape(b));
    if sa.is_empty() || sb.is_empty() {
        return Err(Failure::malformed("an operand is a scalar"));
    }
    let (row, column) = (sa.len() == 1, sb.len() == 1);
    if row {
        sa.insert(0, 1);
    }
    if column {
        sb.push(1);
    }
    let (ra, rb) = (sa.len(), sb.len());
    let batch = broadcast(&sa[..ra - 2], &sb[..rb - 2]);
    let (Some(batch), true) = (batch, sa[ra - 1] == sb[rb - 2]) else {
        return Err(Failure::malformed(format!("shapes {sa:?} and {sb:?} do not multiply")));
    };
    let a = if row { c.reshaped(a, &sa)? } else { a };
    let b = if column { c.reshaped(b, &sb)? } else { b };
    let shape = [&batch[..], &[sa[ra - 2], sb[rb - 1]]].concat();
    let y = c.emit(product(false, false), &[a, b], dtype, &shape)?;
    if !row && !column {
        return Ok(y);
    }
    let mut flat = batch;
    if !row {
        flat.push(sa[ra - 2]);
    }
    if !column {
        flat.push(sb[rb - 1]);
    }
    c.reshaped(y, &flat)
}

/// `MatMul` (opset 1 and later).
pub fn matmul(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (a, b) = (c.input(0)?, c.input(1)?);
    let y = emit_matmul(c, a, b, c.dtype(a))?;
    c.output(0, y);
    Ok(())
}

/// `QLinearMatMul` (opset 10): a product of quantised tensors; imported as `QLinearConv` is.
pub fn qlinear(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (a, b) = (c.input(0)?, c.input(3)?);
    let rank = |c: &Context<'_, '_>, t| c.shape(t).len();
    let (last_a, last_b) = (rank(c, a).saturating_sub(2), rank(c, b).saturating_sub(1));
    if [a, b].iter().any(|&t| c.dtype(t).quantized_range().is_none()) {
        return Err(Failure::malformed("an operand is not quantised"));
    }
    let (a, b) = (reals_of(c, [0, 1, 2], last_a)?, reals_of(c, [3, 4, 5], last_b)?);
    let sum = emit_matmul(c, a, b, DType::F32)?;
    let y = integers_of(c, sum, [6, 7], DType::U8)?;
    c.output(0, y);
    Ok(())
}

/// Terms of a sum of products of bytes that is below 2²⁴ whatever they are, so that an f32 holds it.
pub(super) const EXACT: usize = (1 << 24) / (255 * 255);

/// `MatMulInteger` (opset 10): a product of integers without scales. It is one of reals, in parts so short that every sum is exact.
pub fn integer(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (a, b) = (c.input(0)?, c.input(1)?);
    let (rank_a, rank_b) = (c.shape(a).len(), c.shape(b).len());
    if rank_a == 0 || rank_b == 0 || [a, b].iter().any(|&t| c.dtype(t).quantized_range().is_none()) {
        return Err(Failure::malformed("an operand is a scalar, or no integers of 8 bits"));
    }
    let last_b = rank_b.saturating_sub(2);
    let (a, b) = (centred(c, a, 2, rank_a.saturating_sub(2))?, centred(c, b, 3, rank_b - 1)?);
    let k = c.shape(a)[rank_a - 1];
    if c.shape(b)[last_b] != k {
        return Err(Failure::malformed(format!("shapes {:?} and {:?} do not multiply", c.shape(a), c.shape(b))));
    }
    let sum = in_parts(c, k, EXACT, |c, from, n| {
        let (a, b) = (c.sliced(a, rank_a - 1, from, n, 1)?, c.sliced(b, last_b, from, n, 1)?);
        emit_matmul(c, a, b, DType::F32)
    })?;
    c.output(0, sum);
    Ok(())
}

/// The sum in i32 of what `part` gives of every run of at most `most` terms, by their first one and their number.
pub(super) fn in_parts(
    c: &mut Context<'_, '_>,
    terms: usize,
    most: usize,
    mut part: impl FnMut(&mut Context<'_, '_>, usize, usize) -> Result<TensorId, Failure>,
) -> Result<TensorId, Failure> {
    c.reserve_nodes(terms.div_ceil(most).saturating_mul(5))?;
    let mut sum = None;
    for from in (0..terms).step_by(most) {
        let y = part(c, from, most.min(terms - from))?;
        let y = c.as_type(y, DType::I32)?;
        sum = Some(match sum {
            Some(sum) => c.binary(BinaryOp::Add, sum, y)?,
            None => y,
        });
    }
    sum.ok_or_else(|| Failure::malformed("a product of nothing"))
}

/// Integers less their zero point, input `zero`, as reals: of one zero point, or one for each position of an axis.
pub(super) fn centred(c: &mut Context<'_, '_>, t: TensorId, zero: usize, axis: usize) -> Result<TensorId, Failure> {
    let Some(z) = c.optional(zero) else { return dequantized(c, t, Quant::per_tensor(1.0, 0)) };
    let known = c.known(z).filter(|v| v.len() == 1);
    if let Some(v) = known {
        return dequantized(c, t, Quant::per_tensor(1.0, v.ints()[0] as i32));
    }
    let z = match &c.shape(z)[..] {
        [n] if *n > 1 => {
            let mut along = vec![1; c.shape(t).len()];
            along[axis] = *n;
            c.reshaped(z, &along)?
        }
        _ => z,
    };
    let x = c.as_type(t, DType::F32)?;
    let z = c.as_type(z, DType::F32)?;
    c.binary(BinaryOp::Sub, x, z)
}

/// `Gemm` (opset 1 and later).
pub fn gemm(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let y = general(c)?;
    c.output(0, y);
    Ok(())
}

/// `alpha · A·B + beta · C` of the first three inputs.
pub(super) fn general(c: &mut Context<'_, '_>) -> Result<TensorId, Failure> {
    let (a, b, bias) = (c.input(0)?, c.input(1)?, c.optional(2));
    // Weights, as exporters write linear layers: a matrix packed for the product instead of one that is copied for every run.
    [Some(b), bias].into_iter().for_each(|t| c.prefer_constant(t));
    let (ta, tb) = (c.flag("transA", false), c.flag("transB", false));
    let (alpha, beta) = (c.float("alpha", 1.0), c.float("beta", 1.0));
    let (sa, sb) = (c.shape(a), c.shape(b));
    let (&[a0, a1], &[b0, b1]) = (&sa[..], &sb[..]) else {
        return Err(Failure::malformed(format!("shapes {sa:?} and {sb:?} are not matrices")));
    };
    let (m, k) = if ta { (a1, a0) } else { (a0, a1) };
    let (k2, n) = if tb { (b1, b0) } else { (b0, b1) };
    if k != k2 {
        return Err(Failure::malformed(format!("shapes {sa:?} and {sb:?} do not multiply")));
    }
    let shape = [m, n];
    let old = c.op_type() == "Gemm" && c.opset < 7;
    if let Some(s) = bias.map(|t| c.shape(t)).filter(|s| old && !c.flag("broadcast", false) && *s != shape) {
        let reason =
            format!("C of shape {s:?} for a result of {shape:?} broadcasts only with the attribute `broadcast`");
        return Err(Failure::malformed(reason));
    }
    let dtype = c.dtype(a);
    let scaled = |c: &mut Context<'_, '_>, t: TensorId, by: f32| -> Result<TensorId, Failure> {
        if by == 1.0 {
            return Ok(t);
        }
        let (shape, factor) = (c.shape(t), c.add_constant(Array::scalar(by.into())));
        c.emit(Op::Binary(BinaryOp::Mul), &[t, factor], DType::F32, &shape)
    };
    // A constant bias that runs along the columns is part of the product; any other is added after it.
    let along_columns = bias.is_some_and(|t| {
        let s = c.shape(t);
        s.last() == Some(&n) && s.iter().product::<usize>() == n && c.is_constant(t)
    });
    let inner = match bias {
        Some(t) if alpha == 1.0 && beta == 1.0 && along_columns => Some(c.reshaped(t, &[n])?),
        _ => None,
    };
    let y = c.emit_optional(product(ta, tb), &[Some(a), Some(b), inner], dtype, &shape, None)?;
    let y = scaled(c, y, alpha)?;
    let y = match bias {
        Some(t) if inner.is_none() => {
            if broadcast(&c.shape(t), &shape).as_deref() != Some(&shape) {
                return Err(Failure::malformed(format!("C of shape {:?} for a result of {shape:?}", c.shape(t))));
            }
            let t = scaled(c, t, beta)?;
            c.emit(Op::Binary(BinaryOp::Add), &[y, t], dtype, &shape)?
        }
        _ => y,
    };
    Ok(y)
}
