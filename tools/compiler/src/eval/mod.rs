//! The evaluator: a plain interpreter of the graph in f64 and i64.
//!
//! It folds constants, holds every pass to account (graph before = graph after) and is the reference of the tests for
//! kernels and whole graphs. It shares no code with the kernels and favours clearness over speed.
//!
//! Every operator means the same thing: *dequantise the inputs, compute in reals, quantise the output*. Reals stay in
//! f64 from node to node, also where the model says f32. Integers without a quantisation (indices, bools) stay
//! integers.

mod conv;
mod elementwise;
mod fault;
mod indices;
mod matmul;
mod movement;
mod pool;
mod post;
mod quant;
mod recurrent;
mod reduce;
mod sampling;
mod sequence;
#[cfg(test)]
mod testing;
mod unary;
mod walk;
mod window;

use std::borrow::Cow;

use kinglet::DType;

use crate::array::{Array, Numbers};
use crate::graph::{Graph, Node, Op, Post, Quant, ScatterOp, Tensor, TensorId};

pub use fault::fault;
pub(crate) use quant::cut;
pub use quant::{dequantize, quantize, quantize_unrounded};

/// Evaluates a node and gives its first output; see [`outputs`].
///
/// # Panics
/// As [`outputs`].
pub fn node(graph: &Graph, node: &Node, inputs: &[Option<&Array>]) -> Array {
    outputs(graph, node, inputs).swap_remove(0)
}

/// Evaluates one node; `inputs[i]` is `None` for an absent input. Types, shapes and quantisations are those of the
/// graph's tensors.
///
/// # Panics
/// If the node is malformed: operands are missing, or their shapes contradict the operator or the output's shape.
pub fn outputs(graph: &Graph, node: &Node, inputs: &[Option<&Array>]) -> Vec<Array> {
    let call = Call { graph, node, inputs };
    if let Some(moved) = move_elements(&call) {
        return vec![moved.finish(&call)];
    }
    let numbers = match &node.op {
        Op::Conv { window, groups, layout, post } => {
            post::apply(post, conv::conv(&call, window, *groups, *layout), &call)
        }
        Op::ConvTranspose { window, groups, layout, post } => {
            post::apply(post, conv::conv_transpose(&call, window, *groups, *layout), &call)
        }
        Op::MatMul { transpose_a, transpose_b, post }
            if call.in_integers() && call.get_real(2).is_none() && *post == Post::default() =>
        {
            Numbers::I(matmul::of_integers(&call, *transpose_a, *transpose_b))
        }
        Op::MatMul { transpose_a, transpose_b, post } => {
            post::apply(post, matmul::matmul(&call, *transpose_a, *transpose_b), &call)
        }
        Op::Unary { op, alpha, beta } => unary::unary(&call, *op, f64::from(*alpha), f64::from(*beta)),
        Op::Binary(op) => elementwise::binary(&call, *op),
        Op::ScaleShift => elementwise::scale_shift(&call),
        Op::Where => elementwise::select(&call),
        Op::Cast(_) => elementwise::cast(&call),
        Op::Lut { table } => elementwise::lut(&call, table),
        Op::Softmax { axis, log } => reduce::softmax(&call, *axis, *log),
        Op::Norm { kind, axes, epsilon } => reduce::norm(&call, *kind, axes, f64::from(*epsilon)),
        Op::Reduce { op, axes, keep: _ } => reduce::reduce(&call, *op, axes),
        Op::ArgMax { axis, keep: _, smallest, last } => reduce::arg_max(&call, *axis, *smallest, *last),
        Op::CumSum { axis, exclusive, reverse } => reduce::cum_sum(&call, *axis, *exclusive, *reverse),
        Op::TopK { axis, smallest } => {
            let [taken, places] = indices::top_k(&call, *axis, *smallest, &graph.tensors[node.output].shape);
            let places = node.more.iter().map(|&t| finish(places.clone(), &graph.tensors[t], &node.op));
            return std::iter::once(finish(taken, call.output(), &node.op)).chain(places).collect();
        }
        Op::Scatter { op, axis } => indices::scatter(&call, *op, *axis),
        Op::GridSample { mode, padding, align_corners } => {
            sampling::grid_sample(&call, *mode, *padding, *align_corners)
        }
        Op::RoiAlign { ratio, scale, half_pixel, largest } => {
            sampling::roi_align(&call, *ratio, (*scale).into(), *half_pixel, *largest)
        }
        Op::NonMaxSuppression { most, centers } => sampling::non_max_suppression(&call, *most, *centers),
        Op::Pool { kind, window, layout } => pool::pool(&call, *kind, window, *layout),
        Op::Quantize => {
            assert!(call.output().quant.is_some(), "the output of Quantize is quantised");
            Numbers::F(call.real(0).v.into_owned())
        }
        Op::Dequantize => {
            assert!(call.quant(0).is_some(), "the input of Dequantize is quantised");
            Numbers::F(call.real(0).v.into_owned())
        }
        Op::Reinterpret => return vec![call.array(0).clone()],
        Op::Loop(body) => return sequence::run_loop(&call, body),
        Op::LegendreMemory => sequence::legendre_memory(&call),
        Op::SelectiveScan { softplus } => {
            let results = sequence::selective_scan(&call, *softplus).into_iter().zip(node.outputs());
            return results.map(|(numbers, t)| finish(numbers, &graph.tensors[t], &node.op)).collect();
        }
        Op::Lstm { way, functions, input_forget } => {
            let results = recurrent::lstm(&call, *way, functions, *input_forget).into_iter().zip(node.outputs());
            return results.map(|(v, t)| finish(Numbers::F(v), &graph.tensors[t], &node.op)).collect();
        }
        Op::Gru { way, functions, linear_before_reset } => recurrent::gru(&call, *way, functions, *linear_before_reset),
        Op::Rnn { way, function } => recurrent::rnn(&call, *way, function),
        _ => unreachable!("it moves elements, which was done above"),
    };
    vec![finish(numbers, call.output(), &node.op)]
}

/// The result of an operator that moves elements and computes nothing.
fn move_elements<'a>(call: &Call<'a>) -> Option<movement::Elements<'a>> {
    Some(match &call.node.op {
        Op::Pad { mode, before, after, value } => movement::pad(call, *mode, before, after, *value),
        Op::DepthToSpace { block, crd, layout } => movement::depth_to_space(call, *block, *crd, *layout),
        Op::Transpose { perm } => movement::transpose(call, perm),
        Op::Reshape => movement::reshape(call),
        Op::Concat { axis } => movement::concat(call, *axis),
        Op::Slice { starts, steps } => movement::slice(call, starts, steps),
        Op::Gather { axis } => movement::gather(call, *axis),
        Op::Scatter { op: ScatterOp::Replace, axis } => indices::replaced(call, *axis),
        Op::Expand => movement::expand(call),
        Op::Tile { repeats } => movement::tile(call, repeats),
        _ => return None,
    })
}

/// What a product of integers makes of its sums once they are rounded to `mid`: the bytes of its table, or what its stages
/// give before it is quantised.
///
/// # Panics
/// If the node is no such product, or malformed.
pub fn behind_rounding(graph: &Graph, node: &Node, inputs: &[Option<&Array>], rounded: &[i64]) -> Array {
    let (Op::Conv { post, .. } | Op::ConvTranspose { post, .. } | Op::MatMul { post, .. }) = &node.op else {
        panic!("{} is no product", node.op.name())
    };
    let output = &graph.tensors[node.output];
    match post::behind_rounding(post, rounded, &Call { graph, node, inputs }) {
        Numbers::F(v) => Array::f32(&output.shape, v),
        Numbers::I(v) => Array::int(output.dtype, &output.shape, v),
    }
}

/// About how many elementary operations [`node`] takes.
pub fn cost(graph: &Graph, node: &Node) -> u64 {
    let shape = |i: usize| node.inputs.get(i).copied().flatten().map_or(&[][..], |t| &graph.tensors[t].shape);
    let product = |s: &[usize]| s.iter().fold(1u64, |n, &d| n.saturating_mul(d as u64));
    let each = match &node.op {
        Op::Conv { .. } => product(shape(1).get(1..).unwrap_or(&[])),
        Op::ConvTranspose { .. } => product(shape(1)),
        Op::MatMul { transpose_a, .. } => {
            let s = shape(0);
            let k = if *transpose_a { s.len().checked_sub(2) } else { s.len().checked_sub(1) };
            k.map_or(1, |k| s[k] as u64)
        }
        Op::Pool { window, .. } => product(&window.kernel),
        Op::LegendreMemory => product(shape(2)),
        // Each element of the state has so many gates.
        Op::Lstm { .. } | Op::Gru { .. } | Op::Rnn { .. } => shape(1).last().map_or(1, |&n| n as u64),
        Op::SelectiveScan { .. } => shape(2).last().map_or(1, |&n| n as u64),
        Op::GridSample { .. } => 4u64.saturating_pow(shape(1).last().map_or(0, |&n| n as u32)).saturating_mul(8),
        // A region may be as large as the picture.
        Op::RoiAlign { ratio: 0, .. } => product(shape(0).get(1..3).unwrap_or(&[])).saturating_mul(16),
        Op::RoiAlign { ratio, .. } => u64::from(*ratio).saturating_pow(2).saturating_mul(4),
        // Each box may meet all that are selected.
        Op::NonMaxSuppression { most, .. } => {
            return product(shape(1)).saturating_mul((*most as u64).saturating_add(64));
        }
        // Of each element read.
        Op::TopK { .. } => {
            return product(shape(0)).saturating_mul(u64::from(u64::BITS - product(shape(0)).leading_zeros()));
        }
        Op::Loop(body) => {
            // To evaluate a node takes as long as a thousand operations, however few it has.
            let node = |n: &Node| cost(&body.graph, n).saturating_add(1000);
            let once = body.graph.nodes.iter().map(node).fold(0, u64::saturating_add);
            return once.saturating_mul(body.trips as u64);
        }
        _ => 1,
    };
    let read = (0..node.inputs.len()).map(|i| product(shape(i))).fold(0, u64::saturating_add);
    product(&graph.tensors[node.output].shape).saturating_mul(each).saturating_add(read)
}

/// Evaluates the graph for the given values of its inputs and returns its outputs, both in the graph's order.
///
/// # Errors
/// If the inputs do not fit those of the graph, a tensor is read that has no value, or a node has no result (see [`fault`]; not
/// looked for inside loops).
pub fn run(graph: &Graph, inputs: &[Array]) -> Result<Vec<Array>, String> {
    run_with(graph, inputs, |_, _| {})
}

/// As [`run`], and shows `watch` every computed tensor. Values are freed after their last use.
///
/// # Errors
/// As [`run`].
pub fn run_with(graph: &Graph, inputs: &[Array], watch: impl FnMut(TensorId, &Array)) -> Result<Vec<Array>, String> {
    let check = |n: &Node, operands: &[Option<&Array>]| match fault(graph, n, operands) {
        Some(text) => Err(format!("{} `{}`: {text}", n.op.name(), n.source.last().map_or("", |s| s))),
        None => Ok(()),
    };
    interpret(graph, inputs, check, watch)
}

/// As [`run_with`], with `check` called before each node.
fn interpret(
    graph: &Graph,
    inputs: &[Array],
    mut check: impl FnMut(&Node, &[Option<&Array>]) -> Result<(), String>,
    mut watch: impl FnMut(TensorId, &Array),
) -> Result<Vec<Array>, String> {
    if inputs.len() != graph.inputs.len() {
        return Err(format!("the graph has {} inputs, {} values are given", graph.inputs.len(), inputs.len()));
    }
    let mut values: Vec<Option<Cow<'_, Array>>> =
        graph.tensors.iter().map(|t| t.value.as_deref().map(Cow::Borrowed)).collect();
    for (&t, value) in graph.inputs.iter().zip(inputs) {
        let tensor = &graph.tensors[t];
        if (value.dtype, &value.shape) != (tensor.dtype, &tensor.shape) {
            return Err(format!(
                "input `{}` is {} {:?}, the value given is {} {:?}",
                tensor.name,
                tensor.dtype.name(),
                tensor.shape,
                value.dtype.name(),
                value.shape
            ));
        }
        values[t] = Some(Cow::Borrowed(value));
    }
    let missing = |t: TensorId, reader: &str| format!("{reader} reads `{}`, which has no value", graph.tensors[t].name);
    let mut uses = graph.use_counts();
    for n in &graph.nodes {
        let operands: Vec<Option<&Array>> = n
            .inputs
            .iter()
            .map(|t| match t {
                Some(t) => values[*t].as_deref().map(Some).ok_or_else(|| missing(*t, &n.op.name())),
                None => Ok(None),
            })
            .collect::<Result<_, _>>()?;
        check(n, &operands)?;
        for (t, value) in n.outputs().zip(outputs(graph, n, &operands)) {
            watch(t, &value);
            values[t] = (uses[t] > 0).then_some(Cow::Owned(value));
        }
        for &t in n.inputs.iter().flatten() {
            uses[t] -= 1;
            if uses[t] == 0 {
                values[t] = None;
            }
        }
    }
    let output = |&t: &TensorId| values[t].as_deref().cloned().ok_or_else(|| missing(t, "an output"));
    graph.outputs.iter().map(output).collect()
}

/// Numbers of an operator's result as the output tensor holds them. Reals are yet to be quantised or cast; integers
/// are the output's own.
fn finish(numbers: Numbers, output: &Tensor, op: &Op) -> Array {
    let dtype = output.dtype;
    let data = match (numbers, &output.quant) {
        (Numbers::I(v), _) if dtype == DType::F32 => Numbers::F(v.into_iter().map(|v| v as f64).collect()),
        (Numbers::I(v), _) => Numbers::I(v.into_iter().map(|v| quant::wrap(v, dtype)).collect()),
        (Numbers::F(v), Some(q)) => Numbers::I(quant::quantize_all(&v, &output.shape, q, dtype)),
        (Numbers::F(v), None) if dtype == DType::F32 => Numbers::F(v),
        (Numbers::F(v), None) => Numbers::I(v.into_iter().map(|v| quant::cut(v, dtype)).collect()),
    };
    let n = match &data {
        Numbers::F(v) => v.len(),
        Numbers::I(v) => v.len(),
    };
    assert_eq!(n, output.len(), "{} gives another number of elements than {:?}", op.name(), output.shape);
    Array::new(dtype, output.shape.clone(), data)
}

/// The reals of an operand.
struct Real<'a> {
    shape: &'a [usize],
    v: Cow<'a, [f64]>,
}

/// One application of an operator to values.
struct Call<'a> {
    graph: &'a Graph,
    node: &'a Node,
    inputs: &'a [Option<&'a Array>],
}

impl<'a> Call<'a> {
    /// Describes the output.
    fn output(&self) -> &'a Tensor {
        &self.graph.tensors[self.node.output]
    }

    /// The value of input `i` as it is stored, if the input is there.
    fn get(&self, i: usize) -> Option<&'a Array> {
        self.inputs.get(i).copied().flatten()
    }

    /// The value of input `i` as it is stored.
    fn array(&self, i: usize) -> &'a Array {
        self.get(i).unwrap_or_else(|| panic!("{} has no input {i}", self.node.op.name()))
    }

    /// The quantisation of input `i`.
    fn quant(&self, i: usize) -> Option<&'a Quant> {
        let t = self.node.inputs.get(i).copied().flatten()?;
        self.graph.tensors[t].quant.as_ref()
    }

    /// The reals that input `i` stands for, if the input is there.
    fn get_real(&self, i: usize) -> Option<Real<'a>> {
        let a = self.get(i)?;
        let v = match self.quant(i) {
            Some(q) => quant::dequantize_all(a, q).into(),
            None => a.reals(),
        };
        Some(Real { shape: &a.shape, v })
    }

    /// The reals that input `i` stands for.
    fn real(&self, i: usize) -> Real<'a> {
        self.get_real(i).unwrap_or_else(|| panic!("{} has no input {i}", self.node.op.name()))
    }

    /// Whether input `i` holds integers that stand for themselves.
    fn is_integer(&self, i: usize) -> bool {
        self.quant(i).is_none() && self.get(i).is_none_or(|a| a.dtype != DType::F32)
    }

    /// Whether the output holds integers that stand for themselves.
    fn gives_integers(&self) -> bool {
        self.output().quant.is_none() && self.output().dtype != DType::F32
    }

    /// Whether the operator computes in integers.
    fn in_integers(&self) -> bool {
        self.gives_integers() && (0..self.inputs.len()).all(|i| self.is_integer(i))
    }

    /// Inputs that data movement takes to the output: as they are stored if they mean the same there, else as reals.
    fn moved(&self, inputs: impl Iterator<Item = usize> + Clone) -> Vec<(&'a [usize], movement::Elements<'a>)> {
        let output = self.output();
        // Scales along an axis are left to the reals: the operator may move or cut that axis.
        let as_stored = inputs.clone().all(|i| {
            let same = match (self.quant(i), &output.quant) {
                (None, None) => true,
                (Some(x), Some(y)) => x.single().is_some() && x.single() == y.single(),
                _ => false,
            };
            same && self.array(i).dtype == output.dtype && self.array(i).held().is_some()
        });
        let operand = |i| {
            let a = self.array(i);
            let elements =
                if as_stored { movement::Elements::of(a) } else { movement::Elements::Reals(self.real(i).v) };
            (&a.shape[..], elements)
        };
        inputs.map(operand).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;
    use crate::graph::{BinaryOp, UnaryOp};

    /// `y = −(x + 1)`, `z = x + 1` of two elements.
    fn graph() -> Graph {
        let mut g = Graph::default();
        let t = |name: &str| Tensor { name: name.into(), dtype: DType::F32, shape: vec![2], quant: None, value: None };
        let x = g.add_tensor(t("x"));
        let one = g.add_constant("one", Array::scalar(1.0));
        let (z, y) = (g.add_tensor(t("z")), g.add_tensor(t("y")));
        let n = |op, inputs, output| Node::new(op, inputs, output, vec![]);
        g.nodes.push(n(Op::Binary(BinaryOp::Add), vec![Some(x), Some(one)], z));
        g.nodes.push(n(Op::unary(UnaryOp::Neg), vec![Some(z)], y));
        (g.inputs, g.outputs) = (vec![x], vec![y, z, one]);
        g
    }

    #[test]
    fn runs_a_graph_and_shows_every_computed_tensor() {
        let mut seen = vec![];
        let out = run_with(&graph(), &[Array::f32(&[2], vec![1.0, 2.0])], |t, a| seen.push((t, a.clone()))).unwrap();
        let (z, y) = (Array::f32(&[2], vec![2.0, 3.0]), Array::f32(&[2], vec![-2.0, -3.0]));
        assert_eq!(out, [y.clone(), z.clone(), Array::scalar(1.0)]);
        assert_eq!(seen, [(2, z), (3, y)]);
    }

    #[test]
    fn refuses_inputs_that_do_not_fit() {
        assert!(run(&graph(), &[]).unwrap_err().contains("1 inputs, 0 values"));
        assert!(run(&graph(), &[Array::scalar(1.0)]).unwrap_err().contains("input `x` is f32 [2]"));
        assert!(run(&graph(), &[Array::i64s(&[1, 2])]).unwrap_err().contains("i64"));
    }

    #[test]
    fn refuses_to_read_what_has_no_value() {
        let mut g = graph();
        g.nodes.remove(0);
        let error = run(&g, &[Array::f32(&[2], vec![1.0, 2.0])]).unwrap_err();
        assert_eq!(error, "Neg reads `z`, which has no value");
    }

    #[test]
    fn an_unused_result_and_a_tensor_read_twice_are_no_trouble() {
        let mut g = graph();
        g.nodes[1].op = Op::Binary(BinaryOp::Mul);
        g.nodes[1].inputs = vec![Some(2), Some(2)];
        g.outputs = vec![0];
        let out = run(&g, &[Array::f32(&[2], vec![1.0, 2.0])]).unwrap();
        assert_eq!(out, [Array::f32(&[2], vec![1.0, 2.0])]);
    }

    #[test]
    fn quantize_dequantize_reinterpret() {
        let q = Quant::per_tensor(0.5, 3);
        let x = f(&[4], &[0.0, 0.25, 0.75, -100.0]);
        let y = eval(Op::Quantize, &[x], &like(DType::I8, &[4], Some(q.clone())));
        assert_eq!(y, Array::int(DType::I8, &[4], vec![3, 3, 5, -128]));
        let y = eval(Op::Dequantize, &[quantized(DType::I8, &[2], &[3, -1], q.clone())], &like(DType::F32, &[2], None));
        assert_eq!(y, Array::f32(&[2], vec![0.0, -2.0]));
        let y = eval(
            Op::Reinterpret,
            &[quantized(DType::I8, &[2], &[3, -1], q)],
            &like(DType::I8, &[2], Some(Quant::per_tensor(2.0, 0))),
        );
        assert_eq!(y.numbers(), Numbers::I(vec![3, -1]));
    }
}
