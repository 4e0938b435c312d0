//! Attention over computed queries, keys and values, as exporters write it out (Vaswani et al. 2017, equation 1).

use std::collections::BTreeMap;

use kinglet::DType;
use kinglet::kernels::BinaryOp;
use kinglet_compiler::array::Array;
use kinglet_compiler::graph::{Graph, Op, Post};

use crate::Random;
use crate::one_node::{Case, Like};

/// `softmax(Q·Kᵀ + mask)·V` of inputs `[1, heads, time, size]` with random values; the mask is an input of a shape that broadcasts to
/// `[heads, time, time]`.
pub fn attention(heads: usize, time: usize, size: usize, mask: Option<&[usize]>) -> (Graph, BTreeMap<String, Array>) {
    let (mut case, mut r) = (Case::new(), Random::new(1));
    let product = |transpose_b| Op::MatMul { transpose_a: false, transpose_b, post: Post::default() };
    let (x, scores) = ([1, heads, time, size], [1, heads, time, time]);
    let [q, k, v] = [0; 3].map(|_| case.input(r.array(DType::F32, &x), None));
    let mut shown = case.node(product(true), &[q, k], Like::f32(&scores));
    if let Some(mask) = mask {
        let mask = case.input(r.array(DType::F32, mask), None);
        shown = case.node(Op::Binary(BinaryOp::Add), &[shown, mask], Like::f32(&scores));
    }
    let weights = case.node(Op::Softmax { axis: 3, log: false }, &[shown], Like::f32(&scores));
    let y = case.node(product(false), &[weights, v], Like::f32(&x));
    case.output(y);
    case.parts()
}
