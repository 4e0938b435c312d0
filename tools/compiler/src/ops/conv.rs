//! Convolutions.

use kinglet::DType;

use super::matmul::{EXACT, centred, in_parts};
use super::quantize::{dequantized, dequantized_by, integers_of, reals_of};
use super::shape::constant_shape;
use super::unfold;
use crate::array::Array;
use crate::graph::{BinaryOp, Layout, Op, Post, Quant, TensorId, Window};
use crate::import::{Context, Failure};

/// Largest extent of a kernel; the runtime's geometry is made for it.
const MAX_EXTENT: usize = 1 << 14;
/// Largest padding.
const MAX_PAD: i64 = 1 << 20;

pub(super) fn check_kernel(kernel: &[usize]) -> Result<(), Failure> {
    if kernel.iter().any(|k| !(1..=MAX_EXTENT).contains(k)) {
        return Err(Failure::malformed(format!("a kernel of extents {kernel:?}")));
    }
    Ok(())
}

/// Reads window attributes for a kernel of these extents over an input of these extents.
pub(super) fn window(c: &Context<'_, '_>, kernel: Vec<usize>, spatial: &[usize]) -> Result<Window, Failure> {
    let rank = kernel.len();
    check_kernel(&kernel)?;
    if spatial.contains(&0) {
        return Err(Failure::malformed("the input has no elements"));
    }
    let strides = c.counts("strides", rank, 1)?;
    let dilations = c.counts("dilations", rank, 1)?;
    let mut pads_begin = vec![0i64; rank];
    let mut pads_end = vec![0i64; rank];
    match c.string("auto_pad", "NOTSET").as_str() {
        "NOTSET" => {
            if let Some(pads) = c.ints("pads") {
                if pads.len() != 2 * rank || pads.iter().any(|p| !(0..MAX_PAD).contains(p)) {
                    return Err(Failure::malformed(format!("pads {pads:?} for {rank} spatial axes")));
                }
                pads_begin.copy_from_slice(&pads[..rank]);
                pads_end.copy_from_slice(&pads[rank..]);
            }
        }
        "VALID" => {}
        same @ ("SAME_UPPER" | "SAME_LOWER") => {
            for d in 0..rank {
                let out = spatial[d].div_ceil(strides[d]) as i64;
                let extent = (kernel[d] as i64 - 1) * dilations[d] as i64 + 1;
                let total = ((out - 1) * strides[d] as i64 + extent - spatial[d] as i64).max(0);
                let (small, large) = (total / 2, total - total / 2);
                (pads_begin[d], pads_end[d]) = if same == "SAME_UPPER" { (small, large) } else { (large, small) };
            }
        }
        other => return Err(Failure::malformed(format!("auto_pad = {other}"))),
    }
    if pads_begin.iter().chain(&pads_end).any(|&p| p >= MAX_PAD) {
        return Err(Failure::malformed(format!("padding {pads_begin:?}, {pads_end:?}")));
    }
    Ok(Window { kernel, strides, dilations, pads_begin, pads_end })
}

/// Extents of a window's output; with `ceil`, a last window that begins inside the input or its left padding counts.
pub(super) fn output_extents(w: &Window, spatial: &[usize], ceil: bool) -> Result<Vec<usize>, Failure> {
    let mut out = Vec::new();
    for d in 0..spatial.len() {
        let extent = (w.kernel[d] as i64 - 1) * w.dilations[d] as i64 + 1;
        let room = spatial[d] as i64 + w.pads_begin[d] + w.pads_end[d] - extent;
        if room < 0 {
            return Err(Failure::malformed(format!("a window of {extent} does not fit the padded extent of axis {d}")));
        }
        let stride = w.strides[d] as i64;
        let mut n = room / stride + 1;
        if ceil && room % stride != 0 && n * stride < spatial[d] as i64 + w.pads_begin[d] {
            n += 1;
        }
        out.push(n as usize);
    }
    Ok(out)
}

/// Shapes of x and weights, with the checks common to all convolutions.
pub(super) fn shapes(c: &Context<'_, '_>, x: TensorId, w: TensorId) -> Result<(Vec<usize>, Vec<usize>), Failure> {
    let (xs, ws) = (c.shape(x), c.shape(w));
    if xs.len() != ws.len() || xs.len() < 3 {
        return Err(Failure::malformed(format!("input of shape {xs:?} and weights of shape {ws:?}")));
    }
    if let Some(k) = c.ints("kernel_shape")
        && k.iter().map(|&k| k as usize).ne(ws[2..].iter().copied())
    {
        return Err(Failure::malformed(format!("kernel_shape {k:?} and weights of shape {ws:?}")));
    }
    Ok((xs, ws))
}

pub(super) fn groups(c: &Context<'_, '_>) -> Result<usize, Failure> {
    usize::try_from(c.int("group", 1))
        .ok()
        .filter(|&g| g > 0)
        .ok_or_else(|| Failure::malformed("group is not positive"))
}

/// A convolution, and the shape of what it gives.
pub(super) struct Geometry {
    pub(super) op: Op,
    pub(super) shape: Vec<usize>,
}

/// Emits a convolution: as it is, if there are kernels for it, else by what there are.
pub(super) fn emit(
    c: &mut Context<'_, '_>,
    g: Geometry,
    [x, w]: [TensorId; 2],
    bias: Option<TensorId>,
) -> Result<TensorId, Failure> {
    let (spatial, fixed) = (g.shape.len() - 2, c.is_fixed(w));
    if spatial <= 2 && fixed {
        return c.emit_optional(g.op, &[Some(x), Some(w), bias], DType::F32, &g.shape, None);
    }
    let y = match g.op {
        Op::ConvTranspose { .. } => unfold::conv_transposed(c, &g, [x, w])?,
        _ if spatial == 3 && fixed => unfold::over_volumes(c, &g, [x, w])?,
        _ => unfold::convolved(c, &g, [x, w])?,
    };
    match bias {
        Some(b) => along_channels(c, y, b),
        None => Ok(y),
    }
}

/// Adds a bias of each channel.
pub(super) fn along_channels(c: &mut Context<'_, '_>, y: TensorId, bias: TensorId) -> Result<TensorId, Failure> {
    let mut along = vec![1; c.shape(y).len() - 1];
    along[0] = c.shape(y)[1];
    let bias = c.reshaped(bias, &along)?;
    c.binary(BinaryOp::Add, y, bias)
}

fn geometry(c: &Context<'_, '_>, x: TensorId, w: TensorId) -> Result<Geometry, Failure> {
    let (xs, ws) = shapes(c, x, w)?;
    let groups = groups(c)?;
    if ws[1].checked_mul(groups) != Some(xs[1]) || ws[0] % groups != 0 {
        return Err(Failure::malformed(format!("{} channels, weights of shape {ws:?}, {groups} groups", xs[1])));
    }
    let window = window(c, ws[2..].to_vec(), &xs[2..])?;
    let spatial = output_extents(&window, &xs[2..], false)?;
    let shape = Layout::ChannelsFirst.shape(xs[0], ws[0], &spatial);
    Ok(Geometry { op: Op::Conv { window, groups, layout: Layout::ChannelsFirst, post: Post::default() }, shape })
}

/// `Conv` (opset 1 and later).
pub fn conv(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let y = convolution(c)?;
    c.output(0, y);
    Ok(())
}

/// The convolution of the first three inputs.
pub(super) fn convolution(c: &mut Context<'_, '_>) -> Result<TensorId, Failure> {
    let (x, w, bias) = (c.input(0)?, c.input(1)?, c.optional(2));
    [Some(w), bias].into_iter().for_each(|t| c.prefer_constant(t));
    let g = geometry(c, x, w)?;
    biased(c, g, [x, w], bias)
}

/// Emits a convolution. A bias that is computed while the model runs is added after it.
pub(super) fn biased(
    c: &mut Context<'_, '_>,
    g: Geometry,
    [x, w]: [TensorId; 2],
    bias: Option<TensorId>,
) -> Result<TensorId, Failure> {
    let channels = g.shape[1];
    check_bias(c, bias, channels)?;
    let constant = bias.filter(|&b| c.is_constant(b));
    let y = emit(c, g, [x, w], constant)?;
    match (bias, constant) {
        (Some(b), None) => along_channels(c, y, b),
        _ => Ok(y),
    }
}

fn check_bias(c: &Context<'_, '_>, bias: Option<TensorId>, channels: usize) -> Result<(), Failure> {
    match bias.map(|b| c.shape(b)) {
        Some(s) if s != [channels] => Err(Failure::malformed(format!("bias of shape {s:?} for {channels} channels"))),
        _ => Ok(()),
    }
}

/// `QLinearConv` (opset 10): a convolution of quantised tensors. It is imported as what it means, *dequantise, convolve,
/// quantise*; whether that runs in integers is decided in one place for all products.
pub fn qlinear(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (x, w, bias) = (c.input(0)?, c.input(3)?, c.optional(8));
    [Some(w), bias].into_iter().for_each(|t| c.prefer_constant(t));
    let g = geometry(c, x, w)?;
    check_bias(c, bias, g.shape[1])?;
    if bias.is_some_and(|b| c.dtype(b) != DType::I32) || c.dtype(w).quantized_range().is_none() {
        return Err(Failure::malformed("weights or bias are no integers of the types it takes"));
    }
    let bias = match bias {
        Some(b) => Some(integer_bias(c, b)?),
        None => None,
    };
    let (x, w) = (reals_of(c, [0, 1, 2], 1)?, reals_of(c, [3, 4, 5], 0)?);
    let sum = biased(c, g, [x, w], bias)?;
    let y = integers_of(c, sum, [6, 7], DType::U8)?;
    c.output(0, y);
    Ok(())
}

/// The bias of a `QLinearConv`, whose scale is that of the products.
fn integer_bias(c: &mut Context<'_, '_>, b: TensorId) -> Result<TensorId, Failure> {
    let (sx, sw) = (c.input(1)?, c.input(4)?);
    let (Some(x), Some(w)) = (c.known(sx), c.known(sw)) else {
        let scale = c.binary(BinaryOp::Mul, sw, sx)?;
        return dequantized_by(c, b, [Some(scale), None], 0);
    };
    let sx = x.as_scalar().ok_or_else(|| Failure::malformed("several scales of x"))?;
    let scales: Vec<f32> = w.reals().iter().map(|&s| (s * sx) as f32).collect();
    if scales.is_empty() || scales.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
        return Err(Failure::malformed("the scales multiply to none of the bias"));
    }
    if scales.len() > 1 && scales.len() != c.shape(b)[0] {
        return Err(Failure::malformed(format!("{} scales of the weights", scales.len())));
    }
    let zero_points = vec![0; scales.len()];
    dequantized(c, b, Quant { scales, zero_points, axis: 0 })
}

/// `ConvInteger` (opset 10): a convolution of integers without scales. It is one of reals, over so few channels at a time that every sum is exact.
pub fn integer(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (x, w) = (c.input(0)?, c.input(1)?);
    c.prefer_constant(Some(w));
    if [x, w].iter().any(|&t| c.dtype(t).quantized_range().is_none()) {
        return Err(Failure::malformed("input or weights are no integers of 8 bits"));
    }
    let g = geometry(c, x, w)?;
    let ws = c.shape(w);
    let taps: usize = ws[2..].iter().product();
    if taps > EXACT || groups(c)? > 1 && taps * ws[1] > EXACT {
        return Err(Failure::unsupported(
            format!("sums of {} products of integers, which f32 does not hold", taps * ws[1]),
            "quantise the model statically (QLinearConv, or QuantizeLinear and DequantizeLinear)",
        ));
    }
    let (x, w) = (centred(c, x, 2, 1)?, centred(c, w, 3, 0)?);
    let channels = if groups(c)? > 1 { ws[1] } else { (EXACT / taps).max(1) };
    let sum = in_parts(c, ws[1], channels.max(1), |c, from, n| {
        let part = Geometry { op: g.op.clone(), shape: g.shape.clone() };
        let of = if n == ws[1] { [x, w] } else { [c.sliced(x, 1, from, n, 1)?, c.sliced(w, 1, from, n, 1)?] };
        emit(c, part, of, None)
    })?;
    c.output(0, sum);
    Ok(())
}

/// `ConvTranspose` (opset 1 and later).
pub fn conv_transpose(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (x, w, bias) = (c.input(0)?, c.input(1)?, c.optional(2));
    [Some(w), bias].into_iter().for_each(|t| c.prefer_constant(t));
    let (xs, ws) = shapes(c, x, w)?;
    let groups = groups(c)?;
    if xs[1] != ws[0] || xs[1] % groups != 0 {
        return Err(Failure::malformed(format!("{} channels, weights of shape {ws:?}, {groups} groups", xs[1])));
    }
    let rank = xs.len() - 2;
    let kernel = ws[2..].to_vec();
    check_kernel(&kernel)?;
    let strides = c.counts("strides", rank, 1)?;
    let dilations = c.counts("dilations", rank, 1)?;
    let extra = c.ints("output_padding").unwrap_or_else(|| vec![0; rank]);
    let pads = c.ints("pads").unwrap_or_else(|| vec![0; 2 * rank]);
    let wanted = c.ints("output_shape");
    let auto = c.string("auto_pad", "NOTSET");
    if extra.len() != rank || pads.len() != 2 * rank || wanted.as_ref().is_some_and(|w| w.len() < rank) {
        return Err(Failure::malformed("attributes do not fit the rank"));
    }
    let absurd = |v: &i64| v.unsigned_abs() >= MAX_PAD as u64;
    if extra.iter().chain(&pads).any(absurd) || wanted.iter().flatten().any(|v| !(1..=1 << 31).contains(v)) {
        return Err(Failure::malformed("pads, output_padding or output_shape are out of range"));
    }
    let mut spatial = Vec::new();
    let (mut pads_begin, mut pads_end) = (pads[..rank].to_vec(), pads[rank..].to_vec());
    for d in 0..rank {
        let full =
            (xs[2 + d] as i64 - 1) * strides[d] as i64 + extra[d] + (kernel[d] as i64 - 1) * dilations[d] as i64 + 1;
        let target = match (&wanted, auto.as_str()) {
            (Some(w), _) => Some(w[w.len() - rank + d]),
            (None, "SAME_UPPER" | "SAME_LOWER") => Some((xs[2 + d] * strides[d]) as i64),
            _ => None,
        };
        if let Some(target) = target {
            let total = full - target;
            // A larger output than the windows reach goes on behind them.
            let (half, rest) = (total.max(0) / 2, total.max(0) - total.max(0) / 2);
            pads_begin[d] = if auto == "SAME_UPPER" { half } else { rest };
            pads_end[d] = total - pads_begin[d];
        }
        let n = full - pads_begin[d] - pads_end[d];
        if n <= 0 || pads_begin[d].abs().max(pads_end[d].abs()) > 1 << 24 {
            return Err(Failure::malformed(format!("output extent {n} along axis {d}")));
        }
        spatial.push(n as usize);
    }
    let window = Window { kernel, strides, dilations, pads_begin, pads_end };
    let op = Op::ConvTranspose { window, groups, layout: Layout::ChannelsFirst, post: Post::default() };
    let shape = Layout::ChannelsFirst.shape(xs[0], ws[1] * groups, &spatial);
    let y = biased(c, Geometry { op, shape }, [x, w], bias)?;
    c.output(0, y);
    Ok(())
}

/// `Col2Im` (opset 18): the elements under windows, `[batch, channels · taps, places]`, summed where they came from. It is a transposed
/// convolution in which each tap of a channel goes to its own place of the window.
pub fn col2im(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let (image, block) = (constant_shape(c, 1)?, constant_shape(c, 2)?);
    let shape = c.shape(x);
    let rank = image.len();
    let taps: usize = block.iter().product();
    if shape.len() != 3 || block.len() != rank || rank == 0 || taps == 0 || !shape[1].is_multiple_of(taps) {
        return Err(Failure::malformed(format!(
            "blocks of {block:?} of an image of {image:?} for an input of shape {shape:?}"
        )));
    }
    let window = window(c, block.clone(), &image)?;
    let places = output_extents(&window, &image, false)?;
    if places.iter().product::<usize>() != shape[2] {
        return Err(Failure::malformed(format!("{} blocks where there are places for {places:?}", shape[2])));
    }
    let channels = shape[1] / taps;
    let x = c.reshaped(x, &[&[shape[0], shape[1]], &places[..]].concat())?;
    c.reserve(shape[1].saturating_mul(taps), DType::F32)?;
    let ones = (0..shape[1] * taps).map(|i| f64::from(u8::from(i / taps % taps == i % taps))).collect();
    let w = c.add_constant(Array::f32(&[&[shape[1], 1], &block[..]].concat(), ones));
    // What the last window does not reach is behind it.
    let mut window = window;
    for d in 0..rank {
        let full = (places[d] - 1) * window.strides[d] + (block[d] - 1) * window.dilations[d] + 1;
        window.pads_end[d] = full as i64 - window.pads_begin[d] - image[d] as i64;
    }
    let op = Op::ConvTranspose { window, groups: channels, layout: Layout::ChannelsFirst, post: Post::default() };
    let y = emit(c, Geometry { op, shape: [&[shape[0], channels], &image[..]].concat() }, [x, w], None)?;
    c.output(0, y);
    Ok(())
}
