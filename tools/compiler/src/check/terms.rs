//! What the rounding errors of a node grow with: the magnitudes of what it computes from, and the lengths of its sums.

use crate::array::Array;
use crate::eval;
use crate::graph::{BinaryOp, Graph, Node, Op, ScatterOp, TensorId};

/// The largest finite magnitude.
pub(super) fn largest(a: &Array) -> f64 {
    a.reals().iter().map(|v| v.abs()).filter(|v| *v <= f64::from(f32::MAX)).fold(0.0, f64::max)
}

/// How many terms the sums of a node have, 1 if it adds nothing up.
pub(super) fn length(graph: &Graph, node: &Node) -> f64 {
    let len = |i: usize| node.inputs.get(i).copied().flatten().map_or(1, |t| graph.tensors[t].len());
    let outputs = graph.tensors[node.output].len().max(1);
    let terms = match &node.op {
        Op::Conv { .. } | Op::ConvTranspose { .. } => {
            let of = node.inputs[1].map_or(&[][..], |t| &graph.tensors[t].shape);
            len(1) / of.iter().copied().next().unwrap_or(1).max(1)
        }
        Op::MatMul { transpose_a, .. } => node.inputs[0].map_or(1, |t| {
            let s = &graph.tensors[t].shape;
            s.len().checked_sub(if *transpose_a { 2 } else { 1 }).map_or(1, |d| s[d])
        }),
        Op::Reduce { .. } => len(0) / outputs,
        Op::Scatter { op, .. } if *op != ScatterOp::Replace => 1 + len(2),
        Op::CumSum { axis, .. } => node.inputs[0].map_or(1, |t| graph.tensors[t].shape[*axis]),
        _ => 1,
    };
    terms as f64
}

/// The largest magnitude of what a node computes its result from: the factors of a product multiplied, else the largest of the
/// operands, in reals, and of what these were computed from, which is given beside each.
pub(super) fn terms(graph: &Graph, node: &Node, operands: &[Option<(&Array, f64)>]) -> f64 {
    let magnitude = |(o, t): (&Option<(&Array, f64)>, &Option<TensorId>)| {
        let ((value, before), t) = ((*o)?, (*t)?);
        let own = match &graph.tensors[t].quant {
            Some(quant) => largest(&eval::dequantize(value, quant)),
            None => largest(value),
        };
        Some(own.max(before))
    };
    let mut all = operands.iter().zip(&node.inputs).filter_map(magnitude);
    match &node.op {
        // Mean and largest element are taken away, what is left is of a magnitude of its own.
        Op::Norm { .. } | Op::Softmax { .. } => 0.0,
        Op::Conv { .. } | Op::ConvTranspose { .. } | Op::MatMul { .. } | Op::Binary(BinaryOp::Mul) => {
            let product = all.next().unwrap_or(0.0) * all.next().unwrap_or(0.0);
            all.fold(product, f64::max)
        }
        _ => all.fold(0.0, f64::max),
    }
}
