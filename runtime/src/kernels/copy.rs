//! Strided copy: what transpose, slice, concatenation, expansion and space-to-depth become.

use core::ops::Range;

use super::Params;
use super::walk::{DIMS, reached, reaches_only, row_within, walk, walked};
use crate::Element;
use crate::bands::{Rule, Window};
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure};
use crate::format::words::record;
use crate::rows::{self, Operands, Tile, View, ViewMut};

record! {
    /// Parameters of a copy. Input: 0 `x`; output: a tensor with elements of the same size, of which the copy writes those
    /// its strides reach (several copies may fill one output). Rows: `dims[0]`.
    pub struct Copy {
        /// Extents of the copied block: rows first.
        pub dims: [u32; 6],
        /// First element read.
        pub from: i32,
        /// Strides in the input, in elements; negative ones run backwards, 0 repeats.
        pub from_strides: [i32; 6],
        /// First element written.
        pub to: i32,
        /// Strides in the output, in elements.
        pub to_strides: [i32; 6],
    }
}

impl Params for Copy {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        let (x, y) = (c.input(0)?, c.output()?);
        ensure(x.dtype.size() == y.dtype.size(), Fault::DType)?;
        reaches_only(&x, &self.dims, self.from, &self.from_strides)?;
        reaches_only(&y, &self.dims, self.to, &self.to_strides)?;
        // Rows are written by different workers, so none may write another's elements: each dimension's stride must
        // step over all that the smaller strides cover.
        let mut order: [usize; DIMS] = core::array::from_fn(|d| d);
        order.sort_unstable_by_key(|&d| self.to_strides[d]);
        let mut covered = 1i64;
        for d in order {
            if self.dims[d] > 1 {
                ensure(i64::from(self.to_strides[d]) >= covered, Fault::Params)?;
                covered += i64::from(self.to_strides[d]) * (i64::from(self.dims[d]) - 1);
            }
        }
        Ok(Verdict::new(self.dims[0] as usize, walked(&self.dims, 4)))
    }

    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        reached(&self.dims, self.from, &self.from_strides, rows).filter(|_| input == 0)
    }

    /// What copies write may lie in the midst of each row: several fill it.
    fn row(&self) -> Option<u32> {
        row_within(&self.dims, self.to, &self.to_strides).filter(|&(first, _)| first == 0).map(|(_, row)| row)
    }

    fn rule(&self, input: usize) -> Rule {
        let row = row_within(&self.dims, self.from, &self.from_strides).filter(|_| input == 0);
        row.map_or(Rule::Whole, |(first, row)| Rule::Rows(Window { pad: -first, ..Window::pointwise(row) }))
    }

    #[inline(always)]
    fn run<E: Elementwise>(&self, _: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let (x, mut out) = (o.input(0), o.output());
        match x.dtype.size() {
            1 => copy::<u8>(self, &x, &mut out, rows, transpose_bytes),
            2 => copy::<u16>(self, &x, &mut out, rows, transpose),
            4 => copy::<i32>(self, &x, &mut out, rows, transpose),
            _ => copy::<i64>(self, &x, &mut out, rows, transpose),
        }
    }
}

/// A square block of elements.
type Block<T> = [[T; SIDE]; SIDE];

/// Elements along a side of a [`Block`].
const SIDE: usize = 8;

/// Elements of input lines that are taken one block after the other: of bytes a cache line.
const STRIP: usize = 64;

#[inline(always)]
fn copy<T: Element>(
    p: &Copy,
    x: &View<'_>,
    out: &mut ViewMut<'_>,
    rows: Range<usize>,
    transpose: impl Fn(Block<T>) -> Block<T>,
) {
    let (from, to) = (p.from_strides[DIMS - 1] as isize, p.to_strides[DIMS - 1] as isize);
    let strides = [&p.from_strides, &p.to_strides];
    if let Some((across, m)) = p.across(rows.clone()).filter(|_| to == 1 && from != 1) {
        let (first, rows) = if across == 0 { (rows.start, 0..1) } else { (0, rows) };
        let offsets = [p.from, p.to].map(|start| start as isize);
        let stride = |k: usize| strides[k].get(across).map_or(0, |&s| s as isize);
        let [a, b] = core::array::from_fn(|k| offsets[k] + first as isize * stride(k));
        let plane = Plane { m, n: p.dims[DIMS - 1] as usize, from, to: stride(1) };
        let mut outer = p.dims;
        outer.iter_mut().enumerate().filter(|(d, _)| *d == across || *d == DIMS - 1).for_each(|(_, n)| *n = 1);
        walk(&outer, [0; 2], strides, rows, |at, _| plane.copy(x, a + at[0], out, b + at[1], &transpose));
        return;
    }
    walk(&p.dims, [p.from, p.to], strides, rows, |[a, b], n| run::<T>(x, (a, from), out, (b, to), n));
}

/// Copies `n` elements: the first one read and written, and how far apart they are.
#[inline(always)]
fn run<T: Element>(x: &View<'_>, (a, from): (isize, isize), out: &mut ViewMut<'_>, (b, to): (isize, isize), n: usize) {
    if from == 1 && to == 1 {
        rows::copy(x.slice(a as usize, n), out.slice::<T>(b as usize, n));
        return;
    }
    for i in 0..n as isize {
        if let (&[v], [slot]) = (x.slice::<T>((a + i * from) as usize, 1), out.slice::<T>((b + i * to) as usize, 1)) {
            *slot = v;
        }
    }
}

impl Copy {
    /// The dimension other than the innermost along which elements are neighbours in the input, and its extent in these rows, if
    /// it is worth to go along it.
    fn across(&self, rows: Range<usize>) -> Option<(usize, usize)> {
        let mut dims = self.dims.iter().zip(&self.from_strides).zip(&self.to_strides).take(DIMS - 1).enumerate();
        let (across, ((&m, _), &to)) = dims.find(|&(_, ((&n, &from), _))| from == 1 && n > 1)?;
        let (n, m) = (self.dims[DIMS - 1] as usize, if across == 0 { rows.len() } else { m as usize });
        let worth = n >= SIDE || to as usize == n;
        Some((across, m)).filter(|_| m >= SIDE && worth)
    }
}

/// A matrix to be transposed: `m` columns of the input, whose elements are neighbours along a line, become `m` lines of the
/// output, `n` elements each.
struct Plane {
    m: usize,
    n: usize,
    /// Elements from line to line of the input.
    from: isize,
    /// Elements from line to line of the output.
    to: isize,
}

impl Plane {
    /// Copies the matrix that begins at element `a` of the input to what begins at element `b` of the output.
    #[inline(always)]
    fn copy<T: Element>(
        &self,
        x: &View<'_>,
        a: isize,
        out: &mut ViewMut<'_>,
        b: isize,
        transpose: &impl Fn(Block<T>) -> Block<T>,
    ) {
        if self.n < SIDE && self.to == self.n as isize {
            self.interleave::<T>(x, a, out, b);
            return;
        }
        let whole = self.m / SIDE * SIDE;
        for strip in (0..whole).step_by(STRIP) {
            let width = STRIP.min(whole - strip);
            for j in (0..self.n).step_by(SIDE) {
                let lines: [&[T]; SIDE] = core::array::from_fn(|k| {
                    let line = (j + k).min(self.n - 1) as isize;
                    x.slice((a + strip as isize + line * self.from) as usize, width)
                });
                let n = SIDE.min(self.n - j);
                for i in (0..width).step_by(SIDE) {
                    let block =
                        lines.map(|line| *line.get(i..).and_then(|l| l.first_chunk()).unwrap_or(&[T::zeroed(); SIDE]));
                    for (k, line) in transpose(block).iter().enumerate() {
                        let start = b + (strip + i + k) as isize * self.to + j as isize;
                        rows::copy(line.get(..n).unwrap_or(&[]), out.slice::<T>(start as usize, n));
                    }
                }
            }
        }
        for i in whole as isize..self.m as isize {
            run::<T>(x, (a + i, self.from), out, (b + i * self.to, 1), self.n);
        }
    }

    /// As [`Plane::copy`], where the lines of the output are short and follow each other: the pixels of an image, say.
    #[inline(always)]
    fn interleave<T: Element>(&self, x: &View<'_>, a: isize, out: &mut ViewMut<'_>, b: isize) {
        for strip in (0..self.m).step_by(STRIP) {
            let width = STRIP.min(self.m - strip);
            let to = out.slice::<T>((b + (strip * self.n) as isize) as usize, width * self.n);
            for j in 0..self.n {
                let line = x.slice::<T>((a + strip as isize + j as isize * self.from) as usize, width);
                for (to, &v) in to.iter_mut().skip(j).step_by(self.n.max(1)).zip(line) {
                    *to = v;
                }
            }
        }
    }
}

#[inline(always)]
fn transpose<T: Element>(block: Block<T>) -> Block<T> {
    core::array::from_fn(|i| core::array::from_fn(|j| block[j][i]))
}

/// Two by two blocks of one byte, then of two, then of four change places, all of a line at once.
#[inline(always)]
fn transpose_bytes(block: Block<u8>) -> Block<u8> {
    let mut lines = block.map(u64::from_le_bytes);
    for (side, mask) in [(4, 0xffff_ffff), (2, 0xffff_0000_ffff), (1, 0x00ff_00ff_00ff_00ff)] {
        for i in (0..SIDE).filter(|i| i & side == 0) {
            // (It is less than `SIDE`, which is said for the compiler.)
            let other = (i + side) % SIDE;
            let moved = (lines[i] >> (8 * side) ^ lines[other]) & mask;
            lines[other] ^= moved;
            lines[i] ^= moved << (8 * side);
        }
    }
    lines.map(u64::to_le_bytes)
}
