//! What the passes search for must not cost more than the file is worth: graphs of a few thousand nodes, and products of
//! constants, that once took a minute or more. The limit is wide, for busy machines; what is quadratic is far beyond it.

use std::time::{Duration, Instant};

use kinglet_compiler::{Options, compile, import};
use kinglet_onnx::{DataType, ModelProto};
use kinglet_tests::small_onnx::{Builder, Value, floats, ints, reals};

/// Nodes of a graph.
const NODES: usize = 5000;
const LIMIT: Duration = Duration::from_secs(15);

fn compiles_in_time(what: &str, model: &ModelProto) {
    let begin = Instant::now();
    let options = Options::default();
    let graph = import(&model.to_bytes(), None, &options).unwrap_or_else(|e| panic!("{what}: {e}"));
    compile(graph, &options).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(begin.elapsed() < LIMIT, "{what}: {:?}", begin.elapsed());
}

/// A linear layer from 1 to many over a few frames: an impulse in a frame is answered in that frame alone.
#[test]
fn products_over_few_frames_are_no_memories() {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[1, 8, 1]).constant(floats("w", &[1, 1024]));
    compiles_in_time("a layer", &b.node("MatMul", "x w", "y", &[]).outputs("y").build());

    let mut b = Builder::default();
    b.input("x", DataType::Float, &[8, 1]);
    let mut joined = Vec::new();
    for i in 0..NODES {
        b.constant(floats(&format!("k{i}"), &[4])).node("Mul", &format!("x k{i}"), &format!("a{i}"), &[]);
        joined.push(format!("a{i}"));
    }
    b.node("Concat", &joined.join(" "), "y", &[("axis", Value::I(1))]).outputs("y");
    compiles_in_time("products joined", &b.build());
}

/// A bank of filters as long as the series: linear and the same in every frame, but no Legendre memory.
#[test]
fn filters_are_no_memories() {
    let mut w = floats("w", &[512, 1, 256]);
    // The answer to an impulse begins as that of some memory may.
    w.float_data[255] = 0.01;
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[1, 1, 256]).constant(w);
    let pads = [("pads", Value::Is(&[255, 0]))];
    compiles_in_time("filters", &b.node("Conv", "x w", "y", &pads).outputs("y").build());
}

#[test]
fn chains_take_time_in_proportion() {
    // Factors of a series.
    let mut b = Builder::default();
    b.input("x0", DataType::Float, &[1, 64]).constant(floats("k", &[64]));
    (0..NODES).for_each(|i| _ = b.node("Mul", &format!("x{i} k"), &format!("x{}", i + 1), &[]));
    compiles_in_time("factors", &b.outputs(&format!("x{NODES}")).build());

    // Scales and biases behind a norm.
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[1, 8]).constant(floats("k", &[8])).constant(floats("w", &[8]));
    b.node("LayerNormalization", "x w", "x0", &[]);
    for i in 0..NODES {
        b.node(["Mul", "Add"][i % 2], &format!("x{i} k"), &format!("x{}", i + 1), &[]);
    }
    compiles_in_time("scales and biases", &b.outputs(&format!("x{NODES}")).build());

    // Products that are split.
    let mut b = Builder::default();
    b.input("x0", DataType::Float, &[1, 4]).constant(floats("w", &[4, 8]));
    b.constant(ints("halves", DataType::Int64, &[2], &[4, 4]));
    for i in 0..NODES / 3 {
        b.node("MatMul", &format!("x{i} w"), &format!("p{i}"), &[]);
        b.node("Split", &format!("p{i} halves"), &format!("a{i} b{i}"), &[("axis", Value::I(1))]);
        b.node("Add", &format!("a{i} b{i}"), &format!("x{}", i + 1), &[]);
    }
    compiles_in_time("split products", &b.outputs(&format!("x{}", NODES / 3)).build());

    // Padded convolutions that are cut.
    let mut b = Builder::default();
    b.input("x0", DataType::Float, &[1, 2, 8]).constant(floats("w", &[2, 2, 3]));
    b.constant(ints("pads", DataType::Int64, &[6], &[0, 0, 2, 0, 0, 2]));
    for (name, v) in [("from", 0), ("to", 8), ("axis", 2)] {
        b.constant(ints(name, DataType::Int64, &[1], &[v]));
    }
    for i in 0..NODES / 3 {
        b.node("Pad", &format!("x{i} pads"), &format!("p{i}"), &[]).node(
            "Conv",
            &format!("p{i} w"),
            &format!("c{i}"),
            &[],
        );
        b.node("Slice", &format!("c{i} from to axis"), &format!("x{}", i + 1), &[]);
    }
    compiles_in_time("cut convolutions", &b.outputs(&format!("x{}", NODES / 3)).build());
}

/// `exp(Δ·A)·h + x^(2^n)·B` in the body of a loop: a product of as many factors as there are atoms.
#[test]
fn squares_of_squares_are_no_scan() {
    let mut body = Builder::default();
    body.formals("h x0").constant(floats("A", &[8, 4]));
    (0..100).for_each(|i| _ = body.node("Mul", &format!("x{i} x{i}"), &format!("x{}", i + 1), &[]));
    body.node("Mul", "x0 A", "da", &[]).node("Exp", "da", "e", &[]).node("Mul", "e h", "kept", &[]);
    body.node("Mul", "x100 A", "new", &[]).node("Add", "kept new", "next", &[]).node("Mul", "next A", "r", &[]);
    body.constant(ints("last", DataType::Int64, &[1], &[1]));
    body.node("ReduceSum", "r last", "y", &[("keepdims", Value::I(0))]).outputs("next y");
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[6, 8, 1]).input("start", DataType::Float, &[8, 4]);
    let attributes = [("num_scan_inputs", Value::I(1)), ("body", body.body())];
    compiles_in_time("squares", &b.node("Scan", "start x", "end ys", &attributes).outputs("ys").build());
}

/// Many recurrences: each is found without a look at all the others.
#[test]
fn many_recurrences_take_time_in_proportion() {
    let mut b = Builder::default();
    b.input("x0", DataType::Float, &[8, 1]).input("B", DataType::Float, &[1, 4]);
    b.constant(floats("minus", &[8, 4]))
        .constant(ints("last", DataType::Int64, &[1], &[1]))
        .constant(reals("one", &[1.0]));
    let n = NODES / 10;
    for i in 0..n {
        b.input(&format!("h{i}"), DataType::Float, &[8, 4]);
        b.node("Softplus", &format!("x{i}"), &format!("d{i}"), &[]);
        b.node("Mul", &format!("d{i} minus"), &format!("da{i}"), &[]).node(
            "Exp",
            &format!("da{i}"),
            &format!("e{i}"),
            &[],
        );
        b.node("Mul", &format!("e{i} h{i}"), &format!("kept{i}"), &[]);
        b.node("Mul", &format!("d{i} B"), &format!("db{i}"), &[]);
        b.node("Mul", &format!("db{i} x{i}"), &format!("new{i}"), &[]);
        b.node("Add", &format!("kept{i} new{i}"), &format!("next{i}"), &[]);
        b.node("Mul", &format!("next{i} B"), &format!("r{i}"), &[]);
        b.node("ReduceSum", &format!("r{i} last"), &format!("x{}", i + 1), &[("keepdims", Value::I(1))]);
        b.outputs(&format!("next{i}"));
    }
    compiles_in_time("frames", &b.outputs(&format!("x{n}")).build());
}
