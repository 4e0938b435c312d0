//! A Legendre memory over a whole sequence as the convolution with its impulse response: `m_t = Σ_k A^k·B·u_{t−k}`.
//!
//! Over fewer frames than the memory has coefficients that takes fewer products (`frames · order` instead of `order²` a frame) and
//! smaller weights, and its frames do not wait for each other. A memory that goes on from an earlier one, or leaves the model so that
//! a later run may go on from it, stays a recurrence: cut in two, a sequence gives the same bits.

use super::axes::add_f32;
use crate::array::Array;
use crate::graph::{Graph, Layout, Node, Op, Post, TensorId, Window};
use crate::legendre::DelaySystem;

/// Fewest frames for which it is worth a convolution.
const FEWEST: usize = 32;

/// Replaces the memories for which it pays.
pub fn convolve(graph: &mut Graph) {
    for i in 0..graph.nodes.len() {
        if let Some(response) = response(graph, &graph.nodes[i]) {
            write(graph, i, &response);
        }
    }
    graph.sort();
}

/// The coefficients after an impulse, frame by frame, of a memory that is to be a convolution.
fn response(graph: &Graph, node: &Node) -> Option<Vec<Vec<f64>>> {
    let ([Some(u), Some(a), Some(b)] | [Some(u), Some(a), Some(b), None]) = node.inputs[..] else { return None };
    let (&[_, frames, 1], Op::LegendreMemory) = (&graph.tensors[u].shape[..], &node.op) else { return None };
    let (a, b) = (graph.value(a)?, graph.value(b)?);
    let order = b.len();
    if leaves(graph, node.output)
        || frames < FEWEST
        || frames > order
        || !graph.budget.take((frames * order * order) as u64, 0)
    {
        return None;
    }
    let system = DelaySystem { a: a.reals().into_owned(), b: b.reals().into_owned() };
    let unit: Vec<f64> = (0..frames).map(|t| f64::from(u8::from(t == 0))).collect();
    let response = system.frames(&unit);
    response.iter().flatten().all(|v| (*v as f32).is_finite()).then_some(response)
}

/// Whether a tensor is an output of the graph, as it is or rearranged.
fn leaves(graph: &Graph, t: TensorId) -> bool {
    let moved = |n: &&Node| n.op.moves_only() && n.inputs.contains(&Some(t));
    graph.outputs.contains(&t) || graph.nodes.iter().filter(moved).any(|n| leaves(graph, n.output))
}

fn write(graph: &mut Graph, i: usize, response: &[Vec<f64>]) {
    let node = graph.nodes[i].clone();
    let u = node.inputs[0].expect("it is there");
    let (batch, frames, order) = (graph.tensors[u].shape[0], response.len(), response[0].len());
    let name = graph.tensors[node.output].name.clone();
    // The newest frame is the last tap.
    let taps = (0..order).flat_map(|k| response.iter().rev().map(move |frame| frame[k])).collect();
    let weights = graph.add_constant(format!("{name}:response"), Array::f32(&[order, 1, frames], taps));
    let series = graph.add_like(u, &[batch, 1, frames], ":series");
    let rows = add_f32(graph, format!("{name}:rows"), &[batch, order, frames]);
    let turned = add_f32(graph, format!("{name}:turned"), &[batch, frames, order]);
    let window = Window {
        kernel: vec![frames],
        strides: vec![1],
        dilations: vec![1],
        pads_begin: vec![frames as i64 - 1],
        pads_end: vec![0],
    };
    let conv = Op::Conv { window, groups: 1, layout: Layout::ChannelsFirst, post: Post::default() };
    let convolution = Node::new(conv, vec![Some(series), Some(weights)], rows, node.source.clone());
    graph.nodes[i] = Node { roundings: node.roundings, ..convolution };
    let mut push = |op, input, output| graph.nodes.push(Node::new(op, vec![Some(input)], output, Vec::new()));
    push(Op::Reshape, u, series);
    push(Op::Transpose { perm: vec![0, 2, 1] }, rows, turned);
    push(Op::Reshape, turned, node.output);
}
