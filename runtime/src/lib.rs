//! Kinglet's runtime: it executes a compiled plan (`model.kgl`) in memory that the caller owns.
//!
//! ```text
//! &[u8] ── Model::load ──► Model ── Session::new(model, arena, kernels) ──► Session ── run ──► outputs
//!          (checked once)            (the caller's RAM, this CPU's kernels)        (no allocation)
//! ```
//!
//! * [`Model`] is a checked, zero-copy view of the file: everything a plan says is verified once, in
//!   [`Model::load`], in time linear in the number of steps. After that no accessor fails and kernels trust it.
//! * [`Session`] walks the plan's steps over one *arena*. Inputs and outputs live in the arena too, so that
//!   nobody is forced to copy: write into [`Session::input_mut`], call [`Session::run`], read [`Session::output`]. A run
//!   fails only where the data has no answer (an index out of range, an integer divided by 0, a loop that goes on beyond its bound) or an observer stops it.
//! * [`Kernels`] is the table of step kinds. [`Reference`] is the portable scalar implementation, the definition
//!   that every other kernel set must equal bit for bit in integers.
//! * [`Workers`] cuts a step into ranges of rows; [`Observer`] watches steps go by (profiling, tests).
//!
//! The way of a tensor from file to multiply: `Session::run` → a kernel of [`kernels`] → its driver → its
//! microkernel. There is no other path.
//!
//! The crate needs neither `std` nor an allocator.
#![no_std]
#![deny(unsafe_code)]

#[cfg(target_endian = "big")]
compile_error!("plans are little-endian and read in place");

#[cfg(test)]
extern crate std;

pub mod bands;
pub mod dtype;
pub mod elementwise;
pub mod error;
pub mod faults;
mod feed;
pub mod format;
pub mod kernels;
pub mod log;
pub mod math;
pub mod observe;
pub mod port;
pub mod product;
pub mod quant;
pub mod rows;
pub mod session;
pub mod target;
mod tile;
pub mod workers;

pub use dtype::{DType, Element};
pub use error::{Error, Fault};
pub use faults::DataFault;
pub use feed::Feed;
pub use format::{Model, Region, Step, Tensor};
pub use half::f16;
pub use kernels::{Kernels, Reference, StepKind};
pub use observe::{Clock, Observer, Profile, Quiet};
pub use port::{Input, Output};
pub use session::{Arena, Ram, Session, runs_on};
pub use target::Target;
pub use workers::{Inline, Workers};
