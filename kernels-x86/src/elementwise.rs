//! The elementwise layer: the portable functions, compiled once for each instruction set.

use kinglet::elementwise::{Chunk, Elementwise, Function};
use kinglet::kernels::{BinaryOp, Frame, MemoryFrame, UnaryOp, look_up};
use kinglet::rows::{PixelsMut, View, ViewMut};

use crate::avx512::{bytes, functions, memory, scan};
use crate::{Avx2, Avx512, halves};

macro_rules! compiled_for {
    ($set:ident, $features:literal, $load:path, $store:path, $unary:path, $combine:path, $memory:path, $scan:path, { $($own:tt)* }) => {
        impl Elementwise for $set {
            #[inline]
            fn load(self, x: &View<'_>, start: usize, out: &mut [f32]) {
                #[target_feature(enable = $features)]
                fn load(x: &View<'_>, start: usize, out: &mut [f32]) {
                    if !$load(x, start, out) && !halves::load(x, start, out) {
                        x.load(start, out);
                    }
                }
                // SAFETY: `self` exists only where the CPU has the features.
                unsafe { load(x, start, out) }
            }

            #[inline]
            fn store(self, out: &mut ViewMut<'_>, start: usize, v: &[f32]) {
                #[target_feature(enable = $features)]
                fn store(out: &mut ViewMut<'_>, start: usize, v: &[f32]) {
                    if !$store(out, start, v) && !halves::store(out, start, v) {
                        out.store(start, v);
                    }
                }
                // SAFETY: as above.
                unsafe { store(out, start, v) }
            }

            #[inline]
            fn unary(self, op: UnaryOp, parameters: [f32; 2], v: &mut [f32]) {
                #[target_feature(enable = $features)]
                fn unary(op: UnaryOp, parameters: [f32; 2], v: &mut [f32]) {
                    if !$unary(op, parameters, v) {
                        op.apply(parameters, v);
                    }
                }
                // SAFETY: as above.
                unsafe { unary(op, parameters, v) }
            }

            #[inline]
            fn binary(self, op: BinaryOp, a: &mut [f32], b: &[f32]) {
                #[target_feature(enable = $features)]
                fn binary(op: BinaryOp, a: &mut [f32], b: &[f32]) {
                    op.apply(a, b);
                }
                // SAFETY: as above.
                unsafe { binary(op, a, b) }
            }

            #[inline]
            fn scan(self, frame: Frame<'_>) {
                #[target_feature(enable = $features)]
                fn scan(frame: Frame<'_>) {
                    $scan(frame);
                }
                // SAFETY: as above.
                unsafe { scan(frame) }
            }

            #[inline]
            fn combine(self, f: Function, x: &[Chunk<'_>], out: (&mut ViewMut<'_>, usize), n: usize) -> bool {
                #[target_feature(enable = $features)]
                fn combine(f: Function, x: &[Chunk<'_>], out: (&mut ViewMut<'_>, usize), n: usize) -> bool {
                    $combine(f, x, out, n)
                }
                // SAFETY: as above.
                unsafe { combine(f, x, out, n) }
            }

            #[inline]
            fn memory(self, frame: MemoryFrame<'_>) {
                #[target_feature(enable = $features)]
                fn memory(frame: MemoryFrame<'_>) {
                    $memory(frame);
                }
                // SAFETY: as above.
                unsafe { memory(frame) }
            }

            $($own)*
        }
    };
}

/// No better way than the compiled one.
#[inline(always)]
fn no_load(_: &View<'_>, _: usize, _: &mut [f32]) -> bool {
    false
}

/// No better way than the compiled one.
#[inline(always)]
fn no_store(_: &mut ViewMut<'_>, _: usize, _: &[f32]) -> bool {
    false
}

/// No better way than the compiled one.
#[inline(always)]
fn no_unary(_: UnaryOp, _: [f32; 2], _: &mut [f32]) -> bool {
    false
}

/// No better way than to load, to compute and to store.
#[inline(always)]
fn no_combine(_: Function, _: &[Chunk<'_>], _: (&mut ViewMut<'_>, usize), _: usize) -> bool {
    false
}

compiled_for!(Avx2, "avx2,f16c", no_load, no_store, no_unary, no_combine, MemoryFrame::advance, Frame::advance, {});
compiled_for!(
    Avx512,
    "avx512f,avx512bw,avx512dq,avx512vl,f16c",
    bytes::load,
    bytes::store,
    functions::unary,
    bytes::combine,
    memory::advance,
    scan::advance,
    {
        #[inline]
        fn lookup(self, table: &[u8], v: &mut [u8]) {
            match table.try_into() {
                // SAFETY: the CPU has VBMI, and beside it the features that the set stands for.
                Ok(table) if std::arch::is_x86_feature_detected!("avx512vbmi") => unsafe { bytes::look_up(table, v) },
                _ => look_up(table, v),
            }
        }

        #[inline]
        fn lookup_pixels(self, table: &[u8], pixels: &mut PixelsMut<'_, u8>) {
            match table.try_into() {
                // SAFETY: as above.
                Ok(table) if std::arch::is_x86_feature_detected!("avx512vbmi") => unsafe {
                    bytes::look_up_pixels(table, pixels);
                },
                _ => (0..pixels.count()).for_each(|i| look_up(table, pixels.run(i))),
            }
        }
    }
);
