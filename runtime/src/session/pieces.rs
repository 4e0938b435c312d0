//! The rows that a step computes in a slice, in pieces that kernels need not look for seams in.

use core::ops::Range;

use crate::bands::Slice;
use crate::format::StepRecord;
use crate::{Model, Step};

/// The rows that a step computes in a slice of its band: all of them, or some in a band of rows.
pub(super) fn rows_of(step: &Step<'_>, slice: u32) -> Range<usize> {
    match *step.record() {
        StepRecord { slice_rows: 0, .. } => 0..step.rows(),
        StepRecord { slice_rows: rows, delay, .. } => Slice { rows, delay }.of(slice, step.rows()),
    }
}

/// The rows of a slice, in pieces that lie in one piece in each ring that has a row, or the like part of one, for each of the step's.
pub(super) fn pieces(model: &Model<'_>, step: &Step<'_>, slice: u32) -> impl Iterator<Item = Range<usize>> {
    let Range { start: mut at, end } = rows_of(step, slice);
    core::iter::from_fn(move || {
        let start = at;
        at = if start < end { end_of_piece(model, step, start..end) } else { end };
        (start < end).then_some(start..at)
    })
}

/// Where the first piece of rows ends.
fn end_of_piece(model: &Model<'_>, step: &Step<'_>, rows: Range<usize>) -> usize {
    let r = step.record();
    // (A row alone is a piece.)
    if r.slice_rows == 0 || rows.len() < 2 {
        return rows.end;
    }
    let rings = (0..=r.inputs as usize).filter_map(|k| {
        let (t, input) = if k < r.inputs as usize { (step.input(k), true) } else { (step.output(0), false) };
        model.ring(t?).filter(|ring| !input || ring.rows <= r.rows)
    });
    let capacities = rings.filter_map(|ring| {
        let (bytes, row_bytes) = (ring.bytes as usize, ring.row_bytes as usize);
        if ring.rows == r.rows {
            return bytes.checked_div(row_bytes);
        }
        // Of a tensor that is larger than what this machine can address one row at a time is in one piece, too.
        let Some(all) = row_bytes.checked_mul(ring.rows as usize) else { return Some(1) };
        let each = all.checked_div(r.rows as usize).filter(|each| each * r.rows as usize == all)?;
        bytes.checked_div(each)
    });
    let ends = capacities.filter(|&c| c > 0).map(|c| (rows.start / c + 1) * c);
    ends.fold(rows.end, usize::min)
}
