//! Checks a plan once, so that nothing needs checking while it runs.

use super::bands;
use super::{ABSENT, ALIGN, MAX_RANK, MAX_SLICES, Model, Region, Section, Tensor, TensorRecord};
use crate::kernels::{self, OpSet, StepKind};
use crate::{DType, Error, Fault};

/// Work of a call of a kernel, whatever it does.
const CALL: u64 = 256;

/// Checks the plan; gives the work of a run (see [`Model::work`]).
pub(super) fn model<const OPS: u128>(m: &Model<'_>) -> Result<u64, Error> {
    if let Some(s) = m.sections_are_whole() {
        return Err(Error::Section { section: s as u16 });
    }
    if m.state_bytes() > m.arena_bytes() {
        return Err(Error::Section { section: Section::Tensors as u16 });
    }
    // Scratch lies behind all tensors and is aligned like them.
    if m.scratch_bytes() > m.arena_bytes() || (m.scratch_bytes() > 0 && !m.scratch_start().is_multiple_of(ALIGN)) {
        return Err(Error::Section { section: Section::Steps as u16 });
    }
    for i in 0..m.tensor_count() {
        m.tensor_record(i).filter(|t| tensor(m, t)).ok_or(Error::Tensor { tensor: i as u32 })?;
    }
    let mut next = 0u64;
    for i in 0..m.band_count() {
        let ok = m.band(i).is_some_and(|b| {
            let start = u64::from(b.first_step);
            let fits = start >= next && b.steps > 0 && start + u64::from(b.steps) <= m.step_count() as u64;
            next = start + u64::from(b.steps);
            fits && (1..=MAX_SLICES).contains(&b.slices)
        });
        if !ok {
            return Err(Error::Band { band: i as u32 });
        }
    }
    let mut work = 0u64;
    for (steps, slices) in m.runs() {
        let of_rows = bands::are_of_rows(m, &steps);
        for i in steps.clone() {
            let failed = |fault| Error::Step { step: i as u32, fault };
            let once = step::<OPS>(m, i, slices).map_err(failed)?;
            bands::step(m, i, of_rows.then_some((&steps, slices))).map_err(failed)?;
            // Where a loop ends, a whole trip is done.
            if const { OpSet::from_bits(OPS).has(StepKind::GoOn) } {
                let ends = m.step(i).kind() == Some(StepKind::GoOn);
                ensure(!ends || i == steps.start, Fault::Slices).map_err(failed)?;
            }
            // The rows of all slices are those of the step, and a call in each.
            let all = if of_rows {
                once.saturating_add(CALL * u64::from(slices))
            } else {
                once.saturating_mul(slices.into())
            };
            work = work.saturating_add(all);
        }
    }
    let inputs = (0..m.input_count()).map(|i| (m.input_tensor(i), false));
    for (io, taken) in inputs.chain((0..m.output_count()).map(|i| (m.output_tensor(i), true))) {
        let t = io.ok_or(Error::NoSuchTensor)?;
        let bad = Error::Tensor { tensor: t as u32 };
        let record = m.tensor_record(t).ok_or(bad)?;
        let whole = elements(&Tensor(record)) == Some(all_bytes(&record) / record.dtype.size() as u64);
        if !whole
            || !DType::PORTS.contains(&record.dtype)
            || is_ring(&record) && !bands::comes_by_rows(m, &record, taken)
        {
            return Err(bad);
        }
    }
    for i in 0..m.input_count() {
        let t = m.input_tensor(i).unwrap_or(usize::MAX);
        let input = m.tensor(t).0;
        let written = matches!(input.region, Region::Arena | Region::Slow);
        if !written || is_ring(&input) && !bands::is_fed(m, &input, i) {
            return Err(Error::Tensor { tensor: t as u32 });
        }
        if let Some(default) = m.default_tensor(i) {
            let like =
                |d: &TensorRecord| d.region == Region::Weights && (d.dtype, d.bytes) == (input.dtype, input.bytes);
            m.tensor_record(default).filter(like).ok_or(Error::Tensor { tensor: default as u32 })?;
        }
    }
    Ok(work)
}

fn elements(t: &Tensor) -> Option<u64> {
    t.shape().iter().try_fold(1u64, |n, &d| n.checked_mul(u64::from(d)))
}

fn tensor(m: &Model<'_>, t: &TensorRecord) -> bool {
    let (limit, align) = match t.region {
        Region::Arena => (m.scratch_start(), 16),
        Region::State => (m.state_bytes().min(m.scratch_start()), 16),
        Region::Weights => (m.weights().len(), ALIGN),
        Region::Slow => (m.slow_bytes(), 16),
    };
    let end = u64::from(t.offset) + u64::from(t.bytes);
    let rows = u64::from(t.row_bytes) * u64::from(t.capacity);
    let all = all_bytes(t);
    let quantized = t.dtype.quantized_range();
    let zero_point_fits = match quantized {
        Some((lo, hi)) => (lo..=hi).contains(&t.zero_point),
        None => t.zero_point == 0 || t.dtype == DType::I32,
    };
    let whole = t.rank == 0 || elements(&Tensor(*t)) == Some(all / t.dtype.size() as u64);
    // What lives on between runs is not overwritten by what does not.
    let clear_of_state = t.region != Region::Arena || t.bytes == 0 || t.offset as usize >= m.state_bytes();
    end <= limit as u64
        && clear_of_state
        && (t.offset as usize).is_multiple_of(align)
        && (t.bytes as usize).is_multiple_of(t.dtype.size())
        && (t.advance.unsigned_abs() as usize).is_multiple_of(t.dtype.size())
        && rows == u64::from(t.bytes)
        && t.capacity <= t.rows
        && all <= u64::from(u32::MAX)
        && (!is_ring(t)
            || (t.capacity > 0
                && matches!(t.region, Region::Arena | Region::Slow)
                && (t.row_bytes as usize).is_multiple_of(t.dtype.size())))
        && t.rank as usize <= MAX_RANK
        && whole
        && t.scale.is_finite()
        && t.scale > 0.0
        && zero_point_fits
}

/// Bytes of all rows of a tensor, those of a ring that are not there included.
pub(crate) fn all_bytes(t: &TensorRecord) -> u64 {
    u64::from(t.row_bytes) * u64::from(t.rows)
}

/// Whether a tensor holds only some of its rows.
pub(crate) fn is_ring(t: &TensorRecord) -> bool {
    t.capacity < t.rows
}

/// First byte that a tensor of a band takes in any slice, and the one after its last.
fn swept(t: &TensorRecord, slices: u32) -> (i64, i64) {
    let start = i64::from(t.offset);
    let moved = start + i64::from(t.advance) * (i64::from(slices) - 1);
    (start.min(moved), start.max(moved) + i64::from(t.bytes))
}

/// Whether a tensor stays within its region in every slice.
fn stays_inside(m: &Model<'_>, t: &TensorRecord, slices: u32) -> bool {
    let (floor, limit) = match t.region {
        Region::Arena => (m.state_bytes(), m.scratch_start()),
        Region::State => (0, m.state_bytes()),
        Region::Weights => (0, m.weights().len()),
        Region::Slow => (0, m.slow_bytes()),
    };
    let (start, end) = swept(t, slices);
    t.bytes == 0 || (start >= floor as i64 && end <= limit as i64)
}

/// Checks a step; gives its work in one slice.
fn step<const OPS: u128>(m: &Model<'_>, i: usize, slices: u32) -> Result<u64, Fault> {
    let s = m.step(i);
    let r = *s.record();
    let kind = StepKind::from_code(r.kind).ok_or(Fault::UnknownKind)?;
    if r.inputs > 16 || r.outputs == 0 || r.outputs as usize > MAX_OUTPUTS {
        return Err(Fault::Operands);
    }
    let count = (r.inputs + r.outputs) as usize;
    let operands = m.operand_words().slice(r.operands as usize, count).ok_or(Fault::Operands)?;
    for k in 0..count {
        let t = operands.get(k).ok_or(Fault::Operands)?;
        let absent_input = t == ABSENT && k < r.inputs as usize;
        if !absent_input && t as usize >= m.tensor_count() {
            return Err(Fault::Operands);
        }
    }
    let check = Check { model: m, step: i };
    let output = check.output()?;
    let verdict = kernels::verify::<OPS>(kind, &check)?;
    // A row has at least one element: no step can demand more work than its tensors have room for.
    let of_rows = if kind.folds() { check.input(0)? } else { output };
    if verdict.rows != r.rows as usize
        || verdict.columns != r.columns as usize
        || u64::from(r.rows) > all_bytes(&of_rows)
    {
        return Err(Fault::Rows);
    }
    if verdict.scratch > r.scratch as usize {
        return Err(Fault::Params);
    }
    for (n, in_place) in verdict.in_place.iter().enumerate().take(r.outputs as usize) {
        let output = check.output_at(n)?;
        ensure(output.region != Region::Weights && stays_inside(m, &output, slices), Fault::Region)?;
        let (start, end) = swept(&output, slices);
        let apart = |x: &TensorRecord| {
            let (from, to) = swept(x, slices);
            !x.region.shares_with(output.region) || x.bytes == 0 || output.bytes == 0 || from >= end || start >= to
        };
        for k in 0..r.inputs as usize {
            let Some(x) = check.optional(k) else { continue };
            ensure(stays_inside(m, &x, slices), Fault::Region)?;
            let rows = |t: &TensorRecord| if r.slice_rows > 0 { (t.row_bytes, t.capacity) } else { (0, 0) };
            let same = (x.offset, x.bytes, x.advance) == (output.offset, output.bytes, output.advance)
                && x.dtype.size() == output.dtype.size()
                && rows(&x) == rows(&output);
            let own = same && in_place & (1 << k) != 0;
            ensure(apart(&x) || own || bands::slides(m, i, k, [&x, &output], slices), Fault::Overlap)?;
        }
        for other in 0..n {
            ensure(apart(&check.output_at(other)?), Fault::Overlap)?;
        }
    }
    Ok(verdict.work.saturating_add(verdict.rows as u64).saturating_add(CALL))
}

/// Most outputs of a step.
pub const MAX_OUTPUTS: usize = 2;

/// What a kernel's own check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Output rows of the step.
    pub rows: usize,
    /// Columns of the step: the parts that a row can be cut into.
    pub columns: usize,
    /// What the kernel does, counted in elements that it loads, combines or stores and in products that it adds; nowhere
    /// less than a tenth of that. Computed from what was checked, not from what the file reports.
    pub work: u64,
    /// Scratch bytes a worker needs.
    pub scratch: usize,
    /// For each output the inputs (by bit) whose memory it may be: the kernel reads an element only before it writes that
    /// element, and never again.
    pub in_place: [u32; MAX_OUTPUTS],
}

impl Verdict {
    /// A step of `rows` rows of one column and this much [work](Verdict::work), without scratch, that never works in place.
    pub fn new(rows: usize, work: u64) -> Self {
        Verdict { rows, columns: 1, work, scratch: 0, in_place: [0; MAX_OUTPUTS] }
    }

    /// Says how many columns there are.
    pub fn columns(self, columns: usize) -> Self {
        Verdict { columns, ..self }
    }

    /// Says how much scratch a worker needs.
    pub fn scratch(self, scratch: usize) -> Self {
        Verdict { scratch, ..self }
    }

    /// Allows the first output to take the place of the inputs in `mask`.
    pub fn in_place(self, mask: u32) -> Self {
        Verdict { in_place: [mask, self.in_place[1]], ..self }
    }

    /// Allows the second output, a state, to take the place of the inputs in `mask`.
    pub fn state_in_place(self, mask: u32) -> Self {
        Verdict { in_place: [self.in_place[0], mask], ..self }
    }
}

/// A step under verification, as a kernel's check sees it.
pub struct Check<'a> {
    model: &'a Model<'a>,
    step: usize,
}

impl Check<'_> {
    /// The step itself.
    pub(crate) fn step(&self) -> crate::Step<'_> {
        self.model.step(self.step)
    }

    /// The step's parameters.
    ///
    /// # Errors
    /// [`Fault::Params`] if the words are no valid `P`.
    pub fn params<P: super::words::Record>(&self) -> Result<P, Fault> {
        self.model.step(self.step).params().ok_or(Fault::Params)
    }

    /// Input `i`, which must be there.
    ///
    /// # Errors
    /// [`Fault::Operands`] if it is not.
    pub fn input(&self, i: usize) -> Result<TensorRecord, Fault> {
        self.optional(i).ok_or(Fault::Operands)
    }

    /// Input `i`, if it is there.
    pub fn optional(&self, i: usize) -> Option<TensorRecord> {
        self.model.step(self.step).input(i).and_then(|t| self.model.tensor_record(t))
    }

    /// How many times a run executes the step at most.
    pub fn slices(&self) -> u32 {
        self.model.slices(self.step)
    }

    /// Whether the first output is the model's input `number`.
    pub fn is_input(&self, number: u32) -> bool {
        let output = self.model.step(self.step).output(0);
        output.is_some() && self.model.input_tensor(number as usize) == output
    }

    /// The first output.
    ///
    /// # Errors
    /// [`Fault::Operands`] if there is none.
    pub fn output(&self) -> Result<TensorRecord, Fault> {
        self.output_at(0)
    }

    /// Output `i`.
    ///
    /// # Errors
    /// [`Fault::Operands`] if there is none.
    pub fn output_at(&self, i: usize) -> Result<TensorRecord, Fault> {
        self.model.step(self.step).output(i).and_then(|t| self.model.tensor_record(t)).ok_or(Fault::Operands)
    }

    /// Fails unless the step has `n` outputs.
    ///
    /// # Errors
    /// [`Fault::Operands`].
    pub fn outputs(&self, n: usize) -> Result<(), Fault> {
        ensure(self.model.step(self.step).record().outputs as usize == n, Fault::Operands)
    }

    /// Fails unless `t` has exactly the product of `dims` elements.
    ///
    /// # Errors
    /// [`Fault::Shape`].
    pub fn size(&self, t: &TensorRecord, dims: &[u32]) -> Result<(), Fault> {
        let size = u64::from(product(dims)? as u32) * t.dtype.size() as u64;
        ensure(size == all_bytes(t), Fault::Shape)
    }

    /// Constant input `i`, which must be of type `dtype`, in the weights and have exactly the product of `dims` elements.
    ///
    /// # Errors
    /// [`Fault::Operands`], [`Fault::DType`], [`Fault::Region`], [`Fault::Shape`].
    pub fn constant(&self, i: usize, dtype: DType, dims: &[u32]) -> Result<(), Fault> {
        let t = self.input(i)?;
        ensure(t.dtype == dtype, Fault::DType)?;
        ensure(t.region == Region::Weights, Fault::Region)?;
        self.size(&t, dims)
    }
}

/// The product of factors of [work](Verdict::work).
pub fn work(factors: &[u32]) -> u64 {
    factors.iter().fold(1, |n, &f| n.saturating_mul(f.into()))
}

/// `Ok` if `condition` holds, else `Err(fault)`.
pub fn ensure(condition: bool, fault: Fault) -> Result<(), Fault> {
    if condition { Ok(()) } else { Err(fault) }
}

/// The product of dimensions, as an element count that fits a tensor.
///
/// # Errors
/// [`Fault::Shape`] if it does not fit 32 bits.
pub fn product(dims: &[u32]) -> Result<usize, Fault> {
    let n = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(u64::from(d)).filter(|&n| n <= u64::from(u32::MAX)));
    n.map(|n| n as usize).ok_or(Fault::Shape)
}
