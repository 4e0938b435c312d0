//! Dense products of floats, with weights of floats, of halves or of bytes. Each sum runs over the inputs in order, by fused additions.

use core::arch::x86_64::*;
use core::ops::Range;

use kinglet::elementwise::Elementwise;
use kinglet::product::{Finish, Inputs, Matrix, Microkernel, Pack, Place, Sign, Sums, Weights};
use kinglet::rows::View;
use kinglet::{DType, Element, f16};

use super::dense_i8::sized;
use super::{some, transpose};
use crate::Avx2;
use crate::{by_channels, halves};

/// Up to 6 pixels × 16 channels.
#[derive(Clone, Copy)]
pub(crate) struct DenseF32(pub(crate) Avx2);

/// As [`DenseF32`], with weights of halves.
#[derive(Clone, Copy)]
pub(crate) struct DenseF16(pub(crate) Avx2);

/// As [`DenseF32`], with weights of bytes.
#[derive(Clone, Copy)]
pub(crate) struct DenseW8(pub(crate) Avx2);

/// Weights as they are stored.
pub(super) trait Stored: Element + Default {
    /// Eight weights from `from` on, times the scales of their channels.
    ///
    /// # Safety
    /// They are there, and the CPU has AVX2 and F16C.
    unsafe fn load(from: *const Self, scales: __m256) -> __m256;
}

impl Stored for f32 {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load(from: *const f32, _: __m256) -> __m256 {
        // SAFETY: the caller's.
        unsafe { _mm256_loadu_ps(from) }
    }
}

impl Stored for f16 {
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn load(from: *const f16, _: __m256) -> __m256 {
        // SAFETY: the caller's.
        unsafe { halves::read(from) }
    }
}

impl Stored for i8 {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load(from: *const i8, scales: __m256) -> __m256 {
        // SAFETY: the caller's.
        let bytes = unsafe { _mm_loadl_epi64(from.cast()) };
        _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)), scales)
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
            fn tile(pixels: usize, _: usize, room: usize) -> (usize, usize) {
                (pixels.clamp(1, 6.min(room)), 1)
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
                let Avx2 { .. } = self.0;
                let (sums, _) = to.so_far();
                // SAFETY: that is the proof of the features; `fits` has checked all that is read.
                let done = fits(x, w) && sums.len() >= x.pixels * w.width() && unsafe { add(x, w, sums) };
                debug_assert!(done, "a tile of {} pixels and {} channels", x.pixels, w.width());
            }

            #[inline(always)]
            fn finish<E: Elementwise>(&self, f: &mut Finish<'_, E>, to: Place, sums: &mut [f32], other: &mut [f32]) {
                #[target_feature(enable = "avx2")]
                fn finish<E: Elementwise>(f: &mut Finish<'_, E>, to: Place, sums: &mut [f32], other: &mut [f32]) {
                    f.floats(to, sums, other);
                }
                // SAFETY: `self.0` is the proof of the features.
                unsafe { finish(f, to, sums, other) }
            }
        }
    };
}

microkernel!(DenseF32, f32, false);
microkernel!(DenseF16, f16, false);
microkernel!(DenseW8, i8, true);

impl Pack for DenseF32 {
    fn pack(&self, b: &Matrix<'_, f32>, columns: Range<usize>, to: &mut [f32]) {
        // SAFETY: `self.0` is the proof of the features.
        unsafe { transpose::pack(b, columns, to) }
    }
}

/// Whether the weights lie as these kernels read them, and all that a tile reads is there.
fn fits<W>(x: &Inputs<'_, f32>, w: &Weights<'_, W>) -> bool {
    let (line, depth) = (w.packing.line(&w.extents), w.packing.depth(&w.extents));
    by_channels(&w.packing, 16)
        && x.fit(line)
        && w.channels.0.is_multiple_of(16)
        && (w.first_row + x.rows.len()) * x.taps * line <= depth
        && w.channels.1.div_ceil(16) * 16 * depth <= w.data.len()
}

/// # Safety
/// [`fits`] holds, and there are as many sums as the tile has.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add<W: Stored>(x: &Inputs<'_, f32>, w: &Weights<'_, W>, to: &mut [f32]) -> bool {
    for channel in (0..w.width()).step_by(16) {
        // SAFETY: the caller's.
        unsafe { sized!(x.pixels, sized_add(x, w, channel, to)) };
    }
    true
}

/// 16 channels from `channel` of the tile on.
///
/// # Safety
/// As [`add`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn sized_add<const R: usize>(x: &Inputs<'_, f32>, w: &Weights<'_, impl Stored>, channel: usize, to: &mut [f32]) {
    let n = w.width();
    let (line, depth) = (w.packing.line(&w.extents), w.packing.depth(&w.extents));
    // SAFETY: an array of 16 has two halves of eight.
    let halves = |v: &[f32; 16]| unsafe { [_mm256_loadu_ps(v.as_ptr()), _mm256_loadu_ps(v.as_ptr().add(8))] };
    let scales = halves(&some(w.scales, channel));
    let mut acc = [[_mm256_setzero_ps(); 2]; R];
    for p in 0..R {
        acc[p] = halves(&some(&to[p * n..(p + 1) * n], channel));
    }
    for (r, row) in x.rows.iter().enumerate() {
        for t in 0..x.taps {
            let k = ((w.first_row + r) * x.taps + t) * line;
            // SAFETY: the caller's.
            unsafe {
                let from = row.as_ptr().add(t * x.tap_step);
                let weights = w.data.as_ptr().add((w.channels.0 + channel) * depth + k * 16);
                for k in 0..line {
                    let w0 = Stored::load(weights.add(16 * k), scales[0]);
                    let w1 = Stored::load(weights.add(16 * k + 8), scales[1]);
                    for p in 0..R {
                        let x = _mm256_set1_ps(*from.add(p * x.step + k));
                        acc[p] = [_mm256_fmadd_ps(x, w0, acc[p][0]), _mm256_fmadd_ps(x, w1, acc[p][1])];
                    }
                }
            }
        }
    }
    for p in 0..R {
        // SAFETY: plain data of the same size.
        let sums: [f32; 16] = unsafe { core::mem::transmute(acc[p]) };
        to[p * n..(p + 1) * n][channel..].iter_mut().zip(sums).for_each(|(to, v)| *to = v);
    }
}
