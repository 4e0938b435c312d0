//! Threads are the caller's: a session hands out tiles, and whoever implements [`Workers`] runs them.

/// Runs the tiles of one step, on as many threads as the implementation has.
///
/// # Safety
/// Tiles write to the same arena without locks, each to rows of its own. An implementation must call each tile exactly once,
/// with a number below `n`, and not return from [`Workers::for_each_tile`] before every call has returned.
#[allow(unsafe_code)]
pub unsafe trait Workers {
    /// How many tiles can run at the same time. A session cuts a step into at most this many ranges of rows.
    fn count(&self) -> usize;

    /// Calls `tile(0)`, `tile(1)`, … `tile(n - 1)`, each exactly once, in any order and on any thread, and returns
    /// when all of them are done. Must not allocate if the caller wants `run` not to.
    fn for_each_tile(&self, n: usize, tile: &(dyn Fn(usize) + Sync));
}

/// No threads: every tile runs on the calling one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inline;

// SAFETY: the loop calls each tile once, and ends after the last.
#[allow(unsafe_code)]
unsafe impl Workers for Inline {
    fn count(&self) -> usize {
        1
    }

    fn for_each_tile(&self, n: usize, tile: &(dyn Fn(usize) + Sync)) {
        for i in 0..n {
            tile(i);
        }
    }
}
