//! Products with constant weights over `[batch, height, width, channels]`: convolution, transposed convolution (its input
//! seen as upsampled, with padding between the rows and columns), the product with a constant matrix (a 1×1 kernel), and the
//! convolution of each channel by itself.
//!
//! A kind for each arithmetic, so that a program links what its model uses. How they are computed is [`crate::product`]'s.

use core::ops::Range;

use super::{OpSet, StepKind, walk::elements};
use crate::DType;
use crate::bands::{Rule, Window};
use crate::error::Fault;
use crate::format::ALIGN;
use crate::format::verify::{Check, Verdict, ensure, product, work};
use crate::format::words::{Record, record};
use crate::product::epilogue::{INTEGERS, RESIDUAL, WEIGHTS, ZEROS};
use crate::product::{self, Epilogue, Extents, Geometry, Packing, Scratch, Sign, Stage, WordOrder};

record! {
    /// Parameters of a product with constant weights.
    ///
    /// Inputs: 0 `x [batch, in_h, in_w, in_c]` (f32 or f16, of `…I8` i8 or u8), 1 weights in the order of the packing (f32 of `…F32`, f16 of `…F16`, else i8),
    /// 2 to 6 those of the [`Epilogue`], 7 zero points `zw [out_c]` i16 of the weights as packed (optional, integers only; 0 if absent), 8 the multipliers of sums
    /// as integers `[out_c]` i32 (optional, integers only; 0 where a channel has none): what [`quant::requantize_by_integer`](crate::quant::requantize_by_integer)
    /// rounds to the same with, for kernels that do; of weights by twos then come what sums begin with, `256·bias − 127·Σ w` of odd inputs: `[2, out_c]`. Nothing checks it.
    /// Output: `[batch, out_h, out_w, out_c]`. Rows: `batch · out_h`. Columns: blocks of output channels, those of a panel each (32 of a panel of
    /// all), those of the groups one after the other.
    ///
    /// The sum is `Σ x·w` (of `…F16` it may be one of halves: `docs/numerics.md`), with weights of bytes (`…W8`) `Σ x·(m·w)`, for integers `Σ x·(w − zw)`, where `x` is 128 larger or smaller if the packing
    /// says so; the bias of integers makes up for that, and for the zero point of `x`. What lies outside the input is 0, for integers the zero point.
    ///
    /// The lines of the packing are, of a dense product, kernel rows (`kernel_w · in_c` inputs each) if they are neighbours in memory: if there is one group
    /// and the taps of a row are 1 apart. Otherwise they are taps (`in_c / groups` inputs each). Of a depthwise one they are kernel columns (`kernel_h`
    /// inputs each), and its channels are those of one group.
    pub struct Conv {
        /// Where the windows lie.
        pub geometry: Geometry,
        /// Groups of channels that do not see each other; of a depthwise product all channels.
        pub groups: u32,
        /// How the weights lie.
        pub packing: Packing,
        /// No weight, of bytes, is −128: two products of bytes with them fit 16 bits together. Nothing checks it; where it is not so, sums are
        /// wrong on the sets of kernels that rely on it.
        pub symmetric: bool,
        /// Sums there is scratch for: those of so many pixels times blocks of channels.
        pub tile: u32,
        /// What happens to the sums.
        pub epilogue: Epilogue,
        /// What it takes of scratch.
        pub scratch: Scratch,
    }
}

/// Word of a field of a [`Conv`].
macro_rules! word {
    ($($field:tt)*) => {
        core::mem::offset_of!(Conv, $($field)*) / 4
    };
}

impl Conv {
    /// Whether the taps of a kernel row are one line of inputs.
    pub const fn joined(&self) -> bool {
        self.groups == 1 && self.geometry.dilation[1] == 1
    }

    /// How many weights there are of what.
    pub fn extents(&self, depthwise: bool) -> Extents {
        let g = &self.geometry;
        let [rows, columns] = g.kernel.map(|k| k as usize);
        let (groups, out_c) = (self.groups.max(1) as usize, g.output[2] as usize);
        if depthwise {
            return Extents { groups: 1, channels: out_c, lines: columns, length: rows };
        }
        let inputs = g.input[2] as usize / groups;
        let (lines, length) = if self.joined() { (rows, columns * inputs) } else { (rows * columns, inputs) };
        Extents { groups, channels: out_c / groups, lines, length }
    }

    /// Blocks of output channels: the columns of the step.
    pub fn columns(&self, depthwise: bool) -> usize {
        let e = self.extents(depthwise);
        e.groups * e.channels.div_ceil(product::block(self))
    }

    /// The same product, its scratch that for inputs of type `x`.
    pub fn with_scratch(self, depthwise: bool, x: DType) -> Conv {
        Conv { scratch: Scratch::of(&self, depthwise, x), ..self }
    }

    /// Whether these words are a product. All its fields are words, or lie in the first byte of one, so that it can be read in place.
    #[inline(always)]
    fn is(words: &[u32; Conv::WORDS]) -> bool {
        const STAGES: usize = word!(epilogue.stages);
        let stages = words.get(STAGES..STAGES + product::STAGES * Stage::WORDS).unwrap_or(&[]);
        (words[word!(symmetric)] | words[word!(epilogue.rounds)] | words[word!(scratch.copied)]) < 2
            && words[word!(packing.order)] < WordOrder::ALL.len() as u32
            && words[word!(packing.sign)] < Sign::ALL.len() as u32
            && stages.chunks_exact(Stage::WORDS).all(Stage::is)
    }

    /// As [`Params::reads`](super::Params::reads): whole rows of `x`, whatever part of them a group takes; constants are read
    /// whole.
    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        let g = &self.geometry;
        match input {
            0 => Some(elements(g.input_rows(rows), &g.input[1..])),
            RESIDUAL => Some(elements(rows, &g.output[1..])),
            _ => None,
        }
    }

    /// As [`Params::row`](super::Params::row).
    fn row(&self) -> Option<u32> {
        self.geometry.output[1].checked_mul(self.geometry.output[2])
    }

    /// As [`Params::rule`](super::Params::rule).
    fn rule(&self, input: usize) -> Rule {
        let g = &self.geometry;
        match (input, self.row()) {
            (0, _) => g.rule(),
            (RESIDUAL, Some(row)) => Rule::Rows(Window::pointwise(row)),
            _ => Rule::Whole,
        }
    }

    /// What the driver does: products of whole blocks, copied rows, ends of pixels.
    fn work(&self, depthwise: bool) -> u64 {
        let (g, e) = (&self.geometry, self.extents(depthwise));
        let block = product::block(self) as u64;
        let terms = if depthwise { g.taps() as u64 } else { self.packing.depth(&e) as u64 };
        let pixels = work(&[g.batch, g.output[0], g.output[1]]);
        let blocks = self.columns(depthwise) as u64;
        let products = pixels.saturating_mul(blocks).saturating_mul(block).saturating_mul(terms.saturating_add(16));
        // Each row of outputs copies at most the rows of its window.
        let width = g.reach(1).saturating_mul(g.input[2].into());
        let copied = (g.rows() as u64).saturating_mul(g.span(0).min(g.input[0].into())).saturating_mul(width);
        products.saturating_add(copied)
    }

    pub(super) fn verify(
        &self,
        c: &Check<'_>,
        depthwise: bool,
        (float, w_type): (bool, DType),
    ) -> Result<Verdict, Fault> {
        let g = &self.geometry;
        g.verify()?;
        self.packing.verify()?;
        ensure((1..=256).contains(&self.tile), Fault::Params)?;
        let [.., in_c] = g.input;
        let [.., out_c] = g.output;
        ensure(self.groups > 0 && in_c % self.groups == 0 && out_c % self.groups == 0, Fault::Params)?;
        ensure(!depthwise || (self.groups == in_c && in_c == out_c), Fault::Params)?;
        let x = c.input(0)?;
        ensure(if float { x.dtype.is_float() } else { matches!(x.dtype, DType::I8 | DType::U8) }, Fault::DType)?;
        c.size(&x, &[g.batch, g.input[0], g.input[1], in_c])?;
        self.epilogue.verify(c, out_c, &[g.batch, g.output[0], g.output[1], out_c])?;
        let e = self.extents(depthwise);
        let all = self.packing.len(&e).ok_or(Fault::Shape)?;
        c.constant(WEIGHTS, w_type, &[all])?;
        // Kernels read weights by words, in whatever slice of a loop.
        ensure(c.input(WEIGHTS)?.advance % ALIGN as i32 == 0, Fault::Region)?;
        if !float && c.optional(ZEROS).is_some() {
            c.constant(ZEROS, DType::I16, &[out_c])?;
        }
        let twos = self.packing.order == WordOrder::Twos;
        ensure(!twos || !float && !depthwise, Fault::Params)?;
        ensure(!twos || c.optional(INTEGERS).is_some(), Fault::Operands)?;
        if !float && c.optional(INTEGERS).is_some() {
            c.constant(INTEGERS, DType::I32, &[if twos { 2 } else { 1 }, out_c])?;
        }
        let rows = product(&[g.batch, g.output[0]])?;
        ensure(self.scratch == Scratch::of(self, depthwise, x.dtype), Fault::Params)?;
        let scratch = usize::try_from(self.scratch.bytes()).map_err(|_| Fault::Params)?;
        // The residual may be overwritten: it is read before its elements are stored.
        let verdict = Verdict::new(rows, self.work(depthwise)).in_place(1 << RESIDUAL);
        Ok(verdict.columns(self.columns(depthwise)).scratch(scratch))
    }

    /// What a step asks for at the ends of its sums.
    fn functions(&self, step: &crate::Step<'_>) -> OpSet {
        let signed = |t: Option<usize>| t.is_some_and(|t| step.model().tensor(t).dtype() == DType::I8);
        let end = &self.epilogue;
        let adds = end.adds() && signed(step.input(product::epilogue::RESIDUAL)) && signed(step.output(0));
        // A window of more rows than a kernel takes at once is added up in parts.
        let whole = self.geometry.kernel[0] as usize <= product::MOST_ROWS;
        let at_once = whole && step.input(product::epilogue::ZEROS).is_none();
        let habit = match at_once {
            true if end.only_rounds() => OpSet::NONE,
            true if adds => OpSet::ADDED,
            _ => OpSet::SUMS,
        };
        let form = match &self.geometry {
            g if g.pointwise() => OpSet::NONE,
            g if product::lines::along_time(g) => OpSet::FRAMES,
            _ => OpSet::WINDOWS,
        };
        let order = match self.packing.order {
            WordOrder::Plain if step.kind() == Some(StepKind::ConvI8) => OpSet::PLAIN,
            _ => OpSet::NONE,
        };
        let (g, integers) = (&self.geometry, step.input(product::epilogue::INTEGERS));
        let small = g.kernel == [3, 3] && (1..=2).contains(&g.stride[1]) && g.dilation[1] == 1;
        let frames = product::lines::along_time(g) && g.dilation == [1, 1];
        let common = integers.is_some() && (small || frames);
        let windows = match step.kind() {
            Some(StepKind::DepthwiseI8) if !common => OpSet::WIDE,
            _ => OpSet::NONE,
        };
        end.functions().union(habit).union(form).union(order).union(windows)
    }
}

/// A kind of product: its parameters are a [`Conv`].
macro_rules! products {
    ($($(#[$meta:meta])* $name:ident: $kernel:ident<$arithmetic:ident>, $depthwise:literal, $float:literal, $w:ident;)*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[repr(transparent)]
        pub struct $name(pub Conv);

        impl crate::format::words::Record for $name {
            const WORDS: usize = Conv::WORDS;
            fn read(words: &crate::format::words::Words<'_>, at: usize) -> Option<Self> {
                Conv::read(words, at).map($name)
            }
            fn write(&self, out: &mut dyn FnMut(u32)) {
                self.0.write(out);
            }
        }

        // SAFETY: as many words as the size says, of which `Conv::is` has those checked that are no numbers; the others may be anything. (The bytes
        // behind a flag in its word are padding.)
        #[allow(unsafe_code)]
        unsafe impl bytemuck::CheckedBitPattern for $name {
            type Bits = [u32; Conv::WORDS];
            #[inline(always)]
            fn is_valid_bit_pattern(words: &[u32; Conv::WORDS]) -> bool {
                const { assert!(size_of::<$name>() == 4 * Conv::WORDS && align_of::<$name>() == 4) };
                Conv::is(words)
            }
        }

        impl super::Params for $name {
            #[inline(always)]
            fn with(step: &crate::Step<'_>, f: impl FnOnce(&Self)) {
                if let Some(p) = step.params_in_place() {
                    f(p);
                }
            }

            fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
                self.0.verify(c, $depthwise, ($float, DType::$w))
            }

            fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
                self.0.reads(input, rows)
            }

            fn row(&self) -> Option<u32> {
                self.0.row()
            }

            fn rule(&self, input: usize) -> Rule {
                self.0.rule(input)
            }

            fn functions(&self, step: &crate::Step<'_>) -> OpSet {
                self.0.functions(step)
            }

            #[inline(always)]
            fn run<E: crate::elementwise::Elementwise>(&self, e: E, o: &crate::rows::Operands<'_>, tile: crate::rows::Tile) {
                product::run(product::$kernel::<product::$arithmetic>::default(), e, &self.0, $depthwise, o, &tile);
            }
        }
    )*};
}

products! {
    /// A product of floats.
    ConvF32: Dense<Floats>, false, true, F32;
    /// A product of floats with weights of halves.
    ConvF16: Dense<Halves>, false, true, F16;
    /// A product of floats with weights of bytes.
    ConvW8: Dense<Bytes>, false, true, I8;
    /// A product of bytes.
    ConvI8: Dense<Integers>, false, false, I8;
    /// A depthwise product of floats.
    DepthwiseF32: Depthwise<Floats>, true, true, F32;
    /// A depthwise product of floats with weights of halves, as [`ConvF16`].
    DepthwiseF16: Depthwise<Halves>, true, true, F16;
    /// A depthwise product of floats with weights of bytes.
    DepthwiseW8: Depthwise<Bytes>, true, true, I8;
    /// A depthwise product of bytes.
    DepthwiseI8: Depthwise<Integers>, true, false, I8;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::words::Words;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// Words at a multiple of 4.
    fn bytes(words: &[u32]) -> Vec<u32> {
        words.iter().map(|w| w.to_le()).collect()
    }

    proptest! {
        /// What lies there is what is read, and what is no product is none.
        #[test]
        fn products_are_read_in_place_as_they_are_read(
            mut words in prop::collection::vec(any::<u32>(), Conv::WORDS), few in [0u32..3, 0u32..3, 0u32..3, 0u32..3, 0u32..4], odd in 0..8usize,
        ) {
            // What is no number is mostly a valid value; of one of them it may be the one behind the last.
            let valid = [2, 2, 2, 2, 3];
            let of = [word!(symmetric), word!(epilogue.rounds), word!(scratch.copied), word!(packing.order), word!(packing.sign)];
            for (k, (at, value)) in of.into_iter().zip(few).enumerate() {
                words[at] = if k == odd { value } else { value % valid[k] };
            }
            for stage in 0..product::STAGES {
                let at = word!(epilogue.stages) + stage * Stage::WORDS;
                (words[at], words[at + 1]) = (words[at] % 4, if words[at] % 4 == 0 { 0 } else { words[at + 1] % 16 });
            }
            let words = bytes(&words);
            let words = Words::new(bytemuck::cast_slice(&words));
            let (there, read) = (words.in_place::<ConvI8>(0), ConvI8::read(&words, 0));
            // (Before anything is made of it: what is no order may stand for a product that is absent.)
            prop_assert_eq!(there.is_some(), read.is_some());
            prop_assert_eq!(there.map(|p| bits(*p)), read.map(bits));
        }

        #[test]
        fn products_with_stages_are_read_in_place(stages in prop::collection::vec((0u32..5, 0u32..40, any::<[u32; 2]>()), 4)) {
            let mut words = Vec::from([1u32; Conv::WORDS]);
            for (i, (kind, op, parameters)) in stages.into_iter().enumerate() {
                let op = if kind == 0 { 0 } else { op };
                let at = word!(epilogue.stages) + i * Stage::WORDS;
                words[at..at + Stage::WORDS].copy_from_slice(&[kind, op, parameters[0], parameters[1]]);
            }
            let words = bytes(&words);
            let words = Words::new(bytemuck::cast_slice(&words));
            let (there, read) = (words.in_place::<DepthwiseF32>(0), DepthwiseF32::read(&words, 0));
            prop_assert_eq!(there.is_some(), read.is_some());
            prop_assert_eq!(there.map(|p| bits(*p)), read.map(bits));
        }
    }

    /// A record as words: floats may be no numbers.
    fn bits(record: impl Record) -> Vec<u32> {
        let mut words = Vec::new();
        record.write(&mut |w| words.push(w));
        words
    }

    #[test]
    fn what_ends_early_or_lies_askew_is_none() {
        let words = bytes(&[1; Conv::WORDS + 1]);
        let all: &[u8] = bytemuck::cast_slice(&words);
        let there = |bytes: &[u8]| Words::new(bytes).in_place::<ConvI8>(0).is_some();
        assert!(there(all));
        assert!(!there(&all[..4 * Conv::WORDS - 1]));
        assert!(!there(&all[2..]));
    }
}
