//! The job file: what a worker is to run.

use std::error::Error;
use std::path::PathBuf;

use serde_json::Value;

/// What a worker has to say when it fails is a line of text.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A model with its inputs.
pub struct Job {
    /// Who is to run it.
    pub peer: String,
    /// The file that the peer reads.
    pub model: PathBuf,
    /// How many threads it may take.
    pub threads: usize,
    /// In the order of the model.
    pub inputs: Vec<Input>,
    /// Where the first outputs go: this name, followed by their number.
    outputs: String,
}

/// An input of the model.
#[derive(Clone)]
pub struct Input {
    /// Its name in the ONNX file.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements.
    pub data: Data,
}

/// Elements of the types that the models of the race have.
#[derive(Clone)]
pub enum Data {
    F32(Vec<f32>),
    I8(Vec<i8>),
}

impl Job {
    /// Reads a job file and the inputs that it names.
    pub fn read(path: &str) -> Result<Job> {
        let json: Value = serde_json::from_slice(&std::fs::read(path)?)?;
        let inputs = json["inputs"].as_array().ok_or("`inputs` is a list")?;
        Ok(Job {
            peer: text(&json, "peer")?.into(),
            model: text(&json, "model")?.into(),
            threads: json["threads"].as_u64().ok_or("`threads` is a number")? as usize,
            inputs: inputs.iter().map(Input::read).collect::<Result<_>>()?,
            outputs: text(&json, "outputs")?.into(),
        })
    }

    /// Writes outputs for the driver to compare.
    pub fn write(&self, outputs: &[Vec<f32>]) -> Result<()> {
        for (i, output) in outputs.iter().enumerate() {
            let bytes: Vec<u8> = output.iter().flat_map(|v| v.to_le_bytes()).collect();
            std::fs::write(format!("{}{i}", self.outputs), bytes)?;
        }
        Ok(())
    }
}

impl Input {
    fn read(json: &Value) -> Result<Input> {
        let bytes = std::fs::read(text(json, "file")?)?;
        let sizes = json["shape"].as_array().ok_or("`shape` is a list")?;
        let shape = sizes.iter().map(|d| d.as_u64().map(|d| d as usize)).collect::<Option<_>>();
        let data = match text(json, "dtype")? {
            "float32" => Data::F32(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            "int8" => Data::I8(bytes.iter().map(|b| *b as i8).collect()),
            other => return Err(format!("inputs of type {other} are not known").into()),
        };
        Ok(Input { name: text(json, "name")?.into(), shape: shape.ok_or("`shape` has numbers")?, data })
    }
}

fn text<'a>(json: &'a Value, key: &str) -> Result<&'a str> {
    json[key].as_str().ok_or_else(|| format!("`{key}` is a text").into())
}
