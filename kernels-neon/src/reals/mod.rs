//! Elements as reals: bytes and floats loaded, computed with and stored in vectors, to the bits of the portable functions.

mod combine;
mod finish;
mod grid;
mod halves;
mod scan;
mod tables;

pub(crate) use combine::combine;
pub(crate) use finish::{floats, integers};
pub(crate) use grid::{load, store};
pub(crate) use halves::{read_halves, real, some_halves, wide, write_halves, write_some_halves};
pub(crate) use scan::advance;
pub(crate) use tables::{look_up, look_up_pixels};

use core::arch::aarch64::*;

/// 16 reals in four vectors.
pub(crate) type Reals = [float32x4_t; 4];

/// Elements of that.
const BLOCK: usize = 16;

/// The first 16 reals of a slice.
///
/// # Safety
/// They are there.
#[inline(always)]
unsafe fn read(from: *const f32) -> Reals {
    // SAFETY: the caller's.
    unsafe { [vld1q_f32(from), vld1q_f32(from.add(4)), vld1q_f32(from.add(8)), vld1q_f32(from.add(12))] }
}

/// Writes 16 reals.
///
/// # Safety
/// There is room for them.
#[inline(always)]
unsafe fn write(to: *mut f32, v: Reals) {
    // SAFETY: the caller's.
    unsafe {
        vst1q_f32(to, v[0]);
        vst1q_f32(to.add(4), v[1]);
        vst1q_f32(to.add(8), v[2]);
        vst1q_f32(to.add(12), v[3]);
    }
}

/// Those of an array.
#[inline(always)]
pub(crate) fn of_array(v: &[f32; BLOCK]) -> Reals {
    // SAFETY: an array of 16.
    unsafe { read(v.as_ptr()) }
}

/// As an array.
#[inline(always)]
pub(crate) fn to_array(v: Reals) -> [f32; BLOCK] {
    // SAFETY: four vectors of four are as large as an array of 16.
    unsafe { core::mem::transmute(v) }
}
