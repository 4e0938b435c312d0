//! What the unit tests share.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use kinglet::format::{MAX_RANK, TensorRecord};
use kinglet::{DType, Region, Tensor};

/// A folder of its own for a test, removed with its content when it goes out of scope.
pub struct TempDir(PathBuf);

impl TempDir {
    /// A new folder.
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("kinglet-cli-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder for temporary files");
        TempDir(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A tensor of which only type and quantisation matter.
pub fn tensor(dtype: DType, scale: f32, zero_point: i32) -> Tensor {
    Tensor(TensorRecord {
        dtype,
        region: Region::Arena,
        offset: 0,
        bytes: 0,
        row_bytes: 0,
        capacity: 0,
        rows: 0,
        writer: kinglet::format::ABSENT,
        advance: 0,
        scale,
        zero_point,
        rank: 0,
        dims: [0; MAX_RANK],
    })
}
