//! Small pieces of graph that several importers need.

use super::{Context, Failure};
use crate::graph::{Op, Quant, TensorId};

impl Context<'_, '_> {
    /// A quantisation that moving elements keeps: one scale.
    fn kept(&self, x: TensorId) -> Option<Quant> {
        self.tensor_info(x).quant.clone().filter(|q| q.scales.len() == 1)
    }

    /// The same elements in another shape.
    ///
    /// # Errors
    /// [`Failure::Malformed`] if the shape has room for more or fewer.
    pub fn reshaped(&mut self, x: TensorId, shape: &[usize]) -> Result<TensorId, Failure> {
        let own = self.shape(x);
        if own == shape {
            return Ok(x);
        }
        let elements = |shape: &[usize]| shape.iter().fold(1usize, |n, &d| n.saturating_mul(d));
        if elements(&own) != elements(shape) {
            return Err(Failure::malformed(format!("shape {own:?} where {shape:?} is wanted")));
        }
        let (dtype, quant) = (self.dtype(x), self.kept(x));
        self.emit_optional(Op::Reshape, &[Some(x)], dtype, shape, quant)
    }

    /// `x` with axis `from` moved to place `to`.
    pub fn moved(&mut self, x: TensorId, from: usize, to: usize) -> Result<TensorId, Failure> {
        if from == to {
            return Ok(x);
        }
        let shape = self.shape(x);
        let mut perm: Vec<usize> = (0..shape.len()).collect();
        perm.remove(from);
        perm.insert(to, from);
        let moved: Vec<usize> = perm.iter().map(|&d| shape[d]).collect();
        let (dtype, quant) = (self.dtype(x), self.kept(x));
        self.emit_optional(Op::Transpose { perm }, &[Some(x)], dtype, &moved, quant)
    }

    /// `x` with its first axis the other way round.
    pub fn reversed(&mut self, x: TensorId) -> Result<TensorId, Failure> {
        let shape = self.shape(x);
        let (mut starts, mut steps) = (vec![0; shape.len()], vec![1; shape.len()]);
        (starts[0], steps[0]) = (shape[0].saturating_sub(1), -1);
        let (dtype, quant) = (self.dtype(x), self.kept(x));
        self.emit_optional(Op::Slice { starts, steps }, &[Some(x)], dtype, &shape, quant)
    }

    /// Position `i` of the first axis of `x`, without that axis.
    pub fn position(&mut self, x: TensorId, i: usize) -> Result<TensorId, Failure> {
        let mut shape = self.shape(x);
        let mut starts = vec![0; shape.len()];
        (starts[0], shape[0]) = (i, 1);
        let steps = vec![1; shape.len()];
        let (dtype, quant) = (self.dtype(x), self.kept(x));
        let part = self.emit_optional(Op::Slice { starts, steps }, &[Some(x)], dtype, &shape, quant)?;
        self.reshaped(part, &shape[1..])
    }

    /// Tensors one behind the other along an axis.
    ///
    /// # Errors
    /// [`Failure::Malformed`] if they do not fit each other or there are none.
    pub fn concatenated(&mut self, items: &[TensorId], axis: usize) -> Result<TensorId, Failure> {
        let first = *items.first().ok_or_else(|| Failure::malformed("no inputs"))?;
        let mut shape = self.shape(first);
        shape[axis] = 0;
        for &t in items {
            let s = self.shape(t);
            let fits = s.len() == shape.len() && (0..s.len()).all(|d| d == axis || s[d] == shape[d]);
            if !fits || self.dtype(t) != self.dtype(first) {
                return Err(Failure::malformed(format!("inputs of shapes {:?} and {s:?}", self.shape(first))));
            }
            shape[axis] += s[axis];
        }
        let items: Vec<TensorId> = items.iter().copied().filter(|&t| self.shape(t)[axis] > 0).collect();
        match &items[..] {
            [] => Ok(first),
            [one] => Ok(*one),
            many => self.emit(Op::Concat { axis }, many, self.dtype(first), &shape),
        }
    }

    /// Tensors of one shape along a new axis.
    ///
    /// # Errors
    /// As [`Context::concatenated`].
    pub fn stack(&mut self, items: &[TensorId], axis: usize) -> Result<TensorId, Failure> {
        if let Some(&t) = items.iter().find(|&&t| self.shape(t) != self.shape(items[0])) {
            return Err(Failure::malformed(format!(
                "inputs of shapes {:?} and {:?}",
                self.shape(items[0]),
                self.shape(t)
            )));
        }
        let wide = items.iter().map(|&t| {
            let mut shape = self.shape(t);
            shape.insert(axis, 1);
            self.reshaped(t, &shape)
        });
        let wide = wide.collect::<Result<Vec<_>, _>>()?;
        self.concatenated(&wide, axis)
    }
}
