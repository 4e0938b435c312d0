//! The loop nest of a convolution and its two microkernels.

use core::ops::Range;

use super::super::epilogue::{MULTIPLIERS, WEIGHTS};
use super::super::window::source;
use super::{Conv, PADDING};
use crate::Element;
use crate::rows::{Operands, Rows};

/// Output channels in one block of packed weights; equals [`crate::Target::conv_block`] of the generic target.
pub(super) const NR: usize = 8;
/// Sums of fewer products than this are short (see [`Conv`]).
pub(super) const SHORT: usize = 48;
/// Output pixels of a tile.
const MR: usize = 4;
/// Inputs of a pixel that are gathered at once.
const RUN: usize = 256;
/// Blocks of output channels whose sums are held at once, so that inputs are gathered once for all of them.
pub(super) const BLOCKS: usize = 8;

/// What differs between float and integer products: the types, and the innermost loops.
pub(super) trait Arithmetic {
    /// Weights as stored.
    type Weight: Element;
    /// Inputs as gathered for the microkernel.
    type Input: Element;
    /// Sums.
    type Sum: Copy + Default;
    /// Whether weights are multiplied by the scale of their channel before anything else.
    const SCALED: bool = false;
    /// Adds the products of `M` pixels (`k` inputs each) with one block of weights, of which inputs `k0 ..` are meant out of
    /// `total`. `scales` are those of the block's channels, if the weights are [`Arithmetic::SCALED`].
    fn block<const M: usize>(
        acc: &mut [[Self::Sum; NR]; M],
        x: [&[Self::Input]; M],
        weights: &[Self::Weight],
        scales: &[f32; NR],
        k0: usize,
        total: usize,
    );
    /// The plain sum of inputs, where a correction needs it.
    fn sum(x: &[Self::Input]) -> Self::Sum;
    /// Adds two sums.
    fn add(a: Self::Sum, b: Self::Sum) -> Self::Sum;
}

/// Turns a stored input into the type it is multiplied in.
pub(super) trait Widen<P> {
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
pub(super) fn drive<X, T>(
    p: &Conv,
    o: &Operands<'_>,
    rows: Range<usize>,
    mut store: impl FnMut(usize, usize, &mut [T::Sum], T::Sum),
) where
    X: Element + Widen<T::Input>,
    T: Arithmetic,
{
    let out_w = p.output[1] as usize;
    let (mut pixel, end) = (rows.start * out_w, rows.end * out_w);
    let mut place = Place::of_row(p, rows.start);
    while pixel < end {
        if end - pixel >= MR {
            tile::<X, T, MR>(p, o, pixel, &mut place, &mut store);
            pixel += MR;
        } else {
            tile::<X, T, 1>(p, o, pixel, &mut place, &mut store);
            pixel += 1;
        }
    }
}

/// Where the next output pixel lies. Counted up, because dividing for every pixel would cost more than a small window.
struct Place {
    picture: usize,
    row: usize,
    column: usize,
}

impl Place {
    #[inline(always)]
    fn of_row(p: &Conv, row: usize) -> Place {
        let out_h = p.output[0] as usize;
        Place { picture: row / out_h, row: row % out_h, column: 0 }
    }

    /// The window of the pixel here; moves on to the next.
    #[inline(always)]
    fn next(&mut self, p: &Conv) -> Window {
        let window = Window {
            base: (self.picture * p.input[0] as usize) as isize,
            top: (self.row * p.stride[0] as usize) as isize - p.pad[0] as isize,
            left: (self.column * p.stride[1] as usize) as isize - p.pad[1] as isize,
        };
        self.column += 1;
        if self.column == p.output[1] as usize {
            (self.column, self.row) = (0, self.row + 1);
            if self.row == p.output[0] as usize {
                (self.row, self.picture) = (0, self.picture + 1);
            }
        }
        window
    }
}

#[inline(always)]
fn tile<X, T, const M: usize>(
    p: &Conv,
    o: &Operands<'_>,
    pixel: usize,
    place: &mut Place,
    store: &mut impl FnMut(usize, usize, &mut [T::Sum], T::Sum),
) where
    X: Element + Widen<T::Input>,
    T: Arithmetic,
{
    let [in_h, in_w, in_c] = p.input;
    let x: Rows<'_> = o.input(0).rows((p.batch * in_h) as usize, (in_w * in_c) as usize);
    let weights = o.constant::<T::Weight>(WEIGHTS);
    let padding = o.constant::<X>(PADDING);
    let multipliers: &[f32] = if T::SCALED { o.constant(MULTIPLIERS) } else { &[] };
    let total = p.taps() * p.group_in();
    let (group_out, blocks) = (p.group_out(), p.blocks());
    let windows: [Window; M] = core::array::from_fn(|_| place.next(p));
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
                    let mut scales = [0.0; NR];
                    if T::SCALED {
                        let within = (first + b) * NR;
                        let of = &multipliers[g * group_out + within..][..NR.min(group_out - within)];
                        scales[..of.len()].copy_from_slice(of);
                    }
                    T::block(acc, inputs, &weights[at..][..total * NR], &scales, k0, total);
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

/// Products in f32: each sum runs over the inputs in order, eight channels side by side.
pub(super) struct Float;

impl Arithmetic for Float {
    type Weight = f32;
    type Input = f32;
    type Sum = f32;

    #[inline(always)]
    fn block<const M: usize>(
        acc: &mut [[f32; NR]; M],
        x: [&[f32]; M],
        weights: &[f32],
        _scales: &[f32; NR],
        k0: usize,
        _total: usize,
    ) {
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

/// Products of floats with weights of bytes: those of [`Float`] with the dequantised weights, to the bit. (To scale the sums
/// instead would be one multiplication a channel, and overflow where the scaled weights do not.)
pub(super) struct Bytes;

impl Arithmetic for Bytes {
    type Weight = i8;
    type Input = f32;
    type Sum = f32;
    const SCALED: bool = true;

    #[inline(always)]
    fn block<const M: usize>(
        acc: &mut [[f32; NR]; M],
        x: [&[f32]; M],
        weights: &[i8],
        scales: &[f32; NR],
        k0: usize,
        _total: usize,
    ) {
        let k = x[0].len();
        let x = x.map(|x| &x[..k]);
        let mut a = *acc;
        for (i, w) in weights[k0 * NR..][..k * NR].chunks_exact(NR).enumerate() {
            let w: [f32; NR] = core::array::from_fn(|n| f32::from(w[n]) * scales[n]);
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

/// Products in integers. Where sums are long, the weights of one channel lie side by side, and a few sums run together along
/// them; where they are short, the ends of such runs would cost more than the runs, and channels lie side by side.
pub(super) struct Int;

impl Arithmetic for Int {
    type Weight = i8;
    type Input = i16;
    type Sum = i32;

    #[inline(always)]
    fn block<const M: usize>(
        acc: &mut [[i32; NR]; M],
        x: [&[i16]; M],
        weights: &[i8],
        _scales: &[f32; NR],
        k0: usize,
        total: usize,
    ) {
        let k = x[0].len();
        let x = x.map(|x| &x[..k]);
        if total < SHORT {
            let mut a = *acc;
            for (i, w) in weights[k0 * NR..][..k * NR].chunks_exact(NR).enumerate() {
                let w: [i32; NR] = core::array::from_fn(|n| i32::from(w[n]));
                for m in 0..M {
                    let v = i32::from(x[m][i]);
                    for n in 0..NR {
                        a[m][n] = a[m][n].wrapping_add(v * w[n]);
                    }
                }
            }
            *acc = a;
            return;
        }
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
