//! Convolutions and matrix products.

use std::rc::Rc;

use kinglet::format::words::Record;
use kinglet::kernels::{Conv, DepthwiseConv, MatMul};
use kinglet::{DType, StepKind};

use super::epilogue::{Ending, ending, rounding};
use super::pack::{Dims, Order, blocks, taps_outside};
use super::{Extra, Lowerer, PlanTensorId, Result, no_kernel};
use crate::array::{Array, broadcast_strides};
use crate::graph::{Layout, Node, Op, Post, Quant, TensorId, Window};

/// A product with constant weights, as a convolution over two spatial axes.
struct Product<'a> {
    batch: usize,
    input: [usize; 3],
    output: [usize; 3],
    groups: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    pad: [i64; 2],
    upsample: [usize; 2],
    x: TensorId,
    weights: TensorId,
    bias: Option<TensorId>,
    post: &'a Post,
    /// Element of the weights for (group, output, input, tap), channels counted within the group.
    at: Box<dyn Fn(usize, usize, usize, usize) -> usize>,
}

impl Product<'_> {
    fn dims(&self) -> Dims {
        Dims {
            groups: self.groups,
            group_out: self.output[2] / self.groups,
            group_in: self.input[2] / self.groups,
            taps: self.kernel[0] * self.kernel[1],
        }
    }
}

/// Operations that it takes to pack a weight.
const PACKING: u64 = 16;

/// Weights of a product as they are stored.
#[derive(Clone)]
pub(super) struct Packed {
    weights: PlanTensorId,
    /// Zero points by channel, if they are not all 0.
    zeros: Option<PlanTensorId>,
    /// The sum of each channel's integers less its zero point.
    sums: Rc<[i64]>,
}

/// What tells packed weights apart: the constant, how it is read, and the dimensions.
pub(super) type PackKey = [usize; 8];

/// The right side of a matrix product as the step reads it.
struct Right {
    shape: Vec<usize>,
    transposed: bool,
    /// Where it lies, if not where its tensor does.
    place: Option<PlanTensorId>,
}

/// Weights and what goes with them, in the runtime's types.
struct Constants {
    weights: PlanTensorId,
    bias: PlanTensorId,
    multipliers: Option<PlanTensorId>,
    /// Zero points of the weights as they are stored, if they are not all 0.
    weight_zeros: Option<PlanTensorId>,
    ending: Ending,
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
        if depthwise { self.depthwise(node, &product) } else { self.dense(node, &product) }
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
            return self.dense(node, &product);
        }
        if *post != Post::default() {
            return Err(no_kernel("a product of two computed tensors with something fused into it", ""));
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
        };
        let batch: usize = lead.iter().product();
        let (pa, pb) = (self.operand(a), place.unwrap_or_else(|| self.operand(b)));
        let extra = Extra { rows: batch * m, macs: (batch * m * n * k) as u64, in_place: 0 };
        let Some(bias) = bias else {
            let py = self.buffer_tensor(y);
            self.emit(node, StepKind::MatMul, params, vec![Some(pa), Some(pb)], py, extra);
            return Ok(());
        };
        if !float {
            return Err(no_kernel("an integer product of two computed tensors with a bias", "add the bias after it"));
        }
        let sum = self.temporary(DType::F32, &sy);
        self.emit(node, StepKind::MatMul, params, vec![Some(pa), Some(pb)], sum, extra);
        let (pbias, bias_shape) = (self.operand(bias), self.shape(bias).to_vec());
        let py = self.buffer_tensor(y);
        self.emit_binary(node, kinglet::kernels::BinaryOp::Add, (sum, &sy), (pbias, &bias_shape), (py, &sy))
    }

    fn single_quant(&self, t: TensorId) -> Option<(f32, i32)> {
        self.graph.tensors[t].quant.as_ref().and_then(Quant::single)
    }

    /// Packs weights, bias and multipliers of a product.
    fn constants(&mut self, node: &Node, p: &Product<'_>, depthwise: bool) -> Result<Constants> {
        if p.bias.is_some_and(|b| self.value(b).is_none()) {
            return Err(no_kernel("its bias is not constant", ""));
        }
        match self.single_quant(p.x) {
            Some(x) => self.int_constants(node, p, depthwise, x),
            None if self.graph.tensors[p.weights].quant.is_some() => self.byte_constants(node, p, depthwise),
            None => self.float_constants(node, p, depthwise),
        }
    }

    fn float_constants(&mut self, node: &Node, p: &Product<'_>, depthwise: bool) -> Result<Constants> {
        let (x, y) = (self.graph.tensors[p.x].dtype, self.graph.tensors[node.output].dtype);
        if x != DType::F32 || y != DType::F32 {
            let reason = format!("a product of {} into {}", x.name(), y.name());
            return Err(no_kernel(reason, "quantise input and output, or neither"));
        }
        let d = p.dims();
        // The largest tensor of a model is packed from its bytes: numbers of eight bytes would take more than the file.
        let bytes = self.value(p.weights).expect("checked").to_bytes();
        let floats = bytes.as_chunks().0;
        let packed = self.packed(node, p, depthwise, |l| {
            let weight = |g: usize, o: usize, i: usize, tap: usize| f32::from_le_bytes(floats[(p.at)(g, o, i, tap)]);
            let values = if depthwise {
                taps_outside(d, weight)
            } else {
                blocks(d, l.target.conv_block(), Order::ChannelsInside, weight)
            };
            Packed { weights: l.constant_f32(&values), zeros: None, sums: Rc::default() }
        })?;
        let bias = self.float_bias(p);
        let ending = ending(self.graph, node, p.post, None, p.output[2])?;
        Ok(Constants { weights: packed.weights, bias, multipliers: None, weight_zeros: None, ending })
    }

    /// Of a product of floats with weights of bytes.
    fn byte_constants(&mut self, node: &Node, p: &Product<'_>, depthwise: bool) -> Result<Constants> {
        let (d, out_c) = (p.dims(), p.output[2]);
        let w = &self.graph.tensors[p.weights];
        let quant = w.quant.as_ref().ok_or_else(|| no_kernel("its weights are not quantised", ""))?;
        let of = |c: usize| if quant.scales.len() == 1 { 0 } else { c };
        let (bytes, signed) = (self.value(p.weights).expect("checked").to_bytes(), w.dtype == DType::I8);
        let int = |at: usize| if signed { i32::from(bytes[at] as i8) } else { i32::from(bytes[at]) };
        let packed = self.packed(node, p, depthwise, |l| {
            // The pass that left the weights quantised has seen that these are bytes.
            let stored = |g: usize, o: usize, i: usize, tap: usize| {
                (int((p.at)(g, o, i, tap)) - quant.zero_points[of(g * d.group_out + o)]) as i8 as u8
            };
            let values = if depthwise {
                taps_outside(d, stored)
            } else {
                blocks(d, l.target.conv_block(), Order::ChannelsInside, stored)
            };
            Packed { weights: l.constant(DType::I8, &[values.len()], &values), zeros: None, sums: Rc::default() }
        })?;
        let scales: Vec<f32> = (0..out_c).map(|c| quant.scales[of(c)]).collect();
        let bias = self.float_bias(p);
        let multipliers = Some(self.constant_f32(&scales));
        let ending = ending(self.graph, node, p.post, None, out_c)?;
        Ok(Constants { weights: packed.weights, bias, multipliers, weight_zeros: None, ending })
    }

    /// The weights of a product as `pack` stores them; the same constant in the same order is packed once.
    fn packed(
        &mut self,
        node: &Node,
        p: &Product<'_>,
        depthwise: bool,
        pack: impl FnOnce(&mut Self) -> Packed,
    ) -> Result<Packed> {
        let read = match node.op {
            Op::ConvTranspose { .. } => 1,
            Op::MatMul { transpose_b, .. } => 2 + usize::from(transpose_b),
            _ => 0,
        };
        let Dims { groups, group_out, group_in, taps } = p.dims();
        // What an integer product stores has its order from the sums' length, which the dimensions say.
        let float = usize::from(self.single_quant(p.x).is_none());
        let key = [p.weights, read, usize::from(depthwise), float, groups, group_out, group_in, taps];
        if let Some(packed) = self.products.get(&key) {
            return Ok(packed.clone());
        }
        let all = self.graph.tensors[p.weights].len() as u64;
        if !self.graph.budget.take(PACKING * all, 0) {
            let reason = "packing its weights goes beyond the budget of a compilation";
            return Err(no_kernel(reason, "use one constant for fewer products of different forms"));
        }
        let packed = pack(self);
        self.products.insert(key, packed.clone());
        Ok(packed)
    }

    fn float_bias(&mut self, p: &Product<'_>) -> PlanTensorId {
        let bias: Vec<f32> = match p.bias.and_then(|b| self.value(b)) {
            Some(v) => v.reals().iter().map(|&v| v as f32).collect(),
            None => vec![0.0; p.output[2]],
        };
        self.constant_f32(&bias)
    }

    fn int_constants(
        &mut self,
        node: &Node,
        p: &Product<'_>,
        depthwise: bool,
        (sx, zx): (f32, i32),
    ) -> Result<Constants> {
        let (d, out_c) = (p.dims(), p.output[2]);
        let w = &self.graph.tensors[p.weights];
        let quant = w.quant.clone().ok_or_else(|| no_kernel("its weights are not quantised", ""))?;
        let zero = |c: usize| i64::from(quant.zero_points[if quant.zero_points.len() == 1 { 0 } else { c }]);
        let bytes = self.value(p.weights).expect("checked").to_bytes();
        let signed = w.dtype == DType::I8;
        let int = |at: usize| if signed { i64::from(bytes[at] as i8) } else { i64::from(bytes[at]) };
        // A weight less its zero point.
        let weight = |g: usize, o: usize, i: usize, tap: usize| int((p.at)(g, o, i, tap)) - zero(g * d.group_out + o);
        let packed = self.packed(node, p, depthwise, |l| {
            let of_channel = |c: usize| {
                let (g, o) = (c / d.group_out, c % d.group_out);
                (0..d.group_in).flat_map(move |i| (0..d.taps).map(move |tap| (g, o, i, tap)))
            };
            // If all of them are bytes, these are stored, and have no zero points. Otherwise i8 weights are stored as they are,
            // u8 ones with their zero points moved by 128.
            let mut each = (0..out_c).flat_map(of_channel);
            let centred = each.all(|(g, o, i, tap)| i8::try_from(weight(g, o, i, tap)).is_ok());
            let shift = if signed { 0 } else { 128 };
            let left = |c: usize| if centred { 0 } else { zero(c) - shift };
            let stored = |g: usize, o: usize, i: usize, tap: usize| {
                (weight(g, o, i, tap) + left(g * d.group_out + o)) as i8 as u8
            };
            let values = if depthwise {
                taps_outside(d, stored)
            } else {
                let long = Conv::inputs_inside(d.taps * d.group_in);
                let order = if long { Order::InputsInside } else { Order::ChannelsInside };
                blocks(d, l.target.conv_block(), order, stored)
            };
            let weights = l.constant(DType::I8, &[values.len()], &values);
            let zeros = (0..out_c).flat_map(|c| (left(c) as i16).to_le_bytes()).collect::<Vec<_>>();
            let zeros = (!centred).then(|| l.constant(DType::I16, &[out_c], zeros));
            let sum = |c: usize| of_channel(c).map(|(g, o, i, tap)| weight(g, o, i, tap)).sum();
            Packed { weights, zeros, sums: (0..out_c).map(sum).collect() }
        })?;
        let given = p.bias.and_then(|b| self.value(b)).map(|v| v.ints().into_owned());
        let given = given.unwrap_or_else(|| vec![0; out_c]);
        // Padding pixels of a dense convolution hold the input's zero point, so that its part of every sum is a constant.
        let bias = |c: usize| given[c] - if depthwise { 0 } else { i64::from(zx) * packed.sums[c] };
        let bias = (0..out_c).flat_map(|c| (bias(c) as i32).to_le_bytes()).collect::<Vec<_>>();
        let bias = self.constant(DType::I32, &[out_c], bias);
        let mid = rounding(self.graph, node, p.post);
        // The quotient as ONNX Runtime forms it, in f32, so that the same files give the same bits.
        let scale = |c: usize| sx * if quant.scales.len() == 1 { quant.scales[0] } else { quant.scales[c] };
        let divisor = mid.as_ref().map_or(1.0, |m| m.scale);
        let multipliers: Vec<f32> = (0..out_c).map(|c| scale(c) / divisor).collect();
        let multipliers = Some(self.constant_f32(&multipliers));
        let ending = ending(self.graph, node, p.post, mid.as_ref(), out_c)?;
        Ok(Constants { weights: packed.weights, bias, multipliers, weight_zeros: packed.zeros, ending })
    }

    fn padding_pixel(&mut self, x: TensorId, channels: usize) -> PlanTensorId {
        let dtype = self.graph.tensors[x].dtype;
        let zero = self.single_quant(x).map_or(0, |q| q.1);
        let pixel = match dtype {
            DType::F32 => Array::f32(&[channels], vec![0.0; channels]),
            byte => Array::int(byte, &[channels], vec![zero.into(); channels]),
        };
        self.constant(dtype, &[channels], pixel.to_bytes())
    }

    fn dense(&mut self, node: &Node, p: &Product<'_>) -> Result<()> {
        let c = self.constants(node, p, false)?;
        let hwc = |v: [usize; 3]| v.map(|v| v as u32);
        let params = Conv {
            batch: p.batch as u32,
            input: hwc(p.input),
            output: hwc(p.output),
            groups: p.groups as u32,
            kernel: words(p.kernel),
            stride: words(p.stride),
            dilation: words(p.dilation),
            pad: p.pad.map(|v| v as i32),
            upsample: words(p.upsample),
            block: self.target.conv_block() as u32,
            epilogue: c.ending.epilogue,
        };
        let padding = self.padding_pixel(p.x, p.input[2]);
        // A transposed convolution does the work of its input's pixels, not of the zeros between them.
        let pixels = if p.upsample == [1, 1] { p.output } else { [p.input[0], p.input[1], p.output[2]] };
        let per_pixel = p.kernel[0] * p.kernel[1] * (p.input[2] / p.groups);
        let macs = (p.batch * pixels.iter().product::<usize>() * per_pixel) as u64;
        self.emit_product(node, p, StepKind::Conv, params, &c, Some(padding), macs);
        Ok(())
    }

    fn depthwise(&mut self, node: &Node, p: &Product<'_>) -> Result<()> {
        let c = self.constants(node, p, true)?;
        let params = DepthwiseConv {
            batch: p.batch as u32,
            input: words([p.input[0], p.input[1]]),
            output: words([p.output[0], p.output[1]]),
            channels: p.input[2] as u32,
            kernel: words(p.kernel),
            stride: words(p.stride),
            dilation: words(p.dilation),
            pad: p.pad.map(|v| v as i32),
            epilogue: c.ending.epilogue,
        };
        let macs = (p.batch * p.output.iter().product::<usize>() * p.kernel[0] * p.kernel[1]) as u64;
        self.emit_product(node, p, StepKind::DepthwiseConv, params, &c, None, macs);
        Ok(())
    }

    /// Emits a convolution with its operands: x, weights, bias, multipliers, residual, table, constants of the channels,
    /// padding pixel (of a dense one), the weights' zero points.
    #[allow(clippy::too_many_arguments)]
    fn emit_product<P: Record>(
        &mut self,
        node: &Node,
        p: &Product<'_>,
        kind: StepKind,
        params: P,
        c: &Constants,
        padding: Option<PlanTensorId>,
        macs: u64,
    ) {
        let x = self.operand(p.x);
        let residual = c.ending.residual.map(|r| self.operand(r));
        let table = c.ending.table.clone().map(|t| self.constant(DType::U8, &[256], t));
        let rows = (!c.ending.rows.is_empty()).then(|| self.constant_f32(&c.ending.rows));
        let y = self.buffer_tensor(node.output);
        let size = |p: PlanTensorId| self.out.tensors[p].dtype.size();
        let mut inputs = vec![Some(x), Some(c.weights), Some(c.bias), c.multipliers, residual, table, rows];
        inputs.extend(padding.map(Some));
        inputs.extend(c.weight_zeros.map(Some));
        // A residual (operand 4) is read pixel by pixel before the result is stored, so the result may take its place.
        let in_place = if residual.is_some_and(|r| size(r) == size(y)) { 1 << 4 } else { 0 };
        let extra = Extra { rows: p.batch * p.output[0], macs, in_place };
        self.emit(node, kind, params, inputs, y, extra);
    }
}
