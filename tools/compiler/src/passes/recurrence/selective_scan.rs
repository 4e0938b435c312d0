//! The selective scan in the body of a loop: `h ← exp(Δ·A)·h + Δ·B·x`, `y = Σ h·C`, its factors in any order and, where they
//! do not depend on h, computed in the body or before the loop, and roundings of any of them left out.

use kinglet::kernels::MAX_STATE;

use super::super::util::Links;
use super::axes::{Axes, Label, TIME, add_f32, bring, deliver, fresh, has};
use super::rounding::is_zero;
use super::source_of;
use super::walk::{Place, Scope, Seen, outside};
use crate::graph::{BinaryOp, Graph, Node, Op, ReduceOp, TensorId, UnaryOp};

/// Names of axes: those of y get numbers from 0, the state's axis this one.
const STATE: Label = 1000;

/// A selective scan that a loop is.
pub struct Scan {
    x: Seen,
    delta: Seen,
    a: Seen,
    b: Seen,
    c: Seen,
    /// Axes of the carried value.
    carried: Axes,
    /// Axes of a slice of y.
    y: Axes,
    channel: Label,
    batch: Option<Label>,
    /// Tensors whose roundings are left out.
    roundings: usize,
}

/// Finds the scan.
pub fn find(scope: &Scope<'_>) -> Option<Scan> {
    let (next, y) = scope.single()?;
    // The next state is a sum; the readout shows what its axes are.
    let (sum, named) = scope.computed(next);
    let add = scope.producer(sum).filter(|n| n.op == Op::Binary(BinaryOp::Add))?;
    let y_axes = fresh(scope.shape(y), 0);
    let (state, c) = readout(scope, scope.unrounded((y, y_axes.clone())), sum)?;
    let carried = scope.carried_axes(next, &named, &state);
    let states = carried.iter().zip(&scope.body.graph.tensors[scope.body.graph.inputs[0]].shape);
    if states.filter(|(l, _)| **l == Some(STATE)).any(|(_, &n)| n > MAX_STATE) {
        return None;
    }
    let [p, q] = scope.operands(sum, add, &state)?;
    [(&p, &q), (&q, &p)].into_iter().find_map(|(decayed, added)| {
        let (a, delta) = decay(scope, decayed, &carried)?;
        let channel = a.1.iter().flatten().copied().find(|&l| l != STATE)?;
        let split = |axes: &Axes| has(axes, STATE) && has(axes, channel);
        let mut factors = scope.factors(added.clone(), split)?;
        factors.remove(factors.iter().position(|f| *f == delta)?);
        let of_state = factors.iter().position(|f| has(&f.1, STATE))?;
        let b = factors.remove(of_state);
        let [x] = <[Seen; 1]>::try_from(factors).ok()?;
        let batch: Vec<Label> = state.iter().flatten().copied().filter(|&l| l != STATE && l != channel).collect();
        let in_time = scope.body.trips == 1 || [&x, &delta, &b, &c].into_iter().all(|f| has(&f.1, TIME));
        let apart = !has(&x.1, STATE) && !has(&b.1, channel) && !has(&c.1, channel);
        let known = |f: &Seen| f.1.iter().flatten().all(|&l| l == TIME || has(&state, l));
        let operands = [&x, &delta, &a, &b, &c];
        let there = operands.into_iter().all(|f| known(f) && scope.is_available(f.0));
        let fits = batch.len() <= 1 && in_time && apart && there && scope.is_real(a.0);
        fits.then(|| Scan {
            x,
            delta,
            a,
            b,
            c: c.clone(),
            carried: carried.clone(),
            y: y_axes.clone(),
            channel,
            batch: batch.first().copied(),
            roundings: scope.left_out(),
        })
    })
}

/// `Σ h·C` as a sum of products or a matrix product: the axes of h, and C.
fn readout(scope: &Scope<'_>, (place, axes): Seen, h: Place) -> Option<(Axes, Seen)> {
    let node = scope.producer(place)?;
    let pair = match &node.op {
        Op::Reduce { op: ReduceOp::Sum, axes: summed, keep } => {
            let &[axis] = &summed[..] else { return None };
            let mut wide = axes.clone();
            if *keep {
                wide[axis] = Some(STATE);
            } else {
                wide.insert(axis, Some(STATE));
            }
            let (product, wide) = scope.unrounded((scope.operand(place, node, 0)?, wide));
            scope.multiplied(product, &wide)?
        }
        Op::MatMul { .. } => {
            let (a, b) = (scope.operand(place, node, 0)?, scope.operand(place, node, 1)?);
            let ([aa, ab], _) = scope.product(place, &axes, STATE)?;
            [(a, aa), (b, ab)]
        }
        _ => return None,
    };
    let [a, b] = pair;
    match [a.clone(), b.clone()].map(|seen| scope.is(seen, h)) {
        [Some(state), None] => Some((state, scope.strip(b))),
        [None, Some(state)] => Some((state, scope.strip(a))),
        _ => None,
    }
    .filter(|(state, _)| has(state, STATE))
}

/// `exp(Δ·A)·h`: A and Δ.
fn decay(scope: &Scope<'_>, seen: &Seen, carried: &Axes) -> Option<(Seen, Seen)> {
    let (place, axes) = scope.unrounded(seen.clone());
    let [a, b] = scope.multiplied(place, &axes)?;
    let h = Place::Body(scope.body.graph.inputs[0]);
    let is_h = |s: &Seen| scope.is(s.clone(), h).as_ref() == Some(carried);
    let factor = scope.unrounded(if is_h(&a) { b } else { Some(a).filter(|_| is_h(&b))? });
    let exp = scope.producer(factor.0).filter(|n| n.op == Op::unary(UnaryOp::Exp))?;
    let exponent = (scope.operand(factor.0, exp, 0)?, factor.1);
    let factors = scope
        .factors(exponent, |axes| axes.iter().flatten().filter(|&&l| l != TIME).count() > 1 && has(axes, STATE))?;
    let [one, other] = <[Seen; 2]>::try_from(factors).ok()?;
    let (a, delta) = if has(&one.1, STATE) { (one, other) } else { (other, one) };
    let in_time = scope.body.trips == 1 || has(&delta.1, TIME);
    let solid = |s: &Seen| s.1.iter().flatten().count();
    (solid(&a) == 2 && has(&a.1, STATE) && !has(&a.1, TIME) && in_time && !has(&delta.1, STATE)).then_some((a, delta))
}

impl Scan {
    /// Writes the operator in place of the loop.
    pub fn write(self, graph: &mut Graph, links: &Links, node: &Node) {
        let Op::Loop(body) = &node.op else { unreachable!("the scan was found in a loop") };
        let starts_empty = node.inputs[0].is_some_and(|h| is_zero(graph, links, h));
        let outputs: Vec<TensorId> = node.outputs().collect();
        let extent = |label: Label| {
            let at = self.carried.iter().position(|&l| l == Some(label)).expect("the carried value has all axes");
            body.graph.tensors[body.graph.inputs[0]].shape[at]
        };
        let batch = (self.batch, self.batch.map_or(1, extent));
        let (inner, state) = (extent(self.channel), extent(STATE));
        let (time, channels) = ((Some(TIME), body.trips), (Some(self.channel), inner));
        let states = (Some(STATE), state);
        let mut operand = |seen: &Seen, order: &[(Option<Label>, usize)]| {
            let t = outside(graph, body, seen.0).expect("a search ends outside the body or at a constant");
            Some(bring(graph, t, &seen.1, order))
        };
        let mut inputs = vec![
            operand(&self.x, &[batch, time, channels]),
            operand(&self.delta, &[batch, time, channels]),
            operand(&self.a, &[channels, states]),
            operand(&self.b, &[batch, time, states]),
            operand(&self.c, &[batch, time, states]),
        ];
        let first = node.inputs[0].expect("a loop's inputs are all there");
        if !starts_empty {
            let h = bring(graph, first, &self.carried, &[batch, channels, states]);
            inputs.extend([None, None, Some(h)]);
        }
        let y_name = format!("{}:scanned", graph.tensors[outputs[1]].name);
        let h_name = format!("{}:scanned", graph.tensors[outputs[0]].name);
        let y = add_f32(graph, y_name, &[batch.1, body.trips, inner]);
        let h = add_f32(graph, h_name, &[batch.1, inner, state]);
        let op = Op::SelectiveScan { softplus: false };
        let roundings = node.roundings + self.roundings;
        graph.nodes.push(Node { more: vec![h], roundings, ..Node::new(op, inputs, y, source_of(node)) });
        let slices: Axes = [Some(TIME)].into_iter().chain(self.y.iter().copied()).collect();
        let solid = |list: &[(Option<Label>, usize)]| list.iter().map(|&(l, n)| l.filter(|_| n != 1)).collect::<Axes>();
        deliver(graph, y, &solid(&[batch, time, channels]), outputs[1], &slices);
        deliver(graph, h, &solid(&[batch, channels, states]), outputs[0], &self.carried);
    }
}
