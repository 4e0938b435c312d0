//! Whether a loop goes on, where data decide how many trips it has.

use super::Params;
use crate::DType;
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure};
use crate::format::words::record;
use crate::rows::{Operands, Tile};

record! {
    /// Parameters of the first step of a band whose slices are the trips of a loop. Input: whether there is another trip, one bool; output:
    /// the same tensor, which a later step of the band writes. It computes nothing: where the bool is 0, the session leaves out the other steps
    /// and all further slices of the band. Where it is 1 behind the last slice, the run ends in `Error::TooManyTrips`. Rows: 1.
    /// That a later step writes the tensor is not verified: without one the bool stays as it is. Outside of bands it has 1 trip, and decides nothing
    /// but whether the run ends in that error.
    pub struct GoOn {
        /// The most trips: the slices of the band.
        pub trips: u32,
    }
}

impl Params for GoOn {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        let x = c.input(0)?;
        ensure(c.step().input(0) == c.step().output(0), Fault::Operands)?;
        ensure(x.dtype == DType::Bool, Fault::DType)?;
        // There is one for all trips.
        ensure(x.advance == 0, Fault::Slices)?;
        c.size(&x, &[1])?;
        ensure(self.trips == c.slices(), Fault::Params)?;
        Ok(Verdict::new(1, 1).in_place(1))
    }

    fn run<E: Elementwise>(&self, _: E, _: &Operands<'_>, _: Tile) {}
}
