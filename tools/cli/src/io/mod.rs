//! Streams and tensor files.

pub mod npy;
pub mod npz;
mod pb;
mod streams;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use kinglet_compiler::array::Array;

pub use streams::{PipeSafe, Streams};

use crate::error::{Error, Result};
use crate::memory;
use crate::table::shape as dims;

/// The ending of a file's name in lower case.
pub fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
}

/// Most bytes of an ONNX file: protobuf does not go further, and what has more keeps its tensors in files beside it.
pub const MOST_BYTES: u64 = 1 << 31;

/// Reads a whole ONNX file; an error names it.
pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    read_rest(path, &[], File::open(path).map_err(|e| Error::file(path, e))?, MOST_BYTES)
}

/// Reads the rest of a file of which `begin` has been read. More than `most` bytes are an error, and are not read: a pipe may go on
/// for ever, and a file of a few blocks claim any length.
pub fn read_rest(path: &Path, begin: &[u8], file: File, most: u64) -> Result<Vec<u8>> {
    let fail = |e: std::io::Error| Error::file(path, e);
    // A pipe says 0.
    let length = file.metadata().map_err(fail)?.len();
    let too_long = || Error::file(path, format_args!("it has more than {most} bytes"));
    if length > most {
        return Err(too_long());
    }
    let mut bytes = begin.to_vec();
    memory::reserve(&mut bytes, length as usize).map_err(|e| Error::file(path, e))?;
    // Reports it if memory runs out while a pipe goes on.
    (&file).take(most + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > most { Err(too_long()) } else { Ok(bytes) }
}

/// What an array must be for its elements to be read: a file, however small, may promise any number of them.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// Most elements.
    pub most: usize,
    /// Says what is wrong with a shape.
    pub check: &'a dyn Fn(&[usize]) -> std::result::Result<(), String>,
}

impl Wanted<'_> {
    /// Any array of at most `most` elements.
    #[cfg(test)]
    fn up_to(most: usize) -> Self {
        Wanted { most, check: &|_| Ok(()) }
    }

    /// The number of elements of an array of this shape.
    fn elements(&self, shape: &[usize]) -> std::result::Result<usize, String> {
        (self.check)(shape)?;
        let n = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= self.most);
        n.ok_or_else(|| {
            format!("an array of shape {} has too many elements, at most {} are read", dims(shape), self.most)
        })
    }
}

/// Reads a tensor from a `.npy` file or an ONNX tensor (`.pb`).
pub fn read_tensor(path: &Path, wanted: &Wanted<'_>) -> Result<Array> {
    let fail = |reason: String| Error::file(path, reason);
    let open = || File::open(path).map_err(|e| Error::file(path, e));
    match extension(path).as_str() {
        "npy" => npy::read(&mut BufReader::new(open()?), wanted).map_err(fail),
        "pb" => pb::read(&read_rest(path, &[], open()?, pb::most_bytes(wanted))?, wanted).map_err(fail),
        "npz" => Err(Error::usage(format!("{}: give an .npz file with --inputs", path.display()))),
        _ => {
            let text = "unknown kind of tensor file: it should end in .npy (NumPy) or .pb (ONNX TensorProto)";
            Err(Error::usage(format!("{}: {text}", path.display())))
        }
    }
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
            assert!(matches!(read_tensor(Path::new(path), &Wanted::up_to(9)), Err(Error::Usage(_))), "{path}");
        }
        assert!(matches!(read_tensor(Path::new("no/such.npy"), &Wanted::up_to(9)), Err(Error::Failed(_))));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn endless_input_is_not_read_to_the_end() {
        let zeros = File::open("/dev/zero").unwrap();
        let error = read_rest(Path::new("/dev/zero"), b"", zeros, 1000).unwrap_err().to_string();
        assert!(error.contains("more than 1000 bytes"), "{error}");
    }

    #[test]
    fn a_file_that_is_longer_than_it_can_be_is_not_read() {
        let dir = crate::testing::TempDir::new();
        let path = dir.path().join("x.pb");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let error = read_tensor(&path, &Wanted::up_to(10)).unwrap_err().to_string();
        assert!(error.contains("x.pb: it has more than 1048676 bytes"), "{error}");
        let error = read_file(&path).unwrap_err().to_string();
        assert!(error.contains("x.pb: it has more than 2147483648 bytes"), "{error}");
    }
}
