//! What a convolution or matrix product does to its sum.

use kinglet::DType;

use super::{Call, quant, unary};
use crate::array::Numbers;
use crate::graph::Post;

/// Takes the sums, in the output's order, to the output.
///
/// In this order: quantise to `mid` and back, add the residual, clamp, apply the function, quantise, look up in the
/// table. A table without a residual takes the integers of `mid`, which then are the output's.
pub(super) fn apply(post: &Post, mut v: Vec<f64>, call: &Call<'_>) -> Numbers {
    if let Some(mid) = &post.mid {
        let (scale, zero) = (f64::from(mid.scale), f64::from(mid.zero_point));
        for v in &mut v {
            *v = (quant::quantize_one(*v, scale, zero, mid.dtype) as f64 - zero) * scale;
        }
    }
    let output = call.output();
    if post.residual {
        let residual = call.real(call.inputs.len() - 1);
        assert_eq!(residual.shape, output.shape, "a residual has the shape of the output");
        for (v, r) in v.iter_mut().zip(residual.v.iter()) {
            *v += r;
        }
    }
    let (lo, hi) = (f64::from(post.lo), f64::from(post.hi));
    for v in &mut v {
        *v = unary::clip(*v, lo, hi);
    }
    if let Some((op, alpha, beta)) = post.function {
        let (alpha, beta) = (f64::from(alpha), f64::from(beta));
        for v in &mut v {
            *v = unary::function(op, alpha, beta, *v);
        }
    }
    let Some(table) = &post.table else {
        return Numbers::F(v);
    };
    let bytes = match (&post.mid, &output.quant) {
        (Some(mid), _) if !post.residual => {
            let (scale, zero) = (f64::from(mid.scale), f64::from(mid.zero_point));
            v.iter().map(|&v| quant::quantize_one(v, scale, zero, mid.dtype)).collect()
        }
        (_, Some(q)) => quant::quantize_all(&v, &output.shape, q, output.dtype),
        (_, None) => panic!("a table stands behind a quantisation"),
    };
    Numbers::I(look_up(table, &bytes, output.dtype))
}

/// The entries of a table at the bits of each byte, as bytes of type `dtype`.
pub(super) fn look_up(table: &[u8], bytes: &[i64], dtype: DType) -> Vec<i64> {
    bytes.iter().map(|&b| quant::wrap(i64::from(table[usize::from(b as u8)]), dtype)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::array::{Array, Numbers};
    use crate::graph::{Mid, Op, Post, Quant, UnaryOp};
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
    fn clamps_then_applies_the_function() {
        let [a, b] = sums();
        let post = Post { lo: -1.0, hi: 3.0, function: Some((UnaryOp::Affine, 2.0, 1.0)), ..Post::default() };
        let y = eval(product(post), &[a, b], &like(DType::F32, &[1, 3], None));
        assert_eq!(y, Array::f32(&[1, 3], vec![1.3 * 2.0 + 1.0, -1.0, 7.0]));
    }

    #[test]
    fn a_residual_is_added_to_the_rounded_sum_before_the_clamp() {
        let [a, b] = sums();
        let post = Post { lo: 0.0, mid: mid(), residual: true, ..Post::default() };
        let r = f(&[1, 3], &[0.25, 1.0, 1.0]);
        // Mid: 1.3 → 1.5, −2.6 → −2.5, 3.9 → 4.0.
        let y = eval(product(post.clone()), &[a, b, None, r], &like(DType::F32, &[1, 3], None));
        assert_eq!(y, Array::f32(&[1, 3], vec![1.75, 0.0, 5.0]));
        let [a, b] = sums();
        let y = eval(product(post), &[a, b, f(&[1, 3], &[0.25, 1.0, 1.0])], &like(DType::F32, &[1, 3], None));
        assert_eq!(y, Array::f32(&[1, 3], vec![1.75, 0.0, 5.0]));
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

    #[test]
    fn with_a_residual_the_table_takes_the_bytes_of_the_output() {
        let [a, b] = sums();
        let table = (0..=255u8).map(|b| b.wrapping_add(1)).collect();
        let post = Post { mid: mid(), table: Some(table), residual: true, ..Post::default() };
        let r = quantized(DType::I8, &[1, 3], &[1, 2, 3], Quant::per_tensor(1.0, 0));
        let out = like(DType::I8, &[1, 3], Some(Quant::per_tensor(1.0, -1)));
        // 1.5 + 1 → 2 (tie), −2.5 + 2 → 0 (tie), 4 + 3 → 7; −1 for the zero point, +1 by the table.
        assert_eq!(eval(product(post), &[a, b, None, r], &out).numbers(), Numbers::I(vec![2, 0, 7]));
    }
}
