//! Tensors of bytes: their sums, which are exact, and functions of one byte, which are tables.

use crate::elementwise::Elementwise;
use crate::quant;
use crate::rows::{BUFFER, View, ViewMut, buffers, copy};
use crate::{DType, Element};

/// Elements whose squares add up within 32 bits: 2¹⁴, of which each is below 2¹⁶.
const RUN: usize = 1 << 14;

/// Columns whose sums are formed together: a cache line of bytes.
const COLUMNS: usize = 64;

/// Values of a byte.
const VALUES: usize = 256;

/// Elements from which on a table pays for itself.
const WORTH_A_TABLE: usize = 4 * VALUES;

/// Whether elements are quantised bytes.
#[inline(always)]
pub(super) fn are_bytes(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::U8)
}

/// A quantised byte as the integer that is stored.
trait Byte: Element + Into<i32> + Ord {}
impl Byte for i8 {}
impl Byte for u8 {}

/// `Σ d` and `Σ d²` over bytes, `d = q − zero_point`. Exact for any tensor: below 2³² elements, each below 2⁸.
#[derive(Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) sum: i64,
    pub(super) squares: i64,
}

impl Sums {
    /// Adds sums over stored integers.
    #[inline(always)]
    fn add(&mut self, sum: i32, squares: i32) {
        self.sum += i64::from(sum);
        self.squares += i64::from(squares);
    }

    /// Of sums over `n` stored integers.
    #[inline(always)]
    fn less(self, zero_point: i32, n: usize) -> Self {
        let (zero, n) = (i64::from(zero_point), n as i64);
        Sums { sum: self.sum - n * zero, squares: self.squares - 2 * zero * self.sum + n * zero * zero }
    }
}

/// The sums over bytes `start .. start + n`.
#[inline(always)]
pub(super) fn sums(x: &View<'_>, start: usize, n: usize) -> Sums {
    match x.dtype {
        DType::U8 => sums_of::<u8>(x, start, n),
        _ => sums_of::<i8>(x, start, n),
    }
}

#[inline(always)]
fn sums_of<T: Byte>(x: &View<'_>, start: usize, n: usize) -> Sums {
    let mut total = Sums::default();
    for at in (0..n).step_by(RUN) {
        let (mut sum, mut squares) = (0i32, 0i32);
        for &q in x.slice::<T>(start + at, RUN.min(n - at)) {
            let q: i32 = q.into();
            sum += q;
            squares += q * q;
        }
        total.add(sum, squares);
    }
    total.less(x.zero_point, n)
}

/// Gives `take` the sums (those of squares if `SQUARES`, else 0) of each of `width` neighbouring columns, numbered from the one at `start` on, over `n` positions that lie
/// `step` elements apart.
#[inline(always)]
pub(super) fn column_sums<const SQUARES: bool>(
    x: &View<'_>,
    start: usize,
    step: usize,
    n: usize,
    width: usize,
    take: impl FnMut(usize, Sums),
) {
    match x.dtype {
        DType::U8 => column_sums_of::<u8, SQUARES>(x, start, step, n, width, take),
        _ => column_sums_of::<i8, SQUARES>(x, start, step, n, width, take),
    }
}

#[inline(always)]
fn column_sums_of<T: Byte, const SQUARES: bool>(
    x: &View<'_>,
    start: usize,
    step: usize,
    n: usize,
    width: usize,
    mut take: impl FnMut(usize, Sums),
) {
    for first in (0..width).step_by(COLUMNS) {
        let width = COLUMNS.min(width - first);
        let mut totals = [Sums::default(); COLUMNS];
        for run in (0..n).step_by(RUN) {
            let (mut sums, mut squares) = ([0i32; COLUMNS], [0i32; COLUMNS]);
            for i in run..(run + RUN).min(n) {
                let q = x.slice::<T>(start + first + i * step, width);
                for ((s, s2), &q) in sums.iter_mut().zip(&mut squares).zip(q) {
                    let q: i32 = q.into();
                    *s += q;
                    if SQUARES {
                        *s2 += q * q;
                    }
                }
            }
            totals.iter_mut().zip(sums.iter().zip(&squares)).for_each(|(t, (&s, &q))| t.add(s, q));
        }
        for (k, sums) in totals.iter().take(width).enumerate() {
            take(first + k, sums.less(x.zero_point, n));
        }
    }
}

/// The largest of bytes `start .. start + n`, as a real.
#[inline(always)]
pub(super) fn largest(x: &View<'_>, start: usize, n: usize) -> f32 {
    let largest = match x.dtype {
        DType::U8 => largest_of(x.slice::<u8>(start, n), u8::MIN),
        _ => largest_of(x.slice::<i8>(start, n), i8::MIN),
    };
    quant::dequantize(largest, x.scale, x.zero_point)
}

#[inline(always)]
fn largest_of<T: Byte>(q: &[T], least: T) -> i32 {
    q.iter().fold(least, |a, &b| b.max(a)).into()
}

/// Whether `n` elements that are functions of one byte each, and bytes themselves, are worth a table.
pub(super) fn worth_a_table(x: &View<'_>, out: &ViewMut<'_>, n: usize) -> bool {
    n >= WORTH_A_TABLE && are_bytes(x.dtype) && are_bytes(out.dtype())
}

/// What loading a byte of `x`, `f`, and storing to bytes make of each stored byte.
#[inline(always)]
pub(super) fn table(x: &View<'_>, out: &ViewMut<'_>, mut f: impl FnMut(&mut [f32])) -> [u8; VALUES] {
    let mut table = [0u8; VALUES];
    let (lo, hi) = if out.dtype() == DType::U8 { (0, 255) } else { (-128, 127) };
    let signed = x.dtype == DType::I8;
    for (half, entries) in table.chunks_exact_mut(BUFFER).enumerate() {
        let mut v = [0f32; BUFFER];
        for (i, v) in v.iter_mut().enumerate() {
            let byte = (half * BUFFER + i) as u8;
            let q = if signed { i32::from(byte as i8) } else { i32::from(byte) };
            *v = quant::dequantize(q, x.scale, x.zero_point);
        }
        f(&mut v);
        for (entry, &v) in entries.iter_mut().zip(&v) {
            *entry = quant::quantize(v, out.scale(), out.zero_point(), lo, hi) as u8;
        }
    }
    table
}

/// Writes `table[byte]` for bytes `start .. start + n`.
#[inline(always)]
pub(super) fn look_up<E: Elementwise>(
    e: E,
    table: &[u8; VALUES],
    x: &View<'_>,
    out: &mut ViewMut<'_>,
    start: usize,
    n: usize,
) {
    buffers(start..start + n, |at, n| {
        // Not from where it lies: the step may work in place.
        let mut buffer = [0u8; BUFFER];
        let Some(buffer) = buffer.get_mut(..n) else { return };
        copy(x.slice(at, n), buffer);
        e.lookup(table, buffer);
        copy(buffer, out.slice(at, n));
    });
}
