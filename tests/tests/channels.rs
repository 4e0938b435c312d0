//! Plans without dead channels give the bits of plans with them: random graphs whose weights are zero in whole channels, and
//! the trained model that has such channels.

use std::collections::BTreeMap;

use kinglet::{DType, Inline, Model};
use kinglet_compiler::array::Array;
use kinglet_compiler::check::Recorder;
use kinglet_compiler::graph::{BinaryOp, Graph, Layout, Op, PadMode, PoolKind, Post, Quant, ReduceOp};
use kinglet_compiler::graph::{TensorId, UnaryOp, Window};
use kinglet_compiler::{Compiled, Options, compile, import_file};
use kinglet_tests::one_node::{Case, Like, cases};
use kinglet_tests::{Aligned, Random, difference, read_npz, row, run, run_best, run_with, shared};

/// Largest difference of a float output, relative to its largest magnitude: a mean of one channel is
/// added up in another order, and so may other kernels do.
const FLOAT_BOUND: f64 = 1e-6;

const BYTES: [DType; 2] = [DType::I8, DType::U8];

/// A graph under construction: quantised as a file has it, or in floats.
struct Net {
    r: Random,
    c: Case,
    quantised: bool,
    /// Tensors of reals that there are, with their shapes `[1, channels, height, width]`.
    made: Vec<(TensorId, Vec<usize>)>,
}

impl Net {
    fn new(seed: u64) -> Net {
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let quantised = !r.once_in(4);
        let side = r.between(4, 7);
        let shape = vec![1, r.between(1, 4), side, side];
        let x = if quantised {
            let dtype = r.pick(&BYTES);
            let q = r.quant(dtype, 0.01);
            let x = c.input(r.array(dtype, &shape), Some(q));
            c.dequantize(x)
        } else {
            c.input(r.array(DType::F32, &shape), None)
        };
        Net { r, c, quantised, made: vec![(x, shape)] }
    }

    fn last(&self) -> (TensorId, Vec<usize>) {
        self.made[self.made.len() - 1].clone()
    }

    /// Rounds a result, if the graph is quantised, and keeps it.
    fn keep(&mut self, t: TensorId, shape: Vec<usize>) {
        let mut t = t;
        if self.quantised {
            let dtype = self.r.pick(&BYTES);
            let q = self.r.quant(dtype, 0.01);
            t = self.c.quantize(t, dtype, q);
            t = self.c.dequantize(t);
        }
        self.made.push((t, shape));
    }

    /// Weights of which whole input and output channels are zero, and a bias. `inputs` are those of a group.
    fn weights(&mut self, shape: &[usize], [outputs, inputs]: [usize; 2], columns: bool) -> [TensorId; 2] {
        let n: usize = shape.iter().product();
        let taps = n / (outputs * inputs);
        let dead = |r: &mut Random, n: usize, often: usize| (0..n).map(|_| r.below(10) < often).collect::<Vec<bool>>();
        let often = self.r.pick(&[0, 3, 6, 9]);
        let (dead_out, dead_in) = (dead(&mut self.r, outputs, often), dead(&mut self.r, inputs, often));
        // Output and input channel of an element.
        let channels =
            |e: usize| if columns { (e % outputs, e / outputs) } else { (e / taps / inputs, e / taps % inputs) };
        let is_dead = |e: usize| dead_out[channels(e).0] || dead_in[channels(e).1];
        if !self.quantised {
            let v = self
                .r
                .array(DType::F32, shape)
                .reals()
                .iter()
                .enumerate()
                .map(|(e, &v)| if is_dead(e) { 0.0 } else { v })
                .collect();
            let bias = self.r.array(DType::F32, &[outputs]);
            return [self.c.constant(Array::f32(shape, v), None), self.c.constant(bias, None)];
        }
        let dtype = self.r.pick(&BYTES);
        let of = if self.r.once_in(2) { outputs } else { 1 };
        let scales: Vec<f32> = (0..of).map(|_| self.r.scale(0.004)).collect();
        let zero_points: Vec<i32> = (0..of).map(|_| self.r.zero_point(dtype)).collect();
        let zero = |e: usize| i64::from(zero_points[if of == 1 { 0 } else { channels(e).0 }]);
        let v = self
            .r
            .array(dtype, shape)
            .ints()
            .iter()
            .enumerate()
            .map(|(e, &v)| if is_dead(e) { zero(e) } else { v })
            .collect();
        let axis = usize::from(columns);
        let q = Quant { scales, zero_points: zero_points.clone(), axis };
        let w = self.c.constant(Array::int(dtype, shape, v), Some(q.clone()));
        let x = self.last().0;
        let sx = self.scale_of(x);
        let scales: Vec<f32> = q.scales.iter().map(|s| s * sx).collect();
        let qb = Quant { zero_points: vec![0; of], scales, axis: 0 };
        let largest = self.r.pick(&[100, 20_000]);
        let v = (0..outputs).map(|_| self.r.below(2 * largest) as i64 - largest as i64).collect();
        let b = self.c.constant(Array::int(DType::I32, &[outputs], v), Some(qb));
        [self.c.dequantize(w), self.c.dequantize(b)]
    }

    /// The scale of what `x` was dequantised from.
    fn scale_of(&self, x: TensorId) -> f32 {
        let (graph, _) = self.c.parts();
        let made = graph.nodes.iter().find(|n| n.output == x).expect("it was dequantised");
        graph.tensors[made.inputs[0].expect("one")].quant.as_ref().expect("it is quantised").scales[0]
    }

    fn conv(&mut self, groups: usize, outputs: usize) {
        let (x, s) = self.last();
        let kernel = if s[2] >= 3 { self.r.pick(&[1, 3]) } else { 1 };
        let pad = self.r.below(kernel.min(2));
        let (window, side) = window(kernel, 1 + self.r.below(2), pad, s[2]);
        let [w, b] = self.weights(&[outputs, s[1] / groups, kernel, kernel], [outputs, s[1] / groups], false);
        let op = Op::Conv { window, groups, layout: Layout::ChannelsFirst, post: Post::default() };
        let shape = vec![1, outputs, side, side];
        let mut y = self.c.node(op, &[x, w, b], Like::f32(&shape));
        if self.r.once_in(2) {
            y = self.c.node(Op::unary(UnaryOp::Relu), &[y], Like::f32(&shape));
        }
        self.keep(y, shape);
    }

    /// Adds a node of some kind behind the last one.
    fn step(&mut self) {
        let (x, s) = self.last();
        let like = Like::f32(&s);
        match self.r.below(13) {
            0..3 => {
                let outputs = self.r.between(1, 12);
                self.conv(1, outputs);
            }
            3 | 4 if s[1] > 1 => self.conv(s[1], s[1]),
            5 if s[1] % 2 == 0 => {
                let outputs = 2 * self.r.between(1, 4);
                self.conv(2, outputs);
            }
            6 if s[2] >= 3 => {
                let kind = self.r.pick(&[PoolKind::Max, PoolKind::Average, PoolKind::AverageWithPadding]);
                let (window, side) = window(3, 1 + self.r.below(2), self.r.below(2), s[2]);
                let shape = vec![1, s[1], side, side];
                let op = Op::Pool { kind, window, layout: Layout::ChannelsFirst };
                let y = self.c.node(op, &[x], Like::f32(&shape));
                self.keep(y, shape);
            }
            7 => {
                let op = self.r.pick(&[UnaryOp::Sigmoid, UnaryOp::HardSwish, UnaryOp::Neg, UnaryOp::Identity]);
                let y = self.c.node(Op::unary(op), &[x], like);
                self.keep(y, s);
            }
            8 | 9 => {
                // With an earlier tensor of the shape, if there is one, which is read twice then.
                let others: Vec<TensorId> = self.made.iter().filter(|m| m.1 == s).map(|m| m.0).collect();
                let other = self.r.pick(&others);
                let op = self.r.pick(&[BinaryOp::Add, BinaryOp::Add, BinaryOp::Mul, BinaryOp::Sub]);
                let y = self.c.node(Op::Binary(op), &[x, other], like);
                self.keep(y, s);
            }
            10 => {
                let constant = self.r.array(DType::F32, &[s[1], 1, 1]);
                let k = self.c.constant(constant, None);
                let op = self.r.pick(&[BinaryOp::Add, BinaryOp::Mul]);
                let y = self.c.node(Op::Binary(op), &[x, k], like);
                self.keep(y, s);
            }
            11 if s[1] > 2 => {
                let (first, n) = (self.r.below(s[1] - 1), s[1] / 2);
                let n = n.min(s[1] - first);
                let shape = vec![1, n, s[2], s[3]];
                let op = Op::Slice { starts: vec![0, first, 0, 0], steps: vec![1; 4] };
                let y = self.c.node(op, &[x], Like::f32(&shape));
                self.keep(y, shape);
            }
            11 => {
                let shape = vec![1, s[1], s[2] + 1, s[3] + 1];
                let value = self.r.pick(&[0.0, 0.0, 0.5]);
                let op = Op::Pad { mode: PadMode::Constant, before: vec![0, 0, 1, 1], after: vec![0; 4], value };
                let y = self.c.node(op, &[x], Like::f32(&shape));
                self.keep(y, shape);
            }
            _ => {
                let fits = |m: &&(TensorId, Vec<usize>)| m.1[2] == s[2] && m.1[1] + s[1] <= 24;
                let others: Vec<(TensorId, Vec<usize>)> = self.made.iter().filter(fits).cloned().collect();
                if others.is_empty() {
                    return;
                }
                let (other, so) = self.r.pick(&others);
                let shape = vec![1, s[1] + so[1], s[2], s[3]];
                let y = self.c.node(Op::Concat { axis: 1 }, &[x, other], Like::f32(&shape));
                self.keep(y, shape);
            }
        }
    }

    /// A classifier behind a mean or all pixels; sometimes another tensor is an output, too.
    fn finish(mut self) -> Case {
        if self.r.once_in(4) {
            let i = self.r.below(self.made.len());
            let (t, s) = self.made[i].clone();
            let t = self.c.node(Op::unary(UnaryOp::Abs), &[t], Like::f32(&s));
            self.c.output(t);
        }
        let (x, s) = self.last();
        let (flat, n) = if self.r.once_in(3) {
            let n = s[1] * s[2] * s[3];
            (self.c.node(Op::Reshape, &[x], Like::f32(&[1, n])), n)
        } else {
            let op = Op::Reduce { op: ReduceOp::Mean, axes: vec![2, 3], keep: false };
            (self.c.node(op, &[x], Like::f32(&[1, s[1]])), s[1])
        };
        self.keep(flat, vec![1, n, 1, 1]);
        let [w, b] = self.weights(&[n, 5], [5, n], true);
        let x = self.last().0;
        let op = Op::MatMul { transpose_a: false, transpose_b: false, post: Post::default() };
        let y = self.c.node(op, &[x, w], Like::f32(&[1, 5]));
        let y = self.c.node(Op::Binary(BinaryOp::Add), &[y, b], Like::f32(&[1, 5]));
        self.keep(y, vec![1, 5, 1, 1]);
        self.c.output(self.last().0);
        self.c
    }
}

fn window(kernel: usize, stride: usize, pad: usize, side: usize) -> (Window, usize) {
    let window = Window {
        kernel: vec![kernel; 2],
        strides: vec![stride; 2],
        dilations: vec![1; 2],
        pads_begin: vec![pad as i64; 2],
        pads_end: vec![pad as i64; 2],
    };
    (window, (side + 2 * pad - kernel) / stride + 1)
}

/// The graph compiled without dead channels and with them, once the outputs were compared and the first was held to the graph.
fn compare(graph: &Graph, inputs: &BTreeMap<String, Array>, options: &Options) -> [Compiled; 2] {
    let compiled = |keep_channels: bool| {
        let options = Options { keep_channels, ..options.clone() };
        compile(graph.clone(), &options).unwrap_or_else(|e| panic!("{e}\nof {graph:#?}"))
    };
    let (dropped, kept) = (compiled(false), compiled(true));
    assert_eq!(kept.report.dropped, Default::default());
    let file = Aligned::copy(&dropped.kgl);
    let mut recorder = Recorder::new(&dropped, Model::load(file.as_ref()).expect("the compiler writes valid files"));
    let got = run_with(&dropped.kgl, inputs, &Inline, &mut recorder);
    let steps = || {
        kept.graph
            .nodes
            .iter()
            .zip(&dropped.graph.nodes)
            .map(|(k, d)| {
                let of = |g: &Graph, t: TensorId| format!("{} {:?}", g.tensors[t].name, g.tensors[t].shape);
                format!("{} {} becomes {}", k.op.name(), of(&kept.graph, k.output), of(&dropped.graph, d.output))
            })
            .collect::<Vec<_>>()
    };
    let best = run_best(&dropped.kgl, inputs);
    for (name, want) in run(&kept.kgl, inputs) {
        for got in [&got[&name], &best[&name]] {
            let (worst, largest) = difference(got, &want);
            let bound = if want.dtype == DType::F32 { FLOAT_BOUND * largest } else { 0.0 };
            assert!(worst <= bound, "`{name}` differs by {worst}: {:#?}", steps());
        }
    }
    let given: Vec<Array> = graph.inputs.iter().map(|&t| inputs[&graph.tensors[t].name].clone()).collect();
    recorder.check(graph, &given).unwrap_or_else(|e| panic!("{e}\n{:#?}", steps()));
    let (r, k) = (&dropped.report, &kept.report);
    assert_eq!(r.macs + r.dropped.macs, k.macs, "{:#?}", steps());
    [dropped, kept]
}

#[test]
fn random_graphs_keep_their_bits() {
    let (mut dropped, mut products, mut constant, mut lost) = (0, 0, 0, 0);
    let n = cases(1000);
    for seed in 0..u64::from(n) {
        let mut net = Net::new(seed);
        net.conv(1, 8);
        for _ in 0..net.r.between(1, 7) {
            net.step();
        }
        let (graph, inputs) = net.finish().parts();
        println!("seed {seed}");
        let [without, _] = compare(&graph, &inputs, &Options::default());
        dropped += usize::from(without.report.dropped.channels > 0);
        products += without.report.dropped.products;
        constant += without.graph.lost.values().filter(|l| !l.constant.is_empty()).count();
        lost += without.graph.lost.len();
    }
    println!("{dropped} of {n} graphs, {products} products, {lost} tensors, {constant} of them of constants");
    assert!(dropped * 2 > n as usize && products > 2 * dropped && lost > 2 * dropped && constant * 2 > dropped);
}

/// The person detector of MLPerf Tiny, whose figures come from a count over its weights that is independent of this pass.
#[test]
fn the_person_detector_halves() {
    let Some(dir) = shared().map(|s| s.join("mlperf-tiny")) else { return };
    let path = dir.join("vww_96_int8.onnx");
    let vectors = read_npz(&dir.join("vww_96_int8_vectors.npz"));
    let infos = kinglet_compiler::shape_of_inputs(&std::fs::read(&path).expect("the model is there")).expect("valid");
    let (name, given) = (infos[0].name.clone(), row(&vectors["inputs"], 0));
    let options = Options { shapes: [(name.clone(), given.shape.clone())].into(), ..Options::default() };
    let graph = import_file(&path, &options).expect("imports");
    let [without, with] = compare(&graph, &[(name, given)].into(), &options);
    let d = without.report.dropped;
    assert_eq!((with.report.macs, without.report.macs), (7_489_664, 3_733_073));
    assert_eq!((d.weights_before, d.weights_after), (208_112, 29_286));
}

/// What the pass notes of constants is held to the graph of the file, as what the run shows is.
#[test]
fn a_wrong_constant_is_found() {
    let mut tried = 0;
    for seed in 0..200 {
        let mut net = Net::new(seed);
        net.conv(1, 8);
        net.conv(1, 8);
        let (graph, inputs) = net.finish().parts();
        let given: Vec<Array> = graph.inputs.iter().map(|&t| inputs[&graph.tensors[t].name].clone()).collect();
        let mut compiled = compile(graph.clone(), &Options::default()).expect("compiles");
        let read = compiled.graph.use_counts();
        let noted = compiled.graph.lost.iter_mut().find(|(t, l)| read[**t] > 0 && !l.constant.is_empty());
        let Some((_, lost)) = noted else { continue };
        lost.constant[0].1 += if lost.constant[0].1 > 0 { -2 } else { 2 };
        let file = Aligned::copy(&compiled.kgl);
        let mut recorder = Recorder::new(&compiled, Model::load(file.as_ref()).expect("valid"));
        run_with(&compiled.kgl, &inputs, &Inline, &mut recorder);
        assert!(recorder.check(&graph, &given).is_err(), "seed {seed}");
        tried += 1;
    }
    assert!(tried >= 50, "only {tried} constants");
}

/// Models without dead channels stay as they are.
#[test]
fn the_other_trained_models_have_none() {
    let Some(dir) = shared().map(|s| s.join("mlperf-tiny")) else { return };
    for name in ["kws_ref_model", "pretrainedResnet_quant", "ad01_int8", "str_ww_ref_model"] {
        let path = dir.join(format!("{name}.onnx"));
        let infos =
            kinglet_compiler::shape_of_inputs(&std::fs::read(&path).expect("the model is there")).expect("valid");
        let shape = row(&read_npz(&dir.join(format!("{name}_vectors.npz")))["inputs"], 0).shape;
        let options = Options { shapes: [(infos[0].name.clone(), shape)].into(), ..Options::default() };
        let compiled = |keep_channels: bool| {
            let options = Options { keep_channels, ..options.clone() };
            compile(import_file(&path, &options).expect("imports"), &options).expect("compiles")
        };
        assert_eq!(compiled(false).kgl, compiled(true).kgl, "{name}");
    }
}
