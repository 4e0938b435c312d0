//! Small graphs of every operator against ONNX Runtime's outputs, from file to result.
//!
//! Other tests compare a run with the evaluation of the graph as imported; a fault of the importer changes both alike.
//! Here nothing of the expectation comes from this project: `golden/make.py` wrote the graphs and ran ONNX Runtime.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use kinglet::DType;
use kinglet_compiler::array::Array;
use kinglet_compiler::ops::{CONTRIB_OPERATORS, OPERATORS};
use kinglet_compiler::{Error, Options};
use kinglet_onnx::{GraphProto, ModelProto, NodeProto};
use kinglet_tests::golden::{Arrays, folder, unpacked};
use kinglet_tests::{compile, difference, options_for, read_npz, run};

/// Cases in which the values of inputs decide shapes or parameters: they compile only for given values.
const DECIDED_BY_VALUES: [&str; 2] = ["reshape_input", "slice_inputs"];
/// Operators whose outputs are other numbers in every run; `control_flow` tests them.
const DRAWS: [&str; 4] = ["RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"];

/// Largest difference of a float output, relative to the output's largest magnitude.
const FLOAT_BOUND: f64 = 1e-5;

/// Inputs and outputs of every case by the case's name.
fn vectors() -> BTreeMap<String, (Arrays, Arrays)> {
    let mut cases: BTreeMap<String, (Arrays, Arrays)> = BTreeMap::new();
    let files = std::fs::read_dir(folder()).expect("the vectors are there");
    let paths = files.map(|f| f.expect("a readable entry").path());
    let sets = paths.filter(|p| p.extension().is_some_and(|e| e == "npz"));
    for (key, array) in sets.flat_map(|path| unpacked(read_npz(&path))) {
        let mut parts = key.splitn(3, '/');
        let (Some(case), Some(side), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
            panic!("the key `{key}`");
        };
        let (inputs, outputs) = cases.entry(case.to_string()).or_default();
        if side == "in" { inputs } else { outputs }.insert(name.to_string(), array);
    }
    cases
}

/// What is wrong with an output; `None` if nothing is.
fn compare(got: &Array, want: &Array) -> Option<String> {
    // The vectors hold 16-bit integers as 32-bit ones.
    let alike = got.dtype == want.dtype || (want.dtype == DType::I32 && matches!(got.dtype, DType::I16 | DType::U16));
    if !alike || got.shape != want.shape {
        return Some(format!("{:?} {:?} instead of {:?} {:?}", got.dtype, got.shape, want.dtype, want.shape));
    }
    if want.dtype == DType::F32 {
        let (worst, magnitude) = difference(got, want);
        // An infinite value sets no measure for the others.
        let finite = want.reals().iter().filter(|v| v.is_finite()).fold(0f64, |m, v| m.max(v.abs()));
        return (worst > FLOAT_BOUND * finite).then(|| format!("differs by {worst:e}, of {magnitude:e}"));
    }
    let (got, want) = (got.ints(), want.ints());
    let off: Vec<u64> = got.iter().zip(want.iter()).map(|(g, w)| g.abs_diff(*w)).filter(|d| *d > 0).collect();
    let worst = off.iter().max()?;
    Some(format!("{} of {} integers differ, by up to {worst}", off.len(), want.len()))
}

/// What is wrong with a case, one line an output: compiled for the shapes of its inputs alone, the same with loops as they
/// are, and for the values of its inputs, which may then decide shapes and branches.
fn faults(name: &str, inputs: &Arrays, outputs: &Arrays) -> Vec<String> {
    let path = folder().join("cases").join(format!("{name}.onnx"));
    // None wants more trips of a loop than these.
    let max_trips = name.starts_with("while_").then_some(40);
    let with_values = Options { pad_selections: true, max_trips, ..options_for(inputs) };
    let shapes_alone = Options { values: BTreeMap::new(), ..with_values.clone() };
    let loops_kept = Options { keep_loops: true, ..shapes_alone.clone() };
    let mut found = Vec::new();
    for (how, options) in
        [("for its shapes", shapes_alone), ("with its loops", loops_kept), ("for its values", with_values)]
    {
        let by_values = options.values.is_empty() && DECIDED_BY_VALUES.contains(&name);
        let compiled = match compile(&path, &options) {
            Ok(_) if by_values => return vec!["compiles without its inputs' values".into()],
            Ok(compiled) => compiled,
            Err(Error::Unsupported(_)) if by_values => continue,
            Err(e) => return vec![format!("does not compile {how}: {e}")],
        };
        let got = run(&compiled.kgl, inputs);
        let compare = |(name, want)| match got.get(name) {
            Some(got) => compare(got, want).map(|fault| format!("{how}: `{name}` {fault}")),
            None => Some(format!("{how}: `{name}` is missing")),
        };
        found.extend(outputs.iter().filter_map(compare));
    }
    found
}

/// Every case is tried, then one assertion names all that fail.
#[test]
fn every_case_is_onnx_runtimes() {
    let mut failed = Vec::new();
    let cases = vectors();
    for (name, (inputs, outputs)) in &cases {
        let found = catch_unwind(AssertUnwindSafe(|| faults(name, inputs, outputs)));
        let found = found.unwrap_or_else(|_| vec!["panics".to_string()]);
        failed.extend(found.into_iter().map(|fault| format!("{name}: {fault}")));
    }
    assert!(failed.is_empty(), "{} faults in {} cases:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

/// The operators of a graph and of the graphs in it.
fn kinds(graph: &GraphProto) -> BTreeSet<String> {
    let inner = |n: &NodeProto| n.attribute.iter().filter_map(|a| a.g.as_ref()).flat_map(kinds).collect::<Vec<_>>();
    graph.node.iter().flat_map(|n| inner(n).into_iter().chain([n.op_type.clone()])).collect()
}

#[test]
fn every_graph_has_vectors_and_every_operator_a_graph() {
    let (mut graphs, mut operators) = (BTreeSet::new(), BTreeSet::new());
    for entry in std::fs::read_dir(folder().join("cases")).expect("the graphs are there") {
        let path = entry.expect("a readable entry").path();
        let model = ModelProto::from_bytes(&std::fs::read(&path).expect("readable")).expect("a valid model");
        operators.extend(kinds(&model.graph.expect("a graph")));
        graphs.insert(path.file_stem().expect("a file").to_string_lossy().into_owned());
    }
    let with_vectors: BTreeSet<String> = vectors().into_keys().collect();
    let alone: Vec<&String> = graphs.symmetric_difference(&with_vectors).collect();
    assert!(alone.is_empty(), "graphs without vectors, or the reverse: {alone:?}");
    let without: Vec<&str> = OPERATORS
        .iter()
        .chain(CONTRIB_OPERATORS)
        .map(|row| row.name)
        .filter(|name| !operators.contains(*name))
        .collect();
    assert_eq!(without, DRAWS, "operators that no case has");
}
