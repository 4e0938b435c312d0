//! Output files: the one place that writes any.
//!
//! * A file is whole or not there: it is written into a temporary file beside it, which takes its name at the end. On an error
//!   the temporary file goes away, and what was there before stays. (A file without a name, `O_TMPFILE`, would not even need
//!   removing; but such a file cannot take the place of another, so that it would need a name in between all the same.)
//! * No command writes over what it reads, whatever name that goes by.
//! * What replaces a file takes over its mode, and its owner and group as far as the system allows. A file that must not be
//!   written is not replaced either.
//! * A symbolic link stays one, also one that points to nothing yet. Of several hard links, the one that was named gets the
//!   new file; the others keep the old one.
//! * A device or pipe is written to, not replaced.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{BufWriter, Error as IoError, ErrorKind, Result as IoResult, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// What a file is written through.
pub trait Sink: Write + Seek {}

impl<T: Write + Seek> Sink for T {}

/// A file that a command is going to write.
pub struct Output<'a> {
    path: &'a Path,
}

impl<'a> Output<'a> {
    /// The file at `path`. `read` lists what the command reads; it is asked only if there is a file at `path` already.
    ///
    /// # Errors
    /// Wrong usage if `path` is one of the files read.
    pub fn new(path: &'a Path, read: impl FnOnce() -> Vec<PathBuf>) -> Result<Output<'a>> {
        if let Some(there) = fs::metadata(path).ok().filter(Metadata::is_file)
            && let Some(input) = read().iter().find(|input| is_same(path, &there, input))
        {
            let text = if input == path {
                "it is a file that the command reads: give the output another name".to_string()
            } else {
                format!("it is {}, which the command reads: give the output another name", input.display())
            };
            return Err(Error::usage(format!("{}: {text}", path.display())));
        }
        Ok(Output { path })
    }

    /// Writes the file through `content`.
    ///
    /// # Errors
    /// Names the file.
    pub fn write(&self, content: impl FnOnce(&mut dyn Sink) -> IoResult<()>) -> Result<()> {
        write(self.path, content).map_err(|e| Error::file(self.path, format_args!("cannot write it: {e}")))
    }
}

/// Whether two names lead to one file, through links of either kind.
fn is_same(path: &Path, file: &Metadata, other: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let _ = path;
        fs::metadata(other).is_ok_and(|other| (file.dev(), file.ino()) == (other.dev(), other.ino()))
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        fs::canonicalize(path).ok().is_some_and(|path| fs::canonicalize(other).ok() == Some(path))
    }
}

fn write(path: &Path, content: impl FnOnce(&mut dyn Sink) -> IoResult<()>) -> IoResult<()> {
    let there = match fs::metadata(path) {
        Ok(there) => Some(there),
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    let Some(old) = there else { return replace(&end_of_links(path)?, None, content) };
    // Asked of the file and not of its mode, because who asks matters too. Opening changes nothing.
    let mut file = OpenOptions::new().write(true).open(path)?;
    if old.is_file() {
        return replace(&fs::canonicalize(path)?, Some(&old), content);
    }
    let mut bytes = std::io::Cursor::new(Vec::new());
    content(&mut bytes)?;
    file.write_all(bytes.get_ref())
}

/// Where a chain of symbolic links ends that leads to nothing yet.
fn end_of_links(path: &Path) -> IoResult<PathBuf> {
    let mut path = path.to_path_buf();
    // As many links as Linux follows.
    for _ in 0..40 {
        match fs::read_link(&path) {
            // An absolute target replaces the folder, a relative one starts from it.
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(IoError::other("too many symbolic links"))
}

fn replace(target: &Path, old: Option<&Metadata>, content: impl FnOnce(&mut dyn Sink) -> IoResult<()>) -> IoResult<()> {
    let (temporary, file) = Temporary::beside(target, old)?;
    let mut file = BufWriter::new(file);
    content(&mut file)?;
    let file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    if let Some(old) = old {
        take_over(&file, old)?;
    }
    file.sync_all()?;
    drop(file);
    temporary.rename(target)
}

/// Gives a file mode, owner and group of another.
fn take_over(file: &File, old: &Metadata) -> IoResult<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        // Only root may give files away; a group of one's own may be kept by anybody. Before the mode, because a change of
        // owner takes bits from it.
        let given = fchown(file, Some(old.uid()), Some(old.gid())).or_else(|_| fchown(file, None, Some(old.gid())));
        if given.is_err() && old.mode() & 0o7000 != 0 {
            // Special bits are about an owner or group that the file does not have.
            use std::os::unix::fs::PermissionsExt;
            return file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o777));
        }
    }
    file.set_permissions(old.permissions())
}

/// The temporary files that there are. Whoever holds the lock knows that none comes or goes.
static TEMPORARIES: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn temporaries() -> MutexGuard<'static, Vec<PathBuf>> {
    // A list of names is whole whatever happened to its last owner.
    TEMPORARIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes all temporary files, for an end of the program from outside. While the result is held, there will be no new ones,
/// and none takes its name.
#[cfg(unix)]
pub fn remove_temporaries() -> MutexGuard<'static, Vec<PathBuf>> {
    let mut list = temporaries();
    for path in list.drain(..) {
        let _ = fs::remove_file(path);
    }
    list
}

/// A file that is removed unless it gets its name.
struct Temporary(PathBuf);

impl Temporary {
    fn beside(target: &Path, old: Option<&Metadata>) -> IoResult<(Temporary, File)> {
        if target.file_name().is_none() {
            return Err(IoError::new(ErrorKind::InvalidInput, "it is not the name of a file"));
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        if old.is_some() {
            // What replaces a file of one's own is not for others to see, not even for a moment.
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        let mut list = temporaries();
        // Several threads of this process may write into one folder (tests do), so the name is tried until it is free. It does
        // not hold the target's name, which may be as long as a name can be.
        for attempt in 0u32.. {
            let path = target.with_file_name(format!(".kinglet-{}-{attempt}.tmp", std::process::id()));
            match options.open(&path) {
                Ok(file) => {
                    list.push(path.clone());
                    return Ok((Temporary(path), file));
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists && attempt < 1000 => {}
                Err(e) => return Err(e),
            }
        }
        unreachable!("the loop ends by returning")
    }

    fn rename(self, target: &Path) -> IoResult<()> {
        let mut list = temporaries();
        fs::rename(&self.0, target)?;
        list.retain(|path| *path != self.0);
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let mut list = temporaries();
        if let Some(at) = list.iter().position(|path| *path == self.0) {
            list.swap_remove(at);
            // The error that brought us here is the one to report.
            let _ = fs::remove_file(&self.0);
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

    fn put(path: &Path, content: &[u8]) -> Result<()> {
        Output::new(path, Vec::new)?.write(|f| f.write_all(content))
    }

    #[test]
    fn a_file_is_written_and_replaced() {
        let dir = TempDir::new();
        let path = dir.path().join("a.bin");
        put(&path, b"one").unwrap();
        put(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(&dir), ["a.bin"]);
        // A name may be as long as the file system takes.
        let long = "n".repeat(255);
        put(&dir.path().join(&long), b"x").unwrap();
        assert_eq!(names(&dir), ["a.bin", &long]);
    }

    #[test]
    fn a_failure_leaves_nothing_behind_and_the_old_file_in_place() {
        let dir = TempDir::new();
        let path = dir.path().join("a.bin");
        put(&path, b"old").unwrap();
        let error = Output::new(&path, Vec::new).unwrap().write(|f| {
            f.write_all(b"half")?;
            Err(IoError::other("disk on fire"))
        });
        let text = error.unwrap_err().to_string();
        assert!(text.contains("a.bin") && text.contains("disk on fire"), "{text}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(&dir), ["a.bin"]);
        for bad in ["no/such/folder/b", "a.bin/b", "", "."] {
            assert!(put(&dir.path().join(bad), b"x").is_err(), "{bad}");
        }
        assert_eq!(names(&dir), ["a.bin"]);
    }

    #[test]
    fn what_is_read_is_not_written() {
        let dir = TempDir::new();
        let (model, other) = (dir.path().join("m.onnx"), dir.path().join("o.onnx"));
        put(&model, b"model").unwrap();
        put(&other, b"other").unwrap();
        fs::hard_link(&model, dir.path().join("hard")).unwrap();
        let read = || vec![model.clone()];
        assert!(Output::new(&other, read).is_ok() && Output::new(&dir.path().join("new"), read).is_ok());
        for same in [
            "m.onnx",
            "./m.onnx",
            #[cfg(unix)]
            "hard",
        ] {
            let error = Output::new(&dir.path().join(same), read).err().expect(same);
            assert!(matches!(error, Error::Usage(_)) && error.to_string().contains("reads"), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link_and_a_device_a_device() {
        use std::os::unix::fs::symlink;
        let dir = TempDir::new();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::write(&real, "old").unwrap();
        symlink(&real, &link).unwrap();
        put(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&real).unwrap(), b"new");
        assert!(Output::new(&link, || vec![real.clone()]).is_err());
        // A chain of relative links to what is not there yet.
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        symlink("second", &first).unwrap();
        symlink("./third", &second).unwrap();
        put(&first, b"x").unwrap();
        assert!(
            fs::symlink_metadata(&first).unwrap().is_symlink() && fs::symlink_metadata(&second).unwrap().is_symlink()
        );
        assert_eq!(fs::read(dir.path().join("third")).unwrap(), b"x");
        symlink("circle", dir.path().join("circle")).unwrap();
        assert!(put(&dir.path().join("circle"), b"x").is_err());
        put(Path::new("/dev/null"), b"x").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        assert!(put(dir.path(), b"x").is_err(), "a folder");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_device_is_an_error() {
        let error = put(Path::new("/dev/full"), b"x").unwrap_err().to_string();
        assert!(error.contains("/dev/full: cannot write it: No space left"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn mode_and_owner_stay_and_what_must_not_be_written_is_not_replaced() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
        let dir = TempDir::new();
        let path = dir.path().join("a.bin");
        fs::write(&path, "old").unwrap();
        // Only root can try the owner.
        let _ = chown(&path, Some(12345), Some(12345));
        for mode in [0o640, 0o600, 0o755, 0o4711] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let old = fs::metadata(&path).unwrap();
            put(&path, b"new").unwrap();
            let new = fs::metadata(&path).unwrap();
            assert_ne!(old.ino(), new.ino());
            assert_eq!((new.mode(), new.uid(), new.gid()), (old.mode(), old.uid(), old.gid()));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        // Nobody keeps root from writing.
        let allowed = OpenOptions::new().write(true).open(&path).is_ok();
        assert_eq!(put(&path, b"newer").is_ok(), allowed);
        assert_eq!(fs::read(&path).unwrap(), if allowed { b"newer".as_slice() } else { b"new" });
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o444);
        assert_eq!(names(&dir), ["a.bin"]);
    }
}
