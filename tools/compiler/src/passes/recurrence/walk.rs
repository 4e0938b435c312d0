//! Reading a loop from its results backwards, through its body and out of it.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use super::super::util::Links;
use super::axes::{Axes, Label, TIME, aligned, fresh, through_movement};
use super::rounding::{self, Roundings};
use crate::array::Array;
use crate::graph::{BinaryOp, Body, Graph, Node, Op, Tensor, TensorId};

/// Names of the axes of a carried value's next value, until it is known which is which.
const NEXT: Label = 2000;
/// Most factors that a product is taken apart into: no recurrence has more, and of `x·x` again and again there are without end.
const MOST_FACTORS: usize = 8;

/// A tensor of the body or of the graph around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// In the body.
    Body(TensorId),
    /// Outside.
    Outer(TensorId),
}

/// A tensor as it is seen from the end of a search: what it is, and what its axes stand for.
pub type Seen = (Place, Axes);

/// What a search asks of a graph: who computes and reads its tensors, and which of its nodes do nothing but round.
pub struct Known {
    /// Who computes and reads its tensors.
    pub links: Links,
    /// Its roundings.
    pub roundings: Roundings,
}

impl Known {
    /// Of a graph.
    pub fn of(graph: &Graph) -> Self {
        let links = Links::new(graph);
        let roundings = Roundings::of(graph, &links);
        Known { links, roundings }
    }

    /// Of a graph none of whose roundings may be left out.
    pub fn exactly(graph: &Graph) -> Self {
        Known { links: Links::new(graph), roundings: Roundings::default() }
    }
}

/// A loop with the graph around it.
pub struct Scope<'a> {
    /// The graph around the loop.
    pub graph: &'a Graph,
    /// The loop.
    pub node: &'a Node,
    /// What it computes.
    pub body: &'a Body,
    outside: &'a Known,
    inside: Known,
    /// Which input of the body a tensor is.
    inputs: HashMap<TensorId, usize>,
    /// The roundings that the search left out.
    passed: RefCell<HashSet<Place>>,
}

impl<'a> Scope<'a> {
    /// A loop, which need not be among the nodes of the graph yet.
    pub fn new(graph: &'a Graph, node: &'a Node, outside: &'a Known) -> Option<Self> {
        let Op::Loop(body) = &node.op else { return None };
        let inside = Known::of(&body.graph);
        let inputs = body.graph.inputs.iter().enumerate().rev().map(|(k, &t)| (t, k)).collect();
        Some(Scope { graph, node, body, outside, inside, inputs, passed: RefCell::default() })
    }

    /// Begins a search: the next value and the slice of a loop that carries one value and stacks one, all in reals but for
    /// roundings.
    pub fn single(&self) -> Option<(Place, Place)> {
        self.passed.borrow_mut().clear();
        let graph = &self.body.graph;
        let (&[next, slice], 1) = (&graph.outputs[..], self.body.carried) else { return None };
        let real =
            |(t, tensor): (TensorId, &Tensor)| tensor.quant.is_none() || self.inside.roundings.between(t).is_some();
        graph.tensors.iter().enumerate().all(real).then_some((Place::Body(next), Place::Body(slice)))
    }

    /// How many tensors of the file are rounded and the search has left them as they were.
    pub fn left_out(&self) -> usize {
        self.passed.borrow().len()
    }

    /// Whether a tensor is there outside the loop, or can be: it is a constant of the body.
    pub fn is_available(&self, place: Place) -> bool {
        match place {
            Place::Outer(_) => true,
            Place::Body(t) => self.body.graph.value(t).is_some(),
        }
    }

    /// Whether a tensor is not quantised.
    pub fn is_real(&self, place: Place) -> bool {
        let (graph, _, t) = self.graph_of(place);
        graph.tensors[t].quant.is_none()
    }

    /// The reals of a constant, which may be dequantised.
    pub fn constant(&self, place: Place) -> Option<Cow<'a, Array>> {
        let (graph, known, t) = self.graph_of(place);
        rounding::constant(graph, &known.links, t)
    }

    /// Where the next value `next` is computed, its axes having names of their own.
    pub fn computed(&self, next: Place) -> Seen {
        self.unrounded((next, fresh(self.shape(next), NEXT)))
    }

    /// The axes of the carried value in the names of `state`, which are those of what [`Scope::computed`] found with the axes
    /// `named`.
    pub fn carried_axes(&self, next: Place, named: &Axes, state: &Axes) -> Axes {
        let renamed = |label: Option<Label>| {
            let d = named.iter().position(|n| label.is_some() && *n == label)?;
            state[d]
        };
        fresh(self.shape(next), NEXT).into_iter().map(renamed).collect()
    }

    /// The two operands of an elementwise node.
    pub fn operands(&self, place: Place, node: &Node, axes: &Axes) -> Option<[Seen; 2]> {
        let (a, b) = (self.operand(place, node, 0)?, self.operand(place, node, 1)?);
        Some([(a, aligned(axes, self.shape(a))?), (b, aligned(axes, self.shape(b))?)])
    }

    fn graph_of(&self, place: Place) -> (&'a Graph, &Known, TensorId) {
        match place {
            Place::Body(t) => (&self.body.graph, &self.inside, t),
            Place::Outer(t) => (self.graph, self.outside, t),
        }
    }

    /// The shape of a tensor.
    pub fn shape(&self, place: Place) -> &'a [usize] {
        let (graph, _, t) = self.graph_of(place);
        &graph.tensors[t].shape
    }

    /// The node that computes a tensor.
    pub fn producer(&self, place: Place) -> Option<&'a Node> {
        let (graph, known, t) = self.graph_of(place);
        if graph.tensors[t].value.is_some() { None } else { known.links.node(graph, t) }
    }

    /// Input `i` of a node that computes `place`.
    pub fn operand(&self, place: Place, node: &Node, i: usize) -> Option<Place> {
        let t = (*node.inputs.get(i)?)?;
        Some(match place {
            Place::Body(_) => Place::Body(t),
            Place::Outer(_) => Place::Outer(t),
        })
    }

    /// Follows a tensor back through what only arranges elements, and out of the body.
    pub fn strip(&self, (mut place, mut axes): Seen) -> Seen {
        loop {
            if let Some(k) = self.input(place) {
                let Some(outer) = self.node.inputs[k].filter(|_| k >= self.body.carried) else { return (place, axes) };
                if k < self.body.carried + self.body.scanned {
                    axes.insert(0, Some(TIME));
                }
                place = Place::Outer(outer);
                continue;
            }
            let Some(node) = self.producer(place) else { return (place, axes) };
            let Some(x) = self.operand(place, node, 0) else { return (place, axes) };
            match through_movement(node, self.shape(x), self.shape(place), &axes) {
                Some(through) => (place, axes) = (x, through),
                None => return (place, axes),
            }
        }
    }

    /// As [`Scope::strip`], through roundings too.
    pub fn unrounded(&self, seen: Seen) -> Seen {
        let (mut place, mut axes) = self.strip(seen);
        while let Some(before) = self.before(place) {
            (place, axes) = self.strip((before, axes));
        }
        (place, axes)
    }

    /// The axes that `of` has if `seen` is nothing but that, arranged or rounded in some way.
    pub fn is(&self, seen: Seen, of: Place) -> Option<Axes> {
        let passed = self.passed.borrow().clone();
        let (place, axes) = self.unrounded(seen);
        if place == of {
            return Some(axes);
        }
        *self.passed.borrow_mut() = passed;
        None
    }

    /// What a tensor is the rounding of.
    fn before(&self, place: Place) -> Option<Place> {
        let (_, known, t) = self.graph_of(place);
        let (before, rounds) = known.roundings.before(t)?;
        if rounds {
            self.passed.borrow_mut().insert(place);
        }
        Some(match place {
            Place::Body(_) => Place::Body(before),
            Place::Outer(_) => Place::Outer(before),
        })
    }

    /// Which input of the body a tensor is.
    pub fn input(&self, place: Place) -> Option<usize> {
        match place {
            Place::Body(t) => self.inputs.get(&t).copied(),
            Place::Outer(_) => None,
        }
    }

    /// The factors of a product, if they are few. What has all the axes of `split` is of the recurrence alone: roundings of it
    /// are left out, and outside the body only such products are taken apart. What has fewer is computed once and may well be
    /// a product itself.
    pub fn factors(&self, seen: Seen, split: impl Fn(&Axes) -> bool) -> Option<Vec<Seen>> {
        let (mut open, mut found) = (vec![seen], Vec::new());
        while let Some(seen) = open.pop() {
            let (mut place, mut axes) = self.strip(seen);
            let inner = split(&axes);
            if inner {
                (place, axes) = self.unrounded((place, axes));
            }
            let whole = matches!(place, Place::Outer(_)) && !inner;
            match self.multiplied(place, &axes).filter(|_| !whole) {
                Some([a, b]) => open.extend([b, a]),
                None => found.push((place, axes)),
            }
            if open.len() + found.len() > MOST_FACTORS {
                return None;
            }
        }
        Some(found)
    }

    /// The two operands of a product of each element by each.
    pub fn multiplied(&self, place: Place, axes: &Axes) -> Option<[Seen; 2]> {
        let node = self.producer(place)?;
        match &node.op {
            Op::Binary(BinaryOp::Mul) => self.operands(place, node, axes),
            Op::MatMul { .. } => {
                let ([a, b], summed) = self.product(place, axes, 0)?;
                (summed == 1).then_some([(self.operand(place, node, 0)?, a), (self.operand(place, node, 1)?, b)])
            }
            _ => None,
        }
    }

    /// The axes of the two operands of a matrix product, whose summed axis is to be called `label`, and its extent.
    pub fn product(&self, place: Place, axes: &Axes, label: u32) -> Option<([Axes; 2], usize)> {
        let node = self.producer(place)?;
        let Op::MatMul { transpose_a, transpose_b, post } = &node.op else { return None };
        if *post != Default::default() || node.inputs.iter().flatten().count() != 2 || axes.len() < 2 {
            return None;
        }
        let (a, b) = (self.operand(place, node, 0)?, self.operand(place, node, 1)?);
        let (sa, sb) = (self.shape(a), self.shape(b));
        let (lead, last) = axes.split_at(axes.len() - 2);
        let summed = *sa.get(if *transpose_a { sa.len().checked_sub(2)? } else { sa.len().checked_sub(1)? })?;
        let label = (summed != 1).then_some(label);
        let operand = |shape: &[usize], rows: Option<u32>, columns: Option<u32>| -> Option<Axes> {
            let own = aligned(&lead.to_vec(), shape.get(..shape.len().checked_sub(2)?)?)?;
            Some([&own[..], &[rows, columns]].concat())
        };
        let (ra, ca) = if *transpose_a { (label, last[0]) } else { (last[0], label) };
        let (rb, cb) = if *transpose_b { (last[1], label) } else { (label, last[1]) };
        Some(([operand(sa, ra, ca)?, operand(sb, rb, cb)?], summed))
    }
}

/// A tensor that a search ended at, as one of the graph around the loop: constants of the body are shared with it.
pub fn outside(graph: &mut Graph, body: &Body, place: Place) -> Option<TensorId> {
    match place {
        Place::Outer(t) => Some(t),
        Place::Body(t) => {
            body.graph.tensors[t].value.is_some().then(|| graph.add_tensor(body.graph.tensors[t].clone()))
        }
    }
}
