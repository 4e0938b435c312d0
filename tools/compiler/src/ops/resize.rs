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
    /// Of `tf_crop_and_resize`: the part of the input, in shares of its extent.
    region: Option<[f32; 2]>,
}

/// What an output element is made of: for each tap the input element of each output element, and its weight.
struct Taps(Vec<(Vec<i64>, Vec<f64>)>);

/// `Resize` (opset 10 and later): scales or sizes for all axes, or for some from opset 18 on.
pub fn resize(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    // Opset 10 has the scales where later ones have the region.
    let (scales, sizes) = if c.opset < 11 { (c.optional(1), None) } else { (c.optional(2), c.optional(3)) };
    let crops = c.opset >= 11 && c.string("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize";
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
    let mut all: Vec<Axis> = shape.iter().map(|&n| Axis { input: n, output: n, scale: 1.0, region: None }).collect();
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
                all[axis] = Axis { input: n, output, scale, region: None };
            }
        }
        _ => return Err(Failure::malformed("it has to have scales or sizes, and not both")),
    }
    if crops {
        let roi = c.input(1)?;
        let roi = c.constant(roi, "the region")?;
        if roi.len() != 2 * axes.len() {
            return Err(Failure::malformed(format!("a region of {} values for {} axes", roi.len(), axes.len())));
        }
        for (k, &axis) in axes.iter().enumerate() {
            let [from, to] = [k, k + axes.len()].map(|i| roi.reals()[i] as f32);
            if !from.is_finite() || !to.is_finite() {
                return Err(Failure::malformed("a region without bounds"));
            }
            // By the operator's text the region's extent is part of the output's, by its shape inference it is not.
            if scales.is_some() && to - from != 1.0 {
                return Err(Failure::unsupported(
                    "tf_crop_and_resize by scales, of a region that is smaller or larger than its input",
                    "give the sizes of the output",
                ));
            }
            all[axis].region = Some([from, to]);
        }
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
        return Ok(Axis { input, output: output as usize, scale, region: None });
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
    let antialias = c.flag("antialias", false) && mode != Mode::Nearest;
    let own = c.dtype(x);
    let integers = mode != Mode::Nearest && own != DType::F32;
    let inexact = || {
        let reason =
            "integers are resized by the nearest neighbour, bytes linearly, too, if floats have all sums exactly;";
        Failure::unsupported(
            format!("{reason} these are {}", own.name()),
            "put DequantizeLinear before and QuantizeLinear behind it, or Cast",
        )
    };
    if integers && (mode != Mode::Linear || antialias || !matches!(own, DType::I8 | DType::U8)) {
        return Err(inexact());
    }
    // Whole repeats are one copy for all axes; of other axes elements are weighted and added.
    let (mut repeats, mut sums) = (vec![1; axes.len()], Vec::new());
    let (mut y, mut beyond) = (if integers { c.as_type(x, DType::F32)? } else { x }, Vec::new());
    // Of the 24 bits of a float a byte has eight, and the weights of all axes share the others. A sum that is not exact might
    // fall short of an integer and be cut off to the one before.
    let unit = f64::from(1 << (15 / axes.iter().filter(|a| a.changes()).count().max(1)));
    for (i, axis) in axes.iter().enumerate().filter(|(_, a)| a.changes()) {
        if let Some(outside) = outside(c, axis)? {
            if integers {
                return Err(inexact());
            }
            beyond.push((i, outside));
        }
        if antialias && axis.scale < 1.0 {
            y = filtered(c, y, i, mode, axis)?;
            continue;
        }
        let Taps(taps) = Taps::of(c, mode, axis)?;
        if integers && taps.iter().flat_map(|(_, weights)| weights).any(|w| (w * unit).fract() != 0.0) {
            return Err(inexact());
        }
        let times = axis.output / axis.input;
        let alike = |from: &[i64]| (0..).zip(from).all(|(o, &i)| o / times.max(1) == i as usize);
        match &taps[..] {
            [(from, _)] if times * axis.input == axis.output && alike(from) => repeats[i] = times,
            _ => sums.push((i, axis.output, taps)),
        }
    }
    y = repeated(c, y, &repeats)?;
    for (axis, n, taps) in sums {
        y = weighted(c, y, axis, n, &taps)?;
    }
    for (axis, outside) in beyond {
        let mut along = vec![1; axes.len()];
        along[axis] = outside.len();
        let outside = c.add_constant(Array::int(DType::Bool, &along, outside));
        let value = f64::from(c.float("extrapolation_value", 0.0));
        y = c.raw(y);
        let value = c.scalar_like(y, value);
        y = c.select(outside, value, y)?;
    }
    y = c.as_type(y, own)?;
    c.output(0, y);
    Ok(())
}

/// Which positions of the output lie outside of the input, if any do and an extrapolation gives their values.
fn outside(c: &mut Context<'_, '_>, a: &Axis) -> Result<Option<Vec<i64>>, Failure> {
    if a.region.is_none() {
        return Ok(None);
    }
    c.reserve(a.output, DType::Bool)?;
    let inside = 0.0..=a.input as f32 - 1.0;
    let at = (0..a.output).map(|i| coordinate(c, a, i)).collect::<Result<Vec<_>, _>>()?;
    let outside: Vec<i64> = at.iter().map(|x| i64::from(!inside.contains(x))).collect();
    Ok(outside.contains(&1).then_some(outside))
}

/// An axis made smaller with `antialias`: the filter is as much wider, and its weights a constant matrix.
fn filtered(c: &mut Context<'_, '_>, x: TensorId, axis: usize, mode: Mode, a: &Axis) -> Result<TensorId, Failure> {
    if a.input == 0 {
        return Err(Failure::malformed("an axis without elements has no neighbours"));
    }
    c.reserve(a.output.saturating_mul(a.input), DType::F32)?;
    let (keys, exclude) = (f64::from(c.float("cubic_coeff_a", -0.75)), c.flag("exclude_outside", false));
    let scale = f64::from(a.scale);
    let reach = if mode == Mode::Cubic { 2.0 } else { 1.0 } / scale;
    let weight = |d: f64| match d.abs() {
        d if mode == Mode::Linear => (1.0 - d).max(0.0),
        d if d <= 1.0 => ((keys + 2.0) * d - (keys + 3.0)) * d * d + 1.0,
        d if d < 2.0 => ((keys * d - 5.0 * keys) * d + 8.0 * keys) * d - 4.0 * keys,
        _ => 0.0,
    };
    if a.region.is_some() {
        let reason = "antialias with tf_crop_and_resize, of which no text says how wide the filter is";
        return Err(Failure::unsupported(reason, "crop by Slice before"));
    }
    if reach > 1e6 {
        return Err(Failure::unsupported(format!("a filter that reaches {reach} elements"), "resize in several steps"));
    }
    c.reserve(a.output.saturating_mul(2 * reach as usize), DType::F32)?;
    let mut matrix = vec![0.0; a.output * a.input];
    for (o, row) in matrix.chunks_mut(a.input).enumerate() {
        let at = f64::from(coordinate(c, a, o)?);
        let (first, last) = ((at - reach).ceil() as i64, (at + reach).floor() as i64);
        let mut sum = 0.0;
        for i in first..=last {
            let inside = (0..a.input as i64).contains(&i);
            if inside || !exclude {
                let w = weight((i as f64 - at) * scale);
                row[i.clamp(0, a.input as i64 - 1) as usize] += w;
                sum += w;
            }
        }
        row.iter_mut().for_each(|w| *w /= sum);
    }
    let matrix = c.add_constant(Array::f32(&[a.output, a.input], matrix));
    let rank = c.shape(x).len();
    let last = c.moved(x, axis, rank - 1)?;
    let shape = c.shape(last);
    let rows = shape[..rank - 1].iter().product();
    let last = c.reshaped(last, &[rows, a.input])?;
    let y = c.product(last, matrix, [false, true])?;
    let y = c.reshaped(y, &[&shape[..rank - 1], &[a.output]].concat())?;
    c.moved(y, rank - 1, axis)
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

impl Axis {
    fn changes(&self) -> bool {
        self.output != self.input || self.scale != 1.0 || self.region.is_some_and(|r| r != [0.0, 1.0])
    }
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
        _ if !a.changes() => i,
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
        "tf_crop_and_resize" => {
            let [from, to] = a.region.unwrap_or([0.0, 1.0]);
            if a.output > 1 {
                from * (input - 1.0) + i * (to - from) * (input - 1.0) / (output - 1.0)
            } else {
                0.5 * (from + to) * (input - 1.0)
            }
        }
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
