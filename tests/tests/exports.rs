//! Exports of the model families by PyTorch's exporters and ONNX Runtime's quantiser, against ONNX Runtime's outputs.
//!
//! The files lie beside a developer's checkout, not in it; without them the tests say so and pass.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kinglet_compiler::array::Array;
use kinglet_compiler::{Compiled, Error};
use kinglet_tests::{compile_for, difference, read_npz, run, shared, sqnr};

/// Largest difference of a float model's output, relative to the output's largest magnitude.
const FLOAT_BOUND: f64 = 1e-4;
/// A quantised output this close to one of ONNX Runtime's two is close enough, however close these are to each other.
const ENOUGH_DB: f64 = 35.0;
/// The arena over the most bytes alive during one step.
const ARENA_BOUND: f64 = 1.05;

/// One export: its inputs, and everything recorded beside it by name.
struct Export {
    name: String,
    path: PathBuf,
    inputs: BTreeMap<String, Array>,
    recorded: BTreeMap<String, Array>,
}

/// Every export whose outputs were recorded; `None` without the folder.
fn exports() -> Option<Vec<Export>> {
    let Some(shared) = shared() else {
        println!("skipped: the exported models are not beside this checkout (KINGLET_SHARED names their folder)");
        return None;
    };
    let entries = std::fs::read_dir(shared.join("exports")).expect("the folder is there");
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("a readable entry").path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "onnx") && p.with_extension("npz").exists());
    paths.sort();
    Some(paths.iter().map(|p| export(p)).collect())
}

fn export(path: &Path) -> Export {
    let recorded = read_npz(&path.with_extension("npz"));
    let infos = kinglet_compiler::shape_of_inputs(&std::fs::read(path).expect("readable")).expect("a valid model");
    let inputs = infos.iter().map(|i| (i.name.clone(), recorded[&i.name].clone())).collect();
    Export {
        name: path.file_stem().expect("a file").to_string_lossy().into_owned(),
        path: path.to_path_buf(),
        inputs,
        recorded,
    }
}

impl Export {
    /// The compiled model; `None` if it has control flow or draws random numbers, which are refused with their names.
    fn compile(&self) -> Option<Compiled> {
        match compile_for(&self.path, &self.inputs) {
            Ok(c) => Some(c),
            Err(Error::Unsupported(nodes)) => {
                let refused = |op: &str| {
                    ["Loop", "Scan", "If", "SequenceEmpty", "SequenceInsert", "ConcatFromSequence"].contains(&op)
                        || op.starts_with("Random")
                };
                assert!(nodes.iter().all(|n| refused(&n.op)), "{}: {}", self.name, Error::Unsupported(nodes.clone()));
                None
            }
            Err(e) => panic!("{}: {e}", self.name),
        }
    }

    fn is_quantised(&self) -> bool {
        self.name.contains("int8")
    }
}

#[test]
fn float_exports_agree_with_onnx_runtime() {
    let Some(exports) = exports() else { return };
    let mut compared = 0;
    for e in exports.iter().filter(|e| !e.is_quantised()) {
        let Some(compiled) = e.compile() else { continue };
        for (name, got) in run(&compiled.kgl, &e.inputs) {
            let Some(want) = e.recorded.get(&name) else { continue };
            let (worst, magnitude) = difference(&got, want);
            println!("{} {name}: {:.1e} of {magnitude:.3}", e.name, worst / magnitude.max(f64::MIN_POSITIVE));
            assert!(worst <= FLOAT_BOUND * magnitude, "{} {name}: {worst} of {magnitude}", e.name);
            compared += 1;
        }
    }
    assert!(compared >= 50, "only {compared} outputs were compared");
}

#[test]
fn quantised_exports_are_as_close_as_onnx_runtime_is_to_itself() {
    let Some(exports) = exports() else { return };
    let mut compared = 0;
    for e in exports.iter().filter(|e| e.is_quantised()) {
        let Some(compiled) = e.compile() else { continue };
        for (name, got) in run(&compiled.kgl, &e.inputs) {
            let (fused, literal) = (&e.recorded[&name], &e.recorded[&format!("{name}__noopt")]);
            let (to_fused, to_literal, between) = (sqnr(&got, fused), sqnr(&got, literal), sqnr(fused, literal));
            let best = to_fused.max(to_literal);
            println!("{} {name}: {best:.1} dB, ONNX Runtime to itself {between:.1} dB", e.name);
            assert!(best >= between || best >= ENOUGH_DB, "{} {name}: {best} dB, {between} dB", e.name);
            compared += 1;
        }
    }
    assert!(compared >= 28, "only {compared} outputs were compared");
}

#[test]
fn products_between_quantised_tensors_run_in_integers() {
    let Some(exports) = exports() else { return };
    for e in exports.iter().filter(|e| e.is_quantised()) {
        let Some(compiled) = e.compile() else { continue };
        let products = ["Conv", "DepthwiseConv", "MatMul"];
        for step in compiled.report.float_steps.iter().filter(|s| products.contains(&s.kind.as_str())) {
            // A product in float is one whose operands the file leaves in float.
            assert!(
                step.reason.contains("f32 in the model"),
                "{}: {} `{}`: {}",
                e.name,
                step.kind,
                step.name,
                step.reason
            );
        }
        let integer = compiled.report.steps.iter().filter(|s| products.contains(&s.kind.as_str()) && s.dtype != "f32");
        assert!(integer.count() > 0, "{}", e.name);
    }
}

#[test]
fn arenas_are_close_to_the_lower_bound() {
    let Some(exports) = exports() else { return };
    for e in &exports {
        let Some(compiled) = e.compile() else { continue };
        let (arena, bound) = (compiled.report.arena_bytes as f64, compiled.report.lower_bound_bytes as f64);
        println!("{}: {arena} bytes, bound {bound}, ratio {:.3}", e.name, arena / bound);
        assert!(arena <= ARENA_BOUND * bound, "{}: {arena} bytes, bound {bound}", e.name);
    }
}
