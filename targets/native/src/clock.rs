//! The clock of the operating system.

use std::time::Instant;

/// A [`kinglet::Clock`] whose ticks are nanoseconds since it was made.
#[derive(Clone, Copy, Debug)]
pub struct Nanos(Instant);

impl Nanos {
    /// Starts at zero now.
    pub fn new() -> Self {
        Nanos(Instant::now())
    }
}

impl Default for Nanos {
    fn default() -> Self {
        Self::new()
    }
}

impl kinglet::Clock for Nanos {
    fn ticks(&self) -> u64 {
        // 2^64 nanoseconds are 584 years.
        self.0.elapsed().as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinglet::Clock;

    #[test]
    fn ticks_are_nanoseconds_and_do_not_go_backwards() {
        let clock = Nanos::new();
        let before = clock.ticks();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(clock.ticks() - before >= 2_000_000);
    }
}
