//! Change of element type: cast, quantise, dequantise, requantise.

use core::ops::Range;

use super::Params;
use super::bytes::are_bytes;
use super::walk::elements;
use crate::DType;
use crate::bands::{Rule, Window};
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, work};
use crate::format::words::{code, record};
use crate::rows::{BUFFER, Operands, Tile, buffers};

code! {
    /// How elements change.
    pub enum Conversion {
        /// As reals: dequantised on reading, quantised on writing; to bool "not zero"; to an index type cut towards zero.
        Real = 0,
        /// As stored integers: widened or wrapped (ONNX `Cast` between integers); floats are cut towards zero and saturate.
        Integer = 1,
    }
}

record! {
    /// Parameters of a conversion. Input: 0 `x` (`rows · row` elements of any type); output: as many of any type.
    pub struct Convert {
        /// How elements change.
        pub conversion: Conversion,
        /// Rows.
        pub rows: u32,
        /// Elements of a row.
        pub row: u32,
    }
}

impl Params for Convert {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        c.size(&c.input(0)?, &[self.rows, self.row])?;
        c.size(&c.output()?, &[self.rows, self.row])?;
        Ok(Verdict::new(self.rows as usize, work(&[self.rows, self.row, 4])).in_place(1))
    }

    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        (input == 0).then(|| elements(rows, &[self.row]))
    }

    fn row(&self) -> Option<u32> {
        Some(self.row)
    }

    fn rule(&self, input: usize) -> Rule {
        if input == 0 { Rule::Rows(Window::pointwise(self.row)) } else { Rule::Whole }
    }

    #[inline(always)]
    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let (x, mut out) = (o.input(0), o.output());
        let row = self.row as usize;
        let all = rows.start * row..rows.end * row;
        // Elements of another width are never in the place of these: no buffer between.
        match (self.conversion, x.dtype, out.dtype()) {
            (Conversion::Real, from, DType::F32) if are_bytes(from) => {
                e.load(&x, all.start, out.slice::<f32>(all.start, all.len()));
                return;
            }
            (Conversion::Real, DType::F32, to) if are_bytes(to) => {
                e.store(&mut out, all.start, x.slice::<f32>(all.start, all.len()));
                return;
            }
            _ => {}
        }
        buffers(all, |at, n| match self.conversion {
            Conversion::Real => {
                let mut v = [0f32; BUFFER];
                e.load(&x, at, &mut v[..n]);
                e.store(&mut out, at, &v[..n]);
            }
            Conversion::Integer => {
                let mut v = [0i64; BUFFER];
                x.load_int(at, &mut v[..n]);
                if let (true, Some((lo, hi))) = (x.dtype.is_float(), out.dtype().quantized_range()) {
                    v[..n].iter_mut().for_each(|v| *v = (*v).clamp(lo.into(), hi.into()));
                }
                out.store_int(at, &v[..n]);
            }
        });
    }
}
