//! Depthwise products of bytes under windows along time, four channels of a pixel at a time, whose inputs are multiplied where they lie.

use core::ffi::c_void;

use kinglet::rows::PixelsMut;

use super::depthwise::{CHANNELS, Line};
use crate::rounding::Bytes;

/// What `kinglet_depthwise_frames` (`few.s`) works on, word by word as it reads them.
#[repr(C)]
struct Frames {
    /// Room for the widened weights of fours of taps of four channels, two words a tap.
    weights: *mut u32,
    /// Biases of the next four channels.
    bias: *const i32,
    /// Room for the scales of these and the zero point.
    scales: *const c_void,
    zero: i32,
    /// The inputs of the first pixel, and bytes from tap to tap.
    x: *const u8,
    tap_step: usize,
    taps: usize,
    /// Bytes from the inputs of a pixel to those of the next.
    step: usize,
    /// The results of the first pixel, and bytes from there to the next.
    y: *mut u8,
    y_step: usize,
    pixels: usize,
    /// Room: the scales are floats, on a core that has them.
    floats: usize,
    /// Weights as they lie in the plan.
    packed: *const i8,
    /// Integers of the next four channels, and bytes from there to their floats.
    integers: *const i32,
    distance: *const c_void,
    /// What is added to a sum times its integer.
    addend: i32,
    /// Fours of channels.
    groups: usize,
}

unsafe extern "C" {
    fn kinglet_depthwise_frames(frame: &Frames);
}

impl Line<'_> {
    /// Computes and rounds fours of channels of a line along time, and says how many channels these were.
    pub(super) fn frames(&mut self, bytes: &Bytes<'_>, out: &mut PixelsMut<'_, u8>) -> usize {
        let (x, w) = (self.x, self.w);
        let (width, depth) = (w.width(), w.packing.depth(&w.extents));
        let groups = width / CHANNELS;
        let packed = w.data.get(w.channels.0 * depth..).filter(|p| p.len() >= groups * CHANNELS * depth);
        let (true, Some(row), Some(packed), Some(integers)) = (
            groups > 0 && w.first_row == 0 && x.taps <= depth,
            x.rows.first(),
            packed,
            bytes.integers(0).filter(|m| m.len() >= width),
        ) else {
            return 0;
        };
        let distance = bytes.from_integers();
        let room = 4 * x.taps.next_multiple_of(4);
        if self.planes.len() < room || distance.is_none() && integers.contains(&0) {
            return 0;
        }
        let frame = Frames {
            weights: self.planes.as_mut_ptr().cast(),
            bias: bytes.bias(0).as_ptr(),
            scales: core::ptr::null(),
            zero: 0,
            x: row.as_ptr(),
            tap_step: x.tap_step,
            taps: x.taps,
            step: x.step,
            y: out.as_mut_ptr(),
            y_step: out.step(),
            pixels: x.pixels,
            floats: 0,
            packed: packed.as_ptr(),
            integers: integers.as_ptr(),
            distance: distance.unwrap_or(core::ptr::null()),
            addend: bytes.addend(),
            groups,
        };
        // SAFETY: `Line::new` has checked that the inputs of all channels are there under all taps of all pixels, of which there is one at least; here, that there are
        // weights of whole panels by fours of taps, and room for those of one; the caller, that so many biases, floats and results are. The room lies at a
        // multiple of four, behind pairs that are words.
        unsafe { kinglet_depthwise_frames(&frame) };
        CHANNELS * groups
    }
}
