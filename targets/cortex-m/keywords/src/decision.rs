//! From answers of the model to words that were said.

use kinglet::math::exp;

/// When a word counts as said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Classes that are no word, at the end of all: `unknown` and `silence`.
    pub others: usize,
    /// Answers whose probabilities are averaged, at most [`MOST`].
    pub smoothing: usize,
    /// The least averaged probability, 0 to 1.
    pub threshold: f32,
    /// Answers after a word in which no other one counts.
    pub refractory: u32,
}

/// Most answers that are averaged.
pub const MOST: usize = 8;

/// The answers of late, of `N` classes.
pub struct Decision<const N: usize> {
    settings: Settings,
    /// Probabilities of the newest answers, a ring.
    ring: [[f32; N]; MOST],
    /// Answers so far.
    count: usize,
    /// Answers until the next word may count.
    wait: u32,
}

impl<const N: usize> Decision<N> {
    /// Before the first answer.
    pub fn new(settings: Settings) -> Self {
        Decision { settings, ring: [[0.0; N]; MOST], count: 0, wait: 0 }
    }

    /// Takes the next answer, logits `[N]`; gives a word that was said, as the number of its class, and its probability.
    pub fn take(&mut self, logits: [f32; N]) -> Option<(usize, f32)> {
        let smoothing = self.settings.smoothing.clamp(1, MOST);
        self.ring[self.count % smoothing] = softmax(logits);
        self.count += 1;
        if self.wait > 0 {
            self.wait -= 1;
            return None;
        }
        if self.count < smoothing {
            return None;
        }
        let mean = |class: usize| self.ring[..smoothing].iter().map(|p| p[class]).sum::<f32>() / smoothing as f32;
        let words = N.saturating_sub(self.settings.others);
        let (word, probability) = (0..words).map(|class| (class, mean(class))).max_by(|a, b| a.1.total_cmp(&b.1))?;
        // What is not a number is no word.
        if probability.is_nan() || probability < self.settings.threshold {
            return None;
        }
        self.wait = self.settings.refractory;
        Some((word, probability))
    }
}

/// Probabilities of logits.
fn softmax<const N: usize>(logits: [f32; N]) -> [f32; N] {
    let most = logits.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let powers = logits.map(|v| exp(v - most));
    let sum: f32 = powers.iter().sum();
    powers.map(|p| p / sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings { others: 1, smoothing: 2, threshold: 0.6, refractory: 3 };
    const WORD: [f32; 3] = [0.0, 9.0, 0.0];
    const OTHER: [f32; 3] = [0.0, 0.0, 9.0];

    fn words(answers: &[[f32; 3]]) -> std::vec::Vec<Option<usize>> {
        let mut decision = Decision::new(SETTINGS);
        answers.iter().map(|&logits| decision.take(logits).map(|(word, _)| word)).collect()
    }

    #[test]
    fn a_word_counts_once_it_lasts() {
        assert_eq!(words(&[OTHER, WORD, OTHER, WORD]), [None; 4]);
        assert_eq!(words(&[OTHER, WORD, WORD, WORD]), [None, None, Some(1), None]);
        assert_eq!(words(&[OTHER; 9]), [None; 9]);
    }

    #[test]
    fn a_word_is_followed_by_silence() {
        assert_eq!(words(&[WORD; 7]), [None, Some(1), None, None, None, Some(1), None]);
    }

    #[test]
    fn strange_answers_are_no_words() {
        assert_eq!(words(&[[f32::NAN; 3]; 4]), [None; 4]);
        assert_eq!(words(&[[f32::NEG_INFINITY; 3]; 4]), [None; 4]);
    }
}
