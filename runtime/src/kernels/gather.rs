//! Selection of slices by index.

use core::ops::Range;

use super::Params;
use crate::DType;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure, product};
use crate::format::words::record;
use crate::rows::{Operands, chunks};

record! {
    /// Parameters of a gather (ONNX `Gather`). Inputs: 0 `x [outer, n, inner]`, 1 indices `[count]` (i32 or i64, computed or
    /// constant). Output: `[outer, count, inner]` of x's type. Rows: `outer · count`. Negative indices count from the
    /// end; an index out of range, which ONNX forbids, takes the nearest valid slice.
    pub struct Gather {
        /// Slices gathered from separately.
        pub outer: u32,
        /// Length of the axis.
        pub n: u32,
        /// Elements of one position of the axis.
        pub inner: u32,
        /// Number of indices.
        pub count: u32,
    }
}

impl Params for Gather {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        let (x, index, y) = (c.input(0)?, c.input(1)?, c.output()?);
        ensure(x.dtype.size() == y.dtype.size(), Fault::DType)?;
        ensure(matches!(index.dtype, DType::I32 | DType::I64), Fault::DType)?;
        ensure(self.n > 0, Fault::Params)?;
        c.size(&x, &[self.outer, self.n, self.inner])?;
        c.size(&index, &[self.count])?;
        c.size(&y, &[self.outer, self.count, self.inner])?;
        Ok(Verdict::rows(product(&[self.outer, self.count])?))
    }

    fn run(&self, o: &Operands<'_>, rows: Range<usize>) {
        let (x, index, mut out) = (o.input(0), o.input(1), o.output());
        let (n, count) = (self.n as usize, self.count as usize);
        let bytes = self.inner as usize * x.dtype.size();
        for row in rows {
            let mut at = [0i64];
            index.load_int(row % count, &mut at);
            let at = if at[0] < 0 { at[0].saturating_add(n as i64) } else { at[0] };
            let from = (row / count * n + at.clamp(0, n as i64 - 1) as usize) * bytes;
            chunks(0..bytes, |at, n| {
                out.slice::<u8>(row * bytes + at, n).copy_from_slice(x.slice(from + at, n));
            });
        }
    }
}
