//! Depthwise products of bytes: four taps of a kernel column at a time, by `vpdpbusd`.
//!
//! First the rows under the tile are interleaved by fours: a vector holds 16 channels with four taps each, below each other. Then
//! each of a column's vectors is multiplied for every pixel that it is a tap of.

use core::arch::x86_64::*;
use core::ops::Range;

use kinglet::elementwise::Elementwise;
use kinglet::product::{Depthwise, Finish, Inputs, Integers, Microkernel, Place, Rounding, Sign, Sums, Weights};
use kinglet::rows::{PixelsMut, View};

use super::dense_i8::copy;
use super::finish;
use super::round::Ends;
use super::{depthwise_flat, ints, lanes, reals};
use crate::Avx512;
use crate::by_fours;

/// Channels of a block.
const CHANNELS: usize = 64;
/// Pixels whose sums are held at once: 24 registers of them.
const PIXELS: usize = 6;

/// As many pixels as there is room for, 64 channels.
#[derive(Clone, Copy)]
pub(crate) struct DepthwiseI8(pub(crate) Avx512);

impl Microkernel for DepthwiseI8 {
    type X = u8;
    type W = i8;
    type Sum = i32;
    const ROUNDS: bool = true;

    #[inline(always)]
    fn tile(pixels: usize, room: usize) -> (usize, usize) {
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
            && self.each(x, w, scratch, |pixel, acc| {
                for (v, acc) in acc.into_iter().enumerate() {
                    let Some(to) = sums[pixel * n..(pixel + 1) * n].get_mut(16 * v..) else { break };
                    // SAFETY: the mask has no more lanes than there are elements.
                    unsafe {
                        let mask = lanes(to.len(), 0);
                        let sum = _mm512_add_epi32(_mm512_maskz_loadu_epi32(mask, to.as_ptr()), acc);
                        _mm512_mask_storeu_epi32(to.as_mut_ptr(), mask, sum);
                    }
                }
            });
        debug_assert!(done, "a tile of {} pixels and {n} channels", x.pixels);
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
        // SAFETY: `self.0` is the proof of the features.
        unsafe { rounded(*self, x, w, r, scratch, out) }
    }
}

/// # Safety
/// The CPU has the features.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn rounded(
    k: DepthwiseI8,
    x: &Inputs<'_, u8>,
    w: &Weights<'_, i8>,
    r: &Rounding<'_>,
    scratch: &mut [u8],
    out: &mut PixelsMut<'_, u8>,
) -> bool {
    let n = w.width();
    if r.bias.len() < n || r.multipliers.len() < n || out.count() < x.pixels || out.run_len() < n {
        return false;
    }
    if depthwise_flat::fits(x, w, scratch) {
        let depth = w.packing.depth(&w.extents);
        let taps = x.taps * w.packing.line(&w.extents);
        if !by_fours(&w.packing, CHANNELS as u32) || taps > depth || CHANNELS * depth > w.data.len() || w.first_row != 0
        {
            return false;
        }
        // SAFETY: all of that has just been checked.
        unsafe { depthwise_flat::rounded(x, w, r, scratch, out) };
        return true;
    }
    let (mut bias, mut m) = ([_mm512_setzero_si512(); 4], [_mm512_setzero_ps(); 4]);
    for v in 0..4 {
        (bias[v], m[v]) = (ints(&r.bias[..n], v), reals(&r.multipliers[..n], v));
    }
    let (ends, to, step) = (Ends::of(r), out.as_mut_ptr(), out.step());
    let mask = u64::MAX >> (CHANNELS - n);
    k.each(x, w, scratch, |pixel, mut acc| {
        // SAFETY: the proof is above; there is a run of `n` bytes for each pixel.
        unsafe {
            (0..4).for_each(|v| acc[v] = _mm512_add_epi32(acc[v], bias[v]));
            _mm512_mask_storeu_epi8(to.add(pixel * step).cast(), mask, ends.bytes(acc, m));
        }
    })
}

impl DepthwiseI8 {
    /// Calls `f(pixel, its sums)` for each pixel of the tile; `false` if the tile is not one that this kernel can do.
    #[inline(always)]
    fn each(
        self,
        x: &Inputs<'_, u8>,
        w: &Weights<'_, i8>,
        scratch: &mut [u8],
        f: impl FnMut(usize, [__m512i; 4]),
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
        if fits {
            // SAFETY: `self.0` is the proof of the features; the rest has just been checked.
            unsafe {
                interleave(x, n, columns, scratch);
                multiply(x, w, scratch, f);
            }
        }
        fits
    }
}

/// Interleaves the rows of `columns` columns: `[column][group of four rows][channel][row]`.
///
/// # Safety
/// The rows reach as far, and `to` has room.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn interleave(x: &Inputs<'_, u8>, n: usize, columns: usize, to: &mut [u8]) {
    let mask = u64::MAX >> (CHANNELS - n);
    // Interleaving works within quarters: with the words of four channels turned first, channels come out in order.
    let turn = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let groups = x.rows.len().div_ceil(4);
    for (g, rows) in x.rows.chunks(4).enumerate() {
        for c in 0..columns {
            // SAFETY: masked lanes are not read; all others are within the rows, and what is written within `to`.
            unsafe {
                let mut v = [_mm512_setzero_si512(); 4];
                for (v, row) in v.iter_mut().zip(rows) {
                    let bytes = _mm512_maskz_loadu_epi8(mask, row.as_ptr().add(c * x.column).cast());
                    *v = _mm512_permutexvar_epi32(turn, bytes);
                }
                let (a, b) = (_mm512_unpacklo_epi8(v[0], v[1]), _mm512_unpackhi_epi8(v[0], v[1]));
                let (c2, d) = (_mm512_unpacklo_epi8(v[2], v[3]), _mm512_unpackhi_epi8(v[2], v[3]));
                let to = to.as_mut_ptr().add((c * groups + g) * 256).cast::<__m512i>();
                _mm512_storeu_si512(to.cast(), _mm512_unpacklo_epi16(a, c2));
                _mm512_storeu_si512(to.add(1).cast(), _mm512_unpackhi_epi16(a, c2));
                _mm512_storeu_si512(to.add(2).cast(), _mm512_unpacklo_epi16(b, d));
                _mm512_storeu_si512(to.add(3).cast(), _mm512_unpackhi_epi16(b, d));
            }
        }
    }
}

/// # Safety
/// `from` holds what [`interleave`] wrote, and the weights are there.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn multiply(x: &Inputs<'_, u8>, w: &Weights<'_, i8>, from: &[u8], mut f: impl FnMut(usize, [__m512i; 4])) {
    let groups = x.rows.len().div_ceil(4);
    let (line, depth) = (w.packing.line(&w.extents), w.packing.depth(&w.extents));
    let (step, tap_step) = (x.step / x.column, x.tap_step / x.column);
    // SAFETY: as `each` has checked.
    let weights = unsafe { w.data.as_ptr().add(w.channels.0 * depth + w.first_row * CHANNELS) };
    let mut first = 0;
    while first < x.pixels {
        let there = (x.pixels - first).min(PIXELS);
        let mut acc = [[_mm512_setzero_si512(); 4]; PIXELS];
        for t in 0..x.taps {
            for g in 0..groups {
                // SAFETY: as `each` has checked; pixels beyond the tile are those of its last one once more.
                unsafe {
                    let w = weights.add((t * line + 4 * g) * CHANNELS);
                    let w: [__m512i; 4] = core::array::from_fn(|v| _mm512_loadu_si512(w.add(64 * v).cast()));
                    for p in 0..PIXELS {
                        let column = (first + p.min(there - 1)) * step + t * tap_step;
                        let from = from.as_ptr().add((column * groups + g) * 256);
                        for v in 0..4 {
                            acc[p][v] =
                                _mm512_dpbusd_epi32(acc[p][v], _mm512_loadu_si512(from.add(64 * v).cast()), w[v]);
                        }
                    }
                }
            }
        }
        for (p, acc) in acc.into_iter().take(there).enumerate() {
            f(first + p, acc);
        }
        first += there;
    }
}
