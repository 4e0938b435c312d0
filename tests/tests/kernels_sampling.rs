//! Samples of pictures, and boxes in them, against the evaluator.

use kinglet::DType;
use kinglet_compiler::array::Array;
use kinglet_compiler::graph::{Op, SampleMode, SamplePadding};
use kinglet_compiler::{Error, Options, compile, import};
use kinglet_onnx::{DataType, ModelProto};
use kinglet_tests::one_node::{Case, LOOSE_TIE, Like, SUMS, cases};
use kinglet_tests::small_onnx::{Builder, ints, reals};
use kinglet_tests::{Random, run};
use proptest::prelude::*;

fn config(n: u32) -> ProptestConfig {
    ProptestConfig { cases: cases(n), failure_persistence: None, ..ProptestConfig::default() }
}

/// Boxes side by side but for the last, which is the first again, and their selection.
fn boxes(most: &str) -> ModelProto {
    let mut b = Builder::default();
    b.input("b", DataType::Float, &[1, 3, 4]).input("s", DataType::Float, &[1, 1, 3]);
    b.input("computed", DataType::Int64, &[1]).constant(ints("most", DataType::Int64, &[1], &[9]));
    b.constant(reals("limit", &[0.5]));
    b.node("NonMaxSuppression", &format!("b s {most} limit"), "y", &[]).outputs("y").build()
}

#[test]
fn selections_are_refused_with_the_flag_that_helps() {
    let padded = Options { pad_selections: true, ..Options::default() };
    let refused = |model: &ModelProto, options: &Options| match import(&model.to_bytes(), None, options) {
        Err(Error::Unsupported(nodes)) => nodes[0].to_string(),
        other => panic!("{other:?}"),
    };
    let text = refused(&boxes("most"), &Options::default());
    assert!(text.contains("--pad-selections") && text.contains("[3, 3]"), "{text}");
    // As many rows as there may be at most, which must be known.
    let text = refused(&boxes("computed"), &padded);
    assert!(text.contains("the number of boxes"), "{text}");

    let graph = import(&boxes("most").to_bytes(), None, &padded).expect("imports");
    let compiled = compile(graph, &padded).expect("compiles");
    let corners = vec![0.0, 0.0, 2.0, 2.0, 0.0, 2.0, 2.0, 4.0, 0.0, 0.0, 2.0, 2.0];
    let inputs = [
        ("b".to_string(), Array::f32(&[1, 3, 4], corners)),
        ("s".to_string(), Array::f32(&[1, 1, 3], vec![0.25, 0.5, 0.75])),
        ("computed".to_string(), Array::i64s(&[0])),
    ];
    let outputs = run(&compiled.kgl, &inputs.into());
    let y = &outputs["y"];
    assert_eq!((&y.shape[..], &*y.ints()), (&[3, 3][..], &[0, 0, 2, 0, 0, 1, -1, -1, -1][..]));
    // How many there are is an output of its own.
    let count = &outputs["y.count"];
    assert_eq!((count.dtype, &count.shape[..], &*count.ints()), (DType::I64, &[1][..], &[2][..]));
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn grid_sample(seed: u64, axes in 1..=3usize, mode in 0..3usize, padding in 0..3usize, align_corners: bool, quant in 0..8) {
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let extents: Vec<usize> = (0..axes).map(|_| r.between(1, 5)).collect();
        let places: Vec<usize> = (0..axes).map(|_| r.between(1, 4)).collect();
        let (batch, channels) = (r.between(1, 3), r.pick(&[1, 3, 150]));
        let shape = [&[batch], &extents[..], &[channels]].concat();
        let (y, grid) = ([&[batch], &places[..], &[channels]].concat(), [&[batch], &places[..], &[axes]].concat());
        let x = if quant & 1 == 1 {
            let q = r.quant(DType::I8, 0.01);
            let x = c.input(r.array(DType::I8, &shape), Some(q));
            c.dequantize(x)
        } else {
            c.input(r.array(DType::F32, &shape), None)
        };
        // Pixels' centres and edges, where f32 is exact, or anywhere; some far outside.
        let exact = r.once_in(3);
        let far = r.pick(&[1.0, 1.5, 9.0]);
        let n = grid.iter().product();
        let mut coordinate = || if exact { r.below(17) as f64 / 4.0 - 2.0 } else { f64::from((r.real() * far) as f32) };
        // A jump of the nearest pixel is nobody's fault, but for the way of ties.
        let mut value: Vec<f64> = (0..n).map(|_| coordinate()).collect();
        if mode == 0 && !exact {
            value.iter_mut().for_each(|v| *v = ((*v * 64.0).round() + 0.3) / 64.0);
        }
        let grid = if quant & 2 == 2 && mode != 0 {
            let q = r.quant(DType::U8, 0.01);
            let grid = c.input(r.array(DType::U8, &grid), Some(q));
            c.dequantize(grid)
        } else {
            let constant = r.once_in(3);
            c.operand(constant, Array::f32(&grid, value), None)
        };
        let (mode, padding) = (SampleMode::ALL[mode], SamplePadding::ALL[padding]);
        let mut v = c.node(Op::GridSample { mode, padding, align_corners }, &[x, grid], Like::f32(&y));
        if quant & 4 == 4 {
            let q = r.quant(DType::I8, 0.02);
            v = c.quantize(v, DType::I8, q);
        }
        c.output(v);
        c.check(SUMS, LOOSE_TIE);
    }

    /// Of regions whose points f32 knows exactly, so that as many count as in f64.
    #[test]
    fn roi_align(seed: u64, ratio in 0..4u32, half_pixel: bool, largest: bool, quant in 0..8) {
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let [batch, height, width] = [r.between(1, 3), r.between(1, 9), r.between(1, 9)];
        let (channels, regions) = (r.pick(&[1, 3, 150]), r.between(1, 4));
        let bins = [r.pick(&[1, 2, 4]), r.pick(&[1, 2, 4])];
        let quantized = |c: &mut Case, r: &mut Random, shape: &[usize], dtype: DType| {
            let q = r.quant(dtype, 0.01);
            let x = c.input(r.array(dtype, shape), Some(q));
            c.dequantize(x)
        };
        let shape = [batch, height, width, channels];
        let x = match quant & 1 {
            1 => quantized(&mut c, &mut r, &shape, DType::I8),
            _ => c.input(r.array(DType::F32, &shape), None),
        };
        let ratio = [0, 1, 2, 4][ratio as usize];
        // Corners either way round, some without a place at all. As many points as pixels have places that f32 rounds, which far
        // outside shows.
        let far = if ratio == 0 { r.pick(&[40, 100]) } else { r.pick(&[40, 100_000]) };
        let corner = |r: &mut Random| (r.below(2 * far) as f64 - far as f64 / 2.0) / 4.0 + 0.0625;
        let mut corners: Vec<f64> = (0..regions * 4).map(|_| corner(&mut r)).collect();
        if r.once_in(8) {
            corners[0] = f64::NAN;
        }
        let constant = r.once_in(3);
        let corners = c.operand(constant, Array::f32(&[regions, 4], corners), None);
        let of = (0..regions).map(|_| r.below(batch) as i64).collect();
        let (constant, dtype) = (r.once_in(3), r.pick(&[DType::I32, DType::I64]));
        let of = c.operand(constant, Array::int(dtype, &[regions], of), None);
        let op = Op::RoiAlign { ratio, scale: r.pick(&[1.0, 0.5, 2.0]), half_pixel, largest };
        let mut v = c.node(op, &[x, corners, of], Like::f32(&[regions, bins[0], bins[1], channels]));
        if quant & 4 == 4 {
            let q = r.quant(DType::I8, 0.02);
            v = c.quantize(v, DType::I8, q);
        }
        c.output(v);
        c.check(SUMS, LOOSE_TIE);
    }

    /// Of boxes whose corners are integers, so that no overlap is nearly the limit.
    #[test]
    fn non_max_suppression(seed: u64, centers: bool, limits in 0..4, quantized: bool, many: bool) {
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let (batch, classes, n) = (r.between(1, 3), r.between(1, 3), if many { r.between(20, 60) } else { r.between(1, 9) });
        let most = r.between(1, n.min(12));
        let corners: Vec<f64> = (0..batch * n * 4)
            .map(|k| match (centers, k % 4) {
                (true, 2 | 3) => (2 * r.below(5)) as f64,
                _ => r.below(12) as f64,
            })
            .collect();
        let boxes = c.input(Array::f32(&[batch, n, 4], corners), None);
        let scores = if quantized {
            let q = r.quant(DType::U8, 0.01);
            let scores = c.input(r.array(DType::U8, &[batch, classes, n]), Some(q));
            c.dequantize(scores)
        } else {
            // Many equal ones, and some that are no number.
            let score = |k: usize| if k == 0 { f64::NAN } else { k as f64 / 16.0 };
            let v = (0..batch * classes * n).map(|_| score(r.below(16))).collect();
            c.input(Array::f32(&[batch, classes, n], v), None)
        };
        let mut limit = |wanted: bool, v: f32| {
            let constant = r.once_in(2);
            wanted.then(|| c.operand(constant, Array::f32(&[1], vec![f64::from(v)]), None))
        };
        let inputs = vec![Some(boxes), Some(scores), limit(limits & 1 == 1, 0.3137), limit(limits & 2 == 2, 0.2718)];
        let op = Op::NonMaxSuppression { most, centers };
        let y = c.node_with(op, inputs, Like::int(DType::I64, &[batch * classes * most, 3]));
        c.output(y);
        c.check(SUMS, LOOSE_TIE);
    }
}
