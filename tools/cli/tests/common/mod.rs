//! What the tests of the command share: a folder with a small model, and files to feed it.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use kinglet_cli::Status;
use kinglet_onnx::{
    DataType, Dimension, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use serde_json::Value;

/// A folder with the model `relu.onnx`: `y = relu(x)`, f32 `[batch, 4]`.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("kinglet-cli-test-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let folder = Folder(path);
        folder.write("relu.onnx", &model("Relu", "x", "y"));
        folder
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, content: &[u8]) {
        std::fs::write(self.at(name), content).unwrap();
    }

    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Calls the program; words that name a file of the folder stand for its path.
    pub fn call(&self, line: &str) -> (Status, String, String) {
        let path = |word: &str| match word.split_once('=') {
            Some((name, file)) if file.contains('.') => format!("{name}={}", self.at(file).display()),
            None if word.contains('.') => self.at(word).display().to_string(),
            _ => word.to_string(),
        };
        let args = std::iter::once("kinglet".to_string()).chain(line.split(' ').map(path));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = kinglet_cli::run(args, &mut out, &mut err);
        (status, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    pub fn ok(&self, line: &str) -> String {
        let (status, out, err) = self.call(line);
        assert_eq!(status, Status::Ok, "{line}: {err}");
        out
    }

    /// Starts the program itself in the folder, as a shell does: a process of its own, with signals, limits and standard
    /// streams.
    pub fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(&self.0).env("K", env!("CARGO_BIN_EXE_kinglet"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a script, in which `$K` is the program: exit status, standard output, standard error.
    pub fn sh(&self, script: &str) -> (Option<i32>, String, String) {
        let Output { status, stdout, stderr } = self.shell(script).output().expect("sh runs");
        (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    pub fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ok(line)).unwrap()
    }

    pub fn fails(&self, line: &str, status: Status, words: &[&str]) {
        let (found, out, err) = self.call(line);
        assert_eq!((found, &out[..]), (status, ""), "{line}: {err}");
        assert!(err.starts_with("error: ") || err.contains("\nerror: "), "{line}: {err}");
        for word in words {
            assert!(err.contains(word), "{line}: no `{word}` in: {err}");
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A model of one node: `output = op(input)`, f32 `[batch, 4]`.
pub fn model(op: &str, input: &str, output: &str) -> Vec<u8> {
    let dim = |value| DimensionProto { value: Some(value) };
    let dims = vec![dim(Dimension::Param("batch".into())), dim(Dimension::Value(4))];
    let shape = Some(TensorShapeProto { dim: dims });
    let tensor = TensorTypeProto { elem_type: DataType::Float as i32, shape };
    let value = |name: &str| ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { tensor_type: Some(tensor.clone()) }),
    };
    let node = NodeProto {
        input: vec![input.into()],
        output: vec![output.into()],
        name: "rectify".into(),
        op_type: op.into(),
        ..Default::default()
    };
    let graph =
        GraphProto { node: vec![node], input: vec![value(input)], output: vec![value(output)], ..Default::default() };
    let labels = StringStringEntryProto { key: "kinglet.labels".into(), value: "ant\nbee\ncat\ndog".into() };
    ModelProto {
        ir_version: 8,
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        metadata_props: vec![labels],
        ..Default::default()
    }
    .to_bytes()
}

pub fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.bytes());
    file.extend(data);
    file
}

pub fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}
