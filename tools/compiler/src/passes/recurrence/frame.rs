//! One frame of a selective scan, as models that are run frame by frame have it: a loop of a single trip, which the search
//! for scans in loops then reads.

use super::super::util::{Links, both_orders};
use super::selective_scan::{self, Scan};
use super::walk::Scope;
use crate::graph::{BinaryOp, Body, Graph, Node, Op, ReduceOp, TensorId, UnaryOp};

/// Replaces every frame of a selective scan by that operator.
pub fn recognise(graph: &mut Graph) {
    let sums: Vec<TensorId> =
        graph.nodes.iter().filter(|n| n.op == Op::Binary(BinaryOp::Add)).map(|n| n.output).collect();
    let mut links = Links::new(graph);
    for sum in sums {
        let Some((node, y, scan)) = links.index(sum).and_then(|i| find(graph, &links, i)) else { continue };
        let next = node.output;
        graph.nodes.retain(|n| n.output != next && n.output != y);
        // The loop's y has an axis of one trip.
        let stacked = node.more[0];
        let shape = [&[1], &graph.tensors[y].shape[..]].concat();
        debug_assert_eq!(stacked, graph.tensors.len());
        graph.add_like(y, &shape, ":frame");
        scan.write(graph, &node);
        graph.nodes.push(Node::new(Op::Reshape, vec![Some(stacked)], y, Vec::new()));
        graph.sort();
        links = Links::new(graph);
    }
    super::super::cleanup::cleanup(graph);
}

/// `exp(…)·h + …` and its readout as a loop of one trip, if they are a scan: the loop, the tensor of its readout, the scan.
fn find(graph: &Graph, links: &Links, i: usize) -> Option<(Node, TensorId, Scan)> {
    let add = Some(&graph.nodes[i]).filter(|n| n.op == Op::Binary(BinaryOp::Add))?;
    let sum = add.output;
    let (decayed, added) = both_orders(add).into_iter().find(|&(p, _)| {
        let mul = links.node(graph, p).filter(|n| n.op == Op::Binary(BinaryOp::Mul));
        mul.is_some_and(|m| both_orders(m).into_iter().any(|(e, _)| is_exp(graph, links, e)))
    })?;
    let mul = links.node(graph, decayed)?;
    let (factor, h) = both_orders(mul).into_iter().find(|&(e, _)| is_exp(graph, links, e))?;
    let product = graph.nodes.iter().find(|n| n.op == Op::Binary(BinaryOp::Mul) && n.inputs.contains(&Some(sum)))?;
    let (_, c) = both_orders(product).into_iter().find(|&(s, _)| s == sum)?;
    let reads = |n: &&Node| matches!(n.op, Op::Reduce { op: ReduceOp::Sum, .. }) && n.inputs[0] == Some(product.output);
    let readout = graph.nodes.iter().find(reads)?;

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
    let body = Body { graph: inner, trips: 1, carried: 1, scanned: 0 };
    let inputs = operands.iter().map(|&t| Some(t)).collect();
    let looped = Node::new(Op::Loop(Box::new(body)), inputs, sum, add.source.clone());
    // The stacked y is the next tensor that the graph will get.
    let looped = Node { more: vec![graph.tensors.len()], ..looped };
    let scan = selective_scan::find(&Scope::new(graph, &looped)?)?;
    Some((looped, readout.output, scan))
}

fn is_exp(graph: &Graph, links: &Links, t: TensorId) -> bool {
    links.node(graph, t).is_some_and(|n| n.op == Op::unary(UnaryOp::Exp))
}
