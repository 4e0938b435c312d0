//! Sums to bytes: `clamp(round(f32(sum + bias) · m), lo − zero, hi − zero) + zero`, 16 at a time.

use core::arch::aarch64::*;

use kinglet::product::Rounding;

use crate::some;

/// What all bytes of a tile are rounded by.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    zero: int16x8_t,
    lo: uint8x16_t,
    hi: uint8x16_t,
    /// Results are signed bytes.
    signed: bool,
    /// The bounds are not those of the type: there is more to do than to saturate.
    bounded: bool,
}

/// Sums of 16 channels, and what belongs to them.
pub(super) type Four<T> = [T; 4];

impl Ends {
    #[inline(always)]
    pub(super) fn of(r: &Rounding<'_>) -> Ends {
        let signed = r.lo < 0;
        let bounded = (r.lo, r.hi) != if signed { (-128, 127) } else { (0, 255) };
        // SAFETY: NEON is part of every AArch64 CPU that this crate is compiled for.
        unsafe {
            Ends {
                zero: vdupq_n_s16(r.zero as i16),
                lo: vdupq_n_u8(r.lo as u8),
                hi: vdupq_n_u8(r.hi as u8),
                signed,
                bounded,
            }
        }
    }

    /// Four times four sums of each of `P` pixels as bytes, in their order. `m` are their multipliers, none of them NaN or infinite.
    /// (Conversions saturate, and what leaves 16 bits is beyond any byte.)
    #[inline(always)]
    pub(super) fn bytes<const P: usize>(self, sums: [Four<int32x4_t>; P], m: Four<float32x4_t>) -> [uint8x16_t; P] {
        // SAFETY: as above.
        unsafe {
            let mut words = [[vdupq_n_s16(0); 2]; P];
            for p in 0..P {
                let s = sums[p];
                let a = vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(s[0]), m[0]));
                let b = vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(s[1]), m[1]));
                let c = vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(s[2]), m[2]));
                let d = vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(s[3]), m[3]));
                words[p][0] = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(a), b), self.zero);
                words[p][1] = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(c), d), self.zero);
            }
            let mut bytes = [vdupq_n_u8(0); P];
            if self.signed {
                for p in 0..P {
                    bytes[p] = vreinterpretq_u8_s8(vqmovn_high_s16(vqmovn_s16(words[p][0]), words[p][1]));
                }
                if self.bounded {
                    let (lo, hi) = (vreinterpretq_s8_u8(self.lo), vreinterpretq_s8_u8(self.hi));
                    for p in 0..P {
                        let v = vreinterpretq_s8_u8(bytes[p]);
                        bytes[p] = vreinterpretq_u8_s8(vminq_s8(vmaxq_s8(v, lo), hi));
                    }
                }
            } else {
                for p in 0..P {
                    bytes[p] = vqmovun_high_s16(vqmovun_s16(words[p][0]), words[p][1]);
                }
                if self.bounded {
                    for p in 0..P {
                        bytes[p] = vminq_u8(vmaxq_u8(bytes[p], self.lo), self.hi);
                    }
                }
            }
            bytes
        }
    }
}

/// Bias and multipliers of 16 channels.
#[derive(Clone, Copy)]
pub(super) struct Channels {
    pub(super) bias: Four<int32x4_t>,
    pub(super) m: Four<float32x4_t>,
}

impl Channels {
    /// Those from channel `at` on of `n`; 0 where there are none.
    #[inline(always)]
    pub(super) fn of(r: &Rounding<'_>, at: usize, n: usize) -> Channels {
        let (bias, m) = (r.bias.get(..n).unwrap_or(&[]), r.multipliers.get(..n).unwrap_or(&[]));
        let (bias, m): ([i32; 16], [f32; 16]) = (some(bias, at), some(m, at));
        // SAFETY: arrays of 16 are as large as four vectors of four.
        unsafe {
            Channels {
                bias: core::mem::transmute::<[i32; 16], Four<int32x4_t>>(bias),
                m: core::mem::transmute::<[f32; 16], Four<float32x4_t>>(m),
            }
        }
    }
}

/// Whether none of so many multipliers is NaN or infinite: then no product with them is NaN, which would have a meaning of its own.
#[inline(always)]
pub(super) fn are_finite(m: &[f32]) -> bool {
    // By integers, which compilers add up in any order: of all exponents none is all ones.
    let (fours, rest) = m.as_chunks::<4>();
    let mut most = [0u32; 4];
    for four in fours {
        for i in 0..4 {
            most[i] = most[i].max(four[i].to_bits() & 0x7fff_ffff);
        }
    }
    let rest = rest.iter().fold(0, |most, m| most.max(m.to_bits() & 0x7fff_ffff));
    most.iter().fold(rest, |a, &b| a.max(b)) < 0x7f80_0000
}
