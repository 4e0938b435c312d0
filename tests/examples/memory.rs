//! What bands of rows save: `cargo run --release -p kinglet-tests --example memory`. Prints the table of `docs/memory-plan.md`; models
//! that do not lie beside this checkout are left out.

use std::path::{Path, PathBuf};

use kinglet_compiler::graph::Graph;
use kinglet_compiler::{Banding, DimInfo, Options, compile, import, import_file};
use kinglet_models::zoo;
use kinglet_tests::attention::attention;
use kinglet_tests::mobilenet::mobilenet_v2;
use kinglet_tests::shared;

fn main() {
    let models = |file: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("../models").join(file);
    let mut files: Vec<(String, PathBuf)> = ["glyphs/glyphs_int8", "keywords/keywords_int8"]
        .map(|name| (format!("`models/{name}.onnx`"), models(&format!("{name}.onnx"))))
        .to_vec();
    if let Some(folder) = shared().map(|s| s.join("mlperf-tiny")) {
        for name in ["kws_ref_model", "vww_96_int8", "pretrainedResnet_quant", "str_ww_ref_model", "ad01_int8"] {
            files.push((format!("MLPerf Tiny `{name}`"), folder.join(format!("{name}.onnx"))));
        }
    }
    println!("| model | tensors | in bands | ratio | input fed | steps in bands | of |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (name, path) in &files {
        let options = one(path);
        row(name, &options, import_file(path, &options).expect("it imports"));
    }
    row("attention, 8 heads of 1,024 x 64, f32", &Options::default(), attention(8, 1024, 64, None).0);
    row("MobileNetV2 1.0, 224 x 224, int8", &Options::default(), mobilenet_v2(224).0);
    for name in ["vanillanet-5", "poolformer-s12", "convformer-s18", "dwformer", "mpgnet-t"] {
        let model =
            zoo::build(name, &zoo::Options::default(), &zoo::Source::Seed(1)).expect("it builds").model.to_bytes();
        let options = Options::default();
        row(&format!("{name}, f32"), &options, import(&model, None, &options).expect("it imports"));
    }
}

/// Options that bind the batch of a model to 1.
fn one(path: &Path) -> Options {
    let inputs = kinglet_compiler::shape_of_inputs(&std::fs::read(path).expect("it is there")).expect("it is valid");
    let size = |d: &DimInfo| if let DimInfo::Fixed(n) = d { *n } else { 1 };
    let shapes = inputs.iter().map(|i| (i.name.clone(), i.dims.iter().map(size).collect()));
    Options { shapes: shapes.collect(), ..Options::default() }
}

fn row(name: &str, options: &Options, graph: Graph) {
    let inputs: Vec<String> = graph.inputs.iter().map(|&t| graph.tensors[t].name.clone()).collect();
    let plan = |bands, feed| {
        let options = Options { bands, feed, ..options.clone() };
        compile(graph.clone(), &options).expect("it compiles").report
    };
    let (off, on) = (plan(Banding::Off, Vec::new()), plan(Banding::Memory, Vec::new()));
    let fed = plan(Banding::Memory, inputs);
    let [before, after, fed] = [&off, &on, &fed].map(|r| r.arena_bytes - r.scratch_bytes);
    let (banded, all) = (on.steps.iter().filter(|s| s.banded).count(), on.steps.len());
    println!("| {name} | {before} | {after} | {:.2} | {fed} | {banded} | {all} |", after as f64 / before as f64);
}
