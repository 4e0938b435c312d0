//! The memory that a session works in.

use crate::format::ALIGN;
use crate::{Error, Model, Region};

/// The memory that a session works in. From an arena alone (`&mut [u8]`) it is made without slow memory, which most plans do not need.
#[derive(Debug, Default)]
pub struct Ram<'a> {
    /// The arena, of [`Model::arena_bytes`] bytes at a multiple of 64: state, what is used most, and the scratch of kernels.
    pub arena: &'a mut [u8],
    /// Slow memory, of [`Model::slow_bytes`] bytes at a multiple of 64: a PSRAM for what there is no room for in the arena
    /// (`convert --region`). Kernels read bytes of it four at once wherever they begin: a Cortex-M has it mapped as normal memory, not as a device.
    pub slow: &'a mut [u8],
}

impl<'a> From<&'a mut [u8]> for Ram<'a> {
    fn from(arena: &'a mut [u8]) -> Self {
        Ram { arena, slow: &mut [] }
    }
}

impl<'a, const N: usize> From<&'a mut [u8; N]> for Ram<'a> {
    fn from(arena: &'a mut [u8; N]) -> Self {
        Ram::from(&mut arena[..])
    }
}

impl<'a> Ram<'a> {
    /// The same memory, while this one rests.
    pub(super) fn reborrow(&mut self) -> Ram<'_> {
        Ram { arena: self.arena, slow: self.slow }
    }

    /// What is written of a region: nothing of the weights.
    pub(super) fn into_region(self, region: Region) -> &'a mut [u8] {
        match region {
            Region::Weights => &mut [],
            Region::Arena | Region::State => self.arena,
            Region::Slow => self.slow,
        }
    }

    /// As [`Ram::into_region`], while this one rests.
    pub(super) fn of(&mut self, region: Region) -> &mut [u8] {
        self.reborrow().into_region(region)
    }

    /// Fails unless it is enough for a model and lies as it must.
    pub(super) fn check(&self, model: &Model<'_>) -> Result<(), Error> {
        let aligned = |memory: &[u8]| memory.is_empty() || memory.as_ptr().align_offset(ALIGN) == 0;
        if self.arena.len() < model.arena_bytes() {
            return Err(Error::ArenaSize { needed: model.arena_bytes() as u32 });
        }
        if !aligned(self.arena) {
            return Err(Error::ArenaAlignment);
        }
        if self.slow.len() < model.slow_bytes() {
            return Err(Error::SlowSize { needed: model.slow_bytes() as u32 });
        }
        if model.slow_bytes() > 0 && !aligned(self.slow) {
            return Err(Error::SlowAlignment);
        }
        Ok(())
    }
}
