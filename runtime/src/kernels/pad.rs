//! Padding with a constant, the reflected or the repeated border.

use core::ops::Range;

use super::Params;
use super::walk::{DIMS, elements};
use crate::bands::{Rule, Window};
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure, product, work};
use crate::format::words::{code, record};
use crate::rows::{self, BUFFER, Operands, Tile, buffers};

code! {
    /// What lies outside the input.
    pub enum PadMode {
        /// A constant.
        Constant = 0,
        /// The input mirrored at its first and last element, which are not repeated.
        Reflect = 1,
        /// The nearest element of the input.
        Edge = 2,
        /// The input again, from its other end.
        Wrap = 3,
    }
}

record! {
    /// Parameters of a padding step. Input: 0 `x` with extents `input`; output: extents `output`, the same type and
    /// quantisation. Rows: `output[0] · output[1]`.
    pub struct Pad {
        /// What lies outside.
        pub mode: PadMode,
        /// Extents of the input.
        pub input: [u32; 6],
        /// Extents of the output.
        pub output: [u32; 6],
        /// Elements added before the input along each dimension; the rest is added behind it.
        pub before: [u32; 6],
        /// The constant, as a real.
        pub value: f32,
    }
}

impl Params for Pad {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        let (x, y) = (c.input(0)?, c.output()?);
        ensure(x.dtype == y.dtype, Fault::DType)?;
        c.size(&x, &self.input)?;
        c.size(&y, &self.output)?;
        for d in 0..DIMS {
            let (n, before) = (u64::from(self.input[d]), u64::from(self.before[d]));
            let total = u64::from(self.output[d]);
            ensure(n > 0 && n + before <= total && total < 1 << 28, Fault::Params)?;
            if matches!(self.mode, PadMode::Reflect | PadMode::Wrap) {
                let most = if self.mode == PadMode::Reflect { n - 1 } else { n };
                ensure(before <= most && total - n - before <= most, Fault::Params)?;
            }
        }
        let lines = work(&self.output[..DIMS - 1]).saturating_mul(64);
        Ok(Verdict::new(product(&self.output[..2])?, work(&self.output).saturating_mul(8).saturating_add(lines)))
    }

    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        if input != 0 {
            return None;
        }
        let height = (self.output[1] as usize).max(1);
        let outer = rows.start / height..rows.end.div_ceil(height);
        let whole = elements(self.sources(0, outer.clone()), &self.input[1..]);
        if outer.len() > 1 || whole.is_empty() {
            return Some(whole);
        }
        let start = outer.start * height;
        let inner = elements(self.sources(1, rows.start - start..rows.end - start), &self.input[2..]);
        Some(whole.start + inner.start..whole.start + inner.end)
    }

    fn row(&self) -> Option<u32> {
        self.output[2..].iter().try_fold(1u32, |n, &d| n.checked_mul(d))
    }

    /// What lies beyond a border is looked for up to twice as far away, on either side.
    fn rule(&self, input: usize) -> Rule {
        let row = self.input[2..].iter().try_fold(1u32, |n, &d| n.checked_mul(d));
        let Some(row) = row.filter(|_| input == 0 && self.output[0] == 1) else { return Rule::Whole };
        let before = self.before[1];
        let after = self.output[1].saturating_sub(self.input[1]).saturating_sub(before);
        let (above, below) = match self.mode {
            PadMode::Constant => (before, 0),
            PadMode::Edge => (before + after, before + after),
            PadMode::Reflect => (before + 2 * after, 2 * (before + after)),
            PadMode::Wrap => return Rule::Whole,
        };
        let Ok(pad) = i32::try_from(above) else { return Rule::Whole };
        Rule::Rows(Window { stride: 1, pad, span: below + 1, upsample: 1, row })
    }

    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let (x, mut out) = (o.input(0), o.output());
        let last = self.last();
        let size_of = |dims: &[u32]| dims.iter().map(|&n| n as usize).product::<usize>();
        // What one coordinate of the last padded dimension stands for, and the lines of a row along it.
        let dims = |of: Range<usize>| size_of(self.output.get(of).unwrap_or(&[]));
        let (each, lines) = (dims(last + 1..DIMS), dims(2..last));
        let extent = |of: &[u32; DIMS]| of.get(last).map_or(0, |&n| n as usize);
        let (before, inside, all) = (extent(&self.before), extent(&self.input), extent(&self.output));
        let constant = [self.value; BUFFER];
        let size = x.dtype.size();
        let mut put = |from: Option<usize>, to: usize, count: usize| {
            let (to, n) = (to * each, count * each);
            match from.map(|from| from * each) {
                Some(from) => rows::copy(x.slice(from * size, n * size), out.slice::<u8>(to * size, n * size)),
                None => buffers(0..n, |at, n| e.store(&mut out, to + at, &constant[..n])),
            }
        };
        for line in rows.start * lines..rows.end * lines {
            let to = line * all;
            let Some(from) = self.line(last, line).map(|from| from * inside) else {
                put(None, to, all);
                continue;
            };
            put(Some(from), to + before, inside);
            for border in [0..before, before + inside..all] {
                if self.mode == PadMode::Constant {
                    put(None, to + border.start, border.len());
                    continue;
                }
                for i in border {
                    put(self.source(last, i).map(|s| from + s), to + i, 1);
                }
            }
        }
    }
}

impl Pad {
    /// Which coordinate of the input stands at output coordinate `at` along dimension `d`; `None` for the constant.
    #[inline(always)]
    fn source(&self, d: usize, at: usize) -> Option<usize> {
        let n = self.input[d] as isize;
        let i = at as isize - self.before[d] as isize;
        let inside = match self.mode {
            _ if (0..n).contains(&i) => i,
            PadMode::Constant => return None,
            PadMode::Edge => i.min(n - 1).max(0),
            PadMode::Reflect if i < 0 => -i,
            PadMode::Reflect => 2 * (n - 1) - i,
            PadMode::Wrap => i.rem_euclid(n.max(1)),
        };
        Some(inside as usize)
    }

    /// The coordinates of the input between which those at output coordinates `at` along dimension `d` lie.
    fn sources(&self, d: usize, at: Range<usize>) -> Range<usize> {
        let begin = self.before[d] as usize;
        let end = begin + self.input[d] as usize;
        // Before, within and behind the input, where it runs one way each.
        let parts = [at.start..at.end.min(begin), at.start.max(begin)..at.end.min(end), at.start.max(end)..at.end];
        let ends = parts.into_iter().filter(|p| !p.is_empty()).flat_map(|p| [p.start, p.end - 1]);
        let sources = ends.filter_map(|at| self.source(d, at)).map(|s| s..s + 1);
        sources.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
    }

    /// The last padded dimension, of those within a row. All behind it is moved as one.
    fn last(&self) -> usize {
        (2..DIMS).rev().find(|&d| self.input[d] != self.output[d]).unwrap_or(2)
    }

    /// Which line (a run along dimension `last`) of the input stands at output line `at`.
    fn line(&self, last: usize, mut at: usize) -> Option<usize> {
        let (mut from, mut stride) = (0, 1);
        for d in (0..last).rev() {
            let n = (self.output[d] as usize).max(1);
            from += self.source(d, at % n)? * stride;
            stride *= self.input[d] as usize;
            at /= n;
        }
        Some(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against every coordinate by itself.
        #[test]
        fn sources_lie_between_those_that_are_said(
            mode in prop::sample::select(PadMode::ALL),
            (n, before, after) in (1..9u32, 0..9u32, 0..9u32),
            (from, more) in (0..26usize, 1..26usize),
        ) {
            let most = match mode {
                PadMode::Reflect => n - 1,
                PadMode::Wrap => n,
                PadMode::Constant | PadMode::Edge => u32::MAX,
            };
            let (before, after) = (before.min(most), after.min(most));
            let all = (before + n + after) as usize;
            let p = Pad { mode, input: [n; 6], output: [all as u32; 6], before: [before; 6], value: 0.0 };
            let range = from.min(all - 1)..(from + more).min(all);
            prop_assume!(!range.is_empty());
            let seen = || range.clone().filter_map(|at| p.source(0, at));
            let said = p.sources(0, range.clone());
            let exact = seen().min().map_or(0..0, |lo| lo..seen().max().unwrap_or(lo) + 1);
            prop_assert_eq!(said, exact);
        }
    }
}
