//! Every quantised tensor that a plan computes, against a literal evaluation in f64 of the node that computes it, from the
//! very inputs that the plan used. A value may differ only where it lies within 1e-4 of a rounding tie.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use kinglet::session::ArenaView;
use kinglet::{DType, Inline, Model, Observer};
use kinglet_compiler::array::Array;
use kinglet_compiler::eval;
use kinglet_compiler::graph::{Graph, Node, Op, Post, Quant, TensorId};
use kinglet_compiler::{Compiled, compile, import_file};
use kinglet_tests::one_node::{TIE, roundings};
use kinglet_tests::{Aligned, options_for, read_npz, run_with, shared};

/// Keeps what each step computed.
struct Recorder<'a> {
    model: Model<'a>,
    compiled: &'a Compiled,
    values: HashMap<TensorId, Array>,
}

impl Observer for Recorder<'_> {
    fn after(&mut self, step: usize, arena: &ArenaView<'_>) {
        let Some(t) = self.compiled.computed[step] else { return };
        let number = self.model.step(step).output(0).expect("every step has an output");
        let tensor = &self.compiled.graph.tensors[t];
        let bytes = arena.tensor(number).expect("it is in the arena");
        let array = Array::from_bytes(tensor.dtype, &tensor.shape, bytes).expect("sizes were verified");
        self.values.insert(t, array);
    }
}

fn post(op: &Op) -> Option<&Post> {
    match op {
        Op::Conv { post, .. } | Op::ConvTranspose { post, .. } | Op::MatMul { post, .. } => Some(post),
        _ => None,
    }
}

fn set_post(op: &mut Op, new: Post) {
    if let Op::Conv { post, .. } | Op::ConvTranspose { post, .. } | Op::MatMul { post, .. } = op {
        *post = new;
    }
}

/// For each element of the node's output the two integers it may be.
fn allowed(graph: &Graph, node: &Node, inputs: &[Option<&Array>]) -> Vec<(i64, i64)> {
    let mut graph = graph.clone();
    let tensor = graph.tensors[node.output].clone();
    let quant = tensor.quant.clone().expect("the output is quantised");
    let in_steps = |graph: &mut Graph, node: &Node, inputs: &[Option<&Array>], q: &Quant| {
        if matches!(node.op, Op::Quantize) {
            return eval::quantize_unrounded(inputs[0].expect("has an input"), q);
        }
        graph.tensors[node.output].quant = None;
        graph.tensors[node.output].dtype = DType::F32;
        let reals = eval::node(graph, node, inputs);
        eval::quantize_unrounded(&reals, q)
    };
    let Some(post) = post(&node.op).filter(|p| p.mid.is_some()).cloned() else {
        let steps = in_steps(&mut graph, node, inputs, &quant);
        return steps.reals().iter().map(|&v| roundings(v, tensor.dtype, TIE)).collect();
    };
    // A rounding in the middle: either of its results may go on.
    let mid = post.mid.clone().expect("checked");
    let mid_quant = Quant::per_tensor(mid.scale, mid.zero_point);
    let mut plain = node.clone();
    set_post(&mut plain.op, Post { mid: None, table: None, residual: false, ..post.clone() });
    let mut sum_inputs = inputs.to_vec();
    let residual = post.residual.then(|| sum_inputs.pop().flatten().expect("a residual"));
    if post.residual {
        plain.inputs.pop();
    }
    let steps = in_steps(&mut graph, &plain, &sum_inputs, &mid_quant);
    let finish = |q: i64, i: usize| -> (i64, i64) {
        let (lo, hi) = match residual {
            None => (q, q),
            Some(r) => {
                let t = node.inputs.last().copied().flatten().expect("a residual");
                let add = eval::dequantize(r, graph.tensors[t].quant.as_ref().expect("quantised")).reals()[i];
                let real = (q - i64::from(mid.zero_point)) as f64 * f64::from(mid.scale) + add;
                let (scale, zero) = quant.single().expect("per tensor");
                roundings(real / f64::from(scale) + f64::from(zero), tensor.dtype, TIE)
            }
        };
        let Some(table) = &post.table else { return (lo, hi) };
        let through = |q: i64| {
            let b = table[usize::from(q as u8)];
            if tensor.dtype == DType::I8 { i64::from(b as i8) } else { i64::from(b) }
        };
        (through(lo), through(hi))
    };
    steps
        .reals()
        .iter()
        .enumerate()
        .map(|(i, &v)| {
            let (lo, hi) = roundings(v, mid.dtype, TIE);
            let (a, b) = (finish(lo, i), finish(hi, i));
            (a.0.min(a.1).min(b.0).min(b.1), a.0.max(a.1).max(b.0).max(b.1))
        })
        .collect()
}

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
    let model = Model::load(file.as_ref()).expect("valid");
    let mut recorder = Recorder { model, compiled: &compiled, values: HashMap::new() };
    run_with(&compiled.kgl, inputs, &Inline, &mut recorder);
    let graph = &compiled.graph;
    let mut values = recorder.values;
    for &t in &graph.inputs {
        values.insert(t, inputs[&graph.tensors[t].name].clone());
    }
    let mut compared = 0;
    for node in &graph.nodes {
        let operands: Vec<Option<Array>> =
            node.inputs.iter().map(|t| t.map(|t| graph.value(t).unwrap_or_else(|| &values[&t]).clone())).collect();
        let operands: Vec<Option<&Array>> = operands.iter().map(|o| o.as_ref()).collect();
        let Some(got) = values.get(&node.output) else {
            // Another view of the same memory: nothing was computed.
            let value = eval::node(graph, node, &operands);
            values.insert(node.output, value);
            continue;
        };
        let tensor = &graph.tensors[node.output];
        if tensor.quant.is_none() {
            continue;
        }
        if matches!(node.op, Op::Lut { .. }) {
            assert_eq!(*got, eval::node(graph, node, &operands), "{name}: {}", tensor.name);
            continue;
        }
        for (i, (&g, (lo, hi))) in got.ints().iter().zip(allowed(graph, node, &operands)).enumerate() {
            assert!(
                (lo..=hi).contains(&g),
                "{name}: {} `{}` element {i}: got {g}, allowed {lo} to {hi}; {:?}",
                node.op.name(),
                tensor.name,
                node.source
            );
            compared += 1;
        }
    }
    compared
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
            let n = all.len() / all.shape[0];
            let mut shape = all.shape.clone();
            shape[0] = 1;
            let one = Array::int(all.dtype, &shape, all.ints()[i * n..(i + 1) * n].to_vec());
            let compared = check(&path, &[(infos[0].name.clone(), one)].into());
            println!("{name}: {compared} quantised values");
        }
    }
}
