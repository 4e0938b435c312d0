//! The serial protocol of MLPerf Tiny, as the device under test speaks it: what the official runner sends, and the answers that it waits for.
//!
//! A [`Monitor`] takes the bytes that come, one by one, and writes the answers. It knows no board: a port is anything that implements
//! [`embedded_io::Write`], the time comes from a [`Clock`], and what is measured is a [`Benchmark`]. [`Quantized`] is one, of any network
//! of bytes ([`Network`]): it turns what the runner sends for a [`Task`] into what the network takes, and what the network gives into the
//! results that the runner reads.
//!
//! # The protocol
//!
//! A command is words and ends with `%`. The answer is lines, of which the last is `m-ready`. A line `e-[…]` says what was wrong with the
//! command ([`Error`]), which then has changed nothing.
//!
//! | command | answer |
//! | --- | --- |
//! | `name` | `m-name-dut-[kinglet]` |
//! | `timestamp` | `m-lap-us-T`: microseconds since the start |
//! | `profile` | `m-profile-[…]`, the version of the protocol, and `m-model-[…]`, which says what data to send |
//! | `help` | the commands |
//! | `db load N` | `m-[Expecting N bytes]`: the input is N bytes, which follow |
//! | `db HEX` | the next bytes, two digits each; `m-load-done` after the last |
//! | `db print [N] [AT]` | `m-buffer-…`: the bytes that have come, eight a line, all or N of them from AT on |
//! | `infer [N] [W]` | W runs (10) that do not count, then N (1) between two timestamps, then the results: `m-warmup-start-W`, `m-warmup-done`, `m-infer-start-N`, `m-lap-us-T`, `m-lap-us-T`, `m-infer-done`, `m-results-[…]` |
//! | `results` | `m-results-[…]`: reals with three decimals |
//!
//! At the start the device says `m-timestamp-mode-performance`, a timestamp, `m-init-done` and `m-ready`. In energy mode, which is not
//! here, timestamps are edges of a pin.
#![no_std]

#[cfg(test)]
extern crate std;

mod benchmark;
mod command;
mod data;
mod error;
mod line;
mod monitor;
mod task;
mod text;

pub use benchmark::{Benchmark, Network, Quantization, Quantized};
pub use error::{Error, Failure};
pub use line::MOST as LONGEST_LINE;
pub use monitor::{Clock, Monitor};
pub use task::Task;
