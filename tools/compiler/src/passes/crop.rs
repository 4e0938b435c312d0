//! Padding before a convolution, and cuts behind it, become part of it. A causal convolution is often written as one padded
//! on both sides and then cut, or with a `Pad` of its own.

use super::util::{Links, merged_sources};
use crate::graph::{Graph, Op, PadMode, Post, TensorId};

/// Takes padding and cuts into the convolutions beside them.
pub fn crop(graph: &mut Graph) {
    let mut links = Links::new(graph);
    for i in 0..graph.nodes.len() {
        if let Some(found) = cropped(graph, &links, i).or_else(|| padded(graph, &links, i)) {
            links.rewrite(graph, i, found);
        }
    }
    super::cleanup::cleanup(graph);
}

type Found = Option<(Op, Vec<Option<TensorId>>, Vec<String>)>;

/// A convolution of what a `Pad` has put zeros around.
fn padded(graph: &Graph, links: &Links, i: usize) -> Found {
    let conv = &graph.nodes[i];
    let Op::Conv { window, groups, layout, post } = &conv.op else { return None };
    let x = conv.inputs[0]?;
    let pad = links.node(graph, x)?;
    let Op::Pad { mode: PadMode::Constant, before, after, value } = &pad.op else { return None };
    let from = pad.inputs[0]?;
    if *value != 0.0 || graph.tensors[from].quant != graph.tensors[x].quant {
        return None;
    }
    let spatial = layout.spatial_axis()..layout.spatial_axis() + window.kernel.len();
    if (0..before.len()).any(|d| !spatial.contains(&d) && before[d] + after[d] > 0) {
        return None;
    }
    let mut window = window.clone();
    for (axis, d) in spatial.enumerate() {
        window.pads_begin[axis] += before[d] as i64;
        window.pads_end[axis] += after[d] as i64;
    }
    let op = Op::Conv { window, groups: *groups, layout: *layout, post: post.clone() };
    let mut inputs = conv.inputs.clone();
    inputs[0] = Some(from);
    Some((op, inputs, merged_sources([pad, conv])))
}

/// A cut of the result of a convolution.
fn cropped(graph: &Graph, links: &Links, i: usize) -> Found {
    let slice = &graph.nodes[i];
    let Op::Slice { starts, steps } = &slice.op else { return None };
    let x = slice.inputs[0].filter(|&x| links.single_use(x))?;
    let conv = links.node(graph, x)?;
    let Op::Conv { window, groups, layout, post } = &conv.op else { return None };
    let (from, to) = (&graph.tensors[x], &graph.tensors[slice.output]);
    if from.quant.is_some() || to.quant.is_some() || *post != Post::default() || steps.iter().any(|&s| s != 1) {
        return None;
    }
    let first = layout.spatial_axis();
    let mut window = window.clone();
    for d in 0..from.shape.len() {
        let (before, after) = (starts[d], from.shape[d] - starts[d] - to.shape[d]);
        if before == 0 && after == 0 {
            continue;
        }
        let axis = d.checked_sub(first).filter(|&axis| axis < window.kernel.len())?;
        window.pads_begin[axis] -= (before * window.strides[axis]) as i64;
        window.pads_end[axis] -= (after * window.strides[axis]) as i64;
        if window.pads_begin[axis] < 0 || window.pads_end[axis] < 0 {
            return None;
        }
    }
    let op = Op::Conv { window, groups: *groups, layout: *layout, post: post.clone() };
    Some((op, conv.inputs.clone(), merged_sources([conv, slice])))
}
