//! Boots a board, runs a model on vectors, compares every byte of its outputs, and says how many instructions, how much stack and how much
//! RAM that took. The exit status is the verdict.
#![no_std]
#![no_main]

#[cfg_attr(feature = "bare", allow(dead_code))]
mod case;
#[cfg(not(feature = "bare"))]
mod checks;
#[cfg(not(feature = "bare"))]
mod machine;
#[cfg_attr(feature = "bare", allow(dead_code))]
mod memory;

include!(concat!(env!("OUT_DIR"), "/board.rs"));

/// The least that runs a model whose steps are of the kinds `OPS`: nothing is compared, counted or printed. What it weighs is what a model
/// costs a program.
#[cfg(feature = "bare")]
#[cortex_m_rt::entry]
fn main() -> ! {
    if let Some(case) = memory::case()
        // SAFETY: the host that wrote the case has loaded the model.
        && let Ok(model) = unsafe { kinglet::Model::trusted(case.model) }
        && let Ok(mut session) =
            kinglet::Session::resume(model, memory::ram(), &kinglet_cortex_m::BestOf::<OPS>::default())
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
