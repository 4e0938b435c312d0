//! Convolution and transposed convolution, in any number of spatial axes.

use std::borrow::Cow;

use super::walk::{strides, view};
use super::window::Reach;
use super::{Call, Real};
use crate::graph::{Layout, Window};

/// The sums of ONNX `Conv`, bias included.
pub(super) fn conv(call: &Call<'_>, window: &Window, groups: usize, layout: Layout) -> Vec<f64> {
    let (x, w) = (call.real(0), call.real(1));
    let [outputs, inputs] = [w.shape[0], w.shape[1]];
    assert_eq!(outputs % groups, 0, "{groups} groups of {outputs} output channels");
    let taps: usize = window.kernel.iter().product();
    let channels = Channels { groups, inputs, outputs: outputs / groups, taps };
    let s = [outputs / groups * inputs * taps, taps, inputs * taps];
    let reach = Reach::new(window, spatial(layout, x.shape), spatial(layout, &call.output().shape));
    sums(call, x, &channels.weights(&w, s), &reach, &channels, layout)
}

/// The sums of ONNX `ConvTranspose`, bias included. How far the output extends is for the output tensor to say.
pub(super) fn conv_transpose(call: &Call<'_>, window: &Window, groups: usize, layout: Layout) -> Vec<f64> {
    let (x, w) = (call.real(0), call.real(1));
    let [inputs, outputs] = [w.shape[0], w.shape[1]];
    assert_eq!(inputs % groups, 0, "{groups} groups of {inputs} input channels");
    let taps: usize = window.kernel.iter().product();
    let channels = Channels { groups, inputs: inputs / groups, outputs, taps };
    let s = [inputs / groups * outputs * taps, outputs * taps, taps];
    let reach = Reach::transposed(window, spatial(layout, x.shape), spatial(layout, &call.output().shape));
    sums(call, x, &channels.weights(&w, s), &reach, &channels, layout)
}

/// How the weights connect channels.
struct Channels {
    groups: usize,
    /// Input channels of a group.
    inputs: usize,
    /// Output channels of a group.
    outputs: usize,
    taps: usize,
}

impl Channels {
    /// The weights as `[tap, group, input, output]`, from strides of group, input and output.
    fn weights(&self, w: &Real<'_>, [group, input, output]: [usize; 3]) -> Vec<f64> {
        let shape = [self.taps, self.groups, self.inputs, self.outputs];
        assert_eq!(w.v.len(), shape.iter().product::<usize>(), "weights {:?} have {} taps", w.shape, self.taps);
        view(&w.v, &shape, &[1, group as isize, input as isize, output as isize], 0)
    }
}

/// The extents of the spatial axes.
fn spatial(layout: Layout, shape: &[usize]) -> &[usize] {
    let first = layout.spatial_axis();
    &shape[first..first + shape.len() - 2]
}

/// Sums channels last, whatever the layout, so that the loops run over neighbouring channels.
fn sums(call: &Call<'_>, x: Real<'_>, weights: &[f64], reach: &Reach, channels: &Channels, layout: Layout) -> Vec<f64> {
    let (inputs, outputs) = (channels.groups * channels.inputs, channels.groups * channels.outputs);
    let shape = &call.output().shape;
    let batch = x.shape[0];
    assert_eq!(x.shape[layout.channel_axis(x.shape.len())], inputs, "input channels of x {:?}", x.shape);
    assert_eq!(shape[layout.channel_axis(shape.len())], outputs, "output channels of y {shape:?}");
    assert_eq!(shape[0], batch, "batches of x and y");

    let area: usize = spatial(layout, x.shape).iter().product();
    let x = match layout {
        Layout::ChannelsLast => x.v,
        Layout::ChannelsFirst => Cow::Owned(swapped(&x.v, batch, inputs, area)),
    };
    let mut y = vec![0.0; batch * reach.positions() * outputs];
    if let Some(bias) = call.get_real(2) {
        assert_eq!(bias.v.len(), outputs, "a bias for each output channel");
        y.chunks_exact_mut(outputs.max(1)).for_each(|y| y.copy_from_slice(&bias.v));
    }
    let (mut taps, mut spare) = (vec![], vec![]);
    for position in 0..reach.positions() {
        reach.at(position, &mut taps, &mut spare);
        for n in 0..batch {
            let y = &mut y[(n * reach.positions() + position) * outputs..][..outputs];
            for &(tap, source) in &taps {
                let x = &x[(n * area + source) * inputs..][..inputs];
                let w = &weights[tap * inputs * channels.outputs..][..inputs * channels.outputs];
                for (c, &x) in x.iter().enumerate() {
                    let y = &mut y[c / channels.inputs * channels.outputs..][..channels.outputs];
                    for (y, &w) in y.iter_mut().zip(&w[c * channels.outputs..]) {
                        *y += x * w;
                    }
                }
            }
        }
    }
    match layout {
        Layout::ChannelsLast => y,
        Layout::ChannelsFirst => swapped(&y, batch, reach.positions(), outputs),
    }
}

/// `[batch, rows, columns]` to `[batch, columns, rows]`.
fn swapped(x: &[f64], batch: usize, rows: usize, columns: usize) -> Vec<f64> {
    let s = strides(&[batch, rows, columns]);
    view(x, &[batch, columns, rows], &[s[0], s[2], s[1]], 0)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::array::Numbers;
    use crate::graph::{BinaryOp, Layout, Op, Post, Quant, Stage, Window};
    use kinglet::DType;

    fn conv(window: Window, groups: usize, layout: Layout) -> Op {
        Op::Conv { window, groups, layout, post: Post::default() }
    }

    fn transpose(window: Window, groups: usize, layout: Layout) -> Op {
        Op::ConvTranspose { window, groups, layout, post: Post::default() }
    }

    #[test]
    fn padding_and_stride_in_one_axis() {
        // x = 0 1 2 3 4, one zero in front: windows (·,0,1), (1,2,3), (3,4,·).
        let w = Window { strides: vec![2], pads_begin: vec![1], pads_end: vec![1], ..window(&[3]) };
        let inputs = [iota(&[1, 1, 5]), f(&[1, 1, 3], &[100.0, 10.0, 1.0]), f(&[1], &[0.5])];
        let y = reals(conv(w, 1, Layout::ChannelsFirst), &inputs, &[1, 1, 3]);
        assert_eq!(y, [1.5, 123.5, 340.5]);
    }

    #[test]
    fn dilation_and_negative_padding() {
        let w = Window { dilations: vec![2], ..window(&[2]) };
        let x = iota(&[1, 1, 5]);
        let k = f(&[1, 1, 2], &[10.0, 1.0]);
        let y = reals(conv(w.clone(), 1, Layout::ChannelsFirst), &[x.clone(), k.clone()], &[1, 1, 3]);
        assert_eq!(y, [2.0, 13.0, 24.0]);
        let w = Window { pads_begin: vec![-1], ..w };
        assert_eq!(reals(conv(w, 1, Layout::ChannelsFirst), &[x, k], &[1, 1, 2]), [13.0, 24.0]);
    }

    #[test]
    fn two_axes_two_channels_in_both_layouts() {
        // Channel 0 is 0 1 2 / 3 4 5, channel 1 is 6 7 8 / 9 10 11; kernel 2×2.
        let k = [1.0, 2.0, 3.0, 4.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0];
        let k = f(&[2, 2, 2, 2], &k);
        let bias = f(&[2], &[0.0, 100.0]);
        // Output 0: 0·1+1·2+3·3+4·4 = 27 and 6+10; next 1+4+12+20 = 37 and 7+11. Output 1: 4 + 6, 5 + 7.
        let y = reals(
            conv(window(&[2, 2]), 1, Layout::ChannelsFirst),
            &[iota(&[1, 2, 2, 3]), k.clone(), bias.clone()],
            &[1, 2, 1, 2],
        );
        assert_eq!(y, [43.0, 55.0, 110.0, 112.0]);
        let x = f(&[1, 2, 3, 2], &[0., 6., 1., 7., 2., 8., 3., 9., 4., 10., 5., 11.]);
        let y = reals(conv(window(&[2, 2]), 1, Layout::ChannelsLast), &[x, k, bias], &[1, 1, 2, 2]);
        assert_eq!(y, [43.0, 110.0, 55.0, 112.0]);
    }

    #[test]
    fn groups_and_batch() {
        // Four channels in two groups, each to two outputs; kernel 1.
        let k = f(&[4, 2, 1], &[1., 0., 0., 1., 1., 1., 10., 1.]);
        let y = reals(conv(window(&[1]), 2, Layout::ChannelsLast), &[iota(&[2, 1, 4]), k.clone()], &[2, 1, 4]);
        assert_eq!(y, [0.0, 1.0, 5.0, 23.0, 4.0, 5.0, 13.0, 67.0]);
        let y = reals(conv(window(&[1]), 2, Layout::ChannelsFirst), &[iota(&[2, 4, 1]), k], &[2, 4, 1]);
        assert_eq!(y, [0.0, 1.0, 5.0, 23.0, 4.0, 5.0, 13.0, 67.0]);
    }

    #[test]
    fn three_axes() {
        let w = Window { strides: vec![1, 1, 2], ..window(&[2, 1, 1]) };
        let y = reals(
            conv(w, 1, Layout::ChannelsFirst),
            &[iota(&[1, 1, 2, 2, 3]), f(&[1, 1, 2, 1, 1], &[1.0, 10.0])],
            &[1, 1, 1, 2, 2],
        );
        // 0 + 60, 2 + 80, 3 + 90, 5 + 110
        assert_eq!(y, [60.0, 82.0, 93.0, 115.0]);
    }

    #[test]
    fn quantised_with_scales_along_the_output_channels() {
        let x = quantized(DType::U8, &[1, 2, 1], &[12, 8], Quant::per_tensor(0.5, 10)); // 1, −1
        let k = Quant { scales: vec![1.0, 0.25], zero_points: vec![0, 0], axis: 0 };
        let k = quantized(DType::I8, &[2, 2, 1], &[3, 1, 4, -8], k); // 3 1, 1 −2
        let bias = Quant { scales: vec![0.5, 0.125], zero_points: vec![0, 0], axis: 0 };
        let bias = quantized(DType::I32, &[2], &[2, -8], bias); // 1, −1
        let out = like(DType::I8, &[1, 2, 1], Some(Quant::per_tensor(2.0, -1)));
        // 3 − 1 + 1 = 3 → 1.5 → 2 (tie) − 1; 1 + 2 − 1 = 2 → 1 − 1.
        let y = eval(conv(window(&[1]), 1, Layout::ChannelsFirst), &[x, k, bias], &out);
        assert_eq!(y.numbers(), Numbers::I(vec![1, 0]));
    }

    #[test]
    fn residual_behind_an_absent_bias() {
        let op = Op::Conv {
            window: window(&[1]),
            groups: 1,
            layout: Layout::ChannelsLast,
            post: Post { stages: vec![Stage::Combine(BinaryOp::Add)], ..Post::default() },
        };
        let inputs = [f(&[1, 2, 1], &[1.0, 2.0]), f(&[1, 1, 1], &[10.0]), None, f(&[1, 2, 1], &[3.0, 4.0])];
        assert_eq!(reals(op, &inputs, &[1, 2, 1]), [13.0, 24.0]);
    }

    #[test]
    fn transposed_spreads_each_input() {
        // 1 and 2 spread by (1, 10, 100) at 0 and 2: 1 10 102 20 200.
        let w = Window { strides: vec![2], ..window(&[3]) };
        let inputs = [f(&[1, 1, 2], &[1.0, 2.0]), f(&[1, 1, 3], &[1.0, 10.0, 100.0]), f(&[1], &[0.5])];
        let y = reals(transpose(w.clone(), 1, Layout::ChannelsFirst), &inputs, &[1, 1, 5]);
        assert_eq!(y, [1.5, 10.5, 102.5, 20.5, 200.5]);
        // Cut by one in front; one more behind by output padding.
        let w = Window { pads_begin: vec![1], ..w };
        let y = reals(transpose(w, 1, Layout::ChannelsFirst), &inputs, &[1, 1, 5]);
        assert_eq!(y, [10.5, 102.5, 20.5, 200.5, 0.5]);
    }

    #[test]
    fn transposed_with_dilation_and_groups() {
        // Two groups of one input and two outputs each; taps 0 and 2.
        let w = Window { dilations: vec![2], ..window(&[2]) };
        let k = f(&[2, 2, 2], &[1., 2., 3., 4., 5., 6., 7., 8.]);
        let y = reals(transpose(w, 2, Layout::ChannelsLast), &[f(&[1, 1, 2], &[1.0, 10.0]), k], &[1, 3, 4]);
        assert_eq!(y, [1., 3., 50., 70., 0., 0., 0., 0., 2., 4., 60., 80.]);
    }

    #[test]
    fn transposed_sums_over_input_channels() {
        let k = f(&[2, 1, 1, 2], &[1., 2., 3., 4.]);
        let y = reals(
            transpose(window(&[1, 2]), 1, Layout::ChannelsFirst),
            &[f(&[1, 2, 1, 1], &[1.0, 10.0]), k],
            &[1, 1, 1, 2],
        );
        assert_eq!(y, [31.0, 42.0]);
    }

    /// Some numbers without a pattern that a wrong index could keep.
    fn scattered(shape: &[usize], seed: usize) -> Vec<f64> {
        (0..shape.iter().product()).map(|i: usize| ((i * i + seed * i + seed) % 23) as f64 - 11.0).collect()
    }

    fn last(v: &[f64], channels: usize, area: usize) -> Vec<f64> {
        (0..area * channels).map(|i| v[i % channels * area + i / channels]).collect()
    }

    /// A transposed convolution is the adjoint of the convolution with the same weights: `y · conv(x) = conv_t(y) ·
    /// x`. And the layout changes nothing.
    #[test]
    fn transposed_is_the_adjoint_in_either_layout() {
        let with = |kernel: &[usize], strides: &[usize], dilations: &[usize], begin: &[i64], end: &[i64]| Window {
            kernel: kernel.to_vec(),
            strides: strides.to_vec(),
            dilations: dilations.to_vec(),
            pads_begin: begin.to_vec(),
            pads_end: end.to_vec(),
        };
        let geometries = [
            (window(&[3, 2]), [7, 5], [5, 4]),
            (with(&[3, 4], &[2, 3], &[1, 1], &[1, 2], &[1, 0]), [8, 8], [4, 3]),
            (with(&[3, 2], &[1, 1], &[2, 1], &[2, 0], &[2, 1]), [5, 6], [5, 6]),
            (with(&[2, 3], &[1, 2], &[1, 1], &[-1, 1], &[0, 1]), [5, 5], [3, 3]),
        ];
        for (w, input, output) in geometries {
            for (c, m, groups) in [(3, 4, 1), (4, 6, 2), (5, 5, 5)] {
                let (xs, ys) = ([1, c, input[0], input[1]], [1, m, output[0], output[1]]);
                let (x, y) = (scattered(&xs, 3), scattered(&ys, 7));
                let ws = [m, c / groups, w.kernel[0], w.kernel[1]];
                let weights = f(&ws, &scattered(&ws, 5));
                let forth = reals(conv(w.clone(), groups, Layout::ChannelsFirst), &[f(&xs, &x), weights.clone()], &ys);
                let back =
                    reals(transpose(w.clone(), groups, Layout::ChannelsFirst), &[f(&ys, &y), weights.clone()], &xs);
                let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                assert_eq!(dot(&y, &forth), dot(&back, &x), "{w:?} {groups}");

                let (area_x, area_y) = (input[0] * input[1], output[0] * output[1]);
                let (xl, yl) = ([1, input[0], input[1], c], [1, output[0], output[1], m]);
                let op = conv(w.clone(), groups, Layout::ChannelsLast);
                let got = reals(op, &[f(&xl, &last(&x, c, area_x)), weights.clone()], &yl);
                assert_eq!(got, last(&forth, m, area_y));
                let op = transpose(w.clone(), groups, Layout::ChannelsLast);
                let got = reals(op, &[f(&yl, &last(&y, m, area_y)), weights], &xl);
                assert_eq!(got, last(&back, c, area_x));
            }
        }
    }
}
