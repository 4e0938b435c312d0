//! Operators of quantised tensors. Each is imported as what it means, *dequantise, compute, quantise*; whether that runs in integers is
//! decided where it is lowered.

use kinglet::DType;

use crate::array::Array;
use crate::graph::{BinaryOp, Layout, PoolKind, ReduceOp, TensorId, UnaryOp};
use crate::import::{Context, Failure};
use crate::ops::conv::{output_extents, window};
use crate::ops::matmul::emit_matmul;
use crate::ops::quantize::{dequantized_by, dynamic, integers_of, reals_of};

/// The reals of inputs 0 to 2, of operators of one tensor.
fn input(c: &mut Context<'_, '_>) -> Result<TensorId, Failure> {
    reals_of(c, [0, 1, 2], 0)
}

/// Gives the result of an operator of one tensor, quantised by inputs 3 and 4.
fn output(c: &mut Context<'_, '_>, y: TensorId) -> Result<(), Failure> {
    let own = c.dtype(c.input(0)?);
    let y = integers_of(c, y, [3, 4], own)?;
    c.output(0, y);
    Ok(())
}

/// `QLinearAdd`, `QLinearMul`.
pub fn binary(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let op = if c.op_type() == "QLinearMul" { BinaryOp::Mul } else { BinaryOp::Add };
    let (a, b) = (reals_of(c, [0, 1, 2], 0)?, reals_of(c, [3, 4, 5], 0)?);
    let y = c.binary(op, a, b)?;
    let own = c.dtype(c.input(0)?);
    let y = integers_of(c, y, [6, 7], own)?;
    c.output(0, y);
    Ok(())
}

/// `QLinearSigmoid`, `QLinearLeakyRelu`.
pub fn unary(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = input(c)?;
    let y = match c.op_type() {
        "QLinearSigmoid" => c.unary(UnaryOp::Sigmoid, x)?,
        _ => c.unary_with(UnaryOp::LeakyRelu, [c.float("alpha", 0.01), 0.0], x)?,
    };
    output(c, y)
}

/// `QLinearWhere`.
pub fn select(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let condition = c.input(0)?;
    let (x, y) = (reals_of(c, [1, 2, 3], 0)?, reals_of(c, [4, 5, 6], 0)?);
    let z = c.select(condition, x, y)?;
    let own = c.dtype(c.input(1)?);
    let z = integers_of(c, z, [7, 8], own)?;
    c.output(0, z);
    Ok(())
}

/// `x` with its channels second, if they are last.
fn channels_first(c: &mut Context<'_, '_>, x: TensorId) -> Result<TensorId, Failure> {
    let rank = c.shape(x).len();
    if rank < 3 {
        return Err(Failure::malformed(format!("input of rank {rank}")));
    }
    if c.flag("channels_last", false) { c.moved(x, rank - 1, 1) } else { Ok(x) }
}

/// The same the other way round.
fn channels_back(c: &mut Context<'_, '_>, y: TensorId) -> Result<TensorId, Failure> {
    let rank = c.shape(y).len();
    if c.flag("channels_last", false) { c.moved(y, 1, rank - 1) } else { Ok(y) }
}

/// `QLinearAveragePool`.
pub fn average_pool(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = input(c)?;
    let x = channels_first(c, x)?;
    let shape = c.shape(x);
    let kernel = c.counts("kernel_shape", shape.len() - 2, 1)?;
    let window = window(c, kernel, &shape[2..])?;
    let spatial = output_extents(&window, &shape[2..], c.flag("ceil_mode", false))?;
    let kind = if c.flag("count_include_pad", false) { PoolKind::AverageWithPadding } else { PoolKind::Average };
    let out = Layout::ChannelsFirst.shape(shape[0], shape[1], &spatial);
    let y = crate::ops::unfold::pooled(c, x, kind, &window, &out)?;
    let y = channels_back(c, y)?;
    output(c, y)
}

/// `QLinearGlobalAveragePool`.
pub fn global_average_pool(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = input(c)?;
    let x = channels_first(c, x)?;
    let axes: Vec<usize> = (2..c.shape(x).len()).collect();
    let y = c.reduced(ReduceOp::Mean, x, &axes, true)?;
    let y = channels_back(c, y)?;
    output(c, y)
}

/// `QLinearReduceMean`.
pub fn reduce_mean(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = input(c)?;
    let rank = c.shape(x).len();
    let axes = c.ints("axes").unwrap_or_default();
    let axes = if axes.is_empty() { (0..rank).collect() } else { c.axes(&axes, rank)? };
    let y = c.reduced(ReduceOp::Mean, x, &axes, c.flag("keepdims", true))?;
    output(c, y)
}

/// `QLinearSoftmax`: the attribute `opset` says whether all axes from `axis` on are one.
pub fn softmax(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = input(c)?;
    let shape = c.shape(x);
    let axis = c.axis(c.int("axis", -1), shape.len())?;
    let y = if c.int("opset", 13) < 13 {
        let flat = c.reshaped(x, &[shape[..axis].iter().product(), shape[axis..].iter().product()])?;
        let y = c.softmax(flat, 1, false)?;
        c.reshaped(y, &shape)?
    } else {
        c.softmax(x, axis, false)?
    };
    output(c, y)
}

/// `QLinearConcat`: scale and zero point of the result, then tensors, each with its own.
pub fn concat(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let mut parts = Vec::new();
    for i in (2..c.input_count()).step_by(3) {
        parts.push(reals_of(c, [i, i + 1, i + 2], 0)?);
    }
    let first = *parts.first().ok_or_else(|| Failure::malformed("no inputs"))?;
    let axis = c.axis(c.int("axis", 0), c.shape(first).len())?;
    let y = c.concatenated(&parts, axis)?;
    let own = c.dtype(c.input(2)?);
    let y = integers_of(c, y, [0, 1], own)?;
    c.output(0, y);
    Ok(())
}

/// `QGemm`: a product of quantised matrices times α and a bias of integers; a real result where no scale of it is given.
pub fn gemm(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (ta, tb) = (c.flag("transA", false), c.flag("transB", false));
    let (a, b) = (reals_of(c, [0, 1, 2], 0)?, reals_of(c, [3, 4, 5], usize::from(!tb))?);
    let mut y = c.product(a, b, [ta, tb])?;
    let alpha = c.float("alpha", 1.0);
    if alpha != 1.0 {
        y = c.binary_with(BinaryOp::Mul, y, alpha.into())?;
    }
    if let Some(bias) = c.optional(6) {
        let (sa, sb) = (c.input(1)?, c.input(4)?);
        let scale = c.binary(BinaryOp::Mul, sb, sa)?;
        let scale = c.binary_with(BinaryOp::Mul, scale, alpha.into())?;
        let bias = c.as_type(bias, DType::F32)?;
        let bias = c.binary(BinaryOp::Mul, bias, scale)?;
        y = c.binary(BinaryOp::Add, y, bias)?;
    }
    if c.optional(7).is_some() {
        let own = c.dtype(c.input(0)?);
        y = integers_of(c, y, [7, 8], own)?;
    }
    c.output(0, y);
    Ok(())
}

/// Adds input `i` to a product, if it is given.
fn with_bias(c: &mut Context<'_, '_>, y: TensorId, i: usize) -> Result<TensorId, Failure> {
    match c.optional(i) {
        Some(bias) => c.binary(BinaryOp::Add, y, bias),
        None => Ok(y),
    }
}

/// `MatMulIntegerToFloat`: a product of quantised tensors, as reals.
pub fn matmul_to_float(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let columns = c.shape(c.input(1)?).len().saturating_sub(1);
    let (a, b) = (reals_of(c, [0, 2, 4], 0)?, reals_of(c, [1, 3, 5], columns)?);
    let y = emit_matmul(c, a, b, DType::F32)?;
    let y = with_bias(c, y, 6)?;
    c.output(0, y);
    Ok(())
}

/// `DynamicQuantizeMatMul`: the left side is quantised by its own extremes.
pub fn dynamic_matmul(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let a = c.input(0)?;
    let [a, scale, zero] = dynamic(c, a)?;
    let a = dequantized_by(c, a, [Some(scale), Some(zero)], 0)?;
    let columns = c.shape(c.input(1)?).len().saturating_sub(1);
    let b = reals_of(c, [1, 2, 3], columns)?;
    let y = emit_matmul(c, a, b, DType::F32)?;
    let y = with_bias(c, y, 4)?;
    c.output(0, y);
    Ok(())
}

/// `MatMulNBits`: weights `[N, blocks, bytes of a block]` of few bits, the first one lowest, each block with its scale and zero point.
pub fn matmul_n_bits(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let a = c.input(0)?;
    if c.optional(4).is_some() {
        return Err(Failure::unsupported("an order of its groups (g_idx)", "quantise the weights without reordering"));
    }
    let number = |c: &Context<'_, '_>, name: &str, default: i64| usize::try_from(c.int(name, default)).unwrap_or(0);
    let (k, n, bits, block) = (number(c, "K", 0), number(c, "N", 0), number(c, "bits", 4), number(c, "block_size", 0));
    if !matches!(bits, 2 | 4 | 8)
        || !(1..=1 << 24).contains(&block)
        || block % (8 / bits) != 0
        || k == 0
        || n == 0
        || k > 1 << 24
        || n > 1 << 24
    {
        return Err(Failure::malformed(format!("K = {k}, N = {n}, {bits} bits, blocks of {block}")));
    }
    c.reserve(n.saturating_mul(k), DType::F32)?;
    let (blocks, each) = (k.div_ceil(block), block / (8 / bits));
    let constant = |c: &mut Context<'_, '_>, i: usize, what: &str| {
        let t = c.input(i)?;
        c.constant(t, what)
    };
    let (packed, scales) = (constant(c, 1, "its weights")?, constant(c, 2, "the scales")?);
    if Some(packed.len()) != (n * blocks).checked_mul(each) || scales.len() != n * blocks {
        return Err(Failure::malformed(format!("{} bytes of weights and {} scales", packed.len(), scales.len())));
    }
    let element = |bytes: &[i64], i: usize| (bytes[i * bits / 8] >> (i * bits % 8)) & ((1 << bits) - 1);
    // Zero points are packed like the weights, each row in whole bytes, or reals.
    let row = (blocks * bits).div_ceil(8);
    let zeros: Vec<f64> = match c.optional(3) {
        None => vec![f64::from(1 << (bits - 1)); n * blocks],
        Some(t) => {
            let zeros = c.constant(t, "the zero points")?;
            if zeros.dtype == DType::F32 && zeros.len() == n * blocks {
                zeros.reals().into_owned()
            } else if zeros.dtype == DType::U8 && zeros.len() == n * row {
                let bytes = zeros.ints();
                (0..n * blocks).map(|i| element(&bytes[i / blocks * row..], i % blocks) as f64).collect()
            } else {
                return Err(Failure::malformed(format!("{} zero points", zeros.len())));
            }
        }
    };
    let (packed, scales) = (packed.ints(), scales.reals());
    let weight = |row: usize, k: usize| {
        let at = row * blocks + k / block;
        (element(&packed[at * each..], k % block) as f64 - zeros[at]) * scales[at]
    };
    let weights = (0..k * n).map(|i| weight(i % n, i / n)).collect();
    let w = c.add_constant(Array::f32(&[k, n], weights));
    let y = emit_matmul(c, a, w, DType::F32)?;
    let y = with_bias(c, y, 5)?;
    c.output(0, y);
    Ok(())
}
