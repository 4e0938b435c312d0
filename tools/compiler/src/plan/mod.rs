//! Steps → order and memory → file.

mod arena;
mod bands;
mod hot;
mod order;
mod regions;
mod write;

pub use arena::{Layout, Lifetime};
pub use bands::{Bands, Ring};
pub use hot::Hot;
pub use regions::MemoryRegion;
pub use write::write;

use crate::Error;
use crate::lower::Lowered;

/// Alignment of scratch.
const LINE: usize = kinglet::format::ALIGN;

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
/// [`Error::TooLarge`] if the arena would take 4 GiB or more, [`Error::Regions`] if there are more than two, [`Error::RegionTwice`] if two have one name, [`Error::Region`] if one has less than the plan takes.
pub fn plan(lowered: &Lowered, banding: Banding, regions: &[MemoryRegion]) -> Result<(Layout, Unordered), Error> {
    let (fast, slow) = match regions {
        [] => (None, None),
        [fast] => (Some(fast), None),
        [fast, slow] if fast.name == slow.name => return Err(Error::RegionTwice { name: fast.name.clone() }),
        [fast, slow] => (Some(fast), Some(slow)),
        more => return Err(Error::Regions { count: more.len() }),
    };
    let mut best: Option<Layout> = None;
    let mut unordered = None;
    for order in order::candidates(lowered) {
        let layout = arena::lay_out(lowered, order, Bands::default(), None);
        // The graph's own order comes first.
        unordered
            .get_or_insert(Unordered { arena_bytes: layout.arena_bytes, lower_bound_bytes: layout.lower_bound_bytes });
        if best.as_ref().is_none_or(|b| layout.arena_bytes < b.arena_bytes) {
            best = Some(layout);
        }
    }
    let mut best = best.expect("there is always the order of the graph");
    let whole = best.lower_bound_bytes;
    let fits = |layout: &Layout| fast.is_some_and(|r| layout.with_scratch(lowered) <= r.bytes);
    // As few bands as the limit asks for; where the arrangement in memory does not come as low, as many as there can be.
    let scratch = best.with_scratch(lowered) - best.arena_bytes;
    let room = fast.map(|r| r.bytes.saturating_sub(scratch));
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
            let banded = arena::lay_out(lowered, best.order.clone(), bands, None);
            let bound = banded.arena_bytes <= banded.lower_bound_bytes;
            if banded.arena_bytes < best.arena_bytes || banding == Banding::Speed {
                best = banded;
            }
            if bound || banding == Banding::Speed || fits(&best) {
                break;
            }
        }
    }
    if let (Some(fast), Some(slow)) = (fast, slow)
        && !fits(&best)
    {
        best = with_slow(lowered, best, banding, whole, (fast, slow))?;
    }
    best.add_scratch(lowered);
    let step = |at: usize| best.order.get(at).map_or("", |&i| &lowered.steps[i].name);
    if let Some(region) = fast.filter(|r| best.arena_bytes > r.bytes) {
        let (at, alive) = best.peak;
        let remedy = if banding == Banding::Off { " (--bands memory may take less)" } else { "" };
        let why = format!("{alive} bytes of tensors are alive at `{}`{remedy}", step(at));
        return Err(Error::Region { region: region.clone(), needed: best.arena_bytes, why });
    }
    if let Some(region) = slow.filter(|r| best.slow_bytes > r.bytes) {
        let why = format!("the most of what the first region has no room for is alive at `{}`", step(best.slow_peak));
        return Err(Error::Region { region: region.clone(), needed: best.slow_bytes, why });
    }
    if best.arena_bytes.max(best.slow_bytes) > u32::MAX as usize || lowered.weights.len() > u32::MAX as usize {
        return Err(Error::TooLarge(format!(
            "{} bytes of arena and {} of weights; the format holds 4 GiB of each",
            best.arena_bytes.max(best.slow_bytes),
            lowered.weights.len()
        )));
    }
    Ok((best, unordered.expect("there is always the order of the graph")))
}

/// A plan with what does not fit the fast memory in the slow one, in these bands, others or none: of those that fit it whichever touches less of it.
fn with_slow(
    lowered: &Lowered,
    smallest: Layout,
    banding: Banding,
    whole: usize,
    (fast, slow): (&MemoryRegion, &MemoryRegion),
) -> Result<Layout, Error> {
    let scratch = arena::scratch(lowered);
    let Some(room) = fast.bytes.checked_sub(scratch) else {
        let most = lowered.steps.iter().max_by_key(|s| s.scratch).map_or("", |s| &s.name);
        let why = format!("`{most}` keeps as much while it runs");
        return Err(Error::Region { region: fast.clone(), needed: scratch, why });
    };
    // Scratch begins at a line.
    let room = if scratch > 0 { room / LINE * LINE } else { room };
    let order = smallest.order;
    let mut tries = vec![smallest.bands, Bands::default()];
    if banding == Banding::Memory {
        // What is alive at most matters less now: bands whose rings take more and that share fewer bytes may leave less to the slow memory.
        let (least, peak) = (smallest.lower_bound_bytes, whole);
        for part in 1..4 {
            tries.push(arena::choose_bands(
                lowered,
                &order,
                banding,
                least + peak.saturating_sub(least) / 4 * part,
                SLICES[0],
            ));
        }
    }
    let layouts = tries.into_iter().map(|bands| arena::lay_out(lowered, order.clone(), bands, Some(room)));
    let cost = |l: &Layout| (l.slow_bytes.saturating_sub(slow.bytes), l.slow_traffic, l.calls());
    Ok(layouts.min_by_key(cost).expect("there are some"))
}
