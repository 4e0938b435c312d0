//! Small models for unit tests of the importer.

use kinglet_onnx::{
    DataType, Dimension, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

use crate::array::Array;
use crate::{Options, eval};

/// A node; names are separated by blanks.
pub(super) fn node(op: &str, input: &str, output: &str) -> NodeProto {
    let names = |names: &str| names.split_whitespace().map(String::from).collect();
    let (domain, op) = op.rsplit_once('.').unwrap_or(("", op));
    NodeProto {
        op_type: op.into(),
        domain: domain.into(),
        input: names(input),
        output: names(output),
        ..NodeProto::default()
    }
}

/// A model in operator set 18 with these inputs and one output, and the integers `zero`, `two` and `five`.
pub(super) fn model(inputs: &[(&str, DataType, &[i64])], node: Vec<NodeProto>, output: &str) -> ModelProto {
    let input = |(name, elem_type, dims): &(&str, DataType, &[i64])| {
        let dim = dims.iter().map(|&d| DimensionProto { value: Some(Dimension::Value(d)) }).collect();
        let tensor = TensorTypeProto { elem_type: *elem_type as i32, shape: Some(TensorShapeProto { dim }) };
        ValueInfoProto { name: name.to_string(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
    };
    let scalar = |(name, value): (&str, i64)| TensorProto {
        name: name.into(),
        data_type: DataType::Int64 as i32,
        int64_data: vec![value],
        ..TensorProto::default()
    };
    let graph = GraphProto {
        node,
        input: inputs.iter().map(input).collect(),
        output: vec![ValueInfoProto { name: output.into(), r#type: None }],
        initializer: [("zero", 0), ("two", 2), ("five", 5)].map(scalar).to_vec(),
        ..GraphProto::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 18 }];
    ModelProto { ir_version: 9, graph: Some(graph), opset_import, ..ModelProto::default() }
}

/// What the imported model gives.
pub(super) fn answer(model: &ModelProto, inputs: &[Array]) -> Array {
    let graph = super::import(&model.to_bytes(), None, &Options::default()).expect("it is in order");
    eval::run(&graph, inputs).expect("it evaluates").swap_remove(0)
}
