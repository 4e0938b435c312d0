//! Which kernel runs what.

use kinglet::elementwise::Chosen;
use kinglet::kernels::{
    ArgMax, Binary, ConvF16, ConvF32, ConvI8, ConvW8, Convert, Copy, CumSum, DepthwiseF16, DepthwiseF32, DepthwiseI8,
    DepthwiseW8, Fold, Gru, LegendreMemory, Lstm, Lut, MatMulF32, MatMulI8, Norm, Pad, Params, Pool, Reduce, Rnn,
    SelectiveScan, Softmax, Ternary, Unary,
};
use kinglet::kernels::{OpSet, Own, Unit};
use kinglet::product::{self, Packing};
use kinglet::rows::{Operands, Tile};
use kinglet::{Kernels, StepKind, Target};

use crate::{Avx2, Avx512, avx2, avx512, by_channels, by_fours};

macro_rules! kernels {
    ($set:ident, $portable:literal, $features:literal, $module:ident,
        products { $($product:ident($p_params:ident) $kernel:ident, $depthwise:literal, $own:expr;)* }
        matrices { $($matrix:ident($m_params:ident) $m_kernel:ident, $m_own:expr;)* }
        portable { $($method:ident($params:ident) $kind:ident;)* }) => {
        impl Own for $set {
            const OWN: OpSet = OpSet::ALL;
            // No kind is another's.
            type Elements<const OPS: u128> = Chosen<OPS>;
        }

        // SAFETY: the methods run the runtime's own kernels, or its driver over microkernels that write only what they are given,
        // on the tiles they are given.
        unsafe impl Kernels for $set {
            fn kernel_name(&self, kind: StepKind) -> &'static str {
                match kind {
                    $(StepKind::$p_params => self.name(),)*
                    $(StepKind::$m_params => self.name(),)*
                    $(StepKind::$kind => $portable,)*
                    _ => "reference",
                }
            }

            fn target(&self) -> Target {
                Target::X86_64
            }

            fn probe(&self, unit: Unit, rounds: u32) -> u64 {
                self.probed(unit, rounds)
            }

            fn takes(&self, _: StepKind, packing: &Packing) -> bool {
                crate::takes(packing)
            }

            $(fn $product(&self, params: &$p_params, operands: &Operands<'_>, tile: Tile) {
                let own: fn(&Packing) -> bool = $own;
                if own(&params.0.packing) {
                    product::run($module::$kernel(*self), *self, &params.0, $depthwise, operands, &tile);
                    return;
                }
                #[target_feature(enable = $features)]
                fn portable(set: $set, params: &$p_params, operands: &Operands<'_>, tile: Tile) {
                    Params::run(params, set, operands, tile)
                }
                // SAFETY: `self` exists only where the CPU has the features.
                unsafe { portable(*self, params, operands, tile) }
            })*

            $(fn $matrix(&self, params: &$m_params, operands: &Operands<'_>, tile: Tile) {
                let own: fn(&Packing) -> bool = $m_own;
                if params.0.tile > 0 && own(&params.0.packing) {
                    product::run_matrices($module::$m_kernel(*self), *self, &params.0, operands, &tile);
                    return;
                }
                #[target_feature(enable = $features)]
                fn portable(set: $set, params: &$m_params, operands: &Operands<'_>, tile: Tile) {
                    Params::run(params, set, operands, tile)
                }
                // SAFETY: as above.
                unsafe { portable(*self, params, operands, tile) }
            })*

            $(fn $method(&self, params: &$params, operands: &Operands<'_>, tile: Tile) {
                #[target_feature(enable = $features)]
                fn portable(set: $set, params: &$params, operands: &Operands<'_>, tile: Tile) {
                    Params::run(params, set, operands, tile)
                }
                // SAFETY: as above.
                unsafe { portable(*self, params, operands, tile) }
            })*
        }
    };
}

macro_rules! sets {
    ($($set:ident, $portable:literal, $features:literal, $module:ident;)*) => {$(
        kernels! { $set, $portable, $features, $module,
            products {
                conv_f32(ConvF32) DenseF32, false, |p| by_channels(p, 16);
                conv_f16(ConvF16) DenseF16, false, |p| by_channels(p, 16);
                conv_w8(ConvW8) DenseW8, false, |p| by_channels(p, 16);
                conv_i8(ConvI8) DenseI8, false, |p| by_fours(p, 16);
                depthwise_f32(DepthwiseF32) DepthwiseF32, true, |p| by_channels(p, 0);
                depthwise_f16(DepthwiseF16) DepthwiseF16, true, |p| by_channels(p, 0);
                depthwise_w8(DepthwiseW8) DepthwiseW8, true, |p| by_channels(p, 0);
                depthwise_i8(DepthwiseI8) DepthwiseI8, true, |p| by_fours(p, 64);
            }
            matrices {
                matmul_f32(MatMulF32) DenseF32, |p| by_channels(p, 16);
                matmul_i8(MatMulI8) DenseI8, |p| by_fours(p, 16);
            }
            portable {
                unary(Unary) Unary;
                lut(Lut) Lut;
                binary(Binary) Binary;
                ternary(Ternary) Ternary;
                pool(Pool) Pool;
                reduce(Reduce) Reduce;
                softmax(Softmax) Softmax;
                norm(Norm) Norm;
                fold(Fold) Fold;
                copy(Copy) Copy;
                pad(Pad) Pad;
                argmax(ArgMax) ArgMax;
                cumsum(CumSum) CumSum;
                convert(Convert) Convert;
                selective_scan(SelectiveScan) SelectiveScan;
                legendre_memory(LegendreMemory) LegendreMemory;
                lstm(Lstm) Lstm;
                gru(Gru) Gru;
                rnn(Rnn) Rnn;
            }
        }
    )*};
}

sets! {
    Avx2, "portable-avx2", "avx2", avx2;
    Avx512, "portable-avx512", "avx512f,avx512bw,avx512dq,avx512vl", avx512;
}
