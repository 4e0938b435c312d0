//! Microkernels of the DSP extension (M4, M7, M33): products of halfwords, two at once.

mod add;
mod dense;
mod depthwise;
mod frames;
mod one;
mod wide;

pub(crate) use add::add;
pub use dense::DenseI8;
pub(crate) use dense::takes;
pub use depthwise::DepthwiseI8;

use kinglet::Target;

/// Whose plans they run.
pub const TARGET: Target = Target::CortexM;
/// What profiles call them.
pub const NAME: &str = "dsp";
