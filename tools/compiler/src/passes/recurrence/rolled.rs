//! An unrolled recurrence, as the search found it, and the loop that it becomes.

use std::collections::HashMap;

use crate::array::Array;
use crate::graph::{Body, Graph, Node, Op, Tensor, TensorId};

/// Stands for the first value of something carried that is zero, and that folding has swallowed.
pub const ZERO: TensorId = TensorId::MAX;

/// What a tensor of the first full trip (the second of all) is in the others.
#[derive(Clone, Debug, PartialEq)]
pub enum Role {
    /// The same tensor in every trip.
    Same,
    /// A slice of a tensor along an axis, one position further in every trip.
    Slice { of: TensorId, axis: usize, first: usize },
    /// What the trip before computed as this tensor of the template.
    Carried { as_next: TensorId },
    /// Computed in the trip, by this node.
    Computed { by: usize },
}

/// An unrolled recurrence.
pub struct Rolled {
    /// The node that stacks the results.
    pub stack: usize,
    /// The axis it stacks them along.
    pub axis: usize,
    /// How many there are.
    pub trips: usize,
    /// Nodes of the template with what they read, in order.
    pub nodes: Vec<(usize, Vec<Option<TensorId>>)>,
    /// What its tensors are.
    pub roles: HashMap<TensorId, Role>,
    /// The template's result.
    pub result: TensorId,
    /// Carried tensors of the template, with their first and last values.
    pub carried: Vec<(TensorId, TensorId, TensorId)>,
    /// The nodes of all trips.
    pub members: Vec<usize>,
    /// Tensors whose roundings are left out.
    pub roundings: usize,
}

/// A loop that was appended to the graph, and what makes the graph read it.
pub struct Written {
    /// The loop, among the nodes of the graph.
    pub looped: usize,
    /// The stack, and what it becomes.
    stack: (usize, Node),
    /// What is to be read instead of the last values.
    instead: Vec<(TensorId, TensorId)>,
}

impl Written {
    /// Puts the loop in place of the stack. The last values are to be replaced too, all at once, by
    /// [`Graph::replace_uses`].
    pub fn commit(self, graph: &mut Graph, instead: &mut HashMap<TensorId, TensorId>) {
        let (at, node) = self.stack;
        graph.nodes[at] = node;
        instead.extend(self.instead);
    }
}

impl Rolled {
    /// Appends the loop to the graph, where nobody reads it yet.
    pub fn append(self, graph: &mut Graph) -> Written {
        let mut inner = Graph::within(&graph.budget);
        let mut ids: HashMap<TensorId, TensorId> = HashMap::new();
        let add = |inner: &mut Graph, tensor: Tensor| inner.add_tensor(Tensor { value: None, ..tensor });
        let mut inputs = Vec::new();
        for &(t, first, _) in &self.carried {
            let id = add(&mut inner, graph.tensors[t].clone());
            ids.insert(t, id);
            inner.inputs.push(id);
            let shape = graph.tensors[t].shape.clone();
            inputs.push(Some(if first == ZERO {
                let zeros = Array::f32(&shape, vec![0.0; shape.iter().product()]);
                graph.add_constant(format!("{}:first", graph.tensors[t].name), zeros)
            } else {
                first
            }));
        }
        let mut others: Vec<TensorId> = self.roles.keys().copied().collect();
        others.sort_unstable();
        let mut scanned = 0;
        for &t in &others {
            let Role::Slice { of, axis, first } = self.roles[&t] else { continue };
            let whole = scan(graph, of, axis, first - 1, self.trips);
            let shape = graph.tensors[whole].shape[1..].to_vec();
            let slice = add(&mut inner, Tensor { shape, ..graph.tensors[t].clone() });
            inner.inputs.push(slice);
            inputs.push(Some(whole));
            scanned += 1;
            // The slice of the file keeps the axis.
            let kept = add(&mut inner, graph.tensors[t].clone());
            inner.nodes.push(Node::new(Op::Reshape, vec![Some(slice)], kept, Vec::new()));
            ids.insert(t, kept);
        }
        for &t in &others {
            if self.roles[&t] != Role::Same {
                continue;
            }
            let id = inner.add_tensor(graph.tensors[t].clone());
            if graph.tensors[t].value.is_none() {
                inner.inputs.push(id);
                inputs.push(Some(t));
            }
            ids.insert(t, id);
        }
        let mut source = Vec::new();
        for (i, operands) in &self.nodes {
            let node = &graph.nodes[*i];
            let output = add(&mut inner, graph.tensors[node.output].clone());
            ids.insert(node.output, output);
            let operands = operands.iter().map(|t| t.map(|t| ids[&t])).collect();
            inner.nodes.push(Node::new(node.op.clone(), operands, output, node.source.clone()));
            source.extend(node.source.iter().cloned());
        }
        for &(t, _, _) in &self.carried {
            let Role::Carried { as_next } = self.roles[&t] else { unreachable!("it is carried") };
            inner.outputs.push(ids[&as_next]);
        }
        inner.outputs.push(ids[&self.result]);
        inner.output_names = inner.outputs.iter().map(|&t| inner.tensors[t].name.clone()).collect();

        let lasts: Vec<TensorId> = self
            .carried
            .iter()
            .map(|&(_, _, last)| graph.add_like(last, &graph.tensors[last].shape.clone(), ":last"))
            .collect();
        let part = graph.tensors[self.result].shape.clone();
        let all = graph.add_like(self.result, &[&[self.trips], &part[..]].concat(), ":all");
        let outputs: Vec<TensorId> = lasts.iter().copied().chain([all]).collect();
        let instead = self.carried.iter().zip(&lasts).map(|(&(_, _, last), &new)| (last, new)).collect();
        let stack = graph.nodes[self.stack].clone();
        // Position by position along the stack's axis: the trips come right before it, and both become one.
        let mut perm: Vec<usize> = (1..=part.len()).collect();
        perm.insert(self.axis, 0);
        let moved: Vec<usize> = perm.iter().map(|&d| if d == 0 { self.trips } else { part[d - 1] }).collect();
        let turned = graph.add_like(all, &moved, ":turned");
        source.extend(stack.source.iter().cloned());
        let body = Body { graph: inner, trips: self.trips, carried: self.carried.len(), scanned, ends: false };
        let op = Op::Loop(Box::new(body));
        let roundings = self.roundings;
        graph.nodes.push(Node { more: outputs[1..].to_vec(), roundings, ..Node::new(op, inputs, outputs[0], source) });
        let looped = graph.nodes.len() - 1;
        graph.nodes.push(Node::new(Op::Transpose { perm }, vec![Some(all)], turned, stack.source.clone()));
        let reshape = Node::new(Op::Reshape, vec![Some(turned)], stack.output, stack.source);
        Written { looped, stack: (self.stack, reshape), instead }
    }
}

/// `trips` positions of a tensor along `axis`, from `first` on, as a tensor that is scanned along its first axis.
fn scan(graph: &mut Graph, t: TensorId, axis: usize, first: usize, trips: usize) -> TensorId {
    let mut shape = graph.tensors[t].shape.clone();
    let mut x = t;
    if shape[axis] != trips {
        let mut starts = vec![0; shape.len()];
        (starts[axis], shape[axis]) = (first, trips);
        let steps = vec![1; shape.len()];
        x = graph.add_like(t, &shape, ":part");
        graph.nodes.push(Node::new(Op::Slice { starts, steps }, vec![Some(t)], x, Vec::new()));
    }
    let mut perm: Vec<usize> = (0..shape.len()).collect();
    perm.remove(axis);
    perm.insert(0, axis);
    let moved: Vec<usize> = perm.iter().map(|&d| shape[d]).collect();
    let whole = graph.add_like(x, &moved, ":scanned");
    graph.nodes.push(Node::new(Op::Transpose { perm }, vec![Some(x)], whole, Vec::new()));
    whole
}
