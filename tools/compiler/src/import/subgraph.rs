//! Subgraphs of control flow: written out in place, or imported as the body of a loop.

use std::collections::HashMap;

use kinglet_onnx::GraphProto;

use super::scope::{Frame, Sequence, Value};
use super::{Context, Failure, Importer, node_name};
use crate::Error;
use crate::array::Array;
use crate::graph::{BinaryOp, Body, Node, Op, Tensor, TensorId};

/// Most trips of a loop that are written out one by one, where a loop has no body that every trip can share.
pub const MAX_UNROLLED: usize = 1024;

/// Operations that a node costs each time it is imported.
pub(crate) const A_NODE: u64 = 1 << 14;

/// A loop as its operator describes it.
pub struct Recurrence<'p> {
    /// The body.
    pub graph: &'p GraphProto,
    /// The most trips there can be.
    pub trips: usize,
    /// The body's first two inputs are the trip and a condition, its first output is the condition (ONNX `Loop`).
    pub counted: bool,
    /// First values of what is carried.
    pub carried: Vec<Value>,
    /// What is scanned, along the first axis.
    pub scanned: Vec<TensorId>,
    /// What of the number of trips data decide, if they do.
    pub ends: Option<Ends>,
}

/// What data decide of the number of trips of a loop, besides what its body says.
pub struct Ends {
    /// Whether there is a first one: one bool.
    pub starts: TensorId,
    /// Of each trip whether there may be another one behind it, bools `[trips]`; absent where only the body says so.
    pub more: Option<TensorId>,
}

/// What a loop gives: the last values of what is carried, then the stacked slices.
pub struct Results {
    /// Last values of what is carried.
    pub carried: Vec<Value>,
    /// Slices of all trips along a new first axis.
    pub stacked: Vec<Value>,
}

/// What a body gives: whether to go on, the next carried values, the slices.
struct Given {
    condition: Option<Value>,
    carried: Vec<Value>,
    slices: Vec<Value>,
}

impl<'a> Context<'a, '_> {
    /// The subgraph in an attribute.
    pub fn subgraph(&self, name: &str) -> Result<&'a GraphProto, Failure> {
        let found = self.proto.attribute.iter().find(|a| a.name == name).and_then(|a| a.g.as_ref());
        found.ok_or_else(|| Failure::malformed(format!("its graph `{name}` is missing")))
    }

    /// Writes a subgraph out in place and returns its outputs.
    pub fn write_out(&mut self, graph: &GraphProto, inputs: Vec<Value>) -> Result<Vec<Value>, Failure> {
        self.importer.frame.enter();
        let outputs = self.importer.subgraph(graph, inputs);
        self.importer.frame.leave();
        outputs
    }

    /// A loop whose body all trips share; `None` if the body decides whether it goes on, although `loops` does not say that data may.
    ///
    /// # Errors
    /// [`Failure::Unsupported`] if they cannot share one: it carries something whose shape changes, or uses a sequence in
    /// other ways than to append to it.
    pub fn rolled(&mut self, loops: &Recurrence<'_>) -> Result<Option<Results>, Failure> {
        let trips = loops.trips;
        let varying = |reason: &str| varying(loops, reason);
        let mut inputs: Vec<TensorId> = loops.ends.iter().map(|ends| ends.starts).collect();
        for value in &loops.carried {
            match value {
                Value::Tensor(t) => inputs.push(self.raw(*t)),
                Value::Sequence(Sequence::Items(items)) if items.is_empty() => {}
                _ => return Err(varying("it carries a sequence that is not empty at first")),
            }
        }
        let carried = inputs.len();
        if loops.counted {
            self.reserve(trips, kinglet::DType::I64)?;
            let counter = crate::array::Array::i64s(&(0..trips as i64).collect::<Vec<_>>());
            inputs.push(self.add_constant(counter));
        }
        inputs.extend(loops.ends.iter().filter_map(|ends| ends.more));
        for &t in &loops.scanned {
            inputs.push(self.raw(t));
        }
        let scanned = inputs.len() - carried;

        let refused = self.importer.unsupported.len();
        let inside = Frame::within(&self.importer.budget);
        let outside = std::mem::replace(&mut self.importer.frame, inside);
        self.importer.outer.push(outside);
        let result = self.importer.body(loops, &inputs, carried);
        let result = result.and_then(|(given, more)| {
            let known = self.importer.unsupported.len() == refused;
            let goes_on = loops.ends.as_ref().filter(|_| known).map(|_| self.goes_on(given.condition.as_ref(), more));
            Ok((given, goes_on.transpose()?))
        });
        let outside = self.importer.outer.pop().expect("pushed above");
        let Frame { mut graph, captured, .. } = std::mem::replace(&mut self.importer.frame, outside);
        let (given, goes_on) = result?;
        if self.importer.unsupported.len() > refused {
            if trips <= MAX_UNROLLED && loops.ends.is_none() {
                // Written out, constants may make them superfluous; if not, they are reported then.
                self.importer.unsupported.truncate(refused);
            }
            return Err(varying("operators of its body have no kernel"));
        }

        let always = |v: &Value| matches!(v, Value::Tensor(t) if graph.value(*t).is_some_and(|v| v.ints().iter().all(|&b| b != 0)));
        if loops.ends.is_none() && given.condition.as_ref().is_some_and(|c| !always(c)) {
            return Ok(None);
        }
        let mut outputs: Vec<TensorId> = goes_on.into_iter().collect();
        let mut appended = Vec::new();
        for (k, (first, next)) in loops.carried.iter().zip(&given.carried).enumerate() {
            match (first, next) {
                (Value::Tensor(_), Value::Tensor(t)) => {
                    let (first, next) = (graph.inputs[outputs.len()], *t);
                    let kind = |t: TensorId| (graph.tensors[t].dtype, &graph.tensors[t].shape);
                    if kind(first) != kind(next) || graph.tensors[next].quant.is_some() {
                        return Err(varying("what it carries changes its shape or type"));
                    }
                    outputs.push(next);
                }
                (Value::Sequence(_), Value::Sequence(Sequence::Appended(own, t))) if *own == k => appended.push(*t),
                (Value::Sequence(_), Value::Sequence(Sequence::Carried(own))) if *own == k => {}
                _ => return Err(varying("it uses a sequence in other ways than to append to it")),
            }
        }
        let carries = loops.carried.len();
        for (k, slice) in given.slices.iter().enumerate() {
            // As many as data want there cannot be, unless nobody wants them.
            if loops.ends.is_some() && !self.has_output(carries + k) {
                continue;
            }
            let Value::Tensor(t) = slice else { return Err(varying("it stacks sequences")) };
            outputs.push(*t);
        }
        let slices = outputs.len() - carried;
        outputs.extend(appended);
        if loops.ends.is_some() && outputs.len() > carried {
            return Err(Failure::unsupported(
                "it stacks a slice a trip, and data decide how many trips it has",
                "give inputs that decide it with --bind NAME=FILE; or carry a tensor with room for all trips, write each slice into it, \
                 and carry their number beside it",
            ));
        }
        if outputs[carried..].iter().any(|&t| graph.tensors[t].quant.is_some()) {
            return Err(varying("it stacks quantised tensors"));
        }
        graph.outputs = outputs;
        graph.output_names = graph.outputs.iter().map(|&t| graph.tensors[t].name.clone()).collect();
        super::adopt::adopt(&mut graph);

        let (firsts, stacks) = graph.outputs.split_at(carried);
        let like = |t: TensorId, lead: &[usize]| {
            let tensor = &graph.tensors[t];
            Tensor { shape: [lead, &tensor.shape].concat(), value: None, ..tensor.clone() }
        };
        let finals: Vec<Tensor> = firsts.iter().map(|&t| like(t, &[])).collect();
        let stacked: Vec<Tensor> = stacks.iter().map(|&t| like(t, &[trips])).collect();
        if stacked.iter().any(|t| !super::fits(&t.shape)) {
            return Err(Failure::malformed("what it stacks is too large"));
        }
        if trips == 0 {
            let stacked: Vec<TensorId> = stacked.iter().map(|t| self.add_empty(t)).collect();
            return Ok(Some(self.results(loops, &inputs, stacked, slices, &given.carried)));
        }
        let source = vec![node_name(self.proto)];
        let outer = &mut self.importer.frame.graph;
        let ids: Vec<TensorId> = finals.into_iter().chain(stacked).map(|t| outer.add_tensor(t)).collect();
        let Some((&output, more)) = ids.split_first() else {
            return Ok(Some(Results { carried: loops.carried.clone(), stacked: Vec::new() }));
        };
        let op = Op::Loop(Box::new(Body { graph, trips, carried, scanned, ends: loops.ends.is_some() }));
        let operands = inputs.iter().chain(&captured).map(|&t| Some(t)).collect();
        self.importer.frame.push(Node { more: more.to_vec(), ..Node::new(op, operands, output, source) });
        let (finals, stacked) = ids.split_at(carried);
        Ok(Some(self.results(loops, finals, stacked.to_vec(), slices, &given.carried)))
    }

    /// Whether there is another trip, as the body and the number of trips have it.
    fn goes_on(&mut self, condition: Option<&Value>, more: Option<TensorId>) -> Result<TensorId, Failure> {
        let Some(&Value::Tensor(condition)) = condition else {
            return Err(Failure::malformed("its condition is no tensor"));
        };
        if self.dtype(condition) != kinglet::DType::Bool {
            return Err(Failure::malformed("its condition is no bool"));
        }
        let condition = self.reshaped(condition, &[])?;
        match more {
            Some(more) => self.binary(BinaryOp::And, condition, more),
            None => Ok(condition),
        }
    }

    /// Sorts a loop's outputs into what its operator gives: sequences take the place they were carried in.
    fn results(
        &self,
        loops: &Recurrence<'_>,
        finals: &[TensorId],
        mut stacked: Vec<TensorId>,
        slices: usize,
        given: &[Value],
    ) -> Results {
        let mut appended = stacked.split_off(slices).into_iter();
        let mut finals = finals.iter().skip(loops.ends.iter().count());
        let carried = loops.carried.iter().zip(given).map(|(first, next)| match (first, next) {
            (Value::Tensor(_), _) => Value::Tensor(*finals.next().expect("one a carried tensor")),
            (_, Value::Sequence(Sequence::Appended(..))) if loops.trips > 0 => {
                Value::Sequence(Sequence::Stacked(appended.next().expect("one a sequence that is appended to")))
            }
            _ => first.clone(),
        });
        Results { carried: carried.collect(), stacked: stacked.into_iter().map(Value::Tensor).collect() }
    }

    /// A loop whose trips are written out one after the other; `None` if data decide whether it goes on.
    ///
    /// # Errors
    /// [`Failure::Unsupported`] if there are too many.
    pub fn unrolled(&mut self, loops: &Recurrence<'_>) -> Result<Option<Results>, Failure> {
        // Of selections in the body nobody learns how many there are: that is another number in each trip.
        let counts = self.importer.counts.len();
        let results = self.written_out(loops);
        self.importer.counts.truncate(counts);
        results
    }

    fn written_out(&mut self, loops: &Recurrence<'_>) -> Result<Option<Results>, Failure> {
        let mut carried = loops.carried.clone();
        let slices = loops.graph.output.len().saturating_sub(carried.len() + usize::from(loops.counted));
        let mut stacks: Vec<Option<Vec<TensorId>>> = vec![Some(Vec::new()); slices];
        for trip in 0..loops.trips {
            if trip == MAX_UNROLLED {
                return Err(Failure::unsupported(
                    format!("it has more than {MAX_UNROLLED} trips, and they cannot share one body"),
                    "export the loop with a fixed number of trips, carrying tensors of fixed shapes, or say how many there are at most with \
                     --max-trips N",
                ));
            }
            let mut inputs = Vec::new();
            if loops.counted {
                let counter = Array::int(kinglet::DType::I64, &[], vec![trip as i64]);
                inputs.push(Value::Tensor(self.add_constant(counter)));
                inputs.push(Value::Tensor(self.yes()));
            }
            inputs.extend(carried);
            for &t in &loops.scanned {
                inputs.push(Value::Tensor(self.position(t, trip)?));
            }
            let outputs = self.write_out(loops.graph, inputs)?;
            let given = split(loops, outputs)?;
            carried = given.carried;
            for (stack, slice) in stacks.iter_mut().zip(given.slices) {
                match slice {
                    Value::Tensor(t) => stack.iter_mut().for_each(|s| s.push(t)),
                    Value::Unknown => *stack = None,
                    Value::Sequence(_) => return Err(Failure::malformed("it stacks sequences")),
                }
            }
            match given.condition {
                None => {}
                Some(_) if trip + 1 == loops.trips => {}
                Some(Value::Tensor(t)) => {
                    // With a stated bound no input is bound for it, whatever is given or is its default.
                    let known = match self.max_trips() {
                        Some(_) => self.tensor_info(t).value.clone(),
                        None => self.constant(t, "whether the loop goes on").ok(),
                    };
                    match known {
                        Some(goes_on) if goes_on.ints().contains(&0) => break,
                        Some(_) => {}
                        None => return Ok(None),
                    }
                }
                Some(_) => return Err(Failure::malformed("its condition is no tensor")),
            }
        }
        let stack = |s: Option<Vec<TensorId>>| match s {
            Some(items) => self.stack(&items, 0).map(Value::Tensor),
            None => Ok(Value::Unknown),
        };
        let stacked = stacks.into_iter().map(stack).collect::<Result<_, _>>()?;
        Ok(Some(Results { carried, stacked }))
    }

    /// The constant "true".
    fn yes(&mut self) -> TensorId {
        self.add_constant(Array::int(kinglet::DType::Bool, &[], vec![1]))
    }

    fn add_empty(&mut self, like: &Tensor) -> TensorId {
        let value = Array::from_bytes(like.dtype, &like.shape, &[]).expect("a shape without elements");
        self.add_constant(value)
    }
}

impl Importer<'_> {
    /// Imports a subgraph into the current graph and scope.
    fn subgraph(&mut self, graph: &GraphProto, inputs: Vec<Value>) -> Result<Vec<Value>, Failure> {
        if graph.input.len() != inputs.len() {
            return Err(Failure::malformed(format!(
                "its graph takes {} inputs, it gets {}",
                graph.input.len(),
                inputs.len()
            )));
        }
        if !self.budget.take((graph.node.len() as u64 + 1) * A_NODE, 0) {
            return Err(Failure::unsupported(
                "its graph is written out so often that this goes beyond the budget of a compilation",
                "export loops with a fixed number of trips, carrying tensors of fixed shapes",
            ));
        }
        for (formal, value) in graph.input.iter().zip(inputs) {
            self.frame.define(formal.name.clone(), value);
        }
        self.initializers(graph, &HashMap::new()).map_err(inside)?;
        self.nodes(graph).map_err(inside)?;
        let find = |o: &kinglet_onnx::ValueInfoProto| {
            let missing = || Failure::malformed(format!("output `{}` of its graph is computed by no node", o.name));
            self.find(&o.name).ok_or_else(missing)
        };
        graph.output.iter().map(find).collect()
    }

    /// Imports the body of a loop, whose operands are `operands`, into a graph of its own. Gives what it gives, and the slice of
    /// [`Ends::more`].
    fn body(
        &mut self,
        loops: &Recurrence<'_>,
        operands: &[TensorId],
        carried: usize,
    ) -> Result<(Given, Option<TensorId>), Failure> {
        let outside = &self.outer.last().expect("a body has a graph around it").graph;
        let described: Vec<Tensor> = operands.iter().map(|&t| outside.tensors[t].clone()).collect();
        let ids: Vec<TensorId> = described
            .into_iter()
            .enumerate()
            .map(|(k, tensor)| {
                let shape = if k < carried { tensor.shape.clone() } else { tensor.shape[1..].to_vec() };
                let id = self.frame.graph.add_tensor(Tensor { shape, value: None, ..tensor });
                self.frame.graph.inputs.push(id);
                id
            })
            .collect();
        let (firsts, slices) = ids.split_at(carried);
        let (mut firsts, mut slices) = (firsts.iter().skip(loops.ends.iter().count()), slices.iter());
        let mut inputs = Vec::new();
        if loops.counted {
            inputs.push(Value::Tensor(*slices.next().expect("the counter comes first")));
            let yes = Array::int(kinglet::DType::Bool, &[], vec![1]);
            inputs.push(Value::Tensor(self.frame.graph.add_constant("condition", yes)));
        }
        let more = loops.ends.as_ref().and_then(|ends| ends.more);
        let more = more.map(|_| *slices.next().expect("it comes before what is scanned"));
        for (k, value) in loops.carried.iter().enumerate() {
            inputs.push(match value {
                Value::Tensor(_) => Value::Tensor(*firsts.next().expect("one a carried tensor")),
                _ => Value::Sequence(Sequence::Carried(k)),
            });
        }
        inputs.extend(slices.map(|&t| Value::Tensor(t)));
        let outputs = self.subgraph(loops.graph, inputs)?;
        Ok((split(loops, outputs)?, more))
    }
}

/// Sorts what a body gives.
fn split(loops: &Recurrence<'_>, outputs: Vec<Value>) -> Result<Given, Failure> {
    let mut outputs = outputs.into_iter();
    let condition = if loops.counted { outputs.next() } else { None };
    let carried: Vec<Value> = outputs.by_ref().take(loops.carried.len()).collect();
    if carried.len() < loops.carried.len() {
        return Err(Failure::malformed("its body gives fewer values than it carries"));
    }
    Ok(Given { condition, carried, slices: outputs.collect() })
}

fn varying(loops: &Recurrence<'_>, reason: &str) -> Failure {
    let why_not = match loops.ends {
        Some(_) => "data decide how many trips it has",
        None => "it has too many trips to be written out",
    };
    Failure::unsupported(
        format!("{reason}, and {why_not}"),
        "export the loop with a fixed number of trips, carrying tensors of fixed shapes",
    )
}

/// An error in a subgraph as one of the node that has it.
fn inside(e: Error) -> Failure {
    Failure::malformed(format!("in its graph: {e}"))
}
