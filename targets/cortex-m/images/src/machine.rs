//! What the program needs of a Cortex-M: its start, its timer, its console.

use core::fmt;

use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hprint};

use crate::{MOST, NANOSECONDS, RELOAD, START, TICKS_PER_SECOND, TIMER, VALUE, checks};

#[entry]
fn main() -> ! {
    exit(checks::all_well())
}

/// Prints on the emulator's console.
pub fn say(what: fmt::Arguments<'_>) {
    hprint!("{}", what);
}

/// Ends the emulator.
pub fn exit(well: bool) -> ! {
    debug::exit(if well { debug::EXIT_SUCCESS } else { debug::EXIT_FAILURE });
    loop {
        cortex_m::asm::wfi();
    }
}

/// A register of the timer, of which the first one controls it.
fn register(i: usize) -> *mut u32 {
    (TIMER + 4 * i) as *mut u32
}

/// Lets the timer count down from its largest value.
pub fn start_timer() {
    // SAFETY: the board has a timer there (`build.rs`).
    unsafe {
        register(0).write_volatile(0);
        register(RELOAD).write_volatile(MOST);
        register(VALUE).write_volatile(MOST);
        register(0).write_volatile(START);
    }
}

/// Ticks since the start, as far as the timer counts.
pub fn ticks() -> u32 {
    // SAFETY: as above.
    MOST - unsafe { register(VALUE).read_volatile() }
}

/// Ticks since `before`.
pub fn since(before: u32) -> u32 {
    ticks().wrapping_sub(before) & MOST
}

/// Instructions in so many ticks.
pub fn instructions(ticks: u32) -> u64 {
    u64::from(ticks) * 1_000_000_000 / (NANOSECONDS * TICKS_PER_SECOND)
}

pub fn stack_pointer() -> usize {
    let at: usize;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, sp", out(reg) at, options(nomem, nostack, preserves_flags)) };
    at
}
