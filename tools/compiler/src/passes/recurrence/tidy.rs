//! Loops as they should be: what the counter selects is scanned, what nobody needs is gone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::graph::{Body, Graph, Node, Op, Tensor, TensorId};

/// Tidies every loop of a graph.
pub fn tidy(graph: &mut Graph) {
    // What tidying changes about them concerns tensors of loops that were tidied before.
    let uses = graph.use_counts();
    for i in 0..graph.nodes.len() {
        if !matches!(graph.nodes[i].op, Op::Loop(_)) {
            continue;
        }
        let stub = Node::new(Op::Reshape, Vec::new(), graph.nodes[i].output, Vec::new());
        let mut node = std::mem::replace(&mut graph.nodes[i], stub);
        let Op::Loop(body) = &mut node.op else { unreachable!("checked above") };
        let mut body = std::mem::replace(
            &mut **body,
            Body { graph: Graph::default(), trips: 0, carried: 0, scanned: 0, ends: false },
        );
        scan_what_is_counted(graph, &mut node, &mut body);
        drop_unused_slices(&uses, &mut node, &mut body);
        super::super::cleanup::cleanup(&mut body.graph);
        drop_unused_inputs(&mut node, &mut body);
        node.op = Op::Loop(Box::new(body));
        graph.nodes[i] = node;
    }
    graph.sort();
    super::super::cleanup::cleanup(graph);
}

/// `Gather(x, trip)` of an x that stays the same is a slice of a scanned x.
fn scan_what_is_counted(graph: &mut Graph, node: &mut Node, body: &mut Body) {
    let behind = body.carried + body.scanned;
    let counts = |graph: &Graph, k: usize| {
        let value = node.inputs[k].and_then(|t| graph.value(t));
        value.is_some_and(|v| v.shape == [body.trips] && v.ints().iter().copied().eq(0..body.trips as i64))
    };
    let counters = (body.carried..behind).filter(|&k| counts(graph, k)).map(|k| body.graph.inputs[k]);
    let mut aliases: HashSet<TensorId> = counters.collect();
    if aliases.is_empty() {
        return;
    }
    // What the body reads as it is.
    let given = body.graph.inputs.iter().zip(&node.inputs).skip(behind);
    let given: HashMap<TensorId, TensorId> = given.filter_map(|(&t, outer)| Some((t, (*outer)?))).collect();
    let mut scanned = Vec::new();
    for i in 0..body.graph.nodes.len() {
        let reader = body.graph.nodes[i].clone();
        let read = |k: usize| reader.inputs.get(k).copied().flatten();
        match reader.op {
            Op::Reshape if read(0).is_some_and(|t| aliases.contains(&t)) => {
                aliases.insert(reader.output);
            }
            Op::Gather { axis } if read(1).is_some_and(|t| aliases.contains(&t)) => {
                let x = read(0).expect("a gather has an input");
                let Some(outer) = captured(graph, &given, body, x) else { continue };
                let shape = graph.tensors[outer].shape.clone();
                if shape[axis] != body.trips || graph.tensors[outer].quant.is_some() {
                    continue;
                }
                let mut perm: Vec<usize> = (0..shape.len()).collect();
                perm.remove(axis);
                perm.insert(0, axis);
                let moved: Vec<usize> = perm.iter().map(|&d| shape[d]).collect();
                let whole = graph.add_like(outer, &moved, ":scanned");
                let transpose = Node::new(Op::Transpose { perm }, vec![Some(outer)], whole, reader.source.clone());
                match graph.tensors[outer].value.clone() {
                    Some(v) => {
                        let value = crate::fold::node(graph, &transpose, &[Some(&v)]);
                        graph.tensors[whole].value = Some(Arc::new(value));
                    }
                    None => graph.nodes.push(transpose),
                }
                let like = body.graph.tensors[x].clone();
                let slice = body.graph.add_tensor(Tensor { shape: moved[1..].to_vec(), value: None, ..like });
                scanned.push((slice, whole));
                let seen = &mut body.graph.nodes[i];
                (seen.op, seen.inputs) = (Op::Reshape, vec![Some(slice)]);
            }
            _ => {}
        }
    }
    body.scanned += scanned.len();
    body.graph.inputs.splice(behind..behind, scanned.iter().map(|&(slice, _)| slice));
    node.inputs.splice(behind..behind, scanned.iter().map(|&(_, whole)| Some(whole)));
}

/// The tensor outside that a tensor of the body is in every trip; those that the loop reads as they are, are `given`.
fn captured(graph: &mut Graph, given: &HashMap<TensorId, TensorId>, body: &Body, t: TensorId) -> Option<TensorId> {
    let tensor = &body.graph.tensors[t];
    if tensor.value.is_some() {
        return Some(graph.add_tensor(tensor.clone()));
    }
    given.get(&t).copied()
}

/// Stacked slices that nobody reads are not computed.
fn drop_unused_slices(uses: &[usize], node: &mut Node, body: &mut Body) {
    let outputs: Vec<TensorId> = node.outputs().collect();
    let keep: Vec<bool> = outputs.iter().enumerate().map(|(k, &t)| k < body.carried || uses[t] > 0).collect();
    let kept: Vec<TensorId> = outputs.iter().zip(&keep).filter(|(_, k)| **k).map(|(&t, _)| t).collect();
    let Some((&first, more)) = kept.split_first() else { return };
    (node.output, node.more) = (first, more.to_vec());
    let mut keep = keep.iter();
    body.graph.outputs.retain(|_| *keep.next().expect("one an output"));
    body.graph.output_names = body.graph.outputs.iter().map(|&t| body.graph.tensors[t].name.clone()).collect();
}

/// Scanned and captured tensors that the body does not read, or reads twice, come in once at most.
fn drop_unused_inputs(node: &mut Node, body: &mut Body) {
    let uses = body.graph.use_counts();
    let behind = body.carried + body.scanned;
    let mut first: HashMap<(bool, Option<TensorId>), TensorId> = HashMap::new();
    let mut twins: HashMap<TensorId, TensorId> = HashMap::new();
    let mut keep = vec![true; node.inputs.len()];
    for k in body.carried..node.inputs.len() {
        let t = body.graph.inputs[k];
        // Scanned and read as it is, a tensor comes in twice.
        let twin = *first.entry((k < behind, node.inputs[k])).or_insert(t);
        if twin != t {
            twins.insert(t, twin);
        }
    }
    let mut used: HashSet<TensorId> = HashSet::new();
    for k in body.carried..node.inputs.len() {
        let t = body.graph.inputs[k];
        if uses[t] > 0 {
            used.insert(twins.get(&t).copied().unwrap_or(t));
        }
    }
    for k in body.carried..node.inputs.len() {
        keep[k] = used.contains(&body.graph.inputs[k]);
    }
    if !twins.is_empty() {
        body.graph.replace_uses(&twins);
    }
    body.scanned = keep[body.carried..behind].iter().filter(|k| **k).count();
    let mut kept = keep.iter();
    node.inputs.retain(|_| *kept.next().expect("one an input"));
    let mut kept = keep.iter();
    body.graph.inputs.retain(|_| *kept.next().expect("one an input"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;
    use crate::eval;
    use kinglet::DType;

    fn tensor(dtype: DType, shape: &[usize]) -> Tensor {
        Tensor { name: String::new(), dtype, shape: shape.to_vec(), quant: None, value: None }
    }

    /// A loop over three trips that adds up the rows of x, selected by the counter, and stacks something nobody reads.
    fn graph() -> Graph {
        let mut inner = Graph::default();
        let sum = inner.add_tensor(tensor(DType::F32, &[2]));
        let trip = inner.add_tensor(tensor(DType::I64, &[]));
        let x = inner.add_tensor(tensor(DType::F32, &[3, 2]));
        let row = inner.add_tensor(tensor(DType::F32, &[2]));
        let next = inner.add_tensor(tensor(DType::F32, &[2]));
        inner.nodes.push(Node::new(Op::Gather { axis: 0 }, vec![Some(x), Some(trip)], row, vec![]));
        let add = Op::Binary(crate::graph::BinaryOp::Add);
        inner.nodes.push(Node::new(add, vec![Some(sum), Some(row)], next, vec![]));
        (inner.inputs, inner.outputs) = (vec![sum, trip, x], vec![next, row]);

        let mut g = Graph::default();
        let x = g.add_tensor(tensor(DType::F32, &[3, 2]));
        let zero = g.add_constant("zero", Array::f32(&[2], vec![0.0; 2]));
        let trips = g.add_constant("trips", Array::i64s(&[0, 1, 2]));
        let y = g.add_tensor(tensor(DType::F32, &[2]));
        let rows = g.add_tensor(tensor(DType::F32, &[3, 2]));
        let body = Body { graph: inner, trips: 3, carried: 1, scanned: 1, ends: false };
        let inputs = vec![Some(zero), Some(trips), Some(x)];
        g.nodes.push(Node { more: vec![rows], ..Node::new(Op::Loop(Box::new(body)), inputs, y, vec![]) });
        (g.inputs, g.outputs) = (vec![x], vec![y]);
        g
    }

    #[test]
    fn a_counted_gather_becomes_a_slice_and_the_unused_goes() {
        let mut g = graph();
        let x = Array::f32(&[3, 2], (0..6).map(f64::from).collect());
        let before = eval::run(&g, std::slice::from_ref(&x)).unwrap();
        tidy(&mut g);
        let node = g.nodes.iter().find(|n| matches!(n.op, Op::Loop(_))).unwrap();
        let Op::Loop(body) = &node.op else { unreachable!() };
        assert_eq!((node.inputs.len(), body.scanned, body.graph.outputs.len()), (2, 1, 1));
        assert!(!body.graph.nodes.iter().any(|n| matches!(n.op, Op::Gather { .. })));
        assert_eq!(eval::run(&g, &[x]).unwrap(), before);
        assert_eq!(before[0], Array::f32(&[2], vec![6.0, 9.0]));
    }
}
