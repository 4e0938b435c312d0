//! What a microkernel is given: a part of the products of a step.

use super::driver::MOST_ROWS;
use super::{Extents, Inputs, Microkernel, Weights};
use crate::kernels::Conv;

/// What a microkernel multiplies.
#[derive(Clone, Copy)]
pub(super) struct Product<'a, K: Microkernel> {
    pub(super) k: K,
    pub(super) p: &'a Conv,
    pub(super) depthwise: bool,
    pub(super) extents: Extents,
    /// Bytes are signed as they are multiplied.
    pub(super) signed: bool,
    pub(super) weights: &'a [K::W],
    pub(super) scales: &'a [f32],
    pub(super) frames: Frames,
}

/// Whether the pixels of a line are the frames of a sequence, and what the window over them is.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Frames {
    /// They are not.
    No,
    /// Its frames are taps of one row.
    Taps,
    /// Its frames are rows: the same line, each a frame further on. A depthwise product of several taps at once takes these
    /// from several rows.
    Rows,
}

/// A tile of the products: pixels of one line, blocks of channels of one group, kernel rows.
#[derive(Clone, Copy)]
pub(super) struct Part<'a, X> {
    pub(super) group: usize,
    /// Channels of the group.
    pub(super) channels: (usize, usize),
    /// First pixel of the line.
    pub(super) from: usize,
    pub(super) pixels: usize,
    pub(super) first_row: usize,
    pub(super) rows: &'a [&'a [X]],
}

impl<'a, K: Microkernel> Product<'a, K> {
    /// What lies under a tile, as its microkernel reads it.
    #[inline(always)]
    pub(super) fn inputs<R>(&self, t: &Part<'_, K::X>, with: impl FnOnce(&Inputs<'_, K::X>) -> R) -> R {
        // Rows are written down for each tile: of few rows few.
        match t.rows.len() {
            _ if K::LINES => with(&self.inputs_of(t, t.rows)),
            0..=4 => with(&self.inputs_of(t, self.under::<4>(t, &mut [&[]; 4]))),
            _ => with(&self.inputs_of(t, self.under::<MOST_ROWS>(t, &mut [&[]; MOST_ROWS]))),
        }
    }

    /// The rows of a tile from its first input on.
    #[inline(always)]
    fn under<'r, const N: usize>(&self, t: &Part<'r, K::X>, rows: &'r mut [&'r [K::X]; N]) -> &'r [&'r [K::X]] {
        let first = self.first(t.group, t.channels.0, t.from);
        for (to, row) in rows.iter_mut().zip(t.rows) {
            *to = row.get(first..).unwrap_or(&[]);
        }
        rows.get(..t.rows.len()).unwrap_or(&[])
    }

    /// Element of a row that is the first under pixel `from` in a group, of a depthwise product in a channel.
    #[inline(always)]
    pub(super) fn first(&self, group: usize, channel: usize, from: usize) -> usize {
        let c = self.p.geometry.input[2] as usize;
        let channel = match group {
            _ if self.depthwise => channel,
            0 => 0,
            group => group * (c / self.p.groups.max(1) as usize),
        };
        from * self.step() + channel
    }

    /// Elements from pixel to pixel.
    #[inline(always)]
    fn step(&self) -> usize {
        let g = &self.p.geometry;
        let stride = if self.frames == Frames::No { g.stride[1] } else { g.stride[0] };
        stride as usize * g.input[2] as usize
    }

    /// As [`Product::inputs`], of rows from their first input on.
    #[inline(always)]
    fn inputs_of<'r>(&self, t: &Part<'_, K::X>, rows: &'r [&'r [K::X]]) -> Inputs<'r, K::X> {
        let g = &self.p.geometry;
        let c = g.input[2] as usize;
        let (taps, tap_step) = match self.frames {
            Frames::Taps => (g.kernel[0], g.dilation[0]),
            Frames::Rows => (1, 0),
            Frames::No if !self.depthwise && self.p.joined() => (1, 0),
            Frames::No => (g.kernel[1], g.dilation[1]),
        };
        Inputs {
            rows,
            step: self.step(),
            taps: taps as usize,
            tap_step: tap_step as usize * c,
            column: c,
            pixels: t.pixels,
            signed: self.signed,
        }
    }

    #[inline(always)]
    pub(super) fn weights(&self, t: &Part<'_, K::X>) -> Weights<'a, K::W> {
        let (e, packing) = (&self.extents, &self.p.packing);
        let channel = t.group * e.channels + t.channels.0;
        let data = if e.groups == 1 {
            self.weights
        } else {
            let group = packing.panels(e) * packing.panel(e) * packing.depth(e);
            self.weights.get(t.group * group..(t.group + 1) * group).unwrap_or(&[])
        };
        Weights {
            data,
            packing: *packing,
            symmetric: self.p.symmetric,
            extents: *e,
            first_row: t.first_row,
            channels: t.channels,
            scales: self.scales.get(channel..).unwrap_or(&[]),
        }
    }
}
