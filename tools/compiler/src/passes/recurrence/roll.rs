//! Unrolled recurrences rolled up: a stack of results that are computed in the same way, each from the one before it and the
//! next slice of some tensors, is a loop.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::super::util::{Links, readers};
use super::rolled::{Role, Rolled, ZERO};
use super::rounding::{self, Roundings};
use super::walk::Known;
use crate::array::Array;
use crate::fold;
use crate::graph::{Graph, Node, Op, TensorId};

/// Fewest results worth a loop.
const FEWEST: usize = 4;
/// Most nodes of one trip: what is longer is not the body of a recurrence that was written out.
const MOST_NODES: usize = 512;

/// Rolls up every unrolled recurrence.
pub fn roll(graph: &mut Graph) {
    let links = Links::new(graph);
    let found = search(graph, &links, &Roundings::default());
    let mut instead = HashMap::new();
    for rolled in found {
        rolled.append(graph).commit(graph, &mut instead);
    }
    if !instead.is_empty() {
        graph.replace_uses(&instead);
        graph.sort();
        super::super::cleanup::cleanup(graph);
    }
}

/// The unrolled recurrences of a graph if their roundings are left out, those alone that have any.
pub fn rounded(graph: &Graph, known: &Known) -> Vec<Rolled> {
    if known.roundings.is_empty() {
        return Vec::new();
    }
    let mut found = search(graph, &known.links, &known.roundings);
    found.retain(|rolled| rolled.roundings > 0);
    found
}

/// Every unrolled recurrence, no two of which share a node.
fn search(graph: &Graph, links: &Links, roundings: &Roundings) -> Vec<Rolled> {
    let stacks = graph.nodes.iter().filter(|n| matches!(n.op, Op::Concat { .. }) && n.inputs.len() >= FEWEST);
    let mut stacks = stacks.peekable();
    if stacks.peek().is_none() {
        return Vec::new();
    }
    let outputs = graph.outputs.iter().copied().collect();
    let search = Search { graph, links, roundings, readers: readers(graph), outputs };
    let mut taken: HashSet<usize> = HashSet::new();
    let mut found = Vec::new();
    for stack in stacks {
        let Some(rolled) = search.find(stack.output) else { continue };
        if taken.contains(&rolled.stack) || rolled.members.iter().any(|i| taken.contains(i)) {
            continue;
        }
        taken.insert(rolled.stack);
        taken.extend(&rolled.members);
        found.push(rolled);
    }
    found
}

/// Operations that it takes to compare a node of a trip with the template's.
const FOLLOWING: u64 = 256;

struct Search<'a> {
    graph: &'a Graph,
    links: &'a Links,
    /// Roundings that are looked through.
    roundings: &'a Roundings,
    readers: HashMap<TensorId, Vec<usize>>,
    outputs: HashSet<TensorId>,
}

/// What the tensors of the template are in one trip.
type Trip = HashMap<TensorId, TensorId>;

impl<'a> Search<'a> {
    fn node(&self, t: TensorId) -> Option<(usize, &'a Node)> {
        if self.graph.tensors[t].value.is_some() {
            return None;
        }
        self.links.index(t).map(|i| (i, &self.graph.nodes[i]))
    }

    /// What a node reads, roundings left out; those that do round go into `passed`.
    fn read(&self, node: &Node, passed: &mut HashSet<TensorId>) -> Vec<Option<TensorId>> {
        node.inputs.iter().map(|t| t.map(|t| self.roundings.real(t, passed))).collect()
    }

    fn find(&self, stack: TensorId) -> Option<Rolled> {
        let (at, node) = self.node(stack)?;
        let Op::Concat { axis } = node.op else { return None };
        let mut passed = HashSet::new();
        let results: Option<Vec<TensorId>> = self.read(node, &mut passed).into_iter().collect();
        let results = results.filter(|r| r.len() >= FEWEST)?;
        let kind = |t: TensorId| (&self.graph.tensors[t].shape, &self.graph.tensors[t].quant);
        if results.iter().any(|&t| kind(t) != kind(results[0])) {
            return None;
        }
        let mut template = Template { search: self, roles: HashMap::new(), nodes: Vec::new(), next_of: HashMap::new() };
        template.compare(results[1], results[2])?;
        let Template { roles, nodes, .. } = template;
        let with_operands = |i: usize| (i, self.read(&self.graph.nodes[i], &mut HashSet::new()));
        let nodes = nodes.into_iter().map(with_operands).collect();
        let mut carried: Vec<TensorId> =
            roles.iter().filter(|(_, role)| matches!(role, Role::Carried { .. })).map(|(&t, _)| t).collect();
        carried.sort_unstable();
        if carried.is_empty() {
            // Results that do not depend on each other are no recurrence.
            return None;
        }
        let rolled = Rolled {
            stack: at,
            axis,
            trips: results.len(),
            nodes,
            roles,
            result: results[1],
            carried: Vec::new(),
            members: Vec::new(),
            roundings: 0,
        };
        let steps = results.len().saturating_mul(rolled.nodes.len());
        if !self.graph.budget.take(FOLLOWING.saturating_mul(steps as u64), 0) {
            return None;
        }
        let trips = self.follow(&rolled, &results, &mut passed)?;
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
        let computed = |t: &TensorId| matches!(rolled.roles[t], Role::Computed { .. });
        let members = trips.iter().flatten().filter(|(t, _)| computed(t)).filter_map(|(_, &t)| self.links.index(t));
        let rolled = Rolled { carried, members: members.collect(), roundings: passed.len(), ..rolled };
        (rolled.carried.iter().all(|&(t, first, _)| alike(t, first)) && self.is_closed(&rolled, &trips))
            .then_some(rolled)
    }

    /// What the tensors of the template are in each trip, if each is the template again.
    fn follow(&self, rolled: &Rolled, results: &[TensorId], passed: &mut HashSet<TensorId>) -> Option<Vec<Trip>> {
        let mut trips: Vec<Trip> = Vec::with_capacity(results.len());
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
                    Role::Computed { by } if trip == 0 && self.constant(here).is_some() => {
                        // The first trip of a recurrence that starts from zeros is folded in part.
                        for t in self.folded(rolled, &self.graph.nodes[*by], here, passed)? {
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
                        for pair in self.read(model, passed).into_iter().zip(self.read(node, passed)) {
                            match pair {
                                (Some(a), Some(b)) => open.push((a, b)),
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
    fn folded(
        &self,
        rolled: &Rolled,
        model: &Node,
        here: TensorId,
        passed: &mut HashSet<TensorId>,
    ) -> Option<Vec<TensorId>> {
        let zeros = |t: TensorId| {
            let tensor = &self.graph.tensors[t];
            (tensor.dtype == kinglet::DType::F32).then(|| Array::f32(&tensor.shape, vec![0.0; tensor.len()]))
        };
        let mut carried = Vec::new();
        let mut values = Vec::new();
        for t in self.read(model, passed).into_iter().flatten() {
            values.push(match rolled.roles.get(&t)? {
                Role::Carried { .. } => {
                    carried.push(t);
                    zeros(t)?
                }
                _ => self.constant(t)?.into_owned(),
            });
        }
        let mut values = values.iter();
        let operands: Vec<Option<&Array>> = model.inputs.iter().map(|t| t.and_then(|_| values.next())).collect();
        let same = || Some(fold::first(self.graph, model, &operands)?.reals() == self.constant(here)?.reals());
        (!carried.is_empty() && same()?).then_some(carried)
    }

    /// The reals of a constant, which may be dequantised.
    fn constant(&self, t: TensorId) -> Option<Cow<'a, Array>> {
        rounding::constant(self.graph, self.links, t)
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
    fn is_closed(&self, rolled: &Rolled, trips: &[Trip]) -> bool {
        let computed = |t: &TensorId| matches!(rolled.roles[t], Role::Computed { .. });
        let inside: HashSet<TensorId> =
            self.with_roundings(trips.iter().flatten().filter(|(t, _)| computed(t)).map(|(_, &here)| here));
        let last = self.with_roundings(rolled.carried.iter().map(|&(_, _, last)| last));
        let within = |&i: &usize| i == rolled.stack || inside.contains(&self.graph.nodes[i].output);
        let closed =
            |t: &TensorId| !self.outputs.contains(t) && self.readers.get(t).is_none_or(|r| r.iter().all(within));
        inside.difference(&last).all(closed)
    }

    /// Tensors with the roundings of them that are looked through.
    fn with_roundings(&self, tensors: impl Iterator<Item = TensorId>) -> HashSet<TensorId> {
        let mut open: Vec<TensorId> = tensors.collect();
        let mut all = HashSet::new();
        while let Some(t) = open.pop() {
            if all.insert(t) {
                open.extend(self.roundings.behind(t));
            }
        }
        all
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
            let mut passed = HashSet::new();
            for pair in self.search.read(na, &mut passed).into_iter().zip(self.search.read(nb, &mut passed)) {
                match pair {
                    (Some(x), Some(y)) => tasks.push(Task::Compare(x, y)),
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
