//! Integers at the door (`convert --io quantized`): the same results as with reals there, to the bit, and nothing else changed.

use std::collections::BTreeMap;

use kinglet::{DType, Target};
use kinglet_compiler::array::Array;
use kinglet_compiler::graph::{BinaryOp, Graph, Layout, Op, Post, Quant, UnaryOp, Window};
use kinglet_compiler::{Compiled, Options, compile, eval, import};
use kinglet_models::glyphs;
use kinglet_tests::one_node::{Case, Like};
use kinglet_tests::{Random, parse_npz, row, run};

fn compiled(graph: &Graph, quantized_io: bool) -> Compiled {
    let options = Options { quantized_io, target: Target::Generic, ..Options::default() };
    compile(graph.clone(), &options).unwrap_or_else(|e| panic!("{e}"))
}

/// As a step of the plan quantises: in f32.
fn quantised(value: &Array, quant: &Quant, dtype: DType) -> Array {
    let ((scale, zero), (lo, hi)) = (quant.single().expect("one scale"), dtype.quantized_range().expect("bytes"));
    let of = |&v: &f64| i64::from(kinglet::quant::quantize(v as f32, scale, zero, lo, hi));
    Array::int(dtype, &value.shape, value.reals().iter().map(of).collect())
}

/// The types of inputs and outputs.
fn types(compiled: &Compiled) -> Vec<DType> {
    let graph = &compiled.graph;
    graph.inputs.iter().chain(&graph.outputs).map(|&t| graph.tensors[t].dtype).collect()
}

/// Compares a plan whose inputs and outputs are integers with one that has reals there.
fn check(graph: &Graph, inputs: &BTreeMap<String, Array>, want: &[DType]) {
    let (real, integers) = (compiled(graph, false), compiled(graph, true));
    assert_eq!(types(&integers), want);
    assert!(integers.report.steps.len() <= real.report.steps.len());
    let quant = |g: &Graph, t: usize| g.tensors[t].quant.clone();
    let door = &integers.graph;
    let given: BTreeMap<String, Array> = door
        .inputs
        .iter()
        .map(|&t| {
            let (name, value) = inputs.get_key_value(&door.tensors[t].name).expect("inputs keep their names");
            let value = match quant(door, t) {
                Some(q) if value.dtype == DType::F32 => quantised(value, &q, door.tensors[t].dtype),
                _ => value.clone(),
            };
            (name.clone(), value)
        })
        .collect();
    let (want, got) = (run(&real.kgl, inputs), run(&integers.kgl, &given));
    for (name, &t) in door.output_names.iter().zip(&door.outputs) {
        let got = match quant(door, t) {
            Some(q) if want[name].dtype == DType::F32 => eval::dequantize(&got[name], &q).stored(),
            _ => got[name].clone(),
        };
        assert_eq!(got.to_bytes(), want[name].to_bytes(), "{name}");
    }
}

/// `x → Quantize → Dequantize → Conv → Relu → Quantize → Dequantize → y`, channels first, with what is between the ends and the first and
/// last of them.
fn net(before: bool, behind: bool) -> (Case, [usize; 4]) {
    let mut r = Random::new(2);
    let mut c = Case::new();
    let shape = [1, 3, 5, 6];
    let given = if before { vec![3, 30] } else { shape.to_vec() };
    let mut x = c.named_input("x", r.array(DType::F32, &given), None);
    if before {
        x = c.node(Op::Reshape, &[x], Like::f32(&shape));
    }
    let x = c.quantize(x, DType::I8, Quant::per_tensor(0.02, 3));
    let x = c.dequantize(x);
    let w = c.constant(r.array(DType::I8, &[4, 3, 3, 3]), Some(Quant::per_tensor(0.01, 0)));
    let w = c.dequantize(w);
    let window = Window {
        kernel: vec![3, 3],
        strides: vec![1, 1],
        dilations: vec![1, 1],
        pads_begin: vec![1, 1],
        pads_end: vec![1, 1],
    };
    let out = [1, 4, 5, 6];
    let op = Op::Conv { window, groups: 1, layout: Layout::ChannelsFirst, post: Post::default() };
    let v = c.node(op, &[x, w], Like::f32(&out));
    let v = c.node(Op::unary(UnaryOp::Relu), &[v], Like::f32(&out));
    let v = c.quantize(v, DType::U8, Quant::per_tensor(0.03, 0));
    let mut y = c.dequantize(v);
    if behind {
        y = c.node(Op::Transpose { perm: vec![0, 2, 3, 1] }, &[y], Like::f32(&[1, 5, 6, 4]));
        y = c.node(Op::Reshape, &[y], Like::f32(&[30, 4]));
    }
    c.output(y);
    (c, out)
}

#[test]
fn quantised_ends_become_the_integers() {
    for (before, behind) in [(false, false), (true, false), (false, true), (true, true)] {
        let (graph, inputs) = net(before, behind).0.parts();
        check(&graph, &inputs, &[DType::I8, DType::U8]);
        let steps = compiled(&graph, true).report.steps;
        assert!(steps.iter().all(|s| s.dtype != "f32"), "{steps:#?}");
    }
}

#[test]
fn what_is_read_or_made_as_reals_stays_so() {
    // The input is added to the result, too; the sum is no grid.
    let (mut c, out) = net(false, false);
    let x = c.parts().0.inputs[0];
    let y = c.parts().0.outputs[0];
    let x = c.node(Op::Slice { starts: vec![0, 0, 0, 0], steps: vec![1; 4] }, &[x], Like::f32(&[1, 1, 5, 6]));
    let sum = c.node(Op::Binary(BinaryOp::Add), &[y, x], Like::f32(&out));
    c.output(sum);
    let (graph, inputs) = c.parts();
    check(&graph, &inputs, &[DType::F32, DType::U8, DType::F32]);

    // A scale for each channel is no property of a tensor at the door; two grids are two tensors; an input that is an output.
    let mut r = Random::new(4);
    let mut c = Case::new();
    let along = Quant { scales: vec![0.01, 0.02], zero_points: vec![0, 0], axis: 1 };
    let a = c.named_input("a", r.array(DType::F32, &[3, 2]), None);
    let b = c.named_input("b", r.array(DType::F32, &[3, 2]), None);
    let d = c.named_input("d", r.array(DType::F32, &[3, 2]), None);
    let qa = c.quantize(a, DType::I8, along);
    let qb = [0.01, 0.02].map(|scale| c.quantize(b, DType::I8, Quant::per_tensor(scale, 0)));
    let qd = c.quantize(d, DType::I8, Quant::per_tensor(0.01, 0));
    for q in [qa, qb[0], qb[1], qd] {
        let v = c.dequantize(q);
        let v = c.node(Op::unary(UnaryOp::Neg), &[v], Like::f32(&[3, 2]));
        c.output(v);
    }
    c.output(d);
    let (graph, inputs) = c.parts();
    check(&graph, &inputs, &[DType::F32; 8]);
}

#[test]
fn several_readers_share_the_integers_and_a_default_is_one_of_them() {
    let mut r = Random::new(6);
    let mut c = Case::new();
    let x = c.named_input("x", r.array(DType::F32, &[2, 7]), None);
    for _ in 0..2 {
        let q = c.quantize(x, DType::I8, Quant::per_tensor(0.015, -4));
        let v = c.dequantize(q);
        let v = c.node(Op::unary(UnaryOp::Abs), &[v], Like::f32(&[2, 7]));
        let q = c.quantize(v, DType::I8, Quant::per_tensor(0.01, -100));
        let v = c.dequantize(q);
        c.output(v);
    }
    let (mut graph, inputs) = c.parts();
    check(&graph, &inputs, &[DType::I8; 3]);
    let value = inputs["x"].clone();
    graph.defaults.insert(graph.inputs[0], value.clone().into());
    let plan = compiled(&graph, true);
    let (t, door) = (plan.graph.inputs[0], &plan.graph);
    let quant = door.tensors[t].quant.as_ref().expect("it is quantised");
    assert_eq!(*door.defaults[&t], quantised(&value, quant, DType::I8));
    let integers = run(&plan.kgl, &[("x".to_string(), quantised(&value, quant, DType::I8))].into());
    assert_eq!(run(&plan.kgl, &BTreeMap::new()), integers);
}

#[test]
fn a_trained_model() {
    let options = Options { dims: [("batch".to_string(), 1)].into(), ..Options::default() };
    let graph = import(glyphs::INT8, None, &options).expect("imports");
    let images = &parse_npz(glyphs::VECTORS)["image"];
    for i in 0..images.shape[0] {
        check(&graph, &[("image".to_string(), row(images, i))].into(), &[DType::I8, DType::I8]);
    }
}
