//! `QuantizeLinear` and `DequantizeLinear` nodes become part of the operators they surround.
//!
//! A quantised tensor already means its reals (see [`crate::graph`]), so `op(DequantizeLinear(x))` is `op(x)`, and
//! `QuantizeLinear(op(x))` is `op` with a quantised output. What remains as a node of its own is a quantisation at the
//! border between float and integer parts, and a change of scale.

use std::collections::{HashMap, HashSet};

use kinglet::DType;
use kinglet::kernels::UnaryOp;

use super::util::merged_sources;
use crate::graph::{BinaryOp, Graph, Node, Op, PadMode, PoolKind, Quant, Tensor, TensorId};

/// Longest way from a product to a pooling whose quantisation the product may take: its stages, and some movements.
const LONGEST: usize = 8;

/// Absorbs every `Quantize` and `Dequantize` that a neighbour can take.
pub fn absorb(graph: &mut Graph) {
    // Each rule brings quantisations closer to where they vanish, so this ends; the bound guards against a defect.
    for _ in 0..64 {
        let mut state = State::new(graph);
        let before = state.changes;
        for i in 0..state.graph.nodes.len() {
            if !state.dead[i] {
                state.node(i);
            }
        }
        let changed = state.changes != before;
        let State { dead, instead, .. } = state;
        graph.replace_uses(&instead);
        graph.remove_nodes(&dead);
        graph.sort();
        super::cleanup::cleanup(graph);
        if !changed {
            return;
        }
    }
}

struct State<'a> {
    graph: &'a mut Graph,
    producers: HashMap<TensorId, usize>,
    uses: Vec<usize>,
    dead: Vec<bool>,
    /// The first quantisation of each tensor that nothing but quantisations read as this round began, all alike.
    alike: HashMap<TensorId, TensorId>,
    inputs: HashSet<TensorId>,
    outputs: HashSet<TensorId>,
    /// What is read instead of tensors whose nodes died. A node sees it when its turn comes; those it names were computed
    /// before what they replace, so that their own turn is over.
    instead: HashMap<TensorId, TensorId>,
    changes: usize,
}

impl<'a> State<'a> {
    fn new(graph: &'a mut Graph) -> Self {
        let (producers, uses, n) = (graph.producers(), graph.use_counts(), graph.nodes.len());
        let mut quantized: HashMap<TensorId, Vec<TensorId>> = HashMap::new();
        for node in graph.nodes.iter().filter(|n| matches!(n.op, Op::Quantize)) {
            quantized.entry(node.inputs[0].expect("has an input")).or_default().push(node.output);
        }
        let kind = |t: TensorId| (graph.tensors[t].dtype, &graph.tensors[t].quant);
        quantized.retain(|&v, all| all.len() == uses[v] && all.iter().all(|&t| kind(t) == kind(all[0])));
        let alike = quantized.into_iter().map(|(v, all)| (v, all[0])).collect();
        let (inputs, outputs) = (graph.inputs.iter().copied().collect(), graph.outputs.iter().copied().collect());
        let dead = vec![false; n];
        State { graph, producers, uses, dead, alike, inputs, outputs, instead: HashMap::new(), changes: 0 }
    }

    fn producer(&self, t: TensorId) -> Option<usize> {
        self.producers.get(&t).copied().filter(|&i| !self.dead[i])
    }

    /// The quantised tensor that `t` is the dequantisation of.
    fn dequantized(&self, t: TensorId) -> Option<TensorId> {
        let node = &self.graph.nodes[self.producer(t)?];
        matches!(node.op, Op::Dequantize).then(|| node.inputs[0]).flatten()
    }

    fn push(&mut self, node: Node) {
        self.producers.insert(node.output, self.graph.nodes.len());
        self.uses.resize(self.graph.tensors.len(), 1);
        self.graph.nodes.push(node);
        self.dead.push(false);
        self.changes += 1;
    }

    /// What node `i` computes, `y`, is `x` already: the node dies, and `x` is read instead.
    fn replace(&mut self, i: usize, y: TensorId, x: TensorId) {
        self.instead.insert(y, x);
        if self.outputs.remove(&y) {
            self.outputs.insert(x);
        }
        self.dead[i] = true;
        self.changes += 1;
    }

    fn per_tensor(&self, t: TensorId) -> bool {
        self.graph.tensors[t].quant.as_ref().is_some_and(|q| q.scales.len() == 1)
    }

    fn node(&mut self, i: usize) {
        for t in self.graph.nodes[i].inputs.iter_mut().flatten() {
            *t = self.instead.get(t).copied().unwrap_or(*t);
        }
        match &self.graph.nodes[i].op {
            Op::Quantize => self.quantize(i),
            Op::Dequantize => {}
            op if op.moves_only() => self.movement(i),
            Op::Conv { .. } | Op::ConvTranspose { .. } | Op::MatMul { .. } => self.product(i),
            // Updates are joined in reals.
            Op::Cast(_) | Op::ArgMax { .. } | Op::Scatter { .. } | Op::Lut { .. } | Op::Reinterpret => {}
            op if op.recurs() => {}
            _ => self.compute(i),
        }
    }

    /// A computing node reads quantised tensors itself.
    fn compute(&mut self, i: usize) {
        let first = self.graph.nodes[i].output;
        if self.graph.tensors[first].dtype != DType::F32 && self.graph.tensors[first].quant.is_none() {
            // Comparisons and index arithmetic are left alone.
            return;
        }
        for k in 0..self.graph.nodes[i].inputs.len() {
            let Some(t) = self.graph.nodes[i].inputs[k] else { continue };
            let constant_parameter = matches!(self.graph.nodes[i].op, Op::Norm { .. } | Op::ScaleShift) && k > 0;
            if let Some(q) = self.dequantized(t).filter(|&q| self.per_tensor(q) && !constant_parameter) {
                self.graph.nodes[i].inputs[k] = Some(q);
                self.uses[t] -= 1;
                self.changes += 1;
            }
        }
    }

    /// A dequantisation before a movement moves behind it: bytes are cheaper to move, and the next operator may take it.
    fn movement(&mut self, i: usize) {
        let node = self.graph.nodes[i].clone();
        let inputs: Option<Vec<TensorId>> =
            node.inputs[..node.data_inputs()].iter().map(|t| t.and_then(|t| self.dequantized(t))).collect();
        let Some(inputs) = inputs else { return };
        let first = self.graph.tensors[inputs[0]].clone();
        let alike = |&t: &TensorId| {
            let t = &self.graph.tensors[t];
            t.quant == first.quant && t.dtype == first.dtype && t.value.is_none()
        };
        if !self.per_tensor(inputs[0]) || first.dtype == DType::I32 || !inputs.iter().all(alike) {
            return;
        }
        // What it brings in besides must be on the grid of what it moves.
        if matches!(node.op, Op::Pad { mode: PadMode::Constant, value, .. } if !on_grid(value, &first)) {
            return;
        }
        let shape = self.graph.tensors[node.output].shape.clone();
        let moved = self.graph.add_like(inputs[0], &shape, ":moved");
        let mut all = node.inputs.clone();
        all.iter_mut().zip(&inputs).for_each(|(slot, &q)| *slot = Some(q));
        self.dead[i] = true;
        self.push(Node::new(node.op, all, moved, node.source.clone()));
        self.push(Node::new(Op::Dequantize, vec![Some(moved)], node.output, node.source));
    }

    /// Whether `v` is read by nothing but quantisations that are all alike, and this is not the first: that one is read
    /// instead then. Exporters write one for each reader.
    fn is_twin(&mut self, i: usize, v: TensorId, y: TensorId) -> bool {
        let first = self.alike.get(&v).copied().filter(|&t| t != y && self.producer(t).is_some());
        let Some(first) = first else { return false };
        // Behind a movement lies what others may read, and bytes that live long instead of being made twice cost memory.
        let moved = self.producer(v).is_none_or(|p| self.graph.nodes[p].op.moves_only());
        if moved || self.outputs.contains(&y) {
            return false;
        }
        self.replace(i, y, first);
        self.uses[first] += self.uses[y];
        self.uses[v] -= 1;
        true
    }

    /// Whether the reals of `t` come from a product of integers through nothing but what its step can take over and what moves
    /// elements, so many nodes at most; and surely holds no NaN, which is the largest element in floats and the smallest once
    /// it is quantised.
    fn ends_integer_product(&self, t: TensorId, nodes: usize) -> bool {
        let real = self.graph.tensors[t].quant.is_none();
        let producer = self.producer(t).filter(|_| real && self.uses[t] == 1 && nodes > 0);
        let Some(node) = producer.map(|p| &self.graph.nodes[p]) else { return false };
        let ends = |x: &TensorId| self.ends_integer_product(*x, nodes - 1);
        match &node.op {
            Op::Conv { .. } | Op::ConvTranspose { .. } | Op::MatMul { .. } => {
                node.inputs[0].is_some_and(|x| self.graph.tensors[x].quant.is_some())
            }
            Op::Unary { op, .. } if gives_numbers(*op) => node.inputs[0].iter().any(ends),
            Op::Binary(
                BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Min | BinaryOp::Max | BinaryOp::PRelu,
            )
            | Op::ScaleShift => {
                let finite = |t: TensorId| self.graph.value(t).is_some_and(|v| v.reals().iter().all(|v| v.is_finite()));
                let number = |&t: &TensorId| self.graph.tensors[t].quant.is_some() || finite(t);
                let (numbers, others): (Vec<TensorId>, Vec<TensorId>) =
                    node.inputs.iter().flatten().partition(|t| number(t));
                numbers.len() + 1 >= node.inputs.len() && others.iter().any(ends)
            }
            op if op.keeps_integers() => node.inputs[..node.data_inputs()].iter().flatten().all(ends),
            _ => false,
        }
    }

    /// A quantisation goes into the operator before it.
    fn quantize(&mut self, i: usize) {
        let node = self.graph.nodes[i].clone();
        let (v, y) = (node.inputs[0].expect("has an input"), node.output);
        if self.is_twin(i, v, y) {
            return;
        }
        let quant = self.graph.tensors[y].quant.clone().expect("its output is quantised");
        let Some(p) = self.producer(v) else { return };
        let before = self.graph.nodes[p].clone();
        if let Op::Dequantize = before.op {
            let x = before.inputs[0].expect("has an input");
            let same = self.graph.tensors[x].quant.as_ref() == Some(&quant)
                && self.graph.tensors[x].dtype == self.graph.tensors[y].dtype;
            let pinned = self.outputs.contains(&y) && (self.inputs.contains(&x) || self.outputs.contains(&x));
            if same && !pinned {
                self.replace(i, y, x);
            } else if self.per_tensor(x) && quant.scales.len() == 1 {
                let source = merged_sources([&before, &node]);
                let op = Op::unary(UnaryOp::Identity);
                self.graph.nodes[i] = Node::new(op, vec![Some(x)], y, source);
                self.changes += 1;
            }
            return;
        }
        if quant.scales.len() != 1 || self.uses[v] != 1 || self.graph.tensors[v].quant.is_some() {
            return;
        }
        if self.graph.tensors[v].dtype != DType::F32 {
            return;
        }
        // Rounding commutes with moving elements, with cutting at a bound and with choosing the largest (all are monotone), so
        // the quantisation can go before them. Before a pooling there are more elements to quantise, which pays only where a
        // product does it on the way.
        let cuts = matches!(before.op, Op::Unary { op: UnaryOp::Relu | UnaryOp::Clip, .. });
        let pools = matches!(before.op, Op::Pool { kind: PoolKind::Max, .. });
        if before.op.moves_only()
            || cuts
            || pools && before.inputs[0].is_some_and(|x| self.ends_integer_product(x, LONGEST))
        {
            let mut inputs = before.inputs.clone();
            for slot in inputs[..before.data_inputs()].iter_mut() {
                let u = slot.expect("movements have all their inputs");
                let (shape, name) =
                    (self.graph.tensors[u].shape.clone(), format!("{}:quantized", self.graph.tensors[u].name));
                let q = self.graph.add_like(y, &shape, "");
                self.graph.tensors[q].name = name;
                self.push(Node::new(Op::Quantize, vec![Some(u)], q, node.source.clone()));
                *slot = Some(q);
            }
            self.dead[p] = true;
            let source = merged_sources([&before, &node]);
            self.graph.nodes[i] = Node::new(before.op, inputs, y, source);
            self.producers.insert(y, i);
            return;
        }
        let takes = match &before.op {
            Op::Conv { .. } | Op::ConvTranspose { .. } | Op::MatMul { .. } => {
                before.inputs[0].is_some_and(|x| self.graph.tensors[x].quant.is_some())
                    && matches!(self.graph.tensors[y].dtype, DType::I8 | DType::U8)
            }
            Op::Cast(_) | Op::Quantize | Op::Lut { .. } | Op::Reinterpret | Op::ArgMax { .. } | Op::Scatter { .. } => {
                false
            }
            op => !op.recurs() && before.more.is_empty(),
        };
        if takes {
            self.dead[p] = true;
            let source = merged_sources([&before, &node]);
            self.graph.nodes[i] = Node::new(before.op, before.inputs, y, source);
            self.producers.insert(y, i);
            self.changes += 1;
        }
    }

    /// A product takes its quantised operands if it can compute with them exactly.
    fn product(&mut self, i: usize) {
        let node = self.graph.nodes[i].clone();
        if node.inputs[0].is_some_and(|x| self.graph.tensors[x].quant.is_some()) {
            return;
        }
        let of = |t: Option<TensorId>| t.and_then(|t| self.dequantized(t));
        let (Some(x), Some(w)) = (of(node.inputs[0]), of(node.inputs[1])) else { return };
        if why_not_integer(self.graph, &node.op, x, w, node.output).is_some() {
            return;
        }
        let bias = node.inputs.get(2).copied().flatten();
        let (fits, bias_q) = match bias {
            None => (true, None),
            Some(b) => match self.dequantized(b) {
                Some(q) if takes_bias(self.graph, &node.op, x, w) && bias_fits(self.graph, x, w, q) => (true, Some(q)),
                _ => (false, None),
            },
        };
        let (x, w) = (Some(x), Some(w));
        self.changes += 1;
        if fits {
            self.graph.nodes[i].inputs = if bias.is_some() { vec![x, w, bias_q] } else { vec![x, w] };
            return;
        }
        // A bias that is not on the grid of the accumulator is added in float.
        let shape = self.graph.tensors[node.output].shape.clone();
        let sum = self.graph.add_like(node.output, &shape, ":sum");
        let source = node.source.clone();
        self.graph.nodes[i] = Node::new(node.op.clone(), vec![x, w], sum, source);
        self.producers.insert(sum, i);
        let b = bias.expect("only a bias does not fit");
        let flat = match node.op {
            Op::Conv { layout, .. } | Op::ConvTranspose { layout, .. } => {
                let mut s = vec![1; shape.len()];
                let axis = layout.channel_axis(shape.len());
                s[axis] = shape[axis];
                let t = self.graph.add_like(b, &s, ":broadcast");
                self.push(Node::new(Op::Reshape, vec![Some(b)], t, node.source.clone()));
                t
            }
            _ => b,
        };
        let op = Op::Binary(BinaryOp::Add);
        self.push(Node::new(op, vec![Some(sum), Some(flat)], node.output, node.source));
    }
}

/// Whether some integer of quantised tensor `t` stands for `value`, to the bit of f32.
fn on_grid(value: f64, t: &Tensor) -> bool {
    let (Some((scale, zero)), Some((lo, hi))) = (t.quant.as_ref().and_then(Quant::single), t.dtype.quantized_range())
    else {
        return false;
    };
    let value = value as f32;
    let integer = kinglet::quant::quantize(value, scale, zero, lo, hi);
    kinglet::quant::dequantize(integer, scale, zero) == value
}

/// Whether a function of a number is one, and finite but where f32 itself ends.
fn gives_numbers(op: UnaryOp) -> bool {
    !matches!(op, UnaryOp::Sqrt | UnaryOp::Log | UnaryOp::Pow | UnaryOp::Reciprocal | UnaryOp::Exp)
}

/// Why a product of these quantised tensors cannot run in integers; `None` if it can.
pub fn why_not_integer(graph: &Graph, op: &Op, x: TensorId, w: TensorId, y: TensorId) -> Option<String> {
    let (tx, tw) = (&graph.tensors[x], &graph.tensors[w]);
    let byte = |d: DType| matches!(d, DType::I8 | DType::U8);
    for t in [tx, tw] {
        if !byte(t.dtype) {
            return Some(format!("`{}` is {}: integer products take i8 and u8", t.name, t.dtype.name()));
        }
    }
    let (qx, qw) = (tx.quant.as_ref()?, tw.quant.as_ref()?);
    if qx.scales.len() != 1 {
        return Some(format!("`{}` has a scale for each channel", tx.name));
    }
    let constant = tw.value.is_some();
    let (axis, sum) = match op {
        Op::Conv { .. } => (Some(0), tw.len() / tw.shape[0]),
        Op::ConvTranspose { groups: 1, .. } => (Some(1), tw.len() / tw.shape[1]),
        Op::ConvTranspose { .. } => (None, tw.len() / tw.shape[1]),
        Op::MatMul { transpose_a, transpose_b, .. } => {
            let axis = if *transpose_b { tw.shape.len() - 2 } else { tw.shape.len() - 1 };
            let k = tx.shape[tx.shape.len() - if *transpose_a { 2 } else { 1 }];
            // Only those that become convolutions have several multipliers.
            (takes_bias(graph, op, x, w).then_some(axis), k)
        }
        _ => return Some("it is no product".into()),
    };
    if !constant && !matches!(op, Op::MatMul { .. }) {
        return Some(format!("`{}` is not constant", tw.name));
    }
    if qw.scales.len() > 1 && axis != Some(qw.axis) {
        return Some(format!("the scales of `{}` do not run along the output channels", tw.name));
    }
    let small = matches!(op, Op::MatMul { transpose_a: false, .. })
        && weights_of_softmax(graph, x).is_some_and(|most| most * span(tw) as f64 <= f64::from(i32::MAX));
    if span(tx) * span(tw) * sum as i64 > i64::from(i32::MAX) && !small {
        return Some(format!("a sum of {sum} products in `{}` could exceed 32 bits", graph.tensors[y].name));
    }
    None
}

/// The largest magnitude of `q − zero_point`, whatever the values are and whichever channel's zero point it is.
fn span(t: &Tensor) -> i64 {
    let (lo, hi) = t.dtype.quantized_range().expect("bytes have a range");
    let zeros = t.quant.as_ref().map_or(&[0][..], |q| &q.zero_points);
    zeros.iter().map(|z| i64::from((z - lo).max(hi - z))).max().unwrap_or(0)
}

/// At most what `q − zero_point` of a row of a tensor adds up to, if its rows are softmaxes: these are no less than 0 and add up to 1,
/// and rounding at most doubles what it does not make 0. (Attention over a picture has sums of very many products.)
fn weights_of_softmax(graph: &Graph, t: TensorId) -> Option<f64> {
    let maker = |t: TensorId| graph.nodes.iter().find(|n| n.output == t);
    let mut node = maker(t)?;
    while matches!(node.op, Op::Quantize | Op::Reshape) {
        node = maker(node.inputs[0]?)?;
    }
    let Op::Softmax { axis, log: false } = node.op else { return None };
    // Its rows are those of the product, whatever views lie between.
    let own = &graph.tensors[node.output].shape;
    let rows = graph.tensors[t].shape.last() == Some(&own[axis]) && own[axis + 1..].iter().all(|&n| n == 1);
    let (scale, _) = graph.tensors[t].quant.as_ref()?.single()?;
    // The sums of the softmax itself are f32.
    (rows && scale > 0.0).then_some(2.001 / f64::from(scale))
}

/// Whether the integer product has a bias and a multiplier for each column: convolutions, and what becomes one.
fn takes_bias(graph: &Graph, op: &Op, x: TensorId, w: TensorId) -> bool {
    let (x, w) = (&graph.tensors[x], &graph.tensors[w]);
    let is_matmul = matches!(op, Op::MatMul { .. });
    let transposed = matches!(op, Op::MatMul { transpose_a: true, .. });
    !is_matmul || w.value.is_some() && w.shape.len() == 2 && x.value.is_none() && !transposed
}

/// Whether bias `b` counts in units of `sx·sw`, as the accumulator does, and leaves it room for the sum.
fn bias_fits(graph: &Graph, x: TensorId, w: TensorId, b: TensorId) -> bool {
    let bias = &graph.tensors[b];
    let quants = (&graph.tensors[x].quant, &graph.tensors[w].quant, &bias.quant);
    let (Some(qx), Some(qw), Some(qb)) = quants else { return false };
    let at = |q: &Quant, k: usize| f64::from(if q.scales.len() == 1 { q.scales[0] } else { q.scales[k] });
    let (tx, tw) = (&graph.tensors[x], &graph.tensors[w]);
    let largest = bias.value.as_ref().map_or(0, |v| v.ints().iter().map(|b| b.abs()).max().unwrap_or(0));
    // No output channel sums over more products than there are weights for it.
    let terms = tw.len() / bias.len().max(1);
    let room = largest + span(tx) * span(tw) * terms as i64 <= i64::from(i32::MAX);
    // The file rounds the product of scales to f32; a bias of up to 2²⁴ then differs by less than one unit.
    room && bias.dtype == DType::I32
        && bias.value.is_some()
        && qb.zero_points.iter().all(|&z| z == 0)
        && (0..bias.len()).all(|k| {
            let unit = at(qx, 0) * at(qw, k);
            (at(qb, k) - unit).abs() <= 1e-6 * unit
        })
}
