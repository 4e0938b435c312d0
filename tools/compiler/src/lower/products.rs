//! Convolutions and matrix products.

use kinglet::kernels::{Conv, MatMul};
use kinglet::product::{Geometry, Scratch};
use kinglet::{DType, StepKind};

use super::pack::Dims;
use super::{DEFECT, Extra, Lowerer, PlanTensorId, Result, no_kernel};
use crate::array::broadcast_strides;
use crate::graph::{Layout, Node, Op, Post, Quant, TensorId, Window};

/// A product with constant weights, as a convolution over two spatial axes.
pub(super) struct Product<'a> {
    pub(super) batch: usize,
    pub(super) input: [usize; 3],
    pub(super) output: [usize; 3],
    pub(super) groups: usize,
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) dilation: [usize; 2],
    pub(super) pad: [i64; 2],
    pub(super) upsample: [usize; 2],
    pub(super) x: TensorId,
    pub(super) weights: TensorId,
    pub(super) bias: Option<TensorId>,
    pub(super) post: &'a Post,
    /// Element of the weights for (group, output, input, tap), channels counted within the group.
    pub(super) at: Box<dyn Fn(usize, usize, usize, usize) -> usize>,
}

impl Product<'_> {
    pub(super) fn dims(&self) -> Dims {
        Dims {
            groups: self.groups,
            group_out: self.output[2] / self.groups,
            group_in: self.input[2] / self.groups,
            kernel: self.kernel,
            dense_rows: self.dilation[1] == 1,
        }
    }
}

/// The right side of a matrix product as the step reads it.
struct Right {
    shape: Vec<usize>,
    transposed: bool,
    /// Where it lies, if not where its tensor does.
    place: Option<PlanTensorId>,
}

fn two<T: Copy>(list: &[T], one: T) -> [T; 2] {
    match list {
        [a] => [*a, one],
        [a, b, ..] => [*a, *b],
        [] => [one, one],
    }
}

fn words(v: [usize; 2]) -> [u32; 2] {
    v.map(|v| v as u32)
}

impl Lowerer<'_> {
    /// Convolution and transposed convolution.
    pub(super) fn conv(&mut self, node: &Node) -> Result<()> {
        let (Op::Conv { window, groups, layout, post } | Op::ConvTranspose { window, groups, layout, post }) = &node.op
        else {
            unreachable!("dispatched by operator")
        };
        let transposed = matches!(node.op, Op::ConvTranspose { .. });
        let (x, weights) = (node.inputs[0].expect("x"), node.inputs[1].expect("weights"));
        if *layout != Layout::ChannelsLast || window.kernel.len() > 2 {
            return Err(no_kernel(
                "a convolution of this layout and rank",
                "only 1-D and 2-D convolutions have kernels",
            ));
        }
        if self.value(weights).is_none() {
            return Err(no_kernel("its weights are computed while the model runs", "make them constant"));
        }
        let (xs, ys) = (self.shape(x).to_vec(), self.shape(node.output).to_vec());
        let hwc = |s: &[usize]| match s {
            [_, t, c] => [*t, 1, *c],
            [_, h, w, c] => [*h, *w, *c],
            _ => unreachable!("rank checked by the importer"),
        };
        let bias = node.inputs.get(2).copied().flatten();
        let Window { kernel, strides, dilations, pads_begin, .. } = window;
        let (k, d, s) = (two(kernel, 1), two(dilations, 1), two(strides, 1));
        let pads = two(pads_begin, 0);
        let taps = k[0] * k[1];
        let [_, _, in_c] = hwc(&xs);
        let [_, _, out_c] = hwc(&ys);
        let (group_in, group_out) = (in_c / groups, out_c / groups);
        let at: Box<dyn Fn(usize, usize, usize, usize) -> usize> = if transposed {
            // [in, out/groups, kernel…], its taps turned around: a transposed convolution gathers where a plain one scatters.
            Box::new(move |g, o, i, tap| ((g * group_in + i) * group_out + o) * taps + (taps - 1 - tap))
        } else {
            Box::new(move |g, o, i, tap| ((g * group_out + o) * group_in + i) * taps + tap)
        };
        let reach = |a: usize| ((k[a] - 1) * d[a]) as i64;
        let product = Product {
            batch: xs[0],
            input: hwc(&xs),
            output: hwc(&ys),
            groups: *groups,
            kernel: k,
            stride: if transposed { [1, 1] } else { s },
            dilation: d,
            pad: if transposed { [reach(0) - pads[0], reach(1) - pads[1]] } else { pads },
            upsample: if transposed { s } else { [1, 1] },
            x,
            weights,
            bias,
            post,
            at,
        };
        let depthwise = !transposed && *groups > 1 && group_in == 1 && group_out == 1;
        self.product(node, &product, depthwise)
    }

    /// Matrix products: with a constant right side a 1×1 convolution, otherwise a step of two computed operands.
    pub(super) fn matmul(&mut self, node: &Node) -> Result<()> {
        let Op::MatMul { transpose_a, transpose_b, post } = &node.op else { unreachable!("dispatched by operator") };
        let (a, b) = (node.inputs[0].expect("a"), node.inputs[1].expect("b"));
        let (sa, sb) = (self.shape(a).to_vec(), self.shape(b).to_vec());
        let bias = node.inputs.get(2).copied().flatten();
        let bare = bias.is_none() && *post == Post::default();
        if let Some(table) = bare.then(|| self.tied(a, b, *transpose_b)).flatten() {
            return self.dynamic(node, None, table);
        }
        if self.value(b).is_some() && sb.len() == 2 && !transpose_a {
            let (k, n) = if *transpose_b { (sb[1], sb[0]) } else { (sb[0], sb[1]) };
            if k == 0 {
                return Err(no_kernel("a product of matrices without elements", "its result is 0: leave it out"));
            }
            let rows = sa.iter().product::<usize>() / k;
            let transpose_b = *transpose_b;
            let product = Product {
                batch: 1,
                input: [rows, 1, k],
                output: [rows, 1, n],
                groups: 1,
                kernel: [1, 1],
                stride: [1, 1],
                dilation: [1, 1],
                pad: [0, 0],
                upsample: [1, 1],
                x: a,
                weights: b,
                bias,
                post,
                at: Box::new(move |_, o, i, _| if transpose_b { o * k + i } else { i * n + o }),
            };
            return self.product(node, &product, false);
        }
        if *post != Post::default() {
            return Err(no_kernel("a product of two computed tensors with something fused into it", DEFECT));
        }
        let right = Right { shape: sb, transposed: *transpose_b, place: None };
        self.dynamic(node, bias, right)
    }

    /// A constant matrix that is also a table of look-ups (an embedding tied to the head of its model), as the table has it:
    /// packed for the product it would be stored twice.
    fn tied(&mut self, a: TensorId, b: TensorId, transposed: bool) -> Option<Right> {
        let value = self.value(b).filter(|v| v.shape.len() == 2)?;
        let tables = self.tables.get(&(value.len() * value.dtype.size()))?;
        // The step that reads it knows one scale, and none with floats on the other side.
        let quants = [a, b].map(|t| self.graph.tensors[t].quant.as_ref());
        if quants[0].is_some() != quants[1].is_some() || quants[1].is_some_and(|q| q.single().is_none()) {
            return None;
        }
        if self.apart.contains(&b) {
            return None;
        }
        let (n, k) = if transposed { (value.shape[0], value.shape[1]) } else { (value.shape[1], value.shape[0]) };
        let (size, bytes) = (value.dtype.size(), value.to_bytes());
        let turned = |bytes: &[u8]| -> Vec<u8> {
            let (rows, columns) = (value.shape[0], value.shape[1]);
            let element = |i: usize| (i % rows * columns + i / rows) * size;
            (0..rows * columns).flat_map(|i| &bytes[element(i)..][..size]).copied().collect()
        };
        let is_table = |bytes: &[u8]| tables.contains(&kinglet::format::checksum(bytes, 0));
        let (shape, transposed, bytes) = if is_table(&bytes) {
            (value.shape.clone(), transposed, bytes)
        } else {
            let bytes = turned(&bytes);
            let shape = if transposed { vec![k, n] } else { vec![n, k] };
            if !is_table(&bytes) {
                self.apart.insert(b);
                return None;
            }
            (shape, !transposed, bytes.into())
        };
        let place = self.store(&bytes);
        let mut tensor = self.describe(b, place);
        tensor.shape.clone_from(&shape);
        Some(Right { shape, transposed, place: Some(self.add(tensor)) })
    }

    fn dynamic(&mut self, node: &Node, bias: Option<TensorId>, right: Right) -> Result<()> {
        let Op::MatMul { transpose_a, .. } = node.op else { unreachable!("a matrix product") };
        let (a, b, y) = (node.inputs[0].expect("a"), node.inputs[1].expect("b"), node.output);
        let Right { shape: sb, transposed: transpose_b, place } = right;
        let (sa, sy) = (self.shape(a).to_vec(), self.shape(y).to_vec());
        let lead = &sy[..sy.len() - 2];
        let [m, n] = [sy[sy.len() - 2], sy[sy.len() - 1]];
        let k = if transpose_a { sa[sa.len() - 2] } else { sa[sa.len() - 1] };
        let strides = |s: &[usize]| -> Vec<usize> {
            let matrix = s[s.len() - 2] * s[s.len() - 1];
            broadcast_strides(&s[..s.len() - 2], lead).iter().map(|v| v * matrix).collect()
        };
        // Batch axes of extent 1 do not count; four others fit.
        let keep: Vec<usize> = (0..lead.len()).filter(|&d| lead[d] != 1).collect();
        if keep.len() > 4 {
            return Err(no_kernel(format!("{} batch axes", keep.len()), "reshape to four or fewer"));
        }
        let four = |v: &[usize], fill: u32| -> [u32; 4] {
            let mut out = [fill; 4];
            keep.iter().enumerate().for_each(|(i, &d)| out[4 - keep.len() + i] = v[d] as u32);
            out
        };
        let (quant_a, quant_b) = (self.single_quant(a), self.single_quant(b));
        let float = quant_a.is_none();
        if [a, b, y].iter().any(|&t| self.graph.tensors[t].quant.is_some() && self.single_quant(t).is_none()) {
            return Err(no_kernel("a product of two computed tensors with several scales", "quantise them per tensor"));
        }
        let out_quant = self.single_quant(y);
        let multiplier = match (quant_a, quant_b) {
            (Some((sa, _)), Some((sb, _))) => sa * sb / out_quant.map_or(1.0, |q| q.0),
            _ => 1.0,
        };
        let out_dtype = self.graph.tensors[y].dtype;
        let (q_lo, q_hi) = out_dtype.quantized_range().unwrap_or((0, 0));
        let x_type = self.graph.tensors[a].dtype;
        let (packing, tile) = self.target.info().matrices(!float, m as u32, k);
        let params = MatMul {
            batch: four(lead, 1),
            a_strides: four(&strides(&sa), 0),
            b_strides: four(&strides(&sb), 0),
            m: m as u32,
            n: n as u32,
            k: k as u32,
            transpose_a,
            transpose_b,
            multiplier,
            q_lo,
            q_hi,
            packing,
            tile,
        };
        let batch: usize = lead.iter().product();
        let (pa, pb) = (self.operand(a), place.unwrap_or_else(|| self.operand(b)));
        let kind = if float { StepKind::MatMulF32 } else { StepKind::MatMulI8 };
        let extra = Extra {
            macs: (batch * m * n * k) as u64,
            columns: params.columns(),
            scratch: params.scratch(x_type),
            ..Extra::rows(batch * m)
        };
        let Some(bias) = bias else {
            let py = self.buffer_tensor(y);
            self.emit(node, kind, params, vec![Some(pa), Some(pb)], py, extra);
            return Ok(());
        };
        if !float {
            return Err(no_kernel("an integer product of two computed tensors with a bias", "add the bias after it"));
        }
        let sum = self.temporary(DType::F32, &sy);
        self.emit(node, kind, params, vec![Some(pa), Some(pb)], sum, extra);
        let (pbias, bias_shape) = (self.operand(bias), self.shape(bias).to_vec());
        let py = self.buffer_tensor(y);
        self.emit_binary(node, kinglet::kernels::BinaryOp::Add, (sum, &sy), (pbias, &bias_shape), (py, &sy))
    }

    pub(super) fn single_quant(&self, t: TensorId) -> Option<(f32, i32)> {
        self.graph.tensors[t].quant.as_ref().and_then(Quant::single)
    }

    /// The tensor that is multiplied with weights: as halves, if these are, where the target multiplies such.
    fn factor(&mut self, node: &Node, t: TensorId, weights: PlanTensorId) -> PlanTensorId {
        let x = self.operand(t);
        let halves = self.target.info().halves && self.out.tensors[weights].dtype == DType::F16;
        if !halves || self.out.tensors[x].dtype != DType::F32 {
            return x;
        }
        if let Some(&there) = self.narrowed.get(&t) {
            return there;
        }
        let shape = self.shape(t).to_vec();
        let narrow = self.temporary(DType::F16, &shape);
        self.copy_all(node, x, narrow);
        self.narrowed.insert(t, narrow);
        narrow
    }

    fn product(&mut self, node: &Node, p: &Product<'_>, depthwise: bool) -> Result<()> {
        let c = self.constants(node, p, depthwise)?;
        let three = |v: [usize; 3]| v.map(|v| v as u32);
        let params = Conv {
            geometry: Geometry {
                batch: p.batch as u32,
                input: three(p.input),
                output: three(p.output),
                kernel: words(p.kernel),
                stride: words(p.stride),
                dilation: words(p.dilation),
                pad: p.pad.map(|v| v as i32),
                upsample: words(p.upsample),
            },
            groups: p.groups as u32,
            packing: c.packing,
            symmetric: c.symmetric,
            tile: self.target.info().tile_of(&c.ending.epilogue),
            epilogue: c.ending.epilogue,
            scratch: Scratch::default(),
        };
        // A transposed convolution does the work of its input's pixels, not of the zeros between them.
        let pixels = if p.upsample == [1, 1] { p.output } else { [p.input[0], p.input[1], p.output[2]] };
        let per_pixel = p.kernel[0] * p.kernel[1] * (p.input[2] / p.groups);
        let macs = (p.batch * pixels.iter().product::<usize>() * per_pixel) as u64;
        let x = self.factor(node, p.x, c.weights);
        let dtype = |p: PlanTensorId| self.out.tensors[p].dtype;
        let x_type = dtype(x);
        let kind = match (x_type.is_float().then(|| dtype(c.weights)), depthwise) {
            (Some(DType::F32), false) => StepKind::ConvF32,
            (Some(DType::F32), true) => StepKind::DepthwiseF32,
            (Some(DType::F16), false) => StepKind::ConvF16,
            (Some(DType::F16), true) => StepKind::DepthwiseF16,
            (Some(_), false) => StepKind::ConvW8,
            (Some(_), true) => StepKind::DepthwiseW8,
            (None, false) => StepKind::ConvI8,
            (None, true) => StepKind::DepthwiseI8,
        };
        let params = params.with_scratch(depthwise, x_type);
        let residual = c.ending.residual.map(|r| self.operand(r));
        let table = c.ending.table.clone().map(|t| self.constant(DType::U8, &[256], t));
        let rows = (!c.ending.rows.is_empty()).then(|| self.constant_f32(&c.ending.rows));
        let y = self.buffer_tensor(node.output);
        let size = |p: PlanTensorId| self.out.tensors[p].dtype.size();
        let mut inputs = vec![Some(x), Some(c.weights), Some(c.bias), c.multipliers, residual, table, rows];
        if c.weight_zeros.or(c.integers).is_some() {
            inputs.push(c.weight_zeros);
        }
        inputs.extend(c.integers.map(Some));
        // A residual (operand 4) is read before the result is stored, so the result may take its place.
        let in_place = if residual.is_some_and(|r| size(r) == size(y)) { 1 << 4 } else { 0 };
        let extra = Extra {
            rows: p.batch * p.output[0],
            columns: params.columns(depthwise),
            scratch: params.scratch.bytes(),
            macs,
            in_place,
        };
        self.emit(node, kind, params, inputs, y, extra);
        Ok(())
    }
}
