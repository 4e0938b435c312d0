//! A model under construction: what a recipe adds nodes to.

use std::cell::RefCell;
use std::collections::BTreeMap;

use kinglet::DType;
use kinglet_compiler::array::{Array, Numbers};
use kinglet_compiler::ops::{CONTRIB_DOMAIN, OWN_DOMAIN};
use kinglet_compiler::{Error, Options, eval, import};
use kinglet_onnx::{AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto};

use super::attributes::{port, tensor};
use super::draw::Draw;

/// Most elements of a tensor: enough for tails of loops over 16 lanes, few enough to evaluate thousands of graphs.
const MOST_ELEMENTS: usize = 3000;
/// The largest magnitude of a tensor that further nodes read: what grows beyond it is compared, and grows no further.
const MOST_MAGNITUDE: f64 = 1e4;
/// The most trips of a loop of which data decide how many there are.
pub const MOST_TRIPS: usize = 6;

/// A tensor that nodes can read.
#[derive(Clone)]
struct Known {
    name: String,
    value: Array,
    /// Whether further nodes should read it.
    usable: bool,
}

/// A model under construction, with a value of each of its inputs.
pub struct Net {
    model: ModelProto,
    inputs: BTreeMap<String, Array>,
    /// Behind a cell, so that what is added to the model may be drawn while it is.
    draw: RefCell<Draw>,
    known: Vec<Known>,
    /// Names of tensors that the nodes since the last commit give.
    given: Vec<String>,
    names: usize,
    /// Whether inputs may hold NaN, infinities and the like.
    special: bool,
    /// Whether axes may have no elements.
    empty: bool,
    /// Marks to go back to: nodes, constants, ports.
    marks: [usize; 3],
}

/// What every model of the generator is compiled with.
pub fn options() -> Options {
    Options { pad_selections: true, draws_as_inputs: true, max_trips: Some(MOST_TRIPS), ..Options::default() }
}

impl Net {
    /// A model without nodes, written in this operator set.
    pub fn new(opset: i64, mut draw: Draw) -> Self {
        let set = |(domain, version): (&str, i64)| OperatorSetIdProto { domain: domain.into(), version };
        let opset_import = [("", opset), (CONTRIB_DOMAIN, 1), (OWN_DOMAIN, 1)].map(set).to_vec();
        let graph = Some(GraphProto { name: "random".into(), ..GraphProto::default() });
        let model = ModelProto { ir_version: 10, graph, opset_import, ..ModelProto::default() };
        let (special, empty) = (draw.below(12) == 11, draw.below(30) == 29);
        Net {
            model,
            inputs: BTreeMap::new(),
            draw: RefCell::new(draw),
            known: Vec::new(),
            given: Vec::new(),
            names: 0,
            special,
            empty,
            marks: [0; 3],
        }
    }

    /// The operator set of ai.onnx.
    pub fn opset(&self) -> i64 {
        self.model.opset_import[0].version
    }

    /// A number below `n`.
    pub fn below(&self, n: usize) -> usize {
        self.draw.borrow_mut().below(n)
    }

    /// Whether one of `n` chances came true; the simplest choice is that it did not.
    pub fn one_in(&self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    /// One of these, the first being the simplest.
    pub fn pick<T: Clone>(&self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// A length of an axis.
    pub fn dim(&self) -> usize {
        let d = self.pick(&[2, 1, 3, 4, 5, 6, 8, 9]);
        if self.empty && self.one_in(6) { 0 } else { d }
    }

    /// A shape of this rank.
    pub fn dims(&self, rank: usize) -> Vec<usize> {
        (0..rank).map(|_| self.dim()).collect()
    }

    /// A number that nothing else in the model has in its name.
    pub fn number(&mut self) -> usize {
        self.names += 1;
        self.names
    }

    fn name(&mut self, stem: &str) -> String {
        format!("{stem}{}", self.number())
    }

    fn graph(&mut self) -> &mut GraphProto {
        self.model.graph.get_or_insert_default()
    }

    fn find(&self, name: &str) -> &Array {
        &self.known.iter().find(|k| k.name == name).expect("a committed tensor").value
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.find(name).shape.clone()
    }

    /// The rank of a tensor.
    pub fn rank(&self, name: &str) -> usize {
        self.find(name).shape.len()
    }

    /// The largest magnitude of a tensor's finite elements.
    pub fn magnitude(&self, name: &str) -> f64 {
        self.find(name).reals().iter().filter(|v| v.is_finite()).fold(0.0, |m: f64, v| m.max(v.abs()))
    }

    /// The type of a tensor.
    pub fn dtype(&self, name: &str) -> DType {
        self.find(name).dtype
    }

    /// A real of few digits, in −2 to 2.
    pub fn real(&self) -> f64 {
        let k = self.below(257) as i64;
        let v = (k + 1) / 2 * if k % 2 == 0 { -1 } else { 1 };
        v as f64 / 64.0
    }

    fn element(&self, dtype: DType, special: bool) -> f64 {
        match dtype {
            DType::F32 if special && self.one_in(8) => {
                self.pick(&[0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -0.0, f64::from(1e-40_f32), -65536.0])
            }
            // Not only numbers of few digits, whose sums are exact.
            DType::F32 if self.below(2) == 1 => f64::from((self.real() * 1.234_567) as f32),
            DType::F32 => self.real(),
            DType::Bool => self.below(2) as f64,
            DType::U8 => self.below(256) as f64,
            DType::I8 => {
                let k = self.below(256) as i64;
                (if k % 2 == 0 { k / 2 } else { -(k + 1) / 2 }) as f64
            }
            _ => {
                let k = self.below(13) as i64;
                (if k % 2 == 0 { k / 2 } else { -(k + 1) / 2 }) as f64
            }
        }
    }

    /// An array of random elements, all of them numbers.
    pub fn array(&self, dtype: DType, shape: &[usize]) -> Array {
        self.elements(dtype, shape, false)
    }

    fn elements(&self, dtype: DType, shape: &[usize], special: bool) -> Array {
        let n = shape.iter().product();
        let v: Vec<f64> = (0..n).map(|_| self.element(dtype, special)).collect();
        match dtype {
            DType::F32 => Array::f32(shape, v),
            _ => Array::int(dtype, shape, v.into_iter().map(|v| v as i64).collect()),
        }
    }

    /// A constant with this value.
    pub fn constant(&mut self, value: Array) -> String {
        let name = self.name("c");
        let proto = tensor(&name, &value);
        self.graph().initializer.push(proto);
        self.know(name, value)
    }

    /// An input with this value.
    pub fn input(&mut self, value: Array) -> String {
        let name = self.name("x");
        let port = port(&name, value.dtype, &value.shape);
        self.graph().input.push(port);
        self.inputs.insert(name.clone(), value.clone());
        self.know(name, value)
    }

    fn know(&mut self, name: String, value: Array) -> String {
        let usable = !value.is_empty() || self.empty;
        self.known.push(Known { name: name.clone(), value, usable });
        name
    }

    /// An input or a constant with this value.
    pub fn either(&mut self, value: Array) -> String {
        if self.one_in(6) { self.constant(value) } else { self.input(value) }
    }

    /// A constant of these integers, one axis.
    pub fn ints(&mut self, values: &[i64]) -> String {
        self.constant(Array::i64s(values))
    }

    /// A constant integer without axes.
    pub fn int(&mut self, value: i64) -> String {
        self.constant(Array::int(DType::I64, &[], vec![value]))
    }

    /// A constant real without axes.
    pub fn scalar(&mut self, value: f64) -> String {
        self.constant(Array::scalar(f64::from(value as f32)))
    }

    /// A tensor of this type for which `fits` holds of the shape: one that there is, or a new one of the shape `new` gives.
    pub fn that(
        &mut self,
        dtype: DType,
        fits: impl Fn(&[usize]) -> bool,
        new: impl FnOnce(&mut Self) -> Vec<usize>,
    ) -> String {
        let of = |k: &&Known| k.usable && k.value.dtype == dtype && fits(&k.value.shape);
        let names: Vec<String> = self.known.iter().filter(of).map(|k| k.name.clone()).collect();
        if !names.is_empty() && self.below(5) < 4 {
            // The latest one is twice as likely as any: graphs are to be deep rather than wide.
            let n = names.len();
            let back = self.below(n + 1).min(n - 1).min(self.below(n));
            return names[n - 1 - back].clone();
        }
        let shape = new(self);
        self.fresh(dtype, &shape)
    }

    /// A tensor of any shape, of up to four axes.
    pub fn any(&mut self, dtype: DType) -> String {
        self.that(
            dtype,
            |_| true,
            |n| {
                let rank = n.pick(&[2, 1, 3, 4, 0]);
                n.dims(rank)
            },
        )
    }

    /// A tensor with so many axes; one with others may be reshaped for it.
    pub fn ranked(&mut self, dtype: DType, rank: usize) -> String {
        if self.below(3) == 2 {
            let x = self.that(dtype, |s| s.len() > rank, |n| n.dims(rank));
            let shape = self.shape(&x);
            if shape.len() > rank && rank > 0 && !shape.contains(&0) {
                let mut to = shape[..rank - 1].to_vec();
                to.push(shape[rank - 1..].iter().product());
                return self.reshaped(&x, &to);
            }
            if shape.len() == rank {
                return x;
            }
        }
        self.that(dtype, |s| s.len() == rank, |n| n.dims(rank))
    }

    /// A tensor with this rank or a larger one, up to four axes or `least`.
    pub fn at_least(&mut self, dtype: DType, least: usize) -> String {
        self.that(
            dtype,
            |s| s.len() >= least,
            |n| {
                let rank = least.max(n.pick(&[2, 3, 1, 4]));
                n.dims(rank)
            },
        )
    }

    /// A tensor of this shape.
    pub fn shaped(&mut self, dtype: DType, shape: &[usize]) -> String {
        self.that(dtype, |s| s == shape, |_| shape.to_vec())
    }

    /// A new constant or input of this shape, with random elements. An input may hold more than numbers; a weight of infinity would
    /// make NaN of padding in one runtime, and not in another.
    pub fn fresh(&mut self, dtype: DType, shape: &[usize]) -> String {
        if self.one_in(6) {
            return self.weights(dtype, shape);
        }
        let value = self.elements(dtype, shape, self.special);
        self.input(value)
    }

    /// Whether there may be NaN and infinities.
    pub fn is_special(&self) -> bool {
        self.special
    }

    /// A new constant of this shape, with random elements.
    pub fn weights(&mut self, dtype: DType, shape: &[usize]) -> String {
        let value = self.array(dtype, shape);
        self.constant(value)
    }

    /// Positive reals, at least 1/64.
    pub fn positive(&mut self, shape: &[usize]) -> String {
        let n = shape.iter().product();
        let data = (0..n).map(|_| self.real().abs() + 1.0 / 64.0).collect();
        self.constant(Array::f32(shape, data))
    }

    /// A tensor that broadcasts with the shape: some of its axes, or 1 in their place.
    pub fn broadcast(&mut self, dtype: DType, shape: &[usize]) -> String {
        let from = if self.one_in(3) { self.below(shape.len() + 1) } else { 0 };
        let cut: Vec<usize> = shape[from..].iter().map(|&d| if self.one_in(4) { 1 } else { d }).collect();
        self.shaped(dtype, &cut)
    }

    /// An axis of a tensor, counted from either end.
    pub fn axis(&self, rank: usize) -> i64 {
        self.below(rank) as i64 - if self.one_in(3) { rank as i64 } else { 0 }
    }

    /// A tensor in another shape of as many elements.
    pub fn reshaped(&mut self, x: &str, to: &[usize]) -> String {
        let dims: Vec<i64> = to.iter().map(|&d| d as i64).collect();
        let (dims, value) = (self.ints(&dims), self.find(x).clone().reshaped(to));
        let y = self.nodes("Reshape", &[x, &dims], 1, vec![]).swap_remove(0);
        self.know(y, value)
    }

    /// Adds a node with one output.
    pub fn node(&mut self, op: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        let y = self.nodes(op, inputs, 1, attribute).swap_remove(0);
        self.given.push(y.clone());
        y
    }

    /// Adds a node with outputs of which none is a result yet (see [`Net::give`]). The operator's domain may stand before it, with a
    /// dot; an empty name is an absent input.
    pub fn nodes(&mut self, op: &str, inputs: &[&str], outputs: usize, attribute: Vec<AttributeProto>) -> Vec<String> {
        let output: Vec<String> = (0..outputs).map(|_| self.name("t")).collect();
        let (domain, op) = op.rsplit_once('.').unwrap_or(("", op));
        let last = inputs.iter().rposition(|i| !i.is_empty()).map_or(0, |l| l + 1);
        let node = NodeProto {
            op_type: op.into(),
            domain: domain.into(),
            input: inputs[..last].iter().map(|i| i.to_string()).collect(),
            output: output.clone(),
            attribute,
            ..NodeProto::default()
        };
        self.graph().node.push(node);
        output
    }

    /// Adds `QuantizeLinear` and `DequantizeLinear` behind a tensor of reals, mostly; whether it did.
    pub fn on_grid(&mut self, x: &str) -> bool {
        if self.dtype(x) != DType::F32 || self.opset() < 10 || self.special || self.below(4) == 0 {
            return false;
        }
        // Half of the scales are powers of two, with which values lie on ties.
        let scale = (self.magnitude(x) / 127.0).clamp(1e-3, 100.0);
        let scale = if self.below(2) == 1 { scale.log2().ceil().exp2() } else { scale };
        let dtype = self.pick(&[DType::I8, DType::U8]);
        let zero = if dtype == DType::U8 { 128 } else { self.pick(&[0, 3, -5]) };
        let (scale, zero) = (self.scalar(scale), self.constant(Array::int(dtype, &[], vec![zero])));
        let q = self.node("QuantizeLinear", &[x, &scale, &zero], vec![]);
        self.node("DequantizeLinear", &[&q, &scale, &zero], vec![]);
        true
    }

    /// Makes tensors that a node gives results, which further nodes may read and outputs may be.
    pub fn give(&mut self, names: &[String]) {
        self.given.extend_from_slice(names);
    }

    /// Takes what was added since the last call into the graph, if the importer takes it and it has a result. The names of its
    /// results.
    ///
    /// # Errors
    /// Why it was taken out again.
    pub fn commit(&mut self) -> Result<Vec<String>, String> {
        let given = std::mem::take(&mut self.given);
        let values = self.evaluate(&given);
        match values {
            Ok(values) => {
                for (name, value) in given.iter().zip(values) {
                    let reals = value.reals();
                    let small = |v: &f64| if v.is_finite() { v.abs() <= MOST_MAGNITUDE } else { self.special };
                    let usable = reals.iter().all(small) && (!reals.is_empty() || self.empty);
                    drop(reals);
                    self.known.push(Known { name: name.clone(), value, usable });
                }
                let graph = self.graph();
                self.marks = [graph.node.len(), graph.initializer.len(), graph.input.len()];
                Ok(given)
            }
            Err(why) => {
                let [nodes, constants, ports] = self.marks;
                let graph = self.graph();
                graph.node.truncate(nodes);
                graph.initializer.truncate(constants);
                let gone: Vec<String> = graph.input.drain(ports..).map(|p| p.name).collect();
                gone.iter().for_each(|name| drop(self.inputs.remove(name)));
                let graph = self.model.graph.get_or_insert_default();
                let there = |k: &Known| {
                    graph.input.iter().any(|p| p.name == k.name)
                        || graph.initializer.iter().any(|t| t.name == k.name)
                        || graph.node.iter().any(|n| n.output.contains(&k.name))
                };
                self.known.retain(there);
                Err(why)
            }
        }
    }

    /// The values of these tensors.
    fn evaluate(&self, names: &[String]) -> Result<Vec<Array>, String> {
        let mut model = self.model.clone();
        let graph = model.graph.get_or_insert_default();
        graph.output = names.iter().map(|n| port(n, DType::F32, &[])).collect();
        if names.is_empty() {
            return Err("recipe: it gives nothing".into());
        }
        let graph = import(&model.to_bytes(), None, &options()).map_err(|e| reason(&e))?;
        if graph.tensors.iter().any(|t| t.len() > MOST_ELEMENTS) {
            return Err("generator: a tensor is too large".into());
        }
        let values: Vec<Array> = graph.inputs.iter().map(|&t| self.inputs[&graph.tensors[t].name].clone()).collect();
        let values = eval::run(&graph, &values).map_err(|_| "generator: it has no result".to_string())?;
        // Constants of DOUBLE are kept as they are: no tensor of a file is one here.
        Ok(values.into_iter().map(Array::stored).collect())
    }

    /// The model with these outputs, its inputs, and the choices that were made.
    pub fn finish(mut self, outputs: &[String]) -> (ModelProto, BTreeMap<String, Array>, Vec<u32>) {
        let ports = outputs.iter().map(|name| {
            let value = self.find(name);
            port(name, value.dtype, &value.shape)
        });
        let ports = ports.collect();
        self.graph().output = ports;
        (self.model, self.inputs, self.draw.into_inner().made())
    }

    /// Results that no node reads, and some others.
    pub fn ends(&mut self) -> Vec<String> {
        let graph = self.model.graph.get_or_insert_default();
        let computed: Vec<String> = graph.node.iter().flat_map(|n| &n.output).cloned().collect();
        let read: Vec<String> = graph.node.iter().flat_map(|n| &n.input).cloned().collect();
        let names: Vec<String> = self.known.iter().map(|k| k.name.clone()).filter(|n| computed.contains(n)).collect();
        names.into_iter().filter(|n| !read.contains(n) || self.below(8) == 7).collect()
    }
}

/// A refusal without what is particular to a node.
fn reason(e: &Error) -> String {
    match e {
        Error::Unsupported(all) => format!("{}: {}", all[0].op, all[0].reason),
        Error::Node { op, reason, .. } => format!("{op} is malformed: {reason}"),
        other => other.to_string(),
    }
}

/// Numbers of an array, changed one by one if they are reals.
pub fn map_reals(a: &Array, mut change: impl FnMut(f64) -> f64) -> Array {
    match a.numbers() {
        Numbers::F(v) => Array::f32(&a.shape, v.into_iter().map(&mut change).collect()),
        Numbers::I(_) => a.clone(),
    }
}
