//! Regions of pictures, each brought to one size.

use core::ops::Range;

use super::Params;
use super::walk::elements;
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::faults::DataFault;
use crate::format::verify::{Check, Verdict, ensure, product, work};
use crate::format::words::record;
use crate::rows::{BUFFER, Operands, Tile, View, buffers};
use crate::{DType, math};

record! {
    /// Parameters of regions of pictures that are brought to one size (ONNX `RoiAlign`), channels last. Inputs: 0
    /// `x [batch, height, width, channels]`, 1 regions `[regions, 4]`, 2 the picture of each region `[regions]` (i32 or i64). Output:
    /// `[regions, bins, bins of a row, channels]`. All but input 2 of any type, as reals. Rows: `regions · bins`.
    ///
    /// A region is `x, y` of one corner and `x, y` of the other; times `scale`, and half a pixel less if `half_pixel`, these are pixels.
    /// Without `half_pixel` it has at least one pixel along each axis. A bin is sampled at `ratio` points along each axis, or
    /// as many as it has pixels, rounded up, if `ratio` is 0. At a point beyond −1 or the extent there is 0; else, between the nearest four
    /// pixels, their products with linear weights. An element is the sum of all products divided by the number of points, or the
    /// largest product; 0 without points. A corner beyond ±2²⁴ pixels counts as that. The picture of a region that
    /// is none of the batch is noted as [`DataFault::Index`], and the region is NaN for floats and 0 (the real) for everything else.
    pub struct RoiAlign {
        /// Pictures.
        pub batch: u32,
        /// Pixels along either axis, at most 2²⁴.
        pub extents: [u32; 2],
        /// Elements of a pixel.
        pub channels: u32,
        /// Regions.
        pub regions: u32,
        /// Bins along either axis.
        pub bins: [u32; 2],
        /// Points of a bin along each axis; 0 for as many as it has pixels.
        pub ratio: u32,
        /// Pixels of a unit of the regions' coordinates.
        pub scale: f32,
        /// The centre of a pixel is half a pixel behind its coordinate.
        pub half_pixel: bool,
        /// The largest product is taken instead of the mean.
        pub largest: bool,
    }
}

/// Pixels along an axis, and how far a corner may lie outside, which f32 can number.
const MOST: u32 = 1 << 24;

impl RoiAlign {
    /// Points along an axis whose bins are all sampled, at most. Those of bins that have as many as pixels are half a pixel apart or
    /// more, and only those within the picture count.
    fn points(&self, axis: usize) -> u64 {
        let [extent, bins] = [self.extents, self.bins].map(|of| u64::from(of.get(axis).copied().unwrap_or(0)));
        match self.ratio {
            0 => (2 * extent).saturating_add(bins.saturating_mul(u64::from(MARGIN))),
            ratio => bins.saturating_mul(ratio.into()),
        }
    }
}

impl Params for RoiAlign {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        let ([height, width], [down, across]) = (self.extents, self.bins);
        ensure([height, width].iter().all(|n| (1..=MOST).contains(n)), Fault::Params)?;
        ensure(self.batch > 0 && down > 0 && across > 0 && self.scale.is_finite(), Fault::Params)?;
        ensure(matches!(c.input(2)?.dtype, DType::I32 | DType::I64), Fault::DType)?;
        c.size(&c.input(0)?, &[self.batch, height, width, self.channels])?;
        c.size(&c.input(1)?, &[self.regions, 4])?;
        c.size(&c.input(2)?, &[self.regions])?;
        c.size(&c.output()?, &[self.regions, down, across, self.channels])?;
        let points = self.points(0).saturating_mul(self.points(1));
        let each = work(&[self.channels, 4]).saturating_add(64);
        let stored = work(&[down, across]).saturating_mul(u64::from(self.channels) + 64);
        let of_region = points.saturating_mul(each).saturating_add(stored);
        Ok(Verdict::new(product(&[self.regions, down])?, of_region.saturating_mul(self.regions.into())))
    }

    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        let of = self.bins[0].max(1) as usize;
        let regions = rows.start / of..rows.end.div_ceil(of);
        match input {
            1 => Some(elements(regions, &[4])),
            2 => Some(regions),
            _ => None,
        }
    }

    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let (x, regions, pictures, mut y) = (o.input(0), o.input(1), o.input(2), o.output());
        let [down, across] = self.bins.map(|n| n as usize);
        let channels = self.channels as usize;
        for row in rows {
            let (region, bin) = (row / down.max(1), row % down.max(1));
            let mut corners = [0f32; 4];
            e.load(&regions, region * 4, &mut corners);
            let mut picture = [0i64];
            pictures.load_int(region, &mut picture);
            let picture = usize::try_from(picture[0]).ok().filter(|&i| i < self.batch as usize);
            if picture.is_none() {
                o.note(DataFault::Index);
            }
            let [left, top, right, bottom] = corners;
            let vertical = self.axis(top, bottom, 0).bin(bin);
            let horizontal = self.axis(left, right, 1);
            for column in 0..across {
                let points = [vertical, horizontal.bin(column)];
                let at = (row * across + column) * channels;
                buffers(0..channels, |from, n| {
                    let mut values = [if picture.is_none() && y.dtype().is_float() { f32::NAN } else { 0.0 }; BUFFER];
                    let Some(values) = values.get_mut(..n) else { return };
                    if let Some(picture) = picture {
                        self.sample(e, &x, picture, points, from, values);
                    }
                    e.store(&mut y, at + from, values);
                });
            }
        }
    }
}

impl RoiAlign {
    /// How bins lie along an axis of a region from one coordinate to another.
    fn axis(&self, from: f32, to: f32, axis: usize) -> Axis {
        let pixel = |v: f32| {
            let at = v * self.scale - if self.half_pixel { 0.5 } else { 0.0 };
            math::clamp(at, -(MOST as f32), MOST as f32)
        };
        let [extent, bins] = [self.extents, self.bins].map(|of| of.get(axis).copied().unwrap_or(1));
        let (start, end) = (pixel(from), pixel(to));
        let size = if self.half_pixel { end - start } else { (end - start).max(1.0) };
        let bin = size / bins as f32;
        // What is no number has no points.
        let count = if self.ratio > 0 { self.ratio } else { libm::ceilf(bin) as u32 };
        Axis { start, bin, count, extent, few: self.ratio == 0 }
    }

    /// The values of a bin, of the channels from `from` on.
    #[inline(always)]
    fn sample<E: Elementwise>(
        &self,
        e: E,
        x: &View<'_>,
        picture: usize,
        [vertical, horizontal]: [Bin; 2],
        from: usize,
        values: &mut [f32],
    ) {
        let [height, width] = self.extents.map(|n| n as usize);
        let channels = self.channels as usize;
        let mut pixel = [0f32; BUFFER];
        let Some(pixel) = pixel.get_mut(..values.len()) else { return };
        let none = vertical.axis.count == 0 || horizontal.axis.count == 0;
        values.fill(if self.largest && !none { f32::NEG_INFINITY } else { 0.0 });
        let mut outside = vertical.leaves_out() || horizontal.leaves_out();
        for i in vertical.points() {
            let Some(down) = vertical.between(i) else {
                outside = true;
                continue;
            };
            for j in horizontal.points() {
                let Some(across) = horizontal.between(j) else {
                    outside = true;
                    continue;
                };
                for (row, u) in down {
                    for (column, v) in across {
                        let which = (picture * height + row as usize) * width + column as usize;
                        e.load(x, which * channels + from, pixel);
                        let weight = u * v;
                        for (value, &p) in values.iter_mut().zip(&*pixel) {
                            let product = weight * p;
                            if !self.largest {
                                *value += product;
                            } else if product > *value || product.is_nan() {
                                *value = product;
                            }
                        }
                    }
                }
            }
        }
        if self.largest {
            if outside && !none {
                values.iter_mut().for_each(|v| *v = if *v < 0.0 { 0.0 } else { *v });
            }
        } else {
            let count = (vertical.axis.count as f32 * horizontal.axis.count as f32).max(1.0);
            values.iter_mut().for_each(|v| *v /= count);
        }
    }
}

/// An axis of a region.
#[derive(Clone, Copy)]
struct Axis {
    /// Where it starts, in pixels.
    start: f32,
    /// Pixels of a bin.
    bin: f32,
    /// Points of a bin.
    count: u32,
    /// Pixels of the picture.
    extent: u32,
    /// Points lie half a pixel apart or more.
    few: bool,
}

impl Axis {
    fn bin(self, i: usize) -> Bin {
        Bin { axis: self, start: self.start + i as f32 * self.bin }
    }
}

/// A bin along an axis.
#[derive(Clone, Copy)]
struct Bin {
    axis: Axis,
    /// Where it starts.
    start: f32,
}

/// Points of a bin that are looked at on either side of the picture: what rounding may do to their places is less.
const MARGIN: u32 = 16;

impl Bin {
    /// The points that may lie within the picture: not many more than two a pixel, however large the bin is.
    fn points(&self) -> Range<u32> {
        let Axis { bin, count, extent, few, .. } = self.axis;
        if !few {
            return 0..count;
        }
        let first = ((-1.0 - self.start) / bin * count as f32) as u32;
        let first = first.saturating_sub(MARGIN / 2).min(count);
        first..count.min(first.saturating_add(2 * extent + MARGIN))
    }

    /// Whether there are points that surely lie outside.
    fn leaves_out(&self) -> bool {
        let points = self.points();
        points.end.saturating_sub(points.start) < self.axis.count
    }

    /// The two pixels next to point `i`, with their weights; `None` outside.
    #[inline(always)]
    fn between(&self, i: u32) -> Option<[(u32, f32); 2]> {
        let Axis { bin, count, extent, .. } = self.axis;
        let at = self.start + (i as f32 + 0.5) * bin / count as f32;
        if !(-1.0..=extent as f32).contains(&at) {
            return None;
        }
        let (at, last) = (at.max(0.0), extent.saturating_sub(1));
        let low = at as u32;
        if low >= last {
            return Some([(last, 1.0), (last, 0.0)]);
        }
        let far = at - low as f32;
        Some([(low, 1.0 - far), (low + 1, far)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ratio: u32, extent: u32, bins: u32) -> RoiAlign {
        RoiAlign {
            batch: 1,
            extents: [extent; 2],
            channels: 1,
            regions: 1,
            bins: [bins; 2],
            ratio,
            scale: 1.0,
            half_pixel: true,
            largest: false,
        }
    }

    #[test]
    fn a_point_beyond_what_is_looked_at_is_outside() {
        for (from, to) in [(-300.0, 500.0), (0.25, 9.5), (-9.0, 9000.0), (4.0, 4.0), (-1e4, 1e6), (900.0, 1000.0)] {
            for bins in [1, 3] {
                let axis = of(0, 7, bins).axis(from, to, 0);
                for bin in (0..bins as usize).map(|i| axis.bin(i)) {
                    let points = bin.points();
                    assert!(points.len() <= 2 * 7 + MARGIN as usize);
                    let seen = (0..axis.count).filter(|i| bin.between(*i).is_some()).count();
                    assert_eq!(points.filter(|i| bin.between(*i).is_some()).count(), seen, "{from} to {to}");
                }
            }
        }
    }

    #[test]
    fn any_corner_has_few_points() {
        for (from, to) in [(f32::MIN, f32::MAX), (f32::NAN, 3.0), (f32::INFINITY, f32::NEG_INFINITY), (0.0, 1e30)] {
            let bin = of(0, MOST, 1).axis(from, to, 1).bin(0);
            assert!(bin.points().len() as u64 <= of(0, MOST, 1).points(1), "{from} to {to}");
        }
        assert_eq!(of(3, 5, 2).axis(f32::NAN, 1.0, 0).bin(1).between(2), None);
    }
}
