//! The steps of a plan.

use super::view::Model;
use super::words::Record;
use super::{ABSENT, StepRecord};
use crate::StepKind;

/// One step of a plan.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    pub(super) model: &'a Model<'a>,
    pub(super) record: StepRecord,
    pub(super) index: usize,
}

impl<'a> Step<'a> {
    /// What kind of step it is. A loaded model has known kinds only.
    pub fn kind(&self) -> Option<StepKind> {
        StepKind::from_code(self.record.kind)
    }

    /// The record as it stands in the file.
    pub fn record(&self) -> &StepRecord {
        &self.record
    }

    pub(crate) fn model(&self) -> &Model<'a> {
        self.model
    }

    /// Output rows.
    pub fn rows(&self) -> usize {
        self.record.rows as usize
    }

    /// Multiply-accumulates.
    pub fn macs(&self) -> u64 {
        u64::from(self.record.macs[0]) | u64::from(self.record.macs[1]) << 32
    }

    /// Tensor number of input `i`; `None` if it is absent.
    #[inline(always)]
    pub fn input(&self, i: usize) -> Option<usize> {
        if i < self.record.inputs as usize { self.operand(i) } else { None }
    }

    /// Tensor number of output `i`.
    pub fn output(&self, i: usize) -> Option<usize> {
        if i < self.record.outputs as usize { self.operand(self.record.inputs as usize + i) } else { None }
    }

    #[inline(always)]
    fn operand(&self, i: usize) -> Option<usize> {
        let at = (self.record.operands as usize).checked_add(i)?;
        self.model.operand_words().get(at).filter(|&t| t != ABSENT).map(|t| t as usize)
    }

    /// The step's parameters, if they are a valid `P`.
    pub fn params<P: Record>(&self) -> Option<P> {
        P::read(self.model.params(), self.record.params as usize)
    }

    /// The step's parameters where they lie, if they are a valid `P`.
    #[inline(always)]
    pub(crate) fn params_in_place<P: bytemuck::CheckedBitPattern>(&self) -> Option<&'a P> {
        self.model.params().in_place(self.record.params as usize)
    }

    /// Name of the step (that of the last graph node it came from); `None` if the names were left out.
    pub fn name(&self) -> Option<&'a str> {
        self.model.names.get(self.model.inputs + self.model.outputs + self.index)
    }

    /// Names of the graph nodes this step came from, first to last.
    pub fn source_nodes(&self) -> impl Iterator<Item = &'a str> {
        let m = &self.model;
        let all = m.names.get(m.inputs + m.outputs + m.step_count() + self.index).unwrap_or("");
        all.split('\n').filter(|s| !s.is_empty())
    }
}
