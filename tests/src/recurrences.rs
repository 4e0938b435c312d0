//! Random selective scans, Legendre memories and recurrent layers as graphs of one node, whole or cut in time.

use std::collections::BTreeMap;

use kinglet::DType;
use kinglet_compiler::array::Array;
use kinglet_compiler::graph::{Activation, Op, Quant, TensorId, UnaryOp, Way};
use kinglet_compiler::{Options, compile};

use crate::one_node::{Case, Like};
use crate::{Random, run};

/// An operand of a recurrence: its value, and what its integers stand for if it is quantised.
#[derive(Clone, Debug)]
pub struct Operand {
    /// Name of the operand; the graph's input has it.
    pub name: &'static str,
    /// The value.
    pub value: Array,
    /// Its quantisation.
    pub quant: Option<Quant>,
    /// It is a constant of the graph.
    pub constant: bool,
    /// Its second axis is time.
    pub of_time: bool,
}

/// One recurrence with its operands, an absent one being `None`. The last is the state before the first frame.
#[derive(Clone, Debug)]
pub struct Recurrence {
    /// The operator.
    pub op: Op,
    /// Its inputs.
    pub operands: Vec<Option<Operand>>,
    /// What its outputs are: the frames, and the state after the last one if the operator gives it.
    pub outputs: Vec<Like>,
}

/// Extents of a selective scan.
#[derive(Clone, Copy, Debug)]
pub struct Extents {
    /// Sequences.
    pub batch: usize,
    /// Frames.
    pub time: usize,
    /// Channels.
    pub inner: usize,
    /// State of a channel, or coefficients of a memory.
    pub state: usize,
}

/// By what factor a vector grows a step, in the long run, when it is multiplied with a matrix `[n, n]` again and again: its spectral
/// radius.
fn growth(a: &[f64], n: usize) -> f64 {
    const STEPS: i32 = 100;
    let (mut x, mut log) = (vec![1.0; n], 0.0);
    for _ in 0..STEPS {
        let next: Vec<f64> = a.chunks(n).map(|row| row.iter().zip(&x).map(|(a, x)| a * x).sum()).collect();
        let length = next.iter().map(|v| v * v).sum::<f64>().sqrt();
        if length == 0.0 {
            return 0.0;
        }
        log += length.ln();
        x = next.iter().map(|v| v / length).collect();
    }
    (log / f64::from(STEPS)).exp()
}

impl Recurrence {
    /// A selective scan. Bits of `with`: 0 D, 1 z, 2 the state before the first frame, 3 softplus. Decays are those of
    /// trained models: most states fade within a few frames, some hardly.
    pub fn selective_scan(r: &mut Random, e: Extents, with: usize) -> Self {
        let Extents { batch, time, inner, state } = e;
        let has = |bit: usize| with >> bit & 1 == 1;
        let mut operand = |name, shape: &[usize], of_time, low: f64, high: f64| {
            let drawn = r.array(DType::F32, shape);
            let v = drawn.reals().iter().map(|v| low + (v + 1.0) / 2.0 * (high - low)).collect();
            let value = Array::f32(shape, v).stored();
            Some(Operand { name, value, quant: None, constant: false, of_time })
        };
        let (frames, states) = ([batch, time, inner], [batch, time, state]);
        let delta = if has(3) { (-6.0, 2.0) } else { (0.0, 1.0) };
        let mut operands = vec![
            operand("x", &frames, true, -1.0, 1.0),
            operand("delta", &frames, true, delta.0, delta.1),
            operand("A", &[inner, state], false, -2.0, 0.0),
            operand("B", &states, true, -1.0, 1.0),
            operand("C", &states, true, -1.0, 1.0),
            operand("D", &[inner], false, -1.0, 1.0).filter(|_| has(0)),
            operand("z", &frames, true, -4.0, 4.0).filter(|_| has(1)),
            operand("h", &[batch, inner, state], false, -1.0, 1.0).filter(|_| has(2)),
        ];
        for k in [2, 5] {
            operands[k].iter_mut().for_each(|o| o.constant = true);
        }
        let outputs = vec![Like::f32(&frames), Like::f32(&[batch, inner, state])];
        Recurrence { op: Op::SelectiveScan { softplus: has(3) }, operands, outputs }
    }

    /// Legendre memories, `inner` of them with `state` coefficients each, whose matrices neither fade nor grow by much.
    pub fn legendre_memory(r: &mut Random, e: Extents, with_start: bool) -> Self {
        let Extents { batch, time, inner, state } = e;
        let mut operand = |name, shape: &[usize], of_time, most: f64| {
            let drawn = r.array(DType::F32, shape);
            let value = Array::f32(shape, drawn.reals().iter().map(|v| v * most).collect()).stored();
            Operand { name, value, quant: None, constant: false, of_time }
        };
        // Entries of variance 1/3: the spectral radius is about 0.9. What grows of itself is no memory, and would make of one
        // rounding more than any bound of a sum allows.
        let most = 0.9 * (3.0 / state as f64).sqrt();
        let mut a = operand("A", &[state, state], false, most);
        let excess = growth(&a.value.reals(), state) / 0.9;
        if excess > 1.0 {
            a.value = Array::f32(&[state, state], a.value.reals().iter().map(|v| v / excess).collect()).stored();
        }
        let operands = vec![
            Some(operand("u", &[batch, time, inner], true, 1.0)),
            Some(Operand { constant: true, ..a }),
            Some(Operand { constant: true, ..operand("B", &[state], false, 1.0) }),
            with_start.then(|| operand("m", &[batch, inner, state], false, 1.0)),
        ];
        let outputs = vec![Like::f32(&[batch, time, inner, state])];
        Recurrence { op: Op::LegendreMemory, operands, outputs }
    }

    /// An LSTM, a GRU or an RNN (`kind` 0, 1, 2) with a state of `e.state`. Bits of `with`: 0 the hidden state before the first
    /// frame, 1 the cell, or the bias behind the reset, 2 peepholes, 3 lengths, 4 from the last frame on, 5 bounds, 6 the input
    /// gate forgets, or the product before the reset, 7 R is an input. Its matrices neither fade nor grow by much.
    pub fn layer(r: &mut Random, e: Extents, kind: usize, with: usize) -> Self {
        let Extents { batch, time, state: hidden, .. } = e;
        let has = |bit: usize| with >> bit & 1 == 1;
        let gates = [4, 3, 1][kind] * hidden;
        let lengths = (0..batch).map(|_| r.below(time + 1) as i64).collect();
        let way = Way { reverse: has(4), clip: if has(5) { 0.4 } else { f32::INFINITY } };
        let sharp = Activation { op: UnaryOp::HardSigmoid, alpha: 0.3, beta: 0.4 };
        let open = Activation::of(r.pick(&[UnaryOp::Sigmoid, UnaryOp::Softsign]));
        let f = r.pick(&[Activation::of(UnaryOp::Sigmoid), open, sharp]);
        let mut bounded = || r.pick(&[UnaryOp::Tanh, UnaryOp::Tanh, UnaryOp::Softsign, UnaryOp::Sigmoid]);
        let [g, h] = [Activation::of(bounded()), Activation::of(bounded())];
        let mut operand = |name, shape: &[usize], most: f64| {
            let drawn = r.array(DType::F32, shape);
            let value = Array::f32(shape, drawn.reals().iter().map(|v| v * most).collect()).stored();
            Operand { name, value, quant: None, constant: false, of_time: false }
        };
        let x = operand("x", &[time, batch, gates], 2.0);
        let weights = operand("R", &[hidden, gates], (1.0 / hidden as f64).sqrt());
        let start = operand("h", &[batch, hidden], 1.0);
        let cell = operand("c", &[batch, hidden], 1.0);
        let peepholes = Operand { constant: true, ..operand("P", &[3 * hidden], 0.5) };
        let bias = Operand { constant: true, ..operand("b", &[hidden], 1.0) };
        let lengths = Array::int(DType::I32, &[batch], lengths);
        let lengths = Operand { name: "lengths", value: lengths, quant: None, constant: has(0), of_time: false };
        let mut operands = vec![
            Some(x),
            Some(Operand { constant: !has(7), ..weights }),
            has(3).then_some(lengths),
            has(0).then_some(start),
        ];
        let frames = Like::f32(&[time, batch, hidden]);
        let (op, outputs) = match kind {
            0 => {
                operands.extend([has(1).then_some(cell), has(2).then_some(peepholes)]);
                let op = Op::Lstm { way, functions: [f, g, h], input_forget: has(6) };
                (op, vec![frames, Like::f32(&[batch, hidden])])
            }
            1 => {
                operands.push(has(1).then_some(bias));
                (Op::Gru { way, functions: [f, g], linear_before_reset: has(6) }, vec![frames])
            }
            _ => (Op::Rnn { way, function: g }, vec![frames]),
        };
        Recurrence { op, operands, outputs }
    }

    /// The recurrence as a graph of one node; every output of the node is one of the graph.
    pub fn case(&self) -> Case {
        let mut c = Case::new();
        let inputs = self.operands.iter().map(|o| {
            o.as_ref().map(|o| match o.constant {
                true => c.constant(o.value.clone(), o.quant.clone()),
                false => c.named_input(o.name, o.value.clone(), o.quant.clone()),
            })
        });
        let inputs: Vec<Option<TensorId>> = inputs.collect();
        for t in c.nodes(self.op.clone(), inputs, self.outputs.clone()) {
            c.output(t);
        }
        c
    }

    /// Outputs of a run: the frames, and the state after the last one.
    pub fn run(&self) -> [Array; 2] {
        let (graph, inputs) = self.case().parts();
        let compiled = compile(graph, &Options::default()).expect("compiles");
        let mut outputs: BTreeMap<String, Array> = run(&compiled.kgl, &inputs);
        let frames = outputs.remove("y0").expect("the frames");
        let last = outputs.remove("y1").unwrap_or_else(|| {
            let time = frames.shape[1];
            let mut shape = frames.shape.clone();
            shape.remove(1);
            cut(&frames, time - 1, time).reshaped(&shape)
        });
        [frames, last]
    }

    /// The same for the frames `from .. to` alone, going on from `state` if there is one.
    pub fn part(&self, from: usize, to: usize, state: Option<Array>) -> Self {
        let mut part = self.clone();
        for operand in part.operands.iter_mut().flatten().filter(|o| o.of_time) {
            operand.value = cut(&operand.value, from, to);
        }
        part.outputs[0].shape[1] = to - from;
        if let Some(value) = state {
            let last = part.operands.last_mut().expect("there are operands");
            *last = Some(Operand { name: "state", value, quant: None, constant: false, of_time: false });
        }
        part
    }
}

/// Positions `from .. to` of the second axis.
pub fn cut(a: &Array, from: usize, to: usize) -> Array {
    a.cut(1, from..to)
}
