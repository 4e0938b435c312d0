//! Convolution of each channel by itself, over `[batch, height, width, channels]`.

use core::ops::Range;

use super::unary::{self, UnaryOp};
use super::window::{source, window_fits};
use super::{Params, lut};
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure, product};
use crate::format::words::record;
use crate::math::clamp;
use crate::rows::{Operands, Rows};
use crate::{DType, Element, quant};

/// Channels whose accumulators are held at once.
const BLOCK: usize = 32;

record! {
    /// Parameters of a depthwise convolution.
    ///
    /// Inputs: 0 `x [batch, in_h, in_w, c]` (f32, i8, u8), 1 weights `[kernel_h, kernel_w, c]` (f32 or i8), 2 bias `[c]`
    /// (f32 or i32), 3 multipliers `[c]` f32 (integers only), 4 residual of the output's shape (optional), 5 table `[256]`
    /// u8 (optional). Output: `[batch, out_h, out_w, c]`. Rows: `batch · out_h`. Taps outside the input add nothing.
    ///
    /// The arithmetic is that of [`Conv`](super::Conv), with `acc = Σ (x − zx)·(w − weight_zero) + bias`.
    pub struct DepthwiseConv {
        /// Pictures.
        pub batch: u32,
        /// Height and width of the input.
        pub input: [u32; 2],
        /// Height and width of the output.
        pub output: [u32; 2],
        /// Channels.
        pub channels: u32,
        /// Kernel height and width.
        pub kernel: [u32; 2],
        /// Steps of the window.
        pub stride: [u32; 2],
        /// Distance between taps.
        pub dilation: [u32; 2],
        /// Rows above and columns left of the input that the first window covers; may be negative.
        pub pad: [i32; 2],
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

impl Params for DepthwiseConv {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        let ([in_h, in_w], [out_h, out_w], ch) = (self.input, self.output, self.channels);
        window_fits(self.kernel, self.stride, self.dilation, self.output, &[self.batch, in_h, in_w, out_h, out_w, ch])?;
        ensure(self.pad.iter().all(|p| p.unsigned_abs() <= 1 << 28), Fault::Params)?;
        let (x, y) = (c.input(0)?, c.output()?);
        c.size(&x, &[self.batch, in_h, in_w, ch])?;
        c.size(&y, &[self.batch, out_h, out_w, ch])?;
        let float = x.dtype == DType::F32;
        ensure(float || matches!(x.dtype, DType::I8 | DType::U8), Fault::DType)?;
        let byte_out = matches!(y.dtype, DType::I8 | DType::U8);
        ensure(y.dtype == DType::F32 || (!float && byte_out), Fault::DType)?;
        c.constant(1, if float { DType::F32 } else { DType::I8 }, &[self.kernel[0], self.kernel[1], ch])?;
        c.constant(2, if float { DType::F32 } else { DType::I32 }, &[ch])?;
        if !float {
            c.constant(3, DType::F32, &[ch])?;
            // Before a residual or table the integer may be of the other byte type than the output.
            let ends = c.optional(4).is_none() && c.optional(5).is_none();
            let (lo, hi) = y.dtype.quantized_range().filter(|_| ends).unwrap_or((-128, 255));
            ensure(lo <= self.q_lo && self.q_lo <= self.q_hi && self.q_hi <= hi, Fault::Params)?;
            ensure((-255..=255).contains(&self.weight_zero), Fault::Params)?;
            ensure((-128..=255).contains(&self.mid_zero), Fault::Params)?;
        }
        if let Some(r) = c.optional(4) {
            c.size(&r, &[self.batch, out_h, out_w, ch])?;
            ensure((r.dtype == DType::F32) == (y.dtype == DType::F32), Fault::DType)?;
            ensure(matches!(r.dtype, DType::F32 | DType::I8 | DType::U8), Fault::DType)?;
        }
        if c.optional(5).is_some() {
            ensure(byte_out, Fault::DType)?;
            c.constant(5, DType::U8, &[256])?;
        }
        Ok(Verdict::rows(product(&[self.batch, out_h])?).in_place(1 << 4))
    }

    #[inline(always)]
    fn run(&self, o: &Operands<'_>, rows: Range<usize>) {
        let mut out = o.output();
        let residual = o.has_input(4).then(|| o.input(4));
        let x = o.input(0);
        let to_float = out.dtype() == DType::F32;
        let mut float = |at: usize, v: &mut [f32]| {
            if let Some(r) = &residual {
                let mut add = [0f32; BLOCK];
                let add = &mut add[..v.len()];
                r.load(at, add);
                for (v, a) in v.iter_mut().zip(add) {
                    *v += *a;
                }
            }
            for v in v.iter_mut() {
                *v = clamp(*v, self.lo, self.hi);
            }
            if self.post != UnaryOp::Identity {
                unary::apply(self.post, self.alpha, self.beta, v);
            }
            out.slice::<f32>(at, v.len()).copy_from_slice(v);
        };
        if x.dtype == DType::F32 {
            let bias = o.constant::<f32>(2);
            let tap = |acc: &mut [f32], x: &[f32], w: &[f32]| {
                for (a, (x, w)) in acc.iter_mut().zip(x.iter().zip(w)) {
                    *a += x * w;
                }
            };
            drive::<f32, f32, f32>(self, o, rows, tap, |at, c, acc| {
                for (a, b) in acc.iter_mut().zip(&bias[c..]) {
                    *a += b;
                }
                float(at, acc);
            });
            return;
        }
        let (bias, m) = (o.constant::<i32>(2), o.constant::<f32>(3));
        if to_float {
            drive_int(self, o, rows, |at, c, acc| {
                let mut v = [0f32; BLOCK];
                for (i, (v, &a)) in v.iter_mut().zip(acc.iter()).enumerate() {
                    *v = a.wrapping_add(bias[c + i]) as f32 * m[c + i];
                }
                float(at, &mut v[..acc.len()]);
            });
            return;
        }
        let table = o.has_input(5).then(|| o.constant::<u8>(5));
        let (lo, hi, zero) = (self.q_lo, self.q_hi, self.mid_zero);
        drive_int(self, o, rows, |at, c, acc| {
            for ((a, b), m) in acc.iter_mut().zip(&bias[c..]).zip(&m[c..]) {
                *a = quant::requantize(a.wrapping_add(*b), *m, zero, lo, hi);
            }
            let n = acc.len();
            if let Some(r) = &residual {
                let mut v = [0f32; BLOCK];
                r.load(at, &mut v[..n]);
                for (v, &q) in v[..n].iter_mut().zip(acc.iter()) {
                    *v += quant::dequantize(q, self.mid_scale, zero);
                }
                out.store(at, &v[..n]);
            } else {
                // i8 and u8 are both the low byte.
                for (o, &q) in out.slice::<u8>(at, n).iter_mut().zip(acc.iter()) {
                    *o = q as u8;
                }
            }
            if let Some(t) = table {
                lut::apply(t, out.slice::<u8>(at, n));
            }
        });
    }
}

#[inline(always)]
fn drive_int(p: &DepthwiseConv, o: &Operands<'_>, rows: Range<usize>, store: impl FnMut(usize, usize, &mut [i32])) {
    let x = o.input(0);
    let (zx, zw) = (x.zero_point as i16, p.weight_zero as i16);
    if x.dtype == DType::U8 {
        drive::<u8, i8, i32>(p, o, rows, tap_int(zx, zw), store);
    } else {
        drive::<i8, i8, i32>(p, o, rows, tap_int(zx, zw), store);
    }
}

#[inline(always)]
fn tap_int<X: Element + Into<i16>>(zx: i16, zw: i16) -> impl Fn(&mut [i32], &[X], &[i8]) {
    move |acc, x, w| {
        for (a, (&x, &w)) in acc.iter_mut().zip(x.iter().zip(w)) {
            let x: i16 = x.into();
            *a = a.wrapping_add(i32::from(x - zx) * i32::from(i16::from(w) - zw));
        }
    }
}

/// The loop nest: pixels, blocks of channels, taps inside the input.
#[inline(always)]
fn drive<X: Element, W: Element, A: Copy + Default>(
    p: &DepthwiseConv,
    o: &Operands<'_>,
    rows: Range<usize>,
    tap: impl Fn(&mut [A], &[X], &[W]),
    mut store: impl FnMut(usize, usize, &mut [A]),
) {
    let c = p.channels as usize;
    let [in_h, in_w] = p.input;
    let x: Rows<'_> = o.input(0).rows((p.batch * in_h) as usize, in_w as usize * c);
    let weights = o.constant::<W>(1);
    let (out_h, out_w) = (p.output[0] as usize, p.output[1] as usize);
    let kernel_w = p.kernel[1] as usize;
    for row in rows {
        let base = row / out_h * in_h as usize;
        let top = (row % out_h * p.stride[0] as usize) as isize - p.pad[0] as isize;
        for column in 0..out_w {
            let left = (column * p.stride[1] as usize) as isize - p.pad[1] as isize;
            for c0 in (0..c).step_by(BLOCK) {
                let n = BLOCK.min(c - c0);
                let mut acc = [A::default(); BLOCK];
                for ky in 0..p.kernel[0] as usize {
                    let y = source(top + (ky * p.dilation[0] as usize) as isize, 1, in_h);
                    let Some(line) = y.and_then(|y| x.row::<X>((base + y) as isize)) else { continue };
                    for kx in 0..kernel_w {
                        let Some(at) = source(left + (kx * p.dilation[1] as usize) as isize, 1, in_w) else { continue };
                        let pixel = &line[at * c + c0..][..n];
                        let w = &weights[(ky * kernel_w + kx) * c + c0..][..n];
                        if n == BLOCK {
                            // A length known at compile time lets the compiler keep the accumulators in registers.
                            tap(&mut acc, &pixel[..BLOCK], &w[..BLOCK]);
                        } else {
                            tap(&mut acc[..n], pixel, w);
                        }
                    }
                }
                store((row * out_w + column) * c + c0, c0, &mut acc[..n]);
            }
        }
    }
}
