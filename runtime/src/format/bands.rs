//! Checks what a band of rows needs: that every row is there when it is read. (Whether memory is touched that must not be, other
//! checks say: rows of a ring lie at `r mod capacity` whatever they are.)

use core::ops::Range;

use super::verify::{ensure, is_ring};
use super::{ABSENT, Model, TensorRecord};
use crate::Fault;
use crate::bands::{Rule, Slice};
use crate::kernels;

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
            inputs.map(|(_, t)| t).chain(outputs).all(|t| !is_ring(&t) && !written_by(&t, i)),
            Fault::Slices,
        );
    };
    let read = Slice { rows: r.slice_rows, delay: r.delay };
    let rules = step.kind().and_then(|kind| kernels::rules(kind, m.params(), r.params as usize));
    let (row, rules) = rules.ok_or(Fault::Slices)?;
    ensure(r.slice_rows > 0 && r.outputs == 1 && read.count(r.rows.into()) <= slices.into(), Fault::Slices)?;
    let fits =
        |t: &TensorRecord, row: u32| u64::from(row) * t.dtype.size() as u64 == u64::from(t.row_bytes) && t.advance == 0;
    ensure(outputs.all(|t| written_by(&t, i) && fits(&t, row) && t.rows == r.rows), Fault::Slices)?;
    for (k, t) in inputs {
        let writer = t.writer as usize;
        if t.writer == ABSENT || !steps.contains(&writer) {
            ensure(!is_ring(&t) && t.advance == 0, Fault::Slices)?;
            continue;
        }
        let Some(Rule::Rows(window)) = rules.get(k) else { return Err(Fault::Slices) };
        let made = m.step_record(writer);
        let made = Slice { rows: made.slice_rows, delay: made.delay };
        ensure(writer < i && fits(&t, window.row), Fault::Slices)?;
        ensure(window.keeps_pace(made, read) && window.is_behind(made, read), Fault::Slices)?;
        ensure(i64::from(t.capacity) >= window.capacity(made, read).min(t.rows.into()), Fault::Slices)?;
    }
    Ok(())
}

fn written_by(t: &TensorRecord, step: usize) -> bool {
    t.writer as usize == step && t.writer != ABSENT
}
