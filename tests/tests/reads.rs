//! What a step says it reads is all it reads: whatever lies elsewhere, the same rows come out.
//!
//! Each step of a plan runs twice for some of its rows: on the memory that the steps before it left, and on one where all bytes
//! but those that it says it reads are others, in the arena and in the weights.

use std::ops::Range;

use kinglet::kernels::{self, BinaryOp, NormKind, PadMode, PoolKind, ReduceOp};
use kinglet::{DType, Kernels, Model, Reference, StepKind, Target};
use kinglet_compiler::array::Array;
use kinglet_compiler::graph::{Layout, Op, Post, SampleMode, SamplePadding, ScatterOp, TensorId, UnaryOp, Window};
use kinglet_compiler::{Options, Precision, compile, import};
use kinglet_native::kernel_sets;
use kinglet_tests::one_node::{Case, Like, cases};
use kinglet_tests::reads::{Kinds, Memory};
use kinglet_tests::recurrences::{Extents, Recurrence};
use kinglet_tests::{Aligned, Random, small_onnx};

/// Every plan of a graph, on every set of kernels that takes it.
fn check_case(what: &str, case: &Case, r: &mut Random, kinds: &mut Kinds) {
    let (graph, inputs) = case.parts();
    let write = |model: &Model<'_>, i: usize, bytes: &mut [u8]| {
        let name = model.input_name(i).expect("compiled with names");
        bytes.copy_from_slice(&inputs[name].to_bytes());
    };
    for target in Target::ALL {
        let precision = r.pick(&[Precision::F32, Precision::F16]);
        let options = Options { target, precision, ..Options::default() };
        let compiled = compile(graph.clone(), &options).unwrap_or_else(|e| panic!("{what}: {e}"));
        let kernels: [&dyn Kernels; 2] = [&Reference, kernel_sets()[r.below(kernel_sets().len())].1];
        for kernels in kernels {
            let what = format!("{what} for {}", target.name());
            Memory::new(&compiled.kgl, write).check(&what, kernels, r, kinds);
        }
    }
}

fn window(r: &mut Random, shape: [usize; 2], most: [usize; 3]) -> (Window, [usize; 2]) {
    let mut one = |most: usize| [r.between(1, most), r.between(1, most)];
    let (kernel, strides, dilations) = (one(most[0]), one(most[1]), one(most[2]));
    let (begin, end) = (one(3).map(|p| p - 1), one(3).map(|p| p - 1));
    let span = |d: usize| (kernel[d] - 1) * dilations[d] + 1;
    let to = [0, 1].map(|d| (shape[d] + begin[d] + end[d] - span(d)) / strides[d] + 1);
    let pads = |p: [usize; 2]| p.map(|p| p as i64).to_vec();
    let (pads_begin, pads_end) = (pads(begin), pads(end));
    let window =
        Window { kernel: kernel.into(), strides: strides.into(), dilations: dilations.into(), pads_begin, pads_end };
    (window, to)
}

/// Steps of all kinds on an image, with geometries of chance.
struct Image {
    r: Random,
    c: Case,
    /// Batch, channels, height, width.
    shape: [usize; 4],
    x: TensorId,
    quantized: bool,
}

impl Image {
    fn new(seed: u64) -> Self {
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let shape = [r.between(1, 2), r.pick(&[4, 6, 8]), r.between(9, 14), r.between(7, 9)];
        let quantized = r.once_in(2);
        let x = if quantized {
            let q = r.quant(DType::I8, 0.01);
            let x = c.input(r.array(DType::I8, &shape), Some(q));
            c.dequantize(x)
        } else {
            c.input(r.array(DType::F32, &shape), None)
        };
        Image { r, c, shape, x, quantized }
    }

    /// An output: some are quantised where the image is.
    fn end(&mut self, v: TensorId) {
        let y = if self.quantized && self.r.once_in(2) {
            let q = self.r.quant(DType::I8, 0.01);
            self.c.quantize(v, DType::I8, q)
        } else {
            v
        };
        self.c.output(y);
    }

    fn node(&mut self, op: Op, inputs: &[TensorId], shape: &[usize]) {
        let y = self.c.node(op, inputs, Like::f32(shape));
        self.end(y);
    }

    /// Weights of a product: bytes at times also where the inputs are floats.
    fn weights(&mut self, shape: &[usize]) -> TensorId {
        if !self.quantized && self.r.once_in(2) {
            return self.c.constant(self.r.array(DType::F32, shape), None);
        }
        let q = self.r.quant(DType::I8, 0.004);
        let w = self.c.constant(self.r.array(DType::I8, shape), Some(q));
        self.c.dequantize(w)
    }

    fn products(&mut self) {
        let [batch, channels, height, width] = self.shape;
        let layout = Layout::ChannelsFirst;
        for groups in [1, 2, channels, channels] {
            let (w, [h, v]) = window(&mut self.r, [height, width], [4, 3, 2]);
            let outputs = if groups == channels { channels } else { groups * self.r.between(1, 9) };
            let weights = self.weights(&[&[outputs, channels / groups], &w.kernel[..]].concat());
            let shape = [batch, outputs, h, v];
            let conv = Op::Conv { window: w, groups, layout, post: Post::default() };
            let mut y = self.c.node(conv, &[self.x, weights], Like::f32(&shape));
            if self.r.once_in(2) {
                let residual = self.c.input(self.r.array(DType::F32, &shape), None);
                y = self.c.node(Op::Binary(BinaryOp::Add), &[y, residual], Like::f32(&shape));
            }
            self.end(y);
        }
        let k = self.r.between(2, 4);
        let stride = self.r.between(1, 3);
        let w = Window {
            kernel: vec![k, k],
            strides: vec![stride, stride],
            dilations: vec![1, 1],
            pads_begin: vec![1, 0],
            pads_end: vec![0, 1],
        };
        let weights = self.weights(&[channels, 5, k, k]);
        let to = [height, width].map(|n| (n - 1) * stride + k - 1);
        let op = Op::ConvTranspose { window: w, groups: 1, layout, post: Post::default() };
        self.node(op, &[self.x, weights], &[batch, 5, to[0], to[1]]);
        let dense = self.weights(&[width, 11]);
        let product = |transpose_b| Op::MatMul { transpose_a: false, transpose_b, post: Post::default() };
        self.node(product(false), &[self.x, dense], &[batch, channels, height, 11]);
        self.node(product(true), &[self.x, self.x], &[batch, channels, height, height]);
        let transposed = Op::MatMul { transpose_a: true, transpose_b: false, post: Post::default() };
        self.node(transposed, &[self.x, self.x], &[batch, channels, width, width]);
        let lead = self.r.broadcasting_to(&[batch, channels]);
        let other = self.c.input(self.r.array(DType::F32, &[&lead[..], &[width, 3]].concat()), None);
        self.node(product(false), &[self.x, other], &[batch, channels, height, 3]);
    }

    fn windows(&mut self) {
        let [batch, channels, height, width] = self.shape;
        for kind in [PoolKind::Max, PoolKind::Average, PoolKind::AverageWithPadding] {
            let (mut w, [h, v]) = window(&mut self.r, [height, width], [4, 3, 1]);
            if w.kernel.iter().min() < Some(&3) {
                // A window has to hold more than padding.
                (w.pads_begin, w.pads_end) = (vec![0, 0], vec![0, 0]);
            }
            let [h, v] = if w.pads_begin == [0, 0] && w.pads_end == [0, 0] {
                let to = |d: usize| (self.shape[d + 2] - w.kernel[d]) / w.strides[d] + 1;
                [to(0), to(1)]
            } else {
                [h, v]
            };
            let op = Op::Pool { kind, window: w, layout: Layout::ChannelsFirst };
            self.node(op, &[self.x], &[batch, channels, h, v]);
        }
        for mode in [PadMode::Constant, PadMode::Reflect, PadMode::Edge, PadMode::Wrap] {
            let mut some = || (0..4).map(|d| self.r.below(self.shape[d].min(4))).collect::<Vec<_>>();
            let (before, after) = (some(), some());
            let to: Vec<_> = (0..4).map(|d| before[d] + self.shape[d] + after[d]).collect();
            self.node(Op::Pad { mode, before, after, value: 0.5 }, &[self.x], &to);
        }
    }

    fn elements(&mut self) {
        let shape = self.shape;
        let all = self.shape.to_vec();
        self.node(Op::unary(UnaryOp::Gelu), &[self.x], &all);
        let other = self.r.broadcasting_to(&shape);
        let constant = self.r.once_in(2);
        let by = self.c.operand(constant, self.r.array(DType::F32, &other), None);
        self.node(Op::Binary(BinaryOp::Sub), &[self.x, by], &all);
        self.node(Op::Binary(BinaryOp::Max), &[by, self.x], &all);
        let slope = self.c.constant(self.r.array(DType::F32, &[shape[1], 1, 1]), None);
        self.node(Op::ScaleShift, &[self.x, slope, by], &all);
        let mask = self.c.input(self.r.array(DType::Bool, &other), None);
        self.node(Op::Where, &[mask, self.x, slope], &all);
        let whole = self.c.node(Op::Cast(DType::I32), &[self.x], Like::int(DType::I32, &all));
        self.c.output(whole);
    }

    fn axes(&mut self) {
        let all = self.shape.to_vec();
        for axis in 0..4 {
            let mut less = all.clone();
            less[axis] = 1;
            self.node(Op::Softmax { axis, log: axis == 2 }, &[self.x], &all);
            let kind = if axis % 2 == 0 { NormKind::Layer } else { NormKind::Rms };
            self.node(Op::Norm { kind, axes: vec![axis], epsilon: 1e-5 }, &[self.x], &all);
            let op = if axis == 1 { ReduceOp::Max } else { ReduceOp::Mean };
            self.node(Op::Reduce { op, axes: vec![axis], keep: true }, &[self.x], &less);
            self.node(Op::CumSum { axis, exclusive: axis == 0, reverse: axis > 1 }, &[self.x], &all);
            let arg = Op::ArgMax { axis, keep: true, smallest: false, last: axis == 3 };
            let y = self.c.node(arg, &[self.x], Like::int(DType::I64, &less));
            self.c.output(y);
            let count = self.r.between(1, 5);
            let picked = (0..count).map(|_| self.r.below(all[axis]) as i64).collect();
            let constant = self.r.once_in(2);
            let index = self.c.operand(constant, Array::int(DType::I64, &[count], picked), None);
            let mut taken = all.clone();
            taken[axis] = count;
            self.node(Op::Gather { axis }, &[self.x, index], &taken);
            self.indices(axis, taken);
        }
    }

    /// Elements that are taken and scattered along an axis, as many as there are in `taken`, and slices.
    fn indices(&mut self, axis: usize, mut taken: Vec<usize>) {
        let all = self.shape.to_vec();
        for along in [Some(axis), None] {
            let index = if along.is_some() { taken.clone() } else { vec![3, axis + 1] };
            let updated = if along.is_some() { taken.clone() } else { [&[3], &all[axis + 1..]].concat() };
            let op = if axis.is_multiple_of(2) { ScatterOp::Replace } else { ScatterOp::Max };
            let index = self.r.indices(&all, along, &index, DType::I64);
            let constant = self.r.once_in(2);
            let index = self.c.operand(constant, index, None);
            let updates = self.c.operand(!constant, self.r.array(DType::F32, &updated), None);
            self.node(Op::Scatter { op, axis: along }, &[self.x, updates, index], &all);
        }
        taken[axis] = taken[axis].min(all[axis]);
        let places = Like::int(DType::I64, &taken);
        let top = Op::TopK { axis, smallest: axis == 1 };
        let top = self.c.nodes(top, vec![Some(self.x)], vec![Like::f32(&taken), places]);
        self.c.output(top[1]);
        self.end(top[0]);
    }

    /// The image as pictures with as many axes as it has, in the order of its elements, and boxes.
    fn samples(&mut self) {
        let [batch, channels, height, width] = self.shape;
        let pictures: [Vec<usize>; 3] =
            [vec![batch * channels, height, width], self.shape.to_vec(), vec![batch, channels, height, width, 1]];
        for (k, shape) in pictures.into_iter().enumerate() {
            let places: Vec<usize> = (0..=k).map(|_| self.r.between(1, 3)).collect();
            let grid = self.r.array(DType::F32, &[&shape[..1], &places, &[k + 1]].concat());
            let grid = self.c.input(grid, None);
            let (mode, padding) = (self.r.pick(SampleMode::ALL), self.r.pick(SamplePadding::ALL));
            let x = self.c.node(Op::Reshape, &[self.x], Like::f32(&shape));
            let op = Op::GridSample { mode, padding, align_corners: self.r.once_in(2) };
            self.node(op, &[x, grid], &[&shape[..1], &places, &shape[k + 2..]].concat());
        }
        let picture = self.c.node(Op::Reshape, &[self.x], Like::f32(&[batch, height, width, channels]));
        let corners = self.c.input(self.r.array(DType::F32, &[3, 4]), None);
        let of = (0..3).map(|_| self.r.below(batch) as i64).collect();
        let of = self.c.input(Array::int(DType::I64, &[3], of), None);
        let op = Op::RoiAlign { ratio: 2, scale: 8.0, half_pixel: false, largest: self.r.once_in(2) };
        self.node(op, &[picture, corners, of], &[3, 2, 3, channels]);
        let boxes = self.c.input(self.r.array(DType::F32, &[batch, 6, 4]), None);
        let scores = self.c.input(self.r.array(DType::F32, &[batch, 2, 6]), None);
        let op = Op::NonMaxSuppression { most: 3, centers: false };
        let selected = self.c.node(op, &[boxes, scores], Like::int(DType::I64, &[batch * 6, 3]));
        self.c.output(selected);
    }

    fn movement(&mut self) {
        let [batch, channels, height, width] = self.shape;
        for perm in [[3, 0, 2, 1], [1, 0, 3, 2], [2, 3, 0, 1]] {
            let to: Vec<_> = perm.iter().map(|&d| self.shape[d]).collect();
            self.node(Op::Transpose { perm: perm.to_vec() }, &[self.x], &to);
        }
        let backwards = Op::Slice { starts: vec![0, channels - 1, height - 1, 1], steps: vec![1, -1, -2, 1] };
        self.node(backwards, &[self.x], &[batch, channels, height.div_ceil(2), width - 1]);
        self.node(Op::Tile { repeats: vec![1, 2, 1, 3] }, &[self.x], &[batch, 2 * channels, height, 3 * width]);
    }
}

/// Steps of all kinds, with what a seed makes of them.
fn check_seed(seed: u64, kinds: &mut Kinds) {
    let families = [Image::products, Image::windows, Image::elements, Image::axes, Image::movement, Image::samples];
    for (k, family) in families.into_iter().enumerate() {
        let mut image = Image::new(seed * 6 + k as u64 + 1);
        family(&mut image);
        let mut r = Random::new(seed + 1);
        check_case(&format!("family {k}, seed {seed}"), &image.c, &mut r, kinds);
    }
    let mut r = Random::new(seed + 100);
    let e = Extents { batch: r.between(1, 3), time: r.between(1, 6), inner: r.between(1, 40), state: r.between(1, 9) };
    let with = r.below(16);
    let scan = Recurrence::selective_scan(&mut r, e, with);
    let memory = Recurrence::legendre_memory(&mut r, e, true);
    let several = Extents { batch: e.batch + 1, ..e };
    let layers = [0, 1, 2].map(|kind| Recurrence::layer(&mut r, several, kind, with & 0b111 | 8 | (with & 8) << 1));
    for recurrence in [scan, memory].into_iter().chain(layers) {
        check_case(&format!("a recurrence, seed {seed}"), &recurrence.case(), &mut r, kinds);
    }
}

#[test]
fn rows_depend_on_nothing_else() {
    let (seeds, threads) = (u64::from(cases(24)), std::thread::available_parallelism().map_or(1, |n| n.get()));
    let mut kinds = Kinds::new();
    std::thread::scope(|scope| {
        let share = |first: u64| {
            move || {
                let mut kinds = Kinds::new();
                (first..seeds).step_by(threads).for_each(|seed| check_seed(seed, &mut kinds));
                kinds
            }
        };
        let shares: Vec<_> = (0..threads as u64).map(|first| scope.spawn(share(first))).collect();
        for (kind, found) in shares.into_iter().flat_map(|share| share.join().expect("no seed failed")) {
            let seen = kinds.entry(kind).or_default();
            (seen.narrow, seen.felt) = (seen.narrow + found.narrow, seen.felt + found.felt);
        }
    });
    println!("{kinds:#?}");
    // A feed reads nothing; the only row of a selection of boxes reads all, and so does that of the condition of a loop.
    let whole = [StepKind::Feed, StepKind::NonMaxSuppression, StepKind::GoOn];
    for kind in StepKind::ALL.iter().filter(|k| !whole.contains(k)) {
        let seen = kinds.get(kind.name()).unwrap_or_else(|| panic!("no step is a {}", kind.name()));
        assert!(seen.narrow >= 10, "{}: only {} inputs were not read whole", kind.name(), seen.narrow);
        assert!(seen.felt >= 10, "{}: only {} rows felt what they read", kind.name(), seen.felt);
    }
}

/// The small models, which have every operator.
#[test]
fn steps_of_every_operator() {
    let mut kinds = Kinds::new();
    let mut checked = 0;
    for (name, model) in small_onnx::all() {
        for target in Target::ALL {
            let options = Options { target, draws_as_inputs: true, pad_selections: true, ..Options::default() };
            let graph = import(&model.to_bytes(), None, &options).expect("imports");
            let compiled = compile(graph, &options).expect("compiles");
            let mut r = Random::new(7);
            let write = |_: &Model<'_>, _: usize, bytes: &mut [u8]| {
                for b in bytes.chunks_mut(4) {
                    b.copy_from_slice(&(r.real() as f32).to_le_bytes()[..b.len()]);
                }
            };
            let mut memory = Memory::new(&compiled.kgl, write);
            memory.check(name, &Reference, &mut Random::new(8), &mut kinds);
            checked += 1;
        }
    }
    assert!(checked >= 20, "only {checked} plans");
    let narrow: usize = kinds.values().map(|seen| seen.narrow).sum();
    assert!(narrow >= 1000, "only {narrow} inputs were not read whole");
}

/// The answers are of use: a row of a convolution does not need the whole image.
#[test]
fn a_row_of_a_convolution_reads_the_rows_of_its_window() {
    let mut r = Random::new(3);
    let mut c = Case::new();
    let (height, width, channels) = (64, 5, 3);
    let x = c.input(r.array(DType::F32, &[1, height, width, channels]), None);
    let w = c.constant(r.array(DType::F32, &[4, channels, 3, 3]), None);
    let ones = vec![1, 1];
    let pads = vec![1, 1];
    let window =
        Window { kernel: vec![3, 3], strides: ones.clone(), dilations: ones, pads_begin: pads.clone(), pads_end: pads };
    let op = Op::Conv { window, groups: 1, layout: Layout::ChannelsLast, post: Post::default() };
    let y = c.node(op, &[x, w], Like::f32(&[1, height, width, 4]));
    c.output(y);
    let compiled = compile(c.parts().0, &Options::default()).expect("compiles");
    let file = Aligned::copy(&compiled.kgl);
    let model = Model::load(file.as_ref()).expect("valid");
    assert_eq!(model.step_count(), 1);
    let step = model.step(0);
    let row = width * channels;
    let reads = |rows: Range<usize>| kernels::reads(&step, 0, rows);
    assert_eq!(reads(0..1), Some(0..2 * row));
    assert_eq!(reads(20..21), Some(19 * row..22 * row));
    assert_eq!(reads(20..30), Some(19 * row..31 * row));
    assert_eq!(reads(63..64), Some(62 * row..64 * row));
    // What is not there reads nothing.
    assert_eq!(reads(5..5), Some(0..0));
    assert_eq!(reads(64..usize::MAX), Some(0..0));
    assert_eq!(reads(60..usize::MAX), Some(59 * row..64 * row));
    assert_eq!(kernels::reads(&step, 4, 0..1), Some(0..0), "there is no residual");
    assert_eq!(kernels::reads(&step, 1, 0..1), None, "weights are read whole");
    assert_eq!(kernels::reads(&step, usize::MAX, 0..1), Some(0..0));
}
