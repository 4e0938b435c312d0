//! Pooling over windows and over everything.

use super::conv::{Geometry, emit, output_extents, window};
use super::unfold::{places_of_maxima, pooled};
use crate::graph::{Layout, Op, PoolKind, Post, ReduceOp, TensorId, UnaryOp};
use crate::import::{Context, Failure};

/// `MaxPool`, `AveragePool` (opset 1 and later).
pub fn pool(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    if shape.len() < 3 {
        return Err(Failure::malformed(format!("input of rank {}", shape.len())));
    }
    let kernel = c.counts("kernel_shape", shape.len() - 2, 1)?;
    if kernel.iter().zip(&shape[2..]).any(|(&k, &n)| k > 2 * n + 64) {
        return Err(Failure::unsupported(format!("a window of {kernel:?} over {shape:?}"), "shrink it to the input"));
    }
    let window = window(c, kernel, &shape[2..])?;
    let kind = match (c.op_type(), c.flag("count_include_pad", false)) {
        ("MaxPool", _) => PoolKind::Max,
        (_, false) => PoolKind::Average,
        (_, true) => PoolKind::AverageWithPadding,
    };
    let spatial = output_extents(&window, &shape[2..], c.flag("ceil_mode", false))?;
    let out = Layout::ChannelsFirst.shape(shape[0], shape[1], &spatial);
    if c.has_output(1) {
        let raw = c.raw(x);
        let at = places_of_maxima(c, raw, &window, &out, c.flag("storage_order", false))?;
        c.output(1, at);
    }
    let y = if spatial.len() > 2 {
        pooled(c, x, kind, &window, &out)?
    } else {
        let quant = c.tensor_info(x).quant.clone().filter(|q| kind == PoolKind::Max && q.scales.len() == 1);
        let dtype = c.dtype(x);
        let op = Op::Pool { kind, window, layout: Layout::ChannelsFirst };
        c.emit_optional(op, &[Some(x)], dtype, &out, quant)?
    };
    c.output(0, y);
    Ok(())
}

/// `LpPool`: the p-th root of the sum of p-th powers under a window, which a convolution with ones sums.
pub fn lp(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let p = c.int("p", 2);
    if shape.len() < 3 || !(1..=1 << 10).contains(&p) {
        return Err(Failure::malformed(format!("p = {p}, for an input of shape {shape:?}")));
    }
    let kernel = c.counts("kernel_shape", shape.len() - 2, 1)?;
    let mut window = window(c, kernel, &shape[2..])?;
    let spatial = output_extents(&window, &shape[2..], c.flag("ceil_mode", false))?;
    for d in 0..spatial.len() {
        let reach = (spatial[d] - 1) * window.strides[d] + (window.kernel[d] - 1) * window.dilations[d] + 1;
        window.pads_end[d] = reach as i64 - shape[2 + d] as i64 - window.pads_begin[d];
    }
    let powers = powers(c, x, p as f32)?;
    let planes = c.reshaped(powers, &[&[shape[0] * shape[1], 1], &shape[2..]].concat())?;
    let ones = c.reals(&[&[1, 1], &window.kernel[..]].concat(), |_| 1.0)?;
    let op = Op::Conv { window, groups: 1, layout: Layout::ChannelsFirst, post: Post::default() };
    let g = Geometry { op, shape: [&[shape[0] * shape[1], 1], &spatial[..]].concat() };
    let sums = emit(c, g, [planes, ones], None)?;
    let sums = c.reshaped(sums, &[&shape[..2], &spatial[..]].concat())?;
    let y = c.unary_with(UnaryOp::Pow, [1.0 / p as f32, 0.0], sums)?;
    c.output(0, y);
    Ok(())
}

/// `GlobalLpPool`: the p-th root of the sum of p-th powers of each channel.
pub fn global_lp(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let (rank, p) = (c.shape(x).len(), c.int("p", 2));
    if rank < 3 || !(1..=1 << 10).contains(&p) {
        return Err(Failure::malformed(format!("p = {p}, for an input of rank {rank}")));
    }
    let powers = powers(c, x, p as f32)?;
    let sums = c.reduced(ReduceOp::Sum, powers, &(2..rank).collect::<Vec<_>>(), true)?;
    let y = c.unary_with(UnaryOp::Pow, [1.0 / p as f32, 0.0], sums)?;
    c.output(0, y);
    Ok(())
}

/// `|x|^p`
fn powers(c: &mut Context<'_, '_>, x: TensorId, p: f32) -> Result<TensorId, Failure> {
    let x = c.unary(UnaryOp::Abs, x)?;
    if p == 1.0 { Ok(x) } else { c.unary_with(UnaryOp::Pow, [p, 0.0], x) }
}

/// `GlobalAveragePool`, `GlobalMaxPool`: reductions over all spatial axes.
pub fn global(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let mut shape = c.shape(x);
    if shape.len() < 3 {
        return Err(Failure::malformed(format!("input of rank {}", shape.len())));
    }
    let op = if c.op_type() == "GlobalMaxPool" { ReduceOp::Max } else { ReduceOp::Mean };
    let axes = (2..shape.len()).collect();
    shape[2..].fill(1);
    let dtype = c.dtype(x);
    let y = c.emit(Op::Reduce { op, axes, keep: true }, &[x], dtype, &shape)?;
    c.output(0, y);
    Ok(())
}
