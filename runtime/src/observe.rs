//! Watching a run from outside: profiling on any device, and tests that look at every step's result.

use core::cell::Cell;
use core::ops::ControlFlow;

use crate::Model;
use crate::format::checksum;
use crate::log::Line;
use crate::session::ArenaView;

/// A source of time. Ticks are whatever the device counts: nanoseconds, cycles, SysTick reloads.
pub trait Clock {
    /// The current time in ticks. Must not go backwards.
    fn ticks(&self) -> u64;
}

/// Ticks of a counter of 32 bits or fewer that begins anew: the cycles of a Cortex-M's DWT, or its SysTick. It is to be asked at least once
/// while the counter goes round, so that a step longer than that seems shorter.
pub struct Counter<F: Fn() -> u32> {
    count: F,
    most: u32,
    /// The count when it was last asked, and all ticks until then.
    last: Cell<(u32, u64)>,
}

impl<F: Fn() -> u32> Counter<F> {
    /// Of `count`, which counts up to `most` (2ⁿ − 1), and begins with 0 then.
    pub fn new(most: u32, count: F) -> Self {
        let last = Cell::new((count() & most, 0));
        Counter { count, most, last }
    }
}

impl<F: Fn() -> u32> Clock for Counter<F> {
    fn ticks(&self) -> u64 {
        let (before, all) = self.last.get();
        let now = (self.count)() & self.most;
        let all = all.wrapping_add((now.wrapping_sub(before) & self.most).into());
        self.last.set((now, all));
        all
    }
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

/// Two observers of one run: the second is the nearer one, so that it measures no time of the first.
impl<A: Observer, B: Observer> Observer for (A, B) {
    fn before(&mut self, step: usize) -> ControlFlow<()> {
        self.0.before(step)?;
        self.1.before(step)
    }

    fn after(&mut self, step: usize, arena: &ArenaView<'_>) {
        self.1.after(step, arena);
        self.0.after(step, arena);
    }
}

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

/// Takes the checksum of what each step makes ([`ArenaView::made`]), into a slice of the caller (one entry a step; steps beyond it are not looked at). One
/// plan, run on the same inputs from the same state, has the same checksums on every device, but for steps that compute floats in another
/// order than the reference; the first one that differs names the step that went wrong.
pub struct Checksums<'a>(&'a mut [u64]);

impl<'a> Checksums<'a> {
    /// Of the next run. (What was in the slice is forgotten.)
    pub fn new(sums: &'a mut [u64]) -> Self {
        sums.fill(0);
        Checksums(sums)
    }
}

impl Observer for Checksums<'_> {
    fn after(&mut self, step: usize, arena: &ArenaView<'_>) {
        if let Some(sum) = self.0.get_mut(step) {
            arena.made(|piece| *sum = checksum(piece, *sum));
        }
    }
}

/// The lines of a log for a run: its plan, and of each step what it made and how long it took, as far as that is known. `hz` are the ticks of a second.
pub fn lines<'s>(model: &Model<'_>, hz: u32, sums: &'s [u64], ticks: &'s [u64]) -> impl Iterator<Item = Line> + 's {
    let plan = Line::Plan { identity: model.identity(), steps: model.step_count() as u32, hz };
    let made = (0..).zip(sums).map(|(step, &checksum)| Line::Made { step, checksum });
    let took = (0..).zip(ticks).map(|(step, &ticks)| Line::Took { step, ticks });
    core::iter::once(plan).chain(made).chain(took)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_counter_goes_round() {
        let at = Cell::new(0xff_fff0);
        let counter = Counter::new(0xff_ffff, || at.get());
        assert_eq!(counter.ticks(), 0);
        for (now, ticks) in [(0xff_ffff, 15), (0, 16), (10, 26), (9, 26 + 0xff_ffff)] {
            at.set(now);
            assert_eq!(counter.ticks(), ticks);
        }
    }
}
