//! A case: a model with vectors, which the emulator has put into the memory of the board.

/// `KCAS`, the bytes of the model, of all inputs and of all outputs, the number of vectors, and the bytes of weights to be copied to RAM. Each part begins at a multiple of 64.
const MAGIC: u32 = u32::from_le_bytes(*b"KCAS");

/// A model with the inputs of some vectors, one after the other, and the outputs that the host has computed.
pub struct Case {
    pub model: &'static [u8],
    pub inputs: &'static [u8],
    pub outputs: &'static [u8],
    pub vectors: usize,
    pub hot: usize,
}

impl Case {
    /// The case at an address; `None` if none is there.
    ///
    /// # Safety
    /// There is memory, which nobody writes, as long as the case says.
    pub unsafe fn at(address: usize) -> Option<Case> {
        // SAFETY: the caller's.
        let [magic, model, inputs, outputs, vectors, hot] = unsafe { (address as *const [u32; 6]).read() };
        let mut next = address + 64;
        let mut part = |bytes: u32| {
            let at = next as *const u8;
            next += (bytes as usize).next_multiple_of(64);
            // SAFETY: the caller's.
            unsafe { core::slice::from_raw_parts(at, bytes as usize) }
        };
        let (model, inputs, outputs) = (part(model), part(inputs), part(outputs));
        (magic == MAGIC).then_some(Case { model, inputs, outputs, vectors: vectors as usize, hot: hot as usize })
    }
}
