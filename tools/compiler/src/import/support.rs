//! What becomes of a model's operators, before anything of it is compiled.

use std::collections::{BTreeMap, HashMap};

use kinglet_onnx::{Bytes, GraphProto, ModelProto, NodeProto};

use super::decode;
use crate::{Error, ops};

/// An operator of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorSupport {
    /// Its domain, empty for ai.onnx.
    pub domain: String,
    /// Its name.
    pub name: String,
    /// How many nodes of it there are, bodies of loops and functions included.
    pub nodes: usize,
    /// What becomes of it.
    pub becomes: Support,
}

/// What becomes of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// A step of the runtime, or none.
    Step {
        /// Its kind, or what it is folded into.
        kind: &'static str,
        /// Restrictions, if there are any.
        limits: &'static str,
    },
    /// The nodes of a function that the model defines.
    Function,
    /// Nothing: the model is refused.
    Refused {
        /// What is missing.
        reason: String,
        /// What would make it work.
        remedy: String,
    },
}

/// Each operator that a model has, by domain and name, and what becomes of it. Nothing is said about attributes and shapes: a node may be
/// refused for them all the same.
///
/// # Errors
/// [`Error::Decode`] or [`Error::Model`] if the file is malformed.
pub fn support(bytes: &[u8]) -> Result<Vec<OperatorSupport>, Error> {
    let model = decode(Bytes::copy_from_slice(bytes))?;
    let own = |domain: &str| if domain == "ai.onnx" { String::new() } else { domain.to_string() };
    let functions: HashMap<(String, &str), _> =
        model.functions.iter().map(|f| ((own(&f.domain), f.name.as_str()), f)).collect();
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut nodes: Vec<&NodeProto> = model.graph.iter().flat_map(|g| &g.node).collect();
    nodes.extend(model.functions.iter().flat_map(|f| &f.node));
    while let Some(node) = nodes.pop() {
        *counts.entry((own(&node.domain), node.op_type.clone())).or_default() += 1;
        let inner: Vec<&GraphProto> = node.attribute.iter().filter_map(|a| a.g.as_ref()).collect();
        nodes.extend(inner.into_iter().flat_map(|g| &g.node));
    }
    let becomes = |domain: &str, name: &str| {
        if functions.contains_key(&(domain.to_string(), name)) {
            return Support::Function;
        }
        let Some(row) = ops::find(domain, name) else {
            let (reason, remedy) = ops::why_unsupported(domain, name);
            return Support::Refused { reason, remedy };
        };
        let opset = opset_of(&model, domain);
        if opset < row.signature.since {
            return Support::Refused {
                reason: format!(
                    "it is known from operator set {} on, and the model imports {opset}",
                    row.signature.since
                ),
                remedy: format!("export with operator set {} or later", row.signature.since),
            };
        }
        Support::Step { kind: row.becomes, limits: row.notes }
    };
    let list = counts.into_iter().map(|((domain, name), nodes)| {
        let becomes = becomes(&domain, &name);
        OperatorSupport { domain, name, nodes, becomes }
    });
    Ok(list.collect())
}

/// The newest version of an operator set that the model or one of its functions imports.
fn opset_of(model: &ModelProto, domain: &str) -> i64 {
    let sets = model.opset_import.iter().chain(model.functions.iter().flat_map(|f| &f.opset_import));
    let own = |d: &str| d == domain || domain.is_empty() && d == "ai.onnx";
    sets.filter(|s| own(&s.domain)).map(|s| s.version).max().unwrap_or(0)
}
