//! How far two tensors are apart.

/// The difference of a tensor to a reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Largest absolute difference.
    pub absolute: f64,
    /// The same relative to the largest magnitude of the reference.
    pub relative: f64,
    /// Signal-to-noise ratio in dB; infinite if they are equal.
    pub sqnr: f64,
    /// Where the largest difference is.
    pub at: usize,
}

impl Difference {
    /// Compares element by element. NaN equals NaN and an infinity itself; beside anything else they are infinitely far.
    /// `None` if the lengths differ.
    pub fn between(values: &[f64], reference: &[f64]) -> Option<Difference> {
        if values.len() != reference.len() {
            return None;
        }
        let mut d = Difference { absolute: 0.0, relative: 0.0, sqnr: f64::INFINITY, at: 0 };
        let (mut largest, mut signal, mut noise) = (0f64, 0f64, 0f64);
        for (i, (&v, &r)) in values.iter().zip(reference).enumerate() {
            let same = v == r || (v.is_nan() && r.is_nan());
            let error = match (v - r).abs() {
                _ if same => 0.0,
                e if e.is_nan() => f64::INFINITY,
                e => e,
            };
            if error > d.absolute {
                (d.absolute, d.at) = (error, i);
            }
            noise += error * error;
            if r.is_finite() {
                largest = largest.max(r.abs());
                signal += r * r;
            }
        }
        if d.absolute > 0.0 {
            d.relative = if largest > 0.0 { d.absolute / largest } else { f64::INFINITY };
            d.sqnr = 10.0 * (signal / noise).log10();
        }
        Some(d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences() {
        let d = Difference::between(&[1.0, 2.5, -4.0], &[1.0, 2.0, -4.0]).unwrap();
        assert_eq!((d.absolute, d.relative, d.at), (0.5, 0.125, 1));
        assert!((d.sqnr - 10.0 * (21.0f64 / 0.25).log10()).abs() < 1e-12);
        let same = Difference::between(&[f64::NAN, f64::INFINITY, 0.0], &[f64::NAN, f64::INFINITY, -0.0]).unwrap();
        assert_eq!((same.absolute, same.relative, same.sqnr), (0.0, 0.0, f64::INFINITY));
        for (v, r) in [(f64::NAN, 1.0), (1.0, f64::NAN), (f64::INFINITY, f64::NEG_INFINITY), (1e-30, 0.0)] {
            assert_eq!(Difference::between(&[v], &[r]).unwrap().relative, f64::INFINITY, "{v} {r}");
        }
        assert_eq!(Difference::between(&[1.0], &[]), None);
        assert_eq!(Difference::between(&[], &[]).unwrap().relative, 0.0);
    }
}
