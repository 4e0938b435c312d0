//! Steps → order and memory → file.

mod arena;
mod order;
mod write;

pub use arena::{Layout, Lifetime};
pub use write::write;

use crate::Error;
use crate::lower::Lowered;

/// Chooses the order of steps and the place of every buffer.
///
/// # Errors
/// [`Error::TooLarge`] if the arena would take 4 GiB or more.
pub fn plan(lowered: &Lowered) -> Result<Layout, Error> {
    let mut best: Option<Layout> = None;
    for order in order::candidates(lowered) {
        let layout = arena::lay_out(lowered, order);
        if best.as_ref().is_none_or(|b| layout.arena_bytes < b.arena_bytes) {
            best = Some(layout);
        }
    }
    let best = best.expect("there is always the order of the graph");
    if best.arena_bytes > u32::MAX as usize || lowered.weights.len() > u32::MAX as usize {
        return Err(Error::TooLarge(format!(
            "{} bytes of arena and {} of weights; the format holds 4 GiB of each",
            best.arena_bytes,
            lowered.weights.len()
        )));
    }
    Ok(best)
}
