//! Bands of rows: which runs of steps are executed a few rows at a time, so that the arena is as small as it can be.
//!
//! The peak over the order is the least that any cut of it into single steps and bands has. What a band takes is known from the
//! arithmetic of [`kinglet::bands`]: whole tensors that it shares with steps outside, and of what lies between its steps the rows
//! that are still needed.

mod known;
mod search;

use kinglet::bands::Slice;

use self::search::{Band, Search};
use super::arena::Lifetime;
use crate::lower::Lowered;

/// Steps above which no bands are looked for: the search looks at every run of them.
const MOST_OF_PLAN: usize = 4000;
/// Slices are made so many times larger than they must be, where that fits under the same peak: fewer calls.
const FACTORS: [u64; 9] = [1, 2, 3, 4, 6, 8, 16, 32, 64];

/// Bytes of a host's second cache: what is larger is taken to leave it.
const CACHE: usize = 1 << 20;
/// What the call of a step costs, in bytes that could be moved meanwhile: 0.3 µs at 30 GB/s.
const CALL: usize = 8 << 10;

/// Bytes of a right matrix that a product of computed ones packs while a tensor that leaves the caches moves by one: 57 ps a byte (8 heads
/// of 512 keys of 64 numbers, packed anew for every row) against 180 (of the scores of 8 heads of 1,024 keys).
const PACKED: usize = 3;
/// Rows of a slice of such a product, at least: with so many, attention takes no longer than without bands (8 heads of 512 keys; `kinglet bench`).
const LEAST_TO_PACK: u64 = 64;

/// The bands of a plan, and what they mean for its steps and buffers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bands {
    /// First position in the order, steps, slices; in order.
    pub runs: Vec<(usize, usize, u32)>,
    /// By position in the order what the step there computes in a slice, if it is in a band.
    pub slices: Vec<Option<Slice>>,
    /// By buffer what is kept of it, if it lies within a band.
    pub rings: Vec<Option<Ring>>,
    /// By buffer the position of the last step in a band that writes it.
    pub writers: Vec<Option<usize>>,
    /// Whole tensors that share bytes with one that dies in their band.
    pub slides: Vec<Slide>,
}

/// A buffer that holds some rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    /// Bytes that are there.
    pub bytes: usize,
    /// Nothing of it outlives a slice.
    pub local: bool,
}

/// A whole tensor that is born in a band, in the bytes of one that dies there: its rows are written where rows are read no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slide {
    /// The buffer that dies.
    pub from: usize,
    /// The buffer that is born.
    pub to: usize,
    /// So many bytes behind the beginning of `to` lies that of `from`, at least.
    pub distance: usize,
    /// Bytes that are saved while both are alive.
    pub saved: usize,
    /// First and last position of the band.
    pub band: (usize, usize),
}

/// Chooses the bands with which the least memory is taken, or the fewest with which no more than `most` is. `alive` are the bytes alive
/// at each position without any, `lives` the lifetimes of the buffers, none of which takes another's place. Slices are at most
/// `largest` times as large as they must be.
pub(super) fn smallest(
    l: &Lowered,
    order: &[usize],
    lives: &[Lifetime],
    alive: &[usize],
    (most, largest): (usize, u64),
) -> Bands {
    let n = order.len();
    if n > MOST_OF_PLAN {
        return Bands::none(l, n);
    }
    let search = Search::new(l, order, lives);
    let runs: Vec<Vec<(usize, Band)>> = (0..n).map(|i| search.from(i)).collect();
    let mut peak = vec![usize::MAX; n + 1];
    peak[0] = 0;
    for i in 0..n {
        let so_far = peak[i];
        peak[i + 1] = peak[i + 1].min(so_far.max(alive[i]));
        for (end, band) in &runs[i] {
            peak[*end] = peak[*end].min(so_far.max(band.need));
        }
    }
    // Under that peak the fewest steps in bands; where more is allowed, the fewest calls of kernels.
    let (most, least) = (peak[n].max(most), peak[n]);
    let calls = |start: usize, end: usize| {
        let factors = FACTORS.iter().filter(|&&f| f <= largest);
        let bands = factors.filter_map(|&f| search.band(start, end, f)).filter(|b| b.need <= most);
        bands.map(|b| b.count as usize * (end - start)).min().unwrap_or(usize::MAX / n)
    };
    let cut = cheapest(n, |i| {
        let alone = (alive[i] <= most).then_some((i + 1, usize::from(most > least), false));
        let bands = runs[i].iter().filter(|(_, b)| b.need <= most);
        let bands = bands.map(|(end, _)| (*end, if most > least { calls(i, *end) } else { end - i }, true));
        alone.into_iter().chain(bands).collect()
    });
    // Tensors that slide are bound to each other in memory: as few as there must be, then the largest slices.
    let larger = |(start, end): (usize, usize)| {
        let factors = FACTORS.iter().rev().filter(|&&f| f <= largest);
        let bands = factors.filter_map(|&f| search.band(start, end, f)).filter(|b| b.need <= most);
        bands.map(|b| b.with_slides_for(most)).min_by_key(|b| b.slides.len()).expect("the least slices fit")
    };
    let chosen = cut.into_iter().map(|run| (run, larger(run))).collect();
    Bands::of(l, &search, chosen)
}

/// Chooses the bands with which the fewest bytes leave the caches.
pub(super) fn fastest(l: &Lowered, order: &[usize], lives: &[Lifetime]) -> Bands {
    let n = order.len();
    if n > MOST_OF_PLAN {
        return Bands::none(l, n);
    }
    let search = Search::new(l, order, lives);
    let best = |start: usize, end: usize| {
        let bands = FACTORS.iter().filter_map(|&f| search.band(start, end, f)).filter(|b| search.fits_caches(b));
        bands.map(|b| (search.traffic(start, end, Some(&b)), b)).min_by_key(|(cost, _)| *cost)
    };
    let cut = cheapest(n, |i| {
        let bands = search.ends(i).filter_map(|end| Some((end, best(i, end)?.0, true)));
        [(i + 1, search.traffic(i, i + 1, None), false)].into_iter().chain(bands).collect()
    });
    let chosen =
        cut.into_iter().map(|(start, end)| ((start, end), best(start, end).expect("it was chosen").1)).collect();
    Bands::of(l, &search, chosen)
}

/// The bands in the cheapest cut of `n` steps into runs. `runs` gives those that begin at a position: their ends and costs, and whether
/// they are bands.
fn cheapest(n: usize, runs: impl Fn(usize) -> Vec<(usize, usize, bool)>) -> Vec<(usize, usize)> {
    let mut cost: Vec<Option<usize>> = vec![None; n + 1];
    let mut from = vec![(0, false); n + 1];
    cost[0] = Some(0);
    for i in 0..n {
        let Some(so_far) = cost[i] else { continue };
        for (end, more, band) in runs(i) {
            if cost[end].is_none_or(|c| so_far + more < c) {
                (cost[end], from[end]) = (Some(so_far + more), (i, band));
            }
        }
    }
    let mut cut = Vec::new();
    let mut end = n;
    while end > 0 {
        let (start, band) = from[end];
        if band {
            cut.push((start, end));
        }
        end = start;
    }
    cut.reverse();
    cut
}

impl Band {
    /// With no more tensors that slide than it takes to need no more than `most`.
    fn with_slides_for(mut self, most: usize) -> Self {
        while let Some(slide) = self.slides.pop_if(|s| self.need + s.saved <= most) {
            self.need += slide.saved;
        }
        self
    }
}

impl Bands {
    fn none(l: &Lowered, n: usize) -> Bands {
        Bands {
            runs: Vec::new(),
            slices: vec![None; n],
            rings: vec![None; l.buffers],
            writers: vec![None; l.buffers],
            slides: Vec::new(),
        }
    }

    /// The bands of these runs of steps.
    fn of(l: &Lowered, search: &Search<'_>, chosen: Vec<((usize, usize), Band)>) -> Bands {
        let mut bands = Bands::none(l, search.steps.len());
        for ((start, end), band) in chosen {
            for (k, slice) in band.slices.iter().enumerate() {
                bands.slices[start + k] = Some(*slice);
                if let Some(step) = &search.steps[start + k] {
                    bands.writers[step.output] = Some(start + k);
                }
            }
            for (b, ring) in band.rings {
                bands.rings[b] = Some(ring);
            }
            bands.slides.extend(band.slides);
            bands.runs.push((start, end - start, band.count));
        }
        bands
    }

    /// Makes lifetimes those of buffers in bands: rings are as long as they are, and what outlives a slice lives as long as its band.
    pub(super) fn shape(&self, lives: &mut [Lifetime]) {
        for &(start, steps, _) in &self.runs {
            let last = start + steps - 1;
            for (life, ring) in lives.iter_mut().zip(&self.rings) {
                if life.bytes == 0 || life.first > last || life.last < start {
                    continue;
                }
                if let Some(ring) = ring {
                    life.bytes = ring.bytes.next_multiple_of(super::arena::ALIGN);
                }
                if !ring.is_some_and(|r| r.local) {
                    (life.first, life.last) = (life.first.min(start), life.last.max(last));
                }
            }
        }
    }
}
