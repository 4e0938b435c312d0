//! Convolution over `[batch, height, width, channels]`, in f32 and in integers.
//!
//! The same step does transposed convolution (its input seen as upsampled with padding between the rows and columns) and
//! the product with a constant matrix (a 1×1 kernel over rows of width 1).
//!
//! Way of the data: [`Conv::run`] → [`drive`] (tiles, taps, padding) → a microkernel (`MR` pixels × `NR` channels).

use core::ops::Range;

use super::unary::{self, UnaryOp};
use super::{Params, lut};
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure, product};
use crate::format::words::record;
use crate::rows::{Operands, Rows, ViewMut};
use crate::{DType, Element, quant};

/// Output channels in one block of packed weights; equals [`crate::Target::conv_block`] of the generic target.
const NR: usize = 8;
/// Output pixels of a tile.
const MR: usize = 4;

record! {
    /// Parameters of a convolution.
    ///
    /// Inputs: 0 `x [batch, in_h, in_w, in_c]` (f32, i8, u8), 1 packed weights (f32 or i8), 2 bias `[out_c]` (f32 or i32;
    /// for integers it includes `−zx·Σw`), 3 multipliers `[out_c]` f32 (integers only), 4 padding pixel `[in_c]` of x's
    /// type, 5 residual of the output's shape (optional), 6 table `[256]` u8 (optional; applied last to byte outputs).
    /// Output: `[batch, out_h, out_w, out_c]`. Rows: `batch · out_h`.
    ///
    /// Weights are packed as `[group][block of 8 output channels][tap (ky, kx)][input channel][8]`, zero where a block
    /// goes beyond its group's channels.
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

/// Geometry limits that keep every coordinate within 32 bits, shared by all windowed steps.
pub(super) fn window_fits(kernel: [u32; 2], stride: [u32; 2], dilation: [u32; 2], sizes: &[u32]) -> Result<(), Fault> {
    let small = |v: u32| (1..=1 << 14).contains(&v);
    ensure(kernel.iter().chain(&stride).chain(&dilation).all(|&v| small(v)), Fault::Params)?;
    ensure(sizes.iter().all(|&v| (1..=1 << 28).contains(&v)), Fault::Shape)
}

impl Params for Conv {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        let [in_h, in_w, in_c] = self.input;
        let [out_h, out_w, out_c] = self.output;
        window_fits(self.kernel, self.stride, self.dilation, &[self.batch, in_h, in_w, in_c, out_h, out_w, out_c])?;
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
            let (lo, hi) = y.dtype.quantized_range().unwrap_or((-128, 255));
            ensure(lo <= self.q_lo && self.q_lo <= self.q_hi && self.q_hi <= hi, Fault::Params)?;
            ensure((-255..=255).contains(&self.weight_zero), Fault::Params)?;
            ensure((-128..=255).contains(&self.mid_zero), Fault::Params)?;
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

    fn run(&self, o: &Operands<'_>, rows: Range<usize>) {
        let mut out = o.output();
        match (o.input(0).dtype, out.dtype()) {
            (DType::F32, _) => {
                let bias = o.constant::<f32>(2);
                let mut epilogue = FloatEpilogue { conv: self, residual: o.has_input(5).then(|| o.input(5)), out };
                drive::<f32, f32, f32>(self, o, rows, micro_f32::<MR>, micro_f32::<1>, |at, c, acc| {
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

/// Clamps, letting NaN through (`f32::clamp` panics on odd bounds, `max` drops NaN).
#[inline(always)]
pub(super) fn clamp(v: f32, lo: f32, hi: f32) -> f32 {
    if v < lo {
        lo
    } else if v > hi {
        hi
    } else {
        v
    }
}

fn drive_int(p: &Conv, x: DType, o: &Operands<'_>, rows: Range<usize>, mut store: impl FnMut(usize, usize, &[i32])) {
    let zero = p.weight_zero;
    match (x, zero) {
        (DType::U8, 0) => drive::<u8, i8, i32>(p, o, rows, micro_int::<u8, MR>, micro_int::<u8, 1>, store),
        (_, 0) => drive::<i8, i8, i32>(p, o, rows, micro_int::<i8, MR>, micro_int::<i8, 1>, store),
        // An asymmetric weight: (x − zx)(w − zw) needs Σx too; padding pixels hold zx, so the sum over all taps is right.
        (DType::U8, _) => {
            drive::<u8, i8, i32>(p, o, rows, micro_zero::<u8, MR>(zero), micro_zero::<u8, 1>(zero), &mut store)
        }
        (_, _) => drive::<i8, i8, i32>(p, o, rows, micro_zero::<i8, MR>(zero), micro_zero::<i8, 1>(zero), &mut store),
    }
}

/// The loop nest: tiles of pixels, blocks of channels, taps. `store(element, channel, accumulators)` gets each result.
///
/// A tap that lies outside the input reads the padding pixel; there is no other treatment of borders.
#[inline(always)]
fn drive<X: Element, W: Element, A: Copy + Default>(
    p: &Conv,
    o: &Operands<'_>,
    rows: Range<usize>,
    micro: impl Fn(&mut [[A; NR]; MR], [&[X]; MR], &[W]),
    micro_one: impl Fn(&mut [[A; NR]; 1], [&[X]; 1], &[W]),
    mut store: impl FnMut(usize, usize, &[A]),
) {
    let out_w = p.output[1] as usize;
    let mut pixel = rows.start * out_w;
    let end = rows.end * out_w;
    while pixel < end {
        if end - pixel >= MR {
            drive_tile(p, o, pixel, &micro, &mut store);
            pixel += MR;
        } else {
            drive_tile(p, o, pixel, &micro_one, &mut store);
            pixel += 1;
        }
    }
}

/// Where the windows of `M` neighbouring output pixels begin in the (upsampled) input.
struct Windows<const M: usize> {
    /// First input row of the picture the pixel belongs to.
    base: [isize; M],
    top: [isize; M],
    left: [isize; M],
}

#[inline(always)]
fn windows<const M: usize>(p: &Conv, pixel: usize) -> Windows<M> {
    let (out_h, out_w) = (p.output[0] as usize, p.output[1] as usize);
    let mut w = Windows { base: [0; M], top: [0; M], left: [0; M] };
    for m in 0..M {
        let (row, x) = ((pixel + m) / out_w, (pixel + m) % out_w);
        let (picture, y) = (row / out_h, row % out_h);
        w.base[m] = (picture * p.input[0] as usize) as isize;
        w.top[m] = (y * p.stride[0] as usize) as isize - p.pad[0] as isize;
        w.left[m] = (x * p.stride[1] as usize) as isize - p.pad[1] as isize;
    }
    w
}

/// The coordinate in a tensor of size `n` of coordinate `at` in its upsampled form, if there is one.
#[inline(always)]
pub(super) fn source(at: isize, upsample: u32, n: u32) -> Option<usize> {
    let at = usize::try_from(at).ok()?;
    let up = upsample as usize;
    let at = if up == 1 {
        at
    } else if at % up == 0 {
        at / up
    } else {
        return None;
    };
    (at < n as usize).then_some(at)
}

#[inline(always)]
fn drive_tile<X: Element, W: Element, A: Copy + Default, const M: usize>(
    p: &Conv,
    o: &Operands<'_>,
    pixel: usize,
    micro: &impl Fn(&mut [[A; NR]; M], [&[X]; M], &[W]),
    store: &mut impl FnMut(usize, usize, &[A]),
) {
    let [in_h, in_w, in_c] = p.input;
    let in_c = in_c as usize;
    let x: Rows<'_> = o.input(0).rows((p.batch * in_h) as usize, in_w as usize * in_c);
    let weights = o.constant::<W>(1);
    let padding = o.constant::<X>(4);
    let (kernel_h, kernel_w) = (p.kernel[0] as usize, p.kernel[1] as usize);
    let (group_in, group_out, blocks) = (p.group_in(), p.group_out(), p.blocks());
    let win = windows::<M>(p, pixel);
    // Neighbouring taps are neighbours in memory too when nothing lies between them and none is outside.
    let joined = p.groups == 1
        && p.dilation[1] == 1
        && p.upsample[1] == 1
        && win.left.iter().all(|&l| l >= 0 && l as usize + kernel_w <= in_w as usize);
    let (calls, per_call) = if joined { (1, kernel_w * in_c) } else { (kernel_w, group_in) };
    for g in 0..p.groups as usize {
        for b in 0..blocks {
            let mut acc = [[A::default(); NR]; M];
            let mut at = (g * blocks + b) * p.taps() * group_in * NR;
            for ky in 0..kernel_h {
                let mut row = [None; M];
                for m in 0..M {
                    let y = source(win.top[m] + (ky * p.dilation[0] as usize) as isize, p.upsample[0], in_h);
                    row[m] = y.and_then(|y| x.row::<X>(win.base[m] + y as isize));
                }
                for kx in 0..calls {
                    let mut tap = [&padding[..0]; M];
                    for m in 0..M {
                        let column = source(win.left[m] + (kx * p.dilation[1] as usize) as isize, p.upsample[1], in_w);
                        tap[m] = match (row[m], column) {
                            (Some(row), Some(column)) => &row[column * in_c + g * group_in..][..per_call],
                            // A joined call over a missing row falls back to its taps one by one below.
                            _ => &padding[g * group_in..][..group_in],
                        };
                    }
                    if joined && tap.iter().any(|t| t.len() != per_call) {
                        for k in 0..kernel_w {
                            let mut one = tap;
                            for t in one.iter_mut().filter(|t| t.len() == per_call) {
                                *t = &t[k * in_c..][..in_c];
                            }
                            micro(&mut acc, one, &weights[at..][..in_c * NR]);
                            at += in_c * NR;
                        }
                    } else {
                        micro(&mut acc, tap, &weights[at..][..per_call * NR]);
                        at += per_call * NR;
                    }
                }
            }
            let channel = g * group_out + b * NR;
            let n = NR.min(group_out - b * NR);
            for (m, acc) in acc.iter().enumerate() {
                store((pixel + m) * p.output[2] as usize + channel, channel, &acc[..n]);
            }
        }
    }
}

#[inline(always)]
fn micro_f32<const M: usize>(acc: &mut [[f32; NR]; M], x: [&[f32]; M], w: &[f32]) {
    let k = w.len() / NR;
    let mut a = *acc;
    let x = x.map(|x| &x[..k]);
    for (i, w) in w.chunks_exact(NR).enumerate() {
        for m in 0..M {
            for n in 0..NR {
                a[m][n] += x[m][i] * w[n];
            }
        }
    }
    *acc = a;
}

#[inline(always)]
fn micro_int<X: Element + Into<i16>, const M: usize>(acc: &mut [[i32; NR]; M], x: [&[X]; M], w: &[i8]) {
    let k = w.len() / NR;
    let mut a = *acc;
    let x = x.map(|x| &x[..k]);
    for (i, w) in w.chunks_exact(NR).enumerate() {
        let mut wide = [0i16; NR];
        for n in 0..NR {
            wide[n] = i16::from(w[n]);
        }
        for m in 0..M {
            let v: i16 = x[m][i].into();
            for n in 0..NR {
                a[m][n] = a[m][n].wrapping_add(i32::from(v) * i32::from(wide[n]));
            }
        }
    }
    *acc = a;
}

#[inline(always)]
fn micro_zero<X: Element + Into<i16>, const M: usize>(zero: i32) -> impl Fn(&mut [[i32; NR]; M], [&[X]; M], &[i8]) {
    move |acc, x, w| {
        micro_int(acc, x, w);
        for m in 0..M {
            let sum: i32 = x[m][..w.len() / NR].iter().map(|&v| i32::from(v.into())).sum();
            for a in &mut acc[m] {
                *a = a.wrapping_sub(sum.wrapping_mul(zero));
            }
        }
    }
}
