//! Depthwise products of floats, with weights of floats, of halves or of bytes: kernel rows, then columns, by fused additions.

use core::arch::aarch64::*;

use kinglet::elementwise::Elementwise;
use kinglet::product::{Finish, Inputs, Microkernel, Place, Sign, Sums, Weights};
use kinglet::rows::View;
use kinglet::{DType, f16};

use super::{Stored, copy};
use crate::{Neon, by_channels, reals, some};

/// Pixels whose sums are held at once.
const PIXELS: usize = 8;

/// 8 pixels × 32 channels.
#[derive(Clone, Copy)]
pub(crate) struct DepthwiseF32;

impl From<Neon> for DepthwiseF32 {
    fn from(_: Neon) -> Self {
        DepthwiseF32
    }
}

/// As [`DepthwiseF32`], with weights of halves.
#[derive(Clone, Copy)]
pub(crate) struct DepthwiseF16;

impl From<Neon> for DepthwiseF16 {
    fn from(_: Neon) -> Self {
        DepthwiseF16
    }
}

/// As [`DepthwiseF32`], with weights of bytes.
#[derive(Clone, Copy)]
pub(crate) struct DepthwiseW8;

impl From<Neon> for DepthwiseW8 {
    fn from(_: Neon) -> Self {
        DepthwiseW8
    }
}

macro_rules! microkernel {
    ($name:ident, $w:ty, $scaled:literal) => {
        impl Microkernel for $name {
            type X = f32;
            type W = $w;
            type Sum = f32;
            type Out = f32;
            const SCALED: bool = $scaled;

            #[inline(always)]
            fn tile(_: usize, _: usize, room: usize) -> (usize, usize) {
                (PIXELS.min(room), 1)
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
                let (sums, _) = to.so_far();
                let done = add(x, w, sums);
                debug_assert!(done, "a tile of {} pixels and {} channels", x.pixels, w.width());
            }

            fn finish<E: Elementwise>(&self, f: &mut Finish<'_, E>, to: Place, sums: &mut [f32], other: &mut [f32]) {
                reals::floats(f, to, sums, other);
            }
        }
    };
}

microkernel!(DepthwiseF32, f32, false);
microkernel!(DepthwiseF16, f16, false);
microkernel!(DepthwiseW8, i8, true);

/// Adds a tile's products to its sums; `false` if it is not one that these kernels can do.
fn add<W: Stored>(x: &Inputs<'_, f32>, w: &Weights<'_, W>, to: &mut [f32]) -> bool {
    let (n, e) = (w.width(), &w.extents);
    let fits = by_channels(&w.packing, 0)
        && x.fit(n)
        && x.pixels <= PIXELS
        && w.channels.1 <= e.channels
        && w.first_row + x.rows.len() <= e.length
        && x.taps <= e.lines
        && e.lines * e.length * e.channels <= w.data.len()
        && to.len() >= x.pixels * n;
    if !fits {
        return false;
    }
    let mut channel = 0;
    while channel < n {
        let left = n - channel;
        // SAFETY: what is read and written has just been checked.
        unsafe {
            match (x.pixels, left) {
                (PIXELS, 8..) => pixels::<PIXELS, 2, W>(x, w, (0, channel), to),
                (PIXELS, 4..) => pixels::<PIXELS, 1, W>(x, w, (0, channel), to),
                (there, 8..) => {
                    let mut first = 0;
                    if there >= 4 {
                        pixels::<4, 2, W>(x, w, (0, channel), to);
                        first = 4;
                    }
                    (first..there).for_each(|p| pixels::<1, 2, W>(x, w, (p, channel), to));
                }
                (there, 4..) => (0..there).for_each(|p| pixels::<1, 1, W>(x, w, (p, channel), to)),
                (there, _) => (0..there).for_each(|p| last_channels(x, w, (p, channel), to)),
            }
        }
        channel += match left {
            8.. => 8,
            4.. => 4,
            _ => left,
        };
    }
    true
}

/// `P` pixels from `first` on of `4 V` channels from `channel` on.
///
/// # Safety
/// The tile has so many.
#[inline(always)]
unsafe fn pixels<const P: usize, const V: usize, W: Stored>(
    x: &Inputs<'_, f32>,
    w: &Weights<'_, W>,
    (first, channel): (usize, usize),
    to: &mut [f32],
) {
    let (n, e) = (w.width(), &w.extents);
    // SAFETY: the caller's.
    unsafe {
        let scales: [f32; 8] = some(w.scales, channel);
        let scales: [float32x4_t; V] = core::array::from_fn(|v| vld1q_f32(scales.as_ptr().add(4 * v)));
        let sums = to.as_mut_ptr().add(first * n + channel);
        let mut acc: [[float32x4_t; V]; P] =
            core::array::from_fn(|p| core::array::from_fn(|v| vld1q_f32(sums.add(p * n + 4 * v))));
        for (r, row) in x.rows.iter().enumerate() {
            let row = row.as_ptr().add(first * x.step + channel);
            for t in 0..x.taps {
                let k = t * e.length + w.first_row + r;
                let weights = w.data.as_ptr().add(k * e.channels + w.channels.0 + channel);
                let weights: [float32x4_t; V] = core::array::from_fn(|v| W::load(weights.add(4 * v), scales[v]));
                for p in 0..P {
                    let from = row.add(p * x.step + t * x.tap_step);
                    for v in 0..V {
                        acc[p][v] = vfmaq_f32(acc[p][v], vld1q_f32(from.add(4 * v)), weights[v]);
                    }
                }
            }
        }
        for p in 0..P {
            for v in 0..V {
                vst1q_f32(sums.add(p * n + 4 * v), acc[p][v]);
            }
        }
    }
}

/// A pixel of the last channels, fewer than four.
fn last_channels<W: Stored>(x: &Inputs<'_, f32>, w: &Weights<'_, W>, (p, channel): (usize, usize), to: &mut [f32]) {
    let (n, e) = (w.width(), &w.extents);
    for c in channel..n {
        let scale = w.scales.get(c).copied().unwrap_or(1.0);
        let sum = &mut to[p * n + c];
        for (r, row) in x.rows.iter().enumerate() {
            for t in 0..x.taps {
                let k = t * e.length + w.first_row + r;
                let mut weights = [W::default(); 4];
                weights[0] = w.data[k * e.channels + w.channels.0 + c];
                // SAFETY: an array of four weights.
                let weight = unsafe { vgetq_lane_f32::<0>(W::load(weights.as_ptr(), vdupq_n_f32(scale))) };
                *sum = row[p * x.step + t * x.tap_step + c].mul_add(weight, *sum);
            }
        }
    }
}
