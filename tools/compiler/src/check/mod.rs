//! A run of a compiled model against the graph of its file.
//!
//! Integer runs that differ in a single rounding drift apart layer by layer, so comparing the outputs of a deep quantised
//! model says little. Here the *imported* graph is evaluated in f64, node by node, and wherever the run shows a tensor of it,
//! the two are compared and the evaluation goes on from the run's value. So each comparison covers the imported nodes
//! between the values that the run had and the next value that it shows, and with them whatever the passes, the lowering and
//! the kernels made of these nodes. An integer may differ only where the real value lies next to a rounding tie, a float by
//! no more than f32 arithmetic explains.
//!
//! If every comparison holds, every output is, by induction over the imported nodes, what the file says but for roundings.
//! That does not depend on which tensors were taken for each other; see `seen.rs`.

mod bounds;
mod operators;
mod seen;
mod steps;
mod terms;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;

use kinglet::session::ArenaView;
use kinglet::{DType, Model, Observer, StepKind};

pub use bounds::{FLOAT_BOUND, HALF_BOUNDS, HALF_TIE, LOOSE_TIE, TIE, WIDE_TIE};
pub use steps::Unchecked;

use self::bounds::{Known, Outcome, evaluate};
use self::seen::{Sight, seen};
use crate::Compiled;
use crate::array::Array;
use crate::eval;
use crate::graph::{Graph, TensorId};

/// An observer that keeps what each step of one run computes.
pub struct Recorder<'a> {
    model: Model<'a>,
    compiled: &'a Compiled,
    /// Slices of each step that are still to come.
    slices: Vec<usize>,
    values: HashMap<TensorId, Array>,
    outputs: Vec<Option<Array>>,
}

/// A value that the graph of the file does not give.
#[derive(Clone, Debug, PartialEq)]
pub struct Disagreement {
    /// The tensor.
    pub tensor: String,
    /// The operator that computes it in the compiled graph.
    pub op: String,
    /// ONNX nodes it came from.
    pub source: Vec<String>,
    /// Element.
    pub at: usize,
    /// What the run computed.
    pub got: f64,
    /// Least value allowed.
    pub lowest: f64,
    /// Greatest value allowed.
    pub highest: f64,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Disagreement { tensor, op, at, got, lowest, highest, .. } = self;
        write!(f, "{op} `{tensor}`, element {at}: {got}, where the graph of the file gives {lowest} to {highest}")
    }
}

/// What was compared, if all of it held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Integers of quantised tensors that were compared.
    pub quantised: usize,
    /// Other values that were compared.
    pub other: usize,
    /// Steps whose result was compared.
    pub alone: usize,
    /// Steps whose result is no tensor of the imported graph: every way from them to an output leads through results that
    /// were compared, so that they were checked together with those that follow.
    pub grouped: usize,
    /// Steps that were not checked.
    pub unchecked: Vec<Unchecked>,
}

impl<'a> Recorder<'a> {
    /// Watches one run of `compiled`, loaded as `model`.
    pub fn new(compiled: &'a Compiled, model: Model<'a>) -> Self {
        let slices = compiled.report.steps.iter().map(|s| s.slices).collect();
        Recorder { model, compiled, slices, values: HashMap::new(), outputs: Vec::new() }
    }

    /// Compares the run that was watched, whose inputs were `inputs` (in the order of the graph's), with `imported`, the graph
    /// that was compiled, as the importer made it.
    ///
    /// # Errors
    /// The first value that is not what the imported graph gives.
    pub fn check(&self, imported: &Graph, inputs: &[Array]) -> Result<Checked, Box<Disagreement>> {
        let run = self.run(inputs);
        let mut seen = seen(imported, &self.compiled.graph, &run, &self.outputs);
        let mut notes = Notes { recorder: self, checked: Checked::default(), compared: HashMap::new() };
        // Evaluating a node may have to change what its output is.
        let mut graph = imported.clone();
        let mut uses = imported.use_counts();
        let mut values: HashMap<TensorId, Known<'_>> = HashMap::new();
        for (&t, value) in imported.inputs.iter().zip(inputs) {
            values.insert(t, Known::given(value));
        }
        for (t, tensor) in imported.tensors.iter().enumerate() {
            if let Some(value) = &tensor.value {
                values.insert(t, Known::given(value));
            }
        }
        let stored = |t: usize| self.model.tensor(t).dtype();
        let halves = (0..self.model.tensor_count()).any(|t| stored(t) == DType::F16);
        let given: Vec<TensorId> = values.keys().copied().collect();
        for t in given {
            if let Some(sights) = seen.remove(&t) {
                notes.compare(imported, t, &values[&t], &sights)?;
            }
        }
        // Nodes of the file whose roundings a recurrence leaves out, and what it made of others beside them.
        let left_out = self.compiled.graph.nodes.iter().filter(|n| n.roundings > 0);
        let left_out: HashSet<&str> = left_out.flat_map(|n| &n.source).map(String::as_str).collect();
        for node in &imported.nodes {
            if node.outputs().all(|t| uses[t] == 0 && !seen.contains_key(&t)) {
                continue;
            }
            let operands: Vec<Option<&Known<'_>>> =
                node.inputs.iter().map(|t| t.and_then(|t| values.get(&t))).collect();
            let mut results = evaluate(&mut graph, node, &operands, halves);
            if node.source.iter().any(|name| left_out.contains(name.as_str())) {
                results = results.into_iter().map(Known::loosened).collect();
            }
            for (t, known) in node.outputs().zip(results) {
                let known = match seen.remove(&t) {
                    None => known,
                    Some(sights) => {
                        notes.compare(imported, t, &known, &sights)?;
                        let first = sights.into_iter().next().expect("there is one");
                        Known::shown(first.whole(known.least()))
                    }
                };
                values.insert(t, known);
            }
            for &t in node.inputs.iter().flatten() {
                uses[t] -= 1;
                if uses[t] == 0 {
                    values.remove(&t);
                }
            }
        }
        Ok(notes.finish())
    }

    /// The values of the run by tensor of the compiled graph, those included that no step computes because they are other
    /// views of the same memory.
    fn run<'b>(&'b self, inputs: &'b [Array]) -> HashMap<TensorId, Cow<'b, Array>> {
        let graph = &self.compiled.graph;
        // What nobody reads has no memory that lasts until its node is done.
        let uses = graph.use_counts();
        let read = self.values.iter().filter(|(t, _)| uses[**t] > 0);
        let mut run: HashMap<TensorId, Cow<'b, Array>> = read.map(|(&t, v)| (t, Cow::Borrowed(v))).collect();
        run.extend(graph.inputs.iter().copied().zip(inputs.iter().map(Cow::Borrowed)));
        let stepped = steps::outputs_of_steps(self.compiled);
        for node in graph.nodes.iter().filter(|n| !stepped.contains(&n.output)) {
            let operands: Vec<Option<&Array>> = node
                .inputs
                .iter()
                .map(|t| t.and_then(|t| graph.value(t).or_else(|| run.get(&t).map(|v| v.as_ref()))))
                .collect();
            if operands.iter().zip(&node.inputs).all(|(value, t)| value.is_some() == t.is_some()) {
                let value = eval::node(graph, node, &operands);
                run.insert(node.output, Cow::Owned(value));
            }
        }
        run
    }
}

impl Observer for Recorder<'_> {
    fn after(&mut self, step: usize, arena: &ArenaView<'_>) {
        // Where a loop may end, all that it has carried so far is there.
        let may_end = self.model.step(step).kind() == Some(StepKind::GoOn);
        if let Some(left) = self.slices.get_mut(step) {
            *left = left.saturating_sub(1);
            if *left > 0 && !may_end {
                return;
            }
        }
        let graph = &self.compiled.graph;
        let read = |t: TensorId, number: Option<usize>| {
            let tensor = &graph.tensors[t];
            let number = number?;
            let stored = match self.model.tensor(number).dtype() {
                DType::F16 => DType::F16,
                _ => tensor.dtype,
            };
            Array::from_bytes(stored, &tensor.shape, arena.tensor(number)?)
        };
        let origin = self.compiled.origins.get(step);
        let looped = graph.nodes.iter().find(|n| may_end && origin.is_some_and(|o| o.node == n.output));
        let carried = looped.into_iter().flat_map(|n| n.outputs());
        for t in origin.into_iter().flat_map(|o| o.writes.iter().copied()).chain(carried) {
            let value = read(t, self.compiled.numbers.get(&t).copied());
            self.values.extend(value.map(|v| (t, v)));
        }
        if step + 1 == self.model.step_count() || may_end {
            let outputs = graph.outputs.iter().enumerate();
            self.outputs = outputs.map(|(i, &t)| read(t, self.model.output_tensor(i))).collect();
        }
    }
}

/// What comparisons have shown so far.
struct Notes<'a> {
    recorder: &'a Recorder<'a>,
    checked: Checked,
    /// For each tensor of the compiled graph that was compared, how many of its elements nobody can tell of.
    compared: HashMap<TensorId, usize>,
}

impl Notes<'_> {
    /// Compares everything that the run shows of tensor `t` of the imported graph.
    fn compare(
        &mut self,
        imported: &Graph,
        t: TensorId,
        known: &Known<'_>,
        sights: &[Sight<'_>],
    ) -> Result<(), Box<Disagreement>> {
        let count = match imported.tensors[t].quant {
            Some(_) => &mut self.checked.quantised,
            None => &mut self.checked.other,
        };
        for sight in sights {
            let value = sight.whole(known.least());
            match known.compare(&value) {
                Outcome::Wrong { at, lowest, highest } => {
                    let graph = &self.recorder.compiled.graph;
                    let node = graph.nodes.iter().find(|n| n.outputs().any(|o| o == sight.compiled));
                    return Err(Box::new(Disagreement {
                        tensor: imported.tensors[t].name.clone(),
                        op: node.map_or_else(|| "Copy".into(), |n| n.op.name()),
                        source: node.map_or_else(Vec::new, |n| n.source.clone()),
                        at,
                        got: value.reals()[at],
                        lowest,
                        highest,
                    }));
                }
                Outcome::Held { undecided } => {
                    *count += sight.len() - undecided;
                    *self.compared.entry(sight.compiled).or_default() += undecided;
                }
            }
        }
        Ok(())
    }

    /// The result, with every step counted.
    fn finish(self) -> Checked {
        steps::count(self.recorder.compiled, &self.compared, self.checked)
    }
}
