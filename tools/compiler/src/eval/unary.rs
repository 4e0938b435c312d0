//! Functions of one element.

use super::Call;
use crate::array::Numbers;
use crate::graph::UnaryOp;

pub(super) fn unary(call: &Call<'_>, op: UnaryOp, alpha: f64, beta: f64) -> Numbers {
    if call.in_integers() {
        let x = call.array(0).ints();
        return Numbers::I(x.iter().map(|&x| integer_function(op, alpha, beta, x)).collect());
    }
    Numbers::F(call.real(0).v.iter().map(|&x| function(op, alpha, beta, x)).collect())
}

/// A function of one real with its parameters.
pub(super) fn function(op: UnaryOp, a: f64, b: f64, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    // `max` drops NaN, the second term keeps it.
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    match op {
        UnaryOp::Identity => x,
        UnaryOp::Neg => -x,
        UnaryOp::Abs => x.abs(),
        UnaryOp::Sqrt => x.sqrt(),
        UnaryOp::Reciprocal => 1.0 / x,
        UnaryOp::Exp => x.exp(),
        UnaryOp::Log => x.ln(),
        UnaryOp::Erf => libm::erf(x),
        UnaryOp::Relu => clip(x, 0.0, f64::INFINITY),
        UnaryOp::LeakyRelu => {
            if x < 0.0 {
                a * x
            } else {
                x
            }
        }
        UnaryOp::Clip => clip(x, a, b),
        UnaryOp::Sigmoid => sigmoid(x),
        UnaryOp::Tanh => x.tanh(),
        // Φ by the complement, which keeps its digits where Φ is small.
        UnaryOp::Gelu => x * 0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2),
        UnaryOp::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        UnaryOp::HardSigmoid => clip(a * x + b, 0.0, 1.0),
        UnaryOp::HardSwish => x * clip(x / 6.0 + 0.5, 0.0, 1.0),
        UnaryOp::Softplus => softplus(x),
        UnaryOp::Swish => x * sigmoid(a * x),
        UnaryOp::Elu => {
            if x < 0.0 {
                a * x.exp_m1()
            } else {
                x
            }
        }
        UnaryOp::Selu => b * if x < 0.0 { a * x.exp_m1() } else { x },
        UnaryOp::Floor => x.floor(),
        UnaryOp::Ceil => x.ceil(),
        UnaryOp::Round => x.round_ties_even(),
        UnaryOp::Sign => {
            if x == 0.0 {
                0.0
            } else {
                x.signum()
            }
        }
        UnaryOp::Softsign => x / (1.0 + x.abs()),
        UnaryOp::Pow => x.powf(a),
        UnaryOp::Affine => a * x + b,
        UnaryOp::Sin => x.sin(),
        UnaryOp::Cos => x.cos(),
        UnaryOp::Not => f64::from(u8::from(x == 0.0)),
        UnaryOp::Mish => x * softplus(x).tanh(),
        UnaryOp::Tan => x.tan(),
        UnaryOp::Asin => x.asin(),
        UnaryOp::Acos => x.acos(),
        UnaryOp::Atan => x.atan(),
        UnaryOp::Sinh => x.sinh(),
        UnaryOp::Cosh => x.cosh(),
        UnaryOp::Asinh => x.asinh(),
        UnaryOp::Acosh => x.acosh(),
        UnaryOp::Atanh => x.atanh(),
        UnaryOp::BitwiseNot => -1.0 - x.trunc(),
    }
}

/// `min(max(x, lo), hi)`, but NaN stays NaN.
pub(super) fn clip(x: f64, lo: f64, hi: f64) -> f64 {
    if x.is_nan() { x } else { x.max(lo).min(hi) }
}

/// A function of one integer. Those that lead out of the integers are taken of the real and cut towards zero.
fn integer_function(op: UnaryOp, a: f64, b: f64, x: i64) -> i64 {
    match op {
        UnaryOp::Identity | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round => x,
        UnaryOp::Neg => x.wrapping_neg(),
        UnaryOp::Abs => x.wrapping_abs(),
        UnaryOp::Relu => x.max(0),
        UnaryOp::Clip => x.max(a.ceil() as i64).min(b.floor() as i64),
        UnaryOp::Sign => x.signum(),
        UnaryOp::Not => i64::from(x == 0),
        UnaryOp::BitwiseNot => !x,
        _ => function(op, a, b, x as f64) as i64,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::graph::{Op, Quant};
    use kinglet::DType;

    fn each(op: UnaryOp, a: f32, b: f32, x: &[f64]) -> Vec<f64> {
        reals(Op::Unary { op, alpha: a, beta: b }, &[f(&[x.len()], x)], &[x.len()])
    }

    #[test]
    fn functions_of_simple_values() {
        use UnaryOp::*;
        let x = [-2.0, 0.0, 0.5];
        let cases: &[(UnaryOp, f32, f32, [f64; 3])] = &[
            (Identity, 0., 0., x),
            (Neg, 0., 0., [2.0, 0.0, -0.5]),
            (Abs, 0., 0., [2.0, 0.0, 0.5]),
            (Relu, 0., 0., [0.0, 0.0, 0.5]),
            (LeakyRelu, 0.25, 0., [-0.5, 0.0, 0.5]),
            (Clip, -1., 0.25, [-1.0, 0.0, 0.25]),
            (HardSigmoid, 0.25, 0.5, [0.0, 0.5, 0.625]),
            (HardSwish, 0., 0., [-2.0 / 6.0, 0.0, 0.5 * (0.5 + 0.5 / 6.0)]),
            (Floor, 0., 0., [-2.0, 0.0, 0.0]),
            (Ceil, 0., 0., [-2.0, 0.0, 1.0]),
            (Round, 0., 0., [-2.0, 0.0, 0.0]),
            (Sign, 0., 0., [-1.0, 0.0, 1.0]),
            (Softsign, 0., 0., [-2.0 / 3.0, 0.0, 1.0 / 3.0]),
            (Pow, 2., 0., [4.0, 0.0, 0.25]),
            (Affine, 2., 1., [-3.0, 1.0, 2.0]),
            (Not, 0., 0., [0.0, 1.0, 0.0]),
            (Reciprocal, 0., 0., [-0.5, f64::INFINITY, 2.0]),
        ];
        for (op, a, b, want) in cases {
            assert_close(&each(*op, *a, *b, &x), want);
        }
        assert_eq!(each(Round, 0., 0., &[1.5, 2.5, -0.5, -1.5]), [2.0, 2.0, 0.0, -2.0]);
        assert_eq!(each(Sqrt, 0., 0., &[4.0]), [2.0]);
        assert_eq!(each(Pow, 0., 0., &[f64::NAN]), [1.0]);
    }

    #[test]
    fn transcendental_functions() {
        use UnaryOp::*;
        // Digits from tables, or from closed forms at 1.
        let e = std::f64::consts::E;
        let sigmoid = e / (e + 1.0);
        let phi = 0.841_344_746_068_542_9; // Φ(1)
        let cases = [
            (Exp, 0., 0., 1.0, e),
            (Log, 0., 0., 2.0, std::f64::consts::LN_2),
            (Erf, 0., 0., 1.0, 0.842_700_792_949_714_9),
            (Sigmoid, 0., 0., 1.0, sigmoid),
            (Sigmoid, 0., 0., -800.0, 0.0),
            (Tanh, 0., 0., 1.0, 0.761_594_155_955_764_9),
            (Gelu, 0., 0., 1.0, phi),
            (Gelu, 0., 0., -1.0, phi - 1.0),
            (GeluTanh, 0., 0., 1.0, 0.841_191_990_608_276_7),
            (Softplus, 0., 0., 0.0, std::f64::consts::LN_2),
            (Softplus, 0., 0., 800.0, 800.0),
            (Swish, 1., 0., 1.0, sigmoid),
            (Swish, 0.5, 0., 2.0, 2.0 * sigmoid),
            (Elu, 2., 0., -1.0, 2.0 * (1.0 / e - 1.0)),
            (Elu, 2., 0., 3.0, 3.0),
            (Selu, 2., 3., -1.0, 6.0 * (1.0 / e - 1.0)),
            (Selu, 2., 3., 1.0, 3.0),
            (Sin, 0., 0., 1.0, 0.841_470_984_807_896_5),
            (Cos, 0., 0., 1.0, 0.540_302_305_868_139_8),
            // tanh(ln u) = (u² − 1)/(u² + 1)
            (Mish, 0., 0., 1.0, ((1.0 + e).powi(2) - 1.0) / ((1.0 + e).powi(2) + 1.0)),
        ];
        for (op, a, b, x, want) in cases {
            assert_close(&each(op, a, b, &[x]), &[want]);
        }
    }

    #[test]
    fn nan_comes_through() {
        for &op in UnaryOp::ALL.iter().filter(|&&op| op != UnaryOp::Not) {
            assert!(each(op, 0.5, 1.0, &[f64::NAN])[0].is_nan(), "{op:?}");
        }
    }

    #[test]
    fn integers_stay_integers() {
        let big = i64::MAX - 1; // no f64
        let op =
            |op, a, b, x| ints(Op::Unary { op, alpha: a, beta: b }, &[int(DType::I64, &[1], &[x])], DType::I64, &[1]);
        assert_eq!(op(UnaryOp::Neg, 0., 0., big), [-big]);
        assert_eq!(op(UnaryOp::Abs, 0., 0., -big), [big]);
        assert_eq!(op(UnaryOp::Identity, 0., 0., big), [big]);
        assert_eq!(op(UnaryOp::Clip, 0., f32::INFINITY, big), [big]);
        assert_eq!(op(UnaryOp::Clip, -0.5, 7.5, 9), [7]);
        assert_eq!(op(UnaryOp::Sign, 0., 0., -9), [-1]);
        assert_eq!(op(UnaryOp::BitwiseNot, 0., 0., big), [!big]);
        assert_eq!(op(UnaryOp::Sqrt, 0., 0., 8), [2]);
        assert_eq!(ints(Op::unary(UnaryOp::Not), &[int(DType::Bool, &[2], &[0, 1])], DType::Bool, &[2]), [1, 0]);
    }

    #[test]
    fn quantised_functions() {
        let x = quantized(DType::I8, &[3], &[-3, 1, 5], Quant::per_tensor(0.5, 1)); // −2 0 2
        let y = eval(Op::unary(UnaryOp::Relu), &[x], &like(DType::U8, &[3], Some(Quant::per_tensor(0.25, 0))));
        assert_eq!(y.numbers(), Numbers::I(vec![0, 0, 8]));
    }
}
