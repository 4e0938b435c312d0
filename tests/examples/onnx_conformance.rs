//! Runs ONNX's own test cases through plans: `onnx_conformance FOLDER [PASSES]`.
//!
//! A case is a folder as `tests/onnx-conformance/make.py` writes it. A model is compiled for the shapes of its inputs, and the
//! plan is run by the best kernels of this CPU. Where that is refused, the values of integer and boolean inputs are bound, as few
//! as it takes; those of floats never are. An output has the expected shape, its integers are the expected ones, and its floats
//! are as close as ONNX asks: within 1e-7, and a thousandth of what is expected. (`closeness` says where that is less than the
//! expectation itself is exact to.)
//!
//! Prints how many cases pass by operator, and what stands in the way of the others. `PASSES` is the list of those that pass, which
//! has to be true; with `KINGLET_BLESS=1` it is written anew. `ONLY=TEXT` leaves out cases without the text in their name, and says
//! everything of the others.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use kinglet::DType;
use kinglet_compiler::array::Array;
use kinglet_compiler::{Error, Options, array_from_proto, compile, import_file, shape_of_inputs};
use kinglet_onnx::{DataType, ModelProto, TensorProto};
use kinglet_tests::run_best;

/// How close ONNX's own runner asks floats to be: relatively, and absolutely.
const CLOSE: (f64, f64) = (1e-3, 1e-7);
/// Most inputs of which every subset is tried to be bound.
const SUBSETS: usize = 8;

/// How a case ended.
enum Outcome {
    Passed {
        bound: Vec<String>,
    },
    /// Refused, with the operator and reason that come first.
    Refused {
        by: String,
        why: String,
    },
    Wrong(String),
    Crashed(String),
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let Some(folder) = arguments.next() else {
        eprintln!("onnx_conformance FOLDER [PASSES]");
        return ExitCode::FAILURE;
    };
    let only = std::env::var("ONLY").unwrap_or_default();
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(&folder).expect("a folder of cases").map(|e| e.expect("readable").path()).collect();
    cases.retain(|c| c.is_dir() && name(c).contains(&only));
    cases.sort();
    std::panic::set_hook(Box::new(|_| {}));
    let outcomes = all(&cases);
    let _ = std::panic::take_hook();
    if !only.is_empty() {
        for (case, outcome) in cases.iter().zip(&outcomes) {
            println!("{}: {}", name(case), outcome.text());
        }
    }
    summary(&cases, &outcomes);
    let passed: BTreeSet<String> = cases
        .iter()
        .zip(&outcomes)
        .filter(|(_, o)| matches!(o, Outcome::Passed { .. }))
        .map(|(c, _)| name(c))
        .collect();
    let failed = outcomes.iter().any(|o| matches!(o, Outcome::Wrong(_) | Outcome::Crashed(_)));
    let listed = arguments.next().is_none_or(|list| is_true(&list, &passed));
    if failed || !listed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn name(case: &Path) -> String {
    case.file_name().expect("a folder").to_string_lossy().into_owned()
}

impl Outcome {
    fn text(&self) -> String {
        match self {
            Outcome::Passed { bound } if bound.is_empty() => "passes".into(),
            Outcome::Passed { bound } => format!("passes with {} bound", bound.join(", ")),
            Outcome::Refused { by, why } => format!("refused: {by}: {why}"),
            Outcome::Wrong(why) => format!("WRONG: {why}"),
            Outcome::Crashed(why) => format!("CRASHED: {why}"),
        }
    }
}

/// The outcome of each case, by as many threads as there are processors.
fn all(cases: &[PathBuf]) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(i) else { break };
                    let outcome = catch_unwind(AssertUnwindSafe(|| run(case))).unwrap_or_else(|e| {
                        let text = e.downcast_ref::<String>().cloned();
                        Outcome::Crashed(text.or(e.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_default())
                    });
                    done.lock().expect("no thread panics").insert(i, outcome);
                }
            });
        }
    });
    done.into_inner().expect("no thread panics").into_values().collect()
}

/// Why a tensor of a case is none that can be compared.
fn tensors(case: &Path, what: &str) -> Result<Vec<(Array, i32)>, String> {
    let mut out = Vec::new();
    loop {
        let path = case.join(format!("test_data_set_0/{what}_{}.pb", out.len()));
        let Ok(bytes) = std::fs::read(path) else { return Ok(out) };
        let proto = TensorProto::from_bytes(&bytes).map_err(|e| e.to_string())?;
        let array = array_from_proto(&proto, None).map_err(|e| e.text)?;
        out.push((array, proto.data_type));
    }
}

fn run(case: &Path) -> Outcome {
    let refused = |by: &str, why: String| Outcome::Refused { by: by.into(), why };
    let model = case.join("model.onnx");
    let bytes = std::fs::read(&model).expect("a model");
    let infos = match shape_of_inputs(&bytes) {
        Ok(infos) => infos,
        Err(e) => return refused("inputs", e.to_string()),
    };
    let (given, wanted) = match tensors(case, "input").and_then(|i| Ok((i, tensors(case, "output")?))) {
        Ok(both) => both,
        Err(why) => return refused("arrays", why),
    };
    // DOUBLE is computed with as f32.
    let beyond =
        |a: &Array| a.dtype == DType::F32 && a.reals().iter().any(|v| v.is_finite() && v.abs() > f32::MAX.into());
    if given.iter().any(|(a, _)| beyond(a)) {
        return refused("arrays", "an element is beyond the range of f32".into());
    }
    let inputs: BTreeMap<String, Array> =
        infos.iter().map(|i| i.name.clone()).zip(given.into_iter().map(|(a, _)| a)).collect();
    let integers: Vec<&String> = inputs.iter().filter(|(_, v)| !v.dtype.is_float()).map(|(k, _)| k).collect();
    let mut first = None;
    let mut subsets: Vec<usize> = (0..1 << integers.len().min(SUBSETS)).collect();
    subsets.sort_by_key(|s| s.count_ones());
    for subset in subsets {
        let bound: Vec<&String> =
            integers.iter().enumerate().filter(|(k, _)| subset >> k & 1 == 1).map(|(_, &n)| n).collect();
        let bind: BTreeMap<String, Array> = bound.iter().map(|&n| (n.clone(), inputs[n].clone())).collect();
        let shapes = inputs.iter().map(|(k, v)| (k.clone(), v.shape.clone())).collect();
        let options = Options { shapes, bind, target: kinglet_native::best_kernels().target(), ..Options::default() };
        match import_file(&model, &options).and_then(|graph| compile(graph, &options)) {
            Ok(compiled) => {
                let free =
                    inputs.iter().filter(|(n, _)| !bound.contains(n)).map(|(n, v)| (n.clone(), v.clone())).collect();
                return compare(&bytes, &run_best(&compiled.kgl, &free), &wanted, bound);
            }
            Err(e) => first.get_or_insert(e),
        };
    }
    match first.expect("the empty subset was tried") {
        Error::Unsupported(all) => refused(&all[0].op, all[0].reason.clone()),
        other => refused("model", other.to_string()),
    }
}

fn compare(model: &[u8], got: &BTreeMap<String, Array>, wanted: &[(Array, i32)], bound: Vec<&String>) -> Outcome {
    let model = ModelProto::from_bytes(model).expect("it was imported");
    let outputs = model.graph.iter().flat_map(|g| &g.output);
    for (port, (want, code)) in outputs.zip(wanted) {
        let got = &got[&port.name];
        if (got.dtype, &got.shape) != (want.dtype, &want.shape) {
            let is = |a: &Array| format!("{} {:?}", a.dtype.name(), a.shape);
            return Outcome::Wrong(format!("`{}` is {} instead of {}", port.name, is(got), is(want)));
        }
        let (rtol, atol) = closeness(want, *code);
        let close = |&(_, (g, w)): &(usize, (f64, f64))| {
            g == w || g.is_nan() && w.is_nan() || (g - w).abs() <= atol + rtol * w.abs()
        };
        let rounded: Vec<f64> = got.reals().iter().map(|&v| as_type(v, *code)).collect();
        let pairs = || rounded.iter().copied().zip(want.reals().to_vec()).enumerate();
        if let Some((i, (g, w))) = pairs().find(|p| !close(p)) {
            let far = pairs().filter(|p| !close(p)).count();
            return Outcome::Wrong(format!(
                "`{}`[{i}] is {g} instead of {w}, and {far} of {} are wrong",
                port.name,
                want.len()
            ));
        }
    }
    Outcome::Passed { bound: bound.into_iter().cloned().collect() }
}

/// How close what the type with this number has must be, relatively and absolutely.
fn closeness(want: &Array, code: i32) -> (f64, f64) {
    if want.dtype != DType::F32 {
        return (0.0, 0.0);
    }
    // The expected value is rounded to 16 bits after each operation where the plan keeps 32: up to four units in the last place.
    let rtol = match DataType::try_from(code) {
        Ok(DataType::Bfloat16) => 2f64.powi(-6),
        Ok(DataType::Float16) => 2f64.powi(-9),
        _ => CLOSE.0,
    };
    // What should be 0 is as far from it as the roundings of sums of the largest numbers are, in either of them.
    let largest = want.reals().iter().filter(|v| v.is_finite()).fold(0.0, |m: f64, v| m.max(v.abs()));
    (rtol, CLOSE.1.max(4.0 * f64::from(f32::EPSILON) * largest))
}

/// A real as the type with this number has it: the plan has an f32 where the model has a float of 16 bits.
fn as_type(v: f64, code: i32) -> f64 {
    match DataType::try_from(code) {
        Ok(DataType::Float16) => kinglet::f16::from_f32(v as f32).to_f64(),
        Ok(DataType::Bfloat16) => {
            let bits = (v as f32).to_bits();
            let up = (bits & 0xffff) + (bits >> 16 & 1) > 0x8000;
            let rounded =
                if v.is_nan() { v as f32 } else { f32::from_bits((bits >> 16).wrapping_add(up.into()) << 16) };
            f64::from(rounded)
        }
        _ => v,
    }
}

/// Prints the outcomes by operator and by reason.
fn summary(cases: &[PathBuf], outcomes: &[Outcome]) {
    let mut operators: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut reasons: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut passed, mut bound, mut wrong, mut crashed) = (0, 0, 0, 0);
    for (case, outcome) in cases.iter().zip(outcomes) {
        let model = ModelProto::from_bytes(&std::fs::read(case.join("model.onnx")).expect("a model")).expect("a model");
        // What a case is of: the operator of its last node, as expanded ones end in it.
        let of = model.graph.as_ref().and_then(|g| g.node.last()).map_or("none", |n| &n.op_type).to_string();
        let row = operators.entry(of).or_default();
        row.1 += 1;
        match outcome {
            Outcome::Passed { bound: b } => {
                row.0 += 1;
                passed += 1;
                bound += usize::from(!b.is_empty());
            }
            Outcome::Refused { by, why } => reasons.entry(format!("{by}: {why}")).or_default().push(name(case)),
            Outcome::Wrong(why) => {
                wrong += 1;
                println!("WRONG {}: {why}", name(case));
            }
            Outcome::Crashed(why) => {
                crashed += 1;
                println!("CRASHED {}: {why}", name(case));
            }
        }
    }
    println!("\npasses of cases by operator:");
    for (operator, (passed, all)) in &operators {
        println!("  {operator:28} {passed:4} of {all:4}");
    }
    println!("\nrefused:");
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, cases)| std::cmp::Reverse(cases.len()));
    for (reason, cases) in reasons {
        println!("  {:4} {reason} (as {})", cases.len(), cases[0]);
    }
    println!("\n{passed} of {} cases pass ({bound} with values bound), {wrong} wrong, {crashed} crashed", cases.len());
}

/// Compares the list of passes with what passes, or writes it.
fn is_true(list: &Path, passed: &BTreeSet<String>) -> bool {
    if std::env::var_os("KINGLET_BLESS").is_some() {
        let lines: String = passed.iter().map(|name| format!("{name}\n")).collect();
        std::fs::write(list, lines).expect("the list can be written");
        return true;
    }
    let text = std::fs::read_to_string(list).expect("a list of passes");
    let listed: BTreeSet<String> = text.lines().map(str::to_string).collect();
    for name in listed.difference(passed) {
        println!("{name} is listed and does not pass");
    }
    for name in passed.difference(&listed) {
        println!("{name} passes and is not listed: KINGLET_BLESS=1 writes the list anew");
    }
    listed == *passed
}
