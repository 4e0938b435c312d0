//! Samples of pictures, and boxes in them.

use kinglet::DType;

use super::Call;
use crate::array::Numbers;
use crate::graph::{SampleMode, SamplePadding};

/// The number of the pixel at `i` of an axis of `n`, `None` for a zero.
fn pixel(i: i64, n: i64, padding: SamplePadding, corners: bool) -> Option<usize> {
    let mirrored = || {
        // The picture and its mirror image beside it, over and over; of aligned corners each outermost pixel is there once.
        let both: Vec<i64> =
            if corners { (0..n).chain((1..n - 1).rev()).collect() } else { (0..n).chain((0..n).rev()).collect() };
        both[i.rem_euclid(both.len() as i64) as usize]
    };
    let at = match padding {
        SamplePadding::Zeros => i,
        SamplePadding::Border => i.clamp(0, n - 1),
        SamplePadding::Reflection => mirrored(),
    };
    (0..n).contains(&at).then_some(at as usize)
}

/// Keys' cubic of a distance.
fn cubic(d: f64) -> f64 {
    let (a, d) = (-0.75, d.abs());
    match d {
        d if d <= 1.0 => (a + 2.0) * d.powi(3) - (a + 3.0) * d.powi(2) + 1.0,
        d if d < 2.0 => a * d.powi(3) - 5.0 * a * d.powi(2) + 8.0 * a * d - 4.0 * a,
        _ => 0.0,
    }
}

/// The pixels around a coordinate with their weights.
fn around(v: f64, n: usize, mode: SampleMode, padding: SamplePadding, corners: bool) -> Vec<(usize, f64)> {
    let size = n as f64;
    let at = if corners { (v + 1.0) / 2.0 * (size - 1.0) } else { ((v + 1.0) * size - 1.0) / 2.0 };
    let at = at.clamp(-1e9, 1e9);
    let floor = at.floor() as i64;
    let of: Vec<(i64, f64)> = match mode {
        SampleMode::Nearest => vec![(at.round_ties_even() as i64, 1.0)],
        SampleMode::Linear => (floor..floor + 2).map(|i| (i, 1.0 - (at - i as f64).abs())).collect(),
        SampleMode::Cubic => (floor - 1..floor + 3).map(|i| (i, cubic(at - i as f64))).collect(),
    };
    of.into_iter().filter_map(|(i, weight)| Some((pixel(i, n as i64, padding, corners)?, weight))).collect()
}

pub(super) fn grid_sample(call: &Call<'_>, mode: SampleMode, padding: SamplePadding, corners: bool) -> Numbers {
    let (x, grid) = (call.real(0), call.real(1));
    let axes = x.shape.len() - 2;
    let (extents, channels) = (&x.shape[1..=axes], x.shape[axes + 1]);
    let each = grid.v.len() / axes / x.shape[0];
    let mut y = Vec::new();
    for (s, place) in grid.v.chunks(axes).enumerate() {
        // Pixels with their weights, axis by axis.
        let mut pixels = vec![(s / each, 1.0)];
        for (&n, &v) in extents.iter().zip(place.iter().rev()) {
            let along = around(v, n, mode, padding, corners);
            pixels = pixels.iter().flat_map(|&(p, w)| along.iter().map(move |&(i, u)| (p * n + i, w * u))).collect();
        }
        y.extend((0..channels).map(|c| pixels.iter().map(|&(p, w)| w * x.v[p * channels + c]).sum::<f64>()));
    }
    Numbers::F(y)
}

/// The two pixels next to a point of an axis, with their weights.
type Between = [(usize, f64); 2];

/// The points of a bin along an axis: how many there are, and those within the picture.
fn points([from, to]: [f64; 2], [bin, bins]: [usize; 2], extent: usize, ratio: u32, least: f64) -> (u64, Vec<Between>) {
    let each = (to - from).max(least) / bins as f64;
    let count = if ratio > 0 { ratio.into() } else { each.ceil() as u64 };
    let last = extent - 1;
    let point = |i: u64| {
        let at = from + bin as f64 * each + (i as f64 + 0.5) * each / count as f64;
        (-1.0..=extent as f64).contains(&at).then(|| {
            let at = at.max(0.0);
            let low = at.floor() as usize;
            let far = at - low as f64;
            if low >= last { [(last, 1.0), (last, 0.0)] } else { [(low, 1.0 - far), (low + 1, far)] }
        })
    };
    (count, (0..count).filter_map(point).collect())
}

pub(super) fn roi_align(call: &Call<'_>, ratio: u32, scale: f64, half_pixel: bool, largest: bool) -> Numbers {
    let (x, regions, pictures) = (call.real(0), call.real(1), call.array(2).ints());
    let (&[batch, height, width, channels], &[_, down, across, _]) = (x.shape, &call.output().shape[..]) else {
        panic!("regions of pictures of shape {:?}", x.shape)
    };
    let nothing = if call.output().dtype == DType::F32 { f64::NAN } else { 0.0 };
    let (offset, least) = if half_pixel { (0.5, f64::NEG_INFINITY) } else { (0.0, 1.0) };
    let larger = |a: f64, b: f64| if b > a || b.is_nan() { b } else { a };
    let mut y = Vec::new();
    for (corners, &picture) in regions.v.chunks(4).zip(pictures.iter()) {
        let Some(picture) = usize::try_from(picture).ok().filter(|&i| i < batch) else {
            y.resize(y.len() + down * across * channels, nothing);
            continue;
        };
        let at = |i: usize| (corners[i] * scale - offset).clamp(-16_777_216.0, 16_777_216.0);
        for (i, j) in (0..down).flat_map(|i| (0..across).map(move |j| (i, j))) {
            let (n, rows) = points([at(1), at(3)], [i, down], height, ratio, least);
            let (m, columns) = points([at(0), at(2)], [j, across], width, ratio, least);
            let count = n * m;
            // A point outside is a zero.
            let outside = ((rows.len() * columns.len()) as u64) < count;
            for channel in 0..channels {
                let pixel = |i: usize, j: usize| x.v[((picture * height + i) * width + j) * channels + channel];
                let across = |i: usize, u: f64| columns.iter().flatten().map(move |&(j, v)| u * v * pixel(i, j));
                let products = rows.iter().flatten().flat_map(|&(i, u)| across(i, u));
                y.push(match largest {
                    true => outside.then_some(0.0).into_iter().chain(products).reduce(larger).unwrap_or(0.0),
                    false => products.sum::<f64>() / count.max(1) as f64,
                });
            }
        }
    }
    Numbers::F(y)
}

/// How much of what two boxes cover is covered by both. Boxes are ends along either axis.
fn overlap(a: &[(f64, f64); 2], b: &[(f64, f64); 2]) -> f64 {
    let area = |a: &[(f64, f64); 2]| a.iter().map(|(from, to)| to - from).product::<f64>();
    let shared: f64 = a.iter().zip(b).map(|(a, b)| (a.1.min(b.1) - a.0.max(b.0)).max(0.0)).product();
    if shared > 0.0 && area(a) > 0.0 && area(b) > 0.0 { shared / (area(a) + area(b) - shared) } else { 0.0 }
}

pub(super) fn non_max_suppression(call: &Call<'_>, most: usize, centers: bool) -> Numbers {
    let (boxes, scores) = (call.real(0), call.real(1));
    let scalar = |i: usize| call.get_real(i).map(|s| s.v[0]);
    let (too_much, least) = (scalar(2).unwrap_or(0.0), scalar(3));
    let [batch, classes, n] = scores.shape else { panic!("scores of shape {:?}", scores.shape) };
    let corners = |picture: usize, i: usize| {
        let v = &boxes.v[(picture * n + i) * 4..][..4];
        let along = |d: usize| match centers {
            true => (v[d] - v[d + 2] / 2.0, v[d] + v[d + 2] / 2.0),
            false => (v[d].min(v[d + 2]), v[d].max(v[d + 2])),
        };
        [along(0), along(1)]
    };
    let mut y = Vec::new();
    for (k, scores) in scores.v.chunks(*n).enumerate() {
        let (picture, class) = (k / classes, k % classes);
        let mut order: Vec<usize> =
            (0..*n).filter(|&i| !scores[i].is_nan() && least.is_none_or(|least| scores[i] > least)).collect();
        order.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).expect("numbers"));
        let mut selected: Vec<usize> = Vec::new();
        for i in order {
            let covered = |&j: &usize| overlap(&corners(picture, i), &corners(picture, j)) > too_much;
            if selected.len() < most && !selected.iter().any(covered) {
                selected.push(i);
                y.extend([picture as i64, class as i64, i as i64]);
            }
        }
    }
    y.resize(batch * classes * most * 3, -1);
    Numbers::I(y)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::graph::Op;

    fn sampled(mode: SampleMode, padding: SamplePadding, align_corners: bool, places: &[f64]) -> Vec<f64> {
        let x = f(&[1, 4, 1], &[1.0, 2.0, 4.0, 8.0]);
        let (n, op) = (places.len(), Op::GridSample { mode, padding, align_corners });
        reals(op, &[x, f(&[1, n, 1], places)], &[1, n, 1])
    }

    #[test]
    fn samples_between_pixels_and_outside() {
        use {SampleMode::*, SamplePadding::*};
        assert_eq!(sampled(Linear, Zeros, true, &[-1.0, 1.0, 0.0, 5.0]), [1.0, 8.0, 3.0, 0.0]);
        // The outer edge is half a pixel from the centre.
        assert_eq!(sampled(Linear, Zeros, false, &[-1.0, 1.0, 0.0]), [0.5, 4.0, 3.0]);
        assert_eq!(sampled(Linear, Border, false, &[-1.0, 9.0]), [1.0, 8.0]);
        assert_eq!(sampled(Nearest, Border, true, &[-0.3, 0.9]), [2.0, 8.0]);
        // −5/3 lies one pixel before the first.
        assert_eq!(sampled(Nearest, Reflection, true, &[-5.0 / 3.0, 5.0 / 3.0]), [2.0, 4.0]);
        assert_eq!(sampled(Nearest, Reflection, false, &[-1.25, 1.25]), [1.0, 8.0]);
        assert_close(&sampled(Cubic, Border, true, &[-1.0, 1.0 / 3.0]), &[1.0, 4.0]);
        assert_close(&sampled(Cubic, Zeros, true, &[0.0]), &[0.59375 * 6.0 - 0.09375 * 9.0]);
    }

    #[test]
    fn axes_are_named_from_the_last() {
        let op = Op::GridSample { mode: SampleMode::Linear, padding: SamplePadding::Zeros, align_corners: true };
        let grid = f(&[1, 1, 3, 2], &[-1.0, -1.0, 1.0, -1.0, -1.0, 1.0]);
        assert_eq!(reals(op, &[iota(&[1, 2, 3, 1]), grid], &[1, 1, 3, 1]), [0.0, 2.0, 3.0]);
    }

    #[test]
    fn regions_are_brought_to_one_size() {
        let aligned = |op: Op, corners: &[f64], bins: &[usize]| {
            let x = f(&[1, 2, 4, 1], &[1.0, 2.0, 4.0, 8.0, 1.0, 2.0, 4.0, 8.0]);
            let regions = [x, f(&[1, 4], corners), int(DType::I64, &[1], &[0])];
            reals(op, &regions, &[&[1], bins, &[1]].concat())
        };
        let op = |ratio, half_pixel, largest| Op::RoiAlign { ratio, scale: 0.5, half_pixel, largest };
        // The whole picture, whose coordinates are twice its pixels'.
        let whole = [0.0, 0.0, 8.0, 4.0];
        assert_eq!(aligned(op(0, true, false), &whole, &[1, 4]), [1.0, 2.0, 4.0, 8.0]);
        assert_eq!(aligned(op(0, true, false), &whole, &[1, 2]), [1.5, 6.0]);
        assert_eq!(aligned(op(1, true, false), &whole, &[1, 2]), [1.5, 6.0]);
        // Half a pixel further, where the last point is beyond the last pixel's centre.
        assert_eq!(aligned(op(0, false, false), &whole, &[1, 4]), [1.5, 3.0, 6.0, 8.0]);
        // Not the largest sample, but the largest weighted pixel.
        assert_eq!(aligned(op(1, true, true), &whole, &[1, 2]), [0.5, 2.0]);
        // Two of four points are outside; a region without extent has no points, or is a pixel.
        assert_eq!(aligned(op(2, true, false), &[-16.0, 0.0, 6.0, 2.0], &[1, 1]), [0.5]);
        assert_eq!(aligned(op(0, true, true), &[2.0, 2.0, 2.0, 2.0], &[1, 1]), [0.0]);
        assert_eq!(aligned(op(0, false, false), &[2.0, 0.0, 2.0, 0.0], &[1, 1]), [3.0]);
    }

    #[test]
    fn selects_boxes() {
        let boxes =
            [[0.0, 0.0, 1.0, 1.0], [0.0, 0.1, 1.0, 1.1], [1.0, 0.9, 0.0, -0.1], [0.0, 10.0, 1.0, 11.0]].concat();
        let scores = [0.9, 0.75, 0.6, 0.95, 0.5, 0.5, 0.5, f64::NAN];
        let run = |most: usize, least: f64| {
            let inputs = [f(&[1, 4, 4], &boxes), f(&[1, 2, 4], &scores), f(&[], &[0.5]), f(&[1], &[least])];
            ints(Op::NonMaxSuppression { most, centers: false }, &inputs, DType::I64, &[2 * most, 3])
        };
        assert_eq!(run(2, 0.0), [0, 0, 3, 0, 0, 0, 0, 1, 0, -1, -1, -1]);
        assert_eq!(run(1, 0.5), [0, 0, 3, -1, -1, -1]);
        let centers = [f(&[1, 2, 4], &[1.0, 1.0, 2.0, 2.0, 2.0, 1.0, 2.0, 2.0]), f(&[1, 1, 2], &[1.0, 2.0])];
        let op = Op::NonMaxSuppression { most: 2, centers: true };
        // They share a third; without a limit any overlap is too much.
        assert_eq!(ints(op, &centers, DType::I64, &[2, 3]), [0, 0, 1, -1, -1, -1]);
    }
}
