//! Convolutions of every geometry, type and ending against the evaluator.
//!
//! Graphs are written as a file has them (`DequantizeLinear` before, activation and `QuantizeLinear` behind), so that the
//! passes that absorb and fuse, the packing and the layout are under test too.

use kinglet::DType;
use kinglet_compiler::array::Array;
use kinglet_compiler::graph::{BinaryOp, Layout, Op, Post, Quant, TensorId, UnaryOp, Window};
use kinglet_compiler::{Options, compile};
use kinglet_tests::Random;
use kinglet_tests::one_node::{Case, LOOSE_TIE, Like, SUMS, TIE, cases};
use proptest::prelude::*;

const BYTES: [DType; 2] = [DType::I8, DType::U8];
const CHANNELS: [usize; 7] = [1, 3, 5, 8, 9, 17, 33];

fn config(n: u32) -> ProptestConfig {
    ProptestConfig { cases: cases(n), failure_persistence: None, ..ProptestConfig::default() }
}

/// Kernel, stride, dilation, padding in front and behind, and how much larger than necessary the input is.
type Axis = (usize, usize, usize, usize, usize, usize);

fn axis() -> impl Strategy<Value = Axis> {
    // Mostly paddings below the kernel's extent, sometimes larger ones.
    let pad = || prop_oneof![5 => 0..3usize, 1 => 3..8usize];
    (1..5usize, 1..4usize, 1..4usize, pad(), pad(), 0..9usize)
}

#[derive(Clone, Debug)]
struct Channels {
    groups: usize,
    /// Of one group.
    input: usize,
    /// Of one group.
    output: usize,
}

fn channels() -> impl Strategy<Value = Channels> {
    let some = || prop::sample::select(&CHANNELS[..]);
    prop_oneof![
        3 => (some(), some()).prop_map(|(input, output)| Channels { groups: 1, input, output }),
        2 => (2..5usize, 1..6usize, 1..10usize).prop_map(|(groups, input, output)| Channels { groups, input, output }),
        2 => some().prop_map(|groups| Channels { groups, input: 1, output: 1 }),
        1 => (some(), 2..4usize).prop_map(|(groups, output)| Channels { groups, input: 1, output }),
    ]
}

/// What follows the sum.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    Nothing,
    Relu,
    Clip,
    Function,
    /// A residual is added.
    Residual,
    ResidualThenRelu,
    ResidualThenFunction,
}

const ENDINGS: [Ending; 7] = [
    Ending::Nothing,
    Ending::Relu,
    Ending::Clip,
    Ending::Function,
    Ending::Residual,
    Ending::ResidualThenRelu,
    Ending::ResidualThenFunction,
];

/// Types of a product.
#[derive(Clone, Copy, Debug)]
struct Types {
    /// Integers, else everything is float.
    quantized: bool,
    /// Scales of the weights for each output channel.
    per_channel: bool,
    /// Quantise the sum before what follows it.
    rounded_sum: bool,
    /// Quantise the result.
    quantized_result: bool,
    /// 0: none, 1: of the accumulator's scale, 2: float.
    bias: u8,
}

fn types() -> impl Strategy<Value = Types> {
    (prop::bool::weighted(0.75), any::<bool>(), any::<bool>(), prop::bool::weighted(0.8), 0..3u8).prop_map(
        |(quantized, per_channel, rounded_sum, quantized_result, bias)| Types {
            quantized,
            per_channel,
            rounded_sum,
            quantized_result,
            bias,
        },
    )
}

/// Operands of a product: x, weights, bias.
struct Operands {
    inputs: Vec<TensorId>,
    /// A scale in which the results span a byte.
    unit: f64,
}

/// Zero points of `n` channels: all the same, each another, or each another near the first.
fn zero_points(r: &mut Random, dtype: DType, first: i32, n: usize) -> Vec<i32> {
    let (lo, hi) = dtype.quantized_range().expect("bytes have a range");
    let spread = r.pick(&[0usize, 0, 5, 255]);
    (0..n)
        .map(
            |_| {
                if spread == 0 { first } else { (first + r.below(2 * spread + 1) as i32 - spread as i32).clamp(lo, hi) }
            },
        )
        .collect()
}

fn operands(
    r: &mut Random,
    c: &mut Case,
    t: Types,
    x: &[usize],
    w: &[usize],
    out_axis: usize,
    outputs: usize,
) -> Operands {
    let terms = (w.iter().product::<usize>() / w[out_axis]).max(1) as f64;
    if !t.quantized {
        let x = c.input(r.array(DType::F32, x), None);
        let w = c.constant(r.array(DType::F32, w), None);
        let mut inputs = vec![x, w];
        if t.bias > 0 {
            inputs.push(c.constant(r.array(DType::F32, &[outputs]), None));
        }
        return Operands { inputs, unit: terms.sqrt() / 128.0 };
    }
    let (tx, tw) = (r.pick(&BYTES), r.pick(&BYTES));
    let qx = r.quant(tx, 0.004);
    let zero = if r.once_in(2) { if tw == DType::I8 { 0 } else { 128 } } else { r.zero_point(tw) };
    let n = if t.per_channel { w[out_axis] } else { 1 };
    let zero_points = zero_points(r, tw, zero, n);
    let qw = Quant { scales: (0..n).map(|_| r.scale(0.004)).collect(), zero_points, axis: out_axis };
    let vx = c.input(r.array(tx, x), Some(qx.clone()));
    let vw = c.constant(r.array(tw, w), Some(qw.clone()));
    let mut inputs = vec![c.dequantize(vx), c.dequantize(vw)];
    if t.bias == 1 {
        let scales: Vec<f32> = qw.scales.iter().map(|s| s * qx.scales[0]).collect();
        // Scales of weights that are not those of the output channels give a bias of one scale.
        let scales = if scales.len() == outputs { scales } else { vec![scales[0]] };
        let q = Quant { zero_points: vec![0; scales.len()], scales, axis: 0 };
        let v = (0..outputs).map(|_| r.below(20001) as i64 - 10000).collect();
        let b = c.constant(Array::int(DType::I32, &[outputs], v), Some(q));
        inputs.push(c.dequantize(b));
    } else if t.bias == 2 {
        inputs.push(c.constant(r.array(DType::F32, &[outputs]), None));
    }
    // Bytes far from their zero point do not cancel; the clamp at the ends is worth a test too.
    Operands { inputs, unit: terms.sqrt() * 0.01 }
}

/// Adds what follows the sum, and makes the result an output.
fn finish(r: &mut Random, c: &mut Case, t: Types, ending: Ending, sum: TensorId, shape: &[usize], unit: f64) {
    let round = |r: &mut Random, c: &mut Case, v: TensorId| {
        let dtype = r.pick(&BYTES);
        let q = r.quant(dtype, unit);
        c.quantize(v, dtype, q)
    };
    let mut v = sum;
    if t.quantized && t.rounded_sum {
        v = round(r, c, v);
        v = c.dequantize(v);
    }
    if matches!(ending, Ending::Residual | Ending::ResidualThenRelu | Ending::ResidualThenFunction) {
        let other = if t.quantized && !r.once_in(4) {
            let dtype = r.pick(&BYTES);
            let q = r.quant(dtype, unit);
            let x = c.input(r.array(dtype, shape), Some(q));
            c.dequantize(x)
        } else {
            c.input(r.array(DType::F32, shape), None)
        };
        let both = if r.once_in(2) { [v, other] } else { [other, v] };
        v = c.node(Op::Binary(BinaryOp::Add), &both, Like::f32(shape));
        if ending != Ending::Residual && t.quantized && t.rounded_sum {
            v = round(r, c, v);
            v = c.dequantize(v);
        }
    }
    let function = match ending {
        Ending::Relu | Ending::ResidualThenRelu => Some((UnaryOp::Relu, 0.0, 0.0)),
        Ending::Clip => Some(r.pick(&[(UnaryOp::Clip, 0.0, 6.0), (UnaryOp::Clip, -0.5, 0.75)])),
        Ending::Function | Ending::ResidualThenFunction => Some(r.pick(&[
            (UnaryOp::HardSwish, 0.0, 0.0),
            (UnaryOp::Sigmoid, 0.0, 0.0),
            (UnaryOp::Gelu, 0.0, 0.0),
            (UnaryOp::LeakyRelu, 0.1, 0.0),
            (UnaryOp::Swish, 1.0, 0.0),
        ])),
        Ending::Nothing | Ending::Residual => None,
    };
    if let Some((op, alpha, beta)) = function {
        v = c.node(Op::Unary { op, alpha, beta }, &[v], Like::f32(shape));
    }
    if t.quantized && t.quantized_result {
        v = round(r, c, v);
    }
    c.output(v);
}

/// Integer sums are exact, so that only what comes after them rounds.
fn tie(t: Types, ending: Ending) -> f64 {
    let plain = t.quantized && t.bias < 2 && matches!(ending, Ending::Nothing | Ending::Relu | Ending::Clip);
    if plain { TIE } else { LOOSE_TIE }
}

fn window(axes: &[Axis]) -> Window {
    Window {
        kernel: axes.iter().map(|a| a.0).collect(),
        strides: axes.iter().map(|a| a.1).collect(),
        dilations: axes.iter().map(|a| a.2).collect(),
        pads_begin: axes.iter().map(|a| a.3 as i64).collect(),
        pads_end: axes.iter().map(|a| a.4 as i64).collect(),
    }
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn convolutions(
        seed: u64,
        axes in prop::collection::vec(axis(), 1..3),
        channels in channels(),
        t in types(),
        ending in prop::sample::select(&ENDINGS[..]),
        batch in 1..3usize,
    ) {
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let w = window(&axes);
        let reach = |a: &Axis| (a.0 - 1) * a.2 + 1;
        let input: Vec<usize> = axes.iter().map(|a| reach(a).saturating_sub(a.3 + a.4).max(1) + a.5).collect();
        let output: Vec<usize> =
            axes.iter().zip(&input).map(|(a, n)| (n + a.3 + a.4 - reach(a)) / a.1 + 1).collect();
        let Channels { groups, input: group_in, output: group_out } = channels;
        let layout = Layout::ChannelsFirst;
        let xs = layout.shape(batch, groups * group_in, &input);
        let ws = [&[groups * group_out, group_in], &w.kernel[..]].concat();
        let ys = layout.shape(batch, groups * group_out, &output);
        let o = operands(&mut r, &mut c, t, &xs, &ws, 0, groups * group_out);
        let op = Op::Conv { window: w, groups, layout, post: Post::default() };
        let sum = c.node(op, &o.inputs, Like::f32(&ys));
        finish(&mut r, &mut c, t, ending, sum, &ys, o.unit);
        c.check(SUMS, tie(t, ending));
    }

    #[test]
    fn transposed_convolutions(
        seed: u64,
        axes in prop::collection::vec(axis(), 1..3),
        channels in channels(),
        t in types(),
        ending in prop::sample::select(&ENDINGS[..]),
        batch in 1..3usize,
    ) {
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let mut w = window(&axes);
        let (mut input, mut output) = (vec![], vec![]);
        for (d, a) in axes.iter().enumerate() {
            let n = a.5 + 1;
            let full = (n - 1) * a.1 + (a.0 - 1) * a.2 + 1;
            // Output padding, below the stride, is a negative padding behind.
            let extra = r.below(a.1) as i64;
            let begin = (a.3).min(full - 1);
            let end = a.4.min(full - 1 - begin) as i64 - extra;
            (w.pads_begin[d], w.pads_end[d]) = (begin as i64, end);
            input.push(n);
            output.push((full as i64 - begin as i64 - end) as usize);
        }
        let Channels { groups, input: group_in, output: group_out } = channels;
        let layout = Layout::ChannelsFirst;
        let xs = layout.shape(batch, groups * group_in, &input);
        let ws = [&[groups * group_in, group_out], &w.kernel[..]].concat();
        let ys = layout.shape(batch, groups * group_out, &output);
        let o = operands(&mut r, &mut c, t, &xs, &ws, 1, groups * group_out);
        let op = Op::ConvTranspose { window: w, groups, layout, post: Post::default() };
        let sum = c.node(op, &o.inputs, Like::f32(&ys));
        finish(&mut r, &mut c, t, ending, sum, &ys, o.unit);
        // Scales along the channels of a group make it a float product.
        c.check(SUMS, if groups > 1 && t.per_channel { LOOSE_TIE } else { tie(t, ending) });
    }

    /// Products with a constant right side: shapes, transpositions, biases.
    #[test]
    fn products_with_constants(
        seed: u64,
        lead in prop::collection::vec(1..4usize, 0..3),
        m in 1..9usize,
        k in prop::sample::select(&CHANNELS[..]),
        n in prop::sample::select(&CHANNELS[..]),
        transpose_a: bool,
        transpose_b: bool,
        t in types(),
        ending in prop::sample::select(&ENDINGS[..]),
    ) {
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let xs = [&lead[..], &if transpose_a { [k, m] } else { [m, k] }].concat();
        let ws = if transpose_b { [n, k] } else { [k, n] };
        let ys = [&lead[..], &[m, n]].concat();
        let o = operands(&mut r, &mut c, t, &xs, &ws, if transpose_b { 0 } else { 1 }, n);
        let op = Op::MatMul { transpose_a, transpose_b, post: Post::default() };
        let sum = c.node(op, &o.inputs, Like::f32(&ys));
        finish(&mut r, &mut c, t, ending, sum, &ys, o.unit);
        c.check(SUMS, tie(t, ending));
    }

    /// Products of two tensors with leading axes that broadcast, either of them constant or none.
    #[test]
    fn products(
        seed: u64,
        lead in prop::collection::vec(1..4usize, 0..5),
        m in prop::sample::select(&[1usize, 2, 4, 5, 8, 15, 33][..]),
        k in prop::sample::select(&CHANNELS[..]),
        n in prop::sample::select(&[1usize, 3, 8, 31, 32, 33, 65][..]),
        transpose_a: bool,
        transpose_b: bool,
        constant in 0..5,
        quant in 0..6,
    ) {
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let (short, full) = (r.broadcasting_to(&lead), lead.clone());
        let (la, lb) = if r.once_in(2) { (short, full) } else { (full, short) };
        let xs = [&la[..], &if transpose_a { [k, m] } else { [m, k] }].concat();
        let ws = [&lb[..], &if transpose_b { [n, k] } else { [k, n] }].concat();
        let ys = [&lead[..], &[m, n]].concat();
        let mut side = |r: &mut Random, shape: &[usize], constant: bool, quantized: bool| {
            if !quantized {
                let v = r.array(DType::F32, shape);
                return c.operand(constant, v, None);
            }
            let dtype = r.pick(&BYTES);
            let q = r.quant(dtype, 0.004);
            let v = r.array(dtype, shape);
            let x = c.operand(constant, v, Some(q));
            c.dequantize(x)
        };
        // One quantised side alone is a product of floats.
        let a = side(&mut r, &xs, constant == 0, quant > 0);
        let b = side(&mut r, &ws, constant == 1, quant > 1);
        let op = Op::MatMul { transpose_a, transpose_b, post: Post::default() };
        let sum = c.node(op, &[a, b], Like::f32(&ys));
        let y = if quant > 2 {
            let dtype = r.pick(&BYTES);
            let q = r.quant(dtype, (k as f64).sqrt() * 0.01);
            c.quantize(sum, dtype, q)
        } else {
            sum
        };
        c.output(y);
        c.check(SUMS, if quant > 1 { TIE } else { LOOSE_TIE });
    }

    /// Quantised operands and result on the node itself, as `QLinearConv` and `QLinearMatMul` have them.
    #[test]
    fn quantised_nodes(
        seed: u64,
        axes in prop::collection::vec(axis(), 1..3),
        channels in channels(),
        per_channel: bool,
        bias: bool,
    ) {
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let w = window(&axes);
        let reach = |a: &Axis| (a.0 - 1) * a.2 + 1;
        let input: Vec<usize> = axes.iter().map(|a| reach(a).saturating_sub(a.3 + a.4).max(1) + a.5).collect();
        let output: Vec<usize> =
            axes.iter().zip(&input).map(|(a, n)| (n + a.3 + a.4 - reach(a)) / a.1 + 1).collect();
        let (groups, outputs) = (channels.groups, channels.groups * channels.output);
        let layout = Layout::ChannelsFirst;
        let ws = [&[outputs, channels.input], &w.kernel[..]].concat();
        let (tx, tw, ty) = (r.pick(&BYTES), r.pick(&BYTES), r.pick(&BYTES));
        let qx = r.quant(tx, 0.004);
        let zero = r.zero_point(tw);
        let n = if per_channel { outputs } else { 1 };
        let scales: Vec<f32> = (0..n).map(|_| r.scale(0.004)).collect();
        let qb = Quant { scales: scales.iter().map(|s| s * qx.scales[0]).collect(), zero_points: vec![0; n], axis: 0 };
        let qw = Quant { scales, zero_points: zero_points(&mut r, tw, zero, n), axis: 0 };
        let x = c.input(r.array(tx, &layout.shape(1, groups * channels.input, &input)), Some(qx));
        let weights = c.constant(r.array(tw, &ws), Some(qw));
        let mut inputs = vec![x, weights];
        if bias {
            let v = (0..outputs).map(|_| r.below(20001) as i64 - 10000).collect();
            inputs.push(c.constant(Array::int(DType::I32, &[outputs], v), Some(qb)));
        }
        let terms = (channels.input * w.kernel.iter().product::<usize>()) as f64;
        let q = r.quant(ty, terms.sqrt() * 0.01);
        let op = Op::Conv { window: w, groups, layout, post: Post::default() };
        let y = c.node(op, &inputs, Like::quantized(ty, &layout.shape(1, outputs, &output), q));
        c.output(y);
        c.check(SUMS, TIE);
    }
}

/// Right matrices that are packed in several goes, and met by several left ones.
#[test]
fn large_right_matrices() {
    for (bytes, transposed) in [(false, false), (false, true), (true, false), (true, true)] {
        let (m, n, k) = (5, 70, if bytes { 9001 } else { 2500 });
        let mut r = Random::new(7);
        let mut c = Case::new();
        let right = if transposed { [n, k] } else { [k, n] };
        let side = |r: &mut Random, c: &mut Case, shape: &[usize]| {
            if !bytes {
                return c.input(r.array(DType::F32, shape), None);
            }
            let (dtype, zero) = (r.pick(&BYTES), r.below(100) as i32);
            let x = c.input(r.array(dtype, shape), Some(Quant::per_tensor(0.004, zero)));
            c.dequantize(x)
        };
        let a = side(&mut r, &mut c, &[3, m, k]);
        let b = side(&mut r, &mut c, &right);
        let op = Op::MatMul { transpose_a: false, transpose_b: transposed, post: Post::default() };
        let sum = c.node(op, &[a, b], Like::f32(&[3, m, n]));
        let y = if bytes { c.quantize(sum, DType::I8, Quant::per_tensor(2.0, 3)) } else { sum };
        c.output(y);
        c.check(SUMS, TIE);
    }
}

/// Whether a product of integers runs in them must be decided by the zero point that leaves the sum the least room.
#[test]
fn a_sum_that_one_zero_point_takes_beyond_32_bits_is_in_float() {
    let k = 40_000;
    for (zeros, in_integers) in [([128, 128], true), ([128, 0], false), ([0, 128], false)] {
        let mut c = Case::new();
        let x = c.input(Array::int(DType::U8, &[1, k], vec![255; k]), Some(Quant::per_tensor(0.01, 0)));
        let q = Quant { scales: vec![0.01, 0.02], zero_points: zeros.to_vec(), axis: 1 };
        let w = c.constant(Array::int(DType::U8, &[k, 2], vec![255; 2 * k]), Some(q));
        let (x, w) = (c.dequantize(x), c.dequantize(w));
        let op = Op::MatMul { transpose_a: false, transpose_b: false, post: Post::default() };
        let sum = c.node(op, &[x, w], Like::f32(&[1, 2]));
        let y = c.quantize(sum, DType::U8, Quant::per_tensor(9000.0, 0));
        c.output(y);
        c.check(SUMS, TIE);
        let compiled = compile(c.parts().0, &Options::default()).expect("it compiles");
        let of_product =
            compiled.report.steps.iter().find(|s| ["ConvI8", "ConvF32"].contains(&s.kind.as_str())).expect("a product");
        assert_eq!(of_product.dtype == "u8", in_integers, "{zeros:?}: {}", of_product.dtype);
    }
}
