//! Which floats are stored in 16 bits ([`Precision::F16`](crate::Precision::F16)): weights of products, and on targets that multiply
//! halves the tensors between them.

use std::collections::HashSet;

use kinglet::{DType, f16};

use crate::graph::{Graph, Node, Op, TensorId};

/// The tensors of a graph that are stored as halves: floats that steps compute, but for inputs and outputs of the model, operands and
/// results of recurrences, running sums and products of two computed tensors, and what only moves elements of these or of constants.
pub(super) fn halves(graph: &Graph) -> HashSet<TensorId> {
    let float = |t: TensorId| graph.tensors[t].dtype == DType::F32;
    let mut whole: HashSet<TensorId> = graph.inputs.iter().chain(&graph.outputs).copied().collect();
    whole.extend((0..graph.tensors.len()).filter(|&t| graph.value(t).is_some()));
    for node in graph.nodes.iter().filter(|n| keeps_floats(graph, n)) {
        whole.extend(node.inputs.iter().flatten().copied().chain(node.outputs()));
    }
    // What is moved and what it becomes are stored alike: the first of a chain may be found out by the last.
    let mut more = true;
    while more {
        more = false;
        let moving = |n: &&Node| n.op.moves_only() || matches!(n.op, Op::Reinterpret);
        for node in graph.nodes.iter().filter(moving) {
            let moved = node.inputs[..node.data_inputs()].iter().flatten().copied();
            let alike: Vec<TensorId> = moved.chain(node.outputs()).filter(|&t| float(t)).collect();
            if alike.iter().any(|t| whole.contains(t)) {
                for t in alike {
                    more |= whole.insert(t);
                }
            }
        }
    }
    let computed = graph.nodes.iter().flat_map(|n| n.outputs());
    computed.filter(|t| float(*t) && !whole.contains(t)).collect()
}

/// Whether a node reads and gives floats of 32 bits alone.
fn keeps_floats(graph: &Graph, node: &Node) -> bool {
    match &node.op {
        Op::MatMul { transpose_a, .. } => node.inputs[1].is_none_or(|b| {
            let constant = graph.value(b).is_some() && graph.tensors[b].shape.len() == 2;
            *transpose_a || !constant || may_be_tied(graph, b)
        }),
        Op::CumSum { .. } => true,
        op => op.recurs(),
    }
}

/// Whether there is a table of look-ups as large as this constant: it may be the same.
fn may_be_tied(graph: &Graph, constant: TensorId) -> bool {
    let gathers = graph.nodes.iter().filter(|n| matches!(n.op, Op::Gather { .. }));
    let len = graph.tensors[constant].len();
    gathers.filter_map(|n| n.inputs[0]).any(|t| graph.value(t).is_some() && graph.tensors[t].len() == len)
}

/// Weights as halves; `None` if one is beyond what a half can be.
pub(super) fn rounded(weights: &[f32]) -> Option<Vec<u8>> {
    let half = |&w: &f32| Some(f16::from_f32(w)).filter(|h| h.is_finite() || !w.is_finite());
    weights.iter().map(half).map(|h| h.map(f16::to_le_bytes)).collect::<Option<Vec<_>>>().map(|w| w.concat())
}
