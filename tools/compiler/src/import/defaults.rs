//! Inputs with a default: names that are both an input and an initialiser of the model.
//!
//! From IR version 4 on such a name is an input that takes the initialiser's value where none is given. (Before, every
//! initialiser had to be listed among the inputs; there it is a constant.)
//!
//! What must be constant when the model is compiled, the weights of a convolution or a shape, cannot be an input of the plan.
//! Such a name is *bound*: to the value given for it, or else to its default. Which names are bound is found by importing:
//! importers say what they need, and the model is imported once more with that as a constant.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kinglet_onnx::{ModelProto, TensorProto};

use super::Importer;
use crate::Error;
use crate::array::Array;
use crate::graph::TensorId;

/// Imports after which every name with a default is bound: what is needed may only show once something else is bound, but a
/// file cannot make the compiler import it again for each of its inputs.
const ROUNDS: usize = 4;

/// The initialisers of a model that are defaults of inputs, by name.
pub(super) fn defaults(model: &ModelProto) -> HashMap<&str, &TensorProto> {
    let Some(graph) = model.graph.as_ref().filter(|_| model.ir_version >= 4) else { return HashMap::new() };
    let by_name: HashMap<&str, &TensorProto> = graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
    graph.input.iter().filter_map(|i| by_name.get_key_value(i.name.as_str()).map(|(k, t)| (*k, *t))).collect()
}

impl Importer<'_> {
    /// What is to be bound besides, after the model was imported with this result in round number `round`.
    pub(super) fn to_bind(
        &self,
        defaults: &HashMap<&str, &TensorProto>,
        round: usize,
        unsupported: bool,
    ) -> BTreeSet<String> {
        let unbound =
            || defaults.keys().filter(|name| !self.bound.contains(**name)).map(|name| name.to_string()).collect();
        // Where nodes were refused, one in the body of a loop may have wanted a constant that comes in from outside.
        if round + 1 >= ROUNDS && !self.needed.is_empty() || self.needed.is_empty() && unsupported {
            return unbound();
        }
        self.needed.clone()
    }

    /// The value that a bound name stands for: the one given for it, if it has the type and shape, or its default.
    ///
    /// # Errors
    /// [`Error::Input`] if neither has the shape.
    pub(super) fn bound_value(&self, name: &str, shape: &[usize], default: &Arc<Array>) -> Result<Arc<Array>, Error> {
        let given = self.options.values.get(name).filter(|v| v.dtype == default.dtype && v.shape == shape);
        let value = given.map(|v| Arc::new(v.clone())).or_else(|| (default.shape == shape).then(|| default.clone()));
        value.ok_or_else(|| Error::Input {
            input: name.into(),
            reason: format!(
                "it must be constant, of shape {shape:?}, and its default has the shape {:?}: give a value",
                default.shape
            ),
        })
    }

    /// Notes that the value of `t` must be known: inputs whose defaults it depends on are to be bound. What was looked through
    /// once is not looked through again.
    pub(super) fn need(&mut self, t: TensorId) {
        let frame = &mut self.frame;
        if frame.graph.defaults.is_empty() {
            return;
        }
        let mut stack = vec![t];
        while let Some(t) = stack.pop() {
            if frame.graph.tensors[t].value.is_some() || !frame.noted.insert(t) {
                continue;
            }
            if frame.graph.defaults.contains_key(&t) {
                self.needed.insert(frame.graph.tensors[t].name.clone());
            } else if let Some(node) = frame.producer(t) {
                stack.extend(node.inputs.iter().flatten());
            }
        }
    }

    /// Notes that `t` should be constant, if it depends on constants and defaults only.
    pub(super) fn prefer_constant(&mut self, t: TensorId) {
        if !self.frame.is_open(t) {
            self.need(t);
        }
    }
}
