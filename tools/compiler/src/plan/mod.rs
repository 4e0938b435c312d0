//! Steps → order and memory → file.

mod arena;
mod bands;
mod order;
mod write;

pub use arena::{Layout, Lifetime};
pub use bands::{Bands, Ring};
pub use write::write;

use crate::Error;
use crate::lower::Lowered;

/// What a plan takes whose steps are in the order of the graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unordered {
    /// Bytes of the arena.
    pub arena_bytes: usize,
    /// The most bytes alive during one step.
    pub lower_bound_bytes: usize,
}

/// Slices are tried at most so many times as large as they must be, until their rings can be arranged as the peak says.
const SLICES: [u64; 4] = [64, 4, 2, 1];

/// Whether steps are executed in [bands of rows](kinglet::bands).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Banding {
    /// Each step computes all of its rows.
    #[default]
    Off,
    /// As takes the least memory.
    Memory,
    /// As takes the fewest bytes out of the caches of a host.
    Speed,
}

/// Chooses the order of steps and the place of every buffer; also what the graph's own order would have taken.
///
/// # Errors
/// [`Error::TooLarge`] if the arena would take 4 GiB or more, [`Error::Arena`] if it takes more than `max_arena`.
pub fn plan(lowered: &Lowered, banding: Banding, max_arena: Option<usize>) -> Result<(Layout, Unordered), Error> {
    let mut best: Option<Layout> = None;
    let mut unordered = None;
    for order in order::candidates(lowered) {
        let layout = arena::lay_out(lowered, order, Bands::default());
        // The graph's own order comes first.
        unordered
            .get_or_insert(Unordered { arena_bytes: layout.arena_bytes, lower_bound_bytes: layout.lower_bound_bytes });
        if best.as_ref().is_none_or(|b| layout.arena_bytes < b.arena_bytes) {
            best = Some(layout);
        }
    }
    let mut best = best.expect("there is always the order of the graph");
    let fits = |layout: &Layout| max_arena.is_some_and(|most| layout.with_scratch(lowered) <= most);
    // As few bands as the limit asks for; where the arrangement in memory does not come as low, as many as there can be.
    let scratch = best.with_scratch(lowered) - best.arena_bytes;
    let room = max_arena.map(|most| most.saturating_sub(scratch));
    let tries = match banding {
        Banding::Off => Vec::new(),
        Banding::Memory => room.into_iter().chain([0]).collect(),
        Banding::Speed => vec![0],
    };
    for most in tries {
        if banding == Banding::Memory && fits(&best) {
            break;
        }
        // Smaller slices leave room in which tensors can be arranged, where larger ones take just as much at the peak.
        for largest in SLICES {
            let bands = arena::choose_bands(lowered, &best.order, banding, most, largest);
            let banded = arena::lay_out(lowered, best.order.clone(), bands);
            let bound = banded.arena_bytes <= banded.lower_bound_bytes;
            if banded.arena_bytes < best.arena_bytes || banding == Banding::Speed {
                best = banded;
            }
            if bound || banding == Banding::Speed || fits(&best) {
                break;
            }
        }
    }
    best.add_scratch(lowered);
    if let Some(most) = max_arena.filter(|&most| best.arena_bytes > most) {
        let (at, alive) = best.peak;
        let remedy = if banding == Banding::Off { " (--bands memory may take less)" } else { "" };
        let step = best.order.get(at).map_or_else(String::new, |&i| lowered.steps[i].name.clone());
        return Err(Error::Arena { needed: best.arena_bytes, most, step, alive, remedy });
    }
    if best.arena_bytes > u32::MAX as usize || lowered.weights.len() > u32::MAX as usize {
        return Err(Error::TooLarge(format!(
            "{} bytes of arena and {} of weights; the format holds 4 GiB of each",
            best.arena_bytes,
            lowered.weights.len()
        )));
    }
    Ok((best, unordered.expect("there is always the order of the graph")))
}
