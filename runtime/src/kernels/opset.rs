//! Sets of step kinds, and of functions of elements, that are known when a program is compiled, so that it links nothing else.

use super::{BinaryOp, StepKind, UnaryOp};
use crate::Model;
use crate::elementwise::Elementwise;

/// Bits of an [`OpSet`] from which on there are functions of one real (those from number 32 on elsewhere), and of two.
const UNARY: u32 = 64;
const UNARY_FROM_32: u32 = 40;
const BINARY: u32 = 96;

/// The bit of a function of one real.
const fn unary_bit(op: UnaryOp) -> u32 {
    let n = op as u32;
    if n < 32 { UNARY + n } else { UNARY_FROM_32 + n - 32 }
}

// Kinds, functions and habits have bits of their own.
const _: () = assert!((StepKind::ALL[StepKind::ALL.len() - 1] as u32) < UNARY_FROM_32);
const _: () = assert!(UNARY_FROM_32 + UnaryOp::ALL.len() as u32 - 32 <= 57 && BinaryOp::ALL.len() <= 32);

/// A set of step kinds, and of the functions of elements that such steps compute. As a number ([`OpSet::bits`]) it is an argument of [`Only`] and of
/// [`Model::load_only`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpSet(u128);

impl OpSet {
    /// Every kind and function.
    pub const ALL: OpSet = OpSet(u128::MAX);
    /// No kinds and no functions.
    pub const NONE: OpSet = OpSet(0);
    /// Functions of integers that stand for themselves.
    pub const INTEGERS: OpSet = OpSet(1 << 63);
    /// Products whose sums of bytes are more than rounded, or not at once: they have stages, zero points of weights, or windows of many rows.
    pub const SUMS: OpSet = OpSet(1 << 62);
    /// Products to whose rounded sums a residual of bytes is added.
    pub const ADDED: OpSet = OpSet(1 << 61);
    /// Products whose windows lie over rows of pixels.
    pub const WINDOWS: OpSet = OpSet(1 << 60);
    /// Products whose windows lie along time.
    pub const FRAMES: OpSet = OpSet(1 << 59);
    /// Dense products of bytes whose weights do not lie [by twos](crate::product::WordOrder::Twos).
    pub const PLAIN: OpSet = OpSet(1 << 58);
    /// Depthwise products of bytes under windows other than those of 3 by 3 with strides of 1 and 2 and those along time, or without integers to round by.
    pub const WIDE: OpSet = OpSet(1 << 57);

    /// These kinds, with every function.
    pub const fn of(kinds: &[StepKind]) -> OpSet {
        let (mut bits, mut i) = (u128::MAX << UNARY_FROM_32, 0);
        while i < kinds.len() {
            bits |= 1 << kinds[i] as u32;
            i += 1;
        }
        OpSet(bits)
    }

    /// A kind, without functions.
    pub const fn of_kind(kind: StepKind) -> OpSet {
        OpSet(1 << kind as u32)
    }

    /// These functions, and no kinds.
    pub const fn of_functions(unary: &[UnaryOp], binary: &[BinaryOp]) -> OpSet {
        let (mut bits, mut i) = (0, 0);
        while i < unary.len() {
            bits |= 1 << unary_bit(unary[i]);
            i += 1;
        }
        i = 0;
        while i < binary.len() {
            bits |= 1 << (BINARY + binary[i] as u32);
            i += 1;
        }
        OpSet(bits)
    }

    /// The kinds and functions of the steps of a model.
    pub fn of_model(model: &Model<'_>) -> OpSet {
        (0..model.step_count()).fold(OpSet::NONE, |all, i| {
            let step = model.step(i);
            let kind = step.kind().map_or(OpSet::NONE, OpSet::of_kind);
            all.union(kind).union(super::functions(&step, OpSet::ALL))
        })
    }

    /// The set with this number.
    pub const fn from_bits(bits: u128) -> OpSet {
        OpSet(bits)
    }

    /// Its number: bit `n` stands for the kind of number `n` in the format, bits 57 to 63 for the other constants here, bit `64 + n` for function `n` of one
    /// real (`8 + n` from number 32 on), bit `96 + n` for function `n` of two.
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// Whether a kind is one of them.
    pub const fn has(self, kind: StepKind) -> bool {
        self.0 >> kind as u32 & 1 == 1
    }

    /// Whether a function of one real is one of them.
    pub const fn has_unary(self, op: UnaryOp) -> bool {
        self.0 >> unary_bit(op) & 1 == 1
    }

    /// Whether a function of two reals is one of them.
    pub const fn has_binary(self, op: BinaryOp) -> bool {
        self.0 >> (BINARY + op as u32) & 1 == 1
    }

    /// The kinds and functions of both.
    pub const fn union(self, other: OpSet) -> OpSet {
        OpSet(self.0 | other.0)
    }

    /// Whether all kinds and functions of another set are in this one.
    pub const fn holds(self, other: OpSet) -> bool {
        other.0 & !self.0 == 0
    }
}

/// Kernels that say which kinds of steps they have kernels of their own for. For the others they have those of the [`Reference`](super::Reference).
pub trait Own: super::Kernels {
    /// Those kinds.
    const OWN: OpSet;
    /// What they do with elements, in steps of kinds of their own and others: of the functions in a set alone.
    type Elements<const OPS: u128>: Elementwise + Default;
}

/// Kernels for some kinds of steps alone, `OPS` as a number ([`OpSet::bits`]): those for other kinds are not linked, nor are other functions where
/// the kernel is the reference's. A session over a plan that has others is refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct Only<K, const OPS: u128>(pub K);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_it_is_made_of() {
        let set = OpSet::of(&[StepKind::ConvI8, StepKind::Pool]);
        for &kind in StepKind::ALL {
            assert_eq!(set.has(kind), matches!(kind, StepKind::ConvI8 | StepKind::Pool));
            assert!(OpSet::ALL.has(kind) && (kind as u32) < 57);
        }
        assert!(OpSet::ALL.holds(set) && set.holds(set) && !set.holds(OpSet::of(&[StepKind::Pool, StepKind::Lut])));
        assert_eq!(OpSet::from_bits(set.bits()), set);
    }

    #[test]
    fn functions_have_bits_of_their_own() {
        let unary = [UnaryOp::Exp, UnaryOp::Mish, UnaryOp::Atanh];
        let set = OpSet::of_functions(&unary, &[BinaryOp::Add, BinaryOp::Xor]);
        let mut bits = std::collections::BTreeSet::new();
        for &op in UnaryOp::ALL {
            assert_eq!(set.has_unary(op), unary.contains(&op));
            assert!(unary_bit(op) < BINARY && bits.insert(unary_bit(op)), "{op:?}");
        }
        for &op in BinaryOp::ALL {
            assert_eq!(set.has_binary(op), matches!(op, BinaryOp::Add | BinaryOp::Xor));
            assert!(BINARY + (op as u32) < u128::BITS);
        }
        assert!(StepKind::ALL.iter().all(|&kind| !set.has(kind) && !bits.contains(&(kind as u32))));
        assert!(OpSet::of(&[]).holds(set) && !set.holds(OpSet::of(&[StepKind::Lut])));
    }
}
