//! Maximum and average over windows.

use super::Call;
use super::window::Reach;
use crate::array::Numbers;
use crate::graph::{Layout, PoolKind, Window};

/// A window that meets no element of the input gives 0.
pub(super) fn pool(call: &Call<'_>, kind: PoolKind, window: &Window, layout: Layout) -> Numbers {
    let x = call.real(0);
    let shape = &call.output().shape;
    let rank = x.shape.len();
    let axes = layout.spatial_axis()..layout.spatial_axis() + rank - 2;
    let (batch, channels) = (x.shape[0], x.shape[layout.channel_axis(rank)]);
    assert_eq!(
        (batch, channels),
        (shape[0], shape[layout.channel_axis(rank)]),
        "batch and channels of a pool's input and output"
    );
    let reach = Reach::new(window, &x.shape[axes.clone()], &shape[axes.clone()]);
    let area: usize = x.shape[axes].iter().product();
    // Where position `p` of channel `c` of picture `n` lies among `size` positions.
    let offset = |n: usize, c: usize, p: usize, size: usize| match layout {
        Layout::ChannelsFirst => (n * channels + c) * size + p,
        Layout::ChannelsLast => (n * size + p) * channels + c,
    };

    let mut y = vec![0.0; call.output().len()];
    let (mut taps, mut spare) = (vec![], vec![]);
    for position in 0..reach.positions() {
        let padded = reach.at(position, &mut taps, &mut spare);
        if taps.is_empty() {
            continue;
        }
        for n in 0..batch {
            for c in 0..channels {
                let elements = taps.iter().map(|&(_, source)| x.v[offset(n, c, source, area)]);
                y[offset(n, c, position, reach.positions())] = match kind {
                    PoolKind::Max => elements.fold(f64::NEG_INFINITY, |m, v| if v > m || v.is_nan() { v } else { m }),
                    PoolKind::Average => elements.sum::<f64>() / taps.len() as f64,
                    PoolKind::AverageWithPadding => elements.sum::<f64>() / padded as f64,
                };
            }
        }
    }
    Numbers::F(y)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::graph::{Op, Quant};
    use kinglet::DType;

    fn op(kind: PoolKind, window: Window) -> Op {
        Op::Pool { kind, window, layout: Layout::ChannelsFirst }
    }

    #[test]
    fn padding_counts_or_not() {
        // x = 1 2 3; windows (·,1), (1,2), (2,3), (3,·).
        let w = Window { pads_begin: vec![1], pads_end: vec![1], ..window(&[2]) };
        let x = f(&[1, 1, 3], &[1.0, 2.0, 3.0]);
        let of = |kind| reals(op(kind, w.clone()), from_ref(&x), &[1, 1, 4]);
        assert_eq!(of(PoolKind::Max), [1.0, 2.0, 3.0, 3.0]);
        assert_eq!(of(PoolKind::Average), [1.0, 1.5, 2.5, 3.0]);
        assert_eq!(of(PoolKind::AverageWithPadding), [0.5, 1.5, 2.5, 1.5]);
    }

    #[test]
    fn a_ceil_mode_window_counts_only_the_padded_input() {
        // x = 1 … 4 with one pad on either side, windows of 3 every 3: (·,1,2), (3,4,·); of 4 every 3: (·,1,2,3) and
        // (3,4,·,beyond).
        let x = f(&[1, 1, 4], &[1.0, 2.0, 3.0, 4.0]);
        let w = Window { strides: vec![3], pads_begin: vec![1], pads_end: vec![1], ..window(&[4]) };
        assert_eq!(
            reals(op(PoolKind::AverageWithPadding, w.clone()), from_ref(&x), &[1, 1, 2]),
            [6.0 / 4.0, 7.0 / 3.0]
        );
        assert_eq!(reals(op(PoolKind::Average, w), &[x], &[1, 1, 2]), [6.0 / 3.0, 7.0 / 2.0]);
    }

    #[test]
    fn counts_in_two_axes() {
        // 2×2 of ones, 3×3 windows, padded by 1 all around: a corner has 4 elements, 9 positions.
        let w = Window { pads_begin: vec![1, 1], pads_end: vec![1, 1], ..window(&[3, 3]) };
        let x = f(&[1, 1, 2, 2], &[1.0; 4]);
        assert_eq!(reals(op(PoolKind::AverageWithPadding, w.clone()), from_ref(&x), &[1, 1, 2, 2]), [4.0 / 9.0; 4]);
        assert_eq!(reals(op(PoolKind::Average, w), &[x], &[1, 1, 2, 2]), [1.0; 4]);
    }

    #[test]
    fn dilation_layout_and_nan() {
        let w = Window { dilations: vec![2], ..window(&[2]) };
        let last = Op::Pool { kind: PoolKind::Max, window: w.clone(), layout: Layout::ChannelsLast };
        let x = f(&[1, 3, 2], &[5.0, 1.0, 9.0, 9.0, 3.0, 2.0]);
        assert_eq!(reals(last, &[x], &[1, 1, 2]), [5.0, 2.0]);
        let x = f(&[1, 2, 3], &[5.0, 9.0, 3.0, 1.0, 9.0, 2.0]);
        assert_eq!(reals(op(PoolKind::Max, w.clone()), &[x], &[1, 2, 1]), [5.0, 2.0]);
        let x = f(&[1, 1, 3], &[f64::NAN, 9.0, 3.0]);
        assert!(reals(op(PoolKind::Max, w), &[x], &[1, 1, 1])[0].is_nan());
    }

    #[test]
    fn a_window_outside_gives_zero() {
        let w = Window { strides: vec![2], pads_begin: vec![2], pads_end: vec![0], ..window(&[2]) };
        for kind in [PoolKind::Max, PoolKind::Average, PoolKind::AverageWithPadding] {
            assert_eq!(reals(op(kind, w.clone()), &[f(&[1, 1, 2], &[4.0, 4.0])], &[1, 1, 2]), [0.0, 4.0]);
        }
    }

    #[test]
    fn quantised() {
        let q = Quant::per_tensor(0.5, 3);
        let x = quantized(DType::U8, &[1, 1, 2], &[4, 7], q.clone());
        let y = eval(op(PoolKind::Max, window(&[2])), from_ref(&x), &like(DType::U8, &[1, 1, 1], Some(q.clone())));
        assert_eq!(y.numbers(), Numbers::I(vec![7]));
        // (0.5 + 2)/2 = 1.25 → 2.5 → 2 + 3
        let y = eval(op(PoolKind::Average, window(&[2])), &[x], &like(DType::U8, &[1, 1, 1], Some(q)));
        assert_eq!(y.numbers(), Numbers::I(vec![5]));
    }
}
