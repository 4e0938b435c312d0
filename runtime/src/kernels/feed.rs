//! Rows of an input that the caller gives while the plan runs.

use super::Params;
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure};
use crate::format::words::record;
use crate::rows::{Operands, Tile};

record! {
    /// Parameters of a feed. No inputs; output: an input of the model, `[rows, row]` of any type. Rows: `rows`. It computes nothing:
    /// the session asks its caller for the rows ([`Feed`](crate::Feed)).
    pub struct Feed {
        /// Which input of the model.
        pub input: u32,
        /// Rows.
        pub rows: u32,
        /// Elements of a row.
        pub row: u32,
    }
}

impl Params for Feed {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        ensure(c.is_input(self.input), Fault::Operands)?;
        c.size(&c.output()?, &[self.rows, self.row])?;
        Ok(Verdict::new(self.rows as usize, u64::from(self.rows) * u64::from(self.row)))
    }

    fn row(&self) -> Option<u32> {
        Some(self.row)
    }

    fn run<E: Elementwise>(&self, _: E, _: &Operands<'_>, _: Tile) {}
}
