//! A plan against the evaluator, with what rounding explains and no more.
//!
//! The evaluator computes in f64 and a plan in f32, and a random graph may make anything of the difference: nobody has chosen it for
//! its condition. What rounding explains is therefore measured: the graph is evaluated several times, and each time every real that a
//! node computes is off by about as much as f32 may be. How far the results lie apart is what an element may be off; one that is a
//! decision (a comparison, a rounding next to a tie, a place of a maximum) may be what it is in any of these evaluations.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use kinglet::{DType, Inline, Quiet, Reference};
use kinglet_compiler::array::Array;
use kinglet_compiler::graph::{Graph, Node, Op};
use kinglet_compiler::{Compiled, Error, Options, compile, eval, import, passes};
use kinglet_onnx::{ModelProto, ValueInfoProto};

use super::attributes::port;
use super::net::{map_reals, options};
use crate::{Random, run_on};

/// Evaluations with roundings: all up, all down, and some at random.
const EVALUATIONS: usize = 12;
/// How far off a computed real is in them, relatively: 16 units in the last place of f32, a few times what the runtime's functions
/// and short sums are off.
const RELATIVE: f64 = 1e-6;
/// The same of the largest real that it was computed from: what is left where terms cancel.
const OF_LARGEST: f64 = 2.5e-7;
/// How many times the distance of these evaluations an element may be off: they are a sample.
const MARGIN: f64 = 6.0;
/// How close to a tie a value lies, in steps, that may be rounded either way.
const TIE: f64 = 2e-3;

/// What the elements of a tensor may be.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// What the evaluator gives.
    pub value: Array,
    /// How far each may be off; infinite where nobody can tell.
    pub off: Vec<f64>,
}

/// How a model ended.
#[derive(Debug)]
pub enum Outcome {
    /// The compiler refused it, with the reason.
    Refused(String),
    /// Every output is what it should be: elements that were compared, and those of which nobody can tell.
    Same(usize, usize),
    /// An output is not, or something panicked: what is wrong, in a line.
    Wrong(String),
}

/// Compiles a model, for the portable kernels and for this CPU's, runs both plans, and compares every output.
pub fn check(model: &ModelProto, inputs: &BTreeMap<String, Array>) -> Outcome {
    check_with(model, inputs, &options())
}

/// Passes without which a model that is wrong is right.
pub fn blamed(model: &ModelProto, inputs: &BTreeMap<String, Array>) -> Vec<&'static str> {
    let without = |name: &str| Options { without: vec![name.into()], ..options() };
    let names = passes::PIPELINE.iter().map(|(name, _)| *name).filter(|name| !passes::NEEDED.contains(name));
    let mut names: Vec<&str> = names.collect();
    names.dedup();
    names.retain(|name| matches!(check_with(model, inputs, &without(name)), Outcome::Same(..)));
    names
}

fn check_with(model: &ModelProto, inputs: &BTreeMap<String, Array>, options: &Options) -> Outcome {
    let caught = catch_unwind(AssertUnwindSafe(|| checked(model, inputs, options)));
    caught.unwrap_or_else(|e| {
        let text = e.downcast_ref::<String>().cloned().or(e.downcast_ref::<&str>().map(|s| s.to_string()));
        Outcome::Wrong(format!("panicked: {}", text.unwrap_or_default()))
    })
}

fn checked(model: &ModelProto, inputs: &BTreeMap<String, Array>, options: &Options) -> Outcome {
    let graph = match import(&model.to_bytes(), None, options) {
        Ok(graph) => graph,
        Err(e) => return Outcome::Refused(reason(&e)),
    };
    let bounds = match expected(&graph, inputs) {
        Ok(bounds) => bounds,
        Err(why) => return Outcome::Refused(why),
    };
    let (mut told, mut untold) = (0, 0);
    let best = kinglet_native::best_kernels();
    for (what, kernels, target) in [
        ("the reference", &Reference as &dyn kinglet::Kernels, kinglet::Target::Generic),
        ("this CPU", best, best.target()),
    ] {
        let options = Options { target, ..options.clone() };
        let compiled: Compiled = match compile(graph.clone(), &options) {
            Ok(compiled) => compiled,
            Err(e @ Error::Unsupported(_)) => return Outcome::Refused(reason(&e)),
            // What was imported is no malformed model, and small.
            Err(e) => return Outcome::Wrong(format!("for {what} it does not compile: {e}")),
        };
        let got = run_on(kernels, &compiled.kgl, inputs, &Inline, &mut Quiet);
        for (name, bounds) in &bounds {
            let got = &got[name];
            if (got.dtype, &got.shape) != (bounds.value.dtype, &bounds.value.shape) {
                return Outcome::Wrong(format!("on {what} `{name}` is {} {:?}", got.dtype.name(), got.shape));
            }
            if let Some(why) = outside(got, bounds) {
                return Outcome::Wrong(format!("on {what} `{name}` {why}"));
            }
            let free = bounds.off.iter().filter(|o| o.is_infinite()).count();
            told += bounds.off.len() - free;
            untold += free;
        }
    }
    Outcome::Same(told, untold)
}

/// A refusal without the names of nodes.
fn reason(e: &Error) -> String {
    match e {
        Error::Unsupported(all) => format!("{}: {}", all[0].op, all[0].reason),
        other => other.to_string(),
    }
}

/// The first element that is not what it may be.
pub fn outside(got: &Array, bounds: &Bounds) -> Option<String> {
    let (got, want) = (got.reals(), bounds.value.reals());
    (0..want.len()).find_map(|k| {
        let (g, w, off) = (got[k], want[k], bounds.off[k]);
        let same = g == w || g.is_nan() && w.is_nan() || off.is_infinite() || (g - w).abs() <= off;
        (!same).then(|| format!("[{k}] is {g} instead of {w}, and may be off {off:.3e}"))
    })
}

/// What each output of an imported graph may be, by name.
///
/// # Errors
/// If a node has no result.
pub fn expected(graph: &Graph, inputs: &BTreeMap<String, Array>) -> Result<BTreeMap<String, Bounds>, String> {
    let inputs: Vec<Array> = graph.inputs.iter().map(|&t| inputs[&graph.tensors[t].name].clone()).collect();
    let exact = evaluate(graph, &inputs, &mut Noise::none())?;
    let mut bounds: Vec<Bounds> = exact
        .into_iter()
        .map(|value| {
            let off = vec![0.0; value.len()];
            Bounds { value, off }
        })
        .collect();
    for k in 0..EVALUATIONS {
        // With roundings an index may leave its axis, of which nobody can tell anything.
        let Ok(other) = evaluate(graph, &inputs, &mut Noise::of(k)) else {
            bounds.iter_mut().for_each(|b| b.off.fill(f64::INFINITY));
            break;
        };
        for (b, other) in bounds.iter_mut().zip(&other) {
            let (value, other) = (b.value.reals(), other.reals());
            for (e, off) in b.off.iter_mut().enumerate() {
                let (a, c) = (value[e], other[e]);
                let apart = if a == c || a.is_nan() && c.is_nan() { 0.0 } else { (a - c).abs() };
                *off = off.max(if apart.is_nan() { f64::INFINITY } else { apart });
            }
        }
    }
    for b in &mut bounds {
        let value = b.value.reals();
        for (e, off) in b.off.iter_mut().enumerate() {
            *off *= MARGIN;
            if b.value.dtype == DType::F32 {
                // What is below the smallest normal number may be lost.
                *off += RELATIVE * value[e].abs().min(f64::MAX) + 1e-37;
            } else if *off > 0.0 && !matches!(b.value.dtype, DType::I8 | DType::U8) {
                // Neither a truth nor an index lies between others.
                *off = f64::INFINITY;
            }
        }
    }
    Ok(graph.output_names.iter().cloned().zip(bounds).collect())
}

/// A model with every tensor that its nodes give as an output (sequences apart), and what each may be.
///
/// # Panics
/// If the model is none of the generator's.
pub fn opened(model: &ModelProto, inputs: &BTreeMap<String, Array>) -> (ModelProto, BTreeMap<String, Bounds>) {
    let mut model = model.clone();
    let proto = model.graph.get_or_insert_default();
    let sequences = |op: &str| {
        op.contains("Sequence")
            && !matches!(op, "ReverseSequence" | "SequenceAt" | "SequenceLength" | "ConcatFromSequence")
    };
    let nodes = proto.node.iter().filter(|n| !sequences(&n.op_type));
    proto.output = nodes.flat_map(|n| &n.output).filter(|o| !o.is_empty()).map(|o| port(o, DType::F32, &[])).collect();
    let graph = import(&model.to_bytes(), None, &options()).expect("it is a model");
    let bounds = expected(&graph, inputs).expect("it has a result");
    let proto = model.graph.get_or_insert_default();
    let typed = |o: &ValueInfoProto| {
        let value = &bounds[&o.name].value;
        port(&o.name, value.dtype, &value.shape)
    };
    proto.output = proto.output.iter().map(typed).collect();
    (model, bounds)
}

/// How far off what nodes compute is.
struct Noise {
    random: Option<Random>,
    side: Option<f64>,
}

impl Noise {
    fn none() -> Self {
        Noise { random: None, side: None }
    }

    fn of(k: usize) -> Self {
        Noise { random: Some(Random::new(k as u64 + 1)), side: [1.0, -1.0].get(k).copied() }
    }

    /// A number in −1 to 1.
    fn next(&mut self) -> f64 {
        match (&mut self.random, self.side) {
            (None, _) => 0.0,
            (Some(_), Some(side)) => side,
            (Some(random), None) => random.real(),
        }
    }

    /// A constant, off as what is computed of one operand is, unless its digits are few.
    fn constant(&mut self, a: &Array) -> Array {
        if self.random.is_none() || a.dtype != DType::F32 {
            return a.clone();
        }
        let largest = largest(a);
        map_reals(a, |v| {
            let whole = exact(v) || !v.is_finite();
            if whole { v } else { v * (1.0 + RELATIVE * self.next()) + OF_LARGEST * largest * self.next() }
        })
    }

    /// What a node gives, with roundings.
    fn rounded(&mut self, graph: &Graph, node: &Node, operands: &[Option<&Array>]) -> Vec<Array> {
        if self.random.is_none() || moves(&node.op) {
            return eval::outputs(graph, node, operands).into_iter().map(single).collect();
        }
        let quant = graph.tensors[node.output].quant.clone();
        if let Some(quant) = quant.filter(|_| node.more.is_empty()) {
            let dtype = graph.tensors[node.output].dtype;
            let steps = if matches!(node.op, Op::Quantize) {
                eval::quantize_unrounded(operands[0].expect("has an input"), &quant)
            } else {
                let mut plain = graph.clone();
                (plain.tensors[node.output].quant, plain.tensors[node.output].dtype) = (None, DType::F32);
                eval::quantize_unrounded(&eval::node(&plain, node, operands), &quant)
            };
            let (lo, hi) = dtype.quantized_range().expect("quantised");
            let round = |v: &f64| {
                let off = v + TIE * self.next();
                off.max(lo.into()).min(hi.into()).round_ties_even() as i64
            };
            let out = steps.reals().iter().map(round).collect();
            return vec![Array::int(dtype, &steps.shape, out)];
        }
        let all = operands.iter().flatten().filter(|a| a.dtype == DType::F32);
        let largest = all.map(|a| largest(a)).fold(0.0, f64::max);
        let reals = operands.iter().flatten().filter(|a| a.dtype == DType::F32);
        let short = keeps_digits(&node.op) && reals.flat_map(|a| a.reals().to_vec()).all(exact);
        let mut off = |v: f64| match short && exact(v) || !v.is_finite() {
            // The sign of zero is part of no contract.
            true if v == 0.0 => 0f64.copysign(self.next()),
            true => v,
            false => v * (1.0 + RELATIVE * self.next()) + OF_LARGEST * largest * self.next(),
        };
        eval::outputs(graph, node, operands).iter().map(|a| single(map_reals(a, &mut off))).collect()
    }
}

/// The largest magnitude of an array's finite reals.
fn largest(a: &Array) -> f64 {
    a.reals().iter().filter(|v| v.is_finite()).fold(0.0, |m: f64, v| m.max(v.abs()))
}

/// Whether a real has so few digits that an operation that [keeps them](keeps_digits) has not rounded it, as a rule.
fn exact(v: f64) -> bool {
    v.abs() < 4096.0 && (v * 4096.0).fract() == 0.0
}

/// Whether an operator gives reals of few digits exactly, if those that it takes have few.
fn keeps_digits(op: &Op) -> bool {
    use kinglet_compiler::graph::{BinaryOp, ReduceOp, UnaryOp};
    match op {
        Op::Binary(op) => !matches!(op, BinaryOp::Div | BinaryOp::Pow | BinaryOp::Mod),
        Op::Unary { op, .. } => {
            matches!(
                op,
                UnaryOp::Abs
                    | UnaryOp::Neg
                    | UnaryOp::Relu
                    | UnaryOp::Floor
                    | UnaryOp::Ceil
                    | UnaryOp::Round
                    | UnaryOp::Sign
            )
        }
        Op::Reduce { op, .. } => matches!(op, ReduceOp::Sum | ReduceOp::Max | ReduceOp::Min),
        Op::Conv { .. }
        | Op::MatMul { .. }
        | Op::CumSum { .. }
        | Op::Scatter { .. }
        | Op::TopK { .. }
        | Op::Dequantize => true,
        _ => false,
    }
}

/// Whether an operator computes nothing.
fn moves(op: &Op) -> bool {
    matches!(
        op,
        Op::Transpose { .. }
            | Op::Reshape
            | Op::Concat { .. }
            | Op::Slice { .. }
            | Op::Gather { .. }
            | Op::Expand
            | Op::Tile { .. }
            | Op::Pad { .. }
            | Op::DepthToSpace { .. }
            | Op::Where
            | Op::Reinterpret
    )
}

/// Reals as f32 has them: that is what a tensor of the file holds.
fn single(a: Array) -> Array {
    map_reals(&a, |v| f64::from(v as f32))
}

/// The outputs, evaluated node by node with noise.
fn evaluate(graph: &Graph, inputs: &[Array], noise: &mut Noise) -> Result<Vec<Array>, String> {
    // A constant may be what constants were folded to.
    let mut values: Vec<Option<Array>> =
        graph.tensors.iter().map(|t| t.value.as_deref().map(|v| noise.constant(v))).collect();
    for (&t, v) in graph.inputs.iter().zip(inputs) {
        // What an operator rounds within is no node of its own: as if one of its operands were off.
        values[t] =
            Some(map_reals(
                v,
                |v| if exact(v) || !v.is_finite() { v } else { v * (1.0 + RELATIVE / 4.0 * noise.next()) },
            ));
    }
    for node in &graph.nodes {
        let operands: Vec<Option<&Array>> =
            node.inputs.iter().map(|t| t.map(|t| values[t].as_ref().expect("computed before it is read"))).collect();
        if let Some(why) = eval::fault(graph, node, &operands) {
            return Err(why);
        }
        let results = noise.rounded(graph, node, &operands);
        for (t, v) in node.outputs().zip(results) {
            values[t] = Some(v);
        }
    }
    Ok(graph.outputs.iter().map(|&t| values[t].clone().expect("computed")).collect())
}
