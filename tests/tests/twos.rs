//! Which products of plans for Cortex-M have weights by twos: those whose sums are so small that 256 times as much is a word.

use kinglet::kernels::OpSet;
use kinglet::product::{Packing, WordOrder};
use kinglet::{DType, Model, Target};
use kinglet_compiler::array::Array;
use kinglet_compiler::graph::{Layout, Op, Post, Quant, Window};
use kinglet_compiler::{Options, compile};
use kinglet_tests::one_node::{Bound, Case, Like, TIE};
use kinglet_tests::{Aligned, Random};

/// A pointwise product of 8 pixels with a bias and weights, the first of which is given.
fn product(dtype: DType, bias: i64, first: i64, weights: i64, channels: usize) -> Case {
    let (mut r, mut c) = (Random::new(7), Case::new());
    let (xs, ys) = ([1, 4, 2, channels], [1, 4, 2, 3]);
    let x = c.input(r.array(dtype, &xs), Some(Quant::per_tensor(0.5, 3)));
    let mut w: Vec<i64> = (0..3 * channels).map(|i| if i % 3 == 0 { -weights } else { weights }).collect();
    w[0] = first;
    let w = c.constant(Array::int(DType::I8, &[3, channels, 1, 1], w), Some(Quant::per_tensor(0.25, 0)));
    let b = c.constant(Array::int(DType::I32, &[3], vec![bias, 0, -5]), Some(Quant::per_tensor(0.125, 0)));
    let [x, w, b] = [x, w, b].map(|t| c.dequantize(t));
    let window = Window {
        kernel: vec![1; 2],
        strides: vec![1; 2],
        dilations: vec![1; 2],
        pads_begin: vec![0; 2],
        pads_end: vec![0; 2],
    };
    let op = Op::Conv { window, groups: 1, layout: Layout::ChannelsLast, post: Post::default() };
    let v = c.node(op, &[x, w, b], Like::f32(&ys));
    let v = c.quantize(v, DType::I8, Quant::per_tensor(4000.0, 1));
    let v = c.dequantize(v);
    c.output(v);
    c
}

/// How the weights of its product lie, and what a program of it links.
fn packing(c: &Case, target: Target) -> (Packing, OpSet) {
    let (graph, _) = c.parts();
    let compiled = compile(graph, &Options { target, ..Options::default() }).expect("compiles");
    let kgl = Aligned::copy(&compiled.kgl);
    let model = Model::load(kgl.as_ref()).expect("valid");
    let product = (0..model.step_count()).find_map(|i| model.step(i).product()).expect("there is one");
    (product.0.packing, OpSet::of_model(&model))
}

#[test]
fn weights_lie_by_twos_where_sums_stay_small() {
    // 2²³ is 8,388,608; inputs are −128 at most. The bias loses the sum of the first channel's weights, 6, times the input's zero point 3, of unsigned
    // bytes times 3 − 128.
    let most = |channels: i64, weights: i64| (1i64 << 23) - 1 - 128 * channels * weights;
    let rows = [
        // type of the input, bias, first weight, weights, channels, by twos
        (DType::I8, 0, -3, 3, 8, true),
        (DType::I8, 100, -127, 127, 8, true),
        (DType::I8, 100, -128, 127, 8, false),
        (DType::I8, most(8, 3) + 18, -3, 3, 8, true),
        (DType::I8, most(8, 3) + 19, -3, 3, 8, false),
        (DType::I8, 18 - most(8, 3), -3, 3, 8, true),
        (DType::I8, 17 - most(8, 3), -3, 3, 8, false),
        (DType::U8, most(8, 3) - 750, -3, 3, 8, true),
        (DType::U8, most(8, 3) - 749, -3, 3, 8, false),
        (DType::I8, 1 << 30, -3, 3, 8, false),
        (DType::I8, 0, -127, 127, 600, false),
        (DType::I8, 0, -100, 100, 600, true),
    ];
    for (dtype, bias, first, weights, channels, twos) in rows {
        let c = product(dtype, bias, first, weights, channels);
        let (packing, ops) = self::packing(&c, Target::CortexM);
        let what = format!("{dtype:?}, bias {bias}, weights of {weights}, {channels} channels");
        assert_eq!(packing.order == WordOrder::Twos, twos, "{what}");
        assert_eq!(ops.holds(OpSet::PLAIN), !twos, "{what}");
        for other in Target::ALL.into_iter().filter(|&t| t != Target::CortexM) {
            let usual = other.info().packing(true, false, channels, channels);
            assert_eq!(self::packing(&c, other).0, usual, "{what}, {}", other.name());
        }
        c.check(Bound::OfLargest(1e-4), TIE);
    }
}
