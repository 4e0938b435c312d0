//! sLMUFormer, the spiking LMUFormer (Liu et al., ICLR 2024): every layer but the memory itself gives spikes, 0 or 1,
//! of leaky integrate-and-fire neurons.
//!
//! Inputs, outputs and states are those of LMUFormer (`lmuformer.rs`); besides, in the step form, the membrane
//! potentials of the eleven layers of neurons: `v_proj0` … `v_proj3`, `v_prev`, `v_u`, `v_m`, `v_h`, `v_fc1`, `v_fc2`,
//! `v_head`.

use kinglet_onnx::DataType;

use super::layers::BatchNorm;
use super::legendre_memory::LegendreMemory;
use super::lmuformer::{KERNEL, Sizes, refused};
use super::recurrence::{Form, Reach, Time};
use super::{Architecture, Attribute, Conv, Error, Init, Linear, Net, Options, Value, Window};

/// Epsilon of the BatchNorms.
const EPSILON: f32 = 1e-5;
/// Time constant of the neurons in frames: the potential moves by `1 / TAU` of the way to its input.
const TAU: f32 = 2.0;
/// Potential at which a neuron fires.
const THRESHOLD: f32 = 1.0;
/// The same for the neurons before the memory unit.
const PREVIOUS_THRESHOLD: f32 = 0.5;

/// Seeded weights of what feeds neurons are larger by these, so that neurons fire, and not always. Spikes are rare: a
/// sum over them is smaller than one over signals.
const SIGNAL_GAIN: f64 = 3.0;
const SPIKE_GAIN: f64 = 5.0;
/// Share of the frames in which the signal neuron of a seeded model is meant to fire.
const SIGNAL_RATE: f64 = 0.25;

/// An sLMUFormer.
pub struct SpikingLmuFormer {
    sizes: Sizes,
    causal: bool,
}

/// The paper's network.
pub const fn full(causal: bool) -> SpikingLmuFormer {
    SpikingLmuFormer { sizes: Sizes::full(512), causal }
}

/// The same with few channels.
pub const fn tiny(causal: bool) -> SpikingLmuFormer {
    SpikingLmuFormer { sizes: Sizes::tiny(32), causal }
}

impl Architecture for SpikingLmuFormer {
    fn build(&self, net: &mut Net<'_>, options: &Options) -> Result<(), Error> {
        let mut time = Time::new(options.form.unwrap_or_default());
        let reach = if self.causal || options.causal { Reach::Back } else { Reach::Both };
        let x = self.sizes.input(net, options, &time);
        let x = net.scope("patch_embed", |net| self.patch_embed(net, &mut time, &x, reach));
        let x = net.scope("block.0", |net| {
            let mixed = net.scope("attn", |net| self.token_mixer(net, &mut time, &x));
            let x = net.add("attn.add", &x, &mixed);
            let y = net.scope("mlp", |net| self.mlp(net, &mut time, &x));
            net.add("mlp.add", &x, &y)
        });
        let x = net.batch_norm("head_bn", &x, EPSILON);
        let spikes = neurons(net, &mut time, "head_lif", "v_head", &x, THRESHOLD);
        let spikes = net.transpose("rows", &spikes, &[0, 2, 1]);
        self.sizes.output(net, time, &spikes);
        Ok(())
    }

    fn refuses_causal(&self) -> Option<&'static str> {
        None
    }

    fn refuses_form(&self, form: Form, options: &Options) -> Option<&'static str> {
        refused(form, self.causal || options.causal)
    }

    fn width_of(&self, _frames: usize) -> usize {
        self.sizes.mels
    }
}

impl SpikingLmuFormer {
    /// Four convolutions with neurons; to what the last gives before them, a convolution of its spikes adds the
    /// position. `[1, mels, time]` to `[1, width, time]`.
    fn patch_embed(&self, net: &mut Net<'_>, time: &mut Time, x: &Value, reach: Reach) -> Value {
        let width = self.sizes.width;
        let (mut x, mut spikes) = (x.clone(), x.clone());
        for (i, suffix) in ["", "1", "2", "3"].into_iter().enumerate() {
            let layer = |window| Conv::new(width, window).no_bias().gain(if i == 0 { SIGNAL_GAIN } else { SPIKE_GAIN });
            let (conv, state) = (format!("proj_conv{suffix}"), format!("conv{i}"));
            x = time.conv_layer(net, &conv, &state, &spikes, KERNEL, reach, layer);
            let normed = net.batch_norm(&format!("proj_bn{suffix}"), &x, EPSILON);
            spikes = neurons(net, time, &format!("proj_lif{suffix}"), &format!("v_proj{i}"), &normed, THRESHOLD);
        }
        let layer = |window| Conv::new(width, window).no_bias();
        let position = time.conv_layer(net, "rpe_conv", "rpe", &spikes, KERNEL, reach, layer);
        net.add("add", &x, &position)
    }

    /// The memory unit, between neurons. `x` is `[1, width, time]`.
    fn token_mixer(&self, net: &mut Net<'_>, time: &mut Time, x: &Value) -> Value {
        let Sizes { frames, width, order, .. } = self.sizes;
        let normed = net.batch_norm("prev_bn", x, EPSILON);
        let x = neurons(net, time, "prev_lif", "v_prev", &normed, PREVIOUS_THRESHOLD);
        let h = net.scope("lmu", |net| {
            let x = net.transpose("rows", &x, &[0, 2, 1]);
            let u = net.linear("W_u", &x, &Linear::new(1).gain(0.25).bias(near(0.0)));
            let u = net.transpose("W_u.columns", &u, &[0, 2, 1]);
            let u = net.batch_norm_drawn("bn_u", &u, EPSILON, &signal_statistics());
            let u = neurons(net, time, "lif_u", "v_u", &u, THRESHOLD);
            let u = net.transpose("lif_u.rows", &u, &[0, 2, 1]);
            let memory = LegendreMemory::new(net, order, frames);
            let m = memory.build(net, time, &u);
            let m = net.transpose("memory.columns", &m, &[0, 2, 1]);
            let statistics = memory_statistics(net, &memory);
            let m = net.batch_norm_drawn("bn_m", &m, EPSILON, &statistics);
            let m = neurons(net, time, "lif_m", "v_m", &m, THRESHOLD);
            let m = net.transpose("lif_m.rows", &m, &[0, 2, 1]);
            let joined = net.concat("concat", &[&m, &x], -1);
            let h = net.linear("W_h", &joined, &Linear::new(width).gain(SPIKE_GAIN));
            let h = net.transpose("W_h.columns", &h, &[0, 2, 1]);
            let h = net.batch_norm("bn_h", &h, EPSILON);
            neurons(net, time, "lif_h", "v_h", &h, THRESHOLD)
        });
        let y = net.conv_layer("proj_conv", &h, &Conv::new(width, Window::new(&[1])).gain(SPIKE_GAIN));
        net.batch_norm("proj_bn", &y, EPSILON)
    }

    fn mlp(&self, net: &mut Net<'_>, time: &mut Time, x: &Value) -> Value {
        let Sizes { width, ratio, .. } = self.sizes;
        let y = net.batch_norm("fc1_bn", x, EPSILON);
        let y = neurons(net, time, "fc1_lif", "v_fc1", &y, THRESHOLD);
        let y = net.conv_layer("fc1_conv", &y, &Conv::new(ratio * width, Window::new(&[1])).gain(SPIKE_GAIN));
        let y = net.batch_norm("fc2_bn", &y, EPSILON);
        let y = neurons(net, time, "fc2_lif", "v_fc2", &y, THRESHOLD);
        net.conv_layer("fc2_conv", &y, &Conv::new(width, Window::new(&[1])).gain(SPIKE_GAIN))
    }
}

/// Leaky integrate-and-fire neurons over `x` `[1, channels, time]`: the potential `v ← v + (x − v) / τ`; where it
/// reaches the threshold, the neuron gives 1 and starts again from 0, else it gives 0. `state` is the name of the
/// potential.
fn neurons(net: &mut Net<'_>, time: &mut Time, name: &str, state: &str, x: &Value, threshold: f32) -> Value {
    let frames = net.transpose(&format!("{name}.frames"), x, &[2, 0, 1]);
    let spikes = time.recurrence(net, name, (state, &[1, x.dim(1)]), &[("x", &frames)], |net, v, slices| {
        let (tau, threshold, one) = (net.scalar(TAU), net.scalar(threshold), net.scalar(1.0));
        let difference = net.sub("difference", &slices[0], v);
        let moved = net.div("moved", &difference, &tau);
        let v = net.add("potential", v, &moved);
        let fires = net.compare("GreaterOrEqual", "fires", &v, &threshold);
        let spikes =
            net.node("Cast", "spikes", &[&fires], &[("to", Attribute::Int(DataType::Float as i64))], v.shape());
        let rests = net.sub("rests", &one, &spikes);
        let next = net.mul("reset", &v, &rests);
        [next, spikes]
    });
    net.transpose(&format!("{name}.columns"), &spikes, &[1, 2, 0])
}

fn near(value: f64) -> Init {
    Init::Uniform { low: value - 0.05, high: value + 0.05 }
}

/// The one signal neuron of a seeded model is not to be silent, whatever the seed: about 1.2 makes it fire in every
/// third frame, as 1.2 · (1 − 2⁻³) ≥ 1.
fn signal_statistics() -> BatchNorm {
    BatchNorm { scale: near(1.0), shift: near(1.2), mean: near(0.0), variance: near(1.0) }
}

/// Statistics of the memory of a seeded model: those of a signal that fires at [`SIGNAL_RATE`].
fn memory_statistics(net: &Net<'_>, memory: &LegendreMemory) -> BatchNorm {
    let scale = Init::Uniform { low: 2.0, high: 4.5 };
    if !net.is_seeded() {
        return BatchNorm { scale, ..BatchNorm::default() };
    }
    let (mean, variance) = memory.moments(SIGNAL_RATE).into_iter().map(|(m, v)| (m as f32, v as f32)).unzip();
    BatchNorm { scale, mean: Init::Values(mean), variance: Init::Values(variance), ..BatchNorm::default() }
}

#[cfg(test)]
mod tests {
    use super::super::recurrence::tests::operators_of;
    use super::*;

    #[test]
    fn operators_are_those_of_the_form() {
        // Eleven layers of neurons and the memory.
        for (form, expected) in [
            (Form::Scan, [("Scan", 12), ("Loop", 0), ("GreaterOrEqual", 11), ("MatMul", 5)]),
            (Form::Loop, [("Scan", 0), ("Loop", 12), ("GreaterOrEqual", 11), ("MatMul", 5)]),
            (Form::Unrolled, [("Scan", 0), ("Loop", 0), ("GreaterOrEqual", 11 * 16), ("MatMul", 3 + 2 * 16)]),
            (Form::Conv, [("Scan", 11), ("DFT", 0), ("Conv", 9), ("MatMul", 3)]),
            (Form::Fft, [("Scan", 11), ("DFT", 3), ("Conv", 8), ("MatMul", 3)]),
            (Form::Custom, [("Scan", 11), ("LegendreMemory", 1), ("Conv", 8), ("MatMul", 3)]),
            (Form::Step, [("Scan", 0), ("Loop", 0), ("GreaterOrEqual", 11), ("MatMul", 5)]),
        ] {
            let operators = operators_of("slmuformer-causal-tiny", form);
            for (op, count) in expected {
                assert_eq!(operators.get(op).copied().unwrap_or(0), count, "{form}: {op}");
            }
        }
    }
}
