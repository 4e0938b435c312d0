//! Pooling over windows and over everything.

use super::conv::{output_extents, window};
use crate::graph::{Layout, Op, PoolKind, ReduceOp};
use crate::import::{Context, Failure};

/// `MaxPool`, `AveragePool` (opset 1 and later).
pub fn pool(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    if !(3..=4).contains(&shape.len()) {
        return Err(Failure::unsupported(
            format!("input of rank {}", shape.len()),
            "only 1-D and 2-D pooling has kernels",
        ));
    }
    if c.has_output(1) {
        return Err(Failure::unsupported("the Indices output is used", "export the model without it"));
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
    let quant =
        if kind == PoolKind::Max { c.tensor_info(x).quant.clone().filter(|q| q.scales.len() == 1) } else { None };
    let dtype = c.dtype(x);
    let op = Op::Pool { kind, window, layout: Layout::ChannelsFirst };
    let y = c.emit_optional(op, &[Some(x)], dtype, &out, quant)?;
    c.output(0, y);
    Ok(())
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
