//! Which kernel runs what.

use kinglet::kernels::{Conv, ConvI8, DepthwiseI8, OpSet, Own};
#[cfg(target_abi = "eabihf")]
use kinglet::kernels::{ConvF32, DepthwiseF32};
use kinglet::product::{self, Packing};
use kinglet::rows::{Operands, Tile};
use kinglet::{Kernels, Reference, StepKind, Target};

use crate::both::Both;
use crate::elements::Elements;
#[cfg(target_abi = "eabihf")]
use crate::floats::{DenseF32, DepthwiseF32 as DepthwiseFloats};
use crate::products::{DenseI8, DepthwiseI8 as DepthwiseKernel, NAME, TARGET};

/// The kernels of a Cortex-M with the DSP extension, for plans of the target `cortex-m`, or with Helium, for plans of `cortex-m55`. That a program has
/// them is the proof that it was compiled for such a core. `OPS` are the kinds of steps, and the functions at their ends, that a program runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct CortexM<const OPS: u128 = { OpSet::ALL.bits() }>;

/// Whether weights lie as those of depthwise products.
pub(crate) fn of_depthwise(p: &Packing) -> bool {
    *p == TARGET.info().depthwise_bytes
}

// SAFETY: the methods run the runtime's driver over microkernels that write only the sums they are given; the others are the reference's.
unsafe impl<const OPS: u128> Kernels for CortexM<OPS> {
    fn kernel_name(&self, kind: StepKind) -> &'static str {
        if Self::OWN.has(kind) { NAME } else { Reference.kernel_name(kind) }
    }

    fn target(&self) -> Target {
        TARGET
    }

    fn takes(&self, kind: StepKind, packing: &Packing) -> bool {
        match kind {
            StepKind::ConvI8 => crate::products::takes(packing),
            StepKind::DepthwiseI8 => of_depthwise(packing),
            // The portable kernels read any order.
            _ => true,
        }
    }

    fn conv_i8(&self, params: &ConvI8, operands: &Operands<'_>, tile: Tile) {
        if CortexM::<OPS>::BOTH {
            CortexM::<OPS>::product(&params.0, false, operands, &tile);
        } else {
            product::run(DenseI8::<OPS>::default(), Elements::<OPS>, &params.0, false, operands, &tile);
        }
    }

    fn depthwise_i8(&self, params: &DepthwiseI8, operands: &Operands<'_>, tile: Tile) {
        if CortexM::<OPS>::BOTH {
            CortexM::<OPS>::product(&params.0, true, operands, &tile);
        } else {
            product::run(DepthwiseKernel::<OPS>::default(), Elements::<OPS>, &params.0, true, operands, &tile);
        }
    }

    #[cfg(target_abi = "eabihf")]
    fn conv_f32(&self, params: &ConvF32, operands: &Operands<'_>, tile: Tile) {
        product::run(DenseF32::default(), Elements::<OPS>, &params.0, false, operands, &tile);
    }

    #[cfg(target_abi = "eabihf")]
    fn depthwise_f32(&self, params: &DepthwiseF32, operands: &Operands<'_>, tile: Tile) {
        product::run(DepthwiseFloats::default(), Elements::<OPS>, &params.0, true, operands, &tile);
    }
}

/// The kinds of products that there are kernels for.
const PRODUCTS: &[StepKind] = if cfg!(target_abi = "eabihf") {
    &[StepKind::ConvI8, StepKind::DepthwiseI8, StepKind::ConvF32, StepKind::DepthwiseF32]
} else {
    &[StepKind::ConvI8, StepKind::DepthwiseI8]
};

impl<const OPS: u128> Own for CortexM<OPS> {
    const OWN: OpSet = OpSet::of(PRODUCTS);
    type Elements<const OF: u128> = Elements<OF>;
}

impl<const OPS: u128> CortexM<OPS> {
    const BOTH: bool = OpSet::from_bits(OPS).has(StepKind::ConvI8) && OpSet::from_bits(OPS).has(StepKind::DepthwiseI8);

    /// Either kind: where a program has both there is one driver of them, which is more code than its kernels.
    #[inline(never)]
    fn product(p: &Conv, depthwise: bool, operands: &Operands<'_>, tile: &Tile) {
        product::run(Both::<OPS>::default(), Elements::<OPS>, p, depthwise, operands, tile);
    }
}
