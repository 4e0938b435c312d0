//! Every step of a plan against a literal evaluation in f64 of the node that it computes, from the very inputs that the plan
//! used. A quantised value may differ only where it lies within 1e-4 of a rounding tie.

use std::collections::BTreeMap;
use std::path::Path;

use kinglet::{Inline, Model};
use kinglet_compiler::array::Array;
use kinglet_compiler::check::Recorder;
use kinglet_compiler::{compile, import_file};
use kinglet_tests::{Aligned, options_for, read_npz, row, run_with, shared};

/// Checks one model; returns the number of quantised values compared.
fn check(path: &Path, inputs: &BTreeMap<String, Array>) -> usize {
    let name = path.file_stem().expect("a file").to_string_lossy();
    let options = options_for(inputs);
    let graph = match import_file(path, &options) {
        Ok(g) => g,
        Err(kinglet_compiler::Error::Unsupported(_)) => return 0,
        Err(e) => panic!("{name}: {e}"),
    };
    let compiled = compile(graph, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
    let file = Aligned::copy(&compiled.kgl);
    let model = Model::load(file.as_ref()).expect("the compiler writes valid files");
    let mut recorder = Recorder::new(&compiled, model);
    run_with(&compiled.kgl, inputs, &Inline, &mut recorder);
    let given: Vec<Array> =
        compiled.graph.inputs.iter().map(|&t| inputs[&compiled.graph.tensors[t].name].clone()).collect();
    recorder.check(&given).unwrap_or_else(|e| panic!("{name}: {e}; {:?}", e.source)).quantised
}

#[test]
fn quantised_exports() {
    let Some(shared) = shared() else { return };
    let mut files: Vec<_> =
        std::fs::read_dir(shared.join("exports")).expect("is there").map(|e| e.expect("readable").path()).collect();
    files.sort();
    let quantised = |p: &&std::path::PathBuf| {
        let name = p.file_name().expect("a file").to_string_lossy();
        name.ends_with(".onnx") && (name.contains("int8") || name.contains("uint8"))
    };
    for path in files.iter().filter(quantised) {
        let arrays = read_npz(&path.with_extension("npz"));
        let infos = kinglet_compiler::shape_of_inputs(&std::fs::read(path).expect("readable")).expect("valid");
        let inputs = infos.iter().map(|i| (i.name.clone(), arrays[&i.name].clone())).collect();
        println!("{}: {} quantised values", path.display(), check(path, &inputs));
    }
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
            let one = row(all, i);
            let compared = check(&path, &[(infos[0].name.clone(), one)].into());
            println!("{name}: {compared} quantised values");
        }
    }
}
