//! A worker of the race: one peer, one model, told by a job file; answers `run N` on its input with N times in nanoseconds.
//!
//! The workers in Python (`workers/` beside this package) do the same. README.md has the protocol.

mod job;
mod kinglet;
mod rten;
#[cfg(feature = "tflitec")]
mod tflitec;
mod tract;

use std::io::{BufRead, Write};
use std::time::Duration;

use job::{Job, Result};

/// A peer with a model and inputs, ready to run.
trait Racer {
    /// Runs once; returns how long the inference alone took, without writing the inputs.
    fn run(&mut self) -> Result<Duration>;

    /// The outputs of the last run as reals or as the integers they are.
    fn outputs(&self) -> Result<Vec<Vec<f32>>>;
}

fn main() {
    if let Err(e) = work() {
        let mut text = e.to_string();
        let mut cause = e.source();
        while let Some(e) = cause {
            text += &format!(": {e}");
            cause = e.source();
        }
        eprintln!("{}", text.replace('\n', " "));
        std::process::exit(1);
    }
}

fn work() -> Result<()> {
    let path = std::env::args().nth(1).ok_or("the argument is a job file")?;
    let job = Job::read(&path)?;
    let mut racer: Box<dyn Racer> = match &job.peer[..] {
        "kinglet" => Box::new(kinglet::Kinglet::new(&job)?),
        "rten" => Box::new(rten::Rten::new(&job)?),
        "tract" => Box::new(tract::Tract::new(&job)?),
        #[cfg(feature = "tflitec")]
        "tflitec" => Box::new(tflitec::TfLite::new(&job)?),
        other => return Err(format!("no peer `{other}` was built").into()),
    };
    racer.run()?;
    job.write(&racer.outputs()?)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready")?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let runs: usize = line.strip_prefix("run ").ok_or("the lines are `run N`")?.parse()?;
        let times = (0..runs).map(|_| Ok(racer.run()?.as_nanos() as u64)).collect::<Result<Vec<_>>>()?;
        writeln!(out, "{times:?}")?;
    }
    Ok(())
}
