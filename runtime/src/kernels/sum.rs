//! Sums of runs in f32, in an order that vectorises.

/// Partial sums of a run.
const LANES: usize = 8;

/// `Σ term(v)` over a run: eight partial sums, term `i` in sum `i mod 8`; then sums `i` and `i + 4`, of these the even and the
/// odd, then both.
#[inline(always)]
pub(super) fn sum(run: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0f32; LANES];
    let (whole, rest) = run.as_chunks::<LANES>();
    for v in whole {
        for l in 0..LANES {
            sums[l] += term(v[l]);
        }
    }
    for (s, &v) in sums.iter_mut().zip(rest) {
        *s += term(v);
    }
    let quarter = |i: usize| sums[i] + sums[i + 4];
    (quarter(0) + quarter(2)) + (quarter(1) + quarter(3))
}
