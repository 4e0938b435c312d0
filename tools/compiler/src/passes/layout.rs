//! Channels last, and transposes moved towards the outputs until they meet their inverse.
//!
//! The graph is rebuilt front to back. A tensor may exist only as a *view*: "transpose `source` by `perm`". An operator that
//! can work on the source instead does so, and its result is a view again; a convolution, which wants its channels last,
//! turns a channels-first input into a view of a channels-last one. A transpose is carried out only where an operator (or
//! an output of the model) really needs the elements in that order.

use std::collections::HashMap;
use std::sync::Arc;

use crate::fold;
use crate::graph::{Graph, Layout, Node, Op, TensorId};

/// Rewrites windowed operators to channels-last form and sinks transposes.
pub fn channels_last(graph: &mut Graph) {
    let nodes = std::mem::take(&mut graph.nodes);
    let mut state = State { graph, views: HashMap::new(), made: HashMap::new() };
    for node in nodes {
        state.node(node);
    }
    for i in 0..state.graph.outputs.len() {
        let t = state.graph.outputs[i];
        state.materialize(t);
    }
    super::cleanup::fold_all(graph);
}

struct State<'a> {
    graph: &'a mut Graph,
    /// Tensors that are (so far) only a transposed source.
    views: HashMap<TensorId, (TensorId, Vec<usize>)>,
    /// Transposes carried out: of which source, by which permutation.
    made: HashMap<(TensorId, Vec<usize>), TensorId>,
}

fn inverse(perm: &[usize]) -> Vec<usize> {
    let mut inv = vec![0; perm.len()];
    perm.iter().enumerate().for_each(|(i, &p)| inv[p] = i);
    inv
}

fn is_identity(perm: &[usize]) -> bool {
    perm.iter().enumerate().all(|(i, &p)| i == p)
}

/// The permutation that first does `first`, then `second`.
fn then(first: &[usize], second: &[usize]) -> Vec<usize> {
    second.iter().map(|&d| first[d]).collect()
}

fn permuted(shape: &[usize], perm: &[usize]) -> Vec<usize> {
    perm.iter().map(|&d| shape[d]).collect()
}

/// From channels first to channels last.
fn to_last(rank: usize) -> Vec<usize> {
    [0].into_iter().chain(2..rank).chain([1]).collect()
}

impl State<'_> {
    fn shape(&self, t: TensorId) -> Vec<usize> {
        self.graph.tensors[t].shape.clone()
    }

    fn source(&self, t: TensorId) -> (TensorId, Vec<usize>) {
        let rank = self.graph.tensors[t].shape.len();
        self.views.get(&t).cloned().unwrap_or_else(|| (t, (0..rank).collect()))
    }

    /// Makes `t` exist in its own order of elements.
    fn materialize(&mut self, t: TensorId) {
        if let Some((source, perm)) = self.views.remove(&t) {
            self.made.entry((source, perm.clone())).or_insert(t);
            self.push(Op::Transpose { perm }, vec![Some(source)], t, Vec::new());
        }
    }

    fn push(&mut self, op: Op, inputs: Vec<Option<TensorId>>, output: TensorId, source: Vec<String>) {
        self.graph.nodes.push(Node::new(op, inputs, output, source));
    }

    /// A tensor like `t` whose elements are those of `t` in the order of the source of a view by `perm`.
    fn like_source(&mut self, t: TensorId, perm: &[usize]) -> TensorId {
        let shape = permuted(&self.shape(t), &inverse(perm));
        let new = self.graph.add_like(t, &shape, "");
        self.graph.stand_for(new, t, perm.to_vec());
        if let Some(q) = self.graph.tensors[new].quant.as_mut().filter(|q| q.scales.len() > 1) {
            q.axis = perm[q.axis];
        }
        new
    }

    /// `t` transposed by `perm`, carried out unless it cancels.
    fn transposed(&mut self, t: TensorId, perm: &[usize]) -> TensorId {
        let (source, first) = self.source(t);
        let perm = then(&first, perm);
        if is_identity(&perm) {
            return source;
        }
        if let Some(&done) = self.made.get(&(source, perm.clone())) {
            return done;
        }
        let shape = permuted(&self.shape(source), &perm);
        let new = self.graph.add_like(source, &shape, ":transposed");
        self.graph.stand_for(new, source, inverse(&perm));
        if let Some(q) = self.graph.tensors[new].quant.as_mut().filter(|q| q.scales.len() > 1) {
            q.axis = inverse(&perm)[q.axis];
        }
        let node = Node::new(Op::Transpose { perm: perm.clone() }, vec![Some(source)], new, vec![]);
        if let Some(value) = self.graph.tensors[source].value.clone() {
            self.graph.tensors[new].value = Some(Arc::new(fold::node(self.graph, &node, &[Some(&value)])));
        } else {
            self.graph.nodes.push(node);
        }
        self.made.insert((source, perm), new);
        new
    }

    /// `t`, which broadcasts to a tensor of rank `perm.len()` in the order of a view by `perm`, in the order of the view's
    /// source.
    fn in_domain(&mut self, t: TensorId, perm: &[usize]) -> TensorId {
        let shape = self.shape(t);
        let rank = perm.len();
        if shape.len() == rank {
            return self.transposed(t, &inverse(perm));
        }
        if shape.iter().product::<usize>() == 1 {
            return t;
        }
        self.materialize(t);
        let full = [vec![1; rank - shape.len()], shape].concat();
        let wide = self.graph.add_like(t, &full, ":broadcast");
        let lead = rank - self.graph.tensors[t].shape.len();
        if let Some(q) = self.graph.tensors[wide].quant.as_mut().filter(|q| q.scales.len() > 1) {
            q.axis += lead;
        }
        match self.graph.tensors[t].value.clone() {
            Some(v) => self.graph.tensors[wide].value = Some(Arc::new(v.as_ref().clone().reshaped(&full))),
            None => self.push(Op::Reshape, vec![Some(t)], wide, Vec::new()),
        }
        self.transposed(wide, &inverse(perm))
    }

    fn node(&mut self, node: Node) {
        let x = node.inputs.first().copied().flatten();
        match &node.op {
            Op::Transpose { perm } => {
                let (source, first) = self.source(x.expect("has an input"));
                let perm = then(&first, perm);
                self.graph.stand_for(source, node.output, perm.clone());
                self.views.insert(node.output, (source, perm));
            }
            Op::Conv { layout: Layout::ChannelsFirst, .. }
            | Op::ConvTranspose { layout: Layout::ChannelsFirst, .. }
            | Op::Pool { layout: Layout::ChannelsFirst, .. }
            | Op::DepthToSpace { layout: Layout::ChannelsFirst, .. } => self.windowed(node),
            Op::Reshape => self.reshape(node),
            Op::MatMul { .. } => self.matmul(node),
            op if op.recurs() || !node.more.is_empty() => {
                node.inputs.iter().flatten().for_each(|&t| self.materialize(t));
                self.graph.nodes.push(node);
            }
            _ => self.general(node),
        }
    }

    fn windowed(&mut self, mut node: Node) {
        let x = node.inputs[0].expect("has an input");
        let perm = to_last(self.graph.tensors[x].shape.len());
        let back = inverse(&perm);
        node.inputs[0] = Some(self.transposed(x, &perm));
        match &mut node.op {
            Op::Conv { layout, .. }
            | Op::ConvTranspose { layout, .. }
            | Op::Pool { layout, .. }
            | Op::DepthToSpace { layout, .. } => *layout = Layout::ChannelsLast,
            _ => unreachable!("only windowed operators come here"),
        }
        let last = self.like_source(node.output, &back);
        self.views.insert(node.output, (last, back));
        self.push(node.op, node.inputs, last, node.source);
    }

    /// An operator that knows its axes by number, or has none.
    fn general(&mut self, node: Node) {
        let rank = self.graph.tensors[node.output].shape.len();
        // The order of the largest view decides; the other operands are brought into it, unless they are larger.
        let data = node.data_inputs();
        let operands: Vec<TensorId> = node.inputs[..data].iter().flatten().copied().collect();
        let size = |s: &Self, t: &TensorId| s.graph.tensors[*t].len();
        let view = operands.iter().filter(|t| self.views.contains_key(t)).max_by_key(|t| size(self, t)).copied();
        let rewritten = view.and_then(|v| {
            let (_, perm) = self.source(v);
            let whole = perm.len() == rank || matches!(node.op, Op::Reduce { .. } | Op::ArgMax { .. });
            let against: usize = operands
                .iter()
                .filter(|t| !self.views.contains_key(t) && self.graph.tensors[**t].value.is_none())
                .map(|t| size(self, t))
                .sum();
            (whole && against <= size(self, &v))
                .then(|| rewrite(&node.op, &perm))
                .flatten()
                .map(|(op, out)| (perm, op, out))
        });
        let Some((perm, op, out_perm)) = rewritten else {
            node.inputs.iter().flatten().for_each(|&t| self.materialize(t));
            self.push(node.op, node.inputs, node.output, node.source);
            return;
        };
        let mut inputs = node.inputs.clone();
        for slot in inputs[..data].iter_mut().flatten() {
            *slot = self.in_domain(*slot, &perm);
        }
        inputs[data..].iter().flatten().for_each(|&t| self.materialize(t));
        let new = self.like_source(node.output, &out_perm);
        if is_identity(&out_perm) {
            self.push(op, inputs, node.output, node.source);
        } else {
            self.views.insert(node.output, (new, out_perm));
            self.push(op, inputs, new, node.source);
        }
    }

    fn reshape(&mut self, node: Node) {
        let x = node.inputs[0].expect("has an input");
        let (source, perm) = self.source(x);
        let to = self.shape(node.output);
        let through = if is_identity(&perm) { None } else { through_reshape(&self.shape(source), &perm, &to) };
        let Some((shape, out_perm)) = through else {
            self.materialize(x);
            self.push(node.op, node.inputs, node.output, node.source);
            return;
        };
        if is_identity(&out_perm) {
            self.push(Op::Reshape, vec![Some(source)], node.output, node.source);
            return;
        }
        let new = self.graph.add_like(node.output, &shape, "");
        self.graph.stand_for(new, node.output, out_perm.clone());
        self.views.insert(node.output, (new, out_perm));
        self.push(Op::Reshape, vec![Some(source)], new, node.source);
    }

    fn matmul(&mut self, mut node: Node) {
        let constant = |s: &Self, t: Option<TensorId>| t.is_some_and(|t| s.graph.tensors[t].value.is_some());
        let Op::MatMul { transpose_a, transpose_b, .. } = &mut node.op else { unreachable!("a matrix product") };
        let (a, b) = (node.inputs[0].expect("a"), node.inputs[1].expect("b"));
        let last = self.graph.tensors[a].shape.len() - 1;
        if constant(self, Some(b)) && self.graph.tensors[b].shape.len() == 2 && !*transpose_a {
            // Rows may come in any order; only the summed axis must be last.
            let (source, perm) = self.source(a);
            if perm[last] == last && !is_identity(&perm) {
                node.inputs[0] = Some(source);
                let new = self.like_source(node.output, &perm);
                self.views.insert(node.output, (new, perm));
                self.push(node.op, node.inputs, new, node.source);
                return;
            }
        } else if node.inputs.len() == 2 {
            for (slot, flag) in [(0, transpose_a), (1, transpose_b)] {
                let t = node.inputs[slot].expect("checked");
                let (source, perm) = self.source(t);
                let n = perm.len();
                let swap: Vec<usize> = (0..n - 2).chain([n - 1, n - 2]).collect();
                if perm == swap {
                    node.inputs[slot] = Some(source);
                    *flag = !*flag;
                }
            }
        }
        node.inputs.iter().flatten().copied().collect::<Vec<_>>().into_iter().for_each(|t| self.materialize(t));
        self.push(node.op, node.inputs, node.output, node.source);
    }
}

/// The operator that does to the source of a view by `perm` what `op` does to the view, and the permutation by which its
/// result is the view of the new one. `None` if there is none.
fn rewrite(op: &Op, perm: &[usize]) -> Option<(Op, Vec<usize>)> {
    let axis = |a: usize| perm[a];
    let axes = |list: &[usize]| {
        let mut v: Vec<usize> = list.iter().map(|&a| perm[a]).collect();
        v.sort_unstable();
        v
    };
    // Attributes with an entry an axis.
    fn moved<T: Clone>(list: &[T], perm: &[usize]) -> Vec<T> {
        inverse(perm).iter().map(|&d| list[d].clone()).collect()
    }
    let kept = |reduced: &[usize], keep: bool| {
        if keep {
            return perm.to_vec();
        }
        let left: Vec<usize> = (0..perm.len()).filter(|a| !reduced.contains(a)).map(|a| perm[a]).collect();
        left.iter().map(|p| left.iter().filter(|q| *q < p).count()).collect()
    };
    let same = perm.to_vec();
    Some(match op {
        Op::Unary { .. }
        | Op::Binary(_)
        | Op::ScaleShift
        | Op::Where
        | Op::Cast(_)
        | Op::Quantize
        | Op::Dequantize
        | Op::Reinterpret
        | Op::Lut { .. } => (op.clone(), same),
        Op::Softmax { axis: a, log } => (Op::Softmax { axis: axis(*a), log: *log }, same),
        // A norm over axes that are not neighbours has no kernel.
        Op::Norm { axes: a, .. } if axes(a).windows(2).any(|w| w[1] != w[0] + 1) => return None,
        Op::Norm { kind, axes: a, epsilon } => (Op::Norm { kind: *kind, axes: axes(a), epsilon: *epsilon }, same),
        Op::Reduce { op, axes: a, keep } => (Op::Reduce { op: *op, axes: axes(a), keep: *keep }, kept(a, *keep)),
        Op::ArgMax { axis: a, keep, smallest, last } => {
            (Op::ArgMax { axis: axis(*a), keep: *keep, smallest: *smallest, last: *last }, kept(&[*a], *keep))
        }
        Op::CumSum { axis: a, exclusive, reverse } => {
            (Op::CumSum { axis: axis(*a), exclusive: *exclusive, reverse: *reverse }, same)
        }
        Op::Pad { mode, before, after, value } => {
            (Op::Pad { mode: *mode, before: moved(before, perm), after: moved(after, perm), value: *value }, same)
        }
        Op::Concat { axis: a } => (Op::Concat { axis: axis(*a) }, same),
        Op::Slice { starts, steps } => (Op::Slice { starts: moved(starts, perm), steps: moved(steps, perm) }, same),
        Op::Tile { repeats } => (Op::Tile { repeats: moved(repeats, perm) }, same),
        _ => return None,
    })
}

/// Carries a transpose through a reshape: if `x = transpose(source, perm)`, then `reshape(x, to)` is
/// `transpose(reshape(source, shape), out_perm)`. Possible when every group of axes that the reshape merges is a run of
/// neighbouring axes of the source too. Axes of extent 1 do not count.
fn through_reshape(source: &[usize], perm: &[usize], to: &[usize]) -> Option<(Vec<usize>, Vec<usize>)> {
    // Without axes of extent 1: the source's axes, and for each axis of x the place of its source axis among them.
    let solid: Vec<usize> = (0..source.len()).filter(|&d| source[d] != 1).collect();
    let place = |d: usize| solid.iter().position(|&s| s == d);
    let x: Vec<usize> = perm.iter().filter_map(|&d| place(d)).collect();
    let extent = |p: usize| source[solid[p]];
    let out: Vec<usize> = (0..to.len()).filter(|&d| to[d] != 1).collect();
    // Pair runs of x's axes with runs of output axes of the same product.
    let mut pieces: Vec<(usize, Vec<usize>)> = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < x.len() || j < out.len() {
        let (first, first_out) = (i, j);
        let (mut p, mut q) = (1usize, 1usize);
        loop {
            if p == q && i > first && j > first_out {
                break;
            }
            if p <= q && i < x.len() {
                p *= extent(x[i]);
                i += 1;
            } else if j < out.len() {
                q *= to[out[j]];
                j += 1;
            } else {
                return None;
            }
        }
        if (first + 1..i).any(|k| x[k] != x[k - 1] + 1) {
            return None;
        }
        pieces.push((x[first], (first_out..j).collect()));
    }
    pieces.sort_unstable_by_key(|(at, _)| *at);
    let order: Vec<usize> = pieces.into_iter().flat_map(|(_, outs)| outs).collect();
    let ones = to.len() - out.len();
    let shape = [vec![1; ones], order.iter().map(|&k| to[out[k]]).collect()].concat();
    let mut next_one = 0;
    let out_perm = (0..to.len())
        .map(|d| match out.iter().position(|&o| o == d) {
            Some(k) => ones + order.iter().position(|&o| o == k).expect("every output axis has a place"),
            None => {
                next_one += 1;
                next_one - 1
            }
        })
        .collect();
    Some((shape, out_perm))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reshape_that_merges_pixels_lets_the_transpose_pass() {
        // [1, H, W, C] seen as [1, C, H, W], reshaped to [1, C, H·W]: a view of [1, H·W, C].
        let (shape, perm) = through_reshape(&[1, 4, 5, 3], &[0, 3, 1, 2], &[1, 3, 20]).expect("passes");
        assert_eq!((shape, perm), (vec![1, 20, 3], vec![0, 2, 1]));
        // Merging channels with rows does not pass.
        assert_eq!(through_reshape(&[1, 4, 5, 3], &[0, 3, 1, 2], &[1, 12, 5]), None);
        // Splitting one axis passes.
        let (shape, perm) = through_reshape(&[1, 20, 6], &[0, 2, 1], &[2, 3, 20]).expect("passes");
        assert_eq!((shape, perm), (vec![20, 2, 3], vec![1, 2, 0]));
    }
}
