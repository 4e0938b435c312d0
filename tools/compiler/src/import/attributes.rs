//! Attributes of a node, with the defaults that the operator's text gives.

use std::sync::Arc;

use kinglet_onnx::AttributeProto;

use super::{Context, Failure};
use crate::array::Array;

impl<'a> Context<'a, '_> {
    fn attribute(&self, name: &str) -> Option<&'a AttributeProto> {
        self.proto.attribute.iter().find(|a| a.name == name)
    }

    /// Whether the attribute is given.
    pub fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    /// An integer attribute.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |a| a.i)
    }

    /// An integer attribute that is a flag.
    pub fn flag(&self, name: &str, default: bool) -> bool {
        self.int(name, default.into()) != 0
    }

    /// A float attribute.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.attribute(name).map_or(default, |a| a.f)
    }

    /// A string attribute.
    pub fn string(&self, name: &str, default: &str) -> String {
        self.attribute(name).map_or(default.into(), |a| String::from_utf8_lossy(&a.s).into_owned())
    }

    /// A list of strings, if given.
    pub fn strings(&self, name: &str) -> Option<Vec<String>> {
        let list = self.attribute(name)?.strings.iter();
        Some(list.map(|s| String::from_utf8_lossy(s).into_owned()).collect())
    }

    /// A list of integers, if given.
    pub fn ints(&self, name: &str) -> Option<Vec<i64>> {
        self.attribute(name).map(|a| a.ints.clone())
    }

    /// A list of floats, if given.
    pub fn floats(&self, name: &str) -> Option<Vec<f32>> {
        self.attribute(name).map(|a| a.floats.clone())
    }

    /// A list of one count for each spatial axis.
    pub fn counts(&self, name: &str, rank: usize, default: usize) -> Result<Vec<usize>, Failure> {
        let Some(list) = self.ints(name) else { return Ok(vec![default; rank]) };
        if list.len() != rank || list.iter().any(|&v| !(1..=1 << 14).contains(&v)) {
            return Err(Failure::malformed(format!("attribute {name} = {list:?} for {rank} spatial axes")));
        }
        Ok(list.iter().map(|&v| v as usize).collect())
    }

    /// The number of the element type of a tensor attribute, that of f32 if it is not given.
    pub fn tensor_type(&self, name: &str) -> i32 {
        let given = self.attribute(name).and_then(|a| a.t.as_ref()).map(|t| t.data_type);
        given.unwrap_or(kinglet_onnx::DataType::Float as i32)
    }

    /// A tensor attribute.
    pub fn tensor(&mut self, name: &str) -> Result<Option<Arc<Array>>, Failure> {
        let Some(t) = self.attribute(name).and_then(|a| a.t.as_ref()) else { return Ok(None) };
        self.importer.read(t).map(Some).map_err(|e| {
            if e.unsupported {
                Failure::unsupported(e.text, "convert the tensor to f32, or quantise it to int8")
            } else {
                Failure::malformed(format!("{name}: {}", e.text))
            }
        })
    }
}
