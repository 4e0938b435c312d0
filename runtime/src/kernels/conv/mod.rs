//! Convolution over `[batch, height, width, channels]`, in f32 and in integers.
//!
//! The same step does transposed convolution (its input seen as upsampled with padding between the rows and columns) and
//! the product with a constant matrix (a 1×1 kernel over rows of width 1).
//!
//! Way of the data: [`Conv::run`] → [`drive`] (tiles, taps, padding) → [`Arithmetic::block`], the microkernel (`MR` pixels ×
//! `NR` channels).

mod driver;

use core::ops::Range;

use super::Params;
use super::epilogue::{Epilogue, RESIDUAL, WEIGHTS};
use super::window::window_fits;
use crate::DType;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure, product, work};
use crate::format::words::record;
use crate::rows::Operands;
use driver::{Bytes, Float, Int, NR, drive};

/// Operand of the pixel that stands for what lies outside the input.
const PADDING: usize = 7;
/// Operand of the weights' zero points.
const ZEROS: usize = 8;

record! {
    /// Parameters of a convolution.
    ///
    /// Inputs: 0 `x [batch, in_h, in_w, in_c]` (f32, i8, u8), 1 packed weights (f32 or i8, of f32
    /// inputs too), 2 to 6 those of the [`Epilogue`], 7 padding pixel `[in_c]` of x's type (zero points for integers), 8 zero points `zw [out_c]` i16 of the
    /// weights as packed (optional, integers only; 0 if absent). Output: `[batch, out_h, out_w, out_c]`. Rows:
    /// `batch · out_h`.
    ///
    /// Weights are packed by blocks of 8 output channels, zero where a block goes beyond its group's channels. With
    /// `k = (tap (ky, kx), input channel)`: those of f32 inputs, and of integers with fewer than 48 `k`, as `[group][block][k][8]`, others as `[group][block][8][k]`.
    ///
    /// The sum is `Σ x·w`, with weights of bytes `Σ x·(m·w)`, for integers `Σ x·(w − zw)`; the bias of integers includes `−zx·Σ(w − zw)`.
    pub struct Conv {
        /// Pictures.
        pub batch: u32,
        /// Height, width, channels of the input.
        pub input: [u32; 3],
        /// Height, width, channels of the output.
        pub output: [u32; 3],
        /// Groups of channels that do not see each other.
        pub groups: u32,
        /// Kernel height and width.
        pub kernel: [u32; 2],
        /// Steps of the window, vertical and horizontal.
        pub stride: [u32; 2],
        /// Distance between taps.
        pub dilation: [u32; 2],
        /// Rows above and columns left of the input that the first window covers; may be negative.
        pub pad: [i32; 2],
        /// Upsampling of the input: 1 for a convolution, the stride of a transposed one.
        pub upsample: [u32; 2],
        /// Output channels in a block of packed weights.
        pub block: u32,
        /// What happens to the sums.
        pub epilogue: Epilogue,
    }
}

impl Conv {
    /// Whether integer weights with sums of `k` products lie with the inputs of a channel side by side.
    pub const fn inputs_inside(k: usize) -> bool {
        k >= driver::SHORT
    }

    fn taps(&self) -> usize {
        (self.kernel[0] * self.kernel[1]) as usize
    }

    fn group_in(&self) -> usize {
        (self.input[2] / self.groups) as usize
    }

    fn group_out(&self) -> usize {
        (self.output[2] / self.groups) as usize
    }

    fn blocks(&self) -> usize {
        self.group_out().div_ceil(NR)
    }

    /// What [`drive`] does: products of whole blocks, inputs gathered once for several of these, and ends of pixels.
    fn work(&self) -> u64 {
        let total = (self.taps() * self.group_in()) as u64;
        // Inputs are gathered in runs, and each looks at all taps of the kernel rows it begins and ends in.
        let gathered = total.saturating_mul(2 + u64::from(self.kernel[1]) / 64) + 4 * self.taps() as u64;
        let blocks = self.blocks() as u64;
        let group = blocks.saturating_mul(NR as u64).saturating_mul(total + 16);
        let group = group.saturating_add(gathered.saturating_mul(blocks.div_ceil(driver::BLOCKS as u64)));
        work(&[self.batch, self.output[0], self.output[1], self.groups]).saturating_mul(group)
    }
}

impl Params for Conv {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        let [in_h, in_w, in_c] = self.input;
        let [out_h, out_w, out_c] = self.output;
        window_fits(
            self.kernel,
            self.stride,
            self.dilation,
            [out_h, out_w],
            &[self.batch, in_h, in_w, in_c, out_h, out_w, out_c],
        )?;
        ensure(self.upsample.iter().all(|u| (1..=1 << 14).contains(u)), Fault::Params)?;
        ensure(self.pad.iter().all(|p| p.unsigned_abs() <= 1 << 28), Fault::Params)?;
        ensure(self.groups > 0 && in_c % self.groups == 0 && out_c % self.groups == 0, Fault::Params)?;
        ensure(self.block as usize == NR, Fault::Params)?;
        let x = c.input(0)?;
        c.size(&x, &[self.batch, in_h, in_w, in_c])?;
        self.epilogue.verify(c, out_c, &[self.batch, out_h, out_w, out_c])?;
        let float = x.dtype == DType::F32;
        let per_block = [self.kernel[0], self.kernel[1], in_c / self.groups, self.block];
        let blocks = [self.groups, (out_c / self.groups).div_ceil(self.block), product(&per_block)? as u32];
        let weights = c.input(WEIGHTS)?.dtype;
        ensure(weights == DType::I8 || (float && weights == DType::F32), Fault::DType)?;
        c.constant(WEIGHTS, weights, &blocks)?;
        if !float {
            if c.optional(ZEROS).is_some() {
                c.constant(ZEROS, DType::I16, &[out_c])?;
            }
            // Keeps the sum of a run of bytes within 32 bits.
            ensure(product(&[self.kernel[1], in_c])? <= 1 << 22, Fault::Params)?;
        }
        c.constant(PADDING, x.dtype, &[in_c])?;
        // The residual may be overwritten: its pixel is read before that pixel is stored.
        Ok(Verdict::new(product(&[self.batch, out_h])?, self.work()).in_place(1 << RESIDUAL))
    }

    #[inline(always)]
    fn run(&self, o: &Operands<'_>, rows: Range<usize>) {
        let mut finish = self.epilogue.of(o, self.output[2] as usize);
        let x = o.input(0).dtype;
        if x == DType::F32 {
            let store = |at: usize, c: usize, sums: &mut [f32], _| finish.float(at, c, sums);
            if o.input(WEIGHTS).dtype == DType::I8 {
                drive::<f32, Bytes>(self, o, rows, store);
            } else {
                drive::<f32, Float>(self, o, rows, store);
            }
            return;
        }
        let zeros = o.constant::<i16>(ZEROS);
        // (x − zx)(w − zw) needs Σx where zw is not 0; padding pixels hold zx, so the sum over all taps is right.
        let store = |at: usize, c: usize, sums: &mut [i32], inputs: i32| {
            if !zeros.is_empty() {
                for (s, &zero) in sums.iter_mut().zip(&zeros[c..]) {
                    *s = s.wrapping_sub(inputs.wrapping_mul(zero.into()));
                }
            }
            finish.int(at, c, sums);
        };
        if x == DType::U8 {
            drive::<u8, Int>(self, o, rows, store);
        } else {
            drive::<i8, Int>(self, o, rows, store);
        }
    }
}
