//! Graphs quantised as ONNX Runtime's quantiser does it: a `QuantizeLinear` and a `DequantizeLinear` behind every tensor of
//! reals, with the grid that covers what the tensor was in a run, but for those of a few functions; loops are not entered.

use std::collections::HashMap;

use kinglet::DType;
use kinglet_compiler::array::Array;
use kinglet_compiler::eval;
use kinglet_compiler::graph::{Graph, Node, Op, Quant, Tensor, TensorId, UnaryOp};

/// Fewest elements of a constant that is quantised too.
const LARGE: usize = 16;

/// The graph with every tensor rounded to int8; ranges are those of runs with these inputs.
///
/// # Panics
/// If the graph does not evaluate.
pub fn quantised(graph: &Graph, calibration: &[Vec<Array>]) -> Graph {
    let mut ranges: HashMap<TensorId, (f64, f64)> = HashMap::new();
    let mut see = |t: TensorId, value: &Array| {
        let (lo, hi) = ranges.entry(t).or_insert((0.0, 0.0));
        value.reals().iter().for_each(|&v| (*lo, *hi) = (lo.min(v), hi.max(v)));
    };
    for inputs in calibration {
        graph.inputs.iter().zip(inputs).for_each(|(&t, value)| see(t, value));
        eval::run_with(graph, inputs, &mut see).expect("the graph evaluates");
    }
    for (t, tensor) in graph.tensors.iter().enumerate() {
        tensor.value.iter().for_each(|value| see(t, value));
    }

    let mut q = Quantiser { graph: graph.clone(), ranges, grids: HashMap::new(), instead: HashMap::new() };
    let nodes = std::mem::take(&mut q.graph.nodes);
    for t in graph.inputs.clone() {
        q.round(t, None);
    }
    for t in 0..graph.tensors.len() {
        if graph.tensors[t].value.is_some() && graph.tensors[t].len() >= LARGE {
            q.round_constant(t);
        }
    }
    for node in nodes {
        let moved = node.inputs.first().copied().flatten().filter(|_| node.op.moves_only() && node.data_inputs() == 1);
        let left_in_reals = matches!(
            node.op,
            Op::Unary { op: UnaryOp::Exp | UnaryOp::Softplus | UnaryOp::Pow | UnaryOp::Sqrt | UnaryOp::Erf, .. }
        );
        let inputs = node.inputs.iter().map(|t| t.map(|t| q.instead.get(&t).copied().unwrap_or(t))).collect();
        let outputs: Vec<TensorId> = node.outputs().collect();
        q.graph.nodes.push(Node { inputs, ..node });
        for t in outputs.into_iter().filter(|_| !left_in_reals) {
            // What only moves keeps its grid.
            q.round(t, moved);
        }
    }
    for t in &mut q.graph.outputs {
        *t = q.instead.get(t).copied().unwrap_or(*t);
    }
    q.graph
}

struct Quantiser {
    graph: Graph,
    ranges: HashMap<TensorId, (f64, f64)>,
    grids: HashMap<TensorId, Quant>,
    /// What is read instead of each tensor.
    instead: HashMap<TensorId, TensorId>,
}

impl Quantiser {
    fn round(&mut self, t: TensorId, like: Option<TensorId>) {
        let tensor = self.graph.tensors[t].clone();
        if tensor.dtype != DType::F32 {
            return;
        }
        let grid = like.and_then(|t| self.grids.get(&t).cloned());
        let grid = grid.unwrap_or_else(|| {
            let (lo, hi) = self.ranges.get(&t).copied().unwrap_or_default();
            let scale = if lo == hi { 1.0 } else { ((hi - lo) / 255.0) as f32 };
            Quant::per_tensor(scale, (-128.0 - lo / f64::from(scale)).round() as i32)
        });
        let q = self.add(Tensor { dtype: DType::I8, quant: Some(grid.clone()), ..tensor.clone() });
        let d = self.add(tensor);
        self.graph.nodes.push(Node::new(Op::Quantize, vec![Some(t)], q, vec!["quantize".into()]));
        self.graph.nodes.push(Node::new(Op::Dequantize, vec![Some(q)], d, vec!["dequantize".into()]));
        self.grids.insert(t, grid);
        self.instead.insert(t, d);
    }

    fn round_constant(&mut self, t: TensorId) {
        let tensor = self.graph.tensors[t].clone();
        if tensor.dtype != DType::F32 {
            return;
        }
        let (lo, hi) = self.ranges[&t];
        let scale = if lo == hi { 1.0 } else { (hi.max(-lo) / 127.0) as f32 };
        let quant = Quant::per_tensor(scale, 0);
        let value = eval::quantize(&self.graph.tensors[t].value.clone().expect("a constant"), &quant, DType::I8);
        let q = self.add(Tensor { dtype: DType::I8, quant: Some(quant), value: Some(value.into()), ..tensor.clone() });
        let d = self.add(Tensor { value: None, ..tensor });
        self.graph.nodes.push(Node::new(Op::Dequantize, vec![Some(q)], d, vec!["dequantize".into()]));
        self.instead.insert(t, d);
    }

    fn add(&mut self, tensor: Tensor) -> TensorId {
        self.graph.add_tensor(Tensor { name: format!("{}_rounded", tensor.name), ..tensor })
    }
}
