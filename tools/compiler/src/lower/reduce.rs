//! Reductions, normalisations and pooling.

use kinglet::kernels::{
    ArgMax, BinaryOp, CumSum, Fold, FoldOp, Norm, NormKind, Pool, PoolKind, Reduce, ReduceOp, Softmax, Unary, UnaryOp,
};
use kinglet::product::Geometry;
use kinglet::{DType, StepKind};

use super::{Extra, LAYOUT, Lowerer, PlanTensorId, Result, no_kernel, rows_of};
use crate::graph::{Graph, Layout, Node, Op, TensorId};

/// Extents before, in and behind a run of axes.
fn split(shape: &[usize], axes: std::ops::Range<usize>) -> (u32, u32, u32) {
    let product = |s: &[usize]| s.iter().product::<usize>() as u32;
    (product(&shape[..axes.start]), product(&shape[axes.clone()]), product(&shape[axes.end..]))
}

/// Ascending axes as runs of neighbours; axes of extent 1 join any run.
fn runs(shape: &[usize], axes: &[usize]) -> Vec<std::ops::Range<usize>> {
    let mut out: Vec<std::ops::Range<usize>> = Vec::new();
    for &a in axes.iter().filter(|&&a| shape[a] != 1) {
        match out.last_mut() {
            Some(r) if shape[r.end..a].iter().all(|&n| n == 1) => r.end = a + 1,
            _ => out.push(a..a + 1),
        }
    }
    out
}

/// Height and width of a picture of several rows of which a node gives the mean of each channel, if it does.
pub(super) fn mean_of_picture(graph: &Graph, node: &Node) -> Option<[u32; 2]> {
    let Op::Pool { kind: PoolKind::Average | PoolKind::AverageWithPadding, window, layout: Layout::ChannelsLast } =
        &node.op
    else {
        return None;
    };
    let &[_, height, width, _] = &graph.tensors[node.inputs[0]?].shape[..] else { return None };
    let whole = window.kernel == [height, width] && graph.tensors[node.output].shape[1..3] == [1, 1];
    let padded = window.pads_begin.iter().chain(&window.pads_end).any(|&p| p != 0);
    (whole && !padded && height > 1).then_some([height as u32, width as u32])
}

impl Lowerer<'_> {
    /// Softmax, running sums and arg-max: along one axis.
    pub(super) fn along_axis(&mut self, node: &Node) -> Result<()> {
        let t = node.inputs[0].expect("has an input");
        let (Op::Softmax { axis, .. } | Op::CumSum { axis, .. } | Op::ArgMax { axis, .. }) = node.op else {
            unreachable!("dispatched by operator")
        };
        let (outer, n, inner) = split(self.shape(t), axis..axis + 1);
        let x = vec![Some(self.operand(t))];
        let y = self.buffer_tensor(node.output);
        let extra = Extra::rows(outer as usize);
        match node.op {
            Op::Softmax { log, .. } => {
                self.emit(node, StepKind::Softmax, Softmax { outer, n, inner, log }, x, y, extra.in_place(1));
            }
            Op::CumSum { exclusive, reverse, .. } => {
                let params = CumSum { outer, n, inner, exclusive, reverse, integer: self.in_integers(node) };
                self.emit(node, StepKind::CumSum, params, x, y, extra.in_place(1));
            }
            Op::ArgMax { smallest, last, .. } => {
                self.emit(node, StepKind::ArgMax, ArgMax { outer, n, inner, smallest, last }, x, y, extra);
            }
            _ => unreachable!("matched above"),
        }
        Ok(())
    }

    /// Reductions; one step for each run of neighbouring axes.
    pub(super) fn reduce(&mut self, node: &Node) -> Result<()> {
        let Op::Reduce { op, axes, .. } = &node.op else { unreachable!("dispatched by operator") };
        let t = node.inputs[0].expect("has an input");
        let mut shape = self.shape(t).to_vec();
        let mut runs = runs(&shape, axes);
        if runs.is_empty() {
            // Every reduced axis has extent 1: the operator is a function of each element.
            runs.push(shape.len()..shape.len());
        }
        let integer = self.in_integers(node);
        // What several runs cannot do one after the other comes once, at the end.
        let after = (runs.len() > 1 && (*op == ReduceOp::L2 || *op == ReduceOp::Mean && integer)).then_some(*op);
        let between = if integer { DType::I64 } else { DType::F32 };
        let mut x = self.operand(t);
        for (i, run) in runs.iter().enumerate() {
            let (outer, n, inner) = split(&shape, run.clone());
            shape[run.clone()].fill(1);
            let last = i + 1 == runs.len();
            let y =
                if last && after.is_none() { self.buffer_tensor(node.output) } else { self.temporary(between, &shape) };
            // Squares and magnitudes are taken once; what follows adds them up.
            let op = match op {
                ReduceOp::SumSquare | ReduceOp::L1 | ReduceOp::L2 if i > 0 => ReduceOp::Sum,
                ReduceOp::L2 if after.is_some() => ReduceOp::SumSquare,
                ReduceOp::Mean if after.is_some() => ReduceOp::Sum,
                op => *op,
            };
            self.emit(
                node,
                StepKind::Reduce,
                Reduce { op, outer, n, inner, integer },
                vec![Some(x)],
                y,
                Extra::rows(outer as usize),
            );
            x = y;
        }
        let out = self.shape(node.output).to_vec();
        if after == Some(ReduceOp::Mean) {
            let n: usize = axes.iter().map(|&a| self.shape(t)[a]).product();
            let n = self.constant(DType::I64, &[1], (n as i64).to_le_bytes());
            let y = self.buffer_tensor(node.output);
            self.emit_binary(node, BinaryOp::Div, (x, &out), (n, &[1]), (y, &out))?;
        } else if after == Some(ReduceOp::L2) {
            let y = self.buffer_tensor(node.output);
            let (rows, row) = rows_of(&out);
            let (op, alpha, beta) = (UnaryOp::Sqrt, 0.0, 0.0);
            let params = Unary { op, alpha, beta, rows: rows as u32, row: row as u32, integer };
            self.emit(node, StepKind::Unary, params, vec![Some(x)], y, Extra::rows(rows).in_place(1));
        }
        Ok(())
    }

    /// Normalisation over neighbouring axes.
    pub(super) fn norm(&mut self, node: &Node) -> Result<()> {
        let Op::Norm { kind, axes, epsilon } = &node.op else { unreachable!("dispatched by operator") };
        let t = node.inputs[0].expect("has an input");
        let shape = self.shape(t).to_vec();
        let runs = runs(&shape, axes);
        let run = match &runs[..] {
            [] => shape.len()..shape.len(),
            [one] => one.clone(),
            _ => {
                return Err(no_kernel(
                    format!("a norm over axes {axes:?} that are not neighbours"),
                    "transpose them beside each other before it",
                ));
            }
        };
        let (outer, n, inner) = split(&shape, run);
        let parameters: Vec<Option<TensorId>> = (1..3).map(|i| node.inputs.get(i).copied().flatten()).collect();
        let constant = parameters.iter().flatten().all(|&p| self.value(p).is_some());
        let x = self.operand(t);
        let mut operands = vec![Some(x), None, None];
        let mut period = 1;
        let longest = parameters.iter().flatten().map(|&p| self.period(p, &shape)).max().unwrap_or(1);
        // Written out over what lies behind their axis, parameters of channels that come first could take as much room as x.
        let own: usize = parameters.iter().flatten().map(|&p| self.shape(p).iter().product::<usize>()).sum();
        let constant = constant && longest <= 2 * own.max(1);
        if constant {
            period = longest;
            for (slot, p) in operands[1..].iter_mut().zip(&parameters) {
                *slot = p.map(|p| self.repeated(p, &shape, period));
            }
        }
        // What is normalised over several rows is summed row by row, and normalised row by row.
        let all = rows_of(&shape).0 as u32;
        let rows = all.checked_div(outer).unwrap_or(1).max(1);
        let whole = outer * rows == all && n.is_multiple_of(rows);
        let rows = if whole && self.band.is_none() { rows } else { 1 };
        if rows > 1 {
            let sums = self.temporary(DType::I64, &[outer as usize, 2, inner as usize]);
            let op = if *kind == NormKind::Rms { FoldOp::Rms } else { FoldOp::Layer };
            self.fold(node, Fold { op, outer, height: rows, n: n / rows, inner }, x, sums);
            operands.push(Some(sums));
        }
        let params = Norm { kind: *kind, outer, n, inner, epsilon: *epsilon, period: period as u32, rows };
        let extra = Extra::rows((outer * rows) as usize).in_place(1);
        if constant || parameters.iter().all(|p| p.is_none()) {
            let y = self.buffer_tensor(node.output);
            self.emit(node, StepKind::Norm, params, operands, y, extra);
            return Ok(());
        }
        // Computed scale and bias are steps of their own.
        let mut v = self.temporary(DType::F32, &shape);
        self.emit(node, StepKind::Norm, params, operands, v, extra);
        let steps: Vec<(BinaryOp, TensorId)> =
            [BinaryOp::Mul, BinaryOp::Add].into_iter().zip(parameters).filter_map(|(op, p)| Some((op, p?))).collect();
        for (i, (op, p)) in steps.iter().enumerate() {
            let by = self.operand(*p);
            let by_shape = self.shape(*p).to_vec();
            let y =
                if i + 1 == steps.len() { self.buffer_tensor(node.output) } else { self.temporary(DType::F32, &shape) };
            self.emit_binary(node, *op, (v, &shape), (by, &by_shape), (y, &shape))?;
            v = y;
        }
        Ok(())
    }

    fn fold(&mut self, node: &Node, params: Fold, x: PlanTensorId, sums: PlanTensorId) {
        let extra = Extra::rows((params.outer * params.height) as usize);
        let extra = Extra { columns: (params.inner as usize).div_ceil(kinglet::rows::CHUNK), ..extra };
        self.emit(node, StepKind::Fold, params, vec![Some(x)], sums, extra);
    }

    /// After how many elements of a tensor of shape `shape` a parameter that broadcasts to it repeats.
    fn period(&self, parameter: TensorId, shape: &[usize]) -> usize {
        let own = self.shape(parameter);
        match own.iter().position(|&n| n != 1) {
            Some(first) => shape[shape.len() - (own.len() - first)..].iter().product(),
            None => 1,
        }
    }

    /// A constant parameter written out over `period` elements.
    fn repeated(&mut self, parameter: TensorId, shape: &[usize], period: usize) -> PlanTensorId {
        let value = self.value(parameter).expect("the parameter is constant");
        let strides = crate::array::broadcast_strides(&value.shape, shape);
        let full = crate::array::strides(shape);
        let reals = value.reals();
        let at = |i: usize| (0..shape.len()).map(|d| i / full[d] % shape[d] * strides[d]).sum::<usize>();
        let values: Vec<f32> = (0..period).map(|i| reals[at(i)] as f32).collect();
        self.constant_f32(&values)
    }

    /// Pooling over windows.
    pub(super) fn pool(&mut self, node: &Node) -> Result<()> {
        let Op::Pool { kind, window, layout } = &node.op else { unreachable!("dispatched by operator") };
        if *layout != Layout::ChannelsLast {
            return Err(no_kernel("pooling of a channels-first tensor", LAYOUT));
        }
        let t = node.inputs[0].expect("has an input");
        let (input, output) = (self.shape(t).to_vec(), self.shape(node.output).to_vec());
        let two = |f: &dyn Fn(usize) -> usize, one: usize| -> [u32; 2] {
            if input.len() == 3 { [f(0) as u32, one as u32] } else { [f(0) as u32, f(1) as u32] }
        };
        let pads = |p: &[i64]| if input.len() == 3 { [p[0] as i32, 0] } else { [p[0] as i32, p[1] as i32] };
        let out = two(&|d| output[1 + d], 1);
        let channels = *input.last().expect("has channels") as u32;
        let [in_h, in_w] = two(&|d| input[1 + d], 1);
        let params = Pool {
            kind: *kind,
            geometry: Geometry {
                batch: input[0] as u32,
                input: [in_h, in_w, channels],
                output: [out[0], out[1], channels],
                kernel: two(&|d| window.kernel[d], 1),
                stride: two(&|d| window.strides[d], 1),
                dilation: two(&|d| window.dilations[d], 1),
                pad: pads(&window.pads_begin),
                upsample: [1, 1],
            },
            pad_end: pads(&window.pads_end),
        };
        let x = self.operand(t);
        if let Some([height, width]) = mean_of_picture(self.graph, node).filter(|_| self.folds) {
            let shape = [input[0], channels as usize];
            let sums = self.temporary(DType::F32, &shape);
            let op = FoldOp::Sum;
            self.fold(node, Fold { op, outer: shape[0] as u32, height, n: width, inner: channels }, x, sums);
            let count = self.constant_f32(&[(height * width) as f32]);
            let y = self.buffer_tensor(node.output);
            return self.emit_binary(node, BinaryOp::Div, (sums, &shape), (count, &[1]), (y, &shape));
        }
        let y = self.buffer_tensor(node.output);
        self.emit(node, StepKind::Pool, params, vec![Some(x)], y, Extra::rows(input[0] * out[0] as usize));
        Ok(())
    }
}
