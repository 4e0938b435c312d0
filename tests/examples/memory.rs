//! What bands of rows save: `cargo run --release -p kinglet-tests --example memory`. Prints the table of `docs/memory-plan.md`; models
//! that do not lie beside this checkout are left out.

use std::path::{Path, PathBuf};

use kinglet_compiler::graph::Graph;
use kinglet_compiler::{Banding, DimInfo, Options, compile, import, import_file};
use kinglet_models::zoo;
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
    println!("| model | tensors | in bands | ratio | steps in bands | of |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for (name, path) in &files {
        row(name, |bands| {
            let options = Options { bands, ..one(path) };
            (import_file(path, &options).expect("it imports"), options)
        });
    }
    for name in ["vanillanet-5", "poolformer-s12", "convformer-s18", "dwformer", "mpgnet-t"] {
        let model =
            zoo::build(name, &zoo::Options::default(), &zoo::Source::Seed(1)).expect("it builds").model.to_bytes();
        row(&format!("{name}, f32"), |bands| {
            let options = Options { bands, ..Options::default() };
            (import(&model, None, &options).expect("it imports"), options)
        });
    }
}

/// Options that bind the batch of a model to 1.
fn one(path: &Path) -> Options {
    let inputs = kinglet_compiler::shape_of_inputs(&std::fs::read(path).expect("it is there")).expect("it is valid");
    let size = |d: &DimInfo| if let DimInfo::Fixed(n) = d { *n } else { 1 };
    let shapes = inputs.iter().map(|i| (i.name.clone(), i.dims.iter().map(size).collect()));
    Options { shapes: shapes.collect(), ..Options::default() }
}

fn row(name: &str, graph: impl Fn(Banding) -> (Graph, Options)) {
    let plan = |bands| {
        let (graph, options) = graph(bands);
        compile(graph, &options).expect("it compiles").report
    };
    let (off, on) = (plan(Banding::Off), plan(Banding::Memory));
    let [before, after] = [&off, &on].map(|r| r.arena_bytes - r.scratch_bytes);
    let (banded, all) = (on.steps.iter().filter(|s| s.banded).count(), on.steps.len());
    println!("| {name} | {before} | {after} | {:.2} | {banded} | {all} |", after as f64 / before as f64);
}
