//! A device that updates its plan as a program does.
#![allow(dead_code)] // Each test takes what it needs.

use std::ops::Range;

use kinglet_update::{Error, Slots};

use crate::mock::{Failure, Flash, Loss, View};
use crate::plans::{ALL, LIMITS, run};

/// A chip with two slots.
pub struct Device<const WRITE: usize, const ERASE: usize> {
    pub flash: Flash<WRITE, ERASE>,
    pub slots: [Range<u32>; 2],
}

/// What a boot gives: the sequence number of the plan, what it computes, and how many more times it is booted without being confirmed.
pub type Booted = Option<(u32, Vec<u8>, Option<u32>)>;

impl<const WRITE: usize, const ERASE: usize> Device<WRITE, ERASE> {
    /// With slots of so many erase units, and one before and one between them that belong to others.
    pub fn new(units: usize) -> Self {
        let at = |unit: usize| (unit * ERASE) as u32;
        let slots = [at(1)..at(1 + units), at(2 + units)..at(2 + 2 * units)];
        let device = Device { flash: Flash::new((3 + 2 * units) * ERASE), slots };
        // Others' bytes: the chip panics if somebody writes there without an erase, `others` says if somebody erases.
        for at in device.of_others() {
            device.flash.0.borrow_mut().bytes[at] = 0x5a;
        }
        device
    }

    /// Another with the same content.
    pub fn copy(&self) -> Self {
        Device { flash: self.flash.copy(), slots: self.slots.clone() }
    }

    fn of_others(&self) -> impl Iterator<Item = usize> + use<WRITE, ERASE> {
        let slots = self.slots.clone();
        (0..self.flash.0.borrow().bytes.len()).filter(move |&i| slots.iter().all(|s| !s.contains(&(i as u32))))
    }

    /// That nothing outside of the slots was touched.
    pub fn check_others(&self) {
        assert!(self.of_others().all(|i| self.flash.0.borrow().bytes[i] == 0x5a));
    }

    /// The power comes back.
    pub fn slots(&self) -> Slots<Flash<WRITE, ERASE>, View> {
        let flash = self.flash.again();
        let view = flash.view();
        Slots::new(flash, view, self.slots.clone()).expect("slots of whole erase units")
    }

    /// The power comes back, and will be lost in this operation.
    pub fn slots_until(&self, loss: Option<(usize, Loss, usize)>) -> Slots<Flash<WRITE, ERASE>, View> {
        let slots = self.slots();
        self.flash.0.borrow_mut().loss = loss;
        slots
    }

    /// Boots once.
    pub fn boot(&self) -> Booted {
        let mut slots = self.slots();
        let (plan, _) = slots.boot::<ALL>(&LIMITS, |_| true);
        plan.map(|plan| (plan.sequence, run(&plan.model), plan.tries))
    }

    /// Boots and confirms.
    pub fn confirm(&self) {
        self.slots().boot::<ALL>(&LIMITS, |_| true).1.confirm().expect("the flash works");
    }

    /// Boots and rejects.
    pub fn reject(&self) {
        self.slots().boot::<ALL>(&LIMITS, |_| true).1.reject().expect("the flash works");
    }

    /// A plan that runs and is confirmed.
    pub fn install(&self, file: &[u8], sequence: u32) {
        self.send(file, sequence, 1000, None).expect("it is a good one");
        self.confirm();
    }

    /// Boots; receives a plan in pieces while the one that is there runs.
    pub fn send(
        &self,
        file: &[u8],
        sequence: u32,
        piece: usize,
        loss: Option<(usize, Loss, usize)>,
    ) -> Result<(), Error<Failure>> {
        let mut slots = self.slots_until(loss);
        let (plan, mut updater) = slots.boot::<ALL>(&LIMITS, |_| true);
        if let Some(plan) = &plan {
            let from = self.slots[plan.slot].start;
            self.flash.0.borrow_mut().running = from..from + plan.bytes.len() as u32;
        }
        let mut transfer = updater.begin(file.len() as u32, sequence)?;
        for piece in file.chunks(piece) {
            transfer.write(piece)?;
        }
        transfer.finish::<ALL>(&LIMITS, |_| true)
    }
}
