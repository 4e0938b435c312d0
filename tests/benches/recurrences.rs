//! What a recurrence costs against the length of the sequence, as a step of its own, as a loop, and written out frame by frame:
//! `cargo bench -p kinglet-tests --bench recurrences`, with `-- --svg FILE` for a plot and `-- --markdown` for the table of
//! `docs/models.md`.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use kinglet_compiler::{Options, compile, import};
use kinglet_native::OwnedSession;
use kinglet_onnx::{DataType, ModelProto};
use kinglet_tests::small_onnx::{Builder, Value, floats, ints};

/// Lengths measured.
const LENGTHS: [usize; 6] = [64, 256, 1024, 4096, 16384, 65536];
/// Longest sequence that is written out.
const LONGEST_UNROLLED: usize = 1024;
/// Channels and state of the scan.
const INNER: usize = 32;
const STATE: usize = 16;
/// Coefficients of the memory.
const ORDER: usize = 32;

/// How the recurrence is run.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Step,
    Loop,
    Unrolled,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Form::Step => "step",
            Form::Loop => "loop",
            Form::Unrolled => "unrolled",
        }
    }
}

/// One measurement.
struct Row {
    operator: &'static str,
    form: Form,
    frames: usize,
    steps: usize,
    /// Bytes of the arena beyond the inputs and outputs.
    working: usize,
    time: Duration,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| args.iter().position(|a| a == name).and_then(|i| args.get(i + 1));
    let mut rows = Vec::new();
    for operator in ["SelectiveScan", "LegendreMemory"] {
        for form in [Form::Step, Form::Loop, Form::Unrolled] {
            for frames in LENGTHS {
                if form == Form::Unrolled && frames > LONGEST_UNROLLED {
                    continue;
                }
                rows.push(measure(operator, form, frames));
                let r = rows.last().expect("pushed");
                eprintln!("{operator} as {}, {frames} frames: {:.2?}", form.name(), r.time);
            }
        }
    }
    if let Some(path) = value("--svg") {
        std::fs::write(path, plot(&rows)).unwrap_or_else(|e| panic!("{path}: {e}"));
    }
    let rule =
        if args.iter().any(|a| a == "--markdown") { "| --- | --- | ---: | ---: | ---: | ---: | ---: |\n" } else { "" };
    print!("| operator | as | frames | steps | bytes beyond inputs and outputs | µs a run | ns a frame |\n{rule}");
    for r in &rows {
        let (us, ns) = (r.time.as_secs_f64() * 1e6, r.time.as_secs_f64() * 1e9 / r.frames as f64);
        let (operator, form, frames, steps, working) = (r.operator, r.form.name(), r.frames, r.steps, r.working);
        println!("| {operator} | {form} | {frames} | {steps} | {working} | {us:.0} | {ns:.0} |");
    }
}

fn measure(operator: &'static str, form: Form, frames: usize) -> Row {
    let model = match operator {
        "SelectiveScan" => selective_scan(frames, form == Form::Unrolled),
        _ => legendre_memory(frames, form == Form::Unrolled),
    };
    let options = Options { keep_loops: form != Form::Step, ..Options::default() };
    let graph = import(&model.to_bytes(), None, &options).expect("a valid model");
    let compiled = compile(graph, &options).expect("it compiles");
    let recognised = compiled.report.steps.iter().any(|s| s.kind == operator);
    assert_eq!(recognised, form == Form::Step, "{operator} as {}", form.name());
    let mut session = OwnedSession::from_bytes(&compiled.kgl, 1).expect("a valid plan");
    let model = session.model();
    let bytes = |t: Option<usize>| t.map_or(0, |t| model.tensor(t).0.bytes as usize);
    let inputs: usize = (0..model.input_count()).map(|i| bytes(model.input_tensor(i))).sum();
    let outputs: usize = (0..model.output_count()).map(|i| bytes(model.output_tensor(i))).sum();
    let (working, counts) = (model.arena_bytes().saturating_sub(inputs + outputs), model.input_count());
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < 3 || (start.elapsed() < Duration::from_millis(200) && times.len() < 100) {
        for i in 0..counts {
            let input = session.input_mut::<f32>(i).expect("a float input");
            input.iter_mut().enumerate().for_each(|(k, v)| *v = ((k * 37 + 11) % 64) as f32 / 64.0);
        }
        let begin = Instant::now();
        session.run().expect("the data is plain");
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    Row { operator, form, frames, steps: compiled.report.steps.len(), working, time: times[times.len() / 2] }
}

/// `h ← exp(Δ·A)·h + Δ·x·B`, `y = C·h` over `[1, frames, …]` inputs, as a Scan or written out.
fn selective_scan(frames: usize, unrolled: bool) -> ModelProto {
    let (t, inner, state) = (frames as i64, INNER as i64, STATE as i64);
    let mut b = Builder::default();
    for (name, width) in [("x", inner), ("delta", inner), ("B", state), ("C", state)] {
        b.input(name, DataType::Float, &[t, 1, width]);
    }
    // Negative, so that the state decays.
    let mut a = floats("A", &[inner, state]);
    a.float_data.iter_mut().for_each(|v| *v = -0.5 - v.abs());
    let mut zero = floats("h0", &[1, inner, state]);
    zero.float_data.fill(0.0);
    b.constant(a).constant(zero).constant(ints("last", DataType::Int64, &[1], &[-1]));
    b.constant(ints("middle", DataType::Int64, &[1], &[1]));
    let frame = |b: &mut Builder, s: &str, h: &str, next: &str, y: &str| {
        let n = |name: &str| format!("{name}{s}");
        let (x, d, bt, ct) = (n("x_t"), n("d_t"), n("b_t"), n("c_t"));
        b.node("Unsqueeze", &format!("{d} last"), &n("d"), &[])
            .node("Unsqueeze", &format!("{x} last"), &n("u"), &[])
            .node("Unsqueeze", &format!("{bt} middle"), &n("b"), &[])
            .node("Unsqueeze", &format!("{ct} middle"), &n("c"), &[])
            .node("Mul", &format!("{} A", n("d")), &n("da"), &[])
            .node("Exp", &n("da"), &n("e"), &[])
            .node("Mul", &format!("{} {h}", n("e")), &n("kept"), &[])
            .node("Mul", &format!("{} {}", n("d"), n("b")), &n("db"), &[])
            .node("Mul", &format!("{} {}", n("db"), n("u")), &n("added"), &[])
            .node("Add", &format!("{} {}", n("kept"), n("added")), next, &[])
            .node("Mul", &format!("{next} {}", n("c")), &n("read"), &[])
            .node("ReduceSum", &format!("{} last", n("read")), y, &[("keepdims", Value::I(0))]);
    };
    if unrolled {
        write_out(&mut b, frames, &[("x", "x_t"), ("delta", "d_t"), ("B", "b_t"), ("C", "c_t")], frame);
    } else {
        let mut body = Builder::default();
        body.formals("h x_t d_t b_t c_t");
        frame(&mut body, "", "h", "h_next", "y_t");
        let body = body.outputs("h_next y_t").body();
        b.node("Scan", "h0 x delta B C", "h_last y", &[("body", body), ("num_scan_inputs", Value::I(4))]);
    }
    b.outputs("y").build()
}

/// `m ← A·m + B·u` over a `[1, frames, 1]` input, as a Scan or written out.
fn legendre_memory(frames: usize, unrolled: bool) -> ModelProto {
    let (t, order) = (frames as i64, ORDER as i64);
    let mut b = Builder::default();
    b.input("u", DataType::Float, &[t, 1, 1]);
    let mut a = floats("A", &[order, order]);
    a.float_data.iter_mut().for_each(|v| *v /= order as f32);
    let mut zero = floats("m0", &[1, order]);
    zero.float_data.fill(0.0);
    b.constant(a).constant(floats("b", &[1, order])).constant(zero);
    let frame = |b: &mut Builder, s: &str, m: &str, next: &str, y: &str| {
        let n = |name: &str| format!("{name}{s}");
        b.node("MatMul", &format!("{m} A"), &n("kept"), &[])
            .node("MatMul", &format!("{} b", n("u_t")), &n("added"), &[])
            .node("Add", &format!("{} {}", n("kept"), n("added")), next, &[])
            .node("Identity", next, y, &[]);
    };
    if unrolled {
        write_out(&mut b, frames, &[("u", "u_t")], frame);
    } else {
        let mut body = Builder::default();
        body.formals("m u_t");
        frame(&mut body, "", "m", "m_next", "y_t");
        let body = body.outputs("m_next y_t").body();
        b.node("Scan", "m0 u", "m_last y", &[("body", body), ("num_scan_inputs", Value::I(1))]);
    }
    b.outputs("y").build()
}

/// Frame after frame as nodes: each input's position is gathered, the results are stacked.
fn write_out(
    b: &mut Builder,
    frames: usize,
    inputs: &[(&str, &str)],
    frame: impl Fn(&mut Builder, &str, &str, &str, &str),
) {
    let first = if inputs[0].0 == "u" { "m0" } else { "h0" };
    b.constant(ints("first", DataType::Int64, &[1], &[0]));
    let mut before = first.to_string();
    let mut results = String::new();
    for t in 0..frames {
        let s = format!("_{t}");
        b.constant(ints(&format!("at{s}"), DataType::Int64, &[], &[t as i64]));
        for (whole, part) in inputs {
            b.node("Gather", &format!("{whole} at{s}"), &format!("{part}{s}"), &[("axis", Value::I(0))]);
        }
        let (next, y) = (format!("next{s}"), format!("y{s}"));
        frame(b, &s, &before, &next, &y);
        b.node("Unsqueeze", &format!("{y} first"), &format!("row{s}"), &[]);
        let _ = write!(results, "row{s} ");
        before = next;
    }
    b.node("Concat", &results, "y", &[("axis", Value::I(0))]);
}

/// Nanoseconds a frame against frames, both axes logarithmic.
fn plot(rows: &[Row]) -> String {
    const WIDTH: f64 = 640.0;
    const HEIGHT: f64 = 400.0;
    const MARGIN: f64 = 56.0;
    let per_frame = |r: &Row| r.time.as_secs_f64() * 1e9 / r.frames as f64;
    let lowest = rows.iter().map(per_frame).fold(f64::INFINITY, f64::min).log10().floor();
    let highest = rows.iter().map(per_frame).fold(0.0, f64::max).log10().ceil();
    let (first, last) = ((LENGTHS[0] as f64).log2(), (LENGTHS[LENGTHS.len() - 1] as f64).log2());
    let x = |frames: usize| MARGIN + ((frames as f64).log2() - first) / (last - first) * (WIDTH - 2.0 * MARGIN);
    let y = |ns: f64| HEIGHT - MARGIN - (ns.log10() - lowest) / (highest - lowest) * (HEIGHT - 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for decade in lowest as i32..=highest as i32 {
        let (at, right) = (y(10f64.powi(decade)), WIDTH - MARGIN);
        let _ = writeln!(svg, "<line x1=\"{MARGIN}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>");
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{} ns</text>",
            MARGIN - 6.0,
            at + 4.0,
            10i64.pow(decade.max(0) as u32)
        );
    }
    for frames in LENGTHS {
        let at = HEIGHT - MARGIN + 18.0;
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{at}\" text-anchor=\"middle\">{frames}</text>", x(frames));
    }
    let middle = WIDTH / 2.0;
    let _ = writeln!(svg, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">frames</text>", HEIGHT - 14.0);
    let _ = writeln!(svg, "<text x=\"{middle}\" y=\"24\" text-anchor=\"middle\">time a frame (median of runs)</text>");
    for (operator, colour) in [("SelectiveScan", "#1b6ca8"), ("LegendreMemory", "#c0562b")] {
        for (form, dash) in [(Form::Step, ""), (Form::Loop, "6 4"), (Form::Unrolled, "2 3")] {
            let line: Vec<&Row> = rows.iter().filter(|r| r.operator == operator && r.form == form).collect();
            let points: Vec<String> =
                line.iter().map(|r| format!("{:.1},{:.1}", x(r.frames), y(per_frame(r)))).collect();
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"/>",
                points.join(" ")
            );
            if let Some(r) = line.last() {
                let (at, above) = (x(r.frames), y(per_frame(r)) - 6.0);
                let label = format!("{operator}, {}", form.name());
                let _ = writeln!(
                    svg,
                    "<text x=\"{at:.1}\" y=\"{above:.1}\" text-anchor=\"end\" fill=\"{colour}\">{label}</text>"
                );
            }
        }
    }
    svg + "</svg>\n"
}
