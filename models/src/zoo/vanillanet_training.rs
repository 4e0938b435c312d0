//! From VanillaNet's training form to its deploy form (sections 3.1 and 3.2 of the paper).
//!
//! In training every convolution has a BatchNorm behind it, and each layer is a pair of convolutions of which the
//! second is 1×1. What stood between the two has become the identity at the end of training, so the pair is one linear
//! map. The activation series has a BatchNorm as well and no bias.

use std::thread;

use super::vanillanet::{SERIES, VanillaNet};
use super::weights::{Init, Role, StateType, Weights};
use super::{Checkpoint, Error};

/// Epsilon of the BatchNorms.
const EPSILON: f64 = 1e-6;

/// The deploy form of a checkpoint in training form.
///
/// # Errors
/// [`Error::Tensors`] for tensors that are missing, misshaped or too many.
pub(super) fn merge(net: &VanillaNet, model: &str, checkpoint: &Checkpoint) -> Result<Checkpoint, Error> {
    let mut training = Training { weights: Weights::of(checkpoint), deploy: Vec::new() };
    let unit = net.unit;
    let first = training.conv("stem1.0", Some("stem1.1"), unit, 3, 4);
    let second = training.conv("stem2.0", Some("stem2.1"), unit, unit, 1);
    training.push_pair("stem.0", &first, &second);
    training.activation("stem2.2", "stem.1", unit);
    let mut from = unit;
    for (i, (units, _)) in net.stages().into_iter().enumerate() {
        let (path, to) = (format!("stages.{i}"), units * unit);
        let first = training.conv(&format!("{path}.conv1.0"), Some(&format!("{path}.conv1.1")), from, from, 1);
        let second = training.conv(&format!("{path}.conv2.0"), Some(&format!("{path}.conv2.1")), to, from, 1);
        training.push_pair(&format!("{path}.conv"), &first, &second);
        training.activation(&format!("{path}.act"), &format!("{path}.act"), to);
        from = to;
    }
    let first = training.conv("cls1.2", Some("cls1.3"), net.classes, from, 1);
    let second = training.conv("cls2.0", None, net.classes, net.classes, 1);
    training.push_pair("cls.2", &first, &second);
    training.weights.finish(model)?;
    Ok(Checkpoint::from_tensors(checkpoint.file(), training.deploy))
}

/// A convolution as a matrix `[out, in · kernel²]` with a bias.
struct Conv {
    out: usize,
    shape: Vec<usize>,
    weight: Vec<f32>,
    bias: Vec<f64>,
}

struct Training<'a> {
    weights: Weights<'a>,
    deploy: Vec<(String, Vec<usize>, Vec<f32>)>,
}

impl Training<'_> {
    fn take(&mut self, name: String, shape: &[usize]) -> Vec<f32> {
        // The source is a checkpoint, so nothing is drawn.
        self.weights.take(&name, shape, Role::Parameter, &Init::FanIn(1.0))
    }

    /// Scale and shift of a BatchNorm: `x ↦ scale · x + shift`.
    fn batch_norm(&mut self, name: &str, channels: usize) -> Vec<(f64, f64)> {
        let parts = ["weight", "bias", "running_mean", "running_var"];
        let [gamma, beta, mean, variance] = parts.map(|part| self.take(format!("{name}.{part}"), &[channels]));
        self.weights.unused(&format!("{name}.num_batches_tracked"), &[], StateType::Int64);
        let affine = |c: usize| {
            let scale = f64::from(gamma[c]) / (f64::from(variance[c]) + EPSILON).sqrt();
            (scale, f64::from(beta[c]) - f64::from(mean[c]) * scale)
        };
        (0..channels).map(affine).collect()
    }

    /// A convolution with the BatchNorm behind it folded in.
    fn conv(&mut self, name: &str, norm: Option<&str>, out: usize, input: usize, kernel: usize) -> Conv {
        let shape = vec![out, input, kernel, kernel];
        let mut weight = self.take(format!("{name}.weight"), &shape);
        let mut bias: Vec<f64> = self.take(format!("{name}.bias"), &[out]).into_iter().map(f64::from).collect();
        if let Some(norm) = norm {
            let affine = self.batch_norm(norm, out);
            for ((row, bias), (scale, shift)) in weight.chunks_mut(input * kernel * kernel).zip(&mut bias).zip(affine) {
                row.iter_mut().for_each(|w| *w = (f64::from(*w) * scale) as f32);
                *bias = *bias * scale + shift;
            }
        }
        Conv { out, shape, weight, bias }
    }

    /// The activation series `from` with its BatchNorm folded in, as `to`.
    fn activation(&mut self, from: &str, to: &str, channels: usize) {
        let kernel = 2 * SERIES + 1;
        let shape = vec![channels, 1, kernel, kernel];
        let mut weight = self.take(format!("{from}.weight"), &shape);
        let affine = self.batch_norm(&format!("{from}.bn"), channels);
        for (row, (scale, _)) in weight.chunks_mut(kernel * kernel).zip(&affine) {
            row.iter_mut().for_each(|w| *w = (f64::from(*w) * scale) as f32);
        }
        self.deploy.push((format!("{to}.weight"), shape, weight));
        self.deploy.push((format!("{to}.bias"), vec![channels], affine.iter().map(|a| a.1 as f32).collect()));
    }

    /// `second` after `first` as one convolution, where `second` is 1×1.
    fn push_pair(&mut self, to: &str, first: &Conv, second: &Conv) {
        let columns = first.weight.len() / first.out;
        let weight = product(&second.weight, &first.weight, first.out, columns);
        let bias = second.weight.chunks(first.out).zip(&second.bias).map(|(row, bias)| {
            let moved: f64 = row.iter().zip(&first.bias).map(|(&w, b)| f64::from(w) * b).sum();
            (moved + bias) as f32
        });
        let bias = bias.collect();
        let shape = [&[second.out], &first.shape[1..]].concat();
        self.deploy.push((format!("{to}.weight"), shape, weight));
        self.deploy.push((format!("{to}.bias"), vec![second.out], bias));
    }
}

/// Rows of `a · b` that are computed together, so that a row of `b` is read from near by.
const ROWS: usize = 8;

/// `a` `[rows, inner]` times `b` `[inner, columns]`, summed in f64. The largest network has 10¹¹ products here, so all
/// processors take part.
fn product(a: &[f32], b: &[f32], inner: usize, columns: usize) -> Vec<f32> {
    let rows = a.len() / inner;
    let mut result = vec![0f32; rows * columns];
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = rows.div_ceil(threads).max(1);
    thread::scope(|scope| {
        for (a, result) in a.chunks(share * inner).zip(result.chunks_mut(share * columns)) {
            scope.spawn(move || {
                for (a, result) in a.chunks(ROWS * inner).zip(result.chunks_mut(ROWS * columns)) {
                    let mut sums = vec![0f64; result.len()];
                    for (i, b) in b.chunks(columns).enumerate() {
                        for (a, sums) in a.chunks(inner).zip(sums.chunks_mut(columns)) {
                            let factor = f64::from(a[i]);
                            sums.iter_mut().zip(b).for_each(|(sum, &b)| *sum += factor * f64::from(b));
                        }
                    }
                    result.iter_mut().zip(sums).for_each(|(r, sum)| *r = sum as f32);
                }
            });
        }
    });
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_products() {
        let (rows, inner, columns) = (19, 5, 7);
        let a: Vec<f32> = (0..rows * inner).map(|i| ((i * 37) % 11) as f32 - 5.0).collect();
        let b: Vec<f32> = (0..inner * columns).map(|i| ((i * 23) % 13) as f32 - 6.0).collect();
        let got = product(&a, &b, inner, columns);
        for r in 0..rows {
            for c in 0..columns {
                let want: f32 = (0..inner).map(|i| a[r * inner + i] * b[i * columns + c]).sum();
                assert_eq!(got[r * columns + c], want, "row {r}, column {c}");
            }
        }
    }
}
