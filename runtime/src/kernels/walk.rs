//! Walking several tensors in step over one output shape: what elementwise and copying kernels share.

use core::ops::Range;

use crate::bands::{Rule, Window};
use crate::error::Fault;
use crate::format::TensorRecord;
use crate::format::verify::{all_bytes, ensure, product, work};
use crate::rows::{BUFFER, CHUNK, buffers};

/// Dimensions of the output that elementwise and copying steps distinguish: rows first, the innermost last. The compiler
/// merges neighbouring dimensions until they fit.
pub const DIMS: usize = 6;

/// Calls `f(starts, n)` for every innermost run of the rows in `rows`: `n` elements that start at `starts[k]` of operand
/// `k`, whose strides (elements a dimension; 0 repeats) are `strides[k]`.
#[inline(always)]
pub fn walk<const N: usize>(
    dims: &[u32; DIMS],
    offsets: [i32; N],
    strides: [&[i32; DIMS]; N],
    rows: Range<usize>,
    mut f: impl FnMut([isize; N], usize),
) {
    let n = dims[DIMS - 1] as usize;
    for row in rows {
        let mut at = [0isize; N];
        for k in 0..N {
            at[k] = offsets[k] as isize + row as isize * strides[k][0] as isize;
        }
        let mut index = [0u32; DIMS];
        loop {
            f(at, n);
            // Count up the middle dimensions, the last of them fastest.
            let mut over = true;
            for d in (1..DIMS - 1).rev() {
                index[d] += 1;
                for k in 0..N {
                    at[k] += strides[k][d] as isize;
                }
                if index[d] < dims[d] {
                    over = false;
                    break;
                }
                for k in 0..N {
                    at[k] -= strides[k][d] as isize * dims[d] as isize;
                }
                index[d] = 0;
            }
            if over {
                break;
            }
        }
    }
}

/// As [`walk`] from the first elements on, but calls `f(starts, runs, n)` for several innermost runs at once, `n` elements each and a
/// stride along [`neighbours`] apart: first for all of them, in one row or in all rows; where that gives `false` for as many as a chunk
/// holds, at least one; and where that does too, for chunks of a run. Innermost strides are 0 or 1.
#[inline(always)]
pub(super) fn walk_chunks<const N: usize>(
    dims: &[u32; DIMS],
    strides: [&[i32; DIMS]; N],
    rows: Range<usize>,
    mut f: impl FnMut([usize; N], usize, usize) -> bool,
) {
    let axis = neighbours(dims);
    let most = (BUFFER / dims[DIMS - 1].max(1) as usize).max(1);
    let mut all = |at: [isize; N], runs: usize, n: usize| {
        if f(at.map(|at| at as usize), runs, n) {
            return;
        }
        for first in (0..runs).step_by(most.max(1)) {
            let from = |k: usize, start: usize| {
                let between = if axis == 0 { strides[k][0] } else { strides[k][DIMS - 2] };
                let [between, within] = [between, strides[k][DIMS - 1]].map(|s| s as isize);
                (at[k] + first as isize * between) as usize + start * within as usize
            };
            let runs = most.min(runs - first);
            if !f(core::array::from_fn(|k| from(k, 0)), runs, n) {
                buffers(0..n, |start, n| {
                    f(core::array::from_fn(|k| from(k, start)), runs, n);
                });
            }
        }
    };
    if axis == 0 {
        let at = core::array::from_fn(|k| rows.start as isize * strides[k][0] as isize);
        return all(at, rows.len(), dims[DIMS - 1] as usize);
    }
    let mut outer = *dims;
    outer[DIMS - 2] = 1;
    walk(&outer, [0; N], strides, rows, |at, n| all(at, dims[DIMS - 2] as usize, n));
}

/// The dimension along which innermost runs are neighbours: the one before the last, or the rows if there is none between.
pub(super) fn neighbours(dims: &[u32; DIMS]) -> usize {
    if dims[1..DIMS - 1].iter().all(|&d| d == 1) { 0 } else { DIMS - 2 }
}

/// The elements that [`walk`] reaches in one operand: the first and the one after the last.
fn reach(dims: &[u32; DIMS], offset: i32, strides: &[i32; DIMS], rows: Range<i64>) -> Range<i64> {
    let (mut lo, mut hi) = (i64::from(offset), i64::from(offset));
    for d in 0..DIMS {
        let (first, last) = if d == 0 { (rows.start, rows.end - 1) } else { (0, i64::from(dims[d]) - 1) };
        let ends = [first, last].map(|at| i64::from(strides[d]).saturating_mul(at));
        lo = lo.saturating_add(ends[0].min(ends[1]));
        hi = hi.saturating_add(ends[0].max(ends[1]));
    }
    lo..hi.saturating_add(1)
}

/// The elements that [`walk`] over these rows reaches in one operand.
pub(super) fn reached(
    dims: &[u32; DIMS],
    offset: i32,
    strides: &[i32; DIMS],
    rows: Range<usize>,
) -> Option<Range<usize>> {
    let rows = i64::try_from(rows.start).ok()?..i64::try_from(rows.end).ok()?;
    let reach = reach(dims, offset, strides, rows);
    Some(usize::try_from(reach.start).ok()?..usize::try_from(reach.end).ok()?)
}

/// Elements of a row of an output.
pub(super) fn row_of(dims: &[u32; DIMS]) -> Option<u32> {
    dims[1..].iter().try_fold(1u32, |n, &d| n.checked_mul(d))
}

/// Which rows of an operand with these strides the rows of an output read: each the one in its place, if it reads no further than a
/// row of it goes.
pub(super) fn rule_of(dims: &[u32; DIMS], strides: &[i32; DIMS]) -> Rule {
    match row_within(dims, 0, strides) {
        Some((0, row)) => Rule::Rows(Window::pointwise(row)),
        _ => Rule::Whole,
    }
}

/// The row of an operand, and the elements of it, in which [`walk`] stays for the first row: those of the next are in the next.
/// `None` if it does not stay in one.
pub(super) fn row_within(dims: &[u32; DIMS], offset: i32, strides: &[i32; DIMS]) -> Option<(i32, u32)> {
    let row = u32::try_from(strides[0]).ok().filter(|&row| row > 0)?;
    let reach = reach(dims, offset, strides, 0..1);
    let first = reach.start.div_euclid(row.into());
    let stays = first >= 0 && reach.end <= (first + 1) * i64::from(row);
    Some((i32::try_from(first).ok()?, row)).filter(|_| stays)
}

/// The elements of these rows, each of which has as many as the product of `row`.
pub(super) fn elements(rows: Range<usize>, row: &[u32]) -> Range<usize> {
    let row = row.iter().fold(1usize, |n, &d| n.saturating_mul(d as usize));
    rows.start.saturating_mul(row)..rows.end.saturating_mul(row)
}

/// Fails unless every element that [`walk`] reaches in `t` is there, and no dimension is zero.
pub fn reaches_only(t: &TensorRecord, dims: &[u32; DIMS], offset: i32, strides: &[i32; DIMS]) -> Result<(), Fault> {
    ensure(product(dims)? > 0, Fault::Shape)?;
    let reach = reach(dims, offset, strides, 0..i64::from(dims[0]));
    let elements = all_bytes(t) as i64 / t.dtype.size() as i64;
    ensure(reach.start >= 0 && reach.end <= elements, Fault::Shape)
}

/// The work of a [`walk`] that takes `each` for an element: innermost runs have a cost of their own.
pub(super) fn walked(dims: &[u32; DIMS], each: u32) -> u64 {
    work(dims).saturating_mul(each.into()).saturating_add(work(&dims[..DIMS - 1]).saturating_mul(64))
}

/// The work of a kernel that goes through `[outer, n, inner]` in chunks of columns and takes `each` for an element.
pub(super) fn columns(outer: u32, n: u32, inner: u32, each: u32) -> u64 {
    let chunks = work(&[outer, n, inner.div_ceil(CHUNK as u32), 32]);
    work(&[outer, n, inner, each]).saturating_add(chunks)
}

/// Strides of a contiguous tensor with these dimensions.
pub fn contiguous(dims: &[u32; DIMS]) -> [i32; DIMS] {
    let mut s = [0i32; DIMS];
    let mut n = 1i64;
    for d in (0..DIMS).rev() {
        s[d] = n.min(i64::from(i32::MAX)) as i32;
        n = n.saturating_mul(i64::from(dims[d]));
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// What is said to be reached is what the walk reaches, no more and no less.
        #[test]
        fn a_walk_reaches_what_is_said(
            dims in prop::array::uniform6(1..4u32),
            strides in prop::array::uniform6(-20..20i32),
            (from, more) in (0..3usize, 1..4usize),
        ) {
            let offset = 400;
            let rows = from.min(dims[0] as usize - 1)..(from + more).min(dims[0] as usize);
            prop_assume!(!rows.is_empty());
            let (mut lo, mut hi) = (isize::MAX, isize::MIN);
            walk(&dims, [offset], [&strides], rows.clone(), |[at], n| {
                let ends = [at, at + (n as isize - 1) * strides[DIMS - 1] as isize];
                lo = lo.min(ends[0]).min(ends[1]);
                hi = hi.max(ends[0]).max(ends[1]);
            });
            prop_assert_eq!(reached(&dims, offset, &strides, rows), Some(lo as usize..hi as usize + 1));
        }
    }
}
