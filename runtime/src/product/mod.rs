//! The room where products are computed: convolutions, dense and depthwise, and matrix products with constant weights.
//!
//! ```text
//! kernels::Conv ─► driver ─► Microkernel ─► sums ─► Finish (epilogue, stores)
//!                    │            └────────────────► bytes at once, where the kernel rounds in vectors
//!                    └ lines: rows of the input, padded, where they cannot be read in place
//! ```
//!
//! * [`Geometry`] says where windows lie, [`Packing`] how weights do. Both are data of the step.
//! * The driver is the only loop nest: rows of the output, groups, blocks of channels, tiles of pixels. It gives a
//!   microkernel rows in which every tap lies at a fixed distance from the pixel before: borders are none of its business.
//! * A [`Microkernel`] multiplies one tile. A kernel crate has one for each instruction set, whose value is the proof that the
//!   CPU has it.
//! * The epilogue takes sums to results.

mod driver;
pub(crate) mod epilogue;
pub(crate) mod geometry;
pub(crate) mod lines;
mod matrices;
pub mod packing;
mod part;
mod portable;
mod scratch;

use core::ops::Range;

pub use driver::{MOST_ROWS, run};
pub use epilogue::{Epilogue, Finish, STAGES, Stage};
pub use geometry::Geometry;
pub(crate) use matrices::scratch as matrix_scratch;
pub use matrices::{Matrix, Pack, pack_panels, run_matrices};
pub use packing::{Extents, Packing, Sign, WordOrder};
pub use portable::{Arithmetic, Bytes, Dense, Depthwise, Floats, Halves, Integers};
pub(crate) use scratch::block;
pub use scratch::{PANEL, Scratch, WIDENED, pairs_of_weights};

use crate::Element;
use crate::elementwise::Elementwise;
use crate::rows::{PixelsMut, View};

/// The rows of inputs under a tile of pixels that lie side by side.
///
/// Input `i` of tap `t` of kernel row `r` under pixel `p` is `rows[r][p · step + t · tap_step + i]`.
#[derive(Clone, Copy)]
pub struct Inputs<'a, X> {
    /// A slice for each kernel row of the tile, from the first input of its first pixel on.
    pub rows: &'a [&'a [X]],
    /// Elements from one pixel to the next.
    pub step: usize,
    /// Lines in a kernel row: taps, or 1 where the taps of a row are one line.
    pub taps: usize,
    /// Elements from one line to the next.
    pub tap_step: usize,
    /// Elements from one column of the input to the next, of which both steps are multiples.
    pub column: usize,
    /// Pixels of the tile.
    pub pixels: usize,
    /// Bytes are signed.
    pub signed: bool,
}

impl<X> Inputs<'_, X> {
    /// Whether all rows reach as far as a tile reads that takes `reach` elements from the begin of each line.
    #[inline(always)]
    pub fn fit(&self, reach: usize) -> bool {
        let end = (self.pixels.max(1) - 1) * self.step + (self.taps.max(1) - 1) * self.tap_step + reach;
        self.rows.iter().all(|r| r.len() >= end)
    }
}

/// The weights of the channels of a tile.
#[derive(Clone, Copy)]
pub struct Weights<'a, W> {
    /// All weights of the group.
    pub data: &'a [W],
    /// How they lie.
    pub packing: Packing,
    /// None is −128, of bytes.
    pub symmetric: bool,
    /// How many there are.
    pub extents: Extents,
    /// Kernel row that the tile's first row of inputs is.
    pub first_row: usize,
    /// Channels of the tile within the group. The first is a multiple of the [block](Packing), the last is that of a block
    /// or of the group.
    pub channels: (usize, usize),
    /// Scales by channel, from the tile's first on, if weights are multiplied by them first.
    pub scales: &'a [f32],
}

impl<W> Weights<'_, W> {
    /// Channels of the tile.
    #[inline(always)]
    pub fn width(&self) -> usize {
        self.channels.1 - self.channels.0
    }
}

/// How sums become bytes: `clamp(round(f32(sum + bias + pixel) · m), lo − zero, hi − zero) + zero`.
#[derive(Clone, Copy)]
pub struct Rounding<'a> {
    /// Bias by channel, from the tile's first on.
    pub bias: &'a [i32],
    /// Multipliers by channel, likewise.
    pub multipliers: &'a [f32],
    /// The multipliers as integers ([`crate::quant::requantize_by_integer`]), likewise, 0 where a channel has none; empty if the step has none.
    pub integers: &'a [i32],
    /// What sums of weights [by twos](WordOrder::Twos) begin with, the bias included, likewise; else empty.
    pub starts: &'a [i32],
    /// What is added to all sums of a pixel, by pixel of the tile; empty for nothing.
    pub pixels: &'a [i32],
    /// Zero point.
    pub zero: i32,
    /// Smallest result.
    pub lo: i32,
    /// Largest result.
    pub hi: i32,
}

/// How sums of floats become results where that is no more than this, in this order: `sum + bias`, times a scale, plus a residual, and
/// the positive part of it.
#[derive(Clone, Copy)]
pub struct Plain<'a> {
    /// Bias by channel, from the tile's first on.
    pub bias: &'a [f32],
    /// Scale by channel, likewise; empty if there is none.
    pub scale: &'a [f32],
    /// The residual, which lies as the output does, and its element under the tile's first.
    pub residual: Option<(crate::rows::View<'a>, usize)>,
    /// What is below 0 becomes 0.
    pub relu: bool,
}

/// The innermost tile of products for one instruction set.
///
/// Of a dense product, a sum of channel `c` under pixel `p` adds all inputs of all lines ([`Inputs`]) times the weights of `c`;
/// of a depthwise one the input of channel `c` at each tap.
pub trait Microkernel: Copy {
    /// Inputs as they are multiplied.
    type X: Element;
    /// Weights as they are stored.
    type W: Element;
    /// Sums.
    type Sum: Element;
    /// Floats as [`Microkernel::plain`] stores them.
    type Out: Element;

    /// Whether the weights are multiplied by the scales of their channels before anything else.
    const SCALED: bool = false;
    /// Whether [`Microkernel::round`] ever does anything.
    const ROUNDS: bool = false;
    /// Whether [`Microkernel::plain`] ever does anything.
    const PLAIN: bool = false;
    /// [`Microkernel::round`] takes all pixels of a line and all channels of a group at once, whatever there is scratch for.
    const LINES: bool = false;
    /// The windows of a depthwise product along time are taps of one row, however its weights lie; else, where several inputs lie side by
    /// side, rows.
    const TAPS_OF_FRAMES: bool = false;

    /// Pixels and blocks of channels of a tile, where so many pixels lie side by side and there are so many blocks. Their product is at
    /// most `room`, which is at least 1.
    fn tile(pixels: usize, blocks: usize, room: usize) -> (usize, usize);

    /// The inputs of a step where they lie, if this kernel can read them there: whether it can depends on their type alone.
    fn in_place<'a>(&self, x: &View<'a>, start: usize, len: usize) -> Option<&'a [Self::X]>;

    /// Copies inputs into a line, as this kernel multiplies them; `from` are as many of `x` from `start` on.
    fn copy(&self, x: &View<'_>, start: usize, sign: Sign, to: &mut [Self::X]);

    /// What stands for inputs that are padding.
    fn padding(&self, x: &View<'_>, sign: Sign) -> Self::X;

    /// Adds the products of a tile to its sums, as many pixels as there are.
    fn multiply(&self, x: &Inputs<'_, Self::X>, w: &Weights<'_, Self::W>, to: Sums<'_, Self::Sum>);

    /// Takes the sums of a tile to results and stores these: [`Finish::floats`] or [`Finish::integers`], compiled for the
    /// instruction set.
    fn finish<E: Elementwise>(&self, finish: &mut Finish<'_, E>, to: Place, sums: &mut [Self::Sum], other: &mut [f32]);

    /// Of kernels of lines ([`Microkernel::LINES`]): adds the residual to rounded sums, `[pixel][channel]`, where that is how the product ends
    /// (`Stage::Residual` of an addition, perhaps `Stage::Function` of a ReLU, on signed bytes), and stores the results.
    fn add<E: Elementwise>(&self, finish: &mut Finish<'_, E>, to: Place, rounded: &[i8]) {
        let _ = (finish, to, rounded);
    }

    /// The sum less `zero` times the inputs `at` of each line under pixel `pixel`, for weights with zero points.
    fn centred(&self, x: &Inputs<'_, Self::X>, pixel: usize, at: Range<usize>, sum: Self::Sum, zero: i16) -> Self::Sum {
        let _ = (x, pixel, at, zero);
        sum
    }

    /// Multiplies a tile and stores its results as bytes at once, if this kernel can; else does nothing and says `false`.
    fn round(
        &self,
        x: &Inputs<'_, Self::X>,
        w: &Weights<'_, Self::W>,
        rounding: &Rounding<'_>,
        scratch: &mut [u8],
        out: &mut PixelsMut<'_, u8>,
    ) -> bool {
        let _ = (x, w, rounding, scratch, out);
        false
    }

    /// Multiplies a tile and stores its results as floats at once, if this kernel can; else does nothing and says `false`.
    fn plain(
        &self,
        x: &Inputs<'_, Self::X>,
        w: &Weights<'_, Self::W>,
        end: &Plain<'_>,
        out: &mut PixelsMut<'_, Self::Out>,
    ) -> bool {
        let _ = (x, w, end, out);
        false
    }
}

/// Where the results of a tile go.
#[derive(Clone, Copy)]
pub struct Place {
    /// Element of the output that is the first of the tile.
    pub at: usize,
    /// Its channel.
    pub channel: usize,
    /// Channels of the tile.
    pub width: usize,
    /// Elements from one pixel to the next.
    pub step: usize,
}

impl<'a, S: Element> Sums<'a, S> {
    /// The sums so far, for kernels that add to memory, and the scratch.
    #[inline(always)]
    pub fn so_far(self) -> (&'a mut [S], &'a mut [u8]) {
        if self.fresh {
            self.sums.fill(bytemuck::Zeroable::zeroed());
        }
        (self.sums, self.scratch)
    }
}

/// Where the sums of a tile go.
pub struct Sums<'a, S> {
    /// `[pixel][channel]`
    pub sums: &'a mut [S],
    /// They begin from 0, whatever lies there.
    pub fresh: bool,
    /// Memory for what the kernel keeps between.
    pub scratch: &'a mut [u8],
}
