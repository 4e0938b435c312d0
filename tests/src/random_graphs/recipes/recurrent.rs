//! LSTM, GRU and RNN.

use kinglet::DType::{F32, I32};
use kinglet_compiler::array::Array;

use super::Recipe;
use crate::random_graphs::attributes::{f, i, s, ss};
use crate::random_graphs::net::Net;

pub(super) fn recipe(name: &str) -> Option<Recipe> {
    matches!(name, "LSTM" | "GRU" | "RNN").then_some(layer as Recipe)
}

fn layer(n: &mut Net, op: &str) {
    let x = n.that(
        F32,
        |s| s.len() == 3 && !s.contains(&0) && s[0] <= 6,
        |n| vec![1 + n.below(4), 1 + n.below(3), 1 + n.below(4)],
    );
    let shape = n.shape(&x);
    let turned = n.opset() >= 14 && n.one_in(4);
    let (frames, batch) = if turned { (shape[1], shape[0]) } else { (shape[0], shape[1]) };
    let (gates, hidden) = (
        match op {
            "LSTM" => 4,
            "GRU" => 3,
            _ => 1,
        },
        1 + n.below(4),
    );
    let direction = n.pick(&["forward", "reverse", "bidirectional"]);
    let ways = if direction == "bidirectional" { 2 } else { 1 };
    let computed = n.one_in(10);
    let part = |n: &mut Net, shape: &[usize]| if computed { n.shaped(F32, shape) } else { n.weights(F32, shape) };
    let w = part(n, &[ways, gates * hidden, shape[2]]);
    let r = part(n, &[ways, gates * hidden, hidden]);
    let b = if n.below(2) == 1 { part(n, &[ways, 2 * gates * hidden]) } else { String::new() };
    let lengths = if n.one_in(4) {
        let lengths = (0..batch).map(|_| 1 + n.below(frames) as i64).collect();
        n.constant(Array::int(I32, &[batch], lengths))
    } else {
        String::new()
    };
    let state = if turned { [batch, ways, hidden] } else { [ways, batch, hidden] };
    let maybe = |n: &mut Net, shape: &[usize]| if n.one_in(3) { n.shaped(F32, shape) } else { String::new() };
    let h = maybe(n, &state);
    let mut attributes = vec![i("hidden_size", hidden as i64), s("direction", direction)];
    if turned {
        attributes.push(i("layout", 1));
    }
    if n.one_in(5) {
        attributes.push(f("clip", 0.7));
    }
    if n.one_in(4) {
        let pairs: &[&[&str]] = match op {
            "LSTM" => &[&["Sigmoid", "Tanh", "Tanh"], &["HardSigmoid", "Tanh", "Relu"]],
            "GRU" => &[&["Sigmoid", "Tanh"], &["Sigmoid", "Relu"]],
            _ => &[&["Tanh"], &["Relu"], &["Sigmoid"]],
        };
        let functions = n.pick(pairs).repeat(ways);
        attributes.push(ss("activations", &functions));
    }
    if op == "GRU" && n.below(2) == 1 {
        attributes.push(i("linear_before_reset", 1));
    }
    let outputs = if op == "LSTM" {
        let c = maybe(n, &state);
        let p = if n.one_in(5) { n.weights(F32, &[ways, 3 * hidden]) } else { String::new() };
        n.nodes(op, &[&x, &w, &r, &b, &lengths, &h, &c, &p], 3, attributes)
    } else {
        n.nodes(op, &[&x, &w, &r, &b, &lengths, &h], 2, attributes)
    };
    n.give(&outputs);
}
