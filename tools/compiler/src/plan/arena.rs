//! Lifetimes of buffers and their offsets in the arena.

use std::collections::HashSet;

use super::bands::{self, Bands};
use super::order::{buffer, sizes};
use super::regions::Split;
use super::{Banding, LINE};
use crate::lower::{Lowered, PlanTensorId};

/// Alignment of tensors in the arena.
pub(super) const ALIGN: usize = 16;
/// Rearrangements tried when the first layouts are above the lower bound: at most so many, and fewer for more items.
const MOST_TRIES: usize = 2000;
const TRIES_TIMES_ITEMS: usize = 200_000_000;
/// Tensors that were moved to slow memory for want of an arrangement, and of which at most so many are tried in the arena again.
const MOST_BACK: usize = 16;

/// When a buffer holds something: from the first to the last step, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// First position in the order.
    pub first: usize,
    /// Last position in the order.
    pub last: usize,
    /// Bytes, rounded up to the alignment.
    pub bytes: usize,
}

impl Lifetime {
    fn overlaps(&self, other: &Lifetime) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Order and memory of a plan.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Steps in the order of execution.
    pub order: Vec<usize>,
    /// Offset of each buffer.
    pub offsets: Vec<usize>,
    /// Bytes of the arena: those of tensors, and the scratch of one worker behind them.
    pub arena_bytes: usize,
    /// Bytes of that scratch.
    pub scratch_bytes: usize,
    /// The most bytes of tensors alive during one step.
    pub lower_bound_bytes: usize,
    /// The bands of rows.
    pub bands: Bands,
    /// The position at which the most bytes of tensors are alive, and these.
    pub peak: (usize, usize),
    /// By buffer whether it lies in slow memory, where its offset is.
    pub slow: Vec<bool>,
    /// Bytes of slow memory.
    pub slow_bytes: usize,
    /// Bytes of it that a run reads and writes.
    pub slow_traffic: u64,
    /// The position at which the most of them are alive.
    pub slow_peak: usize,
}

impl Layout {
    /// Whether only some rows of tensor `t` are there at a time.
    pub(crate) fn is_ring(&self, l: &Lowered, t: PlanTensorId) -> bool {
        let ring = buffer(l, t).and_then(|b| self.bands.rings.get(b).copied().flatten());
        ring.is_some_and(|ring| ring.bytes < l.tensors[t].bytes())
    }

    /// How often a run calls a kernel: each step once, in a band once a slice.
    pub fn calls(&self) -> usize {
        let more = self.bands.runs.iter().map(|&(_, steps, slices)| steps * (slices as usize - 1));
        self.order.len() + more.sum::<usize>()
    }

    /// Makes room behind the tensors for what the steps keep while they run.
    pub(super) fn add_scratch(&mut self, l: &Lowered) {
        (self.arena_bytes, self.scratch_bytes) = (self.with_scratch(l), scratch(l));
    }

    /// Bytes of the arena with that room.
    pub(super) fn with_scratch(&self, l: &Lowered) -> usize {
        match scratch(l) {
            0 => self.arena_bytes,
            most => self.arena_bytes.next_multiple_of(LINE).saturating_add(most),
        }
    }
}

/// The most that a step keeps while it runs, in whole lines.
pub(super) fn scratch(l: &Lowered) -> usize {
    let most = l.steps.iter().map(|s| s.scratch).max().unwrap_or(0);
    usize::try_from(most).unwrap_or(usize::MAX).saturating_add(LINE - 1) / LINE * LINE
}

/// The bands of rows of the steps in this order: those for speed, or those with which tensors take the least memory, or no more than
/// `most`, with slices at most `largest` times as large as they must be.
pub(super) fn choose_bands(l: &Lowered, order: &[usize], banding: Banding, most: usize, largest: u64) -> Bands {
    let (own, whole) = lifetimes(l, order);
    if banding == Banding::Speed {
        return bands::fastest(l, order, &own);
    }
    let mut lives = own.clone();
    let root = share(l, order, &mut lives, &whole, &Bands::default());
    let items: Vec<Lifetime> = (0..l.buffers).filter(|&b| root[b] == b).map(|b| lives[b]).collect();
    bands::smallest(l, order, &own, &alive(&items, order.len()), (most, largest))
}

/// Lays out the buffers for one order of steps, some of which are in bands of rows. What does not fit `room` bytes of the arena lies in slow
/// memory; without a room all lies in the arena.
pub(super) fn lay_out(l: &Lowered, order: Vec<usize>, bands: Bands, room: Option<usize>) -> Layout {
    let (mut lives, whole) = lifetimes(l, &order);
    bands.shape(&mut lives);
    // What nobody takes row by row is there at the end.
    for b in l.outputs.iter().filter_map(|&t| buffer(l, t)) {
        if bands.rings.get(b).copied().flatten().is_none() {
            lives[b].last = order.len();
        }
    }
    let root = share(l, &order, &mut lives, &whole, &bands);
    let roots: Vec<usize> = (0..l.buffers).filter(|&b| root[b] == b).collect();
    let items: Vec<Lifetime> = roots.iter().map(|&b| lives[b]).collect();
    let item = |b: usize| roots.binary_search(&root[b]).expect("the root of a buffer is one");
    let groups = groups(roots.len(), item, &bands);
    let mut split = Split::new(l, &order, (&items, &groups), &bands, item);
    let room = room.unwrap_or(usize::MAX);
    split.relieve(room);
    let (mut offsets, mut arena_bytes, mut peak) = loop {
        let peak = split.alive().into_iter().enumerate().rev().max_by_key(|(_, n)| *n).unwrap_or((0, 0));
        let (offsets, total) = place(&items, &split.groups_in(false), peak.1);
        // As many as are alive may not be arranged in the room.
        if total <= room || !split.relieve_top(&offsets, room) {
            break (offsets, total, peak);
        }
    };
    // (A limit of tries: each arranges anew.)
    for g in split.moved_last().take(MOST_BACK).collect::<Vec<_>>() {
        split.slow[g] = false;
        let bound = split.alive().into_iter().max().unwrap_or(0);
        let (back, total) = place(&items, &split.groups_in(false), bound);
        split.slow[g] = total > room;
        if total <= room {
            (offsets, arena_bytes) = (back, total);
            peak = split.alive().into_iter().enumerate().rev().max_by_key(|(_, n)| *n).unwrap_or((0, 0));
        }
    }
    let (slow, slow_groups) = (split.slow_items(), split.groups_in(true));
    let slow_items: Vec<Lifetime> = (0..items.len()).filter(|&i| slow[i]).map(|i| items[i]).collect();
    let (slow_peak, bound) =
        alive(&slow_items, order.len()).into_iter().enumerate().rev().max_by_key(|(_, n)| *n).unwrap_or((0, 0));
    let (places, slow_bytes) = place(&items, &slow_groups, bound);
    (0..items.len()).filter(|&i| slow[i]).for_each(|i| offsets[i] = places[i]);
    let of_items = |b: usize| (offsets[item(b)], slow[item(b)]);
    let (offsets, slow) = (0..l.buffers).map(of_items).unzip();
    let slow_traffic = split.slow_traffic();
    Layout {
        order,
        offsets,
        arena_bytes,
        scratch_bytes: 0,
        lower_bound_bytes: peak.1,
        bands,
        peak,
        slow,
        slow_bytes,
        slow_traffic,
        slow_peak,
    }
}

/// Lifetimes, and which buffers live through the whole body of a loop.
fn lifetimes(l: &Lowered, order: &[usize]) -> (Vec<Lifetime>, Vec<bool>) {
    let n = order.len();
    let mut lives: Vec<Lifetime> = sizes(l)
        .into_iter()
        .map(|bytes| Lifetime { first: usize::MAX, last: 0, bytes: bytes.next_multiple_of(ALIGN) })
        .collect();
    let mut touch = |b: usize, at: usize| {
        lives[b].first = lives[b].first.min(at);
        lives[b].last = lives[b].last.max(at);
    };
    for (at, &i) in order.iter().enumerate() {
        let step = &l.steps[i];
        for t in step.inputs.iter().flatten().chain(&step.outputs) {
            if let Some(b) = buffer(l, *t) {
                touch(b, at);
            }
        }
    }
    // What is fed is there when a step asks for it, and gone when it was made.
    for b in l.whole_inputs().filter_map(|t| buffer(l, t)) {
        touch(b, 0);
    }
    for (_, &t) in l.fed.iter().zip(&l.outputs).filter(|(fed, _)| !**fed) {
        if let Some(b) = buffer(l, t) {
            touch(b, n);
        }
    }
    let whole = span_bands(l, order, &mut lives);
    for life in &mut lives {
        // A buffer that nothing touches takes no part.
        if life.first == usize::MAX {
            (life.first, life.bytes) = (0, 0);
        }
    }
    (lives, whole)
}

/// Merges buffers that take another's place into it: `root[b]` is the buffer whose memory `b` uses. In bands of rows none does.
fn share(l: &Lowered, order: &[usize], lives: &mut [Lifetime], whole: &[bool], bands: &Bands) -> Vec<usize> {
    let mut root: Vec<usize> = (0..l.buffers).collect();
    for (at, &i) in order.iter().enumerate() {
        let step = &l.steps[i];
        let output = step.outputs[0];
        let out = buffer(l, output).expect("outputs are in the arena");
        if lives[out].first != at || whole[out] || bands.slices.get(at).is_some_and(Option::is_some) {
            continue;
        }
        let operands: Vec<Option<usize>> = step.inputs.iter().map(|t| t.and_then(|t| buffer(l, t))).collect();
        let exact = |t: usize| l.tensors[t].bytes();
        for (k, b) in operands.iter().enumerate() {
            let Some(b) = *b else { continue };
            let r = find(&mut root, b);
            if step.band.is_some() && whole[r] {
                continue;
            }
            let dies = lives[r].last == at && lives[r].bytes == lives[out].bytes;
            let same_size = step.inputs[k].is_some_and(|t| exact(t) == exact(output));
            // Every operand in that memory must be one the kernel may overwrite.
            let all_allowed = operands
                .iter()
                .enumerate()
                .all(|(j, o)| o.is_none_or(|o| find(&mut root, o) != r || step.in_place & (1 << j) != 0));
            if dies && same_size && all_allowed && root[out] == out && r != out {
                root[out] = r;
                lives[r].last = lives[out].last;
                break;
            }
        }
    }
    for b in 0..l.buffers {
        find(&mut root, b);
    }
    root
}

/// Buffers that live through a whole band: those it shares with what is outside it, those it carries from slice to slice,
/// and those of which a slice is a part. Their lives are extended; others are free again within each slice.
fn span_bands(l: &Lowered, order: &[usize], lives: &mut [Lifetime]) -> Vec<bool> {
    let mut whole = vec![false; l.buffers];
    let mut at = 0;
    while at < order.len() {
        let band = l.steps[order[at]].band;
        let steps =
            if band.is_none() { 1 } else { order[at..].iter().take_while(|&&i| l.steps[i].band == band).count() };
        let (start, end) = (at, at + steps - 1);
        let mut written = HashSet::new();
        for &i in order[start..=end].iter().filter(|_| band.is_some()) {
            let step = &l.steps[i];
            let operands = step.inputs.iter().flatten().map(|&t| (t, false));
            for (t, writes) in operands.chain(step.outputs.iter().map(|&t| (t, true))) {
                let Some(b) = buffer(l, t) else { continue };
                let carried = !writes && !written.contains(&b);
                let shared = lives[b].first < start || lives[b].last > end;
                whole[b] |= carried || shared || l.tensors[t].advance > 0;
                if writes {
                    written.insert(b);
                }
                if whole[b] {
                    lives[b].first = lives[b].first.min(start);
                    lives[b].last = lives[b].last.max(end);
                }
            }
        }
        at = end + 1;
    }
    whole
}

fn find(root: &mut [usize], b: usize) -> usize {
    let mut r = b;
    while root[r] != r {
        r = root[r];
    }
    root[b] = r;
    r
}

/// Items that are placed together: each with the bytes by which it lies behind the first of them.
pub(super) type Group = Vec<(usize, usize)>;

/// So many items, those together of which one slides into the place of another; `item` is that of a buffer.
fn groups(items: usize, item: impl Fn(usize) -> usize, bands: &Bands) -> Vec<Group> {
    let mut groups: Vec<Group> = (0..items).map(|i| vec![(i, 0)]).collect();
    for slide in &bands.slides {
        let (from, to) = (item(slide.from), item(slide.to));
        let of = |groups: &[Group], i: usize| groups.iter().position(|g| g.iter().any(|m| m.0 == i)).expect("in one");
        let behind = |g: &Group, i: usize| g.iter().find(|m| m.0 == i).expect("in it").1;
        let (a, b) = (of(&groups, from), of(&groups, to));
        assert_ne!(a, b, "a tensor is born once and dies once");
        // `from` lies `distance` behind `to`.
        let (mut first, second) = (std::mem::take(&mut groups[a]), std::mem::take(&mut groups[b]));
        let (own, wanted) = (behind(&first, from), behind(&second, to) + slide.distance);
        let second = second.into_iter().map(|(i, at)| (i, at + own.saturating_sub(wanted)));
        first.iter_mut().for_each(|m| m.1 += wanted.saturating_sub(own));
        groups[a] = first.into_iter().chain(second).collect();
    }
    groups.retain(|g| !g.is_empty());
    groups
}

/// Bytes alive at each position, and after the last.
pub(super) fn alive(items: &[Lifetime], steps: usize) -> Vec<usize> {
    let mut change = vec![0i64; steps + 2];
    for life in items {
        change[life.first] += life.bytes as i64;
        change[life.last + 1] -= life.bytes as i64;
    }
    let mut alive = 0;
    change
        .iter()
        .map(|c| {
            alive += c;
            alive as usize
        })
        .collect()
}

/// Offsets for the items, and their total; stops searching at `bound`.
fn place(items: &[Lifetime], groups: &[Group], bound: usize) -> (Vec<usize>, usize) {
    // A group counts as the largest of its items.
    let largest = |g: &Group| items[g.iter().max_by_key(|m| items[m.0].bytes).expect("it has one").0];
    let by = |key: &dyn Fn(&Lifetime) -> (std::cmp::Reverse<usize>, usize)| {
        let mut order: Vec<usize> = (0..groups.len()).collect();
        order.sort_by_key(|&g| key(&largest(&groups[g])));
        order
    };
    use std::cmp::Reverse;
    let orders = [
        by(&|l| (Reverse(l.bytes), l.first)),
        by(&|l| (Reverse(l.bytes * (l.last - l.first + 1)), l.first)),
        by(&|l| (Reverse(l.last - l.first), l.first)),
        by(&|l| (Reverse(0), l.first)),
    ];
    // What stays small must not lie between two that change places all the time: with a ceiling these go to the walls.
    let mut best = (Vec::new(), usize::MAX);
    for ceiling in [None, Some(bound)] {
        if best.1 > bound {
            let found = search(items, groups, &orders, bound, ceiling);
            best = if found.1 < best.1 { found } else { best };
        }
    }
    best
}

/// The best that is found from these orders on.
fn search(
    items: &[Lifetime],
    groups: &[Group],
    orders: &[Vec<usize>],
    bound: usize,
    ceiling: Option<usize>,
) -> (Vec<usize>, usize) {
    let mut best = (Vec::new(), usize::MAX);
    let mut best_order = Vec::new();
    for order in orders {
        let (offsets, total) = first_fit(items, groups, order, ceiling);
        if total < best.1 {
            (best, best_order) = ((offsets, total), order.clone());
        }
    }
    // A seeded walk over orders that differ in one move: one of the items that reach the top is placed earlier, or any item
    // anywhere. Each try is quadratic, so large graphs get fewer.
    let tries = TRIES_TIMES_ITEMS / items.len().max(1).pow(2);
    let mut seed = 0x2545_F491_4F6C_DD1Du64;
    let mut random = |n: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % n.max(1) as u64) as usize
    };
    for attempt in 0..tries.min(MOST_TRIES) {
        if best.1 <= bound || groups.len() < 2 {
            break;
        }
        let mut order = best_order.clone();
        let at_top = |k: &usize| groups[order[*k]].iter().any(|m| best.0[m.0] + items[m.0].bytes == best.1);
        let top: Vec<usize> = (1..order.len()).filter(at_top).collect();
        let (from, to) = match (attempt % 2, &top[..]) {
            (0, [_, ..]) => {
                let from = top[random(top.len())];
                (from, random(from))
            }
            _ => (random(order.len()), random(order.len())),
        };
        let item = order.remove(from);
        order.insert(to.min(order.len()), item);
        let (offsets, total) = first_fit(items, groups, &order, ceiling);
        if total <= best.1 {
            (best, best_order) = ((offsets, total), order);
        }
    }
    best
}

/// Puts the groups, in the given order, each at the lowest offset where its items are in nobody's way; if there is a ceiling and they
/// cannot lie at the bottom, at the highest offset below it, if there is one that reaches it.
fn first_fit(items: &[Lifetime], groups: &[Group], order: &[usize], ceiling: Option<usize>) -> (Vec<usize>, usize) {
    let mut offsets = vec![0; items.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut total = 0;
    for group in order.iter().map(|&g| &groups[g]) {
        let height = group.iter().map(|&(i, behind)| behind + items[i].bytes).max().unwrap_or(0);
        let top = ceiling.and_then(|c| c.checked_sub(height)).map(|top| top / ALIGN * ALIGN);
        let lowest = lowest(items, group, &placed, &offsets, 0);
        let highest = top.filter(|&top| lowest > 0 && lowest < top);
        let at = highest.filter(|&top| self::lowest(items, group, &placed, &offsets, top) == top).unwrap_or(lowest);
        for &(i, behind) in group {
            offsets[i] = at + behind;
            total = total.max(at + behind + items[i].bytes);
            let slot = placed.partition_point(|&p| offsets[p] <= offsets[i]);
            placed.insert(slot, i);
        }
    }
    (offsets, total)
}

/// The lowest offset from `start` on where the items of a group are in the way of none of those that are `placed`, in ascending order
/// of their offsets.
fn lowest(items: &[Lifetime], group: &Group, placed: &[usize], offsets: &[usize], start: usize) -> usize {
    let mut at = start;
    loop {
        let before = at;
        for &(i, behind) in group {
            for &p in placed {
                if !items[p].overlaps(&items[i]) || items[p].bytes == 0 {
                    continue;
                }
                if offsets[p] >= at + behind + items[i].bytes {
                    break;
                }
                at = at.max((offsets[p] + items[p].bytes).saturating_sub(behind));
            }
        }
        if at == before || group.len() == 1 {
            return at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_fit_reuses_memory_of_the_dead() {
        let life = |first, last, bytes| Lifetime { first, last, bytes };
        let items = [life(0, 1, 64), life(1, 2, 32), life(2, 3, 64)];
        let groups: Vec<Group> = (0..3).map(|i| vec![(i, 0)]).collect();
        let bound = alive(&items, 4).into_iter().max().expect("there are steps");
        let (offsets, total) = place(&items, &groups, bound);
        assert_eq!(total, 96);
        assert!(offsets[1] >= 64 || offsets[1] + 32 <= offsets[0]);
    }
}
