//! Answers as bytes. Without `core::fmt`, whose floats alone are more code than the protocol.

use embedded_io::Write;

use crate::error::{Error, Failure};

/// An error of the port.
pub(crate) struct Port<E>(pub E);

/// Decimals of a `u64`.
const MOST_DIGITS: usize = 20;

/// Writes text to a port.
pub(crate) struct Text<'w, W: Write>(pub &'w mut W);

impl<W: Write> Text<'_, W> {
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<&mut Self, Port<W::Error>> {
        self.0.write_all(bytes).map_err(Port)?;
        Ok(self)
    }

    pub(crate) fn str(&mut self, text: &str) -> Result<&mut Self, Port<W::Error>> {
        self.bytes(text.as_bytes())
    }

    /// Ends a line.
    pub(crate) fn end(&mut self) -> Result<(), Port<W::Error>> {
        self.bytes(b"\r\n").map(|_| ())
    }

    /// A line.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Port<W::Error>> {
        self.str(text)?.end()
    }

    /// A line that ends with a number.
    pub(crate) fn numbered(&mut self, text: &str, n: u64) -> Result<(), Port<W::Error>> {
        self.str(text)?.number(n)?.end()
    }

    pub(crate) fn number(&mut self, n: u64) -> Result<&mut Self, Port<W::Error>> {
        self.digits(n, 1)
    }

    /// A number with at least so many digits.
    fn digits(&mut self, mut n: u64, least: usize) -> Result<&mut Self, Port<W::Error>> {
        let mut digits = [b'0'; MOST_DIGITS];
        let mut first = MOST_DIGITS;
        for (i, digit) in digits.iter_mut().enumerate().rev() {
            if n == 0 && MOST_DIGITS - first >= least {
                break;
            }
            *digit = b'0' + (n % 10) as u8;
            n /= 10;
            first = i;
        }
        self.bytes(digits.get(first..).unwrap_or(&[]))
    }

    /// A byte as two hexadecimal digits.
    pub(crate) fn hex(&mut self, byte: u8) -> Result<&mut Self, Port<W::Error>> {
        let digit = |d: u8| if d < 10 { b'0' + d } else { b'a' - 10 + d };
        self.bytes(&[digit(byte >> 4), digit(byte & 15)])
    }

    /// A real with three decimals, as `printf` has it: to the nearest, ties to even. What is above 10¹⁵ is `inf`: no result is.
    pub(crate) fn real(&mut self, v: f32) -> Result<&mut Self, Port<W::Error>> {
        if v.is_nan() {
            return self.str("nan");
        }
        if v.is_sign_negative() {
            self.str("-")?;
        }
        match thousandths(v) {
            Some(n) => self.number(n / 1000)?.str(".")?.digits(n % 1000, 3),
            None => self.str("inf"),
        }
    }

    /// A word of a command, as far as it can be printed.
    fn word(&mut self, word: &[u8]) -> Result<&mut Self, Port<W::Error>> {
        for &byte in word {
            let plain = byte.is_ascii_graphic() && byte != b'[' && byte != b']';
            self.bytes(&[if plain { byte } else { b'?' }])?;
        }
        Ok(self)
    }

    /// The line `e-[…]` of an error.
    pub(crate) fn error(&mut self, error: Error<'_>) -> Result<(), Port<W::Error>> {
        self.str("e-[")?;
        match error {
            Error::LineTooLong => {
                self.str("The command is longer than ")?.number(crate::LONGEST_LINE as u64)?.str(" bytes")
            }
            Error::BytesLost => self.str("The port has lost bytes of the command"),
            Error::Unknown(name) => self.str("Unknown command: ")?.word(name),
            Error::Baud => self.str("The rate of this port is fixed"),
            Error::NoSubcommand => self.str("db takes load, print or hexadecimal digits"),
            Error::NoNumber => self.str("A number is missing"),
            Error::Number(word) => self.str("No number of 32 bits: ")?.word(word),
            Error::Surplus(word) => self.str("The command does not take this word: ")?.word(word),
            Error::EmptyLoad => self.str("A load of no bytes"),
            Error::LoadTooLarge { bytes, most } => self.str("An input has ")?.fewer(most, bytes),
            Error::NoLoad => self.str("Bytes without db load"),
            Error::OddDigits => self.str("An odd number of hexadecimal digits"),
            Error::Digit(c) => self.str("No hexadecimal digit: ")?.word(&[c]),
            Error::TooManyBytes { expected, bytes } => self.str("The load has ")?.fewer(expected, bytes)?.str(" more"),
            Error::Incomplete { bytes, of } => self.str("The input has ")?.fewer(bytes, of),
            Error::NoRuns => self.str("infer takes at least one run"),
            Error::NoResults => self.str("Nothing has run on this input"),
            Error::Run(Failure::Shape) => self.str("The network is not of the benchmark's shape"),
            Error::Run(Failure::Runtime(code)) => self.str("The run failed with error ")?.number(code.into()),
        }?;
        self.line("]")
    }

    /// How many bytes there are, and how many there are not.
    fn fewer(&mut self, are: usize, not: usize) -> Result<&mut Self, Port<W::Error>> {
        self.number(are as u64)?.str(" bytes, not ")?.number(not as u64)
    }
}

/// The magnitude of a real in thousandths, exactly and then to the nearest, ties to even; `None` above 10¹⁵.
fn thousandths(v: f32) -> Option<u64> {
    let bits = v.to_bits();
    let (exponent, fraction) = (bits >> 23 & 0xff, u64::from(bits & 0x7f_ffff));
    // `mantissa · 2^(exponent − 150)`.
    let (exponent, mantissa) = if exponent == 0 { (1, fraction) } else { (exponent, fraction | 1 << 23) };
    let product = mantissa * 1000;
    match exponent {
        // 2^49 is below 10¹⁵.
        177.. => None,
        150.. => Some(product << (exponent - 150)),
        // A product of 34 bits is less than half of this.
        ..=110 => Some(0),
        _ => {
            let shift = 150 - exponent;
            let (whole, rest, half) = (product >> shift, product & ((1 << shift) - 1), 1 << (shift - 1));
            Some(whole + u64::from(rest > half || rest == half && whole & 1 == 1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::String;
    use std::vec::Vec;

    fn written(write: impl FnOnce(&mut Text<'_, Vec<u8>>)) -> String {
        let mut out = Vec::new();
        write(&mut Text(&mut out));
        String::from_utf8(out).expect("text is ASCII")
    }

    fn real(v: f32) -> String {
        written(|t| assert!(t.real(v).is_ok()))
    }

    #[test]
    fn numbers_are_decimal() {
        for n in [0, 7, 10, 4_294_967_296, u64::MAX] {
            assert_eq!(written(|t| assert!(t.number(n).is_ok())), format!("{n}"));
        }
    }

    #[test]
    fn reals_have_three_decimals() {
        for (v, expected) in [
            (0.0, "0.000"),
            (255.0 / 256.0, "0.996"),
            // 62.5 and 187.5 thousandths.
            (0.0625, "0.062"),
            (0.1875, "0.188"),
            (0.9996, "1.000"),
            (12.3456, "12.346"),
            (-0.25, "-0.250"),
            (1e-30, "0.000"),
            (16_777_216.0, "16777216.000"),
            (f32::NAN, "nan"),
            (f32::INFINITY, "inf"),
            (-1e30, "-inf"),
        ] {
            assert_eq!(real(v), expected);
        }
        // All sixteenths of thousands of bit patterns, against another implementation.
        for bits in (0u32..0x5800_0000).step_by(65_521) {
            let v = f32::from_bits(bits);
            assert_eq!(real(v), format!("{v:.3}"), "{bits:#x}");
        }
    }

    #[test]
    fn errors_are_one_line_whatever_was_sent() {
        let line = written(|t| assert!(t.error(Error::Unknown(b"a]\r\n[\xff")).is_ok()));
        assert_eq!(line, "e-[Unknown command: a?????]\r\n");
        let line = written(|t| assert!(t.error(Error::LoadTooLarge { bytes: 491, most: 490 }).is_ok()));
        assert_eq!(line, "e-[An input has 490 bytes, not 491]\r\n");
    }
}
