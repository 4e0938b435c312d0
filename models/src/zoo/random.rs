//! Random numbers that are the same on every machine: integers and exactly rounded operations, nothing from a libm.

/// SplitMix64 (Steele, Lea and Flood 2014).
pub(super) struct Random(u64);

impl Random {
    /// A stream of its own for each seed and name.
    pub fn new(seed: u64, name: &str) -> Self {
        // FNV-1a gathers the name; the first numbers mix it with the seed.
        let name = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
        let mixed = Random(seed).next() ^ name;
        Random(Random(mixed).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly in 0 to 1, on a grid of 2⁻²⁴.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 40) as f64 / f64::from(1 << 24)
    }

    /// About normal, with mean 0 and standard deviation 1: the sum of four even numbers of 16 bits, shifted and scaled.
    /// Bounded by ±2√3.
    pub fn normal(&mut self) -> f64 {
        let bits = self.next();
        let sum: u64 = (0..4).map(|i| (bits >> (16 * i)) & 0xffff).sum();
        // An even number on 0 ..= 65535 has the variance (2³² − 1) / 12; four of them a third of 2³² − 1.
        (sum as f64 - 2.0 * 65535.0) / (4_294_967_295f64 / 3.0).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_as_promised() {
        let mut random = Random::new(3, "moments");
        let n = 200_000;
        let normal: Vec<f64> = (0..n).map(|_| random.normal()).collect();
        let mean = normal.iter().sum::<f64>() / f64::from(n);
        let variance = normal.iter().map(|v| v * v).sum::<f64>() / f64::from(n);
        // Three standard errors: 3 / √n and 3 · √((2 − 0.3) / n), the excess kurtosis of four summands being −0.3.
        assert!(mean.abs() < 0.007, "{mean}");
        assert!((variance - 1.0).abs() < 0.01, "{variance}");
        assert!(normal.iter().all(|v| v.abs() <= 12f64.sqrt()));
        let unit: Vec<f64> = (0..n).map(|_| random.unit()).collect();
        assert!(unit.iter().all(|v| (0.0..1.0).contains(v)));
        assert!((unit.iter().sum::<f64>() / f64::from(n) - 0.5).abs() < 0.002);
    }

    #[test]
    fn streams_follow_seed_and_name() {
        let first = |seed, name| Random::new(seed, name).next();
        assert_eq!(first(0, "a.weight"), first(0, "a.weight"));
        let all = [first(0, "a.weight"), first(1, "a.weight"), first(0, "b.weight"), first(1, "b.weight")];
        assert!((0..4).all(|i| (0..i).all(|j| all[i] != all[j])));
    }

    /// Recorded: other numbers would be other models under the same names.
    #[test]
    fn the_stream_stays_what_it_is() {
        let mut random = Random::new(0, "head.weight");
        let recorded = [0x95378ab7616bb1e6, 0xbf536dc5332b2573];
        assert_eq!([random.next(), random.next()], recorded);
    }
}
