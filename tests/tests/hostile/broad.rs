//! What the operators that become many nodes, or constants that the file does not hold, must not be led to; and operands of any
//! shape and type.

use kinglet_onnx::{DataType, ModelProto, NodeProto};
use kinglet_tests::small_onnx::{Builder, Value, floats, ints};

/// Shapes that operands get in the place of their own.
const SHAPES: [&[i64]; 9] =
    [&[], &[0], &[1], &[3], &[0, 3], &[2, 3], &[1, 2, 0, 3], &[1, 1, 1, 1], &[1, 2, 1, 2, 1, 2]];

/// Models of one node, cut out as by [`super::alone`], of which one operand has another shape or type.
pub fn other_operands(alone: &ModelProto, node: &NodeProto) -> Vec<(String, ModelProto)> {
    let mut out = Vec::new();
    for (i, name) in node.input.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        for shape in SHAPES {
            for kind in [DataType::Float, DataType::Int64, DataType::Uint8] {
                let mut model = alone.clone();
                let graph = model.graph.as_mut().expect("a graph");
                graph.input.retain(|t| t.name != *name);
                graph.initializer.retain(|t| t.name != *name);
                let mut b = Builder::default();
                b.input(name, kind, shape);
                graph.input.extend(b.build().graph.expect("a graph").input);
                out.push((format!("input {i} of {kind:?} {shape:?}"), model));
            }
        }
    }
    out
}

/// Small files that ask for very much of these operators.
pub fn bombs() -> Vec<(String, ModelProto)> {
    let mut out = windows();
    let mut add = |name: &str, f: &dyn Fn(&mut Builder)| {
        let mut b = Builder::default();
        b.input("x", DataType::Float, &[1, 2, 3, 3]).input("k", DataType::Uint8, &[3]).input(
            "n",
            DataType::Int64,
            &[3],
        );
        f(&mut b);
        out.push((name.to_string(), b.outputs("y").build()));
    };
    let list = |name: &str, v: &[i64]| ints(name, DataType::Int64, &[v.len() as i64], v);
    for v in [1 << 12, 1 << 20, 1 << 31, i64::MAX, -1, 0] {
        add(&format!("CenterCropPad to {v}"), &|b| {
            b.constant(list("to", &[v, v]));
            b.node("CenterCropPad", "x to", "y", &[("axes", Value::Is(&[2, 3]))]);
        });
        add(&format!("Col2Im of an image of {v}"), &|b| {
            b.constant(list("image", &[v, v])).constant(list("block", &[1, 1])).input("c", DataType::Float, &[1, 2, 9]);
            b.node("Col2Im", "c image block", "y", &[("strides", Value::Is(&[v / 3 + 1, v / 3 + 1]))]);
        });
        add(&format!("Col2Im of blocks of {v}"), &|b| {
            b.constant(list("image", &[3, 3])).constant(list("block", &[1, v])).input("c", DataType::Float, &[1, v, 9]);
            b.node("Col2Im", "c image block", "y", &[("pads", Value::Is(&[0, v, 0, v]))]);
        });
        add(&format!("SpaceToDepth by {v}"), &|b| {
            b.node("SpaceToDepth", "x", "y", &[("blocksize", Value::I(v))]);
        });
        add(&format!("LRN of {v}"), &|b| {
            b.node("LRN", "x", "y", &[("size", Value::I(v))]);
        });
        add(&format!("GroupNormalization of {v}"), &|b| {
            b.constant(floats("s", &[2]));
            b.node("GroupNormalization", "x s s", "y", &[("num_groups", Value::I(v))]);
        });
        add(&format!("GlobalLpPool of {v}"), &|b| {
            b.node("GlobalLpPool", "x", "y", &[("p", Value::I(v))]);
        });
        add(&format!("blocks of {v}"), &|b| {
            b.constant(floats("s", &[1, 2, 1, 3]));
            b.node("QuantizeLinear", "x s", "y", &[("axis", Value::I(2)), ("block_size", Value::I(v))]);
        });
        add(&format!("RotaryEmbedding of {v}"), &|b| {
            b.constant(floats("c", &[1, 3, 1]));
            b.node(
                "RotaryEmbedding",
                "x c c",
                "y",
                &[("rotary_embedding_dim", Value::I(v)), ("num_heads", Value::I(v))],
            );
        });
        add(&format!("Attention with windows of {v}"), &|b| {
            let a = [("left_window_size", Value::I(v)), ("right_window_size", Value::I(v))];
            b.node("Attention", "x x x", "y", &a);
        });
        let rows = v.clamp(0, 1 << 24);
        add(&format!("Attention of {v} rows"), &|b| {
            b.input("q", DataType::Float, &[1, 1, rows, 1]).node(
                "Attention",
                "q q q",
                "y",
                &[("is_causal", Value::I(1))],
            );
        });
        add(&format!("MatMulInteger of {v} terms"), &|b| {
            b.input("l", DataType::Uint8, &[1, rows]).input("r", DataType::Uint8, &[rows, 1]);
            b.node("MatMulInteger", "l r", "y", &[]);
        });
        add(&format!("ConvInteger of {v} channels"), &|b| {
            b.input("l", DataType::Uint8, &[1, rows, 1, 1]).input("r", DataType::Uint8, &[1, rows, 1, 1]);
            b.node("ConvInteger", "l r", "y", &[]);
        });
        add(&format!("CumProd of {v}"), &|b| {
            b.input("l", DataType::Float, &[rows]).constant(ints("a", DataType::Int64, &[], &[0]));
            b.node("CumProd", "l a", "y", &[]);
        });
        add(&format!("a loss of {v} classes"), &|b| {
            b.input("l", DataType::Float, &[1, rows]).input("t", DataType::Int64, &[1]);
            b.node("SoftmaxCrossEntropyLoss", "l t", "y", &[]);
        });
        add(&format!("shifts by {v}"), &|b| {
            let direction = |d: &'static str| [("direction", Value::S(d))];
            b.constant(ints("b", DataType::Uint8, &[3], &[7, 8, v.clamp(0, 255)]));
            b.node("BitShift", "k b", "l", &direction("LEFT")).node("BitShift", "k b", "r", &direction("RIGHT"));
            b.node("BitShift", "b b", "c", &direction("RIGHT")).node("BitwiseOr", "l r", "o", &[]);
            b.node("BitwiseOr", "o c", "y", &[]);
        });
        add(&format!("remainders by {v}"), &|b| {
            b.constant(list("by", &[v, -v.max(-1), -1])).constant(list("of", &[i64::MIN, i64::MAX, v]));
            b.node("Mod", "n by", "m", &[]).node("Mod", "of by", "f", &[("fmod", Value::I(1))]);
            b.node("Mod", "of n", "o", &[]).node("Sum", "m f o", "y", &[]);
        });
    }
    // As many slices as a window has elements, several times.
    add("computed weights of many taps, often", &|b| {
        b.input("w", DataType::Float, &[1, 1, 64, 64]).input("p", DataType::Float, &[1, 1, 64, 64]);
        b.node("Identity", "p", "t0", &[]);
        for i in 0..40 {
            let same = [("auto_pad", Value::S("SAME_UPPER"))];
            b.node("Conv", &format!("t{i} w"), &format!("t{}", i + 1), &same);
        }
        b.node("Relu", "t40", "y", &[]);
    });
    add("places of maxima of many taps, often", &|b| {
        b.input("p", DataType::Float, &[1, 1, 64, 64]);
        for i in 0..40 {
            let a = [("auto_pad", Value::S("SAME_UPPER")), ("kernel_shape", Value::Is(&[64, 64]))];
            b.node("MaxPool", "p", &format!("m{i} i{i}"), &a);
        }
        b.node("Identity", "i39", "y", &[]);
    });
    add("a volume of many layers", &|b| {
        b.input("p", DataType::Float, &[1, 1, 1 << 14, 1, 1]).constant(floats("w", &[1]));
        b.constant(list("s", &[1, 1, 1 << 13, 1, 1])).node("Expand", "w s", "e", &[]).node("Conv", "p e", "y", &[]);
    });
    out
}

/// Windows of computed weights, over volumes, and whose maxima are looked for.
fn windows() -> Vec<(String, ModelProto)> {
    let mut out = Vec::new();
    for op in ["Conv", "ConvTranspose", "LpPool", "MaxPool", "AveragePool"] {
        for rank in [1, 2, 3, 4] {
            for v in [-1, 0, 1 << 12, 1 << 14, (1 << 20) - 1, 1 << 31, i64::MAX, i64::MIN] {
                let mut window = |name: &str, attributes: &[(&str, Value<'_>)]| {
                    let mut b = Builder::default();
                    b.input("x", DataType::Float, &[&[1, 2][..], &vec![3; rank]].concat());
                    b.input("w", DataType::Float, &[&[2, 2][..], &vec![2; rank]].concat());
                    let outputs = if op == "MaxPool" { "y i" } else { "y" };
                    b.node(op, if op.contains("Pool") { "x" } else { "x w" }, outputs, attributes);
                    out.push((format!("{op} over {rank} axes with {name}"), b.outputs(outputs).build()));
                };
                let (all, first) = (vec![v; rank], [&[v][..], &vec![1; rank - 1]].concat());
                let own = ("kernel_shape", Value::Is(&[2; 4][..rank]));
                for key in ["strides", "dilations", "kernel_shape", "output_padding", "output_shape"] {
                    let kernel = (key != "kernel_shape").then(|| own.clone());
                    let with =
                        |values| kernel.clone().into_iter().chain([(key, Value::Is(values))]).collect::<Vec<_>>();
                    window(&format!("{key} {v}"), &with(&all));
                    window(
                        &format!("{key} {v}, 1"),
                        &[with(&first), vec![("auto_pad", Value::S("SAME_LOWER"))]].concat(),
                    );
                }
                window(&format!("pads {v}"), &[own.clone(), ("pads", Value::Is(&vec![v; 2 * rank]))]);
                window(&format!("p {v}"), &[own, ("p", Value::I(v))]);
            }
        }
    }
    out
}
