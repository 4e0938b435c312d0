//! Sums of two quantised tensors by integers.

use crate::add::Added;

/// Bits of a sum that are rounded off.
const SHIFT: u32 = 20;
/// The most that such a sum and the one that [`kinglet::quant`] rounds differ, in units of `2^-SHIFT` of the result: the factors are off by less than 3/4
/// and by 2^-24 of themselves, and three roundings to f32 are by 2^-24 each, all of it times bytes of at most 255: 383 and 64 times `MOST`.
const ERROR: i32 = 1024;
/// The most that the terms' scales may be together, in those of the result: then no sum leaves 32 bits.
const MOST: f32 = 7.0;
/// The least scale: what is computed with it is no denormal.
const LEAST: f32 = 1e-15;

/// `t = a·factors[0] + b·factors[1] + addend`, of which `t >> SHIFT` is the quantised sum before it is cut; word by word as `dsp/add.s` reads it.
///
/// Where the bits that are rounded off are at most `doubt`, the reals may round otherwise: they are near a tie.
#[repr(C)]
pub struct Sum {
    factors: [i32; 2],
    /// The zero points, a half, and half of `doubt`.
    addend: i32,
    doubt: i32,
    /// What is less becomes this, four times.
    least: u32,
}

impl Sum {
    /// That of signed bytes with these scales and zero points; `None` if it would leave 32 bits, or if the floats might be denormals.
    #[inline(never)]
    pub fn new(added: &Added) -> Option<Self> {
        let ([(one, one_zero), (other, other_zero)], (out_scale, out_zero)) = (added.terms, added.out);
        let [one_ratio, other_ratio] = [one / out_scale, other / out_scale];
        let normal = one >= LEAST && other >= LEAST && out_scale <= 1.0 / LEAST;
        // The zero points of tensors are bytes; that of rounded sums need not be.
        if !normal || one_ratio + other_ratio > MOST || !(-128..=127).contains(&one_zero) {
            return None;
        }
        let factors = [one_ratio, other_ratio].map(|ratio| (ratio * (1 << SHIFT) as f32 + 0.5) as i32);
        let half = (out_zero << SHIFT) + (1 << (SHIFT - 1));
        let addend = half + ERROR - one_zero * factors[0] - other_zero * factors[1];
        // No sum is below 0: no result below the zero point.
        let least = if added.relu { out_zero as u8 } else { i8::MIN as u8 };
        Some(Sum { factors, addend, doubt: 2 * ERROR, least: u32::from(least) * 0x0101_0101 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Sum {
        /// What `dsp/add.s` makes of two bytes; `None` where it is in doubt.
        fn of(&self, a: i8, b: i8) -> Option<i32> {
            let [one, other] = self.factors;
            let t = i32::from(a).wrapping_mul(one).wrapping_add(i32::from(b).wrapping_mul(other));
            let t = t.wrapping_add(self.addend);
            let certain = (t as u32) << (32 - SHIFT) > (self.doubt as u32) << (32 - SHIFT);
            certain.then_some((t >> SHIFT).clamp(-128, 127).max((self.least as i8).into()))
        }
    }

    /// Pairs of bytes whose sum is in doubt; all others are what the floats give.
    fn doubts(terms: [(f32, i32); 2], out: (f32, i32), relu: bool) -> usize {
        let added = Added { terms, out, relu };
        let sum = Sum::new(&added).expect("its sums fit");
        let mut doubts = 0;
        for (a, b) in (i8::MIN..=i8::MAX).flat_map(|a| (i8::MIN..=i8::MAX).map(move |b| (a, b))) {
            let want = i32::from(added.one(a, b));
            match sum.of(a, b) {
                Some(got) => assert_eq!(got, want, "{a} and {b} of {terms:?} to {out:?}"),
                None => doubts += 1,
            }
        }
        doubts
    }

    #[test]
    fn integers_round_as_floats_do_or_say_that_they_may_not() {
        let mut state = 1u64;
        let mut random = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        for _ in 0..100 {
            let out = 1e-3 + random(1 << 20) as f32 * 1e-6;
            let mut ratio = || out * (1.0 + random(1 << 20) as f32) * 3.4 / (1 << 20) as f32;
            let scales = [ratio(), ratio()];
            let zero = [random(256), random(256), random(256)].map(|z| z as i32 - 128);
            let terms = [(scales[0], zero[0]), (scales[1], zero[1])];
            let n = doubts(terms, (out, zero[2]), random(2) == 0);
            assert!(n < 600, "{n} doubts of {terms:?} to {out}");
        }
    }

    #[test]
    fn ties_are_in_doubt() {
        assert_eq!(doubts([(0.5, 0), (0.5, -128)], (1.0, 3), false), 1 << 15);
        assert_eq!(doubts([(0.25, 127), (0.125, 5)], (0.25, -128), true), 1 << 15);
        assert_eq!(doubts([(1.0, 0), (1.0, 0)], (1.0, 0), true), 0);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let of = |terms, out| Sum::new(&Added { terms, out, relu: false });
        let sum = |one, other, out| of([(one, 0), (other, 0)], (out, 0));
        assert!(sum(3.5, 3.5, 1.0).is_some());
        assert!(sum(3.5, 3.6, 1.0).is_none() && sum(1e-20, 1.0, 1.0).is_none() && sum(1e20, 1.0, 1e20).is_none());
        assert!(of([(1.0, -129), (1.0, 0)], (1.0, 0)).is_none());
    }
}
