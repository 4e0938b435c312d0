//! What becomes of the sums of a tile: they are kept, or rounded to bytes.

use core::arch::aarch64::*;
use core::arch::asm;

use kinglet::product::Rounding;
use kinglet::rows::PixelsMut;

use super::round::{Channels, Ends, Four};

/// What becomes of the sums of a tile.
pub(super) trait End {
    /// What there is to know of a panel.
    type Panel: Copy;

    /// Of 16 channels from `channel` on of `n`.
    fn panel(&self, channel: usize, n: usize) -> Self::Panel;

    /// Of eight channels from `channel` on of `n`, each pair of them twice.
    fn pairs(&self, channel: usize, n: usize) -> Self::Panel;

    /// What the sums of a pixel begin with, in the order of the panel.
    fn start(&self, panel: &Self::Panel) -> Four<int32x4_t>;

    /// Takes the sums of `P` pixels from `first` on, of `there` channels from `channel` on.
    ///
    /// # Safety
    /// The tile has so many.
    unsafe fn take<const P: usize>(
        &mut self,
        panel: &Self::Panel,
        first: usize,
        channels: (usize, usize),
        acc: [Four<int32x4_t>; P],
    );

    /// As [`End::take`], of the first `pixels` of `N` pairs of pixels and pairs of channels.
    ///
    /// # Safety
    /// The tile has so many.
    unsafe fn take_pairs<const N: usize>(
        &mut self,
        panel: &Self::Panel,
        pixels: (usize, usize),
        channels: (usize, usize),
        acc: [Four<int32x4_t>; N],
    );
}

/// They are kept: `n` of each pixel.
pub(super) struct Keep<'a> {
    pub(super) sums: &'a mut [i32],
    /// They begin here; otherwise they are added to those that are there.
    pub(super) fresh: bool,
    pub(super) n: usize,
}

impl End for Keep<'_> {
    type Panel = ();

    fn panel(&self, _: usize, _: usize) {}

    fn pairs(&self, _: usize, _: usize) {}

    #[inline(always)]
    fn start(&self, _: &()) -> Four<int32x4_t> {
        // SAFETY: NEON is always there.
        [unsafe { vdupq_n_s32(0) }; 4]
    }

    #[inline(always)]
    unsafe fn take<const P: usize>(
        &mut self,
        _: &(),
        first: usize,
        (channel, there): (usize, usize),
        acc: [Four<int32x4_t>; P],
    ) {
        for p in 0..P {
            let sums = &mut self.sums[(first + p) * self.n + channel..][..there];
            // SAFETY: as many integers as are stored are there.
            unsafe {
                if self.fresh && there == 16 {
                    for i in 0..4 {
                        vst1q_s32(sums.as_mut_ptr().add(4 * i), acc[p][i]);
                    }
                } else {
                    add_some(sums, core::mem::transmute::<Four<int32x4_t>, [i32; 16]>(acc[p]), self.fresh);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn take_pairs<const N: usize>(
        &mut self,
        panel: &(),
        (first, pixels): (usize, usize),
        (channel, there): (usize, usize),
        acc: [Four<int32x4_t>; N],
    ) {
        for i in 0..N {
            if 2 * i >= pixels {
                break;
            }
            // SAFETY: NEON is always there; the rest is the caller's.
            unsafe {
                let mut v = [vdupq_n_s64(0); 4];
                for j in 0..4 {
                    v[j] = vreinterpretq_s64_s32(acc[i][j]);
                }
                let zero = vdupq_n_s32(0);
                let (a, b) = (vzip1q_s64(v[0], v[1]), vzip1q_s64(v[2], v[3]));
                let (c, d) = (vzip2q_s64(v[0], v[1]), vzip2q_s64(v[2], v[3]));
                if self.fresh && there == 8 && 2 * i + 1 < pixels {
                    let to = &mut self.sums[(first + 2 * i) * self.n + channel..][..self.n + 8];
                    let (one, other) = (to.as_mut_ptr(), to.as_mut_ptr().add(self.n));
                    vst1q_s64(one.cast(), a);
                    vst1q_s64(one.add(4).cast(), b);
                    vst1q_s64(other.cast(), c);
                    vst1q_s64(other.add(4).cast(), d);
                    continue;
                }
                let of = |a, b| [[vreinterpretq_s32_s64(a), vreinterpretq_s32_s64(b), zero, zero]];
                self.take(panel, first + 2 * i, (channel, there), of(a, b));
                if 2 * i + 1 < pixels {
                    self.take(panel, first + 2 * i + 1, (channel, there), of(c, d));
                }
            }
        }
    }
}

/// Adds sums to those that are there, unless these are `fresh`.
fn add_some(to: &mut [i32], sums: [i32; 16], fresh: bool) {
    for (to, sum) in to.iter_mut().zip(sums) {
        *to = if fresh { sum } else { to.wrapping_add(sum) };
    }
}

/// They are rounded to bytes.
pub(super) struct Bytes<'a> {
    r: &'a Rounding<'a>,
    ends: Ends,
    to: *mut u8,
    step: usize,
}

impl<'a> Bytes<'a> {
    /// Those of a tile, of which there are as many pixels and channels in `out` and in `r`.
    pub(super) fn of(r: &'a Rounding<'a>, out: &mut PixelsMut<'_, u8>) -> Self {
        Bytes { r, ends: Ends::of(r), to: out.as_mut_ptr(), step: out.step() }
    }
}

impl End for Bytes<'_> {
    type Panel = Channels;

    #[inline(always)]
    fn panel(&self, channel: usize, n: usize) -> Channels {
        Channels::of(self.r, channel, n)
    }

    #[inline(always)]
    fn pairs(&self, channel: usize, n: usize) -> Channels {
        let Channels { bias: b, m } = Channels::of(self.r, channel, n);
        // SAFETY: NEON is always there.
        unsafe {
            let (b0, b1) = (vreinterpretq_s64_s32(b[0]), vreinterpretq_s64_s32(b[1]));
            let (m0, m1) = (vreinterpretq_s64_f32(m[0]), vreinterpretq_s64_f32(m[1]));
            let [b0, b1, b2, b3] = [
                vdupq_laneq_s64::<0>(b0),
                vdupq_laneq_s64::<1>(b0),
                vdupq_laneq_s64::<0>(b1),
                vdupq_laneq_s64::<1>(b1),
            ];
            let [m0, m1, m2, m3] = [
                vdupq_laneq_s64::<0>(m0),
                vdupq_laneq_s64::<1>(m0),
                vdupq_laneq_s64::<0>(m1),
                vdupq_laneq_s64::<1>(m1),
            ];
            Channels {
                bias: [
                    vreinterpretq_s32_s64(b0),
                    vreinterpretq_s32_s64(b1),
                    vreinterpretq_s32_s64(b2),
                    vreinterpretq_s32_s64(b3),
                ],
                m: [
                    vreinterpretq_f32_s64(m0),
                    vreinterpretq_f32_s64(m1),
                    vreinterpretq_f32_s64(m2),
                    vreinterpretq_f32_s64(m3),
                ],
            }
        }
    }

    #[inline(always)]
    fn start(&self, panel: &Channels) -> Four<int32x4_t> {
        panel.bias
    }

    #[inline(always)]
    unsafe fn take<const P: usize>(
        &mut self,
        panel: &Channels,
        first: usize,
        (channel, there): (usize, usize),
        mut acc: [Four<int32x4_t>; P],
    ) {
        // SAFETY: the caller's: what is stored is within the runs.
        unsafe {
            if !self.r.pixels.is_empty() {
                for p in 0..P {
                    let more = vdupq_n_s32(self.r.pixels[first + p]);
                    for i in 0..4 {
                        acc[p][i] = vaddq_s32(acc[p][i], more);
                    }
                }
            }
            let bytes = self.ends.bytes(acc, panel.m);
            let mut to = self.to.add(first * self.step + channel);
            if there == 16 {
                for p in 0..P {
                    vst1q_u8(to, bytes[p]);
                    to = to.add(self.step);
                }
            } else {
                store_some(to, self.step, &bytes, there);
            }
        }
    }

    #[inline(always)]
    unsafe fn take_pairs<const N: usize>(
        &mut self,
        panel: &Channels,
        (first, pixels): (usize, usize),
        (channel, there): (usize, usize),
        mut acc: [Four<int32x4_t>; N],
    ) {
        // SAFETY: the caller's: what is stored is within the runs.
        unsafe {
            if !self.r.pixels.is_empty() {
                for n in 0..N {
                    let of = |p: usize| self.r.pixels[first + p.min(pixels - 1)];
                    let more = [of(2 * n), of(2 * n), of(2 * n + 1), of(2 * n + 1)];
                    for i in 0..4 {
                        acc[n][i] = vaddq_s32(acc[n][i], vld1q_s32(more.as_ptr()));
                    }
                }
            }
            let bytes = self.ends.bytes(acc, panel.m);
            let begin = self.to.add(first * self.step + channel);
            let mut to = begin;
            // Two bytes of a pixel, two of the other: of two pairs the even ones are the first pixels of both.
            for i in (0..N).step_by(2) {
                let a = vreinterpretq_u16_u8(bytes[i]);
                let b = vreinterpretq_u16_u8(bytes[if i + 1 < N { i + 1 } else { i }]);
                let (even, odd) = (vreinterpretq_u64_u16(vuzp1q_u16(a, b)), vreinterpretq_u64_u16(vuzp2q_u16(a, b)));
                if pixels == 2 * N && i + 1 < N && there == 8 {
                    to = store_four(to, self.step, even, odd);
                    continue;
                }
                let halves = [
                    vgetq_lane_u64::<0>(even),
                    vgetq_lane_u64::<0>(odd),
                    vgetq_lane_u64::<1>(even),
                    vgetq_lane_u64::<1>(odd),
                ];
                for j in 0..if i + 1 < N { 4 } else { 2 } {
                    if 2 * i + j >= pixels {
                        break;
                    }
                    let to = begin.add((2 * i + j) * self.step);
                    if there == 8 {
                        to.cast::<u64>().write_unaligned(halves[j]);
                    } else {
                        core::ptr::copy_nonoverlapping(halves[j].to_ne_bytes().as_ptr(), to, there);
                    }
                }
            }
        }
    }
}

/// Stores the halves of two vectors, in turn, to four places `step` apart; gives the fifth.
///
/// # Safety
/// They may be written.
#[inline(always)]
unsafe fn store_four(to: *mut u8, step: usize, even: uint64x2_t, odd: uint64x2_t) -> *mut u8 {
    let mut to = to;
    // SAFETY: the caller's.
    unsafe {
        asm!(
            "st1 {{{even:v}.d}}[0], [{to}], {step}",
            "st1 {{{odd:v}.d}}[0], [{to}], {step}",
            "st1 {{{even:v}.d}}[1], [{to}], {step}",
            "st1 {{{odd:v}.d}}[1], [{to}], {step}",
            to = inout(reg) to,
            step = in(reg) step,
            even = in(vreg) even,
            odd = in(vreg) odd,
            options(nostack, preserves_flags)
        );
    }
    to
}

/// Stores the first `there` bytes, fewer than 16, of pixels that are `step` apart.
///
/// # Safety
/// They may be written.
unsafe fn store_some(to: *mut u8, step: usize, bytes: &[uint8x16_t], there: usize) {
    for (p, &bytes) in bytes.iter().enumerate() {
        // SAFETY: the caller's.
        unsafe {
            let to = to.add(p * step);
            if there == 8 {
                vst1_u8(to, vget_low_u8(bytes));
            } else {
                let bytes: [u8; 16] = core::mem::transmute(bytes);
                core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, there);
            }
        }
    }
}
