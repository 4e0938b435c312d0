//! Sum, mean, maximum, … over an axis.

use core::ops::Range;

use super::Params;
use super::bytes::{self, are_bytes};
use super::sum::{in_lanes, larger, smaller, sum};
use super::walk::{columns, elements};
use crate::bands::{Rule, Window};
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure};
use crate::format::words::{code, record};
use crate::rows::{BUFFER, CHUNK, Operands, Tile, View, buffers, chunks};

/// Slices that are summed before their sum joins the total, which keeps the error of long f32 sums small.
const RUN: usize = 64;

code! {
    /// What a reduction computes.
    pub enum ReduceOp {
        /// `Σ x`
        Sum = 0,
        /// `Σ x / n`
        Mean = 1,
        /// The largest element.
        Max = 2,
        /// The smallest element.
        Min = 3,
        /// `Σ x²`
        SumSquare = 4,
        /// `√(Σ x²)`
        L2 = 5,
        /// `Π x`
        Prod = 6,
        /// `Σ |x|`
        L1 = 7,
    }
}

record! {
    /// Parameters of a reduction. Input: 0 `x [outer, n, inner]` of any type; output: `[outer, inner]`. Rows: `outer`.
    ///
    /// With `integer` stored integers are combined in 64 bits, which wrap, and a mean is cut towards zero; else reals in f32. A
    /// mean of floats is corrected by the mean of the differences from it, so that the mean of equal elements is the element.
    pub struct Reduce {
        /// What is computed.
        pub op: ReduceOp,
        /// Slices reduced separately.
        pub outer: u32,
        /// Length of the reduced axis.
        pub n: u32,
        /// Elements of one position of the axis.
        pub inner: u32,
        /// Input and output are integers that stand for themselves.
        pub integer: bool,
    }
}

impl Params for Reduce {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        ensure(self.n > 0, Fault::Params)?;
        let (x, y) = (c.input(0)?, c.output()?);
        ensure(!self.integer || (!x.dtype.is_float() && !y.dtype.is_float()), Fault::DType)?;
        c.size(&x, &[self.outer, self.n, self.inner])?;
        c.size(&y, &[self.outer, self.inner])?;
        Ok(Verdict::new(self.outer as usize, columns(self.outer, self.n, self.inner, 8)))
    }

    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        (input == 0).then(|| elements(rows, &[self.n, self.inner]))
    }

    fn row(&self) -> Option<u32> {
        Some(self.inner)
    }

    fn rule(&self, input: usize) -> Rule {
        let row = self.n.checked_mul(self.inner).filter(|_| input == 0);
        row.map_or(Rule::Whole, |row| Rule::Rows(Window::pointwise(row)))
    }

    #[inline(always)]
    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let (x, mut out) = (o.input(0), o.output());
        let (n, inner) = (self.n as usize, self.inner as usize);
        for row in rows {
            if self.integer {
                buffers(0..inner, |at, width| {
                    let mut total = [0i64; BUFFER];
                    self.integers(&x, row * n * inner + at, &mut total[..width]);
                    out.store_int(row * inner + at, &total[..width]);
                });
            } else if inner == 1 {
                let v = self.row(e, &x, row * n, n);
                e.store(&mut out, row, &[v]);
            } else {
                buffers(0..inner, |at, width| {
                    let mut total = [0f32; BUFFER];
                    self.columns(e, &x, row * n * inner + at, &mut total[..width]);
                    e.store(&mut out, row * inner + at, &total[..width]);
                });
            }
        }
    }
}

impl Reduce {
    fn start(&self) -> f32 {
        match self.op {
            ReduceOp::Max => f32::NEG_INFINITY,
            ReduceOp::Min => f32::INFINITY,
            ReduceOp::Prod => 1.0,
            _ => 0.0,
        }
    }

    /// Whether elements may be combined as `q − zero_point`, the scale coming last.
    fn is_linear(&self) -> bool {
        matches!(self.op, ReduceOp::Sum | ReduceOp::Mean | ReduceOp::Max | ReduceOp::Min)
    }

    #[inline(always)]
    fn join(&self, a: f32, b: f32) -> f32 {
        match self.op {
            ReduceOp::Max => larger(a, b),
            ReduceOp::Min => smaller(a, b),
            ReduceOp::Prod => a * b,
            _ => a + b,
        }
    }

    /// Whether elements are bytes that are added up: their sum is exact.
    fn adds_bytes(&self, x: &View<'_>) -> bool {
        matches!(self.op, ReduceOp::Sum | ReduceOp::Mean) && are_bytes(x.dtype)
    }

    fn finish(&self, total: f32, scale: f32) -> f32 {
        match self.op {
            ReduceOp::Mean => total * scale / self.n as f32,
            ReduceOp::L2 => libm::sqrtf(total),
            _ if self.is_linear() => total * scale,
            _ => total,
        }
    }

    /// Whether the rounding of a sum may make the mean differ from elements that are all equal.
    fn is_rounded_mean(&self, x: &View<'_>) -> bool {
        self.op == ReduceOp::Mean && x.dtype.is_float()
    }

    /// Reduces `n` neighbouring elements.
    #[inline(always)]
    fn row<E: Elementwise>(&self, e: E, x: &View<'_>, start: usize, n: usize) -> f32 {
        let (view, scale) = scaled(x, self.is_linear());
        if self.adds_bytes(x) {
            return self.finish(bytes::sums(x, start, n).sum as f32, scale);
        }
        let of = |shift: f32| {
            let mut total = self.start();
            chunks(0..n, |at, n| {
                let mut v = [0f32; CHUNK];
                let v = e.reals(&view, start + at, &mut v[..n]);
                let part = match self.op {
                    ReduceOp::Max | ReduceOp::Min => {
                        in_lanes(v, self.start(), |a, b| self.join(a, b), |a, b| self.join(a, b))
                    }
                    ReduceOp::Prod => v.iter().product(),
                    ReduceOp::SumSquare | ReduceOp::L2 => sum(v, |v| v * v),
                    ReduceOp::L1 => sum(v, libm::fabsf),
                    ReduceOp::Sum | ReduceOp::Mean => sum(v, |v| v - shift),
                };
                total = self.join(total, part);
            });
            self.finish(total, scale)
        };
        let y = of(0.0);
        if self.is_rounded_mean(x) && y.is_finite() { y + of(y) } else { y }
    }

    /// Reduces `n` rows of `total.len()` neighbouring columns of stored integers.
    fn integers(&self, x: &View<'_>, start: usize, total: &mut [i64]) {
        let (n, inner) = (self.n as usize, self.inner as usize);
        for i in 0..n {
            let mut v = [0i64; BUFFER];
            x.load_int(start + i * inner, &mut v[..total.len()]);
            for (t, &v) in total.iter_mut().zip(&v) {
                let v = match self.op {
                    ReduceOp::SumSquare | ReduceOp::L2 => v.wrapping_mul(v),
                    ReduceOp::L1 => v.wrapping_abs(),
                    _ => v,
                };
                *t = match self.op {
                    _ if i == 0 => v,
                    ReduceOp::Max => v.max(*t),
                    ReduceOp::Min => v.min(*t),
                    ReduceOp::Prod => t.wrapping_mul(v),
                    _ => t.wrapping_add(v),
                };
            }
        }
        for t in total {
            match self.op {
                ReduceOp::Mean => *t = t.checked_div(n as i64).unwrap_or(0),
                ReduceOp::L2 => *t = libm::sqrt(*t as f64) as i64,
                _ => {}
            }
        }
    }

    /// Reduces `n` rows of `total.len()` neighbouring columns each.
    #[inline(always)]
    fn columns<E: Elementwise>(&self, e: E, x: &View<'_>, start: usize, total: &mut [f32]) {
        let (view, scale) = scaled(x, self.is_linear());
        let (n, inner, width) = (self.n as usize, self.inner as usize, total.len());
        if self.adds_bytes(x) {
            bytes::column_sums::<false>(x, start, inner, n, width, |k, s| {
                if let Some(total) = total.get_mut(k) {
                    *total = self.finish(s.sum as f32, scale);
                }
            });
            return;
        }
        let of = |shift: &[f32; BUFFER], total: &mut [f32]| {
            total.fill(self.start());
            for run in (0..n).step_by(RUN) {
                let mut part = [self.start(); BUFFER];
                for i in run..(run + RUN).min(n) {
                    let mut v = [0f32; BUFFER];
                    let v = e.reals(&view, start + i * inner, v.get_mut(..width).unwrap_or(&mut []));
                    let part = part.iter_mut().zip(v);
                    match self.op {
                        ReduceOp::Max | ReduceOp::Min | ReduceOp::Prod => {
                            part.for_each(|(p, &v)| *p = self.join(*p, v))
                        }
                        ReduceOp::SumSquare | ReduceOp::L2 => part.for_each(|(p, &v)| *p += v * v),
                        ReduceOp::L1 => part.for_each(|(p, &v)| *p += libm::fabsf(v)),
                        ReduceOp::Sum | ReduceOp::Mean => part.zip(shift).for_each(|((p, &v), &s)| *p += v - s),
                    }
                }
                for (t, &p) in total.iter_mut().zip(&part) {
                    *t = self.join(*t, p);
                }
            }
            for t in total.iter_mut() {
                *t = self.finish(*t, scale);
            }
        };
        let mut shift = [0f32; BUFFER];
        of(&shift, total);
        if self.is_rounded_mean(x) {
            shift[..width].copy_from_slice(total);
            let mut rest = [0f32; BUFFER];
            of(&shift, &mut rest[..width]);
            for (t, &r) in total.iter_mut().zip(&rest) {
                *t = if t.is_finite() { *t + r } else { *t };
            }
        }
    }
}

fn scaled<'a>(x: &View<'a>, linear: bool) -> (View<'a>, f32) {
    if linear { x.unscaled() } else { (*x, 1.0) }
}
