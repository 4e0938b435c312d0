//! Reals and the integers that stand for them.

use kinglet::DType;

use crate::array::Array;
use crate::graph::Quant;

/// The reals that quantised integers stand for: `(q − zero_point) · scale`, per tensor or per axis.
pub fn dequantize(a: &Array, q: &Quant) -> Array {
    Array::f32(&a.shape, dequantize_all(a, q))
}

/// `saturate(round_half_even(x / scale) + zero_point)` in `dtype`; NaN becomes the smallest value.
pub fn quantize(a: &Array, q: &Quant, dtype: DType) -> Array {
    Array::int(dtype, &a.shape, quantize_all(&a.reals(), &a.shape, q, dtype))
}

/// `x / scale + zero_point`, neither rounded nor saturated: how far [`quantize`] is from a tie.
pub fn quantize_unrounded(a: &Array, q: &Quant) -> Array {
    Array::f32(&a.shape, map_scaled(&a.reals(), &a.shape, q, |v, scale, zero| v / scale + zero))
}

/// [`dequantize`] to bare numbers.
pub(super) fn dequantize_all(a: &Array, q: &Quant) -> Vec<f64> {
    map_scaled(&a.reals(), &a.shape, q, |v, scale, zero| (v - zero) * scale)
}

/// [`quantize`] on bare numbers.
pub(super) fn quantize_all(v: &[f64], shape: &[usize], q: &Quant, dtype: DType) -> Vec<i64> {
    map_scaled(v, shape, q, |v, scale, zero| quantize_one(v, scale, zero, dtype))
}

/// [`quantize`] of one number.
pub(super) fn quantize_one(v: f64, scale: f64, zero_point: f64, dtype: DType) -> i64 {
    let (lo, hi) = range(dtype);
    let q = (v / scale).round_ties_even() + zero_point;
    if q.is_nan() { lo } else { q.clamp(lo as f64, hi as f64) as i64 }
}

/// Applies `f(element, scale, zero point)` to each element.
fn map_scaled<T>(v: &[f64], shape: &[usize], q: &Quant, f: impl Fn(f64, f64, f64) -> T) -> Vec<T> {
    let n = q.scales.len();
    assert_eq!(n, q.zero_points.len(), "a quantisation has as many zero points as scales");
    let run = if n == 1 {
        v.len()
    } else {
        assert_eq!(shape.get(q.axis), Some(&n), "{n} scales along axis {} of {shape:?}", q.axis);
        shape[q.axis + 1..].iter().product()
    };
    let mut out = Vec::with_capacity(v.len());
    for (i, part) in v.chunks(run.max(1)).enumerate() {
        let (scale, zero) = (f64::from(q.scales[i % n]), f64::from(q.zero_points[i % n]));
        out.extend(part.iter().map(|&v| f(v, scale, zero)));
    }
    out
}

/// Smallest and largest value of an integer type.
fn range(dtype: DType) -> (i64, i64) {
    match dtype {
        DType::I8 => (i8::MIN.into(), i8::MAX.into()),
        DType::U8 => (0, u8::MAX.into()),
        DType::I16 => (i16::MIN.into(), i16::MAX.into()),
        DType::U16 => (0, u16::MAX.into()),
        DType::I32 => (i32::MIN.into(), i32::MAX.into()),
        DType::I64 => (i64::MIN, i64::MAX),
        DType::Bool => (0, 1),
        DType::F32 | DType::F16 => panic!("floats are no integer type"),
    }
}

/// A real cut towards zero and saturated; for bool, whether it is not zero.
pub(crate) fn cut(v: f64, dtype: DType) -> i64 {
    let (lo, hi) = range(dtype);
    if dtype == DType::Bool { i64::from(v != 0.0) } else { (v as i64).clamp(lo, hi) }
}

/// An integer wrapped to the width of a type; for bool, whether it is not zero.
pub(super) fn wrap(v: i64, dtype: DType) -> i64 {
    match dtype {
        DType::I8 => (v as i8).into(),
        DType::U8 => (v as u8).into(),
        DType::I16 => (v as i16).into(),
        DType::U16 => (v as u16).into(),
        DType::I32 => (v as i32).into(),
        DType::I64 => v,
        DType::Bool => (v != 0).into(),
        DType::F32 | DType::F16 => panic!("floats are no integer type"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Numbers;

    #[test]
    fn ties_go_to_even_before_the_zero_point_is_added() {
        let x = Array::f32(&[6], vec![0.5, 1.5, 2.5, -0.5, -1.5, 0.49]);
        let q = quantize(&x, &Quant::per_tensor(1.0, 1), DType::I8);
        assert_eq!(q, Array::int(DType::I8, &[6], vec![1, 3, 3, 1, -1, 1]));
        assert_eq!(quantize_unrounded(&x, &Quant::per_tensor(1.0, 1)).reals()[..3], [1.5, 2.5, 3.5]);
    }

    #[test]
    fn saturates_and_nan_is_the_smallest() {
        let x = Array::f32(&[5], vec![1e9, -1e9, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]);
        let q = Quant::per_tensor(0.1, 0);
        let of = |dtype| quantize(&x, &q, dtype).numbers();
        assert_eq!(of(DType::I8), Numbers::I(vec![127, -128, 127, -128, -128]));
        assert_eq!(of(DType::U8), Numbers::I(vec![255, 0, 255, 0, 0]));
        assert_eq!(of(DType::I16), Numbers::I(vec![32767, -32768, 32767, -32768, -32768]));
        assert_eq!(of(DType::U16), Numbers::I(vec![65535, 0, 65535, 0, 0]));
        assert_eq!(
            of(DType::I32).clone(),
            Numbers::I([1, 0, 1, 0, 0].map(|hi| if hi == 1 { 0x7fff_ffff } else { -0x8000_0000 }).to_vec())
        );
    }

    #[test]
    fn scales_run_along_their_axis() {
        let a = Array::int(DType::I8, &[2, 2, 2], vec![1, 2, 3, 4, 5, 6, 7, 8]);
        let q = Quant { scales: vec![1.0, 0.5], zero_points: vec![0, 1], axis: 1 };
        let x = dequantize(&a, &q);
        assert_eq!(x, Array::f32(&[2, 2, 2], vec![1.0, 2.0, 1.0, 1.5, 5.0, 6.0, 3.0, 3.5]));
        assert_eq!(quantize(&x, &q, DType::I8), a);
        let q = Quant { axis: 2, ..q };
        assert_eq!(dequantize(&a, &q).reals()[..4], [1.0, 0.5, 3.0, 1.5]);
    }

    #[test]
    fn reals_saturate_and_integers_wrap() {
        assert_eq!([-1.9, 300.0, f64::NAN].map(|v| cut(v, DType::I8)), [-1, 127, 0]);
        assert_eq!([-1.9, 0.5, 1e30].map(|v| cut(v, DType::U8)), [0, 0, 255]);
        assert_eq!([0.0, -0.5, f64::NAN].map(|v| cut(v, DType::Bool)), [0, 1, 1]);
        assert_eq!([1e30, -1e30].map(|v| cut(v, DType::I64)), [i64::MAX, i64::MIN]);
        assert_eq!([-1, 256, 200].map(|v| wrap(v, DType::U8)), [255, 0, 200]);
        assert_eq!(wrap(200, DType::I8), -56);
        assert_eq!(wrap(1 << 31, DType::I32), -1 << 31);
        assert_eq!(wrap(256, DType::Bool), 1);
    }
}
