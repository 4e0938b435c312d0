//! Kernels for x86-64: microkernels for the product room of the runtime, and its other kernels compiled for these CPUs.
//!
//! A value of [`Avx2`] or [`Avx512`] is the proof that the CPU has the instructions: it can only be made by asking the CPU.
//!
//! Integer results are the reference's bits. Products of floats are sums of the same terms by fused additions, which round once
//! where the reference rounds twice; every other float result is the reference's bits.
#![cfg(target_arch = "x86_64")]

mod avx2;
mod avx512;
mod elementwise;
mod halves;
mod kernels;
mod probe;

use kinglet::product::{Packing, Sign, WordOrder};

/// AVX2, FMA and F16C: `x86-64-v3`; with AVX-VNNI or without it.
#[derive(Clone, Copy, Debug)]
pub struct Avx2 {
    vnni: bool,
}

impl Avx2 {
    /// The kernels, if this CPU can run them, without AVX-VNNI.
    pub fn new() -> Option<Avx2> {
        let has = std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("fma")
            && std::arch::is_x86_feature_detected!("f16c");
        has.then_some(Avx2 { vnni: false })
    }

    /// The kernels with AVX-VNNI, if this CPU can run them.
    pub fn with_vnni() -> Option<Avx2> {
        Avx2::new().filter(|_| std::arch::is_x86_feature_detected!("avxvnni")).map(|_| Avx2 { vnni: true })
    }
}

impl Avx2 {
    /// The set's name: `avx2` or `avx2-vnni`.
    pub fn name(&self) -> &'static str {
        if self.vnni { "avx2-vnni" } else { "avx2" }
    }
}

/// AVX-512 F, BW, DQ, VL and VNNI.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

impl Avx512 {
    /// The kernels, if this CPU can run them.
    pub fn new() -> Option<Avx512> {
        let has = std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512dq")
            && std::arch::is_x86_feature_detected!("avx512vl")
            && std::arch::is_x86_feature_detected!("avx512vnni")
            && Avx2::new().is_some();
        has.then_some(Avx512(()))
    }

    /// The set's name: `avx512-vnni`.
    pub fn name(&self) -> &'static str {
        "avx512-vnni"
    }
}

/// Whether weights lie by fours of inputs, in panels of so many channels, for unsigned inputs.
fn by_fours(p: &Packing, panel: u32) -> bool {
    *p == Packing { panel, run: 4, order: WordOrder::Plain, sign: Sign::Unsigned }
}

/// Whether weights lie input by input, in panels of so many channels.
fn by_channels(p: &Packing, panel: u32) -> bool {
    *p == Packing::by_channels(panel)
}

/// Whether the weights of any product may lie so: as the microkernels read them, or as a plan for any target has them.
fn takes(p: &Packing) -> bool {
    kinglet::Target::ALL.iter().any(|t| t.info().has(p))
}
