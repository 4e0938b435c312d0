//! Elementary functions of several registers, to the bits of [`kinglet::math`].
//!
//! Each is written operation by operation for all registers. Where one register is done after the other, a CPU looks ahead too
//! little to compute more than a few of these long chains at once, and waits for most of their operations.

use core::arch::x86_64::*;
use core::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, LOG2_E};

use kinglet::kernels::UnaryOp;

use super::lanes;

/// Registers that are computed at once.
pub(super) const WIDE: usize = 4;

/// Whether [`apply`] knows a function.
pub(super) fn known(op: UnaryOp, [a, b]: [f32; 2]) -> bool {
    match op {
        UnaryOp::Relu | UnaryOp::Affine | UnaryOp::Exp | UnaryOp::Sigmoid | UnaryOp::Swish | UnaryOp::Gelu => true,
        UnaryOp::Clip => a <= b,
        UnaryOp::Pow => a == 2.0,
        _ => false,
    }
}

/// [`UnaryOp::apply`], for the functions that are [`known`]. NaN goes through all of them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn apply<const N: usize>(op: UnaryOp, [alpha, beta]: [f32; 2], x: &mut [__m512; N]) {
    let (a, b) = (_mm512_set1_ps(alpha), _mm512_set1_ps(beta));
    match op {
        UnaryOp::Exp => exp(x),
        UnaryOp::Sigmoid => sigmoid(x),
        UnaryOp::Swish => swish(alpha, x),
        UnaryOp::Gelu => gelu(x),
        UnaryOp::Relu => {
            for x in x {
                let below = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(*x, _mm512_setzero_ps());
                *x = _mm512_mask_mov_ps(*x, below, _mm512_setzero_ps());
            }
        }
        UnaryOp::Affine => {
            for x in x {
                *x = _mm512_add_ps(_mm512_mul_ps(a, *x), b);
            }
        }
        UnaryOp::Clip => {
            for x in x {
                let (below, above) = (_mm512_cmp_ps_mask::<_CMP_LT_OQ>(*x, a), _mm512_cmp_ps_mask::<_CMP_GT_OQ>(*x, b));
                *x = _mm512_mask_mov_ps(_mm512_mask_mov_ps(*x, above, b), below, a);
            }
        }
        _ => {
            for x in x {
                *x = _mm512_mul_ps(*x, *x);
            }
        }
    }
}

/// Applies a function to each element; `false` if it is none that is known.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(crate) fn unary(op: UnaryOp, parameters: [f32; 2], v: &mut [f32]) -> bool {
    if !known(op, parameters) {
        return false;
    }
    each(v, |x| apply(op, parameters, x));
    true
}

/// Applies `f` to all elements of `v`, and to zeros where the last registers are not full.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn each(v: &mut [f32], f: impl Fn(&mut [__m512; WIDE])) {
    let (whole, rest) = v.as_chunks_mut::<{ 16 * WIDE }>();
    let mut x = [_mm512_setzero_ps(); WIDE];
    for v in whole {
        // SAFETY: the chunk is that many registers.
        unsafe {
            for k in 0..WIDE {
                x[k] = _mm512_loadu_ps(v.as_ptr().add(16 * k));
            }
            f(&mut x);
            for k in 0..WIDE {
                _mm512_storeu_ps(v.as_mut_ptr().add(16 * k), x[k]);
            }
        }
    }
    if rest.is_empty() {
        return;
    }
    let n = rest.len();
    for k in 0..WIDE {
        let from = &rest[n.min(16 * k)..];
        // Nothing is loaded from where nothing is: see `super::ints`.
        x[k] = if from.is_empty() { _mm512_setzero_ps() } else { super::reals(from, 0) };
    }
    f(&mut x);
    for k in 0..n.div_ceil(16) {
        // SAFETY: the mask has no more lanes than there are elements.
        unsafe { _mm512_mask_storeu_ps(rest.as_mut_ptr().add(16 * k), lanes(n, k), x[k]) };
    }
}

/// [`kinglet::math::exp`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(crate) fn exp<const N: usize>(x: &mut [__m512; N]) {
    let all = |v: f32| _mm512_set1_ps(v);
    let magic = all(12_582_912.0);
    let (mut n, mut p) = ([_mm512_setzero_ps(); N], [all(1.0 / 5040.0); N]);
    clamp(x, -104.0, 88.8);
    for k in 0..N {
        n[k] = _mm512_sub_ps(_mm512_add_ps(_mm512_mul_ps(x[k], all(LOG2_E)), magic), magic);
    }
    for part in [0.693_359_4, -2.121_944_4e-4] {
        for k in 0..N {
            x[k] = _mm512_sub_ps(x[k], _mm512_mul_ps(n[k], all(part)));
        }
    }
    polynomial(&mut p, x, &[1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5]);
    for k in 0..N {
        p[k] = _mm512_mul_ps(_mm512_mul_ps(p[k], x[k]), x[k]);
    }
    for k in 0..N {
        // One rounding, as of the product with two powers of which the first is exact.
        x[k] = _mm512_scalef_ps(_mm512_add_ps(_mm512_add_ps(p[k], x[k]), all(1.0)), n[k]);
    }
}

/// [`kinglet::math::sigmoid`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn sigmoid<const N: usize>(x: &mut [__m512; N]) {
    let one = _mm512_set1_ps(1.0);
    for k in 0..N {
        x[k] = _mm512_xor_ps(x[k], _mm512_set1_ps(-0.0));
    }
    exp(x);
    for k in 0..N {
        x[k] = _mm512_div_ps(one, _mm512_add_ps(one, x[k]));
    }
}

/// `x · sigmoid(a·x)`
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn swish<const N: usize>(a: f32, x: &mut [__m512; N]) {
    let mut gate = *x;
    for k in 0..N {
        gate[k] = _mm512_mul_ps(_mm512_set1_ps(a), x[k]);
    }
    sigmoid(&mut gate);
    for k in 0..N {
        x[k] = _mm512_mul_ps(x[k], gate[k]);
    }
}

/// `0.5 · x · (1 + erf(x/√2))`
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn gelu<const N: usize>(x: &mut [__m512; N]) {
    let all = |v: f32| _mm512_set1_ps(v);
    let mut e = *x;
    for k in 0..N {
        e[k] = _mm512_mul_ps(x[k], all(FRAC_1_SQRT_2));
    }
    erf(&mut e);
    for k in 0..N {
        let half = _mm512_mul_ps(all(0.5), x[k]);
        x[k] = _mm512_mul_ps(half, _mm512_add_ps(all(1.0), e[k]));
    }
}

/// [`kinglet::math::erf`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn erf<const N: usize>(x: &mut [__m512; N]) {
    let all = |v: f32| _mm512_set1_ps(v);
    clamp(x, -3.92, 3.92);
    let mut s = *x;
    for k in 0..N {
        s[k] = _mm512_mul_ps(x[k], x[k]);
    }
    let (mut p, mut q) = ([all(2.050_077_2e-6); N], [all(3.809_164_3e-5); N]);
    polynomial(&mut p, &s, &[2.848_833_4e-4, 3.765_656_4e-3, 5.274_884_8e-2, 0.190_407_41, FRAC_2_SQRT_PI]);
    polynomial(&mut q, &s, &[1.162_544_5e-3, 1.496_929_8e-2, 0.114_109_5, 0.502_076_9, 1.0]);
    for k in 0..N {
        x[k] = _mm512_div_ps(_mm512_mul_ps(x[k], p[k]), q[k]);
    }
    clamp(x, -1.0, 1.0);
}

/// [`kinglet::math::clamp`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn clamp<const N: usize>(x: &mut [__m512; N], lo: f32, hi: f32) {
    for x in x {
        // The second operand is what comes out if one of them is not a number.
        *x = _mm512_min_ps(_mm512_set1_ps(hi), _mm512_max_ps(_mm512_set1_ps(lo), *x));
    }
}

/// `p ← p·x + term`, term after term.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn polynomial<const N: usize>(p: &mut [__m512; N], x: &[__m512; N], terms: &[f32]) {
    for &term in terms {
        for k in 0..N {
            p[k] = _mm512_add_ps(_mm512_mul_ps(p[k], x[k]), _mm512_set1_ps(term));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_have_the_portable_bits() {
        if crate::Avx512::new().is_none() {
            return;
        }
        let edges = [0.0, -0.0, 88.7, 88.8, 89.0, -87.3, -87.4, -95.0, -103.9, -104.0, 1e-40, 1e38, -1e38, 3.92, -3.92];
        let ends = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        let spread = (0..200_000u32).map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761)));
        let near = (0..200_000).map(|i| i as f32 / 200_000.0 * 200.0 - 108.0);
        let all: Vec<f32> = edges.into_iter().chain(ends).chain(spread).chain(near).collect();
        for (op, parameters) in [
            (UnaryOp::Exp, [0.0; 2]),
            (UnaryOp::Sigmoid, [0.0; 2]),
            (UnaryOp::Swish, [1.25, 0.0]),
            (UnaryOp::Gelu, [0.0; 2]),
            (UnaryOp::Relu, [0.0; 2]),
            (UnaryOp::Affine, [0.3, -1.0]),
            (UnaryOp::Clip, [-1.5, 6.0]),
            (UnaryOp::Pow, [2.0, 0.0]),
        ] {
            // Every length up to more than what is computed at once, and the rest in one go.
            let (mut at, mut n) = (0, 1);
            while at < all.len() {
                let end = if n < 40 * WIDE { (at + n).min(all.len()) } else { all.len() };
                let (mut got, mut want) = (all[at..end].to_vec(), all[at..end].to_vec());
                // SAFETY: the CPU has the features.
                assert!(unsafe { unary(op, parameters, &mut got) });
                op.apply(parameters, &mut want);
                for ((x, got), want) in all[at..end].iter().zip(got).zip(want) {
                    let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
                    assert!(same, "{op:?}({x}) = {got}, want {want}");
                }
                (at, n) = (end, n + 1);
            }
        }
    }
}
