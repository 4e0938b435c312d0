//! `Einsum`, as products of matrices and elements.

use crate::array::broadcast;
use crate::graph::{BinaryOp, Op, Post, ReduceOp, TensorId};
use crate::import::{Context, Failure};

/// A tensor whose axes have letters.
struct Term {
    tensor: TensorId,
    axes: Vec<char>,
}

/// Stands for an ellipsis among the letters of a term.
const ELLIPSIS: char = '.';
/// Most axes of an ellipsis.
const MOST_OPEN: usize = 10;

/// The last `open` of the `most` axes that an ellipsis has: digits among the letters.
fn open_axes(most: usize, open: usize) -> Vec<char> {
    ('0'..='9').take(most).skip(most - open).collect()
}

/// The axes of a term, an ellipsis as one character.
fn letters(term: &str) -> Result<Vec<char>, Failure> {
    let axes: Vec<char> = term.replacen("...", ".", 1).chars().collect();
    let dots = axes.iter().filter(|&&l| l == ELLIPSIS).count();
    if dots > 1
        || dots < usize::from(term.contains(ELLIPSIS))
        || (dots == 1 && !term.contains("..."))
        || axes.iter().any(|&l| l != ELLIPSIS && !l.is_ascii_alphabetic())
    {
        return Err(Failure::malformed(format!("term `{term}`")));
    }
    Ok(axes)
}

/// Of an index that an operand has several times the diagonal.
fn diagonal(c: &mut Context<'_, '_>, mut t: Term) -> Result<Term, Failure> {
    while let Some(later) = (1..t.axes.len()).find(|&k| t.axes[..k].contains(&t.axes[k])) {
        let first = t.axes.iter().position(|&l| l == t.axes[later]).expect("it is there before");
        let last = t.axes.len() - 1;
        // Both axes as one, at the end, of which every (n + 1)th element is on the diagonal.
        let x = c.moved(t.tensor, later, last)?;
        let x = c.moved(x, first, last - 1)?;
        let mut shape = c.shape(x);
        let n = shape[last];
        if shape[last - 1] != n {
            return Err(Failure::malformed(format!("extents of index `{}` differ", t.axes[later])));
        }
        shape.pop();
        shape[last - 1] = n * n;
        let x = c.reshaped(x, &shape)?;
        let index = t.axes.remove(later);
        t.axes.remove(first);
        t.axes.push(index);
        t.tensor = c.sliced(x, last - 1, 0, n, n as i64 + 1)?;
    }
    Ok(t)
}

/// Takes axes of extent 1 away where other operands have more of them.
fn broadcast_axes(c: &mut Context<'_, '_>, terms: Vec<Term>) -> Result<Vec<Term>, Failure> {
    let extents = |c: &Context<'_, '_>, t: &Term| t.axes.iter().copied().zip(c.shape(t.tensor)).collect::<Vec<_>>();
    let all: Vec<(char, usize)> = terms.iter().flat_map(|t| extents(c, t)).collect();
    let wide = |l: char| all.iter().any(|&(m, n)| m == l && n != 1);
    let mut kept = Vec::new();
    for t in terms {
        let stays: Vec<(char, usize)> = extents(c, &t).into_iter().filter(|&(l, n)| n != 1 || !wide(l)).collect();
        let (axes, shape): (Vec<char>, Vec<usize>) = stays.into_iter().unzip();
        kept.push(Term { tensor: c.reshaped(t.tensor, &shape)?, axes });
    }
    Ok(kept)
}

/// `Einsum` (opset 12). Operands are combined two at a time, first to last.
pub fn einsum(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let equation: String = c.string("equation", "").chars().filter(|ch| !ch.is_whitespace()).collect();
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left.to_string(), Some(letters(right)?)),
        None => (equation.clone(), None),
    };
    let terms = left.split(',').map(letters).collect::<Result<Vec<_>, _>>()?;
    if terms.len() != c.input_count() {
        return Err(Failure::malformed(format!("equation `{equation}` for {} operands", c.input_count())));
    }
    let mut rest = Vec::new();
    let mut most = 0;
    for (i, axes) in terms.iter().enumerate() {
        let tensor = c.input(i)?;
        let rank = c.shape(tensor).len();
        let bad = || Failure::malformed(format!("`{left}` for operand {i} of rank {rank}"));
        let named = axes.iter().filter(|&&l| l != ELLIPSIS).count();
        let open = rank.checked_sub(named).filter(|&n| n == 0 || named < axes.len()).ok_or_else(bad)?;
        most = most.max(open);
        rest.push((tensor, axes, open));
    }
    if most > MOST_OPEN {
        return Err(Failure::unsupported(format!("an ellipsis of {most} axes"), "merge some of them by Reshape"));
    }
    let written = |axes: &[char], open: usize| -> Vec<char> {
        axes.iter().flat_map(|&l| if l == ELLIPSIS { open_axes(most, open) } else { vec![l] }).collect()
    };
    let right = match right {
        Some(right) if most > 0 && !right.contains(&ELLIPSIS) => {
            return Err(Failure::malformed(format!("the result of equation `{equation}` lacks its ellipsis")));
        }
        Some(right) => written(&right, most),
        None => {
            // Without "->" the result has the axes of the ellipsis and, in alphabetical order, the letters that occur once.
            let mut all: Vec<char> = terms.iter().flatten().copied().filter(|&l| l != ELLIPSIS).collect();
            all.sort_unstable();
            let once = all.iter().filter(|&l| all.iter().filter(|&m| m == l).count() == 1);
            open_axes(most, most).into_iter().chain(once.copied()).collect()
        }
    };
    let mut operands = Vec::new();
    for (tensor, axes, open) in rest {
        operands.push(diagonal(c, Term { tensor, axes: written(axes, open) })?);
    }
    let known = |l: &char| operands.iter().any(|t| t.axes.contains(l));
    if (0..right.len()).any(|k| right[..k].contains(&right[k]) || !known(&right[k])) {
        return Err(Failure::malformed(format!("the result of equation `{equation}`")));
    }
    let mut rest = broadcast_axes(c, operands)?;
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
