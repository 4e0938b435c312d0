//! Models: the zoo, and small trained ones of Kinglet's own.
//!
//! [`zoo`] writes published architectures as ONNX files. The trained models are ONNX files with samples; each has a
//! folder of its own that tells how it was trained. Their bytes are compiled in, so that an example or a test needs no
//! file.
#![forbid(unsafe_code)]

pub mod zoo;

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

/// Spoken words: an LMUFormer-style classifier of a second of speech into twelve words, "unknown" and "silence" (see
/// `keywords/README.md`).
///
/// Input `frames` `[1, 49, 40]` f32, which are log-mel frames, output `logits` `[1, 14]` f32. The files' metadata says
/// how samples become frames.
pub mod keywords {
    /// The model in f32.
    pub const F32: &[u8] = include_bytes!("../keywords/keywords.onnx");
    /// The model quantised to int8 (QDQ), with float input, memory and output.
    pub const INT8: &[u8] = include_bytes!("../keywords/keywords_int8.onnx");
    /// [`SAMPLES`] as normalised frames, with ONNX Runtime's outputs: an `.npz` with `frames` `[n, 49, 40]`, and `f32`,
    /// `int8`, `int8_noopt` `[n, 14]`.
    pub const VECTORS: &[u8] = include_bytes!("../keywords/samples/vectors.npz");
    /// Words said by voices never heard in training: the word, and a WAV file of at most a second at 16 kHz. What it is
    /// short of a second is silence.
    pub const SAMPLES: [(&str, &[u8]); 3] = [
        ("yes", include_bytes!("../keywords/samples/yes_flite-slt.wav")),
        ("stop", include_bytes!("../keywords/samples/stop_espeak-m3-noisy.wav")),
        ("forward", include_bytes!("../keywords/samples/forward_festival-slt-noisy.wav")),
    ];
}
