//! Registers of peripherals.

/// A register of 32 bits.
#[derive(Clone, Copy)]
pub(crate) struct Register(usize);

impl Register {
    /// The register at an address.
    ///
    /// # Safety
    /// The board has one there. To read it and to write any value changes no memory.
    pub(crate) const unsafe fn at(address: usize) -> Register {
        Register(address)
    }

    /// Its value.
    pub(crate) fn read(self) -> u32 {
        // SAFETY: who made it says that the board has it.
        unsafe { (self.0 as *const u32).read_volatile() }
    }

    /// Sets its value.
    pub(crate) fn write(self, value: u32) {
        // SAFETY: who made it says that the board has it, and that no memory changes.
        unsafe { (self.0 as *mut u32).write_volatile(value) }
    }
}
