//! The constants of a product: weights packed for its kernel, bias, multipliers.

use std::rc::Rc;

use kinglet::DType;
use kinglet::product::{MOST_ROWS, Packing, Sign, WordOrder};

use super::epilogue::{Ending, ending, rounding};
use super::halves::rounded;
use super::integers::Channel;
use super::pack::pack;
use super::products::Product;
use super::{Lowerer, PlanTensorId, Result, no_kernel};
use crate::Precision;
use crate::graph::{Node, Op, TensorId};

/// Operations that it takes to pack a weight, and to add it up.
const PACKING: u64 = 16;
const TOTALS: u64 = 4;

/// Weights of a product as they are stored.
#[derive(Clone)]
pub(super) struct Packed {
    weights: PlanTensorId,
    /// Zero points by channel, if they are not all 0.
    zeros: Option<PlanTensorId>,
    /// They are bytes of which none is −128.
    symmetric: bool,
}

/// What a product of integers must know of its weights, less their zero points, channel by channel.
#[derive(Clone)]
pub(super) struct Totals {
    /// Their sum.
    sums: Rc<[i64]>,
    /// The sum of those that are negative.
    negative: Rc<[i64]>,
    /// The sum of those of odd inputs of a line.
    odd: Rc<[i64]>,
    /// The least and the largest of all channels.
    range: (i64, i64),
}

/// What tells packed weights apart: the constant, how it is read, and the dimensions.
pub(super) type PackKey = [usize; 9];

/// Weights and what goes with them, in the runtime's types.
pub(super) struct Constants {
    pub(super) weights: PlanTensorId,
    pub(super) bias: PlanTensorId,
    pub(super) multipliers: Option<PlanTensorId>,
    /// Multipliers as integers, if the target rounds by them.
    pub(super) integers: Option<PlanTensorId>,
    /// Zero points of the weights as they are stored, if they are not all 0.
    pub(super) weight_zeros: Option<PlanTensorId>,
    pub(super) packing: Packing,
    /// The weights are bytes of which none is −128.
    pub(super) symmetric: bool,
    pub(super) ending: Ending,
}

impl Lowerer<'_> {
    /// Packs weights, bias and multipliers of a product.
    pub(super) fn constants(&mut self, node: &Node, p: &Product<'_>, depthwise: bool) -> Result<Constants> {
        if p.bias.is_some_and(|b| self.value(b).is_none()) {
            return Err(no_kernel("its bias is not constant", "add it behind the product"));
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
        let packing = self.target.info().packing(false, depthwise, d.taps() * d.group_in, d.extents(depthwise).length);
        // The largest tensor of a model is packed from its bytes: numbers of eight bytes would take more than the file.
        let bytes = self.value(p.weights).expect("checked").to_bytes();
        let floats = bytes.as_chunks().0;
        let packed = self.packed(node, p, (depthwise, false), |l| {
            let weight = |g: usize, o: usize, i: usize, tap: usize| f32::from_le_bytes(floats[(p.at)(g, o, i, tap)]);
            let values = pack(&packing, d, depthwise, weight);
            let halves = (l.precision == Precision::F16).then(|| rounded(&values)).flatten();
            let weights = match halves {
                Some(bytes) => l.constant(DType::F16, &[values.len()], bytes),
                None => l.constant_f32(&values),
            };
            Packed { weights, zeros: None, symmetric: false }
        })?;
        let bias = self.float_bias(p);
        let ending = ending(self.graph, node, p.post, None, p.output[2])?;
        Ok(Constants {
            weights: packed.weights,
            bias,
            multipliers: None,
            integers: None,
            weight_zeros: None,
            packing,
            symmetric: false,
            ending,
        })
    }

    /// Of a product of floats with weights of bytes.
    fn byte_constants(&mut self, node: &Node, p: &Product<'_>, depthwise: bool) -> Result<Constants> {
        let (d, out_c) = (p.dims(), p.output[2]);
        let w = &self.graph.tensors[p.weights];
        let quant = w
            .quant
            .as_ref()
            .ok_or_else(|| no_kernel("its weights are not quantised", "quantise them as the input is, or neither"))?;
        let packing = self.target.info().packing(false, depthwise, d.taps() * d.group_in, d.extents(depthwise).length);
        let of = |c: usize| if quant.scales.len() == 1 { 0 } else { c };
        let (bytes, signed) = (self.value(p.weights).expect("checked").to_bytes(), w.dtype == DType::I8);
        let int = |at: usize| if signed { i32::from(bytes[at] as i8) } else { i32::from(bytes[at]) };
        let packed = self.packed(node, p, (depthwise, false), |l| {
            // The pass that left the weights quantised has seen that these are bytes.
            let stored = |g: usize, o: usize, i: usize, tap: usize| {
                (int((p.at)(g, o, i, tap)) - quant.zero_points[of(g * d.group_out + o)]) as i8 as u8
            };
            let values = pack(&packing, d, depthwise, stored);
            let weights = l.constant(DType::I8, &[values.len()], &values);
            Packed { weights, zeros: None, symmetric: false }
        })?;
        let scales: Vec<f32> = (0..out_c).map(|c| quant.scales[of(c)]).collect();
        let bias = self.float_bias(p);
        let multipliers = Some(self.constant_f32(&scales));
        let ending = ending(self.graph, node, p.post, None, out_c)?;
        Ok(Constants {
            weights: packed.weights,
            bias,
            multipliers,
            integers: None,
            weight_zeros: None,
            packing,
            symmetric: false,
            ending,
        })
    }

    /// The weights of a product as `pack` stores them; the same constant in the same order is packed once.
    fn packed(
        &mut self,
        node: &Node,
        p: &Product<'_>,
        (depthwise, twos): (bool, bool),
        pack: impl FnOnce(&mut Self) -> Packed,
    ) -> Result<Packed> {
        let key = self.key(node, p, (depthwise, twos));
        if let Some(packed) = self.products.get(&key) {
            return Ok(packed.clone());
        }
        self.charge(PACKING, p)?;
        let packed = pack(self);
        self.products.insert(key, packed.clone());
        Ok(packed)
    }

    /// What the same constant in the same form is found by.
    fn key(&self, node: &Node, p: &Product<'_>, (depthwise, twos): (bool, bool)) -> PackKey {
        let read = match node.op {
            Op::ConvTranspose { .. } => 1,
            Op::MatMul { transpose_b, .. } => 2 + usize::from(transpose_b),
            _ => 0,
        };
        let (d, [rows, columns]) = (p.dims(), p.kernel);
        // The packing follows from these.
        let float = usize::from(self.single_quant(p.x).is_none());
        let form = usize::from(depthwise) | usize::from(d.dense_rows) << 1 | usize::from(twos) << 2;
        [p.weights, read, form, float, d.groups, d.group_out, d.group_in, rows, columns]
    }

    /// Draws what it takes to go through the weights of a product, so much each, from the budget.
    fn charge(&self, each: u64, p: &Product<'_>) -> Result<()> {
        if self.graph.budget.take(each * self.graph.tensors[p.weights].len() as u64, 0) {
            return Ok(());
        }
        let reason = "packing its weights goes beyond the budget of a compilation";
        Err(no_kernel(reason, "use one constant for fewer products of different forms"))
    }

    /// The totals of a product's weights; `weight(group, output, input, tap)` is one, channels counted within the group.
    fn totals(
        &mut self,
        node: &Node,
        p: &Product<'_>,
        depthwise: bool,
        weight: impl Fn(usize, usize, usize, usize) -> i64,
    ) -> Result<Totals> {
        let key = self.key(node, p, (depthwise, false));
        if let Some(totals) = self.totals.get(&key) {
            return Ok(totals.clone());
        }
        self.charge(TOTALS, p)?;
        let (d, out_c) = (p.dims(), p.output[2]);
        let e = d.extents(depthwise);
        let (mut sums, mut negative, mut odd) = (vec![0; out_c], vec![0; out_c], vec![0; out_c]);
        let mut range = (0, 0);
        let places = |c: usize| (0..e.lines).flat_map(move |line| (0..e.length).map(move |i| (c, line, i)));
        for (c, line, i) in (0..out_c).flat_map(places) {
            let [g, o, input, tap] = d.source(depthwise, c / e.channels, c % e.channels, line, i);
            let w = weight(g, o, input, tap);
            sums[c] += w;
            negative[c] += w.min(0);
            odd[c] += if i % 2 == 1 { w } else { 0 };
            range = (w.min(range.0), w.max(range.1));
        }
        let totals = Totals { sums: sums.into(), negative: negative.into(), odd: odd.into(), range };
        self.totals.insert(key, totals.clone());
        Ok(totals)
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
        let taps = d.taps();
        let e = d.extents(depthwise);
        let mut packing = self.target.info().packing(true, depthwise, taps * d.group_in, e.length);
        let w = &self.graph.tensors[p.weights];
        let quant = w
            .quant
            .clone()
            .ok_or_else(|| no_kernel("its weights are not quantised", "quantise them as the input is, or neither"))?;
        let zero = |c: usize| i64::from(quant.zero_points[if quant.zero_points.len() == 1 { 0 } else { c }]);
        let bytes = self.value(p.weights).expect("checked").to_bytes();
        let signed = w.dtype == DType::I8;
        let int = |at: usize| if signed { i64::from(bytes[at] as i8) } else { i64::from(bytes[at]) };
        // A weight less its zero point.
        let weight = |g: usize, o: usize, i: usize, tap: usize| int((p.at)(g, o, i, tap)) - zero(g * d.group_out + o);
        let totals = self.totals(node, p, depthwise, weight)?;
        let (least, largest) = totals.range;
        let given = p.bias.and_then(|b| self.value(b)).map(|v| v.ints().into_owned());
        let given = given.unwrap_or_else(|| vec![0; out_c]);
        // Padding holds the input's zero point, so that its part of every sum is a constant; it moves with the inputs.
        let moved = i64::from(zx) + i64::from(packing.sign.moves(self.graph.tensors[p.x].dtype));
        let biases = (0..out_c).map(|c| given[c] - moved * totals.sums[c]).collect::<Vec<i64>>();
        // Whether every sum stays below 2²³, whatever the inputs.
        let most = |c: usize| biases[c].abs() + 128 * (totals.sums[c] - 2 * totals.negative[c]);
        let bounded = || (0..out_c).all(|c| most(c) < 1 << 23);
        let mid = rounding(self.graph, node, p.post);
        let ending = ending(self.graph, node, p.post, mid.as_ref(), out_c)?;
        let info = self.target.info();
        let byte = |t: TensorId| self.graph.tensors[t].dtype == DType::I8;
        let bytes_added = ending.residual.is_none_or(|r| byte(r) && byte(node.output));
        let at_once = ending.epilogue.rounds_at_once() && bytes_added && p.kernel[0] <= MOST_ROWS;
        let other = packing == info.long_bytes && packing != info.bounded_bytes;
        if other && !depthwise && at_once && -127 <= least && largest <= 127 && bounded() {
            packing = info.bounded_bytes;
        }
        let twos = packing.order == WordOrder::Twos;
        let packed = self.packed(node, p, (depthwise, twos), |l| {
            // If all of them are bytes, these are stored, and have no zero points. Otherwise i8 weights are stored as they are,
            // u8 ones with their zero points moved by 128.
            let centred = -128 <= least && largest <= 127;
            let shift = if signed { 0 } else { 128 };
            let left = |c: usize| if centred { 0 } else { zero(c) - shift };
            let stored = |g: usize, o: usize, i: usize, tap: usize| {
                (weight(g, o, i, tap) + left(g * d.group_out + o)) as i8 as u8
            };
            let mut values = pack(&packing, d, depthwise, stored);
            let symmetric = !values.contains(&(i8::MIN as u8));
            packing.join(&mut values);
            let weights = l.constant(DType::I8, &[values.len()], &values);
            let zeros = (0..out_c).flat_map(|c| (left(c) as i16).to_le_bytes()).collect::<Vec<_>>();
            let zeros = (!centred).then(|| l.constant(DType::I16, &[out_c], zeros));
            Packed { weights, zeros, symmetric }
        })?;
        let bytes = biases.iter().flat_map(|&b| (b as i32).to_le_bytes()).collect::<Vec<_>>();
        let bias = self.constant(DType::I32, &[out_c], bytes);
        // The quotient as ONNX Runtime forms it, in f32, so that the same files give the same bits.
        let scale = |c: usize| sx * if quant.scales.len() == 1 { quant.scales[0] } else { quant.scales[c] };
        let divisor = mid.as_ref().map_or(1.0, |m| m.scale);
        let multipliers: Vec<f32> = (0..out_c).map(|c| scale(c) / divisor).collect();
        let integers = (self.target.info().integers && ending.epilogue.rounds && packed.zeros.is_none()).then(|| {
            let unsigned = packing.sign == Sign::Unsigned
                || packing.sign == Sign::AsStored && self.graph.tensors[p.x].dtype == DType::U8;
            let (least, most) = if unsigned { (0, 255) } else { (-128, 127) };
            let end = &ending.epilogue;
            let integer = |c: usize| {
                let (negative, positive) = (totals.negative[c], totals.sums[c] - totals.negative[c]);
                let sums =
                    (biases[c] + negative * most + positive * least, biases[c] + negative * least + positive * most);
                let (lo, hi) = (end.q_lo - end.mid_zero, end.q_hi - end.mid_zero);
                Channel { multiplier: multipliers[c], lo, hi, sums }.integer()
            };
            let start = |c: usize| (256 * biases[c] - 127 * totals.odd[c]) as i32;
            let starts = (0..if twos { out_c } else { 0 }).map(start);
            (0..out_c).map(integer).chain(starts).flat_map(i32::to_le_bytes).collect::<Vec<_>>()
        });
        let integers = integers.map(|bytes| {
            let rows: &[usize] = if twos { &[2] } else { &[] };
            self.constant(DType::I32, &[rows, &[out_c]].concat(), bytes)
        });
        let multipliers = Some(self.constant_f32(&multipliers));
        let (weights, weight_zeros, symmetric) = (packed.weights, packed.zeros, packed.symmetric);
        Ok(Constants { weights, bias, multipliers, integers, weight_zeros, packing, symmetric, ending })
    }
}
