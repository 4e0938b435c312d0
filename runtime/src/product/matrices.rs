//! Products of two computed tensors: the right matrices are packed into scratch, some panels at a time, as weights lie, and
//! multiplied by the same driver.

use core::ops::Range;

use super::driver::Driver;
use super::epilogue::Finish;
use super::part::{Frames, Product};
use super::scratch::{Scratch, copies, packed_pixels};
use super::{Epilogue, Extents, Geometry, Inputs, Microkernel, Sign, Stage, Sums, Weights, lines};
use crate::elementwise::Elementwise;
use crate::format::ALIGN;
use crate::kernels::{BinaryOp, Conv, MatMul};
use crate::rows::{Operands, Tile};
use crate::{DType, Element};

/// Bytes of a packed matrix that are multiplied at once, more or less: they stay in the second cache.
const AT_ONCE: u64 = 256 * 1024;

/// A right matrix, `[k, n]`, or `[n, k]` if it is transposed.
#[derive(Clone, Copy)]
pub struct Matrix<'a, W> {
    /// Its elements.
    pub data: &'a [W],
    /// Terms of a sum.
    pub k: usize,
    /// Columns.
    pub n: usize,
    /// It lies `[n, k]`.
    pub transposed: bool,
    /// Columns of a panel that it is packed in.
    pub panel: usize,
    /// Its bytes are unsigned, and become signed by `^ 0x80`.
    pub unsigned: bool,
}

/// A microkernel that packs right matrices itself.
pub trait Pack: Microkernel {
    /// Packs columns `columns` of a matrix, whole panels but for the last, in the packing that this kernel reads.
    fn pack(&self, b: &Matrix<'_, Self::W>, columns: Range<usize>, to: &mut [Self::W]);
}

/// Packs columns in panels of `P` by runs of `R`; what fills up panels and runs is zero. Elements go through `read`.
#[inline(always)]
pub fn pack_panels<W: Element + Default, const P: usize, const R: usize>(
    b: &Matrix<'_, W>,
    columns: Range<usize>,
    read: impl Fn(W) -> W + Copy,
    to: &mut [W],
) {
    let &Matrix { data, k, n, transposed, .. } = b;
    if data.len() != k * n || columns.end > n || R == 0 || P == 0 {
        return;
    }
    let panels = columns.clone().step_by(P);
    for (first, to) in panels.zip(to.chunks_exact_mut(k.next_multiple_of(R) * P)) {
        let width = P.min(columns.end - first);
        for (k0, to) in (0..k).step_by(R).zip(to.chunks_exact_mut(P * R)) {
            let there = R.min(k - k0);
            if (width, there) != (P, R) {
                to.fill(W::default());
                for c in 0..width {
                    for j in 0..there {
                        let at = if transposed { (first + c) * k + k0 + j } else { (k0 + j) * n + first + c };
                        to[c * R + j] = read(data[at]);
                    }
                }
            } else if transposed {
                for (c, to) in to.chunks_exact_mut(R).enumerate() {
                    let from = &data[(first + c) * k + k0..][..R];
                    to.iter_mut().zip(from).for_each(|(to, &v)| *to = read(v));
                }
            } else {
                let rows: [&[W]; R] = core::array::from_fn(|j| &data[(k0 + j) * n + first..][..P]);
                for (c, to) in to.chunks_exact_mut(R).enumerate() {
                    (0..R).for_each(|j| to[j] = read(rows[j][c]));
                }
            }
        }
    }
}

/// The product as one of pixels with constant weights: rows of the left matrix are pixels.
fn as_pixels(p: &MatMul, epilogue: Epilogue) -> Conv {
    let geometry = Geometry {
        batch: 1,
        input: [p.m, 1, p.k],
        output: [p.m, 1, p.n],
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        pad: [0, 0],
        upsample: [1, 1],
    };
    let scratch = Scratch::default();
    Conv { geometry, groups: 1, packing: p.packing, symmetric: false, tile: p.tile, epilogue, scratch }
}

/// Panels of the right matrix that are packed at once, and bytes of each.
fn panels_at_once(p: &MatMul, size: u64) -> (u64, u64) {
    let run = u64::from(p.packing.run.max(1));
    let panel = u64::from(p.packing.panel.max(1)) * u64::from(p.k).next_multiple_of(run) * size;
    let all = u64::from(p.n).div_ceil(p.packing.panel.max(1).into());
    ((AT_ONCE / panel).clamp(1, all), panel)
}

/// Bytes of the parts of a step's scratch: sums, packed panels, their biases and multipliers, what is added to pixels, ones,
/// copied rows, what a microkernel keeps between.
fn parts(p: &MatMul, x: DType) -> [u64; 8] {
    let align = |n: u64| n.next_multiple_of(ALIGN as u64);
    let (bytes, size) = (x != DType::F32, x.size() as u64);
    let (panels, panel) = panels_at_once(p, size);
    let columns = align(4 * panels * u64::from(p.packing.panel));
    let sums = u64::from(p.tile) * u64::from(p.packing.panel) * 4;
    let rows = lines::rows_at_once(p.k.into(), p.m.into());
    let line = u64::from(p.k).next_multiple_of(p.packing.run.max(1).into());
    let copies = p.transpose_a || p.packing.sign.moves(x) != 0 || line != u64::from(p.k);
    let copied = if copies { (rows * u64::from(p.k) + lines::SLACK as u64) * size } else { 0 };
    let of_bytes = |n: u64| if bytes { align(n) } else { 0 };
    let between = align(packed_pixels(p.packing.run, line as usize));
    [align(sums), align(panels * panel), columns, columns, of_bytes(4 * rows), of_bytes(line), align(copied), between]
}

/// Bytes of scratch that a worker needs for left matrices of type `x`.
pub(crate) fn scratch(p: &MatMul, x: DType) -> u64 {
    if p.tile == 0 { 0 } else { parts(p, x).iter().fold(0, |n, &part| n.saturating_add(part)) }
}

/// The first so many bytes of scratch, as elements.
fn take<'a, T: Element>(memory: &mut &'a mut [u8], bytes: u64) -> Option<&'a mut [T]> {
    let whole = core::mem::take(memory);
    let (own, rest) = whole.split_at_mut_checked(usize::try_from(bytes).ok()?)?;
    *memory = rest;
    bytemuck::try_cast_slice_mut(own).ok()
}

/// Computes the rows and columns of a tile of the output; columns are panels.
#[inline(always)]
pub fn run_matrices<K: Pack, E: Elementwise>(k: K, e: E, p: &MatMul, o: &Operands<'_>, tile: &Tile) {
    let _ = multiply(k, e, p, o, tile);
}

#[inline(always)]
fn multiply<K: Pack, E: Elementwise>(k: K, e: E, p: &MatMul, o: &Operands<'_>, tile: &Tile) -> Option<()> {
    let (a, b, mut out) = (o.input(0), o.input(1), o.output());
    let bytes = a.dtype != DType::F32;
    let [sums, packed, bias, multipliers, added, ones, copied, between] = parts(p, a.dtype);
    let memory = &mut o.scratch();
    let sums: &mut [K::Sum] = take(memory, sums)?;
    let packed: &mut [K::W] = take(memory, packed)?;
    let bias: &mut [i32] = take(memory, bias)?;
    let multipliers: &mut [f32] = take(memory, multipliers)?;
    let added: &mut [i32] = take(memory, added)?;
    let ones: &mut [K::X] = take(memory, ones)?;
    let copied: &mut [K::X] = take(memory, copied)?;
    let between: &mut [u8] = take(memory, between)?;
    // That of floats stays 0.
    bias.fill(0);
    multipliers.fill(p.multiplier);
    bytemuck::cast_slice_mut::<K::X, u8>(ones).fill(1);

    let rounds = bytes && out.dtype() != DType::F32;
    let mut stages = [Stage::Nothing; super::STAGES];
    if !bytes && p.multiplier != 1.0 {
        stages[0] = Stage::Channels(BinaryOp::Mul);
    }
    let (q_lo, q_hi, mid_zero) = (p.q_lo, p.q_hi, out.zero_point());
    let conv = as_pixels(p, Epilogue { rounds, q_lo, q_hi, mid_scale: 1.0, mid_zero, stages });
    // Bytes as they are multiplied: the left ones as the packing says, the right ones signed.
    let signed = match p.packing.sign {
        Sign::AsStored => a.dtype == DType::I8,
        sign => sign == Sign::Signed,
    };
    let unsigned = b.dtype == DType::U8;
    let (a_zero, b_zero) = if bytes {
        (a.zero_point + p.packing.sign.moves(a.dtype), b.zero_point - if unsigned { 128 } else { 0 })
    } else {
        (0, 0)
    };
    let (m, n, depth) = (p.m as usize, p.n as usize, p.k as usize);
    let panel = (p.packing.panel as usize).max(1);
    let panels = panels_at_once(p, a.dtype.size() as u64).0 as usize;
    let copies = copies(&conv, false, a.dtype) || k.in_place(&a, 0, 0).is_none();
    let mut lies = None;
    let mut row = tile.rows.start;
    while row < tile.rows.end {
        let batch = row / m;
        let rows = row % m..(tile.rows.end - batch * m).min(m);
        row = batch * m + rows.end;
        let at = p.right(batch);
        let matrix = Matrix { data: b.slice(at, depth * n), k: depth, n, transposed: p.transpose_b, panel, unsigned };
        for first in tile.columns.clone().step_by(panels) {
            let columns = first * panel..((first + panels).min(tile.columns.end) * panel).min(n);
            let extents = Extents { groups: 1, channels: columns.len(), lines: 1, length: depth };
            // Several left matrices may meet the same right one.
            if lies != Some((at, first)) {
                k.pack(&matrix, columns.clone(), packed);
                if bytes {
                    let weights = |channels| weights(&*packed, p, extents, channels);
                    column_sums(&k, p, ones, signed, weights, columns.len(), bias);
                    for sum in &mut bias[..columns.len()] {
                        let rest = (depth as i32).wrapping_mul(b_zero).wrapping_sub(*sum);
                        *sum = a_zero.wrapping_mul(rest);
                    }
                }
                lies = Some((at, first));
            }
            let mut driver = Driver {
                product: Product {
                    k,
                    p: &conv,
                    depthwise: false,
                    extents,
                    signed,
                    weights: packed,
                    scales: &[],
                    frames: Frames::No,
                },
                copies,
                from: p.left(batch),
                to: batch * m * n + columns.start,
                turned: if p.transpose_a { m } else { 0 },
                zero: b_zero as i16,
                added: &mut *added,
                zeros: &[],
                finish: Finish::of_matrices(e, &conv.epilogue, bias, multipliers, out.reborrow()),
                columns: 0..columns.len().div_ceil(panel),
                sums: &mut *sums,
                residual: &mut [],
                between: &mut *between,
            };
            driver.pixels(&a, copied, rows.clone());
        }
    }
    Some(())
}

fn weights<'a, W>(data: &'a [W], p: &MatMul, extents: Extents, channels: (usize, usize)) -> Weights<'a, W> {
    Weights { data, packing: p.packing, symmetric: false, extents, first_row: 0, channels, scales: &[] }
}

/// The sums of the right matrix along its columns: its product with a row of ones.
#[inline(always)]
fn column_sums<'w, K: Microkernel>(
    k: &K,
    p: &MatMul,
    ones: &[K::X],
    signed: bool,
    weights: impl Fn((usize, usize)) -> Weights<'w, K::W>,
    n: usize,
    to: &mut [i32],
) where
    K::W: 'w,
{
    let inputs = Inputs { rows: &[ones], step: 0, taps: 1, tap_step: 0, column: 1, pixels: 1, signed };
    let panel = p.packing.panel as usize;
    let width = K::tile(1, n.div_ceil(panel.max(1)), p.tile as usize).1.max(1) * panel;
    for from in (0..n).step_by(width) {
        let channels = (from, (from + width).min(n));
        let sums = &mut to[channels.0..channels.1];
        if let Ok(sums) = bytemuck::try_cast_slice_mut(sums) {
            k.multiply(&inputs, &weights(channels), Sums { sums, fresh: true, scratch: &mut [] });
        }
    }
}
