//! What the data of a run can do that no check of a plan excludes, and runs that are given up: both are said, never passed over.

use std::ops::ControlFlow;

use kinglet::{Error, Inline, Model, Observer, Quiet, Reference, Session, Workers};
use kinglet_compiler::array::Array;
use kinglet_compiler::graph::{BinaryOp, Graph, Node, Op, Tensor};
use kinglet_compiler::{Options, compile, eval, import};
use kinglet_native::{OwnedSession, Pool};
use kinglet_onnx::{DataType, ModelProto};
use kinglet_tests::Aligned;
use kinglet_tests::small_onnx::{Builder, Value, floats, ints};

fn plan(model: &ModelProto) -> Vec<u8> {
    let options = Options::default();
    compile(import(&model.to_bytes(), None, &options).expect("valid"), &options).expect("compiles").kgl
}

/// One run: what it said, and the bytes of the first output.
fn run(kgl: &[u8], inputs: &[Array], workers: &dyn Workers) -> (Result<(), Error>, Vec<u8>) {
    let file = Aligned::copy(kgl);
    let model = Model::load(file.as_ref()).expect("valid");
    let mut arena = Aligned::zeroed(model.arena_bytes_for(workers.count()));
    let mut session = Session::new(model, arena.as_mut(), &Reference).expect("the arena is large enough");
    for (i, x) in inputs.iter().enumerate() {
        session.input_bytes_mut(i).expect("an input").copy_from_slice(&x.to_bytes());
    }
    let result = session.run_with(workers, &mut Quiet);
    (result, session.output_bytes(0).expect("an output").to_vec())
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// `y = Gather(x, i)` of rows of `x`.
fn gather(x: DataType, dims: [i64; 2], indices: i64) -> ModelProto {
    let mut b = Builder::default();
    b.input("x", x, &dims).input("i", DataType::Int64, &[indices]).node("Gather", "x i", "y", &[]).outputs("y").build()
}

#[test]
fn an_index_out_of_range_is_an_error_and_selects_nothing() {
    let kgl = plan(&gather(DataType::Float, [3, 2], 4));
    let x = Array::f32(&[3, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let of = |indices: [i64; 4]| run(&kgl, &[x.clone(), Array::i64s(&indices)], &Inline);
    let (result, y) = of([2, 0, -1, -3]);
    assert_eq!((result, f32s(&y)), (Ok(()), vec![5.0, 6.0, 1.0, 2.0, 5.0, 6.0, 1.0, 2.0]));
    for bad in [3, -4, 1 << 32, (1 << 32) + 1, i64::MAX, i64::MIN] {
        let (result, y) = of([1, bad, 0, 2]);
        assert_eq!(result, Err(Error::IndexOutOfRange { step: 0 }), "{bad}");
        let y = f32s(&y);
        assert!(y[2].is_nan() && y[3].is_nan(), "{bad}: {y:?}");
        assert_eq!([&y[..2], &y[4..]].concat(), [3.0, 4.0, 1.0, 2.0, 5.0, 6.0]);
    }
    // The evaluator refuses the same data.
    let graph = import(&gather(DataType::Float, [3, 2], 4).to_bytes(), None, &Options::default()).expect("valid");
    let error = eval::run(&graph, &[x, Array::i64s(&[0, 3, 0, 0])]).expect_err("an index out of range");
    assert!(error.contains("index 3 of an axis of 3"), "{error}");
}

#[test]
fn integers_that_an_index_does_not_select_are_zero() {
    let mut b = Builder::default();
    b.input("x", DataType::Int32, &[2, 1])
        .input("i", DataType::Int32, &[2])
        .node("Gather", "x i", "y", &[])
        .outputs("y");
    let inputs =
        [Array::int(kinglet::DType::I32, &[2, 1], vec![7, 8]), Array::int(kinglet::DType::I32, &[2], vec![2, 1])];
    let (result, y) = run(&plan(&b.build()), &inputs, &Inline);
    assert_eq!((result, &y[..]), (Err(Error::IndexOutOfRange { step: 0 }), &[0, 0, 0, 0, 8, 0, 0, 0][..]));
}

#[test]
fn a_region_of_no_picture_is_an_error_and_holds_nothing() {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[2, 1, 1, 2]).input("r", DataType::Float, &[3, 4]).input("i", DataType::Int64, &[3]);
    let kgl = plan(&b.node("RoiAlign", "x r i", "y", &[]).outputs("y").build());
    // Each region is the whole picture.
    let x = Array::f32(&[2, 1, 1, 2], vec![1.0, 2.0, 3.0, 5.0]);
    let corners = Array::f32(&[3, 4], [[0.0, 0.0, 2.0, 1.0]; 3].concat());
    let of = |indices: [i64; 3]| run(&kgl, &[x.clone(), corners.clone(), Array::i64s(&indices)], &Inline);
    let (result, y) = of([1, 0, 1]);
    assert_eq!((result, f32s(&y)), (Ok(()), vec![4.0, 1.5, 4.0]));
    for bad in [2, -1, 1 << 32, i64::MIN] {
        let (result, y) = of([1, bad, 0]);
        assert!(matches!(result, Err(Error::IndexOutOfRange { .. })), "{bad}: {result:?}");
        let y = f32s(&y);
        assert!(y[1].is_nan() && [y[0], y[2]] == [4.0, 1.5], "{bad}: {y:?}");
    }
}

#[test]
fn an_update_without_a_place_goes_nowhere() {
    let x = Array::f32(&[3, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    for (op, reduction, shape) in [("ScatterElements", "add", [2i64, 2]), ("ScatterND", "none", [1, 2])] {
        let mut b = Builder::default();
        b.input("x", DataType::Float, &[3, 2]).input("i", DataType::Int64, &[2, if op == "ScatterND" { 1 } else { 2 }]);
        b.input("u", DataType::Float, &[2, 2]);
        b.node(op, "x i u", "y", &[("reduction", Value::S(reduction))]).outputs("y");
        let kgl = plan(&b.build());
        let u = Array::f32(&[2, 2], vec![10.0, 20.0, 30.0, 40.0]);
        for bad in [3, -4, 1 << 32, i64::MAX, i64::MIN] {
            let index = if op == "ScatterND" { vec![bad, -1] } else { vec![bad, 0, -1, bad] };
            let want = match op {
                "ScatterND" => [1.0, 2.0, 3.0, 4.0, 30.0, 40.0],
                _ => [1.0, 22.0, 3.0, 4.0, 35.0, 6.0],
            };
            let (result, y) =
                run(&kgl, &[x.clone(), Array::int(kinglet::DType::I64, &[index.len()], index), u.clone()], &Inline);
            assert_eq!(
                (result, f32s(&y)),
                (Err(Error::IndexOutOfRange { step: 0 }), want.to_vec()),
                "{op} {bad}, {shape:?}"
            );
        }
    }
}

/// An index out of its axis is within the tensor, where elements lie in a row: it must not select a neighbour.
#[test]
fn an_index_out_of_its_axis_selects_no_neighbour() {
    let x = Array::f32(&[2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let gather = |op: &str, axis: i64| {
        let mut b = Builder::default();
        b.input("x", DataType::Float, &[2, 3]).input("i", DataType::Int64, &[2, 2]);
        let axis = [("axis", Value::I(axis))];
        plan(&b.node(op, "x i", "y", if op == "GatherND" { &[] } else { &axis }).outputs("y").build())
    };
    for (op, axis, good, bad) in [
        ("GatherElements", 1, [0i64, -1, 2, 1], &[3i64, -4, 1 << 40, -(1 << 40), i64::MAX, i64::MIN][..]),
        ("GatherElements", 0, [0, -1, -2, 1], &[2, -3]),
        ("GatherND", 0, [0, -1, -2, 1], &[2, -3]),
    ] {
        let kgl = gather(op, axis);
        let (result, y) = run(&kgl, &[x.clone(), Array::int(kinglet::DType::I64, &[2, 2], good.to_vec())], &Inline);
        let want: &[f32] = match (op, axis) {
            ("GatherElements", 1) => &[1.0, 3.0, 6.0, 5.0],
            ("GatherElements", _) => &[1.0, 5.0, 1.0, 5.0],
            _ => &[3.0, 2.0],
        };
        assert_eq!((result, &f32s(&y)[..]), (Ok(()), want), "{op} {axis}");
        for &bad in bad {
            let mut index = good.to_vec();
            index[0] = bad;
            let (result, y) = run(&kgl, &[x.clone(), Array::int(kinglet::DType::I64, &[2, 2], index)], &Inline);
            assert!(matches!(result, Err(Error::IndexOutOfRange { .. })), "{op} {axis} {bad}: {result:?}");
            let y = f32s(&y);
            assert!(y[0].is_nan() && y[1..] == want[1..], "{op} {axis} {bad}: {y:?}");
        }
    }
}

#[test]
fn a_run_names_the_first_fault_on_any_number_of_threads_and_forgets_it() {
    // Large enough to be cut; two gathers behind each other, both of which may fail.
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[64, 600]).input("i", DataType::Int64, &[64]).input("j", DataType::Int64, &[64]);
    b.node("Gather", "x i", "a", &[]).node("Gather", "a j", "y", &[]).outputs("y");
    let kgl = plan(&b.build());
    let x = Array::f32(&[64, 600], (0..64 * 600).map(f64::from).collect());
    let straight: Vec<i64> = (0..64).collect();
    let wrong = |at: usize| (0..64).map(|i| if i == at as i64 { 64 } else { i }).collect::<Vec<i64>>();
    let pool = Pool::new(3).expect("threads");
    for workers in [&Inline as &dyn Workers, &pool] {
        for (i, j, want) in [
            (wrong(50), straight.clone(), Err(Error::IndexOutOfRange { step: 0 })),
            (straight.clone(), wrong(0), Err(Error::IndexOutOfRange { step: 1 })),
            (wrong(0), wrong(63), Err(Error::IndexOutOfRange { step: 0 })),
            (straight.clone(), straight.clone(), Ok(())),
        ] {
            let (result, y) = run(&kgl, &[x.clone(), Array::i64s(&i), Array::i64s(&j)], workers);
            assert_eq!(result, want);
            let nans = f32s(&y).iter().filter(|v| v.is_nan()).count();
            assert_eq!(nans, 600 * i.iter().chain(&j).filter(|&&i| i == 64).count());
        }
    }
    // A session says it with the step's name, and is none the worse for it.
    let mut session = OwnedSession::from_bytes(&kgl, 1).expect("valid");
    for (i, fails) in [(64i64, true), (63, false)] {
        session.input_mut::<f32>(0).expect("x").fill(1.0);
        session.input_mut::<i64>(1).expect("i").fill(i);
        session.input_mut::<i64>(2).expect("j").fill(0);
        let text = session.run().map_err(|e| e.to_string());
        assert_eq!(text.is_err(), fails);
        assert!(text.err().is_none_or(|e| e.contains("step 0") && e.contains("(`")), "the step is named");
    }
    assert!(session.output::<f32>(0).expect("y").iter().all(|&v| v == 1.0));
}

#[test]
fn integers_divided_by_zero_are_an_error() {
    for (op, a, b, want) in [
        ("Div", [7i64, 8], [2i64, 0], Err(Error::DivisionByZero { step: 0 })),
        ("Div", [7, i64::MIN], [2, -1], Ok(())),
        ("Pow", [0, 2], [-1, 3], Err(Error::DivisionByZero { step: 0 })),
        ("Pow", [0, 2], [0, -3], Ok(())),
        ("Mul", [7, 8], [2, 0], Ok(())),
    ] {
        let mut m = Builder::default();
        m.input("a", DataType::Int64, &[2]).input("b", DataType::Int64, &[2]).node(op, "a b", "y", &[]).outputs("y");
        let (result, y) = run(&plan(&m.build()), &[Array::i64s(&a), Array::i64s(&b)], &Inline);
        assert_eq!(result, want, "{op} {a:?} {b:?}");
        let y: Vec<i64> = y.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect();
        let graph = import(&m.build().to_bytes(), None, &Options::default()).expect("valid");
        match eval::run(&graph, &[Array::i64s(&a), Array::i64s(&b)]) {
            Ok(v) => assert_eq!(y, &*v[0].ints(), "{op} {a:?} {b:?}"),
            Err(e) => assert!(want.is_err() && e.contains('0'), "{e}"),
        }
        if (op, want.is_err()) == ("Div", true) {
            assert_eq!(y, [3, 0]);
        }
    }
    // Reals have infinities for it.
    let mut m = Builder::default();
    m.input("a", DataType::Float, &[1]).input("b", DataType::Float, &[1]).node("Div", "a b", "y", &[]).outputs("y");
    let (result, y) = run(&plan(&m.build()), &[Array::f32(&[1], vec![1.0]), Array::f32(&[1], vec![0.0])], &Inline);
    assert_eq!((result, f32s(&y)), (Ok(()), vec![f32::INFINITY]));
}

#[test]
fn constants_without_a_result_are_refused_with_the_node() {
    let refused = |b: &mut Builder| {
        let error =
            import(&b.outputs("y").build().to_bytes(), None, &Options::default()).map(|_| ()).expect_err("refused");
        error.to_string()
    };
    let x = |b: &mut Builder| b.input("x", DataType::Int64, &[3]).clone();
    let mut b = x(&mut Builder::default());
    let e = refused(b.constant(ints("i", DataType::Int64, &[2], &[0, 3])).node("Gather", "x i", "y", &[]));
    assert!(e.contains("Gather") && e.contains("index 3 of an axis of 3"), "{e}");
    // Folded on the way in: both operands are known.
    let mut b = Builder::default();
    b.constant(floats("x", &[3])).constant(ints("i", DataType::Int64, &[1], &[-4]));
    let e = refused(b.node("Gather", "x i", "y", &[]));
    assert!(e.contains("Gather") && e.contains("-4"), "{e}");
    let mut b = x(&mut Builder::default());
    let e = refused(b.constant(ints("z", DataType::Int64, &[3], &[1, 0, 2])).node("Div", "x z", "y", &[]));
    assert!(e.contains("Div") && e.contains("divides integers by 0"), "{e}");
    let mut b = Builder::default();
    b.constant(ints("a", DataType::Int64, &[1], &[0])).constant(ints("p", DataType::Int64, &[1], &[-1]));
    let e = refused(b.node("Pow", "a p", "y", &[]));
    assert!(e.contains("Pow") && e.contains("negative power"), "{e}");

    // Where only a pass finds that an operand is constant, the lowering refuses; nothing folds it before.
    let mut graph = Graph::default();
    let t = |graph: &mut Graph, name: &str| {
        let (dtype, shape) = (kinglet::DType::I64, vec![1]);
        graph.add_tensor(Tensor { name: name.into(), dtype, shape, quant: None, value: None })
    };
    let zero = graph.add_constant("zero", Array::i64s(&[0]));
    let (x, y) = (t(&mut graph, "x"), t(&mut graph, "y"));
    graph.nodes.push(Node::new(Op::Binary(BinaryOp::Div), vec![Some(x), Some(zero)], y, vec!["divide".into()]));
    (graph.inputs, graph.outputs, graph.output_names) = (vec![x], vec![y], vec!["y".into()]);
    let e = compile(graph, &Options::default()).map(|_| ()).expect_err("refused").to_string();
    assert!(e.contains("divide") && e.contains("by 0"), "{e}");
}

/// Stops a run before its step number `at`, counted over slices.
struct StopAt(usize);

impl Observer for StopAt {
    fn before(&mut self, _: usize) -> ControlFlow<()> {
        if self.0 == 0 {
            return ControlFlow::Break(());
        }
        self.0 -= 1;
        ControlFlow::Continue(())
    }
}

/// A running sum over the rows of `x`, as a loop whose body is a band.
fn running_sum() -> ModelProto {
    let mut body = Builder::default();
    body.formals("h v").node("Add", "h v", "s", &[]).node("Tanh", "s", "n", &[]).outputs("n s");
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[6, 4]).constant(floats("h", &[4]));
    let attributes = [("num_scan_inputs", Value::I(1)), ("body", body.body())];
    b.node("Scan", "h x", "last all", &attributes).outputs("all last").build()
}

#[test]
fn a_run_can_be_stopped_between_any_two_steps() {
    let options = Options { keep_loops: true, ..Options::default() };
    let graph = import(&running_sum().to_bytes(), None, &options).expect("valid");
    let kgl = compile(graph, &options).expect("compiles").kgl;
    let file = Aligned::copy(&kgl);
    let model = Model::load(file.as_ref()).expect("valid");
    let order: Vec<usize> = model.runs().flat_map(|(steps, n)| (0..n).flat_map(move |_| steps.clone())).collect();
    assert!(model.band_count() == 1 && order.len() > 10, "{order:?}");
    let mut arena = Aligned::zeroed(model.arena_bytes());
    let mut session = Session::new(model, arena.as_mut(), &Reference).expect("fits");
    let write = |session: &mut Session<'_, Reference>| {
        session.input_mut::<f32>(0).expect("x").iter_mut().enumerate().for_each(|(i, x)| *x = i as f32 / 10.0);
    };
    write(&mut session);
    session.run().expect("plain data");
    let want = session.output_bytes(0).expect("y").to_vec();
    for at in 0..=order.len() {
        session.reset();
        write(&mut session);
        let result = session.run_with(&Inline, &mut StopAt(at));
        match order.get(at) {
            Some(&step) => assert_eq!(result, Err(Error::Interrupted { step: step as u32 })),
            None => assert_eq!(result, Ok(()), "an observer that would have stopped behind the last step"),
        }
    }
    session.reset();
    write(&mut session);
    session.run().expect("plain data");
    assert_eq!(session.output_bytes(0).expect("y"), want);
    // The owner of a session is told, too.
    let mut owned = OwnedSession::from_bytes(&kgl, 1).expect("valid");
    let error = owned.run_observed(&mut StopAt(3)).expect_err("stopped").to_string();
    assert!(error.contains("interrupted before step"), "{error}");
}
