//! Operators that work by indices: updates that go to places, the largest elements and theirs.

use std::cmp::Ordering;

use super::Call;
use super::movement::Elements;
use super::walk::around;
use crate::array::{Numbers, strides};
use crate::graph::ScatterOp;

/// Where in x the first element of each update goes, and how many elements an update has. Negative indices count from the end;
/// `None` stands for an index out of range.
fn places(call: &Call<'_>, axis: Option<usize>) -> (Vec<Option<usize>>, usize) {
    let (x, index) = (&call.array(0).shape, call.array(2));
    let (by, ints) = (strides(x), index.ints());
    let along = |d: usize, i: i64| {
        let i = if i < 0 { i.checked_add(x[d] as i64)? } else { i };
        usize::try_from(i).ok().filter(|&i| i < x[d]).map(|i| i * by[d])
    };
    let Some(axis) = axis else {
        let depth = *index.shape.last().expect("tuples of indices");
        let place = |tuple: &[i64]| tuple.iter().enumerate().map(|(d, &i)| along(d, i)).sum();
        return (ints.chunks(depth).map(place).collect(), x[depth..].iter().product());
    };
    let own = strides(&index.shape);
    let place = |(k, &i): (usize, &i64)| {
        let position = |d: usize| k / own[d] % index.shape[d];
        let others: usize = (0..x.len()).filter(|&d| d != axis).map(|d| position(d) * by[d]).sum();
        Some(along(axis, i)? + others)
    };
    (ints.iter().enumerate().map(place).collect(), 1)
}

/// Calls `f` with the place of each element of the updates in x and its own, in their order.
fn each(call: &Call<'_>, axis: Option<usize>, mut f: impl FnMut(usize, usize)) {
    let (places, n) = places(call, axis);
    for (update, place) in places.into_iter().enumerate() {
        let Some(place) = place else { continue };
        (0..n).for_each(|k| f(place + k, update * n + k));
    }
}

/// x with some elements replaced by updates.
pub(super) fn replaced<'a>(call: &Call<'a>, axis: Option<usize>) -> Elements<'a> {
    let mut parts = call.moved(0..2).into_iter().map(|(_, elements)| elements);
    macro_rules! replaced {
        ($($sort:ident)*) => {
            match (parts.next().expect("x"), parts.next().expect("updates")) {
                $((Elements::$sort(x), Elements::$sort(updates)) => {
                    let mut y = x.into_owned();
                    each(call, axis, |to, from| y[to] = updates[from]);
                    Elements::$sort(y.into())
                })*
                _ => unreachable!("`moved` gives all in one sort"),
            }
        };
    }
    replaced!(One Two Four Eight Reals)
}

/// x with updates joined with some elements.
pub(super) fn scatter(call: &Call<'_>, op: ScatterOp, axis: Option<usize>) -> Numbers {
    if call.in_integers() {
        let (mut y, updates) = (call.array(0).ints().into_owned(), call.array(1).ints());
        each(call, axis, |to, from| {
            let (x, v) = (y[to], updates[from]);
            y[to] = match op {
                ScatterOp::Replace => v,
                ScatterOp::Add => x.wrapping_add(v),
                ScatterOp::Mul => x.wrapping_mul(v),
                ScatterOp::Min => x.min(v),
                ScatterOp::Max => x.max(v),
            };
        });
        return Numbers::I(y);
    }
    let (mut y, updates) = (call.real(0).v.into_owned(), call.real(1).v);
    each(call, axis, |to, from| {
        let (x, v) = (y[to], updates[from]);
        y[to] = match op {
            ScatterOp::Replace => v,
            ScatterOp::Add => x + v,
            ScatterOp::Mul => x * v,
            ScatterOp::Min | ScatterOp::Max if x.is_nan() || v.is_nan() => f64::NAN,
            ScatterOp::Min => x.min(v),
            ScatterOp::Max => x.max(v),
        };
    });
    Numbers::F(y)
}

/// The elements that come first, and their places along the axis; as many as `to` says.
pub(super) fn top_k(call: &Call<'_>, axis: usize, smallest: bool, to: &[usize]) -> [Numbers; 2] {
    let x = call.array(0);
    let (outer, n, inner) = around(&x.shape, axis);
    let k = to[axis];
    let mut from = vec![0; outer * k * inner];
    // `order`: that of two elements, the smaller first.
    let mut sort = |order: &dyn Fn(usize, usize) -> Ordering| {
        for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
            let mut all: Vec<usize> = (0..n).map(|j| (o * n + j) * inner + i).collect();
            // Equal elements stay as they are.
            all.sort_by(|&a, &b| if smallest { order(a, b) } else { order(b, a) });
            all.iter().take(k).enumerate().for_each(|(j, &at)| from[(o * k + j) * inner + i] = at);
        }
    };
    let taken = if call.is_integer(0) {
        let x = x.ints();
        sort(&|a, b| x[a].cmp(&x[b]));
        Numbers::I(from.iter().map(|&at| x[at]).collect())
    } else {
        let x = call.real(0).v;
        sort(&|a, b| x[a].partial_cmp(&x[b]).unwrap_or_else(|| x[a].is_nan().cmp(&x[b].is_nan())));
        Numbers::F(from.iter().map(|&at| x[at]).collect())
    };
    [taken, Numbers::I(from.iter().map(|at| (at / inner % n) as i64).collect())]
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::array::Array;
    use crate::graph::{Graph, Node, Op, Quant, Tensor};
    use kinglet::DType;

    fn op(op: ScatterOp, axis: Option<usize>) -> Op {
        Op::Scatter { op, axis }
    }

    #[test]
    fn scatters_elements() {
        let updates = f(&[2, 3], &[1.0, 1.1, 1.2, 2.0, 2.1, 2.2]);
        let index = int(DType::I64, &[2, 3], &[1, 0, 2, 0, 2, 1]);
        let zeros = f(&[3, 3], &[0.0; 9]);
        let y = reals(op(ScatterOp::Replace, Some(0)), &[zeros, updates, index], &[3, 3]);
        assert_eq!(y, [2.0, 1.1, 0.0, 1.0, 0.0, 2.2, 0.0, 2.1, 1.2]);
        // Of what meets one element the last stays; what is outside goes nowhere.
        let (updates, index) = (f(&[1, 4], &[9.0, 8.0, 7.0, 6.0]), int(DType::I32, &[1, 4], &[-4, 0, 4, -5]));
        let y = reals(op(ScatterOp::Replace, Some(1)), &[iota(&[2, 4]), updates, index], &[2, 4]);
        assert_eq!(y, [8.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    }

    #[test]
    fn scatters_slices() {
        let updates = f(&[2, 2], &[10.0, 20.0, 30.0, 40.0]);
        let index = int(DType::I64, &[2, 1], &[2, -2]);
        let x = [iota(&[3, 2]), updates, index];
        let y = |op_: ScatterOp| reals(op(op_, None), &x, &[3, 2]);
        assert_eq!(y(ScatterOp::Replace), [0.0, 1.0, 30.0, 40.0, 10.0, 20.0]);
        assert_eq!(y(ScatterOp::Add), [0.0, 1.0, 32.0, 43.0, 14.0, 25.0]);
        assert_eq!(y(ScatterOp::Mul), [0.0, 1.0, 60.0, 120.0, 40.0, 100.0]);
        assert_eq!(y(ScatterOp::Min), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(y(ScatterOp::Max), y(ScatterOp::Replace));
        let whole = [iota(&[2, 2]), f(&[2], &[f64::NAN, 5.0]), int(DType::I64, &[2, 2], &[0, 1, 0, 1])];
        assert!(reals(op(ScatterOp::Max, None), &whole, &[2, 2])[1].is_nan());
    }

    #[test]
    fn integers_wrap_and_quantised_elements_move() {
        let x = [int(DType::I8, &[2], &[100, -3]), int(DType::I8, &[2], &[100, 2]), int(DType::I64, &[2], &[0, 1])];
        assert_eq!(ints(op(ScatterOp::Add, Some(0)), &x, DType::I8, &[2]), [-56, -1]);
        let q = Quant::per_tensor(0.1, 3);
        let of = |v: &[i64]| quantized(DType::I8, &[v.len()], v, q.clone());
        let x = [of(&[1, 2, 3]), of(&[-7]), int(DType::I64, &[1], &[1])];
        let y = eval(op(ScatterOp::Replace, Some(0)), &x, &like(DType::I8, &[3], Some(q.clone())));
        assert_eq!(y.numbers(), Numbers::I(vec![1, -7, 3]));
    }

    fn top(x: Array, smallest: bool, shape: &[usize], axis: usize) -> (Vec<f64>, Vec<i64>) {
        let mut graph = Graph::default();
        let t = graph.add_constant("x", x.clone());
        let y = graph.add_tensor(like(x.dtype, shape, None));
        let i = graph.add_tensor(Tensor { name: "i".into(), ..like(DType::I64, shape, None) });
        let node = Node { more: vec![i], ..Node::new(Op::TopK { axis, smallest }, vec![Some(t)], y, vec![]) };
        let out = super::super::outputs(&graph, &node, &[Some(&x)]);
        (out[0].reals().into_owned(), out[1].ints().into_owned())
    }

    #[test]
    fn takes_the_largest_and_of_equals_the_first() {
        let x = Array::f32(&[5], vec![1.0, 3.0, f64::NAN, 3.0, 0.5]);
        let (y, i) = top(x.clone(), false, &[4], 0);
        assert!(y[0].is_nan() && y[1..] == [3.0, 3.0, 1.0] && i == [2, 1, 3, 0]);
        assert_eq!(top(x, true, &[4], 0), (vec![0.5, 1.0, 3.0, 3.0], vec![4, 0, 1, 3]));
        let x = Array::int(DType::I32, &[2, 2], vec![1, 9, 5, 2]);
        assert_eq!(top(x, false, &[1, 2], 0), (vec![5.0, 9.0], vec![1, 0]));
    }
}
