//! Every pass against the evaluator: the graph after it computes what the graph before it computed.

use kinglet_compiler::array::Array;
use kinglet_compiler::{eval, import_file, passes};
use kinglet_tests::{difference, draws, exports, options_for, read_npz, sqnr};

/// Largest difference in f64, relative to the output's largest magnitude. Recognised functions are exact where the file
/// approximates them by f32 constants (√2 in a written-out GELU), so f32 precision is what can be kept.
const BOUND: f64 = 1e-6;
/// How near a graph stays that leaves out roundings of a recurrence: what `exports.rs` asks of quantised models.
const ENOUGH_DB: f64 = 35.0;

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
