//! Control flow: which loops keep their body and which are written out, what is refused and how, draws as inputs, and
//! recurrences that the file names. That the results are right `golden` tests, against ONNX Runtime.

use std::collections::BTreeMap;
use std::path::Path;

use kinglet::{Model, StepKind};
use kinglet_compiler::array::Array;
use kinglet_compiler::{Compiled, Error, Options, compile, eval, import};
use kinglet_onnx::{DataType, ModelProto};
use kinglet_tests::small_onnx::{Builder, Value, floats, ints, reals};
use kinglet_tests::{Aligned, Random, difference, run};

/// Loops as they are: what else becomes of recurrences is tested elsewhere.
fn kept() -> Options {
    Options { keep_loops: true, ..Options::default() }
}

fn compiled(model: &ModelProto, options: &Options) -> Result<Compiled, Error> {
    compile(import(&model.to_bytes(), None, options)?, options)
}

/// Steps and slices of each band.
fn bands(compiled: &Compiled) -> Vec<(usize, u32)> {
    let file = Aligned::copy(&compiled.kgl);
    let model = Model::load(file.as_ref()).expect("the compiler writes valid files");
    (0..model.band_count()).filter_map(|i| model.band(i)).map(|b| (b.steps as usize, b.slices)).collect()
}

/// Slices of the bands of a golden case.
fn slices(name: &str) -> Vec<u32> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("golden/cases/{name}.onnx"));
    let compiled = kinglet_tests::compile(&path, &kept()).unwrap_or_else(|e| panic!("{name}: {e}"));
    bands(&compiled).into_iter().map(|(_, slices)| slices).collect()
}

#[test]
fn trips_that_can_share_a_body_do() {
    for (name, want) in [
        ("scan_9", &[6][..]),
        ("scan_20", &[6]),
        ("scan_two_states", &[5]),
        ("scan_axes_and_directions", &[5]),
        ("scan_without_state", &[4]),
        ("scan_without_outputs", &[6]),
        ("scan_first_states", &[5]),
        ("scan_behind_scan", &[7, 7]),
        ("scan_gated", &[6]),
        ("scan_pictures", &[4]),
        ("scan_dequantises", &[5]),
        ("scan_joins_and_cuts", &[7]),
        ("loop_16", &[6]),
        ("loop_two_trips", &[2]),
        ("loop_limit_of_shape", &[5]),
        ("loop_counter", &[6]),
        ("loop_counter_selects", &[6]),
        ("loop_condition_from_weights", &[4]),
        ("loop_fibonacci", &[7]),
        ("loop_rotation", &[5]),
        ("loop_old_state", &[5]),
        ("loop_constants", &[4]),
        ("loop_integers_and_booleans", &[5]),
        ("loop_long", &[3000]),
        ("loop_in_loop", &[4]),
        ("loop_in_scan", &[5]),
        ("loop_in_long_loop", &[1500]),
        ("loop_long_in_loop", &[1500, 1500, 1500, 1500]),
        ("if_in_loop_by_data", &[6]),
        ("loop_appends_stacked", &[5]),
        ("loop_appends_two_sequences", &[4]),
    ] {
        assert_eq!(slices(name), want, "{name}");
    }
}

#[test]
fn trips_that_differ_are_written_out() {
    for name in [
        "scan_of_one",
        "loop_one_trip",
        "loop_no_trips",
        "loop_starts_false",
        "loop_counter_slices",
        "loop_ends_early",
        "loop_without_limit",
        "loop_without_limit_counts",
        "loop_grows",
        "loop_changes_type",
        "if_in_loop_by_counter",
        "loop_appends_one",
        "loop_appends_other_lengths",
        "loop_appends_to_some",
        "loop_keeps_a_sequence",
    ] {
        assert!(slices(name).is_empty(), "{name} has bands");
    }
}

fn body(formals: &str, outputs: &str, add: impl FnOnce(&mut Builder)) -> Value<'static> {
    let mut b = Builder::default();
    b.formals(formals);
    add(&mut b);
    b.outputs(outputs).body()
}

/// A model with `h [3]`, `n` trips and a loop with the given body that carries `h` and gives the outputs.
fn looped(n: i64, outputs: &str, graph: Value<'static>) -> ModelProto {
    let mut b = Builder::default();
    b.input("h", DataType::Float, &[3]).constant(ints("n", DataType::Int64, &[], &[n])).constant(reals("half", &[0.5]));
    b.node("Loop", "n _ h", outputs, &[("body", graph)]).outputs(outputs).build()
}

/// The nodes that a model is refused for.
fn refused(model: &ModelProto) -> Vec<kinglet_compiler::Unsupported> {
    match compiled(model, &Options::default()) {
        Err(Error::Unsupported(nodes)) => nodes,
        Err(e) => panic!("refused in another way: {e}"),
        Ok(_) => panic!("it compiles"),
    }
}

#[test]
fn what_a_body_computes_is_copied_only_where_it_must_be() {
    let halving = |outputs: &str| {
        body("i t v", outputs, |b| {
            b.node("Mul", "v half", "w", &[]);
        })
    };
    // The new value goes into the slice, and from there to where it is carried.
    let c = compiled(&looped(9, "y all", halving("t w w")), &kept()).expect("compiles");
    assert_eq!(bands(&c), [(2, 9)]);
    // The old value is still read when the new one is there: both are copied.
    let c = compiled(&looped(9, "y old", halving("t w v")), &kept()).expect("compiles");
    assert_eq!(bands(&c), [(3, 9)]);
    // Nothing reads the old value any more: the last step computes straight into its place.
    let graph = body("i t v", "t q", |b| {
        b.node("Mul", "v half", "p", &[]).node("Tanh", "p", "q", &[]);
    });
    let c = compiled(&looped(9, "y", graph), &kept()).expect("compiles");
    assert_eq!(bands(&c), [(2, 9)]);
    // What goes through untouched is not copied in every trip.
    let c = compiled(&looped(9, "y", body("i t v", "t v", |_| {})), &kept()).expect("compiles");
    assert!(bands(&c).is_empty(), "{:?}", bands(&c));
}

#[test]
fn a_loop_takes_no_more_memory_for_more_trips() {
    let of = |trips: i64| {
        let graph = body("i t v", "t w", |b| {
            b.node("Mul", "v half", "p", &[]).node("Tanh", "p", "q", &[]).node("Add", "q v", "w", &[]);
        });
        compiled(&looped(trips, "y", graph), &kept()).expect("compiles").report
    };
    let (few, many) = (of(2), of(100_000));
    assert_eq!(few.arena_bytes, many.arena_bytes);
    assert_eq!(few.steps.len(), many.steps.len());
    assert!(many.steps.iter().any(|s| s.slices == 100_000));
}

#[test]
fn an_unknown_operator_in_a_body_is_named_once() {
    for trips in [1, 7, 1000, 5000] {
        let graph = body("i t v", "t w w", |b| {
            b.node("Fly", "v", "w", &[]);
        });
        let mut model = looped(trips, "y z", graph);
        // A reader of the loop's results has nothing to add.
        let mut b = Builder::default();
        let extra = b.node("Relu", "z", "r", &[]).build().graph.expect("a graph").node;
        model.graph.as_mut().expect("a graph").node.extend(extra);
        let nodes = refused(&model);
        let named: Vec<&str> = nodes.iter().map(|n| n.op.as_str()).collect();
        assert_eq!(named.iter().filter(|op| **op == "Fly").count(), 1, "{trips} trips: {named:?}");
        assert!(named.len() <= 2, "{trips} trips: {named:?}");
    }
}

#[test]
fn loops_that_cannot_be_compiled_say_why() {
    let growing = || {
        body("i t v", "t w", |b| {
            b.node("Concat", "v v", "w", &[("axis", Value::I(0))]);
        })
    };
    let stacking = || {
        body("i t v", "g w w", |b| {
            b.node("Mul", "v half", "w", &[]).node("ReduceMax", "w", "m", &[]).node("Less", "m half", "g", &[]);
        })
    };
    let counting = || {
        body("i t v", "g w", |b| {
            b.node("Mul", "v half", "w", &[]).constant(ints("far", DataType::Int64, &[], &[1 << 40]));
            b.node("Less", "i far", "g", &[]);
        })
    };
    let nested = |trips: i64| {
        let graph = body("i t v", "t w", |b| {
            let inner = body("j u x", "u z", |b| {
                b.node("Mul", "x half", "z", &[]);
            });
            b.constant(ints("m", DataType::Int64, &[], &[trips])).node("Loop", "m _ v", "w", &[("body", inner)]);
        });
        looped(trips, "y", graph)
    };
    compiled(&nested(1024), &Options::default()).expect("one is written out");
    for (what, model, text) in [
        ("two long loops in each other", nested(1025), "loop in the body of a loop"),
        ("a shape that changes over too many trips", looped(5000, "y", growing()), "changes its shape"),
        ("slices of as many trips as data want", looped(50, "y all", stacking()), "data decide how many trips"),
        ("no end", looped(i64::MAX, "y", counting()), "more than 1024 trips"),
    ] {
        let nodes = refused(&model);
        let loops: Vec<String> = nodes.iter().filter(|n| n.op == "Loop").map(|n| n.to_string()).collect();
        assert!(loops.len() == 1 && loops[0].contains(text), "{what}: {nodes:?}");
        assert!(!nodes[0].remedy.is_empty(), "{what}: no way out");
    }
}

#[test]
fn results_that_nobody_wants_may_be_absent() {
    for absent in [0, 1] {
        let mut b = Builder::default();
        b.input("x", DataType::Float, &[4, 3]).input("h", DataType::Float, &[3]);
        let graph = body("s v", "a p", |b| {
            b.node("Add", "s v", "a", &[]).node("Mul", "a v", "p", &[]);
        });
        let outputs = ["_ y", "y _"][absent];
        b.node("Scan", "h x", outputs, &[("num_scan_inputs", Value::I(1)), ("body", graph)]).outputs("y");
        let c = compiled(&b.build(), &kept()).expect("compiles");
        let of = |shape: &[usize]| Array::f32(shape, (1..=shape.iter().product()).map(|v: usize| v as f64).collect());
        let y = &run(&c.kgl, &BTreeMap::from([("x".into(), of(&[4, 3])), ("h".into(), of(&[3]))]))["y"];
        let want = if absent == 0 { vec![2.0, 8.0, 18.0] } else { vec![23.0, 28.0, 33.0] };
        assert_eq!(y.reals()[..3], want, "{outputs}");
    }
}

#[test]
fn a_computed_condition_and_branches_of_other_shapes_are_refused() {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[2, 3]).input("c", DataType::Bool, &[]);
    let then = body("", "y1", |b| {
        b.node("Relu", "x", "y1", &[]);
    });
    let other = body("", "y2", |b| {
        b.node("ReduceMax", "x", "y2", &[]);
    });
    b.node("If", "c", "y", &[("then_branch", then), ("else_branch", other)]).outputs("y");
    let model = b.build();
    let nodes = refused(&model);
    assert_eq!(nodes.len(), 1);
    let text = nodes[0].to_string();
    assert!(text.contains("[2, 3]") && text.contains("[1, 1]") && text.contains("give them"), "{text}");
    // The way out that the text names: the condition's value.
    let values = BTreeMap::from([("c".to_string(), Array::int(kinglet::DType::Bool, &[], vec![1]))]);
    let c = compiled(&model, &Options { values, ..Options::default() }).expect("compiles for a given condition");
    assert_eq!(c.report.steps.len(), 1);
}

#[test]
fn draws_are_refused_with_the_flag_that_helps() {
    for (op, inputs) in
        [("RandomNormal", ""), ("RandomUniform", ""), ("RandomNormalLike", "x"), ("RandomUniformLike", "x")]
    {
        let mut b = Builder::default();
        let shape = [("shape", Value::Is(&[2, 3]))];
        let attributes = if inputs.is_empty() { &shape[..] } else { &[] };
        b.input("x", DataType::Float, &[2, 3]).node(op, inputs, "noise", attributes);
        let model = b.node("Add", "x noise", "y", &[]).outputs("y").build();
        let nodes = refused(&model);
        assert_eq!((nodes.len(), nodes[0].op.as_str()), (1, op));
        assert!(nodes[0].to_string().contains("--draws-as-inputs"), "{}", nodes[0]);

        let options = Options { draws_as_inputs: true, ..Options::default() };
        let c = compiled(&model, &options).expect("compiles with its draws as inputs");
        let value = |v: f64| Array::f32(&[2, 3], (0..6).map(|i| v * f64::from(i)).collect());
        let inputs = BTreeMap::from([("x".to_string(), value(1.0)), ("noise".to_string(), value(0.5))]);
        assert_eq!(run(&c.kgl, &inputs)["y"], value(1.5), "{op}");
    }
}

#[test]
fn draws_have_the_shape_and_type_that_the_node_says() {
    let options = Options { draws_as_inputs: true, ..Options::default() };
    let of = |op: &str, attributes: &[(&str, Value<'_>)]| {
        let mut b = Builder::default();
        b.input("x", DataType::Int64, &[4]).node(op, if op.ends_with("Like") { "x" } else { "" }, "noise", attributes);
        let graph = import(&b.node("Neg", "noise", "y", &[]).outputs("y").build().to_bytes(), None, &options)?;
        let t = &graph.tensors[*graph.inputs.last().expect("it has inputs")];
        Ok::<_, Error>((t.name.clone(), t.dtype, t.shape.clone()))
    };
    let noise = |shape: &[usize]| ("noise".to_string(), kinglet::DType::F32, shape.to_vec());
    assert_eq!(of("RandomNormal", &[("shape", Value::Is(&[2, 5]))]).expect("imports"), noise(&[2, 5]));
    assert_eq!(of("RandomUniformLike", &[("dtype", Value::I(1))]).expect("imports"), noise(&[4]));
    // Like a tensor of integers: no kernel reads such a draw.
    let result = of("RandomNormalLike", &[]);
    assert!(matches!(result, Err(Error::Unsupported(_))), "{result:?}");
    for shape in [&[-1][..], &[0], &[i64::MAX], &[1 << 20, 1 << 20]] {
        let result = of("RandomNormal", &[("shape", Value::Is(shape))]);
        assert!(result.is_err(), "a draw of shape {shape:?}: {result:?}");
    }
}

#[test]
fn every_trip_draws_anew() {
    let graph = body("i t v", "t w", |b| {
        b.node("RandomNormalLike", "v", "noise", &[]).node("Add", "v noise", "w", &[]);
    });
    let options = Options { draws_as_inputs: true, ..Options::default() };
    let c = compiled(&looped(3, "y", graph), &options).expect("compiles, written out");
    let names: Vec<&str> = c.graph.inputs.iter().map(|&t| c.graph.tensors[t].name.as_str()).collect();
    assert_eq!(names, ["h", "noise", "noise.1", "noise.2"]);
    let of = |v: f64| Array::f32(&[3], vec![v; 3]);
    let inputs = names.iter().zip([1.0, 10.0, 100.0, 1000.0]).map(|(n, v)| (n.to_string(), of(v))).collect();
    assert_eq!(run(&c.kgl, &inputs)["y"], of(1111.0));
}

/// The model's only step, and the largest difference of a run from the evaluation of the graph as imported, as a part of the
/// largest magnitude.
fn one_step(b: &mut Builder) -> (StepKind, f64) {
    let model = b.build();
    let graph = import(&model.to_bytes(), None, &Options::default()).expect("imports");
    let mut random = Random::new(4);
    let values: Vec<Array> =
        graph.inputs.iter().map(|&t| random.array(graph.tensors[t].dtype, &graph.tensors[t].shape)).collect();
    let want = eval::run(&graph, &values).expect("evaluates");
    let named = graph.inputs.iter().zip(&values).map(|(&t, v)| (graph.tensors[t].name.clone(), v.clone())).collect();
    let names = graph.output_names.clone();
    let c = compile(graph, &Options::default()).expect("compiles");
    let file = Aligned::copy(&c.kgl);
    let loaded = Model::load(file.as_ref()).expect("valid");
    let kinds: Vec<StepKind> = (0..loaded.step_count()).filter_map(|i| loaded.step(i).kind()).collect();
    let recurrences: Vec<&StepKind> = kinds.iter().filter(|k| **k != StepKind::Copy).collect();
    assert_eq!(recurrences.len(), 1, "{kinds:?}");
    let got = run(&c.kgl, &named);
    // What is not made to fade grows, and its rounding errors with it.
    let part = |(worst, magnitude): (f64, f64)| worst / magnitude.max(1.0);
    let worst = names.iter().zip(&want).map(|(n, w)| part(difference(&got[n], w))).fold(0.0, f64::max);
    (*recurrences[0], worst)
}

#[test]
fn custom_nodes_become_their_steps() {
    let mut b = Builder::default();
    for (name, dims) in [("x", [2, 5, 3]), ("delta", [2, 5, 3]), ("b", [2, 5, 4]), ("c", [2, 5, 4]), ("h", [2, 3, 4])] {
        b.input(name, DataType::Float, &dims);
    }
    b.constant(floats("a", &[3, 4])).constant(floats("d", &[3])).input("z", DataType::Float, &[2, 5, 3]);
    b.node("ai.kinglet.SelectiveScan", "x delta a b c d z h", "y hn", &[("delta_softplus", Value::I(1))]);
    let (kind, worst) = one_step(b.outputs("y hn"));
    assert_eq!(kind, StepKind::SelectiveScan);
    assert!(worst < 1e-5, "{worst}");

    let mut b = Builder::default();
    b.input("u", DataType::Float, &[2, 5, 3]).input("m", DataType::Float, &[2, 27]);
    // A matrix that does not make the memory grow.
    let small = floats("A", &[9, 9]).float_data.iter().map(|v| v * 0.3).collect();
    b.constant(kinglet_onnx::TensorProto { float_data: small, ..floats("A", &[9, 9]) }).constant(floats("B", &[9]));
    b.node("ai.kinglet.LegendreMemory", "u A B m", "ms last", &[]);
    let (kind, worst) = one_step(b.outputs("ms last"));
    assert_eq!(kind, StepKind::LegendreMemory);
    assert!(worst < 1e-5, "{worst}");
}

/// Against the formulas of `docs/operators.md`, written down once more here: neither importer nor evaluator has a say.
#[test]
fn custom_nodes_compute_what_the_document_says() {
    let mut b = Builder::default();
    b.input("u", DataType::Float, &[1, 3, 2]).constant(floats("A", &[2, 2])).constant(floats("B", &[2]));
    b.node("ai.kinglet.LegendreMemory", "u A B", "m last", &[]).outputs("m last");
    let c = compiled(&b.build(), &Options::default()).expect("compiles");
    let u = [0.5, -1.0, 0.25, 2.0, -0.75, 1.0];
    let outputs = run(&c.kgl, &BTreeMap::from([("u".to_string(), Array::f32(&[1, 3, 2], u.to_vec()))]));
    let (a, bv) = (floats("A", &[2, 2]).float_data, floats("B", &[2]).float_data);
    let mut memory = [[0f64; 2]; 2];
    let mut want = Vec::new();
    for t in 0..3 {
        for (channel, m) in memory.iter_mut().enumerate() {
            let next = |i: usize| {
                f64::from(a[2 * i]) * m[0] + f64::from(a[2 * i + 1]) * m[1] + f64::from(bv[i]) * u[2 * t + channel]
            };
            *m = [next(0), next(1)];
            want.extend(*m);
        }
    }
    // Channel by channel, each with its coefficients.
    assert_eq!(outputs["m"].shape, [1, 3, 4]);
    assert!(outputs["m"].reals().iter().zip(&want).all(|(g, w)| (g - w).abs() < 1e-6), "{:?}", outputs["m"]);
    assert_eq!(outputs["last"].shape, [1, 4]);
    assert_eq!(&outputs["last"].reals()[..], &outputs["m"].reals()[8..]);
}
