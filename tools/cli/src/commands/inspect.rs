//! `kinglet inspect`: what lies in a model.

use std::io::Write;
use std::path::PathBuf;

use kinglet::{Model, Region, Target};
use kinglet_compiler::{OperatorSupport, Support};
use serde_json::{Map, Value, json};

use crate::Status;
use crate::args::{Dims, Opening};
use crate::describe::{self, Port};
use crate::error::{Error, Result};
use crate::io::{Streams, read_file};
use crate::model::Source;
use crate::table::{Table, bytes, grouped, shape};
use crate::terminal::{LONGEST, line};

/// Longest piece of a metadata value that the table shows.
const SHOWN: usize = 80;

/// Show inputs, outputs, steps, memory and metadata of a model
#[derive(clap::Args)]
pub struct Args {
    /// A .kgl, or an .onnx that is compiled in memory
    model: PathBuf,
    #[command(flatten)]
    opening: Opening,
    #[command(flatten)]
    dims: Dims,
    /// List the operators of an .onnx and what each becomes, without compiling it
    #[arg(long)]
    support: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args, streams: &mut Streams<'_>) -> Result<Status> {
    if args.support {
        return support(args, streams);
    }
    let mut source = Source::open(&args.model, args.opening.how())?;
    source.check_dims(&args.dims, streams)?;
    let file = source.ready(&args.dims.options())?;
    let model = file.model();
    if args.json {
        writeln!(streams.out, "{:#}", to_json(&model, file.bytes().len()))?;
    } else {
        writeln!(streams.out, "{}", line(&args.model.display().to_string(), LONGEST))?;
        print(&model, file.bytes().len(), streams.out)?;
    }
    Ok(Status::Ok)
}

/// Lists what becomes of the operators of an ONNX file.
fn support(args: &Args, streams: &mut Streams<'_>) -> Result<Status> {
    let bytes = read_file(&args.model)?;
    let list = kinglet_compiler::support(&bytes).map_err(|e| Error::compiler(&args.model, &e))?;
    let name =
        |o: &OperatorSupport| if o.domain.is_empty() { o.name.clone() } else { format!("{}.{}", o.domain, o.name) };
    if args.json {
        let operator = |o: &OperatorSupport| match &o.becomes {
            Support::Step { kind, limits } => {
                json!({ "operator": name(o), "nodes": o.nodes, "becomes": kind, "limits": limits })
            }
            Support::Function => {
                json!({ "operator": name(o), "nodes": o.nodes, "becomes": "the nodes of its function" })
            }
            Support::Refused { reason, remedy } => {
                json!({ "operator": name(o), "nodes": o.nodes, "refused": reason, "remedy": remedy })
            }
        };
        writeln!(streams.out, "{:#}", list.iter().map(operator).collect::<Value>())?;
        return Ok(Status::Ok);
    }
    let mut table = Table::new(&["operator", ">nodes", "becomes", "<limits, or why not"]);
    for o in &list {
        let [becomes, why] = match &o.becomes {
            Support::Step { kind, limits } => [kind.to_string(), limits.to_string()],
            Support::Function => ["the nodes of its function".into(), String::new()],
            Support::Refused { reason, remedy } => ["refused".into(), format!("{reason}: {remedy}")],
        };
        table.row([name(o), o.nodes.to_string(), becomes, why]);
    }
    table.print(streams.out)?;
    let refused = list.iter().filter(|o| matches!(o.becomes, Support::Refused { .. })).count();
    writeln!(streams.out, "{} operators, {refused} of them refused", list.len())?;
    Ok(Status::Ok)
}

fn to_json(model: &Model<'_>, file_bytes: usize) -> Value {
    let ports = |list: Vec<Port>| list.iter().map(Port::json).collect::<Vec<_>>();
    let metadata: Map<String, Value> = model.metadata().map(|(k, v)| (k.to_string(), v.into())).collect();
    json!({
        "target": model.target().name(),
        "arena_bytes": model.arena_bytes(),
        "slow_bytes": model.slow_bytes(),
        "scratch_bytes": model.scratch_bytes(),
        "state_bytes": model.state_bytes(),
        "lower_bound_bytes": model.lower_bound_bytes(),
        "weights_bytes": model.weights().len(),
        "file_bytes": file_bytes,
        "macs": describe::macs(model),
        "work": model.work(),
        "inputs": ports(describe::inputs(model)),
        "outputs": ports(describe::outputs(model)),
        "bands": describe::row_bands(model).iter().map(describe::RowBand::json).collect::<Vec<_>>(),
        "steps": describe::steps(model, None).iter().map(describe::StepInfo::json).collect::<Vec<_>>(),
        "arena_map": describe::arena_map(model).iter().map(describe::Resident::json).collect::<Vec<_>>(),
        "metadata": metadata,
    })
}

fn print(model: &Model<'_>, file_bytes: usize, out: &mut dyn Write) -> std::io::Result<()> {
    let mut facts = Table::new(&["", ""]);
    let mut fact = |name: &str, value: String| facts.row([name.to_string(), value]);
    let host = kinglet_native::host_target();
    let here = match (model.target(), host) {
        (t, h) if t == h || t != Target::Generic => String::new(),
        (_, h) => format!("; on this machine its weights are repacked for {} when it is loaded", h.name()),
    };
    fact("target", format!("{}{here}", model.target().name()));
    fact("steps", model.step_count().to_string());
    fact("weights", bytes(model.weights().len() as u64));
    let bound = model.lower_bound_bytes();
    let tensors = model.arena_bytes() - model.scratch_bytes();
    let ratio = tensors as f64 / bound.max(1) as f64;
    let [arena, tensors, scratch, bound] =
        [model.arena_bytes(), tensors, model.scratch_bytes(), bound].map(|n| bytes(n as u64));
    fact("arena", format!("{arena}: tensors {tensors}, {ratio:.3} x the lower bound of {bound}; scratch {scratch}"));
    if model.slow_bytes() > 0 {
        fact("slow memory", bytes(model.slow_bytes() as u64));
    }
    fact("state", bytes(model.state_bytes() as u64));
    fact("MACs", grouped(describe::macs(model)));
    fact("work", format!("{} elements and products, at most", grouped(model.work())));
    fact("file size", bytes(file_bytes as u64));
    facts.print(out)?;

    for (title, ports) in [("inputs", describe::inputs(model)), ("outputs", describe::outputs(model))] {
        writeln!(out, "\n{title}")?;
        let mut table = Table::new(&["name", "dtype", "shape", ">scale", ">zero point", ""]);
        for p in ports {
            let q = p.tensor.quantization();
            let cell = |text: Option<String>| text.unwrap_or_else(|| "-".into());
            let (scale, zero) = (cell(q.map(|q| q.0.to_string())), cell(q.map(|q| q.1.to_string())));
            let default = if p.has_default { "has a default" } else { "" };
            table.row([p.name, p.tensor.dtype().name().into(), shape(p.tensor.shape()), scale, zero, default.into()]);
        }
        table.print(out)?;
    }

    writeln!(out, "\nsteps")?;
    let mut table = Table::new(&[">#", "<name", "kind", "dtype", "kernel", "output", ">bytes", ">MACs", "<from"]);
    for (i, s) in describe::steps(model, None).into_iter().enumerate() {
        let from = match &s.source_nodes[..] {
            [] => "-".to_string(),
            [one] => one.clone(),
            [first, .., last] => format!("{first} … {last} ({})", s.source_nodes.len()),
        };
        let (size, macs) = (grouped(s.bytes.into()), grouped(s.macs));
        let text = |s: &str| s.to_string();
        let dims = shape(&s.shape);
        table.row([i.to_string(), s.title(), text(s.kind), text(s.dtype), text(s.kernel), dims, size, macs, from]);
    }
    table.print(out)?;

    for band in describe::row_bands(model) {
        let last = band.first + band.steps.len() - 1;
        writeln!(out, "\nsteps {} to {last} run as a band, in {} slices", band.first, grouped(band.slices.into()))?;
        let mut table = Table::new(&[">#", ">rows a slice", ">rows behind", ">rows kept", ">of"]);
        for (i, step) in band.steps.iter().enumerate() {
            let [rows, delay, kept, all] = step.map(|n| n.to_string());
            table.row([(band.first + i).to_string(), rows, delay, kept, all]);
        }
        table.print(out)?;
    }

    let (slow, arena): (Vec<_>, Vec<_>) =
        describe::arena_map(model).into_iter().partition(|r| r.record.0.region == Region::Slow);
    writeln!(out, "\narena map (a tensor holds its bytes from the first to the last step of its life)")?;
    print_map(model, &arena, out)?;
    if !slow.is_empty() {
        writeln!(out, "\nmap of the slow memory")?;
        print_map(model, &slow, out)?;
    }

    if model.metadata().next().is_some() {
        writeln!(out, "\nmetadata")?;
    }
    for (key, value) in model.metadata() {
        // Labels stand one on a line: a space between them reads better than what a line break is written as.
        let mut text: String = value.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
        if value.chars().nth(SHOWN).is_some() {
            text += " …";
        }
        writeln!(out, "  {} = {}", line(key, SHOWN), line(&text, LONGEST))?;
    }
    Ok(())
}

/// Where tensors lie in a memory, and when.
fn print_map(model: &Model<'_>, residents: &[describe::Resident], out: &mut dyn Write) -> std::io::Result<()> {
    let mut table = Table::new(&[">offset", ">bytes", "life", "dtype", "shape", "<what"]);
    for r in residents {
        let t = r.record.0;
        let what = match (&r.input, &r.output, r.written_by.last()) {
            (Some(name), ..) => format!("input `{name}`"),
            (_, Some(name), _) => format!("output `{name}`"),
            (.., Some(&step)) => {
                let name = describe::step_name(model, step);
                if r.view_of.is_some() { format!("view of {name}") } else { name }
            }
            _ => "-".to_string(),
        };
        let (offset, size) = (t.offset.to_string(), t.bytes.to_string());
        table.row([offset, size, r.life(), t.dtype.name().into(), shape(r.record.shape()), what]);
    }
    table.print(out)
}
