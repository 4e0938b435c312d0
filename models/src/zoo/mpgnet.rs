//! MPGNet: a generator of pictures as an under-display camera takes them, from clean ones.
//!
//! Three steps, each after the physics of the display: the light that is lost (`light_rate`), the point spread function
//! (`psf`), and noise (`add_noise`): one part that depends on the picture, one that does not, and one of quantisation.
//! The form for T-OLED ends its light rate in a ReLU, the one for P-OLED in a Sigmoid. The random draws are inputs, so
//! that a run gives the same result every time.
//!
//! Inputs `image` `[1, 3, height, width]` in 0 to 1; `r` `[1, r]` and `normal` `[1, n, height, width]` from a standard
//! normal distribution; `uniform` and `uniform_q` `[1, n, height, width]` evenly from 0 to 1. Output `degraded`, of the
//! shape of `image`.

use super::{Architecture, Conv, Error, Init, Linear, Net, Options, Value, Window};

/// Epsilon of the BatchNorms.
const EPSILON: f32 = 1e-5;
/// What the official code adds to spreads, lest they vanish.
const LEAST_SPREAD: f32 = 1e-6;
/// Seeded gain of the second convolution of a residual block.
const BRANCH: f64 = 0.5;
/// Seeded gain of what is added to the picture: noise is small.
const NOISE: f64 = 0.1;

/// The display.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Display {
    /// Transparent OLED.
    T,
    /// Pentile OLED.
    P,
}

/// An MPGNet.
pub struct MpgNet {
    display: Display,
    /// Channels of the first layer of the light rate.
    light_rate: usize,
    /// Channels of the first layer of the point spread function.
    psf: usize,
    psf_blocks: usize,
    /// Channels of the noise.
    n: usize,
    /// Length of the vector that tells one camera from another.
    r: usize,
    /// Residual blocks that read the picture.
    depth: usize,
    size: (usize, usize),
}

/// For T-OLED.
pub const T: MpgNet =
    MpgNet { display: Display::T, light_rate: 32, psf: 64, psf_blocks: 9, n: 64, r: 32, depth: 5, size: (128, 128) };
/// For P-OLED.
pub const P: MpgNet = MpgNet { display: Display::P, ..T };
/// For T-OLED, with few channels.
pub const T_TINY: MpgNet =
    MpgNet { display: Display::T, light_rate: 6, psf: 6, psf_blocks: 2, n: 6, r: 3, depth: 1, size: (32, 32) };
/// For P-OLED, with few channels.
pub const P_TINY: MpgNet = MpgNet { display: Display::P, ..T_TINY };

impl Architecture for MpgNet {
    fn build(&self, net: &mut Net<'_>, options: &Options) -> Result<(), Error> {
        let size = options.size_or(self.size);
        // Two halvings must come back to the same size, and the smallest picture must have a pixel to mirror beyond its
        // edge.
        if [size.0, size.1].iter().any(|side| !side.is_multiple_of(4) || *side < 8) {
            return Err(net.size_error(size, "height and width must be multiples of 4 and 8 or more"));
        }
        let image = net.input("image", &[1, 3, size.0, size.1]);
        let r = net.input("r", &[1, self.r]);
        let noise = [1, self.n, size.0, size.1];
        let normal = net.input("normal", &noise);
        let uniform = net.input("uniform", &noise);
        let uniform_q = net.input("uniform_q", &noise);
        let dimmed = net.scope("light_rate", |net| {
            let rate = self.rate(net, &image);
            net.mul("mul", &image, &rate)
        });
        let spread = net.scope("psf.model", |net| self.spread(net, &dimmed));
        let blurred = net.add("psf.add", &dimmed, &spread);
        let blurred = net.clip("psf.clip", &blurred, 0.0, 1.0);
        let degraded = net.scope("add_noise", |net| {
            let noisy = self.shot_noise(net, &blurred, &r, &normal, &uniform);
            self.quantization_noise(net, &noisy, &uniform_q)
        });
        net.output("degraded", &degraded);
        Ok(())
    }
}

impl MpgNet {
    /// How much of each colour comes through, `[1, 3, 1, 1]`.
    fn rate(&self, net: &mut Net<'_>, image: &Value) -> Value {
        let f = self.light_rate;
        let mut x = image.clone();
        for (i, (channels, stride)) in [(f, 4), (f, 2), (2 * f, 2), (2 * f, 2), (f, 2)].into_iter().enumerate() {
            let conv = Conv::new(channels, Window::square(3).stride(stride).pad(1));
            x = net.conv_layer(&format!("feat_ext.{i}"), &x, &conv);
        }
        let x = net.reduce_mean("to_light_rate.0", &x, &[-1, -2], false);
        let x = net.linear("to_light_rate.2", &x, &Linear::new(4 * f));
        let x = net.relu("to_light_rate.3", &x);
        // Seeded so that most of the light comes through.
        let weight = net.weight("to_light_rate.4.weight", &[3, 4 * f], &Init::FanIn(0.1));
        let bias = net.weight("to_light_rate.4.bias", &[3], &Init::Uniform { low: 0.5, high: 0.9 });
        let x = net.gemm("to_light_rate.4", &x, &weight, Some(&bias));
        let x = match self.display {
            Display::T => net.relu("to_light_rate.5", &x),
            Display::P => net.sigmoid("to_light_rate.5", &x),
        };
        net.unsqueeze("unsqueeze", &x, &[2, 3])
    }

    /// What the display spreads, of the shape of `x`: an encoder, residual blocks, and a decoder. Numbers are places in
    /// the official list of modules.
    fn spread(&self, net: &mut Net<'_>, x: &Value) -> Value {
        let f = self.psf;
        let wide = Conv::new(f, Window::square(7)).no_bias();
        let halving = |channels| Conv::new(channels, Window::square(3).stride(2).pad(1)).no_bias();
        let x = net.pad_reflect("0", x, 3);
        let x = net.conv_layer("1", &x, &wide);
        let x = norm_relu(net, 2, &x);
        let x = net.conv_layer("4", &x, &halving(2 * f));
        let x = norm_relu(net, 5, &x);
        let x = net.conv_layer("7", &x, &halving(4 * f));
        let mut x = norm_relu(net, 8, &x);
        for i in 10..10 + self.psf_blocks {
            x = net.scope(format!("{i}.conv_block"), |net| {
                let padded = net.pad_reflect("0", &x, 1);
                let conv = Conv::new(4 * f, Window::square(3)).no_bias().gain(BRANCH);
                let branch = net.conv_layer("1", &padded, &conv);
                let branch = net.batch_norm("2", &branch, EPSILON);
                net.add("add", &x, &branch)
            });
        }
        let up = 10 + self.psf_blocks;
        let x = net.conv_transpose_layer(&up.to_string(), &x, &halving(2 * f), 1);
        let x = norm_relu(net, up + 1, &x);
        let x = net.conv_transpose_layer(&(up + 3).to_string(), &x, &halving(f), 1);
        let x = norm_relu(net, up + 4, &x);
        let x = net.pad_reflect(&(up + 6).to_string(), &x, 3);
        let x = net.conv_layer(&(up + 7).to_string(), &x, &Conv::new(3, Window::square(7)).gain(NOISE));
        net.unary("Tanh", &(up + 8).to_string(), &x)
    }

    /// `x` with noise that depends on it and noise that does not.
    fn shot_noise(&self, net: &mut Net<'_>, x: &Value, r: &Value, normal: &Value, uniform: &Value) -> Value {
        let &[_, _, height, width] = x.shape() else { unreachable!("pictures") };
        let n = self.n;
        let camera = net.unsqueeze("r.unsqueeze", r, &[2, 3]);
        let camera = net.expand("r.expand", &camera, &[1, self.r, height, width]);
        let features = extract(net, "ext_head", x, n);
        let features = net.concat("concat", &[&features, &camera], 1);
        let features = conv3(net, "ext_merge.0", &features, &Conv::new(2 * n, Window::square(3)));
        let mut features = net.prelu("ext_merge.1", &features);
        for i in 0..self.depth {
            features = residual_block(net, &format!("ext.{i}"), &features, 3, true);
        }
        let mean = net.slice("mean", &features, 1, 0, n);
        let spread = net.slice("spread", &features, 1, n, 2 * n);
        let spread = net.relu("spread.relu", &spread);
        let least = net.scalar(LEAST_SPREAD);
        let spread = net.add("spread.add", &spread, &least);
        let drawn = net.mul("normal.mul", normal, &spread);
        let dependent = net.add("normal.add", &mean, &drawn);
        let dependent = net.conv_layer("dep_merge", &dependent, &Conv::pointwise(n));
        let dependent = pipes(net, "dep", &dependent);
        let independent = net.conv_layer("indep_merge", uniform, &Conv::pointwise(n));
        let independent = pipes(net, "indep", &independent);
        let noise = net.add("noise", &independent, &dependent);
        let noise = net.conv_layer("T_tail", &noise, &Conv::pointwise(3).gain(NOISE));
        net.add("T_tail.add", x, &noise)
    }

    /// `x` with noise of quantisation.
    fn quantization_noise(&self, net: &mut Net<'_>, x: &Value, uniform: &Value) -> Value {
        let features = extract(net, "q_ext", x, self.n);
        // The official code takes both ends of the interval from the first half of the channels; the second half is
        // unused.
        let bound = net.slice("bound", &features, 1, 0, self.n);
        let least = net.scalar(LEAST_SPREAD);
        let upper = net.add("bound.add", &bound, &least);
        let length = net.sub("bound.sub", &upper, &bound);
        let drawn = net.mul("uniform_q.mul", uniform, &length);
        let drawn = net.add("uniform_q.add", &bound, &drawn);
        let noise = net.conv_layer("quantization_merge", &drawn, &Conv::pointwise(self.n));
        let noise = pipes(net, "quantization", &noise);
        let noise = net.conv_layer("q_tail", &noise, &Conv::pointwise(3).gain(NOISE));
        net.add("q_tail.add", x, &noise)
    }
}

fn norm_relu(net: &mut Net<'_>, place: usize, x: &Value) -> Value {
    let x = net.batch_norm(&place.to_string(), x, EPSILON);
    net.relu(&(place + 1).to_string(), &x)
}

/// A 3×3 convolution of the picture continued by a mirrored pixel.
fn conv3(net: &mut Net<'_>, name: &str, x: &Value, conv: &Conv) -> Value {
    let padded = net.pad_reflect(&format!("{name}.pad"), x, 1);
    net.conv_layer(name, &padded, conv)
}

/// Features of a picture: `2n` channels.
fn extract(net: &mut Net<'_>, name: &str, x: &Value, n: usize) -> Value {
    net.scope(name, |net| {
        let x = conv3(net, "0", x, &Conv::new(n, Window::square(3)));
        let x = net.prelu("1", &x);
        conv3(net, "2", &x, &Conv::new(2 * n, Window::square(3)))
    })
}

/// `x + conv(prelu(conv(x)))`.
fn residual_block(net: &mut Net<'_>, name: &str, x: &Value, kernel: usize, bias: bool) -> Value {
    let conv = Conv::new(x.dim(1), Window::square(kernel));
    let conv = if bias { conv } else { conv.no_bias() };
    net.scope(format!("{name}.body"), |net| {
        let layer = |net: &mut Net<'_>, name: &str, x: &Value, conv: &Conv| match kernel {
            1 => net.conv_layer(name, x, conv),
            _ => conv3(net, name, x, conv),
        };
        let hidden = layer(net, "0", x, &conv);
        let hidden = net.prelu("1", &hidden);
        let branch = layer(net, "2", &hidden, &conv.clone().gain(BRANCH));
        net.add("add", x, &branch)
    })
}

/// The sum of two rows of residual blocks, one that sees single pixels and one with a 3×3 block in its middle.
fn pipes(net: &mut Net<'_>, noise: &str, x: &Value) -> Value {
    let row = |net: &mut Net<'_>, last: usize, kernels: [usize; 3]| {
        let blocks = kernels.into_iter().enumerate();
        blocks.fold(x.clone(), |x, (i, k)| residual_block(net, &format!("pipe_{noise}_{last}.{i}"), &x, k, false))
    };
    let single = row(net, 1, [1, 1, 1]);
    let wide = row(net, 3, [1, 3, 1]);
    net.add(&format!("pipe_{noise}"), &single, &wide)
}
