//! Dense products of bytes whose weights lie by pairs of channels: up to three pixels of all channels.

use core::arch::global_asm;
use core::ffi::c_void;
use core::ops::Range;

use kinglet::elementwise::Elementwise;
use kinglet::kernels::OpSet;
use kinglet::product::{
    Dense, Finish, Inputs, Integers, Microkernel, Packing, Place, Rounding, Sign, Sums, WIDENED, Weights,
};
use kinglet::rows::{PixelsMut, View};

use super::TARGET;
use super::one::{One, odd};
use crate::rounding::Bytes;
use crate::shared::{shared, tile};

global_asm!(core_directives!(), include_str!("dense.s"), include_str!("one.s"), options(raw));

/// What a function of `dense.s` works on, word by word as it reads them.
#[repr(C)]
struct Frame {
    /// The widened inputs.
    panel: *const u32,
    bias: *const i32,
    /// The results of the first pixel's next pair of channels.
    y: *mut u8,
    integers: *const i32,
    /// Bytes from the results of a pixel to those of the next.
    step: usize,
    zero: i32,
    y_end: *mut u8,
    panel_end: *const u32,
    /// Where the loop over inputs, which is written out eight times, begins.
    entry: usize,
    /// Called for each pair without integers, if there is such a function: on a core without floats, or for sums that are not rounded.
    other: Option<extern "C" fn(&mut Pair)>,
    /// For it; without it the bytes from an integer to the float that the same is rounded with.
    context: *const c_void,
}

/// What it calls for a pair of channels: its copy of the frame, and the sums.
#[repr(C)]
struct Pair {
    frame: Frame,
    weights: usize,
    /// `[pixel][2]`
    sums: [i32; 2 * WIDENED],
}

/// A function of `dense.s`, and where its loop over inputs begins and ends.
struct Loop {
    run: unsafe extern "C" fn(&Frame, *const i8),
    steps: *const u8,
    end: *const u8,
}

/// Widens fours of inputs.
type Widen = unsafe extern "C" fn(x: *const u8, step: usize, fours: usize, to: *mut u32) -> *mut u32;

/// The functions of `dense.s` for one, two and three pixels.
macro_rules! functions {
    ($loops:ident, $widens:ident: $(($run:ident, $steps:ident, $end:ident, $widen:ident),)*) => {
        unsafe extern "C" {
            $(
                safe static $steps: u8;
                safe static $end: u8;
                fn $run(frame: &Frame, weights: *const i8);
                fn $widen(x: *const u8, step: usize, fours: usize, to: *mut u32) -> *mut u32;
            )*
        }
        const $loops: [Loop; WIDENED] = [$(Loop { run: $run, steps: &raw const $steps, end: &raw const $end },)*];
        const $widens: [Widen; WIDENED] = [$($widen,)*];
    };
}

functions! { PLAIN, WIDEN:
    (kinglet_dense_1, kinglet_dense_1_steps, kinglet_dense_1_end, kinglet_widen_1),
    (kinglet_dense_2, kinglet_dense_2_steps, kinglet_dense_2_end, kinglet_widen_2),
    (kinglet_dense_3, kinglet_dense_3_steps, kinglet_dense_3_end, kinglet_widen_3),
}
functions! { TWOS, WIDEN_TWOS:
    (kinglet_twos_1, kinglet_twos_1_steps, kinglet_twos_1_end, kinglet_widen_twos_1),
    (kinglet_twos_2, kinglet_twos_2_steps, kinglet_twos_2_end, kinglet_widen_twos_2),
    (kinglet_twos_3, kinglet_twos_3_steps, kinglet_twos_3_end, kinglet_widen_twos_3),
}

/// Steps that the loop over inputs is written out for.
pub(super) const STEPS: usize = 8;

/// Sums of weights by twos are larger by so many bits.
pub(super) const TWOS_SHIFT: u32 = 8;

#[derive(Clone, Copy, Default)]
pub struct DenseI8<const OPS: u128>(Dense<Integers>);

impl<const OPS: u128> Microkernel for DenseI8<OPS> {
    shared!();

    #[inline(always)]
    fn tile(pixels: usize, blocks: usize, room: usize) -> (usize, usize) {
        tile(WIDENED, pixels, blocks, room)
    }

    fn multiply(&self, x: &Inputs<'_, u8>, w: &Weights<'_, i8>, to: Sums<'_, i32>) {
        let width = w.width();
        let (sums, scratch) = to.so_far();
        if sums.len() < x.pixels * width {
            return;
        }
        if let Some(one) = One::new(x, w) {
            for (sums, c) in sums.chunks_mut(4).zip((0..width).step_by(4)) {
                sums.iter_mut().zip(one.sums(c)).for_each(|(sum, v)| *sum = sum.wrapping_add(v));
            }
            return;
        }
        let Some(mut tile) = Tile::<OPS>::new(x, w, scratch) else { return };
        for from in (0..x.pixels).step_by(WIDENED) {
            let n = WIDENED.min(x.pixels - from);
            tile.pixels = n;
            tile.widen(from);
            for c in (0..width).step_by(2) {
                let got = tile.pair(c);
                for (p, got) in got.as_chunks::<2>().0.iter().take(n).enumerate() {
                    let sums = sums.get_mut((from + p) * width + c..).unwrap_or(&mut []);
                    for (sum, &v) in sums.iter_mut().zip(got).take(width - c) {
                        *sum = sum.wrapping_add(v);
                    }
                }
            }
        }
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
        let Some(bytes) = Bytes::of(rounding, x, w, out).filter(|_| x.rows.len() * x.taps == w.extents.lines) else {
            return false;
        };
        if !One::new(x, w).is_some_and(|one| one.round(&bytes, out)) {
            let Some(mut tile) = Tile::<OPS>::new(x, w, scratch) else { return false };
            tile.round(&bytes, out);
        }
        bytes.finish(out);
        true
    }
}

/// Whether weights lie as these kernels read them.
pub(crate) fn takes(p: &Packing) -> bool {
    *p == TARGET.info().long_bytes || by_twos(p)
}

/// Whether they lie by twos.
pub(super) fn by_twos(p: &Packing) -> bool {
    *p == TARGET.info().bounded_bytes
}

/// Some pixels at a time of a line, their inputs widened.
struct Tile<'a, const OPS: u128> {
    x: &'a Inputs<'a, u8>,
    w: &'a Weights<'a, i8>,
    panel: &'a mut [u32],
    /// Inputs of a channel there are, and where their weights begin.
    depth: usize,
    first: usize,
    /// Fours of inputs of a line.
    fours: usize,
    /// Pixels that are widened at once.
    pixels: usize,
    /// Weights lie by twos.
    twos: bool,
}

impl<'a, const OPS: u128> Tile<'a, OPS> {
    /// Weights may lie in plain order.
    const PLAIN: bool = OpSet::from_bits(OPS).holds(OpSet::PLAIN);

    /// `None` if something is not there.
    fn new(x: &'a Inputs<'a, u8>, w: &'a Weights<'a, i8>, scratch: &'a mut [u8]) -> Option<Self> {
        let line = w.packing.line(&w.extents);
        let all = w.packing.depth(&w.extents);
        let (first, depth) = (w.first_row * x.taps * line, x.rows.len() * x.taps * line);
        let (_, panel, _) = bytemuck::pod_align_to_mut::<u8, u32>(scratch);
        let fits = takes(&w.packing)
            && x.signed
            && depth > 0
            && x.fit(line)
            && first + depth <= all
            && w.channels.0.is_multiple_of(2)
            && w.channels.1.next_multiple_of(2) * all <= w.data.len()
            && panel.len() >= WIDENED.min(x.pixels) * depth / 2;
        debug_assert!(fits, "a tile of {} pixels and {} channels", x.pixels, w.width());
        let twos = by_twos(&w.packing);
        (fits && (twos || Self::PLAIN)).then_some(Tile { x, w, panel, depth, first, fours: line / 4, pixels: 0, twos })
    }

    /// Widens the inputs of pixels from `from` on.
    fn widen(&mut self, from: usize) {
        let (x, fours) = (self.x, self.fours);
        let widen = if const { Self::PLAIN } && !self.twos { &WIDEN } else { &WIDEN_TWOS };
        let Some(widen) = widen.get(self.pixels - 1) else { return };
        let mut to = self.panel.as_mut_ptr();
        for row in x.rows {
            for t in 0..x.taps {
                // SAFETY: `new` has checked that so many inputs are there under all pixels, and the room in the panel.
                to = unsafe { widen(row.as_ptr().add(from * x.step + t * x.tap_step), x.step, fours, to) };
            }
        }
    }

    /// The function for `n` pixels; what it must know of them is set in its frame.
    fn function(&mut self, n: usize, frame: &mut Frame) -> unsafe extern "C" fn(&Frame, *const i8) {
        let loops = if const { Self::PLAIN } && !self.twos { &PLAIN } else { &TWOS };
        let Loop { run, steps, end } = &loops[(n - 1).min(WIDENED - 1)];
        let step = (*end as usize - *steps as usize) / STEPS;
        // The loop is entered where as many steps are left as the first round is short of.
        let left_out = (STEPS - self.depth / 4 % STEPS) % STEPS;
        frame.panel = self.panel.as_ptr();
        frame.panel_end = frame.panel.wrapping_add(self.depth / 2 * n);
        // Addresses of instructions are odd.
        frame.entry = (*steps as usize + left_out * step) | 1;
        self.pixels = n;
        *run
    }

    /// The weights of pairs of channels from `channel` of the tile on.
    fn weights(&self, channel: usize) -> *const i8 {
        let all = self.w.packing.depth(&self.w.extents);
        self.w.data.as_ptr().wrapping_add((self.w.channels.0 + channel) * all + 2 * self.first)
    }

    /// The sums of a pair of channels, `[pixel][2]`, from 0.
    fn pair(&mut self, channel: usize) -> [i32; 2 * WIDENED] {
        extern "C" fn keep(pair: &mut Pair) {
            // SAFETY: the array below.
            unsafe { *pair.frame.context.cast_mut().cast() = pair.sums }
        }
        let (zeros, mut sums) = ([0; 2], [0; 2 * WIDENED]);
        let depth = self.w.packing.depth(&self.w.extents);
        let weights = self.w.data.get(self.w.channels.0 * depth + 2 * self.first..).unwrap_or(&[]);
        let odd = |j: usize| odd(weights, depth, self.depth, channel + j);
        let starts = if self.twos { [0, 1].map(|j| -127 * odd(j)) } else { zeros };
        let y: *mut u8 = core::ptr::null_mut();
        let mut frame = Frame {
            y,
            y_end: y.wrapping_add(2),
            bias: starts.as_ptr(),
            integers: zeros.as_ptr(),
            other: Some(keep),
            context: (&raw mut sums).cast_const().cast(),
            ..Frame::EMPTY
        };
        let function = self.function(self.pixels, &mut frame);
        // SAFETY: `new` has checked the weights and the panel. One pair, which has no integers: nothing is stored.
        unsafe { function(&frame, self.weights(channel)) };
        sums
    }

    /// Computes and rounds all channels of all pixels.
    #[inline(never)]
    fn round(&mut self, bytes: &Bytes<'_>, out: &mut PixelsMut<'_, u8>) {
        let (width, y) = (self.w.width(), out.as_mut_ptr());
        let integers = bytes.integers(0).filter(|m| m.len() >= width);
        let pairs = if integers.is_some() { width & !1 } else { 0 };
        let mut context = Context { bytes, y: y as usize, width, pixels: 0 };
        let (other, distance): (Option<extern "C" fn(&mut Pair)>, _) = match bytes.from_integers() {
            Some(distance) => (None, distance),
            None => (Some(round), (&raw const context).cast()),
        };
        let mut frame = Frame {
            y,
            y_end: y.wrapping_add(pairs),
            step: out.step(),
            zero: bytes.addend() << if self.twos { TWOS_SHIFT } else { 0 },
            bias: bytes.starts(self.twos).as_ptr(),
            integers: integers.map_or(core::ptr::null(), |m| m.as_ptr()),
            other,
            context: distance,
            ..Frame::EMPTY
        };
        let weights = self.weights(0);
        let mut function = self.function(WIDENED, &mut frame);
        for from in (0..self.x.pixels).step_by(WIDENED) {
            let n = WIDENED.min(self.x.pixels - from);
            if n < WIDENED {
                function = self.function(n, &mut frame);
            }
            self.widen(from);
            (context.y, context.pixels) = (frame.y as usize, n);
            if pairs > 0 {
                // SAFETY: `new` has checked the weights and the panel; the caller, that there are so many biases and results. Pairs are whole.
                unsafe { function(&frame, weights) };
            }
            if pairs < width {
                self.rest(&context, pairs, &frame, function);
            }
            frame.y = frame.y.wrapping_add(n * frame.step);
            frame.y_end = frame.y_end.wrapping_add(n * frame.step);
        }
    }

    /// Computes and rounds what is left from `channel` on: a channel without a partner, or pairs without integers.
    #[inline(never)]
    fn rest(
        &self,
        context: &Context<'_>,
        channel: usize,
        frame: &Frame,
        function: unsafe extern "C" fn(&Frame, *const i8),
    ) {
        let zeros = [0; 2];
        for channel in (channel..context.width).step_by(2) {
            let starts = context.bytes.starts(self.twos);
            let bias = [0, 1].map(|j| starts.get(channel + j).copied().unwrap_or(0));
            let y = frame.y.wrapping_add(channel);
            let frame = Frame {
                y,
                y_end: y.wrapping_add(2),
                bias: bias.as_ptr(),
                integers: zeros.as_ptr(),
                other: Some(round),
                context: (&raw const *context).cast(),
                ..*frame
            };
            // SAFETY: one pair, whose results `round` stores as far as they are there.
            unsafe { function(&frame, self.weights(channel)) };
        }
    }
}

/// What [`round`] knows of a tile.
struct Context<'a> {
    bytes: &'a Bytes<'a>,
    /// The results of the first channel.
    y: usize,
    width: usize,
    pixels: usize,
}

/// Rounds the sums of a pair of channels and stores the results.
extern "C" fn round(pair: &mut Pair) {
    // SAFETY: the context of the tile; pixels and channels of it, whose results the caller has.
    unsafe {
        let c = &*pair.frame.context.cast::<Context<'_>>();
        let channel = pair.frame.y as usize - c.y;
        for p in 0..c.pixels {
            for j in 0..2.min(c.width - channel) {
                let byte = c.bytes.round(pair.sums.get(2 * p + j).copied().unwrap_or(0), channel + j);
                *pair.frame.y.add(p * pair.frame.step + j) = byte as u8;
            }
        }
    }
}

impl Frame {
    const EMPTY: Frame = {
        Frame {
            panel: core::ptr::null(),
            bias: core::ptr::null(),
            y: core::ptr::null_mut(),
            integers: core::ptr::null(),
            step: 0,
            zero: 0,
            y_end: core::ptr::null_mut(),
            panel_end: core::ptr::null(),
            entry: 0,
            other: None,
            context: core::ptr::null(),
        }
    };
}
