//! Mean and variance of runs of elements, and of columns: what norms take of their elements, and folds add up row by row.

use super::NormKind;
use super::bytes::Sums;
use super::sum::sum;
use crate::elementwise::Elementwise;
use crate::rows::{BUFFER, CHUNK, View, chunks};

/// Positions whose sums are taken before they join the total (columns form).
const RUN: usize = 64;

/// What is taken of an element: a mean in two parts, and the factor of the rest.
///
/// The mean of elements that are nearly equal, rounded to f32, may be off by more than they differ. The differences from it are
/// exact there; so their own mean is what the rounded mean lacks. Equal elements leave exactly 0.
#[derive(Clone, Copy)]
pub(super) struct Moments {
    /// The mean, rounded.
    pub(super) mean: f32,
    /// The mean of the differences from it.
    pub(super) rest: f32,
    /// `1 / √(variance + ε)`
    pub(super) factor: f32,
}

impl Moments {
    #[inline(always)]
    pub(super) fn apply(&self, v: f32) -> f32 {
        ((v - self.mean) - self.rest) * self.factor
    }
}

/// The moments of neighbouring columns.
pub(super) struct Columns {
    pub(super) mean: [f32; BUFFER],
    pub(super) rest: [f32; BUFFER],
    pub(super) factor: [f32; BUFFER],
}

impl Default for Columns {
    #[inline(always)]
    fn default() -> Self {
        Columns { mean: [0.0; BUFFER], rest: [0.0; BUFFER], factor: [0.0; BUFFER] }
    }
}

impl Columns {
    #[inline(always)]
    pub(super) fn set(&mut self, k: usize, moments: Moments) {
        let Columns { mean, rest, factor } = self;
        if let (Some(mean), Some(rest), Some(factor)) = (mean.get_mut(k), rest.get_mut(k), factor.get_mut(k)) {
            Moments { mean: *mean, rest: *rest, factor: *factor } = moments;
        }
    }
}

/// Sums of differences from a rounded mean (from 0 where no mean is taken), and of their squares.
#[derive(Clone, Copy)]
pub(super) struct Differences {
    mean: f32,
    total: f64,
    squares: f64,
}

impl Differences {
    /// Of the `n` neighbouring elements at `start`.
    #[inline(always)]
    pub(super) fn of_row<E: Elementwise>(e: E, kind: NormKind, x: &View<'_>, start: usize, n: usize) -> Self {
        let end = start + n;
        let mut v = [0f32; CHUNK];
        let mut mean = 0f32;
        // Totals over chunks are f64: few additions, and long rows lose nothing.
        if kind == NormKind::Layer {
            let mut total = 0f64;
            chunks(start..end, |at, n| total += f64::from(sum(e.reals(x, at, &mut v[..n]), |v| v)));
            mean = (total / n as f64) as f32;
        }
        let (mut total, mut squares) = (0f64, 0f64);
        chunks(start..end, |at, n| {
            let v = e.reals(x, at, &mut v[..n]);
            total += f64::from(sum(v, |v| v - mean));
            squares += f64::from(sum(v, |v| (v - mean) * (v - mean)));
        });
        Differences { mean, total, squares }
    }

    /// Gives `take` those of each of `width` neighbouring columns, [`BUFFER`] at most, numbered from the one at `start` on, over `n` positions that lie
    /// `step` elements apart.
    #[inline(always)]
    pub(super) fn of_columns<E: Elementwise>(
        e: E,
        kind: NormKind,
        x: &View<'_>,
        (start, step): (usize, usize),
        (n, width): (usize, usize),
        mut take: impl FnMut(usize, Differences),
    ) {
        let mut mean = [0f32; BUFFER];
        let mut v = [0f32; BUFFER];
        let Some(v) = v.get_mut(..width) else { return };
        if kind == NormKind::Layer {
            let [total] = totals(n, |i, [part]| {
                part.iter_mut().zip(e.reals(x, start + i * step, v)).for_each(|(p, &v)| *p += v);
            });
            mean.iter_mut().zip(&total).for_each(|(m, &t)| *m = (t / n as f64) as f32);
        }
        let [total, squares] = totals(n, |i, [part, squares]| {
            for (((p, s), &v), &m) in part.iter_mut().zip(squares).zip(e.reals(x, start + i * step, v)).zip(&mean) {
                let d = v - m;
                *p += d;
                *s += d * d;
            }
        });
        for k in 0..width {
            take(k, Differences { mean: mean[k], total: total[k], squares: squares[k] });
        }
    }

    /// The mean of `n` elements and the sum of squares of their differences from it.
    #[inline(always)]
    pub(super) fn spread(self, kind: NormKind, n: usize) -> Spread {
        let n = n as f64;
        let rest = if kind == NormKind::Layer { self.total / n } else { 0.0 };
        Spread { mean: f64::from(self.mean) + rest, squares: self.squares - n * rest * rest }
    }

    /// The moments of `n` elements.
    #[inline(always)]
    pub(super) fn moments(self, kind: NormKind, n: u32, epsilon: f32) -> Moments {
        let n = f64::from(n);
        let rest = if kind == NormKind::Layer { self.total / n } else { 0.0 };
        Moments { mean: self.mean, rest: rest as f32, factor: factor(1.0, self.squares / n - rest * rest, epsilon) }
    }
}

/// A mean (0 where none is taken), and the sum of squares of the differences from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) mean: f64,
    pub(super) squares: f64,
}

impl Spread {
    /// Of `n` elements and `more` others together (Chan, Golub and LeVeque 1979).
    #[inline(always)]
    pub(super) fn join(self, n: usize, other: Spread, more: usize) -> Spread {
        let (n, more) = (n as f64, more as f64);
        let apart = other.mean - self.mean;
        let share = more / (n + more);
        Spread { mean: self.mean + apart * share, squares: self.squares + other.squares + apart * apart * n * share }
    }

    /// The moments of `n` elements.
    #[inline(always)]
    pub(super) fn moments(self, n: u32, epsilon: f32) -> Moments {
        let mean = self.mean as f32;
        let rest = (self.mean - f64::from(mean)) as f32;
        Moments { mean, rest, factor: factor(1.0, self.squares / f64::from(n), epsilon) }
    }
}

/// The moments of `n` bytes that stand for `unit` times the integers whose sums are given.
#[inline(always)]
pub(super) fn of_bytes(kind: NormKind, sums: Sums, n: u32, unit: f32, epsilon: f32) -> Moments {
    let n = f64::from(n);
    let (sum, squares) = (sums.sum as f64, sums.squares as f64);
    let unit_squared = f64::from(unit) * f64::from(unit);
    if kind == NormKind::Rms {
        return Moments { mean: 0.0, rest: 0.0, factor: factor(unit, unit_squared * (squares / n), epsilon) };
    }
    let mean = (sum / n) as f32;
    let rest = (sum / n - f64::from(mean)) as f32;
    // Each product is exact up to 2¹⁸ elements, and never are two that should be equal not so.
    let variance = (n * squares - sum * sum) / (n * n);
    Moments { mean, rest, factor: factor(unit, unit_squared * variance, epsilon) }
}

/// `unit / √(variance + ε)`
#[inline(always)]
fn factor(unit: f32, variance: f64, epsilon: f32) -> f32 {
    // Rounding may take it below 0; NaN stays NaN.
    let variance = if variance < 0.0 { 0.0 } else { variance };
    unit / libm::sqrtf((variance + f64::from(epsilon)) as f32)
}

/// `K` sums over `n` positions for each column: `add` adds position `i` to those of a run, which join the totals in f64.
#[inline(always)]
fn totals<const K: usize>(n: usize, mut add: impl FnMut(usize, &mut [[f32; BUFFER]; K])) -> [[f64; BUFFER]; K] {
    let mut totals = [[0f64; BUFFER]; K];
    for run in (0..n).step_by(RUN) {
        let mut part = [[0f32; BUFFER]; K];
        for i in run..(run + RUN).min(n) {
            add(i, &mut part);
        }
        for (t, &p) in totals.iter_mut().flatten().zip(part.iter().flatten()) {
            *t += f64::from(p);
        }
    }
    totals
}
