//! The loop nest of all products: rows of the output, blocks of channels, tiles of pixels.

use core::ops::Range;

use super::epilogue::{Finish, MULTIPLIERS, WEIGHTS, ZEROS};
use super::lines::{self, Ring};
use super::part::{Frames, Part, Product};
use super::scratch::block;
use super::{Microkernel, Place, Sign, Sums};
use crate::elementwise::Elementwise;
use crate::kernels::{Conv, OpSet};
use crate::rows::{Operands, PixelsMut, Tile, View};
use crate::{DType, Element};

/// Most kernel rows of a tile; what has more is multiplied in several goes.
pub const MOST_ROWS: usize = 16;

/// Computes the rows and columns of a tile of the output.
#[inline(always)]
pub fn run<K: Microkernel, E: Elementwise>(k: K, e: E, p: &Conv, depthwise: bool, o: &Operands<'_>, tile: &Tile) {
    let (g, x) = (&p.geometry, o.input(0));
    let memory = o.scratch();
    let Some((sums, memory)) = memory.split_at_mut_checked(p.scratch.sums as usize) else { return };
    let Some((residual, memory)) = memory.split_at_mut_checked(p.scratch.residual as usize) else { return };
    let Some((between, copied)) = memory.split_at_mut_checked(p.scratch.between as usize) else { return };
    let (Ok(sums), Ok(residual), Ok(copied)) = (
        bytemuck::try_cast_slice_mut(sums),
        bytemuck::try_cast_slice_mut(residual),
        bytemuck::try_cast_slice_mut(copied),
    ) else {
        return;
    };
    let mut driver = Driver {
        product: Product {
            k,
            p,
            depthwise,
            extents: p.extents(depthwise),
            signed: match p.packing.sign {
                Sign::AsStored => x.dtype == DType::I8,
                sign => sign == Sign::Signed,
            },
            weights: o.constant(WEIGHTS),
            scales: if K::SCALED { o.constant(MULTIPLIERS) } else { &[] },
            frames: Frames::No,
        },
        copies: p.scratch.copied || k.in_place(&x, 0, 0).is_none(),
        from: 0,
        to: 0,
        turned: 0,
        zero: 0,
        added: &mut [],
        zeros: o.constant(ZEROS),
        finish: p.epilogue.of(e, o, x.dtype.is_float(), g.output[2] as usize),
        columns: tile.columns.clone(),
        sums,
        residual,
        between,
    };
    if g.pointwise() {
        driver.pixels(&x, copied, tile.rows.clone());
    } else if const { E::OPS.holds(OpSet::FRAMES) } && lines::along_time(g) {
        driver.frames(&x, copied, tile.rows.clone());
    } else if const { E::OPS.holds(OpSet::WINDOWS) } {
        driver.rows(&x, copied, tile.rows.clone());
    }
}

pub(super) struct Driver<'a, K: Microkernel, E> {
    pub(super) product: Product<'a, K>,
    /// Inputs are copied before they are multiplied.
    pub(super) copies: bool,
    /// Element of the input that is the first of pixel 0.
    pub(super) from: usize,
    /// Element of the output that is the first channel of pixel 0.
    pub(super) to: usize,
    /// The pixels are the columns of a matrix of so many; 0 if they are rows.
    pub(super) turned: usize,
    /// Zero point of all weights, where `zeros` has none.
    pub(super) zero: i16,
    /// What it adds to the sums of each pixel of a line.
    pub(super) added: &'a mut [i32],
    pub(super) zeros: &'a [i16],
    pub(super) finish: Finish<'a, E>,
    /// Blocks of channels, those of all groups counted one after the other.
    pub(super) columns: Range<usize>,
    pub(super) sums: &'a mut [K::Sum],
    pub(super) residual: &'a mut [f32],
    /// What a microkernel keeps between: inputs in the order of its instructions.
    pub(super) between: &'a mut [u8],
}

impl<K: Microkernel, E: Elementwise> Driver<'_, K, E> {
    /// Each pixel by itself: all pixels of the rows are one line.
    #[inline(always)]
    pub(super) fn pixels(&mut self, x: &View<'_>, copied: &mut [K::X], rows: Range<usize>) {
        let Product { k, p, .. } = self.product;
        let g = &p.geometry;
        let (c, width) = (g.input[2] as usize, g.output[1] as usize);
        let copies = self.copies;
        let at_once = lines::pixels_at_once(g) as usize;
        let (mut from, end) = (rows.start * width, rows.end * width);
        while from < end {
            let n = at_once.min(end - from);
            let own = if copies || self.turned > 0 { None } else { k.in_place(x, self.from + from * c, n * c) };
            let line: &[K::X] = match own {
                Some(line) => line,
                None => {
                    let Some(to) = copied.get_mut(..n * c) else { return };
                    if self.turned > 0 {
                        lines::turn(&k, (x, p.packing.sign), self.from + from, (self.turned, c), to);
                    } else {
                        k.copy(x, self.from + from * c, p.packing.sign, to);
                    }
                    copied
                }
            };
            self.add_zero(line, n);
            self.columns(&|_| line, n, from);
            from += n;
        }
    }

    /// Says what the zero point of all weights adds to the sums of `n` pixels.
    #[inline(always)]
    fn add_zero(&mut self, line: &[K::X], n: usize) {
        if self.zero == 0 {
            return;
        }
        let (k, e, zero) = (self.product.k, self.product.extents, self.zero);
        let part = Part { group: 0, channels: (0, e.channels), from: 0, pixels: n, first_row: 0, rows: &[line] };
        let added = &mut *self.added;
        self.product.inputs(&part, |x| {
            for (pixel, added) in added.iter_mut().take(n).enumerate() {
                let sum = k.centred(x, pixel, 0..e.length, bytemuck::Zeroable::zeroed(), zero);
                *added = bytemuck::cast(sum);
            }
        });
    }

    /// Frame by frame along time, each under a window of frames: all frames of a sequence are one line.
    #[inline(always)]
    fn frames(&mut self, x: &View<'_>, copied: &mut [K::X], rows: Range<usize>) {
        let Product { k, p, .. } = self.product;
        let g = &p.geometry;
        let (c, frames) = (g.input[2] as usize, g.input[0] as usize);
        let copies = self.copies;
        let at_once = lines::pixels_at_once(g) as usize;
        let rows_of_frames = self.product.depthwise && p.packing.run != 1 && !K::TAPS_OF_FRAMES;
        self.product.frames = if rows_of_frames { Frames::Rows } else { Frames::Taps };
        if self.product.depthwise && p.packing.run == 1 {
            // Its taps are lines of one input each, which changes no weight's place.
            let e = &mut self.product.extents;
            (e.lines, e.length) = (e.length, 1);
        }
        let mut row = rows.start;
        while row < rows.end {
            let (sequence, first) = g.window_of(row);
            let mut n = at_once.min(rows.end - row).min((sequence + 1) * g.output[0] as usize - row);
            let mut reach = lines::reach_along_time(g, n as u64) as usize * c;
            let start = sequence * frames * c;
            // Around the end of a ring window by window, each copied if it lies in two pieces.
            let mut in_two = !copies && !x.is_in_one_piece(start + first as usize * c, reach);
            if in_two {
                (n, reach) = (1, lines::reach_along_time(g, 1) as usize * c);
                in_two = !x.is_in_one_piece(start + first as usize * c, reach);
            }
            let line: &[K::X] = if copies || in_two {
                let Some(to) = copied.get_mut(..reach) else { return };
                to.fill(k.padding(x, p.packing.sign));
                let place = (first, g.upsample[0] as usize);
                lines::copy_line(&k, (x, p.packing.sign), (start, frames, c), place, to);
                copied
            } else {
                k.in_place(x, start + first as usize * c, reach).unwrap_or(&[])
            };
            if rows_of_frames {
                let apart = g.dilation[0] as usize * c;
                self.columns(&|frame| line.get(frame * apart..).unwrap_or(&[]), n, row);
            } else {
                self.columns(&|_| line, n, row);
            }
            row += n;
        }
    }

    /// Row by row, each pixel under a window.
    #[inline(always)]
    fn rows(&mut self, x: &View<'_>, copied: &mut [K::X], rows: Range<usize>) {
        let Product { k, p, .. } = self.product;
        let g = &p.geometry;
        let (width, row_len) = (g.output[1] as usize, g.row_len());
        let copies = self.copies;
        let left = (-(g.pad[1] as isize)).max(0) as usize * g.input[2] as usize;
        let mut ring = Ring::new(g, copied, k.padding(x, p.packing.sign), copies);
        for row in rows {
            let (picture, top) = g.window_of(row);
            let at = |ky: usize| top + (ky * g.dilation[0] as usize) as isize;
            if copies {
                ring.fill(&k, g, (x, p.packing.sign), (picture, top));
                self.columns(&|ky| ring.row(g, picture, at(ky)), width, row * width);
            } else {
                ring.reach(g, top);
                let row_of = |ky: usize| match g.input_row(picture, at(ky)) {
                    Some(y) => k.in_place(x, y * row_len, row_len).and_then(|row| row.get(left..)).unwrap_or(&[]),
                    None => ring.none(),
                };
                self.columns(&row_of, width, row * width);
            }
        }
    }

    /// All columns of `n` pixels that lie side by side, the first of which is pixel `first` of the output. `row_of` gives the
    /// inputs under them by kernel row.
    ///
    /// There is one of it for each microkernel, whatever the form of the step: where it is built into each of the loops around it, it is
    /// most of a program.
    #[inline(never)]
    fn columns<'r>(&mut self, row_of: &dyn Fn(usize) -> &'r [K::X], n: usize, first: usize)
    where
        K::X: 'r,
    {
        let Product { p, extents, frames, .. } = self.product;
        let kernel_rows = if frames == Frames::Taps { 1 } else { p.geometry.kernel[0] as usize };
        if K::LINES && self.whole(row_of, kernel_rows, n, first) {
            return;
        }
        // Rows from `from` on, each from element `first` on.
        let load = |rows: &mut [&'r [K::X]; MOST_ROWS], from: usize, first: usize| {
            let there = kernel_rows.saturating_sub(from);
            rows.iter_mut()
                .take(there)
                .enumerate()
                .for_each(|(i, row)| *row = row_of(from + i).get(first..).unwrap_or(&[]));
        };
        let mut all: [&[K::X]; MOST_ROWS] = [&[]; MOST_ROWS];
        if !K::LINES {
            load(&mut all, 0, 0);
        }
        // Of small pictures a row takes little longer than a few divisions: there are none where there is nothing to divide.
        let block = block(p);
        // (Divisors are what they are; that none is 0 is said for the compiler, which else has it panic.)
        let per_group = if extents.channels <= block { 1 } else { extents.channels.div_ceil(block.max(1)).max(1) };
        let adds = self.adds();
        let at_once = K::LINES && kernel_rows <= MOST_ROWS && self.zeros.is_empty();
        let (most, blocks_at_once) = match p.tile as usize {
            // Rounded sums wait in the memory of sums: bytes, of which four times as many fit.
            tile if at_once && adds => K::tile(n, per_group, 4 * tile),
            _ if at_once && self.finish.rounding(0, 0, false).is_some() => (n, per_group),
            tile => K::tile(n, per_group, tile),
        };
        let pixels = if n <= most { n } else { n.div_ceil(n.div_ceil(most.max(1)).max(1)) }.max(1);
        let mut at = self.columns.start;
        while at < self.columns.end {
            let (group, b) = if at < per_group { (0, at) } else { (at / per_group, at % per_group) };
            let blocks = blocks_at_once.min(per_group - b).min(self.columns.end - at).max(1);
            let channels = (b * block, ((b + blocks) * block).min(extents.channels));
            for from in (0..n).step_by(pixels) {
                // Tiles of lines are so few that rows are asked for again: the stack need not hold them twice.
                let first_input = if K::LINES { self.product.first(group, channels.0, from) } else { 0 };
                if K::LINES {
                    load(&mut all, 0, first_input);
                }
                let rows = all.get(..kernel_rows.min(MOST_ROWS)).unwrap_or(&[]);
                let part = Part { group, channels, from, pixels: pixels.min(n - from), first_row: 0, rows };
                let mut at_once = || {
                    if K::LINES { self.at_once_apart(&part, first + from) } else { self.at_once(&part, first + from) }
                };
                if kernel_rows <= MOST_ROWS && at_once() {
                    continue;
                }
                // Kernels of lines round whatever is only rounded.
                if const { K::LINES && !E::OPS.holds(OpSet::SUMS) } {
                    return;
                }
                let fresh = self.zero == 0;
                if !fresh {
                    let width = channels.1 - channels.0;
                    let sums = self.sums.get_mut(..width * part.pixels).unwrap_or(&mut []);
                    let added = self.added.get(from..).unwrap_or(&[]);
                    sums.chunks_exact_mut(width.max(1)).zip(added).for_each(|(s, &a)| s.fill(bytemuck::cast(a)));
                }
                self.multiply(&part, fresh);
                for first_row in (MOST_ROWS..kernel_rows).step_by(MOST_ROWS) {
                    let mut more: [&[K::X]; MOST_ROWS] = [&[]; MOST_ROWS];
                    load(&mut more, first_row, first_input);
                    let rows = &more[..MOST_ROWS.min(kernel_rows - first_row)];
                    self.multiply(&Part { first_row, rows, ..part }, false);
                }
                self.store(&part, first + from);
            }
            at += blocks;
        }
    }

    /// A line whose sums are rounded and no more, all channels at once; `false` if there is more to it. Of small pictures a line takes little longer than
    /// to find out what its tiles are.
    #[inline(always)]
    fn whole<'r>(&mut self, row_of: &dyn Fn(usize) -> &'r [K::X], kernel_rows: usize, n: usize, first: usize) -> bool
    where
        K::X: 'r,
    {
        let Product { p, extents: e, .. } = self.product;
        let mut rows: [&[K::X]; 4] = [&[]; 4];
        let all = self.columns.start == 0 && self.columns.end * block(p) >= e.channels && e.groups == 1;
        let Some(rows) = rows.get_mut(..kernel_rows).filter(|_| all && self.zero == 0 && !self.adds()) else {
            return false;
        };
        rows.iter_mut().enumerate().for_each(|(i, row)| *row = row_of(i));
        let part = Part { group: 0, channels: (0, e.channels), from: 0, pixels: n, first_row: 0, rows };
        self.at_once_apart(&part, first)
    }

    /// As [`Driver::at_once`]: one of it for lines whole and in parts.
    #[inline(never)]
    fn at_once_apart(&mut self, t: &Part<'_, K::X>, pixel: usize) -> bool {
        self.at_once(t, pixel)
    }

    /// Whether the microkernel adds a residual to sums that it has rounded.
    #[inline(always)]
    fn adds(&self) -> bool {
        let linked = const { K::LINES && E::OPS.holds(OpSet::ADDED) };
        linked && self.finish.adds()
    }

    /// Multiplies a tile and stores its results at once, if its end is one that the microkernel does itself.
    #[inline(always)]
    fn at_once(&mut self, t: &Part<'_, K::X>, pixel: usize) -> bool {
        let Product { k, p, extents, .. } = self.product;
        let (channel, n) = (t.group * extents.channels + t.channels.0, t.channels.1 - t.channels.0);
        let out_c = p.geometry.output[2] as usize;
        if K::PLAIN {
            if !K::Out::matches(self.finish.out.dtype()) {
                return false;
            }
            let at = self.to + pixel * out_c + channel;
            let Some(end) = self.finish.plain(channel, n, at) else { return false };
            let Some(mut out) = self.finish.out.pixels(at, n, out_c, t.pixels) else { return false };
            let weights = self.product.weights(t);
            return self.product.inputs(t, |x| k.plain(x, &weights, &end, &mut out));
        }
        if !K::ROUNDS || !self.zeros.is_empty() {
            return false;
        }
        let weights = self.product.weights(t);
        let adds = self.adds();
        let Some(mut rounding) = self.finish.rounding(channel, n, adds) else { return false };
        if self.zero != 0 {
            rounding.pixels = self.added.get(t.from..t.from + t.pixels).unwrap_or(&[]);
        }
        let at = self.to + pixel * out_c + channel;
        let between = &mut *self.between;
        if adds {
            let room = bytemuck::cast_slice_mut::<K::Sum, u8>(self.sums);
            let Some(mut bytes) = PixelsMut::of(room, n, t.pixels) else { return false };
            let done = self.product.inputs(t, |x| k.round(x, &weights, &rounding, between, &mut bytes));
            if done {
                let rounded = bytemuck::cast_slice(room.get(..n * t.pixels).unwrap_or(&[]));
                k.add(&mut self.finish, Place { at, channel, width: n, step: out_c }, rounded);
            }
            return done;
        }
        let Some(mut out) = self.finish.out.pixels(at, n, out_c, t.pixels) else { return false };
        let done = self.product.inputs(t, |x| k.round(x, &weights, &rounding, between, &mut out));
        if let Some(table) = self.finish.table.filter(|_| done) {
            self.finish.e.lookup_pixels(table, &mut out);
        }
        done
    }

    #[inline(always)]
    fn multiply(&mut self, t: &Part<'_, K::X>, fresh: bool) {
        let Product { k, extents, depthwise, .. } = self.product;
        let (weights, n) = (self.product.weights(t), t.channels.1 - t.channels.0);
        let Some(sums) = self.sums.get_mut(..n * t.pixels) else { return };
        let (between, zeros) = (&mut *self.between, self.zeros);
        self.product.inputs(t, |x| {
            k.multiply(x, &weights, Sums { sums: &mut *sums, fresh, scratch: between });
            if zeros.is_empty() {
                return;
            }
            let zeros = zeros.get(t.group * extents.channels + t.channels.0..).unwrap_or(&[]);
            for (i, sum) in sums.iter_mut().enumerate() {
                let (pixel, c) = (i / n.max(1), i % n.max(1));
                let inputs = if depthwise { c..c + 1 } else { 0..extents.length };
                if let Some(&zero) = zeros.get(c) {
                    *sum = k.centred(x, pixel, inputs, *sum, zero);
                }
            }
        });
    }

    #[inline(always)]
    fn store(&mut self, t: &Part<'_, K::X>, pixel: usize) {
        let Product { k, p, extents, .. } = self.product;
        let (channel, width) = (t.group * extents.channels + t.channels.0, t.channels.1 - t.channels.0);
        let step = p.geometry.output[2] as usize;
        let Some(sums) = self.sums.get_mut(..width * t.pixels) else { return };
        let to = Place { at: self.to + pixel * step + channel, channel, width, step };
        k.finish(&mut self.finish, to, sums, self.residual);
    }
}
