//! Bytes to reals and back, in vectors: what [`View::load`] and [`ViewMut::store`] do, to the bit; functions in between without
//! leaving the registers; tables of bytes.

use core::arch::x86_64::*;

use kinglet::DType;
use kinglet::elementwise::{Chunk, Function};
use kinglet::kernels::{BinaryOp, TernaryOp};
use kinglet::rows::{PixelsMut, View, ViewMut};

/// Elements that are computed with at once, where there are as many: four vectors of reals, one of bytes.
const BLOCK: usize = 64;

/// Elements of a vector of reals.
const VECTOR: usize = 16;

/// The lanes of vector `v` of a block that are among its first `n` elements: for all vectors of a block one mask, shifted. With
/// `FULL` there are as many as the block has.
#[inline(always)]
fn lanes<const FULL: bool>(n: usize, v: usize) -> __mmask16 {
    let all = if FULL || n >= BLOCK { u64::MAX } else { (1 << n) - 1 };
    (all >> (VECTOR * v)) as __mmask16
}

/// How bytes stand for reals.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    signed: bool,
    scale: __m512,
    zero: __m512i,
}

/// A grid that reals are brought to.
#[derive(Clone, Copy)]
pub(super) struct Bounded {
    pub(super) grid: Grid,
    /// The least byte, and as a real the largest one, less the zero point.
    lo: __m512i,
    hi: __m512,
}

impl Bounded {
    /// 16 reals as bytes.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn bytes(&self, reals: __m512) -> __m128i {
        // Of NaN and a number the second is taken; NaN and what is below the range of i32 become its least.
        let q = _mm512_min_ps(self.hi, _mm512_div_ps(reals, self.grid.scale));
        let q = _mm512_cvt_roundps_epi32::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(q);
        _mm512_cvtepi32_epi8(_mm512_add_epi32(_mm512_max_epi32(q, self.lo), self.grid.zero))
    }

    /// Quantises up to `V` vectors of reals to as many bytes, or all of them with `FULL`, which leaves masks out.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn quantize<const V: usize, const FULL: bool>(&self, reals: &[__m512; V], bytes: &mut [u8]) {
        if FULL && bytes.len() < V * VECTOR {
            return;
        }
        for (v, &reals) in reals.iter().enumerate() {
            let q = self.bytes(reals);
            let (lanes, to) = (lanes::<FULL>(bytes.len(), v), bytes.as_mut_ptr().wrapping_add(VECTOR * v));
            // SAFETY: 16 bytes are there, or the mask has no more lanes than there are bytes.
            unsafe {
                if lanes == 0xffff {
                    _mm_storeu_si128(to.cast(), q);
                } else {
                    _mm_mask_storeu_epi8(to.cast(), lanes, q);
                }
            }
        }
    }
}

impl Grid {
    /// That of a tensor; `None` if it is not one of quantised bytes.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn of(dtype: DType, scale: f32, zero_point: i32) -> Option<Grid> {
        let signed = dtype == DType::I8;
        let grid = Grid { signed, scale: _mm512_set1_ps(scale), zero: _mm512_set1_epi32(zero_point) };
        (signed || dtype == DType::U8).then_some(grid)
    }

    /// With the bounds of what it stores.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn bounded(dtype: DType, scale: f32, zero_point: i32) -> Option<Bounded> {
        let grid = Grid::of(dtype, scale, zero_point)?;
        let (lo, hi) = if grid.signed { (-128, 127) } else { (0, 255) };
        let (lo, hi) = (_mm512_set1_epi32(lo - zero_point), _mm512_set1_ps((hi - zero_point) as f32));
        Some(Bounded { grid, lo, hi })
    }

    /// The reals of 16 bytes each.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn reals<const V: usize>(&self, bytes: [__m128i; V]) -> [__m512; V] {
        let mut wide = [_mm512_setzero_si512(); V];
        if self.signed {
            for v in 0..V {
                wide[v] = _mm512_cvtepi8_epi32(bytes[v]);
            }
        } else {
            for v in 0..V {
                wide[v] = _mm512_cvtepu8_epi32(bytes[v]);
            }
        }
        let mut reals = [_mm512_setzero_ps(); V];
        for v in 0..V {
            reals[v] = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(wide[v], self.zero)), self.scale);
        }
        reals
    }

    /// The reals of up to `V` vectors of bytes; 0 where there are less.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn dequantize<const V: usize, const FULL: bool>(&self, bytes: &[u8]) -> [__m512; V] {
        let mut all = [_mm_setzero_si128(); V];
        if !FULL || bytes.len() >= V * VECTOR {
            for (v, some) in all.iter_mut().enumerate() {
                let from = bytes.as_ptr().wrapping_add(VECTOR * v);
                // SAFETY: the mask has no more lanes than there are bytes; masked ones are not read.
                *some = unsafe { _mm_maskz_loadu_epi8(lanes::<FULL>(bytes.len(), v), from.cast()) };
            }
        }
        self.reals(all)
    }
}

/// Up to `V` vectors of floats; 0 where there are less.
#[inline]
#[target_feature(enable = "avx512f")]
fn floats<const V: usize, const FULL: bool>(from: &[f32]) -> [__m512; V] {
    let mut reals = [_mm512_setzero_ps(); V];
    if FULL && from.len() < V * VECTOR {
        return reals;
    }
    for (v, reals) in reals.iter_mut().enumerate() {
        // SAFETY: the mask has no more lanes than there are elements; masked ones are not read.
        *reals = unsafe { _mm512_maskz_loadu_ps(lanes::<FULL>(from.len(), v), from.as_ptr().wrapping_add(VECTOR * v)) };
    }
    reals
}

/// Stores up to `V` vectors of floats.
#[inline]
#[target_feature(enable = "avx512f")]
fn store_floats<const V: usize, const FULL: bool>(reals: &[__m512; V], to: &mut [f32]) {
    if FULL && to.len() < V * VECTOR {
        return;
    }
    for (v, &reals) in reals.iter().enumerate() {
        let (lanes, to) = (lanes::<FULL>(to.len(), v), to.as_mut_ptr().wrapping_add(VECTOR * v));
        // SAFETY: 16 elements are there, or the mask has no more lanes than there are elements.
        unsafe {
            if lanes == 0xffff {
                _mm512_storeu_ps(to, reals);
            } else {
                _mm512_mask_storeu_ps(to, lanes, reals);
            }
        }
    }
}

/// Dequantises bytes; `false` if the tensor is not one of bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(crate) fn load(x: &View<'_>, start: usize, out: &mut [f32]) -> bool {
    let Some(grid) = Grid::of(x.dtype, x.scale, x.zero_point) else { return false };
    let from = x.slice::<u8>(start, out.len());
    for (to, from) in out.chunks_mut(BLOCK).zip(from.chunks(BLOCK)) {
        store_floats::<4, false>(&grid.dequantize::<4, false>(from), to);
    }
    true
}

/// Quantises to bytes; `false` if the tensor is not one of bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(crate) fn store(out: &mut ViewMut<'_>, start: usize, v: &[f32]) -> bool {
    let Some(grid) = Grid::bounded(out.dtype(), out.scale(), out.zero_point()) else { return false };
    for (to, from) in out.slice::<u8>(start, v.len()).chunks_mut(BLOCK).zip(v.chunks(BLOCK)) {
        grid.quantize::<4, false>(&floats::<4, false>(from), to);
    }
    true
}

/// [`Elementwise::combine`](kinglet::elementwise::Elementwise::combine), for the functions that quantised models are full of.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(crate) fn combine(function: Function, x: &[Chunk<'_>], out: (&mut ViewMut<'_>, usize), n: usize) -> bool {
    match (function, x) {
        (Function::Binary(BinaryOp::Add), &[a, b]) => blocks([a, b], out, n, |[a, b]| _mm512_add_ps(a, b)),
        (Function::Binary(BinaryOp::Sub), &[a, b]) => blocks([a, b], out, n, |[a, b]| _mm512_sub_ps(a, b)),
        (Function::Binary(BinaryOp::Mul), &[a, b]) => blocks([a, b], out, n, |[a, b]| _mm512_mul_ps(a, b)),
        (Function::Ternary(TernaryOp::ScaleShift), &[a, b, c]) => {
            blocks([a, b, c], out, n, |[a, b, c]| _mm512_add_ps(_mm512_mul_ps(a, b), c))
        }
        _ => false,
    }
}

/// Where a block is loaded from.
#[derive(Clone, Copy)]
enum Source<'a> {
    Reals(&'a [f32]),
    Repeated(&'a [f32]),
    Floats(View<'a>, usize),
    Bytes(Grid, View<'a>, usize),
}

impl<'a> Source<'a> {
    /// That of a chunk; `None` if its elements are neither floats nor bytes.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn of(chunk: Chunk<'a>) -> Option<Self> {
        match chunk {
            Chunk::Reals(v) => Some(Source::Reals(v)),
            Chunk::Repeated(v) => Some(Source::Repeated(v)),
            Chunk::Elements(x, start) if x.dtype == DType::F32 => Some(Source::Floats(x, start)),
            Chunk::Elements(x, start) => {
                Grid::of(x.dtype, x.scale, x.zero_point).map(|grid| Source::Bytes(grid, x, start))
            }
        }
    }

    /// The number of elements after which the chunk repeats itself, if it does.
    fn period(&self) -> Option<usize> {
        if let Source::Repeated(v) = self { Some(v.len()) } else { None }
    }

    /// Elements `start + at .. start + at + n` of the chunk; if it repeats itself, it does so from `start` on.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn load<const V: usize, const FULL: bool>(&self, start: usize, at: usize, n: usize) -> [__m512; V] {
        match self {
            Source::Reals(v) => floats::<V, FULL>(v.get(start + at..start + at + n).unwrap_or(&[])),
            Source::Repeated(v) => floats::<V, FULL>(v.get(at..at + n).unwrap_or(&[])),
            Source::Floats(x, first) => floats::<V, FULL>(x.slice(first + start + at, n)),
            Source::Bytes(grid, x, first) => grid.dequantize::<V, FULL>(x.slice(first + start + at, n)),
        }
    }
}

/// Computes a chunk block by block; the last may be half a block, and the last before operands repeat themselves.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn blocks<const N: usize>(
    x: [Chunk<'_>; N],
    (out, to): (&mut ViewMut<'_>, usize),
    n: usize,
    f: impl Fn([__m512; N]) -> __m512,
) -> bool {
    let grid = Grid::bounded(out.dtype(), out.scale(), out.zero_point());
    let mut sources = [Source::Reals(&[]); N];
    for (source, x) in sources.iter_mut().zip(x) {
        let Some(own) = Source::of(x) else { return false };
        *source = own;
    }
    if grid.is_none() && out.dtype() != DType::F32 {
        return false;
    }
    let mut periods = sources.iter().filter_map(Source::period);
    let period = periods.next().unwrap_or(n).max(1);
    if periods.any(|other| other != period) {
        return false;
    }
    for start in (0..n).step_by(period) {
        let n = period.min(n - start);
        let whole = n / BLOCK * BLOCK;
        for at in (0..whole).step_by(BLOCK) {
            block::<N, 4, true>(&sources, (start, at), &grid, (out, to), BLOCK, &f);
        }
        match n - whole {
            0 => {}
            left if left > 2 * VECTOR => block::<N, 4, false>(&sources, (start, whole), &grid, (out, to), left, &f),
            left => block::<N, 2, false>(&sources, (start, whole), &grid, (out, to), left, &f),
        }
    }
    true
}

/// Computes elements `start + at .. start + at + n` of a chunk, up to `V` vectors. All are loaded before any is stored, maybe in the
/// place of an operand.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn block<const N: usize, const V: usize, const FULL: bool>(
    sources: &[Source<'_>; N],
    (start, at): (usize, usize),
    grid: &Option<Bounded>,
    (out, to): (&mut ViewMut<'_>, usize),
    n: usize,
    f: &impl Fn([__m512; N]) -> __m512,
) {
    let mut loaded = [[_mm512_setzero_ps(); V]; N];
    for (vectors, source) in loaded.iter_mut().zip(sources) {
        *vectors = source.load::<V, FULL>(start, at, n);
    }
    let mut reals = [_mm512_setzero_ps(); V];
    for (v, real) in reals.iter_mut().enumerate() {
        let mut x = [_mm512_setzero_ps(); N];
        for (x, vectors) in x.iter_mut().zip(&loaded) {
            *x = vectors[v];
        }
        *real = f(x);
    }
    match grid {
        Some(grid) => grid.quantize::<V, FULL>(&reals, out.slice(to + start + at, n)),
        None => store_floats::<V, FULL>(&reals, out.slice(to + start + at, n)),
    }
}

/// Replaces each byte by its entry in a table of 256: two permutations of 128 entries each, by the low seven bits, and of these the
/// one that the high bit says.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(crate) fn look_up(table: &[u8; 256], bytes: &mut [u8]) {
    // SAFETY: the table has four times 64 bytes.
    let part = |i: usize| unsafe { _mm512_loadu_si512(table.as_ptr().add(64 * i).cast()) };
    let table = [part(0), part(1), part(2), part(3)];
    for part in bytes.chunks_mut(BLOCK) {
        let there: __mmask64 = if part.len() == BLOCK { u64::MAX } else { (1 << part.len()) - 1 };
        // SAFETY: the mask has no more lanes than there are bytes; masked ones are neither read nor written.
        unsafe {
            let i = _mm512_maskz_loadu_epi8(there, part.as_ptr().cast());
            let low = _mm512_permutex2var_epi8(table[0], i, table[1]);
            let high = _mm512_permutex2var_epi8(table[2], i, table[3]);
            let v = _mm512_mask_blend_epi8(_mm512_movepi8_mask(i), low, high);
            _mm512_mask_storeu_epi8(part.as_mut_ptr().cast(), there, v);
        }
    }
}

/// As [`look_up`], of all runs.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(crate) fn look_up_pixels(table: &[u8; 256], pixels: &mut PixelsMut<'_, u8>) {
    (0..pixels.count()).for_each(|i| look_up(table, pixels.run(i)));
}

#[cfg(test)]
mod tests {
    /// Every byte, in slices of every length up to a few vectors.
    #[test]
    fn tables_are_those_of_the_portable_loop() {
        if !std::arch::is_x86_feature_detected!("avx512vbmi") || crate::Avx512::new().is_none() {
            println!("this CPU has no AVX-512 VBMI");
            return;
        }
        let table: [u8; 256] = core::array::from_fn(|i| (i * 167 + 13) as u8);
        for n in 0..300 {
            let mut bytes: Vec<u8> = (0..n).map(|i| (i * 91 + n) as u8).collect();
            let mut want = bytes.clone();
            kinglet::kernels::look_up(&table, &mut want);
            // SAFETY: the CPU has the instructions, as asked above.
            unsafe { super::look_up(&table, &mut bytes) };
            assert_eq!(bytes, want);
        }
    }
}
