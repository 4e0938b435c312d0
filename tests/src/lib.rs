//! What the whole-path tests share: models and arrays from files, running a plan, comparing results.

pub mod attention;
pub mod golden;
pub mod hostile;
pub mod indices;
pub mod mobilenet;
pub mod one_node;
pub mod parts;
pub mod quantised;
pub mod random_graphs;
pub mod reads;
pub mod recurrences;
pub mod small_onnx;
pub mod zoo_run;

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};

use kinglet::{Feed, Inline, Kernels, Model, Observer, Quiet, Ram, Reference, Session, Workers};
use kinglet_compiler::array::{Array, Numbers};
use kinglet_compiler::{Compiled, Options};

/// The folder of exported and trained models that lies beside a developer's checkout; `None` where it does not, which is the
/// one thing for which a test may be skipped, and is said. `KINGLET_SHARED` names it if it lies elsewhere.
///
/// # Panics
/// If `KINGLET_SHARED` names a folder without exports.
pub fn shared() -> Option<PathBuf> {
    let has_exports = |folder: &PathBuf| folder.join("exports").is_dir();
    if let Some(named) = std::env::var_os("KINGLET_SHARED").map(PathBuf::from) {
        assert!(has_exports(&named), "KINGLET_SHARED names {}, which has no folder `exports`", named.display());
        return Some(named);
    }
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let found = Some(beside).filter(has_exports);
    if found.is_none() {
        println!("skipped: the exported models are not beside this checkout (KINGLET_SHARED names their folder)");
    }
    found
}

/// Every exported model with its vectors beside it; `None` without the folder.
///
/// # Panics
/// If there are fewer than have been there, or one has no vectors.
pub fn exports() -> Option<Vec<PathBuf>> {
    let files = files_of(&shared()?.join("exports"), "onnx");
    assert!(files.len() >= 80, "only {} exports", files.len());
    for file in &files {
        assert!(file.with_extension("npz").exists(), "{} has no vectors", file.display());
    }
    Some(files)
}

/// Whether an export draws random numbers, which only a plan that takes them as inputs does. Forms of it that have the draws
/// as inputs are among the others, so that tests may leave it out.
pub fn draws(export: &Path) -> bool {
    ["mpgnet_t_drawing", "mpgnet_t_drawing_dyn20"]
        .iter()
        .any(|name| export.file_stem().is_some_and(|stem| stem == *name))
}

/// The files of a folder with this extension, by name.
///
/// # Panics
/// If the folder cannot be read or has none, so that no test goes through an empty list.
pub fn files_of(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|e| e.expect("a readable entry").path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == extension));
    files.sort();
    assert!(!files.is_empty(), "no .{extension} in {}", folder.display());
    files
}

/// Arrays of an `.npz` file by name.
pub fn read_npz(path: &Path) -> BTreeMap<String, Array> {
    parse_npz(&std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

/// Arrays of an `.npz` file's bytes by name.
pub fn parse_npz(bytes: &[u8]) -> BTreeMap<String, Array> {
    let mut npz = npyz::npz::NpzArchive::new(std::io::Cursor::new(bytes)).expect("a valid archive");
    let names: Vec<String> = npz.array_names().map(str::to_string).collect();
    let mut out = BTreeMap::new();
    for name in names {
        let mut raw = Vec::new();
        let mut file = npz.zip_archive().by_name(&format!("{name}.npy")).expect("the name comes from the archive");
        file.read_to_end(&mut raw).expect("an array of the archive");
        if let Some(array) = parse_npy(&raw) {
            out.insert(name, array);
        }
    }
    out
}

fn parse_npy(raw: &[u8]) -> Option<Array> {
    let npy = npyz::NpyFile::new(raw).ok()?;
    let shape: Vec<usize> = npy.shape().iter().map(|&d| d as usize).collect();
    let descr = npy.dtype().descr();
    use kinglet::DType;
    macro_rules! ints {
        ($t:ty, $d:expr) => {
            Array::int($d, &shape, npy.into_vec::<$t>().ok()?.into_iter().map(|v| v as i64).collect())
        };
    }
    Some(match descr.trim_matches(['\'', '<', '|', '>']) {
        "f4" => Array::f32(&shape, npy.into_vec::<f32>().ok()?.into_iter().map(f64::from).collect()),
        "f8" => Array::f32(&shape, npy.into_vec::<f64>().ok()?),
        "i1" => ints!(i8, DType::I8),
        "u1" => ints!(u8, DType::U8),
        "i2" => ints!(i16, DType::I16),
        "u2" => ints!(u16, DType::U16),
        "i4" => ints!(i32, DType::I32),
        "i8" => ints!(i64, DType::I64),
        "b1" => ints!(bool, DType::Bool),
        _ => return None,
    })
}

/// Memory at a multiple of 64.
pub struct Aligned {
    lines: Vec<Line>,
    len: usize,
}

#[repr(C, align(64))]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Line([u8; 64]);

impl Aligned {
    /// `len` zero bytes.
    pub fn zeroed(len: usize) -> Self {
        Aligned { lines: vec![Line([0; 64]); len.div_ceil(64)], len }
    }

    /// A copy of `bytes`.
    pub fn copy(bytes: &[u8]) -> Self {
        let mut a = Aligned::zeroed(bytes.len());
        a.as_mut().copy_from_slice(bytes);
        a
    }
}

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl AsMut<[u8]> for Aligned {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

/// Imports and compiles a model for inputs of the shapes (and values) given.
pub fn compile_for(path: &Path, inputs: &BTreeMap<String, Array>) -> Result<Compiled, kinglet_compiler::Error> {
    compile(path, &options_for(inputs))
}

/// Imports and compiles a model.
pub fn compile(path: &Path, options: &Options) -> Result<Compiled, kinglet_compiler::Error> {
    let graph = kinglet_compiler::import_file(path, options)?;
    kinglet_compiler::compile(graph, options)
}

/// Options that bind the shapes and values of the given inputs.
pub fn options_for(inputs: &BTreeMap<String, Array>) -> Options {
    let shapes = inputs.iter().map(|(k, v)| (k.clone(), v.shape.clone())).collect();
    Options { shapes, values: inputs.clone(), ..Options::default() }
}

/// Runs a compiled model; outputs by name.
pub fn run(kgl: &[u8], inputs: &BTreeMap<String, Array>) -> BTreeMap<String, Array> {
    run_with(kgl, inputs, &Inline, &mut Quiet)
}

/// Runs a compiled model with workers and an observer; outputs by name.
pub fn run_with(
    kgl: &[u8],
    inputs: &BTreeMap<String, Array>,
    workers: &dyn Workers,
    observer: &mut dyn Observer,
) -> BTreeMap<String, Array> {
    run_on(&Reference, kgl, inputs, workers, observer)
}

/// Runs a compiled model with the best kernels of this CPU; outputs by name.
pub fn run_best(kgl: &[u8], inputs: &BTreeMap<String, Array>) -> BTreeMap<String, Array> {
    run_on(kinglet_native::best_kernels(), kgl, inputs, &Inline, &mut Quiet)
}

/// Runs a compiled model with these kernels; outputs by name.
pub fn run_on(
    kernels: &dyn Kernels,
    kgl: &[u8],
    inputs: &BTreeMap<String, Array>,
    workers: &dyn Workers,
    observer: &mut dyn Observer,
) -> BTreeMap<String, Array> {
    let file = Aligned::copy(kgl);
    let model = Model::load(file.as_ref()).expect("the compiler writes valid files");
    model.check_weights().expect("the compiler writes valid weights");
    let mut arena = Aligned::zeroed(model.arena_bytes_for(workers.count()));
    // What a previous user left in memory must not matter.
    arena.as_mut().fill(0xA5);
    let mut slow = Aligned::zeroed(model.slow_bytes());
    slow.as_mut().fill(0x5A);
    let ram = Ram { arena: arena.as_mut(), slow: slow.as_mut() };
    let mut session = Session::new(model, ram, kernels).expect("the memory is large enough");
    let mut feed = Arrays::default();
    for i in 0..model.input_count() {
        let name = model.input_name(i).expect("compiled with names");
        let Some(array) = inputs.get(name) else {
            session.set_default(i).unwrap_or_else(|_| panic!("no value for input `{name}`, and no default"));
            continue;
        };
        let tensor = model.tensor(model.input_tensor(i).expect("has a tensor"));
        assert_eq!(tensor.dtype(), array.dtype, "type of input `{name}`");
        let bytes = array.to_bytes().into_owned();
        if !model.input_comes_by_rows(i) {
            session.input_bytes_mut(i).expect("exists").copy_from_slice(&bytes);
        }
        feed.inputs.insert(i, bytes);
    }
    if model.is_fed() {
        assert_eq!(session.run_with(workers, observer), Err(kinglet::Error::Fed));
        session.run_rows(&mut feed, workers, observer)
    } else {
        session.run_with(workers, observer)
    }
    .expect("the data has an answer for every step");
    (0..model.output_count())
        .map(|i| {
            let tensor = model.tensor(model.output_tensor(i).expect("has a tensor"));
            let shape: Vec<usize> = tensor.shape().iter().map(|&d| d as usize).collect();
            let bytes = match feed.outputs.get(&i) {
                Some(taken) => {
                    assert_eq!(session.output_bytes(i).ok(), (!model.output_goes_by_rows(i)).then_some(&taken[..]));
                    taken
                }
                None => session.output_bytes(i).expect("exists"),
            };
            let array = Array::from_bytes(tensor.dtype(), &shape, bytes).expect("sizes were verified");
            (model.output_name(i).expect("compiled with names").to_string(), array)
        })
        .collect()
}

/// Whole inputs, given by rows, and outputs that were taken so; each row once, and in order.
#[derive(Default)]
struct Arrays {
    inputs: BTreeMap<usize, Vec<u8>>,
    outputs: BTreeMap<usize, Vec<u8>>,
    /// Rows of each input that were given.
    given: BTreeMap<usize, usize>,
    /// Rows of each output that were taken.
    taken: BTreeMap<usize, usize>,
}

impl Feed for Arrays {
    fn give(&mut self, input: usize, rows: Range<usize>, to: &mut [u8]) -> ControlFlow<()> {
        let next = self.given.entry(input).or_default();
        assert_eq!(*next, rows.start, "rows are asked for once, in order");
        *next = rows.end;
        let row = to.len() / rows.len();
        to.copy_from_slice(&self.inputs[&input][rows.start * row..rows.end * row]);
        ControlFlow::Continue(())
    }

    fn take(&mut self, output: usize, rows: Range<usize>, from: &[u8]) -> ControlFlow<()> {
        let next = self.taken.entry(output).or_default();
        assert_eq!(*next, rows.start, "rows are given once, in order");
        *next = rows.end;
        self.outputs.entry(output).or_default().extend_from_slice(from);
        ControlFlow::Continue(())
    }
}

/// Largest absolute difference, and largest magnitude of `want`. NaN against anything but NaN is an infinite difference.
pub fn difference(got: &Array, want: &Array) -> (f64, f64) {
    assert_eq!(got.shape, want.shape, "shapes");
    let mut worst = 0f64;
    let mut magnitude = 0f64;
    for (g, w) in got.reals().iter().zip(want.reals().iter()) {
        let d = if g == w || (g.is_nan() && w.is_nan()) { 0.0 } else { (g - w).abs() };
        worst = worst.max(if d.is_nan() { f64::INFINITY } else { d });
        magnitude = magnitude.max(w.abs());
    }
    (worst, magnitude)
}

/// Signal-to-noise ratio of `got` against `want` in decibels.
pub fn sqnr(got: &Array, want: &Array) -> f64 {
    let (g, w) = (got.reals(), want.reals());
    let signal: f64 = w.iter().map(|v| v * v).sum();
    let noise: f64 = g.iter().zip(w.iter()).map(|(g, w)| (g - w) * (g - w)).sum();
    if noise == 0.0 { f64::INFINITY } else { 10.0 * (signal / noise).log10() }
}

/// Row `i` of an array whose first axis counts samples, with that axis kept as 1.
pub fn row(a: &Array, i: usize) -> Array {
    a.cut(0, i..i + 1)
}

/// A seeded stream of numbers for tests.
pub struct Random(u64);

impl Random {
    /// Starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// The next number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.next() >> 11) % n.max(1) as u64) as usize
    }

    /// The next eight bytes.
    pub fn bytes(&mut self) -> [u8; 8] {
        self.next().to_le_bytes()
    }

    /// The next real in −1 to 1, on a grid that f32 holds exactly.
    pub fn real(&mut self) -> f64 {
        self.below(4097) as f64 / 2048.0 - 1.0
    }

    /// An array of reals, or of integers over the whole range of a byte type.
    pub fn array(&mut self, dtype: kinglet::DType, shape: &[usize]) -> Array {
        let n = shape.iter().product();
        let data = match dtype {
            kinglet::DType::F32 => Numbers::F((0..n).map(|_| self.real()).collect()),
            kinglet::DType::I8 => Numbers::I((0..n).map(|_| self.below(256) as i64 - 128).collect()),
            kinglet::DType::U8 => Numbers::I((0..n).map(|_| self.below(256) as i64).collect()),
            kinglet::DType::Bool => Numbers::I((0..n).map(|_| self.below(2) as i64).collect()),
            _ => Numbers::I((0..n).map(|_| self.below(8) as i64).collect()),
        };
        Array::new(dtype, shape.to_vec(), data)
    }
}
