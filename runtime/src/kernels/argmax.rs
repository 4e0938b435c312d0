//! Index of the maximum or minimum along an axis.

use core::ops::Range;

use super::Params;
use super::walk::elements;
use crate::DType;
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure, work};
use crate::format::words::record;
use crate::rows::{Operands, Tile};

record! {
    /// Parameters of an arg-max (ONNX `ArgMax`, `ArgMin`). Input: 0 `x [outer, n, inner]` of any type; output:
    /// `[outer, inner]` i64 or i32. Rows: `outer`.
    pub struct ArgMax {
        /// Slices searched separately.
        pub outer: u32,
        /// Length of the axis.
        pub n: u32,
        /// Elements of one position of the axis.
        pub inner: u32,
        /// Search the minimum instead.
        pub smallest: bool,
        /// Of equal elements take the last, not the first.
        pub last: bool,
    }
}

impl Params for ArgMax {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        let y = c.output()?;
        ensure(matches!(y.dtype, DType::I64 | DType::I32), Fault::DType)?;
        ensure(self.n > 0, Fault::Params)?;
        c.size(&c.input(0)?, &[self.outer, self.n, self.inner])?;
        c.size(&y, &[self.outer, self.inner])?;
        Ok(Verdict::new(self.outer as usize, work(&[self.outer, self.n, self.inner, 4])))
    }

    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        (input == 0).then(|| elements(rows, &[self.n, self.inner]))
    }

    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let (x, mut out) = (o.input(0), o.output());
        let (n, inner) = (self.n as usize, self.inner as usize);
        for row in rows {
            for column in 0..inner {
                let at = |i: usize| (row * n + i) * inner + column;
                // Integers are in the order of the reals they stand for.
                let best = if x.dtype.is_float() {
                    self.search(|i, v: &mut [f32; 1]| e.load(&x, at(i), v))
                } else {
                    self.search(|i, v: &mut [i64; 1]| x.load_int(at(i), v))
                };
                out.store_int(row * inner + column, &[best]);
            }
        }
    }
}

impl ArgMax {
    #[inline(always)]
    fn search<T: Copy + Default + PartialOrd>(&self, load: impl Fn(usize, &mut [T; 1])) -> i64 {
        let mut best = (0i64, T::default());
        for i in 0..self.n as usize {
            let mut v = [T::default()];
            load(i, &mut v);
            let beats = if self.smallest { v[0] < best.1 } else { v[0] > best.1 };
            if i == 0 || beats || (self.last && v[0] == best.1) {
                best = (i as i64, v[0]);
            }
        }
        best.0
    }
}
