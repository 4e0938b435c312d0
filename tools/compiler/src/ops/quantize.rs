//! Quantised tensors: `QuantizeLinear`, `DequantizeLinear`, and how a tensor learns its quantisation.

use kinglet::DType;
use kinglet_onnx::DataType;

use crate::graph::{BinaryOp, Op, Quant, ReduceOp, Tensor, TensorId, UnaryOp};
use crate::import::{Context, Failure, byte_range, dtype_from_onnx};

/// Reads scale (input `scale`) and zero point (input `zero`, optional) of a tensor; `axis` is the one that several of either
/// run along. One scale for many zero points, and the reverse, stands for as many equal ones.
pub(super) fn quantization(
    c: &mut Context<'_, '_>,
    t: TensorId,
    scale: usize,
    zero: usize,
    axis: usize,
) -> Result<Quant, Failure> {
    let (dtype, shape) = (c.dtype(t), c.shape(t));
    quantization_of(c, (dtype, &shape), scale, zero, axis)
}

/// As [`quantization`], of a tensor of this type and shape.
fn quantization_of(
    c: &mut Context<'_, '_>,
    (own, shape): (DType, &[usize]),
    scale: usize,
    zero: usize,
    axis: usize,
) -> Result<Quant, Failure> {
    let s = c.input(scale)?;
    let scales = c.constant(s, "the scale")?;
    let zeros = match c.optional(zero) {
        Some(z) => c.constant(z, "the zero point")?.ints().into_owned(),
        None => vec![0],
    };
    let dtype = c.optional(zero).map_or(own, |z| c.dtype(z));
    for dtype in [dtype, own] {
        let (lo, hi) = dtype.quantized_range().unwrap_or((i32::MIN, i32::MAX));
        if let Some(bad) = zeros.iter().find(|z| !(i64::from(lo)..=i64::from(hi)).contains(*z)) {
            return Err(Failure::malformed(format!("zero point {bad} of type {}", dtype.name())));
        }
    }
    let mut scales: Vec<f32> = scales.reals().iter().map(|&s| s as f32).collect();
    let mut zero_points: Vec<i32> = zeros.iter().map(|&z| z as i32).collect();
    match (scales.len(), zero_points.len()) {
        (1, n) if n > 0 => scales.resize(n, scales[0]),
        (n, 1) if n > 0 => zero_points.resize(n, zero_points[0]),
        (n, m) if n == m && n > 0 => {}
        (n, m) => return Err(Failure::malformed(format!("{n} scales and {m} zero points"))),
    }
    if let Some(bad) = scales.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
        return Err(Failure::malformed(format!("a scale of {bad}")));
    }
    if scales.len() > 1 && shape.get(axis) != Some(&scales.len()) {
        return Err(Failure::unsupported(
            format!("{} scales for shape {shape:?} along axis {axis}", scales.len()),
            "quantise per tensor or per axis, not in blocks",
        ));
    }
    // A list of equal scales is one scale.
    let quant = Quant { scales, zero_points, axis };
    let uniform = quant.scales.iter().all(|s| *s == quant.scales[0])
        && quant.zero_points.iter().all(|z| *z == quant.zero_points[0]);
    Ok(if uniform { Quant::per_tensor(quant.scales[0], quant.zero_points[0]) } else { quant })
}

/// The axis that several scales run along.
fn axis(c: &Context<'_, '_>, t: TensorId) -> Result<usize, Failure> {
    let rank = c.shape(t).len();
    // For one scale the axis has no meaning, and its default of 1 need not exist.
    if rank < 2 { Ok(0) } else { c.axis(c.int("axis", 1), rank) }
}

/// Whether scale and zero point (inputs `scale` and `zero`) are one number for many elements, or for all along an axis, and known.
fn is_static(c: &mut Context<'_, '_>, scale: usize, zero: usize) -> bool {
    let known = |c: &mut Context<'_, '_>, t: TensorId| c.known(t).is_some();
    c.int("block_size", 0) == 0
        && c.optional(scale).is_none_or(|t| known(c, t))
        && c.optional(zero).is_none_or(|t| known(c, t))
}

/// A scale or zero point in a shape that broadcasts to `shape`: one number, one for each position of an axis, or one for each block of
/// `block` positions.
fn spread(c: &mut Context<'_, '_>, t: TensorId, shape: &[usize], axis: usize) -> Result<TensorId, Failure> {
    let own = c.shape(t);
    let bad =
        || Failure::malformed(format!("scales or zero points of shape {own:?} for shape {shape:?} along axis {axis}"));
    if own.iter().product::<usize>() == 1 {
        return c.reshaped(t, &[]);
    }
    let n = *shape.get(axis).ok_or_else(bad)?;
    if own.len() == 1 && own[0] == n {
        let mut along = vec![1; shape.len()];
        along[axis] = n;
        return c.reshaped(t, &along);
    }
    let block = usize::try_from(c.int("block_size", 0)).unwrap_or(0);
    let alike = own.len() == shape.len() && (0..own.len()).all(|d| d == axis || own[d] == shape[d]);
    if !alike || block == 0 || n.div_ceil(block) != own[axis] {
        return Err(bad());
    }
    let (mut wide, mut repeated, mut joined) = (own.clone(), own.clone(), own.clone());
    wide.insert(axis + 1, 1);
    repeated.insert(axis + 1, block);
    joined[axis] *= block;
    let t = c.reshaped(t, &wide)?;
    let t = c.expanded(t, &repeated)?;
    let t = c.reshaped(t, &joined)?;
    c.sliced(t, axis, 0, n, 1)
}

/// Reals as integers from `lo` to `hi` by a scale and a zero point that are computed, or in blocks: in ordinary operators.
pub(super) fn quantized_by(
    c: &mut Context<'_, '_>,
    x: TensorId,
    [scale, zero]: [Option<TensorId>; 2],
    axis: usize,
    (dtype, (lo, hi)): (DType, (i32, i32)),
) -> Result<TensorId, Failure> {
    let shape = c.shape(x);
    let scale = scale.ok_or_else(|| Failure::malformed("there is no scale"))?;
    let scale = spread(c, scale, &shape, axis)?;
    let y = c.binary(BinaryOp::Div, x, scale)?;
    let mut y = c.unary(UnaryOp::Round, y)?;
    if let Some(zero) = zero {
        let zero = spread(c, zero, &shape, axis)?;
        let zero = c.as_type(zero, DType::F32)?;
        y = c.binary(BinaryOp::Add, y, zero)?;
    }
    let y = c.unary_with(UnaryOp::Clip, [lo as f32, hi as f32], y)?;
    c.as_type(y, dtype)
}

/// The reals that integers stand for by a scale and a zero point that are computed, or in blocks.
pub(super) fn dequantized_by(
    c: &mut Context<'_, '_>,
    x: TensorId,
    [scale, zero]: [Option<TensorId>; 2],
    axis: usize,
) -> Result<TensorId, Failure> {
    let shape = c.shape(x);
    let scale = scale.ok_or_else(|| Failure::malformed("there is no scale"))?;
    let scale = spread(c, scale, &shape, axis)?;
    let mut y = c.as_type(x, DType::F32)?;
    if let Some(zero) = zero {
        let zero = spread(c, zero, &shape, axis)?;
        let zero = c.as_type(zero, DType::F32)?;
        y = c.binary(BinaryOp::Sub, y, zero)?;
    }
    c.binary(BinaryOp::Mul, y, scale)
}

/// The reals that input `t` stands for, of an operator that has scale and zero point as further inputs.
pub(super) fn reals_of(
    c: &mut Context<'_, '_>,
    [t, scale, zero]: [usize; 3],
    axis: usize,
) -> Result<TensorId, Failure> {
    let x = c.input(t)?;
    if is_static(c, scale, zero) {
        let quant = quantization(c, x, scale, zero, axis)?;
        return dequantized(c, x, quant);
    }
    let parts = [c.optional(scale), c.optional(zero)];
    dequantized_by(c, x, parts, axis)
}

/// Reals as integers of the type of input `zero`, or `own` without it, of an operator that has scale and zero point of its result as inputs.
pub(super) fn integers_of(
    c: &mut Context<'_, '_>,
    y: TensorId,
    [scale, zero]: [usize; 2],
    own: DType,
) -> Result<TensorId, Failure> {
    let z = c.optional(zero);
    let (dtype, shape) = (z.map_or(own, |z| c.dtype(z)), c.shape(y));
    let range = dtype.quantized_range();
    let range = range.ok_or_else(|| Failure::malformed(format!("a zero point of type {}", dtype.name())))?;
    if is_static(c, scale, zero) {
        let quant = quantization_of(c, (dtype, &shape), scale, zero, 0)?;
        if quant.single().is_none() {
            let reason = format!("a result with {} scales", quant.scales.len());
            return Err(Failure::unsupported(reason, "quantise to int8 per tensor"));
        }
        return c.emit_optional(Op::Quantize, &[Some(y)], dtype, &shape, Some(quant));
    }
    let parts = [c.optional(scale), z];
    quantized_by(c, y, parts, 0, (dtype, range))
}

/// Integer tensor `t` as the reals that `quant` says its integers stand for. The tensor itself stays what it is: another
/// reader may take its integers as they are.
pub fn set_quant(c: &mut Context<'_, '_>, t: TensorId, quant: Quant) -> Result<TensorId, Failure> {
    let tensor = c.tensor_info(t).clone();
    if tensor.quant.as_ref() == Some(&quant) {
        return Ok(t);
    }
    if tensor.value.is_some() {
        return Ok(c.importer.frame.graph.add_tensor(Tensor { quant: Some(quant), ..tensor }));
    }
    c.emit_optional(Op::Reinterpret, &[Some(t)], tensor.dtype, &tensor.shape, Some(quant))
}

/// The reals that the integers of `t` stand for by `quant`.
pub(super) fn dequantized(c: &mut Context<'_, '_>, t: TensorId, quant: Quant) -> Result<TensorId, Failure> {
    let t = set_quant(c, t, quant)?;
    let shape = c.shape(t);
    c.emit_optional(Op::Dequantize, &[Some(t)], DType::F32, &shape, None)
}

/// `QuantizeLinear` (opset 10 and later).
pub fn quantize(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let axis = axis(c, x)?;
    let precision = c.int("precision", 0);
    if precision != 0 && dtype_from_onnx(precision as i32) != Some(DType::F32) {
        return Err(Failure::unsupported(format!("division in element type {precision}"), "quantise in f32"));
    }
    let code = match (c.optional(2), c.int("output_dtype", 0) as i32) {
        (Some(_), _) => c.element_type(2),
        (None, 0) => DataType::Uint8 as i32,
        (None, code) => code,
    };
    let name = || DataType::try_from(code).map_or("unknown".into(), |t| format!("{t:?}"));
    let dtype = dtype_from_onnx(code).filter(|d| d.quantized_range().is_some());
    let dtype = dtype.ok_or_else(|| Failure::unsupported(format!("quantisation to {}", name()), "quantise to int8"))?;
    let range = byte_range(code).or(dtype.quantized_range()).expect("there is one, as asked above");
    let y = if is_static(c, 1, 2) && Some(range) == dtype.quantized_range() {
        let quant = quantization(c, x, 1, 2, axis)?;
        let shape = c.shape(x);
        c.emit_optional(Op::Quantize, &[Some(x)], dtype, &shape, Some(quant))?
    } else {
        let parts = [c.optional(1), c.optional(2)];
        quantized_by(c, x, parts, axis, (dtype, range))?
    };
    c.output(0, y);
    c.set_element_type(0, code);
    Ok(())
}

/// `DequantizeLinear` (opset 10 and later).
pub fn dequantize(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    if c.dtype(x).quantized_range().is_none() && c.dtype(x) != DType::I32 {
        return Err(Failure::unsupported(format!("dequantisation of {}", c.dtype(x).name()), "quantise to int8"));
    }
    let to = c.int("output_dtype", 0) as i32;
    if to != 0 && dtype_from_onnx(to) != Some(DType::F32) {
        return Err(Failure::unsupported(format!("dequantisation to element type {to}"), "dequantise to f32"));
    }
    let axis = axis(c, x)?;
    let y = reals_of(c, [0, 1, 2], axis)?;
    c.output(0, y);
    if to != 0 {
        c.set_element_type(0, to);
    }
    Ok(())
}

/// `DynamicQuantizeLinear` (opset 11).
pub fn dynamic_quantize(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    for (i, t) in dynamic(c, x)?.into_iter().enumerate() {
        c.output(i, t);
    }
    Ok(())
}

/// `x` in bytes by the scale and zero point that its smallest and its largest element ask for, and these.
pub(super) fn dynamic(c: &mut Context<'_, '_>, x: TensorId) -> Result<[TensorId; 3], Failure> {
    let all: Vec<usize> = (0..c.shape(x).len()).collect();
    let mut ends = Vec::new();
    for (op, bound) in [(ReduceOp::Min, BinaryOp::Min), (ReduceOp::Max, BinaryOp::Max)] {
        let end = c.reduced(op, x, &all, false)?;
        ends.push(c.binary_with(bound, end, 0.0)?);
    }
    let span = c.binary(BinaryOp::Sub, ends[1], ends[0])?;
    let scale = c.binary_with(BinaryOp::Div, span, 255.0)?;
    // As ONNX Runtime has it where all is 0.
    let (flat, one) = (c.binary_with(BinaryOp::Equal, span, 0.0)?, c.scalar_like(span, 1.0));
    let scale = c.select(flat, one, scale)?;
    let low = c.binary(BinaryOp::Div, ends[0], scale)?;
    let zero = c.unary(UnaryOp::Neg, low)?;
    let zero = c.unary(UnaryOp::Round, zero)?;
    let zero = c.unary_with(UnaryOp::Clip, [0.0, 255.0], zero)?;
    let zero = c.as_type(zero, DType::U8)?;
    let y = quantized_by(c, x, [Some(scale), Some(zero)], 0, (DType::U8, (0, 255)))?;
    Ok([y, scale, zero])
}
