//! A checked model and the memory it lies in.

use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use kinglet::format::{HEADER_BYTES, MAGIC};
use kinglet::{Model, Target};
use memmap2::Mmap;

use crate::aligned::Aligned;
use crate::{Error, repack};

/// Where the header says how long the file is.
const TOTAL_AT: usize = 24;

/// Where a model's bytes are. Both stay at one address however the value that owns them moves.
enum Bytes {
    Mapped(Mmap),
    Memory(Aligned),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Memory(block) => block.as_slice(),
        }
    }
}

/// How a model is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// Read all weights once and compare them with the checksum in the header, so that a damaged file is an error and not a
    /// wrong answer. Without it a mapped file opens in microseconds, whatever its size.
    pub check_weights: bool,
    /// Map the file: its pages come in when a run first touches them, and processes share them. Nobody may change or shorten
    /// the file while it is mapped: a kernel that reads a page which is gone ends the process (SIGBUS), and a plan that
    /// changes after its check is undefined behaviour. Where other programs may write the file, copy it into memory instead:
    /// `false`.
    pub map: bool,
}

impl Default for Open {
    /// Checked and mapped.
    fn default() -> Self {
        Open { check_weights: true, map: true }
    }
}

/// A model that lies in a mapped file or in memory of its own, checked once.
///
/// The plan is always checked, the weights unless [`Open`] says otherwise. As with every mapped file, nobody may change or
/// shorten it while it is open ([`Open::map`]); replace a model by renaming another file over it.
pub struct ModelFile {
    /// Always initialised; refers to `bytes`. Moving or dropping a struct with a reference in it claims that what the reference
    /// refers to stays alive meanwhile, which it does not when this struct is dropped. Inside `MaybeUninit` nothing is claimed.
    model: MaybeUninit<Model<'static>>,
    bytes: Bytes,
    /// The same for the target that this machine's kernels suit best.
    repacked: OnceLock<Option<Repacked>>,
}

/// A model whose weights were brought into another order.
struct Repacked {
    target: Target,
    file: Box<ModelFile>,
    took: Duration,
}

impl ModelFile {
    /// Maps and checks a file, plan and weights. What cannot be mapped, a pipe for example, is read into memory.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened, mapped or read, [`Error::File`] if it is no valid model, [`Error::Memory`] if
    /// there is no room for a copy.
    pub fn open(path: impl AsRef<Path>) -> Result<ModelFile, Error> {
        ModelFile::open_with(path, Open::default())
    }

    /// Opens a file as `how` says.
    ///
    /// # Errors
    /// As [`ModelFile::open`].
    pub fn open_with(path: impl AsRef<Path>, how: Open) -> Result<ModelFile, Error> {
        let path = path.as_ref();
        let io = |source| Error::Io { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(io)?;
        let bytes = if how.map && file.metadata().map_err(io)?.is_file() {
            // SAFETY: the mapping is private to this process and read-only. That nobody shortens or rewrites the file
            // meanwhile is the caller's part, as `Open::map` says.
            Bytes::Mapped(unsafe { Mmap::map(&file) }.map_err(io)?)
        } else {
            Bytes::Memory(copy_of(&mut &file).map_err(|e| e.of_file(path))?)
        };
        ModelFile::check(bytes, how).map_err(|e| Error::from(e).of_file(path))
    }

    /// Reads a model from a pipe or whatever else has its bytes, and checks it as `how` says. It must end where the model
    /// does.
    ///
    /// # Errors
    /// [`Error::Read`] if it cannot be read, [`Error::Runtime`] if it is no valid model, [`Error::Memory`] if there is no room
    /// for it.
    pub fn read(from: &mut dyn Read, how: Open) -> Result<ModelFile, Error> {
        Ok(ModelFile::check(Bytes::Memory(copy_of(from)?), how)?)
    }

    /// Copies a model in memory and checks it, plan and weights.
    ///
    /// # Errors
    /// [`Error::Runtime`] if it is no valid model, [`Error::Memory`] if there is no room for the copy.
    pub fn from_bytes(bytes: &[u8]) -> Result<ModelFile, Error> {
        Ok(ModelFile::check(Bytes::Memory(Aligned::copy_of(bytes, "the model")?), Open::default())?)
    }

    fn check(bytes: Bytes, how: Open) -> Result<ModelFile, kinglet::Error> {
        let slice: *const [u8] = bytes.as_slice();
        // SAFETY: the bytes stay at this address, unchanged, until `bytes` is dropped. The model lies beside it in this struct,
        // and `model()` hands it out for the lifetime of a borrow only.
        let model = Model::load(unsafe { &*slice })?;
        if how.check_weights {
            model.check_weights()?;
        }
        Ok(ModelFile { model: MaybeUninit::new(model), bytes, repacked: OnceLock::new() })
    }

    /// The checked model.
    pub fn model(&self) -> Model<'_> {
        // SAFETY: `check`, which makes every value of this type, has initialised it.
        unsafe { self.model.assume_init() }
    }

    /// The model as a plan for `target`: itself, if it is one or `target` is `generic`, whose kernels read any; otherwise with its
    /// weights in another order, which is done once and held as long as this file is.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub(crate) fn suited_to(&self, target: Target) -> Result<&ModelFile, Error> {
        if target == Target::Generic || self.model().target() == target {
            return Ok(self);
        }
        if self.repacked.get().is_none() {
            let start = Instant::now();
            let bytes = repack::repacked(self.bytes(), &self.model(), target)?;
            // What was made of a checked file needs no check of its weights.
            let how = Open { check_weights: false, ..Open::default() };
            let file = bytes.map(|b| ModelFile::check(Bytes::Memory(b), how)).transpose()?;
            let repacked = file.map(|file| Repacked { target, file: Box::new(file), took: start.elapsed() });
            // Another session may have been faster; then its file serves.
            let _ = self.repacked.set(repacked);
        }
        Ok(self.repacked.get().and_then(Option::as_ref).filter(|r| r.target == target).map_or(self, |r| &r.file))
    }

    /// The target that this model's weights were repacked for when a session was made, and how long that took.
    pub fn repacked(&self) -> Option<(Target, Duration)> {
        self.repacked.get().and_then(Option::as_ref).map(|r| (r.target, r.took))
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }
}

impl std::fmt::Debug for ModelFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelFile").field("bytes", &self.bytes().len()).finish_non_exhaustive()
    }
}

/// Reads a model of unknown length: its header says how long it is, and no more is asked for than one byte that must not be
/// there.
fn copy_of(from: &mut dyn Read) -> Result<Aligned, Error> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    from.take(HEADER_BYTES as u64).read_to_end(&mut header).map_err(Error::Read)?;
    if !header.starts_with(&MAGIC) {
        return Err(kinglet::Error::Magic.into());
    }
    let total = header.get(TOTAL_AT..TOTAL_AT + 4).filter(|_| header.len() == HEADER_BYTES);
    let total = total.map_or(0, |t| u32::from_le_bytes([t[0], t[1], t[2], t[3]]) as usize);
    if total < HEADER_BYTES {
        return Err(kinglet::Error::Truncated.into());
    }
    let mut block = Aligned::zeroed(total, "the model")?;
    let (start, rest) = block.as_mut_slice().split_at_mut(HEADER_BYTES);
    start.copy_from_slice(&header);
    from.read_exact(rest).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => Error::Runtime(kinglet::Error::Truncated),
        _ => Error::Read(e),
    })?;
    match from.take(1).read_to_end(&mut header).map_err(Error::Read)? {
        0 => Ok(block),
        _ => Err(kinglet::Error::Truncated.into()),
    }
}

// Miri maps no files.
#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::testing::{TempFile, relu_model, relu_model_with_weights};

    #[test]
    fn a_mapped_file_and_a_copy_hold_the_same_model() {
        let bytes = relu_model(8);
        let file = TempFile::new("mapped.kgl", &bytes);
        let mapped = ModelFile::open(file.path()).unwrap();
        let copied = ModelFile::from_bytes(&bytes).unwrap();
        assert_eq!(mapped.bytes(), copied.bytes());
        assert_eq!(mapped.model().step_count(), 1);
        assert_eq!(copied.model().input_name(0), Some("x"));
    }

    #[test]
    fn damaged_weights_are_an_error_unless_they_are_not_to_be_checked() {
        let mut bytes = relu_model_with_weights(8, &[0xa5; 100]);
        assert!(ModelFile::from_bytes(&bytes).is_ok());
        let at = bytes.iter().rposition(|&b| b == 0xa5).unwrap();
        bytes[at - 50] ^= 1;
        let file = TempFile::new("damaged.kgl", &bytes);
        for map in [true, false] {
            let error = ModelFile::open_with(file.path(), Open { map, ..Open::default() }).unwrap_err();
            assert!(matches!(error, Error::File { source: kinglet::Error::WeightsChecksum, .. }), "{error}");
            assert!(error.to_string().contains("damaged.kgl"), "{error}");
            assert!(ModelFile::open_with(file.path(), Open { map, check_weights: false }).is_ok());
        }
        assert!(matches!(ModelFile::open(file.path()), Err(Error::File { .. })));
        assert!(matches!(ModelFile::from_bytes(&bytes), Err(Error::Runtime(kinglet::Error::WeightsChecksum))));
    }

    #[test]
    fn what_has_no_length_is_read_as_far_as_the_header_says() {
        let bytes = relu_model(8);
        assert_eq!(copied(&bytes[..]).unwrap(), bytes);
        for cut in [0, 3, 4, HEADER_BYTES - 1, HEADER_BYTES, bytes.len() - 1] {
            assert!(copied(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert_eq!(copied(bytes.as_slice().chain(&b"x"[..])), Err(kinglet::Error::Truncated));
        // Endless input ends at once where it is no model, and one byte behind the length where it says to be one.
        assert_eq!(copied(io::repeat(0)), Err(kinglet::Error::Magic));
        assert_eq!(copied(bytes.as_slice().chain(io::repeat(0))), Err(kinglet::Error::Truncated));
        let mut short = bytes.clone();
        short[TOTAL_AT..TOTAL_AT + 4].copy_from_slice(&8u32.to_le_bytes());
        assert_eq!(copied(&short[..]), Err(kinglet::Error::Truncated));
    }

    fn copied(mut from: impl Read) -> Result<Vec<u8>, kinglet::Error> {
        match ModelFile::read(&mut from, Open::default()) {
            Ok(file) => Ok(file.bytes().to_vec()),
            Err(Error::Runtime(e)) => Err(e),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn errors_name_the_file() {
        let missing = ModelFile::open("no/such/model.kgl").unwrap_err();
        assert!(matches!(missing, Error::Io { .. }) && missing.to_string().contains("no/such/model.kgl"));
        for (name, content) in [("empty.kgl", &b""[..]), ("short.kgl", b"KGL1"), ("other.kgl", &[7; 200])] {
            let file = TempFile::new(name, content);
            let error = ModelFile::open(file.path()).unwrap_err();
            assert!(matches!(error, Error::File { .. }) && error.to_string().contains(name), "{error}");
        }
    }
}
