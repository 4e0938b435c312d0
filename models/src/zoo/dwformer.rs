//! DWFormer: restoration of pictures from under-display cameras, a U-Net of depthwise convolutions with channel
//! attention.
//!
//! Three stages going down and two coming up, each a row of blocks. A block is `x + inter(x)`, which lets pixels see
//! their neighbours and weighs channels, then `x + intra(x)`, which works on each pixel. Both begin with a BatchNorm.
//!
//! The channel attention gathers the picture into one number a channel. As described it weighs pixels by a Softmax over
//! the picture. As released the Softmax runs over an axis of length 1 and gives ones, so that it sums over the picture,
//! and the convolution in front of it has no effect. Weights fit the form that they were trained in.
//!
//! Input `image` `[1, 3, height, width]` in 0 to 1, output `restored` of the same shape.

use super::{Architecture, Conv, Error, Linear, Net, Options, Value, Window};

/// Epsilon of the BatchNorms.
const EPSILON: f32 = 1e-5;
/// Seeded gain of a branch: 36 blocks with two of them each must not grow the sum much.
const BRANCH: f64 = 0.3;

/// What the channel attention takes its Softmax over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attention {
    /// An axis of length 1, so that it sums over the picture.
    Released,
    /// The picture.
    Spatial,
}

/// A DWFormer.
pub struct DwFormer {
    channels: [usize; 5],
    /// Width of the pixelwise layers over that of the stage.
    ratios: [usize; 5],
    blocks: [usize; 5],
    attention: Attention,
    size: (usize, usize),
}

/// As released.
pub const FULL: DwFormer = DwFormer {
    channels: [24, 48, 96, 48, 24],
    ratios: [2, 4, 4, 2, 2],
    blocks: [8, 8, 8, 6, 6],
    attention: Attention::Released,
    size: (256, 256),
};
/// As described.
pub const SPATIAL: DwFormer = DwFormer { attention: Attention::Spatial, ..FULL };
/// As released, with few channels.
pub const TINY: DwFormer = DwFormer {
    channels: [8, 12, 20, 12, 8],
    ratios: [2; 5],
    blocks: [1, 1, 2, 1, 1],
    attention: Attention::Released,
    size: (32, 32),
};
/// As described, with few channels.
pub const SPATIAL_TINY: DwFormer = DwFormer { attention: Attention::Spatial, ..TINY };

impl Architecture for DwFormer {
    fn build(&self, net: &mut Net<'_>, options: &Options) -> Result<(), Error> {
        let size = options.size_or(self.size);
        // Two halvings must come back to the same size, and the smallest picture must have two pixels to mirror beyond
        // its edge.
        if [size.0, size.1].iter().any(|side| !side.is_multiple_of(4) || *side < 12) {
            return Err(net.size_error(size, "height and width must be multiples of 4 and 12 or more"));
        }
        let image = net.input("image", &[1, 3, size.0, size.1]);
        let c = self.channels;
        let x = net.conv_layer("downproj1", &image, &Conv::new(c[0], Window::square(3).pad(1)));
        let first = self.stage(net, 0, &x);
        let x = net.conv_layer("downproj2", &first, &Conv::new(c[1], Window::square(2).stride(2)));
        let second = self.stage(net, 1, &x);
        let x = net.conv_layer("downproj3", &second, &Conv::new(c[2], Window::square(2).stride(2)));
        let x = self.stage(net, 2, &x);
        let x = up(net, ["upproj4", "fuse1"], &x, &second);
        let x = self.stage(net, 3, &x);
        let x = up(net, ["upproj5", "fuse2"], &x, &first);
        let x = self.stage(net, 4, &x);
        let x = net.pad_reflect("out.pad", &x, 1);
        let correction = net.conv_layer("out", &x, &Conv::new(3, Window::square(3)).gain(0.1));
        let restored = net.add("add", &image, &correction);
        net.output("restored", &restored);
        Ok(())
    }
}

impl DwFormer {
    fn stage(&self, net: &mut Net<'_>, stage: usize, x: &Value) -> Value {
        let mut x = x.clone();
        for i in 0..self.blocks[stage] {
            x = net.scope(format!("block{}.blocks.{i}", stage + 1), |net| {
                let mixed = net.scope("inter", |net| self.inter(net, stage, &x));
                let x = net.add("inter.add", &x, &mixed);
                let mapped = net.scope("intra", |net| {
                    let x = net.batch_norm("0", &x, EPSILON);
                    let hidden = net.conv_layer("1", &x, &Conv::pointwise(self.ratios[stage] * x.dim(1)));
                    let hidden = net.relu("2", &hidden);
                    net.conv_layer("3", &hidden, &Conv::pointwise(x.dim(1)).gain(BRANCH))
                });
                net.add("intra.add", &x, &mapped)
            });
        }
        x
    }

    fn inter(&self, net: &mut Net<'_>, stage: usize, x: &Value) -> Value {
        let channels = x.dim(1);
        let x = net.batch_norm("0", x, EPSILON);
        let x = net.conv_layer("1", &x, &Conv::pointwise(channels));
        let padded = net.pad_reflect("2.pad", &x, 2);
        let x = net.conv_layer("2", &padded, &Conv::new(channels, Window::square(5)).group(channels));
        let x = net.relu("3", &x);
        let x = net.scope("4", |net| self.attend(net, stage, &x));
        net.conv_layer("5", &x, &Conv::pointwise(channels).gain(BRANCH))
    }

    /// Channels of `x` `[1, channels, height, width]`, each times a number between 0 and 1 that comes from all of them.
    fn attend(&self, net: &mut Net<'_>, stage: usize, x: &Value) -> Value {
        let &[_, channels, height, width] = x.shape() else { unreachable!("blocks work on pictures") };
        let pixels = height * width;
        let scores = net.conv_layer("pwconv", x, &Conv::pointwise(1));
        let scores = net.reshape("scores", &scores, &[1, 1, pixels]);
        // Seeded gains that keep the Sigmoid out of saturation, where the sum is as large as the paper's picture.
        let halvings = [0, 1, 2, 1, 0][stage];
        let (axis, gain) = match self.attention {
            Attention::Released => (1, 4.0 / ((self.size.0 >> halvings) * (self.size.1 >> halvings)) as f64),
            Attention::Spatial => (2, 4.0),
        };
        let weights = net.softmax("softmax", &scores, axis);
        let sequence = net.transpose("channels_last", x, &[0, 2, 3, 1]);
        let sequence = net.reshape("sequence", &sequence, &[1, pixels, channels]);
        let gathered = net.matmul("gather", &weights, &sequence);
        let hidden = net.linear("mlp.0", &gathered, &Linear::new(channels).no_bias().gain(gain));
        let hidden = net.relu("mlp.1", &hidden);
        let factors = net.linear("mlp.2", &hidden, &Linear::new(channels).no_bias());
        let factors = net.sigmoid("sigmoid", &factors);
        let factors = net.reshape("factors", &factors, &[1, channels, 1, 1]);
        net.mul("mul", x, &factors)
    }
}

/// Twice the size by PixelShuffle, joined with what the way down left at that size.
fn up(net: &mut Net<'_>, [project, fuse]: [&str; 2], x: &Value, skipped: &Value) -> Value {
    let channels = skipped.dim(1);
    let x = net.conv_layer(&format!("{project}.0"), x, &Conv::pointwise(4 * channels));
    let x = net.depth_to_space(&format!("{project}.1"), &x, 2);
    let x = net.concat(&format!("{fuse}.concat"), &[&x, skipped], 1);
    let x = net.pad_reflect(&format!("{fuse}.0.pad"), &x, 1);
    let x = net.conv_layer(&format!("{fuse}.0"), &x, &Conv::new(channels, Window::square(3)));
    net.relu(&format!("{fuse}.1"), &x)
}
