//! What the program does with samples and words.

use embedded_hal::delay::DelayNs;
use embedded_hal::digital::OutputPin;
use kinglet::{Clock, Kernels};

use crate::capture::Samples;
use crate::model::CONFIG;
use crate::spotter::{Detection, Spotter};

/// Samples that are taken at once: 10 ms.
const PIECE: usize = 160;

/// Microseconds between two looks at an empty queue.
const PAUSE_US: u32 = 500;

/// Samples for which the LED is lit after a word: half a second.
const LIT: u32 = CONFIG.sample_rate / 2;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Event {
    /// A word was said.
    Word(Detection),
    /// The processor was too slow: so many samples were lost, and the sound goes on behind them.
    Lost(u32),
}

/// Ticks of the clock that the work took, and samples that it was done for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Times {
    /// Samples.
    pub samples: u64,
    /// Front end and model.
    pub all: u64,
    /// The model.
    pub model: u64,
    /// The longest run of the model.
    pub longest_run: u64,
}

/// The program: an LED that is lit when a word was said, a delay to wait for samples, a clock to measure by.
pub struct App<'b, K: Kernels, Led, Delay, C> {
    spotter: Spotter<'b, K>,
    led: Led,
    delay: Delay,
    clock: C,
    /// Samples for which the LED stays lit.
    lit: u32,
    times: Times,
}

impl<'b, K: Kernels, Led: OutputPin, Delay: DelayNs, C: Clock> App<'b, K, Led, Delay, C> {
    /// With its parts.
    pub fn new(spotter: Spotter<'b, K>, led: Led, delay: Delay, clock: C) -> Self {
        App { spotter, led, delay, clock, lit: 0, times: Times::default() }
    }

    /// Works on the samples that have come, or waits a little if there are none; says what happens. A program calls it in a loop.
    ///
    /// # Errors
    /// [`Error::Model`], [`Error::Led`].
    pub fn step(&mut self, samples: &mut Samples<'_>, mut each: impl FnMut(Event)) -> Result<(), Error<Led::Error>> {
        let mut piece = [0; PIECE];
        let taken = samples.take(&mut piece);
        let lost = samples.lost();
        if lost > 0 {
            log::lost(lost);
            each(Event::Lost(lost));
        }
        if taken == 0 {
            self.delay.delay_us(PAUSE_US);
            return Ok(());
        }
        let before = self.clock.ticks();
        let mut word = false;
        let pushed = self.spotter.push(&piece[..taken], &self.clock, |detection| {
            word = true;
            log::word(&detection);
            each(Event::Word(detection));
        });
        let (model, longest_run) = self.spotter.model_ticks;
        let all = self.times.all + self.clock.ticks().wrapping_sub(before);
        self.times = Times { samples: self.times.samples + taken as u64, all, model, longest_run };
        pushed.map_err(Error::Model)?;
        if word {
            self.lit = LIT;
            self.led.set_high().map_err(Error::Led)?;
        } else if self.lit > 0 {
            self.lit = self.lit.saturating_sub(taken as u32);
            if self.lit == 0 {
                self.led.set_low().map_err(Error::Led)?;
            }
        }
        Ok(())
    }

    /// How long the work took so far.
    pub fn times(&self) -> Times {
        self.times
    }

    /// The parts that are the board's.
    pub fn release(self) -> (Led, Delay) {
        (self.led, self.delay)
    }
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// The model did not run.
    Model(kinglet::Error),
    /// The pin of the LED.
    Led(E),
}

/// Logs, where there is somebody to read them.
mod log {
    use crate::spotter::Detection;

    pub fn lost(samples: u32) {
        #[cfg(feature = "defmt")]
        defmt::warn!("{} samples were lost: the processor is too slow", samples);
        let _ = samples;
    }

    pub fn word(detection: &Detection) {
        #[cfg(feature = "defmt")]
        defmt::info!("{}", detection);
        let _ = detection;
    }
}
