//! What the compiler compiles for.

/// A compilation target. The numbers are part of the `.kgl` format; `Generic` runs everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u16)]
pub enum Target {
    /// The portable scalar kernels: the reference, on any CPU.
    #[default]
    Generic = 0,
}

impl Target {
    /// Every target this version knows.
    pub const ALL: [Target; 1] = [Target::Generic];

    /// The name used on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Target::Generic => "generic",
        }
    }

    /// Finds a target by its command-line name.
    pub fn from_name(name: &str) -> Option<Target> {
        Target::ALL.into_iter().find(|t| t.name() == name)
    }

    /// Finds a target by its number in the format.
    pub fn from_code(code: u32) -> Option<Target> {
        Target::ALL.into_iter().find(|t| *t as u32 == code)
    }

    /// Output channels in one block of packed convolution weights (`NR` of the microkernel).
    pub const fn conv_block(self) -> usize {
        match self {
            Target::Generic => 8,
        }
    }
}
