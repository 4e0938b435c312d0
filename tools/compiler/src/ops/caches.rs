//! What is put back where it came from: `TensorScatter` and `MaxUnpool`.

use kinglet::DType;

use super::movement::emit as emit_moved;
use crate::array::Array;
use crate::graph::{BinaryOp, Op, ScatterOp};
use crate::import::{Context, Failure};

/// `TensorScatter` (opset 24): new positions of a cache, from where each sample's index says on.
pub fn tensor_scatter(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (cache, update, start) = (c.input(0)?, c.input(1)?, c.optional(2));
    let (shape, new) = (c.shape(cache), c.shape(update));
    let axis = c.axis(c.int("axis", -2), shape.len())?;
    let circular = match &c.string("mode", "linear")[..] {
        "linear" => false,
        "circular" => true,
        other => return Err(Failure::malformed(format!("mode `{other}`"))),
    };
    let alike = new.len() == shape.len() && (0..shape.len()).all(|d| d == axis || new[d] == shape[d]);
    if axis == 0 || !alike || new[axis] > shape[axis] {
        return Err(Failure::malformed(format!("an update of shape {new:?} along axis {axis} of {shape:?}")));
    }
    if start.is_some_and(|s| c.shape(s) != shape[..1]) {
        return Err(Failure::malformed(format!("indices that are not one for each of {} samples", shape[0])));
    }
    let (most, n) = (shape[axis], new[axis]);
    if new.contains(&0) {
        c.output(0, cache);
        return Ok(());
    }
    let Some(start) = start else {
        let rest = c.sliced(cache, axis, n, most - n, 1)?;
        let y = c.concatenated(&[update, rest], axis)?;
        c.output(0, y);
        return Ok(());
    };
    // A row is all that has an axis of its own; tuples of a row and a position say where each slice goes.
    let (rows, each): (usize, usize) = (shape[..axis].iter().product(), shape[1..axis].iter().product());
    let inner = shape[axis + 1..].iter().product();
    c.reserve(rows * n * 2, DType::I64)?;
    let start = c.reshaped(start, &[shape[0], 1, 1])?;
    let along = c.counting(DType::I64, n, 2, 3)?;
    let mut at = c.binary(BinaryOp::Add, start, along)?;
    if circular {
        at = c.binary_with(BinaryOp::Mod, at, most as f64)?;
    }
    let at = c.expanded(at, &[shape[0], each, n])?;
    let at = c.reshaped(at, &[rows, n, 1])?;
    let row = c.counting(DType::I64, rows, 0, 3)?;
    let row = c.expanded(row, &[rows, n, 1])?;
    let places = c.concatenated(&[row, at], 2)?;
    let flat = c.reshaped(cache, &[rows, most, inner])?;
    let update = c.reshaped(update, &[rows, n, inner])?;
    let op = Op::Scatter { op: ScatterOp::Replace, axis: None };
    let y = emit_moved(c, op, &[flat, update, places], &[rows, most, inner])?;
    let y = c.reshaped(y, &shape)?;
    c.output(0, y);
    Ok(())
}

/// `MaxUnpool` (opset 9): each element to the place of the maximum that it was.
pub fn max_unpool(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (x, index) = (c.input(0)?, c.input(1)?);
    let shape = c.shape(x);
    let rank = shape.len().saturating_sub(2);
    if rank == 0 || c.shape(index) != shape || c.dtype(x) != DType::F32 || shape.contains(&0) {
        return Err(Failure::malformed(format!("input of shape {shape:?}, indices of shape {:?}", c.shape(index))));
    }
    if !c.has("kernel_shape") {
        return Err(Failure::malformed("it has no kernel_shape"));
    }
    let (kernel, strides) = (c.counts("kernel_shape", rank, 1)?, c.counts("strides", rank, 1)?);
    let pads = c.ints("pads").unwrap_or_else(|| vec![0; 2 * rank]);
    if pads.len() != 2 * rank || pads.iter().any(|p| !(0..1 << 20).contains(p)) {
        return Err(Failure::malformed(format!("pads {pads:?} for {rank} spatial axes")));
    }
    // Indices count in the tensor that was pooled, as the attributes have it; a given shape has it in its first corner.
    let mut pooled = shape[..2].to_vec();
    for d in 0..rank {
        let n = ((shape[2 + d] - 1) * strides[d] + kernel[d]) as i64 - pads[d] - pads[rank + d];
        let n = usize::try_from(n).ok().filter(|&n| n > 0);
        pooled.push(n.ok_or_else(|| Failure::malformed("its padding is larger than what it pads"))?);
    }
    let out = match c.optional(2) {
        Some(_) => {
            let given = c.constant_ints(2, "the shape of the output")?;
            let fits = given.len() == pooled.len() && given.iter().zip(&pooled).all(|(&g, &n)| g >= n as i64);
            if !fits {
                return Err(Failure::malformed(format!("{pooled:?} in an output of shape {given:?}")));
            }
            given.iter().map(|&n| n as usize).collect()
        }
        None => pooled.clone(),
    };
    if !crate::import::fits(&pooled) || !crate::import::fits(&out) {
        return Err(Failure::malformed(format!("an output of shape {out:?}")));
    }
    let (n, total) = (shape.iter().product(), pooled.iter().product());
    c.reserve(total, DType::F32)?;
    let zeros = c.add_constant(Array::f32(&[total], vec![0.0; total]));
    let (x, index) = (c.reshaped(x, &[n])?, c.reshaped(index, &[n])?);
    let op = Op::Scatter { op: ScatterOp::Replace, axis: Some(0) };
    let y = c.emit(op, &[zeros, x, index], DType::F32, &[total])?;
    let y = c.reshaped(y, &pooled)?;
    let after: Vec<i64> = out.iter().zip(&pooled).map(|(o, n)| (o - n) as i64).collect();
    let y = super::unfold::padded(c, y, &vec![0; out.len()], &after, 0.0)?;
    c.output(0, y);
    Ok(())
}
