//! `Resize` and `Upsample`: along each axis an output element is a sum of a few input elements with constant weights.
//!
//! Coordinates are computed in f32, as ONNX Runtime does: which neighbour is the nearest may hinge on the last bit.

use kinglet::DType;
use kinglet::kernels::BinaryOp;

use crate::array::Array;
use crate::graph::{Op, TensorId};
use crate::import::{Context, Failure};

/// How elements between those of the input come about.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

/// One axis.
struct Axis {
    input: usize,
    output: usize,
    scale: f32,
}

/// What an output element is made of: for each tap the input element of each output element, and its weight.
struct Taps(Vec<(Vec<i64>, Vec<f64>)>);

/// `Resize` (opset 10 and later): scales or sizes for all axes, or for some from opset 18 on.
pub fn resize(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    // Opset 10 has the scales where later ones have the region.
    let (scales, sizes) = if c.opset < 11 { (c.optional(1), None) } else { (c.optional(2), c.optional(3)) };
    for (given, what) in [
        (c.flag("antialias", false), "antialias"),
        (c.string("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize", "tf_crop_and_resize"),
    ] {
        if given {
            let remedy = "export without it, or resize before the model runs";
            return Err(Failure::unsupported(format!("there is no kernel for {what}"), remedy));
        }
    }
    let x = c.input(0)?;
    let shape = c.shape(x);
    let rank = shape.len();
    let axes = match c.ints("axes") {
        Some(axes) => axes.iter().map(|&a| c.axis(a, rank)).collect::<Result<Vec<_>, _>>()?,
        None => (0..rank).collect(),
    };
    // An empty tensor is as none.
    let scales = scales.filter(|&t| c.shape(t) != [0]);
    let sizes = sizes.filter(|&t| c.shape(t) != [0]);
    let of_axes = |n: usize| {
        let text = format!("{n} values for {} axes", axes.len());
        if n == axes.len() { Ok(()) } else { Err(Failure::malformed(text)) }
    };
    let mut all: Vec<Axis> = shape.iter().map(|&n| Axis { input: n, output: n, scale: 1.0 }).collect();
    match (scales, sizes) {
        (Some(scales), None) => {
            let scales = c.constant(scales, "the scales")?;
            of_axes(scales.len())?;
            for (&axis, &scale) in axes.iter().zip(scales.reals().iter()) {
                all[axis] = scaled(shape[axis], scale as f32)?;
            }
        }
        (None, Some(sizes)) => {
            let sizes = c.constant(sizes, "the sizes")?.ints().into_owned();
            of_axes(sizes.len())?;
            let ratios = axes.iter().zip(&sizes).map(|(&axis, &size)| size as f32 / shape[axis] as f32);
            let kept = match &c.string("keep_aspect_ratio_policy", "stretch")[..] {
                "stretch" => None,
                "not_larger" => ratios.reduce(f32::min),
                "not_smaller" => ratios.reduce(f32::max),
                other => return Err(Failure::malformed(format!("keep_aspect_ratio_policy `{other}`"))),
            };
            for (&axis, &size) in axes.iter().zip(&sizes) {
                let n = shape[axis];
                let bad = || Failure::malformed(format!("size {size}"));
                let output = match kept {
                    // Half of an element is one.
                    Some(scale) => (scale * n as f32 + 0.5).floor() as i64,
                    None => size,
                };
                let output = usize::try_from(output).ok().filter(|&o| o > 0 && n > 0).ok_or_else(bad)?;
                let scale = kept.unwrap_or(output as f32 / n as f32);
                all[axis] = Axis { input: n, output, scale };
            }
        }
        _ => return Err(Failure::malformed("it has to have scales or sizes, and not both")),
    }
    emit(c, x, &all)
}

/// `Upsample` (opset 7 to 9).
pub fn upsample(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let scales: Vec<f64> = match c.floats("scales") {
        Some(scales) => scales.into_iter().map(f64::from).collect(),
        None => {
            let scales = c.input(1)?;
            c.constant(scales, "the scales")?.reals().into_owned()
        }
    };
    if scales.len() != shape.len() {
        return Err(Failure::malformed(format!("{} scales for {} axes", scales.len(), shape.len())));
    }
    let all: Vec<Axis> = shape.iter().zip(&scales).map(|(&n, &s)| scaled(n, s as f32)).collect::<Result<_, _>>()?;
    emit(c, x, &all)
}

fn scaled(input: usize, scale: f32) -> Result<Axis, Failure> {
    let output = (input as f32 * scale).floor();
    if scale.is_finite() && scale > 0.0 && (1.0..=u32::MAX as f32).contains(&output) {
        return Ok(Axis { input, output: output as usize, scale });
    }
    Err(Failure::malformed(format!("scale {scale} of an axis of {input}")))
}

/// Emits the nodes for all axes that change.
fn emit(c: &mut Context<'_, '_>, x: TensorId, axes: &[Axis]) -> Result<(), Failure> {
    let mode = match &c.string("mode", "nearest")[..] {
        "nearest" => Mode::Nearest,
        "linear" | "bilinear" => Mode::Linear,
        "cubic" => Mode::Cubic,
        other => return Err(Failure::malformed(format!("mode `{other}`"))),
    };
    if mode != Mode::Nearest && c.dtype(x) != DType::F32 {
        return Err(Failure::unsupported(
            format!("integers are resized by the nearest neighbour alone, and these are {}", c.dtype(x).name()),
            "put DequantizeLinear before and QuantizeLinear behind it, or Cast",
        ));
    }
    // Whole repeats are one copy for all axes; of other axes elements are weighted and added.
    let (mut repeats, mut sums) = (vec![1; axes.len()], Vec::new());
    for (i, axis) in axes.iter().enumerate().filter(|(_, a)| a.output != a.input || a.scale != 1.0) {
        let Taps(taps) = Taps::of(c, mode, axis)?;
        let times = axis.output / axis.input;
        let alike = |from: &[i64]| (0..).zip(from).all(|(o, &i)| o / times.max(1) == i as usize);
        match &taps[..] {
            [(from, _)] if times * axis.input == axis.output && alike(from) => repeats[i] = times,
            _ => sums.push((i, axis.output, taps)),
        }
    }
    let mut y = repeated(c, x, &repeats)?;
    for (axis, n, taps) in sums {
        y = weighted(c, y, axis, n, &taps)?;
    }
    c.output(0, y);
    Ok(())
}

/// Each element of an axis several times.
fn repeated(c: &mut Context<'_, '_>, x: TensorId, times: &[usize]) -> Result<TensorId, Failure> {
    if times.iter().all(|&n| n == 1) {
        return Ok(x);
    }
    let shape = c.shape(x);
    let wide = |r: bool| -> Vec<usize> {
        let axis =
            |(&n, &times): (&usize, &usize)| if times == 1 { vec![n] } else { vec![n, if r { times } else { 1 }] };
        shape.iter().zip(times).flat_map(axis).collect()
    };
    let narrow = c.reshaped(x, &wide(false))?;
    let quant = c.tensor_info(narrow).quant.clone();
    let many = c.emit_optional(Op::Expand, &[Some(narrow)], c.dtype(x), &wide(true), quant)?;
    let out: Vec<usize> = shape.iter().zip(times).map(|(n, times)| n * times).collect();
    c.reshaped(many, &out)
}

/// The sum of an axis' elements that the taps take.
fn weighted(
    c: &mut Context<'_, '_>,
    x: TensorId,
    axis: usize,
    n: usize,
    taps: &[(Vec<i64>, Vec<f64>)],
) -> Result<TensorId, Failure> {
    let mut shape = c.shape(x);
    shape[axis] = n;
    let mut along = vec![1; shape.len()];
    along[axis] = n;
    let (dtype, quant) = (c.dtype(x), c.tensor_info(x).quant.clone());
    let mut sum = None;
    for (from, weights) in taps.iter().filter(|(_, weights)| weights.iter().any(|&w| w != 0.0)) {
        let index = c.add_constant(Array::int(DType::I64, &[n], from.clone()));
        let mut term = c.emit_optional(Op::Gather { axis }, &[Some(x), Some(index)], dtype, &shape, quant.clone())?;
        if weights.iter().any(|&w| w != 1.0) {
            let weights = c.add_constant(Array::f32(&along, weights.clone()));
            term = c.emit(Op::Binary(BinaryOp::Mul), &[term, weights], dtype, &shape)?;
        }
        sum = Some(match sum {
            Some(sum) => c.emit(Op::Binary(BinaryOp::Add), &[sum, term], dtype, &shape)?,
            None => term,
        });
    }
    sum.ok_or_else(|| Failure::malformed("no element has a weight"))
}

impl Taps {
    fn of(c: &mut Context<'_, '_>, mode: Mode, a: &Axis) -> Result<Taps, Failure> {
        if a.input == 0 {
            return Err(Failure::malformed("an axis without elements has no neighbours"));
        }
        let taps = match mode {
            Mode::Nearest => 1,
            Mode::Linear => 2,
            Mode::Cubic => 4,
        };
        // A small file can name any scale: what the taps take is bounded before they are there.
        c.reserve(a.output.saturating_mul(taps), DType::I64)?;
        c.reserve(a.output.saturating_mul(taps), DType::F32)?;
        let last = a.input as i64 - 1;
        let at: Vec<f32> = (0..a.output).map(|i| coordinate(c, a, i)).collect::<Result<_, _>>()?;
        Ok(match mode {
            Mode::Nearest => {
                let nearest = at.iter().map(|&x| nearest(c, a, x)).collect::<Result<Vec<i64>, _>>()?;
                Taps(vec![(nearest.into_iter().map(|i| i.clamp(0, last)).collect(), vec![1.0; a.output])])
            }
            Mode::Linear => {
                let inside = at.iter().map(|x| x.clamp(0.0, last as f32));
                let split = inside.map(|x| (x.floor() as i64, f64::from(x - x.floor())));
                let (low, upper): (Vec<i64>, Vec<f64>) = split.unzip();
                let high = low.iter().map(|&i| (i + 1).min(last)).collect();
                Taps(vec![(low, upper.iter().map(|w| 1.0 - w).collect()), (high, upper)])
            }
            Mode::Cubic => cubic(c, &at, last),
        })
    }
}

/// Four neighbours, weighted by Keys' polynomial (IEEE Transactions on Acoustics, Speech, and Signal Processing 29, 1981).
fn cubic(c: &Context<'_, '_>, at: &[f32], last: i64) -> Taps {
    let (a, exclude) = (f64::from(c.float("cubic_coeff_a", -0.75)), c.flag("exclude_outside", false));
    let mut taps: Vec<(Vec<i64>, Vec<f64>)> = (0..4).map(|_| Default::default()).collect();
    for &x in at {
        let (floor, s) = (x.floor() as i64, f64::from(x - x.floor()));
        let far = |d: f64| ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a;
        let near = |d: f64| ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0;
        let mut weights = [far(s + 1.0), near(s), near(1.0 - s), far(2.0 - s)];
        if exclude {
            let outside = |k: usize| !(0..=last).contains(&(floor + k as i64 - 1));
            (0..4).filter(|&k| outside(k)).for_each(|k| weights[k] = 0.0);
            let sum: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|w| *w /= sum);
        }
        for (k, (from, to)) in taps.iter_mut().enumerate() {
            from.push((floor + k as i64 - 1).clamp(0, last));
            to.push(weights[k]);
        }
    }
    Taps(taps)
}

/// Where in the input output element `i` is.
fn coordinate(c: &Context<'_, '_>, a: &Axis, i: usize) -> Result<f32, Failure> {
    let (i, input, output) = (i as f32, a.input as f32, a.output as f32);
    let half = |i: f32| (i + 0.5) / a.scale - 0.5;
    // Before opset 11 there was no other.
    let mode =
        if c.opset < 11 { "asymmetric".into() } else { c.string("coordinate_transformation_mode", "half_pixel") };
    Ok(match &mode[..] {
        // What does not change is where it was.
        _ if a.scale == 1.0 && a.input == a.output => i,
        "half_pixel" => half(i),
        "half_pixel_symmetric" => {
            let adjustment = output / (a.scale * input);
            input / 2.0 * (1.0 - adjustment) + half(i)
        }
        "pytorch_half_pixel" => {
            if a.output > 1 {
                half(i)
            } else {
                0.0
            }
        }
        "align_corners" => {
            if a.output > 1 {
                i * (input - 1.0) / (output - 1.0)
            } else {
                0.0
            }
        }
        "asymmetric" => i / a.scale,
        other => return Err(Failure::malformed(format!("coordinate_transformation_mode `{other}`"))),
    })
}

/// The element next to a coordinate.
fn nearest(c: &Context<'_, '_>, a: &Axis, x: f32) -> Result<i64, Failure> {
    if c.opset < 11 {
        // What is made smaller takes the next one: so the examples of the standard.
        return Ok(if a.scale < 1.0 { x.ceil() } else { x.floor() } as i64);
    }
    Ok(match &c.string("nearest_mode", "round_prefer_floor")[..] {
        "round_prefer_floor" => (x - 0.5).ceil(),
        "round_prefer_ceil" => (x + 0.5).floor(),
        "floor" => x.floor(),
        "ceil" => x.ceil(),
        other => return Err(Failure::malformed(format!("nearest_mode `{other}`"))),
    } as i64)
}
