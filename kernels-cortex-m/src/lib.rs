//! Kernels for Cortex-M with the DSP extension (M4, M7, M33): products of bytes two at a time. Results are the reference's bits.
#![no_std]

/// What functions in assembly begin with: the core, which the target's name does not tell of ARMv8-M, and whether it has floats.
#[cfg(all(dsp, not(armv8m), target_abi = "eabihf"))]
macro_rules! core_directives {
    () => {
        ".fpu fpv4-sp-d16\n.set KINGLET_FPU, 1\n"
    };
}
#[cfg(all(dsp, armv8m, target_abi = "eabihf"))]
macro_rules! core_directives {
    () => {
        ".cpu cortex-m33\n.fpu fpv5-sp-d16\n.set KINGLET_FPU, 1\n"
    };
}
#[cfg(all(dsp, not(armv8m), not(target_abi = "eabihf")))]
macro_rules! core_directives {
    () => {
        ".set KINGLET_FPU, 0\n"
    };
}
#[cfg(all(dsp, armv8m, not(target_abi = "eabihf")))]
macro_rules! core_directives {
    () => {
        ".cpu cortex-m33\n.set KINGLET_FPU, 0\n"
    };
}

#[cfg(dsp)]
mod both;
#[cfg(dsp)]
mod dense;
#[cfg(dsp)]
mod depthwise;
#[cfg(dsp)]
mod dsp;
#[cfg(dsp)]
mod rounding;

#[cfg(dsp)]
pub use dsp::Dsp;

/// The best kernels of the core that this is compiled for.
#[cfg(dsp)]
pub type Best = Dsp;
/// The best kernels of the core that this is compiled for: those of the runtime.
#[cfg(not(dsp))]
pub type Best = kinglet::Reference;

/// Those of [`Best`] for the kinds of steps and the functions of a set alone ([`OpSet::bits`](kinglet::kernels::OpSet::bits)).
#[cfg(dsp)]
pub type BestOf<const OPS: u128> = kinglet::kernels::Only<Dsp<OPS>, OPS>;
/// Those of [`Best`] for the kinds of steps and the functions of a set alone ([`OpSet::bits`](kinglet::kernels::OpSet::bits)).
#[cfg(not(dsp))]
pub type BestOf<const OPS: u128> = kinglet::kernels::Only<kinglet::Reference, OPS>;
