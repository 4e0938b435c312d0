//! What the compiler compiles for: a table of targets, as data.

use crate::product::epilogue::Epilogue;
use crate::product::{Packing, Sign, WordOrder};

/// A compilation target. The numbers are part of the `.kgl` format; `Generic` runs everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u16)]
pub enum Target {
    /// The portable scalar kernels: the reference, on any CPU.
    #[default]
    Generic = 0,
    /// x86-64 with AVX2 and more: one packing for every level.
    X86_64 = 1,
    /// AArch64, every level: one packing that baseline NEON and the dot product both read as they want.
    Armv8 = 2,
    /// AArch64 with the matrix product of bytes (FEAT_I8MM), which wants another packing.
    Armv8I8mm = 3,
    /// Cortex-M with the DSP extension (M4, M7, M33): products of halfwords, two at once.
    CortexM = 4,
    /// Cortex-M with Helium (M55, M85): products of bytes, sixteen at once.
    CortexM55 = 5,
    /// Microcontrollers without instructions for bytes or floats (M0+, M3, RV32IMC): the portable kernels, sums rounded by integers.
    Mcu = 6,
}

/// What there is to know of a target.
#[derive(Clone, Copy, Debug)]
pub struct TargetInfo {
    /// Its name on the command line.
    pub name: &'static str,
    /// What runs its plans.
    pub kernels: &'static str,
    /// How the weights of products of floats lie.
    pub floats: Packing,
    /// How the weights of products of bytes lie that add few products, fewer than [`TargetInfo::long`].
    pub short_bytes: Packing,
    /// How the weights of other products of bytes lie.
    pub long_bytes: Packing,
    /// How the weights of long products of bytes lie whose sums stay below 2²³, the bias included, if they are
    /// [rounded at once](Epilogue::rounds_at_once).
    pub bounded_bytes: Packing,
    /// From how many products on a sum is long.
    pub long: usize,
    /// A sum of shorter lines is short, however many products it adds.
    pub long_line: usize,
    /// Pixels times blocks of channels whose sums a product has scratch for.
    pub tile: u32,
    /// The same of products whose sums become bytes and nothing else, for kernels that need no room for those.
    pub rounded_tile: u32,
    /// The same of products to whose rounded sums a residual of bytes is added.
    pub added_tile: u32,
    /// Rows from which on a product of two computed tensors packs the right one as weights lie; 0 for never.
    pub packed_rows: u32,
    /// Floats between steps may be stored as halves: the kernels compute with them no slower.
    pub halves: bool,
    /// Its machines have little RAM: steps run in bands of rows unless somebody asks for something else.
    pub small: bool,
    /// Products of bytes come with multipliers that are integers, for kernels that round by them.
    pub integers: bool,
    /// How the weights of depthwise products of floats lie.
    pub depthwise_floats: Packing,
    /// How the weights of depthwise products of bytes lie.
    pub depthwise_bytes: Packing,
}

const GENERIC: TargetInfo = TargetInfo {
    name: "generic",
    kernels: "portable",
    floats: Packing::by_channels(8),
    short_bytes: Packing::by_channels(8),
    // Where sums are long, a few run together along the inputs; where they are short, the ends of such runs would cost more.
    long_bytes: Packing { run: 0, ..Packing::by_channels(8) },
    bounded_bytes: Packing { run: 0, ..Packing::by_channels(8) },
    long: 48,
    long_line: 0,
    tile: 4,
    rounded_tile: 4,
    added_tile: 4,
    packed_rows: 0,
    halves: false,
    small: false,
    integers: false,
    depthwise_floats: Packing::by_channels(0),
    depthwise_bytes: Packing::by_channels(0),
};

const MCU: TargetInfo =
    TargetInfo { name: "mcu", kernels: "portable, without floats", small: true, integers: true, ..GENERIC };

/// `vpdpbusd` adds four products of unsigned with signed bytes to each of 16 sums.
const BY_FOURS: Packing = Packing { panel: 16, run: 4, order: WordOrder::Plain, sign: Sign::Unsigned };

const X86_64: TargetInfo = TargetInfo {
    name: "x86-64",
    kernels: "x86-64",
    floats: Packing::by_channels(16),
    short_bytes: BY_FOURS,
    long_bytes: BY_FOURS,
    bounded_bytes: BY_FOURS,
    long: 0,
    long_line: 0,
    // Four times the sums that AVX-512 has registers for: what a tile costs beside its products counts where these are few.
    tile: 112,
    rounded_tile: 112,
    added_tile: 112,
    packed_rows: 4,
    halves: false,
    small: false,
    integers: false,
    depthwise_floats: Packing::by_channels(0),
    depthwise_bytes: Packing { panel: 64, ..BY_FOURS },
};

/// `sdot` adds four products to each of four sums, of four channels with the inputs of one pixel; without it `smull` multiplies the same
/// four channels with four inputs twice over.
const BY_FOURS_SIGNED: Packing = Packing { sign: Sign::Signed, ..BY_FOURS };

const ARMV8: TargetInfo = TargetInfo {
    name: "armv8",
    kernels: "armv8",
    floats: Packing::by_channels(16),
    short_bytes: BY_FOURS_SIGNED,
    long_bytes: BY_FOURS_SIGNED,
    bounded_bytes: BY_FOURS_SIGNED,
    long: 0,
    long_line: 0,
    // What a tile costs beside its products counts where these are few.
    tile: 256,
    rounded_tile: 256,
    added_tile: 256,
    packed_rows: 4,
    halves: true,
    small: false,
    integers: false,
    depthwise_floats: Packing::by_channels(0),
    depthwise_bytes: BY_FOURS_SIGNED,
};

/// `smlad` adds the products of two halfwords with two others to one sum. Two channels are all that a core with 14 registers holds beside
/// pixels; of depthwise products the four channels of a word are taken apart together.
const BY_PAIRS: Packing = Packing { panel: 2, run: 4, order: WordOrder::Plain, sign: Sign::Signed };

const CORTEX_M: TargetInfo = TargetInfo {
    name: "cortex-m",
    kernels: "Cortex-M with DSP instructions",
    short_bytes: BY_PAIRS,
    long_bytes: BY_PAIRS,
    bounded_bytes: Packing { order: WordOrder::Twos, ..BY_PAIRS },
    long: 0,
    // Three pixels of 64 channels.
    tile: 96,
    rounded_tile: 4,
    // Of 64 channels three pixels, once these are bytes.
    added_tile: 24,
    small: true,
    integers: true,
    depthwise_bytes: Packing { panel: 4, ..BY_PAIRS },
    ..GENERIC
};

/// `vmladava` adds 16 products to one sum, of which there are eight: of four channels under two pixels, or of eight channels under one.
const BY_SIXTEENS: Packing = Packing { panel: 4, run: 16, order: WordOrder::Plain, sign: Sign::Signed };

const CORTEX_M55: TargetInfo = TargetInfo {
    name: "cortex-m55",
    kernels: "Cortex-M with Helium",
    short_bytes: BY_SIXTEENS,
    long_bytes: BY_SIXTEENS,
    bounded_bytes: BY_SIXTEENS,
    tile: 48,
    rounded_tile: 2,
    // Of 64 channels four pixels, once these are bytes.
    added_tile: 16,
    // Eight halfwords are a vector.
    depthwise_bytes: Packing { panel: 8, run: 1, ..BY_SIXTEENS },
    ..CORTEX_M
};

/// `smmla` multiplies eight inputs of two pixels with those of two channels.
const BY_EIGHTS_SIGNED: Packing = Packing { panel: 8, run: 8, ..BY_FOURS_SIGNED };

const ARMV8_I8MM: TargetInfo = TargetInfo {
    name: "armv8-i8mm",
    long_bytes: BY_EIGHTS_SIGNED,
    bounded_bytes: BY_EIGHTS_SIGNED,
    // Of a line of four, half of eight are zeros.
    long_line: 5,
    ..ARMV8
};

impl Target {
    /// Every target this version knows.
    pub const ALL: [Target; 7] = [
        Target::Generic,
        Target::X86_64,
        Target::Armv8,
        Target::Armv8I8mm,
        Target::CortexM,
        Target::CortexM55,
        Target::Mcu,
    ];

    /// Its row of the table.
    pub const fn info(self) -> &'static TargetInfo {
        match self {
            Target::Generic => &GENERIC,
            Target::X86_64 => &X86_64,
            Target::Armv8 => &ARMV8,
            Target::Armv8I8mm => &ARMV8_I8MM,
            Target::CortexM => &CORTEX_M,
            Target::CortexM55 => &CORTEX_M55,
            Target::Mcu => &MCU,
        }
    }

    /// Whether kernels for a target run its plans as they are.
    pub const fn runs_on(self, kernels: Target) -> bool {
        // Weights of both lie alike.
        let alike = matches!((self, kernels), (Target::Generic, Target::Mcu) | (Target::Mcu, Target::Generic));
        self as u16 == kernels as u16 || alike
    }

    /// The name used on the command line.
    pub const fn name(self) -> &'static str {
        self.info().name
    }

    /// Finds a target by its command-line name.
    pub fn from_name(name: &str) -> Option<Target> {
        Target::ALL.into_iter().find(|t| t.name() == name)
    }

    /// Finds a target by its number in the format.
    pub fn from_code(code: u32) -> Option<Target> {
        Target::ALL.into_iter().find(|t| *t as u32 == code)
    }
}

impl TargetInfo {
    /// Whether weights of some product lie so.
    pub fn has(&self, packing: &Packing) -> bool {
        let bytes = [self.short_bytes, self.long_bytes, self.bounded_bytes, self.depthwise_bytes];
        bytes.contains(packing) || [self.floats, self.depthwise_floats].contains(packing)
    }

    /// Pixels times blocks of channels whose sums a product with this end has scratch for.
    pub fn tile_of(&self, end: &Epilogue) -> u32 {
        if end.only_rounds() {
            self.rounded_tile
        } else if end.adds() {
            self.added_tile
        } else {
            self.tile
        }
    }

    /// How the right one of two computed tensors lies while they are multiplied, and for how many sums there is scratch: 0 where
    /// products of `rows` rows are computed from where both lie.
    pub const fn matrices(&self, bytes: bool, rows: u32, terms: usize) -> (Packing, u32) {
        let packs = self.packed_rows > 0 && rows >= self.packed_rows;
        (self.packing(bytes, false, terms, terms), if packs { self.tile } else { 0 })
    }

    /// How the weights of a product lie, of bytes or of floats, whose sums have `terms` products in lines of `line`
    /// ([`Extents`](crate::product::Extents)).
    pub const fn packing(&self, bytes: bool, depthwise: bool, terms: usize, line: usize) -> Packing {
        match (bytes, depthwise) {
            (true, true) => self.depthwise_bytes,
            (true, false) if terms < self.long || line < self.long_line => self.short_bytes,
            (true, false) => self.long_bytes,
            (false, true) => self.depthwise_floats,
            (false, false) => self.floats,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_run_on_kernels_of_their_target_or_with_the_same_order_of_weights() {
        for plan in Target::ALL {
            for kernels in Target::ALL {
                let portable = [plan, kernels].iter().all(|t| matches!(t, Target::Generic | Target::Mcu));
                assert_eq!(plan.runs_on(kernels), plan == kernels || portable, "{plan:?} on {kernels:?}");
            }
        }
        let (a, b) = (Target::Generic.info(), Target::Mcu.info());
        for bytes in [false, true] {
            for depthwise in [false, true] {
                for terms in [1, a.long] {
                    let of = |t: &TargetInfo| t.packing(bytes, depthwise, terms, terms);
                    assert_eq!(of(a), of(b));
                }
            }
        }
    }
}
