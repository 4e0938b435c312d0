//! Maximum or average over windows of `[batch, height, width, channels]`.

use core::ops::Range;

use super::Params;
use super::bytes::{self, are_bytes};
use super::walk::elements;
use crate::DType;
use crate::bands::Rule;
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure, product, work};
use crate::format::words::{code, record};
use crate::product::Geometry;
use crate::product::geometry::source;
use crate::rows::{BUFFER, CHUNK, Operands, Tile, View, ViewMut, buffers};

/// Sums of columns that are kept from one window to the next.
const COLUMNS: usize = if BUFFER < CHUNK { 4 } else { 8 };

code! {
    /// What a pooling step makes of a window.
    pub enum PoolKind {
        /// The largest element.
        Max = 0,
        /// The mean of the elements inside the input.
        Average = 1,
        /// The mean over the window's positions inside the padded input, padding counting as 0.
        AverageWithPadding = 2,
    }
}

record! {
    /// Parameters of a pooling step. Input: 0 `x [batch, in_h, in_w, c]` of any type; output: `[batch, out_h, out_w, c]`.
    /// Rows: `batch · out_h`. A window without any element inside the input gives 0.
    ///
    /// An average adds the (dequantised) elements in f32 and divides the sum by their number. Where a mean of integers lies
    /// on a rounding tie, the order decides: each column of the window is summed from top to bottom, then the columns from
    /// left to right; a window that is the whole input is summed row by row.
    pub struct Pool {
        /// What is computed.
        pub kind: PoolKind,
        /// Where the windows lie. Input and output have the same channels, and nothing is upsampled.
        pub geometry: Geometry,
        /// Padding below and right of the input.
        pub pad_end: [i32; 2],
    }
}

impl Params for Pool {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        let g = &self.geometry;
        g.verify()?;
        let [in_h, in_w, ch] = g.input;
        let [out_h, out_w, out_c] = g.output;
        ensure(out_c == ch && g.upsample == [1, 1], Fault::Params)?;
        ensure(g.pad.iter().chain(&self.pad_end).all(|p| (0..=1 << 28).contains(p)), Fault::Params)?;
        // A window mostly outside its input would cost time that no tensor accounts for.
        let useful = |d: usize| u64::from(g.kernel[d]) <= 2 * u64::from(g.input[d]) + 64;
        ensure(useful(0) && useful(1), Fault::Params)?;
        c.size(&c.input(0)?, &[g.batch, in_h, in_w, ch])?;
        c.size(&c.output()?, &[g.batch, out_h, out_w, ch])?;
        // A tap outside the input costs no less than one inside.
        let taps = work(&[g.batch, out_h, out_w, g.kernel[0], g.kernel[1]]);
        let each = work(&[ch, 2]).saturating_add(work(&[ch.div_ceil(CHUNK as u32), 32]));
        Ok(Verdict::new(product(&[g.batch, out_h])?, taps.saturating_mul(each)))
    }

    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        let g = &self.geometry;
        (input == 0).then(|| elements(g.input_rows(rows), &g.input[1..]))
    }

    fn row(&self) -> Option<u32> {
        self.geometry.output[1].checked_mul(self.geometry.output[2])
    }

    fn rule(&self, input: usize) -> Rule {
        if input == 0 { self.geometry.rule() } else { Rule::Whole }
    }

    #[inline(always)]
    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let (x, mut out) = (o.input(0), o.output());
        let g = &self.geometry;
        let whole = g.kernel == g.input[..2] && g.output[..2] == [1, 1];
        if self.kind != PoolKind::Max && !whole {
            return self.averages(e, &x, &mut out, rows);
        }
        // The largest byte stands for the largest real.
        if self.kind == PoolKind::Max && are_bytes(x.dtype) && are_bytes(out.dtype()) {
            return self.largest(e, &x, &mut out, rows);
        }
        let (c, out_w) = (g.output[2] as usize, g.output[1] as usize);
        for row in rows {
            let (picture, row_in_picture) = (row / g.output[0].max(1) as usize, row % g.output[0].max(1) as usize);
            for column in 0..out_w {
                buffers(0..c, |c0, n| {
                    let place = Place { picture, row: row_in_picture, column, c0, n };
                    let mut window = Window { pool: self, x: &x, place, inside: 0, positions: 0 };
                    let mut acc = [if self.kind == PoolKind::Max { f32::NEG_INFINITY } else { 0.0 }; BUFFER];
                    for ky in 0..g.kernel[0] {
                        for kx in 0..g.kernel[1] {
                            window.add(e, ky, kx, &mut acc);
                        }
                    }
                    let acc = acc.get_mut(..n).unwrap_or(&mut []);
                    self.divide(acc, window.inside, window.positions);
                    e.store(&mut out, (row * out_w + column) * c + c0, acc);
                });
            }
        }
    }
}

/// Where a window is, and the run of channels under it.
#[derive(Clone, Copy)]
struct Place {
    picture: usize,
    row: usize,
    column: usize,
    c0: usize,
    n: usize,
}

/// One window over a run of channels, and how many of its elements were seen.
struct Window<'a> {
    pool: &'a Pool,
    x: &'a View<'a>,
    place: Place,
    inside: u32,
    positions: u32,
}

impl Window<'_> {
    /// Takes the element at a tap, if it lies inside the input, into the accumulators.
    #[inline(always)]
    fn add<E: Elementwise>(&mut self, e: E, ky: u32, kx: u32, acc: &mut [f32; BUFFER]) {
        let (p, place) = (self.pool, &self.place);
        let (y, w) = (p.coordinate(0, place.row, ky), p.coordinate(1, place.column, kx));
        self.positions += u32::from(p.within_padding(0, y) && p.within_padding(1, w));
        let Some(at) = p.element(place.picture, y, w) else { return };
        self.inside += 1;
        let mut v = [0f32; BUFFER];
        let v = e.reals(self.x, at + place.c0, &mut v[..place.n]);
        if p.kind == PoolKind::Max {
            for (a, &v) in acc.iter_mut().zip(v) {
                *a = if v > *a || v.is_nan() { v } else { *a };
            }
        } else {
            for (a, v) in acc.iter_mut().zip(v) {
                *a += v;
            }
        }
    }
}

impl Pool {
    /// Averages whose windows are smaller than the input. The sum of a window's column is that of its neighbours' too: it is
    /// formed once, if all that a window needs can be kept.
    #[inline(always)]
    fn averages<E: Elementwise>(&self, e: E, x: &View<'_>, out: &mut ViewMut<'_>, rows: Range<usize>) {
        let g = &self.geometry;
        let (c, out_w) = (g.output[2] as usize, g.output[1] as usize);
        let shared = g.dilation[1] == 1 && g.kernel[1] as usize <= COLUMNS;
        for row in rows {
            let (picture, place) = (row / g.output[0].max(1) as usize, row % g.output[0].max(1) as usize);
            let taps = |axis: usize, at: usize| (0..g.kernel[axis]).map(move |tap| self.coordinate(axis, at, tap));
            let inside = |axis: usize, at: usize| taps(axis, at).filter(|&y| self.is_inside(axis, y)).count() as u32;
            let padded =
                |axis: usize, at: usize| taps(axis, at).filter(|&y| self.within_padding(axis, y)).count() as u32;
            let (inside_rows, padded_rows) = (inside(0, place), padded(0, place));
            buffers(0..c, |c0, n| {
                let mut columns = [[0f32; BUFFER]; COLUMNS];
                // The first column whose sum is not there.
                let mut next = isize::MIN;
                for column in 0..out_w {
                    let mut acc = [0f32; BUFFER];
                    let acc = &mut acc[..n];
                    for w in taps(1, column) {
                        let sum = &mut columns[if shared { w as usize % COLUMNS } else { 0 }][..n];
                        if !shared || w >= next {
                            self.sum_column(e, x, (picture, w), taps(0, place), c0, sum);
                            next = w + 1;
                        }
                        acc.iter_mut().zip(&*sum).for_each(|(a, s)| *a += s);
                    }
                    self.divide(acc, inside_rows * inside(1, column), padded_rows * padded(1, column));
                    e.store(out, (row * out_w + column) * c + c0, acc);
                }
            });
        }
    }

    /// The sums over the rows `taps` of column `w` of a picture, for the channels from `c0` on.
    #[inline(always)]
    fn sum_column<E: Elementwise>(
        &self,
        e: E,
        x: &View<'_>,
        (picture, w): (usize, isize),
        taps: impl Iterator<Item = isize>,
        c0: usize,
        sum: &mut [f32],
    ) {
        let mut v = [0f32; BUFFER];
        sum.fill(0.0);
        for at in taps.filter_map(|y| self.element(picture, y, w)) {
            let v = e.reals(x, at + c0, &mut v[..sum.len()]);
            sum.iter_mut().zip(v).for_each(|(s, v)| *s += v);
        }
    }

    /// Makes sums averages, given the window's elements inside the input and its positions inside the padded input. A window
    /// without any of the first gives 0.
    #[inline(always)]
    fn divide(&self, acc: &mut [f32], inside: u32, positions: u32) {
        let count = match self.kind {
            PoolKind::Max => 1,
            PoolKind::Average => inside,
            PoolKind::AverageWithPadding => positions,
        };
        if inside == 0 {
            acc.fill(0.0);
        } else if count != 1 {
            acc.iter_mut().for_each(|a| *a /= count as f32);
        }
    }

    /// The largest of bytes, which need not become reals for it.
    #[inline(always)]
    fn largest<E: Elementwise>(&self, e: E, x: &View<'_>, out: &mut ViewMut<'_>, rows: Range<usize>) {
        let signed = x.dtype != DType::U8;
        let least = if signed { 0x80 } else { 0 };
        let g = &self.geometry;
        let (c, out_w) = (g.output[2] as usize, g.output[1] as usize);
        let same = (x.dtype, x.scale, x.zero_point) == (out.dtype(), out.scale(), out.zero_point());
        let table = (!same).then(|| bytes::table(x, out, |_| {}));
        for row in rows {
            let (picture, place) = (row / g.output[0].max(1) as usize, row % g.output[0].max(1) as usize);
            for column in 0..out_w {
                let to = (row * out_w + column) * c;
                let acc = out.slice::<u8>(to, c);
                acc.fill(least);
                let mut inside = false;
                for (ky, kx) in (0..g.kernel[0]).flat_map(|ky| (0..g.kernel[1]).map(move |kx| (ky, kx))) {
                    let (y, w) = (self.coordinate(0, place, ky), self.coordinate(1, column, kx));
                    let Some(at) = self.element(picture, y, w) else { continue };
                    inside = true;
                    e.larger(signed, acc, x.slice::<u8>(at, c));
                }
                if !inside {
                    // Such a window gives the real 0.
                    acc.fill(x.zero_point as u8);
                }
                if let Some(table) = &table {
                    e.lookup(table, out.slice::<u8>(to, c));
                }
            }
        }
    }

    /// The first channel at row `y` and column `w` of a picture, if these lie inside.
    #[inline(always)]
    fn element(&self, picture: usize, y: isize, w: isize) -> Option<usize> {
        let g = &self.geometry;
        let (y, w) = (source(y, 1, g.input[0])?, source(w, 1, g.input[1])?);
        Some(((picture * g.input[0] as usize + y) * g.input[1] as usize + w) * g.input[2] as usize)
    }

    #[inline(always)]
    fn coordinate(&self, axis: usize, at: usize, tap: u32) -> isize {
        let g = &self.geometry;
        (at * g.stride[axis] as usize + (tap * g.dilation[axis]) as usize) as isize - g.pad[axis] as isize
    }

    #[inline(always)]
    fn is_inside(&self, axis: usize, at: isize) -> bool {
        source(at, 1, self.geometry.input[axis]).is_some()
    }

    #[inline(always)]
    fn within_padding(&self, axis: usize, at: isize) -> bool {
        at < self.geometry.input[axis] as isize + self.pad_end[axis] as isize
    }
}
