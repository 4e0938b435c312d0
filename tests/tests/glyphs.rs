//! The trained model of the repository, f32 and int8, against ONNX Runtime's outputs on fonts it never saw.

use std::collections::BTreeMap;

use kinglet_compiler::array::Array;
use kinglet_compiler::{Compiled, Options, compile, import};
use kinglet_models::glyphs;
use kinglet_tests::{difference, parse_npz, row, run};

fn compiled(onnx: &[u8]) -> Compiled {
    let options = Options { dims: [("batch".to_string(), 1)].into(), ..Options::default() };
    compile(import(onnx, None, &options).expect("imports"), &options).expect("compiles")
}

/// Compares every sample; returns how many there are.
fn samples(onnx: &[u8], mut compare: impl FnMut(usize, &Array, &BTreeMap<String, Array>)) -> usize {
    let vectors = parse_npz(glyphs::VECTORS);
    let compiled = compiled(onnx);
    let n = vectors["image"].shape[0];
    for i in 0..n {
        let out = run(&compiled.kgl, &[("image".to_string(), row(&vectors["image"], i))].into());
        compare(i, &out["logits"], &vectors);
    }
    n
}

#[test]
fn f32_agrees_with_onnx_runtime() {
    let n = samples(glyphs::F32, |i, got, vectors| {
        let (worst, magnitude) = difference(got, &row(&vectors["f32"], i));
        assert!(worst <= 1e-4 * magnitude, "sample {i}: {worst} of {magnitude}");
    });
    assert!(n >= 6);
}

#[test]
fn int8_is_onnx_runtimes_to_the_bit() {
    let n = samples(glyphs::INT8, |i, got, vectors| {
        // The logits are dequantised int8, so equality in integers is equality here, to the rounding of one f32 product.
        let (worst, magnitude) = difference(got, &row(&vectors["int8"], i));
        assert!(worst <= 1e-6 * magnitude, "sample {i}: {worst} of {magnitude}");
    });
    assert!(n >= 6);
    // Only the borders of the file are float: its input is quantised, its output dequantised.
    let report = compiled(glyphs::INT8).report;
    assert!(report.float_steps.iter().all(|s| s.kind == "Convert"), "{:?}", report.float_steps);
    assert_eq!(report.float_steps.len(), 2);
}
