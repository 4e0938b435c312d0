//! Microkernels for AVX2: products of bytes as products of 16-bit integers in pairs, or four at a time where the CPU has
//! AVX-VNNI; products of floats with fused additions.

mod dense_f32;
mod dense_i8;
mod depthwise_f32;
mod depthwise_i8;
mod round;
pub(crate) mod transpose;

pub(crate) use dense_f32::{DenseF16, DenseF32, DenseW8};
pub(crate) use dense_i8::DenseI8;
pub(crate) use depthwise_f32::{DepthwiseF16, DepthwiseF32, DepthwiseW8};
pub(crate) use depthwise_i8::DepthwiseI8;

/// `N` elements of a slice from element `at` on; 0 for those that are not there.
#[inline(always)]
pub(crate) fn some<T: Copy + Default, const N: usize>(of: &[T], at: usize) -> [T; N] {
    let mut all = [T::default(); N];
    let from = of.get(at..).unwrap_or(&[]);
    if let Some(whole) = from.first_chunk() {
        return *whole;
    }
    all[..from.len()].copy_from_slice(from);
    all
}
