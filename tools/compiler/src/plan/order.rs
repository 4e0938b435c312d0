//! Orders of execution. Which one is best shows when the arena is laid out.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::lower::{Lowered, Place, PlanStep};

/// Steps above which only the graph's own order is tried: the search is quadratic.
const MOST_STEPS: usize = 4000;

/// Orders worth laying out: the graph's own, and one that always takes the ready step that leaves the fewest bytes alive.
pub(super) fn candidates(l: &Lowered) -> Vec<Vec<usize>> {
    let own: Vec<usize> = (0..l.steps.len()).collect();
    if l.steps.len() > MOST_STEPS {
        return vec![own];
    }
    let greedy = greedy(l);
    if greedy == own { vec![own] } else { vec![own, greedy] }
}

/// The buffer a tensor of the plan lives in.
pub(super) fn buffer(l: &Lowered, t: usize) -> Option<usize> {
    match l.tensors[t].place {
        Place::Buffer(b) => Some(b),
        Place::Weights(_) => None,
    }
}

/// Bytes of each buffer.
pub(super) fn sizes(l: &Lowered) -> Vec<usize> {
    let mut sizes = vec![0; l.buffers];
    for (i, t) in l.tensors.iter().enumerate() {
        if let Some(b) = buffer(l, i) {
            // A view that moves is a part of a whole, which has the buffer's size.
            if t.advance == 0 {
                sizes[b] = sizes[b].max(t.bytes());
            }
        }
    }
    sizes
}

/// Steps that stay together: a band, or one step by itself.
fn units(l: &Lowered) -> Vec<Range<usize>> {
    let mut units: Vec<Range<usize>> = Vec::new();
    for (i, step) in l.steps.iter().enumerate() {
        match units.last_mut() {
            Some(unit) if step.band.is_some() && l.steps[unit.start].band == step.band => unit.end = i + 1,
            _ => units.push(i..i + 1),
        }
    }
    units
}

fn greedy(l: &Lowered) -> Vec<usize> {
    let sizes = sizes(l);
    let units = units(l);
    let n = units.len();
    let buffers = |u: &Range<usize>, of: fn(&PlanStep) -> Vec<usize>| -> BTreeSet<usize> {
        l.steps[u.clone()].iter().flat_map(of).filter_map(|t| buffer(l, t)).collect()
    };
    let reads: Vec<BTreeSet<usize>> =
        units.iter().map(|u| buffers(u, |s| s.inputs.iter().flatten().copied().collect())).collect();
    let writes: Vec<BTreeSet<usize>> = units.iter().map(|u| buffers(u, |s| s.outputs.clone())).collect();
    // What a band writes without reading it (the first value of a loop may be the last one, too) comes behind what others write there.
    let bands = (0..n).filter(|&u| l.steps[units[u].start].band.is_some());
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); n];
    for u in bands {
        before[u].extend((0..u).filter(|&v| !writes[v].is_disjoint(&writes[u])));
    }
    let mut writers_left = vec![0usize; l.buffers];
    writes.iter().flatten().for_each(|&b| writers_left[b] += 1);
    let mut readers_left = vec![0usize; l.buffers];
    reads.iter().flatten().for_each(|&b| readers_left[b] += 1);
    for &t in &l.outputs {
        // Outputs stay alive to the end.
        if let Some(b) = buffer(l, t) {
            readers_left[b] += 1;
        }
    }
    let mut started = vec![false; l.buffers];
    let mut done = vec![false; n];
    let mut order = Vec::with_capacity(l.steps.len());
    for _ in 0..n {
        // What a band reads it may write itself.
        let written = |u: usize, b: usize| writers_left[b] == usize::from(writes[u].contains(&b));
        let comes = |u: usize| reads[u].iter().all(|&b| written(u, b)) && before[u].iter().all(|&v| done[v]);
        let ready = (0..n).filter(|&u| !done[u] && comes(u));
        // What a unit adds to the bytes alive: its outputs, less the inputs that nobody else needs. Of equals the first in
        // the graph's order, whose output is read soonest, comes first.
        let cost = |u: usize| {
            let grows: i64 = writes[u].iter().filter(|&&b| !started[b]).map(|&b| sizes[b] as i64).sum();
            let frees: i64 = reads[u].iter().filter(|&&b| readers_left[b] == 1).map(|&b| sizes[b] as i64).sum();
            grows - frees
        };
        let next = ready.min_by_key(|&u| (cost(u), u)).expect("a graph without cycles has a ready step");
        done[next] = true;
        for &b in &writes[next] {
            started[b] = true;
            writers_left[b] -= 1;
        }
        reads[next].iter().for_each(|&b| readers_left[b] -= 1);
        order.extend(units[next].clone());
    }
    order
}
