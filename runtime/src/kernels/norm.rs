//! Normalisation to zero mean and unit variance (layer, instance and group norms) or to unit root mean square.

use core::ops::Range;

use super::Params;
use super::bytes::{self, Sums, are_bytes};
use super::moments::{self, Columns, Differences, Moments, Spread};
use super::walk::{columns, elements};
use crate::DType;
use crate::bands::{Rule, Window};
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure, product};
use crate::format::words::{code, record};
use crate::rows::{BUFFER, CHUNK, Operands, Tile, View, buffers, chunks};

/// Where the sums of a fold are among the inputs.
const SUMS: usize = 3;

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
    /// f32 (optional), 2 bias `[period]` f32 (optional): element `e` of the tensor takes entry `e mod period`; 3 the words of
    /// a [`Fold`](super::Fold) over `x` (optional), which give mean and variance. Output: the same shape as `x`. Rows: `outer`, each
    /// of which is summed and then normalised; with a fold's sums `outer · rows`.
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
        /// Rows that a slice is cut into, if the sums are given; else 1.
        pub rows: u32,
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
        let given = c.optional(SUMS);
        ensure(
            self.rows > 0 && self.n.is_multiple_of(self.rows) && (given.is_some() || self.rows == 1),
            Fault::Params,
        )?;
        if let Some(sums) = given {
            ensure(sums.dtype == DType::I64, Fault::DType)?;
            c.size(&sums, &[self.outer, 2, self.inner])?;
        }
        let rows = product(&[self.outer, self.rows])?;
        Ok(Verdict::new(rows, columns(rows as u32, self.n / self.rows, self.inner, 32)).in_place(1))
    }

    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        (input == 0).then(|| elements(rows, &[self.n / self.rows.max(1), self.inner]))
    }

    fn row(&self) -> Option<u32> {
        (self.n / self.rows.max(1)).checked_mul(self.inner)
    }

    fn rule(&self, input: usize) -> Rule {
        self.row().filter(|_| input == 0).map_or(Rule::Whole, |row| Rule::Rows(Window::pointwise(row)))
    }

    #[inline(always)]
    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let (x, mut out) = (o.input(0), o.output());
        let (scale, bias) = (o.constant::<f32>(1), o.constant::<f32>(2));
        let sums = o.optional(SUMS);
        // Of a row: positions, and columns.
        let (n, inner) = ((self.n / self.rows.max(1)) as usize, self.inner as usize);
        // Bytes are normalised as the integers that they are, whose sums are exact; the scale goes into the factor.
        let exact = are_bytes(x.dtype);
        let (x, unit) = if exact { x.unscaled() } else { (x, 1.0) };
        for row in rows {
            let (start, group) = (row * n * inner, row / self.rows.max(1) as usize);
            if inner == 1 {
                let moments = match &sums {
                    Some(sums) => self.of_words(sums, group, 0, exact, unit),
                    None if exact => {
                        moments::of_bytes(self.kind, bytes::sums(&x, start, n), self.n, unit, self.epsilon)
                    }
                    None => Differences::of_row(e, self.kind, &x, start, n).moments(self.kind, self.n, self.epsilon),
                };
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
            buffers(0..inner, |column, width| {
                let at = |i: usize| start + i * inner + column;
                let mut columns = Columns::default();
                match &sums {
                    Some(sums) => {
                        (0..width).for_each(|k| columns.set(k, self.of_words(sums, group, column + k, exact, unit)))
                    }
                    None if exact => bytes::column_sums::<true>(&x, at(0), inner, n, width, |k, s| {
                        columns.set(k, moments::of_bytes(self.kind, s, self.n, unit, self.epsilon))
                    }),
                    None => Differences::of_columns(e, self.kind, &x, (at(0), inner), (n, width), |k, d| {
                        columns.set(k, d.moments(self.kind, self.n, self.epsilon))
                    }),
                }
                let mut v = [0f32; BUFFER];
                let Some(v) = v.get_mut(..width) else { return };
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

impl Norm {
    /// What is taken of column `column` of slice `group`, by the words that a fold has summed up.
    #[inline(always)]
    fn of_words(&self, sums: &View<'_>, group: usize, column: usize, bytes: bool, unit: f32) -> Moments {
        let inner = self.inner as usize;
        let word = |k: usize| sums.slice::<i64>((2 * group + k) * inner + column, 1).first().map_or(0, |&w| w);
        let (first, second) = (word(0), word(1));
        if bytes {
            let sums = Sums { sum: first, squares: second };
            return moments::of_bytes(self.kind, sums, self.n, unit, self.epsilon);
        }
        let [mean, squares] = [first, second].map(|w| f64::from_bits(w as u64));
        Spread { mean, squares }.moments(self.n, self.epsilon)
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
        let period = (self.period as usize).max(1);
        if let [by] = by {
            v.iter_mut().for_each(|v| *v = join(*v, *by));
        } else if !by.is_empty() {
            let mut done = 0;
            while done < v.len() {
                let first = (at + done) % period;
                let n = (period - first).min(v.len() - done);
                let (v, by) = (v.iter_mut().skip(done).take(n), by.iter().skip(first));
                v.zip(by).for_each(|(v, &b)| *v = join(*v, b));
                done += n;
            }
        }
    }
}
