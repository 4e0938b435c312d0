//! The reference's microkernels: they read any packing, and define the sums.

use core::marker::PhantomData;
use core::ops::Range;

use half::f16;

use super::epilogue::Finish;
use super::{Inputs, Microkernel, Packing, Place, Sign, Sums, Weights, WordOrder};
use crate::elementwise::Elementwise;
use crate::rows::View;
use crate::{DType, Element};

/// Pixels of a tile.
const PIXELS: usize = 4;
/// Channels whose sums are held at once.
const NR: usize = 8;

/// What differs between floats and bytes.
pub trait Arithmetic: Copy + Default {
    /// Inputs.
    type X: Element;
    /// Weights as they are stored.
    type W: Element;
    /// Sums.
    type Sum: Element + Default;
    /// Whether weights are multiplied by the scales of their channels before anything else.
    const SCALED: bool = false;

    /// An input as it is multiplied.
    fn input(x: Self::X, signed: bool) -> Self::Sum;
    /// A weight as it is multiplied.
    fn weight(w: Self::W, scale: f32) -> Self::Sum;
    /// The weight at a [place](Packing::at), as it is stored by itself.
    #[inline(always)]
    fn at(packing: &Packing, data: &[Self::W], at: usize) -> Self::W {
        let _ = packing;
        data.get(at).copied().unwrap_or(bytemuck::Zeroable::zeroed())
    }
    /// `sum + x · w`
    fn add(sum: Self::Sum, x: Self::Sum, w: Self::Sum) -> Self::Sum;
    /// 1
    fn one() -> Self::Sum;
    /// The sum less `zero` times `inputs`.
    fn less(sum: Self::Sum, inputs: Self::Sum, zero: i16) -> Self::Sum;
    /// Inputs where they lie.
    fn in_place<'a>(x: &View<'a>, start: usize, len: usize) -> Option<&'a [Self::X]>;
    /// Inputs from element `start` on, as `sign` wants them.
    fn copy(x: &View<'_>, start: usize, sign: Sign, to: &mut [Self::X]);
    /// What stands for padding, likewise.
    fn padding(x: &View<'_>, sign: Sign) -> Self::X;
    /// Takes sums to results.
    fn finish<E: Elementwise>(f: &mut Finish<'_, E>, to: Place, sums: &mut [Self::Sum], other: &mut [f32]);
}

/// Products of floats.
#[derive(Clone, Copy, Debug, Default)]
pub struct Floats;

/// Products of floats with weights of bytes: those with the dequantised weights, to the bit. (To scale the sums instead would be
/// one multiplication a channel, and overflow where the scaled weights do not.)
#[derive(Clone, Copy, Debug, Default)]
pub struct Bytes;

/// Products of floats with weights of halves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Halves;

/// Products of bytes. Sums wrap.
#[derive(Clone, Copy, Debug, Default)]
pub struct Integers;

/// Copies floats. There is one of it: loading knows all types of elements, which is much code.
#[inline(never)]
fn copy_floats(x: &View<'_>, start: usize, to: &mut [f32]) {
    x.load(start, to);
}

macro_rules! floats {
    ($name:ident, $w:ty, $scaled:literal, |$v:ident, $scale:ident| $weight:expr) => {
        impl Arithmetic for $name {
            type X = f32;
            type W = $w;
            type Sum = f32;
            const SCALED: bool = $scaled;

            #[inline(always)]
            fn input(x: f32, _: bool) -> f32 {
                x
            }
            #[inline(always)]
            fn weight($v: $w, $scale: f32) -> f32 {
                $weight
            }
            #[inline(always)]
            fn add(sum: f32, x: f32, w: f32) -> f32 {
                sum + x * w
            }
            fn one() -> f32 {
                1.0
            }
            fn less(sum: f32, _: f32, _: i16) -> f32 {
                sum
            }
            #[inline(always)]
            fn in_place<'a>(x: &View<'a>, start: usize, len: usize) -> Option<&'a [f32]> {
                (x.dtype == DType::F32).then(|| x.slice(start, len))
            }
            #[inline(always)]
            fn copy(x: &View<'_>, start: usize, _: Sign, to: &mut [f32]) {
                copy_floats(x, start, to);
            }
            fn padding(_: &View<'_>, _: Sign) -> f32 {
                0.0
            }
            #[inline(always)]
            fn finish<E: Elementwise>(f: &mut Finish<'_, E>, to: Place, sums: &mut [f32], other: &mut [f32]) {
                f.floats(to, sums, other);
            }
        }
    };
}

floats!(Floats, f32, false, |w, _scale| w);
floats!(Halves, f16, false, |w, _scale| w.to_f32());
floats!(Bytes, i8, true, |w, scale| f32::from(w) * scale);

impl Arithmetic for Integers {
    type X = u8;
    type W = i8;
    type Sum = i32;

    #[inline(always)]
    fn input(x: u8, signed: bool) -> i32 {
        if signed { i32::from(x as i8) } else { i32::from(x) }
    }
    #[inline(always)]
    fn weight(w: i8, _: f32) -> i32 {
        i32::from(w)
    }
    #[inline(always)]
    fn at(packing: &Packing, data: &[i8], at: usize) -> i8 {
        packing.byte(data, at)
    }
    #[inline(always)]
    fn add(sum: i32, x: i32, w: i32) -> i32 {
        sum.wrapping_add(x * w)
    }
    fn one() -> i32 {
        1
    }
    fn less(sum: i32, inputs: i32, zero: i16) -> i32 {
        sum.wrapping_sub(inputs.wrapping_mul(zero.into()))
    }
    #[inline(always)]
    fn in_place<'a>(x: &View<'a>, start: usize, len: usize) -> Option<&'a [u8]> {
        Some(x.slice(start, len))
    }
    #[inline(always)]
    fn copy(x: &View<'_>, start: usize, sign: Sign, to: &mut [u8]) {
        let turn = if sign.moves(x.dtype) == 0 { 0 } else { 0x80 };
        let from = x.slice::<u8>(start, to.len());
        to.iter_mut().zip(from).for_each(|(to, &v)| *to = v ^ turn);
    }
    fn padding(x: &View<'_>, sign: Sign) -> u8 {
        x.zero_point as u8 ^ if sign.moves(x.dtype) == 0 { 0 } else { 0x80 }
    }
    #[inline(always)]
    fn finish<E: Elementwise>(f: &mut Finish<'_, E>, to: Place, sums: &mut [i32], other: &mut [f32]) {
        f.integers(to, sums, other);
    }
}

/// What all portable microkernels of an arithmetic share.
macro_rules! shared {
    ($a:ident) => {
        type X = $a::X;
        type W = $a::W;
        type Sum = $a::Sum;
        type Out = f32;
        const SCALED: bool = $a::SCALED;

        #[inline(always)]
        fn tile(_: usize, _: usize, room: usize) -> (usize, usize) {
            (PIXELS.min(room), 1)
        }

        #[inline(always)]
        fn in_place<'a>(&self, x: &View<'a>, start: usize, len: usize) -> Option<&'a [$a::X]> {
            $a::in_place(x, start, len)
        }

        #[inline(always)]
        fn copy(&self, x: &View<'_>, start: usize, sign: Sign, to: &mut [$a::X]) {
            $a::copy(x, start, sign, to);
        }

        #[inline(always)]
        fn padding(&self, x: &View<'_>, sign: Sign) -> $a::X {
            $a::padding(x, sign)
        }

        #[inline(always)]
        fn finish<E: Elementwise>(&self, f: &mut Finish<'_, E>, to: Place, sums: &mut [$a::Sum], other: &mut [f32]) {
            $a::finish(f, to, sums, other);
        }

        #[inline(always)]
        fn centred(&self, x: &Inputs<'_, $a::X>, pixel: usize, at: Range<usize>, sum: $a::Sum, zero: i16) -> $a::Sum {
            let (mut inputs, one) = ($a::Sum::default(), $a::one());
            for row in x.rows {
                for t in 0..x.taps {
                    let line = row.get(pixel * x.step + t * x.tap_step..).and_then(|r| r.get(at.clone()));
                    for &v in line.unwrap_or(&[]) {
                        inputs = $a::add(inputs, $a::input(v, x.signed), one);
                    }
                }
            }
            $a::less(sum, inputs, zero)
        }
    };
}

/// Dense products: each channel adds all inputs of all lines.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dense<A>(PhantomData<A>);

/// Depthwise products: each channel adds its own input at each tap.
#[derive(Clone, Copy, Debug, Default)]
pub struct Depthwise<A>(PhantomData<A>);

impl<A: Arithmetic> Microkernel for Dense<A> {
    shared!(A);

    #[inline(always)]
    fn multiply(&self, x: &Inputs<'_, A::X>, w: &Weights<'_, A::W>, to: Sums<'_, A::Sum>) {
        // Known to the loops, so that they vectorise.
        let (sums, _) = to.so_far();
        if x.signed { dense::<A, true>(x, w, sums) } else { dense::<A, false>(x, w, sums) }
    }
}

#[inline(always)]
fn dense<A: Arithmetic, const SIGNED: bool>(x: &Inputs<'_, A::X>, w: &Weights<'_, A::W>, sums: &mut [A::Sum]) {
    let (packing, e) = (&w.packing, &w.extents);
    if sums.len() < x.pixels * w.width() || !x.fit(e.length) {
        return;
    }
    for channel in (0..w.width()).step_by(NR) {
        match (packing.run, packing.order, x.pixels) {
            (1, _, PIXELS) => by_channels::<A, PIXELS, SIGNED>(x, w, 0, channel, sums),
            (1, _, n) => (0..n).for_each(|m| by_channels::<A, 1, SIGNED>(x, w, m, channel, sums)),
            (0, WordOrder::Plain, PIXELS) => along_inputs::<A, PIXELS, SIGNED>(x, w, 0, channel, sums),
            (0, WordOrder::Plain, n) => (0..n).for_each(|m| along_inputs::<A, 1, SIGNED>(x, w, m, channel, sums)),
            _ => (0..x.pixels).for_each(|m| any_order::<A, SIGNED>(x, w, m, channel, sums)),
        }
    }
}

/// Calls `f(the row from the line on, number of its first weight in a channel)` for each line.
#[inline(always)]
fn lines<X, W>(x: &Inputs<'_, X>, w: &Weights<'_, W>, mut f: impl FnMut(&[X], usize)) {
    let line = w.packing.line(&w.extents);
    for (r, row) in x.rows.iter().enumerate() {
        for t in 0..x.taps {
            let k = ((w.first_row + r) * x.taps + t) * line;
            f(row.get(t * x.tap_step..).unwrap_or(&[]), k);
        }
    }
}

/// The inputs of a line under `M` pixels, the first of them from element `from` on: slices of that length, as the compiler then knows.
#[inline(always)]
fn under<X, const M: usize>(line: &[X], from: usize, step: usize, length: usize) -> Option<[&[X]; M]> {
    let mut inputs: [&[X]; M] = [&[]; M];
    for (m, inputs) in inputs.iter_mut().enumerate() {
        *inputs = line.get(from + m * step..)?.get(..length)?;
    }
    Some(inputs)
}

/// Input `i`, which is there: where the compiler does not know that, it looks.
#[inline(always)]
fn at<X: Element>(inputs: &[X], i: usize) -> X {
    inputs.get(i).copied().unwrap_or(bytemuck::Zeroable::zeroed())
}

/// Where the weights of the panel begin that a channel of the tile is in, and the channel's number in it.
#[inline(always)]
fn panel<W>(w: &Weights<'_, W>, channel: usize) -> (usize, usize) {
    let panel = w.packing.panel(&w.extents).max(1);
    let channel = w.channels.0 + channel;
    (channel / panel * panel * w.packing.depth(&w.extents), channel % panel)
}

#[inline(always)]
fn scales<A: Arithmetic>(w: &Weights<'_, A::W>, channel: usize) -> [f32; NR] {
    core::array::from_fn(|c| if A::SCALED { w.scales.get(channel + c).copied().unwrap_or(0.0) } else { 1.0 })
}

/// Inputs one by one, each with a row of channels: `M` pixels from `from` on, up to [`NR`] channels from `channel` on.
#[inline(always)]
fn by_channels<A: Arithmetic, const M: usize, const SIGNED: bool>(
    x: &Inputs<'_, A::X>,
    w: &Weights<'_, A::W>,
    from: usize,
    channel: usize,
    sums: &mut [A::Sum],
) {
    let (width, length) = (w.width(), w.extents.length);
    let n = NR.min(width - channel);
    let ((base, within), stride) = (panel(w, channel), w.packing.panel(&w.extents));
    let scales = scales::<A>(w, channel);
    let mut acc = [[A::Sum::default(); NR]; M];
    for (m, acc) in acc.iter_mut().enumerate() {
        let sums = sums.get((from + m) * width + channel..).unwrap_or(&[]);
        acc.iter_mut().zip(sums).take(n).for_each(|(acc, &sum)| *acc = sum);
    }
    lines(x, w, |line, k| {
        let Some(inputs) = under::<_, M>(line, from * x.step, x.step, length) else { return };
        let Some(weights) = w.data.get(base + k * stride + within..) else { return };
        if weights.len() < (length - 1) * stride + n {
            return;
        }
        for i in 0..length {
            let mut row = [A::Sum::default(); NR];
            let weights = weights.get(i * stride..).unwrap_or(&[]);
            if n == NR {
                let Some(from) = weights.first_chunk::<NR>() else { return };
                (0..NR).for_each(|c| row[c] = A::weight(from[c], scales[c]));
            } else {
                row.iter_mut().zip(weights).zip(&scales).take(n).for_each(|((r, &w), &s)| *r = A::weight(w, s));
            }
            for m in 0..M {
                let v = A::input(at(inputs[m], i), SIGNED);
                for c in 0..NR {
                    acc[m][c] = A::add(acc[m][c], v, row[c]);
                }
            }
        }
    });
    for (m, acc) in acc.iter().enumerate() {
        let sums = sums.get_mut((from + m) * width + channel..).unwrap_or(&mut []);
        sums.iter_mut().zip(acc).take(n).for_each(|(sum, &acc)| *sum = acc);
    }
}

/// Along the inputs of each channel.
#[inline(always)]
fn along_inputs<A: Arithmetic, const M: usize, const SIGNED: bool>(
    x: &Inputs<'_, A::X>,
    w: &Weights<'_, A::W>,
    from: usize,
    channel: usize,
    sums: &mut [A::Sum],
) {
    let (width, length, depth) = (w.width(), w.extents.length, w.packing.depth(&w.extents));
    for c in channel..width.min(channel + NR) {
        let (base, within) = panel(w, c);
        let scale = if A::SCALED { w.scales.get(c).copied().unwrap_or(0.0) } else { 1.0 };
        let mut acc = [A::Sum::default(); M];
        for (m, acc) in acc.iter_mut().enumerate() {
            *acc = sums.get((from + m) * width + c).copied().unwrap_or_default();
        }
        lines(x, w, |line, k| {
            let Some(inputs) = under::<_, M>(line, from * x.step, x.step, length) else { return };
            let Some(weights) = w.data.get(base + within * depth + k..).and_then(|w| w.get(..length)) else { return };
            for (i, &weight) in weights.iter().enumerate() {
                let weight = A::weight(weight, scale);
                for m in 0..M {
                    acc[m] = A::add(acc[m], A::input(at(inputs[m], i), SIGNED), weight);
                }
            }
        });
        for (m, acc) in acc.iter().enumerate() {
            if let Some(sum) = sums.get_mut((from + m) * width + c) {
                *sum = *acc;
            }
        }
    }
}

/// Weight by weight, wherever it lies.
#[inline(always)]
fn any_order<A: Arithmetic, const SIGNED: bool>(
    x: &Inputs<'_, A::X>,
    w: &Weights<'_, A::W>,
    pixel: usize,
    channel: usize,
    sums: &mut [A::Sum],
) {
    let width = w.width();
    for c in channel..width.min(channel + NR) {
        let (base, within) = panel(w, c);
        let scale = if A::SCALED { w.scales.get(c).copied().unwrap_or(0.0) } else { 1.0 };
        let Some(to) = sums.get_mut(pixel * width + c) else { return };
        let mut sum = *to;
        lines(x, w, |line, k| {
            let inputs = line.get(pixel * x.step..).unwrap_or(&[]).iter();
            for (i, &v) in inputs.take(w.extents.length).enumerate() {
                let at = base + w.packing.within(&w.extents, within, k + i);
                let weight = A::at(&w.packing, w.data, at);
                sum = A::add(sum, A::input(v, SIGNED), A::weight(weight, scale));
            }
        });
        *to = sum;
    }
}

impl<A: Arithmetic> Microkernel for Depthwise<A> {
    shared!(A);

    #[inline(always)]
    fn multiply(&self, x: &Inputs<'_, A::X>, w: &Weights<'_, A::W>, to: Sums<'_, A::Sum>) {
        let (sums, _) = to.so_far();
        if x.signed { depthwise::<A, true>(x, w, sums) } else { depthwise::<A, false>(x, w, sums) }
    }
}

/// Tap by tap: kernel rows, then columns. Weights lie in columns ([`crate::kernels::Conv`]).
#[inline(always)]
fn depthwise<A: Arithmetic, const SIGNED: bool>(x: &Inputs<'_, A::X>, w: &Weights<'_, A::W>, sums: &mut [A::Sum]) {
    let (packing, e, width) = (&w.packing, &w.extents, w.width());
    if sums.len() < x.pixels * width || !x.fit(width) {
        return;
    }
    let (base, within) = panel(w, 0);
    let (line, stride, run) = (packing.line(e), packing.panel(e), packing.run(e));
    for (m, sums) in sums.chunks_exact_mut(width.max(1)).take(x.pixels).enumerate() {
        for (r, row) in x.rows.iter().enumerate() {
            for t in 0..x.taps {
                let k = t * line + w.first_row + r;
                let inputs = row.get(m * x.step + t * x.tap_step..).and_then(|r| r.get(..width)).unwrap_or(&[]);
                let scale = |c: usize| if A::SCALED { w.scales.get(c).copied().unwrap_or(0.0) } else { 1.0 };
                if run == 1 {
                    let weights = w.data.get(base + k * stride + within..).unwrap_or(&[]);
                    for (c, ((s, &v), &w)) in sums.iter_mut().zip(inputs).zip(weights).enumerate() {
                        *s = A::add(*s, A::input(v, SIGNED), A::weight(w, scale(c)));
                    }
                    continue;
                }
                for (c, (s, &v)) in sums.iter_mut().zip(inputs).enumerate() {
                    let at = base + packing.within(e, within + c, k);
                    let weight = w.data.get(at).copied().unwrap_or(bytemuck::Zeroable::zeroed());
                    *s = A::add(*s, A::input(v, SIGNED), A::weight(weight, scale(c)));
                }
            }
        }
    }
}
