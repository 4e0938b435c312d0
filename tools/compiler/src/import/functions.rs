//! Functions that the model defines: operators written as graphs of others, which take the place of the nodes that call them.

use std::collections::HashMap;
use std::sync::Arc;

use kinglet_onnx::prost::Message;
use kinglet_onnx::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};

use super::scope::Value;
use super::subgraph::A_NODE;
use super::{Importer, node_name};
use crate::Error;

/// Most functions that call one another. ONNX forbids that one calls itself.
const DEPTH: usize = 32;

/// What a model defines, and what was written out of it.
#[derive(Default)]
pub(super) struct Functions<'a> {
    by_name: HashMap<(&'a str, &'a str), &'a FunctionProto>,
    /// Bodies with the attributes of their callers and without inputs that these do not give: callers that are alike share one. Constants are
    /// known by their place in memory, which stays taken.
    bodies: HashMap<Vec<u8>, Arc<GraphProto>>,
    depth: usize,
}

impl<'a> Functions<'a> {
    pub(super) fn of(model: &'a ModelProto) -> Self {
        let by_name = model.functions.iter().map(|f| ((domain(&f.domain), f.name.as_str()), f)).collect();
        Functions { by_name, ..Functions::default() }
    }

    /// The function that a node calls.
    pub(super) fn called(&self, node: &NodeProto) -> Option<&'a FunctionProto> {
        self.by_name.get(&(domain(&node.domain), node.op_type.as_str())).copied()
    }
}

fn domain(name: &str) -> &str {
    if name == "ai.onnx" { "" } else { name }
}

impl Importer<'_> {
    /// Writes a function out in the place of the node that calls it.
    pub(super) fn call(&mut self, node: &NodeProto, function: &FunctionProto) -> Result<(), Error> {
        let malformed = |reason: String| Error::Node { node: node_name(node), op: node.op_type.clone(), reason };
        if node.input.len() > function.input.len() || node.output.len() > function.output.len() {
            return Err(malformed(format!(
                "{} inputs and {} outputs, where its function has {} and {}",
                node.input.len(),
                node.output.len(),
                function.input.len(),
                function.output.len()
            )));
        }
        if self.functions.depth == DEPTH {
            return Err(malformed(format!("it is the {DEPTH}th function within functions: does one call itself?")));
        }
        let key = alike(node);
        let written = self.functions.bodies.get(&key).cloned();
        let bytes = if written.is_some() { 0 } else { function.encoded_len() as u64 };
        if !self.budget.take((function.node.len() as u64 + 1) * A_NODE, bytes) {
            let reason = "its functions are written out so often that this goes beyond the budget of a compilation";
            self.refuse(node, reason.into(), "export the model without functions (onnx.inliner)".into());
            return Ok(());
        }
        let given = |k: usize| node.input.get(k).filter(|name| !name.is_empty());
        let mut formals = Vec::new();
        for (k, formal) in function.input.iter().enumerate() {
            if let Some(name) = given(k) {
                let value = self
                    .find(name)
                    .ok_or_else(|| malformed(format!("input `{name}` is computed by no earlier node")))?;
                formals.push((formal.clone(), value, self.frame.type_of(name)));
            }
        }
        let body = written.unwrap_or_else(|| {
            let body = Arc::new(GraphProto { node: body(node, function), ..GraphProto::default() });
            self.functions.bodies.insert(key, body.clone());
            body
        });
        self.functions.depth += 1;
        let own = function.opset_import.iter().map(|o| (domain(&o.domain).to_string(), o.version));
        let outside = self.opsets.clone();
        self.opsets.extend(own);
        self.frame.enter();
        for (name, value, code) in formals {
            self.frame.define(name.clone(), value);
            if let Some(code) = code {
                self.frame.set_type(&name, code);
            }
        }
        let imported = self.nodes(&body);
        let results: Vec<(Option<Value>, Option<i32>)> =
            function.output.iter().map(|o| (self.find(o), self.frame.type_of(o))).collect();
        self.frame.leave();
        self.opsets = outside;
        self.functions.depth -= 1;
        imported?;
        for ((result, code), name) in results.into_iter().zip(&node.output).filter(|(_, name)| !name.is_empty()) {
            let result =
                result.ok_or_else(|| malformed(format!("output `{name}` of its function is computed by no node")))?;
            self.frame.define(name.clone(), result);
            if let Some(code) = code {
                self.frame.set_type(name, code);
            }
        }
        Ok(())
    }
}

/// What of a call its body depends on: the function, the attributes, and which inputs are given.
fn alike(call: &NodeProto) -> Vec<u8> {
    let given = |name: &String| if name.is_empty() { String::new() } else { "given".into() };
    let mut input: Vec<String> = call.input.iter().map(given).collect();
    while input.last().is_some_and(|name| name.is_empty()) {
        input.pop();
    }
    let (op_type, domain) = (call.op_type.clone(), domain(&call.domain).to_string());
    NodeProto { op_type, domain, input, attribute: call.attribute.clone(), ..NodeProto::default() }.encode_to_vec()
}

/// The nodes of a function as the node that calls it has them: with its attributes, and without inputs that it does not give.
fn body(call: &NodeProto, function: &FunctionProto) -> Vec<NodeProto> {
    let attribute = |name: &str| {
        let given = call.attribute.iter().find(|a| a.name == name);
        given.or_else(|| function.attribute_proto.iter().find(|a| a.name == name))
    };
    let absent: Vec<&str> = (0..function.input.len())
        .filter(|&k| call.input.get(k).is_none_or(|name| name.is_empty()))
        .map(|k| function.input[k].as_str())
        .collect();
    let nodes = function.node.iter().cloned().map(|mut node| {
        bind(&mut node, &attribute, &absent);
        node.name = format!("{}/{}", call.op_type, node_name(&node));
        node
    });
    nodes.collect()
}

fn bind<'a>(node: &mut NodeProto, attribute: &impl Fn(&str) -> Option<&'a AttributeProto>, absent: &[&str]) {
    for name in node.input.iter_mut().filter(|name| absent.contains(&name.as_str())) {
        name.clear();
    }
    // An attribute that nobody gives is absent.
    node.attribute.retain(|a| a.ref_attr_name.is_empty() || attribute(&a.ref_attr_name).is_some());
    for own in &mut node.attribute {
        if let Some(given) = attribute(&own.ref_attr_name).filter(|_| !own.ref_attr_name.is_empty()) {
            *own = AttributeProto { name: own.name.clone(), ..given.clone() };
        }
        for inner in own.g.iter_mut().flat_map(|g| &mut g.node) {
            bind(inner, attribute, absent);
        }
    }
}

#[cfg(test)]
mod tests {
    use kinglet::DType;
    use kinglet_onnx::{DataType, OperatorSetIdProto};

    use super::*;
    use crate::array::Array;
    use crate::import::testing::{answer, model, node};
    use crate::{Options, import::import};

    fn function(name: &str, input: &str, output: &str, node: Vec<NodeProto>) -> FunctionProto {
        let names = |names: &str| names.split_whitespace().map(String::from).collect();
        let set = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
        FunctionProto {
            name: name.into(),
            domain: "my".into(),
            input: names(input),
            output: names(output),
            node,
            opset_import: vec![set("", 18), set("my", 1)],
            ..FunctionProto::default()
        }
    }

    fn float(name: &str, f: f32, reference: &str) -> AttributeProto {
        AttributeProto { name: name.into(), f, r#type: 1, ref_attr_name: reference.into(), ..Default::default() }
    }

    fn with(mut m: ModelProto, functions: Vec<FunctionProto>) -> ModelProto {
        m.functions = functions;
        m.opset_import.push(OperatorSetIdProto { domain: "my".into(), version: 1 });
        m
    }

    #[test]
    fn attributes_are_the_callers_or_the_defaults() {
        let mut leaky = node("LeakyRelu", "x", "y");
        leaky.attribute.push(float("alpha", 0.0, "slope"));
        let mut act = function("Act", "x", "y", vec![leaky]);
        act.attribute_proto.push(float("slope", 0.5, ""));
        let mut steep = node("my.Act", "a", "y");
        steep.attribute.push(float("slope", 4.0, ""));
        let m = model(&[("x", DataType::Float, &[2])], vec![node("my.Act", "x", "a"), steep], "y");
        let y = answer(&with(m, vec![act]), &[Array::f32(&[2], vec![-1.0, 3.0])]);
        assert_eq!(&*y.reals(), [-2.0, 3.0]);
    }

    #[test]
    fn an_input_that_is_not_given_is_absent_whatever_has_its_name() {
        let clip = function("Bound", "x lo", "y", vec![node("Clip", "x lo", "y")]);
        let m = model(&[("lo", DataType::Float, &[2])], vec![node("my.Bound", "lo", "y")], "y");
        let y = answer(&with(m, vec![clip]), &[Array::f32(&[2], vec![-1.0, 3.0])]);
        assert_eq!(&*y.reals(), [-1.0, 3.0]);
    }

    #[test]
    fn names_and_types_of_a_function_are_its_own() {
        let mut cast = node("Cast", "x", "y");
        cast.attribute.push(AttributeProto { name: "to".into(), i: 7, r#type: 2, ..Default::default() });
        let f = function("F", "x", "y", vec![cast]);
        let inputs = [("x", DataType::Int64, &[1][..]), ("u", DataType::Uint32, &[1])];
        let nodes = vec![node("my.F", "u", "f"), node("Sub", "x five", "d"), node("Max", "d f", "y")];
        let one = |v| Array::int(DType::I64, &[1], vec![v]);
        assert_eq!(&*answer(&with(model(&inputs, nodes, "d"), vec![f]), &[one(3), one(0)]).ints(), [-2]);
    }

    #[test]
    fn a_function_that_calls_itself_is_refused() {
        let f = function("F", "x", "y", vec![node("my.F", "x", "y")]);
        let m = with(model(&[("x", DataType::Float, &[2])], vec![node("my.F", "x", "y")], "y"), vec![f]);
        let error = import(&m.to_bytes(), None, &Options::default()).expect_err("it has no end").to_string();
        assert!(error.contains("call itself"), "{error}");
    }
}
