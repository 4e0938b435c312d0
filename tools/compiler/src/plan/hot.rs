//! The order of weights where the first of them are to lie in RAM.

use std::collections::BTreeMap;
use std::ops::Range;

use kinglet::format::ALIGN;

use crate::lower::{Lowered, Place};

/// What lies in front of the weights section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hot {
    /// Bytes, a multiple of 64.
    pub bytes: usize,
    /// Bytes of them that a run reads, as often as it reads them.
    pub reads: u64,
    /// Bytes of all weights that it reads.
    pub all_reads: u64,
}

/// Puts those weights in front that are read the most often for each of their bytes, as many as `room` has room for. A weight of a product is counted once for each
/// multiplication, what else is constant once for each element that a step makes.
pub(super) fn order(l: &mut Lowered, room: usize) -> Hot {
    let pieces = pieces(l);
    let reads = reads(l, &pieces);
    let all_reads = reads.iter().sum();
    let mut hottest: Vec<usize> = (0..pieces.len()).collect();
    let padded = |i: usize| pieces[i].len().next_multiple_of(ALIGN);
    // By reads a byte, most first: a product of each with the other's length spares the division.
    let heat = |a: usize, b: usize| u128::from(reads[a]) * padded(b) as u128;
    hottest.sort_by(|&a, &b| heat(b, a).cmp(&heat(a, b)).then(a.cmp(&b)));
    let (mut hot, mut left) = (Hot { all_reads, ..Hot::default() }, Vec::new());
    let mut chosen = Vec::new();
    for &i in &hottest {
        if reads[i] > 0 && padded(i) <= room.saturating_sub(hot.bytes) {
            hot.bytes += padded(i);
            hot.reads += reads[i];
            chosen.push(i);
        } else {
            left.push(i);
        }
    }
    left.sort_unstable();
    let mut weights = Vec::with_capacity(l.weights.len());
    let mut moved = BTreeMap::new();
    for &i in chosen.iter().chain(&left) {
        weights.resize(weights.len().next_multiple_of(ALIGN), 0);
        moved.insert(pieces[i].start, weights.len());
        weights.extend_from_slice(&l.weights[pieces[i].clone()]);
    }
    // All of the hot ones are whole lines.
    weights.resize(weights.len().max(hot.bytes), 0);
    l.weights = weights;
    for t in &mut l.tensors {
        if let Place::Weights(at) = &mut t.place
            && let Some((start, to)) = moved.range(..=*at).next_back()
        {
            *at = to + (*at - start);
        }
    }
    hot
}

/// The weights in pieces that tensors lie in whole, in their order.
fn pieces(l: &Lowered) -> Vec<Range<usize>> {
    let places = l.tensors.iter().filter_map(|t| match t.place {
        Place::Weights(at) => Some(at..at + t.bytes()),
        Place::Buffer(_) => None,
    });
    // What moves from slice to slice takes all that it moves over.
    let moving = l.steps.iter().flat_map(|step| {
        let steps = step.band.map_or(1, |b| l.bands[b]).saturating_sub(1);
        step.inputs.iter().flatten().filter_map(move |&t| match l.tensors[t].place {
            Place::Weights(at) => Some(at..at + l.tensors[t].bytes() + l.tensors[t].advance * steps),
            Place::Buffer(_) => None,
        })
    });
    let mut places: Vec<Range<usize>> = places.chain(moving).collect();
    places.sort_by_key(|r| (r.start, r.end));
    let mut pieces: Vec<Range<usize>> = Vec::new();
    for place in places {
        match pieces.last_mut() {
            Some(last) if place.start < last.end || place.start == last.start => last.end = last.end.max(place.end),
            _ => pieces.push(place),
        }
    }
    pieces
}

/// For each piece the bytes that a run reads of it.
fn reads(l: &Lowered, pieces: &[Range<usize>]) -> Vec<u64> {
    let mut reads = vec![0u64; pieces.len()];
    for step in &l.steps {
        let slices = step.band.map_or(1, |b| l.bands[b]) as u64;
        let constants = step.inputs.iter().enumerate().filter_map(|(i, input)| match l.tensors[(*input)?].place {
            Place::Weights(at) => Some((i, at, &l.tensors[(*input)?])),
            Place::Buffer(_) => None,
        });
        let made: usize = step.outputs.iter().map(|&t| l.tensors[t].shape.iter().product::<usize>()).sum();
        for (i, at, t) in constants {
            // Input 1 of a product are its weights.
            let uses = if step.macs > 0 && i == 1 { step.macs } else { made as u64 };
            let piece = pieces.partition_point(|p| p.start <= at) - 1;
            reads[piece] = reads[piece].saturating_add(uses.saturating_mul(slices * t.dtype.size() as u64));
        }
    }
    // What moves from slice to slice is read where it was (`kinglet::rows`).
    for t in l.tensors.iter().filter(|t| t.advance != 0) {
        if let Place::Weights(at) = t.place {
            reads[pieces.partition_point(|p| p.start <= at) - 1] = 0;
        }
    }
    reads
}
