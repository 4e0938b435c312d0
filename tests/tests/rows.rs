//! Results do not depend on the number of workers, on the cut into ranges of rows, or on the order they run in: the same
//! bits, in integers and in floats.

use std::collections::BTreeMap;

use kinglet::kernels::{BinaryOp, NormKind, PadMode, PoolKind, ReduceOp};
use kinglet::{DType, Quiet, Workers};
use kinglet_compiler::array::Array;
use kinglet_compiler::graph::{
    Layout, Op, Post, Quant, SampleMode, SamplePadding, ScatterOp, TensorId, UnaryOp, Window,
};
use kinglet_compiler::{Options, compile, import};
use kinglet_onnx::DataType;
use kinglet_tests::one_node::{Case, Like};
use kinglet_tests::recurrences::{Extents, Recurrence};
use kinglet_tests::small_onnx::{Builder, Value, floats};
use kinglet_tests::{Random, compile_for, draws, exports, read_npz, run, run_with};

/// Tiles on threads of their own.
struct Threads(usize);

// SAFETY: each tile is called once, and all calls have returned at the end.
unsafe impl Workers for Threads {
    fn count(&self) -> usize {
        self.0
    }

    fn for_each_tile(&self, n: usize, tile: &(dyn Fn(usize) + Sync)) {
        assert!(n <= self.0, "more tiles than workers");
        std::thread::scope(|s| {
            for t in 0..n {
                s.spawn(move || tile(t));
            }
        });
    }
}

/// Tiles on one thread, the last first. With a large count nearly every tile is a single row.
struct Backwards(usize);

// SAFETY: each tile is called once, and all calls have returned at the end.
unsafe impl Workers for Backwards {
    fn count(&self) -> usize {
        self.0
    }

    fn for_each_tile(&self, n: usize, tile: &(dyn Fn(usize) + Sync)) {
        (0..n).rev().for_each(tile);
    }
}

/// Every element as bits: NaN equals itself, and 0 is not −0.
fn bits(outputs: &BTreeMap<String, Array>) -> BTreeMap<String, Vec<u8>> {
    outputs.iter().map(|(k, v)| (k.clone(), v.to_bytes().into_owned())).collect()
}

fn check(name: &str, kgl: &[u8], inputs: &BTreeMap<String, Array>) {
    let want = bits(&run(kgl, inputs));
    let workers: [(&str, &dyn Workers); 7] = [
        ("1 thread", &Threads(1)),
        ("2 threads", &Threads(2)),
        ("3 threads", &Threads(3)),
        ("7 threads", &Threads(7)),
        ("2 backwards", &Backwards(2)),
        ("5 backwards", &Backwards(5)),
        ("single rows backwards", &Backwards(1000)),
    ];
    for (how, workers) in workers {
        assert!(bits(&run_with(kgl, inputs, workers, &mut Quiet)) == want, "{name}: other bits with {how}");
    }
}

#[test]
fn exported_models() {
    let Some(files) = exports() else { return };
    let mut checked = 0;
    for path in files.iter().filter(|path| !draws(path)) {
        let name = path.file_stem().expect("a file").to_string_lossy();
        // Models of other shapes are the same kernels once more.
        if ["_dyn", "dynhw", "dynbatch", "_noopt"].iter().any(|s| name.contains(s)) {
            continue;
        }
        let arrays = read_npz(&path.with_extension("npz"));
        let infos = kinglet_compiler::shape_of_inputs(&std::fs::read(path).expect("readable")).expect("valid");
        let inputs: BTreeMap<_, _> =
            infos.iter().filter_map(|i| Some((i.name.clone(), arrays.get(&i.name)?.clone()))).collect();
        let compiled = compile_for(path, &inputs).unwrap_or_else(|e| panic!("{name}: {e}"));
        check(&name, &compiled.kgl, &inputs);
        checked += 1;
    }
    assert!(checked >= 50, "only {checked} exports were checked");
}

/// A tensor of the graphs below: float, or quantised and dequantised.
fn image(r: &mut Random, c: &mut Case, shape: &[usize], quant: Option<(DType, Quant)>) -> TensorId {
    match quant {
        None => c.input(r.array(DType::F32, shape), None),
        Some((dtype, q)) => {
            let x = c.input(r.array(dtype, shape), Some(q));
            c.dequantize(x)
        }
    }
}

/// Every step kind on tensors of [2, 24, 15, 17] or so, each result an output: 16 K elements and more are cut.
fn large(seed: u64, quantized: bool) -> Case {
    let mut r = Random::new(seed);
    let mut c = Case::new();
    let q = |r: &mut Random| quantized.then(|| (DType::I8, r.quant(DType::I8, 0.01)));
    let shape = [2, 24, 35, 17];
    let quant = q(&mut r);
    let x = image(&mut r, &mut c, &shape, quant);
    let window = |k: usize, stride: usize, pad: i64| Window {
        kernel: vec![k, k],
        strides: vec![stride, stride],
        dilations: vec![1, 1],
        pads_begin: vec![pad, pad],
        pads_end: vec![pad, pad],
    };
    let layout = Layout::ChannelsFirst;
    let conv = |w: Window, groups: usize| Op::Conv { window: w, groups, layout, post: Post::default() };
    let weights = |c: &mut Case, r: &mut Random, s: &[usize]| {
        let v = r.array(if quantized { DType::I8 } else { DType::F32 }, s);
        let w = c.constant(v, quantized.then(|| Quant::per_tensor(0.004, 3)));
        if quantized { c.dequantize(w) } else { w }
    };
    let (dense, deep, up) = (
        weights(&mut c, &mut r, &[19, 24, 3, 3]),
        weights(&mut c, &mut r, &[24, 1, 3, 3]),
        weights(&mut c, &mut r, &[24, 9, 3, 3]),
    );
    let table = r.array(DType::F32, &[1, 24, 1, 1]);
    let by = c.constant(table, None);
    let slope = c.constant(r.array(DType::F32, &[24, 1, 1]), None);
    let all = Like::f32(&shape);
    let mut ends = vec![
        c.node(conv(window(3, 1, 1), 1), &[x, dense], Like::f32(&[2, 19, 35, 17])),
        c.node(conv(window(3, 2, 1), 24), &[x, deep], Like::f32(&[2, 24, 18, 9])),
        c.node(
            Op::ConvTranspose { window: window(3, 2, 1), groups: 1, layout, post: Post::default() },
            &[x, up],
            Like::f32(&[2, 9, 69, 33]),
        ),
        c.node(Op::unary(UnaryOp::Gelu), &[x], all.clone()),
        c.node(Op::Binary(BinaryOp::PRelu), &[x, slope], all.clone()),
        c.node(Op::ScaleShift, &[x, by, slope], all.clone()),
        c.node(Op::Pool { kind: PoolKind::Average, window: window(3, 1, 1), layout }, &[x], all.clone()),
        c.node(Op::Softmax { axis: 1, log: false }, &[x], all.clone()),
        c.node(Op::Softmax { axis: 3, log: true }, &[x], all.clone()),
        c.node(Op::Norm { kind: NormKind::Layer, axes: vec![1], epsilon: 1e-5 }, &[x], all.clone()),
        c.node(Op::Norm { kind: NormKind::Layer, axes: vec![2, 3], epsilon: 1e-5 }, &[x], all.clone()),
        c.node(Op::Reduce { op: ReduceOp::Mean, axes: vec![3], keep: true }, &[x], Like::f32(&[2, 24, 35, 1])),
        c.node(Op::CumSum { axis: 2, exclusive: false, reverse: true }, &[x], all.clone()),
        c.node(Op::Transpose { perm: vec![3, 0, 2, 1] }, &[x], Like::f32(&[17, 2, 35, 24])),
        c.node(
            Op::Pad { mode: PadMode::Reflect, before: vec![0, 0, 3, 2], after: vec![0, 1, 2, 4], value: 0.0 },
            &[x],
            Like::f32(&[2, 25, 40, 23]),
        ),
    ];
    let arg = Op::ArgMax { axis: 1, keep: true, smallest: false, last: false };
    let flat = c.node(Op::Reshape, &[x], Like::f32(&[48, 35, 17]));
    let square = Op::MatMul { transpose_a: false, transpose_b: true, post: Post::default() };
    ends.push(c.node(square, &[flat, flat], Like::f32(&[48, 35, 35])));
    let i = c.constant(Array::i64s(&[3, -1, 7, 0, 0, 30]), None);
    ends.push(c.node(Op::Gather { axis: 2 }, &[x, i], Like::f32(&[2, 24, 6, 17])));
    // Of elements within slices, and of slices, each of which meets others.
    let (index, updates) = ([2, 24, 9, 17], r.array(DType::F32, &[2, 24, 9, 17]));
    let index = r.indices(&shape, Some(2), &index, DType::I64);
    let (i, updates) = (c.input(index, None), c.constant(updates, None));
    ends.push(c.node(Op::Scatter { op: ScatterOp::Max, axis: Some(2) }, &[x, updates, i], all.clone()));
    let (index, updates) = (r.indices(&shape, None, &[90, 3], DType::I32), r.array(DType::F32, &[90, 17]));
    let (i, updates) = (c.input(index, None), c.input(updates, None));
    for op in [ScatterOp::Replace, ScatterOp::Add] {
        ends.push(c.node(Op::Scatter { op, axis: None }, &[x, updates, i], all.clone()));
    }
    let places = Like::int(DType::I64, &[2, 24, 9, 17]);
    // The same picture with its rows as pictures' axes, one and two.
    for (axes, mode) in [(1, SampleMode::Linear), (2, SampleMode::Cubic)] {
        let (batch, channels) = if axes == 1 { (2 * 24, 17) } else { (2, 17) };
        let (extents, places) = if axes == 1 { (vec![35], vec![70]) } else { (vec![24, 35], vec![30, 31]) };
        let picture = c.node(Op::Reshape, &[x], Like::f32(&[&[batch], &extents[..], &[channels]].concat()));
        let grid = c.input(r.array(DType::F32, &[&[batch], &places[..], &[axes]].concat()), None);
        let op = Op::GridSample { mode, padding: SamplePadding::Reflection, align_corners: axes == 1 };
        ends.push(c.node(op, &[picture, grid], Like::f32(&[&[batch], &places[..], &[channels]].concat())));
    }
    // Corners whose points f32 knows exactly.
    let corner = |r: &mut Random| r.below(120) as f64 / 4.0 + 0.0625;
    let corners = (0..20 * 4).map(|_| corner(&mut r)).collect();
    let (corners, pictures) = (Array::f32(&[20, 4], corners), (0..20).map(|i| i % 2).collect());
    let (corners, pictures) = (c.input(corners, None), c.constant(Array::int(DType::I64, &[20], pictures), None));
    let picture = c.node(Op::Reshape, &[x], Like::f32(&[2, 24, 35, 17]));
    let op = Op::RoiAlign { ratio: 0, scale: 1.0, half_pixel: true, largest: false };
    ends.push(c.node(op, &[picture, corners, pictures], Like::f32(&[20, 4, 8, 17])));
    // Corners are integers, so that no overlap is nearly the limit.
    let corners = (0..2 * 40 * 4).map(|_| r.below(20) as f64).collect();
    let boxes = c.input(Array::f32(&[2, 40, 4], corners), None);
    let scores = c.input(r.array(DType::F32, &[2, 3, 40]), None);
    let limit = c.constant(Array::scalar(0.3137), None);
    let select = Op::NonMaxSuppression { most: 30, centers: false };
    let selected = c.node(select, &[boxes, scores, limit], Like::int(DType::I64, &[180, 3]));
    c.output(selected);
    let top = Op::TopK { axis: 2, smallest: true };
    // Of what has its channels last, and many equal elements.
    let pooled = c.node(Op::Pool { kind: PoolKind::Max, window: window(3, 1, 1), layout }, &[x], all.clone());
    let top = c.nodes(top, vec![Some(pooled)], vec![Like::f32(&[2, 24, 9, 17]), places]);
    ends.push(top[0]);
    c.output(top[1]);
    for v in ends {
        let quant = q(&mut r).filter(|_| r.once_in(2));
        let y = match quant {
            Some((dtype, q)) => c.quantize(v, dtype, q),
            None => v,
        };
        c.output(y);
    }
    let y = c.node(arg, &[x], Like::int(DType::I64, &[2, 1, 35, 17]));
    c.output(y);
    c
}

#[test]
fn large_steps_of_every_kind() {
    for (seed, quantized) in [(1, false), (2, true), (3, true)] {
        let case = large(seed, quantized);
        case.check(kinglet_tests::one_node::Bound::OfLargest(1e-4), 1e-2);
        let (graph, inputs) = case.parts();
        let compiled = compile(graph, &Options::default()).expect("compiles");
        check(if quantized { "quantised" } else { "float" }, &compiled.kgl, &inputs);
    }
}

/// Each step overwrites the input of its own: a row computed twice, or read after it was written, shows.
fn chain(quantized: bool) -> Case {
    let mut r = Random::new(9);
    let mut c = Case::new();
    let shape = [60, 40, 24];
    let dtype = if quantized { DType::I8 } else { DType::F32 };
    let mut v = c.input(r.array(dtype, &shape), quantized.then(|| Quant::per_tensor(0.02, -7)));
    let norm = Op::Norm { kind: NormKind::Layer, axes: vec![2], epsilon: 1e-5 };
    let ops = [
        Op::unary(UnaryOp::Gelu),
        norm,
        Op::Unary { op: UnaryOp::Affine, alpha: 1.25, beta: 0.5 },
        Op::Softmax { axis: 1, log: true },
        Op::unary(UnaryOp::Exp),
        Op::Softmax { axis: 2, log: false },
        Op::CumSum { axis: 1, exclusive: true, reverse: false },
        Op::unary(UnaryOp::HardSwish),
    ];
    for op in ops {
        let unit = if matches!(op, Op::CumSum { .. }) { 0.2 } else { 0.02 };
        let y =
            if quantized { Like::quantized(dtype, &shape, Quant::per_tensor(unit, -100)) } else { Like::f32(&shape) };
        v = c.node(op, &[v], y);
    }
    if !quantized {
        let (index, updates) = (r.indices(&shape, None, &[50, 2], DType::I64), r.array(DType::F32, &[50, 24]));
        let (i, updates) = (c.input(index, None), c.input(updates, None));
        v = c.node(Op::Scatter { op: ScatterOp::Add, axis: None }, &[v, updates, i], Like::f32(&shape));
    }
    let by = c.input(r.array(DType::F32, &[1, 1, 24]), None);
    v = c.node(Op::Binary(BinaryOp::Sub), &[by, v], Like::f32(&shape));
    v = c.node(Op::ScaleShift, &[v, by, by], Like::f32(&shape));
    c.output(v);
    c
}

#[test]
fn large_steps_in_place() {
    for quantized in [false, true] {
        let (graph, inputs) = chain(quantized).parts();
        let compiled = compile(graph, &Options::default()).expect("compiles");
        check("a chain in place", &compiled.kgl, &inputs);
    }
}

#[test]
fn recurrences() {
    let mut r = Random::new(12);
    let e = Extents { batch: 2, time: 40, inner: 70, state: 17 };
    let scans = [0, 7, 15].map(|with| Recurrence::selective_scan(&mut r, e, with));
    let memory = Recurrence::legendre_memory(&mut r, Extents { inner: 5, state: 41, ..e }, true);
    let layers = (0..6).map(|k| {
        Recurrence::layer(
            &mut r,
            Extents { batch: 7, time: 9, inner: 1, state: 33 },
            k / 2,
            [0b101_1111, 0b010_0000][k % 2],
        )
    });
    let layers: Vec<_> = layers.collect();
    for (k, recurrence) in scans.into_iter().chain([memory]).chain(layers).enumerate() {
        let (graph, inputs) = recurrence.case().parts();
        let compiled = compile(graph, &Options::default()).expect("compiles");
        check(&format!("recurrence {k}"), &compiled.kgl, &inputs);
    }
}

/// Steps that are cut among workers inside a band, whose slices read what the slice before wrote.
#[test]
fn large_steps_in_a_band() {
    let mut scan = Builder::default();
    scan.formals("h v").node("MatMul", "h w", "p", &[]).node("Add", "p v", "a", &[]).node("Tanh", "a", "n", &[]);
    scan.node("Softmax", "n", "s", &[]).node("Mul", "s k", "m", &[]).outputs("n m h");
    let attributes = [("num_scan_inputs", Value::I(1)), ("body", scan.body())];
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[6, 64, 96]).input("h0", DataType::Float, &[64, 96]);
    b.constant(floats("w", &[96, 96])).input("k", DataType::Float, &[64, 96]);
    b.node("Scan", "h0 x", "last all olds", &attributes).outputs("last all olds");
    let options = Options { keep_loops: true, ..Options::default() };
    let graph = import(&b.build().to_bytes(), None, &options).expect("imports");
    let mut r = Random::new(13);
    let value = |&t: &TensorId| (graph.tensors[t].name.clone(), r.array(DType::F32, &graph.tensors[t].shape));
    let inputs = graph.inputs.iter().map(value).collect();
    let compiled = compile(graph, &options).expect("compiles");
    assert!(compiled.report.steps.iter().any(|s| s.slices == 6), "it is a band");
    check("a band", &compiled.kgl, &inputs);
}
