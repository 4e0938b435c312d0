//! Bands of rows: the same bits as without, in less memory, for any graph, target, set of kernels and number of workers.

use std::collections::BTreeMap;

use kinglet::kernels::{BinaryOp, NormKind, PadMode, ReduceOp, UnaryOp};
use kinglet::session::ArenaView;
use kinglet::{DType, Inline, Model, Observer, Quiet, Reference, StepKind, Target};
use kinglet_compiler::array::Array;
use kinglet_compiler::graph::{Graph, Layout, Op, PoolKind, Post, TensorId, Window};
use kinglet_compiler::{Banding, Compiled, Error, MemoryRegion, Options, Precision, compile, import};
use kinglet_native::Pool;
use kinglet_tests::attention::attention;
use kinglet_tests::mobilenet::mobilenet_v2;
use kinglet_tests::one_node::{Case, Like};
use kinglet_tests::quantised::quantised;
use kinglet_tests::small_onnx::picture;
use kinglet_tests::{Aligned, Random, run_on};
use proptest::prelude::*;

/// A picture net that grows step by step.
struct Net {
    case: Case,
    r: Random,
    /// Tensors with their shapes, the newest last.
    tensors: Vec<(TensorId, [usize; 3])>,
}

impl Net {
    fn new(seed: u64) -> Net {
        let (mut r, mut case) = (Random::new(seed), Case::new());
        // A sequence now and then: pictures of one column.
        let width = if r.below(3) == 0 { 1 } else { r.below(6) + 1 };
        let shape = [r.below(20) + 4, width, r.below(5) + 1];
        let x = case.input(r.array(DType::F32, &with_batch(shape)), None);
        Net { case, r, tensors: vec![(x, shape)] }
    }

    fn add(&mut self, op: Op, inputs: &[TensorId], shape: [usize; 3]) {
        let t = self.case.node(op, inputs, Like::f32(&with_batch(shape)));
        self.tensors.push((t, shape));
    }

    /// A window over a picture, and the extents of what it makes, if it makes anything.
    fn window(&mut self, size: [usize; 3]) -> Option<(Window, [usize; 2])> {
        let kernel = [self.r.below(5) + 1, if size[1] == 1 { 1 } else { self.r.below(3) + 1 }];
        let stride = [self.r.below(3) + 1, if size[1] == 1 { 1 } else { self.r.below(2) + 1 }];
        let dilation = [self.r.below(2) + 1, 1];
        let reach = [0, 1].map(|d| (kernel[d] - 1) * dilation[d] + 1);
        // Padding on both sides, on one, or none.
        let pads = [0, 1].map(|d| [self.r.below(reach[d]), self.r.below(reach[d])].map(|p| p.min(reach[d] - 1)));
        let whole = [0, 1].map(|d| size[d] + pads[d][0] + pads[d][1]);
        let out = [0, 1].map(|d| (whole[d].checked_sub(reach[d])).map_or(0, |n| n / stride[d] + 1));
        let window = Window {
            kernel: kernel.to_vec(),
            strides: stride.to_vec(),
            dilations: dilation.to_vec(),
            pads_begin: pads.map(|p| p[0] as i64).to_vec(),
            pads_end: pads.map(|p| p[1] as i64).to_vec(),
        };
        (out[0] > 0 && out[1] > 0).then_some((window, out))
    }

    fn grow(&mut self) {
        let back = self.r.below(3).min(self.tensors.len() - 1);
        let (x, size) = self.tensors[self.tensors.len() - 1 - back];
        let [h, w, c] = size;
        let layout = Layout::ChannelsLast;
        match self.r.below(18) {
            0 | 1 => {
                let Some((window, [oh, ow])) = self.window(size) else { return };
                let depthwise = self.r.below(2) == 0;
                let (groups, out_c) = if depthwise { (c, c) } else { (1, self.r.below(6) + 1) };
                let ws = [out_c, c / groups, window.kernel[0], window.kernel[1]];
                let weights = self.case.constant(self.r.array(DType::F32, &ws), None);
                self.add(Op::Conv { window, groups, layout, post: Post::default() }, &[x, weights], [oh, ow, out_c]);
            }
            2 => {
                let out_c = self.r.below(20) + 1;
                let window = unpadded([1, 1], [1, 1]);
                let weights = self.case.constant(self.r.array(DType::F32, &[out_c, c, 1, 1]), None);
                self.add(Op::Conv { window, groups: 1, layout, post: Post::default() }, &[x, weights], [h, w, out_c]);
            }
            3 => {
                let up = self.r.below(2) + 1;
                let kernel = [self.r.below(3) + 1, 1];
                let window = unpadded(kernel, [up, 1]);
                let weights = self.case.constant(self.r.array(DType::F32, &[c, 2, kernel[0], 1]), None);
                let shape = [(h - 1) * up + kernel[0], w, 2];
                self.add(Op::ConvTranspose { window, groups: 1, layout, post: Post::default() }, &[x, weights], shape);
            }
            4 => {
                let Some((mut window, [oh, ow])) = self.window(size) else { return };
                // What no window covers would be an average of nothing.
                window.dilations = vec![1, 1];
                let kind = [PoolKind::Max, PoolKind::Average][self.r.below(2)];
                let reach = [0, 1].map(|d| window.kernel[d]);
                let pads = |d: usize| (window.pads_begin[d] + window.pads_end[d]) as usize;
                let out =
                    [0, 1].map(|d| (size[d] + pads(d)).checked_sub(reach[d]).map_or(0, |n| n / window.strides[d] + 1));
                if out[0] * out[1] * oh * ow > 0 {
                    self.add(Op::Pool { kind, window, layout }, &[x], [out[0], out[1], c]);
                }
            }
            5 => {
                let op = [UnaryOp::Relu, UnaryOp::Tanh, UnaryOp::Neg][self.r.below(3)];
                self.add(Op::unary(op), &[x], size);
            }
            6 => {
                let mode = [PadMode::Constant, PadMode::Reflect, PadMode::Edge][self.r.below(3)];
                let [most_h, most_w] = [h, w].map(|n| if mode == PadMode::Reflect { n } else { 4 }.min(4));
                let [top, bottom] = [self.r.below(most_h), self.r.below(most_h)];
                let [left, right] = [self.r.below(most_w), self.r.below(most_w)];
                let (before, after) = (vec![0, top, left, 0], vec![0, bottom, right, 0]);
                let shape = [h + top + bottom, w + left + right, c];
                self.add(Op::Pad { mode, before, after, value: 0.5 }, &[x], shape);
            }
            7 => {
                // A tensor of the same shape, by preference not the same.
                let other = self.tensors.iter().find(|(t, s)| *t != x && *s == size).map_or(x, |(t, _)| *t);
                self.add(Op::Binary(BinaryOp::Add), &[x, other], size);
            }
            8 => {
                let by = self.case.constant(self.r.array(DType::F32, &[c]), None);
                self.add(Op::Binary(BinaryOp::Mul), &[x, by], size);
            }
            9 => {
                // Beside a tensor of the same extents, by preference not the same.
                let other = self.tensors.iter().find(|(t, s)| *t != x && s[..2] == size[..2]);
                let (other, more) = other.map_or((x, c), |(t, s)| (*t, s[2]));
                if c + more < 24 {
                    self.add(Op::Concat { axis: 3 }, &[x, other], [h, w, c + more]);
                }
            }
            10 => {
                let block = self.r.below(2) + 2;
                if c.is_multiple_of(block * block) && h < 40 {
                    let crd = self.r.below(2) == 0;
                    let shape = [h * block, w * block, c / (block * block)];
                    self.add(Op::DepthToSpace { block, crd, layout }, &[x], shape);
                }
            }
            11 => {
                // Over channels, a row, the picture, or each channel of it.
                let axes = [vec![3], vec![2, 3], vec![1, 2, 3], vec![1, 2]][self.r.below(4)].clone();
                let kind = [NormKind::Layer, NormKind::Rms][self.r.below(2)];
                self.add(Op::Norm { kind, axes, epsilon: 0.01 }, &[x], size);
            }
            12 => {
                let axis = self.r.below(2) + 2;
                let log = self.r.below(2) == 0;
                self.add(Op::Softmax { axis, log }, &[x], size);
            }
            13 => {
                let step = self.r.below(2) + 1;
                let [top, left, first] = [h, w, c].map(|n| self.r.below(n));
                let shape = [(h - top).div_ceil(step), w - left, c - first];
                let (starts, steps) = (vec![0, top, left, first], vec![1, step as i64, 1, 1]);
                self.add(Op::Slice { starts, steps }, &[x], shape);
            }
            14 => {
                // The mean of each channel, which is added to the picture.
                let window = unpadded([h, w], [1, 1]);
                self.add(Op::Pool { kind: PoolKind::Average, window, layout }, &[x], [1, 1, c]);
                let mean = self.tensors.pop().expect("it was added").0;
                self.add(Op::Binary(BinaryOp::Add), &[x, mean], size);
            }
            15 | 16 => self.attend(x, size),
            _ => {
                let op = [ReduceOp::Mean, ReduceOp::Max][self.r.below(2)];
                let axis = self.r.below(2) + 2;
                let shape = [h, if axis == 2 { 1 } else { w }, if axis == 3 { 1 } else { c }];
                self.add(Op::Reduce { op, axes: vec![axis], keep: true }, &[x], shape);
            }
        }
    }

    /// Attention, each row of the picture a head: to itself, or to a tensor of which only the height is the same.
    fn attend(&mut self, x: TensorId, size: [usize; 3]) {
        let [h, w, c] = size;
        let product = |transpose_b| Op::MatMul { transpose_a: false, transpose_b, post: Post::default() };
        let other = self.tensors.iter().find(|(t, s)| *t != x && (s[0], s[2]) == (h, c)).copied();
        let (k, keys) = other.map_or((x, w), |(t, s)| (t, s[1]));
        self.add(product(true), &[x, k], [h, w, keys]);
        let scores = self.tensors.pop().expect("it was added").0;
        let shape = with_batch([h, w, keys]);
        let mask = [vec![keys], vec![w, keys], vec![h, 1, keys]][self.r.below(3)].clone();
        let mask = self.case.constant(self.r.array(DType::F32, &mask), None);
        let shown = self.case.node(Op::Binary(BinaryOp::Add), &[scores, mask], Like::f32(&shape));
        let weights = self.case.node(Op::Softmax { axis: 3, log: false }, &[shown], Like::f32(&shape));
        self.add(product(false), &[weights, k], size);
    }

    fn build(seed: u64, steps: usize) -> (Graph, BTreeMap<String, Array>) {
        let mut net = Net::new(seed);
        (0..steps).for_each(|_| net.grow());
        let last = net.tensors.last().expect("there is an input").0;
        net.case.output(last);
        // Now and then a tensor in the middle is an output too.
        if net.r.below(3) == 0 {
            let t = net.tensors[net.r.below(net.tensors.len())].0;
            net.case.output(t);
        }
        net.case.parts()
    }
}

/// A window without padding.
fn unpadded(kernel: [usize; 2], strides: [usize; 2]) -> Window {
    let (dilations, pads) = (vec![1, 1], vec![0, 0]);
    Window { kernel: kernel.to_vec(), strides: strides.to_vec(), dilations, pads_begin: pads.clone(), pads_end: pads }
}

fn with_batch([h, w, c]: [usize; 3]) -> [usize; 4] {
    [1, h, w, c]
}

/// What each step makes, in pieces.
struct Made(Vec<Vec<Vec<u8>>>);

impl Observer for Made {
    fn after(&mut self, step: usize, arena: &ArenaView<'_>) {
        arena.made(|piece| self.0[step].push(piece.to_vec()));
    }
}

/// What the steps of a plan make, by their names, which some share.
fn made(kgl: &[u8], inputs: &BTreeMap<String, Array>) -> Vec<(String, Vec<Vec<u8>>)> {
    let file = Aligned::copy(kgl);
    let model = Model::load(file.as_ref()).expect("the compiler writes valid files");
    let mut made = Made(vec![Vec::new(); model.step_count()]);
    run_on(&Reference, kgl, inputs, &Inline, &mut made);
    // What becomes of sums over a picture is a step of its own, which has no other's name: a mean that is one step elsewhere has none such.
    let folds = |t| {
        (0..model.step_count()).any(|i| model.step(i).kind() == Some(StepKind::Fold) && model.step(i).output(0) == t)
    };
    let of_fold = |i: usize| model.step(i).input(0).is_some_and(|t| folds(Some(t)));
    let name = |i| {
        let of = if of_fold(i) { " of sums" } else { "" };
        format!("{} {:?}{of}", model.step(i).name().unwrap_or(""), model.step(i).kind())
    };
    made.0.into_iter().enumerate().map(|(i, pieces)| (name(i), pieces)).collect()
}

/// Whether rows are those of a tensor, in their order; those that nobody reads may be lost.
fn within(rows: &[Vec<u8>], whole: &[u8]) -> bool {
    let mut rest = whole;
    let found = rows.iter().all(|row| {
        let at = rest.windows(row.len().max(1)).position(|made| made == row);
        rest = at.map_or(rest, |at| &rest[at + row.len()..]);
        at.is_some() || row.is_empty()
    });
    found && (whole.is_empty() || !rows.concat().is_empty())
}

/// Compiles with and without bands and compares what both give, on everything that runs the plan. The number of bands.
fn check(graph: &Graph, inputs: &BTreeMap<String, Array>, precision: Precision) -> usize {
    let pool = Pool::new(3).expect("there are threads");
    let mut bands = 0;
    for target in Target::ALL {
        let compiled = |bands| -> Compiled {
            compile(graph.clone(), &Options { target, bands, precision, ..Options::default() }).expect("it compiles")
        };
        let (off, on) = (compiled(Banding::Off), compiled(Banding::Memory));
        assert!(on.report.arena_bytes <= off.report.arena_bytes);
        let ports = graph.inputs.iter().map(|&t| &graph.tensors[t].name).chain(&graph.output_names);
        let fed = |bands| {
            let feed = ports.clone().cloned().collect();
            let options = Options { target, bands, feed, precision, ..Options::default() };
            compile(graph.clone(), &options).expect("it compiles")
        };
        // With a part of the tensors in slow memory, more or less of them.
        let split = |bands| {
            let part = graph.tensors.len() % 4;
            let whole = if bands == Banding::Off { &off.report } else { &on.report };
            let tensors = whole.arena_bytes - whole.scratch_bytes;
            let bytes = whole.scratch_bytes + tensors / 4 * part;
            let region = |name: &str, bytes| MemoryRegion { name: name.into(), bytes };
            let regions = vec![region("sram", bytes), region("psram", 1 << 30)];
            let options = Options { target, bands, regions, precision, ..Options::default() };
            let compiled = compile(graph.clone(), &options).expect("the slow memory has room");
            let r = &compiled.report;
            // (Under a limit there may be bands that take less than those that are looked for without one.)
            let some = r.slow_bytes > 0 || part > 0;
            assert!(r.arena_bytes <= bytes && some, "{} of {bytes}, {}", r.arena_bytes, r.slow_bytes);
            compiled
        };
        for plan in [fed(Banding::Off), fed(Banding::Memory), split(Banding::Off), split(Banding::Memory)] {
            let want = run_on(&Reference, &off.kgl, inputs, &Inline, &mut Quiet);
            let got = run_on(&Reference, &plan.kgl, inputs, &Inline, &mut Quiet);
            let shared = run_on(&Reference, &plan.kgl, inputs, &pool, &mut Quiet);
            for (output, want) in &want {
                assert_eq!(got[output].to_bytes(), want.to_bytes(), "{output}, fed or split, {}", target.name());
                assert_eq!(shared[output].to_bytes(), want.to_bytes(), "{output}, fed or split, three workers");
            }
        }
        // A step makes the same, whether at once or slice by slice, and whatever lay in memory before. (With bands the mean of a picture is two steps.)
        let (at_once, by_rows) = (made(&off.kgl, inputs), made(&on.kgl, inputs));
        let mut compared = 0;
        for (step, rows) in &by_rows {
            let mut same = at_once.iter().filter(|(name, _)| name == step).map(|(_, whole)| whole.concat()).peekable();
            compared += usize::from(same.peek().is_some());
            let fits = same.peek().is_none() || same.any(|whole| within(rows, &whole));
            assert!(fits, "step {step} makes something else, {}", target.name());
        }
        assert!(compared > 0, "no step is in both plans");
        let file = Aligned::copy(&on.kgl);
        bands += Model::load(file.as_ref()).expect("the compiler writes valid files").band_count();
        for (name, kernels) in kinglet_native::kernel_sets() {
            if kinglet::Session::new(Model::load(file.as_ref()).expect("as above"), &mut [], *kernels)
                .is_err_and(|e| matches!(e, kinglet::Error::Kernels { .. }))
            {
                continue;
            }
            let want = run_on(*kernels, &off.kgl, inputs, &Inline, &mut Quiet);
            let got = run_on(*kernels, &on.kgl, inputs, &Inline, &mut Quiet);
            let shared = run_on(*kernels, &on.kgl, inputs, &pool, &mut Quiet);
            for (output, want) in &want {
                assert_eq!(got[output].to_bytes(), want.to_bytes(), "{output} on {name}, {}", target.name());
                assert_eq!(shared[output].to_bytes(), want.to_bytes(), "{output} on {name}, three workers");
            }
        }
    }
    bands
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Random nets: strides, dilation, padding on either side, upsampling, residuals, several outputs.
    #[test]
    fn bands_change_no_bit(seed in any::<u64>(), steps in 2..10usize) {
        let (graph, inputs) = Net::build(seed, steps);
        check(&graph, &inputs, if seed % 2 == 0 { Precision::F32 } else { Precision::F16 });
        let values: Vec<Array> = graph.inputs.iter().map(|&t| inputs[&graph.tensors[t].name].clone()).collect();
        check(&quantised(&graph, &[values]), &inputs, Precision::F32);
    }
}

/// A limit takes as few calls of kernels as it leaves; one that cannot be kept is an error that says by how much, and where.
#[test]
fn limits_of_the_arena_are_kept_or_refused() {
    let model = picture();
    let plan = |bands, max_arena: Option<usize>| {
        let regions = Vec::from_iter(max_arena.map(|bytes| MemoryRegion { name: "sram".into(), bytes }));
        let options = Options { bands, regions, ..Options::default() };
        compile(import(&model.to_bytes(), None, &options).expect("it imports"), &options)
    };
    let arena = |bands| plan(bands, None).expect("it compiles").report.arena_bytes;
    let (off, least) = (arena(Banding::Off), arena(Banding::Memory));
    assert!(least < off);
    let mut calls = Vec::new();
    for most in [off, (off + least) / 2, least + (off - least) / 8, least] {
        let compiled = plan(Banding::Memory, Some(most)).expect("it fits");
        assert!(compiled.report.arena_bytes <= most);
        let kgl = Aligned::copy(&compiled.kgl);
        let model = Model::load(kgl.as_ref()).expect("the compiler writes valid files");
        calls.push((0..model.step_count()).fold(0, |n, i| {
            let r = *model.step(i).record();
            n + if r.slice_rows == 0 { 1 } else { (r.rows + r.delay).div_ceil(r.slice_rows) }
        }));
    }
    assert!(calls[0] < calls[3] && calls.is_sorted(), "{calls:?}");
    for (bands, most) in [(Banding::Memory, least - 1), (Banding::Off, off - 1), (Banding::Memory, 0)] {
        let error = plan(bands, Some(most)).expect_err("it does not fit");
        let Error::Region { needed, ref why, .. } = error else { panic!("{error}") };
        assert_eq!(needed, if bands == Banding::Off { off } else { least });
        let text = error.to_string();
        assert!(
            why.contains("are alive at `") && text.contains("`sram`") && text.contains(&(needed - most).to_string()),
            "{text}"
        );
    }
}

/// A picture larger than caches, with reflected padding and a residual as restoration nets have them: what the bands for speed are for.
#[test]
fn bands_for_speed_change_no_bit() {
    let mut net = Net::new(1);
    let shape = [300, 256, 8];
    let x = net.case.input(net.r.array(DType::F32, &with_batch(shape)), None);
    let weights = |net: &mut Net, dims: [usize; 4]| net.case.constant(net.r.array(DType::F32, &dims), None);
    let conv = |kernel: usize, groups: usize| Op::Conv {
        window: unpadded([kernel; 2], [1, 1]),
        groups,
        layout: Layout::ChannelsLast,
        post: Post::default(),
    };
    let w = weights(&mut net, [8, 8, 1, 1]);
    net.add(conv(1, 1), &[x, w], shape);
    let a = net.tensors.last().expect("there is one").0;
    let (before, after) = (vec![0, 2, 2, 0], vec![0, 2, 2, 0]);
    net.add(Op::Pad { mode: PadMode::Reflect, before, after, value: 0.0 }, &[a], [304, 260, 8]);
    let (p, w) = (net.tensors.last().expect("there is one").0, weights(&mut net, [8, 1, 5, 5]));
    net.add(conv(5, 8), &[p, w], shape);
    let (d, w) = (net.tensors.last().expect("there is one").0, weights(&mut net, [8, 8, 1, 1]));
    net.add(conv(1, 1), &[d, w], shape);
    let e = net.tensors.last().expect("there is one").0;
    net.add(Op::Binary(BinaryOp::Add), &[e, a], shape);
    let y = net.tensors.last().expect("there is one").0;
    net.case.output(y);
    let (graph, inputs) = net.case.parts();
    let pool = Pool::new(3).expect("there are threads");
    let target = kinglet_native::host_target();
    let plan = |bands| compile(graph.clone(), &Options { target, bands, ..Options::default() }).expect("it compiles");
    let (off, on) = (plan(Banding::Off), plan(Banding::Speed));
    assert!(on.report.steps.iter().filter(|s| s.banded).count() >= 3);
    let run = |plan: &Compiled, workers: &dyn kinglet::Workers| {
        let best = kinglet_native::best_kernels();
        run_on(best, &plan.kgl, &inputs, workers, &mut Quiet)
            .into_values()
            .next()
            .expect("an output")
            .to_bytes()
            .into_owned()
    };
    let want = run(&off, &Inline);
    assert!(run(&on, &Inline) == want && run(&on, &pool) == want);
}

/// Of the scores of attention only some rows are there at a time: of all heads' where nothing of another shape is added to them, of one
/// head's where a mask is that all heads share.
#[test]
fn attention_keeps_few_of_its_scores() {
    const HEADS: usize = 6;
    const TIME: usize = 160;
    let scores = HEADS * TIME * TIME * 4;
    for (mask, rows) in [(None, 64), (Some(&[TIME][..]), 64), (Some(&[TIME, TIME]), TIME)] {
        let (graph, inputs) = attention(HEADS, TIME, 8, mask);
        assert!(check(&graph, &inputs, Precision::F32) > 0);
        let target = Target::X86_64;
        let tensors = |bands| {
            let plan = compile(graph.clone(), &Options { target, bands, ..Options::default() }).expect("it compiles");
            plan.report.arena_bytes - plan.report.scratch_bytes
        };
        // Scores are written, and read by softmax, which writes them anew.
        let kept = 3 * rows * TIME * 4;
        let (off, on) = (tensors(Banding::Off), tensors(Banding::Memory));
        assert!(off >= scores && on <= off - scores + kept, "{off} bytes become {on}");
    }
}

/// Two steps of one name and kind, of which one is a part of a mean in bands alone.
#[test]
fn a_mean_has_the_name_of_another_step() {
    let (graph, inputs) = Net::build(6068247685011714740, 8);
    let values: Vec<Array> = graph.inputs.iter().map(|&t| inputs[&graph.tensors[t].name].clone()).collect();
    check(&quantised(&graph, &[values]), &inputs, Precision::F32);
}

/// There are bands in what the property tests run, so that they test something.
#[test]
fn random_nets_have_bands() {
    let found = (0..40).filter(|&seed| {
        let (graph, inputs) = Net::build(seed, 8);
        check(&graph, &inputs, Precision::F32) > 0
    });
    let found = found.count();
    assert!(found > 15, "{found} of 40");
}

/// A model of the size that microcontrollers run, in less memory than by patches that compute their borders again (MCUNetV2: 172 kB for
/// this model; Lin et al. 2021).
#[test]
fn mobilenet_fits_a_microcontroller() {
    let (graph, inputs) = mobilenet_v2(224);
    let plan = |bands, feed: &[&str]| {
        let feed = feed.iter().map(|s| s.to_string()).collect();
        compile(graph.clone(), &Options { bands, feed, ..Options::default() }).expect("it compiles")
    };
    let best = kinglet_native::best_kernels();
    let off = plan(Banding::Off, &[]);
    let want = run_on(&Reference, &off.kgl, &inputs, &Inline, &mut Quiet);
    assert!(want["y0"].ints().iter().collect::<std::collections::BTreeSet<_>>().len() > 20, "answers differ");
    for (feed, most) in [(&[][..], 207_872), (&["image"][..], 136_640)] {
        let on = plan(Banding::Memory, feed);
        let tensors = on.report.arena_bytes - on.report.scratch_bytes;
        assert!(tensors <= most, "{tensors} bytes of tensors");
        let set: [&dyn kinglet::Kernels; 2] = [&Reference, best];
        for kernels in set {
            assert_eq!(run_on(kernels, &on.kgl, &inputs, &Inline, &mut Quiet)["y0"].to_bytes(), want["y0"].to_bytes());
        }
    }
}
