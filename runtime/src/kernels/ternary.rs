//! A function of three elements, with broadcasting.

use core::ops::Range;

use super::Params;
use super::binary::{in_place, inner_stride_is_simple, load_int};
use super::broadcast::Operand;
use super::walk::{DIMS, contiguous, reached, reaches_only, row_of, rule_of, walk, walk_chunks, walked};
use crate::bands::Rule;
use crate::elementwise::{Elementwise, Function};
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure};
use crate::format::words::{code, record};
use crate::rows::{BUFFER, Operands, Tile, View, buffers};

code! {
    /// Functions of three reals.
    pub enum TernaryOp {
        /// `b` where `a` is not 0, else `c` (ONNX `Where`).
        Where = 0,
        /// `a·b + c`: a per-channel scale and shift (ONNX `BatchNormalization` with its statistics folded).
        ScaleShift = 1,
    }
}

record! {
    /// Parameters of a ternary step. Inputs 0 to 2, reached by their strides as in [`Binary`](super::Binary). Output:
    /// contiguous over `dims`. Rows: `dims[0]`. Elements go through f32, but `Where` selects stored integers if `b`, `c` and the
    /// output are of one integer type and quantisation.
    pub struct Ternary {
        /// The function.
        pub op: TernaryOp,
        /// Extents of the output: rows first.
        pub dims: [u32; 6],
        /// Strides of input 0.
        pub a_strides: [i32; 6],
        /// Strides of input 1.
        pub b_strides: [i32; 6],
        /// Strides of input 2.
        pub c_strides: [i32; 6],
    }
}

impl Params for Ternary {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        let y = c.output()?;
        c.size(&y, &self.dims)?;
        let mut mask = 0;
        for (k, strides) in [&self.a_strides, &self.b_strides, &self.c_strides].into_iter().enumerate() {
            let t = c.input(k)?;
            ensure(inner_stride_is_simple(strides), Fault::Params)?;
            reaches_only(&t, &self.dims, 0, strides)?;
            if in_place(&t, &y, &self.dims, strides) {
                mask |= 1 << k;
            }
        }
        Ok(Verdict::new(self.dims[0] as usize, walked(&self.dims, 4)).in_place(mask))
    }

    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        let strides = [&self.a_strides, &self.b_strides, &self.c_strides];
        reached(&self.dims, 0, strides.get(input)?, rows)
    }

    fn row(&self) -> Option<u32> {
        row_of(&self.dims)
    }

    fn rule(&self, input: usize) -> Rule {
        [&self.a_strides, &self.b_strides, &self.c_strides]
            .get(input)
            .map_or(Rule::Whole, |strides| rule_of(&self.dims, strides))
    }

    #[inline(always)]
    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let (a, b, c, mut out) = (o.input(0), o.input(1), o.input(2), o.output());
        let to = contiguous(&self.dims);
        let strides = [&to, &self.a_strides, &self.b_strides, &self.c_strides];
        let alike = |v: &View<'_>| (v.dtype, v.scale, v.zero_point) == (out.dtype(), out.scale(), out.zero_point());
        let (alike, mut a) = (alike(&b) && alike(&c), Operand::new(a, &self.dims, &self.a_strides));
        if self.op == TernaryOp::Where && alike && !out.dtype().is_float() {
            let within = strides.map(|s| s[DIMS - 1] as usize);
            walk(&self.dims, [0; 4], strides, rows, |at, n| {
                buffers(0..n, |start, n| {
                    let from = |k: usize| at[k] as usize + start * within[k];
                    let (mut vb, mut vc) = ([0i64; BUFFER], [0i64; BUFFER]);
                    load_int(&b, from(2), within[2], &mut vb[..n]);
                    load_int(&c, from(3), within[3], &mut vc[..n]);
                    for ((a, b), &c) in a.reals(e, from(1), 1, n).iter().zip(&mut vb).zip(&vc) {
                        *b = if *a != 0.0 { *b } else { c };
                    }
                    out.store_int(from(0), &vb[..n]);
                });
            });
            return;
        }
        let (mut b, mut c) =
            (Operand::new(b, &self.dims, &self.b_strides), Operand::new(c, &self.dims, &self.c_strides));
        let mut v = [0f32; BUFFER];
        walk_chunks(&self.dims, strides, rows, |[y, pa, pb, pc], runs, n| {
            let chunks = (a.chunk(e, pa, runs, n), b.chunk(e, pb, runs, n), c.chunk(e, pc, runs, n));
            if let (Some(a), Some(b), Some(c)) = chunks
                && e.combine(Function::Ternary(self.op), &[a, b, c], (&mut out, y), runs * n)
            {
                return true;
            }
            let Some(v) = v.get_mut(..runs * n) else { return false };
            a.copy_to(e, pa, runs, n, v);
            self.op.apply(v, b.reals(e, pb, runs, n), c.reals(e, pc, runs, n));
            e.store(&mut out, y, v);
            true
        });
    }
}

impl TernaryOp {
    /// `a[i] = op(a[i], b[i], c[i])`
    #[inline(always)]
    pub fn apply(self, a: &mut [f32], b: &[f32], c: &[f32]) {
        let all = a.iter_mut().zip(b).zip(c);
        match self {
            TernaryOp::Where => all.for_each(|((a, &b), &c)| *a = if *a != 0.0 { b } else { c }),
            TernaryOp::ScaleShift => all.for_each(|((a, &b), &c)| *a = *a * b + c),
        }
    }
}
