//! Every step of a run against a literal evaluation of its node.
//!
//! Integer runs that differ in a single rounding drift apart layer by layer, so comparing the outputs of a deep quantised
//! model says little. Here each node is evaluated in f64 from the very inputs that the run had, and its result compared: an
//! integer may differ only where the real value lies next to a rounding tie, a float by no more than f32 arithmetic explains.

use std::collections::HashMap;
use std::fmt;

use kinglet::session::ArenaView;
use kinglet::{DType, Model, Observer};

use crate::Compiled;
use crate::array::Array;
use crate::eval;
use crate::graph::{Graph, Node, Op, Post, Quant, TensorId};

/// How close to a tie a value must lie, in steps of its scale, to be allowed to round either way: f32 arithmetic on values of
/// up to a few hundred steps is exact to about this.
pub const TIE: f64 = 1e-4;

/// Largest difference of a float result, relative to its tensor's largest magnitude.
pub const FLOAT_BOUND: f64 = 1e-4;

/// An observer that keeps what each step computes.
pub struct Recorder<'a> {
    model: Model<'a>,
    compiled: &'a Compiled,
    values: HashMap<TensorId, Array>,
}

/// A value that no literal evaluation gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Disagreement {
    /// The tensor.
    pub tensor: String,
    /// The operator that computes it.
    pub op: String,
    /// ONNX nodes it came from.
    pub source: Vec<String>,
    /// Element.
    pub at: usize,
    /// What the run computed.
    pub got: f64,
    /// Least value allowed.
    pub lowest: f64,
    /// Greatest value allowed.
    pub highest: f64,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Disagreement { tensor, op, at, got, lowest, highest, .. } = self;
        write!(f, "{op} `{tensor}`, element {at}: {got}, where its inputs give {lowest} to {highest}")
    }
}

/// How many values were compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Integers.
    pub quantised: usize,
    /// Floats.
    pub float: usize,
}

impl<'a> Recorder<'a> {
    /// Watches runs of `compiled`, loaded as `model`.
    pub fn new(compiled: &'a Compiled, model: Model<'a>) -> Self {
        Recorder { model, compiled, values: HashMap::new() }
    }

    /// Compares every step of the run that was watched, whose inputs were `inputs` (in the order of the graph's).
    ///
    /// # Errors
    /// The first value that is not what its node gives.
    pub fn check(&self, inputs: &[Array]) -> Result<Compared, Box<Disagreement>> {
        let graph = &self.compiled.graph;
        let mut values = self.values.clone();
        values.extend(graph.inputs.iter().copied().zip(inputs.iter().cloned()));
        let mut compared = Compared::default();
        for node in &graph.nodes {
            let operands: Vec<Option<&Array>> =
                node.inputs.iter().map(|t| t.and_then(|t| graph.value(t).or_else(|| values.get(&t)))).collect();
            let Some(got) = values.get(&node.output).filter(|_| node.more.is_empty()) else {
                // Another view of the same memory, where nothing was computed; or a recurrence, whose readers will tell.
                let results = eval::outputs(graph, node, &operands);
                values.extend(node.outputs().zip(results));
                continue;
            };
            let quantised = graph.tensors[node.output].quant.is_some();
            let bounds = if quantised { integers(graph, node, &operands) } else { reals(graph, node, &operands) };
            let count = if quantised { &mut compared.quantised } else { &mut compared.float };
            for (at, (&got, (lowest, highest))) in got.reals().iter().zip(bounds).enumerate() {
                // NaN bounds stand for "NaN".
                let same = (lowest <= got && got <= highest) || (got.is_nan() && lowest.is_nan());
                if !same {
                    return Err(Box::new(Disagreement {
                        tensor: graph.tensors[node.output].name.clone(),
                        op: node.op.name(),
                        source: node.source.clone(),
                        at,
                        got,
                        lowest,
                        highest,
                    }));
                }
                *count += 1;
            }
        }
        Ok(compared)
    }
}

impl Observer for Recorder<'_> {
    fn after(&mut self, step: usize, arena: &ArenaView<'_>) {
        let Some(t) = self.compiled.computed.get(step).copied().flatten() else { return };
        let tensor = &self.compiled.graph.tensors[t];
        let bytes = self.model.step(step).output(0).and_then(|number| arena.tensor(number));
        let array = bytes.and_then(|b| Array::from_bytes(tensor.dtype, &tensor.shape, b));
        self.values.extend(array.map(|a| (t, a)));
    }
}

fn post_of(op: &Op) -> Option<&Post> {
    match op {
        Op::Conv { post, .. } | Op::ConvTranspose { post, .. } | Op::MatMul { post, .. } => Some(post),
        _ => None,
    }
}

/// The values a float tensor may have: those of the evaluation, give or take the bound.
fn reals(graph: &Graph, node: &Node, inputs: &[Option<&Array>]) -> Vec<(f64, f64)> {
    let want = eval::node(graph, node, inputs);
    let exact = want.dtype != DType::F32;
    let largest = want.reals().iter().filter(|v| v.is_finite()).fold(0f64, |m, v| m.max(v.abs()));
    let slack = if exact { 0.0 } else { FLOAT_BOUND * largest };
    let range = |&v: &f64| if v.is_infinite() { (v, v) } else { (v - slack, v + slack) };
    want.reals().iter().map(range).collect()
}

/// The lowest and highest integer that a real, in steps of its scale, may round to.
fn roundings(steps: f64, dtype: DType) -> (i64, i64) {
    let (lo, hi) = dtype.quantized_range().expect("quantised tensors have such a type");
    let round = |v: f64| (v.round_ties_even() as i64).clamp(lo.into(), hi.into());
    (round(steps - TIE), round(steps + TIE))
}

/// The node's result as reals in steps of `quant`, before rounding.
fn in_steps(graph: &Graph, node: &Node, inputs: &[Option<&Array>], quant: &Quant) -> Array {
    if matches!(node.op, Op::Quantize) {
        return eval::quantize_unrounded(inputs[0].expect("it has an input"), quant);
    }
    let mut graph = graph.clone();
    graph.tensors[node.output].quant = None;
    graph.tensors[node.output].dtype = DType::F32;
    eval::quantize_unrounded(&eval::node(&graph, node, inputs), quant)
}

/// For each element of a quantised result the least and greatest integer it may be.
fn integers(graph: &Graph, node: &Node, inputs: &[Option<&Array>]) -> Vec<(f64, f64)> {
    let tensor = &graph.tensors[node.output];
    let quant = tensor.quant.as_ref().expect("the caller has checked it");
    let pair = |(lo, hi): (i64, i64)| (lo as f64, hi as f64);
    if matches!(node.op, Op::Lut { .. }) {
        return eval::node(graph, node, inputs).reals().iter().map(|&v| (v, v)).collect();
    }
    let Some((post, mid)) = post_of(&node.op).and_then(|p| Some((p, p.mid.as_ref()?))) else {
        let steps = in_steps(graph, node, inputs, quant);
        return steps.reals().iter().map(|&v| pair(roundings(v, tensor.dtype))).collect();
    };
    // A rounding in the middle: either of its results may go on.
    let mut plain = node.clone();
    if let Op::Conv { post, .. } | Op::ConvTranspose { post, .. } | Op::MatMul { post, .. } = &mut plain.op {
        *post = Post { mid: None, table: None, residual: false, ..post.clone() };
    }
    let mut operands = inputs.to_vec();
    let residual = post.residual.then(|| {
        let t = plain.inputs.pop().flatten().expect("a residual is the last input");
        let value = operands.pop().flatten().expect("a residual is the last input");
        eval::dequantize(value, graph.tensors[t].quant.as_ref().expect("an integer step's residual is quantised"))
    });
    let steps = in_steps(graph, &plain, &operands, &Quant::per_tensor(mid.scale, mid.zero_point));
    let finish = |q: i64, i: usize| -> (i64, i64) {
        let (lo, hi) = match &residual {
            None => (q, q),
            Some(r) => {
                let real = (q - i64::from(mid.zero_point)) as f64 * f64::from(mid.scale) + r.reals()[i];
                let (scale, zero) = quant.single().expect("an integer step's output has one scale");
                roundings(real / f64::from(scale) + f64::from(zero), tensor.dtype)
            }
        };
        let Some(table) = &post.table else { return (lo, hi) };
        let through = |q: i64| {
            let b = table[usize::from(q as u8)];
            if tensor.dtype == DType::I8 { i64::from(b as i8) } else { i64::from(b) }
        };
        (through(lo), through(hi))
    };
    let result = |(i, &v): (usize, &f64)| {
        let (lo, hi) = roundings(v, mid.dtype);
        let (a, b) = (finish(lo, i), finish(hi, i));
        pair((a.0.min(a.1).min(b.0).min(b.1), a.0.max(a.1).max(b.0).max(b.1)))
    };
    steps.reals().iter().enumerate().map(result).collect()
}
