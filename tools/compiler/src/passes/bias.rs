//! A constant added to each channel of a product becomes the product's bias.

use std::sync::Arc;

use super::util::{Links, both_orders, merged_sources};
use crate::array::Array;
use crate::graph::{BinaryOp, Graph, Node, Op, TensorId};

/// Merges `Add` of a per-channel constant (quantised or not) into the convolution or matrix product before it.
pub fn merge(graph: &mut Graph) {
    let links = Links::new(graph);
    let mut dead = vec![false; graph.nodes.len()];
    for i in 0..graph.nodes.len() {
        if graph.nodes[i].op != Op::Binary(BinaryOp::Add) {
            continue;
        }
        for (x, b) in both_orders(&graph.nodes[i]) {
            let Some(p) = links.index(x).filter(|&p| links.single_use(x) && !dead[p]) else { continue };
            let Some(channels) = channels_of_product(graph, &links, &graph.nodes[p]) else { continue };
            if graph.tensors[graph.nodes[i].output].shape != graph.tensors[x].shape {
                continue;
            }
            let Some(b) = as_bias(graph, &links, b, channels, x) else { continue };
            let (b, dequantize) = b;
            let add = &graph.nodes[i];
            let source = merged_sources([&graph.nodes[p], add]);
            let (op, mut inputs, output) = (graph.nodes[p].op.clone(), graph.nodes[p].inputs.clone(), add.output);
            inputs.resize(2, None);
            inputs.push(Some(b));
            dead[p] = true;
            graph.nodes[i] = Node::new(op, inputs, output, source);
            if let Some(node) = dequantize {
                graph.nodes.push(node);
                dead.push(false);
            }
            break;
        }
    }
    graph.remove_nodes(&dead);
    graph.sort();
}

/// Number and axis of the output channels of a product with constant weights and no bias yet.
fn channels_of_product(graph: &Graph, links: &Links, node: &Node) -> Option<(usize, usize)> {
    if node.inputs.get(2).is_some_and(|b| b.is_some()) {
        return None;
    }
    let w = node.inputs.get(1).copied().flatten()?;
    let dequantized = links.node(graph, w).is_some_and(|n| {
        matches!(n.op, Op::Dequantize) && n.inputs[0].is_some_and(|t| graph.tensors[t].value.is_some())
    });
    if graph.tensors[w].value.is_none() && !dequantized {
        return None;
    }
    let shape = &graph.tensors[node.output].shape;
    let axis = match node.op {
        Op::Conv { layout, .. } | Op::ConvTranspose { layout, .. } => layout.channel_axis(shape.len()),
        Op::MatMul { .. } if graph.tensors[w].shape.len() == 2 => shape.len() - 1,
        _ => return None,
    };
    Some((shape[axis], axis))
}

/// `b` as a bias of one element a channel, with the node that dequantises it if it is quantised.
fn as_bias(
    graph: &mut Graph,
    links: &Links,
    b: TensorId,
    (channels, axis): (usize, usize),
    x: TensorId,
) -> Option<(TensorId, Option<Node>)> {
    let rank = graph.tensors[x].shape.len();
    let shape = graph.tensors[b].shape.clone();
    let lead = rank.checked_sub(shape.len())?;
    let runs_along = shape.iter().enumerate().all(|(d, &n)| n == if d + lead == axis { channels } else { 1 });
    if !runs_along || shape.iter().product::<usize>() != channels {
        return None;
    }
    let flat = |graph: &mut Graph, t: TensorId| {
        let mut tensor = graph.tensors[t].clone();
        if tensor.quant.as_ref().is_some_and(|q| q.scales.len() > 1) {
            tensor.quant = tensor.quant.map(|q| crate::graph::Quant { axis: 0, ..q });
        }
        tensor.value = tensor.value.map(|v| Arc::new(Array::clone(&v).reshaped(&[channels])));
        tensor.shape = vec![channels];
        graph.add_tensor(tensor)
    };
    if graph.tensors[b].value.is_some() {
        return Some((flat(graph, b), None));
    }
    let node = links.node(graph, b).filter(|n| matches!(n.op, Op::Dequantize))?.clone();
    let q = node.inputs[0].filter(|&t| graph.tensors[t].value.is_some())?;
    let q = flat(graph, q);
    let output = graph.add_like(b, &[channels], ":bias");
    Some((output, Some(Node::new(Op::Dequantize, vec![Some(q)], output, node.source))))
}
