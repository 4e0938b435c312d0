//! A product of floats reads quantised weights as bytes.
//!
//! Files whose weights alone are quantised have `Conv(x, DequantizeLinear(w))` with a float x. Dequantised, the weights would take
//! four times their room in the plan; the step makes reals of them as it multiplies.

use kinglet::DType;

use crate::graph::{Graph, Op, TensorId};

/// Gives products of floats the quantised constants that their weights are dequantised from.
pub fn read_bytes(graph: &mut Graph) {
    let producers = graph.producers();
    for i in 0..graph.nodes.len() {
        let node = &graph.nodes[i];
        let axis = match &node.op {
            Op::Conv { .. } => 0,
            Op::ConvTranspose { groups: 1, .. } => 1,
            Op::MatMul { transpose_a: false, transpose_b, .. } => usize::from(!transpose_b),
            _ => continue,
        };
        let (Some(x), Some(w)) = (node.inputs[0], node.inputs[1]) else { continue };
        let float = |t: TensorId| graph.tensors[t].dtype == DType::F32 && graph.tensors[t].quant.is_none();
        let made = producers.get(&w).map(|&p| &graph.nodes[p]).filter(|n| matches!(n.op, Op::Dequantize));
        let Some(q) = made.and_then(|n| n.inputs[0]).filter(|_| float(x) && float(node.output)) else { continue };
        let single = !matches!(node.op, Op::MatMul { .. }) || graph.tensors[q].shape.len() == 2;
        if single && graph.tensors[x].value.is_none() && centred(graph, q, axis) {
            graph.nodes[i].inputs[1] = Some(q);
        }
    }
    super::cleanup::cleanup(graph);
}

/// Whether a tensor is a constant of bytes whose scales run along `axis` or are one, and whose integers less their zero
/// points are bytes.
fn centred(graph: &Graph, q: TensorId, axis: usize) -> bool {
    let tensor = &graph.tensors[q];
    let (Some(value), Some(quant)) = (&tensor.value, &tensor.quant) else { return false };
    let bytes = matches!(tensor.dtype, DType::I8 | DType::U8) && tensor.shape.len() >= 2;
    if !bytes || (quant.scales.len() > 1 && quant.axis != axis) {
        return false;
    }
    let run: usize = tensor.shape[axis + 1..].iter().product();
    let zero = |i: usize| i64::from(quant.zero_points[i / run.max(1) % quant.zero_points.len()]);
    value.ints().iter().enumerate().all(|(i, &v)| i8::try_from(v - zero(i)).is_ok())
}
