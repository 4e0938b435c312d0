//! The loops of a dense tile: lines of pixels and panels of channels, in pieces that fit registers.

use core::arch::aarch64::*;

use kinglet::product::{Inputs, PANEL, Weights};

use super::ends::End;
use super::round::Four;
use super::tiles::{self, Widening};
use crate::lanes::{Dot, Tile};

/// How the weights of a tile lie.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Order {
    /// By fours of inputs, in panels of 16 channels.
    Fours,
    /// By eights, in panels of eight.
    Eights,
}

impl Order {
    /// Channels of a panel.
    pub(super) const fn panel(self) -> usize {
        match self {
            Order::Fours => 16,
            Order::Eights => 8,
        }
    }
}

/// A tile that is there: all that it reads is.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) x: &'a Inputs<'a, u8>,
    pub(super) w: &'a Weights<'a, i8>,
    /// Inputs of a line with the zeros that fill it up.
    pub(super) line: usize,
    /// Those of all lines.
    pub(super) depth: usize,
}

/// Writes the inputs of two pixels in turn, eight of each: `eights` times from `a` and `b` on, to places `step` bytes apart.
///
/// # Safety
/// They may be read and written.
#[inline(always)]
unsafe fn pack_pair(a: *const u8, b: *const u8, eights: usize, to: *mut u8, step: usize) {
    // SAFETY: the caller's.
    unsafe {
        let (mut a, mut b, mut to) = (a, b, to);
        for _ in 0..eights / 2 {
            let (x, y) = (vreinterpretq_u64_u8(vld1q_u8(a)), vreinterpretq_u64_u8(vld1q_u8(b)));
            vst1q_u8(to, vreinterpretq_u8_u64(vzip1q_u64(x, y)));
            vst1q_u8(to.add(step), vreinterpretq_u8_u64(vzip2q_u64(x, y)));
            (a, b, to) = (a.add(16), b.add(16), to.add(2 * step));
        }
        if eights % 2 == 1 {
            vst1q_u8(to, vcombine_u8(vld1_u8(a), vld1_u8(b)));
        }
    }
}

/// Pointers to `P` pixels, the last of them `last` bytes behind the first.
#[inline(always)]
fn pixels<const P: usize>(x: *const u8, step: usize, last: usize) -> [*const u8; P] {
    let mut all = [x; P];
    for p in 1..P {
        all[p] = all[p - 1].wrapping_add(step);
    }
    all[P - 1] = x.wrapping_add(last);
    all
}

/// Pointers to the weights of `N` panels that are so far apart.
#[inline(always)]
fn panels<const N: usize>(w: *const i8, apart: usize) -> [*const i8; N] {
    let mut all = [w; N];
    for n in 1..N {
        all[n] = all[n - 1].wrapping_add(apart);
    }
    all
}

impl Part<'_> {
    /// Calls `f(inputs of the first pixel, weights of a panel)` for each line, both where the line begins. `panel` counts from that
    /// of the tile's first channel on, each of so many channels.
    ///
    /// # Safety
    /// That panel is one of the tile's.
    #[inline(always)]
    unsafe fn lines(&self, first: usize, (panel, channels): (usize, usize), mut f: impl FnMut(*const u8, *const i8)) {
        let (x, w) = (self.x, self.w);
        // SAFETY: `DenseI8::tile_to` has checked that rows and weights reach as far.
        unsafe {
            let mut weights = w.data.as_ptr().add((w.channels.0 + panel * channels) * self.depth);
            weights = weights.add(w.first_row * x.taps * self.line * channels);
            // There is at least one of each: where a loop may have nothing to do, sums are kept for that case.
            let (mut row, end) = (x.rows.as_ptr(), x.rows.as_ptr_range().end);
            loop {
                let mut from = (*row).as_ptr().add(first * x.step);
                let mut taps = x.taps;
                loop {
                    f(from, weights);
                    from = from.wrapping_add(x.tap_step);
                    weights = weights.wrapping_add(self.line * channels);
                    taps -= 1;
                    if taps == 0 {
                        break;
                    }
                }
                row = row.add(1);
                if row == end {
                    break;
                }
            }
        }
    }

    /// Channels of a panel of so many that the tile has.
    #[inline(always)]
    fn channels(&self, panel: usize, of: usize) -> (usize, usize) {
        (panel * of, (self.w.width() - panel * of).min(of))
    }

    /// `P` pixels from `first` on of a panel of 16 channels.
    ///
    /// # Safety
    /// The tile has so many, and the CPU the instructions of `T`.
    #[inline(always)]
    unsafe fn fours<E: End, T: Tile<P, X = u8, W = i8, Sum = int32x4_t>, const P: usize>(
        &self,
        first: usize,
        panel: usize,
        of: &E::Panel,
        end: &mut E,
    ) {
        let mut acc = T::start(end.start(of));
        let step = self.x.step;
        // SAFETY: the caller's.
        unsafe {
            self.lines(first, (panel, 16), |x, w| acc.add(pixels(x, step, (P - 1) * step), w, self.line / 4));
            let sums = acc.sums(end.start(of));
            end.take(of, first, self.channels(panel, 16), sums);
        }
    }

    /// All pixels of a panel of 16 channels, up to five at a time, about as many each.
    ///
    /// # Safety
    /// The CPU has the dot product.
    pub(super) unsafe fn by_dot<E: End>(&self, panel: usize, end: &mut E) {
        let of = &end.panel(16 * panel, self.w.width());
        let pixels = self.x.pixels;
        let each = if pixels <= 5 { pixels } else { pixels.div_ceil(pixels.div_ceil(5)) };
        let mut first = 0;
        while first < pixels {
            // SAFETY: the caller's.
            unsafe {
                match each.min(pixels - first) {
                    1 => self.fours::<E, Dot<1>, 1>(first, panel, of, end),
                    2 => self.fours::<E, Dot<2>, 2>(first, panel, of, end),
                    3 => self.fours::<E, Dot<3>, 3>(first, panel, of, end),
                    4 => self.fours::<E, Dot<4>, 4>(first, panel, of, end),
                    _ => self.fours::<E, Dot<5>, 5>(first, panel, of, end),
                }
            }
            first += each;
        }
    }

    /// All pixels of a panel of 16 channels, two at a time.
    pub(super) fn by_words<E: End, const NARROW: bool>(&self, panel: usize, end: &mut E)
    where
        Widening<1, NARROW>: Tile<1, X = u8, W = i8, Sum = int32x4_t>,
        Widening<2, NARROW>: Tile<2, X = u8, W = i8, Sum = int32x4_t>,
    {
        let of = &end.panel(16 * panel, self.w.width());
        let pixels = self.x.pixels;
        let mut first = 0;
        while first < pixels {
            // SAFETY: every AArch64 CPU has the instructions.
            unsafe {
                if first + 1 < pixels {
                    self.fours::<E, Widening<2, NARROW>, 2>(first, panel, of, end);
                } else {
                    self.fours::<E, Widening<1, NARROW>, 1>(first, panel, of, end);
                }
            }
            first += 2;
        }
    }

    /// One pixel of `N` panels of 16 channels from `panel` on.
    ///
    /// # Safety
    /// The CPU has the dot product, and the tile so many panels.
    #[inline(always)]
    unsafe fn one_by_fours<E: End, const N: usize>(
        &self,
        panel: usize,
        end: &mut E,
        add: impl Fn(&mut [Four<int32x4_t>; N], *const u8, [*const i8; N], usize),
    ) {
        // SAFETY: NEON is always there.
        let mut acc = [[unsafe { vdupq_n_s32(0) }; 4]; N];
        for n in 0..N {
            acc[n] = end.start(&end.panel(16 * (panel + n), self.w.width()));
        }
        // SAFETY: the caller's.
        unsafe {
            self.lines(0, (panel, 16), |x, w| add(&mut acc, x, panels(w, 16 * self.depth), self.line / 4));
            for n in 0..N {
                let of = end.panel(16 * (panel + n), self.w.width());
                end.take(&of, 0, self.channels(panel + n, 16), [acc[n]]);
            }
        }
    }

    /// The first `pixels` of `P` pixels from `first` on of a panel of eight channels.
    ///
    /// # Safety
    /// The tile has so many, and the CPU `smmla`.
    #[inline(always)]
    unsafe fn eights<E: End, const N: usize, const P: usize>(
        &self,
        (first, there): (usize, usize),
        panel: usize,
        of: &E::Panel,
        end: &mut E,
        add: impl Fn(&mut [Four<int32x4_t>; N], [*const u8; P], *const i8, usize),
    ) {
        let mut acc = [end.start(of); N];
        let step = self.x.step;
        // SAFETY: the caller's.
        unsafe {
            self.lines(first, (panel, 8), |x, w| add(&mut acc, pixels(x, step, (there - 1) * step), w, self.line / 8));
            end.take_pairs(of, (first, there), self.channels(panel, 8), acc);
        }
    }

    /// All pixels of a panel of eight channels, up to eight at a time.
    ///
    /// # Safety
    /// The CPU has `smmla`.
    pub(super) unsafe fn by_matrix<E: End>(&self, panel: usize, end: &mut E) {
        let of = &end.pairs(8 * panel, self.w.width());
        let pixels = self.x.pixels;
        let each = if pixels <= 8 { pixels } else { pixels.div_ceil(pixels.div_ceil(8)).next_multiple_of(2) };
        let mut first = 0;
        while first < pixels {
            let there = each.min(pixels - first);
            let at = (first, there);
            // SAFETY: the caller's.
            unsafe {
                match there {
                    1 | 2 => self.eights::<E, 1, 2>(at, panel, of, end, |a, x, w, k| tiles::pairs_1(a, x, w, k)),
                    3 | 4 => self.eights::<E, 2, 4>(at, panel, of, end, |a, x, w, k| tiles::pairs_2(a, x, w, k)),
                    5 | 6 => self.eights::<E, 3, 6>(at, panel, of, end, |a, x, w, k| tiles::pairs_3(a, x, w, k)),
                    _ => self.eights::<E, 4, 8>(at, panel, of, end, |a, x, w, k| tiles::pairs_4(a, x, w, k)),
                }
            }
            first += each;
        }
    }

    /// Brings the inputs of `N` pairs of pixels from `first` on, of which `there` are, into a panel `[eight inputs][pixel][input]`.
    ///
    /// # Safety
    /// The tile has so many, and `to` room for them.
    #[inline(always)]
    unsafe fn pack<const N: usize>(&self, (first, there): (usize, usize), to: *mut u8) {
        let mut to = to;
        for row in self.x.rows {
            for t in 0..self.x.taps {
                // SAFETY: the caller's.
                unsafe {
                    let from = row.as_ptr().add(first * self.x.step + t * self.x.tap_step);
                    for n in 0..N {
                        let a = from.add((2 * n).min(there - 1) * self.x.step);
                        let b = from.add((2 * n + 1).min(there - 1) * self.x.step);
                        pack_pair(a, b, self.line / 8, to.add(16 * n), 16 * N);
                    }
                    to = to.add(2 * N * self.line);
                }
            }
        }
    }

    /// Pixels from `first` on, `there` of them in `N` pairs, of all panels of eight channels: their inputs are packed first.
    ///
    /// # Safety
    /// The tile has so many, `memory` has room for the panel, and the CPU has `smmla`.
    #[inline(always)]
    unsafe fn packed<E: End, const N: usize>(
        &self,
        (first, there): (usize, usize),
        memory: &mut [u8],
        end: &mut E,
        add: impl Fn(&mut [Four<int32x4_t>; N], *const u8, *const i8, usize),
    ) {
        // SAFETY: the caller's.
        unsafe {
            self.pack::<N>((first, there), memory.as_mut_ptr());
            let mut weights = self.w.data.as_ptr().add(self.w.channels.0 * self.depth);
            let (mut channel, width) = (0, self.w.width());
            while channel < width {
                let of = &end.pairs(channel, width);
                let mut acc = [end.start(of); N];
                add(&mut acc, memory.as_ptr(), weights, self.depth / 8);
                end.take_pairs(of, (first, there), (channel, (width - channel).min(8)), acc);
                weights = weights.add(8 * self.depth);
                channel += 8;
            }
        }
    }

    /// All pixels and panels of eight channels, up to twelve pixels at a time, whose inputs are packed first.
    ///
    /// # Safety
    /// As of [`Part::packed`].
    pub(super) unsafe fn by_panels<E: End>(&self, memory: &mut [u8], end: &mut E) {
        let pixels = self.x.pixels;
        let mut first = 0;
        while first < pixels {
            let there = (pixels - first).min(PANEL);
            // SAFETY: the caller's.
            unsafe {
                let at = (first, there);
                match there {
                    9.. => self.packed::<E, 6>(at, memory, end, |a, x, w, k| tiles::panel_6(a, x, w, k)),
                    7 | 8 => self.packed::<E, 4>(at, memory, end, |a, x, w, k| tiles::panel_4(a, x, w, k)),
                    5 | 6 => self.packed::<E, 3>(at, memory, end, |a, x, w, k| tiles::panel_3(a, x, w, k)),
                    3 | 4 => self.packed::<E, 2>(at, memory, end, |a, x, w, k| tiles::panel_2(a, x, w, k)),
                    _ => self.packed::<E, 1>(at, memory, end, |a, x, w, k| tiles::panel_1(a, x, w, k)),
                }
            }
            first += there;
        }
    }

    /// One pixel of `N` panels of eight channels from `panel` on.
    ///
    /// # Safety
    /// The CPU has the dot product, and the tile so many panels.
    #[inline(always)]
    unsafe fn one_by_eights<E: End, const N: usize>(
        &self,
        panel: usize,
        end: &mut E,
        add: impl Fn(&mut [Four<int32x4_t>; N], *const u8, [*const i8; N], usize),
    ) {
        // SAFETY: NEON is always there.
        let mut acc = [[unsafe { vdupq_n_s32(0) }; 4]; N];
        // SAFETY: the caller's.
        unsafe {
            self.lines(0, (panel, 8), |x, w| add(&mut acc, x, panels(w, 8 * self.depth), self.line / 8));
            let zero = vdupq_n_s32(0);
            for n in (0..N).step_by(2) {
                let a = acc[n];
                let [c, d] = if n + 1 < N {
                    let b = acc[n + 1];
                    [vpaddq_s32(b[0], b[1]), vpaddq_s32(b[2], b[3])]
                } else {
                    [zero; 2]
                };
                let mut sums = [vpaddq_s32(a[0], a[1]), vpaddq_s32(a[2], a[3]), c, d];
                let channel = 8 * (panel + n);
                let there = (self.w.width() - channel).min(if n + 1 < N { 16 } else { 8 });
                let of = end.panel(channel, self.w.width());
                let start = end.start(&of);
                for i in 0..4 {
                    sums[i] = vaddq_s32(sums[i], start[i]);
                }
                end.take(&of, 0, (channel, there), [sums]);
            }
        }
    }

    /// All panels, `N` at a time as long as there are so many, then half as many.
    ///
    /// # Safety
    /// As of the functions of one pixel.
    pub(super) unsafe fn one_pixel<E: End>(&self, order: Order, end: &mut E) {
        let panels = self.w.width().div_ceil(order.panel());
        let mut panel = 0;
        while panel < panels {
            // SAFETY: the caller's.
            unsafe {
                panel += match (order, panels - panel) {
                    (Order::Fours, 4..) => {
                        self.one_by_fours(panel, end, |a, x, w, k| tiles::fours_4(a, x, w, k));
                        4
                    }
                    (Order::Fours, 2..) => {
                        self.one_by_fours(panel, end, |a, x, w, k| tiles::fours_2(a, x, w, k));
                        2
                    }
                    (Order::Fours, _) => {
                        self.one_by_fours(panel, end, |a, x, w, k| tiles::fours_1(a, x, w, k));
                        1
                    }
                    (Order::Eights, 4..) => {
                        self.one_by_eights(panel, end, |a, x, w, k| tiles::eights_4(a, x, w, k));
                        4
                    }
                    (Order::Eights, 2..) => {
                        self.one_by_eights(panel, end, |a, x, w, k| tiles::eights_2(a, x, w, k));
                        2
                    }
                    (Order::Eights, _) => {
                        self.one_by_eights(panel, end, |a, x, w, k| tiles::eights_1(a, x, w, k));
                        1
                    }
                };
            }
        }
    }
}
