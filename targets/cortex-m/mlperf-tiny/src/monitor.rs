//! The state behind the protocol.

use embedded_io::Write;

use crate::benchmark::Benchmark;
use crate::command::{self, Command, parse};
use crate::error::Error;
use crate::line::Line;
use crate::text::{Port, Text};

/// What the runner knows this protocol by.
const PROFILE: &str = "ULPMark for tinyML Firmware V0.0.1";

const HELP: &str = "\
name              who this is\r
timestamp         microseconds since the start\r
profile           the protocol and the model\r
db load N         an input of N bytes follows\r
db HEX            its next bytes, two digits each\r
db print [N] [AT] its bytes that have come, N from AT on\r
infer [N] [W]     N runs after W that do not count\r
results           what the last run gave\r
";

/// Bytes in a line of `db print`.
const BYTES_A_LINE: usize = 8;

/// A clock.
pub trait Clock {
    /// Microseconds since the start. The monitor asks after every run, too, so that a clock that counts the turns of a small counter sees
    /// every turn.
    fn microseconds(&mut self) -> u64;
}

/// Takes commands byte by byte and answers them.
#[derive(Debug)]
pub struct Monitor<C, B> {
    line: Line,
    state: State<C, B>,
}

#[derive(Debug)]
struct State<C, B> {
    clock: C,
    benchmark: B,
    /// Bytes that `db load` said, and those that have come.
    expected: usize,
    loaded: usize,
    /// Whether something has run on this input.
    ran: bool,
}

/// Why a command ends early.
enum Stop<'a, E> {
    Port(E),
    Error(Error<'a>),
}

impl<E> From<Port<E>> for Stop<'_, E> {
    fn from(error: Port<E>) -> Self {
        Stop::Port(error.0)
    }
}

impl<'a, E> From<Error<'a>> for Stop<'a, E> {
    fn from(error: Error<'a>) -> Self {
        Stop::Error(error)
    }
}

impl<C: Clock, B: Benchmark> Monitor<C, B> {
    /// For a benchmark.
    pub fn new(clock: C, benchmark: B) -> Monitor<C, B> {
        let state = State { clock, benchmark, expected: 0, loaded: 0, ran: false };
        Monitor { line: Line::new(), state }
    }

    /// Says that the device is there: what the runner waits for after a reset.
    ///
    /// # Errors
    /// The port's.
    pub fn start<W: Write>(&mut self, port: &mut W) -> Result<(), W::Error> {
        let text = &mut Text(port);
        let said = text.line("m-timestamp-mode-performance").and_then(|()| self.state.timestamp(text));
        said.and_then(|()| text.line("m-init-done")).and_then(|()| ready(text)).map_err(|e| e.0)
    }

    /// Takes a byte, and where it ends a command answers it.
    ///
    /// # Errors
    /// The port's.
    pub fn receive<W: Write>(&mut self, byte: u8, port: &mut W) -> Result<(), W::Error> {
        if !self.line.push(byte) {
            return Ok(());
        }
        let text = &mut Text(port);
        let done = self.line.get().and_then(parse).map_err(Stop::from).and_then(|c| self.state.answer(c, text));
        let said = match done {
            Ok(()) => ready(text),
            Err(Stop::Error(error)) => text.error(error).and_then(|()| ready(text)),
            Err(Stop::Port(error)) => Err(Port(error)),
        };
        self.line.clear();
        said.map_err(|e| e.0)
    }

    /// The port has lost bytes: the command that is coming will be answered by an error.
    pub fn lose(&mut self) {
        self.line.lose();
    }
}

/// Ends an answer.
fn ready<W: Write>(text: &mut Text<'_, W>) -> Result<(), Port<W::Error>> {
    text.line("m-ready")?;
    text.0.flush().map_err(Port)
}

impl<C: Clock, B: Benchmark> State<C, B> {
    fn answer<'a, W: Write>(&mut self, command: Command<'a>, text: &mut Text<'_, W>) -> Result<(), Stop<'a, W::Error>> {
        match command {
            Command::Nothing => {}
            Command::Name => text.line("m-name-dut-[kinglet]")?,
            Command::Timestamp => self.timestamp(text)?,
            Command::Profile => {
                text.str("m-profile-[")?.str(PROFILE)?.line("]")?;
                text.str("m-model-[")?.str(self.benchmark.model())?.line("]")?;
            }
            Command::Help => text.line(PROFILE).and_then(|()| text.str(HELP).map(|_| ()))?,
            Command::Load(bytes) => {
                let (bytes, most) = (bytes as usize, self.benchmark.input().len());
                if bytes > most {
                    return Err(Error::LoadTooLarge { bytes, most }.into());
                }
                (self.expected, self.loaded, self.ran) = (bytes, 0, false);
                text.str("m-[Expecting ")?.number(bytes as u64)?.line(" bytes]")?;
            }
            Command::Bytes(digits) => {
                self.take(digits)?;
                if self.loaded == self.expected {
                    text.line("m-load-done")?;
                }
            }
            Command::Print { count, at } => self.print(count, at, text)?,
            Command::Infer { runs, warmups } => self.infer(runs, warmups, text)?,
            Command::Results => self.results(text)?,
        }
        Ok(())
    }

    fn timestamp<W: Write>(&mut self, text: &mut Text<'_, W>) -> Result<(), Port<W::Error>> {
        text.numbered("m-lap-us-", self.clock.microseconds())
    }

    /// Takes the next bytes of the input.
    fn take(&mut self, digits: &[u8]) -> Result<(), Error<'static>> {
        if self.expected == 0 {
            return Err(Error::NoLoad);
        }
        let (bytes, expected) = (digits.len() / 2, self.expected - self.loaded);
        let to = self.benchmark.input().get_mut(self.loaded..self.loaded + bytes).filter(|_| bytes <= expected);
        let to = to.ok_or(Error::TooManyBytes { expected, bytes })?;
        for (to, byte) in to.iter_mut().zip(command::bytes(digits)) {
            *to = byte?;
        }
        self.loaded += bytes;
        Ok(())
    }

    fn print<W: Write>(&mut self, count: Option<u32>, at: u32, text: &mut Text<'_, W>) -> Result<(), Port<W::Error>> {
        let bytes = self.benchmark.input().get(..self.loaded).and_then(|b| b.get(at as usize..)).unwrap_or(&[]);
        let count = count.map_or(bytes.len(), |n| bytes.len().min(n as usize));
        for line in bytes.get(..count).unwrap_or(&[]).chunks(BYTES_A_LINE) {
            text.str("m-buffer")?;
            line.iter().try_for_each(|&byte| text.str("-")?.hex(byte).map(|_| ()))?;
            text.end()?;
        }
        Ok(())
    }

    fn infer<W: Write>(
        &mut self,
        runs: u32,
        warmups: u32,
        text: &mut Text<'_, W>,
    ) -> Result<(), Stop<'static, W::Error>> {
        let of = self.benchmark.input().len();
        if self.loaded != of {
            return Err(Error::Incomplete { bytes: self.loaded, of }.into());
        }
        self.ran = false;
        self.benchmark.prepare().map_err(Error::from)?;
        text.numbered("m-warmup-start-", warmups.into())?;
        self.runs(warmups)?;
        text.line("m-warmup-done")?;
        text.numbered("m-infer-start-", runs.into())?;
        self.timestamp(text)?;
        self.runs(runs)?;
        self.timestamp(text)?;
        text.line("m-infer-done")?;
        self.ran = true;
        self.results(text)
    }

    fn runs(&mut self, n: u32) -> Result<(), Error<'static>> {
        for _ in 0..n {
            self.benchmark.run()?;
            self.clock.microseconds();
        }
        Ok(())
    }

    fn results<W: Write>(&mut self, text: &mut Text<'_, W>) -> Result<(), Stop<'static, W::Error>> {
        if !self.ran {
            return Err(Error::NoResults.into());
        }
        // Before the line begins: an error has a line of its own.
        let mut next = self.benchmark.result(0).map_err(Error::from)?;
        text.str("m-results-[")?;
        for i in 1.. {
            let Some(result) = next else { break };
            text.real(result)?;
            next = self.benchmark.result(i).ok().flatten();
            text.str(if next.is_some() { "," } else { "" })?;
        }
        text.line("]")?;
        Ok(())
    }
}

#[cfg(test)]
#[path = "monitor_tests.rs"]
mod tests;
