//! The memory that a step works on, and where its operands lie in it.

use core::cell::Cell;
use core::marker::PhantomData;

use super::{View, ViewMut};
use crate::faults::{DataFault, FaultWord};
use crate::format::Placed;
use crate::session::Ram;
use crate::{Element, Region, Step};

/// The memory a step works on.
#[derive(Clone, Copy)]
pub(crate) struct Memory<'a> {
    arena: *mut u8,
    arena_len: usize,
    slow: *mut u8,
    slow_len: usize,
    weights: &'a [u8],
    hot: &'a [u8],
    _arena: PhantomData<&'a [u8]>,
}

// SAFETY: workers share the arena and the slow memory through this type. `Workers` (an unsafe trait) calls each tile once, the session gives
// each tile rows of its own, and `Kernels` (an unsafe trait) writes only these; what is read is written by no worker of the
// same step (verified by `Model::load`, see `format::verify`; in-place steps read only the elements that they write, and one that
// slides over its input writes no row in a slice that the slice reads: `format::bands::slides`).
unsafe impl Sync for Memory<'_> {}
// SAFETY: as above; the pointer is valid on every thread for as long as the session's borrow of the memory lives.
unsafe impl Send for Memory<'_> {}

impl<'a> Memory<'a> {
    pub(crate) fn new(ram: Ram<'a>, model: &crate::Model<'a>) -> Self {
        let Ram { arena, slow } = ram;
        Memory {
            arena: arena.as_mut_ptr(),
            arena_len: arena.len(),
            slow: slow.as_mut_ptr(),
            slow_len: slow.len(),
            weights: model.weights(),
            hot: model.hot_weights(),
            _arena: PhantomData,
        }
    }

    /// Where a tensor lies in slice `slice` of its band.
    #[inline(always)]
    fn locate(&self, t: &Placed, slice: u32) -> (*mut u8, usize) {
        let (base, len) = match t.region {
            Region::Weights => {
                let end = (t.offset as usize).saturating_add(t.bytes as usize);
                let weights = if t.advance == 0 && end <= self.hot.len() { self.hot } else { self.weights };
                (weights.as_ptr().cast_mut(), weights.len())
            }
            Region::Arena | Region::State => (self.arena, self.arena_len),
            Region::Slow => (self.slow, self.slow_len),
        };
        let moved = i64::from(t.offset) + i64::from(t.advance) * i64::from(slice);
        let bytes = t.bytes as usize;
        let start = usize::try_from(moved).ok().filter(|at| at.checked_add(bytes).is_some_and(|end| end <= len));
        let Some(offset) = start else {
            return (core::ptr::NonNull::<u64>::dangling().as_ptr().cast(), 0);
        };
        // SAFETY: offset + bytes <= len, so the result stays within the same allocation.
        (unsafe { base.add(offset) }, bytes)
    }

    #[inline(always)]
    pub(crate) fn view(&self, t: &Placed, slice: u32) -> View<'a> {
        let (base, bytes) = self.locate(t, slice);
        let width = t.dtype.size();
        if !base.addr().is_multiple_of(width) {
            return View::empty();
        }
        View { base, bytes, width, dtype: t.dtype, scale: t.scale, zero_point: t.zero_point, _data: PhantomData }
    }
}

/// Operands of a step as its kernel sees them, and the scratch of the worker that runs it.
///
/// Each output, and the scratch, is handed over once: two writable views of the same memory would be undefined behaviour.
pub struct Operands<'a> {
    memory: Memory<'a>,
    step: &'a Step<'a>,
    model: &'a crate::Model<'a>,
    /// Slice of the band.
    slice: u32,
    /// First byte in the arena, and bytes.
    scratch: (usize, usize),
    faults: &'a FaultWord,
    /// What was handed over: outputs by bit, and [`SCRATCH`].
    taken: Cell<u32>,
}

/// The bit of the scratch in [`Operands::taken`].
const SCRATCH: usize = 31;

impl<'a> Operands<'a> {
    /// The operands of a tile of `step` in slice `slice` of its band, whose worker has the `scratch` bytes (first, number) of
    /// the arena for itself.
    pub(crate) fn new(
        memory: Memory<'a>,
        model: &'a crate::Model<'a>,
        step: &'a Step<'a>,
        slice: u32,
        scratch: (usize, usize),
        faults: &'a FaultWord,
    ) -> Self {
        Operands { memory, step, model, slice, scratch, faults, taken: Cell::new(0) }
    }

    /// The step.
    pub(crate) fn step(&self) -> &'a Step<'a> {
        self.step
    }

    /// Input `i`. An absent one is empty; [`Operands::optional`] tells.
    pub fn input(&self, i: usize) -> View<'a> {
        self.optional(i).unwrap_or_else(View::empty)
    }

    /// Input `i`, if it is there.
    #[inline(never)]
    pub fn optional(&self, i: usize) -> Option<View<'a>> {
        let placed = self.model.placed(self.step.input(i)?)?;
        Some(self.memory.view(&placed, self.slice))
    }

    /// Constant input `i` as a slice of `T`; empty if it is absent.
    pub fn constant<T: Element>(&self, i: usize) -> &'a [T] {
        self.optional(i).map_or(&[], |view| view.slice(0, view.bytes / const { size_of::<T>() }))
    }

    /// The first output, to be written; empty if it was taken before.
    pub fn output(&self) -> ViewMut<'a> {
        self.output_at(0)
    }

    /// Output `i`, to be written; empty if it was taken before. Outputs of a step do not overlap (verified).
    pub fn output_at(&self, i: usize) -> ViewMut<'a> {
        let tensor = self.step.output(i).filter(|_| i < SCRATCH && self.take(i));
        let placed = tensor.and_then(|t| self.model.placed(t)).filter(|t| t.region != Region::Weights);
        ViewMut(placed.map_or_else(View::empty, |t| self.memory.view(&t, self.slice)))
    }

    /// Marks an output or the scratch as taken; false if it was already.
    fn take(&self, bit: usize) -> bool {
        let before = self.taken.get();
        self.taken.set(before | 1 << bit);
        before & 1 << bit == 0
    }

    /// Notes that the data has something that the step has no answer for. The kernel goes on all the same, with the result
    /// that its parameters document.
    pub fn note(&self, fault: DataFault) {
        self.faults.note(fault);
    }

    /// The running worker's scratch memory: 64-byte aligned, as long as the step's record says, of unknown content. Empty if
    /// it was taken before.
    pub fn scratch(&self) -> &'a mut [u8] {
        let (start, len) = self.scratch;
        if start.checked_add(len).is_none_or(|end| end > self.memory.arena_len) || !self.take(SCRATCH) {
            return &mut [];
        }
        // SAFETY: in bounds by the check above; the session gives each worker a part of its own behind all tensors, and `take`
        // keeps a kernel from having it twice.
        unsafe { core::slice::from_raw_parts_mut(self.memory.arena.add(start), len) }
    }
}
