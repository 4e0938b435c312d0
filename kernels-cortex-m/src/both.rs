//! Both kernels as one, for programs that run both.

use core::ops::Range;

use kinglet::elementwise::Elementwise;
use kinglet::product::{Finish, Inputs, Microkernel, Place, Rounding, Sign, Sums, Weights};
use kinglet::rows::{PixelsMut, View};

use crate::products::{DenseI8, DepthwiseI8};
use crate::set::of_depthwise;

/// The dense kernel, or the depthwise one where weights lie as it reads them.
#[derive(Clone, Copy, Default)]
pub struct Both<const OPS: u128>(DenseI8<OPS>, DepthwiseI8<OPS>);

impl<const OPS: u128> Microkernel for Both<OPS> {
    type X = u8;
    type W = i8;
    type Sum = i32;
    type Out = f32;

    const ROUNDS: bool = true;
    const LINES: bool = true;
    const TAPS_OF_FRAMES: bool = true;

    #[inline(always)]
    fn tile(pixels: usize, blocks: usize, room: usize) -> (usize, usize) {
        DenseI8::<OPS>::tile(pixels, blocks, room)
    }

    #[inline(always)]
    fn in_place<'a>(&self, x: &View<'a>, start: usize, len: usize) -> Option<&'a [u8]> {
        self.0.in_place(x, start, len)
    }

    fn copy(&self, x: &View<'_>, start: usize, sign: Sign, to: &mut [u8]) {
        self.0.copy(x, start, sign, to);
    }

    fn padding(&self, x: &View<'_>, sign: Sign) -> u8 {
        self.0.padding(x, sign)
    }

    fn multiply(&self, x: &Inputs<'_, u8>, w: &Weights<'_, i8>, to: Sums<'_, i32>) {
        if of_depthwise(&w.packing) { self.1.multiply(x, w, to) } else { self.0.multiply(x, w, to) }
    }

    fn finish<E: Elementwise>(&self, f: &mut Finish<'_, E>, to: Place, sums: &mut [i32], other: &mut [f32]) {
        self.0.finish(f, to, sums, other);
    }

    fn add<E: Elementwise>(&self, f: &mut Finish<'_, E>, to: Place, rounded: &[i8]) {
        self.0.add(f, to, rounded);
    }

    fn centred(&self, x: &Inputs<'_, u8>, pixel: usize, at: Range<usize>, sum: i32, zero: i16) -> i32 {
        self.0.centred(x, pixel, at, sum, zero)
    }

    #[inline(never)]
    fn round(
        &self,
        x: &Inputs<'_, u8>,
        w: &Weights<'_, i8>,
        rounding: &Rounding<'_>,
        scratch: &mut [u8],
        out: &mut PixelsMut<'_, u8>,
    ) -> bool {
        if of_depthwise(&w.packing) {
            self.1.round(x, w, rounding, scratch, out)
        } else {
            self.0.round(x, w, rounding, scratch, out)
        }
    }
}
