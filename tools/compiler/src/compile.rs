//! The whole way from a graph to a plan.

use std::collections::BTreeMap;

use kinglet::Target;

use crate::array::Array;
use crate::graph::{Graph, TensorId};
use crate::report::Report;
use crate::{Error, lower, passes, plan};

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
    /// Each random draw in the graph becomes an input of the model, named like the draw's output
    /// (`--draws-as-inputs`); without it a graph that draws is refused.
    pub draws_as_inputs: bool,
    /// Loops and what was written out of them stay as they are: no recurrence is recognised (`--keep-loops`). To compare
    /// with, and to see what a recognised one saves.
    pub keep_loops: bool,
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
    /// For each step in the order of execution the tensor of `graph` that it computes; `None` for an intermediate.
    pub computed: Vec<Option<TensorId>>,
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
    passes::run(&mut graph, options, progress)?;
    progress("lower");
    let lowered = lower::lower(&graph, options.target)?;
    progress("plan");
    let (layout, unordered) = plan::plan(&lowered)?;
    let computed = layout.order.iter().map(|&i| lowered.steps[i].computes).collect();
    progress("write");
    let (kgl, report) = plan::write(&graph, lowered, &layout, options.target)?;
    let report = Report {
        unordered,
        bound_inputs: graph.bound.clone(),
        budget_spent: graph.budget.spent(),
        budget_refused: graph.budget.refused(),
        ..report
    };
    Ok(Compiled { kgl, report, graph, computed })
}
