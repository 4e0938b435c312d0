//! A function of each element.

use core::ops::Range;

use super::walk::elements;
use super::{OpSet, Params};
use crate::bands::{Rule, Window};
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure, work};
use crate::format::words::{code, record};
use crate::math;
use crate::math::clamp;
use crate::rows::{BUFFER, Operands, Tile, buffers};

code! {
    /// Functions of one real. Parameters `a` and `b` where they have any; sources are the ONNX operators of the same name.
    pub enum UnaryOp {
        /// `x`
        Identity = 0,
        /// `−x`
        Neg = 1,
        /// `|x|`
        Abs = 2,
        /// Square root.
        Sqrt = 3,
        /// `1/x`
        Reciprocal = 4,
        /// `eˣ`
        Exp = 5,
        /// Natural logarithm.
        Log = 6,
        /// Error function.
        Erf = 7,
        /// `max(x, 0)`
        Relu = 8,
        /// `x` if positive, else `a·x`.
        LeakyRelu = 9,
        /// `min(max(x, a), b)`
        Clip = 10,
        /// `1/(1 + e⁻ˣ)`
        Sigmoid = 11,
        /// Hyperbolic tangent.
        Tanh = 12,
        /// `x·Φ(x)`
        Gelu = 13,
        /// GELU by the tanh approximation.
        GeluTanh = 14,
        /// `max(0, min(1, a·x + b))`
        HardSigmoid = 15,
        /// `x · max(0, min(1, x/6 + 1/2))`
        HardSwish = 16,
        /// `ln(1 + eˣ)`
        Softplus = 17,
        /// `x · sigmoid(a·x)` (SiLU for a = 1)
        Swish = 18,
        /// `x` if positive, else `a·(eˣ − 1)`.
        Elu = 19,
        /// `b·x` if positive, else `b·a·(eˣ − 1)`.
        Selu = 20,
        /// Largest integer not above.
        Floor = 21,
        /// Smallest integer not below.
        Ceil = 22,
        /// Nearest integer, ties to even.
        Round = 23,
        /// −1, 0 or 1.
        Sign = 24,
        /// `x/(1 + |x|)`
        Softsign = 25,
        /// `x^a`
        Pow = 26,
        /// `a·x + b`
        Affine = 27,
        /// Sine.
        Sin = 28,
        /// Cosine.
        Cos = 29,
        /// 1 where `x` is 0, else 0.
        Not = 30,
        /// `x · tanh(ln(1 + eˣ))`
        Mish = 31,
        /// Tangent.
        Tan = 32,
        /// Inverse sine, NaN outside −1 to 1.
        Asin = 33,
        /// Inverse cosine, NaN outside −1 to 1.
        Acos = 34,
        /// Inverse tangent.
        Atan = 35,
        /// Hyperbolic sine.
        Sinh = 36,
        /// Hyperbolic cosine.
        Cosh = 37,
        /// Inverse hyperbolic sine.
        Asinh = 38,
        /// Inverse hyperbolic cosine, NaN below 1.
        Acosh = 39,
        /// Inverse hyperbolic tangent, NaN outside −1 to 1.
        Atanh = 40,
        /// Each bit of the integer the other way round; of a real that of its integer part.
        BitwiseNot = 41,
    }
}

record! {
    /// Parameters of a unary step. Input: 0 `x` (`rows · row` elements of any type); output: as many elements of any type.
    /// The element is dequantised, `op` applied in f32, and the result quantised. With `integer`, the functions that lead from
    /// integers to integers are computed on stored integers, which wrap.
    pub struct Unary {
        /// The function.
        pub op: UnaryOp,
        /// Its first parameter.
        pub alpha: f32,
        /// Its second parameter.
        pub beta: f32,
        /// Rows.
        pub rows: u32,
        /// Elements of a row.
        pub row: u32,
        /// Input and output are integers that stand for themselves.
        pub integer: bool,
    }
}

impl Params for Unary {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        let (x, y) = (c.input(0)?, c.output()?);
        ensure(!self.integer || (!x.dtype.is_float() && !y.dtype.is_float()), Fault::DType)?;
        c.size(&x, &[self.rows, self.row])?;
        c.size(&y, &[self.rows, self.row])?;
        ensure(!self.alpha.is_nan() && !self.beta.is_nan(), Fault::Params)?;
        Ok(Verdict::new(self.rows as usize, work(&[self.rows, self.row, 16])).in_place(1))
    }

    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        (input == 0).then(|| elements(rows, &[self.row]))
    }

    fn row(&self) -> Option<u32> {
        Some(self.row)
    }

    fn rule(&self, input: usize) -> Rule {
        if input == 0 { Rule::Rows(Window::pointwise(self.row)) } else { Rule::Whole }
    }

    fn functions(&self, _: &crate::Step<'_>) -> OpSet {
        let integers = if self.integer { OpSet::INTEGERS } else { OpSet::NONE };
        OpSet::of_functions(&[self.op], &[]).union(integers)
    }

    #[inline(always)]
    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let (x, mut out) = (o.input(0), o.output());
        let row = self.row as usize;
        buffers(rows.start * row..rows.end * row, |at, n| {
            if const { E::OPS.holds(OpSet::INTEGERS) } && self.integer {
                let mut v = [0i64; BUFFER];
                x.load_int(at, &mut v[..n]);
                self.integers(e, &mut v[..n]);
                out.store_int(at, &v[..n]);
                return;
            }
            let mut v = [0f32; BUFFER];
            e.load(&x, at, &mut v[..n]);
            e.unary(self.op, [self.alpha, self.beta], &mut v[..n]);
            e.store(&mut out, at, &v[..n]);
        });
    }
}

impl Unary {
    /// Functions that lead out of the integers are taken of the real and cut towards zero.
    #[inline(always)]
    fn integers<E: Elementwise>(&self, e: E, v: &mut [i64]) {
        for x in v {
            *x = match self.op {
                UnaryOp::Identity | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round => *x,
                UnaryOp::Neg => x.wrapping_neg(),
                UnaryOp::Abs => x.wrapping_abs(),
                UnaryOp::Relu => (*x).max(0),
                UnaryOp::Clip => (*x).max(libm::ceilf(self.alpha) as i64).min(libm::floorf(self.beta) as i64),
                UnaryOp::Sign => x.signum(),
                UnaryOp::Not => i64::from(*x == 0),
                UnaryOp::BitwiseNot => !*x,
                op => {
                    let mut real = [*x as f32];
                    e.unary(op, [self.alpha, self.beta], &mut real);
                    real[0] as i64
                }
            };
        }
    }
}

impl UnaryOp {
    /// Applies the function with parameters `a` and `b` to each element of `v`.
    #[inline(always)]
    pub fn apply(self, [a, b]: [f32; 2], v: &mut [f32]) {
        self.apply_of::<{ OpSet::ALL.bits() }>([a, b], v);
    }

    /// As [`UnaryOp::apply`], if the function is one of a set.
    #[inline(always)]
    pub fn apply_of<const OPS: u128>(self, [a, b]: [f32; 2], v: &mut [f32]) {
        macro_rules! each {
            ($f:expr) => {{
                let f = $f;
                for x in v.iter_mut() {
                    *x = f(*x);
                }
            }};
        }
        macro_rules! choose {
            ($($op:ident $(if $guard:expr)? => $f:expr,)*) => {
                match self {
                    $(UnaryOp::$op if const { OpSet::from_bits(OPS).has_unary(UnaryOp::$op) } $(&& $guard)? => $f,)*
                    _ => {}
                }
            };
        }
        choose! {
            Identity => {},
            Neg => each!(|x: f32| -x),
            Abs => each!(|x: f32| f32::from_bits(x.to_bits() & 0x7fff_ffff)),
            Sqrt => each!(libm::sqrtf),
            Reciprocal => each!(|x: f32| 1.0 / x),
            Exp => each!(math::exp),
            Log => each!(libm::logf),
            Erf => each!(math::erf),
            Relu => each!(|x: f32| if x < 0.0 { 0.0 } else { x }),
            LeakyRelu => each!(|x: f32| if x < 0.0 { a * x } else { x }),
            // The upper bound wins if they cross, as in ONNX.
            Clip if a <= b => each!(|x: f32| clamp(x, a, b)),
            Clip => each!(|x: f32| clamp(if x < a { a } else { x }, f32::NEG_INFINITY, b)),
            Sigmoid => each!(math::sigmoid),
            Tanh => each!(math::tanh),
            Gelu => each!(|x: f32| 0.5 * x * (1.0 + math::erf(x * core::f32::consts::FRAC_1_SQRT_2))),
            GeluTanh => each!(|x: f32| 0.5 * x * (1.0 + math::tanh(0.797_884_6 * (x + 0.044_715 * x * x * x)))),
            HardSigmoid => each!(|x: f32| clamp(a * x + b, 0.0, 1.0)),
            HardSwish => each!(|x: f32| x * clamp(x / 6.0 + 0.5, 0.0, 1.0)),
            Softplus => each!(math::softplus),
            Swish => each!(|x: f32| x * math::sigmoid(a * x)),
            Elu => each!(|x: f32| if x < 0.0 { a * libm::expm1f(x) } else { x }),
            Selu => each!(|x: f32| if x < 0.0 { b * a * libm::expm1f(x) } else { b * x }),
            Floor => each!(libm::floorf),
            Ceil => each!(libm::ceilf),
            Round => each!(libm::rintf),
            Sign => each!(|x: f32| if x > 0.0 {
                1.0
            } else if x < 0.0 {
                -1.0
            } else {
                x
            }),
            Softsign => each!(|x: f32| x / (1.0 + libm::fabsf(x))),
            Pow if a == 2.0 => each!(|x: f32| x * x),
            Pow => each!(|x: f32| libm::powf(x, a)),
            Affine => each!(|x: f32| a * x + b),
            Sin => each!(libm::sinf),
            Cos => each!(libm::cosf),
            Not => each!(|x: f32| if x == 0.0 { 1.0 } else { 0.0 }),
            Mish => each!(|x: f32| x * math::tanh(math::softplus(x))),
            Tan => each!(libm::tanf),
            Asin => each!(libm::asinf),
            Acos => each!(libm::acosf),
            Atan => each!(libm::atanf),
            Sinh => each!(libm::sinhf),
            Cosh => each!(libm::coshf),
            Asinh => each!(libm::asinhf),
            // `acoshf` has numbers for large negative ones, too.
            Acosh => each!(|x: f32| if x < 1.0 { f32::NAN } else { libm::acoshf(x) }),
            Atanh => each!(libm::atanhf),
            BitwiseNot => each!(|x: f32| -1.0 - libm::truncf(x)),
        }
    }
}
