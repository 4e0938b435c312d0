//! Which kernel runs what.

use kinglet::elementwise::Portable;
use kinglet::kernels::{ConvI8, DepthwiseI8, Params};
use kinglet::product::{self, Packing, WordOrder};
use kinglet::rows::{Operands, Tile};
use kinglet::{Kernels, Reference, StepKind};

use crate::dense;
use crate::depthwise;

/// The kernels of a Cortex-M with the DSP extension. That a program has them is the proof that it was compiled for such a core.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dsp;

/// Whether a channel's weights lie side by side.
pub(crate) fn along_inputs(p: &Packing) -> bool {
    p.run == 0 && p.order == WordOrder::Plain
}

/// Whether weights lie tap by tap, each with all channels of a group side by side.
pub(crate) fn by_taps(p: &Packing) -> bool {
    *p == Packing::by_channels(0)
}

// SAFETY: the methods run the runtime's driver over microkernels that write only the sums they are given; the others are the reference's.
unsafe impl Kernels for Dsp {
    fn kernel_name(&self, kind: StepKind) -> &'static str {
        if matches!(kind, StepKind::ConvI8 | StepKind::DepthwiseI8) { "dsp" } else { Reference.kernel_name(kind) }
    }

    fn conv_i8(&self, params: &ConvI8, operands: &Operands<'_>, tile: Tile) {
        if along_inputs(&params.0.packing) {
            product::run(dense::DenseI8::default(), Portable, &params.0, false, operands, &tile);
        } else {
            params.run(Portable, operands, tile);
        }
    }

    fn depthwise_i8(&self, params: &DepthwiseI8, operands: &Operands<'_>, tile: Tile) {
        if by_taps(&params.0.packing) {
            product::run(depthwise::DepthwiseI8::default(), Portable, &params.0, true, operands, &tile);
        } else {
            params.run(Portable, operands, tile);
        }
    }
}
