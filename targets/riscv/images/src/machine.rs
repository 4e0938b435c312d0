//! What the program needs of a RISC-V core of 32 bits: its start, its counter, its console.

use core::arch::{asm, global_asm};
use core::fmt::{self, Write};

use crate::checks;

// Zeros the data that is not in the file. Where something traps, that is said; without a handler the core would spin.
global_asm!(
    ".section .start, \"ax\"",
    ".globl _start",
    "_start:",
    "la sp, _stack",
    "la t0, {trap}",
    "csrw mtvec, t0",
    "la t0, _bss",
    "la t1, _bss_end",
    "1: bgeu t0, t1, 2f",
    "sw zero, 0(t0)",
    "addi t0, t0, 4",
    "j 1b",
    "2: j {main}",
    ".text",
    trap = sym trap,
    main = sym main,
);

extern "C" fn main() -> ! {
    exit(checks::all_well())
}

/// Where an exception leads. Its address is a multiple of 4, as `mtvec` wants it: a compressed instruction could begin between.
#[unsafe(naked)]
extern "C" fn trap() -> ! {
    core::arch::naked_asm!(".balign 4", "j {trapped}", trapped = sym trapped)
}

extern "C" fn trapped() -> ! {
    let (cause, at): (usize, usize);
    // SAFETY: reads registers.
    unsafe { asm!("csrr {}, mcause", "csrr {}, mepc", out(reg) cause, out(reg) at, options(nomem, nostack)) };
    say(format_args!("FAILED: exception {cause} at {at:#x}\n"));
    exit(false)
}

/// An operation of the emulator: 4 prints a string that ends with a zero, 24 ends it.
fn semihosting(operation: usize, argument: usize) {
    // SAFETY: the three instructions, none of them compressed, are such a call; what it reads the callers have.
    unsafe {
        asm!(
            ".balign 16", ".option push", ".option norvc", "slli zero, zero, 0x1f", "ebreak", "srai zero, zero, 7", ".option pop",
            inout("a0") operation => _, in("a1") argument, options(nostack)
        );
    }
}

struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.as_bytes().chunks(63) {
            let mut line = [0; 64];
            line[..part.len()].copy_from_slice(part);
            semihosting(4, line.as_ptr() as usize);
        }
        Ok(())
    }
}

/// Prints on the emulator's console.
pub fn say(what: fmt::Arguments<'_>) {
    // The console never fails.
    let _ = Console.write_fmt(what);
}

/// Ends the emulator.
pub fn exit(well: bool) -> ! {
    // An application's own end, or an error of its run.
    semihosting(24, if well { 0x20026 } else { 0x20023 });
    loop {
        core::hint::spin_loop();
    }
}

/// The counter always runs.
pub fn start_timer() {}

/// The lower half of the counter of instructions.
pub fn ticks() -> u32 {
    let n: u32;
    // SAFETY: reads a register.
    unsafe { asm!("csrr {}, minstret", out(reg) n, options(nomem, nostack)) };
    n
}

/// Ticks since `before`.
pub fn since(before: u32) -> u32 {
    ticks().wrapping_sub(before)
}

/// Instructions in so many ticks: with `-icount shift=0` the emulator's counter is one of them.
pub fn instructions(ticks: u32) -> u64 {
    ticks.into()
}

pub fn stack_pointer() -> usize {
    let at: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mv {}, sp", out(reg) at, options(nomem, nostack, preserves_flags)) };
    at
}
