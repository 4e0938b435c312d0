//! What the axes of a tensor stand for, followed through reshapes, transposes and broadcasts.

use std::sync::Arc;

use crate::array::Array;
use crate::fold;
use crate::graph::{Graph, Node, Op, Tensor, TensorId};

/// What an axis stands for: time, or one of the names that a search gives out.
pub type Label = u32;
/// The trips of a loop.
pub const TIME: Label = u32::MAX;

/// For each axis what it stands for; nothing for an axis of extent 1, of which there may be any number.
pub type Axes = Vec<Option<Label>>;

/// A name for each axis of a shape, from `first` on.
pub fn fresh(shape: &[usize], first: Label) -> Axes {
    shape.iter().zip(first..).map(|(&n, label)| (n != 1).then_some(label)).collect()
}

/// The axes of a tensor of `shape` that is broadcast to one with these axes.
pub fn aligned(axes: &Axes, shape: &[usize]) -> Option<Axes> {
    let lead = axes.len().checked_sub(shape.len())?;
    Some(axes[lead..].iter().zip(shape).map(|(&label, &n)| label.filter(|_| n != 1)).collect())
}

/// The axes of the input of a node that only arranges elements, given those of its output.
pub fn through_movement(node: &Node, input: &[usize], output: &[usize], axes: &Axes) -> Option<Axes> {
    match &node.op {
        Op::Reshape => {
            let solid = |shape: &[usize]| shape.iter().copied().filter(|&n| n != 1).collect::<Vec<_>>();
            if solid(input) != solid(output) {
                return None;
            }
            let mut labels = axes.iter().flatten();
            Some(input.iter().map(|&n| if n == 1 { None } else { labels.next().copied() }).collect())
        }
        Op::Transpose { perm } => {
            let mut out = vec![None; perm.len()];
            perm.iter().zip(axes).for_each(|(&d, &label)| out[d] = label);
            Some(out)
        }
        Op::Expand => aligned(axes, input),
        _ => None,
    }
}

/// Whether a tensor has an axis of this name.
pub fn has(axes: &Axes, label: Label) -> bool {
    axes.contains(&Some(label))
}

/// Adds nodes that bring `t`, whose axes are `axes`, into the order `order`, each axis with the extent beside it.
pub fn bring(graph: &mut Graph, t: TensorId, axes: &Axes, order: &[(Option<Label>, usize)]) -> TensorId {
    let shape = graph.tensors[t].shape.clone();
    let wanted: Vec<usize> = order.iter().map(|&(_, n)| n).collect();
    if shape == wanted && order.iter().map(|&(label, _)| label).eq(axes.iter().copied()) {
        return t;
    }
    if let Some(perm) = permutation(axes, &shape, order) {
        return append(graph, Op::Transpose { perm }, t, &wanted);
    }
    let solid: Vec<(Label, usize)> = axes.iter().zip(&shape).filter_map(|(l, &n)| Some(((*l)?, n))).collect();
    let present = order.iter().filter_map(|&(label, _)| solid.iter().position(|s| Some(s.0) == label));
    let perm: Vec<usize> = present.collect();
    let extent = |label: Option<Label>| solid.iter().find(|s| Some(s.0) == label).map_or(1, |s| s.1);
    let narrow: Vec<usize> = order.iter().map(|&(label, _)| extent(label)).collect();
    let flat: Vec<usize> = solid.iter().map(|s| s.1).collect();
    let turned: Vec<usize> = perm.iter().map(|&d| flat[d]).collect();
    let t = append(graph, Op::Reshape, t, &flat);
    let t = append(graph, Op::Transpose { perm }, t, &turned);
    let t = append(graph, Op::Reshape, t, &narrow);
    if narrow == wanted { t } else { append(graph, Op::Expand, t, &wanted) }
}

/// The transpose that alone brings axes into an order, if one does.
fn permutation(axes: &Axes, shape: &[usize], order: &[(Option<Label>, usize)]) -> Option<Vec<usize>> {
    if axes.len() != order.len() {
        return None;
    }
    let mut narrow = (0..axes.len()).filter(|&d| axes[d].is_none());
    let place = |&(label, n): &(Option<Label>, usize)| {
        let d = if n == 1 { narrow.next() } else { axes.iter().position(|&l| l.is_some() && l == label) };
        d.filter(|&d| shape[d] == n)
    };
    order.iter().map(place).collect()
}

/// Adds nodes that compute `target`, whose axes are `axes`, from `t`, whose axes are `from`.
pub fn deliver(graph: &mut Graph, t: TensorId, from: &Axes, target: TensorId, axes: &Axes) {
    let shape = graph.tensors[target].shape.clone();
    let order: Vec<(Option<Label>, usize)> = axes.iter().copied().zip(shape).collect();
    let arranged = bring(graph, t, from, &order);
    graph.nodes.push(Node::new(Op::Reshape, vec![Some(arranged)], target, Vec::new()));
}

/// A node with one input and an output of the given shape; constants are arranged at once.
fn append(graph: &mut Graph, op: Op, t: TensorId, shape: &[usize]) -> TensorId {
    let new = graph.add_like(t, shape, ":arranged");
    let node = Node::new(op, vec![Some(t)], new, Vec::new());
    match graph.tensors[t].value.clone() {
        Some(value) => graph.tensors[new].value = Some(Arc::new(fold::node(graph, &node, &[Some(&value)]))),
        None => graph.nodes.push(node),
    }
    new
}

/// A new tensor of f32 without a value.
pub fn add_f32(graph: &mut Graph, name: String, shape: &[usize]) -> TensorId {
    let dtype = kinglet::DType::F32;
    graph.add_tensor(Tensor { name, dtype, shape: shape.to_vec(), quant: None, value: None })
}

/// Whether all elements of a constant are zero.
pub fn is_zero(value: &Array) -> bool {
    value.reals().iter().all(|&v| v == 0.0)
}
