//! The memory of the program: its arena, and the case.

use core::ptr::addr_of_mut;

use crate::CASE;
use crate::case::Case;

/// Bytes of arena that there are.
const ROOM: usize = 1 << 20;

#[repr(C, align(64))]
struct Arena([u8; ROOM]);

static mut ARENA: Arena = Arena([0; ROOM]);

/// The arena, which is taken once.
pub fn arena() -> &'static mut [u8] {
    // SAFETY: `main` runs once, on one core, without interrupts, and calls this once.
    unsafe { &mut (*addr_of_mut!(ARENA)).0 }
}

/// The case that the emulator has loaded.
pub fn case() -> Option<Case> {
    // SAFETY: the linker keeps code out of that half of the memory.
    unsafe { Case::at(CASE) }
}
