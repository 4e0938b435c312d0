//! Integers at the door: an input that is quantised at once, and an output that is dequantised last, become the quantised tensors
//! themselves. Whoever runs the model on a small device then needs no floats for them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::array::Array;
use crate::graph::{Graph, Node, Op, Quant, TensorId};

/// Makes integers of all inputs and outputs that can be such.
pub(super) fn quantise(graph: &mut Graph) {
    inputs(graph);
    outputs(graph);
}

/// Whether a node gives the elements of its only input in another order or shape, whatever they are.
fn rearranges(node: &Node) -> bool {
    matches!(node.op, Op::Reshape | Op::Transpose { .. })
}

/// Inputs all of whose readers round them, maybe rearranged, to the same grid.
fn inputs(graph: &mut Graph) {
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); graph.tensors.len()];
    for (i, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().flatten().for_each(|&t| readers[t].push(i));
    }
    let leaves: HashSet<TensorId> = graph.outputs.iter().copied().collect();
    let (mut instead, mut dead) = (HashMap::new(), vec![false; graph.nodes.len()]);
    for input in graph.inputs.clone() {
        // What is rearranged on the way; the last is what is rounded.
        let mut way = vec![input];
        let last = loop {
            let last = way[way.len() - 1];
            match readers[last][..] {
                [only] if rearranges(&graph.nodes[only]) => way.push(graph.nodes[only].output),
                _ => break last,
            }
        };
        let rounded = |&i: &usize| matches!(graph.nodes[i].op, Op::Quantize).then(|| graph.nodes[i].output);
        let Some(rounded) = readers[last].iter().map(rounded).collect::<Option<Vec<TensorId>>>() else { continue };
        let grid = |t: TensorId| (graph.tensors[t].dtype, graph.tensors[t].quant.clone());
        let Some(&first) = rounded.first() else { continue };
        let (dtype, quant) = grid(first);
        let Some((quant, (scale, zero))) = quant.and_then(|q| q.single().map(|single| (q, single))) else { continue };
        let Some((lo, hi)) = dtype.quantized_range() else { continue };
        let alike = rounded.iter().all(|&t| grid(t) == (dtype, Some(quant.clone())));
        if !alike || way.iter().chain(&rounded).any(|t| leaves.contains(t)) {
            continue;
        }
        if let Some(value) = graph.defaults.get_mut(&input) {
            // To the bits that a step would give.
            let integer = |&v: &f64| i64::from(kinglet::quant::quantize(v as f32, scale, zero, lo, hi));
            *value = Arc::new(Array::int(dtype, &value.shape, value.reals().iter().map(integer).collect()));
        }
        become_integers(graph, &way, dtype, &quant);
        instead.extend(rounded.into_iter().map(|t| (t, last)));
        readers[last].iter().for_each(|&i| dead[i] = true);
    }
    graph.replace_uses(&instead);
    graph.remove_nodes(&dead);
}

/// Outputs that are dequantised last, but for being rearranged.
fn outputs(graph: &mut Graph) {
    let (producers, uses) = (graph.producers(), graph.use_counts());
    for i in 0..graph.outputs.len() {
        let (mut way, mut t) = (Vec::new(), graph.outputs[i]);
        let quantised = loop {
            let Some(node) = producers.get(&t).map(|&n| &graph.nodes[n]) else { break None };
            let x = node.inputs.first().copied().flatten();
            match node.op {
                Op::Dequantize => break x,
                // What becomes integers must have no other reader.
                _ if rearranges(node) && uses[t] == 1 => way.push(t),
                _ => break None,
            }
            let Some(x) = x else { break None };
            t = x;
        };
        let Some(quantised) = quantised else { continue };
        let tensor = &graph.tensors[quantised];
        let dtype = tensor.dtype;
        let Some(quant) = tensor.quant.clone().filter(|q| q.single().is_some()) else { continue };
        match way.last() {
            // It is made of the integers, and not of their reals.
            Some(first) => graph.nodes[producers[first]].inputs[0] = Some(quantised),
            None => graph.outputs[i] = quantised,
        }
        become_integers(graph, &way, dtype, &quant);
    }
}

fn become_integers(graph: &mut Graph, tensors: &[TensorId], dtype: kinglet::DType, quant: &Quant) {
    for &t in tensors {
        graph.tensors[t].dtype = dtype;
        graph.tensors[t].quant = Some(quant.clone());
    }
}
