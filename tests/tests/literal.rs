//! Runs of whole models against the graphs of their files, step by step, in f64 from the very values that the run had. A
//! quantised value may differ only where it lies next to a rounding tie.

use std::collections::BTreeMap;
use std::path::Path;

use kinglet::{Inline, Model};
use kinglet_compiler::array::Array;
use kinglet_compiler::check::{Checked, Recorder};
use kinglet_compiler::{Compiled, compile, import_file};
use kinglet_tests::{Aligned, draws, exports, options_for, read_npz, row, run_with, shared};

/// Runs and checks one model, which must compile.
fn check(path: &Path, inputs: &BTreeMap<String, Array>) -> (Checked, Compiled) {
    let name = path.file_stem().expect("a file").to_string_lossy();
    let options = options_for(inputs);
    let graph = import_file(path, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
    let compiled = compile(graph.clone(), &options).unwrap_or_else(|e| panic!("{name}: {e}"));
    let file = Aligned::copy(&compiled.kgl);
    let model = Model::load(file.as_ref()).expect("the compiler writes valid files");
    let mut recorder = Recorder::new(&compiled, model);
    run_with(&compiled.kgl, inputs, &Inline, &mut recorder);
    let given: Vec<Array> = graph.inputs.iter().map(|&t| inputs[&graph.tensors[t].name].clone()).collect();
    let checked = recorder.check(&graph, &given).unwrap_or_else(|e| panic!("{name}: {e}; {:?}", e.source));
    let Checked { quantised, other, alone, grouped, unchecked } = &checked;
    println!("{name}: {alone} steps checked alone, {grouped} in groups; {quantised} integers, {other} other values");
    for step in unchecked {
        println!("  not checked: `{}`: {}", step.step, step.reason);
    }
    assert_eq!(alone + grouped + unchecked.len(), compiled.report.steps.len(), "{name}: steps");
    (checked, compiled)
}

#[test]
fn exported_models() {
    let Some(files) = exports() else { return };
    let (mut quantised, mut other, mut unchecked) = (0, 0, Vec::new());
    for path in files.iter().filter(|path| !draws(path)) {
        let arrays = read_npz(&path.with_extension("npz"));
        let infos = kinglet_compiler::shape_of_inputs(&std::fs::read(path).expect("readable")).expect("valid");
        let inputs = infos.iter().map(|i| (i.name.clone(), arrays[&i.name].clone())).collect();
        let (checked, compiled) = check(path, &inputs);
        // A recurrence that leaves roundings out cannot be held to the file, nor what follows until the run shows a tensor.
        if compiled.report.steps.iter().any(|s| s.roundings > 0) {
            let all = compiled.report.steps.len();
            assert!(checked.unchecked.len() * 4 <= all, "{}: most steps are unchecked", path.display());
            continue;
        }
        unchecked.extend(checked.unchecked.iter().map(|step| format!("{}: {}", path.display(), step.step)));
        quantised += usize::from(checked.quantised > 0);
        other += usize::from(checked.other > 0);
    }
    assert!(unchecked.is_empty(), "steps were not checked: {unchecked:#?}");
    assert!(quantised >= 20 && other >= 60, "only {quantised} quantised models and {other} with floats were checked");
}

#[test]
fn trained_models() {
    let Some(shared) = shared() else { return };
    for name in ["kws_ref_model", "pretrainedResnet_quant", "vww_96_int8", "ad01_int8", "str_ww_ref_model"] {
        let path = shared.join("mlperf-tiny").join(format!("{name}.onnx"));
        let vectors = read_npz(&path.with_file_name(format!("{name}_vectors.npz")));
        let all = &vectors["inputs"];
        let infos = kinglet_compiler::shape_of_inputs(&std::fs::read(&path).expect("readable")).expect("valid");
        for i in 0..all.shape[0].min(3) {
            let (checked, _) = check(&path, &[(infos[0].name.clone(), row(all, i))].into());
            // Nothing is grouped in these: every quantised tensor of the file is one of the run.
            assert!(checked.unchecked.is_empty() && checked.grouped == 0 && checked.quantised > 1000, "{checked:?}");
        }
    }
}
