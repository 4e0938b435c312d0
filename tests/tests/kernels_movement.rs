//! Operators that move elements, against the evaluator: every element must be the very bits that it was.

use kinglet::DType;
use kinglet_compiler::array::Array;
use kinglet_compiler::graph::{Layout, Op, PadMode, Quant, ScatterOp, TensorId};
use kinglet_tests::Random;
use kinglet_tests::one_node::{Bound, Case, Like, TIE, cases};
use proptest::prelude::*;

/// Nothing is computed.
const EXACT: Bound = Bound::OfLargest(0.0);

fn config(n: u32) -> ProptestConfig {
    ProptestConfig { cases: cases(n), failure_persistence: None, ..ProptestConfig::default() }
}

/// A type, and with bytes and 16-bit integers perhaps a quantisation.
fn kind(r: &mut Random) -> (DType, Option<Quant>) {
    let dtype = r.pick(&DType::PORTS);
    let quantized = dtype.quantized_range().is_some() && r.once_in(2);
    let quant = quantized.then(|| r.quant(dtype, 0.01));
    (dtype, quant)
}

/// An input of any type, and what its moved elements are.
fn input(r: &mut Random, c: &mut Case, shape: &[usize]) -> (TensorId, DType, Option<Quant>) {
    let (dtype, quant) = kind(r);
    (c.input(r.wide(dtype, shape), quant.clone()), dtype, quant)
}

fn check(mut c: Case, op: Op, inputs: &[TensorId], output: Like) {
    let y = c.node(op, inputs, output);
    c.output(y);
    c.check(EXACT, TIE);
}

proptest! {
    #![proptest_config(config(600))]

    #[test]
    fn transposes(seed: u64) {
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let shape = r.shape(1..=6, 5);
        let mut perm: Vec<usize> = (0..shape.len()).collect();
        (1..perm.len()).for_each(|i| perm.swap(i, r.below(i + 1)));
        let (x, dtype, quant) = input(&mut r, &mut c, &shape);
        let shape = perm.iter().map(|&d| shape[d]).collect();
        check(c, Op::Transpose { perm }, &[x], Like { dtype, shape, quant });
    }

    /// Matrices with more elements along a side than a kernel takes at once, in an order of the axes that changes the last one.
    #[test]
    fn transposes_of_matrices(seed: u64, first: bool) {
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let side = |r: &mut Random| if r.once_in(2) { r.between(1, 20) } else { r.between(60, 150) };
        let shape = [r.between(1, 3), side(&mut r), side(&mut r)];
        let perm = if first { vec![2, 0, 1] } else { vec![0, 2, 1] };
        let (x, dtype, quant) = input(&mut r, &mut c, &shape);
        let shape = perm.iter().map(|&d| shape[d]).collect();
        check(c, Op::Transpose { perm }, &[x], Like { dtype, shape, quant });
    }

    #[test]
    fn slices(seed: u64) {
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let shape = r.shape(1..=6, 9);
        let (mut starts, mut steps, mut to) = (vec![], vec![], vec![]);
        for &n in &shape {
            let (start, step) = (r.below(n), r.between(1, 3));
            let back = r.once_in(2);
            let room = if back { start } else { n - 1 - start };
            starts.push(start);
            steps.push(if back { -(step as i64) } else { step as i64 });
            to.push(r.between(1, room / step + 1));
        }
        let (x, dtype, quant) = input(&mut r, &mut c, &shape);
        check(c, Op::Slice { starts, steps }, &[x], Like { dtype, shape: to, quant });
    }

    #[test]
    fn concatenations(seed: u64, count in 1..5usize) {
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let shape = r.shape(1..=5, 5);
        let axis = r.below(shape.len());
        let (dtype, quant) = kind(&mut r);
        let mut whole = shape.clone();
        whole[axis] = 0;
        let parts: Vec<TensorId> = (0..count)
            .map(|_| {
                let mut part = shape.clone();
                part[axis] = r.between(1, 4);
                whole[axis] += part[axis];
                let v = r.wide(dtype, &part);
                c.operand(r.once_in(4), v, quant.clone())
            })
            .collect();
        check(c, Op::Concat { axis }, &parts, Like { dtype, shape: whole, quant });
    }

    #[test]
    fn gathers(seed: u64, constant: bool, wide: bool) {
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let shape = r.shape(1..=4, 6);
        let axis = r.below(shape.len());
        let index = r.shape(0..=2, 5);
        let n = shape[axis];
        let values = (0..index.iter().product()).map(|_| r.below(2 * n) as i64 - n as i64).collect();
        let index_type = if wide { DType::I64 } else { DType::I32 };
        let (x, dtype, quant) = input(&mut r, &mut c, &shape);
        let i = c.operand(constant, Array::int(index_type, &index, values), None);
        let shape = [&shape[..axis], &index, &shape[axis + 1..]].concat();
        check(c, Op::Gather { axis }, &[x, i], Like { dtype, shape, quant });
    }

    /// Of elements and of slices, also of some that several updates meet.
    #[test]
    fn scatters(seed: u64, slices: bool, constant: bool, wide: bool) {
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let shape = r.shape(1..=5, 5);
        let (axis, index, updated) = r.scattered(&shape, slices);
        let index = r.indices(&shape, axis, &index, if wide { DType::I64 } else { DType::I32 });
        let (x, dtype, quant) = input(&mut r, &mut c, &shape);
        let updates = r.wide(dtype, &updated);
        let updates = c.operand(r.once_in(3), updates, quant.clone());
        let i = c.operand(constant, index, None);
        check(c, Op::Scatter { op: ScatterOp::Replace, axis }, &[x, updates, i], Like { dtype, shape, quant });
    }

    #[test]
    fn expansions(seed: u64) {
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let shape = r.shape(1..=6, 4);
        let from = r.broadcasting_to(&shape);
        let (x, dtype, quant) = input(&mut r, &mut c, &from);
        check(c, Op::Expand, &[x], Like { dtype, shape, quant });
    }

    #[test]
    fn tiles(seed: u64) {
        let mut r = Random::new(seed);
        let mut c = Case::new();
        // Each axis becomes two; six is what a copy takes.
        let shape = r.shape(1..=3, 5);
        let repeats: Vec<usize> = shape.iter().map(|_| r.between(1, 3)).collect();
        let to = shape.iter().zip(&repeats).map(|(n, k)| n * k).collect();
        let (x, dtype, quant) = input(&mut r, &mut c, &shape);
        check(c, Op::Tile { repeats }, &[x], Like { dtype, shape: to, quant });
    }

    #[test]
    fn depth_to_space(seed: u64, crd: bool) {
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let (block, depth) = (r.between(1, 3), r.pick(&[1, 3, 5, 8]));
        let (n, h, w) = (r.between(1, 2), r.between(1, 4), r.between(1, 4));
        let (x, dtype, quant) = input(&mut r, &mut c, &[n, depth * block * block, h, w]);
        let op = Op::DepthToSpace { block, crd, layout: Layout::ChannelsFirst };
        check(c, op, &[x], Like { dtype, shape: vec![n, depth, h * block, w * block], quant });
    }

    #[test]
    fn paddings(seed: u64, mode in 0..4usize) {
        let mode = PadMode::ALL[mode];
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let shape = r.shape(1..=6, 5);
        let most = |n: usize| match mode {
            PadMode::Reflect => n - 1,
            PadMode::Wrap => n,
            _ => 6,
        };
        let some = |r: &mut Random| shape.iter().map(|&n| if r.once_in(2) { 0 } else { r.between(0, most(n)) }).collect();
        let (before, after): (Vec<usize>, Vec<usize>) = (some(&mut r), some(&mut r));
        let to = (0..shape.len()).map(|d| before[d] + shape[d] + after[d]).collect();
        let (x, dtype, quant) = input(&mut r, &mut c, &shape);
        // A constant in the range of the type, on the grid of its scale.
        let value = match (&quant, dtype) {
            (Some(q), _) => f64::from(q.scales[0]) * 2.0,
            (None, DType::F32) => -0.75,
            (None, _) => 1.0,
        };
        check(c, Op::Pad { mode, before, after, value }, &[x], Like { dtype, shape: to, quant });
    }
}
