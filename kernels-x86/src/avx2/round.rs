//! Sums to bytes: `clamp(round(f32(sum + bias) · m), lo − zero, hi − zero) + zero`, 16 at a time.

use core::arch::x86_64::*;

use kinglet::product::Rounding;

use super::some;

/// Eight floats of an array.
#[inline]
#[target_feature(enable = "avx2")]
fn eight(of: &[f32; 16], half: usize) -> __m256 {
    // SAFETY: an array of 16 has two halves of eight.
    unsafe { _mm256_loadu_ps(of.as_ptr().add(8 * (half & 1))) }
}

/// What all bytes of a tile are rounded by.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    zero: __m256i,
    lo: __m128i,
    hi: __m256,
    signed: bool,
}

impl Ends {
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn of(r: &Rounding<'_>) -> Ends {
        Ends {
            zero: _mm256_set1_epi16(r.zero as i16),
            lo: _mm_set1_epi8(r.lo as i8),
            hi: _mm256_set1_ps((r.hi - r.zero) as f32),
            signed: r.lo < 0,
        }
    }

    /// Eight sums, rounded (ties to even, whatever the mode of this thread) and cut above. NaN and what is below the range of i32
    /// become its least, and are cut by who narrows them.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn integers(self, sums: __m256i, m: __m256) -> __m256i {
        // Of NaN and a number the second is taken: NaN stays.
        let v = _mm256_min_ps(self.hi, _mm256_mul_ps(_mm256_cvtepi32_ps(sums), m));
        _mm256_cvtps_epi32(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v))
    }

    /// 16 sums in two vectors as bytes, in their order. `m` are the multipliers of their channels.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn bytes(self, sums: [__m256i; 2], m: &[f32; 16]) -> [u8; 16] {
        let [a, b] = [self.integers(sums[0], eight(m, 0)), self.integers(sums[1], eight(m, 1))];
        let words = _mm256_adds_epi16(_mm256_packs_epi32(a, b), self.zero);
        // Packing works within halves.
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
        let (low, high) = (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
        let bytes = if self.signed {
            _mm_max_epi8(_mm_packs_epi16(low, high), self.lo)
        } else {
            _mm_max_epu8(_mm_packus_epi16(low, high), self.lo)
        };
        let mut out = [0u8; 16];
        // SAFETY: the array has 16 bytes.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), bytes) };
        out
    }
}

/// Bias and multipliers of 16 channels from `at` on.
#[inline(always)]
pub(super) fn constants(r: &Rounding<'_>, at: usize) -> ([i32; 16], [f32; 16]) {
    (some(r.bias, at), some(r.multipliers, at))
}
