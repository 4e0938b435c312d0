//! What can go wrong between an ONNX file and a plan, and what to do about it.

use std::path::PathBuf;

use crate::plan::MemoryRegion;

/// A node that cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// Name of the ONNX node (or of its first output, if it has none).
    pub node: String,
    /// Its operator.
    pub op: String,
    /// What about it is not supported.
    pub reason: String,
    /// What would make it work.
    pub remedy: String,
}

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} `{}`: {}", self.op, self.node, self.reason)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, " ({})", self.remedy) }
    }
}

impl Unsupported {
    /// A line for each operator that is refused for one reason, whatever tensors it names: 46 nodes of one kind are one line, with the first
    /// of them named.
    pub fn lines(nodes: &[Unsupported]) -> Vec<String> {
        // What stands in backticks is a name.
        let pattern = |text: &str| text.split('`').step_by(2).collect::<Vec<_>>().join("`");
        let mut groups: Vec<(String, &Unsupported, usize)> = Vec::new();
        for node in nodes {
            let key = format!("{} {} {}", node.op, pattern(&node.reason), pattern(&node.remedy));
            match groups.iter_mut().find(|(k, ..)| *k == key) {
                Some((_, _, more)) => *more += 1,
                None => groups.push((key, node, 0)),
            }
        }
        let line = |(_, first, more): (String, &Unsupported, usize)| match more {
            0 => first.to_string(),
            more => {
                let Unsupported { node, op, reason, remedy } = first;
                let also = format!("`{node}` and {more} more");
                let remedy = if remedy.is_empty() { String::new() } else { format!(" ({remedy})") };
                format!("{op} {also}: {reason}{remedy}")
            }
        };
        groups.into_iter().map(line).collect()
    }
}

/// An error of the compiler.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no input or output of this name.
    #[error("there is no input or output `{name}` to be fed; there are: {known}")]
    NoSuchPort {
        /// The name.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// A pass that is to be left out does not exist, or every plan needs it.
    #[error("there is no pass `{name}` that could be left out; there are: {known}")]
    NoSuchPass {
        /// The name.
        name: String,
        /// The passes that there are.
        known: String,
    },
    /// A plan takes more of a memory than there is.
    #[error("the plan takes {needed} bytes of `{}`, {} more than the {} that it has: {why}", region.name, needed - region.bytes, region.bytes)]
    Region {
        /// The memory.
        region: MemoryRegion,
        /// Bytes that the plan takes.
        needed: usize,
        /// What takes them.
        why: String,
    },
    /// More memories than a plan can use.
    #[error("{count} memory regions: there can be one for the arena and a slow one")]
    Regions {
        /// How many.
        count: usize,
    },
    /// Two memories have one name.
    #[error("two memory regions are called `{name}`")]
    RegionTwice {
        /// The name.
        name: String,
    },
    /// The bytes are no ONNX model.
    #[error("not an ONNX model: {0}")]
    Decode(String),
    /// The model is inconsistent as a whole.
    #[error("malformed model: {0}")]
    Model(String),
    /// An initialiser cannot be read.
    #[error("tensor `{tensor}`: {reason}")]
    Tensor {
        /// Its name.
        tensor: String,
        /// What is wrong.
        reason: String,
    },
    /// A symbolic or unknown dimension has no value.
    #[error("input `{input}` has the unbound dimension `{dimension}`: bind it with --dim {dimension}=N")]
    UnboundDimension {
        /// The input.
        input: String,
        /// The symbol.
        dimension: String,
    },
    /// The file says nothing of an input's shape, and nobody else does.
    #[error(
        "input `{input}` has no shape in the file, not even a rank: give one with --shape {input}=N or {input}=NxN, or an array that has it"
    )]
    UnknownShape {
        /// The input.
        input: String,
    },
    /// What was given for an input does not fit it.
    #[error("input `{input}`: {reason}")]
    Input {
        /// The input.
        input: String,
        /// What is wrong.
        reason: String,
    },
    /// A node is malformed: its inputs, attributes or shapes contradict each other.
    #[error("{op} `{node}`: {reason}")]
    Node {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// What is wrong.
        reason: String,
    },
    /// Nodes that have no kernel, all at once.
    #[error("{} unsupported node{}:\n{}", .0.len(), if .0.len() == 1 { "" } else { "s" }, Unsupported::lines(.0).iter().map(|u| format!("  {u}")).collect::<Vec<_>>().join("\n"))]
    Unsupported(Vec<Unsupported>),
    /// The plan does not fit the format: a tensor or the arena of 4 GiB and more.
    #[error("the plan does not fit: {0}")]
    TooLarge(String),
    /// The compiler made a plan that the runtime refuses: a defect of Kinglet, please report it.
    #[error("internal error: the plan does not verify: {0}")]
    Internal(String),
}
