//! Log-mel frames in bulk: raw clips on standard input, their frames on standard output.
//!
//! ```console
//! $ cargo run --release -p kinglet-audio --example features -- 16000 512 320 40 60 7600 1e-4 16000 <clips.raw >frames.raw
//! ```
//!
//! The arguments are sample rate, window, hop, mels, fmin, fmax, floor and the samples of a clip. A clip is so many samples
//! of 16 bits, little-endian; each begins a new stream. Frames are f32, little-endian. The training scripts in `models/`
//! call this, so that a model hears in training what it hears on a device.

use std::io::{Read, Write};

use kinglet_audio::{LogMel, LogMelConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [sample_rate, window, hop, mels, fmin, fmax, floor, clip] = &args[..] else {
        return Err("expected: SAMPLE_RATE WINDOW HOP MELS FMIN FMAX FLOOR CLIP".into());
    };
    let config = LogMelConfig {
        sample_rate: sample_rate.parse()?,
        window: window.parse()?,
        hop: hop.parse()?,
        mels: mels.parse()?,
        fmin: fmin.parse()?,
        fmax: fmax.parse()?,
        floor: floor.parse()?,
    };
    let mut memory = vec![0.0; config.memory()];
    let mut log_mel = LogMel::new(config, &mut memory)?;
    let mut bytes = vec![0; 2 * clip.parse::<usize>()?];
    let mut samples = vec![0i16; bytes.len() / 2];
    let (mut input, mut frames) = (std::io::stdin().lock(), Vec::new());
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    loop {
        match input.read_exact(&mut bytes) {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => break,
            result => result?,
        }
        for (sample, pair) in samples.iter_mut().zip(bytes.chunks_exact(2)) {
            *sample = i16::from_le_bytes([pair[0], pair[1]]);
        }
        frames.clear();
        log_mel.reset();
        log_mel.push(&samples, |frame| frames.extend(frame.iter().flat_map(|v| v.to_le_bytes())));
        output.write_all(&frames)?;
    }
    Ok(output.flush()?)
}
