//! Bands of rows: which runs of steps are executed a few rows at a time, so that the arena is as small as it can be.
//!
//! The peak over the order is the least that any cut of it into single steps and bands has. What a band takes is known from the
//! arithmetic of [`kinglet::bands`]: whole tensors that it shares with steps outside, and of what lies between its steps the rows
//! that are still needed.

use kinglet::bands::{Made, Rule, Slice, Window};
use kinglet::kernels;

use super::arena::Lifetime;
use super::order::buffer;
use crate::lower::{Lowered, rows_of};

/// Most steps of a band.
const MOST_STEPS: usize = 64;
/// Steps above which no bands are looked for: the search looks at every run of them.
const MOST_OF_PLAN: usize = 4000;
/// Slices are made so many times larger than they must be, where that fits under the same peak: fewer calls.
const FACTORS: [u64; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Bytes of a host's second cache: what is larger is taken to leave it.
const CACHE: usize = 1 << 20;
/// What the call of a step costs, in bytes that could be moved meanwhile: 0.3 µs at 30 GB/s.
const CALL: usize = 8 << 10;

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

/// What the planner knows of a step that can be in a band.
struct Known {
    output: usize,
    inputs: Vec<(usize, Rule)>,
    rows: u64,
    /// Elements of an output row.
    row: u32,
    /// Bytes of an element of the output.
    width: usize,
}

impl Known {
    fn made(&self, slice: Slice) -> Option<Made> {
        slice.made(self.row)
    }
}

/// A step of a band that reads what another one writes: `reader` and `writer` are their places in the band.
#[derive(Clone, Copy)]
struct Read {
    reader: usize,
    window: Window,
    writer: usize,
}

/// What all tensors of a buffer have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Whole {
    bytes: usize,
    /// Bytes of the shortest run of whole rows of each.
    row: usize,
}

/// A run of steps as a band.
#[derive(Clone)]
struct Band {
    slices: Vec<Slice>,
    count: u32,
    rings: Vec<(usize, Ring)>,
    slide: Option<Slide>,
    /// Bytes alive at most, tensors that live through it included.
    need: usize,
}

/// A plan's steps in order, under search.
struct Search<'a> {
    steps: Vec<Option<Known>>,
    lives: &'a [Lifetime],
    /// Positions of the steps that write a buffer.
    writers: Vec<Vec<usize>>,
    /// What the tensors of each buffer have in common, if each is all of it.
    whole: Vec<Option<Whole>>,
    /// Bytes of the elements of each buffer.
    widths: Vec<usize>,
    /// Buffers of the model's inputs.
    inputs: Vec<usize>,
    /// Buffers that each step reads or writes.
    touched: Vec<Vec<usize>>,
}

/// Chooses the bands with which the least memory is taken, or the fewest with which no more than `most` is. `alive` are the bytes alive
/// at each position without any, `lives` the lifetimes of the buffers, none of which takes another's place.
pub(super) fn smallest(l: &Lowered, order: &[usize], lives: &[Lifetime], alive: &[usize], most: usize) -> Bands {
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
    // Under that peak the fewest steps in bands.
    let most = peak[n].max(most);
    let cut = cheapest(n, |i| {
        let alone = (alive[i] <= most).then_some((i + 1, 0));
        let bands = runs[i].iter().filter(|(_, b)| b.need <= most).map(|(end, _)| (*end, end - i));
        alone.into_iter().chain(bands).collect()
    });
    let larger = |(start, end): (usize, usize)| {
        let mut larger = FACTORS.iter().rev().filter_map(|&f| search.band(start, end, f));
        larger.find(|b| b.need <= most).expect("the least slices fit")
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
        let bands = search.ends(i).filter_map(|end| Some((end, best(i, end)?.0)));
        [(i + 1, search.traffic(i, i + 1, None))].into_iter().chain(bands).collect()
    });
    let chosen =
        cut.into_iter().map(|(start, end)| ((start, end), best(start, end).expect("it was chosen").1)).collect();
    Bands::of(l, &search, chosen)
}

/// The runs of several steps in the cheapest cut of `n` steps. `runs` gives the ends and the costs of the runs that begin at a position.
fn cheapest(n: usize, runs: impl Fn(usize) -> Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    let mut cost: Vec<Option<usize>> = vec![None; n + 1];
    let mut from = vec![0; n + 1];
    cost[0] = Some(0);
    for i in 0..n {
        let Some(so_far) = cost[i] else { continue };
        for (end, more) in runs(i) {
            if cost[end].is_none_or(|c| so_far + more < c) {
                (cost[end], from[end]) = (Some(so_far + more), i);
            }
        }
    }
    let mut cut = Vec::new();
    let mut end = n;
    while end > 0 {
        if end - from[end] > 1 {
            cut.push((from[end], end));
        }
        end = from[end];
    }
    cut.reverse();
    cut
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
            bands.slides.extend(band.slide);
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

impl<'a> Search<'a> {
    fn new(l: &Lowered, order: &[usize], lives: &'a [Lifetime]) -> Self {
        let mut writers = vec![Vec::new(); l.buffers];
        for (at, &i) in order.iter().enumerate() {
            l.steps[i].outputs.iter().filter_map(|&t| buffer(l, t)).for_each(|b| writers[b].push(at));
        }
        let mut widths = vec![1; l.buffers];
        let mut whole: Vec<Option<Option<Whole>>> = vec![None; l.buffers];
        for (t, tensor) in l.tensors.iter().enumerate() {
            let Some(b) = buffer(l, t) else { continue };
            let (n, row) = rows_of(&tensor.shape);
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
        let inputs = l.inputs.iter().filter_map(|&t| buffer(l, t)).collect();
        let operands = |i: &usize| l.steps[*i].inputs.iter().flatten().chain(&l.steps[*i].outputs);
        let touched = order.iter().map(|i| operands(i).filter_map(|&t| buffer(l, t)).collect()).collect();
        Search { steps, lives, writers, whole, widths, inputs, touched }
    }

    /// Where bands that begin at a position may end: two steps on or more, and before the first that can be in none.
    fn ends(&self, start: usize) -> impl Iterator<Item = usize> {
        let eligible = self.steps[start..].iter().take(MOST_STEPS).take_while(|step| step.is_some()).count();
        start + 2..=start + eligible
    }

    /// The bands of the least slices that begin at a position, with their ends. Of branches that meet later, shorter ones are none.
    fn from(&self, start: usize) -> Vec<(usize, Band)> {
        self.ends(start).filter_map(|end| Some((end, self.band(start, end, 1)?))).collect()
    }

    /// The steps `start .. end` as a band, with slices so many times larger than the least; `None` if they are none.
    fn band(&self, start: usize, end: usize, factor: u64) -> Option<Band> {
        let steps: Vec<&Known> = self.steps[start..end].iter().map(Option::as_ref).collect::<Option<_>>()?;
        let mut reads: Vec<Read> = Vec::new();
        for (reader, step) in steps.iter().enumerate() {
            for &(b, rule) in &step.inputs {
                for at in self.writers[b].iter().filter(|at| (start..end).contains(at)) {
                    let Rule::Rows(window) = rule else { return None };
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
        if together.iter().any(|&(i, j)| steps[i].row != steps[j].row) {
            return None;
        }
        let paces = self.paces(&steps, &reads, &together)?;
        let mut slices: Vec<Slice> = Vec::new();
        for pace in paces {
            slices.push(Slice { rows: u32::try_from(pace.checked_mul(factor)?).ok()?, delay: 0 });
        }
        loop {
            let before = slices.clone();
            for (j, step) in steps.iter().enumerate() {
                for read in reads.iter().filter(|read| read.reader == j) {
                    let delay = read.window.delay(steps[read.writer].made(slices[read.writer])?);
                    slices[j].delay = slices[j].delay.max(delay);
                }
                step.made(slices[j])?;
            }
            for &(i, j) in &together {
                let delay = slices[i].delay.max(slices[j].delay);
                (slices[i].delay, slices[j].delay) = (delay, delay);
            }
            if slices == before {
                break;
            }
        }
        let count = slices.iter().zip(&steps).map(|(s, k)| s.count(k.rows)).max()?;
        let count = u32::try_from(count).ok().filter(|&c| c > 1 && c <= kinglet::format::MAX_SLICES)?;
        let inside = |b: usize| self.lives[b].first >= start && self.lives[b].last < end;
        let mut rings: Vec<(usize, Ring)> = Vec::new();
        for step in &steps {
            let whole = self.whole[step.output]?;
            let known = rings.iter().any(|(b, _)| *b == step.output);
            let own: Vec<&Read> = reads.iter().filter(|r| steps[r.writer].output == step.output).collect();
            if known || !inside(step.output) || own.is_empty() {
                continue;
            }
            // Rings hold whole rows of all that is written and read.
            let (mut needed, mut local, mut unit) = (1, true, lcm(whole.row, step.row as usize * step.width));
            for read in own {
                let made = steps[read.writer].made(slices[read.writer])?;
                needed = needed.max(read.window.capacity(made, slices[read.reader]));
                local &= read.window.is_local(made, slices[read.reader]);
                unit = lcm(unit, read.window.row as usize * step.width);
            }
            let bytes = usize::try_from(needed).ok()?.checked_mul(step.width)?.next_multiple_of(unit).min(whole.bytes);
            let slice = slices[steps.iter().position(|s| s.output == step.output)?].rows as usize * step.row as usize;
            let local = local && bytes <= (slice * step.width).next_multiple_of(unit);
            rings.push((step.output, Ring { bytes, local }));
        }
        let slide = self.slide((start, end), &steps, &slices, &reads, count);
        let saved = slide.map_or(0, |s| s.saved);
        let need = self.need(start, end, &rings) - saved;
        Some(Band { slices, count, rings, slide, need })
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
        for (step, pace) in steps.iter().zip(&paces) {
            let bytes = pace.checked_mul(step.row.into())?.checked_mul(step.width as u64)?;
            let rows = reads.iter().filter(|r| steps[r.writer].output == step.output);
            let rows = rows.map(|r| u64::from(r.window.row) * step.width as u64);
            for row in rows.chain([self.whole[step.output]?.row as u64]) {
                times = lcm_of(times, row / gcd(bytes, row))?;
            }
        }
        for pace in &mut paces {
            *pace = pace.checked_mul(times)?;
        }
        Some(paces)
    }

    /// The largest tensor that is born in a band and outlives it, in the bytes of the largest that dies in it, if all that is read of this
    /// is read by steps before the one that writes the other.
    fn slide(
        &self,
        (start, end): (usize, usize),
        steps: &[&Known],
        slices: &[Slice],
        reads: &[Read],
        count: u32,
    ) -> Option<Slide> {
        let whole = |b: usize| self.lives[b].bytes > 0 && self.whole[b].is_some();
        let dies = |b: &usize| whole(*b) && self.lives[*b].first < start && self.lives[*b].last < end;
        let operands = steps.iter().flat_map(|s| s.inputs.iter().map(|(b, _)| *b));
        // An input of the model is there before the first step.
        let from = operands.filter(|b| dies(b) || (self.inputs.contains(b) && whole(*b) && self.lives[*b].last < end));
        let from = from.max_by_key(|&b| self.lives[b].bytes)?;
        let born = |(i, s): &(usize, &&Known)| {
            let life = self.lives[s.output];
            whole(s.output)
                && life.first == start + i
                && life.last >= end
                && !reads.iter().any(|r| r.writer == *i)
                && self.writers[s.output].len() == 1
        };
        let (writer, to) = steps
            .iter()
            .enumerate()
            .filter(born)
            .map(|(i, s)| (i, s.output))
            .max_by_key(|(_, b)| self.lives[*b].bytes)?;
        // Windows over it from outside of the band, and bytes of its elements; all of its readers stand before the writer.
        let mut readers: Vec<(usize, Window)> = Vec::new();
        for (j, step) in steps.iter().enumerate() {
            for (_, rule) in step.inputs.iter().filter(|(b, _)| *b == from) {
                let Rule::Rows(window) = rule else { return None };
                readers.push((j, *window));
            }
        }
        if readers.iter().any(|(j, _)| *j >= writer) {
            return None;
        }
        let distance = (0..count).map(|slice| {
            let row = steps[writer].row as usize * steps[writer].width;
            let written = slices[writer].of(slice, steps[writer].rows as usize).end * row;
            // What is still read in the next slices.
            let needed = readers.iter().map(|&(j, w)| {
                let next = slices[j].of(slice + 1, steps[j].rows as usize);
                if next.start as u64 >= steps[j].rows {
                    usize::MAX
                } else {
                    w.first(next.start as u64) as usize * w.row as usize * self.widths[from]
                }
            });
            written.saturating_sub(needed.min().unwrap_or(usize::MAX))
        });
        let distance = distance.max()?.next_multiple_of(super::arena::ALIGN);
        let (size_from, size_to) = (self.lives[from].bytes, self.lives[to].bytes);
        let saved = (size_from + size_to).checked_sub((distance + size_from).max(size_to)).filter(|&n| n > 0)?;
        Some(Slide { from, to, distance, saved, band: (start, end - 1) })
    }

    /// Whether what lies between the steps of a band stays in the second cache, with room for weights and the rows that come and go.
    fn fits_caches(&self, band: &Band) -> bool {
        band.rings.iter().map(|(_, ring)| ring.bytes).sum::<usize>() <= CACHE / 2
    }

    /// Bytes that leave the caches, more or less: tensors that do not fit them, each once, and what a call costs in each slice.
    fn traffic(&self, start: usize, end: usize, band: Option<&Band>) -> usize {
        let mut seen: Vec<usize> = Vec::new();
        for step in &self.touched[start..end] {
            seen.extend(step);
        }
        seen.sort_unstable();
        seen.dedup();
        let within = |b: &usize| band.is_some_and(|band| band.rings.iter().any(|(ring, _)| ring == b));
        let large = |b: &usize| self.lives[*b].bytes > CACHE && !within(b);
        let bytes: usize = seen.iter().filter(|b| large(b)).map(|&b| self.lives[b].bytes).sum();
        bytes + band.map_or(0, |b| b.count as usize * (end - start) * CALL)
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

impl Known {
    fn of(l: &Lowered, i: usize, whole: &[Option<Whole>]) -> Option<Known> {
        let step = &l.steps[i];
        let &[output] = &step.outputs[..] else { return None };
        let words: Vec<u8> = step.params.iter().flat_map(|w| w.to_le_bytes()).collect();
        let rules = kernels::rules(step.kind, &kinglet::format::words::Words::new(&words), 0)?;
        let b = buffer(l, output).filter(|_| step.band.is_none())?;
        let width = l.tensors[output].dtype.size();
        if whole[b]?.bytes != step.rows * rules.row as usize * width {
            return None;
        }
        let inputs = step.inputs.iter().zip(rules.inputs).filter_map(|(t, rule)| Some(((*t)?, rule)));
        let inputs = inputs.filter_map(|(t, rule)| {
            let b = buffer(l, t)?;
            // Windows over rows that do not make up the tensor are none.
            let bytes = |w: Window| w.row as usize * l.tensors[t].dtype.size();
            let fits = |w: Window| whole[b].is_some_and(|whole| bytes(w) > 0 && whole.bytes.is_multiple_of(bytes(w)));
            Some((
                b,
                match rule {
                    Rule::Rows(w) if fits(w) => Rule::Rows(w),
                    _ => Rule::Whole,
                },
            ))
        });
        Some(Known { output: b, inputs: inputs.collect(), rows: step.rows as u64, row: rules.row, width })
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
