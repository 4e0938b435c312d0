//! Sequences: they exist only during import. What a loop appends to one becomes a tensor with an axis more.

use kinglet::DType;

use crate::array::Array;
use crate::graph::{Op, TensorId};
use crate::import::{Context, Failure, Sequence};

/// Most tensors in a sequence, unless a loop appends them: each of them becomes steps of its own.
const MAX_ITEMS: usize = 1 << 12;

/// `SequenceEmpty`, `SequenceConstruct`.
pub fn construct(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let items = (0..c.input_count()).map(|i| c.input(i)).collect::<Result<_, _>>()?;
    c.output_sequence(0, Sequence::Items(items));
    Ok(())
}

/// `SequenceInsert`.
pub fn insert(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (sequence, tensor) = (c.sequence(0)?, c.input(1)?);
    let at = c.given(2)?;
    let sequence = match (sequence, at) {
        (Sequence::Carried(k), None) => Sequence::Appended(k, tensor),
        (Sequence::Items(mut items), at) => {
            let at = match at {
                None => items.len(),
                Some(t) => position(c, t, items.len(), items.len() + 1)?,
            };
            items.insert(at, tensor);
            few(items.len())?;
            Sequence::Items(items)
        }
        _ => return Err(only_appended()),
    };
    c.output_sequence(0, sequence);
    Ok(())
}

/// `SequenceErase`.
pub fn erase(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let Sequence::Items(mut items) = c.sequence(0)? else { return Err(only_appended()) };
    let at = match c.given(1)? {
        None => items.len().checked_sub(1).ok_or_else(|| Failure::malformed("the sequence is empty"))?,
        Some(t) => position(c, t, items.len(), items.len())?,
    };
    items.remove(at);
    c.output_sequence(0, Sequence::Items(items));
    Ok(())
}

/// `SequenceAt`.
pub fn at(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (sequence, index) = (c.sequence(0)?, c.input(1)?);
    let item = match sequence {
        Sequence::Items(items) => {
            let at = position(c, index, items.len(), items.len())?;
            items[at]
        }
        Sequence::Stacked(t) => {
            let n = c.shape(t)[0];
            let at = position(c, index, n, n)?;
            c.position(t, at)?
        }
        _ => return Err(only_appended()),
    };
    c.output(0, item);
    Ok(())
}

/// `SequenceLength`.
pub fn length(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let n = match c.sequence(0)? {
        Sequence::Items(items) => items.len(),
        Sequence::Stacked(t) => c.shape(t)[0],
        _ => return Err(only_appended()),
    };
    let n = c.add_constant(Array::int(DType::I64, &[], vec![n as i64]));
    c.output(0, n);
    Ok(())
}

/// `ConcatFromSequence`.
pub fn concat(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (new_axis, sequence) = (c.flag("new_axis", false), c.sequence(0)?);
    let axis = c.int("axis", 0);
    let result = match sequence {
        Sequence::Items(items) if items.is_empty() => return Err(Failure::malformed("the sequence is empty")),
        Sequence::Items(items) => {
            let rank = c.shape(items[0]).len();
            if new_axis {
                let axis = c.axis(axis, rank + 1)?;
                c.stack(&items, axis)?
            } else {
                let axis = c.axis(axis, rank)?;
                c.concatenated(&items, axis)?
            }
        }
        Sequence::Stacked(t) => {
            let shape = c.shape(t);
            if new_axis {
                let axis = c.axis(axis, shape.len())?;
                c.moved(t, 0, axis)?
            } else {
                // The items lie one behind the other along the axis: their number comes before it, then both are one.
                let axis = c.axis(axis, shape.len() - 1)?;
                let moved = c.moved(t, 0, axis)?;
                let mut joined = shape[1..].to_vec();
                joined[axis] *= shape[0];
                c.reshaped(moved, &joined)?
            }
        }
        _ => return Err(only_appended()),
    };
    c.output(0, result);
    Ok(())
}

/// `SplitToSequence`.
pub fn split(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let axis = c.axis(c.int("axis", 0), shape.len())?;
    let n = shape[axis];
    // Without lengths each item is one position, whose axis goes unless `keepdims` holds.
    let (lengths, drop) = match c.given(1)? {
        None => {
            few(n)?;
            (vec![1; n], !c.flag("keepdims", true))
        }
        Some(t) => {
            let given = c.constant(t, "the lengths")?;
            let positive = |v: i64| usize::try_from(v).map_err(|_| Failure::malformed(format!("a length of {v}")));
            let list = given.ints().iter().map(|&v| positive(v)).collect::<Result<Vec<_>, _>>()?;
            let scalar = given.shape.is_empty();
            let lengths = match list[..] {
                [0] if scalar => return Err(Failure::malformed("a length of 0")),
                [each] if scalar => {
                    few(n.div_ceil(each))?;
                    (0..n.div_ceil(each)).map(|i| each.min(n - i * each)).collect()
                }
                _ => list,
            };
            few(lengths.len())?;
            (lengths, false)
        }
    };
    if lengths.iter().try_fold(0usize, |sum, &each| sum.checked_add(each)) != Some(n) {
        return Err(Failure::malformed(format!("lengths {lengths:?} of an axis of {n}")));
    }
    let mut items: Vec<TensorId> = Vec::new();
    let mut start = 0;
    for length in lengths {
        let mut part = shape.clone();
        part[axis] = length;
        let mut starts = vec![0; shape.len()];
        starts[axis] = start;
        start += length;
        let dtype = c.dtype(x);
        let item = c.emit(Op::Slice { starts, steps: vec![1; shape.len()] }, &[x], dtype, &part)?;
        if drop {
            part.remove(axis);
        }
        items.push(c.reshaped(item, &part)?);
    }
    c.output_sequence(0, Sequence::Items(items));
    Ok(())
}

/// A constant position in a sequence of `n` that is one of the first `places`; negative ones count from its end.
fn position(c: &mut Context<'_, '_>, t: TensorId, n: usize, places: usize) -> Result<usize, Failure> {
    let value = c.constant(t, "the position in a sequence")?;
    let i = *value.ints().first().ok_or_else(|| Failure::malformed("the position is empty"))?;
    let from_start = if i < 0 { i + n as i64 } else { i };
    usize::try_from(from_start)
        .ok()
        .filter(|&i| i < places)
        .ok_or_else(|| Failure::malformed(format!("position {i} of a sequence of {n}")))
}

fn few(items: usize) -> Result<(), Failure> {
    if items <= MAX_ITEMS {
        return Ok(());
    }
    Err(Failure::unsupported(
        format!("a sequence of {items} tensors; at most {MAX_ITEMS} are held"),
        "use a tensor instead of a sequence",
    ))
}

fn only_appended() -> Failure {
    Failure::unsupported(
        "in the body of a loop a sequence can only be appended to",
        "use tensors that the loop carries or stacks",
    )
}
