//! Normalisations and softmax.

use kinglet::DType;

use crate::array::Array;
use crate::graph::{NormKind, Op, TensorId};
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

fn epsilon(c: &Context<'_, '_>) -> Result<f32, Failure> {
    let e = c.float("epsilon", 1e-5);
    if e >= 0.0 { Ok(e) } else { Err(Failure::malformed(format!("epsilon = {e}"))) }
}

/// The value of a per-channel parameter, which may be quantised.
fn parameter(c: &mut Context<'_, '_>, i: usize, what: &str, channels: usize) -> Result<Vec<f64>, Failure> {
    let t = c.input(i)?;
    let value = c.constant(t, what)?;
    if value.len() != channels {
        return Err(Failure::malformed(format!("{what} of {} elements for {channels} channels", value.len())));
    }
    Ok(value.reals().into_owned())
}

/// A constant that broadcasts along the channel axis of a channels-first tensor.
fn along_channels(c: &mut Context<'_, '_>, values: Vec<f64>, rank: usize) -> TensorId {
    let mut shape = vec![1; rank - 1];
    shape[0] = values.len();
    c.add_constant(Array::f32(&shape, values))
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
    let n = along.iter().product();
    let scale = parameter(c, 1, "the scale", n)?;
    let bias = parameter(c, 2, "the bias", n)?;
    let mean = parameter(c, 3, "the mean", n)?;
    let variance = parameter(c, 4, "the variance", n)?;
    let epsilon = f64::from(epsilon(c)?);
    let factor: Vec<f64> = scale.iter().zip(&variance).map(|(s, v)| s / (v + epsilon).sqrt()).collect();
    let shift = (0..n).map(|i| bias[i] - mean[i] * factor[i]).collect();
    let factor = c.add_constant(Array::f32(&along, factor));
    let shift = c.add_constant(Array::f32(&along, shift));
    let y = c.emit(Op::ScaleShift, &[x, factor, shift], DType::F32, &shape)?;
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
    let scale = parameter(c, 1, "the scale", shape[1])?;
    let bias = parameter(c, 2, "the bias", shape[1])?;
    let scale = along_channels(c, scale, shape.len());
    let bias = along_channels(c, bias, shape.len());
    let op = Op::Norm { kind: NormKind::Layer, axes: (2..shape.len()).collect(), epsilon: epsilon(c)? };
    let y = c.emit(op, &[x, scale, bias], DType::F32, &shape)?;
    c.output(0, y);
    Ok(())
}

/// `LayerNormalization` (opset 17), `RMSNormalization` (opset 23): over all axes from `axis` on.
pub fn layer(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    if c.has_output(1) || c.has_output(2) {
        return Err(Failure::unsupported("its mean or deviation is used", "export the model for inference"));
    }
    if c.int("stash_type", 1) != 1 {
        return Err(Failure::unsupported("statistics in another type than f32", "export with stash_type 1"));
    }
    let axis = c.axis(c.int("axis", -1), shape.len())?;
    let kind = if c.op_type() == "RMSNormalization" { NormKind::Rms } else { NormKind::Layer };
    let op = Op::Norm { kind, axes: (axis..shape.len()).collect(), epsilon: epsilon(c)? };
    let mut inputs = vec![Some(x), None, None];
    for (i, what) in [(1, "the scale"), (2, "the bias")] {
        if let Some(t) = c.optional(i) {
            let value = c.constant(t, what)?;
            let (s, v) = (value.shape.clone(), value.reals().into_owned());
            if crate::array::broadcast(&s, &shape).as_deref() != Some(&shape) {
                return Err(Failure::malformed(format!("{what} of shape {s:?} for an input of shape {shape:?}")));
            }
            inputs[i] = Some(c.add_constant(Array::f32(&s, v)));
        }
    }
    let y = c.emit_optional(op, &inputs, DType::F32, &shape, None)?;
    c.output(0, y);
    Ok(())
}
