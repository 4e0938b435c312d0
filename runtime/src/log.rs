//! What a device says of a run, step by step, and how a host reads it: lines of text that go through a serial port, RTT or semihosting.
//!
//! ```text
//! kinglet plan 8c1f04a27e5d3b90 steps 24 clock 80000000 hz
//! kinglet step 0 made 51ab3c9f00e7d214
//! kinglet step 0 took 18402 ticks
//! ```
//!
//! The first line names the plan and the ticks of a second. Whatever stands before `kinglet` in a line, and lines without it, are another's: a time, a level.

use core::fmt;

/// The word that a line begins with.
const MARK: &str = "kinglet ";

/// A line of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Which plan runs. What follows is of its next run.
    Plan {
        /// [`Model::identity`](crate::Model::identity).
        identity: u64,
        /// How many steps it has.
        steps: u32,
        /// Ticks a second of what times are given in; 0 if none are.
        hz: u32,
    },
    /// What a step made, as [`Checksums`](crate::observe::Checksums) has it.
    Made {
        /// The step.
        step: u32,
        /// The checksum.
        checksum: u64,
    },
    /// How long a step took in all its slices.
    Took {
        /// The step.
        step: u32,
        /// Ticks.
        ticks: u64,
    },
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Plan { identity, steps, hz } => write!(f, "{MARK}plan {identity:016x} steps {steps} clock {hz} hz"),
            Line::Made { step, checksum } => write!(f, "{MARK}step {step} made {checksum:016x}"),
            Line::Took { step, ticks } => write!(f, "{MARK}step {step} took {ticks} ticks"),
        }
    }
}

impl Line {
    /// Reads a line; `None` if it is none of a log, or not whole.
    pub fn read(line: &str) -> Option<Line> {
        let mut words = line.split_once(MARK)?.1.split_ascii_whitespace();
        let line = match words.next()? {
            "plan" => {
                let identity = hexadecimal(words.next()?)?;
                let steps = expect(&mut words, "steps")?.next()?.parse().ok()?;
                let hz = expect(&mut words, "clock")?.next()?.parse().ok()?;
                expect(&mut words, "hz")?;
                Line::Plan { identity, steps, hz }
            }
            "step" => {
                let step = words.next()?.parse().ok()?;
                match words.next()? {
                    "made" => Line::Made { step, checksum: hexadecimal(words.next()?)? },
                    "took" => {
                        let ticks = words.next()?.parse().ok()?;
                        // A number that was cut has no unit.
                        expect(&mut words, "ticks")?;
                        Line::Took { step, ticks }
                    }
                    _ => return None,
                }
            }
            _ => return None,
        };
        Some(line)
    }
}

/// All 16 digits: a line that was cut short has fewer.
fn hexadecimal(word: &str) -> Option<u64> {
    u64::from_str_radix(word, 16).ok().filter(|_| word.len() == 16 && !word.starts_with('+'))
}

/// The words behind `word`, which has to come next.
fn expect<'w, 'l, I: Iterator<Item = &'l str>>(words: &'w mut I, word: &str) -> Option<&'w mut I> {
    (words.next()? == word).then_some(words)
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let lines = [
            Line::Plan { identity: 0x8c1f_04a2_7e5d_3b90, steps: 24, hz: 80_000_000 },
            Line::Made { step: 3, checksum: 7 },
            Line::Took { step: u32::MAX, ticks: u64::MAX },
        ];
        for line in lines {
            assert_eq!(Line::read(&line.to_string()), Some(line));
            assert_eq!(Line::read(&std::format!("0.0012 INFO {line}\r")), Some(line));
        }
    }

    #[test]
    fn what_is_not_whole_is_not_read() {
        let plan = Line::Plan { identity: 7, steps: 24, hz: 80_000_000 };
        for line in [plan, Line::Made { step: 3, checksum: 7 }, Line::Took { step: 12, ticks: 18_402 }] {
            let whole = line.to_string();
            for end in 0..whole.len() {
                assert_eq!(Line::read(&whole[..end]), None, "{}", &whole[..end]);
            }
        }
        for other in [
            "",
            "kinglet",
            "kinglet step",
            "kinglet step x took 1",
            "kinglet step 1 took -1",
            "kinglet plan 1 steps 2 clock 3 hz",
            "kinglets",
        ] {
            assert_eq!(Line::read(other), None, "{other}");
        }
    }
}
