//! A session that owns what it works with.

use std::path::Path;
use std::sync::Arc;

use kinglet::{Element, Feed, Kernels, Model, Observer, Quiet, Ram, Session, Tensor, Workers};

use crate::aligned::Aligned;
use crate::whole::Whole;
use crate::{Error, ModelFile, Pool, best_kernels};

/// A [`kinglet::Session`] together with its model file, its arena and its threads.
///
/// An input's memory may be reused by later steps of a run: write every input before every run, those with a default by
/// [`OwnedSession::set_default`] if nothing else is to be in them. Outputs keep their values
/// until the next run.
pub struct OwnedSession {
    // No `Session` is kept: it would refer to the arena and the file beside it, and moving this struct would claim that the
    // reference is the only way to them. Each call makes one for as long as it takes.
    arena: Aligned,
    slow: Aligned,
    kernels: &'static dyn Kernels,
    file: Arc<ModelFile>,
    pool: Pool,
    whole: Whole,
}

impl OwnedSession {
    /// Maps a model file and sets up a session on it with `threads` threads.
    ///
    /// # Errors
    /// As [`ModelFile::open`] and [`OwnedSession::new`].
    pub fn open(path: impl AsRef<Path>, threads: usize) -> Result<Self, Error> {
        OwnedSession::new(Arc::new(ModelFile::open(path)?), threads)
    }

    /// Copies a model from memory and sets up a session on it with `threads` threads.
    ///
    /// # Errors
    /// As [`ModelFile::from_bytes`] and [`OwnedSession::new`].
    pub fn from_bytes(bytes: &[u8], threads: usize) -> Result<Self, Error> {
        OwnedSession::new(Arc::new(ModelFile::from_bytes(bytes)?), threads)
    }

    /// Sets up a session on a model that several sessions may share, with the best kernels of this CPU. The weights of a model
    /// for another target are brought into the order of these kernels, once for all its sessions
    /// ([`ModelFile::repacked`]).
    ///
    /// # Errors
    /// [`Error::Memory`] if there is no room for the arena, [`Error::Threads`] if the threads cannot be started.
    pub fn new(file: Arc<ModelFile>, threads: usize) -> Result<Self, Error> {
        OwnedSession::with_kernels(file, threads, best_kernels())
    }

    /// As [`OwnedSession::new`], with other kernels.
    ///
    /// # Errors
    /// As [`OwnedSession::new`].
    pub fn with_kernels(file: Arc<ModelFile>, threads: usize, kernels: &'static dyn Kernels) -> Result<Self, Error> {
        let model = file.suited_to(kernels.target())?.model();
        kinglet::runs_on(&model, kernels)?;
        let pool = Pool::new(threads)?;
        let arena = Aligned::zeroed(model.arena_bytes_for(pool.count()), "the arena")?;
        let slow = Aligned::zeroed(model.slow_bytes(), "the slow memory")?;
        Ok(OwnedSession { arena, slow, kernels, file, pool, whole: Whole::default() })
    }

    /// The model as it runs: with its weights in the order of the kernels, if they were not.
    pub fn model(&self) -> Model<'_> {
        suited(&self.file, self.kernels)
    }

    /// The file the model lies in, to share it with another session.
    pub fn file(&self) -> &Arc<ModelFile> {
        &self.file
    }

    /// How many threads take part in a run.
    pub fn threads(&self) -> usize {
        self.pool.count()
    }

    /// Bytes of the arena, the scratch of every thread included. (Slow memory, [`Model::slow_bytes`], is beside it.)
    pub fn arena_bytes(&self) -> usize {
        self.model().arena_bytes_for(self.threads())
    }

    /// Input `i` in the arena, to be written as elements of type `T`.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`], [`Error::WrongType`].
    pub fn input_mut<T: Element>(&mut self, i: usize) -> Result<&mut [T], Error> {
        self.check::<T>(Side::Input, i)?;
        Ok(bytemuck::try_cast_slice_mut(self.input_bytes_mut(i)?).map_err(|_| kinglet::Error::WrongLength)?)
    }

    /// The input of that name, to be written as elements of type `T`.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] (also when the model carries no names), [`Error::WrongType`].
    pub fn input_named_mut<T: Element>(&mut self, name: &str) -> Result<&mut [T], Error> {
        let i = self.model().find_input(name).ok_or_else(|| self.missing(Side::Input, format!("named `{name}`")))?;
        self.input_mut(i)
    }

    /// Input `i` in the arena as bytes, whatever its type. (One that the plan takes row by row lies whole beside the arena, from the
    /// first time that it is asked for; [`OwnedSession::run_rows`] does without.)
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`], [`Error::Memory`].
    pub fn input_bytes_mut(&mut self, i: usize) -> Result<&mut [u8], Error> {
        self.tensor(Side::Input, i)?;
        let model = suited(&self.file, self.kernels);
        match self.whole.input(&model, i)? {
            Some(input) => Ok(input),
            None => Ok(model.input_bytes(ram(&mut self.arena, &mut self.slow), i)?),
        }
    }

    /// Writes its default into input `i`, for a run that no other value is given to it.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] if there is no such input, or it has no default.
    pub fn set_default(&mut self, i: usize) -> Result<(), Error> {
        let model = suited(&self.file, self.kernels);
        let Some(default) = model.input_default(i) else {
            return Err(self.missing(Side::Input, format!("number {i} with a default")));
        };
        // The file was verified: both have the same length.
        match self.whole.input(&model, i)? {
            Some(input) => input.copy_from_slice(default),
            None => model.input_bytes(ram(&mut self.arena, &mut self.slow), i)?.copy_from_slice(default),
        }
        Ok(())
    }

    /// Output `i` in the arena, after a run.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`], [`Error::WrongType`].
    pub fn output<T: Element>(&self, i: usize) -> Result<&[T], Error> {
        self.check::<T>(Side::Output, i)?;
        Ok(bytemuck::try_cast_slice(self.output_bytes(i)?).map_err(|_| kinglet::Error::WrongLength)?)
    }

    /// The output of that name, after a run.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] (also when the model carries no names), [`Error::WrongType`].
    pub fn output_named<T: Element>(&self, name: &str) -> Result<&[T], Error> {
        let i = self.model().find_output(name).ok_or_else(|| self.missing(Side::Output, format!("named `{name}`")))?;
        self.output(i)
    }

    /// Output `i` in the arena as bytes, whatever its type.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`].
    pub fn output_bytes(&self, i: usize) -> Result<&[u8], Error> {
        self.tensor(Side::Output, i)?;
        if let Some(whole) = self.whole.output(i) {
            return Ok(whole);
        }
        Ok(self.model().output_bytes(self.arena.as_slice(), self.slow.as_slice(), i)?)
    }

    /// Runs the model once. Allocates nothing, unless it fails, or is the first run of a plan that takes or gives rows: these lie whole
    /// beside the arena then.
    ///
    /// # Errors
    /// [`Error::Run`] if the data has an index out of range or an integer division by 0, or if a loop wants more trips than it was compiled
    /// for.
    pub fn run(&mut self) -> Result<(), Error> {
        self.run_observed(&mut Quiet)
    }

    /// Runs the model once, watched by `observer`.
    ///
    /// # Errors
    /// As [`OwnedSession::run`], and if the observer stopped the run: outputs and state are unspecified then, until
    /// [`OwnedSession::reset`].
    pub fn run_observed(&mut self, observer: &mut (impl Observer + ?Sized)) -> Result<(), Error> {
        let model = suited(&self.file, self.kernels);
        let mut session = Session::resume(model, ram(&mut self.arena, &mut self.slow), self.kernels)?;
        let result = if model.is_fed() {
            self.whole.prepare(&model)?;
            session.run_rows(&mut self.whole, &self.pool, observer)
        } else {
            session.run_with(&self.pool, observer)
        };
        result.map_err(|source| Error::of_run(source, &model))
    }

    /// Runs the model once, on rows that `feed` gives, and gives it those of the outputs ([`Session::run_rows`]). Allocates nothing,
    /// unless it fails.
    ///
    /// # Errors
    /// As [`OwnedSession::run`], and if `feed` stopped the run.
    pub fn run_rows(&mut self, feed: &mut dyn Feed) -> Result<(), Error> {
        let model = suited(&self.file, self.kernels);
        let mut session = Session::resume(model, ram(&mut self.arena, &mut self.slow), self.kernels)?;
        let result = session.run_rows(feed, &self.pool, &mut Quiet);
        result.map_err(|source| Error::of_run(source, &model))
    }

    /// Forgets all state: the next run is the first of a stream.
    pub fn reset(&mut self) {
        let (model, ram) = (suited(&self.file, self.kernels), ram(&mut self.arena, &mut self.slow));
        if let Ok(mut session) = Session::resume(model, ram, self.kernels) {
            session.reset();
        }
    }

    fn tensor(&self, side: Side, i: usize) -> Result<Tensor, Error> {
        let model = self.model();
        let number = match side {
            Side::Input => model.input_tensor(i),
            Side::Output => model.output_tensor(i),
        };
        number.map(|t| model.tensor(t)).ok_or_else(|| self.missing(side, format!("number {i}")))
    }

    fn check<T: Element>(&self, side: Side, i: usize) -> Result<(), Error> {
        let dtype = self.tensor(side, i)?.dtype();
        if T::matches(dtype) {
            return Ok(());
        }
        Err(Error::WrongType { side: side.word(), tensor: side.name(&self.model(), i), dtype })
    }

    fn missing(&self, side: Side, wanted: String) -> Error {
        let model = self.model();
        let count = match side {
            Side::Input => model.input_count(),
            Side::Output => model.output_count(),
        };
        let names: Vec<String> = (0..count).map(|i| side.name(&model, i)).collect();
        Error::NoSuchTensor { side: side.word(), wanted, available: names.join(", ") }
    }
}

fn ram<'a>(arena: &'a mut Aligned, slow: &'a mut Aligned) -> Ram<'a> {
    Ram { arena: arena.as_mut_slice(), slow: slow.as_mut_slice() }
}

/// The model that a session with these kernels runs; it was made when the session was.
fn suited<'a>(file: &'a ModelFile, kernels: &dyn Kernels) -> Model<'a> {
    file.suited_to(kernels.target()).unwrap_or(file).model()
}

impl std::fmt::Debug for OwnedSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnedSession").field("file", &self.file).field("pool", &self.pool).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
enum Side {
    Input,
    Output,
}

impl Side {
    fn word(self) -> &'static str {
        match self {
            Side::Input => "input",
            Side::Output => "output",
        }
    }

    fn name(self, model: &Model<'_>, i: usize) -> String {
        let name = match self {
            Side::Input => model.input_name(i),
            Side::Output => model.output_name(i),
        };
        name.map_or_else(|| i.to_string(), |n| format!("`{n}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::relu_model;

    fn ramp(session: &mut OwnedSession) {
        for (i, x) in session.input_mut::<f32>(0).unwrap().iter_mut().enumerate() {
            *x = i as f32 - 2.0;
        }
    }

    #[test]
    fn a_session_runs_moves_and_reports() {
        let mut session = OwnedSession::from_bytes(&relu_model(5), 1).unwrap();
        ramp(&mut session);
        let mut session = std::thread::spawn(move || {
            session.run().unwrap();
            session
        })
        .join()
        .unwrap();
        assert_eq!(session.output::<f32>(0).unwrap(), [0.0, 0.0, 0.0, 1.0, 2.0]);
        assert_eq!(session.output_named::<f32>("y").unwrap().len(), 5);
        assert_eq!(session.output_bytes(0).unwrap().len(), 20);
        assert_eq!(session.input_bytes_mut(0).unwrap().len(), 20);
        assert_eq!(session.threads(), 1);
        session.reset();
    }

    #[test]
    fn sessions_share_a_file_and_threads_change_nothing() {
        // Enough elements to be cut.
        let (elements, runs) = if cfg!(miri) { (5_000, 2) } else { (100_000, 10) };
        let mut one = OwnedSession::from_bytes(&relu_model(elements), 1).unwrap();
        let mut three = OwnedSession::new(Arc::clone(one.file()), 3).unwrap();
        for session in [&mut one, &mut three] {
            for _ in 0..runs {
                ramp(session);
                session.run().unwrap();
            }
        }
        assert_eq!(three.threads(), 3);
        assert_eq!(one.output::<f32>(0).unwrap(), three.output::<f32>(0).unwrap());
    }

    /// Two writable views of one output would be two ways to the same bytes.
    #[test]
    fn an_output_and_the_scratch_are_handed_over_once() {
        struct Twice;
        // SAFETY: it writes through one view, and takes the others only to measure them.
        unsafe impl Kernels for Twice {
            fn unary(&self, _: &kinglet::kernels::Unary, o: &kinglet::rows::Operands<'_>, tile: kinglet::rows::Tile) {
                let rows = tile.rows;
                let (mut first, mut second) = (o.output(), o.output_at(0));
                assert!(second.slice::<f32>(0, 1).is_empty());
                first.slice::<f32>(rows.start, rows.len()).fill(7.0);
                // As no narrower and no wider type either.
                assert!(second.slice::<u8>(0, 1).is_empty() && first.slice::<i64>(0, 1).is_empty());
                assert!(o.output_at(1).slice::<u8>(0, 1).is_empty() && o.output_at(40).slice::<u8>(0, 1).is_empty());
                assert!(o.scratch().is_empty() && o.scratch().is_empty(), "the step has none");
            }
        }
        let file = Arc::new(ModelFile::from_bytes(&relu_model(5)).unwrap());
        let mut session = OwnedSession::with_kernels(file, 1, &Twice).unwrap();
        session.run().unwrap();
        assert_eq!(session.output::<f32>(0).unwrap(), [7.0; 5]);
    }

    #[test]
    fn errors_name_the_tensor_and_what_there_is() {
        let mut session = OwnedSession::from_bytes(&relu_model(4), 1).unwrap();
        let text = |e: Error| e.to_string();
        assert_eq!(
            text(session.input_named_mut::<f32>("z").unwrap_err()),
            "the model has no input named `z`; it has: `x`"
        );
        assert_eq!(text(session.output::<f32>(3).unwrap_err()), "the model has no output number 3; it has: `y`");
        assert_eq!(
            text(session.input_mut::<i8>(0).unwrap_err()),
            "input `x` has elements of type f32, not the type asked for"
        );
        assert!(OwnedSession::from_bytes(b"KGL1", 1).is_err());
    }
}
