//! The memory of a Legendre memory unit as nodes, in every form (numbers: `legendre.rs`).

use super::recurrence::{Form, Time};
use super::{Attribute, Init, Net, Role, StateType, Value, Window, legendre, transposed};

/// The memory `m_t = Ā·m_{t−1} + B̄·u_t` of one signal.
///
/// Official checkpoints hold Ā as `A`, B̄ as `B`, and two tensors derived from them for sequences of one length: the
/// impulse response `H` and its spectrum `fft_H`. A and B are read, since only they tell the window that a model was
/// trained with. H and its spectrum are computed from them, for sequences of any length.
pub(super) struct LegendreMemory {
    order: usize,
    theta: usize,
    /// Ā, `[order, order]`; empty in a run that only counts, as is B̄.
    a: Vec<f32>,
    /// B̄, `[order]`.
    b: Vec<f32>,
}

impl LegendreMemory {
    /// A memory of `order` coefficients over a window of `theta` frames, with the tensors `A`, `B`, `H` and `fft_H` of
    /// the present scope.
    pub fn new(net: &mut Net<'_>, order: usize, theta: usize) -> Self {
        let fixed = if net.is_seeded() {
            let transition = legendre::discretised(order, theta);
            [transition.a, transition.b].map(|m| Init::Values(m.into_iter().map(|v| v as f32).collect()))
        } else {
            // Nothing is drawn.
            [(); 2].map(|()| Init::Values(Vec::new()))
        };
        let a = net.numbers("A", &[order, order], Role::Buffer, &fixed[0]);
        let b = net.numbers("B", &[order, 1], Role::Buffer, &fixed[1]);
        net.unused("H", &[order, theta], StateType::Float32);
        net.unused("fft_H", &[order, theta + 1], StateType::Complex64);
        LegendreMemory { order, theta, a, b }
    }

    /// Adds the memory of `u` `[1, time, 1]`; returns `[1, time, order]`. The state of the step form is `memory`, of the
    /// shape `[1, order]`.
    pub fn build(&self, net: &mut Net<'_>, time: &mut Time, u: &Value) -> Value {
        let (order, frames) = (self.order, u.dim(1));
        match time.form {
            Form::Conv => {
                // A convolution's kernel runs forward in time, from the oldest frame to the present one.
                let response = self.impulse_response(net, frames);
                let kernel = response.chunks_exact(frames).flat_map(|row| row.iter().rev().copied()).collect();
                let kernel = net.constant("H.reversed", &[order, 1, frames], kernel);
                let signal = net.transpose("memory.signal", u, &[0, 2, 1]);
                let m = net.conv("memory", &signal, &kernel, None, &Window::new(&[frames]).pads(frames - 1, 0), 1);
                net.transpose("memory.rows", &m, &[0, 2, 1])
            }
            Form::Fft => {
                let m = self.spectral(net, u);
                net.transpose("memory.rows", &m, &[0, 2, 1])
            }
            Form::Custom => {
                let a = net.constant("A", &[order, order], self.a.clone());
                let b = net.constant("B", &[order], self.b.clone());
                net.count_macs(frames * (order * order + order));
                net.own_nodes("LegendreMemory", "memory", &[Some(u), Some(&a), Some(&b)], &[], &[&[1, frames, order]])
                    .remove(0)
            }
            Form::Scan | Form::Loop | Form::Unrolled | Form::Step => {
                let a = net.constant("A.T", &[order, order], transposed(&self.a, order));
                let b = net.constant("B.T", &[1, order], self.b.clone());
                let signal = net.transpose("memory.signal", u, &[1, 0, 2]);
                let m = time.recurrence(net, "memory", ("memory", &[1, order]), &[("u", &signal)], |net, m, slices| {
                    let kept = net.matmul("kept", m, &a);
                    let added = net.matmul("added", &slices[0], &b);
                    let next = net.add("next", &kept, &added);
                    // Two outputs of a body cannot be one value.
                    let output = net.unary("Identity", "output", &next);
                    [next, output]
                });
                net.transpose("memory.rows", &m, &[1, 0, 2])
            }
        }
    }

    /// What the memory holds of a signal that is 1 with the probability `rate` in each frame, independently: mean and
    /// variance of every coefficient after a window.
    pub fn moments(&self, rate: f64) -> Vec<(f64, f64)> {
        let response = legendre::impulse_response(&self.a, &self.b, self.theta);
        let moments = |row: &[f64]| {
            (rate * row.iter().sum::<f64>(), rate * (1.0 - rate) * row.iter().map(|h| h * h).sum::<f64>())
        };
        response.chunks_exact(self.theta).map(moments).collect()
    }

    /// `[order, frames]`; nothing in a run that only counts.
    fn impulse_response(&self, net: &Net<'_>, frames: usize) -> Vec<f32> {
        if net.is_dry() {
            return Vec::new();
        }
        legendre::impulse_response(&self.a, &self.b, frames).into_iter().map(|v| v as f32).collect()
    }

    /// The convolution with the impulse response as a product of spectra, over twice the sequence, so that its end does
    /// not run into its beginning. Returns `[1, order, time]`.
    fn spectral(&self, net: &mut Net<'_>, u: &Value) -> Value {
        let (order, frames) = (self.order, u.dim(1));
        let n = 2 * frames;
        let length = net.int(n as i64);
        let dft = |net: &mut Net<'_>, name: &str, x: &Value, inverse: i64| {
            let attributes = [("axis", Attribute::Int(2)), ("inverse", Attribute::Int(inverse))];
            net.node("DFT", name, &[x, &length], &attributes, &[1, x.dim(1), n, 2])
        };
        let spectrum = |net: &mut Net<'_>, name: &str, x: &Value| {
            let bins = dft(net, name, x, 0);
            [("real", 0), ("imaginary", 1)].map(|(part, at)| net.slice(&format!("{name}.{part}"), &bins, 3, at, at + 1))
        };
        let response = self.impulse_response(net, frames);
        let response = net.constant("H", &[1, order, frames, 1], response);
        let [h_re, h_im] = spectrum(net, "fft_H", &response);
        let signal = net.reshape("memory.signal", u, &[1, 1, frames, 1]);
        let [u_re, u_im] = spectrum(net, "memory.fft", &signal);
        let mut mul = |name: &str, u: &Value, h: &Value| net.mul(&format!("memory.{name}"), u, h);
        let (re_re, im_im) = (mul("re_re", &u_re, &h_re), mul("im_im", &u_im, &h_im));
        let (re_im, im_re) = (mul("re_im", &u_re, &h_im), mul("im_re", &u_im, &h_re));
        let re = net.sub("memory.real", &re_re, &im_im);
        let im = net.add("memory.imaginary", &re_im, &im_re);
        let product = net.concat("memory.product", &[&re, &im], 3);
        let back = dft(net, "memory.inverse", &product, 1);
        let real = net.slice("memory.inverse.real", &back, 3, 0, 1);
        let real = net.squeeze("memory.squeeze", &real, &[3]);
        net.slice("memory", &real, 2, 0, frames)
    }
}
