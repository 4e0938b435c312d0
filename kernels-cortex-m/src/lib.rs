//! Kernels for Cortex-M: with the DSP extension (M4, M7, M33) products of bytes two at a time, with Helium (M55, M85) sixteen. Results are the
//! reference's bits.
#![no_std]

/// What functions in assembly begin with: the core, which the target's name does not tell of ARMv8-M, and whether it has floats.
#[cfg(all(simd, not(armv8m), target_abi = "eabihf"))]
macro_rules! core_directives {
    () => {
        ".fpu fpv4-sp-d16\n.set KINGLET_FPU, 1\n"
    };
}
#[cfg(helium)]
macro_rules! core_directives {
    () => {
        ".arch armv8.1-m.main\n.arch_extension mve.fp\n.arch_extension lob\n.set KINGLET_FPU, 1\n"
    };
}
#[cfg(all(simd, armv8m, target_abi = "eabihf", not(helium)))]
macro_rules! core_directives {
    () => {
        ".cpu cortex-m33\n.fpu fpv5-sp-d16\n.set KINGLET_FPU, 1\n"
    };
}
#[cfg(all(simd, not(armv8m), not(target_abi = "eabihf")))]
macro_rules! core_directives {
    () => {
        ".set KINGLET_FPU, 0\n"
    };
}
#[cfg(all(simd, armv8m, not(target_abi = "eabihf")))]
macro_rules! core_directives {
    () => {
        ".cpu cortex-m33\n.set KINGLET_FPU, 0\n"
    };
}

#[cfg(any(test, simd))]
mod add;
#[cfg(simd)]
mod both;
#[cfg(simd)]
mod elements;
#[cfg(all(simd, target_abi = "eabihf"))]
mod floats;
#[cfg(all(simd, not(helium)))]
#[path = "dsp/mod.rs"]
mod products;
#[cfg(helium)]
#[path = "helium/mod.rs"]
mod products;
#[cfg(simd)]
mod rounding;
#[cfg(simd)]
mod set;
#[cfg(simd)]
mod shared;
#[cfg(any(test, all(simd, not(helium))))]
mod sum;

#[cfg(simd)]
pub use set::CortexM;

/// The best kernels of the core that this is compiled for; without kernels of its own those of the runtime.
pub type Best = BestOf<{ kinglet::kernels::OpSet::ALL.bits() }>;

/// Those of [`Best`] for the kinds of steps and the functions of a set alone ([`OpSet::bits`](kinglet::kernels::OpSet::bits)).
#[cfg(simd)]
pub type BestOf<const OPS: u128> = kinglet::kernels::Only<CortexM<OPS>, OPS>;
/// Those of [`Best`] for the kinds of steps and the functions of a set alone ([`OpSet::bits`](kinglet::kernels::OpSet::bits)).
#[cfg(not(simd))]
pub type BestOf<const OPS: u128> = kinglet::kernels::Only<kinglet::Reference, OPS>;
