//! Windows, filter banks and spectra of signals.

use std::f64::consts::PI;

use kinglet::DType;
use kinglet_onnx::DataType;

use super::dft::Transform;
use super::matmul::emit_matmul;
use crate::array::Array;
use crate::graph::BinaryOp;
use crate::import::{Context, Failure, dtype_from_onnx};

/// Longest window and transform.
const MOST_SAMPLES: i64 = 1 << 16;

/// Input `i`, which must be a constant scalar in a range.
fn scalar(
    c: &mut Context<'_, '_>,
    i: usize,
    what: &str,
    range: std::ops::RangeInclusive<i64>,
) -> Result<usize, Failure> {
    match c.constant_ints(i, what)?[..] {
        [v] if range.contains(&v) => Ok(v as usize),
        ref other => Err(Failure::malformed(format!("{what} is {other:?}"))),
    }
}

/// Gives the output computed reals as the type that the attribute `output_datatype` names.
fn give(c: &mut Context<'_, '_>, shape: &[usize], reals: Vec<f64>) -> Result<(), Failure> {
    let code = c.int("output_datatype", 1) as i32;
    let dtype = dtype_from_onnx(code)
        .ok_or_else(|| Failure::unsupported(format!("element type {code}"), "convert the model to f32"))?;
    let reals = Array::f32(shape, reals);
    let y = if code == DataType::Double as i32 { c.add_exact(reals) } else { c.add_constant(reals.stored()) };
    let y = c.as_type(y, dtype)?;
    c.output(0, y);
    c.set_element_type(0, code);
    Ok(())
}

/// `HannWindow`, `HammingWindow` and `BlackmanWindow` (opset 17): a few cosines.
pub fn window(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let weights = match c.op_type() {
        "HannWindow" => [0.5, -0.5, 0.0],
        "HammingWindow" => [25.0 / 46.0, -21.0 / 46.0, 0.0],
        _ => [0.42, -0.5, 0.08],
    };
    let n = scalar(c, 0, "the size", 0..=MOST_SAMPLES)?;
    let period = if c.flag("periodic", true) { n } else { n.saturating_sub(1) };
    if period == 0 && n > 0 {
        return Err(Failure::malformed("a symmetric window of one element, which is 0 divided by 0"));
    }
    c.reserve(n, DType::F32)?;
    let at = |i: usize| {
        let angle = 2.0 * PI * i as f64 / period as f64;
        weights[0] + weights[1] * angle.cos() + weights[2] * (2.0 * angle).cos()
    };
    give(c, &[n], (0..n).map(at).collect())
}

/// `MelWeightMatrix` (opset 17): triangles over the bins of a spectrum, equally far apart on the mel scale.
pub fn mel_weight_matrix(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let bands = scalar(c, 0, "the number of bands", 1..=MOST_SAMPLES)?;
    let length = scalar(c, 1, "the length of the transform", 1..=MOST_SAMPLES)?;
    let rate = scalar(c, 2, "the sample rate", 1..=1 << 32)?;
    let edge = |c: &mut Context<'_, '_>, i: usize| {
        let t = c.input(i)?;
        let hertz = c.constant(t, "an edge of the bands")?.as_scalar().filter(|hz| *hz >= 0.0 && hz.is_finite());
        hertz.ok_or_else(|| Failure::malformed("an edge of the bands is no frequency"))
    };
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let (low, high) = (mel(edge(c, 3)?), mel(edge(c, 4)?));
    let bins = length / 2 + 1;
    // So the operator's text divides the scale: not into the `bands + 1` distances between the corners.
    let step = (high - low) / (bands + 2) as f64;
    let corner = |i: usize| {
        let hertz = 700.0 * (10f64.powf((low + i as f64 * step) / 2595.0) - 1.0);
        ((length + 1) as f64 * hertz / rate as f64).floor()
    };
    let corners: Vec<f64> = (0..bands + 2).map(corner).collect();
    if step < 0.0 || corners.iter().any(|&k| !(0.0..bins as f64).contains(&k)) {
        return Err(Failure::malformed("its bands go beyond the spectrum"));
    }
    c.reserve(bins.saturating_mul(bands), DType::F32)?;
    let mut y = vec![0.0; bins * bands];
    for band in 0..bands {
        let [left, centre, right] = [0, 1, 2].map(|k| corners[band + k] as usize);
        for bin in left..=centre {
            y[bin * bands + band] = if left == centre { 1.0 } else { (bin - left) as f64 / (centre - left) as f64 };
        }
        for bin in centre..right {
            y[bin * bands + band] = (right - bin) as f64 / (right - centre) as f64;
        }
    }
    give(c, &[bins, bands], y)
}

/// `STFT` (opset 17): the frames of x `[batch, length, 1 or 2]` by the constant matrix of the transform.
pub fn stft(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (x, window) = (c.input(0)?, c.optional(2));
    let shape = c.shape(x);
    let &[batch, length, parts @ (1 | 2)] = &shape[..] else {
        return Err(Failure::malformed(format!("input of shape {shape:?}")));
    };
    let step = scalar(c, 1, "the step of the frames", 1..=1 << 32)?;
    let n = match (c.optional(3), window) {
        (Some(_), _) => scalar(c, 3, "the length of the frames", 1..=MOST_SAMPLES)?,
        (None, Some(w)) => c.shape(w).first().copied().unwrap_or(0),
        (None, None) => length,
    };
    if !(1..=MOST_SAMPLES as usize).contains(&n) || n > length {
        return Err(Failure::malformed(format!("frames of {n} in {length} samples")));
    }
    if window.is_some_and(|w| c.shape(w) != [n]) {
        return Err(Failure::malformed(format!("a window for frames of {n} that has not their length")));
    }
    let onesided = c.flag("onesided", true);
    if onesided && parts == 2 {
        return Err(Failure::malformed("the spectrum of a complex signal has two sides"));
    }
    if c.dtype(x) != DType::F32 || window.is_some_and(|w| c.dtype(w) != DType::F32) {
        return Err(Failure::malformed("the signal and the window are real numbers"));
    }
    let m = if onesided { n / 2 + 1 } else { n };
    let frames = (length - n) / step + 1;
    let t = Transform { n, given: n, parts, m, out_parts: 2, inverse: false };
    let mut matrix = t.matrix(c)?;
    c.reserve(frames.saturating_mul(n), DType::I64)?;
    let at = (0..frames).flat_map(|f| (0..n).map(move |i| (f * step + i) as i64)).collect();
    let at = c.add_constant(Array::int(DType::I64, &[frames, n], at));
    let mut framed = c.gathered(x, at, 1)?;
    if let Some(w) = window {
        match c.known(w) {
            Some(w) => {
                let w = w.reals();
                matrix.iter_mut().enumerate().for_each(|(k, v)| *v *= w[k / (parts * m * 2)]);
            }
            None => {
                let w = c.reshaped(w, &[n, 1])?;
                framed = c.binary(BinaryOp::Mul, framed, w)?;
            }
        }
    }
    let matrix = c.add_constant(Array::f32(&[n * parts, m * 2], matrix));
    let flat = c.reshaped(framed, &[batch, frames, n * parts])?;
    let y = emit_matmul(c, flat, matrix, DType::F32)?;
    let y = c.reshaped(y, &[batch, frames, m, 2])?;
    c.output(0, y);
    Ok(())
}
