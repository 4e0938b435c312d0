//! Functions of one element, operations on two or more that broadcast, and selections.

use kinglet::DType::{self, Bool, F32, I8, I32, I64, U8};
use kinglet_compiler::array::Array;

use super::Recipe;
use crate::random_graphs::attributes::{f, i, s};
use crate::random_graphs::net::Net;

pub(super) fn recipe(name: &str) -> Option<Recipe> {
    Some(match name {
        "Abs" | "Acos" | "Acosh" | "Asin" | "Asinh" | "Atan" | "Atanh" | "Ceil" | "Celu" | "Cos" | "Cosh" | "Elu"
        | "Erf" | "Exp" | "Floor" | "Gelu" | "HardSigmoid" | "HardSwish" | "IsInf" | "IsNaN" | "LeakyRelu" | "Log"
        | "Mish" | "Neg" | "Reciprocal" | "Relu" | "Round" | "Selu" | "Shrink" | "Sigmoid" | "Sign" | "Sin"
        | "Sinh" | "Softplus" | "Softsign" | "Sqrt" | "Swish" | "Tan" | "Tanh" | "ThresholdedRelu" => unary,
        "Not" => |n, op| on(n, op, &[Bool]),
        "BitwiseNot" => |n, op| on(n, op, &[I32, I64, U8, I8]),
        "Identity" | "OptionalGetElement" => |n, op| on(n, op, &[F32, I64, Bool, U8, I32, I8]),
        "Dropout" => dropout,
        "Clip" => clip,
        "Add" | "Sub" | "Mul" => |n, op| pair(n, op, &[F32, F32, I64, I32]),
        "Div" => divide,
        "Equal" => |n, op| pair(n, op, if n.opset() >= 11 { &[F32, I64, I32, Bool] } else { &[I64, I32, Bool] }),
        "Greater" | "Less" | "GreaterOrEqual" | "LessOrEqual" => {
            |n, op| pair(n, op, if n.opset() >= 9 { &[F32, I64, I32] } else { &[F32] })
        }
        "And" | "Or" | "Xor" => |n, op| pair(n, op, &[Bool]),
        "BitwiseAnd" | "BitwiseOr" | "BitwiseXor" => |n, op| pair(n, op, &[I32, I64, U8, I8]),
        "BitShift" => bit_shift,
        "Mod" => modulo,
        "Pow" => pow,
        "PRelu" => slopes,
        "SwiGLU" => swiglu,
        "Max" | "Min" | "Sum" | "Mean" => variadic,
        "Where" => select,
        "Cast" => cast,
        "CastLike" => cast_like,
        "BitCast" => bit_cast,
        _ => return None,
    })
}

fn on(n: &mut Net, op: &str, dtypes: &[DType]) {
    let dtype = n.pick(dtypes);
    let x = n.any(dtype);
    n.node(op, &[&x], vec![]);
}

/// Parameters that the functions of one element have, each with what it is near to.
const PARAMETERS: &[(&str, &[(&str, f64)])] = &[
    ("Celu", &[("alpha", 1.0)]),
    ("Elu", &[("alpha", 1.0)]),
    ("HardSigmoid", &[("alpha", 0.2), ("beta", 0.5)]),
    ("LeakyRelu", &[("alpha", 0.01)]),
    ("Selu", &[("alpha", 1.67), ("gamma", 1.05)]),
    ("Shrink", &[("lambd", 0.5), ("bias", 0.0)]),
    ("Swish", &[("alpha", 1.0)]),
    ("ThresholdedRelu", &[("alpha", 1.0)]),
];

fn unary(n: &mut Net, op: &str) {
    let integers: &[DType] = match op {
        "Abs" | "Sign" | "Neg" => &[F32, F32, F32, I64, I32, I8],
        "Relu" if n.opset() >= 14 => &[F32, F32, F32, F32, I32, I8],
        _ => &[F32],
    };
    let dtype = n.pick(integers);
    let x = n.any(dtype);
    let mut attributes = Vec::new();
    for &(name, near) in PARAMETERS.iter().find(|(o, _)| *o == op).map_or(&[][..], |(_, p)| p) {
        if n.below(2) == 1 {
            let alpha = (near + 0.4 * n.real()) as f32;
            // A Celu divides by it, and ONNX wants it of no other sign.
            attributes.push(f(name, if op == "Celu" { alpha.abs() + 0.05 } else { alpha }));
        }
    }
    if op == "Gelu" && n.below(2) == 1 {
        attributes.push(s("approximate", "tanh"));
    }
    if op == "IsInf" && n.below(2) == 1 {
        attributes.push(i("detect_negative", 0));
    }
    n.node(op, &[&x], attributes);
}

fn dropout(n: &mut Net, op: &str) {
    let x = n.any(F32);
    if n.opset() >= 12 {
        let ratio = n.scalar(0.5);
        let [y, mask] = &n.nodes(op, &[&x, &ratio], 2, vec![])[..] else { return };
        let (y, mask) = (y.clone(), mask.clone());
        n.give(&[y, mask]);
    } else {
        n.node(op, &[&x], vec![f("ratio", 0.25)]);
    }
}

fn clip(n: &mut Net, op: &str) {
    let dtype = if n.opset() >= 12 { n.pick(&[F32, F32, I64, I32, I8]) } else { F32 };
    let x = n.any(dtype);
    if n.opset() < 11 {
        let (lo, hi) = (-n.real().abs() as f32, n.real().abs() as f32);
        n.node(op, &[&x], vec![f("min", lo), f("max", hi)]);
        return;
    }
    let bound = |n: &mut Net| if n.one_in(4) { String::new() } else { n.shaped(dtype, &[]) };
    let (lo, hi) = (bound(n), bound(n));
    n.node(op, &[&x, &lo, &hi], vec![]);
}

/// Two tensors of one type that broadcast, in either order.
fn two(n: &mut Net, dtype: DType) -> [String; 2] {
    let a = n.any(dtype);
    let shape = n.shape(&a);
    let b = n.broadcast(dtype, &shape);
    if n.below(2) == 1 { [b, a] } else { [a, b] }
}

fn pair(n: &mut Net, op: &str, dtypes: &[DType]) {
    let dtype = n.pick(dtypes);
    let [a, b] = two(n, dtype);
    n.node(op, &[&a, &b], vec![]);
}

/// A divisor for integers: a constant, and not 0.
fn divisor(n: &mut Net, dtype: DType, shape: &[usize]) -> String {
    let len = shape.iter().product();
    let by = (0..len).map(|_| n.pick(&[2, 1, 3, -1, -4, 7])).collect();
    n.constant(Array::int(dtype, shape, by))
}

/// Operands of a division.
fn quotient(n: &mut Net) -> (DType, String, String) {
    let dtype = n.pick(&[F32, F32, I64, I32]);
    if dtype == F32 {
        let [a, b] = two(n, dtype);
        return (dtype, a, b);
    }
    let a = n.any(dtype);
    let shape = n.shape(&a);
    let from = if n.one_in(3) { shape.len() } else { 0 };
    let b = divisor(n, dtype, &shape[from..]);
    (dtype, a, b)
}

fn divide(n: &mut Net, op: &str) {
    let (_, a, b) = quotient(n);
    n.node(op, &[&a, &b], vec![]);
}

fn bit_shift(n: &mut Net, op: &str) {
    let a = n.any(U8);
    let shape = n.shape(&a);
    let len = shape.iter().product();
    let by: Vec<i64> = (0..len).map(|_| n.below(8) as i64).collect();
    let b = n.either(Array::int(U8, &shape, by));
    let direction = n.pick(&["LEFT", "RIGHT"]);
    n.node(op, &[&a, &b], vec![s("direction", direction)]);
}

fn modulo(n: &mut Net, op: &str) {
    let (dtype, a, b) = quotient(n);
    let fmod = if dtype == F32 { 1 } else { n.below(2) as i64 };
    n.node(op, &[&a, &b], vec![i("fmod", fmod)]);
}

fn pow(n: &mut Net, op: &str) {
    let a = n.any(F32);
    let shape = n.shape(&a);
    if n.below(2) == 1 {
        let exponent = n.pick(&[2.0, 0.5, 1.0, 3.0, -1.0, 0.0, -0.5]);
        let b = n.scalar(exponent);
        n.node(op, &[&a, &b], vec![]);
    } else {
        let b = n.broadcast(F32, &shape);
        n.node(op, &[&a, &b], vec![]);
    }
}

fn slopes(n: &mut Net, op: &str) {
    let x = n.any(F32);
    let shape = n.shape(&x);
    let slope = n.broadcast(F32, &shape);
    n.node(op, &[&x, &slope], vec![]);
}

fn swiglu(n: &mut Net, op: &str) {
    let x = n.any(F32);
    let shape = n.shape(&x);
    let gate = n.shaped(F32, &shape);
    let attributes = if n.below(2) == 1 { vec![f("alpha", 1.7)] } else { vec![] };
    n.node(op, &[&x, &gate], attributes);
}

fn variadic(n: &mut Net, op: &str) {
    let integers = matches!(op, "Max" | "Min") && n.opset() >= 12;
    let dtype = if integers { n.pick(&[F32, F32, I64, I32]) } else { F32 };
    let first = n.any(dtype);
    let shape = n.shape(&first);
    let mut inputs = vec![first];
    for _ in 0..n.below(3) {
        // Before operator set 8 they do not broadcast.
        let next = if n.opset() < 8 { n.shaped(dtype, &shape) } else { n.broadcast(dtype, &shape) };
        inputs.push(next);
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    n.node(op, &inputs, vec![]);
}

fn select(n: &mut Net, op: &str) {
    let dtype = n.pick(&[F32, F32, I64, I32, U8]);
    let [a, b] = two(n, dtype);
    let (sa, sb) = (n.shape(&a), n.shape(&b));
    let wider = if sa.len() >= sb.len() { sa } else { sb };
    let c = n.broadcast(Bool, &wider);
    n.node(op, &[&c, &a, &b], vec![]);
}

/// The numbers of types that casts go to.
const TYPES: [(DType, i64); 6] = [(F32, 1), (I64, 7), (I32, 6), (Bool, 9), (U8, 2), (I8, 3)];

/// A tensor to be cast. A real beyond the range of an integer type is at its end here, and in ONNX Runtime what the CPU makes of it.
fn uncast(n: &mut Net, to: DType) -> String {
    let from = n.pick(&[F32, I64, Bool, I32, U8, I8]);
    let x = n.any(from);
    let fits = match to {
        F32 | Bool => true,
        I64 | I32 => !n.is_special(),
        _ => !n.is_special() && to == I8 && n.magnitude(&x) < 127.0,
    };
    if from != F32 || fits { x } else { n.weights(I64, &[4]) }
}

fn cast(n: &mut Net, op: &str) {
    let (dtype, to) = n.pick(&TYPES);
    let x = uncast(n, dtype);
    n.node(op, &[&x], vec![i("to", to)]);
}

fn cast_like(n: &mut Net, op: &str) {
    let (to, _) = n.pick(&TYPES);
    let (x, like) = (uncast(n, to), n.any(to));
    n.node(op, &[&x, &like], vec![]);
}

fn bit_cast(n: &mut Net, op: &str) {
    let (from, to) = n.pick(&[(U8, 3), (I8, 2)]);
    let x = n.any(from);
    n.node(op, &[&x], vec![i("to", to)]);
}
