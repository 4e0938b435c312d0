//! Where a command writes to.

use std::io::{ErrorKind, Result, Write};

use crate::terminal::{LONGEST, line};

/// Standard output and standard error, or what a test has in their place.
pub struct Streams<'a> {
    /// Results.
    pub out: &'a mut dyn Write,
    /// Notes and warnings.
    pub err: &'a mut dyn Write,
}

impl Streams<'_> {
    /// Tells the user something that does not stop the work.
    pub fn note(&mut self, text: impl std::fmt::Display) {
        // A note that nobody can read is no reason to stop either.
        let _ = writeln!(self.err, "note: {}", line(&text.to_string(), LONGEST));
    }

    /// Warns the user of something that is probably not meant.
    pub fn warn(&mut self, text: impl std::fmt::Display) {
        let _ = writeln!(self.err, "warning: {}", line(&text.to_string(), LONGEST));
    }
}

/// A writer that goes on in silence when the reader at the other end is gone, as in `kinglet inspect … | head`: the work
/// itself did not fail.
pub struct PipeSafe<'a> {
    inner: &'a mut dyn Write,
    broken: bool,
}

impl<'a> PipeSafe<'a> {
    /// Wraps `inner`.
    pub fn new(inner: &'a mut dyn Write) -> Self {
        PipeSafe { inner, broken: false }
    }

    fn guard<T>(&mut self, silent: T, f: impl FnOnce(&mut dyn Write) -> Result<T>) -> Result<T> {
        if self.broken {
            return Ok(silent);
        }
        match f(self.inner) {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => {
                self.broken = true;
                Ok(silent)
            }
            other => other,
        }
    }
}

impl Write for PipeSafe<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.guard(bytes.len(), |w| w.write(bytes))
    }

    fn flush(&mut self) -> Result<()> {
        self.guard((), |w| w.flush())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn only_a_broken_pipe_is_swallowed() {
        let mut gone = Failing(ErrorKind::BrokenPipe);
        let mut w = PipeSafe::new(&mut gone);
        assert!(w.write_all(b"x").is_ok() && w.flush().is_ok());
        let mut full = Failing(ErrorKind::StorageFull);
        let mut w = PipeSafe::new(&mut full);
        assert!(w.write_all(b"x").is_err() && w.flush().is_err());
    }
}
