//! Where the numbers of a model come from: a checkpoint, or a seed.
//!
//! Builders declare the tensors of the official state dict one by one, by their official names. What a checkpoint
//! lacks, has besides, or has in another shape is collected, so that one error names it all.

use std::collections::BTreeSet;
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorView};

use super::error::{Error, Problem};
use super::random::Random;

/// Where the numbers of a model come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Random numbers that keep activations in range; the same on every machine. A tensor's numbers depend on the seed
    /// and its name only.
    Seed(u64),
    /// A checkpoint. Files hold f32; f64 is rounded to it, f16 and bf16 fit into it.
    Checkpoint(Checkpoint),
}

/// A safetensors file in memory.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    file: String,
    bytes: Vec<u8>,
    metadata: Metadata,
    data_start: usize,
}

impl Checkpoint {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if it cannot be read, [`Error::Safetensors`] if it is no whole safetensors file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|e| Error::Unreadable { file: file.clone(), source: e })?;
        Checkpoint::from_bytes(file, bytes)
    }

    /// Takes the bytes of a file; `file` is its name for messages.
    ///
    /// # Errors
    /// [`Error::Safetensors`] if it is no whole safetensors file.
    pub fn from_bytes(file: impl Into<String>, bytes: Vec<u8>) -> Result<Self, Error> {
        let file = file.into();
        let (header, metadata) = SafeTensors::read_metadata(&bytes)
            .map_err(|e| Error::Safetensors { file: file.clone(), reason: e.to_string() })?;
        // Eight bytes tell how long the header is.
        Ok(Checkpoint { data_start: header + 8, file, bytes, metadata })
    }

    /// A checkpoint of tensors in memory: names, shapes and numbers; `file` is its name for messages.
    ///
    /// # Panics
    /// If a tensor has not as many numbers as its shape says.
    pub fn from_tensors(file: impl Into<String>, tensors: Vec<(String, Vec<usize>, Vec<f32>)>) -> Self {
        let stored: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
            .into_iter()
            .map(|(name, shape, numbers)| (name, shape, numbers.iter().flat_map(|v| v.to_le_bytes()).collect()))
            .collect();
        let views = stored.iter().map(|(name, shape, bytes)| {
            (name, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("as many numbers as the shape says"))
        });
        let bytes = safetensors::serialize(views, None).expect("whole tensors make a whole file");
        Checkpoint::from_bytes(file, bytes).expect("what was written is read")
    }

    /// The file's name, as given.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it has this tensor.
    pub fn has(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }

    fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Problem> {
        let tensor = name.to_string();
        let Some(info) = self.metadata.info(name) else {
            return Err(Problem::Missing { tensor, shape: shape.to_vec() });
        };
        if info.shape != shape {
            return Err(Problem::Shape { tensor, found: info.shape.clone(), expected: shape.to_vec() });
        }
        let (start, end) = info.data_offsets;
        let data = &self.bytes[self.data_start + start..self.data_start + end];
        Ok(match info.dtype {
            Dtype::F32 => data.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            Dtype::F64 => data.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect(),
            Dtype::F16 => data.as_chunks().0.iter().map(|&b| half::f16::from_le_bytes(b).to_f32()).collect(),
            Dtype::BF16 => data.as_chunks().0.iter().map(|&b| half::bf16::from_le_bytes(b).to_f32()).collect(),
            other => return Err(Problem::Type { tensor, found: format!("{other:?}").to_lowercase() }),
        })
    }
}

/// How a tensor is drawn when there is no checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub enum Init {
    /// Around 0 with the standard deviation `gain / √fan_in`, where the fan-in is what one output sums over: all axes
    /// but the first of a weight of a convolution or linear layer.
    FanIn(f64),
    /// The same, but with most of the weight in the middle of a square kernel, so that it matters little how many of
    /// its elements lie beyond the edge of a small picture.
    Central(f64),
    /// Around `mean` with the standard deviation `std`.
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        std: f64,
    },
    /// Evenly between two bounds.
    Uniform {
        /// Smallest value.
        low: f64,
        /// Largest value.
        high: f64,
    },
    /// These numbers, whatever the seed: what an architecture fixes beforehand.
    Values(Vec<f32>),
}

/// What a tensor of a state dict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It counts among the parameters: it is learned, or was drawn once (RandFormer's matrices).
    Parameter,
    /// The model needs it, but it is not learned (BatchNorm statistics).
    Buffer,
    /// Official checkpoints have it; inference does not need it, so it may be absent.
    Unused,
}

/// Element type of a tensor of a state dict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateType {
    /// f32.
    Float32,
    /// i64.
    Int64,
    /// Complex numbers of two f32.
    Complex64,
}

impl StateType {
    /// PyTorch's name.
    pub fn name(self) -> &'static str {
        match self {
            StateType::Float32 => "float32",
            StateType::Int64 => "int64",
            StateType::Complex64 => "complex64",
        }
    }
}

/// A tensor of the official state dict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateTensor {
    /// Official name.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Element type.
    pub dtype: StateType,
    /// What it is.
    pub role: Role,
}

/// Hands out the tensors of a model and remembers them. Without a source it only remembers, and what it hands out is
/// empty.
#[derive(Debug)]
pub(super) struct Weights<'a> {
    source: Numbers<'a>,
    state: Vec<StateTensor>,
    problems: Vec<Problem>,
}

#[derive(Clone, Copy, Debug)]
enum Numbers<'a> {
    None,
    Seed(u64),
    Checkpoint(&'a Checkpoint),
}

impl<'a> Weights<'a> {
    /// Tensors of a source, or none.
    pub fn new(source: Option<&'a Source>) -> Self {
        match source {
            None => Weights::from(Numbers::None),
            Some(Source::Seed(seed)) => Weights::from(Numbers::Seed(*seed)),
            Some(Source::Checkpoint(checkpoint)) => Weights::of(checkpoint),
        }
    }

    /// Tensors of a checkpoint.
    pub fn of(checkpoint: &'a Checkpoint) -> Self {
        Weights::from(Numbers::Checkpoint(checkpoint))
    }

    fn from(source: Numbers<'a>) -> Self {
        Weights { source, state: Vec::new(), problems: Vec::new() }
    }

    /// Whether numbers are drawn.
    pub fn is_seeded(&self) -> bool {
        matches!(self.source, Numbers::Seed(_))
    }

    /// Whether only names, shapes and counts are wanted.
    pub fn is_dry(&self) -> bool {
        matches!(self.source, Numbers::None)
    }

    /// Declares a tensor of reals and returns its numbers, row-major; none in a dry run. If the checkpoint has it not
    /// or otherwise, that is noted and the numbers are zeros.
    pub fn take(&mut self, name: &str, shape: &[usize], role: Role, init: &Init) -> Vec<f32> {
        self.declare(name, shape, StateType::Float32, role);
        match self.source {
            Numbers::None => Vec::new(),
            Numbers::Seed(seed) => draw(seed, name, shape, init),
            Numbers::Checkpoint(checkpoint) => checkpoint.values(name, shape).unwrap_or_else(|problem| {
                self.problems.push(problem);
                vec![0.0; shape.iter().product()]
            }),
        }
    }

    /// Declares a tensor that a checkpoint may have and nothing reads.
    pub fn unused(&mut self, name: &str, shape: &[usize], dtype: StateType) {
        self.declare(name, shape, dtype, Role::Unused);
        if let Numbers::Checkpoint(c) = self.source
            && let Some(found) = c.metadata.info(name).map(|i| &i.shape).filter(|found| *found != shape)
        {
            let (found, expected) = (found.clone(), shape.to_vec());
            self.problems.push(Problem::Shape { tensor: name.to_string(), found, expected });
        }
    }

    fn declare(&mut self, name: &str, shape: &[usize], dtype: StateType, role: Role) {
        self.state.push(StateTensor { name: name.to_string(), shape: shape.to_vec(), dtype, role });
    }

    /// The state dict of `model`, if nothing was wrong with the checkpoint.
    pub fn finish(mut self, model: &str) -> Result<Vec<StateTensor>, Error> {
        if let Numbers::Checkpoint(c) = self.source {
            let known: BTreeSet<&str> = self.state.iter().map(|t| t.name.as_str()).collect();
            let extra = c.metadata.offset_keys().into_iter().filter(|name| !known.contains(name.as_str()));
            for tensor in extra {
                let shape = c.metadata.info(&tensor).map(|i| i.shape.clone()).unwrap_or_default();
                self.problems.push(Problem::Extra { tensor, shape });
            }
            if !self.problems.is_empty() {
                let (file, model) = (c.file.clone(), model.to_string());
                return Err(Error::Tensors { file, model, problems: self.problems });
            }
        }
        Ok(self.state)
    }
}

fn draw(seed: u64, name: &str, shape: &[usize], init: &Init) -> Vec<f32> {
    let n: usize = shape.iter().product();
    let mut random = Random::new(seed, name);
    let mut normal = |mean: f64, std: f64| (0..n).map(|_| (mean + std * random.normal()) as f32).collect();
    match init {
        Init::Central(gain) => {
            let &[_, input, kernel, columns] = shape else { panic!("`{name}` is no square kernel") };
            let square = |i: usize| (i as f64 - (kernel - 1) as f64 / 2.0) * (i as f64 - (kernel - 1) as f64 / 2.0);
            let tap = |i: usize| 1.0 / (1.0 + square(i / columns) + square(i % columns));
            let taps: Vec<f64> = (0..kernel * columns).map(tap).collect();
            let energy: f64 = taps.iter().map(|t| t * t).sum();
            let std = gain / (input as f64 * energy).sqrt();
            (0..n).map(|i| (std * taps[i % taps.len()] * random.normal()) as f32).collect()
        }
        Init::FanIn(gain) => {
            let fan_in: usize = shape.iter().skip(1).product();
            normal(0.0, gain / (fan_in.max(1) as f64).sqrt())
        }
        Init::Normal { mean, std } => normal(*mean, *std),
        Init::Uniform { low, high } => (0..n).map(|_| (low + (high - low) * random.unit()) as f32).collect(),
        Init::Values(values) => {
            assert_eq!(values.len(), n, "`{name}` has the shape {shape:?}");
            values.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A checkpoint of tensors with these types and bytes.
    fn checkpoint(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> Checkpoint {
        let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
            (name.to_string(), TensorView::new(*dtype, shape.to_vec(), bytes).unwrap())
        });
        Checkpoint::from_bytes("a.safetensors", safetensors::serialize(views, None).unwrap()).unwrap()
    }

    /// 1, −2.5 and 0.099976 in f16, and the next best in bf16 (numbers of the IEEE and bfloat16 formats).
    #[test]
    fn reals_of_any_width_become_f32() {
        let f16: Vec<u8> = [0x3c00u16, 0xc100, 0x2e66].iter().flat_map(|v| v.to_le_bytes()).collect();
        let bf16: Vec<u8> = [0x3f80u16, 0xc020, 0x3dcd].iter().flat_map(|v| v.to_le_bytes()).collect();
        let f64: Vec<u8> = [1.0f64, -2.5, 0.1].iter().flat_map(|v| v.to_le_bytes()).collect();
        let f32: Vec<u8> = [1.0f32, -2.5, 0.1].iter().flat_map(|v| v.to_le_bytes()).collect();
        let checkpoint = checkpoint(&[
            ("bf16", Dtype::BF16, &[3], &bf16),
            ("f16", Dtype::F16, &[3], &f16),
            ("f32", Dtype::F32, &[3], &f32),
            ("f64", Dtype::F64, &[3], &f64),
        ]);
        let mut weights = Weights::of(&checkpoint);
        let mut take = |name| weights.take(name, &[3], Role::Parameter, &Init::FanIn(1.0));
        assert_eq!(take("f32"), [1.0, -2.5, 0.1]);
        assert_eq!(take("f64"), [1.0, -2.5, 0.1]);
        assert_eq!(take("f16"), [1.0, -2.5, 0.099_975_586]);
        assert_eq!(take("bf16"), [1.0, -2.5, 0.100_097_656]);
        weights.finish("a").unwrap();
    }

    #[test]
    fn everything_that_is_wrong_is_named_at_once() {
        let four = [0; 4];
        let checkpoint = checkpoint(&[
            ("counter", Dtype::I64, &[], &[0; 8]),
            ("extra", Dtype::F32, &[1], &four),
            ("integer", Dtype::I32, &[1], &four),
            ("misshaped", Dtype::F32, &[1, 1], &four),
            ("right", Dtype::F32, &[1], &four),
            ("unread", Dtype::I64, &[1], &[0; 8]),
        ]);
        let mut weights = Weights::of(&checkpoint);
        for name in ["right", "misshaped", "missing", "integer"] {
            assert_eq!(weights.take(name, &[1], Role::Parameter, &Init::FanIn(1.0)), [0.0]);
        }
        for name in ["counter", "unread", "absent"] {
            weights.unused(name, &[], StateType::Int64);
        }
        let Err(Error::Tensors { file, model, problems }) = weights.finish("a") else { panic!("nothing was wrong") };
        assert_eq!((&file[..], &model[..]), ("a.safetensors", "a"));
        let (one, name) = (vec![1], String::from);
        let expected = [
            Problem::Shape { tensor: name("misshaped"), found: vec![1, 1], expected: one.clone() },
            Problem::Missing { tensor: name("missing"), shape: one.clone() },
            Problem::Type { tensor: name("integer"), found: name("i32") },
            Problem::Shape { tensor: name("unread"), found: one.clone(), expected: vec![] },
            Problem::Extra { tensor: name("extra"), shape: one },
        ];
        assert_eq!(problems, expected);
    }

    #[test]
    fn a_file_that_ends_too_early_is_refused() {
        let whole = Checkpoint::from_tensors("a", vec![("w".into(), vec![2, 3], vec![1.0; 6])]).bytes;
        for n in 0..whole.len() {
            let error = Checkpoint::from_bytes("half.safetensors", whole[..n].to_vec()).unwrap_err();
            assert!(error.to_string().starts_with("half.safetensors: not a whole safetensors file: "), "{n}: {error}");
        }
        assert!(Checkpoint::from_bytes("a", whole).is_ok());
        let missing = Checkpoint::open(Path::new("no/such.safetensors")).unwrap_err();
        assert!(missing.to_string().starts_with("no/such.safetensors: "), "{missing}");
    }

    #[test]
    fn numbers_are_drawn_as_asked() {
        let rms = |values: &[f32]| (values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32).sqrt();
        let draw = |init: Init| draw(1, "w", &[400, 4, 5, 5], &init);
        // 40,000 numbers: standard errors are below 1 %.
        assert!((rms(&draw(Init::FanIn(2.0))) - 0.2).abs() < 0.004);
        let uniform = draw(Init::Uniform { low: -1.0, high: 3.0 });
        assert!(uniform.iter().all(|v| (-1.0..3.0).contains(v)));
        assert!((uniform.iter().sum::<f32>() / 40_000.0 - 1.0).abs() < 0.02);
        // One output sums over 100 numbers, whatever their places: the energy is that of the fan-in.
        let central = draw(Init::Central(2.0));
        assert!((rms(&central) - 0.2).abs() < 0.01);
        let at = |tap: usize| rms(&central.iter().skip(tap).step_by(25).copied().collect::<Vec<f32>>());
        assert!(at(12) > 1.5 * at(11) && at(11) > 1.5 * at(10), "{} {} {}", at(12), at(11), at(10));
        assert_eq!(draw(Init::Values(vec![0.5; 40_000])), vec![0.5; 40_000]);
    }
}
