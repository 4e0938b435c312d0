//! ONNX Runtime's own operators, and a function of the model.

use kinglet_compiler::ops::CONTRIB_DOMAIN;
use kinglet_onnx::{AttributeProto, DataType, FunctionProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto};

use super::{Builder, Value, floats, ints, reals};

/// Every operator of the domain com.microsoft, and two calls of a function that has attributes and an input that may be absent.
pub(super) fn contrib() -> ModelProto {
    let mut b = Builder::default();
    let ms = |op: &str| format!("{CONTRIB_DOMAIN}.{op}");
    fused(&mut b, &ms);
    attention(&mut b, &ms);
    quantized(&mut b, &ms);
    b.node("my.Act", "x lo", "fa", &[("slope", Value::F(0.3))]).node("my.Act", "fa", "fb", &[]).outputs("fb");
    let mut model = b.build();
    let set = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
    model.opset_import.extend([set(CONTRIB_DOMAIN, 1), set("my", 1)]);
    model.functions.push(function());
    model
}

/// `Act(x, lo?)`: a bounded LeakyRelu.
fn function() -> FunctionProto {
    let names = |names: &str| names.split(' ').map(String::from).collect();
    let slope = AttributeProto { name: "alpha".into(), r#type: 1, ref_attr_name: "slope".into(), ..Default::default() };
    let node = |op: &str, input: &str, output: &str, attribute: Vec<AttributeProto>| NodeProto {
        op_type: op.into(),
        input: names(input),
        output: names(output),
        attribute,
        ..Default::default()
    };
    FunctionProto {
        name: "Act".into(),
        domain: "my".into(),
        input: names("x lo"),
        output: names("y"),
        node: vec![node("LeakyRelu", "x", "l", vec![slope]), node("Clip", "l lo", "y", vec![])],
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        attribute_proto: vec![AttributeProto { name: "slope".into(), r#type: 1, f: 0.1, ..Default::default() }],
        ..Default::default()
    }
}

fn fused(b: &mut Builder, ms: &impl Fn(&str) -> String) {
    b.input("x", DataType::Float, &[1, 3, 4]).input("p", DataType::Float, &[1, 2, 4, 4]);
    b.input("ids", DataType::Int32, &[1, 3]);
    b.constant(floats("b4", &[4])).constant(floats("g4", &[4])).constant(reals("lo", &[-0.5]));
    b.constant(floats("cw", &[3, 2, 2, 2])).constant(floats("w45", &[4, 5])).constant(floats("b5", &[5]));
    b.constant(floats("words", &[8, 4])).constant(floats("places", &[5, 4])).constant(floats("m34", &[3, 4]));
    b.node(&ms("BiasGelu"), "x b4", "f1", &[]).node(&ms("FastGelu"), "x b4", "f2", &[]);
    b.node(&ms("Gelu"), "x", "f3", &[]).node(&ms("QuickGelu"), "x", "f4", &[("alpha", Value::F(1.3))]);
    b.node(&ms("FusedConv"), "p cw _", "f5", &[("activation", Value::S("Relu")), ("pads", Value::Is(&[1, 1, 0, 0]))]);
    let leaky = [("activation", Value::S("LeakyRelu")), ("activation_alpha", Value::F(0.2))];
    b.node(&ms("FusedGemm"), "m34 w45 b5", "f6", &leaky);
    b.node(&ms("FusedMatMul"), "x w45", "f7", &[("alpha", Value::F(0.5))]);
    b.node(&ms("SkipLayerNormalization"), "x x g4 b4", "f8 _ _ f9", &[]);
    b.node(&ms("SkipSimplifiedLayerNormalization"), "x f8 g4 b4", "f10", &[]);
    b.node(&ms("EmbedLayerNormalization"), "ids _ words places _ g4 b4", "f11", &[]);
    b.node("SimplifiedLayerNormalization", "x g4", "f12", &[]);
    b.outputs("f1 f2 f3 f4 f5 f6 f7 f8 f9 f10 f11 f12");
}

fn attention(b: &mut Builder, ms: &impl Fn(&str) -> String) {
    b.constant(floats("qkv", &[4, 12])).constant(floats("b12", &[12]));
    b.input("mask", DataType::Int32, &[1, 3]).input("qx", DataType::Uint8, &[1, 3, 4]);
    b.constant(ints("qw", DataType::Int8, &[4, 12], &(0..48).map(|i| i * 29 % 255 - 127).collect::<Vec<_>>()));
    b.constant(reals("s", &[0.05])).constant(ints("z", DataType::Uint8, &[], &[9]));
    b.constant(ints("zi", DataType::Int8, &[], &[-4]));
    let heads = ("num_heads", Value::I(2));
    b.node(&ms("Attention"), "x qkv b12 mask", "a1", &[heads.clone(), ("unidirectional", Value::I(1))]);
    b.node(&ms("MultiHeadAttention"), "x x x b12", "a2", std::slice::from_ref(&heads));
    b.node(&ms("QAttention"), "qx qw b12 s s _ z zi", "a3", &[heads]);
    b.outputs("a1 a2 a3");
}

fn quantized(b: &mut Builder, ms: &impl Fn(&str) -> String) {
    b.input("u", DataType::Uint8, &[1, 2, 4, 4]).input("l", DataType::Uint8, &[3, 4]).input(
        "t",
        DataType::Bool,
        &[3, 4],
    );
    let bytes = |n: i64| (0..n).map(|i| (i * 31 + 7) % 255 - 127).collect::<Vec<_>>();
    b.constant(ints("r", DataType::Int8, &[4, 5], &bytes(20))).constant(ints("bias", DataType::Int32, &[5], &bytes(5)));
    let bits: Vec<i64> = (0..24).map(|i| i * 37 % 256).collect();
    b.constant(ints("bits", DataType::Uint8, &[3, 1, 8], &bits)).constant(floats("bs", &[3]));
    for op in ["QLinearAdd", "QLinearMul"] {
        b.node(&ms(op), "u s z u s z s z", op, &[]).outputs(op);
    }
    for op in ["QLinearSigmoid", "QLinearLeakyRelu", "QLinearGlobalAveragePool"] {
        b.node(&ms(op), "u s z s z", op, &[]).outputs(op);
    }
    b.node(&ms("QLinearAveragePool"), "u s z s z", "q1", &[("kernel_shape", Value::Is(&[2, 2]))]);
    b.node(&ms("QLinearConcat"), "s z u s z u s z", "q2", &[("axis", Value::I(1))]);
    b.node(&ms("QLinearReduceMean"), "u s z s z", "q3", &[("axes", Value::Is(&[2]))]);
    b.node(&ms("QLinearSoftmax"), "l s z s z", "q4", &[("axis", Value::I(1)), ("opset", Value::I(13))]);
    b.node(&ms("QLinearWhere"), "t l s z l s z s z", "q5", &[]);
    b.node(&ms("QGemm"), "l s z r s zi bias s z", "q6", &[]);
    b.node(&ms("MatMulIntegerToFloat"), "l r s s z zi b5", "q7", &[]);
    b.node(&ms("DynamicQuantizeMatMul"), "x r s zi b5", "q8", &[]);
    b.constant(ints("lw", DataType::Int8, &[1, 4, 8], &bytes(32))).constant(ints(
        "lr",
        DataType::Int8,
        &[1, 2, 8],
        &bytes(16),
    ));
    b.constant(TensorProto { float_data: vec![0.05], ..floats("ls", &[1]) });
    b.node(&ms("DynamicQuantizeLSTM"), "x lw lr _ _ _ _ _ ls _ ls", "q12", &[]).outputs("q12");
    let nbits = [("K", Value::I(4)), ("N", Value::I(3)), ("bits", Value::I(4)), ("block_size", Value::I(16))];
    b.node(&ms("MatMulNBits"), "x bits bs", "q9", &nbits);
    b.node(&ms("QuantizeLinear"), "x s z", "q10", &[]).node(&ms("DequantizeLinear"), "l s z", "q11", &[]);
    b.outputs("q1 q2 q3 q4 q5 q6 q7 q8 q9 q10 q11");
}
