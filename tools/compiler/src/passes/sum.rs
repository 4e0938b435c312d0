//! Products that only sum.
//!
//! A softmax over an axis of one element is 1 whatever the element is, unless it is no number: of bytes there is none such. The
//! channel attention of DWFormer, as released, weighs the pixels of a picture by one, so that a product with a row of ones sums
//! over the picture. As a product it is a vector of as many ones as there are pixels, with sums beyond 32 bits.

use kinglet::DType;

use super::util::Links;
use crate::array::Array;
use crate::graph::{BinaryOp, Graph, Node, Op, Post, ReduceOp, TensorId};

/// Makes products of a row of equal elements, which are known, sums.
pub fn sum(graph: &mut Graph) {
    let links = Links::new(graph);
    let mut added = Vec::new();
    for i in 0..graph.nodes.len() {
        let Some((axis, factor, x)) = equal_row(graph, &links, i) else { continue };
        let node = graph.nodes[i].clone();
        let op = Op::Reduce { op: ReduceOp::Sum, axes: vec![axis], keep: true };
        let shape = graph.tensors[node.output].shape.clone();
        let total = graph.add_like(node.output, &shape, ":sum");
        (graph.tensors[total].quant, graph.tensors[total].dtype) = (None, DType::F32);
        let by =
            graph.add_constant(format!("{}:factor", graph.tensors[node.output].name), Array::f32(&[1], vec![factor]));
        graph.nodes[i] = Node::new(op, vec![Some(x)], total, node.source.clone());
        added.push(Node::new(Op::Binary(BinaryOp::Mul), vec![Some(total), Some(by)], node.output, node.source));
    }
    if added.is_empty() {
        return;
    }
    graph.nodes.extend(added);
    graph.sort();
    super::cleanup::cleanup(graph);
}

/// The real that all elements of a tensor stand for, if they are equal and that is known.
fn equal(graph: &Graph, links: &Links, t: TensorId) -> Option<f32> {
    let tensor = &graph.tensors[t];
    if let Some(value) = &tensor.value {
        let equal = value.is_uniform() && !value.is_empty() && tensor.dtype == DType::F32;
        return equal.then(|| value.reals()[0] as f32);
    }
    let node = links.node(graph, t)?;
    let x = node.inputs[0]?;
    match node.op {
        Op::Dequantize => {
            let quant = graph.tensors[x].quant.as_ref()?;
            let (scale, zero) = quant.single()?;
            let (lo, hi) = graph.tensors[x].dtype.quantized_range()?;
            let real = equal(graph, links, x)?;
            Some(kinglet::quant::dequantize(kinglet::quant::quantize(real, scale, zero, lo, hi), scale, zero))
        }
        Op::Quantize | Op::Reshape => equal(graph, links, x),
        Op::Softmax { axis, log } if graph.tensors[x].shape[axis] == 1 && graph.tensors[x].quant.is_some() => {
            Some(if log { 0.0 } else { 1.0 })
        }
        _ => None,
    }
}

/// The axis that a product of a row of equal elements with a computed matrix sums over, that element, and the matrix: as it
/// is quantised, if it is.
fn equal_row(graph: &Graph, links: &Links, i: usize) -> Option<(usize, f64, TensorId)> {
    let node = &graph.nodes[i];
    let Op::MatMul { transpose_a: false, transpose_b, post } = &node.op else { return None };
    let (a, b) = (node.inputs[0]?, node.inputs[1]?);
    let (row, matrix) = (&graph.tensors[a], &graph.tensors[b]);
    let plain = *post == Post::default() && node.inputs.len() == 2 && row.quant.is_none() && row.len() > 1;
    let value = equal(graph, links, a).filter(|_| plain)?;
    let rank = matrix.shape.len();
    // One row, and matrices one for one.
    let one = row.shape.iter().rev().skip(1).all(|&n| n == 1) && graph.tensors[node.output].shape.len() == rank;
    let axis = rank.checked_sub(if *transpose_b { 1 } else { 2 })?;
    if !one || *transpose_b || rank < 2 || matrix.value.is_some() {
        return None;
    }
    let quantised = links.node(graph, b).filter(|n| matches!(n.op, Op::Dequantize)).and_then(|n| n.inputs[0]);
    let quantised = quantised.filter(|&q| graph.tensors[q].quant.as_ref().is_some_and(|q| q.single().is_some()));
    Some((axis, value.into(), quantised.unwrap_or(b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Quant, Tensor};

    #[test]
    fn a_softmax_of_one_byte_weighs_by_one() {
        let mut g = Graph::default();
        let mut tensor = |name: &str, dtype: DType, shape: &[usize], scale: Option<f32>| {
            let quant = scale.map(|s| Quant::per_tensor(s, -128));
            g.tensors.push(Tensor { name: name.into(), dtype, shape: shape.to_vec(), quant, value: None });
            g.tensors.len() - 1
        };
        let x = tensor("scores", DType::I8, &[1, 1, 6], Some(0.1));
        let s = tensor("weights", DType::I8, &[1, 1, 6], Some(1.0 / 255.0));
        let w = tensor("weights as reals", DType::F32, &[1, 1, 6], None);
        let q = tensor("pixels", DType::I8, &[1, 6, 4], Some(0.5));
        let p = tensor("pixels as reals", DType::F32, &[1, 6, 4], None);
        let y = tensor("y", DType::F32, &[1, 1, 4], None);
        let mut node = |op: Op, from: &[TensorId], to: TensorId| {
            g.nodes.push(Node::new(op, from.iter().map(|&t| Some(t)).collect(), to, vec![]));
        };
        node(Op::Softmax { axis: 1, log: false }, &[x], s);
        node(Op::Dequantize, &[s], w);
        node(Op::Dequantize, &[q], p);
        let product = Op::MatMul { transpose_a: false, transpose_b: false, post: Post::default() };
        node(product, &[w, p], y);
        (g.inputs, g.outputs, g.output_names) = (vec![x, q], vec![y], vec!["y".into()]);
        sum(&mut g);
        let ops: Vec<_> = g.nodes.iter().map(|n| n.op.name()).collect();
        assert_eq!(ops, ["ReduceSum", "Mul"]);
        assert_eq!(g.nodes[0].inputs, [Some(q)]);
        let factor = g.value(g.nodes[1].inputs[1].expect("a factor")).expect("constant").reals()[0];
        assert!((factor - 1.0).abs() < 1e-6, "{factor}");
    }
}
