//! Five trained int8 models of the MLPerf Tiny reference, against ONNX Runtime's outputs.

use std::collections::BTreeMap;
use std::path::Path;

use kinglet_compiler::array::Array;
use kinglet_compiler::{Banding, Options, compile, import_file};
use kinglet_tests::{read_npz, row, run, shared};

struct Agreement {
    values: usize,
    different: usize,
    largest: i64,
    float_steps: Vec<String>,
}

fn compare(dir: &Path, name: &str, (bands, fed): (Banding, bool)) -> (Agreement, usize) {
    let vectors = read_npz(&dir.join(format!("{name}_vectors.npz")));
    let path = dir.join(format!("{name}.onnx"));
    let inputs = kinglet_compiler::shape_of_inputs(&std::fs::read(&path).expect("the model is there")).expect("valid");
    let input = &inputs[0].name;
    let all = &vectors["inputs"];
    let feed = if fed { vec![input.clone()] } else { Vec::new() };
    let options = Options { shapes: [(input.clone(), row(all, 0).shape)].into(), bands, feed, ..Options::default() };
    let compiled = compile(import_file(&path, &options).expect("imports"), &options).expect("compiles");
    let mut a = Agreement { values: 0, different: 0, largest: 0, float_steps: Vec::new() };
    a.float_steps.extend(compiled.report.float_steps.iter().map(|s| format!("{} {}", s.kind, s.reason)));
    for i in 0..all.shape[0] {
        let given: BTreeMap<String, Array> = [(input.clone(), row(all, i))].into();
        let out = run(&compiled.kgl, &given).into_values().next().expect("one output");
        let want = row(&vectors["ort"], i);
        assert_eq!(out.len(), want.len());
        for (g, w) in out.ints().iter().zip(want.ints().iter()) {
            let d = (g - w).abs();
            a.values += 1;
            a.different += usize::from(d != 0);
            a.largest = a.largest.max(d);
        }
    }
    println!("{name}: {} values, {} different, by at most {}", a.values, a.different, a.largest);
    let (arena, bound) =
        (compiled.report.arena_bytes - compiled.report.scratch_bytes, compiled.report.lower_bound_bytes);
    // Tensors that slide, one into the place of the other, lie a little lower each time.
    let room = if bands == Banding::Off { 1.05 } else { 1.1 };
    assert!(arena as f64 <= room * bound as f64, "{name}: arena of {arena} bytes, bound {bound}");
    (a, arena)
}

/// All five are pure QDQ graphs: every value must be ONNX Runtime's, and nothing may run in float; in bands of rows, too, in no more
/// bytes than these.
#[test]
fn agree_with_onnx_runtime() {
    let Some(dir) = shared().map(|s| s.join("mlperf-tiny")) else { return };
    let (off, memory, fed) = ((Banding::Off, false), (Banding::Memory, false), (Banding::Memory, true));
    for (name, how, most) in [
        ("kws_ref_model", off, 16_000),
        ("kws_ref_model", memory, 5_248),
        ("pretrainedResnet_quant", off, 32_768),
        ("pretrainedResnet_quant", memory, 16_384),
        ("vww_96_int8", off, 55_296),
        ("vww_96_int8", memory, 28_032),
        ("ad01_int8", memory, 768),
        ("str_ww_ref_model", memory, 3_712),
        ("kws_ref_model", fed, 4_864),
        ("pretrainedResnet_quant", fed, 16_384),
        ("vww_96_int8", fed, 16_128),
        ("str_ww_ref_model", fed, 3_712),
    ] {
        let (a, arena) = compare(&dir, name, how);
        assert!(arena <= most, "{name}: {arena} bytes of tensors");
        assert!(a.values > 0, "{name}: nothing was compared");
        assert_eq!(a.different, 0, "{name}: {} of {} values differ, by at most {}", a.different, a.values, a.largest);
        assert!(a.float_steps.is_empty(), "{name}: {:?}", a.float_steps);
    }
}
