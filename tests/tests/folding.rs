//! What is folded has the bits of what is computed, and costs no more than its budget.
//!
//! `golden` holds folding to ONNX Runtime; here every operator is compiled twice, with its operands as constants and as
//! inputs of the model.

use std::collections::BTreeMap;

use kinglet_compiler::array::Array;
use kinglet_compiler::{Compiled, Error, Options, compile, import};
use kinglet_onnx::{DataType, ModelProto, TensorProto};
use kinglet_tests::small_onnx::{Builder, Value, floats, ints, reals};
use kinglet_tests::{Random, run};

fn compiled(model: &ModelProto) -> Result<Compiled, Error> {
    let options = Options::default();
    compile(import(&model.to_bytes(), None, &options)?, &options)
}

/// A tensor of the array's values.
fn constant(name: &str, a: &Array) -> TensorProto {
    let dims: Vec<i64> = a.shape.iter().map(|&d| d as i64).collect();
    TensorProto { float_data: a.reals().iter().map(|&v| v as f32).collect(), ..floats(name, &dims) }
}

/// The bits of the only output of a model of one node, its operands `inputs` given as constants or as inputs (but for those
/// from `fixed` on, which are constants in any case).
fn bits(
    op: &str,
    attributes: &[(&str, Value<'_>)],
    inputs: &[Array],
    more: &[TensorProto],
    folded: bool,
    fixed: usize,
) -> (Vec<u8>, usize) {
    let mut b = Builder::default();
    let names: Vec<String> = (0..inputs.len()).map(|i| format!("x{i}")).collect();
    let mut given = BTreeMap::new();
    for (i, (name, a)) in names.iter().zip(inputs).enumerate() {
        if folded || i >= fixed {
            b.constant(constant(name, a));
        } else {
            let dims: Vec<i64> = a.shape.iter().map(|&d| d as i64).collect();
            b.input(name, DataType::Float, &dims);
            given.insert(name.clone(), a.clone());
        }
    }
    more.iter().for_each(|t| _ = b.constant(t.clone()));
    let all = names.iter().map(String::as_str).chain(more.iter().map(|t| t.name.as_str())).collect::<Vec<_>>();
    let model = b.node(op, &all.join(" "), "y", attributes).outputs("y").build();
    let c = compiled(&model).unwrap_or_else(|e| panic!("{op}: {e}"));
    (run(&c.kgl, &given)["y"].to_bytes().into_owned(), c.report.steps.len())
}

#[test]
fn folded_operators_have_the_bits_of_computed_ones() {
    let mut random = Random::new(3);
    let mut real = |shape: &[usize], scale: f64| {
        let a = random.array(kinglet::DType::F32, shape);
        // Thirds and sevenths: numbers with no bits to spare.
        Array::f32(shape, a.reals().iter().map(|v| v * scale / 3.0 + scale / 7.0).collect()).stored()
    };
    let (i, f) = (Value::I, Value::F);
    let axes = || vec![ints("axes", DataType::Int64, &[1], &[1])];
    let norm = |n| vec![floats("scale", &[n]), floats("bias", &[n])];
    let quantiser = || vec![reals("scale", &[0.1]), ints("zero", DataType::Int8, &[], &[3])];
    type Case<'a> = (&'a str, Vec<(&'a str, Value<'a>)>, Vec<Array>, Vec<TensorProto>, usize);
    let mut cases: Vec<Case<'_>> = Vec::new();
    for op in ["Add", "Sub", "Mul", "Div", "Min", "Max", "PRelu"] {
        cases.push((op, vec![], vec![real(&[3, 70], 5.0), real(&[70], 2.0)], vec![], 2));
    }
    for op in
        ["Exp", "Sigmoid", "Tanh", "Erf", "Sqrt", "Log", "Softplus", "Gelu", "HardSwish", "Sin", "Elu", "Reciprocal"]
    {
        cases.push((op, vec![], vec![real(&[3, 70], 4.0)], vec![], 1));
    }
    for op in ["ReduceSum", "ReduceMean", "ReduceL2", "ReduceSumSquare", "ReduceMax"] {
        cases.push((op, vec![("keepdims", i(0))], vec![real(&[3, 700, 5], 300.0)], axes(), 1));
    }
    cases.push(("Softmax", vec![("axis", i(1))], vec![real(&[3, 300], 6.0)], vec![], 1));
    cases.push(("CumSum", vec![], vec![real(&[3, 300], 6.0)], vec![ints("axis", DataType::Int64, &[], &[1])], 1));
    cases.push(("LayerNormalization", vec![("axis", i(-1))], vec![real(&[3, 300], 6.0)], norm(300), 1));
    cases.push(("InstanceNormalization", vec![("epsilon", f(1e-3))], vec![real(&[2, 3, 40], 6.0)], norm(3), 1));
    cases.push(("MatMul", vec![], vec![real(&[5, 300], 3.0), real(&[300, 7], 3.0)], vec![], 1));
    cases.push(("Conv", vec![], vec![real(&[1, 3, 9, 9], 3.0), real(&[4, 3, 3, 3], 3.0)], vec![], 1));
    let window = || vec![("kernel_shape", Value::Is(&[3, 3])), ("pads", Value::Is(&[1, 1, 1, 1]))];
    cases.push(("AveragePool", window(), vec![real(&[1, 3, 9, 9], 3.0)], vec![], 1));
    cases.push(("QuantizeLinear", vec![], vec![real(&[5, 100], 20.0)], quantiser(), 1));
    cases.push(("Cast", vec![("to", i(DataType::Int64 as i64))], vec![real(&[5, 100], 1e6)], vec![], 1));
    for (op, attributes, inputs, more, fixed) in cases {
        let (want, _) = bits(op, &attributes, &inputs, &more, false, fixed);
        let (got, steps) = bits(op, &attributes, &inputs, &more, true, fixed);
        assert!(got == want, "{op}: folded, it has other bits");
        assert_eq!(steps, 1, "{op}: only a copy to the output is left");
    }
}

#[test]
fn integers_become_floats_in_one_rounding() {
    // Halfway between two floats but for its last bit, which f64 would drop first.
    let v = (1i64 << 60) + (1 << 36) + 1;
    let chain = |b: &mut Builder| {
        b.node("Cast", "v", "f", &[("to", Value::I(DataType::Float as i64))]);
        b.node("Cast", "f", "y", &[("to", Value::I(DataType::Int64 as i64))]).outputs("y").build()
    };
    let folded = chain(Builder::default().constant(ints("v", DataType::Int64, &[1], &[v])));
    let computed = chain(Builder::default().input("v", DataType::Int64, &[1]));
    let given = BTreeMap::from([("v".to_string(), Array::i64s(&[v]))]);
    let (folded, computed) = (compiled(&folded).unwrap(), compiled(&computed).unwrap());
    let folded = run(&folded.kgl, &BTreeMap::new())["y"].ints()[0];
    assert_eq!((folded, run(&computed.kgl, &given)["y"].ints()[0]), (v as f32 as i64, v as f32 as i64));
}

/// A bound between two grids, whose quantisation goes before it: the constant there is quantised already.
#[test]
fn quantised_constants_come_onto_another_grid_as_reals() {
    let mut b = Builder::default();
    b.constant(reals("c", &[3.0, -0.5, 0.0, 20.0])).constant(reals("s", &[0.25]));
    b.constant(ints("z", DataType::Int8, &[], &[0]));
    b.node("QuantizeLinear", "c s z", "q", &[]).node("DequantizeLinear", "q s z", "d", &[]);
    b.node("Relu", "d", "r", &[]).node("QuantizeLinear", "r s z", "p", &[]).node("DequantizeLinear", "p s z", "y", &[]);
    let c = compiled(&b.outputs("y").build()).unwrap();
    assert_eq!(run(&c.kgl, &BTreeMap::new())["y"], Array::f32(&[4], vec![3.0, 0.0, 0.0, 20.0]));
}

/// A small file that describes sixty large products of constants: some are folded, then the budget is spent.
#[test]
fn what_folds_to_too_much_is_not_folded() {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[64, 64]);
    b.constant(ints("s", DataType::Int64, &[2], &[64, 1 << 14])).constant(ints(
        "t",
        DataType::Int64,
        &[2],
        &[1 << 14, 64],
    ));
    b.node("ConstantOfShape", "s", "a", &[]).node("ConstantOfShape", "t", "b", &[]);
    let mut sum = "x".to_string();
    for k in 0..60 {
        b.node("MatMul", "a b", &format!("c{k}"), &[]);
        b.node("Add", &format!("{sum} c{k}"), &format!("s{k}"), &[]);
        sum = format!("s{k}");
    }
    let model = b.outputs(&sum).build();
    let graph = import(&model.to_bytes(), None, &Options::default()).unwrap();
    let (refused, spent) = (graph.budget.refused(), graph.budget.spent());
    assert!(refused > 0 && spent > 0.5, "{refused} refusals at {spent} of the budget");
    let folded = 60 - graph.nodes.iter().filter(|n| n.op.name() == "MatMul").count();
    assert!((1..60).contains(&folded), "{folded} products are folded");
}

/// Constants that only repeat others take no room in the plan.
#[test]
fn plans_hold_what_repeats_once() {
    let size = |model: &ModelProto| compiled(model).unwrap().kgl.len();
    // A bias expanded over a picture.
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[1, 8, 40, 40]).constant(floats("c", &[1, 8, 1, 1]));
    b.constant(ints("s", DataType::Int64, &[4], &[1, 8, 40, 40]));
    let expanded = b.node("Expand", "c s", "k", &[]).node("Add", "x k", "y", &[]).outputs("y").build();
    assert!(size(&expanded) < 2500, "{}", size(&expanded));
    // A table of bytes, with one scale and with one a row or column.
    for scales in [1usize, 500, 64] {
        let mut b = Builder::default();
        let table: Vec<i64> = (0..500 * 64).map(|i| i * 7 % 255 - 127).collect();
        b.input("i", DataType::Int64, &[1, 2]).constant(ints("w", DataType::Int8, &[500, 64], &table));
        let s: Vec<f32> = (1..=scales).map(|k| k as f32 / 1000.0).collect();
        b.constant(reals("s", &s));
        let axis = [("axis", Value::I(i64::from(scales == 64)))];
        let axis = if scales == 1 { &[][..] } else { &axis[..] };
        let model = b.node("DequantizeLinear", "w s", "wd", axis).node("Gather", "wd i", "y", &[]).outputs("y").build();
        assert!(size(&model) < 32_000 + 12 * scales + 3000, "{scales} scales: {}", size(&model));
        let given = BTreeMap::from([("i".to_string(), Array::int(kinglet::DType::I64, &[1, 2], vec![3, 499]))]);
        let got = run(&compiled(&model).unwrap().kgl, &given)["y"].reals().into_owned();
        for (at, got) in got.iter().enumerate() {
            let (row, column) = ([3, 499][at / 64], at % 64);
            let scale = s[match scales {
                1 => 0,
                500 => row,
                _ => column,
            }];
            assert_eq!(*got as f32, table[row * 64 + column] as f32 * scale, "{scales} scales, element {at}");
        }
    }
    // An embedding tied to the head.
    for tied in [&[][..], &[("transB", Value::I(1))]] {
        let mut b = Builder::default();
        b.input("i", DataType::Int64, &[2]).constant(floats("e", &[120, 64])).node("Gather", "e i", "g", &[]);
        if tied.is_empty() {
            b.node("Transpose", "e", "t", &[("perm", Value::Is(&[1, 0]))]).node("MatMul", "g t", "y", &[]);
        } else {
            b.node("Gemm", "g e", "y", tied);
        }
        let model = b.outputs("y").build();
        assert!(size(&model) < 30_720 + 3000, "{}", size(&model));
    }
    // A norm of channels that come first.
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[1, 64, 128, 128]).constant(floats("s", &[64])).constant(floats("b", &[64]));
    let model = b.node("InstanceNormalization", "x s b", "y", &[]).outputs("y").build();
    assert!(size(&model) < 3000, "{}", size(&model));
}

/// Files of which the weights alone are quantised: products of floats read bytes, to the same numbers.
#[test]
fn weights_of_bytes_stay_bytes_for_float_products() {
    let mut random = Random::new(11);
    // Operator, shape of the input, shape of the weights, axis of output channels, groups.
    type Case = (&'static str, &'static [i64], &'static [i64], usize, i64);
    let cases: [Case; 6] = [
        ("Conv", &[1, 16, 9, 9], &[24, 16, 3, 3], 0, 1),
        ("Conv", &[1, 16, 9, 9], &[32, 8, 3, 3], 0, 2),
        ("Conv", &[1, 40, 9, 9], &[40, 1, 5, 5], 0, 40),
        ("ConvTranspose", &[1, 16, 5, 5], &[16, 24, 3, 3], 1, 1),
        ("MatMul", &[3, 70], &[70, 90], 1, 1),
        ("MatMul", &[2, 3, 70], &[70, 91], 1, 1),
    ];
    for (op, x, w, axis, groups) in cases {
        for (unsigned, along) in [(false, false), (false, true), (true, true)] {
            let n: i64 = w.iter().product();
            let channels = w[axis] as usize;
            // An unsigned weight within 127 of its zero point is a byte less this point.
            let values: Vec<i64> =
                (0..n).map(|_| random.below(250) as i64 - 125 + if unsigned { 128 } else { 0 }).collect();
            let scales: Vec<f32> = (0..if along { channels } else { 1 }).map(|k| 0.003 + k as f32 / 9000.0).collect();
            let dtype = if unsigned { DataType::Uint8 } else { DataType::Int8 };
            let zeros = vec![if unsigned { 128 } else { 0 }; scales.len()];
            let zero_dims: Vec<i64> = if along { vec![channels as i64] } else { vec![] };
            let model = |bytes: bool| {
                let mut b = Builder::default();
                b.input("x", DataType::Float, x);
                if bytes {
                    b.constant(ints("w", dtype, w, &values)).constant(reals("s", &scales));
                    b.constant(ints("z", dtype, &zero_dims, &zeros));
                    b.node("DequantizeLinear", "w s z", "wd", &[("axis", Value::I(axis as i64))]);
                } else {
                    let run: i64 = w[axis + 1..].iter().product();
                    let real = |(i, &v): (usize, &i64)| {
                        let scale = scales[i / run as usize % channels % scales.len()];
                        (v - zeros[0]) as f32 * scale
                    };
                    b.constant(TensorProto {
                        float_data: values.iter().enumerate().map(real).collect(),
                        ..floats("wd", w)
                    });
                }
                let attributes = [("group", Value::I(groups))];
                b.node(op, "x wd", "p", if op == "MatMul" { &[] } else { &attributes });
                b.node("Relu", "p", "y", &[]).outputs("y").build()
            };
            let (model, dequantized) = (model(true), model(false));
            let graph = import(&model.to_bytes(), None, &Options::default()).unwrap();
            let shape: Vec<usize> = x.iter().map(|&d| d as usize).collect();
            let input = random.array(kinglet::DType::F32, &shape);
            let want = kinglet_compiler::eval::run(&graph, std::slice::from_ref(&input)).unwrap().remove(0);
            let c = compiled(&model).unwrap();
            let given = BTreeMap::from([("x".to_string(), input)]);
            let got = &run(&c.kgl, &given)["y"];
            let same = &run(&compiled(&dequantized).unwrap().kgl, &given)["y"];
            assert!(got.to_bytes() == same.to_bytes(), "{op} {w:?}: other bits than with dequantised weights");
            let (worst, magnitude) = kinglet_tests::difference(got, &want);
            assert!(worst <= 1e-6 * magnitude, "{op} {w:?}: {worst} of {magnitude}");
            let room = c.report.weights_bytes as i64 - 12 * channels as i64 - 1200;
            // Channels are packed by eight.
            assert!(
                room <= n / w[axis] * (w[axis] + 7),
                "{op} {w:?}: {} bytes for {n} weights",
                c.report.weights_bytes
            );
        }
    }
}

/// Sums of scaled weights are finite where sums of their integers would not be.
#[test]
fn float_products_with_bytes_overflow_no_sooner_than_others() {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[1, 4]).constant(ints("w", DataType::Int8, &[4, 3], &[120; 12]));
    b.constant(reals("s", &[0.001])).node("DequantizeLinear", "w s", "wd", &[]).node("MatMul", "x wd", "y", &[]);
    let c = compiled(&b.outputs("y").build()).unwrap();
    let x = Array::f32(&[1, 4], vec![f64::from(f32::MIN), 3e37, 0.0, 1.0]);
    let y = run(&c.kgl, &BTreeMap::from([("x".to_string(), x)]))["y"].reals().into_owned();
    assert!(y.iter().all(|y| (-3.8e37..-3.7e37).contains(y)), "{y:?}");
}

/// A recurrence written out reads one matrix in every frame: it is packed once, and costs the budget once.
#[test]
fn weights_shared_by_many_products_are_packed_once() {
    let mut b = Builder::default();
    b.input("h", DataType::Float, &[1, 512]).constant(floats("w", &[512, 512]));
    let mut h = "h".to_string();
    for t in 0..1000 {
        b.node("MatMul", &format!("{h} w"), &format!("p{t}"), &[]).node(
            "Tanh",
            &format!("p{t}"),
            &format!("h{t}"),
            &[],
        );
        h = format!("h{t}");
    }
    let c = compiled(&b.outputs(&h).build()).unwrap();
    assert!(c.report.budget_spent < 0.05 && c.report.weights_bytes < 1_100_000, "{:?}", c.report.budget_spent);
}

/// A head that is tied to its embedding and has a scale for each row is no product of two computed tensors.
#[test]
fn a_tied_head_with_scales_by_row_is_packed() {
    let mut b = Builder::default();
    let table: Vec<i64> = (0..16 * 8).map(|i| i * 37 % 255 - 127).collect();
    let scales: Vec<f32> = (0..16).map(|k| 0.004 + k as f32 / 7000.0).collect();
    b.input("i", DataType::Int64, &[2]).constant(ints("w", DataType::Int8, &[16, 8], &table));
    b.constant(reals("s", &scales)).constant(reals("sx", &[0.0113])).constant(ints("z", DataType::Int8, &[], &[5]));
    b.node("DequantizeLinear", "w s", "wd", &[("axis", Value::I(0))]).node("Gather", "wd i", "g", &[]);
    b.node("QuantizeLinear", "g sx z", "q", &[]).node("DequantizeLinear", "q sx z", "x", &[]);
    b.node("Gemm", "x wd", "p", &[("transB", Value::I(1))]).node("QuantizeLinear", "p sx z", "y", &[]);
    let model = b.outputs("y").build();
    let graph = import(&model.to_bytes(), None, &Options::default()).unwrap();
    let index = Array::i64s(&[3, 12]);
    let want = kinglet_compiler::eval::run(&graph, std::slice::from_ref(&index)).unwrap().remove(0);
    let got = &run(&compiled(&model).unwrap().kgl, &BTreeMap::from([("i".to_string(), index)]))["y"];
    // Nothing lies next to a tie.
    assert_eq!(*got, want);
}
