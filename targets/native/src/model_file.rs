//! A checked model and the memory it lies in.

use std::fs::File;
use std::path::Path;

use kinglet::Model;
use memmap2::Mmap;

use crate::Error;
use crate::aligned::Aligned;

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

/// A model that lies in a mapped file or in memory of its own, checked once.
///
/// Opening reads the plan, not the weights: pages of a mapped file come in when a run first touches them. As with every
/// mapped file, nobody may change or shorten it while it is open; replace a model by renaming another file over it.
pub struct ModelFile {
    // Before `bytes`, which it refers to; it has nothing to drop.
    model: Model<'static>,
    bytes: Bytes,
}

impl ModelFile {
    /// Maps and checks a file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened or mapped, [`Error::File`] if it is no valid model.
    pub fn open(path: impl AsRef<Path>) -> Result<ModelFile, Error> {
        let path = path.as_ref();
        let io = |source| Error::Io { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(io)?;
        // SAFETY: the mapping is private to this process and read-only. That nobody shortens or rewrites the file meanwhile
        // is the caller's part, as the type's documentation says.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        ModelFile::check(Bytes::Mapped(map)).map_err(|source| Error::File { path: path.to_path_buf(), source })
    }

    /// Copies and checks a model in memory.
    ///
    /// # Errors
    /// [`Error::Runtime`] if it is no valid model, [`Error::Memory`] if there is no room for the copy.
    pub fn from_bytes(bytes: &[u8]) -> Result<ModelFile, Error> {
        Ok(ModelFile::check(Bytes::Memory(Aligned::copy_of(bytes, "the model")?))?)
    }

    fn check(bytes: Bytes) -> Result<ModelFile, kinglet::Error> {
        let slice: *const [u8] = bytes.as_slice();
        // SAFETY: the bytes stay at this address, unchanged, until `bytes` is dropped. The model lives beside it in this
        // struct, and `model()` hands it out for the lifetime of a borrow only.
        let model = Model::load(unsafe { &*slice })?;
        Ok(ModelFile { model, bytes })
    }

    /// The checked model.
    pub fn model(&self) -> Model<'_> {
        self.model
    }

    /// The model, for a session that keeps this file itself.
    ///
    /// # Safety
    /// No copy of it may be used after this file is dropped.
    pub(crate) unsafe fn model_unbound(&self) -> Model<'static> {
        self.model
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TempFile, relu_model};

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
