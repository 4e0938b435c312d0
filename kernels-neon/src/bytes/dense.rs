//! Dense products of bytes.
//!
//! Weights by fours of inputs and panels of 16 channels suit the dot product, which takes four inputs of a pixel by lane, and baseline
//! NEON alike. Weights by eights and panels of eight channels are those of `smmla`.

use core::ops::Range;

use kinglet::elementwise::Elementwise;
use kinglet::product::{
    Dense, Finish, Inputs, Integers, Matrix, Microkernel, PANEL, Pack, Place, Rounding, Sign, Sums, Weights,
    pack_panels,
};
use kinglet::rows::{PixelsMut, View};

use super::copy;
use super::ends::{Bytes, End, Keep};
use super::part::{Order, Part};
use super::round::are_finite;
use crate::{Level, Neon, by_runs, reals};

/// As many pixels and panels as there is room for, which are multiplied in smaller tiles one after the other: what a tile costs the driver
/// counts less.
#[derive(Clone, Copy)]
pub(crate) struct DenseI8(Neon);

impl From<Neon> for DenseI8 {
    fn from(set: Neon) -> Self {
        DenseI8(set)
    }
}

/// Channels of a tile from which on its inputs are packed.
const LEAST: usize = 24;

/// Whether weights lie as this set reads them.
pub(crate) fn takes(set: Neon, p: &kinglet::product::Packing) -> bool {
    by_runs(p, 16, 4) || by_runs(p, 8, 8) && set.level == Level::I8mm
}

impl Microkernel for DenseI8 {
    type X = u8;
    type W = i8;
    type Sum = i32;
    type Out = f32;
    const ROUNDS: bool = true;

    #[inline(always)]
    fn tile(pixels: usize, blocks: usize, room: usize) -> (usize, usize) {
        // All channels if there is room for them, so that what is packed of the pixels is read by many.
        let most = room / blocks.max(1);
        let most = if blocks >= LEAST / 8 { (most / PANEL * PANEL).max(PANEL) } else { most };
        let pixels = pixels.clamp(1, most.clamp(1, room));
        (pixels, (room / pixels).max(1))
    }

    #[inline(always)]
    fn in_place<'a>(&self, x: &View<'a>, start: usize, len: usize) -> Option<&'a [u8]> {
        Some(x.slice(start, len))
    }

    fn copy(&self, x: &View<'_>, start: usize, sign: Sign, to: &mut [u8]) {
        copy(x, start, sign, to);
    }

    fn padding(&self, x: &View<'_>, sign: Sign) -> u8 {
        Dense::<Integers>::default().padding(x, sign)
    }

    fn multiply(&self, x: &Inputs<'_, u8>, w: &Weights<'_, i8>, to: Sums<'_, i32>) {
        let n = w.width();
        // SAFETY: there are as many sums.
        let done = to.sums.len() >= x.pixels * n
            && unsafe { self.tile_to(x, w, to.scratch, Keep { sums: to.sums, fresh: to.fresh, n }) };
        debug_assert!(done, "a tile of {} pixels and {} channels", x.pixels, w.width());
    }

    fn finish<E: Elementwise>(&self, f: &mut Finish<'_, E>, to: Place, sums: &mut [i32], other: &mut [f32]) {
        reals::integers(f, to, sums, other);
    }

    fn centred(&self, x: &Inputs<'_, u8>, pixel: usize, at: Range<usize>, sum: i32, zero: i16) -> i32 {
        Dense::<Integers>::default().centred(x, pixel, at, sum, zero)
    }

    fn round(
        &self,
        x: &Inputs<'_, u8>,
        w: &Weights<'_, i8>,
        r: &Rounding<'_>,
        scratch: &mut [u8],
        out: &mut PixelsMut<'_, u8>,
    ) -> bool {
        let n = w.width();
        let ends = r.bias.len() >= n
            && r.multipliers.len() >= n
            && (r.pixels.is_empty() || r.pixels.len() >= x.pixels)
            && out.count() >= x.pixels
            && out.run_len() >= n;
        let end = Bytes::of(r, out);
        // SAFETY: bias, multipliers and the runs of bytes are as long as the tile is wide, and there is a run for each pixel.
        ends && are_finite(&r.multipliers[..n]) && unsafe { self.tile_to(x, w, scratch, end) }
    }
}

impl Pack for DenseI8 {
    fn pack(&self, b: &Matrix<'_, i8>, columns: Range<usize>, to: &mut [i8]) {
        let turn = if b.unsigned { -128 } else { 0 };
        match b.panel {
            8 => pack_panels::<i8, 8, 8>(b, columns, |v| v ^ turn, to),
            _ => pack_panels::<i8, 16, 4>(b, columns, |v| v ^ turn, to),
        }
    }
}

impl DenseI8 {
    /// Multiplies a tile; `false` if it is not one that this set can do.
    ///
    /// # Safety
    /// `end` can take the sums of all pixels and channels.
    #[inline(always)]
    unsafe fn tile_to<E: End>(&self, x: &Inputs<'_, u8>, w: &Weights<'_, i8>, scratch: &mut [u8], mut end: E) -> bool {
        let (line, depth) = (w.packing.line(&w.extents), w.packing.depth(&w.extents));
        let order = match () {
            () if by_runs(&w.packing, 16, 4) => Order::Fours,
            () if by_runs(&w.packing, 8, 8) && self.0.level == Level::I8mm => Order::Eights,
            () => return false,
        };
        let panel = order.panel();
        let fits = x.fit(line)
            && x.pixels > 0
            && x.taps > 0
            && !x.rows.is_empty()
            && line > 0
            && w.width() > 0
            && w.channels.0.is_multiple_of(panel)
            && (w.first_row + x.rows.len()) * x.taps * line <= depth
            && w.channels.1.next_multiple_of(panel) * depth <= w.data.len();
        if !fits {
            return false;
        }
        let part = Part { x, w, line, depth };
        let panels = 0..w.width().div_ceil(panel);
        // SAFETY: what is read has just been checked, what is written is the caller's; `self.0` is the proof of its level.
        unsafe {
            match (order, self.0.level) {
                (_, Level::Dot | Level::I8mm) if x.pixels == 1 => part.one_pixel(order, &mut end),
                // Packing pays where several panels of channels read what was packed.
                (Order::Eights, _)
                    if w.width() >= LEAST
                        && x.rows.len() * x.taps * line == depth
                        && scratch.len() >= PANEL * depth =>
                {
                    part.by_panels(scratch, &mut end);
                }
                (Order::Eights, _) => panels.for_each(|i| part.by_matrix(i, &mut end)),
                (Order::Fours, Level::Dot | Level::I8mm) => panels.for_each(|i| part.by_dot(i, &mut end)),
                (Order::Fours, Level::Base) if w.symmetric => {
                    panels.for_each(|i| part.by_words::<E, true>(i, &mut end));
                }
                (Order::Fours, Level::Base) => panels.for_each(|i| part.by_words::<E, false>(i, &mut end)),
            }
        }
        true
    }
}
