//! What lies in a `.kgl` file (`docs/format.md` tells the same for readers of other languages).
//!
//! ```text
//! header (64 bytes) | section table | section | section | …      every section starts at a multiple of 64
//! ```
//!
//! Everything is little-endian. The plan (all sections but the weights) is covered by one checksum that
//! [`Model::load`] verifies; the weights have their own, which [`Model::check_weights`] verifies on demand, because
//! reading every weight would make loading a large model slow and no value of a weight can do harm.

mod bands;
mod step;
mod strings;
pub mod verify;
mod view;
pub mod words;

pub use step::Step;
pub use view::{Model, Tensor};

use words::{code, record};

/// First bytes of every model file.
pub const MAGIC: [u8; 4] = *b"KGL1";
/// Version of the format this runtime reads and writes.
pub const VERSION: u16 = 11;
/// Alignment of sections, weights and the arena.
pub const ALIGN: usize = 64;
/// Bytes of the header, before the section table.
pub const HEADER_BYTES: usize = 64;
/// Bytes of one entry of the section table.
pub const SECTION_ENTRY_BYTES: usize = 16;
/// Most dimensions a tensor can have.
pub const MAX_RANK: usize = 8;
/// Most slices of a band.
pub const MAX_SLICES: u32 = 1 << 20;
/// Operand number that stands for "not given".
pub const ABSENT: u32 = u32::MAX;
/// Byte of the header where the part that the plan's checksum covers begins.
pub const CHECKED_FROM: usize = 16;

code! {
    /// The sections of a file. A reader skips numbers it does not know.
    pub enum Section {
        /// [`TensorRecord`]s.
        Tensors = 1,
        /// Tensor numbers: the operands of all steps, one after the other.
        Operands = 2,
        /// Parameter words of all steps.
        Params = 3,
        /// [`StepRecord`]s.
        Steps = 4,
        /// [`BandRecord`]s.
        Bands = 5,
        /// Word 0: number of inputs, word 1: number of outputs, then their tensor numbers, then for each input the number of
        /// the constant tensor that it takes where no value is given, or [`ABSENT`].
        Io = 6,
        /// Constant data, read in place.
        Weights = 7,
        /// Strings: the names of inputs, outputs and steps, then the source nodes of each step. Optional.
        Names = 8,
        /// Strings: key, value, key, value, … Optional.
        Metadata = 9,
    }
}

code! {
    /// Where a tensor's bytes are.
    pub enum Region {
        /// In the arena, alive from the step that writes it to the last one that reads it.
        Arena = 0,
        /// In the file's weights section, constant.
        Weights = 1,
        /// In the part of the arena that lives on between runs.
        State = 2,
        /// In the slow memory, for as long as one in the arena.
        Slow = 3,
    }
}

impl Region {
    /// Whether what lies in the one may lie in the way of what lies in the other: constant data lies in nobody's.
    pub(crate) fn shares_with(self, other: Region) -> bool {
        self != Region::Weights && other != Region::Weights && (self == Region::Slow) == (other == Region::Slow)
    }
}

record! {
    /// One tensor of the plan.
    pub struct TensorRecord {
        /// Element type.
        pub dtype: crate::DType,
        /// Memory region.
        pub region: Region,
        /// First byte within the region; a multiple of 16 (of 64 in the weights).
        pub offset: u32,
        /// Bytes that are there: `row_bytes · capacity`.
        pub bytes: u32,
        /// Bytes of one row.
        pub row_bytes: u32,
        /// Rows that are there; row `r` lies at `r mod capacity`.
        pub capacity: u32,
        /// Rows that the dimensions speak of: `capacity`, or more if the tensor is a ring.
        pub rows: u32,
        /// The step of a band of rows that writes it, the last if several fill it, or [`ABSENT`].
        pub writer: u32,
        /// Bytes by which the tensor moves from one slice of its band to the next; 0 if it stays where it is.
        pub advance: i32,
        /// Scale of a quantised tensor; 1 for the others.
        pub scale: f32,
        /// Zero point of a quantised tensor; 0 for the others.
        pub zero_point: i32,
        /// Number of dimensions.
        pub rank: u32,
        /// Dimensions; those from `rank` on are 0.
        pub dims: [u32; MAX_RANK],
    }
}

/// The first words of a [`TensorRecord`]: what a kernel must know of an operand. (A session reads them for each operand of each step.)
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Placed {
    pub(crate) dtype: crate::DType,
    pub(crate) region: Region,
    pub(crate) offset: u32,
    pub(crate) bytes: u32,
    pub(crate) advance: i32,
    pub(crate) scale: f32,
    pub(crate) zero_point: i32,
}

impl Placed {
    /// Of the record that begins at word `at`.
    #[inline(always)]
    pub(crate) fn read(words: &words::Words<'_>, at: usize) -> Option<Placed> {
        use words::Record;
        let words = &words.slice(at, TensorRecord::WORDS)?;
        Some(Placed {
            dtype: Record::read(words, 0)?,
            region: Record::read(words, 1)?,
            offset: words.get(2)?,
            bytes: words.get(3)?,
            advance: Record::read(words, 8)?,
            scale: Record::read(words, 9)?,
            zero_point: Record::read(words, 10)?,
        })
    }
}

/// Of a [`TensorRecord`] that holds only some of its rows: what a session must know to cut a slice. (It reads this for each operand of each slice.)
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ring {
    pub(crate) bytes: u32,
    pub(crate) row_bytes: u32,
    pub(crate) rows: u32,
}

impl Ring {
    /// Of the record that begins at word `at`; `None` if all rows are there.
    #[inline(always)]
    pub(crate) fn read(words: &words::Words<'_>, at: usize) -> Option<Ring> {
        use words::Record;
        let words = &words.slice(at, TensorRecord::WORDS)?;
        let (capacity, rows) = (words.get(5)?, words.get(6)?);
        (capacity < rows).then_some(Ring { bytes: words.get(3)?, row_bytes: words.get(4)?, rows })
    }
}

record! {
    /// One step of the plan.
    pub struct StepRecord {
        /// Number of the [`StepKind`](crate::StepKind).
        pub kind: u32,
        /// First word in the operands section.
        pub operands: u32,
        /// Number of inputs; they come first. An absent optional input is [`ABSENT`].
        pub inputs: u32,
        /// Number of outputs; they follow the inputs.
        pub outputs: u32,
        /// First word in the parameters section.
        pub params: u32,
        /// Output rows: the range that can be cut.
        pub rows: u32,
        /// Parts that each row can be cut into: blocks of output channels of a product, otherwise 1.
        pub columns: u32,
        /// Rows that it computes in each slice of a band of rows; 0 if it computes all of them in every slice.
        pub slice_rows: u32,
        /// Rows by which it stays behind in a band of rows.
        pub delay: u32,
        /// Scratch bytes that each worker needs.
        pub scratch: u32,
        /// Multiply-accumulates, low and high word: a report, by which a session also judges whether to cut the step among workers.
        pub macs: [u32; 2],
    }
}

record! {
    /// A run of steps executed together, slice by slice of rows: all of them for slice 0, then all of them for slice 1, …
    /// Either its steps compute some of their rows in each slice (a band of rows), or all of them, on operands that lie
    /// at `offset + s · advance` in slice `s`: the body of a loop over time.
    pub struct BandRecord {
        /// First step.
        pub first_step: u32,
        /// Number of steps.
        pub steps: u32,
        /// Number of slices, at least 1 and at most [`MAX_SLICES`].
        pub slices: u32,
    }
}

/// The checksum of plan and weights: four interleaved lanes of xor and odd multiplication over 64-bit words. Each
/// lane's step is a bijection, so a change within any one word always shows. It guards against damage, not malice.
pub fn checksum(bytes: &[u8], seed: u64) -> u64 {
    const PRIMES: [u64; 4] =
        [0x9E37_79B9_7F4A_7C15, 0xC2B2_AE3D_27D4_EB4F, 0x1656_67B1_9E37_79F9, 0xD6E8_FEB8_6659_FD93];
    let step = |lane: u64, word: u64, k: usize| (lane ^ word).wrapping_mul(PRIMES[k]).rotate_left(29);
    let mut lanes = [seed, !seed, seed ^ PRIMES[1], seed ^ PRIMES[2]];
    let (chunks, rest) = bytes.as_chunks::<32>();
    for chunk in chunks {
        let words = chunk.as_chunks::<8>().0;
        for (k, (lane, &word)) in lanes.iter_mut().zip(words).enumerate() {
            *lane = step(*lane, u64::from_le_bytes(word), k);
        }
    }
    for (i, (lane, bytes)) in lanes.iter_mut().zip(rest.chunks(8)).enumerate() {
        let mut word = [0u8; 8];
        word.iter_mut().zip(bytes).for_each(|(to, &byte)| *to = byte);
        *lane = step(*lane, u64::from_le_bytes(word), i);
    }
    let mut sum = bytes.len() as u64;
    for (k, lane) in lanes.into_iter().enumerate() {
        sum = step(sum, lane, k);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn operands_are_read_from_where_records_have_them() {
        use words::{Record, Words};
        let record = TensorRecord {
            dtype: crate::DType::U8,
            region: Region::State,
            offset: 16,
            bytes: 33,
            row_bytes: 11,
            capacity: 3,
            rows: 5,
            writer: 7,
            advance: -13,
            scale: 0.25,
            zero_point: 17,
            rank: 1,
            dims: [19; MAX_RANK],
        };
        let mut bytes = Vec::new();
        record.write(&mut |word| bytes.extend(word.to_le_bytes()));
        let placed = Placed::read(&Words::new(&bytes), 0).expect("it is whole");
        let TensorRecord { dtype, region, offset, bytes: n, advance, scale, zero_point, .. } = record;
        assert_eq!(placed, Placed { dtype, region, offset, bytes: n, advance, scale, zero_point });
        assert_eq!(Placed::read(&Words::new(&bytes[..bytes.len() - 4]), 0), None);
    }

    #[test]
    fn every_single_bit_flip_changes_the_checksum() {
        let data: Vec<u8> = (0..149u32).map(|i| (i * 37) as u8).collect();
        let sum = checksum(&data, 7);
        for bit in 0..data.len() * 8 {
            let mut d = data.clone();
            d[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(checksum(&d, 7), sum, "bit {bit}");
        }
        assert_ne!(checksum(&data[..148], 7), sum);
    }
}
