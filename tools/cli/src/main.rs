//! The `kinglet` command; see the library for what it does.

use std::io::{BufWriter, stderr, stdout};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Without them an interrupted command leaves its temporary file behind, and works otherwise.
    #[cfg(unix)]
    let _ = kinglet_cli::end_on_signals();
    let mut out = BufWriter::new(stdout().lock());
    kinglet_cli::run(std::env::args_os(), &mut out, &mut stderr()).into()
}
