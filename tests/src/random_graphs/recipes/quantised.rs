//! Grids: quantisation, and the products of ai.onnx that have it within.

use kinglet::DType::{self, F32, I8, I32, U8};
use kinglet_compiler::array::Array;

use super::Recipe;
use super::products::{right, rows};
use super::windows::{channels, picture, window};
use crate::random_graphs::attributes::i;
use crate::random_graphs::net::Net;

pub(super) fn recipe(name: &str) -> Option<Recipe> {
    Some(match name {
        "QuantizeLinear" => quantize,
        "DequantizeLinear" => dequantize,
        "DynamicQuantizeLinear" => dynamic,
        "QLinearConv" => conv,
        "QLinearMatMul" => matmul,
        _ => return None,
    })
}

/// A scale and a zero point of a type of bytes, constants.
pub(super) fn grid(n: &mut Net, dtype: DType, scale: f64) -> [String; 2] {
    let scale = scale * (1.0 + n.below(100) as f64 / 97.0);
    let zero = n.below(41) as i64 + if dtype == U8 { 100 } else { -20 };
    let zero = n.constant(Array::int(dtype, &[], vec![zero]));
    [n.scalar(scale), zero]
}

/// Reals to be quantised. NaN behind a bound is the one that a quantisation before it makes the bound's smallest integer
/// (docs/numerics.md): there is none.
pub(super) fn numbers(n: &mut Net) -> String {
    if n.is_special() { n.weights(F32, &[3, 4]) } else { n.any(F32) }
}

fn quantize(n: &mut Net, op: &str) {
    let x = numbers(n);
    let shape = n.shape(&x);
    let dtype = n.pick(&[I8, U8]);
    let scale = (n.magnitude(&x) / 127.0).clamp(1e-3, 10.0);
    if n.opset() >= 13 && !shape.is_empty() && n.one_in(3) {
        let axis = n.below(shape.len());
        let scales = (0..shape[axis]).map(|_| f64::from((scale * (0.5 + n.below(64) as f64 / 64.0)) as f32)).collect();
        let zeros = (0..shape[axis]).map(|_| n.below(40) as i64).collect();
        let scales = n.constant(Array::f32(&[shape[axis]], scales));
        let zeros = n.constant(Array::int(dtype, &[shape[axis]], zeros));
        n.node(op, &[&x, &scales, &zeros], vec![i("axis", axis as i64)]);
        return;
    }
    let [scale, zero] = grid(n, dtype, scale);
    n.node(op, &[&x, &scale, &zero], vec![]);
}

fn dequantize(n: &mut Net, op: &str) {
    let dtype = n.pick(&[I8, U8]);
    let x = n.any(dtype);
    let [scale, zero] = grid(n, dtype, 0.011);
    n.node(op, &[&x, &scale, if n.one_in(4) { "" } else { &zero }], vec![]);
}

fn dynamic(n: &mut Net, op: &str) {
    let x = n.that(F32, |s| !s.contains(&0), |n| vec![1 + n.below(5), 1 + n.below(5)]);
    let outputs = n.nodes(op, &[&x], 3, vec![]);
    n.give(&outputs);
}

fn conv(n: &mut Net, op: &str) {
    let of = n.pick(&[U8, I8]);
    let axes = n.pick(&[2, 1]);
    let (x, shape) = picture(n, of, axes);
    let (kernel, mut attributes) = window(n, &shape[2..], true);
    let (groups, outputs) = channels(n, shape[1]);
    attributes.push(i("group", groups as i64));
    let dims: Vec<usize> = [outputs, shape[1] / groups].into_iter().chain(kernel).collect();
    let by = if of == I8 { I8 } else { n.pick(&[I8, U8]) };
    let w = n.weights(by, &dims);
    let ([xs, xz], [ys, yz]) = (grid(n, of, 0.02), grid(n, of, 0.1));
    let (ws, wz) = if n.below(2) == 1 && by == I8 {
        let scales = (0..outputs).map(|_| f64::from((0.005 + n.below(64) as f64 / 5000.0) as f32)).collect();
        (n.constant(Array::f32(&[outputs], scales)), n.constant(Array::int(by, &[outputs], vec![0; outputs])))
    } else {
        let [s, z] = grid(n, by, 0.01);
        (s, z)
    };
    let bias = if n.below(2) == 1 {
        let bias = (0..outputs).map(|_| n.below(2000) as i64 - 1000).collect();
        n.constant(Array::int(I32, &[outputs], bias))
    } else {
        String::new()
    };
    n.node(op, &[&x, &xs, &xz, &w, &ws, &wz, &ys, &yz, &bias], attributes);
}

fn matmul(n: &mut Net, op: &str) {
    let of = n.pick(&[U8, I8]);
    let (a, shape) = rows(n, of, 2);
    let by = if of == I8 { I8 } else { n.pick(&[I8, U8]) };
    let b = right(n, by, &shape, shape[shape.len() - 1]);
    let ([xs, xz], [ws, wz], [ys, yz]) = (grid(n, of, 0.02), grid(n, by, 0.01), grid(n, of, 0.1));
    n.node(op, &[&a, &xs, &xz, &b, &ws, &wz, &ys, &yz], vec![]);
}
