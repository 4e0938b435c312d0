//! Pictures sampled at computed places, and boxes in them.

use kinglet_onnx::{DataType, ModelProto};

use super::{Builder, Value, floats, ints, reals};

/// (Small: its plan is in the corpus.)
pub(super) fn sampling() -> ModelProto {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[2, 2, 2, 3]).input("g", DataType::Float, &[2, 1, 2, 2]);
    b.input("p", DataType::Float, &[1, 3, 4]).input("s", DataType::Float, &[1, 1, 3]);
    b.constant(ints("k", DataType::Int64, &[1], &[2])).constant(reals("t", &[0.4]));
    let cubic = [("mode", Value::S("cubic")), ("padding_mode", Value::S("reflection"))];
    b.node("GridSample", "x g", "a", &cubic).node("GridSample", "x g", "b", &[("align_corners", Value::I(1))]);
    b.node("NonMaxSuppression", "p s k t", "n", &[]);
    b.input("r", DataType::Float, &[2, 4]).input("i", DataType::Int64, &[2]);
    let bins = [("output_width", Value::I(2)), ("mode", Value::S("max")), ("sampling_ratio", Value::I(1))];
    b.node("RoiAlign", "x r i", "c", &bins).outputs("a b n c").build()
}

/// A convolution whose taps lie at computed places. (It has no steps that other models lack.)
pub(super) fn deformed() -> ModelProto {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[1, 2, 3, 4]).input("o", DataType::Float, &[1, 16, 2, 2]);
    b.input("m", DataType::Float, &[1, 8, 2, 2]).constant(floats("w", &[2, 1, 2, 2])).constant(floats("b", &[2]));
    let of_each = [("group", Value::I(2)), ("offset_group", Value::I(2)), ("dilations", Value::Is(&[1, 2]))];
    b.node("DeformConv", "x w o b m", "y", &of_each).outputs("y").build()
}
