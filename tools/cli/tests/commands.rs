//! The commands from their arguments to their exit status, on a model of one node.

use std::path::Path;

use crate::common::{Folder, floats, model, npy};
use kinglet_cli::Status;
use kinglet_onnx::prost::Message;
use kinglet_onnx::{DataType, ModelProto, NodeProto, TensorProto};
use serde_json::Value;

#[test]
fn convert_then_run_then_read_the_outputs() {
    let f = Folder::new();
    let report = f.json("convert relu.onnx -o relu.kgl --dim batch=1 --json");
    let keys = [
        "steps",
        "integer_steps",
        "float_steps",
        "roundings_left_out",
        "weights_bytes",
        "arena_bytes",
        "lower_bound_bytes",
        "macs",
    ];
    for key in keys.into_iter().chain(["file_bytes", "arena_ratio", "target"]) {
        assert!(!report[key].is_null(), "{key}");
    }
    assert!(report["float_steps"][0]["reason"].is_string());
    let table = f.ok("convert relu.onnx -o relu.kgl --dim batch=1");
    assert!(table.contains("rectify") && table.contains("steps in float"), "{table}");

    f.write("x.npy", &npy("<f4", "(1, 4)", &floats(&[-1.0, 2.0, f32::NAN, 0.5])));
    f.ok("run relu.kgl --input x=x.npy --outputs y.npz");
    // What one run writes another reads: the outputs become inputs.
    f.write("next.onnx", &model("Relu", "y", "z"));
    let summary = f.ok("run next.onnx --inputs y.npz");
    assert!(summary.contains("z: f32 1x4") && summary.contains("1 NaN"), "{summary}");
    let summary = f.ok("run relu.kgl --input x=x.npy --threads 3");
    assert!(summary.contains("y: f32 1x4") && summary.contains("1 NaN") && summary.contains("max 2"), "{summary}");
    let top = f.ok("run relu.kgl --input x=x.npy --top 2");
    assert!(top.contains("bee") && top.contains("softmax"), "{top}");
    assert_eq!(f.names(), ["next.onnx", "relu.kgl", "relu.onnx", "x.npy", "y.npz"]);
}

#[test]
fn convert_says_which_channels_went() {
    let f = Folder::new();
    let mut pruned = ModelProto::from_bytes(&model("MatMul", "x", "y")).unwrap();
    let graph = pruned.graph.as_mut().unwrap();
    let node = |input: &[&str], output: &str| NodeProto {
        input: input.iter().map(|&i| i.into()).collect(),
        output: vec![output.into()],
        op_type: "MatMul".into(),
        ..Default::default()
    };
    graph.node = vec![node(&["x", "w"], "h"), node(&["h", "v"], "y")];
    // The middle one of three channels is never read.
    let weights = |name: &str, dims: [i64; 2], weight: fn(usize) -> f32| TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        float_data: (0..12).map(weight).collect(),
        ..Default::default()
    };
    let read = |i: usize| if i / 4 == 1 { 0.0 } else { i as f32 };
    graph.initializer = vec![weights("w", [4, 3], |i| i as f32), weights("v", [3, 4], read)];
    f.write("pruned.onnx", &pruned.to_bytes());
    let said = f.ok("convert pruned.onnx -o p.kgl --dim batch=2");
    let line = "dead channels: 1 of 7 channels in 2 products, 48 to 32 MACs, 96 to 64 bytes of weights";
    assert!(said.lines().any(|l| l == line), "{said}");
    let report = f.json("convert pruned.onnx -o p.kgl --dim batch=2 --json");
    let d = &report["dead_channels"];
    assert_eq!((&d["channels"], &d["of_channels"], &d["products"]), (&1.into(), &7.into(), &2.into()));
    assert_eq!((&report["macs"], &d["macs_before"]), (&32.into(), &48.into()));
    assert_eq!((&d["weights_before"], &d["weights_after"]), (&96.into(), &64.into()));
    let kept = f.json("convert pruned.onnx -o p.kgl --dim batch=2 --json --keep-channels");
    assert_eq!((&kept["macs"], &kept["dead_channels"]["channels"]), (&48.into(), &0.into()));
    f.ok("verify pruned.onnx --dim batch=2");
}

#[test]
fn floats_take_half_and_ports_are_integers_if_asked_for() {
    let f = Folder::new();
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models");
    let size = |said: serde_json::Value| said["weights_bytes"].as_f64().expect("a number");
    let convert = |model: &str, more: &str| format!("convert {models}/{model} -o m.kgl --target armv8 {more}--json");
    let whole = size(f.json(&convert("keywords/keywords.onnx", "")));
    let half = size(f.json(&convert("keywords/keywords.onnx", "--precision f16 ")));
    assert!((0.5..0.55).contains(&(half / whole)), "{half} of {whole}");

    let types = || {
        let said = f.json("inspect m.kgl --json");
        ["inputs", "outputs"].map(|ports| said[ports][0]["dtype"].as_str().expect("a type").to_string())
    };
    f.ok(&convert("glyphs/glyphs_int8.onnx", "--dim batch=1 "));
    assert_eq!(types(), ["f32", "f32"]);
    f.ok(&convert("glyphs/glyphs_int8.onnx", "--dim batch=1 --io quantized "));
    assert_eq!(types(), ["i8", "i8"]);
    let (_, _, said) = f.call(&convert("keywords/keywords.onnx", "--io quantized "));
    assert!(said.contains("stays f32"), "{said}");
}

#[test]
fn an_onnx_file_is_compiled_for_the_inputs_given() {
    let f = Folder::new();
    f.write("x.npy", &npy("<f8", "(3, 4)", &[0.25f64.to_le_bytes(); 12].concat()));
    let summary = f.ok("run relu.onnx --input x=x.npy");
    assert!(summary.contains("y: f32 3x4"), "{summary}");
    let mut tensor = TensorProto { dims: vec![2, 4], data_type: DataType::Float as i32, ..Default::default() };
    tensor.float_data = vec![-1.0; 8];
    f.write("x.pb", &tensor.encode_to_vec());
    let summary = f.ok("run relu.onnx --input x=x.pb");
    assert!(summary.contains("y: f32 2x4"), "{summary}");
}

#[test]
fn inspect_bench_and_profile_speak_json() {
    let f = Folder::new();
    let model = f.json("inspect relu.onnx --dim batch=2 --json");
    for key in ["arena_bytes", "weights_bytes", "macs", "work", "lower_bound_bytes"] {
        assert!(model[key].is_u64(), "{key}");
    }
    assert_eq!(model["inputs"][0]["shape"], serde_json::json!([2, 4]));
    assert_eq!(model["outputs"][0]["name"], "y");
    assert!(model["inputs"][0]["scale"].is_null());
    let step = &model["steps"][0];
    for key in ["name", "kind", "dtype", "kernel", "macs", "source_nodes"] {
        assert!(!step[key].is_null(), "{key}");
    }
    assert_eq!(step["source_nodes"], serde_json::json!(["rectify"]));
    assert_eq!(model["metadata"]["kinglet.labels"], "ant\nbee\ncat\ndog");
    assert_eq!(model["arena_map"][0]["input"], "x");
    let table = f.ok("inspect relu.onnx --dim batch=2");
    assert!(table.contains("arena map") && table.contains("input `x`"), "{table}");

    let bench = f.json("bench relu.onnx --dim batch=2 --runs 5 --warmup 1 --threads 2 --json");
    for key in ["median_ns", "p10_ns", "p90_ns", "min_ns", "arena_bytes", "weights_bytes", "load_ns"] {
        assert!(bench[key].is_u64(), "{key}");
    }
    assert_eq!((bench["runs"].as_u64(), bench["threads"].as_u64()), (Some(5), Some(2)));
    assert!(f.ok("bench relu.onnx --dim batch=2 --runs 1 --warmup 0").contains("median"));

    let profile = f.json("profile relu.onnx --dim batch=2 --runs 3 --json --trace t.json");
    assert_eq!(profile["steps"][0]["share"].as_f64(), Some(1.0));
    let trace: Value = serde_json::from_slice(&std::fs::read(f.at("t.json")).unwrap()).unwrap();
    assert_eq!(trace["traceEvents"][0]["ph"], "X");
    assert!(f.ok("profile relu.onnx --dim batch=2 --runs 3 --sort").contains("rectify"));
}

#[test]
fn verify_compares_on_random_and_on_given_inputs() {
    let f = Folder::new();
    let (status, out, err) = f.call("verify relu.onnx --dim batch=2 --seed 3");
    assert_eq!(status, Status::Ok, "{err}");
    assert!(out.contains("1 of 1 steps checked, 0 of them in groups"), "{out}");
    assert!(out.contains("ok") && (cfg!(feature = "oracle") || err.contains("--features oracle")), "{out}{err}");
    f.write("x.npy", &npy("<f4", "(1, 4)", &floats(&[1.0; 4])));
    f.ok("verify relu.onnx --input x=x.npy");
}

#[test]
fn wrong_usage_is_2_and_says_the_way_out() {
    let f = Folder::new();
    f.ok("convert relu.onnx -o relu.kgl --dim batch=1");
    f.write("x.npy", &npy("<f4", "(1, 4)", &floats(&[1.0; 4])));
    let usage = |line: &str, words: &[&str]| f.fails(line, Status::Usage, words);
    usage("run relu.kgl", &["`x` (f32 1x4)", "--input x=FILE"]);
    usage("run relu.kgl --input z=x.npy", &["`x` (f32 1x4)"]);
    usage("run relu.kgl --input x=x.npy --dim batch=1", &["--dim", "convert"]);
    usage("run relu.onnx", &["`x` (f32 batchx4)"]);
    usage("inspect relu.onnx", &["--dim batch=N"]);
    usage("convert relu.onnx -o other.kgl", &["--dim batch=N"]);
    usage("convert relu.onnx -o other.kgl --target pocket-calculator", &["generic"]);
    usage("verify relu.onnx", &["--dim batch=N"]);
    usage("run relu.kgl --threads 0 --input x=x.npy", &["--threads"]);
    usage("run relu.kgl --image x.png", &["1xCxHxW"]);
    usage("run relu.onnx --input x=x.txt", &[".npy", ".pb"]);
    usage("run relu.onnx --input x=x.npy --input x=x.npy", &["twice"]);
    usage("inspect relu.onnx --dim batch=1 --dim batch=2", &["twice"]);
    usage("convert relu.onnx -o relu.onnx --dim batch=1", &["relu.onnx", "another name"]);
    let (_, _, err) = f.call("inspect relu.onnx --dim batch=1 --dim bacth=2");
    assert!(err.starts_with("warning: ") && err.contains("`bacth`") && err.contains("batch"), "{err}");
    assert!(!Path::new(&f.at("other.kgl")).exists());
}

#[test]
fn failed_work_is_1_and_names_file_and_node() {
    let f = Folder::new();
    f.ok("convert relu.onnx -o relu.kgl --dim batch=1");
    let failed = |line: &str, words: &[&str]| f.fails(line, Status::Failed, words);
    failed("inspect missing.kgl", &["missing.kgl"]);
    f.write("bad.onnx", b"not protobuf");
    failed("convert bad.onnx -o out.kgl", &["bad.onnx"]);
    f.write("odd.onnx", &model("Levitate", "x", "y"));
    failed("convert odd.onnx -o out.kgl --dim batch=1", &["odd.onnx", "Levitate", "rectify"]);
    let mut damaged = std::fs::read(f.at("relu.kgl")).unwrap();
    damaged[100] ^= 1;
    f.write("damaged.kgl", &damaged);
    failed("inspect damaged.kgl", &["damaged.kgl"]);
    f.write("x.npy", &npy("<f4", "(1, 4)", &floats(&[1.0; 4])));
    f.write("i8.npy", &npy("|i1", "(1, 4)", &[0; 4]));
    failed("run relu.kgl --input x=i8.npy", &["i8.npy", "`x` (f32 1x4)", "i8"]);
    f.write("long.npy", &npy("<f4", "(1, 5)", &floats(&[1.0; 5])));
    failed("run relu.kgl --input x=long.npy", &["long.npy", "1x5"]);
    for line in ["run relu.kgl --input x=x.npy", "bench relu.kgl --runs 1", "profile relu.onnx --dim batch=1 --runs 1"]
    {
        failed(&format!("{line} --max-work 3"), &["relu.", "work", "--max-work"]);
        f.ok(&format!("{line} --max-work 1e6"));
    }
    // What an archive lacks or has too much is found inside a file, whatever flags there are.
    f.ok("run relu.kgl --input x=x.npy --outputs y.npz");
    failed("run relu.kgl --inputs y.npz", &["y.npz: entry `y` names no input", "`x` (f32 1x4)"]);
    failed("run relu.kgl --inputs y.npz --input x=x.npy", &["entry `y`"]);
    f.write("empty.npz", b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    failed("run relu.kgl --inputs empty.npz", &["nothing is given for `x`", "empty.npz"]);
    failed("convert relu.onnx -o nowhere/out.kgl --dim batch=1", &["nowhere/out.kgl"]);
    assert!(f.names().iter().all(|n| !n.starts_with('.') && n != "out.kgl"), "{:?}", f.names());
}

/// With the feature, tract answers too, also where the file's own shapes hold a symbol that `--dim` binds.
#[cfg(feature = "oracle")]
#[test]
fn tract_is_asked_for_its_opinion() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/glyphs/glyphs_int8.onnx");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = kinglet_cli::run(["kinglet", "verify", model, "--dim", "batch=1"], &mut out, &mut err);
    let out = String::from_utf8(out).expect("text");
    assert!(status == kinglet_cli::Status::Ok, "{out}{}", String::from_utf8_lossy(&err));
    assert!(out.lines().any(|l| l.contains("logits") && l.contains("tract") && l.contains("ok")), "{out}");
}

/// A model whose shape is an input, and which computes with floats of 64 bits.
fn reshape() -> ModelProto {
    let mut model = ModelProto::from_bytes(&model("Reshape", "x", "y")).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let mut shape = graph.input[0].clone();
    shape.name = "shape".into();
    let declared = shape.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
    declared.elem_type = DataType::Int64 as i32;
    declared.shape.as_mut().unwrap().dim.truncate(1);
    declared.shape.as_mut().unwrap().dim[0].value = Some(kinglet_onnx::Dimension::Value(2));
    graph.input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().elem_type = DataType::Double as i32;
    graph.input.push(shape);
    graph.node[0].input.push("shape".into());
    model
}

#[test]
fn bound_inputs_are_constants_of_the_plan() {
    let f = Folder::new();
    f.write("reshape.onnx", &reshape().to_bytes());
    let to = |values: [i64; 2]| npy("<i8", "(2,)", &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>());
    f.write("shape.npy", &to([2, 2]));
    f.fails("convert reshape.onnx -o r.kgl --dim batch=1", Status::Failed, &["`shape`", "--bind"]);
    let report = f.json("convert reshape.onnx -o r.kgl --dim batch=1 --bind shape=shape.npy --json");
    assert_eq!(report["retyped"][0]["declared"], "DOUBLE");
    f.write(
        "x.npy",
        &npy("<f8", "(1, 4)", &[1.0f64, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>()),
    );
    let summary = f.ok("run r.kgl --input x=x.npy");
    assert!(summary.contains("y: f32 2x2"), "{summary}");
    for (flags, status, why) in [
        ("--bind shap=shape.npy", Status::Usage, "no such input"),
        ("--bind shape=shape.npy --bind shape=shape.npy", Status::Usage, "given twice"),
        ("--bind shape=none.npy", Status::Failed, "none.npy"),
        ("--bind x=shape.npy", Status::Failed, "shape"),
    ] {
        f.fails(&format!("convert reshape.onnx -o r.kgl --dim batch=1 {flags}"), status, &[why]);
    }
    // A value that does not fit is an error of the node.
    f.write("shape.npy", &to([3, 2]));
    f.fails("convert reshape.onnx -o r.kgl --dim batch=1 --bind shape=shape.npy", Status::Failed, &["Reshape"]);
}

#[test]
fn inspect_lists_operators_and_what_becomes_of_them() {
    let f = Folder::new();
    let mut strange = reshape();
    let graph = strange.graph.as_mut().unwrap();
    for k in 0..3 {
        let mut node = graph.node[0].clone();
        (node.op_type, node.output[0], node.name) = ("Fly".into(), format!("z{k}"), format!("wing{k}"));
        graph.node.push(node);
    }
    f.write("strange.onnx", &strange.to_bytes());
    let table = f.ok("inspect strange.onnx --support");
    assert!(table.contains("Reshape") && table.contains("no step"), "{table}");
    assert!(table.contains("Fly") && table.contains("refused") && table.contains("1 of them refused"), "{table}");
    let list = f.json("inspect strange.onnx --support --json");
    assert_eq!((&list[0]["operator"], &list[0]["nodes"]), (&"Fly".into(), &3.into()));
    // One line stands for all nodes that are refused for one reason.
    f.fails("convert strange.onnx -o r.kgl --dim batch=1", Status::Failed, &["Fly `wing0` and 2 more"]);
    assert!(!f.call("convert strange.onnx -o r.kgl --dim batch=1").2.contains("wing1"));
}
