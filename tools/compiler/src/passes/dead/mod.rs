//! Channels that nobody reads are not computed, nor those that are always the same.
//!
//! Training with a penalty on weights leaves whole channels at zero. An input channel of a product whose weights are all zero
//! (in integers: equal to their zero points) is never read. Where no reader of a tensor reads a channel, it is dropped there, and
//! backwards through everything that keeps channels apart, up to the output channel of the product that makes it.
//!
//! An output channel of a product of integers whose weights are all zero always has the same value. Its part of the next
//! product's sums is added to the bias there, and then nobody reads it. In floats that would round otherwise than the file does.
//!
//! Channels that a node keeps apart but moves as one (the two sides of a pooling, of an addition, a residual) form classes: all are
//! kept if one of them is read. One search from the outputs of the model backwards finds the classes that are read, looking at
//! each weight once. Inputs and outputs of the model keep their shapes, and so does what an operator reads or gives that mixes
//! channels in another way than by constant weights.

mod constants;
mod cut;
mod fate;
mod flow;
mod product;

use std::collections::HashMap;

use self::constants::{Constants, Known, biases};
use self::fate::Fates;
use self::flow::{Flow, channels, flow, slots};
use self::product::Weights;
use crate::graph::{Graph, Lost, Node, TensorId};

/// Operations that it takes to look at a weight, or at a channel of a tensor.
const LOOKING: u64 = 16;

/// Drops what is not read.
pub fn drop_channels(graph: &mut Graph) {
    let Some(mut plan) = Plan::of(graph) else { return };
    plan.read(graph);
    plan.apply(graph);
}

/// What was found out about a graph.
struct Plan {
    flows: Vec<Flow>,
    fates: Fates,
    constants: Constants,
    /// By node, of products: [`Constants::offsets`].
    offsets: HashMap<usize, Known>,
}

impl Plan {
    /// Goes over the nodes in order. `None` if there is no product, or no budget.
    fn of(graph: &Graph) -> Option<Plan> {
        let uses = graph.use_counts();
        let mut plan = Plan {
            flows: Vec::with_capacity(graph.nodes.len()),
            fates: Fates::new(graph.tensors.len()),
            constants: Constants::default(),
            offsets: HashMap::new(),
        };
        let mut read_by_nodes = vec![false; graph.tensors.len()];
        graph.nodes.iter().flat_map(|n| n.inputs.iter().flatten()).for_each(|&t| read_by_nodes[t] = true);
        graph.outputs.iter().for_each(|&t| read_by_nodes[t] = false);
        for (i, node) in graph.nodes.iter().enumerate() {
            let mut flow = flow(graph, &uses, node, |t| plan.fates.holds(t));
            let weights = if let Flow::Product(p) = &flow { p.weights() } else { 0 };
            let cost = (weights + channels(graph, node.output) as u64).saturating_mul(LOOKING);
            if !matches!(flow, Flow::Mixed) && !graph.budget.take(cost, 0) {
                flow = Flow::Mixed;
            }
            plan.join(graph, node, &flow);
            plan.note(graph, i, &flow, read_by_nodes[node.output]);
            plan.flows.push(flow);
        }
        (plan.fates.len() > 0).then_some(plan)
    }

    /// Takes in the channels of a node's output, and joins them with what they are made of.
    fn join(&mut self, graph: &Graph, node: &Node, flow: &Flow) {
        let (y, of_y) = (node.output, channels(graph, node.output));
        match flow {
            Flow::Mixed => {}
            Flow::Product(p) => {
                self.fates.add(y, of_y);
                if p.groups > 1 && self.fates.holds(p.x) {
                    // A group goes as a whole.
                    for g in 0..p.groups {
                        let first = (y, g * p.group_out());
                        (0..p.group_in()).for_each(|i| self.fates.join((p.x, g * p.group_in() + i), first));
                        (0..p.group_out()).for_each(|o| self.fates.join((y, g * p.group_out() + o), first));
                    }
                }
                if let Some(r) = p.residual.filter(|&r| self.fates.holds(r)) {
                    (0..of_y).for_each(|c| self.fates.join((r, c), (y, c)));
                }
            }
            Flow::Through(parts) => {
                self.fates.add(y, of_y);
                for part in parts {
                    for (i, j) in part.pairs(channels(graph, part.x), of_y) {
                        self.fates.join((part.x, i), (y, j));
                    }
                }
            }
        }
    }

    /// Notes which channels of a node's output are constant, if it matters.
    fn note(&mut self, graph: &Graph, i: usize, flow: &Flow, matters: bool) {
        let node = &graph.nodes[i];
        match flow {
            Flow::Mixed => {}
            Flow::Product(p) => {
                let mut offsets = self.constants.offsets(graph, p);
                let sums = biases(graph, p, &offsets).or_else(|| {
                    offsets = vec![None; p.inputs];
                    biases(graph, p, &offsets)
                });
                if let Some(sums) = sums.filter(|_| matters) {
                    self.constants.add(node.output, Constants::of_product(graph, node, p, &offsets, &sums));
                }
                if offsets.iter().any(Option::is_some) {
                    self.offsets.insert(i, offsets);
                }
            }
            Flow::Through(parts) if matters => {
                self.constants.add(node.output, self.constants.through(graph, node, parts));
            }
            Flow::Through(_) => {}
        }
    }

    /// Finds the classes that are read.
    fn read(&mut self, graph: &Graph) {
        // The output channels of products that a class has; what a group reads is of its class.
        let mut made: HashMap<usize, Vec<(usize, usize)>> = HashMap::new();
        // Of each product the input channels that are not known to be read.
        let mut unread: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut roots: Vec<(TensorId, usize)> = Vec::new();
        let held: Vec<bool> = (0..graph.tensors.len()).map(|t| self.fates.holds(t)).collect();
        let all = |t: TensorId| (0..if held[t] { channels(graph, t) } else { 0 }).map(move |c| (t, c));
        graph.outputs.iter().for_each(|&t| roots.extend(all(t)));
        for (i, node) in graph.nodes.iter().enumerate() {
            match &self.flows[i] {
                Flow::Mixed => node.inputs.iter().flatten().for_each(|&t| roots.extend(all(t))),
                Flow::Product(p) => {
                    if p.groups > 1 && !held[p.x] || p.residual.is_some_and(|r| !held[r]) {
                        roots.extend(all(node.output));
                    }
                    if p.groups == 1 && held[p.x] {
                        unread.insert(i, (0..p.inputs).collect());
                        for o in 0..p.outputs {
                            made.entry(self.fates.class(node.output, o)).or_default().push((i, o));
                        }
                    }
                }
                Flow::Through(parts) => {
                    let others = node.inputs.iter().zip(slots(node, parts)).filter(|(_, part)| !part);
                    others.filter_map(|(t, _)| *t).for_each(|t| roots.extend(all(t)));
                }
            }
        }
        self.spread(graph, roots, &made, &mut unread);
        // Of a tensor that nobody reads one channel is left: there are no tensors without elements in a plan.
        for node in &graph.nodes {
            let t = node.output;
            if self.fates.holds(t) && (0..channels(graph, t)).all(|c| !self.fates.lives(t, c)) {
                self.spread(graph, vec![(t, 0)], &made, &mut unread);
            }
        }
    }

    /// Marks channels as read, and all that they are computed from.
    fn spread(
        &mut self,
        graph: &Graph,
        mut open: Vec<(TensorId, usize)>,
        made: &HashMap<usize, Vec<(usize, usize)>>,
        unread: &mut HashMap<usize, Vec<usize>>,
    ) {
        while let Some((t, c)) = open.pop() {
            let Some(class) = self.fates.holds(t).then(|| self.fates.revive(t, c)).flatten() else { continue };
            for &(i, o) in made.get(&class).into_iter().flatten() {
                let (Flow::Product(p), Some(left)) = (&self.flows[i], unread.get_mut(&i)) else { continue };
                if left.is_empty() {
                    continue;
                }
                let weights = Weights::of(graph, p);
                let offsets = self.offsets.get(&i);
                left.retain(|&i| {
                    let unread = offsets.is_some_and(|known| known[i].is_some()) || weights.none(o, i);
                    if !unread {
                        open.push((p.x, i));
                    }
                    unread
                });
            }
        }
    }

    /// Drops the channels of classes that are not read.
    fn apply(mut self, graph: &mut Graph) {
        let lost: Vec<(TensorId, Vec<usize>)> =
            graph.nodes.iter().filter_map(|n| Some((n.output, self.fates.left(n.output)?))).collect();
        if lost.is_empty() || !graph.budget.take(0, self.bytes(graph)) {
            return;
        }
        for i in 0..graph.nodes.len() {
            match &self.flows[i] {
                Flow::Mixed => {}
                Flow::Product(p) => {
                    let weights = |graph: &Graph| graph.nodes[i].inputs[1].map_or(0, |w| graph.tensors[w].bytes());
                    let none = vec![None; p.inputs];
                    let before = weights(graph);
                    let changed = cut::product(graph, &mut self.fates, i, p, self.offsets.get(&i).unwrap_or(&none));
                    let after = weights(graph);
                    let outputs = self.fates.left(graph.nodes[i].output).map_or(p.outputs, |left| left.len());
                    let dropped = &mut graph.dropped;
                    dropped.channels += p.outputs - outputs;
                    dropped.of_channels += p.outputs;
                    dropped.products += usize::from(changed);
                    dropped.macs += p.macs(before - after, graph.tensors[p.w].dtype);
                    dropped.weights_before += before as u64;
                    dropped.weights_after += after as u64;
                }
                Flow::Through(parts) => cut::through(graph, &mut self.fates, i, parts),
            }
        }
        for (t, left) in lost {
            let channels = channels(graph, t);
            let gone = (0..channels).filter(|c| left.binary_search(c).is_err());
            let constant = gone.filter_map(|c| Some((c, self.constants.of(t, c)?))).collect();
            *graph.tensors[t].shape.last_mut().expect("it has channels") = left.len();
            graph.lost.insert(t, Lost { channels, left, constant });
        }
    }

    /// Bytes of the constants that are written anew, at most.
    fn bytes(&self, graph: &Graph) -> u64 {
        let cut = |(flow, node): (&Flow, &Node)| match flow {
            Flow::Mixed => 0,
            _ => node
                .inputs
                .iter()
                .flatten()
                .filter(|&&t| graph.tensors[t].value.is_some())
                .map(|&t| graph.tensors[t].bytes())
                .sum(),
        };
        self.flows.iter().zip(&graph.nodes).map(cut).sum::<usize>() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;
    use crate::eval;
    use crate::graph::{Dropped, Layout, Op, Post, Quant, Tensor, UnaryOp, Window};
    use kinglet::DType;

    const ZERO: i64 = 3;

    /// A graph of bytes whose zero points are [`ZERO`], of weights 5.
    #[derive(Default)]
    struct Net(Graph);

    impl Net {
        fn tensor(&mut self, channels: usize) -> TensorId {
            let quant = Some(Quant::per_tensor(0.5, ZERO as i32));
            let name = format!("t{}", self.0.tensors.len());
            self.0.add_tensor(Tensor { name, dtype: DType::I8, shape: vec![1, 4, 4, channels], quant, value: None })
        }

        fn input(channels: usize) -> (Net, TensorId) {
            let mut net = Net::default();
            let x = net.tensor(channels);
            net.0.inputs.push(x);
            (net, x)
        }

        fn node(&mut self, op: Op, inputs: &[TensorId], channels: usize) -> TensorId {
            let y = self.tensor(channels);
            self.0.nodes.push(Node::new(op, inputs.iter().map(|&t| Some(t)).collect(), y, vec![]));
            y
        }

        /// A convolution whose weights, less their zero points, are `w` (a row for each output channel) at every tap.
        fn conv(&mut self, x: TensorId, taps: usize, groups: usize, w: &[&[i64]], bias: &[i64]) -> TensorId {
            let pad = (taps / 2) as i64;
            let pads = vec![pad; 2];
            let window = Window {
                kernel: vec![taps; 2],
                strides: vec![1; 2],
                dilations: vec![1; 2],
                pads_begin: pads.clone(),
                pads_end: pads,
            };
            let v =
                w.iter().flat_map(|row| row.iter()).flat_map(|&v| std::iter::repeat_n(v + 5, taps * taps)).collect();
            let weights = self.0.add_constant("w", Array::int(DType::I8, &[w.len(), w[0].len(), taps, taps], v));
            self.0.tensors[weights].quant = Some(Quant::per_tensor(0.25, 5));
            let b = self.0.add_constant("b", Array::int(DType::I32, &[w.len()], bias.to_vec()));
            self.0.tensors[b].quant = Some(Quant::per_tensor(0.125, 0));
            let op = Op::Conv { window, groups, layout: Layout::ChannelsLast, post: Post::default() };
            self.node(op, &[x, weights, b], w.len())
        }

        /// Drops channels and sees that the outputs stay what they were; the channels of each node's output.
        fn dropped(mut self, outputs: &[TensorId]) -> (Graph, Vec<usize>) {
            self.0.outputs = outputs.to_vec();
            let shape = self.0.tensors[self.0.inputs[0]].shape.clone();
            let n: usize = shape.iter().product();
            let input = Array::int(DType::I8, &shape, (0..n).map(|i| (i * 37 % 256) as i64 - 128).collect());
            let before = eval::run(&self.0, std::slice::from_ref(&input)).unwrap();
            drop_channels(&mut self.0);
            assert_eq!(eval::run(&self.0, &[input]).unwrap(), before);
            let left = self.0.nodes.iter().map(|n| channels(&self.0, n.output)).collect();
            (self.0, left)
        }

        fn bias(graph: &Graph, node: usize) -> Vec<i64> {
            graph.value(graph.nodes[node].inputs[2].unwrap()).unwrap().ints().into_owned()
        }
    }

    #[test]
    fn what_is_not_read_goes_back_to_the_product_that_makes_it() {
        let (mut net, x) = Net::input(2);
        let a = net.conv(x, 1, 1, &[&[1, 2], &[3, 4], &[5, 6]], &[7, 8, 9]);
        let b = net.conv(a, 3, 3, &[&[1], &[2], &[3]], &[1, 2, 3]);
        let c = net.node(Op::unary(UnaryOp::Neg), &[b], 3);
        let d = net.conv(c, 1, 1, &[&[1, 0, 2], &[-1, 0, 1]], &[0, 0]);
        let (graph, left) = net.dropped(&[d]);
        assert_eq!(left, [2, 2, 2, 2]);
        assert_eq!((Net::bias(&graph, 0), Net::bias(&graph, 1)), (vec![7, 9], vec![1, 3]));
        assert_eq!(graph.lost[&a], Lost { channels: 3, left: vec![0, 2], constant: vec![] });
        let Dropped { channels, of_channels, products, macs, weights_before, weights_after } = graph.dropped;
        assert_eq!((channels, of_channels, products), (2, 8, 3));
        assert_eq!((macs, weights_before, weights_after), (16 * (2 + 9 + 2), 6 + 27 + 6, 4 + 18 + 4));
    }

    #[test]
    fn one_reader_keeps_a_channel_for_all() {
        let (mut net, x) = Net::input(2);
        let a = net.conv(x, 1, 1, &[&[1, 2], &[3, 4], &[5, 6]], &[7, 8, 9]);
        let b = net.node(Op::unary(UnaryOp::Neg), &[a], 3);
        let c = net.conv(b, 1, 1, &[&[1, 0, 0]], &[0]);
        let d = net.conv(a, 1, 1, &[&[0, 1, 0]], &[0]);
        let (_, left) = net.dropped(&[c, d]);
        assert_eq!(left, [2, 2, 1, 1]);
    }

    #[test]
    fn inputs_and_outputs_of_the_model_keep_their_channels() {
        let (mut net, x) = Net::input(2);
        let a = net.conv(x, 1, 1, &[&[1, 0], &[3, 0]], &[7, 8]);
        let b = net.conv(a, 1, 1, &[&[1, 0]], &[0]);
        let (graph, left) = net.dropped(&[a, b]);
        assert_eq!((left, graph.dropped), (vec![2, 1], Dropped::default()));
    }

    #[test]
    fn what_is_always_the_same_goes_into_the_next_bias() {
        // 8 · 0.125 are two steps beside the zero point.
        let (mut net, x) = Net::input(2);
        let a = net.conv(x, 1, 1, &[&[1, 2], &[0, 0]], &[7, 8]);
        let b = net.conv(a, 1, 1, &[&[1, 10], &[2, -20]], &[100, 200]);
        let (graph, left) = net.dropped(&[b]);
        assert_eq!((left, Net::bias(&graph, 1)), (vec![1, 2], vec![100 + 2 * 10, 200 - 2 * 20]));
        assert_eq!(graph.lost[&a].constant, [(1, ZERO + 2)]);
    }

    #[test]
    fn where_the_next_product_pads_it_has_to_be_the_padding() {
        for (bias, left) in [(8, vec![2, 1]), (0, vec![1, 1])] {
            let (mut net, x) = Net::input(2);
            let a = net.conv(x, 1, 1, &[&[1, 2], &[0, 0]], &[7, bias]);
            let b = net.conv(a, 3, 1, &[&[1, 10]], &[100]);
            assert_eq!(net.dropped(&[b]).1, left);
        }
    }

    #[test]
    fn a_bias_that_would_not_fit_stays() {
        let largest = i64::from(i32::MAX) - 15;
        for (bias, left) in [(largest, vec![2, 1]), (largest - 10, vec![1, 1])] {
            let (mut net, x) = Net::input(2);
            let a = net.conv(x, 1, 1, &[&[1, 2], &[0, 0]], &[7, 8]);
            let b = net.conv(a, 1, 1, &[&[1, 10]], &[bias]);
            assert_eq!(net.dropped(&[b]).1, left);
        }
    }

    #[test]
    fn groups_go_as_a_whole_and_one_channel_is_left_of_nothing() {
        let (mut net, x) = Net::input(1);
        let a = net.conv(x, 1, 1, &[&[1], &[2], &[3], &[4]], &[0; 4]);
        let b = net.conv(a, 1, 2, &[&[1, 1], &[1, 1], &[0, 1], &[1, 1]], &[0; 4]);
        let c = net.conv(b, 1, 1, &[&[0, 0, 1, 0]], &[0]);
        let d = net.conv(c, 1, 1, &[&[0], &[0]], &[1, 2]);
        let (graph, left) = net.dropped(&[c, d]);
        assert_eq!(left, [2, 2, 1, 2]);
        assert!(matches!(graph.nodes[1].op, Op::Conv { groups: 1, .. }));

        let (mut net, x) = Net::input(1);
        let a = net.conv(x, 1, 1, &[&[1], &[2]], &[0; 2]);
        let b = net.conv(a, 1, 1, &[&[0, 0]], &[9]);
        assert_eq!(net.dropped(&[b]).1, [1, 1]);
    }

    #[test]
    fn without_budget_nothing_is_looked_at() {
        let (mut net, x) = Net::input(2);
        let a = net.conv(x, 1, 1, &[&[1, 2], &[3, 4]], &[7, 8]);
        let b = net.conv(a, 1, 1, &[&[1, 0]], &[0]);
        while net.0.budget.take(1 << 20, 0) {}
        while net.0.budget.take(1, 0) {}
        assert_eq!(net.dropped(&[b]).1, [2, 1]);
    }
}
