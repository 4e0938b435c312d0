//! Sums to bytes: `clamp(round(f32(sum + bias) · m), lo − zero, hi − zero) + zero`, 64 at a time.

use core::arch::x86_64::*;

use kinglet::product::Rounding;

/// What all bytes of a tile are rounded by.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    zero: __m512i,
    lo: __m512i,
    hi: __m512,
    signed: bool,
}

impl Ends {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn of(r: &Rounding<'_>) -> Ends {
        Ends {
            zero: _mm512_set1_epi16(r.zero as i16),
            lo: _mm512_set1_epi8(r.lo as i8),
            hi: _mm512_set1_ps((r.hi - r.zero) as f32),
            signed: r.lo < 0,
        }
    }

    /// Sixteen sums, rounded and cut above. Ties go to even whatever the mode of this thread is. NaN and what is below the range
    /// of i32 become its least, and are cut by who narrows them.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn integers(self, sums: __m512i, m: __m512) -> __m512i {
        // Of NaN and a number the second is taken: NaN stays.
        let v = _mm512_min_ps(self.hi, _mm512_mul_ps(_mm512_cvtepi32_ps(sums), m));
        _mm512_cvt_roundps_epi32::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v)
    }

    /// 64 sums in four vectors as bytes, in their order.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn bytes(self, sums: [__m512i; 4], m: [__m512; 4]) -> __m512i {
        let (a, b) = (self.integers(sums[0], m[0]), self.integers(sums[1], m[1]));
        let (c, d) = (self.integers(sums[2], m[2]), self.integers(sums[3], m[3]));
        let low = _mm512_adds_epi16(_mm512_packs_epi32(a, b), self.zero);
        let high = _mm512_adds_epi16(_mm512_packs_epi32(c, d), self.zero);
        let bytes = if self.signed {
            _mm512_max_epi8(_mm512_packs_epi16(low, high), self.lo)
        } else {
            _mm512_max_epu8(_mm512_packus_epi16(low, high), self.lo)
        };
        // Packing works within quarters: byte 16 l + 4 v + i is lane 4 l + i of vector v.
        _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), bytes)
    }
}
