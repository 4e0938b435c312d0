//! Where the windows of a convolution, a depthwise convolution or a pooling step lie.

use core::ops::Range;

use crate::bands::{Rule, Window};
use crate::error::Fault;
use crate::format::verify::{ensure, product};
use crate::format::words::record;

record! {
    /// The windows of a step over `[batch, height, width, channels]`.
    pub struct Geometry {
        /// Pictures.
        pub batch: u32,
        /// Height, width, channels of the input.
        pub input: [u32; 3],
        /// Height, width, channels of the output.
        pub output: [u32; 3],
        /// Height and width of the window.
        pub kernel: [u32; 2],
        /// Steps of the window, vertical and horizontal.
        pub stride: [u32; 2],
        /// Distance between taps.
        pub dilation: [u32; 2],
        /// Rows above and columns left of the input that the first window covers; may be negative.
        pub pad: [i32; 2],
        /// Upsampling of the input: 1, but the stride of a transposed convolution. Between the rows and columns of the input
        /// lies padding.
        pub upsample: [u32; 2],
    }
}

impl Geometry {
    /// Limits that keep every coordinate within 31 bits: a target's `isize` may be that small.
    pub(crate) fn verify(&self) -> Result<(), Fault> {
        let small = |v: u32| (1..=1 << 14).contains(&v);
        let steps = [self.kernel, self.stride, self.dilation, self.upsample];
        ensure(steps.iter().flatten().all(|&v| small(v)), Fault::Params)?;
        ensure(self.pad.iter().all(|p| p.unsigned_abs() <= 1 << 28), Fault::Params)?;
        let sizes = self.input.iter().chain(&self.output).chain([&self.batch]);
        ensure(sizes.copied().all(|v| (1..=1 << 28).contains(&v)), Fault::Shape)?;
        ensure((0..2).all(|d| self.reach(d) <= 1 << 30), Fault::Params)?;
        ensure((0..2).all(|d| u64::from(self.input[d]) * u64::from(self.upsample[d]) < 1 << 30), Fault::Params)?;
        product(&[self.batch, self.output[0]]).map(|_| ())
    }

    /// Positions of the (upsampled, padded) input along axis `d` from the first window's begin to the last one's end.
    pub(crate) fn reach(&self, d: usize) -> u64 {
        (u64::from(self.output[d]) - 1) * u64::from(self.stride[d]) + self.span(d)
    }

    /// Positions from the begin to the end of a window along axis `d`.
    pub(crate) fn span(&self, d: usize) -> u64 {
        (u64::from(self.kernel[d]) - 1) * u64::from(self.dilation[d]) + 1
    }

    /// Taps of a window.
    pub fn taps(&self) -> usize {
        (self.kernel[0] * self.kernel[1]) as usize
    }

    /// Output rows: `batch · out_h`.
    pub fn rows(&self) -> usize {
        (self.batch * self.output[0]) as usize
    }

    /// Elements of a row of the input.
    pub(crate) fn row_len(&self) -> usize {
        self.input[1] as usize * self.input[2] as usize
    }

    /// Whether every window lies along axis `d` within an input that is not upsampled: no tap is padding.
    pub(crate) fn inside(&self, d: usize) -> bool {
        let start = -i64::from(self.pad[d]);
        self.upsample[d] == 1 && start >= 0 && start as u64 + self.reach(d) <= u64::from(self.input[d])
    }

    /// Whether each output pixel is made of the input pixel in its place alone: a matrix product of all pixels.
    pub(crate) fn pointwise(&self) -> bool {
        let same = self.input[..2] == self.output[..2];
        self.kernel == [1, 1] && self.stride == [1, 1] && self.pad == [0, 0] && self.upsample == [1, 1] && same
    }

    /// The picture that an output row belongs to, and the first row of its window in the upsampled input.
    #[inline(always)]
    pub(crate) fn window_of(&self, row: usize) -> (usize, isize) {
        let (picture, row) = (row / self.output[0].max(1) as usize, row % self.output[0].max(1) as usize);
        (picture, (row * self.stride[0] as usize) as isize - self.pad[0] as isize)
    }

    /// The input row at row `at` of the upsampled picture number `picture`, if there is one.
    #[inline(always)]
    pub(crate) fn input_row(&self, picture: usize, at: isize) -> Option<usize> {
        source(at, self.upsample[0], self.input[0]).map(|y| picture * self.input[0] as usize + y)
    }

    /// Which rows of the input the rows of an output read. The windows of several pictures are no windows of one.
    pub(crate) fn rule(&self) -> Rule {
        let (Ok(span), Ok(row)) = (u32::try_from(self.span(0)), u32::try_from(self.row_len())) else {
            return Rule::Whole;
        };
        if self.pointwise() {
            return Rule::Rows(Window::pointwise(row));
        }
        if self.batch != 1 {
            return Rule::Whole;
        }
        Rule::Rows(Window { stride: self.stride[0], pad: self.pad[0], span, upsample: self.upsample[0], row })
    }

    /// Input rows that the given output rows read: those that their windows cover. (A superset where taps are apart.)
    pub fn input_rows(&self, rows: Range<usize>) -> Range<usize> {
        if rows.is_empty() {
            return 0..0;
        }
        let end = |row: usize, last: bool| {
            let (picture, top) = self.window_of(row);
            let up = self.upsample[0] as isize;
            let at = if last { top + self.span(0) as isize } else { top };
            let within = (at + up - 1).div_euclid(up).clamp(0, self.input[0] as isize);
            picture * self.input[0] as usize + within as usize
        };
        end(rows.start, false)..end(rows.end - 1, true).max(end(rows.start, false))
    }
}

/// The coordinate in a tensor of size `n` of coordinate `at` in its upsampled form, if there is one.
#[inline(always)]
pub(crate) fn source(at: isize, upsample: u32, n: u32) -> Option<usize> {
    let at = usize::try_from(at).ok()?;
    let up = upsample.max(1) as usize;
    let at = if up == 1 {
        at
    } else if at % up == 0 {
        at / up
    } else {
        return None;
    };
    (at < n as usize).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The rule against a walk over all taps.
        #[test]
        fn input_rows_are_those_that_taps_touch(
            (batch, input, kernel) in (1..3u32, 1..9u32, 1..5u32),
            (stride, dilation, pad, up) in (1..4u32, 1..3u32, -2..5i32, 1..3u32),
            (from, more) in (0..20usize, 1..20usize),
        ) {
            let span = i64::from((kernel - 1) * dilation) + 1;
            let room = i64::from(input * up) + 2 * i64::from(pad) - span;
            prop_assume!(room >= 0);
            let output = (room / i64::from(stride)) as u32 + 1;
            let g = Geometry {
                batch, input: [input, 1, 1], output: [output, 1, 1], kernel: [kernel, 1], stride: [stride, 1],
                dilation: [dilation, 1], pad: [pad, 0], upsample: [up, 1],
            };
            prop_assert!(g.verify().is_ok());
            let rows = from.min(g.rows() - 1)..(from + more).min(g.rows());
            prop_assume!(!rows.is_empty());
            let said = g.input_rows(rows.clone());
            for row in rows {
                let (picture, top) = g.window_of(row);
                for ky in 0..kernel {
                    if let Some(y) = g.input_row(picture, top + (ky * dilation) as isize) {
                        prop_assert!(said.contains(&y), "row {row} reads {y}, said {said:?}");
                    }
                }
            }
        }
    }
}
