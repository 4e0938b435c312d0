//! The firmware of `targets/cortex-m/images` for a RISC-V core: the same case, the same checks, another machine.
#![no_std]
#![no_main]

#[path = "../../../cortex-m/images/src/case.rs"]
mod case;
#[path = "../../../cortex-m/images/src/checks.rs"]
mod checks;
mod machine;
#[path = "../../../cortex-m/images/src/memory.rs"]
mod memory;

/// Where the emulator puts the case.
const CASE: usize = 0x8020_0000;
/// The kinds of steps and the functions that this program runs: all.
const OPS: u128 = u128::MAX;
