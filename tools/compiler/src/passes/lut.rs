//! Elementwise functions of one 8-bit tensor become tables.
//!
//! A chain of elementwise nodes (with quantised intermediates or without) that starts at one 8-bit tensor and ends at
//! another is a function of one byte, whatever it contains; the evaluator computes its 256 values.

use std::collections::HashMap;

use kinglet::DType;

use super::util::merged_sources;
use crate::array::Array;
use crate::eval;
use crate::graph::{Graph, Node, Op, TensorId};

/// Longest chain that is followed; each table costs 256 evaluations of its chain.
const LONGEST: usize = 64;

/// Replaces each such chain by a [`Op::Lut`].
pub fn tabulate(graph: &mut Graph) {
    // The 8-bit tensor each tensor is a function of, with the number of nodes in between.
    let mut origin: Vec<Option<(TensorId, usize)>> = vec![None; graph.tensors.len()];
    let mut made_by: Vec<Option<usize>> = vec![None; graph.tensors.len()];
    let is_byte = |graph: &Graph, t: TensorId| {
        let t = &graph.tensors[t];
        matches!(t.dtype, DType::I8 | DType::U8)
            && t.value.is_none()
            && t.quant.as_ref().is_some_and(|q| q.scales.len() == 1)
    };
    for i in 0..graph.nodes.len() {
        let node = &graph.nodes[i];
        made_by[node.output] = Some(i);
        let from = function_of(graph, node, &origin, &is_byte);
        origin[node.output] = from.filter(|&(_, n)| n < LONGEST);
        let (Some((x, _)), true) = (origin[node.output], is_byte(graph, node.output)) else { continue };
        let mut chain = Vec::new();
        collect(graph, &made_by, x, node.output, &mut chain);
        chain.sort_unstable();
        chain.dedup();
        let table = table(graph, &chain, x, node.output);
        let source = merged_sources(chain.iter().map(|&k| &graph.nodes[k]));
        let output = node.output;
        graph.nodes[i] = Node::new(Op::Lut { table }, vec![Some(x)], output, source);
    }
    super::cleanup::fold_all(graph);
    identities(graph);
}

/// A table that changes nothing is no step.
fn identities(graph: &mut Graph) {
    for i in 0..graph.nodes.len() {
        let node = &graph.nodes[i];
        let (Op::Lut { table }, Some(x)) = (&node.op, node.inputs[0]) else { continue };
        let same = table.iter().enumerate().all(|(b, &v)| b == usize::from(v));
        if same && graph.tensors[x].dtype == graph.tensors[node.output].dtype {
            graph.nodes[i].op = Op::Reinterpret;
        }
    }
    super::cleanup::fold_all(graph);
}

/// The tensor that all varying inputs of an elementwise node are functions of.
fn function_of(
    graph: &Graph,
    node: &Node,
    origin: &[Option<(TensorId, usize)>],
    is_byte: &dyn Fn(&Graph, TensorId) -> bool,
) -> Option<(TensorId, usize)> {
    let elementwise = matches!(
        node.op,
        Op::Unary { .. } | Op::Binary(_) | Op::ScaleShift | Op::Where | Op::Quantize | Op::Dequantize | Op::Lut { .. }
    );
    if !elementwise {
        return None;
    }
    let mut common: Option<(TensorId, usize)> = None;
    for t in node.inputs.iter().flatten() {
        let tensor = &graph.tensors[*t];
        if tensor.value.is_some() {
            if tensor.len() != 1 || tensor.shape.len() > graph.tensors[node.output].shape.len() {
                return None;
            }
            continue;
        }
        let (x, n) = match origin[*t] {
            Some(known) => known,
            None if is_byte(graph, *t) => (*t, 0),
            None => return None,
        };
        // Broadcasting would make it a function of two elements.
        if graph.tensors[x].shape != graph.tensors[node.output].shape || common.is_some_and(|(c, _)| c != x) {
            return None;
        }
        common = Some((x, common.map_or(0, |c| c.1).max(n + 1)));
    }
    common
}

/// The nodes between `x` and `t`.
fn collect(graph: &Graph, made_by: &[Option<usize>], x: TensorId, t: TensorId, chain: &mut Vec<usize>) {
    let Some(i) = made_by[t].filter(|_| t != x) else { return };
    if chain.contains(&i) {
        return;
    }
    chain.push(i);
    for input in graph.nodes[i].inputs.iter().flatten() {
        if graph.tensors[*input].value.is_none() {
            collect(graph, made_by, x, *input, chain);
        }
    }
}

/// Evaluates the chain for every byte, in a graph of its own whose tensors hold 256 elements (constants one).
///
/// Between nodes values are f32, and quantised ones go through the runtime's own definitions: a table gives what the same
/// chain of elementwise steps would give.
fn table(graph: &Graph, chain: &[usize], x: TensorId, y: TensorId) -> Vec<u8> {
    let mut small = Graph::default();
    let mut ids: HashMap<TensorId, TensorId> = HashMap::new();
    let mut values: HashMap<TensorId, Array> = HashMap::new();
    let dtype = graph.tensors[x].dtype;
    let byte = |b: usize| if dtype == DType::I8 { i64::from(b as u8 as i8) } else { b as i64 };
    // A tensor of the small graph holds reals where the large one's is quantised.
    let mut plain = |small: &mut Graph, t: TensorId| {
        *ids.entry(t).or_insert_with(|| {
            let mut tensor = graph.tensors[t].clone();
            tensor.shape = vec![if tensor.value.is_some() { 1 } else { 256 }];
            tensor.value = None;
            if tensor.quant.take().is_some() {
                tensor.dtype = DType::F32;
            }
            small.add_tensor(tensor)
        })
    };
    let reals = |t: TensorId, v: &Array| -> Array {
        match graph.tensors[t].quant.as_ref().and_then(|q| q.single()) {
            Some((scale, zero)) => {
                let real = |&q: &i64| f64::from(kinglet::quant::dequantize(q as i32, scale, zero));
                Array::f32(&v.shape, v.ints().iter().map(real).collect())
            }
            None => v.clone(),
        }
    };
    values.insert(x, Array::int(dtype, &[256], (0..256).map(byte).collect()));
    for &i in chain {
        let large = &graph.nodes[i];
        let operands: Vec<Option<Array>> = large
            .inputs
            .iter()
            .map(|t| {
                t.map(|t| match graph.value(t) {
                    Some(v) => reals(t, &v.clone().reshaped(&[1])),
                    None => reals(t, &values[&t]),
                })
            })
            .collect();
        let mut node = large.clone();
        node.inputs.iter_mut().flatten().for_each(|t| *t = plain(&mut small, *t));
        node.output = plain(&mut small, large.output);
        let out = match &node.op {
            Op::Lut { table } => {
                let bytes = values[&large.inputs[0].expect("has an input")].ints().into_owned();
                let signed = graph.tensors[large.output].dtype == DType::I8;
                let read = |b: u8| if signed { i64::from(b as i8) } else { i64::from(b) };
                let looked_up = bytes.iter().map(|&b| read(table[usize::from(b as u8)])).collect();
                Array::int(graph.tensors[large.output].dtype, &[256], looked_up)
            }
            // Reals in, reals out: only the types change.
            Op::Quantize | Op::Dequantize => rounded(graph, large.output, operands[0].clone().expect("has an input")),
            _ => {
                let inputs: Vec<Option<&Array>> = operands.iter().map(|o| o.as_ref()).collect();
                rounded(graph, large.output, eval::node(&small, &node, &inputs))
            }
        };
        values.insert(large.output, out);
    }
    values[&y].ints().iter().map(|&v| v as u8).collect()
}

/// Reals as tensor `t` holds them: rounded to f32, and quantised if it is.
fn rounded(graph: &Graph, t: TensorId, v: Array) -> Array {
    let tensor = &graph.tensors[t];
    match (tensor.quant.as_ref().and_then(|q| q.single()), tensor.dtype.quantized_range()) {
        (Some((scale, zero)), Some((lo, hi))) => {
            let q = |&r: &f64| i64::from(kinglet::quant::quantize(r as f32, scale, zero, lo, hi));
            Array::int(tensor.dtype, &v.shape, v.reals().iter().map(q).collect())
        }
        _ if tensor.dtype == DType::F32 => {
            Array::f32(&v.shape, v.reals().iter().map(|&r| f64::from(r as f32)).collect())
        }
        _ => v,
    }
}
