//! Sets of step kinds that are known when a program is compiled, so that it links nothing else.

use super::StepKind;
use crate::Model;

/// A set of step kinds. As a number ([`OpSet::bits`]) it is an argument of [`Only`] and of [`Model::load_only`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpSet(u64);

impl OpSet {
    /// Every kind.
    pub const ALL: OpSet = OpSet(u64::MAX);

    /// The set of these kinds.
    pub const fn of(kinds: &[StepKind]) -> OpSet {
        let (mut bits, mut i) = (0, 0);
        while i < kinds.len() {
            bits |= 1 << kinds[i] as u32;
            i += 1;
        }
        OpSet(bits)
    }

    /// The kinds of the steps of a model.
    pub fn of_model(model: &Model<'_>) -> OpSet {
        let kinds = (0..model.step_count()).filter_map(|i| model.step(i).kind());
        OpSet(kinds.fold(0, |bits, kind| bits | 1 << kind as u32))
    }

    /// The set with this number.
    pub const fn from_bits(bits: u64) -> OpSet {
        OpSet(bits)
    }

    /// Its number: bit `n` stands for the kind of number `n` in the format.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether a kind is one of them.
    pub const fn has(self, kind: StepKind) -> bool {
        self.0 >> kind as u32 & 1 == 1
    }

    /// Whether all kinds of another set are in this one.
    pub const fn holds(self, other: OpSet) -> bool {
        other.0 & !self.0 == 0
    }
}

/// Kernels for some kinds of steps alone, `OPS` as a number ([`OpSet::bits`]): those for other kinds are not linked. A session over a plan
/// that has others is refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct Only<K, const OPS: u64>(pub K);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_it_is_made_of() {
        let set = OpSet::of(&[StepKind::ConvI8, StepKind::Pool]);
        for &kind in StepKind::ALL {
            assert_eq!(set.has(kind), matches!(kind, StepKind::ConvI8 | StepKind::Pool));
            assert!(OpSet::ALL.has(kind) && (kind as u32) < u64::BITS);
        }
        assert!(OpSet::ALL.holds(set) && set.holds(set) && !set.holds(OpSet::of(&[StepKind::Pool, StepKind::Lut])));
        assert_eq!(OpSet::from_bits(set.bits()), set);
    }
}
