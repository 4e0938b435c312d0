//! Kernels for the host: the portable drivers and microkernels of the runtime, compiled for AVX2.
//!
//! The loops are those of [`kinglet::Reference`], so the results are its bits (Rust never contracts a multiplication and an
//! addition on its own); only the instructions differ. Microkernels of this crate's own will take their place step by step.
//!
//! A value of [`Avx2`] is the proof that the CPU has the instructions: it can only be made by asking the CPU.
#![cfg(target_arch = "x86_64")]

use std::ops::Range;

use kinglet::kernels::{
    Binary, Conv, Convert, DepthwiseConv, LegendreMemory, MatMul, Norm, Params, Pool, Reduce, SelectiveScan, Softmax,
    Ternary, Unary,
};
use kinglet::rows::Operands;
use kinglet::{Kernels, StepKind};

/// The runtime's kernels compiled for AVX2.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx2 {
    /// The kernels, if this CPU can run them.
    pub fn new() -> Option<Avx2> {
        std::arch::is_x86_feature_detected!("avx2").then_some(Avx2(()))
    }
}

macro_rules! recompiled {
    ($($method:ident($params:ty) $kind:ident;)*) => {
        // SAFETY: the methods run the runtime's own kernels, on the rows they are given.
        unsafe impl Kernels for Avx2 {
            fn kernel_name(&self, kind: StepKind) -> &'static str {
                match kind {
                    $(StepKind::$kind => "portable-avx2",)*
                    _ => "reference",
                }
            }

            $(fn $method(&self, params: &$params, operands: &Operands<'_>, rows: Range<usize>) {
                #[target_feature(enable = "avx2")]
                fn avx2(params: &$params, operands: &Operands<'_>, rows: Range<usize>) {
                    Params::run(params, operands, rows)
                }
                // SAFETY: `self` exists only if `Avx2::new` found the feature.
                unsafe { avx2(params, operands, rows) }
            })*
        }
    };
}

recompiled! {
    conv(Conv) Conv;
    depthwise_conv(DepthwiseConv) DepthwiseConv;
    matmul(MatMul) MatMul;
    unary(Unary) Unary;
    binary(Binary) Binary;
    ternary(Ternary) Ternary;
    pool(Pool) Pool;
    reduce(Reduce) Reduce;
    softmax(Softmax) Softmax;
    norm(Norm) Norm;
    convert(Convert) Convert;
    selective_scan(SelectiveScan) SelectiveScan;
    legendre_memory(LegendreMemory) LegendreMemory;
}
