//! MobileNetV2 in bytes (Sandler et al., 2018, table 2), with random weights: what a vision model of a microcontroller looks like in
//! memory. The picture comes channels last, as bytes.

use std::collections::BTreeMap;

use kinglet::DType;
use kinglet::kernels::BinaryOp;
use kinglet_compiler::array::Array;
use kinglet_compiler::graph::{Graph, Layout, Op, PoolKind, Post, Quant, TensorId, UnaryOp, Window};

use crate::Random;
use crate::one_node::{Case, Like};

/// Expansion, channels, repeats and stride of the bottlenecks.
const BOTTLENECKS: [[usize; 4]; 7] =
    [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]];

struct Net {
    case: Case,
    r: Random,
    /// The newest tensor, its extent (pictures are square) and its channels.
    x: TensorId,
    size: usize,
    channels: usize,
}

impl Net {
    /// A convolution to `out` channels (of each channel by itself if there are as many groups), cut at 0 and 6 if it is `clipped`.
    fn conv(&mut self, kernel: usize, stride: usize, out: usize, groups: usize, clipped: bool) {
        let weights = self.r.array(DType::I8, &[out, self.channels / groups, kernel, kernel]);
        let terms = (kernel * kernel * self.channels / groups) as f32;
        // Sums of random terms grow with the root of their number: results fill the range of a byte.
        let scale = 2.0 / (74.0 * terms.sqrt());
        let weights = self.case.constant(weights, Some(Quant::per_tensor(scale, 0)));
        let pad = (kernel / 2) as i64;
        let window = Window {
            kernel: vec![kernel; 2],
            strides: vec![stride; 2],
            dilations: vec![1; 2],
            pads_begin: vec![pad; 2],
            pads_end: vec![pad; 2],
        };
        self.size = self.size.div_ceil(stride);
        self.channels = out;
        let shape = [1, self.size, self.size, out];
        let op = Op::Conv { window, groups, layout: Layout::ChannelsLast, post: Post::default() };
        let reals = [self.x, weights].map(|t| self.case.dequantize(t));
        let mut y = self.case.node(op, &reals, Like::f32(&shape));
        if clipped {
            y = self.case.node(Op::Unary { op: UnaryOp::Clip, alpha: 0.0, beta: 6.0 }, &[y], Like::f32(&shape));
        }
        let quant = if clipped { Quant::per_tensor(6.0 / 255.0, -128) } else { Quant::per_tensor(1.0 / 32.0, 0) };
        self.x = self.case.quantize(y, DType::I8, quant);
    }

    fn bottleneck(&mut self, expansion: usize, out: usize, stride: usize) {
        let (before, inside) = (self.x, self.channels * expansion);
        let residual = stride == 1 && out == self.channels;
        if expansion > 1 {
            self.conv(1, 1, inside, 1, true);
        }
        self.conv(3, stride, inside, inside, true);
        self.conv(1, 1, out, 1, false);
        if residual {
            let reals = [self.x, before].map(|t| self.case.dequantize(t));
            let shape = [1, self.size, self.size, out];
            let sum = self.case.node(Op::Binary(BinaryOp::Add), &reals, Like::f32(&shape));
            self.x = self.case.quantize(sum, DType::I8, Quant::per_tensor(1.0 / 32.0, 0));
        }
    }
}

/// MobileNetV2 1.0 over a picture `[1, size, size, 3]`, and such a picture.
pub fn mobilenet_v2(size: usize) -> (Graph, BTreeMap<String, Array>) {
    let (mut case, mut r) = (Case::new(), Random::new(5));
    let x = case.named_input("image", r.array(DType::I8, &[1, size, size, 3]), Some(Quant::per_tensor(1.0 / 64.0, 0)));
    let mut net = Net { case, r, x, size, channels: 3 };
    net.conv(3, 2, 32, 1, true);
    for [expansion, out, repeats, stride] in BOTTLENECKS {
        for i in 0..repeats {
            net.bottleneck(expansion, out, if i == 0 { stride } else { 1 });
        }
    }
    net.conv(1, 1, 1280, 1, true);
    let real = net.case.dequantize(net.x);
    let window = Window {
        kernel: vec![net.size; 2],
        strides: vec![1; 2],
        dilations: vec![1; 2],
        pads_begin: vec![0; 2],
        pads_end: vec![0; 2],
    };
    let op = Op::Pool { kind: PoolKind::Average, window, layout: Layout::ChannelsLast };
    let mean = net.case.node(op, &[real], Like::f32(&[1, 1, 1, 1280]));
    net.x = net.case.quantize(mean, DType::I8, Quant::per_tensor(6.0 / 255.0, -128));
    net.size = 1;
    net.conv(1, 1, 1000, 1, false);
    net.case.output(net.x);
    net.case.parts()
}
