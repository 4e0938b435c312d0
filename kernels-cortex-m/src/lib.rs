//! Kernels for Cortex-M with the DSP extension (M4, M7, M33): products of bytes two at a time. Results are the reference's bits.
#![no_std]

#[cfg(dsp)]
mod dense;
#[cfg(dsp)]
mod depthwise;
#[cfg(dsp)]
mod dsp;
#[cfg(dsp)]
mod lanes;

#[cfg(dsp)]
pub use dsp::Dsp;

/// The best kernels of the core that this is compiled for.
#[cfg(dsp)]
pub type Best = Dsp;
/// The best kernels of the core that this is compiled for: those of the runtime.
#[cfg(not(dsp))]
pub type Best = kinglet::Reference;
