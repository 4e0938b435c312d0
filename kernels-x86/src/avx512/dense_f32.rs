//! Dense products of floats, with weights of floats, of halves or of bytes. Each sum runs over the inputs in order, by fused additions.

use core::arch::x86_64::*;
use core::ops::Range;

use kinglet::elementwise::Elementwise;
use kinglet::product::{Finish, Inputs, Matrix, Microkernel, Pack, Place, Plain, Sign, Sums, Weights};
use kinglet::rows::{PixelsMut, View};
use kinglet::{DType, Element, f16};

use super::dense_i8::{runs, sized, tile};
use super::finish;
use super::{lanes, reals};
use crate::Avx512;
use crate::avx2::transpose;
use crate::{by_channels, halves};

/// 14 pixels × 32 channels at a time, as of bytes.
#[derive(Clone, Copy)]
pub(crate) struct DenseF32(pub(crate) Avx512);

/// As [`DenseF32`], with weights of halves.
#[derive(Clone, Copy)]
pub(crate) struct DenseF16(pub(crate) Avx512);

/// As [`DenseF32`], with weights of bytes.
#[derive(Clone, Copy)]
pub(crate) struct DenseW8(pub(crate) Avx512);

/// Weights as they are stored.
pub(super) trait Stored: Element {
    /// 16 weights from `from` on, times the scales of their channels.
    ///
    /// # Safety
    /// They are there.
    unsafe fn load(from: *const Self, scales: __m512) -> __m512;
}

impl Stored for f32 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(from: *const f32, _: __m512) -> __m512 {
        // SAFETY: the caller's.
        unsafe { _mm512_loadu_ps(from) }
    }
}

impl Stored for f16 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(from: *const f16, _: __m512) -> __m512 {
        // SAFETY: the caller's.
        _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(from.cast()) })
    }
}

impl Stored for i8 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(from: *const i8, scales: __m512) -> __m512 {
        // SAFETY: the caller's.
        let bytes = unsafe { _mm_loadu_si128(from.cast()) };
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
            const PLAIN: bool = true;

            #[inline(always)]
            fn tile(pixels: usize, _: usize, room: usize) -> (usize, usize) {
                tile(pixels, room)
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
                let fits = fits(x, w) && to.sums.len() >= x.pixels * w.width();
                // SAFETY: that is the proof of the features; what is read and written has just been checked.
                let done = fits && unsafe { tile_to(x, w, To::Sums(to)) };
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
                // SAFETY: `self.0` is the proof of the features; what is read and written has just been checked.
                fits(x, w) && there && unsafe { tile_to(x, w, To::Floats(end, residual, out)) }
            }

            #[inline(always)]
            fn finish<E: Elementwise>(&self, f: &mut Finish<'_, E>, to: Place, sums: &mut [f32], other: &mut [f32]) {
                // SAFETY: `self.0` is the proof of the features.
                unsafe { finish::floats(f, to, sums, other) }
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

/// What becomes of the sums of a tile.
enum To<'a, 'b> {
    /// They are kept.
    Sums(Sums<'a, f32>),
    /// They are results but for this.
    Floats(&'a Plain<'a>, Option<*const f32>, &'a mut PixelsMut<'b, f32>),
}

/// Multiplies a tile; `false` if it is larger than any here.
///
/// # Safety
/// [`fits`] holds. There are as many sums as the tile has; bias, scale and the runs of `out` and of the residual are as long as the tile is
/// wide, and there is a run for each pixel.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tile_to<W: Stored>(x: &Inputs<'_, f32>, w: &Weights<'_, W>, mut to: To<'_, '_>) -> bool {
    runs(x.pixels, |first, pixels| {
        // SAFETY: the caller's.
        unsafe { sized!(pixels, w.width().div_ceil(16), sized_to(x, w, first, &mut to)) };
        true
    })
}

/// `R` pixels from `first` on of `B` panels. The sums stay in registers, as those of bytes do.
///
/// # Safety
/// As of [`tile_to`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn sized_to<const R: usize, const B: usize>(
    x: &Inputs<'_, f32>,
    w: &Weights<'_, impl Stored>,
    first: usize,
    to: &mut To<'_, '_>,
) {
    let n = w.width();
    let (line, depth) = (w.packing.line(&w.extents), w.packing.depth(&w.extents));
    let panels = n.div_ceil(16);
    let panel: [usize; B] = core::array::from_fn(|b| (w.channels.0 / 16 + b.min(panels - 1)) * 16 * depth);
    let mut scales = [_mm512_setzero_ps(); B];
    for b in 0..B {
        scales[b] = reals(w.scales, b);
    }
    let mut acc = [[_mm512_setzero_ps(); B]; R];
    if let To::Sums(Sums { sums, fresh: false, .. }) = to {
        for p in 0..R {
            for b in 0..B {
                acc[p][b] = reals(&sums[(first + p) * n..(first + p + 1) * n], b);
            }
        }
    }
    let step = x.step;
    for (r, row) in x.rows.iter().enumerate() {
        for t in 0..x.taps {
            let k = ((w.first_row + r) * x.taps + t) * line;
            // SAFETY: all addresses are within the rows and the weights, by `fits`.
            unsafe {
                let from = row.as_ptr().add(first * step + t * x.tap_step);
                let weights = w.data.as_ptr().add(k * 16);
                for k in 0..line {
                    let mut v = [_mm512_setzero_ps(); B];
                    for b in 0..B {
                        v[b] = Stored::load(weights.add(panel[b] + 16 * k), scales[b]);
                    }
                    for p in 0..R {
                        let x = _mm512_set1_ps(*from.add(p * step + k));
                        for b in 0..B {
                            acc[p][b] = _mm512_fmadd_ps(x, v[b], acc[p][b]);
                        }
                    }
                }
            }
        }
    }
    match to {
        To::Sums(Sums { sums, .. }) => {
            for p in 0..R {
                for b in 0..B {
                    if b < panels {
                        let to = &mut sums[(first + p) * n + 16 * b..(first + p + 1) * n];
                        // SAFETY: the mask has no more lanes than there are elements.
                        unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), lanes(to.len(), 0), acc[p][b]) };
                    }
                }
            }
        }
        To::Floats(end, residual, out) => {
            // What is indexed by variables lies in memory: a copy, that the sums need not.
            let mut done = [[_mm512_setzero_ps(); B]; R];
            for p in 0..R {
                for b in 0..B {
                    done[p][b] = acc[p][b];
                }
            }
            // SAFETY: the caller's.
            unsafe { store(done.as_flattened(), (B, n), end, *residual, out, first) }
        }
    }
}

/// Takes the sums of pixels from `first` on, of `n` channels in `blocks` vectors each, to results and stores them.
///
/// # Safety
/// Bias and scale have all channels, and `out` and the residual a run of them for each pixel.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn store(
    sums: &[__m512],
    (blocks, n): (usize, usize),
    end: &Plain<'_>,
    residual: Option<*const f32>,
    out: &mut PixelsMut<'_, f32>,
    first: usize,
) {
    let (to, step) = (out.as_mut_ptr(), out.step());
    for b in 0..n.div_ceil(16) {
        let (mask, bias, scale) = (lanes(n, b), reals(&end.bias[..n], b), reals(end.scale, b));
        for (p, pixel) in sums.chunks_exact(blocks).enumerate() {
            let at = (first + p) * step + 16 * b;
            let mut v = _mm512_add_ps(pixel[b], bias);
            if !end.scale.is_empty() {
                v = _mm512_mul_ps(v, scale);
            }
            if let Some(residual) = residual {
                // SAFETY: the caller's; masked lanes are not read.
                v = _mm512_add_ps(v, unsafe { _mm512_maskz_loadu_ps(mask, residual.add(at)) });
            }
            if end.relu {
                // NaN stays.
                let below = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(v, _mm512_setzero_ps());
                v = _mm512_mask_mov_ps(v, below, _mm512_setzero_ps());
            }
            // SAFETY: the caller's; masked lanes are not written.
            unsafe { _mm512_mask_storeu_ps(to.add(at), mask, v) };
        }
    }
}
