//! What the check of a run must know of operators: which are inexact, keep bounds, or make a small difference a large one.

use kinglet::DType;

use super::bounds::rounds;
use crate::graph::{BinaryOp, Graph, Node, Op, PoolKind, ReduceOp, SampleMode, ScatterOp, TensorId, UnaryOp};

/// Whether an operator's f32 result comes from a long sum, or from a function with an error of its own.
pub(super) fn is_rough(op: &Op) -> bool {
    match op {
        Op::Unary { op, .. } => !matches!(
            op,
            UnaryOp::Identity
                | UnaryOp::Neg
                | UnaryOp::Abs
                | UnaryOp::Relu
                | UnaryOp::LeakyRelu
                | UnaryOp::Clip
                | UnaryOp::HardSigmoid
                | UnaryOp::HardSwish
                | UnaryOp::Affine
        ),
        Op::Binary(op) => matches!(op, BinaryOp::Pow),
        Op::Pool { kind, .. } => *kind != PoolKind::Max,
        Op::Reduce { op, .. } => !matches!(op, ReduceOp::Max | ReduceOp::Min),
        Op::Softmax { .. } | Op::Norm { .. } | Op::CumSum { .. } => true,
        Op::GridSample { .. } | Op::RoiAlign { .. } => true,
        Op::Scatter { op, .. } => matches!(op, ScatterOp::Add | ScatterOp::Mul),
        op => op.recurs(),
    }
}

/// Whether each element of an operator's result depends on one element of each operand, or only ever grows with all of them:
/// then the bounds of operands give those of the result.
pub(super) fn keeps_bounds(op: &Op) -> bool {
    match op {
        Op::Unary { .. } | Op::Binary(_) | Op::ScaleShift | Op::Where | Op::Cast(_) => true,
        Op::Quantize | Op::Dequantize | Op::Reinterpret | Op::Lut { .. } => true,
        Op::Pool { kind, .. } => *kind == PoolKind::Max,
        Op::Reduce { op, .. } => matches!(op, ReduceOp::Max | ReduceOp::Min),
        op => op.moves_only(),
    }
}

/// Whether every element of a node's result is an element of an operand as it is stored.
pub(super) fn moves_as_it_is(graph: &Graph, node: &Node) -> bool {
    let output = &graph.tensors[node.output];
    let alike = |t: &TensorId| {
        let t = &graph.tensors[*t];
        t.dtype == output.dtype && t.quant == output.quant
    };
    let moves = node.op.moves_only() && !matches!(node.op, Op::Pad { .. });
    (moves || node.op == Op::Reinterpret) && node.inputs[..node.data_inputs()].iter().flatten().all(alike)
}

/// Whether the smallest difference of a real operand may make a large one of the result.
pub(super) fn jumps(graph: &Graph, node: &Node) -> bool {
    let real = |t: &TensorId| graph.tensors[*t].dtype == DType::F32 || graph.tensors[*t].quant.is_some();
    if node.op.moves_only() || !node.inputs.iter().flatten().any(real) {
        return false;
    }
    match &node.op {
        Op::Unary { op, .. } => {
            matches!(op, UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Sign | UnaryOp::Not)
        }
        Op::ArgMax { .. } | Op::TopK { .. } => true,
        Op::GridSample { mode, .. } => *mode == SampleMode::Nearest,
        // Comparisons, conversions to integers.
        _ => {
            let output = &graph.tensors[node.output];
            output.dtype != DType::F32 && output.quant.is_none()
        }
    }
}

/// Whether anything that the graph computes is rounded, or jumps.
pub(super) fn has_roundings(graph: &Graph) -> bool {
    graph.nodes.iter().any(|node| match &node.op {
        Op::Loop(body) => has_roundings(&body.graph),
        _ => rounds(graph, node) || jumps(graph, node),
    })
}
