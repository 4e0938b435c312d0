//! Convolutions whose taps lie at computed places.

use kinglet::DType;

use super::conv::{Geometry, biased, groups, output_extents, shapes, window};
use crate::graph::{BinaryOp, Layout, Op, Post, SampleMode, SamplePadding, TensorId, Window};
use crate::import::{Context, Failure};

/// `DeformConv` (opset 19): what lies under each tap is sampled, so that the samples of a window lie side by side, and a convolution
/// steps over them from window to window.
pub fn deform_conv(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let [x, w, offsets] = [c.input(0)?, c.input(1)?, c.input(2)?];
    let (bias, mask) = (c.optional(3), c.optional(4));
    [Some(w), bias].into_iter().for_each(|t| c.prefer_constant(t));
    let ((xs, ws), groups) = (shapes(c, x, w)?, groups(c)?);
    let (batch, channels, spatial) = (xs[0], xs[1], &xs[2..]);
    let sets = usize::try_from(c.int("offset_group", 1)).unwrap_or(0);
    if sets == 0
        || sets > channels
        || channels % sets != 0
        || ws[1].checked_mul(groups) != Some(channels)
        || ws[0] % groups != 0
    {
        let parts = format!("{groups} groups and {sets} of offsets");
        return Err(Failure::malformed(format!("{channels} channels, weights of shape {ws:?}, {parts}")));
    }
    if spatial.len() > 3 {
        let reason = format!("a convolution over {} axes", spatial.len());
        return Err(Failure::unsupported(reason, "at most 3 are sampled: convolve over some of them at a time"));
    }
    let window = window(c, ws[2..].to_vec(), spatial)?;
    let places = output_extents(&window, spatial, false)?;
    let (taps, count): (usize, usize) = (ws[2..].iter().product(), places.iter().product());
    for (t, each, name) in [(Some(offsets), spatial.len(), "offset"), (mask, 1, "mask")] {
        let wanted = Layout::ChannelsFirst.shape(batch, sets * taps * each, &places);
        if let Some(given) = t.map(|t| c.shape(t)).filter(|s| *s != wanted) {
            return Err(Failure::malformed(format!("{name} has the shape {given:?}, not {wanted:?}")));
        }
    }
    // Each set of offsets has a picture of its own, of the channels that it is for.
    let pictures = c.reshaped(x, &[&[batch * sets, channels / sets], spatial].concat())?;
    let last = c.moved(pictures, 1, spatial.len() + 1)?;
    let grid = grid(c, offsets, [batch * sets, taps, count], &window, spatial, &places)?;
    let op = Op::GridSample { mode: SampleMode::Linear, padding: SamplePadding::Zeros, align_corners: false };
    let sampled = c.shape(grid);
    let shape = [&sampled[..=spatial.len()], &[channels / sets]].concat();
    let samples = c.emit(op, &[last, grid], DType::F32, &shape)?;
    let mut samples = c.reshaped(samples, &[batch * sets, count, taps, channels / sets])?;
    if let Some(mask) = mask {
        let mask = c.reshaped(mask, &[batch * sets, taps, count])?;
        let mask = c.transposed(mask, &[0, 2, 1])?;
        let mask = c.reshaped(mask, &[batch * sets, count, taps, 1])?;
        samples = c.binary(BinaryOp::Mul, samples, mask)?;
    }
    let samples = c.reshaped(samples, &[batch, sets, count * taps, channels / sets])?;
    let samples = c.transposed(samples, &[0, 2, 1, 3])?;
    let samples = c.reshaped(samples, &[batch, count * taps, channels])?;
    let samples = c.moved(samples, 2, 1)?;
    let w = c.reshaped(w, &[ws[0], ws[1], taps])?;
    let over =
        Window { kernel: vec![taps], strides: vec![taps], dilations: vec![1], pads_begin: vec![0], pads_end: vec![0] };
    let op = Op::Conv { window: over, groups, layout: Layout::ChannelsFirst, post: Post::default() };
    let y = biased(c, Geometry { op, shape: vec![batch, ws[0], count] }, [samples, w], bias)?;
    let y = c.reshaped(y, &Layout::ChannelsFirst.shape(batch, ws[0], &places))?;
    c.output(0, y);
    Ok(())
}

/// The places of all samples as `GridSample` takes them: `[pictures, windows, 1…, taps, axes]`, of a picture of one axis
/// `[pictures, windows · taps, 1]`, that along the last axis first.
fn grid(
    c: &mut Context<'_, '_>,
    offsets: TensorId,
    [pictures, taps, count]: [usize; 3],
    window: &Window,
    spatial: &[usize],
    places: &[usize],
) -> Result<TensorId, Failure> {
    let axes = spatial.len();
    let offsets = c.reshaped(offsets, &[pictures, taps, axes, count])?;
    let offsets = c.sliced(offsets, 2, axes - 1, axes, -1)?;
    let offsets = c.transposed(offsets, &[0, 3, 1, 2])?;
    // Pixels of an axis are `2 / extent` apart, and the first one is half of that behind −1. What is added is small enough for f32 to
    // keep a place as well as it keeps the sum of a pixel's number and an offset.
    let pixel = |axis: usize| 2.0 / spatial[axis] as f64;
    let along =
        |i: usize, axis: usize, extents: &[usize]| i / extents[axis + 1..].iter().product::<usize>() % extents[axis];
    let size = c.reals(&[axes], |i| pixel(axes - 1 - i))?;
    let tap = c.reals(&[taps, axes], |i| {
        let axis = axes - 1 - i % axes;
        (along(i / axes, axis, &window.kernel) * window.dilations[axis]) as f64 * pixel(axis)
    })?;
    let start = c.reals(&[count, 1, axes], |i| {
        let axis = axes - 1 - i % axes;
        let at = (along(i / axes, axis, places) * window.strides[axis]) as f64 - window.pads_begin[axis] as f64;
        (at + 0.5) * pixel(axis) - 1.0
    })?;
    let grid = c.binary(BinaryOp::Mul, offsets, size)?;
    let grid = c.binary(BinaryOp::Add, grid, tap)?;
    let grid = c.binary(BinaryOp::Add, grid, start)?;
    let shape = match axes {
        1 => vec![pictures, count * taps, 1],
        _ => [&[pictures, count][..], &vec![1; axes - 2], &[taps, axes]].concat(),
    };
    c.reshaped(grid, &shape)
}
