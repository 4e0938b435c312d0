//! Residuals of bytes, four at a time by floats.

use core::arch::global_asm;

use kinglet::elementwise::Elementwise;
use kinglet::product::{Finish, Place};

use crate::add::Added;

global_asm!(core_directives!(), include_str!("add.s"), options(raw));

/// What the function of `add.s` reads, word by word.
#[repr(C)]
struct Constants {
    /// The zero points, negated, and scales of the rounded sums and of the residual.
    zero: i32,
    scale: f32,
    other_zero: i32,
    other_scale: f32,
    /// The reciprocal of the result's scale, that scale negated, and its zero point.
    reciprocal: f32,
    divisor: f32,
    out_zero: i32,
    /// What is less becomes this: 0 for a ReLU.
    least: f32,
}

unsafe extern "C" {
    fn kinglet_add(constants: &Constants, a: *const i8, b: *const i8, to: *mut i8, n: usize);
}

/// Adds a residual of signed bytes to rounded sums, `[pixel][channel]`, that are signed bytes themselves.
///
/// There is no division of vectors. A product with the rounded reciprocal and two fused multiplications give the same bits (Markstein; Brisebarre, Muller
/// and Raina 2004; a test of [`kinglet::quant`]), as long as what is left over is no denormal, which these vectors take for 0.
pub fn add<E: Elementwise>(f: &mut Finish<'_, E>, to: Place, rounded: &[i8]) {
    let Some(r) = f.residual else { return };
    let added = Added::of(f, &r);
    let ([(scale, zero), (other_scale, other_zero)], (out_scale, out_zero)) = (added.terms, added.out);
    let by_vectors = [scale, other_scale, out_scale].iter().all(|s| (1e-15..1e15).contains(s));
    let constants = Constants {
        zero: zero.wrapping_neg(),
        scale,
        other_zero: other_zero.wrapping_neg(),
        other_scale,
        reciprocal: 1.0 / out_scale,
        divisor: -out_scale,
        out_zero,
        least: if added.relu { 0.0 } else { f32::NEG_INFINITY },
    };
    let mut run = |at: usize, rounded: &[i8]| {
        let n = rounded.len();
        // The result may take the place of the residual, element for element.
        let (Some(others), Some(mut out)) = (r.pixels::<i8>(at, n, n, 1), f.out.pixels::<i8>(at, n, n, 1)) else {
            return false;
        };
        // SAFETY: `pixels` has checked that both have so many elements, at least one, each of which is stored after it has been read.
        unsafe {
            if by_vectors {
                kinglet_add(&constants, rounded.as_ptr(), others, out.as_mut_ptr(), n);
            } else {
                for (i, &q) in rounded.iter().enumerate() {
                    *out.as_mut_ptr().add(i) = added.one(q, *others.add(i));
                }
            }
        }
        true
    };
    // Pixels of all channels lie one after the other.
    if to.width == to.step && !rounded.is_empty() && run(to.at, rounded) {
        return;
    }
    for (pixel, rounded) in rounded.chunks_exact(to.width.max(1)).enumerate() {
        run(to.at + pixel * to.step, rounded);
    }
}
