//! Reductions along axes.

use kinglet::DType;

use crate::graph::{BinaryOp, Op, ReduceOp, TensorId, UnaryOp};
use crate::import::{Context, Failure};

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
        "ReduceLogSum" => ReduceOp::Sum,
        "ReduceLogSumExp" => ReduceOp::Sum,
        _ => ReduceOp::SumSquare,
    };
    let x = c.input(0)?;
    let shape = c.shape(x);
    let axes = match c.optional(1) {
        Some(_) => c.constant_ints(1, "the axes")?,
        None => c.ints("axes").unwrap_or_default(),
    };
    let (log, exp) = (c.op_type().starts_with("ReduceLog"), c.op_type() == "ReduceLogSumExp");
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
            None if log && !exp => c.unary(UnaryOp::Log, x)?,
            None => x,
        };
        c.output(0, y);
        return Ok(());
    }
    if exp {
        let y = log_sum_exp(c, x, &axes, keep)?;
        c.output(0, y);
        return Ok(());
    }
    let mut y = c.reduced(op, x, &axes, keep)?;
    if log {
        y = c.unary(UnaryOp::Log, y)?;
    }
    c.output(0, y);
    Ok(())
}

/// `ln Σ eˣ`, with the largest taken out before so that nothing overflows.
fn log_sum_exp(c: &mut Context<'_, '_>, x: TensorId, axes: &[usize], keep: bool) -> Result<TensorId, Failure> {
    let most = c.reduced(ReduceOp::Max, x, axes, true)?;
    // Infinities are not taken out of themselves.
    let most = c.unary_with(UnaryOp::Clip, [f32::MIN, f32::MAX], most)?;
    let centred = c.binary(BinaryOp::Sub, x, most)?;
    let exp = c.unary(UnaryOp::Exp, centred)?;
    let sum = c.reduced(ReduceOp::Sum, exp, axes, true)?;
    let log = c.unary(UnaryOp::Log, sum)?;
    let y = c.binary(BinaryOp::Add, log, most)?;
    let shape = c.shape(y);
    let left: Vec<usize> = (0..shape.len()).filter(|d| keep || !axes.contains(d)).map(|d| shape[d]).collect();
    c.reshaped(y, &left)
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
    let mut out = shape.clone();
    if keep {
        out[axis] = 1;
    } else {
        out.remove(axis);
    }
    let y = c.emit(op, &[x], DType::I64, &out)?;
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

/// `CumProd` (opset 26): the product of an axis up to each position, in as many passes as the axis has binary digits: in each one a
/// position takes that of the position `reach` before it along.
pub fn cumprod(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let axis = c.constant_ints(1, "the axis")?;
    let &[axis] = &axis[..] else { return Err(Failure::malformed("the axis is no scalar")) };
    let (axis, n) = (c.axis(axis, shape.len())?, shape[c.axis(axis, shape.len())?]);
    let reverse = c.flag("reverse", false);
    let ones = |c: &mut Context<'_, '_>, n: usize| {
        let one = c.scalar_like(x, 1.0);
        let shape: Vec<usize> = (0..shape.len()).map(|d| if d == axis { n } else { shape[d] }).collect();
        c.expanded(one, &shape)
    };
    // As `x`, further along by some positions, with ones coming in.
    let moved = |c: &mut Context<'_, '_>, x: TensorId, by: usize| {
        let (from, rest) = (if reverse { by } else { 0 }, ones(c, by)?);
        let kept = c.sliced(x, axis, from, n - by, 1)?;
        c.concatenated(&if reverse { [kept, rest] } else { [rest, kept] }, axis)
    };
    let mut y = if c.flag("exclusive", false) && n > 0 { moved(c, x, 1)? } else { x };
    let mut reach = 1;
    while reach < n {
        let earlier = moved(c, y, reach)?;
        y = c.binary(BinaryOp::Mul, y, earlier)?;
        reach *= 2;
    }
    c.output(0, y);
    Ok(())
}
