//! Functions of elements.

use kinglet::DType;
use kinglet_onnx::DataType;

use crate::array::{Array, broadcast};
use crate::graph::{BinaryOp, Op, TensorId, UnaryOp};
use crate::import::{Context, Failure, dtype_from_onnx, is_native};

fn same_shape(c: &mut Context<'_, '_>, op: Op, dtype: DType) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let y = c.emit(op, &[x], dtype, &shape)?;
    c.output(0, y);
    Ok(())
}

/// Every function of one element whose parameters, if any, are attributes.
pub fn unary(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (op, alpha, beta) = match c.op_type() {
        "Abs" => (UnaryOp::Abs, 0.0, 0.0),
        "Ceil" => (UnaryOp::Ceil, 0.0, 0.0),
        "Cos" => (UnaryOp::Cos, 0.0, 0.0),
        "Elu" => (UnaryOp::Elu, c.float("alpha", 1.0), 0.0),
        "Erf" => (UnaryOp::Erf, 0.0, 0.0),
        "Exp" => (UnaryOp::Exp, 0.0, 0.0),
        "Floor" => (UnaryOp::Floor, 0.0, 0.0),
        "HardSigmoid" => (UnaryOp::HardSigmoid, c.float("alpha", 0.2), c.float("beta", 0.5)),
        "HardSwish" => (UnaryOp::HardSwish, 0.0, 0.0),
        "LeakyRelu" => (UnaryOp::LeakyRelu, c.float("alpha", 0.01), 0.0),
        "Log" => (UnaryOp::Log, 0.0, 0.0),
        "Mish" => (UnaryOp::Mish, 0.0, 0.0),
        "Neg" => (UnaryOp::Neg, 0.0, 0.0),
        "Not" => (UnaryOp::Not, 0.0, 0.0),
        "Reciprocal" => (UnaryOp::Reciprocal, 0.0, 0.0),
        "Relu" => (UnaryOp::Relu, 0.0, 0.0),
        "Round" => (UnaryOp::Round, 0.0, 0.0),
        // The first operator sets had fewer digits.
        "Selu" if c.opset < 6 => (UnaryOp::Selu, c.float("alpha", 1.6732), c.float("gamma", 1.0507)),
        "Selu" => (UnaryOp::Selu, c.float("alpha", 1.673_263_2), c.float("gamma", 1.050_701)),
        "Sigmoid" => (UnaryOp::Sigmoid, 0.0, 0.0),
        "Sign" => (UnaryOp::Sign, 0.0, 0.0),
        "Sin" => (UnaryOp::Sin, 0.0, 0.0),
        "Softplus" => (UnaryOp::Softplus, 0.0, 0.0),
        "Softsign" => (UnaryOp::Softsign, 0.0, 0.0),
        "Sqrt" => (UnaryOp::Sqrt, 0.0, 0.0),
        "Swish" => (UnaryOp::Swish, c.float("alpha", 1.0), 0.0),
        "Tanh" => (UnaryOp::Tanh, 0.0, 0.0),
        other => return Err(Failure::unsupported(format!("{other} is no unary function here"), "")),
    };
    if alpha.is_nan() || beta.is_nan() {
        return Err(Failure::malformed("a parameter is not a number"));
    }
    let dtype = c.input(0).map(|x| c.dtype(x))?;
    same_shape(c, Op::Unary { op, alpha, beta }, dtype)
}

/// `Gelu` (opset 20).
pub fn gelu(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let op = match c.string("approximate", "none").as_str() {
        "none" => UnaryOp::Gelu,
        "tanh" => UnaryOp::GeluTanh,
        other => return Err(Failure::malformed(format!("approximate = {other}"))),
    };
    same_shape(c, Op::unary(op), DType::F32)
}

/// `Clip`: bounds are attributes up to opset 10, inputs from 11 on.
pub fn clip(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let mut bounds = [c.float("min", f32::NEG_INFINITY), c.float("max", f32::INFINITY)];
    for (i, bound) in bounds.iter_mut().enumerate() {
        if let Some(t) = c.optional(i + 1) {
            let value = c.constant(t, if i == 0 { "the lower bound" } else { "the upper bound" })?;
            *bound = value.as_scalar().ok_or_else(|| Failure::malformed("a bound is no scalar"))? as f32;
        }
    }
    if bounds.iter().any(|b| b.is_nan()) {
        return Err(Failure::malformed("a bound is not a number"));
    }
    let dtype = c.dtype(x);
    // By ONNX the upper bound wins if they cross.
    let op = Op::Unary { op: UnaryOp::Clip, alpha: bounds[0].min(bounds[1]), beta: bounds[1] };
    same_shape(c, op, dtype)
}

/// `Cast` (opset 6 and later).
pub fn cast(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let code = c.int("to", 0) as i32;
    let to = dtype_from_onnx(code)
        .ok_or_else(|| Failure::unsupported(format!("cast to element type {code}"), "convert the model to f32"))?;
    let x = c.input(0)?;
    if !is_native(code) && c.tensor_info(x).value.is_none() {
        return Err(Failure::unsupported(
            format!("a computed tensor of element type {code}"),
            "convert the model to f32 and i64",
        ));
    }
    // Constants of types that the runtime lacks keep their values until they are cast to one that it has.
    if let Some(value) = c.tensor_info(x).value.clone().filter(|v| !is_native(code) || v.is_double()) {
        let y = foreign(&value, code, to)?;
        let y = c.add_exact(y);
        c.output(0, y);
        return Ok(());
    }
    if c.dtype(x) == to {
        c.output(0, x);
        return Ok(());
    }
    same_shape(c, Op::Cast(to), to)
}

/// A constant cast to or from DOUBLE, UINT32 or UINT64, which are held as f64 and i64.
fn foreign(value: &Array, code: i32, to: DType) -> Result<Array, Failure> {
    let shape = &value.shape;
    if to == DType::F32 {
        let reals = Array::f32(shape, value.reals().into_owned());
        return Ok(if is_native(code) { reals.stored() } else { reals });
    }
    let mut ints: Vec<i64> = if value.dtype == DType::F32 {
        value.reals().iter().map(|&v| crate::eval::cut(v, to)).collect()
    } else {
        value.ints().into_owned()
    };
    if code == DataType::Uint32 as i32 {
        ints.iter_mut().for_each(|v| *v &= 0xffff_ffff);
    } else if code == DataType::Uint64 as i32 && ints.iter().any(|&v| v < 0) {
        return Err(Failure::unsupported("a negative number as UINT64", "cast to INT64"));
    }
    Ok(Array::int(to, shape, ints))
}

fn binary_op(name: &str) -> Option<BinaryOp> {
    Some(match name {
        "Add" | "Sum" | "Mean" => BinaryOp::Add,
        "And" => BinaryOp::And,
        "Div" => BinaryOp::Div,
        "Equal" => BinaryOp::Equal,
        "Greater" => BinaryOp::Greater,
        "GreaterOrEqual" => BinaryOp::GreaterOrEqual,
        "Less" => BinaryOp::Less,
        "LessOrEqual" => BinaryOp::LessOrEqual,
        "Max" => BinaryOp::Max,
        "Min" => BinaryOp::Min,
        "Mul" => BinaryOp::Mul,
        "Or" => BinaryOp::Or,
        "PRelu" => BinaryOp::PRelu,
        "Pow" => BinaryOp::Pow,
        "Sub" => BinaryOp::Sub,
        "Xor" => BinaryOp::Xor,
        _ => return None,
    })
}

fn emit_binary(c: &mut Context<'_, '_>, op: BinaryOp, a: TensorId, b: TensorId) -> Result<TensorId, Failure> {
    let (sa, sb) = (c.shape(a), c.shape(b));
    let shape =
        broadcast(&sa, &sb).ok_or_else(|| Failure::malformed(format!("shapes {sa:?} and {sb:?} do not broadcast")))?;
    let compares = op as u32 >= BinaryOp::Equal as u32;
    let dtype = if compares { DType::Bool } else { c.dtype(a) };
    // The smallest and the largest of one value with itself is that value.
    if a == b && matches!(op, BinaryOp::Min | BinaryOp::Max) {
        return Ok(a);
    }
    c.emit(Op::Binary(op), &[a, b], dtype, &shape)
}

/// The second operand of a function of two elements, shaped so that it broadcasts to the first.
///
/// Before operator set 7 the attributes `broadcast` and `axis` said whether and where the axes of the second operand are among
/// those of the first (at the end, if `axis` does not say); the slopes of `PRelu` belonged to axis 1.
fn second(c: &mut Context<'_, '_>, a: TensorId, b: TensorId) -> Result<TensorId, Failure> {
    let (sa, sb) = (c.shape(a), c.shape(b));
    if c.opset >= 7 || sa == sb {
        return Ok(b);
    }
    let slopes = c.op_type() == "PRelu";
    let axis = if slopes {
        1
    } else if !c.flag("broadcast", false) {
        return Err(Failure::malformed(format!(
            "shapes {sa:?} and {sb:?}: in operator set {} they broadcast only with the attribute `broadcast`",
            c.opset
        )));
    } else if c.has("axis") {
        c.axis(c.int("axis", 0), sa.len())?
    } else {
        sa.len().saturating_sub(sb.len())
    };
    if sb.iter().product::<usize>() == 1 && sb.len() <= sa.len() {
        return c.reshaped(b, &[]);
    }
    if sa.get(axis..axis + sb.len()) != Some(&sb[..]) || (slopes && sb.len() != 1) {
        return Err(Failure::malformed(format!("shape {sb:?} is no part of shape {sa:?} from axis {axis} on")));
    }
    let mut shape = sb;
    shape.resize(sa.len() - axis, 1);
    c.reshaped(b, &shape)
}

/// Functions of two elements.
pub fn binary(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let op = binary_op(c.op_type()).ok_or_else(|| Failure::malformed("not a binary function"))?;
    let (a, b) = (c.input(0)?, c.input(1)?);
    let b = second(c, a, b)?;
    let y = emit_binary(c, op, a, b)?;
    c.output(0, y);
    Ok(())
}

/// `Pow`: with a constant scalar exponent a function of one element.
pub fn pow(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (a, b) = (c.input(0)?, c.input(1)?);
    if c.opset < 12 && c.dtype(a) != c.dtype(b) {
        let (a, b) = (c.dtype(a).name(), c.dtype(b).name());
        let reason = format!("a base of {a} and an exponent of {b}: before operator set 12 they have one type");
        return Err(Failure::malformed(reason));
    }
    let b = second(c, a, b)?;
    let exponent = c.tensor_info(b).value.as_ref().and_then(|v| v.as_scalar());
    let shape = c.shape(a);
    let y = match exponent {
        Some(e) if c.dtype(a) == DType::F32 && !e.is_nan() && c.shape(b).len() <= shape.len() => {
            c.emit(Op::Unary { op: UnaryOp::Pow, alpha: e as f32, beta: 0.0 }, &[a], DType::F32, &shape)?
        }
        _ => emit_binary(c, BinaryOp::Pow, a, b)?,
    };
    c.output(0, y);
    Ok(())
}

/// `Min`, `Max`, `Sum`, `Mean` of any number of operands, which broadcast from operator set 8 on.
pub fn variadic(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let op = binary_op(c.op_type()).ok_or_else(|| Failure::malformed("not a variadic function"))?;
    let mut y = c.input(0)?;
    for i in 1..c.input_count() {
        let next = c.input(i)?;
        if c.opset < 8 && c.shape(next) != c.shape(y) {
            let (a, b) = (c.shape(y), c.shape(next));
            let reason = format!("shapes {a:?} and {b:?}: before operator set 8 its operands do not broadcast");
            return Err(Failure::malformed(reason));
        }
        y = emit_binary(c, op, y, next)?;
    }
    if c.op_type() == "Mean" && c.input_count() > 1 {
        let n = c.add_constant(Array::scalar(c.input_count() as f64));
        y = emit_binary(c, BinaryOp::Div, y, n)?;
    }
    c.output(0, y);
    Ok(())
}

/// `Where` (opset 9).
pub fn select(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (condition, x, y) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let shape = broadcast(&c.shape(condition), &c.shape(x)).and_then(|s| broadcast(&s, &c.shape(y)));
    let shape = shape.ok_or_else(|| Failure::malformed("the shapes do not broadcast"))?;
    let dtype = c.dtype(x);
    let out = c.emit(Op::Where, &[condition, x, y], dtype, &shape)?;
    c.output(0, out);
    Ok(())
}
