//! What the planner of bands knows of steps and buffers.

use kinglet::StepKind;
use kinglet::bands::{Made, Rule, Slice, Window};
use kinglet::format::words::{Record, Words};
use kinglet::kernels::{self, MatMul};

use super::LEAST_TO_PACK;
use crate::lower::{Lowered, PlanStep};
use crate::plan::order::buffer;

/// What the planner knows of a step that can be in a band.
pub(super) struct Known {
    pub(super) output: usize,
    pub(super) inputs: Vec<(usize, Rule)>,
    pub(super) rows: u64,
    /// Elements of an output row, or of an input row if it folds.
    pub(super) row: u32,
    /// Its output is there with its last row.
    pub(super) folds: bool,
    /// Bytes of an element of the output.
    pub(super) width: usize,
    /// What it packs anew in each slice.
    pub(super) packs: Option<Packs>,
}

/// A product of computed matrices that packs the right ones.
pub(super) struct Packs {
    /// Rows of a left matrix.
    rows: u64,
    /// How many there are.
    pub(super) matrices: u64,
    /// Bytes of a right matrix.
    pub(super) bytes: usize,
}

impl Packs {
    /// What a step packs in each slice, if it does.
    fn of(l: &Lowered, step: &PlanStep) -> Option<Packs> {
        if !matches!(step.kind, StepKind::MatMulF32 | StepKind::MatMulI8) {
            return None;
        }
        let words: Vec<u8> = step.params.iter().flat_map(|w| w.to_le_bytes()).collect();
        let p = MatMul::read(&Words::new(&words), 0).filter(|p| p.tile > 0)?;
        let right = step.inputs[1]?;
        let matrices = p.batch.iter().map(|&n| u64::from(n)).product();
        Some(Packs { rows: p.m.into(), matrices, bytes: p.n as usize * p.k as usize * l.tensors[right].dtype.size() })
    }

    /// Rows of a slice that are worth packing.
    pub(super) fn least(&self) -> u64 {
        self.rows.min(LEAST_TO_PACK)
    }
}

impl Known {
    pub(super) fn of(l: &Lowered, i: usize, whole: &[Option<Whole>]) -> Option<Known> {
        let step = &l.steps[i];
        let &[output] = &step.outputs[..] else { return None };
        let words: Vec<u8> = step.params.iter().flat_map(|w| w.to_le_bytes()).collect();
        let rules = kernels::rules(step.kind, &Words::new(&words), 0)?;
        let b = buffer(l, output).filter(|_| step.band.is_none())?;
        let width = l.tensors[output].dtype.size();
        if !rules.folds && whole[b]?.bytes != step.rows * rules.row as usize * width {
            return None;
        }
        let inputs = step.inputs.iter().zip(rules.inputs).filter_map(|(t, rule)| Some(((*t)?, rule)));
        let inputs = inputs.filter_map(|(t, rule)| {
            let b = buffer(l, t)?;
            // Windows over rows that do not make up the tensor are none.
            let bytes = |w: Window| w.row as usize * l.tensors[t].dtype.size();
            let fits = |w: Window| whole[b].is_some_and(|whole| bytes(w) > 0 && whole.bytes.is_multiple_of(bytes(w)));
            Some((
                b,
                match rule {
                    Rule::Rows(w) if fits(w) => Rule::Rows(w),
                    _ => Rule::Whole,
                },
            ))
        });
        Some(Known {
            packs: Packs::of(l, step),
            output: b,
            inputs: inputs.collect(),
            rows: step.rows as u64,
            row: rules.row,
            folds: rules.folds,
            width,
        })
    }

    pub(super) fn made(&self, slice: Slice) -> Option<Made> {
        slice.made(self.row)
    }
}

/// What all tensors of a buffer have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) bytes: usize,
    /// Bytes of the shortest run of whole rows of each.
    pub(super) row: usize,
}
