//! The benchmarks of MLPerf Tiny that run on request (streaming wake word, the fifth, listens to a microphone).

/// A benchmark: which data the runner sends, and which results it reads. Every one has a network of signed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Keyword spotting. The data are 49 × 10 signed bytes: features that are quantised already, with the scale of the reference's input,
    /// because the network takes nothing else. Results: 12 probabilities.
    Kws,
    /// Image classification. The data are 32 × 32 × 3 unsigned bytes, the pixels as they are (RGB, row by row). The network's input has the zero point
    /// −128 (scale 1), so that a pixel minus 128 is its quantised value. Results: 10 probabilities.
    Ic,
    /// Visual wake words. The data are 96 × 96 × 3 unsigned bytes, as above (the scale is 1/255, for pixels between 0 and 1, with the same zero point:
    /// the bytes are the same). Results: 2 probabilities, no person and a person.
    Vww,
    /// Anomaly detection. The data are 5 × 128 floats of 32 bits, the least byte first: five frames of a spectrogram in decibels, which the runner cuts
    /// from a file of many frames (2,560 bytes, the next window 512 bytes further). They are floats because the result is one: the mean of
    /// the squares of what the network gives minus what went in, before it was quantised. Results: that mean.
    Ad,
}

impl Task {
    /// What the runner calls it; its data lie in a folder of this name.
    pub const fn model(self) -> &'static str {
        match self {
            Task::Kws => "kws01",
            Task::Ic => "ic01",
            Task::Vww => "vww01",
            Task::Ad => "ad01",
        }
    }

    /// Elements of the network's input.
    pub const fn inputs(self) -> usize {
        match self {
            Task::Kws => 49 * 10,
            Task::Ic => 32 * 32 * 3,
            Task::Vww => 96 * 96 * 3,
            Task::Ad => 5 * 128,
        }
    }

    /// Elements of the network's output.
    pub const fn outputs(self) -> usize {
        match self {
            Task::Kws => 12,
            Task::Ic => 10,
            Task::Vww => 2,
            Task::Ad => 5 * 128,
        }
    }

    /// Bytes that the runner sends for an input.
    pub const fn bytes(self) -> usize {
        match self {
            Task::Ad => self.inputs() * size_of::<f32>(),
            _ => self.inputs(),
        }
    }

    /// Bytes that are kept beside those that the runner sent: floats are quantised once for all runs.
    pub const fn quantized(self) -> usize {
        match self {
            Task::Ad => self.inputs(),
            _ => 0,
        }
    }

    /// Numbers that the runner reads as results.
    pub const fn results(self) -> usize {
        match self {
            Task::Ad => 1,
            _ => self.outputs(),
        }
    }
}
