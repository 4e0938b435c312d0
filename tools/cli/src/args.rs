//! Arguments that several commands share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use kinglet::Target;
use kinglet_compiler::{Banding, MemoryRegion, Options, Precision};
use kinglet_native::Open;

use crate::error::Error;

/// How an ONNX model is to be read.
#[derive(Args, Debug)]
pub struct Dims {
    /// Size of a symbolic dimension of an ONNX model; may be given several times
    #[arg(long = "dim", value_name = "NAME=N", value_parser = dimension)]
    dim: Vec<(String, usize)>,
    /// Shape of an input of an ONNX model, as in x=1x3x224x224, or x=scalar: of one whose shape the model does not say, or leaves open; may be
    /// given several times
    #[arg(long = "shape", value_name = "NAME=NxN", value_parser = shape)]
    shape: Vec<(String, Vec<usize>)>,
    /// The most trips of a loop in an ONNX model of which data decide how many it has: a run ends it as early as they do, and fails if they want
    /// more
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(kinglet::format::MAX_SLICES)))]
    max_trips: Option<u32>,
    /// Make each random draw in an ONNX model an input, named like the draw's output
    #[arg(long)]
    draws_as_inputs: bool,
    /// Make the output of NonMaxSuppression, whose length depends on the data, as long as it may be at most, filled up with -1, and add how
    /// many boxes are selected as an output, NAME.count
    #[arg(long)]
    pad_selections: bool,
    /// Leave recurrences as the loops or nodes they are in an ONNX model: to compare with
    #[arg(long)]
    keep_loops: bool,
    /// Leave channels that nobody reads or that are always the same: to compare with
    #[arg(long)]
    keep_channels: bool,
    /// Leave out a pass of the compiler, to find the one that a wrong answer comes from; a wrong name lists them; may be given several times
    #[arg(long = "without-pass", value_name = "PASS")]
    without: Vec<String>,
    /// Store floats in 16 bits: the weights of products, and on targets that compute with them what lies between steps
    #[arg(long, value_enum, default_value_t = Floats::F32)]
    precision: Floats,
    /// Run steps a few rows at a time, so that only the rows are kept that are still needed: `memory` as takes the smallest arena,
    /// `speed` as moves the fewest bytes; unless it is said, `memory` for microcontrollers and `off` for others
    #[arg(long, value_enum)]
    bands: Option<Bands>,
    /// Take the rows of an input, or give those of an output, while the plan runs, so that it need not lie in memory as a whole;
    /// pictures are channels last then; may be given several times
    #[arg(long, value_name = "NAME")]
    feed: Vec<String>,
    /// Memory that there is, as in sram=64k: bands for memory go no further than it asks, in as large slices as fit. A second one, as in
    /// psram=4M, is slower, and takes the tensors that the first one has no room for. What does not fit is refused
    #[arg(long = "region", value_name = "NAME=BYTES", value_parser = region)]
    regions: Vec<MemoryRegion>,
}

/// How floats are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Floats {
    /// In 32 bits, as the model has them
    F32,
    /// In 16 bits
    F16,
}

/// Which steps run in bands of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Bands {
    /// Each step computes all of its rows before the next
    Off,
    /// As takes the smallest arena
    Memory,
    /// As takes the fewest bytes out of a host's caches
    Speed,
}

impl Dims {
    /// A flag and the name that it was given with two different values.
    pub fn contradicted(&self) -> Option<(&str, &str)> {
        let (dims, shapes) = (self.map(), self.shapes());
        let dim = self.dim.iter().find(|(name, value)| dims[name] != *value).map(|(name, _)| ("--dim", name.as_str()));
        let shape = || self.shape.iter().find(|(name, value)| shapes[name] != *value);
        dim.or_else(|| shape().map(|(name, _)| ("--shape", name.as_str())))
    }

    /// A flag that says of an ONNX model what is fixed in a compiled one.
    pub fn fixed_in_plans(&self) -> Option<&'static str> {
        let given = [
            ("--dim", !self.dim.is_empty()),
            ("--shape", !self.shape.is_empty()),
            ("--max-trips", self.max_trips.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
    }

    /// What they say to the compiler, for the target that suits this machine.
    pub fn options(&self) -> Options {
        self.options_for(kinglet_native::host_target())
    }

    /// What they say to the compiler, for a target.
    pub fn options_for(&self, target: Target) -> Options {
        Options {
            dims: self.map(),
            shapes: self.shapes(),
            max_trips: self.max_trips.map(|n| n as usize),
            draws_as_inputs: self.draws_as_inputs,
            pad_selections: self.pad_selections,
            keep_loops: self.keep_loops,
            without: self.without.clone(),
            target,
            keep_channels: self.keep_channels,
            regions: self.regions.clone(),
            feed: self.feed.clone(),
            precision: match self.precision {
                Floats::F32 => Precision::F32,
                Floats::F16 => Precision::F16,
            },
            bands: match self.bands {
                None if target.info().small => Banding::Memory,
                None | Some(Bands::Off) => Banding::Off,
                Some(Bands::Memory) => Banding::Memory,
                Some(Bands::Speed) => Banding::Speed,
            },
            ..Options::default()
        }
    }

    /// The shapes by name.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.shape.iter().cloned().collect()
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
pub struct Cost {
    /// Most work that a run may take, in elements and products; what takes more is refused before it starts
    #[arg(long, value_name = "N", default_value = MAX_WORK, value_parser = work)]
    max_work: u64,
}

/// The default of `--max-work`: the largest model of the zoo takes a twentieth of it, and a core some minutes up to hours.
const MAX_WORK: &str = "1e12";

impl Cost {
    /// Fails if `runs` runs of the model at `path`, each of `work`, are more than may be: a small file can hold a plan that runs
    /// for days.
    pub fn check(&self, path: &Path, work: u64, runs: usize) -> Result<(), Error> {
        let all = work.saturating_mul(runs as u64);
        if all <= self.max_work {
            return Ok(());
        }
        let times = if runs == 1 { String::new() } else { format!(" in {runs} runs") };
        let most = self.max_work as f64;
        let text = format!("it takes {:.1e} elements and products of work{times}, more than {most:.1e}", all as f64);
        Err(Error::file(path, text + ": give --max-work a larger number if that is meant"))
    }
}

fn work(text: &str) -> Result<u64, String> {
    // As 1000000 or as 1e6; what is larger than any number of work stands for all of them.
    let number = text.parse::<f64>().ok().filter(|n| *n >= 1.0);
    number.map(|n| n as u64).ok_or_else(|| "expected a number of at least 1, as in 1e12".into())
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

/// A size of a symbolic dimension, as `--dim` has it.
pub fn dimension(text: &str) -> Result<(String, usize), String> {
    let (name, size) = text.split_once('=').ok_or("expected NAME=N, as in batch=1")?;
    match size.parse() {
        Ok(n) if n > 0 && !name.is_empty() => Ok((name.to_string(), n)),
        _ => Err("expected NAME=N with a positive whole number N, as in batch=1".into()),
    }
}

/// A shape of an input, as `--shape` has it.
fn shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let wanted = "expected NAME=NxN with positive whole numbers, as in image=1x3x224x224, or NAME=scalar";
    let (name, sizes) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or(wanted)?;
    let sizes = if sizes == "scalar" { Some(Vec::new()) } else { sizes.split('x').map(|n| n.parse().ok()).collect() };
    let shape = sizes.filter(|shape| !shape.contains(&0)).ok_or(wanted)?;
    Ok((name.to_string(), shape))
}

fn region(text: &str) -> Result<MemoryRegion, String> {
    let wanted = "expected NAME=BYTES, as in sram=65536, sram=64k or psram=4M";
    let (name, size) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or(wanted)?;
    Ok(MemoryRegion { name: name.to_string(), bytes: size_in_bytes(size).map_err(|_| wanted)? })
}

/// A number of bytes, as in 65536, 64k or 4M.
pub fn size_in_bytes(size: &str) -> Result<usize, String> {
    let wanted = "expected a number of bytes, as in 65536, 64k or 4M";
    let (digits, shift) = match size.as_bytes().last() {
        Some(b'k' | b'K') => (&size[..size.len() - 1], 10),
        Some(b'M') => (&size[..size.len() - 1], 20),
        Some(b'G') => (&size[..size.len() - 1], 30),
        _ => (size, 0),
    };
    let bytes = digits.parse::<usize>().ok().and_then(|n| n.checked_mul(1 << shift)).ok_or(wanted)?;
    Ok(bytes)
}

pub fn named_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok((name.to_string(), file.into())),
        _ => Err("expected NAME=FILE, as in image=cat.npy".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_beyond_the_bound_is_refused() {
        let cost = |text| Cost { max_work: work(text).unwrap() };
        let path = Path::new("m.kgl");
        assert!(cost(MAX_WORK).check(path, 42_000_000_000, 10).is_ok());
        let error = cost(MAX_WORK).check(path, u64::MAX, 1).unwrap_err();
        assert!(matches!(error, Error::Failed(_)) && error.to_string().contains("m.kgl: it takes 1.8e19"), "{error}");
        assert!(cost("10").check(path, 5, 2).is_ok() && cost("10").check(path, 6, 2).is_err());
        assert!(cost("1e30").check(path, u64::MAX, 9).is_ok() && cost("inf").check(path, u64::MAX, 9).is_ok());
        for bad in ["0", "-1", "nan", "x", ""] {
            assert!(work(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pairs_are_parsed_at_the_first_equals_sign() {
        assert_eq!(dimension("batch=4"), Ok(("batch".into(), 4)));
        assert_eq!(named_file("x=a=b.npy"), Ok(("x".into(), "a=b.npy".into())));
        for bad in ["batch", "batch=", "batch=0", "=3", "batch=-1", "batch=2.5"] {
            assert!(dimension(bad).is_err(), "{bad}");
        }
        let bytes = |text| region(text).map(|r| (r.name, r.bytes));
        assert_eq!(bytes("sram=64k"), Ok(("sram".into(), 65536)));
        assert_eq!(bytes("psram=4M"), Ok(("psram".into(), 4 << 20)));
        assert_eq!(bytes("a=0"), Ok(("a".into(), 0)));
        for bad in [
            "64k",
            "=64k",
            "sram=",
            "sram=k",
            "sram=-1",
            "sram=6.4k",
            "sram=99999999999999999999",
            "sram=18446744073709551615k",
        ] {
            assert!(region(bad).is_err(), "{bad}");
        }
        for bad in ["x", "x=", "=y"] {
            assert!(named_file(bad).is_err(), "{bad}");
        }
    }
}
