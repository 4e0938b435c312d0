//! Norms, softmax, losses.

use kinglet::DType::{F32, I64};
use kinglet_compiler::array::Array;

use super::Recipe;
use super::products::rows;
use super::reduce::some_axes;
use super::windows::picture;
use crate::random_graphs::attributes::{f, i, is, s};
use crate::random_graphs::net::Net;

pub(super) fn recipe(name: &str) -> Option<Recipe> {
    Some(match name {
        "Softmax" | "LogSoftmax" => softmax,
        "BatchNormalization" => batch,
        "InstanceNormalization" => instance,
        "GroupNormalization" => group,
        "LayerNormalization" => |n, op| layer(n, op, true),
        "RMSNormalization" | "SimplifiedLayerNormalization" => |n, op| layer(n, op, false),
        "MeanVarianceNormalization" => mean_variance,
        "LpNormalization" => lp,
        "NegativeLogLikelihoodLoss" | "SoftmaxCrossEntropyLoss" => loss,
        _ => return None,
    })
}

/// An ε that keeps what is nearly equal from becoming noise.
fn epsilon(n: &mut Net) -> f32 {
    n.pick(&[1e-3, 1e-5, 0.1])
}

fn softmax(n: &mut Net, op: &str) {
    let (x, shape) = rows(n, F32, 1);
    let axis = n.axis(shape.len());
    n.node(op, &[&x], if n.one_in(4) { vec![] } else { vec![i("axis", axis)] });
}

fn batch(n: &mut Net, op: &str) {
    let axes = n.pick(&[2, 1, 0, 3]);
    let (x, shape) = picture(n, F32, axes);
    let c = [shape[1]];
    let computed = n.one_in(8);
    let part = |n: &mut Net| if computed { n.shaped(F32, &c) } else { n.weights(F32, &c) };
    let (scale, bias, mean) = (part(n), part(n), part(n));
    let variance = n.positive(&c);
    let epsilon = epsilon(n);
    n.node(op, &[&x, &scale, &bias, &mean, &variance], vec![f("epsilon", epsilon)]);
}

fn instance(n: &mut Net, op: &str) {
    let axes = n.pick(&[2, 1, 3]);
    let (x, shape) = picture(n, F32, axes);
    let (scale, bias) = (n.weights(F32, &shape[1..2]), n.weights(F32, &shape[1..2]));
    let epsilon = epsilon(n);
    n.node(op, &[&x, &scale, &bias], vec![f("epsilon", epsilon)]);
}

fn group(n: &mut Net, op: &str) {
    let axes = n.pick(&[2, 1]);
    let (x, shape) = picture(n, F32, axes);
    let groups: Vec<usize> = [1, 2, shape[1]].into_iter().filter(|g| shape[1] % g == 0).collect();
    let groups = n.pick(&groups);
    let each = if n.opset() >= 21 { shape[1] } else { groups };
    let (scale, bias) = (n.weights(F32, &[each]), n.weights(F32, &[each]));
    let epsilon = epsilon(n);
    n.node(op, &[&x, &scale, &bias], vec![f("epsilon", epsilon), i("num_groups", groups as i64)]);
}

fn layer(n: &mut Net, op: &str, biased: bool) {
    let (x, shape) = rows(n, F32, 2);
    let axis = if n.one_in(3) { 1 + n.below(shape.len() - 1) } else { shape.len() - 1 };
    let scale = n.weights(F32, &shape[axis..]);
    let bias = if biased && n.below(2) == 1 { n.weights(F32, &shape[axis..]) } else { String::new() };
    let axis = axis as i64 - if n.below(2) == 1 { shape.len() as i64 } else { 0 };
    let epsilon = epsilon(n);
    n.node(op, &[&x, &scale, &bias], vec![i("axis", axis), f("epsilon", epsilon)]);
}

fn mean_variance(n: &mut Net, op: &str) {
    let (x, shape) = rows(n, F32, 2);
    let axes: Vec<i64> = some_axes(n, shape.len());
    let axes = if axes.is_empty() { vec![0] } else { axes };
    n.node(op, &[&x], vec![is("axes", &axes)]);
}

fn lp(n: &mut Net, op: &str) {
    let (x, shape) = rows(n, F32, 1);
    let axis = n.axis(shape.len());
    n.node(op, &[&x], vec![i("axis", axis), i("p", n.pick(&[2, 1]))]);
}

fn loss(n: &mut Net, op: &str) {
    let x = n.that(
        F32,
        |s| (2..=4).contains(&s.len()) && !s.contains(&0),
        |n| {
            let rank = n.pick(&[2, 3]);
            (0..rank).map(|_| 1 + n.below(5)).collect()
        },
    );
    let shape = n.shape(&x);
    let dims: Vec<usize> = shape.iter().enumerate().filter(|(d, _)| *d != 1).map(|(_, &d)| d).collect();
    let classes = (0..dims.iter().product()).map(|_| n.below(shape[1]) as i64).collect();
    let target = n.either(Array::int(I64, &dims, classes));
    let weights = if n.below(2) == 1 { n.positive(&shape[1..2]) } else { String::new() };
    let mut attributes = vec![s("reduction", n.pick(&["mean", "sum", "none"]))];
    if n.one_in(3) {
        attributes.push(i("ignore_index", n.below(shape[1] + 1) as i64));
    }
    if op == "SoftmaxCrossEntropyLoss" && n.below(2) == 1 {
        let outputs = n.nodes(op, &[&x, &target, &weights], 2, attributes);
        n.give(&outputs);
    } else {
        n.node(op, &[&x, &target, &weights], attributes);
    }
}
