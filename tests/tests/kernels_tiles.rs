//! Products large enough for whole tiles, several blocks of channels and more kernel rows than a tile takes, on every target's
//! plan and every set of kernels: what small shapes do not reach.

use kinglet::DType;
use kinglet_compiler::graph::{Layout, Op, Post, Quant, UnaryOp, Window};
use kinglet_tests::Random;
use kinglet_tests::one_node::{Case, LOOSE_TIE, Like, SUMS, TIE, cases};
use proptest::prelude::*;

/// Channels around the blocks and vectors of the kernels there are.
const CHANNELS: [usize; 15] = [2, 8, 15, 16, 17, 24, 31, 32, 40, 48, 57, 63, 64, 65, 130];

/// A convolution of channels-last tensors.
#[derive(Clone, Copy, Debug)]
struct Shape {
    kernel: [usize; 2],
    stride: usize,
    dilation: usize,
    pad: usize,
    /// Beyond the kernel's extent.
    more: [usize; 2],
    channels: [usize; 2],
    depthwise: bool,
}

fn shape() -> impl Strategy<Value = Shape> {
    let kernel = prop::sample::select(&[[1, 1], [3, 3], [5, 5], [7, 7], [3, 1], [1, 9], [17, 2], [35, 1]][..]);
    let channels = || prop::sample::select(&CHANNELS[..]);
    (kernel, 1..3usize, 1..3usize, 0..4usize, (0..3usize, 0..72usize), (channels(), channels()), any::<bool>())
        .prop_map(|(kernel, stride, dilation, pad, (h, w), (input, output), depthwise)| {
            let output = if depthwise { input } else { output };
            Shape { kernel, stride, dilation, pad, more: [h, w], channels: [input, output], depthwise }
        })
}

fn check(s: Shape, seed: u64, bytes: bool, ending: usize) {
    let mut r = Random::new(seed);
    let mut c = Case::new();
    let [input, output] = s.channels;
    let reach = s.kernel.map(|k| (k - 1) * s.dilation + 1);
    let pads = reach.map(|n| s.pad.min(n - 1));
    let size = [0, 1].map(|d| reach[d].saturating_sub(2 * pads[d]).max(1) + s.more[d]);
    let out = [0, 1].map(|d| (size[d] + 2 * pads[d] - reach[d]) / s.stride + 1);
    let (xs, ys) = ([1, size[0], size[1], input], [1, out[0], out[1], output]);
    let ws = [output, if s.depthwise { 1 } else { input }, s.kernel[0], s.kernel[1]];
    let window = Window {
        kernel: s.kernel.to_vec(),
        strides: vec![s.stride; 2],
        dilations: vec![s.dilation; 2],
        pads_begin: pads.map(|p| p as i64).to_vec(),
        pads_end: pads.map(|p| p as i64).to_vec(),
    };
    let groups = if s.depthwise { input } else { 1 };
    let op = Op::Conv { window, groups, layout: Layout::ChannelsLast, post: Post::default() };
    let terms = ws[1..].iter().product::<usize>() as f64;
    if !bytes {
        let x = c.input(r.array(DType::F32, &xs), None);
        let w = c.constant(r.array(DType::F32, &ws), None);
        let mut v = c.node(op, &[x, w], Like::f32(&ys));
        if ending == 1 {
            v = c.node(Op::unary(UnaryOp::Relu), &[v], Like::f32(&ys));
        }
        c.output(v);
        c.check(SUMS, LOOSE_TIE);
        return;
    }
    let (tx, ty) = (r.pick(&[DType::I8, DType::U8]), r.pick(&[DType::I8, DType::U8]));
    let qx = r.quant(tx, 0.004);
    let qw = Quant { scales: (0..output).map(|_| r.scale(0.004)).collect(), zero_points: vec![0; output], axis: 0 };
    let (x, w) = (c.input(r.array(tx, &xs), Some(qx)), c.constant(r.array(DType::I8, &ws), Some(qw)));
    let (x, w) = (c.dequantize(x), c.dequantize(w));
    let unit = terms.sqrt() * 0.01;
    let mut v = c.node(op, &[x, w], Like::f32(&ys));
    if ending == 1 {
        v = c.node(Op::unary(UnaryOp::Relu), &[v], Like::f32(&ys));
    } else if ending == 2 {
        let q = r.quant(tx, unit);
        let residual = c.input(r.array(tx, &ys), Some(q));
        let residual = c.dequantize(residual);
        v = c.node(Op::Binary(kinglet_compiler::graph::BinaryOp::Add), &[v, residual], Like::f32(&ys));
    }
    let q = r.quant(ty, unit);
    let y = c.quantize(v, ty, q);
    c.output(y);
    c.check(SUMS, if ending == 2 { LOOSE_TIE } else { TIE });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(120), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whole_tiles(s in shape(), seed: u64, bytes in prop::bool::weighted(0.7), ending in 0..3usize) {
        check(s, seed, bytes, ending);
    }
}
