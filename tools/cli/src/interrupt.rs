//! Interruption from outside: Ctrl-C, a `kill`, a terminal that closes.
//!
//! A thread waits for the signals. On the first it removes the temporary files and ends the program with the status that a
//! shell would report, 128 and the signal's number: 130 for Ctrl-C. It does so beside whatever runs, so that no command has to
//! ask, and an endless step is interrupted like a short one.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use crate::atomic_write;

/// Starts to wait for signals. Those that whoever started the program has it ignore (`nohup` does) stay ignored.
///
/// # Errors
/// If the handlers or the thread cannot be set up.
pub fn end_on_signals() -> std::io::Result<()> {
    let ignored = ignored();
    let wanted = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|s| ignored >> (s - 1) & 1 == 0);
    let mut signals = Signals::new(wanted)?;
    // A file that reaches the limit of the shell (`ulimit -f`) is an error of the write, like a full disk.
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let _nothing_new = atomic_write::remove_temporaries();
            std::process::exit(128 + signal);
        }
    })?;
    Ok(())
}

/// The signals that are ignored, a bit each. Only Linux tells; elsewhere none is known to be.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok()).unwrap_or(0)
}
