//! Matrix product.

use super::Call;
use super::walk::{broadcast, strides, view, walk};

/// The sums of a product over the last two axes, leading ones broadcast, bias included.
pub(super) fn matmul(call: &Call<'_>, transpose_a: bool, transpose_b: bool) -> Vec<f64> {
    let of = |input: usize, transpose: bool| {
        let x = call.real(input);
        Matrices::new(x.shape, &x.v, transpose)
    };
    let (a, b) = (of(0, transpose_a), of(1, transpose_b));
    let shape = &call.output().shape;
    let start = match call.get_real(2) {
        Some(bias) => {
            assert_eq!(bias.v.len(), b.columns, "a bias for each column");
            bias.v.repeat(shape[..shape.len() - 1].iter().product())
        }
        None => vec![0.0; call.output().len()],
    };
    sums(&a, &b, shape, start, |y, a, b| y + a * b)
}

/// The sums of a product of integers that stand for themselves, without a bias: they wrap.
pub(super) fn of_integers(call: &Call<'_>, transpose_a: bool, transpose_b: bool) -> Vec<i64> {
    let of = |input: usize, transpose: bool| {
        let x = call.array(input);
        Matrices::new(&x.shape, &x.ints(), transpose)
    };
    let (a, b) = (of(0, transpose_a), of(1, transpose_b));
    let start = vec![0; call.output().len()];
    sums(&a, &b, &call.output().shape, start, |y, a, b: i64| i64::wrapping_add(y, i64::wrapping_mul(a, b)))
}

/// Adds the products of two operands to `y`, of this shape.
fn sums<T: Copy>(
    a: &Matrices<T>,
    b: &Matrices<T>,
    shape: &[usize],
    mut y: Vec<T>,
    add: impl Fn(T, T, T) -> T,
) -> Vec<T> {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert_eq!(k, b.rows, "columns of a and rows of b");
    let (lead, last) = shape.split_at(shape.len() - 2);
    assert_eq!(last, [m, n], "rows and columns of the product");
    let mut y_rows = y.chunks_exact_mut(n.max(1));
    walk(lead, [&broadcast(&a.lead, lead), &broadcast(&b.lead, lead)], [0, 0], |[ia, ib]| {
        let b = &b.v[ib * k * n..][..k * n];
        for row in 0..m {
            // No rows are left only if they are empty.
            let Some(y) = y_rows.next() else { return };
            for (i, &a) in a.v[(ia * m + row) * k..][..k].iter().enumerate() {
                for (y, &b) in y.iter_mut().zip(&b[i * n..]) {
                    *y = add(*y, a, b);
                }
            }
        }
    });
    y
}

/// An operand in the order that the product reads.
struct Matrices<T> {
    lead: Vec<usize>,
    rows: usize,
    columns: usize,
    v: Vec<T>,
}

impl<T: Copy> Matrices<T> {
    fn new(own: &[usize], v: &[T], transpose: bool) -> Self {
        let rank = own.len();
        assert!(rank >= 2, "a matrix has two axes");
        let (mut shape, mut s) = (own.to_vec(), strides(own));
        if transpose {
            shape.swap(rank - 2, rank - 1);
            s.swap(rank - 2, rank - 1);
        }
        let v = if transpose { view(v, &shape, &s, 0) } else { v.to_vec() };
        Matrices { lead: shape[..rank - 2].to_vec(), rows: shape[rank - 2], columns: shape[rank - 1], v }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::array::Numbers;
    use crate::graph::{Op, Post, Quant};
    use kinglet::DType;

    fn op(transpose_a: bool, transpose_b: bool) -> Op {
        Op::MatMul { transpose_a, transpose_b, post: Post::default() }
    }

    #[test]
    fn every_transposition() {
        // a = 0 1 2 / 3 4 5, b = 1 2 / 3 4 / 5 6.
        let want = [13.0, 16.0, 40.0, 52.0];
        let (a, at) = (iota(&[2, 3]), f(&[3, 2], &[0., 3., 1., 4., 2., 5.]));
        let (b, bt) = (f(&[3, 2], &[1., 2., 3., 4., 5., 6.]), f(&[2, 3], &[1., 3., 5., 2., 4., 6.]));
        assert_eq!(reals(op(false, false), &[a.clone(), b.clone()], &[2, 2]), want);
        assert_eq!(reals(op(true, false), &[at.clone(), b], &[2, 2]), want);
        assert_eq!(reals(op(false, true), &[a, bt.clone()], &[2, 2]), want);
        assert_eq!(reals(op(true, true), &[at, bt], &[2, 2]), want);
    }

    #[test]
    fn integers_are_exact_and_wrap() {
        // 2⁵³ + 1, which no f64 is, and a sum beyond 64 bits.
        let (a, b) = (int(DType::I64, &[1, 2], &[1 << 53, 1]), int(DType::I64, &[2, 1], &[1, 1]));
        assert_eq!(ints(op(false, false), &[a, b], DType::I64, &[1, 1]), [(1 << 53) + 1]);
        let (a, b) = (int(DType::I64, &[1, 2], &[i64::MAX, 1]), int(DType::I64, &[1, 2], &[1, 2]));
        assert_eq!(ints(op(false, true), &[a, b], DType::I64, &[1, 1]), [i64::MIN + 1]);
    }

    #[test]
    fn leading_axes_broadcast_and_columns_have_a_bias() {
        // a [2,1,1,2] = 0 1 | 2 3; b [3,2,1] = 0 1 | 2 3 | 4 5.
        let y = reals(op(false, false), &[iota(&[2, 1, 1, 2]), iota(&[3, 2, 1]), f(&[1], &[0.5])], &[2, 3, 1, 1]);
        assert_eq!(y, [1.5, 3.5, 5.5, 3.5, 13.5, 23.5]);
        let y = reals(op(false, false), &[iota(&[2, 1]), f(&[1, 2], &[1.0, 10.0]), f(&[2], &[0.5, 0.25])], &[2, 2]);
        assert_eq!(y, [0.5, 0.25, 1.5, 10.25]);
    }

    #[test]
    fn an_empty_sum_is_the_bias() {
        let y = reals(op(false, false), &[f(&[2, 0], &[]), f(&[0, 2], &[]), f(&[2], &[1.0, 2.0])], &[2, 2]);
        assert_eq!(y, [1.0, 2.0, 1.0, 2.0]);
        assert_eq!(reals(op(false, false), &[f(&[0, 1], &[]), f(&[1, 2], &[1.0, 2.0])], &[0, 2]), []);
    }

    #[test]
    fn quantised_by_column() {
        let a = quantized(DType::I8, &[1, 2], &[3, 1], Quant::per_tensor(0.5, 1)); // 1 0
        let b = Quant { scales: vec![1.0, 2.0], zero_points: vec![0, 0], axis: 1 };
        let b = quantized(DType::I8, &[2, 2], &[5, 6, 7, 8], b); // 5 12 / …
        let y = eval(op(false, false), &[a, b], &like(DType::U8, &[1, 2], Some(Quant::per_tensor(0.1, 100))));
        assert_eq!(y.numbers(), Numbers::I(vec![150, 220]));
    }
}
