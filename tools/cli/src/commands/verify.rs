//! `kinglet verify`: does Kinglet compute what the graph says?

use std::path::PathBuf;

use kinglet::Tensor;
use kinglet_compiler::Precision;
use kinglet_compiler::array::Array;
use kinglet_compiler::check::{Checked, Disagreement, Recorder};
use kinglet_compiler::eval;
use kinglet_compiler::graph::{Graph, Op};
use kinglet_native::OwnedSession;

use crate::Status;
use crate::args::{Dims, InputFiles};
use crate::compare::Difference;
use crate::describe::outputs;
use crate::error::{Error, Result};
use crate::inputs::{self, Arrays, fill, random_arrays, require_all};
use crate::io::Streams;
use crate::model::Onnx;
use crate::progress::Progress;
use crate::table::Table;
use crate::values;

/// Bound for graphs without quantised tensors: f32 against f64.
const FLOAT_BOUND: f64 = 1e-4;
/// Bound for floats stored in 16 bits, whose roundings add up from step to step.
const HALVES_BOUND: f64 = 0.02;
/// Bound for graphs with quantised tensors, where one rounding the other way shows as a whole step.
const QUANTISED_BOUND: f64 = 0.05;
/// Most unchecked steps that are named.
const MOST_LISTED: usize = 10;

/// Compare Kinglet with an evaluation of the graph in f64, and with tract
///
/// Each output is compared with a plain f64 evaluation of the ONNX graph. A build with the cargo feature `oracle` runs the
/// graph in tract too and says which of the three agree; where tract and the evaluator differ, the evaluator decides.
///
/// Besides, every step is checked: wherever the run shows a tensor of the ONNX graph, it is compared with what the graph's
/// nodes give in f64 for the values that the run had before. A float may differ by 1e-4 of its tensor's largest magnitude (1e-2 with --precision f16), and an
/// integer only where the real value lies next to a rounding tie. Steps whose result is no tensor of the ONNX graph are
/// checked together with those that follow them. A step is not checked where nobody can tell which way a rounding went that
/// the run does not show, as in the body of a quantised loop.
///
/// Exit status 1 if a step is not what the graph gives, or if an output differs by more than the bound, in units of the
/// output's largest magnitude. The default is 1e-4, and 0.05 for graphs with quantised tensors. In those a single rounding that
/// goes the other way grows from layer to layer, so that an output beyond the default bound is no failure if every step was
/// checked and held. Within the bound, steps that were not checked make the answer "ok on condition". A bound given with
/// --bound decides in any case.
#[derive(clap::Args)]
pub struct Args {
    /// The ONNX model
    #[arg(value_name = "MODEL.onnx")]
    model: PathBuf,
    #[command(flatten)]
    files: InputFiles,
    /// Seed of the random inputs that are used when none are given
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Largest difference allowed, relative to the output's largest magnitude [default: 1e-4; quantised graphs 0.05]
    #[arg(long, value_name = "X", value_parser = bound)]
    bound: Option<f64>,
    #[command(flatten)]
    dims: Dims,
}

fn bound(text: &str) -> std::result::Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|v| v.is_finite() && *v >= 0.0);
    value.ok_or_else(|| "expected a number that is not negative, as in 1e-4".into())
}

/// What one of the parties says the outputs are, in reals.
type Answer = Vec<Vec<f64>>;

/// Runs the command.
pub fn run(args: &Args, streams: &mut Streams<'_>) -> Result<Status> {
    let mut onnx = Onnx::open(&args.model)?;
    onnx.check_dims(&args.dims, streams)?;
    let given = !args.files.input.is_empty() || args.files.inputs.is_some();
    let (mut arrays, options) = if given {
        let arrays = inputs::read(&args.files, onnx.inputs(), streams)?;
        require_all(|name| arrays.contains_key(name), onnx.inputs(), &args.files)?;
        let options = inputs::options(&arrays, &args.dims);
        (arrays, options)
    } else {
        // Random values must not decide shapes, so the compiler does not see them.
        let arrays = random_arrays(onnx.inputs(), &args.dims, args.seed)?;
        (arrays, args.dims.options())
    };

    let progress = Progress::spinner();
    progress.stage("evaluate in f64");
    let graph = onnx.import(&options)?;
    inputs::add_defaults(&mut arrays, &graph);
    let expected = evaluate(&graph, &arrays).map_err(|e| Error::file(&args.model, format_args!("evaluator: {e}")))?;
    let quantised = is_quantised(&graph);
    let compiled = onnx.compile_graph(graph.clone(), &options, &progress)?;
    drop(progress);
    let mut session = OwnedSession::from_bytes(&compiled.kgl, 1)?;
    fill(&mut session, &arrays)?;
    let steps = {
        let inputs: Vec<Array> =
            compiled.graph.inputs.iter().map(|&t| arrays[&compiled.graph.tensors[t].name].clone()).collect();
        let file = session.file().clone();
        let mut recorder = Recorder::new(&compiled, file.model());
        session.run_observed(&mut recorder)?;
        recorder.check(&graph, &inputs)
    };

    let ports = outputs(&session.model());
    if ports.len() != expected.len() {
        return Err(Error::file(&args.model, "the compiled model has another number of outputs than the graph"));
    }
    let tensors: Vec<Tensor> = ports.iter().map(|p| p.tensor).collect();
    let mut kinglet = Answer::new();
    for (i, tensor) in tensors.iter().enumerate() {
        kinglet.push(values::reals(tensor, session.output_bytes(i)?));
    }
    let evaluator = meaning(&expected, &tensors);
    let tract = oracle(&onnx, &arrays, &tensors, streams);

    let bound = args.bound.unwrap_or(match options.precision {
        _ if quantised => QUANTISED_BOUND,
        Precision::F16 => HALVES_BOUND,
        Precision::F32 => FLOAT_BOUND,
    });
    let names: Vec<&str> = ports.iter().map(|p| p.name.as_str()).collect();
    let bound_given = args.bound.is_some();
    let steps = &steps;
    let report = Report {
        names: &names,
        bound,
        quantised,
        bound_given,
        steps,
        kinglet: &kinglet,
        evaluator: &evaluator,
        tract: &tract,
    };
    report.print(streams)
}

/// Evaluates the graph in f64.
fn evaluate(graph: &Graph, arrays: &Arrays) -> std::result::Result<Vec<Array>, String> {
    let input = |&t: &usize| {
        let tensor = &graph.tensors[t];
        arrays.get(&tensor.name).cloned().ok_or_else(|| format!("no array for the input `{}`", tensor.name))
    };
    let values = graph.inputs.iter().map(input).collect::<std::result::Result<Vec<_>, _>>()?;
    eval::run(graph, &values)
}

/// The reals that arrays stand for: integers of a quantised output are what Kinglet's tensor says of them.
fn meaning(arrays: &[Array], tensors: &[Tensor]) -> Answer {
    let one = |(array, tensor): (&Array, &Tensor)| match tensor.quantization() {
        Some((scale, zero)) => array.reals().iter().map(|v| (v - f64::from(zero)) * f64::from(scale)).collect(),
        None => array.reals().into_owned(),
    };
    arrays.iter().zip(tensors).map(one).collect()
}

/// Whether a tensor of the graph is quantised, as opposed to a graph of floats (and indices) throughout.
fn is_quantised(graph: &Graph) -> bool {
    graph.tensors.iter().any(|t| t.quant.is_some())
        || graph.nodes.iter().any(|n| matches!(n.op, Op::Quantize | Op::Dequantize))
}

#[cfg(feature = "oracle")]
fn oracle(onnx: &Onnx, arrays: &Arrays, tensors: &[Tensor], streams: &mut Streams<'_>) -> Option<Answer> {
    let progress = Progress::spinner();
    progress.stage("run in tract");
    let answer = crate::oracle::run(onnx.path(), onnx.inputs(), arrays);
    drop(progress);
    match answer {
        Ok(arrays) => Some(meaning(&arrays, tensors)),
        Err(reason) => {
            streams.note(format_args!("tract cannot run this graph, so the f64 evaluator decides alone: {reason}"));
            None
        }
    }
}

#[cfg(not(feature = "oracle"))]
fn oracle(_: &Onnx, _: &Arrays, _: &[Tensor], streams: &mut Streams<'_>) -> Option<Answer> {
    streams.note("compared with the f64 evaluator; build with `--features oracle` to compare with tract as well");
    None
}

struct Report<'a> {
    names: &'a [&'a str],
    bound: f64,
    quantised: bool,
    /// The bound was asked for, so that it decides.
    bound_given: bool,
    /// Every step against the graph of the file.
    steps: &'a std::result::Result<Checked, Box<Disagreement>>,
    kinglet: &'a Answer,
    evaluator: &'a Answer,
    tract: &'a Option<Answer>,
}

impl Report<'_> {
    fn print(&self, streams: &mut Streams<'_>) -> Result<Status> {
        let mut table = Table::new(&["output", "against", ">absolute", ">relative", ">SQNR", "verdict"]);
        let (mut failed, mut remarks) = (false, Vec::new());
        for (i, name) in self.names.iter().enumerate() {
            let against = self.difference(name, &self.kinglet[i], &self.evaluator[i])?;
            let agree = against.relative <= self.bound;
            failed |= !agree;
            self.row(&mut table, name, "evaluator", &against);
            if let Some(tract) = self.tract.as_ref().map(|t| t.get(i).map_or(&[][..], |v| v)) {
                let with_kinglet = self.difference(name, &self.kinglet[i], tract)?;
                let with_evaluator = self.difference(name, &self.evaluator[i], tract)?;
                self.row(&mut table, name, "tract", &with_kinglet);
                if with_evaluator.relative > self.bound {
                    let who = match (agree, with_kinglet.relative <= self.bound) {
                        (true, true) => "Kinglet agrees with both",
                        (true, false) => "Kinglet and the evaluator agree",
                        (false, true) => "Kinglet and tract agree",
                        (false, false) => "no two agree",
                    };
                    let apart = format!("tract and the evaluator differ by {:.3e}", with_evaluator.relative);
                    remarks.push(format!("`{name}`: {apart}; {who}; the evaluator decides"));
                }
            }
        }
        table.print(streams.out)?;
        for remark in remarks {
            streams.note(remark);
        }
        let bound = self.bound;
        let steps = match self.steps {
            Ok(steps) => steps,
            Err(e) => {
                let nodes =
                    if e.source.is_empty() { String::new() } else { format!(" (from {})", e.source.join(", ")) };
                return Err(Error::failed(format!("a step is not what the graph gives: {e}{nodes}")));
            }
        };
        list_steps(steps, streams)?;
        let unchecked = steps.unchecked.len();
        if !failed {
            let verdict = match unchecked {
                0 => "ok".to_string(),
                n => format!("ok on condition that the {n} unchecked steps are right"),
            };
            writeln!(streams.out, "{verdict}: every output is within {bound:e} of its largest magnitude")?;
            return Ok(Status::Ok);
        }
        let beyond =
            format!("an output differs from the f64 evaluation by more than {bound:e} of its largest magnitude");
        if !self.quantised || self.bound_given {
            return Err(Error::failed(beyond));
        }
        if unchecked > 0 {
            return Err(Error::failed(format!("{beyond}, and {unchecked} steps were not checked")));
        }
        writeln!(
            streams.out,
            "ok: every step is what the graph gives; the outputs differ by more than {bound:e} of their largest magnitude \
             through roundings only, which grow from layer to layer"
        )?;
        Ok(Status::Ok)
    }

    fn difference(&self, name: &str, values: &[f64], reference: &[f64]) -> Result<Difference> {
        Difference::between(values, reference).ok_or_else(|| {
            let text = format!("output `{name}` has {} elements here and {} there", values.len(), reference.len());
            Error::failed(text)
        })
    }

    fn row(&self, table: &mut Table, name: &str, against: &str, d: &Difference) {
        let verdict = if d.relative <= self.bound { "ok" } else { "differs" };
        let sqnr = if d.sqnr.is_infinite() { "equal".to_string() } else { format!("{:.1} dB", d.sqnr) };
        let place = if d.relative <= self.bound { String::new() } else { format!(" at element {}", d.at) };
        let numbers = (format!("{:.3e}", d.absolute), format!("{:.3e}", d.relative));
        table.row([name.into(), against.into(), numbers.0, numbers.1, sqnr, format!("{verdict}{place}")]);
    }
}

/// Says how many steps were checked, and names those that were not.
fn list_steps(steps: &Checked, streams: &mut Streams<'_>) -> Result<()> {
    let (checked, unchecked) = (steps.alone + steps.grouped, steps.unchecked.len());
    writeln!(
        streams.out,
        "{checked} of {} steps checked, {} of them in groups: {} integers to the bit (rounding ties aside), {} other values; \
         {unchecked} not checked",
        checked + unchecked,
        steps.grouped,
        steps.quantised,
        steps.other
    )?;
    for step in steps.unchecked.iter().take(MOST_LISTED) {
        writeln!(streams.out, "  not checked: `{}`: {}", step.step, step.reason)?;
    }
    if unchecked > MOST_LISTED {
        writeln!(streams.out, "  and {} more", unchecked - MOST_LISTED)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinglet_compiler::check::Unchecked;

    /// What the command says of one output: status, standard output, notes and error.
    fn judge(quantised: bool, kinglet: f64, evaluator: f64, tract: Option<f64>) -> (Status, String) {
        judge_steps(quantised, kinglet, evaluator, tract, &Ok(checked(0)))
    }

    /// Three steps, one of them in a group, besides those that were not checked.
    fn checked(unchecked: usize) -> Checked {
        let unchecked = (0..unchecked).map(|i| Unchecked { step: format!("step {i}"), reason: "why".into() }).collect();
        Checked { quantised: 7, other: 3, alone: 2, grouped: 1, unchecked }
    }

    fn judge_steps(
        quantised: bool,
        kinglet: f64,
        evaluator: f64,
        tract: Option<f64>,
        steps: &std::result::Result<Checked, Box<Disagreement>>,
    ) -> (Status, String) {
        let answer = |v: f64| vec![vec![100.0, v]];
        let (kinglet, evaluator, tract) = (answer(kinglet), answer(evaluator), tract.map(answer));
        let bound = if quantised { QUANTISED_BOUND } else { FLOAT_BOUND };
        let report = Report {
            names: &["y"],
            bound,
            quantised,
            bound_given: false,
            steps,
            kinglet: &kinglet,
            evaluator: &evaluator,
            tract: &tract,
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let result = report.print(&mut Streams { out: &mut out, err: &mut err });
        let (status, said) = match result {
            Ok(status) => (status, String::new()),
            Err(e) => (e.status(), e.to_string()),
        };
        (status, String::from_utf8([out, err, said.into_bytes()].concat()).unwrap())
    }

    #[test]
    fn the_evaluator_decides_and_the_report_says_who_agrees() {
        let (status, text) = judge(false, 1.001, 1.0, None);
        assert!(status == Status::Ok && text.contains("ok"), "{text}");
        let (status, text) = judge(false, 1.1, 1.0, None);
        assert!(status == Status::Failed && text.contains("differs at element 1"), "{text}");
        let (status, text) = judge(false, 1.0, 1.0, Some(2.0));
        assert!(status == Status::Ok && text.contains("Kinglet and the evaluator agree"), "{text}");
        let (status, text) = judge(false, 2.0, 1.0, Some(2.0));
        assert!(status == Status::Failed && text.contains("Kinglet and tract agree"), "{text}");
        let (status, text) = judge(false, 3.0, 1.0, Some(2.0));
        assert!(status == Status::Failed && text.contains("no two agree"), "{text}");
        let (status, _) = judge(false, f64::NAN, 1.0, None);
        assert_eq!(status, Status::Failed);
        // Roundings may carry a quantised output far, as long as every step is right.
        let (status, text) = judge(true, 50.0, 1.0, None);
        assert!(status == Status::Ok && text.contains("roundings only") && text.contains("3 of 3 steps"), "{text}");
        // Not if one of them was not checked; within the bound that is told.
        let (status, text) = judge_steps(true, 50.0, 1.0, None, &Ok(checked(1)));
        assert!(status == Status::Failed && text.contains("1 steps were not checked"), "{text}");
        let (status, text) = judge_steps(true, 1.0, 1.0, None, &Ok(checked(12)));
        assert!(status == Status::Ok && text.contains("ok on condition that the 12"), "{text}");
        assert!(text.contains("3 of 15 steps checked, 1 of them in groups"), "{text}");
        assert!(text.contains("`step 9`: why") && !text.contains("`step 10`") && text.contains("and 2 more"), "{text}");
        // A float graph has no such excuse.
        let (status, _) = judge_steps(false, 50.0, 1.0, None, &Ok(checked(0)));
        assert_eq!(status, Status::Failed);
        let (tensor, op) = ("t".to_string(), "Conv".to_string());
        let wrong = Disagreement { tensor, op, source: vec!["n".into()], at: 4, got: 3.0, lowest: 1.0, highest: 2.0 };
        let (status, text) = judge_steps(true, 1.0, 1.0, None, &Err(Box::new(wrong)));
        assert!(status == Status::Failed && text.contains("element 4") && text.contains("from n"), "{text}");
    }

    #[test]
    fn bounds_are_numbers_that_are_not_negative() {
        assert_eq!(bound("1e-3"), Ok(1e-3));
        for bad in ["-1", "nan", "inf", "x"] {
            assert!(bound(bad).is_err(), "{bad}");
        }
    }
}
