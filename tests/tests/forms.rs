//! One model in many forms: whatever an exporter wrote, the plan has the same steps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kinglet::DType;
use kinglet_compiler::array::Array;
use kinglet_compiler::graph::{Graph, Op};
use kinglet_compiler::{Compiled, Options, Report, eval, import};
use kinglet_models::zoo::{self, Form};
use kinglet_onnx::DataType;
use kinglet_tests::quantised::quantised;
use kinglet_tests::small_onnx::{Builder, Value, ints};
use kinglet_tests::{Random, compile, run, shared, sqnr};

/// Most steps by which two forms of a model may differ.
const A_FEW: usize = 2;

fn exports() -> Option<PathBuf> {
    shared().map(|s| s.join("exports"))
}

fn report(folder: &Path, name: &str) -> Report {
    let options = Options { draws_as_inputs: true, ..Options::default() };
    let path = folder.join(format!("{name}.onnx"));
    compile(&path, &options).unwrap_or_else(|e| panic!("{name}: {e}")).report
}

/// Steps by kind.
fn kinds(report: &Report) -> BTreeMap<&str, usize> {
    let mut kinds = BTreeMap::new();
    report.steps.iter().for_each(|s| *kinds.entry(s.kind.as_str()).or_insert(0) += 1);
    kinds
}

/// Names of exports by the model they are forms of.
fn same_as(folder: &Path) -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(folder.join("manifest.json")).expect("the exports have a manifest");
    let manifest: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, entry) in manifest.as_object().expect("an object") {
        if let Some(model) = entry.get("same_as").and_then(|v| v.as_str()) {
            groups.entry(model.into()).or_default().push(name.clone());
        }
    }
    groups
}

#[test]
fn all_forms_of_a_model_have_the_same_recurrences_and_about_as_many_steps() {
    let Some(folder) = exports() else { return };
    let groups = same_as(&folder);
    assert!(groups.len() >= 6, "{groups:?}");
    for (model, names) in groups {
        // The training form of VanillaNet has layers more until a checkpoint of it is merged.
        let names: Vec<String> = names.into_iter().filter(|n| !n.contains("_train")).collect();
        let reports: Vec<Report> = names.iter().map(|n| report(&folder, n)).collect();
        let count = |r: &Report, kind: &str| kinds(r).get(kind).copied().unwrap_or(0);
        for (name, r) in names.iter().zip(&reports) {
            println!("{model}: {name} has {} steps: {:?}", r.steps.len(), kinds(r));
            for kind in ["SelectiveScan", "LegendreMemory"] {
                assert_eq!(count(r, kind), count(&reports[0], kind), "{name}: {kind}");
            }
            let (least, most) = (r.steps.len().min(reports[0].steps.len()), r.steps.len().max(reports[0].steps.len()));
            assert!(most - least <= A_FEW, "{name}: {} steps, {}: {}", r.steps.len(), names[0], reports[0].steps.len());
        }
        // What should be there is there, and no loop is left of it.
        let expected = match model.split('_').next() {
            Some("netmamba") => Some(("SelectiveScan", 2)),
            Some("lmuformer" | "slmuformer") => Some(("LegendreMemory", 1)),
            _ => None,
        };
        if let Some((kind, n)) = expected {
            assert_eq!(count(&reports[0], kind), n, "{model}");
        }
    }
}

#[test]
fn both_exporters_give_about_as_many_steps() {
    let Some(folder) = exports() else { return };
    let entries = std::fs::read_dir(&folder).expect("the folder is there");
    let names: Vec<String> =
        entries.filter_map(|e| Some(e.ok()?.file_name().to_str()?.strip_suffix(".onnx")?.to_string())).collect();
    let mut pairs = 0;
    for name in &names {
        for suffix in ["_dyn18", "_dyn20"] {
            let other = format!("{name}{suffix}");
            if !names.contains(&other) {
                continue;
            }
            let (a, b) = (report(&folder, name), report(&folder, &other));
            println!("{name}: {} steps, {other}: {} steps", a.steps.len(), b.steps.len());
            assert!(a.steps.len().abs_diff(b.steps.len()) <= A_FEW, "{:?}\n{:?}", kinds(&a), kinds(&b));
            pairs += 1;
        }
    }
    assert!(pairs >= 18, "only {pairs} pairs");
}

#[test]
fn what_a_scan_is_made_of_is_told() {
    let Some(folder) = exports() else { return };
    let r = report(&folder, "netmamba_scan");
    let scan = r.steps.iter().find(|s| s.kind == "SelectiveScan").expect("there is one");
    // From the body, from the loop itself, and what was fused around it: softplus, skip and gate.
    for part in ["node_exp_2", "node_sum_1", "node_scan__1", "n3", "node_add_3", "node_mul_2"] {
        assert!(scan.source_nodes.iter().any(|s| s == part), "{part} in {:?}", scan.source_nodes);
    }
    let norms = r.steps.iter().filter(|s| s.kind == "Norm").count();
    let causal = r.steps.iter().filter(|s| s.kind == "DepthwiseF32").count();
    let around = r.steps.iter().filter(|s| s.kind == "Unary" || s.kind == "Reduce").count();
    assert_eq!((norms, causal, around), (3, 2, 0), "{:?}", kinds(&r));
}

#[test]
fn a_scan_never_materialises_its_states() {
    let Some(folder) = exports() else { return };
    // 17 frames, 32 channels, a state of 4: the unrolled form as it is written holds [17, 32, 4] twice.
    for name in ["netmamba_scan", "netmamba_loop", "netmamba_unrolled", "netmamba_unrolled_dyn20"] {
        let compiled = compile(&folder.join(format!("{name}.onnx")), &Options::default()).expect("it compiles");
        let largest = compiled.graph.nodes.iter().map(|n| compiled.graph.tensors[n.output].len()).max();
        assert!(largest < Some(17 * 32 * 4), "{name}: {largest:?}");
    }
}

/// The sequence step that a model has, and how many of them, by its name.
fn sequence_steps(name: &str) -> Option<(&'static str, usize)> {
    match name.split(['_', '-']).next() {
        Some("netmamba") => Some(("SelectiveScan", 2)),
        // The step form of a memory is a product like others.
        Some("lmuformer") if !name.contains("_step") => Some(("LegendreMemory", 1)),
        _ => None,
    }
}

#[test]
fn quantised_exports_have_the_sequence_steps_of_float_ones() {
    let Some(folder) = exports() else { return };
    let entries = std::fs::read_dir(&folder).expect("the folder is there");
    let names = entries.filter_map(|e| Some(e.ok()?.file_name().to_str()?.strip_suffix(".onnx")?.to_string()));
    let mut checked = 0;
    for name in names.filter(|n| n.contains("int8")) {
        let Some((kind, n)) = sequence_steps(&name) else { continue };
        let report = report(&folder, &name);
        println!("{name} has {} steps: {:?}", report.steps.len(), kinds(&report));
        assert_eq!(kinds(&report).get(kind), Some(&n), "{name}: {kind}");
        // What the file does not round, nothing is left out of.
        let left_out = report.steps.iter().any(|s| s.roundings > 0);
        assert_eq!(left_out, !name.contains("convonly"), "{name}");
        checked += 1;
    }
    assert!(checked >= 8, "only {checked} were checked");
}

/// A model of the zoo in a form, quantised with the ranges of some inputs; the first of these, and the float model's answer.
fn quantised_model(name: &str, form: Form) -> (Graph, Vec<Array>, Vec<Array>) {
    let choices = zoo::Options { form: Some(form), ..Default::default() };
    let built = zoo::build(name, &choices, &zoo::Source::Seed(7)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let graph = import(&built.model.to_bytes(), None, &Options::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut random = Random::new(3);
    let mut input = |&t: &usize| random.array(DType::F32, &graph.tensors[t].shape);
    let calibration: Vec<Vec<Array>> = (0..8).map(|_| graph.inputs.iter().map(&mut input).collect()).collect();
    let answer = eval::run(&graph, &calibration[0]).expect("it evaluates");
    (quantised(&graph, &calibration), calibration[0].clone(), answer)
}

fn compiled(graph: &Graph, keep_loops: bool) -> Compiled {
    let options = Options { keep_loops, ..Options::default() };
    kinglet_compiler::compile(graph.clone(), &options).expect("it compiles")
}

fn left_out(report: &Report) -> usize {
    report.steps.iter().map(|s| s.roundings).sum()
}

#[test]
fn quantised_models_have_the_same_sequence_steps_in_every_form() {
    let memory = [Form::Scan, Form::Loop, Form::Conv, Form::Fft];
    for (name, forms) in [
        ("netmamba-tiny", &[Form::Scan, Form::Loop, Form::Unrolled][..]),
        ("lmuformer-tiny", &memory),
        ("lmuformer-causal-tiny", &memory),
    ] {
        let (kind, n) = sequence_steps(name).expect("it has a recurrence");
        for &form in forms {
            let (graph, inputs, float) = quantised_model(name, form);
            let literal = eval::run(&graph, &inputs).expect("it evaluates");
            let result = compiled(&graph, false);
            assert_eq!(kinds(&result.report).get(kind), Some(&n), "{name}, {form}");
            let named = graph.inputs.iter().map(|&t| graph.tensors[t].name.clone()).zip(inputs.iter().cloned());
            let got = run(&result.kgl, &named.collect()).remove("logits").expect("an output");
            let (moved, quantisation) = (sqnr(&got, &literal[0]), sqnr(&literal[0], &float[0]));
            println!(
                "{name}, {form}: {} left out, {moved:.1} dB; quantised {quantisation:.1} dB",
                left_out(&result.report)
            );
            // Leaving roundings out moves the answer less than quantising the model did.
            assert!(moved > quantisation, "{name}, {form}: {moved} dB, {quantisation} dB");
            // Loops are not quantised within, so that only the others have roundings to leave out; and they can be kept.
            assert_eq!(left_out(&result.report) > 0, !matches!(form, Form::Scan | Form::Loop), "{name}, {form}");
            assert_eq!(left_out(&compiled(&graph, true).report), 0, "{name}, {form}");
        }
    }
}

/// A grid that begins at zero may do the work of a ReLU, which the quantiser dropped.
#[test]
fn roundings_that_cut_are_never_left_out() {
    let (mut graph, ..) = quantised_model("netmamba-tiny", Form::Unrolled);
    let is_state = |n: &&kinglet_compiler::graph::Node| n.op == Op::Binary(kinglet::kernels::BinaryOp::Add);
    let sums: Vec<usize> = graph.nodes.iter().filter(is_state).map(|n| n.output).collect();
    for node in graph.nodes.clone().iter().filter(|n| n.op == Op::Quantize) {
        if node.inputs[0].is_some_and(|t| sums.contains(&t)) {
            let quant = graph.tensors[node.output].quant.as_mut().expect("it is quantised");
            quant.zero_points = vec![-128];
        }
    }
    let report = compiled(&graph, false).report;
    assert_eq!((kinds(&report).get("SelectiveScan"), left_out(&report)), (None, 0));
}

/// An impulse response that no rounding of a memory's gives is none.
#[test]
fn a_changed_response_is_no_memory() {
    let (graph, ..) = quantised_model("lmuformer-causal-tiny", Form::Conv);
    let report = compiled(&graph, false).report;
    let memory = report.steps.iter().find(|s| s.kind == "LegendreMemory").expect("there is one");
    assert_eq!(memory.roundings, 1, "its response");
    let trips = 16;
    for (steps, found) in [(1, 1), (3, 0)] {
        let mut graph = graph.clone();
        let responses = graph.tensors.iter_mut().filter(|t| t.quant.is_some() && t.shape.ends_with(&[1, trips]));
        let mut changed = 0;
        for tensor in responses {
            let Some(value) = &tensor.value else { continue };
            let mut integers = value.ints().into_owned();
            // The newest frame's, where it is small: one step more is what another rounding might have given.
            let k = (0..integers.len()).min_by_key(|&k| integers[k].abs()).expect("it has elements");
            integers[k] += steps;
            tensor.value = Some(Array::int(DType::I8, &tensor.shape, integers).into());
            changed += 1;
        }
        assert_eq!(changed, 1);
        let n = kinds(&compiled(&graph, false).report).get("LegendreMemory").copied().unwrap_or(0);
        assert!(n <= found, "{steps} steps off");
    }
}

/// A is computed in the body, from what is the same in every trip: no operand that is there outside the loop.
#[test]
fn what_a_body_computes_is_no_operand() {
    let mut body = Builder::default();
    body.formals("h x B").node("Exp", "log_a", "a", &[]).node("Neg", "a", "A", &[]);
    body.node("Mul", "x A", "da", &[]).node("Exp", "da", "e", &[]).node("Mul", "e h", "kept", &[]);
    body.node("Mul", "x B", "xb", &[]).node("Mul", "xb x", "new", &[]).node("Add", "kept new", "next", &[]);
    body.node("Mul", "next B", "r", &[]);
    body.constant(ints("last", DataType::Int64, &[1], &[1]));
    body.node("ReduceSum", "r last", "y", &[("keepdims", Value::I(0))]).outputs("next y");
    let mut b = Builder::default();
    b.input("xs", DataType::Float, &[6, 8, 1]).input("start", DataType::Float, &[8, 4]);
    b.input("Bs", DataType::Float, &[6, 1, 4]).input("log_a", DataType::Float, &[8, 4]);
    let attributes = [("num_scan_inputs", Value::I(2)), ("body", body.body())];
    let model = b.node("Scan", "start xs Bs", "end ys", &attributes).outputs("ys").build();
    let graph = import(&model.to_bytes(), None, &Options::default()).expect("it imports");
    let inputs: Vec<Array> = {
        let mut random = Random::new(5);
        graph.inputs.iter().map(|&t| random.array(DType::F32, &graph.tensors[t].shape)).collect()
    };
    let want = eval::run(&graph, &inputs).expect("it evaluates").remove(0);
    let result = compiled(&graph, false);
    let named = graph.inputs.iter().map(|&t| graph.tensors[t].name.clone()).zip(inputs);
    let got = run(&result.kgl, &named.collect()).remove("ys").expect("an output");
    assert!(sqnr(&got, &want) > 100.0);
}
