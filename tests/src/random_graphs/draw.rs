//! A seeded stream of choices that can be told again, so that a failure shrinks by simpler choices.

use crate::Random;

/// Choices: drawn from a seed, or told again from a list, in which 0 is always the simplest.
pub struct Draw {
    random: Option<Random>,
    told: Vec<u32>,
    made: Vec<u32>,
}

impl Draw {
    /// Choices of a seed.
    pub fn of_seed(seed: u64) -> Self {
        Draw { random: Some(Random::new(seed)), told: Vec::new(), made: Vec::new() }
    }

    /// The choices of a list, and 0 behind its end.
    pub fn again(told: Vec<u32>) -> Self {
        Draw { random: None, told, made: Vec::new() }
    }

    /// The next number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        let n = n.max(1);
        let at = self.made.len();
        let v = match &mut self.random {
            Some(random) => random.below(n),
            None => self.told.get(at).map_or(0, |&v| v as usize % n),
        };
        self.made.push(v as u32);
        v
    }

    /// What was chosen so far.
    pub fn made(self) -> Vec<u32> {
        self.made
    }
}
