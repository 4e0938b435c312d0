//! Every file of `tests/corpus` and mutants of it: a typed error, or the same outputs on every kernel set in any tiles.
//!
//! The corpus has seeds (`seed_*`), which `--example corpus` makes of the small models, and files that were once findings
//! (`found_*`). The fuzzers of `fuzz/` start from it, too, and this is what they do without their sense of direction.

use std::collections::HashSet;
use std::path::Path;

use kinglet::{Model, StepKind};
use kinglet_compiler::ops::{CONTRIB_OPERATORS, OPERATORS, OWN_OPERATORS};
use kinglet_onnx::{GraphProto, ModelProto};
use kinglet_tests::hostile::model::{Outcome, check_bytes};
use kinglet_tests::hostile::{Counting, cases, caught, plan, report, run, structure};
use kinglet_tests::{Aligned, Random, files_of};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most bytes of the corpus: seeds of plans for every target.
const MOST: usize = 300_000;
/// What to do about seeds that do not fit the code.
const ANEW: &str = "write the seeds anew: cargo run -p kinglet-tests --example corpus";

/// The files of a kind, `kgl` or `onnx`: name and bytes, by name.
fn corpus(kind: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(kind);
    let name = |p: &Path| p.file_stem().expect("a file").to_string_lossy().into_owned();
    files_of(&folder, kind).iter().map(|p| (name(p), std::fs::read(p).expect("readable"))).collect()
}

fn seeds(kind: &str) -> Vec<(String, Vec<u8>)> {
    corpus(kind).into_iter().filter(|(name, _)| name.starts_with("seed_")).collect()
}

#[test]
fn the_corpus_is_small() {
    let bytes: usize = corpus("kgl").iter().chain(&corpus("onnx")).map(|(_, b)| b.len()).sum();
    assert!(bytes <= MOST, "{bytes} bytes");
}

#[test]
fn the_plans_load_and_hold_every_step_kind() {
    let mut kinds = HashSet::new();
    for (name, bytes) in seeds("kgl") {
        let file = Aligned::copy(&bytes);
        let model = Model::load(file.as_ref()).unwrap_or_else(|e| panic!("{name}: {e}; {ANEW}"));
        kinds.extend((0..model.step_count()).filter_map(|i| model.step(i).kind()));
    }
    let missing: Vec<_> = StepKind::ALL.iter().filter(|k| !kinds.contains(k)).collect();
    assert!(missing.is_empty(), "no plan has steps of {missing:?}; {ANEW}");
}

/// The operators of a graph and of the graphs in it.
fn operators(graph: &GraphProto, seen: &mut HashSet<String>) {
    for node in &graph.node {
        seen.insert(node.op_type.clone());
        node.attribute.iter().filter_map(|a| a.g.as_ref()).for_each(|g| operators(g, seen));
    }
}

#[test]
fn the_models_compile_and_hold_every_operator() {
    let mut seen = HashSet::new();
    for (name, bytes) in seeds("onnx") {
        let outcome = check_bytes(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_ne!(outcome, Outcome::Refused, "{name}; {ANEW}");
        let model = ModelProto::from_bytes(&bytes).expect("it compiled");
        operators(&model.graph.expect("a graph"), &mut seen);
    }
    let rows = OPERATORS.iter().chain(OWN_OPERATORS).chain(CONTRIB_OPERATORS);
    let missing: Vec<_> = rows.map(|row| row.name).filter(|n| !seen.contains(*n)).collect();
    assert!(missing.is_empty(), "no model has {missing:?}; {ANEW}");
}

/// Tries `file` as it is and in mutants, so many of a seed and a few of what was once a finding (each may cost all that a file
/// may); adds what goes wrong to `found`. How many ended as `good` says.
fn try_out<T>(
    (name, file): &(String, Vec<u8>),
    seeds: u64,
    mutate: impl Fn(&mut Vec<u8>, &mut Random),
    check: impl Fn(&[u8]) -> Result<T, String>,
    good: impl Fn(T) -> bool,
    found: &mut Vec<String>,
) -> usize {
    let mut ended = 0;
    let mutants = if name.starts_with("seed_") { seeds } else { 4 };
    for seed in 0..=cases(mutants) {
        let mut bytes = file.clone();
        if seed > 0 {
            mutate(&mut bytes, &mut Random::new(seed));
        }
        match check(&bytes) {
            Ok(outcome) => ended += usize::from(good(outcome)),
            Err(e) => found.push(format!("{name}, seed {seed}: {e}")),
        }
    }
    ended
}

/// Changes one to three bytes.
fn flip(bytes: &mut [u8], random: &mut Random) {
    for _ in 0..1 + random.below(3) {
        let at = random.below(bytes.len());
        bytes[at] = if random.below(2) == 0 { bytes[at] ^ (1 << random.below(8)) } else { random.below(256) as u8 };
    }
}

#[test]
fn plans() {
    let (mut found, mut loaded) = (Vec::new(), 0);
    for file in corpus("kgl") {
        let mutate = |bytes: &mut Vec<u8>, random: &mut Random| match random.below(8) {
            0 => flip(bytes, random),
            _ => plan::mutate(bytes, random),
        };
        loaded += try_out(&file, 2000, mutate, |bytes| caught(|| run::bytes(bytes)), |loads| loads, &mut found);
    }
    report(&found);
    assert!(loaded > 2000, "only {loaded} mutants loaded: the test has lost its teeth");
}

#[test]
fn models() {
    let (mut found, mut ran) = (Vec::new(), 0);
    for file in corpus("onnx") {
        let mutate = |bytes: &mut Vec<u8>, random: &mut Random| {
            let decoded = ModelProto::from_bytes(bytes).ok().filter(|_| random.below(4) > 0);
            let Some(mut model) = decoded else { return flip(bytes, random) };
            (0..1 + random.below(3)).for_each(|_| structure::mutate(&mut model, random));
            *bytes = model.to_bytes();
        };
        ran += try_out(&file, 400, mutate, check_bytes, |outcome| outcome == Outcome::Ran, &mut found);
    }
    report(&found);
    assert!(ran > 100, "only {ran} mutants ran: the test has lost its teeth");
}
