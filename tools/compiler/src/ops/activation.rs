//! Activations that have more than a name: modes, bounds as inputs, or that are said in other functions.

use kinglet::DType;

use crate::graph::{BinaryOp, Op, TensorId, UnaryOp};
use crate::import::{Context, Failure};

/// `Gelu` (opset 20).
pub fn gelu(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let op = match c.string("approximate", "none").as_str() {
        "none" => UnaryOp::Gelu,
        "tanh" => UnaryOp::GeluTanh,
        other => return Err(Failure::malformed(format!("approximate = {other}"))),
    };
    let x = c.input(0)?;
    let y = c.unary(op, x)?;
    c.output(0, y);
    Ok(())
}

/// A bound of `Clip`: a number that f32 holds, or a scalar that is computed, or an integer that it does not hold.
enum Bound {
    Known(f32),
    Computed(TensorId),
}

/// `Clip`: bounds are attributes up to opset 10, inputs from 11 on.
pub fn clip(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let mut bounds = [c.float("min", f32::NEG_INFINITY), c.float("max", f32::INFINITY)].map(Bound::Known);
    for (i, bound) in bounds.iter_mut().enumerate() {
        let Some(t) = c.optional(i + 1) else { continue };
        if c.shape(t).iter().product::<usize>() != 1 {
            return Err(Failure::malformed("a bound is no scalar"));
        }
        *bound = match c.known(t) {
            Some(value)
                if value.dtype.is_float() || (value.ints()[0] as f32) as i128 == i128::from(value.ints()[0]) =>
            {
                Bound::Known(value.reals()[0] as f32)
            }
            _ => Bound::Computed(c.reshaped(t, &[])?),
        };
    }
    let y = match bounds {
        [Bound::Known(lo), Bound::Known(hi)] => {
            if lo.is_nan() || hi.is_nan() {
                return Err(Failure::malformed("a bound is not a number"));
            }
            // By ONNX the upper bound wins if they cross.
            c.unary_with(UnaryOp::Clip, [lo.min(hi), hi], x)?
        }
        [lo, hi] => {
            let y = bounded(c, BinaryOp::Max, x, lo)?;
            bounded(c, BinaryOp::Min, y, hi)?
        }
    };
    c.output(0, y);
    Ok(())
}

fn bounded(c: &mut Context<'_, '_>, op: BinaryOp, x: TensorId, bound: Bound) -> Result<TensorId, Failure> {
    match bound {
        Bound::Known(v) if v.is_infinite() => Ok(x),
        Bound::Known(v) => c.binary_with(op, x, f64::from(v)),
        Bound::Computed(t) => c.binary(op, x, t),
    }
}

/// `Celu` (opset 12): `x` if positive, else `α·(e^(x/α) − 1)`.
pub fn celu(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (x, alpha) = (c.input(0)?, c.float("alpha", 1.0));
    // The other way round it would be another function.
    if !(alpha.is_finite() && alpha > 0.0) {
        return Err(Failure::malformed(format!("alpha = {alpha}")));
    }
    let scaled = c.unary_with(UnaryOp::Affine, [1.0 / alpha, 0.0], x)?;
    let y = c.unary_with(UnaryOp::Selu, [1.0, alpha], scaled)?;
    c.output(0, y);
    Ok(())
}

/// `ThresholdedRelu` (opset 10): `x` above α, else 0.
pub fn thresholded_relu(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (x, alpha) = (c.input(0)?, c.float("alpha", 1.0));
    let above = c.binary_with(BinaryOp::Greater, x, f64::from(alpha))?;
    let zero = c.scalar_like(x, 0.0);
    let y = c.select(above, x, zero)?;
    c.output(0, y);
    Ok(())
}

/// `Shrink` (opset 9): 0 from −λ to λ, and what lies outside moved towards 0 by the bias.
pub fn shrink(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (x, lambd, bias) = (c.input(0)?, f64::from(c.float("lambd", 0.5)), f64::from(c.float("bias", 0.0)));
    // Neither λ nor the bias need be a number of the element type.
    let dtype = c.dtype(x);
    let x = c.as_type(x, DType::F32)?;
    let above = c.binary_with(BinaryOp::Greater, x, lambd)?;
    let below = c.binary_with(BinaryOp::Less, x, -lambd)?;
    let (lowered, raised) = (c.binary_with(BinaryOp::Sub, x, bias)?, c.binary_with(BinaryOp::Add, x, bias)?);
    let zero = c.scalar_like(x, 0.0);
    // Of a λ below 0 an element may be both below and above: ONNX asks for the first of these first.
    let rest = c.select(above, lowered, zero)?;
    let y = c.select(below, raised, rest)?;
    let y = c.as_type(y, dtype)?;
    c.output(0, y);
    Ok(())
}

/// `SwiGLU` (opset 28): the Swish of the gate, times the value.
pub fn swiglu(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (gate, value) = (c.input(0)?, c.input(1)?);
    let gate = c.unary_with(UnaryOp::Swish, [c.float("alpha", 1.0), 0.0], gate)?;
    let y = c.binary(BinaryOp::Mul, gate, value)?;
    c.output(0, y);
    Ok(())
}

/// `IsNaN` (opset 9): only what is not a number differs from itself.
pub fn is_nan(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let same = c.binary(BinaryOp::Equal, x, x)?;
    let y = c.unary(UnaryOp::Not, same)?;
    c.output(0, y);
    Ok(())
}

/// `IsInf` (opset 10): ∞, −∞, or both.
pub fn is_inf(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let mut y = None;
    for (name, infinity) in [("detect_positive", f64::INFINITY), ("detect_negative", f64::NEG_INFINITY)] {
        if c.flag(name, true) {
            let is = c.binary_with(BinaryOp::Equal, x, infinity)?;
            y = Some(match y {
                Some(other) => c.binary(BinaryOp::Or, other, is)?,
                None => is,
            });
        }
    }
    let y = match y {
        Some(y) => y,
        // Neither is looked for.
        None => {
            let shape = c.shape(x);
            let no = c.add_constant(crate::array::Array::int(DType::Bool, &[], vec![0]));
            c.emit(Op::Expand, &[no], DType::Bool, &shape)?
        }
    };
    c.output(0, y);
    Ok(())
}
