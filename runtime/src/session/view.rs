//! What lies in a session's memory between two steps.

use core::ops::Range;

use super::pieces::{pieces, rows_of};
use super::{bytes_of, memory_of, place};
use crate::format::verify::all_bytes;
use crate::kernels::Copy;
use crate::{Model, Step, StepKind};

/// Read access to every tensor of a session, between steps.
pub struct ArenaView<'a> {
    model: &'a Model<'a>,
    ram: [&'a [u8]; 2],
    /// The step that was executed last, and its slice.
    step: usize,
    slice: u32,
}

impl<'a> ArenaView<'a> {
    pub(super) fn new(model: &'a Model<'a>, ram: [&'a [u8]; 2], step: usize, slice: u32) -> Self {
        ArenaView { model, ram, step, slice }
    }

    /// The bytes of tensor `i` as they are now (another tensor may have taken their place).
    pub fn tensor(&self, i: usize) -> Option<&'a [u8]> {
        bytes_of(self.model, self.ram, i)
    }

    /// Calls `each` with what the step has just made, piece by piece in an order that the plan decides: of a step in a band of rows the
    /// rows of this slice, of any other its outputs. (Rows that nobody reads may be lost at once, where a ring has no room for them.) Sums over all
    /// rows are there when the last of them are. A copy that fills a part of its output makes nothing: what lies beside it is not of this run.
    pub fn made(&self, mut each: impl FnMut(&'a [u8])) {
        let step = self.model.step(self.step);
        let (r, rows) = (*step.record(), step.rows());
        if fills_a_part(self.model, &step) {
            return;
        }
        for t in (0..r.outputs as usize).filter_map(|k| self.model.tensor_record(step.output(k)?)) {
            let memory = memory_of(self.model, self.ram, t.region);
            let mut take = |range: Range<usize>| memory.get(range).into_iter().for_each(&mut each);
            if r.slice_rows == 0 {
                let at = i64::from(t.offset) + i64::from(t.advance) * i64::from(self.slice);
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                take(at..at.saturating_add(t.bytes as usize));
            } else if !step.kind().is_some_and(StepKind::folds) {
                let each = all_bytes(&t) as usize / rows.max(1);
                let kept = (t.bytes as usize).checked_div(each).unwrap_or(0);
                let first = rows_of(&step, self.slice).end.saturating_sub(kept);
                for Range { start, end } in pieces(self.model, &step, self.slice).filter(|piece| piece.end > first) {
                    take(place(&t, rows, &(start.max(first)..end)));
                }
            } else if self.slice + 1 == self.model.slices(self.step) {
                take(place(&t, 1, &(0..1)));
            }
        }
    }
}

/// Whether a step copies into a part of its output.
fn fills_a_part(model: &Model<'_>, step: &Step<'_>) -> bool {
    let Some(copy) = (step.kind() == Some(StepKind::Copy)).then(|| step.params::<Copy>()).flatten() else {
        return false;
    };
    let copied = copy.dims.iter().fold(1u64, |n, &d| n.saturating_mul(d.into()));
    let output = step.output(0).and_then(|t| model.tensor_record(t));
    output.is_some_and(|t| copied.saturating_mul(t.dtype.size() as u64) < all_bytes(&t))
}
