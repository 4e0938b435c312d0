//! Products by the instructions of the DSP extension, which have no intrinsics in stable Rust.

use core::arch::asm;

/// Sums of two pixels and two channels, `[pixel][channel]`.
pub type Sums = [[i32; 2]; 2];

macro_rules! fours {
    ($name:ident, $extend:literal) => {
        /// Adds the products of `fours` times four inputs of each pixel with as many weights of each channel, and gives what lies behind them. Four
        /// bytes become two words of two halfwords each, which one instruction multiplies and adds: 23 instructions for 16 products.
        ///
        /// # Safety
        /// So many bytes are there, at least four.
        #[inline(always)]
        pub unsafe fn $name(
            [mut x0, mut x1]: [*const u8; 2],
            [mut w0, mut w1]: [*const u8; 2],
            fours: usize,
            sums: &mut Sums,
        ) {
            let [[mut a, mut b], [mut c, mut d]] = *sums;
            // SAFETY: the caller's. `r6` and `r7`, which are not the compiler's to give, are what they were at the end, and so is the stack.
            unsafe {
                asm!(
                    // Where the inputs of the first pixel end lies on the stack: there is no register left.
                    "push {{r6, r7, r12}}",
                    "2:",
                    "ldr r6, [r2], #4",
                    "ldr r7, [r3], #4",
                    "sxtb16 r10, r6",
                    "sxtb16 r6, r6, ror #8",
                    "sxtb16 r11, r7",
                    "sxtb16 r7, r7, ror #8",
                    "ldr lr, [r0], #4",
                    concat!($extend, " r12, lr"),
                    concat!($extend, " lr, lr, ror #8"),
                    "smlad r4, r12, r10, r4",
                    "smlad r5, r12, r11, r5",
                    "smlad r4, lr, r6, r4",
                    "smlad r5, lr, r7, r5",
                    "ldr lr, [r1], #4",
                    concat!($extend, " r12, lr"),
                    concat!($extend, " lr, lr, ror #8"),
                    "smlad r8, r12, r10, r8",
                    "smlad r9, r12, r11, r9",
                    "ldr r12, [sp, #8]",
                    "smlad r8, lr, r6, r8",
                    "smlad r9, lr, r7, r9",
                    "cmp r0, r12",
                    "bne 2b",
                    "pop {{r6, r7, r12}}",
                    inout("r0") x0,
                    inout("r1") x1,
                    inout("r2") w0,
                    inout("r3") w1,
                    inout("r4") a,
                    inout("r5") b,
                    inout("r8") c,
                    inout("r9") d,
                    out("r10") _,
                    out("r11") _,
                    out("lr") _,
                    inout("r12") x0.add(4 * fours) => _,
                );
            }
            let _ = (x0, x1, w0, w1);
            *sums = [[a, b], [c, d]];
        }
    };
}

fours!(signed, "sxtb16");
fours!(unsigned, "uxtb16");

macro_rules! each {
    ($name:ident, $extend:literal) => {
        /// Adds the products of four inputs, the bytes of a word, with a weight each to four sums: those of bytes 0, 2, 1 and 3.
        #[inline(always)]
        pub fn $name(x: u32, w: u32, [mut a, mut b, mut c, mut d]: [i32; 4]) -> [i32; 4] {
            // SAFETY: arithmetic on registers, of instructions that the target has. (They may set the flag of saturation, which nobody reads.)
            unsafe {
                asm!(
                    concat!($extend, " {y}, {x}"),
                    "sxtb16 {v}, {w}",
                    "smlabb {a}, {y}, {v}, {a}",
                    "smlatt {b}, {y}, {v}, {b}",
                    concat!($extend, " {y}, {x}, ror #8"),
                    "sxtb16 {v}, {w}, ror #8",
                    "smlabb {c}, {y}, {v}, {c}",
                    "smlatt {d}, {y}, {v}, {d}",
                    x = in(reg) x,
                    w = in(reg) w,
                    y = out(reg) _,
                    v = out(reg) _,
                    a = inout(reg) a,
                    b = inout(reg) b,
                    c = inout(reg) c,
                    d = inout(reg) d,
                    options(pure, nomem, nostack)
                );
            }
            [a, b, c, d]
        }
    };
}

each!(each_signed, "sxtb16");
each!(each_unsigned, "uxtb16");
