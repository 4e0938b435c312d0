//! Depthwise products of bytes: four taps of a kernel column at a time, by `vpdpbusd`. [`Layout`] has the products; here is what
//! becomes of their sums.

use core::arch::x86_64::*;
use core::ops::Range;

use kinglet::elementwise::Elementwise;
use kinglet::product::{Depthwise, Finish, Inputs, Integers, Microkernel, Place, Rounding, Sign, Sums, Weights};
use kinglet::rows::{PixelsMut, View};

use super::dense_i8::copy;
use super::finish;
use super::fours::{CHANNELS, Layout};
use super::lanes;
use super::round::Ends;
use crate::Avx512;
use crate::by_fours;

/// As many pixels as there is room for, 64 channels.
#[derive(Clone, Copy)]
pub(crate) struct DepthwiseI8(pub(crate) Avx512);

impl Microkernel for DepthwiseI8 {
    type X = u8;
    type W = i8;
    type Sum = i32;
    type Out = f32;
    const ROUNDS: bool = true;

    #[inline(always)]
    fn tile(pixels: usize, _: usize, room: usize) -> (usize, usize) {
        (pixels.clamp(1, room), 1)
    }

    #[inline(always)]
    fn in_place<'a>(&self, x: &View<'a>, start: usize, len: usize) -> Option<&'a [u8]> {
        Some(x.slice(start, len))
    }

    fn copy(&self, x: &View<'_>, start: usize, sign: Sign, to: &mut [u8]) {
        // SAFETY: `self.0` is the proof of the feature.
        unsafe { copy(x, start, sign, to) }
    }

    fn padding(&self, x: &View<'_>, sign: Sign) -> u8 {
        Depthwise::<Integers>::default().padding(x, sign)
    }

    fn multiply(&self, x: &Inputs<'_, u8>, w: &Weights<'_, i8>, to: Sums<'_, i32>) {
        // SAFETY: `self.0` is the proof of the features.
        let done = unsafe { self.added(x, w, to) };
        debug_assert!(done, "a tile of {} pixels and {} channels", x.pixels, w.width());
    }

    #[inline(always)]
    fn finish<E: Elementwise>(&self, f: &mut Finish<'_, E>, to: Place, sums: &mut [i32], other: &mut [f32]) {
        // SAFETY: `self.0` is the proof of the features.
        unsafe { finish::integers(f, to, sums, other) }
    }

    fn centred(&self, x: &Inputs<'_, u8>, pixel: usize, at: Range<usize>, sum: i32, zero: i16) -> i32 {
        Depthwise::<Integers>::default().centred(x, pixel, at, sum, zero)
    }

    fn round(
        &self,
        x: &Inputs<'_, u8>,
        w: &Weights<'_, i8>,
        r: &Rounding<'_>,
        scratch: &mut [u8],
        out: &mut PixelsMut<'_, u8>,
    ) -> bool {
        let n = w.width();
        let ends = r.bias.len() >= n && r.multipliers.len() >= n && out.count() >= x.pixels && out.run_len() >= n;
        // SAFETY: `self.0` is the proof of the features; what is read and written has just been checked.
        ends && self.reads(x, w) && unsafe { self.rounded(x, w, r, scratch, out) }
    }
}

/// Taps of a channel in a kernel column and in all of them, with the zeros that fill up fours.
#[inline(always)]
fn taps(w: &Weights<'_, i8>) -> (usize, usize) {
    let line = w.extents.length.next_multiple_of(4);
    (line, w.extents.lines * line)
}

impl DepthwiseI8 {
    /// Whether the weights of a tile lie as this kernel reads them, and its rows reach as far.
    #[inline(always)]
    fn reads(&self, x: &Inputs<'_, u8>, w: &Weights<'_, i8>) -> bool {
        let n = w.width();
        by_fours(&w.packing, CHANNELS as u32) && {
            let (line, depth) = taps(w);
            x.fit(n)
                && (1..=CHANNELS).contains(&n)
                && w.channels.0.is_multiple_of(CHANNELS)
                && w.first_row.is_multiple_of(4)
                && w.first_row + x.rows.len() <= line
                && x.taps * line <= depth
                && (w.channels.0 + CHANNELS) * depth <= w.data.len()
        }
    }

    /// Calls `f(i, j, sums)` with each four vectors of sums of a tile, as [`Layout::multiply`] does.
    ///
    /// # Safety
    /// [`DepthwiseI8::reads`] and [`Layout::fits`] hold.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn each<const K: usize>(
        self,
        layout: &Layout<K>,
        (x, w): (&Inputs<'_, u8>, &Weights<'_, i8>),
        scratch: &mut [u8],
        bias: [__m512i; K],
        f: impl FnMut(usize, usize, [__m512i; 4]),
    ) {
        let (line, depth) = taps(w);
        // SAFETY: as `reads` and `fits` have checked.
        unsafe {
            let weights = w.data.as_ptr().add(w.channels.0 * depth + w.first_row * CHANNELS);
            layout.interleave(x, scratch);
            layout.multiply(x, (weights, line * CHANNELS), scratch, bias, f);
        }
    }

    /// Adds the products of a tile to its sums; `false` if this kernel cannot.
    ///
    /// # Safety
    /// The CPU has the features.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn added(self, x: &Inputs<'_, u8>, w: &Weights<'_, i8>, to: Sums<'_, i32>) -> bool {
        let n = w.width();
        let (sums, scratch) = to.so_far();
        let layout = Layout::<4>::by_pixels(x, w);
        if sums.len() < x.pixels * n || !self.reads(x, w) || !layout.fits(x, scratch) {
            return false;
        }
        let none = [_mm512_setzero_si512(); 4];
        // SAFETY: that has just been checked.
        unsafe {
            self.each(&layout, (x, w), scratch, none, |pixel, _, acc| {
                for (v, acc) in acc.into_iter().enumerate() {
                    let Some(to) = sums[pixel * n..(pixel + 1) * n].get_mut(16 * v..) else { break };
                    let mask = lanes(to.len(), 0);
                    // The mask has no more lanes than there are elements.
                    let sum = _mm512_add_epi32(_mm512_maskz_loadu_epi32(mask, to.as_ptr()), acc);
                    _mm512_mask_storeu_epi32(to.as_mut_ptr(), mask, sum);
                }
            });
        }
        true
    }

    /// Multiplies a tile, rounds its sums and stores them; `false` if this kernel cannot.
    ///
    /// # Safety
    /// [`DepthwiseI8::reads`] holds; bias and multipliers are as long as the tile is wide, and `out` has a run of that width for
    /// each pixel.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn rounded(
        self,
        x: &Inputs<'_, u8>,
        w: &Weights<'_, i8>,
        r: &Rounding<'_>,
        scratch: &mut [u8],
        out: &mut PixelsMut<'_, u8>,
    ) -> bool {
        let n = w.width();
        macro_rules! stored {
            ($layout:expr) => {
                // SAFETY: the caller's.
                $layout.is_some_and(|l| unsafe { self.stored(&l, (x, w), r, scratch, out) })
            };
        }
        let flat = out.step() == n
            && match n {
                8 | 16 => stored!(Layout::<1>::flat(x, w)),
                32 => stored!(Layout::<2>::flat(x, w)),
                24 | 48 => stored!(Layout::<3>::flat(x, w)),
                40 => stored!(Layout::<5>::flat(x, w)),
                _ => false,
            };
        flat || n <= 16 && stored!(Some(Layout::<1>::by_pixels(x, w)))
            || n <= 32 && stored!(Some(Layout::<2>::by_pixels(x, w)))
            || stored!(Some(Layout::<4>::by_pixels(x, w)))
    }

    /// Multiplies a tile, rounds its sums and stores them; `false` if the layout does not fit.
    ///
    /// # Safety
    /// As [`DepthwiseI8::rounded`]. If the layout is flat, the pixels of `out` lie side by side.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn stored<const K: usize>(
        self,
        layout: &Layout<K>,
        (x, w): (&Inputs<'_, u8>, &Weights<'_, i8>),
        r: &Rounding<'_>,
        scratch: &mut [u8],
        out: &mut PixelsMut<'_, u8>,
    ) -> bool {
        if !layout.fits(x, scratch) {
            return false;
        }
        let (n, pixels) = (w.width(), x.pixels);
        let (ends, m) = (Ends::of(r), layout.multipliers(r.multipliers));
        let (to, step) = (out.as_mut_ptr(), out.step());
        let there = u64::MAX >> (CHANNELS - n);
        // SAFETY: the caller's: nothing is stored beyond the runs of the pixels.
        unsafe {
            self.each(layout, (x, w), scratch, layout.constants(r.bias), |i, j, sums| {
                let mut of = [_mm512_setzero_ps(); 4];
                (0..4).for_each(|v| of[v] = m[(4 * j + v) % K]);
                let mut bytes = ends.bytes(sums, of);
                if layout.flat {
                    // Of the last vectors there may be more than results.
                    let left = (pixels * n).saturating_sub(CHANNELS * i).min(CHANNELS);
                    let there = u64::MAX.checked_shr((CHANNELS - left) as u32).unwrap_or(0);
                    _mm512_mask_storeu_epi8(to.add(CHANNELS * i).cast(), there, bytes);
                    return;
                }
                let each = 4 / K;
                for pixel in each * i..pixels.min(each * (i + 1)) {
                    _mm512_mask_storeu_epi8(to.add(pixel * step).cast(), there, bytes);
                    // The next pixel of the vector comes first.
                    bytes = if K == 1 {
                        _mm512_alignr_epi64::<2>(bytes, bytes)
                    } else {
                        _mm512_alignr_epi64::<4>(bytes, bytes)
                    };
                }
            });
        }
        true
    }
}
