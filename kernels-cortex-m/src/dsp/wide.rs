//! Depthwise products of bytes under windows of any size but 3 by 3, channel by channel: four pixels of a row at a time, two taps of each in an instruction.

use kinglet::rows::PixelsMut;

use super::depthwise::{CHANNELS, Line, along_time};
use crate::rounding::Bytes;

/// What a function of `wide.s` works on, word by word as it reads them.
#[repr(C)]
struct Wide {
    /// The widened inputs of the channel, and bytes from row to row of them.
    x: *const i16,
    row: usize,
    /// Weights in pairs, and where they end.
    pairs: *const u32,
    pairs_end: *const u32,
    /// Steps of a row, each of two taps.
    steps: usize,
    bias: i32,
    /// An integer, or the bits of a float.
    scale: i32,
    addend: i32,
    /// The result at the first pixel, and bytes from there to the next.
    y: *mut u8,
    y_step: usize,
    pixels: usize,
    /// The scale is a float, on a core that has them.
    float: usize,
}

/// Most steps of a row that the functions have.
const MOST_STEPS: usize = 8;

unsafe extern "C" {
    fn kinglet_wide_1(frame: &Wide);
    fn kinglet_wide_2(frame: &Wide);
    fn kinglet_wide_pairs(packed: *const i8, tap_step: usize, taps: usize, to: *mut u32, rows: usize, row_bytes: usize);
}

impl Line<'_> {
    /// Computes and rounds some pixels of channel `c`; `false` if the window is none for this, or how sums are rounded.
    pub(super) fn wide(
        &mut self,
        bytes: &Bytes<'_>,
        c: usize,
        (from, n): (usize, usize),
        out: &mut PixelsMut<'_, u8>,
    ) -> bool {
        let (x, w, e) = (self.x, self.w, &self.w.extents);
        let rows = x.rows.len();
        let steps = x.taps / 2 + 1;
        let whole = w.first_row == 0 && rows == e.length && x.taps == e.lines && !along_time(x, w);
        if !whole || self.dilation != 1 || !(1..=2).contains(&self.stride) || steps > MOST_STEPS || n == 0 {
            return false;
        }
        let integer = bytes.integers(c).and_then(|m| m.first().copied()).unwrap_or(0);
        let float = integer == 0;
        if float && bytes.from_integers().is_none() {
            return false;
        }
        let scale = if float { bytes.floats().get(c).map_or(0, |m| m.to_bits() as i32) } else { integer };
        let channel = w.channels.0 + c;
        let packed = w.data.get(channel / CHANNELS * CHANNELS * w.packing.depth(e) + channel % CHANNELS * 4..);
        let (Some(packed), Some(plane)) = (packed, self.planes.get(c % CHANNELS * rows * self.row..)) else {
            return false;
        };
        // Of more than one row four are paired at a time.
        let paired = if rows == 1 { 1 } else { rows.next_multiple_of(4) };
        if self.pairs.len() < paired * 2 * steps || plane.len() < rows * self.row {
            return false;
        }
        let pairs = self.pairs.as_mut_ptr();
        let y = out.as_mut_ptr().wrapping_add(from * out.step() + c);
        let frame = Wide {
            x: plane.as_ptr(),
            row: 2 * self.row,
            pairs,
            pairs_end: pairs.wrapping_add(rows * 2 * steps),
            steps,
            bias: bytes.bias_of(c),
            scale,
            addend: bytes.addend(),
            y,
            y_step: out.step(),
            pixels: n,
            float: float.into(),
        };
        // SAFETY: `Line::new` has checked that there are weights of whole panels, and room for the pairs of fours of rows (`pairs`); the rows are
        // as long as the columns under all pixels and at least four more, of which those are read that a whole four of pixels and its taps reach. The caller has
        // checked that the results are there.
        unsafe {
            kinglet_wide_pairs(packed.as_ptr(), w.packing.line(e) * CHANNELS, x.taps, pairs, rows, 8 * steps);
            if self.stride == 1 { kinglet_wide_1(&frame) } else { kinglet_wide_2(&frame) }
        }
        true
    }
}
