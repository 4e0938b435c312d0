//! What can go wrong around a model on this machine.

use std::path::{Path, PathBuf};

use kinglet::DType;

/// An error of this crate. Each names the file or the tensor it speaks of.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be opened or mapped.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A model could not be read from where it comes from.
    #[error("cannot read the model: {0}")]
    Read(std::io::Error),
    /// The file is no model that this runtime executes.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: kinglet::Error,
    },
    /// Bytes in memory are no model that this runtime executes, or the runtime refused the session.
    #[error("{0}")]
    Runtime(#[from] kinglet::Error),
    /// A run met data that it has no answer for, or its observer stopped it.
    #[error("{source}{at}")]
    Run {
        /// What happened, and at which step.
        source: kinglet::Error,
        /// The step by name, to be read after the rest; empty if the model carries no names.
        at: String,
    },
    /// There is not enough memory.
    #[error("cannot allocate {bytes} bytes for {what}")]
    Memory {
        /// Bytes asked for.
        bytes: usize,
        /// What they are for.
        what: &'static str,
    },
    /// The threads of a pool could not be started.
    #[error("cannot start {threads} threads: {source}")]
    Threads {
        /// Threads asked for.
        threads: usize,
        /// Why.
        source: std::io::Error,
    },
    /// The model has no input or output of this name or number.
    #[error("the model has no {side} {wanted}; it has: {available}")]
    NoSuchTensor {
        /// `input` or `output`.
        side: &'static str,
        /// Name or number asked for.
        wanted: String,
        /// Names it has.
        available: String,
    },
    /// A tensor was asked for as elements of another type than it has.
    #[error("{side} {tensor} has elements of type {dtype}, not the type asked for", dtype = dtype.name())]
    WrongType {
        /// `input` or `output`.
        side: &'static str,
        /// Its name or number.
        tensor: String,
        /// The type it has.
        dtype: DType,
    },
}

impl Error {
    /// The same of the model at `path`.
    pub(crate) fn of_file(self, path: &Path) -> Error {
        match self {
            Error::Read(source) => Error::Io { path: path.to_path_buf(), source },
            Error::Runtime(source) => Error::File { path: path.to_path_buf(), source },
            other => other,
        }
    }

    /// The error of a run, with the name of the step.
    pub(crate) fn of_run(source: kinglet::Error, model: &kinglet::Model<'_>) -> Error {
        use kinglet::Error::{DivisionByZero, IndexOutOfRange, Interrupted, TooManyTrips};
        let (IndexOutOfRange { step } | DivisionByZero { step } | Interrupted { step } | TooManyTrips { step }) =
            source
        else {
            return Error::Runtime(source);
        };
        let at = model.step(step as usize).name().map_or_else(String::new, |name| format!(" (`{name}`)"));
        Error::Run { source, at }
    }
}
