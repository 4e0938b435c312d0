//! Normalisations that exporters write out, and group norms dressed as instance norms.

use kinglet::kernels::UnaryOp;

use super::util::{Links, both_orders, merged_sources, scalar};
use crate::array::broadcast;
use crate::graph::{BinaryOp, Graph, Node, NormKind, Op, ReduceOp, TensorId};

/// Recognises layer and RMS norms, and takes scale and bias that follow one into it.
pub fn recognise(graph: &mut Graph) {
    let mut links = Links::new(graph);
    for i in 0..graph.nodes.len() {
        let node = &graph.nodes[i];
        let found = match node.op {
            Op::Binary(BinaryOp::Div) => written_out(graph, &links, node),
            Op::Reshape => group(graph, &links, node),
            Op::Binary(BinaryOp::Mul) => written_out(graph, &links, node).or_else(|| affine(graph, &links, i, 1)),
            Op::Binary(BinaryOp::Add) => affine(graph, &links, i, 2),
            _ => None,
        };
        if let Some(found) = found {
            links.rewrite(graph, i, found);
        }
    }
    super::cleanup::cleanup(graph);
}

type Found = Option<(Op, Vec<Option<TensorId>>, Vec<String>)>;

/// The square of `t`'s operand: `Pow(x, 2)` or `x · x`.
fn square_of(graph: &Graph, links: &Links, t: TensorId) -> Option<TensorId> {
    let n = links.node(graph, t)?;
    match n.op {
        Op::Unary { op: UnaryOp::Pow, alpha: 2.0, .. } => n.inputs[0],
        Op::Binary(BinaryOp::Mul) if n.inputs[0] == n.inputs[1] => n.inputs[0],
        _ => None,
    }
}

fn mean_axes(graph: &Graph, links: &Links, t: TensorId) -> Option<(TensorId, Vec<usize>)> {
    let n = links.node(graph, t)?;
    match &n.op {
        Op::Reduce { op: ReduceOp::Mean, axes, keep: true } => Some((n.inputs[0]?, axes.clone())),
        _ => None,
    }
}

/// `d / √s`, or `d · (1/√s)` however that is written, taken apart: d, s, and the nodes before this one that take s to its root.
fn over_root<'a>(graph: &'a Graph, links: &Links, node: &Node) -> Option<(TensorId, TensorId, Vec<&'a Node>)> {
    let power = |n: &Node, of: f32| matches!(n.op, Op::Unary { op: UnaryOp::Pow, alpha, .. } if alpha == of);
    let sqrt = |t: TensorId| links.node(graph, t).filter(|n| n.op == Op::unary(UnaryOp::Sqrt) || power(n, 0.5));
    if node.op == Op::Binary(BinaryOp::Div) {
        let root = sqrt(node.inputs[1]?)?;
        return Some((node.inputs[0]?, root.inputs[0]?, vec![root]));
    }
    both_orders(node).into_iter().find_map(|(d, t)| {
        let inverse = links.node(graph, t)?;
        if power(inverse, -0.5) {
            return Some((d, inverse.inputs[0]?, vec![inverse]));
        }
        let root = match inverse.op {
            Op::Unary { op: UnaryOp::Reciprocal, .. } => sqrt(inverse.inputs[0]?)?,
            Op::Binary(BinaryOp::Div) if scalar(graph, inverse.inputs[0]?) == Some(1.0) => sqrt(inverse.inputs[1]?)?,
            _ => return None,
        };
        Some((d, root.inputs[0]?, vec![root, inverse]))
    })
}

/// `d / √(mean(d²) + ε)`, where `d` is `x − mean(x)` for a layer norm and `x` itself for an RMS norm.
fn written_out(graph: &Graph, links: &Links, node: &Node) -> Found {
    let (d, sum, roots) = over_root(graph, links, node)?;
    // Quantised intermediates round; what rounds is not a norm. What goes in and comes out may be quantised.
    let plain = |t: TensorId| graph.tensors[t].quant.is_none();
    let add = links.node(graph, sum).filter(|n| n.op == Op::Binary(BinaryOp::Add))?;
    let (variance, epsilon) = both_orders(add).into_iter().find_map(|(v, e)| Some((v, scalar(graph, e)?)))?;
    let (squares, axes) = mean_axes(graph, links, variance)?;
    let of = square_of(graph, links, squares)?;
    let between = [sum, variance, squares].into_iter().chain(roots.iter().map(|n| n.output));
    let plain_all = between.into_iter().all(plain);
    // A norm over axes that are not neighbours has no kernel.
    if of != d || !plain_all || axes.windows(2).any(|w| w[1] != w[0] + 1) {
        return None;
    }
    let chain = [squares, variance].into_iter().filter_map(|t| links.node(graph, t)).chain([add]);
    let chain = chain.chain(roots).chain([node]);
    let norm = |kind| Op::Norm { kind, axes: axes.clone(), epsilon: epsilon as f32 };
    if let Some(sub) = links.node(graph, d).filter(|n| n.op == Op::Binary(BinaryOp::Sub)) {
        let (x, mean) = (sub.inputs[0]?, sub.inputs[1]?);
        if plain(mean) && plain(d) && mean_axes(graph, links, mean) == Some((x, axes.clone())) {
            let start = [links.node(graph, mean)?, sub];
            let source = merged_sources(start.into_iter().chain(chain));
            return Some((norm(NormKind::Layer), vec![Some(x), None, None], source));
        }
    }
    Some((norm(NormKind::Rms), vec![Some(d), None, None], merged_sources(chain)))
}

/// `Reshape([n, 1, …]) → InstanceNormalization → Reshape back`: a norm over everything but the batch, in whose mean and
/// variance the order of elements does not matter.
fn group(graph: &Graph, links: &Links, node: &Node) -> Found {
    let norm = links.node(graph, node.inputs[0]?)?;
    let Op::Norm { kind, axes, epsilon } = &norm.op else { return None };
    let before = links.node(graph, norm.inputs[0]?).filter(|n| n.op == Op::Reshape)?;
    let x = before.inputs[0]?;
    let inner = &graph.tensors[norm.output].shape;
    let outer = &graph.tensors[node.output].shape;
    // The normalised axes hold all elements but the batch, and scale and bias are one element each.
    let whole = axes.iter().map(|&d| inner[d]).product::<usize>() * outer.first()? == inner.iter().product::<usize>();
    let scalars = norm.inputs[1..].iter().flatten().all(|&t| scalar(graph, t).is_some());
    let same = graph.tensors[x].shape == *outer && inner[0] == outer[0] && outer.len() > 1;
    let alone = links.single_use(norm.output) && links.single_use(before.output);
    let quant_kept = graph.tensors[norm.output].quant == graph.tensors[node.output].quant
        && graph.tensors[before.output].quant == graph.tensors[x].quant;
    if !(whole && scalars && same && alone && quant_kept) {
        return None;
    }
    let op = Op::Norm { kind: *kind, axes: (1..outer.len()).collect(), epsilon: *epsilon };
    let mut inputs = norm.inputs.clone();
    inputs[0] = Some(x);
    Some((op, inputs, merged_sources([before, norm, node])))
}

/// A constant that multiplies (`slot` 1) or is added to (`slot` 2) the result of a norm.
fn affine(graph: &mut Graph, links: &Links, i: usize, slot: usize) -> Found {
    for (x, k) in both_orders(&graph.nodes[i]) {
        let is_norm = |&n: &usize| matches!(graph.nodes[n].op, Op::Norm { .. });
        let Some(norm) = links.index(x).filter(|_| links.single_use(x)).filter(is_norm) else { continue };
        let shape = graph.tensors[x].shape.clone();
        let constant = graph.tensors[k].value.clone().filter(|_| graph.tensors[k].quant.is_none());
        let Some(constant) = constant else { continue };
        let plain = graph.tensors[x].quant.is_none() && graph.tensors[graph.nodes[i].output].shape == shape;
        if !plain || broadcast(&constant.shape, &shape).as_deref() != Some(&shape) {
            continue;
        }
        let mut inputs = graph.nodes[norm].inputs.clone();
        inputs.resize(3, None);
        // Scale comes before bias: a factor behind a bias scales that too, and stays a step of its own.
        let combined = match (slot, inputs[1], inputs[2]) {
            (1, None, None) | (2, _, None) => k,
            (1, Some(old), None) => combine(graph, BinaryOp::Mul, old, k),
            (2, _, Some(old)) => combine(graph, BinaryOp::Add, old, k),
            (1, old, Some(bias)) => {
                let scaled_bias = combine(graph, BinaryOp::Mul, bias, k);
                inputs[2] = Some(scaled_bias);
                match old {
                    Some(old) => combine(graph, BinaryOp::Mul, old, k),
                    None => k,
                }
            }
            _ => continue,
        };
        inputs[slot] = Some(combined);
        // The norm itself is dead now. Its names are moved, not copied: a long chain of these would be copied again and again.
        let mut source = std::mem::take(&mut graph.nodes[norm].source);
        let last = source.last().cloned();
        source.extend(graph.nodes[i].source.iter().filter(|s| last.as_ref() != Some(s)).cloned());
        return Some((graph.nodes[norm].op.clone(), inputs, source));
    }
    None
}

/// The constant `op(a, b)` of two constants.
fn combine(graph: &mut Graph, op: BinaryOp, a: TensorId, b: TensorId) -> TensorId {
    let (ta, tb) = (graph.tensors[a].clone(), graph.tensors[b].clone());
    let (va, vb) = (ta.value.expect("constant"), tb.value.expect("constant"));
    let shape = broadcast(&va.shape, &vb.shape).expect("both broadcast to the same shape");
    let output = graph.add_like(a, &shape, ":combined");
    let node = Node::new(Op::Binary(op), vec![Some(a), Some(b)], output, Vec::new());
    let value = crate::fold::node(graph, &node, &[Some(&va), Some(&vb)]);
    graph.tensors[output].value = Some(std::sync::Arc::new(value));
    output
}
