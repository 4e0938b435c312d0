//! The ends of products in vectors: sums to results in one pass over a tile, in several where functions stand between that are
//! no few instructions. The bits are those of [`Finish::integers`] and [`Finish::floats`], which do what is rare.

use core::arch::x86_64::*;

use kinglet::DType;
use kinglet::elementwise::Elementwise;
use kinglet::kernels::BinaryOp;
use kinglet::product::{Finish, Place, STAGES, Stage};
use kinglet::rows::View;

use super::bytes::{Bounded, Grid};
use super::functions::{self, WIDE};
use super::{ints, lanes, reals};

/// Takes the integer sums of a tile to results.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn integers<E: Elementwise>(f: &mut Finish<'_, E>, to: Place, sums: &mut [i32], other: &mut [f32]) {
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
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn floats<E: Elementwise>(f: &mut Finish<'_, E>, to: Place, sums: &mut [f32], other: &mut [f32]) {
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

/// Elements under a tile: those of pixel `p` from `first + p · step` on, bytes on a grid or floats.
#[derive(Clone, Copy)]
struct Elements {
    first: *mut u8,
    step: usize,
    grid: Option<Bounded>,
}

/// Where the residual under a tile lies; `None` if its elements are neither bytes nor floats.
#[target_feature(enable = "avx512f")]
fn residual(r: &View<'_>, to: Place, pixels: usize) -> Option<Elements> {
    let grid = Grid::bounded(r.dtype, r.scale, r.zero_point);
    let first = match grid {
        None => r.pixels::<f32>(to.at, to.width, to.step, pixels).filter(|_| r.dtype == DType::F32)?.cast(),
        Some(_) => r.pixels::<u8>(to.at, to.width, to.step, pixels)?,
    };
    Some(Elements { first: first.cast_mut(), step: to.step, grid })
}

/// Where the results of a tile go, likewise.
#[target_feature(enable = "avx512f")]
fn results<E: Elementwise>(f: &mut Finish<'_, E>, to: Place, pixels: usize) -> Option<Elements> {
    let (dtype, grid) = (f.out.dtype(), Grid::bounded(f.out.dtype(), f.out.scale(), f.out.zero_point()));
    let first = match grid {
        None if dtype != DType::F32 => return None,
        None => f.out.pixels::<f32>(to.at, to.width, to.step, pixels)?.as_mut_ptr().cast(),
        Some(_) => f.out.pixels::<u8>(to.at, to.width, to.step, pixels)?.as_mut_ptr(),
    };
    Some(Elements { first, step: to.step, grid })
}

/// Whether a stage is computed in a pass.
fn is_short(stage: &Stage) -> bool {
    match *stage {
        Stage::Channels(op) | Stage::Residual(op) => matches!(op, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul),
        Stage::Function { op, alpha, beta } => functions::known(op, [alpha, beta]),
        Stage::Nothing => true,
    }
}

/// All that happens to the sums; `false` if something is not known here, with nothing done.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
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
        // SAFETY: `results` and `residual` have checked the elements under the tile; there is a sum for each of them.
        unsafe { pass(f, start, now, &constants, (to.width, pixels), sums, other, last.then_some(out)) };
        let Some(&Stage::Function { op, alpha, beta }) = stages.get(done) else { return true };
        f.e.unary(op, [alpha, beta], sums);
        (start, done) = (Start::Reals, done + 1);
    }
}

/// One pass over the sums `[pixel][channel]` of a tile: to `out`, or back to their places.
///
/// # Safety
/// `other` and `out` have as many elements as there are sums.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
#[expect(clippy::too_many_arguments)]
unsafe fn pass<E: Elementwise>(
    f: &Finish<'_, E>,
    start: Start<'_>,
    stages: &[Stage],
    constants: &[&[f32]; STAGES],
    (width, pixels): (usize, usize),
    sums: &mut [f32],
    other: Option<Elements>,
    out: Option<Elements>,
) {
    let p = f.params;
    let zero = p.mid_zero;
    let [lo, hi] = [p.q_lo.wrapping_sub(zero), p.q_hi.wrapping_sub(zero)].map(|v| _mm512_set1_ps(v as f32));
    let mid_scale = _mm512_set1_ps(p.mid_scale);
    for block in 0..width.div_ceil(16) {
        let mask = lanes(width, block);
        let mut of_channels = [_mm512_setzero_ps(); STAGES];
        for (v, constants) in of_channels.iter_mut().zip(constants) {
            *v = reals(constants, block);
        }
        let (bias, bias_f32, m) = match start {
            Start::Integers { bias, multipliers, .. } => {
                (ints(bias, block), _mm512_setzero_ps(), reals(multipliers, block))
            }
            Start::Floats { bias } => (_mm512_setzero_si512(), reals(bias, block), _mm512_setzero_ps()),
            Start::Reals => (_mm512_setzero_si512(), _mm512_setzero_ps(), _mm512_setzero_ps()),
        };
        for first in (0..pixels).step_by(WIDE) {
            // Where there are fewer pixels, the last is computed again.
            let mut at = [0; WIDE];
            let mut v = [_mm512_setzero_ps(); WIDE];
            for k in 0..WIDE {
                at[k] = (first + k).min(pixels - 1);
                let Some(sums) = sums.get(at[k] * width + 16 * block..) else { return };
                // SAFETY: the lanes of the mask are channels of the tile, of which there is a sum for each pixel.
                v[k] = unsafe { _mm512_maskz_loadu_ps(mask, sums.as_ptr()) };
            }
            match start {
                Start::Integers { rounds, .. } => {
                    for v in &mut v {
                        let sum = _mm512_add_epi32(_mm512_castps_si512(*v), bias);
                        *v = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), m);
                        if rounds {
                            // Of NaN and a number the second is taken.
                            let bounded = _mm512_min_ps(_mm512_max_ps(*v, lo), hi);
                            const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
                            let rounded = _mm512_roundscale_ps::<NEAREST>(bounded);
                            // An integer has no −0.
                            let integer = _mm512_cvtepi32_ps(_mm512_cvttps_epi32(rounded));
                            *v = _mm512_mul_ps(integer, mid_scale);
                        }
                    }
                }
                Start::Floats { .. } => {
                    for v in &mut v {
                        *v = _mm512_add_ps(*v, bias_f32);
                    }
                }
                Start::Reals => {}
            }
            for (stage, &c) in stages.iter().zip(&of_channels) {
                match *stage {
                    Stage::Channels(op) => binary(op, &mut v, [c; WIDE]),
                    Stage::Residual(op) => {
                        let Some(r) = other else { continue };
                        // SAFETY: the caller's.
                        let there = unsafe { r.load(&at, block, mask) };
                        binary(op, &mut v, there);
                    }
                    Stage::Function { op, alpha, beta } => functions::apply(op, [alpha, beta], &mut v),
                    Stage::Nothing => {}
                }
            }
            // SAFETY: the caller's; as above.
            unsafe {
                if let Some(out) = out {
                    out.store(&at, block, mask, &v);
                    continue;
                }
                for k in 0..WIDE {
                    _mm512_mask_storeu_ps(sums.as_mut_ptr().add(at[k] * width + 16 * block), mask, v[k]);
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn binary(op: BinaryOp, a: &mut [__m512; WIDE], b: [__m512; WIDE]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a = match op {
            BinaryOp::Add => _mm512_add_ps(*a, b),
            BinaryOp::Sub => _mm512_sub_ps(*a, b),
            _ => _mm512_mul_ps(*a, b),
        };
    }
}

impl Elements {
    /// As reals, those of some pixels.
    ///
    /// # Safety
    /// The lanes of the mask are there.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load(self, pixels: &[usize; WIDE], block: usize, mask: __mmask16) -> [__m512; WIDE] {
        let mut v = [_mm512_setzero_ps(); WIDE];
        let at = |k: usize| pixels[k] * self.step + 16 * block;
        // SAFETY: the caller's.
        unsafe {
            match self.grid {
                Some(to) => {
                    let mut bytes = [_mm_setzero_si128(); WIDE];
                    for k in 0..WIDE {
                        bytes[k] = _mm_maskz_loadu_epi8(mask, self.first.add(at(k)).cast());
                    }
                    v = to.grid.reals(bytes);
                }
                None => {
                    for k in 0..WIDE {
                        v[k] = _mm512_maskz_loadu_ps(mask, self.first.cast::<f32>().add(at(k)));
                    }
                }
            }
        }
        v
    }

    /// Stores reals to some pixels.
    ///
    /// # Safety
    /// The lanes of the mask are there, to be written.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn store(self, pixels: &[usize; WIDE], block: usize, mask: __mmask16, v: &[__m512; WIDE]) {
        let at = |k: usize| pixels[k] * self.step + 16 * block;
        // SAFETY: the caller's.
        unsafe {
            match self.grid {
                Some(grid) => {
                    for k in 0..WIDE {
                        _mm_mask_storeu_epi8(self.first.add(at(k)).cast(), mask, grid.bytes(v[k]));
                    }
                }
                None => {
                    for k in 0..WIDE {
                        _mm512_mask_storeu_ps(self.first.cast::<f32>().add(at(k)), mask, v[k]);
                    }
                }
            }
        }
    }
}
