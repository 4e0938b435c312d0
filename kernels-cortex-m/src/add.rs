//! The sum of rounded bytes and a residual.

use kinglet::quant;
#[cfg(simd)]
use kinglet::{elementwise::Elementwise, product::Finish, rows::View};

/// What bytes of both stand for, and what their sums become.
pub struct Added {
    /// Scale and zero point of the rounded bytes, and of the residual.
    pub terms: [(f32, i32); 2],
    /// Of the result.
    pub out: (f32, i32),
    /// No sum is below 0.
    pub relu: bool,
}

impl Added {
    #[cfg(simd)]
    pub fn of<E: Elementwise>(f: &Finish<'_, E>, residual: &View<'_>) -> Self {
        Added {
            terms: [(f.params.mid_scale, f.params.mid_zero), (residual.scale, residual.zero_point)],
            out: (f.out.scale(), f.out.zero_point()),
            relu: f.stages().len() > 1,
        }
    }

    /// The sum of two bytes, as [`quant`] has it.
    #[inline(never)]
    pub fn one(&self, rounded: i8, residual: i8) -> i8 {
        let ([(scale, zero), (other_scale, other_zero)], (out_scale, out_zero)) = (self.terms, self.out);
        let v = quant::dequantize(rounded.into(), scale, zero)
            + quant::dequantize(residual.into(), other_scale, other_zero);
        let v = if self.relu && v < 0.0 { 0.0 } else { v };
        quant::quantize(v, out_scale, out_zero, i8::MIN.into(), i8::MAX.into()) as i8
    }
}
