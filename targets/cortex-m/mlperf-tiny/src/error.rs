//! What may be wrong with a command, or with a run.

/// What is wrong with a command. It is answered by `e-[…]` and has changed nothing, unless a run failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error<'a> {
    /// The command is longer than [`LONGEST_LINE`](crate::LONGEST_LINE) bytes.
    LineTooLong,
    /// The port has lost bytes of it.
    BytesLost,
    /// No command has this name.
    Unknown(&'a [u8]),
    /// The command belongs to the interface board, which sets the rate of its own port: this one stays as it is.
    Baud,
    /// `db` alone.
    NoSubcommand,
    /// A number is missing.
    NoNumber,
    /// This is no number of 32 bits.
    Number(&'a [u8]),
    /// The command does not take this word.
    Surplus(&'a [u8]),
    /// A load of no bytes.
    EmptyLoad,
    /// More bytes than an input of the benchmark has.
    LoadTooLarge {
        /// Bytes of the load.
        bytes: usize,
        /// Bytes of an input.
        most: usize,
    },
    /// Bytes without `db load` before.
    NoLoad,
    /// Half a byte.
    OddDigits,
    /// This is no hexadecimal digit.
    Digit(u8),
    /// More bytes than `db load` said; none of this command is taken.
    TooManyBytes {
        /// Bytes that are still to come.
        expected: usize,
        /// Bytes of the command.
        bytes: usize,
    },
    /// The input is not complete.
    Incomplete {
        /// Bytes that are there.
        bytes: usize,
        /// Bytes that the benchmark takes.
        of: usize,
    },
    /// `infer` of no runs.
    NoRuns,
    /// Nothing has run on this input.
    NoResults,
    /// A run failed. The results are gone.
    Run(Failure),
}

/// Why a benchmark does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// Buffers, inputs or outputs are not of the benchmark's size.
    Shape,
    /// An error of the runtime, by its number.
    Runtime(u16),
}

impl From<Failure> for Error<'_> {
    fn from(failure: Failure) -> Self {
        Error::Run(failure)
    }
}
