//! A device that boots with one plan, receives another in pieces while it runs, and goes on with that. `cargo run -p kinglet-update --example two_slots`
//!
//! What stands for hardware is a flash in memory ([`mock`]). In firmware `Flash` is the driver of the board and `View` the address at which the flash lies:
//!
//! ```ignore
//! impl Map for Xip {
//!     fn bytes(&self, from: u32, len: u32) -> Option<&[u8]> {
//!         let in_flash = from.checked_add(len)? <= FLASH_BYTES;
//!         // SAFETY: the flash lies there and is so long; `Slots` writes nothing that it has lent out, and nobody else writes.
//!         in_flash.then(|| unsafe { core::slice::from_raw_parts((FLASH_BASE + from as usize) as *const u8, len as usize) })
//!     }
//! }
//! ```

#[path = "../tests/mock/mod.rs"]
mod mock;

use std::error::Error;
use std::path::Path;

use kinglet::kernels::{Only, OpSet};
use kinglet::{Arena, Input, Model, Output, Reference, Session, StepKind, Target};
use kinglet_compiler::{Banding, Options, compile, import_file};
use kinglet_update::{Limits, Plan, Slots, has_input, has_output};

/// The kinds of steps that this program links: those of its model (`kinglet-build` writes them down), and of models to come.
const OPS: u128 = OpSet::of(&[
    StepKind::ConvI8,
    StepKind::DepthwiseI8,
    StepKind::ConvF32,
    StepKind::DepthwiseF32,
    StepKind::Pool,
    StepKind::Unary,
    StepKind::Reduce,
    StepKind::Convert,
])
.bits();
/// The memory that it has for them.
const ARENA: usize = 96 << 10;
/// What goes in and out: also written down by `kinglet-build`.
const IMAGE: Input<f32> = Input::new(0, &[1, 1, 32, 32], 1.0, 0);
const LOGITS: Output<f32> = Output::new(0, &[1, 62], 1.0, 0);

/// Whether a plan is one for this program, beyond what is always verified.
fn accept(model: &Model<'_>) -> bool {
    has_input(model, &IMAGE) && has_output(model, &LOGITS)
}

/// What the plan reads in a picture of a bar.
fn read(plan: &Plan<'_>, arena: &mut [u8], kernels: &Only<Reference, OPS>) -> Result<usize, kinglet::Error> {
    let mut session = Session::new(plan.model, arena, kernels)?;
    for (i, pixel) in IMAGE.of(&mut session)?.iter_mut().enumerate() {
        *pixel = if (14..17).contains(&(i % 32)) && (5..24).contains(&(i / 32)) { -2.0 } else { 2.0 };
    }
    session.run()?;
    let logits = LOGITS.of(&session)?;
    Ok((0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or(0))
}

fn main() -> Result<(), Box<dyn Error>> {
    let [first, second] = [plan("glyphs_int8.onnx")?, plan("glyphs.onnx")?];
    let kernels = Only::<_, OPS>(Reference);
    let limits = Limits { kernels: &kernels, arena: ARENA, slow: 0, work: 10_000_000 };
    let mut arena = Box::new(Arena::<ARENA>::new());
    let flash = mock::Flash::<4, 4096>::new(1 << 20);
    let view = flash.view();
    let mut slots = Slots::new(flash, view, [0..512 << 10, 512 << 10..1 << 20])?;

    for (sequence, file) in [(1, &first), (2, &second)] {
        // At the start of the program: the newest plan, if there is one, and what writes the other slot.
        let (plan, mut updater) = slots.boot::<OPS>(&limits, accept);
        if let Some(plan) = &plan {
            println!(
                "plan {} in slot {} reads class {}",
                plan.sequence,
                plan.slot,
                read(plan, &mut arena.0, &kernels)?
            );
            updater.confirm()?; // It has run: it stays.
        }
        // A packet arrives: its first bytes say how long the plan is and which number it has.
        let mut transfer = updater.begin(file.len() as u32, sequence)?;
        for packet in file.chunks(1400) {
            transfer.write(packet)?;
        }
        let bytes = transfer.bytes()?;
        println!("plan {sequence} has come, {} bytes: here is where a signature is checked", bytes.len());
        transfer.finish::<OPS>(&limits, accept)?;
    }

    // It turns out bad three times: nobody confirms it.
    for boot in 1..=4 {
        let (plan, _) = slots.boot::<OPS>(&limits, accept);
        let plan = plan.ok_or("there are two plans")?;
        let class = read(&plan, &mut arena.0, &kernels)?;
        println!(
            "boot {boot}: plan {} in slot {} reads class {class}, tries: {:?}",
            plan.sequence, plan.slot, plan.tries
        );
    }
    Ok(())
}

/// What the sender sends.
fn plan(name: &str) -> Result<Vec<u8>, kinglet_compiler::Error> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../models/glyphs").join(name);
    let dims = [("batch".to_string(), 1)].into();
    let options = Options { target: Target::Mcu, bands: Banding::Memory, dims, ..Options::default() };
    Ok(compile(import_file(&file, &options)?, &options)?.kgl)
}
