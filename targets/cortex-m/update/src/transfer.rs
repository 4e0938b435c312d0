//! A plan on its way into a slot.

use embedded_storage::nor_flash::NorFlash;
use kinglet::{Kernels, Model};

use crate::slot::{CHUNK, Record, Slot, sum_of};
use crate::slots::mapped;
use crate::{Error, Limits, Map, verify};

/// A plan that is being received. Whoever lets go of it before [`Transfer::finish`] leaves a slot without a plan.
#[derive(Debug)]
pub struct Transfer<'t, F, M> {
    flash: &'t mut F,
    map: &'t M,
    slot: Slot,
    len: u32,
    sequence: u32,
    received: u32,
    /// Bytes that are in flash: whole chunks, or all.
    written: u32,
    /// First byte of the device that is not erased, up to the pages that [`Slot::forget`] has erased.
    erased: u32,
    chunk: [u8; CHUNK],
    /// The flash has failed within a write: no unit is written twice.
    broken: bool,
}

impl<'t, F: NorFlash, M: Map> Transfer<'t, F, M> {
    pub(crate) fn new(flash: &'t mut F, map: &'t M, slot: Slot, len: u32, sequence: u32) -> Self {
        let (received, written, erased) = (0, 0, slot.from);
        let (chunk, broken) = ([0xff; CHUNK], false);
        Transfer { flash, map, slot, len, sequence, received, written, erased, chunk, broken }
    }

    /// Bytes that have come.
    pub fn received(&self) -> u32 {
        self.received
    }

    /// Bytes that have not come.
    pub fn missing(&self) -> u32 {
        self.len.saturating_sub(self.received)
    }

    /// Takes the next piece of the file, of any length. It is written by 256 bytes, and an erase unit is erased when its first byte is:
    /// a call takes as long as the erase units that the piece reaches into.
    ///
    /// # Errors
    /// [`Error::TooLong`] if more comes than was announced: nothing of the piece was taken. [`Error::Flash`]; from then on [`Error::Broken`].
    pub fn write(&mut self, mut piece: &[u8]) -> Result<(), Error<F::Error>> {
        if piece.len() > self.missing() as usize {
            return Err(Error::TooLong { most: self.len });
        }
        if self.broken {
            return Err(Error::Broken);
        }
        while !piece.is_empty() {
            let at = self.received as usize % CHUNK;
            let (now, later) = piece.split_at_checked(CHUNK - at).unwrap_or((piece, &[]));
            self.chunk.iter_mut().skip(at).zip(now).for_each(|(to, &byte)| *to = byte);
            self.received += now.len() as u32;
            piece = later;
            if at + now.len() == CHUNK {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes what was gathered.
    fn flush(&mut self) -> Result<(), Error<F::Error>> {
        if self.broken {
            return Err(Error::Broken);
        }
        let bytes = (self.received - self.written) as usize;
        let Some(chunk) = self.chunk.get(..bytes.next_multiple_of(F::WRITE_SIZE)) else { return Err(Error::Broken) };
        if chunk.is_empty() {
            return Ok(());
        }
        self.broken = true;
        let at = self.slot.from + self.written;
        let end = (at + chunk.len() as u32).min(self.slot.last_pages::<F>());
        while self.erased < end {
            let next = self.erased + F::ERASE_SIZE as u32;
            self.flash.erase(self.erased, next).map_err(Error::Flash)?;
            self.erased = next;
        }
        self.flash.write(at, chunk).map_err(Error::Flash)?;
        self.broken = false;
        self.written = self.received;
        self.chunk = [0xff; CHUNK];
        Ok(())
    }

    /// The file as it lies in flash, once all of it has come. Here is where a program checks a signature, before it trusts anything in the file.
    ///
    /// # Errors
    /// [`Error::Incomplete`]: the transfer goes on. [`Error::Flash`], [`Error::Broken`], [`Error::Map`].
    pub fn bytes(&mut self) -> Result<&[u8], Error<F::Error>> {
        self.whole()
    }

    fn whole(&mut self) -> Result<&'t [u8], Error<F::Error>> {
        match self.missing() {
            0 => self.flush()?,
            missing => return Err(Error::Incomplete { missing }),
        }
        mapped(self.map, self.slot.from, self.len).ok_or(Error::Map)
    }

    /// Verifies the plan as it lies in flash ([`verify`](crate::verify())) and then writes the record that makes the slot whole: the next boot takes it, on
    /// trial. Until that one write the slot holds no plan.
    ///
    /// # Errors
    /// [`Error::Incomplete`], [`Error::Refused`], [`Error::Flash`], [`Error::Broken`], [`Error::NotKept`], [`Error::Map`]: the slot holds no plan
    /// (only where the flash fails both to keep the record and to erase it may it hold this one, which was verified).
    pub fn finish<const OPS: u128>(
        mut self,
        limits: &Limits<'_, impl Kernels + ?Sized>,
        accept: impl FnOnce(&Model<'_>) -> bool,
    ) -> Result<(), Error<F::Error>> {
        let bytes = self.whole()?;
        let record = Record { sequence: self.sequence, length: self.len, sum: sum_of(bytes) };
        verify::<OPS>(bytes, limits, accept).map_err(Error::Refused)?;
        self.slot.commit(self.flash, record)
    }
}
