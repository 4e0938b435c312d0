//! Passes: each rewrites the graph into one that computes the same (to rounding in f64, to the bit in integers) in fewer
//! or cheaper steps. One file a pass; the order below is the whole pipeline.

mod bias;
mod cleanup;
mod crop;
mod dead;
mod feed;
mod gelu;
pub mod layout;
mod lookup;
mod lut;
mod nested;
mod norm;
mod ports;
pub mod post;
pub mod quant;
pub mod recurrence;
mod scale;
mod shrink;
mod split;
mod sum;
mod util;
mod weights;

use crate::graph::{Graph, Op};
use crate::{Error, Options};

/// A pass.
pub type Pass = fn(&mut Graph);

/// The pipeline: names for progress and tests, and the passes.
pub const PIPELINE: &[(&str, Pass)] = &[
    ("fold constants", cleanup::cleanup),
    ("tidy loops", recurrence::tidy),
    ("recognise activations", gelu::recognise),
    ("roll up recurrences", recurrence::roll),
    ("recognise recurrences", recurrence::recognise),
    ("recognise memories", recurrence::recognise_memories),
    ("recognise frames", recurrence::recognise_frames),
    ("fuse gates", recurrence::fuse_gates),
    ("convolve memories", recurrence::convolve),
    ("crop convolutions", crop::crop),
    ("split products", split::split),
    ("recognise normalisations", norm::recognise),
    ("merge biases", bias::merge),
    ("look up bytes", lookup::look_up_bytes),
    ("absorb quantisation", quant::absorb),
    ("read weights of bytes", weights::read_bytes),
    ("fold dequantised constants", cleanup::fold_all),
    ("sum by products of ones", sum::sum),
    ("recognise quantised normalisations", norm::recognise),
    ("fold scales", scale::fold),
    ("shrink constants", shrink::shrink),
    ("channels last", layout::channels_last),
    ("tabulate", lut::tabulate),
    ("fuse activations and residuals", post::fuse),
    (CHANNELS, dead::drop_channels),
    ("write out loops in loops", nested::write_out),
    ("remove what is left over", cleanup::fold_all),
];

/// Those that recognise recurrences; [`Options::keep_loops`] leaves them out.
pub const RECURRENCES: &[&str] = &[
    "roll up recurrences",
    "recognise recurrences",
    "recognise memories",
    "recognise frames",
    "fuse gates",
    "convolve memories",
];

/// The one that drops channels; [`Options::keep_channels`] leaves it out.
pub const CHANNELS: &str = "drop dead channels";

/// Those that every plan needs; the others [`Options::without`] may leave out, to find the one that a wrong answer comes from.
pub const NEEDED: &[&str] =
    &["fold constants", "fold dequantised constants", "channels last", "remove what is left over"];

/// Runs the pipeline.
///
/// # Errors
/// [`Error::NoSuchPass`] if the options leave out what is none, or needed.
pub fn run(graph: &mut Graph, options: &Options, progress: &mut dyn FnMut(&'static str)) -> Result<(), Error> {
    if options.quantized_io {
        ports::quantise(graph);
    }
    let optional = || PIPELINE.iter().map(|(name, _)| *name).filter(|name| !NEEDED.contains(name));
    if let Some(name) = options.without.iter().find(|given| !optional().any(|name| name == **given)) {
        return Err(Error::NoSuchPass { name: name.clone(), known: optional().collect::<Vec<_>>().join(", ") });
    }
    for (name, pass) in PIPELINE {
        if options.without.iter().any(|without| without == name) {
            continue;
        }
        if options.keep_loops && RECURRENCES.contains(name) || options.keep_channels && *name == CHANNELS {
            continue;
        }
        progress(name);
        apply(*pass, graph);
    }
    feed::by_rows(graph, &options.feed);
    Ok(())
}

/// Applies a pass to the bodies of a graph's loops and to the graph itself.
pub fn apply(pass: Pass, graph: &mut Graph) {
    for node in &mut graph.nodes {
        if let Op::Loop(body) = &mut node.op {
            apply(pass, &mut body.graph);
        }
    }
    pass(graph);
}
