//! Every model of the zoo at full size from architecture to result: `cargo run --release -p kinglet-tests --example zoo`.
//! Prints the second table of `docs/models.md`; fails if a result is off. Arguments choose models by the beginning of their
//! names; `tiny` chooses the tiny ones.

use std::process::ExitCode;

use kinglet_models::zoo::{MODELS, Options};
use kinglet_tests::zoo_run::zoo_run;

/// Largest difference from the evaluator, relative to the largest magnitude.
const BOUND: f64 = 1e-4;

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let tiny = wanted.iter().any(|w| w == "tiny");
    let names: Vec<&String> = wanted.iter().filter(|w| *w != "tiny").collect();
    println!(
        "| model | steps | arena in the order of the graph | lower bound | arena | lower bound | ratio | off by |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut good = true;
    for model in MODELS.iter().filter(|m| m.is_tiny() == tiny) {
        if !names.is_empty() && !names.iter().any(|n| model.name.starts_with(n.as_str())) {
            continue;
        }
        let outcome = zoo_run(model.name, &Options::default());
        let (r, off) = (&outcome.report, outcome.difference);
        let ratio = r.arena_bytes as f64 / r.lower_bound_bytes as f64;
        let (before, bound_before) = (r.unordered.arena_bytes, r.unordered.lower_bound_bytes);
        println!(
            "| {} | {} | {before} | {bound_before} | {} | {} | {ratio:.3} | {off:.1e} |",
            model.name,
            r.steps.len(),
            r.arena_bytes,
            r.lower_bound_bytes
        );
        if off > BOUND {
            eprintln!("{}: off by {off:.1e} of the largest magnitude", model.name);
            good = false;
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
