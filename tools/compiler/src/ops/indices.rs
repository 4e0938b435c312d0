//! Operators that work by indices: what is scattered, gathered and selected, and masks.

use kinglet::DType;

use super::movement::{emit as emit_moved, take};
use crate::array::{Array, strides};
use crate::graph::{BinaryOp, Op, Quant, ReduceOp, ScatterOp, Tensor, TensorId};
use crate::import::{Context, Failure, dtype_from_onnx};

fn product(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// `ScatterElements`, and `Scatter` as it was called before operator set 11.
pub fn scatter_elements(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (x, index, updates) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let (shape, picked) = (c.shape(x), c.shape(index));
    let axis = c.axis(c.int("axis", 0), shape.len())?;
    check_elements(&shape, &picked, axis)?;
    if c.shape(updates) != picked {
        return Err(Failure::malformed(format!("updates {:?} for indices {picked:?}", c.shape(updates))));
    }
    scatter(c, x, updates, index, Some(axis))
}

/// Whether indices of this shape select elements along an axis, each within its own slice.
fn check_elements(shape: &[usize], picked: &[usize], axis: usize) -> Result<(), Failure> {
    let within = picked.len() == shape.len() && (0..shape.len()).all(|d| d == axis || picked[d] <= shape[d]);
    if !within || (shape[axis] == 0 && product(picked) > 0) {
        return Err(Failure::malformed(format!("indices {picked:?} along axis {axis} of {shape:?}")));
    }
    Ok(())
}

/// `ScatterND`.
pub fn scatter_nd(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (x, index, updates) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let (shape, picked) = (c.shape(x), c.shape(index));
    let depth = check_tuples(&shape, &picked)?;
    let wanted = [&picked[..picked.len() - 1], &shape[depth..]].concat();
    if c.shape(updates) != wanted {
        return Err(Failure::malformed(format!("updates {:?}, where they are {wanted:?}", c.shape(updates))));
    }
    scatter(c, x, updates, index, None)
}

/// How many indices each tuple has of tuples of this shape, which select from the first axes.
fn check_tuples(shape: &[usize], picked: &[usize]) -> Result<usize, Failure> {
    let depth = picked.last().copied().filter(|depth| (1..=shape.len()).contains(depth));
    depth
        .filter(|&depth| product(picked) == 0 || !shape[..depth].contains(&0))
        .ok_or_else(|| Failure::malformed(format!("indices of shape {picked:?} into {shape:?}")))
}

fn scatter(
    c: &mut Context<'_, '_>,
    x: TensorId,
    updates: TensorId,
    index: TensorId,
    axis: Option<usize>,
) -> Result<(), Failure> {
    let op = match c.string("reduction", "none").as_str() {
        "none" => ScatterOp::Replace,
        "add" => ScatterOp::Add,
        "mul" => ScatterOp::Mul,
        "min" if c.opset >= 18 => ScatterOp::Min,
        "max" if c.opset >= 18 => ScatterOp::Max,
        other => return Err(Failure::malformed(format!("the reduction {other}"))),
    };
    let (shape, dtype) = (c.shape(x), c.dtype(x));
    let y = match op {
        _ if product(&c.shape(updates)) == 0 => x,
        ScatterOp::Replace => emit_moved(c, Op::Scatter { op, axis }, &[x, updates, index], &shape)?,
        _ => c.emit(Op::Scatter { op, axis }, &[x, updates, index], dtype, &shape)?,
    };
    c.output(0, y);
    Ok(())
}

/// Integers that stand for themselves, as a constant.
fn constant(c: &mut Context<'_, '_>, shape: &[usize], v: Vec<i64>) -> Result<TensorId, Failure> {
    c.reserve(v.len(), DType::I64)?;
    Ok(c.add_constant(Array::int(DType::I64, shape, v)))
}

/// Indices, as i64, of which the negative ones count no longer from the end of an axis of `n`; `n` broadcasts to them.
fn from_the_start(c: &mut Context<'_, '_>, index: TensorId, n: TensorId) -> Result<TensorId, Failure> {
    let zero = constant(c, &[], vec![0])?;
    let negative = c.binary(BinaryOp::Less, index, zero)?;
    let wrapped = c.binary(BinaryOp::Add, index, n)?;
    c.select(negative, wrapped, index)
}

/// More than any tensor has elements, and so little that a sum of many of them is no small number.
const OUTSIDE: i64 = 1 << 40;

/// For indices that select from axes of these extents (one for all, or one for each position of the last axis) what each adds
/// to a linear index. One out of range, which must not lead to a neighbour, adds so much that the sum is out of range too.
fn linear(c: &mut Context<'_, '_>, index: TensorId, extents: &[usize], steps: &[usize]) -> Result<TensorId, Failure> {
    let vector = |c: &mut Context<'_, '_>, v: &[usize]| {
        let shape = if v.len() == 1 { vec![] } else { vec![v.len()] };
        constant(c, &shape, v.iter().map(|&n| n as i64).collect())
    };
    if let Some(v) = c.tensor_info(index).value.clone() {
        let extent = |k: usize| extents[k % extents.len()] as i64;
        let bad = v.ints().iter().copied().enumerate().find(|&(k, i)| !(-extent(k)..extent(k)).contains(&i));
        if let Some((k, bad)) = bad {
            return Err(Failure::malformed(format!("index {bad} of an axis of {}", extent(k))));
        }
    }
    let index = c.as_type(index, DType::I64)?;
    let (n, zero, outside) = (vector(c, extents)?, constant(c, &[], vec![0])?, constant(c, &[], vec![OUTSIDE])?);
    let at = from_the_start(c, index, n)?;
    let (reached, ended) = (c.binary(BinaryOp::GreaterOrEqual, at, zero)?, c.binary(BinaryOp::Less, at, n)?);
    let inside = c.binary(BinaryOp::And, reached, ended)?;
    let steps = if steps.iter().all(|&s| s == 1) { None } else { Some(vector(c, steps)?) };
    let far = steps.map_or(Ok(at), |steps| c.binary(BinaryOp::Mul, at, steps))?;
    c.select(inside, far, outside)
}

/// Where the elements of a tensor of this shape lie in one with these strides.
fn places(shape: &[usize], by: &[usize]) -> Vec<i64> {
    let own = strides(shape);
    let place = |k: usize| (0..shape.len()).map(|d| k / own[d] % shape[d] * by[d]).sum::<usize>() as i64;
    (0..product(shape)).map(place).collect()
}

/// `GatherElements`: a `Gather` from the elements in a row.
pub fn gather_elements(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (x, index) = (c.input(0)?, c.input(1)?);
    let (shape, picked) = (c.shape(x), c.shape(index));
    let axis = c.axis(c.int("axis", 0), shape.len())?;
    check_elements(&shape, &picked, axis)?;
    let (n, total) = (shape[axis], product(&shape));
    let mut at = index;
    if n != total {
        let by = strides(&shape);
        at = linear(c, index, &[n], &[by[axis]])?;
        // What the other axes add is the same all along this one.
        let slice: Vec<usize> = (0..picked.len()).map(|d| if d == axis { 1 } else { picked[d] }).collect();
        c.reserve(product(&slice), DType::I64)?;
        let others = c.add_constant(Array::int(DType::I64, &slice, places(&slice, &by)));
        at = c.binary(BinaryOp::Add, at, others)?;
    }
    let flat = c.reshaped(x, &[total])?;
    let y = take(c, flat, at, 0)?;
    c.output(0, y);
    Ok(())
}

/// `GatherND`: a `Gather` from the slices in a row.
pub fn gather_nd(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (x, index) = (c.input(0)?, c.input(1)?);
    let (shape, picked) = (c.shape(x), c.shape(index));
    let batch = usize::try_from(c.int("batch_dims", 0)).ok().filter(|&b| b < shape.len().min(picked.len()));
    let batch = batch
        .filter(|&b| shape[..b] == picked[..b])
        .ok_or_else(|| Failure::malformed(format!("batches of {shape:?} and {picked:?}")))?;
    let behind = batch + check_tuples(&shape[batch..], &picked)?;
    let tuples = &picked[..picked.len() - 1];
    let (slices, inner) = (product(&shape[..behind]), product(&shape[behind..]));
    let out = [tuples, &shape[behind..]].concat();
    let mut at = index;
    if behind > 1 {
        let by = strides(&shape[..behind]);
        at = linear(c, index, &shape[batch..behind], &by[batch..])?;
        let axis = picked.len() - 1;
        if behind - batch > 1 {
            at = c.reduced(ReduceOp::Sum, at, &[axis], false)?;
        }
        let lead = [&picked[..batch], &vec![1; axis - batch][..]].concat();
        c.reserve(product(&lead), DType::I64)?;
        let firsts = c.add_constant(Array::int(DType::I64, &lead, places(&picked[..batch], &by[..batch])));
        at = c.reshaped(at, tuples)?;
        at = if batch > 0 { c.binary(BinaryOp::Add, at, firsts)? } else { at };
    }
    at = c.reshaped(at, &[product(tuples)])?;
    let flat = c.reshaped(x, &[slices, inner])?;
    let y = take(c, flat, at, 0)?;
    let y = c.reshaped(y, &out)?;
    c.output(0, y);
    Ok(())
}

/// `TopK`: the number of elements is an attribute before operator set 10, an input from then on. The result is sorted, whether it
/// need be or not.
pub fn top_k(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let mut shape = c.shape(x);
    let axis = c.axis(c.int("axis", -1), shape.len())?;
    let k = match c.ints_or_attribute(1, "k", "the number of elements")? {
        v if v.len() == 1 => v[0],
        v => return Err(Failure::malformed(format!("the number of elements is {v:?}"))),
    };
    shape[axis] = usize::try_from(k)
        .ok()
        .filter(|&k| k <= shape[axis])
        .ok_or_else(|| Failure::malformed(format!("{k} elements of an axis of {}", shape[axis])))?;
    let op = Op::TopK { axis, smallest: !c.flag("largest", true) };
    let quant = c.tensor_info(x).quant.clone().filter(|q: &Quant| q.scales.len() == 1);
    let of = |dtype: DType, quant| Tensor { name: String::new(), dtype, shape: shape.clone(), quant, value: None };
    let outputs = c.emit_several(op, x, vec![of(c.dtype(x), quant), of(DType::I64, None)])?;
    for (i, &t) in outputs.iter().enumerate() {
        c.output(i, t);
    }
    Ok(())
}

/// `OneHot`: an index outside −depth to depth is nowhere.
pub fn one_hot(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (index, depth, values) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let depth = c.constant(depth, "the depth")?.as_scalar().filter(|d| (0.0..=4294967295.0).contains(d));
    let depth = depth.ok_or_else(|| Failure::malformed("the depth is no number of elements"))? as usize;
    let mut shape = c.shape(index);
    let axis = c.axis(c.int("axis", -1), shape.len() + 1)?;
    if c.shape(values) != [2] {
        return Err(Failure::malformed(format!("values of shape {:?}", c.shape(values))));
    }
    let n = constant(c, &[], vec![depth as i64])?;
    let index = c.as_type(index, DType::I64)?;
    let at = from_the_start(c, index, n)?;
    shape.insert(axis, 1);
    let at = c.reshaped(at, &shape)?;
    let range = c.counting(DType::I64, depth, axis, shape.len())?;
    let on = c.binary(BinaryOp::Equal, at, range)?;
    let (dtype, known) = (c.dtype(values), c.tensor_info(values).value.clone());
    let y = if known.is_some_and(|v| *v.reals() == [0.0, 1.0]) {
        c.as_type(on, dtype)?
    } else {
        let (no, yes) = (c.position(values, 0)?, c.position(values, 1)?);
        c.select(on, yes, no)?
    };
    c.output(0, y);
    Ok(())
}

/// `Hardmax`: 1 for the first of the largest, else 0. Before operator set 13 along all axes from `axis` on.
pub fn hardmax(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let (shape, dtype) = (c.shape(x), c.dtype(x));
    let axis = c.int("axis", if c.opset < 13 { 1 } else { -1 });
    let (flat, axis) = if c.opset < 13 {
        let axis = if axis == shape.len() as i64 { shape.len() } else { c.axis(axis, shape.len())? };
        (vec![product(&shape[..axis]), product(&shape[axis..])], 1)
    } else {
        (shape.clone(), c.axis(axis, shape.len())?)
    };
    if flat[axis] == 0 {
        return Err(Failure::malformed("the axis has no elements"));
    }
    let x = c.reshaped(x, &flat)?;
    let mut less = flat.clone();
    less[axis] = 1;
    let first = Op::ArgMax { axis, keep: true, smallest: false, last: false };
    let first = c.emit(first, &[x], DType::I64, &less)?;
    let range = c.counting(DType::I64, flat[axis], axis, flat.len())?;
    let one = c.binary(BinaryOp::Equal, first, range)?;
    let y = c.as_type(one, dtype)?;
    let y = c.reshaped(y, &shape)?;
    c.output(0, y);
    Ok(())
}

/// `Compress`: the slices along an axis, or the elements, of which a constant says that they stay.
pub fn compress(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (x, condition) = (c.input(0)?, c.input(1)?);
    let condition = c.constant(condition, "the condition")?;
    let shape = c.shape(x);
    let (x, axis) = if c.has("axis") {
        (x, c.axis(c.int("axis", 0), shape.len())?)
    } else {
        (c.reshaped(x, &[product(&shape)])?, 0)
    };
    let n = c.shape(x)[axis];
    let ints = condition.ints();
    let kept: Vec<i64> = (0..ints.len()).filter(|&i| ints[i] != 0).map(|i| i as i64).collect();
    if condition.shape.len() != 1 || kept.last().is_some_and(|&i| i as usize >= n) {
        return Err(Failure::malformed(format!("a condition of shape {:?} for {n} slices", condition.shape)));
    }
    let kept = constant(c, &[kept.len()], kept)?;
    let y = take(c, x, kept, axis)?;
    c.output(0, y);
    Ok(())
}

/// `ReverseSequence`: of each sequence of a batch the first frames, as many as a constant says, the other way round.
pub fn reverse_sequence(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let lengths = c.constant_ints(1, "the lengths")?;
    let shape = c.shape(x);
    let (batch, time) = (c.int("batch_axis", 1), c.int("time_axis", 0));
    if shape.len() < 2 || !matches!((batch, time), (0, 1) | (1, 0)) {
        return Err(Failure::malformed(format!("batch axis {batch} and time axis {time} of {shape:?}")));
    }
    let (batch, time) = (batch as usize, time as usize);
    if lengths.len() != shape[batch] || lengths.iter().any(|n| !(0..=shape[time] as i64).contains(n)) {
        return Err(Failure::malformed(format!("lengths {lengths:?} of {shape:?}")));
    }
    let columns = shape[1] as i64;
    c.reserve(shape[0] * shape[1], DType::I64)?;
    let from = |row: i64, column: i64| {
        let (t, length) = if time == 0 { (row, lengths[column as usize]) } else { (column, lengths[row as usize]) };
        let t = if t < length { length - 1 - t } else { t };
        if time == 0 { t * columns + column } else { row * columns + t }
    };
    let places: Vec<i64> =
        (0..shape[0] as i64).flat_map(|r| (0..columns).map(move |k| (r, k))).map(|(r, k)| from(r, k)).collect();
    let places = c.add_constant(Array::i64s(&places));
    let flat = c.reshaped(x, &[shape[0] * shape[1], product(&shape[2..])])?;
    let y = take(c, flat, places, 0)?;
    let y = c.reshaped(y, &shape)?;
    c.output(0, y);
    Ok(())
}

/// `EyeLike`: only the shape of its input counts.
pub fn eye_like(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let &[h, w] = &c.shape(x)[..] else { return Err(Failure::malformed("it is for matrices")) };
    let code = c.int("dtype", 0) as i32;
    let dtype = if c.has("dtype") { dtype_from_onnx(code) } else { Some(c.dtype(x)) };
    let dtype =
        dtype.ok_or_else(|| Failure::unsupported(format!("element type {code}"), "convert the model to f32"))?;
    let k = i128::from(c.int("k", 0));
    c.reserve(h * w, dtype)?;
    let one = |i: usize| i64::from(i as i128 % w as i128 - i as i128 / w as i128 == k);
    let ones = Array::int(DType::I64, &[h, w], (0..h * w).map(one).collect());
    let y = c.add_constant(ones);
    let y = c.as_type(y, dtype)?;
    c.output(0, y);
    Ok(())
}

/// `Trilu`: the upper or the lower triangle of matrices, the rest 0.
pub fn trilu(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let (shape, dtype) = (c.shape(x), c.dtype(x));
    let k = if c.optional(1).is_some() { c.constant_ints(1, "the diagonal")? } else { vec![0] };
    let (&[k], &[.., h, w]) = (&k[..], &shape[..]) else {
        return Err(Failure::malformed(format!("diagonal {k:?} of {shape:?}")));
    };
    let upper = c.flag("upper", true);
    c.reserve(h * w, DType::Bool)?;
    let stays = |i: usize| {
        let off = i as i128 % w as i128 - i as i128 / w as i128 - i128::from(k);
        i64::from(if upper { off >= 0 } else { off <= 0 })
    };
    let mask = c.add_constant(Array::int(DType::Bool, &[h, w], (0..h * w).map(stays).collect()));
    let zero = if dtype == DType::F32 { Array::scalar(0.0) } else { Array::int(dtype, &[], vec![0]) };
    let zero = c.add_constant(zero);
    let y = c.select(mask, x, zero)?;
    c.output(0, y);
    Ok(())
}

/// `NonZero` of a constant.
pub fn non_zero(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let x = c.constant(x, "its input")?;
    let shape = if x.shape.is_empty() { vec![1] } else { x.shape.clone() };
    let (own, reals) = (strides(&shape), x.reals());
    let found: Vec<usize> = (0..reals.len()).filter(|&i| reals[i] != 0.0).collect();
    let along = |d: usize| found.iter().map(|&i| (i / own[d] % shape[d]) as i64).collect::<Vec<_>>();
    let places: Vec<i64> = (0..shape.len()).flat_map(along).collect();
    let y = constant(c, &[shape.len(), found.len()], places)?;
    c.output(0, y);
    Ok(())
}

/// `Unique` of a constant: of the elements, or of the slices along an axis.
pub fn unique(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let x = c.constant(x, "its input")?;
    let (x, axis) = if c.has("axis") {
        let axis = c.axis(c.int("axis", 0), x.shape.len())?;
        (x.as_ref().clone(), axis)
    } else {
        (x.as_ref().clone().reshaped(&[x.len()]), 0)
    };
    let (n, slice) = (x.shape[axis], x.len() / x.shape[axis].max(1));
    c.reserve(x.len(), x.dtype)?;
    c.reserve(n.saturating_mul(3), DType::I64)?;
    let inner = product(&x.shape[axis + 1..]);
    let at = |i: usize, j: usize| (j / inner.max(1) * n + i) * inner + j % inner.max(1);
    let (reals, ints) = match x.dtype {
        DType::F32 => (x.reals().into_owned(), vec![0; x.len()]),
        _ => (vec![0.0; x.len()], x.ints().into_owned()),
    };
    let order = |a: usize, b: usize| {
        let each = (0..slice).map(|j| (at(a, j), at(b, j)));
        let mut each = each.map(|(a, b)| {
            reals[a].partial_cmp(&reals[b]).unwrap_or(reals[a].total_cmp(&reals[b])).then(ints[a].cmp(&ints[b]))
        });
        each.find(|o| o.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
    };
    // Equal slices stand together, the first of them first.
    let mut sorted: Vec<usize> = (0..n).collect();
    sorted.sort_by(|&a, &b| order(a, b));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for i in sorted {
        match groups.last_mut() {
            Some(group) if order(group[0], i).is_eq() => group.push(i),
            _ => groups.push(vec![i]),
        }
    }
    if !c.flag("sorted", true) {
        groups.sort_by_key(|group| group[0]);
    }
    let firsts: Vec<usize> = groups.iter().map(|g| g[0]).collect();
    let mut inverse = vec![0i64; n];
    for (k, group) in groups.iter().enumerate() {
        group.iter().for_each(|&i| inverse[i] = k as i64);
    }
    let y = c.add_constant(x.select(axis, &firsts));
    let numbers = |v: Vec<usize>| Array::i64s(&v.into_iter().map(|v| v as i64).collect::<Vec<_>>());
    let indices = c.add_constant(numbers(firsts));
    let inverse = c.add_constant(Array::i64s(&inverse));
    let counts = c.add_constant(numbers(groups.iter().map(Vec::len).collect()));
    for (i, t) in [y, indices, inverse, counts].into_iter().enumerate() {
        c.output(i, t);
    }
    Ok(())
}
