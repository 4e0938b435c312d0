//! Sums to bytes, and bytes to those that are multiplied.

use core::arch::global_asm;
#[cfg(not(helium))]
use core::ffi::c_void;

use kinglet::product::{Inputs, Rounding, Sign, Weights, WordOrder};
use kinglet::quant;
use kinglet::rows::{PixelsMut, View};

global_asm!(core_directives!(), include_str!("copy.s"), options(raw));

unsafe extern "C" {
    fn kinglet_copy(from: *const u8, to: *mut u8, bytes: usize);
}

/// A rounding to signed bytes, after which there may be more to do.
#[derive(Clone, Copy)]
pub struct Bytes<'a> {
    of: Rounding<'a>,
    /// The results are unsigned: 128 larger.
    unsigned: bool,
}

impl<'a> Bytes<'a> {
    /// That of a tile which is rounded as a whole; `None` if biases, multipliers or results are not all there.
    pub fn of(of: &Rounding<'a>, x: &Inputs<'_, u8>, w: &Weights<'_, i8>, out: &PixelsMut<'_, u8>) -> Option<Self> {
        let width = w.width();
        let scales = of.bias.len() >= width && of.multipliers.len() >= width && of.pixels.is_empty();
        let scales = scales && (w.packing.order == WordOrder::Plain || of.starts.len() >= width);
        let results = out.count() >= x.pixels && out.run_len() >= width;
        (scales && results && w.first_row == 0).then(|| Bytes::new(of))
    }

    fn new(of: &Rounding<'a>) -> Self {
        let unsigned = of.hi > i8::MAX.into();
        let moved = if unsigned { 128 } else { 0 };
        Bytes { of: Rounding { zero: of.zero - moved, lo: of.lo - moved, hi: of.hi - moved, ..*of }, unsigned }
    }

    /// What is added to a sum times its integer, before it is cut.
    #[cfg(not(helium))]
    pub fn addend(&self) -> i32 {
        (self.of.zero << quant::INTEGER_SHIFT) + (1 << (quant::INTEGER_SHIFT - 1))
    }

    /// The zero point.
    #[cfg(helium)]
    pub fn zero(&self) -> i32 {
        self.of.zero
    }

    /// The floats by which sums are rounded.
    pub fn floats(&self) -> &'a [f32] {
        self.of.multipliers
    }

    /// The biases of channels from `channel` on.
    pub fn bias(&self, channel: usize) -> &'a [i32] {
        self.of.bias.get(channel..).unwrap_or(&[])
    }

    /// What sums begin with, by channel: the bias, of weights by twos more than that.
    #[cfg(not(helium))]
    pub fn starts(&self, twos: bool) -> &'a [i32] {
        if twos { self.of.starts } else { self.of.bias }
    }

    /// The bias of a channel.
    pub fn bias_of(&self, channel: usize) -> i32 {
        self.of.bias.get(channel).copied().unwrap_or(0)
    }

    /// The integers of channels from `channel` on, if there are any.
    pub fn integers(&self, channel: usize) -> Option<&'a [i32]> {
        self.of.integers.get(channel..).filter(|m| !m.is_empty())
    }

    /// Bytes from the integer of a channel to its float, where functions in assembly round by floats: on cores that have them.
    #[cfg(not(helium))]
    pub fn from_integers(&self) -> Option<*const c_void> {
        let distance = (self.of.multipliers.as_ptr() as usize).wrapping_sub(self.of.integers.as_ptr() as usize);
        cfg!(target_abi = "eabihf").then_some(core::ptr::without_provenance(distance))
    }

    /// Rounds the sum of a channel, its bias added, by its float.
    #[inline(always)]
    pub fn float(&self, sum: i32, channel: usize) -> i8 {
        let m = self.of.multipliers.get(channel).copied().unwrap_or(0.0);
        quant::requantize(sum, m, self.of.zero, self.of.lo, self.of.hi) as i8
    }

    /// Rounds it by its integer, if it has one.
    #[inline(always)]
    pub fn round(&self, sum: i32, channel: usize) -> i8 {
        match self.of.integers.get(channel) {
            Some(&m) if m != 0 => {
                quant::requantize_by_integer(sum, m, self.of.zero, i8::MIN.into(), i8::MAX.into()) as i8
            }
            _ => self.float(sum, channel),
        }
    }

    /// What is left to do to bytes that are rounded and lie within their type: their bounds, and the type.
    pub fn finish(&self, out: &mut PixelsMut<'_, u8>) {
        let (lo, hi) = (self.of.lo.max(i8::MIN.into()) as i8, self.of.hi.min(i8::MAX.into()) as i8);
        if !self.unsigned && (lo, hi) == (i8::MIN, i8::MAX) {
            return;
        }
        let turn = if self.unsigned { 0x80 } else { 0 };
        for pixel in 0..out.count() {
            for byte in out.run(pixel) {
                *byte = (*byte as i8).max(lo).min(hi) as u8 ^ turn;
            }
        }
    }
}

/// Copies bytes, as signed ones.
#[inline(never)]
pub fn copy(x: &View<'_>, start: usize, sign: Sign, to: &mut [u8]) {
    let from = x.slice::<u8>(start, to.len());
    if from.len() != to.len() {
        return;
    }
    if (from.as_ptr() as usize | to.as_ptr() as usize).is_multiple_of(4) {
        // SAFETY: both have so many bytes, and one is borrowed mutably.
        unsafe { kinglet_copy(from.as_ptr(), to.as_mut_ptr(), to.len()) };
    } else {
        to.copy_from_slice(from);
    }
    if sign.moves(x.dtype) != 0 {
        to.iter_mut().for_each(|v| *v ^= 0x80);
    }
}
