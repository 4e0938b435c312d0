//! Which kernel runs what.

use kinglet::kernels::{
    Binary, ConvF32, ConvI8, ConvW8, Convert, DepthwiseF32, DepthwiseI8, DepthwiseW8, Fold, LegendreMemory, Lut,
    MatMulF32, MatMulI8, Norm, Params, Pool, Reduce, SelectiveScan, Softmax, Ternary, Unary, Unit,
};
use kinglet::product::{self, Packing};
use kinglet::rows::{Operands, Tile};
use kinglet::{Kernels, Reference, StepKind, Target};

use crate::{Level, Neon, by_channels, by_runs, bytes, floats};

macro_rules! kernels {
    (products { $($product:ident($p_params:ident) $kernel:ty, $depthwise:literal, $own:expr;)* }
     matrices { $($matrix:ident($m_params:ident) $m_kernel:ty, $m_own:expr;)* }
     portable { $($method:ident($params:ident);)* }) => {
        // SAFETY: the methods run the runtime's own kernels, or its driver over microkernels that write only what they are given,
        // on the tiles they are given.
        unsafe impl Kernels for Neon {
            fn kernel_name(&self, kind: StepKind) -> &'static str {
                match kind {
                    $(StepKind::$p_params => self.name(),)*
                    $(StepKind::$m_params => self.name(),)*
                    $(StepKind::$params => "portable-neon",)*
                    _ => "reference",
                }
            }

            fn target(&self) -> Target {
                if self.level == Level::I8mm { Target::Armv8I8mm } else { Target::Armv8 }
            }

            fn probe(&self, unit: Unit, rounds: u32) -> u64 {
                self.probed(unit, rounds)
            }

            fn takes(&self, packing: &Packing) -> bool {
                Target::ALL.iter().any(|t| t.info().has(packing))
            }

            // Other packings than the set's own are read by the reference, and what moves elements as they are is its business: one copy
            // of it serves all sets.
            $(fn $product(&self, params: &$p_params, operands: &Operands<'_>, tile: Tile) {
                let own: fn(&Neon, &Packing) -> bool = $own;
                if own(self, &params.0.packing) {
                    product::run(<$kernel>::from(*self), *self, &params.0, $depthwise, operands, &tile);
                } else {
                    Reference.$product(params, operands, tile);
                }
            })*

            $(fn $matrix(&self, params: &$m_params, operands: &Operands<'_>, tile: Tile) {
                let own: fn(&Neon, &Packing) -> bool = $m_own;
                if params.0.tile > 0 && own(self, &params.0.packing) {
                    product::run_matrices(<$m_kernel>::from(*self), *self, &params.0, operands, &tile);
                } else {
                    Reference.$matrix(params, operands, tile);
                }
            })*

            $(fn $method(&self, params: &$params, operands: &Operands<'_>, tile: Tile) {
                Params::run(params, *self, operands, tile)
            })*
        }
    };
}

kernels! {
    products {
        conv_f32(ConvF32) floats::DenseF32, false, |_, p| by_channels(p, 16);
        conv_w8(ConvW8) floats::DenseW8, false, |_, p| by_channels(p, 16);
        conv_i8(ConvI8) bytes::DenseI8, false, |set, p| bytes::takes(*set, p);
        depthwise_f32(DepthwiseF32) floats::DepthwiseF32, true, |_, p| by_channels(p, 0);
        depthwise_w8(DepthwiseW8) floats::DepthwiseW8, true, |_, p| by_channels(p, 0);
        depthwise_i8(DepthwiseI8) bytes::DepthwiseI8, true, |_, p| by_runs(p, 16, 4);
    }
    matrices {
        matmul_f32(MatMulF32) floats::DenseF32, |_, p| by_channels(p, 16);
        matmul_i8(MatMulI8) bytes::DenseI8, |set, p| bytes::takes(*set, p);
    }
    portable {
        unary(Unary);
        lut(Lut);
        binary(Binary);
        ternary(Ternary);
        pool(Pool);
        reduce(Reduce);
        softmax(Softmax);
        norm(Norm);
        fold(Fold);
        convert(Convert);
        selective_scan(SelectiveScan);
        legendre_memory(LegendreMemory);
    }
}
