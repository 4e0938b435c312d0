//! A product with constant weights, as this pass sees it.

use std::borrow::Cow;

use kinglet::DType;

use crate::graph::{Graph, Layout, Node, Op, Post, TensorId, Window};

/// In which order the weights lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// `[out, in/groups, taps]`.
    Conv,
    /// `[in, out/groups, taps]`.
    Transposed,
    /// `[in, out]`.
    Columns,
    /// `[out, in]`.
    Rows,
}

/// A product with constant weights that no other node reads.
#[derive(Clone, Debug)]
pub(super) struct Product {
    pub x: TensorId,
    pub w: TensorId,
    pub bias: Option<TensorId>,
    /// The computed operand of a stage, which has the output's shape.
    pub residual: Option<TensorId>,
    pub groups: usize,
    /// Channels of the input.
    pub inputs: usize,
    /// Channels of the output.
    pub outputs: usize,
    pub taps: usize,
    /// Not every tap of every position lies inside the input.
    pub padded: bool,
    /// Pixels for which every weight is multiplied.
    positions: usize,
    order: Order,
}

impl Product {
    /// The node as a product whose channels can be dropped.
    pub(super) fn of(graph: &Graph, uses: &[usize], node: &Node) -> Option<Product> {
        let (x, w) = (node.inputs.first().copied()??, node.inputs.get(1).copied()??);
        let (tx, tw, ty) = (&graph.tensors[x], &graph.tensors[w], &graph.tensors[node.output]);
        if tx.value.is_some() || tw.value.is_none() || tw.is_empty() || tx.is_empty() || uses[w] != 1 {
            return None;
        }
        let (inputs, outputs) = (*tx.shape.last()?, *ty.shape.last()?);
        let taps = |window: &Window| window.kernel.iter().product();
        let pads = |window: &Window| window.pads_begin.iter().chain(&window.pads_end).any(|&p| p > 0);
        let (groups, taps, padded, order) = match &node.op {
            Op::Conv { window, groups, layout: Layout::ChannelsLast, .. } => {
                (*groups, taps(window), pads(window), Order::Conv)
            }
            // Between the pixels of its input lie zeros.
            Op::ConvTranspose { window, groups, layout: Layout::ChannelsLast, .. } => {
                (*groups, taps(window), true, Order::Transposed)
            }
            Op::MatMul { transpose_a: false, transpose_b, .. } if tw.shape.len() == 2 => {
                (1, 1, false, if *transpose_b { Order::Rows } else { Order::Columns })
            }
            _ => return None,
        };
        let read = if order == Order::Transposed { tx.len() / inputs } else { ty.len() / outputs };
        let product = Product {
            x,
            w,
            bias: node.inputs.get(2).copied().flatten(),
            residual: residual(graph, node, outputs)?,
            groups,
            inputs,
            outputs,
            taps,
            padded,
            positions: read,
            order,
        };
        let fits = groups > 0
            && inputs.is_multiple_of(groups)
            && outputs.is_multiple_of(groups)
            && tw.len() == product.outputs * product.group_in() * taps;
        let bias = |t: TensorId| graph.tensors[t].value.is_some() && graph.tensors[t].shape == [outputs];
        (fits && product.bias.is_none_or(bias) && product.has_weights(graph)).then_some(product)
    }

    /// Whether this pass can read the weights: reals, or bytes with one scale or one for each output channel.
    fn has_weights(&self, graph: &Graph) -> bool {
        let w = &graph.tensors[self.w];
        if w.value.as_ref().is_none_or(|v| v.held().is_none()) {
            return false;
        }
        match &w.quant {
            None => w.dtype == DType::F32,
            Some(q) => {
                let along =
                    q.scales.len() == 1 || (Some(q.axis) == self.output_axis() && q.scales.len() == self.outputs);
                matches!(w.dtype, DType::I8 | DType::U8) && along && q.zero_points.len() == q.scales.len()
            }
        }
    }

    pub(super) fn group_in(&self) -> usize {
        self.inputs / self.groups
    }

    pub(super) fn group_out(&self) -> usize {
        self.outputs / self.groups
    }

    /// The axis of the weights along which output channels lie, if they all do.
    pub(super) fn output_axis(&self) -> Option<usize> {
        match self.order {
            Order::Conv | Order::Rows => Some(0),
            Order::Columns => Some(1),
            Order::Transposed => (self.groups == 1).then_some(1),
        }
    }

    /// The axis along which input channels lie, if they all do.
    pub(super) fn input_axis(&self) -> Option<usize> {
        match self.order {
            Order::Conv => (self.groups == 1).then_some(1),
            Order::Rows => Some(1),
            Order::Columns | Order::Transposed => Some(0),
        }
    }

    /// Input channels that output channel `o` is summed over.
    pub(super) fn inputs_of(&self, o: usize) -> std::ops::Range<usize> {
        let first = o / self.group_out() * self.group_in();
        first..first + self.group_in()
    }

    /// The element of the weights for output channel `o`, input channel `i` of its group, and a tap.
    fn at(&self, o: usize, i: usize, tap: usize) -> usize {
        match self.order {
            Order::Conv => (o * self.group_in() + i % self.group_in()) * self.taps + tap,
            Order::Transposed => (i * self.group_out() + o % self.group_out()) * self.taps + tap,
            Order::Columns => i * self.outputs + o,
            Order::Rows => o * self.inputs + i,
        }
    }

    /// Number of weights.
    pub(super) fn weights(&self) -> u64 {
        (self.outputs * self.group_in() * self.taps) as u64
    }

    /// Multiply-accumulates with so many bytes of its weights.
    pub(super) fn macs(&self, bytes: usize, dtype: DType) -> u64 {
        (bytes / dtype.size() * self.positions) as u64
    }
}

/// The one computed operand of a node's stages, which has to have the output's shape; constants have to run along the
/// channels.
fn residual(graph: &Graph, node: &Node, outputs: usize) -> Option<Option<TensorId>> {
    let mut found = None;
    for &t in node.inputs.get(Post::OPERANDS..).unwrap_or_default().iter().flatten() {
        let operand = &graph.tensors[t];
        match operand.value {
            Some(_) if operand.len() == 1 => {}
            Some(_) if operand.len() == outputs && operand.shape.last() == Some(&outputs) => {}
            None if found.is_none() && operand.shape == graph.tensors[node.output].shape => found = Some(t),
            _ => return None,
        }
    }
    Some(found)
}

/// The weights of a product, less their zero points.
pub(super) struct Weights<'a> {
    product: &'a Product,
    bytes: Cow<'a, [u8]>,
    dtype: DType,
    zeros: &'a [i32],
}

impl<'a> Weights<'a> {
    pub(super) fn of(graph: &'a Graph, product: &'a Product) -> Self {
        let w = &graph.tensors[product.w];
        let value = w.value.as_ref().expect("the weights are constant");
        let zeros = w.quant.as_ref().map_or(&[0][..], |q| &q.zero_points);
        Weights { product, bytes: value.to_bytes(), dtype: w.dtype, zeros }
    }

    /// The zero point of an output channel's weights.
    pub(super) fn zero(&self, o: usize) -> i32 {
        self.zeros[if self.zeros.len() == 1 { 0 } else { o }]
    }

    /// An integer less its zero point.
    fn integer(&self, at: usize, o: usize) -> i64 {
        let byte = self.bytes[at];
        i64::from(if self.dtype == DType::I8 { i32::from(byte as i8) } else { i32::from(byte) } - self.zero(o))
    }

    /// Whether every weight between input channel `i` and output channel `o`, which are of one group, is zero.
    pub(super) fn none(&self, o: usize, i: usize) -> bool {
        let zero = |at: usize| match self.dtype {
            DType::F32 => self.bytes[4 * at..][..4] == [0; 4] || self.bytes[4 * at..][..4] == [0, 0, 0, 0x80],
            _ => self.integer(at, o) == 0,
        };
        (0..self.product.taps).all(|tap| zero(self.product.at(o, i, tap)))
    }

    /// The sum of the integers between input channel `i` and output channel `o`.
    pub(super) fn sum(&self, o: usize, i: usize) -> i64 {
        (0..self.product.taps).map(|tap| self.integer(self.product.at(o, i, tap), o)).sum()
    }
}
