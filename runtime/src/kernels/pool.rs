//! Maximum or average over windows of `[batch, height, width, channels]`.

use core::ops::Range;

use super::Params;
use super::window::{source, window_fits};
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure, product, work};
use crate::format::words::{code, record};
use crate::rows::{CHUNK, Operands, View, chunks};

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
        /// Pictures.
        pub batch: u32,
        /// Height and width of the input.
        pub input: [u32; 2],
        /// Height and width of the output.
        pub output: [u32; 2],
        /// Channels.
        pub channels: u32,
        /// Height and width of the window.
        pub kernel: [u32; 2],
        /// Steps of the window.
        pub stride: [u32; 2],
        /// Distance between elements of the window.
        pub dilation: [u32; 2],
        /// Padding above and left of the input.
        pub pad: [i32; 2],
        /// Padding below and right of the input.
        pub pad_end: [i32; 2],
    }
}

impl Params for Pool {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        let ([in_h, in_w], [out_h, out_w], ch) = (self.input, self.output, self.channels);
        window_fits(self.kernel, self.stride, self.dilation, self.output, &[self.batch, in_h, in_w, out_h, out_w, ch])?;
        ensure(self.pad.iter().chain(&self.pad_end).all(|p| (0..=1 << 28).contains(p)), Fault::Params)?;
        // A window mostly outside its input would cost time that no tensor accounts for.
        let useful = |d: usize| u64::from(self.kernel[d]) <= 2 * u64::from(self.input[d]) + 64;
        ensure(useful(0) && useful(1), Fault::Params)?;
        c.size(&c.input(0)?, &[self.batch, in_h, in_w, ch])?;
        c.size(&c.output()?, &[self.batch, out_h, out_w, ch])?;
        // A tap outside the input costs no less than one inside.
        let taps = work(&[self.batch, out_h, out_w, self.kernel[0], self.kernel[1]]);
        let each = work(&[ch, 2]).saturating_add(work(&[ch.div_ceil(CHUNK as u32), 32]));
        Ok(Verdict::new(product(&[self.batch, out_h])?, taps.saturating_mul(each)))
    }

    #[inline(always)]
    fn run(&self, o: &Operands<'_>, rows: Range<usize>) {
        let (x, mut out) = (o.input(0), o.output());
        let c = self.channels as usize;
        let out_w = self.output[1] as usize;
        let whole = self.kernel == self.input && self.output == [1, 1];
        for row in rows {
            for column in 0..out_w {
                chunks(0..c, |c0, n| {
                    let mut window = Window { pool: self, x: &x, row, column, c0, n, inside: 0, positions: 0 };
                    let mut acc = [if self.kind == PoolKind::Max { f32::NEG_INFINITY } else { 0.0 }; CHUNK];
                    let [kernel_h, kernel_w] = self.kernel;
                    if whole || self.kind == PoolKind::Max {
                        for ky in 0..kernel_h {
                            for kx in 0..kernel_w {
                                window.add(ky, kx, &mut acc);
                            }
                        }
                    } else {
                        for kx in 0..kernel_w {
                            let mut sum = [0f32; CHUNK];
                            for ky in 0..kernel_h {
                                window.add(ky, kx, &mut sum);
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
                    out.store((row * out_w + column) * c + c0, &acc[..n]);
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
    fn add(&mut self, ky: u32, kx: u32, acc: &mut [f32; CHUNK]) {
        let p = self.pool;
        let out_h = p.output[0] as usize;
        let (y, w) = (p.coordinate(0, self.row % out_h, ky), p.coordinate(1, self.column, kx));
        self.positions += u32::from(p.within_padding(0, y) && p.within_padding(1, w));
        let (Some(y), Some(w)) = (source(y, 1, p.input[0]), source(w, 1, p.input[1])) else { return };
        self.inside += 1;
        let first = self.row / out_h * p.input[0] as usize;
        let mut v = [0f32; CHUNK];
        let v = &mut v[..self.n];
        self.x.load(((first + y) * p.input[1] as usize + w) * p.channels as usize + self.c0, v);
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
        (at * self.stride[axis] as usize + (tap * self.dilation[axis]) as usize) as isize - self.pad[axis] as isize
    }

    #[inline(always)]
    fn within_padding(&self, axis: usize, at: isize) -> bool {
        at < self.input[axis] as isize + self.pad_end[axis] as isize
    }
}
