//! Channels whose value does not depend on the input of the model, to the bits of a run.
//!
//! An output channel of a product of integers whose weights are all zero is its bias, taken through the epilogue. What the
//! nodes behind it make of that is computed by running them, on the channels that are constant alone: so nothing here knows how
//! a kernel rounds, nor what padding does. Where the padding is another number than the constant, the results differ from
//! place to place, and the channel is constant no longer.

use std::collections::HashMap;
use std::sync::Arc;

use kinglet::DType;

use super::flow::{Part, Way, channels, is_elementwise, slots};
use super::product::{Product, Weights};
use crate::array::Array;
use crate::fold;
use crate::graph::{Graph, Layout, Node, Op, Post, Quant, Tensor, TensorId, Window};

/// For each channel of a tensor its integer, if it is always the same.
pub(super) type Known = Vec<Option<i64>>;

/// The constant channels of tensors that have some.
#[derive(Default)]
pub(super) struct Constants(HashMap<TensorId, Known>);

impl Constants {
    /// The integer that a channel always has.
    pub(super) fn of(&self, t: TensorId, channel: usize) -> Option<i64> {
        self.0.get(&t)?[channel]
    }

    /// Takes in what is known of the output of a node.
    pub(super) fn add(&mut self, t: TensorId, known: Option<Known>) {
        if let Some(known) = known.filter(|k| k.iter().any(Option::is_some)) {
            self.0.insert(t, known);
        }
    }

    /// For each input channel of a product of integers by how much it lies beside its zero point, if it is constant and its
    /// part of every sum is, too.
    pub(super) fn offsets(&self, graph: &Graph, p: &Product) -> Known {
        let zero = graph.tensors[p.x].quant.as_ref().and_then(|q| q.single()).map(|(_, zero)| i64::from(zero));
        let (Some(zero), Some(known)) = (zero.filter(|_| is_integer(graph, p)), self.0.get(&p.x)) else {
            return vec![None; p.inputs];
        };
        // Padding stands for the zero point.
        known.iter().map(|c| c.map(|c| c - zero).filter(|&c| c == 0 || !p.padded)).collect()
    }

    /// What is known of the channels of a product's output. `sums` are those of [`biases`].
    pub(super) fn of_product(graph: &Graph, node: &Node, p: &Product, offsets: &Known, sums: &[i64]) -> Option<Known> {
        if !is_integer(graph, p) || !is_byte(graph, node.output) || p.residual.is_some() {
            return None;
        }
        let weights = Weights::of(graph, p);
        let constant = |o: &usize| p.inputs_of(*o).all(|i| offsets[i].is_some() || weights.none(*o, i));
        let found: Vec<usize> = (0..p.outputs).filter(constant).collect();
        if found.is_empty() {
            return None;
        }
        let values = pixel(graph, node, p, &found, sums)?;
        let mut known = vec![None; p.outputs];
        found.iter().zip(values.ints().iter()).for_each(|(&o, &v)| known[o] = Some(v));
        Some(known)
    }

    /// What is known of the output of a node that channels go through by `parts`.
    pub(super) fn through(&self, graph: &Graph, node: &Node, parts: &[Part]) -> Option<Known> {
        let y = node.output;
        if !is_byte(graph, y) || !parts.iter().any(|p| self.0.contains_key(&p.x)) {
            return None;
        }
        let moved = parts.iter().any(|p| p.way != Way::Same || channels(graph, p.x) != channels(graph, y));
        if moved { self.moved(graph, y, parts) } else { self.computed(graph, node, parts) }
    }

    /// The same of one that moves channels as they are.
    fn moved(&self, graph: &Graph, y: TensorId, parts: &[Part]) -> Option<Known> {
        let like = |t: TensorId| (graph.tensors[t].dtype, &graph.tensors[t].quant);
        if parts.iter().any(|p| like(p.x) != like(y)) {
            return None;
        }
        let of_y = channels(graph, y);
        // What has not come yet, what is known, and what differs.
        let mut known: Vec<Option<Option<i64>>> = vec![None; of_y];
        for part in parts {
            for (i, j) in part.pairs(channels(graph, part.x), of_y) {
                let value = self.of(part.x, i);
                known[j] = Some(known[j].map_or(value, |before| before.filter(|_| before == value)));
            }
        }
        Some(known.into_iter().map(Option::flatten).collect())
    }

    /// The same of any other: it is run on the channels that are constant in all its inputs.
    fn computed(&self, graph: &Graph, node: &Node, parts: &[Part]) -> Option<Known> {
        let of_y = channels(graph, node.output);
        let through = slots(node, parts);
        let other = |(t, &part): (&Option<TensorId>, &bool)| part || t.is_none_or(|t| graph.tensors[t].value.is_some());
        let found: Vec<usize> = (0..of_y).filter(|&c| parts.iter().all(|p| self.of(p.x, c).is_some())).collect();
        if found.is_empty() || !node.inputs.iter().zip(&through).all(other) {
            return None;
        }
        let mut small = Graph::within(&graph.budget);
        let mut own = node.clone();
        let mut values = Vec::new();
        for (slot, t) in own.inputs.iter_mut().enumerate() {
            let Some(id) = *t else {
                values.push(None);
                continue;
            };
            let mut tensor = graph.tensors[id].clone();
            let constant = tensor.value.take();
            if through[slot] {
                *tensor.shape.last_mut()? = found.len();
                let each: Vec<i64> = found.iter().map(|&c| self.of(id, c)).collect::<Option<_>>()?;
                values.push(Some(Arc::new(Array::int(
                    tensor.dtype,
                    &tensor.shape,
                    each.repeat(tensor.len() / each.len()),
                ))));
            } else {
                let value = constant?;
                let cut = is_elementwise(&node.op) && of_y > 1 && channels(graph, id) == of_y;
                let value = if cut { Arc::new(value.select(value.shape.len() - 1, &found)) } else { value };
                tensor.shape.clone_from(&value.shape);
                values.push(Some(value));
            }
            *t = Some(small.add_tensor(tensor));
        }
        let mut tensor = graph.tensors[node.output].clone();
        *tensor.shape.last_mut()? = found.len();
        own.output = small.add_tensor(tensor);
        if !fold::affordable(&small, &own) {
            return None;
        }
        let operands: Vec<Option<&Array>> = values.iter().map(|v| v.as_deref()).collect();
        let result = fold::as_run(&small, &own, &operands)?.swap_remove(0);
        let result = result.ints();
        let mut known = vec![None; of_y];
        for (k, &c) in found.iter().enumerate() {
            let mut elements = result.iter().skip(k).step_by(found.len());
            let first = *elements.next()?;
            known[c] = elements.all(|&v| v == first).then_some(first);
        }
        Some(known)
    }
}

fn is_byte(graph: &Graph, t: TensorId) -> bool {
    let t = &graph.tensors[t];
    matches!(t.dtype, DType::I8 | DType::U8) && t.quant.as_ref().is_some_and(|q| q.single().is_some())
}

/// Whether a product multiplies bytes by bytes.
fn is_integer(graph: &Graph, p: &Product) -> bool {
    let bias = p.bias.is_none_or(|b| graph.tensors[b].dtype == DType::I32);
    bias && is_byte(graph, p.x) && graph.tensors[p.w].quant.is_some()
}

/// The biases of a product with the parts of the input channels that lie by these offsets beside their zero points. `None` if
/// one of them, or of what is added to it on the way, may not fit.
pub(super) fn biases(graph: &Graph, p: &Product, offsets: &Known) -> Option<Vec<i64>> {
    let given = p.bias.and_then(|b| graph.value(b)).map_or_else(|| vec![0; p.outputs], |v| v.ints().into_owned());
    if offsets.iter().all(|o| o.is_none_or(|o| o == 0)) {
        return Some(given);
    }
    let weights = Weights::of(graph, p);
    let sum = |(o, &bias): (usize, &i64)| {
        let (mut sum, mut most) = (bias, bias.abs());
        for i in p.inputs_of(o) {
            let more = offsets[i].map_or(0, |offset| if offset == 0 { 0 } else { offset * weights.sum(o, i) });
            (sum, most) = (sum + more, most + more.abs());
        }
        (most <= i64::from(i32::MAX)).then_some(sum)
    };
    given.iter().enumerate().map(sum).collect()
}

/// The bias of a product as a tensor, of these integers for these output channels.
pub(super) fn bias_tensor(graph: &Graph, p: &Product, outputs: &[usize], sums: Vec<i64>) -> Tensor {
    let of = |t: TensorId| graph.tensors[t].quant.clone().expect("a product of integers");
    let (x, w) = (of(p.x), of(p.w));
    let scale = |&o: &usize| x.scales[0] * if w.scales.len() == 1 { w.scales[0] } else { w.scales[o] };
    let own = p.bias.and_then(|b| graph.tensors[b].quant.clone());
    let scales = match own {
        Some(q) if q.scales.len() == 1 => vec![q.scales[0]; outputs.len()],
        Some(q) => outputs.iter().map(|&o| q.scales[o]).collect(),
        None => outputs.iter().map(scale).collect(),
    };
    let quant = Quant { zero_points: vec![0; scales.len()], scales, axis: 0 };
    let name = graph.tensors[p.bias.unwrap_or(p.w)].name.clone();
    let value = Some(Arc::new(Array::int(DType::I32, &[sums.len()], sums)));
    Tensor { name, dtype: DType::I32, shape: vec![outputs.len()], quant: Some(quant), value }
}

/// What a product gives for output channels whose sums are known: one pixel of it, whose weights are zero and whose biases are
/// the sums.
fn pixel(graph: &Graph, node: &Node, p: &Product, outputs: &[usize], sums: &[i64]) -> Option<Array> {
    let (Op::Conv { post, .. } | Op::ConvTranspose { post, .. } | Op::MatMul { post, .. }) = &node.op else {
        return None;
    };
    let mut small = Graph::within(&graph.budget);
    let n = outputs.len();
    let plain = |t: TensorId, shape: Vec<usize>| Tensor { shape, value: None, ..graph.tensors[t].clone() };
    let x = plain(p.x, vec![1; 4]);
    let mut w = plain(p.w, vec![n, 1, 1, 1]);
    let weights = Weights::of(graph, p);
    let of_weights = w.quant.as_mut()?;
    if of_weights.scales.len() > 1 {
        of_weights.scales = outputs.iter().map(|&o| of_weights.scales[o]).collect();
        of_weights.zero_points = outputs.iter().map(|&o| of_weights.zero_points[o]).collect();
    }
    of_weights.axis = 0;
    let zeros: Vec<i64> = outputs.iter().map(|&o| i64::from(weights.zero(o))).collect();
    let bias = bias_tensor(graph, p, outputs, outputs.iter().map(|&o| sums[o]).collect());
    let (_, zero) = x.quant.as_ref()?.single()?;
    let mut values = vec![
        Some(Arc::new(Array::int(x.dtype, &[1; 4], vec![zero.into()]))),
        Some(Arc::new(Array::int(w.dtype, &[n, 1, 1, 1], zeros))),
        bias.value.clone(),
    ];
    let mut inputs = vec![small.add_tensor(x), small.add_tensor(w), small.add_tensor(Tensor { value: None, ..bias })];
    for &t in node.inputs.get(Post::OPERANDS..).unwrap_or_default().iter().flatten() {
        let value = graph.tensors[t].value.as_ref()?;
        let cut = value.len() > 1;
        let value = if cut { Arc::new(value.select(value.shape.len() - 1, outputs)) } else { value.clone() };
        inputs.push(small.add_tensor(plain(t, value.shape.clone())));
        values.push(Some(value));
    }
    let y = small.add_tensor(plain(node.output, vec![1, 1, 1, n]));
    let ones = || vec![1; 2];
    let window =
        Window { kernel: ones(), strides: ones(), dilations: ones(), pads_begin: vec![0; 2], pads_end: vec![0; 2] };
    let op = Op::Conv { window, groups: 1, layout: Layout::ChannelsLast, post: post.clone() };
    let own = Node::new(op, inputs.into_iter().map(Some).collect(), y, node.source.clone());
    let operands: Vec<Option<&Array>> = values.iter().map(|v| v.as_deref()).collect();
    if !fold::affordable(&small, &own) {
        return None;
    }
    Some(fold::as_run(&small, &own, &operands)?.swap_remove(0))
}
