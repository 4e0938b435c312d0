//! What selects and places by index.

use kinglet::DType::{self, Bool, F32, I32, I64};
use kinglet_compiler::array::Array;

use super::Recipe;
use crate::random_graphs::attributes::{fs, i, is, s};
use crate::random_graphs::net::Net;

pub(super) fn recipe(name: &str) -> Option<Recipe> {
    Some(match name {
        "Gather" => gather,
        "GatherElements" => gather_elements,
        "GatherND" => gather_nd,
        "Scatter" | "ScatterElements" => scatter_elements,
        "ScatterND" => scatter_nd,
        "Compress" => compress,
        "ReverseSequence" => reverse_sequence,
        "OneHot" => one_hot,
        "Hardmax" => hardmax,
        "TensorScatter" => tensor_scatter,
        "MaxUnpool" => max_unpool,
        "NonMaxSuppression" => non_max_suppression,
        "TfIdfVectorizer" => tf_idf,
        _ => return None,
    })
}

fn data(n: &mut Net, least: usize) -> (String, Vec<usize>) {
    let dtype = n.pick(&[F32, F32, F32, I64, I32]);
    let x = n.that(
        dtype,
        |s| s.len() >= least && !s.contains(&0),
        |n| {
            let rank = least.max(n.pick(&[2, 3, 1, 4]));
            (0..rank).map(|_| 1 + n.below(5)).collect()
        },
    );
    let shape = n.shape(&x);
    (x, shape)
}

/// Indices of an axis, some counted from its end.
fn places(n: &mut Net, dtype: DType, shape: &[usize], len: usize) -> String {
    let count = shape.iter().product();
    let v = (0..count).map(|_| n.below(len) as i64 - if n.one_in(4) { len as i64 } else { 0 }).collect();
    n.either(Array::int(dtype, shape, v))
}

fn axis_of(n: &mut Net, shape: &[usize]) -> (i64, usize) {
    let axis = n.axis(shape.len());
    (axis, axis.rem_euclid(shape.len() as i64) as usize)
}

fn gather(n: &mut Net, op: &str) {
    let (x, shape) = data(n, 1);
    let (axis, at) = axis_of(n, &shape);
    let (dtype, rank) = (n.pick(&[I64, I32]), n.pick(&[1, 0, 2]));
    let dims = n.dims(rank);
    let index = places(n, dtype, &dims, shape[at]);
    n.node(op, &[&x, &index], vec![i("axis", axis)]);
}

fn gather_elements(n: &mut Net, op: &str) {
    let (x, shape) = data(n, 1);
    let (axis, at) = axis_of(n, &shape);
    let mut dims = shape.clone();
    dims[at] = n.dim();
    let dtype = n.pick(&[I64, I32]);
    let index = places(n, dtype, &dims, shape[at]);
    n.node(op, &[&x, &index], vec![i("axis", axis)]);
}

/// Tuples of indices for the first `depth` of these axes, each in 0 to its axis.
fn tuples(n: &mut Net, shape: &[usize], depth: usize, lead: &[usize], once: bool) -> Array {
    let count: usize = lead.iter().product();
    let mut seen: Vec<Vec<i64>> = Vec::new();
    let mut all = Vec::new();
    for _ in 0..count {
        let mut tuple: Vec<i64> = shape[..depth].iter().map(|&d| n.below(d) as i64).collect();
        // The next free one, where each may be named once.
        while once && seen.contains(&tuple) && seen.len() < shape[..depth].iter().product() {
            for d in (0..depth).rev() {
                tuple[d] = (tuple[d] + 1) % shape[d] as i64;
                if tuple[d] != 0 {
                    break;
                }
            }
        }
        seen.push(tuple.clone());
        all.extend(tuple);
    }
    let dims: Vec<usize> = lead.iter().copied().chain([depth]).collect();
    Array::int(I64, &dims, all)
}

fn gather_nd(n: &mut Net, op: &str) {
    let (x, shape) = data(n, 2);
    let batch = if n.opset() >= 12 && n.one_in(3) { 1 } else { 0 };
    let depth = 1 + n.below(shape.len() - batch);
    let mut lead = shape[..batch].to_vec();
    lead.push(1 + n.below(4));
    let index = tuples(n, &shape[batch..], depth, &lead, false);
    let index = n.either(index);
    n.node(op, &[&x, &index], if batch > 0 { vec![i("batch_dims", 1)] } else { vec![] });
}

/// How an update joins what is there, if the operator set says so.
fn reduction(n: &mut Net) -> &'static str {
    match n.opset() {
        18.. => n.pick(&["none", "add", "mul", "max", "min"]),
        16.. => n.pick(&["none", "add", "mul"]),
        _ => "none",
    }
}

fn scatter_elements(n: &mut Net, op: &str) {
    let (x, shape) = data(n, 1);
    let dtype = n.dtype(&x);
    let (axis, at) = axis_of(n, &shape);
    let how = if op == "Scatter" { "none" } else { reduction(n) };
    let mut dims: Vec<usize> = shape.iter().map(|&d| 1 + n.below(d)).collect();
    let (outer, inner): (usize, usize) = (dims[..at].iter().product(), dims[at + 1..].iter().product());
    dims[at] = 1 + n.below(shape[at]);
    let mut index = vec![0; outer * dims[at] * inner];
    for o in 0..outer {
        for k in 0..inner {
            // An update for each place at most, where the last one would win.
            let (first, step) = (n.below(shape[at]), n.below(shape[at]));
            for j in 0..dims[at] {
                let place = if how == "none" { first + j } else { first + j * step } % shape[at];
                index[(o * dims[at] + j) * inner + k] = place as i64;
            }
        }
    }
    let index = n.either(Array::int(I64, &dims, index));
    let updates = n.shaped(dtype, &dims);
    let mut attributes = vec![i("axis", axis)];
    if how != "none" {
        attributes.push(s("reduction", how));
    }
    n.node(op, &[&x, &index, &updates], attributes);
}

fn scatter_nd(n: &mut Net, op: &str) {
    let (x, shape) = data(n, 1);
    let dtype = n.dtype(&x);
    let depth = 1 + n.below(shape.len());
    let how = reduction(n);
    let most: usize = shape[..depth].iter().product();
    let count = 1 + n.below(most.min(5));
    let index = tuples(n, &shape, depth, &[count], how == "none");
    let index = n.either(index);
    let dims: Vec<usize> = std::iter::once(count).chain(shape[depth..].iter().copied()).collect();
    let updates = n.shaped(dtype, &dims);
    n.node(op, &[&x, &index, &updates], if how == "none" { vec![] } else { vec![s("reduction", how)] });
}

fn compress(n: &mut Net, op: &str) {
    let (x, shape) = data(n, 1);
    let whole = n.one_in(3);
    let (axis, at) = axis_of(n, &shape);
    let len = if whole { shape.iter().product() } else { shape[at] };
    let given = 1 + n.below(len);
    let mut kept: Vec<i64> = (0..given).map(|_| n.below(2) as i64).collect();
    kept[0] = 1;
    let kept = n.constant(Array::int(Bool, &[given], kept));
    n.node(op, &[&x, &kept], if whole { vec![] } else { vec![i("axis", axis)] });
}

fn reverse_sequence(n: &mut Net, op: &str) {
    let (x, shape) = data(n, 2);
    let (batch, time) = n.pick(&[(0, 1), (1, 0)]);
    let lengths: Vec<i64> = (0..shape[batch]).map(|_| 1 + n.below(shape[time]) as i64).collect();
    let lengths = n.ints(&lengths);
    n.node(op, &[&x, &lengths], vec![i("batch_axis", batch as i64), i("time_axis", time as i64)]);
}

fn one_hot(n: &mut Net, op: &str) {
    let rank = n.pick(&[1, 2]);
    let dims = n.dims(rank);
    let depth = 1 + n.below(6);
    let index = if n.opset() < 11 {
        let v = (0..dims.iter().product()).map(|_| n.below(depth) as i64).collect();
        n.either(Array::int(I64, &dims, v))
    } else {
        places(n, I64, &dims, depth + 1)
    };
    let depth = n.int(depth as i64);
    let values = n.fresh(F32, &[2]);
    let axis = n.below(rank + 1) as i64 - if n.one_in(3) { rank as i64 + 1 } else { 0 };
    n.node(op, &[&index, &depth, &values], vec![i("axis", axis)]);
}

fn hardmax(n: &mut Net, op: &str) {
    let x = n.at_least(F32, 1);
    let rank = n.rank(&x);
    let axis = n.axis(rank);
    n.node(op, &[&x], vec![i("axis", axis)]);
}

fn tensor_scatter(n: &mut Net, op: &str) {
    let (x, shape) = data(n, 3);
    let dtype = n.dtype(&x);
    let at = 1 + n.below(shape.len() - 1);
    let mut dims = shape.clone();
    dims[at] = 1 + n.below(shape[at]);
    let update = n.shaped(dtype, &dims);
    let circular = n.below(2) == 1;
    let room = if circular { shape[at] } else { shape[at] - dims[at] + 1 };
    let starts: Vec<i64> = (0..shape[0]).map(|_| n.below(room) as i64).collect();
    let starts = if n.one_in(4) { String::new() } else { n.either(Array::i64s(&starts)) };
    let mode = if circular { "circular" } else { "linear" };
    n.node(op, &[&x, &update, &starts], vec![i("axis", at as i64), s("mode", mode)]);
}

/// What a `MaxPool` without overlaps has taken, put back.
fn max_unpool(n: &mut Net, op: &str) {
    let whole = |s: &[usize]| s.len() == 4 && s.iter().all(|&d| d > 0) && s[2..].iter().all(|d| d % 2 == 0);
    let x = n.that(F32, whole, |n| vec![1 + n.below(2), 1 + n.below(3), 2 + 2 * n.below(3), 2 + 2 * n.below(3)]);
    let window = || vec![is("kernel_shape", &[2, 2]), is("strides", &[2, 2])];
    let pooled = n.nodes("MaxPool", &[&x], 2, window());
    n.node(op, &[&pooled[0], &pooled[1]], window());
    n.give(&pooled[..1]);
}

fn non_max_suppression(n: &mut Net, op: &str) {
    let (batches, boxes, classes) = (1 + n.below(2), 1 + n.below(6), 1 + n.below(2));
    let mut corners = Vec::new();
    for _ in 0..batches * boxes {
        let (y, x) = (n.below(64) as f64 / 32.0, n.below(64) as f64 / 32.0);
        let (h, w) = ((1 + n.below(50)) as f64 / 37.0, (1 + n.below(50)) as f64 / 37.0);
        corners.extend([y, x, y + h, x + w].map(|v| f64::from(v as f32)));
    }
    // No two scores alike: nothing says which of them comes first.
    let count = batches * classes * boxes;
    let mut scores: Vec<f64> = (0..count).map(|k| k as f64 / count as f64).collect();
    for k in (1..count).rev() {
        scores.swap(k, n.below(k + 1));
    }
    let scores = scores.into_iter().map(|v| f64::from(v as f32)).collect();
    let boxes_name = n.input(Array::f32(&[batches, boxes, 4], corners));
    let scores = n.input(Array::f32(&[batches, classes, boxes], scores));
    let most = 1 + n.below(boxes) as i64;
    let (most, overlap, least) = (n.ints(&[most]), n.below(8) as f64 / 8.0, n.below(8) as f64 / 9.0);
    let (overlap, least) = (Array::f32(&[1], vec![overlap]), Array::f32(&[1], vec![f64::from(least as f32)]));
    let (overlap, least) = (n.constant(overlap), n.constant(least));
    n.node(op, &[&boxes_name, &scores, &most, &overlap, &least], vec![i("center_point_box", n.below(2) as i64)]);
}

fn tf_idf(n: &mut Net, op: &str) {
    let dtype = n.pick(&[I64, I32]);
    let shape = if n.below(2) == 1 { vec![1 + n.below(3), 3 + n.below(6)] } else { vec![3 + n.below(6)] };
    let len = shape.iter().product();
    let words = (0..len).map(|_| n.below(5) as i64).collect();
    let x = n.either(Array::int(dtype, &shape, words));
    // Four words alone and three pairs of them.
    let pool = [0, 1, 2, 4, 0, 1, 2, 2, 3, 1];
    let mode = n.pick(&["TF", "IDF", "TFIDF"]);
    let (least, most) = n.pick(&[(1, 2), (1, 1), (2, 2)]);
    let weights: Vec<f32> = (0..7).map(|_| n.real() as f32).collect();
    let attributes = vec![
        i("min_gram_length", least),
        i("max_gram_length", most),
        i("max_skip_count", n.below(3) as i64),
        s("mode", mode),
        is("ngram_counts", &[0, 4]),
        is(
            "ngram_indexes",
            if n.below(2) == 1 && mode == "TF" { &[3, 0, 1, 6, 2, 5, 4] } else { &[0, 1, 2, 3, 4, 5, 6] },
        ),
        is("pool_int64s", &pool),
        fs("weights", &weights),
    ];
    n.node(op, &[&x], attributes);
}
