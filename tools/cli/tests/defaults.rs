//! Inputs with a default on the command line: they need not be given, what is given is taken, and what is bound is told.

use std::path::{Path, PathBuf};

use kinglet_cli::Status;
use serde_json::Value;

/// A model of the golden vectors.
fn golden(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../tests/golden/cases/{name}.onnx")).display().to_string()
}

fn call(args: &[&str]) -> (Status, String, String) {
    let args = std::iter::once("kinglet").chain(args.iter().copied()).map(String::from);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = kinglet_cli::run(args, &mut out, &mut err);
    (status, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn ok(args: &[&str]) -> (String, String) {
    let (status, out, err) = call(args);
    assert_eq!(status, Status::Ok, "{args:?}: {err}");
    (out, err)
}

/// A folder for this test, with `x.npy [2, 3]` and `h.npy [2, 4]`.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("kinglet-defaults-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (name, dims) in [("x", [2usize, 3]), ("h", [2, 4])] {
        let n = dims[0] * dims[1];
        let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", dims[0], dims[1]);
        header += &" ".repeat(63 - (10 + header.len()) % 64);
        header.push('\n');
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.as_bytes());
        file.extend((0..n).flat_map(|i| (i as f32 / 8.0).to_le_bytes()));
        std::fs::write(folder.join(format!("{name}.npy")), file).unwrap();
    }
    folder
}

#[test]
fn a_state_need_not_be_given_and_is_taken_if_it_is() {
    let folder = folder("state");
    let at = |name: &str| folder.join(name).display().to_string();
    let (onnx, kgl) = (golden("default_state_left"), at("step.kgl"));
    let (_, notes) = ok(&["convert", &onnx, "-o", &kgl, "--target", "native"]);
    assert!(!notes.contains("bound"), "{notes}");
    let (x, h) = (format!("x={}", at("x.npy")), format!("h={}", at("h.npy")));
    let left = ok(&["run", &onnx, "--input", &x]).0;
    let given = ok(&["run", &onnx, "--input", &x, "--input", &h]).0;
    assert_ne!(left, given);
    // A plan says the same, in both cases.
    assert_eq!(ok(&["run", &kgl, "--input", &x]).0, left);
    assert_eq!(ok(&["run", &kgl, "--input", &x, "--input", &h]).0, given);
    let json: Value = serde_json::from_str(&ok(&["inspect", &kgl, "--json"]).0).unwrap();
    let inputs = json["inputs"].as_array().unwrap();
    let defaults: Vec<(&str, bool)> =
        inputs.iter().map(|i| (i["name"].as_str().unwrap(), i["default"].as_bool().unwrap())).collect();
    assert_eq!(defaults.iter().filter(|(_, has)| !has).collect::<Vec<_>>(), [&("x", false)]);
    assert_eq!(defaults.iter().filter(|(_, has)| *has).count(), 3);
    assert!(ok(&["inspect", &kgl]).0.contains("has a default"));
    ok(&["verify", &onnx]);
    ok(&["bench", &kgl, "--runs", "1", "--warmup", "0"]);
    // Without `x` something is missing still, and it is only `x`.
    let (status, _, err) = call(&["run", &kgl]);
    assert!(status != Status::Ok && err.contains("`x`") && !err.contains("`h`"), "{err}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_is_bound_is_told_and_no_input_of_the_plan() {
    let folder = folder("bound");
    let kgl = folder.join("bound.kgl").display().to_string();
    let (_, notes) = ok(&["convert", &golden("default_bound"), "-o", &kgl]);
    for name in ["w", "b", "scale", "mean", "to", "k", "bias", "step", "axes"] {
        assert!(notes.contains(&format!("`{name}`")), "{name} is not in: {notes}");
    }
    let json: Value = serde_json::from_str(&ok(&["inspect", &kgl, "--json"]).0).unwrap();
    assert_eq!(json["inputs"].as_array().unwrap().len(), 1);
    let (status, _, err) = call(&["run", &kgl, "--input", &format!("w={}", folder.join("x.npy").display())]);
    assert!(status != Status::Ok && err.contains("no such input"), "{err}");
    std::fs::remove_dir_all(folder).unwrap();
}
