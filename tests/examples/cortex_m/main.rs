//! Writes the cases that images for microcontrollers run, `cortex_m FOLDER`: for each model and target a file `TARGET/MODEL.case` with the plan, inputs, and the bytes of
//! outputs that the host computes (`targets/cortex-m/images/src/case.rs` reads them). Prints each file with the number of what its program links (`OpSet::bits`).

mod nets;

use std::collections::BTreeMap;
use std::path::Path;

use kinglet::kernels::OpSet;
use kinglet::{DType, Model, Target};
use kinglet_compiler::array::Array;
use kinglet_compiler::graph::Graph;
use kinglet_compiler::{Banding, MemoryRegion, Options, compile, import, import_file};
use kinglet_models::{glyphs, keywords};
use kinglet_tests::{Aligned, parse_npz, read_npz, row, run, shared};

/// Vectors of a model.
const MOST: usize = 3;

/// Arenas that some models are also planned for, where more than the least pays: about what half of the RAM of TensorFlow Lite Micro leaves beside the
/// stack (`bench/cortex-m/peers.json`). The names of these cases end with the number of bytes.
const ROOMS: [(&str, Target, usize); 7] = [
    ("kws", Target::CortexM, 9_600),
    ("sww", Target::CortexM, 7_400),
    ("vww", Target::CortexM, 46_000),
    ("kws", Target::CortexM55, 11_700),
    ("resnet", Target::CortexM55, 25_600),
    ("sww", Target::CortexM55, 8_800),
    ("vww", Target::CortexM55, 46_000),
];

/// Bytes of weights of a model that are copied to RAM.
const HOT: usize = 1 << 10;

/// How the names of models of floats end.
const FLOATS: &str = "_f32";

/// Writes the cases of a model with one input, whose values are `vectors`: for each target one.
fn write(folder: &Path, name: &str, graph: &Graph, input: &str, vectors: &Array) {
    let targets = [Target::Mcu, Target::CortexM, Target::CortexM55];
    for target in targets.into_iter().filter(|&t| t != Target::Mcu || !name.ends_with(FLOATS)) {
        let folder = folder.join(target.name());
        std::fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let write = |name: &str, regions: &[(&str, usize)]| {
            let region = |&(name, bytes): &(&str, usize)| MemoryRegion { name: name.into(), bytes };
            let regions = regions.iter().map(region).collect();
            let options = Options { target, bands: Banding::Memory, quantized_io: true, regions, ..Options::default() };
            write_for(&options, &folder.join(format!("{name}.case")), graph.clone(), input, vectors);
        };
        write(name, &[]);
        if name == "products-13" {
            write(&format!("{name}-psram"), &[("sram", 7 << 10), ("psram", 1 << 16)]);
            let options =
                Options { target, bands: Banding::Memory, quantized_io: true, hot_weights: HOT, ..Options::default() };
            write_for(&options, &folder.join(format!("{name}-hot.case")), graph.clone(), input, vectors);
        }
        for &(_, _, most) in ROOMS.iter().filter(|(model, of, _)| *model == name && *of == target) {
            write(&format!("{name}-{most}"), &[("sram", most)]);
        }
    }
}

fn write_for(options: &Options, path: &Path, graph: Graph, input: &str, vectors: &Array) {
    let compiled = compile(graph, options).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let graph = &compiled.graph;
    let quant = graph.tensors[graph.inputs[0]].quant.as_ref();
    let dtype = graph.tensors[graph.inputs[0]].dtype;
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    for i in 0..vectors.shape[0].min(MOST) {
        let value = row(vectors, i);
        let value = match quant.and_then(|q| q.single()).zip(dtype.quantized_range()) {
            Some(((scale, zero), (lo, hi))) if value.dtype != dtype => {
                let of = |&v: &f64| i64::from(kinglet::quant::quantize(v as f32, scale, zero, lo, hi));
                Array::int(dtype, &value.shape, value.reals().iter().map(of).collect())
            }
            _ => value,
        };
        inputs.extend_from_slice(&value.to_bytes());
        let given: BTreeMap<String, Array> = [(input.to_string(), value)].into();
        let results = run(&compiled.kgl, &given);
        graph.output_names.iter().for_each(|name| outputs.extend_from_slice(&results[name].to_bytes()));
    }
    let mut case = b"KCAS".to_vec();
    let hot = compiled.report.hot.bytes;
    assert!(hot > 0 || options.hot_weights == 0, "{}: nothing is hot", path.display());
    for n in [compiled.kgl.len(), inputs.len(), outputs.len(), vectors.shape[0].min(MOST), hot] {
        case.extend((n as u32).to_le_bytes());
    }
    for part in [&compiled.kgl, &inputs, &outputs] {
        case.resize(case.len().next_multiple_of(64), 0);
        case.extend_from_slice(part);
    }
    std::fs::write(path, case).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let kgl = Aligned::copy(&compiled.kgl);
    let ops = OpSet::of_model(&Model::load(kgl.as_ref()).expect("the compiler writes valid files"));
    println!("{} {}", path.display(), ops.bits());
}

fn main() {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: cortex_m FOLDER");
        std::process::exit(2);
    };
    let folder = Path::new(&folder);
    let own = Options { dims: [("batch".to_string(), 1)].into(), ..Options::default() };
    for (name, onnx, input, vectors) in [
        ("glyphs", glyphs::INT8, "image", glyphs::VECTORS),
        ("keywords", keywords::INT8, "frames", keywords::VECTORS),
        ("glyphs_f32", glyphs::F32, "image", glyphs::VECTORS),
        ("keywords_f32", keywords::F32, "frames", keywords::VECTORS),
    ] {
        let graph = import(onnx, None, &own).unwrap_or_else(|e| panic!("{name}: {e}"));
        let vectors = &parse_npz(vectors)[input];
        // Where floats are functions they take a hundred times as long: one vector then, and not on all cores.
        let vectors = if name.ends_with(FLOATS) { &vectors.cut(0, 0..1) } else { vectors };
        write(folder, name, &graph, input, vectors);
    }
    let products = [(3, DType::I8), (8, DType::U8), (13, DType::I8), (50, DType::U8)];
    let products = products.map(|(channels, dtype)| (format!("products-{channels}"), nets::products(channels, dtype)));
    let windows = [(6, DType::I8), (5, DType::U8)];
    let windows = windows.map(|(channels, dtype)| (format!("windows-{channels}"), nets::windows(channels, dtype)));
    let floats = [5, 19].map(|channels| (format!("floats-{channels}"), nets::floats(channels)));
    let frames = [(14, DType::I8), (5, DType::U8)];
    let frames = frames.map(|(channels, dtype)| (format!("frames-{channels}"), nets::frames(channels, dtype)));
    let others = [("elements-9".to_string(), nets::elements()), ("memories-5".to_string(), nets::memories())];
    for (name, net) in products.into_iter().chain(windows).chain(frames).chain(floats).chain(others) {
        let (graph, inputs) = net.parts();
        let shape = [&[1], &inputs["x"].shape[..]].concat();
        write(folder, &name, &graph, "x", &inputs["x"].clone().reshaped(&shape));
    }
    let Some(dir) = shared().map(|s| s.join("mlperf-tiny")) else { return };
    for (name, file) in [
        ("ad", "ad01_int8"),
        ("kws", "kws_ref_model"),
        ("resnet", "pretrainedResnet_quant"),
        ("sww", "str_ww_ref_model"),
        ("vww", "vww_96_int8"),
    ] {
        let vectors = &read_npz(&dir.join(format!("{file}_vectors.npz")))["inputs"];
        let path = dir.join(format!("{file}.onnx"));
        let onnx = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let input = kinglet_compiler::shape_of_inputs(&onnx).expect("a valid model")[0].name.clone();
        let options = Options { shapes: [(input.clone(), row(vectors, 0).shape)].into(), ..Options::default() };
        let graph = import_file(&path, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
        write(folder, name, &graph, &input, vectors);
    }
}
