//! Loops in the bodies of loops: bands do not nest, so that one of the two is written out, trip by trip, whichever makes fewer nodes.
//! Short ones the importer has written out already; what became another operator is no loop any more.

use std::collections::HashMap;

use crate::graph::{Body, Graph, Node, Op, Tensor, TensorId};
use crate::import::{A_NODE, MAX_UNROLLED};

/// Writes loops out until none has another one in its body, as far as they are short enough. What is left is refused when the graph is lowered.
pub fn write_out(graph: &mut Graph) {
    let mut at = 0;
    while at < graph.nodes.len() {
        let Op::Loop(body) = &graph.nodes[at].op else {
            at += 1;
            continue;
        };
        let inner: Option<u64> = loops_of(&body.graph).map(|i| cost_of(&body.graph.nodes[i])).sum();
        let inner = inner.filter(|&cost| cost > 0);
        let outer = loops_of(&body.graph).next().and_then(|_| cost_of(&graph.nodes[at]));
        let affordable = |cost: u64| graph.budget.take(cost.saturating_mul(A_NODE), 0);
        match (outer, inner) {
            (Some(outer), inner) if inner.is_none_or(|inner| outer < inner) && affordable(outer) => {
                expand(graph, at);
                // The loops that were in it are in its place.
                continue;
            }
            (_, Some(inner)) if affordable(inner) => {
                let Op::Loop(body) = &mut graph.nodes[at].op else { unreachable!("seen above") };
                // From the last one on, so that the numbers of those before it stay.
                let inner: Vec<usize> = loops_of(&body.graph).collect();
                inner.into_iter().rev().for_each(|i| expand(&mut body.graph, i));
            }
            _ => {}
        }
        at += 1;
    }
}

fn loops_of(graph: &Graph) -> impl Iterator<Item = usize> + '_ {
    (0..graph.nodes.len()).filter(|&i| matches!(graph.nodes[i].op, Op::Loop(_)))
}

/// The nodes that a loop is written out as, with those in the bodies among them; `None` if it cannot be.
fn cost_of(node: &Node) -> Option<u64> {
    let Op::Loop(body) = &node.op else { return None };
    let nodes = size(&body.graph) + 2 * body.scanned as u64 + body.graph.outputs.len() as u64;
    (!body.ends && body.trips <= MAX_UNROLLED).then(|| (body.trips as u64).saturating_mul(nodes))
}

/// Nodes of a graph and of the bodies in it.
fn size(graph: &Graph) -> u64 {
    let inside = |n: &Node| if let Op::Loop(body) = &n.op { size(&body.graph) } else { 0 };
    graph.nodes.iter().map(|n| 1 + inside(n)).sum()
}

/// Puts the nodes of all its trips in the place of loop `at`.
fn expand(graph: &mut Graph, at: usize) {
    let behind = graph.nodes.split_off(at + 1);
    let node = graph.nodes.pop().expect("there is a loop");
    let Op::Loop(body) = &node.op else { unreachable!("the caller has found a loop") };
    let given: Vec<TensorId> = node.inputs.iter().map(|t| t.expect("a loop's inputs are all there")).collect();
    let mut out = Expansion { graph, constants: HashMap::new(), source: &node.source };
    let (mut carried, slices) = (given[..body.carried].to_vec(), body.graph.outputs.len() - body.carried);
    let mut stacks = vec![Vec::with_capacity(body.trips); slices];
    for trip in 0..body.trips {
        let results = out.trip(body, &given, &carried, trip);
        for (stack, &part) in stacks.iter_mut().zip(&results[body.carried..]) {
            stack.push(part);
        }
        carried = results[..body.carried].to_vec();
    }
    let outputs: Vec<TensorId> = node.outputs().collect();
    for (&last, &output) in carried.iter().zip(&outputs) {
        let same = out.graph.tensors[last].quant == out.graph.tensors[output].quant;
        out.push(if same { Op::Reshape } else { Op::Reinterpret }, vec![Some(last)], output);
    }
    for (parts, &output) in stacks.into_iter().zip(&outputs[body.carried..]) {
        let whole = out.graph.tensors[output].clone();
        let part = Tensor { shape: [&[1], &whole.shape[1..]].concat(), ..whole };
        let parts = parts.into_iter().map(|t| Some(out.part(t, &part))).collect();
        out.push(Op::Concat { axis: 0 }, parts, output);
    }
    graph.nodes.extend(behind);
}

/// A loop that is being written out, at the end of a graph.
struct Expansion<'a> {
    graph: &'a mut Graph,
    /// The constants of its body in the graph.
    constants: HashMap<TensorId, TensorId>,
    source: &'a [String],
}

impl Expansion<'_> {
    fn push(&mut self, op: Op, inputs: Vec<Option<TensorId>>, output: TensorId) {
        self.graph.nodes.push(Node::new(op, inputs, output, self.source.to_vec()));
    }

    /// Writes a trip out, and gives the body's outputs.
    fn trip(&mut self, body: &Body, given: &[TensorId], carried: &[TensorId], trip: usize) -> Vec<TensorId> {
        let mut here: HashMap<TensorId, TensorId> = HashMap::new();
        for (k, &formal) in body.graph.inputs.iter().enumerate() {
            let t = match k {
                k if k < body.carried => carried[k],
                k if k < body.carried + body.scanned => self.slice(given[k], trip),
                k => given[k],
            };
            let seen = self.seen_as(t, &body.graph.tensors[formal]);
            here.insert(formal, seen);
        }
        for node in &body.graph.nodes {
            let inputs = node.inputs.iter().map(|t| t.map(|t| self.find(body, &here, t))).collect();
            let outputs: Vec<TensorId> = node.outputs().collect();
            let new = outputs.iter().map(|&t| {
                let tensor = &body.graph.tensors[t];
                (t, self.graph.add_tensor(Tensor { name: format!("{}.{trip}", tensor.name), ..tensor.clone() }))
            });
            let new: Vec<(TensorId, TensorId)> = new.collect();
            here.extend(new.iter().copied());
            let more = new[1..].iter().map(|&(_, t)| t).collect();
            self.graph.nodes.push(Node { inputs, output: new[0].1, more, ..node.clone() });
        }
        body.graph.outputs.iter().map(|&t| self.find(body, &here, t)).collect()
    }

    /// What a tensor of the body is in this trip.
    fn find(&mut self, body: &Body, here: &HashMap<TensorId, TensorId>, t: TensorId) -> TensorId {
        let constant = || self.graph.add_tensor(body.graph.tensors[t].clone());
        here.get(&t).copied().unwrap_or_else(|| *self.constants.entry(t).or_insert_with(constant))
    }

    /// A tensor whose integers stand for what those of another do.
    fn seen_as(&mut self, t: TensorId, like: &Tensor) -> TensorId {
        if self.graph.tensors[t].quant == like.quant {
            return t;
        }
        let seen = self.graph.add_tensor(Tensor { value: None, ..like.clone() });
        self.push(Op::Reinterpret, vec![Some(t)], seen);
        seen
    }

    /// Position `trip` of the first axis.
    fn slice(&mut self, of: TensorId, trip: usize) -> TensorId {
        let whole = self.graph.tensors[of].clone();
        let shape = &whole.shape[1..];
        let slice =
            Tensor { name: format!("{}.{trip}", whole.name), shape: shape.to_vec(), value: None, ..whole.clone() };
        if let Some(value) = &whole.value {
            let value = value.cut(0, trip..trip + 1).reshaped(shape);
            return self.graph.add_tensor(Tensor { value: Some(value.into()), ..slice });
        }
        let row = self.graph.add_tensor(Tensor { shape: [&[1], shape].concat(), ..slice.clone() });
        let mut starts = vec![0; whole.shape.len()];
        starts[0] = trip;
        let steps = vec![1; starts.len()];
        self.push(Op::Slice { starts, steps }, vec![Some(of)], row);
        let slice = self.graph.add_tensor(slice);
        self.push(Op::Reshape, vec![Some(row)], slice);
        slice
    }

    /// A slice as a part, like `like`, of what is stacked.
    fn part(&mut self, t: TensorId, like: &Tensor) -> TensorId {
        let t = self.seen_as(t, &Tensor { shape: like.shape[1..].to_vec(), ..like.clone() });
        let part = self.graph.add_tensor(Tensor { value: None, ..like.clone() });
        self.push(Op::Reshape, vec![Some(t)], part);
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;
    use crate::eval;
    use crate::graph::BinaryOp;
    use kinglet::DType;

    fn tensor(name: &str, shape: &[usize]) -> Tensor {
        Tensor { name: name.into(), dtype: DType::F32, shape: shape.to_vec(), quant: None, value: None }
    }

    /// A loop over `h [2]` and `x [trips, 2]` that gives the last `h` and all; its body is `h = f(h, slice)`.
    fn looped(g: &mut Graph, [h, x]: [TensorId; 2], trips: usize, body: Graph) -> [TensorId; 2] {
        let (last, all) = (g.add_tensor(tensor("last", &[2])), g.add_tensor(tensor("all", &[trips, 2])));
        let op = Op::Loop(Box::new(Body { graph: body, trips, carried: 1, scanned: 1, ends: false }));
        g.nodes.push(Node { more: vec![all], ..Node::new(op, vec![Some(h), Some(x)], last, vec!["loop".into()]) });
        [last, all]
    }

    /// A loop of `trips[0]` in whose body is one of `trips[1]`.
    fn nested(trips: [usize; 2]) -> Graph {
        let mut inner = Graph::default();
        let [v, s, n] = ["v", "s", "n"].map(|name| inner.add_tensor(tensor(name, &[2])));
        let half = inner.add_constant("half", Array::scalar(0.5));
        let p = inner.add_tensor(tensor("p", &[2]));
        inner.nodes.push(Node::new(Op::Binary(BinaryOp::Mul), vec![Some(v), Some(half)], p, vec![]));
        inner.nodes.push(Node::new(Op::Binary(BinaryOp::Sub), vec![Some(s), Some(p)], n, vec![]));
        (inner.inputs, inner.outputs) = (vec![v, s], vec![n, p]);
        let mut outer = Graph::default();
        let [h, x] = ["h", "x"].map(|name| outer.add_tensor(tensor(name, &[2])));
        let w = outer.add_constant("w", Array::f32(&[trips[1], 2], (0..2 * trips[1]).map(|v| v as f64).collect()));
        let [last, all] = looped(&mut outer, [h, w], trips[1], inner);
        let (row, first, y) = (
            outer.add_tensor(tensor("row", &[1, 2])),
            outer.add_tensor(tensor("first", &[2])),
            outer.add_tensor(tensor("y", &[2])),
        );
        let slice = Op::Slice { starts: vec![trips[1] - 1, 0], steps: vec![1, 1] };
        outer.nodes.push(Node::new(slice, vec![Some(all)], row, vec![]));
        outer.nodes.push(Node::new(Op::Reshape, vec![Some(row)], first, vec![]));
        outer.nodes.push(Node::new(Op::Binary(BinaryOp::Add), vec![Some(first), Some(x)], y, vec![]));
        (outer.inputs, outer.outputs) = (vec![h, x], vec![last, y]);
        let mut g = Graph::default();
        let (h, x) = (g.add_tensor(tensor("h", &[2])), g.add_tensor(tensor("x", &[trips[0], 2])));
        g.inputs = vec![h, x];
        g.outputs = looped(&mut g, [h, x], trips[0], outer).to_vec();
        g
    }

    #[test]
    fn the_shorter_one_is_written_out() {
        for (trips, loops) in [([3, 70], 3), ([70, 3], 1), ([2, 5000], 2), ([5000, 2], 1)] {
            let before = nested(trips);
            let mut after = before.clone();
            write_out(&mut after);
            assert_eq!(loops_of(&after).count(), loops, "{trips:?}");
            for i in loops_of(&after) {
                let Op::Loop(body) = &after.nodes[i].op else { unreachable!() };
                assert_eq!(loops_of(&body.graph).count(), 0, "{trips:?}");
            }
            let values = [vec![2], vec![trips[0], 2]].map(|shape: Vec<usize>| {
                Array::f32(&shape, (0..shape.iter().product()).map(|v: usize| (v % 7) as f64 / 4.0).collect())
            });
            assert_eq!(eval::run(&after, &values), eval::run(&before, &values), "{trips:?}");
        }
    }

    #[test]
    fn of_two_long_ones_none_is() {
        let before = nested([5000, 5000]);
        let mut after = before.clone();
        write_out(&mut after);
        assert_eq!(after, before);
    }
}
