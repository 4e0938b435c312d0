//! Inputs whose shape the model leaves open, or says nothing of; loops with a bound.

use kinglet_cli::Status;
use kinglet_onnx::{Dimension, DimensionProto, ModelProto};

use crate::common::{Folder, floats, model, npy};

/// `relu.onnx` with another declaration of its input, as `open.onnx`.
fn with_open_input(change: impl FnOnce(&mut kinglet_onnx::TensorTypeProto)) -> Folder {
    let folder = Folder::new();
    let mut proto = ModelProto::from_bytes(&model("Relu", "x", "y")).unwrap();
    let graph = proto.graph.as_mut().unwrap();
    graph.output[0].r#type = None;
    change(graph.input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap());
    folder.write("open.onnx", &proto.to_bytes());
    folder.write("x.npy", &npy("<f4", "(2, 3)", &floats(&[1.0, -2.0, 3.0, -4.0, 5.0, -6.0])));
    folder.write("one.npy", &npy("<f4", "()", &floats(&[-1.5])));
    folder.write("none.npy", &npy("<f4", "(2, 0)", &[]));
    folder
}

#[test]
fn an_input_without_a_shape_takes_that_of_its_array() {
    let folder = with_open_input(|t| t.shape = None);
    let out = folder.ok("run open.onnx --input x=x.npy");
    assert!(out.contains("2x3"), "{out}");
    let out = folder.ok("run open.onnx --input x=one.npy");
    assert!(out.contains("scalar"), "{out}");
    folder.ok("verify open.onnx --input x=x.npy");
    // Not of one without elements, and not of none.
    folder.fails("run open.onnx --input x=none.npy", Status::Failed, &["`x` (f32 of any shape)", "2x0"]);
    folder.fails("run open.onnx", Status::Usage, &["`x` (f32 of any shape)", "--input x=FILE"]);
}

#[test]
fn an_input_without_a_shape_is_given_one() {
    let folder = with_open_input(|t| t.shape = None);
    for line in ["convert open.onnx -o y.kgl", "bench open.onnx --runs 1", "verify open.onnx", "inspect open.onnx"] {
        folder.fails(line, Status::Usage, &["`x`", "--shape x="]);
        folder.ok(&format!("{line} --shape x=2x3"));
    }
    assert_eq!(folder.json("inspect y.kgl --json")["inputs"][0]["shape"], serde_json::json!([2, 3]));
    folder.ok("convert open.onnx -o y.kgl --shape x=scalar");
    assert_eq!(folder.json("inspect y.kgl --json")["inputs"][0]["shape"], serde_json::json!([]));
    // An array has to have it, too.
    folder.ok("run open.onnx --input x=x.npy --shape x=2x3");
    folder.fails("run open.onnx --input x=x.npy --shape x=3x2", Status::Failed, &["`x` (f32 3x2)", "shape 2x3"]);
    folder.fails("run y.kgl --input x=one.npy --shape x=scalar", Status::Usage, &["--shape has no effect"]);
    folder.fails("convert open.onnx -o y.kgl --shape z=2", Status::Usage, &["no such input", "`x`"]);
    for bad in ["x", "x=", "=2", "x=0", "x=2x", "x=-1", "x=2,3"] {
        folder.fails(&format!("convert open.onnx -o y.kgl --shape {bad}"), Status::Usage, &["NAME=NxN"]);
    }
}

#[test]
fn a_shape_binds_what_is_open_and_contradicts_nothing() {
    let open = |value| DimensionProto { value };
    let folder = with_open_input(|t| {
        let dims = &mut t.shape.as_mut().unwrap().dim;
        *dims = vec![open(None), open(Some(Dimension::Value(3)))];
    });
    folder.ok("run open.onnx --input x=x.npy");
    folder.ok("convert open.onnx -o y.kgl --shape x=7x3");
    assert_eq!(folder.json("inspect y.kgl --json")["inputs"][0]["shape"], serde_json::json!([7, 3]));
    for bad in ["7x4", "7", "7x3x1", "scalar"] {
        let line = format!("convert open.onnx -o y.kgl --shape x={bad}");
        folder.fails(&line, Status::Usage, &["--shape x=", "(f32 x_0x3)"]);
    }
}

#[test]
fn a_shape_given_twice_says_one_thing() {
    let folder = with_open_input(|t| t.shape = None);
    let line = "convert open.onnx -o y.kgl --shape x=2x3 --shape";
    folder.fails(&format!("{line} x=4"), Status::Usage, &["--shape x is given twice"]);
    folder.ok(&format!("{line} x=2x3"));
}

#[test]
fn a_shape_binds_symbols_of_other_inputs() {
    let folder = Folder::new();
    let mut proto = ModelProto::from_bytes(&model("Relu", "x", "z")).unwrap();
    let graph = proto.graph.as_mut().unwrap();
    graph.output[0].r#type = None;
    let dims = &mut graph.input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().shape.as_mut().unwrap().dim;
    *dims = vec![Dimension::Param("n".into()), Dimension::Value(3)]
        .into_iter()
        .map(|value| DimensionProto { value: Some(value) })
        .collect();
    let mut other = graph.input[0].clone();
    other.name = "y".into();
    graph.input.push(other);
    graph.node[0].op_type = "Add".into();
    graph.node[0].input.push("y".into());
    folder.write("sym.onnx", &proto.to_bytes());
    folder.fails("verify sym.onnx", Status::Usage, &["unbound dimension `n`"]);
    for given in ["--shape x=7x3", "--shape y=7x3", "--shape x=7x3 --dim n=7", "--shape x=7x3 --shape y=7x3"] {
        folder.ok(&format!("verify sym.onnx {given}"));
    }
    folder.fails("verify sym.onnx --shape x=7x3 --shape y=5x3", Status::Usage, &["--shape y=5x3", "7x3"]);
}

#[test]
fn a_loop_that_data_end_takes_a_bound() {
    let folder = Folder::new();
    let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/cases/");
    folder.write("loop.onnx", &std::fs::read(format!("{cases}while_collatz.onnx")).unwrap());
    folder.write("n.npy", &npy("<i8", "()", &11i64.to_le_bytes()));
    folder.write("far.npy", &npy("<i8", "()", &27i64.to_le_bytes()));
    let line = "convert loop.onnx -o loop.kgl";
    folder.fails(line, Status::Failed, &["data decide how many trips", "--max-trips N"]);
    for bad in ["0", "1048577", "many"] {
        folder.fails(&format!("{line} --max-trips {bad}"), Status::Usage, &["--max-trips"]);
    }
    folder.ok(&format!("{line} --max-trips 20"));
    let out = folder.ok("run loop.kgl --input n=n.npy");
    assert_eq!(folder.ok("run loop.onnx --max-trips 20 --input n=n.npy"), out);
    folder.fails("run loop.kgl --input n=far.npy", Status::Failed, &["more trips", "--max-trips", "(`"]);
    for command in ["run loop.kgl --input n=n.npy", "bench loop.kgl --runs 1", "inspect loop.kgl"] {
        folder.fails(&format!("{command} --max-trips 20"), Status::Usage, &["--max-trips has no effect on a .kgl"]);
    }
    assert_ne!(folder.ok("run loop.onnx --max-trips 200 --input n=far.npy"), out);
}
