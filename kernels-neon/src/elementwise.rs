//! The elementwise layer. Functions of reals are the portable ones, which compilers make vectors of.

use kinglet::elementwise::{Chunk, Elementwise, Function};
use kinglet::kernels::{BinaryOp, Frame, MemoryFrame, UnaryOp, look_up};
use kinglet::rows::{PixelsMut, View, ViewMut};

use crate::{Neon, reals};

impl Elementwise for Neon {
    fn load(self, x: &View<'_>, start: usize, out: &mut [f32]) {
        if !reals::load(x, start, out) {
            x.load(start, out);
        }
    }

    fn store(self, out: &mut ViewMut<'_>, start: usize, v: &[f32]) {
        if !reals::store(out, start, v) {
            out.store(start, v);
        }
    }

    fn unary(self, op: UnaryOp, parameters: [f32; 2], v: &mut [f32]) {
        op.apply(parameters, v);
    }

    fn binary(self, op: BinaryOp, a: &mut [f32], b: &[f32]) {
        op.apply(a, b);
    }

    fn combine(self, f: Function, x: &[Chunk<'_>], out: (&mut ViewMut<'_>, usize), n: usize) -> bool {
        reals::combine(f, x, out, n)
    }

    fn lookup(self, table: &[u8], v: &mut [u8]) {
        match table.try_into() {
            Ok(table) => reals::look_up(table, v),
            Err(_) => look_up(table, v),
        }
    }

    fn lookup_pixels(self, table: &[u8], pixels: &mut PixelsMut<'_, u8>) {
        match table.try_into() {
            Ok(table) => reals::look_up_pixels(table, pixels),
            Err(_) => (0..pixels.count()).for_each(|i| look_up(table, pixels.run(i))),
        }
    }

    fn scan(self, frame: Frame<'_>) {
        reals::advance(frame);
    }

    fn memory(self, frame: MemoryFrame<'_>) {
        frame.advance();
    }
}
