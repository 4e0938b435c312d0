//! What firmware needs of Arm's MPS2 board with a Cortex-M4F (the image AN386), as QEMU has it: `qemu-system-arm -machine mps2-an386`.
//!
//! [`uart`] is its first serial port, [`timer`] a clock and a delay, [`led`] a pin, [`recording`] what stands for a microphone, [`console`] the emulator's own console and the way
//! out of it. A binary puts `memory.x` on its link path, which lies beside this crate's manifest.
//!
//! It compiles on every machine, so that lints cover it. What reads or writes a register may be called on the board alone.
#![no_std]

pub mod console;
pub mod led;
pub mod recording;
mod register;
pub mod timer;
pub mod uart;

/// Ticks a second of the clock of processor and peripherals.
pub const CLOCK_HZ: u32 = 25_000_000;
