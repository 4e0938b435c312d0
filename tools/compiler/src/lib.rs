//! Kinglet's compiler: an ONNX graph in, a plan for the runtime out.
//!
//! ```text
//! model.onnx ─ import ─► Graph ─ passes ─► Graph ─ lower ─► steps ─ plan ─► arena ─ write ─► model.kgl
//! ```
//!
//! * [`import`](import()) reads the file into a [`graph::Graph`] of canonical operators with static shapes; what only
//!   computes shapes folds away on the way in.
//! * [`passes`] rewrite graph to graph. Constants fold to the bits that the runtime would give. [`eval`]
//!   interprets a graph in f64 and i64: it holds every pass to account and is the reference of the tests.
//! * [`check`] compares every step of a run with a literal evaluation of the imported graph.
//! * [`lower`] turns each node into a step of the runtime, [`plan`] orders the steps and lays out the arena, and the result
//!   is written as a `.kgl`.
#![forbid(unsafe_code)]

pub mod array;
mod budget;
pub mod check;
mod compile;
mod error;
pub mod eval;
mod fold;
pub mod graph;
mod import;
mod legendre;
pub mod lower;
pub mod ops;
pub mod passes;
pub mod plan;
mod report;

pub use budget::Budget;
pub use compile::{Compiled, Options, Origin, Precision, compile, compile_with};
pub use error::{Error, Unsupported};
pub use import::{
    DimInfo, InputInfo, OperatorSupport, Support, array_from_proto, import, import_file, import_shared,
    shape_of_inputs, support,
};
pub use plan::{Banding, Hot, MemoryRegion};
pub use report::{FloatStep, Report, StepReport};
