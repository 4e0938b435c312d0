//! Two slots of flash.

use core::ops::Range;

use embedded_storage::nor_flash::NorFlash;
use kinglet::format::ALIGN;
use kinglet::{Kernels, Model};

use crate::slot::{CHUNK, Slot, State, Tail, sum_of};
use crate::verify::fits;
use crate::{Error, Limits, Updater};

/// How the CPU sees the flash device: plans are read where they lie.
///
/// [`Slots`] writes and erases nothing that it has lent out from here, for as long as it is lent: an implementation that makes slices
/// from addresses may rely on it, if it gives them to nobody else.
pub trait Map {
    /// `len` bytes from byte `from` of the device on, as they are now: a cache that may have what was there before is made to forget it.
    /// `None` if the CPU does not see them.
    fn bytes(&self, from: u32, len: u32) -> Option<&[u8]>;
}

impl<M: Map + ?Sized> Map for &M {
    fn bytes(&self, from: u32, len: u32) -> Option<&[u8]> {
        (**self).bytes(from, len)
    }
}

/// The slice that a map gives, if it is one of a plan.
pub(crate) fn mapped<M: Map + ?Sized>(map: &M, from: u32, len: u32) -> Option<&[u8]> {
    map.bytes(from, len).filter(|b| b.len() == len as usize && b.as_ptr().align_offset(ALIGN) == 0)
}

/// A plan in one of the slots, verified.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// The model, for a [`Session`](kinglet::Session).
    pub model: Model<'a>,
    /// Its file.
    pub bytes: &'a [u8],
    /// Which slot it lies in: 0 or 1.
    pub slot: usize,
    /// Its sequence number.
    pub sequence: u32,
    /// If nobody has confirmed it, how many more times it is booted.
    pub tries: Option<u32>,
}

/// Two slots of a flash device, of which one holds the plan that runs and the other takes the next.
// Not `Clone`: what one of two lends out the other would write.
#[derive(Debug)]
pub struct Slots<F, M> {
    flash: F,
    map: M,
    slots: [Slot; 2],
}

impl<F: NorFlash, M: Map> Slots<F, M> {
    /// On a device whose bytes the CPU sees through `map`. A slot is a range of bytes of the device, of whole erase units, and begins at a
    /// multiple of 64 in address space. Nothing is read or written.
    ///
    /// A device is not compiled for if its write unit does not divide 256 bytes and its erase unit, or its read unit the write unit.
    ///
    /// # Errors
    /// [`Error::Slots`], [`Error::Map`].
    pub fn new(flash: F, map: M, slots: [Range<u32>; 2]) -> Result<Self, Error<F::Error>> {
        const {
            assert!(F::WRITE_SIZE > 0 && CHUNK.is_multiple_of(F::WRITE_SIZE), "the write unit must divide 256");
            assert!(
                F::READ_SIZE > 0 && F::WRITE_SIZE.is_multiple_of(F::READ_SIZE),
                "the read unit must divide the write unit"
            );
            assert!(
                F::ERASE_SIZE > 0 && F::ERASE_SIZE.is_multiple_of(F::WRITE_SIZE),
                "the write unit must divide the erase unit"
            );
        }
        let slots = slots.map(|range| Slot { from: range.start, to: range.end });
        let [a, b] = &slots;
        if !slots.iter().all(|slot| slot.is_valid(&flash)) || (a.from < b.to && b.from < a.to) {
            return Err(Error::Slots);
        }
        if slots.iter().any(|slot| mapped(&map, slot.from, slot.capacity::<F>()).is_none()) {
            return Err(Error::Map);
        }
        Ok(Slots { flash, map, slots })
    }

    /// Bytes of the longest plan that fits either slot.
    pub fn capacity(&self) -> u32 {
        let [a, b] = &self.slots;
        a.capacity::<F>().min(b.capacity::<F>())
    }

    /// The newest plan that is whole, passes [`verify`](crate::verify()) and has not failed its trial; `None` if there is none: then the
    /// program runs one of its own, or waits for an update. Writes nothing, so that a plan on trial stays as it is: to run one, [`Slots::boot`].
    ///
    /// Reads all bytes of the plan. What it takes is what this program can run: after an update of the firmware that may be an older
    /// plan, or none.
    pub fn current<const OPS: u128>(
        &mut self,
        limits: &Limits<'_, impl Kernels + ?Sized>,
        accept: impl Fn(&Model<'_>) -> bool,
    ) -> Option<Plan<'_>> {
        let Slots { flash, map, slots } = self;
        newest::<OPS, F, M>(flash, map, slots, limits, accept, false)
    }

    /// As [`Slots::current`], for the start of a program: a plan that is on trial loses one of its [`TRIES`](crate::TRIES), which is
    /// written down before it is given, and beside the plan there is the updater, which writes the other slot while the plan runs.
    ///
    /// A program that does not restart for a new plan lets go of both and calls this again.
    pub fn boot<const OPS: u128>(
        &mut self,
        limits: &Limits<'_, impl Kernels + ?Sized>,
        accept: impl Fn(&Model<'_>) -> bool,
    ) -> (Option<Plan<'_>>, Updater<'_, F, M>) {
        let Slots { flash, map, slots } = self;
        let plan = newest::<OPS, F, M>(flash, map, slots, limits, accept, true);
        // Without a plan that runs, the older one is the one to lose.
        let spare = plan.as_ref().map_or(by_age(flash, slots)[1].0, |plan| 1 - plan.slot.min(1));
        let updater = Updater { flash, map, slots: *slots, running: plan.is_some(), spare };
        (plan, updater)
    }

    /// The device and its map.
    pub fn release(self) -> (F, M) {
        (self.flash, self.map)
    }
}

/// Both slots with what they say, the newer one first. One that says nothing is older than any; of equals the second counts as newer, so that
/// the first plan goes into the first slot.
pub(crate) fn by_age<F: NorFlash>(flash: &mut F, slots: &[Slot; 2]) -> [(usize, Option<State>); 2] {
    let [a, b] = slots.map(|slot| slot.state(flash));
    let age = |state: &Option<State>| state.map(|s| s.record.sequence);
    if age(&b) >= age(&a) { [(1, b), (0, a)] } else { [(0, a), (1, b)] }
}

/// The newest plan that may run. With `spend` one on trial loses a try; one that cannot lose any for sure is passed over.
fn newest<'a, const OPS: u128, F: NorFlash, M: Map>(
    flash: &mut F,
    map: &'a M,
    slots: &[Slot; 2],
    limits: &Limits<'_, impl Kernels + ?Sized>,
    accept: impl Fn(&Model<'_>) -> bool,
    spend: bool,
) -> Option<Plan<'a>> {
    for (slot, state) in by_age(flash, slots) {
        let (Some(at), Some(state)) = (slots.get(slot), state.filter(State::is_usable)) else { continue };
        let Some(bytes) = mapped(map, at.from, state.record.length) else { continue };
        if sum_of(bytes) != state.record.sum {
            continue;
        }
        // Damage of the weights would have shown in the sum.
        let Some(model) = fits::<OPS>(bytes, limits).ok().filter(&accept) else { continue };
        let mut tries = (!state.confirmed).then_some(state.tries);
        if let Some(left) = tries.as_mut().filter(|_| spend) {
            if at.set(flash, Tail::<F>::TRIES).is_err() {
                continue;
            }
            *left = left.saturating_sub(1);
        }
        return Some(Plan { model, bytes, slot, sequence: state.record.sequence, tries });
    }
    None
}
