//! Functions of one, two and three elements, casts and conversions, against the evaluator.

use kinglet::DType;
use kinglet_compiler::array::Array;
use kinglet_compiler::graph::{BinaryOp, Op, Quant, TensorId, UnaryOp};
use kinglet_tests::Random;
use kinglet_tests::one_node::{Case, ELEMENTS, LOOSE_TIE, Like, TIE, cases};
use proptest::prelude::*;

const BYTES: [DType; 2] = [DType::I8, DType::U8];
const QUANTIZED: [DType; 4] = [DType::I8, DType::U8, DType::I16, DType::U16];
const INTEGERS: [DType; 7] = [DType::I8, DType::U8, DType::I16, DType::U16, DType::I32, DType::I64, DType::Bool];

fn config(n: u32) -> ProptestConfig {
    ProptestConfig { cases: cases(n), failure_persistence: None, ..ProptestConfig::default() }
}

/// Zeros, infinities, NaN, denormals, the ends of `exp`, huge values, and the points where the functions bend.
fn edges() -> Vec<f64> {
    let positive = [
        0.0,
        1e-45,
        1e-40,
        1.2e-38,
        1e-20,
        1e-8,
        1e-4,
        0.1,
        0.25,
        0.35,
        0.4999,
        0.5,
        0.75,
        1.0,
        1.5,
        2.0,
        2.5,
        3.0,
        3.5,
        6.0,
        9.0,
        17.0,
        20.0,
        50.0,
        87.0,
        88.0,
        88.7,
        88.8,
        89.0,
        104.0,
        1e4,
        8388609.0,
        1e10,
        1e20,
        3.4e38,
        f64::INFINITY,
        f64::NAN,
    ];
    positive.iter().flat_map(|&v| [v, -v]).map(|v| f64::from(v as f32)).collect()
}

/// Parameters a function is tried with.
fn parameters(op: UnaryOp) -> &'static [(f32, f32)] {
    match op {
        UnaryOp::LeakyRelu => &[(0.01, 0.0), (-0.5, 0.0), (2.0, 0.0)],
        UnaryOp::Clip => &[(0.0, 6.0), (-1.0, f32::INFINITY), (f32::NEG_INFINITY, 0.5), (2.0, 2.0), (3.0, -1.0)],
        UnaryOp::HardSigmoid => &[(0.2, 0.5), (1.0 / 6.0, 0.5)],
        UnaryOp::Swish => &[(1.0, 0.0), (1.702, 0.0)],
        UnaryOp::Elu => &[(1.0, 0.0), (0.3, 0.0)],
        UnaryOp::Selu => &[(1.673_263_2, 1.050_701)],
        UnaryOp::Pow => &[(2.0, 0.0), (3.0, 0.0), (0.5, 0.0), (-1.0, 0.0), (0.0, 0.0), (-0.5, 0.0)],
        UnaryOp::Affine => &[(1.5, -0.25), (-2.0, 0.0)],
        _ => &[(0.0, 0.0)],
    }
}

#[test]
fn unary_functions_of_reals() {
    let edges = edges();
    let random: Vec<f64> = (0..2000).map(|i| f64::from((i as f32 - 1000.0) / 83.0)).collect();
    for &op in UnaryOp::ALL {
        for &(alpha, beta) in parameters(op) {
            for x in [&edges, &random] {
                let mut c = Case::new();
                let shape = [1, x.len()];
                let x = c.input(Array::f32(&shape, x.clone()), None);
                let y = c.node(Op::Unary { op, alpha, beta }, &[x], Like::f32(&shape));
                c.output(y);
                c.check(ELEMENTS, TIE);
            }
        }
    }
}

#[test]
fn unary_functions_of_integers() {
    let ops = [UnaryOp::Neg, UnaryOp::Abs, UnaryOp::Relu, UnaryOp::Sign, UnaryOp::Clip, UnaryOp::Floor, UnaryOp::Not];
    let mut r = Random::new(5);
    for op in ops {
        for dtype in INTEGERS {
            let (alpha, beta) = if op == UnaryOp::Clip { (-2.5, 3.5) } else { (0.0, 0.0) };
            let mut c = Case::new();
            let x = c.input(r.wide(dtype, &[2, 150]), None);
            let y = c.node(Op::Unary { op, alpha, beta }, &[x], Like::int(dtype, &[2, 150]));
            c.output(y);
            c.check(ELEMENTS, TIE);
        }
    }
}

/// Functions that do not magnify a rounding of their argument, and give no NaN (whose quantisation ONNX leaves open).
const TAME: [(UnaryOp, f32, f32); 18] = [
    (UnaryOp::Neg, 0.0, 0.0),
    (UnaryOp::Abs, 0.0, 0.0),
    (UnaryOp::Softsign, 0.0, 0.0),
    (UnaryOp::Relu, 0.0, 0.0),
    (UnaryOp::LeakyRelu, 0.1, 0.0),
    (UnaryOp::Clip, -0.7, 1.1),
    (UnaryOp::Sigmoid, 0.0, 0.0),
    (UnaryOp::Tanh, 0.0, 0.0),
    (UnaryOp::Gelu, 0.0, 0.0),
    (UnaryOp::GeluTanh, 0.0, 0.0),
    (UnaryOp::HardSigmoid, 0.2, 0.5),
    (UnaryOp::HardSwish, 0.0, 0.0),
    (UnaryOp::Softplus, 0.0, 0.0),
    (UnaryOp::Swish, 1.0, 0.0),
    (UnaryOp::Elu, 1.0, 0.0),
    (UnaryOp::Affine, 0.8, 0.1),
    (UnaryOp::Pow, 2.0, 0.0),
    (UnaryOp::Mish, 0.0, 0.0),
];

proptest! {
    #![proptest_config(config(600))]

    /// Chains that start at a byte, with or without quantisations in between, ending in any type.
    #[test]
    fn chains_of_bytes(seed: u64, length in 1usize..4, direct: bool, float_in in 0..4, out in 0..6) {
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let shape = r.shape(1..=4, 9);
        let dtype = r.pick(&BYTES);
        let q = r.quant(dtype, 0.01);
        let mut v = if float_in == 0 {
            c.input(r.array(DType::F32, &shape), None)
        } else {
            let x = c.input(r.array(dtype, &shape), Some(q));
            if direct { x } else { c.dequantize(x) }
        };
        for k in 0..length {
            let (op, alpha, beta) = r.pick(&TAME);
            let op = Op::Unary { op, alpha, beta };
            let last = k + 1 == length;
            if last && out == 0 || !last && r.once_in(2) {
                v = c.node(op, &[v], Like::f32(&shape));
                continue;
            }
            let to = if last && out == 1 { r.pick(&QUANTIZED) } else { r.pick(&BYTES) };
            let unit = if matches!(to, DType::I8 | DType::U8) { 0.01 } else { 1e-4 };
            let q = r.quant(to, unit);
            if direct {
                v = c.node(op, &[v], Like::quantized(to, &shape, q));
            } else {
                v = c.node(op, &[v], Like::f32(&shape));
                v = c.quantize(v, to, q);
                if !last {
                    v = c.dequantize(v);
                }
            }
        }
        c.output(v);
        c.check(ELEMENTS, LOOSE_TIE);
    }

    #[test]
    fn binary_functions_of_reals(seed: u64, which in 0..BinaryOp::ALL.len()) {
        let mut r = Random::new(seed);
        let op = BinaryOp::ALL[which];
        let mut c = Case::new();
        let shape = r.shape(0..=6, 5);
        let (a, b) = pair(&mut r, &shape);
        let (va, vb) = (r.array(DType::F32, &a), r.array(DType::F32, &b));
        let constant = r.below(5);
        let (a, b) = (c.operand(constant == 0, va, None), c.operand(constant == 1, vb, None));
        let y = if compares(op) { Like::int(DType::Bool, &shape) } else { Like::f32(&shape) };
        let y = c.node(Op::Binary(op), &[a, b], y);
        c.output(y);
        c.check(ELEMENTS, TIE);
    }

    #[test]
    fn binary_functions_of_edge_values(which in 0..BinaryOp::ALL.len()) {
        let op = BinaryOp::ALL[which];
        let edges = edges();
        let n = edges.len();
        let mut c = Case::new();
        let a = c.input(Array::f32(&[n, 1], edges.clone()), None);
        let b = c.input(Array::f32(&[n], edges), None);
        let y = if compares(op) { Like::int(DType::Bool, &[n, n]) } else { Like::f32(&[n, n]) };
        let y = c.node(Op::Binary(op), &[a, b], y);
        c.output(y);
        c.check(ELEMENTS, TIE);
    }

    #[test]
    fn binary_functions_of_integers(seed: u64, which in 0..BinaryOp::ALL.len(), kind in 0..INTEGERS.len()) {
        let mut r = Random::new(seed);
        let (op, dtype) = (BinaryOp::ALL[which], INTEGERS[kind]);
        let mut c = Case::new();
        let shape = r.shape(0..=5, 5);
        let (a, b) = pair(&mut r, &shape);
        let (mut va, mut vb) = (r.wide(dtype, &a), r.wide(dtype, &b));
        // A division by 0 has no result: `faults` tests what is said of it.
        let never_zero = |v: &mut Array| {
            *v = Array::int(dtype, &v.shape, v.ints().iter().map(|&v| if v == 0 { 1 } else { v }).collect());
        };
        match op {
            BinaryOp::Div | BinaryOp::Mod | BinaryOp::Fmod => never_zero(&mut vb),
            BinaryOp::Pow => never_zero(&mut va),
            _ => {}
        }
        let (a, b) = (c.input(va, None), c.operand(r.once_in(3), vb, None));
        let y = c.node(Op::Binary(op), &[a, b], Like::int(if compares(op) { DType::Bool } else { dtype }, &shape));
        c.output(y);
        c.check(ELEMENTS, TIE);
    }

    /// Any mix of quantised and float operands and results.
    #[test]
    fn binary_functions_of_quantised(seed: u64, which in 0..=BinaryOp::PRelu as usize, direct: bool) {
        let mut r = Random::new(seed);
        let op = BinaryOp::ALL[which];
        let mut c = Case::new();
        let shape = r.shape(1..=5, 5);
        let (a, b) = pair(&mut r, &shape);
        let a = real(&mut r, &mut c, &a, op, direct);
        let b = real(&mut r, &mut c, &b, op, direct);
        let y = quantized_result(&mut r, &mut c, Op::Binary(op), &[a, b], &shape, direct);
        c.output(y);
        c.check(ELEMENTS, TIE);
    }

    /// Rows of many pixels: chunks of several short runs, of parts of long ones, with operands that all or none of them share.
    #[test]
    fn binary_functions_of_pixels(seed: u64, which in 0..=BinaryOp::PRelu as usize, direct: bool, long: bool) {
        let mut r = Random::new(seed);
        let op = BinaryOp::ALL[which];
        let mut c = Case::new();
        let channels = if long { r.between(65, 300) } else { r.between(1, 64) };
        let shape = [1, r.between(1, 3), r.between(1, if long { 4 } else { 90 }), channels];
        let (a, b) = pair(&mut r, &shape);
        let a = real(&mut r, &mut c, &a, op, direct);
        let b = real(&mut r, &mut c, &b, op, direct);
        let y = quantized_result(&mut r, &mut c, Op::Binary(op), &[a, b], &shape, direct);
        c.output(y);
        c.check(ELEMENTS, TIE);
    }

    #[test]
    fn scales_and_shifts_of_pixels(seed: u64, direct: bool, long: bool) {
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let channels = if long { r.between(65, 300) } else { r.between(1, 64) };
        let shape = [1, r.between(1, 3), r.between(1, if long { 4 } else { 90 }), channels];
        let x = real(&mut r, &mut c, &shape, BinaryOp::Mul, direct);
        let (b, d) = (r.broadcasting_to(&shape), r.broadcasting_to(&shape));
        let (b, d) = (c.constant(r.array(DType::F32, &b), None), c.constant(r.array(DType::F32, &d), None));
        let y = quantized_result(&mut r, &mut c, Op::ScaleShift, &[x, b, d], &shape, direct);
        c.output(y);
        c.check(ELEMENTS, TIE);
    }

    /// Comparisons of quantised operands of one scale, so that equal means equal.
    #[test]
    fn comparisons_of_quantised(seed: u64) {
        let mut r = Random::new(seed);
        let comparisons: Vec<BinaryOp> = BinaryOp::ALL.iter().copied().filter(|op| op.gives_truth()).collect();
        let mut c = Case::new();
        let shape = r.shape(1..=4, 6);
        let (a, b) = pair(&mut r, &shape);
        let dtype = r.pick(&BYTES);
        let q = r.quant(dtype, 0.01);
        let (a, b) = (c.input(r.array(dtype, &a), Some(q.clone())), c.input(r.array(dtype, &b), Some(q)));
        let y = c.node(Op::Binary(r.pick(&comparisons)), &[a, b], Like::int(DType::Bool, &shape));
        c.output(y);
        c.check(ELEMENTS, TIE);
    }

    #[test]
    fn selections(seed: u64, kind in 0..10usize, direct: bool) {
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let shape = r.shape(1..=5, 5);
        let parts: Vec<Vec<usize>> = (0..3).map(|k| if k == r.below(3) { shape.clone() } else { r.broadcasting_to(&shape) }).collect();
        let whole = parts.iter().fold(vec![], |s, p| kinglet_compiler::array::broadcast(&s, p).expect("fits"));
        let condition = c.input(r.array(DType::Bool, &parts[0]), None);
        let y = if kind < INTEGERS.len() {
            let (vb, vc) = (r.wide(INTEGERS[kind], &parts[1]), r.wide(INTEGERS[kind], &parts[2]));
            let (b, d) = (c.input(vb, None), c.operand(r.once_in(3), vc, None));
            c.node(Op::Where, &[condition, b, d], Like::int(INTEGERS[kind], &whole))
        } else {
            let b = real(&mut r, &mut c, &parts[1], BinaryOp::Add, direct);
            let d = real(&mut r, &mut c, &parts[2], BinaryOp::Add, direct);
            quantized_result(&mut r, &mut c, Op::Where, &[condition, b, d], &whole, direct)
        };
        c.output(y);
        c.check(ELEMENTS, TIE);
    }

    #[test]
    fn scales_and_shifts(seed: u64, direct: bool) {
        let mut r = Random::new(seed);
        let mut c = Case::new();
        let shape = r.shape(1..=5, 6);
        let x = real(&mut r, &mut c, &shape, BinaryOp::Mul, direct);
        let (b, d) = (r.broadcasting_to(&shape), r.broadcasting_to(&shape));
        let (b, d) = (c.constant(r.array(DType::F32, &b), None), c.constant(r.array(DType::F32, &d), None));
        let y = quantized_result(&mut r, &mut c, Op::ScaleShift, &[x, b, d], &shape, direct);
        c.output(y);
        c.check(ELEMENTS, TIE);
    }

    #[test]
    fn casts(seed: u64, from in 0..DType::PORTS.len(), step in 1..DType::PORTS.len()) {
        let (from, to) = (DType::PORTS[from], DType::PORTS[(from + step) % DType::PORTS.len()]);
        let mut r = Random::new(seed);
        let shape = r.shape(0..=4, 9);
        let mut x = r.wide(from, &shape);
        if from == DType::F32 {
            // Beyond the range of every type, and NaN; ONNX leaves these open, we saturate.
            let mut v: Vec<f64> = x.reals().iter().map(|v| v * r.pick(&[1.0, 100.0, 300.0, 70000.0, 1e30])).collect();
            v[0] = r.pick(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.5]);
            x = Array::f32(&shape, v.iter().map(|&v| f64::from(v as f32)).collect());
        }
        let mut c = Case::new();
        let x = c.input(x, None);
        let y = c.node(Op::Cast(to), &[x], Like::int(to, &shape));
        c.output(y);
        c.check(ELEMENTS, TIE);
    }

    /// Conversions between reals and quantised integers, and from one quantisation to another.
    #[test]
    fn conversions(seed: u64, per_axis: bool, from in 0..3) {
        let mut r = Random::new(seed);
        let shape = r.shape(1..=4, 9);
        let to = r.pick(&QUANTIZED);
        let mut c = Case::new();
        let v = match from {
            0 => c.input(r.array(DType::F32, &shape), None),
            _ => {
                let dtype = r.pick(&[DType::I8, DType::U8, DType::I16, DType::U16, DType::I32]);
                let q = axis_quant(&mut r, dtype, &shape, per_axis && from == 1);
                let x = c.input(r.wide(dtype, &shape), Some(q));
                c.dequantize(x)
            }
        };
        let y = if from == 1 {
            v
        } else {
            let q = axis_quant(&mut r, to, &shape, per_axis);
            c.quantize(v, to, q)
        };
        c.output(y);
        c.check(ELEMENTS, TIE);
    }
}

/// Two shapes that broadcast to exactly `shape`.
fn pair(r: &mut Random, shape: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let first = if r.once_in(3) { shape.to_vec() } else { r.broadcasting_to(shape) };
    let lead = shape.len() - first.len();
    // What the first lacks, the second has.
    let second: Vec<usize> = (0..shape.len())
        .map(|d| if d >= lead && first[d - lead] == shape[d] && r.once_in(3) { 1 } else { shape[d] })
        .collect();
    if r.once_in(2) { (first, second) } else { (second, first) }
}

fn compares(op: BinaryOp) -> bool {
    op.gives_truth()
}

/// A real operand: float, or quantised of any type, perhaps constant.
fn real(r: &mut Random, c: &mut Case, shape: &[usize], op: BinaryOp, direct: bool) -> TensorId {
    let constant = r.once_in(5);
    if r.once_in(3) {
        let v = r.array(DType::F32, shape);
        return c.operand(constant, v, None);
    }
    let dtype = r.pick(&QUANTIZED);
    let mut q = r.quant(dtype, if dtype.size() == 1 { 0.01 } else { 1e-4 });
    if op == BinaryOp::Pow {
        // Whether an exponent is whole must not hang on a rounding.
        q.scales[0] = if dtype.size() == 1 { 1.0 / 64.0 } else { 1.0 / 8192.0 };
    }
    let v = r.wide(dtype, shape);
    let x = c.operand(constant, v, Some(q));
    if direct { x } else { c.dequantize(x) }
}

/// A node with a float result or one of a quantised type.
fn quantized_result(
    r: &mut Random,
    c: &mut Case,
    op: Op,
    inputs: &[TensorId],
    shape: &[usize],
    direct: bool,
) -> TensorId {
    if r.once_in(3) {
        return c.node(op, inputs, Like::f32(shape));
    }
    let dtype = r.pick(&QUANTIZED);
    let q = r.quant(dtype, if dtype.size() == 1 { 0.02 } else { 2e-4 });
    if direct {
        return c.node(op, inputs, Like::quantized(dtype, shape, q));
    }
    let v = c.node(op, inputs, Like::f32(shape));
    c.quantize(v, dtype, q)
}

/// One quantisation, or one for each position of an axis.
fn axis_quant(r: &mut Random, dtype: DType, shape: &[usize], per_axis: bool) -> Quant {
    let unit = match dtype.size() {
        1 => 0.004,
        2 => 2e-5,
        _ => 1e-9,
    };
    let zero = |r: &mut Random| if dtype == DType::I32 { 0 } else { r.zero_point(dtype) };
    let axis = r.below(shape.len());
    let n = if per_axis { shape[axis] } else { 1 };
    Quant { scales: (0..n).map(|_| r.scale(unit)).collect(), zero_points: (0..n).map(|_| zero(r)).collect(), axis }
}
