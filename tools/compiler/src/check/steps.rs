//! Which steps of a plan the comparisons cover.

use std::collections::{HashMap, HashSet};

use super::Checked;
use crate::graph::TensorId;
use crate::{Compiled, Origin};

/// A step that was not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unchecked {
    /// Its name.
    pub step: String,
    /// Why.
    pub reason: String,
}

/// How a tensor of the compiled graph was checked; of several the last one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Held {
    /// It was compared.
    Alone,
    /// All that is computed from it was compared.
    Group,
    /// It, or something computed from it, was compared, and of so many elements nobody can tell whether they are right.
    Undecided(usize),
}

/// Tensors that steps compute, by the first output of their node.
pub(super) fn outputs_of_steps(compiled: &Compiled) -> HashSet<TensorId> {
    compiled.origins.iter().map(|o| o.node).collect()
}

/// Counts the steps, given how many elements of each compared tensor are undecided.
pub(super) fn count(compiled: &Compiled, compared: &HashMap<TensorId, usize>, mut checked: Checked) -> Checked {
    let graph = &compiled.graph;
    let stepped = outputs_of_steps(compiled);
    // What is said of a tensor by all that reads it, from the outputs back.
    let mut read: HashMap<TensorId, Held> = HashMap::new();
    let own = |t: TensorId, read: &HashMap<TensorId, Held>| match compared.get(&t) {
        Some(0) => Some(Held::Alone),
        Some(&n) => Some(Held::Undecided(n)),
        None => read.get(&t).copied(),
    };
    let mut held: HashMap<TensorId, Held> = HashMap::new();
    for node in graph.nodes.iter().rev() {
        let Some(worst) = node.outputs().filter_map(|t| own(t, &read)).max() else { continue };
        held.insert(node.output, worst);
        // Another view of the same memory is not a step that things are checked together with.
        let passed = if stepped.contains(&node.output) { worst.max(Held::Group) } else { worst };
        for &t in node.inputs.iter().flatten() {
            read.entry(t).and_modify(|h| *h = passed.max(*h)).or_insert(passed);
        }
    }
    for (step, Origin { node, .. }) in compiled.origins.iter().enumerate() {
        let reason = match held.get(node).copied().or_else(|| own(*node, &read)) {
            Some(Held::Alone) => {
                checked.alone += 1;
                continue;
            }
            Some(Held::Group) => {
                checked.grouped += 1;
                continue;
            }
            Some(Held::Undecided(n)) => {
                format!("{n} elements depend on roundings inside that the run does not show, or leaves out")
            }
            None => "nothing that was compared depends on it".to_string(),
        };
        let step = compiled.report.steps.get(step).map_or_else(String::new, |s| s.name.clone());
        checked.unchecked.push(Unchecked { step, reason });
    }
    checked
}
