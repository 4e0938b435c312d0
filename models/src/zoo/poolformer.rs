//! PoolFormer (Yu et al. 2022): a transformer whose attention is an average pooling.
//!
//! Four stages of blocks between patch embeddings. A block is `x + scale₁ · (pool(n) − n)` with `n = norm₁(x)`, then
//! `x + scale₂ · mlp(norm₂(x))`; its norms are GroupNorms of one group, its MLPs pairs of 1×1 convolutions.
//!
//! Input `image` `[1, 3, height, width]`, output `logits` `[1, classes]`.

use super::{Architecture, Conv, Error, Init, Linear, Net, Options, Role, Value, Window};

/// Epsilon of the GroupNorms.
const EPSILON: f32 = 1e-5;
/// Width of a hidden layer over that of its block.
const MLP_RATIO: usize = 4;

/// A PoolFormer.
pub struct PoolFormer {
    blocks: [usize; 4],
    channels: [usize; 4],
    classes: usize,
    size: (usize, usize),
}

const SMALL: [usize; 4] = [64, 128, 320, 512];
const MEDIUM: [usize; 4] = [96, 192, 384, 768];

/// 12 blocks.
pub const S12: PoolFormer = full([2, 2, 6, 2], SMALL);
/// 24 blocks.
pub const S24: PoolFormer = full([4, 4, 12, 4], SMALL);
/// 36 blocks.
pub const S36: PoolFormer = full([6, 6, 18, 6], SMALL);
/// 36 blocks, wider.
pub const M36: PoolFormer = full([6, 6, 18, 6], MEDIUM);
/// 48 blocks, wider.
pub const M48: PoolFormer = full([8, 8, 24, 8], MEDIUM);
/// Five blocks with few channels.
pub const TINY: PoolFormer =
    PoolFormer { blocks: [1, 1, 2, 1], channels: [8, 12, 20, 35], classes: 10, size: (64, 64) };

const fn full(blocks: [usize; 4], channels: [usize; 4]) -> PoolFormer {
    PoolFormer { blocks, channels, classes: 1000, size: (224, 224) }
}

impl Architecture for PoolFormer {
    fn build(&self, net: &mut Net<'_>, options: &Options) -> Result<(), Error> {
        let size = options.size_or(self.size);
        if size.0.min(size.1) < 3 {
            return Err(net.size_error(size, "height and width must be 3 or more"));
        }
        let image = net.input("image", &[1, 3, size.0, size.1]);
        let stem = Conv::new(self.channels[0], Window::square(7).stride(4).pad(2));
        let mut x = net.conv_layer("patch_embed.proj", &image, &stem);
        for (stage, (&blocks, &channels)) in self.blocks.iter().zip(&self.channels).enumerate() {
            // In the official list of modules stages and the embeddings between them take turns.
            if stage > 0 {
                let embed = Conv::new(channels, Window::square(3).stride(2).pad(1));
                x = net.conv_layer(&format!("network.{}.proj", 2 * stage - 1), &x, &embed);
            }
            for i in 0..blocks {
                x = net.scope(format!("network.{}.{i}", 2 * stage), |net| block(net, &x));
            }
        }
        let x = net.group_norm("norm", &x, EPSILON);
        let mean = net.reduce_mean("mean", &x, &[-2, -1], false);
        let logits = net.linear("head", &mean, &Linear::new(self.classes));
        net.output("logits", &logits);
        Ok(())
    }
}

fn block(net: &mut Net<'_>, x: &Value) -> Value {
    let normed = net.group_norm("norm1", x, EPSILON);
    let pooled = net.average_pool("token_mixer.pool", &normed, &Window::square(3).pad(1));
    let mixed = net.sub("token_mixer.sub", &pooled, &normed);
    let x = scaled_residual(net, "layer_scale_1", x, &mixed);
    let normed = net.group_norm("norm2", &x, EPSILON);
    let hidden = net.conv_layer("mlp.fc1", &normed, &Conv::pointwise(MLP_RATIO * x.dim(1)));
    let hidden = net.gelu("mlp.act", &hidden);
    let mapped = net.conv_layer("mlp.fc2", &hidden, &Conv::pointwise(x.dim(1)));
    scaled_residual(net, "layer_scale_2", &x, &mapped)
}

/// `x + scale · branch` with a scale for each channel.
fn scaled_residual(net: &mut Net<'_>, scale: &str, x: &Value, branch: &Value) -> Value {
    let channels = x.dim(1);
    // Seeded with either sign: pooling after pooling with the same would leave one colour of every picture.
    let init = Init::Uniform { low: -0.3, high: 0.4 };
    let numbers = net.numbers(scale, &[channels], Role::Parameter, &init);
    let factors = net.constant(scale, &[channels, 1, 1], numbers);
    let scaled = net.mul(&format!("{scale}.mul"), branch, &factors);
    net.add(&format!("{scale}.add"), x, &scaled)
}
