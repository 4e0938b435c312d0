//! Dense products of bytes: `vpdpbusd` adds four products to each of 16 sums.

use core::arch::x86_64::*;
use core::ops::Range;

use kinglet::elementwise::Elementwise;
use kinglet::product::{
    Dense, Finish, Inputs, Integers, Matrix, Microkernel, Pack, Place, Rounding, Sign, Sums, Weights, pack_panels,
};
use kinglet::rows::{PixelsMut, View};

use super::finish;
use super::round::Ends;
use super::{ints, lanes, reals};
use crate::Avx512;
use crate::by_fours;

/// 14 pixels × 32 channels at a time: 28 sums, two vectors of weights, one of inputs. Of several such it makes one tile, so that
/// what a tile costs beside its products counts less where sums are short.
#[derive(Clone, Copy)]
pub(crate) struct DenseI8(pub(crate) Avx512);

/// Calls `$f::<R, B>` for the pixels and blocks of a tile.
macro_rules! sized {
    ($pixels:expr, $blocks:expr, $f:ident($($arg:expr),*)) => {
        match ($pixels, $blocks) {
            (1, 1) => $f::<1, 1>($($arg),*),
            (2, 1) => $f::<2, 1>($($arg),*),
            (3, 1) => $f::<3, 1>($($arg),*),
            (4, 1) => $f::<4, 1>($($arg),*),
            (5, 1) => $f::<5, 1>($($arg),*),
            (6, 1) => $f::<6, 1>($($arg),*),
            (7, 1) => $f::<7, 1>($($arg),*),
            (8, 1) => $f::<8, 1>($($arg),*),
            (9, 1) => $f::<9, 1>($($arg),*),
            (10, 1) => $f::<10, 1>($($arg),*),
            (11, 1) => $f::<11, 1>($($arg),*),
            (12, 1) => $f::<12, 1>($($arg),*),
            (13, 1) => $f::<13, 1>($($arg),*),
            (14, 1) => $f::<14, 1>($($arg),*),
            (1, 2) => $f::<1, 2>($($arg),*),
            (2, 2) => $f::<2, 2>($($arg),*),
            (3, 2) => $f::<3, 2>($($arg),*),
            (4, 2) => $f::<4, 2>($($arg),*),
            (5, 2) => $f::<5, 2>($($arg),*),
            (6, 2) => $f::<6, 2>($($arg),*),
            (7, 2) => $f::<7, 2>($($arg),*),
            (8, 2) => $f::<8, 2>($($arg),*),
            (9, 2) => $f::<9, 2>($($arg),*),
            (10, 2) => $f::<10, 2>($($arg),*),
            (11, 2) => $f::<11, 2>($($arg),*),
            (12, 2) => $f::<12, 2>($($arg),*),
            (13, 2) => $f::<13, 2>($($arg),*),
            (14, 2) => $f::<14, 2>($($arg),*),
            (1, 3 | 4) => $f::<1, 4>($($arg),*),
            (2, 3 | 4) => $f::<2, 4>($($arg),*),
            (3, 3 | 4) => $f::<3, 4>($($arg),*),
            (4, 3 | 4) => $f::<4, 4>($($arg),*),
            (1, 5..=8) => $f::<1, 8>($($arg),*),
            _ => return false,
        }
    };
}
pub(super) use sized;

/// Most pixels whose sums are in registers at once.
const PIXELS: usize = 14;

/// Pixels and blocks of a tile: what keeps enough sums going at once, of those that there are registers for, or several of these.
pub(super) fn tile(pixels: usize, room: usize) -> (usize, usize) {
    let (p, b) = match pixels {
        0 | 1 => (1, 8),
        2..=4 => (pixels, 4),
        _ => (PIXELS, 2),
    };
    let at_once = if p == PIXELS { (room / (p * b)).max(1) } else { 1 };
    if p * b <= room { (p * at_once, b) } else { (p.min(room), 1) }
}

/// Calls `f(first, number)` for runs of pixels that are multiplied at once, about as many each, of so many.
#[inline(always)]
pub(super) fn runs(pixels: usize, mut f: impl FnMut(usize, usize) -> bool) -> bool {
    if pixels <= PIXELS {
        return f(0, pixels);
    }
    let each = pixels.div_ceil(pixels.div_ceil(PIXELS));
    (0..pixels).step_by(each).all(|first| f(first, each.min(pixels - first)))
}

impl Microkernel for DenseI8 {
    type X = u8;
    type W = i8;
    type Sum = i32;
    type Out = f32;
    const ROUNDS: bool = true;

    #[inline(always)]
    fn tile(pixels: usize, _: usize, room: usize) -> (usize, usize) {
        tile(pixels, room)
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
        // SAFETY: `self.0` is the proof of the features; `fits` has checked all that is read, the sums' length is checked there.
        let done = fits(x, w) && to.sums.len() >= x.pixels * w.width() && unsafe { tile_to(x, w, To::Sums(to)) };
        debug_assert!(done, "a tile of {} pixels and {} channels", x.pixels, w.width());
    }

    #[inline(always)]
    fn finish<E: Elementwise>(&self, f: &mut Finish<'_, E>, to: Place, sums: &mut [i32], other: &mut [f32]) {
        // SAFETY: `self.0` is the proof of the features.
        unsafe { finish::integers(f, to, sums, other) }
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
        let ends = r.bias.len() >= n
            && r.multipliers.len() >= n
            && (r.pixels.is_empty() || r.pixels.len() >= x.pixels)
            && out.count() >= x.pixels
            && out.run_len() >= n;
        // SAFETY: `self.0` is the proof of the features; what is read and written has just been checked.
        fits(x, w) && ends && unsafe { tile_to(x, w, To::Bytes(r, out)) }
    }
}

impl Pack for DenseI8 {
    fn pack(&self, b: &Matrix<'_, i8>, columns: Range<usize>, to: &mut [i8]) {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
        fn pack(b: &Matrix<'_, i8>, columns: Range<usize>, to: &mut [i8]) {
            let turn = if b.unsigned { -128 } else { 0 };
            pack_panels::<i8, 16, 4>(b, columns, |v| v ^ turn, to);
        }
        // SAFETY: `self.0` is the proof of the features.
        unsafe { pack(b, columns, to) }
    }
}

/// Copies bytes, with their sign turned if it is to be.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn copy(x: &View<'_>, start: usize, sign: Sign, to: &mut [u8]) {
    let from = x.slice::<u8>(start, to.len());
    let turn = _mm512_set1_epi8(if sign.moves(x.dtype) == 0 { 0 } else { i8::MIN });
    // What is copied is soon read by vectors as wide as these.
    for (to, from) in to.chunks_mut(64).zip(from.chunks(64)) {
        let there = u64::MAX >> (64 - to.len().min(from.len()));
        // SAFETY: the mask has no more lanes than there are bytes on either side.
        unsafe {
            let bytes = _mm512_maskz_loadu_epi8(there, from.as_ptr().cast());
            _mm512_mask_storeu_epi8(to.as_mut_ptr().cast(), there, _mm512_xor_si512(bytes, turn));
        }
    }
}

/// Whether the weights lie as these kernels read them, and all that a tile reads is there.
fn fits(x: &Inputs<'_, u8>, w: &Weights<'_, i8>) -> bool {
    let (line, depth) = (w.packing.line(&w.extents), w.packing.depth(&w.extents));
    by_fours(&w.packing, 16)
        && x.fit(line)
        && w.channels.0.is_multiple_of(16)
        && (w.first_row + x.rows.len()) * x.taps * line <= depth
        && w.channels.1.div_ceil(16) * 16 * depth <= w.data.len()
}

/// What becomes of the sums of a tile.
enum To<'a, 'b> {
    /// They are kept.
    Sums(Sums<'a, i32>),
    /// They are rounded to bytes.
    Bytes(&'a Rounding<'a>, &'a mut PixelsMut<'b, u8>),
}

/// Multiplies a tile; `false` if it is larger than any here.
///
/// # Safety
/// [`fits`] holds. There are as many sums as the tile has; bias, multipliers and the runs of bytes are as long as the tile is wide,
/// and there is a run for each pixel.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tile_to(x: &Inputs<'_, u8>, w: &Weights<'_, i8>, mut to: To<'_, '_>) -> bool {
    runs(x.pixels, |first, pixels| {
        // SAFETY: the caller's.
        unsafe { sized!(pixels, w.width().div_ceil(16), sized_to(x, w, first, &mut to)) };
        true
    })
}

/// `R` pixels from `first` on of `B` panels. The sums stay in registers: nothing before their end may index them by what the compiler does not
/// know.
///
/// # Safety
/// As of [`tile_to`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn sized_to<const R: usize, const B: usize>(
    x: &Inputs<'_, u8>,
    w: &Weights<'_, i8>,
    first: usize,
    to: &mut To<'_, '_>,
) {
    let n = w.width();
    let mut acc = [[_mm512_setzero_si512(); B]; R];
    match to {
        To::Sums(Sums { fresh: true, .. }) => {}
        To::Sums(Sums { sums, .. }) => {
            for p in 0..R {
                for b in 0..B {
                    acc[p][b] = ints(&sums[(first + p) * n..(first + p + 1) * n], b);
                }
            }
        }
        To::Bytes(r, _) => {
            for b in 0..B {
                let bias = ints(&r.bias[..n], b);
                for p in 0..R {
                    acc[p][b] = bias;
                }
            }
            if !r.pixels.is_empty() {
                for p in 0..R {
                    let more = _mm512_set1_epi32(r.pixels.get(first + p).copied().unwrap_or(0));
                    for b in 0..B {
                        acc[p][b] = _mm512_add_epi32(acc[p][b], more);
                    }
                }
            }
        }
    }
    let (line, depth) = (w.packing.line(&w.extents), w.packing.depth(&w.extents));
    let panels = w.channels.1.div_ceil(16) - w.channels.0 / 16;
    // A tile of fewer panels than `B` multiplies the last again; nobody reads what comes of it.
    let panel: [usize; B] = core::array::from_fn(|b| (w.channels.0 / 16 + b.min(panels - 1)) * 16 * depth);
    let step = x.step;
    for (r, row) in x.rows.iter().enumerate() {
        for t in 0..x.taps {
            let k = ((w.first_row + r) * x.taps + t) * line;
            // SAFETY: all addresses are within the rows and the weights, by `fits`.
            unsafe {
                let from = row.as_ptr().add(first * step + t * x.tap_step);
                let weights = w.data.as_ptr().add(k * 16);
                for k in 0..line / 4 {
                    let mut w = [_mm512_setzero_si512(); B];
                    for b in 0..B {
                        w[b] = _mm512_loadu_si512(weights.add(panel[b] + 64 * k).cast());
                    }
                    for p in 0..R {
                        let v = _mm512_set1_epi32(from.add(p * step + 4 * k).cast::<i32>().read_unaligned());
                        for b in 0..B {
                            acc[p][b] = _mm512_dpbusd_epi32(acc[p][b], v, w[b]);
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
                        unsafe { _mm512_mask_storeu_epi32(to.as_mut_ptr(), lanes(to.len(), 0), acc[p][b]) };
                    }
                }
            }
        }
        To::Bytes(r, out) => {
            // What is indexed by variables lies in memory: a copy, that the sums need not.
            let mut done = [[_mm512_setzero_si512(); B]; R];
            for p in 0..R {
                for b in 0..B {
                    done[p][b] = acc[p][b];
                }
            }
            // SAFETY: the caller's.
            unsafe { round(done.as_flattened(), (B, n), r, out, first) }
        }
    }
}

/// Rounds the sums of pixels of `n` channels, `blocks` vectors each, and stores them to runs from `pixel` on.
///
/// # Safety
/// There are multipliers for all channels, and a run of `n` bytes for each pixel.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn round(
    sums: &[__m512i],
    (blocks, n): (usize, usize),
    r: &Rounding<'_>,
    out: &mut PixelsMut<'_, u8>,
    mut pixel: usize,
) {
    let mut m = [_mm512_setzero_ps(); 8];
    for b in 0..blocks.min(8) {
        m[b] = reals(&r.multipliers[..n], b);
    }
    let ends = Ends::of(r);
    let (to, step) = (out.as_mut_ptr(), out.step());
    let mut block = 0;
    // Four vectors at a time, that are those of one pixel, of two or of four.
    for four in sums.chunks(4) {
        let mut v = [_mm512_setzero_si512(); 4];
        let mut of = [_mm512_setzero_ps(); 4];
        for i in 0..4 {
            v[i] = four[i.min(four.len() - 1)];
            of[i] = m[(block + i) % blocks];
        }
        let bytes = ends.bytes(v, of);
        // SAFETY: the caller has checked that there are runs of `n` bytes; what is stored is within these.
        unsafe {
            let at = to.add(pixel * step + 16 * block);
            if blocks >= 4 {
                let there = n.saturating_sub(16 * block).min(64);
                _mm512_mask_storeu_epi8(at.cast(), u64::MAX.checked_shr(64 - there as u32).unwrap_or(0), bytes);
                block += 4;
            } else if blocks == 2 {
                let there = u32::MAX >> (32 - n);
                _mm256_mask_storeu_epi8(at.cast(), there, _mm512_castsi512_si256(bytes));
                if four.len() == 4 {
                    _mm256_mask_storeu_epi8(at.add(step).cast(), there, _mm512_extracti64x4_epi64::<1>(bytes));
                }
                pixel += 2;
            } else {
                let there = lanes(n, 0);
                let [a, b, c, d] = [
                    _mm512_castsi512_si128(bytes),
                    _mm512_extracti32x4_epi32::<1>(bytes),
                    _mm512_extracti32x4_epi32::<2>(bytes),
                    _mm512_extracti32x4_epi32::<3>(bytes),
                ];
                _mm_mask_storeu_epi8(at.cast(), there, a);
                if four.len() > 1 {
                    _mm_mask_storeu_epi8(at.add(step).cast(), there, b);
                }
                if four.len() > 2 {
                    _mm_mask_storeu_epi8(at.add(2 * step).cast(), there, c);
                }
                if four.len() > 3 {
                    _mm_mask_storeu_epi8(at.add(3 * step).cast(), there, d);
                }
                pixel += 4;
            }
        }
        if block == blocks {
            (pixel, block) = (pixel + 1, 0);
        }
    }
}
