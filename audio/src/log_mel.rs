//! Samples to log-mel frames, piece by piece.

use core::f64::consts::TAU;

use crate::config::{Error, LogMelConfig};
use crate::fft::{fill_twiddles, power_spectrum};

/// A type of sample that [`LogMel::push`] takes.
pub trait Sample: Copy + sealed::Sealed {
    /// The sample in −1..1.
    fn to_f32(self) -> f32;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for i16 {}
    impl Sealed for f32 {}
}

impl Sample for i16 {
    fn to_f32(self) -> f32 {
        f32::from(self) / 32768.0
    }
}

impl Sample for f32 {
    fn to_f32(self) -> f32 {
        self
    }
}

/// A stream of samples becoming log-mel frames.
#[derive(Debug)]
pub struct LogMel<'m> {
    config: LogMelConfig,
    /// Hann window `[window]`.
    window: &'m [f32],
    /// Twiddles of the Fourier transform `[fft]`.
    twiddles: &'m [f32],
    /// Of bin k, at k − 1, how far it lies from one corner of the mel scale to the next, 0 to 1 `[fft / 2]`.
    weights: &'m [f32],
    /// The first bin at or above each corner of the mel scale `[mels + 2]`. Whole numbers this small are exact in f32.
    corners: &'m [f32],
    /// The newest samples, a ring `[window]`.
    samples: &'m mut [f32],
    /// What becomes the power spectrum `[fft]`.
    spectrum: &'m mut [f32],
    /// The frame that is given out `[mels]`.
    frame: &'m mut [f32],
    /// Where the next sample goes in the ring, which is where the oldest lies.
    next: usize,
    /// Samples still to come before the next frame is complete.
    missing: usize,
}

impl<'m> LogMel<'m> {
    /// A stream before its first sample. `memory` holds the tables and buffers, [`LogMelConfig::memory`] f32 of it; what is
    /// in it does not matter.
    ///
    /// # Errors
    ///
    /// If the parameters cannot give frames or the memory is too small, an [`Error`] that says which.
    pub fn new(config: LogMelConfig, memory: &'m mut [f32]) -> Result<LogMel<'m>, Error> {
        config.check()?;
        let needed = config.memory();
        let memory = memory.get_mut(..needed).ok_or(Error::Memory { needed })?;
        let (window, memory) = memory.split_at_mut(config.window);
        let (samples, memory) = memory.split_at_mut(config.window);
        let (twiddles, memory) = memory.split_at_mut(config.fft());
        let (spectrum, memory) = memory.split_at_mut(config.fft());
        let (weights, memory) = memory.split_at_mut(config.fft() / 2);
        let (corners, frame) = memory.split_at_mut(config.mels + 2);
        for (i, w) in window.iter_mut().enumerate() {
            *w = (0.5 - 0.5 * libm::cos(TAU * i as f64 / config.window as f64)) as f32;
        }
        fill_twiddles(twiddles);
        fill_triangles(&config, weights, corners);
        // A bin on the lower corner itself has the weight 0.
        let is_empty = |m: &usize| {
            let (first, end) = (corners[*m] as usize, corners[m + 2] as usize);
            first == end || (first + 1 == end && first as f32 != corners[m + 1] && weights[first - 1] == 0.0)
        };
        if let Some(m) = (0..config.mels).find(is_empty) {
            return Err(Error::EmptyTriangle(m));
        }
        let missing = config.window;
        Ok(LogMel { config, window, twiddles, weights, corners, samples, spectrum, frame, next: 0, missing })
    }

    /// The parameters.
    pub fn config(&self) -> &LogMelConfig {
        &self.config
    }

    /// Takes the next samples, as many as there are, and calls `each` with every frame `[mels]` that they complete.
    pub fn push<S: Sample>(&mut self, samples: &[S], mut each: impl FnMut(&[f32])) {
        for sample in samples {
            self.samples[self.next] = sample.to_f32();
            self.next = if self.next + 1 == self.samples.len() { 0 } else { self.next + 1 };
            self.missing -= 1;
            if self.missing == 0 {
                self.missing = self.config.hop;
                self.compute();
                each(self.frame);
            }
        }
    }

    /// Forgets every sample: the next one begins a new stream.
    pub fn reset(&mut self) {
        // The first frame comes when the ring is full, so that what is in it now is overwritten.
        (self.next, self.missing) = (0, self.config.window);
    }

    /// Makes the frame of the samples in the ring.
    fn compute(&mut self) {
        let (newest, oldest) = self.samples.split_at(self.next);
        let (used, rest) = self.spectrum.split_at_mut(self.window.len());
        for ((x, s), w) in used.iter_mut().zip(oldest.iter().chain(newest)).zip(self.window) {
            *x = s * w;
        }
        rest.fill(0.0);
        power_spectrum(self.spectrum, self.twiddles);
        self.frame.fill(0.0);
        for (i, corners) in self.corners.windows(2).enumerate() {
            // Between corners i and i + 1 triangle i rises and triangle i − 1 falls.
            for bin in corners[0] as usize..corners[1] as usize {
                let power = if 2 * bin == self.spectrum.len() { self.spectrum[1] } else { self.spectrum[2 * bin] };
                let weight = self.weights[bin - 1];
                if let Some(rising) = self.frame.get_mut(i) {
                    *rising += weight * power;
                }
                if i > 0 {
                    self.frame[i - 1] += (1.0 - weight) * power;
                }
            }
        }
        for energy in self.frame.iter_mut() {
            // Not `max`, which would make the floor of what is not a number.
            *energy = libm::logf(if *energy < self.config.floor { self.config.floor } else { *energy });
        }
    }
}

/// Fills in where bins 1 to fft / 2 lie between the corners of the triangles.
fn fill_triangles(config: &LogMelConfig, weights: &mut [f32], corners: &mut [f32]) {
    let mel = |hz: f64| 1127.0 * libm::log1p(hz / 700.0);
    let (low, high) = (mel(config.fmin.into()), mel(config.fmax.into()));
    let intervals = config.mels + 1;
    let bins = weights.len();
    let mut corner = 0;
    for (bin, weight) in (1..).zip(weights.iter_mut()) {
        let hz = bin as f64 * f64::from(config.sample_rate) / config.fft() as f64;
        let position = (mel(hz) - low) / (high - low) * intervals as f64;
        while corner <= intervals && corner as f64 <= position {
            corners[corner] = bin as f32;
            corner += 1;
        }
        *weight = (position - libm::floor(position)) as f32;
    }
    corners[corner..].fill((bins + 1) as f32);
}
