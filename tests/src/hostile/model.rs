//! An ONNX file goes the whole way: import, compile, load, run.

use std::time::{Duration, Instant};

use kinglet::Model;
use kinglet_compiler::{Error, Options, compile, import};
use kinglet_onnx::ModelProto;

use super::{caught, memory, run};
use crate::Aligned;

/// Most bytes that import and compilation of a small file may hold at once.
const MOST_MEMORY: isize = 1 << 30;
/// Further bytes for each byte of the file.
const MEMORY_A_BYTE: isize = 64;
/// Longest time a case may take; the budget is worth a second or two, the rest is for a busy machine.
const MOST_TIME: Duration = Duration::from_secs(10);
/// Plans of more bytes are not loaded.
const MOST_PLAN: usize = 64 << 20;

/// How far a file came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A typed error.
    Refused,
    /// It compiled; it is too large to try.
    Compiled,
    /// It compiled and ran.
    Ran,
}

/// What the files are compiled with: random draws as inputs and selections padded, so that files that have some come further.
pub fn options() -> Options {
    Options { draws_as_inputs: true, pad_selections: true, ..Options::default() }
}

/// As [`check_bytes`], of a model.
pub fn check(model: &ModelProto) -> Result<Outcome, String> {
    check_bytes(&model.to_bytes())
}

/// [`through`] within bounds of time and memory.
///
/// # Errors
/// What no file may cause; a panic is one of these.
pub fn check_bytes(bytes: &[u8]) -> Result<Outcome, String> {
    let start = Instant::now();
    let (outcome, peak) = memory::peak(|| caught(|| through(bytes)));
    let (outcome, time) = (outcome?, start.elapsed());
    if peak > MOST_MEMORY + MEMORY_A_BYTE * bytes.len() as isize {
        return Err(format!("{} MiB for a file of {} bytes", peak >> 20, bytes.len()));
    }
    if time > MOST_TIME {
        return Err(format!("it took {time:?}"));
    }
    Ok(outcome)
}

/// Imports, compiles, loads and runs.
///
/// # Errors
/// What no file may cause: that the plan does not verify, or that its run depends on who runs it.
pub fn through(bytes: &[u8]) -> Result<Outcome, String> {
    let options = options();
    let compiled = match import(bytes, None, &options).and_then(|graph| compile(graph, &options)) {
        Ok(compiled) => compiled,
        Err(Error::Internal(e)) => return Err(format!("internal: {e}")),
        Err(e) => {
            // Whoever gets an error prints it.
            e.to_string();
            return Ok(Outcome::Refused);
        }
    };
    if compiled.kgl.len() > MOST_PLAN {
        return Ok(Outcome::Compiled);
    }
    let mut file = Aligned::copy(&compiled.kgl);
    let model = Model::load(file.as_ref()).map_err(|e| format!("it does not load: {e}"))?;
    model.check_weights().map_err(|e| e.to_string())?;
    super::plan::demand_tiles(file.as_mut());
    let model = Model::load(file.as_ref()).map_err(|e| format!("it does not load with other reports: {e}"))?;
    Ok(if run::everywhere(model, &mut crate::Random::new(1))? { Outcome::Ran } else { Outcome::Compiled })
}
