//! Floats stored in 16 bits: products by the arithmetic of halves and of floats, and every other kind that reads and writes halves, on
//! every target's plan and every set of kernels.

use std::collections::BTreeMap;

use kinglet::kernels::{NormKind, PadMode, ReduceOp};
use kinglet::{DType, Inline, Model, Quiet, StepKind, Target};
use kinglet_compiler::array::Array;
use kinglet_compiler::graph::{BinaryOp, Layout, Op, PoolKind, Post, Quant, TensorId, UnaryOp, Window};
use kinglet_compiler::{Compiled, Options, Precision, compile, import};
use kinglet_models::zoo::{self, MODELS, Source};
use kinglet_native::kernel_sets;
use kinglet_tests::one_node::{Bound, Case, Like, cases};
use kinglet_tests::{Aligned, Random, difference, run, run_on};
use proptest::prelude::*;

/// How far a chain of a few steps may lie off, of the largest magnitude: twenty roundings to halves. A sum of 160 products by halves has an
/// error of two of them, as a rule.
const HALVES: Bound = Bound::OfLargest(1e-2);

/// The same of whole models.
const ZOO: f64 = 2e-2;

/// A byte behind halves may be rounded either way.
const TIE: f64 = 0.5;

/// Channels around the vectors and panels of the kernels, and lines of more products than one sum of halves adds.
const CHANNELS: [usize; 12] = [1, 3, 8, 15, 16, 17, 24, 32, 40, 72, 200, 300];

fn options(target: Target) -> Options {
    Options { target, precision: Precision::F16, ..Options::default() }
}

fn compiled(c: &Case, target: Target) -> Compiled {
    compile(c.parts().0, &options(target)).unwrap_or_else(|e| panic!("{e}"))
}

/// The kinds of the steps with the types of their first input and output.
fn steps(compiled: &Compiled) -> Vec<(StepKind, DType, DType)> {
    let file = Aligned::copy(&compiled.kgl);
    let model = Model::load(file.as_ref()).expect("the compiler writes valid files");
    let dtype = |t: Option<usize>| model.tensor(t.expect("it is there")).dtype();
    let step = |i: usize| {
        let step = model.step(i);
        (step.kind().expect("a kind"), dtype(step.input(0)), dtype(step.output(0)))
    };
    (0..model.step_count()).map(step).collect()
}

/// A constant whose elements are of magnitude `1/√terms`, so that sums are of magnitude 1.
fn weights(r: &mut Random, c: &mut Case, shape: &[usize], terms: usize) -> TensorId {
    let unit = 1.0 / (terms as f64).sqrt();
    let v = r.array(DType::F32, shape);
    c.constant(Array::f32(shape, v.reals().iter().map(|v| v * unit).collect()), None)
}

/// A tensor in halves: a function of an input.
fn halved(c: &mut Case, x: TensorId, shape: &[usize]) -> TensorId {
    c.node(Op::Unary { op: UnaryOp::Affine, alpha: 0.75, beta: 0.125 }, &[x], Like::f32(shape))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(250), failure_persistence: None, ..ProptestConfig::default() })]

    /// A convolution of halves or of an input, dense, grouped or depthwise, with what may follow, which goes on in halves or leaves the model.
    #[test]
    fn convolutions(
        seed: u64,
        kernel in prop::sample::select(&[[1, 1], [3, 3], [5, 5], [7, 7], [3, 1], [1, 9], [17, 2], [35, 1]][..]),
        (stride, dilation, pad) in (1..3usize, 1..3usize, 0..4usize),
        (more_h, more_w) in (0..3usize, 0..20usize),
        (input, output) in (prop::sample::select(&CHANNELS[..]), prop::sample::select(&CHANNELS[..])),
        form in 0..4usize,
        (of_halves, goes_on) in any::<(bool, bool)>(),
        ending in 0..6usize,
    ) {
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let depthwise = form == 0;
        // Large windows over many channels take long, and have nothing of their own.
        let few = |n: usize| if kernel[0] * kernel[1] > 9 { n.min(40) } else { n };
        let input = few(input);
        let output = if depthwise { input } else { few(output) };
        let groups = match form {
            0 => input,
            1 if input % 2 == 0 && output % 2 == 0 => 2,
            _ => 1,
        };
        let reach = kernel.map(|k| (k - 1) * dilation + 1);
        let pads = reach.map(|n| pad.min(n - 1));
        let size = [reach[0].saturating_sub(2 * pads[0]).max(1) + more_h, reach[1].saturating_sub(2 * pads[1]).max(1) + more_w];
        let out = [0, 1].map(|d| (size[d] + 2 * pads[d] - reach[d]) / stride + 1);
        let (xs, ys) = ([1, size[0], size[1], input], [1, out[0], out[1], output]);
        let ws = [output, input / groups, kernel[0], kernel[1]];
        let window = Window {
            kernel: kernel.to_vec(),
            strides: vec![stride; 2],
            dilations: vec![dilation; 2],
            pads_begin: pads.map(|p| p as i64).to_vec(),
            pads_end: pads.map(|p| p as i64).to_vec(),
        };
        let x = c.input(r.array(DType::F32, &xs), None);
        let x = if of_halves { halved(&mut c, x, &xs) } else { x };
        let w = weights(&mut r, &mut c, &ws, ws[1..].iter().product());
        let mut inputs = vec![x, w];
        if r.once_in(2) {
            inputs.push(c.constant(r.array(DType::F32, &[output]), None));
        }
        let op = Op::Conv { window, groups, layout: Layout::ChannelsLast, post: Post::default() };
        let mut v = c.node(op, &inputs, Like::f32(&ys));
        if matches!(ending, 1 | 2) {
            let other = c.input(r.array(DType::F32, &ys), None);
            let other = if r.once_in(2) { halved(&mut c, other, &ys) } else { other };
            v = c.node(Op::Binary(BinaryOp::Add), &[v, other], Like::f32(&ys));
        }
        match ending {
            2 | 3 => v = c.node(Op::unary(UnaryOp::Relu), &[v], Like::f32(&ys)),
            4 => v = c.node(Op::unary(UnaryOp::Gelu), &[v], Like::f32(&ys)),
            5 => {
                let by = c.constant(r.array(DType::F32, &[output]), None);
                v = c.node(Op::Binary(BinaryOp::Mul), &[v, by], Like::f32(&ys));
            }
            _ => {}
        }
        if goes_on {
            let w = weights(&mut r, &mut c, &[output, 9], output);
            let op = Op::MatMul { transpose_a: false, transpose_b: false, post: Post::default() };
            v = c.node(op, &[v, w], Like::f32(&[1, out[0], out[1], 9]));
        }
        c.output(v);
        c.check_with(HALVES, TIE, &options(r.pick(&[Target::Generic, Target::Armv8])));
    }

    /// What reads halves and writes halves besides products has the same bits on every set of kernels.
    #[test]
    fn other_kinds(seed: u64, (h, w, channels) in (1..6usize, 1..9usize, prop::sample::select(&CHANNELS[..])), length in 1..5usize) {
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let mut shape = vec![1, h, w, channels];
        let x = c.input(r.array(DType::F32, &shape), None);
        let mut v = halved(&mut c, x, &shape);
        for _ in 0..length {
            let like = |shape: &[usize]| Like::f32(shape);
            v = match r.below(12) {
                0 => {
                    let other = c.input(r.array(DType::F32, &shape), None);
                    let other = halved(&mut c, other, &shape);
                    let op = r.pick(&[BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Max]);
                    c.node(Op::Binary(op), &[v, other], like(&shape))
                }
                1 => {
                    let by = c.constant(r.array(DType::F32, &[shape[3]]), None);
                    let more = c.constant(r.array(DType::F32, &[shape[3]]), None);
                    c.node(Op::ScaleShift, &[v, by, more], like(&shape))
                }
                2 => c.node(Op::unary(r.pick(&[UnaryOp::Sigmoid, UnaryOp::Tanh, UnaryOp::Abs])), &[v], like(&shape)),
                3 => c.node(Op::Softmax { axis: r.pick(&[2usize, 3]), log: false }, &[v], like(&shape)),
                4 => {
                    let axes = r.pick(&[vec![3], vec![1, 2], vec![1, 2, 3]]);
                    c.node(Op::Norm { kind: NormKind::Layer, axes, epsilon: 0.1 }, &[v], like(&shape))
                }
                5 => {
                    let kind = r.pick(&[PoolKind::Max, PoolKind::Average, PoolKind::AverageWithPadding]);
                    let window = Window {
                        kernel: vec![3, 3],
                        strides: vec![1, 1],
                        dilations: vec![1, 1],
                        pads_begin: vec![1, 1],
                        pads_end: vec![1, 1],
                    };
                    c.node(Op::Pool { kind, window, layout: Layout::ChannelsLast }, &[v], like(&shape))
                }
                6 => {
                    let perm = r.pick(&[vec![0, 2, 1, 3], vec![0, 3, 1, 2], vec![0, 2, 3, 1]]);
                    shape = perm.iter().map(|&d| shape[d]).collect();
                    c.node(Op::Transpose { perm }, &[v], like(&shape))
                }
                7 => {
                    let mode = r.pick(&[PadMode::Constant, PadMode::Edge]);
                    shape = vec![1, shape[1] + 1, shape[2] + 3, shape[3]];
                    let op = Op::Pad { mode, before: vec![0, 1, 2, 0], after: vec![0, 0, 1, 0], value: 0.7 };
                    c.node(op, &[v], like(&shape))
                }
                8 => {
                    let both = vec![1, shape[1], shape[2], 2 * shape[3]];
                    let v = c.node(Op::Concat { axis: 3 }, &[v, v], like(&both));
                    let op = Op::Slice { starts: vec![0, 0, 0, shape[3] / 2], steps: vec![1; 4] };
                    c.node(op, &[v], like(&shape))
                }
                9 => {
                    shape[2] = 1;
                    let op = r.pick(&[ReduceOp::Mean, ReduceOp::Max, ReduceOp::L2]);
                    c.node(Op::Reduce { op, axes: vec![2], keep: true }, &[v], like(&shape))
                }
                10 => {
                    let index = (0..3).map(|_| r.below(shape[2]) as i64).collect();
                    let index = c.constant(Array::int(DType::I64, &[3], index), None);
                    shape[2] = 3;
                    c.node(Op::Gather { axis: 2 }, &[v, index], like(&shape))
                }
                _ => {
                    // At the end: what follows could make a step of the scale any number of them.
                    let q = r.quant(DType::I8, 0.02);
                    let bytes = c.quantize(v, DType::I8, q);
                    v = c.dequantize(bytes);
                    break;
                }
            };
        }
        // Back to floats at the end: an output of the model.
        let y = c.node(Op::Unary { op: UnaryOp::Affine, alpha: 2.0, beta: 0.0 }, &[v], Like::f32(&shape));
        c.output(y);
        let of = |target| steps(&compiled(&c, target)).iter().any(|s| s.1 == DType::F16 || s.2 == DType::F16);
        // What passes leave may have no tensor between input and output.
        prop_assume!(of(Target::Armv8));
        prop_assert!(!of(Target::X86_64));
        // A byte more or less behind a tie is a step of the scale.
        c.check_with(Bound::OfLargest(0.05), TIE, &options(r.pick(&[Target::Generic, Target::Armv8])));
    }
}

/// `x → Conv → Relu → MatMul`, weights of magnitude `unit`.
fn small_net(unit: f64) -> Case {
    let mut r = Random::new(3);
    let mut c = Case::new();
    let x = c.input(r.array(DType::F32, &[1, 4, 4, 5]), None);
    let w = r.array(DType::F32, &[7, 5, 1, 1]);
    let w = c.constant(Array::f32(&w.shape, w.reals().iter().map(|v| v * unit).collect()), None);
    let window = Window {
        kernel: vec![1, 1],
        strides: vec![1, 1],
        dilations: vec![1, 1],
        pads_begin: vec![0, 0],
        pads_end: vec![0, 0],
    };
    let op = Op::Conv { window, groups: 1, layout: Layout::ChannelsLast, post: Post::default() };
    let v = c.node(op, &[x, w], Like::f32(&[1, 4, 4, 7]));
    let v = c.node(Op::unary(UnaryOp::Relu), &[v], Like::f32(&[1, 4, 4, 7]));
    let w = c.constant(r.array(DType::F32, &[7, 3]), None);
    let op = Op::MatMul { transpose_a: false, transpose_b: false, post: Post::default() };
    let y = c.node(op, &[v, w], Like::f32(&[1, 4, 4, 3]));
    c.output(y);
    c
}

#[test]
fn weights_are_halves_for_every_target_and_what_lies_between_for_some() {
    for target in Target::ALL {
        let halves = target.info().halves;
        let between = if halves { DType::F16 } else { DType::F32 };
        let narrowed = (StepKind::Convert, DType::F32, DType::F16);
        let products = [(StepKind::ConvF16, between, between), (StepKind::ConvF16, between, DType::F32)];
        let want: Vec<_> = halves.then_some(narrowed).into_iter().chain(products).collect();
        assert_eq!(steps(&compiled(&small_net(1.0), target)), want, "{}", target.name());
    }
}

#[test]
fn weights_beyond_halves_stay_floats() {
    let c = small_net(1e5);
    let kinds: Vec<StepKind> = steps(&compiled(&c, Target::X86_64)).iter().map(|s| s.0).collect();
    assert_eq!(kinds, [StepKind::ConvF32, StepKind::ConvF16]);
    let inside = compiled(&small_net(1e-3), Target::X86_64);
    assert_eq!(steps(&inside)[0].0, StepKind::ConvF16);
}

/// Models of the zoo in halves beside themselves in floats, on every set of kernels: how far apart, of the largest magnitude.
#[test]
fn the_zoo_stays_within_its_bound() {
    let mut models = 0;
    // A spike is a comparison: next to its threshold a rounding makes or unmakes it, and nothing bounds what follows.
    for model in MODELS.iter().filter(|m| m.is_tiny() && !m.name.starts_with("slmuformer")) {
        let built =
            zoo::build(model.name, &zoo::Options::default(), &Source::Seed(0)).unwrap_or_else(|e| panic!("{e}"));
        let bytes = built.model.to_bytes();
        let plan = |target, precision| {
            let options = Options { target, precision, ..Options::default() };
            compile(import(&bytes, None, &options).expect("it imports"), &options).expect("it compiles").kgl
        };
        let whole = plan(Target::Generic, Precision::F32);
        let mut r = Random::new(1);
        let input = |(name, shape): &(String, Vec<usize>)| {
            let values = (0..shape.iter().product()).map(|_| f64::from(((r.real() + 1.0) / 2.0) as f32)).collect();
            (name.clone(), Array::f32(shape, values))
        };
        let inputs: BTreeMap<String, Array> = built.summary.inputs.iter().map(input).collect();
        let want = run(&whole, &inputs);
        let mut worst = 0f64;
        for target in [Target::Generic, Target::Armv8] {
            let half = plan(target, Precision::F16);
            for (_, kernels) in kernel_sets() {
                let got = run_on(*kernels, &half, &inputs, &Inline, &mut Quiet);
                for (name, want) in &want {
                    let (off, largest) = difference(&got[name], want);
                    worst = worst.max(off / largest.max(f64::MIN_POSITIVE));
                }
            }
        }
        println!(
            "{}: {worst:.1e} apart, {:.2} of the bytes",
            model.name,
            half_size(&plan(Target::X86_64, Precision::F16), &whole)
        );
        assert!(worst <= ZOO, "{}: {worst:.1e}", model.name);
        models += 1;
    }
    assert!(models >= 20, "{models} models");
}

fn half_size(half: &[u8], whole: &[u8]) -> f64 {
    half.len() as f64 / whole.len() as f64
}

#[test]
fn integers_stay_as_they_are() {
    let mut r = Random::new(5);
    let mut c = Case::new();
    let x = c.input(r.array(DType::I8, &[1, 3, 3, 4]), Some(Quant::per_tensor(0.02, 1)));
    let w = c.constant(r.array(DType::I8, &[4, 6]), Some(Quant::per_tensor(0.01, 0)));
    let (x, w) = (c.dequantize(x), c.dequantize(w));
    let op = Op::MatMul { transpose_a: false, transpose_b: false, post: Post::default() };
    let v = c.node(op, &[x, w], Like::f32(&[1, 3, 3, 6]));
    let y = c.quantize(v, DType::I8, Quant::per_tensor(0.1, 0));
    c.output(y);
    for target in Target::ALL {
        let plain = compile(c.parts().0, &Options { target, ..Options::default() }).expect("it compiles");
        assert_eq!(compiled(&c, target).kgl, plain.kgl, "{}", target.name());
    }
}
