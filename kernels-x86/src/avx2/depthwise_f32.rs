//! Depthwise products of floats, with weights of floats, of halves or of bytes: kernel rows, then columns, by fused additions.

use core::arch::x86_64::*;

use kinglet::elementwise::Elementwise;
use kinglet::product::{Finish, Inputs, Microkernel, Place, Sign, Sums, Weights};
use kinglet::rows::View;
use kinglet::{DType, f16};

use super::dense_f32::Stored;
use super::some;
use crate::Avx2;
use crate::{by_channels, halves};

/// Pixels whose sums are held at once.
const PIXELS: usize = 6;

/// 6 pixels × 16 channels at a time.
#[derive(Clone, Copy)]
pub(crate) struct DepthwiseF32(pub(crate) Avx2);

/// As [`DepthwiseF32`], with weights of halves.
#[derive(Clone, Copy)]
pub(crate) struct DepthwiseF16(pub(crate) Avx2);

/// As [`DepthwiseF32`], with weights of bytes.
#[derive(Clone, Copy)]
pub(crate) struct DepthwiseW8(pub(crate) Avx2);

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
                let Avx2 { .. } = self.0;
                let (sums, _) = to.so_far();
                // SAFETY: that is the proof of the features; `fits` has checked all that is read and written.
                let done = fits(x, w, sums) && unsafe { add(x, w, sums) };
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

microkernel!(DepthwiseF32, f32, false);
microkernel!(DepthwiseF16, f16, false);
microkernel!(DepthwiseW8, i8, true);

fn fits<W>(x: &Inputs<'_, f32>, w: &Weights<'_, W>, sums: &[f32]) -> bool {
    let e = &w.extents;
    by_channels(&w.packing, 0)
        && x.fit(w.width())
        && x.pixels <= PIXELS
        && w.channels.1 <= e.channels
        && w.first_row + x.rows.len() <= e.length
        && x.taps <= e.lines
        && e.lines * e.length * e.channels <= w.data.len()
        && sums.len() >= x.pixels * w.width()
}

/// # Safety
/// [`fits`] holds.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add<W: Stored>(x: &Inputs<'_, f32>, w: &Weights<'_, W>, to: &mut [f32]) -> bool {
    let (n, e) = (w.width(), &w.extents);
    // SAFETY: an array of 16 has two halves of eight.
    let halves = |v: &[f32; 16]| unsafe { [_mm256_loadu_ps(v.as_ptr()), _mm256_loadu_ps(v.as_ptr().add(8))] };
    for channel in (0..n).step_by(16) {
        let there = 16.min(n - channel);
        let scales = halves(&some(w.scales, channel));
        let mut acc = [[_mm256_setzero_ps(); 2]; PIXELS];
        for p in 0..x.pixels {
            acc[p] = halves(&some(&to[p * n..(p + 1) * n], channel));
        }
        for (r, row) in x.rows.iter().enumerate() {
            for t in 0..x.taps {
                let k = t * e.length + w.first_row + r;
                let from = &w.data[k * e.channels + w.channels.0 + channel..][..there];
                let mut weights = [W::default(); 16];
                let from = match from.first_chunk::<16>() {
                    Some(whole) => whole,
                    None => {
                        weights[..there].copy_from_slice(from);
                        &weights
                    }
                };
                // SAFETY: 16 weights; the proof of the features is the caller's.
                let [w0, w1] = unsafe { [W::load(from.as_ptr(), scales[0]), W::load(from.as_ptr().add(8), scales[1])] };
                for p in 0..x.pixels {
                    let at = p * x.step + t * x.tap_step + channel;
                    let v = halves(&some(&row[..at + there], at));
                    acc[p] = [_mm256_fmadd_ps(v[0], w0, acc[p][0]), _mm256_fmadd_ps(v[1], w1, acc[p][1])];
                }
            }
        }
        for p in 0..x.pixels {
            // SAFETY: plain data of the same size.
            let sums: [f32; 16] = unsafe { core::mem::transmute(acc[p]) };
            to[p * n + channel..][..there].copy_from_slice(&sums[..there]);
        }
    }
    true
}
