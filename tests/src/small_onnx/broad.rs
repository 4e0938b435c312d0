//! Small models of operators that the other ones leave out, in groups.

use kinglet_onnx::{DataType, ModelProto};

use super::{Builder, Value, floats, ints, reals};

/// Names of the models here. No step in their plans is of a new kind, so that the corpus of plans does without them.
pub const NAMES: [&str; 9] = [
    "functions",
    "bits",
    "normalisations",
    "losses",
    "attention",
    "unfolded",
    "volumes",
    "integer_products",
    "computed_scales",
];

/// The models by name.
pub fn all() -> Vec<(&'static str, ModelProto)> {
    let models = [
        functions(),
        bits(),
        normalisations(),
        losses(),
        attention(),
        unfolded(),
        volumes(),
        integer_products(),
        computed_scales(),
    ];
    NAMES.into_iter().zip(models).chain([("ends", ends())]).collect()
}

/// Loops that end when data say so, of at most six trips.
pub fn ends() -> ModelProto {
    let mut b = Builder::default();
    b.input("h", DataType::Float, &[2, 3]).input("n", DataType::Int64, &[]).constant(reals("most", &[1.5]));
    b.constant(ints("six", DataType::Int64, &[], &[6])).constant(floats("w", &[2, 3])).node("ReduceMax", "h", "m", &[]);
    b.constant(ints("flat", DataType::Int64, &[0], &[])).node("Less", "m most", "starts_", &[]);
    b.node("Reshape", "starts_ flat", "starts", &[]);
    let mut body = Builder::default();
    body.formals("i c v k").node("Mul", "v w", "p", &[]).node("Add", "p v", "q", &[]);
    body.node("ReduceMax", "q", "r", &[]).node("Less", "r most", "s", &[]).node("Reshape", "s flat", "go", &[]);
    body.node("Add", "k n", "l", &[]).outputs("go q l");
    b.node("Loop", "six starts h n", "y k_", &[("body", body.body())]);
    let mut body = Builder::default();
    body.formals("a d u").node("Neg", "u", "x", &[]).node("Less", "a n", "on", &[]).outputs("on x");
    b.node("Loop", "six _ y", "z", &[("body", body.body())]).outputs("y k_ z").build()
}

fn functions() -> ModelProto {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[2, 3]).input("lo", DataType::Float, &[]).input("n", DataType::Int64, &[3]);
    let mut names = Vec::new();
    for op in "Acos Acosh Asin Asinh Atan Atanh Cosh Sinh Tan Celu ThresholdedRelu Shrink IsInf IsNaN".split(' ') {
        let attributes: &[(&str, Value<'_>)] = match op {
            "Celu" | "ThresholdedRelu" => &[("alpha", Value::F(0.5))],
            "Shrink" => &[("lambd", Value::F(0.25)), ("bias", Value::F(0.5))],
            "IsInf" => &[("detect_negative", Value::I(0))],
            _ => &[],
        };
        b.node(op, "x", op, attributes);
        names.push(op);
    }
    b.node("SwiGLU", "x x", "swiglu", &[("alpha", Value::F(1.5))]).node("Clip", "x lo", "clip", &[]);
    b.node("CastLike", "x n", "integers", &[]).node("CastLike", "n x", "floats", &[]);
    b.outputs(&names.join(" ")).outputs("swiglu clip integers floats").build()
}

fn bits() -> ModelProto {
    let mut b = Builder::default();
    b.input("i", DataType::Int64, &[2, 3]).input("j", DataType::Int64, &[3]).input("k", DataType::Uint8, &[4]);
    b.input("x", DataType::Float, &[2, 3]).input("w", DataType::Uint32, &[3]);
    for op in "BitwiseAnd BitwiseOr BitwiseXor Mod".split(' ') {
        b.node(op, "i j", op, &[]);
    }
    b.node("BitwiseNot", "i", "not", &[]).node("Mod", "x x", "fmod", &[("fmod", Value::I(1))]);
    b.node("BitShift", "k k", "left", &[("direction", Value::S("LEFT"))]);
    b.node("BitShift", "w w", "right", &[("direction", Value::S("RIGHT"))]);
    b.constant(ints("axis", DataType::Int64, &[], &[1]));
    b.node("CumProd", "x axis", "product", &[("exclusive", Value::I(1)), ("reverse", Value::I(1))]);
    b.node("CumProd", "i axis", "products", &[]);
    b.outputs("BitwiseAnd BitwiseOr BitwiseXor Mod not fmod left right product products").build()
}

fn normalisations() -> ModelProto {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[1, 4, 3, 5]).input("g", DataType::Float, &[4]).input("l", DataType::Float, &[5]);
    b.constant(floats("b", &[4])).constant(reals("v", &[0.5, 1.5, 2.0, 1.0]));
    b.node("GroupNormalization", "x g b", "y0", &[("num_groups", Value::I(2))]);
    b.node("MeanVarianceNormalization", "x", "y1", &[("axes", Value::Is(&[0, 2]))]);
    b.node("LpNormalization", "x", "y2", &[("axis", Value::I(1)), ("p", Value::I(1))]);
    b.node("LRN", "x", "y3", &[("size", Value::I(3)), ("alpha", Value::F(0.5))]);
    b.node("GlobalLpPool", "x", "y4", &[("p", Value::I(3))]);
    let window = [("kernel_shape", Value::Is(&[2, 2])), ("p", Value::I(2)), ("strides", Value::Is(&[1, 2]))];
    b.node("LpPool", "x", "y5", &window);
    b.constant(ints("axes", DataType::Int64, &[2], &[1, -1]));
    b.node("ReduceLogSum", "x axes", "y6", &[("keepdims", Value::I(0))]).node("ReduceLogSumExp", "x axes", "y7", &[]);
    b.node("BatchNormalization", "x g b b v", "y8", &[]).node("InstanceNormalization", "x g b", "y9", &[]);
    b.node("LayerNormalization", "x l", "z0 z1 z2", &[]).node("RMSNormalization", "x l", "z3", &[]);
    b.outputs("y0 y1 y2 y3 y4 y5 y6 y7 y8 y9 z0 z1 z2 z3").build()
}

fn losses() -> ModelProto {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[2, 3, 4]).input("t", DataType::Int64, &[2, 4]).constant(floats("w", &[3]));
    let ignored = [("ignore_index", Value::I(-1)), ("reduction", Value::S("mean"))];
    b.node("NegativeLogLikelihoodLoss", "x t w", "y0", &ignored);
    b.node("SoftmaxCrossEntropyLoss", "x t", "y1 y2", &[("reduction", Value::S("none"))]);
    b.node("SoftmaxCrossEntropyLoss", "x t w", "y3", &[("ignore_index", Value::I(1)), ("reduction", Value::S("sum"))]);
    b.outputs("y0 y1 y2 y3").build()
}

fn attention() -> ModelProto {
    let mut b = Builder::default();
    b.input("q", DataType::Float, &[1, 4, 3, 4]).input("k", DataType::Float, &[1, 2, 3, 4]);
    b.input("past", DataType::Float, &[1, 2, 2, 4]).input("mask", DataType::Float, &[3, 5]);
    b.node(
        "Attention",
        "q k k mask past past",
        "y0 p0 p1 s0",
        &[("is_causal", Value::I(1)), ("softcap", Value::F(2.0)), ("qk_matmul_output_mode", Value::I(3))],
    );
    b.input("f", DataType::Float, &[1, 3, 8]).input("some", DataType::Bool, &[3, 3]);
    let heads = [("q_num_heads", Value::I(2)), ("kv_num_heads", Value::I(2)), ("scale", Value::F(0.5))];
    b.node("Attention", "f f f some", "y1", &heads);
    b.input("lengths", DataType::Int64, &[1]).node("Attention", "q k k _ _ _ lengths", "y2", &[]);
    b.constant(floats("cos", &[5, 2])).constant(floats("sin", &[5, 2])).input("at", DataType::Int64, &[1, 3]);
    b.node("RotaryEmbedding", "q cos sin at", "r0", &[("interleaved", Value::I(1))]);
    b.constant(floats("c", &[1, 3, 1])).constant(floats("s", &[1, 3, 1]));
    b.node("RotaryEmbedding", "f c s", "r1", &[("num_heads", Value::I(2)), ("rotary_embedding_dim", Value::I(2))]);
    b.outputs("y0 p0 p1 s0 y1 y2 r0 r1").build()
}

fn unfolded() -> ModelProto {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[1, 2, 4, 6]).input("w", DataType::Float, &[2, 2, 2, 3]);
    b.constant(ints("to", DataType::Int64, &[2], &[3, 9])).constant(ints("image", DataType::Int64, &[2], &[4, 5]));
    b.constant(ints("block", DataType::Int64, &[2], &[2, 2])).input("c", DataType::Float, &[1, 8, 6]);
    b.node("SpaceToDepth", "x", "y0", &[("blocksize", Value::I(2)), ("mode", Value::S("CRD"))]);
    b.node("CenterCropPad", "x to", "y1", &[("axes", Value::Is(&[2, 3]))]);
    b.node("Col2Im", "c image block", "y2", &[("strides", Value::Is(&[2, 1])), ("dilations", Value::Is(&[1, 2]))]);
    b.node("Conv", "x w", "y3", &[("strides", Value::Is(&[2, 1])), ("pads", Value::Is(&[1, 0, 0, 1]))]);
    b.node("ConvTranspose", "x w", "y4", &[("strides", Value::Is(&[2, 1])), ("output_padding", Value::Is(&[1, 0]))]);
    let window = [("kernel_shape", Value::Is(&[2, 2])), ("pads", Value::Is(&[0, 1, 1, 0]))];
    b.node("MaxPool", "x", "y5 y6", &window);
    b.outputs("y0 y1 y2 y3 y4 y5 y6").build()
}

fn volumes() -> ModelProto {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[1, 2, 3, 4, 3]);
    b.constant(floats("w", &[2, 2, 2, 2, 1])).constant(floats("b", &[2]));
    b.node("Conv", "x w b", "y0", &[("pads", Value::Is(&[1, 0, 0, 0, 1, 0]))]);
    b.node("ConvTranspose", "x w b", "y1", &[("strides", Value::Is(&[1, 2, 1]))]);
    let window =
        [("kernel_shape", Value::Is(&[2, 3, 2])), ("strides", Value::Is(&[1, 2, 2])), ("ceil_mode", Value::I(1))];
    b.node("MaxPool", "x", "y2 y3", &window).node("AveragePool", "x", "y4", &window);
    b.node("LpPool", "x", "y5", &window);
    b.outputs("y0 y1 y2 y3 y4 y5").build()
}

fn integer_products() -> ModelProto {
    let bytes = |n: i64| (0..n).map(|i| (i * 31 + 7) % 255 - 127).collect::<Vec<_>>();
    let mut b = Builder::default();
    b.input("a", DataType::Uint8, &[2, 5]).input("z", DataType::Uint8, &[]).input("zs", DataType::Int8, &[3]);
    b.constant(ints("k", DataType::Int8, &[5, 3], &bytes(15))).input("x", DataType::Uint8, &[1, 2, 4, 4]);
    b.constant(ints("w", DataType::Int8, &[3, 2, 2, 2], &bytes(24)));
    b.node("MatMulInteger", "a k z zs", "y0", &[]).node("MatMulInteger", "a k", "y1", &[]);
    b.node("ConvInteger", "x w z", "y2", &[("strides", Value::Is(&[2, 1]))]).node("ConvInteger", "x w", "y3", &[]);
    b.outputs("y0 y1 y2 y3").build()
}

fn computed_scales() -> ModelProto {
    let bytes = |n: i64| (0..n).map(|i| (i * 31 + 7) % 255 - 127).collect::<Vec<_>>();
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[4, 6]).input("s", DataType::Float, &[]).input("ss", DataType::Float, &[6]);
    b.input("z", DataType::Uint8, &[]).input("q", DataType::Int8, &[4, 6]).constant(floats("blocks", &[2, 6]));
    b.node("DynamicQuantizeLinear", "x", "y0 y1 y2", &[]);
    b.node("QuantizeLinear", "x s z", "y3", &[]).node("DequantizeLinear", "q ss", "y4", &[("axis", Value::I(-1))]);
    let of_blocks = [("axis", Value::I(0)), ("block_size", Value::I(2))];
    b.node("QuantizeLinear", "x blocks", "y5", &of_blocks).node("DequantizeLinear", "q blocks", "y6", &of_blocks);
    b.input("c", DataType::Uint8, &[1, 2, 3, 3]).constant(reals("k", &[0.05]));
    b.constant(ints("w", DataType::Int8, &[3, 2, 2, 2], &bytes(24))).constant(ints("i", DataType::Int8, &[], &[0]));
    b.node("QLinearConv", "c s z w k i k z", "y7", &[]).input("l", DataType::Uint8, &[2, 4]);
    b.input("r", DataType::Int8, &[4, 3]).node("QLinearMatMul", "l s z r k i k z", "y8", &[]);
    b.constant(ints("narrow", DataType::Int4, &[2, 3], &[0x21, 0x43, 0x6F])).node(
        "DequantizeLinear",
        "narrow k",
        "nf",
        &[],
    );
    b.input("m", DataType::Float, &[2, 2]).node("MatMul", "m nf", "y9", &[]);
    b.outputs("y0 y1 y2 y3 y4 y5 y6 y7 y8 y9").build()
}
