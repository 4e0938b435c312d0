//! Rows of bytes interleaved by fours, and their products by `vpdpbusd`: what depthwise products of bytes are made of.
//!
//! A vector has four taps, below each other, of 16 channels. First all that lies under a tile is interleaved into such vectors.
//! The sums are vectors of 16, too: those of a pixel follow each other, and *period* is the number of vectors after which channels
//! repeat. Each is added up over all taps before the next are begun.

use core::arch::x86_64::*;

use kinglet::product::{Inputs, Weights};

use super::{ints, reals};

/// Channels of a panel of weights.
pub(super) const CHANNELS: usize = 64;
/// Bytes of a vector.
const VECTOR: usize = 64;

/// How the inputs of a tile lie once they are interleaved: `[four rows][load][vector]`. Steps are in bytes; `K` is the period.
#[derive(Clone, Copy)]
pub(super) struct Layout<const K: usize> {
    /// Channels.
    n: usize,
    /// Loads from a row, and the bytes between the begins of two.
    loads: usize,
    apart: usize,
    /// Bytes of a load that are there, by bit; those of the last one.
    there: u64,
    last: u64,
    /// From the inputs of a period of sums to those of the next one.
    step: usize,
    /// From a tap to the next one.
    tap: usize,
    /// Vectors of sums.
    sums: usize,
    /// The pixels lie side by side, and a load is 64 bytes of them. Otherwise a load is a pixel, and becomes a period of vectors.
    pub(super) flat: bool,
}

impl<const K: usize> Layout<K> {
    /// All pixels side by side: rows are interleaved as they lie, whatever pixel a byte belongs to. `None` if the tile has not
    /// all channels, or `K` vectors are not what these repeat after.
    #[inline(always)]
    pub(super) fn flat(x: &Inputs<'_, u8>, w: &Weights<'_, i8>) -> Option<Self> {
        let n = w.width();
        let whole = n == 16 * K;
        let all = w.extents.channels == n && x.column == n;
        if !all || !(whole || Self::wraps(n) && x.step == n) {
            return None;
        }
        let bytes = (x.pixels.max(1) - 1) * x.step + (x.taps.max(1) - 1) * x.tap_step + n;
        Some(Layout {
            n,
            loads: bytes.div_ceil(VECTOR),
            apart: VECTOR,
            there: u64::MAX,
            last: u64::MAX >> (bytes.wrapping_neg() % VECTOR),
            step: if whole { 4 * x.step } else { K * VECTOR },
            tap: 4 * x.tap_step,
            sums: (x.pixels * n).div_ceil(16),
            flat: true,
        })
    }

    /// Pixel by pixel: each column has `K` vectors of its own, of which `K` is 1, 2 or 4.
    #[inline(always)]
    pub(super) fn by_pixels(x: &Inputs<'_, u8>, w: &Weights<'_, i8>) -> Self {
        let n = w.width();
        // Steps are multiples of a column, most often one.
        let columns = |step: usize| if step == x.column { 1 } else { step / x.column.max(1) };
        let (step, tap) = (columns(x.step), columns(x.tap_step));
        let there = u64::MAX >> (CHANNELS - n.clamp(1, CHANNELS));
        Layout {
            n,
            loads: (x.pixels.max(1) - 1) * step + (x.taps.max(1) - 1) * tap + 1,
            apart: x.column,
            there,
            last: there,
            step: step * K * VECTOR,
            tap: tap * K * VECTOR,
            sums: x.pixels * K,
            flat: false,
        }
    }

    /// Whether a period of so many channels has them twice.
    #[inline(always)]
    fn wraps(n: usize) -> bool {
        K % 2 == 1 && n == 8 * K
    }

    /// From four rows to the next four.
    #[inline(always)]
    fn group(&self) -> usize {
        self.loads * if self.flat { 4 } else { K } * VECTOR
    }

    /// Vectors of sums, divided by four, that are added up at once where so many are left.
    #[inline(always)]
    fn at_once(left: usize) -> usize {
        match K {
            4 => (left / 4).min(6),
            5 => 5,
            _ if left > 12 => 6,
            _ => 3,
        }
    }

    /// Whether all that is interleaved lies within `scratch`, and what is read there. That may be more than there is: but for
    /// whole pixels of four vectors, more sums are computed than are wanted.
    #[inline(always)]
    pub(super) fn fits(&self, x: &Inputs<'_, u8>, scratch: &[u8]) -> bool {
        let groups = x.rows.len().div_ceil(4);
        let periods = if K == 4 { self.sums / 4 } else { (self.sums + 4 * Self::at_once(usize::MAX)).div_ceil(K) };
        let read = (periods.max(1) - 1) * self.step + K * VECTOR + (x.taps.max(1) - 1) * self.tap;
        groups.saturating_sub(1) * self.group() + read.max(self.group()) <= scratch.len()
    }

    /// The constants of the channels of a period.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn constants(&self, of: &[i32]) -> [__m512i; K] {
        let mut all = [_mm512_setzero_si512(); K];
        let Some(of) = of.get(..self.n) else { return all };
        if Self::wraps(self.n) {
            // SAFETY: there are `8 K` words.
            return unsafe { wrapped(of.as_ptr()) };
        }
        (0..K).for_each(|k| all[k] = ints(of, k));
        all
    }

    /// As [`Layout::constants`], of floats.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn multipliers(&self, of: &[f32]) -> [__m512; K] {
        let mut all = [_mm512_setzero_ps(); K];
        let Some(of) = of.get(..self.n) else { return all };
        if Self::wraps(self.n) {
            // SAFETY: there are `8 K` words.
            let words = unsafe { wrapped::<K>(of.as_ptr().cast()) };
            (0..K).for_each(|k| all[k] = _mm512_castsi512_ps(words[k]));
        } else {
            (0..K).for_each(|k| all[k] = reals(of, k));
        }
        all
    }

    /// Interleaves the rows of a tile.
    ///
    /// # Safety
    /// [`Layout::fits`] and [`Inputs::fit`] hold.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) unsafe fn interleave(&self, x: &Inputs<'_, u8>, to: &mut [u8]) {
        for (g, rows) in x.rows.chunks(4).enumerate() {
            // SAFETY: the caller's.
            unsafe {
                let to = to.as_mut_ptr().add(g * self.group());
                if self.flat { self.some_rows::<4>(rows, to) } else { self.some_rows::<K>(rows, to) }
            }
        }
    }

    /// # Safety
    /// As [`Layout::interleave`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn some_rows<const V: usize>(&self, rows: &[&[u8]], to: *mut u8) {
        // SAFETY: the caller's.
        unsafe {
            match *rows {
                [a] => self.four_rows::<V, 1>([a], to),
                [a, b] => self.four_rows::<V, 2>([a, b], to),
                [a, b, c] => self.four_rows::<V, 3>([a, b, c], to),
                [a, b, c, d] => self.four_rows::<V, 4>([a, b, c, d], to),
                _ => {}
            }
        }
    }

    /// Interleaves `R` rows, and zeros for those that lack of four, to `V` vectors a load.
    ///
    /// # Safety
    /// As [`Layout::interleave`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn four_rows<const V: usize, const R: usize>(&self, rows: [&[u8]; R], to: *mut u8) {
        // Interleaving works within quarters: with the words of four channels turned first, channels come out in order.
        let turn = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        for i in 0..self.loads {
            let there = if i + 1 == self.loads { self.last } else { self.there };
            let mut v = [_mm512_setzero_si512(); 4];
            for r in 0..R {
                // SAFETY: masked lanes are not read; all others are within the rows.
                let bytes = unsafe { _mm512_maskz_loadu_epi8(there, rows[r].as_ptr().add(i * self.apart).cast()) };
                v[r] = _mm512_permutexvar_epi32(turn, bytes);
            }
            let (a, c) = (_mm512_unpacklo_epi8(v[0], v[1]), _mm512_unpacklo_epi8(v[2], v[3]));
            let (b, d) = (_mm512_unpackhi_epi8(v[0], v[1]), _mm512_unpackhi_epi8(v[2], v[3]));
            let all = [
                _mm512_unpacklo_epi16(a, c),
                _mm512_unpackhi_epi16(a, c),
                _mm512_unpacklo_epi16(b, d),
                _mm512_unpackhi_epi16(b, d),
            ];
            for k in 0..V {
                // SAFETY: within scratch, by `fits`.
                unsafe { _mm512_storeu_si512(to.add((i * V + k) * VECTOR).cast(), all[k]) };
            }
        }
    }

    /// Multiplies a tile whose rows are interleaved: calls `f(i, j, sums)` with each four vectors of sums, the `i`th,
    /// whose first vector is number `4 j` modulo the period; behind the last there may be more. `weights` are
    /// those of its panel from its first row on, `line` the bytes of a tap there.
    ///
    /// # Safety
    /// [`Layout::interleave`] has filled `from`; the weights are there.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) unsafe fn multiply(
        &self,
        x: &Inputs<'_, u8>,
        (weights, line): (*const i8, usize),
        from: &[u8],
        bias: [__m512i; K],
        mut f: impl FnMut(usize, usize, [__m512i; 4]),
    ) {
        let tile = Tile { layout: self, taps: x.taps, groups: x.rows.len().div_ceil(4), weights, line };
        let mut first = 0;
        while first < self.sums {
            let n = Self::at_once(self.sums - first);
            // SAFETY: the caller's.
            unsafe {
                let from = from.as_ptr().add(first / K * self.step);
                match (K, n) {
                    (4, 1) => tile.sums::<1>(from, bias, first / 4, &mut f),
                    (4, 2) => tile.sums::<2>(from, bias, first / 4, &mut f),
                    (4, 4) => tile.sums::<4>(from, bias, first / 4, &mut f),
                    (4 | 5, 5) => tile.sums::<5>(from, bias, first / 4, &mut f),
                    (1..=4, 3) => tile.sums::<3>(from, bias, first / 4, &mut f),
                    (1..=4, _) => tile.sums::<6>(from, bias, first / 4, &mut f),
                    _ => return,
                }
            }
            first += 4 * n;
        }
    }
}

/// What is multiplied.
#[derive(Clone, Copy)]
struct Tile<'a, const K: usize> {
    layout: &'a Layout<K>,
    taps: usize,
    groups: usize,
    weights: *const i8,
    line: usize,
}

impl<const K: usize> Tile<'_, K> {
    /// Adds up `4 J` vectors of sums, which begin with `bias`.
    ///
    /// # Safety
    /// As [`Layout::multiply`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn sums<const J: usize>(
        self,
        from: *const u8,
        bias: [__m512i; K],
        first: usize,
        f: &mut impl FnMut(usize, usize, [__m512i; 4]),
    ) {
        let l = self.layout;
        let (group, step) = (l.group(), l.step);
        let mut acc = [[_mm512_setzero_si512(); 4]; J];
        for j in 0..J {
            for v in 0..4 {
                acc[j][v] = bias[(4 * j + v) % K];
            }
        }
        for t in 0..self.taps {
            for g in 0..self.groups {
                // SAFETY: the caller's.
                unsafe {
                    let weights = self.weights.add(t * self.line + g * 4 * CHANNELS);
                    let mut w = [_mm512_setzero_si512(); K];
                    if Layout::<K>::wraps(l.n) {
                        w = wrapped(weights.cast());
                    } else {
                        (0..K).for_each(|k| w[k] = _mm512_loadu_si512(weights.add(k * VECTOR).cast()));
                    }
                    let mut from = from.add(t * l.tap + g * group);
                    for j in 0..J {
                        for v in 0..4 {
                            let k = (4 * j + v) % K;
                            let inputs = _mm512_loadu_si512(from.add(k * VECTOR).cast());
                            acc[j][v] = _mm512_dpbusd_epi32(acc[j][v], inputs, w[k]);
                            if k + 1 == K {
                                from = from.add(step);
                            }
                        }
                    }
                }
            }
        }
        for j in 0..J {
            f(first + j, j, acc[j]);
        }
    }
}

/// `K` vectors in which `8 K` words from `from` on follow each other, twice.
///
/// # Safety
/// They are there.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn wrapped<const K: usize>(from: *const i32) -> [__m512i; K] {
    let mut all = [_mm512_setzero_si512(); K];
    for k in 0..K {
        // SAFETY: eight words from a multiple of eight on.
        let half = |h: usize| unsafe { _mm256_loadu_si256(from.add((16 * k + 8 * h) % (8 * K)).cast()) };
        all[k] = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(half(0)), half(1));
    }
    all
}
