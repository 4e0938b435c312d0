//! Operators that work by indices.

use kinglet::StepKind;
use kinglet::kernels::{DIMS, Scatter, ScatterOp, TopK};

use super::strides::{contiguous, merge};
use super::{Extra, Lowerer, Result, no_kernel};
use crate::graph::{Node, Tensor};

impl Lowerer<'_> {
    pub(super) fn scatter(&mut self, node: &Node, op: ScatterOp, axis: Option<usize>) -> Result<()> {
        let [x, updates, index] = [0, 1, 2].map(|i| node.inputs[i].expect("all inputs of a scatter are there"));
        let kind = |t: &Tensor| (t.dtype, t.quant.clone().map(|q| (q.scales, q.zero_points)));
        let [of_x, of_updates, of_y] = [x, updates, node.output].map(|t| kind(&self.graph.tensors[t]));
        if of_x != of_y || of_updates != of_y {
            return Err(no_kernel(
                "it changes the scale of what it moves",
                "quantise its data, updates and output alike",
            ));
        }
        if op != ScatterOp::Replace && of_y.1.is_some() {
            return Err(no_kernel("it joins quantised elements", "dequantise them before it"));
        }
        let (shape, picked) = (self.shape(x).to_vec(), self.shape(index).to_vec());
        let own = contiguous(&shape);
        let product = |s: &[usize]| s.iter().product::<usize>();
        // Along which axes of x the indices select, what an update has for extents, and how far they are apart in x.
        let (selected, extents, strides, inner) = match axis {
            Some(axis) => {
                let strides = own.iter().enumerate().map(|(d, &s)| if d == axis { 0 } else { s }).collect();
                (axis..axis + 1, picked, strides, 1)
            }
            None => {
                let depth = *picked.last().expect("tuples of indices");
                let count = product(&picked[..picked.len() - 1]);
                (0..depth, vec![count], vec![0], product(&shape[depth..]))
            }
        };
        let depth = selected.len();
        if depth > DIMS {
            return Err(no_kernel(
                format!("indices of {depth} axes; at most {DIMS} are taken"),
                "flatten the axes and the indices before it",
            ));
        }
        // Rows are the slices that the indices of an axis select within; if there is one slice, the positions that they select.
        let leading = axis.filter(|&axis| product(&shape[..axis]) > 1).unwrap_or(selected.end);
        let merged = merge(&extents, [&strides], axis.unwrap_or(0)).ok_or_else(|| {
            no_kernel(
                format!("a scatter of updates {extents:?} has too many dimensions"),
                "reshape neighbouring axes into one before it",
            )
        })?;
        let mut params = Scatter {
            op,
            rows: product(&shape[..leading]) as u32,
            row: product(&shape[leading..]) as u32,
            dims: merged.dims,
            strides: merged.strides[0],
            inner: inner as u32,
            depth: depth as u32,
            extents: [1; DIMS],
            steps: [0; DIMS],
        };
        for (k, d) in selected.enumerate() {
            (params.extents[k], params.steps[k]) = (shape[d] as u32, own[d] as u32);
        }
        let inputs = [x, updates, index].map(|t| Some(self.operand(t))).to_vec();
        let y = self.buffer_tensor(node.output);
        let extra = Extra::rows(params.rows as usize).in_place(1);
        self.emit(node, StepKind::Scatter, params, inputs, y, extra);
        Ok(())
    }

    pub(super) fn top_k(&mut self, node: &Node, axis: usize, smallest: bool) -> Result<()> {
        let t = node.inputs[0].expect("has an input");
        let shape = self.shape(t);
        let product = |s: &[usize]| s.iter().product::<usize>() as u32;
        let params = TopK {
            outer: product(&shape[..axis]),
            n: shape[axis] as u32,
            inner: product(&shape[axis + 1..]),
            k: self.shape(node.output)[axis] as u32,
            smallest,
        };
        let x = vec![Some(self.operand(t))];
        let outputs = node.outputs().map(|t| self.buffer_tensor(t)).collect();
        self.emit_all(node, StepKind::TopK, params, x, outputs, Extra::rows(params.outer as usize));
        Ok(())
    }
}
