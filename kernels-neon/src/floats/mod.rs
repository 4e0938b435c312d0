//! Products of floats.

mod dense;
mod depthwise;

pub(crate) use dense::{DenseF32, DenseW8};
pub(crate) use depthwise::{DepthwiseF32, DepthwiseW8};

use core::arch::aarch64::*;

use kinglet::Element;
use kinglet::rows::View;

/// Weights as they are stored.
trait Stored: Element + Default {
    /// Four weights, times the scales of their channels.
    ///
    /// # Safety
    /// They are there.
    unsafe fn load(from: *const Self, scales: float32x4_t) -> float32x4_t;
}

impl Stored for f32 {
    #[inline(always)]
    unsafe fn load(from: *const f32, _: float32x4_t) -> float32x4_t {
        // SAFETY: the caller's.
        unsafe { vld1q_f32(from) }
    }
}

impl Stored for i8 {
    #[inline(always)]
    unsafe fn load(from: *const i8, scales: float32x4_t) -> float32x4_t {
        // SAFETY: the caller's.
        unsafe {
            let bytes = vreinterpret_s8_s32(vdup_n_s32(from.cast::<i32>().read_unaligned()));
            let wide = vmovl_s16(vget_low_s16(vmovl_s8(bytes)));
            vmulq_f32(vcvtq_f32_s32(wide), scales)
        }
    }
}

/// Copies floats.
fn copy(x: &View<'_>, start: usize, to: &mut [f32]) {
    let from = x.slice::<f32>(start, to.len());
    if from.len() == to.len() {
        to.copy_from_slice(from);
    }
}
