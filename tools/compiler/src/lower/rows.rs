//! What a row of a tensor is: a row of a picture, a frame, or a row of a matrix.

use std::collections::HashSet;

use kinglet::DType;

use super::{Lowerer, PlanTensor};
use crate::graph::{Graph, Node, Op, TensorId};

/// Trailing axes that make up a row of a tensor of this shape: the last one, or of pictures `[batch, height, width, channels]` two.
fn axes_of_row(shape: &[usize]) -> usize {
    (if shape.len() >= 4 { 2 } else { 1 }).min(shape.len())
}

/// Rows of a tensor whose rows have so many axes, and elements of each. A tensor without elements has no rows either.
fn rows_and_row(shape: &[usize], axes: usize) -> (usize, usize) {
    if shape.contains(&0) {
        return (0, 0);
    }
    let (lead, row) = shape.split_at(shape.len() - axes);
    (lead.iter().product(), row.iter().product())
}

/// Output rows of a tensor, and elements of a row.
pub(crate) fn rows_of(shape: &[usize]) -> (usize, usize) {
    rows_and_row(shape, axes_of_row(shape))
}

impl Lowerer<'_> {
    /// Trailing axes that make up a row of graph tensor `t`.
    pub(super) fn axes_of_row(&self, t: TensorId) -> usize {
        if self.matrices.contains(&t) { 1 } else { axes_of_row(self.shape(t)) }
    }

    /// As [`rows_of`], for graph tensor `t`.
    pub(super) fn rows(&self, t: TensorId) -> (usize, usize) {
        rows_and_row(self.shape(t), self.axes_of_row(t))
    }
}

impl PlanTensor {
    /// A tensor that is no graph tensor's, of real numbers if they are floats.
    pub(super) fn plain(dtype: DType, shape: &[usize], place: super::Place) -> PlanTensor {
        let axes_of_row = axes_of_row(shape);
        PlanTensor { dtype, shape: shape.to_vec(), axes_of_row, scale: 1.0, zero_point: 0, place, advance: 0 }
    }

    /// The same elements in another shape.
    pub(super) fn with_shape(self, shape: &[usize]) -> PlanTensor {
        PlanTensor { shape: shape.to_vec(), axes_of_row: axes_of_row(shape), ..self }
    }

    /// Trailing axes that make up a row where the tensor is taken to have this shape.
    pub(super) fn axes_of_row_as(&self, shape: &[usize]) -> usize {
        if self.shape == shape { self.axes_of_row } else { axes_of_row(shape) }
    }

    /// As [`rows_of`].
    pub(crate) fn rows(&self) -> (usize, usize) {
        rows_and_row(&self.shape, self.axes_of_row)
    }
}

/// The tensors of four axes and more whose rows are those of matrices, not of pictures: factors and results of products of two
/// computed tensors, and what functions of elements and softmax lie between. So can what attention computes between its two products
/// be cut anywhere, and not between its heads alone.
pub(super) fn of_matrices(graph: &Graph) -> HashSet<TensorId> {
    let mut found = HashSet::new();
    let high = |t: TensorId| graph.tensors[t].shape.len() >= 4;
    for node in &graph.nodes {
        let (Op::MatMul { transpose_a, .. }, [Some(a), Some(b), ..]) = (&node.op, &node.inputs[..]) else { continue };
        if graph.value(*b).is_none() && high(node.output) {
            found.insert(node.output);
            found.extend(Some(*a).filter(|&a| !transpose_a && high(a) && graph.value(a).is_none()));
        }
    }
    if found.is_empty() {
        return found;
    }
    // With an operand its function, and with that the other operands.
    for node in &graph.nodes {
        if alike(graph, node).any(|t| found.contains(&t)) {
            found.insert(node.output);
        }
    }
    for node in graph.nodes.iter().rev() {
        if found.contains(&node.output) {
            found.extend(alike(graph, node));
        }
    }
    found
}

/// The computed operands of a node that are cut as its output is, row by row of a matrix.
fn alike<'g>(graph: &'g Graph, node: &'g Node) -> impl Iterator<Item = TensorId> + 'g {
    let shape = &graph.tensors[node.output].shape;
    let along_last = |axis: usize| axis + 1 == shape.len();
    let by_row = match node.op {
        Op::Unary { .. } | Op::Lut { .. } | Op::Cast(_) | Op::Quantize | Op::Dequantize => true,
        Op::Binary(_) | Op::ScaleShift | Op::Where | Op::Reinterpret | Op::Reshape => true,
        Op::Softmax { axis, .. } => along_last(axis),
        _ => false,
    };
    let same = move |t: &TensorId| {
        let own = &graph.tensors[*t].shape;
        let views = matches!(node.op, Op::Reshape | Op::Reinterpret) && own.last() == shape.last();
        by_row && graph.value(*t).is_none() && (own == shape || views) && own.len() >= 4 && shape.len() >= 4
    };
    node.inputs.iter().flatten().copied().filter(same)
}
