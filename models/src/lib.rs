//! Small trained models of Kinglet's own, as ONNX files with samples. Each has a folder of its own that tells how it was
//! trained; the bytes are compiled in, so that an example or a test needs no file.
#![forbid(unsafe_code)]

/// Printed characters: a VanillaNet-style classifier of 62 classes (see `glyphs/README.md`).
///
/// Input `image` `[batch, 1, 32, 32]` f32, output `logits` `[batch, 62]` f32.
pub mod glyphs {
    /// The model in f32.
    pub const F32: &[u8] = include_bytes!("../glyphs/glyphs.onnx");
    /// The model quantised to int8 (QDQ), with float input and output.
    pub const INT8: &[u8] = include_bytes!("../glyphs/glyphs_int8.onnx");
    /// Samples of fonts never seen in training, preprocessed, with ONNX Runtime's outputs: an `.npz` with `image`
    /// `[n, 1, 32, 32]`, and `f32`, `int8`, `int8_noopt` `[n, 62]`.
    pub const VECTORS: &[u8] = include_bytes!("../glyphs/samples/vectors.npz");
}
