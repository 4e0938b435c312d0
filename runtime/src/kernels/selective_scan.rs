//! The selective scan of a state-space model (Gu and Dao, *Mamba: Linear-Time Sequence Modeling with Selective State
//! Spaces*, 2023, algorithm 2).

use super::Params;
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

    #[inline(always)]
    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let groups = (self.inner as usize).div_ceil(CHANNELS);
        let scan = Scan {
            x: o.input(0),
            delta: o.input(1),
            b: o.input(3),
            c: o.input(4),
            z: o.has_input(6).then(|| o.input(6)),
            a: o.constant(2),
            d: o.constant(5),
            params: *self,
        };
        let start = o.has_input(7).then(|| o.input(7));
        let (mut y, mut memory) = (o.output(), o.output_at(1));
        for row in rows {
            let first = row % groups * CHANNELS;
            let width = CHANNELS.min(self.inner as usize - first);
            scan.group(e, row / groups, first, width, start, &mut y, &mut memory);
        }
    }
}

struct Scan<'a> {
    x: View<'a>,
    delta: View<'a>,
    b: View<'a>,
    c: View<'a>,
    z: Option<View<'a>>,
    a: &'a [f32],
    d: &'a [f32],
    params: SelectiveScan,
}

impl Scan<'_> {
    /// Scans `width` channels from `first` on of one sequence.
    #[inline(always)]
    fn group<E: Elementwise>(
        &self,
        e: E,
        batch: usize,
        first: usize,
        width: usize,
        start: Option<View<'_>>,
        y: &mut ViewMut<'_>,
        memory: &mut ViewMut<'_>,
    ) {
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
        let together = (MAX_STATE / state).clamp(1, CHANNELS);
        let (mut b, mut c) = ([0f32; MAX_STATE], [0f32; MAX_STATE]);
        for t in batch * time..(batch + 1) * time {
            let (mut x, mut delta, mut out) = ([0f32; CHANNELS], [0f32; CHANNELS], [0f32; CHANNELS]);
            e.load(&self.x, t * inner + first, &mut x[..width]);
            e.load(&self.delta, t * inner + first, &mut delta[..width]);
            e.load(&self.b, t * state, &mut b[..state]);
            e.load(&self.c, t * state, &mut c[..state]);
            if softplus {
                delta[..width].iter_mut().for_each(|v| *v = math::softplus(*v));
            }
            // The exponentials of several channels at once, in one long loop that vectorises.
            for start in (0..width).step_by(together) {
                let channels = start..(start + together).min(width);
                let mut decay = [0f32; MAX_STATE];
                for (k, decay) in channels.clone().zip(decay.chunks_exact_mut(state)) {
                    let a = self.a.get((first + k) * state..(first + k + 1) * state).unwrap_or(&[]);
                    decay.iter_mut().zip(a).for_each(|(v, a)| *v = delta[k] * a);
                }
                decay[..channels.len() * state].iter_mut().for_each(|v| *v = math::exp(*v));
                for (k, decay) in channels.zip(decay.chunks_exact(state)) {
                    let h = memory.slice::<f32>(at + k * state, state);
                    out[k] = advance(h, decay, &b, &c, delta[k] * x[k]);
                }
            }
            if let Some(d) = self.d.get(first..first + width) {
                for k in 0..width {
                    out[k] += d[k] * x[k];
                }
            }
            if let Some(z) = self.z {
                let mut v = [0f32; CHANNELS];
                e.load(&z, t * inner + first, &mut v[..width]);
                for k in 0..width {
                    out[k] *= v[k] * math::sigmoid(v[k]);
                }
            }
            e.store(y, t * inner + first, &out[..width]);
        }
    }
}

/// One frame of one channel: `h ← decay·h + Δx·b`, and `c·h`. The sum has a fixed order: eight partial sums, added in pairs.
#[inline(always)]
fn advance(h: &mut [f32], decay: &[f32], b: &[f32], c: &[f32], dx: f32) -> f32 {
    let mut sums = [0f32; LANES];
    let n = h.len().min(decay.len());
    let (whole, rest) = h[..n].as_chunks_mut::<LANES>();
    let operands = decay.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0).zip(c.as_chunks::<LANES>().0);
    for (h, ((decay, b), c)) in whole.iter_mut().zip(operands) {
        for l in 0..LANES {
            h[l] = decay[l] * h[l] + dx * b[l];
            sums[l] += h[l] * c[l];
        }
    }
    let first = n - rest.len();
    for (l, h) in rest.iter_mut().enumerate() {
        *h = decay[first + l] * *h + dx * b[first + l];
        sums[l] += *h * c[first + l];
    }
    let quarter = |i: usize| sums[i] + sums[i + 4];
    (quarter(0) + quarter(2)) + (quarter(1) + quarter(3))
}
