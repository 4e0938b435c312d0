//! `DFT`, as a product with the constant matrix of the transform.

use kinglet::DType;

use super::matmul::emit_matmul;
use crate::array::Array;
use crate::import::{Context, Failure};

/// `DFT` (opset 17 and 20): x `[…, n, …, 1 or 2]`, the last axis holding real and imaginary part.
pub fn dft(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let rank = shape.len();
    let Some(&parts) = shape.last().filter(|&&p| rank >= 2 && (p == 1 || p == 2)) else {
        return Err(Failure::malformed(format!("input of shape {shape:?}")));
    };
    let axis = match c.optional(2) {
        Some(_) => *c.constant_ints(2, "the axis")?.first().ok_or_else(|| Failure::malformed("empty axis"))?,
        None => c.int("axis", if c.opset >= 20 { -2 } else { 1 }),
    };
    let axis = c.axis(axis, rank)?;
    if axis == rank - 1 {
        return Err(Failure::malformed("the axis of the parts cannot be transformed"));
    }
    let (inverse, onesided) = (c.flag("inverse", false), c.flag("onesided", false));
    let given = shape[axis];
    let length = match c.optional(1) {
        Some(_) => c.constant_ints(1, "the length")?.first().copied().unwrap_or(0),
        None if inverse && onesided => 2 * (given as i64 - 1),
        None => given as i64,
    };
    let n = usize::try_from(length).ok().filter(|n| (1..=1 << 16).contains(n));
    let n = n.ok_or_else(|| Failure::malformed(format!("transform of length {length}")))?;
    let (m, out_parts) = match (inverse, onesided) {
        (false, true) => (n / 2 + 1, 2),
        (true, true) => (n, 1),
        _ => (n, 2),
    };
    let t = Transform { n, given, parts, m, out_parts, inverse };
    let matrix = t.matrix(c)?;
    let matrix = c.add_constant(Array::f32(&[given * parts, m * out_parts], matrix));
    let order: Vec<usize> = (0..rank - 1).filter(|&d| d != axis).chain([axis, rank - 1]).collect();
    let lead: Vec<usize> = order[..rank - 2].iter().map(|&d| shape[d]).collect();
    let moved = c.transposed(x, &order)?;
    let flat = c.reshaped(moved, &[&lead[..], &[given * parts]].concat())?;
    // A single row keeps the operand at rank 2.
    let flat = if lead.is_empty() { c.reshaped(flat, &[1, given * parts])? } else { flat };
    let y = emit_matmul(c, flat, matrix, DType::F32)?;
    let y = c.reshaped(y, &[&lead[..], &[m, out_parts]].concat())?;
    let mut back = vec![0; rank];
    order.iter().enumerate().for_each(|(i, &d)| back[d] = i);
    let y = c.transposed(y, &back)?;
    c.output(0, y);
    Ok(())
}

/// A Fourier transform as a matrix.
pub(super) struct Transform {
    /// Its length.
    pub(super) n: usize,
    /// Positions of the input; further ones are cut off, missing ones 0.
    pub(super) given: usize,
    /// 1 for real input, 2 for complex.
    pub(super) parts: usize,
    /// Positions of the output.
    pub(super) m: usize,
    /// 1 for real output (of a spectrum of one side), 2 for complex.
    pub(super) out_parts: usize,
    /// Whether it is the inverse one.
    pub(super) inverse: bool,
}

impl Transform {
    /// Rows: (position, part) of the input; columns: (position, part) of the output.
    ///
    /// # Errors
    /// [`Failure::Unsupported`] if the matrix goes beyond the budget.
    pub(super) fn matrix(&self, c: &mut Context<'_, '_>) -> Result<Vec<f64>, Failure> {
        let Transform { n, given, parts, m, out_parts, inverse } = *self;
        let real_output = out_parts == 1;
        c.reserve(given.saturating_mul(parts * m * out_parts), DType::F32)?;
        let mut matrix = vec![0f64; given * parts * m * out_parts];
        let scale = if inverse { 1.0 / n as f64 } else { 1.0 };
        let sign = if inverse { 1.0 } else { -1.0 };
        for i in 0..given.min(if real_output { n / 2 + 1 } else { n }) {
            // A one-sided spectrum stands for its mirror image too, except at the ends.
            let weight = if real_output && i != 0 && 2 * i != n { 2.0 } else { 1.0 };
            for o in 0..m {
                let angle = sign * 2.0 * std::f64::consts::PI * ((i * o) % n) as f64 / n as f64;
                let (sin, cos) = angle.sin_cos();
                let mut put = |part: usize, out: usize, v: f64| {
                    if part < parts && out < out_parts {
                        matrix[((i * parts + part) * m + o) * out_parts + out] = v * scale * weight;
                    }
                };
                put(0, 0, cos);
                put(0, 1, sin);
                put(1, 0, -sin);
                put(1, 1, cos);
            }
        }
        Ok(matrix)
    }
}
