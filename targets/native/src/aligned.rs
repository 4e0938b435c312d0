//! Memory as the runtime wants it: aligned to 64 bytes, and at one address until it is dropped.

use std::ptr::NonNull;

use kinglet::format::ALIGN;

use crate::Error;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; ALIGN]);

// SAFETY: all bytes zero is a valid array of bytes.
unsafe impl bytemuck::Zeroable for Line {}

/// A zeroed block of bytes. It owns its memory through a pointer, not a `Box`, because moving a `Box` claims that nobody
/// else refers to its content, and a self-contained session does refer to it.
pub(crate) struct Aligned {
    lines: NonNull<[Line]>,
    len: usize,
}

// SAFETY: it is an owned block of plain bytes, like a `Box<[u8]>`.
unsafe impl Send for Aligned {}
// SAFETY: shared access only reads plain bytes.
unsafe impl Sync for Aligned {}

impl Aligned {
    /// A block of `len` zeros; `what` is named if the memory is not there.
    pub fn zeroed(len: usize, what: &'static str) -> Result<Self, Error> {
        let lines = bytemuck::try_zeroed_slice_box::<Line>(len.div_ceil(ALIGN))
            .map_err(|()| Error::Memory { bytes: len, what })?;
        Ok(Aligned { lines: NonNull::from(Box::leak(lines)), len })
    }

    /// A copy of `bytes`.
    pub fn copy_of(bytes: &[u8], what: &'static str) -> Result<Self, Error> {
        let mut block = Aligned::zeroed(bytes.len(), what)?;
        block.as_mut_slice().copy_from_slice(bytes);
        Ok(block)
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the lines are initialised, contiguous, at least `len` bytes, and live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.lines.cast::<u8>().as_ptr(), self.len) }
    }

    /// The bytes, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`; the exclusive borrow of `self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.lines.cast::<u8>().as_ptr(), self.len) }
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `Box::leak` and is given back once.
        drop(unsafe { Box::from_raw(self.lines.as_ptr()) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_zeroed_and_of_the_asked_length() {
        for len in [0, 1, 63, 64, 65, 1000] {
            let mut block = Aligned::zeroed(len, "a test").unwrap();
            assert_eq!(block.as_slice(), vec![0; len]);
            assert_eq!(block.as_slice().as_ptr().align_offset(ALIGN), 0);
            block.as_mut_slice().fill(7);
            assert!(block.as_slice().iter().all(|&b| b == 7));
        }
        assert_eq!(Aligned::copy_of(b"abc", "a test").unwrap().as_slice(), b"abc");
    }

    #[test]
    fn too_much_is_an_error() {
        assert!(matches!(Aligned::zeroed(usize::MAX / 2, "a test"), Err(Error::Memory { .. })));
    }
}
