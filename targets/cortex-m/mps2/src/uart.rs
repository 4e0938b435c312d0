//! The board's first serial port, a CMSDK UART: 8 bits, no parity, one stop bit. It has no queue: a byte that comes before the last one is
//! read is lost, and that is said.

use core::{fmt, hint};

use embedded_io::{ErrorKind, ErrorType, Read, Write};

use crate::CLOCK_HZ;
use crate::register::Register;

// SAFETY: the board has a CMSDK UART at 0x4000_4000, which writes no memory.
const DATA: Register = unsafe { Register::at(0x4000_4000) };
// SAFETY: as above.
const STATE: Register = unsafe { Register::at(0x4000_4004) };
// SAFETY: as above.
const CONTROL: Register = unsafe { Register::at(0x4000_4008) };
// SAFETY: as above.
const DIVISOR: Register = unsafe { Register::at(0x4000_4010) };

/// Bits of the state: the byte to send has not gone, a byte has come, a byte was lost.
const SENDING: u32 = 1;
const CAME: u32 = 2;
const LOST: u32 = 8;

/// The least divisor of the clock that the port takes.
const LEAST_DIVISOR: u32 = 16;

/// What went wrong with the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A byte came before the last one was read.
    Overrun,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a byte came before the last one was read")
    }
}

impl core::error::Error for Error {}

impl embedded_io::Error for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

/// The port.
#[derive(Debug)]
pub struct Uart(());

impl Uart {
    /// Opens the port at so many bits a second; faster than a sixteenth of the clock it does not go.
    pub fn open(bits_per_second: u32) -> Uart {
        let divisor = CLOCK_HZ.checked_div(bits_per_second).unwrap_or(0);
        DIVISOR.write(divisor.max(LEAST_DIVISOR));
        // Sends and receives, without interrupts.
        CONTROL.write(0b11);
        Uart(())
    }

    fn send(&mut self, byte: u8) {
        while STATE.read() & SENDING != 0 {
            hint::spin_loop();
        }
        DATA.write(u32::from(byte));
    }
}

impl ErrorType for Uart {
    type Error = Error;
}

impl Read for Uart {
    /// Waits for a byte and gives it. After an error the port goes on with the next byte.
    fn read(&mut self, to: &mut [u8]) -> Result<usize, Error> {
        let Some(to) = to.first_mut() else { return Ok(0) };
        loop {
            let state = STATE.read();
            if state & LOST != 0 {
                // What is written as 1 is cleared.
                STATE.write(LOST);
                return Err(Error::Overrun);
            }
            if state & CAME != 0 {
                *to = DATA.read() as u8;
                return Ok(1);
            }
            hint::spin_loop();
        }
    }
}

impl Write for Uart {
    /// Sends all bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        bytes.iter().for_each(|&byte| self.send(byte));
        Ok(bytes.len())
    }

    /// Waits until the port has taken the last byte.
    fn flush(&mut self) -> Result<(), Error> {
        while STATE.read() & SENDING != 0 {
            hint::spin_loop();
        }
        Ok(())
    }

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.write(bytes).map(|_| ())
    }
}
