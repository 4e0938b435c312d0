//! Operators that move elements: strided copies, padding, gathering.

use kinglet::kernels::{Copy, DIMS, Gather, Pad};
use kinglet::{DType, StepKind};

use super::strides::{contiguous, merge};
use super::{DEFECT, Extra, LAYOUT, Lowerer, PlanTensorId, Result, no_kernel};
use crate::array::broadcast_strides;
use crate::graph::moves_nothing;
use crate::graph::{Layout, Node, Op, Tensor, TensorId};

/// A block of elements to be copied.
pub(super) struct Block {
    shape: Vec<usize>,
    from: i64,
    from_strides: Vec<i64>,
    to: i64,
    to_strides: Vec<i64>,
}

impl Lowerer<'_> {
    /// Writes the value of graph tensor `t` to other memory, as part of `node`.
    pub(super) fn write_value(&mut self, node: &Node, t: TensorId, to: PlanTensorId) -> Result<()> {
        let plain = |op| Node::new(op, vec![Some(t)], node.output, node.source.clone());
        let stub = |op| Node { more: node.more.clone(), ..plain(op) };
        if let Some(value) = self.value(t).filter(|v| v.len() > 1 && v.is_uniform()) {
            // Zeros, as a rule: one is stored and spread.
            let x = self.constant(value.dtype, &[1], &value.to_bytes()[..value.dtype.size()]);
            let shape = self.shape(t).to_vec();
            return self.emit_copy(&stub(Op::Expand), x, to, &Block::into_all(&shape, 0, vec![0; shape.len()]));
        }
        let x = self.operand(t);
        self.copy_all(&stub(Op::Reshape), x, to);
        Ok(())
    }

    pub(super) fn movement(&mut self, node: &Node) -> Result<()> {
        let t = node.inputs[0].expect("has an input");
        let (tx, ty) = (&self.graph.tensors[t], &self.graph.tensors[node.output]);
        // The layout pass has moved the axis that scales run along; the scales themselves must be the same.
        let scales = |t: &Tensor| t.quant.clone().map(|q| (q.scales, q.zero_points));
        if scales(tx) != scales(ty) && tx.quant.is_some() {
            return Err(no_kernel("it changes the scale of what it moves", "quantise its input and output alike"));
        }
        let (input, output) = (tx.shape.clone(), ty.shape.clone());
        match &node.op {
            Op::Transpose { perm } if moves_nothing(&input, perm) => self.alias(node),
            Op::Transpose { perm } => {
                let own = contiguous(&input);
                let from_strides = perm.iter().map(|&d| own[d]).collect();
                self.copy_block(node, Block::into_all(&output, 0, from_strides))?;
            }
            Op::Slice { starts, steps } => {
                let own = contiguous(&input);
                let from = (0..own.len()).map(|d| starts[d] as i64 * own[d]).sum();
                let from_strides = (0..own.len()).map(|d| steps[d] * own[d]).collect();
                self.copy_block(node, Block::into_all(&output, from, from_strides))?;
            }
            Op::Expand => {
                let from_strides = broadcast_strides(&input, &output).into_iter().map(|s| s as i64).collect();
                self.copy_block(node, Block::into_all(&output, 0, from_strides))?;
            }
            Op::Tile { repeats } => {
                // Each axis is a pair (which repeat, which element).
                let own = contiguous(&input);
                let shape: Vec<usize> = (0..input.len()).flat_map(|d| [repeats[d], input[d]]).collect();
                let from_strides = (0..input.len()).flat_map(|d| [0, own[d]]).collect();
                self.copy_block(node, Block::into_all(&shape, 0, from_strides))?;
            }
            Op::DepthToSpace { block, crd, layout } => {
                if *layout != Layout::ChannelsLast {
                    return Err(no_kernel("depth to space of a channels-first tensor", LAYOUT));
                }
                let (b, c) = (*block, output[3]);
                let (n, h, w) = (input[0], input[1], input[2]);
                let own = contiguous(&input);
                // Channels hold (row, column, channel), or (channel, row, column) in CRD order.
                let (row, column, channel) = if *crd { (b, 1, b * b) } else { (b * c, c, 1) };
                let shape = [n, h, b, w, b, c];
                let from_strides = vec![own[0], own[1], row as i64, own[2], column as i64, channel as i64];
                self.copy_block(node, Block::into_all(&shape, 0, from_strides))?;
            }
            Op::Concat { axis } => self.concat(node, *axis)?,
            Op::Pad { mode, before, value, .. } => {
                let place = |s: &[usize]| -> Result<[u32; DIMS]> {
                    spread(s).ok_or_else(|| {
                        no_kernel("padding of more than six axes", "reshape neighbouring axes into one before it")
                    })
                };
                let params = Pad {
                    mode: *mode,
                    input: place(&input)?,
                    output: place(&output)?,
                    before: spread_with(before, 0).ok_or_else(|| {
                        no_kernel("padding of more than six axes", "reshape neighbouring axes into one before it")
                    })?,
                    value: *value as f32,
                };
                let rows = params.output[0] as usize * params.output[1] as usize;
                let x = self.operand(t);
                let y = self.buffer_tensor(node.output);
                self.emit(node, StepKind::Pad, params, vec![Some(x)], y, Extra::rows(rows));
            }
            Op::Gather { axis } => {
                let index = node.inputs[1].expect("has indices");
                let product = |s: &[usize]| s.iter().product::<usize>() as u32;
                let count = self.graph.tensors[index].len() as u32;
                let params = Gather {
                    outer: product(&input[..*axis]),
                    n: input[*axis] as u32,
                    inner: product(&input[axis + 1..]),
                    count,
                };
                let rows = params.outer as usize * count as usize;
                let index = match self.value(index) {
                    Some(v) => {
                        let bytes = v.ints().iter().flat_map(|&i| (i as i32).to_le_bytes()).collect::<Vec<_>>();
                        self.constant(DType::I32, &[count as usize], bytes)
                    }
                    None => self.operand(index),
                };
                let x = self.operand(t);
                let y = self.buffer_tensor(node.output);
                self.emit(node, StepKind::Gather, params, vec![Some(x), Some(index)], y, Extra::rows(rows));
            }
            other => return Err(no_kernel(format!("{} has no step", other.name()), DEFECT)),
        }
        Ok(())
    }

    fn copy_block(&mut self, node: &Node, block: Block) -> Result<()> {
        let x = self.operand(node.inputs[0].expect("has an input"));
        let y = self.buffer_tensor(node.output);
        self.emit_copy(node, x, y, &block)
    }

    pub(super) fn emit_copy(&mut self, node: &Node, x: PlanTensorId, y: PlanTensorId, block: &Block) -> Result<()> {
        let rows = block.shape.iter().position(|&n| n != 1).map_or(0, |d| d + 1);
        let rows = if rows == block.shape.len() { rows.saturating_sub(1) } else { rows };
        let merged = merge(&block.shape, [&block.from_strides, &block.to_strides], rows).ok_or_else(|| {
            no_kernel(
                format!("a copy of shape {:?} needs too many dimensions", block.shape),
                "move fewer axes at a time",
            )
        })?;
        let small =
            |v: i64| i32::try_from(v).map_err(|_| no_kernel("an offset beyond 2³¹ elements", "split the tensor"));
        let [from_strides, to_strides] = merged.strides;
        let params =
            Copy { dims: merged.dims, from: small(block.from)?, from_strides, to: small(block.to)?, to_strides };
        self.emit(node, StepKind::Copy, params, vec![Some(x)], y, Extra::rows(merged.dims[0] as usize));
        Ok(())
    }

    fn concat(&mut self, node: &Node, axis: usize) -> Result<()> {
        let operands: Vec<_> = node.inputs.iter().map(|t| t.expect("all inputs of a concat are there")).collect();
        let y = self.buffer_tensor(node.output);
        let to_strides = contiguous(self.shape(node.output));
        let quant = &self.graph.tensors[node.output].quant;
        if operands.iter().any(|&t| self.graph.tensors[t].quant != *quant && quant.is_some()) {
            return Err(no_kernel("its inputs have different scales", "quantise its inputs and output alike"));
        }
        let mut at = 0;
        for t in operands {
            let shape = self.shape(t).to_vec();
            let x = self.operand(t);
            let block = Block {
                from: 0,
                from_strides: contiguous(&shape),
                to: at as i64 * to_strides[axis],
                to_strides: to_strides.clone(),
                shape: shape.clone(),
            };
            self.emit_copy(node, x, y, &block)?;
            at += shape[axis];
        }
        Ok(())
    }
}

impl Block {
    /// A block that fills its output contiguously.
    pub(super) fn into_all(shape: &[usize], from: i64, from_strides: Vec<i64>) -> Block {
        Block { shape: shape.to_vec(), from, from_strides, to: 0, to_strides: contiguous(shape) }
    }
}

/// Extents in six dimensions: the first two in front (they are the rows of a padding step), the rest at the back.
fn spread(shape: &[usize]) -> Option<[u32; DIMS]> {
    spread_with(shape, 1)
}

fn spread_with(list: &[usize], fill: u32) -> Option<[u32; DIMS]> {
    let mut out = [fill; DIMS];
    let n = list.len();
    if n > DIMS {
        return None;
    }
    let front = n.saturating_sub(1).min(2);
    for (i, &v) in list.iter().enumerate() {
        let at = if i < front { i } else { DIMS - n + i };
        out[at] = u32::try_from(v).ok()?;
    }
    Some(out)
}
