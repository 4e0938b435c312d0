//! Depthwise products of floats, with weights of floats, of halves or of bytes: kernel rows, then columns, by fused additions.

use core::arch::x86_64::*;

use kinglet::elementwise::Elementwise;
use kinglet::product::{Finish, Inputs, Microkernel, Place, Sign, Sums, Weights};
use kinglet::rows::View;
use kinglet::{DType, f16};

use super::finish;
use super::{lanes, reals};
use crate::Avx512;
use crate::{by_channels, halves};

/// Pixels whose sums are held at once.
const PIXELS: usize = 8;

/// 8 pixels × 32 channels.
#[derive(Clone, Copy)]
pub(crate) struct DepthwiseF32(pub(crate) Avx512);

/// As [`DepthwiseF32`], with weights of halves.
#[derive(Clone, Copy)]
pub(crate) struct DepthwiseF16(pub(crate) Avx512);

/// As [`DepthwiseF32`], with weights of bytes.
#[derive(Clone, Copy)]
pub(crate) struct DepthwiseW8(pub(crate) Avx512);

/// Weights as they are stored.
trait Stored: kinglet::Element {
    /// As many weights as `mask` has lanes, times the scales of their channels.
    ///
    /// # Safety
    /// They are there.
    unsafe fn load(from: *const Self, mask: __mmask16, scales: __m512) -> __m512;
}

impl Stored for f32 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(from: *const f32, mask: __mmask16, _: __m512) -> __m512 {
        // SAFETY: masked lanes are not read.
        unsafe { _mm512_maskz_loadu_ps(mask, from) }
    }
}

impl Stored for f16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load(from: *const f16, mask: __mmask16, _: __m512) -> __m512 {
        // SAFETY: masked lanes are not read.
        _mm512_cvtph_ps(unsafe { _mm256_maskz_loadu_epi16(mask, from.cast()) })
    }
}

impl Stored for i8 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load(from: *const i8, mask: __mmask16, scales: __m512) -> __m512 {
        // SAFETY: masked lanes are not read.
        let bytes = unsafe { _mm_maskz_loadu_epi8(mask, from) };
        _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)), scales)
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
                // SAFETY: `self.0` is the proof of the features.
                unsafe { halves::copy(x, start, to) }
            }

            fn padding(&self, _: &View<'_>, _: Sign) -> f32 {
                0.0
            }

            fn multiply(&self, x: &Inputs<'_, f32>, w: &Weights<'_, $w>, to: Sums<'_, f32>) {
                let Avx512(()) = self.0;
                let (sums, _) = to.so_far();
                // SAFETY: that is the proof of the features; `fits` has checked all that is read and written.
                let done = fits(x, w, sums) && unsafe { add(x, w, sums) };
                debug_assert!(done, "a tile of {} pixels and {} channels", x.pixels, w.width());
            }

            #[inline(always)]
            fn finish<E: Elementwise>(&self, f: &mut Finish<'_, E>, to: Place, sums: &mut [f32], other: &mut [f32]) {
                // SAFETY: `self.0` is the proof of the features.
                unsafe { finish::floats(f, to, sums, other) }
            }
        }
    };
}

microkernel!(DepthwiseF32, f32, false);
microkernel!(DepthwiseF16, f16, false);
microkernel!(DepthwiseW8, i8, true);

fn fits<W>(x: &Inputs<'_, f32>, w: &Weights<'_, W>, sums: &[f32]) -> bool {
    let e = &w.extents;
    by_channels(&w.packing, 0)
        && x.fit(w.width())
        && x.pixels <= PIXELS
        && w.width() <= 32
        && w.channels.1 <= e.channels
        && w.first_row + x.rows.len() <= e.length
        && x.taps <= e.lines
        && e.lines * e.length * e.channels <= w.data.len()
        && sums.len() >= x.pixels * w.width()
}

/// # Safety
/// [`fits`] holds.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn add<W: Stored>(x: &Inputs<'_, f32>, w: &Weights<'_, W>, to: &mut [f32]) -> bool {
    // SAFETY: the caller's.
    unsafe {
        match (x.pixels, w.width() > 16) {
            (1, true) => sized_add::<1, 2, W>(x, w, to),
            (2, true) => sized_add::<2, 2, W>(x, w, to),
            (3, true) => sized_add::<3, 2, W>(x, w, to),
            (4, true) => sized_add::<4, 2, W>(x, w, to),
            (5, true) => sized_add::<5, 2, W>(x, w, to),
            (6, true) => sized_add::<6, 2, W>(x, w, to),
            (7, true) => sized_add::<7, 2, W>(x, w, to),
            (8, true) => sized_add::<8, 2, W>(x, w, to),
            (1, false) => sized_add::<1, 1, W>(x, w, to),
            (2, false) => sized_add::<2, 1, W>(x, w, to),
            (3, false) => sized_add::<3, 1, W>(x, w, to),
            (4, false) => sized_add::<4, 1, W>(x, w, to),
            (5, false) => sized_add::<5, 1, W>(x, w, to),
            (6, false) => sized_add::<6, 1, W>(x, w, to),
            (7, false) => sized_add::<7, 1, W>(x, w, to),
            (8, false) => sized_add::<8, 1, W>(x, w, to),
            _ => return false,
        }
    }
    true
}

/// `R` pixels × `B` vectors of channels.
///
/// # Safety
/// [`fits`] holds.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn sized_add<const R: usize, const B: usize, W: Stored>(
    x: &Inputs<'_, f32>,
    w: &Weights<'_, W>,
    to: &mut [f32],
) {
    let (n, e) = (w.width(), &w.extents);
    let masks: [__mmask16; B] = core::array::from_fn(|b| lanes(n, b));
    let mut scales = [_mm512_setzero_ps(); B];
    (0..B).for_each(|b| scales[b] = reals(w.scales, b));
    let mut acc = [[_mm512_setzero_ps(); B]; R];
    for p in 0..R {
        (0..B).for_each(|b| acc[p][b] = reals(&to[p * n..(p + 1) * n], b));
    }
    for (r, row) in x.rows.iter().enumerate() {
        for t in 0..x.taps {
            // SAFETY: all addresses of lanes that are there are within rows and weights, by `fits`.
            unsafe {
                let k = t * e.length + w.first_row + r;
                let from = w.data.as_ptr().add(k * e.channels + w.channels.0);
                let mut weights = [_mm512_setzero_ps(); B];
                for b in 0..B {
                    weights[b] = W::load(from.add(16 * b), masks[b], scales[b]);
                }
                let from = row.as_ptr().add(t * x.tap_step);
                for p in 0..R {
                    for b in 0..B {
                        let v = _mm512_maskz_loadu_ps(masks[b], from.add(p * x.step + 16 * b));
                        acc[p][b] = _mm512_fmadd_ps(v, weights[b], acc[p][b]);
                    }
                }
            }
        }
    }
    for p in 0..R {
        for b in 0..B {
            let Some(to) = to[p * n..(p + 1) * n].get_mut(16 * b..) else { break };
            // SAFETY: the mask has no more lanes than there are elements.
            unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), lanes(to.len(), 0), acc[p][b]) };
        }
    }
}
