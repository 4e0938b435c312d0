//! Reductions, normalisations and running sums.

use super::Call;
use super::walk::{around, broadcast, signed, walk};
use crate::array::{Numbers, strides};
use crate::graph::{NormKind, ReduceOp};

/// Strides that take each element of `shape` to the slice it belongs to, and the number of slices: elements that
/// differ only along `axes` share one.
fn slices(shape: &[usize], axes: &[usize]) -> (Vec<isize>, usize) {
    let kept: Vec<usize> = (0..shape.len()).map(|d| if axes.contains(&d) { 1 } else { shape[d] }).collect();
    let mut s = signed(&strides(&kept));
    axes.iter().for_each(|&d| s[d] = 0);
    (s, kept.iter().product())
}

pub(super) fn reduce(call: &Call<'_>, op: ReduceOp, axes: &[usize]) -> Numbers {
    let shape = &call.array(0).shape;
    let (to, count) = slices(shape, axes);
    let n: usize = axes.iter().map(|&d| shape[d]).product();
    let mut i = 0;
    if call.in_integers() {
        let x = call.array(0).ints();
        let (lowest, highest) = match call.array(0).dtype {
            kinglet::DType::Bool => (0, 1),
            kinglet::DType::I32 => (i32::MIN.into(), i32::MAX.into()),
            other => other.quantized_range().map_or((i64::MIN, i64::MAX), |(lo, hi)| (lo.into(), hi.into())),
        };
        let start = match op {
            ReduceOp::Max => lowest,
            ReduceOp::Min => highest,
            ReduceOp::Prod => 1,
            _ => 0,
        };
        let mut y = vec![start; count];
        walk(shape, [&to], [0], |[at]| {
            let (y, x) = (&mut y[at], x[i]);
            *y = match op {
                ReduceOp::Sum | ReduceOp::Mean => y.wrapping_add(x),
                ReduceOp::Max => x.max(*y),
                ReduceOp::Min => x.min(*y),
                ReduceOp::Prod => y.wrapping_mul(x),
                ReduceOp::SumSquare | ReduceOp::L2 => y.wrapping_add(x.wrapping_mul(x)),
                ReduceOp::L1 => y.wrapping_add(x.wrapping_abs()),
            };
            i += 1;
        });
        for y in &mut y {
            match op {
                ReduceOp::Mean => *y = y.checked_div(n as i64).unwrap_or(0),
                ReduceOp::L2 => *y = (*y as f64).sqrt() as i64,
                _ => {}
            }
        }
        return Numbers::I(y);
    }
    let x = call.real(0).v;
    let start = match op {
        ReduceOp::Max => f64::NEG_INFINITY,
        ReduceOp::Min => f64::INFINITY,
        ReduceOp::Prod => 1.0,
        _ => 0.0,
    };
    let mut y = vec![start; count];
    walk(shape, [&to], [0], |[at]| {
        let (y, x) = (&mut y[at], x[i]);
        *y = match op {
            ReduceOp::Sum | ReduceOp::Mean => *y + x,
            // NaN stays, and comparing with it is false.
            ReduceOp::Max => {
                if x > *y || x.is_nan() {
                    x
                } else {
                    *y
                }
            }
            ReduceOp::Min => {
                if x < *y || x.is_nan() {
                    x
                } else {
                    *y
                }
            }
            ReduceOp::Prod => *y * x,
            ReduceOp::SumSquare | ReduceOp::L2 => *y + x * x,
            ReduceOp::L1 => *y + x.abs(),
        };
        i += 1;
    });
    for y in &mut y {
        match op {
            ReduceOp::Mean => *y /= n as f64,
            ReduceOp::L2 => *y = y.sqrt(),
            _ => {}
        }
    }
    Numbers::F(y)
}

pub(super) fn norm(call: &Call<'_>, kind: NormKind, axes: &[usize], epsilon: f64) -> Numbers {
    let x = call.real(0);
    let (to, count) = slices(x.shape, axes);
    let n = axes.iter().map(|&d| x.shape[d]).product::<usize>() as f64;
    let mean_of = |f: &dyn Fn(usize, f64) -> f64| {
        let (mut sums, mut i) = (vec![0.0; count], 0);
        walk(x.shape, [&to], [0], |[at]| {
            sums[at] += f(at, x.v[i]);
            i += 1;
        });
        sums.iter_mut().for_each(|s| *s /= n);
        sums
    };
    // The mean of the differences from the first element: equal elements have exactly their own value as mean.
    let mean = match kind {
        NormKind::Layer => {
            let (mut first, mut i) = (vec![None; count], 0);
            walk(x.shape, [&to], [0], |[at]| {
                first[at].get_or_insert(x.v[i]);
                i += 1;
            });
            let first: Vec<f64> = first.into_iter().map(|v| v.unwrap_or(0.0)).collect();
            let rest = mean_of(&|at, x| x - first[at]);
            first.iter().zip(&rest).map(|(f, r)| f + r).collect()
        }
        NormKind::Rms => vec![0.0; count],
    };
    let variance = mean_of(&|at, x| (x - mean[at]) * (x - mean[at]));

    let scale = call.get_real(1);
    let bias = call.get_real(2);
    let repeat = vec![0; x.shape.len()];
    let over = |r: &Option<super::Real<'_>>| r.as_ref().map_or(repeat.clone(), |r| broadcast(r.shape, x.shape));
    let mut y = Vec::with_capacity(x.v.len());
    walk(x.shape, [&to, &over(&scale), &over(&bias)], [0; 3], |[at, s, b]| {
        let v = (x.v[y.len()] - mean[at]) / (variance[at] + epsilon).sqrt();
        y.push(v * scale.as_ref().map_or(1.0, |r| r.v[s]) + bias.as_ref().map_or(0.0, |r| r.v[b]));
    });
    Numbers::F(y)
}

pub(super) fn softmax(call: &Call<'_>, axis: usize, log: bool) -> Numbers {
    let x = call.real(0);
    let (outer, n, inner) = around(x.shape, axis);
    let mut y = vec![0.0; x.v.len()];
    for start in (0..outer).flat_map(|o| (0..inner).map(move |i| o * n * inner + i)) {
        let at = |i: usize| start + i * inner;
        let largest = (0..n).map(|i| x.v[at(i)]).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = (0..n).map(|i| (x.v[at(i)] - largest).exp()).sum();
        let log_sum = sum.ln();
        for i in 0..n {
            let v = x.v[at(i)] - largest;
            y[at(i)] = if log { v - log_sum } else { v.exp() / sum };
        }
    }
    Numbers::F(y)
}

pub(super) fn arg_max(call: &Call<'_>, axis: usize, smallest: bool, last: bool) -> Numbers {
    let x = call.array(0);
    let (outer, n, inner) = around(&x.shape, axis);
    assert!(n > 0, "the largest of no elements");
    // `beats(i, j)`: whether element i is to be taken rather than the earlier j.
    let search = |beats: &dyn Fn(usize, usize) -> bool| {
        let mut y = Vec::with_capacity(outer * inner);
        for start in (0..outer).flat_map(|o| (0..inner).map(move |i| o * n * inner + i)) {
            let at = |i: usize| start + i * inner;
            y.push((1..n).fold(0, |best, i| if beats(at(i), at(best)) { i } else { best }) as i64);
        }
        Numbers::I(y)
    };
    if call.is_integer(0) {
        let x = x.ints();
        search(&|i, j| (if smallest { x[i] < x[j] } else { x[i] > x[j] }) || (last && x[i] == x[j]))
    } else {
        let x = call.real(0).v;
        search(&|i, j| (if smallest { x[i] < x[j] } else { x[i] > x[j] }) || (last && x[i] == x[j]))
    }
}

pub(super) fn cum_sum(call: &Call<'_>, axis: usize, exclusive: bool, reverse: bool) -> Numbers {
    let (outer, n, inner) = around(&call.array(0).shape, axis);
    // Calls `f` for each element, with whether it is the first of its sum.
    let each = |f: &mut dyn FnMut(usize, bool)| {
        for start in (0..outer).flat_map(|o| (0..inner).map(move |i| o * n * inner + i)) {
            for i in 0..n {
                let at = if reverse { n - 1 - i } else { i };
                f(start + at * inner, i == 0);
            }
        }
    };
    if call.in_integers() {
        let x = call.array(0).ints();
        let (mut y, mut sum) = (vec![0; x.len()], 0i64);
        each(&mut |at, first| {
            let before = if first { 0 } else { sum };
            sum = before.wrapping_add(x[at]);
            y[at] = if exclusive { before } else { sum };
        });
        return Numbers::I(y);
    }
    let x = call.real(0).v;
    let (mut y, mut sum) = (vec![0.0; x.len()], 0.0);
    each(&mut |at, first| {
        let before = if first { 0.0 } else { sum };
        sum = before + x[at];
        y[at] = if exclusive { before } else { sum };
    });
    Numbers::F(y)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::graph::{Op, Quant};
    use kinglet::DType;

    fn op(op: ReduceOp, axes: &[usize]) -> Op {
        Op::Reduce { op, axes: axes.to_vec(), keep: true }
    }

    #[test]
    fn every_reduction() {
        use ReduceOp::*;
        let x = f(&[2, 3], &[3.0, -4.0, 0.0, 1.0, 2.0, -2.0]);
        let ix = int(DType::I64, &[2, 3], &[3, -4, 0, 1, 2, -2]);
        let cases = [
            (Sum, [-1.0, 1.0]),
            (Mean, [-1.0 / 3.0, 1.0 / 3.0]),
            (Max, [3.0, 2.0]),
            (Min, [-4.0, -2.0]),
            (SumSquare, [25.0, 9.0]),
            (L2, [5.0, 3.0]),
            (Prod, [0.0, -4.0]),
            (L1, [7.0, 5.0]),
        ];
        for (r, want) in cases {
            assert_close(&reals(op(r, &[1]), from_ref(&x), &[2, 1]), &want);
            assert_eq!(ints(op(r, &[1]), from_ref(&ix), DType::I64, &[2, 1]), want.map(|v| v as i64), "{r:?}");
        }
        let ix = int(DType::I32, &[3], &[-3, -4, 0]);
        assert_eq!(ints(op(Mean, &[0]), &[ix], DType::I32, &[1]), [-2]);
    }

    #[test]
    fn axes_apart_and_all() {
        // Sums over the first and last axis of 0 … 11 in [2, 3, 2].
        assert_eq!(reals(op(ReduceOp::Sum, &[0, 2]), &[iota(&[2, 3, 2])], &[3]), [14.0, 22.0, 30.0]);
        assert_eq!(reals(op(ReduceOp::Max, &[1]), &[iota(&[2, 3, 2])], &[2, 2]), [4.0, 5.0, 10.0, 11.0]);
        assert_eq!(reals(op(ReduceOp::Sum, &[0, 1, 2]), &[iota(&[2, 3, 2])], &[]), [66.0]);
        assert_eq!(reals(op(ReduceOp::L1, &[]), &[f(&[2], &[-1.0, 2.0])], &[2]), [1.0, 2.0]);
        assert_eq!(reals(op(ReduceOp::Sum, &[0]), &[f(&[0, 2], &[])], &[2]), [0.0, 0.0]);
        assert!(reals(op(ReduceOp::Max, &[0]), &[f(&[3], &[1.0, f64::NAN, 2.0])], &[])[0].is_nan());
    }

    #[test]
    fn quantised_mean() {
        let x = quantized(DType::I8, &[4], &[1, 2, 3, 4], Quant::per_tensor(2.0, 1)); // 0 2 4 6
        let y = eval(op(ReduceOp::Mean, &[0]), &[x], &like(DType::I8, &[1], Some(Quant::per_tensor(0.5, -6))));
        assert_eq!(y.numbers(), Numbers::I(vec![0]));
    }

    #[test]
    fn norms() {
        let layer = Op::Norm { kind: NormKind::Layer, axes: vec![1], epsilon: 0.25 };
        // 1 4: mean 2.5, variance 2.25, √2.5; 0 0: variance 0.
        let x = f(&[2, 2], &[1.0, 4.0, 0.0, 0.0]);
        let d = 1.5 / 2.5f64.sqrt();
        let y = reals(layer.clone(), &[x.clone(), f(&[2], &[1.0, 2.0]), f(&[2], &[0.0, 10.0])], &[2, 2]);
        assert_close(&y, &[-d, 2.0 * d + 10.0, 0.0, 10.0]);
        assert_close(&reals(layer, &[x, None, f(&[2, 1], &[1.0, 2.0])], &[2, 2]), &[1.0 - d, d + 1.0, 2.0, 2.0]);
        let rms = Op::Norm { kind: NormKind::Rms, axes: vec![0, 1], epsilon: 0.0 };
        let y = reals(rms, &[f(&[1, 2, 2], &[1.0, 1.0, 7.0, 7.0]), f(&[2], &[5.0, 10.0])], &[1, 2, 2]);
        let r = |a: f64| ((a * a + 49.0) / 2.0).sqrt();
        assert_close(&y, &[5.0 / r(1.0), 10.0 / r(1.0), 35.0 / r(1.0), 70.0 / r(1.0)]);
    }

    #[test]
    fn equal_elements_have_no_variance() {
        // 0.1 is no f64: the rounded sum of many is not a multiple of it.
        let n = 999;
        let layer = Op::Norm { kind: NormKind::Layer, axes: vec![0], epsilon: 1e-30 };
        let y = reals(layer, &[f(&[n], &vec![0.1; n]), None, f(&[n], &vec![3.0; n])], &[n]);
        assert_eq!(y, vec![3.0; n]);
    }

    #[test]
    fn softmax_along_any_axis() {
        let ln = |x: f64| x.ln();
        let x = f(&[2, 2], &[0.0, ln(3.0), ln(3.0), 800.0]);
        assert_close(&reals(Op::Softmax { axis: 0, log: false }, from_ref(&x), &[2, 2]), &[0.25, 0.0, 0.75, 1.0]);
        assert_close(&reals(Op::Softmax { axis: 1, log: false }, from_ref(&x), &[2, 2]), &[0.25, 0.75, 0.0, 1.0]);
        let y = reals(Op::Softmax { axis: 1, log: true }, &[x], &[2, 2]);
        assert_close(&y, &[ln(0.25), ln(0.75), ln(3.0) - 800.0, 0.0]);
    }

    #[test]
    fn arg_max_and_ties() {
        let x = f(&[2, 3], &[1.0, 3.0, 3.0, 2.0, 0.0, 0.0]);
        let of = |axis, smallest, last, shape: &[usize]| {
            let op = Op::ArgMax { axis, keep: false, smallest, last };
            ints(op, from_ref(&x), DType::I64, shape)
        };
        assert_eq!(of(1, false, false, &[2]), [1, 0]);
        assert_eq!(of(1, false, true, &[2]), [2, 0]);
        assert_eq!(of(1, true, false, &[2]), [0, 1]);
        assert_eq!(of(1, true, true, &[2]), [0, 2]);
        assert_eq!(of(0, false, false, &[3]), [1, 0, 0]);
        // Neighbours that are the same f64.
        let x = int(DType::I64, &[2], &[i64::MAX - 1, i64::MAX]);
        assert_eq!(ints(Op::ArgMax { axis: 0, keep: true, smallest: false, last: false }, &[x], DType::I64, &[1]), [1]);
    }

    #[test]
    fn running_sums() {
        let of = |axis, exclusive, reverse| {
            let op = Op::CumSum { axis, exclusive, reverse };
            let x = f(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
            let ix = int(DType::I32, &[2, 3], &[1, 2, 3, 4, 5, 6]);
            let y = reals(op.clone(), &[x], &[2, 3]);
            assert_eq!(ints(op, &[ix], DType::I32, &[2, 3]), y.iter().map(|&v| v as i64).collect::<Vec<_>>());
            y
        };
        assert_eq!(of(1, false, false), [1.0, 3.0, 6.0, 4.0, 9.0, 15.0]);
        assert_eq!(of(1, true, false), [0.0, 1.0, 3.0, 0.0, 4.0, 9.0]);
        assert_eq!(of(1, false, true), [6.0, 5.0, 3.0, 15.0, 11.0, 6.0]);
        assert_eq!(of(1, true, true), [5.0, 3.0, 0.0, 11.0, 6.0, 0.0]);
        assert_eq!(of(0, false, false), [1.0, 2.0, 3.0, 5.0, 7.0, 9.0]);
        assert_eq!(of(0, true, true), [4.0, 5.0, 6.0, 0.0, 0.0, 0.0]);
    }
}
