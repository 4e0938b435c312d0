//! Any bytes as an ONNX file: a typed error, or a plan that loads and runs, with the same outputs on every kernel set in any
//! tiles. libFuzzer bounds time and memory.
#![no_main]

use kinglet_onnx::ModelProto;
use kinglet_tests::Random;
use kinglet_tests::hostile::{model, structure};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|bytes: &[u8]| {
    if let Err(e) = model::through(bytes) {
        panic!("{e}");
    }
});

// Three of four changes are of the structure of what decodes, the others of bytes.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = Random::new(seed.into());
    let decoded = ModelProto::from_bytes(&data[..size]).ok().filter(|_| random.below(4) > 0);
    let Some(mut changed) = decoded else { return fuzzer_mutate(data, size, max_size) };
    for _ in 0..1 + random.below(3) {
        structure::mutate(&mut changed, &mut random);
    }
    let bytes = changed.to_bytes();
    if bytes.len() > max_size {
        return fuzzer_mutate(data, size, max_size);
    }
    data[..bytes.len()].copy_from_slice(&bytes);
    bytes.len()
});
