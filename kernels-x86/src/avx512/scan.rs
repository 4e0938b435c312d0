//! A frame of a selective scan: [`Frame::advance`], to the bit, with sixteen elements of a state in a register.

use core::arch::x86_64::*;

use kinglet::kernels::{Frame, States};

use super::functions::exp;
use super::lanes;

/// Computes the states and the answers of a frame.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(crate) fn advance(frame: Frame<'_>) {
    frame.advance_by(|states| advance_states(states));
}

/// Channels whose sums end together.
const CHANNELS: usize = 8;

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn advance_states(states: States<'_>) {
    let States { a, b, c, delta, dx, h, y } = states;
    let (n, channels) = (b.len(), y.len());
    if a.len() < n * channels || h.len() < n * channels || c.len() < n || delta.len() < channels || dx.len() < channels
    {
        return;
    }
    // SAFETY: so many elements lie in each from there on, by the check above.
    let moves = |at: usize| unsafe { Moves { n, a: a.as_ptr().add(at * n), b, c, delta: &delta[at..], dx: &dx[at..] } };
    let (many, few) = y.as_chunks_mut::<CHANNELS>();
    for (i, y) in many.iter_mut().enumerate() {
        let at = i * CHANNELS;
        // SAFETY: as above.
        let sums = unsafe { advance_some::<CHANNELS>(moves(at), h.as_mut_ptr().add(at * n)) };
        let (first, last) = y.split_at_mut(CHANNELS / 2);
        let [p, q, r, s, t, u, v, w] = sums;
        // SAFETY: four floats each.
        unsafe {
            _mm_storeu_ps(first.as_mut_ptr(), ends_of([p, q, r, s]));
            _mm_storeu_ps(last.as_mut_ptr(), ends_of([t, u, v, w]));
        }
    }
    let first = channels - few.len();
    for (i, y) in few.iter_mut().enumerate() {
        let at = first + i;
        // SAFETY: as above.
        let [sums] = unsafe { advance_some::<1>(moves(at), h.as_mut_ptr().add(at * n)) };
        *y = _mm_cvtss_f32(ends_of([sums; 4]));
    }
}

/// What moves the states of some channels.
struct Moves<'a> {
    /// Elements of a state.
    n: usize,
    /// A, from the first channel on.
    a: *const f32,
    b: &'a [f32],
    c: &'a [f32],
    /// From the first channel on.
    delta: &'a [f32],
    dx: &'a [f32],
}

/// Advances the states of `N` channels: one alone would wait for each of its operations. The sums of each.
///
/// # Safety
/// So many states of `n` elements lie from `a` and from `h` on, and B and C have `n` elements.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn advance_some<const N: usize>(moves: Moves<'_>, h: *mut f32) -> [__m256; N] {
    let Moves { n, a, b, c, delta, dx } = moves;
    let mut sums = [_mm256_setzero_ps(); N];
    let (mut steps, mut inputs) = ([_mm512_setzero_ps(); N], [_mm512_setzero_ps(); N]);
    for k in 0..N {
        (steps[k], inputs[k]) = (_mm512_set1_ps(delta[k]), _mm512_set1_ps(dx[k]));
    }
    for v in 0..n.div_ceil(16) {
        let mask = lanes(n, v);
        // SAFETY: the mask's lanes are elements of a channel.
        unsafe {
            let b = _mm512_maskz_loadu_ps(mask, b.as_ptr().add(16 * v));
            let c = _mm512_maskz_loadu_ps(mask, c.as_ptr().add(16 * v));
            let mut decays = [_mm512_setzero_ps(); N];
            for k in 0..N {
                decays[k] = _mm512_mul_ps(steps[k], _mm512_maskz_loadu_ps(mask, a.add(k * n + 16 * v)));
            }
            exp(&mut decays);
            for k in 0..N {
                let at = k * n + 16 * v;
                let decayed = _mm512_mul_ps(decays[k], _mm512_maskz_loadu_ps(mask, h.add(at)));
                let new = _mm512_add_ps(decayed, _mm512_mul_ps(inputs[k], b));
                _mm512_mask_storeu_ps(h.add(at), mask, new);
                let terms = _mm512_mul_ps(c, new);
                sums[k] = _mm256_add_ps(sums[k], _mm512_castps512_ps256(terms));
                sums[k] = _mm256_add_ps(sums[k], _mm512_extractf32x8_ps::<1>(terms));
            }
        }
    }
    sums
}

/// Of each channel's eight sums, `i` and `i + 4`, of these the even and the odd, then both.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn ends_of(sums: [__m256; 4]) -> __m128 {
    let [p, q, r, s] = sums.map(|v| _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v)));
    let halves = |p, q| _mm_add_ps(_mm_unpacklo_ps(p, q), _mm_unpackhi_ps(p, q));
    let (first, last) = (halves(p, q), halves(r, s));
    _mm_add_ps(_mm_movelh_ps(first, last), _mm_movehl_ps(last, first))
}
