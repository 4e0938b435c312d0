//! A session: one model at work in one arena.

mod pieces;
mod ram;
mod view;

use core::ops::{ControlFlow, Range};

use self::pieces::{pieces, rows_of};
pub use self::ram::Ram;
pub use self::view::ArenaView;
use crate::faults::{DataFault, FaultWord};
use crate::format::verify::{all_bytes, is_ring};
use crate::format::{ABSENT, TensorRecord};
use crate::kernels::{self, Kernels, OpSet};
use crate::observe::{Observer, Quiet};
use crate::rows::{Memory, Operands, Tile};
use crate::workers::{Inline, Workers};
use crate::{Element, Error, Fault, Feed, Model, Region, Step, StepKind, Tensor};

/// Work (multiply-accumulates or output bytes) below which cutting a step among workers costs more than it gains.
const WORTH_CUTTING: u64 = 16 * 1024;

/// A block of RAM with the alignment a session wants: `static ARENA: Arena<65536> = …`.
#[repr(C, align(64))]
pub struct Arena<const N: usize>(pub [u8; N]);

impl<const N: usize> Arena<N> {
    /// A zeroed arena.
    pub const fn new() -> Self {
        Arena([0; N])
    }
}

impl<const N: usize> Default for Arena<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether these kernels run the steps of all kinds that a model has, with their functions, and take the weights of its products as they lie.
///
/// # Errors
/// [`Error::Step`] for a step of another kind or with another function; [`Error::Kernels`] with the model's target if they do not take its weights.
pub fn runs_on<K: Kernels + ?Sized>(model: &Model<'_>, by: &K) -> Result<(), Error> {
    let ops = by.ops();
    for i in 0..model.step_count() {
        let step = model.step(i);
        let known = ops == OpSet::ALL || ops.holds(kernels::functions(&step, ops));
        let Some(kind) = step.kind().filter(|&kind| known && ops.has(kind)) else {
            return Err(Error::Step { step: i as u32, fault: Fault::UnknownKind });
        };
        if step.product().is_some_and(|(p, _)| !by.takes(kind, &p.packing)) {
            return Err(Error::Kernels { target: model.target() });
        }
    }
    Ok(())
}

/// One model at work: the plan, its memory, and the kernels of this CPU.
///
/// An input's memory may be reused by later steps, so write every input before every run, those with a default by
/// [`Session::set_default`] if nothing else is to be in them. Outputs keep their values
/// until the next run.
pub struct Session<'a, K: Kernels + ?Sized> {
    model: Model<'a>,
    ram: Ram<'a>,
    kernels: &'a K,
}

impl<'a, K: Kernels + ?Sized> Session<'a, K> {
    /// Sets up a session in an arena (`&mut [u8]`), or in an arena and slow memory ([`Ram`]). State is cleared. The arena has [`Model::arena_bytes`] bytes
    /// for one worker, [`Model::arena_bytes_for`] for several, and an alignment of 64.
    ///
    /// # Errors
    /// [`Error::ArenaSize`], [`Error::ArenaAlignment`], [`Error::SlowSize`] or [`Error::SlowAlignment`]; [`Error::Kernels`] if the plan is one for another target, whose order
    /// of weights these kernels do not take.
    pub fn new(model: Model<'a>, ram: impl Into<Ram<'a>>, kernels: &'a K) -> Result<Self, Error> {
        runs_on(&model, kernels)?;
        let mut session = Session::resume(model, ram, kernels)?;
        session.reset();
        Ok(session)
    }

    /// As [`Session::new`], but goes on from what is in memory: the state, inputs and outputs that an earlier session on the
    /// same model left there. So a session need not live as long as the memory it works in. (Another content is not unsafe:
    /// it is another state.) Whether the kernels take the plan is not asked again ([`runs_on`]).
    ///
    /// # Errors
    /// As [`Session::new`], but [`Error::Kernels`].
    pub fn resume(model: Model<'a>, ram: impl Into<Ram<'a>>, kernels: &'a K) -> Result<Self, Error> {
        let ram = ram.into();
        ram.check(&model)?;
        Ok(Session { model, ram, kernels })
    }

    /// The model.
    pub fn model(&self) -> &Model<'a> {
        &self.model
    }

    /// Forgets all state: the next run is the first of a stream.
    pub fn reset(&mut self) {
        let n = self.model.state_bytes().min(self.ram.arena.len());
        self.ram.arena[..n].fill(0);
    }

    fn io(&self, tensor: Option<usize>) -> Result<Tensor, Error> {
        tensor.map(|t| self.model.tensor(t)).ok_or(Error::NoSuchTensor)
    }

    /// Input `i` in the arena, to be written as elements of type `T`.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`], [`Error::WrongType`].
    pub fn input_mut<T: Element>(&mut self, i: usize) -> Result<&mut [T], Error> {
        let t = self.io(self.model.input_tensor(i))?;
        if !T::matches(t.dtype()) {
            return Err(Error::WrongType);
        }
        bytemuck::try_cast_slice_mut(self.input_bytes_mut(i)?).map_err(|_| Error::WrongLength)
    }

    /// Input `i` in the arena as bytes, whatever its type.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`].
    pub fn input_bytes_mut(&mut self, i: usize) -> Result<&mut [u8], Error> {
        self.model.input_bytes(self.ram.reborrow(), i)
    }

    /// The input of that name, to be written as elements of type `T`.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] (also when the model carries no names), [`Error::WrongType`].
    pub fn input_named_mut<T: Element>(&mut self, name: &str) -> Result<&mut [T], Error> {
        let i = self.model.find_input(name).ok_or(Error::NoSuchTensor)?;
        self.input_mut(i)
    }

    /// Writes its default into input `i`, for a run that no other value is given to it.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] if there is no such input, or it has no default.
    pub fn set_default(&mut self, i: usize) -> Result<(), Error> {
        let default = self.model.input_default(i).ok_or(Error::NoSuchTensor)?;
        // The file was verified: both have the same length.
        self.input_bytes_mut(i)?.copy_from_slice(default);
        Ok(())
    }

    /// Output `i` in the arena, after a run.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`], [`Error::WrongType`].
    pub fn output<T: Element>(&self, i: usize) -> Result<&[T], Error> {
        let t = self.io(self.model.output_tensor(i))?;
        if !T::matches(t.dtype()) {
            return Err(Error::WrongType);
        }
        bytemuck::try_cast_slice(self.output_bytes(i)?).map_err(|_| Error::WrongLength)
    }

    /// Output `i` in the arena as bytes, whatever its type.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`].
    pub fn output_bytes(&self, i: usize) -> Result<&[u8], Error> {
        self.model.output_bytes(self.ram.arena, self.ram.slow, i)
    }

    /// The output of that name, after a run.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] (also when the model carries no names), [`Error::WrongType`].
    pub fn output_named<T: Element>(&self, name: &str) -> Result<&[T], Error> {
        let i = self.model.find_output(name).ok_or(Error::NoSuchTensor)?;
        self.output(i)
    }

    /// Runs the plan once on the calling thread.
    ///
    /// # Errors
    /// As [`Session::run_with`].
    pub fn run(&mut self) -> Result<(), Error> {
        self.run_with(&Inline, &mut Quiet)
    }

    /// Runs the plan once, its steps cut among `workers`, watched by `observer`. Allocates nothing and locks nothing; the
    /// result does not depend on the number of workers.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] and [`Error::DivisionByZero`] if the data has them: the run went through all the same, with
    /// the documented values in their place; the error names the first such step. [`Error::TooManyTrips`] likewise, if a loop whose trips
    /// depend on the data wants more of them than there are in the plan; its time, and nothing else's, depends on values.
    /// [`Error::Interrupted`] if the observer stopped the run. What is in outputs and state then is unspecified (partly new,
    /// partly old): call [`Session::reset`] and write the inputs again before the next run. [`Error::Fed`] if an input or output of
    /// the plan comes row by row: [`Session::run_rows`].
    pub fn run_with(
        &mut self,
        workers: &(impl Workers + ?Sized),
        observer: &mut (impl Observer + ?Sized),
    ) -> Result<(), Error> {
        self.go(workers, observer, None)
    }

    /// As [`Session::run_with`], on a plan that was compiled to take an input, or to give an output, row by row (`convert --feed`): asks
    /// `feed` for the rows that a slice reads, and gives it those that it has made. Inputs that lie whole in the arena are
    /// written before the run, as ever, unless they are named to be fed: then all of their rows are asked for.
    ///
    /// # Errors
    /// As [`Session::run_with`]; [`Error::Interrupted`] also if `feed` stopped the run.
    pub fn run_rows(
        &mut self,
        feed: &mut dyn Feed,
        workers: &(impl Workers + ?Sized),
        observer: &mut (impl Observer + ?Sized),
    ) -> Result<(), Error> {
        self.go(workers, observer, Some(feed))
    }

    fn go(
        &mut self,
        workers: &(impl Workers + ?Sized),
        observer: &mut (impl Observer + ?Sized),
        mut feed: Option<&mut dyn Feed>,
    ) -> Result<(), Error> {
        // (A copy of the model would be a third of this function's stack.)
        let Session { model, ram, kernels } = self;
        let model: &Model<'a> = model;
        if feed.is_none() && model.is_fed() {
            return Err(Error::Fed);
        }
        let scratch = model.scratch_bytes();
        let slots = match scratch {
            0 => usize::MAX,
            n => ram.arena.len().saturating_sub(model.scratch_start()) / n,
        };
        let most = workers.count().min(slots).max(1);
        let ops = kernels.ops();
        let faults = FaultWord::default();
        let mut result = Ok(());
        for (steps, slices) in model.runs() {
            'slices: for slice in 0..slices {
                for index in steps.clone() {
                    let step = model.step(index);
                    let Some(kind) = step.kind() else { continue };
                    let interrupted = Error::Interrupted { step: index as u32 };
                    if observer.before(index).is_break() {
                        return Err(interrupted);
                    }
                    if kind == StepKind::Feed
                        && let Some(feed) = feed.as_deref_mut()
                        && let Some(asked) = step.params::<kernels::Feed>()
                    {
                        for rows in pieces(model, &step, slice) {
                            if give(model, ram, feed, asked.input as usize, step.rows(), rows).is_break() {
                                return Err(interrupted);
                            }
                        }
                    }
                    let memory = Memory::new(ram.reborrow(), model);
                    let most = if most > 1 && worth_cutting(model, &step, slice) { most } else { 1 };
                    for rows in pieces(model, &step, slice) {
                        let size = [rows.len(), step.record().columns as usize];
                        let parts = match most {
                            1 => [1, 1],
                            // What joins the rows above is not computed before them.
                            _ if kind.folds() => [1, size[1].min(most)],
                            _ => parts(size, most),
                        };
                        let tiles = parts[0] * parts[1];
                        let tile = |t: usize| {
                            let of = match tiles {
                                1 if t == 0 => Tile { rows: rows.clone(), columns: 0..size[1] },
                                _ if t < tiles => Tile::of(size, parts, t).moved(rows.start),
                                // A tile that does not exist has no rows.
                                _ => Tile { rows: 0..0, columns: 0..0 },
                            };
                            let scratch = (model.scratch_start() + t * scratch, step.record().scratch as usize);
                            let operands = Operands::new(memory, model, &step, slice, scratch, &faults);
                            kernels::run((*kernels, ops), kind, &operands, of);
                        };
                        if tiles == 1 {
                            tile(0);
                        } else {
                            workers.for_each_tile(tiles, &tile);
                        }
                    }
                    if let (Some(fault), Ok(())) = (faults.get(), result) {
                        let step = index as u32;
                        result = Err(match fault {
                            DataFault::Index => Error::IndexOutOfRange { step },
                            DataFault::Division => Error::DivisionByZero { step },
                        });
                    }
                    observer.after(index, &ArenaView::new(model, [ram.arena, ram.slow], index, slice));
                    if ops.has(StepKind::GoOn) && kind == StepKind::GoOn && !goes_on(model, ram, &step) {
                        break 'slices;
                    }
                    if let Some(feed) = feed.as_deref_mut() {
                        let made = (0..model.output_count()).filter(|&o| model.output_writer(o) == Some(index));
                        for (output, rows) in made.flat_map(|o| pieces(model, &step, slice).map(move |rows| (o, rows)))
                        {
                            if take(model, ram, feed, output, step.rows(), rows).is_break() {
                                return Err(interrupted);
                            }
                        }
                    }
                }
            }
            if ops.has(StepKind::GoOn) {
                let first = model.step(steps.start);
                let ends = first.kind() == Some(StepKind::GoOn);
                if ends && result.is_ok() && goes_on(model, ram, &first) {
                    result = Err(Error::TooManyTrips { step: steps.start as u32 });
                }
            }
        }
        if let Some(feed) = feed {
            for output in (0..model.output_count()).filter(|&o| model.output_writer(o).is_none()) {
                let rows = model.output_tensor(output).map_or(0, |t| model.tensor(t).0.rows as usize);
                if take(model, ram, feed, output, rows, 0..rows).is_break() {
                    return Err(Error::Interrupted { step: model.step_count() as u32 });
                }
            }
        }
        result
    }
}

/// Whether the loop that begins with this step has another trip.
fn goes_on(model: &Model<'_>, ram: &Ram<'_>, step: &Step<'_>) -> bool {
    let byte = step.input(0).and_then(|t| bytes_of(model, [ram.arena, ram.slow], t)?.first().copied());
    byte.is_some_and(|byte| byte != 0)
}

/// Asks for rows of an input that lie in one piece: those of a step that has `all` rows, some for each row of the input or the other
/// way round.
fn give(
    model: &Model<'_>,
    ram: &mut Ram<'_>,
    feed: &mut dyn Feed,
    input: usize,
    all: usize,
    rows: Range<usize>,
) -> ControlFlow<()> {
    let Some(t) = model.input_tensor(input).and_then(|t| model.tensor_record(t)) else { return ControlFlow::Break(()) };
    match ram.of(t.region).get_mut(place(&t, all, &rows)) {
        Some(bytes) => feed.give(input, own_rows(&t, all, &rows), bytes),
        None => ControlFlow::Break(()),
    }
}

/// Hands over rows of an output, as [`give`].
fn take(
    model: &Model<'_>,
    ram: &Ram<'_>,
    feed: &mut dyn Feed,
    output: usize,
    all: usize,
    rows: Range<usize>,
) -> ControlFlow<()> {
    let Some(t) = model.output_tensor(output).and_then(|t| model.tensor_record(t)) else {
        return ControlFlow::Break(());
    };
    match memory_of(model, [ram.arena, ram.slow], t.region).get(place(&t, all, &rows)) {
        Some(bytes) => feed.take(output, own_rows(&t, all, &rows), bytes),
        None => ControlFlow::Break(()),
    }
}

/// The rows of a tensor that are these rows of a step, of `all`.
fn own_rows(t: &TensorRecord, all: usize, rows: &Range<usize>) -> Range<usize> {
    let own = |row: usize| (row as u64 * u64::from(t.rows) / all.max(1) as u64) as usize;
    own(rows.start)..own(rows.end)
}

/// Where rows of a tensor, of `all`, lie in its memory if they lie in one piece.
fn place(t: &TensorRecord, all: usize, rows: &Range<usize>) -> Range<usize> {
    let each = all_bytes(t) as usize / all.max(1);
    let start = t.offset as usize + (rows.start * each).checked_rem(t.bytes as usize).unwrap_or(0);
    start..start + rows.len() * each
}

/// Whether what a step computes in a slice is so much that workers share it.
fn worth_cutting(model: &Model<'_>, step: &Step<'_>, slice: u32) -> bool {
    let all = step.rows().max(1) as u64;
    let part = |of: u64| of / all * rows_of(step, slice).len() as u64;
    let out_bytes = || step.output(0).map_or(0, |t| all_bytes(&model.tensor(t).0));
    part(step.macs()) >= WORTH_CUTTING || part(out_bytes()) >= WORTH_CUTTING
}

/// How many parts of rows and of columns make about as many tiles as are wanted: rows first, which share nothing.
fn parts([rows, columns]: [usize; 2], wanted: usize) -> [usize; 2] {
    let by_rows = wanted.min(rows).max(1);
    [by_rows, (wanted / by_rows).min(columns).max(1)]
}

/// What a session's memory holds, for who keeps the memory and makes a [`Session`] only to run.
impl<'a> Model<'a> {
    /// Whether an input comes, or an output goes, row by row ([`Session::run_rows`]).
    pub fn is_fed(&self) -> bool {
        let inputs = (0..self.input_count()).map(|i| self.input_comes_by_rows(i));
        inputs.chain((0..self.output_count()).map(|o| self.output_writer(o).is_some())).any(|fed| fed)
    }

    /// Whether input `i` comes row by row.
    pub fn input_comes_by_rows(&self, i: usize) -> bool {
        self.input_tensor(i).is_some_and(|t| is_ring(&self.tensor(t).0))
    }

    /// The step that makes the rows of output `i`, if it goes row by row.
    fn output_writer(&self, i: usize) -> Option<usize> {
        let t = self.tensor(self.output_tensor(i)?).0;
        (is_ring(&t) && t.writer != ABSENT).then_some(t.writer as usize)
    }

    /// Whether output `i` goes row by row.
    pub fn output_goes_by_rows(&self, i: usize) -> bool {
        self.output_writer(i).is_some()
    }

    /// Input `i` in the memory of a session on this model, as bytes.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`]; [`Error::Fed`] if it comes row by row.
    pub fn input_bytes<'m>(&self, ram: impl Into<Ram<'m>>, i: usize) -> Result<&'m mut [u8], Error> {
        let t = self.input_tensor(i).and_then(|t| self.tensor_record(t)).ok_or(Error::NoSuchTensor)?;
        if is_ring(&t) {
            return Err(Error::Fed);
        }
        let memory = ram.into().into_region(t.region);
        memory.get_mut(t.offset as usize..).and_then(|a| a.get_mut(..t.bytes as usize)).ok_or(Error::NoSuchTensor)
    }

    /// Output `i` in the arena or slow memory of a session on this model, after a run, as bytes.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`]; [`Error::Fed`] if it goes row by row.
    pub fn output_bytes<'m>(&self, arena: &'m [u8], slow: &'m [u8], i: usize) -> Result<&'m [u8], Error>
    where
        'a: 'm,
    {
        let t = self.output_tensor(i).ok_or(Error::NoSuchTensor)?;
        if is_ring(&self.tensor(t).0) {
            return Err(Error::Fed);
        }
        bytes_of(self, [arena, slow], t).ok_or(Error::NoSuchTensor)
    }
}

/// A region of memory, of a model or of an arena and slow memory.
fn memory_of<'m>(model: &Model<'m>, [arena, slow]: [&'m [u8]; 2], region: Region) -> &'m [u8] {
    match region {
        Region::Weights => model.weights(),
        Region::Arena | Region::State => arena,
        Region::Slow => slow,
    }
}

/// The bytes of tensor `i` as they are now.
fn bytes_of<'m>(model: &Model<'m>, ram: [&'m [u8]; 2], i: usize) -> Option<&'m [u8]> {
    let t = model.tensor_record(i)?;
    memory_of(model, ram, t.region).get(t.offset as usize..(t.offset as usize).checked_add(t.bytes as usize)?)
}
