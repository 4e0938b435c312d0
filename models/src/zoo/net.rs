//! An ONNX graph under construction, with the shape of every value known.
//!
//! A builder of an architecture calls methods named by ONNX operators (`ops.rs`) and by the layers of PyTorch
//! (`layers.rs`); each adds its nodes and returns a [`Value`]. Names are module paths: inside `net.scope("network.0.0",
//! …)` a node called
//! `token_mixer.pool` is `network.0.0.token_mixer.pool`, and so is its output.
//!
//! Methods panic where shapes do not fit together: that is a mistake of the builder. Whatever a user chooses, above all
//! the size of the input, the builder checks before it begins.

use std::collections::BTreeSet;

use kinglet_onnx::{
    AttributeProto, DataType, Dimension, DimensionProto, GraphProto, NodeProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto,
};

use super::error::Error;
use super::weights::{Init, Role, StateTensor, StateType, Weights};

/// Domain of Kinglet's own operators, `SelectiveScan` and `LegendreMemory`.
pub const DOMAIN: &str = "ai.kinglet";
/// Version of its operator set.
pub const DOMAIN_VERSION: i64 = 1;

/// A tensor of the graph: an input, a constant, or what a node computes.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    name: String,
    shape: Vec<usize>,
    dtype: DataType,
}

impl Value {
    /// Its name in the graph.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How many elements it has.
    #[expect(clippy::len_without_is_empty, reason = "no value of the zoo is empty")]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Its element type.
    pub fn dtype(&self) -> DataType {
        self.dtype
    }

    /// Length of an axis; negative ones count from the end.
    pub fn dim(&self, axis: isize) -> usize {
        self.shape[if axis < 0 { self.shape.len().checked_add_signed(axis).expect("an axis") } else { axis as usize }]
    }
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// An integer.
    Int(i64),
    /// Integers.
    Ints(Vec<i64>),
    /// A float.
    Float(f32),
    /// A string.
    String(&'static str),
    /// A graph (the body of control flow).
    Graph(Box<GraphProto>),
}

impl Attribute {
    /// Integers, from anything that counts.
    pub fn ints(values: &[usize]) -> Self {
        Attribute::Ints(values.iter().map(|&v| v as i64).collect())
    }

    fn proto(self, name: &str) -> AttributeProto {
        let mut a = AttributeProto { name: name.to_string(), ..AttributeProto::default() };
        // The numbers are those of AttributeProto.AttributeType.
        a.r#type = match self {
            Attribute::Float(v) => (a.f = v, 1).1,
            Attribute::Int(v) => (a.i = v, 2).1,
            Attribute::String(v) => (a.s = v.into(), 3).1,
            Attribute::Graph(v) => (a.g = Some(*v), 5).1,
            Attribute::Ints(v) => (a.ints = v, 7).1,
        };
        a
    }
}

/// What is left when a graph is complete.
pub(super) struct Finished {
    pub graph: GraphProto,
    pub state: Vec<StateTensor>,
    pub parameters: u64,
    pub macs: u64,
}

/// A graph under construction.
pub struct Net<'a> {
    graph: GraphProto,
    // All constants lie in the outermost graph; bodies of control flow refer to them by name.
    initializers: Vec<TensorProto>,
    scope: Vec<String>,
    names: BTreeSet<String>,
    weights: Weights<'a>,
    parameters: u64,
    macs: u64,
}

impl<'a> Net<'a> {
    pub(super) fn new(model: &str, weights: Weights<'a>) -> Self {
        let graph = GraphProto { name: model.to_string(), ..GraphProto::default() };
        let (initializers, scope, names) = (Vec::new(), Vec::new(), BTreeSet::new());
        Net { graph, initializers, scope, names, weights, parameters: 0, macs: 0 }
    }

    /// The error of a model that cannot take pictures of this size; `reason` says which it can take.
    pub fn size_error(&self, (height, width): (usize, usize), reason: impl Into<String>) -> Error {
        Error::Size { model: self.graph.name.clone(), height, width, reason: reason.into() }
    }

    /// Runs `build` inside a module: names in there begin with the module's path.
    pub fn scope<T>(&mut self, module: impl Into<String>, build: impl FnOnce(&mut Self) -> T) -> T {
        self.scope.push(module.into());
        let result = build(self);
        self.scope.pop();
        result
    }

    /// The path of `name` inside the present scope.
    pub fn path(&self, name: &str) -> String {
        self.scope
            .iter()
            .map(String::as_str)
            .chain([name])
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(".")
    }

    /// A name that nothing in the graph has yet: `path`, or `path_1`, `path_2`, …
    fn unique(&mut self, path: String) -> String {
        let numbered = (1..).map(|i| format!("{path}_{i}"));
        let free = std::iter::once(path.clone()).chain(numbered).find(|name| !self.names.contains(name));
        let name = free.expect("there are more numbers than names");
        self.names.insert(name.clone());
        name
    }

    /// An input of the graph, f32.
    pub fn input(&mut self, name: &str, shape: &[usize]) -> Value {
        self.typed_input(name, shape, DataType::Float)
    }

    /// An input of the graph of any element type.
    pub fn typed_input(&mut self, name: &str, shape: &[usize], dtype: DataType) -> Value {
        assert!(self.names.insert(name.to_string()), "two inputs `{name}`");
        let value = Value { name: name.to_string(), shape: shape.to_vec(), dtype };
        self.graph.input.push(value_info(&value));
        value
    }

    /// Makes `value` an output of the graph. It takes the name `name`.
    pub fn output(&mut self, name: &str, value: &Value) {
        assert!(self.names.insert(name.to_string()), "`{name}` is taken");
        for node in &mut self.graph.node {
            for n in node.input.iter_mut().chain(&mut node.output).filter(|n| **n == value.name) {
                *n = name.to_string();
            }
        }
        self.graph.value_info.retain(|v| v.name != value.name);
        self.graph.output.push(value_info(&Value { name: name.to_string(), ..value.clone() }));
    }

    /// Adds a node with one output, f32. `name` is its path inside the scope.
    pub fn node(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&Value],
        attributes: &[(&str, Attribute)],
        shape: &[usize],
    ) -> Value {
        self.typed_nodes(op, name, inputs, attributes, &[(shape, DataType::Float)]).remove(0)
    }

    /// Adds a node with any number of outputs of given shapes and types.
    pub fn typed_nodes(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&Value],
        attributes: &[(&str, Attribute)],
        outputs: &[(&[usize], DataType)],
    ) -> Vec<Value> {
        let path = self.path(name);
        let node_name = self.unique(path);
        let mut values = Vec::new();
        for (i, &(shape, dtype)) in outputs.iter().enumerate() {
            assert!(shape.iter().all(|&d| d > 0), "`{node_name}` computes an empty tensor {shape:?}");
            let name = if i == 0 { node_name.clone() } else { self.unique(format!("{node_name}.{i}")) };
            let value = Value { name, shape: shape.to_vec(), dtype };
            self.graph.value_info.push(value_info(&value));
            values.push(value);
        }
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|v| v.name.clone()).collect(),
            output: values.iter().map(|v| v.name.clone()).collect(),
            name: node_name,
            op_type: op.to_string(),
            attribute: attributes.iter().map(|(name, value)| value.clone().proto(name)).collect(),
            ..NodeProto::default()
        });
        values
    }

    /// Adds a node of Kinglet's own domain, [`DOMAIN`], with f32 outputs of given shapes. Inputs may be absent.
    pub fn own_nodes(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[Option<&Value>],
        attributes: &[(&str, Attribute)],
        outputs: &[&[usize]],
    ) -> Vec<Value> {
        let absent = Value { name: String::new(), shape: Vec::new(), dtype: DataType::Undefined };
        let inputs: Vec<&Value> = inputs.iter().map(|v| v.unwrap_or(&absent)).collect();
        let outputs: Vec<(&[usize], DataType)> = outputs.iter().map(|&shape| (shape, DataType::Float)).collect();
        let values = self.typed_nodes(op, name, &inputs, attributes, &outputs);
        self.graph.node.last_mut().expect("was just added").domain = DOMAIN.to_string();
        values
    }

    /// A graph of its own with the inputs given (names inside the scope, shapes, types): the body of a Scan or Loop
    /// that runs `times` times. It may use any value of the graph around it. `build` returns its outputs.
    pub fn body(
        &mut self,
        name: &str,
        times: usize,
        inputs: &[(&str, &[usize], DataType)],
        build: impl FnOnce(&mut Self, &[Value]) -> Vec<Value>,
    ) -> GraphProto {
        let graph = GraphProto { name: self.path(name), ..GraphProto::default() };
        let (around, macs) = (std::mem::replace(&mut self.graph, graph), std::mem::take(&mut self.macs));
        let typed =
            |&(name, shape, dtype): &(&str, &[usize], DataType)| self.typed_input(&self.path(name), shape, dtype);
        let inputs: Vec<Value> = inputs.iter().map(typed).collect();
        let outputs = build(self, &inputs);
        self.macs = macs + self.macs * times as u64;
        let mut body = std::mem::replace(&mut self.graph, around);
        body.value_info.retain(|v| outputs.iter().all(|o| o.name != v.name));
        body.output = outputs.iter().map(value_info).collect();
        body
    }

    /// A parameter of the official state dict as a constant of the graph, under its official name.
    pub fn weight(&mut self, name: &str, shape: &[usize], init: &Init) -> Value {
        self.state_tensor(name, shape, Role::Parameter, init)
    }

    /// The same for a tensor that is not learned.
    pub fn buffer(&mut self, name: &str, shape: &[usize], init: &Init) -> Value {
        self.state_tensor(name, shape, Role::Buffer, init)
    }

    fn state_tensor(&mut self, name: &str, shape: &[usize], role: Role, init: &Init) -> Value {
        let values = self.numbers(name, shape, role, init);
        self.constant(name, shape, values)
    }

    /// The numbers of a tensor of the official state dict, for a builder that computes with them; empty in a run that
    /// only counts. They go into the graph by [`constant`](Net::constant).
    pub fn numbers(&mut self, name: &str, shape: &[usize], role: Role, init: &Init) -> Vec<f32> {
        let path = self.path(name);
        if role == Role::Parameter {
            self.parameters += shape.iter().product::<usize>() as u64;
        }
        self.weights.take(&path, shape, role, init)
    }

    /// Declares a tensor that official checkpoints have and inference does not read. A file may have it or not.
    pub fn unused(&mut self, name: &str, shape: &[usize], dtype: StateType) {
        let path = self.path(name);
        self.weights.unused(&path, shape, dtype);
    }

    /// Whether numbers are drawn, so that their [`Init`] matters.
    pub fn is_seeded(&self) -> bool {
        self.weights.is_seeded()
    }

    /// Whether this run only counts: numbers are empty, and whatever is computed from them may be as well.
    pub fn is_dry(&self) -> bool {
        self.weights.is_dry()
    }

    /// A constant that is no tensor of the state dict, f32, row-major.
    pub fn constant(&mut self, name: &str, shape: &[usize], values: Vec<f32>) -> Value {
        let name = self.path(name);
        assert!(self.names.insert(name.clone()), "`{name}` is taken");
        assert!(self.is_dry() || values.len() == shape.iter().product::<usize>(), "`{name}`: not of shape {shape:?}");
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.push_initializer(Value { name, shape: shape.to_vec(), dtype: DataType::Float }, raw)
    }

    fn push_initializer(&mut self, value: Value, raw_data: Vec<u8>) -> Value {
        self.initializers.push(TensorProto {
            name: value.name.clone(),
            dims: value.shape.iter().map(|&d| d as i64).collect(),
            data_type: value.dtype as i32,
            raw_data: raw_data.into(),
            ..TensorProto::default()
        });
        value
    }

    /// A scalar of i64 (a position, a number of trips); the same number is the same constant.
    pub fn int(&mut self, number: i64) -> Value {
        self.shared(format!("int {number}"), &[], DataType::Int64, &number.to_le_bytes())
    }

    /// The truth value `true`, a scalar.
    pub fn truth(&mut self) -> Value {
        self.shared("true".to_string(), &[], DataType::Bool, &[1])
    }

    /// A scalar of f32; the same number is the same constant.
    pub fn scalar(&mut self, number: f32) -> Value {
        self.shared(format!("scalar {number:?}"), &[], DataType::Float, &number.to_le_bytes())
    }

    /// A vector of f32; the same numbers are the same constant.
    pub fn floats(&mut self, numbers: &[f32]) -> Value {
        let raw: Vec<u8> = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.shared(format!("floats {numbers:?}"), &[numbers.len()], DataType::Float, &raw)
    }

    /// A vector of i64 (axes, shapes, bounds); the same numbers are the same constant.
    pub fn ints(&mut self, numbers: &[i64]) -> Value {
        let raw: Vec<u8> = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.shared(format!("ints {numbers:?}"), &[numbers.len()], DataType::Int64, &raw)
    }

    fn shared(&mut self, name: String, shape: &[usize], dtype: DataType, raw: &[u8]) -> Value {
        let value = Value { name, shape: shape.to_vec(), dtype };
        if !self.names.insert(value.name.clone()) {
            return value;
        }
        self.push_initializer(value, raw.to_vec())
    }

    /// Adds to the count of multiply-accumulates. Methods that multiply do it themselves.
    pub fn count_macs(&mut self, macs: usize) {
        self.macs += macs as u64;
    }

    pub(super) fn finish(self) -> Result<Finished, Error> {
        let state = self.weights.finish(&self.graph.name)?;
        let graph = GraphProto { initializer: self.initializers, ..self.graph };
        Ok(Finished { graph, state, parameters: self.parameters, macs: self.macs })
    }
}

fn value_info(value: &Value) -> ValueInfoProto {
    let dim = value.shape.iter().map(|&d| DimensionProto { value: Some(Dimension::Value(d as i64)) }).collect();
    let tensor = TensorTypeProto { elem_type: value.dtype as i32, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: value.name.clone(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}

/// The shape that [`value_info`] wrote.
pub(super) fn shape(info: &ValueInfoProto) -> Vec<usize> {
    let tensor = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let dims = tensor.and_then(|t| t.shape.as_ref()).map_or(&[][..], |s| &s.dim);
    let length = |d: &DimensionProto| match d.value {
        Some(Dimension::Value(n)) => n as usize,
        _ => unreachable!("shapes of the zoo are numbers"),
    };
    dims.iter().map(length).collect()
}
