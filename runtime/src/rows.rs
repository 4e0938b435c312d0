//! The addressing rule: how a kernel reaches its operands.
//!
//! A tensor is a run of rows (the outermost axis that slides: image rows, time frames). Element `e` of the whole tensor
//! lies at `e mod resident elements`; since only whole rows are resident, row `r` lies at `r mod capacity`. When all
//! rows are resident the rule is plain indexing; when fewer are, the same rule makes the memory a ring. A row outside
//! the tensor does not exist, and the kernel takes its padding instead.
//!
//! [`Model::load`](crate::Model::load) has checked every operand, so the accesses here are in bounds; each is checked
//! once more all the same (one comparison a row, not an element), and yields an empty slice if it were not.
#![allow(unsafe_code)]

mod pixels;

use core::cell::Cell;
use core::marker::PhantomData;
use core::ops::Range;

use half::f16;

pub use crate::tile::{Tile, cut};
pub use pixels::PixelsMut;

use crate::faults::{DataFault, FaultWord};
use crate::format::Placed;
use crate::quant;
use crate::{DType, Element, Region, Step};

/// Elements that are added up at a time where the order of a sum is stated (`docs/numerics.md`).
pub const CHUNK: usize = 128;

/// Elements that an elementwise kernel handles at once: they go through buffers on the stack, of which microcontrollers have little. No result depends on it.
pub const BUFFER: usize = if cfg!(target_pointer_width = "32") { 32 } else { CHUNK };

/// The memory a step works on.
#[derive(Clone, Copy)]
pub(crate) struct Memory<'a> {
    arena: *mut u8,
    arena_len: usize,
    weights: &'a [u8],
    _arena: PhantomData<&'a [u8]>,
}

// SAFETY: workers share the arena through this type. `Workers` (an unsafe trait) calls each tile once, the session gives
// each tile rows of its own, and `Kernels` (an unsafe trait) writes only these; what is read is written by no worker of the
// same step (verified by `Model::load`, see `format::verify`; in-place steps read only the elements that they write, and one that
// slides over its input writes no row in a slice that the slice reads: `format::bands::slides`).
unsafe impl Sync for Memory<'_> {}
// SAFETY: as above; the pointer is valid on every thread for as long as the session's borrow of the arena lives.
unsafe impl Send for Memory<'_> {}

impl<'a> Memory<'a> {
    pub(crate) fn new(arena: &'a mut [u8], weights: &'a [u8]) -> Self {
        Memory { arena: arena.as_mut_ptr(), arena_len: arena.len(), weights, _arena: PhantomData }
    }

    /// Where a tensor lies in slice `slice` of its band.
    fn locate(&self, t: &Placed, slice: u32) -> (*mut u8, usize) {
        let (base, len) = match t.region {
            Region::Weights => (self.weights.as_ptr().cast_mut(), self.weights.len()),
            Region::Arena | Region::State => (self.arena, self.arena_len),
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

    /// The step's parameters, if they are a valid `P`.
    pub(crate) fn params<P: crate::format::words::Record>(&self) -> Option<P> {
        self.step.params()
    }

    /// Input `i`. An absent one is empty; [`Operands::has_input`] tells.
    pub fn input(&self, i: usize) -> View<'a> {
        self.step.input(i).map_or_else(View::empty, |t| self.view(t))
    }

    /// Whether optional input `i` is there.
    pub fn has_input(&self, i: usize) -> bool {
        self.step.input(i).is_some()
    }

    /// Constant input `i` as a slice of `T`; empty if it is absent.
    pub fn constant<T: Element>(&self, i: usize) -> &'a [T] {
        let view = self.input(i);
        view.slice(0, view.bytes.checked_div(size_of::<T>()).unwrap_or(0))
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

    fn view(&self, t: usize) -> View<'a> {
        self.model.placed(t).map_or_else(View::empty, |t| self.memory.view(&t, self.slice))
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

/// A tensor that a kernel reads.
#[derive(Clone, Copy)]
pub struct View<'a> {
    base: *const u8,
    bytes: usize,
    /// Bytes of an element as verified, of which the tensor's place is a multiple. (The public fields may be changed.)
    width: usize,
    /// Element type.
    pub dtype: DType,
    /// Scale, 1 if not quantised.
    pub scale: f32,
    /// Zero point, 0 if not quantised.
    pub zero_point: i32,
    _data: PhantomData<&'a [u8]>,
}

impl<'a> View<'a> {
    fn empty() -> Self {
        let base = core::ptr::NonNull::<u64>::dangling().as_ptr().cast_const().cast();
        View { base, bytes: 0, width: 1, dtype: DType::U8, scale: 1.0, zero_point: 0, _data: PhantomData }
    }

    /// A view of a slice.
    #[cfg(test)]
    fn of<T: Element>(data: &'a [T], dtype: DType, scale: f32, zero_point: i32) -> Self {
        View {
            base: data.as_ptr().cast(),
            bytes: size_of_val(data),
            width: size_of::<T>(),
            dtype: if T::matches(dtype) { dtype } else { DType::U8 },
            scale,
            zero_point,
            _data: PhantomData,
        }
    }

    /// The same tensor with its zero point but scale 1, and the scale: for kernels that combine integers exactly.
    pub fn unscaled(self) -> (View<'a>, f32) {
        (View { scale: 1.0, ..self }, self.scale)
    }

    /// Where the elements `start .. start + len` lie, by the addressing rule; `None` if they are not there, straddle the end
    /// of the ring, or are wider than those of the tensor.
    #[inline(always)]
    fn locate(&self, start: usize, len: usize, size: usize) -> Option<usize> {
        if size > self.width {
            return None;
        }
        let mut at = start.checked_mul(size)?;
        if at >= self.bytes {
            at = at.checked_rem(self.bytes)?;
        }
        (len.checked_mul(size)? <= self.bytes - at).then_some(at)
    }

    /// Whether the elements `start .. start + len` are there and lie in one piece: in a ring not those around its end.
    #[inline(always)]
    pub fn is_in_one_piece(&self, start: usize, len: usize) -> bool {
        self.locate(start, len, self.width).is_some()
    }

    /// Elements `start .. start + len` of the tensor, which may be read as a narrower `T` than its own (bytes of anything) and
    /// never as a wider one. Empty if they are not there or `T` is too wide.
    ///
    /// The caller must not hold the slice while it writes the same elements in place.
    #[inline(always)]
    pub fn slice<T: Element>(&self, start: usize, len: usize) -> &'a [T] {
        match self.locate(start, len, size_of::<T>()) {
            // SAFETY: `locate` has checked the bounds. The tensor lies at a multiple of its element's size (`Memory::view`), which
            // is a power of two and no less than the size of `T` (`locate`), hence a multiple of `T`'s alignment; `at` is a
            // multiple of `T`'s size. So the pointer is aligned. Any bits are a valid `T` (`Pod`).
            Some(at) => unsafe { core::slice::from_raw_parts(self.base.add(at).cast(), len) },
            None => &[],
        }
    }

    /// Loads elements `start .. start + out.len()` as reals: dequantised if the tensor is quantised. Kernels load through
    /// [`Elementwise`](crate::elementwise::Elementwise), into each of which this is compiled once.
    #[inline(always)]
    pub fn load(&self, start: usize, out: &mut [f32]) {
        let n = out.len();
        let (s, z) = (self.scale, self.zero_point);
        macro_rules! dequantize {
            ($t:ty) => {
                for (o, &q) in out.iter_mut().zip(self.slice::<$t>(start, n)) {
                    *o = quant::dequantize(i32::from(q), s, z);
                }
            };
        }
        match self.dtype {
            DType::F32 => {
                let x = self.slice::<f32>(start, n);
                if x.len() == n {
                    out.copy_from_slice(x);
                }
            }
            DType::I8 => dequantize!(i8),
            DType::U8 => dequantize!(u8),
            DType::I16 => dequantize!(i16),
            DType::U16 => dequantize!(u16),
            DType::Bool => dequantize!(u8),
            DType::I32 => {
                for (o, &q) in out.iter_mut().zip(self.slice::<i32>(start, n)) {
                    *o = (q.wrapping_sub(z)) as f32 * s;
                }
            }
            DType::F16 => {
                for (o, &v) in out.iter_mut().zip(self.slice::<f16>(start, n)) {
                    *o = v.to_f32();
                }
            }
            DType::I64 => {
                for (o, &q) in out.iter_mut().zip(self.slice::<i64>(start, n)) {
                    *o = q as f32;
                }
            }
        }
    }

    /// Loads elements `start .. start + out.len()` as stored integers; floats are cut towards zero.
    #[inline]
    pub fn load_int(&self, start: usize, out: &mut [i64]) {
        let n = out.len();
        macro_rules! widen {
            ($t:ty) => {
                for (o, &q) in out.iter_mut().zip(self.slice::<$t>(start, n)) {
                    *o = q as i64;
                }
            };
        }
        match self.dtype {
            DType::F32 => widen!(f32),
            DType::F16 => {
                for (o, &v) in out.iter_mut().zip(self.slice::<f16>(start, n)) {
                    *o = v.to_f32() as i64;
                }
            }
            DType::I8 => widen!(i8),
            DType::U8 | DType::Bool => widen!(u8),
            DType::I16 => widen!(i16),
            DType::U16 => widen!(u16),
            DType::I32 => widen!(i32),
            DType::I64 => widen!(i64),
        }
    }
}

/// A tensor that a kernel writes.
pub struct ViewMut<'a>(View<'a>);

impl<'a> ViewMut<'a> {
    /// The same view, while this one rests.
    pub(crate) fn reborrow(&mut self) -> ViewMut<'_> {
        ViewMut(self.0)
    }

    /// Element type.
    #[inline]
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// Scale, 1 if not quantised.
    #[inline]
    pub fn scale(&self) -> f32 {
        self.0.scale
    }

    /// Zero point, 0 if not quantised.
    #[inline]
    pub fn zero_point(&self) -> i32 {
        self.0.zero_point
    }

    /// Elements `start .. start + len` of the tensor, to be written; empty as [`View::slice`] is.
    #[inline(always)]
    pub fn slice<T: Element>(&mut self, start: usize, len: usize) -> &mut [T] {
        match self.0.locate(start, len, size_of::<T>()) {
            // SAFETY: bounds and alignment as in `View::slice`. The memory is writable: outputs never lie in the weights
            // (`output_at`), and the arena was borrowed mutably. `Operands` hands an output over once, and other workers write
            // other rows (the contract of `Kernels`); `&mut self` keeps slices of this one from overlapping.
            Some(at) => unsafe { core::slice::from_raw_parts_mut(self.0.base.cast_mut().add(at).cast(), len) },
            None => &mut [],
        }
    }

    /// Stores reals to elements `start .. start + v.len()`: quantised if the tensor is quantised, rounded to nearest even for f16, cut towards zero for
    /// index types, "not zero" for bool. Kernels store through [`Elementwise`](crate::elementwise::Elementwise).
    #[inline(always)]
    pub fn store(&mut self, start: usize, v: &[f32]) {
        let n = v.len();
        let (s, z) = (self.0.scale, self.0.zero_point);
        macro_rules! quantize {
            ($t:ty) => {
                for (o, &v) in self.slice::<$t>(start, n).iter_mut().zip(v) {
                    *o = quant::quantize(v, s, z, <$t>::MIN as i32, <$t>::MAX as i32) as $t;
                }
            };
        }
        match self.0.dtype {
            DType::F32 => {
                let out = self.slice::<f32>(start, n);
                if out.len() == n {
                    out.copy_from_slice(v);
                }
            }
            DType::I8 => quantize!(i8),
            DType::U8 => quantize!(u8),
            DType::I16 => quantize!(i16),
            DType::U16 => quantize!(u16),
            DType::Bool => {
                for (o, &v) in self.slice::<u8>(start, n).iter_mut().zip(v) {
                    *o = u8::from(v != 0.0);
                }
            }
            DType::I32 => {
                for (o, &v) in self.slice::<i32>(start, n).iter_mut().zip(v) {
                    *o = v as i32;
                }
            }
            DType::F16 => {
                for (o, &v) in self.slice::<f16>(start, n).iter_mut().zip(v) {
                    *o = f16::from_f32(v);
                }
            }
            DType::I64 => {
                for (o, &v) in self.slice::<i64>(start, n).iter_mut().zip(v) {
                    *o = v as i64;
                }
            }
        }
    }

    /// Stores integers to elements `start .. start + v.len()`, wrapping as ONNX `Cast` between integers does.
    #[inline]
    pub fn store_int(&mut self, start: usize, v: &[i64]) {
        let n = v.len();
        macro_rules! narrow {
            ($t:ty) => {
                for (o, &v) in self.slice::<$t>(start, n).iter_mut().zip(v) {
                    *o = v as $t;
                }
            };
        }
        match self.0.dtype {
            DType::F32 => narrow!(f32),
            DType::F16 => {
                for (o, &v) in self.slice::<f16>(start, n).iter_mut().zip(v) {
                    *o = f16::from_f32(v as f32);
                }
            }
            DType::I8 => narrow!(i8),
            DType::U8 => narrow!(u8),
            DType::I16 => narrow!(i16),
            DType::U16 => narrow!(u16),
            DType::I32 => narrow!(i32),
            DType::I64 => narrow!(i64),
            DType::Bool => {
                for (o, &v) in self.slice::<u8>(start, n).iter_mut().zip(v) {
                    *o = u8::from(v != 0);
                }
            }
        }
    }
}

/// Calls `f(start, len)` for chunks of at most [`CHUNK`] elements that cover `range`.
#[inline(always)]
pub(crate) fn chunks(range: Range<usize>, f: impl FnMut(usize, usize)) {
    parts::<CHUNK>(range, f);
}

/// Copies elements, if there are as many in both. (Where the compiler cannot know, a copy of its own would panic.)
#[inline(always)]
pub(crate) fn copy<T: Copy>(from: &[T], to: &mut [T]) {
    if from.len() == to.len() {
        to.copy_from_slice(from);
    }
}

/// Calls `f(start, len)` for as many elements at a time as a [`BUFFER`] has.
#[inline(always)]
pub(crate) fn buffers(range: Range<usize>, f: impl FnMut(usize, usize)) {
    parts::<BUFFER>(range, f);
}

#[inline(always)]
fn parts<const N: usize>(range: Range<usize>, mut f: impl FnMut(usize, usize)) {
    let mut at = range.start;
    while at < range.end {
        let n = N.min(range.end - at);
        f(at, n);
        at += n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_holds_the_last_rows() {
        let ring = [30i32, 31, 40, 41, 20, 21];
        let view = View::of(&ring, DType::I32, 1.0, 0);
        for (row, want) in [(2, [20, 21]), (3, [30, 31]), (4, [40, 41])] {
            assert_eq!(view.slice::<i32>(2 * row, 2), want);
        }
    }

    #[test]
    fn out_of_bounds_is_empty_not_undefined() {
        let data = [1.0f32; 4];
        let v = View::of(&data, DType::F32, 1.0, 0);
        assert!(v.slice::<f32>(2, 3).is_empty());
        assert!(v.slice::<f32>(usize::MAX, 2).is_empty());
        assert!(View::empty().slice::<f32>(0, 1).is_empty());
    }

    #[test]
    fn elements_wider_than_the_tensors_are_not_there() {
        // A tensor of bytes may move by one byte from slice to slice: read as words it would not be aligned.
        let data = [1u8; 16];
        let mut v = View::of(&data, DType::U8, 1.0, 0);
        assert!(v.slice::<i64>(0, 1).is_empty() && v.slice::<u16>(0, 1).is_empty());
        v.dtype = DType::I64;
        assert!(v.slice::<i64>(0, 1).is_empty(), "what the public fields say does not count");
        assert_eq!(View::of(&[1u16; 4], DType::U16, 1.0, 0).slice::<u8>(2, 2), [1, 0]);
    }
}
