//! Operands of elementwise kernels, read as reals over the shape of an output that may be larger than they are.

use super::walk::{DIMS, neighbours};
use crate::DType;
use crate::elementwise::{Chunk, Elementwise};
use crate::rows::{BUFFER, View, copy};

/// An operand, and a chunk of it as reals: `runs` runs of `n` elements, as [`walk_chunks`](super::walk::walk_chunks) has them.
pub(super) struct Operand<'a> {
    view: View<'a>,
    /// Elements from a run to its neighbour.
    between: isize,
    /// Elements from one of a run to the next: 0 or 1.
    within: usize,
    buffer: [f32; BUFFER],
    /// The chunk in the buffer: its first element, runs, and elements of a run. An operand that is repeated is found there.
    held: (usize, usize, usize),
}

impl<'a> Operand<'a> {
    /// The operand with these strides over an output of these extents.
    #[inline(always)]
    pub fn new(view: View<'a>, dims: &[u32; DIMS], strides: &[i32; DIMS]) -> Self {
        let (between, within) = (strides[neighbours(dims)] as isize, strides[DIMS - 1] as usize);
        Operand { view, between, within, buffer: [0.0; BUFFER], held: (0, 0, 0) }
    }

    /// Whether a chunk lies in one piece.
    #[inline(always)]
    fn in_one_piece(&self, runs: usize, n: usize) -> bool {
        self.within == 1 && (runs == 1 || self.between == n as isize)
    }

    /// The chunk from element `start` on, where it lies if that is possible: not to be held while it is written in place.
    #[inline(always)]
    pub fn reals<E: Elementwise>(&mut self, e: E, start: usize, runs: usize, n: usize) -> &[f32] {
        if self.in_one_piece(runs, n) && self.view.dtype == DType::F32 {
            return self.view.slice(start, runs * n);
        }
        let (first, most, length) = self.held;
        if first != start || most < runs || length != n {
            self.fill(e, start, runs, n);
            self.held = (start, runs, n);
        }
        self.buffer.get(..runs * n).unwrap_or(&[])
    }

    /// The chunk from element `start` on, of any length, if that is possible: where it lies, a row that is repeated, or what fits
    /// in the buffer.
    #[inline(always)]
    pub fn chunk<E: Elementwise>(&mut self, e: E, start: usize, runs: usize, n: usize) -> Option<Chunk<'_>> {
        if self.in_one_piece(runs, n) {
            return Some(Chunk::Elements(self.view, start));
        }
        if runs * n <= BUFFER {
            return Some(Chunk::Reals(self.reals(e, start, runs, n)));
        }
        if self.between != 0 {
            return None;
        }
        match self.within {
            0 if n > BUFFER => Some(Chunk::Repeated(self.reals(e, start, 1, BUFFER))),
            _ if n > BUFFER => None,
            _ => Some(Chunk::Repeated(self.reals(e, start, repeats(n).min(runs), n))),
        }
    }

    /// Copies the chunk from element `start` on to `out`.
    #[inline(always)]
    pub fn copy_to<E: Elementwise>(&mut self, e: E, start: usize, runs: usize, n: usize, out: &mut [f32]) {
        if self.in_one_piece(runs, n) {
            e.load(&self.view, start, out);
        } else {
            copy(self.reals(e, start, runs, n), out);
        }
    }

    /// Loads a chunk into the buffer.
    #[inline(always)]
    fn fill<E: Elementwise>(&mut self, e: E, start: usize, runs: usize, n: usize) {
        let (in_one_piece, Some(whole)) = (self.in_one_piece(runs, n), self.buffer.get_mut(..runs * n)) else { return };
        if in_one_piece {
            e.load(&self.view, start, whole);
            return;
        }
        for (i, run) in whole.chunks_exact_mut(n.max(1)).enumerate() {
            load(e, &self.view, start.wrapping_add_signed(self.between * i as isize), self.within, run);
        }
    }
}

/// How often a row of `n` elements is repeated in a buffer: so often that the repetitions are whole vectors, if that is possible.
#[inline(always)]
fn repeats(n: usize) -> usize {
    const VECTOR: usize = 16;
    let most = BUFFER / n.max(1);
    let whole = VECTOR >> n.trailing_zeros().min(VECTOR.trailing_zeros());
    if most >= whole { most / whole * whole } else { most }
}

/// Loads `out.len()` elements from `start` on, one apart or the same one repeated.
#[inline(always)]
fn load<E: Elementwise>(e: E, v: &View<'_>, start: usize, within: usize, out: &mut [f32]) {
    if within == 1 {
        e.load(v, start, out);
    } else {
        let mut one = [0f32];
        e.load(v, start, &mut one);
        out.fill(one[0]);
    }
}
