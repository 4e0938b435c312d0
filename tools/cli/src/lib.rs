//! The `kinglet` command: converts, runs, inspects, measures and verifies models.
//!
//! [`run`] is the whole program as a function of its arguments and two streams, so that a test can call it. One file under
//! `commands/` holds one command: its arguments and what it does with the compiler (`kinglet-compiler`) and the runtime
//! (`kinglet-native`). What several commands need is a module here.
//!
//! Exit status: 0 ok, 1 the work failed, 2 wrong usage (`error.rs` has the rule). Results go to standard output, everything
//! else (errors, notes, progress) to standard error.
#![forbid(unsafe_code)]

mod args;
mod atomic_write;
mod audio;
mod chips;
mod commands;
mod compare;
mod describe;
mod device_log;
mod error;
mod image;
mod inputs;
#[cfg(unix)]
mod interrupt;
mod io;
mod media;
mod memory;
mod model;
#[cfg(feature = "oracle")]
mod oracle;
mod progress;
mod random;
mod table;
mod terminal;
#[cfg(test)]
mod testing;
mod values;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{bench, convert, inspect, new_firmware, profile, run as run_command, verify, zoo};
use crate::error::Error;
use crate::io::{PipeSafe, Streams};
use crate::terminal::{LONGEST, Printable};

#[cfg(unix)]
pub use crate::interrupt::end_on_signals;

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The work is done.
    Ok = 0,
    /// The work failed.
    Failed = 1,
    /// The command was used wrongly.
    Usage = 2,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> ExitCode {
        ExitCode::from(status as u8)
    }
}

/// Compiles ONNX models for the Kinglet runtime and runs them.
#[derive(Parser)]
#[command(name = "kinglet", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Which set of kernels runs models, and what an .onnx is compiled for; else the best that this CPU has, or the one that
    /// the variable KINGLET_KERNELS names
    #[arg(long, global = true, value_name = "SET", value_parser = kernels)]
    kernels: Option<String>,
}

/// The name of a set of kernels that this CPU has.
fn kernels(name: &str) -> Result<String, String> {
    let sets: Vec<&str> = kinglet_native::kernel_sets().iter().map(|(name, _)| *name).collect();
    sets.contains(&name).then(|| name.to_string()).ok_or_else(|| format!("this CPU has {}", sets.join(", ")))
}

#[derive(Subcommand)]
enum Command {
    Convert(convert::Args),
    Run(run_command::Args),
    Inspect(inspect::Args),
    Bench(bench::Args),
    Profile(profile::Args),
    Verify(verify::Args),
    NewFirmware(new_firmware::Args),
    Zoo(zoo::Args),
}

/// Runs the program with `args` (the first is its own name), results going to `out` and everything else to `err`.
pub fn run<A: Into<OsString> + Clone>(
    args: impl IntoIterator<Item = A>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Status {
    let (mut out, mut err) = (PipeSafe::new(out), PipeSafe::new(err));
    let (mut out, mut err) = (Printable(&mut out), Printable(&mut err));
    let mut streams = Streams { out: &mut out, err: &mut err };
    let result = dispatch(args, &mut streams).and_then(|status| {
        streams.out.flush()?;
        Ok(status)
    });
    result.unwrap_or_else(|error| {
        // Whoever reads standard error may be gone as well; there is nobody left to tell.
        let _ = streams.out.flush();
        let _ = writeln!(streams.err, "error: {error}");
        error.status()
    })
}

fn dispatch<A: Into<OsString> + Clone>(
    args: impl IntoIterator<Item = A>,
    streams: &mut Streams<'_>,
) -> Result<Status, Error> {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(message) if message.use_stderr() => {
            // The message repeats arguments, which may be names of files; they have no line breaks in it either.
            let tame = args.iter().map(|a| terminal::line(&a.to_string_lossy(), LONGEST).into_owned());
            let message = Cli::try_parse_from(tame).err().unwrap_or(message);
            write!(streams.err, "{}", message.render())?;
            return Ok(Status::Usage);
        }
        Err(help) => {
            write!(streams.out, "{}", help.render())?;
            return Ok(Status::Ok);
        }
    };
    let variable = std::env::var(kinglet_native::KERNELS_VARIABLE).ok();
    if let Some(name) = cli.kernels.as_deref().or(variable.as_deref()) {
        if let Err(known) = kernels(name) {
            let variable = kinglet_native::KERNELS_VARIABLE;
            let name = terminal::line(name, LONGEST);
            writeln!(streams.err, "error: {variable} names the kernels `{name}`: {known}")?;
            return Ok(Status::Usage);
        }
        kinglet_native::choose_kernels(name);
    }
    match cli.command {
        Command::Convert(args) => convert::run(&args, streams),
        Command::Run(args) => run_command::run(&args, streams),
        Command::Inspect(args) => inspect::run(&args, streams),
        Command::Bench(args) => bench::run(&args, streams),
        Command::Profile(args) => profile::run(&args, streams),
        Command::Verify(args) => verify::run(&args, streams),
        Command::NewFirmware(args) => new_firmware::run(&args, streams),
        Command::Zoo(args) => zoo::run(&args, streams),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn usage_errors_are_2_and_help_is_0() {
        let call = |args: &[&str]| {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let status = run(args, &mut out, &mut err);
            (status, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
        };
        let (status, out, err) = call(&["kinglet", "--help"]);
        assert!(status == Status::Ok && out.contains("convert") && err.is_empty());
        let (status, out, err) = call(&["kinglet", "fly"]);
        assert!(status == Status::Usage && out.is_empty() && err.starts_with("error: "));
        let (status, _, err) = call(&["kinglet", "convert", "a.onnx"]);
        assert!(status == Status::Usage && err.contains("--output"), "{err}");
        let (status, _, err) = call(&["kinglet", "inspect", "no/such.onnx"]);
        assert!(status == Status::Failed && err.starts_with("error: no/such.onnx: "), "{err}");
    }
}
