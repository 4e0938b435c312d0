//! Damaged and lying files: how they are made, what they are tried with, and what is expected of every one of them. The tests
//! `hostile_*` and `mutants` and the fuzzers in `fuzz/` share it.

pub mod lie;
mod memory;
pub mod model;
pub mod plan;
pub mod run;
pub mod structure;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use memory::Counting;

/// Number of cases: `KINGLET_HOSTILE_FACTOR` multiplies it for a long search.
pub fn cases(n: u64) -> u64 {
    std::env::var("KINGLET_HOSTILE_FACTOR").ok().and_then(|v| v.parse::<u64>().ok()).unwrap_or(1) * n
}

/// What `f` gives; a panic becomes an error with its text.
pub fn caught<T>(f: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|e| {
        let text = e.downcast_ref::<String>().cloned();
        Err(text.or_else(|| e.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_default())
    })
}

/// Fails with the first of the cases found, if there are any.
pub fn report(found: &[String]) {
    assert!(found.is_empty(), "{} cases:\n{}", found.len(), found[..found.len().min(40)].join("\n"));
}
