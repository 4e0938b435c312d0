//! What a command can fail with.
//!
//! One rule says which exit status an error has. **2, wrong usage**: the command line is wrong whatever else the files hold; a
//! flag that does not exist, contradicts another or does not apply to this model, a name given on it that the model lacks, a
//! required flag that is missing. **1, failed work**: the command line is in order and the work failed; that is whatever is
//! found inside a file, from a damaged model to an entry of an archive that names no input, and whatever the machine refuses.

use std::fmt;
use std::path::Path;

use crate::Status;
use crate::terminal::{self, LONGEST};

/// Most lines of a list that are shown.
const MOST: usize = 200;

/// A failed command: the words say what, where and the way out.
#[derive(Debug)]
pub enum Error {
    /// The command was used wrongly: exit status 2.
    Usage(String),
    /// The work failed: exit status 1.
    Failed(String),
    /// The work failed for several reasons, each on a line of its own: exit status 1.
    Several {
        /// What stands above them.
        text: String,
        /// The reasons.
        reasons: Vec<String>,
    },
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

    /// Failed work whose reasons are the lines of `text` after the first.
    pub fn lines(text: &str) -> Self {
        let mut lines = text.lines();
        let text = lines.next().unwrap_or_default().to_string();
        Error::Several { text, reasons: lines.map(|l| l.trim_start().to_string()).collect() }
    }

    /// Failed work on a file.
    pub fn file(path: &Path, reason: impl fmt::Display) -> Self {
        Error::Failed(format!("{}: {reason}", path.display()))
    }

    /// What the compiler says about the model at `path`. An unbound dimension is a missing flag, so wrong usage.
    pub fn compiler(path: &Path, error: &kinglet_compiler::Error) -> Self {
        match error {
            kinglet_compiler::Error::Io { .. } => Error::Failed(error.to_string()),
            kinglet_compiler::Error::UnboundDimension { .. }
            | kinglet_compiler::Error::UnknownShape { .. }
            | kinglet_compiler::Error::NoSuchPass { .. } => Error::Usage(format!("{}: {error}", path.display())),
            kinglet_compiler::Error::Unsupported(nodes) => {
                let plural = if nodes.len() == 1 { "" } else { "s" };
                let text = format!("{}: {} unsupported node{plural}:", path.display(), nodes.len());
                Error::Several { text, reasons: kinglet_compiler::Unsupported::lines(nodes) }
            }
            _ => Error::file(path, error),
        }
    }

    /// The exit status.
    pub fn status(&self) -> Status {
        match self {
            Error::Usage(_) => Status::Usage,
            Error::Failed(_) | Error::Several { .. } => Status::Failed,
        }
    }
}

impl fmt::Display for Error {
    /// As it may go to a terminal: names from outside have no line breaks or escapes here, and no megabytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(text) | Error::Failed(text) => f.write_str(&terminal::line(text, LONGEST)),
            Error::Several { text, reasons } => {
                f.write_str(&terminal::line(text, LONGEST))?;
                for reason in reasons.iter().take(MOST) {
                    write!(f, "\n  {}", terminal::line(reason, LONGEST))?;
                }
                match reasons.len().saturating_sub(MOST) {
                    0 => Ok(()),
                    more => write!(f, "\n  … and {more} more"),
                }
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use kinglet_compiler::{Error as Compiler, Unsupported};

    #[test]
    fn names_from_a_model_make_up_no_lines_and_no_megabytes() {
        let path = Path::new("m.onnx");
        let name = format!("\u{1b}[31m\nerror: {}", "x".repeat(1 << 20));
        let one = Error::compiler(path, &Compiler::Tensor { tensor: name.clone(), reason: "it is short".into() });
        let text = one.to_string();
        assert!(
            text.starts_with("m.onnx: tensor `\\u001b[31m\\u000aerror: ") && text.ends_with("it is short"),
            "{text}"
        );
        assert!(text.len() < 2 * LONGEST);
        let node = |k: usize| Unsupported {
            node: name.clone(),
            op: "Fly".into(),
            reason: format!("no wings on side {k}"),
            remedy: "walk".into(),
        };
        let several = Error::compiler(path, &Compiler::Unsupported((0..1000).map(node).collect()));
        let text = several.to_string();
        assert_eq!(text.lines().count(), 1 + MOST + 1);
        assert!(text.starts_with("m.onnx: 1000 unsupported nodes:\n  Fly `"), "{text}");
        assert!(text.lines().skip(1).all(|l| l.starts_with("  ")) && text.ends_with("… and 800 more"), "{text}");
    }
}
