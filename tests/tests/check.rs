//! The check of a run against the graph of its file finds a plan that computes something else. A plan goes wrong on purpose by
//! being compiled from a graph that is not quite the one it is checked against.

use std::collections::{BTreeMap, HashMap};

use kinglet::{DType, Inline, Model};
use kinglet_compiler::array::Array;
use kinglet_compiler::check::{Checked, Disagreement, Recorder};
use kinglet_compiler::graph::{
    BinaryOp, Body, Graph, Layout, Node, Op, PadMode, PoolKind, Post, Quant, Tensor, TensorId, UnaryOp, Window,
};
use kinglet_compiler::{Options, compile, import};
use kinglet_models::zoo::{self, Form, Source};
use kinglet_tests::one_node::{Case, Like};
use kinglet_tests::{Aligned, Random, run_with};

type Inputs = BTreeMap<String, Array>;

/// Compiles and runs `compiled`, and checks the run against `file`.
fn check(file: &Graph, compiled: &Graph, inputs: &Inputs) -> Result<Checked, Box<Disagreement>> {
    let compiled = compile(compiled.clone(), &Options::default()).unwrap_or_else(|e| panic!("{e}"));
    let kgl = Aligned::copy(&compiled.kgl);
    let mut recorder = Recorder::new(&compiled, Model::load(kgl.as_ref()).expect("the compiler writes valid files"));
    run_with(&compiled.kgl, inputs, &Inline, &mut recorder);
    let given: Vec<Array> = file.inputs.iter().map(|&t| inputs[&file.tensors[t].name].clone()).collect();
    recorder.check(file, &given)
}

/// A plan of `graph` holds against `graph`, every step checked, and what `spoil` makes of it does not.
fn assert_found(what: &str, graph: &Graph, inputs: &Inputs, spoil: impl Fn(&mut Graph)) {
    let mut spoilt = graph.clone();
    spoil(&mut spoilt);
    for graph in [graph, &spoilt] {
        let held = check(graph, graph, inputs).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(held.unchecked.is_empty() && held.alone > 0, "{what}: {held:?}");
    }
    let found = check(graph, &spoilt, inputs);
    assert!(found.is_err(), "{what} was not found: {found:?}");
}

/// A constant with one element changed.
fn nudge(graph: &mut Graph, t: TensorId, by: i64) {
    let value = graph.tensors[t].value.clone().expect("it is constant");
    let mut v = value.ints().into_owned();
    let middle = v.len() / 2;
    v[middle] += if v[middle] > 0 { -by } else { by };
    graph.tensors[t].value = Some(Array::int(value.dtype, &value.shape, v).into());
}

/// Makes `spoil` of the node that computes `t`.
fn change(graph: &mut Graph, t: TensorId, spoil: impl Fn(&mut Op)) {
    let node = graph.nodes.iter_mut().find(|n| n.output == t).expect("it is computed");
    let before = node.op.clone();
    spoil(&mut node.op);
    assert_ne!(node.op, before);
}

fn quant(scale: f32, zero: i32) -> Quant {
    Quant::per_tensor(scale, zero)
}

/// Two convolutions of quantised tensors with a residual, a chain of functions, pooling, and a head in float. The names are
/// those of tensors that the tests change.
fn network() -> (Graph, Inputs, BTreeMap<&'static str, TensorId>) {
    let mut r = Random::new(5);
    let mut c = Case::new();
    let mut names = BTreeMap::new();
    let window = |k: usize, stride: usize, pad: i64| Window {
        kernel: vec![k; 2],
        strides: vec![stride; 2],
        dilations: vec![1; 2],
        pads_begin: vec![pad; 2],
        pads_end: vec![pad; 2],
    };
    let layout = Layout::ChannelsFirst;
    let wide = [1, 8, 6, 6];
    let mut conv = |c: &mut Case, x: TensorId, channels: usize, scale: f32| {
        let w = c.constant(r.array(DType::I8, &[8, channels, 3, 3]), Some(quant(0.01, 0)));
        let bias: Vec<i64> = (0..8).map(|_| r.below(2000) as i64 - 1000).collect();
        let b = c.constant(Array::int(DType::I32, &[8], bias), Some(quant(scale * 0.01, 0)));
        let (x, dw, db) = (c.dequantize(x), c.dequantize(w), c.dequantize(b));
        let op = Op::Conv { window: window(3, 1, 1), groups: 1, layout, post: Post::default() };
        (c.node(op, &[x, dw, db], Like::f32(&wide)), w, b)
    };
    let mut values = Random::new(6);
    let x = c.input(values.array(DType::I8, &[1, 4, 6, 6]), Some(quant(0.02, 3)));
    let (y, w, b) = conv(&mut c, x, 4, 0.02);
    names.extend([("weights", w), ("bias", b)]);
    let y = c.node(Op::unary(UnaryOp::Relu), &[y], Like::f32(&wide));
    names.insert("relu", y);
    let first = c.quantize(y, DType::I8, quant(0.06, -100));
    let (y, _, _) = conv(&mut c, first, 8, 0.06);
    let second = c.quantize(y, DType::I8, quant(0.5, 7));
    names.insert("second", second);
    let (p, q) = (c.dequantize(first), c.dequantize(second));
    let sum = c.node(Op::Binary(BinaryOp::Add), &[p, q], Like::f32(&wide));
    names.insert("sum", sum);
    let sum = c.quantize(sum, DType::I8, quant(0.6, 0));
    let y = c.dequantize(sum);
    let y = c.node(Op::unary(UnaryOp::Sigmoid), &[y], Like::f32(&wide));
    names.insert("sigmoid", y);
    let between = c.quantize(y, DType::U8, quant(0.02, 0));
    names.insert("between", between);
    let y = c.dequantize(between);
    names.insert("read", y);
    let factor = c.constant(Array::scalar(1.7), None);
    let y = c.node(Op::Binary(BinaryOp::Mul), &[y, factor], Like::f32(&wide));
    let y = c.quantize(y, DType::U8, quant(0.007, 0));
    let y = c.dequantize(y);
    let half = [1, 8, 3, 3];
    let pool = Op::Pool { kind: PoolKind::Max, window: window(2, 2, 0), layout };
    let y = c.node(pool, &[y], Like::f32(&half));
    names.insert("pool", y);
    let y = c.node(Op::Transpose { perm: vec![0, 2, 3, 1] }, &[y], Like::f32(&[1, 3, 3, 8]));
    names.insert("transposed", y);
    let y = c.node(Op::Reshape, &[y], Like::f32(&[9, 8]));
    let y = c.node(Op::Softmax { axis: 1, log: false }, &[y], Like::f32(&[9, 8]));
    c.output(y);
    let (graph, inputs) = c.parts();
    (graph, inputs, names)
}

#[test]
fn whatever_is_changed_in_a_quantised_network_is_found() {
    let (graph, inputs, t) = network();
    let found = |what: &str, spoil: &dyn Fn(&mut Graph)| assert_found(what, &graph, &inputs, spoil);
    found("a weight", &|g| nudge(g, t["weights"], 60));
    found("a bias", &|g| nudge(g, t["bias"], 900));
    found("an activation", &|g| change(g, t["relu"], |op| *op = Op::unary(UnaryOp::Identity)));
    found("a residual", &|g| change(g, t["sum"], |op| *op = Op::Binary(BinaryOp::Sub)));
    found("a function", &|g| change(g, t["sigmoid"], |op| *op = Op::unary(UnaryOp::Tanh)));
    found("a scale", &|g| g.tensors[t["second"]].quant = Some(quant(0.45, 7)));
    found("a scale inside a table", &|g| g.tensors[t["between"]].quant = Some(quant(0.013, 0)));
    found("a rounding left out inside a table", &|g| {
        let read = t["read"];
        g.replace_uses(&HashMap::from([(read, t["sigmoid"])]));
    });
    found("a pooling", &|g| {
        change(g, t["pool"], |op| {
            let Op::Pool { kind, .. } = op else { unreachable!("it is a pooling") };
            *kind = PoolKind::Average;
        })
    });
    found("an order of axes", &|g| {
        change(g, t["transposed"], |op| *op = Op::Transpose { perm: vec![0, 3, 2, 1] });
    });
}

/// A constant that comes into a quantised tensor by padding, on the grid of what it is padded to instead of the file's.
#[test]
fn a_padding_on_another_grid_is_found() {
    let padded = |value: f64| {
        let mut c = Case::new();
        let x = c.input(Random::new(3).array(DType::I8, &[1, 5, 5, 2]), Some(quant(0.02, 10)));
        let y = c.dequantize(x);
        let pad = Op::Pad { mode: PadMode::Constant, before: vec![0, 1, 1, 0], after: vec![0, 1, 1, 0], value };
        let y = c.node(pad, &[y], Like::f32(&[1, 7, 7, 2]));
        let y = c.quantize(y, DType::I8, quant(0.1, -3));
        c.output(y);
        c.parts()
    };
    // The largest value on the grid of the input, and one beyond it.
    let (on_grid, inputs) = padded((127.0 - 10.0) * f64::from(0.02f32));
    assert!(check(&on_grid, &on_grid, &inputs).is_ok_and(|c| c.unchecked.is_empty()));
    let wrong = check(&padded(7.0).0, &on_grid, &inputs).expect_err("the padding is another");
    assert_eq!((wrong.at, wrong.lowest, wrong.highest), (0, 67.0, 67.0), "{wrong}");
}

/// Sequence models in forms that become a recurrence of few steps: checked over the whole sequence against what the file has.
#[test]
fn a_recurrence_is_checked_against_the_form_of_the_file() {
    for (name, forms, step) in [
        ("netmamba-tiny", &[Form::Scan, Form::Loop, Form::Unrolled][..], "SelectiveScan"),
        ("lmuformer-causal-tiny", &[Form::Scan, Form::Conv, Form::Fft], "LegendreMemory"),
    ] {
        for &form in forms {
            let options = zoo::Options { form: Some(form), ..Default::default() };
            let built = zoo::build(name, &options, &Source::Seed(7)).unwrap_or_else(|e| panic!("{name}: {e}"));
            let graph = import(&built.model.to_bytes(), None, &Options::default()).expect("imports");
            let mut r = Random::new(3);
            let of = |&t: &TensorId| {
                let t = &graph.tensors[t];
                (t.name.clone(), r.array(t.dtype, &t.shape))
            };
            let inputs: Inputs = graph.inputs.iter().map(of).collect();
            let compiled = compile(graph.clone(), &Options::default()).expect("compiles");
            assert!(compiled.report.steps.iter().any(|s| s.kind == step), "{name}, {form}: no {step}");
            let held = check(&graph, &graph, &inputs).unwrap_or_else(|e| panic!("{name}, {form}: {e}"));
            assert!(held.unchecked.is_empty(), "{name}, {form}: {held:?}");
            let weights = weights(&graph);
            assert!(weights.len() > 5, "{name}, {form}: {} weights", weights.len());
            for t in weights {
                let mut other = graph.clone();
                scale(&mut other.tensors[t], 1.02);
                let found = check(&other, &graph, &inputs);
                assert!(found.is_err(), "{name}, {form}: `{}` times 1.02 was not found", graph.tensors[t].name);
            }
            if let Some(other) = without_decay(&graph) {
                assert!(check(&other, &graph, &inputs).is_err(), "{name}, {form}: another body was not found");
            } else {
                assert!(!matches!(form, Form::Scan | Form::Loop), "{name}, {form}: no loop");
            }
        }
    }
}

/// Constants of products.
fn weights(graph: &Graph) -> Vec<TensorId> {
    let product = |n: &&Node| matches!(n.op, Op::MatMul { .. } | Op::Conv { .. });
    let constant = |t: &TensorId| graph.value(*t).is_some_and(|v| v.dtype == DType::F32);
    let mut weights: Vec<TensorId> =
        graph.nodes.iter().filter(product).filter_map(|n| n.inputs[1]).filter(constant).collect();
    weights.sort_unstable();
    weights.dedup();
    weights
}

fn scale(tensor: &mut Tensor, by: f64) {
    let value = tensor.value.take().expect("it is constant");
    tensor.value = Some(Array::f32(&value.shape, value.reals().iter().map(|v| v * by).collect()).stored().into());
}

/// The graph with another sum in the body of its first loop, if it has one.
fn without_decay(graph: &Graph) -> Option<Graph> {
    let mut other = graph.clone();
    let body = other.nodes.iter_mut().find_map(|n| match &mut n.op {
        Op::Loop(body) => Some(body),
        _ => None,
    })?;
    let sum = body.graph.nodes.iter_mut().find(|n| n.op == Op::Binary(BinaryOp::Add)).expect("a recurrence adds");
    sum.op = Op::Binary(BinaryOp::Sub);
    Some(other)
}

/// `h ← quantised(h · decay + x)` over six trips: what is rounded inside is seen by nobody.
fn quantised_loop(decay: f64) -> (Graph, Inputs) {
    let tensor = |name: &str, dtype: DType, quant: Option<Quant>| Tensor {
        name: name.into(),
        dtype,
        shape: vec![4],
        quant,
        value: None,
    };
    let mut inner = Graph::default();
    let h = inner.add_tensor(tensor("h", DType::F32, None));
    let x = inner.add_tensor(tensor("row", DType::F32, None));
    let decay = inner.add_constant("decay", Array::scalar(decay));
    let kept = inner.add_tensor(tensor("kept", DType::F32, None));
    let sum = inner.add_tensor(tensor("sum", DType::F32, None));
    let rounded = inner.add_tensor(tensor("rounded", DType::I8, Some(quant(0.05, 0))));
    let next = inner.add_tensor(tensor("next", DType::F32, None));
    for (op, inputs, output) in [
        (Op::Binary(BinaryOp::Mul), vec![Some(h), Some(decay)], kept),
        (Op::Binary(BinaryOp::Add), vec![Some(kept), Some(x)], sum),
        (Op::Quantize, vec![Some(sum)], rounded),
        (Op::Dequantize, vec![Some(rounded)], next),
    ] {
        inner.nodes.push(Node::new(op, inputs, output, vec![inner.tensors[output].name.clone()]));
    }
    (inner.inputs, inner.outputs) = (vec![h, x], vec![next, next]);
    let mut c = Case::new();
    let start = c.constant(Array::f32(&[4], vec![0.0; 4]), None);
    let x = c.input(Random::new(9).array(DType::F32, &[6, 4]), None);
    let body = Body { graph: inner, trips: 6, carried: 1, scanned: 1, ends: false };
    let like = vec![Like::f32(&[4]), Like::f32(&[6, 4])];
    let outputs = c.nodes(Op::Loop(Box::new(body)), vec![Some(start), Some(x)], like);
    c.output(outputs[1]);
    c.parts()
}

#[test]
fn roundings_in_the_body_of_a_loop_leave_its_steps_unchecked_where_they_differ() {
    let (graph, inputs) = quantised_loop(0.5);
    let held = check(&graph, &graph, &inputs).expect("it is the same graph");
    assert!(held.unchecked.is_empty() && held.alone + held.grouped > 1, "{held:?}");
    let other = check(&quantised_loop(0.8).0, &graph, &inputs).expect("nobody can tell");
    assert!(other.unchecked.len() == held.alone + held.grouped, "{other:?}");
    assert!(other.unchecked[0].reason.contains("roundings"), "{other:?}");
}
