//! Boots a board, runs a model on vectors, compares every byte of its outputs, and says how many instructions, how much stack and how much
//! RAM that took. The exit status is the verdict.
#![no_std]
#![no_main]

mod case;
#[cfg(not(feature = "bare"))]
mod checks;

use core::ptr::addr_of_mut;

include!(concat!(env!("OUT_DIR"), "/board.rs"));

/// Bytes of arena that there are.
const ROOM: usize = 1 << 20;

#[repr(C, align(64))]
struct Arena([u8; ROOM]);

static mut ARENA: Arena = Arena([0; ROOM]);

/// The arena, which is taken once.
fn arena() -> &'static mut [u8] {
    // SAFETY: `main` runs once, on one core, without interrupts, and calls this once.
    unsafe { &mut (*addr_of_mut!(ARENA)).0 }
}

/// The case that the emulator has loaded.
fn case() -> Option<case::Case> {
    // SAFETY: `build.rs` keeps code out of that half of the memory.
    unsafe { case::Case::at(CASE) }
}

/// The least that runs a model whose steps are of the kinds `OPS`: nothing is compared, counted or printed. What it weighs is what a model
/// costs a program.
#[cfg(feature = "bare")]
#[cortex_m_rt::entry]
fn main() -> ! {
    if let Some(case) = case()
        // SAFETY: the host that wrote the case has loaded the model.
        && let Ok(model) = unsafe { kinglet::Model::trusted(case.model) }
        && let Ok(mut session) =
            kinglet::Session::resume(model, arena(), &kinglet_cortex_m::BestOf::<OPS>::default())
    {
        session.reset();
        loop {
            let _ = session.run();
        }
    }
    loop {
        cortex_m::asm::wfi();
    }
}

#[cfg(feature = "bare")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        cortex_m::asm::wfi();
    }
}
