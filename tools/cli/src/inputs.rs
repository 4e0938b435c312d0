//! Arrays for the inputs of a model: from files, checked against what the model declares, or random.

use std::collections::{BTreeMap, HashSet};

use kinglet::{DType, Model};
use kinglet_compiler::array::Array;
use kinglet_compiler::graph::Graph;
use kinglet_compiler::{DimInfo, InputInfo, Options};
use kinglet_native::OwnedSession;

use crate::args::{Dims, InputFiles};
use crate::error::{Error, Result};
use crate::io::npz::Npz;
use crate::io::{Streams, Wanted, read_tensor};
use crate::model::input_name;
use crate::random::Rng;

/// Arrays by the name of their input, of the type it declares.
pub type Arrays = BTreeMap<String, Array>;

/// Most elements of an array for an input whose shape is not fixed: what is read is held as 8 bytes an element, so that this is
/// a gigabyte.
const MOST_ELEMENTS: usize = 1 << 27;

/// Reads the values that inputs are bound to.
pub fn bound(
    files: &[(String, std::path::PathBuf)],
    declared: &[InputInfo],
    streams: &mut Streams<'_>,
) -> Result<Arrays> {
    let mut arrays = Arrays::new();
    for (name, path) in files {
        named("--bind", name, path, declared, &mut arrays, streams)?;
    }
    Ok(arrays)
}

/// Reads the array that a flag names for one of the `declared` inputs.
fn named(
    flag: &str,
    name: &str,
    path: &std::path::Path,
    declared: &[InputInfo],
    arrays: &mut Arrays,
    streams: &mut Streams<'_>,
) -> Result<()> {
    let info = declared.iter().find(|i| i.name == *name).ok_or_else(|| {
        Error::usage(format!("{flag} {name}={}: the model has no such input; {}", path.display(), listed(declared)))
    })?;
    if arrays.contains_key(name) {
        return Err(Error::usage(format!("{flag} {name} is given twice")));
    }
    let array = with_wanted(info, |wanted| read_tensor(path, wanted))?;
    arrays.insert(name.into(), accept(array, info, &path.display().to_string(), streams)?);
    Ok(())
}

/// Reads the arrays that `files` name for the `declared` inputs.
pub fn read(files: &InputFiles, declared: &[InputInfo], streams: &mut Streams<'_>) -> Result<Arrays> {
    let mut arrays = Arrays::new();
    for (name, path) in &files.input {
        named("--input", name, path, declared, &mut arrays, streams)?;
    }
    if let Some(path) = &files.inputs {
        let mut npz = Npz::open(path)?;
        let known: HashSet<&str> = declared.iter().map(|i| i.name.as_str()).collect();
        let strange: Vec<String> = npz.names().into_iter().filter(|n| !known.contains(n.as_str())).collect();
        if let Some(first) = strange.first() {
            let more = if strange.len() > 1 { format!(" (nor do {} more)", strange.len() - 1) } else { String::new() };
            let text = format!("entry `{first}` names no input of the model{more}; {}", listed(declared));
            return Err(Error::file(path, text));
        }
        for info in declared.iter().filter(|i| !files.input.iter().any(|(name, _)| *name == i.name)) {
            if let Some(array) = with_wanted(info, |wanted| npz.get(&info.name, wanted))? {
                let origin = format!("{}: entry `{}`", path.display(), info.name);
                arrays.insert(info.name.clone(), accept(array, info, &origin, streams)?);
            }
        }
    }
    Ok(arrays)
}

/// Fails if a declared input has neither an array nor a default.
pub fn require_all<'a>(given: impl Fn(&str) -> bool, declared: &'a [InputInfo], files: &InputFiles) -> Result<()> {
    let missing: Vec<&'a InputInfo> = declared.iter().filter(|i| !i.has_default && !given(&i.name)).collect();
    let Some(first) = missing.first() else { return Ok(()) };
    let list: Vec<String> = missing.iter().map(|i| describe(i)).collect();
    let text = format!("nothing is given for {}: use --input {}=FILE", list.join(", "), first.name);
    match &files.inputs {
        // The flag is there; that the archive lacks an entry is found inside a file.
        Some(path) => {
            let names = Npz::open(path)?.names();
            Err(Error::failed(format!("{text} ({} has the entries {})", path.display(), names.join(", "))))
        }
        None => Err(Error::usage(text + " or --inputs FILE.npz")),
    }
}

/// Reads an array as the input wants it: the shape in the file's header decides whether its elements are read.
fn with_wanted<T>(info: &InputInfo, read: impl FnOnce(&Wanted<'_>) -> Result<T>) -> Result<T> {
    let size = |d: &DimInfo| match d {
        DimInfo::Fixed(n) => Some(*n),
        DimInfo::Symbol(_) => None,
    };
    // What a fixed shape promises is bounded by what a plan can hold.
    let fixed = info.dims.iter().map(size).try_fold(1usize, |n, d| Some(n.saturating_mul(d?))).filter(|_| info.ranked);
    let most = fixed.map_or(MOST_ELEMENTS, |n| n.min(u32::MAX as usize / info.dtype.size()));
    let check = |shape: &[usize]| {
        let of_rank = shape.len() == info.dims.len()
            && shape.iter().zip(&info.dims).all(|(&n, d)| size(d).map_or(n > 0, |want| n == want));
        let fits = if info.ranked { of_rank } else { !shape.contains(&0) };
        let shape = crate::table::shape(shape);
        if fits { Ok(()) } else { Err(format!("input {}: the array has shape {shape}", describe(info))) }
    };
    read(&Wanted { most, check: &check })
}

/// Checks the type of an array against an input, and converts it where nothing is lost.
fn accept(array: Array, info: &InputInfo, origin: &str, streams: &mut Streams<'_>) -> Result<Array> {
    let rounded = array.dtype == DType::F32 && array.reals().iter().any(|&v| !v.is_nan() && f64::from(v as f32) != v);
    let array = convert(array, info.dtype)
        .map_err(|reason| Error::failed(format!("{origin}: input {}: {reason}", describe(info))))?
        .stored();
    if rounded {
        streams.note(format_args!("{origin}: f64 values are rounded to f32"));
    }
    Ok(array)
}

/// The same values in another type, if it holds each of them: f64 in f32 (rounded, but not to infinity), an integer in i32
/// or i64, bool in u8 and back. Everything else would be a guess at what is meant.
fn convert(array: Array, to: DType) -> std::result::Result<Array, String> {
    let from = array.dtype;
    let range = match (from, to) {
        (DType::F32, DType::F32) => {
            let overflow = array.reals().iter().any(|&v| v.is_finite() && (v as f32).is_infinite());
            return if overflow { Err("a value is too large for f32".into()) } else { Ok(array) };
        }
        (from, to) if from == to => return Ok(array),
        (DType::F32, _) | (_, DType::F32) => None,
        (_, DType::I64) => Some((i64::MIN, i64::MAX)),
        (_, DType::I32) => Some((i64::from(i32::MIN), i64::from(i32::MAX))),
        (DType::U8, DType::Bool) | (DType::Bool, DType::U8) => Some((0, 1)),
        _ => None,
    };
    let Some((lo, hi)) = range else {
        return Err(format!("the array has type {}: convert it to {}", from.name(), to.name()));
    };
    match array.ints().iter().find(|v| !(lo..=hi).contains(v)) {
        Some(v) => Err(format!("the value {v} does not fit the type {}", to.name())),
        None => Ok(Array::int(to, &array.shape, array.ints().into_owned())),
    }
}

fn listed(declared: &[InputInfo]) -> String {
    let list: Vec<String> = declared.iter().map(describe).collect();
    format!("its inputs are {}", list.join(", "))
}

/// An input as error texts name it: `` `x` (f32 batchx3x32x32) ``.
pub fn describe(info: &InputInfo) -> String {
    let dims: Vec<String> = info
        .dims
        .iter()
        .map(|d| match d {
            DimInfo::Fixed(n) => n.to_string(),
            DimInfo::Symbol(s) => s.clone(),
        })
        .collect();
    let shape = if info.ranked { crate::table::shape(&dims) } else { "of any shape".into() };
    format!("`{}` ({} {shape})", info.name, info.dtype.name())
}

/// Gives one of the `declared` inputs the shape that `--shape` says, and all of them the sizes of its symbolic dimensions.
pub fn give_shape(declared: &mut [InputInfo], name: &str, shape: &[usize]) -> Result<()> {
    let text = format!("--shape {name}={}", crate::table::shape(shape));
    let Some(at) = declared.iter().position(|i| i.name == name) else {
        return Err(Error::usage(format!("{text}: the model has no such input; {}", listed(declared))));
    };
    let info = &mut declared[at];
    let fits = |(d, n): (&DimInfo, &usize)| !matches!(d, DimInfo::Fixed(own) if own != n);
    if info.ranked && (info.dims.len() != shape.len() || !info.dims.iter().zip(shape).all(fits)) {
        return Err(Error::usage(format!("{text}: the model's input is {}", describe(info))));
    }
    let own = std::mem::replace(&mut info.dims, shape.iter().map(|&n| DimInfo::Fixed(n)).collect());
    info.ranked = true;
    for (symbol, &n) in own.iter().zip(shape).filter(|(d, _)| matches!(d, DimInfo::Symbol(_))) {
        declared.iter_mut().flat_map(|i| &mut i.dims).filter(|d| *d == symbol).for_each(|d| *d = DimInfo::Fixed(n));
    }
    Ok(())
}

/// What to compile for, so that these very arrays are the inputs.
pub fn options(arrays: &Arrays, dims: &Dims) -> Options {
    let mut options = dims.options();
    options.shapes.extend(arrays.iter().map(|(name, a)| (name.clone(), a.shape.clone())));
    options.values.clone_from(arrays);
    options
}

/// Writes arrays into the inputs of a session, and defaults into those that have no array. An input that the compiler bound to
/// its value is no input any more.
pub fn fill(session: &mut OwnedSession, arrays: &Arrays) -> Result<()> {
    fill_all_but(None, session, arrays)
}

/// Like [`fill`], but leaves alone the input with the name `other`, which is written from something else than an array.
pub fn fill_all_but(other: Option<&str>, session: &mut OwnedSession, arrays: &Arrays) -> Result<()> {
    for i in 0..session.model().input_count() {
        let name = input_name(&session.model(), i);
        if other == Some(name.as_str()) {
            continue;
        }
        let Some(array) = arrays.get(&name) else {
            if session.model().input_default(i).is_some() {
                session.set_default(i)?;
                continue;
            }
            // A random draw of the graph: it is no input in the ONNX file.
            let text = "nothing is given for input";
            return Err(Error::usage(format!("{text} `{name}`: convert the model, then run the .kgl with that input")));
        };
        write(session, i, &array.to_bytes())?;
    }
    Ok(())
}

/// Writes the bytes of one input.
pub fn write(session: &mut OwnedSession, i: usize, bytes: &[u8]) -> Result<()> {
    let name = input_name(&session.model(), i);
    let input = session.input_bytes_mut(i)?;
    if input.len() != bytes.len() {
        let text = format!("input `{name}` takes {} bytes, the array has {}", input.len(), bytes.len());
        return Err(Error::failed(text));
    }
    input.copy_from_slice(bytes);
    Ok(())
}

/// Adds the defaults of a graph's inputs that no array is there for.
pub fn add_defaults(arrays: &mut Arrays, graph: &Graph) {
    for (&t, default) in &graph.defaults {
        arrays.entry(graph.tensors[t].name.clone()).or_insert_with(|| Array::clone(default));
    }
}

/// Bytes for every input of a model: its default, or random ones.
pub fn random_bytes(model: &Model<'_>, seed: u64) -> Result<Vec<Vec<u8>>> {
    let mut rng = Rng::new(seed);
    let mut one = |i: usize| {
        if let Some(default) = model.input_default(i) {
            return Some(Ok(default.to_vec()));
        }
        let t = model.tensor(model.input_tensor(i)?);
        let fail = |reason| Error::failed(format!("random values for input `{}`: {reason}", input_name(model, i)));
        Some(rng.bytes(t.dtype(), t.len()).map_err(fail))
    };
    (0..model.input_count()).filter_map(&mut one).collect()
}

/// Random arrays for every declared input without a default, whose symbolic dimensions `dims` must bind.
pub fn random_arrays(declared: &[InputInfo], dims: &Dims, seed: u64) -> Result<Arrays> {
    let (mut rng, dims) = (Rng::new(seed), dims.map());
    let size = |info: &InputInfo, d: &DimInfo| match d {
        DimInfo::Fixed(n) => Ok(*n),
        DimInfo::Symbol(s) => dims.get(s).copied().ok_or_else(|| {
            Error::usage(format!("input {} has the unbound dimension `{s}`: bind it with --dim {s}=N", describe(info)))
        }),
    };
    let mut arrays = Arrays::new();
    for info in declared.iter().filter(|i| !i.has_default) {
        if !info.ranked {
            return Err(Error::usage(format!("input {}: give a shape with --shape {}=NxN", describe(info), info.name)));
        }
        let shape = info.dims.iter().map(|d| size(info, d)).collect::<Result<Vec<_>>>()?;
        let array = rng.array(info.dtype, &shape);
        let fail = |reason| Error::failed(format!("random values for input {}: {reason}", describe(info)));
        arrays.insert(info.name.clone(), array.map_err(fail)?);
    }
    Ok(arrays)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(dtype: DType, dims: &[Option<usize>]) -> InputInfo {
        let dim = |d: &Option<usize>| d.map_or(DimInfo::Symbol("n".into()), DimInfo::Fixed);
        InputInfo { name: "x".into(), dtype, dims: dims.iter().map(dim).collect(), ranked: true, has_default: false }
    }

    /// What is said of an array for an input, and the notes.
    fn offer(array: Array, info: &InputInfo) -> (Result<Array>, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let fits = with_wanted(info, |wanted| (wanted.check)(&array.shape).map_err(Error::failed));
        let result = fits.and_then(|()| accept(array, info, "f.npy", &mut Streams { out: &mut out, err: &mut err }));
        (result, String::from_utf8(err).unwrap())
    }

    #[test]
    fn only_lossless_conversions() {
        let ints = |dtype, v: &[i64]| Array::int(dtype, &[v.len()], v.to_vec());
        let good = [
            (ints(DType::I64, &[7, -7]), DType::I32),
            (ints(DType::I32, &[7]), DType::I64),
            (ints(DType::U8, &[0, 1]), DType::Bool),
            (ints(DType::Bool, &[1]), DType::U8),
            (ints(DType::I8, &[-3]), DType::I8),
            (Array::f32(&[1], vec![f64::NAN]), DType::F32),
            (Array::f32(&[1], vec![f64::INFINITY]), DType::F32),
        ];
        for (array, to) in good {
            assert_eq!(convert(array.clone(), to).map(|a| a.dtype), Ok(to), "{array:?}");
        }
        let bad = [
            (ints(DType::I64, &[1 << 40]), DType::I32),
            (ints(DType::U8, &[2]), DType::Bool),
            (ints(DType::U8, &[2]), DType::I8),
            (ints(DType::I8, &[2]), DType::F32),
            (Array::f32(&[1], vec![1.0]), DType::I8),
            (Array::f32(&[1], vec![1e300]), DType::F32),
        ];
        for (array, to) in bad {
            assert!(convert(array.clone(), to).is_err(), "{array:?}");
        }
    }

    #[test]
    fn shapes_are_checked_and_rounding_is_told() {
        let (result, notes) = offer(Array::f32(&[2], vec![0.5, 0.1]), &info(DType::F32, &[None]));
        assert!(result.is_ok() && notes.contains("rounded"), "{notes}");
        let (result, notes) = offer(Array::f32(&[2], vec![0.5, 0.25]), &info(DType::F32, &[Some(2)]));
        assert!(result.is_ok() && notes.is_empty(), "{notes}");
        let (result, _) = offer(Array::f32(&[2], vec![0.5, 0.25]), &info(DType::F32, &[Some(3)]));
        let text = result.unwrap_err().to_string();
        assert!(text.contains("`x` (f32 3)") && text.contains("shape 2"), "{text}");
        for dims in [&[][..], &[Some(2), None], &[Some(1)]] {
            assert!(offer(Array::f32(&[2], vec![0.5, 0.25]), &info(DType::F32, dims)).0.is_err(), "{dims:?}");
        }
    }

    #[test]
    fn missing_inputs_are_wrong_usage_and_listed() {
        let files = InputFiles { input: Vec::new(), inputs: None };
        let declared = [info(DType::I8, &[Some(1), None])];
        let error = require_all(|_| false, &declared, &files).unwrap_err();
        assert!(matches!(error, Error::Usage(_)) && error.to_string().contains("`x` (i8 1xn)"), "{error}");
        assert!(require_all(|_| true, &declared, &files).is_ok());
    }

    #[test]
    fn what_is_read_is_bounded_by_what_is_declared() {
        let most = |dtype, dims: &[Option<usize>]| with_wanted(&info(dtype, dims), |wanted| Ok(wanted.most)).unwrap();
        assert_eq!(most(DType::F32, &[Some(2), Some(3)]), 6);
        assert_eq!(most(DType::F32, &[Some(usize::MAX), Some(3)]), u32::MAX as usize / 4);
        assert_eq!(most(DType::F32, &[Some(2), None]), MOST_ELEMENTS);
    }
}
