//! Dense products of bytes.

use core::arch::x86_64::*;
use core::ops::Range;

use kinglet::elementwise::Elementwise;
use kinglet::product::{
    Dense, Finish, Inputs, Integers, Matrix, Microkernel, Pack, Place, Rounding, Sign, Sums, Weights, pack_panels,
};
use kinglet::rows::{PixelsMut, View};

use super::round::{Ends, constants};
use crate::Avx2;
use crate::by_fours;

/// Up to 6 pixels × 16 channels.
#[derive(Clone, Copy)]
pub(crate) struct DenseI8(pub(crate) Avx2);

/// Calls `$f::<R>` for the pixels of a tile.
macro_rules! sized {
    ($pixels:expr, $f:ident($($arg:expr),*)) => {
        match $pixels {
            1 => $f::<1>($($arg),*),
            2 => $f::<2>($($arg),*),
            3 => $f::<3>($($arg),*),
            4 => $f::<4>($($arg),*),
            5 => $f::<5>($($arg),*),
            6 => $f::<6>($($arg),*),
            _ => return false,
        }
    };
}
pub(super) use sized;

impl Microkernel for DenseI8 {
    type X = u8;
    type W = i8;
    type Sum = i32;
    type Out = f32;
    const ROUNDS: bool = true;

    #[inline(always)]
    fn tile(pixels: usize, _: usize, room: usize) -> (usize, usize) {
        (pixels.clamp(1, 6.min(room)), 1)
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
        Dense::<Integers>::default().padding(x, sign)
    }

    fn multiply(&self, x: &Inputs<'_, u8>, w: &Weights<'_, i8>, to: Sums<'_, i32>) {
        let ((sums, _), n) = (to.so_far(), w.width());
        let done = sums.len() >= x.pixels * n
            && self.each(x, w, |pixel, channel, acc| {
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
        Dense::<Integers>::default().centred(x, pixel, at, sum, zero)
    }

    fn round(
        &self,
        x: &Inputs<'_, u8>,
        w: &Weights<'_, i8>,
        r: &Rounding<'_>,
        _: &mut [u8],
        out: &mut PixelsMut<'_, u8>,
    ) -> bool {
        let n = w.width();
        let pixels = r.pixels.is_empty() || r.pixels.len() >= x.pixels;
        if out.count() < x.pixels || out.run_len() < n || !pixels {
            return false;
        }
        // SAFETY: `self.0` is the proof of the feature.
        let ends = unsafe { Ends::of(r) };
        self.each(x, w, |pixel, channel, acc| {
            let (mut bias, m) = constants(r, channel);
            if let Some(&pixel) = r.pixels.get(pixel) {
                bias = bias.map(|b| b.wrapping_add(pixel));
            }
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

impl Pack for DenseI8 {
    fn pack(&self, b: &Matrix<'_, i8>, columns: Range<usize>, to: &mut [i8]) {
        #[target_feature(enable = "avx2")]
        fn pack(b: &Matrix<'_, i8>, columns: Range<usize>, to: &mut [i8]) {
            let turn = if b.unsigned { -128 } else { 0 };
            pack_panels::<i8, 16, 4>(b, columns, |v| v ^ turn, to);
        }
        // SAFETY: `self.0` is the proof of the features.
        unsafe { pack(b, columns, to) }
    }
}

/// Adds the bias of 16 channels to their sums.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn plus(acc: [__m256i; 2], bias: &[i32; 16]) -> [__m256i; 2] {
    // SAFETY: the array has two halves of eight.
    let half = |h: usize| unsafe { _mm256_loadu_si256(bias.as_ptr().add(8 * h).cast()) };
    [_mm256_add_epi32(acc[0], half(0)), _mm256_add_epi32(acc[1], half(1))]
}

/// The lanes of two vectors.
#[inline(always)]
pub(super) fn integers(v: [__m256i; 2]) -> [i32; 16] {
    // SAFETY: plain data of the same size.
    unsafe { core::mem::transmute(v) }
}

/// Copies bytes, with their sign turned if it is to be.
#[target_feature(enable = "avx2")]
pub(super) fn copy(x: &View<'_>, start: usize, sign: Sign, to: &mut [u8]) {
    let from = x.slice::<u8>(start, to.len());
    let turn = if sign.moves(x.dtype) == 0 { 0 } else { 0x80 };
    to.iter_mut().zip(from).for_each(|(to, &v)| *to = v ^ turn);
}

impl DenseI8 {
    /// Calls `f(pixel, first of 16 channels, their sums)`; `false` if the tile is not one that this kernel can do.
    #[inline(always)]
    fn each(self, x: &Inputs<'_, u8>, w: &Weights<'_, i8>, mut f: impl FnMut(usize, usize, [__m256i; 2])) -> bool {
        let (line, depth) = (w.packing.line(&w.extents), w.packing.depth(&w.extents));
        let fits = by_fours(&w.packing, 16)
            && x.fit(line)
            && w.channels.0.is_multiple_of(16)
            && (w.first_row + x.rows.len()) * x.taps * line <= depth
            && w.channels.1.div_ceil(16) * 16 * depth <= w.data.len();
        if !fits {
            return false;
        }
        for channel in (0..w.width()).step_by(16) {
            // SAFETY: `self.0` is the proof of the features; all that is read has just been checked.
            let done = unsafe {
                let mut then = |acc: &[[__m256i; 2]]| {
                    acc.iter().enumerate().for_each(|(p, &acc)| f(p, channel, acc));
                };
                if self.0.vnni { by_four(x, w, channel, &mut then) } else { by_two(x, w, channel, &mut then) }
            };
            if !done {
                return false;
            }
        }
        true
    }
}

type Then<'a> = &'a mut dyn FnMut(&[[__m256i; 2]]);

/// With AVX-VNNI.
///
/// # Safety
/// As [`DenseI8::each`] checks.
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn by_four(x: &Inputs<'_, u8>, w: &Weights<'_, i8>, channel: usize, then: Then<'_>) -> bool {
    #[inline]
    #[target_feature(enable = "avx2,avxvnni")]
    unsafe fn sums<const R: usize>(x: &Inputs<'_, u8>, w: &Weights<'_, i8>, channel: usize, then: Then<'_>) {
        let (line, depth) = (w.packing.line(&w.extents), w.packing.depth(&w.extents));
        let mut acc = [[_mm256_setzero_si256(); 2]; R];
        for (r, row) in x.rows.iter().enumerate() {
            for t in 0..x.taps {
                let k = ((w.first_row + r) * x.taps + t) * line;
                // SAFETY: the caller's.
                unsafe {
                    let from = row.as_ptr().add(t * x.tap_step);
                    let weights = w.data.as_ptr().add((w.channels.0 + channel) * depth + k * 16);
                    for k in 0..line / 4 {
                        let w: [__m256i; 2] =
                            core::array::from_fn(|h| _mm256_loadu_si256(weights.add(64 * k + 32 * h).cast()));
                        for p in 0..R {
                            let v = _mm256_set1_epi32(from.add(p * x.step + 4 * k).cast::<i32>().read_unaligned());
                            acc[p] = [
                                _mm256_dpbusd_avx_epi32(acc[p][0], v, w[0]),
                                _mm256_dpbusd_avx_epi32(acc[p][1], v, w[1]),
                            ];
                        }
                    }
                }
            }
        }
        then(&acc);
    }
    // SAFETY: the caller's.
    unsafe { sized!(x.pixels, sums(x, w, channel, then)) };
    true
}

/// Without it: inputs and weights as 16-bit integers, whose products add up in pairs. Eight channels at a time.
///
/// # Safety
/// As [`DenseI8::each`] checks.
#[target_feature(enable = "avx2")]
unsafe fn by_two(x: &Inputs<'_, u8>, w: &Weights<'_, i8>, channel: usize, then: Then<'_>) -> bool {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn sums<const R: usize>(x: &Inputs<'_, u8>, w: &Weights<'_, i8>, channel: usize, then: Then<'_>) {
        let (line, depth) = (w.packing.line(&w.extents), w.packing.depth(&w.extents));
        let mut all = [[_mm256_setzero_si256(); 2]; R];
        for half in 0..2 {
            let mut acc = [[_mm256_setzero_si256(); 2]; R];
            for (r, row) in x.rows.iter().enumerate() {
                for t in 0..x.taps {
                    let k = ((w.first_row + r) * x.taps + t) * line;
                    // SAFETY: the caller's.
                    unsafe {
                        let from = row.as_ptr().add(t * x.tap_step);
                        let weights = w.data.as_ptr().add((w.channels.0 + channel) * depth + k * 16 + 32 * half);
                        for k in 0..line / 4 {
                            let w: [__m256i; 2] = core::array::from_fn(|h| {
                                _mm256_cvtepi8_epi16(_mm_loadu_si128(weights.add(64 * k + 16 * h).cast()))
                            });
                            for p in 0..R {
                                let four = from.add(p * x.step + 4 * k).cast::<i32>().read_unaligned();
                                let v = _mm256_cvtepu8_epi16(_mm_set1_epi32(four));
                                acc[p] = [
                                    _mm256_add_epi32(acc[p][0], _mm256_madd_epi16(v, w[0])),
                                    _mm256_add_epi32(acc[p][1], _mm256_madd_epi16(v, w[1])),
                                ];
                            }
                        }
                    }
                }
            }
            for p in 0..R {
                // Each channel has two sums side by side. Adding them works within halves.
                let sums = _mm256_hadd_epi32(acc[p][0], acc[p][1]);
                all[p][half] = _mm256_permute4x64_epi64::<0b11_01_10_00>(sums);
            }
        }
        then(&all);
    }
    // SAFETY: the caller's.
    unsafe { sized!(x.pixels, sums(x, w, channel, then)) };
    true
}
