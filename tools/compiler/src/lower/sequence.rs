//! Recurrences: the body of a loop becomes a band of steps; the selective scan and the Legendre memory are steps.

use std::collections::{HashMap, HashSet};

use kinglet::kernels::{GoOn, LegendreMemory, MAX_ORDER, MAX_STATE, MEMORY_LANES, SelectiveScan};
use kinglet::{DType, StepKind};

use super::{Extra, Lowerer, PlanTensor, PlanTensorId, Result, no_kernel};
use crate::graph::moves_nothing;
use crate::graph::{Body, Graph, Node, Op, TensorId};
use crate::import::MAX_UNROLLED;

impl<'a> Lowerer<'a> {
    /// A loop. What is carried has memory that each trip overwrites; slices are views that move from trip to trip.
    pub(super) fn run_loop(&mut self, node: &Node, body: &'a Body) -> Result<()> {
        if self.band.is_some() {
            return Err(no_kernel(
                "it is a loop in the body of a loop, and neither can be written out",
                format!("export either of them with a fixed number of trips, at most {MAX_UNROLLED}"),
            ));
        }
        let operands: Vec<TensorId> = node.inputs.iter().map(|t| t.expect("a loop's inputs are all there")).collect();
        let outputs: Vec<TensorId> = node.outputs().collect();
        let memory: Vec<PlanTensorId> = outputs[..body.carried].iter().map(|&t| self.buffer_tensor(t)).collect();
        let uses = body.graph.use_counts();
        for (k, &m) in memory.iter().enumerate() {
            // Where there may be no trip, a first value is the last one, too.
            if body.ends || uses[body.graph.inputs[k]] > 0 {
                self.write_value(node, operands[k], m)?;
            }
        }
        let mut inputs = Vec::new();
        for (k, &t) in body.graph.inputs.iter().enumerate() {
            if uses[t] == 0 {
                continue;
            }
            let p = if k < body.carried {
                memory[k]
            } else {
                let whole = self.operand(operands[k]);
                if k < body.carried + body.scanned { self.slice_of(whole, body, t) } else { whole }
            };
            inputs.push((t, p));
        }
        let slices: Vec<PlanTensorId> = (body.carried..outputs.len())
            .map(|k| {
                let whole = self.buffer_tensor(outputs[k]);
                self.slice_of(whole, body, body.graph.outputs[k])
            })
            .collect();
        self.out.bands.push(body.trips);
        let mut inner = Lowerer {
            band: Some(self.out.bands.len() - 1),
            looped: outputs,
            precision: self.precision,
            out: std::mem::take(&mut self.out),
            packed: std::mem::take(&mut self.packed),
            ..Lowerer::new(&body.graph, self.target)
        };
        for (t, p) in inputs {
            let view = inner.view(p, t);
            inner.tensors.insert(t, view);
        }
        if let Some(&condition) = memory.first().filter(|_| body.ends) {
            let extra = Extra::rows(1).in_place(1);
            let stub = Node::new(Op::Reshape, Vec::new(), body.graph.outputs[0], node.source.clone());
            inner.emit(
                &stub,
                StepKind::GoOn,
                GoOn { trips: body.trips as u32 },
                vec![Some(condition)],
                condition,
                extra,
            );
        }
        inner.choose_memory(body, &memory, &slices);
        inner.nodes();
        inner.settle(node, body, &memory, &slices);
        self.out = inner.out;
        self.packed = inner.packed;
        self.unsupported.extend(inner.unsupported);
        Ok(())
    }

    /// The view of `whole` that in each slice of a band is one position of its first axis, with the shape of `t`.
    fn slice_of(&mut self, whole: PlanTensorId, body: &Body, t: TensorId) -> PlanTensorId {
        let slice = self.out.tensors[whole].clone().with_shape(&body.graph.tensors[t].shape);
        let advance = slice.bytes();
        self.add(PlanTensor { advance, ..slice })
    }

    /// The memory of `p` as graph tensor `t`, whose integers may stand for something else there.
    fn view(&mut self, p: PlanTensorId, t: TensorId) -> PlanTensorId {
        let (place, advance) = (self.out.tensors[p].place.clone(), self.out.tensors[p].advance);
        let tensor = PlanTensor { advance, ..self.describe(t, place) };
        self.add(tensor)
    }

    /// Lets the nodes of a body compute straight into what is carried and into the slices, where nothing is in the way.
    fn choose_memory(&mut self, body: &Body, memory: &[PlanTensorId], slices: &[PlanTensorId]) {
        let graph = &body.graph;
        let producers = graph.producers();
        let wanted = memory.iter().chain(slices);
        for (k, (&output, &place)) in graph.outputs.iter().zip(wanted).enumerate() {
            let origin = origin(graph, &producers, output);
            let Some(&made_by) = producers.get(&origin) else { continue };
            if self.given.contains_key(&origin) || (k < body.carried && !read_before(graph, graph.inputs[k], made_by)) {
                continue;
            }
            let p = self.view(place, origin);
            self.given.insert(origin, p);
        }
    }

    /// Copies to their places the outputs of a body that are not there yet, at the end of each trip.
    fn settle(&mut self, node: &Node, body: &Body, memory: &[PlanTensorId], slices: &[PlanTensorId]) {
        let graph = self.graph;
        let stub = |t: TensorId| Node::new(Op::Reshape, vec![Some(t)], t, node.source.clone());
        for (&t, &slice) in graph.outputs[body.carried..].iter().zip(slices) {
            let from = self.operand(t);
            if !self.same_place(from, slice) {
                self.copy_all(&stub(t), from, slice);
            }
        }
        let mut moves = Vec::new();
        for (k, &t) in graph.outputs[..body.carried].iter().enumerate() {
            let mut from = self.operand(t);
            if self.same_place(from, memory[k]) {
                continue;
            }
            // Another carried value takes this place: read it before it is overwritten.
            if memory.iter().any(|&m| self.same_place(from, m)) {
                let (dtype, shape) = (self.out.tensors[from].dtype, self.out.tensors[from].shape.clone());
                let kept = self.temporary(dtype, &shape);
                self.copy_all(&stub(t), from, kept);
                from = kept;
            }
            moves.push((t, from, memory[k]));
        }
        for (t, from, to) in moves {
            self.copy_all(&stub(t), from, to);
        }
    }

    fn same_place(&self, a: PlanTensorId, b: PlanTensorId) -> bool {
        let (a, b) = (&self.out.tensors[a], &self.out.tensors[b]);
        (&a.place, a.advance) == (&b.place, b.advance)
    }

    pub(super) fn selective_scan(&mut self, node: &Node, softplus: bool) -> Result<()> {
        let input = |i: usize| node.inputs.get(i).copied().flatten();
        let x = self.shape(input(0).expect("x is there")).to_vec();
        let state = self.shape(input(2).expect("A is there"))[1];
        if state > MAX_STATE {
            return Err(no_kernel(
                format!("a state of {state}; at most {MAX_STATE} are held"),
                "keep it as the loop it is (--keep-loops)",
            ));
        }
        for i in [2, 5, 7].into_iter().filter_map(input) {
            if self.graph.tensors[i].dtype != DType::F32 {
                return Err(no_kernel("A, D and the state must be f32", "dequantise them before it"));
            }
        }
        let operands: Vec<_> = (0..8).map(|i| input(i).map(|t| self.operand(t))).collect();
        let y = self.buffer_tensor(node.output);
        let h = match node.more.first() {
            Some(&t) => self.buffer_tensor(t),
            None => self.temporary(DType::F32, &[x[0], x[2], state]),
        };
        let params =
            SelectiveScan { batch: x[0] as u32, time: x[1] as u32, inner: x[2] as u32, state: state as u32, softplus };
        let rows = x[0] * x[2].div_ceil(16);
        // Each cell of the state is updated and read once a frame.
        let macs = 2 * x.iter().product::<usize>() as u64 * state as u64;
        self.emit_all(node, StepKind::SelectiveScan, params, operands, vec![y, h], Extra { macs, ..Extra::rows(rows) });
        Ok(())
    }

    pub(super) fn legendre_memory(&mut self, node: &Node) -> Result<()> {
        let input = |i: usize| node.inputs.get(i).copied().flatten();
        let (u, a, b) = (input(0).expect("u is there"), input(1).expect("A is there"), input(2).expect("B is there"));
        let (Some(av), Some(bv)) = (self.value(a), self.value(b)) else {
            return Err(no_kernel("A and B are computed while the model runs", "export them as constants"));
        };
        let order = bv.len();
        if order > MAX_ORDER {
            return Err(no_kernel(
                format!("a memory of order {order}; at most {MAX_ORDER} are held"),
                "keep it as the loop it is (--keep-loops)",
            ));
        }
        let av = av.reals();
        let blocks = order.div_ceil(MEMORY_LANES);
        let mut packed = vec![0f32; blocks * order * MEMORY_LANES];
        for (i, row) in av.chunks(order).enumerate() {
            for (j, &v) in row.iter().enumerate() {
                packed[(i / MEMORY_LANES * order + j) * MEMORY_LANES + i % MEMORY_LANES] = v as f32;
            }
        }
        let shape = self.shape(u).to_vec();
        let inputs = vec![
            Some(self.operand(u)),
            Some(self.constant_f32(&packed)),
            Some(self.operand(b)),
            input(3).map(|t| self.operand(t)),
        ];
        let y = self.buffer_tensor(node.output);
        let params = LegendreMemory {
            batch: shape[0] as u32,
            time: shape[1] as u32,
            channels: shape[2] as u32,
            order: order as u32,
        };
        let macs = shape.iter().product::<usize>() as u64 * (order * (order + 1)) as u64;
        let extra = Extra { macs, ..Extra::rows(shape[0] * shape[2]) };
        self.emit(node, StepKind::LegendreMemory, params, inputs, y, extra);
        Ok(())
    }
}

/// Whether a node's output is another view of its input's memory.
fn is_alias(graph: &Graph, node: &Node) -> bool {
    match &node.op {
        Op::Reshape | Op::Reinterpret => true,
        Op::Transpose { perm } => node.inputs[0].is_some_and(|x| moves_nothing(&graph.tensors[x].shape, perm)),
        _ => false,
    }
}

/// The tensor whose memory `t` is a view of.
fn origin(graph: &Graph, producers: &HashMap<TensorId, usize>, mut t: TensorId) -> TensorId {
    while let Some(node) = producers.get(&t).map(|&i| &graph.nodes[i]).filter(|n| is_alias(graph, n)) {
        t = node.inputs[0].expect("a view has an input");
    }
    t
}

/// Whether `t` and its views are read only by nodes before node `index`, and by no output.
fn read_before(graph: &Graph, t: TensorId, index: usize) -> bool {
    let mut views = HashSet::from([t]);
    for (i, node) in graph.nodes.iter().enumerate() {
        if !node.inputs.iter().flatten().any(|x| views.contains(x)) {
            continue;
        }
        if is_alias(graph, node) {
            views.insert(node.output);
        } else if i >= index {
            return false;
        }
    }
    !graph.outputs.iter().any(|t| views.contains(t))
}
