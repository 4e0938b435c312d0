//! Grids and determinants: small matrices of which a model has many.

use kinglet::DType;

use crate::graph::{BinaryOp, TensorId};
use crate::import::{Context, Failure};

/// Largest matrix whose determinant is written out.
const MOST_ROWS: usize = 4;

/// `AffineGrid` (opset 20): the product of the constant positions of a grid with each matrix.
pub fn affine_grid(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let theta = c.input(0)?;
    let size = c.constant_ints(1, "the size")?;
    let extents: Vec<usize> = size.iter().filter_map(|&n| usize::try_from(n).ok()).collect();
    let shape = c.shape(theta);
    let spatial = extents.len().saturating_sub(2);
    if extents.len() != size.len() || !matches!(spatial, 2 | 3) || shape != [extents[0], spatial, spatial + 1] {
        return Err(Failure::malformed(format!("matrices of shape {shape:?} for pictures of shape {size:?}")));
    }
    if c.dtype(theta) != DType::F32 {
        return Err(Failure::malformed("the matrices are no real tensors"));
    }
    let corners = c.flag("align_corners", false);
    let axes = &extents[2..];
    if corners && axes.contains(&1) {
        return Err(Failure::malformed("of an axis of one position both ends are its corner"));
    }
    let places = axes.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let places = places.ok_or_else(|| Failure::malformed(format!("pictures of shape {size:?}")))?;
    // Homogeneous coordinates: the last axis first, and a one.
    let columns = spatial + 1;
    let along = |place: usize, axis: usize| {
        let behind: usize = axes[axis + 1..].iter().product();
        let (i, n) = ((place / behind % axes[axis]) as f64, axes[axis] as f64);
        if corners { 2.0 * i / (n - 1.0) - 1.0 } else { (2.0 * i + 1.0) / n - 1.0 }
    };
    let value = |k: usize| match k % columns {
        column if column == spatial => 1.0,
        column => along(k / columns, spatial - 1 - column),
    };
    let base = c.reals(&[places, columns], value)?;
    let y = c.product(base, theta, [false, true])?;
    let y = c.reshaped(y, &[&extents[..1], axes, &[spatial]].concat())?;
    c.output(0, y);
    Ok(())
}

/// `Det` (opset 11): by cofactors.
pub fn det(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let Some((lead, &[n, columns])) = shape.split_last_chunk::<2>() else {
        return Err(Failure::malformed(format!("a determinant of shape {shape:?}")));
    };
    if n != columns || c.dtype(x) != DType::F32 {
        return Err(Failure::malformed(format!("a determinant of shape {shape:?}")));
    }
    if n > MOST_ROWS {
        return Err(Failure::unsupported(
            format!("a determinant of {n} rows"),
            format!("there are those of up to {MOST_ROWS}, written out"),
        ));
    }
    let batch = lead.iter().product();
    let flat = c.reshaped(x, &[batch, n * n])?;
    let entries = c.moved(flat, 1, 0)?;
    let entries = (0..n * n).map(|k| c.position(entries, k)).collect::<Result<Vec<_>, _>>()?;
    // Determinants of the last rows, by the set of their columns as bits. That of no rows is 1.
    let mut minors: Vec<Option<TensorId>> = vec![None; 1 << n];
    minors[0] = Some(c.reals(&[], |_| 1.0)?);
    for rows in 1..=n {
        let row = n - rows;
        for set in (0..1usize << n).filter(|s| s.count_ones() as usize == rows) {
            let mut sum = None;
            for (k, column) in (0..n).filter(|column| set >> column & 1 == 1).enumerate() {
                let Some(minor) = minors[set & !(1 << column)] else { continue };
                let entry = entries[row * n + column];
                let term = if rows == 1 { entry } else { c.binary(BinaryOp::Mul, entry, minor)? };
                sum = Some(match sum {
                    None => term,
                    Some(sum) if k % 2 == 0 => c.binary(BinaryOp::Add, sum, term)?,
                    Some(sum) => c.binary(BinaryOp::Sub, sum, term)?,
                });
            }
            minors[set] = sum;
        }
    }
    let y = minors[(1 << n) - 1].ok_or_else(|| Failure::malformed("a determinant without rows"))?;
    let y = if n == 0 { c.expanded(y, lead)? } else { c.reshaped(y, lead)? };
    c.output(0, y);
    Ok(())
}
