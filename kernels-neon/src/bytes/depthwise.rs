//! Depthwise products of bytes.
//!
//! Weights lie by fours: a word has those of four kernel rows at a column and channel. With the dot product the rows under a tile are
//! interleaved alike first, so that it adds four taps to each sum. Without it the words are taken apart again, and taps are
//! multiplied one by one, two of them before the sums are widened.

use core::arch::aarch64::*;
use core::arch::asm;
use core::ops::Range;

use kinglet::elementwise::Elementwise;
use kinglet::product::{
    Depthwise, Finish, Inputs, Integers, MOST_ROWS, Microkernel, Place, Rounding, Sign, Sums, Weights,
};
use kinglet::rows::{PixelsMut, View};

use super::copy;
use super::ends::{Bytes, End, Keep};
use super::round::{Four, are_finite};
use crate::{Level, Neon, by_runs, reals, some};

/// Channels of a panel.
const CHANNELS: usize = 16;

/// As many pixels and panels of 16 channels as there is room for.
#[derive(Clone, Copy)]
pub(crate) struct DepthwiseI8(Neon);

impl From<Neon> for DepthwiseI8 {
    fn from(set: Neon) -> Self {
        DepthwiseI8(set)
    }
}

impl Microkernel for DepthwiseI8 {
    type X = u8;
    type W = i8;
    type Sum = i32;
    type Out = f32;
    const ROUNDS: bool = true;

    #[inline(always)]
    fn tile(pixels: usize, _: usize, room: usize) -> (usize, usize) {
        let pixels = pixels.clamp(1, room);
        (pixels, room / pixels)
    }

    #[inline(always)]
    fn in_place<'a>(&self, x: &View<'a>, start: usize, len: usize) -> Option<&'a [u8]> {
        Some(x.slice(start, len))
    }

    fn copy(&self, x: &View<'_>, start: usize, sign: Sign, to: &mut [u8]) {
        copy(x, start, sign, to);
    }

    fn padding(&self, x: &View<'_>, sign: Sign) -> u8 {
        Depthwise::<Integers>::default().padding(x, sign)
    }

    fn multiply(&self, x: &Inputs<'_, u8>, w: &Weights<'_, i8>, to: Sums<'_, i32>) {
        let n = w.width();
        let enough = to.sums.len() >= x.pixels * n;
        let end = Keep { sums: to.sums, fresh: to.fresh, n };
        // SAFETY: there are as many sums.
        let done = enough && unsafe { self.tile_to(x, w, to.scratch, end) };
        debug_assert!(done, "a tile of {} pixels and {n} channels", x.pixels);
    }

    fn finish<E: Elementwise>(&self, f: &mut Finish<'_, E>, to: Place, sums: &mut [i32], other: &mut [f32]) {
        reals::integers(f, to, sums, other);
    }

    fn centred(&self, x: &Inputs<'_, u8>, pixel: usize, at: Range<usize>, sum: i32, zero: i16) -> i32 {
        Depthwise::<Integers>::default().centred(x, pixel, at, sum, zero)
    }

    fn round(
        &self,
        x: &Inputs<'_, u8>,
        w: &Weights<'_, i8>,
        r: &Rounding<'_>,
        scratch: &mut [u8],
        out: &mut PixelsMut<'_, u8>,
    ) -> bool {
        let n = w.width();
        let ends = r.bias.len() >= n && r.multipliers.len() >= n && out.count() >= x.pixels && out.run_len() >= n;
        let end = Bytes::of(r, out);
        // SAFETY: bias, multipliers and the runs of bytes are as long as the tile is wide, and there is a run for each pixel.
        ends && are_finite(&r.multipliers[..n]) && unsafe { self.tile_to(x, w, scratch, end) }
    }
}

impl DepthwiseI8 {
    /// Multiplies a tile; `false` if it is not one that this kernel can do.
    ///
    /// # Safety
    /// `end` can take the sums of all pixels and channels.
    #[inline(always)]
    unsafe fn tile_to<E: End>(self, x: &Inputs<'_, u8>, w: &Weights<'_, i8>, scratch: &mut [u8], mut end: E) -> bool {
        let n = w.width();
        let (line, depth) = (w.packing.line(&w.extents), w.packing.depth(&w.extents));
        let groups = x.rows.len().div_ceil(4);
        let (step, tap_step) = (x.step / x.column, x.tap_step / x.column);
        let columns = (x.pixels.max(1) - 1) * step + (x.taps - 1) * tap_step + 1;
        let fits = by_runs(&w.packing, CHANNELS as u32, 4)
            && x.fit(n)
            && x.pixels > 0
            && x.taps > 0
            && n > 0
            && (1..=MOST_ROWS).contains(&x.rows.len())
            && w.channels.0.is_multiple_of(CHANNELS)
            && w.first_row.is_multiple_of(4)
            && w.first_row + 4 * groups <= line
            && x.taps * line <= depth
            && w.channels.1.next_multiple_of(CHANNELS) * depth <= w.data.len()
            && (columns * groups * 64 <= scratch.len() || self.0.level == Level::Base);
        if !fits {
            return false;
        }
        let each = if x.pixels <= 5 { x.pixels } else { x.pixels.div_ceil(x.pixels.div_ceil(5)) };
        // Columns of which a vector of the last panel is there: beyond the last channels of a row may be nothing.
        let (last, least) = ((n - 1) / CHANNELS * CHANNELS, x.rows.iter().map(|r| r.len()).min().unwrap_or(0));
        let whole = match least.checked_sub(last + CHANNELS) {
            _ if n.is_multiple_of(CHANNELS) => columns,
            Some(more) => columns.min(more / x.column + 1),
            None => 0,
        };
        // Rows by fours; what lacks of the last four is multiplied with zeros, so that any row will do.
        let mut rows = [x.rows[x.rows.len() - 1].as_ptr(); MOST_ROWS];
        rows.iter_mut().zip(x.rows).for_each(|(to, row)| *to = row.as_ptr());
        let mut channel = 0;
        while channel < n {
            let there = CHANNELS.min(n - channel);
            let tile = Tile { x, channel, there, line, groups, step, tap_step };
            let panel = end.panel(channel, n);
            // SAFETY: what is read has just been checked, what is written is the caller's; `self.0` is the proof of its level.
            unsafe {
                let weights = w.data.as_ptr().add((w.channels.0 + channel) * depth + w.first_row * CHANNELS);
                if self.0.level == Level::Base {
                    if w.symmetric {
                        tile.by_taps::<E, true>(weights, &panel, &mut end);
                    } else {
                        tile.by_taps::<E, false>(weights, &panel, &mut end);
                    }
                } else {
                    tile.interleave(&rows, columns, if there == CHANNELS { columns } else { whole }, scratch);
                    let mut first = 0;
                    while first < x.pixels {
                        match each.min(x.pixels - first) {
                            1 => tile.by_dot::<E, 1>(weights, scratch, first, &panel, &mut end),
                            2 => tile.by_dot::<E, 2>(weights, scratch, first, &panel, &mut end),
                            3 => tile.by_dot::<E, 3>(weights, scratch, first, &panel, &mut end),
                            4 => tile.by_dot::<E, 4>(weights, scratch, first, &panel, &mut end),
                            _ => tile.by_dot::<E, 5>(weights, scratch, first, &panel, &mut end),
                        }
                        first += each;
                    }
                }
            }
            channel += CHANNELS;
        }
        true
    }
}

/// A tile that is there.
struct Tile<'a> {
    x: &'a Inputs<'a, u8>,
    /// First channel of the panel in the tile, and how many there are.
    channel: usize,
    there: usize,
    line: usize,
    /// Fours of kernel rows.
    groups: usize,
    /// Columns from one pixel to the next, and from one tap to the next.
    step: usize,
    tap_step: usize,
}

impl Tile<'_> {
    /// Interleaves the rows of so many columns: `[column][four rows][channel][row]`. Of the `whole` ones a vector may be read.
    ///
    /// # Safety
    /// `to` has room for them, and the rows reach as far.
    #[inline(always)]
    unsafe fn interleave(&self, rows: &[*const u8; MOST_ROWS], columns: usize, whole: usize, to: &mut [u8]) {
        let column = self.x.column;
        let apart = self.groups * 64;
        let mut to = to.as_mut_ptr();
        let mut g = 0;
        while g < self.groups {
            // SAFETY: the caller's.
            unsafe {
                let row = |i: usize| rows[(4 * g + i) & (MOST_ROWS - 1)].add(self.channel);
                let from = [row(0), row(1), row(2), row(3)];
                interleave(from, column, whole, to, apart);
                if whole < columns {
                    self.interleave_last(from, whole..columns, to);
                }
                to = to.add(64);
            }
            g += 1;
        }
    }

    /// Interleaves columns of which no vector may be read.
    ///
    /// # Safety
    /// As of [`Tile::interleave`].
    #[inline(never)]
    unsafe fn interleave_last(&self, from: [*const u8; 4], columns: Range<usize>, to: *mut u8) {
        for c in columns {
            let mut last = [[0u8; CHANNELS]; 4];
            // SAFETY: the caller's.
            unsafe {
                for (last, from) in last.iter_mut().zip(from) {
                    core::ptr::copy_nonoverlapping(from.add(c * self.x.column), last.as_mut_ptr(), self.there);
                }
                let from = [last[0].as_ptr(), last[1].as_ptr(), last[2].as_ptr(), last[3].as_ptr()];
                interleave(from, 0, 1, to.add(c * self.groups * 64), 0);
            }
        }
    }

    /// `P` pixels from `first` on, whose rows are interleaved.
    ///
    /// # Safety
    /// The tile has so many, and the CPU the dot product.
    #[inline(always)]
    unsafe fn by_dot<E: End, const P: usize>(
        &self,
        weights: *const i8,
        from: &[u8],
        first: usize,
        panel: &E::Panel,
        end: &mut E,
    ) {
        let column = self.groups * 64;
        // SAFETY: the caller's.
        unsafe {
            let mut acc = [end.start(panel); P];
            let mut from = from.as_ptr().add(first * self.step * column);
            let mut weights = weights;
            // There is at least one of each: where a loop may have nothing to do, sums are kept for that case.
            let mut taps = self.x.taps;
            loop {
                let mut g = 0;
                loop {
                    dots::<P>(&mut acc, from.add(g), self.step * column, weights.add(g));
                    g += 64;
                    if g == column {
                        break;
                    }
                }
                from = from.wrapping_add(self.tap_step * column);
                weights = weights.wrapping_add(self.line * CHANNELS);
                taps -= 1;
                if taps == 0 {
                    break;
                }
            }
            end.take(panel, first, (self.channel, self.there), acc);
        }
    }

    /// The sums of all pixels, tap by tap; with `NARROW` weights two products fit 16 bits together.
    ///
    /// # Safety
    /// What the tile reads is there.
    #[inline(always)]
    unsafe fn by_taps<E: End, const NARROW: bool>(&self, weights: *const i8, panel: &E::Panel, end: &mut E) {
        let (x, at) = (self.x, (self.channel, self.there));
        let reach = (x.pixels - 1) * x.step + (x.taps - 1) * x.tap_step + self.channel + CHANNELS;
        let whole = x.rows.iter().all(|r| r.len() >= reach);
        let mut first = 0;
        while first < x.pixels {
            // SAFETY: the caller's.
            unsafe {
                if whole && first + 2 <= x.pixels {
                    let acc = self.taps::<2, true, NARROW>(weights, first, end.start(panel));
                    end.take(panel, first, at, acc);
                    first += 2;
                } else {
                    let acc = if whole {
                        self.taps::<1, true, NARROW>(weights, first, end.start(panel))
                    } else {
                        self.taps::<1, false, NARROW>(weights, first, end.start(panel))
                    };
                    end.take(panel, first, at, acc);
                    first += 1;
                }
            }
        }
    }

    /// The sums of `P` pixels from `first` on. If they are `WHOLE`, 16 bytes may be read of each.
    ///
    /// # Safety
    /// What they read is there.
    #[inline(always)]
    unsafe fn taps<const P: usize, const WHOLE: bool, const NARROW: bool>(
        &self,
        weights: *const i8,
        first: usize,
        start: Four<int32x4_t>,
    ) -> [Four<int32x4_t>; P] {
        let x = self.x;
        // SAFETY: the caller's.
        unsafe {
            let mut acc = [start; P];
            for t in 0..x.taps {
                let at = first * x.step + t * x.tap_step + self.channel;
                for (g, rows) in x.rows.chunks(4).enumerate() {
                    // A word is the weights of four rows of a channel.
                    let w = vld4q_s8(weights.add((t * self.line + 4 * g) * CHANNELS));
                    let load = |row: &[u8], p: usize| {
                        let at = at + p * x.step;
                        if WHOLE {
                            vld1q_s8(row.as_ptr().add(at).cast())
                        } else {
                            let some: [u8; 16] = some(&row[..at + self.there], at);
                            vld1q_s8(some.as_ptr().cast())
                        }
                    };
                    for p in 0..P {
                        let acc = &mut acc[p];
                        match *rows {
                            [a] => one(acc, load(a, p), w.0),
                            [a, b] => two::<NARROW>(acc, [load(a, p), load(b, p)], [w.0, w.1]),
                            [a, b, c] => {
                                two::<NARROW>(acc, [load(a, p), load(b, p)], [w.0, w.1]);
                                one(acc, load(c, p), w.2);
                            }
                            [a, b, c, d] => {
                                two::<NARROW>(acc, [load(a, p), load(b, p)], [w.0, w.1]);
                                two::<NARROW>(acc, [load(c, p), load(d, p)], [w.2, w.3]);
                            }
                            _ => {}
                        }
                    }
                }
            }
            acc
        }
    }
}

/// Adds the products of a tap.
#[inline(always)]
fn one(acc: &mut Four<int32x4_t>, x: int8x16_t, w: int8x16_t) {
    // SAFETY: NEON is always there.
    unsafe { widen(acc, vmull_s8(vget_low_s8(x), vget_low_s8(w)), vmull_high_s8(x, w)) }
}

/// Adds the products of two taps; of `NARROW` weights they fit 16 bits together.
#[inline(always)]
fn two<const NARROW: bool>(acc: &mut Four<int32x4_t>, x: [int8x16_t; 2], w: [int8x16_t; 2]) {
    if !NARROW {
        one(acc, x[0], w[0]);
        one(acc, x[1], w[1]);
        return;
    }
    // SAFETY: NEON is always there.
    unsafe {
        let low = vmlal_s8(vmull_s8(vget_low_s8(x[0]), vget_low_s8(w[0])), vget_low_s8(x[1]), vget_low_s8(w[1]));
        let high = vmlal_high_s8(vmull_high_s8(x[0], w[0]), x[1], w[1]);
        widen(acc, low, high);
    }
}

#[inline(always)]
fn widen(acc: &mut Four<int32x4_t>, low: int16x8_t, high: int16x8_t) {
    // SAFETY: NEON is always there.
    unsafe {
        acc[0] = vaddw_s16(acc[0], vget_low_s16(low));
        acc[1] = vaddw_high_s16(acc[1], low);
        acc[2] = vaddw_s16(acc[2], vget_low_s16(high));
        acc[3] = vaddw_high_s16(acc[3], high);
    }
}

/// Interleaves 16 bytes of four rows a column: from `from` on, columns `column` bytes apart, to `to` on, `apart` bytes apart.
///
/// # Safety
/// They may be read and written.
#[inline(always)]
unsafe fn interleave(from: [*const u8; 4], column: usize, columns: usize, to: *mut u8, apart: usize) {
    if columns == 0 {
        return;
    }
    // SAFETY: the caller's.
    unsafe {
        asm!(
            "2:",
            "ld1 {{v0.16b}}, [{a}], {column}",
            "ld1 {{v1.16b}}, [{b}], {column}",
            "ld1 {{v2.16b}}, [{c}], {column}",
            "ld1 {{v3.16b}}, [{d}], {column}",
            "subs {columns}, {columns}, #1",
            "zip1 v4.16b, v0.16b, v1.16b",
            "zip2 v5.16b, v0.16b, v1.16b",
            "zip1 v6.16b, v2.16b, v3.16b",
            "zip2 v7.16b, v2.16b, v3.16b",
            "zip1 v16.8h, v4.8h, v6.8h",
            "zip2 v17.8h, v4.8h, v6.8h",
            "zip1 v18.8h, v5.8h, v7.8h",
            "zip2 v19.8h, v5.8h, v7.8h",
            "st1 {{v16.16b, v17.16b, v18.16b, v19.16b}}, [{to}], {apart}",
            "b.ne 2b",
            a = inout(reg) from[0] => _,
            b = inout(reg) from[1] => _,
            c = inout(reg) from[2] => _,
            d = inout(reg) from[3] => _,
            to = inout(reg) to => _,
            columns = inout(reg) columns => _,
            column = in(reg) column,
            apart = in(reg) apart,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _,
            options(nostack)
        );
    }
}

/// Adds to the sums of `P` pixels and 16 channels the products of four rows at a tap: inputs lie interleaved from `x` on, those of the next
/// pixel `step` bytes further.
///
/// # Safety
/// All of them, and 64 weights, are there, and the CPU has the dot product.
#[inline(always)]
unsafe fn dots<const P: usize>(acc: &mut [Four<int32x4_t>; P], x: *const u8, step: usize, w: *const i8) {
    // SAFETY: the caller's.
    unsafe {
        let (mut w0, mut w1, mut w2, mut w3) = (vdupq_n_s8(0), vdupq_n_s8(0), vdupq_n_s8(0), vdupq_n_s8(0));
        asm!(
            "ld1 {{v16.16b, v17.16b, v18.16b, v19.16b}}, [{w}]",
            w = in(reg) w,
            out("v16") w0, out("v17") w1, out("v18") w2, out("v19") w3,
            options(pure, readonly, nostack, preserves_flags)
        );
        let mut from = x;
        for p in 0..P {
            asm!(
                ".arch_extension dotprod",
                "ld1 {{v20.16b, v21.16b, v22.16b, v23.16b}}, [{x}], {step}",
                "sdot {a:v}.4s, v20.16b, v16.16b",
                "sdot {b:v}.4s, v21.16b, v17.16b",
                "sdot {c:v}.4s, v22.16b, v18.16b",
                "sdot {d:v}.4s, v23.16b, v19.16b",
                x = inout(reg) from,
                step = in(reg) step,
                a = inout(vreg) acc[p][0],
                b = inout(vreg) acc[p][1],
                c = inout(vreg) acc[p][2],
                d = inout(vreg) acc[p][3],
                inout("v16") w0, inout("v17") w1, inout("v18") w2, inout("v19") w3,
                out("v20") _, out("v21") _, out("v22") _, out("v23") _,
                options(readonly, nostack, preserves_flags)
            );
        }
        let _ = (from, w0, w1, w2, w3);
    }
}
