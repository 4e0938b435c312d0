//! Functions of two and three elements, casts and tables.

use super::walk::{broadcast, walk};
use super::{Call, post};
use crate::array::{Array, Numbers};
use crate::graph::BinaryOp;

pub(super) fn binary(call: &Call<'_>, op: BinaryOp) -> Numbers {
    let shape = &call.output().shape;
    if call.in_integers() {
        let (a, b) = (call.array(0), call.array(1));
        let (sa, sb) = (broadcast(&a.shape, shape), broadcast(&b.shape, shape));
        let (a, b) = (a.ints(), b.ints());
        let mut y = Vec::with_capacity(call.output().len());
        walk(shape, [&sa, &sb], [0, 0], |[i, j]| y.push(integer_operation(op, a[i], b[j])));
        return Numbers::I(y);
    }
    let (a, b) = (call.real(0), call.real(1));
    let (sa, sb) = (broadcast(a.shape, shape), broadcast(b.shape, shape));
    let mut y = Vec::with_capacity(call.output().len());
    walk(shape, [&sa, &sb], [0, 0], |[i, j]| y.push(operation(op, a.v[i], b.v[j])));
    Numbers::F(y)
}

fn truth(t: bool) -> f64 {
    f64::from(u8::from(t))
}

/// A function of two reals.
pub(super) fn operation(op: BinaryOp, a: f64, b: f64) -> f64 {
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Pow => a.powf(b),
        // `min` and `max` drop NaN, ONNX Runtime keeps it.
        BinaryOp::Min | BinaryOp::Max if a.is_nan() || b.is_nan() => f64::NAN,
        BinaryOp::Min => a.min(b),
        BinaryOp::Max => a.max(b),
        BinaryOp::PRelu => {
            if a < 0.0 {
                a * b
            } else {
                a
            }
        }
        BinaryOp::Equal => truth(a == b),
        BinaryOp::Greater => truth(a > b),
        BinaryOp::GreaterOrEqual => truth(a >= b),
        BinaryOp::Less => truth(a < b),
        BinaryOp::LessOrEqual => truth(a <= b),
        BinaryOp::And => truth(a != 0.0 && b != 0.0),
        BinaryOp::Or => truth(a != 0.0 || b != 0.0),
        BinaryOp::Xor => truth((a != 0.0) != (b != 0.0)),
        BinaryOp::Mod => {
            let rest = a % b;
            if rest != 0.0 && rest.is_sign_negative() != b.is_sign_negative() { rest + b } else { rest }
        }
        BinaryOp::Fmod => a % b,
        BinaryOp::BitwiseAnd
        | BinaryOp::BitwiseOr
        | BinaryOp::BitwiseXor
        | BinaryOp::ShiftLeft
        | BinaryOp::ShiftRight => integer_operation(op, a as i64, b as i64) as f64,
    }
}

fn integer_operation(op: BinaryOp, a: i64, b: i64) -> i64 {
    match op {
        BinaryOp::Add => a.wrapping_add(b),
        BinaryOp::Sub => a.wrapping_sub(b),
        BinaryOp::Mul => a.wrapping_mul(b),
        BinaryOp::Div => {
            if b == 0 {
                0
            } else {
                a.wrapping_div(b)
            }
        }
        BinaryOp::Pow => integer_power(a, b),
        BinaryOp::Min => a.min(b),
        BinaryOp::Max => a.max(b),
        BinaryOp::PRelu => {
            if a < 0 {
                a.wrapping_mul(b)
            } else {
                a
            }
        }
        BinaryOp::Equal => (a == b).into(),
        BinaryOp::Greater => (a > b).into(),
        BinaryOp::GreaterOrEqual => (a >= b).into(),
        BinaryOp::Less => (a < b).into(),
        BinaryOp::LessOrEqual => (a <= b).into(),
        BinaryOp::And => (a != 0 && b != 0).into(),
        BinaryOp::Or => (a != 0 || b != 0).into(),
        BinaryOp::Xor => ((a != 0) != (b != 0)).into(),
        BinaryOp::Mod => {
            // The Euclidean rest is never negative.
            let rest = if b == 0 { 0 } else { i128::from(a).rem_euclid(b.into()) };
            (if b < 0 && rest != 0 { rest + i128::from(b) } else { rest }) as i64
        }
        BinaryOp::Fmod => {
            if b == 0 {
                0
            } else {
                (i128::from(a) % i128::from(b)) as i64
            }
        }
        BinaryOp::BitwiseAnd => a & b,
        BinaryOp::BitwiseOr => a | b,
        BinaryOp::BitwiseXor => a ^ b,
        BinaryOp::ShiftLeft => {
            if (0..64).contains(&b) {
                a << b
            } else {
                0
            }
        }
        BinaryOp::ShiftRight => {
            if (0..64).contains(&b) {
                a >> b
            } else {
                a.signum().min(0)
            }
        }
    }
}

/// `aᵇ`, wrapping. A negative power is the real one cut towards zero; that of 0 is a division by 0 and gives 0 (see `fault`).
fn integer_power(a: i64, b: i64) -> i64 {
    if b < 0 {
        return match a {
            1 => 1,
            -1 => 1 - 2 * (b & 1),
            _ => 0,
        };
    }
    let (mut y, mut square, mut rest) = (1i64, a, b);
    while rest > 0 {
        if rest & 1 == 1 {
            y = y.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        rest >>= 1;
    }
    y
}

/// `a·b + c`, b and c broadcast to a.
pub(super) fn scale_shift(call: &Call<'_>) -> Numbers {
    let (a, b, c) = (call.real(0), call.real(1), call.real(2));
    let (sb, sc) = (broadcast(b.shape, a.shape), broadcast(c.shape, a.shape));
    let mut y = Vec::with_capacity(a.v.len());
    walk(a.shape, [&sb, &sc], [0, 0], |[i, j]| y.push(a.v[y.len()] * b.v[i] + c.v[j]));
    Numbers::F(y)
}

/// b where a is not 0, else c.
pub(super) fn select(call: &Call<'_>) -> Numbers {
    let shape = &call.output().shape;
    let which = call.real(0);
    let stride = |i: usize| broadcast(&call.array(i).shape, shape);
    let strides = [&stride(0)[..], &stride(1), &stride(2)];
    let n = call.output().len();
    if call.gives_integers() && call.is_integer(1) && call.is_integer(2) {
        let (b, c) = (call.array(1).ints(), call.array(2).ints());
        let mut y = Vec::with_capacity(n);
        walk(shape, strides, [0; 3], |[i, j, k]| y.push(if which.v[i] != 0.0 { b[j] } else { c[k] }));
        return Numbers::I(y);
    }
    let (b, c) = (call.real(1), call.real(2));
    let mut y = Vec::with_capacity(n);
    walk(shape, strides, [0; 3], |[i, j, k]| y.push(if which.v[i] != 0.0 { b.v[j] } else { c.v[k] }));
    Numbers::F(y)
}

/// To the type of the output, which knows how: integers wrap, reals are cut.
pub(super) fn cast(call: &Call<'_>) -> Numbers {
    if call.in_integers() {
        Numbers::I(call.array(0).ints().into_owned())
    } else {
        Numbers::F(call.real(0).v.into_owned())
    }
}

/// A function of each byte by table.
pub(super) fn lut(call: &Call<'_>, table: &[u8]) -> Numbers {
    let x: &Array = call.array(0);
    Numbers::I(post::look_up(table, &x.ints(), call.output().dtype))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::graph::{Op, Quant};
    use kinglet::DType;

    #[test]
    fn binary_broadcasts() {
        let y = reals(Op::Binary(BinaryOp::Sub), &[iota(&[2, 1]), f(&[3], &[0.0, 10.0, 20.0])], &[2, 3]);
        assert_eq!(y, [0.0, -10.0, -20.0, 1.0, -9.0, -19.0]);
        let y =
            reals(Op::Binary(BinaryOp::PRelu), &[f(&[2, 2], &[-1., 1., -2., 2.]), f(&[2, 1], &[0.5, 0.25])], &[2, 2]);
        assert_eq!(y, [-0.5, 1.0, -0.5, 2.0]);
        let y = reals(Op::Binary(BinaryOp::Pow), &[f(&[2], &[2.0, 9.0]), f(&[2], &[-1.0, 0.5])], &[2]);
        assert_eq!(y, [0.5, 3.0]);
    }

    #[test]
    fn nan_comes_through_min_and_max() {
        for op in [BinaryOp::Min, BinaryOp::Max] {
            assert!(operation(op, f64::NAN, 1.0).is_nan() && operation(op, 1.0, f64::NAN).is_nan());
        }
    }

    #[test]
    fn comparisons_give_bools() {
        use BinaryOp::*;
        let (a, b) = (f(&[3], &[0.0, 1.0, 2.0]), f(&[], &[1.0]));
        let cases = [
            (Equal, [0, 1, 0]),
            (Greater, [0, 0, 1]),
            (GreaterOrEqual, [0, 1, 1]),
            (Less, [1, 0, 0]),
            (LessOrEqual, [1, 1, 0]),
            (And, [0, 1, 1]),
            (Or, [1, 1, 1]),
            (Xor, [1, 0, 0]),
        ];
        let (ia, ib) = (int(DType::I64, &[3], &[0, 1, 2]), int(DType::I64, &[], &[1]));
        for (op, want) in cases {
            assert_eq!(ints(Op::Binary(op), &[a.clone(), b.clone()], DType::Bool, &[3]), want, "{op:?}");
            assert_eq!(ints(Op::Binary(op), &[ia.clone(), ib.clone()], DType::Bool, &[3]), want, "{op:?}");
        }
    }

    #[test]
    fn integer_arithmetic() {
        use BinaryOp::*;
        let of = |op, a, b| {
            ints(Op::Binary(op), &[int(DType::I64, &[1], &[a]), int(DType::I64, &[1], &[b])], DType::I64, &[1])[0]
        };
        assert_eq!(of(Add, i64::MAX - 1, 1), i64::MAX);
        assert_eq!((of(Div, -7, 2), of(Div, 7, -2), of(Div, 7, 0), of(Div, i64::MIN, -1)), (-3, -3, 0, i64::MIN));
        assert_eq!((of(Pow, -3, 3), of(Pow, 2, -1), of(Pow, -1, -3), of(Pow, 5, 0)), (-27, 0, -1, 1));
        assert_eq!((of(Min, -3, 3), of(Max, -3, 3), of(Mul, -3, 3), of(Sub, -3, 3)), (-3, 3, -9, -6));
        // The sum of two i32 wraps, that of mixed types is real.
        let (a, b) = (int(DType::I32, &[1], &[i32::MAX.into()]), int(DType::I32, &[1], &[1]));
        assert_eq!(ints(Op::Binary(Add), &[a.clone(), b], DType::I32, &[1]), [i32::MIN.into()]);
        assert_eq!(reals(Op::Binary(Add), &[a, f(&[1], &[0.5])], &[1]), [2_147_483_647.5]);
    }

    #[test]
    fn quantised_sum() {
        let a = quantized(DType::I8, &[2], &[10, 127], Quant::per_tensor(0.1, 0));
        let b = quantized(DType::U8, &[2], &[130, 255], Quant::per_tensor(0.5, 128));
        let y = eval(Op::Binary(BinaryOp::Add), &[a, b], &like(DType::I8, &[2], Some(Quant::per_tensor(0.5, -1))));
        // 1 + 1 → 4 − 1; 12.7 + 63.5 saturates.
        assert_eq!(y.numbers(), Numbers::I(vec![3, 127]));
    }

    #[test]
    fn scale_and_shift() {
        let y = reals(Op::ScaleShift, &[iota(&[1, 2, 2]), f(&[2, 1], &[1.0, 10.0]), f(&[1], &[0.5])], &[1, 2, 2]);
        assert_eq!(y, [0.5, 1.5, 20.5, 30.5]);
    }

    #[test]
    fn where_selects() {
        let which = int(DType::Bool, &[2, 1], &[1, 0]);
        assert_eq!(
            reals(Op::Where, &[which.clone(), f(&[2], &[1.0, 2.0]), f(&[], &[f64::NAN])], &[2, 2])[..2],
            [1.0, 2.0]
        );
        let (b, c) = (int(DType::I64, &[], &[i64::MAX]), int(DType::I64, &[2], &[3, i64::MIN]));
        assert_eq!(ints(Op::Where, &[which, b, c], DType::I64, &[2, 2]), [i64::MAX, i64::MAX, 3, i64::MIN]);
    }

    #[test]
    fn casts() {
        let to = |dtype, x: &[f64]| ints(Op::Cast(dtype), &[f(&[x.len()], x)], dtype, &[x.len()]);
        assert_eq!(to(DType::I32, &[-1.9, 1.9, 1e20]), [-1, 1, i32::MAX.into()]);
        assert_eq!(to(DType::U8, &[-1.9, 300.0]), [0, 255]);
        assert_eq!(to(DType::Bool, &[0.0, 0.3, -2.0]), [0, 1, 1]);
        let from = |dtype, x: &[i64]| ints(Op::Cast(dtype), &[int(DType::I64, &[x.len()], x)], dtype, &[x.len()]);
        assert_eq!(from(DType::I32, &[1 << 32 | 5, -1]), [5, -1]);
        assert_eq!(from(DType::U8, &[256, -1]), [0, 255]);
        assert_eq!(from(DType::Bool, &[256, 0]), [1, 0]);
        assert_eq!(reals(Op::Cast(DType::F32), &[int(DType::I64, &[1], &[16_777_217])], &[1]), [16_777_217.0]);
        assert_eq!(reals(Op::Cast(DType::F32), &[f(&[1], &[0.1])], &[1]), [0.1]);
        let q = quantized(DType::I8, &[1], &[7], Quant::per_tensor(0.5, 0));
        assert_eq!(ints(Op::Cast(DType::I64), &[q], DType::I64, &[1]), [3]);
    }

    #[test]
    fn tables_read_the_bits_of_a_byte() {
        let table: Vec<u8> = (0..=255u8).rev().collect();
        let x = quantized(DType::I8, &[3], &[-1, 0, 1], Quant::per_tensor(1.0, 0));
        let q = Some(Quant::per_tensor(1.0, 0));
        let y = eval(Op::Lut { table: table.clone() }, from_ref(&x), &like(DType::U8, &[3], q.clone()));
        assert_eq!(y.numbers(), Numbers::I(vec![0, 255, 254]));
        let y = eval(Op::Lut { table }, &[x], &like(DType::I8, &[3], q));
        assert_eq!(y.numbers(), Numbers::I(vec![0, -1, -2]));
    }
}
