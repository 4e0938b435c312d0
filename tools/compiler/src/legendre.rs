//! The Legendre delay system (Voelker et al., 2019, equations 1 and 2) and its discretisation.

/// A memory by its matrices: `m ← A·m + B·u`.
#[derive(Clone, Debug, PartialEq)]
pub struct DelaySystem {
    /// A, row by row.
    pub a: Vec<f64>,
    /// B.
    pub b: Vec<f64>,
}

impl DelaySystem {
    /// About how many products of matrices [`DelaySystem::new`] takes.
    pub const PRODUCTS: u64 = 32;

    /// The memory of `order` coefficients over a window of `theta` frames, its input held over each frame (zero-order hold):
    /// `A = e^a`, `B = a⁻¹(e^a − 1)b` with `a_ij = (2i+1)/θ · (−1 if i < j, else (−1)^(i−j+1))`, `b_i = (2i+1)(−1)^i/θ`.
    pub fn new(order: usize, theta: f64) -> Self {
        // e of [[a, b], [0, 0]] holds both.
        let n = order + 1;
        let mut system = vec![0.0; n * n];
        for i in 0..order {
            let scale = (2 * i + 1) as f64 / theta;
            let sign = |k: usize| if k.is_multiple_of(2) { 1.0 } else { -1.0 };
            for j in 0..order {
                system[i * n + j] = if i < j { -scale } else { -scale * sign(i - j) };
            }
            system[i * n + order] = scale * sign(i);
        }
        let e = exponential(&system, n);
        let a = (0..order).flat_map(|i| e[i * n..i * n + order].to_vec()).collect();
        let b = (0..order).map(|i| e[i * n + order]).collect();
        DelaySystem { a, b }
    }

    /// The memory whose response to an impulse begins with `first`, each element give or take its `slack`, if there is one,
    /// over whatever window; most likely one of `frames` frames. Each one that is looked at must be `affordable`.
    pub fn starting_with(first: &[f64], slack: &[f64], frames: usize, affordable: impl Fn() -> bool) -> Option<Self> {
        let largest = first.iter().fold(0f64, |m, v| m.max(v.abs()));
        let fits = |r: &DelaySystem| {
            let mut all = r.b.iter().zip(first).zip(slack);
            all.all(|((b, f), s)| (b - f).abs() <= 1e-4 * largest + s)
        };
        // The first coefficient is near 1/θ.
        let wanted = *first.first().filter(|w| **w > 0.0 && **w < 1.5)?;
        let rounded = (1.0 / wanted).round();
        let windows = [frames as f64, rounded, rounded - 1.0, rounded + 1.0, 1.0 / wanted];
        let likely = windows.into_iter().filter(|&theta| theta > 0.0 && is_like_a_projection(first, slack, theta));
        likely.take_while(|_| affordable()).map(|theta| DelaySystem::new(first.len(), theta)).find(fits)
    }

    /// The coefficients frame after frame, for a series that begins with an empty memory.
    pub fn frames(&self, series: &[f64]) -> Vec<Vec<f64>> {
        let n = self.b.len();
        let mut m = vec![0.0; n];
        let mut all = Vec::with_capacity(series.len());
        for &u in series {
            let next = |i: usize| {
                let kept: f64 = self.a[i * n..(i + 1) * n].iter().zip(&m).map(|(a, m)| a * m).sum();
                kept + self.b[i] * u
            };
            m = (0..n).map(next).collect();
            all.push(m.clone());
        }
        all
    }
}

/// Whether the first three coefficients may be those of a memory over `theta` frames after an impulse in the last of them: near
/// the projection of that frame onto Legendre polynomials, which the delay system approximates. Costs nothing, where the
/// system itself takes the cube of its order.
fn is_like_a_projection(first: &[f64], slack: &[f64], theta: f64) -> bool {
    let s = 1.0 / theta;
    let projected = [s, -3.0 * s * (1.0 - s), 5.0 * s * (1.0 - 3.0 * s + 2.0 * s * s)];
    let near = |i: usize| (first[i] - projected[i]).abs() <= 0.15 * (2 * i + 1) as f64 * s + slack[i];
    (0..first.len().min(projected.len())).all(near)
}

fn multiply(a: &[f64], b: &[f64], n: usize) -> Vec<f64> {
    let mut c = vec![0.0; n * n];
    for i in 0..n {
        for k in 0..n {
            let v = a[i * n + k];
            for j in 0..n {
                c[i * n + j] += v * b[k * n + j];
            }
        }
    }
    c
}

/// The exponential of a matrix: scaled until it is small, its Taylor series, squared as often.
fn exponential(m: &[f64], n: usize) -> Vec<f64> {
    let norm = (0..n).map(|i| m[i * n..(i + 1) * n].iter().map(|v| v.abs()).sum::<f64>()).fold(0.0, f64::max);
    let halvings = (norm.max(1e-300).log2().ceil() + 2.0).max(0.0) as i32;
    let small: Vec<f64> = m.iter().map(|v| v * 0.5f64.powi(halvings)).collect();
    let mut sum: Vec<f64> = (0..n * n).map(|k| f64::from(u8::from(k / n == k % n))).collect();
    let mut term = sum.clone();
    for k in 1..=18 {
        term = multiply(&term, &small, n);
        term.iter_mut().for_each(|v| *v /= f64::from(k));
        sum.iter_mut().zip(&term).for_each(|(s, t)| *s += t);
    }
    for _ in 0..halvings {
        sum = multiply(&sum, &sum, n);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_of_a_rotation() {
        let (s, c) = 0.5f64.sin_cos();
        let e = exponential(&[0.0, -0.5, 0.5, 0.0], 2);
        for (got, want) in e.iter().zip([c, -s, s, c]) {
            assert!((got - want).abs() < 1e-15, "{got} {want}");
        }
    }

    #[test]
    fn a_memory_of_order_one_decays_exponentially() {
        let r = DelaySystem::new(1, 8.0);
        assert!((r.a[0] - (-0.125f64).exp()).abs() < 1e-15);
        assert!((r.b[0] - (1.0 - (-0.125f64).exp())).abs() < 1e-15);
    }

    /// A window over a constant: the first coefficient is its mean, the others vanish (Voelker et al., 2019, equation 3).
    #[test]
    fn a_full_window_of_a_constant_is_its_mean() {
        let r = DelaySystem::new(6, 32.0);
        let last = r.frames(&[1.0; 400]).pop().unwrap();
        assert!((last[0] - 1.0).abs() < 1e-9, "{last:?}");
        assert!(last[1..].iter().all(|m| m.abs() < 1e-9), "{last:?}");
    }

    #[test]
    fn a_memory_is_known_by_its_first_frame() {
        let r = DelaySystem::new(16, 40.0);
        let exact = [0.0; 16];
        assert_eq!(DelaySystem::starting_with(&r.b, &exact, 16, || true), Some(r.clone()));
        let mut other = r.b.clone();
        other[3] += 0.05;
        assert_eq!(DelaySystem::starting_with(&other, &exact, 16, || true), None);
        assert_eq!(DelaySystem::starting_with(&other, &[0.06; 16], 40, || true), Some(r));
    }

    #[test]
    fn the_first_frame_of_every_memory_is_like_a_projection() {
        for order in 4..20 {
            for theta in (1..40).map(f64::from).chain([1.5, 64.0, 333.3]) {
                let b = DelaySystem::new(order, theta).b;
                assert!(is_like_a_projection(&b, &vec![0.0; order], theta), "{order} {theta}: {:?}", &b[..3]);
            }
        }
        assert!(!is_like_a_projection(&[0.1, 0.2, 0.3], &[0.0; 3], 10.0));
    }
}
