//! Names and what they stand for: the model's graph, bodies of loops in it, and subgraphs that are written out in place.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Importer;
use crate::array::Array;
use crate::budget::Budget;
use crate::graph::{Graph, Node, Tensor, TensorId};

/// What a name of the file stands for.
#[derive(Clone, Debug)]
pub enum Value {
    /// A tensor of the graph.
    Tensor(TensorId),
    /// A sequence of tensors.
    Sequence(Sequence),
    /// Something that depends on an unsupported node: nothing can be said about it.
    Unknown,
}

/// A sequence of tensors. It exists only during import: what is put in is taken out again.
#[derive(Clone, Debug)]
pub enum Sequence {
    /// These tensors.
    Items(Vec<TensorId>),
    /// The positions of the first axis of a tensor.
    Stacked(TensorId),
    /// In the body of a loop: carried value number so and so, as it comes in.
    Carried(usize),
    /// The same, with one tensor appended.
    Appended(usize, TensorId),
}

/// A name's meaning, and the number of the element type that the file gives it, if something has said so.
struct Named {
    value: Value,
    element_type: Option<i32>,
}

/// A graph under construction: the model's own, or the body of a loop.
#[derive(Default)]
pub(crate) struct Frame {
    pub(crate) graph: Graph,
    /// Names by scope, the innermost last. Subgraphs that are written out in place have a scope of their own.
    scopes: Vec<HashMap<String, Named>>,
    /// Tensors of the graph around this one that it reads, in the order of its inputs, at the end of which they stand.
    pub(crate) captured: Vec<TensorId>,
    /// The plain integers of quantised tensors that were asked for.
    pub(crate) raw: HashMap<TensorId, TensorId>,
    /// Values found while the importer looked for constants: `None` for what depends on an input.
    pub(crate) evaluated: HashMap<TensorId, Option<Arc<Array>>>,
    /// Which node computes each tensor.
    producers: HashMap<TensorId, usize>,
    /// What nodes computed from inputs that have no default.
    open: HashSet<TensorId>,
    /// Tensors whose defaults are noted as needed.
    pub(super) noted: HashSet<TensorId>,
}

impl Frame {
    /// An empty frame whose graph draws on `budget`.
    pub(crate) fn within(budget: &Budget) -> Self {
        Frame { graph: Graph::within(budget), ..Frame::default() }
    }

    /// Appends a node. All that the importer adds comes in here.
    pub(crate) fn push(&mut self, node: Node) {
        if node.inputs.iter().flatten().any(|&t| self.is_open(t)) {
            self.open.extend(node.outputs());
        }
        self.producers.extend(node.outputs().map(|t| (t, self.graph.nodes.len())));
        self.graph.nodes.push(node);
    }

    /// The node that computes `t`.
    pub(crate) fn producer(&self, t: TensorId) -> Option<&Node> {
        self.producers.get(&t).map(|&i| &self.graph.nodes[i])
    }

    /// Whether `t` is, or depends on, an input without a default.
    pub(crate) fn is_open(&self, t: TensorId) -> bool {
        let known = self.graph.tensors[t].value.is_some() || self.graph.defaults.contains_key(&t);
        !known && (self.open.contains(&t) || !self.producers.contains_key(&t))
    }

    /// What a name stands for in this graph.
    pub(crate) fn find(&self, name: &str) -> Option<&Value> {
        self.named(name).map(|n| &n.value)
    }

    fn named(&self, name: &str) -> Option<&Named> {
        self.scopes.iter().rev().find_map(|s| s.get(name))
    }

    /// Whether the innermost scope has this name.
    pub(crate) fn defines(&self, name: &str) -> bool {
        self.scopes.last().is_some_and(|s| s.contains_key(name))
    }

    /// Gives a name its meaning in the innermost scope.
    pub(crate) fn define(&mut self, name: String, value: Value) {
        if self.scopes.is_empty() {
            self.scopes.push(HashMap::new());
        }
        self.scopes.last_mut().expect("there is one").insert(name, Named { value, element_type: None });
    }

    /// The number of the element type that the file gives a name, if something has said so.
    pub(super) fn type_of(&self, name: &str) -> Option<i32> {
        self.named(name)?.element_type
    }

    /// Says which element type the file gives a name.
    pub(super) fn set_type(&mut self, name: &str, code: i32) {
        if let Some(named) = self.scopes.iter_mut().rev().find_map(|s| s.get_mut(name)) {
            named.element_type = Some(code);
        }
    }

    /// Opens a scope.
    pub(crate) fn enter(&mut self) {
        self.scopes.push(HashMap::new());
    }

    /// Closes the innermost scope.
    pub(crate) fn leave(&mut self) {
        self.scopes.pop();
    }

    /// The tensor of this graph that is tensor `t` of the one around it: a constant is shared, anything else comes in as an
    /// input.
    fn capture(&mut self, t: TensorId, outside: &Tensor) -> TensorId {
        let id = self.graph.add_tensor(outside.clone());
        if outside.value.is_none() {
            self.graph.inputs.push(id);
            self.captured.push(t);
        }
        id
    }
}

impl Importer<'_> {
    /// What a name stands for. In the body of a loop a name of the graph around it becomes an input of the body.
    pub(crate) fn find(&mut self, name: &str) -> Option<Value> {
        self.find_at(self.outer.len(), name)
    }

    /// The frame at a depth, the model's own being 0.
    fn at(&mut self, depth: usize) -> &mut Frame {
        if depth == self.outer.len() { &mut self.frame } else { &mut self.outer[depth] }
    }

    fn find_at(&mut self, depth: usize, name: &str) -> Option<Value> {
        if let Some(value) = self.at(depth).find(name) {
            return Some(value.clone());
        }
        let outer = depth.checked_sub(1)?;
        let outside = self.find_at(outer, name)?;
        let element_type = self.at(outer).type_of(name);
        let value = match outside {
            Value::Tensor(t) => Value::Tensor(self.capture(depth, t)),
            Value::Sequence(Sequence::Items(items)) => {
                Value::Sequence(Sequence::Items(items.into_iter().map(|t| self.capture(depth, t)).collect()))
            }
            Value::Sequence(Sequence::Stacked(t)) => Value::Sequence(Sequence::Stacked(self.capture(depth, t))),
            Value::Sequence(Sequence::Carried(_) | Sequence::Appended(..)) | Value::Unknown => Value::Unknown,
        };
        let frame = self.at(depth);
        if frame.scopes.is_empty() {
            frame.enter();
        }
        // In the outermost scope: it holds for all that is written out in this graph.
        frame.scopes[0].insert(name.to_string(), Named { value: value.clone(), element_type });
        Some(value)
    }

    fn capture(&mut self, depth: usize, t: TensorId) -> TensorId {
        let outside = self.at(depth - 1).graph.tensors[t].clone();
        self.at(depth).capture(t, &outside)
    }
}
