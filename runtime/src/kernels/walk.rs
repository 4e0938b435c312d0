//! Walking several tensors in step over one output shape: what elementwise and copying kernels share.

use core::ops::Range;

use crate::error::Fault;
use crate::format::TensorRecord;
use crate::format::verify::{ensure, product, work};
use crate::rows::CHUNK;

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
            let mut d = DIMS - 2;
            while d > 0 {
                index[d] += 1;
                for k in 0..N {
                    at[k] += strides[k][d] as isize;
                }
                if index[d] < dims[d] {
                    break;
                }
                for k in 0..N {
                    at[k] -= strides[k][d] as isize * dims[d] as isize;
                }
                index[d] = 0;
                d -= 1;
            }
            if d == 0 {
                break;
            }
        }
    }
}

/// Fails unless every element that [`walk`] reaches in `t` is there, and no dimension is zero.
pub fn reaches_only(t: &TensorRecord, dims: &[u32; DIMS], offset: i32, strides: &[i32; DIMS]) -> Result<(), Fault> {
    ensure(product(dims)? > 0, Fault::Shape)?;
    let (mut lo, mut hi) = (i64::from(offset), i64::from(offset));
    for d in 0..DIMS {
        let span = i64::from(strides[d]) * (i64::from(dims[d]) - 1);
        if span < 0 { lo += span } else { hi += span }
    }
    let elements = i64::from(t.bytes) / t.dtype.size() as i64;
    ensure(lo >= 0 && hi < elements, Fault::Shape)
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
