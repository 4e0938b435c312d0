//! Which kernel runs what.

use kinglet::elementwise::Chosen;
use kinglet::kernels::{
    Binary, ConvF16, ConvF32, ConvI8, ConvW8, Convert, DepthwiseF16, DepthwiseF32, DepthwiseI8, DepthwiseW8, Fold, Gru,
    LegendreMemory, Lstm, Lut, MatMulF32, MatMulI8, Norm, Params, Pool, Reduce, Rnn, SelectiveScan, Softmax, Ternary,
    Unary, Unit,
};
use kinglet::kernels::{OpSet, Own};
use kinglet::product::{self, Packing};
use kinglet::rows::{Operands, Tile};
use kinglet::{DType, Kernels, Reference, StepKind, Target};

use crate::{Level, Neon, by_channels, by_runs, bytes, floats};

macro_rules! kernels {
    (halves { $($halved:ident($h_params:ident) $h_kernel:ty, $h_base:ty, $h_depthwise:literal, $h_own:expr;)* }
     products { $($product:ident($p_params:ident) $kernel:ty, $depthwise:literal, $own:expr;)* }
     matrices { $($matrix:ident($m_params:ident) $m_kernel:ty, $m_own:expr;)* }
     portable { $($method:ident($params:ident);)* }) => {
        impl Own for Neon {
            const OWN: OpSet = OpSet::ALL;
            // No kind is another's.
            type Elements<const OPS: u128> = Chosen<OPS>;
        }

        // SAFETY: the methods run the runtime's own kernels, or its driver over microkernels that write only what they are given,
        // on the tiles they are given.
        unsafe impl Kernels for Neon {
            fn kernel_name(&self, kind: StepKind) -> &'static str {
                match kind {
                    $(StepKind::$h_params => self.name(),)*
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

            fn takes(&self, _: StepKind, packing: &Packing) -> bool {
                Target::ALL.iter().any(|t| t.info().has(packing))
            }

            // Other packings than the set's own are read by the reference, and what moves elements as they are is its business: one copy
            // of it serves all sets.
            // By the arithmetic of halves where the CPU has it and the inputs are halves, else as floats.
            $(fn $halved(&self, params: &$h_params, operands: &Operands<'_>, tile: Tile) {
                let own: fn(&Packing) -> bool = $h_own;
                if !own(&params.0.packing) {
                    Reference.$halved(params, operands, tile);
                } else if let Some(half) = self.half.filter(|_| operands.input(0).dtype == DType::F16) {
                    product::run(<$h_kernel>::from(half), *self, &params.0, $h_depthwise, operands, &tile);
                } else {
                    product::run(<$h_base>::from(*self), *self, &params.0, $h_depthwise, operands, &tile);
                }
            })*

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
    halves {
        conv_f16(ConvF16) floats::DenseHalves, floats::DenseF16, false, |p| by_channels(p, 16);
        depthwise_f16(DepthwiseF16) floats::DepthwiseHalves, floats::DepthwiseF16, true, |p| by_channels(p, 0);
    }
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
        lstm(Lstm);
        gru(Gru);
        rnn(Rnn);
    }
}
