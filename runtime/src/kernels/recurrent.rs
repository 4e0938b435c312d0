//! What the recurrent layers `LSTM`, `GRU` and `RNN` have in common: which frames a sequence has, the product with the recurrent
//! weights, and the functions of gates.

use core::ops::Range;

use super::walk::elements;
use super::{OpSet, UnaryOp};
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, ensure, work};
use crate::format::words::record;
use crate::rows::{Operands, View, ViewMut};
use crate::{DType, math};

/// Input: the gates of all frames, as far as they come from what goes into the layer.
pub(super) const GATES: usize = 0;
/// Input: the recurrent weights.
pub(super) const WEIGHTS: usize = 1;
/// Input: how many frames each sequence has.
pub(super) const LENGTHS: usize = 2;
/// Input: the hidden state before the first frame.
pub(super) const START: usize = 3;

record! {
    /// Frames of a recurrent layer. A sequence of fewer than `time` frames has its length in input 2, and what lies behind it in the
    /// output is 0; a length beyond `time` is `time`, one below 0 is 0.
    pub struct Layer {
        /// Frames.
        pub time: u32,
        /// Sequences.
        pub batch: u32,
        /// Elements of the hidden state.
        pub hidden: u32,
        /// From the last frame of a sequence to its first.
        pub reverse: bool,
        /// What goes into a function of gates is clamped to its negative and itself; infinite for no bounds.
        pub clip: f32,
    }
}

record! {
    /// A function of gates, with the parameters of a `Unary` step.
    pub struct Activation {
        /// The function.
        pub op: UnaryOp,
        /// Its first parameter.
        pub alpha: f32,
        /// Its second parameter.
        pub beta: f32,
    }
}

impl Activation {
    /// A function without parameters.
    pub const fn of(op: UnaryOp) -> Activation {
        Activation { op, alpha: 0.0, beta: 0.0 }
    }

    #[inline(always)]
    fn apply<E: Elementwise>(&self, e: E, v: &mut [f32]) {
        e.unary(self.op, [self.alpha, self.beta], v);
    }
}

/// The functions that a layer asks the instruction set for.
pub(super) fn functions(all: &[Activation]) -> OpSet {
    all.iter().fold(OpSet::NONE, |set, a| set.union(OpSet::of_functions(&[a.op], &[])))
}

impl Layer {
    /// Checks what all layers have: `gates` of them, inputs 0 to 3, and the first output.
    pub(super) fn verify(&self, c: &Check<'_>, gates: u32, functions: &[Activation]) -> Result<(), Fault> {
        ensure(self.time > 0 && self.hidden > 0 && self.clip >= 0.0, Fault::Params)?;
        ensure(functions.iter().all(|f| !f.alpha.is_nan() && !f.beta.is_nan()), Fault::Params)?;
        let (weights, lengths) = (c.input(WEIGHTS)?, c.optional(LENGTHS));
        let whole = lengths.is_none_or(|t| t.dtype == DType::I32);
        ensure(weights.dtype == DType::F32 && whole, Fault::DType)?;
        c.size(&c.input(GATES)?, &[self.time, self.batch, gates, self.hidden])?;
        c.size(&weights, &[self.hidden, gates, self.hidden])?;
        if let Some(t) = lengths {
            c.size(&t, &[self.batch])?;
        }
        if let Some(t) = c.optional(START) {
            c.size(&t, &self.state())?;
        }
        c.size(&c.output()?, &[self.time, self.batch, self.hidden])
    }

    /// Fails unless input `i`, if it is there, has exactly the product of `dims` f32.
    pub(super) fn floats(c: &Check<'_>, i: usize, dims: &[u32]) -> Result<(), Fault> {
        let Some(t) = c.optional(i) else { return Ok(()) };
        ensure(t.dtype == DType::F32, Fault::DType)?;
        c.size(&t, dims)
    }

    /// Dimensions of a state.
    pub(super) fn state(&self) -> [u32; 2] {
        [self.batch, self.hidden]
    }

    /// What a layer with so many gates does.
    pub(super) fn work(&self, gates: u32) -> u64 {
        let products = work(&[self.hidden, gates, self.hidden]);
        work(&[self.time, self.batch]).saturating_mul(products.saturating_add(work(&[self.hidden, gates, 32])))
    }

    /// What rows read of inputs 0 to 3.
    pub(super) fn reads(&self, gates: u32, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        match input {
            GATES => {
                let (batch, gates) = (self.batch as usize, gates as usize * self.hidden as usize);
                let last = (self.time as usize).saturating_sub(1) * batch + rows.end;
                Some(rows.start * gates..last * gates)
            }
            LENGTHS => Some(rows),
            START => Some(elements(rows, &[self.hidden])),
            _ => None,
        }
    }

    /// The frames of sequence `row` in their order, and those behind them.
    #[inline(always)]
    pub(super) fn frames(&self, o: &Operands<'_>, row: usize) -> (impl Iterator<Item = usize>, Range<usize>) {
        let (time, reverse) = (self.time as usize, self.reverse);
        let given = o.optional(LENGTHS).and_then(|t| t.slice::<i32>(row, 1).first().copied());
        let length = given.map_or(time, |n| usize::try_from(n).unwrap_or(0).min(time));
        ((0..length).map(move |t| if reverse { length - 1 - t } else { t }), length..time)
    }

    /// The activation of clamped gates.
    #[inline(always)]
    pub(super) fn activate<E: Elementwise>(&self, e: E, function: &Activation, gates: &mut [f32]) {
        if self.clip < f32::INFINITY {
            gates.iter_mut().for_each(|v| *v = math::clamp(*v, -self.clip, self.clip));
        }
        function.apply(e, gates);
    }

    /// Zeros in the output's frames of sequence `row` that it does not have. `zeros` is as long as a state, and is overwritten.
    #[inline(always)]
    pub(super) fn clear<E: Elementwise>(
        &self,
        e: E,
        y: &mut ViewMut<'_>,
        row: usize,
        frames: Range<usize>,
        zeros: &mut [f32],
    ) {
        if !frames.is_empty() {
            zeros.fill(0.0);
        }
        for t in frames {
            e.store(y, (t * self.batch as usize + row) * zeros.len(), zeros);
        }
    }
}

/// A state before the first frame: zeros if none is given.
#[inline(always)]
pub(super) fn start<E: Elementwise>(e: E, given: Option<View<'_>>, row: usize, state: &mut [f32]) {
    match given {
        Some(given) => e.load(&given, row * state.len(), state),
        None => state.fill(0.0),
    }
}

/// Bytes of scratch for so many floats.
pub(super) const fn bytes(floats: usize) -> usize {
    floats.saturating_mul(size_of::<f32>())
}

/// Parts of so many floats of the worker's scratch, one behind the other; `None` if it is smaller.
#[inline(always)]
pub(super) fn parts<'a, const N: usize>(o: &Operands<'a>, floats: [usize; N]) -> Option<[&'a mut [f32]; N]> {
    let memory = o.scratch().split_at_mut_checked(bytes(floats.iter().sum()))?.0;
    let mut memory: &'a mut [f32] = bytemuck::try_cast_slice_mut(memory).ok()?;
    let mut parts = [const { None }; N];
    for (part, n) in parts.iter_mut().zip(floats) {
        let (own, rest) = core::mem::take(&mut memory).split_at_mut_checked(n)?;
        (*part, memory) = (Some(own), rest);
    }
    Some(parts.map(Option::unwrap_or_default))
}

/// Sums that are computed at once, in registers: as many as it takes that none waits for its own last addition. (Sums that lie in
/// memory between a few rows and the next are slower: their stores are taken for what is loaded of R, whose rows are often a
/// part of a page apart.)
const BLOCK: usize = if cfg!(target_pointer_width = "32") { 16 } else { 64 };

/// Rows of R that all sums take before the next ones: few enough that their pages are at hand when the next block of sums comes to
/// them, where a row is a page long, and enough that sums seldom go to memory.
const ROWS: usize = 32;

/// Adds `h · R` to sums: to sum `j` the products with column `first + j` of the rows of R, which are `width` long, one after the
/// other.
#[inline(always)]
pub(super) fn multiply(sums: &mut [f32], h: &[f32], r: &[f32], width: usize, first: usize) {
    let Some(r) = r.get(first..) else { return };
    for (h, mut r) in h.chunks(ROWS).zip(r.chunks(ROWS.saturating_mul(width).max(1))) {
        let rest = blocks::<BLOCK>(sums, h, &mut r, width);
        let rest = blocks::<16>(rest, h, &mut r, width);
        let rest = blocks::<4>(rest, h, &mut r, width);
        blocks::<1>(rest, h, &mut r, width);
    }
}

/// Adds to sums, so many at once, the products with the first columns of R, which then begins behind them. Gives the sums that are
/// left.
#[inline(always)]
fn blocks<'a, const N: usize>(sums: &'a mut [f32], h: &[f32], r: &mut &[f32], width: usize) -> &'a mut [f32] {
    let (blocks, rest) = sums.as_chunks_mut::<N>();
    for block in blocks {
        let mut all = *block;
        for (h, row) in h.iter().zip(r.chunks(width.max(1))) {
            let Some(row) = row.first_chunk::<N>() else { break };
            for i in 0..N {
                all[i] += h * row[i];
            }
        }
        *block = all;
        *r = r.get(N..).unwrap_or(&[]);
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_take_their_columns_in_order() {
        // R [5, 3], and of it the last two columns.
        let r: [f32; 15] = core::array::from_fn(|i| i as f32);
        let h = [1.0, 10.0, 100.0, 1000.0, 10_000.0];
        let mut sums = [0.5, -1.0];
        multiply(&mut sums, &h, &r, 3, 1);
        assert_eq!(
            sums,
            [0.5 + 1.0 + 40.0 + 700.0 + 10_000.0 + 130_000.0, -1.0 + 2.0 + 50.0 + 800.0 + 11_000.0 + 140_000.0]
        );
    }

    #[test]
    fn every_sum_is_there() {
        // Blocks of every size.
        let r: [f32; 2 * 87] = core::array::from_fn(|i| i as f32);
        let mut sums = [0.0; 85];
        multiply(&mut sums, &[1.0, 2.0], &r, 87, 2);
        for (j, sum) in sums.iter().enumerate() {
            assert_eq!(*sum, (2 + j) as f32 + 2.0 * (87 + 2 + j) as f32);
        }
    }

    #[test]
    fn every_row_is_there() {
        const N: usize = 2 * ROWS + 5;
        let h: [f32; N] = core::array::from_fn(|i| i as f32);
        let mut sums = [0.0; 3];
        multiply(&mut sums, &h, &[1.0; 4 * N], 4, 1);
        assert_eq!(sums, [h.iter().sum::<f32>(); 3]);
    }

    #[test]
    fn what_is_missing_is_not_read() {
        let mut sums = [1.0, 2.0];
        multiply(&mut sums, &[1.0; 5], &[1.0; 3], 0, 7);
        assert_eq!(sums, [1.0, 2.0]);
        multiply(&mut sums, &[1.0; 5], &[1.0; 3], 2, 1);
        multiply(&mut [0.0; 70], &[1.0; 5], &[1.0; 3], 70, 0);
    }
}
