//! The `kinglet` command; see the library for what it does.

use std::io::{BufWriter, stderr, stdout};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut out = BufWriter::new(stdout().lock());
    kinglet_cli::run(std::env::args_os(), &mut out, &mut stderr()).into()
}
