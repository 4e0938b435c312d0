//! Inputs that come, and outputs that go, row by row.
//!
//! A picture that the file has channels first is transposed to channels last before anything else is done with its rows, and back
//! at the end. Whoever gives rows has them with the channels of a pixel side by side, as cameras and decoders do: the input becomes
//! what the transposition would make of it.

use crate::graph::{Graph, Op, TensorId, moves_nothing};

/// Channels first to channels last.
const INWARDS: [usize; 4] = [0, 2, 3, 1];
/// Channels last to channels first.
const OUTWARDS: [usize; 4] = [0, 3, 1, 2];

/// Makes inputs and outputs of these names channels last, if that is all that is done with them first, or last.
pub fn by_rows(graph: &mut Graph, names: &[String]) {
    for i in 0..graph.inputs.len() {
        let t = graph.inputs[i];
        if names.contains(&graph.tensors[t].name) {
            input(graph, t);
        }
    }
    for i in 0..graph.outputs.len() {
        if names.contains(&graph.output_names[i]) {
            output(graph, i);
        }
    }
}

/// Whether an operator does the same with every element, wherever it lies.
fn is_elementwise(op: &Op) -> bool {
    matches!(op, Op::Unary { .. } | Op::Lut { .. } | Op::Cast(_) | Op::Quantize | Op::Dequantize)
}

/// Whether an operator makes `to` of `from` by this permutation; with one channel that may be a view.
fn turns(graph: &Graph, from: TensorId, to: TensorId, op: &Op, perm: [usize; 4]) -> bool {
    let [from, to] = [from, to].map(|t| &graph.tensors[t].shape);
    let shaped = from.len() == 4 && perm.map(|d| from[d]) == to[..];
    match op {
        Op::Transpose { perm: by } => *by == perm,
        Op::Reshape => shaped && moves_nothing(from, &perm),
        _ => false,
    }
}

fn input(graph: &mut Graph, input: TensorId) {
    let mut chain = vec![input];
    loop {
        let last = *chain.last().expect("it has the input");
        let mut readers = (0..graph.nodes.len()).filter(|&n| graph.nodes[n].inputs.contains(&Some(last)));
        let (Some(reader), None) = (readers.next(), readers.next()) else { return };
        if graph.outputs.contains(&last) {
            return;
        }
        let node = &graph.nodes[reader];
        if is_elementwise(&node.op) && node.inputs.len() == 1 {
            chain.push(node.output);
            continue;
        }
        if !turns(graph, last, node.output, &node.op, INWARDS) {
            return;
        }
        let transposed = node.output;
        graph.nodes.remove(reader);
        for t in &chain {
            graph.tensors[*t].shape = INWARDS.map(|d| graph.tensors[*t].shape[d]).to_vec();
        }
        let replace = |t: &mut TensorId| *t = if *t == transposed { last } else { *t };
        graph.nodes.iter_mut().flat_map(|n| n.inputs.iter_mut().flatten()).for_each(replace);
        graph.outputs.iter_mut().for_each(replace);
        return;
    }
}

fn output(graph: &mut Graph, number: usize) {
    let mut chain = vec![graph.outputs[number]];
    loop {
        let last = *chain.last().expect("it has the output");
        let read = graph.nodes.iter().any(|n| n.inputs.contains(&Some(last)));
        let times = graph.outputs.iter().filter(|&&t| t == last).count();
        let Some(writer) = graph.nodes.iter().position(|n| n.output == last) else { return };
        if read && chain.len() == 1 || times > usize::from(chain.len() == 1) {
            return;
        }
        let node = &graph.nodes[writer];
        let Some(before) = node.inputs[0] else { return };
        let readers = graph.nodes.iter().filter(|n| n.inputs.contains(&Some(before))).count();
        if is_elementwise(&node.op) && node.inputs.len() == 1 && readers == 1 {
            chain.push(before);
            continue;
        }
        if !turns(graph, before, last, &node.op, OUTWARDS) {
            return;
        }
        graph.nodes.remove(writer);
        for t in &chain {
            graph.tensors[*t].shape = INWARDS.map(|d| graph.tensors[*t].shape[d]).to_vec();
        }
        if chain.len() == 1 {
            graph.outputs[number] = before;
        }
        let replace = |t: &mut TensorId| *t = if *t == last { before } else { *t };
        graph.nodes.iter_mut().flat_map(|n| n.inputs.iter_mut().flatten()).for_each(replace);
        return;
    }
}

#[cfg(test)]
mod tests {
    use kinglet::DType;

    use super::*;
    use crate::graph::{Node, Quant, Tensor};

    #[test]
    fn pictures_become_channels_last_at_both_ends() {
        let mut g = Graph::default();
        let mut tensor = |name: &str, dtype: DType, shape: &[usize]| {
            let quant = (dtype == DType::I8).then(|| Quant::per_tensor(0.1, 0));
            g.tensors.push(Tensor { name: name.into(), dtype, shape: shape.to_vec(), quant, value: None });
            g.tensors.len() - 1
        };
        let (first, last) = ([1, 3, 4, 5], [1, 4, 5, 3]);
        let x = tensor("x", DType::F32, &first);
        let q = tensor("q", DType::I8, &first);
        let t = tensor("t", DType::I8, &last);
        let n = tensor("n", DType::I8, &last);
        let b = tensor("b", DType::I8, &first);
        let y = tensor("y", DType::F32, &first);
        let mut node = |op: Op, from: TensorId, to: TensorId| g.nodes.push(Node::new(op, vec![Some(from)], to, vec![]));
        node(Op::Quantize, x, q);
        node(Op::Transpose { perm: INWARDS.to_vec() }, q, t);
        node(Op::unary(kinglet::kernels::UnaryOp::Neg), t, n);
        node(Op::Transpose { perm: OUTWARDS.to_vec() }, n, b);
        node(Op::Dequantize, b, y);
        (g.inputs, g.outputs, g.output_names) = (vec![x], vec![y], vec!["y".into()]);
        by_rows(&mut g, &["x".into(), "y".into()]);
        assert_eq!(g.nodes.iter().map(|n| n.op.name()).collect::<Vec<_>>(), ["Quantize", "Neg", "Dequantize"]);
        assert_eq!((&g.tensors[x].shape[..], &g.tensors[y].shape[..]), (&last[..], &last[..]));
        assert_eq!((g.nodes[1].inputs[0], g.nodes[2].inputs[0]), (Some(q), Some(n)));
        // Others stay as they are.
        let before = g.tensors[x].shape.clone();
        by_rows(&mut g, &["x".into()]);
        assert_eq!(g.tensors[x].shape, before);
    }
}
