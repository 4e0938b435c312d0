//! Kernels for AArch64: microkernels for the product room of the runtime, and its other kernels with NEON.
//!
//! A value of `Neon` is the proof that the CPU has the instructions of its level: those of higher levels can only be made by asking
//! the CPU.
//!
//! Integer results are the reference's bits. Products of floats are sums of the same terms by fused additions, which round once
//! where the reference rounds twice; every other float result is the reference's bits.
#![cfg(target_arch = "aarch64")]

mod bytes;
mod elementwise;
mod floats;
mod kernels;
mod lanes;
mod probe;
mod reals;

use kinglet::product::{Packing, Sign, WordOrder};

/// What multiplies bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// `smull`, `smlal`, `sadalp`: every AArch64 CPU.
    Base,
    /// `sdot` (FEAT_DotProd).
    Dot,
    /// `smmla` (FEAT_I8MM), with `sdot` beside it.
    I8mm,
}

/// The arithmetic of halves (FEAT_FP16).
#[derive(Clone, Copy, Debug)]
struct Half(());

impl Half {
    /// If this CPU has it.
    fn detected() -> Option<Half> {
        std::arch::is_aarch64_feature_detected!("fp16").then_some(Half(()))
    }
}

/// NEON, and what of its extensions the CPU has for products of bytes and of halves.
#[derive(Clone, Copy, Debug)]
pub struct Neon {
    level: Level,
    half: Option<Half>,
}

impl Neon {
    /// The kernels that every AArch64 CPU can run.
    pub fn new() -> Neon {
        Neon { level: Level::Base, half: None }
    }

    /// The kernels with the arithmetic of halves, if this CPU can run them.
    pub fn with_half() -> Option<Neon> {
        Half::detected().map(|half| Neon { level: Level::Base, half: Some(half) })
    }

    /// The kernels with the dot product, if this CPU can run them, and the arithmetic of halves if it has that.
    pub fn with_dot() -> Option<Neon> {
        let half = Half::detected();
        std::arch::is_aarch64_feature_detected!("dotprod").then_some(Neon { level: Level::Dot, half })
    }

    /// The kernels with the dot product and the matrix product of bytes, if this CPU can run them, and the arithmetic of halves if it has
    /// that.
    pub fn with_i8mm() -> Option<Neon> {
        Neon::with_dot()
            .filter(|_| std::arch::is_aarch64_feature_detected!("i8mm"))
            .map(|dot| Neon { level: Level::I8mm, ..dot })
    }

    /// The set's name: `neon`, `neon-half`, `neon-dot` or `neon-i8mm`.
    pub fn name(&self) -> &'static str {
        match self.level {
            Level::Base if self.half.is_some() => "neon-half",
            Level::Base => "neon",
            Level::Dot => "neon-dot",
            Level::I8mm => "neon-i8mm",
        }
    }
}

impl Default for Neon {
    fn default() -> Self {
        Neon::new()
    }
}

/// Whether weights lie by runs of so many inputs, in panels of so many channels, for signed inputs.
fn by_runs(p: &Packing, panel: u32, run: u32) -> bool {
    *p == Packing { panel, run, order: WordOrder::Plain, sign: Sign::Signed }
}

/// Whether weights lie input by input, in panels of so many channels.
fn by_channels(p: &Packing, panel: u32) -> bool {
    *p == Packing::by_channels(panel)
}

/// `N` elements of a slice from element `at` on; 0 for those that are not there.
#[inline(always)]
fn some<T: Copy + Default, const N: usize>(of: &[T], at: usize) -> [T; N] {
    let mut all = [T::default(); N];
    let from = of.get(at..).unwrap_or(&[]);
    if let Some(whole) = from.first_chunk() {
        return *whole;
    }
    all[..from.len()].copy_from_slice(from);
    all
}
