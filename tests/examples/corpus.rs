//! Writes the seeds of `tests/corpus` anew, after a change of the format or of the small models:
//! `cargo run -p kinglet-tests --example corpus`. With a folder as its argument it writes the plans of the golden graphs there
//! instead, from which `fuzz/run kgl` starts, too.

use std::path::Path;

use kinglet::Target;
use kinglet::format::HEADER_BYTES;
use kinglet_compiler::{Options, compile, import};
use kinglet_onnx::{DataType, ModelProto};
use kinglet_tests::files_of;
use kinglet_tests::hostile::plan::{planned, planned_fed, planned_in_bands, planned_in_halves};
use kinglet_tests::small_onnx::{self, Builder, Value, floats, ints};

/// A loop of as many trips as a band may have slices, a day's work in a file of a kilobyte.
fn many_slices() -> ModelProto {
    let mut b = Builder::default();
    b.input("h", DataType::Float, &[64]).constant(ints("trips", DataType::Int64, &[], &[1 << 20]));
    let mut body = Builder::default();
    body.formals("i c v").constant(floats("k", &[64])).node("Mul", "v k", "w", &[]).node("Identity", "c", "go", &[]);
    body.outputs("go w");
    b.node("Loop", "trips _ h", "y", &[("body", body.body())]).outputs("y").build()
}

/// A loop that ends when data say so. (The plan of `ends`, which has more of them, is larger.)
fn ended() -> ModelProto {
    let mut b = Builder::default();
    b.input("h", DataType::Float, &[3]).input("n", DataType::Int64, &[]);
    b.constant(ints("trips", DataType::Int64, &[], &[4]));
    let mut body = Builder::default();
    body.formals("i c v").node("Neg", "v", "w", &[]).node("Less", "i n", "go", &[]).outputs("go w");
    b.node("Loop", "trips _ h", "y", &[("body", body.body())]).outputs("y").build()
}

/// Inputs that need not be given: they have defaults.
fn defaults() -> ModelProto {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[2, 3]).input("h", DataType::Float, &[2, 3]).constant(floats("h", &[2, 3]));
    b.input("k", DataType::Int64, &[2]).constant(ints("k", DataType::Int64, &[2], &[1, -1]));
    b.node("Add", "x h", "s", &[]).node("Gather", "s k", "y", &[("axis", Value::I(1))]).outputs("s y").build()
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// The seeds: each small model, and its plan.
fn seeds(corpus: &Path) {
    let own = [("many_slices", many_slices()), ("ended", ended()), ("defaults", defaults())];
    for (name, model) in small_onnx::all().into_iter().chain(own) {
        write(&corpus.join(format!("onnx/seed_{name}.onnx")), &model.to_bytes());
        // Their steps are those of other models, but for one without a kernel of its own.
        if matches!(name, "resizes" | "selections" | "contrib" | "spectra" | "ends" | "deformed")
            || small_onnx::broad::NAMES.contains(&name)
        {
            continue;
        }
        let generic = planned(name, &model, Target::Generic);
        write(&corpus.join(format!("kgl/seed_{name}.kgl")), &generic);
        for target in Target::ALL {
            let plan = planned(name, &model, target);
            // Their products lie as those of `products`.
            if matches!(name, "layers" | "sampling") {
                continue;
            }
            // Its floats lie as those of `generic`: one model shows what is new.
            if target == Target::CortexM && name != "quantized" {
                continue;
            }
            // Its products lie as those of `products`, of which there is a plan for each target.
            if name == "loops" && target != Target::X86_64 {
                continue;
            }
            // Without products it is the same, but for the header.
            if plan[HEADER_BYTES..] != generic[HEADER_BYTES..] {
                write(&corpus.join(format!("kgl/seed_{name}_{}.kgl", target.name())), &plan);
            }
        }
    }
    // Products with halves, of windows and of each channel by itself.
    for (name, model) in small_onnx::all().into_iter().filter(|(name, _)| *name == "windows") {
        let plan = planned_in_halves(name, &model, Target::Armv8);
        write(&corpus.join(format!("kgl/seed_{name}_halves.kgl")), &plan);
    }
    let picture = small_onnx::picture();
    write(&corpus.join("onnx/seed_picture.onnx"), &picture.to_bytes());
    write(&corpus.join("kgl/seed_picture.kgl"), &planned_in_bands("picture", &picture, Target::Generic));
    write(&corpus.join("kgl/seed_fed.kgl"), &planned_fed("picture", &picture, Target::Generic));
}

/// The plans of the golden graphs that compile as they are.
fn golden(cases: &Path, folder: &Path) {
    for path in files_of(cases, "onnx") {
        let bytes = std::fs::read(&path).expect("readable");
        let options = Options { draws_as_inputs: true, pad_selections: true, ..Options::default() };
        if let Ok(compiled) = import(&bytes, None, &options).and_then(|graph| compile(graph, &options)) {
            let name = path.file_stem().expect("a file").to_string_lossy().into_owned();
            write(&folder.join(format!("{name}.kgl")), &compiled.kgl);
        }
    }
}

fn main() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    match std::env::args_os().nth(1) {
        Some(folder) => golden(&tests.join("golden/cases"), Path::new(&folder)),
        None => seeds(&tests.join("corpus")),
    }
}
