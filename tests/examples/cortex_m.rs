//! Writes the cases that images for microcontrollers run, `cortex_m FOLDER`: for each model and target a file `TARGET/MODEL.case` with the plan, inputs, and the bytes of
//! outputs that the host computes (`targets/cortex-m/images/src/case.rs` reads them). Prints each file with the number of what its program links (`OpSet::bits`).

use std::collections::BTreeMap;
use std::path::Path;

use kinglet::kernels::{BinaryOp, OpSet, UnaryOp};
use kinglet::{DType, Model, Target};
use kinglet_compiler::array::Array;
use kinglet_compiler::graph::{Graph, Layout, Op, Post, Quant, Window};
use kinglet_compiler::{Banding, MemoryRegion, Options, compile, import, import_file};
use kinglet_models::{glyphs, keywords};
use kinglet_tests::one_node::{Case, Like};
use kinglet_tests::{Aligned, Random, parse_npz, read_npz, row, run, shared};

/// Vectors of a model.
const MOST: usize = 3;

/// Products of bytes of every form beside each other, of `channels` inputs: dense, in groups, depthwise; windows, strides, dilation, padding;
/// channels and lines that are no multiples of what kernels take at once; with residuals.
fn products(channels: usize, dtype: DType) -> Case {
    let (mut r, mut c) = (Random::new(channels as u64), Case::new());
    let (height, width) = (9, 7);
    let x = c.named_input("x", r.array(DType::F32, &[1, height, width, channels]), None);
    let x = c.quantize(x, dtype, Quant::per_tensor(0.02, if dtype == DType::U8 { 117 } else { -5 }));
    let x = c.dequantize(x);
    let forms: [([usize; 2], usize, usize, usize, usize); 10] = [
        ([1, 1], 1, 1, 0, 5),
        ([1, 1], 1, 1, 0, 16),
        ([1, 1], 1, 1, 0, channels),
        ([3, 3], 1, 1, 1, 7),
        ([3, 3], 2, 1, 0, 8),
        ([5, 1], 1, 1, 2, 9),
        ([2, 3], 1, 2, 0, 1),
        ([3, 3], 1, 1, 1, 0),
        ([5, 2], 2, 1, 1, 0),
        ([7, 7], 1, 1, 3, 0),
    ];
    for (form, (kernel, stride, dilation, pad, outputs)) in forms.into_iter().enumerate() {
        // No number of outputs stands for each channel by itself.
        let (groups, outputs) = match outputs {
            0 => (channels, channels),
            8 if channels.is_multiple_of(2) => (2, 8),
            n => (1, n),
        };
        let reach = kernel.map(|k| (k - 1) * dilation + 1);
        let pads = reach.map(|n| pad.min(n - 1));
        let out = [(height, 0), (width, 1)].map(|(n, d)| (n + 2 * pads[d] - reach[d]) / stride + 1);
        let window = Window {
            kernel: kernel.to_vec(),
            strides: vec![stride; 2],
            dilations: vec![dilation; 2],
            pads_begin: pads.map(|p| p as i64).to_vec(),
            pads_end: pads.map(|p| p as i64).to_vec(),
        };
        let shape = [outputs, channels / groups, kernel[0], kernel[1]];
        let mut w: Vec<i64> = r.array(DType::I8, &shape).ints().iter().map(|&w| w.max(-127)).collect();
        // Every other product has a weight that is -128: it lies otherwise.
        w[0] = if (form + channels).is_multiple_of(2) { -128 } else { w[0] };
        let w = Array::int(DType::I8, &shape, w);
        let w = c.constant(w, Some(Quant::per_tensor(0.01, 0)));
        let w = c.dequantize(w);
        let shape = [1, out[0], out[1], outputs];
        let op = Op::Conv { window, groups, layout: Layout::ChannelsLast, post: Post::default() };
        let v = c.node(op, &[x, w], Like::f32(&shape));
        let v = c.quantize(v, DType::I8, Quant::per_tensor(0.05, 3));
        let mut v = c.dequantize(v);
        if shape == [1, height, width, channels] {
            // The input is added, and sometimes what is negative cut.
            v = c.node(Op::Binary(BinaryOp::Add), &[v, x], Like::f32(&shape));
            if kernel[0] > 1 {
                v = c.node(Op::Unary { op: UnaryOp::Relu, alpha: 0.0, beta: 0.0 }, &[v], Like::f32(&shape));
            }
            v = c.quantize(v, DType::I8, Quant::per_tensor(0.06, -7));
            v = c.dequantize(v);
        }
        c.output(v);
    }
    c
}

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

/// Writes the cases of a model with one input, whose values are `vectors`: for each target one.
fn write(folder: &Path, name: &str, graph: &Graph, input: &str, vectors: &Array) {
    for target in [Target::Generic, Target::CortexM, Target::CortexM55] {
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
    for n in [compiled.kgl.len(), inputs.len(), outputs.len(), vectors.shape[0].min(MOST)] {
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
    for (name, onnx, input, vectors) in
        [("glyphs", glyphs::INT8, "image", glyphs::VECTORS), ("keywords", keywords::INT8, "frames", keywords::VECTORS)]
    {
        let graph = import(onnx, None, &own).unwrap_or_else(|e| panic!("{name}: {e}"));
        write(folder, name, &graph, input, &parse_npz(vectors)[input]);
    }
    for (channels, dtype) in [(3, DType::I8), (8, DType::U8), (13, DType::I8), (50, DType::U8)] {
        let (graph, inputs) = products(channels, dtype).parts();
        let shape = [&[1], &inputs["x"].shape[..]].concat();
        write(folder, &format!("products-{channels}"), &graph, "x", &inputs["x"].clone().reshaped(&shape));
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
