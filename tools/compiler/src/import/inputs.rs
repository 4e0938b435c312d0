//! The inputs of a model: what the file declares, and the tensors or values that they become.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use kinglet::DType;
use kinglet_onnx::{Bytes, DataType, Dimension, DimensionProto, GraphProto, TensorProto, ValueInfoProto};

use super::scope::Value;
use super::{Importer, decode, defaults, dtype_from_onnx, fits, is_native};
use crate::Error;
use crate::array::Array;
use crate::graph::Tensor;

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
    /// The element type that the plan has for it.
    pub dtype: DType,
    /// Its dimensions; none if it is not `ranked`.
    pub dims: Vec<DimInfo>,
    /// The file says how many dimensions there are. Otherwise whoever compiles it gives a shape.
    pub ranked: bool,
    /// The file has a default for it, so that no value need be given.
    pub has_default: bool,
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

/// The number of a declared element type, 0 if there is none.
fn element_type(value: &ValueInfoProto) -> i32 {
    value.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).map_or(0, |t| t.elem_type)
}

/// The inputs and outputs that a plan has other element types for, with the names of those that the file declares.
pub(super) fn retyped(proto: &GraphProto) -> Vec<(String, String)> {
    let constants: HashSet<&str> = proto.initializer.iter().map(|t| t.name.as_str()).collect();
    let inputs = proto.input.iter().filter(|i| !constants.contains(i.name.as_str()));
    let ports = inputs.chain(&proto.output).map(|port| (port, element_type(port)));
    let other = ports.filter(|&(_, code)| dtype_from_onnx(code).is_some() && !is_native(code));
    other.map(|(port, code)| (port.name.clone(), type_name(code))).collect()
}

/// The ONNX name of an element type.
fn type_name(code: i32) -> String {
    DataType::try_from(code).map_or("unknown".into(), |t| format!("{t:?}").to_uppercase())
}

/// An input as it is declared; what the declaration leaves out is as its default has it.
pub(super) fn input_info(value: &ValueInfoProto, default: Option<&TensorProto>) -> Result<InputInfo, Error> {
    let name = value.name.clone();
    let bad = |reason: String| Error::Input { input: value.name.clone(), reason };
    let tensor = value.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let Some(elem_type) = tensor.map(|t| t.elem_type).or(default.map(|t| t.data_type)) else {
        return Err(bad("it is not a tensor".into()));
    };
    let unsupported =
        || bad(format!("element type {} is not supported: convert the model to f32 and i64", type_name(elem_type)));
    let dtype = dtype_from_onnx(elem_type).ok_or_else(unsupported)?;
    let fixed = |t: &TensorProto| t.dims.iter().map(|&d| DimInfo::Fixed(d.max(0) as usize)).collect();
    let shape = tensor.and_then(|t| t.shape.as_ref());
    let ranked = shape.is_some() || default.is_some();
    let dims: Vec<DimInfo> = match (shape, default) {
        (None, None) => Vec::new(),
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
    Ok(InputInfo { dtype, dims, ranked, name, has_default: default.is_some() })
}

impl Importer<'_> {
    /// Gives the model's inputs their tensors, or the values they are bound to.
    pub(super) fn inputs(&mut self, proto: &GraphProto, defaults: &HashMap<&str, &TensorProto>) -> Result<(), Error> {
        let free = proto.input.iter().filter(|i| self.frame.find(&i.name).is_none());
        let infos = free.map(|i| input_info(i, defaults.get(i.name.as_str()).copied()));
        let infos = infos.collect::<Result<Vec<_>, _>>()?;
        let types: HashMap<&str, i32> = proto.input.iter().map(|i| (i.name.as_str(), element_type(i))).collect();
        if let Some(name) = self.options.bind.keys().find(|name| !infos.iter().any(|i| i.name == **name)) {
            let reason = "the model has no such input that could be bound".into();
            return Err(Error::Input { input: name.clone(), reason });
        }
        let symbols = self.bind_symbols(&infos, defaults)?;
        for info in infos {
            let mut shape = Vec::new();
            if !info.ranked {
                let given = self.options.shapes.get(&info.name);
                let given = given.or(self.options.bind.get(&info.name).map(|value| &value.shape));
                shape = given.ok_or_else(|| Error::UnknownShape { input: info.name.clone() })?.clone();
            }
            for d in &info.dims {
                shape.push(match d {
                    DimInfo::Fixed(n) => *n,
                    DimInfo::Symbol(s) => *symbols
                        .get(s)
                        .ok_or_else(|| Error::UnboundDimension { input: info.name.clone(), dimension: s.clone() })?,
                });
            }
            let default = match defaults.get(info.name.as_str()) {
                Some(t) if !self.options.bind.contains_key(&info.name) => match self.initializer(t)? {
                    None => continue,
                    some => some,
                },
                _ => None,
            };
            if let Some(value) = self.fixed_value(&info, &shape, default.as_ref())? {
                let id = self.frame.graph.add_exact(info.name.clone(), value);
                self.frame.define(info.name.clone(), Value::Tensor(id));
                self.frame.set_type(&info.name, types[&*info.name]);
                continue;
            }
            if !fits(&shape) {
                let reason = format!("shape {shape:?} has too many elements");
                return Err(Error::Input { input: info.name, reason });
            }
            let tensor = Tensor { name: info.name.clone(), dtype: info.dtype, shape, quant: None, value: None };
            let default = default.filter(|d| d.shape == tensor.shape);
            let id = self.frame.graph.add_tensor(tensor);
            self.frame.define(info.name.clone(), Value::Tensor(id));
            self.frame.set_type(&info.name, types[&*info.name]);
            self.frame.graph.inputs.push(id);
            if let Some(default) = default {
                self.frame.graph.defaults.insert(id, default);
            }
        }
        Ok(())
    }

    /// The value of an input that is a constant here: it is bound, or has no elements, so that there is one value of it alone.
    fn fixed_value(
        &self,
        info: &InputInfo,
        shape: &[usize],
        default: Option<&Arc<Array>>,
    ) -> Result<Option<Arc<Array>>, Error> {
        if let Some(value) = self.options.bind.get(&info.name) {
            if (value.dtype, &value.shape[..]) != (info.dtype, shape) {
                let is = |dtype: DType, shape: &[usize]| format!("{} {shape:?}", dtype.name());
                let (own, given) = (is(info.dtype, shape), is(value.dtype, &value.shape));
                let reason = format!("it is {own}, and the value to bind it to {given}");
                return Err(Error::Input { input: info.name.clone(), reason });
            }
            return Ok(Some(value.clone().into()));
        }
        let empty = shape.contains(&0) && fits(shape);
        match default {
            Some(default) if empty || self.bound.contains(&info.name) => {
                self.bound_value(&info.name, shape, default).map(Some)
            }
            _ if empty => Ok(Array::from_bytes(info.dtype, shape, &[]).map(Arc::new)),
            _ => Ok(None),
        }
    }

    /// Symbols take the values given for them, or the sizes that given arrays, or else defaults, have in their places.
    fn bind_symbols(
        &self,
        infos: &[InputInfo],
        defaults: &HashMap<&str, &TensorProto>,
    ) -> Result<BTreeMap<String, usize>, Error> {
        let mut symbols = self.options.dims.clone();
        for info in infos {
            let Some(shape) = self.options.shapes.get(&info.name).filter(|_| info.ranked) else { continue };
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
}
