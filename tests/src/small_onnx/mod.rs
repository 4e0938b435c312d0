//! Small ONNX models that between them use every operator and every step kind: what the hostile-input tests mutate.

pub mod broad;
mod builder;
mod contrib;
mod sampling;
mod spectra;

pub use builder::{Builder, Value, floats, ints, reals};
use kinglet_onnx::{DataType, ModelProto};

/// Every small model with its name.
pub fn all() -> Vec<(&'static str, ModelProto)> {
    let mut models = vec![
        ("windows", windows()),
        ("quantized", quantized()),
        ("qlinear", qlinear()),
        ("weights", weights()),
        ("unary", unary()),
        ("binary", binary()),
        ("movement", movement()),
        ("reductions", reductions()),
        ("norms", norms()),
        ("resizes", resizes()),
        ("indices", indices()),
        ("selections", selections()),
        ("products", products()),
        ("shapes", shapes()),
        ("loops", loops()),
        ("branches", branches()),
        ("sequences", sequences()),
        ("recurrences", recurrences()),
        ("layers", layers()),
        ("contrib", contrib::contrib()),
        ("sampling", sampling::sampling()),
        ("deformed", sampling::deformed()),
        ("spectra", spectra::spectra()),
    ];
    models.extend(broad::all());
    models
}

/// Convolutions of a tall picture, with a residual and a stride between: what is compiled to a band of rows.
pub fn picture() -> ModelProto {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[1, 2, 24, 5]);
    b.constant(floats("w1", &[7, 2, 3, 3])).constant(floats("w2", &[7, 7, 3, 3])).constant(floats("w3", &[2, 7, 3, 3]));
    let pads = [("pads", Value::Is(&[1, 1, 1, 1]))];
    b.node("Conv", "x w1", "a", &pads).node("Tanh", "a", "t", &[]).node("Conv", "t w2", "b", &pads);
    b.node("Add", "b t", "s", &[]).node("Tanh", "s", "u", &[]);
    b.node("Conv", "u w3", "y", &[("pads", Value::Is(&[1, 1, 1, 1])), ("strides", Value::Is(&[2, 2]))]);
    b.outputs("y").build()
}

fn windows() -> ModelProto {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[1, 3, 7, 6]);
    b.constant(floats("w1", &[8, 3, 3, 3])).constant(floats("b1", &[8]));
    b.constant(floats("w2", &[8, 1, 3, 3])).constant(floats("w3", &[8, 2, 2, 2]));
    b.constant(floats("w4", &[4, 6])).constant(floats("b4", &[6])).constant(floats("w5", &[8, 4, 1, 1]));
    b.node("Conv", "x w1 b1", "c1", &[("pads", Value::Is(&[1, 1, 1, 1])), ("strides", Value::Is(&[1, 2]))]);
    b.node("Relu", "c1", "r1", &[]);
    let depthwise = [("group", Value::I(8)), ("dilations", Value::Is(&[2, 1])), ("auto_pad", Value::S("SAME_UPPER"))];
    b.node("Conv", "r1 w2", "c2", &depthwise);
    b.node("Conv", "c2 w5", "c5", &[("group", Value::I(2))]);
    b.node("Add", "c5 r1", "a", &[]);
    b.node("ConvTranspose", "a w3", "t", &[("strides", Value::Is(&[2, 2])), ("group", Value::I(2))]);
    let pool = [("kernel_shape", Value::Is(&[3, 2])), ("strides", Value::Is(&[2, 1])), ("ceil_mode", Value::I(1))];
    b.node("MaxPool", "t", "m", &pool);
    let average =
        [("kernel_shape", Value::Is(&[2, 2])), ("pads", Value::Is(&[1, 0, 0, 1])), ("count_include_pad", Value::I(1))];
    b.node("AveragePool", "m", "p", &average);
    b.node("GlobalAveragePool", "p", "g", &[]).node("GlobalMaxPool", "t", "gm", &[]);
    b.node("Flatten", "g", "f", &[("axis", Value::I(1))]);
    b.node("Gemm", "f w4 b4", "y", &[]).outputs("y gm").build()
}

fn quantized() -> ModelProto {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[1, 4, 5, 5]);
    let bytes = |n: i64| (0..n).map(|i| (i * 29 + 3) % 255 - 127).collect::<Vec<_>>();
    b.constant(reals("s", &[0.03125])).constant(ints("z", DataType::Int8, &[], &[3]));
    b.constant(reals("su", &[0.0625])).constant(ints("zu", DataType::Uint8, &[], &[120]));
    b.constant(ints("w", DataType::Int8, &[4, 4, 3, 3], &bytes(144)));
    b.constant(reals("ws", &[0.01, 0.02, 0.015, 0.03])).constant(ints("wz", DataType::Int8, &[4], &[0, 0, 0, 0]));
    b.constant(ints("dw", DataType::Int8, &[4, 1, 3, 3], &bytes(36)));
    b.constant(ints("mw", DataType::Int8, &[25, 25], &bytes(625)));
    b.constant(ints("shape", DataType::Int64, &[2], &[4, 25]));
    b.node("QuantizeLinear", "x s z", "q0", &[]).node("DequantizeLinear", "q0 s z", "x0", &[]);
    b.node("DequantizeLinear", "w ws wz", "wf", &[("axis", Value::I(0))]);
    b.node("Conv", "x0 wf", "c", &[("pads", Value::Is(&[1, 1, 1, 1]))]);
    b.node("QuantizeLinear", "c s z", "q1", &[]).node("DequantizeLinear", "q1 s z", "x1", &[]);
    b.node("Sigmoid", "x1", "sg", &[]);
    b.node("QuantizeLinear", "sg su zu", "q2", &[]).node("DequantizeLinear", "q2 su zu", "x2", &[]);
    b.node("DequantizeLinear", "dw s", "dwf", &[]);
    b.node("Conv", "x2 dwf", "d", &[("pads", Value::Is(&[1, 1, 1, 1])), ("group", Value::I(4))]);
    b.node("QuantizeLinear", "d su zu", "q3", &[]).node("DequantizeLinear", "q3 su zu", "x3", &[]);
    b.node("Add", "x3 x1", "a", &[]);
    b.node("QuantizeLinear", "a s z", "q4", &[]).node("DequantizeLinear", "q4 s z", "x4", &[]);
    b.node("Reshape", "x4 shape", "m", &[]);
    b.node("DequantizeLinear", "mw s", "mwf", &[]).node("MatMul", "m mwf", "mm", &[]);
    b.node("QuantizeLinear", "mm s z", "q5", &[]).node("DequantizeLinear", "q5 s z", "x5", &[]);
    b.node("Transpose", "x5", "xt", &[]).node("MatMul", "x5 xt", "xx", &[]);
    b.node("QuantizeLinear", "xx su zu", "y", &[]).node("DequantizeLinear", "x1q ws wz", "pa", &[]);
    b.input("x1q", DataType::Int8, &[2, 4]);
    b.outputs("y pa q4").build()
}

fn qlinear() -> ModelProto {
    let mut b = Builder::default();
    let bytes = |n: i64| (0..n).map(|i| (i * 31 + 7) % 255 - 127).collect::<Vec<_>>();
    b.input("x", DataType::Uint8, &[1, 2, 4, 4]).input("l", DataType::Int8, &[3, 4]);
    b.constant(reals("s", &[0.05])).constant(ints("z", DataType::Uint8, &[], &[9]));
    b.constant(ints("zi", DataType::Int8, &[], &[-4]));
    b.constant(ints("w", DataType::Int8, &[3, 2, 2, 2], &bytes(24))).constant(reals("ws", &[0.01, 0.02, 0.03]));
    b.constant(ints("wz", DataType::Int8, &[3], &[0, 1, 0]));
    b.constant(ints("bias", DataType::Int32, &[3], &[100, -50, 7]));
    b.constant(ints("r", DataType::Int8, &[4, 5], &bytes(20)));
    b.node("QLinearConv", "x s z w ws wz s z bias", "c", &[]);
    b.node("QLinearMatMul", "l s zi r s zi s zi", "m", &[]);
    b.node("MaxPool", "c", "p", &[("kernel_shape", Value::Is(&[2, 2]))]);
    b.outputs("p m").build()
}

fn unary() -> ModelProto {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[2, 3]).input("t", DataType::Bool, &[4]).input("n", DataType::Int64, &[4]);
    b.constant(reals("lo", &[-0.5])).constant(reals("hi", &[0.75])).constant(reals("e", &[3.0]));
    let ops = "Abs Ceil Cos Elu Erf Exp Floor Gelu HardSigmoid HardSwish LeakyRelu Log Mish Neg Reciprocal Relu Round \
               Selu Sigmoid Sign Sin Softplus Softsign Sqrt Swish Tanh Dropout Identity";
    let mut names = Vec::new();
    for op in ops.split_whitespace() {
        let alpha = [("alpha", Value::F(0.5))];
        let has_alpha = matches!(op, "Elu" | "HardSigmoid" | "LeakyRelu" | "Selu" | "Swish");
        b.node(op, "x", op, if has_alpha { &alpha } else { &[] });
        names.push(op);
    }
    b.node("Clip", "x lo hi", "clip", &[]).node("Pow", "x e", "pow", &[]).node("Not", "t", "not", &[]);
    b.node("Cast", "x", "cast", &[("to", Value::I(7))]).node("Cast", "n", "narrow", &[("to", Value::I(3))]);
    b.node("Neg", "n", "negated", &[]).node("Abs", "n", "magnitude", &[]);
    b.outputs(&names.join(" ")).outputs("clip pow not cast narrow negated magnitude").build()
}

fn binary() -> ModelProto {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[2, 3, 4]).input("y", DataType::Float, &[3, 1]);
    b.input("p", DataType::Bool, &[4]).input("q", DataType::Bool, &[4]);
    b.input("i", DataType::Int64, &[5]).input("j", DataType::Int64, &[1]);
    let mut names = Vec::new();
    for op in "Add Sub Mul Div Pow PRelu Equal Greater GreaterOrEqual Less LessOrEqual Max Min Sum Mean".split(' ') {
        b.node(op, "x y", op, &[]);
        names.push(op.to_string());
    }
    for op in "And Or Xor".split(' ') {
        b.node(op, "p q", op, &[]);
        names.push(op.to_string());
    }
    for op in "Add Sub Mul Div Pow Max Min Equal".split(' ') {
        b.node(op, "i j", &format!("i{op}"), &[]);
        names.push(format!("i{op}"));
    }
    b.node("Where", "p x x", "w", &[]).node("Where", "p i4 j", "wi", &[]).input("i4", DataType::Int64, &[4]);
    b.outputs(&names.join(" ")).outputs("w wi").build()
}

/// (`Upsample` has no meaning in this operator set, but the importer has: it is read all the same.)
fn resizes() -> ModelProto {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[1, 2, 4, 3]);
    b.constant(reals("s", &[1.0, 1.0, 2.0, 1.5])).constant(reals("t", &[1.0, 1.0, 1.0, 1.5]));
    b.constant(ints("z", DataType::Int64, &[4], &[1, 2, 4, 5]));
    b.node("Resize", "x _ s", "a", &[]).node("Upsample", "x t", "b", &[("mode", Value::S("linear"))]);
    b.node("Resize", "x _ _ z", "c", &[("mode", Value::S("cubic")), ("exclude_outside", Value::I(1))]);
    b.outputs("a b c").build()
}

fn movement() -> ModelProto {
    let i64s = |name: &str, v: &[i64]| ints(name, DataType::Int64, &[v.len() as i64], v);
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[1, 4, 3, 2]).input("k", DataType::Int64, &[3]);
    for (name, v) in [
        ("from", &[-1i64, 1][..]),
        ("to", &[-100, 9]),
        ("axes", &[1, 2]),
        ("steps", &[-1, 1]),
        ("pads", &[0, 1, 1, 0, 0, 2, 1, 1]),
        ("small", &[0, 0, 1, 1, 0, 0, 1, 0]),
        ("one", &[1]),
        ("sizes", &[1, 3]),
        ("grow", &[2, 4, 3, 2]),
        ("tiles", &[1, 2, 1, 3]),
        ("flat", &[0, -1]),
        ("some", &[2, 0]),
    ] {
        b.constant(i64s(name, v));
    }
    b.constant(reals("v", &[0.5]));
    b.node("Transpose", "x", "a0", &[("perm", Value::Is(&[0, 2, 3, 1]))]);
    b.node("Slice", "x from to axes steps", "a1", &[]);
    b.node("Concat", "x x", "a3", &[("axis", Value::I(2))]);
    b.node("Split", "x sizes", "a4 a5", &[("axis", Value::I(1))]);
    b.node("Gather", "x k", "a6", &[("axis", Value::I(1))]).node("Gather", "x some", "a7", &[("axis", Value::I(2))]);
    b.node("Expand", "x grow", "a8", &[]).node("Tile", "x tiles", "a9", &[]);
    b.node("Pad", "x pads v", "b0", &[]).node("Pad", "x small", "b1", &[("mode", Value::S("reflect"))]);
    b.node("Pad", "x pads", "b2", &[("mode", Value::S("edge"))]);
    b.node("Pad", "x small", "b3", &[("mode", Value::S("wrap"))]);
    b.node("DepthToSpace", "x", "b4", &[("blocksize", Value::I(2))]);
    b.node("Reshape", "x flat", "b5", &[]).node("Flatten", "a0", "b6", &[("axis", Value::I(2))]);
    b.node("Unsqueeze", "x one", "b7", &[]).node("Squeeze", "b7 one", "b8", &[]).node("Relu", "b8", "b9", &[]);
    b.outputs("a0 a1 a3 a4 a5 a6 a7 a8 a9 b0 b1 b2 b3 b4 b5 b6 b9").build()
}

fn indices() -> ModelProto {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[2, 3, 4]).input("n", DataType::Int32, &[5]);
    b.input("e", DataType::Int64, &[2, 2, 3]).input("u", DataType::Float, &[2, 2, 3]);
    b.input("t", DataType::Int64, &[3, 2]).input("v", DataType::Float, &[3, 4]).input("i", DataType::Int32, &[5]);
    b.constant(ints("two", DataType::Int64, &[1], &[2]));
    let along = |reduction: &'static str| [("axis", Value::I(1)), ("reduction", Value::S(reduction))];
    b.node("ScatterElements", "x e u", "a0", &along("none")).node("ScatterElements", "x e u", "a1", &along("max"));
    b.node("ScatterND", "x t v", "a2", &[("reduction", Value::S("add"))]).node("Scatter", "n i n", "a3", &[]);
    b.node("TopK", "x two", "a4 a5", &[("axis", Value::I(1))]);
    b.node("TopK", "n two", "a6 a7", &[("largest", Value::I(0))]);
    b.outputs("a0 a1 a2 a3 a4 a5 a6 a7").build()
}

fn selections() -> ModelProto {
    let i64s = |name: &str, v: &[i64]| ints(name, DataType::Int64, &[v.len() as i64], v);
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[2, 3, 4]).input("e", DataType::Int64, &[2, 3, 2]);
    b.input("t", DataType::Int32, &[2, 2]).input("p", DataType::Int64, &[2, 2, 1]).input("q", DataType::Int64, &[3, 2]);
    b.constant(ints("five", DataType::Int64, &[], &[5])).constant(reals("values", &[-1.0, 0.5]));
    b.constant(reals("unit", &[0.0, 1.0])).constant(ints("some", DataType::Bool, &[3], &[1, 0, 1]));
    b.constant(i64s("lengths", &[3, 2]))
        .constant(ints("k", DataType::Int64, &[], &[-1]))
        .constant(i64s("v", &[2, 0, 2]));
    b.node("GatherElements", "x e", "a0", &[("axis", Value::I(2))]).node("GatherND", "x q", "a1", &[]);
    b.node("GatherND", "x p", "a2", &[("batch_dims", Value::I(1))]);
    b.node("OneHot", "t five values", "a3", &[("axis", Value::I(1))]).node("OneHot", "t five unit", "a4", &[]);
    b.node("Hardmax", "x", "a5", &[("axis", Value::I(1))]).node("Compress", "x some", "a6", &[("axis", Value::I(1))]);
    let batch = [("batch_axis", Value::I(0)), ("time_axis", Value::I(1))];
    b.node("ReverseSequence", "x lengths", "a7", &batch).node("Trilu", "x k", "a8", &[("upper", Value::I(0))]);
    b.constant(floats("m", &[4, 3])).node("EyeLike", "m", "eye", &[("k", Value::I(1))]).node(
        "MatMul",
        "x eye",
        "a9",
        &[],
    );
    b.node("NonZero", "v", "nz", &[]).node("Unique", "v", "un ui", &[]).node(
        "Gather",
        "x ui",
        "b0",
        &[("axis", Value::I(1))],
    );
    b.node("Reshape", "nz two", "flat", &[]).constant(i64s("two", &[2])).node(
        "Gather",
        "x flat",
        "b1",
        &[("axis", Value::I(2))],
    );
    b.node("Cast", "un", "uf", &[("to", Value::I(1))]).constant(ints("row", DataType::Int64, &[2], &[2, 1]));
    b.node("Reshape", "uf row", "uf2", &[]).node("Concat", "uf2 uf2", "c4", &[("axis", Value::I(0))]);
    b.node("MatMul", "x c4", "b2", &[]).outputs("a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 b0 b1 b2").build()
}

fn reductions() -> ModelProto {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[2, 3, 4]).input("n", DataType::Int64, &[2, 5]);
    b.constant(ints("axes", DataType::Int64, &[2], &[1, -1])).constant(ints("axis", DataType::Int64, &[], &[1]));
    b.constant(ints("inner", DataType::Int64, &[1], &[1]));
    let mut names = Vec::new();
    for op in "ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare".split(' ') {
        b.node(op, "x axes", op, &[("keepdims", Value::I(0))]);
        let inner = format!("{op}1");
        b.node(op, "x inner", &inner, &[]);
        names.extend([op.to_string(), inner]);
    }
    b.node("ReduceSum", "n axis", "ns", &[]).node("CumSum", "n axis", "nc", &[("exclusive", Value::I(1))]);
    b.node("ArgMax", "x", "am", &[("axis", Value::I(1))]);
    b.node("ArgMin", "x", "an", &[("axis", Value::I(-1)), ("select_last_index", Value::I(1))]);
    b.node("CumSum", "x axis", "cs", &[("reverse", Value::I(1))]);
    b.outputs(&names.join(" ")).outputs("ns nc am an cs").build()
}

fn norms() -> ModelProto {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[1, 3, 4, 5]);
    b.constant(floats("g", &[3])).constant(floats("b", &[3])).constant(floats("m", &[3]));
    b.constant(reals("v", &[0.5, 1.5, 2.0])).constant(floats("g5", &[5])).constant(floats("b5", &[5]));
    b.node("BatchNormalization", "x g b m v", "bn", &[]).node("InstanceNormalization", "x g b", "in", &[]);
    b.node("LayerNormalization", "x g5 b5", "ln", &[("epsilon", Value::F(1e-6))]);
    b.node("RMSNormalization", "x g5", "rn", &[]).node("LayerNormalization", "x g5", "l2", &[("axis", Value::I(3))]);
    // Over several rows.
    b.constant(floats("g345", &[3, 4, 5]));
    b.node("LayerNormalization", "x g345", "l1", &[("axis", Value::I(1))]);
    b.node("Softmax", "x", "s", &[]).node("LogSoftmax", "x", "l", &[("axis", Value::I(1))]);
    b.outputs("bn in ln rn l2 l1 s l").build()
}

/// Only the weights are bytes.
fn weights() -> ModelProto {
    let bytes = |n: i64| -> Vec<i64> { (0..n).map(|i| i * 37 % 255 - 127).collect() };
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[1, 4, 5, 6]);
    b.constant(reals("s", &[0.03125])).constant(reals("ws", &[0.01, 0.02, 0.015, 0.03, 0.01]));
    b.constant(ints("wz", DataType::Int8, &[5], &[0; 5]));
    b.constant(ints("w", DataType::Int8, &[5, 4, 3, 3], &bytes(180)));
    b.constant(ints("dw", DataType::Int8, &[4, 1, 3, 3], &bytes(36)));
    b.node("DequantizeLinear", "dw s", "dwf", &[]);
    b.node("Conv", "x dwf", "d", &[("pads", Value::Is(&[1, 1, 1, 1])), ("group", Value::I(4))]);
    b.node("DequantizeLinear", "w ws wz", "wf", &[("axis", Value::I(0))]);
    b.node("Conv", "d wf", "y", &[("pads", Value::Is(&[1, 1, 1, 1]))]).outputs("y").build()
}

fn products() -> ModelProto {
    let mut b = Builder::default();
    b.input("a", DataType::Float, &[2, 3, 4]).input("c", DataType::Float, &[2, 4, 5]);
    b.input("v", DataType::Float, &[4]).input("s", DataType::Float, &[1, 6, 1]).input("d", DataType::Float, &[3, 4]);
    b.constant(floats("k", &[4, 5])).constant(floats("bias", &[3, 1]));
    b.node("MatMul", "a c", "m0", &[]).node("MatMul", "a v", "m1", &[]).node("MatMul", "a k", "m2", &[]);
    b.node("Gemm", "d k bias", "m3", &[("alpha", Value::F(0.5)), ("beta", Value::F(2.0))]);
    b.node("Gemm", "d d", "m4", &[("transB", Value::I(1))]);
    b.node("Einsum", "a c", "m5", &[("equation", Value::S("bij,bjk->bik"))]);
    b.node("Einsum", "a d", "m6", &[("equation", Value::S("bij, ij -> jb"))]);
    b.constant(ints("along", DataType::Int64, &[], &[1]));
    b.node("DFT", "s _ along", "m7", &[("onesided", Value::I(1))]);
    b.outputs("m0 m1 m2 m3 m4 m5 m6 m7").build()
}

fn shapes() -> ModelProto {
    let scalar = |name: &str, v: i64| ints(name, DataType::Int64, &[], &[v]);
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[2, 3, 4]);
    b.constant(scalar("zero", 0)).constant(scalar("six", 6)).constant(scalar("one", 1));
    b.constant(ints("first", DataType::Int64, &[1], &[0])).constant(ints("rest", DataType::Int64, &[1], &[-1]));
    b.node("Shape", "x", "sh", &[]).node("Size", "x", "n", &[]).node("Gather", "sh first", "batch", &[]);
    b.node("Concat", "batch rest", "to", &[("axis", Value::I(0))]).node("Reshape", "x to", "y", &[]);
    b.node("Range", "zero six one", "r", &[]).node("Cast", "r", "rf", &[("to", Value::I(1))]);
    b.node("Constant", "", "c", &[("value", Value::T(Box::new(ints("", DataType::Int64, &[2], &[2, 6]))))]);
    b.node("Constant", "", "cf", &[("value_floats", Value::Fs(&[1.0, 2.0]))]);
    b.node("ConstantOfShape", "c", "z", &[("value", Value::T(Box::new(reals("", &[0.25]))))]);
    b.node("Expand", "rf c", "e", &[]).node("Add", "z e", "ze", &[]);
    b.constant(ints("at", DataType::Int64, &[1, 1], &[1])).constant(floats("upd", &[1, 6]));
    b.node("ScatterND", "ze at upd", "sc", &[]).node("Tile", "rf first1", "t", &[]);
    b.constant(ints("first1", DataType::Int64, &[1], &[2])).constant(ints("two", DataType::Int64, &[1], &[2]));
    b.node("Mul", "y t", "yt", &[]).node("Div", "n six", "four", &[]);
    b.node("Cast", "four", "fourf", &[("to", Value::I(1))]).node("Mul", "yt fourf", "o", &[]);
    b.node("Reshape", "sc c", "sc2", &[]).node("Relu", "sc2", "o2", &[]).node("Identity", "cf", "o3", &[]);
    b.outputs("o o2 o3").build()
}

fn loops() -> ModelProto {
    let scalar = |name: &str, v: i64| ints(name, DataType::Int64, &[], &[v]);
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[5, 2, 3]).input("h", DataType::Float, &[2, 3]).input("n", DataType::Int64, &[2]);
    b.constant(floats("w", &[3, 3])).constant(scalar("six", 6)).constant(scalar("three", 3));
    b.node("Exp", "h", "around", &[]);

    // Two states, one of which only changes places with a constant; a slice of what is scanned, one of what was carried.
    let mut scan = Builder::default();
    scan.formals("s_h s_k s_x").constant(floats("s_c", &[3]));
    scan.node("MatMul", "s_x w", "s_p", &[]).node("Add", "s_h s_p", "s_a", &[]).node("Tanh", "s_a", "s_n", &[]);
    scan.node("Mul", "s_n around", "s_y", &[]).node("Identity", "s_h", "s_old", &[]).node("Add", "s_k s_c", "s_m", &[]);
    scan.outputs("s_n s_m s_y s_old");
    let attributes = [
        ("num_scan_inputs", Value::I(1)),
        ("scan_input_directions", Value::Is(&[1])),
        ("scan_output_axes", Value::Is(&[0, 2])),
        ("scan_output_directions", Value::Is(&[1, 0])),
        ("body", scan.body()),
    ];
    b.constant(reals("k", &[0.5, 0.5, 0.5])).node("Scan", "h k x", "hn kn ys olds", &attributes);

    // The counter in arithmetic and as an index; values that change places; integers.
    let mut turn = Builder::default();
    turn.formals("t_i t_c t_a t_b t_n").constant(scalar("t_last", 5));
    turn.node("Cast", "t_i", "t_f", &[("to", Value::I(1))]).node("Add", "t_a t_f", "t_s", &[]);
    turn.node("Gather", "w t_r", "t_w", &[]).constant(ints("t_r", DataType::Int64, &[1], &[-1]));
    turn.node("Mul", "t_s t_w", "t_z", &[]).node("Add", "t_n t_i", "t_m", &[]).node("Identity", "t_c", "t_go", &[]);
    turn.outputs("t_go t_b t_z t_m t_z");
    b.node("Loop", "six _ h hn n", "la lb ln lz", &[("body", turn.body())]);

    // Written out: it grows, and ends when a condition of the counter says so.
    let mut grow = Builder::default();
    grow.formals("g_i g_c g_v").constant(scalar("g_two", 2));
    grow.node("Concat", "g_v g_v", "g_w", &[("axis", Value::I(0))]).node("Less", "g_i g_two", "g_go", &[]);
    grow.outputs("g_go g_w");
    b.node("Loop", "_ _ kn", "grown", &[("body", grow.body())]);

    // A loop in a loop.
    let mut inner = Builder::default();
    inner
        .formals("i_i i_c i_v")
        .node("Add", "i_v o_v", "i_w", &[])
        .node("Identity", "i_c", "i_go", &[])
        .outputs("i_go i_w");
    let mut outer = Builder::default();
    outer.formals("o_i o_c o_v").node("Loop", "three o_c o_v", "o_w", &[("body", inner.body())]);
    outer.node("Mul", "o_w o_k", "o_z", &[]).constant(reals("o_k", &[0.25])).outputs("o_c o_z");
    b.node("Loop", "three _ kn", "nested", &[("body", outer.body())]);
    b.outputs("hn kn ys olds la lb ln lz grown nested").build()
}

fn branches() -> ModelProto {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[2, 3]).input("c", DataType::Float, &[1]).constant(reals("zero", &[0.0]));
    b.node("Exp", "x", "e", &[]).node("Greater", "c zero", "more", &[]);
    let (mut yes, mut no) = (Builder::default(), Builder::default());
    yes.node("Mul", "x e", "y_a", &[]).node("ReduceMax", "e", "y_b", &[]).outputs("y_a y_b");
    no.node("Sub", "x e", "n_a", &[]).constant(floats("n_b", &[1, 1])).outputs("n_a n_b");
    b.node("If", "more", "a m", &[("then_branch", yes.body()), ("else_branch", no.body())]);
    let (mut yes, mut no) = (Builder::default(), Builder::default());
    yes.node("Concat", "a e", "y_c", &[("axis", Value::I(1))]).outputs("y_c");
    no.node("Transpose", "a", "n_c", &[]).outputs("n_c");
    b.node("Size", "x", "size", &[]).constant(ints("six", DataType::Int64, &[], &[6])).node(
        "Equal",
        "size six",
        "is",
        &[],
    );
    b.node("If", "is", "j", &[("then_branch", yes.body()), ("else_branch", no.body())]);
    b.outputs("a m j").build()
}

fn sequences() -> ModelProto {
    let scalar = |name: &str, v: i64| ints(name, DataType::Int64, &[], &[v]);
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[2, 3]).input("y", DataType::Float, &[2, 3]).input("l", DataType::Float, &[4, 6]);
    b.constant(scalar("one", 1)).constant(scalar("back", -1)).constant(scalar("four", 4));
    b.constant(ints("parts", DataType::Int64, &[2], &[2, 4]));
    b.node("SequenceConstruct", "x y x", "s0", &[]).node("SequenceErase", "s0 one", "s1", &[]);
    b.node("SequenceInsert", "s1 y back", "s2", &[]).node("SequenceAt", "s2 one", "a0", &[]);
    b.node("SequenceLength", "s2", "n0", &[]).node("ConcatFromSequence", "s2", "j0", &[("axis", Value::I(1))]);
    b.node("SplitToSequence", "l parts", "s3", &[("axis", Value::I(1))]).node("SequenceAt", "s3 back", "a1", &[]);
    b.node("SplitToSequence", "l", "s4", &[("keepdims", Value::I(0))]).node("SequenceAt", "s4 one", "a2", &[]);
    let mut turn = Builder::default();
    turn.formals("t_i t_c t_h t_s").node("Gather", "l t_i", "t_r", &[]).node("Add", "t_h t_r", "t_n", &[]);
    turn.node("SequenceInsert", "t_s t_n", "t_t", &[]).node("Identity", "t_c", "t_go", &[]).outputs("t_go t_n t_t");
    b.constant(floats("h", &[6])).node("SequenceEmpty", "", "s5", &[]);
    b.node("Loop", "four _ h s5", "hn s6", &[("body", turn.body())]);
    let stack = [("axis", Value::I(1)), ("new_axis", Value::I(1))];
    b.node("ConcatFromSequence", "s6", "j1", &stack).node("SequenceAt", "s6 one", "a3", &[]);
    b.node("ConcatFromSequence", "s6", "j2", &[("axis", Value::I(0))]).node("SequenceLength", "s6", "n1", &[]);
    // The numbers of items are constants, and these go nowhere by themselves.
    b.node("Add", "n0 n1", "n", &[]).node("Cast", "n", "nf", &[("to", Value::I(1))]).node("Mul", "j0 nf", "j3", &[]);
    b.outputs("a0 a1 a2 a3 hn j1 j2 j3").build()
}

fn recurrences() -> ModelProto {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[2, 5, 3]).input("delta", DataType::Float, &[2, 5, 3]);
    b.input("b", DataType::Float, &[2, 5, 4]).input("c", DataType::Float, &[2, 5, 4]);
    b.input("z", DataType::Float, &[2, 5, 3]).input("h", DataType::Float, &[2, 3, 4]);
    b.constant(floats("a", &[3, 4])).constant(floats("d", &[3]));
    // A state with a default.
    b.constant(floats("h", &[2, 3, 4]));
    let attributes = [("delta_softplus", Value::I(1))];
    b.node("ai.kinglet.SelectiveScan", "x delta a b c d z h", "y hn", &attributes);
    b.node("ai.kinglet.SelectiveScan", "x delta a b c", "y2", &[]);
    b.constant(floats("la", &[9, 9])).constant(floats("lb", &[9])).input("m", DataType::Float, &[2, 27]);
    b.node("ai.kinglet.LegendreMemory", "x la lb m", "ms ml", &[]);
    b.node("ai.kinglet.LegendreMemory", "y la lb", "ms2", &[]);
    for (op, like) in
        [("RandomNormal", ""), ("RandomUniform", ""), ("RandomNormalLike", "d"), ("RandomUniformLike", "y")]
    {
        let shape = [("shape", Value::Is(&[3]))];
        b.node(op, like, op, if like.is_empty() { &shape } else { &[] });
    }
    b.node("Add", "RandomNormal RandomUniform", "r", &[]).node("Mul", "r RandomNormalLike", "rs", &[]);
    b.node("Mul", "RandomUniformLike rs", "noise", &[]);
    b.outputs("y hn y2 ms ml ms2 noise").build()
}

/// (Small: its plan is in the corpus.)
fn layers() -> ModelProto {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[3, 2, 2]).input("h", DataType::Float, &[1, 2, 2]).input(
        "c",
        DataType::Float,
        &[1, 2, 2],
    );
    for (kind, gates) in [("l", 8), ("g", 6), ("r", 2)] {
        b.constant(floats(&format!("{kind}w"), &[1, gates, 2])).constant(floats(&format!("{kind}r"), &[1, gates, 2]));
    }
    b.constant(floats("b", &[1, 12])).constant(floats("p", &[1, 6]));
    b.constant(ints("n", DataType::Int32, &[2], &[3, 1]));
    b.node("LSTM", "x lw lr _ n h c p", "ly _ lc", &[("clip", Value::F(0.5)), ("hidden_size", Value::I(2))]);
    let reverse = [("direction", Value::S("reverse")), ("linear_before_reset", Value::I(1))];
    b.node("GRU", "x gw gr b", "_ gh", &reverse).node("RNN", "x rw rr", "ry", &[]);
    b.outputs("ly lc gh ry").build()
}
