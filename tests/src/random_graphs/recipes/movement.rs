//! What moves, repeats, cuts and joins elements.

use kinglet::DType::{self, Bool, F32, I32, I64, U8};
use kinglet_compiler::array::Array;

use super::Recipe;
use super::reduce::some_axes;
use crate::random_graphs::attributes::{f, fs, i, is, s};
use crate::random_graphs::net::Net;

/// What movements move: mostly reals.
const MOVED: &[DType] = &[F32, F32, F32, I64, I32, U8, Bool];

pub(super) fn recipe(name: &str) -> Option<Recipe> {
    Some(match name {
        "Transpose" => transpose,
        "Flatten" => flatten,
        "Reshape" => reshape,
        "Squeeze" => squeeze,
        "Unsqueeze" => unsqueeze,
        "Concat" => concat,
        "Split" => split,
        "Slice" => slice,
        "Expand" => expand,
        "Tile" => tile,
        "Pad" => pad,
        "DepthToSpace" => depth_to_space,
        "SpaceToDepth" => space_to_depth,
        "CenterCropPad" => center_crop_pad,
        "Resize" => resize,
        "Upsample" => upsample,
        "Trilu" => trilu,
        _ => return None,
    })
}

fn moved(n: &mut Net, least: usize) -> (String, Vec<usize>) {
    let dtype = n.pick(MOVED);
    let x = n.at_least(dtype, least);
    let shape = n.shape(&x);
    (x, shape)
}

fn transpose(n: &mut Net, op: &str) {
    let (x, shape) = moved(n, 1);
    let mut rest: Vec<i64> = (0..shape.len() as i64).collect();
    let mut perm = Vec::new();
    while !rest.is_empty() {
        let k = n.below(rest.len());
        perm.push(rest.remove(k));
    }
    n.node(op, &[&x], if n.one_in(5) { vec![] } else { vec![is("perm", &perm)] });
}

fn flatten(n: &mut Net, op: &str) {
    // Before operator set 9 of reals alone.
    let x = if n.opset() < 9 { n.at_least(F32, 1) } else { moved(n, 1).0 };
    let shape = n.shape(&x);
    let least = if n.opset() >= 11 { shape.len() } else { 0 };
    let axis = n.below(shape.len() + 1 + least) as i64 - least as i64;
    n.node(op, &[&x], vec![i("axis", axis)]);
}

/// As many elements in other axes: neighbours joined, and one of them cut in two.
fn other_shape(n: &mut Net, shape: &[usize]) -> Vec<i64> {
    let mut to: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
    if to.len() > 1 && n.below(3) > 0 {
        let k = n.below(to.len() - 1);
        let next = to.remove(k + 1);
        to[k] *= next;
    }
    if !to.is_empty() && n.below(2) == 1 {
        let k = n.below(to.len());
        let by = n.pick(&[2, 1, 3, 4]);
        if to[k] % by == 0 {
            to[k] /= by;
            let at = k + n.below(2);
            to.insert(at, by);
        }
    }
    to
}

fn reshape(n: &mut Net, op: &str) {
    let (x, shape) = moved(n, 0);
    let mut to = other_shape(n, &shape);
    if !to.is_empty() && !to.contains(&0) && n.below(2) == 1 {
        let k = n.below(to.len());
        to[k] = -1;
    }
    let to = n.ints(&to);
    n.node(op, &[&x, &to], vec![]);
}

fn squeeze(n: &mut Net, op: &str) {
    let dtype = n.pick(MOVED);
    let x = n.that(
        dtype,
        |s| s.contains(&1),
        |n| {
            let mut shape = n.dims(2);
            let at = n.below(3);
            shape.insert(at, 1);
            shape
        },
    );
    let shape = n.shape(&x);
    let ones: Vec<i64> = (0..shape.len()).filter(|&d| shape[d] == 1).map(|d| d as i64).collect();
    let axes: Vec<i64> = ones.iter().copied().filter(|_| n.below(3) < 2).collect();
    if axes.is_empty() {
        n.node(op, &[&x], vec![]);
    } else if n.opset() >= 13 {
        let axes = n.ints(&axes);
        n.node(op, &[&x, &axes], vec![]);
    } else {
        n.node(op, &[&x], vec![is("axes", &axes)]);
    }
}

fn unsqueeze(n: &mut Net, op: &str) {
    let (x, shape) = moved(n, 0);
    let axis = n.below(shape.len() + 1) as i64;
    let axes = if n.one_in(3) { vec![axis, shape.len() as i64 + 1] } else { vec![axis] };
    if n.opset() >= 13 {
        let axes = n.ints(&axes);
        n.node(op, &[&x, &axes], vec![]);
    } else {
        n.node(op, &[&x], vec![is("axes", &axes)]);
    }
}

fn concat(n: &mut Net, op: &str) {
    let (x, shape) = moved(n, 1);
    let axis = n.axis(shape.len());
    let at = axis.rem_euclid(shape.len() as i64) as usize;
    let dtype = n.dtype(&x);
    let mut inputs = vec![x.clone()];
    for _ in 0..n.below(4) {
        let like = |s: &[usize]| s.len() == shape.len() && (0..s.len()).all(|d| d == at || s[d] == shape[d]);
        let next = n.that(dtype, like, |n| {
            let mut shape = shape.clone();
            shape[at] = n.dim();
            shape
        });
        inputs.push(next);
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    n.node(op, &inputs, vec![i("axis", axis)]);
}

fn split(n: &mut Net, op: &str) {
    let (x, shape) = moved(n, 1);
    let axis = n.axis(shape.len());
    let len = shape[axis.rem_euclid(shape.len() as i64) as usize];
    let first = n.below(len + 1) as i64;
    let sizes = [first, len as i64 - first];
    let outputs = if n.opset() >= 18 && n.one_in(3) {
        n.nodes(op, &[&x], 2, vec![i("axis", axis), i("num_outputs", 2)])
    } else if n.opset() >= 13 {
        let sizes = n.ints(&sizes);
        n.nodes(op, &[&x, &sizes], 2, vec![i("axis", axis)])
    } else {
        n.nodes(op, &[&x], 2, vec![i("axis", axis), is("split", &sizes)])
    };
    n.give(&outputs);
}

fn slice(n: &mut Net, op: &str) {
    let (x, shape) = moved(n, 1);
    let axes = some_axes(n, shape.len());
    let (mut starts, mut ends, mut steps) = (Vec::new(), Vec::new(), Vec::new());
    for &axis in &axes {
        let len = shape[axis.rem_euclid(shape.len() as i64) as usize];
        let step = if n.opset() >= 10 { n.pick(&[1, 2, -1, 3, -2]) } else { 1 };
        let (a, b) = (n.below(len + 1) as i64, n.below(len + 1) as i64);
        let (lo, hi) = (a.min(b), a.max(b));
        let far = n.one_in(4);
        let (start, end) = match (step > 0, far) {
            (true, false) => (lo, hi),
            (true, true) => (lo - len as i64, i64::MAX),
            (false, false) => (hi, lo),
            (false, true) => (hi, i64::MIN),
        };
        starts.push(start);
        ends.push(end);
        steps.push(step);
    }
    if n.opset() < 10 {
        n.node(op, &[&x], vec![is("axes", &axes), is("starts", &starts), is("ends", &ends)]);
        return;
    }
    let (starts, ends, axes, steps) = (n.ints(&starts), n.ints(&ends), n.ints(&axes), n.ints(&steps));
    n.node(op, &[&x, &starts, &ends, &axes, &steps], vec![]);
}

fn expand(n: &mut Net, op: &str) {
    let (x, shape) = moved(n, 0);
    let mut to: Vec<i64> = shape.iter().map(|&d| if d == 1 { 1 + n.below(4) as i64 } else { d as i64 }).collect();
    if to.len() < 4 && n.below(2) == 1 {
        to.insert(0, 1 + n.below(3) as i64);
    }
    let to = n.ints(&to);
    n.node(op, &[&x, &to], vec![]);
}

fn tile(n: &mut Net, op: &str) {
    let (x, shape) = moved(n, 1);
    let repeats: Vec<i64> = shape.iter().map(|_| n.pick(&[1, 2, 3])).collect();
    let repeats = n.ints(&repeats);
    n.node(op, &[&x, &repeats], vec![]);
}

fn pad(n: &mut Net, op: &str) {
    let x = n.at_least(F32, 1);
    let shape = n.shape(&x);
    let mut modes = vec!["constant", "reflect", "edge"];
    if n.opset() >= 19 {
        modes.push("wrap");
    }
    let mode = n.pick(&modes);
    let most = |d: usize| match mode {
        "constant" => 3,
        "edge" if d > 0 => 3,
        "reflect" => d.saturating_sub(1).min(2),
        _ => d.min(2),
    };
    let pads: Vec<i64> = (0..2 * shape.len()).map(|k| n.below(1 + most(shape[k % shape.len()])) as i64).collect();
    let value = if mode == "constant" { n.real() } else { 0.0 };
    if n.opset() < 11 {
        n.node(op, &[&x], vec![s("mode", mode), is("pads", &pads), f("value", value as f32)]);
        return;
    }
    // Cuts are pads below 0.
    let cut = mode == "constant" && n.one_in(4) && shape.iter().all(|&d| d > 1);
    let pads: Vec<i64> = pads.iter().enumerate().map(|(k, &p)| if cut && k == 0 { -1 } else { p }).collect();
    let (pads, value) = (n.ints(&pads), n.scalar(value));
    n.node(op, &[&x, &pads, if mode == "constant" { &value } else { "" }], vec![s("mode", mode)]);
}

fn depth_to_space(n: &mut Net, op: &str) {
    let x = n.that(
        F32,
        |s| s.len() == 4 && s[1] % 4 == 0,
        |n| {
            let mut shape = n.dims(4);
            shape[1] = 4 * n.pick(&[1, 2, 3]);
            shape
        },
    );
    let mut attributes = vec![i("blocksize", 2)];
    if n.opset() >= 11 && n.below(2) == 1 {
        attributes.push(s("mode", "CRD"));
    }
    n.node(op, &[&x], attributes);
}

fn space_to_depth(n: &mut Net, op: &str) {
    let block = n.pick(&[2, 3, 1]);
    let x = n.that(
        F32,
        |s| s.len() == 4 && s[2] % block == 0 && s[3] % block == 0,
        |n| {
            let mut shape = n.dims(4);
            shape[2] *= block;
            shape[3] *= block;
            shape
        },
    );
    n.node(op, &[&x], vec![i("blocksize", block as i64)]);
}

fn center_crop_pad(n: &mut Net, op: &str) {
    let x = n.at_least(F32, 1);
    let rank = n.rank(&x);
    let axes = some_axes(n, rank);
    let axes = if axes.is_empty() { vec![0] } else { axes };
    let to: Vec<i64> = axes.iter().map(|_| 1 + n.below(8) as i64).collect();
    let to = n.ints(&to);
    n.node(op, &[&x, &to], vec![is("axes", &axes)]);
}

fn picture(n: &mut Net) -> (String, Vec<usize>) {
    let rank = n.pick(&[4, 3]);
    let x = n.ranked(F32, rank);
    let shape = n.shape(&x);
    (x, shape)
}

fn resize(n: &mut Net, op: &str) {
    let (x, shape) = picture(n);
    let mode = n.pick(&["nearest", "linear", "cubic"]);
    let mode = if mode == "cubic" && (shape.len() != 4 || n.opset() < 11) { "linear" } else { mode };
    let mut attributes = vec![s("mode", mode)];
    let to: Vec<usize> = shape.iter().enumerate().map(|(d, &len)| if d < 2 { len } else { 1 + n.below(9) }).collect();
    let factors: Vec<f64> = (0..shape.len()).map(|d| to[d] as f64 / shape[d].max(1) as f64).collect();
    if n.opset() < 11 {
        let scales = n.constant(Array::f32(&[factors.len()], factors.iter().map(|&v| f64::from(v as f32)).collect()));
        n.node(op, &[&x, &scales], attributes);
        return;
    }
    let how = n.pick(&["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]);
    attributes.push(s("coordinate_transformation_mode", how));
    if mode == "nearest" {
        attributes.push(s("nearest_mode", n.pick(&["round_prefer_floor", "floor", "ceil", "round_prefer_ceil"])));
    }
    if mode == "cubic" && n.below(2) == 1 {
        attributes.push(i("exclude_outside", 1));
    }
    if n.opset() >= 18 && mode != "nearest" && n.one_in(4) {
        attributes.push(i("antialias", 1));
    }
    // Before operator set 13 neither may be absent.
    let region = if n.opset() < 13 { n.constant(Array::f32(&[0], vec![])) } else { String::new() };
    if n.below(2) == 1 {
        let scales = n.constant(Array::f32(&[factors.len()], factors.iter().map(|&v| f64::from(v as f32)).collect()));
        n.node(op, &[&x, &region, &scales], attributes);
    } else {
        let sizes: Vec<i64> = to.iter().map(|&d| d as i64).collect();
        let sizes = n.ints(&sizes);
        let none = if n.opset() < 13 { n.constant(Array::f32(&[0], vec![])) } else { String::new() };
        n.node(op, &[&x, &region, &none, &sizes], attributes);
    }
}

fn upsample(n: &mut Net, op: &str) {
    let (x, shape) = picture(n);
    let factors: Vec<f32> = (0..shape.len()).map(|d| if d < 2 { 1.0 } else { n.pick(&[2.0, 1.0, 1.5, 3.0]) }).collect();
    let mode = n.pick(&["nearest", "linear"]);
    if n.opset() < 9 {
        n.node(op, &[&x], vec![s("mode", mode), fs("scales", &factors)]);
        return;
    }
    let scales = Array::f32(&[factors.len()], factors.iter().map(|&v| f64::from(v)).collect());
    let scales = n.constant(scales);
    n.node(op, &[&x, &scales], vec![s("mode", mode)]);
}

fn trilu(n: &mut Net, op: &str) {
    let dtype = n.pick(&[F32, F32, I64]);
    let x = n.at_least(dtype, 2);
    let k = n.below(7) as i64 - 3;
    let k = if n.below(2) == 1 { n.int(k) } else { String::new() };
    n.node(op, &[&x, &k], vec![i("upper", n.below(2) as i64)]);
}
