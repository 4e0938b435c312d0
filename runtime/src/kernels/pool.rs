//! Maximum or average over windows of `[batch, height, width, channels]`.

use core::ops::Range;

use super::Params;
use super::conv::{source, window_fits};
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure, product};
use crate::format::words::{code, record};
use crate::rows::{CHUNK, Operands, chunks};

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
        window_fits(self.kernel, self.stride, self.dilation, &[self.batch, in_h, in_w, out_h, out_w, ch])?;
        ensure(self.pad.iter().chain(&self.pad_end).all(|p| (0..=1 << 28).contains(p)), Fault::Params)?;
        c.size(&c.input(0)?, &[self.batch, in_h, in_w, ch])?;
        c.size(&c.output()?, &[self.batch, out_h, out_w, ch])?;
        Ok(Verdict::rows(product(&[self.batch, out_h])?))
    }

    fn run(&self, o: &Operands<'_>, rows: Range<usize>) {
        let (x, mut out) = (o.input(0), o.output());
        // Integers are combined as q − zero_point, exactly; the scale comes last.
        let (x, scale) = x.unscaled();
        let c = self.channels as usize;
        let (out_h, out_w) = (self.output[0] as usize, self.output[1] as usize);
        for row in rows {
            let first = row / out_h * self.input[0] as usize;
            for column in 0..out_w {
                chunks(0..c, |c0, n| {
                    let mut acc = [if self.kind == PoolKind::Max { f32::NEG_INFINITY } else { 0.0 }; CHUNK];
                    let acc = &mut acc[..n];
                    let mut inside = 0u32;
                    let mut positions = 0u32;
                    for ky in 0..self.kernel[0] {
                        let y = self.coordinate(0, row % out_h, ky);
                        for kx in 0..self.kernel[1] {
                            let w = self.coordinate(1, column, kx);
                            positions += u32::from(self.within_padding(0, y) && self.within_padding(1, w));
                            let (Some(y), Some(w)) = (source(y, 1, self.input[0]), source(w, 1, self.input[1])) else {
                                continue;
                            };
                            inside += 1;
                            let mut v = [0f32; CHUNK];
                            let v = &mut v[..n];
                            x.load(((first + y) * self.input[1] as usize + w) * c + c0, v);
                            if self.kind == PoolKind::Max {
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
                    let count = match self.kind {
                        PoolKind::Max => 1,
                        PoolKind::Average => inside,
                        PoolKind::AverageWithPadding => positions,
                    };
                    for a in acc.iter_mut() {
                        *a = if inside == 0 { 0.0 } else { *a * scale / count as f32 };
                    }
                    out.store((row * out_w + column) * c + c0, acc);
                });
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
