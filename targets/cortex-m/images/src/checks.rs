//! The program that checks a model.

use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hprintln};
use kinglet::{Model, Session};
use kinglet_cortex_m::BestOf;

use crate::{MOST, OPS, RELOAD, START, TICKS_PER_SECOND, TIMER, VALUE, arena, case};

/// Bytes below the stack of `main` that are painted before a run.
const PAINTED: usize = 64 * 1024;
const PAINT: u32 = 0xa5c3_96d1;

/// A register of the timer, of which the first one controls it.
fn register(i: usize) -> *mut u32 {
    (TIMER + 4 * i) as *mut u32
}

/// Lets the timer count down from its largest value.
fn start_timer() {
    // SAFETY: the board has a timer there (`build.rs`).
    unsafe {
        register(0).write_volatile(0);
        register(RELOAD).write_volatile(MOST);
        register(VALUE).write_volatile(MOST);
        register(0).write_volatile(START);
    }
}

/// Ticks since the start, as far as the timer counts.
fn ticks() -> u32 {
    // SAFETY: as above.
    MOST - unsafe { register(VALUE).read_volatile() }
}

/// Ticks since `before`.
fn since(before: u32) -> u32 {
    ticks().wrapping_sub(before) & MOST
}

/// Instructions in so many ticks: with `-icount shift=6` one takes 64 nanoseconds.
fn instructions(ticks: u32) -> u64 {
    u64::from(ticks) * 1_000_000_000 / (64 * TICKS_PER_SECOND)
}

fn stack_pointer() -> usize {
    let at: usize;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, sp", out(reg) at, options(nomem, nostack, preserves_flags)) };
    at
}

/// Paints what lies below the stack; gives where that begins.
#[inline(never)]
fn paint() -> usize {
    // Below this function's own frame.
    let top = (stack_pointer() - 64) & !3;
    for at in (top - PAINTED..top).step_by(4) {
        // SAFETY: RAM between the data, which is far below, and the stack: nothing lies there.
        unsafe { (at as *mut u32).write_volatile(PAINT) };
    }
    top
}

/// Bytes of stack below `top` that were written since.
#[inline(never)]
fn used(top: usize) -> usize {
    // SAFETY: as in `paint`.
    let fresh = |at: &usize| unsafe { (*at as *const u32).read_volatile() } == PAINT;
    PAINTED - (top - PAINTED..top).step_by(4).take_while(fresh).count() * 4
}

/// A run, whose stack is none of the caller's.
#[inline(never)]
fn infer(session: &mut Session<'_, BestOf<OPS>>) -> Result<(), kinglet::Error> {
    session.run()
}

#[entry]
fn main() -> ! {
    match run() {
        Ok(()) => debug::exit(debug::EXIT_SUCCESS),
        Err(what) => {
            hprintln!("FAILED: {}", what);
            debug::exit(debug::EXIT_FAILURE);
        }
    }
    loop {
        cortex_m::asm::wfi();
    }
}

fn run() -> Result<(), &'static str> {
    start_timer();
    let case = case().ok_or("no case is loaded")?;
    let before = ticks();
    let model = Model::load_only::<OPS>(case.model).map_err(|_| "the model does not load")?;
    let load = since(before);
    let kernels = BestOf::<OPS>::default();
    let mut session = Session::new(model, arena(), &kernels).map_err(|_| "there is no session")?;
    let (mut inputs, mut outputs) = (case.inputs, case.outputs);
    let (mut least, mut most, mut stack) = (u32::MAX, 0, 0);
    for _ in 0..case.vectors {
        for i in 0..model.input_count() {
            let input = session.input_bytes_mut(i).map_err(|_| "an input is missing")?;
            let (own, rest) = inputs.split_at_checked(input.len()).ok_or("the vectors are too short")?;
            input.copy_from_slice(own);
            inputs = rest;
        }
        let top = paint();
        let before = ticks();
        let result = infer(&mut session);
        let took = since(before);
        stack = stack.max(used(top));
        result.map_err(|_| "a run failed")?;
        (least, most) = (least.min(took), most.max(took));
        for i in 0..model.output_count() {
            let output = session.output_bytes(i).map_err(|_| "an output is missing")?;
            let (want, rest) = outputs.split_at_checked(output.len()).ok_or("the vectors are too short")?;
            if output != want {
                return Err("an output has other bytes than on the host");
            }
            outputs = rest;
        }
    }
    if case.vectors == 0 || !outputs.is_empty() {
        return Err("there are vectors without a run");
    }
    hprintln!(
        "vectors {} instructions {} to {} load {} stack {} arena {} weights {}",
        case.vectors,
        instructions(least),
        instructions(most),
        instructions(load),
        stack,
        model.arena_bytes(),
        model.weights().len()
    );
    Ok(())
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    hprintln!("FAILED: {}", info);
    debug::exit(debug::EXIT_FAILURE);
    loop {
        cortex_m::asm::wfi();
    }
}
