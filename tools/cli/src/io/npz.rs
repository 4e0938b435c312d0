//! NumPy's `.npz` format: a zip of `.npy` files.

use std::collections::HashSet;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use kinglet::DType;
use kinglet_compiler::array::Array;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::{Wanted, npy};
use crate::atomic_write::Output;
use crate::error::{Error, Result};

/// An open `.npz` file.
pub struct Npz {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
}

impl Npz {
    /// Opens a file; no entry is read yet.
    pub fn open(path: &Path) -> Result<Npz> {
        let file = File::open(path).map_err(|e| Error::file(path, e))?;
        if !file.metadata().is_ok_and(|m| m.is_file()) {
            return Err(Error::file(path, "not a regular file, which an .npz must be: its table stands at the end"));
        }
        let archive = ZipArchive::new(BufReader::new(file))
            .map_err(|e| Error::file(path, format_args!("not an .npz file: {e}")))?;
        Ok(Npz { path: path.to_path_buf(), archive })
    }

    /// Names of the arrays.
    pub fn names(&self) -> Vec<String> {
        let plain = |n: &str| n.strip_suffix(".npy").unwrap_or(n).to_string();
        self.archive.file_names().flatten().map(|n| plain(&n)).collect()
    }

    /// Reads the array of this name, if there is one and it is as wanted.
    pub fn get(&mut self, name: &str, wanted: &Wanted<'_>) -> Result<Option<Array>> {
        let fail = |reason: String| Error::file(&self.path, format_args!("entry `{name}`: {reason}"));
        let entries = [format!("{name}.npy"), name.to_string()].map(|n| self.archive.index_for_name(&n));
        let index = match entries {
            [Some(_), Some(_)] => return Err(fail(format!("it is there twice, once as `{name}.npy`"))),
            [Some(index), None] | [None, Some(index)] => index,
            [None, None] => return Ok(None),
        };
        let mut entry = self.archive.by_index(index).map_err(|e| fail(e.to_string()))?;
        npy::read(&mut entry, wanted).map(Some).map_err(fail)
    }
}

/// A tensor to be written: name, type, shape, little-endian elements.
pub type Entry<'a> = (String, DType, Vec<u32>, &'a [u8]);

/// Writes an `.npz` file.
pub fn write(file: &Output<'_>, entries: &[Entry<'_>]) -> Result<()> {
    file.write(|sink| {
        let mut zip = ZipWriter::new(sink);
        let mut names = HashSet::new();
        for (name, dtype, shape, bytes) in entries {
            // A graph may list an output twice; an archive holds a name once.
            if !names.insert(name) {
                continue;
            }
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Stored)
                .large_file(bytes.len() >= 1 << 31);
            zip.start_file(format!("{name}.npy"), options)?;
            npy::write(&mut zip, *dtype, shape, bytes)?;
        }
        zip.finish()?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;
    use std::io::Write;

    #[test]
    fn entries_are_written_and_read_by_name() {
        let dir = TempDir::new();
        let path = dir.path().join("t.npz");
        let floats: Vec<u8> = [1f32, f32::NAN].iter().flat_map(|v| v.to_le_bytes()).collect();
        let file = Output::new(&path, Vec::new).unwrap();
        write(&file, &[("a/b:0".into(), DType::F32, vec![2], &floats), ("c".into(), DType::I8, vec![1, 1], &[0xff])])
            .unwrap();
        let (mut npz, any) = (Npz::open(&path).unwrap(), Wanted::up_to(9));
        assert_eq!(npz.names(), ["a/b:0", "c"]);
        assert_eq!(npz.get("c", &any).unwrap(), Some(Array::int(DType::I8, &[1, 1], vec![-1])));
        assert!(npz.get("a/b:0", &any).unwrap().unwrap().reals()[1].is_nan());
        assert_eq!(npz.get("d", &any).unwrap(), None);
    }

    #[test]
    fn compressed_entries_are_read_and_errors_name_file_and_entry() {
        let dir = TempDir::new();
        let path = dir.path().join("t.npz");
        let mut zip = ZipWriter::new(File::create(&path).unwrap());
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        zip.start_file("x.npy", options).unwrap();
        npy::write(&mut zip, DType::U8, &[1000], &[7; 1000]).unwrap();
        zip.start_file("bad.npy", options).unwrap();
        zip.write_all(b"no array").unwrap();
        zip.finish().unwrap();
        let (mut npz, any) = (Npz::open(&path).unwrap(), Wanted::up_to(1000));
        assert_eq!(npz.get("x", &any).unwrap(), Some(Array::int(DType::U8, &[1000], vec![7; 1000])));
        let error = npz.get("bad", &any).unwrap_err().to_string();
        assert!(error.contains("t.npz") && error.contains("`bad`"), "{error}");

        std::fs::write(&path, b"PK nonsense").unwrap();
        assert!(Npz::open(&path).is_err() && Npz::open(dir.path()).is_err());
    }

    #[test]
    fn a_small_archive_of_a_long_entry_costs_what_is_wanted() {
        let dir = TempDir::new();
        let path = dir.path().join("t.npz");
        let mut zip = ZipWriter::new(File::create(&path).unwrap());
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        // Two elements by its header, and megabytes behind them; and as many by its header.
        for (name, elements) in [("lies", 2), ("long", 1 << 24)] {
            zip.start_file(format!("{name}.npy"), options).unwrap();
            npy::write(&mut zip, DType::U8, &[elements], &[]).unwrap();
            (0..1 << 8).for_each(|_| zip.write_all(&[0; 1 << 16]).unwrap());
        }
        for name in ["twice.npy", "twice"] {
            zip.start_file(name, options).unwrap();
            npy::write(&mut zip, DType::U8, &[1], &[1]).unwrap();
        }
        zip.finish().unwrap();
        let mut npz = Npz::open(&path).unwrap();
        for (name, words) in [("lies", "more data than 2"), ("long", "too many elements"), ("twice", "there twice")] {
            let error = npz.get(name, &Wanted::up_to(1000)).unwrap_err().to_string();
            assert!(error.contains(&format!("t.npz: entry `{name}`: ")) && error.contains(words), "{error}");
        }
        assert_eq!(npz.get("long", &Wanted::up_to(1 << 24)).unwrap().unwrap().len(), 1 << 24);
    }
}
