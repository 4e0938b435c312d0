//! The MetaFormer baselines (Yu et al. 2024): one skeleton, five token mixers.
//!
//! Four stages of blocks behind downsampling convolutions. A block is `s₁ · x + mixer(norm₁(x))`, then
//! `s₂ · x + mlp(norm₂(x))`; the scales `s` are in the last two stages only. Its activation is StarReLU,
//! `scale · relu(x)² + bias`. As in the official code blocks work with channels last, `[1, height, width, channels]`.
//!
//! Input `image` `[1, 3, height, width]`, output `logits` `[1, classes]`.

use super::{Architecture, Conv, Error, Init, Linear, Net, Options, SCALE, Value, Window};

/// Epsilon of all norms but the one inside the head.
const EPSILON: f32 = 1e-6;
/// Width of a hidden layer over that of its block.
const MLP_RATIO: usize = 4;
/// Width of a separable convolution over that of its block.
const EXPANSION: usize = 2;

/// What lets positions see each other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mixer {
    /// Nothing.
    Identity,
    /// A random matrix that is never learned, over all positions.
    Random,
    /// Average pooling of 3×3, less the input.
    Pooling,
    /// A depthwise 7×7 convolution between two linear layers.
    SeparableConv,
    /// Self-attention with heads of this width.
    Attention(usize),
}

/// What a norm in a block takes together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Norm {
    /// The whole picture.
    Picture,
    /// The channels of each position.
    Channels,
}

/// A MetaFormer.
pub struct MetaFormer {
    blocks: [usize; 4],
    channels: [usize; 4],
    mixers: [Mixer; 4],
    norm: Norm,
    /// Whether the head is an MLP instead of one linear layer.
    mlp_head: bool,
    classes: usize,
    size: (usize, usize),
}

const SKELETON_12: MetaFormer = MetaFormer {
    blocks: [2, 2, 6, 2],
    channels: [64, 128, 320, 512],
    mixers: [Mixer::Identity; 4],
    norm: Norm::Picture,
    mlp_head: false,
    classes: 1000,
    size: (224, 224),
};
const SKELETON_18: MetaFormer =
    MetaFormer { blocks: [3, 3, 9, 3], norm: Norm::Channels, mlp_head: true, ..SKELETON_12 };
const SMALL: [usize; 4] = [8, 12, 16, 24];
const RANDOM: [Mixer; 4] = [Mixer::Identity, Mixer::Identity, Mixer::Random, Mixer::Random];

const fn attention(head: usize) -> [Mixer; 4] {
    [Mixer::SeparableConv, Mixer::SeparableConv, Mixer::Attention(head), Mixer::Attention(head)]
}

const fn tiny(of: MetaFormer, mixers: [Mixer; 4]) -> MetaFormer {
    MetaFormer { blocks: [1, 1, 2, 1], channels: SMALL, mixers, classes: 10, size: (64, 64), ..of }
}

/// IdentityFormer-S12.
pub const IDENTITYFORMER_S12: MetaFormer = SKELETON_12;
/// RandFormer-S12.
pub const RANDFORMER_S12: MetaFormer = MetaFormer { mixers: RANDOM, ..SKELETON_12 };
/// PoolFormerV2-S12.
pub const POOLFORMERV2_S12: MetaFormer = MetaFormer { mixers: [Mixer::Pooling; 4], ..SKELETON_12 };
/// ConvFormer-S18.
pub const CONVFORMER_S18: MetaFormer = MetaFormer { mixers: [Mixer::SeparableConv; 4], ..SKELETON_18 };
/// CAFormer-S18.
pub const CAFORMER_S18: MetaFormer = MetaFormer { mixers: attention(32), ..SKELETON_18 };
/// IdentityFormer with few channels.
pub const IDENTITYFORMER_TINY: MetaFormer = tiny(SKELETON_12, [Mixer::Identity; 4]);
/// RandFormer with few channels.
pub const RANDFORMER_TINY: MetaFormer = tiny(SKELETON_12, RANDOM);
/// PoolFormerV2 with few channels.
pub const POOLFORMERV2_TINY: MetaFormer = tiny(SKELETON_12, [Mixer::Pooling; 4]);
/// ConvFormer with few channels.
pub const CONVFORMER_TINY: MetaFormer = tiny(SKELETON_18, [Mixer::SeparableConv; 4]);
/// CAFormer with few channels and heads of 8.
pub const CAFORMER_TINY: MetaFormer = tiny(SKELETON_18, attention(8));

impl Architecture for MetaFormer {
    fn build(&self, net: &mut Net<'_>, options: &Options) -> Result<(), Error> {
        let size = options.size_or(self.size);
        if size.0.min(size.1) < 3 {
            return Err(net.size_error(size, "height and width must be 3 or more"));
        }
        let image = net.input("image", &[1, 3, size.0, size.1]);
        let mut x = net.scope("downsample_layers.0", |net| {
            let stem = Conv::new(self.channels[0], Window::square(7).stride(4).pad(2));
            let x = net.conv_layer("conv", &image, &stem);
            let x = channels_last(net, &x);
            net.layer_norm("post_norm", &x, false, EPSILON)
        });
        for stage in 0..4 {
            if stage > 0 {
                x = net.scope(format!("downsample_layers.{stage}"), |net| {
                    let x = net.layer_norm("pre_norm", &x, false, EPSILON);
                    let x = channels_first(net, &x);
                    let down = Conv::new(self.channels[stage], Window::square(3).stride(2).pad(1));
                    let x = net.conv_layer("conv", &x, &down);
                    channels_last(net, &x)
                });
            }
            for i in 0..self.blocks[stage] {
                x = net.scope(format!("stages.{stage}.{i}"), |net| self.block(net, stage, &x));
            }
        }
        let mean = net.reduce_mean("mean", &x, &[1, 2], false);
        let normed = net.layer_norm("norm", &mean, true, EPSILON);
        let logits = if self.mlp_head {
            net.scope("head", |net| mlp_head(net, &normed, self.classes))
        } else {
            net.linear("head", &normed, &Linear::new(self.classes))
        };
        net.output("logits", &logits);
        Ok(())
    }
}

impl MetaFormer {
    fn block(&self, net: &mut Net<'_>, stage: usize, x: &Value) -> Value {
        let normed = self.norm(net, "norm1", x);
        let mixed = net.scope("token_mixer", |net| mix(net, self.mixers[stage], &normed));
        let x = residual(net, stage, "res_scale1", x, &mixed);
        let normed = self.norm(net, "norm2", &x);
        let mapped = net.scope("mlp", |net| {
            let hidden = net.linear("fc1", &normed, &Linear::new(MLP_RATIO * x.dim(-1)).no_bias());
            let hidden = star_relu(net, "act", &hidden);
            net.linear("fc2", &hidden, &Linear::new(x.dim(-1)).no_bias())
        });
        residual(net, stage, "res_scale2", &x, &mapped)
    }

    /// A norm with a scale and no shift. LayerNormalization has no scale that is shared by all positions, so over the
    /// whole picture it is written out as PyTorch exports it.
    fn norm(&self, net: &mut Net<'_>, name: &str, x: &Value) -> Value {
        match self.norm {
            Norm::Channels => net.layer_norm(name, x, false, EPSILON),
            Norm::Picture => net.scope(name, |net| {
                let (two, epsilon) = (net.scalar(2.0), net.scalar(EPSILON));
                let scale = net.weight("weight", &[x.dim(-1)], &SCALE);
                let mean = net.reduce_mean("mean", x, &[1, 2, 3], true);
                let centred = net.sub("sub", x, &mean);
                let squares = net.pow("pow", &centred, &two);
                let variance = net.reduce_mean("variance", &squares, &[1, 2, 3], true);
                let variance = net.add("add", &variance, &epsilon);
                let deviation = net.unary("Sqrt", "sqrt", &variance);
                let normed = net.div("div", &centred, &deviation);
                net.mul("mul", &normed, &scale)
            }),
        }
    }
}

/// `s · x + branch` where stages have scales, else `x + branch`.
fn residual(net: &mut Net<'_>, stage: usize, scale: &str, x: &Value, branch: &Value) -> Value {
    if stage < 2 {
        return net.add(&format!("{scale}.add"), x, branch);
    }
    let factors = net.weight(&format!("{scale}.scale"), &[x.dim(-1)], &SCALE);
    let scaled = net.mul(scale, x, &factors);
    net.add(&format!("{scale}.add"), &scaled, branch)
}

fn mix(net: &mut Net<'_>, mixer: Mixer, x: &Value) -> Value {
    let &[_, height, width, channels] = x.shape() else { unreachable!("blocks work on pictures") };
    let positions = height * width;
    match mixer {
        Mixer::Identity => x.clone(),
        Mixer::Random => {
            // Rows of the official matrix are softmaxes of random numbers: positive, with the sum 1.
            let init = Init::Uniform { low: 0.0, high: 2.0 / positions as f64 };
            let matrix = net.weight("random_matrix", &[positions, positions], &init);
            let sequence = net.reshape("sequence", x, &[1, positions, channels]);
            let mixed = net.matmul("matmul", &matrix, &sequence);
            net.reshape("picture", &mixed, x.shape())
        }
        Mixer::Pooling => {
            let picture = channels_first(net, x);
            let pooled = net.average_pool("pool", &picture, &Window::square(3).pad(1));
            let pooled = channels_last(net, &pooled);
            net.sub("sub", &pooled, x)
        }
        Mixer::SeparableConv => {
            let wide = EXPANSION * channels;
            let hidden = net.linear("pwconv1", x, &Linear::new(wide).no_bias());
            let hidden = star_relu(net, "act1", &hidden);
            let hidden = channels_first(net, &hidden);
            let depthwise = Conv::new(wide, Window::square(7).pad(3)).group(wide).no_bias();
            let hidden = net.conv_layer("dwconv", &hidden, &depthwise);
            let hidden = channels_last(net, &hidden);
            net.linear("pwconv2", &hidden, &Linear::new(channels).no_bias())
        }
        Mixer::Attention(head) => attend(net, head, x),
    }
}

fn attend(net: &mut Net<'_>, head: usize, x: &Value) -> Value {
    let &[_, height, width, channels] = x.shape() else { unreachable!("blocks work on pictures") };
    let (positions, heads) = (height * width, channels / head);
    let qkv = net.linear("qkv", x, &Linear::new(3 * channels).no_bias());
    let qkv = net.reshape("sequence", &qkv, &[1, positions, 3 * channels]);
    let parts = net.split("split", &qkv, -1, &[channels; 3]);
    let mut by_head = |name: &str, part: &Value, perm: &[usize]| {
        let split = net.reshape(&format!("{name}.heads"), part, &[1, positions, heads, head]);
        net.transpose(name, &split, perm)
    };
    let q = by_head("q", &parts[0], &[0, 2, 1, 3]);
    let k = by_head("k", &parts[1], &[0, 2, 3, 1]);
    let v = by_head("v", &parts[2], &[0, 2, 1, 3]);
    let scores = net.matmul("scores", &q, &k);
    let scale = net.scalar(1.0 / (head as f32).sqrt());
    let scores = net.mul("scale", &scores, &scale);
    let weights = net.softmax("softmax", &scores, -1);
    let mixed = net.matmul("mix", &weights, &v);
    let mixed = net.transpose("together", &mixed, &[0, 2, 1, 3]);
    let mixed = net.reshape("picture", &mixed, x.shape());
    net.linear("proj", &mixed, &Linear::new(channels).no_bias())
}

fn mlp_head(net: &mut Net<'_>, x: &Value, classes: usize) -> Value {
    let two = net.scalar(2.0);
    let hidden = net.linear("fc1", x, &Linear::new(MLP_RATIO * x.dim(-1)));
    let hidden = net.relu("act.relu", &hidden);
    let hidden = net.pow("act", &hidden, &two);
    // This one norm has PyTorch's own epsilon.
    let hidden = net.layer_norm("norm", &hidden, true, 1e-5);
    net.linear("fc2", &hidden, &Linear::new(classes))
}

/// `scale · relu(x)² + bias`. Seeded around the values that the paper derives, 0.8944 and −0.4472.
fn star_relu(net: &mut Net<'_>, name: &str, x: &Value) -> Value {
    net.scope(name, |net| {
        let scale = net.weight("scale", &[1], &Init::Uniform { low: 0.7, high: 1.1 });
        let bias = net.weight("bias", &[1], &Init::Uniform { low: -0.6, high: -0.3 });
        let two = net.scalar(2.0);
        let positive = net.relu("relu", x);
        let square = net.pow("pow", &positive, &two);
        let scaled = net.mul("mul", &square, &scale);
        net.add("add", &scaled, &bias)
    })
}

fn channels_last(net: &mut Net<'_>, x: &Value) -> Value {
    net.transpose("channels_last", x, &[0, 2, 3, 1])
}

fn channels_first(net: &mut Net<'_>, x: &Value) -> Value {
    net.transpose("channels_first", x, &[0, 3, 1, 2])
}
