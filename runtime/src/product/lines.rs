//! The rows that microkernels read: the input's own where every tap lies inside and bytes need no change, otherwise copies with
//! the padding around them.

use super::{Geometry, Microkernel, Sign};
use crate::rows::{BUFFER, View};

/// Elements that a microkernel may read beyond the last of a row.
pub(super) const SLACK: usize = 64;

/// Elements of pixels that are multiplied with all weights at once, more or less: they stay in the second cache meanwhile.
const AT_ONCE: u64 = 64 * 1024;

/// Elements of a copied row.
pub(super) fn row_len(g: &Geometry) -> u64 {
    (g.reach(1) * u64::from(g.input[2])).next_multiple_of(SLACK as u64) + SLACK as u64
}

/// Rows of the ring: those of a window, and one of padding alone.
pub(super) fn slots(g: &Geometry) -> u64 {
    let rows = u64::from(g.input[0]) * u64::from(g.upsample[0]);
    g.span(0).min(rows) + 1
}

/// Whether the outputs are one line along time: rows of one pixel, made of rows of one pixel.
pub(crate) fn along_time(g: &Geometry) -> bool {
    g.input[1] == 1 && g.output[1] == 1 && g.kernel[1] == 1 && g.pad[1] == 0 && g.upsample[1] == 1 && g.stride[1] == 1
}

/// Pixels of a line that are multiplied with all weights at once.
pub(super) fn pixels_at_once(g: &Geometry) -> u64 {
    rows_at_once(g.input[2].into(), g.rows() as u64 * u64::from(g.output[1]))
}

/// Pixels of so many channels that are multiplied at once, of `all`.
pub(super) fn rows_at_once(channels: u64, all: u64) -> u64 {
    (AT_ONCE / channels.max(1)).clamp(32, 512).min(all)
}

/// Elements that so many pixels of a line along time reach.
pub(super) fn reach_along_time(g: &Geometry, pixels: u64) -> u64 {
    (pixels.max(1) - 1) * u64::from(g.stride[0]) + g.span(0)
}

/// Copies the inputs at positions `from .. from + to.len() / channels` along a line of `n` columns that is upsampled by `up`;
/// positions without an input are left as they are. `start` is the first element of the line.
#[inline(always)]
pub(super) fn copy_line<K: Microkernel>(
    k: &K,
    (x, sign): (&View<'_>, Sign),
    (start, n, channels): (usize, usize, usize),
    (from, up): (isize, usize),
    to: &mut [K::X],
) {
    if up == 1 {
        let column = from.max(0) as usize;
        let at = (column as isize - from) as usize * channels;
        if let Some(to) = to.get_mut(at..) {
            let there = to.len().min(n.saturating_sub(column) * channels);
            let (first, Some(to)) = (start + column * channels, to.get_mut(..there)) else { return };
            if x.is_in_one_piece(first, there) {
                k.copy(x, first, sign, to);
            } else {
                // Frames around the end of a ring.
                for (i, to) in to.chunks_mut(channels.max(1)).enumerate() {
                    k.copy(x, first + i * channels, sign, to);
                }
            }
        }
        return;
    }
    let (width, up) = (to.len() / channels.max(1), up.max(1));
    // The first column there is, and its position in `to`.
    let column = (from.max(0) as usize).div_ceil(up);
    let at = ((column * up) as isize - from) as usize;
    let there = if at < width { (width - at).div_ceil(up).min(n.saturating_sub(column)) } else { 0 };
    let first = start + column * channels;
    for i in 0..there {
        if let Some(to) = to.get_mut((at + i * up) * channels..(at + i * up + 1) * channels) {
            k.copy(x, first + i * channels, sign, to);
        }
    }
}

/// Copies the columns of a matrix of so many `(columns, rows)` from element `start` of its first row on, each as a pixel.
#[inline(always)]
pub(super) fn turn<K: Microkernel>(
    k: &K,
    (x, sign): (&View<'_>, Sign),
    start: usize,
    (columns, rows): (usize, usize),
    to: &mut [K::X],
) {
    let n = to.len() / rows.max(1);
    let mut part: [K::X; BUFFER] = bytemuck::Zeroable::zeroed();
    for i in 0..rows {
        for first in (0..n).step_by(BUFFER) {
            let Some(part) = part.get_mut(..BUFFER.min(n - first)) else { return };
            k.copy(x, start + i * columns + first, sign, part);
            let to = to.get_mut(first * rows + i..).unwrap_or(&mut []);
            to.iter_mut().step_by(rows.max(1)).zip(&*part).for_each(|(to, &v)| *to = v);
        }
    }
}

/// The copied rows of a picture: a ring of those of a window, and a row of padding alone; or where rows are not copied that row.
pub(super) struct Ring<'a, X> {
    memory: &'a mut [X],
    padding: X,
    len: usize,
    slots: usize,
    /// The picture, and the first row of it that is not there yet.
    next: Option<(usize, isize)>,
    /// The row of padding is there.
    padded: bool,
}

impl<'a, X: crate::Element> Ring<'a, X> {
    pub(super) fn new(g: &Geometry, memory: &'a mut [X], padding: X, copies: bool) -> Self {
        let slots = if copies { slots(g) as usize - 1 } else { 0 };
        Ring { memory, padding, len: row_len(g) as usize, slots, next: None, padded: false }
    }

    /// Makes the row of padding, if the window that begins at row `top` of a picture needs it.
    #[inline(always)]
    pub(super) fn reach(&mut self, g: &Geometry, top: isize) {
        let (rows, end) = (g.input[0] as isize, top + g.span(0) as isize);
        if self.padded || top >= 0 && end <= rows && g.upsample[0] == 1 {
            return;
        }
        self.padded = true;
        let from = self.slots * self.len;
        self.memory.get_mut(from..from + self.len).unwrap_or(&mut []).fill(self.padding);
    }

    /// The row of padding.
    pub(super) fn none(&self) -> &[X] {
        self.slot(self.slots)
    }

    #[inline(always)]
    fn slot(&self, i: usize) -> &[X] {
        self.memory.get(i * self.len..(i + 1) * self.len).unwrap_or(&[])
    }

    /// Copies what of the window that begins at row `top` of a picture is not there yet.
    #[inline(always)]
    pub(super) fn fill<K: Microkernel<X = X>>(
        &mut self,
        k: &K,
        g: &Geometry,
        (x, sign): (&View<'_>, Sign),
        (picture, top): (usize, isize),
    ) {
        self.reach(g, top);
        let end = top + g.span(0) as isize;
        let first = match self.next {
            Some((p, next)) if p == picture => next.max(top),
            _ => top,
        };
        self.next = Some((picture, end.max(first)));
        let (n, channels) = (g.input[1] as usize, g.input[2] as usize);
        let width = g.reach(1) as usize * channels;
        for at in first..end {
            let Some(row) = g.input_row(picture, at) else { continue };
            let from = (at as usize % self.slots.max(1)) * self.len;
            let Some(slot) = self.memory.get_mut(from..from + self.len) else { return };
            let place = (-(g.pad[1] as isize), g.upsample[1] as usize);
            // Padding is written around the inputs alone, where they are side by side: rings of small pictures are filled anew for every row.
            let inputs = if place.1 == 1 {
                let start = (g.pad[1].max(0) as usize * channels).min(width);
                start..((g.pad[1] as isize + n as isize).max(0) as usize * channels).min(width).max(start)
            } else {
                0..0
            };
            let Some(line) = slot.get_mut(..width) else { return };
            for around in [0..inputs.start, inputs.end..width] {
                line.get_mut(around).unwrap_or(&mut []).fill(self.padding);
            }
            copy_line(k, (x, sign), (row * n * channels, n, channels), place, line);
        }
    }

    /// The row at `at` of the picture; that of padding if there is none.
    #[inline(always)]
    pub(super) fn row(&self, g: &Geometry, picture: usize, at: isize) -> &[X] {
        self.slot(g.input_row(picture, at).map_or(self.slots, |_| at as usize % self.slots.max(1)))
    }
}
