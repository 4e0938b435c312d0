//! What stands for a microphone: the second CMSDK timer interrupts at a steady pace, as a DMA does whose half-buffer is full, and a recording that the
//! emulator has loaded gives the samples.

use crate::CLOCK_HZ;
use crate::register::Register;

/// The number of the timer's interrupt.
pub const INTERRUPT: u16 = 9;

// SAFETY: the board has a CMSDK timer at 0x4000_1000, which writes no memory.
const CONTROL: Register = unsafe { Register::at(0x4000_1000) };
// SAFETY: as above.
const VALUE: Register = unsafe { Register::at(0x4000_1004) };
// SAFETY: as above.
const RELOAD: Register = unsafe { Register::at(0x4000_1008) };
// SAFETY: as above.
const CLEAR: Register = unsafe { Register::at(0x4000_100c) };

/// Where the emulator puts a recording: the word `KWAV`, the number of samples, the samples, all little-endian.
const AT: usize = 0x20_0000;
const MAGIC: u32 = u32::from_le_bytes(*b"KWAV");

/// A recording that plays.
#[derive(Debug)]
pub struct Recording {
    /// Samples that are still to come.
    rest: &'static [i16],
    piece: usize,
}

impl Recording {
    /// The recording that the emulator has loaded, if there is one. `piece` samples come with each interrupt.
    ///
    /// # Safety
    /// The program runs on the board, whose memory from 0x20_0000 to 0x40_0000 nobody writes.
    pub unsafe fn loaded(piece: usize) -> Option<Recording> {
        // SAFETY: the caller's.
        let [magic, samples] = unsafe { (AT as *const [u32; 2]).read() };
        if magic != MAGIC || samples > 0x10_0000 - 4 {
            return None;
        }
        // SAFETY: the caller's; the bound keeps it within that memory.
        let rest = unsafe { core::slice::from_raw_parts((AT + 8) as *const i16, samples as usize) };
        Some(Recording { rest, piece: piece.max(1) })
    }

    /// Begins to interrupt, so that `sample_rate` samples come a second.
    pub fn play(&self, sample_rate: u32) {
        let ticks = u64::from(CLOCK_HZ) * self.piece as u64 / u64::from(sample_rate.max(1));
        RELOAD.write(ticks as u32 - 1);
        VALUE.write(ticks as u32 - 1);
        // Counts, and interrupts.
        CONTROL.write(0b1001);
    }

    /// For the interrupt: acknowledges it, and gives the samples that have come; `None` once all have, when it stops.
    pub fn take(&mut self) -> Option<&'static [i16]> {
        CLEAR.write(1);
        if self.rest.is_empty() {
            CONTROL.write(0);
            return None;
        }
        let (piece, rest) = self.rest.split_at(self.piece.min(self.rest.len()));
        self.rest = rest;
        Some(piece)
    }
}
