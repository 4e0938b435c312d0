//! Products of matrices, and what is one with a constant matrix.

use kinglet::DType::{self, F32, I8, U8};

use super::Recipe;
use crate::random_graphs::attributes::{f, i, s};
use crate::random_graphs::net::Net;

pub(super) fn recipe(name: &str) -> Option<Recipe> {
    Some(match name {
        "MatMul" => matmul,
        "MatMulInteger" => matmul_integer,
        "Gemm" => |n, op| gemm(n, op, vec![]),
        "Einsum" => einsum,
        "Det" => det,
        "DFT" => dft,
        "STFT" => stft,
        _ => return None,
    })
}

/// A right side for products with `k` rows: a constant, or computed.
pub(super) fn right(n: &mut Net, dtype: DType, left: &[usize], k: usize) -> String {
    let columns = n.pick(&[3, 1, 2, 4, 8, 17]);
    let mut shape = vec![k, columns];
    if left.len() > 2 && n.one_in(3) {
        let batches = left[..left.len() - 2].iter().map(|&d| if n.one_in(3) { 1 } else { d });
        shape.splice(0..0, batches.collect::<Vec<_>>());
    }
    if n.below(2) == 1 { n.shaped(dtype, &shape) } else { n.weights(dtype, &shape) }
}

/// A tensor of at least this rank whose last axis is not empty.
pub(super) fn rows(n: &mut Net, dtype: DType, least: usize) -> (String, Vec<usize>) {
    let x = n.that(
        dtype,
        |s| s.len() >= least && s.last().is_some_and(|&d| d > 0),
        |n| {
            let rank = least.max(n.pick(&[2, 3, 4]));
            (0..rank).map(|_| 1 + n.below(6)).collect()
        },
    );
    let shape = n.shape(&x);
    (x, shape)
}

fn matmul(n: &mut Net, op: &str) {
    let (a, shape) = rows(n, F32, 1);
    let k = shape[shape.len() - 1];
    let b = if n.one_in(10) { n.shaped(F32, &[k]) } else { right(n, F32, &shape, k) };
    n.node(op, &[&a, &b], vec![]);
}

fn matmul_integer(n: &mut Net, op: &str) {
    let (a, shape) = rows(n, U8, 2);
    let by = n.pick(&[I8, U8]);
    let b = right(n, by, &shape, shape[shape.len() - 1]);
    let zero = if n.below(2) == 1 { n.fresh(U8, &[]) } else { String::new() };
    let other = if n.one_in(3) { n.fresh(by, &[]) } else { String::new() };
    n.node(op, &[&a, &b, &zero, &other], vec![]);
}

pub(super) fn gemm(n: &mut Net, op: &str, mut attributes: Vec<kinglet_onnx::AttributeProto>) {
    let a = n.ranked(F32, 2);
    let shape = n.shape(&a);
    let (turn_a, turn_b) = (n.below(2), n.below(2));
    let (rows, k) = if turn_a == 1 { (shape[1], shape[0]) } else { (shape[0], shape[1]) };
    let columns = n.pick(&[3, 1, 2, 4, 8, 17]);
    let dims = if turn_b == 1 { [columns, k] } else { [k, columns] };
    let b = if n.one_in(3) { n.shaped(F32, &dims) } else { n.weights(F32, &dims) };
    let c = if n.one_in(3) { String::new() } else { n.broadcast(F32, &[rows, columns]) };
    attributes.extend([i("transA", turn_a as i64), i("transB", turn_b as i64)]);
    if n.one_in(3) {
        attributes.extend([f("alpha", n.pick(&[0.5, -1.25])), f("beta", n.pick(&[2.0, 0.0, 0.3]))]);
    }
    let c = if n.opset() < 11 && c.is_empty() { n.broadcast(F32, &[rows, columns]) } else { c };
    n.node(op, &[&a, &b, &c], attributes);
}

fn einsum(n: &mut Net, op: &str) {
    let equations = [
        ("ij,jk->ik", 2, &[1][..]),
        ("bij,bjk->bik", 3, &[0, 2]),
        ("bij,bkj->bik", 3, &[0, 9, 2]),
        ("ij->ji", 2, &[]),
        ("bij->bj", 3, &[]),
        ("i,j->ij", 1, &[9]),
        ("bhid,bhjd->bhij", 4, &[0, 1, 9, 3]),
    ];
    let (equation, rank, second) = n.pick(&equations);
    let a = n.ranked(F32, rank);
    let shape = n.shape(&a);
    if second.is_empty() {
        n.node(op, &[&a], vec![s("equation", equation)]);
        return;
    }
    let mut dims: Vec<usize> = second.iter().map(|&d| if d == 9 { n.dim() } else { shape[d] }).collect();
    if matches!(equation, "ij,jk->ik" | "bij,bjk->bik") {
        dims.push(n.dim());
    }
    let b = n.shaped(F32, &dims);
    n.node(op, &[&a, &b], vec![s("equation", equation)]);
}

fn det(n: &mut Net, op: &str) {
    let size = n.pick(&[2, 1, 3, 4]);
    let x = n.that(
        F32,
        |s| s.len() >= 2 && s[s.len() - 2..] == [size, size],
        |n| {
            let mut shape = if n.below(2) == 1 { n.dims(1) } else { vec![] };
            shape.extend([size, size]);
            shape
        },
    );
    n.node(op, &[&x], vec![]);
}

fn dft(n: &mut Net, op: &str) {
    let complex = n.below(2);
    let last = 1 + complex;
    let x = n.that(
        F32,
        |s| s.len() == 3 && s[2] == last && !s.contains(&0),
        |n| vec![1 + n.below(3), 2 + n.below(6), last],
    );
    let axis = i("axis", 1);
    let inverse = if complex == 1 { n.below(2) as i64 } else { 0 };
    let onesided = if complex == 0 { n.below(2) as i64 } else { 0 };
    let attributes = vec![i("inverse", inverse), i("onesided", onesided)];
    if n.opset() >= 20 {
        let one = n.int(1);
        n.node(op, &[&x, "", &one], attributes);
    } else {
        n.node(op, &[&x], attributes.into_iter().chain([axis]).collect());
    }
}

fn stft(n: &mut Net, op: &str) {
    let len = 8 + n.below(8);
    let frame = 4 + n.below(4);
    let x = n.shaped(F32, &[1 + len % 2, len, 1]);
    let step = n.pick(&[2, 1, 3]);
    let (step, length) = (n.int(step), n.int(frame as i64));
    let window = if n.below(2) == 1 { n.weights(F32, &[frame]) } else { String::new() };
    n.node(op, &[&x, &step, &window, &length], vec![i("onesided", n.below(2) as i64)]);
}
