//! The chips that `kinglet new-firmware` makes projects for.

use clap::ValueEnum;

/// A chip that projects are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub enum ChipName {
    /// STM32L476, a Cortex-M4F: 1 MiB of flash, 96 KiB of RAM
    Stm32l4,
    /// STM32F446, a Cortex-M4F: 512 KiB of flash, 128 KiB of RAM
    Stm32f4,
    /// STM32U575, a Cortex-M33: 2 MiB of flash, 768 KiB of RAM
    Stm32u5,
    /// RP2350, a Cortex-M33: 4 MiB of flash on the Pico 2, 512 KiB of RAM
    Rp2350,
    /// nRF5340's application core, a Cortex-M33: 1 MiB of flash, 512 KiB of RAM
    Nrf5340,
}

/// What a project must know of a chip.
pub struct Chip {
    /// A board that has it.
    pub board: &'static str,
    /// Its name for probe-rs.
    pub probe: &'static str,
    pub core: &'static Core,
    /// Where flash and RAM begin, and their KiB.
    pub flash: (u32, u32),
    pub ram: (u32, u32),
    /// Cycles of a second after a reset.
    pub hz: u32,
    /// What else the linker must know.
    pub linker: &'static str,
}

/// What a project must know of a core.
pub struct Core {
    pub triple: &'static str,
    /// Features of `kinglet-cortex-m`.
    pub features: &'static str,
    /// A line with flags of the compiler, if there are any.
    pub flags: &'static str,
    /// An emulated board with the core, what its memory is unless it has that of the chip, the ticks of its timer a second, and the binary
    /// logarithm of the nanoseconds of an instruction.
    pub machine: &'static str,
    pub memory: Option<[(u32, u32); 2]>,
    pub hz: u32,
    pub shift: u32,
}

/// The emulated board is one with an STM32F405, whose memory holds that of the chips here.
const M4F: Core = Core {
    triple: "thumbv7em-none-eabihf",
    features: "",
    flags: "",
    machine: "netduinoplus2",
    memory: None,
    hz: 168_000_000,
    shift: 3,
};

/// The core's name says of the DSP extension what that of the target does not.
const M33: Core = Core {
    triple: "thumbv8m.main-none-eabihf",
    features: ", features = [\"dsp\"]",
    flags: "rustflags = [\"-C\", \"target-cpu=cortex-m33\"]\n",
    machine: "mps2-an505",
    memory: Some([(0x1000_0000, 4096), (0x3800_0000, 2048)]),
    hz: 20_000_000,
    shift: 6,
};

/// What the boot ROM of an RP2350 looks for in the first 4 KiB of the flash: an image for its Arm cores (RP2350 datasheet, section
/// "Minimum viable image metadata").
const IMAGE_DEFINITION: &str = "
SECTIONS {
    .start_block : ALIGN(4) {
        LONG(0xffffded3) LONG(0x10210142) LONG(0x000001ff) LONG(0x00000000) LONG(0xab123579)
    } > FLASH
} INSERT AFTER .vector_table;
_stext = ADDR(.start_block) + SIZEOF(.start_block);
";

impl ChipName {
    /// What there is to know of it.
    pub fn chip(self) -> Chip {
        let stm32 = |board, probe, core, [flash, ram]: [u32; 2], hz| Chip {
            board,
            probe,
            core,
            flash: (0x0800_0000, flash),
            ram: (0x2000_0000, ram),
            hz,
            linker: "",
        };
        match self {
            ChipName::Stm32l4 => stm32("a NUCLEO-L476RG", "STM32L476RGTx", &M4F, [1024, 96], 4_000_000),
            ChipName::Stm32f4 => stm32("a NUCLEO-F446RE", "STM32F446RETx", &M4F, [512, 128], 16_000_000),
            ChipName::Stm32u5 => stm32("a NUCLEO-U575ZI-Q", "STM32U575ZITxQ", &M33, [2048, 768], 4_000_000),
            ChipName::Rp2350 => Chip {
                board: "a Raspberry Pi Pico 2",
                probe: "RP235x",
                core: &M33,
                flash: (0x1000_0000, 4096),
                ram: (0x2000_0000, 512),
                hz: 11_000_000,
                linker: IMAGE_DEFINITION,
            },
            ChipName::Nrf5340 => Chip {
                board: "an nRF5340 DK",
                probe: "nRF5340_xxAA",
                core: &M33,
                flash: (0, 1024),
                ram: (0x2000_0000, 512),
                hz: 64_000_000,
                linker: "",
            },
        }
    }
}

/// Memory for the linker.
pub fn memory_x([flash, ram]: [(u32, u32); 2]) -> String {
    let region = |name: &str, (at, kib): (u32, u32)| format!("    {name:<5} : ORIGIN = {at:#010x}, LENGTH = {kib}K\n");
    format!("MEMORY {{\n{}{}}}\n", region("FLASH", flash), region("RAM", ram))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_said_to_the_linker() {
        assert_eq!(
            memory_x([(0, 1), (0x2000_0000, 96)]).lines().nth(2),
            Some("    RAM   : ORIGIN = 0x20000000, LENGTH = 96K")
        );
    }
}
