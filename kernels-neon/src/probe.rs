//! What the multiplying units of this CPU reach, with everything in registers: what the speed of products is measured by.

use core::arch::asm;

use kinglet::kernels::Unit;

use crate::{Level, Neon};

/// Sums that go on beside each other: more than a unit's latency times its number.
const SUMS: u64 = 16;

/// `rounds` times the instruction with each of 16 sums.
macro_rules! rounds {
    ($rounds:expr, $extension:literal, $($line:literal),+) => {
        // SAFETY: it changes the named registers alone, and the level is the proof of its instructions.
        unsafe {
            asm!(
                $extension,
                "2:",
                ".irp a,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
                $($line,)+
                ".endr",
                "subs {n:w}, {n:w}, #1",
                "b.ne 2b",
                n = inout(reg) $rounds => _,
                out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v14") _,
                out("v15") _, out("v16") _, out("v17") _, out("v18") _,
                options(nomem, nostack)
            );
        }
    };
}

impl Neon {
    /// As [`Kernels::probe`](kinglet::Kernels::probe).
    pub(crate) fn probed(self, unit: Unit, rounds: u32) -> u64 {
        if rounds == 0 {
            return 0;
        }
        let macs = match (unit, self.level) {
            (Unit::Halves, _) if self.half.is_some() => {
                rounds!(rounds, ".arch_extension fp16", "fmla v\\a\\().8h, v16.8h, v17.8h");
                8
            }
            (Unit::Floats | Unit::Halves, _) => {
                rounds!(rounds, ".arch_extension simd", "fmla v\\a\\().4s, v16.4s, v17.4s");
                4
            }
            (Unit::Bytes, Level::Base) => {
                rounds!(rounds, ".arch_extension simd", "smull v18.8h, v16.8b, v17.8b", "sadalp v\\a\\().4s, v18.8h");
                8
            }
            (Unit::Bytes, Level::Dot) => {
                rounds!(rounds, ".arch_extension dotprod", "sdot v\\a\\().4s, v16.16b, v17.16b");
                16
            }
            (Unit::Bytes, Level::I8mm) => {
                rounds!(rounds, ".arch_extension i8mm", "smmla v\\a\\().4s, v16.16b, v17.16b");
                32
            }
        };
        u64::from(rounds) * SUMS * macs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_do_what_they_say() {
        assert_eq!(Neon::new().probed(Unit::Floats, 10), 10 * SUMS * 4);
        assert_eq!(Neon::new().probed(Unit::Bytes, 10), 10 * SUMS * 8);
        if let Some(set) = Neon::with_dot() {
            assert_eq!(set.probed(Unit::Bytes, 10), 10 * SUMS * 16);
        }
        if let Some(set) = Neon::with_half() {
            assert_eq!(set.probed(Unit::Halves, 10), 10 * SUMS * 8);
        }
        if let Some(set) = Neon::with_i8mm() {
            assert_eq!(set.probed(Unit::Bytes, 10), 10 * SUMS * 32);
        }
    }
}
