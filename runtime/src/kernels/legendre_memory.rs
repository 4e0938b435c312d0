//! The memory of a Legendre memory unit (Voelker, Kajić and Eliasmith, *Legendre Memory Units: Continuous-Time
//! Representation in Recurrent Neural Networks*, 2019, equation 4).

use core::ops::Range;

use super::Params;
use super::walk::elements;
use crate::DType;
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure, work};
use crate::format::words::record;
use crate::rows::{Operands, Tile};

/// Largest order of a memory.
pub const MAX_ORDER: usize = 512;
/// Rows of A that are packed side by side.
pub const LANES: usize = 8;

record! {
    /// Parameters of a Legendre memory: for each channel of u, from frame to frame `m ← A·m + B·u`.
    ///
    /// Inputs: 0 `u [batch, time, channels]` of any type, 1 `A [order / 8, order, 8]` f32, constant: element `[k, j, i]` is
    /// row `8k + i`, column `j`, rows beyond `order` being zero, 2 `B [order]` f32, constant, 3 `m [batch, channels, order]`
    /// f32, the memory before the first frame, or absent for zeros. Output: `m [batch, time, channels, order]` f32. Rows:
    /// `batch · channels`.
    pub struct LegendreMemory {
        /// Sequences.
        pub batch: u32,
        /// Frames.
        pub time: u32,
        /// Channels, each with a memory of its own.
        pub channels: u32,
        /// Coefficients of a memory.
        pub order: u32,
    }
}

impl Params for LegendreMemory {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        ensure(self.time > 0 && (1..=MAX_ORDER as u32).contains(&self.order), Fault::Params)?;
        let output = c.output()?;
        let start = c.optional(3);
        ensure(output.dtype == DType::F32 && start.is_none_or(|t| t.dtype == DType::F32), Fault::DType)?;
        c.size(&c.input(0)?, &[self.batch, self.time, self.channels])?;
        c.constant(1, DType::F32, &[self.order.div_ceil(LANES as u32), self.order, LANES as u32])?;
        c.constant(2, DType::F32, &[self.order])?;
        if let Some(t) = start {
            c.size(&t, &[self.batch, self.channels, self.order])?;
        }
        c.size(&output, &[self.batch, self.time, self.channels, self.order])?;
        let frame = work(&[self.order.next_multiple_of(LANES as u32), self.order + 4]) + 16;
        let all = work(&[self.batch, self.time, self.channels]).saturating_mul(frame);
        Ok(Verdict::new(self.batch as usize * self.channels as usize, all))
    }

    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        let channels = (self.channels as usize).max(1);
        match input {
            0 => Some(elements(rows.start / channels..rows.end.div_ceil(channels), &[self.time, self.channels])),
            3 => Some(elements(rows, &[self.order])),
            _ => None,
        }
    }

    #[inline(always)]
    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let (time, channels, order) = (self.time as usize, self.channels as usize, self.order as usize);
        let (u, a, b) = (o.input(0), o.constant::<f32>(1), o.constant::<f32>(2));
        let mut out = o.output();
        for row in rows {
            let (batch, channel) = (row / channels.max(1), row % channels.max(1));
            let mut memory = [0f32; MAX_ORDER];
            let Some(memory) = memory.get_mut(..order) else { return };
            if let Some(start) = o.optional(3) {
                e.load(&start, row * order, memory);
            }
            for t in batch * time..(batch + 1) * time {
                let mut input = [0f32];
                e.load(&u, t * channels + channel, &mut input);
                let next = out.slice::<f32>((t * channels + channel) * order, order);
                e.memory(MemoryFrame { next: &mut *next, memory, a, b, u: input[0] });
                if next.len() == memory.len() {
                    memory.copy_from_slice(next);
                }
            }
        }
    }
}

/// One frame of a memory: `next = A·m + B·u`.
#[derive(Debug)]
pub struct MemoryFrame<'a> {
    /// The memory after it, `[order]`.
    pub next: &'a mut [f32],
    /// The memory before it, `[order]`.
    pub memory: &'a [f32],
    /// A, packed `[order / 8, order, 8]`.
    pub a: &'a [f32],
    /// B, `[order]`.
    pub b: &'a [f32],
    /// The input.
    pub u: f32,
}

impl MemoryFrame<'_> {
    /// Computes it.
    #[inline(always)]
    pub fn advance(self) {
        memory_rows(self.next, self.memory, self.a, self.b, self.u);
    }
}

/// Blocks of [`LANES`] elements that are summed side by side: one alone would wait for each of its additions.
const BLOCKS: usize = 2;

/// The elements `next` of `A·m + B·u`, with their rows of A and B. Each element is summed over the columns in order, with two
/// partial sums.
#[inline(always)]
pub fn memory_rows(mut next: &mut [f32], memory: &[f32], mut a: &[f32], mut b: &[f32], u: f32) {
    if !(1..=MAX_ORDER).contains(&memory.len()) {
        return;
    }
    let block = memory.len() * LANES;
    while !next.is_empty() {
        let both = next.len() > LANES && a.len() >= block * BLOCKS;
        let blocks = if both { BLOCKS } else { 1 };
        let n = next.len().min(LANES * blocks);
        let (Some((to, others)), Some((rows, more)), Some((own, rest))) = (
            core::mem::take(&mut next).split_at_mut_checked(n),
            a.split_at_checked(block * blocks),
            b.split_at_checked(n),
        ) else {
            return;
        };
        if both {
            self::blocks::<BLOCKS>(to, memory, rows, own, u);
        } else {
            self::blocks::<1>(to, memory, rows, own, u);
        }
        (next, a, b) = (others, more, rest);
    }
}

/// `N` blocks of elements.
#[inline(always)]
fn blocks<const N: usize>(next: &mut [f32], memory: &[f32], a: &[f32], b: &[f32], u: f32) {
    let order = memory.len();
    let rows: [&[[f32; LANES]]; N] =
        core::array::from_fn(|n| a.as_chunks().0.get(n * order..(n + 1) * order).unwrap_or(&[]));
    if rows.iter().any(|r| r.len() != order) {
        return;
    }
    let (mut even, mut odd) = ([[0f32; LANES]; N], [[0f32; LANES]; N]);
    let (pairs, last) = memory.as_chunks::<2>();
    let rows = rows.map(|r| r.as_chunks::<2>());
    for (k, m) in pairs.iter().enumerate() {
        for n in 0..N {
            let Some([a, b]) = rows[n].0.get(k) else { return };
            for i in 0..LANES {
                even[n][i] += a[i] * m[0];
                odd[n][i] += b[i] * m[1];
            }
        }
    }
    if let [m] = last {
        for n in 0..N {
            let [a] = rows[n].1 else { return };
            for i in 0..LANES {
                even[n][i] += a[i] * m;
            }
        }
    }
    let sums = even.as_flattened().iter().zip(odd.as_flattened());
    for ((next, b), (even, odd)) in next.iter_mut().zip(b).zip(sums) {
        *next = (even + odd) + b * u;
    }
}
