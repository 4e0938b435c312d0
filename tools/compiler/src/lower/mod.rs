//! Graph → steps: each node becomes one step of the runtime (a few, where the runtime has no single one).

mod arithmetic;
mod elementwise;
mod epilogue;
mod halves;
mod indices;
mod integers;
mod movement;
mod pack;
mod products;
mod recurrent;
mod reduce;
mod refusal;
mod rows;
mod sampling;
mod sequence;
mod strides;
mod weights;

use refusal::{DEFECT, LAYOUT};
pub(crate) use refusal::{NoKernel, Result, no_kernel};
pub(crate) use rows::rows_of;

use std::collections::{HashMap, HashSet};

use kinglet::format::words::Record;
use kinglet::kernels::Feed;
use kinglet::{DType, StepKind, Target};

use crate::array::Array;
use crate::eval;
use crate::graph::{Graph, Node, Op, TensorId};
use crate::{Error, Options, Precision, Unsupported};

/// Number of a tensor of the plan.
pub type PlanTensorId = usize;
/// Number of a piece of arena memory.
pub type BufferId = usize;

/// Where a tensor's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// In the arena; several tensors may be views of one buffer.
    Buffer(BufferId),
    /// In the weights, at this offset.
    Weights(usize),
}

/// A tensor of the plan.
#[derive(Clone, Debug)]
pub struct PlanTensor {
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Trailing axes that make up a row.
    pub axes_of_row: usize,
    /// Scale, 1 if not quantised.
    pub scale: f32,
    /// Zero point, 0 if not quantised.
    pub zero_point: i32,
    /// Where it is.
    pub place: Place,
    /// Bytes by which it moves from one slice of its band to the next.
    pub advance: usize,
}

impl PlanTensor {
    /// Bytes of its elements.
    pub fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.size()
    }
}

/// A step before it has its place in the order and memory.
#[derive(Clone, Debug)]
pub struct PlanStep {
    /// What it computes.
    pub kind: StepKind,
    /// Inputs.
    pub inputs: Vec<Option<PlanTensorId>>,
    /// Outputs.
    pub outputs: Vec<PlanTensorId>,
    /// Band it belongs to.
    pub band: Option<usize>,
    /// Parameter words.
    pub params: Vec<u32>,
    /// Output rows.
    pub rows: usize,
    /// Parts that a row can be cut into.
    pub columns: usize,
    /// Bytes of scratch that a worker needs.
    pub scratch: u64,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Inputs (by bit) whose place the first output may take.
    pub in_place: u32,
    /// Name.
    pub name: String,
    /// ONNX nodes it came from.
    pub source: Vec<String>,
    /// Tensors of the file whose roundings it leaves out.
    pub roundings: usize,
    /// Type it computes in.
    pub dtype: DType,
    /// Why it computes in float; `None` if it computes in integers.
    pub float_reason: Option<String>,
    /// Outputs of the graph's node that it is a step of (in the body of a loop those of the loop), of which there is one at
    /// least.
    pub of: Vec<TensorId>,
}

/// A graph turned into steps.
#[derive(Debug, Default)]
pub struct Lowered {
    /// Tensors.
    pub tensors: Vec<PlanTensor>,
    /// Steps in a valid order.
    pub steps: Vec<PlanStep>,
    /// Slices of each band: runs of neighbouring steps that are executed together, slice by slice.
    pub bands: Vec<usize>,
    /// Number of arena buffers.
    pub buffers: usize,
    /// Constant data, every piece at a multiple of 64.
    pub weights: Vec<u8>,
    /// Inputs of the model.
    pub inputs: Vec<PlanTensorId>,
    /// For each input the constant that it takes where no value is given, if there is one.
    pub defaults: Vec<Option<PlanTensorId>>,
    /// Outputs of the model.
    pub outputs: Vec<PlanTensorId>,
    /// For each output whether the caller takes its rows as they are made.
    pub fed: Vec<bool>,
    /// Which tensor of the plan each tensor of the graph is.
    pub of_graph: HashMap<TensorId, PlanTensorId>,
}

impl Lowered {
    /// The inputs that lie in the arena before a run: those whose rows no step asks for.
    pub(crate) fn whole_inputs(&self) -> impl Iterator<Item = PlanTensorId> + '_ {
        let fed = |t: PlanTensorId| self.steps.iter().any(|s| s.kind == StepKind::Feed && s.outputs == [t]);
        self.inputs.iter().copied().filter(move |&t| !fed(t))
    }
}

/// Lowers a graph for a target, with the floats of a precision and the rows of some inputs and outputs given and taken by the caller, as
/// `options` say. `folds` makes a mean over a picture two steps, the first of which can be a part of a band of rows.
///
/// # Errors
/// [`Error::Unsupported`] with every node that has no kernel.
pub fn lower(graph: &Graph, options: &Options, folds: bool) -> std::result::Result<Lowered, Error> {
    let (target, feed) = (options.target, &options.feed);
    let mut l = Lowerer { folds, precision: options.precision, ..Lowerer::new(graph, target) };
    if options.precision == Precision::F16 && target.info().halves {
        l.halves = halves::halves(graph);
    }
    // Rows that the caller gives or takes are those of pictures.
    l.matrices.retain(|&t| !feed.contains(&graph.tensors[t].name));
    for (number, &t) in graph.inputs.iter().enumerate() {
        let p = l.buffer_tensor(t);
        l.out.inputs.push(p);
        if feed.contains(&graph.tensors[t].name) {
            l.feed(number, t, p);
        }
        let default = graph.defaults.get(&t).map(|value| {
            let place = l.store(&value.to_bytes());
            let tensor = l.describe(t, place);
            l.add(tensor)
        });
        l.out.defaults.push(default);
    }
    l.nodes();
    if l.unsupported.is_empty() {
        l.outputs();
    }
    l.out.fed = graph.output_names.iter().map(|name| feed.contains(name)).collect();
    l.out.of_graph = l.tensors;
    if l.unsupported.is_empty() { Ok(l.out) } else { Err(Error::Unsupported(l.unsupported)) }
}

/// Whether `folds` makes a difference to [`lower`].
pub fn could_fold(graph: &Graph) -> bool {
    graph.nodes.iter().any(|node| reduce::mean_of_picture(graph, node).is_some())
}

/// The name of the last ONNX node that a node came from, or of its output.
fn name_of(graph: &Graph, node: &Node) -> String {
    node.source.last().cloned().unwrap_or_else(|| graph.tensors[node.output].name.clone())
}

pub(crate) struct Lowerer<'a> {
    graph: &'a Graph,
    target: Target,
    folds: bool,
    precision: Precision,
    /// Tensors whose rows are those of matrices.
    matrices: HashSet<TensorId>,
    /// Tensors that are stored as halves.
    halves: HashSet<TensorId>,
    /// Halves of others, made for products.
    narrowed: HashMap<TensorId, PlanTensorId>,
    out: Lowered,
    tensors: HashMap<TensorId, PlanTensorId>,
    /// Tensors whose memory was chosen before the node that computes them is lowered.
    given: HashMap<TensorId, PlanTensorId>,
    /// The band that steps go to, in the body of a loop.
    band: Option<usize>,
    /// The outputs of that loop, in the graph around it.
    looped: Vec<TensorId>,
    unsupported: Vec<Unsupported>,
    /// Where constants are, by a hash of their content, so that equal ones are stored once.
    packed: HashMap<u64, Vec<usize>>,
    /// Hashes of the constants that are tables of look-ups, by their bytes.
    tables: HashMap<usize, HashSet<u64>>,
    /// Right sides of products that are no tables.
    apart: HashSet<TensorId>,
    /// Weights that were packed.
    products: HashMap<weights::PackKey, weights::Packed>,
    /// Totals of weights.
    totals: HashMap<weights::PackKey, weights::Totals>,
}

/// What a step needs besides kind, parameters and operands.
pub(crate) struct Extra {
    pub rows: usize,
    pub columns: usize,
    pub scratch: u64,
    pub macs: u64,
    pub in_place: u32,
}

impl Extra {
    pub fn rows(rows: usize) -> Self {
        Extra { rows, columns: 1, scratch: 0, macs: 0, in_place: 0 }
    }

    pub fn in_place(self, in_place: u32) -> Self {
        Extra { in_place, ..self }
    }
}

impl<'a> Lowerer<'a> {
    fn new(graph: &'a Graph, target: Target) -> Self {
        let looked_up = graph.nodes.iter().filter(|n| matches!(n.op, Op::Gather { .. })).filter_map(|n| n.inputs[0]);
        let mut tables: HashMap<usize, HashSet<u64>> = HashMap::new();
        for t in looked_up.collect::<HashSet<TensorId>>() {
            if let Some(value) = graph.value(t) {
                let bytes = value.to_bytes();
                tables.entry(bytes.len()).or_default().insert(kinglet::format::checksum(&bytes, 0));
            }
        }
        Lowerer {
            tables,
            apart: HashSet::new(),
            products: HashMap::new(),
            totals: HashMap::new(),
            graph,
            target,
            folds: false,
            precision: Precision::F32,
            matrices: rows::of_matrices(graph),
            halves: HashSet::new(),
            narrowed: HashMap::new(),
            out: Lowered::default(),
            tensors: HashMap::new(),
            given: HashMap::new(),
            band: None,
            looped: Vec::new(),
            unsupported: Vec::new(),
            packed: HashMap::new(),
        }
    }

    fn nodes(&mut self) {
        for node in &self.graph.nodes {
            let lowered = self.node(node);
            if !self.note(node, lowered) {
                for t in node.outputs() {
                    self.buffer_tensor(t);
                }
            }
        }
    }

    /// Keeps the reason why a node has no kernel; `true` if it has one.
    fn note(&mut self, node: &Node, lowered: Result<()>) -> bool {
        let Err(NoKernel { reason, remedy }) = lowered else { return true };
        let (name, op) = (name_of(self.graph, node), node.op.name());
        self.unsupported.push(Unsupported { node: name, op, reason, remedy });
        false
    }

    /// The step that asks for the rows of input `number`.
    fn feed(&mut self, number: usize, t: TensorId, p: PlanTensorId) {
        let (rows, row) = self.rows(t);
        let node = Node::new(Op::Reshape, Vec::new(), t, Vec::new());
        let params = Feed { input: number as u32, rows: rows as u32, row: row as u32 };
        self.emit(&node, StepKind::Feed, params, Vec::new(), p, Extra::rows(rows));
    }

    fn node(&mut self, node: &'a Node) -> Result<()> {
        let constants: Vec<_> = node.inputs.iter().map(|t| t.and_then(|t| self.graph.value(t))).collect();
        if let Some(text) = eval::fault(self.graph, node, &constants) {
            return Err(no_kernel(text, "every run would fail there: mend the model"));
        }
        match &node.op {
            Op::Conv { .. } | Op::ConvTranspose { .. } => self.conv(node),
            Op::MatMul { .. } => self.matmul(node),
            Op::Unary { .. } | Op::Lut { .. } | Op::Cast(_) | Op::Quantize | Op::Dequantize => self.unary(node),
            Op::Binary(_) => self.binary(node),
            Op::ScaleShift | Op::Where => self.ternary(node),
            Op::Softmax { .. } | Op::CumSum { .. } | Op::ArgMax { .. } => self.along_axis(node),
            Op::TopK { axis, smallest } => self.top_k(node, *axis, *smallest),
            Op::Scatter { op, axis } => self.scatter(node, *op, *axis),
            Op::GridSample { .. } | Op::RoiAlign { .. } | Op::NonMaxSuppression { .. } => self.sampling(node),
            Op::Norm { .. } => self.norm(node),
            Op::Reduce { .. } => self.reduce(node),
            Op::Pool { .. } => self.pool(node),
            Op::Loop(body) => self.run_loop(node, body),
            Op::SelectiveScan { softplus } => self.selective_scan(node, *softplus),
            Op::LegendreMemory => self.legendre_memory(node),
            Op::Lstm { .. } | Op::Gru { .. } | Op::Rnn { .. } => self.recurrent(node),
            Op::Reinterpret | Op::Reshape => {
                self.alias(node);
                Ok(())
            }
            _ => self.movement(node),
        }
    }

    /// The description of graph tensor `t` as a tensor of the plan, at `place`.
    fn describe(&self, t: TensorId, place: Place) -> PlanTensor {
        let tensor = &self.graph.tensors[t];
        // Scales along an axis are no property of a runtime tensor; steps that need them take them as an operand.
        let (scale, zero_point) = tensor.quant.as_ref().and_then(|q| q.single()).unwrap_or((1.0, 0));
        let dtype = if self.halves.contains(&t) { DType::F16 } else { tensor.dtype };
        let axes_of_row = self.axes_of_row(t);
        PlanTensor { dtype, shape: tensor.shape.clone(), axes_of_row, scale, zero_point, place, advance: 0 }
    }

    fn add(&mut self, tensor: PlanTensor) -> PlanTensorId {
        self.out.tensors.push(tensor);
        self.out.tensors.len() - 1
    }

    fn new_buffer(&mut self) -> Place {
        self.out.buffers += 1;
        Place::Buffer(self.out.buffers - 1)
    }

    /// Gives graph tensor `t` memory of its own, unless some was chosen for it.
    fn buffer_tensor(&mut self, t: TensorId) -> PlanTensorId {
        if let Some(p) = self.given.remove(&t) {
            self.tensors.insert(t, p);
            return p;
        }
        let place = self.new_buffer();
        let tensor = self.describe(t, place);
        let p = self.add(tensor);
        self.tensors.insert(t, p);
        p
    }

    /// An unquantised intermediate of a node that becomes several steps.
    fn temporary(&mut self, dtype: DType, shape: &[usize]) -> PlanTensorId {
        let place = self.new_buffer();
        self.add(PlanTensor::plain(dtype, shape, place))
    }

    /// The plan's tensor for graph tensor `t`; constants are stored on first use.
    fn operand(&mut self, t: TensorId) -> PlanTensorId {
        if let Some(&p) = self.tensors.get(&t) {
            return p;
        }
        let value = self.graph.tensors[t].value.clone().expect("a tensor is constant or computed by an earlier node");
        let place = self.store(&value.to_bytes());
        let tensor = self.describe(t, place);
        let p = self.add(tensor);
        self.tensors.insert(t, p);
        p
    }

    /// Stores constant bytes.
    fn store(&mut self, bytes: &[u8]) -> Place {
        let hash = kinglet::format::checksum(bytes, 0);
        let places = self.packed.entry(hash).or_default();
        let same = |&&at: &&usize| self.out.weights.get(at..at + bytes.len()) == Some(bytes);
        if let Some(&at) = places.iter().find(same) {
            return Place::Weights(at);
        }
        let at = self.out.weights.len().next_multiple_of(kinglet::format::ALIGN);
        self.out.weights.resize(at, 0);
        self.out.weights.extend_from_slice(bytes);
        places.push(at);
        Place::Weights(at)
    }

    /// A constant operand with the given bytes.
    fn constant(&mut self, dtype: DType, shape: &[usize], bytes: impl AsRef<[u8]>) -> PlanTensorId {
        let place = self.store(bytes.as_ref());
        self.add(PlanTensor::plain(dtype, shape, place))
    }

    /// A constant f32 operand.
    fn constant_f32(&mut self, values: &[f32]) -> PlanTensorId {
        self.constant(DType::F32, &[values.len()], values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
    }

    fn shape(&self, t: TensorId) -> &'a [usize] {
        &self.graph.tensors[t].shape
    }

    fn value(&self, t: TensorId) -> Option<&'a Array> {
        self.graph.tensors[t].value.as_deref()
    }

    /// Emits a step for `node`.
    fn emit<P: Record>(
        &mut self,
        node: &Node,
        kind: StepKind,
        params: P,
        inputs: Vec<Option<PlanTensorId>>,
        output: PlanTensorId,
        extra: Extra,
    ) {
        self.emit_all(node, kind, params, inputs, vec![output], extra);
    }

    /// Emits a step with several outputs.
    fn emit_all<P: Record>(
        &mut self,
        node: &Node,
        kind: StepKind,
        params: P,
        inputs: Vec<Option<PlanTensorId>>,
        outputs: Vec<PlanTensorId>,
        extra: Extra,
    ) {
        let mut words = Vec::with_capacity(P::WORDS);
        params.write(&mut |w| words.push(w));
        let (dtype, float_reason) = self.arithmetic(node, kind, &inputs, outputs[0]);
        self.out.steps.push(PlanStep {
            kind,
            inputs,
            params: words,
            rows: extra.rows,
            columns: extra.columns,
            scratch: extra.scratch,
            macs: extra.macs,
            in_place: extra.in_place,
            name: name_of(self.graph, node),
            source: node.source.clone(),
            roundings: node.roundings,
            dtype,
            float_reason,
            // What the body of a loop computes is in its own graph, and every slice computes it anew.
            of: if self.band.is_some() { self.looped.clone() } else { node.outputs().collect() },
            outputs,
            band: self.band,
        });
    }

    /// Makes the output of a node another view of its input's memory.
    fn alias(&mut self, node: &Node) {
        let x = node.inputs[0].expect("has an input");
        let p = self.operand(x);
        let (place, advance) = (self.out.tensors[p].place.clone(), self.out.tensors[p].advance);
        let tensor = PlanTensor { advance, ..self.describe(node.output, place) };
        let id = self.add(tensor);
        self.tensors.insert(node.output, id);
    }

    /// Outputs of the model need memory of their own: what is constant, an input, or another output is copied.
    fn outputs(&mut self) {
        let mut taken: HashSet<Place> = self.out.inputs.iter().map(|&p| self.out.tensors[p].place.clone()).collect();
        for i in 0..self.graph.outputs.len() {
            let t = self.graph.outputs[i];
            let computed = self.value(t).is_none().then(|| self.operand(t));
            let own = computed.filter(|&p| {
                let place = &self.out.tensors[p].place;
                !taken.contains(place) && !matches!(place, Place::Weights(_))
            });
            let p = own.unwrap_or_else(|| {
                let place = self.new_buffer();
                let copy = self.describe(t, place);
                let p = self.add(copy);
                let source = self.graph.tensors[t].name.clone();
                let node = Node::new(Op::Reshape, vec![Some(t)], t, vec![source]);
                let written = self.write_value(&node, t, p);
                self.note(&node, written);
                p
            });
            taken.insert(self.out.tensors[p].place.clone());
            self.out.outputs.push(p);
        }
    }
}
