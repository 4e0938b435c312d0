//! Samples to words.

use kinglet::{Arena, Clock, Kernels, Session};
use kinglet_audio::LogMel;

use crate::decision::{Decision, Settings};
use crate::model::{CONFIG, FRAMES, LABELS, MEAN, SILENCE, STD, keywords};

/// New frames between two runs of the model: 160 ms.
pub const EVERY: usize = 8;

/// A word counts once it is likelier than all else in the mean of three answers, which are half a second; then none counts for a second.
pub const SETTINGS: Settings = Settings { others: 2, smoothing: 3, threshold: 0.5, refractory: 6 };

const MELS: usize = CONFIG.mels;
const HOP: u64 = CONFIG.hop as u64;

/// The memory of a [`Spotter`]: a `static`.
pub struct Buffers {
    log_mel: [f32; CONFIG.memory()],
    arena: Arena<{ keywords::ARENA }>,
}

impl Buffers {
    /// Zeros.
    pub const fn new() -> Self {
        Buffers { log_mel: [0.0; CONFIG.memory()], arena: Arena::new() }
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new()
    }
}

/// A word that was said.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Detection {
    /// The word.
    pub label: &'static str,
    /// Its averaged probability, 0 to 1.
    pub probability: f32,
    /// Milliseconds of sound from the first sample to the end of the frames that it was heard in.
    pub at_ms: u32,
}

/// Hears words in a stream of samples, 16 bits at [`CONFIG`]`.sample_rate`.
pub struct Spotter<'b, K: Kernels> {
    log_mel: LogMel<'b>,
    session: Session<'b, K>,
    decision: Decision<{ LABELS.len() }>,
    /// The newest frames as the model takes them, a ring `[FRAMES, MELS]`.
    frames: [[i8; MELS]; FRAMES],
    /// Frames so far.
    count: u64,
    /// Ticks that runs of the model took in all, and the longest.
    pub(crate) model_ticks: (u64, u64),
}

impl<'b, K: Kernels> Spotter<'b, K> {
    /// Before the first sample.
    ///
    /// # Errors
    /// [`kinglet::Error::Kernels`] if the kernels are none for the model's target; damage to the model. (The parameters of the frames come from the model.)
    pub fn new(buffers: &'b mut Buffers, kernels: &'b K) -> Result<Self, kinglet::Error> {
        let log_mel = LogMel::new(CONFIG, &mut buffers.log_mel).map_err(|_| kinglet::Error::WrongLength)?;
        let session = keywords::session(&mut buffers.arena.0, kernels)?;
        Ok(Spotter {
            log_mel,
            session,
            decision: Decision::new(SETTINGS),
            frames: [[quantized(SILENCE); MELS]; FRAMES],
            count: 0,
            model_ticks: (0, 0),
        })
    }

    /// Takes the next samples, however many, and calls `each` with a word whenever one was said. `clock` measures how long the model runs.
    ///
    /// # Errors
    /// A run's, which there are none of: the model's data has no faults.
    pub fn push(
        &mut self,
        samples: &[i16],
        clock: &impl Clock,
        mut each: impl FnMut(Detection),
    ) -> Result<(), kinglet::Error> {
        let Spotter { log_mel, session, decision, frames, count, model_ticks } = self;
        let mut result = Ok(());
        log_mel.push(samples, |frame| {
            let at = (*count % FRAMES as u64) as usize;
            for (to, &v) in frames[at].iter_mut().zip(frame) {
                *to = quantized(v);
            }
            *count += 1;
            if !count.is_multiple_of(EVERY as u64) {
                return;
            }
            let before = clock.ticks();
            let answer = run(session, frames, at + 1);
            let took = clock.ticks().wrapping_sub(before);
            *model_ticks = (model_ticks.0 + took, model_ticks.1.max(took));
            match answer.map(|logits| decision.take(logits)) {
                Ok(None) => {}
                Ok(Some((word, probability))) => {
                    let samples = CONFIG.window as u64 + (*count - 1) * HOP;
                    let at_ms = (samples * 1000 / u64::from(CONFIG.sample_rate)) as u32;
                    each(Detection { label: LABELS[word], probability, at_ms });
                }
                Err(error) => result = Err(error),
            }
        });
        result
    }
}

/// Runs the model on the frames, of which that at `oldest` is the oldest; gives its logits.
fn run<K: Kernels>(
    session: &mut Session<'_, K>,
    frames: &[[i8; MELS]; FRAMES],
    oldest: usize,
) -> Result<[f32; LABELS.len()], kinglet::Error> {
    let input = keywords::inputs::FRAMES.of(session)?;
    let (newest, first) = frames.split_at(oldest);
    for (to, from) in input.chunks_exact_mut(MELS).zip(first.iter().chain(newest)) {
        to.copy_from_slice(from);
    }
    session.run()?;
    let output = keywords::outputs::LOGITS;
    let mut logits = [0.0; LABELS.len()];
    for (to, &q) in logits.iter_mut().zip(output.of(session)?) {
        *to = (i32::from(q) - output.zero_point) as f32 * output.scale;
    }
    Ok(logits)
}

/// A number of a frame as the model takes it.
fn quantized(v: f32) -> i8 {
    let input = keywords::inputs::FRAMES;
    kinglet::quant::quantize((v - MEAN) / STD, input.scale, input.zero_point, -128, 127) as i8
}
