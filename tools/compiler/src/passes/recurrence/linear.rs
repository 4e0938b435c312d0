//! The Legendre memory without a loop: as a convolution with its impulse response, or as a product of spectra.
//!
//! Whatever is computed from one time series by constant linear operators alone is known by experiments in the evaluator; see
//! [`super::response`]. Here such regions are found, and one that is a memory is replaced. Most series of a graph begin none:
//! what is too small, too large, or never adds up as many terms as there are frames is put aside before anything is computed.

use std::collections::{BTreeSet, HashMap, HashSet};

use kinglet::kernels::MAX_ORDER;

use super::super::util::{merged_sources, readers};
use super::axes::add_f32;
use super::response::Response;
use super::rounding::dequantized_constant;
use super::walk::Known;
use crate::array::Array;
use crate::eval;
use crate::graph::{BinaryOp, Graph, Node, Op, TensorId, UnaryOp};
use crate::legendre::DelaySystem;

/// Fewest frames and coefficients worth a search.
const FEWEST: usize = 4;
/// Most nodes that are linear in a series, and most inputs of one. A memory as a product of spectra takes about twenty, and
/// thrice as many with roundings between them.
const MOST_NODES: usize = 128;
const MOST_INPUTS: usize = 8;

/// Replaces every Legendre memory that is written without a loop.
pub fn recognise(graph: &mut Graph) {
    let series: Vec<TensorId> = (0..graph.tensors.len()).filter(|&t| frames(graph, t).is_some()).collect();
    let mut found = Vec::new();
    {
        let search = Search {
            graph,
            known: Known::of(graph),
            readers: readers(graph),
            outputs: graph.outputs.iter().copied().collect(),
        };
        let mut taken: HashSet<usize> = HashSet::new();
        for u in series {
            let Some(region) = search.region(u) else { continue };
            if region.nodes.iter().any(|i| taken.contains(i)) {
                continue;
            }
            // An impulse, the same one frame later, and what a memory is looked for with: each thrice with roundings.
            if !graph.budget.take(region.cost.saturating_mul(9), 0) {
                continue;
            }
            let response = Response::new(graph, &search.known, region.u, &region.nodes, region.exit);
            if let Some(memory) = response.memory(region.time, region.order) {
                taken.extend(&region.nodes);
                found.push((region, memory));
            }
        }
    }
    if found.is_empty() {
        return;
    }
    for (region, memory) in found {
        region.write(graph, memory);
    }
    graph.sort();
    super::super::cleanup::cleanup(graph);
}

/// The number of frames of a computed tensor that is one series: it has one axis only.
fn frames(graph: &Graph, t: TensorId) -> Option<usize> {
    let tensor = &graph.tensors[t];
    let n = tensor.len();
    let single = tensor.shape.contains(&n) && n >= FEWEST;
    (single && tensor.value.is_none() && tensor.quant.is_none() && tensor.dtype == kinglet::DType::F32).then_some(n)
}

struct Search<'a> {
    graph: &'a Graph,
    known: Known,
    readers: HashMap<TensorId, Vec<usize>>,
    outputs: HashSet<TensorId>,
}

/// Nodes that are linear in one series.
struct Region {
    u: TensorId,
    /// Nodes in order.
    nodes: Vec<usize>,
    /// The tensor that is read outside.
    exit: TensorId,
    /// Its axis of frames.
    time: usize,
    /// Its axis of coefficients.
    order: usize,
    /// Tensors whose roundings are left out.
    roundings: usize,
    /// Elementary operations of one experiment.
    cost: u64,
}

impl Search<'_> {
    /// Everything that is linear in `u` and constants, up to the one tensor of frames by coefficients that is read elsewhere.
    fn region(&self, u: TensorId) -> Option<Region> {
        let graph = self.graph;
        let trips = frames(graph, u)?;
        let mut nodes = self.linear_in(u)?;
        let members: HashSet<usize> = nodes.iter().copied().collect();
        let read = |t: TensorId| self.readers.get(&t).is_some_and(|r| r.iter().any(|i| !members.contains(i)));
        let left = |t: &TensorId| read(*t) || self.outputs.contains(t);
        // A memory does more than to arrange the elements of u, and has an axis of coefficients.
        let grid = |t: TensorId| {
            let shape = &graph.tensors[t].shape;
            let solid: Vec<usize> = (0..shape.len()).filter(|&d| shape[d] != 1).collect();
            let &[a, b] = &solid[..] else { return None };
            let (time, order) = match (shape[a] == trips, shape[b] == trips) {
                // Of two equal axes that of time is told by experiment; see `Response::memory`.
                (true, _) => (a, b),
                (_, true) => (b, a),
                _ => return None,
            };
            (FEWEST..=MAX_ORDER).contains(&shape[order]).then_some((t, time, order))
        };
        let exits = nodes.iter().map(|&i| graph.nodes[i].output).filter(left);
        let (exit, time, order) = exits.map(|t| self.before_last_rounding(t, &members)).find_map(grid)?;
        // Only what leads to the exit.
        let mut needed: HashSet<TensorId> = HashSet::from([exit]);
        for &i in nodes.iter().rev() {
            let node = &graph.nodes[i];
            if needed.contains(&node.output) {
                needed.extend(node.inputs.iter().flatten());
            }
        }
        nodes.retain(|&i| needed.contains(&graph.nodes[i].output));
        let cost = nodes.iter().map(|&i| eval::cost(graph, &graph.nodes[i])).fold(0, u64::saturating_add);
        let adds_up = nodes.iter().any(|&i| terms(graph, &graph.nodes[i]) >= trips);
        let pairs = nodes.iter().filter(|&&i| {
            let node = &graph.nodes[i];
            matches!(node.op, Op::Quantize) && self.known.roundings.between(node.output) == Some(true)
        });
        let constants = needed.iter().filter(|&&t| self.quantised_constant(t).is_some());
        let roundings = pairs.count() + constants.count();
        adds_up.then_some(Region { u, nodes, exit, time, order, roundings, cost })
    }

    /// The nodes that are linear in `u`, in order, if they are few.
    fn linear_in(&self, u: TensorId) -> Option<Vec<usize>> {
        let mut inside: HashSet<TensorId> = HashSet::from([u]);
        // What has the elements of u itself.
        let mut arranged = inside.clone();
        let mut nodes = Vec::new();
        let mut open: BTreeSet<usize> = self.readers.get(&u)?.iter().copied().collect();
        // In the order of the graph, so that a node comes after those that compute its inputs.
        while let Some(i) = open.pop_first() {
            let node = &self.graph.nodes[i];
            if node.inputs.len() > MOST_INPUTS || !self.linear(node, &inside) {
                continue;
            }
            let moves = node.op.moves_only() || matches!(node.op, Op::Quantize | Op::Dequantize);
            let of_u = moves && node.inputs.iter().flatten().all(|t| arranged.contains(t));
            // Roundings of u itself are none of the memory.
            if of_u && matches!(node.op, Op::Quantize) && self.known.roundings.between(node.output) == Some(true) {
                continue;
            }
            if nodes.len() == MOST_NODES {
                return None;
            }
            if of_u {
                arranged.insert(node.output);
            }
            inside.insert(node.output);
            nodes.push(i);
            open.extend(self.readers.get(&node.output).into_iter().flatten());
        }
        Some(nodes)
    }

    /// Whether a node is linear in the tensors `inside`, everything else it reads being constant, and adds nothing to them.
    /// Roundings count as linear: they are left out.
    fn linear(&self, node: &Node, inside: &HashSet<TensorId>) -> bool {
        let graph = self.graph;
        let inputs: Vec<TensorId> = node.inputs.iter().flatten().copied().collect();
        let variable = inputs.iter().filter(|t| inside.contains(t)).count();
        match &node.op {
            Op::Quantize => return variable == 1 && self.known.roundings.between(node.output).is_some(),
            Op::Dequantize => return variable == 1,
            _ => {}
        }
        let constant = |t: TensorId| graph.tensors[t].value.is_some() || self.quantised_constant(t).is_some();
        let known = inputs.iter().all(|&t| constant(t) || inside.contains(&t));
        let quantised = inputs.iter().chain([&node.output]).any(|&t| graph.tensors[t].quant.is_some());
        if !known || quantised || variable == 0 {
            return false;
        }
        match &node.op {
            Op::Reshape | Op::Transpose { .. } | Op::Slice { .. } | Op::Expand => true,
            Op::Concat { .. } => {
                inputs.iter().all(|t| inside.contains(t) || graph.value(*t).is_some_and(super::axes::is_zero))
            }
            Op::Pad { value, mode, .. } => *mode == crate::graph::PadMode::Constant && *value == 0.0,
            Op::Binary(BinaryOp::Add | BinaryOp::Sub) => variable == 2,
            Op::Binary(BinaryOp::Mul) => variable == 1,
            // The bound on what roundings of constants can do holds for sums and products.
            Op::Binary(BinaryOp::Div) => {
                variable == 1 && inside.contains(&inputs[0]) && graph.tensors[inputs[1]].value.is_some()
            }
            Op::Unary { op: UnaryOp::Neg, .. } => true,
            Op::MatMul { post, .. } => variable == 1 && inputs.len() == 2 && *post == Default::default(),
            Op::Conv { post, .. } => inside.contains(&inputs[0]) && inputs.len() == 2 && *post == Default::default(),
            _ => false,
        }
    }

    /// The constant of integers that `t` is dequantised from.
    fn quantised_constant(&self, t: TensorId) -> Option<TensorId> {
        self.known.links.node(self.graph, t).and_then(|n| dequantized_constant(self.graph, n))
    }

    /// What a result is before its last rounding, if nothing but arrangement follows that: the result keeps it.
    fn before_last_rounding(&self, exit: TensorId, members: &HashSet<usize>) -> TensorId {
        let (mut t, mut first) = (exit, exit);
        while let Some(i) = self.known.links.index(t).filter(|i| members.contains(i)) {
            let node = &self.graph.nodes[i];
            let follows = match node.op {
                Op::Quantize | Op::Dequantize | Op::Reshape | Op::Transpose { .. } => node.inputs[0],
                _ => None,
            };
            let Some(x) = follows else { break };
            if matches!(node.op, Op::Quantize) && self.known.roundings.between(t) == Some(true) {
                first = x;
            }
            t = x;
        }
        first
    }
}

/// How many products a node adds up for one element.
fn terms(graph: &Graph, node: &Node) -> usize {
    let shape = |k: usize| node.inputs[k].map_or(&[][..], |t| &graph.tensors[t].shape);
    match &node.op {
        Op::Conv { .. } => shape(1).iter().skip(1).product(),
        Op::MatMul { transpose_a, .. } => {
            shape(0).iter().rev().nth(usize::from(*transpose_a)).copied().unwrap_or_default()
        }
        _ => 1,
    }
}

impl Region {
    /// Writes the operator in place of the region.
    fn write(self, graph: &mut Graph, (memory, by_time): (DelaySystem, bool)) {
        let shape = graph.tensors[self.exit].shape.clone();
        let (trips, order) = (shape[self.time], shape[self.order]);
        let name = graph.tensors[self.exit].name.clone();
        let a = graph.add_constant(format!("{name}:A"), Array::f32(&[order, order], memory.a.clone()));
        let b = graph.add_constant(format!("{name}:B"), Array::f32(&[order], memory.b.clone()));
        let source = merged_sources(self.nodes.iter().map(|&i| &graph.nodes[i]));
        let u = graph.add_like(self.u, &[1, trips, 1], ":series");
        let m = add_f32(graph, format!("{name}:memory"), &[1, trips, 1, order]);
        let grid = add_f32(graph, format!("{name}:grid"), &[trips, order]);
        let turned = if by_time { grid } else { add_f32(graph, format!("{name}:turned"), &[order, trips]) };
        let last = self.nodes.iter().copied().find(|&i| graph.nodes[i].output == self.exit).expect("it is computed");
        graph.nodes[last] = Node::new(Op::Reshape, vec![Some(turned)], self.exit, Vec::new());
        let mut push = |op, inputs, output, source, roundings| {
            graph.nodes.push(Node { roundings, ..Node::new(op, inputs, output, source) });
        };
        push(Op::Reshape, vec![Some(self.u)], u, Vec::new(), 0);
        push(Op::LegendreMemory, vec![Some(u), Some(a), Some(b)], m, source, self.roundings);
        push(Op::Reshape, vec![Some(m)], grid, Vec::new(), 0);
        if !by_time {
            push(Op::Transpose { perm: vec![1, 0] }, vec![Some(grid)], turned, Vec::new(), 0);
        }
    }
}
