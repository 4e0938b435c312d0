//! The ends of products in vectors: sums to results in one pass over a tile, in several where functions stand between that are
//! no few instructions. The bits are those of [`Finish::integers`] and [`Finish::floats`], which do what is rare.

use core::arch::aarch64::*;

use kinglet::elementwise::Elementwise;
use kinglet::kernels::{BinaryOp, UnaryOp};
use kinglet::product::{Finish, Place, STAGES, Stage};
use kinglet::rows::View;
use kinglet::{DType, f16};

use super::grid::Grid;
use super::halves::{narrow, read_halves, wide, write_halves};
use super::{BLOCK, Reals, of_array, read, to_array, write};
use crate::some;

/// Takes the integer sums of a tile to results.
pub(crate) fn integers<E: Elementwise>(f: &mut Finish<'_, E>, to: Place, sums: &mut [i32], other: &mut [f32]) {
    let rounds = f.params.rounds;
    let channels = to.channel..to.channel + to.width;
    let (bias, multipliers) = (f.bias_i32.get(channels.clone()), f.multipliers.get(channels));
    let (Some(bias), Some(multipliers)) = (bias, multipliers) else { return };
    let start = Start::Integers { bias, multipliers, rounds };
    if (rounds && f.stages().is_empty()) || !ends(f, to, as_reals(sums), start) {
        f.integers(to, sums, other);
    }
}

/// Takes the float sums of a tile to results.
pub(crate) fn floats<E: Elementwise>(f: &mut Finish<'_, E>, to: Place, sums: &mut [f32], other: &mut [f32]) {
    let start = Start::Floats { bias: f.bias_f32.get(to.channel..).unwrap_or(&[]) };
    if !ends(f, to, sums, start) {
        f.floats(to, sums, other);
    }
}

/// The memory of integer sums, where their reals take their places.
fn as_reals(sums: &mut [i32]) -> &mut [f32] {
    // SAFETY: as long and as aligned, and any bits are a float.
    unsafe { core::slice::from_raw_parts_mut(sums.as_mut_ptr().cast(), sums.len()) }
}

/// What lies in the memory of the sums before a pass.
#[derive(Clone, Copy)]
enum Start<'a> {
    /// Integer sums; [`Finish`] says what `rounds` does to them.
    Integers { bias: &'a [i32], multipliers: &'a [f32], rounds: bool },
    /// Float sums without their bias.
    Floats { bias: &'a [f32] },
    /// What the stages before have left.
    Reals,
}

/// How elements lie.
#[derive(Clone, Copy)]
enum Stored {
    Floats,
    Halves,
    Bytes(Grid),
}

impl Stored {
    /// Those of a tensor; `None` if they are of another type.
    fn of(dtype: DType, scale: f32, zero_point: i32) -> Option<Stored> {
        match dtype {
            DType::F32 => Some(Stored::Floats),
            DType::F16 => Some(Stored::Halves),
            _ => Grid::of(dtype, scale, zero_point).map(Stored::Bytes),
        }
    }

    /// Bytes of an element.
    #[inline(always)]
    fn size(&self) -> usize {
        match self {
            Stored::Floats => 4,
            Stored::Halves => 2,
            Stored::Bytes(_) => 1,
        }
    }
}

/// Elements under a tile: those of pixel `p` from `first + p · step` on.
#[derive(Clone, Copy)]
struct Elements {
    first: *mut u8,
    step: usize,
    stored: Stored,
}

/// Where the residual under a tile lies; `None` if its elements are neither bytes nor floats.
fn residual(r: &View<'_>, to: Place, pixels: usize) -> Option<Elements> {
    let stored = Stored::of(r.dtype, r.scale, r.zero_point)?;
    let first: *const u8 = match stored {
        Stored::Floats => r.pixels::<f32>(to.at, to.width, to.step, pixels)?.cast(),
        Stored::Halves => r.pixels::<f16>(to.at, to.width, to.step, pixels)?.cast(),
        Stored::Bytes(_) => r.pixels::<u8>(to.at, to.width, to.step, pixels)?,
    };
    Some(Elements { first: first.cast_mut(), step: to.step, stored })
}

/// Where the results of a tile go, likewise.
fn results<E: Elementwise>(f: &mut Finish<'_, E>, to: Place, pixels: usize) -> Option<Elements> {
    let stored = Stored::of(f.out.dtype(), f.out.scale(), f.out.zero_point())?;
    let first: *mut u8 = match stored {
        Stored::Floats => f.out.pixels::<f32>(to.at, to.width, to.step, pixels)?.as_mut_ptr().cast(),
        Stored::Halves => f.out.pixels::<f16>(to.at, to.width, to.step, pixels)?.as_mut_ptr().cast(),
        Stored::Bytes(_) => f.out.pixels::<u8>(to.at, to.width, to.step, pixels)?.as_mut_ptr(),
    };
    Some(Elements { first, step: to.step, stored })
}

/// Whether a stage is computed in a pass.
fn is_short(stage: &Stage) -> bool {
    match *stage {
        Stage::Channels(op) | Stage::Residual(op) => matches!(op, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul),
        Stage::Function { op, .. } => matches!(op, UnaryOp::Relu | UnaryOp::Affine),
        Stage::Nothing => true,
    }
}

/// All that happens to the sums; `false` if something is not known here, with nothing done.
fn ends<E: Elementwise>(f: &mut Finish<'_, E>, to: Place, sums: &mut [f32], mut start: Start<'_>) -> bool {
    let stages = f.stages();
    let pixels = sums.len() / to.width.max(1);
    let function = |s: &Stage| matches!(s, Stage::Function { .. });
    if pixels == 0 || !stages.iter().all(|s| is_short(s) || function(s)) {
        return false;
    }
    let Some(out) = results(f, to, pixels) else { return false };
    let other = match f.residual.map(|r| residual(&r, to, pixels)) {
        Some(None) => return false,
        Some(there) => there,
        None => None,
    };
    let (mut done, mut row) = (0, to.channel);
    loop {
        let some = stages[done..].iter().take_while(|s| is_short(s)).count();
        let now = &stages[done..done + some];
        let mut constants: [&[f32]; STAGES] = [&[]; STAGES];
        for (stage, constants) in now.iter().zip(&mut constants) {
            if let Stage::Channels(_) = stage {
                *constants = f.constants.get(row..row + to.width).unwrap_or(&[]);
                row += f.channels;
            }
        }
        done += some;
        let last = done == stages.len();
        let pass = Pass { start, stages: now, constants, width: to.width, pixels, other, out: last.then_some(out) };
        // SAFETY: `results` and `residual` have checked the elements under the tile; there is a sum for each of them.
        unsafe { pass.run(f, sums) };
        let Some(&Stage::Function { op, alpha, beta }) = stages.get(done) else { return true };
        f.e.unary(op, [alpha, beta], sums);
        (start, done) = (Start::Reals, done + 1);
    }
}

/// A pass over the sums `[pixel][channel]` of a tile: to `out`, or back to their places.
struct Pass<'a> {
    start: Start<'a>,
    stages: &'a [Stage],
    constants: [&'a [f32]; STAGES],
    width: usize,
    pixels: usize,
    other: Option<Elements>,
    out: Option<Elements>,
}

impl Pass<'_> {
    /// # Safety
    /// `other` and `out` have as many elements as there are sums.
    unsafe fn run<E: Elementwise>(&self, f: &Finish<'_, E>, sums: &mut [f32]) {
        let p = f.params;
        // SAFETY: NEON is always there.
        let mid = unsafe {
            let bound = |v: i32| vdupq_n_f32(v.wrapping_sub(p.mid_zero) as f32);
            [bound(p.q_lo), bound(p.q_hi), vdupq_n_f32(p.mid_scale)]
        };
        let mut channel = 0;
        while channel < self.width {
            let there = BLOCK.min(self.width - channel);
            // SAFETY: the caller's.
            unsafe {
                let of = self.channels(channel);
                let mut pixel = 0;
                if there == BLOCK {
                    while pixel + PIXELS <= self.pixels {
                        self.block::<PIXELS, 1>(mid, &of, sums, (pixel, channel));
                        pixel += PIXELS;
                    }
                    while pixel < self.pixels {
                        self.block::<1, 1>(mid, &of, sums, (pixel, channel));
                        pixel += 1;
                    }
                } else if there == BLOCK / 2 {
                    let of = of.twice();
                    while pixel + 2 * PIXELS <= self.pixels {
                        self.block::<PIXELS, 2>(mid, &of, sums, (pixel, channel));
                        pixel += 2 * PIXELS;
                    }
                    while pixel + 2 <= self.pixels {
                        self.block::<1, 2>(mid, &of, sums, (pixel, channel));
                        pixel += 2;
                    }
                }
                while pixel < self.pixels {
                    self.some(mid, &of, sums, (pixel, channel), there);
                    pixel += 1;
                }
            }
            channel += BLOCK;
        }
    }

    /// The constants of 16 channels from `channel` on; 0 for those that are not there.
    #[inline(always)]
    fn channels(&self, channel: usize) -> Channels {
        // SAFETY: NEON is always there.
        let zero = unsafe { vdupq_n_f32(0.0) };
        let mut stages = [[zero; 4]; STAGES];
        for i in 0..STAGES {
            if let Some(Stage::Channels(_)) = self.stages.get(i) {
                stages[i] = of_array(&some(self.constants[i], channel));
            }
        }
        let (mut bias, mut m) = ([zero; 4], [zero; 4]);
        match self.start {
            Start::Integers { bias: b, multipliers, .. } => {
                // SAFETY: an array of 16 is as large as four vectors of four.
                bias = unsafe { core::mem::transmute::<[i32; BLOCK], Reals>(some(b, channel)) };
                m = of_array(&some(multipliers, channel));
            }
            Start::Floats { bias: b } => bias = of_array(&some(b, channel)),
            Start::Reals => {}
        }
        Channels { bias, m, stages }
    }

    /// `P` blocks: 16 channels of a pixel each, or, of `N` = 2, eight of two pixels.
    ///
    /// # Safety
    /// As of [`Pass::run`]; they are there.
    #[inline(always)]
    unsafe fn block<const P: usize, const N: usize>(
        &self,
        mid: [float32x4_t; 3],
        of: &Channels,
        sums: &mut [f32],
        (pixel, channel): (usize, usize),
    ) {
        let Some(own) = sums.get_mut(pixel * self.width + channel..) else { return };
        if own.len() < (N * P - 1) * self.width + BLOCK / N {
            return;
        }
        // SAFETY: that has just been checked; the rest is the caller's.
        unsafe {
            let own = Elements { first: own.as_mut_ptr().cast(), step: self.width, stored: Stored::Floats };
            let mut v = own.load::<P, N>(own.first);
            self.apply(mid, of, &mut v, |r| r.load::<P, N>(r.first.add((pixel * r.step + channel) * r.size())));
            match self.out {
                Some(out) => out.store::<P, N>(out.first.add((pixel * out.step + channel) * out.size()), &v),
                None => own.store::<P, N>(own.first, &v),
            }
        }
    }

    /// The last channels of a pixel, fewer than 16.
    ///
    /// # Safety
    /// As of [`Pass::block`].
    #[inline(never)]
    unsafe fn some(
        &self,
        mid: [float32x4_t; 3],
        of: &Channels,
        sums: &mut [f32],
        (pixel, channel): (usize, usize),
        there: usize,
    ) {
        let Some(own) = sums.get_mut(pixel * self.width + channel..).and_then(|s| s.get_mut(..there)) else { return };
        let mut v = [of_array(&some(own, 0))];
        // SAFETY: the caller's.
        unsafe {
            self.apply(mid, of, &mut v, |r| {
                let at = r.first.add((pixel * r.step + channel) * r.size());
                let bytes = core::slice::from_raw_parts(at, there * r.size());
                let mut all = [0u8; 4 * BLOCK];
                all[..bytes.len()].copy_from_slice(bytes);
                r.load::<1, 1>(all.as_mut_ptr())
            });
            match self.out {
                Some(out) => {
                    let at = out.first.add((pixel * out.step + channel) * out.size());
                    let mut all = [0u8; 4 * BLOCK];
                    out.store::<1, 1>(all.as_mut_ptr(), &v);
                    core::ptr::copy_nonoverlapping(all.as_ptr(), at, there * out.size());
                }
                None => own.copy_from_slice(&to_array(v[0])[..there]),
            }
        }
    }

    /// Takes what lies in the memory of the sums through the stages.
    #[inline(always)]
    fn apply<const P: usize>(
        &self,
        mid: [float32x4_t; 3],
        of: &Channels,
        v: &mut [Reals; P],
        residual: impl Fn(&Elements) -> [Reals; P],
    ) {
        // SAFETY: NEON is always there.
        unsafe {
            match self.start {
                Start::Integers { rounds, .. } => {
                    for v in v.iter_mut() {
                        for k in 0..4 {
                            let sum = vaddq_s32(vreinterpretq_s32_f32(v[k]), vreinterpretq_s32_f32(of.bias[k]));
                            v[k] = vmulq_f32(vcvtq_f32_s32(sum), of.m[k]);
                        }
                    }
                    if rounds {
                        for v in v.iter_mut() {
                            for k in 0..4 {
                                // Of NaN and a number the number is taken.
                                let q = vcvtnq_s32_f32(vminnmq_f32(vmaxnmq_f32(v[k], mid[0]), mid[1]));
                                v[k] = vmulq_f32(vcvtq_f32_s32(q), mid[2]);
                            }
                        }
                    }
                }
                Start::Floats { .. } => {
                    for v in v.iter_mut() {
                        for k in 0..4 {
                            v[k] = vaddq_f32(v[k], of.bias[k]);
                        }
                    }
                }
                Start::Reals => {}
            }
            for (stage, constants) in self.stages.iter().zip(&of.stages) {
                match *stage {
                    Stage::Channels(op) => binary(op, v, &[*constants; P]),
                    Stage::Residual(op) => {
                        let Some(r) = &self.other else { continue };
                        binary(op, v, &residual(r));
                    }
                    Stage::Function { op: UnaryOp::Relu, .. } => {
                        let zero = vdupq_n_f32(0.0);
                        for v in v.iter_mut() {
                            for v in v {
                                // NaN stays, and so does −0.
                                *v = vbslq_f32(vcltq_f32(*v, zero), zero, *v);
                            }
                        }
                    }
                    Stage::Function { alpha, beta, .. } => {
                        let (alpha, beta) = (vdupq_n_f32(alpha), vdupq_n_f32(beta));
                        for v in v.iter_mut() {
                            for v in v {
                                *v = vaddq_f32(vmulq_f32(alpha, *v), beta);
                            }
                        }
                    }
                    Stage::Nothing => {}
                }
            }
        }
    }
}

/// Pixels that go through the stages together.
const PIXELS: usize = 3;

/// The constants of 16 channels.
struct Channels {
    bias: Reals,
    m: Reals,
    stages: [Reals; STAGES],
}

impl Channels {
    /// The first eight of them twice.
    #[inline(always)]
    fn twice(&self) -> Channels {
        let twice = |v: Reals| [v[0], v[1], v[0], v[1]];
        let mut stages = self.stages;
        for v in &mut stages {
            *v = twice(*v);
        }
        Channels { bias: twice(self.bias), m: twice(self.m), stages }
    }
}

#[inline(always)]
fn binary<const P: usize>(op: BinaryOp, a: &mut [Reals; P], b: &[Reals; P]) {
    for p in 0..P {
        for k in 0..4 {
            // SAFETY: NEON is always there.
            a[p][k] = unsafe {
                match op {
                    BinaryOp::Add => vaddq_f32(a[p][k], b[p][k]),
                    BinaryOp::Sub => vsubq_f32(a[p][k], b[p][k]),
                    _ => vmulq_f32(a[p][k], b[p][k]),
                }
            };
        }
    }
}

impl Elements {
    /// Bytes of an element.
    #[inline(always)]
    fn size(&self) -> usize {
        self.stored.size()
    }

    /// `P` blocks as reals ([`Pass::block`]), that of the first pixel from `at` on.
    ///
    /// # Safety
    /// They are there.
    #[inline(always)]
    unsafe fn load<const P: usize, const N: usize>(&self, at: *mut u8) -> [Reals; P] {
        // SAFETY: NEON is always there; the rest is the caller's.
        unsafe {
            let mut v = [[vdupq_n_f32(0.0); 4]; P];
            for p in 0..P {
                v[p] = match &self.stored {
                    Stored::Bytes(grid) if N == 1 => grid.reals(vld1q_u8(at.add(p * self.step))),
                    Stored::Bytes(grid) => {
                        let (a, b) = (vld1_u8(at.add(2 * p * self.step)), vld1_u8(at.add((2 * p + 1) * self.step)));
                        grid.reals(vcombine_u8(a, b))
                    }
                    Stored::Halves if N == 1 => read_halves(at.cast::<f16>().add(p * self.step)),
                    Stored::Halves => {
                        let (a, b) =
                            (at.cast::<u16>().add(2 * p * self.step), at.cast::<u16>().add((2 * p + 1) * self.step));
                        let ([a, b], [c, d]) = (wide(vld1q_u16(a)), wide(vld1q_u16(b)));
                        [a, b, c, d]
                    }
                    Stored::Floats if N == 1 => read(at.cast::<f32>().add(p * self.step)),
                    Stored::Floats => {
                        let (a, b) =
                            (at.cast::<f32>().add(2 * p * self.step), at.cast::<f32>().add((2 * p + 1) * self.step));
                        [vld1q_f32(a), vld1q_f32(a.add(4)), vld1q_f32(b), vld1q_f32(b.add(4))]
                    }
                };
            }
            v
        }
    }

    /// Stores the reals of `P` blocks likewise.
    ///
    /// # Safety
    /// They are there, to be written.
    #[inline(always)]
    unsafe fn store<const P: usize, const N: usize>(&self, at: *mut u8, v: &[Reals; P]) {
        // SAFETY: the caller's.
        unsafe {
            for p in 0..P {
                match &self.stored {
                    Stored::Bytes(grid) if N == 1 => vst1q_u8(at.add(p * self.step), grid.bytes(v[p])),
                    Stored::Bytes(grid) => {
                        let bytes = grid.bytes(v[p]);
                        vst1_u8(at.add(2 * p * self.step), vget_low_u8(bytes));
                        vst1_u8(at.add((2 * p + 1) * self.step), vget_high_u8(bytes));
                    }
                    Stored::Halves if N == 1 => write_halves(at.cast::<f16>().add(p * self.step), v[p]),
                    Stored::Halves => {
                        let (a, b) =
                            (at.cast::<u16>().add(2 * p * self.step), at.cast::<u16>().add((2 * p + 1) * self.step));
                        vst1q_u16(a, narrow(v[p][0], v[p][1]));
                        vst1q_u16(b, narrow(v[p][2], v[p][3]));
                    }
                    Stored::Floats if N == 1 => write(at.cast::<f32>().add(p * self.step), v[p]),
                    Stored::Floats => {
                        let (a, b) =
                            (at.cast::<f32>().add(2 * p * self.step), at.cast::<f32>().add((2 * p + 1) * self.step));
                        vst1q_f32(a, v[p][0]);
                        vst1q_f32(a.add(4), v[p][1]);
                        vst1q_f32(b, v[p][2]);
                        vst1q_f32(b.add(4), v[p][3]);
                    }
                }
            }
        }
    }
}
