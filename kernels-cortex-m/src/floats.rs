//! Products of floats on cores that have them: the sums of the runtime's own loops in the same order, so that they are the same bits.

use core::arch::global_asm;
use core::ops::Range;

use kinglet::elementwise::Elementwise;
use kinglet::product::{Dense, Depthwise, Finish, Floats, Inputs, Microkernel, Place, Sign, Sums, Weights};
use kinglet::rows::View;

use crate::products::TARGET;

global_asm!(core_directives!(), include_str!("floats.s"), options(raw));

/// Channels that are multiplied at once.
const CHANNELS: usize = 8;
/// Most kernel rows of a tile.
const ROWS: usize = kinglet::product::MOST_ROWS;

/// What a function of `floats.s` reads, word by word.
#[repr(C)]
struct Frame {
    /// The first inputs of rows, and how many rows.
    rows: *const *const f32,
    row_count: usize,
    taps: usize,
    /// Bytes from tap to tap.
    tap_step: usize,
    /// Inputs of a line.
    length: usize,
    weights: *const f32,
    /// `[pixel][8]`
    sums: *mut f32,
    /// Bytes from pixel to pixel, of inputs and of sums.
    pixel_step: usize,
    sums_step: usize,
}

unsafe extern "C" {
    fn kinglet_floats_1(frame: &Frame);
    fn kinglet_floats_2(frame: &Frame);
    fn kinglet_floats_each(frame: &Frame, channel: usize, row_step: usize, tap_step: usize);
}

/// What both kernels have of the portable ones.
macro_rules! portable {
    () => {
        type X = f32;
        type W = f32;
        type Sum = f32;
        type Out = f32;

        #[inline(always)]
        fn tile(pixels: usize, blocks: usize, room: usize) -> (usize, usize) {
            Dense::<Floats>::tile(pixels, blocks, room)
        }

        #[inline(always)]
        fn in_place<'a>(&self, x: &View<'a>, start: usize, len: usize) -> Option<&'a [f32]> {
            self.0.in_place(x, start, len)
        }

        #[inline(always)]
        fn copy(&self, x: &View<'_>, start: usize, sign: Sign, to: &mut [f32]) {
            self.0.copy(x, start, sign, to);
        }

        #[inline(always)]
        fn padding(&self, x: &View<'_>, sign: Sign) -> f32 {
            self.0.padding(x, sign)
        }

        #[inline(always)]
        fn finish<E: Elementwise>(&self, f: &mut Finish<'_, E>, to: Place, sums: &mut [f32], other: &mut [f32]) {
            self.0.finish(f, to, sums, other);
        }

        #[inline(always)]
        fn centred(&self, x: &Inputs<'_, f32>, pixel: usize, at: Range<usize>, sum: f32, zero: i16) -> f32 {
            self.0.centred(x, pixel, at, sum, zero)
        }
    };
}

/// The first inputs of rows under pixel `pixel`.
fn rows(x: &Inputs<'_, f32>, pixel: usize) -> [*const f32; ROWS] {
    let mut rows = [core::ptr::null(); ROWS];
    rows.iter_mut().zip(x.rows).for_each(|(to, row)| *to = row.as_ptr().wrapping_add(pixel * x.step));
    rows
}

/// Dense products.
#[derive(Clone, Copy, Default)]
pub struct DenseF32(Dense<Floats>);

impl Microkernel for DenseF32 {
    portable!();

    fn multiply(&self, x: &Inputs<'_, f32>, w: &Weights<'_, f32>, to: Sums<'_, f32>) {
        let (e, width) = (&w.extents, w.width());
        let depth = w.packing.depth(e);
        let panels = w.data.get(w.channels.0 * depth..).unwrap_or(&[]);
        let lines = x.rows.len() * x.taps * e.length;
        let from = w.first_row * x.taps * e.length;
        let fits = w.packing == TARGET.info().floats
            && w.channels.0.is_multiple_of(CHANNELS)
            && panels.len() >= width.next_multiple_of(CHANNELS) * depth
            && from + lines <= depth
            && x.fit(e.length);
        if !fits || lines == 0 || x.rows.len() > ROWS || to.sums.len() < x.pixels * width {
            return self.0.multiply(x, w, to);
        }
        let (sums, _) = to.so_far();
        for channel in (0..width).step_by(CHANNELS) {
            let n = CHANNELS.min(width - channel);
            for pixel in (0..x.pixels).step_by(2) {
                let pixels = 2.min(x.pixels - pixel);
                let rows = rows(x, pixel);
                let at = pixel * width + channel;
                let Some(own) = sums.get_mut(at..at + (pixels - 1) * width + n) else { return };
                // Sums of whole panels are added to where they lie.
                let mut acc = [[0f32; CHANNELS]; 2];
                let (to, step) =
                    if n == CHANNELS { (own.as_mut_ptr(), 4 * width) } else { (acc.as_mut_ptr().cast(), 4 * CHANNELS) };
                if n < CHANNELS {
                    acc.iter_mut().zip(own.chunks(width.max(1))).for_each(|(acc, own)| {
                        acc.iter_mut().zip(own).take(n).for_each(|(to, &sum)| *to = sum);
                    });
                }
                let frame = Frame {
                    rows: rows.as_ptr(),
                    row_count: x.rows.len(),
                    taps: x.taps,
                    tap_step: 4 * x.tap_step,
                    length: e.length,
                    weights: panels.as_ptr().wrapping_add(channel * depth + from * CHANNELS),
                    sums: to,
                    pixel_step: 4 * x.step,
                    sums_step: step,
                };
                // SAFETY: the inputs of all lines are there under all pixels (`fit`), and the weights of whole panels of as many lines; so are the sums.
                unsafe { if pixels == 2 { kinglet_floats_2(&frame) } else { kinglet_floats_1(&frame) } };
                if n < CHANNELS {
                    own.chunks_mut(width.max(1)).zip(&acc).for_each(|(own, acc)| {
                        own.iter_mut().zip(acc).take(n).for_each(|(sum, &to)| *sum = to);
                    });
                }
            }
        }
    }
}

/// Depthwise products.
#[derive(Clone, Copy, Default)]
pub struct DepthwiseF32(Depthwise<Floats>);

impl Microkernel for DepthwiseF32 {
    portable!();

    fn multiply(&self, x: &Inputs<'_, f32>, w: &Weights<'_, f32>, to: Sums<'_, f32>) {
        let (e, width) = (&w.extents, w.width());
        let (stride, line, whole) = (w.packing.panel(e), w.packing.line(e), width & !(CHANNELS - 1));
        // Weight (row r, tap t) of a channel lies `(t · line + r) · stride` behind its first.
        let last = (x.taps.max(1) - 1) * line + w.first_row + x.rows.len().max(1) - 1;
        let first = w.channels.0 + w.first_row * stride;
        let fits = w.packing == TARGET.info().depthwise_floats
            && w.channels.1 <= stride
            && w.data.len() >= last * stride + w.channels.0 + width
            && x.fit(width);
        let any = !x.rows.is_empty() && x.taps > 0 && x.rows.len() <= ROWS;
        if !fits || !any || to.sums.len() < x.pixels * width {
            return self.0.multiply(x, w, to);
        }
        let (sums, _) = to.so_far();
        for pixel in 0..x.pixels {
            let rows = rows(x, pixel);
            for channel in (0..whole).step_by(CHANNELS) {
                let Some(acc) = sums.get_mut(pixel * width + channel..).and_then(|s| s.get_mut(..CHANNELS)) else {
                    return;
                };
                let frame = Frame {
                    rows: rows.as_ptr(),
                    row_count: x.rows.len(),
                    taps: x.taps,
                    tap_step: 4 * x.tap_step,
                    length: 1,
                    weights: w.data.as_ptr().wrapping_add(first + channel),
                    sums: acc.as_mut_ptr(),
                    pixel_step: 0,
                    sums_step: 0,
                };
                // SAFETY: the inputs of these channels are there at all taps (`fit`), and their weights, as was checked.
                unsafe { kinglet_floats_each(&frame, 4 * channel, 4 * stride, 4 * line * stride) };
            }
            for channel in whole..width {
                let Some(sum) = sums.get_mut(pixel * width + channel) else { return };
                for (r, row) in x.rows.iter().enumerate() {
                    for t in 0..x.taps {
                        let input = row.get(pixel * x.step + t * x.tap_step + channel).copied().unwrap_or(0.0);
                        let weight = w.data.get(first + (t * line + r) * stride + channel).copied().unwrap_or(0.0);
                        *sum += input * weight;
                    }
                }
            }
        }
    }
}
