//! Constants computed as the runtime would compute them.
//!
//! A shape that is worked out in f32 (`Shape` → `Cast` → `Mul` 0.29 → `Floor`) comes out right only with f32's roundings. So
//! whatever is folded gives the very bits that a step of the plan would give: what moves, converts or computes integers is
//! exact in the evaluator or takes the runtime's own functions, and everything else is compiled by itself and run.

use std::sync::Arc;

use kinglet::{DType, Model, Reference, Session};

use crate::array::{Array, Numbers};
use crate::graph::{Graph, Node, Op, Quant, Tensor};
use crate::{Options, eval, lower, plan};

/// Whether the budget of the graph covers the evaluation of `node`, whose cost is taken from it.
pub(crate) fn affordable(graph: &Graph, node: &Node) -> bool {
    let bytes = node.outputs().map(|t| graph.tensors[t].bytes()).fold(0usize, usize::saturating_add);
    graph.budget.take(eval::cost(graph, node), bytes as u64)
}

/// The first output of a node of constants whose operator has a result whatever they are.
pub(crate) fn node(graph: &Graph, node: &Node, inputs: &[Option<&Array>]) -> Array {
    first(graph, node, inputs).expect("no index and no divisor is among these operators' operands")
}

/// The first output of any node of constants; see [`outputs`].
pub(crate) fn first(graph: &Graph, node: &Node, inputs: &[Option<&Array>]) -> Option<Array> {
    Some(outputs(graph, node, inputs)?.swap_remove(0))
}

/// The outputs of a node whose inputs have these values, as the model holds them. `None` if the node has no result for them
/// (see [`eval::fault`]): it stays for the lowering to refuse, or for a run to report.
pub(crate) fn outputs(graph: &Graph, node: &Node, inputs: &[Option<&Array>]) -> Option<Vec<Array>> {
    if eval::fault(graph, node, inputs).is_some() {
        return None;
    }
    let output = &graph.tensors[node.output];
    let quant = |i: usize| node.inputs[i].and_then(|t| graph.tensors[t].quant.as_ref());
    match (&node.op, inputs.first().copied().flatten()) {
        (Op::Cast(to), Some(x)) if quant(0).is_none() && output.quant.is_none() => return Some(vec![cast(x, *to)]),
        (Op::Quantize, Some(x)) => {
            let q = output.quant.as_ref().expect("its output is quantised");
            // What it reads may be quantised, too, on another grid.
            let reals = quant(0).map(|q| dequantize(x, q));
            return Some(vec![quantize(reals.as_ref().unwrap_or(x), q, output.dtype)]);
        }
        (Op::Dequantize, Some(x)) => return Some(vec![dequantize(x, quant(0).expect("its input is quantised"))]),
        _ => {}
    }
    let integers = node.outputs().all(|t| graph.tensors[t].dtype != DType::F32 && graph.tensors[t].quant.is_none());
    let unscaled = node.inputs.iter().flatten().all(|&t| graph.tensors[t].quant.is_none());
    let moves = matches!(node.op, Op::Where) || node.op.moves_only();
    let exact = matches!(node.op, Op::Reinterpret | Op::Lut { .. })
        || (moves && unscaled && output.quant.is_none())
        || (integers && unscaled && !matches!(node.op, Op::Loop(_)));
    let compiled = |graph: Graph| Some(crate::compile(graph, &Options::default()).ok()?.kgl);
    let computed = match if exact { None } else { run(graph, node, inputs, compiled) } {
        Some(result) => result.ok()?,
        // What the runtime cannot run, as a loop whose body has no kernel, is evaluated in f64 and rounded.
        None => eval::outputs(graph, node, inputs),
    };
    Some(computed.into_iter().map(Array::stored).collect())
}

/// The outputs of a node that passes are done with, by the very step that it becomes. `None` if it becomes none, or has no
/// result.
pub(crate) fn as_run(graph: &Graph, node: &Node, inputs: &[Option<&Array>]) -> Option<Vec<Array>> {
    let compiled = |graph: Graph| {
        let lowered = lower::lower(&graph, &Options::default(), false).ok()?;
        let (layout, _) = plan::plan(&lowered, plan::Banding::Off, &[]).ok()?;
        Some(plan::write(&graph, lowered, &layout, &Options::default()).ok()?.0)
    };
    run(graph, node, inputs, compiled)?.ok()
}

/// `Cast` in one rounding: an i64 goes to f32 at once, not by way of f64.
fn cast(x: &Array, to: DType) -> Array {
    let numbers = match (x.numbers(), to) {
        (Numbers::I(v), DType::F32) => Numbers::F(v.into_iter().map(|v| f64::from(v as f32)).collect()),
        (Numbers::I(v), DType::Bool) => Numbers::I(v.into_iter().map(|v| i64::from(v != 0)).collect()),
        (Numbers::F(v), DType::F32) => Numbers::F(v),
        (Numbers::F(v), _) => Numbers::I(v.into_iter().map(|v| eval::cut(v, to)).collect()),
        (numbers, _) => numbers,
    };
    Array::new(to, x.shape.clone(), numbers).stored()
}

/// For each element its scale and zero point.
fn scales<'a>(q: &'a Quant, shape: &[usize]) -> impl Fn(usize) -> (f32, i32) + 'a {
    let run: usize = if q.scales.len() == 1 { usize::MAX } else { shape[q.axis + 1..].iter().product() };
    move |i| {
        let k = i / run.max(1) % q.scales.len();
        (q.scales[k], q.zero_points[k])
    }
}

fn quantize(x: &Array, q: &Quant, dtype: DType) -> Array {
    let of = scales(q, &x.shape);
    let Some((lo, hi)) = dtype.quantized_range() else { return eval::quantize(x, q, dtype) };
    let one = |(i, &v): (usize, &f64)| {
        let (scale, zero) = of(i);
        i64::from(kinglet::quant::quantize(v as f32, scale, zero, lo, hi))
    };
    Array::int(dtype, &x.shape, x.reals().iter().enumerate().map(one).collect())
}

fn dequantize(x: &Array, q: &Quant) -> Array {
    let of = scales(q, &x.shape);
    let one = |(i, &v): (usize, &i64)| {
        let (scale, zero) = of(i);
        f64::from(kinglet::quant::dequantize(v as i32, scale, zero))
    };
    Array::f32(&x.shape, x.ints().iter().enumerate().map(one).collect()).stored()
}

/// Runs a node as a model of its own: its first input (of a recurrence every input) is the model's, the others are constants.
/// `None` if the runtime has no kernel for it, the run's error if a step of it (of a loop's body) has no result.
fn run(
    graph: &Graph,
    node: &Node,
    inputs: &[Option<&Array>],
    compiled: impl Fn(Graph) -> Option<Vec<u8>>,
) -> Option<Result<Vec<Array>, kinglet::Error>> {
    let mut small = Graph::within(&graph.budget);
    let mut own = node.clone();
    let mut given = Vec::new();
    for (slot, value) in own.inputs.iter_mut().zip(inputs) {
        let (Some(t), Some(value)) = (*slot, *value) else { continue };
        let computed = given.is_empty() || node.op.recurs();
        let tensor = Tensor { value: (!computed).then(|| Arc::new(value.clone())), ..graph.tensors[t].clone() };
        let id = small.add_tensor(tensor);
        *slot = Some(id);
        if computed {
            small.inputs.push(id);
            given.push(value);
        }
    }
    // Without an input the model would be a constant node again, to be folded by running it.
    if given.is_empty() {
        return None;
    }
    let outputs: Vec<Tensor> = node.outputs().map(|t| graph.tensors[t].clone()).collect();
    let ids: Vec<usize> = outputs.iter().map(|t| small.add_tensor(Tensor { value: None, ..t.clone() })).collect();
    (own.output, own.more) = (ids[0], ids[1..].to_vec());
    small.outputs = ids;
    small.output_names = outputs.iter().map(|t| t.name.clone()).collect();
    small.nodes.push(own);
    let kgl = compiled(small)?;

    let (mut file, mut arena) = (Lines::default(), Lines::default());
    let model = Model::load(file.holding(&kgl)).ok()?;
    let mut session = Session::new(model, arena.of(model.arena_bytes()), &Reference).ok()?;
    for (i, value) in given.iter().enumerate() {
        let bytes = value.to_bytes();
        let place = session.input_bytes_mut(i).ok()?;
        (place.len() == bytes.len()).then(|| place.copy_from_slice(&bytes))?;
    }
    if let Err(e) = session.run() {
        return Some(Err(e));
    }
    let read = |(i, t): (usize, &Tensor)| Array::from_bytes(t.dtype, &t.shape, session.output_bytes(i).ok()?);
    outputs.iter().enumerate().map(read).collect::<Option<_>>().map(Ok)
}

/// Memory in cache lines, which are aligned as the runtime wants it.
#[derive(Default)]
pub(crate) struct Lines(Vec<Line>);

#[repr(C, align(64))]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Line([u8; 64]);

impl Lines {
    /// `n` zeroed bytes.
    pub(crate) fn of(&mut self, n: usize) -> &mut [u8] {
        self.0 = vec![Line([0; 64]); n.div_ceil(64)];
        &mut bytemuck::cast_slice_mut(&mut self.0)[..n]
    }

    /// A copy of `bytes`.
    pub(crate) fn holding(&mut self, bytes: &[u8]) -> &[u8] {
        let own = self.of(bytes.len());
        own.copy_from_slice(bytes);
        own
    }
}
