//! Reductions, running sums, and what is largest.

use kinglet::DType::{F32, I32, I64};

use super::Recipe;
use crate::random_graphs::attributes::{i, is};
use crate::random_graphs::net::Net;

pub(super) fn recipe(name: &str) -> Option<Recipe> {
    Some(match name {
        "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceMax" | "ReduceMean" | "ReduceMin"
        | "ReduceProd" | "ReduceSum" | "ReduceSumSquare" => reduce,
        "ArgMax" | "ArgMin" => arg,
        "CumSum" | "CumProd" => running,
        "TopK" => top_k,
        _ => return None,
    })
}

/// Some axes of a tensor, each once, counted from either end.
pub(super) fn some_axes(n: &mut Net, rank: usize) -> Vec<i64> {
    let mut axes: Vec<i64> = (0..rank as i64).filter(|_| n.below(2) == 0).collect();
    if n.one_in(3) {
        axes.iter_mut().for_each(|a| *a -= rank as i64);
    }
    axes
}

fn reduce(n: &mut Net, op: &str) {
    let integers = matches!(op, "ReduceMax" | "ReduceMin" | "ReduceSum");
    let dtype = if integers { n.pick(&[F32, F32, F32, I64, I32]) } else { F32 };
    // Where a product overflows on its way depends on the order, and with it what a 0 makes of it.
    let x = if op == "ReduceProd" && n.is_special() { n.weights(F32, &[3, 4]) } else { n.at_least(dtype, 1) };
    let rank = n.rank(&x);
    let axes = some_axes(n, rank);
    let mut attributes = Vec::new();
    if n.below(2) == 1 {
        attributes.push(i("keepdims", 0));
    }
    if n.opset() >= if op == "ReduceSum" { 13 } else { 18 } {
        let none = axes.is_empty();
        if none && n.below(2) == 1 {
            attributes.push(i("noop_with_empty_axes", 1));
        }
        let axes = if none && n.below(2) == 1 { String::new() } else { n.ints(&axes) };
        n.node(op, &[&x, &axes], attributes);
    } else {
        if !axes.is_empty() {
            attributes.push(is("axes", &axes));
        }
        n.node(op, &[&x], attributes);
    }
}

fn arg(n: &mut Net, op: &str) {
    let dtype = n.pick(&[F32, F32, I32]);
    let x = n.at_least(dtype, 1);
    let rank = n.rank(&x);
    let mut attributes = vec![i("axis", n.axis(rank)), i("keepdims", n.below(2) as i64)];
    if n.opset() >= 12 && n.below(2) == 1 {
        attributes.push(i("select_last_index", 1));
    }
    n.node(op, &[&x], attributes);
}

fn running(n: &mut Net, op: &str) {
    let dtype = n.pick(&[F32, F32, I64, I32]);
    let x = n.at_least(dtype, 1);
    let rank = n.rank(&x);
    let axis = n.axis(rank);
    let axis = n.int(axis);
    let attributes = vec![i("exclusive", n.below(2) as i64), i("reverse", n.below(2) as i64)];
    n.node(op, &[&x, &axis], attributes);
}

fn top_k(n: &mut Net, op: &str) {
    let dtype = if n.opset() >= 11 { n.pick(&[F32, F32, I64, I32]) } else { F32 };
    let x = n.at_least(dtype, 1);
    let shape = n.shape(&x);
    let axis = n.axis(shape.len());
    let len = shape[axis.rem_euclid(shape.len() as i64) as usize];
    let k = 1 + n.below(len) as i64;
    let mut attributes = vec![i("axis", axis)];
    let outputs = if n.opset() < 10 {
        attributes.push(i("k", k));
        n.nodes(op, &[&x], 2, attributes)
    } else {
        if n.opset() >= 11 && n.below(2) == 1 {
            attributes.push(i("largest", 0));
        }
        let k = n.ints(&[k]);
        n.nodes(op, &[&x, &k], 2, attributes)
    };
    n.give(&outputs);
}
