//! Quantised tensors: `QuantizeLinear`, `DequantizeLinear`, and how a tensor learns its quantisation.

use kinglet::DType;

use crate::graph::{Op, Quant, Tensor, TensorId};
use crate::import::{Context, Failure, dtype_from_onnx};

/// Reads scale (input `scale`) and zero point (input `zero`, optional) of a tensor; `axis` is the one that several of either
/// run along. One scale for many zero points, and the reverse, stands for as many equal ones.
pub(super) fn quantization(
    c: &mut Context<'_, '_>,
    t: TensorId,
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
    let dtype = c.optional(zero).map_or(c.dtype(t), |z| c.dtype(z));
    for dtype in [dtype, c.dtype(t)] {
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
    let shape = c.shape(t);
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

/// Fails unless quantised tensor `t` has an integer type and a single scale.
pub(super) fn one_scale(c: &Context<'_, '_>, t: TensorId, quant: &Quant) -> Result<(), Failure> {
    if quant.single().is_none() || c.dtype(t).quantized_range().is_none() {
        let reason = format!("a tensor of type {} with {} scales", c.dtype(t).name(), quant.scales.len());
        return Err(Failure::unsupported(reason, "quantise to int8 per tensor"));
    }
    Ok(())
}

fn axis(c: &Context<'_, '_>, t: TensorId) -> Result<usize, Failure> {
    let rank = c.shape(t).len();
    if c.int("block_size", 0) != 0 {
        return Err(Failure::unsupported("blocked quantisation", "quantise per tensor or per axis"));
    }
    // For one scale the axis has no meaning, and its default of 1 need not exist.
    if rank < 2 { Ok(0) } else { c.axis(c.int("axis", 1), rank) }
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
    if precision != 0 && precision != i64::from(kinglet_onnx::DataType::Float as i32) {
        return Err(Failure::unsupported(format!("division in element type {precision}"), "quantise in f32"));
    }
    let dtype = match (c.optional(2), c.int("output_dtype", 0)) {
        (Some(z), _) => c.dtype(z),
        (None, 0) => DType::U8,
        (None, code) => dtype_from_onnx(code as i32)
            .ok_or_else(|| Failure::unsupported(format!("quantisation to element type {code}"), "quantise to int8"))?,
    };
    if dtype.quantized_range().is_none() {
        return Err(Failure::unsupported(format!("quantisation to {}", dtype.name()), "quantise to int8"));
    }
    let quant = quantization(c, x, 1, 2, axis)?;
    let shape = c.shape(x);
    let y = c.emit_optional(Op::Quantize, &[Some(x)], dtype, &shape, Some(quant))?;
    c.output(0, y);
    Ok(())
}

/// `DequantizeLinear` (opset 10 and later).
pub fn dequantize(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    if c.dtype(x).quantized_range().is_none() && c.dtype(x) != DType::I32 {
        return Err(Failure::unsupported(format!("dequantisation of {}", c.dtype(x).name()), "quantise to int8"));
    }
    let to = c.int("output_dtype", 0);
    if to != 0 && to != i64::from(kinglet_onnx::DataType::Float as i32) {
        return Err(Failure::unsupported(format!("dequantisation to element type {to}"), "dequantise to f32"));
    }
    let axis = axis(c, x)?;
    let quant = quantization(c, x, 1, 2, axis)?;
    let y = dequantized(c, x, quant)?;
    c.output(0, y);
    Ok(())
}
