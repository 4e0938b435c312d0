//! Functions of several tensors without leaving the registers: [`kinglet::elementwise::Elementwise::combine`].

use core::arch::aarch64::*;

use kinglet::DType;
use kinglet::elementwise::{Chunk, Function};
use kinglet::kernels::{BinaryOp, TernaryOp};
use kinglet::rows::ViewMut;

use super::grid::Grid;
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
    Bytes(Grid, *const u8),
}

impl Source {
    /// Elements `from .. from + n` of a chunk; `None` if they are neither floats nor bytes, or not there.
    #[inline(always)]
    fn of(chunk: &Chunk<'_>, from: usize, n: usize) -> Option<Source> {
        match chunk {
            Chunk::Reals(v) => v.get(from..from + n).map(|v| Source::Floats(v.as_ptr())),
            // From the begin of a period on.
            Chunk::Repeated(v) => v.get(..n).map(|v| Source::Floats(v.as_ptr())),
            Chunk::Elements(x, start) if x.dtype == DType::F32 => x.pixels(start + from, n, n, 1).map(Source::Floats),
            Chunk::Elements(x, start) => {
                let grid = Grid::of(x.dtype, x.scale, x.zero_point)?;
                x.pixels(start + from, n, n, 1).map(|at| Source::Bytes(grid, at))
            }
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
                Source::Bytes(grid, from) => grid.some_reals(core::slice::from_raw_parts(from.add(at), n)),
            }
        }
    }
}

/// Where results go.
#[derive(Clone, Copy)]
enum Target {
    Floats(*mut f32),
    Bytes(Grid, *mut u8),
}

/// Computes a chunk run by run, each as long as no operand repeats itself.
#[inline(always)]
fn blocks<const N: usize>(
    x: [Chunk<'_>; N],
    (out, to): (&mut ViewMut<'_>, usize),
    n: usize,
    f: impl Fn([float32x4_t; N]) -> float32x4_t + Copy,
) -> bool {
    let grid = Grid::of(out.dtype(), out.scale(), out.zero_point());
    // All of each is there, in one piece: once results lie in the place of an operand, there is no way back.
    let whole = |x: &Chunk<'_>| match x {
        Chunk::Reals(v) => v.len() >= n,
        Chunk::Repeated(v) => !v.is_empty(),
        Chunk::Elements(..) => Source::of(x, 0, n).is_some(),
    };
    let mut periods = x.iter().filter_map(|x| if let Chunk::Repeated(v) = x { Some(v.len()) } else { None });
    let period = periods.next().unwrap_or(n).max(1);
    let target = match grid {
        Some(_) => out.pixels::<u8>(to, n, n, 1).is_some(),
        None => out.dtype() == DType::F32 && out.pixels::<f32>(to, n, n, 1).is_some(),
    };
    if !target || !x.iter().all(whole) || periods.any(|other| other != period) {
        return false;
    }
    let mut start = 0;
    while start < n {
        let there = period.min(n - start);
        let mut sources = [Source::Floats(core::ptr::null()); N];
        for i in 0..N {
            let Some(source) = Source::of(&x[i], start, there) else { return false };
            sources[i] = source;
        }
        let first = to + start;
        let target = match grid {
            Some(grid) => out.pixels(first, there, there, 1).map(|mut p| Target::Bytes(grid, p.as_mut_ptr())),
            None => out.pixels(first, there, there, 1).map(|mut p| Target::Floats(p.as_mut_ptr())),
        };
        let Some(target) = target else { return false };
        // SAFETY: so many elements of each have just been asked for. They are loaded before those in their place are stored.
        unsafe { run(&sources, target, there, f) };
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
            Target::Bytes(grid, to) => (0..V).for_each(|b| vst1q_u8(to.add(at + b * BLOCK), grid.bytes(v[b]))),
        }
    }
}
