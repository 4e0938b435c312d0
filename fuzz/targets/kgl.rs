//! Any bytes as a `.kgl` file: what loads runs within its memory, with the same outputs on every kernel set in any tiles.
#![no_main]

use kinglet_tests::Random;
use kinglet_tests::hostile::{plan, run};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|bytes: &[u8]| {
    if let Err(e) = run::bytes(bytes) {
        panic!("{e}");
    }
});

// Three of four changes are of words, which libFuzzer's own, of bytes, rarely hit; all have right checksums.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = Random::new(seed.into());
    if random.below(4) == 0 {
        let size = fuzzer_mutate(data, size, max_size);
        plan::reseal(&mut data[..size]);
        return size;
    }
    plan::mutate(&mut data[..size], &mut random);
    size
});
