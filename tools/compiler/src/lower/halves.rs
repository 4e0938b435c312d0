//! Which floats are stored in 16 bits ([`Precision::F16`](crate::Precision::F16)): weights of products, and on targets that multiply
//! halves the tensors between them.

use std::collections::HashSet;

use kinglet::{DType, f16};

use crate::graph::{Graph, Node, Op, ScatterOp, TensorId};

/// The tensors of a graph that are stored as halves: floats that steps compute, but for inputs and outputs of the model, operands and
/// results of recurrences, running sums, joined updates and products of two computed tensors, and what only moves elements of these or of constants.
pub(super) fn halves(graph: &Graph) -> HashSet<TensorId> {
    let float = |t: TensorId| graph.tensors[t].dtype == DType::F32;
    let mut alike = Alike((0..graph.tensors.len()).collect());
    // What is moved and what it becomes are stored alike.
    let moving = |n: &&Node| n.op.moves_only() || matches!(n.op, Op::Reinterpret);
    for node in graph.nodes.iter().filter(moving) {
        let moved = node.inputs[..node.data_inputs()].iter().flatten().copied();
        moved.filter(|&t| float(t)).for_each(|t| alike.join(t, node.output));
    }
    let tables = tables(graph);
    let mut whole: HashSet<TensorId> = HashSet::new();
    let mut keep = |t: TensorId| _ = whole.insert(alike.of(t));
    graph.inputs.iter().chain(&graph.outputs).for_each(|&t| keep(t));
    (0..graph.tensors.len()).filter(|&t| graph.value(t).is_some()).for_each(&mut keep);
    for node in graph.nodes.iter().filter(|n| keeps_floats(graph, &tables, n)) {
        node.inputs.iter().flatten().copied().chain(node.outputs()).for_each(&mut keep);
    }
    let computed = graph.nodes.iter().flat_map(|n| n.outputs());
    computed.filter(|&t| float(t) && !whole.contains(&alike.of(t))).collect()
}

/// Sets of tensors, each with a member that stands for it.
struct Alike(Vec<TensorId>);

impl Alike {
    /// The member that stands for the set of a tensor.
    fn of(&mut self, mut t: TensorId) -> TensorId {
        while self.0[t] != t {
            // Half of the way next time.
            self.0[t] = self.0[self.0[t]];
            t = self.0[t];
        }
        t
    }

    /// Makes one set of those of two tensors.
    fn join(&mut self, a: TensorId, b: TensorId) {
        let (a, b) = (self.of(a), self.of(b));
        self.0[b] = a;
    }
}

/// Whether a node reads and gives floats of 32 bits alone.
fn keeps_floats(graph: &Graph, tables: &HashSet<usize>, node: &Node) -> bool {
    match &node.op {
        Op::MatMul { transpose_a, .. } => node.inputs[1].is_none_or(|b| {
            let constant = graph.value(b).is_some() && graph.tensors[b].shape.len() == 2;
            // It may be a table itself, and is no packed weight then.
            *transpose_a || !constant || tables.contains(&graph.tensors[b].len())
        }),
        // What updates join would be rounded each time.
        Op::Scatter { op, .. } => *op != ScatterOp::Replace,
        // Places far from 0 would be rounded to whole pixels.
        Op::GridSample { .. } | Op::RoiAlign { .. } | Op::NonMaxSuppression { .. } => true,
        Op::CumSum { .. } => true,
        op => op.recurs(),
    }
}

/// How many elements the tables of look-ups have.
fn tables(graph: &Graph) -> HashSet<usize> {
    let gathers = graph.nodes.iter().filter(|n| matches!(n.op, Op::Gather { .. }));
    gathers.filter_map(|n| n.inputs[0]).filter(|&t| graph.value(t).is_some()).map(|t| graph.tensors[t].len()).collect()
}

/// Weights as halves; `None` if one is beyond what a half can be.
pub(super) fn rounded(weights: &[f32]) -> Option<Vec<u8>> {
    let half = |&w: &f32| Some(f16::from_f32(w)).filter(|h| h.is_finite() || !w.is_finite());
    weights.iter().map(half).map(|h| h.map(f16::to_le_bytes)).collect::<Option<Vec<_>>>().map(|w| w.concat())
}
