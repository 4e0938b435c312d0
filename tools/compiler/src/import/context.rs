//! What an operator's importer works with: the node's inputs and attributes, and the graph under construction.

use std::sync::Arc;

use kinglet::DType;
use kinglet_onnx::NodeProto;

use super::scope::{Sequence, Value};
use super::{Importer, fits, node_name};
use crate::array::Array;
use crate::graph::{Node, Op, Quant, Tensor, TensorId};
use crate::{eval, fold};

/// Why a node cannot be imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The node contradicts itself or the operator's definition.
    Malformed(String),
    /// The node is in order, but there is nothing here to run it.
    Unsupported {
        /// What is missing.
        reason: String,
        /// What would make it work.
        remedy: String,
    },
}

impl Failure {
    /// A malformed node.
    pub fn malformed(reason: impl Into<String>) -> Self {
        Failure::Malformed(reason.into())
    }

    /// An unsupported node.
    pub fn unsupported(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = remedy.into();
        debug_assert!(!remedy.is_empty(), "every refusal has a way out");
        Failure::Unsupported { reason: reason.into(), remedy }
    }
}

/// The node being imported.
pub struct Context<'a, 'b> {
    pub(crate) importer: &'a mut Importer<'b>,
    pub(super) proto: &'a NodeProto,
    /// Version of the operator set the node is written in.
    pub opset: i64,
}

impl<'a, 'b> Context<'a, 'b> {
    /// The node as the file has it.
    pub(crate) fn proto(&self) -> &NodeProto {
        self.proto
    }

    pub(super) fn new(importer: &'a mut Importer<'b>, proto: &'a NodeProto, opset: i64) -> Self {
        Context { importer, proto, opset }
    }

    /// The operator's name.
    pub fn op_type(&self) -> &str {
        &self.proto.op_type
    }

    /// Number of inputs, trailing absent ones included.
    pub fn input_count(&self) -> usize {
        self.proto.input.len()
    }

    /// Number of outputs.
    pub fn output_count(&self) -> usize {
        self.proto.output.len()
    }

    /// Whether output `i` is given a name.
    pub fn has_output(&self, i: usize) -> bool {
        self.proto.output.get(i).is_some_and(|o| !o.is_empty())
    }

    /// Input `i`.
    pub fn input(&self, i: usize) -> Result<TensorId, Failure> {
        self.optional(i).ok_or_else(|| match self.value(i) {
            Some(_) => Failure::malformed(format!("input {i} is a sequence, where a tensor is wanted")),
            None => Failure::malformed(format!("input {i} is missing")),
        })
    }

    /// What input `i` stands for, if it is given.
    pub fn value(&self, i: usize) -> Option<Value> {
        let name = self.proto.input.get(i).filter(|n| !n.is_empty())?;
        self.importer.frame.find(name).cloned()
    }

    /// The number of the ONNX element type of input `i`: what the file says, or that of its tensor.
    pub fn element_type(&self, i: usize) -> i32 {
        let name = self.proto.input.get(i).map_or("", |n| n);
        let own = || self.optional(i).map_or(0, |t| super::tensor::code_of(self.dtype(t)));
        self.importer.frame.type_of(name).unwrap_or_else(own)
    }

    /// Says what element type output `i`, which has been given, has in the file.
    pub fn set_element_type(&mut self, i: usize, code: i32) {
        if let Some(name) = self.proto.output.get(i) {
            self.importer.frame.set_type(name, code);
        }
    }

    /// The sequence that input `i` is.
    pub fn sequence(&self, i: usize) -> Result<Sequence, Failure> {
        match self.value(i) {
            Some(Value::Sequence(s)) => Ok(s),
            _ => Err(Failure::malformed(format!("input {i} is no sequence"))),
        }
    }

    /// Input `i`, if it is given, of an operator that takes sequences too.
    pub fn given(&self, i: usize) -> Result<Option<TensorId>, Failure> {
        self.value(i).map(|_| self.input(i)).transpose()
    }

    /// Input `i`, if it is given.
    pub fn optional(&self, i: usize) -> Option<TensorId> {
        match self.value(i)? {
            Value::Tensor(t) => Some(t),
            Value::Sequence(_) | Value::Unknown => None,
        }
    }

    /// A tensor of the graph.
    pub fn tensor_info(&self, t: TensorId) -> &Tensor {
        &self.importer.frame.graph.tensors[t]
    }

    /// Its shape.
    pub fn shape(&self, t: TensorId) -> Vec<usize> {
        self.tensor_info(t).shape.clone()
    }

    /// Its element type.
    pub fn dtype(&self, t: TensorId) -> DType {
        self.tensor_info(t).dtype
    }

    /// Whether `t` is a constant, or the dequantisation of one.
    pub fn is_constant(&self, t: TensorId) -> bool {
        let graph = &self.importer.frame.graph;
        let constant = |t: TensorId| graph.tensors[t].value.is_some();
        let dequantized = || {
            let node = self.importer.frame.producer(t)?;
            matches!(node.op, Op::Dequantize).then(|| node.inputs[0]).flatten()
        };
        constant(t) || dequantized().is_some_and(constant)
    }

    /// Whether `t` depends on no input that has no default: what is computed from constants alone may be left to the passes to fold.
    pub fn is_fixed(&mut self, t: TensorId) -> bool {
        self.prefer_constant(Some(t));
        !self.importer.frame.is_open(t)
    }

    /// The value of `t`, which must be constant: in the file, computed from constants (dequantised ones too), or computed
    /// from inputs whose values the caller gave.
    pub fn constant(&mut self, t: TensorId, what: &str) -> Result<Arc<Array>, Failure> {
        if let Some(value) = self.evaluate(t) {
            self.importer.need(t);
            return Ok(value);
        }
        let name = self.tensor_info(t).name.clone();
        Err(Failure::unsupported(
            format!("{what} (`{name}`) is computed while the model runs"),
            "it must be constant: bind symbolic dimensions with --dim, and inputs it depends on with --bind",
        ))
    }

    /// As [`Context::constant`], of what need not be constant.
    pub fn known(&mut self, t: TensorId) -> Option<Arc<Array>> {
        self.prefer_constant(Some(t));
        self.evaluate(t)
    }

    /// Has `t` be a constant of the graph, if it depends on constants and on inputs with a default only: for what the runtime
    /// takes as a constant, but the importer need not know.
    pub fn prefer_constant(&mut self, t: Option<TensorId>) {
        if let Some(t) = t {
            self.importer.prefer_constant(t);
        }
    }

    /// The value of `t` if it does not depend on an input, found without recursion and kept.
    fn evaluate(&mut self, t: TensorId) -> Option<Arc<Array>> {
        let mut stack = vec![t];
        while let Some(&t) = stack.last() {
            if self.importer.frame.evaluated.contains_key(&t) {
                stack.pop();
                continue;
            }
            let node = match self.at_hand(t) {
                Ok(value) => {
                    self.importer.frame.evaluated.insert(t, value);
                    continue;
                }
                Err(node) => node,
            };
            let known = &self.importer.frame.evaluated;
            let open = node.inputs.iter().flatten().find(|i| !known.contains_key(i));
            if let Some(&open) = open {
                stack.push(open);
                continue;
            }
            let values: Vec<Option<&Option<Arc<Array>>>> = node.inputs.iter().map(|i| i.map(|i| &known[&i])).collect();
            let value = if values.iter().any(|v| v.is_some_and(|v| v.is_none())) {
                None
            } else {
                let values: Vec<Option<&Array>> = values.iter().map(|v| v.and_then(|v| v.as_deref())).collect();
                let graph = &self.importer.frame.graph;
                fold::affordable(graph, &node).then(|| fold::first(graph, &node, &values)).flatten().map(Arc::new)
            };
            self.importer.frame.evaluated.insert(t, value);
        }
        self.importer.frame.evaluated.get(&t).cloned().flatten()
    }

    /// The value of `t` if it needs no computation (`None` if it has none), or the node that computes it.
    fn at_hand(&self, t: TensorId) -> Result<Option<Arc<Array>>, Box<Node>> {
        let graph = &self.importer.frame.graph;
        let tensor = &graph.tensors[t];
        if let Some(v) = &tensor.value {
            return Ok(Some(v.clone()));
        }
        if graph.inputs.contains(&t) {
            // What comes into the body of a loop is another value in every trip.
            let value = self.importer.options.values.get(&tensor.name).filter(|_| self.importer.outer.is_empty());
            let fits = |v: &&Array| v.dtype == tensor.dtype && v.shape == tensor.shape;
            let given = value.filter(fits).map(|v| Arc::new(v.clone()));
            return Ok(given.or_else(|| graph.defaults.get(&t).cloned()));
        }
        let node = self.importer.frame.producer(t).filter(|n| n.output == t);
        node.map_or(Ok(None), |n| Err(Box::new(n.clone())))
    }

    /// Takes a constant of `n` elements from the budget.
    ///
    /// # Errors
    /// If the file describes more of what it does not hold than its budget covers.
    pub fn reserve(&mut self, n: usize, dtype: DType) -> Result<(), Failure> {
        if self.importer.budget.take(n as u64, n.saturating_mul(dtype.size()) as u64) {
            return Ok(());
        }
        Err(Failure::unsupported(
            format!("its constant result of {n} elements, with what was folded before, goes beyond the budget"),
            "a file may describe 64 MiB of constants, and 16 times its own size, that it does not hold",
        ))
    }

    /// Constant integers that are an attribute, or else input `i`.
    pub fn ints_or_attribute(&mut self, i: usize, name: &str, what: &str) -> Result<Vec<i64>, Failure> {
        if self.has(name) { Ok(vec![self.int(name, 0)]) } else { self.constant_ints(i, what) }
    }

    /// Takes from the budget what `n` nodes cost that the file does not have, of a node that is written out.
    ///
    /// # Errors
    /// [`Failure::Unsupported`] if the file asks for more of them than its budget covers.
    pub fn reserve_nodes(&mut self, n: usize) -> Result<(), Failure> {
        if self.importer.budget.take((n as u64).saturating_mul(super::subgraph::A_NODE), 0) {
            return Ok(());
        }
        Err(Failure::unsupported(
            format!("it is written out as {n} nodes, which goes beyond the budget of a compilation"),
            "use constant weights, smaller windows, or static quantisation",
        ))
    }

    /// Constant integers of input `i` (axes, a shape, …).
    pub fn constant_ints(&mut self, i: usize, what: &str) -> Result<Vec<i64>, Failure> {
        let t = self.input(i)?;
        Ok(self.constant(t, what)?.ints().into_owned())
    }

    /// The axis `axis` of a tensor of `rank` axes; negative ones count from the end.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize, Failure> {
        let from_end = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(from_end)
            .ok()
            .filter(|&a| a < rank)
            .ok_or_else(|| Failure::malformed(format!("axis {axis} of a tensor of rank {rank}")))
    }

    /// Several axes, ascending and without repeats.
    pub fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>, Failure> {
        let mut axes = axes.iter().map(|&a| self.axis(a, rank)).collect::<Result<Vec<_>, _>>()?;
        axes.sort_unstable();
        axes.dedup();
        Ok(axes)
    }

    /// A new constant.
    pub fn add_constant(&mut self, value: impl Into<Arc<Array>>) -> TensorId {
        let name = self.fresh_name();
        self.importer.frame.graph.add_constant(name, value)
    }

    /// A new constant that keeps the precision of type DOUBLE, if it has it.
    pub fn add_exact(&mut self, value: impl Into<Arc<Array>>) -> TensorId {
        let name = self.fresh_name();
        self.importer.frame.graph.add_exact(name, value.into())
    }

    /// A name for a tensor that the file has no name for.
    pub fn fresh_name(&self) -> String {
        let first = self.proto.output.first().cloned().unwrap_or_default();
        format!("{first}:{}", self.importer.frame.graph.tensors.len())
    }

    /// Adds a node and returns its output; if all inputs are constant it is evaluated at once instead.
    pub fn emit(&mut self, op: Op, inputs: &[TensorId], dtype: DType, shape: &[usize]) -> Result<TensorId, Failure> {
        self.emit_optional(op, &inputs.iter().map(|&t| Some(t)).collect::<Vec<_>>(), dtype, shape, None)
    }

    /// As [`Context::emit`], with absent inputs and a quantisation of the output.
    pub fn emit_optional(
        &mut self,
        op: Op,
        inputs: &[Option<TensorId>],
        dtype: DType,
        shape: &[usize],
        quant: Option<Quant>,
    ) -> Result<TensorId, Failure> {
        let n = shape.iter().fold(1usize, |n, &d| n.saturating_mul(d));
        if !fits(shape) {
            return Err(Failure::malformed(format!("its output of shape {shape:?} is too large")));
        }
        // Only these read integers as the reals they stand for. Moving integers, and taking the largest of a window, is the
        // same either way; to every other operator integers are integers.
        let reads_reals = matches!(op, Op::Dequantize | Op::Reinterpret);
        let indifferent = op.keeps_integers() && quant.is_some();
        let inputs: Vec<Option<TensorId>> = if reads_reals || indifferent {
            inputs.to_vec()
        } else {
            inputs.iter().map(|t| t.map(|t| self.raw(t))).collect()
        };
        let name = self.fresh_name();
        let graph = &mut self.importer.frame.graph;
        let output = graph.add_tensor(Tensor { name, dtype, shape: shape.to_vec(), quant, value: None });
        let node = Node::new(op, inputs.clone(), output, vec![node_name(self.proto)]);
        let fold = n > 0
            && !matches!(node.op, Op::Dequantize)
            && inputs.iter().flatten().all(|&t| graph.tensors[t].value.is_some())
            && inputs.iter().any(|i| i.is_some())
            && fold::affordable(graph, &node);
        let values: Vec<Option<Arc<Array>>> =
            inputs.iter().map(|i| i.and_then(|t| graph.tensors[t].value.clone())).collect();
        let values: Vec<Option<&Array>> = values.iter().map(|v| v.as_deref()).collect();
        if let (true, Some(text)) = (n > 0, eval::fault(graph, &node, &values)) {
            return Err(Failure::malformed(text));
        }
        let value = match n {
            0 => Some(Array::from_bytes(dtype, shape, &[]).expect("a shape without elements")),
            // The runtime has no f64; the evaluator has nothing else.
            _ if fold && values.iter().flatten().any(|v| v.is_double()) && !matches!(node.op, Op::Cast(_)) => {
                Some(eval::node(graph, &node, &values))
            }
            _ if fold => fold::first(graph, &node, &values),
            _ => None,
        };
        if let Some(value) = value {
            graph.tensors[output].value = Some(Arc::new(value));
        } else {
            self.importer.frame.push(node);
        }
        Ok(output)
    }

    /// Adds a node of one input with several outputs, described without their names. The first has the quantisation of the input, or
    /// both are plain integers. (What is constant the first pass folds.)
    pub fn emit_several(&mut self, op: Op, x: TensorId, outputs: Vec<Tensor>) -> Result<Vec<TensorId>, Failure> {
        let x = if outputs[0].quant.is_some() { x } else { self.raw(x) };
        let mut made = Vec::new();
        for tensor in outputs {
            let empty =
                tensor.shape.contains(&0).then(|| Array::from_bytes(tensor.dtype, &tensor.shape, &[])).flatten();
            let tensor = Tensor { name: self.fresh_name(), value: empty.map(Arc::new), ..tensor };
            made.push(self.importer.frame.graph.add_tensor(tensor));
        }
        if self.tensor_info(made[0]).value.is_none() {
            let node = Node::new(op, vec![Some(x)], made[0], vec![node_name(self.proto)]);
            self.importer.frame.push(Node { more: made[1..].to_vec(), ..node });
        }
        Ok(made)
    }

    /// The plain integers of a quantised tensor, or the tensor.
    pub fn raw(&mut self, t: TensorId) -> TensorId {
        let graph = &mut self.importer.frame.graph;
        if graph.tensors[t].quant.is_none() {
            return t;
        }
        if let Some(&raw) = self.importer.frame.raw.get(&t) {
            return raw;
        }
        let raw = graph.add_tensor(Tensor { quant: None, ..graph.tensors[t].clone() });
        if graph.tensors[raw].value.is_none() {
            let source = vec![node_name(self.proto)];
            self.importer.frame.push(Node::new(Op::Reinterpret, vec![Some(t)], raw, source));
        }
        self.importer.frame.raw.insert(t, raw);
        raw
    }

    /// Gives output `i` of the node its tensor.
    pub fn output(&mut self, i: usize, t: TensorId) {
        let Some(name) = self.proto.output.get(i).filter(|n| !n.is_empty()).cloned() else { return };
        let graph = &mut self.importer.frame.graph;
        // A tensor that several names stand for keeps its first one.
        if graph.tensors[t].name.starts_with(&format!("{}:", self.proto.output[0])) {
            graph.tensors[t].name = name.clone();
        }
        self.importer.frame.define(name, Value::Tensor(t));
    }

    /// Gives output `i` of the node its sequence.
    pub fn output_sequence(&mut self, i: usize, sequence: Sequence) {
        self.output_value(i, Value::Sequence(sequence));
    }

    /// Gives output `i` of the node its value.
    pub fn output_value(&mut self, i: usize, value: Value) {
        match value {
            Value::Tensor(t) => self.output(i, t),
            other => {
                if let Some(name) = self.proto.output.get(i).filter(|n| !n.is_empty()) {
                    self.importer.frame.define(name.clone(), other);
                }
            }
        }
    }

    /// The name of output `i`, empty if it has none.
    pub fn output_name(&self, i: usize) -> String {
        self.proto.output.get(i).cloned().unwrap_or_default()
    }

    /// The most trips of a loop of which data decide how many it has, if the caller says so.
    pub fn max_trips(&self) -> Option<usize> {
        self.importer.options.max_trips.filter(|&n| n > 0)
    }

    /// Whether the node is in the body of a loop.
    pub fn in_body(&self) -> bool {
        !self.importer.outer.is_empty()
    }
}
