//! What a program does to slots while a plan runs.

use embedded_storage::nor_flash::NorFlash;

use crate::slot::{Slot, State, Tail};
use crate::slots::by_age;
use crate::{Error, Map, Transfer};

/// Writes the slot in which the running plan does not lie, and says of the running plan whether it is good.
#[derive(Debug)]
pub struct Updater<'a, F, M> {
    pub(crate) flash: &'a mut F,
    pub(crate) map: &'a M,
    pub(crate) slots: [Slot; 2],
    /// Whether there is a running plan: it lies in the slot that is not spare.
    pub(crate) running: bool,
    /// Number of the slot that is written.
    pub(crate) spare: usize,
}

impl<F: NorFlash, M: Map> Updater<'_, F, M> {
    /// The slot that is written.
    fn spare(&self) -> Slot {
        let [a, b] = self.slots;
        if self.spare == 0 { a } else { b }
    }

    /// The slot of the running plan, and what it says.
    fn running(&mut self) -> Option<(Slot, State)> {
        let [a, b] = self.slots;
        let slot = if self.spare == 0 { b } else { a };
        self.running.then(|| slot.state(self.flash)).flatten().map(|state| (slot, state))
    }

    /// Bytes of the longest plan that fits the spare slot.
    pub fn capacity(&self) -> u32 {
        self.spare().capacity::<F>()
    }

    /// Says that the running plan is good: it stays from now on, and the other slot is free for an update. Call it at every boot, once the plan
    /// has shown what it is good for; only the first call writes.
    ///
    /// # Errors
    /// [`Error::NoPlan`]; [`Error::Flash`] or [`Error::NotKept`]: the trial goes on.
    pub fn confirm(&mut self) -> Result<(), Error<F::Error>> {
        let (slot, state) = self.running().ok_or(Error::NoPlan)?;
        if state.confirmed { Ok(()) } else { slot.set(self.flash, Tail::<F>::CONFIRMED) }
    }

    /// Says that the running plan is bad, confirmed or not: no later boot takes it. It stays where it is and may run until then.
    ///
    /// # Errors
    /// As [`Updater::confirm`].
    pub fn reject(&mut self) -> Result<(), Error<F::Error>> {
        let (slot, _) = self.running().ok_or(Error::NoPlan)?;
        let [first, second] = Tail::<F>::REJECTED.map(|units| slot.set(self.flash, units));
        // One serves; a unit that is set already is not set again.
        let rejected = slot.state(self.flash).is_none_or(|state| state.rejected);
        if rejected { Ok(()) } else { first.and(second) }
    }

    /// Begins to receive a plan of `len` bytes with this sequence number, which is above those of the plans in both slots. What the spare slot
    /// held is gone from here on, its number too, also if the transfer is not finished.
    ///
    /// # Errors
    /// [`Error::Unconfirmed`], [`Error::TooLong`], [`Error::NotNewer`]: nothing was changed. [`Error::Flash`].
    pub fn begin(&mut self, len: u32, sequence: u32) -> Result<Transfer<'_, F, M>, Error<F::Error>> {
        if self.running && !self.running().is_some_and(|(_, state)| state.confirmed && !state.rejected) {
            return Err(Error::Unconfirmed);
        }
        let (slot, most) = (self.spare(), self.capacity());
        if len > most {
            return Err(Error::TooLong { most });
        }
        if let [(_, Some(State { record: newest, .. })), _] = by_age(self.flash, &self.slots)
            && sequence <= newest.sequence
        {
            return Err(Error::NotNewer { newest: newest.sequence });
        }
        slot.forget(self.flash)?;
        Ok(Transfer::new(self.flash, self.map, slot, len, sequence))
    }
}
