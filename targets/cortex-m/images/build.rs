//! The memory of a board, for the linker and for the program. `KINGLET_BOARD` is one of [`BOARDS`]; `KINGLET_OPS` may name the kinds of steps
//! and the functions that the program runs, as the number of a set.

use std::path::PathBuf;
use std::{env, fs};

struct Board {
    name: &'static str,
    /// Where code lies, and KiB of it.
    flash: (u32, u32),
    /// Where the emulator puts a case.
    case: u32,
    /// Where data lies.
    ram: u32,
    /// Where there is a second memory, which is slower on the board.
    slow: u32,
    /// A timer, and its ticks a second.
    timer: (Timer, u32),
    /// Binary logarithm of the nanoseconds that the emulator takes an instruction for (`-icount shift`): a tick is none too long for them, and the timer not too short.
    shift: u32,
}

/// Where a timer is that counts down.
enum Timer {
    /// CMSDK's, of 32 bits.
    Cmsdk(u32),
    /// The core's own, of 24 bits.
    SysTick,
}

/// KiB of RAM, and of the slow memory.
const RAM: u32 = 4096;
const SLOW: u32 = 1024;

/// What boards with ARMv7-M have in common.
const MPS2: Board = Board {
    name: "mps2-an385",
    flash: (0, 2048),
    case: 0x20_0000,
    ram: 0x2000_0000,
    slow: 0x2100_0000,
    timer: (Timer::Cmsdk(0x4000_0000), 25_000_000),
    shift: 6,
};

/// Arm's MPS2 and MPS3 boards as QEMU has them.
const BOARDS: [Board; 5] = [
    MPS2,
    Board { name: "mps2-an386", ..MPS2 },
    Board { name: "mps2-an500", slow: 0x6000_0000, ..MPS2 },
    Board {
        name: "mps2-an505",
        flash: (0x1000_0000, 2048),
        case: 0x1020_0000,
        ram: 0x3800_0000,
        slow: 0x8000_0000,
        timer: (Timer::Cmsdk(0x5000_0000), 20_000_000),
        shift: 6,
    },
    Board {
        name: "mps3-an547",
        flash: (0, 512),
        case: 0x0100_0000,
        ram: 0x2100_0000,
        slow: 0x6000_0000,
        timer: (Timer::SysTick, 32_000_000),
        shift: 5,
    },
];

fn main() {
    println!("cargo:rerun-if-env-changed=KINGLET_BOARD");
    println!("cargo:rerun-if-env-changed=KINGLET_OPS");
    let name = env::var("KINGLET_BOARD").unwrap_or_else(|_| panic!("KINGLET_BOARD is not set: see tests/cortex-m/run"));
    let board = BOARDS.iter().find(|b| b.name == name).unwrap_or_else(|| panic!("no board is named {name}"));
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it"));
    let write = |file: &str, text: String| fs::write(out.join(file), text).expect("the folder is cargo's");
    let ops = env::var("KINGLET_OPS").map_or(u128::MAX, |n| n.parse().expect("KINGLET_OPS is a number"));
    let ((flash, code), ram, (timer, ticks)) = (board.flash, board.ram, &board.timer);
    // Its address, its control, value and reload (words), what starts it, and its largest value.
    let (timer, value, reload, start, most) = match *timer {
        Timer::Cmsdk(at) => (at, 1, 2, 1, u32::MAX),
        Timer::SysTick => (0xe000_e010, 2, 1, 5, (1 << 24) - 1),
    };
    let mut text = format!("/// Where the emulator puts the case.\nconst CASE: usize = {:#x};\n", board.case);
    text += &format!("/// The kinds of steps and the functions that this program runs.\nconst OPS: u128 = {ops};\n");
    if env::var("CARGO_FEATURE_BARE").is_err() {
        text += &format!(
            "/// The timer.\nconst TIMER: usize = {timer:#x};\n/// The words of its value, and of what it begins from.\nconst VALUE: usize = \
             {value};\nconst RELOAD: usize = {reload};\n/// What starts it.\nconst START: u32 = {start};\n/// Its largest value.\nconst MOST: u32 = \
             {most};\n/// Its ticks.\nconst TICKS_PER_SECOND: u64 = {ticks};\n/// Nanoseconds of an instruction.\nconst NANOSECONDS: u64 = {};\n",
            1 << board.shift
        );
    }
    write("board.rs", text);
    let region = |name: &str, at: u32, kib: u32| format!("  {name} : ORIGIN = {at:#x}, LENGTH = {kib}K\n");
    let slow = ".psram (NOLOAD) : { *(.psram) } > PSRAM";
    let regions = [region("FLASH", flash, code), region("RAM", ram, RAM), region("PSRAM", board.slow, SLOW)].concat();
    write("memory.x", format!("MEMORY {{\n{regions}}}\nSECTIONS {{ {slow} }} INSERT AFTER .got;\n"));
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    println!("cargo:rustc-link-arg-bins=--nmagic");
}
