//! A loaded plan runs on every kernel set, in several tiles, between guards.

use std::ops::{ControlFlow, Range};
use std::time::{Duration, Instant};

use kinglet::format::{Region, TensorRecord};
use kinglet::{DType, Error, Feed, Inline, Kernels, Model, Quiet, Ram, Reference, Session, StepKind, Workers};

use super::{caught, plan};
use crate::one_node::SUMMING;
use crate::{Aligned, Random};

/// Arenas above this are not allocated.
const MOST_ARENA: usize = 64 << 20;
/// Plans of more work than this are not run: a band may have very many slices.
const MOST_WORK: u64 = 1 << 26;
/// Plans of more work than this are run once only.
const MOST_WORK_EVERYWHERE: u64 = 1 << 22;
/// Longest time of a unit of work, and of a run besides: what `Model::work` promises, with room for a busy machine and code that
/// is hardly optimised.
const UNIT: Duration = Duration::from_nanos(200);
const REST: Duration = Duration::from_secs(2);
/// Bytes around the arena that a run must not touch.
const GUARD: usize = 256;
/// Numbers of tiles that a step may be cut into.
const TILES: [usize; 4] = [1, 2, 3, 7];

/// Workers that take the tiles of a step one by one, last first.
struct Backwards(usize);

// SAFETY: each tile is called once, and all calls have returned at the end.
unsafe impl Workers for Backwards {
    fn count(&self) -> usize {
        self.0
    }

    fn for_each_tile(&self, tiles: usize, f: &(dyn Fn(usize) + Sync)) {
        (0..tiles).rev().for_each(f);
    }
}

/// What a run gives.
#[derive(Debug, PartialEq)]
struct Answer {
    result: Result<(), Error>,
    outputs: Vec<(DType, Vec<u8>)>,
}

impl Answer {
    /// The first output in which two runs differ, but for what a NaN carries. `None` if they are alike.
    fn differs(&self, other: &Answer) -> Option<String> {
        if self.result != other.result {
            return Some(format!("{:?} and {:?}", self.result, other.result));
        }
        let float = |b: &[u8]| f32::from_le_bytes(b.try_into().expect("four bytes"));
        let alike = |(dtype, a): &(DType, Vec<u8>), b: &[u8]| match dtype {
            DType::F32 => {
                a.chunks_exact(4).zip(b.chunks_exact(4)).all(|(a, b)| a == b || float(a).is_nan() && float(b).is_nan())
            }
            _ => a == b,
        };
        let i = (0..self.outputs.len()).find(|&i| !alike(&self.outputs[i], &other.outputs[i].1))?;
        Some(format!("output {i} of type {} differs", self.outputs[i].0.name()))
    }
}

/// Whether the session of a plan is small enough to be tried with so many tiles, and its run is not too much work.
fn fits(model: &Model<'_>, tiles: usize, most_work: u64) -> bool {
    let ram = model.arena_bytes_for(tiles).max(model.arena_bytes()).max(model.slow_bytes());
    ram <= MOST_ARENA && model.work() <= most_work
}

/// Runs a loaded plan between guards, from an arena of bits that `seed` decides.
fn once(model: Model<'_>, kernels: &dyn Kernels, tiles: usize, seed: u64) -> Answer {
    let arena = if tiles == 1 { model.arena_bytes() } else { model.arena_bytes_for(tiles) };
    let mut memory = Aligned::zeroed(GUARD + arena + GUARD);
    let bytes = memory.as_mut();
    bytes.fill(0xC3);
    fill(&mut bytes[GUARD..GUARD + model.arena_bytes()], &mut Random::new(seed));
    let mut slow_memory = Aligned::zeroed(GUARD + model.slow_bytes() + GUARD);
    let slow = slow_memory.as_mut();
    slow.fill(0xC3);
    fill(&mut slow[GUARD..GUARD + model.slow_bytes()], &mut Random::new(seed + 1));
    let start = Instant::now();
    let ram = Ram { arena: &mut bytes[GUARD..GUARD + arena], slow: &mut slow[GUARD..GUARD + model.slow_bytes()] };
    let mut session = Session::new(model, ram, kernels).expect("the memory is as asked");
    for i in 0..model.input_count() {
        let fed = session.input_bytes_mut(i).err();
        assert_eq!(fed, model.input_comes_by_rows(i).then_some(Error::Fed), "an input");
        if seed.is_multiple_of(2) {
            session.set_default(i).ok();
        }
    }
    let mut feed = Rows { random: Random::new(seed), taken: vec![Vec::new(); model.output_count()] };
    let result = match (tiles, model.is_fed()) {
        (1, false) => session.run_with(&Inline, &mut Quiet),
        (_, false) => session.run_with(&Backwards(tiles), &mut Quiet),
        (1, true) => session.run_rows(&mut feed, &Inline, &mut Quiet),
        (_, true) => session.run_rows(&mut feed, &Backwards(tiles), &mut Quiet),
    };
    // The data is random: an index may be out of range, a divisor 0, a loop may want to go on.
    use Error::{DivisionByZero, IndexOutOfRange, TooManyTrips};
    let answered = matches!(result, Ok(()) | Err(IndexOutOfRange { .. } | DivisionByZero { .. } | TooManyTrips { .. }));
    assert!(answered, "{result:?}");
    let most = REST + UNIT * u32::try_from(model.work()).expect("MOST_WORK");
    assert!(start.elapsed() < most, "a run took {:?} for {} units of work", start.elapsed(), model.work());
    // What a file says is an output may be written by no step, or others may have written there later: what they have left is no answer. (Of a NaN in
    // 16 bits, say, which another one is as good as.)
    let writes = |i: usize, t: usize| (0..2).any(|k| model.step(i).output(k) == Some(t));
    let touches = |i: usize, t: usize| {
        let (own, slow) = (model.tensor(t).0, |t: &TensorRecord| t.region == Region::Slow);
        (0..2).filter_map(|k| model.step(i).output(k)).map(|other| model.tensor(other).0).any(|other| {
            let apart = other.offset >= own.offset + own.bytes || own.offset >= other.offset + other.bytes;
            slow(&other) == slow(&own) && !apart
        })
    };
    let written = |t: usize| (0..model.step_count()).rev().find(|&i| touches(i, t)).is_some_and(|i| writes(i, t));
    let output = |i: usize| {
        let tensor = model.output_tensor(i).expect("an output");
        let bytes = session.output_bytes(i).map(|b| if written(tensor) { b.to_vec() } else { Vec::new() });
        (model.tensor(tensor).dtype(), bytes.unwrap_or_else(|_| feed.taken[i].clone()))
    };
    let outputs = (0..model.output_count()).map(output).collect();
    let guards = bytes[..GUARD].iter().chain(&bytes[GUARD + arena..]);
    let guards = guards.chain(&slow[..GUARD]).chain(&slow[GUARD + model.slow_bytes()..]);
    assert!(guards.copied().all(|b| b == 0xC3), "memory around the arena or the slow memory was written");
    Answer { result, outputs }
}

/// Gives any rows, and keeps those that it takes.
struct Rows {
    random: Random,
    taken: Vec<Vec<u8>>,
}

impl Feed for Rows {
    fn give(&mut self, _: usize, rows: Range<usize>, to: &mut [u8]) -> ControlFlow<()> {
        assert!(!rows.is_empty() && !to.is_empty());
        fill(to, &mut self.random);
        ControlFlow::Continue(())
    }

    fn take(&mut self, output: usize, _: Range<usize>, from: &[u8]) -> ControlFlow<()> {
        self.taken[output].extend_from_slice(from);
        ControlFlow::Continue(())
    }
}

/// Fills an arena: every other time with any bits, else with bits that are small as floats, too.
fn fill(arena: &mut [u8], random: &mut Random) {
    let calm = random.below(2) == 0;
    for b in arena.chunks_mut(4).take(1 << 17) {
        let mut bits = (random.below(1 << 16) | random.below(1 << 16) << 16) as u32;
        if calm {
            bits = bits & 0x81FF_FFFF | 0x3E00_0000;
        }
        b.copy_from_slice(&bits.to_le_bytes()[..b.len()]);
    }
}

/// Asks a loaded model for everything it can tell.
fn read(model: &Model<'_>) {
    for i in 0..model.output_count().max(model.input_count()) {
        let _ = (model.output_name(i), model.input_name(i), model.input_default(i));
    }
    for i in 0..model.step_count() {
        let _ = (model.step(i).name(), model.step(i).source_nodes().count(), model.step(i).macs(), model.slices(i));
        reads(model, i);
    }
    let _ = (model.metadata().count(), model.check_weights());
}

/// Asks a step for what it reads, which lies within its inputs.
fn reads(model: &Model<'_>, step: usize) {
    let step = model.step(step);
    let n = step.rows();
    for input in 0..step.record().inputs as usize + 1 {
        // Of a ring those of all rows, wherever they lie.
        let elements = |t: &TensorRecord| t.row_bytes as usize * t.rows as usize / t.dtype.size();
        let most = step.input(input).map_or(0, |t| elements(&model.tensor(t).0));
        for rows in [0..n, 0..1, n / 2..n / 2 + 1, n.saturating_sub(1)..n, n / 3..usize::MAX, n..0] {
            let said = kinglet::kernels::reads(&step, input, rows.clone()).unwrap_or(0..most);
            let fits = said.start <= said.end && said.end <= most;
            assert!(fits, "rows {rows:?} of a {:?} read {said:?} of input {input}, which has {most}", step.kind());
        }
    }
}

/// The sets of kernels that this machine has and that take the weights of a plan as they lie.
fn kernel_sets(model: &Model<'_>) -> Vec<(&'static str, &'static dyn Kernels)> {
    kinglet_native::kernel_sets().iter().filter(|(_, k)| kinglet::runs_on(model, *k).is_ok()).copied().collect()
}

/// Whether sets of kernels may differ in the last bits: where floats are multiplied with constant weights.
fn sums_floats(model: &Model<'_>) -> bool {
    (0..model.step_count()).any(|i| model.step(i).kind().is_some_and(|k| SUMMING.contains(&k)))
}

/// Whether what fills up the lines and panels of packed weights is zero, as the format says. Nothing checks it on loading; where
/// it is not, some kernels multiply it with what happens to lie behind their inputs.
fn filled_with_zeros(model: &Model<'_>) -> bool {
    use StepKind::{ConvI8, DepthwiseI8};
    (0..model.step_count()).all(|i| {
        let step = model.step(i);
        let bytes = step.kind().is_some_and(|k| [ConvI8, DepthwiseI8].contains(&k));
        let Some((p, depthwise)) = step.product().filter(|_| bytes) else { return true };
        let Some(t) = step.input(1).map(|t| model.tensor(t).0) else { return true };
        let e = p.extents(depthwise);
        let mut rest = model.weights()[t.offset as usize..][..t.bytes as usize].to_vec();
        for (group, channel) in (0..e.groups).flat_map(|g| (0..e.channels).map(move |c| (g, c))) {
            for (line, i) in (0..e.lines).flat_map(|l| (0..e.length).map(move |i| (l, i))) {
                rest[p.packing.at(&e, group, channel, line, i)] = 0;
            }
        }
        rest.iter().all(|&w| w == 0)
    })
}

/// Runs a loaded plan once, on any kernels in any number of tiles; not if it is too large.
pub fn run(model: Model<'_>, random: &mut Random) {
    read(&model);
    let sets = kernel_sets(&model);
    let ((_, kernels), tiles) = (sets[random.below(sets.len())], TILES[random.below(TILES.len())]);
    if fits(&model, tiles, MOST_WORK) {
        once(model, kernels, tiles, random.below(1 << 16) as u64);
    }
}

/// Runs a loaded plan on every kernel set in every number of tiles, and compares what comes out. `false` if it is too large to
/// be run.
///
/// # Errors
/// A run that differs from the first.
pub fn everywhere(model: Model<'_>, random: &mut Random) -> Result<bool, String> {
    read(&model);
    if !fits(&model, TILES[TILES.len() - 1], MOST_WORK) {
        return Ok(false);
    }
    let seed = random.below(1 << 16) as u64;
    let first = once(model, &Reference, 1, seed);
    if model.work() > MOST_WORK_EVERYWHERE || !filled_with_zeros(&model) {
        return Ok(true);
    }
    for (set, kernels) in kernel_sets(&model) {
        let whole = once(model, kernels, 1, seed);
        if let Some(difference) = first.differs(&whole).filter(|_| !sums_floats(&model)) {
            return Err(format!("the kernels {set}: {difference}"));
        }
        for tiles in &TILES[1..] {
            if let Some(difference) = whole.differs(&once(model, kernels, *tiles, seed)) {
                return Err(format!("the kernels {set} in {tiles} tiles: {difference}"));
            }
        }
    }
    Ok(true)
}

/// Loads and runs a mutated file; says what went wrong, if it panicked. `Ok(true)` if it loaded.
pub fn survives(file: &Aligned, random: &mut Random) -> Result<bool, String> {
    caught(|| {
        let model = Model::load(file.as_ref());
        Ok(model.map(|m| run(m, random)).is_ok())
    })
}

/// Loads any bytes, as they are and with their checksums made anew; what loads is run [everywhere], in tiles. `Ok(true)` if it
/// loaded.
///
/// # Errors
/// What no file may cause, other than a panic.
pub fn bytes(bytes: &[u8]) -> Result<bool, String> {
    let mut file = Aligned::copy(bytes);
    let plain = Model::load(file.as_ref()).map(|m| read(&m)).is_ok();
    plan::reseal(file.as_mut());
    match Model::load(file.as_ref()) {
        Ok(m) => read(&m),
        Err(_) if plain => return Err("what loads does not with its checksums made anew".into()),
        Err(_) => return Ok(false),
    }
    plan::demand_tiles(file.as_mut());
    let model = Model::load(file.as_ref()).map_err(|e| format!("it does not load with other reports: {e}"))?;
    everywhere(model, &mut Random::new(kinglet::format::checksum(bytes, 0)))?;
    Ok(true)
}
