//! Convolutions and pools, and what else slides windows.

use kinglet::DType::{self, F32, I8, I64, U8};
use kinglet_compiler::array::Array;
use kinglet_onnx::AttributeProto;

use super::Recipe;
use crate::random_graphs::attributes::{f, i, is, s};
use crate::random_graphs::net::Net;

pub(super) fn recipe(name: &str) -> Option<Recipe> {
    Some(match name {
        "Conv" => |n, op| conv(n, op, F32, F32, vec![]),
        "ConvInteger" => conv_integer,
        "DeformConv" => deform_conv,
        "ConvTranspose" => conv_transpose,
        "MaxPool" | "AveragePool" | "LpPool" => pool,
        "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" => global,
        "LRN" => lrn,
        "Col2Im" => col2im,
        "CausalConvWithState" => causal,
        "GridSample" => grid_sample,
        "RoiAlign" => roi_align,
        "AffineGrid" => affine_grid,
        _ => return None,
    })
}

/// A tensor with channels and `axes` spatial axes, none of them empty.
pub(super) fn picture(n: &mut Net, dtype: DType, axes: usize) -> (String, Vec<usize>) {
    let x = n.that(
        dtype,
        |s| s.len() == axes + 2 && !s.contains(&0),
        |n| {
            let lead = [1 + n.below(2), n.pick(&[2, 1, 3, 4, 8])];
            lead.into_iter().chain((0..axes).map(|_| 1 + n.below(if axes > 2 { 4 } else { 8 }))).collect()
        },
    );
    let shape = n.shape(&x);
    (x, shape)
}

/// A window that fits into these extents: its kernel, and attributes for all but that.
pub(super) fn window(n: &mut Net, extents: &[usize], dilated: bool) -> (Vec<usize>, Vec<AttributeProto>) {
    let rank = extents.len();
    let pads: Vec<i64> = (0..2 * rank).map(|_| n.pick(&[0, 0, 1, 1, 2])).collect();
    let same = n.one_in(5);
    let dilations: Vec<i64> = (0..rank).map(|_| if dilated && !same && n.one_in(5) { 2 } else { 1 }).collect();
    let mut kernel = Vec::new();
    for d in 0..rank {
        let padded = extents[d] as i64 + if same { 0 } else { pads[d] + pads[rank + d] };
        let most = (padded - 1) / dilations[d] + 1;
        kernel.push(1 + n.below(most.clamp(1, 4) as usize));
    }
    let strides: Vec<i64> = (0..rank).map(|_| n.pick(&[1, 1, 2, 3])).collect();
    let mut attributes = vec![is("strides", &strides)];
    if dilated {
        attributes.push(is("dilations", &dilations));
    }
    if same {
        attributes.push(s("auto_pad", n.pick(&["SAME_UPPER", "SAME_LOWER", "VALID"])));
    } else {
        attributes.push(is("pads", &pads));
    }
    (kernel, attributes)
}

/// Groups and output channels of a product of windows.
pub(super) fn channels(n: &mut Net, of: usize) -> (usize, usize) {
    let groups: Vec<usize> = [1, 1, of, 2].into_iter().filter(|g| of.is_multiple_of(*g)).collect();
    let groups = n.pick(&groups);
    let each = n.pick(&[1, 2, 3, 9]);
    (groups, groups * each.min(if groups > 1 { 2 } else { 9 }))
}

/// Constant weights as a rule, or computed ones.
fn weights(n: &mut Net, dtype: DType, shape: &[usize]) -> String {
    if n.one_in(6) && !n.is_special() { n.shaped(dtype, shape) } else { n.weights(dtype, shape) }
}

pub(super) fn conv(n: &mut Net, op: &str, of: DType, by: DType, mut more: Vec<AttributeProto>) {
    let axes = n.pick(&[2, 2, 1, 3]);
    let (x, shape) = picture(n, of, axes);
    let (kernel, mut attributes) = window(n, &shape[2..], true);
    let (groups, outputs) = channels(n, shape[1]);
    let dims: Vec<usize> = [outputs, shape[1] / groups].into_iter().chain(kernel).collect();
    let w = weights(n, by, &dims);
    let bias = if by == F32 && n.below(2) == 1 { weights(n, F32, &[outputs]) } else { String::new() };
    attributes.push(i("group", groups as i64));
    attributes.append(&mut more);
    n.node(op, &[&x, &w, &bias], attributes);
}

fn deform_conv(n: &mut Net, op: &str) {
    let axes = n.pick(&[2, 2, 1, 3]);
    let (x, shape) = picture(n, F32, axes);
    let kernel: Vec<usize> = shape[2..].iter().map(|&d| 1 + n.below(d.min(3))).collect();
    let strides: Vec<i64> = (0..axes).map(|_| n.pick(&[1, 1, 2])).collect();
    let pads: Vec<i64> = (0..2 * axes).map(|_| n.pick(&[0, 0, 1])).collect();
    let places = (0..axes).map(|d| {
        let padded = shape[2 + d] + (pads[d] + pads[axes + d]) as usize;
        (padded - kernel[d]) / strides[d] as usize + 1
    });
    let places: Vec<usize> = places.collect();
    let sets: Vec<usize> = [1, 1, 2, shape[1]].into_iter().filter(|s| shape[1].is_multiple_of(*s)).collect();
    let (sets, (groups, outputs)) = (n.pick(&sets), channels(n, shape[1]));
    let taps: usize = sets * kernel.iter().product::<usize>();
    let of_taps = |each: usize| [&[shape[0], taps * each][..], &places].concat();
    // Nobody says where a place is that is no number, and one that is nearly a pixel's takes 0 times its neighbour, or next to 0.
    let tame = |n: &mut Net, shape: &[usize]| if n.is_special() { n.weights(F32, shape) } else { n.shaped(F32, shape) };
    let x = if n.is_special() { n.weights(F32, &shape) } else { x };
    let offsets = tame(n, &of_taps(axes));
    let w = weights(n, F32, &[&[outputs, shape[1] / groups], &kernel[..]].concat());
    let bias = if n.below(2) == 1 { weights(n, F32, &[outputs]) } else { String::new() };
    let mask = if n.below(2) == 1 { tame(n, &of_taps(1)) } else { String::new() };
    let attributes =
        vec![is("strides", &strides), is("pads", &pads), i("group", groups as i64), i("offset_group", sets as i64)];
    n.node(op, &[&x, &w, &offsets, &bias, &mask], attributes);
}

fn conv_integer(n: &mut Net, op: &str) {
    let (x, shape) = picture(n, U8, 2);
    let (kernel, mut attributes) = window(n, &shape[2..], true);
    let (groups, outputs) = channels(n, shape[1]);
    let dims: Vec<usize> = [outputs, shape[1] / groups].into_iter().chain(kernel).collect();
    let by = n.pick(&[I8, U8]);
    let w = weights(n, by, &dims);
    let zero = if n.below(2) == 1 { n.fresh(U8, &[]) } else { String::new() };
    attributes.push(i("group", groups as i64));
    n.node(op, &[&x, &w, &zero], attributes);
}

fn conv_transpose(n: &mut Net, op: &str) {
    let axes = n.pick(&[2, 1]);
    let (x, shape) = picture(n, F32, axes);
    let (groups, outputs) = channels(n, shape[1]);
    let kernel: Vec<usize> = (0..axes).map(|_| 1 + n.below(3)).collect();
    let strides: Vec<i64> = (0..axes).map(|_| n.pick(&[1, 2, 3])).collect();
    let mut attributes = vec![i("group", groups as i64), is("strides", &strides)];
    match n.below(4) {
        0 => {}
        1 => {
            let pads: Vec<i64> = (0..2 * axes).map(|k| n.below(kernel[k % axes]) as i64).collect();
            let room = |d: usize| (shape[2 + d] as i64 - 1) * strides[d] + kernel[d] as i64 > pads[d] + pads[axes + d];
            if (0..axes).all(room) {
                attributes.push(is("pads", &pads));
            }
        }
        2 => {
            let more: Vec<i64> = strides.iter().map(|&s| n.below(s as usize) as i64).collect();
            attributes.push(is("output_padding", &more));
        }
        // With a window below the stride ONNX Runtime's result is smaller than the input times the stride, which ONNX asks for.
        _ if (0..axes).all(|d| kernel[d] as i64 >= strides[d]) => {
            attributes.push(s("auto_pad", n.pick(&["SAME_UPPER", "SAME_LOWER"])))
        }
        _ => {}
    }
    let dims: Vec<usize> = [shape[1], outputs / groups].into_iter().chain(kernel).collect();
    let w = weights(n, F32, &dims);
    let bias = if n.below(2) == 1 { weights(n, F32, &[outputs]) } else { String::new() };
    n.node(op, &[&x, &w, &bias], attributes);
}

fn pool(n: &mut Net, op: &str) {
    let axes = n.pick(&[2, 2, 1, 3]);
    let (x, shape) = picture(n, F32, axes);
    let dilated = match op {
        "MaxPool" => n.opset() >= 10,
        "AveragePool" => n.opset() >= 19,
        _ => n.opset() >= 18,
    };
    // Pads stay below the kernel: a window that is nothing but padding has no maximum.
    let kernel: Vec<usize> = shape[2..].iter().map(|&d| 1 + n.below(d.min(4))).collect();
    let dilations: Vec<i64> =
        (0..axes).map(|d| if (kernel[d] - 1) * 2 < shape[2 + d] && n.one_in(5) { 2 } else { 1 }).collect();
    let strides: Vec<i64> = (0..axes).map(|_| n.pick(&[1, 1, 2, 3])).collect();
    let kernel_shape: Vec<i64> = kernel.iter().map(|&k| k as i64).collect();
    let mut attributes = vec![is("kernel_shape", &kernel_shape), is("strides", &strides)];
    let flat = dilations.iter().all(|&d| d == 1);
    if dilated && !flat {
        attributes.push(is("dilations", &dilations));
    }
    // With a stride beyond its window ONNX Runtime refuses the padding below 0 of MaxPool and AveragePool, and cuts for LpPool.
    let inside = strides.iter().zip(&kernel_shape).all(|(s, k)| s <= k);
    if flat && inside && n.one_in(4) {
        attributes.push(s("auto_pad", n.pick(&["SAME_UPPER", "SAME_LOWER", "VALID"])));
    } else {
        let pads: Vec<i64> = (0..2 * axes).map(|k| n.below(kernel[k % axes]) as i64).collect();
        attributes.push(is("pads", &pads));
        if n.opset() >= if op == "LpPool" { 18 } else { 10 } && n.one_in(4) {
            attributes.push(i("ceil_mode", 1));
        }
    }
    match op {
        "AveragePool" if n.opset() >= 7 => attributes.push(i("count_include_pad", n.below(2) as i64)),
        "LpPool" => attributes.push(i("p", n.pick(&[2, 1, 3]))),
        _ => {}
    }
    if op == "MaxPool" && n.opset() >= 8 && n.one_in(3) {
        let outputs = n.nodes(op, &[&x], 2, attributes);
        n.give(&outputs);
    } else {
        n.node(op, &[&x], attributes);
    }
}

fn global(n: &mut Net, op: &str) {
    let axes = n.pick(&[2, 1, 3]);
    let (x, _) = picture(n, F32, axes);
    n.node(op, &[&x], if op == "GlobalLpPool" { vec![i("p", n.pick(&[2, 1, 3]))] } else { vec![] });
}

fn lrn(n: &mut Net, op: &str) {
    let (x, _) = picture(n, F32, 2);
    let attributes =
        vec![i("size", n.pick(&[3, 1, 5])), f("alpha", 0.3), f("beta", n.pick(&[0.75, 0.5])), f("bias", 1.5)];
    n.node(op, &[&x], attributes);
}

fn col2im(n: &mut Net, op: &str) {
    let image = [2 + n.below(5), 2 + n.below(5)];
    let block = [1 + n.below(image[0].min(3)), 1 + n.below(image[1].min(3))];
    let strides = [n.pick(&[1, 2]), n.pick(&[1, 2])];
    let count: usize = (0..2).map(|d| (image[d] - block[d]) / strides[d] + 1).product();
    let channels = (1 + n.below(3)) * block[0] * block[1];
    let x = n.shaped(F32, &[1, channels, count]);
    let as_ints = |v: [usize; 2]| v.map(|v| v as i64);
    let (size, kernel) = (n.ints(&as_ints(image)), n.ints(&as_ints(block)));
    n.node(op, &[&x, &size, &kernel], vec![is("strides", &as_ints(strides))]);
}

fn causal(n: &mut Net, op: &str) {
    let (x, shape) = picture(n, F32, 1);
    let k = 1 + n.below(4);
    let w = weights(n, F32, &[shape[1], 1, k]);
    let bias = if n.below(2) == 1 { weights(n, F32, &[shape[1]]) } else { String::new() };
    let past = if k > 1 && n.below(2) == 1 { n.shaped(F32, &[shape[0], shape[1], k - 1]) } else { String::new() };
    let outputs = n.nodes(op, &[&x, &w, &bias, &past], 2, vec![s("activation", n.pick(&["none", "silu", "swish"]))]);
    n.give(&outputs[..if k > 1 { 2 } else { 1 }]);
}

fn grid_sample(n: &mut Net, op: &str) {
    let (x, shape) = picture(n, F32, 2);
    let (h, w) = (1 + n.below(4), 1 + n.below(4));
    // Nobody says where a place is that is no number.
    let dims = [shape[0], h, w, 2];
    let grid = if n.is_special() { n.weights(F32, &dims) } else { n.shaped(F32, &dims) };
    let modes = if n.opset() >= 20 { ["linear", "nearest", "cubic"] } else { ["bilinear", "nearest", "bicubic"] };
    let attributes = vec![
        s("mode", n.pick(&modes)),
        s("padding_mode", n.pick(&["zeros", "border", "reflection"])),
        i("align_corners", n.below(2) as i64),
    ];
    n.node(op, &[&x, &grid], attributes);
}

fn roi_align(n: &mut Net, op: &str) {
    let (x, shape) = picture(n, F32, 2);
    let count = 1 + n.below(3);
    let regions = n.weights(F32, &[count, 4]);
    let of = (0..count).map(|_| n.below(shape[0]) as i64).collect();
    let of = n.either(Array::int(I64, &[count], of));
    let mut attributes = vec![
        s("mode", n.pick(&["avg", "max"])),
        i("output_height", 1 + n.below(3) as i64),
        i("output_width", 1 + n.below(3) as i64),
        i("sampling_ratio", n.pick(&[2, 1, 0])),
        f("spatial_scale", n.pick(&[1.0, 0.5, 3.0])),
    ];
    if n.opset() >= 16 {
        attributes.push(s("coordinate_transformation_mode", n.pick(&["half_pixel", "output_half_pixel"])));
    }
    n.node(op, &[&x, &regions, &of], attributes);
}

fn affine_grid(n: &mut Net, op: &str) {
    let batch = 1 + n.below(2);
    let theta = n.shaped(F32, &[batch, 2, 3]);
    // Of an axis of one position both ends are its corner.
    let (h, w) = (2 + n.below(4) as i64, 2 + n.below(4) as i64);
    let size = n.constant(Array::i64s(&[batch as i64, 1, h, w]));
    n.node(op, &[&theta, &size], vec![i("align_corners", n.below(2) as i64)]);
}
