//! Microkernels for AVX-512 with VNNI: products of bytes four at a time, products of floats with fused additions.
//!
//! Every function here has `#[target_feature]`, and is called by the methods of a microkernel alone, which exists only where
//! [`Avx512`](crate::Avx512) does.

pub(crate) mod bytes;
mod dense_f32;
mod dense_i8;
mod depthwise_f32;
mod depthwise_i8;
mod finish;
mod fours;
pub(crate) mod functions;
pub(crate) mod memory;
mod round;
pub(crate) mod scan;

pub(crate) use dense_f32::{DenseF16, DenseF32, DenseW8};
pub(crate) use dense_i8::DenseI8;
pub(crate) use depthwise_f32::{DepthwiseF16, DepthwiseF32, DepthwiseW8};
pub(crate) use depthwise_i8::DepthwiseI8;

use core::arch::x86_64::{
    __m512, __m512i, __mmask16, _mm512_maskz_loadu_epi32, _mm512_maskz_loadu_ps, _mm512_setzero_ps,
    _mm512_setzero_si512,
};

/// The lanes of vector `v` that are channels, of `n`.
#[inline(always)]
pub(crate) fn lanes(n: usize, v: usize) -> __mmask16 {
    let there = n.saturating_sub(16 * v);
    if there >= 16 { 0xffff } else { ((1u32 << there) - 1) as __mmask16 }
}

/// Lanes of 16 integers from element `16 v` on of a slice; what is not there is 0.
///
/// Nothing is loaded from where nothing is: a load without a lane from an address that is none takes hundreds of cycles.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn ints(of: &[i32], v: usize) -> __m512i {
    let from = of.get(16 * v..).unwrap_or(&[]);
    if from.is_empty() {
        return _mm512_setzero_si512();
    }
    // SAFETY: the mask has no more lanes than the slice has elements; masked ones are not read.
    unsafe { _mm512_maskz_loadu_epi32(lanes(from.len(), 0), from.as_ptr()) }
}

/// As [`ints`], of floats.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn reals(of: &[f32], v: usize) -> __m512 {
    let from = of.get(16 * v..).unwrap_or(&[]);
    if from.is_empty() {
        return _mm512_setzero_ps();
    }
    // SAFETY: as in `ints`.
    unsafe { _mm512_maskz_loadu_ps(lanes(from.len(), 0), from.as_ptr()) }
}
