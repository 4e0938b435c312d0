//! The first CMSDK timer, which counts down from its largest value and begins again.

use core::hint;

use embedded_hal::delay::DelayNs;

use crate::CLOCK_HZ;
use crate::register::Register;

// SAFETY: the board has a CMSDK timer at 0x4000_0000, which writes no memory.
const CONTROL: Register = unsafe { Register::at(0x4000_0000) };
// SAFETY: as above.
const VALUE: Register = unsafe { Register::at(0x4000_0004) };
// SAFETY: as above.
const RELOAD: Register = unsafe { Register::at(0x4000_0008) };

/// Starts it from 0.
pub fn start() {
    CONTROL.write(0);
    RELOAD.write(u32::MAX);
    VALUE.write(u32::MAX);
    CONTROL.write(1);
}

/// Ticks since the start, [`CLOCK_HZ`] a second, as far as its 32 bits go: it begins again every 171 seconds. `kinglet::observe::Counter` makes a clock of it.
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
