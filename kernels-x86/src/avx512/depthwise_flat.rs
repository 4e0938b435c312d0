//! Depthwise products of bytes with few channels: a vector of 64 bytes holds several pixels side by side.
//!
//! The rows under the tile are interleaved by fours as they lie, whatever pixel a byte belongs to; weights, bias and multipliers
//! repeat with the channels. Where the window moves by more than one pixel, the results between are computed and left out.

use core::arch::x86_64::*;

use kinglet::product::{Inputs, Rounding, Weights};
use kinglet::rows::PixelsMut;

use super::round::Ends;

/// Vectors of results whose sums are held at once.
const AT_ONCE: usize = 6;

/// Whether a tile is one of few channels, all that there are.
pub(super) fn fits(x: &Inputs<'_, u8>, w: &Weights<'_, i8>, scratch: &[u8]) -> bool {
    let n = w.width();
    let groups = x.rows.len().div_ceil(4);
    matches!(n, 8 | 16 | 32)
        && w.extents.channels == n
        && x.column == n
        && x.fit(n)
        && of_group(x, n) * groups <= scratch.len()
}

/// Bytes of a row that lie under the tile.
fn positions(x: &Inputs<'_, u8>, n: usize) -> usize {
    (x.pixels.max(1) - 1) * x.step + (x.taps.max(1) - 1) * x.tap_step + n
}

/// Vectors of results of the tile, those between its pixels included.
fn vectors(x: &Inputs<'_, u8>, n: usize) -> usize {
    ((x.pixels.max(1) - 1) * x.step + n).div_ceil(64)
}

/// Interleaved bytes of a group of rows: as far as the last vector of results reads.
fn of_group(x: &Inputs<'_, u8>, n: usize) -> usize {
    (vectors(x, n) * 64 + (x.taps.max(1) - 1) * x.tap_step).next_multiple_of(64) * 4
}

/// Four vectors in which `n` words from `from` on repeat.
///
/// # Safety
/// They are there, and `n` is 8, 16 or 32.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn repeated(from: *const i32, n: usize) -> [__m512i; 4] {
    // SAFETY: the caller's.
    unsafe {
        match n {
            8 => [_mm512_broadcast_i64x4(_mm256_loadu_si256(from.cast())); 4],
            16 => [_mm512_loadu_si512(from.cast()); 4],
            _ => {
                let (a, b) = (_mm512_loadu_si512(from.cast()), _mm512_loadu_si512(from.add(16).cast()));
                [a, b, a, b]
            }
        }
    }
}

/// Multiplies a tile and stores its results.
///
/// # Safety
/// [`fits`] holds, the weights lie by fours in a panel of 64 and are there, bias and multipliers are as long as the tile is wide,
/// and `out` has a run of that width for each pixel.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn rounded(
    x: &Inputs<'_, u8>,
    w: &Weights<'_, i8>,
    r: &Rounding<'_>,
    scratch: &mut [u8],
    out: &mut PixelsMut<'_, u8>,
) {
    let (n, groups, line) = (w.width(), x.rows.len().div_ceil(4), w.packing.line(&w.extents));
    let (positions, of_group) = (positions(x, n), of_group(x, n));
    let turn = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for (g, rows) in x.rows.chunks(4).enumerate() {
        for at in (0..positions).step_by(64) {
            let mask = u64::MAX >> (64 - (positions - at).min(64));
            // SAFETY: masked lanes are not read; all others are within the rows, and what is written within `scratch`.
            unsafe {
                let mut v = [_mm512_setzero_si512(); 4];
                for (v, row) in v.iter_mut().zip(rows) {
                    *v = _mm512_permutexvar_epi32(turn, _mm512_maskz_loadu_epi8(mask, row.as_ptr().add(at).cast()));
                }
                let (a, b) = (_mm512_unpacklo_epi8(v[0], v[1]), _mm512_unpackhi_epi8(v[0], v[1]));
                let (c, d) = (_mm512_unpacklo_epi8(v[2], v[3]), _mm512_unpackhi_epi8(v[2], v[3]));
                let to = scratch.as_mut_ptr().add(g * of_group + 4 * at);
                _mm512_storeu_si512(to.cast(), _mm512_unpacklo_epi16(a, c));
                _mm512_storeu_si512(to.add(64).cast(), _mm512_unpackhi_epi16(a, c));
                _mm512_storeu_si512(to.add(128).cast(), _mm512_unpacklo_epi16(b, d));
                _mm512_storeu_si512(to.add(192).cast(), _mm512_unpackhi_epi16(b, d));
            }
        }
    }
    let results = (x.pixels - 1) * x.step + n;
    let vectors = vectors(x, n);
    // SAFETY: as long as the tile is wide.
    let (bias, m) = unsafe { (repeated(r.bias.as_ptr(), n), repeated(r.multipliers.as_ptr().cast(), n)) };
    let (ends, m) = (Ends::of(r), m.map(|v| _mm512_castsi512_ps(v)));
    for first in (0..vectors).step_by(AT_ONCE) {
        let mut acc = [bias; AT_ONCE];
        for t in 0..x.taps {
            for g in 0..groups {
                // SAFETY: the weights are there; results beyond the last are those of the last vector that is read once more.
                unsafe {
                    let w = repeated(w.data.as_ptr().add((t * line + w.first_row + 4 * g) * 64).cast(), n);
                    for j in 0..AT_ONCE {
                        let at = (first + j).min(vectors - 1) * 64 + t * x.tap_step;
                        let from = scratch.as_ptr().add(g * of_group + 4 * at);
                        for v in 0..4 {
                            acc[j][v] =
                                _mm512_dpbusd_epi32(acc[j][v], _mm512_loadu_si512(from.add(64 * v).cast()), w[v]);
                        }
                    }
                }
            }
        }
        for (j, acc) in acc.into_iter().enumerate().take(vectors - first) {
            let (bytes, at) = (ends.bytes(acc, m), (first + j) * 64);
            let there = (results - at).min(64);
            if x.step == n && out.step() == n {
                // SAFETY: the runs follow each other, and the mask ends with the last.
                unsafe { _mm512_mask_storeu_epi8(out.as_mut_ptr().add(at).cast(), u64::MAX >> (64 - there), bytes) };
                continue;
            }
            let mut some = [0u8; 64];
            // SAFETY: an array of 64 bytes.
            unsafe { _mm512_storeu_si512(some.as_mut_ptr().cast(), bytes) };
            for (i, pixel) in some[..there].chunks_exact(n).enumerate() {
                let at = at + i * n;
                if at.is_multiple_of(x.step) {
                    out.run(at / x.step)[..n].copy_from_slice(pixel);
                }
            }
        }
    }
}
