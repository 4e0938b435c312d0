//! Nets that have what kernels may do wrong.

use kinglet::DType;
use kinglet::kernels::{BinaryOp, UnaryOp};
use kinglet_compiler::array::Array;
use kinglet_compiler::graph::{Layout, Op, PoolKind, Post, Quant, TensorId, Window};
use kinglet_tests::Random;
use kinglet_tests::one_node::{Case, Like};

/// A product: its kernel, stride, dilation, padding, and outputs, where 0 stands for each channel by itself.
type Form = ([usize; 2], usize, usize, usize, usize);

/// Products of bytes of every form beside each other, of `channels` inputs: dense, in groups, depthwise; windows, strides, dilation, padding;
/// channels and lines that are no multiples of what kernels take at once; with residuals.
pub fn products(channels: usize, dtype: DType) -> Case {
    let forms: [Form; 10] = [
        ([1, 1], 1, 1, 0, 5),
        ([1, 1], 1, 1, 0, 16),
        ([1, 1], 1, 1, 0, channels),
        ([3, 3], 1, 1, 1, 7),
        ([3, 3], 2, 1, 0, 8),
        ([5, 1], 1, 1, 2, 9),
        ([2, 3], 1, 2, 0, 1),
        ([3, 3], 1, 1, 1, 0),
        ([5, 2], 2, 1, 1, 0),
        ([7, 7], 1, 1, 3, 0),
    ];
    of_forms(channels, [9, 7], dtype, &forms)
}

/// Products of floats, likewise.
pub fn floats(channels: usize) -> Case {
    products(channels, DType::F32)
}

/// Depthwise products of bytes under windows of many sizes, of lines that are longer than what kernels take at once.
pub fn windows(channels: usize, dtype: DType) -> Case {
    let forms: [Form; 12] = [
        ([5, 5], 1, 1, 2, 0),
        ([5, 5], 2, 1, 2, 0),
        ([4, 4], 1, 1, 1, 0),
        ([7, 7], 1, 1, 3, 0),
        ([2, 2], 2, 1, 0, 0),
        ([1, 5], 1, 1, 2, 0),
        ([5, 1], 1, 1, 2, 0),
        ([3, 5], 1, 2, 2, 0),
        ([3, 3], 3, 1, 1, 0),
        ([3, 3], 1, 2, 2, 0),
        ([6, 15], 1, 1, 4, 0),
        ([2, 16], 1, 1, 0, 0),
    ];
    of_forms(channels, [9, 21], dtype, &forms)
}

/// Products of bytes under windows along time, with frames between their taps and without.
pub fn frames(channels: usize, dtype: DType) -> Case {
    // (Others, and those rounded by floats, would have programs link what the first of these needs.)
    let forms: [Form; 4] = [([3, 1], 1, 2, 0, 0), ([10, 1], 1, 1, 0, 0), ([3, 1], 1, 2, 2, 7), ([5, 1], 1, 1, 2, 9)];
    of_forms(channels, [40, 1], dtype, &forms)
}

/// Legendre memories of several orders, from bytes to bytes.
pub fn memories() -> Case {
    let (mut r, mut c) = (Random::new(5), Case::new());
    let x = c.named_input("x", r.array(DType::F32, &[1, 12, 3]), None);
    let grid = Quant::per_tensor(0.02, -5);
    let x = c.quantize(x, DType::I8, grid.clone());
    let x = c.dequantize(x);
    for order in [1, 5, 8, 12, 19] {
        let small = |a: Array, by: f64| Array::f32(&a.shape.clone(), a.reals().iter().map(|v| v * by).collect());
        let a = c.constant(small(r.array(DType::F32, &[order, order]), 0.3 / order as f64), None);
        let b = c.constant(small(r.array(DType::F32, &[order]), 0.5), None);
        let like = Like::f32(&[1, 12, 3, order]);
        let all = c.node_with(Op::LegendreMemory, vec![Some(x), Some(a), Some(b)], like);
        let y = c.quantize(all, DType::I8, grid.clone());
        let y = c.dequantize(y);
        c.output(y);
    }
    c
}

fn of_forms(channels: usize, [height, width]: [usize; 2], dtype: DType, forms: &[Form]) -> Case {
    let (mut r, mut c) = (Random::new(channels as u64), Case::new());
    let floats = dtype == DType::F32;
    let x = c.named_input("x", r.array(DType::F32, &[1, height, width, channels]), None);
    // Of floats nothing is quantised.
    let on_grid = |c: &mut Case, t: TensorId, dtype: DType, scale: f32, zero: i32| {
        if floats {
            return t;
        }
        let t = c.quantize(t, dtype, Quant::per_tensor(scale, zero));
        c.dequantize(t)
    };
    let x = on_grid(&mut c, x, dtype, 0.02, if dtype == DType::U8 { 117 } else { -5 });
    for (form, (kernel, stride, dilation, pad, outputs)) in forms.iter().copied().enumerate() {
        // No number of outputs stands for each channel by itself.
        let (groups, outputs) = match outputs {
            0 => (channels, channels),
            8 if channels.is_multiple_of(2) => (2, 8),
            n => (1, n),
        };
        let reach = kernel.map(|k| (k - 1) * dilation + 1);
        let pads = reach.map(|n| pad.min(n - 1));
        let out = [(height, 0), (width, 1)].map(|(n, d)| (n + 2 * pads[d] - reach[d]) / stride + 1);
        let window = Window {
            kernel: kernel.to_vec(),
            strides: vec![stride; 2],
            dilations: vec![dilation; 2],
            pads_begin: pads.map(|p| p as i64).to_vec(),
            pads_end: pads.map(|p| p as i64).to_vec(),
        };
        let shape = [outputs, channels / groups, kernel[0], kernel[1]];
        let of_floats = r.array(DType::F32, &shape);
        let mut w: Vec<i64> = r.array(DType::I8, &shape).ints().iter().map(|&w| w.max(-127)).collect();
        // Every other product has a weight that is -128: it lies otherwise.
        w[0] = if (form + channels).is_multiple_of(2) { -128 } else { w[0] };
        // Some are rounded by floats: of so large a multiplier there is no integer.
        let by_floats = form % 4 >= 2;
        if by_floats {
            w.iter_mut().for_each(|w| *w /= 32);
        }
        // (With the input's scale some sums of the two are ties.)
        let scale = if by_floats { 0.003 } else { 0.05 };
        let w = if floats {
            c.constant(of_floats, None)
        } else {
            let w = c.constant(Array::int(DType::I8, &shape, w), Some(Quant::per_tensor(0.01, 0)));
            c.dequantize(w)
        };
        let shape = [1, out[0], out[1], outputs];
        let op = Op::Conv { window, groups, layout: Layout::ChannelsLast, post: Post::default() };
        let v = c.node(op, &[x, w], Like::f32(&shape));
        let mut v = on_grid(&mut c, v, DType::I8, scale, 3);
        if shape == [1, height, width, channels] {
            // The input is added, and sometimes what is negative cut.
            v = c.node(Op::Binary(BinaryOp::Add), &[v, x], Like::f32(&shape));
            if kernel[0] > 1 {
                v = c.node(Op::Unary { op: UnaryOp::Relu, alpha: 0.0, beta: 0.0 }, &[v], Like::f32(&shape));
            }
            v = on_grid(&mut c, v, DType::I8, 0.06, -7);
        }
        c.output(v);
    }
    c
}

/// Reals, among them none and infinite ones, to bytes; and bytes through pooling, functions of two, softmax and means.
pub fn elements() -> Case {
    let (mut r, mut c) = (Random::new(9), Case::new());
    let shape = [1, 6, 5, 9];
    let mut reals = r.array(DType::F32, &shape).reals().to_vec();
    for (at, odd) in
        [(7, f64::NAN), (30, f64::INFINITY), (31, f64::NEG_INFINITY), (100, f64::NEG_INFINITY), (269, f64::NAN)]
    {
        reals[at] = odd;
    }
    let x = c.named_input("x", Array::f32(&shape, reals), None);
    let negated = c.node(Op::Unary { op: UnaryOp::Neg, alpha: 0.0, beta: 0.0 }, &[x], Like::f32(&shape));
    let signed = c.quantize(negated, DType::I8, Quant::per_tensor(0.013, -5));
    let unsigned = c.quantize(negated, DType::U8, Quant::per_tensor(0.017, 131));
    let bytes = [signed, unsigned].map(|t| c.dequantize(t));
    let give = |c: &mut Case, t: TensorId, dtype: DType, scale: f32, zero: i32| {
        let t = c.quantize(t, dtype, Quant::per_tensor(scale, zero));
        let t = c.dequantize(t);
        c.output(t);
    };
    for (k, &t) in bytes.iter().enumerate() {
        c.output(t);
        for (kind, kernel, stride, pad) in [
            (PoolKind::Max, 2, 2, 0),
            (PoolKind::Max, 3, 1, 1),
            (PoolKind::Average, 3, 1, 1),
            (PoolKind::Average, 2, 1, 0),
        ] {
            let window = Window {
                kernel: vec![kernel; 2],
                strides: vec![stride; 2],
                dilations: vec![1; 2],
                pads_begin: vec![pad as i64; 2],
                pads_end: vec![pad as i64; 2],
            };
            let out = [6, 5].map(|n: usize| (n + 2 * pad - kernel) / stride + 1);
            let to = Like::f32(&[1, out[0], out[1], 9]);
            let v = c.node(Op::Pool { kind, window, layout: Layout::ChannelsLast }, &[t], to);
            // On the grid of its input, and on another.
            let (scale, zero) = if k == 0 { (0.013, -5) } else { (0.02, 120) };
            give(&mut c, v, if k == 0 { DType::I8 } else { DType::U8 }, scale, zero);
        }
    }
    for (op, scale) in [(BinaryOp::Add, 0.03), (BinaryOp::Sub, 0.021), (BinaryOp::Mul, 0.02)] {
        let v = c.node(Op::Binary(op), &bytes, Like::f32(&shape));
        give(&mut c, v, DType::I8, scale, 7);
    }
    let v = c.node(Op::Softmax { axis: 3, log: false }, &bytes[..1], Like::f32(&shape));
    give(&mut c, v, DType::U8, 1.0 / 256.0, 0);
    c
}
