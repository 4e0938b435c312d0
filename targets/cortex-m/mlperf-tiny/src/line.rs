//! Bytes become commands.

use crate::error::Error;

/// The most bytes of a command. The reference takes 80, and the runner sends 65.
pub const MOST: usize = 128;

/// What ends a command.
const END: u8 = b'%';

/// The command that is coming.
#[derive(Debug)]
pub(crate) struct Line {
    bytes: [u8; MOST],
    /// Bytes that have come, also those that have no room.
    len: usize,
    lost: bool,
}

impl Line {
    pub(crate) const fn new() -> Line {
        Line { bytes: [0; MOST], len: 0, lost: false }
    }

    /// Takes a byte; whether it ends the command.
    pub(crate) fn push(&mut self, byte: u8) -> bool {
        if byte == END {
            return true;
        }
        if let Some(to) = self.bytes.get_mut(self.len) {
            *to = byte;
        }
        self.len = self.len.saturating_add(1);
        false
    }

    /// The port has lost bytes of the command.
    pub(crate) fn lose(&mut self) {
        self.lost = true;
    }

    /// The command.
    pub(crate) fn get(&self) -> Result<&[u8], Error<'_>> {
        if self.lost {
            return Err(Error::BytesLost);
        }
        self.bytes.get(..self.len).ok_or(Error::LineTooLong)
    }

    /// Begins the next one.
    pub(crate) fn clear(&mut self) {
        (self.len, self.lost) = (0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_and_may_be_too_long() {
        let mut line = Line::new();
        assert!(!line.push(b'a') && !line.push(b'b') && line.push(b'%'));
        assert_eq!(line.get(), Ok(&b"ab"[..]));
        line.clear();
        (0..MOST).for_each(|_| assert!(!line.push(b'x')));
        assert_eq!(line.get().map(<[u8]>::len), Ok(MOST));
        line.push(b'x');
        assert_eq!(line.get(), Err(Error::LineTooLong));
        line.clear();
        line.lose();
        assert_eq!(line.get(), Err(Error::BytesLost));
        line.clear();
        assert_eq!(line.get(), Ok(&b""[..]));
    }
}
