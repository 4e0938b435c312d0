//! Unrolled recurrences rolled up: a stack of results that are computed in the same way, each from the one before it and the
//! next slice of some tensors, is a loop.

use std::collections::{HashMap, HashSet};

use crate::array::Array;
use crate::fold;
use crate::graph::{Body, Graph, Node, Op, Tensor, TensorId};

/// Fewest results worth a loop.
const FEWEST: usize = 4;
/// Most nodes of one trip: what is longer is not the body of a recurrence that was written out.
const MOST_NODES: usize = 512;

/// Stands for the first value of something carried that is zero, and that folding has swallowed.
const ZERO: TensorId = TensorId::MAX;

/// Rolls up every unrolled recurrence.
pub fn roll(graph: &mut Graph) {
    let stacks: Vec<TensorId> = graph
        .nodes
        .iter()
        .filter(|n| matches!(n.op, Op::Concat { .. }) && n.inputs.len() >= FEWEST)
        .map(|n| n.output)
        .collect();
    for stack in stacks {
        let search = Search::new(graph);
        let Some(found) = search.find(stack) else { continue };
        found.write(graph);
        super::super::cleanup::cleanup(graph);
    }
}

/// What a tensor of the first full trip (the second of all) is in the others.
#[derive(Clone, Debug, PartialEq)]
enum Role {
    /// The same tensor in every trip.
    Same,
    /// A slice of a tensor along an axis, one position further in every trip.
    Slice { of: TensorId, axis: usize, first: usize },
    /// What the trip before computed as this tensor of the template.
    Carried { as_next: TensorId },
    /// Computed in the trip, by this node.
    Computed { by: usize },
}

struct Search<'a> {
    graph: &'a Graph,
    producers: HashMap<TensorId, usize>,
}

/// An unrolled recurrence.
struct Rolled {
    /// The node that stacks the results.
    stack: usize,
    axis: usize,
    trips: usize,
    /// Nodes of the template, in order, and what its tensors are.
    nodes: Vec<usize>,
    roles: HashMap<TensorId, Role>,
    /// The template's result.
    result: TensorId,
    /// Carried tensors of the template, with their first and last values.
    carried: Vec<(TensorId, TensorId, TensorId)>,
}

impl<'a> Search<'a> {
    fn new(graph: &'a Graph) -> Self {
        Search { graph, producers: graph.producers() }
    }

    fn node(&self, t: TensorId) -> Option<(usize, &'a Node)> {
        if self.graph.tensors[t].value.is_some() {
            return None;
        }
        self.producers.get(&t).map(|&i| (i, &self.graph.nodes[i]))
    }

    fn find(&self, stack: TensorId) -> Option<Rolled> {
        let (at, node) = self.node(stack)?;
        let Op::Concat { axis } = node.op else { return None };
        let results: Vec<TensorId> = node.inputs.iter().map(|t| t.expect("all inputs of a concat are there")).collect();
        let kind = |t: TensorId| (&self.graph.tensors[t].shape, &self.graph.tensors[t].quant);
        if results.iter().any(|&t| kind(t) != kind(results[0])) {
            return None;
        }
        let mut template = Template { search: self, roles: HashMap::new(), nodes: Vec::new(), next_of: HashMap::new() };
        template.compare(results[1], results[2])?;
        let Template { roles, nodes, .. } = template;
        let mut carried: Vec<TensorId> =
            roles.iter().filter(|(_, role)| matches!(role, Role::Carried { .. })).map(|(&t, _)| t).collect();
        carried.sort_unstable();
        if carried.is_empty() {
            // Results that do not depend on each other are no recurrence.
            return None;
        }
        let rolled =
            Rolled { stack: at, axis, trips: results.len(), nodes, roles, result: results[1], carried: Vec::new() };
        let trips = self.follow(&rolled, &results)?;
        let last = trips.last().expect("there are trips");
        let carried = carried.into_iter().map(|t| {
            let Role::Carried { as_next } = rolled.roles[&t] else { unreachable!("selected above") };
            Some((t, *trips[0].get(&t)?, *last.get(&as_next)?))
        });
        let carried = carried.collect::<Option<Vec<_>>>()?;
        let alike = |a: TensorId, b: TensorId| {
            if b == ZERO {
                return true;
            }
            let (a, b) = (&self.graph.tensors[a], &self.graph.tensors[b]);
            (a.dtype, &a.shape) == (b.dtype, &b.shape)
        };
        let rolled = Rolled { carried, ..rolled };
        (rolled.carried.iter().all(|&(t, first, _)| alike(t, first)) && self.is_closed(&rolled, &trips))
            .then_some(rolled)
    }

    /// What the tensors of the template are in each trip, if each is the template again.
    fn follow(&self, rolled: &Rolled, results: &[TensorId]) -> Option<Vec<HashMap<TensorId, TensorId>>> {
        let mut trips: Vec<HashMap<TensorId, TensorId>> = Vec::with_capacity(results.len());
        for (trip, &result) in results.iter().enumerate() {
            let mut is = HashMap::new();
            let mut open = vec![(rolled.result, result)];
            while let Some((t, here)) = open.pop() {
                if let Some(&known) = is.get(&t) {
                    if known != here {
                        return None;
                    }
                    continue;
                }
                is.insert(t, here);
                match &rolled.roles[&t] {
                    Role::Same if t != here => return None,
                    Role::Same => {}
                    Role::Slice { of, axis, first } => {
                        // `first` is the position in the second trip.
                        let (x, position) = self.sliced(here, *axis)?;
                        if x != *of || position + 1 != first + trip {
                            return None;
                        }
                    }
                    Role::Carried { as_next } => {
                        if trip > 0 && trips[trip - 1].get(as_next) != Some(&here) {
                            return None;
                        }
                    }
                    Role::Computed { by } if trip == 0 && self.graph.value(here).is_some() => {
                        // The first trip of a recurrence that starts from zeros is folded in part.
                        for t in self.folded(rolled, &self.graph.nodes[*by], here)? {
                            if is.insert(t, ZERO).is_some_and(|known| known != ZERO) {
                                return None;
                            }
                        }
                    }
                    Role::Computed { by } => {
                        let (_, node) = self.node(here)?;
                        let model = &self.graph.nodes[*by];
                        if !self.same_operator(model, node) {
                            return None;
                        }
                        for (a, b) in model.inputs.iter().zip(&node.inputs) {
                            match (a, b) {
                                (Some(a), Some(b)) => open.push((*a, *b)),
                                (None, None) => {}
                                _ => return None,
                            }
                        }
                    }
                }
            }
            trips.push(is);
        }
        Some(trips)
    }

    /// Whether `here` is what a node of the template gives for carried zeros: then the carried tensors it reads.
    fn folded(&self, rolled: &Rolled, model: &Node, here: TensorId) -> Option<Vec<TensorId>> {
        let zeros = |t: TensorId| {
            let tensor = &self.graph.tensors[t];
            (tensor.dtype == kinglet::DType::F32).then(|| Array::f32(&tensor.shape, vec![0.0; tensor.len()]))
        };
        let mut carried = Vec::new();
        let mut values = Vec::new();
        for &t in model.inputs.iter().flatten() {
            values.push(match (&rolled.roles[&t], self.graph.value(t)) {
                (Role::Carried { .. }, _) => {
                    carried.push(t);
                    zeros(t)?
                }
                (_, Some(value)) => value.clone(),
                _ => return None,
            });
        }
        let mut values = values.iter();
        let operands: Vec<Option<&Array>> = model.inputs.iter().map(|t| t.and_then(|_| values.next())).collect();
        let same = !carried.is_empty() && fold::first(self.graph, model, &operands)? == *self.graph.value(here)?;
        same.then_some(carried)
    }

    fn same_operator(&self, a: &Node, b: &Node) -> bool {
        let kind = |n: &Node| {
            let t = &self.graph.tensors[n.output];
            (t.dtype, &t.shape, &t.quant)
        };
        a.op == b.op && a.inputs.len() == b.inputs.len() && a.more.is_empty() && b.more.is_empty() && kind(a) == kind(b)
    }

    /// The tensor that `t` is one position of along `axis`, and which.
    fn sliced(&self, t: TensorId, axis: usize) -> Option<(TensorId, usize)> {
        let (_, node) = self.node(t)?;
        let Op::Slice { starts, steps } = &node.op else { return None };
        let x = node.inputs[0]?;
        let (own, whole) = (&self.graph.tensors[t].shape, &self.graph.tensors[x].shape);
        let others = (0..own.len()).all(|d| d == axis || own[d] == whole[d]);
        (own[axis] == 1 && others && steps.iter().all(|&s| s == 1)).then_some((x, starts[axis]))
    }

    /// Whether nothing outside the recurrence reads what its trips compute, but for the last values of what is carried.
    fn is_closed(&self, rolled: &Rolled, trips: &[HashMap<TensorId, TensorId>]) -> bool {
        let computed = |t: &TensorId| matches!(rolled.roles[t], Role::Computed { .. });
        let mut inside: HashSet<TensorId> = HashSet::new();
        for is in trips {
            inside.extend(is.iter().filter(|(t, _)| computed(t)).map(|(_, &here)| here));
        }
        let last: HashSet<TensorId> = rolled.carried.iter().map(|&(_, _, last)| last).collect();
        let read_outside = |node: &Node| {
            !inside.contains(&node.output)
                && node.inputs.iter().flatten().any(|t| inside.contains(t) && !last.contains(t))
        };
        let readers = self.graph.nodes.iter().enumerate().any(|(i, n)| i != rolled.stack && read_outside(n));
        !readers && !self.graph.outputs.iter().any(|t| inside.contains(t) && !last.contains(t))
    }
}

/// The comparison of two neighbouring trips, which shows what their tensors are.
struct Template<'a, 'b> {
    search: &'b Search<'a>,
    roles: HashMap<TensorId, Role>,
    nodes: Vec<usize>,
    /// For each computed tensor what it is in the next trip.
    next_of: HashMap<TensorId, TensorId>,
}

impl Template<'_, '_> {
    /// Compares `a` of one trip with `b` of the next. Nodes are listed once what they read is.
    fn compare(&mut self, a: TensorId, b: TensorId) -> Option<()> {
        enum Task {
            Compare(TensorId, TensorId),
            List(usize),
        }
        let mut tasks = vec![Task::Compare(a, b)];
        while let Some(task) = tasks.pop() {
            let (a, b) = match task {
                Task::List(node) => {
                    self.nodes.push(node);
                    continue;
                }
                Task::Compare(a, b) => (a, b),
            };
            if let Some(known) = self.roles.get(&a) {
                let agrees = match known {
                    Role::Same => a == b,
                    Role::Computed { .. } => self.next_of.get(&a) == Some(&b),
                    Role::Slice { .. } => true,
                    Role::Carried { as_next } => *as_next == b,
                };
                if !agrees {
                    return None;
                }
                continue;
            }
            if a == b {
                self.roles.insert(a, Role::Same);
                continue;
            }
            if self.next_of.contains_key(&b) {
                // This trip computes b, and the next one reads it where this one reads a.
                self.roles.insert(a, Role::Carried { as_next: b });
                continue;
            }
            if let Some(role) = self.slice(a, b) {
                self.roles.insert(a, role);
                continue;
            }
            let ((i, na), (_, nb)) = (self.search.node(a)?, self.search.node(b)?);
            if !self.search.same_operator(na, nb) || self.next_of.len() >= MOST_NODES {
                return None;
            }
            self.roles.insert(a, Role::Computed { by: i });
            self.next_of.insert(a, b);
            tasks.push(Task::List(i));
            for (x, y) in na.inputs.iter().zip(&nb.inputs) {
                match (x, y) {
                    (Some(x), Some(y)) => tasks.push(Task::Compare(*x, *y)),
                    (None, None) => {}
                    _ => return None,
                }
            }
        }
        Some(())
    }

    /// Two neighbouring positions of one tensor.
    fn slice(&self, a: TensorId, b: TensorId) -> Option<Role> {
        (0..self.search.graph.tensors[a].shape.len()).find_map(|axis| {
            let (x, first) = self.search.sliced(a, axis)?;
            let (y, second) = self.search.sliced(b, axis)?;
            (x == y && second == first + 1).then_some(Role::Slice { of: x, axis, first })
        })
    }
}

impl Rolled {
    /// Writes the loop in place of the stack.
    fn write(self, graph: &mut Graph) {
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
        for &i in &self.nodes {
            let node = &graph.nodes[i];
            let output = add(&mut inner, graph.tensors[node.output].clone());
            ids.insert(node.output, output);
            let operands = node.inputs.iter().map(|t| t.map(|t| ids[&t])).collect();
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
        for (&(_, _, last), &new) in self.carried.iter().zip(&lasts) {
            graph.replace_uses(last, new);
        }
        let stack = graph.nodes[self.stack].clone();
        // Position by position along the stack's axis: the trips come right before it, and both become one.
        let mut perm: Vec<usize> = (1..=part.len()).collect();
        perm.insert(self.axis, 0);
        let moved: Vec<usize> = perm.iter().map(|&d| if d == 0 { self.trips } else { part[d - 1] }).collect();
        let turned = graph.add_like(all, &moved, ":turned");
        source.extend(stack.source.iter().cloned());
        let body = Body { graph: inner, trips: self.trips, carried: self.carried.len(), scanned };
        let op = Op::Loop(Box::new(body));
        let looped = Node { more: outputs[1..].to_vec(), ..Node::new(op, inputs, outputs[0], source.clone()) };
        graph.nodes.push(looped);
        graph.nodes.push(Node::new(Op::Transpose { perm }, vec![Some(all)], turned, stack.source.clone()));
        graph.nodes[self.stack] = Node::new(Op::Reshape, vec![Some(turned)], stack.output, stack.source);
        graph.sort();
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
