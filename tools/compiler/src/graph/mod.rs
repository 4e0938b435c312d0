//! The typed graph: what the importer makes, every pass rewrites, and the lowering reads.
//!
//! A tensor with [`Quant`] stands for reals: each operator, whatever it computes, means *dequantise the inputs, compute in
//! reals, quantise the output*. There is no second set of integer operators; how a step computes this exactly in integers
//! is the lowering's business. `QuantizeLinear` and `DequantizeLinear` of the file are nodes until the pass that absorbs
//! them into their neighbours.

mod op;

pub use op::*;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kinglet::DType;

use crate::array::Array;
use crate::budget::Budget;

/// Number of a tensor in its graph.
pub type TensorId = usize;

/// How a quantised tensor's integers stand for reals: `(q − zero_point) · scale`.
#[derive(Clone, Debug, PartialEq)]
pub struct Quant {
    /// One scale, or one for each position along `axis`.
    pub scales: Vec<f32>,
    /// As many zero points as scales.
    pub zero_points: Vec<i32>,
    /// The axis the scales run along; of no meaning when there is one scale.
    pub axis: usize,
}

impl Quant {
    /// The same scale and zero point for the whole tensor.
    pub fn per_tensor(scale: f32, zero_point: i32) -> Self {
        Quant { scales: vec![scale], zero_points: vec![zero_point], axis: 0 }
    }

    /// Scale and zero point, if they are the same for the whole tensor.
    pub fn single(&self) -> Option<(f32, i32)> {
        match (&self.scales[..], &self.zero_points[..]) {
            ([s], [z]) => Some((*s, *z)),
            _ => None,
        }
    }
}

/// A value in the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Name in the file, or one derived from it.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first; always known.
    pub shape: Vec<usize>,
    /// Meaning of the integers, if the tensor is quantised.
    pub quant: Option<Quant>,
    /// The value, if it is constant.
    pub value: Option<Arc<Array>>,
}

impl Tensor {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of its elements.
    pub fn bytes(&self) -> usize {
        self.len() * self.dtype.size()
    }
}

/// One application of an operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The operator with its attributes.
    pub op: Op,
    /// Inputs; `None` for an absent optional one.
    pub inputs: Vec<Option<TensorId>>,
    /// The output. Operators with several are imported as several nodes, but for those below.
    pub output: TensorId,
    /// Further outputs: of a [`Op::Loop`] those after its first, of a [`Op::SelectiveScan`] its state, of a [`Op::TopK`] the places, of a
    /// [`Op::Lstm`] its cell.
    pub more: Vec<TensorId>,
    /// Names of the ONNX nodes it came from, first to last.
    pub source: Vec<String>,
    /// Tensors that the file rounds to a grid where this node, a recurrence, goes on in reals.
    pub roundings: usize,
}

impl Node {
    /// A node with one output.
    pub fn new(op: Op, inputs: Vec<Option<TensorId>>, output: TensorId, source: Vec<String>) -> Self {
        Node { op, inputs, output, more: Vec::new(), source, roundings: 0 }
    }

    /// Every output.
    pub fn outputs(&self) -> impl DoubleEndedIterator<Item = TensorId> + '_ {
        std::iter::once(self.output).chain(self.more.iter().copied())
    }

    /// How many leading inputs are data (the others are indices).
    pub fn data_inputs(&self) -> usize {
        match self.op {
            Op::Gather { .. } => 1,
            Op::Scatter { .. } => 2,
            _ => self.inputs.len(),
        }
    }
}

/// Channels, the positions along the last axis, that a tensor has lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// How many there were.
    pub channels: usize,
    /// Those that are left.
    pub left: Vec<usize>,
    /// Of those that are not, the ones that always have the same integer.
    pub constant: Vec<(usize, i64)>,
}

/// What went with the channels that a graph has lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Output channels of products.
    pub channels: usize,
    /// Output channels that there were, of all products with constant weights.
    pub of_channels: usize,
    /// Products that have lost any channel.
    pub products: usize,
    /// Multiply-accumulates of a run.
    pub macs: u64,
    /// Bytes of weights that there were.
    pub weights_before: u64,
    /// Bytes of weights that are left.
    pub weights_after: u64,
}

/// A graph with static shapes, nodes in an order of execution.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// Every tensor, also those no node refers to any more.
    pub tensors: Vec<Tensor>,
    /// Nodes, each after those that compute its inputs.
    pub nodes: Vec<Node>,
    /// Inputs of the model.
    pub inputs: Vec<TensorId>,
    /// Values of inputs for which none need be given.
    pub defaults: BTreeMap<TensorId, Arc<Array>>,
    /// Names of inputs of the file with a default that had to be constant, so that they are no inputs here.
    pub bound: Vec<String>,
    /// Inputs and outputs that have another element type here than in the file, and the ONNX name of that.
    pub retyped: Vec<(String, String)>,
    /// Outputs of the model.
    pub outputs: Vec<TensorId>,
    /// Names the outputs have in the file (a tensor's own name may differ after passes).
    pub output_names: Vec<String>,
    /// Metadata of the file.
    pub metadata: Vec<(String, String)>,
    /// Number of nodes in the file.
    pub onnx_nodes: usize,
    /// What tensors that passes have added or kept in place of others stand for; see [`Graph::stand_for`].
    pub stands_for: BTreeMap<TensorId, Vec<(TensorId, Vec<usize>)>>,
    /// Channels that tensors have lost. The check of a run compares by these notes, too.
    pub lost: BTreeMap<TensorId, Lost>,
    /// What went with them; of the bodies of loops they know themselves.
    pub dropped: Dropped,
    /// What its compilation may still cost.
    pub budget: Budget,
}

impl Graph {
    /// An empty graph that draws on `budget`.
    pub fn within(budget: &Budget) -> Self {
        Graph { budget: budget.clone(), ..Graph::default() }
    }

    /// Adds a tensor.
    pub fn add_tensor(&mut self, tensor: Tensor) -> TensorId {
        self.tensors.push(tensor);
        self.tensors.len() - 1
    }

    /// Adds a constant, its reals rounded to f32.
    pub fn add_constant(&mut self, name: impl Into<String>, value: impl Into<Arc<Array>>) -> TensorId {
        let value = value.into();
        let value = if value.is_double() { Arc::unwrap_or_clone(value).stored().into() } else { value };
        self.add_exact(name, value)
    }

    /// Adds a constant as it is. During import those of type DOUBLE keep their precision; see [`Array::is_double`].
    pub(crate) fn add_exact(&mut self, name: impl Into<String>, value: Arc<Array>) -> TensorId {
        let name = name.into();
        let (dtype, shape) = (value.dtype, value.shape.clone());
        self.add_tensor(Tensor { name, dtype, shape, quant: None, value: Some(value) })
    }

    /// Adds a tensor like `like` but with another shape and no value. Its name ends in `suffix`, once: names must not grow along
    /// a chain.
    pub fn add_like(&mut self, like: TensorId, shape: &[usize], suffix: &str) -> TensorId {
        let t = &self.tensors[like];
        let stem = t.name.strip_suffix(suffix).unwrap_or(&t.name);
        let (name, dtype, quant) = (format!("{stem}{suffix}"), t.dtype, t.quant.clone());
        self.add_tensor(Tensor { name, dtype, shape: shape.to_vec(), quant, value: None })
    }

    /// Notes that tensor `t` has taken the place of `other`, which is `t` with its axes moved by the permutation: axis `d` of
    /// `other` is axis `perm[d]` of `t`. The check of a run compares by these notes.
    pub fn stand_for(&mut self, t: TensorId, other: TensorId, perm: Vec<usize>) {
        self.stands_for.entry(t).or_default().push((other, perm));
    }

    /// What went with the channels that it and the bodies of its loops have lost; what a body computes counts once a trip.
    pub fn all_dropped(&self) -> Dropped {
        let mut all = self.dropped;
        for node in &self.nodes {
            let Op::Loop(body) = &node.op else { continue };
            let Dropped { channels, of_channels, products, macs, weights_before, weights_after } =
                body.graph.all_dropped();
            all.channels += channels;
            all.of_channels += of_channels;
            all.products += products;
            all.macs = all.macs.saturating_add(macs.saturating_mul(body.trips as u64));
            all.weights_before += weights_before;
            all.weights_after += weights_after;
        }
        all
    }

    /// The constant value of a tensor.
    pub fn value(&self, t: TensorId) -> Option<&Array> {
        self.tensors[t].value.as_deref()
    }

    /// Which node computes each tensor.
    pub fn producers(&self) -> HashMap<TensorId, usize> {
        self.nodes.iter().enumerate().flat_map(|(i, n)| n.outputs().map(move |t| (t, i))).collect()
    }

    /// How many times each tensor is read, by nodes or as an output of the model.
    pub fn use_counts(&self) -> Vec<usize> {
        let mut uses = vec![0; self.tensors.len()];
        for t in self.nodes.iter().flat_map(|n| n.inputs.iter().flatten()).chain(&self.outputs) {
            uses[*t] += 1;
        }
        uses
    }

    /// Makes the readers of each of these tensors read another instead, outputs of the model included. It goes over the whole
    /// graph: what a pass replaces is collected and replaced at once.
    pub fn replace_uses(&mut self, instead: &HashMap<TensorId, TensorId>) {
        for t in self.nodes.iter_mut().flat_map(|n| n.inputs.iter_mut().flatten()).chain(&mut self.outputs) {
            *t = instead.get(t).copied().unwrap_or(*t);
        }
    }

    /// Removes the nodes for which `dead` holds, keeping the order of the others.
    pub fn remove_nodes(&mut self, dead: &[bool]) {
        let mut i = 0;
        self.nodes.retain(|_| {
            i += 1;
            !dead[i - 1]
        });
    }

    /// Brings the nodes into an order of execution again, after a pass appended some at the end. Among the nodes that are
    /// ready the one that came first stays first.
    pub fn sort(&mut self) {
        let producers = self.producers();
        let mut order = Vec::with_capacity(self.nodes.len());
        let mut state = vec![0u8; self.nodes.len()];
        for root in 0..self.nodes.len() {
            let mut stack = vec![root];
            while let Some(&n) = stack.last() {
                if state[n] == 0 {
                    state[n] = 1;
                    let before = self.nodes[n].inputs.iter().flatten().filter_map(|t| producers.get(t));
                    stack.extend(before.filter(|&&p| state[p] == 0).rev());
                } else {
                    if state[n] == 1 {
                        state[n] = 2;
                        order.push(n);
                    }
                    stack.pop();
                }
            }
        }
        let mut nodes: Vec<Option<Node>> = std::mem::take(&mut self.nodes).into_iter().map(Some).collect();
        self.nodes = order.into_iter().filter_map(|i| nodes[i].take()).collect();
    }
}
