//! Words of a `.kgl` file, its sections and checksums, and changes to them.

use kinglet::format::words::Record;
use kinglet::format::{CHECKED_FROM, HEADER_BYTES, MAGIC, SECTION_ENTRY_BYTES, Section, StepRecord, VERSION, checksum};
use kinglet::{Model, Target};
use kinglet_compiler::{Banding, MemoryRegion, Options, Precision, compile, import};
use kinglet_onnx::ModelProto;

use crate::{Aligned, Random};

/// The plan of a model, its loops kept: bands are to be lied about.
pub fn planned(name: &str, model: &ModelProto, target: Target) -> Vec<u8> {
    planned_with(name, model, &Options { target, ..Options::default() })
}

/// As [`planned`], in bands of rows.
///
/// # Panics
/// If it does not compile.
pub fn planned_in_bands(name: &str, model: &ModelProto, target: Target) -> Vec<u8> {
    planned_with(name, model, &Options { target, bands: Banding::Memory, ..Options::default() })
}

/// As [`planned`], with its floats in 16 bits.
///
/// # Panics
/// If it does not compile.
pub fn planned_in_halves(name: &str, model: &ModelProto, target: Target) -> Vec<u8> {
    planned_with(name, model, &Options { target, precision: Precision::F16, ..Options::default() })
}

/// As [`planned_in_bands`], with all inputs and outputs coming row by row.
///
/// # Panics
/// If it does not compile.
pub fn planned_fed(name: &str, model: &ModelProto, target: Target) -> Vec<u8> {
    let graph = model.graph.as_ref().expect("a model has a graph");
    let feed = graph.input.iter().chain(&graph.output).map(|v| v.name.clone()).collect();
    planned_with(name, model, &Options { target, bands: Banding::Memory, feed, ..Options::default() })
}

/// As [`planned_in_bands`], with a part of the tensors in slow memory.
///
/// # Panics
/// If it does not compile.
pub fn planned_in_regions(name: &str, model: &ModelProto, target: Target) -> Vec<u8> {
    let of =
        |regions| planned_with(name, model, &Options { target, bands: Banding::Memory, regions, ..Options::default() });
    let all = Aligned::copy(&of(Vec::new()));
    let all = Model::load(all.as_ref()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let region = |name: &str, bytes| MemoryRegion { name: name.into(), bytes };
    // Half of what the tensors take.
    let most = (all.arena_bytes() - all.scratch_bytes()) / 2 + all.scratch_bytes();
    of(vec![region("sram", most), region("psram", 1 << 24)])
}

fn planned_with(name: &str, model: &ModelProto, options: &Options) -> Vec<u8> {
    let options = Options { draws_as_inputs: true, pad_selections: true, keep_loops: true, ..options.clone() };
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

/// Computes the checksums of plan and weights anew where the file now says that its sections are, and has it say its own length,
/// magic and version: a change elsewhere is not refused for these. A file whose sections do not lie inside it stays as it is.
pub fn reseal(file: &mut [u8]) {
    let len = file.len();
    let inside = |f: &[u8]| {
        len >= HEADER_BYTES
            && word(f, 10) <= 64
            && HEADER_BYTES + word(f, 10) as usize * SECTION_ENTRY_BYTES <= len
            && sections(f).iter().all(|&(_, at, n)| at.checked_add(n).is_some_and(|end| end <= len))
    };
    if !inside(file) {
        return;
    }
    file[..4].copy_from_slice(&MAGIC);
    set(file, 1, u32::from(VERSION));
    set(file, 6, len as u32);
    let layout = sections(file);
    if let Some(&(_, at, n)) = layout.iter().find(|s| s.0 == Section::Weights as u32) {
        let sum = checksum(&file[at..at + n], 0);
        file[16..24].copy_from_slice(&sum.to_le_bytes());
    }
    seal(file, &layout);
}

/// Has every step of a valid file report so many multiply-accumulates that a session cuts it into tiles, however small it is.
pub fn demand_tiles(file: &mut [u8]) {
    let (at, len) = section(file, Section::Steps);
    // The last word of a record is the high one of what it reports.
    (0..len / 4 / StepRecord::WORDS).for_each(|i| set(file, at / 4 + (i + 1) * StepRecord::WORDS - 1, 1));
    reseal(file);
}

/// Changes a file: mostly words of its plan, sometimes of its header or weights; its checksums are right again. What has no
/// sections stays as it is.
pub fn mutate(file: &mut [u8], random: &mut Random) {
    let len = file.len();
    if len < HEADER_BYTES + SECTION_ENTRY_BYTES || word(file, 10) > 64 {
        return;
    }
    let inside = |(_, at, n): &(u32, usize, usize)| *n >= 4 && at.checked_add(*n).is_some_and(|end| end <= len);
    let table = HEADER_BYTES + word(file, 10) as usize * SECTION_ENTRY_BYTES;
    let found: Vec<_> = if table <= len { sections(file) } else { Vec::new() }.into_iter().filter(inside).collect();
    let words: Vec<usize> = match found.get(random.below(found.len() + 1)) {
        Some(&(id, ..)) if id == Section::Weights as u32 && random.below(4) > 0 => (7..10).collect(),
        Some(&(_, at, n)) => (at / 4..(at + n) / 4).collect(),
        None => (7..16).collect(),
    };
    mutate_words(file, &words, random);
    reseal(file);
}

const INTERESTING: [u32; 22] = [
    0,
    1,
    2,
    3,
    4,
    5,
    8,
    16,
    64,
    255,
    256,
    1 << 14,
    (1 << 14) + 1,
    1 << 16,
    1 << 28,
    0x7fff_ffff,
    0x8000_0000,
    0x8000_0001,
    u32::MAX,
    u32::MAX - 1,
    0x7f80_0000,
    0x7fc0_0000,
];

/// Changes one to three of the `words` of a file.
pub fn mutate_words(file: &mut [u8], words: &[usize], random: &mut Random) {
    for _ in 0..1 + random.below(3) {
        let i = words[random.below(words.len())];
        let old = word(file, i);
        let new = match random.below(10) {
            0..=2 => INTERESTING[random.below(INTERESTING.len())],
            3 => old.wrapping_neg(),
            4 => old ^ (1 << random.below(32)),
            5 => old.wrapping_add(random.below(9) as u32).wrapping_sub(4),
            6 => old.wrapping_mul(random.below(5) as u32),
            7 => (random.below(1 << 16) << 16 | random.below(1 << 16)) as u32,
            _ => {
                // What another place says, often a neighbour.
                let near = i + random.below(9);
                let other = if words.contains(&near) { near } else { words[random.below(words.len())] };
                let v = word(file, other);
                set(file, other, old);
                v
            }
        };
        set(file, i, new);
        if random.below(8) == 0 {
            // A consistent lie: the same number changed wherever it stands.
            for &j in words {
                if word(file, j) == old {
                    set(file, j, new);
                }
            }
        }
    }
}
