//! What a node has no result for.

use crate::array::{Array, broadcast};
use crate::eval::walk;
use crate::graph::{BinaryOp, Graph, Node, Op, TensorId};
use kinglet::DType;

/// Says what of these operands the node has no result for: an index outside its axis, an integer divided by 0. `None` stands
/// for an operand that is absent or not known, of which nothing is said.
///
/// [`outputs`](super::outputs) gives what the runtime's steps give there: NaN or 0 for what the index should have selected, 0
/// for the quotient. The runtime reports it besides; a constant operand is refused when the model is converted.
pub fn fault(graph: &Graph, node: &Node, inputs: &[Option<&Array>]) -> Option<String> {
    let tensor = |i: usize| node.inputs.get(i).copied().flatten().map(|t: TensorId| &graph.tensors[t]);
    let known = |i: usize| inputs.get(i).copied().flatten();
    match node.op {
        Op::Gather { axis } => {
            let n = tensor(0)?.shape[axis] as i64;
            let bad = known(1)?.ints().iter().copied().find(|i| !(-n..n).contains(i))?;
            Some(format!("index {bad} of an axis of {n}"))
        }
        Op::Scatter { axis, .. } => {
            let (shape, index) = (&tensor(0)?.shape, known(2)?);
            let depth = index.shape.last().copied().unwrap_or(1).max(1);
            let extent = |k: usize| shape[axis.unwrap_or(k % depth)] as i64;
            let ints = index.ints();
            let (k, bad) = ints.iter().enumerate().find(|(k, i)| !(-extent(*k)..extent(*k)).contains(*i))?;
            Some(format!("index {bad} of an axis of {}", extent(k)))
        }
        Op::RoiAlign { .. } => {
            let n = tensor(0)?.shape[0] as i64;
            let bad = known(2)?.ints().iter().copied().find(|i| !(0..n).contains(i))?;
            Some(format!("picture {bad} of {n}"))
        }
        Op::Binary(op @ (BinaryOp::Div | BinaryOp::Mod | BinaryOp::Fmod | BinaryOp::Pow)) => {
            let integer = |t: &crate::graph::Tensor| t.quant.is_none() && t.dtype != DType::F32;
            if !(integer(tensor(0)?) && integer(tensor(1)?) && integer(&graph.tensors[node.output])) {
                return None;
            }
            let b = known(1)?;
            if op != BinaryOp::Pow {
                return b.ints().contains(&0).then(|| "it divides integers by 0".to_string());
            }
            let a = known(0)?;
            let shape = broadcast(&a.shape, &b.shape)?;
            let (sa, sb) = (walk::broadcast(&a.shape, &shape), walk::broadcast(&b.shape, &shape));
            let (a, b, mut found) = (a.ints(), b.ints(), false);
            walk::walk(&shape, [&sa, &sb], [0, 0], |[i, j]| found |= a[i] == 0 && b[j] < 0);
            found.then(|| "it takes the integer 0 to a negative power".to_string())
        }
        _ => None,
    }
}
