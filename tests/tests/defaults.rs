//! Inputs with a default: which of them are inputs of the plan, which are bound, and what a plan says of them.

use std::collections::BTreeMap;

use kinglet::format::{ABSENT, Section};
use kinglet::{Model, Reference, Session};
use kinglet_compiler::array::Array;
use kinglet_compiler::{Compiled, Error, Options, compile, import, shape_of_inputs};
use kinglet_onnx::{DataType, Dimension, ModelProto};
use kinglet_tests::hostile::plan;
use kinglet_tests::small_onnx::{Builder, Value, floats, ints};
use kinglet_tests::{Aligned, options_for, run};

/// `y = x + h` with the state `h [2]`, whose default is `floats("h")`.
fn step() -> ModelProto {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[2]).input("h", DataType::Float, &[2]).constant(floats("h", &[2]));
    b.node("Add", "x h", "y", &[]).outputs("y").build()
}

fn compiled(model: &ModelProto, options: &Options) -> Result<Compiled, Error> {
    compile(import(&model.to_bytes(), None, options)?, options)
}

fn reals(values: &[f64]) -> Array {
    Array::f32(&[values.len()], values.to_vec())
}

fn given(list: &[(&str, Array)]) -> BTreeMap<String, Array> {
    list.iter().map(|(name, a)| (name.to_string(), a.clone())).collect()
}

/// What the default of `h` is.
fn default() -> Array {
    let values = floats("h", &[2]).float_data;
    reals(&values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>())
}

#[test]
fn a_state_is_an_input_of_the_plan_and_says_its_default() {
    let c = compiled(&step(), &Options::default()).expect("compiles");
    assert!(c.report.bound_inputs.is_empty());
    let file = Aligned::copy(&c.kgl);
    let model = Model::load(file.as_ref()).expect("loads");
    let defaults: Vec<Option<&[u8]>> = (0..3).map(|i| model.input_default(i)).collect();
    let bytes = default().to_bytes().into_owned();
    assert_eq!(defaults, [None, Some(&bytes[..]), None]);
    let x = reals(&[1.0, 2.0]);
    let sum = |h: &Array| reals(&[1.0 + h.reals()[0], 2.0 + h.reals()[1]]);
    let other = reals(&[7.0, -8.0]);
    assert_eq!(run(&c.kgl, &given(&[("x", x.clone())]))["y"], sum(&default()));
    assert_eq!(run(&c.kgl, &given(&[("x", x.clone()), ("h", other.clone())]))["y"], sum(&other));
    // The same by the session: a default is written like any other value, before every run.
    let mut arena = Aligned::zeroed(model.arena_bytes());
    let mut session = Session::new(model, arena.as_mut(), &Reference).expect("fits");
    for _ in 0..2 {
        session.input_bytes_mut(0).expect("x").copy_from_slice(&x.to_bytes());
        session.set_default(1).expect("h has a default");
        session.run().expect("nothing can go wrong");
        assert_eq!(session.output_bytes(0).expect("y"), &sum(&default()).to_bytes()[..]);
    }
    assert_eq!(session.set_default(0), Err(kinglet::Error::NoSuchTensor));
    assert_eq!(session.set_default(2), Err(kinglet::Error::NoSuchTensor));
}

#[test]
fn the_inputs_of_a_file_say_which_have_a_default() {
    let of = |model: &ModelProto| -> Vec<(String, bool)> {
        let inputs = shape_of_inputs(&model.to_bytes()).expect("valid");
        inputs.into_iter().map(|i| (i.name, i.has_default)).collect()
    };
    assert_eq!(of(&step()), [("x".to_string(), false), ("h".to_string(), true)]);
    // Before IR version 4 every initialiser was listed, and is a constant.
    let old = ModelProto { ir_version: 3, ..step() };
    assert_eq!(of(&old), [("x".to_string(), false)]);
    let c = compiled(&old, &Options::default()).expect("compiles");
    let names: Vec<&str> = c.graph.inputs.iter().map(|&t| c.graph.tensors[t].name.as_str()).collect();
    assert_eq!(names, ["x"]);
    assert!(c.report.bound_inputs.is_empty());
}

#[test]
fn what_must_be_constant_is_bound_to_the_value_given_or_the_default() {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[1, 2, 3]).input("w", DataType::Float, &[1, 2, 1]).constant(floats("w", &[1, 2, 1]));
    b.input("to", DataType::Int64, &[1]).constant(ints("to", DataType::Int64, &[1], &[3]));
    b.input("h", DataType::Float, &[3]).constant(floats("h", &[3]));
    b.node("Conv", "x w", "c", &[]).node("Reshape", "c to", "r", &[]).node("Add", "r h", "y", &[]);
    let model = b.outputs("y").build();
    let x = Array::f32(&[1, 2, 3], vec![1.0, 2.0, 3.0, 10.0, 20.0, 30.0]);
    let h = Array::f32(&[3], floats("h", &[3]).float_data.iter().map(|&v| v.into()).collect());
    let expected = |w: [f64; 2]| -> Vec<f64> {
        (0..3).map(|i| w[0] * x.reals()[i] + w[1] * x.reals()[3 + i] + h.reals()[i]).collect()
    };
    let own: Vec<f64> = floats("w", &[1, 2, 1]).float_data.iter().map(|&v| v.into()).collect();
    let other = Array::f32(&[1, 2, 1], vec![0.5, 2.0]);
    for (values, want) in [
        (given(&[("x", x.clone())]), expected([own[0], own[1]])),
        (given(&[("x", x.clone()), ("w", other)]), expected([0.5, 2.0])),
    ] {
        let c = compiled(&model, &options_for(&values)).expect("compiles");
        assert_eq!(c.report.bound_inputs, ["to", "w"]);
        let names: Vec<&str> = c.graph.inputs.iter().map(|&t| c.graph.tensors[t].name.as_str()).collect();
        assert_eq!(names, ["x", "h"]);
        assert_eq!(run(&c.kgl, &given(&[("x", x.clone())]))["y"], reals(&want));
    }
}

#[test]
fn what_is_only_found_needed_in_a_body_is_bound_too() {
    // The body wants the shape, which comes in from outside.
    let mut body = Builder::default();
    body.formals("i c v").node("Reshape", "v to", "r", &[]).node("Add", "r r", "w", &[]);
    body.node("Identity", "c", "go", &[]).outputs("go w");
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[2]).input("to", DataType::Int64, &[1]);
    b.constant(ints("to", DataType::Int64, &[1], &[2])).constant(ints("n", DataType::Int64, &[], &[2000]));
    b.node("Loop", "n _ x", "y", &[("body", body.body())]).outputs("y");
    let c = compiled(&b.build(), &Options::default()).expect("compiles");
    assert_eq!(c.report.bound_inputs, ["to"]);
}

#[test]
fn a_default_that_does_not_fit_the_shape_asked_for_is_none() {
    let mut model = step();
    for input in &mut model.graph.as_mut().expect("a graph").input {
        let tensor = input.r#type.as_mut().and_then(|t| t.tensor_type.as_mut()).expect("a tensor");
        tensor.shape.as_mut().expect("a shape").dim[0].value = Some(Dimension::Param("n".into()));
    }
    let has_default = |options: &Options| {
        let c = compiled(&model, options).expect("compiles");
        let file = Aligned::copy(&c.kgl);
        let plan = Model::load(file.as_ref()).expect("loads");
        let shape = plan.tensor(plan.input_tensor(0).expect("x")).shape().to_vec();
        (shape, plan.input_default(1).is_some())
    };
    // Where nothing else says it, a default says what a symbol is.
    assert_eq!(has_default(&Options::default()), (vec![2], true));
    let three = Options { dims: BTreeMap::from([("n".to_string(), 3)]), ..Options::default() };
    assert_eq!(has_default(&three), (vec![3], false));
}

#[test]
fn an_initialiser_of_another_type_or_rank_than_the_input_is_refused() {
    for (constant, part) in
        [(ints("h", DataType::Int64, &[2], &[1, 2]), "its initialiser i64 of rank 1"), (floats("h", &[1, 2]), "rank 2")]
    {
        let mut b = Builder::default();
        b.input("x", DataType::Float, &[2]).input("h", DataType::Float, &[2]).constant(constant);
        let model = b.node("Add", "x h", "y", &[]).outputs("y").build();
        let reason = compiled(&model, &Options::default()).map(|_| ()).expect_err("refused").to_string();
        assert!(reason.contains("input `h`") && reason.contains(part), "{reason}");
    }
}

#[test]
fn a_body_may_have_a_constant_of_the_name_of_a_default() {
    let mut body = Builder::default();
    body.formals("v s").constant(floats("h", &[2])).node("Add", "s h", "t", &[]);
    body.node("Add", "v t", "w", &[]).outputs("w");
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[3, 2]).input("h", DataType::Float, &[2]).constant(floats("h", &[2]));
    b.node("Scan", "h x", "y", &[("body", body.body()), ("num_scan_inputs", Value::I(1))]).outputs("y");
    let c = compiled(&b.build(), &Options::default()).expect("compiles");
    assert_eq!(c.graph.inputs.len(), 2);
}

#[test]
fn a_plan_that_lies_about_a_default_is_refused() {
    let c = compiled(&step(), &Options::default()).expect("compiles");
    let layout = plan::sections(&c.kgl);
    let (at, bytes) = plan::section(&c.kgl, Section::Io);
    assert_eq!(bytes, 7 * 4, "two inputs, one output, two defaults");
    let io = at / 4;
    let (input, default) = (plan::word(&c.kgl, io + 2), plan::word(&c.kgl, io + 6));
    assert_eq!(plan::word(&c.kgl, io + 5), ABSENT);
    let loads = |word: usize, value: u32| {
        let mut file = Aligned::copy(&c.kgl);
        plan::set(file.as_mut(), word, value);
        plan::seal(file.as_mut(), &layout);
        Model::load(file.as_ref()).map(|_| ())
    };
    assert_eq!(loads(io + 6, default), Ok(()));
    assert_eq!(loads(io + 6, ABSENT), Ok(()));
    // In the arena; not there at all; of the wrong number of bytes.
    assert_eq!(loads(io + 6, input), Err(kinglet::Error::Tensor { tensor: input }));
    assert_eq!(loads(io + 6, 999), Err(kinglet::Error::Tensor { tensor: 999 }));
    assert!(loads(io, 3).is_err() && loads(io + 1, 2).is_err());
}
