//! Boxes of which none covers much of a better one.

use super::Params;
use crate::DType;
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure, product, work};
use crate::format::words::record;
use crate::rows::{Operands, Tile, View, ViewMut};

record! {
    /// Parameters of a selection of boxes of which none overlaps a better one (ONNX `NonMaxSuppression`, with an output of known
    /// length). Inputs: 0 boxes `[batch, boxes, 4]`, 1 scores `[batch, classes, boxes]`, 2 the overlap that is
    /// too much, or absent for 0, 3 the score that is too low, or absent for none; all of any type, as reals. Output:
    /// `[batch · classes · most, 3]` i64. Rows: 1.
    ///
    /// Of each class in each picture the boxes whose score is above input 3 (and not NaN) come up in the order of
    /// their scores, of equal ones the first first. One is selected unless its overlap (intersection over union) with one
    /// selected before is above input 2, until there are `most`. Each is `picture, class, box` in the output; behind the
    /// last one of all classes the output is filled up with −1. Boxes without an area overlap nothing.
    pub struct NonMaxSuppression {
        /// Pictures.
        pub batch: u32,
        /// Classes.
        pub classes: u32,
        /// Boxes of a picture.
        pub boxes: u32,
        /// The most that are selected of a class, 1 to `boxes`.
        pub most: u32,
        /// A box is `x centre, y centre, width, height` instead of two opposite corners `y, x, y, x`.
        pub centers: bool,
    }
}

impl NonMaxSuppression {
    /// Bytes of scratch: a number for each box.
    pub const fn scratch(boxes: usize) -> usize {
        boxes.saturating_mul(size_of::<u32>())
    }
}

impl Params for NonMaxSuppression {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        ensure((1..=self.boxes).contains(&self.most), Fault::Params)?;
        ensure(self.batch > 0 && self.classes > 0, Fault::Params)?;
        ensure(c.output()?.dtype == DType::I64, Fault::DType)?;
        c.size(&c.input(0)?, &[self.batch, self.boxes, 4])?;
        c.size(&c.input(1)?, &[self.batch, self.classes, self.boxes])?;
        for scalar in [2, 3] {
            if let Some(t) = c.optional(scalar) {
                c.size(&t, &[1])?;
            }
        }
        let classes = product(&[self.batch, self.classes])? as u32;
        product(&[classes, self.most, 3])?;
        c.size(&c.output()?, &[classes, self.most, 3])?;
        // Each may sink through a heap twice, and meet all that are selected.
        let levels = u32::BITS - self.boxes.leading_zeros();
        let each = work(&[levels + 2, 16]).saturating_add(work(&[self.most, 32]));
        let all = work(&[classes, self.boxes]).saturating_mul(each).saturating_add(work(&[classes, self.most, 3]));
        Ok(Verdict::new(1, all).scratch(Self::scratch(self.boxes as usize)))
    }

    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, _: Tile) {
        let (boxes, scores, mut y) = (o.input(0), o.input(1), o.output());
        let scratch = o.scratch();
        let Some((memory, _)) = scratch.split_at_mut_checked(Self::scratch(self.boxes as usize)) else { return };
        let Ok(places) = bytemuck::try_cast_slice_mut::<u8, u32>(memory) else { return };
        let scalar = |i: usize| {
            o.optional(i).map(|x| {
                let mut v = [0f32];
                e.load(&x, 0, &mut v);
                v[0]
            })
        };
        let (overlap, least) = (scalar(2).unwrap_or(0.0), scalar(3));
        let (n, most) = (self.boxes as usize, self.most as usize);
        let mut count = 0;
        for picture in 0..self.batch as usize {
            let of_picture = Boxes { e, boxes: &boxes, first: picture * n, centers: self.centers };
            for class in 0..self.classes as usize {
                let first = (picture * self.classes as usize + class) * n;
                let score = |i: u32| {
                    let mut v = [0f32];
                    e.load(&scores, first + i as usize, &mut v);
                    v[0]
                };
                let passes = |s: f32| least.map_or(!s.is_nan(), |least| s > least);
                let mut len = 0;
                for (i, _) in (0..self.boxes).map(|i| (i, score(i))).filter(|&(_, s)| passes(s)) {
                    if let Some(place) = places.get_mut(len) {
                        *place = i;
                        len += 1;
                    }
                }
                let Some(candidates) = places.get_mut(..len) else { return };
                let before = |a: u32, b: u32| {
                    let (of_a, of_b) = (score(a), score(b));
                    of_a > of_b || (of_a == of_b && a < b)
                };
                let from = count;
                let mut heap = Heap::new(candidates, before);
                while let (true, Some(i)) = (count - from < most, heap.pop(before)) {
                    let corners = of_picture.get(i as usize);
                    let covers = |j: usize| {
                        let other = of_picture.get(selected(&y, j) as usize);
                        intersection_over_union(corners, other) > overlap
                    };
                    if !(from..count).any(covers) {
                        y.store_int(count * 3, &[picture as i64, class as i64, i.into()]);
                        count += 1;
                    }
                }
            }
        }
        for j in count..self.batch as usize * self.classes as usize * most {
            y.store_int(j * 3, &[-1; 3]);
        }
    }
}

/// The box that is number `j` of those selected.
#[inline(always)]
fn selected(y: &ViewMut<'_>, j: usize) -> i64 {
    let mut v = [0i64];
    y.load_int(j * 3 + 2, &mut v);
    v[0]
}

/// The boxes of a picture.
struct Boxes<'a, E> {
    e: E,
    boxes: &'a View<'a>,
    first: usize,
    centers: bool,
}

impl<E: Elementwise> Boxes<'_, E> {
    /// The lower and the upper end of a box along either axis.
    #[inline(always)]
    fn get(&self, i: usize) -> [[f32; 2]; 2] {
        let mut v = [0f32; 4];
        self.e.load(self.boxes, (self.first + i) * 4, &mut v);
        let [a, b, c, d] = v;
        if self.centers {
            [(a, c / 2.0), (b, d / 2.0)].map(|(at, half)| [at - half, at + half])
        } else {
            [(a, c), (b, d)].map(|(p, q)| if p < q { [p, q] } else { [q, p] })
        }
    }
}

/// What two boxes share of what either covers; 0 if one of them covers nothing.
fn intersection_over_union(a: [[f32; 2]; 2], b: [[f32; 2]; 2]) -> f32 {
    let area = |[[l, r], [u, d]]: [[f32; 2]; 2]| (r - l) * (d - u);
    let shared = |[l, r]: [f32; 2], [m, s]: [f32; 2]| {
        let (from, to) = (if l > m { l } else { m }, if r < s { r } else { s });
        if to > from { to - from } else { 0.0 }
    };
    let [[ax, ay], [bx, by]] = [a, b];
    let both = shared(ax, bx) * shared(ay, by);
    let (of_a, of_b) = (area(a), area(b));
    let either = of_a + of_b - both;
    if both > 0.0 && of_a > 0.0 && of_b > 0.0 && either > 0.0 { both / either } else { 0.0 }
}

/// Numbers with the one on top that comes first of all.
struct Heap<'a>(&'a mut [u32]);

impl<'a> Heap<'a> {
    #[inline(always)]
    fn new(numbers: &'a mut [u32], before: impl Fn(u32, u32) -> bool + Copy) -> Self {
        let mut heap = Heap(numbers);
        for i in (0..heap.0.len() / 2).rev() {
            heap.sink(i, before);
        }
        heap
    }

    fn get(&self, i: usize) -> u32 {
        self.0.get(i).copied().unwrap_or(0)
    }

    fn set(&mut self, i: usize, number: u32) {
        if let Some(at) = self.0.get_mut(i) {
            *at = number;
        }
    }

    /// Takes the first of all out.
    #[inline(always)]
    fn pop(&mut self, before: impl Fn(u32, u32) -> bool + Copy) -> Option<u32> {
        let top = *self.0.first()?;
        let (last, rest) = core::mem::take(&mut self.0).split_last_mut()?;
        self.0 = rest;
        if let Some(first) = self.0.first_mut() {
            *first = *last;
        }
        self.sink(0, before);
        Some(top)
    }

    /// Moves number `i` down until it comes before the two below it.
    #[inline(always)]
    fn sink(&mut self, mut i: usize, before: impl Fn(u32, u32) -> bool) {
        loop {
            let (left, right, len) = (2 * i + 1, 2 * i + 2, self.0.len());
            if left >= len {
                return;
            }
            let next = if right < len && before(self.get(right), self.get(left)) { right } else { left };
            if !before(self.get(next), self.get(i)) {
                return;
            }
            let (above, below) = (self.get(i), self.get(next));
            self.set(i, below);
            self.set(next, above);
            i = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn overlaps() {
        let of = |a: [f32; 4], b: [f32; 4]| {
            intersection_over_union([[a[0], a[2]], [a[1], a[3]]], [[b[0], b[2]], [b[1], b[3]]])
        };
        assert_eq!(of([0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0]), 1.0 / 3.0);
        assert_eq!(of([0.0, 0.0, 2.0, 2.0], [2.0, 0.0, 3.0, 2.0]), 0.0);
        assert_eq!(of([0.0, 0.0, 0.0, 2.0], [0.0, 0.0, 0.0, 2.0]), 0.0);
        assert_eq!(of([f32::NAN; 4], [0.0, 0.0, 1.0, 1.0]), 0.0);
    }

    #[test]
    fn the_heap_sorts() {
        let keys = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3];
        let before = |a: u32, b: u32| (keys[a as usize], b) > (keys[b as usize], a);
        let mut numbers: Vec<u32> = (0..10).collect();
        let mut heap = Heap::new(&mut numbers, before);
        let all: Vec<u32> = core::iter::from_fn(|| heap.pop(before)).collect();
        assert_eq!(all, [5, 7, 4, 8, 2, 0, 9, 6, 1, 3]);
    }
}
