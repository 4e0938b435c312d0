//! What the compiler tells about a plan.

use crate::graph::Dropped;
use crate::plan::{Hot, Unordered};

/// A step that computes in float, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FloatStep {
    /// Name of the step.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Why it does not run in integers.
    pub reason: String,
}

/// One step of the plan.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// Name of the step.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Element type it computes in.
    pub dtype: String,
    /// Multiply-accumulates of one execution.
    pub macs: u64,
    /// Tensors that the file rounds to a grid where this step, a recurrence, goes on in reals: as many roundings are left out.
    pub roundings: usize,
    /// How often a run executes it: the trips of the loop it is in the body of.
    pub slices: usize,
    /// Whether it runs in a band of rows.
    pub banded: bool,
    /// ONNX nodes it came from.
    pub source_nodes: Vec<String>,
}

/// What `convert` reports.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The steps in order.
    pub steps: Vec<StepReport>,
    /// Steps that compute in integers.
    pub integer_steps: usize,
    /// Steps that compute in float, each with its reason.
    pub float_steps: Vec<FloatStep>,
    /// Bytes of the weights section.
    pub weights_bytes: usize,
    /// Those of them that are to be copied to RAM.
    pub hot: Hot,
    /// Bytes of RAM: those of tensors, and the scratch of one worker.
    pub arena_bytes: usize,
    /// Bytes of slow memory beside it.
    pub slow_bytes: usize,
    /// Bytes of slow memory that a run reads and writes, each operand of a step counted once.
    pub slow_traffic_bytes: u64,
    /// Bytes of scratch of one worker.
    pub scratch_bytes: usize,
    /// The most bytes of tensors alive during one step.
    pub lower_bound_bytes: usize,
    /// What the steps would take in the order of the graph.
    pub unordered: Unordered,
    /// Multiply-accumulates of the whole plan.
    pub macs: u64,
    /// Channels that nobody reads, and what went with them. The numbers of the plan are those without them.
    pub dropped: Dropped,
    /// Nodes of the ONNX graph.
    pub onnx_nodes: usize,
    /// Inputs of the file with a default that had to be constant: they are bound to their values, and no inputs of the plan.
    pub bound_inputs: Vec<String>,
    /// Inputs and outputs that have another element type in the plan than in the model, and the ONNX name of that.
    pub retyped: Vec<(String, String)>,
    /// Share of the budget of a compilation that was spent; see [`crate::Budget`].
    pub budget_spent: f64,
    /// How often something was left to the runtime for want of budget.
    pub budget_refused: u64,
}
