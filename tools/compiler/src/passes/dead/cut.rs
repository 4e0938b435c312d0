//! Nodes and constants without the channels that are dropped.

use std::sync::Arc;

use super::constants::{Known, bias_tensor, biases};
use super::fate::Fates;
use super::flow::{Part, Way, channels, is_elementwise};
use super::product::Product;
use crate::graph::{Graph, Op, Post, TensorId};

/// A constant with these positions of an axis of another one.
fn cut(graph: &mut Graph, t: TensorId, axis: usize, positions: &[usize]) -> TensorId {
    let tensor = &graph.tensors[t];
    let value = tensor.value.as_ref().expect("it is constant").select(axis, positions);
    let mut quant = tensor.quant.clone();
    if let Some(q) = quant.as_mut().filter(|q| q.scales.len() > 1 && q.axis == axis) {
        q.scales = positions.iter().map(|&p| q.scales[p]).collect();
        q.zero_points = positions.iter().map(|&p| q.zero_points[p]).collect();
    }
    let new = graph.add_like(t, &value.shape.clone(), ":left");
    (graph.tensors[new].quant, graph.tensors[new].value) = (quant, Some(Arc::new(value)));
    new
}

/// Cuts the constants of a node that channels go through; `left` are those of its output.
pub(super) fn through(graph: &mut Graph, fates: &mut Fates, i: usize, parts: &[Part]) {
    let y = graph.nodes[i].output;
    let of_y = channels(graph, y);
    if let (Op::Slice { starts, .. }, &[Part { x, way: Way::From(first), .. }]) = (&mut graph.nodes[i].op, parts) {
        let before = (0..first).filter(|&c| fates.lives(x, c)).count();
        *starts.last_mut().expect("a slice has an axis") = before;
    }
    let Some(left) = fates.left(y).filter(|_| is_elementwise(&graph.nodes[i].op)) else { return };
    for k in 0..graph.nodes[i].inputs.len() {
        let Some(t) = graph.nodes[i].inputs[k] else { continue };
        if graph.tensors[t].value.is_some() && channels(graph, t) == of_y {
            let axis = graph.tensors[t].shape.len() - 1;
            graph.nodes[i].inputs[k] = Some(cut(graph, t, axis, &left));
        }
    }
}

/// Cuts weights, bias and operands of a product, and adds the part of dropped constant channels to the bias; `offsets` are
/// theirs. Whether anything was cut.
pub(super) fn product(graph: &mut Graph, fates: &mut Fates, i: usize, p: &Product, offsets: &Known) -> bool {
    let y = graph.nodes[i].output;
    let (left_x, left_y) = (fates.left(p.x), fates.left(y));
    if left_x.is_none() && left_y.is_none() {
        return false;
    }
    let all: Vec<usize> = (0..p.outputs).collect();
    let outputs = left_y.as_ref().unwrap_or(&all);
    bias(graph, fates, i, p, offsets, outputs);
    let mut w = p.w;
    if let (Some(axis), Some(left)) = (p.output_axis(), &left_y) {
        w = cut(graph, w, axis, left);
    }
    if let (Some(axis), Some(left)) = (p.input_axis(), &left_x) {
        w = cut(graph, w, axis, left);
    }
    graph.nodes[i].inputs[1] = Some(w);
    if let Op::Conv { groups, .. } | Op::ConvTranspose { groups, .. } = &mut graph.nodes[i].op
        && *groups > 1
    {
        // Groups go as a whole.
        *groups = outputs.len() / p.group_out();
    }
    for k in Post::OPERANDS..graph.nodes[i].inputs.len() {
        let Some(t) = graph.nodes[i].inputs[k] else { continue };
        let along = graph.tensors[t].value.is_some() && graph.tensors[t].len() == p.outputs && p.outputs > 1;
        if let Some(left) = left_y.as_ref().filter(|_| along) {
            let axis = graph.tensors[t].shape.len() - 1;
            graph.nodes[i].inputs[k] = Some(cut(graph, t, axis, left));
        }
    }
    true
}

fn bias(graph: &mut Graph, fates: &mut Fates, i: usize, p: &Product, offsets: &Known, outputs: &[usize]) {
    // Only what is dropped is added; of a group everything is, or nothing.
    let dropped =
        |(c, &offset): (usize, &Option<i64>)| offset.filter(|&o| o != 0 && p.groups == 1 && !fates.lives(p.x, c));
    let offsets: Known = offsets.iter().enumerate().map(dropped).collect();
    let new = if offsets.iter().any(Option::is_some) {
        let sums = biases(graph, p, &offsets).expect("a part of what fits does");
        let tensor = bias_tensor(graph, p, outputs, outputs.iter().map(|&o| sums[o]).collect());
        Some(graph.add_tensor(tensor))
    } else {
        p.bias.filter(|_| outputs.len() < p.outputs).map(|b| cut(graph, b, 0, outputs))
    };
    if let Some(new) = new {
        let inputs = &mut graph.nodes[i].inputs;
        inputs.resize(inputs.len().max(3), None);
        inputs[2] = Some(new);
    }
}
