//! Bytes to reals and back, in vectors: what [`View::load`] and [`ViewMut::store`] do, to the bit.

use core::arch::x86_64::*;

use kinglet::DType;
use kinglet::rows::{View, ViewMut};

use super::lanes;

/// Dequantises bytes; `false` if the tensor is not one of bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(crate) fn load(x: &View<'_>, start: usize, out: &mut [f32]) -> bool {
    let signed = x.dtype == DType::I8;
    if !signed && x.dtype != DType::U8 {
        return false;
    }
    let from = x.slice::<u8>(start, out.len());
    let (scale, zero) = (_mm512_set1_ps(x.scale), _mm512_set1_epi32(x.zero_point));
    for (to, from) in out.chunks_mut(16).zip(from.chunks(16)) {
        let mask = lanes(to.len().min(from.len()), 0);
        // SAFETY: the mask has no more lanes than there are elements on either side.
        unsafe {
            let bytes = _mm_maskz_loadu_epi8(mask, from.as_ptr().cast());
            let wide = if signed { _mm512_cvtepi8_epi32(bytes) } else { _mm512_cvtepu8_epi32(bytes) };
            let v = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(wide, zero)), scale);
            _mm512_mask_storeu_ps(to.as_mut_ptr(), mask, v);
        }
    }
    true
}

/// Quantises to bytes; `false` if the tensor is not one of bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(crate) fn store(out: &mut ViewMut<'_>, start: usize, v: &[f32]) -> bool {
    let Some((lo, hi)) = out.dtype().quantized_range().filter(|_| out.dtype().size() == 1) else { return false };
    let (scale, zero) = (out.scale(), out.zero_point());
    let (scale, zero_lanes) = (_mm512_set1_ps(scale), _mm512_set1_epi32(zero));
    let (lo, hi) = (_mm512_set1_epi32(lo - zero), _mm512_set1_ps((hi - zero) as f32));
    for (to, from) in out.slice::<u8>(start, v.len()).chunks_mut(16).zip(v.chunks(16)) {
        let mask = lanes(to.len().min(from.len()), 0);
        // SAFETY: the mask has no more lanes than there are elements on either side.
        unsafe {
            // Of NaN and a number the second is taken; NaN and what is below the range of i32 become its least.
            let v = _mm512_min_ps(hi, _mm512_div_ps(_mm512_maskz_loadu_ps(mask, from.as_ptr()), scale));
            let q = _mm512_cvt_roundps_epi32::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v);
            let q = _mm512_add_epi32(_mm512_max_epi32(q, lo), zero_lanes);
            _mm_mask_storeu_epi8(to.as_mut_ptr().cast(), mask, _mm512_cvtepi32_epi8(q));
        }
    }
    true
}
