//! A clock: the first CMSDK timer, which counts down from its largest value and begins again.

use core::hint;

use embedded_hal::delay::DelayNs;

use crate::CLOCK_HZ;
use crate::register::Register;

/// Ticks of a microsecond.
const TICKS_PER_MICROSECOND: u64 = CLOCK_HZ as u64 / 1_000_000;

// SAFETY: the board has a CMSDK timer at 0x4000_0000, which writes no memory.
const CONTROL: Register = unsafe { Register::at(0x4000_0000) };
// SAFETY: as above.
const VALUE: Register = unsafe { Register::at(0x4000_0004) };
// SAFETY: as above.
const RELOAD: Register = unsafe { Register::at(0x4000_0008) };

/// The timer as a clock of 64 bits. The counter has 32 and begins again every 171 seconds: a clock that is not read once in that time loses
/// as much.
#[derive(Debug)]
pub struct Timer {
    ticks: u64,
}

impl Timer {
    /// Starts it from 0.
    pub fn start() -> Timer {
        CONTROL.write(0);
        RELOAD.write(u32::MAX);
        VALUE.write(u32::MAX);
        CONTROL.write(1);
        Timer { ticks: 0 }
    }

    /// Ticks since the start, [`CLOCK_HZ`] a second.
    pub fn ticks(&mut self) -> u64 {
        self.ticks = extend(self.ticks, count());
        self.ticks
    }

    /// Microseconds since the start.
    pub fn microseconds(&mut self) -> u64 {
        self.ticks() / TICKS_PER_MICROSECOND
    }
}

/// Ticks since the timer's start as far as its 32 bits go, for who has a clock of 64 bits of his own.
pub fn count() -> u32 {
    u32::MAX - VALUE.read()
}

/// Waits by looking at the timer, which has been started.
#[derive(Debug, Default)]
pub struct Delay;

impl DelayNs for Delay {
    fn delay_ns(&mut self, ns: u32) {
        let (begin, ticks) = (count(), u64::from(ns) * u64::from(CLOCK_HZ) / 1_000_000_000);
        while u64::from(count().wrapping_sub(begin)) <= ticks {
            hint::spin_loop();
        }
    }
}

/// The ticks after `before` whose lower half the counter shows.
fn extend(before: u64, counter: u32) -> u64 {
    before.wrapping_add(u64::from(counter.wrapping_sub(before as u32)))
}

#[cfg(test)]
mod tests {
    use super::extend;

    #[test]
    fn a_counter_may_begin_again() {
        assert_eq!(extend(0, 7), 7);
        assert_eq!(extend(7, 7), 7);
        assert_eq!(extend(0xffff_fff0, 4), 0x1_0000_0004);
        assert_eq!(extend(0x5_0000_0004, 3), 0x6_0000_0003);
    }
}
