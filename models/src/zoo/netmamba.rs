//! NetMamba (Wang et al. 2024): traffic classification by selective scans, its classifier as fine-tuned.
//!
//! Input `bytes` `[1, 1, height, width]`: the first packets of a flow, row by row, divided by 255; output `logits`
//! `[1, classes]`. A token is a stride of four bytes; the class token comes last and carries the answer. In the step
//! form one token: input `bytes` `[1, 4]` and `position` `[1]` i64; at the position behind the last stride the class
//! token takes the bytes' place, and `logits` is the answer. States of block `i`: `conv{i}` `[1, inner, 3]` and
//! `ssm{i}` `[1, inner, state]`.

use kinglet_onnx::DataType;

use super::recurrence::{Form, Reach, Time};
use super::{Architecture, Attribute, Conv, Error, Init, Linear, Net, Options, SCALE, Value, Window};

/// Epsilon of the RMSNorms.
const EPSILON: f32 = 1e-5;
/// Bytes of a token.
const STRIDE: usize = 4;
/// Frames of the convolution in front of a scan.
const KERNEL: usize = 4;

/// Seeded weights of Δ lie evenly between ±1/√rank in Mamba; these have the same standard deviation.
const DELTA_GAIN: f64 = 0.577;

/// A NetMamba classifier.
pub struct NetMamba {
    size: (usize, usize),
    blocks: usize,
    width: usize,
    /// Channels of a scan.
    inner: usize,
    /// Numbers of the state of a channel.
    state: usize,
    /// Rank of Δ.
    rank: usize,
    classes: usize,
}

/// The paper's network.
pub const FULL: NetMamba =
    NetMamba { size: (40, 40), blocks: 4, width: 256, inner: 512, state: 16, rank: 16, classes: 20 };

/// The same with few channels.
pub const TINY: NetMamba = NetMamba { size: (8, 8), blocks: 2, width: 16, inner: 32, state: 4, rank: 1, classes: 5 };

impl Architecture for NetMamba {
    fn build(&self, net: &mut Net<'_>, options: &Options) -> Result<(), Error> {
        let size = options.size_or(self.size);
        let bytes = size.0 * size.1;
        if !bytes.is_multiple_of(STRIDE) {
            return Err(net.size_error(size, "a token is four bytes: height times width must be a multiple of 4"));
        }
        let mut time = Time::new(options.form.unwrap_or_default());
        let mut x = self.tokens(net, &time, size, bytes / STRIDE);
        for i in 0..self.blocks {
            x = net.scope(format!("blocks.{i}"), |net| {
                let y = net.rms_norm("norm", &x, EPSILON);
                let y = net.scope("mixer", |net| self.mixer(net, &mut time, i, &y));
                net.add("add", &x, &y)
            });
        }
        // The class token is the last, and in the step form the only one.
        let last = net.select("class", &x, 1, x.dim(1) - 1);
        let last = net.rms_norm("norm_f", &last, EPSILON);
        let logits = net.linear("head", &last, &Linear::new(self.classes));
        net.output("logits", &logits);
        time.finish(net);
        Ok(())
    }

    fn refuses_form(&self, form: Form, _options: &Options) -> Option<&'static str> {
        let varies = "its recurrences change with their input, and only a fixed one is a convolution";
        matches!(form, Form::Conv | Form::Fft).then_some(varies)
    }
}

impl NetMamba {
    /// Strides and the class token with their positions, `[1, tokens, width]`.
    fn tokens(&self, net: &mut Net<'_>, time: &Time, (height, columns): (usize, usize), strides: usize) -> Value {
        let width = self.width;
        let small = Init::Normal { mean: 0.0, std: 0.02 };
        let (bytes, position) = if time.is_step() {
            (net.input("bytes", &[1, STRIDE]), Some(net.typed_input("position", &[1], DataType::Int64)))
        } else {
            (net.input("bytes", &[1, 1, height, columns]), None)
        };
        let row = net.reshape("bytes.reshape", &bytes, &[1, 1, bytes.len()]);
        let patches = Conv::new(width, Window::new(&[STRIDE]).stride(STRIDE));
        let x = net.conv_layer("patch_embed.proj", &row, &patches);
        let x = net.transpose("patch_embed.rows", &x, &[0, 2, 1]);
        let class = net.weight("cls_token", &[1, 1, width], &small);
        let positions = net.weight("pos_embed", &[1, strides + 1, width], &small);
        let Some(position) = position else {
            let x = net.concat("tokens", &[&x, &class], 1);
            return net.add("tokens.add", &x, &positions);
        };
        let end = net.int(strides as i64);
        let is_class = net.compare("Equal", "is_class", &position, &end);
        let x = net.choose("token", &is_class, &class, &x);
        let at = net.gather("token.position", &positions, &position, 1);
        net.add("token.add", &x, &at)
    }

    /// Mamba's block: a short convolution and the selective scan on one branch, a gate on the other.
    fn mixer(&self, net: &mut Net<'_>, time: &mut Time, block: usize, x: &Value) -> Value {
        let &NetMamba { width, inner, state, rank, .. } = self;
        let both = net.linear("in_proj", x, &Linear::new(2 * inner).no_bias());
        let branches = net.split("branches", &both, -1, &[inner, inner]);
        let u = net.transpose("conv1d.columns", &branches[0], &[0, 2, 1]);
        let layer = |window| Conv::new(inner, window).group(inner);
        let u = time.conv_layer(net, "conv1d", &format!("conv{block}"), &u, KERNEL, Reach::Back, layer);
        let u = net.silu("conv1d.silu", &u);
        let u = net.transpose("conv1d.rows", &u, &[0, 2, 1]);
        let selected = net.linear("x_proj", &u, &Linear::new(rank + 2 * state).no_bias());
        let selected = net.split("selected", &selected, -1, &[rank, state, state]);
        let delta = net.linear("dt_proj", &selected[0], &Linear::new(inner).gain(DELTA_GAIN).bias(delta_bias()));
        let scan =
            Scan { state_name: format!("ssm{block}"), x: u, delta, b: &selected[1], c: &selected[2], z: &branches[1] };
        let y = scan.build(net, time, state);
        net.linear("out_proj", &y, &Linear::new(width).no_bias())
    }
}

/// Seeded Δ lies between 0.001 and 0.1, as Mamba initialises it: a bias that softplus takes there.
fn delta_bias() -> Init {
    let inverse_softplus = |y: f64| y.exp_m1().ln();
    Init::Uniform { low: inverse_softplus(0.001), high: inverse_softplus(0.1) }
}

/// The operands of a selective scan.
struct Scan<'a> {
    state_name: String,
    /// `[1, time, inner]`.
    x: Value,
    /// Δ before softplus, like `x`.
    delta: Value,
    /// `[1, time, state]`.
    b: &'a Value,
    /// Like `b`.
    c: &'a Value,
    /// The gate, like `x`.
    z: &'a Value,
}

impl Scan<'_> {
    /// `h_t = exp(Δ_t A)·h_{t−1} + Δ_t B_t x_t`, `y_t = C_t·h_t + D x_t`, times `SiLU(z_t)` (Gu and Dao 2023).
    /// Returns `[1, time, inner]`.
    fn build(&self, net: &mut Net<'_>, time: &mut Time, state: usize) -> Value {
        let inner = self.x.dim(-1);
        // As Mamba initialises it: −A is 1 to the size of the state, in every channel.
        let logs = (0..inner * state).map(|at| ((at % state + 1) as f32).ln()).collect();
        let a_log = net.weight("A_log", &[inner, state], &Init::Values(logs));
        let exponential = net.unary("Exp", "A.exp", &a_log);
        let a = net.unary("Neg", "A", &exponential);
        let d = net.weight("D", &[inner], &SCALE);
        if time.form == Form::Custom {
            let operands = [&self.x, &self.delta, &a, self.b, self.c, &d, self.z].map(Some);
            let attributes = [("delta_softplus", Attribute::Int(1))];
            return net.own_nodes("SelectiveScan", "scan", &operands, &attributes, &[self.x.shape()]).remove(0);
        }
        let delta = net.unary("Softplus", "delta", &self.delta);
        let mut frames = |name: &str, x: &Value| net.transpose(&format!("scan.{name}"), x, &[1, 0, 2]);
        let sequences = [frames("x", &self.x), frames("delta", &delta), frames("B", self.b), frames("C", self.c)];
        let names = ["x", "delta", "B", "C"];
        let sequences: Vec<(&str, &Value)> = names.into_iter().zip(&sequences).collect();
        let scanned =
            time.recurrence(net, "scan", (&self.state_name, &[1, inner, state]), &sequences, |net, h, slices| {
                let [x, delta, b, c] = slices else { unreachable!("four sequences") };
                let delta = net.unsqueeze("delta.column", delta, &[2]);
                let exponent = net.mul("exponent", &delta, &a);
                let decay = net.unary("Exp", "decay", &exponent);
                let kept = net.mul("kept", &decay, h);
                let b = net.unsqueeze("B.row", b, &[1]);
                let step = net.mul("step", &delta, &b);
                let x = net.unsqueeze("x.column", x, &[2]);
                let added = net.mul("added", &step, &x);
                let next = net.add("next", &kept, &added);
                let c = net.unsqueeze("C.row", c, &[1]);
                let read = net.mul("read", &next, &c);
                let y = net.reduce_sum("y", &read, 2);
                [next, y]
            });
        let y = net.transpose("scan.rows", &scanned, &[1, 0, 2]);
        let skipped = net.mul("skip", &d, &self.x);
        let y = net.add("skip.add", &y, &skipped);
        let gate = net.silu("gate", self.z);
        net.mul("gated", &y, &gate)
    }
}

#[cfg(test)]
mod tests {
    use super::super::recurrence::tests::{built, operators_of};
    use super::super::summary;
    use super::*;

    #[test]
    fn operators_are_those_of_the_form() {
        // Two blocks, 16 strides and the class token.
        for (form, expected) in [
            (Form::Scan, [("Scan", 2), ("Softplus", 2), ("Conv", 3), ("ReduceSum", 2)]),
            (Form::Loop, [("Loop", 2), ("Softplus", 2), ("Conv", 3), ("ReduceSum", 2)]),
            (Form::Unrolled, [("Loop", 0), ("Scan", 0), ("Conv", 3), ("ReduceSum", 2 * 17)]),
            (Form::Custom, [("SelectiveScan", 2), ("Softplus", 0), ("Conv", 3), ("ReduceSum", 0)]),
            (Form::Step, [("Scan", 0), ("Where", 1), ("Conv", 3), ("ReduceSum", 2)]),
        ] {
            let operators = operators_of("netmamba-tiny", form);
            for (op, count) in expected {
                assert_eq!(operators.get(op).copied().unwrap_or(0), count, "{form}: {op}");
            }
        }
    }

    #[test]
    fn only_linear_memories_are_convolutions() {
        let error = built("netmamba", Form::Conv).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("`netmamba`") && error.contains("convolution"), "{error}");
    }

    /// A step, as published: 1.71 M, where the depthwise convolutions, written as sums, do not count.
    #[test]
    fn a_step_costs_what_was_published() {
        let options = Options { form: Some(Form::Step), ..Options::default() };
        let depthwise = (FULL.blocks * FULL.inner * KERNEL) as u64;
        assert_eq!(summary("netmamba", &options).unwrap().macs - depthwise, 1_710_080);
    }

    #[test]
    fn a_size_must_be_whole_strides() {
        let sized = |size| summary("netmamba", &Options { size: Some(size), ..Options::default() });
        let summary = sized((5, 320)).unwrap();
        let positions = summary.state.iter().find(|t| t.name == "pos_embed").unwrap();
        assert_eq!(positions.shape, [1, 401, 256]);
        let error = sized((5, 321)).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("5x321") && error.contains("multiple of 4"), "{error}");
    }

    #[test]
    fn delta_starts_where_mamba_starts_it() {
        let Init::Uniform { low, high } = delta_bias() else { panic!("uniform") };
        let softplus = |x: f64| x.exp().ln_1p();
        assert!((softplus(low) - 0.001).abs() < 1e-12 && (softplus(high) - 0.1).abs() < 1e-12);
    }
}
