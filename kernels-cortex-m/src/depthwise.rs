//! Depthwise products of bytes whose weights lie tap by tap, a row of channels each: four channels of a pixel, all taps.

use core::ops::Range;

use kinglet::elementwise::Elementwise;
use kinglet::product::{Depthwise, Finish, Inputs, Integers, Microkernel, Place, Sign, Sums, Weights};
use kinglet::rows::View;

use crate::dsp::by_taps;
use crate::lanes::{each_signed, each_unsigned};

/// Up to four pixels and the channels of a block.
#[derive(Clone, Copy, Default)]
pub struct DepthwiseI8(Depthwise<Integers>);

impl Microkernel for DepthwiseI8 {
    type X = u8;
    type W = i8;
    type Sum = i32;
    type Out = f32;

    #[inline(always)]
    fn tile(pixels: usize, blocks: usize, room: usize) -> (usize, usize) {
        Depthwise::<Integers>::tile(pixels, blocks, room)
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
        let (n, e) = (w.width(), &w.extents);
        let (sums, _) = to.so_far();
        let fits = by_taps(&w.packing)
            && x.fit(n)
            && w.channels.1 <= e.channels
            && w.first_row + x.rows.len() <= e.length
            && x.taps <= e.lines
            && e.lines * e.length * e.channels <= w.data.len()
            && sums.len() >= x.pixels * n;
        debug_assert!(fits, "a tile of {} pixels and {} channels", x.pixels, n);
        if fits && x.signed {
            // SAFETY: what is read has just been checked.
            unsafe { tile::<true>(x, w, sums) }
        } else if fits {
            // SAFETY: as above.
            unsafe { tile::<false>(x, w, sums) }
        }
    }

    fn finish<E: Elementwise>(&self, f: &mut Finish<'_, E>, to: Place, sums: &mut [i32], other: &mut [f32]) {
        self.0.finish(f, to, sums, other);
    }

    fn centred(&self, x: &Inputs<'_, u8>, pixel: usize, at: Range<usize>, sum: i32, zero: i16) -> i32 {
        self.0.centred(x, pixel, at, sum, zero)
    }
}

/// Adds the products of a tile.
///
/// # Safety
/// As many inputs as there are channels are there at all taps under all pixels, and as many weights; and sums.
unsafe fn tile<const SIGNED: bool>(x: &Inputs<'_, u8>, w: &Weights<'_, i8>, sums: &mut [i32]) {
    let (n, e) = (w.width(), &w.extents);
    for (p, sums) in sums.chunks_exact_mut(n).take(x.pixels).enumerate() {
        let mut channel = 0;
        while channel < n {
            let four = n - channel >= 4;
            let mut acc = [0; 4];
            for (r, row) in x.rows.iter().enumerate() {
                for t in 0..x.taps {
                    let k = t * e.length + w.first_row + r;
                    // SAFETY: the caller's; words need no alignment on these cores.
                    unsafe {
                        let input = row.as_ptr().add(p * x.step + t * x.tap_step + channel);
                        let weight = w.data.as_ptr().add(k * e.channels + w.channels.0 + channel);
                        if four {
                            let (input, weight) =
                                (input.cast::<u32>().read_unaligned(), weight.cast::<u32>().read_unaligned());
                            acc = if SIGNED {
                                each_signed(input, weight, acc)
                            } else {
                                each_unsigned(input, weight, acc)
                            };
                        } else {
                            let input = if SIGNED { i32::from(*input as i8) } else { i32::from(*input) };
                            acc[0] = acc[0].wrapping_add(input * i32::from(*weight));
                        }
                    }
                }
            }
            if four {
                // In the order of the channels.
                for (i, k) in [0, 2, 1, 3].into_iter().enumerate() {
                    sums[channel + i] = sums[channel + i].wrapping_add(acc[k]);
                }
                channel += 4;
            } else {
                sums[channel] = sums[channel].wrapping_add(acc[0]);
                channel += 1;
            }
        }
    }
}
