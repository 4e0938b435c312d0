//! `kinglet profile`: where the time of a run goes.

use std::cmp::Reverse;
use std::hint::black_box;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use kinglet::kernels::Unit;
use kinglet::session::ArenaView;
use kinglet::{Clock, Kernels, Observer, Quiet};
use kinglet_native::Nanos;
use serde_json::{Value, json};

use super::bench::{Repeat, Workload, percentile};
use crate::Status;
use crate::atomic_write::Output;
use crate::describe::{self, StepInfo};
use crate::device_log;
use crate::error::{Error, Result};
use crate::io::Streams;
use crate::memory::room;
use crate::model::Source;
use crate::progress::Progress;
use crate::table::{Table, grouped, nanos, shape};
use crate::terminal::{LONGEST, line};

/// Measure the time each step takes
#[derive(clap::Args)]
pub struct Args {
    /// A .kgl, or an .onnx that is compiled in memory
    model: PathBuf,
    #[command(flatten)]
    repeat: Repeat,
    /// Slowest steps first, instead of the order they run in
    #[arg(long)]
    sort: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write the last run as a trace for Chrome's about:tracing or Perfetto
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Take the times from the log of a device that runs the same .kgl, and run nothing here
    #[arg(long, value_name = "LOG", conflicts_with_all = ["threads", "runs", "warmup", "seed"])]
    from_log: Option<PathBuf>,
}

/// Start and length of every step of the last run, and the lengths of all runs by step.
struct Recorder {
    clock: Nanos,
    spans: Vec<(u64, u64)>,
    lengths: Vec<Vec<u64>>,
    /// When the step that runs began.
    began: u64,
}

impl Recorder {
    fn new(steps: usize, runs: usize) -> Result<Self> {
        // Room for everything, so that nothing is allocated between two steps.
        let lengths = (0..steps).map(|_| room(runs)).collect::<std::result::Result<_, _>>().map_err(Error::failed)?;
        Ok(Recorder { clock: Nanos::new(), spans: vec![(0, 0); steps], lengths, began: 0 })
    }

    /// Begins another run.
    fn begin_run(&mut self) {
        self.spans.fill((0, 0));
    }

    /// Ends a run.
    fn end_run(&mut self) {
        for (lengths, span) in self.lengths.iter_mut().zip(&self.spans) {
            lengths.push(span.1);
        }
    }

    /// Median time of each step.
    fn medians(mut self) -> Vec<u64> {
        self.lengths.iter_mut().map(|v| median(v)).collect()
    }
}

impl Observer for Recorder {
    fn before(&mut self, _: usize) -> ControlFlow<()> {
        self.began = self.clock.ticks();
        ControlFlow::Continue(())
    }

    fn after(&mut self, step: usize, _: &ArenaView<'_>) {
        let length = self.clock.ticks() - self.began;
        let span = &mut self.spans[step];
        // The step of a loop's body is executed once a trip: its span begins with the first and is as long as all of them.
        if span.1 == 0 {
            span.0 = self.began;
        }
        span.1 += length;
    }
}

/// Runs the command.
pub fn run(args: &Args, streams: &mut Streams<'_>) -> Result<Status> {
    if let Some(log) = &args.from_log {
        return from_log(args, log, streams);
    }
    let mut work = Workload::open(&args.model, &args.repeat, streams)?;
    let file = args.trace.as_deref().map(|path| Output::new(path, || work.files(&args.model))).transpose()?;
    let steps = describe::steps(&work.session.model(), Some(kinglet_native::best_kernels()));
    for _ in 0..args.repeat.warmup {
        work.run(&mut Quiet)?;
    }
    let mut recorder = Recorder::new(steps.len(), args.repeat.runs as usize)?;
    let progress = Progress::bar(args.repeat.runs.into(), "runs");
    let mut runs = Vec::new();
    for _ in 0..args.repeat.runs {
        recorder.begin_run();
        runs.push(work.run(&mut recorder)?);
        recorder.end_run();
        progress.tick();
    }
    drop(progress);
    if let Some(file) = &file {
        let trace = trace(&steps, &recorder.spans);
        file.write(|sink| write!(sink, "{trace}"))?;
    }
    runs.sort_unstable();
    let threads = work.session.threads();
    let peaks = Peaks::measured(kinglet_native::best_kernels(), threads);
    let profile =
        Profile::new(args, steps, &recorder.medians(), percentile(&runs, 50), (runs.len(), threads), Some(peaks));
    profile.show(streams.out)
}

/// Takes the times of a device's runs.
fn from_log(args: &Args, log: &Path, streams: &mut Streams<'_>) -> Result<Status> {
    let mut source = Source::open(&args.model, args.repeat.opening())?;
    source.check_dims(args.repeat.dims(), streams)?;
    let files = || source.files(&args.model).into_iter().chain([log.to_path_buf()]).collect();
    let file = args.trace.as_deref().map(|path| Output::new(path, files)).transpose()?;
    let ready = source.ready(&args.repeat.dims().options())?;
    let model = ready.model();
    let steps = describe::steps(&model, None);
    let mut runs = Vec::new();
    for run in device_log::read(log, &model)? {
        if run.took.iter().all(Option::is_none) {
            continue;
        }
        let Some(times) = run.took.iter().map(|&ticks| nanos_of(ticks?, run.hz)).collect::<Option<Vec<u64>>>() else {
            let reason = match run.hz {
                0 => "does not say how fast its clock is",
                _ if run.took.iter().any(Option::is_none) => "has no time of some steps: it is not whole",
                _ => "has times of years: it is damaged",
            };
            return Err(Error::file(log, format!("run {} {reason}", runs.len())));
        };
        runs.push(times);
    }
    let Some(last) = runs.last() else {
        return Err(Error::file(log, "it has no times: observe the run by `kinglet::Profile`"));
    };
    if let Some(file) = &file {
        let mut end = 0;
        let span = |&ns: &u64| {
            end += ns;
            (end - ns, ns)
        };
        let trace = trace(&steps, &last.iter().map(span).collect::<Vec<_>>());
        file.write(|sink| write!(sink, "{trace}"))?;
    }
    let times: Vec<u64> =
        (0..steps.len()).map(|i| median(&mut runs.iter().map(|run| run[i]).collect::<Vec<_>>())).collect();
    let run_ns = median(&mut runs.iter().map(|run| run.iter().sum()).collect::<Vec<_>>());
    Profile::new(args, steps, &times, run_ns, (runs.len(), 1), None).show(streams.out)
}

/// Nanoseconds in so many ticks of a clock; `None` if nobody knows how fast it is.
fn nanos_of(ticks: u64, hz: u32) -> Option<u64> {
    let ns = (u128::from(ticks) * 1_000_000_000).checked_div(hz.into())?;
    // Times add up.
    u64::try_from(ns).ok().filter(|&ns| ns < 1 << 56)
}

fn median(v: &mut [u64]) -> u64 {
    v.sort_unstable();
    percentile(v, 50)
}

/// The spans of one run in the Trace Event Format: one complete event a step, times in microseconds.
fn trace(steps: &[StepInfo], spans: &[(u64, u64)]) -> Value {
    let zero = spans.first().map_or(0, |s| s.0);
    let event = |(step, span): (&StepInfo, &(u64, u64))| {
        json!({
            "name": step.name, "cat": step.kind, "ph": "X", "pid": 1, "tid": 1,
            "ts": (span.0 - zero) as f64 / 1e3, "dur": span.1 as f64 / 1e3, "args": step.json(),
        })
    };
    let events: Vec<Value> = steps.iter().zip(spans).map(event).collect();
    json!({ "traceEvents": events, "displayTimeUnit": "ns" })
}

/// What this machine reaches, by a short probe: what the speed of a step is a share of.
#[derive(Clone, Copy)]
struct Peaks {
    /// Products of floats a nanosecond, of all threads; 0 if it is not known.
    floats: f64,
    /// Products of halves, likewise.
    halves: f64,
    /// Products of bytes, likewise.
    bytes: f64,
    /// Bytes a nanosecond that one thread reads from memory.
    memory: f64,
}

impl Peaks {
    fn measured(kernels: &dyn Kernels, threads: usize) -> Peaks {
        let unit = |unit| threads as f64 * fastest(|| kernels.probe(unit, 50_000));
        // Larger than the caches of most machines.
        let block = vec![1u64; 8 << 20];
        let memory = fastest(|| {
            black_box(block.iter().fold(0u64, |sum, v| sum.wrapping_add(*v)));
            8 * block.len() as u64
        });
        Peaks { floats: unit(Unit::Floats), halves: unit(Unit::Halves), bytes: unit(Unit::Bytes), memory }
    }

    /// The share of the peak of its unit that a step reaches, and of the memory's bandwidth, which caches may exceed. Both are
    /// `None` where they mean nothing.
    fn shares(&self, step: &StepInfo, ns: u64) -> [Option<f64>; 2] {
        let peak = match step.unit {
            Some(Unit::Floats) => self.floats,
            Some(Unit::Halves) => self.halves,
            Some(Unit::Bytes) => self.bytes,
            None => 0.0,
        };
        let share = |work: u64, peak: f64| (work > 0 && peak > 0.0).then(|| work as f64 / ns.max(1) as f64 / peak);
        [share(step.macs, peak), share(step.traffic, self.memory)]
    }
}

/// What of its own count `f` does a nanosecond, the fastest of a few times.
fn fastest(mut f: impl FnMut() -> u64) -> f64 {
    let clock = Nanos::new();
    let once = |_| {
        let start = clock.ticks();
        let done = f();
        done as f64 / (clock.ticks() - start).max(1) as f64
    };
    (0..5).map(once).fold(0.0, f64::max)
}

/// Times are medians, which a hiccup of the machine does not move.
struct Profile<'a> {
    args: &'a Args,
    threads: usize,
    /// Time of a run.
    run_ns: u64,
    /// Steps with their number and time.
    rows: Vec<(usize, StepInfo, u64)>,
    /// Time of all steps together.
    steps_ns: u64,
    /// How many runs there were.
    runs: usize,
    /// What the machine reaches; nothing is known of a device's.
    peaks: Option<Peaks>,
}

impl Profile<'_> {
    fn new<'a>(
        args: &'a Args,
        steps: Vec<StepInfo>,
        times: &[u64],
        run_ns: u64,
        (runs, threads): (usize, usize),
        peaks: Option<Peaks>,
    ) -> Profile<'a> {
        let mut rows: Vec<_> = steps.into_iter().zip(times).enumerate().map(|(i, (s, &ns))| (i, s, ns)).collect();
        if args.sort {
            rows.sort_by_key(|&(i, _, ns)| (Reverse(ns), i));
        }
        Profile { args, threads, run_ns, rows, steps_ns: times.iter().sum(), runs, peaks }
    }

    fn show(&self, out: &mut dyn Write) -> Result<Status> {
        if self.args.json {
            writeln!(out, "{:#}", self.json())?
        } else {
            self.print(out)?
        }
        Ok(Status::Ok)
    }

    /// [`Peaks::shares`], as far as peaks are known.
    fn shares(&self, step: &StepInfo, ns: u64) -> [Option<f64>; 2] {
        self.peaks.map_or([None; 2], |peaks| peaks.shares(step, ns))
    }

    fn share(&self, ns: u64) -> f64 {
        ns as f64 / self.steps_ns.max(1) as f64
    }

    fn json(&self) -> Value {
        let steps: Vec<Value> = self
            .rows
            .iter()
            .map(|(i, step, ns)| {
                let mut value = step.json();
                value["index"] = json!(i);
                value["ns"] = json!(ns);
                value["share"] = json!(self.share(*ns));
                value["gmac_per_s"] = json!(speed(step.macs, *ns));
                let [peak, memory] = self.shares(step, *ns);
                value["share_of_peak"] = json!(peak);
                value["share_of_memory"] = json!(memory);
                value
            })
            .collect();
        let peak = |of: fn(Peaks) -> f64| self.peaks.map(of);
        json!({
            "model": self.args.model.display().to_string(), "runs": self.runs, "threads": self.threads,
            "run_ns": self.run_ns, "steps_ns": self.steps_ns, "steps": steps,
            "peak_f32_gmac_per_s": peak(|p| p.floats), "peak_f16_gmac_per_s": peak(|p| p.halves),
            "peak_i8_gmac_per_s": peak(|p| p.bytes),
            "memory_gb_per_s": peak(|p| p.memory),
        })
    }

    fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let mut table = Table::new(&[
            ">#",
            "<name",
            "kind",
            "dtype",
            "kernel",
            "output",
            ">MACs",
            ">time",
            ">share",
            ">GMAC/s",
            ">of peak",
            ">of memory",
        ]);
        for (i, s, ns) in &self.rows {
            let text = |s: &str| s.to_string();
            let speed = if s.macs == 0 { "-".into() } else { format!("{:.2}", speed(s.macs, *ns)) };
            let (time, share) = (nanos(*ns as f64), format!("{:.1} %", 100.0 * self.share(*ns)));
            let (dims, macs) = (shape(&s.shape), grouped(s.macs));
            let (name, kind, dtype, kernel) = (s.title(), text(s.kind), text(s.dtype), text(s.kernel));
            let percent = |v: Option<f64>| v.map_or("-".into(), |v| format!("{:.0} %", 100.0 * v));
            let [peak, memory] = self.shares(s, *ns).map(percent);
            table.row([i.to_string(), name, kind, dtype, kernel, dims, macs, time, share, speed, peak, memory]);
        }
        let (run, runs) = (nanos(self.run_ns as f64), self.runs);
        let plural = if self.threads == 1 { "" } else { "s" };
        let model = self.args.model.display().to_string();
        let model = line(&model, LONGEST);
        writeln!(out, "{model}: {run} a run, median of {runs} on {} thread{plural}", self.threads)?;
        table.print(out)?;
        let Some(Peaks { floats, halves, bytes, memory }) = self.peaks else { return Ok(()) };
        let reaches = |v: f64| if v > 0.0 { format!("{v:.0} GMAC/s") } else { "not known".into() };
        writeln!(
            out,
            "peak, by a short probe: f32 {}, f16 {}, 8 bits {}; memory {memory:.0} GB/s, which caches exceed",
            reaches(floats),
            reaches(halves),
            reaches(bytes)
        )
    }
}

/// Multiply-accumulates a nanosecond, which are GMAC/s.
fn speed(macs: u64, ns: u64) -> f64 {
    macs as f64 / ns.max(1) as f64
}
