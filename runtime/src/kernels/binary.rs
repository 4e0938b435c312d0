//! A function of two elements, with broadcasting.

use core::ops::Range;

use super::broadcast::Operand;
use super::walk::{DIMS, contiguous, reached, reaches_only, row_of, rule_of, walk, walk_chunks, walked};
use super::{OpSet, Params};
use crate::bands::Rule;
use crate::elementwise::{Elementwise, Function};
use crate::error::Fault;
use crate::faults::DataFault;
use crate::format::TensorRecord;
use crate::format::verify::{Check, Verdict, ensure};
use crate::format::words::{code, record};
use crate::math;
use crate::rows::{BUFFER, Operands, Tile, View, buffers};

code! {
    /// Functions of two reals; sources are the ONNX operators of the same name. Comparisons give 1 or 0.
    pub enum BinaryOp {
        /// `a + b`
        Add = 0,
        /// `a − b`
        Sub = 1,
        /// `a · b`
        Mul = 2,
        /// `a / b`; integers are cut towards zero, and dividing by 0 gives 0 and is noted as [`DataFault::Division`].
        Div = 3,
        /// `aᵇ`; integers wrap, and a negative power is cut towards zero (that of 0 is a division by 0).
        Pow = 4,
        /// The smaller.
        Min = 5,
        /// The larger.
        Max = 6,
        /// `a` if positive, else `a·b`.
        PRelu = 7,
        /// `a = b`
        Equal = 8,
        /// `a > b`
        Greater = 9,
        /// `a ≥ b`
        GreaterOrEqual = 10,
        /// `a < b`
        Less = 11,
        /// `a ≤ b`
        LessOrEqual = 12,
        /// Both not zero.
        And = 13,
        /// Any not zero.
        Or = 14,
        /// Exactly one not zero.
        Xor = 15,
        /// The rest of a division with the sign of `b`; of integers by 0 it is 0, noted as [`DataFault::Division`].
        Mod = 16,
        /// The rest of a division with the sign of `a` (`Mod` with `fmod`), by 0 as above.
        Fmod = 17,
        /// Bits that both have; of reals those of their integer parts.
        BitwiseAnd = 18,
        /// Bits that any has.
        BitwiseOr = 19,
        /// Bits that exactly one has.
        BitwiseXor = 20,
        /// `a · 2ᵇ`, without the bits that are lost (`BitShift` to the left); 0 if b is negative.
        ShiftLeft = 21,
        /// `a / 2ᵇ` towards −∞ (`BitShift` to the right); 0, or −1 of a negative one, if b is negative.
        ShiftRight = 22,
    }
}

record! {
    /// Parameters of a binary step. Inputs: 0 `a`, 1 `b`, of any types, reached by their strides (elements; 0 repeats; the
    /// innermost is 0 or 1). Output: contiguous over `dims`. Rows: `dims[0]`.
    ///
    /// With `integer` the arithmetic is that of stored integers, which wrap; without it elements are dequantised to f32,
    /// combined, and the result quantised.
    pub struct Binary {
        /// The function.
        pub op: BinaryOp,
        /// Extents of the output: rows first.
        pub dims: [u32; 6],
        /// Strides of `a`.
        pub a_strides: [i32; 6],
        /// Strides of `b`.
        pub b_strides: [i32; 6],
        /// All operands are integers that stand for themselves.
        pub integer: bool,
    }
}

/// Whether an operand's innermost stride is one that they take.
pub(super) fn inner_stride_is_simple(strides: &[i32; DIMS]) -> bool {
    matches!(strides[DIMS - 1], 0 | 1)
}

/// Whether an operand is laid out exactly like a contiguous output, so that the output may take its place.
pub(super) fn in_place(t: &TensorRecord, y: &TensorRecord, dims: &[u32; DIMS], strides: &[i32; DIMS]) -> bool {
    let c = contiguous(dims);
    t.dtype.size() == y.dtype.size() && (0..DIMS).all(|d| dims[d] == 1 || strides[d] == c[d])
}

impl Params for Binary {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        let (a, b, y) = (c.input(0)?, c.input(1)?, c.output()?);
        c.size(&y, &self.dims)?;
        ensure(!self.integer || [a.dtype, b.dtype, y.dtype].iter().all(|d| !d.is_float()), Fault::DType)?;
        let mut mask = 0;
        for (k, (t, strides)) in [(&a, &self.a_strides), (&b, &self.b_strides)].into_iter().enumerate() {
            ensure(inner_stride_is_simple(strides), Fault::Params)?;
            reaches_only(t, &self.dims, 0, strides)?;
            if in_place(t, &y, &self.dims, strides) {
                mask |= 1 << k;
            }
        }
        let each = if self.op == BinaryOp::Pow { 64 } else { 4 };
        Ok(Verdict::new(self.dims[0] as usize, walked(&self.dims, each)).in_place(mask))
    }

    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        let strides = [&self.a_strides, &self.b_strides];
        reached(&self.dims, 0, strides.get(input)?, rows)
    }

    fn row(&self) -> Option<u32> {
        row_of(&self.dims)
    }

    fn rule(&self, input: usize) -> Rule {
        [&self.a_strides, &self.b_strides].get(input).map_or(Rule::Whole, |strides| rule_of(&self.dims, strides))
    }

    fn functions(&self, _: &crate::Step<'_>) -> OpSet {
        let integers = if self.integer { OpSet::INTEGERS } else { OpSet::NONE };
        OpSet::of_functions(&[], &[self.op]).union(integers)
    }

    #[inline(always)]
    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let (a, b, mut out) = (o.input(0), o.input(1), o.output());
        let to = contiguous(&self.dims);
        let strides = [&to, &self.a_strides, &self.b_strides];
        if const { E::OPS.holds(OpSet::INTEGERS) } && self.integer {
            walk(&self.dims, [0; 3], strides, rows, |at, n| {
                let within = strides.map(|s| s[DIMS - 1] as usize);
                buffers(0..n, |start, n| {
                    let from = |k: usize| at[k] as usize + start * within[k];
                    let (mut va, mut vb) = ([0i64; BUFFER], [0i64; BUFFER]);
                    load_int(&a, from(1), within[1], &mut va[..n]);
                    load_int(&b, from(2), within[2], &mut vb[..n]);
                    if self.divides_by_zero(&va[..n], &vb) {
                        o.note(DataFault::Division);
                    }
                    for (x, &b) in va[..n].iter_mut().zip(&vb) {
                        *x = int::<E>(self.op, *x, b);
                    }
                    out.store_int(from(0), &va[..n]);
                });
            });
            return;
        }
        let (mut a, mut b) =
            (Operand::new(a, &self.dims, &self.a_strides), Operand::new(b, &self.dims, &self.b_strides));
        let mut v = [0f32; BUFFER];
        walk_chunks(&self.dims, strides, rows, |[y, pa, pb], runs, n| {
            let chunks = (a.chunk(e, pa, runs, n), b.chunk(e, pb, runs, n));
            if let (Some(a), Some(b)) = chunks
                && e.combine(Function::Binary(self.op), &[a, b], (&mut out, y), runs * n)
            {
                return true;
            }
            let Some(v) = v.get_mut(..runs * n) else { return false };
            a.copy_to(e, pa, runs, n, v);
            e.binary(self.op, v, b.reals(e, pb, runs, n));
            e.store(&mut out, y, v);
            true
        });
    }
}

impl Binary {
    /// Whether the integer function has no result for one of these pairs.
    #[inline(always)]
    fn divides_by_zero(&self, a: &[i64], b: &[i64]) -> bool {
        match self.op {
            BinaryOp::Div | BinaryOp::Mod | BinaryOp::Fmod => b[..a.len()].contains(&0),
            BinaryOp::Pow => a.iter().zip(b).any(|(&a, &b)| a == 0 && b < 0),
            _ => false,
        }
    }
}

/// Loads `out.len()` stored integers from element `start` on, one apart or the same one repeated.
#[inline(always)]
pub(super) fn load_int(v: &View<'_>, start: usize, stride: usize, out: &mut [i64]) {
    if stride == 1 {
        v.load_int(start, out);
    } else {
        let mut one = [0i64];
        v.load_int(start, &mut one);
        out.fill(one[0]);
    }
}

/// A function of two integers, if a program has it.
#[inline(always)]
fn int<E: Elementwise>(op: BinaryOp, a: i64, b: i64) -> i64 {
    macro_rules! choose {
        ($($op:ident $(if $guard:expr)? => $f:expr,)*) => {
            match op {
                $(BinaryOp::$op if const { E::OPS.has_binary(BinaryOp::$op) } $(&& $guard)? => $f,)*
                _ => 0,
            }
        };
    }
    choose! {
        Add => a.wrapping_add(b),
        Sub => a.wrapping_sub(b),
        Mul => a.wrapping_mul(b),
        Div if b != 0 => a.wrapping_div(b),
        Pow => power(a, b),
        Min => a.min(b),
        Max => a.max(b),
        PRelu => if a < 0 { a.wrapping_mul(b) } else { a },
        Equal => i64::from(a == b),
        Greater => i64::from(a > b),
        GreaterOrEqual => i64::from(a >= b),
        Less => i64::from(a < b),
        LessOrEqual => i64::from(a <= b),
        And => i64::from(a != 0 && b != 0),
        Or => i64::from(a != 0 || b != 0),
        Xor => i64::from((a != 0) != (b != 0)),
        Mod if b != 0 => {
            let rest = a.wrapping_rem(b);
            if rest != 0 && (rest < 0) != (b < 0) { rest.wrapping_add(b) } else { rest }
        },
        Fmod if b != 0 => a.wrapping_rem(b),
        BitwiseAnd => a & b,
        BitwiseOr => a | b,
        BitwiseXor => a ^ b,
        ShiftLeft => shift_left(a, b),
        ShiftRight => shift_right(a, b),
    }
}

/// The places of a shift by `b`, if an integer has as many.
fn places(b: i64) -> Option<u32> {
    u32::try_from(b).ok().filter(|&b| b < i64::BITS)
}

fn shift_left(a: i64, b: i64) -> i64 {
    places(b).map_or(0, |b| a.wrapping_shl(b))
}

/// What comes in is the sign.
fn shift_right(a: i64, b: i64) -> i64 {
    a.wrapping_shr(places(b).unwrap_or(i64::BITS - 1))
}

fn power(a: i64, mut b: i64) -> i64 {
    let (mut y, mut square) = (1i64, a);
    if b < 0 {
        // Only 1 and −1 have a whole inverse, themselves.
        return if a == 1 || a == -1 { power(a, b & 1) } else { 0 };
    }
    while b > 0 {
        if b & 1 == 1 {
            y = y.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        b >>= 1;
    }
    y
}

impl BinaryOp {
    /// Whether the function compares, or combines truths: it gives 1 or 0.
    pub const fn gives_truth(self) -> bool {
        matches!(
            self,
            BinaryOp::Equal
                | BinaryOp::Greater
                | BinaryOp::GreaterOrEqual
                | BinaryOp::Less
                | BinaryOp::LessOrEqual
                | BinaryOp::And
                | BinaryOp::Or
                | BinaryOp::Xor
        )
    }

    /// `a[i] = op(a[i], b[i])`
    #[inline(always)]
    pub fn apply(self, a: &mut [f32], b: &[f32]) {
        self.apply_of::<{ OpSet::ALL.bits() }>(a, b);
    }

    /// As [`BinaryOp::apply`], if the function is one of a set.
    #[inline(always)]
    pub fn apply_of<const OPS: u128>(self, a: &mut [f32], b: &[f32]) {
        macro_rules! each {
            ($f:expr) => {{
                let f = $f;
                for (a, &b) in a.iter_mut().zip(b) {
                    *a = f(*a, b);
                }
            }};
        }
        macro_rules! bits {
            ($f:expr) => {
                each!(|a: f32, b: f32| $f(a as i64, b as i64) as f32)
            };
        }
        let truth = |t: bool| if t { 1.0 } else { 0.0 };
        macro_rules! choose {
            ($($op:ident $(if $guard:expr)? => $f:expr,)*) => {
                match self {
                    $(BinaryOp::$op if const { OpSet::from_bits(OPS).has_binary(BinaryOp::$op) } $(&& $guard)? => $f,)*
                    _ => {}
                }
            };
        }
        choose! {
            Add => each!(|a: f32, b: f32| a + b),
            Sub => each!(|a: f32, b: f32| a - b),
            Mul => each!(|a: f32, b: f32| a * b),
            Div => each!(|a: f32, b: f32| a / b),
            Pow => each!(libm::powf),
            // A NaN of either operand is the result, as in ONNX Runtime.
            Min => each!(|a: f32, b: f32| if a < b || a.is_nan() { a } else { b }),
            Max => each!(|a: f32, b: f32| if a > b || a.is_nan() { a } else { b }),
            PRelu => each!(|a: f32, b: f32| if a < 0.0 { a * b } else { a }),
            Equal => each!(|a: f32, b: f32| truth(a == b)),
            Greater => each!(|a: f32, b: f32| truth(a > b)),
            GreaterOrEqual => each!(|a: f32, b: f32| truth(a >= b)),
            Less => each!(|a: f32, b: f32| truth(a < b)),
            LessOrEqual => each!(|a: f32, b: f32| truth(a <= b)),
            And => each!(|a: f32, b: f32| truth(a != 0.0 && b != 0.0)),
            Or => each!(|a: f32, b: f32| truth(a != 0.0 || b != 0.0)),
            Xor => each!(|a: f32, b: f32| truth((a != 0.0) != (b != 0.0))),
            Mod => each!(|a: f32, b: f32| {
                let rest = math::fmod(a, b);
                if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
            }),
            Fmod => each!(math::fmod),
            BitwiseAnd => bits!(|a: i64, b: i64| a & b),
            BitwiseOr => bits!(|a: i64, b: i64| a | b),
            BitwiseXor => bits!(|a: i64, b: i64| a ^ b),
            ShiftLeft => bits!(shift_left),
            ShiftRight => bits!(shift_right),
        }
    }
}
