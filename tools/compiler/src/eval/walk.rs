//! Walking over several tensors at once.

use crate::array::broadcast_strides;

/// Calls `f` for each element of `shape`, in row-major order, with its offsets in tensors with these strides, of
/// which the first element lies at `start`.
pub(super) fn walk<const N: usize>(
    shape: &[usize],
    strides: [&[isize]; N],
    start: [usize; N],
    mut f: impl FnMut([usize; N]),
) {
    let mut at = start.map(|s| s as isize);
    let Some((&last, outer)) = shape.split_last() else {
        f(start);
        return;
    };
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; outer.len()];
    loop {
        let mut inner = at;
        for _ in 0..last {
            f(inner.map(|i| i as usize));
            for (i, s) in inner.iter_mut().zip(&strides) {
                *i += s[outer.len()];
            }
        }
        let mut d = outer.len();
        loop {
            if d == 0 {
                return;
            }
            d -= 1;
            index[d] += 1;
            let back = if index[d] == outer[d] { outer[d] as isize } else { 0 };
            for (a, s) in at.iter_mut().zip(&strides) {
                *a += s[d] * (1 - back);
            }
            if back == 0 {
                break;
            }
            index[d] = 0;
        }
    }
}

/// The elements of `x` in the order of a view of it.
pub(super) fn view<T: Copy>(x: &[T], shape: &[usize], strides: &[isize], start: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(shape.iter().product());
    walk(shape, [strides], [start], |[i]| out.push(x[i]));
    out
}

/// Strides of a contiguous tensor, with a sign.
pub(super) fn strides(shape: &[usize]) -> Vec<isize> {
    signed(&crate::array::strides(shape))
}

/// Strides that read a tensor of shape `from` over the shape `to` it broadcasts to.
pub(super) fn broadcast(from: &[usize], to: &[usize]) -> Vec<isize> {
    let fits = crate::array::broadcast(from, to).is_some_and(|s| s == to);
    assert!(fits, "{from:?} does not broadcast to {to:?}");
    signed(&broadcast_strides(from, to))
}

/// Strides with a sign.
pub(super) fn signed(strides: &[usize]) -> Vec<isize> {
    strides.iter().map(|&s| s as isize).collect()
}

/// A shape as the product of what is before, at and behind an axis.
pub(super) fn around(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visits_in_row_major_order() {
        assert_eq!(view(&[0, 1, 2, 3, 4, 5], &[3, 2], &[1, 3], 0), [0, 3, 1, 4, 2, 5]);
        assert_eq!(view(&[0, 1, 2, 3, 4, 5], &[2, 2, 2], &[3, 0, -2], 2), [2, 0, 2, 0, 5, 3, 5, 3]);
        assert_eq!(view(&[7], &[], &[], 0), [7]);
        assert_eq!(view(&[0; 0], &[2, 0], &[0, 1], 0), []);
        assert_eq!(view(&[0; 0], &[0, 2], &[2, 1], 0), []);
    }

    #[test]
    fn several_tensors_at_once() {
        let mut seen = vec![];
        walk(&[2, 3], [&broadcast(&[3], &[2, 3]), &broadcast(&[2, 1], &[2, 3])], [0, 10], |at| seen.push(at));
        assert_eq!(seen, [[0, 10], [1, 10], [2, 10], [0, 11], [1, 11], [2, 11]]);
    }
}
