//! Output files that are whole or not there.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What a file is written through.
pub trait Sink: Write + Seek {}

impl<T: Write + Seek> Sink for T {}

/// Writes `path` through `content`: into a temporary file beside it that takes its name at the end. On an error the
/// temporary file goes away and what was at `path` before stays.
pub fn write(path: &Path, content: impl FnOnce(&mut dyn Sink) -> std::io::Result<()>) -> Result<()> {
    try_write(path, content).map_err(|e| Error::file(path, format_args!("cannot write it: {e}")))
}

fn try_write(path: &Path, content: impl FnOnce(&mut dyn Sink) -> std::io::Result<()>) -> std::io::Result<()> {
    // A link keeps pointing where it does; a device or pipe is written to, not replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    if fs::metadata(&target).is_ok_and(|m| !m.is_file()) {
        let mut bytes = std::io::Cursor::new(Vec::new());
        content(&mut bytes)?;
        return OpenOptions::new().write(true).open(&target)?.write_all(bytes.get_ref());
    }
    let (temporary, file) = Temporary::beside(&target)?;
    let mut file = BufWriter::new(file);
    content(&mut file)?;
    file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    temporary.rename(&target)
}

/// A file that is removed unless it gets its name.
struct Temporary(Option<PathBuf>);

impl Temporary {
    fn beside(target: &Path) -> std::io::Result<(Temporary, File)> {
        let name = target
            .file_name()
            .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not the name of a file"))?;
        // Several threads of this process may write the same file (tests do), so the name is tried until it is free.
        for attempt in 0u32.. {
            let mut hidden = std::ffi::OsString::from(".");
            hidden.push(name);
            hidden.push(format!(".{}-{attempt}.tmp", std::process::id()));
            let path = target.with_file_name(hidden);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((Temporary(Some(path)), file)),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && attempt < 1000 => {}
                Err(e) => return Err(e),
            }
        }
        unreachable!("the loop ends by returning")
    }

    fn rename(mut self, target: &Path) -> std::io::Result<()> {
        if let Some(path) = &self.0 {
            fs::rename(path, target)?;
        }
        self.0 = None;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // The error that brought us here is the one to report.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    fn names(dir: &TempDir) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let dir = TempDir::new();
        let path = dir.path().join("a.bin");
        write(&path, |f| f.write_all(b"one")).unwrap();
        write(&path, |f| f.write_all(b"two")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(&dir), ["a.bin"]);
    }

    #[test]
    fn a_failure_leaves_nothing_behind_and_the_old_file_in_place() {
        let dir = TempDir::new();
        let path = dir.path().join("a.bin");
        write(&path, |f| f.write_all(b"old")).unwrap();
        let error = write(&path, |f| {
            f.write_all(b"half")?;
            Err(std::io::Error::other("disk on fire"))
        });
        let text = error.unwrap_err().to_string();
        assert!(text.contains("a.bin") && text.contains("disk on fire"), "{text}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(&dir), ["a.bin"]);
        assert!(write(&dir.path().join("no/such/folder/b"), |_| Ok(())).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link_and_a_device_a_device() {
        let dir = TempDir::new();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        write(&link, |f| f.write_all(b"new")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&real).unwrap(), b"new");
        write(Path::new("/dev/null"), |f| f.write_all(b"x")).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
