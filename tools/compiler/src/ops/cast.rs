//! Changes of element type.

use kinglet::DType;
use kinglet_onnx::DataType;

use crate::array::Array;
use crate::graph::{BinaryOp, TensorId};
use crate::import::{Context, Failure, dtype_from_onnx, is_native};

/// `Cast` (opset 6 and later).
pub fn cast(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    to_type(c, c.int("to", 0) as i32)
}

/// `CastLike` (opset 15): to the type of the second input.
pub fn cast_like(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    c.input(1)?;
    let code = c.element_type(1);
    to_type(c, code)
}

/// Casts the first input to the type with this number.
fn to_type(c: &mut Context<'_, '_>, code: i32) -> Result<(), Failure> {
    let name = || DataType::try_from(code).map_or(format!("number {code}"), |t| format!("{t:?}"));
    let to = dtype_from_onnx(code)
        .ok_or_else(|| Failure::unsupported(format!("cast to element type {}", name()), "convert the model to f32"))?;
    let x = c.input(0)?;
    let y = if let Some(value) = c.tensor_info(x).value.clone().filter(|v| !is_native(code) || v.is_double()) {
        // Constants of types that the runtime lacks keep their values until they are cast to one that it has.
        let y = foreign(&value, code, to)?;
        c.add_exact(y)
    } else {
        narrowed(c, x, code, to)?
    };
    c.output(0, y);
    c.set_element_type(0, code);
    Ok(())
}

/// `x` as type `to`, of whose bits only those stay that the type with this number has.
fn narrowed(c: &mut Context<'_, '_>, x: TensorId, code: i32, to: DType) -> Result<TensorId, Failure> {
    let Some((bits, signed)) = fewer_bits(code) else { return c.as_type(x, to) };
    let wide = c.as_type(x, if bits < 8 { DType::I32 } else { to })?;
    let mut y = c.binary_with(BinaryOp::BitwiseAnd, wide, ((1i64 << bits) - 1) as f64)?;
    if signed {
        let sign = (1i64 << (bits - 1)) as f64;
        y = c.binary_with(BinaryOp::BitwiseXor, y, sign)?;
        y = c.binary_with(BinaryOp::Sub, y, sign)?;
    }
    c.as_type(y, to)
}

/// Bits of an integer type that has fewer than its tensors here, and whether one of them is a sign.
fn fewer_bits(code: i32) -> Option<(u32, bool)> {
    match DataType::try_from(code).ok()? {
        DataType::Uint32 => Some((32, false)),
        DataType::Uint4 => Some((4, false)),
        DataType::Int4 => Some((4, true)),
        DataType::Uint2 => Some((2, false)),
        DataType::Int2 => Some((2, true)),
        _ => None,
    }
}

/// A constant cast to a type that the runtime lacks, or from DOUBLE, which is held as f64.
fn foreign(value: &Array, code: i32, to: DType) -> Result<Array, Failure> {
    let shape = &value.shape;
    if to == DType::F32 {
        let reals = Array::f32(shape, value.reals().into_owned());
        return Ok(if code == DataType::Double as i32 { reals } else { reals.stored() });
    }
    let fewer = fewer_bits(code);
    let through = if fewer.is_some_and(|(bits, _)| bits < 8) { DType::I32 } else { to };
    let mut ints: Vec<i64> = if value.dtype == DType::F32 {
        value.reals().iter().map(|&v| crate::eval::cut(v, through)).collect()
    } else {
        value.ints().into_owned()
    };
    if let Some((bits, signed)) = fewer {
        let sign = if signed { 1 << (bits - 1) } else { 0 };
        ints.iter_mut().for_each(|v| *v = ((*v & ((1 << bits) - 1)) ^ sign) - sign);
    } else if code == DataType::Uint64 as i32 && ints.iter().any(|&v| v < 0) {
        return Err(Failure::unsupported("a negative number as UINT64", "cast to INT64"));
    }
    Ok(Array::int(to, shape, ints))
}

/// `BitCast` (opset 26): between integers of one width a cast, which wraps; of constants anything.
pub fn bit_cast(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (from, to) = (c.element_type(0), c.int("to", 0) as i32);
    let name = |code: i32| DataType::try_from(code).map_or(format!("number {code}"), |t| format!("{t:?}"));
    let refused = |reason: &str| {
        let reason = format!("bits of {} as {}{reason}", name(from), name(to));
        Err(Failure::unsupported(reason, "cast by value, or have the tensor constant"))
    };
    let (Some(bits), Some(dtype)) = (width(to), dtype_from_onnx(to)) else { return refused("") };
    if width(from) != Some(bits) {
        return Err(Failure::malformed(format!("bits of {} as {}", name(from), name(to))));
    }
    let x = c.input(0)?;
    let is = |code: i32, t: DataType| code == t as i32;
    let real = |code: i32| is(code, DataType::Float) || is(code, DataType::Double);
    let short = |code: i32| is(code, DataType::Float16) || is(code, DataType::Bfloat16);
    let y = if from == to {
        x
    } else if short(from) || short(to) {
        return refused("");
    } else if real(from) || real(to) {
        let Some(value) = c.known(x) else { return refused(" while the model runs") };
        // Of what was rounded the bits are gone, and of 64 bits without a sign there is no type.
        let rounded = is(from, DataType::Double) && !value.is_double();
        if rounded || is(from, DataType::Uint64) || is(to, DataType::Uint64) {
            return refused("");
        }
        c.reserve(value.len(), dtype)?;
        if real(from) {
            let signed = !is(to, DataType::Uint32);
            let pattern = |&v: &f64| match bits {
                32 if signed => i64::from((v as f32).to_bits() as i32),
                32 => (v as f32).to_bits().into(),
                _ => v.to_bits() as i64,
            };
            let ints = value.reals().iter().map(pattern).collect();
            c.add_constant(Array::int(dtype, &value.shape, ints))
        } else {
            let number = |&v: &i64| if bits == 32 { f32::from_bits(v as u32).into() } else { f64::from_bits(v as u64) };
            let reals = Array::f32(&value.shape, value.ints().iter().map(number).collect());
            if bits == 64 { c.add_exact(reals) } else { c.add_constant(reals.stored()) }
        }
    } else if is(to, DataType::Bool) || is(to, DataType::Uint64) {
        // Neither has all numbers of the other type here.
        return refused("");
    } else {
        narrowed(c, x, to, dtype)?
    };
    c.output(0, y);
    c.set_element_type(0, to);
    Ok(())
}

/// Bits of an element of the type with this number, of those of whole bytes.
fn width(code: i32) -> Option<u32> {
    Some(match DataType::try_from(code).ok()? {
        DataType::Int8 | DataType::Uint8 | DataType::Bool => 8,
        DataType::Int16 | DataType::Uint16 | DataType::Float16 | DataType::Bfloat16 => 16,
        DataType::Int32 | DataType::Uint32 | DataType::Float => 32,
        DataType::Int64 | DataType::Uint64 | DataType::Double => 64,
        _ => return None,
    })
}
