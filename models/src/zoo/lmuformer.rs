//! LMUFormer (Liu et al., ICLR 2024): convolutions over time, one block whose token mixer is a Legendre memory unit,
//! and a mean over time.
//!
//! Input `frames` `[1, time, mels]`, output `logits` `[1, classes]`. The released network pads its convolutions on both
//! sides; causal, it looks back only and runs on a stream: in the step form, input `frame` `[1, mels]`, with the states
//! `conv0` … `conv3`, `rpe` (two frames each), `memory`, `sum` and `count`, and `logits` is the answer for the frames
//! so far.

use super::layers::BatchNorm;
use super::legendre_memory::LegendreMemory;
use super::recurrence::{Form, Reach, Time};
use super::{Architecture, Conv, Error, Init, Linear, Net, Options, Value, Window};

/// Epsilon of the BatchNorms.
const EPSILON: f32 = 1e-5;
/// Frames of a convolution over time.
pub(super) const KERNEL: usize = 3;
/// Seeded weights before a ReLU are larger by this, so that its output is as large as its input.
const RELU_GAIN: f64 = std::f64::consts::SQRT_2;

/// Sizes of an LMUFormer or sLMUFormer.
pub struct Sizes {
    /// Frames of a sequence, and of the memory's window.
    pub(super) frames: usize,
    /// Mel bands of a frame.
    pub(super) mels: usize,
    /// Channels.
    pub(super) width: usize,
    /// Coefficients of the memory.
    pub(super) order: usize,
    /// Channels inside the MLP, as a multiple of `width`.
    pub(super) ratio: usize,
    pub(super) classes: usize,
}

impl Sizes {
    /// Those of the paper for Speech Commands.
    pub(super) const fn full(order: usize) -> Self {
        Sizes { frames: 128, mels: 128, width: 256, order, ratio: 4, classes: 35 }
    }

    /// Small ones.
    pub(super) const fn tiny(order: usize) -> Self {
        Sizes { frames: 16, mels: 20, width: 16, order, ratio: 2, classes: 5 }
    }

    /// The input as `[1, mels, time]`.
    pub(super) fn input(&self, net: &mut Net<'_>, options: &Options, time: &Time) -> Value {
        let (frames, mels) = options.size_or((self.frames, self.mels));
        if time.is_step() {
            let frame = net.input("frame", &[1, mels]);
            return net.unsqueeze("frame.unsqueeze", &frame, &[2]);
        }
        let frames = net.input("frames", &[1, frames, mels]);
        net.transpose("frames.transpose", &frames, &[0, 2, 1])
    }

    /// The head over `x` `[1, time, width]`: `head` to classes, and their mean over time, which is the sum and the
    /// count so far in the step form.
    pub(super) fn output(&self, net: &mut Net<'_>, mut time: Time, x: &Value) {
        let scores = net.linear("head", x, &Linear::new(self.classes));
        if !time.is_step() {
            let logits = net.reduce_mean("mean", &scores, &[1], false);
            net.output("logits", &logits);
            return;
        }
        let scores = net.squeeze("head.squeeze", &scores, &[1]);
        let (sum, count, one) =
            (time.state(net, "sum", &[1, self.classes]), time.state(net, "count", &[1, 1]), net.scalar(1.0));
        let sum = net.add("mean.sum", &sum, &scores);
        let count = net.add("mean.count", &count, &one);
        let logits = net.div("mean", &sum, &count);
        net.output("logits", &logits);
        time.keep("sum", sum);
        time.keep("count", count);
        time.finish(net);
    }
}

/// Statistics of what ReLU leaves of normal numbers with the standard deviation √2: the mean 1/√π, and the variance 1 −
/// 1/π. Without them a mean would grow from layer to layer until no input mattered any more.
fn behind_relu() -> BatchNorm {
    BatchNorm {
        mean: Init::Uniform { low: 0.46, high: 0.66 },
        variance: Init::Uniform { low: 0.5, high: 0.9 },
        ..BatchNorm::default()
    }
}

/// Why a form cannot be had.
pub(super) fn refused(form: Form, causal: bool) -> Option<&'static str> {
    let look_ahead = "a step sees one frame, and convolutions padded on both sides need later ones; build it causal";
    (form == Form::Step && !causal).then_some(look_ahead)
}

/// An LMUFormer.
pub struct LmuFormer {
    sizes: Sizes,
    causal: bool,
}

/// The paper's network.
pub const fn full(causal: bool) -> LmuFormer {
    LmuFormer { sizes: Sizes::full(256), causal }
}

/// The same with few channels.
pub const fn tiny(causal: bool) -> LmuFormer {
    LmuFormer { sizes: Sizes::tiny(16), causal }
}

impl Architecture for LmuFormer {
    fn build(&self, net: &mut Net<'_>, options: &Options) -> Result<(), Error> {
        let mut time = Time::new(options.form.unwrap_or_default());
        let reach = if self.causal || options.causal { Reach::Back } else { Reach::Both };
        let x = self.sizes.input(net, options, &time);
        let x = net.scope("patch_embed", |net| self.patch_embed(net, &mut time, &x, reach));
        let x = net.scope("block.0", |net| {
            let mixed = net.scope("attn", |net| self.token_mixer(net, &mut time, &x));
            let x = net.add("attn.add", &x, &mixed);
            let y = net.scope("mlp", |net| self.mlp(net, &x));
            net.add("mlp.add", &x, &y)
        });
        let x = net.transpose("rows", &x, &[0, 2, 1]);
        self.sizes.output(net, time, &x);
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

impl LmuFormer {
    /// Four convolutions, and one that adds the position. `[1, mels, time]` to `[1, width, time]`.
    fn patch_embed(&self, net: &mut Net<'_>, time: &mut Time, x: &Value, reach: Reach) -> Value {
        let width = self.sizes.width;
        let mut x = x.clone();
        for i in 0..4 {
            x = net.scope(format!("conv_layers.{i}"), |net| {
                let layer = |window| Conv::new(width, window).no_bias().gain(RELU_GAIN);
                let y = time.conv_layer(net, "0", &format!("conv{i}"), &x, KERNEL, reach, layer);
                let y = net.relu("relu", &y);
                net.batch_norm_drawn("3", &y, EPSILON, &behind_relu())
            });
        }
        let position =
            time.conv_layer(net, "rpe_conv", "rpe", &x, KERNEL, reach, |window| Conv::new(width, window).no_bias());
        net.add("add", &x, &position)
    }

    /// The memory unit: a signal from `x` `[1, width, time]`, its memory, and a layer over the memory and `x`.
    fn token_mixer(&self, net: &mut Net<'_>, time: &mut Time, x: &Value) -> Value {
        let Sizes { frames, width, order, .. } = self.sizes;
        let h = net.scope("lmu", |net| {
            let x = net.transpose("rows", x, &[0, 2, 1]);
            // A seeded signal is not to be silent, whatever the seed.
            let signal = Linear::new(1).bias(Init::Uniform { low: 0.5, high: 1.5 });
            let u = net.linear("W_u", &x, &signal);
            let u = net.relu("W_u.relu", &u);
            let m = LegendreMemory::new(net, order, frames).build(net, time, &u);
            let joined = net.concat("concat", &[&m, &x], -1);
            let h = net.linear("W_h", &joined, &Linear::new(width).gain(RELU_GAIN));
            let h = net.relu("W_h.relu", &h);
            net.transpose("columns", &h, &[0, 2, 1])
        });
        let y = net.conv_layer("proj_conv", &h, &Conv::new(width, Window::new(&[1])));
        net.batch_norm("proj_bn", &y, EPSILON)
    }

    fn mlp(&self, net: &mut Net<'_>, x: &Value) -> Value {
        let Sizes { width, ratio, .. } = self.sizes;
        let y = net.conv_layer("fc1_conv", x, &Conv::new(ratio * width, Window::new(&[1])));
        let y = net.batch_norm("fc1_bn", &y, EPSILON);
        let y = net.gelu("gelu", &y);
        let y = net.conv_layer("fc2_conv", &y, &Conv::new(width, Window::new(&[1])).gain(RELU_GAIN));
        let y = net.batch_norm("fc2_bn", &y, EPSILON);
        net.relu("relu", &y)
    }
}

#[cfg(test)]
mod tests {
    use super::super::recurrence::tests::{built, operators_of};
    use super::super::summary;
    use super::*;

    #[test]
    fn operators_are_those_of_the_form() {
        // Five convolutions over time and three of single frames; three linear layers, and two products a frame for the
        // memory.
        for (form, expected) in [
            (Form::Scan, [("Scan", 1), ("Conv", 8), ("MatMul", 5), ("BatchNormalization", 7)]),
            (Form::Loop, [("Loop", 1), ("Conv", 8), ("MatMul", 5), ("Scan", 0)]),
            (Form::Unrolled, [("Loop", 0), ("Scan", 0), ("Conv", 8), ("MatMul", 3 + 2 * 16)]),
            (Form::Conv, [("Scan", 0), ("Conv", 9), ("MatMul", 3), ("DFT", 0)]),
            (Form::Fft, [("Scan", 0), ("Conv", 8), ("MatMul", 3), ("DFT", 3)]),
            (Form::Custom, [("Scan", 0), ("Conv", 8), ("MatMul", 3), ("LegendreMemory", 1)]),
            (Form::Step, [("Scan", 0), ("Conv", 8), ("MatMul", 5), ("Concat", 6)]),
        ] {
            let operators = operators_of("lmuformer-causal-tiny", form);
            for (op, count) in expected {
                assert_eq!(operators.get(op).copied().unwrap_or(0), count, "{form}: {op}");
            }
        }
    }

    #[test]
    fn own_nodes_declare_their_domain() {
        let domains = |form| {
            let model = built("lmuformer-tiny", form).unwrap().model;
            let graph = model.graph.unwrap();
            let used = graph.node.iter().any(|n| n.op_type == "LegendreMemory" && n.domain == "ai.kinglet");
            (used, model.opset_import.iter().any(|o| o.domain == "ai.kinglet" && o.version == 1))
        };
        assert_eq!(domains(Form::Custom), (true, true));
        assert_eq!(domains(Form::Scan), (false, false));
    }

    #[test]
    fn causal_is_a_choice_and_a_name() {
        let options = Options { causal: true, ..Options::default() };
        let chosen = super::super::build("lmuformer-tiny", &options, &super::super::Source::Seed(5)).unwrap();
        let named = built("lmuformer-causal-tiny", Form::Scan).unwrap();
        let pads = |built: &super::super::Built| -> Vec<Vec<i64>> {
            let nodes = &built.model.graph.as_ref().unwrap().node;
            nodes.iter().flat_map(|n| &n.attribute).filter(|a| a.name == "pads").map(|a| a.ints.clone()).collect()
        };
        let [back, none] = [vec![KERNEL as i64 - 1, 0], vec![0, 0]];
        assert_eq!(pads(&chosen), [vec![back; 5], vec![none; 3]].concat());
        assert_eq!(pads(&chosen), pads(&named));
    }

    #[test]
    fn a_step_of_what_looks_ahead_is_refused() {
        let error = built("lmuformer", Form::Step).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("`lmuformer`") && error.contains("causal"), "{error}");
    }

    /// Multiply-accumulates without the memory, with its recurrence, and with its impulse response.
    #[test]
    fn counts_of_the_forms() {
        let macs = |form| summary("lmuformer", &Options { form: Some(form), ..Options::default() }).unwrap().macs;
        let (frames, order) = (128, 256);
        let memory = frames * (order * order + order);
        let convolutions = 3 * 256 * (128 + 4 * 256);
        let products = 256 + 512 * 256 + 256 * 256 + 2 * 1024 * 256 + 256 * 35;
        assert_eq!(macs(Form::Fft), frames * (convolutions + products));
        assert_eq!(macs(Form::Conv), macs(Form::Fft) + frames * frames * order);
        for form in [Form::Scan, Form::Loop, Form::Unrolled, Form::Custom] {
            assert_eq!(macs(form), macs(Form::Fft) + memory, "{form}");
        }
        // A frame costs what a sequence costs, divided by its frames: the published network streams.
        let step = Options { form: Some(Form::Step), causal: true, ..Options::default() };
        assert_eq!(summary("lmuformer", &step).unwrap().macs * frames, macs(Form::Scan));
    }

    #[test]
    fn sizes_are_frames_and_mel_bands() {
        let options = Options { size: Some((50, 40)), ..Options::default() };
        assert_eq!(summary("lmuformer", &options).unwrap().inputs, [("frames".to_string(), vec![1, 50, 40])]);
        assert_eq!(full(false).width_of(50), 128);
    }
}
