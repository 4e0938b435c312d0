//! Depthwise products of floats, with weights of floats or of bytes: kernel rows, then columns, by fused additions.

use core::arch::x86_64::*;

use kinglet::elementwise::Elementwise;
use kinglet::product::{Finish, Inputs, Microkernel, Place, Sign, Sums, Weights};
use kinglet::rows::View;

use super::{lanes, reals};
use crate::Avx512;
use crate::by_channels;

/// Pixels whose sums are held at once.
const PIXELS: usize = 8;

/// 8 pixels × 32 channels.
#[derive(Clone, Copy)]
pub(crate) struct DepthwiseF32(pub(crate) Avx512);

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
            const SCALED: bool = $scaled;

            #[inline(always)]
            fn tile(_: usize, room: usize) -> (usize, usize) {
                (PIXELS.min(room), 1)
            }

            #[inline(always)]
            fn in_place<'a>(&self, x: &View<'a>, start: usize, len: usize) -> Option<&'a [f32]> {
                Some(x.slice(start, len))
            }

            fn copy(&self, x: &View<'_>, start: usize, _: Sign, to: &mut [f32]) {
                let from = x.slice::<f32>(start, to.len());
                if from.len() == to.len() {
                    to.copy_from_slice(from);
                }
            }

            fn padding(&self, _: &View<'_>, _: Sign) -> f32 {
                0.0
            }

            fn multiply(&self, x: &Inputs<'_, f32>, w: &Weights<'_, $w>, to: Sums<'_, f32>) {
                let Avx512(()) = self.0;
                // SAFETY: that is the proof of the features; `fits` has checked all that is read and written.
                let done = fits(x, w, to.sums) && unsafe { add(x, w, to.sums) };
                debug_assert!(done, "a tile of {} pixels and {} channels", x.pixels, w.width());
            }

            #[inline(always)]
            fn finish<E: Elementwise>(&self, f: &mut Finish<'_, E>, to: Place, sums: &mut [f32], other: &mut [f32]) {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn finish<E: Elementwise>(f: &mut Finish<'_, E>, to: Place, sums: &mut [f32], other: &mut [f32]) {
                    f.floats(to, sums, other);
                }
                // SAFETY: `self.0` is the proof of the features.
                unsafe { finish(f, to, sums, other) }
            }
        }
    };
}

microkernel!(DepthwiseF32, f32, false);
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
    let (n, e) = (w.width(), &w.extents);
    let masks = [lanes(n, 0), lanes(n, 1)];
    let scales = [reals(w.scales, 0), reals(w.scales, 1)];
    let mut acc = [[_mm512_setzero_ps(); 2]; PIXELS];
    for p in 0..x.pixels {
        let from = &to[p * n..(p + 1) * n];
        acc[p] = [reals(from, 0), reals(from, 1)];
    }
    for (r, row) in x.rows.iter().enumerate() {
        for t in 0..x.taps {
            // SAFETY: all addresses of lanes that are there are within rows and weights, by `fits`; pixels beyond the tile are
            // those of its last one once more.
            unsafe {
                let k = t * e.length + w.first_row + r;
                let from = w.data.as_ptr().add(k * e.channels + w.channels.0);
                let w0 = W::load(from, masks[0], scales[0]);
                let w1 = W::load(from.add(if n > 16 { 16 } else { 0 }), masks[1], scales[1]);
                let from = row.as_ptr().add(t * x.tap_step);
                let second = if n > 16 { 16 } else { 0 };
                for p in 0..PIXELS {
                    let from = from.add(p.min(x.pixels - 1) * x.step);
                    acc[p][0] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(masks[0], from), w0, acc[p][0]);
                    acc[p][1] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(masks[1], from.add(second)), w1, acc[p][1]);
                }
            }
        }
    }
    for p in 0..x.pixels {
        for v in 0..2 {
            let Some(to) = to[p * n..(p + 1) * n].get_mut(16 * v..) else { break };
            // SAFETY: the mask has no more lanes than there are elements.
            unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), lanes(to.len(), 0), acc[p][v]) };
        }
    }
    true
}
