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

mod operands;
mod pixels;

use core::marker::PhantomData;
use core::ops::Range;

use half::f16;

pub use crate::tile::{Tile, cut};
pub(crate) use operands::Memory;
pub use operands::Operands;
pub use pixels::PixelsMut;

use crate::quant;
use crate::{DType, Element};

/// Elements that are added up at a time where the order of a sum is stated (`docs/numerics.md`).
pub const CHUNK: usize = 128;

/// Elements that an elementwise kernel handles at once: they go through buffers on the stack, of which microcontrollers have little. No result depends on it.
pub const BUFFER: usize = if cfg!(target_pointer_width = "32") { 32 } else { CHUNK };

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

    /// Loads elements as [`View::load_int`] does: those that were stored before.
    #[inline]
    pub fn load_int(&self, start: usize, out: &mut [i64]) {
        self.0.load_int(start, out);
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
