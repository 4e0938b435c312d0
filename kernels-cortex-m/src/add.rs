//! Residuals of bytes.

#[cfg(target_abi = "eabihf")]
use core::arch::global_asm;

use kinglet::elementwise::Elementwise;
use kinglet::product::{Finish, Place};
use kinglet::quant;

#[cfg(helium)]
global_asm!(core_directives!(), include_str!("helium/add.s"), options(raw));
#[cfg(all(target_abi = "eabihf", not(helium)))]
global_asm!(core_directives!(), include_str!("dsp/add.s"), options(raw));

/// What the function of `add.s` reads, word by word.
#[cfg(target_abi = "eabihf")]
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

#[cfg(target_abi = "eabihf")]
unsafe extern "C" {
    fn kinglet_add(constants: &Constants, a: *const i8, b: *const i8, to: *mut i8, n: usize);
}

/// Adds a residual of signed bytes to rounded sums, `[pixel][channel]`, that are signed bytes themselves.
///
/// There is no division of vectors. A product with the rounded reciprocal and two fused multiplications give the same bits (Markstein; Brisebarre, Muller
/// and Raina 2004; a test of [`kinglet::quant`]), as long as what is left over is no denormal, which these vectors take for 0.
#[cfg(target_abi = "eabihf")]
pub fn add<E: Elementwise>(f: &mut Finish<'_, E>, to: Place, rounded: &[i8]) {
    let (p, (out_scale, out_zero)) = (f.params, (f.out.scale(), f.out.zero_point()));
    let Some(r) = f.residual else { return };
    if cfg!(helium) && ![p.mid_scale, r.scale, out_scale].iter().all(|s| (1e-15..1e15).contains(s)) {
        return one_by_one(f, to, rounded);
    }
    let constants = Constants {
        zero: p.mid_zero.wrapping_neg(),
        scale: p.mid_scale,
        other_zero: r.zero_point.wrapping_neg(),
        other_scale: r.scale,
        reciprocal: 1.0 / out_scale,
        divisor: -out_scale,
        out_zero,
        least: if f.stages().len() > 1 { 0.0 } else { f32::NEG_INFINITY },
    };
    for (pixel, rounded) in rounded.chunks_exact(to.width.max(1)).enumerate() {
        let at = to.at + pixel * to.step;
        // The result may take the place of the residual, element for element.
        let (Some(others), Some(mut out)) =
            (r.pixels::<i8>(at, to.width, to.width, 1), f.out.pixels::<i8>(at, to.width, to.width, 1))
        else {
            return;
        };
        // SAFETY: `pixels` has checked that both have so many elements, at least one, of which the function stores each after it has read it.
        unsafe { kinglet_add(&constants, rounded.as_ptr(), others, out.as_mut_ptr(), rounded.len()) };
    }
}

/// As above, on a core without floats.
#[cfg(not(target_abi = "eabihf"))]
pub fn add<E: Elementwise>(f: &mut Finish<'_, E>, to: Place, rounded: &[i8]) {
    one_by_one(f, to, rounded);
}

/// Element by element, as [`quant`] has it.
fn one_by_one<E: Elementwise>(f: &mut Finish<'_, E>, to: Place, rounded: &[i8]) {
    let relu = f.stages().len() > 1;
    let (p, (scale, zero)) = (f.params, (f.out.scale(), f.out.zero_point()));
    let Some(r) = f.residual else { return };
    for (pixel, rounded) in rounded.chunks_exact(to.width.max(1)).enumerate() {
        let at = to.at + pixel * to.step;
        // The result may take the place of the residual, element for element.
        let (Some(others), Some(mut out)) =
            (r.pixels::<i8>(at, to.width, to.width, 1), f.out.pixels::<i8>(at, to.width, to.width, 1))
        else {
            return;
        };
        let out = out.as_mut_ptr();
        for (c, &q) in rounded.iter().enumerate() {
            // SAFETY: `pixels` has checked that both have so many elements.
            let other = unsafe { *others.add(c) };
            let v = quant::dequantize(q.into(), p.mid_scale, p.mid_zero)
                + quant::dequantize(other.into(), r.scale, r.zero_point);
            let v = if relu && v < 0.0 { 0.0 } else { v };
            let byte = quant::quantize(v, scale, zero, i8::MIN.into(), i8::MAX.into()) as i8;
            // SAFETY: as above.
            unsafe { *out.add(c) = byte };
        }
    }
}
