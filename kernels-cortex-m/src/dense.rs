//! Dense products of bytes whose weights lie along the inputs: two pixels of two channels, four inputs at a time.

use core::ops::Range;

use kinglet::elementwise::Elementwise;
use kinglet::product::{Dense, Finish, Inputs, Integers, Microkernel, Place, Sign, Sums, Weights};
use kinglet::rows::View;

use crate::dsp::along_inputs;
use crate::lanes;

/// Up to four pixels and the channels of a panel.
#[derive(Clone, Copy, Default)]
pub struct DenseI8(Dense<Integers>);

/// Pixels of a tile.
const PIXELS: usize = 4;

impl Microkernel for DenseI8 {
    type X = u8;
    type W = i8;
    type Sum = i32;
    type Out = f32;

    #[inline(always)]
    fn tile(_: usize, _: usize, room: usize) -> (usize, usize) {
        (PIXELS.min(room), 1)
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
        let (e, depth) = (&w.extents, w.packing.depth(&w.extents));
        let fits = along_inputs(&w.packing)
            && x.fit(e.length)
            && to.sums.len() >= x.pixels * w.width()
            && (w.first_row + x.rows.len()) * x.taps * e.length <= depth
            && w.channels.1 * depth <= w.data.len();
        let (sums, _) = to.so_far();
        debug_assert!(fits, "a tile of {} pixels and {} channels", x.pixels, w.width());
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

/// Adds the products of a tile. A pixel or channel that has no neighbour is computed twice.
///
/// # Safety
/// Lines of `w.extents.length` inputs are there under all pixels, and as many weights of all channels; and sums.
unsafe fn tile<const SIGNED: bool>(x: &Inputs<'_, u8>, w: &Weights<'_, i8>, sums: &mut [i32]) {
    let (n, length, depth) = (w.width(), w.extents.length, w.packing.depth(&w.extents));
    for c in (0..n).step_by(2) {
        let channels = [c, (c + 1).min(n - 1)];
        for p in (0..x.pixels).step_by(2) {
            let pixels = [p, (p + 1).min(x.pixels - 1)];
            let mut acc: lanes::Sums = [[0; 2]; 2];
            for (r, row) in x.rows.iter().enumerate() {
                for t in 0..x.taps {
                    let k = ((w.first_row + r) * x.taps + t) * length;
                    // SAFETY: the caller's. Weights of a channel lie side by side, and channel by channel: panels are whole.
                    unsafe {
                        let inputs = pixels.map(|p| row.as_ptr().add(p * x.step + t * x.tap_step));
                        let weights =
                            channels.map(|c| w.data.as_ptr().cast::<u8>().add((w.channels.0 + c) * depth + k));
                        line::<SIGNED>(inputs, weights, length, &mut acc);
                    }
                }
            }
            for (i, &p) in pixels.iter().enumerate().take(x.pixels - p) {
                for (j, &c) in channels.iter().enumerate().take(n - c) {
                    sums[p * n + c] = sums[p * n + c].wrapping_add(acc[i][j]);
                }
            }
        }
    }
}

/// Adds the products of two lines of inputs with those of two channels.
///
/// # Safety
/// `n` bytes are there from each of them on.
#[inline(always)]
unsafe fn line<const SIGNED: bool>(x: [*const u8; 2], w: [*const u8; 2], n: usize, sums: &mut lanes::Sums) {
    // SAFETY: the caller's.
    unsafe {
        if n >= 4 {
            if SIGNED { lanes::signed(x, w, n / 4, sums) } else { lanes::unsigned(x, w, n / 4, sums) }
        }
        for at in n & !3..n {
            for i in 0..2 {
                let input = *x[i].add(at);
                let input = if SIGNED { i32::from(input as i8) } else { i32::from(input) };
                for j in 0..2 {
                    sums[i][j] = sums[i][j].wrapping_add(input * i32::from(*w[j].add(at) as i8));
                }
            }
        }
    }
}
