//! Selection of slices by index.

use core::ops::Range;

use super::Params;
use super::walk::elements;
use crate::DType;
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::faults::DataFault;
use crate::format::verify::{Check, Verdict, ensure, product, work};
use crate::format::words::record;
use crate::rows::{self, BUFFER, Operands, Tile, buffers};

record! {
    /// Parameters of a gather (ONNX `Gather`). Inputs: 0 `x [outer, n, inner]`, 1 indices `[count]` (i32 or i64, computed or
    /// constant). Output: `[outer, count, inner]` of x's type. Rows: `outer · count`. Negative indices count from the
    /// end. An index out of range, which ONNX forbids, is noted as [`DataFault::Index`] and gives NaN for floats and 0 (the real)
    /// for everything else.
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
        // Bytes are copied, and each index costs something.
        let each = work(&[self.inner, x.dtype.size() as u32]).saturating_add(16);
        Ok(Verdict::new(product(&[self.outer, self.count])?, work(&[self.outer, self.count]).saturating_mul(each)))
    }

    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        let count = (self.count as usize).max(1);
        let outer = rows.start / count..rows.end.div_ceil(count);
        match input {
            // Any index may be asked for.
            0 => Some(elements(outer, &[self.n, self.inner])),
            // Rows of one slice have their indices side by side.
            1 if outer.len() == 1 => Some(rows.start % count..(rows.end - 1) % count + 1),
            _ => None,
        }
    }

    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let (x, index, mut out) = (o.input(0), o.input(1), o.output());
        let (n, count) = (self.n as usize, (self.count as usize).max(1));
        let (inner, size) = (self.inner as usize, x.dtype.size());
        let bytes = inner * size;
        for row in rows {
            let mut at = [0i64];
            index.load_int(row % count, &mut at);
            let at = if at[0] < 0 { at[0].saturating_add(n as i64) } else { at[0] };
            let Some(at) = usize::try_from(at).ok().filter(|&at| at < n) else {
                o.note(DataFault::Index);
                let nothing = [if out.dtype().is_float() { f32::NAN } else { 0.0 }; BUFFER];
                buffers(0..inner, |at, n| e.store(&mut out, row * inner + at, &nothing[..n]));
                continue;
            };
            let from = (row / count * n + at) * bytes;
            buffers(0..bytes, |at, n| {
                rows::copy(x.slice(from + at, n), out.slice::<u8>(row * bytes + at, n));
            });
        }
    }
}
