//! A picture sampled at places that a grid gives.

use core::ops::Range;

use super::Params;
use super::walk::elements;
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure, product, work};
use crate::format::words::{code, record};
use crate::rows::{BUFFER, Operands, Tile, buffers};

code! {
    /// What a sample between pixels is.
    pub enum SampleMode {
        /// The nearest pixel, of two the one with the even number.
        Nearest = 0,
        /// Of the two neighbours along each axis the nearer one weighs more, linearly.
        Linear = 1,
        /// Keys' cubic of four neighbours along each axis, with `a = −0.75`.
        Cubic = 2,
    }
}

code! {
    /// What lies outside of a picture that is sampled.
    pub enum SamplePadding {
        /// Zeros.
        Zeros = 0,
        /// The nearest pixel of its border.
        Border = 1,
        /// The picture mirrored, over and over: at its outermost pixels if corners are aligned, else at their outer edges.
        Reflection = 2,
    }
}

record! {
    /// Parameters of a sampling of a picture at computed places (ONNX `GridSample`), channels last. Inputs:
    /// 0 `x [batch, extents, channels]`, 1 grid `[batch, rows, row, axes]`. Output: `[batch, rows, row, channels]`. All of any type,
    /// as reals. Rows: `batch · rows`.
    ///
    /// A place is one coordinate an axis, that along the last axis first. −1 and 1 are the centres of the outermost
    /// pixels if corners are aligned, else their outer edges. Pictures with fewer axes than three have leading extents of 1. A
    /// coordinate beyond ±10⁹ pixels counts as that.
    pub struct GridSample {
        /// Pictures.
        pub batch: u32,
        /// Pixels along each axis, at most 2²⁴.
        pub extents: [u32; 3],
        /// Elements of a pixel.
        pub channels: u32,
        /// Rows of samples of a picture.
        pub rows: u32,
        /// Samples of a row.
        pub row: u32,
        /// Axes of a picture, 1 to 3.
        pub axes: u32,
        /// What a sample between pixels is.
        pub mode: SampleMode,
        /// What lies outside.
        pub padding: SamplePadding,
        /// −1 and 1 are centres of pixels.
        pub align_corners: bool,
    }
}

/// The most pixels along an axis, which are numbers that f32 can tell apart.
const MOST: u32 = 1 << 24;
/// Coordinates beyond are cut, so that integers hold them.
const FAR: f32 = 1e9;

impl Params for GridSample {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        ensure((1..=3).contains(&self.axes), Fault::Params)?;
        let leading = 3 - self.axes as usize;
        ensure(self.extents.iter().take(leading).all(|&n| n == 1), Fault::Params)?;
        ensure(self.extents.iter().all(|&n| (1..=MOST).contains(&n)), Fault::Params)?;
        ensure(self.rows > 0 && self.row > 0, Fault::Params)?;
        let [outer, middle, inner] = self.extents;
        c.size(&c.input(0)?, &[self.batch, outer, middle, inner, self.channels])?;
        c.size(&c.input(1)?, &[self.batch, self.rows, self.row, self.axes])?;
        c.size(&c.output()?, &[self.batch, self.rows, self.row, self.channels])?;
        let along: u32 = match self.mode {
            SampleMode::Nearest => 1,
            SampleMode::Linear => 2,
            SampleMode::Cubic => 4,
        };
        let each = work(&[along.pow(self.axes), 4]).saturating_mul(u64::from(self.channels) + 8);
        let places = work(&[self.batch, self.rows, self.row]);
        let rows = product(&[self.batch, self.rows])?;
        Ok(Verdict::new(rows, places.saturating_mul(each.saturating_add(work(&[self.axes, 64])))))
    }

    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        match input {
            0 => {
                let of = self.rows.max(1) as usize;
                let [outer, middle, inner] = self.extents;
                Some(elements(rows.start / of..rows.end.div_ceil(of), &[outer, middle, inner, self.channels]))
            }
            1 => Some(elements(rows, &[self.row, self.axes])),
            _ => None,
        }
    }

    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let (x, grid, mut y) = (o.input(0), o.input(1), o.output());
        let (row, axes, channels) = (self.row as usize, self.axes as usize, self.channels as usize);
        let [outer, middle, inner] = self.extents.map(|n| n as usize);
        for at in rows.start * row..rows.end * row {
            let picture = at / row.max(1) / self.rows.max(1) as usize * outer;
            let mut place = [0f32; 3];
            if let Some(place) = place.get_mut(..axes) {
                e.load(&grid, at * axes, place);
            }
            let taps = |axis: usize| match (self.extents.get(axis), place.get(2 - axis)) {
                (Some(&n), Some(&v)) if axis + axes >= 3 => self.taps(v, n),
                _ => Taps::ONE,
            };
            let along = [taps(0), taps(1), taps(2)];
            buffers(0..channels, |from, n| {
                let (mut sum, mut pixel) = ([0f32; BUFFER], [0f32; BUFFER]);
                let (Some(sum), Some(pixel)) = (sum.get_mut(..n), pixel.get_mut(..n)) else { return };
                for (i, u) in along[0].iter() {
                    for (j, v) in along[1].iter() {
                        for (k, w) in along[2].iter() {
                            let which = ((picture + i) * middle + j) * inner + k;
                            e.load(&x, which * channels + from, pixel);
                            let weight = u * v * w;
                            for (s, &p) in sum.iter_mut().zip(&*pixel) {
                                *s += weight * p;
                            }
                        }
                    }
                }
                e.store(&mut y, at * channels + from, sum);
            });
        }
    }
}

/// The pixels along an axis that a sample is made of, with their weights; what is outside and 0 is left out.
#[derive(Clone, Copy)]
struct Taps {
    of: [(Option<u32>, f32); 4],
}

impl Taps {
    /// The only pixel of an axis that the picture does not have.
    const ONE: Taps = Taps { of: [(Some(0), 1.0), (None, 0.0), (None, 0.0), (None, 0.0)] };

    #[inline(always)]
    fn iter(&self) -> impl Iterator<Item = (usize, f32)> {
        self.of.into_iter().filter_map(|(at, weight)| Some((at? as usize, weight)))
    }
}

impl GridSample {
    /// What a coordinate from −1 to 1 selects of `n` pixels.
    fn taps(&self, v: f32, n: u32) -> Taps {
        let size = n as f32;
        let at = if self.align_corners { (v + 1.0) / 2.0 * (size - 1.0) } else { ((v + 1.0) * size - 1.0) / 2.0 };
        let at = at.clamp(-FAR, FAR);
        let mut taps = Taps { of: [(None, 0.0); 4] };
        let (first, weights) = match self.mode {
            SampleMode::Nearest => (libm::rintf(at), [1.0, 0.0, 0.0, 0.0]),
            SampleMode::Linear => {
                let first = libm::floorf(at);
                let far = at - first;
                (first, [1.0 - far, far, 0.0, 0.0])
            }
            SampleMode::Cubic => {
                let floor = libm::floorf(at);
                let far = at - floor;
                (floor - 1.0, [outer(far + 1.0), inner(far), inner(1.0 - far), outer(2.0 - far)])
            }
        };
        let count = match self.mode {
            SampleMode::Nearest => 1,
            SampleMode::Linear => 2,
            SampleMode::Cubic => 4,
        };
        for ((tap, weight), i) in taps.of.iter_mut().zip(weights).zip(first as i32..).take(count) {
            *tap = (self.pixel(i, n), weight);
        }
        taps
    }

    /// The pixel that is there at position `i` of `n`; none among zeros.
    fn pixel(&self, i: i32, n: u32) -> Option<u32> {
        let last = n.min(MOST) as i32 - 1;
        let inside = match self.padding {
            SamplePadding::Zeros => i,
            SamplePadding::Border => i.max(0).min(last),
            SamplePadding::Reflection if self.align_corners => {
                let i = i.checked_rem_euclid(2 * last).unwrap_or(0);
                i.min(2 * last - i)
            }
            SamplePadding::Reflection => {
                let i = i.checked_rem_euclid(2 * last + 2).unwrap_or(0);
                i.min(2 * last + 1 - i)
            }
        };
        u32::try_from(inside).ok().filter(|&i| i < n)
    }
}

/// Keys' cubic for distances up to 1.
fn inner(d: f32) -> f32 {
    (1.25 * d - 2.25) * d * d + 1.0
}

/// Keys' cubic for distances from 1 to 2.
fn outer(d: f32) -> f32 {
    ((-0.75 * d + 3.75) * d - 6.0) * d + 3.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(mode: SampleMode, padding: SamplePadding, align_corners: bool) -> GridSample {
        GridSample { batch: 1, extents: [1, 1, 4], channels: 1, rows: 1, row: 1, axes: 1, mode, padding, align_corners }
    }

    #[test]
    fn pixels_outside() {
        let pixels = |padding, corners| {
            let g = of(SampleMode::Linear, padding, corners);
            [-6, -5, -4, -3, -2, -1, 0, 3, 4, 5, 6, 7, 8].map(|i| g.pixel(i, 4).map_or(9, |i| i))
        };
        assert_eq!(pixels(SamplePadding::Zeros, true), [9, 9, 9, 9, 9, 9, 0, 3, 9, 9, 9, 9, 9]);
        assert_eq!(pixels(SamplePadding::Border, true), [0, 0, 0, 0, 0, 0, 0, 3, 3, 3, 3, 3, 3]);
        assert_eq!(pixels(SamplePadding::Reflection, true), [0, 1, 2, 3, 2, 1, 0, 3, 2, 1, 0, 1, 2]);
        assert_eq!(pixels(SamplePadding::Reflection, false), [2, 3, 3, 2, 1, 0, 0, 3, 3, 2, 1, 0, 0]);
        for (padding, corners) in [(SamplePadding::Reflection, true), (SamplePadding::Border, false)] {
            let g = of(SampleMode::Cubic, padding, corners);
            assert_eq!([i32::MIN, i32::MAX].map(|i| g.pixel(i, 1)), [Some(0); 2]);
            assert!([i32::MIN, i32::MAX].iter().all(|&i| g.pixel(i, MOST).is_some()));
        }
    }

    #[test]
    fn weights_sum_to_one_and_any_coordinate_has_some() {
        for mode in [SampleMode::Nearest, SampleMode::Linear, SampleMode::Cubic] {
            let g = of(mode, SamplePadding::Border, false);
            for v in [-1.0, -0.3, 0.2, 0.9, 7.0, f32::INFINITY, f32::MIN] {
                let sum: f32 = g.taps(v, 4).iter().map(|(_, w)| w).sum();
                assert!((sum - 1.0).abs() < 1e-6, "{mode:?} {v}: {sum}");
            }
            assert!(g.taps(f32::NAN, 4).iter().all(|(i, _)| i < 4));
        }
    }
}
