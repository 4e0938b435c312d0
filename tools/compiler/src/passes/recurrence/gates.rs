//! What surrounds a selective scan becomes part of it: the skip `D·x`, the gate `SiLU(z)`, the softplus of Δ.

use super::super::util::{Links, both_orders, merged_sources};
use super::axes::{bring, fresh};
use crate::graph::{BinaryOp, Graph, Op, TensorId, UnaryOp};

/// Inputs of the operator.
const X: usize = 0;
const DELTA: usize = 1;
const SKIP: usize = 5;
const GATE: usize = 6;

/// Fuses what surrounds every selective scan.
pub fn fuse(graph: &mut Graph) {
    let mut links = Links::new(graph);
    for i in 0..graph.nodes.len() {
        if matches!(graph.nodes[i].op, Op::SelectiveScan { .. }) {
            softplus(graph, &mut links, i);
        }
    }
    // A skip first, a gate behind it: the order in which the scan does them.
    for found in [skip as fn(&Graph, &Links, usize) -> Option<Fused>, gate] {
        let mut links = Links::new(graph);
        for i in 0..graph.nodes.len() {
            if let Some(fused) = found(graph, &links, i) {
                fused.apply(graph, &mut links, i);
            }
        }
        graph.sort();
    }
    super::super::cleanup::cleanup(graph);
}

fn softplus(graph: &mut Graph, links: &mut Links, i: usize) {
    let Some(delta) = graph.nodes[i].inputs[DELTA].filter(|&t| links.single_use(t)) else { return };
    let Some(node) = links.node(graph, delta).filter(|n| n.op == Op::unary(UnaryOp::Softplus)) else { return };
    let (before, source) = (node.inputs[0], merged_sources([node, &graph.nodes[i]]));
    if graph.nodes[i].op == (Op::SelectiveScan { softplus: false }) {
        let mut inputs = graph.nodes[i].inputs.clone();
        inputs[DELTA] = before;
        links.rewrite(graph, i, (Op::SelectiveScan { softplus: true }, inputs, source));
    }
}

/// An operand that a scan takes, and the node whose result it then gives.
struct Fused {
    scan: usize,
    slot: usize,
    operand: TensorId,
}

impl Fused {
    fn apply(self, graph: &mut Graph, links: &mut Links, absorbed: usize) {
        let new = graph.nodes.len();
        let node = graph.nodes[absorbed].clone();
        let y = graph.nodes[self.scan].output;
        let shape = graph.tensors[y].shape.clone();
        let operand = match self.slot {
            SKIP => {
                let axes = fresh(&graph.tensors[self.operand].shape, 0).into_iter().map(|l| l.map(|_| 0)).collect();
                bring(graph, self.operand, &axes, &[(Some(0), shape[2])])
            }
            _ => {
                let axes = fresh(&graph.tensors[self.operand].shape, 0);
                let mut labels = axes.iter().flatten().copied();
                let order: Vec<_> = shape.iter().map(|&n| (if n == 1 { None } else { labels.next() }, n)).collect();
                bring(graph, self.operand, &axes, &order)
            }
        };
        let output = graph.add_like(y, &shape, ":fused");
        let source = merged_sources([&graph.nodes[self.scan], &node]);
        let scan = &graph.nodes[self.scan];
        let (op, mut inputs) = (scan.op.clone(), scan.inputs.clone());
        inputs.resize(inputs.len().max(self.slot + 1), None);
        inputs[self.slot] = Some(operand);
        links.extend(graph, new);
        links.rewrite(graph, self.scan, (op, inputs, source));
        links.rename(graph, self.scan, output);
        links.rewrite(graph, absorbed, (Op::Reshape, vec![Some(output)], Vec::new()));
    }
}

/// The tensor that `t` is the same elements of, behind reshapes that only add or remove axes of extent 1. Reshapes that others
/// read too are left alone if `alone` is asked for.
fn origin(graph: &Graph, links: &Links, mut t: TensorId, alone: bool) -> TensorId {
    let solid = |t: TensorId| graph.tensors[t].shape.iter().copied().filter(|&n| n != 1).collect::<Vec<_>>();
    while let Some(node) = links.node(graph, t).filter(|n| n.op == Op::Reshape && (!alone || links.single_use(t))) {
        let Some(x) = node.inputs[0].filter(|&x| solid(x) == solid(t)) else { break };
        t = x;
    }
    t
}

/// The scan whose first result, read by nobody else, is `t`.
fn scan_of(graph: &Graph, links: &Links, t: TensorId) -> Option<usize> {
    let t = origin(graph, links, t, true);
    let i = links.index(t).filter(|_| links.single_use(t))?;
    let node = &graph.nodes[i];
    (matches!(node.op, Op::SelectiveScan { .. }) && node.output == t).then_some(i)
}

fn absent(graph: &Graph, scan: usize, slot: usize) -> bool {
    graph.nodes[scan].inputs.get(slot).copied().flatten().is_none()
}

fn plain(graph: &Graph, node: usize) -> bool {
    let node = &graph.nodes[node];
    graph.tensors[node.output].quant.is_none()
        && node.inputs.iter().flatten().all(|&t| graph.tensors[t].quant.is_none())
}

/// `y + D·x` with a constant D, one element a channel.
fn skip(graph: &Graph, links: &Links, i: usize) -> Option<Fused> {
    let add = Some(&graph.nodes[i]).filter(|n| n.op == Op::Binary(BinaryOp::Add) && plain(graph, i))?;
    both_orders(add).into_iter().find_map(|(y, product)| {
        let scan = scan_of(graph, links, y).filter(|&s| absent(graph, s, SKIP) && absent(graph, s, GATE))?;
        let mul = links.node(graph, product).filter(|n| n.op == Op::Binary(BinaryOp::Mul))?;
        let inner = graph.tensors[graph.nodes[scan].output].shape[2];
        let scanned = origin(graph, links, graph.nodes[scan].inputs[X]?, false);
        both_orders(mul).into_iter().find_map(|(d, x)| {
            let t = &graph.tensors[d];
            let per_channel = t.value.is_some() && t.len() == inner && t.shape.last() == Some(&inner);
            let ends = graph.tensors[x].shape.last() == Some(&inner);
            let same_x = origin(graph, links, x, false) == scanned;
            (per_channel && ends && same_x).then_some(Fused { scan, slot: SKIP, operand: d })
        })
    })
}

/// `y · SiLU(z)`.
fn gate(graph: &Graph, links: &Links, i: usize) -> Option<Fused> {
    let mul = Some(&graph.nodes[i]).filter(|n| n.op == Op::Binary(BinaryOp::Mul) && plain(graph, i))?;
    both_orders(mul).into_iter().find_map(|(y, g)| {
        let scan = scan_of(graph, links, y).filter(|&s| absent(graph, s, GATE))?;
        let silu = links.node(graph, g).filter(|_| links.single_use(g))?;
        let Op::Unary { op: UnaryOp::Swish, alpha: 1.0, .. } = silu.op else { return None };
        let z = silu.inputs[0]?;
        let fits = graph.tensors[g].shape == graph.tensors[y].shape && graph.tensors[z].quant.is_none();
        fits.then_some(Fused { scan, slot: GATE, operand: z })
    })
}
