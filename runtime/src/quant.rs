//! The integer contract: how real numbers and quantised integers become each other.
//!
//! A quantised tensor stands for the reals `(q − zero_point) · scale` (ONNX `DequantizeLinear`, opset 10 and later).
//! Every kernel set must give the bits that these functions give; they use nothing but f32 operations that every
//! target has (conversion to nearest even, one multiplication or division, minimum and maximum).

/// `1.5 · 2²³`: adding it to a float below `2²²` in magnitude leaves the nearest integer, ties to even, in the low bits.
const MAGIC: f32 = 12_582_912.0;

/// Rounds to the nearest integer, ties to even, after clamping to `[lo, hi]`. Both bounds are integers with a magnitude
/// below 2²²; because they are integers, clamping before rounding gives the same as clamping after it. NaN gives `lo`.
#[inline(always)]
pub fn round_clamped(v: f32, lo: f32, hi: f32) -> i32 {
    // NaN becomes `lo`. (Cores for which `max` and `min` are calls of functions compare.)
    let c = if cfg!(target_arch = "arm") {
        let v = if v > lo { v } else { lo };
        if v < hi { v } else { hi }
    } else {
        v.max(lo).min(hi)
    };
    let c = c + MAGIC;
    c.to_bits().wrapping_sub(MAGIC.to_bits()) as i32
}

/// Requantises an accumulator: `clamp(round_half_even(f32(acc) · multiplier) + zero_point, lo, hi)`.
#[inline(always)]
pub fn requantize(acc: i32, multiplier: f32, zero_point: i32, lo: i32, hi: i32) -> i32 {
    round_clamped(acc as f32 * multiplier, (lo - zero_point) as f32, (hi - zero_point) as f32) + zero_point
}

/// Bits of a sum times an integer multiplier that are rounded off, beside the lower word.
pub const INTEGER_SHIFT: u32 = 3;

/// Requantises an accumulator by an integer, `m ≈ multiplier · 2^(32 + INTEGER_SHIFT)`: the half and the zero point are added to the upper word of
/// the product, which is then cut. Plans have such a multiplier for a channel only where this gives what [`requantize`] does for every
/// accumulator that its weights, its bias and any inputs can make.
#[inline(always)]
pub fn requantize_by_integer(acc: i32, m: i32, zero_point: i32, lo: i32, hi: i32) -> i32 {
    let upper = ((i64::from(acc) * i64::from(m)) >> 32) as i32;
    // (`clamp` panics where the one is above the other.)
    (((upper + (1 << (INTEGER_SHIFT - 1))) >> INTEGER_SHIFT) + zero_point).max(lo).min(hi)
}

/// Quantises a real: `clamp(round_half_even(v / scale) + zero_point, lo, hi)` (ONNX `QuantizeLinear`).
#[inline(always)]
pub fn quantize(v: f32, scale: f32, zero_point: i32, lo: i32, hi: i32) -> i32 {
    round_clamped(v / scale, (lo - zero_point) as f32, (hi - zero_point) as f32) + zero_point
}

/// The real that a quantised integer stands for.
#[inline(always)]
pub fn dequantize(q: i32, scale: f32, zero_point: i32) -> f32 {
    (q - zero_point) as f32 * scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rounds_half_to_even_like_f64(v in -300.0f32..300.0, lo in -256i32..0, hi in 1i32..256) {
            let want = (v as f64).round_ties_even().clamp(lo as f64, hi as f64) as i32;
            prop_assert_eq!(round_clamped(v, lo as f32, hi as f32), want);
        }

        /// What kernels do that have no division of vectors (Markstein; Brisebarre, Muller and Raina 2004).
        #[test]
        fn a_reciprocal_and_two_fused_multiplications_divide(
            scale in prop_oneof![1e-15f32..1e-10, 1e-5f32..1.0, 1.0f32..1e15],
            (one, other) in (1e-6f32..1.0, 1e-6f32..1.0),
        ) {
            let reciprocal = 1.0 / scale;
            for q in -255i32..=255 {
                let v = dequantize(q, one, 0) + dequantize(q.wrapping_mul(37) % 256, other, 3);
                let first = v * reciprocal;
                let left = f32::mul_add(first, -scale, v);
                prop_assert_eq!(f32::mul_add(left, reciprocal, first).to_bits(), (v / scale).to_bits());
            }
        }

        #[test]
        fn ties_go_to_even(k in -250i32..250) {
            let v = k as f32 + 0.5;
            prop_assert_eq!(round_clamped(v, -256.0, 256.0) % 2, 0);
        }
    }

    #[test]
    fn extremes_saturate_and_nan_is_the_lower_bound() {
        assert_eq!(quantize(f32::INFINITY, 0.1, 3, -128, 127), 127);
        assert_eq!(quantize(f32::NEG_INFINITY, 0.1, 3, -128, 127), -128);
        assert_eq!(quantize(f32::MAX, 1e-30, 3, -128, 127), 127);
        assert_eq!(quantize(f32::NAN, 0.1, 3, -128, 127), -128);
        assert_eq!(requantize(i32::MAX, 1.0, 0, 0, 255), 255);
        assert_eq!(requantize(i32::MIN, 1.0, 0, 0, 255), 0);
        assert_eq!(quantize(65535.0, 1.0, 0, 0, 65535), 65535);
    }
}
