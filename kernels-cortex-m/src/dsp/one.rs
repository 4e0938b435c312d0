//! Dense products of one pixel whose weights lie by twos: four channels at a time, the inputs where they lie. (A fully connected layer is nothing else.)

use core::ffi::c_void;

use kinglet::product::{Inputs, Weights};
use kinglet::rows::PixelsMut;

use super::dense::{STEPS, TWOS_SHIFT, by_twos};
use crate::rounding::Bytes;

/// What `kinglet_one` works on, word by word as it reads them.
#[repr(C)]
struct Frame {
    /// The inputs.
    x: *const u8,
    /// The weights of the next two channels, and bytes from there to those of the other two.
    weights: *const i8,
    panel: usize,
    y: *mut u8,
    y_end: *mut u8,
    /// What sums begin with.
    starts: *const i32,
    integers: *const i32,
    zero: i32,
    /// Where the loop over inputs, which is written out eight times, begins.
    entry: usize,
    x_end: *const u8,
    /// Called for each four without integers, if there is such a function: on a core without floats, or for sums that are not rounded.
    other: Option<extern "C" fn(&mut Four)>,
    /// For it; without it the bytes from an integer to the float that the same is rounded with.
    context: *const c_void,
}

/// What it calls for four channels: its copy of the frame, and the sums.
#[repr(C)]
struct Four {
    frame: Frame,
    sums: [i32; FOUR],
}

/// Channels at a time.
const FOUR: usize = 4;

unsafe extern "C" {
    safe static kinglet_one_steps: u8;
    safe static kinglet_one_end: u8;
    fn kinglet_one(frame: &Frame);
}

/// One pixel and its weights.
pub struct One<'a> {
    inputs: &'a [u8],
    /// From the tile's first channel on.
    weights: &'a [i8],
    width: usize,
}

impl<'a> One<'a> {
    /// `None` if there are more pixels, or lines, than one, or if something is not there.
    pub fn new(x: &Inputs<'a, u8>, w: &Weights<'a, i8>) -> Option<Self> {
        let [row] = x.rows else { return None };
        let depth = w.packing.depth(&w.extents);
        let one = x.pixels == 1 && x.taps == 1 && w.extents.lines == 1 && depth > 0;
        if !one || !by_twos(&w.packing) || !x.signed || !w.channels.0.is_multiple_of(2) {
            return None;
        }
        let weights = w.data.get(w.channels.0 * depth..)?;
        let width = w.width();
        let all = weights.len() >= width.next_multiple_of(2) * depth;
        Some(One { inputs: row.get(..depth).filter(|_| all)?, weights, width })
    }

    /// Computes fours of channels from `channel` on, until `frame.y_end`.
    ///
    /// # Safety
    /// These are channels of the tile; starts and integers are there for all of them, and results where the frame says.
    unsafe fn run(&self, channel: usize, frame: Frame) {
        let depth = self.inputs.len();
        let (steps, end) = (&raw const kinglet_one_steps, &raw const kinglet_one_end);
        let step = (end as usize - steps as usize) / STEPS;
        // The loop is entered where as many steps are left as the first round is short of.
        let left_out = (STEPS - depth / 4 % STEPS) % STEPS;
        let frame = Frame {
            x: self.inputs.as_ptr(),
            x_end: self.inputs.as_ptr_range().end,
            weights: self.weights.as_ptr().wrapping_add(channel * depth),
            // Of no more than two channels the others are the same.
            panel: if self.width - channel > 2 { 2 * depth } else { 0 },
            // Addresses of instructions are odd.
            entry: (steps as usize + left_out * step) | 1,
            ..frame
        };
        // SAFETY: `new` has checked inputs and weights; the rest is the caller's.
        unsafe { kinglet_one(&frame) }
    }

    /// The sums of four channels from `channel` on, from 0.
    pub fn sums(&self, channel: usize) -> [i32; FOUR] {
        extern "C" fn keep(four: &mut Four) {
            // SAFETY: the array below.
            unsafe { *four.frame.context.cast_mut().cast() = four.sums }
        }
        let (zeros, mut sums) = ([0; FOUR], [0; FOUR]);
        let depth = self.inputs.len();
        let starts = [0, 1, 2, 3].map(|j| -127 * odd(self.weights, depth, depth, channel + j));
        let y: *mut u8 = core::ptr::null_mut();
        let frame = Frame {
            y,
            y_end: y.wrapping_add(FOUR),
            starts: starts.as_ptr(),
            integers: zeros.as_ptr(),
            other: Some(keep),
            context: (&raw mut sums).cast_const().cast(),
            ..Frame::EMPTY
        };
        // SAFETY: four channels without integers: nothing is stored.
        unsafe { self.run(channel, frame) };
        sums
    }

    /// Computes and rounds all channels; `false` if they have no integers.
    #[inline(never)]
    pub fn round(&self, bytes: &Bytes<'_>, out: &mut PixelsMut<'_, u8>) -> bool {
        let width = self.width;
        let Some(integers) = bytes.integers(0).filter(|m| m.len() >= width) else { return false };
        let fours = width / FOUR * FOUR;
        let zero = bytes.addend() << TWOS_SHIFT;
        if fours > 0 {
            let y = out.as_mut_ptr();
            let context = Context { bytes, y: y as usize, channel: 0, width };
            let (other, context) = other(bytes.from_integers(), &context);
            let (starts, integers, y_end) = (bytes.starts(true).as_ptr(), integers.as_ptr(), y.wrapping_add(fours));
            let frame = Frame { y, y_end, starts, integers, zero, other, context, ..Frame::EMPTY };
            // SAFETY: the caller has checked that there are so many starts and results.
            unsafe { self.run(0, frame) };
        }
        if fours < width {
            let mut last = Last { integers: [1; FOUR], floats: [0.0; FOUR], starts: [0; FOUR], y: [0; FOUR] };
            last.integers.iter_mut().zip(integers.iter().skip(fours)).for_each(|(to, &m)| *to = m);
            last.floats.iter_mut().zip(bytes.floats().iter().skip(fours)).for_each(|(to, &m)| *to = m);
            last.starts.iter_mut().zip(bytes.starts(true).iter().skip(fours)).for_each(|(to, &s)| *to = s);
            let y = last.y.as_mut_ptr();
            let context = Context { bytes, y: y as usize, channel: fours, width };
            let distance = bytes.from_integers().map(|_| core::ptr::without_provenance(size_of_val(&last.integers)));
            let (other, context) = other(distance, &context);
            let (starts, integers, y_end) = (last.starts.as_ptr(), last.integers.as_ptr(), y.wrapping_add(FOUR));
            let frame = Frame { y, y_end, starts, integers, zero, other, context, ..Frame::EMPTY };
            // SAFETY: four of each.
            unsafe { self.run(fours, frame) };
            let results = out.run(0).iter_mut().skip(fours);
            results.zip(last.y).for_each(|(to, y)| *to = y);
        }
        true
    }
}

/// What rounds by floats: the function, where the core has none, with its context, or how far the floats are from the integers.
fn other(distance: Option<*const c_void>, context: &Context<'_>) -> (Option<extern "C" fn(&mut Four)>, *const c_void) {
    match distance {
        Some(distance) => (None, distance),
        None => (Some(round), (&raw const *context).cast()),
    }
}

/// What belongs to the last channels, of which there are fewer than four. Floats lie behind the integers.
#[repr(C)]
struct Last {
    integers: [i32; FOUR],
    floats: [f32; FOUR],
    starts: [i32; FOUR],
    y: [u8; FOUR],
}

/// What [`round`] knows.
struct Context<'a> {
    bytes: &'a Bytes<'a>,
    /// The results of channel `channel`.
    y: usize,
    channel: usize,
    width: usize,
}

/// Rounds the sums of four channels and stores the results of those that there are.
extern "C" fn round(four: &mut Four) {
    // SAFETY: the context of the pixel, whose results the caller has.
    unsafe {
        let c = &*four.frame.context.cast::<Context<'_>>();
        let channel = c.channel + (four.frame.y as usize - c.y);
        for (j, &sum) in four.sums.iter().enumerate().take(c.width - channel) {
            *four.frame.y.add(j) = c.bytes.round(sum, channel + j) as u8;
        }
    }
}

/// The sum of the first `n` weights of a channel, of `depth`, that are the second of two. (What sums begin with comes with roundings alone: the compiler
/// lets only such steps have weights by twos.)
pub fn odd(weights: &[i8], depth: usize, n: usize, channel: usize) -> i32 {
    let from = channel / 2 * 2 * depth + channel % 2 * 4;
    let fours = weights.get(from..).unwrap_or(&[]).chunks(8).take(n / 4);
    fours.flat_map(|four| [0, 2].map(|i| four.get(i).map_or(0, |&w| i32::from(w)))).sum()
}

impl Frame {
    const EMPTY: Frame = Frame {
        x: core::ptr::null(),
        weights: core::ptr::null(),
        panel: 0,
        y: core::ptr::null_mut(),
        y_end: core::ptr::null_mut(),
        starts: core::ptr::null(),
        integers: core::ptr::null(),
        zero: 0,
        entry: 0,
        x_end: core::ptr::null(),
        other: None,
        context: core::ptr::null(),
    };
}
