//! Floats of 16 bits to floats of 32 and back, which every AArch64 CPU can do.

use core::arch::aarch64::*;

use kinglet::rows::{View, ViewMut};
use kinglet::{DType, f16};

use super::{BLOCK, Reals, of_array, read, to_array, write};

/// Eight halves as floats.
#[inline(always)]
pub(crate) fn wide(v: uint16x8_t) -> [float32x4_t; 2] {
    // SAFETY: NEON is part of every AArch64 CPU that this crate is compiled for.
    unsafe {
        let v = vreinterpretq_f16_u16(v);
        [vcvt_f32_f16(vget_low_f16(v)), vcvt_high_f32_f16(v)]
    }
}

/// Eight floats as halves.
#[inline(always)]
pub(super) fn narrow(low: float32x4_t, high: float32x4_t) -> uint16x8_t {
    // SAFETY: as above.
    unsafe { vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(low), high)) }
}

/// A half as a float.
#[inline(always)]
pub(crate) fn real(v: f16) -> f32 {
    // SAFETY: as above.
    unsafe { vgetq_lane_f32::<0>(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(v.to_bits())))) }
}

/// The first 16 halves of a slice.
///
/// # Safety
/// They are there.
#[inline(always)]
pub(crate) unsafe fn read_halves(from: *const f16) -> Reals {
    // SAFETY: the caller's.
    let ([a, b], [c, d]) = unsafe { (wide(vld1q_u16(from.cast())), wide(vld1q_u16(from.cast::<u16>().add(8)))) };
    [a, b, c, d]
}

/// The first halves of a slice, up to 16; 0 for those that are not there.
#[inline(always)]
pub(crate) fn some_halves(halves: &[f16]) -> Reals {
    let mut all = [f16::ZERO; BLOCK];
    all[..halves.len()].copy_from_slice(halves);
    // SAFETY: an array of 16.
    unsafe { read_halves(all.as_ptr()) }
}

/// Writes 16 halves.
///
/// # Safety
/// There is room for them.
#[inline(always)]
pub(crate) unsafe fn write_halves(to: *mut f16, v: Reals) {
    // SAFETY: the caller's.
    unsafe {
        vst1q_u16(to.cast(), narrow(v[0], v[1]));
        vst1q_u16(to.cast::<u16>().add(8), narrow(v[2], v[3]));
    }
}

/// Writes the first halves, as many as there is room for, up to 16.
#[inline(always)]
pub(crate) fn write_some_halves(v: Reals, to: &mut [f16]) {
    let mut all = [f16::ZERO; BLOCK];
    // SAFETY: an array of 16.
    unsafe { write_halves(all.as_mut_ptr(), v) };
    to.copy_from_slice(&all[..to.len()]);
}

/// Loads halves as floats; `false` if the tensor is not one of halves.
pub(super) fn load(x: &View<'_>, start: usize, out: &mut [f32]) -> bool {
    if x.dtype != DType::F16 {
        return false;
    }
    let (from, last) = x.slice::<f16>(start, out.len()).as_chunks::<BLOCK>();
    let (to, rest) = out.as_chunks_mut::<BLOCK>();
    for (to, from) in to.iter_mut().zip(from) {
        // SAFETY: arrays of 16.
        unsafe { write(to.as_mut_ptr(), read_halves(from.as_ptr())) };
    }
    if !rest.is_empty() && last.len() == rest.len() {
        rest.copy_from_slice(&to_array(some_halves(last))[..rest.len()]);
    }
    true
}

/// Stores floats as halves; `false` if the tensor is not one of halves.
pub(super) fn store(out: &mut ViewMut<'_>, start: usize, v: &[f32]) -> bool {
    if out.dtype() != DType::F16 {
        return false;
    }
    let (from, last) = v.as_chunks::<BLOCK>();
    let (to, rest) = out.slice::<f16>(start, v.len()).as_chunks_mut::<BLOCK>();
    for (to, from) in to.iter_mut().zip(from) {
        // SAFETY: arrays of 16.
        unsafe { write_halves(to.as_mut_ptr(), read(from.as_ptr())) };
    }
    if !last.is_empty() && last.len() == rest.len() {
        let mut all = [0.0; BLOCK];
        all[..last.len()].copy_from_slice(last);
        write_some_halves(of_array(&all), rest);
    }
    true
}
