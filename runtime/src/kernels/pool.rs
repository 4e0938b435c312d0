//! Maximum or average over windows of `[batch, height, width, channels]`.

use super::Params;
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure, product, work};
use crate::format::words::{code, record};
use crate::product::Geometry;
use crate::product::geometry::source;
use crate::rows::{CHUNK, Operands, Tile, View, chunks};

code! {
    /// What a pooling step makes of a window.
    pub enum PoolKind {
        /// The largest element.
        Max = 0,
        /// The mean of the elements inside the input.
        Average = 1,
        /// The mean over the window's positions inside the padded input, padding counting as 0.
        AverageWithPadding = 2,
    }
}

record! {
    /// Parameters of a pooling step. Input: 0 `x [batch, in_h, in_w, c]` of any type; output: `[batch, out_h, out_w, c]`.
    /// Rows: `batch · out_h`. A window without any element inside the input gives 0.
    ///
    /// An average adds the (dequantised) elements in f32 and divides the sum by their number. Where a mean of integers lies
    /// on a rounding tie, the order decides: each column of the window is summed from top to bottom, then the columns from
    /// left to right; a window that is the whole input is summed row by row.
    pub struct Pool {
        /// What is computed.
        pub kind: PoolKind,
        /// Where the windows lie. Input and output have the same channels, and nothing is upsampled.
        pub geometry: Geometry,
        /// Padding below and right of the input.
        pub pad_end: [i32; 2],
    }
}

impl Params for Pool {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        let g = &self.geometry;
        g.verify()?;
        let [in_h, in_w, ch] = g.input;
        let [out_h, out_w, out_c] = g.output;
        ensure(out_c == ch && g.upsample == [1, 1], Fault::Params)?;
        ensure(g.pad.iter().chain(&self.pad_end).all(|p| (0..=1 << 28).contains(p)), Fault::Params)?;
        // A window mostly outside its input would cost time that no tensor accounts for.
        let useful = |d: usize| u64::from(g.kernel[d]) <= 2 * u64::from(g.input[d]) + 64;
        ensure(useful(0) && useful(1), Fault::Params)?;
        c.size(&c.input(0)?, &[g.batch, in_h, in_w, ch])?;
        c.size(&c.output()?, &[g.batch, out_h, out_w, ch])?;
        // A tap outside the input costs no less than one inside.
        let taps = work(&[g.batch, out_h, out_w, g.kernel[0], g.kernel[1]]);
        let each = work(&[ch, 2]).saturating_add(work(&[ch.div_ceil(CHUNK as u32), 32]));
        Ok(Verdict::new(product(&[g.batch, out_h])?, taps.saturating_mul(each)))
    }

    #[inline(always)]
    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let (x, mut out) = (o.input(0), o.output());
        let g = &self.geometry;
        let (c, out_w) = (g.output[2] as usize, g.output[1] as usize);
        let whole = g.kernel == g.input[..2] && g.output[..2] == [1, 1];
        for row in rows {
            for column in 0..out_w {
                chunks(0..c, |c0, n| {
                    let mut window = Window { pool: self, x: &x, row, column, c0, n, inside: 0, positions: 0 };
                    let mut acc = [if self.kind == PoolKind::Max { f32::NEG_INFINITY } else { 0.0 }; CHUNK];
                    let [kernel_h, kernel_w] = g.kernel;
                    if whole || self.kind == PoolKind::Max {
                        for ky in 0..kernel_h {
                            for kx in 0..kernel_w {
                                window.add(e, ky, kx, &mut acc);
                            }
                        }
                    } else {
                        for kx in 0..kernel_w {
                            let mut sum = [0f32; CHUNK];
                            for ky in 0..kernel_h {
                                window.add(e, ky, kx, &mut sum);
                            }
                            for (a, s) in acc[..n].iter_mut().zip(&sum) {
                                *a += s;
                            }
                        }
                    }
                    let count = match self.kind {
                        PoolKind::Max => 1,
                        PoolKind::Average => window.inside,
                        PoolKind::AverageWithPadding => window.positions,
                    };
                    for a in &mut acc[..n] {
                        *a = if window.inside == 0 { 0.0 } else { *a / count as f32 };
                    }
                    e.store(&mut out, (row * out_w + column) * c + c0, &acc[..n]);
                });
            }
        }
    }
}

/// One window over a run of channels, and how many of its elements were seen.
struct Window<'a> {
    pool: &'a Pool,
    x: &'a View<'a>,
    row: usize,
    column: usize,
    c0: usize,
    n: usize,
    inside: u32,
    positions: u32,
}

impl Window<'_> {
    /// Takes the element at a tap, if it lies inside the input, into the accumulators.
    #[inline(always)]
    fn add<E: Elementwise>(&mut self, e: E, ky: u32, kx: u32, acc: &mut [f32; CHUNK]) {
        let (p, g) = (self.pool, &self.pool.geometry);
        let out_h = g.output[0] as usize;
        let (y, w) = (p.coordinate(0, self.row % out_h, ky), p.coordinate(1, self.column, kx));
        self.positions += u32::from(p.within_padding(0, y) && p.within_padding(1, w));
        let (Some(y), Some(w)) = (source(y, 1, g.input[0]), source(w, 1, g.input[1])) else { return };
        self.inside += 1;
        let first = self.row / out_h * g.input[0] as usize;
        let mut v = [0f32; CHUNK];
        let v = &mut v[..self.n];
        e.load(self.x, ((first + y) * g.input[1] as usize + w) * g.input[2] as usize + self.c0, v);
        if p.kind == PoolKind::Max {
            for (a, &v) in acc.iter_mut().zip(v.iter()) {
                *a = if v > *a || v.is_nan() { v } else { *a };
            }
        } else {
            for (a, v) in acc.iter_mut().zip(v.iter()) {
                *a += v;
            }
        }
    }
}

impl Pool {
    #[inline(always)]
    fn coordinate(&self, axis: usize, at: usize, tap: u32) -> isize {
        let g = &self.geometry;
        (at * g.stride[axis] as usize + (tap * g.dilation[axis]) as usize) as isize - g.pad[axis] as isize
    }

    #[inline(always)]
    fn within_padding(&self, axis: usize, at: isize) -> bool {
        at < self.geometry.input[axis] as isize + self.pad_end[axis] as isize
    }
}
