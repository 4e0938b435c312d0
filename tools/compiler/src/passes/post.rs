//! What follows a convolution or matrix product element for element becomes part of it: bounds, functions, constants of the
//! channels, a residual, a table.

use std::cmp::Reverse;

use kinglet::DType;
use kinglet::kernels::UnaryOp;
use kinglet::product::STAGES;

use super::util::{Links, merged_sources};
use crate::graph::{BinaryOp, Graph, Layout, Mid, Node, Op, Post, Stage, Tensor, TensorId};

/// Fuses until nothing more fits.
pub fn fuse(graph: &mut Graph) {
    loop {
        let mut changed = false;
        let mut links = Links::new(graph);
        for i in 0..graph.nodes.len() {
            changed |= match &graph.nodes[i].op {
                Op::Lut { table } => look_up(graph, &mut links, i, &table.clone()),
                _ => tails(graph, &links, &graph.nodes[i]).iter().any(|tail| append(graph, &mut links, i, tail)),
            };
        }
        super::cleanup::fold_all(graph);
        if !changed {
            return;
        }
    }
}

/// The constant's elements as f32, one for each of so many channels (the last axis of the tensor it is broadcast to), if it
/// varies along nothing else.
pub fn along_channels(graph: &Graph, t: TensorId, channels: usize) -> Option<Vec<f32>> {
    let tensor = &graph.tensors[t];
    let value = tensor.value.as_ref()?;
    let n = tensor.len();
    let fits = n == 1 || (n == channels && tensor.shape.last() == Some(&channels));
    let values: Vec<f32> = match &tensor.quant {
        _ if !fits => return None,
        None if tensor.dtype == DType::F32 => value.reals().iter().map(|&v| v as f32).collect(),
        None => return None,
        Some(quant) => {
            let (scale, zero) = quant.single()?;
            value.ints().iter().map(|&q| kinglet::quant::dequantize(q as i32, scale, zero)).collect()
        }
    };
    Some(if n == 1 { vec![values[0]; channels] } else { values })
}

/// A node as what follows tensor `x`.
struct Tail {
    x: TensorId,
    stages: Vec<Stage>,
    /// Operands of the stages that combine, in order.
    operands: Vec<TensorId>,
}

/// The ways to see a node as what follows one of its inputs, the best first.
fn tails(graph: &Graph, links: &Links, node: &Node) -> Vec<Tail> {
    match (&node.op, &node.inputs[..]) {
        // Of crossed bounds the upper one wins, which is no clamp.
        (Op::Unary { op: UnaryOp::Clip, alpha, beta }, _) if alpha > beta => Vec::new(),
        (Op::Unary { op: UnaryOp::Relu, .. }, &[Some(x)]) => vec![function(x, clip(0.0, f32::INFINITY))],
        (&Op::Unary { op, alpha, beta }, &[Some(x)]) => vec![function(x, Stage::Function(op, alpha, beta))],
        (Op::ScaleShift, &[Some(x), Some(scale), Some(shift)]) => {
            let stages = vec![combine(graph, BinaryOp::Mul, scale), combine(graph, BinaryOp::Add, shift)];
            vec![tail(x, stages, [scale, shift])]
        }
        (&Op::Binary(op), &[Some(a), Some(b)]) => {
            let mut found = Vec::new();
            if !matches!(
                op,
                BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Min | BinaryOp::Max
            ) && op != BinaryOp::PRelu
            {
                return found;
            }
            found.push(tail(a, vec![combine(graph, op, b)], [b]));
            match op {
                BinaryOp::Add | BinaryOp::Mul | BinaryOp::Min | BinaryOp::Max => {
                    found.push(tail(b, vec![combine(graph, op, a)], [a]));
                }
                // a − b is −b + a.
                BinaryOp::Sub => {
                    let negative = Stage::Function(UnaryOp::Neg, 0.0, 0.0);
                    found.push(tail(b, vec![negative, combine(graph, BinaryOp::Add, a)], [a]));
                }
                _ => {}
            }
            // Of two products the later one takes the other's result, which is there by then.
            found.sort_by_key(|tail| Reverse(links.index(tail.x)));
            found
        }
        _ => Vec::new(),
    }
}

fn clip(lo: f32, hi: f32) -> Stage {
    Stage::Function(UnaryOp::Clip, lo, hi)
}

fn function(x: TensorId, stage: Stage) -> Tail {
    Tail { x, stages: vec![stage], operands: Vec::new() }
}

/// A tail whose stages take `operands`, but for those that hold the constant themselves.
fn tail<const N: usize>(x: TensorId, stages: Vec<Stage>, operands: [TensorId; N]) -> Tail {
    let combined = stages.iter().filter(|s| !matches!(s, Stage::Function(UnaryOp::Neg, ..)));
    let taken = combined.zip(operands).filter(|(s, _)| matches!(s, Stage::Combine(_))).map(|(_, t)| t).collect();
    Tail { x, stages, operands: taken }
}

/// `op(x, other)`: a function where the other operand is one number that a function can hold.
fn combine(graph: &Graph, op: BinaryOp, other: TensorId) -> Stage {
    let number = (graph.tensors[other].len() == 1).then(|| along_channels(graph, other, 1)).flatten().map(|v| v[0]);
    match (op, number.filter(|c| !c.is_nan())) {
        (BinaryOp::Add, Some(c)) => Stage::Function(UnaryOp::Affine, 1.0, c),
        (BinaryOp::Sub, Some(c)) => Stage::Function(UnaryOp::Affine, 1.0, -c),
        // To add −0 changes no number; to add +0 would change −0.
        (BinaryOp::Mul, Some(c)) => Stage::Function(UnaryOp::Affine, c, -0.0),
        (BinaryOp::Max, Some(c)) => clip(c, f32::INFINITY),
        (BinaryOp::Min, Some(c)) => clip(f32::NEG_INFINITY, c),
        (BinaryOp::PRelu, Some(c)) => Stage::Function(UnaryOp::LeakyRelu, c, 0.0),
        _ => Stage::Combine(op),
    }
}

fn post(op: &mut Op) -> Option<&mut Post> {
    match op {
        Op::Conv { post, .. } | Op::ConvTranspose { post, .. } | Op::MatMul { post, .. } => Some(post),
        _ => None,
    }
}

/// Whether a node is a product with constant weights: only those have a step that takes more after the sum.
fn constant_product(graph: &Graph, node: &Node) -> bool {
    let constant = node.inputs.get(1).copied().flatten().is_some_and(|w| graph.tensors[w].value.is_some());
    match node.op {
        Op::Conv { layout, .. } | Op::ConvTranspose { layout, .. } => constant && layout == Layout::ChannelsLast,
        Op::MatMul { transpose_a, .. } => {
            constant && !transpose_a && node.inputs[1].is_some_and(|w| graph.tensors[w].shape.len() == 2)
        }
        _ => false,
    }
}

fn is_real(t: &Tensor) -> bool {
    t.quant.is_none() && t.dtype == DType::F32
}

/// The tensor's quantisation as what a sum is rounded to: bytes of one scale.
fn bytes(t: &Tensor) -> Option<Mid> {
    let (scale, zero_point) = t.quant.as_ref().and_then(|q| q.single())?;
    matches!(t.dtype, DType::I8 | DType::U8).then_some(Mid { dtype: t.dtype, scale, zero_point })
}

/// The product with constant weights that computes `x` for one reader only: its place, and whether it is one of integers.
fn product_before(graph: &Graph, links: &Links, x: TensorId) -> Option<(usize, bool)> {
    let p = links.index(x).filter(|&p| links.single_use(x) && constant_product(graph, &graph.nodes[p]))?;
    Some((p, graph.nodes[p].inputs[0].is_some_and(|t| graph.tensors[t].quant.is_some())))
}

/// Adds a stage, unless it can be part of the bounds or stage before it.
fn push(post: &mut Post, stage: Stage) {
    // Bounds within bounds: the later ones bound the earlier ones too.
    let within = |(lo, hi): (f32, f32), a: f32, b: f32| (lo.clamp(a, b), hi.clamp(a, b));
    match (stage, post.stages.last_mut()) {
        (Stage::Function(UnaryOp::Identity, ..), _) => {}
        (Stage::Function(UnaryOp::Clip, a, b), None) if post.mid.is_none() => {
            (post.lo, post.hi) = within((post.lo, post.hi), a, b);
        }
        (Stage::Function(UnaryOp::Clip, a, b), Some(Stage::Function(UnaryOp::Clip, lo, hi))) => {
            (*lo, *hi) = within((*lo, *hi), a, b);
        }
        _ => post.stages.push(stage),
    }
}

/// Whether the step of a product has room for this.
fn fits(graph: &Graph, post: &Post, operands: &[Option<TensorId>]) -> bool {
    // Bounds of a sum that is not rounded are a stage of the step.
    let bounds = post.mid.is_none() && (post.lo, post.hi) != (f32::NEG_INFINITY, f32::INFINITY);
    let computed = operands.iter().flatten().filter(|&&t| graph.tensors[t].value.is_none()).count();
    post.stages.len() + usize::from(bounds) <= STAGES && computed <= 1
}

/// Gives what node `i` is after a product to the product, which takes the node's place.
fn append(graph: &mut Graph, links: &mut Links, i: usize, tail: &Tail) -> bool {
    let node = &graph.nodes[i];
    let Some((p, integer)) = product_before(graph, links, tail.x) else { return false };
    let (tx, ty) = (&graph.tensors[tail.x], &graph.tensors[node.output]);
    let mut op = graph.nodes[p].op.clone();
    let Some(post) = post(&mut op) else { return false };
    let quantised = ty.quant.as_ref().is_some_and(|q| q.single().is_some());
    if tx.shape != ty.shape || !(is_real(ty) || integer && quantised) {
        return false;
    }
    let channels = ty.shape.last().copied().unwrap_or(1);
    let operand = |&t: &TensorId| {
        let other = &graph.tensors[t];
        let computed =
            other.shape == ty.shape && (is_real(other) || other.quant.as_ref().is_some_and(|q| q.single().is_some()));
        if other.value.is_some() { along_channels(graph, t, channels).is_some() } else { computed }
    };
    if !tail.operands.iter().all(operand) {
        return false;
    }
    if !is_real(tx) {
        // There is one rounding before the stages, and one behind them.
        let free = post.mid.is_none() && post.stages.is_empty() && post.table.is_none();
        post.mid = bytes(tx).filter(|_| integer && free);
        if post.mid.is_none() {
            return false;
        }
    }
    tail.stages.iter().for_each(|&stage| push(post, stage));
    if post.mid.is_some() && post.stages.is_empty() {
        return false;
    }
    let mut inputs = graph.nodes[p].inputs.clone();
    if !tail.operands.is_empty() {
        inputs.resize(inputs.len().max(Post::OPERANDS), None);
        inputs.extend(tail.operands.iter().map(|&t| Some(t)));
    }
    if !fits(graph, post, inputs.get(Post::OPERANDS..).unwrap_or_default()) {
        return false;
    }
    let source = merged_sources([&graph.nodes[p], node]);
    // Nobody reads x any more, so the cleanup removes the product that computed it.
    links.rewrite(graph, i, (op, inputs, source));
    true
}

/// Gives a table behind a product of integers to the product.
fn look_up(graph: &mut Graph, links: &mut Links, i: usize, table: &[u8]) -> bool {
    let node = &graph.nodes[i];
    let x = node.inputs[0].expect("has an input");
    let Some((p, true)) = product_before(graph, links, x) else { return false };
    let (tx, ty) = (&graph.tensors[x], &graph.tensors[node.output]);
    let (Some(from), true) = (bytes(tx), matches!(ty.dtype, DType::I8 | DType::U8)) else { return false };
    let mut op = graph.nodes[p].op.clone();
    let Some(post) = post(&mut op) else { return false };
    let bounds = bounds_of(table, &from).filter(|_| tx.dtype == ty.dtype && tx.quant == ty.quant);
    match (bounds, &post.table) {
        // A table that only cuts is a pair of bounds, which cost nothing; rounding and cutting commute.
        (Some((lo, hi)), None) => push(post, clip(lo, hi)),
        (None, None) if post.mid.is_none() && post.stages.is_empty() => {
            (post.mid, post.table) = (Some(from), Some(table.to_vec()));
        }
        (_, Some(first)) => post.table = Some(first.iter().map(|&b| table[usize::from(b)]).collect()),
        _ => return false,
    }
    let inputs = graph.nodes[p].inputs.clone();
    if !fits(graph, post, inputs.get(Post::OPERANDS..).unwrap_or_default()) {
        return false;
    }
    let source = merged_sources([&graph.nodes[p], node]);
    links.rewrite(graph, i, (op, inputs, source));
    true
}

/// The real bounds that a table of bytes cuts at, if it does nothing else.
fn bounds_of(table: &[u8], bytes: &Mid) -> Option<(f32, f32)> {
    let value = |b: usize| if bytes.dtype == DType::I8 { i32::from(b as u8 as i8) } else { b as i32 };
    let pairs = || (0..256).map(|b| (value(b), value(usize::from(table[b]))));
    let (lo, hi) = (pairs().map(|p| p.1).min()?, pairs().map(|p| p.1).max()?);
    let (least, most) = bytes.dtype.quantized_range()?;
    let real =
        |q: i32, open: bool, infinity: f32| if open { infinity } else { (q - bytes.zero_point) as f32 * bytes.scale };
    let bounds = (real(lo, lo == least, f32::NEG_INFINITY), real(hi, hi == most, f32::INFINITY));
    pairs().all(|(x, y)| y == x.clamp(lo, hi)).then_some(bounds)
}
