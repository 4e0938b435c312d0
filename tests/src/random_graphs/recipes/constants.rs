//! What only depends on shapes and constants.

use kinglet::DType::{self, Bool, F32, I64};
use kinglet_compiler::array::Array;

use super::Recipe;
use crate::random_graphs::attributes::{i, t, tensor};
use crate::random_graphs::net::Net;

pub(super) fn recipe(name: &str) -> Option<Recipe> {
    Some(match name {
        "Constant" => constant,
        "ConstantOfShape" => of_shape,
        "Shape" => shape,
        "Size" => size,
        "Range" => range,
        "EyeLike" => eye,
        "NonZero" => non_zero,
        "Unique" => unique,
        "BlackmanWindow" | "HammingWindow" | "HannWindow" => window,
        "MelWeightMatrix" => mel,
        "OptionalHasElement" => has_element,
        _ => return None,
    })
}

fn constant(n: &mut Net, op: &str) {
    let (dtype, rank) = (n.pick(&[F32, I64, Bool]), n.pick(&[2, 1, 0]));
    let dims = n.dims(rank);
    let value = n.array(dtype, &dims);
    n.node(op, &[], vec![t("value", tensor("", &value))]);
}

fn of_shape(n: &mut Net, op: &str) {
    let rank = n.pick(&[2, 1, 3]);
    let dims: Vec<i64> = n.dims(rank).into_iter().map(|d| d as i64).collect();
    let dims = n.ints(&dims);
    let dtype = n.pick(&[F32, I64]);
    let value = n.array(dtype, &[1]);
    n.node(op, &[&dims], if n.one_in(3) { vec![] } else { vec![t("value", tensor("", &value))] });
}

fn anything(n: &mut Net) -> String {
    let dtype: DType = n.pick(&[F32, I64, Bool]);
    n.any(dtype)
}

fn shape(n: &mut Net, op: &str) {
    let x = anything(n);
    let mut attributes = Vec::new();
    if n.opset() >= 15 && n.below(2) == 1 {
        attributes.extend([i("start", n.below(4) as i64 - 2), i("end", n.below(5) as i64)]);
    }
    n.node(op, &[&x], attributes);
}

fn size(n: &mut Net, op: &str) {
    let x = anything(n);
    n.node(op, &[&x], vec![]);
}

fn range(n: &mut Net, op: &str) {
    let (start, step, count) = (n.below(9) as i64 - 4, n.pick(&[1, 2, -1, -3]), n.below(8) as i64);
    if n.below(2) == 1 {
        let each = [start, start + step * count, step].map(|v| v as f64 / 4.0);
        let [a, b, c] = each.map(|v| n.scalar(v));
        n.node(op, &[&a, &b, &c], vec![]);
        return;
    }
    let [a, b, c] = [start, start + step * count, step].map(|v| n.int(v));
    n.node(op, &[&a, &b, &c], vec![]);
}

fn eye(n: &mut Net, op: &str) {
    let x = n.ranked(F32, 2);
    n.node(op, &[&x], vec![i("k", n.below(5) as i64 - 2)]);
}

fn non_zero(n: &mut Net, op: &str) {
    let (dtype, rank) = (n.pick(&[I64, Bool, F32]), n.pick(&[1, 2]));
    let dims = n.dims(rank);
    let x = n.weights(dtype, &dims);
    n.node(op, &[&x], vec![]);
}

fn unique(n: &mut Net, op: &str) {
    let count = 1 + n.below(7);
    let x = n.weights(I64, &[count]);
    let outputs = n.nodes(op, &[&x], 4, vec![i("sorted", n.below(2) as i64)]);
    n.give(&outputs);
}

fn window(n: &mut Net, op: &str) {
    let size = 2 + n.below(9) as i64;
    let size = n.int(size);
    // Its ends are 0 to the last place of f32: moved away from there, so that nothing depends on which.
    let window = n.nodes(op, &[&size], 1, vec![i("periodic", n.below(2) as i64)]).swap_remove(0);
    let one = n.scalar(1.0);
    n.node("Add", &[&window, &one], vec![]);
}

fn mel(n: &mut Net, op: &str) {
    let [bins, size, rate] = [4 + n.below(4) as i64, 32, 8192].map(|v| n.int(v));
    let (lower, upper) = (n.below(4) as f64 * 50.0, 2000.0 + n.below(4) as f64 * 500.0);
    let (lower, upper) = (n.constant(Array::scalar(lower)), n.constant(Array::scalar(upper)));
    n.node(op, &[&bins, &size, &rate, &lower, &upper], vec![]);
}

fn has_element(n: &mut Net, op: &str) {
    let x = n.any(F32);
    n.node(op, &[&x], vec![]);
}
