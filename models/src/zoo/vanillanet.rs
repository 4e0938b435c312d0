//! VanillaNet (Chen et al. 2023): convolutions, pooling and ReLU, without branches.
//!
//! Built in deploy form: each layer one convolution, max pooling, and the activation series, which is a ReLU followed
//! by a depthwise 7×7 convolution. A checkpoint of the training form is known by its names and merged
//! (`vanillanet_training.rs`).
//!
//! Input `image` `[1, 3, height, width]`, output `logits` `[1, classes]`.

use super::{Architecture, Checkpoint, Conv, Error, Init, Net, Options, Role, Value, Window, vanillanet_training};

/// Reach of the activation series: a neighbourhood of `(2n + 1)²`.
pub(super) const SERIES: usize = 3;

/// A VanillaNet.
pub struct VanillaNet {
    /// Layers, the stem and the head included: 5 to 13.
    depth: usize,
    /// Channels behind the stem; the other layers have multiples of it.
    pub(super) unit: usize,
    pub(super) classes: usize,
    size: (usize, usize),
}

/// The paper's network of a depth.
pub const fn full(depth: usize) -> VanillaNet {
    VanillaNet { depth, unit: 512, classes: 1000, size: (224, 224) }
}

/// The same with few channels.
pub const fn tiny(depth: usize) -> VanillaNet {
    VanillaNet { depth, unit: 6, classes: 10, size: (64, 64) }
}

impl VanillaNet {
    /// Channels, in units, and stride of every stage.
    pub(super) fn stages(&self) -> Vec<(usize, usize)> {
        let mut stages = Vec::new();
        if self.depth >= 7 {
            stages.push((1, 1));
        }
        stages.extend([(2, 2), (4, 2)]);
        stages.extend(std::iter::repeat_n((4, 1), self.depth.saturating_sub(7)));
        stages.push((8, 2));
        if self.depth >= 6 {
            stages.push((8, 1));
        }
        stages
    }
}

impl Architecture for VanillaNet {
    fn build(&self, net: &mut Net<'_>, options: &Options) -> Result<(), Error> {
        let size = options.size_or(self.size);
        // The stem divides by 4, three poolings by 2 each, and one pixel must be left.
        if size.0.min(size.1) < 32 {
            return Err(net.size_error(size, "height and width must be 32 or more"));
        }
        let image = net.input("image", &[1, 3, size.0, size.1]);
        let mut x = net.scope("stem", |net| {
            let x = net.conv_layer("0", &image, &Conv::new(self.unit, Window::square(4).stride(4)));
            activation(net, "1", &x, false)
        });
        for (i, (units, stride)) in self.stages().into_iter().enumerate() {
            x = net.scope(format!("stages.{i}"), |net| {
                let mut x = net.conv_layer("conv", &x, &Conv::pointwise(units * self.unit));
                if stride > 1 {
                    x = net.max_pool("pool", &x, &Window::square(stride).stride(stride));
                }
                activation(net, "act", &x, stride > 1)
            });
        }
        let mean = net.global_average_pool("cls.0", &x);
        let logits = net.conv_layer("cls.2", &mean, &Conv::pointwise(self.classes).gain(2.0));
        let logits = net.flatten("flatten", &logits, 1);
        net.output("logits", &logits);
        Ok(())
    }

    fn converted(&self, model: &str, checkpoint: &Checkpoint) -> Result<Option<Checkpoint>, Error> {
        let training = checkpoint.has("stem1.0.weight");
        training.then(|| vanillanet_training::merge(self, model, checkpoint)).transpose()
    }
}

/// The activation series `Σ_i a_i σ(x + b_i)` over the neighbourhood, as the deploy form computes it: a ReLU and a
/// depthwise convolution.
fn activation(net: &mut Net<'_>, name: &str, x: &Value, pooled: bool) -> Value {
    let (channels, kernel) = (x.dim(1), 2 * SERIES + 1);
    let positive = net.relu(&format!("{name}.relu"), x);
    // Seeded as if a BatchNorm had been folded in: what a ReLU leaves of normal numbers has a mean, which would grow
    // from layer to layer until no picture mattered any more. Behind max pooling all but a few numbers are positive.
    let (mean, gain) = if pooled { (1.0, 1.5) } else { (0.4, 1.7) };
    let shape = [channels, 1, kernel, kernel];
    let weight_name = format!("{name}.weight");
    let numbers = net.numbers(&weight_name, &shape, Role::Parameter, &Init::Central(gain));
    let centred = numbers.chunks(kernel * kernel).map(|taps| -mean * taps.iter().sum::<f32>()).collect();
    let bias = net.weight(&format!("{name}.bias"), &[channels], &Init::Values(centred));
    let weight = net.constant(&weight_name, &shape, numbers);
    net.conv(name, &positive, &weight, Some(&bias), &Window::square(kernel).pad(SERIES), channels)
}
