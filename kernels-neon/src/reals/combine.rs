//! Functions of several tensors without leaving the registers: [`kinglet::elementwise::Elementwise::combine`].

use core::arch::aarch64::*;

use kinglet::elementwise::{Chunk, Function};
use kinglet::kernels::{BinaryOp, TernaryOp};
use kinglet::rows::ViewMut;
use kinglet::{DType, f16};

use super::grid::Grid;
use super::halves::{read_halves, some_halves, write_halves, write_some_halves};
use super::{BLOCK, Reals, of_array, read, to_array, write};
use crate::some;

/// For the functions that quantised models are full of; `false`, with nothing done, for others.
pub(crate) fn combine(function: Function, x: &[Chunk<'_>], out: (&mut ViewMut<'_>, usize), n: usize) -> bool {
    // SAFETY: NEON is part of every AArch64 CPU that this crate is compiled for.
    unsafe {
        match (function, x) {
            (Function::Binary(BinaryOp::Add), &[a, b]) => blocks([a, b], out, n, |[a, b]| vaddq_f32(a, b)),
            (Function::Binary(BinaryOp::Sub), &[a, b]) => blocks([a, b], out, n, |[a, b]| vsubq_f32(a, b)),
            (Function::Binary(BinaryOp::Mul), &[a, b]) => blocks([a, b], out, n, |[a, b]| vmulq_f32(a, b)),
            (Function::Ternary(TernaryOp::ScaleShift), &[a, b, c]) => {
                blocks([a, b, c], out, n, |[a, b, c]| vaddq_f32(vmulq_f32(a, b), c))
            }
            _ => false,
        }
    }
}

/// Elements at once: as many as there are registers for, so that what is decided for each such block costs little.
const WIDE: usize = 2 * BLOCK;

/// Where the elements of a chunk lie.
#[derive(Clone, Copy)]
enum Source {
    Floats(*const f32),
    Halves(*const f16),
    Bytes(Grid, *const u8),
}

impl Source {
    /// That of `n` elements of a chunk, which repeats itself after `period` of them if it does; `None` if they are neither floats nor
    /// bytes, or not all there in one piece.
    #[inline(always)]
    fn of(chunk: &Chunk<'_>, n: usize, period: usize) -> Option<Source> {
        match chunk {
            Chunk::Reals(v) => v.get(..n).map(|v| Source::Floats(v.as_ptr())),
            Chunk::Repeated(v) => v.get(..period.min(n)).map(|v| Source::Floats(v.as_ptr())),
            Chunk::Elements(x, start) if x.dtype == DType::F32 => x.pixels(*start, n, n, 1).map(Source::Floats),
            Chunk::Elements(x, start) if x.dtype == DType::F16 => x.pixels(*start, n, n, 1).map(Source::Halves),
            Chunk::Elements(x, start) => {
                let grid = Grid::of(x.dtype, x.scale, x.zero_point)?;
                x.pixels(*start, n, n, 1).map(|at| Source::Bytes(grid, at))
            }
        }
    }

    /// The same from element `start` on.
    #[inline(always)]
    fn from(self, start: usize) -> Source {
        match self {
            Source::Floats(at) => Source::Floats(at.wrapping_add(start)),
            Source::Halves(at) => Source::Halves(at.wrapping_add(start)),
            Source::Bytes(grid, at) => Source::Bytes(grid, at.wrapping_add(start)),
        }
    }

    /// `V` blocks from `at` on.
    ///
    /// # Safety
    /// They are there.
    #[inline(always)]
    unsafe fn load<const V: usize>(&self, at: usize) -> [Reals; V] {
        // SAFETY: NEON is always there; the rest is the caller's.
        unsafe {
            let mut v = [[vdupq_n_f32(0.0); 4]; V];
            match self {
                Source::Floats(from) => (0..V).for_each(|k| v[k] = read(from.add(at + k * BLOCK))),
                Source::Halves(from) => (0..V).for_each(|k| v[k] = read_halves(from.add(at + k * BLOCK))),
                Source::Bytes(grid, from) => {
                    (0..V).for_each(|k| v[k] = grid.reals(vld1q_u8(from.add(at + k * BLOCK))));
                }
            }
            v
        }
    }

    /// The last elements from `at` on, fewer than a block; 0 behind them.
    ///
    /// # Safety
    /// They are there.
    #[inline(always)]
    unsafe fn load_some(&self, at: usize, n: usize) -> Reals {
        // SAFETY: the caller's.
        unsafe {
            match self {
                Source::Floats(from) => of_array(&some(core::slice::from_raw_parts(from.add(at), n), 0)),
                Source::Halves(from) => some_halves(core::slice::from_raw_parts(from.add(at), n)),
                Source::Bytes(grid, from) => grid.some_reals(core::slice::from_raw_parts(from.add(at), n)),
            }
        }
    }
}

/// Where results go.
#[derive(Clone, Copy)]
enum Target {
    Floats(*mut f32),
    Halves(*mut f16),
    Bytes(Grid, *mut u8),
}

impl Target {
    /// The same from element `start` on.
    #[inline(always)]
    fn from(self, start: usize) -> Target {
        match self {
            Target::Floats(at) => Target::Floats(at.wrapping_add(start)),
            Target::Halves(at) => Target::Halves(at.wrapping_add(start)),
            Target::Bytes(grid, at) => Target::Bytes(grid, at.wrapping_add(start)),
        }
    }
}

/// Computes a chunk run by run, each as long as no operand repeats itself.
#[inline(always)]
fn blocks<const N: usize>(
    x: [Chunk<'_>; N],
    (out, to): (&mut ViewMut<'_>, usize),
    n: usize,
    f: impl Fn([float32x4_t; N]) -> float32x4_t + Copy,
) -> bool {
    let mut periods = x.iter().filter_map(|x| if let Chunk::Repeated(v) = x { Some(v.len()) } else { None });
    let period = periods.next().unwrap_or(n).max(1);
    if periods.any(|other| other != period) {
        return false;
    }
    // All of each is asked for at once: when results lie in the place of an operand, there is no way back.
    let mut sources = [Source::Floats(core::ptr::null()); N];
    for i in 0..N {
        let Some(source) = Source::of(&x[i], n, period) else { return false };
        sources[i] = source;
    }
    let target = match Grid::of(out.dtype(), out.scale(), out.zero_point()) {
        Some(grid) => out.pixels(to, n, n, 1).map(|mut p| Target::Bytes(grid, p.as_mut_ptr())),
        None if out.dtype() == DType::F32 => out.pixels(to, n, n, 1).map(|mut p| Target::Floats(p.as_mut_ptr())),
        None if out.dtype() == DType::F16 => out.pixels(to, n, n, 1).map(|mut p| Target::Halves(p.as_mut_ptr())),
        None => None,
    };
    let Some(target) = target else { return false };
    let mut start = 0;
    while start < n {
        let mut here = sources;
        for i in 0..N {
            if !matches!(x[i], Chunk::Repeated(_)) {
                here[i] = sources[i].from(start);
            }
        }
        // SAFETY: so many elements of each are there. They are loaded before those in their place are stored.
        unsafe { run(&here, target.from(start), period.min(n - start), f) };
        start += period;
    }
    true
}

/// Computes `n` elements.
///
/// # Safety
/// Sources and target have as many.
#[inline(always)]
unsafe fn run<const N: usize>(
    sources: &[Source; N],
    target: Target,
    n: usize,
    f: impl Fn([float32x4_t; N]) -> float32x4_t + Copy,
) {
    let mut at = 0;
    // SAFETY: the caller's.
    unsafe {
        while at + WIDE <= n {
            block::<N, 2>(sources, target, at, f);
            at += WIDE;
        }
        if at + BLOCK <= n {
            block::<N, 1>(sources, target, at, f);
            at += BLOCK;
        }
        if at < n {
            let mut loaded = [[[vdupq_n_f32(0.0); 4]; 1]; N];
            for i in 0..N {
                loaded[i] = [sources[i].load_some(at, n - at)];
            }
            let [v] = each(&loaded, f);
            match target {
                Target::Floats(to) => core::ptr::copy_nonoverlapping(to_array(v).as_ptr(), to.add(at), n - at),
                Target::Halves(to) => write_some_halves(v, core::slice::from_raw_parts_mut(to.add(at), n - at)),
                Target::Bytes(grid, to) => {
                    grid.some_bytes(v, core::slice::from_raw_parts_mut(to.add(at), n - at));
                }
            }
        }
    }
}

/// The function of all elements of `V` blocks.
#[inline(always)]
fn each<const N: usize, const V: usize>(
    loaded: &[[Reals; V]; N],
    f: impl Fn([float32x4_t; N]) -> float32x4_t,
) -> [Reals; V] {
    let mut v = loaded[0];
    for b in 0..V {
        for k in 0..4 {
            let mut x = [v[b][k]; N];
            for i in 0..N {
                x[i] = loaded[i][b][k];
            }
            v[b][k] = f(x);
        }
    }
    v
}

/// Computes `V` blocks from `at` on.
///
/// # Safety
/// Sources and target have them.
#[inline(always)]
unsafe fn block<const N: usize, const V: usize>(
    sources: &[Source; N],
    target: Target,
    at: usize,
    f: impl Fn([float32x4_t; N]) -> float32x4_t,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut loaded = [[[vdupq_n_f32(0.0); 4]; V]; N];
        for i in 0..N {
            loaded[i] = sources[i].load::<V>(at);
        }
        let v = each(&loaded, f);
        match target {
            Target::Floats(to) => (0..V).for_each(|b| write(to.add(at + b * BLOCK), v[b])),
            Target::Halves(to) => (0..V).for_each(|b| write_halves(to.add(at + b * BLOCK), v[b])),
            Target::Bytes(grid, to) => (0..V).for_each(|b| vst1q_u8(to.add(at + b * BLOCK), grid.bytes(v[b]))),
        }
    }
}
