//! Padding with a constant, the reflected or the repeated border.

use super::Params;
use super::walk::DIMS;
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure, product, work};
use crate::format::words::{code, record};
use crate::rows::{CHUNK, Operands, Tile, chunks};

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

    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let (x, mut out) = (o.input(0), o.output());
        let per_row: usize = self.output[2..].iter().map(|&n| n as usize).product();
        let inner_in = self.input[DIMS - 1] as usize;
        let inner_out = self.output[DIMS - 1] as usize;
        let before = self.before[DIMS - 1] as usize;
        let mut v = [0f32; CHUNK];
        let size = x.dtype.size();
        let mut put = |from: Option<usize>, to: usize, n: usize| match from {
            Some(from) => out.slice::<u8>(to * size, n * size).copy_from_slice(x.slice(from * size, n * size)),
            None => chunks(0..n, |at, n| {
                v[..n].fill(self.value);
                e.store(&mut out, to + at, &v[..n]);
            }),
        };
        for line in rows.start * per_row / inner_out..rows.end * per_row / inner_out {
            let to = line * inner_out;
            let Some(from) = self.line(line) else {
                put(None, to, inner_out);
                continue;
            };
            let from = from * inner_in;
            put(Some(from), to + before, inner_in);
            for i in (0..before).chain(before + inner_in..inner_out) {
                put(self.source(DIMS - 1, i).map(|s| from + s), to + i, 1);
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
            PadMode::Edge => i.clamp(0, n - 1),
            PadMode::Reflect if i < 0 => -i,
            PadMode::Reflect => 2 * (n - 1) - i,
            PadMode::Wrap => i.rem_euclid(n),
        };
        Some(inside as usize)
    }

    /// Which line (innermost run) of the input stands at output line `at`.
    fn line(&self, mut at: usize) -> Option<usize> {
        let (mut from, mut stride) = (0, 1);
        for d in (0..DIMS - 1).rev() {
            let n = self.output[d] as usize;
            from += self.source(d, at % n)? * stride;
            stride *= self.input[d] as usize;
            at /= n;
        }
        Some(from)
    }
}
