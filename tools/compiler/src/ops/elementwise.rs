//! Functions of elements.

use kinglet::DType;

use crate::array::Array;
use crate::graph::{BinaryOp, Op, TensorId, UnaryOp};
use crate::import::{Context, Failure};

/// Every function of one element whose parameters, if any, are attributes.
pub fn unary(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (op, alpha, beta) = match c.op_type() {
        "Abs" => (UnaryOp::Abs, 0.0, 0.0),
        "Acos" => (UnaryOp::Acos, 0.0, 0.0),
        "Acosh" => (UnaryOp::Acosh, 0.0, 0.0),
        "Asin" => (UnaryOp::Asin, 0.0, 0.0),
        "Asinh" => (UnaryOp::Asinh, 0.0, 0.0),
        "Atan" => (UnaryOp::Atan, 0.0, 0.0),
        "Atanh" => (UnaryOp::Atanh, 0.0, 0.0),
        "BitwiseNot" => (UnaryOp::BitwiseNot, 0.0, 0.0),
        "Ceil" => (UnaryOp::Ceil, 0.0, 0.0),
        "Cos" => (UnaryOp::Cos, 0.0, 0.0),
        "Cosh" => (UnaryOp::Cosh, 0.0, 0.0),
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
        "Sinh" => (UnaryOp::Sinh, 0.0, 0.0),
        "Softplus" => (UnaryOp::Softplus, 0.0, 0.0),
        "Softsign" => (UnaryOp::Softsign, 0.0, 0.0),
        "Sqrt" => (UnaryOp::Sqrt, 0.0, 0.0),
        "Swish" => (UnaryOp::Swish, c.float("alpha", 1.0), 0.0),
        "Tan" => (UnaryOp::Tan, 0.0, 0.0),
        "Tanh" => (UnaryOp::Tanh, 0.0, 0.0),
        other => {
            return Err(Failure::unsupported(
                format!("{other} is no unary function here"),
                "use an operator of docs/operators.md",
            ));
        }
    };
    let x = c.input(0)?;
    let y = c.unary_with(op, [alpha, beta], x)?;
    c.output(0, y);
    Ok(())
}

fn binary_op(name: &str) -> Option<BinaryOp> {
    Some(match name {
        "Add" | "Sum" | "Mean" => BinaryOp::Add,
        "And" => BinaryOp::And,
        "BitwiseAnd" => BinaryOp::BitwiseAnd,
        "BitwiseOr" => BinaryOp::BitwiseOr,
        "BitwiseXor" => BinaryOp::BitwiseXor,
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
    let y = c.binary(op, a, b)?;
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
        _ => c.binary(BinaryOp::Pow, a, b)?,
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
        y = c.binary(op, y, next)?;
    }
    if c.op_type() == "Mean" && c.input_count() > 1 {
        let n = c.add_constant(Array::scalar(c.input_count() as f64));
        y = c.binary(BinaryOp::Div, y, n)?;
    }
    c.output(0, y);
    Ok(())
}

/// `Where` (opset 9).
pub fn select(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (condition, x, y) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let out = c.select(condition, x, y)?;
    c.output(0, out);
    Ok(())
}

/// `BitShift` (opset 11).
pub fn bit_shift(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let op = match c.string("direction", "").as_str() {
        "LEFT" => BinaryOp::ShiftLeft,
        "RIGHT" => BinaryOp::ShiftRight,
        other => return Err(Failure::malformed(format!("direction = {other}"))),
    };
    let (a, b) = (c.input(0)?, c.input(1)?);
    let y = c.binary(op, a, b)?;
    c.output(0, y);
    Ok(())
}

/// `Mod` (opset 10): with `fmod` the rest has the sign of the dividend, without it that of the divisor.
pub fn modulo(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (a, b) = (c.input(0)?, c.input(1)?);
    let op = if c.flag("fmod", false) { BinaryOp::Fmod } else { BinaryOp::Mod };
    let y = c.binary(op, a, b)?;
    c.output(0, y);
    Ok(())
}
