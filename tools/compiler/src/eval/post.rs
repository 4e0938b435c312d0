//! What a convolution or matrix product does to its sum.

use kinglet::DType;

use super::walk::{broadcast, walk};
use super::{Call, elementwise, quant, unary};
use crate::array::Numbers;
use crate::graph::{Post, Stage};

/// Takes the sums, in the output's order, through bounds, rounding, and stages or table.
pub(super) fn apply(post: &Post, mut v: Vec<f64>, call: &Call<'_>) -> Numbers {
    let (lo, hi) = (f64::from(post.lo), f64::from(post.hi));
    for v in &mut v {
        *v = unary::clip(*v, lo, hi);
    }
    let Some(mid) = &post.mid else {
        return Numbers::F(stages(post, v, call));
    };
    let (scale, zero) = (f64::from(mid.scale), f64::from(mid.zero_point));
    let rounded: Vec<i64> = v.iter().map(|&v| quant::quantize_one(v, scale, zero, mid.dtype)).collect();
    behind_rounding(post, &rounded, call)
}

/// Takes the integers that the sums were rounded to through stages or table.
pub(super) fn behind_rounding(post: &Post, rounded: &[i64], call: &Call<'_>) -> Numbers {
    if let Some(table) = &post.table {
        return Numbers::I(look_up(table, rounded, call.output().dtype));
    }
    let mid = post.mid.as_ref().expect("a rounding has a type");
    let (scale, zero) = (f64::from(mid.scale), f64::from(mid.zero_point));
    Numbers::F(stages(post, rounded.iter().map(|&q| (q as f64 - zero) * scale).collect(), call))
}

fn stages(post: &Post, mut v: Vec<f64>, call: &Call<'_>) -> Vec<f64> {
    let shape = &call.output().shape;
    let mut operands = Post::OPERANDS..;
    for stage in &post.stages {
        match *stage {
            Stage::Function(op, alpha, beta) => {
                let (alpha, beta) = (f64::from(alpha), f64::from(beta));
                v.iter_mut().for_each(|v| *v = unary::function(op, alpha, beta, *v));
            }
            Stage::Combine(op) => {
                let other = call.real(operands.next().expect("there is no end"));
                let mut elements = v.iter_mut();
                walk(shape, [&broadcast(other.shape, shape)], [0], |[i]| {
                    if let Some(v) = elements.next() {
                        *v = elementwise::operation(op, *v, other.v[i]);
                    }
                });
            }
        }
    }
    v
}

/// The entries of a table at the bits of each byte, as bytes of type `dtype`.
pub(super) fn look_up(table: &[u8], bytes: &[i64], dtype: DType) -> Vec<i64> {
    bytes.iter().map(|&b| quant::wrap(i64::from(table[usize::from(b as u8)]), dtype)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::array::{Array, Numbers};
    use crate::graph::{BinaryOp, Mid, Op, Post, Quant, Stage, UnaryOp};
    use kinglet::DType;

    fn product(post: Post) -> Op {
        Op::MatMul { transpose_a: false, transpose_b: false, post }
    }

    /// Sums 1.3, −2.6, 3.9 (f64 of the decimal numbers, by a 1×1 product).
    fn sums() -> [Input; 2] {
        [f(&[1, 1], &[1.0]), f(&[1, 3], &[1.3, -2.6, 3.9])]
    }

    fn mid() -> Option<Mid> {
        Some(Mid { dtype: DType::I8, scale: 0.5, zero_point: 1 })
    }

    #[test]
    fn clamps_then_applies_the_stages_in_order() {
        let [a, b] = sums();
        let stages = vec![
            Stage::Function(UnaryOp::Affine, 2.0, 1.0),
            Stage::Combine(BinaryOp::Sub),
            Stage::Combine(BinaryOp::PRelu),
            Stage::Function(UnaryOp::Abs, 0.0, 0.0),
        ];
        let post = Post { lo: -1.0, hi: 3.0, stages, ..Post::default() };
        let (residual, channels) = (f(&[1, 3], &[0.5, 1.0, 10.0]), f(&[3], &[9.0, 0.25, 2.0]));
        let y = eval(product(post), &[a, b, None, residual, channels], &like(DType::F32, &[1, 3], None));
        // 1.3, −1, 3 → 3.6, −1, 7 → 3.1, −2, −3 → 3.1, −0.5, −6.
        assert_close(&y.reals(), &[3.1, 0.5, 6.0]);
    }

    #[test]
    fn the_sum_is_clamped_and_rounded_before_a_residual_is_added() {
        let [a, b] = sums();
        let post = Post { lo: 0.0, mid: mid(), stages: vec![Stage::Combine(BinaryOp::Add)], ..Post::default() };
        // Mid: 1.3 → 1.5, −2.6 → 0, 3.9 → 4.0.
        let r = f(&[1, 3], &[0.25, -1.0, 1.0]);
        let y = eval(product(post), &[a, b, None, r], &like(DType::F32, &[1, 3], None));
        assert_eq!(y, Array::f32(&[1, 3], vec![1.75, -1.0, 5.0]));
    }

    #[test]
    fn stages_behind_a_rounding_meet_the_quantisation_of_the_output() {
        let [a, b] = sums();
        let post = Post { mid: mid(), stages: vec![Stage::Combine(BinaryOp::Add)], ..Post::default() };
        let r = quantized(DType::I8, &[1, 3], &[1, 2, 3], Quant::per_tensor(1.0, 0));
        let out = like(DType::I8, &[1, 3], Some(Quant::per_tensor(1.0, -1)));
        // 1.5 + 1 → 2 (tie), −2.5 + 2 → 0 (tie), 4 + 3 → 7; −1 for the zero point.
        assert_eq!(eval(product(post), &[a, b, None, r], &out).numbers(), Numbers::I(vec![1, -1, 6]));
    }

    #[test]
    fn a_table_takes_the_bytes_of_mid() {
        let [a, b] = sums();
        let table = (0..=255u8).map(|b| b.wrapping_add(100)).collect();
        let post = Post { mid: mid(), table: Some(table), ..Post::default() };
        let out = like(DType::U8, &[1, 3], Some(Quant::per_tensor(7.0, 0)));
        // Mid bytes: 3 + 1, −5 + 1, 8 + 1.
        assert_eq!(eval(product(post.clone()), &[a, b], &out).numbers(), Numbers::I(vec![104, 96, 109]));
        let [a, b] = sums();
        let out = like(DType::I8, &[1, 3], Some(Quant::per_tensor(7.0, 0)));
        let post = Post { table: Some(vec![200; 256]), ..post };
        assert_eq!(eval(product(post), &[a, b], &out).numbers(), Numbers::I(vec![-56; 3]));
    }
}
