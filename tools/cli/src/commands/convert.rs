//! `kinglet convert`: an ONNX file becomes a `.kgl`.

use std::io::Write;
use std::path::PathBuf;

use kinglet::{DType, Target};
use kinglet_compiler::{Options, Report, StepReport};
use serde_json::{Value, json};

use crate::Status;
use crate::args::{Dims, named_file, size_in_bytes};
use crate::atomic_write::Output;
use crate::error::Result;
use crate::io::Streams;
use crate::model::Onnx;
use crate::table::{Table, bytes, grouped};
use crate::terminal::{LONGEST, line};

/// Compile an ONNX model into a .kgl file
#[derive(clap::Args)]
pub struct Args {
    /// The ONNX model
    #[arg(value_name = "IN.onnx")]
    model: PathBuf,
    /// The file to write; it must be none that is read
    #[arg(short, long, value_name = "OUT.kgl")]
    output: PathBuf,
    /// What to compile for: a target, or `native` for this machine
    #[arg(long, value_name = "NAME", default_value_t = Target::default().name().to_string(), value_parser = target)]
    target: String,
    #[command(flatten)]
    dims: Dims,
    /// Make an input a constant with the value in a file (.npy or .pb), so that the plan has no such input: for shapes and parameters that
    /// depend on it; may be given several times
    #[arg(long = "bind", value_name = "NAME=FILE", value_parser = named_file)]
    bind: Vec<(String, PathBuf)>,
    /// What inputs and outputs are that the model quantises first and dequantises last
    #[arg(long, value_enum, default_value_t = Ports::Float)]
    io: Ports,
    /// RAM that weights are to be copied to before a run: those that are read the most often lie in front of the others, and what they save is said
    #[arg(long, value_name = "BYTES", value_parser = size_in_bytes)]
    hot_weights: Option<usize>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// What quantised inputs and outputs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Ports {
    /// Reals, as the model has them
    Float,
    /// The quantised tensors: no float buffers, and their scales in `inspect`
    Quantized,
}

/// The name of the target that suits this machine.
const NATIVE: &str = "native";

fn target(name: &str) -> std::result::Result<String, String> {
    if name == NATIVE {
        return Ok(kinglet_native::host_target().name().into());
    }
    if Target::from_name(name).is_some() {
        return Ok(name.to_string());
    }
    let known: Vec<&str> = Target::ALL.iter().map(|t| t.name()).collect();
    Err(format!("known targets are {}, and `{NATIVE}` for this machine", known.join(", ")))
}

/// Runs the command.
pub fn run(args: &Args, streams: &mut Streams<'_>) -> Result<Status> {
    let mut onnx = Onnx::open(&args.model)?;
    onnx.check_dims(&args.dims, streams)?;
    let target = Target::from_name(&args.target).unwrap_or_default();
    let bind = crate::inputs::bound(&args.bind, onnx.inputs(), streams)?;
    let read = || onnx.files().into_iter().chain(args.bind.iter().map(|(_, path)| path.clone())).collect();
    let file = Output::new(&args.output, read)?;
    let quantized_io = args.io == Ports::Quantized;
    let hot_weights = args.hot_weights.unwrap_or(0);
    let mut options = args.dims.options_for(target);
    options.shapes.extend(bind.iter().map(|(name, value)| (name.clone(), value.shape.clone())));
    let compiled = onnx.compile(&Options { quantized_io, hot_weights, bind, ..options })?;
    file.write(|sink| sink.write_all(&compiled.kgl))?;
    if quantized_io {
        let graph = &compiled.graph;
        let float = |t: &usize| graph.tensors[*t].dtype == DType::F32;
        for &t in graph.inputs.iter().filter(|t| float(t)) {
            let name = line(&graph.tensors[t].name, LONGEST);
            streams.note(format_args!("input `{name}` stays f32: the model does not quantise it first, by one scale"));
        }
        for (name, _) in graph.output_names.iter().zip(&graph.outputs).filter(|(_, t)| float(t)) {
            let name = line(name, LONGEST);
            streams
                .note(format_args!("output `{name}` stays f32: the model does not dequantise it last, by one scale"));
        }
    }
    for name in &compiled.report.bound_inputs {
        streams.note(format_args!(
            "input `{name}` must be constant here: it is bound to its default, and no input of the plan"
        ));
    }
    let graph = &compiled.graph;
    for (name, declared) in &compiled.report.retyped {
        let outputs = graph.output_names.iter().zip(&graph.outputs).map(|(n, &t)| (n, t));
        let ports = graph.inputs.iter().map(|&t| (&graph.tensors[t].name, t)).chain(outputs);
        if let Some((_, t)) = ports.into_iter().find(|(n, _)| *n == name) {
            let (name, dtype) = (line(name, LONGEST), graph.tensors[t].dtype.name());
            streams.note(format_args!(
                "`{name}` is {declared} in the model and {dtype} in the plan, which computes with that"
            ));
        }
    }
    let summary = Summary { args, target, report: &compiled.report, file_bytes: compiled.kgl.len() };
    if args.json {
        writeln!(streams.out, "{:#}", summary.json())?
    } else {
        summary.print(streams.out)?
    }
    Ok(Status::Ok)
}

struct Summary<'a> {
    args: &'a Args,
    target: Target,
    report: &'a Report,
    file_bytes: usize,
}

impl Summary<'_> {
    fn ratio(&self) -> f64 {
        (self.report.arena_bytes - self.report.scratch_bytes) as f64 / self.report.lower_bound_bytes.max(1) as f64
    }

    /// The share of a run's reads of weights that go to the hot ones.
    fn hot_share(&self) -> f64 {
        self.report.hot.reads as f64 / self.report.hot.all_reads.max(1) as f64
    }

    /// Recurrences that leave out roundings of the file.
    fn without_roundings(&self) -> impl Iterator<Item = &StepReport> {
        self.report.steps.iter().filter(|s| s.roundings > 0)
    }

    fn json(&self) -> Value {
        let r = self.report;
        let float: Vec<Value> =
            r.float_steps.iter().map(|s| json!({ "name": s.name, "kind": s.kind, "reason": s.reason })).collect();
        let roundings: Vec<Value> = self
            .without_roundings()
            .map(|s| json!({ "name": s.name, "kind": s.kind, "roundings": s.roundings }))
            .collect();
        json!({
            "model": self.args.model.display().to_string(),
            "output": self.args.output.display().to_string(),
            "target": self.target.name(),
            "onnx_nodes": r.onnx_nodes,
            "steps": r.steps.len(),
            "integer_steps": r.integer_steps,
            "float_steps": float,
            "roundings_left_out": roundings,
            "weights_bytes": r.weights_bytes,
            "arena_bytes": r.arena_bytes,
            "hot_bytes": r.hot.bytes,
            "hot_share": self.hot_share(),
            "slow_bytes": r.slow_bytes,
            "slow_traffic_bytes": r.slow_traffic_bytes,
            "scratch_bytes": r.scratch_bytes,
            "lower_bound_bytes": r.lower_bound_bytes,
            "arena_ratio": self.ratio(),
            "macs": r.macs,
            "dead_channels": {
                "channels": r.dropped.channels,
                "of_channels": r.dropped.of_channels,
                "products": r.dropped.products,
                "macs_before": r.macs + r.dropped.macs,
                "weights_before": r.dropped.weights_before,
                "weights_after": r.dropped.weights_after,
            },
            "bound_inputs": r.bound_inputs,
            "retyped": r.retyped.iter().map(|(name, declared)| json!({ "name": name, "declared": declared })).collect::<Vec<_>>(),
            "file_bytes": self.file_bytes,
            "budget_spent": r.budget_spent,
            "budget_refused": r.budget_refused,
        })
    }

    fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let r = self.report;
        if r.budget_refused > 0 {
            let n = r.budget_refused;
            writeln!(
                out,
                "{n} nodes are left to the runtime that could have been folded: the budget of a compilation is spent"
            )?;
        }
        if !r.float_steps.is_empty() {
            writeln!(out, "steps in float, and why:")?;
            // One line for each reason and kind: a float model has hundreds of steps and one reason.
            let mut groups: Vec<(&str, &str, Vec<&str>)> = Vec::new();
            for s in &r.float_steps {
                match groups.iter_mut().find(|(reason, kind, _)| *reason == s.reason && *kind == s.kind) {
                    Some((.., names)) => names.push(&s.name),
                    None => groups.push((&s.reason, &s.kind, vec![&s.name])),
                }
            }
            let mut table = Table::new(&[">steps", "kind", "reason", "<first"]);
            for (reason, kind, names) in groups {
                table.row([names.len().to_string(), kind.into(), reason.into(), names[0].into()]);
            }
            table.print(out)?;
        }
        if self.without_roundings().next().is_some() {
            writeln!(out, "recurrences that leave out roundings of the file (--keep-loops keeps those of loops):")?;
            let mut table = Table::new(&[">roundings", "kind", "<step"]);
            for s in self.without_roundings() {
                table.row([s.roundings.to_string(), s.kind.clone(), s.name.clone()]);
            }
            table.print(out)?;
        }
        let d = r.dropped;
        if d.products > 0 {
            writeln!(
                out,
                "dead channels: {} of {} channels in {} {}, {} to {} MACs, {} to {} bytes of weights",
                grouped(d.channels as u64),
                grouped(d.of_channels as u64),
                grouped(d.products as u64),
                if d.products == 1 { "product" } else { "products" },
                grouped(r.macs + d.macs),
                grouped(r.macs),
                grouped(d.weights_before),
                grouped(d.weights_after),
            )?;
        }
        let mut table = Table::new(&["", ""]);
        let mut row = |name: &str, value: String| table.row([name.to_string(), value]);
        row("target", self.target.name().to_string());
        row("steps", format!("{}, from {} ONNX nodes", r.steps.len(), r.onnx_nodes));
        row("steps in integer", r.integer_steps.to_string());
        row("steps in float", r.float_steps.len().to_string());
        row("weights", bytes(r.weights_bytes as u64));
        if self.args.hot_weights.is_some() {
            let share = 100.0 * self.hot_share();
            row(
                "hot weights",
                format!("{}, which {share:.1} % of the reads of weights go to", bytes(r.hot.bytes as u64)),
            );
        }
        let bound = bytes(r.lower_bound_bytes as u64);
        let [arena, tensors, scratch] =
            [r.arena_bytes, r.arena_bytes - r.scratch_bytes, r.scratch_bytes].map(|n| bytes(n as u64));
        let ratio = self.ratio();
        row("arena", format!("{arena}: tensors {tensors}, {ratio:.3} x the lower bound of {bound}; scratch {scratch}"));
        if r.slow_bytes > 0 {
            let [slow, traffic] = [r.slow_bytes as u64, r.slow_traffic_bytes].map(bytes);
            row("slow memory", format!("{slow}; a run reads and writes {traffic} of it"));
        }
        row("MACs", grouped(r.macs));
        row("file size", bytes(self.file_bytes as u64));
        writeln!(out, "{}", line(&self.args.output.display().to_string(), LONGEST))?;
        table.print(out)
    }
}
