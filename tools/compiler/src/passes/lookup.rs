//! A look-up in a quantised table looks up bytes and dequantises what it found.
//!
//! `Gather(DequantizeLinear(table), indices)` is how quantisers leave an embedding. Dequantised as a whole the table would
//! take four times its room.

use kinglet::DType;

use crate::array::Array;
use crate::graph::{BinaryOp, Graph, Node, Op, Quant, Tensor, TensorId};

/// Moves the dequantisation of each constant table behind the look-ups in it.
pub fn look_up_bytes(graph: &mut Graph) {
    let producers = graph.producers();
    let mut changed = false;
    for i in 0..graph.nodes.len() {
        let node = graph.nodes[i].clone();
        let (&Op::Gather { axis }, [Some(table), Some(indices)]) = (&node.op, &node.inputs[..]) else { continue };
        let made = producers.get(table).map(|&p| &graph.nodes[p]);
        let Some(q) = made.filter(|n| matches!(n.op, Op::Dequantize)).and_then(|n| n.inputs[0]) else { continue };
        if graph.tensors[q].value.is_none() {
            continue;
        }
        let quant = graph.tensors[q].quant.clone().expect("a dequantised tensor is quantised");
        let found = Found { node: &node, q, indices: *indices, axis };
        if quant.scales.len() > 1 && quant.axis == axis {
            found.by_row(graph, &quant)
        } else {
            found.whole(graph, quant)
        }
        graph.nodes[i].op = Op::Reshape;
        graph.nodes[i].inputs = vec![Some(graph.nodes.last().expect("just pushed").output)];
        changed = true;
    }
    if changed {
        graph.sort();
        super::cleanup::cleanup(graph);
    }
}

/// A look-up of `indices` along `axis` of the quantised constant `q`.
struct Found<'a> {
    node: &'a Node,
    q: TensorId,
    indices: TensorId,
    axis: usize,
}

impl Found<'_> {
    fn push(&self, graph: &mut Graph, op: Op, inputs: Vec<TensorId>, dtype: DType, shape: Vec<usize>) -> TensorId {
        let name = format!("{}:{}", graph.tensors[self.node.output].name, graph.tensors.len());
        let output = graph.add_tensor(Tensor { name, dtype, shape, quant: None, value: None });
        let inputs = inputs.into_iter().map(Some).collect();
        graph.nodes.push(Node::new(op, inputs, output, self.node.source.clone()));
        output
    }

    /// Scales that are the same for every position of the axis go with what was found.
    fn whole(&self, graph: &mut Graph, quant: Quant) {
        let shape = graph.tensors[self.node.output].shape.clone();
        let more = graph.tensors[self.indices].shape.len();
        let axis = if quant.axis > self.axis { quant.axis + more - 1 } else { quant.axis };
        let dtype = graph.tensors[self.q].dtype;
        let bytes = self.push(graph, Op::Gather { axis: self.axis }, vec![self.q, self.indices], dtype, shape.clone());
        graph.tensors[bytes].quant = Some(Quant { axis, ..quant });
        self.push(graph, Op::Dequantize, vec![bytes], DType::F32, shape);
    }

    /// Scales along the axis are looked up, too.
    fn by_row(&self, graph: &mut Graph, quant: &Quant) {
        let shape = graph.tensors[self.node.output].shape.clone();
        let plain = graph.add_tensor(Tensor { quant: None, ..graph.tensors[self.q].clone() });
        let dtype = graph.tensors[plain].dtype;
        let gather = Op::Gather { axis: self.axis };
        let bytes = self.push(graph, gather.clone(), vec![plain, self.indices], dtype, shape.clone());
        let mut v = self.push(graph, Op::Cast(DType::F32), vec![bytes], DType::F32, shape.clone());
        // Parameters stand along the axis of the table, everything else being one.
        let rank = graph.tensors[self.q].shape.len();
        let along: Vec<usize> = (0..rank).map(|d| if d == self.axis { quant.scales.len() } else { 1 }).collect();
        let found: Vec<usize> = {
            let indices = &graph.tensors[self.indices].shape;
            along[..self.axis].iter().chain(indices).chain(&along[self.axis + 1..]).copied().collect()
        };
        let zeros: Vec<f64> = quant.zero_points.iter().map(|&z| z.into()).collect();
        let scales: Vec<f64> = quant.scales.iter().map(|&s| s.into()).collect();
        for (op, values) in [(BinaryOp::Sub, zeros), (BinaryOp::Mul, scales)] {
            if op == BinaryOp::Sub && values.iter().all(|&z| z == 0.0) {
                continue;
            }
            let name = format!("{}:{op:?}", graph.tensors[self.q].name);
            let parameter = graph.add_constant(name, Array::f32(&along, values));
            let of_row = self.push(graph, gather.clone(), vec![parameter, self.indices], DType::F32, found.clone());
            v = self.push(graph, Op::Binary(op), vec![v, of_row], DType::F32, shape.clone());
        }
    }
}
