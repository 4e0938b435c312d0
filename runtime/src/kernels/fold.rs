//! Sums over all rows of a picture, taken row by row.

use core::ops::Range;

use super::bytes::{self, Sums, are_bytes};
use super::moments::{Differences, Spread};
use super::walk::{columns, elements};
use super::{NormKind, OpSet, Params, StepKind};
use crate::bands::{Rule, Window};
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure, product};
use crate::format::words::{code, record};
use crate::rows::{BUFFER, CHUNK, Operands, Tile, View, ViewMut, buffers};
use crate::{DType, quant};

code! {
    /// What a fold sums.
    pub enum FoldOp {
        /// `Σ x`, in f32, position after position.
        Sum = 0,
        /// What a norm needs to know: mean, and squares of the differences from it.
        Layer = 1,
        /// What a root mean square needs to know: `Σ x²`.
        Rms = 2,
    }
}

record! {
    /// Parameters of a fold. Input: 0 `x [outer, height, n, inner]` of any type; output: `[outer, inner]` f32 for a sum, else
    /// `[outer, 2, inner]` of 64-bit words: of bytes the exact sums of `q − zero_point` and of its square; of others, as the bits of
    /// f64, mean (0 for root mean squares) and sum of squares of the differences from it. Rows: `outer · height`, those of the
    /// *input*: each joins what those above it gave, in their order, so that it does not matter how they are grouped. Columns:
    /// parts of `inner`.
    pub struct Fold {
        /// What is summed.
        pub op: FoldOp,
        /// Pictures, each with sums of its own.
        pub outer: u32,
        /// Rows of a picture.
        pub height: u32,
        /// Positions of a row.
        pub n: u32,
        /// Columns, each with sums of its own.
        pub inner: u32,
    }
}

impl Params for Fold {
    const FOLDS: bool = true;

    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        ensure(self.height > 0 && self.n > 0 && self.inner > 0, Fault::Params)?;
        c.size(&c.input(0)?, &[self.outer, self.height, self.n, self.inner])?;
        let (y, sum) = (c.output()?, self.op == FoldOp::Sum);
        ensure(y.dtype == if sum { DType::F32 } else { DType::I64 }, Fault::DType)?;
        c.size(&y, &[self.outer, if sum { 1 } else { 2 }, self.inner])?;
        let rows = product(&[self.outer, self.height])?;
        let work = columns(rows as u32, self.n, self.inner, 16);
        Ok(Verdict::new(rows, work).columns((self.inner as usize).div_ceil(CHUNK)))
    }

    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        (input == 0).then(|| elements(rows, &[self.n, self.inner]))
    }

    fn row(&self) -> Option<u32> {
        self.n.checked_mul(self.inner)
    }

    fn rule(&self, input: usize) -> Rule {
        self.row().filter(|_| input == 0).map_or(Rule::Whole, |row| Rule::Rows(Window::pointwise(row)))
    }

    /// What is not a sum is for norms.
    fn functions(&self, _: &crate::Step<'_>) -> OpSet {
        if self.op == FoldOp::Sum { OpSet::NONE } else { OpSet::of_kind(StepKind::Norm) }
    }

    #[inline(always)]
    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, columns }: Tile) {
        let (x, mut out) = (o.input(0), o.output());
        let inner = self.inner as usize;
        let columns = columns.start * CHUNK..inner.min(columns.end * CHUNK);
        for row in rows {
            match self.op {
                FoldOp::Sum => self.sum(e, &x, &mut out, row, columns.clone()),
                FoldOp::Layer if const { E::OPS.has(StepKind::Norm) } => {
                    self.spread(e, NormKind::Layer, &x, &mut out, row, columns.clone())
                }
                FoldOp::Rms if const { E::OPS.has(StepKind::Norm) } => {
                    self.spread(e, NormKind::Rms, &x, &mut out, row, columns.clone())
                }
                FoldOp::Layer | FoldOp::Rms => {}
            }
        }
    }
}

impl Fold {
    /// Adds the elements of a row to the sums of its picture.
    #[inline(always)]
    fn sum<E: Elementwise>(&self, e: E, x: &View<'_>, out: &mut ViewMut<'_>, row: usize, columns: Range<usize>) {
        let (n, inner) = (self.n as usize, self.inner as usize);
        let (group, above) = (row / self.height.max(1) as usize, row % self.height.max(1) as usize);
        buffers(columns, |column, width| {
            let mut v = [0f32; BUFFER];
            let total = out.slice::<f32>(group * inner + column, width);
            if above == 0 {
                total.fill(0.0);
            }
            for at in (0..n).map(|i| (row * n + i) * inner + column) {
                if x.dtype == DType::I8 {
                    // One loop, where a small core would have two.
                    let real = |q: i8| quant::dequantize(q.into(), x.scale, x.zero_point);
                    total.iter_mut().zip(x.slice::<i8>(at, width)).for_each(|(t, &q)| *t += real(q));
                    continue;
                }
                let v = e.reals(x, at, v.get_mut(..width).unwrap_or(&mut []));
                total.iter_mut().zip(v).for_each(|(t, &v)| *t += v);
            }
        });
    }

    /// Joins what a norm needs to know of a row with that of the rows above it.
    #[inline(always)]
    fn spread<E: Elementwise>(
        &self,
        e: E,
        kind: NormKind,
        x: &View<'_>,
        out: &mut ViewMut<'_>,
        row: usize,
        columns: Range<usize>,
    ) {
        let (n, inner) = (self.n as usize, self.inner as usize);
        let (group, above) = (row / self.height.max(1) as usize, row % self.height.max(1) as usize);
        let start = row * n * inner;
        let at = 2 * group * inner;
        if are_bytes(x.dtype) {
            // The sums of the integers that are stored, whatever they stand for.
            let mut add = |column: usize, s: Sums| {
                for (k, sum) in [s.sum, s.squares].into_iter().enumerate() {
                    if let [word] = out.slice::<i64>(at + k * inner + column, 1) {
                        *word = if above == 0 { sum } else { word.wrapping_add(sum) };
                    }
                }
            };
            if inner == 1 {
                add(0, bytes::sums(x, start, n));
            } else {
                let (first, width) = (columns.start, columns.len());
                bytes::column_sums::<true>(x, start + first, inner, n, width, |k, s| add(first + k, s));
            }
            return;
        }
        let mut join = |column: usize, more: Spread| {
            let word = |out: &mut ViewMut<'_>, k: usize| {
                out.slice::<i64>(at + k * inner + column, 1).first().map_or(0.0, |&w| f64::from_bits(w as u64))
            };
            let joined = match above {
                0 => more,
                _ => Spread { mean: word(out, 0), squares: word(out, 1) }.join(above * n, more, n),
            };
            for (k, v) in [joined.mean, joined.squares].into_iter().enumerate() {
                if let [word] = out.slice::<i64>(at + k * inner + column, 1) {
                    *word = v.to_bits() as i64;
                }
            }
        };
        if inner == 1 {
            join(0, Differences::of_row(e, kind, x, start, n).spread(kind, n));
            return;
        }
        buffers(columns, |column, width| {
            let from = (start + column, inner);
            Differences::of_columns(e, kind, x, from, (n, width), |k, d| join(column + k, d.spread(kind, n)));
        });
    }
}
