//! The board's first LED, as a pin.

use core::convert::Infallible;

use embedded_hal::digital::{ErrorType, OutputPin};

use crate::register::Register;

// SAFETY: the board's FPGA has a register of its LEDs at 0x4002_8000, which writes no memory.
const LEDS: Register = unsafe { Register::at(0x4002_8000) };

/// The pin.
#[derive(Debug, Default)]
pub struct Led;

impl ErrorType for Led {
    type Error = Infallible;
}

impl OutputPin for Led {
    fn set_low(&mut self) -> Result<(), Infallible> {
        LEDS.write(LEDS.read() & !1);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        LEDS.write(LEDS.read() | 1);
        Ok(())
    }
}
