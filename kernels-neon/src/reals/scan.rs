//! A frame of a selective scan: [`Frame::advance`], to the bit, with sixteen elements of a state in four registers.

use core::arch::aarch64::*;
use core::f32::consts::LOG2_E;

use kinglet::kernels::{Frame, States};

use super::{BLOCK, Reals, read, write};

/// Computes the states and the answers of a frame.
pub(crate) fn advance(frame: Frame<'_>) {
    if frame.state == 0 || !frame.state.is_multiple_of(BLOCK) {
        frame.advance();
    } else {
        frame.advance_by(advance_states);
    }
}

fn advance_states(states: States<'_>) {
    let States { a, b, c, delta, dx, h, y } = states;
    let n = b.len();
    let channels = y.len();
    if a.len() < n * channels || h.len() < n * channels || c.len() < n || delta.len() < channels || dx.len() < channels
    {
        return;
    }
    for (k, y) in y.iter_mut().enumerate() {
        // SAFETY: so many elements lie in each from there on, by the check above; NEON is always there.
        unsafe {
            let (step, input) = (vdupq_n_f32(delta[k]), vdupq_n_f32(dx[k]));
            let (a, h) = (a.as_ptr().add(k * n), h.as_mut_ptr().add(k * n));
            let (mut low, mut high) = (vdupq_n_f32(0.0), vdupq_n_f32(0.0));
            let mut at = 0;
            while at < n {
                let (mut decay, state) = (read(a.add(at)), read(h.add(at)));
                let (b, c) = (read(b.as_ptr().add(at)), read(c.as_ptr().add(at)));
                for i in 0..4 {
                    decay[i] = vmulq_f32(step, decay[i]);
                }
                exp(&mut decay);
                let mut new = state;
                for i in 0..4 {
                    new[i] = vaddq_f32(vmulq_f32(decay[i], state[i]), vmulq_f32(input, b[i]));
                }
                write(h.add(at), new);
                low = vaddq_f32(low, vmulq_f32(new[0], c[0]));
                high = vaddq_f32(high, vmulq_f32(new[1], c[1]));
                low = vaddq_f32(low, vmulq_f32(new[2], c[2]));
                high = vaddq_f32(high, vmulq_f32(new[3], c[3]));
                at += BLOCK;
            }
            // Of the eight sums, `i` and `i + 4`, of these the even and the odd, then both.
            let sums = vaddq_f32(low, high);
            let pairs = vadd_f32(vget_low_f32(sums), vget_high_f32(sums));
            *y = vget_lane_f32::<0>(pairs) + vget_lane_f32::<1>(pairs);
        }
    }
}

/// [`kinglet::math::exp`].
#[inline(always)]
fn exp(x: &mut Reals) {
    const MAGIC: f32 = 12_582_912.0;
    // SAFETY: NEON is part of every AArch64 CPU that this crate is compiled for.
    unsafe {
        let all = |v: f32| vdupq_n_f32(v);
        let magic = all(MAGIC);
        let mut shifted = *x;
        let mut p = [all(1.0 / 5040.0); 4];
        for i in 0..4 {
            // NaN goes through all of it.
            x[i] = vminq_f32(vmaxq_f32(x[i], all(-104.0)), all(88.8));
            shifted[i] = vaddq_f32(vmulq_f32(x[i], all(LOG2_E)), magic);
            let n = vsubq_f32(shifted[i], magic);
            x[i] = vsubq_f32(x[i], vmulq_f32(n, all(0.693_359_4)));
            x[i] = vsubq_f32(x[i], vmulq_f32(n, all(-2.121_944_4e-4)));
        }
        for term in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5] {
            for i in 0..4 {
                p[i] = vaddq_f32(vmulq_f32(p[i], x[i]), all(term));
            }
        }
        for i in 0..4 {
            p[i] = vmulq_f32(vmulq_f32(p[i], x[i]), x[i]);
            p[i] = vaddq_f32(vaddq_f32(p[i], x[i]), all(1.0));
            // Two factors: a power of two alone leaves the range of normal numbers at both ends.
            let n = vsubq_s32(vreinterpretq_s32_f32(shifted[i]), vdupq_n_s32(MAGIC.to_bits() as i32));
            let half = vshrq_n_s32::<1>(n);
            let power = |k| vreinterpretq_f32_s32(vaddq_s32(vshlq_n_s32::<23>(k), vdupq_n_s32(127 << 23)));
            x[i] = vmulq_f32(vmulq_f32(p[i], power(half)), power(vsubq_s32(n, half)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_have_the_portable_bits() {
        let edges = [0.0, -0.0, 88.7, 88.8, 89.0, -87.3, -87.4, -95.0, -103.9, -104.0, 1e-40, 1e38, -1e38];
        let ends = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        let spread = (0..200_000u32).map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761)));
        let near = (0..200_000).map(|i| i as f32 / 200_000.0 * 200.0 - 108.0);
        let all: Vec<f32> = edges.into_iter().chain(ends).chain(spread).chain(near).collect();
        for x in all.as_chunks::<BLOCK>().0 {
            let mut got = super::super::of_array(x);
            exp(&mut got);
            for (&x, got) in x.iter().zip(super::super::to_array(got)) {
                let want = kinglet::math::exp(x);
                let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
                assert!(same, "exp({x}) = {got}, want {want}");
            }
        }
    }
}
