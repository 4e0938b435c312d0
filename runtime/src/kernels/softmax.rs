//! Softmax or its logarithm over an axis.

use core::ops::Range;

use super::Params;
use super::walk::{columns, elements};
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure};
use crate::format::words::record;
use crate::math;
use crate::rows::{CHUNK, Operands, Tile, chunks};

record! {
    /// Parameters of a softmax step. Input: 0 `x [outer, n, inner]` of any type; output: the same shape. Rows: `outer`.
    pub struct Softmax {
        /// Slices normalised separately.
        pub outer: u32,
        /// Length of the axis.
        pub n: u32,
        /// Elements of one position of the axis, each normalised by itself.
        pub inner: u32,
        /// Give the logarithm.
        pub log: bool,
    }
}

impl Params for Softmax {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        ensure(self.n > 0, Fault::Params)?;
        let dims = [self.outer, self.n, self.inner];
        c.size(&c.input(0)?, &dims)?;
        c.size(&c.output()?, &dims)?;
        Ok(Verdict::new(self.outer as usize, columns(self.outer, self.n, self.inner, 32)).in_place(1))
    }

    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        (input == 0).then(|| elements(rows, &[self.n, self.inner]))
    }

    #[inline(always)]
    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let (x, mut out) = (o.input(0), o.output());
        let (n, inner) = (self.n as usize, self.inner as usize);
        for row in rows {
            let start = row * n * inner;
            // With inner = 1 a chunk runs along the axis and is folded; otherwise it is a set of columns.
            if inner == 1 {
                let mut largest = f32::NEG_INFINITY;
                let mut sum = 0.0f32;
                let mut v = [0f32; CHUNK];
                chunks(0..n, |at, n| {
                    e.load(&x, start + at, &mut v[..n]);
                    largest = v[..n].iter().fold(largest, |m, &v| larger(m, v));
                });
                chunks(0..n, |at, n| {
                    e.load(&x, start + at, &mut v[..n]);
                    v[..n].iter_mut().for_each(|v| *v = math::exp(*v - largest));
                    sum += v[..n].iter().sum::<f32>();
                });
                let log_sum = libm::logf(sum);
                chunks(0..n, |at, n| {
                    e.load(&x, start + at, &mut v[..n]);
                    v[..n].iter_mut().for_each(|v| *v = self.value(*v - largest, sum, log_sum));
                    e.store(&mut out, start + at, &v[..n]);
                });
                continue;
            }
            chunks(0..inner, |column, width| {
                let (mut largest, mut sum) = ([f32::NEG_INFINITY; CHUNK], [0f32; CHUNK]);
                let mut v = [0f32; CHUNK];
                for i in 0..n {
                    e.load(&x, start + i * inner + column, &mut v[..width]);
                    for (m, &v) in largest.iter_mut().zip(&v[..width]) {
                        *m = larger(*m, v);
                    }
                }
                for i in 0..n {
                    e.load(&x, start + i * inner + column, &mut v[..width]);
                    for ((s, &m), &v) in sum.iter_mut().zip(&largest).zip(&v[..width]) {
                        *s += math::exp(v - m);
                    }
                }
                for i in 0..n {
                    e.load(&x, start + i * inner + column, &mut v[..width]);
                    for ((v, &m), &s) in v[..width].iter_mut().zip(&largest).zip(&sum) {
                        *v = self.value(*v - m, s, if self.log { libm::logf(s) } else { 0.0 });
                    }
                    e.store(&mut out, start + i * inner + column, &v[..width]);
                }
            });
        }
    }
}

impl Softmax {
    #[inline(always)]
    fn value(&self, shifted: f32, sum: f32, log_sum: f32) -> f32 {
        if self.log { shifted - log_sum } else { math::exp(shifted) / sum }
    }
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}
