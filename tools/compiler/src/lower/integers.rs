//! Multipliers of sums as integers, where they round every sum to what the float multiplier does.

use kinglet::quant::INTEGER_SHIFT;

/// Rounds sums of one channel: `clamp(round(f32(sum) · multiplier), lo, hi)`, zero points left aside.
pub(super) struct Channel {
    pub(super) multiplier: f32,
    pub(super) lo: i32,
    pub(super) hi: i32,
    /// The least and the largest sum, with the bias, that any inputs make.
    pub(super) sums: (i64, i64),
}

impl Channel {
    /// The multiplier for [`kinglet::quant::requantize_by_integer`] that gives the same for every sum; 0 if there is none.
    ///
    /// What the float form gives is a staircase. The integer form is one too, whose step to `q` is where the product reaches
    /// `(2q − 1) · 2^(31 + SHIFT)`. That both have a step at the same sum bounds the multiplier on either side; all steps together leave a
    /// range, in which there is an integer or not.
    pub(super) fn integer(&self) -> i32 {
        let (least, most) = self.sums;
        let exact = i64::from(i32::MIN) <= least && most <= i64::from(i32::MAX);
        if !exact || !self.multiplier.is_normal() || self.multiplier < 0.0 {
            return 0;
        }
        let (mut from, mut to) = (1i64, i64::from(i32::MAX));
        for q in self.lo + 1..=self.hi {
            let product = (2 * i64::from(q) - 1) << (31 + INTEGER_SHIFT);
            let step = self.step(q);
            // From here on the product reaches it, and just before it does not.
            if let Some(at) = step {
                match at {
                    0 if product > 0 => return 0,
                    0 => {}
                    1.. => from = from.max(product.div_euclid(at) + i64::from(product.rem_euclid(at) != 0)),
                    _ => to = to.min((-product).div_euclid(-at)),
                }
            }
            let before = step.map_or(most, |at| at - 1);
            if before >= least {
                match before {
                    0 if product <= 0 => return 0,
                    0 => {}
                    1.. => to = to.min((product - 1).div_euclid(before)),
                    _ => from = from.max((-product).div_euclid(-before) + 1),
                }
            }
            if from > to {
                return 0;
            }
        }
        // In the middle, should the range be wide.
        (from + (to - from) / 2) as i32
    }

    /// The least sum that becomes `q` or more, if there is one.
    fn step(&self, q: i32) -> Option<i64> {
        let reaches = |sum: i64| {
            kinglet::quant::round_clamped(sum as i32 as f32 * self.multiplier, self.lo as f32, self.hi as f32) >= q
        };
        let (mut from, mut to) = self.sums;
        if !reaches(to) {
            return None;
        }
        // Where it should be, unless rounding moves it.
        let near = ((f64::from(q) - 0.5) / f64::from(self.multiplier)) as i64;
        for (at, below) in [(near - 2, true), (near + 2, false)] {
            if (from..=to).contains(&at) && reaches(at) != below {
                if below { from = at } else { to = at }
            }
        }
        while from < to {
            let middle = from + (to - from) / 2;
            if reaches(middle) { to = middle } else { from = middle + 1 }
        }
        Some(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinglet::quant::{requantize, requantize_by_integer};
    use proptest::prelude::*;

    proptest! {
        /// Against a walk over all sums.
        #[test]
        fn an_integer_gives_what_the_float_does(
            multiplier in 0.0001f32..0.2, middle in -3000i64..3000, width in 0i64..6000, zero in -128i32..128, lo in -128i32..0, hi in 0i32..128,
        ) {
            let sums = (middle - width, middle + width);
            let m = Channel { multiplier, lo: lo - zero, hi: hi - zero, sums }.integer();
            prop_assume!(m != 0);
            for sum in sums.0..=sums.1 {
                let want = requantize(sum as i32, multiplier, zero, lo, hi);
                prop_assert_eq!(requantize_by_integer(sum as i32, m, zero, lo, hi), want, "sum {}", sum);
            }
        }
    }

    #[test]
    fn most_channels_have_one_and_ties_have_none() {
        let of = |multiplier| Channel { multiplier, lo: -128, hi: 127, sums: (-200_000, 200_000) }.integer();
        let all = (1..1000).map(|i| 0.000_37 + i as f32 * 0.000_001_3);
        assert!(all.filter(|&m| of(m) != 0).count() > 700);
        // Half of an odd sum is a tie, which goes to even; an integer form rounds all of them upwards.
        assert_eq!(of(0.5), 0);
        assert_eq!(of(f32::NAN), 0);
        assert_eq!(of(-0.01), 0);
    }
}
