//! Depthwise products of halves by the arithmetic of halves (FEAT_FP16): kernel rows, then columns, in short sums of halves that are added
//! up as floats.

use core::arch::aarch64::*;

use kinglet::elementwise::Elementwise;
use kinglet::product::{Finish, Inputs, Microkernel, Place, Sign, Sums, Weights};
use kinglet::rows::View;
use kinglet::{DType, f16};

use super::copy_halves;
use crate::{Half, by_channels, reals};

/// Pixels whose sums are held at once.
const PIXELS: usize = 8;

/// Products that a sum of halves adds, by kernel rows; of a longer row those of the row.
const TERMS: usize = 128;

/// 8 pixels × 32 channels.
#[derive(Clone, Copy)]
pub(crate) struct DepthwiseHalves(Half);

impl From<Half> for DepthwiseHalves {
    fn from(half: Half) -> Self {
        DepthwiseHalves(half)
    }
}

impl Microkernel for DepthwiseHalves {
    type X = f16;
    type W = f16;
    type Sum = f32;
    type Out = f16;

    #[inline(always)]
    fn tile(_: usize, _: usize, room: usize) -> (usize, usize) {
        (PIXELS.min(room), 1)
    }

    #[inline(always)]
    fn in_place<'a>(&self, x: &View<'a>, start: usize, len: usize) -> Option<&'a [f16]> {
        (x.dtype == DType::F16).then(|| x.slice(start, len))
    }

    fn copy(&self, x: &View<'_>, start: usize, _: Sign, to: &mut [f16]) {
        copy_halves(x, start, to);
    }

    fn padding(&self, _: &View<'_>, _: Sign) -> f16 {
        f16::ZERO
    }

    fn multiply(&self, x: &Inputs<'_, f16>, w: &Weights<'_, f16>, to: Sums<'_, f32>) {
        let Half(()) = self.0;
        let (sums, _) = to.so_far();
        // SAFETY: that is the proof of the arithmetic.
        let done = fits(x, w, sums) && unsafe { add(x, w, sums) };
        debug_assert!(done, "a tile of {} pixels and {} channels", x.pixels, w.width());
    }

    fn finish<E: Elementwise>(&self, f: &mut Finish<'_, E>, to: Place, sums: &mut [f32], other: &mut [f32]) {
        reals::floats(f, to, sums, other);
    }
}

fn fits(x: &Inputs<'_, f16>, w: &Weights<'_, f16>, sums: &[f32]) -> bool {
    let (n, e) = (w.width(), &w.extents);
    by_channels(&w.packing, 0)
        && x.fit(n)
        && x.pixels <= PIXELS
        && w.channels.1 <= e.channels
        && w.first_row + x.rows.len() <= e.length
        && x.taps <= e.lines
        && e.lines * e.length * e.channels <= w.data.len()
        && sums.len() >= x.pixels * n
}

/// Adds a tile's products to its sums.
///
/// # Safety
/// [`fits`] holds.
#[target_feature(enable = "neon,fp16")]
unsafe fn add(x: &Inputs<'_, f16>, w: &Weights<'_, f16>, to: &mut [f32]) -> bool {
    let n = w.width();
    let rows = (TERMS / x.taps.max(1)).max(1);
    for from in (0..x.rows.len()).step_by(rows) {
        let x = Inputs { rows: &x.rows[from..x.rows.len().min(from + rows)], ..*x };
        let w = Weights { first_row: w.first_row + from, ..*w };
        let mut channel = 0;
        while channel < n {
            // SAFETY: the caller's.
            unsafe {
                match (x.pixels, n - channel) {
                    (PIXELS, 16..) => pixels::<PIXELS, 2>(&x, &w, (0, channel), to),
                    (PIXELS, 8..) => pixels::<PIXELS, 1>(&x, &w, (0, channel), to),
                    (there, 16..) => {
                        let mut first = 0;
                        if there >= 4 {
                            pixels::<4, 2>(&x, &w, (0, channel), to);
                            first = 4;
                        }
                        (first..there).for_each(|p| pixels::<1, 2>(&x, &w, (p, channel), to));
                    }
                    (there, 8..) => (0..there).for_each(|p| pixels::<1, 1>(&x, &w, (p, channel), to)),
                    (there, _) => (0..there).for_each(|p| last_channels(&x, &w, (p, channel), to)),
                }
            }
            channel += match n - channel {
                16.. => 16,
                8.. => 8,
                left => left,
            };
        }
    }
    true
}

/// Eight halves.
///
/// # Safety
/// They are there.
#[inline(always)]
unsafe fn load(from: *const f16) -> float16x8_t {
    // SAFETY: the caller's.
    unsafe { vreinterpretq_f16_u16(vld1q_u16(from.cast())) }
}

/// `P` pixels from `first` on of `8 V` channels from `channel` on.
///
/// # Safety
/// The tile has so many.
#[inline]
#[target_feature(enable = "neon,fp16")]
unsafe fn pixels<const P: usize, const V: usize>(
    x: &Inputs<'_, f16>,
    w: &Weights<'_, f16>,
    (first, channel): (usize, usize),
    to: &mut [f32],
) {
    let (n, e) = (w.width(), &w.extents);
    // SAFETY: the caller's.
    unsafe {
        let mut acc = [[vreinterpretq_f16_u16(vdupq_n_u16(0)); V]; P];
        for (r, row) in x.rows.iter().enumerate() {
            let row = row.as_ptr().add(first * x.step + channel);
            for t in 0..x.taps {
                let k = t * e.length + w.first_row + r;
                let weights = w.data.as_ptr().add(k * e.channels + w.channels.0 + channel);
                let mut own = [vreinterpretq_f16_u16(vdupq_n_u16(0)); V];
                for v in 0..V {
                    own[v] = load(weights.add(8 * v));
                }
                for p in 0..P {
                    let from = row.add(p * x.step + t * x.tap_step);
                    for v in 0..V {
                        acc[p][v] = vfmaq_f16(acc[p][v], load(from.add(8 * v)), own[v]);
                    }
                }
            }
        }
        let sums = to.as_mut_ptr().add(first * n + channel);
        for p in 0..P {
            for v in 0..V {
                let to = sums.add(p * n + 8 * v);
                let wide = reals::wide(vreinterpretq_u16_f16(acc[p][v]));
                vst1q_f32(to, vaddq_f32(vld1q_f32(to), wide[0]));
                vst1q_f32(to.add(4), vaddq_f32(vld1q_f32(to.add(4)), wide[1]));
            }
        }
    }
}

/// A pixel of the last channels, fewer than eight: as floats.
fn last_channels(x: &Inputs<'_, f16>, w: &Weights<'_, f16>, (p, channel): (usize, usize), to: &mut [f32]) {
    let (n, e) = (w.width(), &w.extents);
    for c in channel..n {
        let sum = &mut to[p * n + c];
        for (r, row) in x.rows.iter().enumerate() {
            for t in 0..x.taps {
                let k = t * e.length + w.first_row + r;
                let weight = reals::real(w.data[k * e.channels + w.channels.0 + c]);
                *sum = reals::real(row[p * x.step + t * x.tap_step + c]).mul_add(weight, *sum);
            }
        }
    }
}
