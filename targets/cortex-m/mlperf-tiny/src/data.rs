//! Bytes, integers and reals of the benchmarks become each other as in the reference.

/// How an integer of 8 bits stands for a real: `(q − zero_point) · scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantization {
    /// Scale.
    pub scale: f32,
    /// Zero point.
    pub zero_point: i32,
}

impl Quantization {
    /// The integer for a real: `v / scale` rounded to the nearest, ties away from 0, plus the zero point, as far as 8 bits go. (The reference
    /// rounds ties so, the runtime to even ones.) NaN gives the zero point.
    pub(crate) fn quantize(self, v: f32) -> i8 {
        let v = v / self.scale;
        // The fraction is exact, and 0 from 2²³ on. What does not fit an integer becomes the largest one.
        let whole = v as i32;
        let fraction = v - whole as f32;
        let rounded = whole.saturating_add(i32::from(fraction >= 0.5)).saturating_sub(i32::from(fraction <= -0.5));
        rounded.saturating_add(self.zero_point).clamp(-128, 127) as i8
    }

    /// The real that an integer stands for.
    pub(crate) fn dequantize(self, q: i8) -> f32 {
        (i32::from(q) - self.zero_point) as f32 * self.scale
    }
}

/// Unsigned bytes as signed ones with zero point −128: `b − 128`, which is another highest bit. Four at a time, since it is done before
/// every run.
pub(crate) fn offset(from: &[u8], to: &mut [u8]) {
    let ((from, from_rest), (to, to_rest)) = (from.as_chunks::<4>(), to.as_chunks_mut::<4>());
    for (to, &from) in to.iter_mut().zip(from) {
        *to = (u32::from_ne_bytes(from) ^ 0x8080_8080).to_ne_bytes();
    }
    for (to, &from) in to_rest.iter_mut().zip(from_rest) {
        *to = from ^ 0x80;
    }
}

/// The floats that bytes hold, the least byte first.
pub(crate) fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b))
}

/// The mean of the squares of what a network gave minus what went in.
pub(crate) fn mean_square(outputs: &[u8], of: Quantization, inputs: &[u8]) -> f32 {
    let differences = outputs.iter().zip(floats(inputs)).map(|(&q, x)| of.dequantize(q as i8) - x);
    differences.map(|d| d * d).sum::<f32>() / outputs.len() as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn pixels_lose_128() {
        let from: Vec<u8> = (0..=255).chain(0..3).collect();
        let mut to = [0; 259];
        offset(&from, &mut to);
        assert!(from.iter().zip(to).all(|(&from, to)| i32::from(to as i8) == i32::from(from) - 128));
    }

    #[test]
    fn ties_go_away_from_zero() {
        let of = Quantization { scale: 0.5, zero_point: 10 };
        let all =
            [0.0, 0.25, 0.75, -0.25, -0.75, 0.249, 58.5, 59.0, -69.0, -69.1, 1e30, -1e30, f32::INFINITY, f32::NAN];
        let expected = [10, 11, 12, 9, 8, 10, 127, 127, -128, -128, 127, -128, 127, 10];
        assert_eq!(all.map(|v| of.quantize(v)), expected);
        // The float below one half is none.
        assert_eq!(Quantization { scale: 1.0, zero_point: 0 }.quantize(0.5f32.next_down()), 0);
        assert_eq!(of.dequantize(-128), -69.0);
    }

    #[test]
    fn a_mean_of_squares() {
        let of = Quantization { scale: 0.5, zero_point: 0 };
        let inputs: Vec<u8> = [1.0f32, 3.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(mean_square(&[4, 2], of, &inputs), 2.5);
    }
}
