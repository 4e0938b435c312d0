//! What a node of the imported graph may give: its value in f64, and how far a run may lie from it.
//!
//! A run computes in f32 and in integers, so that it may round a value to the other side where the value lies next to a tie.
//! Where the run shows the rounded tensor, it decides. Where it does not, because a step goes on without storing it, both
//! sides are carried on.

use std::borrow::Cow;

use kinglet::DType;

use super::operators::{has_roundings, is_rough, jumps, keeps_bounds, moves_as_it_is};
use super::terms::{largest, length, terms};
use crate::array::Array;
use crate::eval;
use crate::graph::{BinaryOp, Graph, Node, Op, Quant, TensorId, UnaryOp};

/// How close to a tie a value must lie, in steps of its scale, to be allowed to round either way: f32 arithmetic on values of
/// up to a few hundred steps is exact to about this.
pub const TIE: f64 = 1e-4;

/// [`TIE`] behind sums of many f32 terms and functions with an error of their own.
pub const LOOSE_TIE: f64 = 2e-3;

/// [`TIE`] of 16-bit integers: f32 leaves them eight bits of fraction, of which a few operations lose two.
pub const WIDE_TIE: f64 = 0.015_625;

/// Largest difference of a float result, relative to its tensor's largest magnitude.
pub const FLOAT_BOUND: f64 = 1e-4;

/// Largest difference of a float result, relative to the largest magnitude of what it was computed from: where that cancels,
/// or a function's tail is taken, f32 keeps the rounding errors of what was there before. Sixteen units in the last place.
pub const TERMS_BOUND: f64 = 1e-6;

/// Largest difference of a float where floats are stored as halves, which round 2¹³ times as coarsely: 20 roundings relative to the largest
/// magnitude of its tensor ([`FLOAT_BOUND`]), and four to that of what it was computed from.
pub const HALF_BOUNDS: [f64; 2] = [1e-2, 2e-3];

/// [`TIE`] behind halves, of which a few roundings are that much of the largest of 255 steps.
pub const HALF_TIE: f64 = 0.5;

/// Terms of an f32 sum up to which [`FLOAT_BOUND`] covers its rounding errors. Those of longer ones grow with their length.
const LONG: f64 = 4096.0;

/// Most operands with elements apart of which every choice is followed.
const CHOICES: usize = 3;

/// What is known of a tensor of the imported graph: for each element the least and the greatest value it may have.
#[derive(Clone, Debug)]
pub(super) struct Known<'a> {
    /// The least, or the only value.
    lo: Cow<'a, Array>,
    /// The greatest, where some element has two.
    hi: Option<Array>,
    /// How it came about.
    how: How,
}

/// How a value came about since the last values that the run has shown.
#[derive(Clone, Copy, Debug, Default)]
struct How {
    /// It was computed in f64, so that the run's own f32 value may lie beside it.
    computed: bool,
    /// Largest magnitude of what it was computed from.
    terms: f64,
    /// Terms of the longest sum.
    length: f64,
    /// The run stores floats as halves.
    halves: bool,
    /// The run's f32 value comes from long sums or functions with an error of their own.
    rough: bool,
    /// What lies outside the bounds may still be right: elements that each have two values were combined with each other, or
    /// roundings in the body of a loop may have gone the other way.
    blind: bool,
}

impl How {
    fn and(self, other: How) -> How {
        How {
            computed: self.computed || other.computed,
            terms: self.terms.max(other.terms),
            length: self.length.max(other.length),
            halves: self.halves || other.halves,
            rough: self.rough || other.rough,
            blind: self.blind || other.blind,
        }
    }
}

/// What a comparison of a tensor of the run with what it may be has shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Outcome {
    /// Every element is possible, but for this many of which nobody can tell.
    Held {
        /// Elements that may be right or wrong.
        undecided: usize,
    },
    /// An element is not what the graph gives.
    Wrong {
        /// Which one.
        at: usize,
        /// The least value that it may have.
        lowest: f64,
        /// The greatest.
        highest: f64,
    },
}

impl<'a> Known<'a> {
    /// A value that the run has shown, or a constant.
    pub(super) fn given(value: &'a Array) -> Self {
        Known { lo: Cow::Borrowed(value), hi: None, how: How::default() }
    }

    /// As [`Known::given`], of a value that may have been made for this.
    pub(super) fn shown(value: Cow<'a, Array>) -> Self {
        Known { lo: value, hi: None, how: How::default() }
    }

    /// Compares a tensor of the run, whose type and shape are this one's.
    pub(super) fn compare(&self, got: &Array) -> Outcome {
        let hi = self.hi.as_ref().unwrap_or(&self.lo);
        let (lo, hi, values) = (self.lo.reals(), hi.reals(), got.reals());
        let slack = if got.dtype == DType::F32 && self.how.computed { self.slack() } else { 0.0 };
        let mut undecided = 0;
        for at in 0..values.len() {
            let (lowest, highest) = (lo[at] - slack, hi[at] + slack);
            if is_within(values[at], lowest, highest) {
                continue;
            }
            if !self.how.blind {
                return Outcome::Wrong { at, lowest, highest };
            }
            undecided += 1;
        }
        Outcome::Held { undecided }
    }

    /// How far a run's float may lie from this; what is too small for f32 is zero there.
    fn slack(&self) -> f64 {
        let own = [Some(&*self.lo), self.hi.as_ref()].into_iter().flatten().map(largest).fold(0.0, f64::max);
        let [float, terms] = if self.how.halves { HALF_BOUNDS } else { [FLOAT_BOUND, TERMS_BOUND] };
        float * own * (self.how.length / LONG).max(1.0) + terms * self.how.terms + f64::from(f32::MIN_POSITIVE)
    }

    /// This with both bounds moved apart by how far a run's float may lie off.
    fn widened(&self) -> Known<'static> {
        let slack = self.slack();
        let moved = |a: &Array, by: f64| Array::f32(&a.shape, a.reals().iter().map(|v| v + by).collect());
        let lo = Cow::Owned(moved(&self.lo, -slack));
        Known { lo, hi: Some(moved(self.hi.as_ref().unwrap_or(&self.lo), slack)), how: self.how }
    }

    /// The same of a tensor that the run may have computed without some roundings of the file: nobody can tell its elements.
    pub(super) fn loosened(mut self) -> Self {
        self.how.blind = true;
        self
    }

    /// The least that it may be.
    pub(super) fn least(&self) -> &Array {
        &self.lo
    }

    fn side(&self, upper: bool) -> &Array {
        self.hi.as_ref().filter(|_| upper).unwrap_or(&self.lo)
    }
}

/// Whether a value lies within bounds. NaN bounds stand for NaN, and what is beyond f32 is infinite in a run.
fn is_within(got: f64, lowest: f64, highest: f64) -> bool {
    let most = f64::from(f32::MAX) * (1.0 - 1e-5);
    let overflows = |bound: f64| bound.abs() >= most && got.abs() >= most && got * bound > 0.0;
    (lowest <= got && got <= highest)
        || (got.is_nan() && (lowest.is_nan() || highest.is_nan()))
        || overflows(lowest)
        || overflows(highest)
}

/// Evaluates a node of `graph` from what is known of its operands: what is known of its outputs, in a run that may store floats as
/// halves. The graph is left as it was.
pub(super) fn evaluate(
    graph: &mut Graph,
    node: &Node,
    operands: &[Option<&Known<'_>>],
    halves: bool,
) -> Vec<Known<'static>> {
    let start = How { halves, ..How::default() };
    let mut how = operands.iter().flatten().fold(start, |how, o| how.and(o.how));
    let magnitudes: Vec<Option<(&Array, f64)>> = operands.iter().map(|o| o.map(|o| (&*o.lo, o.how.terms))).collect();
    how.terms = terms(graph, node, &magnitudes);
    how.length = how.length.max(length(graph, node));
    how.rough |= is_rough(&node.op);
    // Where a small difference makes a large one, a computed float stands for all that the run may have had in its place.
    let jumps = jumps(graph, node);
    let floats = |o: &&&Known<'_>| o.how.computed && o.lo.dtype == DType::F32;
    how.blind |= match (&node.op, jumps) {
        (Op::Loop(body), _) => has_roundings(&body.graph),
        // What they give in the middle of a range is not between what they give at its ends.
        (
            Op::ArgMax { .. }
            | Op::TopK { .. }
            | Op::NonMaxSuppression { .. }
            | Op::GridSample { .. }
            | Op::Binary(BinaryOp::Equal)
            | Op::Unary { op: UnaryOp::Not, .. },
            true,
        ) => operands.iter().flatten().any(|o| floats(&o) || o.hi.is_some()),
        // The mean of samples of what it reads is continuous, but how many there are jumps with the regions.
        (Op::RoiAlign { .. }, _) => operands[1].is_some_and(|o| floats(&&o) || o.hi.is_some()),
        _ => false,
    };
    let widened: Vec<Option<Cow<'_, Known<'_>>>> = operands
        .iter()
        .map(|o| o.map(|o| if jumps && floats(&&o) { Cow::Owned(o.widened()) } else { Cow::Borrowed(o) }))
        .collect();
    let operands: Vec<Option<&Known<'_>>> = widened.iter().map(|o| o.as_deref()).collect();
    let apart: Vec<usize> = (0..operands.len()).filter(|&i| operands[i].is_some_and(|o| o.hi.is_some())).collect();
    how.blind |= !apart.is_empty() && !keeps_bounds(&node.op);
    // An element that was moved depends on one operand; else it may depend on all.
    let few = !node.op.moves_only() && apart.len() <= CHOICES;
    let choices: Vec<u32> = match apart.len() {
        0 => vec![0],
        n if few => (0..1 << n).collect(),
        _ => vec![0, u32::MAX],
    };
    let mut bounds: Option<Vec<[Array; 2]>> = None;
    for choice in choices {
        let side = |(i, o): (usize, &Option<&Known<'_>>)| {
            let bit = apart.iter().position(|&a| a == i).map_or(0, |bit| bit.min(31));
            o.map(|o| o.side(choice >> bit & 1 == 1).clone())
        };
        let values: Vec<Option<Array>> = operands.iter().enumerate().map(side).collect();
        let results = unrounded(graph, node, &values.iter().map(|v| v.as_ref()).collect::<Vec<_>>());
        bounds = Some(match bounds {
            None => results.into_iter().map(|r| [r.clone(), r]).collect(),
            Some(bounds) => bounds.into_iter().zip(&results).map(|([lo, hi], r)| hull(lo, hi, r)).collect(),
        });
    }
    let bounds = bounds.expect("there is at least one choice");
    node.outputs().zip(bounds).map(|(t, bounds)| known(graph, node, t, bounds, how)).collect()
}

/// An output of a node from the bounds of what it is before it is rounded.
fn known(graph: &Graph, node: &Node, t: TensorId, [lo, hi]: [Array; 2], how: How) -> Known<'static> {
    let tensor = &graph.tensors[t];
    let Some(quant) = rounds(graph, node).then_some(tensor.quant.as_ref()).flatten() else {
        let apart = lo.reals() != hi.reals();
        let computed = how.computed || !moves_as_it_is(graph, node);
        return Known { lo: Cow::Owned(lo), hi: apart.then_some(hi), how: How { computed, ..how } };
    };
    let tie = match tensor.dtype.size() {
        _ if how.halves && how.computed => HALF_TIE,
        1 if !how.rough => TIE,
        1 => LOOSE_TIE,
        _ => WIDE_TIE,
    };
    let (least, most) = tensor.dtype.quantized_range().expect("what is rounded has a quantised type");
    // `max` takes NaN to the lower bound, as quantisation does.
    let round = |v: &f64, by: f64| (v + by).max(least.into()).min(most.into()).round_ties_even() as i64;
    let steps = [lo, hi].map(|v| eval::quantize_unrounded(&v, quant));
    let lo: Vec<i64> = steps[0].reals().iter().map(|v| round(v, -tie)).collect();
    let hi: Vec<i64> = steps[1].reals().iter().map(|v| round(v, tie)).collect();
    // Two neighbours are all there is; of more the ends need not be where a function has its extremes.
    let wide = lo.iter().zip(&hi).any(|(lo, hi)| hi - lo > 1);
    let apart = lo != hi;
    let of = |v| Array::int(tensor.dtype, &tensor.shape, v);
    let how = How { blind: how.blind || wide, ..How::default() };
    Known { lo: Cow::Owned(of(lo)), hi: apart.then(|| of(hi)), how }
}

/// Whether a node rounds its result to the scale of its output.
pub(super) fn rounds(graph: &Graph, node: &Node) -> bool {
    let output = &graph.tensors[node.output];
    let alike = |t: &TensorId| {
        let t = &graph.tensors[*t];
        t.dtype == output.dtype && t.quant.is_some() && t.quant == output.quant
    };
    let kept = node.op.keeps_integers() && node.inputs[..node.data_inputs()].iter().flatten().all(alike);
    let looks_up = matches!(node.op, Op::Reinterpret | Op::Lut { .. } | Op::Loop(_));
    output.quant.is_some() && output.dtype.quantized_range().is_some() && !kept && !looks_up
}

/// The values of a node before its output is rounded: reals, where [`rounds`].
fn unrounded(graph: &mut Graph, node: &Node, inputs: &[Option<&Array>]) -> Vec<Array> {
    if !rounds(graph, node) {
        return eval::outputs(graph, node, inputs);
    }
    if matches!(node.op, Op::Quantize) {
        let x = inputs[0].expect("it has an input");
        let quant = node.inputs[0].and_then(|t| graph.tensors[t].quant.as_ref());
        return vec![quant.map_or_else(|| x.clone(), |q| eval::dequantize(x, q))];
    }
    let output = &mut graph.tensors[node.output];
    let kept: (Option<Quant>, DType) = (output.quant.take(), std::mem::replace(&mut output.dtype, DType::F32));
    let results = eval::outputs(graph, node, inputs);
    let output = &mut graph.tensors[node.output];
    (output.quant, output.dtype) = kept;
    results
}

/// Bounds that hold another value, too.
fn hull(lo: Array, hi: Array, value: &Array) -> [Array; 2] {
    if value.dtype == DType::F32 {
        // NaN in any of them is NaN in the bounds.
        let least = |a: f64, b: f64| if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) };
        let pick = |a: &Array, f: &dyn Fn(f64, f64) -> f64| {
            Array::f32(&a.shape, a.reals().iter().zip(value.reals().iter()).map(|(&a, &b)| f(a, b)).collect())
        };
        return [pick(&lo, &least), pick(&hi, &|a, b| -least(-a, -b))];
    }
    let pick = |a: &Array, f: fn(i64, i64) -> i64| {
        Array::int(a.dtype, &a.shape, a.ints().iter().zip(value.ints().iter()).map(|(&a, &b)| f(a, b)).collect())
    };
    [pick(&lo, i64::min), pick(&hi, i64::max)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{ReduceOp, Tensor};

    /// A chain of nodes over tensors of this shape, each with the quantisation of its result if that is i8.
    fn chain(shape: &[usize], ops: &[(Op, Option<Quant>)]) -> Graph {
        let mut g = Graph::default();
        let tensor = |quant: Option<Quant>, shape: &[usize]| {
            let dtype = if quant.is_some() { DType::I8 } else { DType::F32 };
            Tensor { name: String::new(), dtype, shape: shape.to_vec(), quant, value: None }
        };
        let mut x = g.add_tensor(tensor(None, shape));
        for (op, quant) in ops {
            let last = matches!(op, Op::Reduce { .. });
            let y = g.add_tensor(tensor(quant.clone(), if last { &shape[..1] } else { shape }));
            g.nodes.push(Node::new(op.clone(), vec![Some(x)], y, Vec::new()));
            x = y;
        }
        g
    }

    /// What is known of the end of a chain that starts with `x`.
    fn through(mut g: Graph, x: &Array) -> Known<'static> {
        let mut known = Known { lo: Cow::Owned(x.clone()), hi: None, how: How::default() };
        for node in g.nodes.clone() {
            known = evaluate(&mut g, &node, &[Some(&known)], false).remove(0);
        }
        known
    }

    fn reals(v: &[f64]) -> Array {
        Array::f32(&[v.len()], v.to_vec())
    }

    fn bytes(v: &[i64]) -> Array {
        Array::int(DType::I8, &[v.len()], v.to_vec())
    }

    const UNIT: fn() -> Option<Quant> = || Some(Quant::per_tensor(1.0, 0));
    const HELD: Outcome = Outcome::Held { undecided: 0 };

    fn is_wrong(known: &Known<'_>, got: &Array, element: usize) -> bool {
        matches!(known.compare(got), Outcome::Wrong { at, .. } if at == element)
    }

    #[test]
    fn only_next_to_a_tie_a_value_may_go_either_way() {
        let known = through(chain(&[3], &[(Op::Quantize, UNIT())]), &reals(&[2.499_95, 2.499, f64::NAN]));
        assert_eq!(known.compare(&bytes(&[2, 2, -128])), HELD);
        assert_eq!(known.compare(&bytes(&[3, 2, -128])), HELD);
        assert!(is_wrong(&known, &bytes(&[2, 3, -128]), 1));
        assert!(is_wrong(&known, &bytes(&[2, 2, 0]), 2));
    }

    #[test]
    fn both_sides_of_a_rounding_in_the_middle_go_on() {
        let coarse = Some(Quant::per_tensor(0.25, 0));
        let double = Op::Unary { op: UnaryOp::Affine, alpha: 2.0, beta: 0.0 };
        let ops = [(Op::Quantize, UNIT()), (Op::Dequantize, None), (double, None), (Op::Quantize, coarse)];
        let known = through(chain(&[2], &ops), &reals(&[2.5, 1.0]));
        for (got, fits) in [([16, 8], true), ([24, 8], true), ([15, 8], false), ([16, 9], false)] {
            assert_eq!(known.compare(&bytes(&got)) == HELD, fits, "{got:?}");
        }
    }

    #[test]
    fn where_two_sides_meet_in_a_sum_nobody_can_tell() {
        let sum = Op::Reduce { op: ReduceOp::Sum, axes: vec![1], keep: false };
        let ops = [(Op::Quantize, UNIT()), (Op::Dequantize, None), (sum, None)];
        let tied = through(chain(&[1, 2], &ops), &Array::f32(&[1, 2], vec![2.5, 0.5]));
        assert_eq!(tied.compare(&reals(&[2.0])), HELD);
        assert_eq!(tied.compare(&reals(&[9.0])), Outcome::Held { undecided: 1 });
        let plain = through(chain(&[1, 2], &ops), &Array::f32(&[1, 2], vec![2.6, 0.6]));
        assert!(plain.compare(&reals(&[4.0])) == HELD && is_wrong(&plain, &reals(&[4.1]), 0));
    }

    #[test]
    fn a_jump_stands_for_all_that_a_run_may_have_had_before_it() {
        let add = Op::Unary { op: UnaryOp::Affine, alpha: 1.0, beta: 1.0 };
        let floor = Op::unary(UnaryOp::Floor);
        let known = through(chain(&[2], &[(add, None), (floor.clone(), None)]), &reals(&[1.999_99, 1.5]));
        assert!(known.compare(&reals(&[3.0, 2.0])) == HELD && known.compare(&reals(&[2.0, 2.0])) == HELD);
        assert!(is_wrong(&known, &reals(&[3.0, 3.0]), 1));
        // Of a value that the run has shown there is only one floor.
        let known = through(chain(&[1], &[(floor, None)]), &reals(&[2.999_99]));
        assert!(is_wrong(&known, &reals(&[3.0]), 0));
    }

    #[test]
    fn floats_have_their_bound_and_moved_ones_none() {
        let known = through(chain(&[2], &[(Op::unary(UnaryOp::Neg), None)]), &reals(&[100.0, f64::NAN]));
        assert_eq!(known.compare(&reals(&[-100.009, f64::NAN])), HELD);
        assert!(is_wrong(&known, &reals(&[-100.02, f64::NAN]), 0) && is_wrong(&known, &reals(&[-100.0, 1.0]), 1));
        let known = through(chain(&[2], &[(Op::Transpose { perm: vec![0] }, None)]), &reals(&[100.0, 1.0]));
        assert!(is_wrong(&known, &reals(&[100.0, 1.000_001]), 1));
        // What is beyond f32 is infinite in a run.
        let known = through(chain(&[1], &[(Op::unary(UnaryOp::Neg), None)]), &reals(&[1e39]));
        assert!(known.compare(&reals(&[f64::NEG_INFINITY])) == HELD && is_wrong(&known, &reals(&[f64::INFINITY]), 0));
    }

    #[test]
    fn evaluating_leaves_the_graph_as_it_was() {
        let mut g = chain(&[1], &[(Op::unary(UnaryOp::Tanh), UNIT())]);
        let before = g.clone();
        let (x, node) = (reals(&[0.3]), g.nodes[0].clone());
        evaluate(&mut g, &node, &[Some(&Known::given(&x))], false);
        assert_eq!(g, before);
    }
}
