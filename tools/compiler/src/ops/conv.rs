//! Convolutions.

use kinglet::DType;

use super::quantize::{dequantized, one_scale, quantization};
use crate::graph::{BinaryOp, Layout, Op, Post, Quant, TensorId, Window};
use crate::import::{Context, Failure};

/// Largest extent of a kernel; the runtime's geometry is made for it.
const MAX_EXTENT: usize = 1 << 14;
/// Largest padding.
const MAX_PAD: i64 = 1 << 20;

fn check_kernel(kernel: &[usize]) -> Result<(), Failure> {
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
fn shapes(c: &Context<'_, '_>, x: TensorId, w: TensorId) -> Result<(Vec<usize>, Vec<usize>), Failure> {
    let (xs, ws) = (c.shape(x), c.shape(w));
    if xs.len() != ws.len() || xs.len() < 3 {
        return Err(Failure::malformed(format!("input of shape {xs:?} and weights of shape {ws:?}")));
    }
    if xs.len() > 4 {
        return Err(Failure::unsupported(
            format!("{} spatial axes", xs.len() - 2),
            "only 1-D and 2-D convolutions have kernels",
        ));
    }
    if let Some(k) = c.ints("kernel_shape")
        && k.iter().map(|&k| k as usize).ne(ws[2..].iter().copied())
    {
        return Err(Failure::malformed(format!("kernel_shape {k:?} and weights of shape {ws:?}")));
    }
    Ok((xs, ws))
}

fn groups(c: &Context<'_, '_>) -> Result<usize, Failure> {
    usize::try_from(c.int("group", 1))
        .ok()
        .filter(|&g| g > 0)
        .ok_or_else(|| Failure::malformed("group is not positive"))
}

struct Geometry {
    op: Op,
    shape: Vec<usize>,
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
    let (x, w, bias) = (c.input(0)?, c.input(1)?, c.optional(2));
    [Some(w), bias].into_iter().for_each(|t| c.prefer_constant(t));
    let g = geometry(c, x, w)?;
    let y = biased(c, g, [x, w], bias)?;
    c.output(0, y);
    Ok(())
}

/// Emits a convolution. A bias that is computed while the model runs is added after it.
fn biased(
    c: &mut Context<'_, '_>,
    g: Geometry,
    [x, w]: [TensorId; 2],
    bias: Option<TensorId>,
) -> Result<TensorId, Failure> {
    let channels = g.shape[1];
    check_bias(c, bias, channels)?;
    let constant = bias.filter(|&b| c.is_constant(b));
    let y = c.emit_optional(g.op, &[Some(x), Some(w), constant], DType::F32, &g.shape, None)?;
    match (bias, constant) {
        (Some(b), None) => {
            let mut along = vec![1; g.shape.len() - 1];
            along[0] = channels;
            let b = c.reshaped(b, &along)?;
            c.emit(Op::Binary(BinaryOp::Add), &[y, b], DType::F32, &g.shape)
        }
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
    let xq = quantization(c, x, 1, 2, 1)?;
    let wq = quantization(c, w, 4, 5, 0)?;
    let y_zero = c.input(7)?;
    let dtype = c.dtype(y_zero);
    let yq = quantization(c, y_zero, 6, 7, 1)?;
    one_scale(c, x, &xq)?;
    one_scale(c, y_zero, &yq)?;
    if bias.is_some_and(|b| c.dtype(b) != DType::I32) || c.dtype(w).quantized_range().is_none() {
        return Err(Failure::malformed("weights or bias are no integers of the types it takes"));
    }
    let bias = match bias {
        Some(b) => {
            let sx = f64::from(xq.scales[0]);
            let scales: Vec<f32> = wq.scales.iter().map(|&s| (f64::from(s) * sx) as f32).collect();
            if scales.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
                return Err(Failure::malformed("the scales multiply to none of the bias"));
            }
            let zero_points = vec![0; scales.len()];
            Some(dequantized(c, b, Quant { scales, zero_points, axis: 0 })?)
        }
        None => None,
    };
    let (x, w) = (dequantized(c, x, xq)?, dequantized(c, w, wq)?);
    let shape = g.shape.clone();
    let sum = biased(c, g, [x, w], bias)?;
    let y = c.emit_optional(Op::Quantize, &[Some(sum)], dtype, &shape, Some(yq))?;
    c.output(0, y);
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
