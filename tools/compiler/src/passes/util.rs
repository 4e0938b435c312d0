//! What passes ask of a graph.

use std::collections::{HashMap, HashSet};

use crate::graph::{Graph, Node, Op, TensorId};

/// Who makes and who reads each tensor. Rewriting through [`Links::rewrite`] keeps it true.
pub struct Links {
    producers: HashMap<TensorId, usize>,
    uses: Vec<usize>,
}

impl Links {
    pub fn new(graph: &Graph) -> Self {
        Links { producers: graph.producers(), uses: graph.use_counts() }
    }

    /// Takes in the nodes of the graph from `first` on, which are new.
    pub fn extend(&mut self, graph: &Graph, first: usize) {
        self.uses.resize(graph.tensors.len(), 0);
        for (i, node) in graph.nodes.iter().enumerate().skip(first) {
            self.producers.extend(node.outputs().map(|t| (t, i)));
            node.inputs.iter().flatten().for_each(|&t| self.uses[t] += 1);
        }
    }

    /// Gives the first output of node `i` another name, which nobody reads yet.
    pub fn rename(&mut self, graph: &mut Graph, i: usize, output: TensorId) {
        self.producers.remove(&graph.nodes[i].output);
        self.producers.insert(output, i);
        self.uses.resize(graph.tensors.len(), 0);
        graph.nodes[i].output = output;
    }

    /// The node that computes `t`.
    pub fn node<'a>(&self, graph: &'a Graph, t: TensorId) -> Option<&'a Node> {
        self.producers.get(&t).map(|&i| &graph.nodes[i])
    }

    /// The index of the node that computes `t`.
    pub fn index(&self, t: TensorId) -> Option<usize> {
        self.producers.get(&t).copied()
    }

    /// Gives node `i` another operator, inputs and source; its output stays.
    pub fn rewrite(
        &mut self,
        graph: &mut Graph,
        i: usize,
        (op, inputs, source): (Op, Vec<Option<TensorId>>, Vec<String>),
    ) {
        self.uses.resize(graph.tensors.len(), 0);
        graph.nodes[i].inputs.iter().flatten().for_each(|&t| self.uses[t] -= 1);
        inputs.iter().flatten().for_each(|&t| self.uses[t] += 1);
        let node = &mut graph.nodes[i];
        (node.op, node.inputs, node.source) = (op, inputs, source);
    }

    /// Whether exactly one node reads `t` and it is no output of the model.
    pub fn single_use(&self, t: TensorId) -> bool {
        self.uses.get(t) == Some(&1)
    }
}

/// The nodes that read each tensor, each as often as it reads it.
pub fn readers(graph: &Graph) -> HashMap<TensorId, Vec<usize>> {
    let mut readers: HashMap<TensorId, Vec<usize>> = HashMap::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().flatten().for_each(|&t| readers.entry(t).or_default().push(i));
    }
    readers
}

/// The value of a constant of one element that is not quantised.
pub fn scalar(graph: &Graph, t: TensorId) -> Option<f64> {
    let tensor = &graph.tensors[t];
    if tensor.quant.is_some() { None } else { tensor.value.as_ref()?.as_scalar() }
}

/// Whether `v` is `want` to the precision of f32.
pub fn about(v: f64, want: f64) -> bool {
    (v - want).abs() <= want.abs() * 1e-6
}

/// The two operands of a commutative node, in both orders.
pub fn both_orders(node: &Node) -> [(TensorId, TensorId); 2] {
    match node.inputs[..] {
        [Some(a), Some(b)] => [(a, b), (b, a)],
        _ => unreachable!("binary nodes have two inputs"),
    }
}

/// Source names of several nodes, in order, each once.
pub fn merged_sources<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Vec<String> {
    let mut seen = HashSet::new();
    nodes.into_iter().flat_map(|n| &n.source).filter(|s| seen.insert(*s)).cloned().collect()
}
