//! The Legendre memory in the body of a loop: `m ← A·m + B·u` with constant A and B, all of m being given.

use kinglet::kernels::MAX_ORDER;

use super::super::util::Links;
use super::axes::{Axes, Label, TIME, add_f32, bring, deliver, fresh, has};
use super::rounding::is_zero;
use super::source_of;
use super::walk::{Place, Scope, Seen, outside};
use crate::array::Array;
use crate::graph::{BinaryOp, Graph, Node, Op, TensorId};

/// The axis over which the product with A sums, until it is known to be that of the coefficients.
const SUMMED: Label = 1000;

/// A Legendre memory that a loop is.
pub struct Memory {
    u: Seen,
    a: Array,
    b: Seen,
    /// Axes of the carried value.
    carried: Axes,
    /// Axes of a slice of m.
    m: Axes,
    order: Label,
    batch: Option<Label>,
    channel: Option<Label>,
    /// Tensors whose roundings are left out.
    roundings: usize,
}

/// Finds the memory.
pub fn find(scope: &Scope<'_>) -> Option<Memory> {
    let (next, m) = scope.single()?;
    let m_axes = fresh(scope.shape(m), 0);
    let (sum, state) = scope.unrounded((m, m_axes.clone()));
    let (same, named) = scope.computed(next);
    let add = scope.producer(sum).filter(|n| same == sum && n.op == Op::Binary(BinaryOp::Add))?;
    let carried = scope.carried_axes(next, &named, &state);
    let [p, q] = scope.operands(sum, add, &state)?;
    [(&p, &q), (&q, &p)].into_iter().find_map(|(kept, added)| {
        let (a, order) = transition(scope, kept, &carried)?;
        let split = |axes: &Axes| has(axes, order) && has(axes, TIME);
        let [one, other] = <[Seen; 2]>::try_from(scope.factors(added.clone(), split)?).ok()?;
        let (b, u) = if has(&one.1, order) { (one, other) } else { (other, one) };
        let others: Vec<Label> = state.iter().flatten().copied().filter(|&l| l != order).collect();
        let known = u.1.iter().flatten().all(|&l| l == TIME || others.contains(&l));
        let constant = b.1.iter().flatten().eq([&order]) && scope.constant(b.0).is_some();
        let fits = constant && has(&u.1, TIME) && scope.is_available(u.0) && known && others.len() <= 2;
        fits.then(|| Memory {
            u,
            a,
            b,
            carried: carried.clone(),
            m: m_axes.clone(),
            order,
            batch: if others.len() == 2 { Some(others[0]) } else { None },
            channel: others.last().copied(),
            roundings: scope.left_out(),
        })
    })
}

/// `A·m`, as a product of m with a constant matrix: A, and the axis of the coefficients.
fn transition(scope: &Scope<'_>, seen: &Seen, carried: &Axes) -> Option<(Array, Label)> {
    let (place, axes) = scope.unrounded(seen.clone());
    let node = scope.producer(place)?;
    let ([before, _], _) = scope.product(place, &axes, SUMMED)?;
    let (m, matrix) = (scope.operand(place, node, 0)?, scope.operand(place, node, 1)?);
    let Op::MatMul { transpose_a: false, transpose_b, .. } = node.op else { return None };
    let value = scope.constant(matrix)?;
    let &[n, columns] = &value.shape[..] else { return None };
    let order = (*axes.last()?)?;
    let before = scope.is((m, before), Place::Body(scope.body.graph.inputs[0]))?;
    // The axis summed over must be that of the coefficients in the carried value.
    let renamed: Axes = before.iter().map(|&l| if l == Some(SUMMED) { Some(order) } else { l }).collect();
    if n != columns || n > MAX_ORDER || renamed != *carried {
        return None;
    }
    let v = value.reals();
    let a = (0..n * n).map(|k| if transpose_b { v[k] } else { v[k % n * n + k / n] });
    Some((Array::f32(&[n, n], a.collect()), order))
}

impl Memory {
    /// Writes the operator in place of the loop.
    pub fn write(self, graph: &mut Graph, links: &Links, node: &Node) {
        let Op::Loop(body) = &node.op else { unreachable!("the memory was found in a loop") };
        let outputs: Vec<TensorId> = node.outputs().collect();
        let extent = |label: Option<Label>| {
            let at = self.carried.iter().position(|&l| label.is_some() && l == label);
            at.map_or(1, |at| body.graph.tensors[body.graph.inputs[0]].shape[at])
        };
        let axis = |label: Option<Label>| (label, extent(label));
        let (batch, channel, order) = (axis(self.batch), axis(self.channel), axis(Some(self.order)));
        let time = (Some(TIME), body.trips);
        let mut operand = |seen: &Seen, axes: &[(Option<Label>, usize)]| {
            let t = outside(graph, body, seen.0).expect("a search ends outside the body or at a constant");
            Some(bring(graph, t, &seen.1, axes))
        };
        let (u, b) = (operand(&self.u, &[batch, time, channel]), operand(&self.b, &[order]));
        let a = graph.add_constant(format!("{}:A", graph.tensors[outputs[1]].name), self.a);
        let mut inputs = vec![u, Some(a), b];
        let first = node.inputs[0].expect("a loop's inputs are all there");
        if !is_zero(graph, links, first) {
            inputs.push(Some(bring(graph, first, &self.carried, &[batch, channel, order])));
        }
        let name = format!("{}:memory", graph.tensors[outputs[1]].name);
        let m = add_f32(graph, name, &[batch.1, body.trips, channel.1, order.1]);
        let roundings = node.roundings + self.roundings;
        graph.nodes.push(Node { roundings, ..Node::new(Op::LegendreMemory, inputs, m, source_of(node)) });
        let solid = |list: &[(Option<Label>, usize)]| list.iter().map(|&(l, n)| l.filter(|_| n != 1)).collect::<Axes>();
        let slices: Axes = [Some(TIME)].into_iter().chain(self.m.iter().copied()).collect();
        deliver(graph, m, &solid(&[batch, time, channel, order]), outputs[1], &slices);
        // The last value of what is carried is the last frame's.
        let last = graph.add_like(m, &[batch.1, 1, channel.1, order.1], ":last");
        let op = Op::Slice { starts: vec![0, body.trips - 1, 0, 0], steps: vec![1; 4] };
        graph.nodes.push(Node::new(op, vec![Some(m)], last, node.source.clone()));
        deliver(graph, last, &solid(&[batch, (None, 1), channel, order]), outputs[0], &self.carried);
    }
}
