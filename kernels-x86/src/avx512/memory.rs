//! A frame of a Legendre memory: [`MemoryFrame::advance`], to the bit, with more sums going at once.

use core::arch::x86_64::*;

use kinglet::kernels::{MEMORY_LANES, MemoryFrame};

/// Blocks of eight elements at once: each has two sums, and an addition takes several cycles.
const BLOCKS: usize = 8;

/// Computes the memory after a frame.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(crate) fn advance(frame: MemoryFrame<'_>) {
    let MemoryFrame { next, memory, a, b, u } = frame;
    let order = memory.len();
    let whole = order / (BLOCKS * MEMORY_LANES) * BLOCKS * MEMORY_LANES;
    if next.len() != order || b.len() != order || a.len() < order.next_multiple_of(MEMORY_LANES) * order {
        return;
    }
    let (first, rest) = next.split_at_mut(whole);
    for (i, next) in first.chunks_exact_mut(BLOCKS * MEMORY_LANES).enumerate() {
        let at = i * BLOCKS * MEMORY_LANES;
        // SAFETY: that many blocks of A and elements of B follow, by the check above.
        unsafe { blocks(next, memory, a.as_ptr().add(at * order), &b[at..at + BLOCKS * MEMORY_LANES], u) };
    }
    if whole < order {
        // What is left is computed as ever, with the columns of all.
        let (a, b) = (&a[whole * order..], &b[whole..]);
        kinglet::kernels::memory_rows(rest, memory, a, b, u);
    }
}

/// [`BLOCKS`] blocks of elements.
///
/// # Safety
/// So many blocks of A lie from `a` on; `next` and `b` have as many elements.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn blocks(next: &mut [f32], memory: &[f32], a: *const f32, b: &[f32], u: f32) {
    let order = memory.len();
    let mut sums = [[_mm256_setzero_ps(); 2]; BLOCKS];
    let (pairs, last) = memory.as_chunks::<2>();
    // SAFETY: column `k` of block `n` is the eight elements from `(n · order + k) · 8` on.
    unsafe {
        let column = |n: usize, k: usize| a.add((n * order + k) * MEMORY_LANES);
        for (i, &[even, odd]) in pairs.iter().enumerate() {
            let (even, odd) = (_mm256_set1_ps(even), _mm256_set1_ps(odd));
            for n in 0..BLOCKS {
                let (a, b) = (_mm256_loadu_ps(column(n, 2 * i)), _mm256_loadu_ps(column(n, 2 * i + 1)));
                sums[n][0] = _mm256_add_ps(sums[n][0], _mm256_mul_ps(a, even));
                sums[n][1] = _mm256_add_ps(sums[n][1], _mm256_mul_ps(b, odd));
            }
        }
        if let [m] = last {
            for n in 0..BLOCKS {
                let a = _mm256_mul_ps(_mm256_loadu_ps(column(n, order - 1)), _mm256_set1_ps(*m));
                sums[n][0] = _mm256_add_ps(sums[n][0], a);
            }
        }
        let u = _mm256_set1_ps(u);
        for n in 0..BLOCKS {
            let b = _mm256_mul_ps(_mm256_loadu_ps(b.as_ptr().add(n * MEMORY_LANES)), u);
            let v = _mm256_add_ps(_mm256_add_ps(sums[n][0], sums[n][1]), b);
            _mm256_storeu_ps(next.as_mut_ptr().add(n * MEMORY_LANES), v);
        }
    }
}
