//! What frames are made of, and what is wrong with it.

use core::fmt;

/// Parameters of log-mel frames. They are the model's: frames made with others mean nothing to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogMelConfig {
    /// Samples a second.
    pub sample_rate: u32,
    /// Samples a frame looks at, from 4 to 65,536. The Fourier transform has the next power of two as its length.
    pub window: usize,
    /// Samples from one frame to the next.
    pub hop: usize,
    /// Numbers in a frame: triangles on the mel scale.
    pub mels: usize,
    /// Lower corner of the first triangle in Hz.
    pub fmin: f32,
    /// Upper corner of the last triangle in Hz, at most half the sample rate.
    pub fmax: f32,
    /// Least energy whose logarithm is taken, for samples in −1..1.
    pub floor: f32,
}

/// Longest window.
const MAX_WINDOW: usize = 1 << 16;

impl LogMelConfig {
    /// Length of the Fourier transform.
    pub const fn fft(&self) -> usize {
        self.window.next_power_of_two()
    }

    /// How many f32 [`LogMel::new`](crate::LogMel::new) needs as memory; 0 if the parameters are out of range.
    pub const fn memory(&self) -> usize {
        if self.check_sizes().is_err() {
            return 0;
        }
        // Window and samples, twiddles and spectrum, weights of bins, first bins of triangles, the frame.
        2 * self.window + 2 * self.fft() + self.fft() / 2 + (self.mels + 2) + self.mels
    }

    /// Frames that are complete after `samples` samples.
    pub const fn frames(&self, samples: usize) -> usize {
        if samples < self.window || self.hop == 0 { 0 } else { (samples - self.window) / self.hop + 1 }
    }

    /// Samples that `frames` frames look at: the least that makes so many complete.
    pub const fn samples(&self, frames: usize) -> usize {
        if frames == 0 { 0 } else { self.window.saturating_add((frames - 1).saturating_mul(self.hop)) }
    }

    const fn check_sizes(&self) -> Result<(), Error> {
        if self.window < 4 || self.window > MAX_WINDOW {
            return Err(Error::Window);
        }
        if self.hop == 0 {
            return Err(Error::Hop);
        }
        // No more triangles than bins between the constant part and half the sample rate.
        if self.mels == 0 || self.mels > self.fft() / 2 {
            return Err(Error::Mels);
        }
        Ok(())
    }

    /// Checks what can be told from the parameters alone.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.check_sizes()?;
        let range = self.fmin >= 0.0 && self.fmin < self.fmax && self.fmax <= self.sample_rate as f32 / 2.0;
        if !range {
            return Err(Error::Range);
        }
        if !(self.floor.is_normal() && self.floor > 0.0) {
            return Err(Error::Floor);
        }
        Ok(())
    }
}

/// What is wrong with the parameters or the memory of a [`LogMel`](crate::LogMel).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The window is shorter than 4 or longer than 65,536 samples.
    Window,
    /// The hop is 0.
    Hop,
    /// There are no triangles, or more than half the length of the Fourier transform.
    Mels,
    /// `fmin` and `fmax` are not in order between 0 and half the sample rate.
    Range,
    /// The floor is not a positive normal number.
    Floor,
    /// No bin of the Fourier transform lies under the triangle with this index: there are too many for the window.
    EmptyTriangle(usize),
    /// The memory has fewer f32 than [`LogMelConfig::memory`] says.
    Memory {
        /// How many are needed.
        needed: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Window => f.write_str("the window must have 4 to 65536 samples"),
            Error::Hop => f.write_str("the hop must have at least one sample"),
            Error::Mels => f.write_str("the number of mels must be from 1 to half the length of the Fourier transform"),
            Error::Range => {
                f.write_str("fmin must be at least 0 and below fmax, and fmax at most half the sample rate")
            }
            Error::Floor => f.write_str("the floor must be a positive number"),
            Error::EmptyTriangle(m) => {
                write!(
                    f,
                    "no frequency of the Fourier transform lies under triangle {m}: use fewer mels or a longer window"
                )
            }
            Error::Memory { needed } => write!(f, "the memory must have {needed} f32"),
        }
    }
}

impl core::error::Error for Error {}
