//! A model of the zoo from architecture to result: built, compiled, run, and compared with the f64 evaluator.

use std::collections::BTreeMap;

use kinglet_compiler::array::Array;
use kinglet_compiler::{Options, Report, compile, eval, import};
use kinglet_models::zoo;

use crate::{Random, difference, run_best};

/// What came of it.
pub struct Outcome {
    /// What the compiler tells.
    pub report: Report,
    /// Largest difference of an output from the evaluator's, relative to its largest magnitude.
    pub difference: f64,
}

/// Builds a model with seeded weights and runs it on random inputs.
///
/// # Panics
/// If any stage fails: models of the zoo are to work.
pub fn zoo_run(name: &str, options: &zoo::Options) -> Outcome {
    let built = zoo::build(name, options, &zoo::Source::Seed(0)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let bytes = built.model.to_bytes();
    drop(built);
    let options = Options::default();
    let graph = import(&bytes, None, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut random = Random::new(1);
    let inputs: Vec<Array> = graph
        .inputs
        .iter()
        .map(|&t| {
            let t = &graph.tensors[t];
            // Pictures, spectra and draws as they come: between 0 and 1.
            let values = (0..t.len()).map(|_| (random.real() + 1.0) / 2.0).map(|v| f64::from(v as f32)).collect();
            Array::f32(&t.shape, values)
        })
        .collect();
    let want = eval::run(&graph, &inputs).unwrap_or_else(|e| panic!("{name}: {e}"));
    let names = graph.inputs.iter().map(|&t| graph.tensors[t].name.clone());
    let named: BTreeMap<String, Array> = names.zip(inputs).collect();
    let outputs = graph.output_names.clone();
    let compiled = compile(graph, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
    let got = run_best(&compiled.kgl, &named);
    let off = outputs.iter().zip(&want).map(|(output, want)| {
        let (worst, magnitude) = difference(&got[output], want);
        worst / magnitude.max(f64::MIN_POSITIVE)
    });
    Outcome { difference: off.fold(0.0, f64::max), report: compiled.report }
}
