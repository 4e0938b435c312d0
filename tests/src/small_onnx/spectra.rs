//! Spectra, small matrices, layers with a state, and what is put back where it came from.

use kinglet_onnx::{DataType, ModelProto};

use super::{Builder, Value, floats, ints, reals};

/// Each operator on a few elements.
pub fn spectra() -> ModelProto {
    let mut b = Builder::default();
    let scalar = |name: &str, v: i64| ints(name, DataType::Int64, &[], &[v]);
    b.opset(28);
    b.input("x", DataType::Float, &[1, 12, 1]).input("k", DataType::Int64, &[2, 5]);
    for (name, v) in [("step", 3), ("four", 4), ("rate", 8000), ("bands", 2)] {
        b.constant(scalar(name, v));
    }
    b.constant(reals("low", &[100.0])).constant(reals("high", &[3000.0]));
    b.node("HannWindow", "four", "hann", &[]).node("HammingWindow", "four", "hamming", &[("periodic", Value::I(0))]);
    b.node("BlackmanWindow", "four", "blackman", &[("output_datatype", Value::I(1))]);
    b.node("Mul", "hann hamming", "w1", &[]).node("Add", "w1 blackman", "w", &[]);
    b.node("STFT", "x step w four", "frames", &[]);
    b.node("Transpose", "frames", "turned", &[("perm", Value::Is(&[0, 1, 3, 2]))]);
    b.node("MelWeightMatrix", "bands four rate low high", "mel", &[]).node("MatMul", "turned mel", "m", &[]);

    b.input("t", DataType::Float, &[1, 2, 3]).constant(ints("size", DataType::Int64, &[4], &[1, 1, 3, 2]));
    b.node("AffineGrid", "t size", "grid", &[("align_corners", Value::I(1))]);
    b.input("s", DataType::Float, &[2, 3, 3]).node("Det", "s", "det", &[]);

    b.input("c", DataType::Float, &[1, 4, 3]).input("past", DataType::Float, &[1, 4, 1]);
    b.constant(floats("cw", &[4, 1, 2])).constant(floats("cb", &[4]));
    b.node("CausalConvWithState", "c cw cb past", "cy cs", &[("activation", Value::S("silu"))]);
    b.input("q", DataType::Float, &[1, 2, 4]).input("g", DataType::Float, &[1, 2, 1]);
    let heads = [("q_num_heads", Value::I(2)), ("kv_num_heads", Value::I(1)), ("scale", Value::F(0.5))];
    b.constant(floats("key", &[1, 2, 2])).node("LinearAttention", "q key key _ g g", "ly ls", &heads);

    b.input("n", DataType::Float, &[1, 2, 2]).constant(ints("at", DataType::Int64, &[1], &[2]));
    let circular = [("axis", Value::I(2)), ("mode", Value::S("circular"))];
    b.node("Concat", "n n", "n4", &[("axis", Value::I(1))]).node("TensorScatter", "c n4 at", "ts", &circular);
    b.input("p", DataType::Float, &[1, 1, 2, 2]).input("i", DataType::Int64, &[1, 1, 2, 2]);
    let window = [("kernel_shape", Value::Is(&[2, 2])), ("strides", Value::Is(&[2, 2]))];
    b.node("MaxUnpool", "p i", "up", &window);

    b.node("Einsum", "s t", "e", &[("equation", Value::S("...ii,...ji->...j"))]);
    b.constant(reals("half", &[1.0, 1.0, 0.5, 0.75]))
        .constant(reals("region", &[0.0, 0.0, 0.2, -0.5, 1.0, 1.0, 0.8, 0.9]));
    b.constant(ints("to", DataType::Int64, &[4], &[1, 1, 3, 2]));
    b.node("Resize", "up _ half", "small", &[("mode", Value::S("cubic")), ("antialias", Value::I(1))]);
    let crop = ("coordinate_transformation_mode", Value::S("tf_crop_and_resize"));
    b.node("Resize", "up region _ to", "crop", &[crop, ("mode", Value::S("linear"))]);

    b.node("Dropout", "p", "d mask", &[]).node("OptionalGetElement", "d", "dd", &[]);
    b.node("OptionalHasElement", "dd", "has", &[]).node("And", "mask has", "there", &[]);
    b.node("BitCast", "there", "bits", &[("to", Value::I(2))]);
    let pool = [
        ("mode", Value::S("IDF")),
        ("min_gram_length", Value::I(1)),
        ("max_gram_length", Value::I(2)),
        ("max_skip_count", Value::I(1)),
        ("ngram_counts", Value::Is(&[0, 1])),
        ("ngram_indexes", Value::Is(&[0, 1])),
        ("pool_int64s", Value::Is(&[1, 2, 0])),
        ("weights", Value::Fs(&[0.5, 2.0])),
    ];
    b.node("TfIdfVectorizer", "k", "grams", &pool);
    b.outputs("m grid det cy cs ly ls ts up e small crop dd bits grams").build()
}
