//! ONNX file → graph.
//!
//! Nodes are read in order. Shapes are static from the first tensor on, so whatever only computes shapes (`Shape`, `Gather`,
//! `Concat`, …) has constant inputs and folds away at once: there is no separate shape inference. `DequantizeLinear` alone
//! is never folded, so that integer weights stay the bytes they are in the file.

mod adopt;
mod attributes;
mod context;
mod defaults;
mod emit;
mod order;
mod scope;
mod subgraph;
mod tensor;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use kinglet::DType;
use kinglet_onnx::{Bytes, Dimension, DimensionProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

pub(crate) use adopt::real;
pub use context::{Context, Failure};
pub use scope::{Sequence, Value};
pub use subgraph::{MAX_UNROLLED, Recurrence, Results};
pub use tensor::{array_from_proto, dtype_from_onnx, is_native};

use crate::array::Array;
use crate::budget::Budget;
use crate::graph::{Graph, Tensor};
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

/// A dimension of an input as the file declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DimInfo {
    /// A number.
    Fixed(usize),
    /// A symbol; dimensions without one are called `INPUT_AXIS`.
    Symbol(String),
}

/// An input as the file declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputInfo {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its dimensions.
    pub dims: Vec<DimInfo>,
    /// The file has a default for it, so that no value need be given.
    pub has_default: bool,
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

/// What the inputs of a model are, without compiling it.
///
/// # Errors
/// [`Error::Decode`] or [`Error::Model`] if the file is malformed.
pub fn shape_of_inputs(bytes: &[u8]) -> Result<Vec<InputInfo>, Error> {
    let model = decode(Bytes::copy_from_slice(bytes))?;
    let graph = model.graph.as_ref().expect("decode has checked it");
    let constants: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let defaults = defaults::defaults(&model);
    let default = |i: &ValueInfoProto| defaults.get(i.name.as_str()).copied();
    let inputs = graph.input.iter().filter(|i| default(i).is_some() || !constants.contains(i.name.as_str()));
    inputs.map(|i| input_info(i, default(i))).collect()
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

/// An input as it is declared; what the declaration leaves out is as its default has it.
fn input_info(value: &ValueInfoProto, default: Option<&TensorProto>) -> Result<InputInfo, Error> {
    let name = value.name.clone();
    let bad = |reason: String| Error::Input { input: value.name.clone(), reason };
    let tensor = value.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let Some(elem_type) = tensor.map(|t| t.elem_type).or(default.map(|t| t.data_type)) else {
        return Err(bad("it is not a tensor".into()));
    };
    let unsupported = || {
        let name = kinglet_onnx::DataType::try_from(elem_type).map_or("unknown".into(), |t| format!("{t:?}"));
        bad(format!("element type {name} is not supported: convert the model to f32 and i64"))
    };
    let dtype = dtype_from_onnx(elem_type).filter(|_| is_native(elem_type)).ok_or_else(unsupported)?;
    let fixed = |t: &TensorProto| t.dims.iter().map(|&d| DimInfo::Fixed(d.max(0) as usize)).collect();
    let dims: Vec<DimInfo> = match (tensor.and_then(|t| t.shape.as_ref()), default) {
        (None, None) => return Err(bad("it has no shape, not even a rank".into())),
        (None, Some(default)) => fixed(default),
        (Some(shape), _) => {
            let dim = |(axis, d): (usize, &DimensionProto)| match &d.value {
                Some(Dimension::Value(v)) if *v >= 0 => DimInfo::Fixed(*v as usize),
                Some(Dimension::Param(s)) if !s.is_empty() => DimInfo::Symbol(s.clone()),
                _ => DimInfo::Symbol(format!("{name}_{axis}")),
            };
            shape.dim.iter().enumerate().map(dim).collect()
        }
    };
    if let Some(default) = default.filter(|t| t.data_type != elem_type || t.dims.len() != dims.len()) {
        let (rank, own) = (dims.len(), default.dims.len());
        let types = [elem_type, default.data_type].map(|t| dtype_from_onnx(t).map_or("another type", DType::name));
        let [declared, given] = types;
        return Err(bad(format!("it is {declared} of rank {rank}, and its initialiser {given} of rank {own}")));
    }
    Ok(InputInfo { dtype, dims, name, has_default: default.is_some() })
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
    unsupported: Vec<Unsupported>,
    pub(crate) budget: Budget,
    /// Inputs with a default that are constants in this import; see [`defaults`].
    bound: BTreeSet<String>,
    /// Those that should have been.
    needed: BTreeSet<String>,
    /// Constants of the file that were read, by their place in it: a body that is written out reads them in every trip.
    read: HashMap<*const TensorProto, Arc<Array>>,
}

impl<'a> Importer<'a> {
    fn new(
        model: &ModelProto,
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
            unsupported: Vec::new(),
            budget,
            bound,
            needed: BTreeSet::new(),
            read: HashMap::new(),
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
        Ok(graph)
    }

    /// The value of a constant of the file.
    fn read(&mut self, t: &TensorProto) -> Result<Arc<Array>, tensor::Unreadable> {
        let place = std::ptr::from_ref(t);
        if let Some(value) = self.read.get(&place) {
            return Ok(value.clone());
        }
        let value = Arc::new(array_from_proto(t, self.base_dir)?);
        if t.data_location == 1 {
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

    fn inputs(&mut self, proto: &GraphProto, defaults: &HashMap<&str, &TensorProto>) -> Result<(), Error> {
        let free = proto.input.iter().filter(|i| self.frame.find(&i.name).is_none());
        let infos = free.map(|i| input_info(i, defaults.get(i.name.as_str()).copied()));
        let infos = infos.collect::<Result<Vec<_>, _>>()?;
        let symbols = self.bind_symbols(&infos, defaults)?;
        for info in infos {
            let mut shape = Vec::new();
            for d in &info.dims {
                shape.push(match d {
                    DimInfo::Fixed(n) => *n,
                    DimInfo::Symbol(s) => *symbols
                        .get(s)
                        .ok_or_else(|| Error::UnboundDimension { input: info.name.clone(), dimension: s.clone() })?,
                });
            }
            let default = match defaults.get(info.name.as_str()) {
                Some(t) => match self.initializer(t)? {
                    None => continue,
                    some => some,
                },
                None => None,
            };
            // Nothing can be given for what has no elements.
            if let Some(default) = default.as_ref().filter(|_| self.bound.contains(&info.name) || shape.contains(&0)) {
                let value = self.bound_value(&info.name, &shape, default)?;
                let id = self.frame.graph.add_constant(info.name.clone(), value);
                self.frame.define(info.name, Value::Tensor(id));
                continue;
            }
            if shape.contains(&0) || !fits(&shape) {
                let reason = format!("shape {shape:?} has no elements, or too many");
                return Err(Error::Input { input: info.name, reason });
            }
            let tensor = Tensor { name: info.name.clone(), dtype: info.dtype, shape, quant: None, value: None };
            let default = default.filter(|d| d.shape == tensor.shape);
            let id = self.frame.graph.add_tensor(tensor);
            self.frame.define(info.name, Value::Tensor(id));
            self.frame.graph.inputs.push(id);
            if let Some(default) = default {
                self.frame.graph.defaults.insert(id, default);
            }
        }
        Ok(())
    }

    /// Symbols take the values given for them, or the sizes that given arrays, or else defaults, have in their places.
    fn bind_symbols(
        &self,
        infos: &[InputInfo],
        defaults: &HashMap<&str, &TensorProto>,
    ) -> Result<BTreeMap<String, usize>, Error> {
        let mut symbols = self.options.dims.clone();
        for info in infos {
            let Some(shape) = self.options.shapes.get(&info.name) else { continue };
            let bad = |reason: String| Error::Input { input: info.name.clone(), reason };
            if shape.len() != info.dims.len() {
                return Err(bad(format!(
                    "the array given has shape {shape:?}, the model wants rank {}",
                    info.dims.len()
                )));
            }
            for (axis, (d, &n)) in info.dims.iter().zip(shape).enumerate() {
                match d {
                    DimInfo::Fixed(want) if *want != n => {
                        return Err(bad(format!("axis {axis} of the array given is {n}, the model wants {want}")));
                    }
                    DimInfo::Fixed(_) => {}
                    DimInfo::Symbol(s) => match symbols.insert(s.clone(), n) {
                        Some(old) if old != n => {
                            return Err(bad(format!("dimension `{s}` is {n} here and {old} elsewhere")));
                        }
                        _ => {}
                    },
                }
            }
        }
        for (info, default) in infos.iter().filter_map(|i| Some((i, defaults.get(i.name.as_str())?))) {
            for (d, &n) in info.dims.iter().zip(&default.dims) {
                if let (DimInfo::Symbol(s), Ok(n)) = (d, usize::try_from(n)) {
                    symbols.entry(s.clone()).or_insert(n);
                }
            }
        }
        Ok(symbols)
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
                    return (row.import)(&mut Context::new(self, node, opset));
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
            let declared = out.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).map_or(0, |t| t.elem_type);
            if dtype_from_onnx(declared).is_some() && !is_native(declared) {
                let name = kinglet_onnx::DataType::try_from(declared).map_or("unknown".into(), |t| format!("{t:?}"));
                return Err(Error::Model(format!("output `{}` is of type {name}: cast it to f32 or i64", out.name)));
            }
            let id = match self.frame.find(&out.name) {
                Some(Value::Tensor(t)) => *t,
                Some(_) => return Err(Error::Model(format!("output `{}` is a sequence", out.name))),
                None => return Err(Error::Model(format!("output `{}` is computed by no node", out.name))),
            };
            self.frame.graph.outputs.push(id);
            self.frame.graph.output_names.push(out.name.clone());
        }
        Ok(())
    }
}

/// The name by which a node is known to people.
pub(crate) fn node_name(node: &NodeProto) -> String {
    if node.name.is_empty() { node.output.first().cloned().unwrap_or_default() } else { node.name.clone() }
}
