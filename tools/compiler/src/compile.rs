//! The whole way from a graph to a plan.

use std::collections::{BTreeMap, HashMap};

use kinglet::Target;

use crate::array::Array;
use crate::graph::{Graph, TensorId};
use crate::lower::{Lowered, Place, PlanStep, PlanTensorId};
use crate::plan::{Banding, MemoryRegion};
use crate::report::Report;
use crate::{Error, lower, passes, plan};

/// How floats are stored, and what the kernels of targets that can compute with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// In 32 bits.
    #[default]
    F32,
    /// In 16 bits: the weights of products, and on targets that multiply halves what lies between steps.
    F16,
}

/// What the caller wants of the compiler.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What to compile for.
    pub target: Target,
    /// Values of symbolic dimensions (`--dim batch=1`).
    pub dims: BTreeMap<String, usize>,
    /// Shapes of inputs, as the given arrays have them; they bind symbolic dimensions too.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Values of inputs. An input whose value decides a shape is bound to its value; the values of others are not used.
    pub values: BTreeMap<String, Array>,
    /// Inputs that are constants of the plan, which has no such input then, and their values (`--bind`).
    pub bind: BTreeMap<String, Array>,
    /// Each random draw in the graph becomes an input of the model, named like the draw's output
    /// (`--draws-as-inputs`); without it a graph that draws is refused.
    pub draws_as_inputs: bool,
    /// Selections whose length depends on the data are as long as they may be at most, filled up with −1 behind what is selected
    /// (`--pad-selections`), and how many are selected is an output besides, `NAME.count`; without it a graph with `NonMaxSuppression`
    /// is refused.
    pub pad_selections: bool,
    /// The most trips of a loop of which data decide how many it has (`--max-trips`); a run that wants more fails. Without it such a loop is
    /// refused, unless it has a number of trips that its condition only shortens.
    pub max_trips: Option<usize>,
    /// Loops and what was written out of them stay as they are: no recurrence is recognised (`--keep-loops`). To compare
    /// with, and to see what a recognised one saves.
    pub keep_loops: bool,
    /// Channels that nobody reads, or that are always the same, stay (`--keep-channels`). To compare with.
    pub keep_channels: bool,
    /// Passes that are left out by name (`--without-pass`), to find the one that a wrong answer comes from.
    pub without: Vec<String>,
    /// How floats are stored (`--precision`).
    pub precision: Precision,
    /// Inputs that are quantised at once, and outputs that are dequantised last, are the quantised tensors themselves (`--io quantized`).
    pub quantized_io: bool,
    /// Which steps run in bands of rows (`--bands`).
    pub bands: Banding,
    /// Inputs and outputs by name whose rows the caller gives or takes while the plan runs (`--feed`). Pictures among them are
    /// channels last.
    pub feed: Vec<String>,
    /// The memories that there are, fast ones first (`--region`): one for the arena, which with bands for memory goes no further than that, and perhaps
    /// a slow one, for the tensors that the first one has no room for. Without any the plan takes what it needs.
    pub regions: Vec<MemoryRegion>,
    /// Bytes of RAM that weights are to be copied to before a run (`--hot-weights`): those that are read the most often lie in front of the others.
    pub hot_weights: usize,
}

/// A compiled model.
#[derive(Debug)]
pub struct Compiled {
    /// The bytes of the `.kgl` file.
    pub kgl: Vec<u8>,
    /// What the compiler tells about it.
    pub report: Report,
    /// The graph as the last pass left it, whose nodes became the steps.
    pub graph: Graph,
    /// For each step in the order of execution where it comes from.
    pub origins: Vec<Origin>,
    /// The number in the file of each tensor of `graph` that a step reads or writes.
    pub numbers: HashMap<TensorId, usize>,
}

/// Where a step comes from in the compiled graph.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The first output of the node that it is a step of; in the body of a loop that of the loop.
    pub node: TensorId,
    /// Outputs of that node that it writes, or a part of them. The last step that writes one completes it, if it is the step of
    /// a loop's body in the last slice.
    pub writes: Vec<TensorId>,
}

impl Origin {
    fn of(lowered: &Lowered, step: &PlanStep) -> Origin {
        let place = |p: &PlanTensorId| &lowered.tensors[*p].place;
        let written: Vec<&Place> = step.outputs.iter().map(place).collect();
        let writes = |t: &&TensorId| lowered.of_graph.get(t).is_some_and(|p| written.contains(&place(p)));
        Origin { node: step.of[0], writes: step.of.iter().filter(writes).copied().collect() }
    }
}

/// Compiles an imported graph.
///
/// # Errors
/// [`Error::Unsupported`] with all nodes that have no kernel, [`Error::TooLarge`] if the plan does not fit the format.
pub fn compile(graph: Graph, options: &Options) -> Result<Compiled, Error> {
    compile_with(graph, options, &mut |_| {})
}

/// Compiles an imported graph and tells `progress` the name of each stage when it begins.
///
/// # Errors
/// As [`compile`].
pub fn compile_with(
    mut graph: Graph,
    options: &Options,
    progress: &mut dyn FnMut(&'static str),
) -> Result<Compiled, Error> {
    let names = graph.inputs.iter().map(|&t| &graph.tensors[t].name).chain(&graph.output_names);
    let unknown = options.feed.iter().find(|name| !names.clone().any(|n| n == *name));
    if let Some(name) = unknown {
        return Err(Error::NoSuchPort { name: name.clone(), known: names.cloned().collect::<Vec<_>>().join(", ") });
    }
    passes::run(&mut graph, options, progress)?;
    // An input of which no ring is made is there before the first step, like any other: nothing asks for its rows.
    let mut options = options.clone();
    let (lowered, (layout, unordered)) = loop {
        progress("lower");
        let lowered = lower::lower(&graph, &options, false)?;
        progress("plan");
        let planned = plan::plan(&lowered, options.bands, &options.regions);
        let planned = match options.bands {
            Banding::Memory if lower::could_fold(&graph) => with_folds(&graph, &options, lowered, planned)?,
            _ => (lowered, planned?),
        };
        let (lowered, (layout, _)) = &planned;
        let inputs = graph.inputs.iter().zip(&lowered.inputs);
        let whole = inputs.filter(|&(_, &p)| !layout.is_ring(lowered, p)).map(|(&t, _)| &graph.tensors[t].name);
        let whole: Vec<&String> = whole.filter(|name| options.feed.contains(name)).collect();
        if whole.is_empty() {
            break planned;
        }
        options.feed.retain(|name| !whole.contains(&name));
    };
    let options = &options;
    let origins = layout.order.iter().map(|&i| Origin::of(&lowered, &lowered.steps[i])).collect();
    progress("write");
    let (kgl, report, numbers) = plan::write(&graph, lowered, &layout, options)?;
    let report = Report {
        unordered,
        bound_inputs: graph.bound.clone(),
        retyped: graph.retyped.clone(),
        dropped: graph.all_dropped(),
        budget_spent: graph.budget.spent(),
        budget_refused: graph.budget.refused(),
        ..report
    };
    Ok(Compiled { kgl, report, graph, origins, numbers })
}

/// What a plan is, with the steps it is one of.
type Planned = (Lowered, (plan::Layout, plan::Unordered));

/// The plan in which means over pictures are summed within bands, if it takes less memory than the one that is there, or within given regions touches less slow memory
/// or has fewer calls of kernels.
fn with_folds(
    graph: &Graph,
    options: &Options,
    lowered: Lowered,
    planned: Result<(plan::Layout, plan::Unordered), Error>,
) -> Result<Planned, Error> {
    let folded = lower::lower(graph, options, true)?;
    let cost = |layout: &plan::Layout| {
        (layout.slow_traffic, if options.regions.is_empty() { layout.arena_bytes } else { layout.calls() })
    };
    match (planned, plan::plan(&folded, options.bands, &options.regions)) {
        (Ok(whole), Ok(sums)) if cost(&sums.0) < cost(&whole.0) => Ok((folded, sums)),
        (Err(_), Ok(sums)) => Ok((folded, sums)),
        (whole, _) => Ok((lowered, whole?)),
    }
}
