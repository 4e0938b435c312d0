//! Seeded random inputs: the same seed gives the same values on every machine.

use kinglet::DType;
use kinglet_compiler::array::Array;

use crate::memory::room;

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
    /// wide integers, which are mostly indices and must not point outside anything. Fails if there is no memory for it.
    pub fn array(&mut self, dtype: DType, shape: &[usize]) -> Result<Array, String> {
        let n =
            shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or("there is no memory for so many elements")?;
        if dtype == DType::F32 {
            // 24 bits are what an f32 holds, so that every value is exact.
            let mut real = || (self.next() >> 40) as f64 / f64::from(1 << 23) - 1.0;
            let mut list = room(n)?;
            list.extend((0..n).map(|_| real()));
            return Ok(Array::f32(shape, list));
        }
        let (lo, hi) = dtype.quantized_range().unwrap_or((0, 1));
        let span = i64::from(hi) - i64::from(lo) + 1;
        let mut int = || i64::from(lo) + (((self.next() >> 32) as i64 * span) >> 32);
        let mut list = room(n)?;
        list.extend((0..n).map(|_| int()));
        Ok(Array::int(dtype, shape, list))
    }

    /// The bytes of `n` such elements, which take no more memory than themselves.
    pub fn bytes(&mut self, dtype: DType, n: usize) -> Result<Vec<u8>, String> {
        const PIECE: usize = 1 << 12;
        let mut bytes = room(n.saturating_mul(dtype.size()))?;
        for begin in (0..n).step_by(PIECE) {
            bytes.extend_from_slice(&self.array(dtype, &[PIECE.min(n - begin)])?.to_bytes());
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_in_range_and_follow_the_seed() {
        for dtype in DType::PORTS {
            let array = |seed| Rng::new(seed).array(dtype, &[100, 50]).unwrap();
            let a = array(7);
            assert!(a == array(7) && a != array(8));
            assert_eq!(Rng::new(7).bytes(dtype, 5000).unwrap(), a.to_bytes()[..]);
            assert!(Rng::new(7).array(dtype, &[usize::MAX / 64, 8]).is_err());
            assert!(Rng::new(7).bytes(dtype, usize::MAX / 2).is_err());
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
