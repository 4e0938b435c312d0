//! The matrices of a Legendre memory: continuous, discretised, and as an impulse response.
//!
//! Voelker, Kajić and Eliasmith, *Legendre Memory Units* (2019): the memory `m` holds the last `theta` frames of a
//! signal `u` as coefficients of Legendre polynomials. It follows `dm/dt = A·m + B·u` (equations 1 and 2), and from
//! frame to frame `m ← Ā·m + B̄·u` (equation 4) with `Ā = e^A` and `B̄ = A⁻¹(e^A − I)B`, which is exact for a signal
//! that holds its value between frames (zero-order hold). All of it is computed in f64 by additions, multiplications
//! and divisions only, so that the numbers are the same on every machine.

/// A square matrix, row by row, and a vector of as many rows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Transition {
    /// `[order, order]`.
    pub a: Vec<f64>,
    /// `[order]`.
    pub b: Vec<f64>,
}

/// A and B of the differential equation, with frames as the unit of time:
/// `A_ij = (2i+1)/θ · (−1 if i < j, else (−1)^(i−j+1))`, `B_i = (2i+1)(−1)^i/θ`.
pub(super) fn continuous(order: usize, theta: usize) -> Transition {
    let factor = |i: usize| (2 * i + 1) as f64 / theta as f64;
    let sign = |odd: usize| if odd.is_multiple_of(2) { 1.0 } else { -1.0 };
    let a = |i: usize, j: usize| factor(i) * if i < j { -1.0 } else { sign(i - j + 1) };
    Transition {
        a: (0..order * order).map(|at| a(at / order, at % order)).collect(),
        b: (0..order).map(|i| factor(i) * sign(i)).collect(),
    }
}

/// Ā and B̄ of a memory of this order over a window of `theta` frames.
pub(super) fn discretised(order: usize, theta: usize) -> Transition {
    let Transition { a, b } = continuous(order, theta);
    // The exponential of A bordered by B, and by zeros below, is Ā bordered by B̄: no matrix has to be inverted.
    let n = order + 1;
    let mut bordered = vec![0.0; n * n];
    for (i, row) in bordered.chunks_exact_mut(n).take(order).enumerate() {
        row[..order].copy_from_slice(&a[i * order..][..order]);
        row[order] = b[i];
    }
    let exponential = exponential(&bordered, n);
    let rows = || exponential.chunks_exact(n).take(order);
    Transition { a: rows().flat_map(|row| &row[..order]).copied().collect(), b: rows().map(|row| row[order]).collect() }
}

/// The memory after 1, 2, …, `frames` frames of a signal that was 1 in the first of them and 0 since: B̄, Ā·B̄, Ā²·B̄, …
/// Row `i` of the result `[order, frames]` is the response of coefficient `i`.
pub(super) fn impulse_response(a: &[f32], b: &[f32], frames: usize) -> Vec<f64> {
    let order = b.len();
    let a: Vec<f64> = a.iter().copied().map(f64::from).collect();
    let mut memory: Vec<f64> = b.iter().copied().map(f64::from).collect();
    let mut response = vec![0.0; order * frames];
    for frame in 0..frames {
        memory.iter().enumerate().for_each(|(i, m)| response[i * frames + frame] = *m);
        memory = a.chunks_exact(order).map(|row| row.iter().zip(&memory).map(|(a, m)| a * m).sum()).collect();
    }
    response
}

/// e^M of a matrix of `n` rows by scaling and squaring: the Taylor series of `M / 2^s`, squared `s` times.
fn exponential(matrix: &[f64], n: usize) -> Vec<f64> {
    // With ‖M‖ ≤ 1/8 the terms behind the tenth sum to less than (1/8)¹¹/11! ≈ 3e-18.
    const TERMS: u32 = 10;
    const NORM: f64 = 0.125;
    let norm = matrix.chunks_exact(n).map(|row| row.iter().map(|v| v.abs()).sum()).fold(0.0, f64::max);
    let mut squarings = 0;
    let mut scale = 1.0;
    while norm * scale > NORM {
        (squarings, scale) = (squarings + 1, scale / 2.0);
    }
    let scaled: Vec<f64> = matrix.iter().map(|v| v * scale).collect();
    // Horner's rule: I + M(I + M/2(I + M/3(…))).
    let mut sum = identity(n);
    for term in (1..=TERMS).rev() {
        sum = product(&scaled, &sum, n);
        sum.iter_mut().for_each(|v| *v /= f64::from(term));
        sum.iter_mut().step_by(n + 1).for_each(|v| *v += 1.0);
    }
    (0..squarings).fold(sum, |root, _| product(&root, &root, n))
}

fn identity(n: usize) -> Vec<f64> {
    (0..n * n).map(|at| if at % (n + 1) == 0 { 1.0 } else { 0.0 }).collect()
}

fn product(a: &[f64], b: &[f64], n: usize) -> Vec<f64> {
    let mut result = vec![0.0; n * n];
    for (row, a) in result.chunks_exact_mut(n).zip(a.chunks_exact(n)) {
        for (&a, b) in a.iter().zip(b.chunks_exact(n)) {
            row.iter_mut().zip(b).for_each(|(r, b)| *r += a * b);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_near(got: &[f64], want: &[f64], bound: f64) {
        assert_eq!(got.len(), want.len());
        let worst = got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, f64::max);
        assert!(worst <= bound, "differs by {worst:e}: {got:?} instead of {want:?}");
    }

    #[test]
    fn exponentials_with_a_closed_form() {
        assert_near(&exponential(&[-2.5], 1), &[(-2.5f64).exp()], 1e-16);
        // A rotation, by an angle that needs squaring.
        let (sin, cos) = 40f64.sin_cos();
        assert_near(&exponential(&[0.0, -40.0, 40.0, 0.0], 2), &[cos, -sin, sin, cos], 1e-12);
        // A nilpotent matrix: the series ends.
        let (a, b, c) = (3.0, -7.0, 0.5);
        let want = [1.0, a, c + a * b / 2.0, 0.0, 1.0, b, 0.0, 0.0, 1.0];
        assert_near(&exponential(&[0.0, a, c, 0.0, 0.0, b, 0.0, 0.0, 0.0], 3), &want, 1e-13);
    }

    /// Order 4 over 8 frames: e^A and A⁻¹(e^A − I)B in 40 digits.
    #[test]
    fn a_small_memory() {
        #[rustfmt::skip]
        let a = [
            0.8690891599781118, -0.10260187426543581, -0.09073915026454309, -0.03736345224296468,
            0.3078056227963074, 0.6520226874463474, -0.3113605040071119, -0.13496565588099907,
            -0.45369575132271545, 0.5189341733451865, 0.333292592004631, -0.312813581304904,
            0.2615441657007528, -0.31491986372233116, 0.4379390138268656, 0.3311863095872039,
        ];
        let b = [0.1309108400218883, -0.3078056227963074, 0.45369575132271545, -0.2615441657007528];
        // Five squarings double the roundings of the series five times.
        let got = discretised(4, 8);
        assert_near(&got.a, &a, 32.0 * f64::EPSILON);
        assert_near(&got.b, &b, 32.0 * f64::EPSILON);
    }

    /// What defines B̄: A·B̄ = (e^A − I)·B, at the sizes of the published models.
    #[test]
    fn the_hold_is_exact() {
        for (order, theta) in [(16, 16), (256, 128)] {
            let (before, after) = (continuous(order, theta), discretised(order, theta));
            let times = |m: &[f64], v: &[f64]| -> Vec<f64> {
                m.chunks_exact(order).map(|row| row.iter().zip(v).map(|(a, b)| a * b).sum()).collect()
            };
            let left = times(&before.a, &after.b);
            let held: Vec<f64> = times(&after.a, &before.b).iter().zip(&before.b).map(|(e, b)| e - b).collect();
            // Sums of `order` products of at most 2·order/θ times 1.
            assert_near(&left, &held, 1e-15 * (order * order) as f64);
        }
    }

    #[test]
    fn a_memory_holds_the_mean_of_its_window() {
        // After θ frames of ones, coefficient 0 is the mean over the window, and the others are those of a constant: 0.
        let memory = discretised(6, 20);
        let [a, b] = [&memory.a, &memory.b].map(|m| m.iter().map(|&v| v as f32).collect::<Vec<f32>>());
        let response = impulse_response(&a, &b, 200);
        let settled: Vec<f64> = response.chunks_exact(200).map(|r| r.iter().sum()).collect();
        assert_near(&settled, &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0], 1e-5);
    }
}
