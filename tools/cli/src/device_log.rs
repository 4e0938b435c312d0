//! The log of a device ([`kinglet::log`]), read, and compared with what this machine computes.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use kinglet::Model;
use kinglet::log::Line;

use crate::Status;
use crate::describe;
use crate::error::{Error, Result};
use crate::io::{Streams, read_rest};
use crate::terminal::{LONGEST, line};

/// Most bytes of a log.
const MOST_BYTES: u64 = 1 << 28;

/// What a log says of one run: by step, as far as it says so.
#[derive(Clone)]
pub struct LoggedRun {
    /// Ticks of a second; 0 if there are no times.
    pub hz: u32,
    /// Checksums of what steps made.
    pub made: Vec<Option<u64>>,
    /// Ticks that steps took.
    pub took: Vec<Option<u64>>,
}

/// Reads the runs of a plan in a log.
///
/// # Errors
/// Names the file: it cannot be read, has no line of a run, or is of another plan.
pub fn read(path: &Path, model: &Model<'_>) -> Result<Vec<LoggedRun>> {
    let file = File::open(path).map_err(|e| Error::file(path, e))?;
    let bytes = read_rest(path, &[], file, MOST_BYTES)?;
    // Between the lines of a log there is whatever else the port carries.
    let text = String::from_utf8_lossy(&bytes);
    let steps = model.step_count();
    let mut runs: Vec<LoggedRun> = Vec::new();
    for found in text.lines().filter_map(Line::read) {
        let bad = |what: String| Err(Error::file(path, what));
        if let Line::Plan { identity, steps: of, hz } = found {
            if identity != model.identity() || of as usize != steps {
                return bad(format!(
                    "it is of plan {identity:016x} with {of} steps, and the model is plan {:016x} with {steps}: give the very .kgl that the device runs",
                    model.identity()
                ));
            }
            runs.push(LoggedRun { hz, made: vec![None; steps], took: vec![None; steps] });
            continue;
        }
        let Some(run) = runs.last_mut() else {
            return bad("it tells of a step before it tells of which plan: its line `kinglet plan …` is missing".into());
        };
        let (step, slot) = match found {
            Line::Made { step, checksum } => (step, run.made.get_mut(step as usize).map(|s| *s = Some(checksum))),
            Line::Took { step, ticks } => (step, run.took.get_mut(step as usize).map(|s| *s = Some(ticks))),
            Line::Plan { .. } => continue,
        };
        if slot.is_none() {
            return bad(format!("it tells of step {step}, and the plan has {steps} steps"));
        }
    }
    if runs.is_empty() {
        return Err(Error::file(
            path,
            "it has no line of a run: what `kinglet::observe::lines` gives begins with `kinglet plan`",
        ));
    }
    Ok(runs)
}

/// Checksums of runs, on this machine and in the log of a device if there is one.
pub struct Comparison {
    log: Option<Vec<LoggedRun>>,
    /// Runs so far.
    run: usize,
    /// Steps that were the same, and those that the log has no checksum of.
    same: usize,
    missing: usize,
    /// Whether a step differed.
    differs: bool,
}

impl Comparison {
    /// With the log at `path`, or none.
    ///
    /// # Errors
    /// As [`read`], and if the log has no checksums.
    pub fn new(log: Option<&Path>, model: &Model<'_>) -> Result<Comparison> {
        let runs = log.map(|path| read(path, model).map(|runs| (path, runs))).transpose()?;
        if let Some((path, runs)) = &runs
            && runs.iter().flat_map(|run| &run.made).all(Option::is_none)
        {
            return Err(Error::file(path, "it has no checksums: observe the run by `kinglet::observe::Checksums`"));
        }
        Ok(Comparison { log: runs.map(|(_, runs)| runs), run: 0, same: 0, missing: 0, differs: false })
    }

    /// Takes the checksums of the next run: prints them, or says where the device's are others first.
    pub fn take(&mut self, model: &Model<'_>, sums: &[u64], out: &mut dyn Write) -> Result<()> {
        let steps = describe::steps(model, None);
        let run = self.run;
        self.run += 1;
        let Some(log) = &self.log else {
            for of in kinglet::observe::lines(model, 0, sums, &[]) {
                match of {
                    Line::Made { step, .. } => {
                        let info = &steps[step as usize];
                        writeln!(out, "{of} {} {}", info.kind, line(&info.name, LONGEST))?;
                    }
                    _ => writeln!(out, "{of}")?,
                }
            }
            return Ok(());
        };
        let Some(logged) = log.get(run) else { return Ok(()) };
        for (i, (made, &sum)) in logged.made.iter().zip(sums).enumerate() {
            match made {
                Some(made) if *made != sum => {
                    let info = &steps[i];
                    let of = if log.len() > 1 { format!("run {run}: ") } else { String::new() };
                    let float = if info.dtype.starts_with('f') {
                        " (It computes floats, which only kernels in the order of the reference give to the bit.)"
                    } else {
                        ""
                    };
                    writeln!(
                        out,
                        "{of}step {i} is the first that differs: {} {}, made {made:016x} on the device and {sum:016x} here.{float}",
                        info.kind,
                        line(&info.name, LONGEST)
                    )?;
                    self.differs = true;
                    return Ok(());
                }
                Some(_) => self.same += 1,
                None => self.missing += 1,
            }
        }
        Ok(())
    }

    /// Says what came out.
    pub fn end(&self, streams: &mut Streams<'_>) -> Result<Status> {
        let Some(log) = &self.log else { return Ok(Status::Ok) };
        let compared = log.len().min(self.run);
        if log.len() != self.run {
            streams.note(format_args!(
                "the log has {} runs, and the inputs make {}: {compared} are compared",
                log.len(),
                self.run
            ));
        }
        if self.differs {
            return Ok(Status::Failed);
        }
        if self.missing > 0 {
            let (missing, same) = (self.missing, self.same);
            let text = format!(
                "the log has no checksum of {missing} steps: it is not whole (the others, {same}, are the same)"
            );
            return Err(Error::failed(text));
        }
        let plural = if compared == 1 { "" } else { "s" };
        writeln!(
            streams.out,
            "{} steps of {compared} run{plural} have the same checksums on the device and here",
            self.same
        )?;
        Ok(Status::Ok)
    }
}
