//! What follows a convolution or matrix product element for element becomes part of it: bounds, activation, residual.

use kinglet::DType;
use kinglet::kernels::UnaryOp;

use super::util::{Links, both_orders, merged_sources};
use crate::graph::{BinaryOp, Graph, Mid, Node, Op, Post};

/// Fuses until nothing more fits.
pub fn fuse(graph: &mut Graph) {
    loop {
        let mut changed = false;
        let mut links = Links::new(graph);
        for i in 0..graph.nodes.len() {
            changed |= fuse_node(graph, &mut links, i);
        }
        super::cleanup::fold_all(graph);
        if !changed {
            return;
        }
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
        Op::Conv { .. } | Op::ConvTranspose { .. } => constant,
        Op::MatMul { transpose_a, .. } => {
            constant && !transpose_a && node.inputs[1].is_some_and(|w| graph.tensors[w].shape.len() == 2)
        }
        _ => false,
    }
}

fn fuse_node(graph: &mut Graph, links: &mut Links, i: usize) -> bool {
    let node = &graph.nodes[i];
    match &node.op {
        Op::Unary { .. } | Op::Lut { .. } => {}
        Op::Binary(BinaryOp::Add) => return residual(graph, links, i),
        _ => return false,
    }
    let x = node.inputs[0].expect("has an input");
    let Some(p) = links.index(x).filter(|&p| links.single_use(x) && constant_product(graph, &graph.nodes[p])) else {
        return false;
    };
    let (tx, ty) = (&graph.tensors[x], &graph.tensors[node.output]);
    let mut op = graph.nodes[p].op.clone();
    let Some(post) = post(&mut op) else { return false };
    let done = post.function.is_some() || post.table.is_some();
    let float = tx.quant.is_none() && ty.quant.is_none() && tx.dtype == DType::F32 && ty.dtype == DType::F32;
    match &node.op {
        Op::Unary { op: UnaryOp::Clip, alpha, beta } if alpha > beta => return false,
        Op::Unary { op: f @ (UnaryOp::Relu | UnaryOp::Clip), alpha, beta } if float && !done => {
            let (lo, hi) = if *f == UnaryOp::Relu { (0.0, f32::INFINITY) } else { (*alpha, *beta) };
            // Bounds within bounds: the later ones bound the earlier ones too.
            (post.lo, post.hi) = (post.lo.clamp(lo, hi), post.hi.clamp(lo, hi));
        }
        Op::Unary { op: f, alpha, beta } if float && !done => post.function = Some((*f, *alpha, *beta)),
        Op::Lut { table } if post.function.is_none() => {
            let byte = |d: DType| matches!(d, DType::I8 | DType::U8);
            let quant = tx.quant.as_ref().and_then(|q| q.single());
            let Some((scale, zero_point)) = quant.filter(|_| byte(tx.dtype) && byte(ty.dtype)) else { return false };
            let residual_before_table = post.residual;
            let bounds = bounds_of(table, tx.dtype).filter(|_| tx.dtype == ty.dtype && tx.quant == ty.quant);
            match (bounds, &post.table) {
                // A table that only cuts is a pair of bounds, which cost nothing.
                (Some((lo, hi)), None) if !residual_before_table => {
                    let real = |q: i32| (q - zero_point) as f32 * scale;
                    (post.lo, post.hi) = (post.lo.max(real(lo)), post.hi.min(real(hi)));
                }
                (_, None) if !residual_before_table => {
                    post.mid = Some(Mid { dtype: tx.dtype, scale, zero_point });
                    post.table = Some(table.clone());
                }
                (_, Some(first)) if !residual_before_table => {
                    post.table = Some(first.iter().map(|&b| table[usize::from(b)]).collect());
                }
                _ => return false,
            }
        }
        _ => return false,
    }
    let source = merged_sources([&graph.nodes[p], node]);
    let inputs = graph.nodes[p].inputs.clone();
    links.rewrite(graph, i, (op, inputs, source));
    // Nobody reads x any more, so the cleanup removes the product that computed it.
    true
}

/// The bounds that a table of a byte type cuts at, if it does nothing else.
fn bounds_of(table: &[u8], dtype: DType) -> Option<(i32, i32)> {
    let value = |b: usize| if dtype == DType::I8 { i32::from(b as u8 as i8) } else { b as i32 };
    let pairs = || (0..256).map(|b| (value(b), value(usize::from(table[b]))));
    let (lo, hi) = (pairs().map(|p| p.1).min()?, pairs().map(|p| p.1).max()?);
    pairs().all(|(x, y)| y == x.clamp(lo, hi)).then_some((lo, hi))
}

fn residual(graph: &mut Graph, links: &mut Links, i: usize) -> bool {
    let node = &graph.nodes[i];
    let shape = &graph.tensors[node.output].shape;
    // Of two products the later one takes the sum: the other's result is there by then.
    let mut orders = both_orders(node);
    orders.sort_by_key(|&(x, _)| std::cmp::Reverse(links.index(x)));
    for (x, other) in orders {
        let Some(p) = links.index(x).filter(|&p| links.single_use(x) && constant_product(graph, &graph.nodes[p]))
        else {
            continue;
        };
        let [tx, to, ty] = [x, other, node.output].map(|t| &graph.tensors[t]);
        if to.value.is_some() || to.shape != *shape || tx.shape != *shape {
            continue;
        }
        let mut op = graph.nodes[p].op.clone();
        let Some(post) = post(&mut op) else { continue };
        if *post != Post::default() {
            continue;
        }
        let plain = |t: &crate::graph::Tensor| t.quant.is_none() && t.dtype == DType::F32;
        let byte = |t: &crate::graph::Tensor| {
            matches!(t.dtype, DType::I8 | DType::U8) && t.quant.as_ref().is_some_and(|q| q.single().is_some())
        };
        if byte(tx) && byte(to) && byte(ty) {
            let (scale, zero_point) = tx.quant.as_ref().and_then(|q| q.single()).expect("checked");
            post.mid = Some(Mid { dtype: tx.dtype, scale, zero_point });
        } else if !(plain(tx) && plain(to) && plain(ty)) {
            continue;
        }
        post.residual = true;
        let mut inputs = graph.nodes[p].inputs.clone();
        inputs.resize(3, None);
        inputs.push(Some(other));
        let source = merged_sources([&graph.nodes[p], node]);
        links.rewrite(graph, i, (op, inputs, source));
        return true;
    }
    false
}
