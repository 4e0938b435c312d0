//! What the numbers of an output say.

use kinglet::{DType, Tensor};
use kinglet_compiler::array::Array;

/// The elements of a tensor's bytes as they are stored. i64 beyond 2^53 are rounded; they are for the eye.
pub fn numbers(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    let n = bytes.len() / dtype.size();
    Array::from_bytes(dtype, &[n], bytes).map(|a| a.reals().into_owned()).unwrap_or_default()
}

/// The reals that the elements of a tensor stand for.
pub fn reals(tensor: &Tensor, bytes: &[u8]) -> Vec<f64> {
    let mut values = numbers(tensor.dtype(), bytes);
    if let Some((scale, zero_point)) = tensor.quantization() {
        values.iter_mut().for_each(|v| *v = (*v - f64::from(zero_point)) * f64::from(scale));
    }
    values
}

/// The bytes of reals in an integer type with a scale and a zero point: rounded to even, saturated. `None` if no tensor of
/// this type can be quantised.
pub fn quantized(values: &[f32], dtype: DType, (scale, zero_point): (f32, i32)) -> Option<Vec<u8>> {
    let (lo, hi) = dtype.quantized_range()?;
    let quantize = |v: f32| {
        let q = (f64::from(v) / f64::from(scale)).round_ties_even() + f64::from(zero_point);
        (q.clamp(f64::from(lo), f64::from(hi)) as i32).to_le_bytes()
    };
    Some(values.iter().flat_map(|&v| quantize(v).into_iter().take(dtype.size())).collect())
}

/// Smallest, largest and mean value, NaN left out; `None` if there is no other.
pub fn range(values: &[f64]) -> Option<(f64, f64, f64)> {
    let there = || values.iter().copied().filter(|v| !v.is_nan());
    let n = there().count();
    (n > 0).then(|| {
        let min = there().fold(f64::INFINITY, f64::min);
        let max = there().fold(f64::NEG_INFINITY, f64::max);
        (min, max, there().sum::<f64>() / n as f64)
    })
}

/// Whether the values are probabilities already: none outside 0..1, and 1 in sum. `tolerance` is for their rounding.
pub fn are_probabilities(values: &[f64], tolerance: f64) -> bool {
    let sum: f64 = values.iter().sum();
    values.iter().all(|v| (-1e-6..=1.000_001).contains(v)) && (sum - 1.0).abs() <= 0.01 + tolerance.min(0.5)
}

/// The softmax of the values.
pub fn softmax(values: &[f64]) -> Vec<f64> {
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // Where infinities are among them, only they count.
    let exp = |v: f64| if v == max { 1.0 } else { (v - max).exp() };
    let sum: f64 = values.iter().map(|&v| exp(v)).sum();
    values.iter().map(|&v| exp(v) / sum).collect()
}

/// Indices of the `k` largest values, largest first, the first of equals first; NaN come last.
pub fn largest(values: &[f64], k: usize) -> Vec<usize> {
    let key = |i: usize| if values[i].is_nan() { f64::NEG_INFINITY } else { values[i] };
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| key(b).total_cmp(&key(a)));
    order.truncate(k);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_first_and_nan_last() {
        assert_eq!(largest(&[1.0, f64::NAN, 3.0, 3.0, -1.0], 10), [2, 3, 0, 4, 1]);
        assert_eq!(largest(&[1.0, 2.0], 1), [1]);
        assert!(largest(&[], 3).is_empty());
    }

    #[test]
    fn logits_and_probabilities_are_told_apart() {
        assert!(are_probabilities(&[0.25, 0.75], 0.0));
        assert!(!are_probabilities(&[0.25, 0.5], 0.0));
        assert!(!are_probabilities(&[2.0, -1.0], 0.0));
        assert!(!are_probabilities(&[f64::NAN, 1.0], 0.0));
        let p = softmax(&[0.0, 0.0, f64::NEG_INFINITY]);
        assert_eq!(p, [0.5, 0.5, 0.0]);
        assert_eq!(softmax(&[f64::INFINITY, 1.0]), [1.0, 0.0]);
    }

    #[test]
    fn ranges_leave_nan_out() {
        assert_eq!(range(&[1.0, f64::NAN, 3.0]), Some((1.0, 3.0, 2.0)));
        assert_eq!(range(&[f64::NAN]), None);
        assert_eq!(numbers(DType::I8, &[1, 0xff]), [1.0, -1.0]);
    }
}
