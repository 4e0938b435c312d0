//! The memory of a board, for the linker and for the program. `KINGLET_BOARD` is one of [`BOARDS`]; `KINGLET_OPS` may name the kinds of steps
//! and the functions that the program runs, as the number of a set.

use std::path::PathBuf;
use std::{env, fs};

struct Board {
    name: &'static str,
    /// Where code lies: half of the memory there, whose other half the emulator fills with a case.
    flash: u32,
    /// Where data lies.
    ram: u32,
    /// A CMSDK timer, and its ticks a second.
    timer: (u32, u32),
}

/// KiB of code, and of a case behind it.
const HALF: u32 = 2048;
/// KiB of RAM.
const RAM: u32 = 4096;

/// Boards of Arm's MPS2 as QEMU has them.
const BOARDS: [Board; 4] = [
    Board { name: "mps2-an385", flash: 0, ram: 0x2000_0000, timer: (0x4000_0000, 25_000_000) },
    Board { name: "mps2-an386", flash: 0, ram: 0x2000_0000, timer: (0x4000_0000, 25_000_000) },
    Board { name: "mps2-an500", flash: 0, ram: 0x2000_0000, timer: (0x4000_0000, 25_000_000) },
    Board { name: "mps2-an505", flash: 0x1000_0000, ram: 0x3800_0000, timer: (0x5000_0000, 20_000_000) },
];

fn main() {
    println!("cargo:rerun-if-env-changed=KINGLET_BOARD");
    println!("cargo:rerun-if-env-changed=KINGLET_OPS");
    let name = env::var("KINGLET_BOARD").unwrap_or_else(|_| panic!("KINGLET_BOARD is not set: see tests/cortex-m/run"));
    let board = BOARDS.iter().find(|b| b.name == name).unwrap_or_else(|| panic!("no board is named {name}"));
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it"));
    let write = |file: &str, text: String| fs::write(out.join(file), text).expect("the folder is cargo's");
    let ops = env::var("KINGLET_OPS").map_or(u128::MAX, |n| n.parse().expect("KINGLET_OPS is a number"));
    let (flash, ram, (timer, ticks)) = (board.flash, board.ram, board.timer);
    let mut text = format!("/// Where the emulator puts the case.\nconst CASE: usize = {:#x};\n", flash + HALF * 1024);
    text += &format!("/// The kinds of steps and the functions that this program runs.\nconst OPS: u128 = {ops};\n");
    if env::var("CARGO_FEATURE_BARE").is_err() {
        text += &format!(
            "/// The timer.\nconst TIMER: usize = {timer:#x};\n/// Its ticks.\nconst TICKS_PER_SECOND: u64 = {ticks};\n"
        );
    }
    write("board.rs", text);
    let region = |name: &str, at: u32, kib: u32| format!("  {name} : ORIGIN = {at:#x}, LENGTH = {kib}K\n");
    write("memory.x", format!("MEMORY {{\n{}{}}}\n", region("FLASH", flash, HALF), region("RAM", ram, RAM)));
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    println!("cargo:rustc-link-arg-bins=--nmagic");
}
