//! What happens to the sums of a convolution, dense or depthwise, before they are stored.

use super::{Place, Plain, Rounding};
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, ensure};
use crate::format::words::{Record, Words, record};
use crate::kernels::{BinaryOp, OpSet, UnaryOp};
use crate::rows::{Operands, View, ViewMut};
use crate::{DType, quant};

/// Operands of every convolution.
pub(crate) const WEIGHTS: usize = 1;
const BIAS: usize = 2;
pub(super) const MULTIPLIERS: usize = 3;
pub(crate) const RESIDUAL: usize = 4;
const TABLE: usize = 5;
const CHANNELS: usize = 6;
/// Operand of the weights' zero points.
pub(crate) const ZEROS: usize = 7;

/// Operand of the multipliers of sums as integers.
pub(crate) const INTEGERS: usize = 8;
/// The core computes floats by functions.
const FLOATS_ARE_FUNCTIONS: bool =
    cfg!(any(all(target_arch = "arm", not(target_abi = "eabihf")), target_arch = "riscv32"));

/// Most stages of an epilogue.
pub const STAGES: usize = 4;

/// One f32 operation of an [`Epilogue`], element for element.
///
/// Four words: 0 where there is no stage, 1 for a function, 2 for `Channels`, 3 for `Residual`; the number of the operation; the parameters of
/// a function, else 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(u32)]
pub enum Stage {
    /// No stage; none follows.
    #[default]
    Nothing,
    /// `v = op(v)`
    Function {
        /// The function.
        op: UnaryOp,
        /// Its first parameter.
        alpha: f32,
        /// Its second parameter.
        beta: f32,
    },
    /// `v = op(v, c)`, `c` the next row of the channels' constants at the element's channel.
    Channels(BinaryOp),
    /// `v = op(v, r)`, `r` the dequantised element of the residual.
    Residual(BinaryOp),
}

impl Record for Stage {
    const WORDS: usize = 4;

    fn read(words: &Words<'_>, at: usize) -> Option<Self> {
        let ([code, op], [alpha, beta]) = (<[u32; 2]>::read(words, at)?, <[f32; 2]>::read(words, at + 2)?);
        let op = op as usize;
        Some(match code {
            0 if op == 0 => Stage::Nothing,
            1 => Stage::Function { op: *UnaryOp::ALL.get(op)?, alpha, beta },
            2 => Stage::Channels(*BinaryOp::ALL.get(op)?),
            3 => Stage::Residual(*BinaryOp::ALL.get(op)?),
            _ => return None,
        })
    }

    fn write(&self, out: &mut dyn FnMut(u32)) {
        let (code, parameters) = match *self {
            Stage::Nothing => ([0, 0], [0.0; 2]),
            Stage::Function { op, alpha, beta } => ([1, op as u32], [alpha, beta]),
            Stage::Channels(op) => ([2, op as u32], [0.0; 2]),
            Stage::Residual(op) => ([3, op as u32], [0.0; 2]),
        };
        code.write(out);
        parameters.write(out);
    }
}

impl Stage {
    /// Whether these words are a stage.
    #[inline(always)]
    pub(crate) fn is(words: &[u32]) -> bool {
        match *words {
            [0, 0, ..] => true,
            [1, op, ..] => (op as usize) < UnaryOp::ALL.len(),
            [2 | 3, op, ..] => (op as usize) < BinaryOp::ALL.len(),
            _ => false,
        }
    }
}

record! {
    /// The end of a convolution. Floats begin with `v = sum + bias`, integers with `v = f32(sum + bias)·m`. Integers that are
    /// rounded begin with `q = clamp(round(f32(sum + bias)·m) + mid_zero, q_lo, q_hi)`; without stages `q` is the result, or
    /// its entry in the table; otherwise `v = (q − mid_zero)·mid_scale`. Then `v` goes through the stages in f32, and is
    /// quantised if the output is.
    ///
    /// Its operands: 2 bias `[channels]` (f32, or i32 for integers), 3 multipliers `m [channels]` f32 (weights of bytes only; of f32 inputs the scales of the weights), 4
    /// residual of the output's shape (where a stage reads it; a float or quantised), 5 table `[256]` u8 (optional, rounded without
    /// stages only), 6 constants of the channels, f32, a row `[channels]` for each stage that takes one.
    pub struct Epilogue {
        /// Integers are rounded before the stages.
        pub rounds: bool,
        /// Lower bound of the rounded integer.
        pub q_lo: i32,
        /// Upper bound of the rounded integer.
        pub q_hi: i32,
        /// Scale of the rounded integer.
        pub mid_scale: f32,
        /// Zero point of the rounded integer.
        pub mid_zero: i32,
        /// What happens to the reals, in order.
        pub stages: [Stage; STAGES],
    }
}

impl Epilogue {
    /// Whether a stage reads the residual.
    pub(super) fn reads_residual(&self) -> bool {
        self.stages().iter().any(|s| matches!(s, Stage::Residual(_)))
    }

    /// Whether sums become bytes, and nothing else is done.
    #[inline(always)]
    pub(crate) fn only_rounds(&self) -> bool {
        let bytes = (-128..=127).contains(&self.q_lo) && self.q_hi <= 127 || self.q_lo >= 0;
        self.rounds && self.stages().is_empty() && bytes
    }

    /// Whether sums become signed bytes, to which a residual is added, and what then comes is no more than a ReLU.
    #[inline(always)]
    pub(crate) fn adds(&self) -> bool {
        let added = matches!(
            self.stages(),
            [Stage::Residual(BinaryOp::Add)]
                | [Stage::Residual(BinaryOp::Add), Stage::Function { op: UnaryOp::Relu, .. }]
        );
        self.rounds && added && self.q_lo >= -128 && self.q_hi <= 127
    }

    /// Whether sums are rounded to bytes, and then at most a residual is added.
    pub fn rounds_at_once(&self) -> bool {
        self.only_rounds() || self.adds()
    }

    /// The functions of its stages.
    pub(crate) fn functions(&self) -> OpSet {
        self.stages().iter().fold(OpSet::NONE, |all, stage| {
            all.union(match *stage {
                Stage::Nothing => OpSet::NONE,
                Stage::Function { op, .. } => OpSet::of_functions(&[op], &[]),
                Stage::Channels(op) | Stage::Residual(op) => OpSet::of_functions(&[], &[op]),
            })
        })
    }

    /// The stages that are there.
    fn stages(&self) -> &[Stage] {
        let end = self.stages.iter().position(|s| *s == Stage::Nothing);
        &self.stages[..end.unwrap_or(STAGES)]
    }

    /// Checks types and the operands of the end of a convolution with this output.
    pub(crate) fn verify(&self, c: &Check<'_>, channels: u32, output: &[u32]) -> Result<(), Fault> {
        let (x, y) = (c.input(0)?, c.output()?);
        c.size(&y, output)?;
        let float = x.dtype.is_float();
        let byte = |d| matches!(d, DType::I8 | DType::U8);
        ensure(float || byte(x.dtype), Fault::DType)?;
        ensure(y.dtype.is_float() || y.dtype.quantized_range().is_some(), Fault::DType)?;
        c.constant(BIAS, if float { DType::F32 } else { DType::I32 }, &[channels])?;
        if c.input(WEIGHTS)?.dtype == DType::I8 || c.optional(MULTIPLIERS).is_some() {
            c.constant(MULTIPLIERS, DType::F32, &[channels])?;
        }
        let stages = self.stages();
        let table = c.optional(TABLE).is_some();
        ensure(!(self.rounds && float), Fault::Params)?;
        if self.rounds {
            // What is no result yet may be of the other byte type than the output.
            let ends = stages.is_empty() && !table;
            let (lo, hi) = y.dtype.quantized_range().filter(|_| ends).unwrap_or((-128, 255));
            ensure(lo <= self.q_lo && self.q_lo <= self.q_hi && self.q_hi <= hi, Fault::Params)?;
            ensure((-128..=255).contains(&self.mid_zero), Fault::Params)?;
            ensure(!stages.is_empty() || byte(y.dtype), Fault::DType)?;
        }
        if table {
            ensure(self.rounds && stages.is_empty(), Fault::Params)?;
            c.constant(TABLE, DType::U8, &[256])?;
        }
        ensure(self.stages[stages.len()..].iter().all(|s| *s == Stage::Nothing), Fault::Params)?;
        let mut rows = 0;
        let mut residual = false;
        for stage in stages {
            match stage {
                Stage::Function { alpha, beta, .. } => ensure(!alpha.is_nan() && !beta.is_nan(), Fault::Params)?,
                Stage::Channels(_) => rows += 1,
                Stage::Residual(_) => residual = true,
                Stage::Nothing => {}
            }
        }
        ensure(residual == c.optional(RESIDUAL).is_some(), Fault::Operands)?;
        ensure((rows > 0) == c.optional(CHANNELS).is_some(), Fault::Operands)?;
        if residual {
            let r = c.input(RESIDUAL)?;
            c.size(&r, output)?;
            ensure(r.dtype.is_float() || r.dtype.quantized_range().is_some(), Fault::DType)?;
        }
        if rows > 0 {
            c.constant(CHANNELS, DType::F32, &[rows, channels])?;
        }
        Ok(())
    }

    /// Ready to finish sums of so many channels, of floats or of integers, with these operands.
    #[inline(always)]
    pub(super) fn of<'a, E: Elementwise>(
        &'a self,
        e: E,
        o: &Operands<'a>,
        float: bool,
        channels: usize,
    ) -> Finish<'a, E> {
        let table = o.constant(TABLE);
        Finish {
            e,
            params: self,
            stages: self.stages(),
            channels,
            bias_f32: if float { o.constant(BIAS) } else { &[] },
            bias_i32: if float { &[] } else { o.constant(BIAS) },
            multipliers: o.constant(MULTIPLIERS),
            integers: o.constant(INTEGERS),
            residual: o.optional(RESIDUAL),
            table: (!table.is_empty()).then_some(table),
            constants: o.constant(CHANNELS),
            out: o.output(),
        }
    }
}

impl<'a, E: Elementwise> Finish<'a, E> {
    /// The end `params` of products of two computed tensors: `v = f32(sum + bias)·m`, of floats `v = sum·m` by a stage. Where sums are of floats the
    /// bias is 0.
    #[inline(always)]
    pub(super) fn of_matrices(
        e: E,
        params: &'a Epilogue,
        bias: &'a [i32],
        multipliers: &'a [f32],
        out: ViewMut<'a>,
    ) -> Self {
        Finish {
            e,
            params,
            stages: params.stages(),
            channels: multipliers.len(),
            bias_f32: bytemuck::cast_slice(bias),
            bias_i32: bias,
            multipliers,
            integers: &[],
            residual: None,
            table: None,
            constants: multipliers,
            out,
        }
    }
}

/// An epilogue with its operands.
pub struct Finish<'a, E> {
    /// The elementwise layer of the instruction set.
    pub e: E,
    /// What happens.
    pub params: &'a Epilogue,
    stages: &'a [Stage],
    /// Channels of the output.
    pub channels: usize,
    /// Bias `[channels]` of sums of floats; none is 0.
    pub bias_f32: &'a [f32],
    /// Bias `[channels]` of sums of integers.
    pub bias_i32: &'a [i32],
    /// Multipliers `[channels]` of sums of integers.
    pub multipliers: &'a [f32],
    /// The multipliers as integers `[channels]`, 0 where there is none; empty if the step has none. Behind them what sums of weights by twos begin with.
    pub integers: &'a [i32],
    /// The residual, of the output's shape.
    pub residual: Option<View<'a>>,
    /// Where rounded bytes are looked up.
    pub table: Option<&'a [u8]>,
    /// A row `[channels]` for each stage that takes one.
    pub constants: &'a [f32],
    /// The output.
    pub out: ViewMut<'a>,
}

impl<'a, E: Elementwise> Finish<'a, E> {
    /// The stages, in order.
    pub fn stages(&self) -> &'a [Stage] {
        self.stages
    }

    /// Finishes the float sums of a tile, `[pixel][channel]`, and stores them. `other` has room for as many, if a stage reads a
    /// residual.
    #[inline(always)]
    pub fn floats(&mut self, to: Place, sums: &mut [f32], other: &mut [f32]) {
        let bias = self.bias_f32.get(to.channel..).unwrap_or(&[]);
        for sums in sums.chunks_exact_mut(to.width.max(1)) {
            for (s, b) in sums.iter_mut().zip(bias) {
                *s += b;
            }
        }
        self.reals(to, sums, other);
    }

    /// Finishes the integer sums of a tile, `[pixel][channel]`, and stores them. `other` as above.
    #[inline(always)]
    pub fn integers(&mut self, to: Place, sums: &mut [i32], other: &mut [f32]) {
        let p = self.params;
        let channels = to.channel..to.channel + to.width;
        let (Some(bias), Some(m)) = (self.bias_i32.get(channels.clone()), self.multipliers.get(channels.clone()))
        else {
            return;
        };
        let integers = self.integers.get(channels).unwrap_or(&[]);
        // Where floats are functions, an integer for a channel is a tenth of the work.
        let round = |channel: usize, sum: i32, m: f32| match integers.get(channel) {
            Some(&integer) if FLOATS_ARE_FUNCTIONS && integer != 0 => {
                quant::requantize_by_integer(sum, integer, p.mid_zero, p.q_lo, p.q_hi)
            }
            _ => quant::requantize(sum, m, p.mid_zero, p.q_lo, p.q_hi),
        };
        if p.rounds && self.stages.is_empty() {
            for (pixel, sums) in sums.chunks_exact(to.width.max(1)).enumerate() {
                let at = to.at + pixel * to.step;
                let out = self.out.slice::<u8>(at, to.width).iter_mut();
                for (c, (o, ((s, &b), &m))) in out.zip(sums.iter().zip(bias).zip(m)).enumerate() {
                    // i8 and u8 are both the low byte.
                    *o = round(c, s.wrapping_add(b), m) as u8;
                }
                self.look_up(at, to.width);
            }
            return;
        }
        // In their own place the sums become reals.
        for sums in sums.chunks_exact_mut(to.width.max(1)) {
            for (c, ((s, &b), &m)) in sums.iter_mut().zip(bias).zip(m).enumerate() {
                let sum = s.wrapping_add(b);
                let v = if p.rounds {
                    quant::dequantize(round(c, sum, m), p.mid_scale, p.mid_zero)
                } else {
                    sum as f32 * m
                };
                *s = v.to_bits() as i32;
            }
        }
        self.reals(to, bytemuck::cast_slice_mut(sums), other);
    }

    /// Whether a residual of signed bytes is added to rounded sums, which are then bytes again: [`Microkernel::add`](super::Microkernel::add).
    #[inline(always)]
    pub(super) fn adds(&self) -> bool {
        let signed = self.residual.is_some_and(|r| r.dtype == DType::I8) && self.out.dtype() == DType::I8;
        signed && self.params.adds()
    }

    /// How the sums of `n` channels from `channel` on become bytes, if that is all there is to do (but for the table), or comes first.
    #[inline(always)]
    pub(super) fn rounding(&self, channel: usize, n: usize, adds: bool) -> Option<Rounding<'a>> {
        let p = self.params;
        if !p.only_rounds() && !adds {
            return None;
        }
        Some(Rounding {
            bias: self.bias_i32.get(channel..channel + n)?,
            multipliers: self.multipliers.get(channel..channel + n)?,
            integers: self.integers.get(channel..channel + n).unwrap_or(&[]),
            starts: self.integers.get(self.channels + channel..self.channels + channel + n).unwrap_or(&[]),
            pixels: &[],
            zero: p.mid_zero,
            lo: p.q_lo,
            hi: p.q_hi,
        })
    }

    /// How the sums of `n` channels from `channel` on become floats, the first of which is element `at` of the output, if that is no
    /// more than [`Plain`] says.
    #[inline(always)]
    pub(super) fn plain(&self, channel: usize, n: usize, at: usize) -> Option<Plain<'a>> {
        let (mut scale, mut residual, mut stages) = (&[][..], None, self.stages);
        if let [Stage::Channels(BinaryOp::Mul), rest @ ..] = stages {
            (scale, stages) = (self.constants.get(channel..channel + n)?, rest);
        }
        if let [Stage::Residual(BinaryOp::Add), rest @ ..] = stages {
            (residual, stages) = (Some((self.residual?, at)), rest);
        }
        let relu = match stages {
            [] => false,
            [Stage::Function { op: UnaryOp::Relu, .. }] => true,
            _ => return None,
        };
        Some(Plain { bias: self.bias_f32.get(channel..channel + n)?, scale, residual, relu })
    }

    /// Replaces `n` bytes of the output by their entries in the table, if there is one.
    #[inline(always)]
    pub(super) fn look_up(&mut self, at: usize, n: usize) {
        if let Some(table) = self.table {
            self.e.lookup(table, self.out.slice::<u8>(at, n));
        }
    }

    /// Takes reals through the stages and stores them.
    #[inline(always)]
    fn reals(&mut self, to: Place, v: &mut [f32], other: &mut [f32]) {
        // Rows that follow each other in memory are one.
        let run = if to.width == to.step { v.len() } else { to.width }.max(1);
        let mut row = to.channel;
        for stage in self.stages {
            match *stage {
                Stage::Nothing => {}
                Stage::Function { op, alpha, beta } => self.e.unary(op, [alpha, beta], v),
                Stage::Channels(op) => {
                    let constants = self.constants.get(row..).unwrap_or(&[]);
                    v.chunks_exact_mut(to.width.max(1)).for_each(|v| self.e.binary(op, v, constants));
                    row += self.channels;
                }
                Stage::Residual(op) => {
                    let (Some(other), Some(r)) = (other.get_mut(..v.len()), &self.residual) else { return };
                    for (i, other) in other.chunks_exact_mut(run).enumerate() {
                        self.e.load(r, to.at + i * to.step, other);
                    }
                    self.e.binary(op, v, other);
                }
            }
        }
        for (i, v) in v.chunks_exact(run).enumerate() {
            self.e.store(&mut self.out, to.at + i * to.step, v);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_come_back_from_their_words() {
        let functions = UnaryOp::ALL.iter().map(|&op| Stage::Function { op, alpha: 0.5, beta: -2.0 });
        let combined = BinaryOp::ALL.iter().flat_map(|&op| [Stage::Channels(op), Stage::Residual(op)]);
        for stage in functions.chain(combined).chain([Stage::Nothing]) {
            let (mut bytes, mut at) = ([0u8; 16], 0);
            stage.write(&mut |w| {
                bytes[at..at + 4].copy_from_slice(&w.to_le_bytes());
                at += 4;
            });
            assert_eq!(at, 4 * Stage::WORDS);
            assert_eq!(Stage::read(&Words::new(&bytes), 0), Some(stage));
        }
    }

    #[test]
    fn other_words_are_no_stage() {
        let functions = UnaryOp::ALL.len() as u32;
        let combined = BinaryOp::ALL.len() as u32;
        for [code, op] in [[0, 1], [1, functions], [2, combined], [3, combined], [3, u32::MAX], [4, 0], [u32::MAX, 0]] {
            let mut bytes = [0u8; 16];
            bytes[..4].copy_from_slice(&code.to_le_bytes());
            bytes[4..8].copy_from_slice(&op.to_le_bytes());
            assert_eq!(Stage::read(&Words::new(&bytes), 0), None, "{code} {op}");
        }
    }
}
