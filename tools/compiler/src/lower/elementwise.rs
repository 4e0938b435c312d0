//! Functions of elements.

use kinglet::kernels::{
    Binary, BinaryOp, Conversion, Convert, DIMS, Lut, Ternary, TernaryOp, Unary, UnaryOp, contiguous,
};
use kinglet::{DType, StepKind};

use super::strides::merge;
use super::{Extra, Lowerer, PlanTensorId, Result, no_kernel};
use crate::array::broadcast_strides;
use crate::graph::{Node, Op, Quant, TensorId};

impl Lowerer<'_> {
    /// Functions of one element, tables and conversions.
    pub(super) fn unary(&mut self, node: &Node) -> Result<()> {
        let t = node.inputs[0].expect("has an input");
        if matches!(node.op, Op::Quantize | Op::Dequantize) {
            let quantized = if matches!(node.op, Op::Quantize) { node.output } else { t };
            let quant = self.graph.tensors[quantized].quant.clone().expect("one side is quantised");
            if quant.scales.len() > 1 {
                return self.per_axis(node, t, &quant);
            }
        }
        let (rows, row) = self.rows(t);
        let x = self.operand(t);
        let y = self.buffer_tensor(node.output);
        let (r, n) = (rows as u32, row as u32);
        let extra = Extra::rows(rows).in_place(1);
        match &node.op {
            Op::Unary { op: UnaryOp::Identity, .. } | Op::Quantize | Op::Dequantize => {
                self.emit(node, StepKind::Convert, convert(Conversion::Real, r, n), vec![Some(x)], y, extra);
            }
            Op::Unary { op, alpha, beta } => {
                let integer = self.in_integers(node);
                let params = Unary { op: *op, alpha: *alpha, beta: *beta, rows: r, row: n, integer };
                self.emit(node, StepKind::Unary, params, vec![Some(x)], y, extra);
            }
            Op::Lut { table } => {
                let table = self.constant(DType::U8, &[256], table.clone());
                self.emit(node, StepKind::Lut, Lut { rows: r, row: n }, vec![Some(x), Some(table)], y, extra);
            }
            Op::Cast(to) => {
                let from = self.graph.tensors[t].dtype;
                // Bytes from float are cut as stored integers; index types are cut and bools compared through reals.
                let real = match to {
                    DType::F32 | DType::Bool => true,
                    DType::I32 | DType::I64 => from == DType::F32,
                    _ => false,
                };
                let how = if real { Conversion::Real } else { Conversion::Integer };
                self.emit(node, StepKind::Convert, convert(how, r, n), vec![Some(x)], y, extra);
            }
            _ => unreachable!("dispatched by operator"),
        }
        Ok(())
    }

    /// Quantisation with a scale for each position of an axis, of a computed tensor.
    fn per_axis(&mut self, node: &Node, t: TensorId, quant: &Quant) -> Result<()> {
        let shape = self.shape(t).to_vec();
        let (rows, row) = self.rows(t);
        let along: Vec<usize> = (0..shape.len()).map(|d| if d == quant.axis { shape[d] } else { 1 }).collect();
        let zeros: Vec<f32> = quant.zero_points.iter().map(|&z| z as f32).collect();
        let scales = self.constant_f32(&quant.scales);
        let zeros = zeros.iter().any(|&z| z != 0.0).then(|| self.constant_f32(&zeros));
        let x = self.operand(t);
        let y = self.buffer_tensor(node.output);
        let conversion = convert(Conversion::Real, rows as u32, row as u32);
        let combine = |l: &mut Self, op, a, b, out| l.emit_binary(node, op, (a, &shape), (b, &along), (out, &shape));
        // describe() has given the quantised side scale 1 and zero point 0, so converting it gives plain integers.
        if matches!(node.op, Op::Dequantize) {
            let mut v = self.temporary(DType::F32, &shape);
            self.emit(node, StepKind::Convert, conversion, vec![Some(x)], v, Extra::rows(rows));
            if let Some(z) = zeros {
                let shifted = self.temporary(DType::F32, &shape);
                combine(self, BinaryOp::Sub, v, z, shifted)?;
                v = shifted;
            }
            return combine(self, BinaryOp::Mul, v, scales, y);
        }
        let mut v = self.temporary(DType::F32, &shape);
        combine(self, BinaryOp::Div, x, scales, v)?;
        if let Some(z) = zeros {
            // Rounding comes before the zero point is added: ties go to the even integer of the quotient.
            let rounded = self.temporary(DType::F32, &shape);
            let (r, n) = (rows as u32, row as u32);
            let params = Unary { op: UnaryOp::Round, alpha: 0.0, beta: 0.0, rows: r, row: n, integer: false };
            self.emit(node, StepKind::Unary, params, vec![Some(v)], rounded, Extra::rows(rows).in_place(1));
            let shifted = self.temporary(DType::F32, &shape);
            combine(self, BinaryOp::Add, rounded, z, shifted)?;
            v = shifted;
        }
        self.emit(node, StepKind::Convert, conversion, vec![Some(v)], y, Extra::rows(rows).in_place(1));
        Ok(())
    }

    /// Functions of two elements.
    pub(super) fn binary(&mut self, node: &Node) -> Result<()> {
        let Op::Binary(op) = node.op else { unreachable!("dispatched by operator") };
        let (a, b) = (node.inputs[0].expect("a"), node.inputs[1].expect("b"));
        let (pa, pb) = (self.operand(a), self.operand(b));
        let y = self.buffer_tensor(node.output);
        let (sa, sb, sy) = (self.shape(a).to_vec(), self.shape(b).to_vec(), self.shape(node.output).to_vec());
        self.emit_binary(node, op, (pa, &sa), (pb, &sb), (y, &sy))
    }

    /// Emits a binary step over operands with these shapes.
    pub(super) fn emit_binary(
        &mut self,
        node: &Node,
        op: BinaryOp,
        (a, sa): (PlanTensorId, &[usize]),
        (b, sb): (PlanTensorId, &[usize]),
        (y, sy): (PlanTensorId, &[usize]),
    ) -> Result<()> {
        let axes = self.out.tensors[y].axes_of_row_as(sy);
        let (dims, [a_strides, b_strides]) = broadcast([sa, sb], sy, axes)?;
        let in_place = [(a, &a_strides), (b, &b_strides)];
        let mask = self.in_place_mask(&in_place, y, &dims);
        let extra = Extra::rows(dims[0] as usize).in_place(mask);
        let integer = self.in_integers(node);
        let params = Binary { op, dims, a_strides, b_strides, integer };
        self.emit(node, StepKind::Binary, params, vec![Some(a), Some(b)], y, extra);
        Ok(())
    }

    /// Functions of three elements.
    pub(super) fn ternary(&mut self, node: &Node) -> Result<()> {
        let op = if matches!(node.op, Op::Where) { TernaryOp::Where } else { TernaryOp::ScaleShift };
        let ids: Vec<TensorId> = node.inputs.iter().map(|t| t.expect("three operands")).collect();
        let operands: Vec<PlanTensorId> = ids.iter().map(|&t| self.operand(t)).collect();
        let y = self.buffer_tensor(node.output);
        let shapes = [0, 1, 2].map(|i| self.shape(ids[i]).to_vec());
        let sy = self.shape(node.output).to_vec();
        let axes = self.out.tensors[y].axes_of_row_as(&sy);
        let (dims, [a_strides, b_strides, c_strides]) = broadcast([&shapes[0], &shapes[1], &shapes[2]], &sy, axes)?;
        let pairs = [(operands[0], &a_strides), (operands[1], &b_strides), (operands[2], &c_strides)];
        let mask = self.in_place_mask(&pairs, y, &dims);
        let params = Ternary { op, dims, a_strides, b_strides, c_strides };
        let extra = Extra::rows(dims[0] as usize).in_place(mask);
        self.emit(node, StepKind::Ternary, params, operands.into_iter().map(Some).collect(), y, extra);
        Ok(())
    }

    /// Whether a node computes with integers that stand for themselves: no operand is real or quantised.
    pub(super) fn in_integers(&self, node: &Node) -> bool {
        let operands = node.inputs.iter().flatten().chain([&node.output]);
        operands.map(|&t| &self.graph.tensors[t]).all(|t| t.dtype != DType::F32 && t.quant.is_none())
    }

    /// Operands that an elementwise output may replace: those laid out exactly like it.
    fn in_place_mask(&self, operands: &[(PlanTensorId, &[i32; DIMS])], y: PlanTensorId, dims: &[u32; DIMS]) -> u32 {
        let contiguous = contiguous(dims);
        let size = |p: PlanTensorId| self.out.tensors[p].dtype.size();
        let alike = |&(p, strides): &(PlanTensorId, &[i32; DIMS])| {
            size(p) == size(y) && (0..DIMS).all(|d| dims[d] == 1 || strides[d] == contiguous[d])
        };
        operands.iter().enumerate().filter(|(_, o)| alike(o)).map(|(i, _)| 1 << i).sum()
    }

    /// Copies a whole tensor.
    pub(super) fn copy_all(&mut self, node: &Node, from: PlanTensorId, to: PlanTensorId) {
        let ((rows, row), dtype) = (self.out.tensors[from].rows(), self.out.tensors[from].dtype);
        let how = if dtype.is_float() { Conversion::Real } else { Conversion::Integer };
        let params = convert(how, rows as u32, row as u32);
        self.emit(node, StepKind::Convert, params, vec![Some(from)], to, Extra::rows(rows));
    }
}

/// Merged extents of an output, of whose axes so many last ones make up a row, and the strides with which operands are read over it.
fn broadcast<const N: usize>(
    shapes: [&[usize]; N],
    out: &[usize],
    axes_of_row: usize,
) -> Result<([u32; DIMS], [[i32; DIMS]; N])> {
    let all: [Vec<i64>; N] = shapes.map(|s| broadcast_strides(s, out).into_iter().map(|s| s as i64).collect());
    let merged = merge(out, std::array::from_fn(|k| &all[k][..]), out.len() - axes_of_row);
    let merged = merged.ok_or_else(|| {
        no_kernel(
            format!("broadcasting over shape {out:?} needs too many dimensions"),
            "reshape neighbouring axes into one before it",
        )
    })?;
    Ok((merged.dims, merged.strides))
}

fn convert(conversion: Conversion, rows: u32, row: u32) -> Convert {
    Convert { conversion, rows, row }
}
