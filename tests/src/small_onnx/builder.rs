//! ONNX models in a few lines.

use kinglet_compiler::ops::{NEWEST_OPSET, OWN_DOMAIN};
use kinglet_onnx::{
    AttributeProto, DataType, Dimension, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

/// Value of an attribute.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// An integer.
    I(i64),
    /// A float.
    F(f32),
    /// Integers.
    Is(&'a [i64]),
    /// Floats.
    Fs(&'a [f32]),
    /// A string.
    S(&'a str),
    /// Strings.
    Ss(&'a [&'a str]),
    /// A tensor.
    T(Box<TensorProto>),
    /// A graph.
    G(Box<GraphProto>),
}

/// A model under construction.
#[derive(Clone, Debug)]
pub struct Builder {
    model: ModelProto,
}

/// A tensor of small reals without a pattern.
pub fn floats(name: &str, dims: &[i64]) -> TensorProto {
    let n: i64 = dims.iter().product();
    let data = (0..n).map(|i| ((i * 37 + 11) % 64 - 31) as f32 / 32.0).collect();
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        float_data: data,
        ..TensorProto::default()
    }
}

/// A tensor of the given integers, of an integer type.
pub fn ints(name: &str, data_type: DataType, dims: &[i64], values: &[i64]) -> TensorProto {
    let mut t =
        TensorProto { name: name.into(), dims: dims.to_vec(), data_type: data_type as i32, ..TensorProto::default() };
    if data_type == DataType::Int64 {
        t.int64_data = values.to_vec();
    } else {
        t.int32_data = values.iter().map(|&v| v as i32).collect();
    }
    t
}

/// A scalar (one value) or a vector of the given reals.
pub fn reals(name: &str, values: &[f32]) -> TensorProto {
    let dims = if values.len() == 1 { vec![] } else { vec![values.len() as i64] };
    TensorProto { float_data: values.to_vec(), ..floats(name, &dims) }
}

impl Default for Builder {
    fn default() -> Self {
        let opset = |(domain, version): (&str, i64)| OperatorSetIdProto { domain: domain.into(), version };
        let opset_import = [("", NEWEST_OPSET), (OWN_DOMAIN, 1)].map(opset).to_vec();
        let graph = Some(GraphProto::default());
        Builder { model: ModelProto { ir_version: 10, graph, opset_import, ..ModelProto::default() } }
    }
}

impl Builder {
    fn graph(&mut self) -> &mut GraphProto {
        self.model.graph.get_or_insert_default()
    }

    /// Says which operator set of ai.onnx the model is written in.
    pub fn opset(&mut self, version: i64) -> &mut Self {
        self.model.opset_import[0].version = version;
        self
    }

    /// Adds an input.
    pub fn input(&mut self, name: &str, data_type: DataType, dims: &[i64]) -> &mut Self {
        let dim = dims.iter().map(|&d| DimensionProto { value: Some(Dimension::Value(d)) }).collect();
        let tensor = TensorTypeProto { elem_type: data_type as i32, shape: Some(TensorShapeProto { dim }) };
        let r#type = Some(TypeProto { tensor_type: Some(tensor) });
        self.graph().input.push(ValueInfoProto { name: name.into(), r#type });
        self
    }

    /// Adds inputs of a subgraph, which need neither type nor shape; names are separated by blanks.
    pub fn formals(&mut self, names: &str) -> &mut Self {
        let names = names.split_whitespace().map(|n| ValueInfoProto { name: n.into(), r#type: None });
        self.graph().input.extend(names);
        self
    }

    /// Adds an initialiser.
    pub fn constant(&mut self, tensor: TensorProto) -> &mut Self {
        self.graph().initializer.push(tensor);
        self
    }

    /// Adds a node; names are separated by blanks, `_` stands for an absent one. The operator's domain may stand before it, with
    /// a dot.
    pub fn node(&mut self, op: &str, inputs: &str, outputs: &str, attributes: &[(&str, Value<'_>)]) -> &mut Self {
        let attribute = attributes.iter().map(|(name, value)| {
            let mut a = AttributeProto { name: (*name).into(), ..AttributeProto::default() };
            match value.clone() {
                Value::I(v) => a.i = v,
                Value::F(v) => a.f = v,
                Value::Is(v) => a.ints = v.to_vec(),
                Value::Fs(v) => a.floats = v.to_vec(),
                Value::S(v) => a.s = v.into(),
                Value::Ss(v) => a.strings = v.iter().map(|&s| s.into()).collect(),
                Value::T(v) => a.t = Some(*v),
                Value::G(v) => a.g = Some(*v),
            }
            a
        });
        let name = |n: &str| if n == "_" { String::new() } else { n.into() };
        let names = |names: &str| names.split_whitespace().map(name).collect();
        let (domain, op) = op.rsplit_once('.').unwrap_or(("", op));
        let node = NodeProto {
            op_type: op.into(),
            domain: domain.into(),
            input: names(inputs),
            output: names(outputs),
            attribute: attribute.collect(),
            ..NodeProto::default()
        };
        self.graph().node.push(node);
        self
    }

    /// Adds a node as it is.
    pub fn push(&mut self, node: NodeProto) -> &mut Self {
        self.graph().node.push(node);
        self
    }

    /// Adds outputs; names are separated by blanks.
    pub fn outputs(&mut self, names: &str) -> &mut Self {
        let names = names.split_whitespace().map(|n| ValueInfoProto { name: n.into(), r#type: None });
        self.graph().output.extend(names);
        self
    }

    /// The model.
    pub fn build(&mut self) -> ModelProto {
        self.model.clone()
    }

    /// The graph, as the value of an attribute.
    pub fn body(&mut self) -> Value<'static> {
        Value::G(Box::new(self.graph().clone()))
    }
}
