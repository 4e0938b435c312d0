//! Loops of which data decide how many trips they have: a bound is stated or known, a run takes no trip more than it wants, and one that
//! wants more than there may be is an error. That the results are right `golden` tests, against ONNX Runtime.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use kinglet::format::{BandRecord, TensorRecord};
use kinglet::{DType, Error as RunError, Fault, Inline, Model, Observer, Reference, Session, StepKind};
use kinglet_compiler::array::Array;
use kinglet_compiler::check::Recorder;
use kinglet_compiler::{Compiled, Error, Options, compile, eval, import};
use kinglet_onnx::{DataType, ModelProto};
use kinglet_tests::Aligned;
use kinglet_tests::hostile::lie::Lie;
use kinglet_tests::small_onnx::broad::ends;
use kinglet_tests::small_onnx::{Builder, Value, ints, reals};

/// `h = h + step` for `n` trips, at most `limit` of them if that is not 0, and `count`.
fn counted(limit: i64) -> ModelProto {
    let mut b = Builder::default();
    b.input("h", DataType::Float, &[3]).input("step", DataType::Float, &[]).input("n", DataType::Int64, &[]);
    b.constant(ints("none", DataType::Int64, &[], &[0])).constant(ints("limit", DataType::Int64, &[], &[limit]));
    let mut body = Builder::default();
    body.formals("i c v k").constant(ints("one", DataType::Int64, &[], &[1]));
    body.node("Add", "v step", "w", &[]).node("Add", "i one", "m", &[]).node("Less", "m n", "g", &[]).outputs("g w m");
    b.node("Less", "none n", "starts", &[]);
    let inputs = if limit == 0 { "_ starts h none" } else { "limit starts h none" };
    b.node("Loop", inputs, "y count", &[("body", body.body())]).outputs("y count").build()
}

/// The inputs of such a model.
fn values(step: f64, n: i64) -> [Array; 3] {
    [Array::f32(&[3], vec![1.0; 3]), Array::f32(&[], vec![step]), Array::int(DType::I64, &[], vec![n])]
}

fn compiled(model: &ModelProto, max_trips: Option<usize>) -> Result<Compiled, Error> {
    let options = Options { max_trips, ..Options::default() };
    compile(import(&model.to_bytes(), None, &options)?, &options)
}

/// The refusal of a model's only loop.
fn refusal(model: &ModelProto, max_trips: Option<usize>) -> String {
    match compiled(model, max_trips) {
        Err(Error::Unsupported(nodes)) if nodes.len() == 1 => nodes[0].to_string(),
        Err(e) => panic!("refused in another way: {e}"),
        Ok(_) => panic!("it compiles"),
    }
}

/// Counts how often each step runs.
struct Calls(Vec<usize>);

impl Observer for Calls {
    fn before(&mut self, step: usize) -> ControlFlow<()> {
        self.0[step] += 1;
        ControlFlow::Continue(())
    }
}

/// A run on `values(0.5, n)`: what it said, `y[0]`, `count`, and how often the steps of the band ran.
fn run(kgl: &[u8], n: i64) -> (Result<(), RunError>, f32, i64, Vec<usize>) {
    let file = Aligned::copy(kgl);
    let model = Model::load(file.as_ref()).expect("valid");
    let band = model.band(0).expect("a loop");
    let mut arena = Aligned::zeroed(model.arena_bytes());
    let mut session = Session::new(model, arena.as_mut(), &Reference).expect("the arena is large enough");
    for (i, value) in values(0.5, n).iter().enumerate() {
        session.input_bytes_mut(i).expect("an input").copy_from_slice(&value.to_bytes());
    }
    let mut calls = Calls(vec![0; model.step_count()]);
    let result = session.run_with(&Inline, &mut calls);
    let y = session.output_named::<f32>("y").expect("y")[0];
    let count = session.output_named::<i64>("count").expect("count")[0];
    let first = band.first_step as usize;
    (result, y, count, calls.0[first..first + band.steps as usize].to_vec())
}

/// The slices of the first band.
fn slices(kgl: &[u8]) -> u32 {
    let file = Aligned::copy(kgl);
    Model::load(file.as_ref()).expect("valid").band(0).expect("a loop").slices
}

#[test]
fn a_run_takes_the_trips_that_it_wants_and_no_more() {
    let kgl = compiled(&counted(0), Some(12)).expect("compiles").kgl;
    for n in 0..=12 {
        let (result, y, count, calls) = run(&kgl, n);
        assert_eq!((result, y, count), (Ok(()), 1.0 + 0.5 * n as f32, n), "{n} trips");
        // The condition is looked at once more, unless all trips were wanted.
        assert_eq!(calls[0], (n as usize + 1).min(12), "{n} trips");
        assert!(calls.len() > 1 && calls[1..].iter().all(|&calls| calls == n as usize), "{n} trips: {calls:?}");
    }
}

#[test]
fn a_run_that_wants_more_trips_than_there_may_be_is_an_error() {
    let kgl = compiled(&counted(0), Some(5)).expect("compiles").kgl;
    let file = Aligned::copy(&kgl);
    let step = Model::load(file.as_ref()).expect("valid").band(0).expect("a loop").first_step;
    let error = RunError::TooManyTrips { step };
    for n in [6, 7, 1 << 40, i64::MAX] {
        // It went on with what the last trip gave.
        let (result, y, count, calls) = run(&kgl, n);
        assert_eq!((result, y, count), (Err(error), 3.5, 5), "{n} trips");
        assert!(calls.iter().all(|&calls| calls == 5), "{n} trips: {calls:?}");
    }
    assert!(error.to_string().contains("--max-trips") && error.code() == 2400, "{error}");
    // The evaluator stops where the plan does.
    let options = Options { max_trips: Some(5), ..Options::default() };
    let graph = import(&counted(0).to_bytes(), None, &options).expect("imports");
    assert_eq!(eval::run(&graph, &values(0.5, 9)).expect("evaluates")[0], Array::f32(&[3], vec![3.5; 3]));
}

#[test]
fn a_known_number_of_trips_is_a_bound_that_no_run_exceeds() {
    for (limit, max_trips) in [(7, None), (7, Some(7)), (7, Some(100)), (3000, None), (1 << 20, None)] {
        let kgl = compiled(&counted(limit), max_trips).expect("compiles").kgl;
        assert_eq!(i64::from(slices(&kgl)), limit);
        for n in [0, 3, 7, 50] {
            let trips = n.min(limit);
            let (result, y, count, _) = run(&kgl, n);
            assert_eq!((result, y, count), (Ok(()), 1.0 + 0.5 * trips as f32, trips), "{n} of {limit} trips");
        }
    }
    // Less than the known number is a bound like any other.
    let kgl = compiled(&counted(7), Some(4)).expect("compiles").kgl;
    assert_eq!(run(&kgl, 4).0, Ok(()));
    assert!(matches!(run(&kgl, 5).0, Err(RunError::TooManyTrips { .. })));
}

#[test]
fn a_loop_with_a_bound_takes_no_more_memory_for_more_trips() {
    let of = |trips| compiled(&counted(0), Some(trips)).expect("compiles").report.arena_bytes;
    assert_eq!(of(2), of(1 << 20));
}

/// A loop of `n` trips, an input, over `h [3]`.
fn given(outputs: &str, results: &str, add: impl FnOnce(&mut Builder)) -> ModelProto {
    let mut b = Builder::default();
    b.input("h", DataType::Float, &[3]).input("n", DataType::Int64, &[]).constant(reals("half", &[0.5]));
    let mut body = Builder::default();
    body.formals("i c v");
    add(&mut body);
    b.node("Loop", "n _ h", outputs, &[("body", body.outputs(results).body())]).outputs(outputs).build()
}

#[test]
fn refusals_name_the_way_out() {
    let text = refusal(&counted(0), None);
    assert!(text.contains("--max-trips") && text.contains("--bind"), "{text}");
    let text = refusal(&counted(0), Some(0));
    assert!(text.contains("--max-trips"), "no trips are no bound: {text}");
    let text = refusal(&counted(0), Some((1 << 20) + 1));
    assert!(text.contains("1048576"), "{text}");
    // A number of trips beyond all plans is none.
    let text = refusal(&counted(i64::MAX), None);
    assert!(text.contains("--max-trips"), "{text}");
    assert_eq!(run(&compiled(&counted(i64::MAX), Some(9)).expect("compiles").kgl, 8).2, 8);

    let stacks = given("y all", "c w w", |b| {
        b.node("Mul", "v half", "w", &[]);
    });
    let text = refusal(&stacks, Some(9));
    assert!(text.contains("slice") && text.contains("--bind"), "{text}");
    // The way out that it names.
    let bind = BTreeMap::from([("n".to_string(), Array::int(DType::I64, &[], vec![4]))]);
    let options = Options { bind, ..Options::default() };
    compile(import(&stacks.to_bytes(), None, &options).expect("imports"), &options).expect("compiles");
    let grows = given("y", "c w", |b| {
        b.node("Concat", "v v", "w", &[("axis", Value::I(0))]);
    });
    let text = refusal(&grows, Some(9));
    assert!(text.contains("changes its shape") && text.contains("data decide"), "{text}");
    let unknown = given("y", "c w", |b| {
        b.node("Fly", "v", "w", &[]);
    });
    let Err(Error::Unsupported(nodes)) = compiled(&unknown, Some(9)) else { panic!("it compiles") };
    assert_eq!(nodes.iter().filter(|n| n.op == "Fly").count(), 1, "{nodes:?}");
}

#[test]
fn slices_that_nobody_wants_do_not_matter() {
    let model = given("y _", "c w w", |b| {
        b.node("Mul", "v half", "w", &[]);
    });
    let mut model = model;
    model.graph.as_mut().expect("a graph").output.truncate(1);
    assert_eq!(slices(&compiled(&model, Some(9)).expect("compiles").kgl), 9);
}

#[test]
fn a_loop_that_data_end_in_one_that_keeps_its_body_is_refused() {
    let mut inner = Builder::default();
    inner.formals("j d u").node("Add", "u u", "x", &[]).node("Less", "x most", "go", &[]).outputs("go x");
    let mut body = Builder::default();
    body.formals("i c v").node("Loop", "_ c v", "w", &[("body", inner.body())]).outputs("c w");
    let mut b = Builder::default();
    b.input("h", DataType::Float, &[]).input("most", DataType::Float, &[]);
    b.constant(ints("n", DataType::Int64, &[], &[2000])).node("Loop", "n _ h", "y", &[("body", body.body())]);
    let Err(Error::Unsupported(nodes)) = compiled(&b.outputs("y").build(), Some(9)) else { panic!("it compiles") };
    let texts: Vec<String> = nodes.iter().map(|n| n.to_string()).collect();
    assert!(texts.iter().any(|text| text.contains("data decide") && text.contains("at most 1024")), "{texts:?}");
}

#[test]
fn the_check_of_a_run_sees_a_loop_that_ends_early() {
    let options = Options { max_trips: Some(12), ..Options::default() };
    let imported = import(&counted(0).to_bytes(), None, &options).expect("imports");
    let compiled = compile(imported.clone(), &options).expect("compiles");
    let file = Aligned::copy(&compiled.kgl);
    let model = Model::load(file.as_ref()).expect("valid");
    for n in [0, 1, 5, 12] {
        let mut arena = Aligned::zeroed(model.arena_bytes());
        let mut session = Session::new(model, arena.as_mut(), &Reference).expect("the arena is large enough");
        for (i, value) in values(0.5, n).iter().enumerate() {
            session.input_bytes_mut(i).expect("an input").copy_from_slice(&value.to_bytes());
        }
        let mut recorder = Recorder::new(&compiled, model);
        session.run_with(&Inline, &mut recorder).expect("it runs");
        let checked = recorder.check(&imported, &values(0.5, n)).unwrap_or_else(|e| panic!("{n} trips: {e}"));
        // What is said to have been given in its place would have made something else.
        let other = recorder
            .check(&imported, &[Array::f32(&[3], vec![2.0; 3]), values(0.5, n)[1].clone(), values(0.5, n)[2].clone()]);
        assert!(checked.other > 0 && other.is_err(), "{n} trips: nothing was compared");
    }
}

fn refused_step(result: Result<(), RunError>, fault: Fault) {
    assert!(matches!(result, Err(RunError::Step { fault: f, .. }) if f == fault), "{result:?} instead of {fault:?}");
}

#[test]
fn plans_that_lie_about_the_end_of_a_loop() {
    let lie = || Lie::new(&ends());
    assert_eq!(lie().load(), Ok(()));
    let first = (0..lie().steps()).find(|&i| lie().step(i).kind == StepKind::GoOn as u32).expect("a loop that ends");
    let band = (0..lie().bands()).find(|&i| lie().band(i).first_step as usize == first).expect("its band");
    let condition = lie().operand(first, 0);
    let tensor = |change: &dyn Fn(&mut TensorRecord)| lie().change_tensor(condition, change).load();
    let of = |change: &dyn Fn(&mut BandRecord)| lie().change_band(band, change).load();

    // Fewer slices, or more, than it says.
    refused_step(of(&|b| b.slices -= 1), Fault::Params);
    refused_step(of(&|b| b.slices += 1), Fault::Params);
    // It does not come first.
    assert!(first > 0);
    let early = of(&|b| {
        b.first_step -= 1;
        b.steps += 1;
    });
    refused_step(early, Fault::Slices);
    // Another tensor than it reads; one of another type; one that moves; one that is nowhere.
    let mut other = lie();
    let elsewhere = (0..other.tensors().len()).find(|&t| t != condition).expect("there are several");
    other.set_operand(first, 1, elsewhere);
    refused_step(other.load(), Fault::Operands);
    refused_step(tensor(&|t| t.dtype = DType::U8), Fault::DType);
    assert!(tensor(&|t| t.advance = 1).is_err());
    assert!(tensor(&|t| t.offset = !63).is_err());
}
