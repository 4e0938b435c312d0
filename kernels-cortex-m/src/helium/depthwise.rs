//! Depthwise products of bytes: eight channels of two pixels at a time, whose inputs are multiplied where they lie.

use core::arch::global_asm;
use core::ops::Range;

use kinglet::elementwise::Elementwise;
use kinglet::product::{Depthwise, Finish, Inputs, Integers, Microkernel, Place, Rounding, Sign, Sums, Weights};
use kinglet::rows::{PixelsMut, View};

use super::TARGET;
use crate::rounding::Bytes;
use crate::shared::shared;

global_asm!(core_directives!(), include_str!("depthwise.s"), options(raw));

/// Channels of a panel, and of a vector of halfwords.
const PANEL: usize = 8;

/// What the function of `depthwise.s` works on, word by word as it reads them; it moves on what points to the next channels.
#[repr(C)]
struct Frame {
    /// Addresses of the first pixel's inputs, tap by tap.
    taps: *const *const u8,
    weights: *const i8,
    /// Taps that are multiplied by twos, and those that are left.
    twos: usize,
    ones: usize,
    /// Bytes to the inputs of the first channel, and from those of a pixel to those of the next.
    x: usize,
    step: usize,
    y: *mut u8,
    y_step: usize,
    /// Twos of pixels.
    pairs: usize,
    zero: i32,
    bias: *const i32,
    scales: *const i32,
    floats: *const f32,
    /// Bytes to the next two pixels: from the inputs of the first, and from the results of the second; and to the last two, of which one may be done.
    two: [usize; 2],
    last: [usize; 2],
    blocks: usize,
    /// Bytes from the scales of eight channels to those of the next, 0 where there are only zeros.
    scales_step: usize,
}

unsafe extern "C" {
    fn kinglet_helium_depthwise(frame: &mut Frame);
}

#[derive(Clone, Copy, Default)]
pub struct DepthwiseI8<const OPS: u128>(Depthwise<Integers>);

impl<const OPS: u128> Microkernel for DepthwiseI8<OPS> {
    shared!();

    const TAPS_OF_FRAMES: bool = true;

    #[inline(always)]
    fn tile(pixels: usize, blocks: usize, room: usize) -> (usize, usize) {
        let pixels = pixels.min(room).max(1);
        (pixels, blocks.min(room / pixels).max(1))
    }

    fn multiply(&self, x: &Inputs<'_, u8>, w: &Weights<'_, i8>, to: Sums<'_, i32>) {
        let width = w.width();
        let (sums, _) = to.so_far();
        if !fits(x, w) || sums.len() < x.pixels * width {
            return;
        }
        for (pixel, sums) in sums.chunks_exact_mut(width.max(1)).enumerate() {
            for (c, to) in sums.iter_mut().enumerate() {
                *to = to.wrapping_add(sum(x, w, pixel, c));
            }
        }
    }

    #[inline(never)]
    fn round(
        &self,
        x: &Inputs<'_, u8>,
        w: &Weights<'_, i8>,
        rounding: &Rounding<'_>,
        scratch: &mut [u8],
        out: &mut PixelsMut<'_, u8>,
    ) -> bool {
        let width = w.width();
        let Some(bytes) = Bytes::of(rounding, x, w, out).filter(|_| fits(x, w)) else { return false };
        let Some(taps) = super::addresses(x, true, scratch) else { return false };
        let (blocks, pixels, step) = (width / PANEL, x.pixels, out.step());
        if blocks > 0 {
            let integers = bytes.integers(0).filter(|m| m.len() >= blocks * PANEL);
            // Where a weight may be -128 the sum of two products may be no halfword.
            let twos = if w.symmetric { taps.len() / 2 } else { 0 };
            let one = pixels == 1;
            let mut frame = Frame {
                taps: taps.as_ptr(),
                weights: w.data.as_ptr().wrapping_add(w.channels.0 * w.packing.depth(&w.extents)),
                twos,
                ones: taps.len() - 2 * twos,
                x: 0,
                step: if one { 0 } else { x.step },
                y: out.as_mut_ptr(),
                y_step: if one { 0 } else { step },
                pairs: pixels.div_ceil(2),
                zero: bytes.zero(),
                bias: bytes.bias(0).as_ptr(),
                scales: integers.map_or(ZEROS.as_ptr(), |m| m.as_ptr()),
                floats: bytes.floats().as_ptr(),
                two: [2 * x.step, step],
                last: if pixels % 2 == 0 { [2 * x.step, step] } else { [x.step, 0] },
                blocks,
                scales_step: if integers.is_some() { 4 * PANEL } else { 0 },
            };
            // SAFETY: `fits` has checked inputs and weights; the caller and the lines above, that so many biases, scales and results are there.
            unsafe { kinglet_helium_depthwise(&mut frame) };
        }
        for pixel in 0..pixels {
            for c in blocks * PANEL..width {
                let sum = sum(x, w, pixel, c).wrapping_add(bytes.bias_of(c));
                if let Some(byte) = out.run(pixel).get_mut(c) {
                    *byte = bytes.round(sum, c) as u8;
                }
            }
        }
        bytes.finish(out);
        true
    }
}

/// Whether everything is there.
fn fits(x: &Inputs<'_, u8>, w: &Weights<'_, i8>) -> bool {
    let e = &w.extents;
    let fits = w.packing == TARGET.info().depthwise_bytes
        && x.signed
        && x.pixels > 0
        && x.fit(w.width())
        && w.channels.0.is_multiple_of(PANEL)
        && w.channels.1 <= e.channels
        && e.channels.next_multiple_of(PANEL) * w.packing.depth(e) <= w.data.len()
        && x.taps <= e.lines
        && w.first_row + x.rows.len() <= e.length;
    debug_assert!(fits, "a tile of {} pixels and {} channels", x.pixels, w.width());
    fits
}

/// The sum of one channel under one pixel.
fn sum(x: &Inputs<'_, u8>, w: &Weights<'_, i8>, pixel: usize, c: usize) -> i32 {
    let e = &w.extents;
    let channel = w.channels.0 + c;
    let panel = w.data.get(channel / PANEL * PANEL * w.packing.depth(e)..).unwrap_or(&[]);
    let mut sum = 0;
    for (r, row) in x.rows.iter().enumerate() {
        for t in 0..x.taps {
            let k = t * w.packing.line(e) + w.first_row + r;
            let weight = panel.get(k * PANEL + channel % PANEL).map_or(0, |&w| i32::from(w));
            sum += row.get(pixel * x.step + t * x.tap_step + c).map_or(0, |&v| i32::from(v as i8)) * weight;
        }
    }
    sum
}

/// Integers that are none, of a block.
static ZEROS: [i32; PANEL] = [0; PANEL];
