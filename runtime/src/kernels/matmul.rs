//! Matrix product of two computed tensors, batched. Sets of kernels that multiply packed weights pack the right matrices and
//! multiply them likewise ([`crate::product::run_matrices`]); the reference computes from where both lie.

use core::ops::Range;

use super::Params;
use super::walk::elements;
use crate::bands::{Rule, Window};
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, all_bytes, ensure, product as sizes, work};
use crate::format::words::{Record, Words, record};
use crate::product::{self, Packing, WordOrder};
use crate::rows::{self, Operands, Tile, View};
use crate::{DType, quant};

/// Columns whose accumulators are held at once.
const BLOCK: usize = 32;
/// Batch dimensions that may broadcast independently.
const BATCH_DIMS: usize = 4;

record! {
    /// Parameters of a matrix product.
    ///
    /// Inputs: 0 `a [batch…, m, k]` (`[batch…, k, m]` if transposed), 1 `b [batch…, k, n]` (`[batch…, n, k]` if
    /// transposed); both f32, or both i8/u8. Output: `[batch…, m, n]` f32, or i8/u8 for integers. Rows: `batch · m`. Columns:
    /// panels of the right matrix, if it is packed.
    ///
    /// Integers: `acc = Σ (a − za)(b − zb)`, then `f32(acc) · multiplier`, rounded and offset by the output's zero point
    /// if the output is an integer.
    pub struct MatMul {
        /// Batch dimensions of the output, outermost first, padded with ones.
        pub batch: [u32; 4],
        /// Elements between matrices of `a` along each batch dimension; 0 repeats.
        pub a_strides: [u32; 4],
        /// Elements between matrices of `b` along each batch dimension; 0 repeats.
        pub b_strides: [u32; 4],
        /// Rows of the result.
        pub m: u32,
        /// Columns of the result.
        pub n: u32,
        /// Length of the sums.
        pub k: u32,
        /// `a` is stored `[k, m]`.
        pub transpose_a: bool,
        /// `b` is stored `[n, k]`.
        pub transpose_b: bool,
        /// Scale of the sum.
        pub multiplier: f32,
        /// Lower bound of an integer result.
        pub q_lo: i32,
        /// Upper bound of an integer result.
        pub q_hi: i32,
        /// How the right matrix lies while it is multiplied, its columns being channels.
        pub packing: Packing,
        /// Sums there is scratch for: those of so many rows times panels. 0 if nothing is packed.
        pub tile: u32,
    }
}

impl MatMul {
    /// First element of left matrix number `batch`.
    #[inline(always)]
    pub(crate) fn left(&self, batch: usize) -> usize {
        self.offset(&self.a_strides, batch)
    }

    /// First element of right matrix number `batch`.
    #[inline(always)]
    pub(crate) fn right(&self, batch: usize) -> usize {
        self.offset(&self.b_strides, batch)
    }

    /// Columns of the step: panels of the right matrix.
    pub fn columns(&self) -> usize {
        if self.tile == 0 { 1 } else { self.n.div_ceil(self.packing.panel.max(1)) as usize }
    }

    /// Bytes of scratch that a worker needs for left matrices of type `x`.
    pub fn scratch(&self, x: DType) -> u64 {
        product::matrix_scratch(self, x)
    }

    fn offset(&self, strides: &[u32; BATCH_DIMS], mut index: usize) -> usize {
        let mut at = 0;
        for d in (0..BATCH_DIMS).rev() {
            let n = self.batch[d].max(1) as usize;
            at += index % n * strides[d] as usize;
            index /= n;
        }
        at
    }
}

impl MatMul {
    /// As [`Params::reads`].
    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        if input == 0 && self.left_is_rows() {
            return Some(elements(rows, &[self.k]));
        }
        let m = (self.m as usize).max(1);
        let batch = rows.start / m..rows.end.div_ceil(m);
        let one = batch.len() == 1;
        let (strides, matrix) = match input {
            0 if !one => (&self.a_strides, elements(0..m, &[self.k])),
            // The rows of one matrix; of a transposed one they lie across all of it.
            0 => {
                let own = rows.start % m..(rows.end - 1) % m + 1;
                let last = (self.k as usize).saturating_sub(1).saturating_mul(m);
                let across = own.start..own.end.saturating_add(last);
                (&self.a_strides, if self.transpose_a { across } else { elements(own, &[self.k]) })
            }
            1 => (&self.b_strides, elements(0..self.n as usize, &[self.k])),
            _ => return None,
        };
        let [first, last] = self.offsets(strides, batch);
        Some(first.saturating_add(matrix.start)..last.saturating_add(matrix.end))
    }

    /// Whether the rows of all left matrices lie one after the other, as those of the output do.
    fn left_is_rows(&self) -> bool {
        let mut apart = self.m.checked_mul(self.k);
        let mut dense = !self.transpose_a;
        for (&n, &stride) in self.batch.iter().zip(&self.a_strides).rev().filter(|(n, _)| **n != 1) {
            dense &= apart == Some(stride);
            apart = apart.and_then(|apart| apart.checked_mul(n));
        }
        dense
    }

    /// As [`Params::rule`].
    fn rule(&self, input: usize) -> Rule {
        if input == 0 && self.left_is_rows() { Rule::Rows(Window::pointwise(self.k)) } else { Rule::Whole }
    }

    /// Offsets between which those of the matrices with these numbers lie, both ends included.
    fn offsets(&self, strides: &[u32; BATCH_DIMS], batch: Range<usize>) -> [usize; 2] {
        let (mut lo, mut hi) = (0usize, 0usize);
        let (mut first, mut last) = (batch.start, batch.end.saturating_sub(1));
        for d in (0..BATCH_DIMS).rev() {
            let (n, stride) = (self.batch[d].max(1) as usize, strides[d] as usize);
            // Where an outer dimension moves on, this one goes through all its extent.
            let through = first / n != last / n;
            let ends = if through { [0, n - 1] } else { [first % n, last % n] };
            lo = lo.saturating_add(ends[0].saturating_mul(stride));
            hi = hi.saturating_add(ends[1].saturating_mul(stride));
            (first, last) = (first / n, last / n);
        }
        [lo, hi]
    }

    fn verify(&self, c: &Check<'_>, float: bool) -> Result<Verdict, Fault> {
        let (a, b, y) = (c.input(0)?, c.input(1)?, c.output()?);
        let byte = |d| matches!(d, DType::I8 | DType::U8);
        let fits = |d| if float { d == DType::F32 } else { byte(d) };
        ensure(fits(a.dtype) && fits(b.dtype), Fault::DType)?;
        ensure(y.dtype == DType::F32 || (!float && byte(y.dtype)), Fault::DType)?;
        self.packing.verify()?;
        ensure(self.packing.order == WordOrder::Plain, Fault::Params)?;
        ensure(
            self.tile <= 256 && (self.tile == 0 || (self.packing.panel > 0 && self.packing.run > 0)),
            Fault::Params,
        )?;
        let batch = sizes(&self.batch)?;
        ensure(batch > 0 && self.m > 0 && self.n > 0 && self.k > 0, Fault::Shape)?;
        c.size(&y, &[batch as u32, self.m, self.n])?;
        for (t, strides, rows) in [(&a, &self.a_strides, self.m), (&b, &self.b_strides, self.n)] {
            let last: u64 = (0..BATCH_DIMS).map(|d| u64::from(self.batch[d] - 1) * u64::from(strides[d])).sum();
            let one = sizes(&[rows, self.k])? as u64;
            ensure(last + one <= all_bytes(t) / t.dtype.size() as u64, Fault::Shape)?;
            ensure(strides.iter().all(|&s| s == 0 || u64::from(s) >= one), Fault::Params)?;
        }
        // A batch dimension that neither operand has would be the same product over and over.
        let real = |d: usize| self.batch[d] == 1 || self.a_strides[d] > 0 || self.b_strides[d] > 0;
        ensure((0..BATCH_DIMS).all(real), Fault::Params)?;
        if let (false, Some((lo, hi))) = (float, y.dtype.quantized_range()) {
            ensure(lo <= self.q_lo && self.q_lo <= self.q_hi && self.q_hi <= hi, Fault::Params)?;
        }
        let columns = u64::from(self.n) + work(&[self.n.div_ceil(BLOCK as u32), 4]);
        // What is packed counts as two rows more: each worker may pack all of it, with zeros beside.
        let rows = if self.tile == 0 { self.m } else { self.m.saturating_add(2) };
        let filled = u64::from(self.packing.panel.max(1)).saturating_mul(self.packing.run.max(1).into());
        let packed = if self.tile == 0 { 0 } else { filled.saturating_mul(2 * batch as u64) };
        let all = work(&[batch as u32, rows, self.k.saturating_add(8)]).saturating_mul(columns).saturating_add(packed);
        let scratch = usize::try_from(self.scratch(a.dtype)).map_err(|_| Fault::Params)?;
        Ok(Verdict::new(sizes(&[batch as u32, self.m])?, all).columns(self.columns()).scratch(scratch))
    }

    #[inline(always)]
    fn floats(&self, o: &Operands<'_>, tile: Tile) {
        let (a, b, mut out) = (o.input(0), o.input(1), o.output());
        let n = self.n as usize;
        drive(
            self,
            tile,
            |place| {
                let mut acc = [0f32; BLOCK];
                sum_f32(self, &a, &b, place, &mut acc[..place.width]);
                acc.map(|v| v * self.multiplier)
            },
            |row, n0, v: &[f32]| rows::copy(v, out.slice::<f32>(row * n + n0, v.len())),
        );
    }

    #[inline(always)]
    fn integers(&self, o: &Operands<'_>, tile: Tile) {
        let (a, b, mut out) = (o.input(0), o.input(1), o.output());
        let n = self.n as usize;
        let zero = out.zero_point();
        drive(
            self,
            tile,
            |place| {
                let mut acc = [0i32; BLOCK];
                sum_int(self, &a, &b, place, &mut acc[..place.width]);
                acc
            },
            |row, n0, acc: &[i32]| {
                let at = row * n + n0;
                if out.dtype() == DType::F32 {
                    for (o, &q) in out.slice::<f32>(at, acc.len()).iter_mut().zip(acc) {
                        *o = q as f32 * self.multiplier;
                    }
                } else {
                    for (o, &q) in out.slice::<u8>(at, acc.len()).iter_mut().zip(acc) {
                        *o = quant::requantize(q, self.multiplier, zero, self.q_lo, self.q_hi) as u8;
                    }
                }
            },
        );
    }
}

/// Where the operands of a block of columns of one row begin.
#[derive(Clone, Copy)]
struct Place {
    /// First element of the row of `a`.
    a: usize,
    /// From one element of that row to the next.
    a_step: usize,
    /// First element of the matrix `b`.
    b: usize,
    /// First column.
    first: usize,
    /// Number of columns.
    width: usize,
}

/// The loop nest: rows of the result, blocks of columns.
#[inline(always)]
fn drive<A: Copy>(
    p: &MatMul,
    tile: Tile,
    mut block: impl FnMut(Place) -> [A; BLOCK],
    mut store: impl FnMut(usize, usize, &[A]),
) {
    let (m, n, k) = (p.m as usize, p.n as usize, p.k as usize);
    let columns = if p.tile == 0 {
        0..n
    } else {
        let panel = p.packing.panel as usize;
        tile.columns.start * panel..(tile.columns.end * panel).min(n)
    };
    for row in tile.rows {
        let (batch, i) = (row / m.max(1), row % m.max(1));
        let (a_first, a_step) = if p.transpose_a { (i, m) } else { (i * k, 1) };
        let a_at = p.offset(&p.a_strides, batch) + a_first;
        let b_at = p.offset(&p.b_strides, batch);
        for n0 in columns.clone().step_by(BLOCK) {
            let width = BLOCK.min(columns.end - n0);
            let acc = block(Place { a: a_at, a_step, b: b_at, first: n0, width });
            store(row, n0, &acc[..width]);
        }
    }
}

#[inline(always)]
fn sum_f32(p: &MatMul, a: &View<'_>, b: &View<'_>, place: Place, acc: &mut [f32]) {
    let (n, k) = (p.n as usize, p.k as usize);
    let Place { a: a_at, a_step, b: b_at, first: n0, width } = place;
    let left = a.slice::<f32>(a_at, (k - 1) * a_step + 1);
    if p.transpose_b {
        for (j, acc) in acc.iter_mut().enumerate() {
            let right = b.slice::<f32>(b_at + (n0 + j) * k, k);
            // Eight partial sums: a fixed order that vectorises.
            let mut lanes = [0f32; 8];
            if a_step == 1 {
                let (x, y) = (left.chunks_exact(8), right.chunks_exact(8));
                let tail = x.remainder().iter().zip(y.remainder()).map(|(x, y)| x * y).sum::<f32>();
                for (x, y) in x.zip(y) {
                    for l in 0..8 {
                        lanes[l] += x[l] * y[l];
                    }
                }
                *acc = lanes.iter().sum::<f32>() + tail;
            } else {
                for (i, (x, y)) in left.iter().step_by(a_step.max(1)).zip(right).enumerate() {
                    lanes[i % 8] += x * y;
                }
                *acc = lanes.iter().sum();
            }
        }
        return;
    }
    for (i, x) in left.iter().step_by(a_step.max(1)).enumerate() {
        for (acc, y) in acc.iter_mut().zip(b.slice::<f32>(b_at + i * n + n0, width)) {
            *acc += x * y;
        }
    }
}

#[inline(always)]
fn sum_int(p: &MatMul, a: &View<'_>, b: &View<'_>, place: Place, acc: &mut [i32]) {
    let (n, k) = (p.n as usize, p.k as usize);
    let Place { a: a_at, a_step, b: b_at, first: n0, width } = place;
    let (za, zb) = (a.zero_point as i16, b.zero_point as i16);
    // Both types through their bytes: i8 = (byte ^ 0x80) − 128, so one loop serves i8 and u8.
    let (flip_a, za) = if a.dtype == DType::I8 { (0x80u8, za + 128) } else { (0, za) };
    let (flip_b, zb) = if b.dtype == DType::I8 { (0x80u8, zb + 128) } else { (0, zb) };
    let left = a.slice::<u8>(a_at, (k - 1) * a_step + 1);
    if p.transpose_b {
        for (j, acc) in acc.iter_mut().enumerate() {
            let right = b.slice::<u8>(b_at + (n0 + j) * k, k);
            for (x, y) in left.iter().step_by(a_step.max(1)).zip(right) {
                let x = i16::from(x ^ flip_a) - za;
                *acc = acc.wrapping_add(i32::from(x) * i32::from(i16::from(y ^ flip_b) - zb));
            }
        }
        return;
    }
    for (i, x) in left.iter().step_by(a_step.max(1)).enumerate() {
        let x = i16::from(x ^ flip_a) - za;
        for (acc, y) in acc.iter_mut().zip(b.slice::<u8>(b_at + i * n + n0, width)) {
            *acc = acc.wrapping_add(i32::from(x) * i32::from(i16::from(y ^ flip_b) - zb));
        }
    }
}

/// A kind of matrix product: its parameters are a [`MatMul`].
macro_rules! kind {
    ($(#[$meta:meta])* $name:ident, $float:literal, $run:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name(pub MatMul);

        impl Record for $name {
            const WORDS: usize = MatMul::WORDS;
            fn read(words: &Words<'_>, at: usize) -> Option<Self> {
                MatMul::read(words, at).map($name)
            }
            fn write(&self, out: &mut dyn FnMut(u32)) {
                self.0.write(out);
            }
        }

        impl Params for $name {
            fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
                self.0.verify(c, $float)
            }

            fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
                self.0.reads(input, rows)
            }

            fn row(&self) -> Option<u32> {
                Some(self.0.n)
            }

            fn rule(&self, input: usize) -> Rule {
                self.0.rule(input)
            }

            #[inline(always)]
            fn run<E: Elementwise>(&self, _: E, o: &Operands<'_>, tile: Tile) {
                self.0.$run(o, tile);
            }
        }
    };
}

kind!(
    /// A matrix product of floats.
    MatMulF32, true, floats
);
kind!(
    /// A matrix product of bytes.
    MatMulI8, false, integers
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against every matrix by itself.
        #[test]
        fn offsets_lie_between_those_that_are_said(
            batch in prop::array::uniform4(1..4u32),
            strides in prop::array::uniform4(0..50u32),
            (from, more) in (0..81usize, 1..81usize),
        ) {
            let p = MatMul {
                batch, a_strides: strides, b_strides: [0; 4], m: 1, n: 1, k: 1, transpose_a: false, transpose_b: false,
                multiplier: 1.0, q_lo: 0, q_hi: 0, packing: Packing::by_channels(8), tile: 0,
            };
            let all = batch.iter().product::<u32>() as usize;
            let range = from.min(all - 1)..(from + more).min(all);
            prop_assume!(!range.is_empty());
            let [first, last] = p.offsets(&strides, range.clone());
            for index in range {
                let at = p.offset(&strides, index);
                prop_assert!((first..=last).contains(&at), "matrix {index} lies at {at}, said {first} to {last}");
            }
        }
    }
}
