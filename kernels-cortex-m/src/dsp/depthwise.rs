//! Depthwise products of bytes: four channels at a time of a line, whose inputs are widened to halfwords and taken apart by channels, so that
//! one instruction multiplies two taps.

use core::arch::{asm, global_asm};
use core::ffi::c_void;
use core::ops::Range;

use kinglet::elementwise::Elementwise;
use kinglet::kernels::OpSet;
use kinglet::product::{
    Depthwise, Finish, Inputs, Integers, Microkernel, Place, Rounding, Sign, Sums, Weights, pairs_of_weights,
};
use kinglet::rows::{PixelsMut, View};

use super::TARGET;
use crate::rounding::Bytes;
use crate::shared::shared;

global_asm!(
    core_directives!(),
    include_str!("depthwise.s"),
    include_str!("few.s"),
    include_str!("wide.s"),
    options(raw)
);

/// Channels of a panel.
pub(super) const CHANNELS: usize = 4;

/// What a function of `depthwise.s` works on, word by word as it reads them.
#[repr(C)]
struct Frame {
    /// The widened inputs of the next channel, and bytes from row to row of them.
    x: *const i16,
    row: usize,
    weights: *const i8,
    bias: *const i32,
    integers: *const i32,
    /// The results of the next channel at the first pixel, and where they end.
    y: *mut u8,
    y_end: *mut u8,
    /// Bytes of inputs to the end of the pixels that have a partner, and of all (of taps in one row: pixels, and fours of taps).
    full: usize,
    all: usize,
    integer: i32,
    zero: i32,
    /// Bytes from the results of a pixel to those of the next.
    step: usize,
    /// Of taps in one row, bytes of inputs from pixel to pixel.
    end: usize,
    first: i32,
    /// Called for each two pixels of a channel without an integer, if there is such a function: on a core without floats.
    other: Option<extern "C" fn(&mut Two)>,
    /// For it; without it the bytes from an integer to the float that the same is rounded with.
    context: *const c_void,
}

/// What it calls for two pixels: its copy of the frame, and the sums.
#[repr(C)]
struct Two {
    frame: Frame,
    sums: [i32; 2],
    pixel: usize,
}

/// What `kinglet_depthwise_few` (`few.s`) works on, word by word as it reads them.
#[repr(C)]
struct Few {
    /// Room for the widened weights of nine taps.
    weights: *mut [u32; 18],
    /// Biases of the next four channels.
    bias: *const i32,
    /// Room for the scales of these, the zero point and which kind they are: see `floats`.
    scales: *const c_void,
    zero: i32,
    /// Bytes from the results of a pixel to those of the next, where they end, and where they begin.
    y_step: usize,
    y_end: *mut u8,
    y: *mut u8,
    /// Bytes from the inputs of a pixel to those of the next.
    step: usize,
    rows: [*const u8; 3],
    /// Bytes from tap to tap.
    tap_step: usize,
    /// The scales are floats, on a core that has them.
    floats: usize,
    /// Weights as they lie in the plan.
    packed: *const i8,
    /// Integers of the next four channels, and bytes from there to their floats.
    integers: *const i32,
    distance: *const c_void,
    /// What is added to a sum times its integer.
    addend: i32,
    /// Fours of channels.
    groups: usize,
}

/// Pixels of a line up to which inputs are multiplied where they lie. To take them apart costs as much as some pixels, and more the more of them a stride
/// passes over.
const FEW: usize = 12;

unsafe extern "C" {
    fn kinglet_depthwise_few(frame: &Few);
    fn kinglet_depthwise_1(frame: &Frame);
    fn kinglet_depthwise_2(frame: &Frame);
    fn kinglet_depthwise_taps(frame: &Frame);
    fn kinglet_planes(x: *const u8, step: usize, plane: usize, to: *mut i16, pixels: usize);
}

#[derive(Clone, Copy, Default)]
pub struct DepthwiseI8<const OPS: u128>(Depthwise<Integers>);

impl<const OPS: u128> Microkernel for DepthwiseI8<OPS> {
    shared!();

    const TAPS_OF_FRAMES: bool = true;

    #[inline(always)]
    fn tile(pixels: usize, blocks: usize, room: usize) -> (usize, usize) {
        let pixels = pixels.min(room).max(1);
        (pixels, blocks.min(room / pixels).max(1))
    }

    fn multiply(&self, x: &Inputs<'_, u8>, w: &Weights<'_, i8>, to: Sums<'_, i32>) {
        let width = w.width();
        let (sums, scratch) = to.so_far();
        let Some(mut line) = Line::new(x, w, scratch).filter(|_| sums.len() >= x.pixels * width) else { return };
        for channel in (0..width).step_by(CHANNELS) {
            line.each_run(channel, |line, from, n| {
                for c in channel..width.min(channel + CHANNELS) {
                    line.sums(c, n, |pixel, sum| {
                        if let Some(to) = sums.get_mut((from + pixel) * width + c) {
                            *to = to.wrapping_add(sum);
                        }
                    });
                }
            });
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
        let width = w.width();
        let Some(bytes) = Bytes::of(rounding, x, w, out) else { return false };
        let Some(mut line) = Line::new(x, w, scratch) else { return false };
        for channel in (line.few::<OPS>(&bytes, out)..width).step_by(CHANNELS) {
            line.each_run(channel, |line, from, n| line.round::<OPS>(&bytes, channel, (from, n), out));
        }
        bytes.finish(out);
        true
    }
}

/// A line of pixels, of which some at a time lie widened.
pub(super) struct Line<'a> {
    pub(super) x: &'a Inputs<'a, u8>,
    pub(super) w: &'a Weights<'a, i8>,
    /// Pairs of weights of a channel, `[kernel row][taps / 2]`, or as `wide.s` has them.
    pub(super) pairs: &'a mut [u32],
    /// Widened inputs, `[channel][kernel row][column]`.
    pub(super) planes: &'a mut [i16],
    /// Columns of a row of them.
    pub(super) row: usize,
    /// Columns from pixel to pixel, and from tap to tap.
    pub(super) stride: usize,
    pub(super) dilation: usize,
}

impl<'a> Line<'a> {
    /// `None` if something is not there.
    fn new(x: &'a Inputs<'a, u8>, w: &'a Weights<'a, i8>, scratch: &'a mut [u8]) -> Option<Self> {
        let e = &w.extents;
        let rows = x.rows.len();
        let fits = w.packing == TARGET.info().depthwise_bytes
            && x.signed
            && x.column > 0
            && x.step.is_multiple_of(x.column)
            && x.fit(w.width())
            && w.channels.0.is_multiple_of(CHANNELS)
            && w.channels.1 <= e.channels
            && e.channels.next_multiple_of(CHANNELS) * w.packing.depth(e) <= w.data.len()
            && (along_time(x, w) || w.first_row + rows <= e.length && x.taps <= e.lines);
        let (_, words, _) = bytemuck::pod_align_to_mut::<u8, u32>(scratch);
        let pairs = pairs_of_weights(rows as u64, x.taps as u64) as usize;
        debug_assert!(fits && words.len() >= pairs, "a tile of {} pixels and {} channels", x.pixels, w.width());
        if !fits || rows == 0 || x.taps == 0 || x.pixels == 0 {
            return None;
        }
        let (pairs, planes) = words.split_at_mut_checked(pairs)?;
        let planes: &mut [i16] = bytemuck::cast_slice_mut(planes);
        // Fours of columns, and four more that are read but do not count.
        let row = planes.len() / (CHANNELS * rows).max(1) & !3;
        let (stride, dilation) = (x.step / x.column, x.tap_step / x.column);
        let one = (x.taps - 1) * dilation + 1;
        (row >= one.next_multiple_of(4) + 4).then_some(Line { x, w, pairs, planes, row, stride, dilation })
    }

    /// Columns under `n` pixels.
    fn columns(&self, n: usize) -> usize {
        (n - 1) * self.stride + (self.x.taps - 1) * self.dilation + 1
    }

    /// Widens the inputs of four channels, those of some pixels at a time, and calls `f(self, first pixel, pixels)`.
    fn each_run(&mut self, channel: usize, mut f: impl FnMut(&mut Self, usize, usize)) {
        let all = self.row;
        let span = (self.x.taps - 1) * self.dilation + 1;
        let most = ((all - 4 - span) / self.stride.max(1) + 1).min(self.x.pixels);
        let mut from = 0;
        while from < self.x.pixels {
            let n = most.min(self.x.pixels - from);
            let columns = self.columns(n);
            self.row = columns.next_multiple_of(4) + 4;
            self.widen(channel, from, columns);
            f(self, from, n);
            from += n;
        }
        self.row = all;
    }

    fn widen(&mut self, channel: usize, from: usize, columns: usize) {
        let (x, row) = (self.x, self.row);
        let rows = x.rows.len();
        let there = CHANNELS.min(self.w.width() - channel);
        let plane = 2 * rows * row;
        for (r, line) in x.rows.iter().enumerate() {
            let first = line.as_ptr().wrapping_add(from * x.step + channel);
            let Some(to) = self.planes.get_mut(r * row..) else { return };
            let to = to.as_mut_ptr();
            if there == CHANNELS {
                // SAFETY: `new` has checked that the inputs are there at all taps of all pixels, and all columns between them are; the planes
                // have room for all columns, by fours.
                unsafe { kinglet_planes(first, x.column, plane, to, columns) };
                continue;
            }
            for at in (0..columns).step_by(4) {
                let n = 4.min(columns - at);
                let mut four = [0u32; 4];
                for (i, four) in four.iter_mut().enumerate().take(n) {
                    let pixel = first.wrapping_add((at + i) * x.column);
                    // SAFETY: as above, of the channels that are there.
                    *four = (0..there).fold(0, |word, c| word | u32::from(unsafe { *pixel.add(c) }) << (8 * c));
                }
                // SAFETY: as above; pixels side by side.
                unsafe { kinglet_planes(four.as_ptr().cast(), 4, plane, to.add(at), n) };
            }
        }
    }

    /// Calls `f(pixel, sum)` for all `n` pixels of channel `c`, whatever the kernel.
    fn sums(&mut self, c: usize, n: usize, mut f: impl FnMut(usize, i32)) {
        let (x, w, e) = (self.x, self.w, &self.w.extents);
        let (rows, half) = (x.rows.len(), x.taps.div_ceil(2));
        let channel = w.channels.0 + c;
        let panel = w.data.get(channel / CHANNELS * CHANNELS * w.packing.depth(e)..).unwrap_or(&[]);
        // The weights of a row lie so far apart in a channel's list.
        let apart = if along_time(x, w) { 1 } else { w.packing.line(e) };
        let weight = |r: usize, t: usize| {
            let k = t * apart + w.first_row + r;
            let at = (k & !3) * CHANNELS + channel % CHANNELS * 4 + (k & 3);
            if t < x.taps { panel.get(at).map_or(0, |&w| i32::from(w)) } else { 0 }
        };
        for (r, t) in (0..rows).flat_map(|r| (0..half).map(move |t| (r, t))) {
            if let Some(pair) = self.pairs.get_mut(r * half + t) {
                *pair = (weight(r, 2 * t) as u16 as u32) | (weight(r, 2 * t + 1) as u32) << 16;
            }
        }
        let first = c % CHANNELS * rows * self.row;
        let plane = self.planes.get(first..first + rows * self.row).unwrap_or(&[]);
        let dilation = self.dilation;
        for pixel in 0..n {
            let mut sum = 0;
            for r in 0..rows {
                let row = plane.get(r * self.row..(r + 1) * self.row).unwrap_or(&[]);
                let pairs = self.pairs.get(r * half..(r + 1) * half).unwrap_or(&[]);
                let Some(window) = row.get(pixel * self.stride..) else { continue };
                debug_assert!(window.len() > (x.taps - 1) * dilation + 1);
                let mut at = window.as_ptr();
                if dilation == 1 {
                    for &w in pairs {
                        // SAFETY: the row has the columns under all taps of all `n` pixels, and one more.
                        unsafe {
                            sum = smlad(at.cast::<u32>().read_unaligned(), w, sum);
                            at = at.add(2);
                        }
                    }
                } else {
                    for (t, &w) in pairs.iter().enumerate() {
                        // Of an odd number of taps the last has no partner, and its weight is 0.
                        let next = if 2 * t + 1 < x.taps { dilation } else { 0 };
                        // SAFETY: as above.
                        let two = unsafe { *at as u16 as u32 | (*at.add(next) as u16 as u32) << 16 };
                        sum = smlad(two, w, sum);
                        at = at.wrapping_add(2 * dilation);
                    }
                }
            }
            f(pixel, sum);
        }
    }

    /// Computes and rounds fours of channels of few pixels under a window of 3 by 3, or of any along time, and says how many channels these were.
    fn few<const OPS: u128>(&mut self, bytes: &Bytes<'_>, out: &mut PixelsMut<'_, u8>) -> usize {
        let (x, w) = (self.x, self.w);
        if along_time(x, w) {
            // (A window of one pixel is one along time, too.)
            let linked = const { OpSet::from_bits(OPS).holds(OpSet::FRAMES) };
            return if linked { self.frames(bytes, out) } else { 0 };
        }
        let few = x.pixels <= FEW * self.stride && x.taps == 3 && w.first_row == 0;
        let groups = w.width() / CHANNELS;
        let packed = w.data.get(w.channels.0 * w.packing.depth(&w.extents)..);
        let (true, Ok(rows), Some(room), Some(packed), Some(integers)) = (
            few && groups > 0,
            <[&[u8]; 3]>::try_from(x.rows),
            self.planes.first_chunk_mut::<36>(),
            packed,
            bytes.integers(0).filter(|m| m.len() >= w.width()),
        ) else {
            return 0;
        };
        let distance = bytes.from_integers();
        if distance.is_none() && integers.contains(&0) {
            return 0;
        }
        let y = out.as_mut_ptr();
        let frame = Few {
            weights: room.as_mut_ptr().cast(),
            bias: bytes.bias(0).as_ptr(),
            scales: core::ptr::null(),
            zero: 0,
            y_step: out.step(),
            y_end: y.wrapping_add(x.pixels * out.step()),
            y,
            step: x.step,
            rows: rows.map(|row| row.as_ptr()),
            tap_step: x.tap_step,
            floats: 0,
            packed: packed.as_ptr(),
            integers: integers.as_ptr(),
            distance: distance.unwrap_or(core::ptr::null()),
            addend: bytes.addend(),
            groups,
        };
        // SAFETY: `new` has checked that the inputs of all channels are there under all taps of all pixels, and weights of whole panels; the caller, that
        // so many biases, floats and results are. The room lies at a multiple of four, behind pairs that are words.
        unsafe { kinglet_depthwise_few(&frame) };
        CHANNELS * groups
    }

    /// Computes and rounds four channels of some pixels.
    fn round<const OPS: u128>(
        &mut self,
        bytes: &Bytes<'_>,
        channel: usize,
        (from, n): (usize, usize),
        out: &mut PixelsMut<'_, u8>,
    ) {
        let there = CHANNELS.min(self.w.width() - channel);
        let windows = self.x.rows.len() == 3 && self.x.taps == 3 && self.stride <= 2;
        let windows = (windows || along_time(self.x, self.w)) && self.dilation == 1;
        if let Some(integers) = bytes.integers(channel).filter(|m| windows && m.len() >= there) {
            return self.windows(bytes, channel, (from, n), (integers, there), out);
        }
        if const { !OpSet::from_bits(OPS).holds(OpSet::WIDE) } {
            return;
        }
        for c in channel..channel + there {
            if self.wide(bytes, c, (from, n), out) {
                continue;
            }
            let bias = bytes.bias_of(c);
            self.sums(c, n, |pixel, sum| {
                if let Some(byte) = out.run(from + pixel).get_mut(c) {
                    *byte = bytes.round(sum.wrapping_add(bias), c) as u8;
                }
            });
        }
    }

    /// As `round`, under windows of 3 by 3 and along time.
    fn windows(
        &self,
        bytes: &Bytes<'_>,
        channel: usize,
        (from, n): (usize, usize),
        (integers, there): (&[i32], usize),
        out: &mut PixelsMut<'_, u8>,
    ) {
        struct Context<'a> {
            bytes: &'a Bytes<'a>,
            y: usize,
            channel: usize,
            pixels: usize,
        }
        extern "C" fn round(two: &mut Two) {
            // SAFETY: the context below; pixels and channels whose results the caller has.
            unsafe {
                let c = &*two.frame.context.cast::<Context<'_>>();
                let channel = c.channel + (two.frame.y as usize - c.y);
                for (i, &sum) in two.sums.iter().enumerate().take(c.pixels - two.pixel) {
                    *two.frame.y.add((two.pixel + i) * two.frame.step) = c.bytes.round(sum, channel) as u8;
                }
            }
        }
        let (w, step) = (self.w, out.step());
        let Some(weights) = w.data.get((w.channels.0 + channel) * w.packing.depth(&w.extents)..) else { return };
        let y = out.as_mut_ptr().wrapping_add(from * step + channel);
        let context = Context { bytes, y: y as usize, channel, pixels: n };
        let (other, context): (Option<extern "C" fn(&mut Two)>, _) = match bytes.from_integers() {
            Some(distance) => (None, distance),
            None => (Some(round), (&raw const context).cast()),
        };
        let along_time = along_time(self.x, w);
        let turn = 4 * self.stride;
        let frame = Frame {
            x: self.planes.as_ptr(),
            row: 2 * self.row,
            weights: weights.as_ptr(),
            bias: bytes.bias(channel).as_ptr(),
            integers: integers.as_ptr(),
            y,
            y_end: y.wrapping_add(there),
            full: if along_time { n } else { n / 2 * turn },
            all: if along_time { self.x.taps.div_ceil(4) } else { n.div_ceil(2) * turn },
            integer: 0,
            zero: bytes.addend(),
            step,
            end: 2 * self.stride,
            first: 0,
            other,
            context,
        };
        // SAFETY: the inputs were widened, with columns to spare; the caller has checked biases, integers and results of so many channels.
        unsafe {
            match self.stride {
                _ if along_time => kinglet_depthwise_taps(&frame),
                1 => kinglet_depthwise_1(&frame),
                _ => kinglet_depthwise_2(&frame),
            }
        }
    }
}

/// Whether the taps of a row are the frames under a window along time, which weights know as rows.
pub(super) fn along_time(x: &Inputs<'_, u8>, w: &Weights<'_, i8>) -> bool {
    x.rows.len() == 1 && w.extents.lines == 1 && x.taps == w.extents.length
}

/// The sum of the products of two halfwords with two others, and another.
#[inline(always)]
fn smlad(x: u32, w: u32, mut sum: i32) -> i32 {
    // SAFETY: arithmetic on registers. (It may set the flag of saturation, which nobody reads.)
    unsafe {
        asm!("smlad {sum}, {x}, {w}, {sum}", sum = inout(reg) sum, x = in(reg) x, w = in(reg) w, options(pure, nomem, nostack));
    }
    sum
}
