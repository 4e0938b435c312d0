//! Which kernel runs what.

use kinglet::elementwise::Chosen;
use kinglet::kernels::{Conv, ConvI8, DepthwiseI8, OpSet, Own};
use kinglet::product::{self, Packing};
use kinglet::rows::{Operands, Tile};
use kinglet::{Kernels, Reference, StepKind, Target};

use crate::both::Both;
use crate::dense::DenseI8;
use crate::depthwise::DepthwiseI8 as DepthwiseKernel;

/// The kernels of a Cortex-M with the DSP extension, for plans of the target `cortex-m`. That a program has them is the proof that it was compiled for such
/// a core. `OPS` are the kinds of steps, and the functions at their ends, that a program runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dsp<const OPS: u128 = { OpSet::ALL.bits() }>;

/// Whether weights lie by pairs of channels.
pub(crate) fn by_pairs(p: &Packing) -> bool {
    *p == Target::CortexM.info().long_bytes
}

/// Whether weights lie by the four channels of a word.
pub(crate) fn by_words(p: &Packing) -> bool {
    *p == Target::CortexM.info().depthwise_bytes
}

// SAFETY: the methods run the runtime's driver over microkernels that write only the sums they are given; the others are the reference's.
unsafe impl<const OPS: u128> Kernels for Dsp<OPS> {
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
        if Dsp::<OPS>::BOTH {
            Dsp::<OPS>::product(&params.0, false, operands, &tile);
        } else {
            product::run(DenseI8::default(), Chosen::<OPS>, &params.0, false, operands, &tile);
        }
    }

    fn depthwise_i8(&self, params: &DepthwiseI8, operands: &Operands<'_>, tile: Tile) {
        if Dsp::<OPS>::BOTH {
            Dsp::<OPS>::product(&params.0, true, operands, &tile);
        } else {
            product::run(DepthwiseKernel::default(), Chosen::<OPS>, &params.0, true, operands, &tile);
        }
    }
}

impl<const OPS: u128> Own for Dsp<OPS> {
    const OWN: OpSet = OpSet::of(&[StepKind::ConvI8, StepKind::DepthwiseI8]);
}

impl<const OPS: u128> Dsp<OPS> {
    const BOTH: bool = OpSet::from_bits(OPS).has(StepKind::ConvI8) && OpSet::from_bits(OPS).has(StepKind::DepthwiseI8);

    /// Either kind: where a program has both there is one driver of them, which is more code than its kernels.
    #[inline(never)]
    fn product(p: &Conv, depthwise: bool, operands: &Operands<'_>, tile: &Tile) {
        product::run(Both::default(), Chosen::<OPS>, p, depthwise, operands, tile);
    }
}
