//! Exports of the model families by PyTorch's exporters and ONNX Runtime's quantiser, against ONNX Runtime's outputs.
//!
//! The files lie beside a developer's checkout, not in it; without them the tests say so and pass.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kinglet_compiler::array::Array;
use kinglet_compiler::{Compiled, Options, eval, import_file};
use kinglet_tests::{Random, compile, difference, draws, options_for, read_npz, run, sqnr};

/// Largest difference of a float model's output, relative to the output's largest magnitude.
const FLOAT_BOUND: f64 = 1e-4;
/// A quantised output this close to one of ONNX Runtime's two is close enough, however close these are to each other.
const ENOUGH_DB: f64 = 35.0;
/// The arena over the most bytes alive during one step.
const ARENA_BOUND: f64 = 1.05;

/// Share of the budget of a compilation that an export may take.
const BUDGET_SHARE: f64 = 0.01;

/// One export: its inputs, and everything recorded beside it by name.
struct Export {
    name: String,
    path: PathBuf,
    inputs: BTreeMap<String, Array>,
    recorded: BTreeMap<String, Array>,
}

/// Every export; `None` without the folder.
fn exports() -> Option<Vec<Export>> {
    Some(kinglet_tests::exports()?.iter().map(|p| export(p)).collect())
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
    fn compile(&self) -> Compiled {
        compile(&self.path, &self.options()).unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    /// What binds the shapes of the recorded inputs. Graphs that draw get their draws as inputs.
    fn options(&self) -> Options {
        Options { draws_as_inputs: draws(&self.path), ..options_for(&self.inputs) }
    }

    /// Inputs and outputs of a graph that draws: ONNX Runtime's could not be recorded, the evaluator's stand in for them.
    fn with_draws(&self, compiled: &Compiled) -> (BTreeMap<String, Array>, BTreeMap<String, Array>) {
        let (mut inputs, mut recorded) = (self.inputs.clone(), self.recorded.clone());
        if draws(&self.path) {
            let graph = import_file(&self.path, &self.options()).expect("it compiled");
            let mut random = Random::new(7);
            for &t in &compiled.graph.inputs {
                let tensor = &compiled.graph.tensors[t];
                inputs.entry(tensor.name.clone()).or_insert_with(|| random.array(tensor.dtype, &tensor.shape));
            }
            let given: Vec<Array> = graph.inputs.iter().map(|&t| inputs[&graph.tensors[t].name].clone()).collect();
            let outputs = eval::run(&graph, &given).expect("it evaluates");
            recorded.extend(graph.output_names.iter().cloned().zip(outputs));
        }
        (inputs, recorded)
    }

    /// An honest model comes nowhere near the budget of its compilation.
    fn check_cost(&self, compiled: &Compiled) {
        let (spent, refused) = (compiled.report.budget_spent, compiled.report.budget_refused);
        println!("{}: {:.4} % of the budget", self.name, 100.0 * spent);
        assert!(spent <= BUDGET_SHARE && refused == 0, "{}: {spent} of the budget, {refused} refusals", self.name);
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
        let compiled = e.compile();
        let (inputs, recorded) = e.with_draws(&compiled);
        for (name, got) in run(&compiled.kgl, &inputs) {
            let want = recorded.get(&name).unwrap_or_else(|| panic!("{}: `{name}` was not recorded", e.name));
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
        let compiled = e.compile();
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
        let compiled = e.compile();
        let products = ["ConvF32", "ConvI8", "DepthwiseF32", "DepthwiseI8", "MatMulF32", "MatMulI8"];
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
fn arenas_are_close_to_the_lower_bound_and_budgets_are_hardly_touched() {
    let Some(exports) = exports() else { return };
    for e in &exports {
        let compiled = e.compile();
        e.check_cost(&compiled);
        let tensors = compiled.report.arena_bytes - compiled.report.scratch_bytes;
        let (arena, bound) = (tensors as f64, compiled.report.lower_bound_bytes as f64);
        println!("{}: {arena} bytes, bound {bound}, ratio {:.3}", e.name, arena / bound);
        assert!(arena <= ARENA_BOUND * bound, "{}: {arena} bytes, bound {bound}", e.name);
    }
}
