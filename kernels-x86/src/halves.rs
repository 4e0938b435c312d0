//! Floats of 16 bits: loaded, stored and copied by F16C, which every CPU with AVX2 has.

use core::arch::x86_64::*;

use kinglet::rows::{View, ViewMut};
use kinglet::{DType, f16};

/// Eight halves as floats.
///
/// # Safety
/// They are there.
#[inline]
#[target_feature(enable = "avx,f16c")]
pub(crate) unsafe fn read(from: *const f16) -> __m256 {
    // SAFETY: the caller's.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(from.cast()) })
}

/// Loads halves as floats; `false` if the tensor is not one of halves.
#[inline]
#[target_feature(enable = "avx,f16c")]
pub(crate) fn load(x: &View<'_>, start: usize, out: &mut [f32]) -> bool {
    if x.dtype != DType::F16 {
        return false;
    }
    let (from, last) = x.slice::<f16>(start, out.len()).as_chunks::<8>();
    let (to, rest) = out.as_chunks_mut::<8>();
    for (to, from) in to.iter_mut().zip(from) {
        // SAFETY: arrays of eight.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), read(from.as_ptr())) };
    }
    rest.iter_mut().zip(last).for_each(|(to, v)| *to = v.to_f32());
    true
}

/// Stores floats as halves; `false` if the tensor is not one of halves.
#[inline]
#[target_feature(enable = "avx,f16c")]
pub(crate) fn store(out: &mut ViewMut<'_>, start: usize, v: &[f32]) -> bool {
    if out.dtype() != DType::F16 {
        return false;
    }
    let (from, last) = v.as_chunks::<8>();
    let (to, rest) = out.slice::<f16>(start, v.len()).as_chunks_mut::<8>();
    for (to, from) in to.iter_mut().zip(from) {
        // SAFETY: arrays of eight.
        unsafe {
            let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(from.as_ptr()));
            _mm_storeu_si128(to.as_mut_ptr().cast(), halves);
        }
    }
    rest.iter_mut().zip(last).for_each(|(to, &v)| *to = f16::from_f32(v));
    true
}

/// Copies floats, as what a microkernel multiplies.
#[target_feature(enable = "avx,f16c")]
pub(crate) fn copy(x: &View<'_>, start: usize, to: &mut [f32]) {
    if !load(x, start, to) {
        x.load(start, to);
    }
}
