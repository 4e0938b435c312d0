//! Dense products of floats, with weights of floats, of halves or of bytes. Each sum runs over the inputs in order, by fused additions.

use core::arch::aarch64::*;
use core::ops::Range;

use kinglet::elementwise::Elementwise;
use kinglet::product::{Finish, Inputs, Matrix, Microkernel, Pack, Place, Plain, Sign, Sums, Weights, pack_panels};
use kinglet::rows::{PixelsMut, View};
use kinglet::{DType, Element, f16};

use super::{Stored, copy};
use crate::lanes::{Fma, Tile};
use crate::{Neon, by_channels, reals, some};

/// Up to 32 pixels and the 16 channels of a panel, which are multiplied in smaller tiles one after the other.
#[derive(Clone, Copy)]
pub(crate) struct DenseF32;

impl From<Neon> for DenseF32 {
    fn from(_: Neon) -> Self {
        DenseF32
    }
}

/// As [`DenseF32`], with weights of halves.
#[derive(Clone, Copy)]
pub(crate) struct DenseF16;

impl From<Neon> for DenseF16 {
    fn from(_: Neon) -> Self {
        DenseF16
    }
}

/// As [`DenseF32`], with weights of bytes.
#[derive(Clone, Copy)]
pub(crate) struct DenseW8;

impl From<Neon> for DenseW8 {
    fn from(_: Neon) -> Self {
        DenseW8
    }
}

/// How a set multiplies `P` pixels with weights that are stored so.
trait Multiply<const P: usize>: Element {
    /// The sums of lines, of 16 channels by pixel.
    ///
    /// # Safety
    /// All that `part` says is there.
    unsafe fn sums(
        part: &Part<'_, Self>,
        first: usize,
        scales: &[f32; 16],
        so_far: [[float32x4_t; 4]; P],
    ) -> [[float32x4_t; 4]; P];
}

macro_rules! by_pixels {
    ($($pixels:literal)*) => {$(
        impl Multiply<$pixels> for f32 {
            #[inline(always)]
            unsafe fn sums(
                part: &Part<'_, f32>,
                first: usize,
                _: &[f32; 16],
                so_far: [[float32x4_t; 4]; $pixels],
            ) -> [[float32x4_t; 4]; $pixels] {
                let mut acc = Fma::<$pixels>::of(so_far);
                let step = part.x.step;
                // SAFETY: the caller's.
                unsafe {
                    part.lines(first, |x, w| acc.add(core::array::from_fn(|p| x.add(p * step)), w, part.line));
                }
                acc.sums(so_far[0])
            }
        }

    )*};
}
by_pixels!(1 2 3 4 5);

/// Weights that become floats as they are loaded.
macro_rules! widened {
    ($w:ty; $($pixels:literal)*) => {$(
        impl Multiply<$pixels> for $w {
            #[inline(always)]
            unsafe fn sums(
                part: &Part<'_, $w>,
                first: usize,
                scales: &[f32; 16],
                mut acc: [[float32x4_t; 4]; $pixels],
            ) -> [[float32x4_t; 4]; $pixels] {
                let step = part.x.step;
                // SAFETY: the caller's.
                unsafe {
                    part.lines(first, |x, w| {
                        for k in 0..part.line {
                            let w: [float32x4_t; 4] = core::array::from_fn(|i| {
                                <$w>::load(w.add(16 * k + 4 * i), vld1q_f32(scales.as_ptr().add(4 * i)))
                            });
                            for p in 0..$pixels {
                                let x = *x.add(p * step + k);
                                acc[p] = core::array::from_fn(|i| vfmaq_n_f32(acc[p][i], w[i], x));
                            }
                        }
                    });
                }
                acc
            }
        }
    )*};
}
widened!(f16; 1 2 3 4 5);
widened!(i8; 1 2 3 4 5);

macro_rules! microkernel {
    ($name:ident, $w:ty, $scaled:literal) => {
        impl Microkernel for $name {
            type X = f32;
            type W = $w;
            type Sum = f32;
            type Out = f32;
            const SCALED: bool = $scaled;
            const PLAIN: bool = true;

            #[inline(always)]
            fn tile(pixels: usize, _: usize, room: usize) -> (usize, usize) {
                (pixels.clamp(1, room), 1)
            }

            #[inline(always)]
            fn in_place<'a>(&self, x: &View<'a>, start: usize, len: usize) -> Option<&'a [f32]> {
                (x.dtype == DType::F32).then(|| x.slice(start, len))
            }

            fn copy(&self, x: &View<'_>, start: usize, _: Sign, to: &mut [f32]) {
                copy(x, start, to);
            }

            fn padding(&self, _: &View<'_>, _: Sign) -> f32 {
                0.0
            }

            fn multiply(&self, x: &Inputs<'_, f32>, w: &Weights<'_, $w>, to: Sums<'_, f32>) {
                let done = to.sums.len() >= x.pixels * w.width() && tile_to(x, w, &mut To::Sums(to));
                debug_assert!(done, "a tile of {} pixels and {} channels", x.pixels, w.width());
            }

            fn plain(
                &self,
                x: &Inputs<'_, f32>,
                w: &Weights<'_, $w>,
                end: &Plain<'_>,
                out: &mut PixelsMut<'_, f32>,
            ) -> bool {
                let n = w.width();
                let there = end.bias.len() >= n
                    && (end.scale.is_empty() || end.scale.len() >= n)
                    && out.count() >= x.pixels
                    && out.run_len() >= n;
                let residual = match end.residual {
                    None => None,
                    Some((r, at)) if r.dtype == DType::F32 => match r.pixels::<f32>(at, n, out.step(), x.pixels) {
                        None => return false,
                        there => there,
                    },
                    Some(_) => return false,
                };
                there && tile_to(x, w, &mut To::Floats(end, residual, out))
            }

            fn finish<E: Elementwise>(&self, f: &mut Finish<'_, E>, to: Place, sums: &mut [f32], other: &mut [f32]) {
                reals::floats(f, to, sums, other);
            }
        }
    };
}

microkernel!(DenseF32, f32, false);
microkernel!(DenseF16, f16, false);
microkernel!(DenseW8, i8, true);

impl Pack for DenseF32 {
    fn pack(&self, b: &Matrix<'_, f32>, columns: Range<usize>, to: &mut [f32]) {
        pack_panels::<f32, 16, 1>(b, columns, |v| v, to);
    }
}

/// What becomes of the sums of a tile.
enum To<'a, 'b> {
    /// They are kept.
    Sums(Sums<'a, f32>),
    /// They are results but for this.
    Floats(&'a Plain<'a>, Option<*const f32>, &'a mut PixelsMut<'b, f32>),
}

/// A tile that is there: all that it reads is.
struct Part<'a, W> {
    x: &'a Inputs<'a, f32>,
    w: &'a Weights<'a, W>,
    line: usize,
    depth: usize,
}

impl<W> Part<'_, W> {
    /// Calls `f(inputs of the first pixel, weights)` for each line, both where the line begins.
    ///
    /// # Safety
    /// `first` is a pixel of the tile.
    #[inline(always)]
    unsafe fn lines(&self, first: usize, mut f: impl FnMut(*const f32, *const W)) {
        let (x, w) = (self.x, self.w);
        // SAFETY: `tile_to` has checked that rows and weights reach as far.
        unsafe {
            let mut weights = w.data.as_ptr().add(w.channels.0 * self.depth + w.first_row * x.taps * self.line * 16);
            for row in x.rows {
                for t in 0..x.taps {
                    f(row.as_ptr().add(first * x.step + t * x.tap_step), weights);
                    weights = weights.add(16 * self.line);
                }
            }
        }
    }

    /// `P` pixels from `first` on.
    ///
    /// # Safety
    /// The tile has so many.
    #[inline(always)]
    unsafe fn some_pixels<const P: usize>(&self, first: usize, scales: &[f32; 16], to: &mut To<'_, '_>)
    where
        W: Multiply<P>,
    {
        let n = self.w.width();
        // SAFETY: the caller's, and NEON is always there.
        unsafe {
            let mut so_far = [[vdupq_n_f32(0.0); 4]; P];
            if let To::Sums(Sums { sums, fresh: false, .. }) = to {
                for (p, so_far) in so_far.iter_mut().enumerate() {
                    *so_far = vectors(&some(&sums[(first + p) * n..(first + p + 1) * n], 0));
                }
            }
            let acc = W::sums(self, first, scales, so_far);
            match to {
                To::Sums(to) => {
                    for (p, acc) in acc.iter().enumerate() {
                        let acc: [f32; 16] = core::mem::transmute(*acc);
                        to.sums[(first + p) * n..(first + p + 1) * n].copy_from_slice(&acc[..n]);
                    }
                }
                To::Floats(end, residual, out) => {
                    let bias = vectors(&some(&end.bias[..n], 0));
                    let scale = vectors(&some(end.scale, 0));
                    let (to, step) = (out.as_mut_ptr(), out.step());
                    for (p, mut v) in acc.into_iter().enumerate() {
                        let at = (first + p) * step;
                        v = core::array::from_fn(|i| vaddq_f32(v[i], bias[i]));
                        if !end.scale.is_empty() {
                            v = core::array::from_fn(|i| vmulq_f32(v[i], scale[i]));
                        }
                        if let Some(residual) = residual {
                            let r = if n == 16 {
                                core::array::from_fn(|i| vld1q_f32(residual.add(at + 4 * i)))
                            } else {
                                vectors(&some(core::slice::from_raw_parts(residual.add(at), n), 0))
                            };
                            v = core::array::from_fn(|i| vaddq_f32(v[i], r[i]));
                        }
                        if end.relu {
                            // NaN stays, and so does −0.
                            let zero = vdupq_n_f32(0.0);
                            v = v.map(|v| vbslq_f32(vcltq_f32(v, zero), zero, v));
                        }
                        if n == 16 {
                            (0..4).for_each(|i| vst1q_f32(to.add(at + 4 * i), v[i]));
                        } else {
                            let v: [f32; 16] = core::mem::transmute(v);
                            core::ptr::copy_nonoverlapping(v.as_ptr(), to.add(at), n);
                        }
                    }
                }
            }
        }
    }
}

/// 16 floats in four vectors.
#[inline(always)]
fn vectors(of: &[f32; 16]) -> [float32x4_t; 4] {
    // SAFETY: four times four of 16.
    core::array::from_fn(|i| unsafe { vld1q_f32(of.as_ptr().add(4 * (i & 3))) })
}

/// Multiplies a tile; `false` if it is not one that these kernels can do. There are as many sums as the tile has, or bias, scale and the runs of
/// `out` and of the residual are as long as it is wide, and there is a run for each pixel.
fn tile_to<W>(x: &Inputs<'_, f32>, w: &Weights<'_, W>, to: &mut To<'_, '_>) -> bool
where
    W: Multiply<1> + Multiply<2> + Multiply<3> + Multiply<4> + Multiply<5>,
{
    let (line, depth) = (w.packing.line(&w.extents), w.packing.depth(&w.extents));
    let fits = by_channels(&w.packing, 16)
        && x.fit(line)
        && (1..=16).contains(&w.width())
        && w.channels.0.is_multiple_of(16)
        && (w.first_row + x.rows.len()) * x.taps * line <= depth
        && (w.channels.0 + 16) * depth <= w.data.len();
    if !fits {
        return false;
    }
    let part = Part { x, w, line, depth };
    let scales = some(w.scales, 0);
    let each = x.pixels.div_ceil(x.pixels.div_ceil(5).max(1)).max(1);
    let mut first = 0;
    while first < x.pixels {
        // SAFETY: what is read and written has just been checked, and by the caller.
        unsafe {
            match each.min(x.pixels - first) {
                1 => part.some_pixels::<1>(first, &scales, to),
                2 => part.some_pixels::<2>(first, &scales, to),
                3 => part.some_pixels::<3>(first, &scales, to),
                4 => part.some_pixels::<4>(first, &scales, to),
                _ => part.some_pixels::<5>(first, &scales, to),
            }
        }
        first += each;
    }
    true
}
