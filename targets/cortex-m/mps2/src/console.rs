//! The emulator's console, by semihosting: for what does not belong on the serial port.

use core::{fmt, hint};

use cortex_m_semihosting::{debug, hprint};

/// Prints on the emulator's console.
pub fn print(what: fmt::Arguments<'_>) {
    hprint!("{}", what);
}

/// Ends the emulator; its exit status is 0 if all went well, else 1.
pub fn exit(well: bool) -> ! {
    debug::exit(if well { debug::EXIT_SUCCESS } else { debug::EXIT_FAILURE });
    loop {
        hint::spin_loop();
    }
}
