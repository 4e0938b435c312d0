//! Roundings in the middle of a recurrence. A quantiser that writes `QuantizeLinear` and `DequantizeLinear` around every
//! operator rounds the decays, the increments and the state of a recurrence too, in every frame to another grid. The sequence
//! steps go on in reals and leave these roundings out; what goes into a recurrence and what comes out of it keeps its own.
//!
//! A pair that may be left out does nothing but round. One whose grid begins or ends at zero may stand for a ReLU that the
//! quantiser dropped, and stays, unless what it rounds never has the sign that the grid lacks.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::super::util::Links;
use crate::array::Array;
use crate::fold;
use crate::graph::{BinaryOp, Graph, Node, Op, TensorId, UnaryOp};

/// Most movements looked through to find that a pair gives back what it got, and most pairs in a row that are left out.
const FURTHEST: usize = 8;

/// The pairs of a graph that only round.
#[derive(Default)]
pub struct Roundings {
    /// For the result of each pair what it rounds, and whether it does round that.
    before: HashMap<TensorId, (TensorId, bool)>,
    /// For each tensor that is rounded the tensors of its pairs.
    behind: HashMap<TensorId, Vec<TensorId>>,
    /// The integers between the two halves of the pairs, and whether those do round.
    integers: HashMap<TensorId, bool>,
}

impl Roundings {
    /// Finds the pairs.
    pub fn of(graph: &Graph, links: &Links) -> Self {
        let mut all = Roundings::default();
        let mut signs = Signs { graph, links, known: HashMap::new() };
        for node in graph.nodes.iter().filter(|n| matches!(n.op, Op::Dequantize)) {
            let Some(q) = node.inputs[0].filter(|&q| graph.tensors[q].value.is_none()) else { continue };
            let quantize = links.node(graph, q).filter(|n| matches!(n.op, Op::Quantize));
            let Some(x) = quantize.and_then(|n| n.inputs[0]) else { continue };
            let exact = on_grid(graph, links, x, q);
            if exact || signs.fit(x, q) {
                all.before.insert(node.output, (x, !exact));
                all.behind.entry(x).or_default().extend([q, node.output]);
                all.integers.insert(q, !exact);
            }
        }
        all
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.before.is_empty()
    }

    /// What the pair that gives `t` rounds, and whether it does round that: it may lie on the pair's grid already.
    pub fn before(&self, t: TensorId) -> Option<(TensorId, bool)> {
        self.before.get(&t).copied()
    }

    /// The tensor of which `t` is the rounding of a rounding of …; `passed` gets the tensors of those on the way that do round.
    pub fn real(&self, mut t: TensorId, passed: &mut HashSet<TensorId>) -> TensorId {
        for _ in 0..FURTHEST {
            let Some((x, rounds)) = self.before(t) else { break };
            if rounds {
                passed.insert(t);
            }
            t = x;
        }
        t
    }

    /// The integers and the reals of every pair that rounds `t`.
    pub fn behind(&self, t: TensorId) -> &[TensorId] {
        self.behind.get(&t).map_or(&[], |v| v)
    }

    /// Whether the pair whose halves have these integers between them does round; `None` if there is no such pair.
    pub fn between(&self, t: TensorId) -> Option<bool> {
        self.integers.get(&t).copied()
    }
}

/// The constant that `node` dequantises.
pub fn dequantized_constant(graph: &Graph, node: &Node) -> Option<TensorId> {
    matches!(node.op, Op::Dequantize).then(|| node.inputs[0].filter(|&t| graph.tensors[t].value.is_some()))?
}

/// The reals of a constant, which may be dequantised.
pub fn constant<'a>(graph: &'a Graph, links: &Links, t: TensorId) -> Option<Cow<'a, Array>> {
    if let Some(value) = graph.value(t) {
        return graph.tensors[t].quant.is_none().then_some(Cow::Borrowed(value));
    }
    let node = links.node(graph, t)?;
    let value = graph.value(dequantized_constant(graph, node)?);
    Some(Cow::Owned(fold::node(graph, node, &[value])))
}

/// Whether a tensor is known to be zero everywhere, as a constant of reals or of integers.
pub fn is_zero(graph: &Graph, links: &Links, t: TensorId) -> bool {
    if let Some(value) = graph.value(t) {
        return super::axes::is_zero(value);
    }
    let Some(q) = links.node(graph, t).and_then(|n| dequantized_constant(graph, n)) else { return false };
    let (Some(value), Some(quant)) = (graph.value(q), &graph.tensors[q].quant) else { return false };
    quant.single().is_some_and(|(_, zero)| value.ints().iter().all(|&v| v == i64::from(zero)))
}

/// Which signs tensors have.
struct Signs<'a> {
    graph: &'a Graph,
    links: &'a Links,
    known: HashMap<TensorId, Option<Sign>>,
}

/// A sign that all elements of a tensor have, zeros aside.
#[derive(Clone, Copy, PartialEq)]
enum Sign {
    Plus,
    Minus,
}

impl Signs<'_> {
    /// Whether the grid of `q` has steps wherever `x` may lie, as far as signs tell.
    fn fit(&mut self, x: TensorId, q: TensorId) -> bool {
        match self.of_grid(q) {
            Some(None) => true,
            Some(sign) => self.of(x, FURTHEST) == sign,
            None => false,
        }
    }

    /// The sign that a grid has, if it lies on one side of zero; nothing for what is no grid.
    fn of_grid(&self, q: TensorId) -> Option<Option<Sign>> {
        let tensor = &self.graph.tensors[q];
        let (quant, (lo, hi)) = (tensor.quant.as_ref()?, tensor.dtype.quantized_range()?);
        let all = |of: fn(i32, i32) -> bool, end: i32| quant.zero_points.iter().all(|&z| of(z, end));
        Some(match (all(|z, lo| z > lo, lo) && all(|z, hi| z < hi, hi), all(|z, lo| z == lo, lo)) {
            (true, _) => None,
            (_, true) => Some(Sign::Plus),
            _ if all(|z, hi| z == hi, hi) => Some(Sign::Minus),
            // Some channels on this side and some on that.
            _ => return None,
        })
    }

    /// The sign of a tensor, looked for no further than `depth` nodes back.
    fn of(&mut self, t: TensorId, depth: usize) -> Option<Sign> {
        if let Some(&known) = self.known.get(&t) {
            return known;
        }
        let sign = self.look(t, depth.checked_sub(1)?);
        self.known.insert(t, sign);
        sign
    }

    fn look(&mut self, t: TensorId, depth: usize) -> Option<Sign> {
        let (graph, links) = (self.graph, self.links);
        if let Some(value) = graph.value(t) {
            return sign_of(value.reals().iter().copied());
        }
        let node = links.node(graph, t)?;
        let x = node.inputs.first().copied().flatten()?;
        match &node.op {
            Op::Unary { op: UnaryOp::Exp | UnaryOp::Softplus | UnaryOp::Sigmoid | UnaryOp::Relu, .. } => {
                Some(Sign::Plus)
            }
            Op::Unary { op: UnaryOp::Neg, .. } => match self.of(x, depth)? {
                Sign::Plus => Some(Sign::Minus),
                Sign::Minus => Some(Sign::Plus),
            },
            Op::Binary(BinaryOp::Mul) => match (self.of(x, depth)?, self.of(node.inputs[1]?, depth)?) {
                (a, b) if a == b => Some(Sign::Plus),
                _ => Some(Sign::Minus),
            },
            Op::Dequantize => match (graph.value(x), graph.tensors[x].quant.as_ref()?.single()) {
                (Some(value), Some((_, zero))) => sign_of(value.ints().iter().map(|&v| v as f64 - f64::from(zero))),
                _ => self.of_grid(x)?,
            },
            Op::Reshape | Op::Transpose { .. } | Op::Slice { .. } | Op::Expand => self.of(x, depth),
            _ => None,
        }
    }
}

fn sign_of(values: impl Iterator<Item = f64>) -> Option<Sign> {
    let (mut plus, mut minus) = (true, true);
    for v in values {
        plus &= v >= 0.0;
        minus &= v <= 0.0;
    }
    if plus { Some(Sign::Plus) } else { Some(Sign::Minus).filter(|_| minus) }
}

/// Whether the reals of `x` lie on the grid of `q`: they are dequantised from such a grid and were only moved since.
fn on_grid(graph: &Graph, links: &Links, x: TensorId, q: TensorId) -> bool {
    let from = links.node(graph, arranged(graph, links, x)).filter(|n| matches!(n.op, Op::Dequantize));
    let grid = |t: TensorId| (graph.tensors[t].dtype, graph.tensors[t].quant.as_ref().and_then(|q| q.single()));
    from.and_then(|n| n.inputs[0]).is_some_and(|p| grid(p) == grid(q) && grid(q).1.is_some())
}

/// What the elements of `x` (and zeros around them) are taken from.
fn arranged(graph: &Graph, links: &Links, mut x: TensorId) -> TensorId {
    for _ in 0..FURTHEST {
        let moves = |n: &&Node| match &n.op {
            Op::Reshape | Op::Transpose { .. } | Op::Slice { .. } | Op::Expand => true,
            Op::Pad { value, mode, .. } => *mode == crate::graph::PadMode::Constant && *value == 0.0,
            _ => false,
        };
        match links.node(graph, x).filter(moves).and_then(|n| n.inputs[0]) {
            Some(from) => x = from,
            None => break,
        }
    }
    x
}
