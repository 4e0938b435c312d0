//! Activations and differences that exporters write out in elementary operators.

use kinglet::kernels::UnaryOp;

use super::util::{Links, about, both_orders, merged_sources, scalar};
use crate::graph::{BinaryOp, Graph, Node, Op, TensorId};

/// Recognises GELU, Swish, HardSwish, the thresholded Softplus, and differences.
pub fn recognise(graph: &mut Graph) {
    let mut links = Links::new(graph);
    for i in 0..graph.nodes.len() {
        let node = &graph.nodes[i];
        let found = match node.op {
            Op::Binary(BinaryOp::Mul) => swish(graph, &links, node).or_else(|| gelu(graph, &links, node)),
            Op::Where => softplus(graph, &links, node),
            Op::Binary(BinaryOp::Add) => {
                if let Some((b, a, source)) = difference(graph, &links, node) {
                    links.rewrite(graph, i, (Op::Binary(BinaryOp::Sub), vec![Some(b), Some(a)], source));
                }
                None
            }
            _ => None,
        };
        if let Some((op, x, source)) = found {
            links.rewrite(graph, i, (op, vec![Some(x)], source));
        }
    }
    super::cleanup::cleanup(graph);
}

type Found = Option<(Op, TensorId, Vec<String>)>;

/// `x · sigmoid(x)`, `x · hardsigmoid(x)` with slope 1/6.
fn swish(graph: &Graph, links: &Links, node: &Node) -> Found {
    both_orders(node).into_iter().find_map(|(x, s)| {
        let gate = links.node(graph, s).filter(|g| g.inputs[0] == Some(x))?;
        let op = match gate.op {
            Op::Unary { op: UnaryOp::Sigmoid, .. } => Op::Unary { op: UnaryOp::Swish, alpha: 1.0, beta: 0.0 },
            Op::Unary { op: UnaryOp::HardSigmoid, alpha, beta } if about(alpha.into(), 1.0 / 6.0) && beta == 0.5 => {
                Op::unary(UnaryOp::HardSwish)
            }
            _ => return None,
        };
        Some((op, x, merged_sources([gate, node])))
    })
}

/// `0.5 · x · (1 + erf(x/√2))`, its factors in any order.
fn gelu(graph: &Graph, links: &Links, node: &Node) -> Found {
    let mut factors = Vec::new();
    let mut nodes = vec![node];
    for t in node.inputs.iter().flatten() {
        match links.node(graph, *t) {
            Some(n) if n.op == Op::Binary(BinaryOp::Mul) && links.single_use(*t) => {
                factors.extend(n.inputs.iter().flatten());
                nodes.insert(0, n);
            }
            _ => factors.push(*t),
        }
    }
    let half = factors.iter().position(|&t| scalar(graph, t).is_some_and(|v| about(v, 0.5)))?;
    factors.remove(half);
    let &[a, b] = &factors[..] else { return None };
    [(a, b), (b, a)].into_iter().find_map(|(x, sum)| {
        let add = links.node(graph, sum).filter(|n| n.op == Op::Binary(BinaryOp::Add))?;
        let (_, erf) = both_orders(add).into_iter().find(|&(one, _)| scalar(graph, one) == Some(1.0))?;
        let erf = links.node(graph, erf).filter(|n| n.op == Op::unary(UnaryOp::Erf))?;
        let scaled = links.node(graph, erf.inputs[0]?)?;
        let (from, by) = match scaled.op {
            Op::Binary(BinaryOp::Div) => (scaled.inputs[0]?, 1.0 / scalar(graph, scaled.inputs[1]?)?),
            Op::Binary(BinaryOp::Mul) => {
                both_orders(scaled).into_iter().find_map(|(x, k)| Some((x, scalar(graph, k)?)))?
            }
            _ => return None,
        };
        let matches = from == x && about(by, std::f64::consts::FRAC_1_SQRT_2);
        let all = [scaled, erf, add].into_iter().chain(nodes.iter().copied());
        matches.then(|| (Op::unary(UnaryOp::Gelu), x, merged_sources(all)))
    })
}

/// `b + (−a)`, which is `b − a`.
fn difference(graph: &Graph, links: &Links, node: &Node) -> Option<(TensorId, TensorId, Vec<String>)> {
    both_orders(node).into_iter().find_map(|(negative, b)| {
        let neg = links.node(graph, negative).filter(|n| n.op == Op::unary(UnaryOp::Neg))?;
        let same = graph.tensors[node.output].dtype == kinglet::DType::F32;
        same.then(|| Some((b, neg.inputs[0]?, merged_sources([neg, node]))))?
    })
}

/// `x > t ? x : softplus(x)` with a threshold of at least 15, beyond which the two agree to f32 precision.
fn softplus(graph: &Graph, links: &Links, node: &Node) -> Found {
    let &[Some(condition), Some(x), Some(y)] = &node.inputs[..] else { return None };
    let soft = links.node(graph, y).filter(|n| n.op == Op::unary(UnaryOp::Softplus) && n.inputs[0] == Some(x))?;
    let greater = links.node(graph, condition).filter(|n| n.op == Op::Binary(BinaryOp::Greater))?;
    let threshold = scalar(graph, greater.inputs[1]?)?;
    (greater.inputs[0] == Some(x) && threshold >= 15.0)
        .then(|| (Op::unary(UnaryOp::Softplus), x, merged_sources([greater, soft, node])))
}
