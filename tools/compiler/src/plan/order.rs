//! Orders of execution. Which one is best shows when the arena is laid out.

use std::collections::BTreeSet;

use crate::lower::{Lowered, Place};

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
            sizes[b] = sizes[b].max(t.bytes());
        }
    }
    sizes
}

fn greedy(l: &Lowered) -> Vec<usize> {
    let n = l.steps.len();
    let sizes = sizes(l);
    let reads: Vec<BTreeSet<usize>> =
        l.steps.iter().map(|s| s.inputs.iter().flatten().filter_map(|&t| buffer(l, t)).collect()).collect();
    let writes: Vec<usize> = l.steps.iter().map(|s| buffer(l, s.output).expect("outputs are in the arena")).collect();
    let mut writers_left = vec![0usize; l.buffers];
    writes.iter().for_each(|&b| writers_left[b] += 1);
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
    let mut order = Vec::with_capacity(n);
    while order.len() < n {
        let ready = (0..n).filter(|&i| !done[i] && reads[i].iter().all(|&b| writers_left[b] == 0));
        // What a step adds to the bytes alive: its output, less the inputs that nobody else needs. Of equals the one whose
        // output is read soonest in the graph's order, that is the first, comes first.
        let cost = |i: usize| {
            let grows = if started[writes[i]] { 0 } else { sizes[writes[i]] as i64 };
            let frees: i64 = reads[i].iter().filter(|&&b| readers_left[b] == 1).map(|&b| sizes[b] as i64).sum();
            grows - frees
        };
        let next = ready.min_by_key(|&i| (cost(i), i)).expect("a graph without cycles has a ready step");
        done[next] = true;
        started[writes[next]] = true;
        writers_left[writes[next]] -= 1;
        reads[next].iter().for_each(|&b| readers_left[b] -= 1);
        order.push(next);
    }
    order
}
