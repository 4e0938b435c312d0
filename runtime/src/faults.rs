//! Faults of data: what no check of a plan can exclude, because it depends on the values that a run meets.

use core::sync::atomic::{AtomicU32, Ordering};

/// Something in the data that a step has no answer for; [`Session::run`](crate::Session::run) reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum DataFault {
    /// An index lies outside the axis that it selects from.
    Index = 1,
    /// A division of integers by 0.
    Division = 2,
}

/// The word in which the tiles of a run note a [`DataFault`]. A step kind has one fault at most, so that it does not matter
/// which of its tiles writes last; and plain loads and stores are all that the smallest microcontrollers have.
#[derive(Debug, Default)]
pub(crate) struct FaultWord(AtomicU32);

impl FaultWord {
    pub(crate) fn note(&self, fault: DataFault) {
        self.0.store(fault as u32, Ordering::Relaxed);
    }

    /// What was noted.
    pub(crate) fn get(&self) -> Option<DataFault> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(DataFault::Index),
            _ => Some(DataFault::Division),
        }
    }
}
