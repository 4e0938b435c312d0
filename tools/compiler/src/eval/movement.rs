//! Operators that move elements and compute nothing.

use std::borrow::Cow;

use super::walk::{around, broadcast, strides, view};
use super::{Call, quant};
use crate::array::{Array, Numbers};
use crate::graph::{Layout, PadMode, Tensor};
use kinglet::DType;

/// Elements on their way. A stored tensor's are bytes, so that moving them is exact and takes no more room than they do.
pub(super) enum Elements<'a> {
    One(Cow<'a, [[u8; 1]]>),
    Two(Cow<'a, [[u8; 2]]>),
    Four(Cow<'a, [[u8; 4]]>),
    Eight(Cow<'a, [[u8; 8]]>),
    Reals(Cow<'a, [f64]>),
}

/// Evaluates `$make`, a vector, for the elements `$v` of any sort; the result is of the same sort.
macro_rules! same_sort {
    ($elements:expr, |$v:ident| $make:expr) => {
        match $elements {
            Elements::One($v) => Elements::One($make.into()),
            Elements::Two($v) => Elements::Two($make.into()),
            Elements::Four($v) => Elements::Four($make.into()),
            Elements::Eight($v) => Elements::Eight($make.into()),
            Elements::Reals($v) => Elements::Reals($make.into()),
        }
    };
}

impl<'a> Elements<'a> {
    /// The elements of a tensor as they are stored; its reals, if it is not.
    pub(super) fn of(array: &'a Array) -> Self {
        let Some(bytes) = array.held() else { return Elements::Reals(array.reals()) };
        match array.dtype.size() {
            1 => Elements::One(bytes.as_chunks().0.into()),
            2 => Elements::Two(bytes.as_chunks().0.into()),
            4 => Elements::Four(bytes.as_chunks().0.into()),
            _ => Elements::Eight(bytes.as_chunks().0.into()),
        }
    }

    /// The tensor that they make, as the output of `call`.
    pub(super) fn finish(self, call: &Call<'_>) -> Array {
        let output = call.output();
        let bytes = match self {
            Elements::Reals(v) => return super::finish(Numbers::F(v.into_owned()), output, &call.node.op),
            Elements::One(v) => v.into_owned().into_flattened(),
            Elements::Two(v) => v.into_owned().into_flattened(),
            Elements::Four(v) => v.into_owned().into_flattened(),
            Elements::Eight(v) => v.into_owned().into_flattened(),
        };
        Array::from_shared(output.dtype, &output.shape, bytes.into()).unwrap_or_else(|| {
            panic!("{} gives another number of elements than {:?}", call.node.op.name(), output.shape)
        })
    }
}

/// The first input, as it goes to the output.
fn moved<'a>(call: &Call<'a>) -> (&'a [usize], Elements<'a>) {
    call.moved(0..1).remove(0)
}

/// A view of the first input, by strides made of its shape and its strides.
fn viewed<'a>(
    call: &Call<'a>,
    make: impl FnOnce(&[usize], &[isize]) -> (Vec<usize>, Vec<isize>, usize),
) -> Elements<'a> {
    let (from, x) = moved(call);
    let (shape, s, start) = make(from, &strides(from));
    same_sort!(x, |v| view(&v, &shape, &s, start))
}

pub(super) fn reshape<'a>(call: &Call<'a>) -> Elements<'a> {
    moved(call).1
}

pub(super) fn transpose<'a>(call: &Call<'a>, perm: &[usize]) -> Elements<'a> {
    viewed(call, |shape, s| (perm.iter().map(|&d| shape[d]).collect(), perm.iter().map(|&d| s[d]).collect(), 0))
}

pub(super) fn expand<'a>(call: &Call<'a>) -> Elements<'a> {
    let to = &call.output().shape;
    viewed(call, |shape, _| (to.clone(), broadcast(shape, to), 0))
}

pub(super) fn tile<'a>(call: &Call<'a>, repeats: &[usize]) -> Elements<'a> {
    viewed(call, |shape, s| {
        let dims = repeats.iter().zip(shape).flat_map(|(&r, &n)| [r, n]).collect();
        (dims, s.iter().flat_map(|&s| [0, s]).collect(), 0)
    })
}

pub(super) fn slice<'a>(call: &Call<'a>, starts: &[usize], steps: &[i64]) -> Elements<'a> {
    let to = &call.output().shape;
    viewed(call, |shape, s| {
        for d in 0..shape.len() {
            let last = starts[d] as i64 + (to[d] as i64 - 1) * steps[d];
            let inside = starts[d] < shape[d] && (0..shape[d] as i64).contains(&last);
            assert!(to[d] == 0 || inside, "the slice leaves axis {d} of {shape:?}");
        }
        let start = starts.iter().zip(s).map(|(&i, &s)| i * s as usize).sum();
        (to.clone(), steps.iter().zip(s).map(|(&step, &s)| step as isize * s).collect(), start)
    })
}

pub(super) fn depth_to_space<'a>(call: &Call<'a>, block: usize, crd: bool, layout: Layout) -> Elements<'a> {
    viewed(call, |shape, s| {
        assert_eq!(shape.len(), 4, "DepthToSpace is for pictures");
        let (channel, y) = (layout.channel_axis(4), layout.spatial_axis());
        let depth = shape[channel] / (block * block);
        let one = s[channel];
        let b = block as isize;
        // Steps from one channel of the output to the next, from one row of a block to the next, from column to column.
        let (c, row, column) =
            if crd { (one * b * b, one * b, one) } else { (one, one * b * depth as isize, one * depth as isize) };
        let picture = [shape[y], block, shape[y + 1], block];
        let steps = [s[y], row, s[y + 1], column];
        match layout {
            Layout::ChannelsFirst => {
                ([&[shape[0], depth], &picture[..]].concat(), [&[s[0], c], &steps[..]].concat(), 0)
            }
            Layout::ChannelsLast => {
                ([&[shape[0]], &picture[..], &[depth]].concat(), [&[s[0]], &steps[..], &[c]].concat(), 0)
            }
        }
    })
}

pub(super) fn concat<'a>(call: &Call<'a>, axis: usize) -> Elements<'a> {
    let parts = call.moved((0..call.inputs.len()).filter(|&i| call.get(i).is_some()));
    let outer: usize = call.output().shape[..axis].iter().product();
    // `moved` gives all parts in one sort.
    macro_rules! join {
        ($sort:ident) => {{
            let mut out = Vec::with_capacity(call.output().len());
            for o in 0..outer {
                for (shape, x) in &parts {
                    let n = shape[axis..].iter().product::<usize>();
                    if let Elements::$sort(v) = x {
                        out.extend_from_slice(&v[o * n..(o + 1) * n]);
                    }
                }
            }
            Elements::$sort(out.into())
        }};
    }
    match &parts[0].1 {
        Elements::One(_) => join!(One),
        Elements::Two(_) => join!(Two),
        Elements::Four(_) => join!(Four),
        Elements::Eight(_) => join!(Eight),
        Elements::Reals(_) => join!(Reals),
    }
}

/// Negative indices count from the end. An index out of range, which ONNX forbids (see `fault`), gives what it gives in the
/// runtime.
pub(super) fn gather<'a>(call: &Call<'a>, axis: usize) -> Elements<'a> {
    let (shape, x) = moved(call);
    let (outer, n, inner) = around(shape, axis);
    let indices = call.array(1).ints();
    let wrapped = |i: i64| if i < 0 { i.saturating_add(n as i64) } else { i };
    let from: Vec<Option<usize>> =
        indices.iter().map(|&i| usize::try_from(wrapped(i)).ok().filter(|&i| i < n)).collect();
    let places: Vec<Option<usize>> =
        (0..outer).flat_map(|o| from.iter().map(move |i| i.map(|i| (o * n + i) * inner))).collect();
    let nothing = if call.output().dtype == DType::F32 { f64::NAN } else { 0.0 };
    placed(x, &places, inner, nothing, call.output())
}

/// The `run` elements from each place on; the real `value` as often where there is no place.
fn placed<'a>(x: Elements<'a>, places: &[Option<usize>], run: usize, value: f64, output: &Tensor) -> Elements<'a> {
    let stored = match output.quant.as_ref().and_then(|q| q.single()) {
        Some((scale, zero)) => {
            let q = quant::quantize_one(value, scale.into(), zero.into(), output.dtype);
            Array::int(output.dtype, &[], vec![q])
        }
        None if output.dtype == DType::F32 => Array::scalar(value).stored(),
        None => Array::int(output.dtype, &[], vec![quant::cut(value, output.dtype)]),
    };
    let bytes = stored.to_bytes();
    macro_rules! placed {
        ($v:expr, $value:expr) => {{
            let (value, mut out) = ($value, Vec::with_capacity(places.len() * run));
            for place in places {
                match place {
                    Some(at) => out.extend_from_slice(&$v[*at..][..run]),
                    None => out.extend(std::iter::repeat_n(value, run)),
                }
            }
            out
        }};
    }
    match x {
        Elements::Reals(v) => Elements::Reals(placed!(v, value).into()),
        Elements::One(v) => Elements::One(placed!(v, bytes.as_chunks().0[0]).into()),
        Elements::Two(v) => Elements::Two(placed!(v, bytes.as_chunks().0[0]).into()),
        Elements::Four(v) => Elements::Four(placed!(v, bytes.as_chunks().0[0]).into()),
        Elements::Eight(v) => Elements::Eight(placed!(v, bytes.as_chunks().0[0]).into()),
    }
}

pub(super) fn pad<'a>(call: &Call<'a>, mode: PadMode, before: &[usize], after: &[usize], value: f64) -> Elements<'a> {
    let (shape, x) = moved(call);
    // Which element of the input stands at each place of the output, axis by axis; `None` for the constant.
    let mut sources = vec![Some(0)];
    for d in 0..shape.len() {
        let n = shape[d] as i64;
        let places = -(before[d] as i64)..n + after[d] as i64;
        let along: Vec<Option<usize>> = places.map(|i| source(mode, i, n)).collect();
        sources =
            sources.iter().flat_map(|base| along.iter().map(move |i| Some((*base)? * shape[d] + (*i)?))).collect();
    }
    placed(x, &sources, 1, value, call.output())
}

/// The position in `0..n` that stands at position `i`.
fn source(mode: PadMode, i: i64, n: i64) -> Option<usize> {
    let inside = match mode {
        _ if (0..n).contains(&i) => i,
        PadMode::Constant => return None,
        _ if n == 0 => panic!("nothing to pad with"),
        PadMode::Edge => i.clamp(0, n - 1),
        PadMode::Wrap => i.rem_euclid(n),
        // There and back is one period.
        PadMode::Reflect => {
            let period = (2 * (n - 1)).max(1);
            let i = i.rem_euclid(period);
            i.min(period - i)
        }
    };
    Some(inside as usize)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::graph::{Op, Quant};

    #[test]
    fn transposes() {
        let op = |perm: &[usize]| Op::Transpose { perm: perm.to_vec() };
        assert_eq!(reals(op(&[1, 0]), &[iota(&[2, 3])], &[3, 2]), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        // y[i][j][k] = x[j][k][i] = 6j + 2k + i
        let y = reals(op(&[2, 0, 1]), &[iota(&[2, 3, 2])], &[2, 2, 3]);
        assert_eq!(y, [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 1.0, 3.0, 5.0, 7.0, 9.0, 11.0]);
    }

    #[test]
    fn integers_are_moved_exactly() {
        let x = int(DType::I64, &[2], &[i64::MAX, i64::MIN]);
        assert_eq!(ints(Op::Reshape, &[x], DType::I64, &[1, 2]), [i64::MAX, i64::MIN]);
    }

    #[test]
    fn quantised_movement_keeps_or_converts() {
        let q = Quant::per_tensor(0.3, 5);
        let x = quantized(DType::I8, &[3], &[-128, 5, 127], q.clone());
        let y = eval(Op::Reshape, from_ref(&x), &like(DType::I8, &[3, 1], Some(q)));
        assert_eq!(y.numbers(), Numbers::I(vec![-128, 5, 127]));
        // −39.9, 0, 36.6 in steps of 0.6, zero at 100.
        let y = eval(Op::Reshape, from_ref(&x), &like(DType::U8, &[3, 1], Some(Quant::per_tensor(0.6, 100))));
        assert_eq!(y.numbers(), Numbers::I(vec![34, 100, 161]));
        assert_close(&reals(Op::Reshape, &[x], &[3]), &[-133.0 * f64::from(0.3f32), 0.0, 122.0 * f64::from(0.3f32)]);
    }

    #[test]
    fn scales_along_an_axis_move_with_it() {
        let along = |axis| Quant { scales: vec![1.0, 0.5], zero_points: vec![0, 0], axis };
        let x = quantized(DType::I8, &[2, 2], &[1, 2, 3, 4], along(0));
        let op = Op::Transpose { perm: vec![1, 0] };
        let y = eval(op.clone(), from_ref(&x), &like(DType::I8, &[2, 2], Some(along(1))));
        assert_eq!(y.numbers(), Numbers::I(vec![1, 3, 2, 4]));
        // Reals 1 2 / 1.5 2, turned, in scales of the other axis: ties to even.
        let y = eval(op, &[x], &like(DType::I8, &[2, 2], Some(along(0))));
        assert_eq!(y.numbers(), Numbers::I(vec![1, 2, 4, 4]));
    }

    #[test]
    fn concatenates() {
        let y = reals(Op::Concat { axis: 1 }, &[iota(&[2, 1]), f(&[2, 2], &[10., 11., 12., 13.])], &[2, 3]);
        assert_eq!(y, [0.0, 10.0, 11.0, 1.0, 12.0, 13.0]);
        let y = ints(
            Op::Concat { axis: 0 },
            &[int(DType::I64, &[1], &[i64::MAX]), int(DType::I64, &[0], &[])],
            DType::I64,
            &[1],
        );
        assert_eq!(y, [i64::MAX]);
        let (p, q) = (Quant::per_tensor(1.0, 0), Quant::per_tensor(2.0, 1));
        let parts = [quantized(DType::I8, &[1], &[7], p.clone()), quantized(DType::I8, &[2], &[7, 1], q)];
        let y = eval(Op::Concat { axis: 0 }, &parts, &like(DType::I8, &[3], Some(p)));
        assert_eq!(y.numbers(), Numbers::I(vec![7, 12, 0]));
    }

    #[test]
    fn slices() {
        let op = |starts: &[usize], steps: &[i64]| Op::Slice { starts: starts.to_vec(), steps: steps.to_vec() };
        assert_eq!(reals(op(&[3], &[-2]), &[iota(&[5])], &[2]), [3.0, 1.0]);
        assert_eq!(reals(op(&[4], &[-1]), &[iota(&[5])], &[5]), [4.0, 3.0, 2.0, 1.0, 0.0]);
        assert_eq!(reals(op(&[1, 2], &[1, -2]), &[iota(&[2, 3])], &[1, 2]), [5.0, 3.0]);
        assert_eq!(reals(op(&[0, 1], &[1, 1]), &[iota(&[2, 3])], &[2, 2]), [1.0, 2.0, 4.0, 5.0]);
        assert_eq!(reals(op(&[5], &[1]), &[iota(&[5])], &[0]), []);
    }

    #[test]
    #[should_panic(expected = "leaves axis 1")]
    fn a_slice_stays_inside() {
        reals(Op::Slice { starts: vec![0, 2], steps: vec![1, 1] }, &[iota(&[2, 3])], &[1, 2]);
    }

    #[test]
    fn gathers() {
        let i = int(DType::I64, &[2, 1], &[-1, 0]);
        let y = reals(Op::Gather { axis: 1 }, &[iota(&[2, 3, 1]), i.clone()], &[2, 2, 1, 1]);
        assert_eq!(y, [2.0, 0.0, 5.0, 3.0]);
        assert_eq!(reals(Op::Gather { axis: 0 }, &[iota(&[2, 2]), int(DType::I32, &[], &[1])], &[2]), [2.0, 3.0]);
        let x = int(DType::I64, &[3], &[7, 8, i64::MAX]);
        assert_eq!(ints(Op::Gather { axis: 0 }, &[x.clone(), i], DType::I64, &[2, 1]), [i64::MAX, 7]);
        // Outside the axis there is nothing.
        let i = int(DType::I64, &[4], &[3, 2, -3, -4]);
        assert_eq!(ints(Op::Gather { axis: 0 }, &[x, i.clone()], DType::I64, &[4]), [0, i64::MAX, 7, 0]);
        let y = reals(Op::Gather { axis: 0 }, &[iota(&[3]), i], &[4]);
        assert!(y[0].is_nan() && y[3].is_nan() && y[1..3] == [2.0, 0.0], "{y:?}");
    }

    #[test]
    fn expands_and_tiles() {
        assert_eq!(reals(Op::Expand, &[iota(&[2, 1])], &[2, 2, 2]), [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
        let y = reals(Op::Tile { repeats: vec![2, 2] }, &[iota(&[1, 2])], &[2, 4]);
        assert_eq!(y, [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
        assert_eq!(reals(Op::Tile { repeats: vec![2, 1] }, &[iota(&[2, 1])], &[4, 1]), [0.0, 1.0, 0.0, 1.0]);
    }

    #[test]
    fn depth_to_space_in_either_order_and_layout() {
        let op = |crd, layout| Op::DepthToSpace { block: 2, crd, layout };
        // Eight channels of one pixel. DCR: channel (row·2 + column)·2 + c; CRD: c·4 + row·2 + column.
        let dcr = [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0];
        assert_eq!(reals(op(false, Layout::ChannelsFirst), &[iota(&[1, 8, 1, 1])], &[1, 2, 2, 2]), dcr);
        let crd = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
        assert_eq!(reals(op(true, Layout::ChannelsFirst), &[iota(&[1, 8, 1, 1])], &[1, 2, 2, 2]), crd);
        assert_eq!(reals(op(false, Layout::ChannelsLast), &[iota(&[1, 1, 1, 8])], &[1, 2, 2, 2]), crd);
        let crd = [0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0];
        assert_eq!(reals(op(true, Layout::ChannelsLast), &[iota(&[1, 1, 1, 8])], &[1, 2, 2, 2]), crd);
        // Two columns: rows of the block interleave with them.
        let y = reals(op(false, Layout::ChannelsFirst), &[iota(&[1, 4, 1, 2])], &[1, 1, 2, 4]);
        assert_eq!(y, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    }

    #[test]
    fn pads() {
        let op = |mode, before: &[usize], after: &[usize]| Op::Pad {
            mode,
            before: before.to_vec(),
            after: after.to_vec(),
            value: -1.0,
        };
        let x = iota(&[3]);
        assert_eq!(reals(op(PadMode::Constant, &[1], &[2]), from_ref(&x), &[6]), [-1.0, 0.0, 1.0, 2.0, -1.0, -1.0]);
        assert_eq!(reals(op(PadMode::Edge, &[1], &[2]), from_ref(&x), &[6]), [0.0, 0.0, 1.0, 2.0, 2.0, 2.0]);
        assert_eq!(reals(op(PadMode::Reflect, &[2], &[1]), from_ref(&x), &[6]), [2.0, 1.0, 0.0, 1.0, 2.0, 1.0]);
        assert_eq!(reals(op(PadMode::Wrap, &[1], &[2]), &[x], &[6]), [2.0, 0.0, 1.0, 2.0, 0.0, 1.0]);
        let y = reals(op(PadMode::Constant, &[0, 1], &[1, 0]), &[iota(&[1, 2])], &[2, 3]);
        assert_eq!(y, [-1.0, 0.0, 1.0, -1.0, -1.0, -1.0]);
        let y = reals(op(PadMode::Reflect, &[1, 0], &[0, 1]), &[iota(&[2, 2])], &[3, 3]);
        assert_eq!(y, [2.0, 3.0, 2.0, 0.0, 1.0, 0.0, 2.0, 3.0, 2.0]);
    }

    #[test]
    fn the_constant_is_quantised() {
        let q = Quant::per_tensor(0.5, 3);
        let op = Op::Pad { mode: PadMode::Constant, before: vec![1], after: vec![0], value: 1.0 };
        let y = eval(op.clone(), &[quantized(DType::I8, &[1], &[9], q.clone())], &like(DType::I8, &[2], Some(q)));
        assert_eq!(y.numbers(), Numbers::I(vec![5, 9]));
        assert_eq!(ints(op, &[int(DType::I64, &[1], &[9])], DType::I64, &[2]), [1, 9]);
    }
}
