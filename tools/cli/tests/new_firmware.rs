//! `kinglet new-firmware`: what is written, and what is refused. (That projects build and run, tests/firmware/run shows.)

use crate::common::Folder;
use kinglet_cli::Status;
use kinglet_onnx::{DataType, ModelProto, StringStringEntryProto, TensorProto};

const MODEL: &str = "../../models/glyphs/glyphs_int8.onnx";

/// Calls the command with the folder `name` and more arguments.
fn call(f: &Folder, name: &str, args: &[&str]) -> (Status, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let folder = f.at(name).display().to_string();
    let line = ["kinglet", "new-firmware", &folder].into_iter().chain(args.iter().copied());
    let status = kinglet_cli::run(line, &mut out, &mut err);
    (status, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[test]
fn a_project_is_whole() {
    let f = Folder::new();
    for chip in ["stm32l4", "stm32f4", "stm32u5", "rp2350", "nrf5340"] {
        let args = ["--chip", chip, "--model", MODEL, "--dim", "batch=1"];
        let (status, out, err) = call(&f, &format!("hello-{chip}"), &args);
        assert_eq!(status, Status::Ok, "{err}");
        assert!(out.contains("cargo emulate"), "{out}");
        let read = |file: &str| std::fs::read_to_string(f.at(&format!("hello-{chip}/{file}"))).unwrap();
        for file in
            ["Cargo.toml", ".cargo/config.toml", "build.rs", "src/main.rs", "src/board.rs", "README.md", "chip.x"]
        {
            let text = read(file);
            assert!(!text.is_empty() && !text.contains("{{") && !text.contains("}}"), "{file}: {text}");
        }
        assert!(
            read("build.rs")
                .contains(r#"Build::new("model/glyphs_int8.onnx").target(Target::CortexM).dim("batch", 1)"#)
        );
        assert!(read("src/main.rs").contains("model::outputs::LOGITS"));
        // Nothing was given: the input is zeros, by the zero point.
        assert_eq!(std::fs::read(f.at(&format!("hello-{chip}/inputs.bin"))).unwrap(), [0; 1024]);
        let model = std::fs::read(f.at(&format!("hello-{chip}/model/glyphs_int8.onnx"))).unwrap();
        assert_eq!(model, std::fs::read(MODEL).unwrap());
    }
}

#[test]
fn what_is_wrong_is_said_and_nothing_is_left() {
    let f = Folder::new();
    let relu = f.at("relu.onnx").display().to_string();
    let refused = |name: &str, args: &[&str], wanted: Status| {
        let before = f.names();
        let (status, _, err) = call(&f, name, args);
        assert_eq!((status, f.names()), (wanted, before), "{args:?}: {err}");
        err
    };
    let chip = ["--chip", "stm32l4", "--model"];
    let with = |more: &[&'static str]| [&chip[..], &[MODEL], more].concat();
    assert!(refused("Hello World", &with(&["--dim", "batch=1"]), Status::Usage).contains("name of the folder"));
    assert!(refused("hello", &with(&[]), Status::Usage).contains("--dim"));
    assert!(refused("hello", &["--chip", "pdp11", "--model", MODEL], Status::Usage).contains("stm32l4"));
    assert!(refused("hello", &["--chip", "stm32l4", "--model", "no.onnx"], Status::Failed).contains("no.onnx"));
    let dims = with(&["--dim", "batch=1", "--kinglet", "/nowhere"]);
    assert!(refused("hello", &dims, Status::Failed).contains("/nowhere"));
    let missing = with(&["--dim", "batch=1", "--image", "no.png"]);
    assert!(refused("hello", &missing, Status::Failed).contains("no.png"));
    // Each element of this model takes four bytes, of which 96 KiB have not room for so many.
    let large = [&chip[..], &[&relu, "--dim", "batch=9000"]].concat();
    let said = refused("hello", &large, Status::Failed);
    assert!(said.contains("RAM") && said.contains("NUCLEO-L476RG") && said.contains("larger chip"), "{said}");
    for name in ["kinglet-build", "cortex-m", "fn"] {
        assert!(refused(name, &with(&["--dim", "batch=1"]), Status::Usage).contains("name of the folder"));
    }
    // A folder that is there stays as it is.
    std::fs::create_dir(f.at("there")).unwrap();
    assert!(refused("there", &with(&["--dim", "batch=1"]), Status::Failed).contains("there"));
    assert_eq!(std::fs::read_dir(f.at("there")).unwrap().count(), 0);
    let nowhere = f.at("nowhere").join("hello").display().to_string();
    assert!(refused(&nowhere, &with(&["--dim", "batch=1"]), Status::Failed).contains("nowhere"));
}

/// A model with names that a shell, Rust and a template would take for their own, one of whose tensors lies in another file.
fn strange(f: &Folder, name: &str, location: &str) -> String {
    let mut model = ModelProto::from_bytes(&crate::common::model("MatMul", "x", "y")).unwrap();
    let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
    let graph = model.graph.as_mut().unwrap();
    graph.node[0].input = vec!["x".into(), "w".into()];
    graph.initializer = vec![TensorProto {
        name: "w".into(),
        dims: vec![4, 4],
        data_type: DataType::Float as i32,
        data_location: 1,
        external_data: vec![entry("location", location), entry("length", "64")],
        ..Default::default()
    }];
    f.write(name, &model.to_bytes());
    f.at(name).display().to_string()
}

#[test]
fn names_from_strangers_stay_names() {
    let f = Folder::new();
    f.write("w.bin", &[0; 64]);
    let model = strange(&f, "a \"{{name}}\" b'.onnx", "w.bin");
    let (status, _, err) = call(&f, "hello", &["--chip", "nrf5340", "--model", &model, "--dim", "batch=1"]);
    assert_eq!(status, Status::Ok, "{err}");
    let read = |file: &str| std::fs::read_to_string(f.at(&format!("hello/{file}"))).unwrap();
    assert!(read("build.rs").contains(r#"Build::new("model/a \"{{name}}\" b'.onnx")"#), "{}", read("build.rs"));
    assert!(
        read("README.md").contains(r#"kinglet convert 'model/a "{{name}}" b'\''.onnx' -o"#),
        "{}",
        read("README.md")
    );
    assert_eq!(std::fs::read(f.at("hello/model/w.bin")).unwrap(), [0; 64]);
}

#[test]
fn a_model_writes_nowhere_but_into_its_folder() {
    let f = Folder::new();
    f.write("victim", b"mine");
    let victim = f.at("victim").display().to_string();
    std::fs::create_dir(f.at("in")).unwrap();
    for location in [&victim, "../victim", "in/../../victim", "./../victim"] {
        let model = strange(&f, "in/m.onnx", location);
        let before = f.names();
        let (status, _, err) = call(&f, "hello", &["--chip", "nrf5340", "--model", &model, "--dim", "batch=1"]);
        assert_eq!((status, f.names()), (Status::Failed, before), "{location}: {err}");
        assert_eq!(std::fs::read(f.at("victim")).unwrap(), b"mine");
    }
}
