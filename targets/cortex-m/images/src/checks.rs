//! The program that checks a model, on whatever machine it runs.

use kinglet::{Model, Session};
use kinglet_cortex_m::BestOf;

use crate::OPS;
use crate::machine::{exit, instructions, say, since, stack_pointer, start_timer, ticks};
use crate::memory::{case, hot, ram};

/// Bytes below the stack of `main` that are painted before a run.
const PAINTED: usize = 64 * 1024;
const PAINT: u32 = 0xa5c3_96d1;

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

/// Runs the case of the board and says what that took, or what is wrong; whether all is well.
pub fn all_well() -> bool {
    let result = run();
    if let Err(what) = result {
        say(format_args!("FAILED: {what}\n"));
    }
    result.is_ok()
}

fn run() -> Result<(), &'static str> {
    start_timer();
    let case = case().ok_or("no case is loaded")?;
    let before = ticks();
    let mut model = Model::load_only::<OPS>(case.model).map_err(|_| "the model does not load")?;
    if let Some(weights) = model.weights().get(..case.hot).filter(|_| case.hot > 0) {
        let ram = hot().get_mut(..case.hot).ok_or("there is no room for the weights")?;
        ram.copy_from_slice(weights);
        model = model.with_hot_weights(ram).map_err(|_| "the weights are not where they may be")?;
    }
    let load = since(before);
    let kernels = BestOf::<OPS>::default();
    let mut session = Session::new(model, ram(), &kernels).map_err(|_| "there is no session")?;
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
    say(format_args!(
        "vectors {} instructions {} to {} load {} stack {} arena {} weights {}\n",
        case.vectors,
        instructions(least),
        instructions(most),
        instructions(load),
        stack,
        model.arena_bytes(),
        model.weights().len()
    ));
    Ok(())
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    say(format_args!("FAILED: {info}\n"));
    exit(false)
}
