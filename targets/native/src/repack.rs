//! A plan for one target made into a plan for another: the weights of its products lie in another order.
//!
//! A model compiled for another target than the machine's runs everywhere, on portable loops. Where there are better ones its weights are
//! brought into their order once, when the first session is made.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use kinglet::format::words::{Record, Words};
use kinglet::format::{
    ALIGN, CHECKED_FROM, HEADER_BYTES, Region, SECTION_ENTRY_BYTES, Section, StepRecord, TensorRecord, VERSION,
    checksum,
};
use kinglet::kernels::{Conv, MatMul};
use kinglet::product::{Extents, Packing, WordOrder};
use kinglet::{DType, Model, StepKind, Target};

use crate::Error;
use crate::aligned::Aligned;

/// Operands of a product with constant weights.
const WEIGHTS: usize = 1;
const BIAS: usize = 2;
const ZEROS: usize = 7;
const INTEGERS: usize = 8;
/// Weights that fill up panels may make those of a product so many times more, or so many in all.
const MOST_GROWTH: u32 = 16;
const SMALL: u32 = 4096;
/// Where the header says how long the arena is.
const ARENA_AT: usize = 28;

/// Constants of a product in another order.
#[derive(Clone)]
struct Job {
    step: usize,
    depthwise: bool,
    old: Conv,
    new: Conv,
    /// How much larger inputs become.
    moved: i32,
}

/// What comes of it: the weights, and the bias if it is another.
type Done = (Vec<u8>, Option<Vec<u8>>);

/// The plan in `bytes` for `target`; `None` if there is nothing to change. `bytes` is a valid model.
///
/// # Errors
/// [`Error::Memory`].
pub(crate) fn repacked(bytes: &[u8], model: &Model<'_>, target: Target) -> Result<Option<Aligned>, Error> {
    let jobs: Vec<Job> = (0..model.step_count()).filter_map(|i| Job::of(model, i, target)).collect();
    let matrices: Vec<(usize, MatMul)> =
        (0..model.step_count()).filter_map(|i| Some((i, matrices(model, i, target)?))).collect();
    if jobs.is_empty() && matrices.is_empty() {
        return Ok(None);
    }
    // Steps that share their weights (in the body of a loop that was written out, say) share them again.
    let mut known: HashMap<Vec<u32>, usize> = HashMap::new();
    let mut distinct: Vec<&Job> = Vec::new();
    let which: Vec<usize> = jobs
        .iter()
        .map(|job| {
            *known.entry(job.key(model)).or_insert_with(|| {
                distinct.push(job);
                distinct.len() - 1
            })
        })
        .collect();
    let done = in_parallel(&distinct, |job| job.constants(model));
    let mut plan = Plan::of(bytes, model);
    let mut places = Vec::new();
    for (job, (weights, bias)) in distinct.iter().zip(done) {
        let operand = |i: usize| model.step(job.step).input(i).map(|t| model.tensor(t).0);
        let weights = operand(WEIGHTS).map(|t| plan.constant(t, &weights));
        let bias = bias.and_then(|b| Some(plan.constant(operand(BIAS)?, &b)));
        places.push((weights, bias));
    }
    for (job, which) in jobs.iter().zip(which) {
        plan.change(model, job, places[which]);
    }
    for (i, p) in &matrices {
        let record = *model.step(*i).record();
        let scratch = p.scratch(left_type(model, *i));
        plan.step(*i, record, p, p.columns(), scratch);
    }
    plan.finish(bytes, model, target).map(Some)
}

fn left_type(model: &Model<'_>, step: usize) -> DType {
    model.step(step).input(0).map_or(DType::F32, |t| model.tensor(t).dtype())
}

/// The parameters of step `i` for `target`, if it is a product of two computed tensors and they change.
fn matrices(model: &Model<'_>, i: usize, target: Target) -> Option<MatMul> {
    let step = model.step(i);
    let bytes = match step.kind()? {
        StepKind::MatMulF32 => false,
        StepKind::MatMulI8 => true,
        _ => return None,
    };
    let old: MatMul = step.params()?;
    let (packing, tile) = target.info().matrices(bytes, old.m, old.k as usize);
    let new = MatMul { packing, tile, ..old };
    (new != old).then_some(new)
}

/// The results of `f` on all of `list`, by as many threads as the machine has.
fn in_parallel<T: Sync, R: Send>(list: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(list.len()).max(1);
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(list.len())));
    let work = || {
        while let Some(i) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&i| i < list.len()) {
            let result = f(&list[i]);
            results.lock().unwrap_or_else(PoisonError::into_inner).push((i, result));
        }
    };
    std::thread::scope(|s| {
        for _ in 1..threads {
            s.spawn(work);
        }
        work();
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_unstable_by_key(|(i, _)| *i);
    results.into_iter().map(|(_, r)| r).collect()
}

impl Job {
    fn of(model: &Model<'_>, i: usize, target: Target) -> Option<Job> {
        let (step, info) = (model.step(i), target.info());
        let (old, depthwise) = step.product()?;
        let e = old.extents(depthwise);
        let bytes = matches!(step.kind(), Some(StepKind::ConvI8 | StepKind::DepthwiseI8));
        let packing = info.packing(bytes, depthwise, e.lines * e.length, e.length);
        let x = model.tensor(step.input(0)?).dtype();
        let new = Conv { packing, tile: info.tile_of(&old.epilogue), ..old }.with_scratch(depthwise, x);
        let moved = packing.sign.moves(x) - old.packing.sign.moves(x);
        // Few channels in many groups would be mostly filling: a file must not make its own weights a hundred times larger.
        let [before, after] = [old, new].map(|p| p.packing.len(&e).unwrap_or(u32::MAX));
        let fits = after <= before.saturating_mul(MOST_GROWTH).max(SMALL) && after < u32::MAX;
        (fits && new != old).then_some(Job { step: i, depthwise, old, new, moved })
    }

    /// What tells its constants apart.
    fn key(&self, model: &Model<'_>) -> Vec<u32> {
        let operand = |i: usize| model.step(self.step).input(i).map_or(u32::MAX, |t| t as u32);
        // The same weights may be read as those of several shapes.
        let mut key = vec![operand(WEIGHTS), operand(BIAS), operand(ZEROS), self.moved as u32, self.depthwise.into()];
        self.old.geometry.write(&mut |w| key.push(w));
        self.old.packing.write(&mut |w| key.push(w));
        self.new.packing.write(&mut |w| key.push(w));
        key.push(self.old.groups);
        key
    }

    fn constants(&self, model: &Model<'_>) -> Done {
        let e = self.old.extents(self.depthwise);
        let constant = |i: usize| -> &[u8] {
            let t = model.step(self.step).input(i).map(|t| model.tensor(t).0);
            t.map_or(&[], |t| &model.weights()[t.offset as usize..][..t.bytes as usize])
        };
        let from = constant(WEIGHTS);
        let size = from.len().checked_div(self.old.packing.len(&e).map_or(0, |n| n as usize));
        let weights = match size {
            Some(4) => order::<4>(from, &self.old.packing, &self.new.packing, &e),
            Some(2) => order::<2>(from, &self.old.packing, &self.new.packing, &e),
            _ => bytes(from, &self.old.packing, &self.new.packing, &e),
        };
        if self.moved == 0 {
            return (weights, None);
        }
        let zeros = constant(ZEROS);
        let mut bias = constant(BIAS).to_vec();
        for (c, b) in bias.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let (group, channel) = (c / e.channels, c % e.channels);
            let zero = zeros.as_chunks().0.get(c).map_or(0, |z| i32::from(i16::from_le_bytes(*z)));
            let mut sum = 0i32;
            for line in 0..e.lines {
                for i in 0..e.length {
                    let at = self.old.packing.at(&e, group, channel, line, i);
                    let weight = self.old.packing.byte(bytemuck::cast_slice(from), at);
                    sum = sum.wrapping_add(i32::from(weight).wrapping_sub(zero));
                }
            }
            *b = i32::from_le_bytes(*b).wrapping_sub(sum.wrapping_mul(self.moved)).to_le_bytes();
        }
        (weights, Some(bias))
    }
}

/// Weights of `N` bytes each in another order.
fn order<const N: usize>(from: &[u8], old: &Packing, new: &Packing, e: &Extents) -> Vec<u8> {
    let (from, n) = (from.as_chunks::<N>().0, new.len(e).map_or(0, |n| n as usize));
    let mut to = vec![[0u8; N]; n];
    // So many neighbours are neighbours in both.
    let plain = [old, new].iter().all(|p| p.order == WordOrder::Plain);
    let together = if plain { common(old.run(e), new.run(e)).max(1) } else { 1 };
    for group in 0..e.groups {
        for channel in 0..e.channels {
            for line in 0..e.lines {
                for i in (0..e.length).step_by(together) {
                    let n = together.min(e.length - i);
                    let (to_at, at) = (new.at(e, group, channel, line, i), old.at(e, group, channel, line, i));
                    to[to_at..to_at + n].copy_from_slice(&from[at..at + n]);
                }
            }
        }
    }
    to.into_flattened()
}

/// As [`order`], of bytes, which may lie by twos.
fn bytes(from: &[u8], old: &Packing, new: &Packing, e: &Extents) -> Vec<u8> {
    let mut to = if old.order == WordOrder::Twos {
        let apart = |at: usize| old.byte(bytemuck::cast_slice(from), at) as u8;
        order::<1>(&(0..from.len()).map(apart).collect::<Vec<_>>(), old, new, e)
    } else {
        order::<1>(from, old, new, e)
    };
    new.join(&mut to);
    to
}

/// The largest number that divides both.
fn common(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common(b, a % b) }
}

/// The sections of a plan that change: all of them only grow, but for the records of steps.
struct Plan {
    tensors: Vec<u8>,
    operands: Vec<u8>,
    params: Vec<u8>,
    steps: Vec<u8>,
    weights: Vec<u8>,
}

fn words(record: &impl Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.write(&mut |w| bytes.extend(w.to_le_bytes()));
    bytes
}

fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize
}

/// Number, first byte and bytes of each section.
fn sections(bytes: &[u8]) -> Vec<(usize, usize, usize)> {
    let entry = |i: usize| HEADER_BYTES + i * SECTION_ENTRY_BYTES;
    let of = |i: usize| (word(bytes, entry(i)), word(bytes, entry(i) + 4), word(bytes, entry(i) + 8));
    (0..word(bytes, 40)).map(of).collect()
}

impl Plan {
    fn of(bytes: &[u8], model: &Model<'_>) -> Plan {
        let section = |s: Section| {
            let found = sections(bytes).into_iter().find(|(id, ..)| *id == s as usize);
            found.map_or_else(Vec::new, |(_, at, n)| bytes[at..at + n].to_vec())
        };
        Plan {
            tensors: section(Section::Tensors),
            operands: section(Section::Operands),
            params: section(Section::Params),
            steps: section(Section::Steps),
            weights: model.weights().to_vec(),
        }
    }

    /// Adds a constant like `t`; gives the number of its tensor.
    fn constant(&mut self, t: TensorRecord, bytes: &[u8]) -> u32 {
        let at = self.weights.len().next_multiple_of(ALIGN);
        self.weights.resize(at, 0);
        self.weights.extend_from_slice(bytes);
        let mut dims = [0; kinglet::format::MAX_RANK];
        dims[0] = (bytes.len() / t.dtype.size()) as u32;
        let (offset, bytes) = (at as u32, bytes.len() as u32);
        let record = TensorRecord {
            region: Region::Weights,
            offset,
            bytes,
            row_bytes: bytes,
            capacity: 1,
            advance: 0,
            rank: 1,
            dims,
            ..t
        };
        self.tensors.extend(words(&record));
        (self.tensors.len() / 4 / TensorRecord::WORDS - 1) as u32
    }

    /// Gives a step its new parameters and constants.
    fn change(&mut self, model: &Model<'_>, job: &Job, (weights, bias): (Option<u32>, Option<u32>)) {
        let step = model.step(job.step);
        let record = *step.record();
        let operands = (self.operands.len() / 4) as u32;
        for i in 0..record.inputs as usize {
            let old = step.input(i).map_or(kinglet::format::ABSENT, |t| t as u32);
            let new = match i {
                WEIGHTS => weights,
                BIAS => bias,
                // Behind them is what sums of twos begin with.
                INTEGERS if job.old.packing.order == WordOrder::Twos => Some(kinglet::format::ABSENT),
                _ => None,
            };
            self.operands.extend(new.unwrap_or(old).to_le_bytes());
        }
        for i in 0..record.outputs as usize {
            self.operands.extend((step.output(i).unwrap_or(0) as u32).to_le_bytes());
        }
        let scratch = job.new.scratch.bytes();
        let record = StepRecord { operands, ..record };
        self.step(job.step, record, &job.new, job.new.columns(job.depthwise), scratch);
    }

    /// Gives step `i` a record with other parameters, columns and bytes of scratch.
    fn step(&mut self, i: usize, record: StepRecord, p: &impl Record, columns: usize, scratch: u64) {
        let params = (self.params.len() / 4) as u32;
        self.params.extend(words(p));
        let scratch = u32::try_from(scratch).unwrap_or(u32::MAX);
        let record = StepRecord { params, columns: columns as u32, scratch, ..record };
        let at = i * StepRecord::WORDS * 4;
        self.steps[at..at + StepRecord::WORDS * 4].copy_from_slice(&words(&record));
    }

    /// The file, sealed.
    fn finish(self, bytes: &[u8], model: &Model<'_>, target: Target) -> Result<Aligned, Error> {
        let old = sections(bytes);
        let changed = |id: usize| -> Option<&[u8]> {
            let is = |s: Section| id == s as usize;
            [
                (Section::Tensors, &self.tensors),
                (Section::Operands, &self.operands),
                (Section::Params, &self.params),
                (Section::Steps, &self.steps),
                (Section::Weights, &self.weights),
            ]
            .into_iter()
            .find(|(s, _)| is(*s))
            .map(|(_, data)| &data[..])
        };
        let data: Vec<&[u8]> = old.iter().map(|&(id, at, n)| changed(id).unwrap_or(&bytes[at..at + n])).collect();
        let table_end = HEADER_BYTES + old.len() * SECTION_ENTRY_BYTES;
        let mut at = table_end;
        let mut places = Vec::new();
        for data in &data {
            at = at.next_multiple_of(ALIGN);
            places.push(at);
            at += data.len();
        }
        let mut file = Aligned::zeroed(at, "weights in the order of this machine")?;
        let out = file.as_mut_slice();
        out[..table_end].copy_from_slice(&bytes[..table_end]);
        let mut set = |at: usize, v: usize| out[at..at + 4].copy_from_slice(&(v as u32).to_le_bytes());
        for (i, (place, data)) in places.iter().zip(&data).enumerate() {
            let entry = HEADER_BYTES + i * SECTION_ENTRY_BYTES;
            set(entry + 4, *place);
            set(entry + 8, data.len());
        }
        set(4, usize::from(VERSION) | (target as usize) << 16);
        set(24, at);
        let steps = Words::new(&self.steps);
        let step = |i: usize| StepRecord::read(&steps, i * StepRecord::WORDS);
        let scratch = (0..).map_while(step).map(|s| s.scratch as usize).max().unwrap_or(0);
        let tensors = (model.arena_bytes() - model.scratch_bytes()).next_multiple_of(ALIGN);
        set(ARENA_AT, tensors.saturating_add(scratch.next_multiple_of(ALIGN)));
        for (place, data) in places.iter().zip(&data) {
            out[*place..place + data.len()].copy_from_slice(data);
        }
        out[16..24].copy_from_slice(&checksum(&self.weights, 0).to_le_bytes());
        let mut sum = checksum(&out[CHECKED_FROM..table_end], word(out, 4) as u64);
        for ((id, ..), data) in old.iter().zip(&data) {
            if *id != Section::Weights as usize {
                sum = checksum(data, sum);
            }
        }
        out[8..16].copy_from_slice(&sum.to_le_bytes());
        Ok(file)
    }
}
