//! Every pass against the evaluator: the graph after it computes what the graph before it computed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kinglet::DType;
use kinglet_compiler::array::Array;
use kinglet_compiler::{Error, Options, compile, eval, import, import_file, passes};
use kinglet_tests::{Random, difference, draws, exports, options_for, read_npz, run, small_onnx, sqnr};

/// Largest difference in f64, relative to the output's largest magnitude. Recognised functions are exact where the file
/// approximates them by f32 constants (√2 in a written-out GELU), so f32 precision is what can be kept.
const BOUND: f64 = 1e-6;
/// How near a graph stays that leaves out roundings of a recurrence: what `exports.rs` asks of quantised models.
const ENOUGH_DB: f64 = 35.0;

/// Largest difference of plans with and without a pass: a step of a quantised output, whose sum may lie next to a tie.
const WITHOUT: f64 = 0.05;

#[test]
fn passes_keep_what_graphs_compute() {
    let Some(paths) = exports() else { return };
    let mut checked = 0;
    for path in paths.iter().filter(|path| !draws(path)) {
        let name = path.file_stem().expect("a file").to_string_lossy().into_owned();
        let arrays = read_npz(&path.with_extension("npz"));
        let mut graph = import_file(path, &options_for(&arrays)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let inputs: Vec<Array> = graph.inputs.iter().map(|&t| arrays[&graph.tensors[t].name].clone()).collect();
        let mut before = eval::run(&graph, &inputs).expect("the graph evaluates");
        let mut roundings = 0;
        for (pass, run) in passes::PIPELINE {
            passes::apply(*run, &mut graph);
            let after = eval::run(&graph, &inputs).expect("the graph still evaluates");
            // Tables are made in f32, where a rounding tie may fall the other way than in f64; steps are compared with
            // their nodes elsewhere (`literal.rs`). From there on the graph is held to what it computes then.
            let tabulates = *pass == "tabulate" && name.contains("int8");
            let left_out: usize = graph.nodes.iter().map(|n| n.roundings).sum();
            for (a, b) in after.iter().zip(&before) {
                let (worst, magnitude) = difference(a, b);
                if left_out > roundings {
                    // A recurrence that goes on in reals where the file rounds; see docs/numerics.md.
                    assert!(sqnr(a, b) >= ENOUGH_DB, "{name}: `{pass}` changes an output by {worst}");
                    continue;
                }
                assert!(
                    tabulates || worst <= BOUND * magnitude.max(1.0),
                    "{name}: `{pass}` changes an output by {worst}"
                );
            }
            (before, roundings) = (after, left_out);
        }
        checked += 1;
    }
    println!("{checked} graphs");
    assert!(checked >= 60, "only {checked} graphs were checked");
}

/// Whoever looks for the pass behind a wrong answer leaves out one after the other: each plan has to run, and give the answer.
#[test]
fn a_pass_may_be_left_out() {
    let mut left_out = 0;
    for (model, proto) in small_onnx::all() {
        let bytes = proto.to_bytes();
        let plan = |without: Option<&str>| {
            let without = without.into_iter().map(String::from).collect();
            let options = Options { without, pad_selections: true, draws_as_inputs: true, ..Options::default() };
            import(&bytes, None, &options).and_then(|graph| compile(graph, &options))
        };
        let whole = plan(None).unwrap_or_else(|e| panic!("{model}: {e}"));
        let mut random = Random::new(11);
        let tensors = whole.graph.inputs.iter().map(|&t| &whole.graph.tensors[t]);
        // Integers may be indices.
        let mut value = |dtype: DType, shape: &[usize]| match dtype {
            DType::I32 | DType::I64 => Array::int(dtype, shape, vec![0; shape.iter().product()]),
            other => random.array(other, shape),
        };
        let inputs = tensors.map(|t| (t.name.clone(), value(t.dtype, &t.shape))).collect();
        // Or divisors, for which there is no answer.
        let Ok(want) = catch_unwind(AssertUnwindSafe(|| run(&whole.kgl, &inputs))) else { continue };
        for (pass, _) in passes::PIPELINE.iter().filter(|(name, _)| !passes::NEEDED.contains(name)) {
            let compiled = plan(Some(pass)).unwrap_or_else(|e| panic!("{model} without `{pass}`: {e}"));
            for (name, got) in run(&compiled.kgl, &inputs) {
                let (worst, magnitude) = difference(&got, &want[&name]);
                assert!(
                    worst <= WITHOUT * magnitude.max(1.0),
                    "{model} without `{pass}`: `{name}` differs by {worst}, of {magnitude}"
                );
            }
            left_out += 1;
        }
    }
    assert!(left_out >= 400, "only {left_out} plans");
    let options = Options { without: vec!["channels last".into()], ..Options::default() };
    let (_, model) = small_onnx::all().swap_remove(0);
    let graph = import(&model.to_bytes(), None, &options).expect("it is in order");
    assert!(matches!(compile(graph, &options), Err(Error::NoSuchPass { .. })), "every plan needs that");
}
