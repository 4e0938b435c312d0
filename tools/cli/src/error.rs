//! What a command can fail with.

use std::fmt;
use std::path::Path;

use crate::Status;

/// A failed command: the words say what, where and the way out.
#[derive(Debug)]
pub enum Error {
    /// The command was used wrongly: exit status 2.
    Usage(String),
    /// The work failed: exit status 1.
    Failed(String),
}

/// A result of a command or a part of one.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Wrong usage.
    pub fn usage(text: impl Into<String>) -> Self {
        Error::Usage(text.into())
    }

    /// Failed work.
    pub fn failed(text: impl Into<String>) -> Self {
        Error::Failed(text.into())
    }

    /// Failed work on a file.
    pub fn file(path: &Path, reason: impl fmt::Display) -> Self {
        Error::Failed(format!("{}: {reason}", path.display()))
    }

    /// What the compiler says about the model at `path`. An unbound dimension is a missing flag, so wrong usage.
    pub fn compiler(path: &Path, error: &kinglet_compiler::Error) -> Self {
        match error {
            kinglet_compiler::Error::Io { .. } => Error::Failed(error.to_string()),
            kinglet_compiler::Error::UnboundDimension { .. } => Error::Usage(format!("{}: {error}", path.display())),
            _ => Error::file(path, error),
        }
    }

    /// The exit status.
    pub fn status(&self) -> Status {
        match self {
            Error::Usage(_) => Status::Usage,
            Error::Failed(_) => Status::Failed,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(text) | Error::Failed(text) => f.write_str(text),
        }
    }
}

impl From<std::io::Error> for Error {
    /// Only writing results reports a bare I/O error; whatever concerns a file names it.
    fn from(error: std::io::Error) -> Self {
        Error::Failed(format!("cannot write the results: {error}"))
    }
}

impl From<kinglet_native::Error> for Error {
    fn from(error: kinglet_native::Error) -> Self {
        Error::Failed(error.to_string())
    }
}
