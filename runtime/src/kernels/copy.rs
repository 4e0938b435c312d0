//! Strided copy: what transpose, slice, concatenation, expansion and space-to-depth become.

use core::ops::Range;

use super::Params;
use super::walk::{DIMS, reached, reaches_only, walk, walked};
use crate::Element;
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure};
use crate::format::words::record;
use crate::rows::{Operands, Tile, View, ViewMut};

record! {
    /// Parameters of a copy. Input: 0 `x`; output: a tensor with elements of the same size, of which the copy writes those
    /// its strides reach (several copies may fill one output). Rows: `dims[0]`.
    pub struct Copy {
        /// Extents of the copied block: rows first.
        pub dims: [u32; 6],
        /// First element read.
        pub from: i32,
        /// Strides in the input, in elements; negative ones run backwards, 0 repeats.
        pub from_strides: [i32; 6],
        /// First element written.
        pub to: i32,
        /// Strides in the output, in elements.
        pub to_strides: [i32; 6],
    }
}

impl Params for Copy {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        let (x, y) = (c.input(0)?, c.output()?);
        ensure(x.dtype.size() == y.dtype.size(), Fault::DType)?;
        reaches_only(&x, &self.dims, self.from, &self.from_strides)?;
        reaches_only(&y, &self.dims, self.to, &self.to_strides)?;
        // Rows are written by different workers, so none may write another's elements: each dimension's stride must
        // step over all that the smaller strides cover.
        let mut order: [usize; DIMS] = core::array::from_fn(|d| d);
        order.sort_unstable_by_key(|&d| self.to_strides[d]);
        let mut covered = 1i64;
        for d in order {
            if self.dims[d] > 1 {
                ensure(i64::from(self.to_strides[d]) >= covered, Fault::Params)?;
                covered += i64::from(self.to_strides[d]) * (i64::from(self.dims[d]) - 1);
            }
        }
        Ok(Verdict::new(self.dims[0] as usize, walked(&self.dims, 4)))
    }

    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        reached(&self.dims, self.from, &self.from_strides, rows).filter(|_| input == 0)
    }

    fn run<E: Elementwise>(&self, _: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let (x, mut out) = (o.input(0), o.output());
        match x.dtype.size() {
            1 => copy::<u8>(self, &x, &mut out, rows),
            2 => copy::<u16>(self, &x, &mut out, rows),
            4 => copy::<i32>(self, &x, &mut out, rows),
            _ => copy::<i64>(self, &x, &mut out, rows),
        }
    }
}

#[inline(always)]
fn copy<T: Element>(p: &Copy, x: &View<'_>, out: &mut ViewMut<'_>, rows: Range<usize>) {
    let (from, to) = (p.from_strides[DIMS - 1] as isize, p.to_strides[DIMS - 1] as isize);
    walk(&p.dims, [p.from, p.to], [&p.from_strides, &p.to_strides], rows, |[a, b], n| {
        if from == 1 && to == 1 {
            out.slice::<T>(b as usize, n).copy_from_slice(x.slice(a as usize, n));
            return;
        }
        for i in 0..n as isize {
            if let (&[v], [slot]) = (x.slice::<T>((a + i * from) as usize, 1), out.slice::<T>((b + i * to) as usize, 1))
            {
                *slot = v;
            }
        }
    });
}
