//! The selective scan of a state-space model (Gu and Dao, *Mamba: Linear-Time Sequence Modeling with Selective State
//! Spaces*, 2023, algorithm 2).

use core::ops::Range;

use super::Params;
use super::walk::elements;
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure, work};
use crate::format::words::record;
use crate::rows::{Operands, Tile, View, ViewMut, chunks};
use crate::{DType, math};

/// Channels that are scanned together: one row of the step.
pub const CHANNELS: usize = 16;
/// Largest state of a channel.
pub const MAX_STATE: usize = 256;
/// Partial sums of a readout.
const LANES: usize = 8;

record! {
    /// Parameters of a selective scan. For each channel `d` with its state `h [state]`, from frame to frame: Δ is delta, or
    /// softplus(delta); `h ← exp(Δ·A_d) · h + Δ·x·B`; `y = C·h + D_d·x`, times `SiLU(z)` if z is given.
    ///
    /// Inputs: 0 `x [batch, time, inner]`, 1 `delta [batch, time, inner]`, 2 `A [inner, state]` f32,
    /// 3 `B [batch, time, state]`, 4 `C [batch, time, state]`, 5 `D [inner]` f32 or absent, 6 `z [batch, time, inner]` or
    /// absent, 7 `h [batch, inner, state]` f32, the state before the first frame, or absent for zeros. Those without a type
    /// here may be of any. Outputs: 0 `y [batch, time, inner]`, 1 the state after the last frame, f32, which may lie where
    /// input 7 does. Rows: `batch` times groups of 16 channels.
    pub struct SelectiveScan {
        /// Sequences.
        pub batch: u32,
        /// Frames.
        pub time: u32,
        /// Channels.
        pub inner: u32,
        /// State of a channel.
        pub state: u32,
        /// Δ is softplus(delta).
        pub softplus: bool,
    }
}

impl Params for SelectiveScan {
    const OUTPUTS: usize = 2;

    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        ensure(self.time > 0 && (1..=MAX_STATE as u32).contains(&self.state), Fault::Params)?;
        let channels = [self.batch, self.time, self.inner];
        let states = [self.batch, self.time, self.state];
        let memory = [self.batch, self.inner, self.state];
        let float = |i: usize| c.optional(i).is_none_or(|t| t.dtype == DType::F32);
        ensure(float(2) && float(5) && float(7) && c.output_at(1)?.dtype == DType::F32, Fault::DType)?;
        c.size(&c.input(0)?, &channels)?;
        c.size(&c.input(1)?, &channels)?;
        c.size(&c.input(2)?, &[self.inner, self.state])?;
        c.size(&c.input(3)?, &states)?;
        c.size(&c.input(4)?, &states)?;
        for (i, dims) in [(5, &[self.inner][..]), (6, &channels[..]), (7, &memory[..])] {
            if let Some(t) = c.optional(i) {
                c.size(&t, dims)?;
            }
        }
        c.size(&c.output()?, &channels)?;
        c.size(&c.output_at(1)?, &memory)?;
        let rows = self.batch as usize * (self.inner as usize).div_ceil(CHANNELS);
        let frames = work(&[self.batch, self.time]);
        let each = work(&[self.inner, self.state, 16]).saturating_add(work(&[self.inner, 64]));
        let operands = work(&[self.inner.div_ceil(CHANNELS as u32), 2 * MAX_STATE as u32 + self.state]);
        let all = frames.saturating_mul(each.saturating_add(operands));
        Ok(Verdict::new(rows, all).state_in_place(1 << 7))
    }

    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        let inner = self.inner as usize;
        let groups = inner.div_ceil(CHANNELS).max(1);
        let sequences = rows.start / groups..rows.end.div_ceil(groups);
        // The first channel of a row, those of all sequences counted.
        let channel = |row: usize| row / groups * inner + (row % groups * CHANNELS).min(inner);
        match input {
            0 | 1 | 6 => Some(elements(sequences, &[self.time, self.inner])),
            3 | 4 => Some(elements(sequences, &[self.time, self.state])),
            7 => Some(elements(channel(rows.start)..channel(rows.end), &[self.state])),
            _ => None,
        }
    }

    #[inline(always)]
    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let groups = (self.inner as usize).div_ceil(CHANNELS).max(1);
        let scan = Scan {
            e,
            x: o.input(0),
            delta: o.input(1),
            b: o.input(3),
            c: o.input(4),
            z: o.optional(6),
            a: o.constant(2),
            d: o.constant(5),
            params: *self,
        };
        let start = o.optional(7);
        let (mut y, mut memory) = (o.output(), o.output_at(1));
        for row in rows {
            let first = row % groups * CHANNELS;
            let width = CHANNELS.min(self.inner as usize - first);
            scan.group(row / groups, first, width, start, &mut y, &mut memory);
        }
    }
}

struct Scan<'a, E> {
    e: E,
    x: View<'a>,
    delta: View<'a>,
    b: View<'a>,
    c: View<'a>,
    z: Option<View<'a>>,
    a: &'a [f32],
    d: &'a [f32],
    params: SelectiveScan,
}

impl<E: Elementwise> Scan<'_, E> {
    /// Scans `width` channels from `first` on of one sequence.
    #[inline(always)]
    fn group(
        &self,
        batch: usize,
        first: usize,
        width: usize,
        start: Option<View<'_>>,
        y: &mut ViewMut<'_>,
        memory: &mut ViewMut<'_>,
    ) {
        let e = self.e;
        let SelectiveScan { time, inner, state, softplus, .. } = self.params;
        let (time, inner, state) = (time as usize, inner as usize, state as usize);
        let at = (batch * inner + first) * state;
        chunks(at..at + width * state, |at, n| {
            let mut v = [0f32; crate::rows::CHUNK];
            if let Some(start) = start {
                e.load(&start, at, &mut v[..n]);
            }
            e.store(memory, at, &v[..n]);
        });
        let (mut b, mut c) = ([0f32; MAX_STATE], [0f32; MAX_STATE]);
        let (mut x, mut delta, mut z) = ([0f32; CHANNELS], [0f32; CHANNELS], [0f32; CHANNELS]);
        for t in batch * time..(batch + 1) * time {
            let here = t * inner + first;
            let mut out = [0f32; CHANNELS];
            e.scan(Frame {
                state,
                softplus,
                a: self.a.get(first * state..(first + width) * state).unwrap_or(&[]),
                b: e.reals(&self.b, t * state, b.get_mut(..state).unwrap_or(&mut [])),
                c: e.reals(&self.c, t * state, c.get_mut(..state).unwrap_or(&mut [])),
                d: self.d.get(first..first + width),
                x: e.reals(&self.x, here, &mut x[..width]),
                delta: e.reals(&self.delta, here, &mut delta[..width]),
                z: self.z.as_ref().map(|gate| e.reals(gate, here, &mut z[..width])),
                h: memory.slice::<f32>(at, width * state),
                y: &mut out[..width],
            });
            e.store(y, here, &out[..width]);
        }
    }
}

/// One frame of up to 16 channels of a selective scan.
pub struct Frame<'a> {
    /// Elements of a channel's state.
    pub state: usize,
    /// Δ is the softplus of `delta`.
    pub softplus: bool,
    /// The matrix A, `[channel][state]`.
    pub a: &'a [f32],
    /// The vector B of this frame, `[state]`.
    pub b: &'a [f32],
    /// The vector C of this frame, `[state]`.
    pub c: &'a [f32],
    /// What of x is added to the answer, by channel.
    pub d: Option<&'a [f32]>,
    /// The frame, by channel.
    pub x: &'a [f32],
    /// Its steps, by channel.
    pub delta: &'a [f32],
    /// Its gates, by channel.
    pub z: Option<&'a [f32]>,
    /// The state, `[channel][state]`: read and written.
    pub h: &'a mut [f32],
    /// What the frame answers by channel.
    pub y: &'a mut [f32],
}

impl Frame<'_> {
    /// `h ← exp(Δ·A)·h + (Δ·x)·B` and `y = C·h + D·x`, times `SiLU(z)`, of each channel.
    #[inline(always)]
    pub fn advance(self) {
        self.advance_by(|states| {
            let n = states.b.len().max(1);
            let channels = states.h.chunks_exact_mut(n).zip(states.a.chunks_exact(n));
            for (((h, a), (&delta, &dx)), y) in channels.zip(states.delta.iter().zip(states.dx)).zip(states.y) {
                *y = readout(h, a, states.b, states.c, delta, dx);
            }
        });
    }

    /// As [`Frame::advance`], with another way to advance the states.
    #[inline(always)]
    pub fn advance_by(self, states: impl FnOnce(States<'_>)) {
        let Self { state, softplus, a, b, c, d, x, delta: step, z, h, y } = self;
        let n = y.len().min(CHANNELS);
        let (mut delta, mut dx, mut out) = (filled(step), filled(x), [0f32; CHANNELS]);
        // Before the states, which do not ask for it: a CPU computes it beside the softplus.
        let mut gate = filled(z.unwrap_or(&[]));
        gate.iter_mut().for_each(|v| *v *= math::sigmoid(*v));
        if softplus {
            delta.iter_mut().for_each(|v| *v = math::softplus(*v));
        }
        (0..CHANNELS).for_each(|k| dx[k] *= delta[k]);
        let [b, c] = [b, c].map(|v| v.get(..state).unwrap_or(&[]));
        states(States { a, b, c, delta: &delta[..n], dx: &dx[..n], h, y: &mut out[..n] });
        if let Some(d) = d {
            let (d, x) = (filled(d), filled(x));
            (0..CHANNELS).for_each(|k| out[k] += d[k] * x[k]);
        }
        if z.is_some() {
            (0..CHANNELS).for_each(|k| out[k] *= gate[k]);
        }
        match y.first_chunk_mut::<CHANNELS>() {
            Some(y) => *y = out,
            None => y.copy_from_slice(&out[..n]),
        }
    }
}

/// The channels of a frame, with zeros behind the last.
#[inline(always)]
fn filled(of: &[f32]) -> [f32; CHANNELS] {
    match of.first_chunk() {
        Some(all) => *all,
        None => {
            let mut all = [0f32; CHANNELS];
            all.iter_mut().zip(of).for_each(|(to, &v)| *to = v);
            all
        }
    }
}

/// The states of a frame's channels, and what moves them.
pub struct States<'a> {
    /// The matrix A, `[channel][state]`.
    pub a: &'a [f32],
    /// B, `[state]`.
    pub b: &'a [f32],
    /// C, `[state]`.
    pub c: &'a [f32],
    /// Δ by channel.
    pub delta: &'a [f32],
    /// `Δ · x` by channel.
    pub dx: &'a [f32],
    /// The state, `[channel][state]`.
    pub h: &'a mut [f32],
    /// `C·h` by channel.
    pub y: &'a mut [f32],
}

/// Elements of a state that advance together.
const STEP: usize = 2 * LANES;

/// `h ← exp(Δ·A)·h + (Δ·x)·B` of a channel, and `C·h`, in a fixed order: eight partial sums, added in pairs at the end.
#[inline(always)]
fn readout(h: &mut [f32], a: &[f32], b: &[f32], c: &[f32], delta: f32, dx: f32) -> f32 {
    let mut sums = [0f32; LANES];
    let (whole, rest) = h.as_chunks_mut::<STEP>();
    let operands = a.as_chunks().0.iter().zip(b.as_chunks().0).zip(c.as_chunks().0);
    for (h, ((a, b), c)) in whole.iter_mut().zip(operands) {
        step(&mut sums, h, a, b, c, delta, dx);
    }
    if !rest.is_empty() {
        let first = a.len() - rest.len();
        let tail = |of: &[f32]| {
            let mut all = [0f32; STEP];
            all.iter_mut().zip(of.get(first..).unwrap_or(&[])).for_each(|(to, &v)| *to = v);
            all
        };
        let mut all = [0f32; STEP];
        all[..rest.len()].copy_from_slice(rest);
        step(&mut sums, &mut all, &tail(a), &tail(b), &tail(c), delta, dx);
        rest.copy_from_slice(&all[..rest.len()]);
    }
    let quarter = |i: usize| sums[i] + sums[i + 4];
    (quarter(0) + quarter(2)) + (quarter(1) + quarter(3))
}

/// A part of one channel's frame. The sum has a fixed order: eight partial sums, added in pairs at the end.
#[inline(always)]
fn step(
    sums: &mut [f32; LANES],
    h: &mut [f32; STEP],
    a: &[f32; STEP],
    b: &[f32; STEP],
    c: &[f32; STEP],
    delta: f32,
    dx: f32,
) {
    let mut products = [0f32; STEP];
    for l in 0..STEP {
        h[l] = math::exp(delta * a[l]) * h[l] + dx * b[l];
        products[l] = h[l] * c[l];
    }
    for l in 0..LANES {
        sums[l] = (sums[l] + products[l]) + products[l + LANES];
    }
}
