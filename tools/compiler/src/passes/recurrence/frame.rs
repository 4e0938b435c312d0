//! One frame of a selective scan, as models that are run frame by frame have it: a loop of a single trip, which the search
//! for scans in loops then reads. Its state is an output of the model, so roundings of it are never left out.

use std::collections::HashMap;

use super::super::util::{both_orders, readers};
use super::selective_scan::{self, Scan};
use super::walk::{Known, Scope};
use crate::graph::{BinaryOp, Body, Graph, Node, Op, ReduceOp, TensorId, UnaryOp};

/// Replaces every frame of a selective scan by that operator.
pub fn recognise(graph: &mut Graph) {
    let mut known = Known::exactly(graph);
    let readers = readers(graph);
    let mut dead = vec![false; graph.nodes.len()];
    for i in 0..graph.nodes.len() {
        if dead[i] {
            continue;
        }
        let Some((node, readout, scan)) = find(graph, &known, &readers, i) else { continue };
        let new = graph.nodes.len();
        // The loop's y has an axis of one trip.
        let (y, stacked) = (graph.nodes[readout].output, node.more[0]);
        let shape = [&[1], &graph.tensors[y].shape[..]].concat();
        debug_assert_eq!(stacked, graph.tensors.len());
        graph.add_like(y, &shape, ":frame");
        scan.write(graph, &known.links, &node);
        graph.nodes.push(Node::new(Op::Reshape, vec![Some(stacked)], y, Vec::new()));
        (dead[i], dead[readout]) = (true, true);
        known.links.extend(graph, new);
    }
    dead.resize(graph.nodes.len(), false);
    graph.remove_nodes(&dead);
    graph.sort();
    super::super::cleanup::cleanup(graph);
}

/// The node that adds up the next state `exp(…)·h + …`, if it and its readout are a scan: both as a loop of one trip, the
/// node of the readout, and the scan.
fn find(
    graph: &Graph,
    known: &Known,
    readers: &HashMap<TensorId, Vec<usize>>,
    i: usize,
) -> Option<(Node, usize, Scan)> {
    let add = Some(&graph.nodes[i]).filter(|n| n.op == Op::Binary(BinaryOp::Add))?;
    let sum = add.output;
    let mul_of = |p: TensorId| known.links.node(graph, p).filter(|n| n.op == Op::Binary(BinaryOp::Mul));
    let (mul, factor, h, added) = both_orders(add).into_iter().find_map(|(p, added)| {
        let mul = mul_of(p)?;
        let (e, h) = both_orders(mul).into_iter().find(|&(e, _)| is_exp(graph, known, e))?;
        Some((mul, e, h, added))
    })?;
    let read =
        |t: TensorId, wanted: fn(&Op) -> bool| readers.get(&t)?.iter().copied().find(|&i| wanted(&graph.nodes[i].op));
    let product = &graph.nodes[read(sum, |op| *op == Op::Binary(BinaryOp::Mul))?];
    let (_, c) = both_orders(product).into_iter().find(|&(s, _)| s == sum)?;
    let at = read(product.output, |op| matches!(op, Op::Reduce { op: ReduceOp::Sum, .. }))?;
    let readout = &graph.nodes[at];

    let mut inner = Graph::within(&graph.budget);
    let operands = [h, factor, added, c];
    let [h_in, e_in, added_in, c_in] = operands.map(|t| inner.add_tensor(graph.tensors[t].clone()));
    inner.inputs = vec![h_in, e_in, added_in, c_in];
    let mut append = |like: &Node, a: TensorId, b: Option<TensorId>| {
        let output = inner.add_tensor(graph.tensors[like.output].clone());
        let inputs = [Some(a), b].into_iter().filter(|t| t.is_some()).collect();
        inner.nodes.push(Node::new(like.op.clone(), inputs, output, like.source.clone()));
        output
    };
    let kept = append(mul, e_in, Some(h_in));
    let next = append(add, kept, Some(added_in));
    let read = append(product, next, Some(c_in));
    let y = append(readout, read, None);
    inner.outputs = vec![next, y];
    let body = Body { graph: inner, trips: 1, carried: 1, scanned: 0, ends: false };
    let inputs = operands.iter().map(|&t| Some(t)).collect();
    let looped = Node::new(Op::Loop(Box::new(body)), inputs, sum, add.source.clone());
    // The stacked y is the next tensor that the graph will get.
    let looped = Node { more: vec![graph.tensors.len()], ..looped };
    let scan = selective_scan::find(&Scope::new(graph, &looped, known)?)?;
    Some((looped, at, scan))
}

fn is_exp(graph: &Graph, known: &Known, t: TensorId) -> bool {
    known.links.node(graph, t).is_some_and(|n| n.op == Op::unary(UnaryOp::Exp))
}
