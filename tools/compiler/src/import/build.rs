//! Operators of the graph as functions: what importers write formulas with. Operands broadcast as in ONNX.

use kinglet::DType;

use super::{Context, Failure, fits};
use crate::array::{Array, broadcast};
use crate::graph::{BinaryOp, Op, Post, ReduceOp, TensorId, UnaryOp};

impl Context<'_, '_> {
    /// A constant scalar like `x`: a real beside reals, else an integer.
    pub fn scalar_like(&mut self, x: TensorId, value: f64) -> TensorId {
        let array = match self.dtype(x) {
            DType::F32 => Array::scalar(value),
            integer => Array::int(integer, &[], vec![value as i64]),
        };
        self.add_constant(array)
    }

    /// A function of each element.
    pub fn unary(&mut self, op: UnaryOp, x: TensorId) -> Result<TensorId, Failure> {
        self.unary_with(op, [0.0, 0.0], x)
    }

    /// A function of each element with its parameters.
    ///
    /// # Errors
    /// [`Failure::Malformed`] if a parameter is not a number.
    pub fn unary_with(&mut self, op: UnaryOp, [alpha, beta]: [f32; 2], x: TensorId) -> Result<TensorId, Failure> {
        if alpha.is_nan() || beta.is_nan() {
            return Err(Failure::malformed("a parameter is not a number"));
        }
        let (dtype, shape) = (self.dtype(x), self.shape(x));
        self.emit(Op::Unary { op, alpha, beta }, &[x], dtype, &shape)
    }

    /// A function of two elements; of the type of the first, or bool.
    ///
    /// # Errors
    /// [`Failure::Malformed`] if the shapes do not broadcast.
    pub fn binary(&mut self, op: BinaryOp, a: TensorId, b: TensorId) -> Result<TensorId, Failure> {
        let (sa, sb) = (self.shape(a), self.shape(b));
        let shape = broadcast(&sa, &sb)
            .ok_or_else(|| Failure::malformed(format!("shapes {sa:?} and {sb:?} do not broadcast")))?;
        let dtype = if op.gives_truth() { DType::Bool } else { self.dtype(a) };
        // The smallest and the largest of one value with itself is that value.
        if a == b && matches!(op, BinaryOp::Min | BinaryOp::Max) {
            return Ok(a);
        }
        self.emit(Op::Binary(op), &[a, b], dtype, &shape)
    }

    /// A function of each element and a number.
    pub fn binary_with(&mut self, op: BinaryOp, a: TensorId, b: f64) -> Result<TensorId, Failure> {
        let b = self.scalar_like(a, b);
        self.binary(op, a, b)
    }

    /// `x` where `condition` is not 0, else `y`.
    ///
    /// # Errors
    /// [`Failure::Malformed`] if the shapes do not broadcast.
    pub fn select(&mut self, condition: TensorId, x: TensorId, y: TensorId) -> Result<TensorId, Failure> {
        let shape = broadcast(&self.shape(condition), &self.shape(x)).and_then(|s| broadcast(&s, &self.shape(y)));
        let shape = shape.ok_or_else(|| Failure::malformed("the shapes do not broadcast"))?;
        let dtype = self.dtype(x);
        self.emit(Op::Where, &[condition, x, y], dtype, &shape)
    }

    /// `x` as another type.
    pub fn as_type(&mut self, x: TensorId, to: DType) -> Result<TensorId, Failure> {
        if self.dtype(x) == to {
            return Ok(x);
        }
        let shape = self.shape(x);
        self.emit(Op::Cast(to), &[x], to, &shape)
    }

    /// A reduction over axes, ascending, which stay with extent 1 if `keep`.
    pub fn reduced(&mut self, op: ReduceOp, x: TensorId, axes: &[usize], keep: bool) -> Result<TensorId, Failure> {
        if axes.is_empty() && matches!(op, ReduceOp::Sum | ReduceOp::Mean | ReduceOp::Max | ReduceOp::Min) {
            return Ok(x);
        }
        let (dtype, shape) = (self.dtype(x), self.shape(x));
        let kept = |d: &usize| keep || !axes.contains(d);
        let out: Vec<usize> =
            (0..shape.len()).filter(kept).map(|d| if axes.contains(&d) { 1 } else { shape[d] }).collect();
        self.emit(Op::Reduce { op, axes: axes.to_vec(), keep }, &[x], dtype, &out)
    }

    /// The product of matrices, of which either may have its last two axes swapped; leading axes broadcast.
    ///
    /// # Errors
    /// [`Failure::Malformed`] if the shapes do not fit.
    pub fn product(&mut self, a: TensorId, b: TensorId, swapped: [bool; 2]) -> Result<TensorId, Failure> {
        let (sa, sb) = (self.shape(a), self.shape(b));
        let bad = || Failure::malformed(format!("a product of shapes {sa:?} and {sb:?}"));
        let matrix = |s: &[usize], swapped: bool| {
            let (lead, [rows, columns]) = s.split_last_chunk::<2>()?;
            Some((lead.to_vec(), if swapped { [*columns, *rows] } else { [*rows, *columns] }))
        };
        let (lead_a, [m, k]) = matrix(&sa, swapped[0]).ok_or_else(bad)?;
        let (lead_b, [other, n]) = matrix(&sb, swapped[1]).ok_or_else(bad)?;
        let lead = broadcast(&lead_a, &lead_b).filter(|_| k == other).ok_or_else(bad)?;
        let op = Op::MatMul { transpose_a: swapped[0], transpose_b: swapped[1], post: Post::default() };
        self.emit(op, &[a, b], DType::F32, &[lead, vec![m, n]].concat())
    }

    /// Softmax along an axis.
    pub fn softmax(&mut self, x: TensorId, axis: usize, log: bool) -> Result<TensorId, Failure> {
        let shape = self.shape(x);
        self.emit(Op::Softmax { axis, log }, &[x], DType::F32, &shape)
    }

    /// `x` with axis `d` of the result being axis `perm[d]`.
    pub fn transposed(&mut self, x: TensorId, perm: &[usize]) -> Result<TensorId, Failure> {
        let (dtype, shape) = (self.dtype(x), self.shape(x));
        let out: Vec<usize> = perm.iter().map(|&d| shape[d]).collect();
        if perm.iter().copied().eq(0..shape.len()) {
            return Ok(x);
        }
        self.emit(Op::Transpose { perm: perm.to_vec() }, &[x], dtype, &out)
    }

    /// `count` positions of an axis from `start` on, `step` apart, which are there.
    pub fn sliced(
        &mut self,
        x: TensorId,
        axis: usize,
        start: usize,
        count: usize,
        step: i64,
    ) -> Result<TensorId, Failure> {
        let (dtype, mut shape) = (self.dtype(x), self.shape(x));
        if (start, count, step) == (0, shape[axis], 1) {
            return Ok(x);
        }
        let (mut starts, mut steps) = (vec![0; shape.len()], vec![1; shape.len()]);
        (starts[axis], steps[axis], shape[axis]) = (start, step, count);
        self.emit(Op::Slice { starts, steps }, &[x], dtype, &shape)
    }

    /// `x` broadcast to a shape.
    pub fn expanded(&mut self, x: TensorId, shape: &[usize]) -> Result<TensorId, Failure> {
        let (dtype, own) = (self.dtype(x), self.shape(x));
        if own == shape {
            return Ok(x);
        }
        if broadcast(&own, shape).as_deref() != Some(shape) {
            return Err(Failure::malformed(format!("shape {own:?} does not broadcast to {shape:?}")));
        }
        self.emit(Op::Expand, &[x], dtype, shape)
    }

    /// Slices of an axis at `indices`, which take the axis's place with all of theirs.
    ///
    /// # Errors
    /// [`Failure::Malformed`] if there is no such axis.
    pub fn gathered(&mut self, x: TensorId, indices: TensorId, axis: usize) -> Result<TensorId, Failure> {
        let (dtype, shape, index) = (self.dtype(x), self.shape(x), self.shape(indices));
        if axis >= shape.len() {
            return Err(Failure::malformed(format!("shape {shape:?} has no axis {axis} to gather from")));
        }
        let out = [&shape[..axis], &index, &shape[axis + 1..]].concat();
        self.emit(Op::Gather { axis }, &[x, indices], dtype, &out)
    }

    /// The numbers 0, 1, … below `n` along axis `axis` of `rank`, all others of extent 1.
    ///
    /// # Errors
    /// [`Failure::Unsupported`] if they go beyond the budget.
    pub fn counting(&mut self, dtype: DType, n: usize, axis: usize, rank: usize) -> Result<TensorId, Failure> {
        self.reserve(n, dtype)?;
        let mut shape = vec![1; rank];
        shape[axis] = n;
        let array = match dtype {
            DType::F32 => Array::f32(&shape, (0..n).map(|i| i as f64).collect()),
            integer => Array::int(integer, &shape, (0..n as i64).collect()),
        };
        Ok(self.add_constant(array))
    }

    /// A constant computed here, of at most the elements that a tensor may have.
    ///
    /// # Errors
    /// [`Failure::Unsupported`] if it goes beyond the budget.
    pub fn reals(&mut self, shape: &[usize], value: impl FnMut(usize) -> f64) -> Result<TensorId, Failure> {
        if !fits(shape) {
            return Err(Failure::malformed(format!("shape {shape:?} is too large")));
        }
        let n = shape.iter().product();
        self.reserve(n, DType::F32)?;
        let array = Array::f32(shape, (0..n).map(value).collect());
        Ok(self.add_constant(array))
    }
}
