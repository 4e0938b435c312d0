//! Packing: in what order the weights of a product lie. It is data: the compiler writes by it, the reference reads by it, and
//! a kernel set says which ones it takes.

use crate::DType;
use crate::error::Fault;
use crate::format::verify::ensure;
use crate::format::words::{code, record};

code! {
    /// What kernels make of the bytes that a product multiplies with its weights.
    pub enum Sign {
        /// They are multiplied as they are stored.
        AsStored = 0,
        /// Signed bytes are taken as unsigned ones, 128 larger (`x ^ 0x80`), because the instruction multiplies unsigned with
        /// signed. What that adds to each sum is a constant, which the bias makes up for.
        Unsigned = 1,
        /// Unsigned bytes are taken as signed ones, 128 smaller.
        Signed = 2,
    }
}

code! {
    /// The order of the weights within a word of four.
    pub enum WordOrder {
        /// 0, 1, 2, 3
        Plain = 0,
        /// 1, 0, 3, 2, where each two are a halfword `256·w₀ + w₁`: the byte of `w₀` is one less if `w₁` is negative. With inputs `x' = 256·x₁ + 127 − x₀`,
        /// `Σ x₀·(256·w₀ + w₁) + Σ x'·w₁ − 127·Σ w₁` is `256·Σ (x₀·w₀ + x₁·w₁)`, so that of four weights two need not be taken apart. Bytes alone, none −128.
        Twos = 1,
    }
}

impl Sign {
    /// How much larger bytes of type `x` are as they are multiplied: 128 where signed ones become unsigned, −128 the other way
    /// round, else 0. Where it is not 0 the byte is turned by `^ 0x80`.
    #[inline(always)]
    pub const fn moves(self, x: DType) -> i32 {
        match (x, self) {
            (DType::I8, Sign::Unsigned) => 128,
            (DType::U8, Sign::Signed) => -128,
            _ => 0,
        }
    }
}

record! {
    /// How the weights of a product lie.
    ///
    /// A channel's weights are those of its *lines*, one after the other: stretches of inputs that are neighbours in memory
    /// ([`Extents`]). Each line is filled up with zeros to a multiple of `run`. With `k` the number of a weight in that list,
    /// the order is `[group][panel of so many channels][k / run][channel of the panel][k mod run]`; channels that fill up the
    /// last panel of a group are zero. (Loading does not read weights: where a file has something else for these zeros, kernels may
    /// multiply it with whatever lies behind the inputs.)
    pub struct Packing {
        /// Output channels of a panel; 0 for all of a group.
        pub panel: u32,
        /// Inputs of a channel that lie side by side; 0 for all of them.
        pub run: u32,
        /// The order of weights within a word.
        pub order: WordOrder,
        /// What is made of the inputs.
        pub sign: Sign,
    }
}

/// How many weights there are of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extents {
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Output channels of a group.
    pub channels: usize,
    /// Lines of a channel.
    pub lines: usize,
    /// Inputs of a line.
    pub length: usize,
}

impl Packing {
    /// `[k][panel]`: one input with a row of channels.
    pub const fn by_channels(panel: u32) -> Packing {
        Packing { panel, run: 1, order: WordOrder::Plain, sign: Sign::AsStored }
    }

    /// Checks that the numbers are such that [`Packing::at`] is a place for every weight.
    ///
    /// # Errors
    /// [`Fault::Params`].
    pub fn verify(&self) -> Result<(), Fault> {
        ensure(self.panel <= 1 << 10 && self.run <= 1 << 6, Fault::Params)?;
        ensure(self.order == WordOrder::Plain || self.run > 0 && self.run.is_multiple_of(4), Fault::Params)
    }

    /// Whether bytes are widened to halfwords before they are multiplied: so it is where a panel has few channels of few inputs.
    #[inline(always)]
    pub const fn widens(&self) -> bool {
        self.run == 4 && matches!(self.panel, 2 | 4)
    }

    /// Whether kernels keep the address of each line, of 16 inputs or more, or of each tap.
    #[inline(always)]
    pub const fn addresses(&self) -> bool {
        self.run == 16 || self.run == 1 && self.panel == 8 && matches!(self.sign, Sign::Signed)
    }

    /// Output channels of a panel.
    #[inline(always)]
    pub fn panel(&self, e: &Extents) -> usize {
        if self.panel == 0 { e.channels } else { self.panel as usize }
    }

    /// Panels of a group.
    #[inline(always)]
    pub fn panels(&self, e: &Extents) -> usize {
        e.channels.div_ceil(self.panel(e).max(1))
    }

    /// Inputs of a line with the zeros that fill it up.
    #[inline(always)]
    pub fn line(&self, e: &Extents) -> usize {
        e.length.next_multiple_of(self.run.max(1) as usize)
    }

    /// Weights of a channel with the zeros that fill up its lines.
    #[inline(always)]
    pub fn depth(&self, e: &Extents) -> usize {
        e.lines * self.line(e)
    }

    /// Inputs of a channel that lie side by side.
    #[inline(always)]
    pub fn run(&self, e: &Extents) -> usize {
        if self.run == 0 { self.depth(e) } else { self.run as usize }
    }

    /// Weights in all, `None` if they are beyond 32 bits.
    pub fn len(&self, e: &Extents) -> Option<u32> {
        let list = [e.groups, self.panels(e), self.panel(e), e.lines, self.line(e)];
        let n = list.iter().try_fold(1u64, |n, &f| n.checked_mul(f as u64).filter(|&n| n <= u32::MAX.into()))?;
        Some(n as u32)
    }

    /// Where the weight of channel `channel` of group `group` lies that is multiplied with input `i` of line `line`.
    #[inline(always)]
    pub fn at(&self, e: &Extents, group: usize, channel: usize, line: usize, i: usize) -> usize {
        let panel = self.panel(e).max(1);
        let first = (group * self.panels(e) + channel / panel) * panel * self.depth(e);
        first + self.within(e, channel % panel, line * self.line(e) + i)
    }

    /// The weight at a [place](Packing::at) among bytes.
    #[inline(always)]
    pub fn byte(&self, data: &[i8], at: usize) -> i8 {
        let byte = |at: usize| data.get(at).copied().unwrap_or(0);
        match self.order {
            WordOrder::Twos if at % 2 == 1 => byte(at).wrapping_add(i8::from(byte(at - 1) < 0)),
            _ => byte(at),
        }
    }

    /// Stores weights that are bytes, each in its place, as halfwords if that is how they lie.
    pub fn join(&self, bytes: &mut [u8]) {
        if self.order == WordOrder::Twos {
            for [low, high] in bytes.as_chunks_mut().0 {
                *high = high.wrapping_sub(*low >> 7);
            }
        }
    }

    /// Where weight `k` of a panel's channel lies in the panel.
    #[inline(always)]
    pub fn within(&self, e: &Extents, channel: usize, k: usize) -> usize {
        let run = self.run(e).max(1);
        let inside = match self.order {
            WordOrder::Plain => k % run,
            WordOrder::Twos => (k % run) ^ 1,
        };
        (k / run * self.panel(e) + channel) * run + inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    proptest! {
        #[test]
        fn every_weight_has_a_place_of_its_own(
            (panel, run) in (prop::sample::select(&[0u32, 1, 3, 8, 16][..]), prop::sample::select(&[0u32, 1, 2, 4, 8][..])),
            (groups, channels, lines, length) in (1..4usize, 1..20usize, 1..4usize, 1..12usize),
            halves: bool,
        ) {
            let order = if halves && run % 4 == 0 && run > 0 { WordOrder::Twos } else { WordOrder::Plain };
            let p = Packing { panel, run, order, sign: Sign::AsStored };
            prop_assert!(p.verify().is_ok());
            let e = Extents { groups, channels, lines, length };
            let mut taken = vec![false; p.len(&e).unwrap() as usize];
            for g in 0..groups {
                for c in 0..channels {
                    for l in 0..lines {
                        for i in 0..length {
                            let at = p.at(&e, g, c, l, i);
                            prop_assert!(!std::mem::replace(&mut taken[at], true), "{at} is taken twice");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn twos_are_halfwords() {
        let p = Packing { panel: 2, run: 4, order: WordOrder::Twos, sign: Sign::Signed };
        let e = Extents { groups: 1, channels: 1, lines: 1, length: 2 };
        for (first, second) in (-127..=127i8).flat_map(|a| (-127..=127i8).map(move |b| (a, b))) {
            let mut bytes = [0u8; 8];
            for (i, w) in [first, second].into_iter().enumerate() {
                bytes[p.at(&e, 0, 0, 0, i)] = w as u8;
            }
            p.join(&mut bytes);
            let halfword = i16::from_le_bytes([bytes[0], bytes[1]]);
            assert_eq!(i32::from(halfword), 256 * i32::from(first) + i32::from(second));
            let read = [0, 1].map(|i| p.byte(bytemuck::cast_slice(&bytes), p.at(&e, 0, 0, 0, i)));
            assert_eq!(read, [first, second]);
        }
    }

    #[test]
    fn the_order_is_the_documented_one() {
        let e = Extents { groups: 1, channels: 3, lines: 1, length: 6 };
        let p = Packing { panel: 2, run: 4, order: WordOrder::Twos, sign: Sign::Unsigned };
        // Panel 1, k = 5: the second run, its second input, first in its word.
        assert_eq!(p.at(&e, 0, 2, 0, 5), 2 * 8 + 4 * 2);
        assert_eq!(Packing::by_channels(2).at(&e, 0, 1, 0, 5), 11);
        assert_eq!(p.len(&e), Some(32));
    }
}
