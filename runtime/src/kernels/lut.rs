//! A function of each byte, by table: what an elementwise function of one 8-bit quantised tensor becomes.

use core::ops::Range;

use super::Params;
use super::walk::elements;
use crate::DType;
use crate::bands::{Rule, Window};
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure, work};
use crate::format::words::record;
use crate::rows::{BUFFER, Operands, Tile, buffers, copy};

record! {
    /// Parameters of a table step. Inputs: 0 `x` (one-byte type, `rows · row` elements), 1 table `[256]` u8, indexed by the
    /// bits of the byte. Output: as many elements of a one-byte type.
    pub struct Lut {
        /// Rows.
        pub rows: u32,
        /// Elements of a row.
        pub row: u32,
    }
}

impl Params for Lut {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        let (x, y) = (c.input(0)?, c.output()?);
        ensure(x.dtype.size() == 1 && y.dtype.size() == 1, Fault::DType)?;
        c.size(&x, &[self.rows, self.row])?;
        c.size(&y, &[self.rows, self.row])?;
        c.constant(1, DType::U8, &[256])?;
        Ok(Verdict::new(self.rows as usize, work(&[self.rows, self.row, 2])).in_place(1))
    }

    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        (input == 0).then(|| elements(rows, &[self.row]))
    }

    fn row(&self) -> Option<u32> {
        Some(self.row)
    }

    fn rule(&self, input: usize) -> Rule {
        if input == 0 { Rule::Rows(Window::pointwise(self.row)) } else { Rule::Whole }
    }

    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let (x, table, mut out) = (o.input(0), o.constant::<u8>(1), o.output());
        let row = self.row as usize;
        buffers(rows.start * row..rows.end * row, |at, n| {
            let mut buffer = [0u8; BUFFER];
            let Some(buffer) = buffer.get_mut(..n) else { return };
            copy(x.slice(at, n), buffer);
            e.lookup(table, buffer);
            copy(buffer, out.slice(at, n));
        });
    }
}

/// Replaces each byte by its entry in a table of 256.
#[inline(always)]
pub fn look_up(table: &[u8], bytes: &mut [u8]) {
    if let Ok(table) = <&[u8; 256]>::try_from(table) {
        for b in bytes {
            *b = table[usize::from(*b)];
        }
    }
}
