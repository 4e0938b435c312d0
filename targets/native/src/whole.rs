//! Whole tensors for a plan whose rows come and go: for who has them in memory anyway.

use std::ops::{ControlFlow, Range};

use kinglet::{Feed, Model};

use crate::Error;
use crate::aligned::Aligned;

/// The inputs and outputs of a plan that come row by row, whole; made when they are asked for.
#[derive(Default)]
pub(crate) struct Whole {
    inputs: Vec<Option<Aligned>>,
    outputs: Vec<Option<Aligned>>,
}

impl Whole {
    /// Input `i`, if it comes row by row.
    pub(crate) fn input(&mut self, model: &Model<'_>, i: usize) -> Result<Option<&mut [u8]>, Error> {
        if !model.input_comes_by_rows(i) {
            return Ok(None);
        }
        slot(&mut self.inputs, i, bytes(model, model.input_tensor(i))).map(Some)
    }

    /// Output `i` of the last run, if it goes row by row.
    pub(crate) fn output(&self, i: usize) -> Option<&[u8]> {
        self.outputs.get(i)?.as_ref().map(Aligned::as_slice)
    }

    /// Makes room for what a run gives and takes.
    pub(crate) fn prepare(&mut self, model: &Model<'_>) -> Result<(), Error> {
        for i in 0..model.input_count() {
            self.input(model, i)?;
        }
        for i in (0..model.output_count()).filter(|&i| model.output_goes_by_rows(i)) {
            slot(&mut self.outputs, i, bytes(model, model.output_tensor(i)))?;
        }
        Ok(())
    }
}

/// Bytes of all rows of a tensor.
fn bytes(model: &Model<'_>, tensor: Option<usize>) -> usize {
    let all = |t: kinglet::Tensor| t.shape().iter().map(|&d| d as usize).product::<usize>() * t.dtype().size();
    tensor.map_or(0, |t| all(model.tensor(t)))
}

fn slot(slots: &mut Vec<Option<Aligned>>, i: usize, bytes: usize) -> Result<&mut [u8], Error> {
    if slots.len() <= i {
        slots.resize_with(i + 1, || None);
    }
    if slots[i].is_none() {
        slots[i] = Some(Aligned::zeroed(bytes, "a tensor that comes row by row")?);
    }
    Ok(slots[i].as_mut().map_or(&mut [], Aligned::as_mut_slice))
}

/// The bytes of rows that are as long as `bytes` says.
fn at(rows: &Range<usize>, bytes: usize) -> Range<usize> {
    let row = bytes.checked_div(rows.len()).unwrap_or(0);
    rows.start * row..rows.end * row
}

impl Feed for Whole {
    fn give(&mut self, input: usize, rows: Range<usize>, to: &mut [u8]) -> ControlFlow<()> {
        // An input that lies whole in the arena was written there.
        if let Some(Some(whole)) = self.inputs.get(input)
            && let Some(from) = whole.as_slice().get(at(&rows, to.len()))
        {
            to.copy_from_slice(from);
        }
        ControlFlow::Continue(())
    }

    fn take(&mut self, output: usize, rows: Range<usize>, from: &[u8]) -> ControlFlow<()> {
        if let Some(Some(whole)) = self.outputs.get_mut(output)
            && let Some(to) = whole.as_mut_slice().get_mut(at(&rows, from.len()))
        {
            to.copy_from_slice(from);
        }
        ControlFlow::Continue(())
    }
}
