//! What a compilation may cost.
//!
//! A small file can describe a great deal: constants that fold to gigabytes, products of products of constants, loops in
//! loops, patterns whose search is cubic. Everything in the compiler whose cost does not follow from the size of the file
//! draws on one budget: folding, the search for recurrences, loops that are written out, constants that lowering writes.
//! What the budget does not cover is left to the runtime where it can run it, and is an error where it cannot.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Operations that every compilation may take: a second or two.
const OPERATIONS: u64 = 1 << 30;
/// Further operations for each byte of the file and of its external data.
const OPERATIONS_A_BYTE: u64 = 1 << 10;
/// Bytes of constants that every compilation may make besides those that the file holds.
const BYTES: u64 = 1 << 26;
/// Further bytes for each byte of the file and of its external data.
const BYTES_A_BYTE: u64 = 16;

/// What is left of a compilation's budget. Clones share it, so that the bodies of loops draw on their model's.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Left>);

#[derive(Debug)]
struct Left {
    operations: Account,
    bytes: Account,
}

#[derive(Debug, Default)]
struct Account {
    granted: AtomicU64,
    spent: AtomicU64,
    refused: AtomicU64,
}

impl Account {
    fn of(granted: u64) -> Self {
        Account { granted: granted.into(), ..Account::default() }
    }

    fn take(&self, n: u64) -> bool {
        let spent = self.spent.load(Ordering::Relaxed);
        let covered = spent.checked_add(n).filter(|&after| after <= self.granted.load(Ordering::Relaxed));
        match covered {
            Some(after) => self.spent.store(after, Ordering::Relaxed),
            None => _ = self.refused.fetch_add(1, Ordering::Relaxed),
        }
        covered.is_some()
    }

    fn share(&self) -> f64 {
        self.spent.load(Ordering::Relaxed) as f64 / self.granted.load(Ordering::Relaxed).max(1) as f64
    }
}

impl Default for Budget {
    fn default() -> Self {
        Budget(Arc::new(Left { operations: Account::of(OPERATIONS), bytes: Account::of(BYTES) }))
    }
}

/// Graphs are compared by what they compute.
impl PartialEq for Budget {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Budget {
    /// The budget of a file of so many bytes.
    pub fn for_file(bytes: usize) -> Self {
        let budget = Budget::default();
        budget.grant(bytes);
        budget
    }

    /// Adds what is due to so many bytes more that the model holds.
    pub(crate) fn grant(&self, bytes: usize) {
        let more = |account: &Account, each: u64| {
            let granted = account.granted.load(Ordering::Relaxed);
            account.granted.store(granted.saturating_add((bytes as u64).saturating_mul(each)), Ordering::Relaxed);
        };
        more(&self.0.operations, OPERATIONS_A_BYTE);
        more(&self.0.bytes, BYTES_A_BYTE);
    }

    /// Takes elementary operations (about a nanosecond each) and bytes of constants; `false`, and nothing is taken, if
    /// that many are not left.
    #[must_use]
    pub fn take(&self, operations: u64, bytes: u64) -> bool {
        // One thread compiles; the atomics only let graphs be sent to another.
        if !self.0.bytes.take(bytes) {
            return false;
        }
        let covered = self.0.operations.take(operations);
        if !covered {
            self.0.bytes.spent.fetch_sub(bytes, Ordering::Relaxed);
        }
        covered
    }

    /// The larger share that was spent, of the operations or of the bytes.
    pub fn spent(&self) -> f64 {
        self.0.operations.share().max(self.0.bytes.share())
    }

    /// How often something was left undone for want of it.
    pub fn refused(&self) -> u64 {
        self.0.operations.refused.load(Ordering::Relaxed) + self.0.bytes.refused.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_what_is_left_and_a_refusal_takes_nothing() {
        let budget = Budget::for_file(1000);
        let of_a_body = budget.clone();
        assert!(of_a_body.take(OPERATIONS, 0));
        assert!(budget.take(1000 * OPERATIONS_A_BYTE, BYTES));
        assert!(!budget.take(1, 1) && !budget.take(0, BYTES));
        assert!(of_a_body.take(0, 1000 * BYTES_A_BYTE));
        assert_eq!((budget.spent(), of_a_body.refused()), (1.0, 2));
        assert!(!Budget::default().take(u64::MAX, 0));
    }
}
