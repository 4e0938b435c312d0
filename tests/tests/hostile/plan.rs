//! What the tests of lying plans share: words of a file, its sections and checksum, a run between guards.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use kinglet::format::{CHECKED_FROM, HEADER_BYTES, SECTION_ENTRY_BYTES, Section, checksum};
use kinglet::{Error, Inline, Model, Quiet, Reference, Session, Workers};
use kinglet_compiler::{Options, compile, import};
use kinglet_onnx::ModelProto;
use kinglet_tests::{Aligned, Random};

/// Arenas above this are not allocated by the test.
const MOST_ARENA: usize = 64 << 20;
/// Runs of more work than this are not tried: a band may have very many slices.
const MOST_WORK: u64 = 1 << 26;
/// Longest time of a unit of work, and of a run besides: what `Model::work` promises, with room for a busy machine and code that
/// is hardly optimised.
const UNIT: Duration = Duration::from_nanos(200);
const REST: Duration = Duration::from_secs(2);
/// Bytes around the arena that a run must not touch.
const GUARD: usize = 256;

/// The plan of a model, its loops kept: bands are to be lied about.
pub fn planned(name: &str, model: &ModelProto) -> Vec<u8> {
    let options = Options { draws_as_inputs: true, keep_loops: true, ..Options::default() };
    let graph = import(&model.to_bytes(), None, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
    compile(graph, &options).unwrap_or_else(|e| panic!("{name}: {e}")).kgl
}

/// Word `i` of a file.
pub fn word(file: &[u8], i: usize) -> u32 {
    u32::from_le_bytes(file[i * 4..i * 4 + 4].try_into().expect("four bytes"))
}

/// Changes word `i` of a file.
pub fn set(file: &mut [u8], i: usize, v: u32) {
    file[i * 4..i * 4 + 4].copy_from_slice(&v.to_le_bytes());
}

/// The sections of a file as the compiler wrote it: number, first byte, bytes.
pub fn sections(file: &[u8]) -> Vec<(u32, usize, usize)> {
    let entry = |i: usize| (HEADER_BYTES + i * SECTION_ENTRY_BYTES) / 4;
    (0..word(file, 10) as usize)
        .map(entry)
        .map(|e| (word(file, e), word(file, e + 1) as usize, word(file, e + 2) as usize))
        .collect()
}

/// First byte and bytes of a section.
pub fn section(file: &[u8], s: Section) -> (usize, usize) {
    let found = sections(file).into_iter().find(|(id, ..)| *id == s as u32).expect("the compiler writes every section");
    (found.1, found.2)
}

/// Computes the checksum of the plan anew, as the compiler does, over sections that lie where `layout` says.
pub fn seal(file: &mut [u8], layout: &[(u32, usize, usize)]) {
    let table_end = HEADER_BYTES + layout.len() * SECTION_ENTRY_BYTES;
    let mut sum = checksum(&file[CHECKED_FROM..table_end], u64::from(word(file, 1)));
    for &(id, offset, len) in layout {
        if id != Section::Weights as u32 {
            sum = checksum(&file[offset..offset + len], sum);
        }
    }
    file[8..16].copy_from_slice(&sum.to_le_bytes());
}

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

/// Runs a loaded model between guards, from an arena of random bits.
pub fn run(model: Model<'_>, random: &mut Random) {
    let workers = 1 + 2 * random.below(2);
    let arena = if workers == 1 { model.arena_bytes() } else { model.arena_bytes_for(workers) };
    if arena > MOST_ARENA || model.work() > MOST_WORK {
        return;
    }
    let mut memory = Aligned::zeroed(GUARD + arena + GUARD);
    let bytes = memory.as_mut();
    bytes.fill(0xC3);
    for b in bytes[GUARD..GUARD + arena].chunks_mut(2).take(1 << 18) {
        let bits = (random.below(1 << 16) as u16).to_le_bytes();
        b.copy_from_slice(&bits[..b.len()]);
    }
    let start = Instant::now();
    let mut session = Session::new(model, &mut bytes[GUARD..GUARD + arena], &Reference).expect("the arena is as asked");
    for i in 0..model.input_count() {
        session.input_bytes_mut(i).expect("an input");
    }
    // The data is random: an index may be out of range, a divisor 0.
    let result = match workers {
        1 => session.run_with(&Inline, &mut Quiet),
        _ => session.run_with(&Backwards(workers), &mut Quiet),
    };
    let answered = matches!(result, Ok(()) | Err(Error::IndexOutOfRange { .. } | Error::DivisionByZero { .. }));
    assert!(answered, "{result:?}");
    let most = REST + UNIT * u32::try_from(model.work()).expect("MOST_WORK");
    assert!(start.elapsed() < most, "a run took {:?} for {} units of work", start.elapsed(), model.work());
    for i in 0..model.output_count() {
        session.output_bytes(i).expect("an output");
        let _ = (model.output_name(i), model.input_name(i));
    }
    for i in 0..model.step_count() {
        let _ = (model.step(i).name(), model.step(i).source_nodes().count(), model.step(i).macs());
    }
    let guards = bytes[..GUARD].iter().chain(&bytes[GUARD + arena..]);
    assert!(guards.copied().all(|b| b == 0xC3), "memory around the arena was written");
}

/// Loads and runs a mutated file; says what went wrong, if it panicked. `Ok(true)` if it loaded.
pub fn survives(file: &Aligned, random: &mut Random) -> Result<bool, String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| match Model::load(file.as_ref()) {
        Ok(model) => {
            run(model, random);
            true
        }
        Err(_) => false,
    }));
    outcome.map_err(|e| {
        let text = e.downcast_ref::<String>().cloned();
        text.or_else(|| e.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_default()
    })
}
