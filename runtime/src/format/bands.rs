//! Checks what a band of rows needs: that every row is there when it is read. (Whether memory is touched that must not be, other
//! checks say: rows of a ring lie at `r mod capacity` whatever they are.)

use core::ops::Range;

use super::verify::{all_bytes, ensure, is_ring};
use super::{ABSENT, Model, Region, StepRecord, TensorRecord};
use crate::Fault;
use crate::bands::{Made, Rule, Slice, Sliding};
use crate::kernels::{self, Rules, StepKind};

/// Whether the steps of a run compute some rows in each slice. Then all of them must.
pub(super) fn are_of_rows(m: &Model<'_>, steps: &Range<usize>) -> bool {
    m.step_record(steps.start).slice_rows > 0
}

/// Checks a step against the band of rows that it is in, if it is in one, in time that depends on its operands alone.
pub(super) fn step(m: &Model<'_>, i: usize, band: Option<(&Range<usize>, u32)>) -> Result<(), Fault> {
    let step = m.step(i);
    let r = step.record();
    let inputs = (0..r.inputs as usize).filter_map(|k| Some((k, m.tensor_record(step.input(k)?)?)));
    let mut outputs = (0..r.outputs as usize).filter_map(|k| m.tensor_record(step.output(k)?));
    let Some((steps, slices)) = band else {
        ensure(r.slice_rows == 0 && r.delay == 0, Fault::Slices)?;
        return ensure(
            inputs.map(|(_, t)| t).chain(outputs).all(|t| !is_ring(&t) && t.writer as usize != i),
            Fault::Slices,
        );
    };
    let read = slice_of(r);
    let own = rules(m, i)?;
    ensure(r.slice_rows > 0 && r.outputs == 1 && read.count(r.rows.into()) <= slices.into(), Fault::Slices)?;
    ensure(outputs.all(|t| t.advance == 0 && is_written(m, i, steps, &own, &t)), Fault::Slices)?;
    for (k, t) in inputs {
        let writer = t.writer as usize;
        if t.writer == ABSENT || !steps.contains(&writer) {
            ensure(!is_ring(&t) && t.advance == 0, Fault::Slices)?;
            continue;
        }
        let Some(Rule::Rows(window)) = own.inputs.get(k) else { return Err(Fault::Slices) };
        ensure(writer < i && t.advance == 0 && holds_whole(&t, window.row), Fault::Slices)?;
        let made = writes(m, writer, &t)?;
        ensure(window.keeps_pace(made, read) && window.is_behind(made, read), Fault::Slices)?;
        ensure(!is_ring(&t) || elements(&t) as i64 >= window.capacity(made, read), Fault::Slices)?;
    }
    Ok(())
}

/// Whether step `i` of a band writes its output over rows of input `k` that it reads no more.
pub(super) fn slides(m: &Model<'_>, i: usize, k: usize, [x, output]: [&TensorRecord; 2], slices: u32) -> bool {
    let r = *m.step(i).record();
    let whole = |t: &TensorRecord| !is_ring(t) && t.advance == 0 && t.region != Region::Weights;
    let Ok(rules) = rules(m, i) else { return false };
    let Some(Rule::Rows(window)) = rules.inputs.get(k) else { return false };
    if r.slice_rows == 0 || rules.folds || !whole(x) || !whole(output) || !holds_whole(x, window.row) {
        return false;
    }
    let bytes = |row: u32, t: &TensorRecord| u64::from(row) * t.dtype.size() as u64;
    let slice = (slice_of(&r), r.rows as usize);
    let sliding = Sliding {
        write: (slice.0, slice.1, bytes(rules.row, output)),
        read: slice,
        window: (*window, bytes(window.row, x)),
        before: false,
    };
    u64::from(output.offset).saturating_add(sliding.distance(slices)) <= u64::from(x.offset)
}

/// Whether a ring can be given, or taken if it is an output, in whole rows in each slice.
pub(super) fn comes_by_rows(m: &Model<'_>, t: &TensorRecord, taken: bool) -> bool {
    let writer = t.writer as usize;
    if t.writer == ABSENT || writer >= m.step_count() || m.step_record(writer).slice_rows == 0 {
        return false;
    }
    let row = t.row_bytes.checked_div(t.dtype.size() as u32).unwrap_or(0);
    let whole = |n: u32| row > 0 && n.is_multiple_of(row);
    // What is taken is all there when the step has written it.
    let there = |made: Made| !taken || elements(t) >= made.elements;
    writes(m, writer, t).is_ok_and(|made| whole(made.elements) && whole(made.behind) && there(made))
}

/// Whether the rows of input `i` of the model, which is a ring, are asked for.
pub(super) fn is_fed(m: &Model<'_>, t: &TensorRecord, i: usize) -> bool {
    let step = m.step(t.writer as usize);
    step.kind() == Some(StepKind::Feed) && step.params().is_some_and(|p: kernels::Feed| p.input as usize == i)
}

fn slice_of(r: &StepRecord) -> Slice {
    Slice { rows: r.slice_rows, delay: r.delay }
}

fn rules(m: &Model<'_>, i: usize) -> Result<Rules, Fault> {
    let step = m.step(i);
    let rules = step.kind().and_then(|kind| kernels::rules(kind, m.params(), step.record().params as usize));
    rules.ok_or(Fault::Slices)
}

/// Elements of a tensor that are there.
fn elements(t: &TensorRecord) -> u32 {
    t.bytes / t.dtype.size() as u32
}

/// Whether a tensor, and its ring, are made of whole rows of `row` elements.
fn holds_whole(t: &TensorRecord, row: u32) -> bool {
    let bytes = u64::from(row) * t.dtype.size() as u64;
    row > 0 && all_bytes(t).is_multiple_of(bytes) && u64::from(t.bytes).is_multiple_of(bytes)
}

/// Whether step `i` of a band writes the rows of `t`, and they are all that there are: alone, or as the last of several steps that
/// write a part of each row, or as one of those before it, at the same pace.
fn is_written(m: &Model<'_>, i: usize, steps: &Range<usize>, own: &Rules, t: &TensorRecord) -> bool {
    if own.folds {
        return t.writer as usize == i && !is_ring(t);
    }
    let row = own.row;
    let rows = |row: u32, rows: u32| u64::from(row) * u64::from(rows) * t.dtype.size() as u64 == all_bytes(t);
    let last = t.writer as usize;
    let r = |i: usize| *m.step(i).record();
    let same = last == i || (last > i && steps.contains(&last) && slice_of(&r(last)) == slice_of(&r(i)));
    same && rows(row, r(i).rows)
        && holds_whole(t, row)
        && rules(m, last).is_ok_and(|rules| rules.row == row && !rules.folds)
}

/// What step `writer` makes of `t` in a slice, if it writes it.
fn writes(m: &Model<'_>, writer: usize, t: &TensorRecord) -> Result<Made, Fault> {
    let step = m.step(writer);
    let output = step.output(0).and_then(|t| m.tensor_record(t)).ok_or(Fault::Slices)?;
    let place = |t: &TensorRecord| (t.region, t.offset, t.bytes, all_bytes(t), t.dtype.size());
    ensure(place(&output) == place(t), Fault::Slices)?;
    let rules = rules(m, writer)?;
    // A fold is read behind the band.
    ensure(!rules.folds, Fault::Slices)?;
    slice_of(step.record()).made(rules.row).ok_or(Fault::Slices)
}
