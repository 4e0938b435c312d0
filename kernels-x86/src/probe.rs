//! What the multiplying units of this CPU reach, with everything in registers: what the speed of products is measured by.

use core::arch::x86_64::*;
use core::hint::black_box;

use kinglet::kernels::Unit;

use crate::{Avx2, Avx512};

/// Sums that go on beside each other: more than a unit's latency times its number, and no more than there are registers for.
const SUMS: usize = 12;

macro_rules! loops {
    ($(#[$meta:meta])* $name:ident, $features:literal, $macs:literal, $sum:expr, $factor:expr, $multiply:expr) => {
        $(#[$meta])*
        #[target_feature(enable = $features)]
        fn $name(rounds: u32) -> u64 {
            let (x, w) = (black_box($factor), black_box($factor));
            let mut sums = [$sum; SUMS];
            for _ in 0..rounds {
                for i in 0..SUMS {
                    sums[i] = $multiply(sums[i], x, w);
                }
            }
            black_box(sums);
            u64::from(rounds) * SUMS as u64 * $macs
        }
    };
}

macro_rules! multiply {
    ($f:ident) => {
        |sum, x, w| $f(sum, x, w)
    };
    ($f:ident, sum last) => {
        |sum, x, w| $f(x, w, sum)
    };
}

loops!(
    /// 16 floats an instruction.
    floats_512, "avx512f", 16, _mm512_setzero_ps(), _mm512_set1_ps(0.5), multiply!(_mm512_fmadd_ps, sum last)
);
loops!(
    /// 64 bytes an instruction.
    bytes_512, "avx512f,avx512vnni", 64, _mm512_setzero_si512(), _mm512_set1_epi8(3), multiply!(_mm512_dpbusd_epi32)
);
loops!(
    /// 8 floats an instruction.
    floats_256, "avx2,fma", 8, _mm256_setzero_ps(), _mm256_set1_ps(0.5), multiply!(_mm256_fmadd_ps, sum last)
);
loops!(
    /// 32 bytes an instruction.
    bytes_256, "avx2,avxvnni", 32, _mm256_setzero_si256(), _mm256_set1_epi8(3), multiply!(_mm256_dpbusd_avx_epi32)
);
loops!(
    /// 16 bytes, as integers of 16 bits, in two instructions.
    pairs_256, "avx2", 16, _mm256_setzero_si256(), _mm256_set1_epi16(3),
    |sum, x, w| _mm256_add_epi32(sum, _mm256_madd_epi16(x, w))
);

impl Avx512 {
    /// As [`Kernels::probe`](kinglet::Kernels::probe).
    pub(crate) fn probed(self, unit: Unit, rounds: u32) -> u64 {
        // SAFETY: `self` exists only where the CPU has the features.
        unsafe {
            match unit {
                Unit::Floats | Unit::Halves => floats_512(rounds),
                Unit::Bytes => bytes_512(rounds),
            }
        }
    }
}

impl Avx2 {
    /// As [`Kernels::probe`](kinglet::Kernels::probe).
    pub(crate) fn probed(self, unit: Unit, rounds: u32) -> u64 {
        // SAFETY: as above; AVX-VNNI is asked for.
        unsafe {
            match unit {
                Unit::Floats | Unit::Halves => floats_256(rounds),
                Unit::Bytes if self.vnni => bytes_256(rounds),
                Unit::Bytes => pairs_256(rounds),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_do_what_they_say() {
        for unit in [Unit::Floats, Unit::Bytes] {
            if let Some(set) = Avx512::new() {
                assert_eq!(set.probed(unit, 10), 10 * SUMS as u64 * if unit == Unit::Bytes { 64 } else { 16 });
            }
            if let Some(set) = Avx2::new() {
                assert_eq!(set.probed(unit, 10), 10 * SUMS as u64 * if unit == Unit::Bytes { 16 } else { 8 });
            }
        }
    }
}
