//! Windows taken apart into slices, for what the kernels of convolution and pooling do not have: more than two spatial axes, weights
//! that are computed, and the places of maxima.

use kinglet::DType;

use super::conv::{Geometry, emit};
use crate::array::Array;
use crate::graph::{BinaryOp, Layout, Op, PadMode, PoolKind, Post, TensorId, UnaryOp, Window};
use crate::import::{Context, Failure};

/// Most elements of a window that are taken apart.
const MOST_TAPS: usize = 4096;

/// `x` with `value` around it; what is negative is cut off.
pub(super) fn padded(
    c: &mut Context<'_, '_>,
    x: TensorId,
    before: &[i64],
    after: &[i64],
    value: f64,
) -> Result<TensorId, Failure> {
    let mut x = x;
    for d in 0..before.len() {
        let n = c.shape(x)[d];
        let (front, back) = ((-before[d]).max(0) as usize, (-after[d]).max(0) as usize);
        let left = n.checked_sub(front + back).ok_or_else(|| Failure::malformed("nothing is left of its input"))?;
        x = c.sliced(x, d, front, left, 1)?;
    }
    let count = |pads: &[i64]| pads.iter().map(|&p| p.max(0) as usize).collect::<Vec<_>>();
    let (before, after) = (count(before), count(after));
    if before.iter().chain(&after).all(|&p| p == 0) {
        return Ok(x);
    }
    let (dtype, shape) = (c.dtype(x), c.shape(x));
    let out: Vec<usize> = (0..shape.len()).map(|d| shape[d] + before[d] + after[d]).collect();
    c.emit(Op::Pad { mode: PadMode::Constant, before, after, value }, &[x], dtype, &out)
}

/// The elements under each place of a window: x `[batch, channels, …]` as `[batch, channels, taps, places]`, with `outside` beyond its border.
fn columns(
    c: &mut Context<'_, '_>,
    x: TensorId,
    w: &Window,
    spatial: &[usize],
    outside: f64,
) -> Result<TensorId, Failure> {
    let shape = c.shape(x);
    let taps: usize = w.kernel.iter().product();
    if taps > MOST_TAPS {
        return Err(Failure::unsupported(
            format!("a window of {:?} that is taken apart", w.kernel),
            "use constant weights, or a smaller window",
        ));
    }
    c.reserve_nodes(taps.saturating_mul(spatial.len() + 1))?;
    // Enough behind for the last window, which may end in the padding or before it.
    let mut after = vec![0, 0];
    for d in 0..spatial.len() {
        let reach = (spatial[d] - 1) * w.strides[d] + (w.kernel[d] - 1) * w.dilations[d] + 1;
        after.push(reach as i64 - shape[2 + d] as i64 - w.pads_begin[d]);
    }
    let x = padded(c, x, &[&[0, 0], &w.pads_begin[..]].concat(), &after, outside)?;
    let places = spatial.iter().product();
    let mut all = Vec::new();
    for tap in 0..taps {
        let (mut rest, mut part) = (tap, x);
        for d in (0..spatial.len()).rev() {
            let at = rest % w.kernel[d] * w.dilations[d];
            rest /= w.kernel[d];
            part = c.sliced(part, 2 + d, at, spatial[d], w.strides[d] as i64)?;
        }
        all.push(c.reshaped(part, &[shape[0], shape[1], 1, places])?);
    }
    c.concatenated(&all, 2)
}

/// A convolution as a product with the elements under its windows, for any number of axes and any weights.
pub(super) fn convolved(c: &mut Context<'_, '_>, g: &Geometry, [x, w]: [TensorId; 2]) -> Result<TensorId, Failure> {
    let Op::Conv { window, groups, .. } = &g.op else { unreachable!("the caller has a convolution") };
    let ws = c.shape(w);
    let under = columns(c, x, window, &g.shape[2..], 0.0)?;
    let (batch, places) = (g.shape[0], g.shape[2..].iter().product());
    let depth = ws[1..].iter().product();
    let under = c.reshaped(under, &[batch, *groups, depth, places])?;
    let w = c.reshaped(w, &[*groups, ws[0] / groups, depth])?;
    let y = c.product(w, under, [false, false])?;
    c.reshaped(y, &g.shape)
}

/// A transposed convolution as one over the input with zeros between its elements, with weights the other way round.
pub(super) fn conv_transposed(
    c: &mut Context<'_, '_>,
    g: &Geometry,
    [x, w]: [TensorId; 2],
) -> Result<TensorId, Failure> {
    let Op::ConvTranspose { window, groups, .. } = &g.op else {
        unreachable!("the caller has a transposed convolution")
    };
    let (mut x, mut w) = (x, w);
    let (xs, ws) = (c.shape(x), c.shape(w));
    if xs.contains(&0) || ws.contains(&0) {
        return Err(Failure::malformed(format!("input of shape {xs:?} and weights of shape {ws:?}")));
    }
    let rank = xs.len() - 2;
    for d in 0..rank {
        let shape = c.shape(x);
        let (axis, stride) = (2 + d, window.strides[d]);
        let mut wide = shape.clone();
        wide.insert(axis + 1, 1);
        let y = c.reshaped(x, &wide)?;
        let mut after = vec![0; wide.len()];
        after[axis + 1] = stride as i64 - 1;
        let y = padded(c, y, &vec![0; wide.len()], &after, 0.0)?;
        let mut apart = shape;
        apart[axis] *= stride;
        let y = c.reshaped(y, &apart)?;
        x = c.sliced(y, axis, 0, apart[axis] + 1 - stride, 1)?;
        w = c.sliced(w, axis, ws[axis] - 1, ws[axis], -1)?;
    }
    // [groups, in, out, …] to [groups, out, in, …].
    let (inside, outside) = (ws[0] / groups, ws[1]);
    let w = c.reshaped(w, &[&[*groups, inside, outside], &ws[2..]].concat())?;
    let perm: Vec<usize> = [0, 2, 1].into_iter().chain(3..3 + rank).collect();
    let w = c.transposed(w, &perm)?;
    let w = c.reshaped(w, &[&[groups * outside, inside], &ws[2..]].concat())?;
    let reach = |d: usize| ((window.kernel[d] - 1) * window.dilations[d]) as i64;
    let window = Window {
        strides: vec![1; rank],
        pads_begin: (0..rank).map(|d| reach(d) - window.pads_begin[d]).collect(),
        pads_end: (0..rank).map(|d| reach(d) - window.pads_end[d]).collect(),
        ..window.clone()
    };
    let op = Op::Conv { window, groups: *groups, layout: Layout::ChannelsFirst, post: Post::default() };
    emit(c, Geometry { op, shape: g.shape.clone() }, [x, w], None)
}

/// A convolution over volumes with constant weights: for each place along the depth one over pictures, summed.
pub(super) fn over_volumes(c: &mut Context<'_, '_>, g: &Geometry, [x, w]: [TensorId; 2]) -> Result<TensorId, Failure> {
    let Op::Conv { window, groups, .. } = &g.op else { unreachable!("the caller has a convolution") };
    let (shape, out) = (c.shape(x), &g.shape);
    let x = c.transposed(x, &[0, 2, 1, 3, 4])?;
    let x = padded(c, x, &[0, window.pads_begin[0], 0, 0, 0], &[0, window.pads_end[0], 0, 0, 0], 0.0)?;
    let flat = Window {
        kernel: window.kernel[1..].to_vec(),
        strides: window.strides[1..].to_vec(),
        dilations: window.dilations[1..].to_vec(),
        pads_begin: window.pads_begin[1..].to_vec(),
        pads_end: window.pads_end[1..].to_vec(),
    };
    c.reserve_nodes(window.kernel[0].saturating_mul(6))?;
    let mut sum = None;
    for k in 0..window.kernel[0] {
        let slices = c.sliced(x, 1, k * window.dilations[0], out[2], window.strides[0] as i64)?;
        let pictures = c.reshaped(slices, &[shape[0] * out[2], shape[1], shape[3], shape[4]])?;
        let of = c.sliced(w, 2, k, 1, 1)?;
        let ws = c.shape(of);
        let of = c.reshaped(of, &[ws[0], ws[1], ws[3], ws[4]])?;
        let op =
            Op::Conv { window: flat.clone(), groups: *groups, layout: Layout::ChannelsFirst, post: Post::default() };
        let g = Geometry { op, shape: vec![shape[0] * out[2], out[1], out[3], out[4]] };
        let y = emit(c, g, [pictures, of], None)?;
        sum = Some(match sum {
            Some(sum) => c.binary(BinaryOp::Add, sum, y)?,
            None => y,
        });
    }
    let sum = sum.ok_or_else(|| Failure::malformed("a kernel without extent"))?;
    let y = c.reshaped(sum, &[out[0], out[2], out[1], out[3], out[4]])?;
    c.transposed(y, &[0, 2, 1, 3, 4])
}

/// Pooling over more than two axes: over the last two, then over those before them. (The mean of a box is the mean of its rows' means, as
/// all rows have as many elements that count.)
pub(super) fn pooled(
    c: &mut Context<'_, '_>,
    x: TensorId,
    kind: PoolKind,
    w: &Window,
    out: &[usize],
) -> Result<TensorId, Failure> {
    let (dtype, shape) = (c.dtype(x), c.shape(x));
    let rank = w.kernel.len();
    let part = |axes: std::ops::Range<usize>| Window {
        kernel: w.kernel[axes.clone()].to_vec(),
        strides: w.strides[axes.clone()].to_vec(),
        dilations: w.dilations[axes.clone()].to_vec(),
        pads_begin: w.pads_begin[axes.clone()].to_vec(),
        pads_end: w.pads_end[axes].to_vec(),
    };
    let layout = Layout::ChannelsFirst;
    if rank <= 2 {
        return c.emit(Op::Pool { kind, window: part(0..rank), layout }, &[x], dtype, out);
    }
    let before: usize = shape[1..shape.len() - 2].iter().product();
    let pictures = c.reshaped(x, &[shape[0], before, shape[shape.len() - 2], shape[shape.len() - 1]])?;
    let last = [shape[0], before, out[out.len() - 2], out[out.len() - 1]];
    let y = c.emit(Op::Pool { kind, window: part(rank - 2..rank), layout }, &[pictures], dtype, &last)?;
    // One axis of what is left at a time, what lies behind it being one.
    let mut y = y;
    for d in (0..rank - 2).rev() {
        let outer: usize = shape[..2 + d].iter().product();
        let inner: usize = out[3 + d..].iter().product();
        let mut window = part(d..d + 1);
        window.kernel.push(1);
        window.strides.push(1);
        window.dilations.push(1);
        window.pads_begin.push(0);
        window.pads_end.push(0);
        let rows = c.reshaped(y, &[1, outer, shape[2 + d], inner])?;
        y = c.emit(Op::Pool { kind, window, layout }, &[rows], dtype, &[1, outer, out[2 + d], inner])?;
    }
    c.reshaped(y, out)
}

/// Where in x the maxima of windows are: positions in the whole tensor, `by_columns` counted along the first spatial axis first.
pub(super) fn places_of_maxima(
    c: &mut Context<'_, '_>,
    x: TensorId,
    w: &Window,
    out: &[usize],
    by_columns: bool,
) -> Result<TensorId, Failure> {
    let (shape, spatial) = (c.shape(x), &out[2..]);
    // What lies outside is lower than every element.
    let (x, outside) = match c.dtype(x).quantized_range() {
        Some((lowest, _)) => (c.as_type(x, DType::I32)?, f64::from(lowest) - 1.0),
        None if c.dtype(x) == DType::F32 => {
            (c.unary_with(UnaryOp::Clip, [f32::MIN, f32::INFINITY], x)?, f64::NEG_INFINITY)
        }
        None => (c.as_type(x, DType::I64)?, i64::MIN as f64),
    };
    let under = columns(c, x, w, spatial, outside)?;
    let &[batch, channels, taps, places] = &c.shape(under)[..] else { unreachable!("it has four axes") };
    let op = Op::ArgMax { axis: 2, keep: false, smallest: false, last: false };
    let tap = c.emit(op, &[under], DType::I64, &[batch, channels, places])?;
    // The position of each tap at each place, within a channel.
    let extent: usize = shape[2..].iter().product();
    c.reserve(taps * places, DType::I64)?;
    let mut positions = Vec::with_capacity(taps * places);
    for tap in 0..taps {
        for place in 0..places {
            let (mut tap, mut place, mut at, mut stride) = (tap, place, 0, 1);
            let mut coordinates = vec![0; spatial.len()];
            for d in (0..spatial.len()).rev() {
                let start = (place % spatial[d] * w.strides[d]) as i64 - w.pads_begin[d];
                coordinates[d] = start + (tap % w.kernel[d] * w.dilations[d]) as i64;
                (tap, place) = (tap / w.kernel[d], place / spatial[d]);
            }
            let order: Vec<usize> =
                if by_columns { (0..spatial.len()).collect() } else { (0..spatial.len()).rev().collect() };
            for d in order {
                at += coordinates[d].clamp(0, shape[2 + d] as i64 - 1) * stride;
                stride *= shape[2 + d] as i64;
            }
            positions.push(at);
        }
    }
    let positions = c.add_constant(Array::int(DType::I64, &[taps * places], positions));
    let row = c.binary_with(BinaryOp::Mul, tap, places as f64)?;
    let place = c.counting(DType::I64, places, 2, 3)?;
    let which = c.binary(BinaryOp::Add, row, place)?;
    let within = c.gathered(positions, which, 0)?;
    let channel = c.counting(DType::I64, batch * channels, 0, 1)?;
    let channel = c.reshaped(channel, &[batch, channels, 1])?;
    let offset = c.binary_with(BinaryOp::Mul, channel, extent as f64)?;
    let y = c.binary(BinaryOp::Add, within, offset)?;
    c.reshaped(y, out)
}
