//! A malformed ONNX file gives a typed error, or compiles to a plan that runs: no panic, no hang, no boundless allocation.

mod hostile;

use hostile::{broad, check_all, check_expected, control, sequences};
use kinglet_compiler::ops::{CONTRIB_OPERATORS, OPERATORS, OWN_OPERATORS};
use kinglet_onnx::GraphProto;
use kinglet_tests::hostile::model::{Outcome, check, check_bytes};
use kinglet_tests::hostile::structure::mutate;
use kinglet_tests::hostile::{cases, report};
use kinglet_tests::{Random, small_onnx};

#[test]
fn the_small_models_compile_and_hold_every_operator() {
    let mut seen = Vec::new();
    for (name, model) in small_onnx::all() {
        assert_eq!(check(&model), Ok(Outcome::Ran), "{name}");
        kinds(&model.graph.expect("a graph"), &mut seen);
    }
    let rows = OPERATORS.iter().chain(OWN_OPERATORS).chain(CONTRIB_OPERATORS);
    let missing: Vec<_> = rows.map(|row| row.name).filter(|n| !seen.iter().any(|s| s == n)).collect();
    assert!(missing.is_empty(), "no small model has {missing:?}");
}

/// The operators of a graph and of the graphs in it.
fn kinds(graph: &GraphProto, seen: &mut Vec<String>) {
    for node in &graph.node {
        seen.push(node.op_type.clone());
        node.attribute.iter().filter_map(|a| a.g.as_ref()).for_each(|g| kinds(g, seen));
    }
}

#[test]
fn truncated_files() {
    let mut found = Vec::new();
    for (name, model) in small_onnx::all() {
        let bytes = model.to_bytes();
        for len in (0..bytes.len()).step_by(1 + bytes.len() / 400) {
            check_bytes(&bytes[..len]).map_err(|e| found.push(format!("{name}, {len} bytes: {e}"))).ok();
        }
    }
    report(&found);
}

#[test]
fn flipped_bytes() {
    let mut found = Vec::new();
    for (name, model) in small_onnx::all() {
        let good = model.to_bytes();
        for seed in 0..cases(700) {
            let mut random = Random::new(seed + 5);
            let mut bytes = good.clone();
            for _ in 0..1 + random.below(3) {
                let at = random.below(bytes.len());
                bytes[at] = match random.below(4) {
                    0 => bytes[at] ^ (1 << random.below(8)),
                    1 => bytes[at].wrapping_add(1),
                    2 => 0xFF,
                    _ => random.below(256) as u8,
                };
            }
            check_bytes(&bytes).map_err(|e| found.push(format!("{name}, seed {seed}: {e}"))).ok();
        }
    }
    report(&found);
}

#[test]
fn changed_structures() {
    let mut found = Vec::new();
    let mut ran = 0;
    for (name, model) in small_onnx::all() {
        for seed in 0..cases(2000) {
            let mut random = Random::new(seed + 1);
            let mut bad = model.clone();
            for _ in 0..1 + random.below(3) {
                mutate(&mut bad, &mut random);
            }
            match check(&bad) {
                Ok(outcome) => ran += usize::from(outcome == Outcome::Ran),
                Err(e) => found.push(format!("{name}, seed {seed}: {e}")),
            }
        }
    }
    report(&found);
    assert!(ran > 100, "only {ran} changed models ran: the test has lost its teeth");
}

/// Nodes cut out of their model, one at a time, with mutated surroundings: a failure earlier in a long model hides nothing.
#[test]
fn changed_single_nodes() {
    let mut found = Vec::new();
    for (name, model) in small_onnx::all() {
        let graph = model.graph.as_ref().expect("a graph");
        for node in &graph.node {
            // Computed inputs become inputs of the model where the test knows nothing better than a plausible shape.
            let alone = hostile::alone(&model, node);
            for seed in 0..cases(120) {
                let mut random = Random::new(seed + 9);
                let mut bad = alone.clone();
                for _ in 0..1 + random.below(3) {
                    mutate(&mut bad, &mut random);
                }
                if let Err(e) = check(&bad) {
                    found.push(format!("{name}, {} `{}`, seed {seed}: {e}", node.op_type, node.output[0]));
                }
            }
        }
    }
    report(&found);
}

/// Each operand in turn has other shapes, and the types that most operators know.
#[test]
fn other_operands() {
    let mut found = Vec::new();
    for (name, model) in small_onnx::all() {
        for node in &model.graph.as_ref().expect("a graph").node {
            for (how, bad) in broad::other_operands(&hostile::alone(&model, node), node) {
                if let Err(e) = check(&bad) {
                    found.push(format!("{name}, {} `{}`, {how}: {e}", node.op_type, node.output[0]));
                }
            }
        }
    }
    report(&found);
}

#[test]
fn operators_of_many_nodes_are_refused_or_harmless() {
    check_all(&broad::bombs());
}

#[test]
fn bombs_are_refused_or_harmless() {
    check_all(&hostile::bombs());
}

#[test]
fn malformed_control_flow_is_refused() {
    check_expected(&control::malformed());
    check_expected(&control::names());
}

#[test]
fn sequences_out_of_place_are_refused() {
    check_expected(&sequences::sequences());
}

#[test]
fn recurrences_out_of_shape_are_refused() {
    check_expected(&sequences::recurrences());
}

#[test]
fn boundless_control_flow_is_refused_or_harmless() {
    check_expected(&control::bombs());
}
