//! Runs of elements at equal distances, for kernels that read and write with vectors.

use core::marker::PhantomData;

use super::{View, ViewMut};
use crate::Element;

/// Runs of elements of a tensor at equal distances, to be written: the channels of a tile under its pixels.
pub struct PixelsMut<'a, T> {
    first: *mut T,
    len: usize,
    step: usize,
    count: usize,
    _data: PhantomData<&'a mut [T]>,
}

impl<'a> View<'a> {
    /// Where `count` runs of `len` elements each begin, the first at element `start` and the others `step` elements apart, for
    /// kernels that read with vectors; `None` if the tensor is not one of `T`, or they are not all there.
    ///
    /// They may be read through it as long as the tensor lives, but for those that were written in place.
    #[inline(always)]
    pub fn pixels<T: Element>(&self, start: usize, len: usize, step: usize, count: usize) -> Option<*const T> {
        let all = count.checked_sub(1)?.checked_mul(step)?.checked_add(len)?;
        let at = self.locate(start, all, size_of::<T>()).filter(|_| self.width == size_of::<T>())?;
        // SAFETY: `locate` has checked that the elements from `at` on are there.
        Some(unsafe { self.base.add(at) }.cast())
    }
}

impl ViewMut<'_> {
    /// `count` runs of `len` elements each, the first at element `start` and the others `step` elements apart; `None` if the
    /// tensor is not one of `T`, or they are not all there.
    #[inline(always)]
    pub fn pixels<T: Element>(
        &mut self,
        start: usize,
        len: usize,
        step: usize,
        count: usize,
    ) -> Option<PixelsMut<'_, T>> {
        let first = self.0.pixels::<T>(start, len, step, count).filter(|_| len <= step)?.cast_mut();
        Some(PixelsMut { first, len, step, count, _data: PhantomData })
    }
}

impl<'a, T: Element> PixelsMut<'a, T> {
    /// `count` runs of `len` elements each, one after the other; `None` if the slice has not so many.
    #[inline(always)]
    pub fn of(all: &'a mut [T], len: usize, count: usize) -> Option<Self> {
        let all = all.get_mut(..len.checked_mul(count)?)?;
        Some(PixelsMut { first: all.as_mut_ptr(), len, step: len, count, _data: PhantomData })
    }

    /// Runs.
    #[inline(always)]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Elements of a run.
    #[inline(always)]
    pub fn run_len(&self) -> usize {
        self.len
    }

    /// Where the first run begins, for kernels that write with vectors: `count` runs of `len` elements, `step` apart, may be
    /// written through it while this value lives.
    #[inline(always)]
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.first
    }

    /// Elements from one run to the next.
    #[inline(always)]
    pub fn step(&self) -> usize {
        self.step
    }

    /// Run `i`; empty if there is no such run.
    #[inline(always)]
    pub fn run(&mut self, i: usize) -> &mut [T] {
        if i >= self.count {
            return &mut [];
        }
        // SAFETY: `ViewMut::pixels` has checked all runs, which do not overlap (`len <= step`); aliasing as in `ViewMut::slice`.
        unsafe { core::slice::from_raw_parts_mut(self.first.add(i * self.step), self.len) }
    }
}
