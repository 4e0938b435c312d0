//! What a product takes of its worker's scratch, part by part.

use super::{WordOrder, lines};
use crate::DType;
use crate::format::ALIGN;
use crate::format::words::record;
use crate::kernels::Conv;

record! {
    /// What a product takes of its worker's scratch, in bytes and in this order: it follows from the other parameters and the type of the inputs.
    #[derive(Default)]
    pub struct Scratch {
        /// Sums.
        pub sums: u32,
        /// The residual under them.
        pub residual: u32,
        /// What a microkernel keeps between.
        pub between: u32,
        /// Copied rows.
        pub copies: u32,
        /// Whether rows must be copied before they are multiplied.
        pub copied: bool,
    }
}

/// Channels of a block where a panel has all of them.
const BLOCK: usize = 32;

/// Output channels of a block: the least that a microkernel computes.
pub(crate) const fn block(p: &Conv) -> usize {
    if p.packing.panel == 0 { BLOCK } else { p.packing.panel as usize }
}

/// Pixels whose inputs a microkernel brings into the order of its instructions, where it reads them several times.
pub const PANEL: usize = 12;

/// Bytes of their inputs, all that a sum reads: of bytes that are multiplied by eights.
pub(super) const fn packed_pixels(run: u32, depth: usize) -> u64 {
    if run == 8 { (PANEL * depth) as u64 } else { 0 }
}

/// Pixels that kernels which widen bytes multiply at once.
pub const WIDENED: usize = 3;

/// Bytes of what kernels keep that widen inputs to halfwords: of a dense product some pixels, of a depthwise one the weights of a channel and, of
/// four channels, the rows under a run of pixels.
fn widened(p: &Conv, depthwise: bool) -> u64 {
    let (g, e) = (&p.geometry, p.extents(depthwise));
    if !depthwise {
        let pixels = (u64::from(g.output[0]) * u64::from(g.output[1])).saturating_mul(g.batch.into());
        // One pixel's are multiplied where they lie, if weights lie by twos.
        if pixels == 1 && e.lines == 1 && p.packing.order == WordOrder::Twos {
            return 0;
        }
        return 2 * pixels.min(WIDENED as u64).saturating_mul(p.packing.depth(&e) as u64);
    }
    // Along time the kernel lies along the line.
    let (rows, d, pixels) =
        if lines::along_time(g) { (1, 0, g.output[0]) } else { (u64::from(g.kernel[0]), 1, g.output[1]) };
    let columns = (u64::from(pixels.min(MOST_PLANE)) - 1) * u64::from(g.stride[d]) + g.span(d);
    4 * pairs_of_weights(rows, g.kernel[d].into()) + 8 * rows * (columns.next_multiple_of(4) + 4)
}

/// Pairs of weights of a channel that kernels keep which widen inputs, of a depthwise product under windows of so many rows and taps: two of each row from
/// tap to tap or, but for windows of 3 by 3, all that are side by side, of fours of rows.
pub const fn pairs_of_weights(rows: u64, taps: u64) -> u64 {
    match (rows, taps) {
        (3, 3) => 6,
        (1, taps) => 2 * (taps / 2 + 1),
        (rows, taps) => rows.next_multiple_of(4) * 2 * (taps / 2 + 1),
    }
}

/// Pixels of a line whose inputs are widened at once, of a depthwise product.
const MOST_PLANE: u32 = 64;

/// Whether the inputs of type `x` must be copied before they are multiplied: because bytes are turned, because of padding within rows, or
/// because the lines of a dense product are filled up, so that more is read than they have.
pub(super) fn copies(p: &Conv, depthwise: bool, x: DType) -> bool {
    let e = p.extents(depthwise);
    let filled = !depthwise && p.packing.line(&e) != e.length;
    let g = &p.geometry;
    // Where rows are read one by one, those that are padding are one of its own.
    let padded = !g.inside(1) || lines::along_time(g) && !g.inside(0);
    p.packing.sign.moves(x) != 0 || padded || filled
}

/// Bytes of the parts of a step's scratch, in the order of [`Scratch`], and whether rows must be copied.
fn parts(p: &Conv, depthwise: bool, x: DType) -> ([u64; 4], bool) {
    let copied = copies(p, depthwise, x);
    let (g, align) = (&p.geometry, |n: u64| n.next_multiple_of(ALIGN as u64));
    let sums = align((p.tile as usize * block(p) * 4) as u64);
    let between = if p.packing.widens() {
        widened(p, depthwise)
    } else if p.packing.addresses() {
        4 * p.extents(depthwise).lines as u64 * if depthwise { p.extents(true).length as u64 } else { 1 }
    } else if depthwise && p.packing.run > 1 {
        // Over several taps at once: the taps of so many columns, side by side.
        let (pixels, stride) = match (g.pointwise(), lines::along_time(g)) {
            (true, _) => (p.tile, 1),
            (false, true) => (p.tile, g.stride[0]),
            (false, false) => (p.tile.min(g.output[1]), g.stride[1]),
        };
        let columns = u64::from(pixels - 1) * u64::from(stride) + g.span(1);
        // What is interleaved beyond the last column lies within a block.
        (columns + 1) * u64::from(g.kernel[0].next_multiple_of(p.packing.run)) * block(p) as u64
    } else {
        packed_pixels(p.packing.run, p.packing.depth(&p.extents(depthwise)))
    };
    let channels = u64::from(g.input[2]);
    let at_once = lines::pixels_at_once(g);
    // Halves are read where they lie by kernels that multiply them, and become floats in copies for others.
    let elements = if !copied && x != DType::F16 {
        // One window over frames that lie in two pieces.
        if lines::along_time(g) && !g.pointwise() {
            g.span(0).saturating_mul(channels) + lines::SLACK as u64
        } else if g.inside(0) {
            0
        } else {
            lines::row_len(g)
        }
    } else if g.pointwise() {
        at_once * channels + lines::SLACK as u64
    } else if lines::along_time(g) {
        lines::reach_along_time(g, at_once.min(g.output[0].into())).saturating_mul(channels) + lines::SLACK as u64
    } else {
        lines::slots(g).saturating_mul(lines::row_len(g))
    };
    let residual = if p.epilogue.reads_residual() { sums } else { 0 };
    let copies = align(elements.saturating_mul(if x.is_float() { 4 } else { x.size() as u64 }));
    ([sums, residual, align(between), copies], copied)
}

impl Scratch {
    /// That of a step on inputs of type `x`. (Parts of 4 GiB fit no arena.)
    pub(crate) fn of(p: &Conv, depthwise: bool, x: DType) -> Scratch {
        let (parts, copied) = parts(p, depthwise, x);
        let [sums, residual, between, copies] = parts.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        Scratch { sums, residual, between, copies, copied }
    }

    /// Bytes in all: what a worker needs for the step.
    pub fn bytes(&self) -> u64 {
        [self.sums, self.residual, self.between, self.copies].map(u64::from).iter().sum()
    }
}
