//! Log-mel frames against their definition in f64, and that nothing but the samples has a say in their bits.

use std::f64::consts::TAU;

use kinglet_audio::{Error, LogMel, LogMelConfig};
use proptest::prelude::*;

const SPEECH: LogMelConfig =
    LogMelConfig { sample_rate: 16_000, window: 512, hop: 320, mels: 40, fmin: 60.0, fmax: 7600.0, floor: 1e-4 };

/// Unit roundoff of f32.
const U: f64 = 1.0 / (1 << 24) as f64;

fn frames(config: LogMelConfig, samples: &[f32]) -> Vec<Vec<f32>> {
    let mut memory = vec![f32::NAN; config.memory()];
    let mut out = Vec::new();
    LogMel::new(config, &mut memory).unwrap().push(samples, |frame| out.push(frame.to_vec()));
    out
}

/// One frame by its definition, each value with how far f32 arithmetic may be from it.
fn definition(config: &LogMelConfig, samples: &[f32]) -> Vec<(f64, f64)> {
    let n = config.fft();
    let hann = |i: usize| 0.5 - 0.5 * (TAU * i as f64 / config.window as f64).cos();
    let x: Vec<f64> = samples.iter().enumerate().map(|(i, &s)| f64::from(s) * hann(i)).collect();
    // ‖error of X‖ ≤ levels · 7u · ‖X‖ (Higham, Accuracy and Stability of Numerical Algorithms, theorem 24.2, with roots
    // of unity rounded to f32), one more level for taking even and odd samples apart, and 3u for the products with the
    // window. One bin may have all of it.
    let norm = (n as f64 * x.iter().map(|v| v * v).sum::<f64>()).sqrt();
    let off = ((f64::from(n.ilog2()) + 1.0) * 7.0 + 3.0) * U * norm;
    let power: Vec<f64> = (0..=n / 2)
        .map(|k| {
            let turn = |i: usize| TAU * ((i * k) % n) as f64 / n as f64;
            let re: f64 = x.iter().enumerate().map(|(i, v)| v * turn(i).cos()).sum();
            let im: f64 = x.iter().enumerate().map(|(i, v)| v * turn(i).sin()).sum();
            re * re + im * im
        })
        .collect();
    let mel = |hz: f64| 1127.0 * (1.0 + hz / 700.0).ln();
    let (low, high) = (mel(config.fmin.into()), mel(config.fmax.into()));
    let position = |k: usize| {
        let hz = k as f64 * f64::from(config.sample_rate) / n as f64;
        (mel(hz) - low) / (high - low) * (config.mels + 1) as f64
    };
    let floor = f64::from(config.floor);
    (1..=config.mels)
        .map(|peak| {
            let (mut energy, mut error, mut bins) = (0.0, 0.0, 0.0);
            for (k, &p) in power.iter().enumerate().skip(1) {
                let weight = (1.0 - (position(k) - peak as f64).abs()).max(0.0);
                if weight > 0.0 {
                    energy += weight * p;
                    bins += 1.0;
                    // The power, then its weight, which is rounded once or twice.
                    error += weight * (2.0 * p.sqrt() * off + off * off + 3.0 * U * p) + 2.0 * U * p;
                }
            }
            error += (bins + 1.0) * U * energy;
            let value = energy.max(floor).ln();
            (value, error / (energy - error).max(floor) + 2.0 * U * value.abs())
        })
        .collect()
}

fn check(config: LogMelConfig, samples: &[f32]) {
    let got = frames(config, samples);
    assert_eq!(got.len(), config.frames(samples.len()));
    for (t, frame) in got.iter().enumerate() {
        let want = definition(&config, &samples[t * config.hop..][..config.window]);
        for (m, (&g, (w, bound))) in frame.iter().zip(want).enumerate() {
            assert!((f64::from(g) - w).abs() <= bound, "frame {t}, mel {m}: {g}, not {w} ± {bound}: {config:?}");
        }
    }
}

/// Parameters that give frames.
fn configs() -> impl Strategy<Value = LogMelConfig> {
    let numbers = (4000u32..48_000, 4usize..700, 1usize..800, 1usize..64, 0.0f32..0.3, 0.5f32..1.0, -12.0f32..0.0);
    numbers
        .prop_map(|(sample_rate, window, hop, mels, fmin, fmax, floor)| {
            let nyquist = sample_rate as f32 / 2.0;
            let (fmin, fmax, floor) = (fmin * nyquist, fmax * nyquist, floor.exp());
            LogMelConfig { sample_rate, window, hop, mels, fmin, fmax, floor }
        })
        .prop_filter("a triangle has no bin", |c| LogMel::new(*c, &mut vec![0.0; c.memory()]).is_ok())
}

/// Samples of different kinds: noise, a tone, silence with a few clicks, and 16-bit numbers.
fn signals(n: usize) -> impl Strategy<Value = Vec<f32>> {
    prop_oneof![
        (prop::collection::vec(-1.0f32..1.0, n), -12.0f32..0.0)
            .prop_map(|(v, level)| v.iter().map(|s| s * level.exp()).collect()),
        (0.0f32..3.2, 0.0f32..1.0)
            .prop_map(move |(turn, level)| (0..n).map(|i| level * (turn * i as f32).sin()).collect()),
        prop::collection::vec(prop_oneof![50 => Just(0.0f32), 1 => -1.0f32..1.0], n),
        prop::collection::vec(any::<i16>().prop_map(|v| f32::from(v) / 32768.0), n),
    ]
}

proptest! {
    #[test]
    fn frames_are_what_the_definition_says(
        (config, samples) in configs().prop_flat_map(|c| (Just(c), signals(c.window + 2 * c.hop)))
    ) {
        check(config, &samples);
    }

    #[test]
    fn pieces_do_not_matter(
        (config, samples) in configs().prop_flat_map(|c| (Just(c), signals(c.window + 3 * c.hop + 17))),
        cuts in prop::collection::vec(0usize..500, 1..40),
    ) {
        let mut memory = vec![0.0; config.memory()];
        let mut log_mel = LogMel::new(config, &mut memory).unwrap();
        let (mut got, mut rest) = (Vec::new(), &samples[..]);
        for cut in cuts.into_iter().chain([samples.len()]) {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            log_mel.push(piece, |frame| got.extend(frame.iter().map(|v| v.to_bits())));
            rest = after;
        }
        let want: Vec<u32> = frames(config, &samples).concat().iter().map(|v| v.to_bits()).collect();
        prop_assert_eq!(got, want);
    }

    #[test]
    fn counts_of_frames_and_samples_agree(config in configs(), n in 1usize..100) {
        let samples = config.samples(n);
        prop_assert_eq!((config.frames(samples), config.frames(samples - 1)), (n, n - 1));
    }
}

#[test]
fn the_parameters_of_speech_agree_with_the_definition() {
    let chirp: Vec<f32> = (0..16_000).map(|i| 0.3 * (i as f32 * i as f32 * 9e-5).sin()).collect();
    check(SPEECH, &chirp);
    for (window, mels) in [(4, 1), (1024, 80), (400, 30)] {
        check(LogMelConfig { window, mels, ..SPEECH }, &chirp[..4000]);
    }
}

/// A second of noise, the same everywhere.
fn noise() -> Vec<i16> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as i16
    };
    (0..16_000).map(|_| next()).collect()
}

#[test]
fn bits_are_the_same_everywhere() {
    let mut memory = [0.0; SPEECH.memory()];
    // FNV-1a of all bytes, as an x86-64 machine has them.
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    LogMel::new(SPEECH, &mut memory).unwrap().push(&noise(), |frame| {
        for byte in frame.iter().flat_map(|v| v.to_le_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    });
    assert_eq!(hash, 0x391c_7a62_14ab_daf0);
}

#[test]
fn sixteen_bits_are_reals_and_a_reset_begins_anew() {
    let reals: Vec<f32> = noise().iter().map(|&s| f32::from(s) / 32768.0).collect();
    let want = frames(SPEECH, &reals);
    let mut memory = [0.0; SPEECH.memory()];
    let mut log_mel = LogMel::new(SPEECH, &mut memory).unwrap();
    log_mel.push(&noise()[..7777], |_| {});
    log_mel.reset();
    let mut got = Vec::new();
    log_mel.push(&noise(), |frame| got.push(frame.to_vec()));
    assert_eq!(got, want);
}

#[test]
fn what_is_no_number_stays_none() {
    let mut samples = vec![0.0f32; 1152];
    samples[600] = f32::NAN;
    let got = frames(SPEECH, &samples);
    let is_nan: Vec<bool> = got.iter().map(|f| f.iter().all(|v| v.is_nan())).collect();
    assert_eq!(is_nan, [false, true, false]);
}

#[test]
fn parameters_that_give_no_frames_are_refused() {
    let mut memory = vec![0.0; 1 << 20];
    let mut new = |config: LogMelConfig| LogMel::new(config, &mut memory).map(|_| ()).unwrap_err();
    for window in [0, 3, 65_537, usize::MAX] {
        assert_eq!(new(LogMelConfig { window, ..SPEECH }), Error::Window);
    }
    assert_eq!(new(LogMelConfig { hop: 0, ..SPEECH }), Error::Hop);
    for mels in [0, 257, usize::MAX] {
        assert_eq!(new(LogMelConfig { mels, ..SPEECH }), Error::Mels);
    }
    for (fmin, fmax) in [(-1.0, 8000.0), (0.0, 8001.0), (500.0, 500.0), (f32::NAN, 8000.0), (0.0, f32::NAN)] {
        assert_eq!(new(LogMelConfig { fmin, fmax, ..SPEECH }), Error::Range);
    }
    for floor in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-40] {
        assert_eq!(new(LogMelConfig { floor, ..SPEECH }), Error::Floor);
    }
    assert!(matches!(new(LogMelConfig { mels: 200, ..SPEECH }), Error::EmptyTriangle(_)));
    // Bins lie 31.25 Hz apart: one on the lower corner of a triangle does not count.
    assert_eq!(new(LogMelConfig { mels: 1, fmin: 31.25, fmax: 62.4, ..SPEECH }), Error::EmptyTriangle(0));
    assert!(LogMel::new(LogMelConfig { mels: 1, fmin: 31.2, fmax: 62.4, ..SPEECH }, &mut vec![0.0; 4000]).is_ok());
    let needed = SPEECH.memory();
    assert_eq!(LogMel::new(SPEECH, &mut vec![0.0; needed - 1]).map(|_| ()), Err(Error::Memory { needed }));
}
