//! Running sum along an axis.

use core::ops::Range;

use super::Params;
use super::walk::{columns, elements};
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure};
use crate::format::words::record;
use crate::rows::{BUFFER, Operands, Tile, buffers};

record! {
    /// Parameters of a running sum (ONNX `CumSum`). Input: 0 `x [outer, n, inner]` of any type; output: the same shape.
    /// Rows: `outer`. With `integer` stored integers are summed, which wrap; else reals in f32.
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
        /// Input and output are integers that stand for themselves.
        pub integer: bool,
    }
}

impl Params for CumSum {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        let dims = [self.outer, self.n, self.inner];
        let (x, y) = (c.input(0)?, c.output()?);
        ensure(!self.integer || (!x.dtype.is_float() && !y.dtype.is_float()), Fault::DType)?;
        c.size(&x, &dims)?;
        c.size(&y, &dims)?;
        Ok(Verdict::new(self.outer as usize, columns(self.outer, self.n, self.inner, 4)).in_place(1))
    }

    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        (input == 0).then(|| elements(rows, &[self.n, self.inner]))
    }

    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let (x, mut out) = (o.input(0), o.output());
        let (n, inner) = (self.n as usize, self.inner as usize);
        for row in rows {
            buffers(0..inner, |column, width| {
                let (mut sum, mut whole) = ([0f32; BUFFER], [0i64; BUFFER]);
                for i in 0..n {
                    let i = if self.reverse { n - 1 - i } else { i };
                    let at = (row * n + i) * inner + column;
                    if self.integer {
                        let mut v = [0i64; BUFFER];
                        x.load_int(at, &mut v[..width]);
                        self.step(&mut whole[..width], &v, i64::wrapping_add, |s| out.store_int(at, s));
                    } else {
                        let mut v = [0f32; BUFFER];
                        e.load(&x, at, &mut v[..width]);
                        self.step(&mut sum[..width], &v, |a, b| a + b, |s| e.store(&mut out, at, s));
                    }
                }
            });
        }
    }
}

impl CumSum {
    /// Adds one position to the sums, and stores them before or after that.
    #[inline(always)]
    fn step<T: Copy>(&self, sum: &mut [T], v: &[T], add: impl Fn(T, T) -> T, mut store: impl FnMut(&[T])) {
        if self.exclusive {
            store(sum);
        }
        for (s, &v) in sum.iter_mut().zip(v) {
            *s = add(*s, v);
        }
        if !self.exclusive {
            store(sum);
        }
    }
}
