//! Constant tensors and evaluated values on the host.

use kinglet::DType;

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
/// Numbers are held in f64 or i64 whatever the dtype; every value of every dtype is exact in one of them. `dtype` says
/// what the tensor is in the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Element type in the model.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// The elements, row-major: reals exactly if `dtype` is f32.
    pub data: Numbers,
}

impl Array {
    /// A tensor of reals.
    pub fn f32(shape: &[usize], data: Vec<f64>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "elements of shape {shape:?}");
        Array { dtype: DType::F32, shape: shape.to_vec(), data: Numbers::F(data) }
    }

    /// A tensor of integers of type `dtype`.
    pub fn int(dtype: DType, shape: &[usize], data: Vec<i64>) -> Self {
        assert_ne!(dtype, DType::F32);
        assert_eq!(shape.iter().product::<usize>(), data.len(), "elements of shape {shape:?}");
        Array { dtype, shape: shape.to_vec(), data: Numbers::I(data) }
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
            Numbers::F(v) => v.len(),
            Numbers::I(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as reals.
    pub fn reals(&self) -> std::borrow::Cow<'_, [f64]> {
        match &self.data {
            Numbers::F(v) => v.into(),
            Numbers::I(v) => v.iter().map(|&v| v as f64).collect::<Vec<_>>().into(),
        }
    }

    /// The elements as integers; reals are cut towards zero.
    pub fn ints(&self) -> std::borrow::Cow<'_, [i64]> {
        match &self.data {
            Numbers::I(v) => v.into(),
            Numbers::F(v) => v.iter().map(|&v| v as i64).collect::<Vec<_>>().into(),
        }
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

    /// Reads elements from little-endian bytes of `dtype`. `None` if their number does not fit the shape.
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Option<Self> {
        let n = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        if n.checked_mul(dtype.size())? != bytes.len() {
            return None;
        }
        macro_rules! read {
            ($t:ty, $as:ty) => {
                bytes
                    .chunks_exact(size_of::<$t>())
                    .map(|c| <$t>::from_le_bytes(c.try_into().expect("chunks are exact")) as $as)
                    .collect()
            };
        }
        let data = match dtype {
            DType::F32 => Numbers::F(read!(f32, f64)),
            DType::I8 => Numbers::I(read!(i8, i64)),
            DType::U8 | DType::Bool => Numbers::I(read!(u8, i64)),
            DType::I16 => Numbers::I(read!(i16, i64)),
            DType::U16 => Numbers::I(read!(u16, i64)),
            DType::I32 => Numbers::I(read!(i32, i64)),
            DType::I64 => Numbers::I(read!(i64, i64)),
        };
        Some(Array { dtype, shape: shape.to_vec(), data })
    }

    /// The elements as little-endian bytes of `dtype`; integers wrap.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len() * self.dtype.size());
        match (&self.data, self.dtype) {
            (Numbers::F(v), _) => v.iter().for_each(|&v| out.extend((v as f32).to_le_bytes())),
            (Numbers::I(v), dtype) => v.iter().for_each(|&v| out.extend(&v.to_le_bytes()[..dtype.size()])),
        }
        out
    }
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
