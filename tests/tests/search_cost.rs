//! What the importer and the passes search for must not cost more than the file is worth: graphs of a few thousand nodes, and
//! products of constants, that once took a minute or more. The limit is wide, for busy machines; what is quadratic is far beyond
//! it. Where a quadratic search takes seconds only, a graph is held against one of four times its nodes.

use std::time::{Duration, Instant};

use kinglet_compiler::{Options, compile, import, passes};
use kinglet_onnx::{DataType, ModelProto};
use kinglet_tests::small_onnx::{Builder, Value, floats, ints, reals};

/// Nodes of a graph.
const NODES: usize = 5000;
const LIMIT: Duration = Duration::from_secs(15);

/// Times below this say nothing: they are taken for this long.
const FLOOR: Duration = Duration::from_millis(150);

fn compiles_in_time(what: &str, model: &ModelProto) -> Duration {
    let bytes = model.to_bytes();
    let begin = Instant::now();
    let options = Options::default();
    let graph = import(&bytes, None, &options).unwrap_or_else(|e| panic!("{what}: {e}"));
    compile(graph, &options).unwrap_or_else(|e| panic!("{what}: {e}"));
    let time = begin.elapsed();
    assert!(time < LIMIT, "{what}: {time:?}");
    time
}

/// The import and the passes alone: what lives at once must be placed in memory beside all the rest that does.
fn passes_in_time(what: &str, model: &ModelProto) -> Duration {
    let bytes = model.to_bytes();
    let begin = Instant::now();
    let options = Options::default();
    let mut graph = import(&bytes, None, &options).unwrap_or_else(|e| panic!("{what}: {e}"));
    passes::run(&mut graph, &options, &mut |_| {}).unwrap_or_else(|e| panic!("{what}: {e}"));
    begin.elapsed()
}

/// Four times the nodes take about four times as long; where a search is quadratic, sixteen times.
fn takes_time_in_proportion(what: &str, nodes: usize, model: impl Fn(usize) -> ModelProto) {
    in_proportion(what, nodes, |n| compiles_in_time(what, &model(n)));
}

fn in_proportion(what: &str, nodes: usize, time: impl Fn(usize) -> Duration) {
    let (few, many) = (time(nodes).max(FLOOR), time(4 * nodes));
    assert!(many < 8 * few, "{what}: {few:?} for {nodes} nodes, {many:?} for four times as many");
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

/// Weights that are computed, where some input has a default: what they depend on is not looked through for each reader.
#[test]
fn sources_of_weights_are_looked_through_once() {
    for from in ["x", "w"] {
        takes_time_in_proportion(&format!("weights computed from {from}"), NODES / 10, |n| {
            let mut b = Builder::default();
            b.input("x", DataType::Float, &[2, 2]).input("w", DataType::Float, &[2, 2]).constant(floats("w", &[2, 2]));
            let mut last = from.to_string();
            for i in 0..n {
                b.node("Relu", &last, &format!("r{i}"), &[]);
                last = format!("r{i}");
            }
            (0..n).for_each(|i| _ = b.node("Gemm", &format!("x {last}"), &format!("y{i}"), &[]));
            let joined: Vec<String> = (0..n).map(|i| format!("y{i}")).collect();
            b.node("Concat", &joined.join(" "), "ys", &[("axis", Value::I(1))]);
            b.node("Add", "x w", "y", &[]).outputs("ys y").build()
        });
    }
}

/// Quantisations of one tensor that are all alike, side by side and one behind the other.
#[test]
fn twins_of_a_quantisation_take_time_in_proportion() {
    let begin = || {
        let mut b = Builder::default();
        b.input("x", DataType::Float, &[1, 4]).constant(reals("scale", &[0.1]));
        b.constant(ints("zero", DataType::Uint8, &[], &[0])).node("Exp", "x", "d", &[]);
        b
    };
    takes_time_in_proportion("twins", NODES / 2, |n| {
        let mut b = begin();
        for i in 0..n {
            b.node("QuantizeLinear", "d scale zero", &format!("q{i}"), &[]);
            b.node("DequantizeLinear", &format!("q{i} scale zero"), &format!("d{i}"), &[]);
        }
        let joined: Vec<String> = (0..n).map(|i| format!("d{i}")).collect();
        b.node("Concat", &joined.join(" "), "y", &[("axis", Value::I(1))]).outputs("y").build()
    });
    takes_time_in_proportion("pairs", NODES / 2, |n| {
        let mut b = begin();
        let mut last = "d".to_string();
        for i in 0..n {
            b.node("QuantizeLinear", &format!("{last} scale zero"), &format!("q{i}"), &[]);
            last = format!("d{i}");
            b.node("DequantizeLinear", &format!("q{i} scale zero"), &last, &[]);
        }
        b.node("Relu", &last, "y", &[]).outputs("y").build()
    });
}

#[test]
fn many_outputs_take_time_in_proportion() {
    in_proportion("outputs", NODES, |n| {
        let mut b = Builder::default();
        b.input("x", DataType::Float, &[1, 4]);
        (0..n).for_each(|i| _ = b.node("Relu", "x", &format!("y{i}"), &[]).outputs(&format!("y{i}")));
        passes_in_time("outputs", &b.build())
    });
    in_proportion("quantised inputs", NODES, |n| {
        let mut b = Builder::default();
        b.constant(reals("scale", &[0.1])).constant(ints("zero", DataType::Uint8, &[], &[0]));
        for i in 0..n {
            b.input(&format!("x{i}"), DataType::Uint8, &[1, 4]);
            b.node("DequantizeLinear", &format!("x{i} scale zero"), &format!("d{i}"), &[]);
        }
        let joined: Vec<String> = (0..n).map(|i| format!("d{i}")).collect();
        b.node("Concat", &joined.join(" "), "y", &[("axis", Value::I(1))]).outputs("y");
        passes_in_time("quantised inputs", &b.build())
    });
}

/// Channels that go as one through chains of additions, are joined, and of which half are never read.
#[test]
fn dead_channels_take_time_in_proportion() {
    in_proportion("dead channels", NODES, |n| {
        let mut b = Builder::default();
        b.input("x", DataType::Float, &[1, 4]).constant(floats("w", &[4, 8]));
        b.node("MatMul", "x w", "h0", &[]).node("Relu", "h0", "h1", &[]);
        for i in 2..n {
            b.node("Add", &format!("h{} h{}", i - 1, i - 2), &format!("h{i}"), &[]);
        }
        let joined: Vec<String> = (0..n).map(|i| format!("h{i}")).collect();
        let mut last = floats("v", &[8 * n as i64, 2]);
        last.float_data.iter_mut().enumerate().filter(|(i, _)| i / 2 % 8 < 4).for_each(|(_, v)| *v = 0.0);
        b.node("Concat", &joined.join(" "), "all", &[("axis", Value::I(1))]).constant(last);
        passes_in_time("dead channels", &b.node("MatMul", "all v", "y", &[]).outputs("y").build())
    });
}
