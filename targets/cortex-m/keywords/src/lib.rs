//! A keyword spotter as a firmware developer would write it: samples come by interrupts, go through a queue, become log-mel frames, and a model says which
//! word they are.
//!
//! ```text
//! interrupt ── Capture ══ queue ══ Samples ──► LogMel ──► frames of a second ──► model ──► Decision ──► App: LED, log
//!  (ADC, DMA)   [`capture`]                     └──────────── Spotter ─────────────────────────┘
//! ```
//!
//! Nothing here knows a board: what it needs of one are the traits of `embedded-hal` (a pin, a delay, an SPI device) and [`kinglet::Clock`]. `src/main.rs` is the
//! program for an emulated board, `tests/` runs the same on a host with mocked drivers.
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

mod app;
pub mod capture;
mod decision;
mod microphone;
pub mod model;
mod spotter;

pub use app::{App, Error, Event, Times};
pub use decision::{Decision, MOST, Settings};
pub use microphone::SpiMicrophone;
pub use spotter::{Buffers, Detection, Spotter};
