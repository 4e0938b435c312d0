//! Pooling, reductions, normalisations and running sums against the evaluator.

use kinglet::DType;
use kinglet_compiler::array::Array;
use kinglet_compiler::graph::{Layout, NormKind, Op, PoolKind, Quant, ReduceOp, ScatterOp, TensorId, Window};
use kinglet_compiler::{Options, compile, eval};
use kinglet_tests::one_node::{Bound, Case, LOOSE_TIE, Like, SUMS, TIE, cases};
use kinglet_tests::{Random, run};
use proptest::prelude::*;

const BYTES: [DType; 2] = [DType::I8, DType::U8];
const INTEGERS: [DType; 6] = [DType::I8, DType::U8, DType::I16, DType::U16, DType::I32, DType::I64];

fn config(n: u32) -> ProptestConfig {
    ProptestConfig { cases: cases(n), failure_persistence: None, ..ProptestConfig::default() }
}

/// A float input or a dequantised one.
fn real(r: &mut Random, c: &mut Case, shape: &[usize], quantized: bool) -> TensorId {
    if !quantized {
        return c.input(r.array(DType::F32, shape), None);
    }
    let dtype = r.pick(&BYTES);
    let q = r.quant(dtype, 0.005);
    let x = c.input(r.array(dtype, shape), Some(q));
    c.dequantize(x)
}

/// Ends the graph with `v` as it is or quantised.
fn finish(r: &mut Random, c: &mut Case, v: TensorId, quantized: bool, unit: f64) {
    let y = if quantized {
        let dtype = r.pick(&BYTES);
        let q = r.quant(dtype, unit);
        c.quantize(v, dtype, q)
    } else {
        v
    };
    c.output(y);
}

/// The output extent of a window, as the importer forms it.
fn extent(n: usize, w: &Window, d: usize, ceil: bool) -> usize {
    let reach = (w.kernel[d] - 1) * w.dilations[d] + 1;
    let room = n + (w.pads_begin[d] + w.pads_end[d]) as usize - reach;
    let (stride, begin) = (w.strides[d], w.pads_begin[d] as usize);
    let whole = room / stride + 1;
    if ceil && !room.is_multiple_of(stride) && whole * stride < n + begin { whole + 1 } else { whole }
}

/// Extents of the input along one axis that a window fits.
fn window_axis(r: &mut Random, w: &mut Window) -> usize {
    let (kernel, dilation) = (r.between(1, 4), r.between(1, 3));
    let pad = |r: &mut Random| if r.once_in(6) { r.between(0, 7) } else { r.between(0, kernel - 1) } as i64;
    let (begin, end) = (pad(r), pad(r));
    w.kernel.push(kernel);
    w.strides.push(r.between(1, 3));
    w.dilations.push(dilation);
    w.pads_begin.push(begin);
    w.pads_end.push(end);
    let least = ((kernel - 1) * dilation + 1).saturating_sub((begin + end) as usize).max(1);
    least + r.between(0, 8)
}

proptest! {
    #![proptest_config(config(600))]

    #[test]
    fn pooling(seed: u64, kind in 0..3usize, ceil: bool, axes in 1..3usize, quant in 0..4) {
        let kind = PoolKind::ALL[kind];
        let mut r = Random::new(seed);
        let mut w =
            Window { kernel: vec![], strides: vec![], dilations: vec![], pads_begin: vec![], pads_end: vec![] };
        let input: Vec<usize> = (0..axes).map(|_| window_axis(&mut r, &mut w)).collect();
        let output: Vec<usize> = (0..axes).map(|d| extent(input[d], &w, d, ceil)).collect();
        let (batch, channels) = (r.between(1, 2), r.pick(&[1, 3, 5, 8, 17, 130]));
        let layout = Layout::ChannelsFirst;
        let mut c = Case::new();
        let x = real(&mut r, &mut c, &layout.shape(batch, channels, &input), quant & 1 == 1);
        let y = Like::f32(&layout.shape(batch, channels, &output));
        let y = c.node(Op::Pool { kind, window: w, layout }, &[x], y);
        finish(&mut r, &mut c, y, quant & 2 == 2, 0.005);
        c.check(SUMS, TIE);
    }

    #[test]
    fn reductions(seed: u64, which in 0..ReduceOp::ALL.len(), keep: bool, quant in 0..4, mask: u8) {
        let op = ReduceOp::ALL[which];
        let mut r = Random::new(seed);
        let mut shape = r.shape(1..=5, 7);
        if r.once_in(3) {
            let d = r.below(shape.len());
            shape[d] = r.pick(&[64, 129, 300]);
        }
        let mut axes: Vec<usize> = (0..shape.len()).filter(|d| mask >> d & 1 == 1).collect();
        if axes.is_empty() {
            axes.push(shape.len() - 1);
        }
        let mut c = Case::new();
        // A product of bytes soon leaves f32.
        let x = real(&mut r, &mut c, &shape, quant & 1 == 1 && op != ReduceOp::Prod);
        let y = Like::f32(&reduced(&shape, &axes, keep));
        let unit = if op == ReduceOp::Sum { 0.02 } else { 0.005 };
        let y = c.node(Op::Reduce { op, axes, keep }, &[x], y);
        finish(&mut r, &mut c, y, quant & 2 == 2, unit);
        c.check(SUMS, LOOSE_TIE);
    }

    #[test]
    fn reductions_of_integers(seed: u64, which in 0..ReduceOp::ALL.len(), kind in 0..INTEGERS.len(), mask in 1..16u8) {
        let (op, dtype) = (ReduceOp::ALL[which], INTEGERS[kind]);
        let mut r = Random::new(seed);
        let shape = r.shape(4..=4, 7);
        let axes: Vec<usize> = (0..4).filter(|d| mask >> d & 1 == 1).collect();
        let mut c = Case::new();
        // A sum of squares that wraps has no root.
        let small = (0..shape.iter().product()).map(|_| r.below(8) as i64).collect();
        let value = if op == ReduceOp::L2 { Array::int(dtype, &shape, small) } else { r.wide(dtype, &shape) };
        let x = c.input(value, None);
        let y = c.node(Op::Reduce { op, axes: axes.clone(), keep: true }, &[x], Like::int(dtype, &reduced(&shape, &axes, true)));
        c.output(y);
        c.check(SUMS, TIE);
    }

    #[test]
    fn softmaxes(seed: u64, log: bool, quant in 0..4) {
        let mut r = Random::new(seed);
        let mut shape = r.shape(1..=4, 9);
        let axis = r.below(shape.len());
        if r.once_in(3) {
            shape[axis] = r.pick(&[64, 129, 300, 600, 1100]);
        }
        let mut c = Case::new();
        let x = real(&mut r, &mut c, &shape, quant & 1 == 1);
        let y = c.node(Op::Softmax { axis, log }, &[x], Like::f32(&shape));
        finish(&mut r, &mut c, y, quant & 2 == 2, if log { 0.03 } else { 1.0 / 512.0 });
        c.check(SUMS, LOOSE_TIE);
    }

    /// Over any run of axes, with scale and bias of any shape, constant or computed.
    #[test]
    fn norms(seed: u64, rms: bool, quant in 0..4, parameters in 0..4, computed in 0..4) {
        let mut r = Random::new(seed);
        let mut shape = r.shape(1..=4, 9);
        let first = r.below(shape.len());
        let last = r.between(first, shape.len() - 1);
        if r.once_in(3) {
            shape[first] = r.pick(&[64, 129, 300, 1100]);
        }
        let mut c = Case::new();
        let mut inputs = vec![Some(real(&mut r, &mut c, &shape, quant & 1 == 1)), None, None];
        for (k, slot) in inputs[1..].iter_mut().enumerate() {
            if parameters >> k & 1 == 1 {
                let s = r.broadcasting_to(&shape);
                let v = r.array(DType::F32, &s);
                *slot = Some(c.operand(computed != 0, v, None));
            }
        }
        let kind = if rms { NormKind::Rms } else { NormKind::Layer };
        let op = Op::Norm { kind, axes: (first..=last).collect(), epsilon: r.pick(&[1e-5, 1e-3]) };
        let y = c.node_with(op, inputs, Like::f32(&shape));
        finish(&mut r, &mut c, y, quant & 2 == 2, 0.02);
        // Elements that hardly differ: the rounding of x itself (here up to 5) is magnified by 1/√(variance + ε).
        c.check(Bound::OfLargest(1e-4), 1e-2);
    }

    /// Of elements that are equal or differ by a few units in the last place, far from zero: the mean, rounded, is off by as
    /// much as they differ. Along any axis, as a norm and as a mean.
    #[test]
    fn norms_and_means_of_nearly_equal_elements(seed: u64, axis in 0..3usize, base in 0..5usize, spread in 0..4usize) {
        let mut r = Random::new(seed);
        let mut shape = [r.between(1, 3), r.between(1, 3), r.between(1, 3)];
        shape[axis] = r.pick(&[2, 7, 100, 129, 300, 768]);
        let base = [0.1f32, 12.34, -200.7, 1000.0, 3e4][base];
        let unit = f32::from_bits(base.to_bits() + 1) - base;
        let spread = [0, 1, 5, 200][spread];
        let n = shape.iter().product();
        let x: Vec<f64> = (0..n).map(|_| f64::from(base + unit * r.below(spread + 1) as f32)).collect();
        let mut c = Case::new();
        let x = c.input(Array::f32(&shape, x), None);
        let bias = c.constant(r.array(DType::F32, &shape), None);
        let op = Op::Norm { kind: NormKind::Layer, axes: vec![axis], epsilon: 1e-12 };
        let y = c.node_with(op, vec![Some(x), None, Some(bias)], Like::f32(&shape));
        c.output(y);
        let mean = c.node(Op::Reduce { op: ReduceOp::Mean, axes: vec![axis], keep: true }, &[x], Like::f32(&reduced(&shape, &[axis], true)));
        c.output(mean);
        // What is left of the mean's rounding is f32 of a difference, not of the element; the mean itself is rounded once.
        c.check(Bound::OfLargest(2e-6), TIE);
        if spread == 0 {
            let (graph, inputs) = c.parts();
            let want = graph.value(bias).expect("a constant").clone();
            let y = run(&compile(graph, &Options::default()).expect("compiles").kgl, &inputs);
            prop_assert_eq!(&*y["y0"].reals(), &*want.reals());
            prop_assert!(y["y1"].reals().iter().all(|&m| m == f64::from(base)));
        }
    }

    /// Of bytes that are equal or hardly differ, far from their zero point: the sums are exact, and equal bytes leave the bias.
    #[test]
    fn norms_and_means_of_nearly_equal_bytes(seed: u64, axis in 0..2usize, rms: bool, spread in 0..3usize, signed: bool) {
        let mut r = Random::new(seed);
        let mut shape = [r.between(1, 3), r.between(1, 3)];
        shape[axis] = r.pick(&[2, 15, 100, 129, 1100, 20_000]);
        let (dtype, base, zero_point) = if signed { (DType::I8, -120, 127) } else { (DType::U8, 250, 3) };
        let n = shape.iter().product();
        let x: Vec<i64> = (0..n).map(|_| base + i64::from(spread > 0 && r.once_in(spread * spread * 10))).collect();
        let mut c = Case::new();
        let x = c.input(Array::int(dtype, &shape, x), Some(Quant::per_tensor(0.37, zero_point)));
        let x = c.dequantize(x);
        let bias = c.constant(r.array(DType::F32, &shape[1..]), None);
        let kind = if rms { NormKind::Rms } else { NormKind::Layer };
        let op = Op::Norm { kind, axes: vec![axis], epsilon: 1e-12 };
        let y = c.node_with(op, vec![Some(x), None, Some(bias)], Like::f32(&shape));
        c.output(y);
        let mean = c.node(Op::Reduce { op: ReduceOp::Mean, axes: vec![axis], keep: true }, &[x], Like::f32(&reduced(&shape, &[axis], true)));
        c.output(mean);
        c.check(Bound::OfLargest(2e-6), TIE);
        if spread == 0 && !rms {
            let (graph, inputs) = c.parts();
            let bias = graph.value(bias).expect("a constant").reals().into_owned();
            let y = run(&compile(graph, &Options::default()).expect("compiles").kgl, &inputs);
            prop_assert!(y["y0"].reals().chunks(shape[1]).all(|row| row == bias));
        }
    }

    /// With many equal elements, and with integers that f32 would confuse.
    #[test]
    fn arg_max(seed: u64, smallest: bool, last: bool, keep: bool, kind in 0..4) {
        let mut r = Random::new(seed);
        let shape = r.shape(1..=4, 9);
        let axis = r.below(shape.len());
        let mut c = Case::new();
        let n: usize = shape.iter().product();
        let few = |r: &mut Random, base: i64| (0..n).map(|_| base + r.below(4) as i64).collect::<Vec<_>>();
        let x = match kind {
            0 => Array::f32(&shape, few(&mut r, -2).iter().map(|&v| v as f64).collect()),
            1 => Array::int(DType::I64, &shape, few(&mut r, 1 << 40)),
            2 => Array::int(DType::I32, &shape, few(&mut r, 1 << 26)),
            _ => Array::int(DType::U8, &shape, few(&mut r, 100)),
        };
        let q = (kind == 3).then(|| r.quant(DType::U8, 0.01));
        let x = c.input(x, q);
        let op = Op::ArgMax { axis, keep, smallest, last };
        let y = c.node(op, &[x], Like::int(DType::I64, &reduced(&shape, &[axis], keep)));
        c.output(y);
        c.check(SUMS, TIE);
    }

    /// With many equal elements, integers that f32 would confuse, and NaN.
    #[test]
    fn top_k(seed: u64, smallest: bool, kind in 0..5, long: bool) {
        let mut r = Random::new(seed);
        let mut shape = r.shape(1..=4, 9);
        let axis = r.below(shape.len());
        if long {
            shape[axis] = r.between(10, 70);
        }
        let mut c = Case::new();
        let n: usize = shape.iter().product();
        let many = r.pick(&[4, 1000]);
        let few = |r: &mut Random, base: i64| (0..n).map(|_| base + r.below(many) as i64).collect::<Vec<_>>();
        let x = match kind {
            0 => Array::f32(&shape, few(&mut r, -2).iter().map(|&v| v as f64).collect()),
            1 => Array::int(DType::I64, &shape, few(&mut r, 1 << 40)),
            2 => Array::int(DType::I32, &shape, few(&mut r, 1 << 26)),
            3 => Array::f32(&shape, few(&mut r, -2).iter().map(|&v| if v == 0 { f64::NAN } else { v as f64 }).collect()),
            _ => r.array(DType::U8, &shape),
        };
        let (dtype, q) = (x.dtype, (kind == 4).then(|| r.quant(DType::U8, 0.01)));
        let x = c.input(x, q.clone());
        shape[axis] = r.between(1, shape[axis]);
        // Quantised elements as they are, or as reals.
        let taken = match &q {
            Some(q) if r.once_in(2) => Like::quantized(dtype, &shape, q.clone()),
            Some(_) => Like::f32(&shape),
            None => Like::int(dtype, &shape),
        };
        let y = c.nodes(Op::TopK { axis, smallest }, vec![Some(x)], vec![taken, Like::int(DType::I64, &shape)]);
        y.into_iter().for_each(|t| c.output(t));
        c.check(SUMS, TIE);
    }

    /// Updates that are joined with elements, several with one.
    #[test]
    fn scatters_that_join(seed: u64, op in 1..5usize, slices: bool, constant: bool, quant in 0..5) {
        let op = ScatterOp::ALL[op];
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let shape = r.shape(1..=5, 5);
        let (axis, index, updated) = r.scattered(&shape, slices);
        let index = r.indices(&shape, axis, &index, DType::I64);
        let op = Op::Scatter { op, axis };
        if quant == 4 {
            let dtype = r.pick(&INTEGERS);
            let (x, updates) = (r.wide(dtype, &shape), r.wide(dtype, &updated));
            let (x, updates, i) = (c.input(x, None), c.operand(r.once_in(3), updates, None), c.operand(constant, index, None));
            let y = c.node(op, &[x, updates, i], Like::int(dtype, &shape));
            c.output(y);
        } else {
            let (x, updates) = (real(&mut r, &mut c, &shape, quant & 1 == 1), real(&mut r, &mut c, &updated, quant & 1 == 1));
            let i = c.operand(constant, index, None);
            let y = c.node(op, &[x, updates, i], Like::f32(&shape));
            finish(&mut r, &mut c, y, quant & 2 == 2, 0.02);
        }
        c.check(SUMS, LOOSE_TIE);
    }

    #[test]
    fn running_sums(seed: u64, exclusive: bool, reverse: bool, quant in 0..5) {
        let mut r = Random::new(seed);
        let shape = r.shape(1..=4, 9);
        let axis = r.below(shape.len());
        let op = Op::CumSum { axis, exclusive, reverse };
        let mut c = Case::new();
        if quant == 4 {
            let dtype = r.pick(&INTEGERS);
            let x = c.input(r.wide(dtype, &shape), None);
            let y = c.node(op, &[x], Like::int(dtype, &shape));
            c.output(y);
        } else {
            let x = real(&mut r, &mut c, &shape, quant & 1 == 1);
            let y = c.node(op, &[x], Like::f32(&shape));
            finish(&mut r, &mut c, y, quant & 2 == 2, 0.02);
        }
        c.check(SUMS, LOOSE_TIE);
    }
}

fn reduced(shape: &[usize], axes: &[usize], keep: bool) -> Vec<usize> {
    let kept = |d: &usize| keep || !axes.contains(d);
    (0..shape.len()).filter(kept).map(|d| if axes.contains(&d) { 1 } else { shape[d] }).collect()
}

/// Softmax at the ends of f32, along the innermost axis and along another: what the evaluator says, infinities and NaN included.
#[test]
fn softmaxes_of_extreme_elements() {
    const INF: f64 = f64::INFINITY;
    let rows = [
        [0.0, -INF, 1.0, -INF],
        [3e38, -3e38, 3e38, 0.0],
        [-3e38, -3e38, -3e38, -3e38],
        [1e4, 1e4, 1e4, 1e4],
        [-INF, -INF, -INF, -INF],
        [INF, 0.0, 1.0, 2.0],
        [88.0, -104.0, -103.0, 200.0],
    ];
    // As they are, and so often that vectors are full.
    for (log, axis, times) in [(false, 1, 1), (false, 1, 9), (true, 1, 1), (true, 1, 9), (false, 0, 1), (true, 0, 1)] {
        for row in rows.map(|row| row.repeat(times)) {
            // Two columns, so that there is more than one where the axis is the outer one.
            let (shape, data) = match axis {
                1 => ([1, row.len()], row.clone()),
                _ => ([row.len(), 2], row.iter().flat_map(|&v| [v, 0.5]).collect()),
            };
            let mut c = Case::new();
            let x = c.input(Array::f32(&shape, data), None);
            let y = c.node(Op::Softmax { axis, log }, &[x], Like::f32(&shape));
            c.output(y);
            let (graph, inputs) = c.parts();
            let want = eval::run(&graph, &[inputs["x0"].clone()]).expect("evaluates");
            let got = run(&compile(graph, &Options::default()).expect("compiles").kgl, &inputs);
            for (g, w) in got["y0"].reals().iter().zip(want[0].reals().iter()) {
                // What lies beyond f32 is infinite there.
                let w = if w.abs() > f64::from(f32::MAX) { w.signum() * INF } else { *w };
                let close = *g == w || (g.is_nan() && w.is_nan()) || (g - w).abs() <= 1e-6 * w.abs().max(1.0);
                assert!(close, "{g} instead of {w} in {row:?}, log {log}, axis {axis}");
            }
        }
    }
}
