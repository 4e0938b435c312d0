//! Seeded random inputs: the same seed gives the same values on every machine.

use kinglet::DType;
use kinglet_compiler::array::Array;

/// SplitMix64: small, and good enough to fill inputs.
pub struct Rng(u64);

impl Rng {
    /// A generator that starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Rng(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A tensor of random values: reals in [-1, 1), the whole range of a quantised type, and 0 or 1 for bools and for the
    /// wide integers, which are mostly indices and must not point outside anything.
    pub fn array(&mut self, dtype: DType, shape: &[usize]) -> Array {
        let n: usize = shape.iter().product();
        if dtype == DType::F32 {
            // 24 bits are what an f32 holds, so that every value is exact.
            let mut real = || (self.next() >> 40) as f64 / f64::from(1 << 23) - 1.0;
            return Array::f32(shape, (0..n).map(|_| real()).collect());
        }
        let (lo, hi) = dtype.quantized_range().unwrap_or((0, 1));
        let span = i64::from(hi) - i64::from(lo) + 1;
        let mut int = || i64::from(lo) + (((self.next() >> 32) as i64 * span) >> 32);
        Array::int(dtype, shape, (0..n).map(|_| int()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_in_range_and_follow_the_seed() {
        for dtype in DType::ALL {
            let a = Rng::new(7).array(dtype, &[100, 50]);
            assert_eq!(a, Rng::new(7).array(dtype, &[100, 50]));
            assert_ne!(a, Rng::new(8).array(dtype, &[100, 50]));
            let (lo, hi) = match dtype {
                DType::F32 => (-1.0, 1.0),
                _ => dtype.quantized_range().map_or((0.0, 1.0), |(lo, hi)| (f64::from(lo), f64::from(hi))),
            };
            let reals = a.reals();
            assert!(reals.iter().all(|v| (lo..=hi).contains(v)), "{dtype:?}");
            let mean = reals.iter().sum::<f64>() / reals.len() as f64;
            assert!((mean - (lo + hi) / 2.0).abs() < 0.05 * (hi - lo), "{dtype:?}: mean {mean}");
            assert_eq!(Array::from_bytes(dtype, &[100, 50], &a.to_bytes()).unwrap(), a);
        }
    }
}
