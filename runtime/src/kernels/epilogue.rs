//! What happens to the sums of a convolution, dense or depthwise, before they are stored.

use super::lut;
use super::unary::{self, UnaryOp};
use crate::error::Fault;
use crate::format::verify::{Check, ensure};
use crate::format::words::record;
use crate::math::clamp;
use crate::rows::{Operands, View, ViewMut};
use crate::{DType, quant};

/// Operands of every convolution.
pub(super) const WEIGHTS: usize = 1;
const BIAS: usize = 2;
const MULTIPLIERS: usize = 3;
pub(super) const RESIDUAL: usize = 4;
const TABLE: usize = 5;

/// Most channels that are finished at once.
const MOST: usize = 32;

record! {
    /// The end of a convolution. Floats: `y = post(clamp(sum + bias [+ residual], lo, hi))`. Integers:
    /// `q = clamp(round(f32(sum + bias)·m) + mid_zero, q_lo, q_hi)`; with a residual `q` becomes
    /// `quantize(dequantize(q) + dequantize(residual))`; then the table. Integers to float:
    /// `post(clamp(f32(sum + bias)·m [+ residual], lo, hi))`.
    ///
    /// Its operands: 2 bias `[channels]` (f32, or i32 for integers), 3 multipliers `m [channels]` f32 (integers only), 4
    /// residual of the output's shape (optional), 5 table `[256]` u8 (optional, byte outputs only).
    pub struct Epilogue {
        /// Lower bound of a float result.
        pub lo: f32,
        /// Upper bound of a float result.
        pub hi: f32,
        /// Lower bound of the integer result.
        pub q_lo: i32,
        /// Upper bound of the integer result.
        pub q_hi: i32,
        /// Scale of the integer result before a residual is added.
        pub mid_scale: f32,
        /// Zero point of the integer result.
        pub mid_zero: i32,
        /// Function applied to a float result.
        pub post: UnaryOp,
        /// First parameter of `post`.
        pub alpha: f32,
        /// Second parameter of `post`.
        pub beta: f32,
    }
}

impl Epilogue {
    /// Checks types and the operands of the end of a convolution with this output.
    pub(super) fn verify(&self, c: &Check<'_>, channels: u32, output: &[u32]) -> Result<(), Fault> {
        let (x, y) = (c.input(0)?, c.output()?);
        c.size(&y, output)?;
        let float = x.dtype == DType::F32;
        ensure(float || matches!(x.dtype, DType::I8 | DType::U8), Fault::DType)?;
        let byte_out = matches!(y.dtype, DType::I8 | DType::U8);
        ensure(y.dtype == DType::F32 || (!float && byte_out), Fault::DType)?;
        c.constant(BIAS, if float { DType::F32 } else { DType::I32 }, &[channels])?;
        if !float {
            c.constant(MULTIPLIERS, DType::F32, &[channels])?;
            // Before a residual or table the integer may be of the other byte type than the output.
            let ends = c.optional(RESIDUAL).is_none() && c.optional(TABLE).is_none();
            let (lo, hi) = y.dtype.quantized_range().filter(|_| ends).unwrap_or((-128, 255));
            ensure(lo <= self.q_lo && self.q_lo <= self.q_hi && self.q_hi <= hi, Fault::Params)?;
            ensure((-128..=255).contains(&self.mid_zero), Fault::Params)?;
        }
        if let Some(r) = c.optional(RESIDUAL) {
            c.size(&r, output)?;
            ensure((r.dtype == DType::F32) == (y.dtype == DType::F32), Fault::DType)?;
            ensure(matches!(r.dtype, DType::F32 | DType::I8 | DType::U8), Fault::DType)?;
        }
        if c.optional(TABLE).is_some() {
            ensure(byte_out, Fault::DType)?;
            c.constant(TABLE, DType::U8, &[256])?;
        }
        Ok(())
    }

    /// Ready to finish sums with these operands.
    #[inline(always)]
    pub(super) fn of<'a>(&'a self, o: &Operands<'a>) -> Finish<'a> {
        let float = o.input(0).dtype == DType::F32;
        let out = o.output();
        Finish {
            params: self,
            bias_f32: if float { o.constant(BIAS) } else { &[] },
            bias_i32: if float { &[] } else { o.constant(BIAS) },
            multipliers: o.constant(MULTIPLIERS),
            residual: o.has_input(RESIDUAL).then(|| o.input(RESIDUAL)),
            table: o.has_input(TABLE).then(|| o.constant(TABLE)),
            to_float: out.dtype() == DType::F32,
            out,
        }
    }
}

/// An epilogue with its operands.
pub(super) struct Finish<'a> {
    params: &'a Epilogue,
    bias_f32: &'a [f32],
    bias_i32: &'a [i32],
    multipliers: &'a [f32],
    residual: Option<View<'a>>,
    table: Option<&'a [u8]>,
    to_float: bool,
    out: ViewMut<'a>,
}

impl Finish<'_> {
    /// Finishes float sums of the channels from `channel` on, and stores them from element `at` on.
    #[inline(always)]
    pub(super) fn float(&mut self, at: usize, channel: usize, sums: &mut [f32]) {
        for (s, b) in sums.iter_mut().zip(&self.bias_f32[channel..]) {
            *s += b;
        }
        self.real(at, sums);
    }

    /// Finishes integer sums of the channels from `channel` on, and stores them from element `at` on.
    #[inline(always)]
    pub(super) fn int(&mut self, at: usize, channel: usize, sums: &mut [i32]) {
        let p = self.params;
        let n = sums.len();
        let (bias, m) = (&self.bias_i32[channel..][..n], &self.multipliers[channel..][..n]);
        if self.to_float {
            let mut v = [0f32; MOST];
            for (i, (v, &s)) in v.iter_mut().zip(sums.iter()).enumerate() {
                *v = s.wrapping_add(bias[i]) as f32 * m[i];
            }
            self.real(at, &mut v[..n]);
            return;
        }
        for (i, s) in sums.iter_mut().enumerate() {
            *s = quant::requantize(s.wrapping_add(bias[i]), m[i], p.mid_zero, p.q_lo, p.q_hi);
        }
        if let Some(r) = &self.residual {
            let mut v = [0f32; MOST];
            r.load(at, &mut v[..n]);
            for (v, &q) in v[..n].iter_mut().zip(sums.iter()) {
                *v += quant::dequantize(q, p.mid_scale, p.mid_zero);
            }
            self.out.store(at, &v[..n]);
        } else {
            // i8 and u8 are both the low byte.
            for (o, &q) in self.out.slice::<u8>(at, n).iter_mut().zip(sums.iter()) {
                *o = q as u8;
            }
        }
        if let Some(t) = self.table {
            lut::apply(t, self.out.slice::<u8>(at, n));
        }
    }

    /// Residual, bounds and function of float results.
    #[inline(always)]
    fn real(&mut self, at: usize, v: &mut [f32]) {
        if let Some(r) = &self.residual {
            let mut add = [0f32; MOST];
            let add = &mut add[..v.len()];
            r.load(at, add);
            for (v, a) in v.iter_mut().zip(add) {
                *v += *a;
            }
        }
        for v in v.iter_mut() {
            *v = clamp(*v, self.params.lo, self.params.hi);
        }
        if self.params.post != UnaryOp::Identity {
            unary::apply(self.params.post, self.params.alpha, self.params.beta, v);
        }
        self.out.slice::<f32>(at, v.len()).copy_from_slice(v);
    }
}
