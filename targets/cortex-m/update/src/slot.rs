//! Where things lie in a slot, and what its last bytes say.
//!
//! ```text
//! from                                    to - tail                                              to
//! | plan, read in place | … | rejected | record | try | try | try | confirmed | rejected |
//! ```
//!
//! A mark is a write unit of its own. It is set if any bit of it is 0: one of which half is written counts, and no unit is ever written
//! twice. That a plan was rejected stands at both ends: an erase that is cut, from whichever end it goes, takes the record away before it
//! takes both.

use core::ops::Range;

use embedded_storage::nor_flash::NorFlash;
use kinglet::format::{HEADER_BYTES, checksum};

use crate::Error;

/// Bytes of a record. It takes whole write units.
pub const RECORD_BYTES: usize = 32;
/// How often a plan is booted that nobody confirms.
pub const TRIES: u32 = 3;

/// The longest write unit, and what a transfer gathers before it writes.
pub(crate) const CHUNK: usize = 256;
/// First bytes of a record: its layout has a version.
const MAGIC: [u8; 4] = *b"KGS1";
/// Bytes of a record that its checksum covers.
const CHECKED: usize = RECORD_BYTES - 8;

/// A range of the flash device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// First byte.
    pub(crate) from: u32,
    /// The one after its last.
    pub(crate) to: u32,
}

/// What a slot says of the plan in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Plans with higher numbers are newer.
    pub(crate) sequence: u32,
    /// Bytes of the file.
    pub(crate) length: u32,
    /// Checksum of all of them, with seed 0.
    pub(crate) sum: u64,
}

impl Record {
    fn to_bytes(self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        let fields = MAGIC.into_iter().chain(self.sequence.to_le_bytes()).chain(self.length.to_le_bytes());
        let fields = fields.chain([0; 4]).chain(self.sum.to_le_bytes());
        bytes.iter_mut().zip(fields).for_each(|(to, byte)| *to = byte);
        let own = checksum(bytes.get(..CHECKED).unwrap_or(&[]), 0);
        bytes.iter_mut().skip(CHECKED).zip(own.to_le_bytes()).for_each(|(to, byte)| *to = byte);
        bytes
    }

    /// `None` if it is not whole.
    fn from_bytes(bytes: &[u8]) -> Option<Record> {
        let (bytes, _) = bytes.split_first_chunk::<RECORD_BYTES>()?;
        let words = bytes.as_chunks::<4>().0;
        let word = |i: usize| words.get(i).map(|&w| u32::from_le_bytes(w));
        let long = |i: usize| Some(u64::from(word(i)?) | u64::from(word(i + 1)?) << 32);
        let record = Record { sequence: word(1)?, length: word(2)?, sum: long(4)? };
        // Whatever a record could say is in its fields: comparing all of it checks magic, zeros and checksum.
        (record.to_bytes() == *bytes).then_some(record)
    }
}

/// What the end of a slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) record: Record,
    /// Boots that are left to a plan that is not confirmed.
    pub(crate) tries: u32,
    pub(crate) confirmed: bool,
    pub(crate) rejected: bool,
}

impl State {
    /// Of a slot that was just written.
    pub(crate) fn new(record: Record) -> State {
        State { record, tries: TRIES, confirmed: false, rejected: false }
    }

    /// Whether the plan may run, if the rest of it is whole.
    pub(crate) fn is_usable(&self) -> bool {
        !self.rejected && (self.confirmed || self.tries > 0)
    }
}

/// Write units at the end of a slot, counted from the first of them.
pub(crate) struct Tail<F>(core::marker::PhantomData<F>);

impl<F: NorFlash> Tail<F> {
    /// Bytes of a unit.
    const UNIT: u32 = F::WRITE_SIZE as u32;
    /// Units of a record.
    const RECORD: u32 = (RECORD_BYTES as u32).div_ceil(Self::UNIT);
    /// The marks that the plan was rejected.
    pub(crate) const REJECTED: [Range<u32>; 2] = [0..1, Self::CONFIRMED.end..Self::CONFIRMED.end + 1];
    /// The marks of boots.
    pub(crate) const TRIES: Range<u32> = 1 + Self::RECORD..1 + Self::RECORD + TRIES;
    /// The mark that the plan is good.
    pub(crate) const CONFIRMED: Range<u32> = Self::TRIES.end..Self::TRIES.end + 1;
    /// Bytes of all.
    pub(crate) const BYTES: u32 = Self::REJECTED[1].end * Self::UNIT;
}

impl Slot {
    /// Bytes of the longest plan.
    pub(crate) fn capacity<F: NorFlash>(&self) -> u32 {
        self.to.saturating_sub(self.from).saturating_sub(Tail::<F>::BYTES)
    }

    /// Whether the range is one of whole erase units in the flash, with room for a plan.
    pub(crate) fn is_valid<F: NorFlash>(&self, flash: &F) -> bool {
        let unit = F::ERASE_SIZE as u32;
        let whole = self.from.is_multiple_of(unit) && self.to.is_multiple_of(unit);
        whole && self.to as usize <= flash.capacity() && self.capacity::<F>() as usize > HEADER_BYTES
    }

    /// First byte of the erase unit in which the tail begins: what lies before it is erased as it is needed.
    pub(crate) fn last_pages<F: NorFlash>(&self) -> u32 {
        let tail = self.from.saturating_add(self.capacity::<F>());
        tail - tail % F::ERASE_SIZE as u32
    }

    /// First byte of a unit of the tail.
    fn unit<F: NorFlash>(&self, unit: u32) -> u32 {
        self.from.saturating_add(self.capacity::<F>()).saturating_add(unit * Tail::<F>::UNIT)
    }

    /// What the slot says; `None` if it holds no whole record. A record that the driver cannot read is none (flash with error correction may say
    /// so of one of which half is written); a mark that it cannot read is set.
    pub(crate) fn state<F: NorFlash>(&self, flash: &mut F) -> Option<State> {
        let mut bytes = [0; CHUNK];
        let bytes = bytes.get_mut(..(Tail::<F>::RECORD * Tail::<F>::UNIT) as usize)?;
        flash.read(self.unit::<F>(1), bytes).ok()?;
        let record = Record::from_bytes(bytes).filter(|r| r.length <= self.capacity::<F>())?;
        let mut set = |unit: u32| !self.is_erased(flash, unit);
        Some(State {
            record,
            rejected: Tail::<F>::REJECTED.into_iter().flatten().any(&mut set),
            tries: Tail::<F>::TRIES.map(|unit| u32::from(!set(unit))).sum(),
            confirmed: set(Tail::<F>::CONFIRMED.start),
        })
    }

    fn is_erased<F: NorFlash>(&self, flash: &mut F, unit: u32) -> bool {
        let mut bytes = [0; CHUNK];
        let Some(bytes) = bytes.get_mut(..F::WRITE_SIZE) else { return false };
        flash.read(self.unit::<F>(unit), bytes).is_ok() && bytes.iter().all(|&b| b == 0xff)
    }

    /// Writes one of these marks: the next if the flash does not take the first.
    pub(crate) fn set<F: NorFlash>(&self, flash: &mut F, units: Range<u32>) -> Result<(), Error<F::Error>> {
        let zeros = [0; CHUNK];
        let mut result = Err(Error::NotKept);
        for unit in units {
            if self.is_erased(flash, unit) {
                let written = flash.write(self.unit::<F>(unit), zeros.get(..F::WRITE_SIZE).unwrap_or(&[]));
                result = match written {
                    Err(error) => Err(Error::Flash(error)),
                    Ok(()) if self.is_erased(flash, unit) => Err(Error::NotKept),
                    Ok(()) => return Ok(()),
                };
            }
        }
        result
    }

    /// Erases what the slot says.
    pub(crate) fn forget<F: NorFlash>(&self, flash: &mut F) -> Result<(), Error<F::Error>> {
        flash.erase(self.last_pages::<F>(), self.to).map_err(Error::Flash)
    }

    /// Writes the record into an erased tail: from here on the slot is whole.
    pub(crate) fn commit<F: NorFlash>(&self, flash: &mut F, record: Record) -> Result<(), Error<F::Error>> {
        let mut bytes = [0xff; CHUNK];
        bytes.iter_mut().zip(record.to_bytes()).for_each(|(to, byte)| *to = byte);
        let bytes = bytes.get(..(Tail::<F>::RECORD * Tail::<F>::UNIT) as usize).unwrap_or(&[]);
        let written = flash.write(self.unit::<F>(1), bytes).map_err(Error::Flash);
        if written.is_ok() && self.state(flash) == Some(State::new(record)) {
            return Ok(());
        }
        // Nobody is to find later what was refused now.
        self.forget(flash)?;
        written.and(Err(Error::NotKept))
    }
}

/// A seed of 0 serves: records and files are compared with what was written, not with each other.
pub(crate) fn sum_of(file: &[u8]) -> u64 {
    checksum(file, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_of_a_record_counts() {
        let record = Record { sequence: 7, length: 1234, sum: 0x0123_4567_89ab_cdef };
        let bytes = record.to_bytes();
        assert_eq!(Record::from_bytes(&bytes), Some(record));
        for bit in 0..RECORD_BYTES * 8 {
            let mut other = bytes;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::from_bytes(&other), None, "bit {bit}");
        }
        for n in 0..RECORD_BYTES {
            assert_eq!(Record::from_bytes(&bytes[..n]), None);
            // Of which only so many bytes are written.
            let mut half = [0xff; RECORD_BYTES];
            half[..n].copy_from_slice(&bytes[..n]);
            assert_eq!(Record::from_bytes(&half), None);
        }
    }
}
