//! `kinglet bench`: how long a run takes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use kinglet::{Model, Observer, Quiet};
use kinglet_native::{ModelFile, Open, OwnedSession};
use serde_json::json;

use crate::Status;
use crate::args::{Cost, Dims, Opening, Threads};
use crate::describe;
use crate::error::Result;
use crate::inputs::{random_bytes, write};
use crate::io::Streams;
use crate::model::Source;
use crate::progress::Progress;
use crate::table::{Table, bytes, nanos};
use crate::terminal::{LONGEST, line};

/// Measure how long a run takes
#[derive(clap::Args)]
pub struct Args {
    /// A .kgl, or an .onnx that is compiled in memory
    pub model: PathBuf,
    #[command(flatten)]
    pub repeat: Repeat,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is run how often; `profile` takes the same.
#[derive(clap::Args)]
pub struct Repeat {
    #[command(flatten)]
    pub threads: Threads,
    /// Runs that are measured
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub runs: u32,
    /// Runs before that, to warm up
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub warmup: u32,
    /// Seed of the random inputs
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    opening: Opening,
    #[command(flatten)]
    cost: Cost,
    #[command(flatten)]
    dims: Dims,
}

impl Repeat {
    /// How the model is opened.
    pub fn opening(&self) -> Open {
        self.opening.how()
    }

    /// How an ONNX model is read.
    pub fn dims(&self) -> &Dims {
        &self.dims
    }
}

/// A session with random inputs, ready to be measured.
pub struct Workload {
    /// The session.
    pub session: OwnedSession,
    /// The file as it was opened.
    source: Source,
    /// Time to map and check the model, weights included unless the user has it otherwise; for an `.onnx`, and for what can be
    /// read only once, to check the plan.
    pub load_ns: u64,
    inputs: Vec<Vec<u8>>,
}

impl Workload {
    /// Opens the model.
    pub fn open(model: &Path, repeat: &Repeat, streams: &mut Streams<'_>) -> Result<Workload> {
        let mut source = Source::open(model, repeat.opening.how())?;
        source.check_dims(&repeat.dims, streams)?;
        let ready = source.ready(&repeat.dims.options())?;
        // How often it runs is on the command line.
        repeat.cost.check(model, ready.model().work(), 1)?;
        let again = matches!(source, Source::Kgl(_)) && std::fs::metadata(model).is_ok_and(|m| m.is_file());
        let (file, load_ns) = timed(|| {
            if again {
                return ModelFile::open_with(model, repeat.opening.how()).map(Arc::new);
            }
            Model::load(ready.bytes())?;
            Ok(Arc::clone(&ready))
        });
        let session = OwnedSession::new(file?, repeat.threads.count())?;
        if let Some((target, took)) = session.file().repacked() {
            let took = nanos(took.as_nanos() as f64);
            let target = target.name();
            streams
                .note(format_args!("weights repacked for {target} in {took}: `convert --target {target}` spares that"));
        }
        let inputs = random_bytes(&session.model(), repeat.seed)?;
        Ok(Workload { session, source, load_ns, inputs })
    }

    /// The files that the model lies in.
    pub fn files(&self, model: &Path) -> Vec<PathBuf> {
        self.source.files(model)
    }

    /// Writes the inputs and runs once; returns how long the run alone took.
    pub fn run(&mut self, observer: &mut impl Observer) -> Result<u64> {
        for (i, bytes) in self.inputs.iter().enumerate() {
            write(&mut self.session, i, bytes)?;
        }
        let session = &mut self.session;
        let (result, ns) = timed(|| session.run_observed(observer));
        result?;
        Ok(ns)
    }
}

fn timed<T>(f: impl FnOnce() -> T) -> (T, u64) {
    let start = Instant::now();
    let result = f();
    (result, start.elapsed().as_nanos() as u64)
}

/// Runs the command.
pub fn run(args: &Args, streams: &mut Streams<'_>) -> Result<Status> {
    let mut work = Workload::open(&args.model, &args.repeat, streams)?;
    for _ in 0..args.repeat.warmup {
        work.run(&mut Quiet)?;
    }
    let progress = Progress::bar(args.repeat.runs.into(), "runs");
    let mut times = Vec::with_capacity(args.repeat.runs as usize);
    for _ in 0..args.repeat.runs {
        times.push(work.run(&mut Quiet)?);
        progress.tick();
    }
    drop(progress);
    times.sort_unstable();
    let model = work.session.model();
    let (median, p10, p90) = (percentile(&times, 50), percentile(&times, 10), percentile(&times, 90));
    let (arena, weights, threads) =
        (work.session.arena_bytes(), work.session.file().model().weights().len(), work.session.threads());
    if args.json {
        let report = json!({
            "model": args.model.display().to_string(), "median_ns": median, "p10_ns": p10, "p90_ns": p90,
            "min_ns": times[0], "runs": times.len(), "threads": threads, "arena_bytes": arena,
            "weights_bytes": weights, "load_ns": work.load_ns, "macs": describe::macs(&model),
        });
        writeln!(streams.out, "{report:#}")?;
        return Ok(Status::Ok);
    }
    let time = |ns: u64| nanos(ns as f64);
    let mut table = Table::new(&["", ""]);
    let mut row = |name: &str, value: String| table.row([name.to_string(), value]);
    let speed = describe::macs(&model) as f64 / median.max(1) as f64;
    row("median", format!("{} ({speed:.2} GMAC/s)", time(median)));
    row("10 % to 90 %", format!("{} to {}", time(p10), time(p90)));
    row("fastest", time(times[0]));
    row("runs", format!("{} on {threads} thread{}", times.len(), if threads == 1 { "" } else { "s" }));
    row("load", time(work.load_ns));
    row("arena", bytes(arena as u64));
    row("weights", bytes(weights as u64));
    writeln!(streams.out, "{}", line(&args.model.display().to_string(), LONGEST))?;
    table.print(streams.out)?;
    Ok(Status::Ok)
}

/// The value that `percent` of the sorted values do not exceed.
pub fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_measured_values() {
        let v: Vec<u64> = (1..=10).collect();
        assert_eq!((percentile(&v, 10), percentile(&v, 50), percentile(&v, 90), percentile(&v, 100)), (1, 5, 9, 10));
        assert_eq!((percentile(&[7], 10), percentile(&[7], 90)), (7, 7));
    }
}
