//! Operators that move elements.

use super::shape::constant_shape;
use crate::array::broadcast;
use crate::graph::{Layout, Op, PadMode, TensorId};
use crate::import::{Context, Failure, real};

/// Emits an operator that keeps type and quantisation.
pub(super) fn emit(c: &mut Context<'_, '_>, op: Op, inputs: &[TensorId], shape: &[usize]) -> Result<TensorId, Failure> {
    let first = c.tensor_info(inputs[0]);
    // Scales along an axis would have to move with it, and tensors of different scales have only their integers in common.
    let data = match op {
        Op::Gather { .. } => 1,
        Op::Scatter { .. } => 2,
        _ => inputs.len(),
    };
    let alike = inputs[..data].iter().all(|&t| c.tensor_info(t).quant == first.quant);
    let quant = first.quant.clone().filter(|q| alike && q.scales.len() == 1);
    let dtype = first.dtype;
    let inputs: Vec<_> = inputs.iter().map(|&t| Some(t)).collect();
    c.emit_optional(op, &inputs, dtype, shape, quant)
}

fn finish(c: &mut Context<'_, '_>, op: Op, inputs: &[TensorId], shape: &[usize]) -> Result<(), Failure> {
    let y = emit(c, op, inputs, shape)?;
    c.output(0, y);
    Ok(())
}

/// `Transpose`.
pub fn transpose(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let perm = match c.ints("perm") {
        Some(p) => p.iter().map(|&a| c.axis(a, shape.len())).collect::<Result<Vec<_>, _>>()?,
        None => (0..shape.len()).rev().collect(),
    };
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    if sorted.iter().copied().ne(0..shape.len()) {
        return Err(Failure::malformed(format!("perm {perm:?} for rank {}", shape.len())));
    }
    if perm == sorted {
        c.output(0, x);
        return Ok(());
    }
    let out: Vec<usize> = perm.iter().map(|&d| shape[d]).collect();
    finish(c, Op::Transpose { perm }, &[x], &out)
}

fn to_shape(c: &mut Context<'_, '_>, x: TensorId, shape: &[usize]) -> Result<(), Failure> {
    if c.shape(x).iter().product::<usize>() != shape.iter().product::<usize>() {
        return Err(Failure::malformed(format!("shape {:?} cannot become {shape:?}", c.shape(x))));
    }
    let y = c.reshaped(x, shape)?;
    c.output(0, y);
    Ok(())
}

/// `Reshape`: the shape is an input (an attribute before opset 5).
pub fn reshape(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let wanted = match c.ints("shape") {
        Some(s) => s,
        None => c.constant_ints(1, "the shape")?,
    };
    let own = c.shape(x);
    let keep_zero = c.flag("allowzero", false);
    let bad = || Failure::malformed(format!("shape {own:?} cannot become {wanted:?}"));
    let mut shape = Vec::new();
    for (i, &d) in wanted.iter().enumerate() {
        shape.push(match d {
            -1 => 1,
            0 if !keep_zero => *own.get(i).ok_or_else(bad)?,
            d => usize::try_from(d).map_err(|_| bad())?,
        });
    }
    if let Some(free) = wanted.iter().position(|&d| d == -1) {
        let known = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(bad)?;
        shape[free] = own.iter().product::<usize>().checked_div(known).ok_or_else(bad)?;
    }
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(bad)?;
    to_shape(c, x, &shape)
}

/// `Flatten`.
pub fn flatten(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let axis = c.int("axis", 1);
    let axis = if axis == shape.len() as i64 { shape.len() } else { c.axis(axis, shape.len())? };
    to_shape(c, x, &[shape[..axis].iter().product(), shape[axis..].iter().product()])
}

/// Axes given as an attribute (before opset 13) or an input.
fn axes(c: &mut Context<'_, '_>) -> Result<Option<Vec<i64>>, Failure> {
    match c.optional(1) {
        Some(_) => c.constant_ints(1, "the axes").map(Some),
        None => Ok(c.ints("axes")),
    }
}

/// `Squeeze`.
pub fn squeeze(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let axes = match axes(c)? {
        Some(a) => c.axes(&a, shape.len())?,
        None => (0..shape.len()).filter(|&d| shape[d] == 1).collect(),
    };
    if let Some(d) = axes.iter().find(|&&d| shape[d] != 1) {
        return Err(Failure::malformed(format!("axis {d} of {shape:?} is not 1")));
    }
    let out: Vec<usize> = (0..shape.len()).filter(|d| !axes.contains(d)).map(|d| shape[d]).collect();
    to_shape(c, x, &out)
}

/// `Unsqueeze`.
pub fn unsqueeze(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let axes = axes(c)?.ok_or_else(|| Failure::malformed("no axes"))?;
    let rank = shape.len() + axes.len();
    let sorted = c.axes(&axes, rank)?;
    if sorted.len() != axes.len() {
        return Err(Failure::malformed(format!("axes {axes:?} repeat")));
    }
    let mut old = shape.iter();
    let out: Vec<usize> =
        (0..rank).map(|d| if sorted.contains(&d) { 1 } else { *old.next().expect("rank counts both") }).collect();
    to_shape(c, x, &out)
}

/// `Concat`.
pub fn concat(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let inputs = (0..c.input_count()).map(|i| c.input(i)).collect::<Result<Vec<_>, _>>()?;
    let first = *inputs.first().ok_or_else(|| Failure::malformed("no inputs"))?;
    if c.opset >= 4 && !c.has("axis") {
        return Err(Failure::malformed("it has no axis"));
    }
    let axis = c.axis(c.int("axis", 1), c.shape(first).len())?;
    let y = c.concatenated(&inputs, axis)?;
    c.output(0, y);
    Ok(())
}

fn emit_slice(
    c: &mut Context<'_, '_>,
    x: TensorId,
    starts: Vec<usize>,
    steps: Vec<i64>,
    shape: &[usize],
) -> Result<TensorId, Failure> {
    if c.shape(x) == shape && steps.iter().all(|&s| s > 0) {
        return Ok(x);
    }
    emit(c, Op::Slice { starts, steps }, &[x], shape)
}

/// `Split`: as many slices.
pub fn split(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let axis = c.axis(c.int("axis", 0), shape.len())?;
    let n = c.output_count();
    let sizes = match (c.optional(1), c.ints("split")) {
        (Some(_), _) => c.constant_ints(1, "the sizes")?,
        (None, Some(s)) => s,
        (None, None) => {
            if c.has("num_outputs") && c.int("num_outputs", 0) != n as i64 {
                return Err(Failure::malformed(format!("num_outputs is {}, of {n}", c.int("num_outputs", 0))));
            }
            // Only since operator set 18 the last part may be smaller.
            if c.opset < 18 && !shape[axis].is_multiple_of(n.max(1)) {
                return Err(Failure::malformed(format!("an axis of {} in {n} equal parts", shape[axis])));
            }
            let part = shape[axis].div_ceil(n.max(1));
            (0..n).map(|i| part.min(shape[axis].saturating_sub(i * part)) as i64).collect()
        }
    };
    if sizes.len() != n
        || sizes.iter().any(|&s| s < 0)
        || sizes.iter().map(|&s| i128::from(s)).sum::<i128>() != shape[axis] as i128
    {
        return Err(Failure::malformed(format!("{sizes:?} of an axis of {}", shape[axis])));
    }
    let mut at = 0;
    for (i, &size) in sizes.iter().enumerate() {
        let mut out = shape.clone();
        out[axis] = size as usize;
        let mut starts = vec![0; shape.len()];
        starts[axis] = at;
        let y = emit_slice(c, x, starts, vec![1; shape.len()], &out)?;
        c.output(i, y);
        at += size as usize;
    }
    Ok(())
}

/// `Slice`: bounds are attributes before opset 10, inputs from then on.
pub fn slice(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let (from, to, axes, steps);
    if let Some(s) = c.ints("starts") {
        from = s;
        to = c.ints("ends").unwrap_or_default();
        axes = c.ints("axes");
        steps = None;
    } else {
        from = c.constant_ints(1, "the start")?;
        to = c.constant_ints(2, "the end")?;
        axes = c.optional(3).is_some().then(|| c.constant_ints(3, "the axes")).transpose()?;
        steps = c.optional(4).is_some().then(|| c.constant_ints(4, "the steps")).transpose()?;
    }
    let axes = axes.unwrap_or_else(|| (0..from.len() as i64).collect());
    let by = steps.unwrap_or_else(|| vec![1; from.len()]);
    if to.len() != from.len() || axes.len() != from.len() || by.len() != from.len() || by.contains(&0) {
        return Err(Failure::malformed("starts, ends, axes and steps do not fit each other"));
    }
    let (mut starts, mut steps, mut out) = (vec![0; shape.len()], vec![1; shape.len()], shape.clone());
    for i in 0..from.len() {
        let d = c.axis(axes[i], shape.len())?;
        let n = shape[d] as i64;
        let wrap = |v: i64| if v < 0 { v.saturating_add(n) } else { v };
        let (lo, hi) = if by[i] > 0 || n == 0 { (0, n) } else { (-1, n - 1) };
        let first = wrap(from[i]).clamp(lo.max(0), hi);
        let last = wrap(to[i]).clamp(lo, hi);
        let (way, step) = if by[i] > 0 { (last - first, by[i] as u64) } else { (first - last, by[i].unsigned_abs()) };
        let count = (way.max(0) as u64).div_ceil(step);
        starts[d] = first.max(0) as usize;
        // A single element needs no step, however large the one given is.
        steps[d] = if count > 1 { by[i] } else { 1 };
        out[d] = count as usize;
    }
    let y = emit_slice(c, x, starts, steps, &out)?;
    c.output(0, y);
    Ok(())
}

/// `Gather`.
pub fn gather(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (x, index) = (c.input(0)?, c.input(1)?);
    let axis = c.axis(c.int("axis", 0), c.shape(x).len())?;
    let y = take(c, x, index, axis)?;
    c.output(0, y);
    Ok(())
}

/// Slices of `x` by index: with constant neighbouring indices they are one slice.
pub(super) fn take(c: &mut Context<'_, '_>, x: TensorId, index: TensorId, axis: usize) -> Result<TensorId, Failure> {
    let (shape, picked) = (c.shape(x), c.shape(index));
    let out = [&shape[..axis], &picked, &shape[axis + 1..]].concat();
    let n = shape[axis] as i64;
    if n == 0 && !out.contains(&0) {
        return Err(Failure::malformed("it takes elements of an axis that has none"));
    }
    if let Some(v) = c.tensor_info(index).value.clone() {
        if let Some(bad) = v.ints().iter().find(|i| !(-n..n).contains(*i)) {
            return Err(Failure::malformed(format!("index {bad} of an axis of {n}")));
        }
        let v: Vec<i64> = v.ints().iter().map(|&i| if i < 0 { i + n } else { i }).collect();
        if !v.is_empty() && v.windows(2).all(|w| w[1] == w[0] + 1) {
            let (mut starts, mut part) = (vec![0; shape.len()], shape.clone());
            starts[axis] = v[0] as usize;
            part[axis] = v.len();
            let y = emit_slice(c, x, starts, vec![1; shape.len()], &part)?;
            return c.reshaped(y, &out);
        }
    }
    emit(c, Op::Gather { axis }, &[x, index], &out)
}

/// `Expand`.
pub fn expand(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let wanted = constant_shape(c, 1)?;
    let own = c.shape(x);
    let shape = broadcast(&own, &wanted).ok_or_else(|| Failure::malformed(format!("{own:?} to {wanted:?}")))?;
    if shape.iter().product::<usize>() == own.iter().product::<usize>() {
        return to_shape(c, x, &shape);
    }
    finish(c, Op::Expand, &[x], &shape)
}

/// `Tile` (opset 6 and later).
pub fn tile(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let repeats = constant_shape(c, 1)?;
    let shape = c.shape(x);
    if repeats.len() != shape.len() {
        return Err(Failure::malformed(format!("repeats {repeats:?} for shape {shape:?}")));
    }
    if repeats.iter().all(|&r| r == 1) {
        c.output(0, x);
        return Ok(());
    }
    let out = shape.iter().zip(&repeats).map(|(s, r)| s.checked_mul(*r)).collect::<Option<Vec<_>>>();
    let out = out.ok_or_else(|| Failure::malformed(format!("repeats {repeats:?} for shape {shape:?}")))?;
    finish(c, Op::Tile { repeats }, &[x], &out)
}

/// `Pad`: amounts are an attribute before opset 11, inputs from then on; negative ones cut.
pub fn pad(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let mut x = c.input(0)?;
    let rank = c.shape(x).len();
    let listed = match c.ints("pads") {
        Some(p) => p,
        None => c.constant_ints(1, "the amounts")?,
    };
    let value = match c.optional(2) {
        Some(t) => {
            let value = c.constant(t, "the value")?;
            value.as_scalar().ok_or_else(|| Failure::malformed(format!("a value of shape {:?}", value.shape)))?
        }
        None => c.float("value", 0.0).into(),
    };
    let axes = match c.optional(3) {
        Some(_) => {
            let axes = c.constant_ints(3, "the axes")?;
            axes.iter().map(|&a| c.axis(a, rank)).collect::<Result<Vec<_>, _>>()?
        }
        None => (0..rank).collect(),
    };
    if listed.len() != 2 * axes.len() || listed.iter().any(|p| p.unsigned_abs() > 1 << 24) {
        return Err(Failure::malformed(format!("amounts {listed:?} for rank {rank}")));
    }
    let (mut before, mut after) = (vec![0i64; rank], vec![0i64; rank]);
    for (i, &d) in axes.iter().enumerate() {
        before[d] = listed[i];
        after[d] = listed[axes.len() + i];
    }
    if before.iter().chain(&after).any(|&p| p < 0) {
        let mut shape = c.shape(x);
        let starts: Vec<usize> = before.iter().map(|&p| (-p).max(0) as usize).collect();
        for d in 0..rank {
            let cut = starts[d] + (-after[d]).max(0) as usize;
            shape[d] =
                shape[d].checked_sub(cut).filter(|&n| n > 0).ok_or_else(|| Failure::malformed("nothing is left"))?;
        }
        x = emit_slice(c, x, starts, vec![1; rank], &shape)?;
    }
    let count = |p: &[i64]| p.iter().map(|&p| p.max(0) as usize).collect::<Vec<_>>();
    let (before, after) = (count(&before), count(&after));
    if before.iter().chain(&after).all(|&p| p == 0) {
        c.output(0, x);
        return Ok(());
    }
    let shape = c.shape(x);
    let mode = match c.string("mode", "constant").as_str() {
        "constant" => PadMode::Constant,
        "reflect" => PadMode::Reflect,
        "edge" => PadMode::Edge,
        "wrap" => PadMode::Wrap,
        other => return Err(Failure::malformed(format!("mode {other}"))),
    };
    for d in 0..rank {
        let most = match mode {
            PadMode::Reflect => shape[d].saturating_sub(1),
            PadMode::Wrap => shape[d],
            PadMode::Edge if shape[d] == 0 => 0,
            _ => usize::MAX,
        };
        if before[d].max(after[d]) > most {
            return Err(Failure::unsupported(
                format!("{mode:?} padding of axis {d} beyond its extent"),
                "pad in several steps",
            ));
        }
    }
    let out: Vec<usize> = (0..rank).map(|d| shape[d] + before[d] + after[d]).collect();
    // The value is an integer like the elements; where these stand for reals, so does it.
    let value = match c.tensor_info(x).quant.as_ref().filter(|q| q.scales.len() == 1) {
        Some(q) => real(value, q),
        None => value,
    };
    finish(c, Op::Pad { mode, before, after, value }, &[x], &out)
}

/// `DepthToSpace`.
pub fn depth_to_space(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let block = usize::try_from(c.int("blocksize", 0)).unwrap_or(0);
    let &[n, channels, h, w] = &shape[..] else { return Err(Failure::malformed(format!("input of shape {shape:?}"))) };
    if block == 0 || block > 1 << 10 || channels % (block * block) != 0 {
        return Err(Failure::malformed(format!("{channels} channels in blocks of {block}")));
    }
    let crd = match c.string("mode", "DCR").as_str() {
        "DCR" => false,
        "CRD" => true,
        other => return Err(Failure::malformed(format!("mode {other}"))),
    };
    let out = [n, channels / (block * block), h * block, w * block];
    finish(c, Op::DepthToSpace { block, crd, layout: Layout::ChannelsFirst }, &[x], &out)
}

/// `SpaceToDepth`: blocks of pixels become channels, of which those of one pixel are neighbours (`mode` CRD: those of one input channel).
pub fn space_to_depth(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let block = usize::try_from(c.int("blocksize", 0)).unwrap_or(0);
    let &[n, channels, h, w] = &shape[..] else { return Err(Failure::malformed(format!("input of shape {shape:?}"))) };
    if block == 0 || block > 1 << 10 || h % block != 0 || w % block != 0 {
        return Err(Failure::malformed(format!("a picture of {h} by {w} in blocks of {block}")));
    }
    let blocks = c.reshaped(x, &[n, channels, h / block, block, w / block, block])?;
    let perm = match c.string("mode", "DCR").as_str() {
        "DCR" => [0, 3, 5, 1, 2, 4],
        "CRD" => [0, 1, 3, 5, 2, 4],
        other => return Err(Failure::malformed(format!("mode {other}"))),
    };
    let y = c.transposed(blocks, &perm)?;
    let y = c.reshaped(y, &[n, channels * block * block, h / block, w / block])?;
    c.output(0, y);
    Ok(())
}

/// `CenterCropPad` (opset 18): axes cut or padded with zeros to given extents, as much on either side.
pub fn center_crop_pad(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let wanted = constant_shape(c, 1)?;
    let axes = match c.ints("axes") {
        Some(axes) => axes.iter().map(|&a| c.axis(a, shape.len())).collect::<Result<Vec<_>, _>>()?,
        None => (0..shape.len()).collect(),
    };
    if axes.len() != wanted.len() {
        return Err(Failure::malformed(format!("extents {wanted:?} for axes {axes:?}")));
    }
    let (mut before, mut after) = (vec![0; shape.len()], vec![0; shape.len()]);
    for (&d, &n) in axes.iter().zip(&wanted) {
        // What is odd is cut off in front, and added behind.
        let more = n as i64 - shape[d] as i64;
        before[d] = if more < 0 { -((-more) / 2) } else { more / 2 };
        after[d] = more - before[d];
    }
    let y = super::unfold::padded(c, x, &before, &after, 0.0)?;
    c.output(0, y);
    Ok(())
}
