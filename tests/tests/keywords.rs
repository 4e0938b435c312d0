//! The trained keyword spotter of the repository, from samples of sound to its answer, against ONNX Runtime's outputs on
//! voices it never heard.

use std::collections::BTreeMap;

use kinglet_audio::{LogMel, LogMelConfig};
use kinglet_compiler::array::Array;
use kinglet_compiler::{Compiled, Options, compile, import};
use kinglet_models::keywords;
use kinglet_onnx::ModelProto;
use kinglet_tests::{difference, parse_npz, row, run, sqnr};

/// Samples that the model hears.
const SECOND: usize = 16_000;

fn compiled(onnx: &[u8]) -> Compiled {
    let options = Options::default();
    compile(import(onnx, None, &options).expect("imports"), &options).expect("compiles")
}

fn metadata(onnx: &[u8]) -> BTreeMap<String, String> {
    let model = ModelProto::from_bytes(onnx).expect("a valid model");
    model.metadata_props.into_iter().map(|e| (e.key, e.value)).collect()
}

/// Compares every sample.
fn samples(onnx: &[u8], mut compare: impl FnMut(usize, &Array, &BTreeMap<String, Array>)) {
    let vectors = parse_npz(keywords::VECTORS);
    let compiled = compiled(onnx);
    assert_eq!(vectors["frames"].shape, [keywords::SAMPLES.len(), 49, 40]);
    for i in 0..keywords::SAMPLES.len() {
        let out = run(&compiled.kgl, &[("frames".to_string(), row(&vectors["frames"], i))].into());
        compare(i, &out["logits"], &vectors);
    }
}

/// The label of the largest logit.
fn answer(onnx: &[u8], logits: &Array) -> String {
    let metadata = metadata(onnx);
    let values = logits.reals();
    let best = (0..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b])).expect("there are classes");
    metadata["kinglet.labels"].lines().nth(best).expect("a label for each class").to_string()
}

#[test]
fn f32_agrees_with_onnx_runtime() {
    samples(keywords::F32, |i, got, vectors| {
        let (worst, magnitude) = difference(got, &row(&vectors["f32"], i));
        assert!(worst <= 1e-4 * magnitude, "sample {i}: {worst} of {magnitude}");
        assert_eq!(answer(keywords::F32, got), keywords::SAMPLES[i].0);
    });
}

#[test]
fn int8_is_as_close_as_onnx_runtime_is_to_itself() {
    samples(keywords::INT8, |i, got, vectors| {
        // The memory and the quantised sums behind it are in float, whose last bits decide ties of roundings: neither of
        // ONNX Runtime's two outputs is the true one.
        let (fused, literal) = (row(&vectors["int8"], i), row(&vectors["int8_noopt"], i));
        let (best, between) = (sqnr(got, &fused).max(sqnr(got, &literal)), sqnr(&fused, &literal));
        assert!(best >= between || best >= 35.0, "sample {i}: {best} dB, ONNX Runtime to itself {between} dB");
        assert_eq!(answer(keywords::INT8, got), keywords::SAMPLES[i].0);
    });
}

#[test]
fn the_front_end_gives_the_frames_of_training() {
    for onnx in [keywords::F32, keywords::INT8] {
        let metadata = metadata(onnx);
        let number = |name: &str| -> f32 { metadata[&format!("kinglet.audio.{name}")].parse().expect("a number") };
        let config = LogMelConfig {
            sample_rate: number("sample_rate") as u32,
            window: number("window") as usize,
            hop: number("hop") as usize,
            mels: 40,
            fmin: number("fmin"),
            fmax: number("fmax"),
            floor: number("floor"),
        };
        let vectors = parse_npz(keywords::VECTORS);
        let mut memory = vec![0.0; config.memory()];
        let mut log_mel = LogMel::new(config, &mut memory).expect("valid parameters");
        for (i, (_, wav)) in keywords::SAMPLES.iter().enumerate() {
            // The files have nothing between their header of 44 bytes and their samples.
            assert_eq!(&wav[36..40], b"data");
            let mut samples: Vec<i16> = wav[44..].chunks(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
            samples.resize(SECOND, 0);
            let mut frames = Vec::new();
            log_mel.reset();
            log_mel
                .push(&samples, |f| frames.extend(f.iter().map(|v| f64::from((v - number("mean")) / number("std")))));
            assert_eq!(frames, *row(&vectors["frames"], i).reals(), "sample {i}");
        }
    }
}
