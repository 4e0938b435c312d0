//! Indices of chance.

use kinglet::DType;
use kinglet_compiler::array::Array;

use crate::Random;

impl Random {
    /// What a scatter into a tensor of this shape may be: its axis (none if it is one of slices), and the shapes of indices and
    /// updates.
    pub fn scattered(&mut self, shape: &[usize], slices: bool) -> (Option<usize>, Vec<usize>, Vec<usize>) {
        if slices {
            let depth = self.between(1, shape.len());
            let tuples = self.shape(0..=2, 4);
            return (None, [&tuples[..], &[depth]].concat(), [&tuples[..], &shape[depth..]].concat());
        }
        let axis = self.below(shape.len());
        let whole = self.once_in(2);
        let one = |(d, &n): (usize, &usize)| match d {
            _ if d == axis => self.between(1, 6),
            _ if whole => n,
            _ => self.between(1, n),
        };
        let index: Vec<usize> = shape.iter().enumerate().map(one).collect();
        (Some(axis), index.clone(), index)
    }

    /// Indices for a scatter that [`Random::scattered`] gives the shapes of, negative ones too.
    pub fn indices(&mut self, shape: &[usize], axis: Option<usize>, index: &[usize], dtype: DType) -> Array {
        let depth = *index.last().expect("an axis");
        let one = |k: usize| {
            let n = shape[axis.unwrap_or(k % depth)];
            self.below(2 * n) as i64 - n as i64
        };
        Array::int(dtype, index, (0..index.iter().product()).map(one).collect())
    }
}
