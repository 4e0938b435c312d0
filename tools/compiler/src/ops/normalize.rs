//! Normalisations and softmax.

use kinglet::DType;

use crate::array::Array;
use crate::graph::{BinaryOp, Layout, NormKind, Op, PoolKind, ReduceOp, TensorId, UnaryOp, Window};
use crate::import::{Context, Failure};

/// `Softmax`, `LogSoftmax`. Before opset 13 all axes from `axis` on were one.
pub fn softmax(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let log = c.op_type() == "LogSoftmax";
    let joined = c.opset < 13;
    if shape.is_empty() {
        return Err(Failure::malformed("input is a scalar"));
    }
    let axis = c.axis(c.int("axis", if joined { 1 } else { -1 }), shape.len())?;
    let y = if joined && axis + 1 < shape.len() {
        let flat = [shape[..axis].iter().product(), shape[axis..].iter().product()];
        let t = c.reshaped(x, &flat)?;
        let t = c.emit(Op::Softmax { axis: 1, log }, &[t], DType::F32, &flat)?;
        c.reshaped(t, &shape)?
    } else {
        c.emit(Op::Softmax { axis, log }, &[x], DType::F32, &shape)?
    };
    c.output(0, y);
    Ok(())
}

/// The attribute that is added to the variance.
pub(super) fn epsilon(c: &Context<'_, '_>, default: f32) -> Result<f32, Failure> {
    let e = c.float("epsilon", default);
    if e >= 0.0 { Ok(e) } else { Err(Failure::malformed(format!("epsilon = {e}"))) }
}

/// `1/√(mean of squares + ε)` over `axes`, which stay with extent 1.
pub(super) fn inverse_rms(
    c: &mut Context<'_, '_>,
    x: TensorId,
    axes: &[usize],
    epsilon: f32,
) -> Result<TensorId, Failure> {
    let square = c.binary(BinaryOp::Mul, x, x)?;
    let mean = c.reduced(ReduceOp::Mean, square, axes, true)?;
    let raised = c.unary_with(UnaryOp::Affine, [1.0, epsilon], mean)?;
    let root = c.unary(UnaryOp::Sqrt, raised)?;
    c.unary(UnaryOp::Reciprocal, root)
}

/// Input `i` with an element for each of `shape`, in that shape.
fn parameter(c: &mut Context<'_, '_>, i: usize, what: &str, shape: &[usize]) -> Result<TensorId, Failure> {
    let t = c.input(i)?;
    let (n, channels) = (c.shape(t).iter().product::<usize>(), shape.iter().product::<usize>());
    if n != channels {
        return Err(Failure::malformed(format!("{what} of {n} elements for {channels} channels")));
    }
    match c.known(t) {
        Some(value) => Ok(c.add_constant(Array::f32(shape, value.reals().into_owned()))),
        None => c.reshaped(t, shape),
    }
}

/// The values of constants; `None` if one of them is computed.
fn values<const N: usize>(c: &mut Context<'_, '_>, tensors: [TensorId; N]) -> Option<[Vec<f64>; N]> {
    let known = tensors.map(|t| c.known(t).map(|v| v.reals().into_owned()));
    known.iter().all(Option::is_some).then(|| known.map(Option::unwrap_or_default))
}

/// `x` normalised over `axes`, times a scale and plus a bias that broadcast to it.
pub(super) fn normalized(
    c: &mut Context<'_, '_>,
    kind: NormKind,
    x: TensorId,
    axes: Vec<usize>,
    [scale, bias]: [Option<TensorId>; 2],
    epsilon: f32,
) -> Result<TensorId, Failure> {
    let shape = c.shape(x);
    for (t, what) in [(scale, "scale"), (bias, "bias")] {
        let own = t.map(|t| c.shape(t));
        if own.as_ref().is_some_and(|s| crate::array::broadcast(s, &shape).as_deref() != Some(&shape)) {
            let own = own.unwrap_or_default();
            return Err(Failure::malformed(format!("a {what} of shape {own:?} for an input of shape {shape:?}")));
        }
    }
    // The kernel has them constant.
    let constant = |t: Option<TensorId>, c: &mut Context<'_, '_>| -> Option<Option<TensorId>> {
        let Some(t) = t else { return Some(None) };
        let value = c.known(t)?;
        Some(Some(c.add_constant(Array::f32(&value.shape.clone(), value.reals().into_owned()))))
    };
    let op = Op::Norm { kind, axes, epsilon };
    if let (Some(scale), Some(bias)) = (constant(scale, c), constant(bias, c)) {
        return c.emit_optional(op, &[Some(x), scale, bias], DType::F32, &shape, None);
    }
    let mut y = c.emit_optional(op, &[Some(x), None, None], DType::F32, &shape, None)?;
    for (op, t) in [(BinaryOp::Mul, scale), (BinaryOp::Add, bias)] {
        if let Some(t) = t {
            y = c.binary(op, y, t)?;
        }
    }
    Ok(y)
}

/// `x − mean` and `1/√(variance + ε)` of it over `axes`, which stay with extent 1; and the mean.
pub(super) fn moments(
    c: &mut Context<'_, '_>,
    x: TensorId,
    axes: &[usize],
    epsilon: f32,
) -> Result<[TensorId; 3], Failure> {
    let mean = c.reduced(ReduceOp::Mean, x, axes, true)?;
    let centred = c.binary(BinaryOp::Sub, x, mean)?;
    Ok([centred, inverse_rms(c, centred, axes, epsilon)?, mean])
}

/// `BatchNormalization` in inference: a scale and shift of each channel, or of each element of a picture (`spatial` 0, before
/// operator set 9).
pub fn batch(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    if shape.len() < 2 {
        return Err(Failure::malformed(format!("input of rank {}", shape.len())));
    }
    // Before operator set 7 training was the rule, and inference had to be asked for.
    let trains = if c.opset < 7 { !c.flag("is_test", false) } else { c.flag("training_mode", false) };
    if trains || c.has_output(1) {
        return Err(Failure::unsupported("it is in training mode", "export the model after model.eval()"));
    }
    let mut along = shape[1..].to_vec();
    if c.flag("spatial", true) {
        along[1..].fill(1);
    }
    let given = [(1, "the scale"), (2, "the bias"), (3, "the mean"), (4, "the variance")];
    let mut parameters = Vec::new();
    for (i, what) in given {
        parameters.push(parameter(c, i, what, &along)?);
    }
    let &[scale, bias, mean, variance] = &parameters[..] else { unreachable!("four are given") };
    let epsilon = epsilon(c, 1e-5)?;
    let y = match values(c, [scale, bias, mean, variance]) {
        Some([scale, bias, mean, variance]) => {
            let each = |(s, v): (&f64, &f64)| s / (v + f64::from(epsilon)).sqrt();
            let factor: Vec<f64> = scale.iter().zip(&variance).map(each).collect();
            let shift = (0..factor.len()).map(|i| bias[i] - mean[i] * factor[i]).collect();
            let factor = c.add_constant(Array::f32(&along, factor));
            let shift = c.add_constant(Array::f32(&along, shift));
            c.emit(Op::ScaleShift, &[x, factor, shift], DType::F32, &shape)?
        }
        None => {
            let centred = c.binary(BinaryOp::Sub, x, mean)?;
            let raised = c.unary_with(UnaryOp::Affine, [1.0, epsilon], variance)?;
            let deviation = c.unary(UnaryOp::Sqrt, raised)?;
            let factor = c.binary(BinaryOp::Div, scale, deviation)?;
            let scaled = c.binary(BinaryOp::Mul, centred, factor)?;
            c.binary(BinaryOp::Add, scaled, bias)?
        }
    };
    c.output(0, y);
    Ok(())
}

/// `InstanceNormalization`: over the spatial axes of each channel.
pub fn instance(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    if shape.len() < 3 {
        return Err(Failure::malformed(format!("input of rank {}", shape.len())));
    }
    let mut along = vec![1; shape.len() - 1];
    along[0] = shape[1];
    let (scale, bias) = (parameter(c, 1, "the scale", &along)?, parameter(c, 2, "the bias", &along)?);
    let epsilon = epsilon(c, 1e-5)?;
    let y = normalized(c, NormKind::Layer, x, (2..shape.len()).collect(), [Some(scale), Some(bias)], epsilon)?;
    c.output(0, y);
    Ok(())
}

/// `GroupNormalization` (opset 18): over each group of channels; scale and bias are of each channel, before operator set 21 of each group.
pub fn group(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let groups = usize::try_from(c.int("num_groups", 0)).unwrap_or(0);
    if shape.len() < 2 || groups == 0 || !shape[1].is_multiple_of(groups) {
        return Err(Failure::malformed(format!("{groups} groups of the channels of shape {shape:?}")));
    }
    let each = shape[1] / groups;
    let grouped = [shape[0], groups, each, shape[2..].iter().product()];
    let x = c.reshaped(x, &grouped)?;
    let of = if c.opset < 21 { [groups, 1, 1] } else { [groups, each, 1] };
    let (scale, bias) = (parameter(c, 1, "the scale", &of)?, parameter(c, 2, "the bias", &of)?);
    let epsilon = epsilon(c, 1e-5)?;
    let y = normalized(c, NormKind::Layer, x, vec![2, 3], [None, None], epsilon)?;
    let y = c.binary(BinaryOp::Mul, y, scale)?;
    let y = c.binary(BinaryOp::Add, y, bias)?;
    let y = c.reshaped(y, &shape)?;
    c.output(0, y);
    Ok(())
}

/// `MeanVarianceNormalization` (opset 9): each channel to mean 0 and variance 1.
pub fn mean_variance(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let axes = c.ints("axes").unwrap_or_else(|| vec![0, 2, 3]);
    let axes = c.axes(&axes, c.shape(x).len())?;
    let [centred, inverse, _] = moments(c, x, &axes, 0.0)?;
    let y = c.binary(BinaryOp::Mul, centred, inverse)?;
    c.output(0, y);
    Ok(())
}

/// `LpNormalization`: an axis to a norm of 1; what is 0 stays so.
pub fn lp(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let axis = c.axis(c.int("axis", -1), c.shape(x).len())?;
    let op = match c.int("p", 2) {
        1 => ReduceOp::L1,
        2 => ReduceOp::L2,
        other => return Err(Failure::malformed(format!("p = {other}"))),
    };
    let norm = c.reduced(op, x, &[axis], true)?;
    let zero = c.binary_with(BinaryOp::Equal, norm, 0.0)?;
    let one = c.scalar_like(x, 1.0);
    let divisor = c.select(zero, one, norm)?;
    let y = c.binary(BinaryOp::Div, x, divisor)?;
    c.output(0, y);
    Ok(())
}

/// `LRN`: `x / (bias + α/size·Σx²)^β`, the sum being over `size` channels around each.
pub fn local_response(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let size = usize::try_from(c.int("size", 0)).ok().filter(|n| (1..=1 << 14).contains(n) && shape.len() >= 2);
    let size = size.ok_or_else(|| Failure::malformed(format!("size = {} for shape {shape:?}", c.int("size", 0))))?;
    // A mean over windows of channels, zeros beside them counted.
    let rest = shape[2..].iter().product();
    let square = c.binary(BinaryOp::Mul, x, x)?;
    let rows = c.reshaped(square, &[shape[0], 1, shape[1], rest])?;
    // No window reaches further than there are channels.
    let most = shape[1].saturating_sub(1);
    let (before, after) = (((size - 1) / 2).min(most), (size / 2).min(most));
    let kernel = vec![before + after + 1, 1];
    super::conv::check_kernel(&kernel)?;
    let alpha = c.float("alpha", 1e-4) * (kernel[0] as f32 / size as f32);
    let window = Window {
        kernel,
        strides: vec![1, 1],
        dilations: vec![1, 1],
        pads_begin: vec![before as i64, 0],
        pads_end: vec![after as i64, 0],
    };
    let op = Op::Pool { kind: PoolKind::AverageWithPadding, window, layout: Layout::ChannelsFirst };
    let mean = c.emit(op, &[rows], DType::F32, &[shape[0], 1, shape[1], rest])?;
    let mean = c.reshaped(mean, &shape)?;
    let base = c.unary_with(UnaryOp::Affine, [alpha, c.float("bias", 1.0)], mean)?;
    let divisor = c.unary_with(UnaryOp::Pow, [c.float("beta", 0.75), 0.0], base)?;
    let y = c.binary(BinaryOp::Div, x, divisor)?;
    c.output(0, y);
    Ok(())
}

/// `LayerNormalization` (opset 17), `RMSNormalization` (opset 23): over all axes from `axis` on.
pub fn layer(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    if c.int("stash_type", 1) != 1 {
        return Err(Failure::unsupported("statistics in another type than f32", "export with stash_type 1"));
    }
    let axis = c.axis(c.int("axis", -1), shape.len())?;
    let kind = if matches!(c.op_type(), "RMSNormalization" | "SimplifiedLayerNormalization") {
        NormKind::Rms
    } else {
        NormKind::Layer
    };
    let axes: Vec<usize> = (axis..shape.len()).collect();
    let (parameters, epsilon) = ([c.optional(1), c.optional(2)], epsilon(c, 1e-5)?);
    let y = normalized(c, kind, x, axes.clone(), parameters, epsilon)?;
    c.output(0, y);
    if kind == NormKind::Rms {
        // ONNX Runtime's form without the mean.
        if c.has_output(1) {
            let inverse = inverse_rms(c, x, &axes, epsilon)?;
            c.output(1, inverse);
        }
    } else if c.has_output(1) || c.has_output(2) {
        let [_, inverse, mean] = moments(c, x, &axes, epsilon)?;
        c.output(1, mean);
        c.output(2, inverse);
    }
    Ok(())
}
