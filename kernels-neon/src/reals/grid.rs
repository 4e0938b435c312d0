//! Bytes to reals and back: what [`View::load`] and [`ViewMut::store`] do.

use core::arch::aarch64::*;

use kinglet::DType;
use kinglet::rows::{View, ViewMut};

use super::halves;
use super::{BLOCK, Reals, of_array, read, to_array, write};

/// How bytes stand for reals: `(q − zero) · scale`.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    signed: bool,
    scale: float32x4_t,
    /// The zero point, a byte of the type.
    zero: uint8x16_t,
    words: int16x8_t,
    /// The least byte, less the zero point.
    lo: float32x4_t,
}

impl Grid {
    /// That of a tensor; `None` if it is not one of quantised bytes.
    #[inline(always)]
    pub(super) fn of(dtype: DType, scale: f32, zero_point: i32) -> Option<Grid> {
        let signed = dtype == DType::I8;
        if !signed && dtype != DType::U8 {
            return None;
        }
        let least = if signed { -128 } else { 0 };
        // SAFETY: NEON is part of every AArch64 CPU that this crate is compiled for.
        Some(unsafe {
            Grid {
                signed,
                scale: vdupq_n_f32(scale),
                zero: vdupq_n_u8(zero_point as u8),
                words: vdupq_n_s16(zero_point as i16),
                lo: vdupq_n_f32((least - zero_point) as f32),
            }
        })
    }

    /// The reals of 16 bytes.
    #[inline(always)]
    pub(super) fn reals(&self, bytes: uint8x16_t) -> Reals {
        // SAFETY: as above.
        unsafe {
            let (low, high) = if self.signed {
                let (v, zero) = (vreinterpretq_s8_u8(bytes), vreinterpretq_s8_u8(self.zero));
                (vsubl_s8(vget_low_s8(v), vget_low_s8(zero)), vsubl_high_s8(v, zero))
            } else {
                let low = vsubl_u8(vget_low_u8(bytes), vget_low_u8(self.zero));
                (vreinterpretq_s16_u16(low), vreinterpretq_s16_u16(vsubl_high_u8(bytes, self.zero)))
            };
            let real = |v| vmulq_f32(vcvtq_f32_s32(v), self.scale);
            [
                real(vmovl_s16(vget_low_s16(low))),
                real(vmovl_high_s16(low)),
                real(vmovl_s16(vget_low_s16(high))),
                real(vmovl_high_s16(high)),
            ]
        }
    }

    /// 16 reals as bytes. (Conversions saturate, and what leaves 16 bits is beyond any byte.)
    #[inline(always)]
    pub(super) fn bytes(&self, v: Reals) -> uint8x16_t {
        // SAFETY: as above.
        unsafe {
            // Of NaN and a number the number is taken.
            let q = |v| vcvtnq_s32_f32(vmaxnmq_f32(vdivq_f32(v, self.scale), self.lo));
            let low = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(q(v[0])), q(v[1])), self.words);
            let high = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(q(v[2])), q(v[3])), self.words);
            if self.signed {
                vreinterpretq_u8_s8(vqmovn_high_s16(vqmovn_s16(low), high))
            } else {
                vqmovun_high_s16(vqmovun_s16(low), high)
            }
        }
    }

    /// The reals of the first bytes of a slice, up to 16; 0 for those that are not there.
    #[inline(always)]
    pub(super) fn some_reals(&self, bytes: &[u8]) -> Reals {
        let mut all = [0u8; BLOCK];
        all[..bytes.len()].copy_from_slice(bytes);
        // SAFETY: an array of 16.
        self.reals(unsafe { vld1q_u8(all.as_ptr()) })
    }

    /// The first reals as bytes, as many as there is room for, up to 16.
    #[inline(always)]
    pub(super) fn some_bytes(&self, v: Reals, to: &mut [u8]) {
        let mut all = [0u8; BLOCK];
        // SAFETY: an array of 16.
        unsafe { vst1q_u8(all.as_mut_ptr(), self.bytes(v)) };
        to.copy_from_slice(&all[..to.len()]);
    }
}

/// Loads bytes and halves as floats; `false` if the tensor is of neither.
pub(crate) fn load(x: &View<'_>, start: usize, out: &mut [f32]) -> bool {
    let Some(grid) = Grid::of(x.dtype, x.scale, x.zero_point) else {
        return halves::load(x, start, out);
    };
    let from = x.slice::<u8>(start, out.len());
    let (to, rest) = out.as_chunks_mut::<BLOCK>();
    let (from, last) = from.as_chunks::<BLOCK>();
    for (to, from) in to.iter_mut().zip(from) {
        // SAFETY: arrays of 16.
        unsafe { write(to.as_mut_ptr(), grid.reals(vld1q_u8(from.as_ptr()))) };
    }
    if !rest.is_empty() && last.len() == rest.len() {
        rest.copy_from_slice(&to_array(grid.some_reals(last))[..rest.len()]);
    }
    true
}

/// Stores floats as bytes and halves; `false` if the tensor is of neither.
pub(crate) fn store(out: &mut ViewMut<'_>, start: usize, v: &[f32]) -> bool {
    let Some(grid) = Grid::of(out.dtype(), out.scale(), out.zero_point()) else {
        return halves::store(out, start, v);
    };
    let (from, last) = v.as_chunks::<BLOCK>();
    let (to, rest) = out.slice::<u8>(start, v.len()).as_chunks_mut::<BLOCK>();
    for (to, from) in to.iter_mut().zip(from) {
        // SAFETY: arrays of 16.
        unsafe { vst1q_u8(to.as_mut_ptr(), grid.bytes(read(from.as_ptr()))) };
    }
    if !last.is_empty() && last.len() == rest.len() {
        let mut all = [0.0; BLOCK];
        all[..last.len()].copy_from_slice(last);
        grid.some_bytes(of_array(&all), rest);
    }
    true
}
