//! ONNX Runtime's own operators, but for its attention.

use kinglet::DType::{self, Bool, F32, I8, I32, U8};
use kinglet_compiler::array::Array;
use kinglet_compiler::ops::CONTRIB_DOMAIN;
use kinglet_onnx::AttributeProto;

use super::Recipe;
use super::products::{gemm, rows};
use super::quantised::{grid, numbers};
use super::reduce::some_axes;
use super::windows::{conv, picture};
use crate::random_graphs::attributes::{f, i, is, s};
use crate::random_graphs::net::Net;

pub(super) fn recipe(name: &str) -> Option<Recipe> {
    Some(match name {
        "Gelu" | "QuickGelu" | "BiasGelu" | "FastGelu" => gelu,
        "FusedConv" => fused_conv,
        "FusedGemm" => fused_gemm,
        "FusedMatMul" => fused_matmul,
        "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization" => skip_norm,
        "EmbedLayerNormalization" => embed,
        "QuantizeLinear" => quantize,
        "DequantizeLinear" => dequantize,
        "DynamicQuantizeMatMul" => dynamic_matmul,
        "DynamicQuantizeLSTM" => dynamic_lstm,
        "MatMulIntegerToFloat" => matmul_to_float,
        "MatMulNBits" => matmul_n_bits,
        "QGemm" => qgemm,
        "QLinearAdd" | "QLinearMul" => binary,
        "QLinearWhere" => select,
        "QLinearConcat" => concat,
        "QLinearSigmoid" | "QLinearLeakyRelu" => |n, op| one(n, op, 0, |_, _| vec![]),
        "QLinearSoftmax" => |n, op| one(n, op, 1, softmax),
        "QLinearReduceMean" => |n, op| one(n, op, 1, means),
        "QLinearAveragePool" => |n, op| one(n, op, 4, pool),
        "QLinearGlobalAveragePool" => |n, op| one(n, op, 4, |_, _| vec![]),
        _ => return None,
    })
}

fn own(op: &str) -> String {
    format!("{CONTRIB_DOMAIN}.{op}")
}

fn gelu(n: &mut Net, op: &str) {
    let (x, shape) = rows(n, F32, 1);
    let bias = match op {
        "BiasGelu" => n.weights(F32, &shape[shape.len() - 1..]),
        "FastGelu" if n.below(2) == 1 => n.weights(F32, &shape[shape.len() - 1..]),
        _ => String::new(),
    };
    let attributes = if op == "QuickGelu" { vec![f("alpha", n.pick(&[1.702, 1.0, -0.7]))] } else { vec![] };
    n.node(&own(op), &[&x, &bias], attributes);
}

fn fused_conv(n: &mut Net, op: &str) {
    let activation = n.pick(&["Relu", "Tanh", "Sigmoid", "LeakyRelu", "HardSigmoid", "Clip"]);
    let parameters: &[f32] = match activation {
        "LeakyRelu" => &[0.2],
        "HardSigmoid" => &[0.3, 0.4],
        "Clip" => &[-0.5, 0.75],
        _ => &[],
    };
    let mut attributes = vec![s("activation", activation)];
    if !parameters.is_empty() {
        attributes.push(crate::random_graphs::attributes::fs("activation_params", parameters));
    }
    conv(n, &own(op), F32, F32, attributes);
}

fn fused_gemm(n: &mut Net, op: &str) {
    let activation = n.pick(&["Relu", "Tanh", "Sigmoid", "LeakyRelu"]);
    let mut attributes = vec![s("activation", activation)];
    if activation == "LeakyRelu" {
        attributes.push(f("activation_alpha", 0.2));
    }
    gemm(n, &own(op), attributes);
}

fn fused_matmul(n: &mut Net, op: &str) {
    let (a, shape) = rows(n, F32, 2);
    let rank = shape.len();
    let turned = n.below(2) == 1 && shape[rank - 2] > 0;
    let k = if turned { shape[rank - 2] } else { shape[rank - 1] };
    let columns = n.pick(&[3, 1, 5]);
    let b_turned = n.below(2) == 1;
    let dims = if b_turned { [columns, k] } else { [k, columns] };
    let b = if n.below(2) == 1 { n.weights(F32, &dims) } else { n.shaped(F32, &dims) };
    let attributes =
        vec![f("alpha", n.pick(&[1.0, 0.5, -2.0])), i("transA", i64::from(turned)), i("transB", i64::from(b_turned))];
    n.node(&own(op), &[&a, &b], attributes);
}

fn skip_norm(n: &mut Net, op: &str) {
    let (x, shape) = rows(n, F32, 3);
    let shape = if shape.len() == 3 { shape } else { vec![1, 2, 4] };
    let x = if n.shape(&x) == shape { x } else { n.fresh(F32, &shape) };
    let skip = n.shaped(F32, &shape);
    let hidden = [shape[2]];
    let scale = n.weights(F32, &hidden);
    let beta = n.weights(F32, &hidden);
    let bias = if n.below(2) == 1 { n.weights(F32, &hidden) } else { String::new() };
    let attributes = vec![f("epsilon", 1e-3)];
    let simple = op == "SkipSimplifiedLayerNormalization";
    let inputs = if simple { [&x, &skip, &scale, &bias, ""] } else { [x.as_str(), &skip, &scale, &beta, &bias] };
    n.node(&own(op), &inputs, attributes);
}

fn embed(n: &mut Net, op: &str) {
    let (batch, time, words, hidden) = (1 + n.below(2), 1 + n.below(4), 2 + n.below(5), 1 + n.below(5));
    let ids = |n: &mut Net, of: usize| {
        let v = (0..batch * time).map(|_| n.below(of) as i64).collect();
        n.either(Array::int(I32, &[batch, time], v))
    };
    let tokens = ids(n, words);
    let segments = if n.below(2) == 1 { ids(n, 2) } else { String::new() };
    let table = n.weights(F32, &[words, hidden]);
    let places = n.weights(F32, &[time + 1, hidden]);
    let segment_table = if segments.is_empty() { String::new() } else { n.weights(F32, &[2, hidden]) };
    let (scale, bias) = (n.weights(F32, &[hidden]), n.weights(F32, &[hidden]));
    let inputs = [&tokens[..], &segments, &table, &places, &segment_table, &scale, &bias];
    // ONNX Runtime wants both its first outputs to have a name.
    let outputs = n.nodes(&own(op), &inputs, 2, vec![f("epsilon", 1e-3)]);
    n.give(&outputs);
}

fn quantize(n: &mut Net, op: &str) {
    let x = numbers(n);
    let dtype = n.pick(&[I8, U8]);
    let scale = (n.magnitude(&x) / 127.0).clamp(1e-3, 10.0);
    let [scale, zero] = grid(n, dtype, scale);
    n.node(&own(op), &[&x, &scale, &zero], vec![]);
}

fn dequantize(n: &mut Net, op: &str) {
    let dtype = n.pick(&[I8, U8]);
    let x = n.any(dtype);
    let [scale, zero] = grid(n, dtype, 0.011);
    n.node(&own(op), &[&x, &scale, &zero], vec![]);
}

fn dynamic_matmul(n: &mut Net, op: &str) {
    let (a, shape) = rows(n, F32, 2);
    let by = n.pick(&[I8, U8]);
    let k = shape[shape.len() - 1];
    let columns = n.pick(&[3, 1, 4]);
    let b = n.weights(by, &[k, columns]);
    let [scale, zero] = grid(n, by, 0.01);
    let bias = if n.below(2) == 1 { n.weights(F32, &[columns]) } else { String::new() };
    n.node(&own(op), &[&a, &b, &scale, &zero, &bias], vec![]);
}

fn dynamic_lstm(n: &mut Net, op: &str) {
    let (frames, batch, of, hidden) = (1 + n.below(4), 1 + n.below(3), 1 + n.below(4), 1 + n.below(4));
    let x = n.shaped(F32, &[frames, batch, of]);
    let direction = n.pick(&["forward", "reverse", "bidirectional"]);
    let ways = if direction == "bidirectional" { 2 } else { 1 };
    let by = n.pick(&[I8, U8]);
    let [w, r] = [of, hidden].map(|rows| n.weights(by, &[ways, rows, 4 * hidden]));
    // A scale of a direction, or of each of its gates.
    let each: &[usize] = if n.below(2) == 1 { &[ways, 4 * hidden] } else { &[ways] };
    let zero = if by == U8 { 128 } else { 0 };
    let [sw, sr] = [0, 1].map(|_| {
        let scales = (0..each.iter().product()).map(|_| f64::from(0.002 + n.below(64) as f32 / 4096.0)).collect();
        n.constant(Array::f32(each, scales))
    });
    let zeros = n.constant(Array::int(by, each, vec![zero; each.iter().product()]));
    let b = if n.below(2) == 1 { n.weights(F32, &[ways, 8 * hidden]) } else { String::new() };
    let [h, c] = [0, 1].map(|_| if n.one_in(3) { n.shaped(F32, &[ways, batch, hidden]) } else { String::new() });
    let attributes = vec![i("hidden_size", hidden as i64), s("direction", direction)];
    let inputs = [&x, &w, &r, &b, "", &h, &c, "", &sw, &zeros, &sr, &zeros];
    let outputs = n.nodes(&own(op), &inputs, 3, attributes);
    n.give(&outputs);
}

fn matmul_to_float(n: &mut Net, op: &str) {
    let (a, shape) = rows(n, U8, 2);
    let by = n.pick(&[I8, U8]);
    let k = shape[shape.len() - 1];
    let columns = n.pick(&[3, 1, 4]);
    let b = n.weights(by, &[k, columns]);
    let ([sa, za], [sb, zb]) = (grid(n, U8, 0.02), grid(n, by, 0.01));
    let bias = if n.below(2) == 1 { n.weights(F32, &[columns]) } else { String::new() };
    n.node(&own(op), &[&a, &b, &sa, &sb, &za, &zb, &bias], vec![]);
}

fn matmul_n_bits(n: &mut Net, op: &str) {
    let (a, shape) = rows(n, F32, 2);
    let (k, columns, block) = (shape[shape.len() - 1], n.pick(&[3, 1, 4]), n.pick(&[16, 32]));
    let blocks = k.div_ceil(block);
    let w = n.weights(U8, &[columns, blocks, block / 2]);
    let scales = n.positive(&[columns * blocks]);
    let zeros = if n.below(2) == 1 { n.weights(U8, &[columns * blocks.div_ceil(2)]) } else { String::new() };
    let attributes = vec![i("K", k as i64), i("N", columns as i64), i("bits", 4), i("block_size", block as i64)];
    n.node(&own(op), &[&a, &w, &scales, &zeros], attributes);
}

fn qgemm(n: &mut Net, op: &str) {
    let of = n.pick(&[U8, I8]);
    // Without any terms ONNX Runtime gives what lay in its memory.
    let (x, shape) = match n.ranked(of, 2) {
        x if !n.shape(&x).contains(&0) => (x.clone(), n.shape(&x)),
        _ => (n.fresh(of, &[2, 3]), vec![2, 3]),
    };
    let (turn_a, turn_b) = (n.below(2), n.below(2));
    let k = shape[1 - turn_a];
    let columns = n.pick(&[3, 1, 8]);
    let by = if of == I8 { I8 } else { n.pick(&[I8, U8]) };
    let w = n.weights(by, &if turn_b == 1 { [columns, k] } else { [k, columns] });
    let ([sa, za], [sb, zb], [sy, zy]) = (grid(n, of, 0.02), grid(n, by, 0.01), grid(n, of, 0.1));
    let bias = if n.below(2) == 1 {
        let bias = (0..columns).map(|_| n.below(2000) as i64 - 1000).collect();
        n.constant(Array::int(I32, &[columns], bias))
    } else {
        String::new()
    };
    let (sy, zy) = if n.one_in(3) { (String::new(), String::new()) } else { (sy, zy) };
    let attributes = vec![i("transA", turn_a as i64), i("transB", turn_b as i64), f("alpha", n.pick(&[1.0, 0.5]))];
    n.node(&own(op), &[&x, &sa, &za, &w, &sb, &zb, &bias, &sy, &zy], attributes);
}

fn binary(n: &mut Net, op: &str) {
    let dtype = n.pick(&[U8, I8]);
    let a = n.any(dtype);
    let shape = n.shape(&a);
    let b = n.broadcast(dtype, &shape);
    let ([sa, za], [sb, zb], [sy, zy]) = (grid(n, dtype, 0.02), grid(n, dtype, 0.01), grid(n, dtype, 0.04));
    n.node(&own(op), &[&a, &sa, &za, &b, &sb, &zb, &sy, &zy], vec![]);
}

fn select(n: &mut Net, op: &str) {
    let dtype = n.pick(&[U8, I8]);
    let a = n.any(dtype);
    let shape = n.shape(&a);
    let (b, condition) = (n.shaped(dtype, &shape), n.broadcast(Bool, &shape));
    let ([sa, za], [sb, zb], [sy, zy]) = (grid(n, dtype, 0.02), grid(n, dtype, 0.01), grid(n, dtype, 0.02));
    n.node(&own(op), &[&condition, &a, &sa, &za, &b, &sb, &zb, &sy, &zy], vec![]);
}

fn concat(n: &mut Net, op: &str) {
    let dtype = n.pick(&[U8, I8]);
    let a = n.at_least(dtype, 1);
    let shape = n.shape(&a);
    let b = n.shaped(dtype, &shape);
    let ([sy, zy], [sa, za], [sb, zb]) = (grid(n, dtype, 0.02), grid(n, dtype, 0.02), grid(n, dtype, 0.015));
    let axis = n.below(shape.len()) as i64;
    n.node(&own(op), &[&sy, &zy, &a, &sa, &za, &b, &sb, &zb], vec![i("axis", axis)]);
}

/// An operator on one quantised tensor, which is a picture if its rank is to be 4.
fn one(n: &mut Net, op: &str, rank: usize, attributes: fn(&mut Net, &[usize]) -> Vec<AttributeProto>) {
    let dtype: DType = n.pick(&[U8, I8]);
    let x = match rank {
        4 => picture(n, dtype, 2).0,
        0 => n.any(dtype),
        _ => rows(n, dtype, rank).0,
    };
    let shape = n.shape(&x);
    let ([sx, zx], [sy, zy]) = (grid(n, dtype, 0.02), grid(n, dtype, 0.02));
    let mut attributes = attributes(n, &shape);
    if op == "QLinearLeakyRelu" {
        attributes.push(f("alpha", 0.1));
    }
    n.node(&own(op), &[&x, &sx, &zx, &sy, &zy], attributes);
}

fn softmax(n: &mut Net, shape: &[usize]) -> Vec<AttributeProto> {
    vec![i("axis", n.below(shape.len()) as i64), i("opset", n.pick(&[13, 12]))]
}

fn means(n: &mut Net, shape: &[usize]) -> Vec<AttributeProto> {
    let axes = some_axes(n, shape.len());
    let axes = if axes.is_empty() { vec![0] } else { axes };
    vec![is("axes", &axes), i("keepdims", n.below(2) as i64)]
}

fn pool(n: &mut Net, shape: &[usize]) -> Vec<AttributeProto> {
    let kernel: Vec<i64> = shape[2..].iter().map(|&d| 1 + n.below(d.min(3)) as i64).collect();
    let strides: Vec<i64> = kernel.iter().map(|_| n.pick(&[1, 2])).collect();
    vec![is("kernel_shape", &kernel), is("strides", &strides), i("count_include_pad", n.below(2) as i64)]
}
