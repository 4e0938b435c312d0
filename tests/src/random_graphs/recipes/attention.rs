//! Attention in its forms.

use kinglet::DType::{self, Bool, F32, I8, I32, I64, U8};
use kinglet_compiler::array::Array;

use super::Recipe;
use crate::random_graphs::attributes::{f, i, s};
use crate::random_graphs::net::Net;

pub(super) fn recipe(name: &str) -> Option<Recipe> {
    Some(match name {
        "Attention" => attention,
        "RotaryEmbedding" => rotary,
        "LinearAttention" => linear,
        _ => return None,
    })
}

/// Those of com.microsoft.
pub(super) fn contrib(name: &str) -> Option<Recipe> {
    Some(match name {
        "Attention" => projected,
        "MultiHeadAttention" => multi_head,
        "QAttention" => quantised,
        _ => return None,
    })
}

fn attention(n: &mut Net, op: &str) {
    let (batch, heads, size) = (1 + n.below(2), n.pick(&[2, 1, 4]), 2 * (1 + n.below(3)));
    let shared = if heads > 1 && n.one_in(3) { heads / 2 } else { heads };
    let (q, k) = (1 + n.below(4), 1 + n.below(5));
    let values = if n.one_in(3) { size + 1 } else { size };
    let flat = n.below(2) == 1;
    let shape = |h: usize, t: usize, d: usize| if flat { vec![batch, t, h * d] } else { vec![batch, h, t, d] };
    let query = n.shaped(F32, &shape(heads, q, size));
    let key = n.shaped(F32, &shape(shared, k, size));
    let value = n.shaped(F32, &shape(shared, k, values));
    let past = if n.one_in(4) { 1 + n.below(3) } else { 0 };
    let all = k + past;
    // Every row sees its first key: what sees none is not a number in some runtimes and 0 in others.
    let mask = match n.below(4) {
        2 => n.shaped(F32, &[q, all]),
        3 => {
            let seen = (0..q * all).map(|e| i64::from(e % all == 0 || n.below(3) > 0)).collect();
            n.either(Array::int(Bool, &[q, all], seen))
        }
        _ => String::new(),
    };
    let mut attributes = Vec::new();
    if flat {
        attributes.extend([i("q_num_heads", heads as i64), i("kv_num_heads", shared as i64)]);
    }
    if n.one_in(3) {
        attributes.push(i("is_causal", 1));
    }
    if n.one_in(3) {
        attributes.push(f("scale", 0.4));
    }
    if n.one_in(4) {
        attributes.push(f("softcap", 1.5));
    }
    if past == 0 {
        n.node(op, &[&query, &key, &value, &mask], attributes);
        return;
    }
    let (pk, pv) = (n.shaped(F32, &[batch, shared, past, size]), n.shaped(F32, &[batch, shared, past, values]));
    let outputs = n.nodes(op, &[&query, &key, &value, &mask, &pk, &pv], 3, attributes);
    n.give(&outputs);
}

fn rotary(n: &mut Net, op: &str) {
    let (batch, heads, frames, size) = (1 + n.below(2), 1 + n.below(3), 1 + n.below(4), 2 * (1 + n.below(3)));
    let flat = n.below(2) == 1;
    let x = n.shaped(F32, &if flat { vec![batch, frames, heads * size] } else { vec![batch, heads, frames, size] });
    let turned = if n.one_in(3) { 2 } else { size };
    let mut attributes = vec![i("interleaved", n.below(2) as i64)];
    if turned != size {
        attributes.push(i("rotary_embedding_dim", turned as i64));
    }
    if flat || turned != size {
        attributes.push(i("num_heads", heads as i64));
    }
    if n.below(2) == 1 {
        let shape = [batch, frames, turned / 2];
        let (cos, sin) = (n.weights(F32, &shape), n.weights(F32, &shape));
        n.node(op, &[&x, &cos, &sin], attributes);
        return;
    }
    let rows = frames + n.below(4);
    let (cos, sin) = (n.weights(F32, &[rows, turned / 2]), n.weights(F32, &[rows, turned / 2]));
    let places = (0..batch * frames).map(|_| n.below(rows) as i64).collect();
    let places = n.either(Array::int(I64, &[batch, frames], places));
    n.node(op, &[&x, &cos, &sin, &places], attributes);
}

fn linear(n: &mut Net, op: &str) {
    let (batch, frames, shared, k, v) =
        (1 + n.below(2), 1 + n.below(3), 1 + n.below(2), 1 + n.below(3), 1 + n.below(3));
    let heads = shared * n.pick(&[1, 2]);
    let rule = n.pick(&["linear", "gated", "delta", "gated_delta"]);
    let query = n.shaped(F32, &[batch, frames, heads * k]);
    let key = n.shaped(F32, &[batch, frames, shared * k]);
    let value = n.shaped(F32, &[batch, frames, shared * v]);
    let past = if n.below(2) == 1 { n.shaped(F32, &[batch, shared, k, v]) } else { String::new() };
    let decay = if rule.starts_with("gated") {
        let each = if n.below(2) == 1 { k } else { 1 };
        n.shaped(F32, &[batch, frames, shared * each])
    } else {
        String::new()
    };
    let beta = if rule.ends_with("delta") { n.shaped(F32, &[batch, frames, shared]) } else { String::new() };
    let attributes = vec![i("q_num_heads", heads as i64), i("kv_num_heads", shared as i64), s("update_rule", rule)];
    let outputs = n.nodes(op, &[&query, &key, &value, &past, &decay, &beta], 2, attributes);
    n.give(&outputs);
}

/// Heads, samples, frames, and what a frame has.
fn sizes(n: &mut Net) -> (usize, usize, usize, usize) {
    let heads = n.pick(&[2, 1]);
    (heads, 1 + n.below(2), 1 + n.below(4), heads * (1 + n.below(3)))
}

fn attributes(n: &mut Net, heads: usize) -> Vec<kinglet_onnx::AttributeProto> {
    let mut attributes = vec![i("num_heads", heads as i64)];
    if n.one_in(3) {
        attributes.push(i("unidirectional", 1));
    }
    attributes
}

fn projected(n: &mut Net, op: &str) {
    let (heads, batch, frames, size) = sizes(n);
    let inputs = 1 + n.below(5);
    let x = n.shaped(F32, &[batch, frames, inputs]);
    let (w, b) = (n.weights(F32, &[inputs, 3 * size]), n.weights(F32, &[3 * size]));
    let mask = if n.one_in(3) {
        let seen = (0..batch * frames).map(|e| i64::from(e % frames == 0 || n.below(3) > 0)).collect();
        n.either(Array::int(I32, &[batch, frames], seen))
    } else {
        String::new()
    };
    let attributes = attributes(n, heads);
    n.node(&format!("com.microsoft.{op}"), &[&x, &w, &b, &mask], attributes);
}

fn multi_head(n: &mut Net, op: &str) {
    let (heads, batch, frames, size) = sizes(n);
    let keys = 1 + n.below(4);
    let q = n.shaped(F32, &[batch, frames, size]);
    let (k, v) = (n.shaped(F32, &[batch, keys, size]), n.shaped(F32, &[batch, keys, size]));
    let bias = if n.below(2) == 1 { n.weights(F32, &[3 * size]) } else { String::new() };
    let attributes = vec![i("num_heads", heads as i64)];
    n.node(&format!("com.microsoft.{op}"), &[&q, &k, &v, &bias], attributes);
}

/// A quantised tensor and its scale and zero point.
fn grid(n: &mut Net, dtype: DType, shape: &[usize], constant: bool) -> [String; 3] {
    let q = if constant { n.weights(dtype, shape) } else { n.shaped(dtype, shape) };
    let zero = n.weights(dtype, &[]);
    [q, n.scalar(0.0113), zero]
}

fn quantised(n: &mut Net, op: &str) {
    let (heads, batch, frames, size) = sizes(n);
    let inputs = 1 + n.below(5);
    let [x, xs, xz] = grid(n, U8, &[batch, frames, inputs], false);
    let [w, ws, wz] = grid(n, I8, &[inputs, 3 * size], true);
    let b = n.weights(F32, &[3 * size]);
    let attributes = attributes(n, heads);
    n.node(&format!("com.microsoft.{op}"), &[&x, &w, &b, &xs, &ws, "", &xz, &wz], attributes);
}
