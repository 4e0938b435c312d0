//! Streams and tensor files.

pub mod npy;
pub mod npz;
mod pb;
mod streams;

use std::path::Path;

use kinglet_compiler::array::Array;

pub use streams::{PipeSafe, Streams};

use crate::error::{Error, Result};

/// The ending of a file's name in lower case.
pub fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
}

/// Reads a whole file; an error names it.
pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::file(path, e))
}

/// Reads a tensor from a `.npy` file or an ONNX tensor (`.pb`).
pub fn read_tensor(path: &Path) -> Result<Array> {
    let read: fn(&[u8]) -> std::result::Result<Array, String> = match extension(path).as_str() {
        "npy" => npy::read,
        "pb" => pb::read,
        "npz" => return Err(Error::usage(format!("{}: give an .npz file with --inputs", path.display()))),
        _ => {
            let text = "unknown kind of tensor file: it should end in .npy (NumPy) or .pb (ONNX TensorProto)";
            return Err(Error::usage(format!("{}: {text}", path.display())));
        }
    };
    read(&read_file(path)?).map_err(|reason| Error::file(path, reason))
}

/// The number of elements of a shape read from a file whose content is `bytes` long. Each element takes at least a byte,
/// so that a shape that lies cannot make anybody allocate.
fn elements(shape: &[usize], bytes: usize) -> std::result::Result<usize, String> {
    shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .filter(|&n| n <= bytes)
        .ok_or_else(|| format!("the shape {shape:?} does not fit the {bytes} bytes of data"))
}

/// A half-precision float; exact.
fn f16(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let fraction = f64::from(bits & 0x3ff);
    sign * match (bits >> 10) & 0x1f {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        e => (1.0 + fraction / 1024.0) * 2f64.powi(i32::from(e) - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_floats() {
        for (bits, value) in [(0x3c00, 1.0), (0xc000, -2.0), (0x0001, 2f64.powi(-24)), (0x7bff, 65504.0), (0, 0.0)] {
            assert_eq!(f16(bits), value);
        }
        assert!(f16(0x7c01).is_nan() && f16(0xfc00) == f64::NEG_INFINITY);
    }

    #[test]
    fn an_unknown_ending_is_wrong_usage() {
        for path in ["a.txt", "a", "a.npz"] {
            assert!(matches!(read_tensor(Path::new(path)), Err(Error::Usage(_))), "{path}");
        }
        assert!(matches!(read_tensor(Path::new("no/such.npy")), Err(Error::Failed(_))));
    }
}
