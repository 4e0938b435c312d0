//! Commands, and how they are read.

use crate::error::Error;

/// A command of the runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command<'a> {
    /// Nothing: some runners flush a port so.
    Nothing,
    Name,
    Timestamp,
    Profile,
    Help,
    /// The input is so many bytes.
    Load(u32),
    /// Its next bytes, two digits each.
    Bytes(&'a [u8]),
    /// Bytes of the input: how many (all), and the first.
    Print {
        count: Option<u32>,
        at: u32,
    },
    Infer {
        runs: u32,
        warmups: u32,
    },
    Results,
}

/// Words that are separated by blanks (or ends of lines, as a terminal sends them).
struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.0.trim_ascii_start();
        let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
        let (word, rest) = line.split_at_checked(end)?;
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }

    /// The next word as a number.
    fn number(&mut self) -> Result<Option<u32>, Error<'a>> {
        self.next().map(|word| number(word).ok_or(Error::Number(word))).transpose()
    }
}

/// A decimal number.
fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0u32, |n, &digit| {
        let digit = digit.wrapping_sub(b'0');
        (digit < 10).then_some(digit).and_then(|digit| n.checked_mul(10)?.checked_add(u32::from(digit)))
    })
}

/// The value of a hexadecimal digit.
fn digit(c: u8) -> Result<u8, Error<'static>> {
    match c {
        b'0'..=b'9' => Ok(c - b'0'),
        b'a'..=b'f' => Ok(c - b'a' + 10),
        b'A'..=b'F' => Ok(c - b'A' + 10),
        _ => Err(Error::Digit(c)),
    }
}

/// The bytes that digits stand for, of which there is an even number.
pub(crate) fn bytes(digits: &[u8]) -> impl Iterator<Item = Result<u8, Error<'static>>> {
    digits.as_chunks::<2>().0.iter().map(|&[high, low]| Ok(digit(high)? << 4 | digit(low)?))
}

/// The command of a line, without what ends it.
pub(crate) fn parse(line: &[u8]) -> Result<Command<'_>, Error<'_>> {
    let mut words = Words(line);
    let Some(name) = words.next() else { return Ok(Command::Nothing) };
    let command = match name {
        b"name" => Command::Name,
        b"timestamp" => Command::Timestamp,
        b"profile" => Command::Profile,
        b"help" => Command::Help,
        b"db" => database(&mut words)?,
        b"infer" => {
            let (runs, warmups) = (words.number()?.unwrap_or(1), words.number()?.unwrap_or(10));
            if runs == 0 {
                return Err(Error::NoRuns);
            }
            Command::Infer { runs, warmups }
        }
        b"results" => Command::Results,
        b"setbaud" => return Err(Error::Baud),
        _ => return Err(Error::Unknown(name)),
    };
    match words.next() {
        Some(word) => Err(Error::Surplus(word)),
        None => Ok(command),
    }
}

/// What follows `db`.
fn database<'a>(words: &mut Words<'a>) -> Result<Command<'a>, Error<'a>> {
    Ok(match words.next().ok_or(Error::NoSubcommand)? {
        b"load" => match words.number()?.ok_or(Error::NoNumber)? {
            0 => return Err(Error::EmptyLoad),
            bytes => Command::Load(bytes),
        },
        b"print" => Command::Print { count: words.number()?, at: words.number()?.unwrap_or(0) },
        digits => {
            // A bad digit first: of a word that is none of the above it says more than that its length is odd.
            digits.iter().try_for_each(|&c| digit(c).map(|_| ()))?;
            if digits.len() % 2 != 0 {
                return Err(Error::OddDigits);
            }
            Command::Bytes(digits)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn commands_are_read() {
        let load = |n| Ok(Command::Load(n));
        let infer = |runs, warmups| Ok(Command::Infer { runs, warmups });
        for (line, expected) in [
            ("", Ok(Command::Nothing)),
            (" \r\n", Ok(Command::Nothing)),
            ("name", Ok(Command::Name)),
            ("\nname\r", Ok(Command::Name)),
            ("timestamp", Ok(Command::Timestamp)),
            ("profile", Ok(Command::Profile)),
            ("help", Ok(Command::Help)),
            ("results", Ok(Command::Results)),
            ("db load 490", load(490)),
            ("db  load  4294967295", load(u32::MAX)),
            ("db 00fF", Ok(Command::Bytes(b"00fF"))),
            ("db print", Ok(Command::Print { count: None, at: 0 })),
            ("db print 16 8", Ok(Command::Print { count: Some(16), at: 8 })),
            ("infer", infer(1, 10)),
            ("infer 5", infer(5, 10)),
            ("infer 5 0", infer(5, 0)),
            ("infer 0 1", Err(Error::NoRuns)),
            ("infer -1", Err(Error::Number(b"-1"))),
            ("infer 1 x", Err(Error::Number(b"x"))),
            ("infer 4294967296", Err(Error::Number(b"4294967296"))),
            ("infer 1 2 3", Err(Error::Surplus(b"3"))),
            ("db", Err(Error::NoSubcommand)),
            ("db load", Err(Error::NoNumber)),
            ("db load 0", Err(Error::EmptyLoad)),
            ("db load 0x10", Err(Error::Number(b"0x10"))),
            ("db 123", Err(Error::OddDigits)),
            ("db 12 34", Err(Error::Surplus(b"34"))),
            ("db 1g", Err(Error::Digit(b'g'))),
            ("db store", Err(Error::Digit(b's'))),
            ("names", Err(Error::Unknown(b"names"))),
            ("\u{fc}", Err(Error::Unknown("\u{fc}".as_bytes()))),
            ("setbaud 9600", Err(Error::Baud)),
            ("name x", Err(Error::Surplus(b"x"))),
        ] {
            assert_eq!(parse(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn digits_are_bytes() {
        let all: Result<Vec<u8>, _> = bytes(b"00ff7Fa0").collect();
        assert_eq!(all.as_deref(), Ok(&[0, 255, 127, 160][..]));
        assert_eq!(bytes(b"0x").next(), Some(Err(Error::Digit(b'x'))));
    }
}
