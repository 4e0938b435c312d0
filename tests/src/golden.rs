//! Golden vectors: how `tests/golden/make.py` packs them, and the samples of every operator.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use kinglet_compiler::array::Array;
use kinglet_compiler::{Compiled, Error, Options};

use crate::{options_for, read_npz};

/// Arrays by name.
pub type Arrays = BTreeMap<String, Array>;

/// The folder `tests/golden`.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// The arrays of a set. If it is packed (many small ones would take more room for their names than for their numbers), there
/// is a line for each in `index`, with its key, its type, and its shape; those of one type lie end to end.
///
/// # Panics
/// If the index does not fit the arrays.
pub fn unpacked(mut set: Arrays) -> Arrays {
    let Some(index) = set.remove("index") else { return set };
    let index = bytes(&index);
    let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
    let lines = std::str::from_utf8(&index).expect("the index is text").lines();
    let one = |line| {
        let mut words = str::split(line, ' ');
        let (Some(key), Some(kind)) = (words.next(), words.next()) else { panic!("the line `{line}`") };
        let shape: Vec<usize> = words.map(|d| d.parse().expect("an extent")).collect();
        let from = taken.entry(kind).or_default();
        let to = *from + shape.iter().product::<usize>();
        let array = set[kind].cut(0, *from..to).reshaped(&shape);
        *from = to;
        (key.to_string(), array)
    };
    lines.map(one).collect()
}

fn bytes(array: &Array) -> Vec<u8> {
    array.ints().iter().map(|&b| b as u8).collect()
}

/// One operator in one version, on operands of one element type: what `tests/golden/every.py` makes.
pub struct Sample {
    /// The operator, behind its domain and a dot if that is not ai.onnx.
    pub operator: String,
    /// The version of its schema.
    pub version: i64,
    /// ONNX's name of the type of its main operand; `-` if there is no choice; `qdq_int8` (…) if floats come from `DequantizeLinear` and
    /// go to `QuantizeLinear`, and `step` if they do on one grid, with a single node between.
    pub dtype: String,
    /// The ONNX file.
    pub model: Vec<u8>,
    /// Inputs by name.
    pub inputs: Arrays,
    /// ONNX Runtime's outputs by name; none if it has no kernel for the type.
    pub outputs: Arrays,
}

impl Sample {
    /// Imports and compiles it for the shapes of its inputs.
    ///
    /// # Errors
    /// Those of the import and of the compilation.
    pub fn compile(&self) -> Result<Compiled, Error> {
        self.compile_with(Options { values: BTreeMap::new(), ..options_for(&self.inputs) })
    }

    /// Imports and compiles it with its inputs as constants: everything is folded.
    ///
    /// # Errors
    /// Those of the import and of the compilation.
    pub fn compile_folded(&self) -> Result<Compiled, Error> {
        self.compile_with(Options { bind: self.inputs.clone(), ..Options::default() })
    }

    fn compile_with(&self, options: Options) -> Result<Compiled, Error> {
        let options = Options { pad_selections: true, ..options };
        kinglet_compiler::compile(kinglet_compiler::import(&self.model, None, &options)?, &options)
    }
}

/// Every sample, in order of operator, version, and type.
///
/// # Panics
/// If the file is not what `make.py` writes.
pub fn samples() -> Vec<Sample> {
    let mut found: BTreeMap<(String, i64, String), Sample> = BTreeMap::new();
    for (key, array) in unpacked(read_npz(&folder().join("every/samples.npz"))) {
        let words: Vec<&str> = key.split('/').collect();
        let [operator, version, dtype, side, ..] = words[..] else { panic!("the key `{key}`") };
        let (operator, version, dtype) = (operator.to_string(), version.parse().expect("a version"), dtype.to_string());
        let sample = found.entry((operator.clone(), version, dtype.clone())).or_insert_with(|| Sample {
            operator,
            version,
            dtype,
            model: Vec::new(),
            inputs: Arrays::new(),
            outputs: Arrays::new(),
        });
        match (side, words.get(4)) {
            ("in", Some(name)) => drop(sample.inputs.insert(name.to_string(), array)),
            ("out", Some(name)) => drop(sample.outputs.insert(name.to_string(), array)),
            _ => sample.model = bytes(&array),
        }
    }
    found.into_values().collect()
}

/// What an operator takes, as its samples say.
#[derive(Default)]
pub struct Takes {
    /// Element types of its main operand, in short.
    pub types: String,
    /// The kinds of the steps that it becomes between quantised tensors; `f32` if one of them runs in floats, `refused` if floats
    /// are, and nothing if it has none.
    pub quantised: String,
}

/// What every operator takes, by name (behind its domain and a dot, if that is not ai.onnx). Of each type the newest version that has
/// it counts.
pub fn takes() -> BTreeMap<String, Takes> {
    let mut read: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
    let mut found: BTreeMap<String, Takes> = BTreeMap::new();
    for sample in samples() {
        if sample.dtype.starts_with("qdq") {
            continue;
        }
        let compiled = sample.compile();
        if sample.dtype == "step" {
            found.entry(sample.operator).or_default().quantised = compiled.map_or("refused".into(), |c| kinds(&c));
        } else {
            read.entry(sample.operator).or_default().insert(sample.dtype, compiled.is_ok());
        }
    }
    for (operator, types) in read {
        found.entry(operator).or_default().types = in_short(&types);
    }
    found
}

fn kinds(compiled: &Compiled) -> String {
    if !compiled.report.float_steps.is_empty() {
        return "f32".into();
    }
    // A conversion that is none in floats hands an input or a constant to an output, as nothing else is there to do.
    let kinds = compiled.report.steps.iter().map(|step| step.kind.as_str()).filter(|kind| *kind != "Convert");
    let kinds: BTreeSet<&str> = kinds.collect();
    if kinds.is_empty() { "no step".into() } else { kinds.into_iter().collect::<Vec<_>>().join(", ") }
}

/// Element types in few letters: what all of a group are is its name.
fn in_short(read: &BTreeMap<String, bool>) -> String {
    let groups: [(&str, &[(&str, &str)]); 6] = [
        ("real", &[("float", "f32"), ("float16", "f16"), ("bfloat16", "bf16"), ("double", "f64")]),
        ("8", &[("int8", "i8"), ("uint8", "u8")]),
        ("16", &[("int16", "i16"), ("uint16", "u16")]),
        ("32", &[("int32", "i32"), ("uint32", "u32")]),
        ("64", &[("int64", "i64"), ("uint64", "u64")]),
        ("bool", &[("bool", "bool")]),
    ];
    let mut words = Vec::new();
    for (name, types) in groups {
        let known = || types.iter().filter_map(|(onnx, short)| Some((read.get(*onnx)?, *short)));
        let taken: Vec<&str> = known().filter_map(|(&read, short)| read.then_some(short)).collect();
        match (taken.len(), known().count()) {
            (0, _) => {}
            // Of floats a type that an operator does not have is no difference worth a word.
            (n, m) if n == m && (n == types.len() || name == "real") => words.push(name),
            _ => words.extend(taken),
        }
    }
    words.join(" ")
}
