//! What stands between a product and its quantiser is part of the product: every function, constants of the channels,
//! residuals, roundings and poolings, in any order, against the evaluator.

use kinglet::{DType, Model, Region};
use kinglet_compiler::graph::{BinaryOp, Layout, Op, PoolKind, Post, Quant, TensorId, UnaryOp, Window};
use kinglet_compiler::{Compiled, Options, compile};
use kinglet_tests::one_node::{Bound, Case, LOOSE_TIE, Like, SUMS, cases};
use kinglet_tests::{Aligned, Random};
use proptest::prelude::*;

const BYTES: [DType; 2] = [DType::I8, DType::U8];

/// Functions that make an error of their argument at most a few times as large.
const TAME: [(UnaryOp, f32, f32); 23] = [
    (UnaryOp::Identity, 0.0, 0.0),
    (UnaryOp::Neg, 0.0, 0.0),
    (UnaryOp::Abs, 0.0, 0.0),
    (UnaryOp::Erf, 0.0, 0.0),
    (UnaryOp::Relu, 0.0, 0.0),
    (UnaryOp::LeakyRelu, 0.1, 0.0),
    (UnaryOp::LeakyRelu, -0.5, 0.0),
    (UnaryOp::Clip, 0.0, 6.0),
    (UnaryOp::Clip, -0.5, 0.75),
    (UnaryOp::Sigmoid, 0.0, 0.0),
    (UnaryOp::Tanh, 0.0, 0.0),
    (UnaryOp::Gelu, 0.0, 0.0),
    (UnaryOp::GeluTanh, 0.0, 0.0),
    (UnaryOp::HardSigmoid, 0.2, 0.5),
    (UnaryOp::HardSwish, 0.0, 0.0),
    (UnaryOp::Softplus, 0.0, 0.0),
    (UnaryOp::Swish, 1.0, 0.0),
    (UnaryOp::Swish, 1.7, 0.0),
    (UnaryOp::Elu, 0.7, 0.0),
    (UnaryOp::Selu, 1.67, 1.05),
    (UnaryOp::Softsign, 0.0, 0.0),
    (UnaryOp::Affine, -1.5, 0.25),
    (UnaryOp::Mish, 0.0, 0.0),
];

/// Functions with poles, gaps and steep places: a sum that is 0 in f32 is next to it in f64, on either side, and what is large
/// leaves the next function few digits. Only by themselves.
const STEEP: [(UnaryOp, f32, f32); 18] = [
    (UnaryOp::Sqrt, 0.0, 0.0),
    (UnaryOp::Reciprocal, 0.0, 0.0),
    (UnaryOp::Exp, 0.0, 0.0),
    (UnaryOp::Log, 0.0, 0.0),
    (UnaryOp::Pow, 0.5, 0.0),
    (UnaryOp::Pow, 2.0, 0.0),
    (UnaryOp::Pow, 3.0, 0.0),
    (UnaryOp::Sin, 0.0, 0.0),
    (UnaryOp::Cos, 0.0, 0.0),
    (UnaryOp::Tan, 0.0, 0.0),
    (UnaryOp::Asin, 0.0, 0.0),
    (UnaryOp::Acos, 0.0, 0.0),
    (UnaryOp::Atan, 0.0, 0.0),
    (UnaryOp::Sinh, 0.0, 0.0),
    (UnaryOp::Cosh, 0.0, 0.0),
    (UnaryOp::Asinh, 0.0, 0.0),
    (UnaryOp::Acosh, 0.0, 0.0),
    (UnaryOp::Atanh, 0.0, 0.0),
];

/// The bound of chains: a sum of magnitude 100 may meet its like, and a function squeeze the difference to about 1.
const CHAINS: Bound = Bound::OfLargest(1e-4);

/// Functions that jump: the evaluator's f64 may lie on the other side. Only by themselves.
const JUMPS: [UnaryOp; 6] =
    [UnaryOp::Floor, UnaryOp::Ceil, UnaryOp::Round, UnaryOp::Sign, UnaryOp::Not, UnaryOp::BitwiseNot];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Product {
    Dense,
    Grouped,
    Depthwise,
    Transposed,
    Matrix,
}

const PRODUCTS: [Product; 5] =
    [Product::Dense, Product::Grouped, Product::Depthwise, Product::Transposed, Product::Matrix];

/// Something between the sum and the last quantisation.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Link {
    Tame,
    /// A clip whose bounds cross, which is no clamp.
    Crossed,
    /// A constant of each channel.
    Channels,
    /// A constant scale and shift of each channel.
    ScaleShift,
    /// One number.
    Number,
    /// Another tensor.
    Residual,
    /// Quantised and back.
    Rounded,
    /// The largest of a window.
    MaxPool,
}

const LINKS: [Link; 9] = [
    Link::Tame,
    Link::Tame,
    Link::Crossed,
    Link::Channels,
    Link::ScaleShift,
    Link::Number,
    Link::Residual,
    Link::Rounded,
    Link::MaxPool,
];

/// A tensor under construction: its shape, and the axis of its channels.
struct Value {
    t: TensorId,
    shape: Vec<usize>,
    axis: usize,
    /// A scale in which its elements span bytes.
    unit: f64,
}

fn window(kernel: usize, stride: usize, pad: i64) -> Window {
    let of = |n| vec![n; 2];
    Window {
        kernel: of(kernel),
        strides: of(stride),
        dilations: of(1),
        pads_begin: vec![pad; 2],
        pads_end: vec![pad; 2],
    }
}

/// A product of bytes (or of floats) with constant weights.
fn product(r: &mut Random, c: &mut Case, kind: Product, quantised: bool) -> Value {
    let layout = Layout::ChannelsFirst;
    let channels = r.pick(&[1, 3, 8, 9, 33]);
    let (groups, inputs, outputs) = match kind {
        Product::Grouped => (3, 3 * r.pick(&[1, 2]), 3 * r.pick(&[1, 4])),
        Product::Depthwise => (channels.max(2), channels.max(2), channels.max(2)),
        _ => (1, r.pick(&[1, 5, 12]), channels),
    };
    let n = r.between(3, 6);
    let w = window(3, 1, 1);
    let post = Post::default();
    let (op, xs, ws, ys, axis) = match kind {
        Product::Matrix => {
            let op = Op::MatMul { transpose_a: false, transpose_b: false, post };
            (op, vec![2, n, inputs], vec![inputs, outputs], vec![2, n, outputs], 2)
        }
        Product::Transposed => {
            let op = Op::ConvTranspose { window: window(3, 2, 1), groups, layout, post };
            let ys = layout.shape(1, outputs, &[2 * n - 1; 2]);
            (op, layout.shape(1, inputs, &[n; 2]), vec![inputs, outputs, 3, 3], ys, 1)
        }
        _ => {
            let op = Op::Conv { window: w, groups, layout, post };
            let ys = layout.shape(2, outputs, &[n; 2]);
            (op, layout.shape(2, inputs, &[n; 2]), vec![outputs, inputs / groups, 3, 3], ys, 1)
        }
    };
    let terms = ws.iter().product::<usize>() / outputs;
    let mut operand = |r: &mut Random, constant: bool, shape: &[usize]| {
        if !quantised {
            return c.operand(constant, r.array(DType::F32, shape), None);
        }
        let dtype = r.pick(&BYTES);
        let q = r.quant(dtype, 0.004);
        let t = c.operand(constant, r.array(dtype, shape), Some(q));
        c.dequantize(t)
    };
    let inputs = [operand(r, false, &xs), operand(r, true, &ws)];
    let t = c.node(op, &inputs, Like::f32(&ys));
    Value { t, shape: ys, axis, unit: (terms as f64).sqrt() * 0.03 }
}

fn quantised(r: &mut Random, c: &mut Case, v: &Value) -> TensorId {
    let dtype = r.pick(&BYTES);
    let q = r.quant(dtype, v.unit);
    c.quantize(v.t, dtype, q)
}

fn combined(r: &mut Random, c: &mut Case, v: &mut Value, other: TensorId, op: BinaryOp) {
    let swapped = op != BinaryOp::PRelu && op != BinaryOp::Div && r.once_in(2);
    let operands = if swapped { [other, v.t] } else { [v.t, other] };
    v.t = c.node(Op::Binary(op), &operands, Like::f32(&v.shape));
}

/// Adds one more link.
fn link(r: &mut Random, c: &mut Case, v: &mut Value, link: Link) {
    let simple = [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Min, BinaryOp::Max];
    let along: Vec<usize> = (0..v.shape.len()).map(|d| if d == v.axis { v.shape[d] } else { 1 }).collect();
    match link {
        Link::Tame => {
            let (op, alpha, beta) = r.pick(&TAME);
            v.t = c.node(Op::Unary { op, alpha, beta }, &[v.t], Like::f32(&v.shape));
        }
        Link::Crossed => {
            let op = Op::Unary { op: UnaryOp::Clip, alpha: 1.0, beta: -1.0 };
            v.t = c.node(op, &[v.t], Like::f32(&v.shape));
        }
        Link::Channels | Link::Number => {
            let shape =
                if link == Link::Number { vec![] } else { along[if r.once_in(2) { v.axis } else { 0 }..].to_vec() };
            let other = c.constant(r.array(DType::F32, &shape), None);
            let op = r.pick(&[&simple[..], &[BinaryOp::PRelu, BinaryOp::Div]].concat());
            combined(r, c, v, other, op);
        }
        Link::ScaleShift => {
            let constants = [(); 2].map(|()| c.constant(r.array(DType::F32, &along), None));
            v.t = c.node(Op::ScaleShift, &[v.t, constants[0], constants[1]], Like::f32(&v.shape));
        }
        Link::Residual => {
            let other = if r.once_in(3) {
                c.input(r.array(DType::F32, &v.shape), None)
            } else {
                let dtype = r.pick(&[DType::I8, DType::U8, DType::I16]);
                let q = r.quant(dtype, v.unit);
                let x = c.input(r.array(dtype, &v.shape), Some(q));
                c.dequantize(x)
            };
            let op = r.pick(&simple);
            combined(r, c, v, other, op);
        }
        Link::Rounded => {
            let q = quantised(r, c, v);
            v.t = c.dequantize(q);
        }
        Link::MaxPool if v.axis == 1 => {
            let (stride, pad) = (r.between(1, 2), r.below(2));
            let kernel = 2.min(v.shape[2] + 2 * pad);
            for d in 2..4 {
                v.shape[d] = (v.shape[d] + 2 * pad - kernel) / stride + 1;
            }
            let op = Op::Pool {
                kind: PoolKind::Max,
                window: window(kernel, stride, pad as i64),
                layout: Layout::ChannelsFirst,
            };
            v.t = c.node(op, &[v.t], Like::f32(&v.shape));
        }
        Link::MaxPool => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(1500), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn chains(
        seed: u64,
        kind in prop::sample::select(&PRODUCTS[..]),
        integer in prop::bool::weighted(0.85),
        links in prop::collection::vec(prop::sample::select(&LINKS[..]), 0..6),
        result in 0..8,
    ) {
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let mut v = product(&mut r, &mut c, kind, integer);
        for &l in &links {
            link(&mut r, &mut c, &mut v, l);
        }
        let y = match result {
            0 => v.t,
            // Sixteen bits leave f32 few digits: only what is exact up to there.
            1 if links.is_empty() => {
                let q = r.quant(DType::I16, v.unit);
                c.quantize(v.t, DType::I16, q)
            }
            _ => quantised(&mut r, &mut c, &v),
        };
        c.output(y);
        c.check(CHAINS, LOOSE_TIE);
    }
}

/// Kinds of the steps but for those that only move elements.
fn kinds(c: &Compiled) -> Vec<&str> {
    c.report.steps.iter().map(|s| s.kind.as_str()).filter(|k| *k != "Copy").collect()
}

/// Whether any f32 lies in the arena.
fn holds_floats(c: &Compiled) -> bool {
    let file = Aligned::copy(&c.kgl);
    let model = Model::load(file.as_ref()).expect("the compiler writes valid files");
    (0..model.tensor_count()).map(|i| model.tensor(i)).any(|t| t.0.region == Region::Arena && t.dtype() == DType::F32)
}

/// A product, what `build` adds to it, and a quantisation if the product is one of bytes: compiled, without and with.
fn both(kind: Product, build: impl Fn(&mut Random, &mut Case, &mut Value)) -> [Compiled; 2] {
    [false, true].map(|integer| {
        let mut r = Random::new(5);
        let mut c = Case::new();
        let mut v = product(&mut r, &mut c, kind, integer);
        build(&mut r, &mut c, &mut v);
        let y = if integer { quantised(&mut r, &mut c, &v) } else { v.t };
        c.output(y);
        c.check(SUMS, LOOSE_TIE);
        compile(c.parts().0, &Options::default()).expect("compiles")
    })
}

/// What is one step in floats is one step in integers, and writes bytes.
fn is_one_step(what: &str, compiled: [Compiled; 2]) {
    let [float, integer] = compiled;
    assert_eq!(kinds(&float).len(), 1, "{what} in floats: {:?}", kinds(&float));
    assert_eq!(kinds(&integer).len(), 1, "{what} in integers: {:?}", kinds(&integer));
    assert!(!holds_floats(&integer), "{what}: floats in the arena");
    assert_eq!(integer.report.float_steps, [], "{what}");
}

#[test]
fn every_function_is_part_of_a_product_of_bytes() {
    let mut functions = TAME.to_vec();
    functions.extend(STEEP);
    functions.extend(JUMPS.map(|op| (op, 0.0, 0.0)));
    let missing: Vec<_> = UnaryOp::ALL.iter().filter(|op| !functions.iter().any(|(f, ..)| f == *op)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for (op, alpha, beta) in functions {
        for kind in PRODUCTS {
            // A float product behind a pole may be any number, and behind a jump any of two.
            let float_is_wild = STEEP.contains(&(op, alpha, beta)) || JUMPS.contains(&op);
            let build = |_: &mut Random, c: &mut Case, v: &mut Value| {
                v.t = c.node(Op::Unary { op, alpha, beta }, &[v.t], Like::f32(&v.shape));
            };
            let what = format!("{op:?} behind {kind:?}");
            if float_is_wild {
                let mut r = Random::new(5);
                let mut c = Case::new();
                let mut v = product(&mut r, &mut c, kind, true);
                build(&mut r, &mut c, &mut v);
                let y = quantised(&mut r, &mut c, &v);
                c.output(y);
                c.check(SUMS, LOOSE_TIE);
                let compiled = compile(c.parts().0, &Options::default()).expect("compiles");
                assert_eq!((kinds(&compiled).len(), holds_floats(&compiled)), (1, false), "{what}");
            } else {
                is_one_step(&what, both(kind, build));
            }
        }
    }
}

#[test]
fn what_stands_between_a_product_and_its_quantiser_is_part_of_it() {
    let chains: [(&str, &[Link]); 7] = [
        ("a constant of the channels", &[Link::Channels]),
        ("a number", &[Link::Number]),
        ("a scale and shift", &[Link::ScaleShift]),
        ("a scale and shift, and a function", &[Link::ScaleShift, Link::Tame]),
        ("a constant, and a function", &[Link::Channels, Link::Tame]),
        ("a function, and a constant", &[Link::Tame, Link::Channels]),
        ("three functions", &[Link::Tame, Link::Tame, Link::Tame]),
    ];
    for (what, links) in chains {
        for kind in PRODUCTS {
            for seed in 0..8 {
                let build = |_: &mut Random, c: &mut Case, v: &mut Value| {
                    let mut r = Random::new(seed);
                    links.iter().for_each(|&l| link(&mut r, c, v, l));
                };
                is_one_step(&format!("{what} behind {kind:?}"), both(kind, build));
            }
        }
    }
}

/// The residual is added to the sum as it is, or to the rounded one; it may come in bytes or floats.
#[test]
fn residuals_and_gates_are_part_of_a_product_of_bytes() {
    for op in [BinaryOp::Add, BinaryOp::Mul] {
        for rounded in [false, true] {
            for gated in [false, true] {
                let mut r = Random::new(6);
                let mut c = Case::new();
                let mut v = product(&mut r, &mut c, Product::Dense, true);
                if gated {
                    v.t = c.node(Op::unary(UnaryOp::Sigmoid), &[v.t], Like::f32(&v.shape));
                }
                if rounded {
                    let q = quantised(&mut r, &mut c, &v);
                    v.t = c.dequantize(q);
                }
                let x = c.input(r.array(DType::U8, &v.shape), Some(Quant::per_tensor(0.02, 99)));
                let other = c.dequantize(x);
                v.t = c.node(Op::Binary(op), &[other, v.t], Like::f32(&v.shape));
                let y = quantised(&mut r, &mut c, &v);
                c.output(y);
                c.check(SUMS, LOOSE_TIE);
                let compiled = compile(c.parts().0, &Options::default()).expect("compiles");
                assert!(!holds_floats(&compiled), "{op:?}, rounded: {rounded}, gated: {gated}");
                // A function between two roundings is a table or a function; the sum behind it is rounded once more.
                let steps = if gated && rounded { 2 } else { 1 };
                assert_eq!(kinds(&compiled).len(), steps, "{op:?}, {rounded}, {gated}: {:?}", kinds(&compiled));
            }
        }
    }
}

/// The largest of rounded numbers is the largest number rounded.
#[test]
fn a_pooling_between_a_product_and_its_quantiser_takes_bytes() {
    let chains: [&[Link]; 4] = [
        &[Link::MaxPool],
        &[Link::Tame, Link::MaxPool],
        &[Link::Channels, Link::Tame, Link::MaxPool],
        &[Link::MaxPool, Link::MaxPool],
    ];
    for links in chains {
        let mut r = Random::new(7);
        let mut c = Case::new();
        let mut v = product(&mut r, &mut c, Product::Dense, true);
        links.iter().for_each(|&l| link(&mut r, &mut c, &mut v, l));
        let y = quantised(&mut r, &mut c, &v);
        c.output(y);
        c.check(SUMS, LOOSE_TIE);
        let compiled = compile(c.parts().0, &Options::default()).expect("compiles");
        assert!(!holds_floats(&compiled), "{links:?}");
        let pools = links.iter().filter(|l| **l == Link::MaxPool).count();
        assert_eq!(kinds(&compiled), [&["ConvI8"][..], &vec!["Pool"; pools]].concat(), "{links:?}");
    }
}

/// Exporters write a quantisation for each reader: they are one.
#[test]
fn twins_of_a_quantisation_are_one() {
    let mut r = Random::new(8);
    let mut c = Case::new();
    let mut v = product(&mut r, &mut c, Product::Dense, true);
    v.t = c.node(Op::unary(UnaryOp::HardSwish), &[v.t], Like::f32(&v.shape));
    let ends = [0, 1].map(|_| {
        let q = c.quantize(v.t, DType::I8, Quant::per_tensor(0.05, 3));
        c.dequantize(q)
    });
    let sum = c.node(Op::Binary(BinaryOp::Mul), &ends, Like::f32(&v.shape));
    let y = c.quantize(sum, DType::I8, Quant::per_tensor(0.1, -7));
    c.output(y);
    c.check(SUMS, LOOSE_TIE);
    let compiled = compile(c.parts().0, &Options::default()).expect("compiles");
    assert!(!holds_floats(&compiled));
    assert_eq!(kinds(&compiled)[0], "ConvI8");
}
