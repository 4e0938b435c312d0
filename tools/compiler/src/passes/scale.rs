//! Scales and shifts of channels (batch norms, layer scales) folded into the weights of a neighbouring product.

use kinglet::DType;

use super::util::{Links, both_orders, merged_sources};
use crate::array::Array;
use crate::graph::{BinaryOp, Graph, Node, Op, Post, TensorId};

/// Folds a constant scale and shift into the product before it; where there is none, into the product after it if that
/// does not pad (padding stands for zeros *after* the shift, so a shift cannot pass it).
pub fn fold(graph: &mut Graph) {
    mul_add(graph);
    backwards(graph);
    forwards(graph);
    super::cleanup::cleanup(graph);
}

/// A per-channel `y = x·scale + shift`; a missing part is `None`.
struct Affine {
    x: TensorId,
    scale: Option<TensorId>,
    shift: Option<TensorId>,
}

fn constant(graph: &Graph, t: TensorId) -> bool {
    graph.tensors[t].value.is_some() && graph.tensors[t].quant.is_none() && graph.tensors[t].dtype == DType::F32
}

fn affine(graph: &Graph, node: &Node) -> Option<Affine> {
    if graph.tensors[node.output].quant.is_some() {
        return None;
    }
    let found = match node.op {
        Op::ScaleShift => Affine { x: node.inputs[0]?, scale: node.inputs[1], shift: node.inputs[2] },
        Op::Binary(BinaryOp::Mul) => {
            let (x, k) = both_orders(node).into_iter().find(|&(_, k)| constant(graph, k))?;
            Affine { x, scale: Some(k), shift: None }
        }
        Op::Binary(BinaryOp::Add) => {
            let (x, k) = both_orders(node).into_iter().find(|&(_, k)| constant(graph, k))?;
            Affine { x, scale: None, shift: Some(k) }
        }
        _ => return None,
    };
    let keeps = graph.tensors[found.x].shape == graph.tensors[node.output].shape;
    let constants = [found.scale, found.shift].into_iter().flatten().all(|t| constant(graph, t));
    (keeps && constants && graph.tensors[found.x].quant.is_none()).then_some(found)
}

/// The values of a constant for each position along `axis`, if that is the only axis it varies along.
fn along(graph: &Graph, t: TensorId, rank: usize, axis: usize, n: usize) -> Option<Vec<f64>> {
    let v = graph.tensors[t].value.as_ref()?;
    let lead = rank.checked_sub(v.shape.len())?;
    if v.len() == 1 {
        return Some(vec![v.reals()[0]; n]);
    }
    let fits = v.shape.iter().enumerate().all(|(d, &s)| s == if d + lead == axis { n } else { 1 });
    fits.then(|| v.reals().into_owned())
}

/// `x·a` then `+b`, both constant along one axis, become one step.
fn mul_add(graph: &mut Graph) {
    let mut links = Links::new(graph);
    for i in 0..graph.nodes.len() {
        let node = &graph.nodes[i];
        if node.op != Op::Binary(BinaryOp::Add) {
            continue;
        }
        let Some(add) = affine(graph, node) else { continue };
        let Some(mul) = links.node(graph, add.x).filter(|m| m.op == Op::Binary(BinaryOp::Mul)) else { continue };
        let Some(inner) = affine(graph, mul).filter(|_| links.single_use(add.x)) else { continue };
        let source = merged_sources([mul, node]);
        let inputs = vec![Some(inner.x), inner.scale, add.shift];
        links.rewrite(graph, i, (Op::ScaleShift, inputs, source));
    }
    super::cleanup::cleanup(graph);
}

/// A float product with constant weights: which axis of the weights is the output channel (within a group), which the input.
struct Product {
    out_axis: usize,
    in_axis: usize,
    groups: usize,
    channel_axis: usize,
}

fn product(graph: &Graph, node: &Node) -> Option<Product> {
    let w = node.inputs.get(1).copied().flatten()?;
    if !constant(graph, w) || node.inputs.get(2).copied().flatten().is_some_and(|b| !constant(graph, b)) {
        return None;
    }
    let rank = graph.tensors[node.output].shape.len();
    let x_float = graph.tensors[node.inputs[0]?].quant.is_none() && graph.tensors[node.output].quant.is_none();
    if !x_float {
        return None;
    }
    match &node.op {
        Op::Conv { groups, layout, post, .. } if *post == Post::default() => {
            Some(Product { out_axis: 0, in_axis: 1, groups: *groups, channel_axis: layout.channel_axis(rank) })
        }
        Op::ConvTranspose { groups: 1, layout, post, .. } if *post == Post::default() => {
            Some(Product { out_axis: 1, in_axis: 0, groups: 1, channel_axis: layout.channel_axis(rank) })
        }
        Op::MatMul { transpose_b, post, .. } if *post == Post::default() && graph.tensors[w].shape.len() == 2 => {
            let (out_axis, in_axis) = if *transpose_b { (0, 1) } else { (1, 0) };
            Some(Product { out_axis, in_axis, groups: 1, channel_axis: rank - 1 })
        }
        _ => None,
    }
}

/// Multiplies a constant by one factor for each position along `axis`.
fn scaled(value: &Array, axis: usize, factors: &[f64]) -> Array {
    let inner: usize = value.shape[axis + 1..].iter().product();
    let n = value.shape[axis];
    let data = value.reals().iter().enumerate().map(|(i, v)| v * factors[i / inner % n]).collect();
    Array::f32(&value.shape, data)
}

/// Whether all values are finite as f32. A channel of variance 0 has a huge scale; folded, it could leave what f32 holds where
/// the product and the scale one after the other do not.
fn finite(values: &[f64]) -> bool {
    values.iter().all(|&v| (v as f32).is_finite())
}

fn backwards(graph: &mut Graph) {
    let mut dead = vec![false; graph.nodes.len()];
    let mut links = Links::new(graph);
    for i in 0..graph.nodes.len() {
        let Some(a) = affine(graph, &graph.nodes[i]) else { continue };
        let Some(p) = links.index(a.x).filter(|&p| links.single_use(a.x) && !dead[p]) else { continue };
        let Some(shape) = product(graph, &graph.nodes[p]) else { continue };
        let (rank, axis) = (graph.tensors[a.x].shape.len(), shape.channel_axis);
        let n = graph.tensors[a.x].shape[axis];
        let read = |t: Option<TensorId>, default: f64| match t {
            Some(t) => along(graph, t, rank, axis, n),
            None => Some(vec![default; n]),
        };
        let (Some(scale), Some(shift)) = (read(a.scale, 1.0), read(a.shift, 0.0)) else { continue };
        let node = &graph.nodes[p];
        let w = graph.value(node.inputs[1].expect("checked")).expect("constant");
        let weights = scaled(w, shape.out_axis, &scale);
        let old = node.inputs.get(2).copied().flatten().map(|b| graph.value(b).expect("constant").reals().into_owned());
        let old = old.unwrap_or_else(|| vec![0.0; n]);
        let bias: Vec<f64> = (0..n).map(|k| old[k] * scale[k] + shift[k]).collect();
        if !finite(&weights.reals()) || !finite(&bias) {
            continue;
        }
        let (op, x, source) = (node.op.clone(), node.inputs[0], merged_sources([node, &graph.nodes[i]]));
        let weights = graph.add_constant("folded weights", weights);
        let bias = graph.add_constant("folded bias", Array::f32(&[n], bias));
        dead[p] = true;
        links.rewrite(graph, i, (op, vec![x, Some(weights), Some(bias)], source));
    }
    graph.remove_nodes(&dead);
}

fn forwards(graph: &mut Graph) {
    let mut links = Links::new(graph);
    for i in 0..graph.nodes.len() {
        let node = &graph.nodes[i];
        let Some(p) = product(graph, node) else { continue };
        let pads = match &node.op {
            Op::Conv { window, .. } => window.pads_begin.iter().chain(&window.pads_end).any(|&p| p != 0),
            Op::MatMul { transpose_a: false, .. } => false,
            _ => continue,
        };
        let x = node.inputs[0].expect("has an input");
        let Some(before) = links.node(graph, x).filter(|_| links.single_use(x) && p.groups == 1) else { continue };
        let Some(a) = affine(graph, before) else { continue };
        let (rank, n) = (graph.tensors[x].shape.len(), graph.tensors[x].shape[p.channel_axis]);
        let read = |t: Option<TensorId>, default: f64| match t {
            Some(t) => along(graph, t, rank, p.channel_axis, n),
            None => Some(vec![default; n]),
        };
        let (Some(scale), Some(shift)) = (read(a.scale, 1.0), read(a.shift, 0.0)) else { continue };
        if pads && shift.iter().any(|&s| s != 0.0) {
            continue;
        }
        let w = graph.value(node.inputs[1].expect("checked")).expect("constant").clone();
        let outs = w.shape[p.out_axis];
        let mut bias = match node.inputs.get(2).copied().flatten() {
            Some(b) => graph.value(b).expect("constant").reals().into_owned(),
            None => vec![0.0; outs],
        };
        let strides = crate::array::strides(&w.shape);
        for (k, v) in w.reals().iter().enumerate() {
            let at = |axis: usize| k / strides[axis] % w.shape[axis];
            bias[at(p.out_axis)] += v * shift[at(p.in_axis)];
        }
        let source = merged_sources([before, node]);
        let weights = scaled(&w, p.in_axis, &scale);
        if !finite(&weights.reals()) || !finite(&bias) {
            continue;
        }
        let weights = graph.add_constant("folded weights", weights);
        let bias = graph.add_constant("folded bias", Array::f32(&[outs], bias));
        let op = graph.nodes[i].op.clone();
        links.rewrite(graph, i, (op, vec![Some(a.x), Some(weights), Some(bias)], source));
    }
}
