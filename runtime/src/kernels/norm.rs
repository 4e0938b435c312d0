//! Normalisation to zero mean and unit variance (layer, instance and group norms) or to unit root mean square.

use core::ops::Range;

use super::Params;
use super::walk::columns;
use crate::DType;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure};
use crate::format::words::{code, record};
use crate::rows::{CHUNK, Operands, chunks};

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

    #[inline(always)]
    fn run(&self, o: &Operands<'_>, rows: Range<usize>) {
        let (x, mut out) = (o.input(0), o.output());
        let (scale, bias) = (o.constant::<f32>(1), o.constant::<f32>(2));
        let (n, inner) = (self.n as usize, self.inner as usize);
        let mut v = [0f32; CHUNK];
        for row in rows {
            let start = row * n * inner;
            if inner == 1 {
                // Totals over chunks are f64: few additions, and long rows lose nothing.
                let mut mean = 0f32;
                if self.kind == NormKind::Layer {
                    let mut total = 0f64;
                    chunks(0..n, |at, n| {
                        x.load(start + at, &mut v[..n]);
                        total += f64::from(v[..n].iter().sum::<f32>());
                    });
                    mean = (total / n as f64) as f32;
                }
                let mut squares = 0f64;
                chunks(0..n, |at, n| {
                    x.load(start + at, &mut v[..n]);
                    squares += f64::from(v[..n].iter().map(|v| (v - mean) * (v - mean)).sum::<f32>());
                });
                let factor = 1.0 / libm::sqrtf((squares / n as f64) as f32 + self.epsilon);
                chunks(0..n, |at, n| {
                    x.load(start + at, &mut v[..n]);
                    v[..n].iter_mut().for_each(|v| *v = (*v - mean) * factor);
                    self.affine(scale, bias, start + at, &mut v[..n]);
                    out.store(start + at, &v[..n]);
                });
                continue;
            }
            chunks(0..inner, |column, width| {
                let at = |i: usize| start + i * inner + column;
                let mut sums = |shift: &[f32; CHUNK], squared: bool| {
                    let mut total = [0f32; CHUNK];
                    for run in (0..n).step_by(RUN) {
                        let mut part = [0f32; CHUNK];
                        for i in run..(run + RUN).min(n) {
                            x.load(at(i), &mut v[..width]);
                            for ((p, &v), &m) in part[..width].iter_mut().zip(&v).zip(shift) {
                                *p += if squared { (v - m) * (v - m) } else { v };
                            }
                        }
                        for (t, &p) in total[..width].iter_mut().zip(&part) {
                            *t += p;
                        }
                    }
                    total.map(|t| t / n as f32)
                };
                let zero = [0f32; CHUNK];
                let mean = if self.kind == NormKind::Layer { sums(&zero, false) } else { zero };
                let factor = sums(&mean, true).map(|v| 1.0 / libm::sqrtf(v + self.epsilon));
                for i in 0..n {
                    x.load(at(i), &mut v[..width]);
                    for ((v, &m), &f) in v[..width].iter_mut().zip(&mean).zip(&factor) {
                        *v = (*v - m) * f;
                    }
                    self.affine(scale, bias, at(i), &mut v[..width]);
                    out.store(at(i), &v[..width]);
                }
            });
        }
    }
}

impl Norm {
    #[inline(always)]
    fn affine(&self, scale: &[f32], bias: &[f32], at: usize, v: &mut [f32]) {
        let period = self.period as usize;
        for (by, add) in [(scale, false), (bias, true)] {
            if by.is_empty() {
                continue;
            }
            let mut done = 0;
            while done < v.len() {
                let first = (at + done) % period;
                let n = (period - first).min(v.len() - done);
                for (v, &b) in v[done..done + n].iter_mut().zip(&by[first..]) {
                    *v = if add { *v + b } else { *v * b };
                }
                done += n;
            }
        }
    }
}
