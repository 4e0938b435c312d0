//! A sound as the input of a model.

use std::path::{Path, PathBuf};

use clap::Args;
use hound::{SampleFormat, WavReader};
use kinglet::{DType, Tensor};
use kinglet_audio::{LogMel, LogMelConfig};
use kinglet_compiler::{DimInfo, InputInfo};

use crate::error::{Error, Result};
use crate::inputs::describe;
use crate::memory::{self, room};
use crate::model::Source;
use crate::values;

/// Most samples that a sound and the silence after it may have: two hours at 16 kHz.
const MAX_SAMPLES: usize = 1 << 27;
/// Most values that its frames may have.
const MAX_VALUES: usize = 1 << 27;

/// The sound.
#[derive(Args, Debug)]
pub struct AudioFlags {
    /// A WAV file for the input that nothing else is given for
    ///
    /// A WAV file for the input that nothing else is given for, which the model's metadata (`kinglet.audio.…`) says how to
    /// make into log-mel frames. It may have integer samples of 8 to 32 bits or floats, and the model's sample rate;
    /// several channels are averaged. What is shorter than the model's input is followed by silence. What is longer is cut
    /// into windows that overlap by one half, and the model runs on each: results are printed window by window, and
    /// --outputs writes them with one more axis in front.
    #[arg(long, value_name = "FILE", conflicts_with = "image")]
    pub audio: Option<PathBuf>,
}

/// A sound made into numbers for one input.
#[derive(Debug)]
pub struct Sound {
    /// The input.
    pub name: String,
    /// Its shape: batch 1, frames, mels.
    pub shape: Vec<usize>,
    /// The windows, in order of time.
    pub windows: Vec<Window>,
}

/// A stretch of a sound.
#[derive(Debug)]
pub struct Window {
    /// When it begins and ends, in seconds.
    pub seconds: (f64, f64),
    /// One value an element, in the input's order.
    values: Vec<f32>,
}

/// What the metadata says.
struct Settings {
    config: LogMelConfig,
    mean: f32,
    std: f32,
}

/// Reads the sound for `input`.
pub fn read(path: &Path, input: &InputInfo, source: &Source) -> Result<Sound> {
    let (fixed, mels) = place(input)?;
    let settings = Settings::of(source, mels)?;
    let config = settings.config;
    let no_frames = |e: &dyn std::fmt::Display| {
        Error::failed(format!("metadata kinglet.audio: no frames for input {}: {e}", describe(input)))
    };
    let mut block = room(config.memory()).map_err(|e| no_frames(&e))?;
    block.resize(config.memory(), 0.0);
    let mut log_mel = LogMel::new(config, &mut block).map_err(|e| no_frames(&e))?;
    let mut samples = decode(path, &config)?;
    let there = config.frames(samples.len());
    // An input whose number of frames is free takes the whole sound.
    let frames = fixed.unwrap_or(there.max(1));
    let step = (frames / 2).max(1);
    let windows = 1 + there.saturating_sub(frames).div_ceil(step);
    let all = frames.saturating_add((windows - 1).saturating_mul(step));
    let needed = config.samples(all).max(samples.len());
    let count = all.max(config.frames(needed)).saturating_mul(mels);
    if needed > MAX_SAMPLES || count > MAX_VALUES {
        let text = format!("{needed} samples, {count} values in frames are too many for input {}", describe(input));
        return Err(Error::failed(text));
    }
    let more = needed - samples.len();
    memory::reserve(&mut samples, more).map_err(|e| Error::file(path, e))?;
    samples.resize(needed, 0.0);
    let mut values = room(count).map_err(|e| Error::file(path, e))?;
    log_mel.push(&samples, |frame| values.extend(frame.iter().map(|v| (v - settings.mean) / settings.std)));
    let seconds = |samples: usize| samples as f64 / f64::from(config.sample_rate);
    let window = |i: usize| {
        let begin = i * step * config.hop;
        let values = values[i * step * mels..][..frames * mels].to_vec();
        Window { seconds: (seconds(begin), seconds(begin + config.samples(frames))), values }
    };
    Ok(Sound { name: input.name.clone(), shape: vec![1, frames, mels], windows: (0..windows).map(window).collect() })
}

/// Frames, where they are fixed, and mels of an input.
fn place(input: &InputInfo) -> Result<(Option<usize>, usize)> {
    let size = |d: &DimInfo| match d {
        DimInfo::Fixed(n) => Some(*n),
        DimInfo::Symbol(_) => None,
    };
    match &input.dims[..] {
        [batch, frames, DimInfo::Fixed(mels)] if size(batch).is_none_or(|n| n == 1) && size(frames) != Some(0) => {
            Ok((size(frames), *mels))
        }
        _ => {
            let text = "a sound needs an input of shape 1xFRAMESxMELS";
            Err(Error::usage(format!("{text}, not {}: prepare the values yourself and use --input", describe(input))))
        }
    }
}

impl Settings {
    fn of(source: &Source, mels: usize) -> Result<Settings> {
        fn number<T: std::str::FromStr>(source: &Source, name: &str) -> Result<Option<T>> {
            let key = format!("kinglet.audio.{name}");
            let Some(text) = source.metadata(&key) else { return Ok(None) };
            let number =
                text.trim().parse().map_err(|_| Error::failed(format!("metadata {key}: `{text}` is no number")));
            number.map(Some)
        }
        fn required<T: std::str::FromStr>(source: &Source, name: &str) -> Result<T> {
            number(source, name)?.ok_or_else(|| {
                let text = "the model does not say how it listens: prepare its input yourself and use --input";
                Error::usage(format!("no metadata kinglet.audio.{name}: {text}"))
            })
        }
        let config = LogMelConfig {
            sample_rate: required(source, "sample_rate")?,
            window: required(source, "window")?,
            hop: required(source, "hop")?,
            mels,
            fmin: required(source, "fmin")?,
            fmax: required(source, "fmax")?,
            floor: required(source, "floor")?,
        };
        let mean = number(source, "mean")?.unwrap_or(0.0f32);
        let std = number(source, "std")?.unwrap_or(1.0f32);
        if !mean.is_finite() || !std.is_finite() || std == 0.0 {
            return Err(Error::failed(format!("metadata kinglet.audio: mean {mean} and std {std} give no numbers")));
        }
        Ok(Settings { config, mean, std })
    }
}

/// The samples in −1..1, channels averaged.
fn decode(path: &Path, config: &LogMelConfig) -> Result<Vec<f32>> {
    let file = std::fs::File::open(path).map_err(|e| Error::file(path, e))?;
    let fail = |e: hound::Error| Error::file(path, format_args!("cannot read it as a WAV file: {e}"));
    let reader = WavReader::new(std::io::BufReader::new(file)).map_err(fail)?;
    let spec = reader.spec();
    if spec.sample_rate != config.sample_rate {
        let (found, wanted, name) = (spec.sample_rate, config.sample_rate, path.display());
        let way = format!("`ffmpeg -i {name} -ar {wanted} OUT.wav` or `sox {name} -r {wanted} OUT.wav`");
        let text = format!("it has {found} samples a second, the model needs {wanted}: convert it with {way}");
        return Err(Error::file(path, text));
    }
    let channels = usize::from(spec.channels).max(1);
    if reader.len() as usize > MAX_SAMPLES {
        return Err(Error::file(
            path,
            format_args!("{} samples are too many, at most {MAX_SAMPLES} are read", reader.len()),
        ));
    }
    let samples: std::result::Result<Vec<f32>, hound::Error> = match spec.sample_format {
        SampleFormat::Float => reader.into_samples().collect(),
        SampleFormat::Int => {
            let full = f64::from(1u32 << (spec.bits_per_sample.clamp(1, 32) - 1));
            reader.into_samples::<i32>().map(|s| s.map(|s| (f64::from(s) / full) as f32)).collect()
        }
    };
    let samples = samples.map_err(fail)?;
    if samples.is_empty() {
        return Err(Error::file(path, "the WAV file has no samples"));
    }
    if samples.iter().any(|s| !s.is_finite()) {
        return Err(Error::file(path, "a sample is not a finite number"));
    }
    let average = |c: &[f32]| (c.iter().map(|&s| f64::from(s)).sum::<f64>() / channels as f64) as f32;
    Ok(samples.chunks_exact(channels).map(average).collect())
}

impl Sound {
    /// The bytes that window `i` has as the input that `tensor` describes: reals as they are, or quantised as it is.
    pub fn bytes(&self, i: usize, tensor: &Tensor) -> Result<Vec<u8>> {
        let values = &self.windows[i].values;
        if tensor.dtype() == DType::F32 {
            return Ok(values.iter().flat_map(|v| v.to_le_bytes()).collect());
        }
        // A scale of 1 is what integers have that nothing gives a meaning to.
        let quantization = tensor.quantization().filter(|&q| q != (1.0, 0));
        quantization.and_then(|q| values::quantized(values, tensor.dtype(), q)).ok_or_else(|| {
            let text = "the model does not say how its numbers stand for log-mel frames: prepare them and use --input";
            Error::usage(format!("input `{}` has type {}: {text}", self.name, tensor.dtype().name()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TempDir, tensor};
    use hound::{WavSpec, WavWriter};
    use kinglet_onnx::{ModelProto, StringStringEntryProto};

    /// 8 samples of window, 4 of hop, at 8 kHz.
    const METADATA: [(&str, &str); 8] = [
        ("sample_rate", "8000"),
        ("window", "8"),
        ("hop", "4"),
        ("fmin", "0"),
        ("fmax", "4000"),
        ("floor", "1e-4"),
        ("mean", "-5"),
        ("std", "4"),
    ];

    fn source(metadata: &[(&str, &str)]) -> Source {
        let entry =
            |(k, v): &(&str, &str)| StringStringEntryProto { key: format!("kinglet.audio.{k}"), value: v.to_string() };
        let model = ModelProto { metadata_props: metadata.iter().map(entry).collect(), ..Default::default() };
        Source::with_metadata(model.to_bytes())
    }

    fn without(name: &str) -> Vec<(&'static str, &'static str)> {
        METADATA.into_iter().filter(|(k, _)| *k != name).collect()
    }

    fn with(name: &'static str, value: &'static str) -> Vec<(&'static str, &'static str)> {
        without(name).into_iter().chain([(name, value)]).collect()
    }

    fn input(dims: &[Option<usize>]) -> InputInfo {
        let dim = |d: &Option<usize>| d.map_or(DimInfo::Symbol("n".into()), DimInfo::Fixed);
        InputInfo {
            name: "x".into(),
            dtype: DType::F32,
            dims: dims.iter().map(dim).collect(),
            ranked: true,
            has_default: false,
        }
    }

    /// A file of `samples`, which are 128 times what they are, in a format.
    fn wav(dir: &TempDir, channels: u16, bits: u16, format: SampleFormat, samples: &[i32]) -> PathBuf {
        let path = dir.path().join(format!("{channels}x{bits}{format:?}.wav"));
        let spec = WavSpec { channels, sample_rate: 8000, bits_per_sample: bits, sample_format: format };
        let mut file = WavWriter::create(&path, spec).unwrap();
        for &s in samples {
            match format {
                SampleFormat::Float => file.write_sample(s as f32 / 128.0).unwrap(),
                SampleFormat::Int => file.write_sample(s << (bits - 8)).unwrap(),
            }
        }
        file.finalize().unwrap();
        path
    }

    fn noise(n: usize) -> Vec<i32> {
        (0..n as i32).map(|i| (i * i * 37 + i * 11) % 256 - 128).collect()
    }

    /// Normalised frames of samples, one after another.
    fn frames(samples: &[i32], mels: usize) -> Vec<f32> {
        let mut config = Settings::of(&source(&METADATA), mels).unwrap().config;
        config.mels = mels;
        let mut memory = vec![0.0; config.memory()];
        let mut out = Vec::new();
        let samples: Vec<f32> = samples.iter().map(|&s| s as f32 / 128.0).collect();
        LogMel::new(config, &mut memory).unwrap().push(&samples, |f| out.extend(f.iter().map(|v| (v + 5.0) / 4.0)));
        out
    }

    #[test]
    fn every_format_gives_the_same_frames() {
        let (dir, x) = (TempDir::new(), input(&[Some(1), Some(3), Some(2)]));
        let samples = noise(16);
        let want = frames(&samples, 2);
        let formats = [8, 16, 24, 32].map(|bits| (bits, SampleFormat::Int));
        for (bits, format) in formats.into_iter().chain([(32, SampleFormat::Float)]) {
            let sound = read(&wav(&dir, 1, bits, format, &samples), &x, &source(&METADATA)).unwrap();
            assert_eq!((&sound.name[..], &sound.shape[..], sound.windows.len()), ("x", &[1, 3, 2][..], 1));
            assert_eq!(sound.windows[0].values, want, "{bits} {format:?}");
        }
        let stereo: Vec<i32> =
            samples.iter().flat_map(|&s| [s.clamp(-100, 100) + 20, s.clamp(-100, 100) - 20]).collect();
        let mono: Vec<i32> = samples.iter().map(|&s| s.clamp(-100, 100)).collect();
        let sound = read(&wav(&dir, 2, 16, SampleFormat::Int, &stereo), &x, &source(&METADATA)).unwrap();
        assert_eq!(sound.windows[0].values, frames(&mono, 2));
    }

    #[test]
    fn windows_overlap_by_half_and_silence_fills_the_last() {
        let (dir, x) = (TempDir::new(), input(&[Some(1), Some(4), Some(2)]));
        // Four frames are 20 samples; two more frames make another window.
        for (samples, windows) in [(1, 1), (8, 1), (20, 1), (23, 1), (24, 2), (28, 2), (32, 3), (36, 3)] {
            let samples = noise(samples);
            let path = wav(&dir, 1, 16, SampleFormat::Int, &samples);
            let sound = read(&path, &x, &source(&METADATA)).unwrap();
            assert_eq!(sound.windows.len(), windows, "{} samples", samples.len());
            let mut longer = samples.clone();
            longer.resize(100, 0);
            for (i, w) in sound.windows.iter().enumerate() {
                assert_eq!(w.values, frames(&longer[i * 8..i * 8 + 20], 2), "{} samples, window {i}", samples.len());
                assert_eq!(w.seconds, ((i * 8) as f64 / 8000.0, (i * 8 + 20) as f64 / 8000.0));
            }
        }
        // With free frames there is one window of them all.
        let path = wav(&dir, 1, 16, SampleFormat::Int, &noise(37));
        let sound = read(&path, &input(&[None, None, Some(2)]), &source(&METADATA)).unwrap();
        assert_eq!((&sound.shape[..], sound.windows.len()), (&[1, 8, 2][..], 1));
        assert_eq!(sound.windows[0].values, frames(&noise(37), 2));
    }

    #[test]
    fn files_that_are_no_sound_say_so() {
        let (dir, x) = (TempDir::new(), input(&[Some(1), Some(4), Some(2)]));
        let fails = |path: &Path, metadata: &[(&str, &str)], words: &str| {
            let error = read(path, &x, &source(metadata)).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, Error::Failed(_)) && text.contains(words), "no `{words}` in: {text}");
            assert!(text.contains(&path.display().to_string()), "{text}");
        };
        let good = wav(&dir, 1, 16, SampleFormat::Int, &noise(20));
        fails(&good, &with("sample_rate", "11025"), "ffmpeg");
        fails(&dir.path().join("none.wav"), &METADATA, "none.wav");
        fails(&wav(&dir, 2, 8, SampleFormat::Int, &[]), &METADATA, "no samples");
        let float = wav(&dir, 1, 32, SampleFormat::Float, &noise(20));
        let mut bytes = std::fs::read(&float).unwrap();
        let at = bytes.len() - 4;
        bytes[at..].copy_from_slice(&f32::NAN.to_le_bytes());
        std::fs::write(&float, &bytes).unwrap();
        fails(&float, &METADATA, "finite");
        let bytes = std::fs::read(&good).unwrap();
        for n in 0..bytes.len() {
            let cut = dir.path().join("cut.wav");
            std::fs::write(&cut, &bytes[..n]).unwrap();
            fails(&cut, &METADATA, "WAV");
        }
        let text = dir.path().join("text.wav");
        std::fs::write(&text, b"RIFF is no riff, and this file holds a text").unwrap();
        fails(&text, &METADATA, "WAV");
    }

    #[test]
    fn models_that_do_not_listen_say_so() {
        let dir = TempDir::new();
        let path = wav(&dir, 1, 16, SampleFormat::Int, &noise(20));
        let x = input(&[Some(1), Some(4), Some(2)]);
        for name in ["sample_rate", "window", "hop", "fmin", "fmax", "floor"] {
            let error = read(&path, &x, &source(&without(name))).unwrap_err();
            assert!(matches!(error, Error::Usage(_)) && error.to_string().contains(name), "{error}");
        }
        let wrong = [("hop", "0"), ("window", "2"), ("window", "-1"), ("fmax", "9000"), ("std", "0"), ("mean", "x")];
        for (name, value) in wrong.into_iter().chain([("hop", "9999999999999"), ("floor", "0"), ("std", "inf")]) {
            let error = read(&path, &x, &source(&with(name, value))).unwrap_err();
            assert!(matches!(error, Error::Failed(_)), "{name} {value}: {error}");
        }
        for name in ["mean", "std"] {
            assert!(read(&path, &x, &source(&without(name))).is_ok());
        }
        for dims in [&[Some(4), Some(2)][..], &[Some(2), Some(4), Some(2)], &[Some(1), Some(4), None], &[Some(1); 4]] {
            let error = read(&path, &input(dims), &source(&METADATA)).unwrap_err();
            assert!(matches!(error, Error::Usage(_)), "{dims:?}: {error}");
        }
        for dims in [&[Some(1), Some(usize::MAX / 8), Some(2)][..], &[Some(1), Some(4), Some(5)]] {
            assert!(matches!(read(&path, &input(dims), &source(&METADATA)), Err(Error::Failed(_))), "{dims:?}");
        }
    }

    #[test]
    fn frames_are_quantised_as_the_input_is() {
        let dir = TempDir::new();
        let path = wav(&dir, 1, 16, SampleFormat::Int, &[0; 20]);
        let sound = read(&path, &input(&[Some(1), Some(4), Some(2)]), &source(&METADATA)).unwrap();
        // Silence is (ln 1e-4 + 5) / 4 = -1.0526.
        assert_eq!(sound.bytes(0, &tensor(DType::I8, 0.1, 3)).unwrap(), [-8i8 as u8; 8]);
        assert_eq!(sound.bytes(0, &tensor(DType::F32, 1.0, 0)).unwrap().len(), 32);
        assert!(sound.bytes(0, &tensor(DType::I8, 1.0, 0)).is_err());
        assert!(sound.bytes(0, &tensor(DType::I64, 1.0, 0)).is_err());
    }
}
