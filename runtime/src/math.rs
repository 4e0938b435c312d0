//! Elementary functions in f32, written so that loops over them vectorise and every target computes the same bits:
//! additions, multiplications, divisions and bit operations only, in a fixed order.

/// `eˣ`, to about one unit in the last place. Cody–Waite reduction to `|r| ≤ ln2/2`, then the Taylor polynomial of degree 7.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0;
    // Beyond these bounds the result is 0 or infinity; inside, the exponent below stays in range in two halves.
    let c = x.clamp(-104.0, 88.8);
    let shifted = c * core::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = (c - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    let n = shifted.to_bits().wrapping_sub(MAGIC.to_bits()) as i32;
    // Two factors: 2ⁿ alone leaves the range of normal numbers at both ends.
    let half = n >> 1;
    let power = |k: i32| f32::from_bits(((k + 127) << 23) as u32);
    let y = p * power(half) * power(n - half);
    if x.is_nan() { x } else { y }
}

/// `1/(1 + e⁻ˣ)`
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Hyperbolic tangent: its Taylor polynomial near 0, `1 − 2/(e²ˣ + 1)` elsewhere.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let a = f32::from_bits(x.to_bits() & 0x7fff_ffff);
    let s = x * x;
    let p = -1382.0 / 155_925.0;
    let p = p * s + 62.0 / 2835.0;
    let p = p * s - 17.0 / 315.0;
    let p = p * s + 2.0 / 15.0;
    let p = p * s - 1.0 / 3.0;
    let small = x + x * s * p;
    let large = 1.0 - 2.0 / (exp(2.0 * a) + 1.0);
    if a < 0.35 {
        small
    } else if x < 0.0 {
        -large
    } else {
        large
    }
}

/// `ln(1 + eˣ)`, stable for large |x|.
#[inline(always)]
pub fn softplus(x: f32) -> f32 {
    let a = f32::from_bits(x.to_bits() & 0x7fff_ffff);
    let tail = log1p(exp(-a));
    if x > 0.0 { x + tail } else { tail }
}

/// `ln(1 + t)` for `0 ≤ t ≤ 1`: twice the area tangent of `s = t/(2 + t)`, which is `s·P(s²)`; P, of degree 4, was fitted to the
/// smallest relative error up to `s = 1/3` (4·10⁻⁹ before rounding).
#[inline(always)]
fn log1p(t: f32) -> f32 {
    let s = t / (2.0 + t);
    let z = s * s;
    let p = 0.140_891_62;
    let p = p * z + 0.139_802_94;
    let p = p * z + 0.200_124_57;
    let p = p * z + 0.333_331_57;
    let p = p * z;
    let s = s + s;
    s + s * p
}

/// Error function, to about 4·10⁻⁷: `x·P(x²)/Q(x²)`, whose polynomials of degree 5 were fitted to the smallest relative error
/// up to 3.92 (2·10⁻⁸ before rounding); beyond, ±1 is what f32 holds.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    const END: f32 = 3.92;
    let c = clamp(x, -END, END);
    let s = c * c;
    let p = 2.050_077_2e-6;
    let p = p * s + 2.848_833_4e-4;
    let p = p * s + 3.765_656_4e-3;
    let p = p * s + 5.274_884_8e-2;
    let p = p * s + 0.190_407_41;
    let p = p * s + core::f32::consts::FRAC_2_SQRT_PI;
    let q = 3.809_164_3e-5;
    let q = q * s + 1.162_544_5e-3;
    let q = q * s + 1.496_929_8e-2;
    let q = q * s + 0.114_109_5;
    let q = q * s + 0.502_076_9;
    let q = q * s + 1.0;
    clamp(c * p / q, -1.0, 1.0)
}

/// Clamps, letting NaN through (`f32::clamp` panics on odd bounds, `max` drops NaN).
#[inline(always)]
pub fn clamp(v: f32, lo: f32, hi: f32) -> f32 {
    if v < lo {
        lo
    } else if v > hi {
        hi
    } else {
        v
    }
}

/// The rest of `a / b` with the sign of `a`, exactly; NaN for `b = 0`, infinite `a`, and NaN.
pub fn fmod(a: f32, b: f32) -> f32 {
    const INFINITY: u32 = 0xff << 23;
    let (x, y) = (a.to_bits() & !(1 << 31), b.to_bits() & !(1 << 31));
    if y == 0 || x >= INFINITY || y > INFINITY {
        return f32::NAN;
    }
    if x < y {
        return a;
    }
    // A number is its significand times a power of two that its exponent says.
    let split = |bits: u32| match bits >> 23 {
        0 => (bits, 1),
        exponent => (bits & 0x7f_ffff | 0x80_0000, exponent),
    };
    let ((significand, mut exponent), (divisor, least)) = (split(x), split(y));
    let rest = |r: u64| r.checked_rem(divisor.into()).unwrap_or(0);
    let mut r = rest(significand.into());
    while exponent > least {
        // Below the divisor it has 24 bits, so that so many more fit.
        let more = (exponent - least).min(40);
        r = rest(r << more);
        exponent -= more;
    }
    let r = r as u32;
    let missing = r.leading_zeros().saturating_sub(8);
    let bits = match r {
        0 => 0,
        _ if least > missing => (r << missing) & 0x7f_ffff | (least - missing) << 23,
        _ => r << (least - 1),
    };
    f32::from_bits(bits | a.to_bits() & 1 << 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(f: fn(f32) -> f32, reference: fn(f64) -> f64, range: f32, bound: f64) {
        // Miri takes a thousand times as long for a point.
        let half = if cfg!(miri) { 100 } else { 20_000 };
        for i in -half..=half {
            let x = i as f32 / half as f32 * range;
            let (got, want) = (f64::from(f(x)), reference(f64::from(x)));
            let error = (got - want).abs() / want.abs().max(1e-30);
            let absolute = (got - want).abs();
            assert!(error <= bound || absolute <= bound * 1e-3, "f({x}) = {got}, want {want}");
        }
    }

    #[test]
    fn the_rest_of_a_division_is_exact() {
        let edges =
            [0.0, 1.0, 1.5, 0.3, 7.25, 1e-40, f32::MIN_POSITIVE, 1e38, f32::MAX, 3e-45, f32::INFINITY, f32::NAN];
        let mut seed = 1u32;
        let mut any = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from_bits(seed)
        };
        let drawn: std::vec::Vec<(f32, f32)> = (0..20_000).map(|_| (any(), any())).collect();
        let all = edges.iter().flat_map(|&a| edges.iter().flat_map(move |&b| [(a, b), (-a, b), (a, -b)])).chain(drawn);
        for (a, b) in all {
            let (got, want) = (fmod(a, b), a % b);
            assert!(
                got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(),
                "{a:e} % {b:e}: {got:e}, {want:e}"
            );
        }
    }

    #[test]
    fn agree_with_f64() {
        check(exp, f64::exp, 87.0, 3e-7);
        check(sigmoid, |x| 1.0 / (1.0 + (-x).exp()), 30.0, 4e-7);
        check(tanh, f64::tanh, 12.0, 6e-7);
        check(softplus, |x| x.max(0.0) + (-x.abs()).exp().ln_1p(), 40.0, 4e-7);
        check(erf, libm::erf, 6.0, 6e-7);
    }

    #[test]
    fn edges() {
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-200.0), 0.0);
        assert_eq!(exp(100.0), f32::INFINITY);
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NAN).is_nan() && tanh(f32::NAN).is_nan() && erf(f32::NAN).is_nan());
        assert_eq!(tanh(50.0), 1.0);
        assert_eq!(erf(-50.0), -1.0);
        assert_eq!(sigmoid(-200.0), 0.0);
        assert_eq!(softplus(500.0), 500.0);
    }
}
