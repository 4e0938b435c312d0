//! Products of floats.

mod dense;
mod depthwise;
mod depthwise_halves;
mod halves;

pub(crate) use dense::{DenseF16, DenseF32, DenseW8};
pub(crate) use depthwise::{DepthwiseF16, DepthwiseF32, DepthwiseW8};
pub(crate) use depthwise_halves::DepthwiseHalves;
pub(crate) use halves::DenseHalves;

use core::arch::aarch64::*;

use kinglet::rows::View;
use kinglet::{Element, f16};

use crate::reals;

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

impl Stored for f16 {
    #[inline(always)]
    unsafe fn load(from: *const f16, _: float32x4_t) -> float32x4_t {
        // SAFETY: the caller's.
        unsafe { vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from.cast()))) }
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

/// Copies halves.
#[inline(never)]
fn copy_halves(x: &View<'_>, start: usize, to: &mut [f16]) {
    let from = x.slice::<f16>(start, to.len());
    if from.len() == to.len() {
        to.copy_from_slice(from);
    }
}

/// Copies floats.
#[inline(never)]
fn copy(x: &View<'_>, start: usize, to: &mut [f32]) {
    if !reals::load(x, start, to) {
        x.load(start, to);
    }
}
