//! Attributes of nodes, with their types, and constants as ONNX has them.

use kinglet::DType;
use kinglet_compiler::array::Array;
use kinglet_onnx::{
    AttributeProto, DataType, Dimension, DimensionProto, GraphProto, TensorProto, TensorShapeProto, TensorTypeProto,
    TypeProto, ValueInfoProto,
};

fn named(name: &str, r#type: i32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type, ..AttributeProto::default() }
}

/// An integer.
pub fn i(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i, ..named(name, 2) }
}

/// A float.
pub fn f(name: &str, f: f32) -> AttributeProto {
    AttributeProto { f, ..named(name, 1) }
}

/// A string.
pub fn s(name: &str, s: &str) -> AttributeProto {
    AttributeProto { s: s.into(), ..named(name, 3) }
}

/// Integers.
pub fn is(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { ints: ints.to_vec(), ..named(name, 7) }
}

/// Floats.
pub fn fs(name: &str, floats: &[f32]) -> AttributeProto {
    AttributeProto { floats: floats.to_vec(), ..named(name, 6) }
}

/// Strings.
pub fn ss(name: &str, strings: &[&str]) -> AttributeProto {
    AttributeProto { strings: strings.iter().map(|&s| s.into()).collect(), ..named(name, 8) }
}

/// A tensor.
pub fn t(name: &str, t: TensorProto) -> AttributeProto {
    AttributeProto { t: Some(t), ..named(name, 4) }
}

/// A graph.
pub fn g(name: &str, g: GraphProto) -> AttributeProto {
    AttributeProto { g: Some(g), ..named(name, 5) }
}

/// ONNX's name of an element type.
pub fn data_type(dtype: DType) -> DataType {
    match dtype {
        DType::F32 => DataType::Float,
        DType::I8 => DataType::Int8,
        DType::U8 => DataType::Uint8,
        DType::I16 => DataType::Int16,
        DType::U16 => DataType::Uint16,
        DType::I32 => DataType::Int32,
        DType::I64 => DataType::Int64,
        DType::Bool => DataType::Bool,
        DType::F16 => DataType::Float16,
    }
}

/// An array as a constant of a file.
pub fn tensor(name: &str, value: &Array) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: value.shape.iter().map(|&d| d as i64).collect(),
        data_type: data_type(value.dtype) as i32,
        raw_data: value.to_bytes().into_owned().into(),
        ..TensorProto::default()
    }
}

/// The name of a tensor with its type and shape.
pub fn port(name: &str, dtype: DType, shape: &[usize]) -> ValueInfoProto {
    let dim = shape.iter().map(|&d| DimensionProto { value: Some(Dimension::Value(d as i64)) }).collect();
    let tensor = TensorTypeProto { elem_type: data_type(dtype) as i32, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}
