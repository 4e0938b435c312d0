//! Depthwise products of bytes: four taps of a kernel column at a time.
//!
//! As for AVX-512, the rows under the tile are interleaved by fours first.

use core::arch::x86_64::*;
use core::ops::Range;

use kinglet::elementwise::Elementwise;
use kinglet::product::{Depthwise, Finish, Inputs, Integers, Microkernel, Place, Rounding, Sign, Sums, Weights};
use kinglet::rows::{PixelsMut, View};

use super::dense_i8::{copy, integers, plus};
use super::round::{Ends, constants};
use super::some;
use crate::Avx2;
use crate::by_fours;

/// Channels of a block.
const CHANNELS: usize = 64;
/// Pixels whose sums are held at once.
const PIXELS: usize = 4;

/// As many pixels as there is room for, 64 channels.
#[derive(Clone, Copy)]
pub(crate) struct DepthwiseI8(pub(crate) Avx2);

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
        let n = w.width();
        let (sums, scratch) = to.so_far();
        let done = sums.len() >= x.pixels * n
            && self.each(x, w, scratch, |pixel, channel, acc| {
                let sums = &mut sums[pixel * n..(pixel + 1) * n];
                sums[channel..].iter_mut().zip(integers(acc)).for_each(|(s, v)| *s = s.wrapping_add(v));
            });
        debug_assert!(done, "a tile of {} pixels and {n} channels", x.pixels);
    }

    #[inline(always)]
    fn finish<E: Elementwise>(&self, f: &mut Finish<'_, E>, to: Place, sums: &mut [i32], other: &mut [f32]) {
        #[target_feature(enable = "avx2")]
        fn finish<E: Elementwise>(f: &mut Finish<'_, E>, to: Place, sums: &mut [i32], other: &mut [f32]) {
            f.integers(to, sums, other);
        }
        // SAFETY: `self.0` is the proof of the features.
        unsafe { finish(f, to, sums, other) }
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
        if out.count() < x.pixels || out.run_len() < n {
            return false;
        }
        // SAFETY: `self.0` is the proof of the feature.
        let ends = unsafe { Ends::of(r) };
        self.each(x, w, scratch, |pixel, channel, acc| {
            let (bias, m) = constants(r, channel);
            // SAFETY: as above.
            let bytes = unsafe { ends.bytes(plus(acc, &bias), &m) };
            let to = &mut out.run(pixel)[channel..n];
            match to.first_chunk_mut() {
                Some(to) => *to = bytes,
                None => to.copy_from_slice(&bytes[..to.len()]),
            }
        })
    }
}

impl DepthwiseI8 {
    /// Calls `f(pixel, first of 16 channels, their sums)`; `false` if the tile is not one that this kernel can do.
    #[inline(always)]
    fn each(
        self,
        x: &Inputs<'_, u8>,
        w: &Weights<'_, i8>,
        scratch: &mut [u8],
        mut f: impl FnMut(usize, usize, [__m256i; 2]),
    ) -> bool {
        let n = w.width();
        let (line, depth) = (w.packing.line(&w.extents), w.packing.depth(&w.extents));
        let groups = x.rows.len().div_ceil(4);
        let columns = ((x.pixels.max(1) - 1) * x.step + (x.taps - 1) * x.tap_step) / x.column + 1;
        let fits = by_fours(&w.packing, CHANNELS as u32)
            && x.fit(n)
            && n <= CHANNELS
            && w.channels.0.is_multiple_of(CHANNELS)
            && w.first_row.is_multiple_of(4)
            && w.first_row + 4 * groups <= line
            && (w.channels.0 + CHANNELS) * depth <= w.data.len()
            && columns * groups * 256 <= scratch.len();
        if !fits {
            return false;
        }
        // SAFETY: `self.0` is the proof of the features; the rest has just been checked.
        unsafe {
            interleave(x, n, columns, scratch);
            for channel in (0..n).step_by(16) {
                for first in (0..x.pixels).step_by(PIXELS) {
                    let there = PIXELS.min(x.pixels - first);
                    let at = (first, there, channel);
                    let acc = if self.0.vnni { by_four(x, w, scratch, at) } else { by_two(x, w, scratch, at) };
                    acc.into_iter().take(there).enumerate().for_each(|(p, acc)| f(first + p, channel, acc));
                }
            }
        }
        true
    }
}

/// Interleaves the rows of `columns` columns: `[column][group of four rows][channel][row]`.
///
/// # Safety
/// `to` has room.
#[target_feature(enable = "avx2")]
unsafe fn interleave(x: &Inputs<'_, u8>, n: usize, columns: usize, to: &mut [u8]) {
    let groups = x.rows.len().div_ceil(4);
    for (g, rows) in x.rows.chunks(4).enumerate() {
        for c in 0..columns {
            for channel in (0..n).step_by(16) {
                let mut v = [_mm_setzero_si128(); 4];
                for (v, row) in v.iter_mut().zip(rows) {
                    let bytes: [u8; 16] = some(&row[..c * x.column + n], c * x.column + channel);
                    // SAFETY: an array of 16 bytes.
                    *v = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
                }
                let (a, b) = (_mm_unpacklo_epi8(v[0], v[1]), _mm_unpackhi_epi8(v[0], v[1]));
                let (c2, d) = (_mm_unpacklo_epi8(v[2], v[3]), _mm_unpackhi_epi8(v[2], v[3]));
                // SAFETY: the caller's.
                unsafe {
                    let to = to.as_mut_ptr().add((c * groups + g) * 256 + 4 * channel).cast::<__m128i>();
                    _mm_storeu_si128(to, _mm_unpacklo_epi16(a, c2));
                    _mm_storeu_si128(to.add(1), _mm_unpackhi_epi16(a, c2));
                    _mm_storeu_si128(to.add(2), _mm_unpacklo_epi16(b, d));
                    _mm_storeu_si128(to.add(3), _mm_unpackhi_epi16(b, d));
                }
            }
        }
    }
}

/// Calls `$f(sums of a pixel, its inputs, weights)` for each tap of 16 channels.
macro_rules! taps {
    ($x:ident, $w:ident, $from:ident, $at:ident, |$p:ident, $inputs:ident, $weights:ident| $body:expr) => {{
        let (first, there, channel) = $at;
        let groups = $x.rows.len().div_ceil(4);
        let (line, depth) = ($w.packing.line(&$w.extents), $w.packing.depth(&$w.extents));
        let (step, tap_step) = ($x.step / $x.column, $x.tap_step / $x.column);
        // SAFETY: as `DepthwiseI8::each` has checked; pixels beyond the tile are those of its last one once more.
        unsafe {
            let weights = $w.data.as_ptr().add($w.channels.0 * depth + $w.first_row * CHANNELS + 4 * channel);
            for t in 0..$x.taps {
                for g in 0..groups {
                    let $weights = weights.add((t * line + 4 * g) * CHANNELS);
                    for $p in 0..PIXELS {
                        let column = (first + $p.min(there - 1)) * step + t * tap_step;
                        let $inputs = $from.as_ptr().add((column * groups + g) * 256 + 4 * channel);
                        $body
                    }
                }
            }
        }
    }};
}

/// With AVX-VNNI: the sums of pixels and 16 channels.
///
/// # Safety
/// As [`DepthwiseI8::each`] checks.
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn by_four(
    x: &Inputs<'_, u8>,
    w: &Weights<'_, i8>,
    from: &[u8],
    at: (usize, usize, usize),
) -> [[__m256i; 2]; PIXELS] {
    let mut acc = [[_mm256_setzero_si256(); 2]; PIXELS];
    taps!(x, w, from, at, |p, inputs, weights| {
        for h in 0..2 {
            let v = _mm256_loadu_si256(inputs.add(32 * h).cast());
            acc[p][h] = _mm256_dpbusd_avx_epi32(acc[p][h], v, _mm256_loadu_si256(weights.add(32 * h).cast()));
        }
    });
    acc
}

/// Without it.
///
/// # Safety
/// As [`DepthwiseI8::each`] checks.
#[target_feature(enable = "avx2")]
unsafe fn by_two(
    x: &Inputs<'_, u8>,
    w: &Weights<'_, i8>,
    from: &[u8],
    at: (usize, usize, usize),
) -> [[__m256i; 2]; PIXELS] {
    let mut acc = [[[_mm256_setzero_si256(); 2]; 2]; PIXELS];
    taps!(x, w, from, at, |p, inputs, weights| {
        for q in 0..4 {
            let v = _mm256_cvtepu8_epi16(_mm_loadu_si128(inputs.add(16 * q).cast()));
            let w = _mm256_cvtepi8_epi16(_mm_loadu_si128(weights.add(16 * q).cast()));
            acc[p][q / 2][q % 2] = _mm256_add_epi32(acc[p][q / 2][q % 2], _mm256_madd_epi16(v, w));
        }
    });
    let mut all = [[_mm256_setzero_si256(); 2]; PIXELS];
    for p in 0..PIXELS {
        for h in 0..2 {
            let sums = _mm256_hadd_epi32(acc[p][h][0], acc[p][h][1]);
            all[p][h] = _mm256_permute4x64_epi64::<0b11_01_10_00>(sums);
        }
    }
    all
}
