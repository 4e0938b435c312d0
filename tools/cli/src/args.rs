//! Arguments that several commands share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use kinglet::Model;
use kinglet_compiler::Options;
use kinglet_native::Open;

use crate::error::Error;

/// How an ONNX model is to be read.
#[derive(Args, Debug)]
pub struct Dims {
    /// Size of a symbolic dimension of an ONNX model; may be given several times
    #[arg(long = "dim", value_name = "NAME=N", value_parser = dimension)]
    dim: Vec<(String, usize)>,
    /// Make each random draw in an ONNX model an input, named like the draw's output
    #[arg(long)]
    draws_as_inputs: bool,
    /// Leave recurrences as the loops or nodes they are in an ONNX model: to compare with
    #[arg(long)]
    keep_loops: bool,
}

impl Dims {
    /// A name that was given two different values.
    pub fn contradicted(&self) -> Option<&str> {
        let map = self.map();
        self.dim.iter().find(|(name, value)| map[name] != *value).map(|(name, _)| name.as_str())
    }

    /// What they say to the compiler.
    pub fn options(&self) -> Options {
        Options {
            dims: self.map(),
            draws_as_inputs: self.draws_as_inputs,
            keep_loops: self.keep_loops,
            ..Options::default()
        }
    }

    /// The values by name.
    pub fn map(&self) -> BTreeMap<String, usize> {
        self.dim.iter().cloned().collect()
    }
}

/// Where inputs come from.
#[derive(Args, Debug)]
pub struct InputFiles {
    /// An input from a .npy file or an ONNX tensor (.pb); may be given several times
    #[arg(long = "input", value_name = "NAME=FILE", value_parser = named_file)]
    pub input: Vec<(String, PathBuf)>,
    /// Inputs from the entries of an .npz file that are named like them; what --input gives goes before its entry
    #[arg(long, value_name = "FILE.npz")]
    pub inputs: Option<PathBuf>,
}

/// How a compiled model is opened.
#[derive(Args, Debug)]
pub struct Opening {
    /// Do not compare the weights of a .kgl with their checksum: opens large files faster, and damaged ones
    #[arg(long)]
    no_check_weights: bool,
}

impl Opening {
    /// What it says to the runtime.
    pub fn how(&self) -> Open {
        Open { check_weights: !self.no_check_weights, ..Open::default() }
    }
}

/// What a run may cost.
#[derive(Args, Debug)]
pub struct Work {
    /// Refuse a model whose run takes more elementary operations than this, as its plan declares and loading verifies
    #[arg(long, value_name = "N", default_value_t = MOST_WORK)]
    max_work: u64,
}

/// Hours on one core, and more than any model that is meant for a device takes.
const MOST_WORK: u64 = 10_000_000_000_000;

impl Work {
    /// Refuses a model whose run would cost more.
    pub fn admit(&self, path: &Path, model: &Model<'_>) -> Result<(), Error> {
        let work = model.work();
        if work <= self.max_work {
            return Ok(());
        }
        let most = self.max_work;
        Err(Error::file(
            path,
            format_args!("a run takes {work} elementary operations, more than {most}: see --max-work"),
        ))
    }
}

/// How many threads to work with.
#[derive(Args, Debug)]
pub struct Threads {
    /// Threads that share the work of a step
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
}

impl Threads {
    /// The number.
    pub fn count(&self) -> usize {
        usize::from(self.threads)
    }
}

fn dimension(text: &str) -> Result<(String, usize), String> {
    let (name, size) = text.split_once('=').ok_or("expected NAME=N, as in batch=1")?;
    match size.parse() {
        Ok(n) if n > 0 && !name.is_empty() => Ok((name.to_string(), n)),
        _ => Err("expected NAME=N with a positive whole number N, as in batch=1".into()),
    }
}

fn named_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok((name.to_string(), file.into())),
        _ => Err("expected NAME=FILE, as in image=cat.npy".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_parsed_at_the_first_equals_sign() {
        assert_eq!(dimension("batch=4"), Ok(("batch".into(), 4)));
        assert_eq!(named_file("x=a=b.npy"), Ok(("x".into(), "a=b.npy".into())));
        for bad in ["batch", "batch=", "batch=0", "=3", "batch=-1", "batch=2.5"] {
            assert!(dimension(bad).is_err(), "{bad}");
        }
        for bad in ["x", "x=", "=y"] {
            assert!(named_file(bad).is_err(), "{bad}");
        }
    }
}
