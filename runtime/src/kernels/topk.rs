//! The largest or smallest elements along an axis, in order.

use core::ops::Range;

use super::Params;
use super::walk::elements;
use crate::DType;
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure, work};
use crate::format::words::record;
use crate::rows::{self, Operands, Tile, View};

record! {
    /// Parameters of a selection of the largest elements (ONNX `TopK`). Input: 0 `x [outer, n, inner]` of any type. Outputs:
    /// 0 the elements `[outer, k, inner]`, the largest first, 1 their places along the axis, of the same shape, i64.
    /// Rows: `outer`.
    ///
    /// Of equal elements the one with the lower place comes first. NaN is larger than every number, and equal to itself.
    /// Elements are copied where the first output is what x is; else they go to it as reals.
    pub struct TopK {
        /// Slices searched separately.
        pub outer: u32,
        /// Length of the axis.
        pub n: u32,
        /// Elements of one position of the axis.
        pub inner: u32,
        /// How many elements are taken.
        pub k: u32,
        /// Take the smallest instead, the smallest first.
        pub smallest: bool,
    }
}

impl Params for TopK {
    const OUTPUTS: usize = 2;

    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        ensure((1..=self.n).contains(&self.k), Fault::Params)?;
        ensure(c.output_at(1)?.dtype == DType::I64, Fault::DType)?;
        let taken = [self.outer, self.k, self.inner];
        c.size(&c.input(0)?, &[self.outer, self.n, self.inner])?;
        c.size(&c.output()?, &taken)?;
        c.size(&c.output_at(1)?, &taken)?;
        // Each element may sink through a heap, and each that is left once more.
        let levels = u32::BITS - self.k.leading_zeros();
        let sunk = work(&[self.outer, self.n, self.inner, levels + 1, 8]);
        Ok(Verdict::new(
            self.outer as usize,
            sunk.saturating_add(work(&[self.outer, self.k, self.inner, levels + 2, 8])),
        ))
    }

    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        (input == 0).then(|| elements(rows, &[self.n, self.inner]))
    }

    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let (x, mut y, mut places) = (o.input(0), o.output(), o.output_at(1));
        let (n, inner, k) = (self.n as usize, self.inner as usize, self.k as usize);
        let same = (x.dtype, x.scale, x.zero_point) == (y.dtype(), y.scale(), y.zero_point());
        let size = x.dtype.size();
        for row in rows {
            let of_row = places.slice::<i64>(row * k * inner, k * inner);
            for column in 0..inner {
                let heap = Heap { places: &mut *of_row, inner, column };
                let at = |i: i64| (row * n + i as usize) * inner + column;
                // Integers are in the order of the reals they stand for.
                if x.dtype.is_float() {
                    let load = |i: i64| {
                        let mut v = [0f32];
                        e.load(&x, at(i), &mut v);
                        v[0]
                    };
                    self.select(heap, load, |a, b| a > b || (a.is_nan() && !b.is_nan()));
                } else {
                    self.select(heap, |i| integer(&x, at(i)), |a, b| a > b);
                }
            }
            for (j, &place) in of_row.iter().enumerate() {
                let (from, to) = ((row * n + place as usize) * inner + j % inner.max(1), row * k * inner + j);
                if same {
                    rows::copy(x.slice::<u8>(from * size, size), y.slice(to * size, size));
                } else {
                    let mut v = [0f32];
                    e.load(&x, from, &mut v);
                    e.store(&mut y, to, &v);
                }
            }
        }
    }
}

fn integer(x: &View<'_>, at: usize) -> i64 {
    let mut v = [0i64];
    x.load_int(at, &mut v);
    v[0]
}

/// Places along the axis, those of one column, as a heap with the one on top that comes last of all. It lies where the result
/// will: there is no other memory.
struct Heap<'a> {
    places: &'a mut [i64],
    inner: usize,
    column: usize,
}

impl Heap<'_> {
    fn get(&self, i: usize) -> i64 {
        self.places.get(i * self.inner + self.column).copied().unwrap_or(0)
    }

    fn set(&mut self, i: usize, place: i64) {
        if let Some(at) = self.places.get_mut(i * self.inner + self.column) {
            *at = place;
        }
    }

    /// Puts a place where place number `i` of the first `len` is, or below it, so that each comes later than the two below it.
    #[inline(always)]
    fn sink(&mut self, mut i: usize, len: usize, place: i64, before: impl Fn(i64, i64) -> bool) {
        loop {
            let (left, right) = (2 * i + 1, 2 * i + 2);
            if left >= len {
                break;
            }
            let later = if right < len && before(self.get(left), self.get(right)) { right } else { left };
            let below = self.get(later);
            if !before(place, below) {
                break;
            }
            self.set(i, below);
            i = later;
        }
        self.set(i, place);
    }
}

impl TopK {
    /// Fills a column with the places of its elements that come first, in order.
    #[inline(always)]
    fn select<T: Copy>(&self, mut heap: Heap<'_>, load: impl Fn(i64) -> T, larger: impl Fn(T, T) -> bool) {
        let k = self.k as usize;
        let before = |a: i64, b: i64| {
            let (va, vb) = if self.smallest { (load(b), load(a)) } else { (load(a), load(b)) };
            larger(va, vb) || (!larger(vb, va) && a < b)
        };
        for i in 0..k {
            heap.set(i, i as i64);
        }
        for i in (0..k / 2).rev() {
            let place = heap.get(i);
            heap.sink(i, k, place, before);
        }
        for i in i64::from(self.k)..i64::from(self.n) {
            if before(i, heap.get(0)) {
                heap.sink(0, k, i, before);
            }
        }
        // The last of all goes behind the others, again and again.
        for len in (1..k).rev() {
            let (last, moved) = (heap.get(0), heap.get(len));
            heap.set(len, last);
            heap.sink(0, len, moved, before);
        }
    }
}
