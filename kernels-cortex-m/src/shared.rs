//! What the microkernels of bytes have in common.

/// The types of a microkernel of bytes, and the methods that it has of the portable one in its field `.0`.
macro_rules! shared {
    () => {
        type X = u8;
        type W = i8;
        type Sum = i32;
        type Out = f32;

        const ROUNDS: bool = true;
        const LINES: bool = true;

        #[inline(always)]
        fn in_place<'a>(&self, x: &View<'a>, start: usize, len: usize) -> Option<&'a [u8]> {
            self.0.in_place(x, start, len)
        }

        fn copy(&self, x: &View<'_>, start: usize, sign: Sign, to: &mut [u8]) {
            crate::rounding::copy(x, start, sign, to);
        }

        fn padding(&self, x: &View<'_>, sign: Sign) -> u8 {
            self.0.padding(x, sign)
        }

        #[inline(never)]
        fn finish<E: Elementwise>(&self, f: &mut Finish<'_, E>, to: Place, sums: &mut [i32], other: &mut [f32]) {
            self.0.finish(f, to, sums, other);
        }

        fn add<E: Elementwise>(&self, f: &mut Finish<'_, E>, to: Place, rounded: &[i8]) {
            crate::products::add(f, to, rounded);
        }

        fn centred(&self, x: &Inputs<'_, u8>, pixel: usize, at: Range<usize>, sum: i32, zero: i16) -> i32 {
            self.0.centred(x, pixel, at, sum, zero)
        }
    };
}

pub(crate) use shared;

/// The pixels and blocks of a tile: as many pixels as there is room for with all blocks, in multiples of those that are multiplied at once.
#[inline(always)]
pub(crate) fn tile(at_once: usize, pixels: usize, blocks: usize, room: usize) -> (usize, usize) {
    let most = (room / blocks.max(1)).max(at_once);
    let pixels = pixels.min(most - most % at_once).min(room).max(1);
    (pixels, blocks.min(room / pixels).max(1))
}
