//! Bands of rows: a run of steps executed a few rows at a time, so that of what lies between them only the rows are kept that are
//! still needed. What each step reads, how far it must stay behind, and how many rows a ring holds, are one arithmetic, which the
//! compiler plans with and the verifier checks with.
//!
//! In slice σ a step of `n` rows a slice and delay `d` computes the rows `[σ·n − d, (σ+1)·n − d)` that it has. Nothing is computed
//! twice, and the ends of a picture are nothing but the rows that are not there.

use core::ops::Range;

/// Which rows of an operand the rows of a step's output depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Those under a window that slides over them.
    Rows(Window),
    /// All of them, or nobody knows: the operand must be there before the first row is computed.
    Whole,
}

/// A window over rows: output rows `[a, b)` read the input rows `⌈(a·stride − pad)/upsample⌉ … ⌊((b−1)·stride − pad + span −
/// 1)/upsample⌋` that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Rows from a window to the next.
    pub stride: u32,
    /// Rows above the first that the first window covers.
    pub pad: i32,
    /// Rows from the begin to the end of a window.
    pub span: u32,
    /// Rows that each row of the operand stands for: the stride of a transposed convolution, otherwise 1.
    pub upsample: u32,
    /// Elements of a row of the operand.
    pub row: u32,
}

/// What a step computes in each slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Rows.
    pub rows: u32,
    /// Rows by which it stays behind.
    pub delay: u32,
}

/// What is made of a tensor in each slice, in elements: its readers may count in other rows than the step that writes it, pixels for
/// instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// Elements.
    pub elements: u32,
    /// Elements by which they stay behind.
    pub behind: u32,
}

impl Slice {
    /// The rows of slice `index`, of `all`.
    #[inline]
    pub fn of(self, index: u32, all: usize) -> Range<usize> {
        let (n, d) = (i64::from(self.rows), i64::from(self.delay));
        let at = |slice: i64| (slice * n - d).clamp(0, all as i64) as usize;
        at(index.into())..at(i64::from(index) + 1)
    }

    /// How many slices `all` rows take.
    pub fn count(self, all: u64) -> u64 {
        (all + u64::from(self.delay)).div_ceil(u64::from(self.rows).max(1))
    }

    /// The elements that it makes if a row has so many; `None` if these are more than a tensor can have.
    pub fn made(self, row: u32) -> Option<Made> {
        Some(Made { elements: self.rows.checked_mul(row)?, behind: self.delay.checked_mul(row)? })
    }
}

impl Window {
    /// Each row is made of the one in its place, of `row` elements.
    pub const fn pointwise(row: u32) -> Self {
        Window { stride: 1, pad: 0, span: 1, upsample: 1, row }
    }

    fn words(&self) -> [i64; 4] {
        [self.stride.into(), self.pad.into(), self.span.into(), self.upsample.into()]
    }

    /// Rows by which what is made stays behind, the last of which may be there in part.
    fn behind(&self, made: Made) -> i64 {
        made.behind.div_ceil(self.row.max(1)).into()
    }

    /// Whether the rows of a reader and of what it reads come at the same rate, whole ones in each slice.
    pub fn keeps_pace(&self, made: Made, read: Slice) -> bool {
        let [stride, _, _, upsample] = self.words();
        let rows = made.elements / self.row.max(1);
        rows.checked_mul(self.row) == Some(made.elements) && stride * i64::from(read.rows) == upsample * i64::from(rows)
    }

    /// Whether the rows that a slice reads are there, made in the same slice or before.
    pub fn is_behind(&self, made: Made, read: Slice) -> bool {
        let [stride, pad, span, upsample] = self.words();
        upsample * self.behind(made) + span - stride - pad <= stride * i64::from(read.delay)
    }

    /// The least delay of a reader of rows that are made with this delay.
    pub fn delay(&self, made: Made) -> u32 {
        let [stride, pad, span, upsample] = self.words();
        let behind = upsample * self.behind(made) + span - stride - pad;
        u32::try_from((behind + stride - 1).div_euclid(stride).max(0)).unwrap_or(u32::MAX)
    }

    /// The first row of the operand that is read for output row `row` or a later one; rows that are not there are not counted.
    pub fn first(&self, row: u64) -> u64 {
        let [stride, pad, _, upsample] = self.words();
        let at = i64::try_from(row).unwrap_or(i64::MAX).saturating_mul(stride).saturating_sub(pad);
        (at.saturating_add(upsample - 1).div_euclid(upsample)).max(0) as u64
    }

    /// Rows of the operand above the first of a slice's rows that the slice reads, if nothing is made late.
    fn back(&self, read: Slice) -> i64 {
        let [stride, pad, _, upsample] = self.words();
        (stride * i64::from(read.delay) + pad + upsample - 1).div_euclid(upsample)
    }

    /// The elements that must be kept, so that none is overwritten before it was read.
    pub fn capacity(&self, made: Made, read: Slice) -> i64 {
        i64::from(made.elements) - i64::from(made.behind) + i64::from(self.row).saturating_mul(self.back(read))
    }

    /// Whether all that a slice reads is made in the same one: nothing is kept for the next.
    pub fn is_local(&self, made: Made, read: Slice) -> bool {
        i64::from(made.behind) >= i64::from(self.row).saturating_mul(self.back(read))
    }
}

/// A whole tensor that is written where another one is read no more.
#[derive(Clone, Copy, Debug)]
pub struct Sliding {
    /// What the step that writes the one computes in a slice, how many rows there are, and bytes of each.
    pub write: (Slice, usize, u64),
    /// What a step that reads the other computes in a slice, and how many rows there are.
    pub read: (Slice, usize),
    /// Rows of the other that it reads, and bytes of each.
    pub window: (Window, u64),
    /// It stands before the step that writes, and so has read what it reads in a slice.
    pub before: bool,
}

impl Sliding {
    /// The bytes that are written up to a slice, less those that are not read any more.
    fn ahead(&self, slice: u32) -> i64 {
        let (write, rows, row_bytes) = self.write;
        let written = write.of(slice, rows);
        let (read, read_rows) = self.read;
        let reads = read.of(slice.saturating_add(self.before.into()), read_rows);
        let (window, window_bytes) = self.window;
        if written.is_empty() && self.before || reads.start >= read_rows {
            return 0;
        }
        let bytes = |n: u64, each: u64| i64::try_from(n.saturating_mul(each)).unwrap_or(i64::MAX);
        bytes(written.end as u64, row_bytes).saturating_sub(bytes(window.first(reads.start as u64), window_bytes))
    }

    /// The bytes by which the one must begin before the other, over all slices of a band. Between the slices in which a step
    /// begins, ends, or leaves its padding behind, what is written and what is read grow by the same in each: these slices, and
    /// those beside them, stand for all.
    pub fn distance(&self, slices: u32) -> u64 {
        let (write, rows, _) = self.write;
        let (read, read_rows) = self.read;
        let window = self.window.0;
        let padded = i64::from(window.pad) / i64::from(window.stride.max(1));
        let at = |slice: Slice, row: i64| row.saturating_add(slice.delay.into()) / i64::from(slice.rows.max(1));
        let turns = [
            0,
            at(write, 0),
            at(write, i64::try_from(rows).unwrap_or(i64::MAX)),
            at(read, 0),
            at(read, padded),
            at(read, i64::try_from(read_rows).unwrap_or(i64::MAX)),
            i64::from(slices) - 1,
        ];
        let near = turns.into_iter().flat_map(|turn| turn - 2..=turn + 2).filter_map(|slice| u32::try_from(slice).ok());
        let most = near.filter(|&slice| slice < slices).map(|slice| self.ahead(slice)).max();
        most.map_or(0, |most| most.max(0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    /// The rows that output row `r` reads, one by one.
    fn read(w: &Window, r: i64, height: i64) -> impl Iterator<Item = i64> {
        let (first, up) = (r * i64::from(w.stride) - i64::from(w.pad), i64::from(w.upsample));
        (first..first + i64::from(w.span))
            .filter(move |at| at % up == 0)
            .map(move |at| at / up)
            .filter(move |y| (0..height).contains(y))
    }

    proptest! {
        /// With the least delay and capacity every row that is read has been made and not been overwritten; with a row less in the ring
        /// than that, or a delay less, some is not, but where the ends of the picture make up for it. The writer counts in rows of
        /// `fine` of the reader's, or the reader in rows of `coarse` of the writer's.
        #[test]
        fn rows_are_there_when_they_are_read(
            (stride, span, pad, upsample) in (1..4u32, 1..6u32, -2..5i32, 1..3u32),
            (factor, made_delay, height) in (1..4u32, 0..5u32, 1..40i64),
            (fine, coarse) in prop_oneof![(1..4u32, Just(1u32)), (Just(1u32), 1..4u32)],
        ) {
            // Elements are the rows of the finer of both.
            let w = Window { stride, pad, span, upsample, row: coarse };
            let height = height * i64::from(fine * coarse);
            let writer = Slice { rows: stride * factor * coarse, delay: made_delay };
            let made = writer.made(fine).expect("small numbers");
            let read_rows = upsample * factor * fine;
            let slice = Slice { rows: read_rows, delay: w.delay(made) };
            prop_assert!(w.keeps_pace(made, slice) && w.is_behind(made, slice));
            let less = Slice { delay: slice.delay.saturating_sub(1), ..slice };
            prop_assert!(slice.delay == 0 || !w.is_behind(made, less));
            let capacity = w.capacity(made, slice).clamp(1, height);
            let rows = 40;
            let slices = slice.count(rows as u64) as u32;
            let mut ring = vec![-1; capacity as usize];
            let mut next = 0;
            for index in 0..slices {
                let rows_made = writer.of(index, (height / i64::from(fine)) as usize);
                for y in rows_made.start * fine as usize..rows_made.end * fine as usize {
                    prop_assert_eq!(y, next);
                    ring[y % capacity as usize] = y as i64;
                    next += 1;
                }
                for r in slice.of(index, rows) {
                    for y in read(&w, r as i64, height / i64::from(coarse)) {
                        for e in y * i64::from(coarse)..(y + 1) * i64::from(coarse) {
                            prop_assert_eq!(ring[e as usize % capacity as usize], e, "row {} of slice {}", r, index);
                        }
                    }
                }
            }
        }

        /// A few slices stand for all.
        #[test]
        fn what_slides_is_never_further_ahead(
            (stride, span, pad, upsample, factor) in (1..4u32, 1..6u32, -2..5i32, 1..3u32, 1..4u32),
            (rows, read_rows, delay, more, before) in (1..60usize, 1..60usize, 0..6u32, 0..6u32, any::<bool>()),
            (row, window_row) in (1..5u64, 1..5u64),
        ) {
            let window = Window { stride, pad, span, upsample, row: 1 };
            let read = Slice { rows: upsample * factor, delay };
            let write = Slice { rows: factor, delay: delay + more };
            let slices = read.count(read_rows as u64).max(write.count(rows as u64)) as u32;
            let sliding = Sliding { write: (write, rows, row), read: (read, read_rows), window: (window, window_row), before };
            let all = (0..slices).map(|slice| sliding.ahead(slice)).max().unwrap_or(0).max(0);
            prop_assert_eq!(sliding.distance(slices), all as u64);
        }
    }
}
