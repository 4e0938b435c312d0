//! The smallest program that runs a model: `run MODEL.kgl [TIMES]`. Inputs are filled once with a fixed pattern; a checksum of the
//! outputs is printed.
//!
//! What is measured of a program that links the library is measured of this one: its size, its instructions.

use std::process::ExitCode;

use kinglet_native::{Error, OwnedSession};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), times) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: run MODEL.kgl [TIMES]");
        return ExitCode::from(2);
    };
    match run(&model, times.and_then(|n| n.parse().ok()).unwrap_or(1)) {
        Ok(sum) => {
            println!("{sum:016x}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn run(model: &str, times: usize) -> Result<u64, Error> {
    let mut session = OwnedSession::open(model, 1)?;
    let (inputs, outputs) = (session.model().input_count(), session.model().output_count());
    for i in 0..inputs {
        // Reals between 1 and 2, whatever the type: bytes of all values, floats that are no NaN.
        for (k, word) in session.input_bytes_mut(i)?.chunks_mut(4).enumerate() {
            let bits = 0x3f80_0000 | (k as u32).wrapping_mul(2_654_435_761) >> 9;
            word.copy_from_slice(&bits.to_le_bytes()[..word.len()]);
        }
    }
    // From the second time on inputs are what steps have left in their place: what a run costs does not depend on it.
    for _ in 0..times {
        session.run()?;
    }
    let mut sum = 0xcbf2_9ce4_8422_2325;
    for i in 0..outputs {
        for &byte in session.output_bytes(i)? {
            sum = (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    Ok(sum)
}
