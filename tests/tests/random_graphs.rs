//! Random models over the whole table of operators, compiled and run, against the evaluator of the graph as it was imported.
//!
//! `KINGLET_RANDOM_GRAPHS=N` tries N seeds instead of a few for each operator, `KINGLET_RANDOM_FROM=S` begins at seed S. A model that
//! differs is made small and written to a folder that the message names; what was once such a finding goes into `tests/corpus` as
//! `found_*`, and with its cause repaired stays there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kinglet_compiler::import;
use kinglet_onnx::ModelProto;
use kinglet_tests::random_graphs::{
    EXCEPTIONS, Outcome, blamed, check, describe, keep, operators, options, random, shrunk,
};
use kinglet_tests::{Random, files_of};

/// Seeds for each operator.
const SEEDS: usize = 10;
/// The least share of models that compile, of 100. What a recipe makes and the importer refuses is not in them.
const COMPILED: usize = 95;
/// The least share of operators drawn that the importer takes, of 100.
const TAKEN: usize = 80;
/// The least share of elements that can be told, of 100.
const TOLD: usize = 90;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

#[test]
fn every_operator_has_a_recipe() {
    for o in operators() {
        let excused = o.domain.is_empty() && EXCEPTIONS.iter().any(|(name, _)| *name == o.name);
        assert_ne!(o.recipe().is_some(), excused, "{} needs a recipe or a reason, and not both", o.qualified());
    }
    assert!(EXCEPTIONS.len() <= 4);
}

/// Models that were once a finding, with inputs of a seed.
#[test]
fn what_was_found_stays_repaired() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/onnx");
    let named = |p: &Path| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("found_random_"));
    let found: Vec<_> = files_of(&corpus, "onnx").into_iter().filter(|p| named(p)).collect();
    assert!(!found.is_empty());
    for path in found {
        let bytes = std::fs::read(&path).expect("readable");
        let graph = import(&bytes, None, &options()).expect("it is a model");
        let mut random = Random::new(7);
        let ports = graph.inputs.iter().map(|&t| &graph.tensors[t]);
        let inputs = ports.map(|t| (t.name.clone(), random.array(t.dtype, &t.shape))).collect();
        let outcome = check(&ModelProto::from_bytes(&bytes).expect("it was read"), &inputs);
        assert!(matches!(outcome, Outcome::Same(1.., 0)), "{}: {outcome:?}", path.display());
    }
}

#[test]
fn plans_give_what_the_evaluator_gives() {
    let all = operators();
    let seeds = number("KINGLET_RANDOM_GRAPHS").unwrap_or((all.len() * SEEDS) as u64);
    let from = number("KINGLET_RANDOM_FROM").unwrap_or(0);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("random_graphs");
    let (mut compiled, mut told, mut untold, mut added) = (0, 0, 0, 0);
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut compared = BTreeSet::new();
    let mut failures = Vec::new();
    for seed in from..from + seeds {
        let graph = random(seed);
        added += graph.added.len();
        graph.refused.iter().for_each(|(_, why)| *reasons.entry(why.clone()).or_default() += 1);
        match check(&graph.model, &graph.inputs) {
            Outcome::Same(of, free) => {
                compiled += 1;
                told += of;
                untold += free;
                compared.extend(graph.added.iter().copied());
            }
            Outcome::Refused(why) => *reasons.entry(format!("whole graph: {why}")).or_default() += 1,
            Outcome::Wrong(why) => {
                let wrong = |m: &ModelProto, i: &_| matches!(check(m, i), Outcome::Wrong(_));
                let (model, inputs) = shrunk(seed, &graph, wrong);
                let folder = keep(&folder, &format!("seed_{seed}"), &model, &inputs);
                let now = match check(&model, &inputs) {
                    Outcome::Wrong(why) => why,
                    other => format!("{other:?}"),
                };
                failures.push(format!(
                    "seed {seed}: {why}\n  of {}\n  small: {now}\n  {}\n  right without one of {:?}\n  in {}",
                    describe(&graph.model),
                    describe(&model),
                    blamed(&model, &inputs),
                    folder.display()
                ));
                println!("{}", failures[failures.len() - 1]);
            }
        }
    }
    let refused: usize = reasons.values().sum();
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    for (why, n) in &reasons {
        println!("{n:5} {why}");
    }
    println!(
        "{compiled} of {seeds} graphs compiled and compared, {added} operators taken and {refused} refused, {told} elements told and \
         {untold} not, {} operators compared",
        compared.len()
    );
    assert!(failures.is_empty(), "{} graphs differ:\n{}", failures.len(), failures.join("\n"));
    assert!(compiled * 100 >= seeds as usize * COMPILED, "only {compiled} of {seeds} graphs compile");
    assert!(added * 100 >= (added + refused) * TAKEN, "{refused} operators refused, {added} taken");
    assert!(told * 100 >= (told + untold) * TOLD, "{untold} elements nobody can tell, {told} told");
    let missing: Vec<String> =
        all.iter().filter(|o| o.recipe().is_some() && !compared.contains(o)).map(|o| o.qualified()).collect();
    assert!(seeds < all.len() as u64 || missing.is_empty(), "never compared: {missing:?}");
}
