//! Slices of a tensor replaced by others, or joined with them, at places that are given by index.

use core::ops::Range;

use super::Params;
use super::sum::{larger, smaller};
use super::walk::{DIMS, contiguous, elements, walk};
use crate::DType;
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::faults::DataFault;
use crate::format::TensorRecord;
use crate::format::verify::{Check, Verdict, ensure, product, work};
use crate::format::words::{code, record};
use crate::rows::{self, BUFFER, Operands, Tile, View, ViewMut, buffers};

code! {
    /// What becomes of an element that an update meets.
    pub enum ScatterOp {
        /// The update.
        Replace = 0,
        /// `x + update`
        Add = 1,
        /// `x · update`
        Mul = 2,
        /// The smaller of both; NaN if one of them is.
        Min = 3,
        /// The larger of both; NaN if one of them is.
        Max = 4,
    }
}

record! {
    /// Parameters of a scatter (ONNX `ScatterElements`, `ScatterND`, `Scatter`): x, in which slices are replaced by updates, or
    /// joined with them. Inputs: 0 `x [rows, row]`, 1 updates `[dims, inner]`, 2 indices `[dims, depth]` (i32 or i64). Output: x's
    /// shape. All but the indices are of one type, with one scale. Rows: `rows`.
    ///
    /// An update has a place along each of `dims` and `depth` indices `i_j`. It goes to the `inner` elements from
    /// `Σ place_d · strides_d + Σ i_j · steps_j` on. Negative indices count from the end. Updates come one after the other, also
    /// where several meet the same element. One with an index out of range, which ONNX forbids, is left out and noted as
    /// [`DataFault::Index`].
    ///
    /// Only elements that are replaced may be of any type and stand for reals. Those that are joined are f32, or integers, which
    /// wrap.
    pub struct Scatter {
        /// What becomes of an element that an update meets.
        pub op: ScatterOp,
        /// Rows of x.
        pub rows: u32,
        /// Elements of a row.
        pub row: u32,
        /// Extents of the updates.
        pub dims: [u32; 6],
        /// Elements of x from one update to the next along each extent.
        pub strides: [i32; 6],
        /// Elements of an update.
        pub inner: u32,
        /// Indices of an update, at most six.
        pub depth: u32,
        /// Extents of x that they select from.
        pub extents: [u32; 6],
        /// Elements of x from one position to the next along each of these.
        pub steps: [u32; 6],
    }
}

impl Params for Scatter {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        let (x, updates, index, y) = (c.input(0)?, c.input(1)?, c.input(2)?, c.output()?);
        let kind = |t: &TensorRecord| (t.dtype, t.scale, t.zero_point);
        ensure(kind(&x) == kind(&y) && kind(&updates) == kind(&y), Fault::DType)?;
        ensure(matches!(index.dtype, DType::I32 | DType::I64), Fault::DType)?;
        // A half, or what stands for a real, would be rounded with every update.
        let plain = y.dtype != DType::F16 && (y.scale, y.zero_point) == (1.0, 0);
        ensure(self.op == ScatterOp::Replace || plain, Fault::DType)?;
        ensure((1..=DIMS as u32).contains(&self.depth) && self.inner > 0, Fault::Params)?;
        ensure(self.indices().all(|(extent, _)| extent > 0), Fault::Params)?;
        c.size(&x, &[self.rows, self.row])?;
        c.size(&y, &[self.rows, self.row])?;
        let count = product(&self.dims)? as u32;
        ensure(count > 0, Fault::Shape)?;
        c.size(&updates, &[count, self.inner])?;
        c.size(&index, &[count, self.depth])?;
        // Wherever the indices lead, it is within x.
        ensure(self.strides.iter().all(|&s| s >= 0), Fault::Params)?;
        ensure(self.reach(0) <= u64::from(product(&[self.rows, self.row])? as u32), Fault::Shape)?;
        let each = work(&[self.inner, 4]).saturating_add(work(&[self.depth, 8])).saturating_add(32);
        let moved = work(&[self.rows, self.row, 2]).saturating_add(work(&[self.rows, 16]));
        // Each worker looks at all updates, and takes its own.
        Ok(Verdict::new(self.rows as usize, work(&[count]).saturating_mul(each).saturating_add(moved)).in_place(1))
    }

    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        let within = |each: u32| {
            let outer = self.outer(elements(rows.clone(), &[self.row]))?;
            let of = self.dims.get(1..)?.iter().fold(each as usize, |n, &d| n.saturating_mul(d as usize));
            Some(outer.start.saturating_mul(of)..outer.end.saturating_mul(of))
        };
        match input {
            0 => Some(elements(rows, &[self.row])),
            1 => within(self.inner),
            2 => within(self.depth),
            _ => None,
        }
    }

    fn run<E: Elementwise>(&self, _: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let (x, updates, index, mut out) = (o.input(0), o.input(1), o.input(2), o.output());
        let own = elements(rows, &[self.row]);
        let size = x.dtype.size();
        // Through the stack, because x may lie where the output does.
        buffers(own.start * size..own.end * size, |at, n| {
            let mut kept = [0u8; BUFFER];
            if let Some(kept) = kept.get_mut(..n) {
                rows::copy(x.slice(at, n), kept);
                rows::copy(kept, out.slice(at, n));
            }
        });
        let inner = self.inner as usize;
        let outer = self.outer(own.clone()).unwrap_or(0..self.dims[0] as usize);
        let strides = [&self.strides, &contiguous(&self.dims)];
        walk(&self.dims, [0; 2], strides, outer, |[from, first], n| {
            for k in 0..n {
                let update = first as usize + k;
                let Some(place) = self.place(&index, update) else {
                    o.note(DataFault::Index);
                    continue;
                };
                let place = place + from as usize + k * self.strides[DIMS - 1] as usize;
                // What of it lies in these rows.
                let (start, end) = (place.max(own.start), (place + inner).min(own.end));
                if start < end {
                    self.join(&updates, update * inner + (start - place), &mut out, start, end - start);
                }
            }
        });
    }
}

impl Scatter {
    /// Extents that indices select from, and the elements from one position to the next.
    fn indices(&self) -> impl Iterator<Item = (u32, u32)> {
        self.extents.into_iter().zip(self.steps).take(self.depth as usize)
    }

    /// How many elements of x the updates may reach at most, those at one place along the first `from` extents.
    fn reach(&self, from: usize) -> u64 {
        let last = |n: u32| u64::from(n.saturating_sub(1));
        let places = self.dims.iter().zip(&self.strides).skip(from);
        let places = places.map(|(&n, &s)| last(n).saturating_mul(s.unsigned_abs().into()));
        let indexed = self.indices().map(|(n, step)| last(n).saturating_mul(step.into()));
        places.chain(indexed).fold(self.inner.into(), u64::saturating_add)
    }

    /// The places along the first extent from which updates may reach these elements of x. `None` if any may.
    fn outer(&self, elements: Range<usize>) -> Option<Range<usize>> {
        let (stride, most) = (usize::try_from(self.strides[0]).ok()?, self.dims[0] as usize);
        let within = stride > 0 && self.reach(1) <= stride as u64;
        let stride = stride.max(1);
        within.then(|| (elements.start / stride).min(most)..elements.end.div_ceil(stride).min(most))
    }

    /// What the indices of an update add to its place; `None` if one is out of range.
    #[inline(always)]
    fn place(&self, index: &View<'_>, update: usize) -> Option<usize> {
        let mut at = [0i64; DIMS];
        let depth = self.depth as usize;
        index.load_int(update * depth, at.get_mut(..depth)?);
        at.iter().zip(self.indices()).try_fold(0, |place, (&i, (extent, step))| {
            let i = if i < 0 { i.saturating_add(extent.into()) } else { i };
            let i = u32::try_from(i).ok().filter(|&i| i < extent)?;
            Some(place + i as usize * step as usize)
        })
    }

    /// Joins elements of an update, from `from` on, with those of the output from `to` on.
    #[inline(always)]
    fn join(&self, updates: &View<'_>, from: usize, out: &mut ViewMut<'_>, to: usize, n: usize) {
        let size = updates.dtype.size();
        if self.op == ScatterOp::Replace {
            rows::copy(updates.slice::<u8>(from * size, n * size), out.slice(to * size, n * size));
        } else if updates.dtype == DType::F32 {
            for (y, &v) in out.slice::<f32>(to, n).iter_mut().zip(updates.slice::<f32>(from, n)) {
                *y = match self.op {
                    ScatterOp::Replace => v,
                    ScatterOp::Add => *y + v,
                    ScatterOp::Mul => *y * v,
                    ScatterOp::Min => smaller(*y, v),
                    ScatterOp::Max => larger(*y, v),
                };
            }
        } else {
            for k in 0..n {
                let (mut y, mut v) = ([0i64], [0i64]);
                out.load_int(to + k, &mut y);
                updates.load_int(from + k, &mut v);
                let ([y], [v]) = (y, v);
                let joined = match self.op {
                    ScatterOp::Replace => v,
                    ScatterOp::Add => y.wrapping_add(v),
                    ScatterOp::Mul => y.wrapping_mul(v),
                    ScatterOp::Min => y.min(v),
                    ScatterOp::Max => y.max(v),
                };
                out.store_int(to + k, &[joined]);
            }
        }
    }
}
