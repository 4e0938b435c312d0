//! Constants and what only describes shapes: all of it folds away.

use std::sync::Arc;

use kinglet::DType;

use crate::array::Array;
use crate::import::{Context, Failure, Value, fits};

/// `Dropout` in inference, or with nothing to drop.
pub fn dropout(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    // Before operator set 7 training was the rule; from 12 on an input says so.
    let trains = match c.optional(2) {
        Some(t) => c.constant(t, "whether it trains")?.ints().iter().any(|&v| v != 0),
        None => c.opset < 7 && !c.flag("is_test", false),
    };
    let drops = match c.optional(1) {
        Some(ratio) if trains => c.constant(ratio, "the share that it drops")?.as_scalar() != Some(0.0),
        _ => c.float("ratio", 0.5) != 0.0,
    };
    if trains && drops {
        return Err(Failure::unsupported("it is in training mode", "export the model after model.eval()"));
    }
    let x = c.input(0)?;
    if c.has_output(1) {
        // Before it was of the data's type, and not filled in inference.
        if c.opset < 10 {
            return Err(Failure::unsupported("its mask is used", "export with operator set 10 or later"));
        }
        let shape = c.shape(x);
        c.reserve(shape.iter().product(), DType::Bool)?;
        let kept = c.add_constant(Array::int(DType::Bool, &[], vec![1]).filled(&shape));
        c.output(1, kept);
    }
    c.output(0, x);
    Ok(())
}

/// `OptionalHasElement` (opset 18): tensors and sequences are there, and nothing else can be.
pub fn has_element(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let there = match c.value(0) {
        Some(Value::Unknown) => return Err(Failure::malformed("nothing is known of its input")),
        value => value.is_some(),
    };
    let y = c.add_constant(Array::int(DType::Bool, &[], vec![there.into()]));
    c.output(0, y);
    Ok(())
}

/// `Identity`, and `OptionalGetElement` (opset 18) of a tensor or a sequence.
pub fn identity(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    if let Some(Value::Sequence(s)) = c.value(0) {
        c.output_sequence(0, s);
        return Ok(());
    }
    let x = c.input(0)?;
    c.output(0, x);
    Ok(())
}

/// `Constant`.
pub fn constant(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    if let Some(value) = c.tensor("value")? {
        let y = c.add_exact(value);
        c.output(0, y);
        c.set_element_type(0, c.tensor_type("value"));
        return Ok(());
    }
    let value = if c.has("value_float") {
        Array::scalar(c.float("value_float", 0.0).into())
    } else if c.has("value_int") {
        Array::int(DType::I64, &[], vec![c.int("value_int", 0)])
    } else if let Some(v) = c.floats("value_floats") {
        Array::f32(&[v.len()], v.iter().map(|&v| v.into()).collect())
    } else if let Some(v) = c.ints("value_ints") {
        Array::i64s(&v)
    } else {
        return Err(Failure::unsupported("a constant of strings or a sparse one", "make it a dense tensor of numbers"));
    };
    let y = c.add_constant(value);
    c.output(0, y);
    Ok(())
}

/// A shape given as a constant tensor.
pub(super) fn constant_shape(c: &mut Context<'_, '_>, i: usize) -> Result<Vec<usize>, Failure> {
    let dims = c.constant_ints(i, "the shape")?;
    checked_shape(&dims)
}

/// A shape given as the attribute `shape`.
pub(super) fn shape_attribute(c: &mut Context<'_, '_>) -> Result<Vec<usize>, Failure> {
    let dims = c.ints("shape").ok_or_else(|| Failure::malformed("it has no shape"))?;
    checked_shape(&dims)
}

fn checked_shape(dims: &[i64]) -> Result<Vec<usize>, Failure> {
    let shape = dims.iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>();
    let shape = shape.map_err(|_| Failure::malformed(format!("shape {dims:?}")))?;
    if !fits(&shape) {
        return Err(Failure::malformed(format!("shape {dims:?} is too large")));
    }
    Ok(shape)
}

/// `ConstantOfShape`.
pub fn constant_of_shape(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let shape = constant_shape(c, 0)?;
    let n = shape.iter().product::<usize>();
    let fill = c.tensor("value")?.unwrap_or_else(|| Arc::new(Array::f32(&[1], vec![0.0])));
    c.reserve(n, fill.dtype)?;
    if fill.len() != 1 {
        return Err(Failure::malformed("the value is no single element"));
    }
    let y = c.add_exact(fill.filled(&shape));
    c.output(0, y);
    c.set_element_type(0, c.tensor_type("value"));
    Ok(())
}

/// `Shape`.
pub fn shape(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let rank = shape.len() as i64;
    let clamp = |v: i64| if v < 0 { v + rank } else { v }.clamp(0, rank) as usize;
    let (start, end) = (clamp(c.int("start", 0)), clamp(c.int("end", rank)));
    let dims: Vec<i64> = shape[start.min(end)..end].iter().map(|&d| d as i64).collect();
    let y = c.add_constant(Array::i64s(&dims));
    c.output(0, y);
    Ok(())
}

/// `Size`.
pub fn size(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let n = c.shape(x).iter().product::<usize>() as i64;
    let y = c.add_constant(Array::int(DType::I64, &[], vec![n]));
    c.output(0, y);
    Ok(())
}

/// Most elements of a range.
const MOST_STEPS: i128 = 100_000_000;

/// `Range`.
pub fn range(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let mut bounds = Vec::new();
    for (i, what) in ["the start", "the limit", "the step"].into_iter().enumerate() {
        let t = c.input(i)?;
        let value = c.constant(t, what)?;
        if value.len() != 1 {
            return Err(Failure::malformed("a bound is no scalar"));
        }
        bounds.push(value);
    }
    let dtype = bounds[0].dtype;
    let real = |i: usize| bounds[i].reals()[0];
    let int = |i: usize| i128::from(bounds[i].ints()[0]);
    // Of integers the extent is counted in integers: f64 does not hold those beyond 2⁵³.
    let extent = match dtype {
        DType::F32 => {
            Some(((real(1) - real(0)) / real(2)).ceil().max(0.0)).filter(|n| n.is_finite()).map(|n| n as i128)
        }
        _ => (int(2) != 0).then(|| ((int(1) - int(0)) * int(2).signum() + int(2).abs() - 1) / int(2).abs()),
    };
    let extent = extent
        .map(|n| n.max(0))
        .filter(|&n| n <= MOST_STEPS)
        .ok_or_else(|| Failure::malformed(format!("a range from {} to {} by {}", real(0), real(1), real(2))))?;
    let n = extent as usize;
    c.reserve(n, dtype)?;
    let array = if bounds[0].is_double() {
        Array::f32(&[n], (0..n).map(|i| real(0) + i as f64 * real(2)).collect())
    } else if dtype == DType::F32 {
        let (start, step) = (real(0) as f32, real(2) as f32);
        Array::f32(&[n], (0..n).map(|i| f64::from(start + i as f32 * step)).collect())
    } else {
        Array::int(dtype, &[n], (0..extent).map(|i| (int(0) + i * int(2)) as i64).collect())
    };
    let exact = bounds[0].is_double();
    let y = if exact { c.add_exact(array) } else { c.add_constant(array) };
    c.output(0, y);
    Ok(())
}
