//! Dense products of bytes whose weights lie by fours of channels, 16 inputs of each side by side: four channels of two pixels at a time, or
//! eight of one.

use core::arch::global_asm;
use core::ops::Range;

use kinglet::elementwise::Elementwise;
use kinglet::product::{Dense, Finish, Inputs, Integers, Microkernel, Packing, Place, Rounding, Sign, Sums, Weights};
use kinglet::rows::{PixelsMut, View};

use super::TARGET;
use crate::rounding::Bytes;
use crate::shared::{shared, tile};

global_asm!(core_directives!(), include_str!("dense.s"), options(raw));

/// What a function of `dense.s` works on, word by word as it reads them; it moves on what points to the next block.
#[repr(C)]
struct Frame {
    /// Biases of the channels.
    bias: *const i32,
    /// Their integers; `floats` serve a block in which one is 0. Words from a channel's to the next, 0 where there are only zeros.
    scales: *const i32,
    floats: *const f32,
    scales_step: usize,
    weights: *const i8,
    weights_step: usize,
    blocks: usize,
    /// Channels of a block.
    channels: usize,
    /// Addresses of the inputs of the first pixel, line by line, and where these end.
    lines: *const *const u8,
    lines_end: *const *const u8,
    /// Turns of the loop over inputs, which is written out eight times, and the address at which it is entered: in the first line, whose first 16
    /// inputs stand before the loop, and in others.
    first: [usize; 2],
    more: [usize; 2],
    /// Bytes from the weights of a panel to those of the next.
    panel: usize,
    /// Bytes between the inputs of the two pixels.
    step: usize,
    y: *mut u8,
    /// Twos of pixels.
    pairs: usize,
    zero: i32,
    /// Where sums are stored as they are instead of being rounded, or 0.
    raw: usize,
    /// Bytes from two pixels to the next two, of inputs and of results, and to the last two, of which one may be done.
    two: [usize; 2],
    last: [usize; 2],
    /// Bytes to the four even ones of a block's channels, or twice to its two.
    even: [u32; 4],
    /// Bytes to the results.
    places: [u16; 8],
    /// Bytes to the inputs of the first pixel.
    x: usize,
    /// What the functions keep.
    own: [usize; 4],
}

unsafe extern "C" {
    safe static kinglet_helium_pixels_steps: u8;
    safe static kinglet_helium_pixels_end: u8;
    safe static kinglet_helium_pixels_raw: u8;
    safe static kinglet_helium_vector_steps: u8;
    safe static kinglet_helium_vector_end: u8;
    fn kinglet_helium_pixels(frame: &mut Frame);
    fn kinglet_helium_vector(frame: &mut Frame);
}

/// Channels of a panel.
const PANEL: usize = 4;
/// Inputs that are multiplied at once.
const RUN: usize = 16;
/// Rounds that the loop over inputs is written out for.
const ROUNDS: usize = 8;

/// Whether weights lie as this kernel reads them.
pub(crate) fn takes(p: &Packing) -> bool {
    *p == TARGET.info().long_bytes
}

#[derive(Clone, Copy, Default)]
pub struct DenseI8<const OPS: u128>(Dense<Integers>);

impl<const OPS: u128> Microkernel for DenseI8<OPS> {
    shared!();

    #[inline(always)]
    fn tile(pixels: usize, blocks: usize, room: usize) -> (usize, usize) {
        tile(2, pixels, blocks, room)
    }

    fn multiply(&self, x: &Inputs<'_, u8>, w: &Weights<'_, i8>, to: Sums<'_, i32>) {
        let width = w.width();
        let (sums, scratch) = to.so_far();
        let Some(line) = Line::new(x, w, scratch).filter(|_| sums.len() >= x.pixels * width) else { return };
        for c in (0..width).step_by(PANEL) {
            for p in (0..x.pixels).step_by(2) {
                let n = 2.min(x.pixels - p);
                for (p, got) in (p..).zip(line.sums(c, p, n).into_iter().take(n)) {
                    let to = sums.get_mut(p * width + c..(p * width + c + PANEL).min((p + 1) * width));
                    for (sum, v) in to.unwrap_or(&mut []).iter_mut().zip(got) {
                        *sum = sum.wrapping_add(v);
                    }
                }
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
        let Some(bytes) = Bytes::of(rounding, x, w, out).filter(|_| x.rows.len() * x.taps == w.extents.lines) else {
            return false;
        };
        let Some(line) = Line::new(x, w, scratch) else { return false };
        line.round(&bytes, out);
        bytes.finish(out);
        true
    }
}

/// A line of pixels.
struct Line<'a> {
    x: &'a Inputs<'a, u8>,
    w: &'a Weights<'a, i8>,
    /// Addresses of the inputs of the first pixel, line by line.
    lines: &'a [*const u8],
    /// Inputs of a line, with those that fill it up.
    length: usize,
    /// Weights of a channel, and the first of them that counts.
    depth: usize,
    from: usize,
}

impl<'a> Line<'a> {
    /// `None` if something is not there.
    fn new(x: &'a Inputs<'a, u8>, w: &'a Weights<'a, i8>, scratch: &'a mut [u8]) -> Option<Self> {
        let (length, depth) = (w.packing.line(&w.extents), w.packing.depth(&w.extents));
        let (from, n) = (w.first_row * x.taps * length, x.rows.len() * x.taps);
        let fits = takes(&w.packing)
            && x.signed
            && x.pixels > 0
            && n * length > 0
            && x.fit(length)
            && from + n * length <= depth
            && w.channels.0.is_multiple_of(PANEL)
            && w.channels.1.next_multiple_of(PANEL) * depth <= w.data.len();
        debug_assert!(fits, "a tile of {} pixels and {} channels", x.pixels, w.width());
        let lines = super::addresses(x, false, scratch).filter(|_| fits)?;
        Some(Line { x, w, lines, length, depth, from })
    }

    /// What is the same for all blocks: of `vector`, for the function of one pixel.
    fn frame(&self, vector: bool, channel: usize) -> Frame {
        let (steps, end) = if vector {
            (&raw const kinglet_helium_vector_steps, &raw const kinglet_helium_vector_end)
        } else {
            (&raw const kinglet_helium_pixels_steps, &raw const kinglet_helium_pixels_end)
        };
        let round = (end as usize - steps as usize) / ROUNDS;
        // The loop is entered where as many rounds are left as the first turn is short of. Addresses of instructions are odd.
        let enter = |rounds: usize| {
            let turns = rounds.div_ceil(ROUNDS).max(1);
            [turns, (steps as usize + (turns * ROUNDS - rounds) * round) | 1]
        };
        let rounds = self.length / RUN;
        let weights = self.w.data.as_ptr().wrapping_add((self.w.channels.0 + channel) * self.depth);
        let panel = PANEL * self.depth;
        Frame {
            bias: ZEROS.as_ptr(),
            scales: ZEROS.as_ptr(),
            floats: core::ptr::null(),
            scales_step: 0,
            weights: weights.wrapping_add(PANEL * self.from),
            weights_step: if vector { 2 * panel } else { panel },
            blocks: 1,
            channels: if vector { 2 * PANEL } else { PANEL },
            lines: self.lines.as_ptr(),
            lines_end: self.lines.as_ptr_range().end,
            first: enter(rounds - 1),
            more: enter(rounds),
            panel,
            step: 0,
            y: core::ptr::null_mut(),
            pairs: 1,
            zero: 0,
            raw: 0,
            two: [0; 2],
            last: [0; 2],
            even: if vector { [0, 8, 16, 24] } else { [0, 8, 0, 8] },
            places: core::array::from_fn(|i| if vector { i } else { i % PANEL } as u16),
            x: 0,
            own: [0; 4],
        }
    }

    /// The sums of a panel's channels from `channel` on, of pixel `from` and, of `n` that are two, the next, from 0.
    fn sums(&self, channel: usize, from: usize, n: usize) -> [[i32; PANEL]; 2] {
        let mut sums = [[0; PANEL]; 2];
        let mut frame = self.frame(false, channel);
        frame.raw = (&raw const kinglet_helium_pixels_raw) as usize | 1;
        frame.y = (&raw mut sums).cast();
        frame.x = from * self.x.step;
        frame.step = if n > 1 { self.x.step } else { 0 };
        // SAFETY: `new` has checked inputs and weights; there are zeros for the biases of a block, and room for its sums.
        unsafe { kinglet_helium_pixels(&mut frame) };
        sums
    }

    /// Computes and rounds all channels of all pixels, two at a time; one that is left has the channels of two panels at once instead.
    fn round(&self, bytes: &Bytes<'_>, out: &mut PixelsMut<'_, u8>) {
        let pixels = self.x.pixels;
        let twos = if self.w.width() < 2 * PANEL { pixels } else { pixels & !1 };
        for (from, n) in [(0, twos), (twos, pixels - twos)] {
            if n > 0 {
                self.round_some(bytes, (from, n), out);
            }
        }
    }

    /// As `round`, of some pixels.
    fn round_some(&self, bytes: &Bytes<'_>, (from, pixels): (usize, usize), out: &mut PixelsMut<'_, u8>) {
        let (x, width, step) = (self.x, self.w.width(), out.step());
        let y = out.as_mut_ptr().wrapping_add(from * step);
        let mut channel = 0;
        // One pixel has the channels of two panels at once.
        for vector in [true, false] {
            let of = if vector { 2 * PANEL } else { PANEL };
            let blocks = (width - channel) / of;
            let fits = if vector { pixels == 1 } else { pixels == 1 || step <= (u16::MAX - 3).into() };
            if blocks == 0 || !fits {
                continue;
            }
            let integers = bytes.integers(channel).filter(|m| m.len() >= blocks * of);
            let mut frame = self.frame(vector, channel);
            frame.bias = bytes.bias(channel).as_ptr();
            frame.scales = integers.map_or(ZEROS.as_ptr(), |m| m.as_ptr());
            frame.scales_step = if integers.is_some() { 4 } else { 0 };
            frame.floats = bytes.floats().as_ptr().wrapping_add(channel);
            frame.blocks = blocks;
            frame.y = y.wrapping_add(channel);
            frame.zero = bytes.zero();
            frame.x = from * x.step;
            if pixels > 1 {
                frame.pairs = pixels.div_ceil(2);
                frame.step = x.step;
                frame.two = [2 * x.step, 2 * step];
                frame.last = if pixels % 2 == 0 { frame.two } else { [x.step, step] };
                frame.places[PANEL..].iter_mut().for_each(|place| *place += step as u16);
            }
            // SAFETY: `new` has checked inputs and weights; the caller, that so many biases, floats and results are there.
            unsafe { if vector { kinglet_helium_vector(&mut frame) } else { kinglet_helium_pixels(&mut frame) } }
            channel += blocks * of;
        }
        // What is left: channels that fill no panel.
        for c in (channel..width).step_by(PANEL) {
            for p in (from..from + pixels).step_by(2) {
                let n = 2.min(from + pixels - p);
                for (p, sums) in (p..).zip(self.sums(c, p, n).into_iter().take(n)) {
                    for (c, sum) in (c..width).zip(sums) {
                        if let Some(byte) = out.run(p).get_mut(c) {
                            *byte = bytes.round(sum.wrapping_add(bytes.bias_of(c)), c) as u8;
                        }
                    }
                }
            }
        }
    }
}

/// Biases, or integers that are none, of a block.
static ZEROS: [i32; 2 * PANEL] = [0; 2 * PANEL];
