//! Plans that a device receives at run time: what is verified before a plan replaces the one that runs, and two slots of flash that
//! hold both, so that a transfer that is cut, a loss of power or a bad plan leaves the old one.
//!
//! ```text
//! radio ── Transfer::write ──► spare slot ── Transfer::finish ──► record ── Slots::boot ──► Plan, on trial
//!                                            (verified where        (last)                   │
//!                                             it lies)                    Updater::confirm ──┘
//! ```
//!
//! * [`verify`] is what a plan must pass, wherever its bytes lie: all that loading verifies, the weights, and that the program has the
//!   kernels, the memory and the time for it. A plan that was received into RAM needs no more than this.
//! * [`Slots`] are two ranges of a flash device. [`Slots::boot`] gives the newest whole plan, and an [`Updater`] for the other slot:
//!   both live at once, so that a plan runs from the one slot while the other is written.
//! * A plan that was written by an update is on trial: it is not taken any more unless [`Updater::confirm`] is called within
//!   [`TRIES`] boots.
//!
//! Nothing here knows who sent a file: [`Transfer::bytes`] is where a program checks a signature.
//!
//! The crate needs neither `std` nor an allocator, and has no unsafe code. The layout of a slot and what each loss of power leaves are
//! in the README beside it.
#![no_std]
#![forbid(unsafe_code)]

mod error;
mod slot;
mod slots;
mod transfer;
mod updater;
mod verify;

pub use error::Error;
pub use slot::{RECORD_BYTES, TRIES};
pub use slots::{Map, Plan, Slots};
pub use transfer::Transfer;
pub use updater::Updater;
pub use verify::{Limits, Refused, has_input, has_output, same_ports, verify};
