//! Convolution of each channel by itself, over `[batch, height, width, channels]`.

use core::ops::Range;

use super::Params;
use super::epilogue::{Epilogue, MULTIPLIERS, RESIDUAL, WEIGHTS};
use super::window::{source, window_fits};
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure, product, work};
use crate::format::words::record;
use crate::rows::{Operands, Rows};
use crate::{DType, Element};

/// Operand of the weights' zero points.
const ZEROS: usize = 7;
/// Channels whose accumulators are held at once.
const BLOCK: usize = 32;

record! {
    /// Parameters of a depthwise convolution.
    ///
    /// Inputs: 0 `x [batch, in_h, in_w, c]` (f32, i8, u8), 1 weights `[kernel_h, kernel_w, c]` (f32 or i8), 2 to 6 those of
    /// the [`Epilogue`](super::Epilogue), 7 zero points `zw [c]` i16 of the weights as packed (optional, integers only; 0 if
    /// absent). Output: `[batch, out_h, out_w, c]`. Rows: `batch · out_h`.
    ///
    /// The sum is `Σ x·w`, with weights of bytes `Σ x·(m·w)`, for integers `Σ (x − zx)·(w − zw)` with `w − zw` modulo 2¹⁶. Taps outside the input add nothing.
    pub struct DepthwiseConv {
        /// Pictures.
        pub batch: u32,
        /// Height and width of the input.
        pub input: [u32; 2],
        /// Height and width of the output.
        pub output: [u32; 2],
        /// Channels.
        pub channels: u32,
        /// Kernel height and width.
        pub kernel: [u32; 2],
        /// Steps of the window.
        pub stride: [u32; 2],
        /// Distance between taps.
        pub dilation: [u32; 2],
        /// Rows above and columns left of the input that the first window covers; may be negative.
        pub pad: [i32; 2],
        /// What happens to the sums.
        pub epilogue: Epilogue,
    }
}

impl Params for DepthwiseConv {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        let ([in_h, in_w], [out_h, out_w], ch) = (self.input, self.output, self.channels);
        window_fits(self.kernel, self.stride, self.dilation, self.output, &[self.batch, in_h, in_w, out_h, out_w, ch])?;
        ensure(self.pad.iter().all(|p| p.unsigned_abs() <= 1 << 28), Fault::Params)?;
        let x = c.input(0)?;
        c.size(&x, &[self.batch, in_h, in_w, ch])?;
        self.epilogue.verify(c, ch, &[self.batch, out_h, out_w, ch])?;
        let float = x.dtype == DType::F32;
        let weights = c.input(WEIGHTS)?.dtype;
        ensure(weights == DType::I8 || (float && weights == DType::F32), Fault::DType)?;
        c.constant(WEIGHTS, weights, &[self.kernel[0], self.kernel[1], ch])?;
        if !float && c.optional(ZEROS).is_some() {
            c.constant(ZEROS, DType::I16, &[ch])?;
        }
        // A tap outside the input costs no less than one inside, and the end of an element about as much as eight taps.
        let taps = work(&[self.kernel[0], self.kernel[1]]).saturating_add(8);
        let each = u64::from(ch) + work(&[ch.div_ceil(BLOCK as u32), 4]);
        let all = work(&[self.batch, out_h, out_w]).saturating_mul(taps).saturating_mul(each);
        Ok(Verdict::new(product(&[self.batch, out_h])?, all).in_place(1 << RESIDUAL))
    }

    #[inline(always)]
    fn run(&self, o: &Operands<'_>, rows: Range<usize>) {
        let mut finish = self.epilogue.of(o, self.channels as usize);
        if o.input(0).dtype == DType::F32 {
            let store = |at: usize, c: usize, sums: &mut [f32]| finish.float(at, c, sums);
            if o.input(WEIGHTS).dtype == DType::I8 {
                drive::<f32, i8, f32>(self, o, rows, tap_bytes(o.constant(MULTIPLIERS)), store);
            } else {
                drive::<f32, f32, f32>(self, o, rows, tap_float, store);
            }
        } else {
            drive_int(self, o, rows, |at, c, sums| finish.int(at, c, sums));
        }
    }
}

#[inline(always)]
fn drive_int(p: &DepthwiseConv, o: &Operands<'_>, rows: Range<usize>, store: impl FnMut(usize, usize, &mut [i32])) {
    let (x, zeros) = (o.input(0), o.constant::<i16>(ZEROS));
    let zx = x.zero_point as i16;
    match (x.dtype == DType::U8, zeros.is_empty()) {
        (true, true) => drive::<u8, i8, i32>(p, o, rows, tap_int(zx), store),
        (false, true) => drive::<i8, i8, i32>(p, o, rows, tap_int(zx), store),
        (true, false) => drive::<u8, i8, i32>(p, o, rows, tap_int_with(zx, zeros), store),
        (false, false) => drive::<i8, i8, i32>(p, o, rows, tap_int_with(zx, zeros), store),
    }
}

/// A tap of floats.
#[inline(always)]
fn tap_float(_: usize, acc: &mut [f32], x: &[f32], w: &[f32]) {
    for (a, (x, w)) in acc.iter_mut().zip(x.iter().zip(w)) {
        *a += x * w;
    }
}

/// A tap of floats with weights of bytes, whose scales by channel are `scales`.
#[inline(always)]
fn tap_bytes(scales: &[f32]) -> impl Fn(usize, &mut [f32], &[f32], &[i8]) {
    move |c0, acc, x, w| {
        for ((a, scale), (x, &w)) in acc.iter_mut().zip(&scales[c0..]).zip(x.iter().zip(w)) {
            *a += x * (f32::from(w) * scale);
        }
    }
}

/// A tap of weights whose zero points are 0.
#[inline(always)]
fn tap_int<X: Element + Into<i16>>(zx: i16) -> impl Fn(usize, &mut [i32], &[X], &[i8]) {
    move |_, acc, x, w| {
        for (a, (&x, &w)) in acc.iter_mut().zip(x.iter().zip(w)) {
            let x: i16 = x.into();
            *a = a.wrapping_add(i32::from(x - zx) * i32::from(w));
        }
    }
}

/// A tap of weights with a zero point for each channel.
#[inline(always)]
fn tap_int_with<X: Element + Into<i16>>(zx: i16, zeros: &[i16]) -> impl Fn(usize, &mut [i32], &[X], &[i8]) {
    move |c0, acc, x, w| {
        for ((a, &zw), (&x, &w)) in acc.iter_mut().zip(&zeros[c0..]).zip(x.iter().zip(w)) {
            let x: i16 = x.into();
            *a = a.wrapping_add(i32::from(x - zx) * i32::from(i16::from(w).wrapping_sub(zw)));
        }
    }
}

/// The loop nest: pixels, blocks of channels, taps inside the input. `tap(first channel, sums, inputs, weights)` adds one.
#[inline(always)]
fn drive<X: Element, W: Element, A: Copy + Default>(
    p: &DepthwiseConv,
    o: &Operands<'_>,
    rows: Range<usize>,
    tap: impl Fn(usize, &mut [A], &[X], &[W]),
    mut store: impl FnMut(usize, usize, &mut [A]),
) {
    let c = p.channels as usize;
    let [in_h, in_w] = p.input;
    let x: Rows<'_> = o.input(0).rows((p.batch * in_h) as usize, in_w as usize * c);
    let weights = o.constant::<W>(WEIGHTS);
    let (out_h, out_w) = (p.output[0] as usize, p.output[1] as usize);
    let kernel_w = p.kernel[1] as usize;
    for row in rows {
        let base = row / out_h * in_h as usize;
        let top = (row % out_h * p.stride[0] as usize) as isize - p.pad[0] as isize;
        for column in 0..out_w {
            let left = (column * p.stride[1] as usize) as isize - p.pad[1] as isize;
            for c0 in (0..c).step_by(BLOCK) {
                let n = BLOCK.min(c - c0);
                let mut acc = [A::default(); BLOCK];
                for ky in 0..p.kernel[0] as usize {
                    let y = source(top + (ky * p.dilation[0] as usize) as isize, 1, in_h);
                    let Some(line) = y.and_then(|y| x.row::<X>((base + y) as isize)) else { continue };
                    for kx in 0..kernel_w {
                        let Some(at) = source(left + (kx * p.dilation[1] as usize) as isize, 1, in_w) else { continue };
                        let pixel = &line[at * c + c0..][..n];
                        let w = &weights[(ky * kernel_w + kx) * c + c0..][..n];
                        if n == BLOCK {
                            // A length known at compile time lets the compiler keep the accumulators in registers.
                            tap(c0, &mut acc, &pixel[..BLOCK], &w[..BLOCK]);
                        } else {
                            tap(c0, &mut acc[..n], pixel, w);
                        }
                    }
                }
                store((row * out_w + column) * c + c0, c0, &mut acc[..n]);
            }
        }
    }
}
