//! Watching a run from outside: profiling on any device, and tests that look at every step's result.

use core::ops::ControlFlow;

use crate::session::ArenaView;

/// A source of time. Ticks are whatever the device counts: nanoseconds, cycles, SysTick reloads.
pub trait Clock {
    /// The current time in ticks. Must not go backwards.
    fn ticks(&self) -> u64;
}

/// Called around every step of a run; a step of a band once a slice.
pub trait Observer {
    /// Step `step` is about to run. `Break` ends the run here: it gives
    /// [`Error::Interrupted`](crate::Error::Interrupted).
    fn before(&mut self, step: usize) -> ControlFlow<()> {
        let _ = step;
        ControlFlow::Continue(())
    }

    /// Step `step` is done; `arena` shows every tensor as it is now.
    fn after(&mut self, step: usize, arena: &ArenaView<'_>) {
        let _ = (step, arena);
    }
}

/// An observer that does nothing; it compiles to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Observer for Quiet {}

/// Adds up the ticks each step took into a slice of the caller (one entry a step; steps beyond it are not counted).
pub struct Profile<'a, C: Clock> {
    clock: C,
    started: u64,
    ticks: &'a mut [u64],
}

impl<'a, C: Clock> Profile<'a, C> {
    /// Counts with `clock` into `ticks`, which is not cleared: several runs add up.
    pub fn new(clock: C, ticks: &'a mut [u64]) -> Self {
        Profile { clock, started: 0, ticks }
    }
}

impl<C: Clock> Observer for Profile<'_, C> {
    fn before(&mut self, _step: usize) -> ControlFlow<()> {
        self.started = self.clock.ticks();
        ControlFlow::Continue(())
    }

    fn after(&mut self, step: usize, _arena: &ArenaView<'_>) {
        let now = self.clock.ticks();
        if let Some(t) = self.ticks.get_mut(step) {
            *t += now.saturating_sub(self.started);
        }
    }
}
