//! Which kernel runs what.

use kinglet::elementwise::Portable;
use kinglet::kernels::{ConvI8, DepthwiseI8};
use kinglet::product::{self, Packing};
use kinglet::rows::{Operands, Tile};
use kinglet::{Kernels, Reference, StepKind, Target};

use crate::dense;
use crate::depthwise;

/// The kernels of a Cortex-M with the DSP extension, for plans of the target `cortex-m`. That a program has them is the proof that it was compiled for such
/// a core.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dsp;

/// Whether weights lie by pairs of channels.
pub(crate) fn by_pairs(p: &Packing) -> bool {
    *p == Target::CortexM.info().long_bytes
}

/// Whether weights lie by the four channels of a word.
pub(crate) fn by_words(p: &Packing) -> bool {
    *p == Target::CortexM.info().depthwise_bytes
}

// SAFETY: the methods run the runtime's driver over microkernels that write only the sums they are given; the others are the reference's.
unsafe impl Kernels for Dsp {
    fn kernel_name(&self, kind: StepKind) -> &'static str {
        if matches!(kind, StepKind::ConvI8 | StepKind::DepthwiseI8) { "dsp" } else { Reference.kernel_name(kind) }
    }

    fn target(&self) -> Target {
        Target::CortexM
    }

    fn takes(&self, kind: StepKind, packing: &Packing) -> bool {
        match kind {
            StepKind::ConvI8 => by_pairs(packing),
            StepKind::DepthwiseI8 => by_words(packing),
            // The portable kernels read any order.
            _ => true,
        }
    }

    fn conv_i8(&self, params: &ConvI8, operands: &Operands<'_>, tile: Tile) {
        product::run(dense::DenseI8::default(), Portable, &params.0, false, operands, &tile);
    }

    fn depthwise_i8(&self, params: &DepthwiseI8, operands: &Operands<'_>, tile: Tile) {
        product::run(depthwise::DepthwiseI8::default(), Portable, &params.0, true, operands, &tile);
    }
}
