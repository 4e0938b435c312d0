//! The elementwise layer: how chunks of a tensor become reals, are computed with, and are stored.
//!
//! Every kernel goes through it, so that an instruction set that does it better needs one copy of each function, whatever the
//! number of kernels.

use crate::kernels::{BinaryOp, Frame, MemoryFrame, OpSet, TernaryOp, UnaryOp};
use crate::rows::{PixelsMut, View, ViewMut};

/// A chunk of an operand.
#[derive(Clone, Copy)]
pub enum Chunk<'a> {
    /// Reals that were loaded.
    Reals(&'a [f32]),
    /// Reals that stand there again and again, so many as a chunk needs.
    Repeated(&'a [f32]),
    /// Elements of a tensor, from this one on. They may be overwritten in place.
    Elements(View<'a>, usize),
}

/// A function of several reals.
#[derive(Clone, Copy, Debug)]
pub enum Function {
    /// Of two.
    Binary(BinaryOp),
    /// Of three.
    Ternary(TernaryOp),
}

/// What an instruction set does with chunks of elements. Results are those of [`Portable`]: the same bits.
pub trait Elementwise: Copy {
    /// What a program runs: kernels leave out what is for others.
    const OPS: OpSet = OpSet::ALL;

    /// [`View::load`].
    fn load(self, x: &View<'_>, start: usize, out: &mut [f32]);

    /// [`ViewMut::store`].
    fn store(self, out: &mut ViewMut<'_>, start: usize, v: &[f32]);

    /// `v[i] = op(v[i])`, with the parameters of [`UnaryOp`].
    fn unary(self, op: UnaryOp, parameters: [f32; 2], v: &mut [f32]);

    /// `a[i] = op(a[i], b[i])`
    fn binary(self, op: BinaryOp, a: &mut [f32], b: &[f32]);

    /// Elements `to .. to + n` of `out` become the function of the operands' chunks, which are as long: loads, computes and stores
    /// in one go, where the instruction set has a way that is faster than one after the other; else does nothing and says `false`.
    fn combine(self, function: Function, operands: &[Chunk<'_>], out: (&mut ViewMut<'_>, usize), n: usize) -> bool {
        let _ = (function, operands, out, n);
        false
    }

    /// `v[i] = table[v[i]]`
    #[inline]
    fn lookup(self, table: &[u8], v: &mut [u8]) {
        crate::kernels::look_up(table, v);
    }

    /// As [`Elementwise::lookup`], for all runs.
    #[inline(always)]
    fn lookup_pixels(self, table: &[u8], pixels: &mut PixelsMut<'_, u8>) {
        (0..pixels.count()).for_each(|i| self.lookup(table, pixels.run(i)));
    }

    /// Each byte of the one becomes the larger of both, as signed or unsigned numbers.
    #[inline(always)]
    fn larger(self, signed: bool, one: &mut [u8], other: &[u8]) {
        let turn = if signed { 0x80 } else { 0 };
        one.iter_mut().zip(other).for_each(|(a, &b)| *a = (*a ^ turn).max(b ^ turn) ^ turn);
    }

    /// Advances a selective scan by a frame: [`Frame::advance`].
    fn scan(self, frame: Frame<'_>);

    /// Advances a Legendre memory by a frame: [`MemoryFrame::advance`].
    fn memory(self, frame: MemoryFrame<'_>);

    /// Elements `start .. start + buffer.len()` as reals: where they lie if they are f32, else loaded into `buffer`. As with
    /// [`View::slice`], they must not be held while they are written in place.
    #[inline(always)]
    fn reals<'b, 'a: 'b>(self, x: &View<'a>, start: usize, buffer: &'b mut [f32]) -> &'b [f32] {
        if x.dtype == crate::DType::F32 {
            return x.slice::<f32>(start, buffer.len());
        }
        self.load(x, start, buffer);
        buffer
    }
}

/// The reference.
#[derive(Clone, Copy, Debug, Default)]
pub struct Portable;

impl Elementwise for Portable {
    fn load(self, x: &View<'_>, start: usize, out: &mut [f32]) {
        x.load(start, out);
    }

    fn store(self, out: &mut ViewMut<'_>, start: usize, v: &[f32]) {
        out.store(start, v);
    }

    fn unary(self, op: UnaryOp, parameters: [f32; 2], v: &mut [f32]) {
        op.apply(parameters, v);
    }

    fn binary(self, op: BinaryOp, a: &mut [f32], b: &[f32]) {
        op.apply(a, b);
    }

    fn scan(self, frame: Frame<'_>) {
        frame.advance();
    }

    // (Whoever falls back to it for what is left need not have its stack.)
    #[inline(never)]
    fn memory(self, frame: MemoryFrame<'_>) {
        frame.advance();
    }
}

/// The reference, with the functions of a set alone ([`OpSet::bits`](crate::kernels::OpSet::bits)): others do nothing, and are not linked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chosen<const OPS: u128>;

impl<const OPS: u128> Elementwise for Chosen<OPS> {
    const OPS: OpSet = OpSet::from_bits(OPS);

    fn load(self, x: &View<'_>, start: usize, out: &mut [f32]) {
        Portable.load(x, start, out);
    }

    fn store(self, out: &mut ViewMut<'_>, start: usize, v: &[f32]) {
        Portable.store(out, start, v);
    }

    fn unary(self, op: UnaryOp, parameters: [f32; 2], v: &mut [f32]) {
        op.apply_of::<OPS>(parameters, v);
    }

    fn binary(self, op: BinaryOp, a: &mut [f32], b: &[f32]) {
        op.apply_of::<OPS>(a, b);
    }

    fn scan(self, frame: Frame<'_>) {
        Portable.scan(frame);
    }

    fn memory(self, frame: MemoryFrame<'_>) {
        Portable.memory(frame);
    }
}
