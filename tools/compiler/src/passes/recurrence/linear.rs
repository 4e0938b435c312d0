//! The Legendre memory without a loop: as a convolution with its impulse response, or as a product of spectra.
//!
//! Whatever is computed from one time series by constant linear operators alone is known by two experiments in the
//! evaluator: its response to an impulse in the first frame, and to a random series, which must be the convolution with that
//! response. If the response is that of a Legendre memory of some order and length, it is one.

use std::collections::{HashMap, HashSet};

use super::super::util::merged_sources;
use super::axes::add_f32;
use crate::array::Array;
use crate::eval;
use crate::graph::{BinaryOp, Graph, Node, Op, TensorId, UnaryOp};
use crate::legendre::DelaySystem;

/// Fewest frames and coefficients worth a search.
const FEWEST: usize = 4;
/// Most elementary operations of one experiment.
const MOST_COST: u64 = 1 << 32;
/// Largest deviation from a response, relative to its largest magnitude: what responses computed in f32 differ by.
const TOLERANCE: f64 = 2e-5;

/// Replaces every Legendre memory that is written without a loop.
pub fn recognise(graph: &mut Graph) {
    let series: Vec<TensorId> = (0..graph.tensors.len()).filter(|&t| frames(graph, t).is_some()).collect();
    let mut readers: HashMap<TensorId, Vec<usize>> = HashMap::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        for t in node.inputs.iter().flatten() {
            readers.entry(*t).or_default().push(i);
        }
    }
    let mut found = Vec::new();
    let mut taken: HashSet<usize> = HashSet::new();
    for u in series {
        let Some(region) = Region::of(graph, &readers, u) else { continue };
        if region.nodes.iter().any(|i| taken.contains(i)) {
            continue;
        }
        if let Some(memory) = region.memory(graph) {
            taken.extend(&region.nodes);
            found.push((region, memory));
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
}

impl Region {
    /// Everything that is linear in `u` and constants, up to the one tensor of frames by coefficients that is read elsewhere.
    fn of(graph: &Graph, readers: &HashMap<TensorId, Vec<usize>>, u: TensorId) -> Option<Region> {
        let trips = frames(graph, u)?;
        let mut inside: HashSet<TensorId> = HashSet::from([u]);
        let mut nodes = Vec::new();
        let mut open: std::collections::BTreeSet<usize> = readers.get(&u)?.iter().copied().collect();
        // In the order of the graph, so that a node comes after those that compute its inputs.
        while let Some(i) = open.pop_first() {
            let node = &graph.nodes[i];
            if linear(graph, node, &inside) {
                inside.insert(node.output);
                nodes.push(i);
                open.extend(readers.get(&node.output).into_iter().flatten());
            }
        }
        let members: HashSet<usize> = nodes.iter().copied().collect();
        let left = |t: TensorId| {
            readers.get(&t).is_some_and(|r| r.iter().any(|i| !members.contains(i))) || graph.outputs.contains(&t)
        };
        let exits: Vec<TensorId> = nodes.iter().map(|&i| graph.nodes[i].output).filter(|&t| left(t)).collect();
        // A memory does more than to arrange the elements of u, and has an axis of coefficients.
        let grid = exits.iter().copied().find_map(|t| {
            let shape = &graph.tensors[t].shape;
            let solid: Vec<usize> = (0..shape.len()).filter(|&d| shape[d] != 1).collect();
            let &[a, b] = &solid[..] else { return None };
            let (time, order) = match (shape[a] == trips, shape[b] == trips) {
                // Of two equal axes that of time is told by experiment; see `memory`.
                (true, _) => (a, b),
                (_, true) => (b, a),
                _ => return None,
            };
            (shape[order] >= FEWEST).then_some((t, time, order))
        });
        let (exit, time, order) = grid?;
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
        (cost <= MOST_COST).then_some(Region { u, nodes, exit, time, order })
    }

    /// The exit, for a value of u.
    fn response(&self, graph: &Graph, u: Vec<f64>) -> Vec<f64> {
        let shape = graph.tensors[self.u].shape.clone();
        let mut values: HashMap<TensorId, Array> = HashMap::from([(self.u, Array::f32(&shape, u))]);
        for &i in &self.nodes {
            let node = &graph.nodes[i];
            let operands: Vec<Option<&Array>> =
                node.inputs.iter().map(|t| t.and_then(|t| graph.value(t).or_else(|| values.get(&t)))).collect();
            let value = eval::node(graph, node, &operands);
            values.insert(node.output, value);
        }
        values.remove(&self.exit).expect("the exit is computed").reals().into_owned()
    }

    /// The memory that the region is, found by experiment.
    fn memory(&self, graph: &Graph) -> Option<(DelaySystem, bool)> {
        let shape = &graph.tensors[self.exit].shape;
        let (trips, order) = (shape[self.time], shape[self.order]);
        if (trips as u64).saturating_mul((order * order) as u64) > MOST_COST {
            return None;
        }
        let impulse = self.response(graph, (0..trips).map(|t| f64::from(u8::from(t == 0))).collect());
        // Element [t, k] for both orders of the axes; with equal extents the wrong one fails the test.
        let swapped = trips == order;
        [false, true].into_iter().take(1 + usize::from(swapped)).find_map(|swap| {
            let by_time = (self.time < self.order) != swap;
            let at = |t: usize, k: usize| if by_time { t * order + k } else { k * trips + t };
            let first: Vec<f64> = (0..order).map(|k| impulse[at(0, k)]).collect();
            let memory = DelaySystem::starting_with(&first, trips)?;
            let unit: Vec<f64> = (0..trips).map(|t| f64::from(u8::from(t == 0))).collect();
            let h = memory.frames(&unit);
            let close = |got: &dyn Fn(usize, usize) -> f64, want: &dyn Fn(usize, usize) -> f64| {
                let all = || (0..trips).flat_map(|t| (0..order).map(move |k| (t, k)));
                let largest = all().map(|(t, k)| want(t, k).abs()).fold(0.0, f64::max);
                all().all(|(t, k)| (got(t, k) - want(t, k)).abs() <= TOLERANCE * largest)
            };
            if !close(&|t, k| impulse[at(t, k)], &|t, k| h[t][k]) {
                return None;
            }
            // A series without any pattern: what answers it as the memory does so to every series.
            let u: Vec<f64> = (0..trips).map(|t| ((t * 7919 + 13) % 101) as f64 / 50.0 - 1.0).collect();
            let (got, want) = (self.response(graph, u.clone()), memory.frames(&u));
            close(&|t, k| got[at(t, k)], &|t, k| want[t][k]).then_some((memory, by_time))
        })
    }

    /// Writes the operator in place of the region.
    fn write(&self, graph: &mut Graph, (memory, by_time): (DelaySystem, bool)) {
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
        let mut push = |op, inputs, output, source| graph.nodes.push(Node::new(op, inputs, output, source));
        push(Op::Reshape, vec![Some(self.u)], u, Vec::new());
        push(Op::LegendreMemory, vec![Some(u), Some(a), Some(b)], m, source);
        push(Op::Reshape, vec![Some(m)], grid, Vec::new());
        if !by_time {
            push(Op::Transpose { perm: vec![1, 0] }, vec![Some(grid)], turned, Vec::new());
        }
    }
}

/// Whether a node is linear in the tensors `inside`, everything else it reads being constant, and adds nothing to them.
fn linear(graph: &Graph, node: &Node, inside: &HashSet<TensorId>) -> bool {
    let constant = |t: TensorId| graph.tensors[t].value.is_some();
    let inputs: Vec<TensorId> = node.inputs.iter().flatten().copied().collect();
    let known = inputs.iter().all(|&t| constant(t) || inside.contains(&t));
    let quantised = inputs.iter().chain([&node.output]).any(|&t| graph.tensors[t].quant.is_some());
    let variable = inputs.iter().filter(|t| inside.contains(t)).count();
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
        Op::Binary(BinaryOp::Div) => variable == 1 && node.inputs[0].is_some_and(|t| inside.contains(&t)),
        Op::Unary { op: UnaryOp::Neg, .. } => true,
        Op::MatMul { post, .. } => variable == 1 && inputs.len() == 2 && *post == Default::default(),
        Op::Conv { post, .. } => inside.contains(&inputs[0]) && inputs.len() == 2 && *post == Default::default(),
        _ => false,
    }
}
