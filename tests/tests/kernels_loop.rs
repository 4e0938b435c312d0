//! Random loops against the evaluator: what is carried, scanned, captured and stacked in any combination, with views,
//! values that change places, and constants; kept as bands, and as the passes make them.

use kinglet::DType;
use kinglet_compiler::Options;
use kinglet_compiler::array::Array;
use kinglet_compiler::graph::{BinaryOp, Body, Graph, Node, Op, Tensor, TensorId, UnaryOp};
use kinglet_tests::Random;
use kinglet_tests::one_node::{Case, LOOSE_TIE, Like, SUMS, cases};
use proptest::prelude::*;

/// Shapes of the tensors in a body: the second is a view of the first.
const SHAPES: [&[usize]; 2] = [&[2, 3], &[6]];

/// The body of a loop under construction.
struct Inside<'a> {
    r: &'a mut Random,
    graph: Graph,
    /// Values of each shape.
    values: [Vec<TensorId>; 2],
}

impl Inside<'_> {
    fn add(&mut self, which: usize, value: Option<Array>) -> TensorId {
        let name = format!("b{}", self.graph.tensors.len());
        let tensor = Tensor { name, dtype: DType::F32, shape: SHAPES[which].to_vec(), quant: None, value: None };
        let t = match value {
            Some(value) => self.graph.add_constant(tensor.name, value),
            None => self.graph.add_tensor(tensor),
        };
        self.values[which].push(t);
        t
    }

    fn input(&mut self, which: usize) {
        let t = self.add(which, None);
        self.graph.inputs.push(t);
    }

    /// Any value of a shape, a new constant if there is none.
    fn any(&mut self, which: usize) -> TensorId {
        let n = self.values[which].len();
        if n == 0 || self.r.once_in(12) {
            let value = self.r.array(DType::F32, SHAPES[which]);
            return self.add(which, Some(value));
        }
        self.values[which][self.r.below(n)]
    }

    fn node(&mut self, op: Op, inputs: &[TensorId], which: usize) -> TensorId {
        let t = self.add(which, None);
        let inputs = inputs.iter().map(|&t| Some(t)).collect();
        self.graph.nodes.push(Node::new(op, inputs, t, vec![format!("n{t}")]));
        t
    }

    /// A node of any kind; nothing grows from trip to trip.
    fn step(&mut self) {
        let which = self.r.below(2);
        let x = self.any(which);
        match (self.r.below(6), which) {
            (0, _) => {
                self.node(Op::Reshape, &[x], 1 - which);
            }
            (1, _) => {
                let op = self.r.pick(&[UnaryOp::Neg, UnaryOp::Tanh, UnaryOp::Relu]);
                self.node(Op::unary(op), &[x], which);
            }
            (2, 0) => {
                let axis = self.r.below(2);
                self.node(Op::Softmax { axis, log: false }, &[x], which);
            }
            (2, _) => {
                // Backwards: a copy that is no view.
                self.node(Op::Slice { starts: vec![5], steps: vec![-1] }, &[x], which);
            }
            _ => {
                let y = self.any(which);
                let op = self.r.pick(&[BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Min]);
                let z = self.node(Op::Binary(op), &[x, y], which);
                if matches!(op, BinaryOp::Add | BinaryOp::Sub) {
                    self.node(Op::unary(UnaryOp::Tanh), &[z], which);
                    // The sum itself is no value of the body's: it would grow.
                    self.values[which].retain(|&t| t != z);
                }
            }
        }
    }
}

/// Adds a loop with all its operands, and some readers of its results.
fn add_loop(r: &mut Random, c: &mut Case, outside: &mut [Vec<TensorId>; 2], trips: usize) {
    let operand = |r: &mut Random, c: &mut Case, outside: &[Vec<TensorId>; 2], which: usize| {
        if !outside[which].is_empty() && r.once_in(2) {
            let t = outside[which][r.below(outside[which].len())];
            return if r.once_in(3) { c.node(Op::unary(UnaryOp::Neg), &[t], Like::f32(SHAPES[which])) } else { t };
        }
        // Constants of equal elements start otherwise than those of others.
        let value =
            if r.once_in(3) { Array::f32(SHAPES[which], vec![0.0; 6]) } else { r.array(DType::F32, SHAPES[which]) };
        let constant = r.once_in(3);
        c.operand(constant, value, None)
    };
    let counts = [r.between(0, 3), r.between(0, 2), r.between(0, 2)];
    let mut inside = Inside { r, graph: Graph::default(), values: Default::default() };
    let mut inputs = Vec::new();
    let mut carried = Vec::new();
    for (kind, &n) in counts.iter().enumerate() {
        for _ in 0..n {
            let which = inside.r.below(2);
            inside.input(which);
            inputs.push(Some(match kind {
                1 => {
                    let shape = [&[trips], SHAPES[which]].concat();
                    let value = inside.r.array(DType::F32, &shape);
                    let constant = inside.r.once_in(3);
                    c.operand(constant, value, None)
                }
                _ => operand(inside.r, c, outside, which),
            }));
            carried.extend((kind == 0).then_some(which));
        }
    }
    for _ in 0..inside.r.between(0, 8) {
        inside.step();
    }
    let mut shapes = carried.clone();
    for _ in 0..inside.r.between(usize::from(carried.is_empty()), 3) {
        shapes.push(inside.r.below(2));
    }
    for &which in &shapes {
        let t = inside.any(which);
        inside.graph.outputs.push(t);
        inside.graph.output_names.push(format!("o{t}"));
    }
    let graph = inside.graph;
    let lead = |k: usize| if k < carried.len() { vec![] } else { vec![trips] };
    let likes = shapes.iter().enumerate().map(|(k, &w)| Like::f32(&[&lead(k), SHAPES[w]].concat())).collect();
    let body = Body { graph, trips, carried: counts[0], scanned: counts[1], ends: false };
    let outputs = c.nodes(Op::Loop(Box::new(body)), inputs, likes);
    for (k, (&t, &which)) in outputs.iter().zip(&shapes).enumerate() {
        if r.once_in(2) {
            c.output(t);
        }
        if k < carried.len() {
            outside[which].push(t);
        } else if r.once_in(2) {
            let y = c.node(Op::unary(UnaryOp::Neg), &[t], Like::f32(&[&[trips], SHAPES[which]].concat()));
            c.output(y);
        }
    }
}

/// One to three loops in a row, each reading what those before it gave.
fn loops(seed: u64) -> Case {
    let mut r = Random::new(seed);
    let mut c = Case::new();
    let mut outside: [Vec<TensorId>; 2] = Default::default();
    for which in [0, 1] {
        let x = c.input(r.array(DType::F32, SHAPES[which]), None);
        let y = c.node(Op::unary(UnaryOp::Tanh), &[x], Like::f32(SHAPES[which]));
        outside[which].extend([x, y]);
    }
    for _ in 0..r.between(1, 3) {
        let trips = r.pick(&[1, 2, 3, 7]);
        add_loop(&mut r, &mut c, &mut outside, trips);
    }
    // What a loop captured or started from must still be what it was.
    for which in [0, 1] {
        let n = outside[which].len();
        for t in [outside[which][0], outside[which][1], outside[which][r.below(n)]] {
            let y = c.node(Op::unary(UnaryOp::Neg), &[t], Like::f32(SHAPES[which]));
            c.output(y);
        }
    }
    c
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(2000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn kept(seed: u64) {
        loops(seed).check_with(SUMS, LOOSE_TIE, &Options { keep_loops: true, ..Options::default() });
    }

    #[test]
    fn as_the_passes_make_them(seed: u64) {
        loops(seed).check(SUMS, LOOSE_TIE);
    }
}
