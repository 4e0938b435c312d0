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

    /// The memory whose response to an impulse begins with `first`, if there is one, over whatever window; most likely one
    /// of `frames` frames.
    pub fn starting_with(first: &[f64], frames: usize) -> Option<Self> {
        let order = first.len();
        let wanted = first[0];
        let largest = first.iter().fold(0f64, |m, v| m.max(v.abs()));
        let fits = |r: &DelaySystem| r.b.iter().zip(first).all(|(b, f)| (b - f).abs() <= 1e-4 * largest);
        // The first coefficient is near 1/θ; one of order 1 is cheap to look at, and what is far off is no memory.
        if !(wanted > 0.0 && wanted < 1.5) {
            return None;
        }
        let likely = DelaySystem::new(order, frames as f64);
        if fits(&likely) {
            return Some(likely);
        }
        let rounded = (1.0 / wanted).round();
        for theta in [rounded, rounded - 1.0, rounded + 1.0, 1.0 / wanted].into_iter().filter(|t| *t > 0.0) {
            let memory = DelaySystem::new(order, theta);
            if fits(&memory) {
                return Some(memory);
            }
        }
        None
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
        assert_eq!(DelaySystem::starting_with(&r.b, 16), Some(r.clone()));
        let mut other = r.b;
        other[3] += 0.05;
        assert_eq!(DelaySystem::starting_with(&other, 16), None);
    }
}
