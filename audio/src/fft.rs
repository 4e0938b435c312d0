//! The power spectrum of real samples.
//!
//! A transform of n real samples is one of n/2 complex numbers, of which the even samples are the real and the odd samples
//! the imaginary parts, and one more step that takes the two apart.

use core::f64::consts::TAU;

/// Fills `twiddles` `[n]` with e^(−2πik/n) for k below n/2, real and imaginary parts side by side.
pub fn fill_twiddles(twiddles: &mut [f32]) {
    let n = twiddles.len() as f64;
    for (k, w) in twiddles.chunks_exact_mut(2).enumerate() {
        let (sin, cos) = libm::sincos(TAU * k as f64 / n);
        (w[0], w[1]) = (cos as f32, -sin as f32);
    }
}

/// Replaces the samples `x` `[n]` by |X_k|², of which the one for k = n/2 lies at index 1 and any other at 2k; what lies
/// elsewhere has no meaning. `n` is a power of two of at least 4, and `twiddles` `[n]` come from [`fill_twiddles`].
pub fn power_spectrum(x: &mut [f32], twiddles: &[f32]) {
    complex_fft(x, twiddles);
    let n = x.len();
    let (re, im) = (x[0], x[1]);
    x[0] = (re + im) * (re + im);
    x[1] = (re - im) * (re - im);
    // With Z the transform of the pairs and W = e^(−2πi/n): X_k = E + W^k O and X_(n/2−k) = conj(E − W^k O), where
    // E = (Z_k + conj Z_(n/2−k)) / 2 is the transform of the even samples and O = (Z_k − conj Z_(n/2−k)) / 2i of the odd.
    for k in 1..=n / 4 {
        let (i, j) = (2 * k, n - 2 * k);
        let (even_re, even_im) = (0.5 * (x[i] + x[j]), 0.5 * (x[i + 1] - x[j + 1]));
        let (odd_re, odd_im) = (0.5 * (x[i + 1] + x[j + 1]), -0.5 * (x[i] - x[j]));
        let (w_re, w_im) = (twiddles[2 * k], twiddles[2 * k + 1]);
        let turned_re = w_re * odd_re - w_im * odd_im;
        let turned_im = w_re * odd_im + w_im * odd_re;
        let (a, b) = (even_re + turned_re, even_im + turned_im);
        let (c, d) = (even_re - turned_re, even_im - turned_im);
        x[j] = c * c + d * d;
        x[i] = a * a + b * b;
    }
}

/// The transform of n/2 complex numbers in place (Cooley and Tukey, radix 2, decimation in time).
fn complex_fft(x: &mut [f32], twiddles: &[f32]) {
    let count = x.len() / 2;
    let bits = count.trailing_zeros();
    for i in 0..count {
        let j = i.reverse_bits() >> (usize::BITS - bits);
        if i < j {
            x.swap(2 * i, 2 * j);
            x.swap(2 * i + 1, 2 * j + 1);
        }
    }
    let mut half = 1;
    while half < count {
        // The table holds roots of order n; here they are of order 2 half.
        let stride = count / half;
        for block in x.chunks_exact_mut(4 * half) {
            let (low, high) = block.split_at_mut(2 * half);
            for k in 0..half {
                let (w_re, w_im) = (twiddles[2 * stride * k], twiddles[2 * stride * k + 1]);
                let (re, im) = (high[2 * k], high[2 * k + 1]);
                let (t_re, t_im) = (w_re * re - w_im * im, w_re * im + w_im * re);
                (high[2 * k], high[2 * k + 1]) = (low[2 * k] - t_re, low[2 * k + 1] - t_im);
                (low[2 * k], low[2 * k + 1]) = (low[2 * k] + t_re, low[2 * k + 1] + t_im);
            }
        }
        half *= 2;
    }
}
