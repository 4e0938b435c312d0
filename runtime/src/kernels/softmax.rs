//! Softmax or its logarithm over an axis.

use core::ops::Range;

use super::bytes::{self, are_bytes};
use super::sum::{self, larger};
use super::walk::{columns, elements};
use super::{OpSet, Params, UnaryOp};
use crate::bands::{Rule, Window};
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure};
use crate::format::words::record;
use crate::math;
use crate::rows::{BUFFER, CHUNK, Operands, Tile, View, ViewMut, buffers, chunks};

/// Elements of a row whose exponentials are kept from their sum to their division.
const KEPT: usize = if BUFFER < CHUNK { CHUNK } else { 4 * CHUNK };

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

    fn row(&self) -> Option<u32> {
        self.n.checked_mul(self.inner)
    }

    fn rule(&self, input: usize) -> Rule {
        Params::row(self).filter(|_| input == 0).map_or(Rule::Whole, |row| Rule::Rows(Window::pointwise(row)))
    }

    fn functions(&self, _: &crate::Step<'_>) -> OpSet {
        OpSet::of_functions(&[UnaryOp::Exp], &[])
    }

    #[inline(always)]
    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let (x, mut out) = (o.input(0), o.output());
        let (n, inner) = (self.n as usize, self.inner as usize);
        let mut kept = [0f32; KEPT];
        for row in rows {
            let start = row * n * inner;
            if inner == 1 {
                self.row(e, &x, &mut out, start, &mut kept);
            } else {
                buffers(0..inner, |column, width| self.columns(e, &x, &mut out, start + column, width));
            }
        }
    }
}

impl Softmax {
    /// The `n` neighbouring elements at `start`.
    #[inline(always)]
    fn row<E: Elementwise>(&self, e: E, x: &View<'_>, out: &mut ViewMut<'_>, start: usize, kept: &mut [f32; KEPT]) {
        let n = self.n as usize;
        let mut largest = f32::NEG_INFINITY;
        if are_bytes(x.dtype) {
            largest = bytes::largest(x, start, n);
        } else {
            chunks(0..n, |at, n| {
                let kept = kept.get_mut(..n).unwrap_or(&mut []);
                largest = sum::largest(e.reals(x, start + at, kept), largest);
            });
        }
        let keep = n <= KEPT;
        let mut total = 0f32;
        chunks(0..n, |at, n| {
            let first = if keep { at } else { 0 };
            let Some(v) = kept.get_mut(first..first + n) else { return };
            e.load(x, start + at, v);
            v.iter_mut().for_each(|v| *v -= largest);
            e.unary(UnaryOp::Exp, [0.0; 2], v);
            total += sum::sum(v, |v| v);
        });
        let divisor = self.divisor(total);
        if bytes::worth_a_table(x, out, n) {
            let table = bytes::table(x, out, |v| v.iter_mut().for_each(|v| *v = self.value(*v - largest, divisor)));
            bytes::look_up(e, &table, x, out, start, n);
            return;
        }
        chunks(0..n, |at, n| {
            let first = if keep { at } else { 0 };
            let Some(v) = kept.get_mut(first..first + n) else { return };
            if keep && !self.log {
                v.iter_mut().for_each(|v| *v /= divisor);
            } else {
                e.load(x, start + at, v);
                v.iter_mut().for_each(|v| *v = self.value(*v - largest, divisor));
            }
            e.store(out, start + at, v);
        });
    }

    /// `width` neighbouring columns, the first of which begins at `start`.
    #[inline(always)]
    fn columns<E: Elementwise>(&self, e: E, x: &View<'_>, out: &mut ViewMut<'_>, start: usize, width: usize) {
        let (n, inner) = (self.n as usize, self.inner as usize);
        let (mut largest, mut total) = ([f32::NEG_INFINITY; BUFFER], [0f32; BUFFER]);
        let mut v = [0f32; BUFFER];
        let Some(v) = v.get_mut(..width) else { return };
        for i in 0..n {
            let v = e.reals(x, start + i * inner, v);
            largest.iter_mut().zip(v).for_each(|(m, &v)| *m = larger(*m, v));
        }
        for i in 0..n {
            let v = e.reals(x, start + i * inner, v);
            total.iter_mut().zip(&largest).zip(v).for_each(|((t, &m), &v)| *t += math::exp(v - m));
        }
        total.iter_mut().for_each(|t| *t = self.divisor(*t));
        for i in 0..n {
            e.load(x, start + i * inner, v);
            v.iter_mut().zip(&largest).zip(&total).for_each(|((v, &m), &t)| *v = self.value(*v - m, t));
            e.store(out, start + i * inner, v);
        }
    }

    /// What [`value`](Softmax::value) divides by, or takes away in the logarithm.
    #[inline(always)]
    fn divisor(&self, total: f32) -> f32 {
        if self.log { libm::logf(total) } else { total }
    }

    #[inline(always)]
    fn value(&self, shifted: f32, divisor: f32) -> f32 {
        if self.log { shifted - divisor } else { math::exp(shifted) / divisor }
    }
}
