//! Integers at the door: an input that is quantised at once, and an output that is dequantised last, become the quantised tensors
//! themselves. Whoever runs the model on a small device then needs no floats for them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::array::Array;
use crate::graph::{Graph, Node, Op, Quant, TensorId};

/// Makes integers of all inputs and outputs that can be such.
pub(super) fn quantise(graph: &mut Graph) {
    for input in graph.inputs.clone() {
        quantise_input(graph, input);
    }
    for i in 0..graph.outputs.len() {
        quantise_output(graph, i);
    }
}

/// Whether a node gives the elements of its only input in another order or shape, whatever they are.
fn rearranges(node: &Node) -> bool {
    matches!(node.op, Op::Reshape | Op::Transpose { .. })
}

/// The nodes that read a tensor; `None` if it leaves the model, too.
fn readers(graph: &Graph, t: TensorId) -> Option<Vec<usize>> {
    let reads = |n: &Node| n.inputs.contains(&Some(t));
    (!graph.outputs.contains(&t)).then(|| (0..graph.nodes.len()).filter(|&i| reads(&graph.nodes[i])).collect())
}

/// An input all of whose readers round it, maybe rearranged, to the same grid.
fn quantise_input(graph: &mut Graph, input: TensorId) {
    // What is rearranged on the way, and where its readers are.
    let mut way = vec![input];
    let readers = loop {
        let last = way[way.len() - 1];
        let Some(found) = readers(graph, last) else { return };
        match found[..] {
            [only] if rearranges(&graph.nodes[only]) => way.push(graph.nodes[only].output),
            _ => break found,
        }
    };
    let rounded = |&i: &usize| matches!(graph.nodes[i].op, Op::Quantize).then(|| graph.nodes[i].output);
    let Some(rounded) = readers.iter().map(rounded).collect::<Option<Vec<TensorId>>>() else { return };
    let grid = |t: TensorId| (graph.tensors[t].dtype, graph.tensors[t].quant.clone());
    let Some(&first) = rounded.first() else { return };
    let (dtype, quant) = grid(first);
    let Some((quant, (scale, zero))) = quant.and_then(|q| q.single().map(|single| (q, single))) else { return };
    let Some((lo, hi)) = dtype.quantized_range() else { return };
    if rounded.iter().any(|&t| grid(t) != (dtype, Some(quant.clone())) || graph.outputs.contains(&t)) {
        return;
    }
    if let Some(value) = graph.defaults.get_mut(&input) {
        // To the bits that a step would give.
        let integer = |&v: &f64| i64::from(kinglet::quant::quantize(v as f32, scale, zero, lo, hi));
        *value = Arc::new(Array::int(dtype, &value.shape, value.reals().iter().map(integer).collect()));
    }
    let last = way[way.len() - 1];
    become_integers(graph, &way, dtype, &quant);
    graph.replace_uses(&rounded.into_iter().map(|t| (t, last)).collect::<HashMap<_, _>>());
    let dead: Vec<bool> = (0..graph.nodes.len()).map(|i| readers.contains(&i)).collect();
    graph.remove_nodes(&dead);
}

/// An output that is dequantised last, but for being rearranged.
fn quantise_output(graph: &mut Graph, i: usize) {
    let (producers, uses) = (graph.producers(), graph.use_counts());
    let mut way = Vec::new();
    let mut t = graph.outputs[i];
    let quantised = loop {
        let Some(node) = producers.get(&t).map(|&n| &graph.nodes[n]) else { return };
        let Some(x) = node.inputs.first().copied().flatten() else { return };
        match node.op {
            Op::Dequantize => break x,
            _ if rearranges(node) && uses[t] == 1 => {
                way.push(t);
                t = x;
            }
            _ => return,
        }
    };
    let tensor = &graph.tensors[quantised];
    let dtype = tensor.dtype;
    let Some(quant) = tensor.quant.clone().filter(|q| q.single().is_some()) else { return };
    // What is rearranged becomes integers, and is made of them; nobody else reads it.
    if let Some(&first) = way.last() {
        if uses[t] != 1 {
            return;
        }
        let node = graph.nodes.iter_mut().find(|n| n.output == first).expect("it was found above");
        node.inputs[0] = Some(quantised);
    } else {
        graph.outputs[i] = quantised;
    }
    become_integers(graph, &way, dtype, &quant);
}

fn become_integers(graph: &mut Graph, tensors: &[TensorId], dtype: kinglet::DType, quant: &Quant) {
    for &t in tensors {
        graph.tensors[t].dtype = dtype;
        graph.tensors[t].quant = Some(quant.clone());
    }
}
