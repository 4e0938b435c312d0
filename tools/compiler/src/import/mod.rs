//! ONNX file → graph.
//!
//! Nodes are read in order. Shapes are static from the first tensor on, so whatever only computes shapes (`Shape`, `Gather`,
//! `Concat`, …) has constant inputs and folds away at once: there is no separate shape inference. `DequantizeLinear` alone
//! is never folded, so that integer weights stay the bytes they are in the file.

mod adopt;
mod attributes;
mod build;
mod context;
mod defaults;
mod emit;
mod functions;
mod inputs;
mod order;
mod scope;
mod subgraph;
mod support;
mod tensor;
#[cfg(test)]
mod testing;
mod types;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use kinglet_onnx::{Bytes, GraphProto, ModelProto, NodeProto, TensorProto};

pub(crate) use adopt::real;
pub use context::{Context, Failure};
pub use inputs::{DimInfo, InputInfo, shape_of_inputs};
pub use scope::{Sequence, Value};
pub(crate) use subgraph::A_NODE;
pub use subgraph::{Ends, MAX_UNROLLED, Recurrence, Results};
pub use support::{OperatorSupport, Support, support};
pub use tensor::{array_from_proto, byte_range, dtype_from_onnx, is_native};

use crate::array::Array;
use crate::budget::Budget;
use crate::graph::{Graph, TensorId};
use crate::ops::Operand;
use crate::{Error, Options, Unsupported, ops};
use scope::Frame;

/// Most elements a single tensor of a graph may have: more than any device this is for can hold, and few enough that a
/// malformed shape cannot make the compiler allocate without bound.
pub const MAX_ELEMENTS: usize = 1 << 31;

/// Whether a tensor of this shape stays within [`MAX_ELEMENTS`], its strides included where an extent is 0.
pub fn fits(shape: &[usize]) -> bool {
    let n = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1)));
    n.is_some_and(|n| n <= MAX_ELEMENTS)
}

/// Reads the file at `path`; external data is looked for beside it.
///
/// # Errors
/// [`Error::Io`] if it cannot be read, otherwise as [`import`].
pub fn import_file(path: &Path, options: &Options) -> Result<Graph, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
    import_shared(bytes.into(), path.parent(), options)
}

/// Reads an ONNX model into a graph.
///
/// # Errors
/// [`Error::Decode`], [`Error::Model`], [`Error::Tensor`] or [`Error::Node`] if the file is malformed,
/// [`Error::UnboundDimension`] if a symbolic dimension has no value, [`Error::Unsupported`] with every node that has no
/// counterpart here.
pub fn import(bytes: &[u8], base_dir: Option<&Path>, options: &Options) -> Result<Graph, Error> {
    import_shared(Bytes::copy_from_slice(bytes), base_dir, options)
}

/// As [`import`]; constants stay in the memory that the bytes lie in.
///
/// # Errors
/// As [`import`].
pub fn import_shared(bytes: Bytes, base_dir: Option<&Path>, options: &Options) -> Result<Graph, Error> {
    let size = bytes.len();
    let model = decode(bytes)?;
    let proto = model.graph.as_ref().expect("decode has checked it");
    let (budget, defaults) = (Budget::for_file(size), defaults::defaults(&model));
    let mut bound = BTreeSet::new();
    let mut round = 0;
    loop {
        let mut importer = Importer::new(&model, base_dir, options, budget.clone(), bound);
        let result = importer.model(&model, proto, &defaults);
        let more = importer.to_bind(&defaults, round, matches!(result, Err(Error::Unsupported(_))));
        if more.is_empty() {
            return result;
        }
        bound = importer.bound;
        bound.extend(more);
        round += 1;
    }
}

fn decode(bytes: Bytes) -> Result<ModelProto, Error> {
    if bytes.is_empty() {
        return Err(Error::Decode("the file is empty".into()));
    }
    if bytes.starts_with(&kinglet::format::MAGIC) {
        return Err(Error::Decode("it is a compiled Kinglet model (.kgl)".into()));
    }
    let model = ModelProto::from_shared(bytes).map_err(|e| Error::Decode(e.to_string()))?;
    if model.graph.is_none() {
        return Err(Error::Decode("it holds no graph (is it an ONNX file?)".into()));
    }
    if model.opset("") == 0 {
        return Err(Error::Model("it imports no ai.onnx operator set".into()));
    }
    for set in &model.opset_import {
        let newest = ops::NEWEST.iter().find(|(domain, _)| *domain == set.domain);
        if let Some((domain, newest)) = newest.filter(|(_, newest)| !(1..=*newest).contains(&set.version)) {
            let domain = if domain.is_empty() { "ai.onnx" } else { domain };
            return Err(Error::Model(format!(
                "it imports operator set {} of {domain}; known are 1 to {newest}: export with one of these",
                set.version
            )));
        }
    }
    Ok(model)
}

/// The state of an import.
pub(crate) struct Importer<'a> {
    /// The graph under construction.
    pub(crate) frame: Frame,
    /// Those around it, the model's own first: the frame is the body of a loop in the last.
    pub(crate) outer: Vec<Frame>,
    pub(crate) options: &'a Options,
    pub(crate) base_dir: Option<&'a Path>,
    /// Version of each operator set by domain.
    opsets: HashMap<String, i64>,
    functions: functions::Functions<'a>,
    unsupported: Vec<Unsupported>,
    pub(crate) budget: Budget,
    /// Inputs with a default that are constants in this import; see [`defaults`].
    bound: BTreeSet<String>,
    /// Those that should have been.
    needed: BTreeSet<String>,
    /// Constants of the file that were read, by their place in it: a body that is written out reads them in every trip.
    read: HashMap<*const TensorProto, Arc<Array>>,
    /// Outputs that the file does not have, which come behind its own: how many boxes selections hold.
    pub(crate) counts: Vec<(String, TensorId)>,
    /// Places of external data for which the budget was raised.
    granted: HashSet<String>,
}

impl<'a> Importer<'a> {
    fn new(
        model: &'a ModelProto,
        base_dir: Option<&'a Path>,
        options: &'a Options,
        budget: Budget,
        bound: BTreeSet<String>,
    ) -> Self {
        let opsets = model.opset_import.iter().map(|o| (o.domain.clone(), o.version));
        let mut opsets: HashMap<String, i64> = opsets.collect();
        opsets.insert(String::new(), model.opset(""));
        Importer {
            frame: Frame::within(&budget),
            outer: Vec::new(),
            options,
            base_dir,
            opsets,
            functions: functions::Functions::of(model),
            unsupported: Vec::new(),
            budget,
            bound,
            needed: BTreeSet::new(),
            read: HashMap::new(),
            counts: Vec::new(),
            granted: HashSet::new(),
        }
    }

    /// Imports the model's own graph.
    fn model(
        &mut self,
        model: &ModelProto,
        proto: &GraphProto,
        defaults: &HashMap<&str, &TensorProto>,
    ) -> Result<Graph, Error> {
        self.initializers(proto, defaults)?;
        self.inputs(proto, defaults)?;
        self.nodes(proto)?;
        self.outputs(proto)?;
        let mut graph = std::mem::take(&mut self.frame.graph);
        adopt::adopt(&mut graph);
        graph.metadata = model.metadata_props.iter().map(|e| (e.key.clone(), e.value.clone())).collect();
        graph.onnx_nodes = proto.node.len();
        graph.bound = self.bound.iter().cloned().collect();
        graph.retyped = inputs::retyped(proto);
        Ok(graph)
    }

    /// The value of a constant of the file.
    fn read(&mut self, t: &TensorProto) -> Result<Arc<Array>, tensor::Unreadable> {
        let place = std::ptr::from_ref(t);
        if let Some(value) = self.read.get(&place) {
            return Ok(value.clone());
        }
        let value = Arc::new(array_from_proto(t, self.base_dir)?);
        // A function that is written out several times is in memory as often, and the file that it names once.
        let place_in_file = || t.external_data.iter().map(|e| format!("{}={}\n", e.key, e.value)).collect::<String>();
        if t.data_location == 1 && self.granted.insert(place_in_file()) {
            self.budget.grant(value.len() * value.dtype.size());
        }
        self.read.insert(place, value.clone());
        Ok(value)
    }

    /// Defines the constants of a graph, but for those that are defaults of inputs.
    fn initializers(&mut self, proto: &GraphProto, but: &HashMap<&str, &TensorProto>) -> Result<(), Error> {
        for t in proto.initializer.iter().filter(|t| !but.contains_key(t.name.as_str())) {
            if let Some(value) = self.initializer(t)? {
                let id = self.frame.graph.add_exact(t.name.clone(), value);
                self.frame.define(t.name.clone(), Value::Tensor(id));
                self.frame.set_type(&t.name, t.data_type);
            }
        }
        Ok(())
    }

    /// The value of an initialiser. A type the runtime lacks may still be an unused leftover, so it only fails where it is used:
    /// then there is none.
    fn initializer(&mut self, t: &TensorProto) -> Result<Option<Arc<Array>>, Error> {
        match self.read(t) {
            Ok(value) => Ok(Some(value)),
            Err(reason) if reason.unsupported => {
                self.frame.define(t.name.clone(), Value::Unknown);
                self.unsupported.push(Unsupported {
                    node: t.name.clone(),
                    op: "initializer".into(),
                    reason: reason.text,
                    remedy: "convert the model to f32 or quantise it to int8".into(),
                });
                Ok(None)
            }
            Err(reason) => Err(Error::Tensor { tensor: t.name.clone(), reason: reason.text }),
        }
    }

    fn nodes(&mut self, proto: &GraphProto) -> Result<(), Error> {
        for i in order::order(proto) {
            self.node(&proto.node[i])?;
        }
        Ok(())
    }

    fn node(&mut self, node: &NodeProto) -> Result<(), Error> {
        let malformed = |reason: String| Error::Node { node: node_name(node), op: node.op_type.clone(), reason };
        for out in node.output.iter().filter(|o| !o.is_empty()) {
            if self.frame.defines(out) {
                return Err(malformed(format!("`{out}` is computed twice")));
            }
        }
        if let Some(function) = self.functions.called(node) {
            return self.call(node, function);
        }
        let domain = if node.domain == "ai.onnx" { "" } else { &node.domain };
        let opset = self.opsets.get(domain).copied().unwrap_or(0);
        let row = ops::find(&node.domain, &node.op_type);
        let mut known = row.is_some();
        for i in node.input.iter().filter(|i| !i.is_empty()) {
            match self.find(i) {
                Some(Value::Unknown) => known = false,
                Some(_) => {}
                // With an operator that nobody knows, nobody knows what its inputs should be.
                None if row.is_none() => {}
                None => {
                    return Err(malformed(format!(
                        "input `{i}` is computed by no earlier node (or only inside a subgraph)"
                    )));
                }
            }
        }
        if let Some(row) = row {
            let graph = &self.frame;
            let operand = |name: &str| match graph.find(name) {
                Some(Value::Tensor(t)) => Operand::Tensor(graph.graph.tensors[*t].dtype),
                Some(Value::Sequence(_)) => Operand::Sequence,
                Some(Value::Unknown) | None => Operand::Unknown,
            };
            let checked = row.signature.check(node, opset, operand);
            let imported = checked.and_then(|()| {
                if known {
                    (row.import)(&mut Context::new(self, node, opset))?;
                    return self.types_follow(node, opset);
                }
                self.forget_outputs(node);
                Ok(())
            });
            return match imported {
                Ok(()) => Ok(()),
                Err(Failure::Malformed(reason)) => Err(malformed(reason)),
                Err(Failure::Unsupported { reason, remedy }) => {
                    self.refuse(node, reason, remedy);
                    Ok(())
                }
            };
        }
        let (reason, remedy) = ops::why_unsupported(&node.domain, &node.op_type);
        self.refuse(node, reason, remedy);
        Ok(())
    }

    /// Notes that a node has no counterpart here; nothing can be said about what it computes.
    fn refuse(&mut self, node: &NodeProto, reason: String, remedy: String) {
        self.unsupported.push(Unsupported { node: node_name(node), op: node.op_type.clone(), reason, remedy });
        self.forget_outputs(node);
    }

    fn forget_outputs(&mut self, node: &NodeProto) {
        for name in node.output.iter().filter(|o| !o.is_empty()) {
            self.frame.define(name.clone(), Value::Unknown);
        }
    }

    fn outputs(&mut self, proto: &GraphProto) -> Result<(), Error> {
        if !self.unsupported.is_empty() {
            // A loop that is written out names its nodes in every trip.
            let mut named = HashSet::new();
            self.unsupported.retain(|u| named.insert((u.node.clone(), u.op.clone(), u.reason.clone())));
            return Err(Error::Unsupported(std::mem::take(&mut self.unsupported)));
        }
        if proto.output.is_empty() {
            return Err(Error::Model("it has no outputs".into()));
        }
        for out in &proto.output {
            let id = match self.frame.find(&out.name) {
                Some(Value::Tensor(t)) => *t,
                Some(_) => return Err(Error::Model(format!("output `{}` is a sequence", out.name))),
                None => return Err(Error::Model(format!("output `{}` is computed by no node", out.name))),
            };
            self.frame.graph.outputs.push(id);
            self.frame.graph.output_names.push(out.name.clone());
        }
        for (name, count) in std::mem::take(&mut self.counts) {
            let graph = &mut self.frame.graph;
            let taken = |name: &String| graph.output_names.contains(name);
            let numbered = (1..).map(|i| format!("{name}.{i}"));
            let free = std::iter::once(name.clone()).chain(numbered).find(|name| !taken(name)).expect("there is one");
            graph.outputs.push(count);
            graph.output_names.push(free);
        }
        Ok(())
    }
}

/// The name by which a node is known to people.
pub(crate) fn node_name(node: &NodeProto) -> String {
    if node.name.is_empty() { node.output.first().cloned().unwrap_or_default() } else { node.name.clone() }
}
