//! Reductions along axes.

use kinglet::DType;

use crate::graph::{Op, ReduceOp, UnaryOp};
use crate::import::{Context, Failure};

/// The shape that is left when `axes` are reduced.
fn reduced(shape: &[usize], axes: &[usize], keep: bool) -> Vec<usize> {
    let kept = |d: &usize| keep || !axes.contains(d);
    (0..shape.len()).filter(kept).map(|d| if axes.contains(&d) { 1 } else { shape[d] }).collect()
}

/// `ReduceSum`, `ReduceMean`, …: axes are an attribute or, in later operator sets, an input.
pub fn reduce(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let op = match c.op_type() {
        "ReduceSum" => ReduceOp::Sum,
        "ReduceMean" => ReduceOp::Mean,
        "ReduceMax" => ReduceOp::Max,
        "ReduceMin" => ReduceOp::Min,
        "ReduceProd" => ReduceOp::Prod,
        "ReduceL1" => ReduceOp::L1,
        "ReduceL2" => ReduceOp::L2,
        _ => ReduceOp::SumSquare,
    };
    let x = c.input(0)?;
    let shape = c.shape(x);
    let axes = match c.optional(1) {
        Some(_) => c.constant_ints(1, "the axes")?,
        None => c.ints("axes").unwrap_or_default(),
    };
    let keep = c.flag("keepdims", true);
    let keeps_all = axes.is_empty() && c.flag("noop_with_empty_axes", false);
    let axes = if axes.is_empty() { (0..shape.len()).collect() } else { c.axes(&axes, shape.len())? };
    if keeps_all || axes.is_empty() {
        // Nothing is added up, but squares and magnitudes are taken all the same.
        let dtype = c.dtype(x);
        let each = match op {
            ReduceOp::L1 | ReduceOp::L2 => Some(Op::unary(UnaryOp::Abs)),
            ReduceOp::SumSquare => Some(Op::Unary { op: UnaryOp::Pow, alpha: 2.0, beta: 0.0 }),
            _ => None,
        };
        let y = match each {
            Some(op) => c.emit(op, &[x], dtype, &shape)?,
            None => x,
        };
        c.output(0, y);
        return Ok(());
    }
    let out = reduced(&shape, &axes, keep);
    let dtype = c.dtype(x);
    let y = c.emit(Op::Reduce { op, axes, keep }, &[x], dtype, &out)?;
    c.output(0, y);
    Ok(())
}

/// `ArgMax`, `ArgMin`.
pub fn arg(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let axis = c.axis(c.int("axis", 0), shape.len())?;
    if shape[axis] == 0 {
        return Err(Failure::malformed("the axis has no elements"));
    }
    let keep = c.flag("keepdims", true);
    let op = Op::ArgMax { axis, keep, smallest: c.op_type() == "ArgMin", last: c.flag("select_last_index", false) };
    let y = c.emit(op, &[x], DType::I64, &reduced(&shape, &[axis], keep))?;
    c.output(0, y);
    Ok(())
}

/// `CumSum` (opset 11).
pub fn cumsum(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let axis = c.constant_ints(1, "the axis")?;
    let &[axis] = &axis[..] else { return Err(Failure::malformed("the axis is no scalar")) };
    let op = Op::CumSum {
        axis: c.axis(axis, shape.len())?,
        exclusive: c.flag("exclusive", false),
        reverse: c.flag("reverse", false),
    };
    let dtype = c.dtype(x);
    let y = c.emit(op, &[x], dtype, &shape)?;
    c.output(0, y);
    Ok(())
}
