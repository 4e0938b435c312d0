//! What a linear region answers to a series, by experiments in the evaluator: to an impulse, to the same one frame later, and
//! to a series without any pattern, which must be the convolution with the answer to the impulse. If that is the answer of a
//! Legendre memory of some order and length, the region is one.
//!
//! In a quantised file the constants of the region are rounded, and so are results within it. The latter is left out. For the
//! constants, the answer may be off by what their roundings can explain: half a step of each, which bounds the deviation of
//! every element. A memory whose rounded response the file holds is found, and one that was changed by more than that is not.

use std::collections::HashMap;

use super::walk::Known;
use crate::array::Array;
use crate::eval;
use crate::graph::{BinaryOp, Graph, Node, Op, Quant, TensorId, UnaryOp};
use crate::legendre::DelaySystem;

/// Largest deviation from a response, relative to its largest magnitude: what responses computed in f32 differ by.
const TOLERANCE: f64 = 2e-5;

/// A linear region under experiment.
pub struct Response<'a> {
    graph: &'a Graph,
    u: TensorId,
    nodes: &'a [usize],
    exit: TensorId,
    /// The constants that are dequantised.
    constants: HashMap<TensorId, Array>,
    /// Half a step of each of their elements.
    half_steps: HashMap<TensorId, Vec<f64>>,
}

/// The numbers that constants take.
#[derive(Clone, Copy, PartialEq)]
enum Numbers {
    /// Their own.
    Own,
    /// Their magnitudes; then nothing cancels, and what is computed bounds what their own numbers give.
    Magnitudes,
    /// The largest magnitudes that they may have been rounded from.
    Largest,
}

/// An answer, with the most that each element may be off by.
struct Answer {
    values: Vec<f64>,
    bounds: Vec<f64>,
}

impl<'a> Response<'a> {
    /// The region of `nodes` that computes `exit` from the series `u`.
    pub fn new(graph: &'a Graph, known: &Known, u: TensorId, nodes: &'a [usize], exit: TensorId) -> Self {
        let (mut constants, mut half_steps) = (HashMap::new(), HashMap::new());
        for &t in nodes.iter().flat_map(|&i| graph.nodes[i].inputs.iter().flatten()) {
            let Some(node) = known.links.node(graph, t).filter(|n| matches!(n.op, Op::Dequantize)) else { continue };
            let Some(q) = node.inputs[0] else { continue };
            if let (Some(value), Some(quant)) = (graph.value(q), &graph.tensors[q].quant) {
                half_steps.insert(t, halves(quant, &graph.tensors[q].shape));
                constants.insert(t, eval::node(graph, node, &[Some(value)]));
            }
        }
        Response { graph, u, nodes, exit, constants, half_steps }
    }

    /// The memory that the region is, and whether frames come before coefficients in its result, whose axes are these.
    pub fn memory(&self, time: usize, order_axis: usize) -> Option<(DelaySystem, bool)> {
        let shape = &self.graph.tensors[self.exit].shape;
        let (trips, order) = (shape[time], shape[order_axis]);
        let impulse = self.answer(&(0..trips).map(|t| f64::from(u8::from(t == 0))).collect::<Vec<_>>());
        let later = self.answer(&(0..trips).map(|t| f64::from(u8::from(t == 1))).collect::<Vec<_>>());
        // Element [t, k] for both orders of the axes; with equal extents the wrong one fails the test.
        let swapped = trips == order;
        [false, true].into_iter().take(1 + usize::from(swapped)).find_map(|swap| {
            let by_time = (time < order_axis) != swap;
            let at = |t: usize, k: usize| if by_time { t * order + k } else { k * trips + t };
            let close = |answer: &Answer, want: &dyn Fn(usize, usize) -> (f64, f64)| {
                let all = || (0..trips).flat_map(|t| (0..order).map(move |k| (t, k)));
                let largest = all().map(|(t, k)| want(t, k).0.abs()).fold(0.0, f64::max);
                all().all(|(t, k)| {
                    let (value, bound) = want(t, k);
                    let off = (answer.values[at(t, k)] - value).abs();
                    off <= TOLERANCE * largest + answer.bounds[at(t, k)] + bound
                })
            };
            // Whatever frame an impulse is in, the answer is the same from there on. This is cheap, the next is not.
            let moved = |t: usize, k: usize| match t.checked_sub(1) {
                Some(before) => (impulse.values[at(before, k)], impulse.bounds[at(before, k)]),
                None => (0.0, 0.0),
            };
            if !close(&later, &moved) {
                return None;
            }
            let first: Vec<f64> = (0..order).map(|k| impulse.values[at(0, k)]).collect();
            let slack: Vec<f64> = (0..order).map(|k| impulse.bounds[at(0, k)]).collect();
            let square = (order * order) as u64;
            let cost = square.saturating_mul(DelaySystem::PRODUCTS * order as u64 + 2 * trips as u64);
            let affordable = || self.graph.budget.take(cost, 0);
            let memory = DelaySystem::starting_with(&first, &slack, trips, affordable)?;
            let unit: Vec<f64> = (0..trips).map(|t| f64::from(u8::from(t == 0))).collect();
            let h = memory.frames(&unit);
            if !close(&impulse, &|t, k| (h[t][k], 0.0)) {
                return None;
            }
            // A series without any pattern: what answers it as the memory does so to every series.
            let u: Vec<f64> = (0..trips).map(|t| ((t * 7919 + 13) % 101) as f64 / 50.0 - 1.0).collect();
            let want = memory.frames(&u);
            close(&self.answer(&u), &|t, k| (want[t][k], 0.0)).then_some((memory, by_time))
        })
    }

    /// The exit, for a value of u.
    fn answer(&self, u: &[f64]) -> Answer {
        let values = self.run(u, Numbers::Own);
        if self.half_steps.is_empty() {
            return Answer { bounds: vec![0.0; values.len()], values };
        }
        let magnitudes: Vec<f64> = u.iter().map(|v| v.abs()).collect();
        let (least, most) = (self.run(&magnitudes, Numbers::Magnitudes), self.run(&magnitudes, Numbers::Largest));
        // Some more for the f32 that constants and scales are in.
        let bounds = least.iter().zip(most).map(|(least, most)| (most - least) * (1.0 + 1e-3)).collect();
        Answer { values, bounds }
    }

    fn run(&self, u: &[f64], numbers: Numbers) -> Vec<f64> {
        let graph = self.graph;
        let shape = graph.tensors[self.u].shape.clone();
        let mut values: HashMap<TensorId, Array> = HashMap::from([(self.u, Array::f32(&shape, u.to_vec()))]);
        for &i in self.nodes {
            let node = &graph.nodes[i];
            let x = node.inputs[0].and_then(|t| values.get(&t));
            let node = match (&node.op, numbers) {
                (Op::Quantize | Op::Dequantize, _) => {
                    let same = x.expect("it is computed").clone();
                    values.insert(node.output, same);
                    continue;
                }
                (Op::Unary { op: UnaryOp::Neg, .. }, Numbers::Magnitudes | Numbers::Largest) => {
                    let same = x.expect("it is computed").clone();
                    values.insert(node.output, same);
                    continue;
                }
                (Op::Binary(BinaryOp::Sub), Numbers::Magnitudes | Numbers::Largest) => {
                    &Node::new(Op::Binary(BinaryOp::Add), node.inputs.clone(), node.output, Vec::new())
                }
                _ => node,
            };
            let constants: Vec<Option<Array>> =
                node.inputs.iter().map(|t| t.and_then(|t| self.constant(t, numbers))).collect();
            let operand = |(t, constant): (&Option<TensorId>, &'_ Option<Array>)| match constant {
                Some(_) => None,
                None => t.and_then(|t| graph.value(t).or_else(|| values.get(&t))),
            };
            let own: Vec<Option<&Array>> = node.inputs.iter().zip(&constants).map(operand).collect();
            let operands: Vec<Option<&Array>> =
                constants.iter().zip(own).map(|(constant, own)| constant.as_ref().or(own)).collect();
            let value = eval::node(graph, node, &operands);
            values.insert(node.output, value);
        }
        values.remove(&self.exit).expect("the exit is computed").reals().into_owned()
    }

    /// What a constant is in an experiment, if that is not its value in the graph.
    fn constant(&self, t: TensorId, numbers: Numbers) -> Option<Array> {
        let own = self.constants.get(&t);
        let value = own.or_else(|| self.graph.value(t))?;
        let half = self.half_steps.get(&t).filter(|_| numbers == Numbers::Largest);
        match numbers {
            Numbers::Own => own.cloned(),
            _ => {
                let half = |k: usize| half.map_or(0.0, |h| h[k]);
                let largest = value.reals().iter().enumerate().map(|(k, v)| v.abs() + half(k)).collect();
                Some(Array::f32(&value.shape, largest))
            }
        }
    }
}

/// Half a step of each element of a quantised tensor.
fn halves(quant: &Quant, shape: &[usize]) -> Vec<f64> {
    let n: usize = shape.iter().product();
    let inner: usize = shape.iter().skip(quant.axis + 1).product();
    let scale = |k: usize| match quant.scales.len() {
        1 => quant.scales[0],
        many => quant.scales[k / inner.max(1) % many],
    };
    (0..n).map(|k| f64::from(scale(k)) / 2.0).collect()
}
