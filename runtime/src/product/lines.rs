//! The rows that microkernels read: the input's own where every tap lies inside and bytes need no change, otherwise copies with
//! the padding around them, in a ring that keeps the rows of a window.

use super::{Geometry, Microkernel, Sign};
use crate::rows::View;

/// Elements that a microkernel may read beyond the last of a row.
pub(super) const SLACK: usize = 64;

/// Positions of a copied row, in pixels.
fn width(g: &Geometry) -> u64 {
    g.reach(1)
}

/// Elements of a copied row.
pub(super) fn row_len(g: &Geometry) -> u64 {
    (width(g) * u64::from(g.input[2])).next_multiple_of(SLACK as u64) + SLACK as u64
}

/// Rows of the ring: those of a window, and one of padding alone if there is any.
pub(super) fn slots(g: &Geometry) -> u64 {
    let rows = u64::from(g.input[0]) * u64::from(g.upsample[0]);
    g.span(0).min(rows) + 1
}

/// Pixels that are copied at once where each output pixel is made of one input pixel.
pub(super) fn pixels_at_once(g: &Geometry) -> u64 {
    let all = g.rows() as u64 * u64::from(g.output[1]);
    (CHUNK / u64::from(g.input[2])).clamp(32, 512).min(all)
}

/// Elements of pixels that are copied at once, more or less: they stay in the second cache while all weights pass by.
const CHUNK: u64 = 64 * 1024;

/// The copied rows of a picture.
pub(super) struct Ring<'a, X> {
    memory: &'a mut [X],
    len: usize,
    slots: usize,
    /// The picture, and the first row of it that is not there yet.
    next: Option<(usize, isize)>,
    /// The row of padding has been written.
    padded: bool,
}

impl<'a, X: crate::Element> Ring<'a, X> {
    pub(super) fn new(g: &Geometry, memory: &'a mut [X]) -> Self {
        Ring { memory, len: row_len(g) as usize, slots: slots(g) as usize - 1, next: None, padded: false }
    }

    /// Copies what of the window that begins at row `top` of a picture is not there yet.
    pub(super) fn fill<K: Microkernel<X = X>>(
        &mut self,
        k: &K,
        g: &Geometry,
        x: &View<'_>,
        sign: Sign,
        (picture, top): (usize, isize),
    ) {
        let end = top + g.span(0) as isize;
        let first = match self.next {
            Some((p, next)) if p == picture => next.max(top),
            _ => top,
        };
        self.next = Some((picture, end.max(first)));
        let padding = k.padding(x, sign);
        let (left, c, width) = (-(g.pad[1] as isize), g.input[2] as usize, width(g) as usize);
        for at in first..end {
            let Some(row) = g.input_row(picture, at) else {
                if !self.padded {
                    let from = self.slots * self.len;
                    if let Some(row) = self.memory.get_mut(from..from + self.len) {
                        row.fill(padding);
                    }
                    self.padded = true;
                }
                continue;
            };
            let from = (at as usize % self.slots.max(1)) * self.len;
            let Some(slot) = self.memory.get_mut(from..from + self.len) else { return };
            let up = g.upsample[1] as usize;
            let in_w = g.input[1] as usize;
            // The columns of the input that lie within the row, and where the first of them does.
            let before = left.min(0).unsigned_abs();
            let skipped = (left.max(0) as usize).div_ceil(up);
            let first_at = if left >= 0 { skipped * up - left as usize } else { before };
            let there = if first_at < width { (width - first_at).div_ceil(up) } else { 0 };
            let n = there.min(in_w.saturating_sub(skipped));
            let start = (row * in_w + skipped) * c;
            if up == 1 {
                let end = (first_at + n) * c;
                slot[..first_at.min(width) * c].fill(padding);
                if let Some(to) = slot.get_mut(first_at * c..end) {
                    k.copy(x, start, sign, to);
                }
                slot[end.min(width * c)..].fill(padding);
                continue;
            }
            slot.fill(padding);
            for i in 0..n {
                if let Some(to) = slot.get_mut((first_at + i * up) * c..(first_at + i * up + 1) * c) {
                    k.copy(x, start + i * c, sign, to);
                }
            }
        }
    }

    /// The row at `at` of the picture; that of padding if there is none.
    pub(super) fn row(&self, g: &Geometry, picture: usize, at: isize) -> &[X] {
        let slot = g.input_row(picture, at).map_or(self.slots, |_| at as usize % self.slots.max(1));
        self.memory.get(slot * self.len..(slot + 1) * self.len).unwrap_or(&[])
    }
}
