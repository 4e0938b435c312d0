//! Malformed ONNX files made by hand.

pub mod broad;
pub mod control;
pub mod sequences;

use std::collections::HashSet;

use kinglet_compiler::import;
use kinglet_onnx::{DataType, ModelProto, NodeProto};
use kinglet_tests::hostile::Counting;
use kinglet_tests::hostile::model::{check, options};
use kinglet_tests::small_onnx::{Builder, Value, floats, ints};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Checks models that are each wrong in their own way.
pub fn check_all(models: &[(String, ModelProto)]) {
    let mut found = Vec::new();
    for (name, model) in models {
        if let Err(e) = check(model) {
            found.push(format!("{name}: {e}"));
        }
    }
    assert!(found.is_empty(), "{} cases:\n{}", found.len(), found.join("\n"));
}

/// The names that a node and the nodes in its subgraphs read.
fn reads(node: &NodeProto) -> Vec<&String> {
    let inner = node.attribute.iter().filter_map(|a| a.g.as_ref()).flat_map(|g| &g.node).flat_map(reads);
    node.input.iter().chain(inner).collect()
}

/// Checks models of which most must end in a certain way.
pub fn check_expected(models: &[control::Expected]) {
    let mut found = Vec::new();
    for (name, model, expected) in models {
        match check(model) {
            Ok(outcome) if expected.is_none_or(|e| e == outcome) => {}
            Ok(outcome) => found.push(format!("{name}: {outcome:?}, not {expected:?}")),
            Err(e) => found.push(format!("{name}: {e}")),
        }
    }
    assert!(found.is_empty(), "{} of {} cases:\n{}", found.len(), models.len(), found.join("\n"));
}

/// A model of one node of another: what the node reads that is computed becomes an input, if it has a shape.
pub fn alone(model: &ModelProto, node: &NodeProto) -> ModelProto {
    let graph = model.graph.as_ref().expect("a graph");
    let imported = import(&model.to_bytes(), None, &options()).expect("the small models are valid");
    let mut b = Builder::default();
    let mut done = HashSet::new();
    for name in reads(node).into_iter().filter(|n| !n.is_empty()) {
        if !done.insert(name) {
            continue;
        }
        if let Some(t) = graph.initializer.iter().find(|t| t.name == *name) {
            b.constant(t.clone());
            continue;
        }
        let Some(t) = imported.tensors.iter().find(|t| t.name == *name) else { continue };
        let dims: Vec<i64> = t.shape.iter().map(|&d| d as i64).collect();
        let data_type = match t.dtype {
            kinglet::DType::F32 => DataType::Float,
            kinglet::DType::I8 => DataType::Int8,
            kinglet::DType::U8 => DataType::Uint8,
            kinglet::DType::Bool => DataType::Bool,
            kinglet::DType::I32 => DataType::Int32,
            _ => DataType::Int64,
        };
        match &t.value {
            Some(v) if t.dtype != kinglet::DType::F32 => nothing(b.constant(ints(name, data_type, &dims, &v.ints()))),
            Some(_) => nothing(b.constant(floats(name, &dims))),
            None => nothing(b.input(name, data_type, &dims)),
        }
    }
    b.push(node.clone()).outputs(&node.output.join(" ")).build()
}

fn nothing(_: &mut Builder) {}

/// Files of a few hundred bytes that ask for very much.
pub fn bombs() -> Vec<(String, ModelProto)> {
    let i64s = |name: &str, v: &[i64]| ints(name, DataType::Int64, &[v.len() as i64], v);
    let mut out = Vec::new();
    let huge = [1i64 << 12, 1 << 13];
    for shape in [
        &huge[..],
        &[1 << 26],
        &[1 << 40],
        &[i64::MAX],
        &[i64::MAX, i64::MAX],
        &[-1],
        &[1 << 31, 0],
        &[1 << 15, 1 << 15, 2],
    ] {
        let mut add = |name: &str, f: &dyn Fn(&mut Builder)| {
            let mut b = Builder::default();
            b.constant(i64s("s", shape)).constant(floats("one", &[1])).constant(floats("m", &[1, 1]));
            b.input("x", DataType::Float, &[1, 1]);
            f(&mut b);
            out.push((format!("{name} {shape:?}"), b.outputs("y").build()));
        };
        add("ConstantOfShape", &|b| nothing(b.node("ConstantOfShape", "s", "y", &[])));
        add("several ConstantOfShape", &|b| {
            for k in 0..12 {
                b.node("ConstantOfShape", "s", &format!("c{k}"), &[]);
            }
            b.node("Sum", "c0 c1 c2 c3 c4 c5 c6 c7 c8 c9 c10 c11", "y", &[]);
        });
        add("Expand of a constant", &|b| nothing(b.node("Expand", "one s", "e", &[]).node("Relu", "e", "y", &[])));
        add("Expand of an input", &|b| nothing(b.node("Expand", "x s", "y", &[])));
        add("Expand of a dequantised constant", &|b| {
            b.constant(ints("q", DataType::Int8, &[1], &[3])).constant(floats("qs", &[]));
            b.node("Abs", "qs", "qa", &[]).node("DequantizeLinear", "q qa", "d", &[]);
            (0..9).for_each(|k| nothing(b.node("Expand", "d s", &format!("e{k}"), &[])));
            b.node("Sum", "e0 e1 e2 e3 e4 e5 e6 e7 e8", "y", &[]);
        });
        add("Tile", &|b| nothing(b.node("Tile", "m s", "y", &[])));
        add("Range", &|b| {
            b.constant(ints("zero", DataType::Int64, &[], &[0])).constant(ints("step", DataType::Int64, &[], &[1]));
            b.constant(ints("limit", DataType::Int64, &[], &shape[..1])).node("Range", "zero limit step", "y", &[]);
        });
        add("Pad", &|b| {
            let pads: Vec<i64> = [shape[0], 0, 0, shape[shape.len() - 1]].to_vec();
            b.constant(i64s("p", &pads)).node("Pad", "m p", "y", &[]);
        });
        add("Reshape", &|b| nothing(b.node("Reshape", "x s", "y", &[])));
        add("product of constants", &|b| {
            b.node("Expand", "m s", "e", &[]).node("Transpose", "e", "t", &[]).node("MatMul", "e t", "y", &[]);
        });
        add("DFT", &|b| {
            b.node("Expand", "x s", "e", &[]).constant(i64s("f", &[1, -1, 1])).node("Reshape", "e f", "r", &[]);
            b.constant(ints("len", DataType::Int64, &[], &[1 << 16])).node(
                "DFT",
                "r len",
                "y",
                &[("axis", Value::I(1))],
            );
        });
        add("windows", &|b| {
            b.constant(i64s("four", &[1, 1, 1, -1])).node("Expand", "m s", "e", &[]).node(
                "Reshape",
                "e four",
                "r",
                &[],
            );
            let k = [("kernel_shape", Value::Is(&[1 << 14, 1 << 14])), ("pads", Value::Is(&[1 << 14; 4]))];
            b.node("AveragePool", "r", "y", &k);
        });
    }
    let mut window = |name: &str, op: &str, attributes: &[(&str, Value<'_>)]| {
        let mut b = Builder::default();
        b.input("x", DataType::Float, &[1, 2, 3, 3]).constant(floats("w", &[2, 2, 2, 2]));
        b.node(op, if op.contains("Pool") { "x" } else { "x w" }, "y", attributes);
        out.push((format!("{op} with {name}"), b.outputs("y").build()));
    };
    for op in ["Conv", "ConvTranspose", "MaxPool", "AveragePool"] {
        for v in [-1, 0, 1 << 13, 1 << 14, (1 << 20) - 1, 1 << 31, i64::MAX, i64::MIN] {
            for key in ["strides", "dilations", "kernel_shape", "output_padding", "output_shape"] {
                window(&format!("{key} {v}"), op, &[(key, Value::Is(&[v, v]))]);
                window(
                    &format!("{key} {v}, 1"),
                    op,
                    &[(key, Value::Is(&[v, 1])), ("auto_pad", Value::S("SAME_UPPER"))],
                );
            }
            window(&format!("pads {v}"), op, &[("pads", Value::Is(&[v; 4]))]);
            window(&format!("uneven pads {v}"), op, &[("pads", Value::Is(&[0, v, 1, v]))]);
            window(&format!("group {v}"), op, &[("group", Value::I(v))]);
        }
    }
    out.extend(contradictions());
    out.push(("a long chain".into(), chain(1500)));
    out.push(("a diamond chain whose end is a shape".into(), diamonds(200)));
    out
}

/// Nodes that contradict themselves, each in a way that once went wrong or could.
fn contradictions() -> Vec<(String, ModelProto)> {
    let mut out = Vec::new();
    let mut add = |name: &str, f: &dyn Fn(&mut Builder)| {
        let mut b = Builder::default();
        b.input("x", DataType::Float, &[2, 3]).input("q", DataType::Int8, &[1, 2, 3, 3]).constant(floats("s", &[1]));
        f(&mut b);
        out.push((name.to_string(), b.outputs("y").build()));
    };
    let list = |name: &str, v: &[i64]| ints(name, DataType::Int64, &[v.len() as i64], v);
    for (a, z) in [(i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (-1, i64::MIN), (0, i64::MAX)] {
        for step in [i64::MIN, i64::MAX, -1, 1] {
            add(&format!("Slice {a} to {z} by {step}"), &|b| {
                b.constant(list("a", &[a])).constant(list("z", &[z])).constant(list("d", &[1]));
                nothing(b.constant(list("t", &[step])).node("Slice", "x a z d t", "y", &[]));
            });
        }
        add(&format!("Split into {a} and {z}"), &|b| {
            nothing(b.constant(list("p", &[a.max(1), z.max(1)])).node("Split", "x p", "y u", &[("axis", Value::I(1))]));
        });
        add(&format!("Pad by {a} and {z}"), &|b| {
            nothing(b.constant(list("p", &[a, 0, 0, z])).node("Pad", "x p", "y", &[]));
        });
    }
    for mode in ["reflect", "edge", "wrap"] {
        add(&format!("Pad of nothing, {mode}"), &|b| {
            b.constant(floats("e", &[0, 2])).constant(list("p", &[1, 0, 1, 0]));
            nothing(b.node("Pad", "e p", "y", &[("mode", Value::S(mode))]));
        });
    }
    for op in ["ArgMax", "ReduceMax", "ReduceMean", "Softmax", "CumSum", "Relu", "MatMul"] {
        add(&format!("{op} of nothing"), &|b| {
            b.constant(floats("e", &[2, 0])).constant(list("ax", &[1]));
            let inputs = if op == "CumSum" || op.starts_with("Reduce") { "e ax" } else { "e e" };
            nothing(b.node(op, inputs, "y", &[("axis", Value::I(1))]));
        });
    }
    add("Gather of nothing by a computed index", &|b| {
        b.constant(floats("e", &[2, 0])).input("i", DataType::Int64, &[3]);
        nothing(b.node("Gather", "e i", "y", &[("axis", Value::I(1))]));
    });
    for equation in ["ij->ii", "ij->ijk", "ij->", "->", "ij,ij->ij", "ij->ji", "i->i", ",->"] {
        add(&format!("Einsum {equation}"), &|b| {
            nothing(b.node("Einsum", "x", "y", &[("equation", Value::S(equation))]));
        });
    }
    for (type_, zero) in
        [(DataType::Int8, 128), (DataType::Int8, -129), (DataType::Int32, 1000), (DataType::Uint8, 200)]
    {
        add(&format!("a zero point of {zero} in {type_:?}"), &|b| {
            b.constant(kinglet_onnx::TensorProto { float_data: vec![0.5], ..floats("p", &[]) });
            nothing(b.constant(ints("z", type_, &[], &[zero])).node("DequantizeLinear", "q p z", "y", &[]));
        });
    }
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-40] {
        add(&format!("a scale of {scale}"), &|b| {
            b.constant(kinglet_onnx::TensorProto { float_data: vec![scale], ..floats("p", &[]) });
            b.constant(ints("z", DataType::Int8, &[], &[0])).constant(ints(
                "w",
                DataType::Int8,
                &[1, 2, 1, 1],
                &[1, 2],
            ));
            b.constant(ints("bias", DataType::Int32, &[1], &[5]));
            nothing(b.node("QLinearConv", "q p z w p z p z bias", "y", &[]));
        });
    }
    add("scales of each channel of an input", &|b| {
        b.constant(floats("p", &[2])).node("Exp", "p", "pe", &[]).constant(ints("z", DataType::Int8, &[2], &[0, 1]));
        b.constant(ints("w", DataType::Int8, &[1, 2, 1, 1], &[1, 2]));
        nothing(b.node("QLinearConv", "q pe z w pe z pe z", "y", &[]));
    });
    for epsilon in [-1.0, f32::NAN] {
        add(&format!("an epsilon of {epsilon}"), &|b| {
            nothing(b.node("LayerNormalization", "x", "y", &[("epsilon", Value::F(epsilon))]));
        });
        add(&format!("an alpha of {epsilon}"), &|b| nothing(b.node("Elu", "x", "y", &[("alpha", Value::F(epsilon))])));
    }
    out
}

/// Nodes one after the other, whose end decides a shape.
fn chain(n: usize) -> ModelProto {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[4]).constant(ints("q", DataType::Int8, &[1], &[4]));
    b.constant(kinglet_onnx::TensorProto { float_data: vec![1.0], ..floats("s", &[]) });
    b.node("DequantizeLinear", "q s", "t0", &[]);
    (0..n).for_each(|i| nothing(b.node("Relu", &format!("t{i}"), &format!("t{}", i + 1), &[])));
    b.node("Cast", &format!("t{n}"), "to", &[("to", Value::I(7))]).node("Reshape", "x to", "y", &[]);
    (0..n).for_each(|i| {
        nothing(b.node("Tanh", if i == 0 { "y".into() } else { format!("u{i}") }.as_str(), &format!("u{}", i + 1), &[]))
    });
    b.outputs(&format!("u{n}")).build()
}

/// As a chain, but each node reads the one before it twice.
fn diamonds(n: usize) -> ModelProto {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[4]).constant(ints("q", DataType::Int8, &[1], &[4]));
    b.constant(kinglet_onnx::TensorProto { float_data: vec![1.0], ..floats("s", &[]) });
    b.node("DequantizeLinear", "q s", "a0", &[]);
    for i in 0..n {
        b.node("Add", &format!("a{i} a{i}"), &format!("b{i}"), &[]);
        b.node("Sub", &format!("b{i} a{i}"), &format!("a{}", i + 1), &[]);
    }
    b.node("Cast", &format!("a{n}"), "to", &[("to", Value::I(7))]).node("Reshape", "x to", "y", &[]);
    b.outputs("y").build()
}
