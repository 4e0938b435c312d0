//! Layers with the parameters, names and defaults of PyTorch's modules.

use super::net::{Attribute, Net, Value};
use super::ops::Window;
use super::weights::{Init, Role, StateType};

/// A convolution (`Conv1d`, `Conv2d`, `ConvTranspose2d`).
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    out: usize,
    window: Window,
    group: usize,
    bias: bool,
    gain: f64,
}

impl Conv {
    /// A convolution to `out` channels, with a bias.
    pub fn new(out: usize, window: Window) -> Self {
        Conv { out, window, group: 1, bias: true, gain: 1.0 }
    }

    /// A convolution of single pixels of a picture.
    pub fn pointwise(out: usize) -> Self {
        Conv::new(out, Window::square(1))
    }

    /// Channels in this many groups.
    pub fn group(mut self, group: usize) -> Self {
        self.group = group;
        self
    }

    /// Without bias.
    pub fn no_bias(mut self) -> Self {
        self.bias = false;
        self
    }

    /// Seeded weights larger by this factor than `1 / √fan_in`.
    pub fn gain(mut self, gain: f64) -> Self {
        self.gain = gain;
        self
    }
}

/// A linear layer (`Linear`).
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    out: usize,
    bias: Option<Init>,
    gain: f64,
}

impl Linear {
    /// A layer with `out` outputs and a bias.
    pub fn new(out: usize) -> Self {
        Linear { out, bias: Some(SHIFT), gain: 1.0 }
    }

    /// Without bias.
    pub fn no_bias(mut self) -> Self {
        self.bias = None;
        self
    }

    /// A seeded bias drawn in this way.
    pub fn bias(mut self, init: Init) -> Self {
        self.bias = Some(init);
        self
    }

    /// Seeded weights larger by this factor than `1 / √fan_in`.
    pub fn gain(mut self, gain: f64) -> Self {
        self.gain = gain;
        self
    }
}

/// Seeded scales of norms and channels: around 1, different in each.
pub const SCALE: Init = Init::Uniform { low: 0.5, high: 1.5 };
/// Seeded shifts: around 0, small.
pub const SHIFT: Init = Init::Uniform { low: -0.3, high: 0.3 };

/// How the numbers of a BatchNorm are drawn; by default scales and variances around 1, shifts and means around 0.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNorm {
    /// Its weight.
    pub scale: Init,
    /// Its bias.
    pub shift: Init,
    /// The recorded mean.
    pub mean: Init,
    /// The recorded variance.
    pub variance: Init,
}

impl Default for BatchNorm {
    fn default() -> Self {
        BatchNorm { scale: SCALE, shift: SHIFT, mean: SHIFT, variance: SCALE }
    }
}

impl Net<'_> {
    /// A convolution of `x` `[batch, channels, …]` with the parameters `NAME.weight` and `NAME.bias`.
    pub fn conv_layer(&mut self, name: &str, x: &Value, conv: &Conv) -> Value {
        let shape = [&[conv.out, x.dim(1) / conv.group], conv.window.kernel()].concat();
        let weight = self.weight(&format!("{name}.weight"), &shape, &Init::FanIn(conv.gain));
        let bias = conv.bias.then(|| self.weight(&format!("{name}.bias"), &[conv.out], &SHIFT));
        self.conv(name, x, &weight, bias.as_ref(), &conv.window, conv.group)
    }

    /// A transposed convolution of `x` `[batch, channels, …]`; its weight is `[in, out, …]`.
    pub fn conv_transpose_layer(&mut self, name: &str, x: &Value, conv: &Conv, output_padding: usize) -> Value {
        let shape = [&[x.dim(1), conv.out], conv.window.kernel()].concat();
        // One output sums over all input channels, and over those elements of the kernel that its stride leaves.
        let reached: usize = conv.window.kernel().iter().map(|k| k.div_ceil(conv.window.stride)).product();
        let std = conv.gain / ((x.dim(1) * reached) as f64).sqrt();
        let weight = self.weight(&format!("{name}.weight"), &shape, &Init::Normal { mean: 0.0, std });
        let bias = conv.bias.then(|| self.weight(&format!("{name}.bias"), &[conv.out], &SHIFT));
        self.conv_transpose(name, x, &weight, bias.as_ref(), &conv.window, output_padding)
    }

    /// A linear layer over the last axis, with the parameters `NAME.weight` `[out, in]` and `NAME.bias`. A matrix goes
    /// through Gemm; anything else, as PyTorch exports it, through MatMul with the weight transposed (`NAME.weight.T`).
    pub fn linear(&mut self, name: &str, x: &Value, linear: &Linear) -> Value {
        let (k, out) = (x.dim(-1), linear.out);
        let (weight_name, bias_name) = (format!("{name}.weight"), format!("{name}.bias"));
        let init = Init::FanIn(linear.gain);
        if x.shape().len() == 2 {
            let weight = self.weight(&weight_name, &[out, k], &init);
            let bias = linear.bias.as_ref().map(|init| self.weight(&bias_name, &[out], init));
            return self.gemm(name, x, &weight, bias.as_ref());
        }
        let numbers = self.numbers(&weight_name, &[out, k], Role::Parameter, &init);
        let weight = self.constant(&format!("{weight_name}.T"), &[k, out], transposed(&numbers, k));
        let bias = linear.bias.as_ref().map(|init| self.weight(&bias_name, &[out], init));
        let product = self.matmul(name, x, &weight);
        match bias {
            Some(bias) => self.add(&format!("{name}.add"), &product, &bias),
            None => product,
        }
    }

    /// BatchNorm over the channels of `x` `[batch, channels, …]` with its recorded statistics (epsilon 1e-5 is
    /// PyTorch's).
    pub fn batch_norm(&mut self, name: &str, x: &Value, epsilon: f32) -> Value {
        self.batch_norm_drawn(name, x, epsilon, &BatchNorm::default())
    }

    /// The same with numbers drawn as `drawn` says.
    pub fn batch_norm_drawn(&mut self, name: &str, x: &Value, epsilon: f32, drawn: &BatchNorm) -> Value {
        let shape = [x.dim(1)];
        let scale = self.weight(&format!("{name}.weight"), &shape, &drawn.scale);
        let shift = self.weight(&format!("{name}.bias"), &shape, &drawn.shift);
        let mean = self.buffer(&format!("{name}.running_mean"), &shape, &drawn.mean);
        let variance = self.buffer(&format!("{name}.running_var"), &shape, &drawn.variance);
        self.unused(&format!("{name}.num_batches_tracked"), &[], StateType::Int64);
        let inputs = [x, &scale, &shift, &mean, &variance];
        self.node("BatchNormalization", name, &inputs, &[("epsilon", Attribute::Float(epsilon))], x.shape())
    }

    /// GroupNorm with one group: over all of `[channels, …]`, then a scale and a shift for each channel. Written as
    /// PyTorch exports it: InstanceNormalization between two Reshapes, Mul, Add.
    pub fn group_norm(&mut self, name: &str, x: &Value, epsilon: f32) -> Value {
        let channels = x.dim(1);
        let per_channel = [&[channels][..], &vec![1; x.shape().len() - 2]].concat();
        let scale = self.numbers(&format!("{name}.weight"), &[channels], Role::Parameter, &SCALE);
        let shift = self.numbers(&format!("{name}.bias"), &[channels], Role::Parameter, &SHIFT);
        let scale = self.constant(&format!("{name}.weight"), &per_channel, scale);
        let shift = self.constant(&format!("{name}.bias"), &per_channel, shift);
        let (one, zero) = (self.floats(&[1.0]), self.floats(&[0.0]));
        let elements = x.shape()[1..].iter().product();
        let flat = self.reshape(&format!("{name}.flat"), x, &[x.dim(0), 1, elements]);
        let attributes = [("epsilon", Attribute::Float(epsilon))];
        let normed = self.node("InstanceNormalization", name, &[&flat, &one, &zero], &attributes, flat.shape());
        let back = self.reshape(&format!("{name}.back"), &normed, x.shape());
        let scaled = self.mul(&format!("{name}.scale"), &back, &scale);
        self.add(&format!("{name}.shift"), &scaled, &shift)
    }

    /// LayerNorm over the last axis, with `NAME.weight` and, if it has one, `NAME.bias`.
    pub fn layer_norm(&mut self, name: &str, x: &Value, bias: bool, epsilon: f32) -> Value {
        let shape = [x.dim(-1)];
        let scale = self.weight(&format!("{name}.weight"), &shape, &SCALE);
        let shift = bias.then(|| self.weight(&format!("{name}.bias"), &shape, &SHIFT));
        let inputs: Vec<&Value> = [x, &scale].into_iter().chain(shift.as_ref()).collect();
        let attributes = [("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(epsilon))];
        self.node("LayerNormalization", name, &inputs, &attributes, x.shape())
    }

    /// x · sigmoid(x), written out as PyTorch exports it: Sigmoid, Mul.
    pub fn silu(&mut self, name: &str, x: &Value) -> Value {
        let sigmoid = self.sigmoid(&format!("{name}.sigmoid"), x);
        self.mul(name, x, &sigmoid)
    }

    /// RMSNorm over the last axis with `NAME.weight`, written out as PyTorch exports it: x / √(mean(x²) + epsilon),
    /// scaled.
    pub fn rms_norm(&mut self, name: &str, x: &Value, epsilon: f32) -> Value {
        let scale = self.weight(&format!("{name}.weight"), &[x.dim(-1)], &SCALE);
        let (two, epsilon) = (self.scalar(2.0), self.scalar(epsilon));
        let square = self.pow(&format!("{name}.square"), x, &two);
        let mean = self.reduce_mean(&format!("{name}.mean"), &square, &[-1], true);
        let sum = self.add(&format!("{name}.add"), &mean, &epsilon);
        let root = self.unary("Sqrt", &format!("{name}.sqrt"), &sum);
        let normed = self.div(&format!("{name}.div"), x, &root);
        self.mul(name, &normed, &scale)
    }

    /// PReLU with one slope for all channels, `NAME.weight` `[1]`.
    pub fn prelu(&mut self, name: &str, x: &Value) -> Value {
        let slope =
            self.numbers(&format!("{name}.weight"), &[1], Role::Parameter, &Init::Uniform { low: 0.05, high: 0.4 });
        let slope = self.constant(&format!("{name}.weight"), &vec![1; x.shape().len() - 1], slope);
        self.binary("PRelu", name, x, &slope)
    }

    /// The exact GELU, x · Φ(x), written out as PyTorch exports it before operator set 20: Div, Erf, Add, Mul, Mul.
    pub fn gelu(&mut self, name: &str, x: &Value) -> Value {
        let (root, one, half) = (self.scalar(std::f32::consts::SQRT_2), self.scalar(1.0), self.scalar(0.5));
        let scaled = self.div(&format!("{name}.div"), x, &root);
        let erf = self.unary("Erf", &format!("{name}.erf"), &scaled);
        let sum = self.add(&format!("{name}.add"), &erf, &one);
        let product = self.mul(&format!("{name}.mul"), x, &sum);
        self.mul(name, &product, &half)
    }
}

/// A row-major matrix of rows of length `columns`, transposed. Nothing, if there are no numbers.
pub fn transposed(numbers: &[f32], columns: usize) -> Vec<f32> {
    let rows = numbers.len() / columns;
    (0..numbers.len()).map(|i| numbers[i % rows * columns + i / rows]).collect()
}
