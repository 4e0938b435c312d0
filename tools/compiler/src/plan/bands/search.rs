//! The search for bands: what a run of steps would take as one.

use kinglet::bands::{Rule, Slice, Sliding, Window};

use super::known::{Known, Packs, Whole};
use super::{CACHE, CALL, PACKED, Ring, Slide};
use crate::lower::Lowered;
use crate::plan::arena::{ALIGN, Lifetime};
use crate::plan::order::buffer;

/// Most steps of a band.
const MOST_STEPS: usize = 64;

/// A step of a band that reads what another one writes: `reader` and `writer` are their places in the band.
#[derive(Clone, Copy)]
struct Read {
    reader: usize,
    window: Window,
    writer: usize,
}

/// Steps that could be a band.
struct Run<'a> {
    start: usize,
    end: usize,
    steps: Vec<&'a Known>,
    reads: Vec<Read>,
    /// Steps that fill one tensor.
    together: Vec<(usize, usize)>,
}

/// A run of steps as a band.
#[derive(Clone)]
pub(super) struct Band {
    pub(super) slices: Vec<Slice>,
    pub(super) count: u32,
    pub(super) rings: Vec<(usize, Ring)>,
    pub(super) slides: Vec<Slide>,
    /// Bytes alive at most, tensors that live through it included.
    pub(super) need: usize,
}

/// A plan's steps in order, under search.
pub(super) struct Search<'a> {
    pub(super) steps: Vec<Option<Known>>,
    lives: &'a [Lifetime],
    /// Positions of the steps that write a buffer.
    writers: Vec<Vec<usize>>,
    /// What the tensors of each buffer have in common, if each is all of it.
    whole: Vec<Option<Whole>>,
    /// Bytes of the elements of each buffer.
    widths: Vec<usize>,
    /// Buffers of the model's inputs that are there before the first step.
    inputs: Vec<usize>,
    /// Buffers of outputs whose rows the caller takes.
    taken: Vec<usize>,
    /// Buffers that each step reads or writes.
    touched: Vec<Vec<usize>>,
}

impl<'a> Search<'a> {
    pub(super) fn new(l: &Lowered, order: &[usize], lives: &'a [Lifetime]) -> Self {
        let mut writers = vec![Vec::new(); l.buffers];
        for (at, &i) in order.iter().enumerate() {
            l.steps[i].outputs.iter().filter_map(|&t| buffer(l, t)).for_each(|b| writers[b].push(at));
        }
        let mut widths = vec![1; l.buffers];
        let mut whole: Vec<Option<Option<Whole>>> = vec![None; l.buffers];
        for (t, tensor) in l.tensors.iter().enumerate() {
            let Some(b) = buffer(l, t) else { continue };
            let (n, row) = tensor.rows();
            widths[b] = tensor.dtype.size();
            let row = row * widths[b];
            let own = (tensor.advance == 0 && n * row > 0).then_some(Whole { bytes: n * row, row });
            whole[b] = Some(match (whole[b].unwrap_or(own), own) {
                (Some(a), Some(b)) if a.bytes == b.bytes => Some(Whole { row: lcm(a.row, b.row), ..a }),
                _ => None,
            });
        }
        let whole: Vec<Option<Whole>> = whole.into_iter().map(Option::flatten).collect();
        let steps = order.iter().map(|&i| Known::of(l, i, &whole)).collect();
        let inputs = l.whole_inputs().filter_map(|t| buffer(l, t)).collect();
        let taken = l.fed.iter().zip(&l.outputs).filter(|(fed, _)| **fed).filter_map(|(_, &t)| buffer(l, t)).collect();
        let operands = |i: &usize| l.steps[*i].inputs.iter().flatten().chain(&l.steps[*i].outputs);
        let touched = order.iter().map(|i| operands(i).filter_map(|&t| buffer(l, t)).collect()).collect();
        Search { steps, lives, writers, whole, widths, inputs, taken, touched }
    }

    /// Where bands that begin at a position may end: before the first step that can be in none.
    pub(super) fn ends(&self, start: usize) -> impl Iterator<Item = usize> {
        let eligible = self.steps[start..].iter().take(MOST_STEPS).take_while(|step| step.is_some()).count();
        start + 1..=start + eligible
    }

    /// The bands of the least slices that begin at a position, with their ends. Of branches that meet later, shorter ones are none.
    pub(super) fn from(&self, start: usize) -> Vec<(usize, Band)> {
        self.ends(start).filter_map(|end| Some((end, self.band(start, end, 1)?))).collect()
    }

    /// The steps `start .. end` as a band, with slices so many times larger than the least; `None` if they are none.
    pub(super) fn band(&self, start: usize, end: usize, factor: u64) -> Option<Band> {
        let steps: Vec<&Known> = self.steps[start..end].iter().map(Option::as_ref).collect::<Option<_>>()?;
        let mut reads: Vec<Read> = Vec::new();
        for (reader, step) in steps.iter().enumerate() {
            for &(b, rule) in &step.inputs {
                for at in self.writers[b].iter().filter(|at| (start..end).contains(at)) {
                    let Rule::Rows(window) = rule else { return None };
                    if self.steps[*at].as_ref().is_none_or(|s| s.folds) {
                        return None;
                    }
                    reads.push(Read { reader, window, writer: at.checked_sub(start).filter(|&i| i < reader)? });
                }
            }
        }
        // Steps that write a part of each row of one tensor go together.
        let mut together: Vec<(usize, usize)> = Vec::new();
        for (j, step) in steps.iter().enumerate() {
            let before = (0..j).rfind(|&i| steps[i].output == step.output);
            together.extend(before.map(|i| (i, j)));
        }
        // A tensor's last writer stands for all of them.
        let written_later = |s: &&Known| self.writers[s.output].last().is_some_and(|&last| last >= end);
        if together.iter().any(|&(i, j)| steps[i].row != steps[j].row) || steps.iter().any(written_later) {
            return None;
        }
        let paces = self.paces(&steps, &reads, &together)?;
        let mut asked: Vec<Slice> = Vec::new();
        for pace in paces {
            asked.push(Slice { rows: u32::try_from(pace.checked_mul(factor)?).ok()?, delay: 0 });
        }
        let strides = reads.iter().any(|r| r.window.stride > 1);
        let run = Run { start, end, steps, reads, together };
        let mut best = self.delayed(&run, &asked)?;
        // Where a reader strides, the least delay may lie between two of its rows, and keep a row that nobody reads yet; a step more
        // behind keeps it in the narrower tensor before.
        for j in (0..asked.len()).filter(|_| strides) {
            let before = asked[j].delay;
            asked[j].delay = best.slices[j].delay + 1;
            match self.delayed(&run, &asked) {
                Some(later) if later.need < best.need => best = later,
                _ => asked[j].delay = before,
            }
        }
        Some(best)
    }

    /// A run of steps as a band in which each stays behind by no less than it is asked to.
    fn delayed(&self, run: &Run<'_>, asked: &[Slice]) -> Option<Band> {
        let Run { start, end, steps, reads, together } = run;
        let (start, end) = (*start, *end);
        let mut slices = asked.to_vec();
        loop {
            let before = slices.clone();
            for (j, step) in steps.iter().enumerate() {
                for read in reads.iter().filter(|read| read.reader == j) {
                    let delay = read.window.delay(steps[read.writer].made(slices[read.writer])?);
                    slices[j].delay = slices[j].delay.max(delay);
                }
                step.made(slices[j])?;
            }
            for &(i, j) in together {
                let delay = slices[i].delay.max(slices[j].delay);
                (slices[i].delay, slices[j].delay) = (delay, delay);
            }
            if slices == before {
                break;
            }
        }
        let count = slices.iter().zip(steps).map(|(s, k)| s.count(k.rows)).max()?;
        let count = u32::try_from(count).ok().filter(|&c| c > 1 && c <= kinglet::format::MAX_SLICES)?;
        let inside = |b: usize| self.lives[b].first >= start && self.lives[b].last < end;
        let mut rings: Vec<(usize, Ring)> = Vec::new();
        for step in steps.iter().filter(|s| !s.folds) {
            let whole = self.whole[step.output]?;
            let known = rings.iter().any(|(b, _)| *b == step.output);
            let own: Vec<&Read> = reads.iter().filter(|r| steps[r.writer].output == step.output).collect();
            let taken = self.taken.contains(&step.output);
            if known || !inside(step.output) || own.is_empty() && !taken {
                continue;
            }
            // Rings hold whole rows of all that is written and read.
            let (mut needed, mut local, mut unit) = (1, true, lcm(whole.row, step.row as usize * step.width));
            let slice = slices[steps.iter().position(|s| s.output == step.output)?];
            if taken {
                let made = step.made(slice)?;
                needed = made.elements.into();
                if !(made.behind as usize * step.width).is_multiple_of(whole.row) {
                    return None;
                }
            }
            for read in own {
                let made = steps[read.writer].made(slices[read.writer])?;
                needed = needed.max(read.window.capacity(made, slices[read.reader]));
                local &= read.window.is_local(made, slices[read.reader]);
                unit = lcm(unit, read.window.row as usize * step.width);
            }
            let bytes = usize::try_from(needed).ok()?.checked_mul(step.width)?.next_multiple_of(unit).min(whole.bytes);
            // What the caller takes is a ring, or whole at the end of the run.
            if taken && bytes == whole.bytes {
                continue;
            }
            let slice = slice.rows as usize * step.row as usize * step.width;
            let local = local && bytes <= slice.next_multiple_of(unit);
            rings.push((step.output, Ring { bytes, local }));
        }
        let slides = self.slides((start, end), steps, &slices, reads, count);
        // A step alone is a band only if it writes where it has read, or its rows come or go.
        if steps.len() == 1 && slides.is_empty() && rings.is_empty() {
            return None;
        }
        let saved: usize = slides.iter().map(|s| s.saved).sum();
        let need = self.need(start, end, &rings) - saved;
        Some(Band { slices, count, rings, slides, need })
    }

    /// The least whole numbers of rows a slice for the steps, so that no reader is faster or slower than what it reads and all of them
    /// make whole rows of all that reads them; `None` if there are none, or the steps have nothing to do with each other.
    fn paces(&self, steps: &[&Known], reads: &[Read], together: &[(usize, usize)]) -> Option<Vec<u64>> {
        let ratio = |r: &Read| {
            let num = u64::from(r.window.upsample) * u64::from(steps[r.writer].row);
            let den = u64::from(r.window.stride).checked_mul(r.window.row.into())?;
            Some((r.reader, r.writer, num, den))
        };
        let of_reads = reads.iter().map(ratio).collect::<Option<Vec<_>>>()?;
        let edges: Vec<_> = of_reads.into_iter().chain(together.iter().map(|&(i, j)| (j, i, 1, 1))).collect();
        let mut paces = paces(steps.len(), &edges)?;
        let mut times = 1u64;
        for (step, pace) in steps.iter().zip(&paces).filter(|(s, _)| !s.folds) {
            let bytes = pace.checked_mul(step.row.into())?.checked_mul(step.width as u64)?;
            let rows = reads.iter().filter(|r| steps[r.writer].output == step.output);
            let rows = rows.map(|r| u64::from(r.window.row) * step.width as u64);
            for row in rows.chain([self.whole[step.output]?.row as u64]) {
                times = lcm_of(times, row / gcd(bytes, row))?;
            }
        }
        for (step, pace) in steps.iter().zip(&paces) {
            let least = step.packs.as_ref().map_or(1, Packs::least);
            times = times.checked_mul(least.div_ceil(pace.checked_mul(times)?.max(1)))?;
        }
        for pace in &mut paces {
            *pace = pace.checked_mul(times)?;
        }
        Some(paces)
    }

    /// Tensors that are born in a band and outlive it, in the bytes of those that die in it: the pairs that save most, each tensor once.
    fn slides(
        &self,
        (start, end): (usize, usize),
        steps: &[&Known],
        slices: &[Slice],
        reads: &[Read],
        count: u32,
    ) -> Vec<Slide> {
        let whole = |b: usize| self.lives[b].bytes > 0 && self.whole[b].is_some();
        let dies = |b: &usize| {
            let life = self.lives[*b];
            // An output that no ring holds stays to the end.
            let stays = self.taken.contains(b);
            whole(*b) && !stays && life.last < end && (life.first < start || self.inputs.contains(b))
        };
        let mut dying: Vec<usize> = steps.iter().flat_map(|s| s.inputs.iter().map(|(b, _)| *b)).filter(dies).collect();
        dying.sort_unstable();
        dying.dedup();
        let born = |(i, s): &(usize, &&Known)| {
            let life = self.lives[s.output];
            let apart = !s.folds && self.writers[s.output].len() == 1 && !reads.iter().any(|r| r.writer == *i);
            apart && whole(s.output) && life.first == start + i && life.last >= end
        };
        let born: Vec<usize> = steps.iter().enumerate().filter(born).map(|(i, _)| i).collect();
        let mut found = Vec::new();
        for (&from, &writer) in dying.iter().flat_map(|from| born.iter().map(move |to| (from, to))) {
            found.extend(self.slide((start, end), steps, slices, count, from, writer));
        }
        found.sort_by_key(|s| (std::cmp::Reverse(s.saved), s.from, s.to));
        let mut slides: Vec<Slide> = Vec::new();
        for slide in found {
            if slides.iter().all(|s| s.from != slide.from && s.to != slide.to) {
                slides.push(slide);
            }
        }
        slides
    }

    /// The output of step `writer` in the bytes of `from`, if that saves any.
    fn slide(
        &self,
        (start, end): (usize, usize),
        steps: &[&Known],
        slices: &[Slice],
        count: u32,
        from: usize,
        writer: usize,
    ) -> Option<Slide> {
        let rows = |j: usize| (slices[j], steps[j].rows as usize);
        let mut distance = 0;
        for (j, step) in steps.iter().enumerate() {
            for (_, rule) in step.inputs.iter().filter(|(b, _)| *b == from) {
                let Rule::Rows(window) = rule else { return None };
                let sliding = Sliding {
                    write: (
                        slices[writer],
                        steps[writer].rows as usize,
                        u64::from(steps[writer].row) * steps[writer].width as u64,
                    ),
                    read: rows(j),
                    window: (*window, u64::from(window.row) * self.widths[from] as u64),
                    before: j < writer,
                };
                distance = distance.max(usize::try_from(sliding.distance(count)).ok()?);
            }
        }
        let distance = distance.next_multiple_of(ALIGN);
        let to = steps[writer].output;
        let (size_from, size_to) = (self.lives[from].bytes, self.lives[to].bytes);
        let saved = (size_from + size_to).checked_sub((distance + size_from).max(size_to)).filter(|&n| n > 0)?;
        Some(Slide { from, to, distance, saved, band: (start, end - 1) })
    }

    /// Whether what lies between the steps of a band stays in the second cache, with room for weights and the rows that come and go.
    pub(super) fn fits_caches(&self, band: &Band) -> bool {
        band.rings.iter().map(|(_, ring)| ring.bytes).sum::<usize>() <= CACHE / 2
    }

    /// Bytes that leave the caches, more or less: tensors that do not fit them, each once, what a call costs in each slice, and what
    /// packing does.
    pub(super) fn traffic(&self, start: usize, end: usize, band: Option<&Band>) -> usize {
        let mut seen: Vec<usize> = Vec::new();
        for step in &self.touched[start..end] {
            seen.extend(step);
        }
        seen.sort_unstable();
        seen.dedup();
        let within = |b: &usize| band.is_some_and(|band| band.rings.iter().any(|(ring, _)| ring == b));
        let large = |b: &usize| self.lives[*b].bytes > CACHE && !within(b);
        let bytes: usize = seen.iter().filter(|b| large(b)).map(|&b| self.lives[b].bytes).sum();
        let slices = band.map_or(0, |b| b.count as usize);
        let packed = |p: &Packs| slices.max(p.matrices as usize) * p.bytes / PACKED;
        let packs = self.steps[start..end].iter().flatten().filter_map(|s| s.packs.as_ref());
        bytes + slices * (end - start) * CALL + packs.map(packed).sum::<usize>()
    }

    /// Bytes alive in a band: what it shares with what is outside or lives through it, its rings, and at most what lives within a
    /// slice.
    fn need(&self, start: usize, end: usize, rings: &[(usize, Ring)]) -> usize {
        let mut all = 0;
        let mut local = vec![0; end - start];
        for (b, life) in self.lives.iter().enumerate().filter(|(_, l)| l.bytes > 0 && l.first < end && l.last >= start)
        {
            match rings.iter().find(|(ring, _)| *ring == b) {
                Some((_, ring)) if ring.local => {
                    local[life.first - start..=life.last - start].iter_mut().for_each(|n| *n += ring.bytes);
                }
                Some((_, ring)) => all += ring.bytes,
                None => all += life.bytes,
            }
        }
        all + local.into_iter().max().unwrap_or(0)
    }
}

/// The least whole numbers, one for each of `n` steps, of which each `edge` (to, from, num, den) makes one `num / den` of another;
/// `None` if there are none, or not all have to do with each other.
fn paces(n: usize, edges: &[(usize, usize, u64, u64)]) -> Option<Vec<u64>> {
    let mut paces: Vec<Option<(u64, u64)>> = vec![None; n];
    paces[0] = Some((1, 1));
    loop {
        let mut news = false;
        for &(to, from, num, den) in edges {
            let next = |(a, b): (u64, u64), (num, den): (u64, u64)| -> Option<(u64, u64)> {
                let common = gcd(num, den);
                let (a, b) = (a.checked_mul(num / common)?, b.checked_mul(den / common)?);
                let g = gcd(a, b);
                Some((a / g, b / g))
            };
            match (paces[from], paces[to]) {
                (Some(of), None) => (paces[to], news) = (Some(next(of, (num, den))?), true),
                (None, Some(of)) => (paces[from], news) = (Some(next(of, (den, num))?), true),
                (Some(made), Some(read)) if next(made, (num, den))? != read => return None,
                _ => {}
            }
        }
        if !news {
            break;
        }
    }
    let paces: Vec<(u64, u64)> = paces.into_iter().collect::<Option<_>>()?;
    let least = paces.iter().try_fold(1u64, |m, (_, b)| m.checked_mul(b / gcd(m, *b)))?;
    let whole: Vec<u64> = paces.iter().map(|(a, b)| a.checked_mul(least / b)).collect::<Option<_>>()?;
    let common = whole.iter().fold(0, |g, &v| gcd(g, v));
    Some(whole.iter().map(|v| v / common).collect())
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn lcm(a: usize, b: usize) -> usize {
    a / gcd(a as u64, b as u64).max(1) as usize * b
}

fn lcm_of(a: u64, b: u64) -> Option<u64> {
    a.checked_mul(b / gcd(a, b).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paces_are_the_least_that_fit_each_other() {
        // A step of stride 2, one of stride 3 behind it, and one that doubles the rows.
        let edges = [(1, 0, 1, 2), (2, 1, 1, 3), (3, 2, 2, 1)];
        assert_eq!(paces(4, &edges), Some(vec![6, 3, 1, 2]));
        // A branch that comes back at another pace.
        assert_eq!(paces(2, &[(1, 0, 1, 2), (1, 0, 1, 1)]), None);
        // Steps that have nothing to do with each other.
        assert_eq!(paces(2, &[]), None);
    }
}
