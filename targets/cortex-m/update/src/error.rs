//! What can go wrong with slots and transfers.

use core::fmt;

use crate::Refused;

/// Why an update does not go on. In none of these cases the plan that runs has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error<E> {
    /// The ranges of the slots are none: they overlap, go beyond the flash, do not begin and end at erase units, or are too short. A defect of the
    /// program.
    Slots,
    /// The CPU does not see a slot, or not at a multiple of 64 ([`Map`](crate::Map)). A defect of the program, or of its linker script.
    Map,
    /// The flash driver failed. Begin the transfer again.
    Flash(E),
    /// The flash does not keep what was written: it is worn, or a cache shows what was there before. Begin again; if it
    /// stays so, the slot is lost.
    NotKept,
    /// The plan does not fit a slot, or more pieces came than were announced.
    TooLong {
        /// Bytes of the longest plan that fits, or that were announced.
        most: u32,
    },
    /// The sequence number is not above that of each plan in the slots, those that failed included. To go back on purpose, send the old plan
    /// with a new number.
    NotNewer {
        /// The highest number there is.
        newest: u32,
    },
    /// The running plan is on trial, and the other slot holds what it falls back to: confirm it first, or restart after rejecting it.
    Unconfirmed,
    /// There is no running plan to confirm or to reject.
    NoPlan,
    /// The transfer has not ended: send the rest.
    Incomplete {
        /// Bytes that have not come.
        missing: u32,
    },
    /// An earlier piece of this transfer was not written. Begin again.
    Broken,
    /// The plan is not one for this program.
    Refused(Refused),
}

impl<E: fmt::Debug> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Slots => f.write_str("the ranges of the slots are not erase units of the flash, or too short"),
            Error::Map => f.write_str("a slot is not in the address space at a multiple of 64"),
            Error::Flash(error) => write!(f, "the flash driver failed ({error:?}): begin the transfer again"),
            Error::NotKept => f.write_str("the flash does not keep what was written: begin the transfer again"),
            Error::TooLong { most } => write!(f, "the plan is longer than {most} bytes"),
            Error::NotNewer { newest } => {
                write!(f, "the sequence number is not above {newest}: send the plan with a new number")
            }
            Error::Unconfirmed => f.write_str("the running plan is on trial: confirm it before the next update"),
            Error::NoPlan => f.write_str("no plan is running"),
            Error::Incomplete { missing } => write!(f, "{missing} bytes of the plan have not come"),
            Error::Broken => f.write_str("an earlier piece was not written: begin the transfer again"),
            Error::Refused(refused) => refused.fmt(f),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for Error<E> {}
