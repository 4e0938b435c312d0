//! Convolution over `[batch, height, width, channels]`, in f32 and in integers.
//!
//! The same step does transposed convolution (its input seen as upsampled with padding between the rows and columns) and
//! the product with a constant matrix (a 1×1 kernel over rows of width 1).
//!
//! Way of the data: [`Conv::run`] → [`drive`] (tiles, taps, padding) → [`Arithmetic::block`], the microkernel (`MR` pixels ×
//! `NR` channels).

mod driver;

use core::ops::Range;

use super::unary::{self, UnaryOp};
use super::window::window_fits;
use super::{Params, lut};
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure, product};
use crate::format::words::record;
use crate::math::clamp;
use crate::rows::{Operands, ViewMut};
use crate::{DType, quant};
use driver::{Float, Int, NR, drive};

record! {
    /// Parameters of a convolution.
    ///
    /// Inputs: 0 `x [batch, in_h, in_w, in_c]` (f32, i8, u8), 1 packed weights (f32 or i8), 2 bias `[out_c]` (f32 or i32;
    /// for integers it includes `−zx·Σw`), 3 multipliers `[out_c]` f32 (integers only), 4 padding pixel `[in_c]` of x's
    /// type, 5 residual of the output's shape (optional), 6 table `[256]` u8 (optional; applied last to byte outputs).
    /// Output: `[batch, out_h, out_w, out_c]`. Rows: `batch · out_h`.
    ///
    /// Weights are packed by blocks of 8 output channels, zero where a block goes beyond its group's channels. With
    /// `k = (tap (ky, kx), input channel)`: floats as `[group][block][k][8]`, integers as `[group][block][8][k]`.
    ///
    /// Floats: `y = post(clamp(Σ x·w + bias [+ residual], lo, hi))`. Integers: `acc = Σ x·w + bias`, then
    /// `q = clamp(round(f32(acc)·m) + mid_zero, q_lo, q_hi)`; with a residual `q` becomes
    /// `quantize(dequantize(q) + dequantize(residual))`; then the table. Integers to float: `post(clamp(f32(acc)·m, lo, hi))`.
    pub struct Conv {
        /// Pictures.
        pub batch: u32,
        /// Height, width, channels of the input.
        pub input: [u32; 3],
        /// Height, width, channels of the output.
        pub output: [u32; 3],
        /// Groups of channels that do not see each other.
        pub groups: u32,
        /// Kernel height and width.
        pub kernel: [u32; 2],
        /// Steps of the window, vertical and horizontal.
        pub stride: [u32; 2],
        /// Distance between taps.
        pub dilation: [u32; 2],
        /// Rows above and columns left of the input that the first window covers; may be negative.
        pub pad: [i32; 2],
        /// Upsampling of the input: 1 for a convolution, the stride of a transposed one.
        pub upsample: [u32; 2],
        /// Output channels in a block of packed weights.
        pub block: u32,
        /// Lower bound of a float result.
        pub lo: f32,
        /// Upper bound of a float result.
        pub hi: f32,
        /// Lower bound of the integer result.
        pub q_lo: i32,
        /// Upper bound of the integer result.
        pub q_hi: i32,
        /// Zero point of the weights as packed.
        pub weight_zero: i32,
        /// Scale of the integer result before a residual is added.
        pub mid_scale: f32,
        /// Zero point of the integer result before a residual is added.
        pub mid_zero: i32,
        /// Function applied to a float result.
        pub post: UnaryOp,
        /// First parameter of `post`.
        pub alpha: f32,
        /// Second parameter of `post`.
        pub beta: f32,
    }
}

impl Conv {
    fn taps(&self) -> usize {
        (self.kernel[0] * self.kernel[1]) as usize
    }

    fn group_in(&self) -> usize {
        (self.input[2] / self.groups) as usize
    }

    fn group_out(&self) -> usize {
        (self.output[2] / self.groups) as usize
    }

    fn blocks(&self) -> usize {
        self.group_out().div_ceil(NR)
    }
}

impl Params for Conv {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        let [in_h, in_w, in_c] = self.input;
        let [out_h, out_w, out_c] = self.output;
        window_fits(
            self.kernel,
            self.stride,
            self.dilation,
            [out_h, out_w],
            &[self.batch, in_h, in_w, in_c, out_h, out_w, out_c],
        )?;
        ensure(self.upsample.iter().all(|u| (1..=1 << 14).contains(u)), Fault::Params)?;
        ensure(self.pad.iter().all(|p| p.unsigned_abs() <= 1 << 28), Fault::Params)?;
        ensure(self.groups > 0 && in_c % self.groups == 0 && out_c % self.groups == 0, Fault::Params)?;
        ensure(self.block as usize == NR, Fault::Params)?;
        let x = c.input(0)?;
        let y = c.output()?;
        c.size(&x, &[self.batch, in_h, in_w, in_c])?;
        c.size(&y, &[self.batch, out_h, out_w, out_c])?;
        let float = x.dtype == DType::F32;
        ensure(float || matches!(x.dtype, DType::I8 | DType::U8), Fault::DType)?;
        let byte_out = matches!(y.dtype, DType::I8 | DType::U8);
        ensure(y.dtype == DType::F32 || (!float && byte_out), Fault::DType)?;
        let (w, b) = if float { (DType::F32, DType::F32) } else { (DType::I8, DType::I32) };
        let per_block = [self.kernel[0], self.kernel[1], in_c / self.groups, self.block];
        let blocks = [self.groups, (out_c / self.groups).div_ceil(self.block), product(&per_block)? as u32];
        c.constant(1, w, &blocks)?;
        c.constant(2, b, &[out_c])?;
        if !float {
            c.constant(3, DType::F32, &[out_c])?;
            // Before a residual or table the integer may be of the other byte type than the output.
            let ends = c.optional(5).is_none() && c.optional(6).is_none();
            let (lo, hi) = y.dtype.quantized_range().filter(|_| ends).unwrap_or((-128, 255));
            ensure(lo <= self.q_lo && self.q_lo <= self.q_hi && self.q_hi <= hi, Fault::Params)?;
            ensure((-255..=255).contains(&self.weight_zero), Fault::Params)?;
            ensure((-128..=255).contains(&self.mid_zero), Fault::Params)?;
            // Keeps the sum of a run of bytes within 32 bits.
            ensure(product(&[self.kernel[1], in_c])? <= 1 << 22, Fault::Params)?;
        }
        c.constant(4, x.dtype, &[in_c])?;
        if let Some(r) = c.optional(5) {
            c.size(&r, &[self.batch, out_h, out_w, out_c])?;
            ensure((r.dtype == DType::F32) == (y.dtype == DType::F32), Fault::DType)?;
            ensure(matches!(r.dtype, DType::F32 | DType::I8 | DType::U8), Fault::DType)?;
        }
        if c.optional(6).is_some() {
            ensure(byte_out, Fault::DType)?;
            c.constant(6, DType::U8, &[256])?;
        }
        // The residual may be overwritten: its pixel is read before that pixel is stored.
        Ok(Verdict::rows(product(&[self.batch, out_h])?).in_place(1 << 5))
    }

    #[inline(always)]
    fn run(&self, o: &Operands<'_>, rows: Range<usize>) {
        let mut out = o.output();
        match (o.input(0).dtype, out.dtype()) {
            (DType::F32, _) => {
                let bias = o.constant::<f32>(2);
                let mut epilogue = FloatEpilogue { conv: self, residual: o.has_input(5).then(|| o.input(5)), out };
                drive::<f32, Float>(self, o, rows, |at, c, acc, _| {
                    let mut v = [0f32; NR];
                    for (v, (a, b)) in v.iter_mut().zip(acc.iter().zip(&bias[c..])) {
                        *v = a + b;
                    }
                    epilogue.store(at, &mut v[..acc.len()]);
                });
            }
            (x, DType::F32) => {
                let (bias, m) = (o.constant::<i32>(2), o.constant::<f32>(3));
                let mut epilogue = FloatEpilogue { conv: self, residual: o.has_input(5).then(|| o.input(5)), out };
                drive_int(self, x, o, rows, |at, c, acc| {
                    let mut v = [0f32; NR];
                    for (i, (v, &a)) in v.iter_mut().zip(acc).enumerate() {
                        *v = a.wrapping_add(bias[c + i]) as f32 * m[c + i];
                    }
                    epilogue.store(at, &mut v[..acc.len()]);
                });
            }
            (x, _) => {
                let (bias, m) = (o.constant::<i32>(2), o.constant::<f32>(3));
                let residual = o.has_input(5).then(|| o.input(5));
                let table = o.has_input(6).then(|| o.constant::<u8>(6));
                let (lo, hi, zero) = (self.q_lo, self.q_hi, self.mid_zero);
                drive_int(self, x, o, rows, |at, c, acc| {
                    let mut q = [0i32; NR];
                    for (i, (q, &a)) in q.iter_mut().zip(acc).enumerate() {
                        *q = quant::requantize(a.wrapping_add(bias[c + i]), m[c + i], zero, lo, hi);
                    }
                    let n = acc.len();
                    if let Some(r) = &residual {
                        let mut v = [0f32; NR];
                        r.load(at, &mut v[..n]);
                        for (v, &q) in v[..n].iter_mut().zip(&q) {
                            *v += quant::dequantize(q, self.mid_scale, zero);
                        }
                        out.store(at, &v[..n]);
                    } else {
                        // i8 and u8 are both the low byte.
                        for (o, &q) in out.slice::<u8>(at, n).iter_mut().zip(&q) {
                            *o = q as u8;
                        }
                    }
                    if let Some(t) = table {
                        lut::apply(t, out.slice::<u8>(at, n));
                    }
                });
            }
        }
    }
}

struct FloatEpilogue<'a> {
    conv: &'a Conv,
    residual: Option<crate::rows::View<'a>>,
    out: ViewMut<'a>,
}

impl FloatEpilogue<'_> {
    #[inline(always)]
    fn store(&mut self, at: usize, v: &mut [f32]) {
        if let Some(r) = &self.residual {
            let mut add = [0f32; NR];
            let add = &mut add[..v.len()];
            r.load(at, add);
            for (v, a) in v.iter_mut().zip(add) {
                *v += *a;
            }
        }
        for v in v.iter_mut() {
            *v = clamp(*v, self.conv.lo, self.conv.hi);
        }
        if self.conv.post != UnaryOp::Identity {
            unary::apply(self.conv.post, self.conv.alpha, self.conv.beta, v);
        }
        self.out.slice::<f32>(at, v.len()).copy_from_slice(v);
    }
}

#[inline(always)]
fn drive_int(p: &Conv, x: DType, o: &Operands<'_>, rows: Range<usize>, mut store: impl FnMut(usize, usize, &[i32])) {
    let zero = p.weight_zero;
    // (x − zx)(w − zw) needs Σx where zw is not 0; padding pixels hold zx, so the sum over all taps is right.
    let store = |at: usize, c: usize, acc: &mut [i32], sum: i32| {
        if zero != 0 {
            acc.iter_mut().for_each(|a| *a = a.wrapping_sub(sum.wrapping_mul(zero)));
        }
        store(at, c, acc);
    };
    if x == DType::U8 {
        drive::<u8, Int>(p, o, rows, store);
    } else {
        drive::<i8, Int>(p, o, rows, store);
    }
}
