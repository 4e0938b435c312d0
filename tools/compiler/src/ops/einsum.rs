//! `Einsum`, as products of matrices and elements.

use crate::array::broadcast;
use crate::graph::{BinaryOp, Op, Post, ReduceOp, TensorId};
use crate::import::{Context, Failure};

/// A tensor whose axes have letters.
struct Term {
    tensor: TensorId,
    axes: Vec<char>,
}

/// `Einsum` (opset 12). Operands are combined two at a time, first to last.
pub fn einsum(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let equation: String = c.string("equation", "").chars().filter(|ch| !ch.is_whitespace()).collect();
    if equation.contains('.') {
        return Err(Failure::unsupported("the equation has an ellipsis", "write its axes out"));
    }
    let (left, right) = match equation.split_once("->") {
        Some((l, r)) => (l.to_string(), r.chars().collect::<Vec<_>>()),
        None => {
            // Without "->" the result has, in alphabetical order, the letters that occur once.
            let mut letters: Vec<char> = equation.chars().filter(|ch| ch.is_ascii_alphabetic()).collect();
            letters.sort_unstable();
            let once = letters.iter().filter(|l| letters.iter().filter(|m| m == l).count() == 1);
            (equation.clone(), once.copied().collect())
        }
    };
    let terms: Vec<Vec<char>> = left.split(',').map(|t| t.chars().collect()).collect();
    if terms.len() != c.input_count() {
        return Err(Failure::malformed(format!("equation `{equation}` for {} operands", c.input_count())));
    }
    let known = |l: &char| terms.iter().any(|t| t.contains(l));
    if (0..right.len()).any(|k| right[..k].contains(&right[k]) || !known(&right[k])) {
        return Err(Failure::malformed(format!("the result of equation `{equation}`")));
    }
    let mut rest = Vec::new();
    for (i, axes) in terms.into_iter().enumerate() {
        let tensor = c.input(i)?;
        if axes.len() != c.shape(tensor).len() {
            return Err(Failure::malformed(format!("`{}` for shape {:?}", String::from_iter(&axes), c.shape(tensor))));
        }
        if (1..axes.len()).any(|k| axes[..k].contains(&axes[k])) {
            return Err(Failure::unsupported("an index occurs twice in one operand", "take the diagonal beforehand"));
        }
        rest.push(Term { tensor, axes });
    }
    let mut total = rest.remove(0);
    while !rest.is_empty() {
        let next = rest.remove(0);
        let kept: Vec<char> = right.iter().chain(rest.iter().flat_map(|t| &t.axes)).copied().collect();
        total = combine(c, total, next, &kept)?;
    }
    let total = sum_out(c, total, &right)?;
    let total = arrange(c, &total, &right)?;
    c.output(0, total);
    Ok(())
}

/// Sums over the axes that nobody needs any more.
fn sum_out(c: &mut Context<'_, '_>, t: Term, kept: &[char]) -> Result<Term, Failure> {
    let axes: Vec<usize> = (0..t.axes.len()).filter(|&d| !kept.contains(&t.axes[d])).collect();
    if axes.is_empty() {
        return Ok(t);
    }
    let shape = c.shape(t.tensor);
    let left: Vec<usize> = (0..shape.len()).filter(|d| !axes.contains(d)).collect();
    let out: Vec<usize> = left.iter().map(|&d| shape[d]).collect();
    let dtype = c.dtype(t.tensor);
    let tensor = c.emit(Op::Reduce { op: ReduceOp::Sum, axes, keep: false }, &[t.tensor], dtype, &out)?;
    Ok(Term { tensor, axes: left.iter().map(|&d| t.axes[d]).collect() })
}

/// Transposes to the given order of axes; letters the term lacks become axes of extent 1.
fn arrange(c: &mut Context<'_, '_>, t: &Term, order: &[char]) -> Result<TensorId, Failure> {
    let present: Vec<char> = order.iter().copied().filter(|l| t.axes.contains(l)).collect();
    let perm: Vec<usize> =
        present.iter().map(|l| t.axes.iter().position(|a| a == l).expect("present letters are axes")).collect();
    if perm.len() != t.axes.len() {
        return Err(Failure::malformed("the result lacks an axis of an operand"));
    }
    let shape = c.shape(t.tensor);
    let moved: Vec<usize> = perm.iter().map(|&d| shape[d]).collect();
    let dtype = c.dtype(t.tensor);
    let x = if perm.iter().enumerate().all(|(i, &d)| i == d) {
        t.tensor
    } else {
        c.emit(Op::Transpose { perm }, &[t.tensor], dtype, &moved)?
    };
    let mut extents = moved.iter();
    let full: Vec<usize> = order
        .iter()
        .map(|l| if t.axes.contains(l) { *extents.next().expect("as many as present") } else { 1 })
        .collect();
    c.reshaped(x, &full)
}

fn combine(c: &mut Context<'_, '_>, a: Term, b: Term, kept: &[char]) -> Result<Term, Failure> {
    let needed = |own: &[char], other: &[char]| -> Vec<char> {
        own.iter().copied().filter(|l| other.contains(l) || kept.contains(l)).collect()
    };
    let (need_a, need_b) = (needed(&a.axes, &b.axes), needed(&b.axes, &a.axes));
    let a = sum_out(c, a, &need_a)?;
    let b = sum_out(c, b, &need_b)?;
    let shared = |l: &char| a.axes.contains(l) && b.axes.contains(l);
    let batch: Vec<char> = a.axes.iter().copied().filter(|l| shared(l) && kept.contains(l)).collect();
    let summed: Vec<char> = a.axes.iter().copied().filter(|l| shared(l) && !kept.contains(l)).collect();
    let only =
        |own: &[char], other: &[char]| -> Vec<char> { own.iter().copied().filter(|l| !other.contains(l)).collect() };
    let (rows, columns) = (only(&a.axes, &b.axes), only(&b.axes, &a.axes));
    let axes = [&batch[..], &rows, &columns].concat();
    let dtype = c.dtype(a.tensor);
    if summed.is_empty() {
        let (x, y) = (arrange(c, &a, &axes)?, arrange(c, &b, &axes)?);
        let shape =
            broadcast(&c.shape(x), &c.shape(y)).ok_or_else(|| Failure::malformed("extents of an index differ"))?;
        let tensor = c.emit(Op::Binary(BinaryOp::Mul), &[x, y], dtype, &shape)?;
        return Ok(Term { tensor, axes });
    }
    let extent = |c: &Context<'_, '_>, t: &Term, letters: &[char]| -> Vec<usize> {
        let shape = c.shape(t.tensor);
        letters.iter().map(|l| shape[t.axes.iter().position(|a| a == l).expect("the term has the letter")]).collect()
    };
    let (eb, er, es) = (extent(c, &a, &batch), extent(c, &a, &rows), extent(c, &a, &summed));
    let ec = extent(c, &b, &columns);
    if extent(c, &b, &batch) != eb || extent(c, &b, &summed) != es {
        return Err(Failure::malformed("extents of an index differ"));
    }
    let (m, n, k) = (er.iter().product::<usize>(), ec.iter().product::<usize>(), es.iter().product::<usize>());
    let x = arrange(c, &a, &[&batch[..], &rows, &summed].concat())?;
    let y = arrange(c, &b, &[&batch[..], &summed, &columns].concat())?;
    let x = c.reshaped(x, &[&eb[..], &[m, k]].concat())?;
    let y = c.reshaped(y, &[&eb[..], &[k, n]].concat())?;
    let op = Op::MatMul { transpose_a: false, transpose_b: false, post: Post::default() };
    let product = c.emit(op, &[x, y], dtype, &[&eb[..], &[m, n]].concat())?;
    let tensor = c.reshaped(product, &[&eb[..], &er, &ec].concat())?;
    Ok(Term { tensor, axes })
}
