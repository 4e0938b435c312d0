//! Matrix products.

use kinglet::DType;

use super::quantize::{dequantized, one_scale, quantization};
use crate::array::{Array, broadcast};
use crate::graph::{BinaryOp, Op, Post, TensorId};
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
    let (a, b, y_zero) = (c.input(0)?, c.input(3)?, c.input(7)?);
    let rank = |c: &Context<'_, '_>, t| c.shape(t).len();
    let (last_a, last_b) = (rank(c, a).saturating_sub(2), rank(c, b).saturating_sub(1));
    let qa = quantization(c, a, 1, 2, last_a)?;
    let qb = quantization(c, b, 4, 5, last_b)?;
    let qy = quantization(c, y_zero, 6, 7, 0)?;
    one_scale(c, a, &qa)?;
    one_scale(c, y_zero, &qy)?;
    if c.dtype(b).quantized_range().is_none() {
        return Err(Failure::malformed("operand b is not quantised"));
    }
    let (a, b) = (dequantized(c, a, qa)?, dequantized(c, b, qb)?);
    let sum = emit_matmul(c, a, b, DType::F32)?;
    let (dtype, shape) = (c.dtype(y_zero), c.shape(sum));
    let y = c.emit_optional(Op::Quantize, &[Some(sum)], dtype, &shape, Some(qy))?;
    c.output(0, y);
    Ok(())
}

/// `Gemm` (opset 1 and later): `alpha · A·B + beta · C`.
pub fn gemm(c: &mut Context<'_, '_>) -> Result<(), Failure> {
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
    if let Some(s) = bias.map(|t| c.shape(t)).filter(|s| c.opset < 7 && !c.flag("broadcast", false) && *s != shape) {
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
    c.output(0, y);
    Ok(())
}
