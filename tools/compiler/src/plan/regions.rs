//! The memories of a device, and what lies in the slow one where there are two: tensors that are touched least for the room that they take.

use super::arena::{Group, Lifetime, alive};
use super::bands::Bands;
use super::order::buffer;
use crate::lower::Lowered;

/// A memory that a plan may use (`--region NAME=BYTES`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryRegion {
    /// What it is called, in what is said about it.
    pub name: String,
    /// Bytes that there are.
    pub bytes: usize,
}

/// Items to place, in groups each of which lies in one memory.
pub(super) struct Split<'a> {
    items: &'a [Lifetime],
    groups: &'a [Group],
    /// First and last position of a band in which items of a group share bytes, the group, and how many.
    shared: Vec<((usize, usize), usize, usize)>,
    /// Bytes of each group that a run reads and writes.
    traffic: Vec<u64>,
    steps: usize,
    /// Whether a group lies in slow memory.
    pub(super) slow: Vec<bool>,
    /// Groups that were moved there because they could not be arranged.
    last: Vec<usize>,
}

/// Groups that are moved one by one because they cannot be arranged.
const ONE_BY_ONE: usize = 16;

impl<'a> Split<'a> {
    /// With all in fast memory. `item` is the item of each buffer.
    pub(super) fn new(
        l: &Lowered,
        order: &[usize],
        (items, groups): (&'a [Lifetime], &'a [Group]),
        bands: &Bands,
        item: impl Fn(usize) -> usize,
    ) -> Self {
        let mut of_item = vec![0; items.len()];
        for (g, group) in groups.iter().enumerate() {
            group.iter().for_each(|&(i, _)| of_item[i] = g);
        }
        let group = |b: usize| of_item[item(b)];
        let mut traffic = vec![0; groups.len()];
        for &i in order {
            let step = &l.steps[i];
            let times = step.band.map_or(1, |b| l.bands[b]) as u64;
            for &t in step.inputs.iter().flatten().chain(&step.outputs) {
                if let Some(b) = buffer(l, t) {
                    traffic[group(b)] += l.tensors[t].bytes() as u64 * times;
                }
            }
        }
        let shared = bands.slides.iter().map(|s| (s.band, group(s.from), s.saved)).collect();
        Split { items, groups, shared, traffic, steps: order.len(), slow: vec![false; groups.len()], last: Vec::new() }
    }

    /// Bytes alive in fast memory at each position, and after the last.
    pub(super) fn alive(&self) -> Vec<usize> {
        let fast = self.groups.iter().zip(&self.slow).filter(|(_, slow)| !**slow);
        let items: Vec<Lifetime> = fast.flat_map(|(g, _)| g.iter().map(|&(i, _)| self.items[i])).collect();
        let mut alive = alive(&items, self.steps);
        for &((first, last), _, saved) in self.shared.iter().filter(|(_, g, _)| !self.slow[*g]) {
            alive[first..=last].iter_mut().for_each(|n| *n -= saved);
        }
        alive
    }

    /// Moves groups to slow memory until no more than `room` bytes are alive in the fast one: those that relieve it most for each byte that a run
    /// touches of them.
    pub(super) fn relieve(&mut self, room: usize) {
        loop {
            let excess: Vec<usize> = self.alive().into_iter().map(|n| n.saturating_sub(room)).collect();
            if excess.iter().all(|&n| n == 0) {
                break;
            }
            let relief = |g: usize| -> u64 {
                let of = |life: &Lifetime| {
                    excess[life.first..=life.last].iter().map(|&n| n.min(life.bytes) as u64).sum::<u64>()
                };
                self.groups[g].iter().map(|&(i, _)| of(&self.items[i])).sum()
            };
            let fast = (0..self.groups.len()).filter(|&g| !self.slow[g]).map(|g| (g, relief(g)));
            // (What nothing touches costs nothing.)
            let worth = |&(g, relief): &(usize, u64)| relief as f64 / self.traffic[g].max(1) as f64;
            let best = fast.filter(|&(_, relief)| relief > 0).max_by(|a, b| worth(a).total_cmp(&worth(b)));
            let Some((best, _)) = best else { break };
            self.slow[best] = true;
        }
        // What was moved first may not be needed with what was moved last.
        let mut moved: Vec<usize> = (0..self.groups.len()).filter(|&g| self.slow[g]).collect();
        moved.sort_by_key(|&g| std::cmp::Reverse(self.traffic[g]));
        for g in moved {
            self.slow[g] = false;
            if self.alive().into_iter().any(|n| n > room) {
                self.slow[g] = true;
            }
        }
    }

    /// Moves more to slow memory of what reaches beyond `room` at these offsets: the group that is touched least for its bytes or, after some times, all; `false`
    /// if nothing does.
    pub(super) fn relieve_top(&mut self, offsets: &[usize], room: usize) -> bool {
        let reaches = |&(i, _): &(usize, usize)| offsets[i] + self.items[i].bytes > room && self.items[i].bytes > 0;
        let beyond: Vec<usize> =
            (0..self.groups.len()).filter(|&g| !self.slow[g] && self.groups[g].iter().any(reaches)).collect();
        let bytes = |g: usize| self.groups[g].iter().map(|&(i, _)| self.items[i].bytes).max().unwrap_or(0);
        let worth = |g: usize| bytes(g) as f64 / self.traffic[g].max(1) as f64;
        let best = beyond.iter().copied().max_by(|&a, &b| worth(a).total_cmp(&worth(b)));
        let moved = if self.last.len() < ONE_BY_ONE { best.into_iter().collect() } else { beyond };
        moved.iter().for_each(|&g| self.slow[g] = true);
        self.last.extend(&moved);
        !moved.is_empty()
    }

    /// What [`Split::relieve_top`] has moved, what is touched most first.
    pub(super) fn moved_last(&self) -> impl Iterator<Item = usize> + use<> {
        let mut moved = self.last.clone();
        moved.sort_by_key(|&g| std::cmp::Reverse(self.traffic[g]));
        moved.into_iter()
    }

    /// The groups in slow memory, or those in the fast one.
    pub(super) fn groups_in(&self, slow: bool) -> Vec<Group> {
        let here = self.groups.iter().zip(&self.slow).filter(|(_, s)| **s == slow);
        here.map(|(g, _)| g.clone()).collect()
    }

    /// The items in slow memory.
    pub(super) fn slow_items(&self) -> Vec<bool> {
        let mut slow = vec![false; self.items.len()];
        self.groups_in(true).iter().flatten().for_each(|&(i, _)| slow[i] = true);
        slow
    }

    /// Bytes of slow memory that a run reads and writes.
    pub(super) fn slow_traffic(&self) -> u64 {
        self.traffic.iter().zip(&self.slow).filter(|(_, slow)| **slow).map(|(n, _)| n).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_touched_least_for_its_room_moves_and_no_more() {
        let life = |first, last, bytes| Lifetime { first, last, bytes };
        let items = [life(0, 3, 64), life(1, 2, 64), life(2, 2, 128), life(0, 0, 32)];
        let groups: Vec<Group> = (0..4).map(|i| vec![(i, 0)]).collect();
        let split = |traffic: [u64; 4]| Split {
            items: &items,
            groups: &groups,
            shared: Vec::new(),
            traffic: traffic.to_vec(),
            steps: 4,
            slow: vec![false; 4],
            last: Vec::new(),
        };
        let moved = |traffic, room| {
            let mut split = split(traffic);
            split.relieve(room);
            assert!(split.alive().into_iter().all(|n| n <= room));
            split.slow
        };
        assert_eq!(moved([1, 1, 1, 1], 256), [false; 4]);
        // At step 2 there are 256 bytes: one of 64 is enough, and the first is touched less than the second.
        assert_eq!(moved([100, 900, 5000, 1], 192), [true, false, false, false]);
        assert_eq!(moved([900, 100, 5000, 1], 192), [false, true, false, false]);
        // The large one alone makes as much room as both others.
        assert_eq!(moved([900, 900, 1000, 1], 128), [false, false, true, false]);
        assert_eq!(moved([1, 1, 1, 1], 0), [true; 4]);
        // What cannot be arranged goes one by one, too.
        let mut one = split([1, 2, 3, 4]);
        assert!(one.relieve_top(&[0, 64, 128, 64], 128) && one.slow == [false, false, true, false]);
        assert!(!one.relieve_top(&[0, 64, 128, 64], 128));
    }
}
