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
use crate::graph::{Graph, Mid, Node, Op, Post, Quant, Stage, TensorId, UnaryOp};

/// How close to a tie a value must lie, in steps of its scale, to be allowed to round either way: f32 arithmetic on values of
/// up to a few hundred steps is exact to about this.
pub const TIE: f64 = 1e-4;

/// [`TIE`] behind the functions of a product's end, whose f32 forms are exact to 10⁻⁶ of up to a few hundred steps each.
pub const LOOSE_TIE: f64 = 2e-3;

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

/// The rounding in the middle of a product, between its sum and what follows.
fn mid_of(node: &Node) -> Option<(&Post, &Mid)> {
    post_of(&node.op).and_then(|post| Some((post, post.mid.as_ref()?)))
}

/// The values a float tensor may have: those of the evaluation, give or take the bound.
fn reals(graph: &Graph, node: &Node, inputs: &[Option<&Array>]) -> Vec<(f64, f64)> {
    let [one, other] = match mid_of(node) {
        Some((_, mid)) => middle(graph, node, inputs, mid).map(|q| eval::behind_rounding(graph, node, inputs, &q)),
        None => {
            let want = eval::node(graph, node, inputs);
            [want.clone(), want]
        }
    };
    let exact = one.dtype != DType::F32;
    let largest = one.reals().iter().filter(|v| v.is_finite()).fold(0f64, |m, v| m.max(v.abs()));
    let slack = if exact { 0.0 } else { FLOAT_BOUND * largest };
    let range = |v: f64| if v.is_infinite() { (v, v) } else { (v - slack, v + slack) };
    one.reals().iter().zip(other.reals().iter()).map(|(&a, &b)| hull(range(a), range(b))).collect()
}

/// The least range with both; NaN stays NaN.
fn hull(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
    if a.0.is_nan() { a } else { (a.0.min(b.0), a.1.max(b.1)) }
}

/// The lowest and highest integer that a real, in steps of its scale, may round to.
fn roundings(steps: f64, dtype: DType, tie: f64) -> (i64, i64) {
    let (lo, hi) = dtype.quantized_range().expect("quantised tensors have such a type");
    // `max` takes NaN to the lower bound.
    let round = |v: f64| v.max(lo.into()).min(hi.into()).round_ties_even() as i64;
    (round(steps - tie), round(steps + tie))
}

/// How close to a tie the result of a node may lie to be allowed to round either way.
fn tie_of(node: &Node) -> f64 {
    let function = |s: &Stage| matches!(s, Stage::Function(op, ..) if *op != UnaryOp::Clip);
    if post_of(&node.op).is_some_and(|post| post.stages.iter().any(function)) { LOOSE_TIE } else { TIE }
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

/// The integers that the sums of a product are rounded to: the least and the greatest they may be.
fn middle(graph: &Graph, node: &Node, inputs: &[Option<&Array>], mid: &Mid) -> [Vec<i64>; 2] {
    let mut plain = node.clone();
    if let Op::Conv { post, .. } | Op::ConvTranspose { post, .. } | Op::MatMul { post, .. } = &mut plain.op {
        *post = Post { lo: post.lo, hi: post.hi, ..Post::default() };
    }
    let steps = in_steps(graph, &plain, inputs, &Quant::per_tensor(mid.scale, mid.zero_point));
    let both: Vec<(i64, i64)> = steps.reals().iter().map(|&v| roundings(v, mid.dtype, TIE)).collect();
    [both.iter().map(|q| q.0).collect(), both.iter().map(|q| q.1).collect()]
}

/// For each element of a quantised result the least and greatest integer it may be.
fn integers(graph: &Graph, node: &Node, inputs: &[Option<&Array>]) -> Vec<(f64, f64)> {
    let tensor = &graph.tensors[node.output];
    let quant = tensor.quant.as_ref().expect("the caller has checked it");
    if matches!(node.op, Op::Lut { .. }) {
        return eval::node(graph, node, inputs).reals().iter().map(|&v| (v, v)).collect();
    }
    let rounded = |steps: &Array| -> Vec<(f64, f64)> {
        let pair = |(lo, hi): (i64, i64)| (lo as f64, hi as f64);
        steps.reals().iter().map(|&v| pair(roundings(v, tensor.dtype, tie_of(node)))).collect()
    };
    let Some((post, mid)) = mid_of(node) else { return rounded(&in_steps(graph, node, inputs, quant)) };
    // Either of the results of the rounding in the middle may go on.
    let [a, b] = middle(graph, node, inputs, mid).map(|q| {
        let ends = eval::behind_rounding(graph, node, inputs, &q);
        if post.table.is_some() {
            ends.reals().iter().map(|&v| (v, v)).collect()
        } else {
            rounded(&eval::quantize_unrounded(&ends, quant))
        }
    });
    a.into_iter().zip(b).map(|(a, b)| hull(a, b)).collect()
}
