//! Normalisation to zero mean and unit variance (layer, instance and group norms) or to unit root mean square.

use core::ops::Range;

use super::Params;
use super::bytes::{self, Sums, are_bytes};
use super::sum::sum;
use super::walk::{columns, elements};
use crate::DType;
use crate::bands::{Rule, Window};
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure};
use crate::format::words::{code, record};
use crate::rows::{CHUNK, Operands, Tile, View, chunks};

/// Positions whose sums are taken before they join the total (columns form).
const RUN: usize = 64;

code! {
    /// What a normalisation removes.
    pub enum NormKind {
        /// `(x − mean) / √(variance + ε)` (ONNX `LayerNormalization`, `InstanceNormalization`)
        Layer = 0,
        /// `x / √(mean(x²) + ε)` (RMSNorm, Zhang and Sennrich 2019)
        Rms = 1,
    }
}

record! {
    /// Parameters of a normalisation. Inputs: 0 `x [outer, n, inner]` of any type, normalised over `n`; 1 scale `[period]`
    /// f32 (optional), 2 bias `[period]` f32 (optional): element `e` of the tensor takes entry `e mod period`. Output: the
    /// same shape as `x`. Rows: `outer`.
    pub struct Norm {
        /// What is removed.
        pub kind: NormKind,
        /// Slices normalised separately.
        pub outer: u32,
        /// Elements of a slice that share mean and variance.
        pub n: u32,
        /// Columns, each with a mean and variance of its own.
        pub inner: u32,
        /// Added to the variance.
        pub epsilon: f32,
        /// Length of scale and bias.
        pub period: u32,
    }
}

impl Params for Norm {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        ensure(self.n > 0 && self.period > 0 && self.epsilon >= 0.0, Fault::Params)?;
        let dims = [self.outer, self.n, self.inner];
        c.size(&c.input(0)?, &dims)?;
        c.size(&c.output()?, &dims)?;
        for i in 1..3 {
            if c.optional(i).is_some() {
                c.constant(i, DType::F32, &[self.period])?;
            }
        }
        Ok(Verdict::new(self.outer as usize, columns(self.outer, self.n, self.inner, 16)).in_place(1))
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

    #[inline(always)]
    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let (x, mut out) = (o.input(0), o.output());
        let (scale, bias) = (o.constant::<f32>(1), o.constant::<f32>(2));
        let (n, inner) = (self.n as usize, self.inner as usize);
        // Bytes are normalised as the integers that they are, whose sums are exact; the scale goes into the factor.
        let exact = are_bytes(x.dtype);
        let (x, unit) = if exact { x.unscaled() } else { (x, 1.0) };
        for row in rows {
            let start = row * n * inner;
            if inner == 1 {
                let moments =
                    if exact { self.of_bytes(bytes::sums(&x, start, n), unit) } else { self.of_row(e, &x, start) };
                if self.period == 1 && bytes::worth_a_table(&x, &out, n) {
                    let table = bytes::table(&x, &out, |v| {
                        v.iter_mut().for_each(|v| *v = moments.apply(*v));
                        self.affine(scale, bias, 0, v);
                    });
                    bytes::look_up(e, &table, &x, &mut out, start, n);
                    continue;
                }
                let mut v = [0f32; CHUNK];
                chunks(start..start + n, |at, n| {
                    let v = &mut v[..n];
                    e.load(&x, at, v);
                    v.iter_mut().for_each(|v| *v = moments.apply(*v));
                    self.affine(scale, bias, at, v);
                    e.store(&mut out, at, v);
                });
                continue;
            }
            chunks(0..inner, |column, width| {
                let at = |i: usize| start + i * inner + column;
                let mut columns = Columns::default();
                if exact {
                    bytes::column_sums::<true>(&x, at(0), inner, n, width, |k, s| {
                        columns.set(k, self.of_bytes(s, unit))
                    });
                } else {
                    self.of_columns(e, &x, at(0), width, &mut columns);
                }
                let mut v = [0f32; CHUNK];
                let v = &mut v[..width];
                for i in 0..n {
                    e.load(&x, at(i), v);
                    let Columns { mean, rest, factor } = &columns;
                    for (((v, &mean), &rest), &factor) in v.iter_mut().zip(mean).zip(rest).zip(factor) {
                        *v = Moments { mean, rest, factor }.apply(*v);
                    }
                    self.affine(scale, bias, at(i), v);
                    e.store(&mut out, at(i), v);
                }
            });
        }
    }
}

/// What is taken of an element: a mean in two parts, and the factor of the rest.
///
/// The mean of elements that are nearly equal, rounded to f32, may be off by more than they differ. The differences from it are
/// exact there; so their own mean is what the rounded mean lacks. Equal elements leave exactly 0.
#[derive(Clone, Copy)]
struct Moments {
    /// The mean, rounded.
    mean: f32,
    /// The mean of the differences from it.
    rest: f32,
    /// `1 / √(variance + ε)`
    factor: f32,
}

impl Moments {
    #[inline(always)]
    fn apply(&self, v: f32) -> f32 {
        ((v - self.mean) - self.rest) * self.factor
    }
}

/// The moments of neighbouring columns.
struct Columns {
    mean: [f32; CHUNK],
    rest: [f32; CHUNK],
    factor: [f32; CHUNK],
}

impl Default for Columns {
    #[inline(always)]
    fn default() -> Self {
        Columns { mean: [0.0; CHUNK], rest: [0.0; CHUNK], factor: [0.0; CHUNK] }
    }
}

impl Columns {
    #[inline(always)]
    fn set(&mut self, k: usize, moments: Moments) {
        Moments { mean: self.mean[k], rest: self.rest[k], factor: self.factor[k] } = moments;
    }
}

/// `K` sums over `n` positions for each column: `add` adds position `i` to those of a run, which join the totals in f64.
#[inline(always)]
fn totals<const K: usize>(n: usize, mut add: impl FnMut(usize, &mut [[f32; CHUNK]; K])) -> [[f64; CHUNK]; K] {
    let mut totals = [[0f64; CHUNK]; K];
    for run in (0..n).step_by(RUN) {
        let mut part = [[0f32; CHUNK]; K];
        for i in run..(run + RUN).min(n) {
            add(i, &mut part);
        }
        for (t, &p) in totals.iter_mut().flatten().zip(part.iter().flatten()) {
            *t += f64::from(p);
        }
    }
    totals
}

impl Norm {
    /// The moments of bytes that stand for `unit` times the integers whose sums are given.
    #[inline(always)]
    fn of_bytes(&self, sums: Sums, unit: f32) -> Moments {
        let n = f64::from(self.n);
        let (sum, squares) = (sums.sum as f64, sums.squares as f64);
        let unit_squared = f64::from(unit) * f64::from(unit);
        if self.kind == NormKind::Rms {
            return Moments { mean: 0.0, rest: 0.0, factor: self.factor(unit, unit_squared * (squares / n)) };
        }
        let mean = (sum / n) as f32;
        let rest = (sum / n - f64::from(mean)) as f32;
        // Each product is exact up to 2¹⁸ elements, and never are two that should be equal not so.
        let variance = (n * squares - sum * sum) / (n * n);
        Moments { mean, rest, factor: self.factor(unit, unit_squared * variance) }
    }

    /// The moments of the `n` neighbouring elements at `start`.
    #[inline(always)]
    fn of_row<E: Elementwise>(&self, e: E, x: &View<'_>, start: usize) -> Moments {
        let end = start + self.n as usize;
        let mut v = [0f32; CHUNK];
        let mut mean = 0f32;
        // Totals over chunks are f64: few additions, and long rows lose nothing.
        if self.kind == NormKind::Layer {
            let mut total = 0f64;
            chunks(start..end, |at, n| total += f64::from(sum(e.reals(x, at, &mut v[..n]), |v| v)));
            mean = (total / f64::from(self.n)) as f32;
        }
        let (mut total, mut squares) = (0f64, 0f64);
        chunks(start..end, |at, n| {
            let v = e.reals(x, at, &mut v[..n]);
            total += f64::from(sum(v, |v| v - mean));
            squares += f64::from(sum(v, |v| (v - mean) * (v - mean)));
        });
        self.moments(mean, total, squares)
    }

    /// The moments of `width` neighbouring columns, the first of which begins at `start`.
    #[inline(always)]
    fn of_columns<E: Elementwise>(&self, e: E, x: &View<'_>, start: usize, width: usize, columns: &mut Columns) {
        let (n, inner) = (self.n as usize, self.inner as usize);
        let mean = &mut columns.mean;
        let mut v = [0f32; CHUNK];
        let v = &mut v[..width];
        if self.kind == NormKind::Layer {
            let [total] = totals(n, |i, [part]| {
                part.iter_mut().zip(e.reals(x, start + i * inner, v)).for_each(|(p, &v)| *p += v);
            });
            mean.iter_mut().zip(&total).for_each(|(m, &t)| *m = (t / n as f64) as f32);
        }
        let [total, squares] = totals(n, |i, [part, squares]| {
            for (((p, s), &v), &m) in part.iter_mut().zip(squares).zip(e.reals(x, start + i * inner, v)).zip(&*mean) {
                let d = v - m;
                *p += d;
                *s += d * d;
            }
        });
        for k in 0..width {
            columns.set(k, self.moments(columns.mean[k], total[k], squares[k]));
        }
    }

    /// The moments, given the rounded mean and the sums of the differences from it and of their squares.
    #[inline(always)]
    fn moments(&self, mean: f32, total: f64, squares: f64) -> Moments {
        let n = f64::from(self.n);
        let rest = if self.kind == NormKind::Layer { total / n } else { 0.0 };
        Moments { mean, rest: rest as f32, factor: self.factor(1.0, squares / n - rest * rest) }
    }

    /// `unit / √(variance + ε)`
    #[inline(always)]
    fn factor(&self, unit: f32, variance: f64) -> f32 {
        // Rounding may take it below 0; NaN stays NaN.
        let variance = if variance < 0.0 { 0.0 } else { variance };
        unit / libm::sqrtf((variance + f64::from(self.epsilon)) as f32)
    }

    /// Multiplies by the scale and adds the bias, if there are such; the first of `v` is element `at` of the tensor.
    #[inline(always)]
    fn affine(&self, scale: &[f32], bias: &[f32], at: usize, v: &mut [f32]) {
        self.repeat(scale, at, v, |v, s| v * s);
        self.repeat(bias, at, v, |v, b| v + b);
    }

    /// Joins elements with those of `by`, which repeats; none if it is empty.
    #[inline(always)]
    fn repeat(&self, by: &[f32], at: usize, v: &mut [f32], join: impl Fn(f32, f32) -> f32) {
        let period = self.period as usize;
        if let [by] = by {
            v.iter_mut().for_each(|v| *v = join(*v, *by));
        } else if !by.is_empty() {
            let mut done = 0;
            while done < v.len() {
                let first = (at + done) % period;
                let n = (period - first).min(v.len() - done);
                v[done..done + n].iter_mut().zip(&by[first..]).for_each(|(v, &b)| *v = join(*v, b));
                done += n;
            }
        }
    }
}
