//! Sums and maxima of runs in f32, in an order that vectorises.

use core::array::from_fn;
use core::hint::black_box;

/// Partial sums of a run.
const LANES: usize = 16;

/// `Σ term(v)` over a run: sixteen partial sums, term `i` in sum `i mod 16`; then sums `i` and `i + 8`, of these `i` and
/// `i + 4`, of these the even and the odd, then both.
#[inline(always)]
pub(super) fn sum(run: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    in_lanes(run, 0.0, |sum, v| sum + term(v), |a, b| a + b)
}

/// The largest of `so_far` and the elements of a run; NaN if one of them is.
#[inline(always)]
pub(super) fn largest(run: &[f32], so_far: f32) -> f32 {
    in_lanes(run, so_far, larger, larger)
}

/// The larger of two; NaN if one of them is.
#[inline(always)]
pub(super) fn larger(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

/// The smaller of two; NaN if one of them is.
#[inline(always)]
pub(super) fn smaller(a: f32, b: f32) -> f32 {
    if b < a || b.is_nan() { b } else { a }
}

/// Takes the elements of a run into partial results that begin with `start`, element `i` into `i mod 16`, and joins these: `i`
/// and `i + 8`, of these `i` and `i + 4`, of these the even and the odd, then both.
#[inline(always)]
pub(super) fn in_lanes(run: &[f32], start: f32, take: impl Fn(f32, f32) -> f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let (whole, rest) = run.as_chunks::<LANES>();
    for v in whole {
        for l in 0..LANES {
            lanes[l] = take(lanes[l], v[l]);
        }
    }
    for (lane, &v) in lanes.iter_mut().zip(rest) {
        *lane = take(*lane, v);
    }
    // Else the partial results would be held in pairs, in the order in which they are joined, rather than in vectors.
    let lanes = black_box(lanes);
    let eight: [f32; LANES / 2] = from_fn(|l| join(lanes[l], lanes[l + LANES / 2]));
    let four: [f32; LANES / 4] = from_fn(|l| join(eight[l], eight[l + LANES / 4]));
    join(join(four[0], four[2]), join(four[1], four[3]))
}
