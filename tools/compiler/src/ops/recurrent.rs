//! Recurrent layers: `LSTM`, `GRU`, `RNN`. For each direction a product of all frames with the weights, and what recurs by itself.

use kinglet::DType;

use super::quantize::{dequantized, dequantized_by, dynamic};
use crate::array::Array;
use crate::graph::{Activation, BinaryOp, Node, Op, Post, Quant, Tensor, TensorId, UnaryOp, Way};
use crate::import::{Context, Failure, node_name};

/// Which layer a node is.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Lstm,
    Gru,
    Rnn,
}

impl Kind {
    fn gates(self) -> usize {
        match self {
            Kind::Lstm => 4,
            Kind::Gru => 3,
            Kind::Rnn => 1,
        }
    }

    /// The functions of a direction where the node names none.
    fn functions(self) -> &'static [&'static str] {
        match self {
            Kind::Lstm => &["Sigmoid", "Tanh", "Tanh"],
            Kind::Gru => &["Sigmoid", "Tanh"],
            Kind::Rnn => &["Tanh"],
        }
    }
}

/// `LSTM` (opset 1 and later).
pub fn lstm(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    layer(c, Kind::Lstm)
}

/// `DynamicQuantizeLSTM` of com.microsoft: its weights are bytes with scales, and what goes into it is rounded by its own extremes. Its
/// hidden state, which ONNX Runtime rounds likewise in every frame, goes on in reals.
pub fn dynamic_lstm(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    layer(c, Kind::Lstm)
}

/// `GRU` (opset 1 and later).
pub fn gru(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    layer(c, Kind::Gru)
}

/// `RNN` (opset 1 and later).
pub fn rnn(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    layer(c, Kind::Rnn)
}

/// Extents of a layer.
struct Extents {
    kind: Kind,
    time: usize,
    batch: usize,
    hidden: usize,
    /// The first axis of the input is the batch (`layout` 1).
    batch_first: bool,
    /// W and R are bytes with scales and zero points, `[directions, input or hidden, gates]`.
    bytes: bool,
}

impl Extents {
    fn of(c: &Context<'_, '_>, kind: Kind, directions: usize) -> Result<Extents, Failure> {
        let (x, r) = (c.input(0)?, c.input(2)?);
        let bytes = c.op_type() == "DynamicQuantizeLSTM";
        let (&[first, second, input], &[_, rows, columns]) = (&c.shape(x)[..], &c.shape(r)[..]) else {
            return Err(Failure::malformed(format!("X has the shape {:?} and R {:?}", c.shape(x), c.shape(r))));
        };
        let hidden = if bytes { rows } else { columns };
        let batch_first = c.flag("layout", false);
        let (time, batch) = if batch_first { (second, first) } else { (first, second) };
        let e = Extents { kind, time, batch, hidden, batch_first, bytes };
        if directions * time * batch * input * hidden == 0 {
            return Err(Failure::malformed("an axis of extent 0"));
        }
        let given = c.int("hidden_size", hidden as i64);
        if given != hidden as i64 {
            return Err(Failure::malformed(format!("hidden_size is {given}, and R has the shape {:?}", c.shape(r))));
        }
        let gates = kind.gates() * hidden;
        let state = if batch_first { [batch, directions, hidden] } else { [directions, batch, hidden] };
        check(c, 0, "X", &[first, second, input])?;
        if bytes {
            check_bytes(c, [1, 8, 9], "W", &[directions, input, gates])?;
            check_bytes(c, [2, 10, 11], "R", &[directions, hidden, gates])?;
        } else {
            check(c, 1, "W", &[directions, gates, input])?;
            check(c, 2, "R", &[directions, gates, hidden])?;
        }
        check(c, 3, "B", &[directions, 2 * gates])?;
        check(c, 5, "initial_h", &state)?;
        if kind == Kind::Lstm {
            check(c, 6, "initial_c", &state)?;
            check(c, 7, "P", &[directions, 3 * hidden])?;
        }
        let lengths = c.optional(4).map(|t| c.shape(t));
        if let Some(s) = lengths.filter(|s| *s != [batch]) {
            return Err(Failure::malformed(format!("sequence_lens has the shape {s:?} for {batch} sequences")));
        }
        Ok(e)
    }
}

/// Fails unless input `i`, if it is given, has this shape and is f32.
fn check(c: &Context<'_, '_>, i: usize, name: &str, shape: &[usize]) -> Result<(), Failure> {
    let Some(t) = c.optional(i) else { return Ok(()) };
    if c.shape(t) != shape {
        return Err(Failure::malformed(format!("{name} has the shape {:?}, not {shape:?}", c.shape(t))));
    }
    if c.dtype(t) != DType::F32 {
        let reason = format!("{name} is {}, not f32", c.dtype(t).name());
        return Err(Failure::unsupported(reason, "export the model in f32"));
    }
    Ok(())
}

/// Fails unless the weights of input `i` have this shape, and scale and zero point are one a direction, or one a gate of each.
fn check_bytes(c: &Context<'_, '_>, [i, scale, zero]: [usize; 3], name: &str, shape: &[usize]) -> Result<(), Failure> {
    let given = c.shape(c.input(i)?);
    let of = [Some(c.input(scale)?), c.optional(zero)];
    let fits = |s: Vec<usize>| s == shape[..1] || s == [shape[0], shape[2]];
    if given != shape || of.into_iter().flatten().any(|t| !fits(c.shape(t))) {
        let parts = of.map(|t| t.map(|t| c.shape(t)));
        return Err(Failure::malformed(format!(
            "{name} has the shape {given:?}, with scale and zero point of {parts:?}"
        )));
    }
    let dtype = c.dtype(c.input(i)?);
    if dtype.quantized_range().is_none() || c.optional(zero).is_some_and(|t| c.dtype(t) != dtype) {
        return Err(Failure::malformed(format!("{name} is {}, or its zero point of another type", dtype.name())));
    }
    Ok(())
}

/// The directions of a node: for each whether it is reversed.
fn directions(c: &Context<'_, '_>) -> Result<Vec<bool>, Failure> {
    match c.string("direction", "forward").as_str() {
        "forward" => Ok(vec![false]),
        "reverse" => Ok(vec![true]),
        "bidirectional" => Ok(vec![false, true]),
        other => Err(Failure::malformed(format!("direction `{other}`"))),
    }
}

/// The functions of all directions, one direction after the other. Values of `activation_alpha` and `activation_beta` go to the
/// functions that take one, in order.
fn functions(c: &Context<'_, '_>, kind: Kind, directions: usize) -> Result<Vec<Activation>, Failure> {
    let wanted = kind.functions().len() * directions;
    let mut names: Vec<String> = match c.strings("activations") {
        Some(names) => names,
        None => kind.functions().iter().cycle().take(wanted).map(|&s| s.into()).collect(),
    };
    // What RNN's text gives as the default has a function for a second direction, whether there is one or not.
    if kind == Kind::Rnn && names.len() == 2 && names[0] == names[1] {
        names.truncate(wanted);
    }
    if names.len() != wanted {
        return Err(Failure::malformed(format!("{} activations, where there are {wanted}", names.len())));
    }
    let [mut alphas, mut betas] =
        ["activation_alpha", "activation_beta"].map(|name| c.floats(name).unwrap_or_default().into_iter());
    let mut all = Vec::new();
    for name in &names {
        let (op, alpha, beta) = match name.to_ascii_lowercase().as_str() {
            "relu" => (UnaryOp::Relu, None, None),
            "tanh" => (UnaryOp::Tanh, None, None),
            "sigmoid" => (UnaryOp::Sigmoid, None, None),
            "softsign" => (UnaryOp::Softsign, None, None),
            "softplus" => (UnaryOp::Softplus, None, None),
            "leakyrelu" => (UnaryOp::LeakyRelu, Some(0.01), None),
            "elu" => (UnaryOp::Elu, Some(1.0), None),
            "hardsigmoid" => (UnaryOp::HardSigmoid, Some(0.2), Some(0.5)),
            "affine" => (UnaryOp::Affine, Some(1.0), Some(0.0)),
            "thresholdedrelu" | "scaledtanh" => {
                let reason = format!("there is no kernel for the activation {name}");
                return Err(Failure::unsupported(reason, "export the layer with Sigmoid, Tanh or Relu"));
            }
            _ => return Err(Failure::malformed(format!("the activation `{name}`"))),
        };
        let next = |from: &mut std::vec::IntoIter<f32>, default: Option<f32>| {
            default.map_or(0.0, |default| from.next().unwrap_or(default))
        };
        let (alpha, beta) = (next(&mut alphas, alpha), next(&mut betas, beta));
        if alpha.is_nan() || beta.is_nan() {
            return Err(Failure::malformed(format!("the activation {name} has the parameters {alpha} and {beta}")));
        }
        all.push(Activation { op, alpha, beta });
    }
    if alphas.next().or_else(|| betas.next()).is_some() {
        return Err(Failure::malformed("more parameters of activations than there are activations that take one"));
    }
    Ok(all)
}

/// The bounds of what goes into a function.
fn clip(c: &Context<'_, '_>) -> Result<f32, Failure> {
    let clip = c.float("clip", f32::INFINITY);
    if clip > 0.0 { Ok(clip) } else { Err(Failure::malformed(format!("clip is {clip}"))) }
}

/// Position `d` of the first axis of `t`, where the parameters of direction `d` are. The dequantisation of a constant stays one.
fn part(c: &mut Context<'_, '_>, t: TensorId, d: usize) -> Result<TensorId, Failure> {
    let graph = &c.importer.frame.graph;
    let made = c.importer.frame.producer(t).filter(|n| matches!(n.op, Op::Dequantize)).and_then(|n| n.inputs[0]);
    let constant = made.and_then(|q| Some((graph.tensors[q].value.clone()?, graph.tensors[q].quant.clone()?)));
    let Some((value, quant)) = constant else {
        let shape = c.shape(t);
        return if shape[0] == 1 { c.reshaped(t, &shape[1..]) } else { c.position(t, d) };
    };
    let (scales, axis) = (quant.scales.len(), quant.axis);
    let quant = match quant.single() {
        Some((scale, zero)) => Quant::per_tensor(scale, zero),
        None if axis == 0 => Quant::per_tensor(quant.scales[d % scales], quant.zero_points[d % scales]),
        None => Quant { axis: axis - 1, ..quant },
    };
    let own = value.cut(0, d..d + 1).reshaped(&value.shape[1..]);
    let own = c.add_constant(own);
    dequantized(c, own, quant)
}

/// As [`part`], where the kernel reads f32: what a constant stands for is computed now.
fn reals(c: &mut Context<'_, '_>, t: TensorId, d: usize) -> Result<TensorId, Failure> {
    let own = part(c, t, d)?;
    real(c, own)
}

/// What a constant stands for.
fn real(c: &mut Context<'_, '_>, own: TensorId) -> Result<TensorId, Failure> {
    if c.tensor_info(own).value.is_some() || !c.is_constant(own) {
        return Ok(own);
    }
    let value = c.constant(own, "the recurrent weights")?;
    Ok(c.add_constant(value))
}

/// The weights of direction `d` in input `i`, `[gates, input or hidden]`.
fn weights(c: &mut Context<'_, '_>, e: &Extents, i: usize, d: usize) -> Result<TensorId, Failure> {
    let t = c.input(i)?;
    if !e.bytes {
        return part(c, t, d);
    }
    let (scale, zero) = (6 + 2 * i, 7 + 2 * i);
    let constant = |c: &mut Context<'_, '_>, i: usize| {
        let t = c.input(i)?;
        Ok::<_, Failure>(c.constant(t, "the quantised weights")?.cut(0, d..d + 1))
    };
    let own = constant(c, i)?;
    let shape = own.shape[1..].to_vec();
    let own = own.reshaped(&shape);
    let scales = constant(c, scale)?;
    let zeros = c.optional(zero).map(|_| constant(c, zero)).transpose()?;
    let zeros = zeros.map_or(vec![0], |z| z.ints().into_owned());
    let n = scales.len().max(zeros.len());
    let quant = Quant {
        scales: scales.reals().iter().map(|&s| s as f32).cycle().take(n).collect(),
        zero_points: zeros.iter().map(|&z| z as i32).cycle().take(n).collect(),
        axis: 0,
    };
    if let Some(bad) = quant.scales.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
        return Err(Failure::malformed(format!("a scale of {bad}")));
    }
    let own = c.add_constant(own);
    let own = c.moved(own, 0, 1)?;
    let quant = if n == 1 { Quant::per_tensor(quant.scales[0], quant.zero_points[0]) } else { quant };
    dequantized(c, own, quant)
}

/// The state of direction `d` before the first frame, `[batch, hidden]`.
fn state(c: &mut Context<'_, '_>, e: &Extents, i: usize, d: usize) -> Result<Option<TensorId>, Failure> {
    let Some(t) = c.optional(i) else { return Ok(None) };
    let t = if e.batch_first { c.moved(t, 1, 0)? } else { t };
    part(c, t, d).map(Some)
}

/// The results of one direction: the hidden state after each frame `[time, batch, hidden]`, that after the last frame of each sequence
/// `[batch, hidden]`, and the cell then, of an LSTM.
struct Results {
    y: TensorId,
    h: Option<TensorId>,
    cell: Option<TensorId>,
}

fn layer(c: &mut Context<'_, '_>, kind: Kind) -> Result<(), Failure> {
    let reversed = directions(c)?;
    let e = Extents::of(c, kind, reversed.len())?;
    let functions = functions(c, kind, reversed.len())?;
    let clip = clip(c)?;
    for i in [1, 2, 3, 7] {
        let t = c.optional(i);
        c.prefer_constant(t);
    }
    let x = c.input(0)?;
    let x = if e.batch_first { c.moved(x, 0, 1)? } else { x };
    let x = if e.bytes {
        let [x, scale, zero] = dynamic(c, x)?;
        dequantized_by(c, x, [Some(scale), Some(zero)], 0)?
    } else {
        x
    };
    let lengths = lengths(c, &e)?;
    let mut all = Vec::new();
    for (d, (&reverse, functions)) in reversed.iter().zip(functions.chunks(kind.functions().len())).enumerate() {
        all.push(direction(c, &e, x, lengths, d, Way { reverse, clip }, functions)?);
    }
    outputs(c, &e, &all)
}

/// How many frames each sequence has, if they have not all of them.
fn lengths(c: &mut Context<'_, '_>, e: &Extents) -> Result<Option<TensorId>, Failure> {
    let Some(t) = c.optional(4) else { return Ok(None) };
    let known = c.tensor_info(t).value.clone();
    let Some(known) = known else { return Ok(Some(t)) };
    let known = known.ints().into_owned();
    if let Some(bad) = known.iter().find(|&&n| !(0..=e.time as i64).contains(&n)) {
        return Err(Failure::malformed(format!("a sequence of {bad} frames, where there are {}", e.time)));
    }
    Ok(known.iter().any(|&n| n < e.time as i64).then_some(t))
}

/// What one direction computes.
fn direction(
    c: &mut Context<'_, '_>,
    e: &Extents,
    x: TensorId,
    lengths: Option<TensorId>,
    d: usize,
    way: Way,
    functions: &[Activation],
) -> Result<Results, Failure> {
    let (n, gates) = (e.hidden, e.kind.gates() * e.hidden);
    let linear_before_reset = e.kind == Kind::Gru && c.flag("linear_before_reset", false);
    // R as the kernel reads it: a row for each element of the state.
    let r = weights(c, e, 2, d)?;
    let r = real(c, r)?;
    let r = c.moved(r, 0, 1)?;
    // Both biases of a gate are added up, but for the one that a GRU adds before the reset.
    let (mut bias, mut behind) = (None, None);
    if let Some(b) = c.optional(3) {
        let b = reals(c, b, d)?;
        let summed = if linear_before_reset { 2 * n } else { gates };
        let (wb, rb) = (c.sliced(b, 0, 0, summed, 1)?, c.sliced(b, 0, gates, summed, 1)?);
        let mut all = c.binary(BinaryOp::Add, wb, rb)?;
        if linear_before_reset {
            let rest = c.sliced(b, 0, 2 * n, n, 1)?;
            all = c.concatenated(&[all, rest], 0)?;
            behind = Some(c.sliced(b, 0, gates + 2 * n, n, 1)?);
        }
        bias = Some(all);
    }
    let w = weights(c, e, 1, d)?;
    let op = Op::MatMul { transpose_a: false, transpose_b: true, post: Post::default() };
    let fixed = bias.filter(|&b| c.is_constant(b) && c.is_constant(w));
    let shape = [e.time, e.batch, gates];
    let mut x = c.emit_optional(op, &[Some(x), Some(w), fixed], DType::F32, &shape, None)?;
    if let Some(b) = bias.filter(|_| fixed.is_none()) {
        x = c.binary(BinaryOp::Add, x, b)?;
    }
    let h = state(c, e, 5, d)?;
    let mut inputs = vec![Some(x), Some(r), lengths, h];
    let op = match (e.kind, functions) {
        (Kind::Lstm, &[f, g, h]) => {
            inputs.push(state(c, e, 6, d)?);
            let p = c.optional(7);
            inputs.push(p.map(|p| reals(c, p, d)).transpose()?);
            Op::Lstm { way, functions: [f, g, h], input_forget: c.flag("input_forget", false) }
        }
        (Kind::Gru, &[f, g]) => {
            inputs.push(behind);
            Op::Gru { way, functions: [f, g], linear_before_reset }
        }
        (_, &[function, ..]) => Op::Rnn { way, function },
        (_, []) => return Err(Failure::malformed("no activation")),
    };
    let mut add = |shape: &[usize]| {
        let name = c.fresh_name();
        let graph = &mut c.importer.frame.graph;
        graph.add_tensor(Tensor { name, dtype: DType::F32, shape: shape.to_vec(), quant: None, value: None })
    };
    let y = add(&[e.time, e.batch, n]);
    let cell = (e.kind == Kind::Lstm).then(|| add(&[e.batch, n]));
    let source = vec![node_name(c.proto())];
    let node = Node::new(op, inputs, y, source);
    // The hidden state's.
    c.importer.frame.push(Node { more: cell.into_iter().collect(), roundings: usize::from(e.bytes), ..node });
    let h = if c.has_output(1) { Some(last(c, e, y, lengths, way.reverse)?) } else { None };
    Ok(Results { y, h, cell })
}

/// The hidden state after the last frame of each sequence, `[batch, hidden]`.
fn last(
    c: &mut Context<'_, '_>,
    e: &Extents,
    y: TensorId,
    lengths: Option<TensorId>,
    reverse: bool,
) -> Result<TensorId, Failure> {
    let Some(lengths) = lengths.filter(|_| !reverse) else {
        return c.position(y, if reverse { 0 } else { e.time - 1 });
    };
    // Of a sequence without frames the first, which is 0.
    let bound = |c: &mut Context<'_, '_>, op: BinaryOp, t: TensorId, by: Vec<i64>| {
        let by = c.add_constant(Array::int(DType::I32, &[by.len()], by));
        c.emit(Op::Binary(op), &[t, by], DType::I32, &[e.batch])
    };
    let batch = e.batch as i64;
    let n = bound(c, BinaryOp::Min, lengths, vec![e.time as i64])?;
    let n = bound(c, BinaryOp::Max, n, vec![1])?;
    let n = bound(c, BinaryOp::Mul, n, vec![batch])?;
    let at = bound(c, BinaryOp::Add, n, (0..batch).map(|b| b - batch).collect())?;
    let flat = c.reshaped(y, &[e.time * e.batch, e.hidden])?;
    c.emit(Op::Gather { axis: 0 }, &[flat, at], DType::F32, &[e.batch, e.hidden])
}

/// Gives the node its outputs: the directions side by side.
fn outputs(c: &mut Context<'_, '_>, e: &Extents, all: &[Results]) -> Result<(), Failure> {
    if c.has_output(0) {
        let frames: Vec<TensorId> = all.iter().map(|r| r.y).collect();
        let y = if e.batch_first {
            let y = c.stack(&frames, 2)?;
            c.moved(y, 0, 1)?
        } else {
            c.stack(&frames, 1)?
        };
        c.output(0, y);
    }
    let axis = usize::from(e.batch_first);
    let states = [all.iter().filter_map(|r| r.h).collect::<Vec<_>>(), all.iter().filter_map(|r| r.cell).collect()];
    for (i, states) in states.iter().enumerate() {
        if c.has_output(i + 1) && !states.is_empty() {
            let state = c.stack(states, axis)?;
            c.output(i + 1, state);
        }
    }
    Ok(())
}
