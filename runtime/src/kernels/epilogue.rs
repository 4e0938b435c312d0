//! What happens to the sums of a convolution, dense or depthwise, before they are stored.

use super::binary::{self, BinaryOp};
use super::lut;
use super::unary::{self, UnaryOp};
use crate::error::Fault;
use crate::format::verify::{Check, ensure};
use crate::format::words::{Record, Words, record};
use crate::math::clamp;
use crate::rows::{Operands, View, ViewMut};
use crate::{DType, quant};

/// Operands of every convolution.
pub(super) const WEIGHTS: usize = 1;
const BIAS: usize = 2;
pub(super) const MULTIPLIERS: usize = 3;
pub(super) const RESIDUAL: usize = 4;
const TABLE: usize = 5;
const CHANNELS: usize = 6;

/// Most channels that are finished at once.
const MOST: usize = 32;

/// Most stages of an epilogue.
pub const STAGES: usize = 4;

/// One f32 operation of an [`Epilogue`], element for element.
///
/// Three words. The first is the number of the operation plus 256 for a function, 512 for `Channels`, 768 for `Residual`; it
/// is 0 where there is no stage. The others are the parameters of a function, else 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
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
    const WORDS: usize = 3;

    fn read(words: &Words<'_>, at: usize) -> Option<Self> {
        let (code, [alpha, beta]) = (words.get(at)?, <[f32; 2]>::read(words, at + 1)?);
        let op = (code & 255) as usize;
        Some(match code >> 8 {
            0 if op == 0 => Stage::Nothing,
            1 => Stage::Function { op: *UnaryOp::ALL.get(op)?, alpha, beta },
            2 => Stage::Channels(*BinaryOp::ALL.get(op)?),
            3 => Stage::Residual(*BinaryOp::ALL.get(op)?),
            _ => return None,
        })
    }

    fn write(&self, out: &mut dyn FnMut(u32)) {
        let (code, parameters) = match *self {
            Stage::Nothing => (0, [0.0; 2]),
            Stage::Function { op, alpha, beta } => (1 << 8 | op as u32, [alpha, beta]),
            Stage::Channels(op) => (2 << 8 | op as u32, [0.0; 2]),
            Stage::Residual(op) => (3 << 8 | op as u32, [0.0; 2]),
        };
        out(code);
        parameters.write(out);
    }
}

record! {
    /// The end of a convolution. Floats begin with `v = sum + bias`, integers with `v = f32(sum + bias)·m`. Integers that are
    /// rounded begin with `q = clamp(round(f32(sum + bias)·m) + mid_zero, q_lo, q_hi)`; without stages `q` is the result, or
    /// its entry in the table; otherwise `v = (q − mid_zero)·mid_scale`. Then `v` goes through the stages in f32, and is
    /// quantised if the output is.
    ///
    /// Its operands: 2 bias `[channels]` (f32, or i32 for integers), 3 multipliers `m [channels]` f32 (weights of bytes only; of f32 inputs the scales of the weights), 4
    /// residual of the output's shape (where a stage reads it; f32 or quantised), 5 table `[256]` u8 (optional, rounded without
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
    /// The stages that are there.
    fn stages(&self) -> &[Stage] {
        let end = self.stages.iter().position(|s| *s == Stage::Nothing);
        &self.stages[..end.unwrap_or(STAGES)]
    }

    /// Checks types and the operands of the end of a convolution with this output.
    pub(super) fn verify(&self, c: &Check<'_>, channels: u32, output: &[u32]) -> Result<(), Fault> {
        let (x, y) = (c.input(0)?, c.output()?);
        c.size(&y, output)?;
        let float = x.dtype == DType::F32;
        let byte = |d| matches!(d, DType::I8 | DType::U8);
        ensure(float || byte(x.dtype), Fault::DType)?;
        ensure(y.dtype == DType::F32 || y.dtype.quantized_range().is_some(), Fault::DType)?;
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
            ensure(r.dtype == DType::F32 || r.dtype.quantized_range().is_some(), Fault::DType)?;
        }
        if rows > 0 {
            c.constant(CHANNELS, DType::F32, &[rows, channels])?;
        }
        Ok(())
    }

    /// Ready to finish sums of so many channels with these operands.
    #[inline(always)]
    pub(super) fn of<'a>(&'a self, o: &Operands<'a>, channels: usize) -> Finish<'a> {
        let float = o.input(0).dtype == DType::F32;
        Finish {
            params: self,
            stages: self.stages(),
            channels,
            bias_f32: if float { o.constant(BIAS) } else { &[] },
            bias_i32: if float { &[] } else { o.constant(BIAS) },
            multipliers: o.constant(MULTIPLIERS),
            residual: o.has_input(RESIDUAL).then(|| o.input(RESIDUAL)),
            table: o.has_input(TABLE).then(|| o.constant(TABLE)),
            constants: if o.has_input(CHANNELS) { o.constant(CHANNELS) } else { &[] },
            out: o.output(),
        }
    }
}

/// An epilogue with its operands.
pub(super) struct Finish<'a> {
    params: &'a Epilogue,
    stages: &'a [Stage],
    channels: usize,
    bias_f32: &'a [f32],
    bias_i32: &'a [i32],
    multipliers: &'a [f32],
    residual: Option<View<'a>>,
    table: Option<&'a [u8]>,
    constants: &'a [f32],
    out: ViewMut<'a>,
}

impl Finish<'_> {
    /// Finishes float sums of the channels from `channel` on, and stores them from element `at` on.
    #[inline(always)]
    pub(super) fn float(&mut self, at: usize, channel: usize, sums: &mut [f32]) {
        for (s, b) in sums.iter_mut().zip(&self.bias_f32[channel..]) {
            *s += b;
        }
        self.real(at, channel, sums);
    }

    /// Finishes integer sums of the channels from `channel` on, and stores them from element `at` on.
    #[inline(always)]
    pub(super) fn int(&mut self, at: usize, channel: usize, sums: &mut [i32]) {
        let p = self.params;
        let n = sums.len();
        let (bias, m) = (&self.bias_i32[channel..][..n], &self.multipliers[channel..][..n]);
        let mut v = [0f32; MOST];
        if !p.rounds {
            for (i, (v, &s)) in v.iter_mut().zip(sums.iter()).enumerate() {
                *v = s.wrapping_add(bias[i]) as f32 * m[i];
            }
            self.real(at, channel, &mut v[..n]);
            return;
        }
        for (i, s) in sums.iter_mut().enumerate() {
            *s = quant::requantize(s.wrapping_add(bias[i]), m[i], p.mid_zero, p.q_lo, p.q_hi);
        }
        if !self.stages.is_empty() {
            for (v, &q) in v.iter_mut().zip(sums.iter()) {
                *v = quant::dequantize(q, p.mid_scale, p.mid_zero);
            }
            self.real(at, channel, &mut v[..n]);
            return;
        }
        let out = self.out.slice::<u8>(at, n);
        // i8 and u8 are both the low byte.
        for (o, &q) in out.iter_mut().zip(sums.iter()) {
            *o = q as u8;
        }
        if let Some(t) = self.table {
            lut::apply(t, out);
        }
    }

    /// Takes reals through the stages and stores them.
    #[inline(always)]
    fn real(&mut self, at: usize, channel: usize, v: &mut [f32]) {
        let mut row = channel;
        for stage in self.stages {
            match *stage {
                Stage::Nothing => {}
                // The stage that most products have is worth a loop of its own.
                Stage::Function { op: UnaryOp::Clip, alpha, beta } if alpha <= beta => {
                    for v in v.iter_mut() {
                        *v = clamp(*v, alpha, beta);
                    }
                }
                Stage::Function { op, alpha, beta } => unary::apply(op, alpha, beta, v),
                Stage::Channels(op) => {
                    binary::apply(op, v, &self.constants[row..]);
                    row += self.channels;
                }
                Stage::Residual(op) => {
                    let mut other = [0f32; MOST];
                    let other = &mut other[..v.len()];
                    if let Some(r) = &self.residual {
                        r.load(at, other);
                    }
                    binary::apply(op, v, other);
                }
            }
        }
        self.out.store(at, v);
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
            let (mut bytes, mut at) = ([0u8; 12], 0);
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
        for code in [1, 255, 256 + functions, 512 + combined, 768 + combined, 1024, u32::MAX] {
            let mut bytes = [0u8; 12];
            bytes[..4].copy_from_slice(&code.to_le_bytes());
            assert_eq!(Stage::read(&Words::new(&bytes), 0), None, "{code}");
        }
    }
}
