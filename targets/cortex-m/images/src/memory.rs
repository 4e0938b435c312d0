//! The memory of the program: its arena and slow memory, and the case.

use core::ptr::addr_of_mut;

use kinglet::{Arena, Ram};

use crate::CASE;
use crate::case::Case;

static mut ARENA: Arena<{ 1 << 20 }> = Arena::new();
/// The second memory, on boards that have one; nobody clears that.
#[cfg_attr(target_arch = "arm", unsafe(link_section = ".psram"))]
static mut SLOW: Arena<{ 1 << 16 }> = Arena::new();
/// Room for weights that are read often.
static mut HOT: Arena<{ 1 << 16 }> = Arena::new();

/// The memory for a session, which is taken once.
pub fn ram() -> Ram<'static> {
    // SAFETY: `main` runs once, on one core, without interrupts, and calls this once.
    unsafe { Ram { arena: &mut (*addr_of_mut!(ARENA)).0, slow: &mut (*addr_of_mut!(SLOW)).0 } }
}

/// The memory for weights, which is taken once.
pub fn hot() -> &'static mut [u8] {
    // SAFETY: as above.
    unsafe { &mut (*addr_of_mut!(HOT)).0 }
}

/// The case that the emulator has loaded.
pub fn case() -> Option<Case> {
    // SAFETY: the linker keeps code out of that half of the memory.
    unsafe { Case::at(CASE) }
}
