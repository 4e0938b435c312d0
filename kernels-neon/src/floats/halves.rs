//! Dense products of halves by the arithmetic of halves (FEAT_FP16): short sums of halves, by fused additions, which are added up as
//! floats.

use core::arch::aarch64::*;
use core::arch::asm;

use kinglet::elementwise::Elementwise;
use kinglet::product::{Finish, Inputs, Microkernel, Place, Plain, Sign, Sums, Weights};
use kinglet::rows::{PixelsMut, View};
use kinglet::{DType, f16};

use super::copy_halves;
use crate::reals::{self, Reals};
use crate::{Half, by_channels, some};

/// Products that a sum of halves adds, more or less: its error grows with them, and to take it to floats costs as much as a few.
const TERMS: usize = 128;

/// Products that it adds at most.
const MOST_TERMS: usize = TERMS + TERMS / 4;

/// Up to 32 pixels and the 16 channels of a panel, which are multiplied in smaller tiles one after the other.
#[derive(Clone, Copy)]
pub(crate) struct DenseHalves(Half);

impl From<Half> for DenseHalves {
    fn from(half: Half) -> Self {
        DenseHalves(half)
    }
}

impl Microkernel for DenseHalves {
    type X = f16;
    type W = f16;
    type Sum = f32;
    type Out = f16;
    const PLAIN: bool = true;

    #[inline(always)]
    fn tile(pixels: usize, _: usize, room: usize) -> (usize, usize) {
        (pixels.clamp(1, room), 1)
    }

    #[inline(always)]
    fn in_place<'a>(&self, x: &View<'a>, start: usize, len: usize) -> Option<&'a [f16]> {
        (x.dtype == DType::F16).then(|| x.slice(start, len))
    }

    fn copy(&self, x: &View<'_>, start: usize, _: Sign, to: &mut [f16]) {
        copy_halves(x, start, to);
    }

    fn padding(&self, _: &View<'_>, _: Sign) -> f16 {
        f16::ZERO
    }

    fn multiply(&self, x: &Inputs<'_, f16>, w: &Weights<'_, f16>, to: Sums<'_, f32>) {
        let Half(()) = self.0;
        let done = to.sums.len() >= x.pixels * w.width() && tile_to(x, w, &mut To::Sums(to));
        debug_assert!(done, "a tile of {} pixels and {} channels", x.pixels, w.width());
    }

    fn plain(&self, x: &Inputs<'_, f16>, w: &Weights<'_, f16>, end: &Plain<'_>, out: &mut PixelsMut<'_, f16>) -> bool {
        let Half(()) = self.0;
        let n = w.width();
        let there = end.bias.len() >= n
            && (end.scale.is_empty() || end.scale.len() >= n)
            && out.count() >= x.pixels
            && out.run_len() >= n;
        let residual = match end.residual {
            None => None,
            Some((r, at)) if r.dtype == DType::F16 => match r.pixels::<f16>(at, n, out.step(), x.pixels) {
                None => return false,
                there => there,
            },
            Some(_) => return false,
        };
        there && tile_to(x, w, &mut To::Halves(end, residual, out))
    }

    fn finish<E: Elementwise>(&self, f: &mut Finish<'_, E>, to: Place, sums: &mut [f32], other: &mut [f32]) {
        reals::floats(f, to, sums, other);
    }
}

/// Sums of halves of `P` pixels and 16 channels: two vectors a pixel. Each sum takes its products in the same order, whatever the number of
/// pixels beside it.
#[derive(Clone, Copy)]
struct Halves<const P: usize>([[uint16x8_t; 2]; P]);

/// The loop of a tile: an input of a pixel times those of 16 channels.
trait Add<const P: usize> {
    /// Adds the products of `terms` inputs from each of `x` on.
    ///
    /// # Safety
    /// So many inputs and weights are there, and the CPU has the arithmetic of halves.
    unsafe fn add(&mut self, x: [*const f16; P], w: *const f16, terms: usize);
}

macro_rules! by_lanes {
    ($pixels:literal; $($p:ident $i:literal $x:literal $a:literal $b:literal, $acc:tt $more:tt;)+) => {
        impl Add<$pixels> for Halves<$pixels> {
            #[inline(always)]
            unsafe fn add(&mut self, x: [*const f16; $pixels], w: *const f16, terms: usize) {
                let acc = &mut self.0;
                // SAFETY: the caller's; nothing but the named registers is written.
                unsafe {
                    asm!(
                        ".arch_extension fp16",
                        "lsr {n}, {terms}, #3",
                        "cbz {n}, 3f",
                        "2:",
                        $(concat!("ldr q", $x, ", [{", stringify!($p), "}], #16"),)+
                        ".irp l,0,4",
                        "ld1 {{v24.8h, v25.8h, v26.8h, v27.8h}}, [{w}], #64",
                        "ld1 {{v28.8h, v29.8h, v30.8h, v31.8h}}, [{w}], #64",
                        $(
                            concat!("fmla v", $a, ".8h, v24.8h, v", $x, ".h[\\l]"),
                            concat!("fmla v", $b, ".8h, v25.8h, v", $x, ".h[\\l]"),
                        )+
                        $(
                            concat!("fmla v", $a, ".8h, v26.8h, v", $x, ".h[\\l+1]"),
                            concat!("fmla v", $b, ".8h, v27.8h, v", $x, ".h[\\l+1]"),
                        )+
                        $(
                            concat!("fmla v", $a, ".8h, v28.8h, v", $x, ".h[\\l+2]"),
                            concat!("fmla v", $b, ".8h, v29.8h, v", $x, ".h[\\l+2]"),
                        )+
                        $(
                            concat!("fmla v", $a, ".8h, v30.8h, v", $x, ".h[\\l+3]"),
                            concat!("fmla v", $b, ".8h, v31.8h, v", $x, ".h[\\l+3]"),
                        )+
                        ".endr",
                        "subs {n}, {n}, #1",
                        "b.ne 2b",
                        "3:",
                        "ands {n}, {terms}, #7",
                        "b.eq 5f",
                        "4:",
                        $(concat!("ldr h", $x, ", [{", stringify!($p), "}], #2"),)+
                        "ld1 {{v24.8h, v25.8h}}, [{w}], #32",
                        "subs {n}, {n}, #1",
                        $(
                            concat!("fmla v", $a, ".8h, v24.8h, v", $x, ".h[0]"),
                            concat!("fmla v", $b, ".8h, v25.8h, v", $x, ".h[0]"),
                        )+
                        "b.ne 4b",
                        "5:",
                        $($p = inout(reg) x[$i] => _,)+
                        w = inout(reg) w => _,
                        terms = in(reg) terms,
                        n = out(reg) _,
                        $(inout($acc) acc[$i][0], inout($more) acc[$i][1],)+
                        out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                        out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _, out("v30") _,
                        out("v31") _,
                        options(nostack, readonly)
                    );
                }
            }
        }
    };
}

by_lanes!(1; p0 0 "0" "8" "9", "v8" "v9";);
by_lanes!(2; p0 0 "0" "8" "9", "v8" "v9"; p1 1 "1" "10" "11", "v10" "v11";);
by_lanes!(3; p0 0 "0" "8" "9", "v8" "v9"; p1 1 "1" "10" "11", "v10" "v11"; p2 2 "2" "12" "13", "v12" "v13";);
by_lanes!(4; p0 0 "0" "8" "9", "v8" "v9"; p1 1 "1" "10" "11", "v10" "v11"; p2 2 "2" "12" "13", "v12" "v13";
    p3 3 "3" "14" "15", "v14" "v15";);
by_lanes!(5; p0 0 "0" "8" "9", "v8" "v9"; p1 1 "1" "10" "11", "v10" "v11"; p2 2 "2" "12" "13", "v12" "v13";
    p3 3 "3" "14" "15", "v14" "v15"; p4 4 "4" "16" "17", "v16" "v17";);
by_lanes!(6; p0 0 "0" "8" "9", "v8" "v9"; p1 1 "1" "10" "11", "v10" "v11"; p2 2 "2" "12" "13", "v12" "v13";
    p3 3 "3" "14" "15", "v14" "v15"; p4 4 "4" "16" "17", "v16" "v17"; p5 5 "5" "18" "19", "v18" "v19";);
by_lanes!(7; p0 0 "0" "8" "9", "v8" "v9"; p1 1 "1" "10" "11", "v10" "v11"; p2 2 "2" "12" "13", "v12" "v13";
    p3 3 "3" "14" "15", "v14" "v15"; p4 4 "4" "16" "17", "v16" "v17"; p5 5 "5" "18" "19", "v18" "v19";
    p6 6 "6" "20" "21", "v20" "v21";);
by_lanes!(8; p0 0 "0" "8" "9", "v8" "v9"; p1 1 "1" "10" "11", "v10" "v11"; p2 2 "2" "12" "13", "v12" "v13";
    p3 3 "3" "14" "15", "v14" "v15"; p4 4 "4" "16" "17", "v16" "v17"; p5 5 "5" "18" "19", "v18" "v19";
    p6 6 "6" "20" "21", "v20" "v21"; p7 7 "7" "22" "23", "v22" "v23";);

/// What becomes of the sums of a tile.
enum To<'a, 'b> {
    /// They are kept.
    Sums(Sums<'a, f32>),
    /// They are results but for this.
    Halves(&'a Plain<'a>, Option<*const f16>, &'a mut PixelsMut<'b, f16>),
}

/// A tile that is there: all that it reads is.
struct Part<'a> {
    x: &'a Inputs<'a, f16>,
    w: &'a Weights<'a, f16>,
    line: usize,
    depth: usize,
}

impl Part<'_> {
    /// `P` pixels from `first` on.
    ///
    /// # Safety
    /// The tile has so many, and the CPU has the arithmetic of halves.
    #[inline(always)]
    unsafe fn some_pixels<const P: usize>(&self, first: usize, to: &mut To<'_, '_>)
    where
        Halves<P>: Add<P>,
    {
        let n = self.w.width();
        // SAFETY: the caller's.
        unsafe {
            let mut sums = [[vdupq_n_f32(0.0); 4]; P];
            if let To::Sums(Sums { sums: so_far, fresh: false, .. }) = to {
                for (p, sums) in sums.iter_mut().enumerate() {
                    *sums = reals::of_array(&some(&so_far[(first + p) * n..(first + p + 1) * n], 0));
                }
            }
            self.sums(first, &mut sums);
            match to {
                To::Sums(to) => {
                    for (p, v) in sums.iter().enumerate() {
                        to.sums[(first + p) * n..(first + p + 1) * n].copy_from_slice(&reals::to_array(*v)[..n]);
                    }
                }
                To::Halves(end, residual, out) => {
                    let residual = residual.map(|r| r.add(first * out.step()));
                    store(&sums, n, end, residual, (out.as_mut_ptr().add(first * out.step()), out.step()));
                }
            }
        }
    }

    /// Adds the products of `P` pixels from `first` on.
    ///
    /// # Safety
    /// As of [`Part::some_pixels`].
    #[inline(always)]
    unsafe fn sums<const P: usize>(&self, first: usize, sums: &mut [Reals; P])
    where
        Halves<P>: Add<P>,
    {
        let (x, w) = (self.x, self.w);
        // Each line in as many equal pieces as it takes.
        let pieces = self.line.div_ceil(TERMS).max(1);
        let piece = self.line.div_ceil(pieces).next_multiple_of(8);
        // SAFETY: `tile_to` has checked that rows and weights reach as far; the rest is the caller's.
        unsafe {
            let nothing = Halves::<P>([[vdupq_n_u16(0); 2]; P]);
            let (mut acc, mut terms) = (nothing, 0);
            let mut weights = w.data.as_ptr().add(w.channels.0 * self.depth + w.first_row * x.taps * self.line * 16);
            for row in x.rows {
                for t in 0..x.taps {
                    let from = row.as_ptr().add(first * x.step + t * x.tap_step);
                    let mut at = 0;
                    while at < self.line {
                        let n = piece.min(self.line - at);
                        if terms + n > MOST_TERMS {
                            widen(&acc, sums);
                            (acc, terms) = (nothing, 0);
                        }
                        acc.add(core::array::from_fn(|p| from.add(p * x.step + at)), weights, n);
                        weights = weights.add(16 * n);
                        (at, terms) = (at + n, terms + n);
                    }
                }
            }
            widen(&acc, sums);
        }
    }
}

/// Adds sums of halves to those of floats.
///
/// # Safety
/// None; NEON is always there.
#[inline(always)]
unsafe fn widen<const P: usize>(acc: &Halves<P>, sums: &mut [Reals; P]) {
    // SAFETY: NEON is always there.
    unsafe {
        for (acc, sums) in acc.0.iter().zip(sums) {
            let ([a, b], [c, d]) = (reals::wide(acc[0]), reals::wide(acc[1]));
            *sums = [vaddq_f32(sums[0], a), vaddq_f32(sums[1], b), vaddq_f32(sums[2], c), vaddq_f32(sums[3], d)];
        }
    }
}

/// Takes the sums of `n` channels to results and stores them.
///
/// # Safety
/// Bias and scale have `n` elements, and so has each pixel of the residual and of `to`, which are a step apart.
#[inline(always)]
unsafe fn store<const P: usize>(
    sums: &[Reals; P],
    n: usize,
    end: &Plain<'_>,
    residual: Option<*const f16>,
    (to, step): (*mut f16, usize),
) {
    // SAFETY: the caller's, and NEON is always there.
    unsafe {
        let bias = reals::of_array(&some(&end.bias[..n], 0));
        let scale = reals::of_array(&some(end.scale, 0));
        for (p, v) in sums.iter().enumerate() {
            let at = p * step;
            let mut v: Reals = core::array::from_fn(|i| vaddq_f32(v[i], bias[i]));
            if !end.scale.is_empty() {
                v = core::array::from_fn(|i| vmulq_f32(v[i], scale[i]));
            }
            if let Some(residual) = residual {
                let r = if n == 16 {
                    reals::read_halves(residual.add(at))
                } else {
                    reals::some_halves(core::slice::from_raw_parts(residual.add(at), n))
                };
                v = core::array::from_fn(|i| vaddq_f32(v[i], r[i]));
            }
            if end.relu {
                // NaN stays, and so does −0.
                let zero = vdupq_n_f32(0.0);
                v = v.map(|v| vbslq_f32(vcltq_f32(v, zero), zero, v));
            }
            if n == 16 {
                reals::write_halves(to.add(at), v);
            } else {
                reals::write_some_halves(v, core::slice::from_raw_parts_mut(to.add(at), n));
            }
        }
    }
}

/// Multiplies a tile; `false` if it is not one that these kernels can do. There are as many sums as the tile has, or bias, scale and the runs of
/// `out` and of the residual are as long as it is wide, and there is a run for each pixel. The CPU has the arithmetic of halves.
fn tile_to(x: &Inputs<'_, f16>, w: &Weights<'_, f16>, to: &mut To<'_, '_>) -> bool {
    let (line, depth) = (w.packing.line(&w.extents), w.packing.depth(&w.extents));
    let fits = by_channels(&w.packing, 16)
        && x.fit(line)
        && (1..=16).contains(&w.width())
        && w.channels.0.is_multiple_of(16)
        && (w.first_row + x.rows.len()) * x.taps * line <= depth
        && (w.channels.0 + 16) * depth <= w.data.len();
    if !fits {
        return false;
    }
    let part = Part { x, w, line, depth };
    let each = x.pixels.div_ceil(x.pixels.div_ceil(8).max(1)).max(1);
    let mut first = 0;
    while first < x.pixels {
        // SAFETY: what is read and written has just been checked, and by the caller.
        unsafe {
            match each.min(x.pixels - first) {
                1 => part.some_pixels::<1>(first, to),
                2 => part.some_pixels::<2>(first, to),
                3 => part.some_pixels::<3>(first, to),
                4 => part.some_pixels::<4>(first, to),
                5 => part.some_pixels::<5>(first, to),
                6 => part.some_pixels::<6>(first, to),
                7 => part.some_pixels::<7>(first, to),
                _ => part.some_pixels::<8>(first, to),
            }
        }
        first += each;
    }
    true
}
