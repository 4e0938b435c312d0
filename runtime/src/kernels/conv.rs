//! Convolution over `[batch, height, width, channels]`, in f32 and in integers.
//!
//! The same step does transposed convolution (its input seen as upsampled with padding between the rows and columns) and
//! the product with a constant matrix (a 1×1 kernel over rows of width 1).
//!
//! Way of the data: [`Conv::run`] → [`drive`] (tiles, taps, padding) → [`Arithmetic::block`], the microkernel (`MR` pixels ×
//! `NR` channels).

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
/// Inputs of a pixel that are gathered at once.
const RUN: usize = 256;
/// Blocks of output channels whose sums are held at once, so that inputs are gathered once for all of them.
const BLOCKS: usize = 8;

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

/// What differs between float and integer products: the types, and the innermost loops.
trait Arithmetic {
    /// Weights as stored.
    type Weight: Element;
    /// Inputs as gathered for the microkernel.
    type Input: Element;
    /// Sums.
    type Sum: Copy + Default;
    /// Adds the products of `M` pixels (`k` inputs each) with one block of weights, of which inputs `k0 ..` are meant out of
    /// `total`.
    fn block<const M: usize>(
        acc: &mut [[Self::Sum; NR]; M],
        x: [&[Self::Input]; M],
        weights: &[Self::Weight],
        k0: usize,
        total: usize,
    );
    /// The plain sum of inputs, where a correction needs it.
    fn sum(x: &[Self::Input]) -> Self::Sum;
    /// Adds two sums.
    fn add(a: Self::Sum, b: Self::Sum) -> Self::Sum;
}

/// Turns a stored input into the type it is multiplied in.
trait Widen<P> {
    fn widen(self) -> P;
}

impl Widen<f32> for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl Widen<i16> for i8 {
    #[inline(always)]
    fn widen(self) -> i16 {
        self.into()
    }
}

impl Widen<i16> for u8 {
    #[inline(always)]
    fn widen(self) -> i16 {
        self.into()
    }
}

/// The loop nest: tiles of pixels, groups, runs of output channels, runs of inputs, blocks of channels.
/// `store(element, channel, sums, sum of inputs)` gets each result.
///
/// The inputs under a tile's windows are first gathered side by side, where a tap that lies outside the input reads the
/// padding pixel; there is no other treatment of borders.
#[inline(always)]
fn drive<X, T>(
    p: &Conv,
    o: &Operands<'_>,
    rows: Range<usize>,
    mut store: impl FnMut(usize, usize, &mut [T::Sum], T::Sum),
) where
    X: Element + Widen<T::Input>,
    T: Arithmetic,
{
    let out_w = p.output[1] as usize;
    let mut pixel = rows.start * out_w;
    let end = rows.end * out_w;
    while pixel < end {
        if end - pixel >= MR {
            tile::<X, T, MR>(p, o, pixel, &mut store);
            pixel += MR;
        } else {
            tile::<X, T, 1>(p, o, pixel, &mut store);
            pixel += 1;
        }
    }
}

#[inline(always)]
fn tile<X, T, const M: usize>(
    p: &Conv,
    o: &Operands<'_>,
    pixel: usize,
    store: &mut impl FnMut(usize, usize, &mut [T::Sum], T::Sum),
) where
    X: Element + Widen<T::Input>,
    T: Arithmetic,
{
    let [in_h, in_w, in_c] = p.input;
    let x: Rows<'_> = o.input(0).rows((p.batch * in_h) as usize, (in_w * in_c) as usize);
    let weights = o.constant::<T::Weight>(1);
    let padding = o.constant::<X>(4);
    let total = p.taps() * p.group_in();
    let (group_out, blocks) = (p.group_out(), p.blocks());
    let windows: [Window; M] = core::array::from_fn(|m| Window::of(p, pixel + m));
    let mut gathered = [[<T::Input as bytemuck::Zeroable>::zeroed(); RUN]; M];
    for g in 0..p.groups as usize {
        for first in (0..blocks).step_by(BLOCKS) {
            let count = BLOCKS.min(blocks - first);
            let mut acc = [[[T::Sum::default(); NR]; M]; BLOCKS];
            let mut sums = [T::Sum::default(); M];
            for k0 in (0..total).step_by(RUN) {
                let k = RUN.min(total - k0);
                for m in 0..M {
                    windows[m].gather(p, &x, padding, g, k0..k0 + k, &mut gathered[m]);
                    sums[m] = T::add(sums[m], T::sum(&gathered[m][..k]));
                }
                let inputs: [&[T::Input]; M] = core::array::from_fn(|m| &gathered[m][..k]);
                for (b, acc) in acc[..count].iter_mut().enumerate() {
                    let at = (g * blocks + first + b) * total * NR;
                    T::block(acc, inputs, &weights[at..][..total * NR], k0, total);
                }
            }
            for (b, acc) in acc[..count].iter_mut().enumerate() {
                let within = (first + b) * NR;
                let n = NR.min(group_out - within);
                let channel = g * group_out + within;
                for (m, acc) in acc.iter_mut().enumerate() {
                    store((pixel + m) * p.output[2] as usize + channel, channel, &mut acc[..n], sums[m]);
                }
            }
        }
    }
}

/// Where the window of an output pixel begins in the (upsampled) input.
struct Window {
    /// First input row of the picture the pixel belongs to.
    base: isize,
    top: isize,
    left: isize,
}

impl Window {
    #[inline(always)]
    fn of(p: &Conv, pixel: usize) -> Window {
        let (out_h, out_w) = (p.output[0] as usize, p.output[1] as usize);
        let (row, x) = (pixel / out_w, pixel % out_w);
        let (picture, y) = (row / out_h, row % out_h);
        Window {
            base: (picture * p.input[0] as usize) as isize,
            top: (y * p.stride[0] as usize) as isize - p.pad[0] as isize,
            left: (x * p.stride[1] as usize) as isize - p.pad[1] as isize,
        }
    }

    /// Gathers the inputs `range` (of those under the window: taps in order, channels of group `g` within a tap).
    #[inline(always)]
    fn gather<X: Element + Widen<P>, P: Copy>(
        &self,
        p: &Conv,
        x: &Rows<'_>,
        padding: &[X],
        g: usize,
        range: Range<usize>,
        out: &mut [P; RUN],
    ) {
        let [in_h, in_w, in_c] = p.input;
        let (in_c, channels, kernel_w) = (in_c as usize, p.group_in(), p.kernel[1] as usize);
        let line = kernel_w * channels;
        let mut put = |at: usize, from: &[X]| {
            for (o, &v) in out[at - range.start..].iter_mut().zip(from) {
                *o = v.widen();
            }
        };
        // Neighbouring taps are neighbours in memory too when nothing lies between them and none is outside.
        let joined = p.groups == 1
            && p.dilation[1] == 1
            && p.upsample[1] == 1
            && self.left >= 0
            && self.left as usize + kernel_w <= in_w as usize;
        for ky in range.start / line..range.end.div_ceil(line) {
            let y = source(self.top + (ky * p.dilation[0] as usize) as isize, p.upsample[0], in_h);
            let row = y.and_then(|y| x.row::<X>(self.base + y as isize));
            let start = ky * line;
            if let (true, Some(row)) = (joined, row) {
                let (lo, hi) = (range.start.max(start), range.end.min(start + line));
                put(lo, &row[self.left as usize * in_c + (lo - start)..][..hi - lo]);
                continue;
            }
            for kx in 0..kernel_w {
                let start = start + kx * channels;
                let (lo, hi) = (range.start.max(start), range.end.min(start + channels));
                if lo >= hi {
                    continue;
                }
                let column = source(self.left + (kx * p.dilation[1] as usize) as isize, p.upsample[1], in_w);
                let (from, at) = match (row, column) {
                    (Some(row), Some(column)) => (row, column * in_c),
                    _ => (padding, 0),
                };
                put(lo, &from[at + g * channels + (lo - start)..][..hi - lo]);
            }
        }
    }
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

/// Products in f32: each sum runs over the inputs in order, eight channels side by side.
struct Float;

impl Arithmetic for Float {
    type Weight = f32;
    type Input = f32;
    type Sum = f32;

    #[inline(always)]
    fn block<const M: usize>(acc: &mut [[f32; NR]; M], x: [&[f32]; M], weights: &[f32], k0: usize, _total: usize) {
        let k = x[0].len();
        let x = x.map(|x| &x[..k]);
        let mut a = *acc;
        for (i, w) in weights[k0 * NR..][..k * NR].chunks_exact(NR).enumerate() {
            for m in 0..M {
                for n in 0..NR {
                    a[m][n] += x[m][i] * w[n];
                }
            }
        }
        *acc = a;
    }

    fn sum(_: &[f32]) -> f32 {
        0.0
    }

    fn add(a: f32, _: f32) -> f32 {
        a
    }
}

/// Products in integers: the weights of one channel lie side by side, and a few sums run together along them.
struct Int;

impl Arithmetic for Int {
    type Weight = i8;
    type Input = i16;
    type Sum = i32;

    #[inline(always)]
    fn block<const M: usize>(acc: &mut [[i32; NR]; M], x: [&[i16]; M], weights: &[i8], k0: usize, total: usize) {
        let k = x[0].len();
        let x = x.map(|x| &x[..k]);
        let channel = |n: usize| &weights[n * total + k0..][..k];
        for n in (0..NR).step_by(2) {
            let (w0, w1) = (channel(n), channel(n + 1));
            let mut s = [[0i32; 2]; M];
            for i in 0..k {
                let (a, b) = (i32::from(w0[i]), i32::from(w1[i]));
                for m in 0..M {
                    let v = i32::from(x[m][i]);
                    s[m][0] = s[m][0].wrapping_add(v * a);
                    s[m][1] = s[m][1].wrapping_add(v * b);
                }
            }
            for m in 0..M {
                acc[m][n] = acc[m][n].wrapping_add(s[m][0]);
                acc[m][n + 1] = acc[m][n + 1].wrapping_add(s[m][1]);
            }
        }
    }

    #[inline(always)]
    fn sum(x: &[i16]) -> i32 {
        x.iter().map(|&v| i32::from(v)).sum()
    }

    fn add(a: i32, b: i32) -> i32 {
        a.wrapping_add(b)
    }
}
