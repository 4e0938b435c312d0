//! What a node does with channels: the positions along the last axis of a tensor.

use kinglet::DType;
use kinglet::kernels::ReduceOp;

use super::product::Product;
use crate::graph::{Graph, Layout, Node, Op, TensorId};

/// How the channels of a node's output come from those of its inputs.
pub(super) enum Flow {
    /// Any may depend on all.
    Mixed,
    /// The node multiplies by constant weights.
    Product(Product),
    /// Each channel is made of one channel of each of these inputs, in the same way whatever the others are.
    Through(Vec<Part>),
}

/// An input whose channels go through a node.
pub(super) struct Part {
    /// Which input.
    pub slot: usize,
    /// Its tensor.
    pub x: TensorId,
    /// Where its channels go.
    pub way: Way,
}

/// Where channels go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Channel `c` to channel `c`; a reshape that joins or splits the axis of the channels repeats them.
    Same,
    /// From this channel on, as many as the output has.
    From(usize),
    /// To this channel and those behind it.
    At(usize),
}

impl Part {
    /// The pairs of channels, of `of_x` of the input and `of_y` of the output, that are one.
    pub(super) fn pairs(&self, of_x: usize, of_y: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let way = self.way;
        let n = match way {
            Way::Same => of_x.max(of_y),
            Way::From(_) => of_y,
            Way::At(_) => of_x,
        };
        (0..n).map(move |c| match way {
            Way::Same => (c % of_x, c % of_y),
            Way::From(first) => (first + c, c),
            Way::At(first) => (c, first + c),
        })
    }
}

/// For each input of a node whether its channels go through.
pub(super) fn slots(node: &Node, parts: &[Part]) -> Vec<bool> {
    let mut through = vec![false; node.inputs.len()];
    parts.iter().for_each(|p| through[p.slot] = true);
    through
}

/// The number of channels of a tensor.
pub(super) fn channels(graph: &Graph, t: TensorId) -> usize {
    graph.tensors[t].shape.last().copied().unwrap_or(1)
}

/// Whether an operator works element for element, on operands that broadcast.
pub(super) fn is_elementwise(op: &Op) -> bool {
    matches!(
        op,
        Op::Unary { .. }
            | Op::Binary(_)
            | Op::ScaleShift
            | Op::Where
            | Op::Cast(_)
            | Op::Quantize
            | Op::Dequantize
            | Op::Reinterpret
            | Op::Lut { .. }
    )
}

/// How the channels of `node` come about, given how often each tensor is read, and which tensors may lose channels.
pub(super) fn flow(graph: &Graph, uses: &[usize], node: &Node, may_shrink: impl Fn(TensorId) -> bool) -> Flow {
    let single = |t: &TensorId| graph.tensors[*t].quant.as_ref().is_none_or(|q| q.single().is_some());
    let whole = |t: &TensorId| !graph.tensors[*t].is_empty() && !graph.tensors[*t].shape.is_empty();
    if !node.more.is_empty() || !whole(&node.output) || !single(&node.output) {
        return Flow::Mixed;
    }
    if let Some(product) = Product::of(graph, uses, node) {
        return Flow::Product(product);
    }
    match parts(graph, node) {
        Some(parts) if parts.iter().all(|p| may_shrink(p.x)) && node.inputs.iter().flatten().all(single) => {
            Flow::Through(parts)
        }
        _ => Flow::Mixed,
    }
}

/// The inputs whose channels go through a node that computes nothing across them; `None` if it does, or there are none.
fn parts(graph: &Graph, node: &Node) -> Option<Vec<Part>> {
    let shape = |t: TensorId| &graph.tensors[t].shape;
    let y = shape(node.output);
    let (last, of_y) = (y.len() - 1, channels(graph, node.output));
    let x = node.inputs.first().copied().flatten()?;
    let of_x = channels(graph, x);
    // Of the first input, of a rank of its own.
    let behind = shape(x).len().checked_sub(1)?;
    let same = |slot: usize, x: TensorId| Part { slot, x, way: Way::Same };
    let computed = |t: TensorId| graph.tensors[t].value.is_none();
    let inputs = || node.inputs.iter().enumerate().filter_map(|(k, t)| t.map(|t| (k, t)));
    let found: Vec<Part> = match &node.op {
        op if is_elementwise(op) => {
            // What is broadcast along the channels is read for all of them.
            if inputs().any(|(_, t)| !computed(t) && channels(graph, t) != of_y && channels(graph, t) != 1) {
                return None;
            }
            inputs().filter(|&(_, t)| computed(t) && channels(graph, t) == of_y).map(|(k, t)| same(k, t)).collect()
        }
        Op::Pool { layout: Layout::ChannelsLast, .. } => vec![same(0, x)],
        Op::Reduce { op, axes, .. } if !axes.contains(&behind) && reduces_exactly(graph, x, *op, axes) => {
            vec![same(0, x)]
        }
        Op::Pad { before, after, .. } if before[last] == 0 && after[last] == 0 => vec![same(0, x)],
        Op::Transpose { perm } if perm[last] == last => vec![same(0, x)],
        Op::Reshape if of_x.is_multiple_of(of_y) || of_y.is_multiple_of(of_x) => vec![same(0, x)],
        Op::Gather { axis } if *axis != behind => vec![same(0, x)],
        Op::Expand if of_x == of_y => vec![same(0, x)],
        Op::Tile { repeats } if repeats[last] == 1 => vec![same(0, x)],
        Op::Slice { starts, steps } if steps[last] == 1 => {
            let whole = of_x == of_y;
            vec![Part { way: if whole { Way::Same } else { Way::From(starts[last]) }, ..same(0, x) }]
        }
        Op::Concat { axis } => {
            let mut first = 0;
            let piece = |(slot, x): (usize, TensorId)| {
                let way = if *axis == last { Way::At(first) } else { Way::Same };
                first += channels(graph, x);
                Part { slot, x, way }
            };
            inputs().map(piece).collect()
        }
        _ => return None,
    };
    (!found.is_empty() && found.iter().all(|p| computed(p.x))).then_some(found)
}

/// Whether a reduction along other axes gives the same bits for a channel whatever the others are. The order of additions is
/// another where one channel is left, so that sums of quantised elements have to be exact.
fn reduces_exactly(graph: &Graph, x: TensorId, op: ReduceOp, axes: &[usize]) -> bool {
    let tensor = &graph.tensors[x];
    let n: usize = axes.iter().map(|&a| tensor.shape[a]).product();
    let run = axes.windows(2).all(|w| w[1] == w[0] + 1);
    match op {
        ReduceOp::Max | ReduceOp::Min => true,
        ReduceOp::Sum | ReduceOp::Mean if tensor.quant.is_some() => run && tensor.dtype.size() == 1 && n <= 1 << 16,
        ReduceOp::Sum | ReduceOp::Mean => tensor.dtype == DType::F32,
        _ => false,
    }
}
