//! Running sum along an axis.

use core::ops::Range;

use super::Params;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict};
use crate::format::words::record;
use crate::rows::{CHUNK, Operands, chunks};

record! {
    /// Parameters of a running sum (ONNX `CumSum`). Input: 0 `x [outer, n, inner]` of any type; output: the same shape.
    /// Rows: `outer`.
    pub struct CumSum {
        /// Slices summed separately.
        pub outer: u32,
        /// Length of the axis.
        pub n: u32,
        /// Elements of one position of the axis.
        pub inner: u32,
        /// An element's sum leaves out the element itself.
        pub exclusive: bool,
        /// Sum from the end.
        pub reverse: bool,
    }
}

impl Params for CumSum {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        let dims = [self.outer, self.n, self.inner];
        c.size(&c.input(0)?, &dims)?;
        c.size(&c.output()?, &dims)?;
        Ok(Verdict::rows(self.outer as usize).in_place(1))
    }

    fn run(&self, o: &Operands<'_>, rows: Range<usize>) {
        let (x, mut out) = (o.input(0), o.output());
        let (n, inner) = (self.n as usize, self.inner as usize);
        for row in rows {
            chunks(0..inner, |column, width| {
                let mut sum = [0f32; CHUNK];
                for i in 0..n {
                    let i = if self.reverse { n - 1 - i } else { i };
                    let at = (row * n + i) * inner + column;
                    let mut v = [0f32; CHUNK];
                    x.load(at, &mut v[..width]);
                    if self.exclusive {
                        out.store(at, &sum[..width]);
                    }
                    for (s, v) in sum.iter_mut().zip(&v[..width]) {
                        *s += v;
                    }
                    if !self.exclusive {
                        out.store(at, &sum[..width]);
                    }
                }
            });
        }
    }
}
