//! Constant tensors and evaluated values on the host.

use std::borrow::Cow;

use kinglet::DType;
use kinglet_onnx::Bytes;

/// Numbers of a tensor in the evaluator's precision.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// Reals.
    F(Vec<f64>),
    /// Integers, and bools as 0 and 1.
    I(Vec<i64>),
}

/// A tensor with values: an initialiser of the file, a folded constant, or what the evaluator computes.
///
/// A constant is held as the model has it, in the bytes of its type and where possible in the very memory of the file: a
/// large model is mostly constants. What the f64 evaluator computes are f64 numbers until [`Array::stored`] rounds them.
#[derive(Clone, Debug)]
pub struct Array {
    /// Element type in the model.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    data: Data,
}

/// The elements, row-major.
#[derive(Clone, Debug)]
enum Data {
    /// Little-endian bytes of the element type.
    Stored(Bytes),
    /// Reals that may lie between those of f32; only if the element type is f32.
    Reals(Vec<f64>),
}

impl Array {
    /// A tensor of the given numbers, reals exactly if `dtype` is f32. Integers wrap to their type, reals stay as they are.
    pub fn new(dtype: DType, shape: Vec<usize>, numbers: Numbers) -> Self {
        let data = match numbers {
            Numbers::F(v) => Data::Reals(v),
            Numbers::I(v) => Data::Stored(narrow(&v, dtype).into()),
        };
        let array = Array { dtype, shape, data };
        assert_eq!(matches!(array.data, Data::Reals(_)), dtype == DType::F32, "reals are f32, and only they");
        assert_eq!(array.shape.iter().product::<usize>(), array.len(), "elements of shape {:?}", array.shape);
        array
    }

    /// A tensor of reals.
    pub fn f32(shape: &[usize], data: Vec<f64>) -> Self {
        Array::new(DType::F32, shape.to_vec(), Numbers::F(data))
    }

    /// A tensor of integers of type `dtype`.
    pub fn int(dtype: DType, shape: &[usize], data: Vec<i64>) -> Self {
        Array::new(dtype, shape.to_vec(), Numbers::I(data))
    }

    /// A one-dimensional i64 tensor, as shapes and axes are.
    pub fn i64s(values: &[i64]) -> Self {
        Array::int(DType::I64, &[values.len()], values.to_vec())
    }

    /// A scalar real.
    pub fn scalar(v: f64) -> Self {
        Array::f32(&[], vec![v])
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.data {
            Data::Stored(bytes) => bytes.len() / self.dtype.size(),
            Data::Reals(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements in the evaluator's precision.
    pub fn numbers(&self) -> Numbers {
        if self.dtype == DType::F32 {
            Numbers::F(self.reals().into_owned())
        } else {
            Numbers::I(self.ints().into_owned())
        }
    }

    /// The elements as reals.
    pub fn reals(&self) -> Cow<'_, [f64]> {
        match &self.data {
            Data::Reals(v) => v.into(),
            Data::Stored(bytes) => widen(bytes, self.dtype, f64::from, |v| v as f64).into(),
        }
    }

    /// The elements as integers; reals are cut towards zero.
    pub fn ints(&self) -> Cow<'_, [i64]> {
        let v: Vec<i64> = match &self.data {
            Data::Reals(v) => v.iter().map(|&v| v as i64).collect(),
            Data::Stored(bytes) => widen(bytes, self.dtype, |v| v as i64, |v| v),
        };
        v.into()
    }

    /// The only element, as a real.
    pub fn as_scalar(&self) -> Option<f64> {
        (self.len() == 1).then(|| self.reals()[0])
    }

    /// The same elements in another shape of the same size.
    pub fn reshaped(mut self, shape: &[usize]) -> Self {
        assert_eq!(shape.iter().product::<usize>(), self.len(), "reshape to {shape:?}");
        self.shape = shape.to_vec();
        self
    }

    /// Reads elements from little-endian bytes of `dtype`; f16 become f32. `None` if their number does not fit the shape.
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Option<Self> {
        Array::from_shared(dtype, shape, Bytes::copy_from_slice(bytes))
    }

    /// As [`Array::from_bytes`], in the memory that the bytes lie in.
    pub fn from_shared(dtype: DType, shape: &[usize], bytes: Bytes) -> Option<Self> {
        let n = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        let fits = n.checked_mul(dtype.size())? == bytes.len();
        if dtype == DType::F16 {
            let real = |b: &[u8; 2]| f64::from(kinglet::f16::from_le_bytes(*b).to_f32());
            return fits.then(|| Array::f32(shape, bytes.as_chunks().0.iter().map(real).collect()));
        }
        fits.then(|| Array { dtype, shape: shape.to_vec(), data: Data::Stored(bytes) })
    }

    /// The elements as little-endian bytes of the element type; reals are rounded to f32.
    pub fn to_bytes(&self) -> Cow<'_, [u8]> {
        match &self.data {
            Data::Stored(bytes) => Cow::Borrowed(bytes),
            Data::Reals(v) => v.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect::<Vec<_>>().into(),
        }
    }

    /// The bytes of a tensor that is held as the model has it.
    pub(crate) fn held(&self) -> Option<&[u8]> {
        match &self.data {
            Data::Stored(bytes) => Some(bytes),
            Data::Reals(_) => None,
        }
    }

    /// Whether reals are held that f32 need not hold: results of the evaluator, and while a file is read its constants of type
    /// DOUBLE and what folds from them.
    pub(crate) fn is_double(&self) -> bool {
        self.held().is_none()
    }

    /// The same tensor as the model holds it: its reals rounded to f32.
    pub fn stored(self) -> Self {
        match self.data {
            Data::Stored(_) => self,
            Data::Reals(_) => {
                let bytes = self.to_bytes().into_owned();
                Array { data: Data::Stored(bytes.into()), ..self }
            }
        }
    }

    /// Positions `range` of axis `axis`.
    pub fn cut(&self, axis: usize, range: std::ops::Range<usize>) -> Self {
        let run: usize = self.shape[axis + 1..].iter().product();
        let whole = self.shape[axis] * run;
        let mut shape = self.shape.clone();
        shape[axis] = range.len();
        let data = match &self.data {
            Data::Stored(bytes) => {
                let size = self.dtype.size();
                // Of the first axis what is left lies in one piece.
                if shape[..axis].iter().all(|&d| d == 1) {
                    Data::Stored(bytes.slice(range.start * run * size..range.end * run * size))
                } else {
                    Data::Stored(cut_rows(bytes, whole * size, range.start * run * size..range.end * run * size).into())
                }
            }
            Data::Reals(v) => Data::Reals(cut_rows(v, whole, range.start * run..range.end * run)),
        };
        Array { dtype: self.dtype, shape, data }
    }

    /// These positions of axis `axis`, in this order.
    pub fn select(&self, axis: usize, positions: &[usize]) -> Self {
        fn rows<T: Copy>(v: &[T], whole: usize, run: usize, positions: &[usize]) -> Vec<T> {
            let mut out = Vec::new();
            for row in v.chunks(whole.max(1)) {
                positions.iter().for_each(|&p| out.extend_from_slice(&row[p * run..][..run]));
            }
            out
        }
        let run: usize = self.shape[axis + 1..].iter().product();
        let whole = self.shape[axis] * run;
        let mut shape = self.shape.clone();
        shape[axis] = positions.len();
        let data = match &self.data {
            Data::Stored(bytes) => {
                let size = self.dtype.size();
                Data::Stored(rows(bytes, whole * size, run * size, positions).into())
            }
            Data::Reals(v) => Data::Reals(rows(v, whole, run, positions)),
        };
        Array { dtype: self.dtype, shape, data }
    }

    /// A tensor of `shape` whose elements all are this tensor's only one.
    pub fn filled(&self, shape: &[usize]) -> Self {
        assert_eq!(self.len(), 1, "one element fills a tensor");
        let n = shape.iter().product();
        let data = match &self.data {
            Data::Stored(bytes) => Data::Stored(bytes.repeat(n).into()),
            Data::Reals(v) => Data::Reals(vec![v[0]; n]),
        };
        Array { dtype: self.dtype, shape: shape.to_vec(), data }
    }

    /// Whether all positions of an axis hold the same bits.
    pub fn repeats(&self, axis: usize) -> bool {
        fn all<T: PartialEq>(v: &[T], run: usize, whole: usize) -> bool {
            v.chunks(whole.max(1)).all(|v| v[run..] == v[..v.len() - run])
        }
        let run: usize = self.shape[axis + 1..].iter().product();
        let whole = self.shape[axis] * run;
        match &self.data {
            _ if self.is_empty() => true,
            Data::Reals(v) => all(&v.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), run, whole),
            Data::Stored(bytes) => all(bytes, run * self.dtype.size(), whole * self.dtype.size()),
        }
    }

    /// Whether all elements have the same bits.
    pub fn is_uniform(&self) -> bool {
        match &self.data {
            Data::Reals(v) => v.iter().all(|x| x.to_bits() == v[0].to_bits()),
            Data::Stored(bytes) => {
                let size = self.dtype.size();
                bytes.len() <= size || bytes[size..] == bytes[..bytes.len() - size]
            }
        }
    }
}

/// Equal type, shape and numbers, whatever they are held in; NaN differs from itself as ever.
impl PartialEq for Array {
    fn eq(&self, other: &Self) -> bool {
        (self.dtype, &self.shape) == (other.dtype, &other.shape)
            && match (&self.data, &other.data) {
                (Data::Stored(a), Data::Stored(b)) if self.dtype != DType::F32 => a == b,
                _ => self.reals() == other.reals(),
            }
    }
}

fn cut_rows<T: Copy>(v: &[T], row: usize, columns: std::ops::Range<usize>) -> Vec<T> {
    v.chunks(row.max(1)).flat_map(|row| row[columns.clone()].iter().copied()).collect()
}

/// Reads each element as a real or an integer.
fn widen<T>(bytes: &[u8], dtype: DType, real: impl Fn(f32) -> T, int: impl Fn(i64) -> T) -> Vec<T> {
    macro_rules! read {
        ($t:ty, $f:expr) => {
            bytes
                .chunks_exact(size_of::<$t>())
                .map(|c| $f(<$t>::from_le_bytes(c.try_into().expect("chunks are exact"))))
                .collect()
        };
    }
    match dtype {
        DType::F32 => read!(f32, real),
        DType::F16 => unreachable!("halves become f32 when they are read"),
        DType::I8 => read!(i8, |v| int(i64::from(v))),
        DType::U8 | DType::Bool => read!(u8, |v| int(i64::from(v))),
        DType::I16 => read!(i16, |v| int(i64::from(v))),
        DType::U16 => read!(u16, |v| int(i64::from(v))),
        DType::I32 => read!(i32, |v| int(i64::from(v))),
        DType::I64 => read!(i64, int),
    }
}

/// Integers as little-endian bytes of `dtype`; they wrap.
fn narrow(v: &[i64], dtype: DType) -> Vec<u8> {
    let mut out = Vec::with_capacity(v.len() * dtype.size());
    v.iter().for_each(|&v| out.extend(&v.to_le_bytes()[..dtype.size()]));
    out
}

/// Strides, in elements, of a contiguous tensor.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut s = vec![1; shape.len()];
    for d in (1..shape.len()).rev() {
        s[d - 1] = s[d] * shape[d];
    }
    s
}

/// The shape that two shapes broadcast to by the rule of NumPy and ONNX.
pub fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let dim = |s: &[usize], d: usize| if d + s.len() < rank { 1 } else { s[d + s.len() - rank] };
    (0..rank)
        .map(|d| match (dim(a, d), dim(b, d)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

/// Strides with which a tensor of shape `from` is read over the shape `to` that it broadcasts to: 0 where it repeats.
pub fn broadcast_strides(from: &[usize], to: &[usize]) -> Vec<usize> {
    let own = strides(from);
    let lead = to.len() - from.len();
    (0..to.len()).map(|d| if d < lead || (from[d - lead] == 1 && to[d] != 1) { 0 } else { own[d - lead] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_take_the_room_of_their_type_and_lie_where_the_file_does() {
        let file = Bytes::from((0..12u8).collect::<Vec<_>>());
        let a = Array::from_shared(DType::I8, &[3, 4], file.clone()).unwrap();
        assert_eq!(a.to_bytes().as_ptr(), file.as_ptr());
        assert_eq!(a.cut(0, 1..2).to_bytes().as_ptr(), file[4..].as_ptr());
        assert_eq!(a.cut(1, 1..3), Array::int(DType::I8, &[3, 2], vec![1, 2, 5, 6, 9, 10]));
        assert_eq!(a.select(1, &[3, 0]), Array::int(DType::I8, &[3, 2], vec![3, 0, 7, 4, 11, 8]));
        assert_eq!(a.select(0, &[2]), a.cut(0, 2..3));
        assert_eq!(Array::int(DType::I8, &[3, 4], (0..12).collect()), a);
        assert_eq!(Array::from_bytes(DType::I16, &[7], &file), None);
    }

    #[test]
    fn stored_reals_are_those_of_f32() {
        let a = Array::f32(&[2], vec![0.1, 1e39]);
        assert_eq!(a.reals()[..], [0.1, 1e39]);
        assert_eq!(a.clone().stored().reals()[..], [f64::from(0.1f32), f64::INFINITY]);
        assert_eq!(Array::f32(&[1], vec![0.5]).stored(), Array::f32(&[1], vec![0.5]));
    }

    #[test]
    fn uniform_means_the_same_bits() {
        let same = |v: Vec<f64>| Array::f32(&[v.len()], v).stored().is_uniform();
        assert!(same(vec![0.1; 5]) && same(vec![]) && same(vec![3.0]));
        assert!(!same(vec![0.0, -0.0]) && !same(vec![1.0, 1.0, 2.0]));
    }
}
