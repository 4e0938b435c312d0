//! Models that are run frame by frame, their states handed from one run to the next: whole streams from zero states.

use std::collections::BTreeMap;

use kinglet_compiler::array::Array;
use kinglet_tests::{compile_for, difference, read_npz, run, shared};

/// Largest difference of a frame's answer, relative to its largest magnitude.
const BOUND: f64 = 1e-4;

/// Frame `i` of a stream whose first axis is time.
fn frame(stream: &Array, i: usize) -> Array {
    stream.cut(0, i..i + 1).reshaped(&stream.shape[1..])
}

fn zeros(like: &Array) -> Array {
    let bytes = vec![0; like.len() * like.dtype.size()];
    Array::from_bytes(like.dtype, &like.shape, &bytes).expect("as many as there were")
}

/// Runs the stream `NAME_stream.npz` through `NAME.onnx`.
fn stream(name: &str) {
    let Some(folder) = shared().map(|s| s.join("exports")) else { return };
    let model = name.trim_end_matches("_dyn20").trim_end_matches("_int8_convonly");
    let (once, recorded) =
        (read_npz(&folder.join(format!("{model}.npz"))), read_npz(&folder.join(format!("{model}_stream.npz"))));
    let path = folder.join(format!("{name}.onnx"));
    let infos = kinglet_compiler::shape_of_inputs(&std::fs::read(&path).expect("readable")).expect("a valid model");
    let mut inputs: BTreeMap<String, Array> = infos.iter().map(|i| (i.name.clone(), zeros(&once[&i.name]))).collect();
    let compiled = compile_for(&path, &BTreeMap::new()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let frames = recorded["logits"].shape[0];
    let mut worst = 0f64;
    for t in 0..frames {
        for (input, value) in recorded.iter().filter(|(k, _)| *k != "logits") {
            inputs.insert(input.clone(), frame(value, t));
        }
        let mut outputs = run(&compiled.kgl, &inputs);
        let want = frame(&recorded["logits"], t);
        let (off, magnitude) = difference(&outputs["logits"], &want);
        worst = worst.max(off / magnitude);
        assert!(off <= BOUND * magnitude, "{name}, frame {t}: {off} of {magnitude}");
        for (key, value) in std::mem::take(&mut outputs) {
            if let Some(state) = key.strip_suffix("_next") {
                inputs.insert(state.to_string(), value);
            }
        }
    }
    println!("{name}: {frames} frames, at most {worst:.1e} of the largest magnitude off");
}

#[test]
fn lmuformer() {
    stream("lmuformer_step");
    stream("lmuformer_step_dyn20");
}

#[test]
fn netmamba() {
    stream("netmamba_step");
    stream("netmamba_step_dyn20");
}

#[test]
fn slmuformer() {
    stream("slmuformer_step");
    stream("slmuformer_step_dyn20");
}
