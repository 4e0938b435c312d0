//! The innermost loops of products of bytes.
//!
//! Each multiplies a line of some pixels with the weights of a panel. They are written in assembler: the instructions that matter have no
//! intrinsics in stable Rust, and with those that have, loads are split and sums leave registers.

use core::arch::aarch64::*;
use core::arch::asm;

use crate::lanes::Tile;

/// Sums without the dot product: each channel's even and odd pairs of inputs. With `NARROW` weights two products fit 16 bits
/// together.
#[derive(Clone, Copy)]
pub(super) struct Widening<const P: usize, const NARROW: bool>([[int32x4_t; 8]; P]);

/// Four channels of a pixel: inputs 0 to 3 and 4 to 7, with the weights `$w` and `$v`, through `$t` and `$u`.
macro_rules! four_channels {
    (true, $a:tt, $b:tt, $w:literal, $v:literal, $x:literal, $y:literal, $t:literal, $u:literal) => {
        concat!(
            "smull ", $t, ".8h, ", $w, ".8b, ", $x, ".8b\n", "smull2 ", $u, ".8h, ", $w, ".16b, ", $x, ".16b\n",
            "smlal ", $t, ".8h, ", $v, ".8b, ", $y, ".8b\n", "smlal2 ", $u, ".8h, ", $v, ".16b, ", $y, ".16b\n",
            "sadalp ", $a, ".4s, ", $t, ".8h\n", "sadalp ", $b, ".4s, ", $u, ".8h"
        )
    };
    (false, $a:tt, $b:tt, $w:literal, $v:literal, $x:literal, $y:literal, $t:literal, $u:literal) => {
        concat!(
            "smull ", $t, ".8h, ", $w, ".8b, ", $x, ".8b\n", "smull2 ", $u, ".8h, ", $w, ".16b, ", $x, ".16b\n",
            "sadalp ", $a, ".4s, ", $t, ".8h\n", "sadalp ", $b, ".4s, ", $u, ".8h\n", "smull ", $t, ".8h, ", $v,
            ".8b, ", $y, ".8b\n", "smull2 ", $u, ".8h, ", $v, ".16b, ", $y, ".16b\n", "sadalp ", $a, ".4s, ", $t,
            ".8h\n", "sadalp ", $b, ".4s, ", $u, ".8h"
        )
    };
    (half, $a:tt, $b:tt, $w:literal, $x:literal, $t:literal, $u:literal) => {
        concat!(
            "smull ", $t, ".8h, ", $w, ".8b, ", $x, ".8b\n", "smull2 ", $u, ".8h, ", $w, ".16b, ", $x, ".16b\n",
            "sadalp ", $a, ".4s, ", $t, ".8h\n", "sadalp ", $b, ".4s, ", $u, ".8h"
        )
    };
}

macro_rules! widening {
    ($pixels:literal, $narrow:tt; $($p:ident $i:literal $x:literal $y:literal $t:literal $u:literal,
        $a0:tt $b0:tt $a1:tt $b1:tt $a2:tt $b2:tt $a3:tt $b3:tt;)+) => {
        impl Tile<$pixels> for Widening<$pixels, $narrow> {
            type X = u8;
            type W = i8;
            type Sum = int32x4_t;

            #[inline(always)]
            fn start(_: [int32x4_t; 4]) -> Self {
                // SAFETY: NEON is always there.
                Widening([[unsafe { vdupq_n_s32(0) }; 8]; $pixels])
            }

            #[inline(always)]
            unsafe fn add(&mut self, x: [*const u8; $pixels], w: *const i8, words: usize) {
                let acc = &mut self.0;
                // SAFETY: the caller's; nothing but the named registers is written.
                unsafe {
                    asm!(
                        "lsr {n}, {words}, #1",
                        "cbz {n}, 3f",
                        "2:",
                        $(
                            concat!("ld1r {{", $x, ".4s}}, [{", stringify!($p), "}], #4"),
                            concat!("ld1r {{", $y, ".4s}}, [{", stringify!($p), "}], #4"),
                        )+
                        "ld1 {{v16.16b, v17.16b, v18.16b, v19.16b}}, [{w}], #64",
                        "ld1 {{v20.16b, v21.16b, v22.16b, v23.16b}}, [{w}], #64",
                        $(four_channels!($narrow, $a0, $b0, "v16", "v20", $x, $y, $t, $u),)+
                        $(four_channels!($narrow, $a1, $b1, "v17", "v21", $x, $y, $t, $u),)+
                        $(four_channels!($narrow, $a2, $b2, "v18", "v22", $x, $y, $t, $u),)+
                        "subs {n}, {n}, #1",
                        $(four_channels!($narrow, $a3, $b3, "v19", "v23", $x, $y, $t, $u),)+
                        "b.ne 2b",
                        "3:",
                        "tbz {words}, #0, 5f",
                        $(concat!("ld1r {{", $x, ".4s}}, [{", stringify!($p), "}]"),)+
                        "ld1 {{v16.16b, v17.16b, v18.16b, v19.16b}}, [{w}]",
                        $(four_channels!(half, $a0, $b0, "v16", $x, $t, $u),)+
                        $(four_channels!(half, $a1, $b1, "v17", $x, $t, $u),)+
                        $(four_channels!(half, $a2, $b2, "v18", $x, $t, $u),)+
                        $(four_channels!(half, $a3, $b3, "v19", $x, $t, $u),)+
                        "5:",
                        $($p = inout(reg) x[$i] => _,)+
                        w = inout(reg) w => _,
                        words = in(reg) words,
                        n = out(reg) _,
                        $(
                            inout($a0) acc[$i][0], inout($b0) acc[$i][1], inout($a1) acc[$i][2], inout($b1) acc[$i][3],
                            inout($a2) acc[$i][4], inout($b2) acc[$i][5], inout($a3) acc[$i][6], inout($b3) acc[$i][7],
                        )+
                        out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _,
                        out("v22") _, out("v23") _, out("v24") _, out("v25") _, out("v26") _, out("v27") _,
                        out("v28") _, out("v29") _, out("v30") _, out("v31") _,
                        options(nostack, readonly)
                    );
                }
            }

            #[inline(always)]
            fn sums(&self, start: [int32x4_t; 4]) -> [[int32x4_t; 4]; $pixels] {
                let mut sums = [start; $pixels];
                for p in 0..$pixels {
                    for i in 0..4 {
                        // SAFETY: NEON is always there.
                        sums[p][i] = unsafe { vaddq_s32(start[i], vpaddq_s32(self.0[p][2 * i], self.0[p][2 * i + 1])) };
                    }
                }
                sums
            }
        }
    };
}

macro_rules! both {
    ($narrow:tt) => {
        widening!(1, $narrow; p0 0 "v24" "v25" "v28" "v29", "v0" "v1" "v2" "v3" "v4" "v5" "v6" "v7";);
        widening!(2, $narrow; p0 0 "v24" "v25" "v28" "v29", "v0" "v1" "v2" "v3" "v4" "v5" "v6" "v7";
            p1 1 "v26" "v27" "v30" "v31", "v8" "v9" "v10" "v11" "v12" "v13" "v14" "v15";);
    };
}
both!(true);
both!(false);

/// Adds the products of a line of `eights` times eight inputs of `2 N` pixels with a panel of eight channels: `smmla` has the sums of two
/// pixels and two channels, `acc[n][c]` those of pixels `2 n` and `2 n + 1`, channels `2 c` and `2 c + 1`.
///
/// # Safety
/// So many inputs and weights are there, and the CPU has the instructions.
macro_rules! by_eights {
    ($name:ident, $pairs:literal; $($p:ident $q:ident $i:literal $x:literal $y:literal,
        $a:tt $b:tt $c:tt $d:tt;)+) => {
        #[inline(always)]
        pub(super) unsafe fn $name(
            acc: &mut [[int32x4_t; 4]; $pairs],
            x: [*const u8; 2 * $pairs],
            w: *const i8,
            eights: usize,
        ) {
            // SAFETY: the caller's; nothing but the named registers is written.
            unsafe {
                asm!(
                    ".arch_extension i8mm",
                    "lsr {n}, {eights}, #1",
                    "cbz {n}, 3f",
                    "2:",
                    $(
                        concat!("ld2 {{", $x, ".d, ", $y, ".d}}[0], [{", stringify!($p), "}], #16"),
                        concat!("ld2 {{", $x, ".d, ", $y, ".d}}[1], [{", stringify!($q), "}], #16"),
                    )+
                    "ld1 {{v16.16b, v17.16b, v18.16b, v19.16b}}, [{w}], #64",
                    "ld1 {{v20.16b, v21.16b, v22.16b, v23.16b}}, [{w}], #64",
                    "subs {n}, {n}, #1",
                    $(
                        concat!("smmla ", $a, ".4s, ", $x, ".16b, v16.16b"),
                        concat!("smmla ", $b, ".4s, ", $x, ".16b, v17.16b"),
                        concat!("smmla ", $c, ".4s, ", $x, ".16b, v18.16b"),
                        concat!("smmla ", $d, ".4s, ", $x, ".16b, v19.16b"),
                    )+
                    $(
                        concat!("smmla ", $a, ".4s, ", $y, ".16b, v20.16b"),
                        concat!("smmla ", $b, ".4s, ", $y, ".16b, v21.16b"),
                        concat!("smmla ", $c, ".4s, ", $y, ".16b, v22.16b"),
                        concat!("smmla ", $d, ".4s, ", $y, ".16b, v23.16b"),
                    )+
                    "b.ne 2b",
                    "3:",
                    "tbz {eights}, #0, 5f",
                    $(
                        concat!("ld1 {{", $x, ".d}}[0], [{", stringify!($p), "}]"),
                        concat!("ld1 {{", $x, ".d}}[1], [{", stringify!($q), "}]"),
                    )+
                    "ld1 {{v16.16b, v17.16b, v18.16b, v19.16b}}, [{w}]",
                    $(
                        concat!("smmla ", $a, ".4s, ", $x, ".16b, v16.16b"),
                        concat!("smmla ", $b, ".4s, ", $x, ".16b, v17.16b"),
                        concat!("smmla ", $c, ".4s, ", $x, ".16b, v18.16b"),
                        concat!("smmla ", $d, ".4s, ", $x, ".16b, v19.16b"),
                    )+
                    "5:",
                    $($p = inout(reg) x[2 * $i] => _, $q = inout(reg) x[2 * $i + 1] => _,)+
                    w = inout(reg) w => _,
                    eights = in(reg) eights,
                    n = out(reg) _,
                    $(inout($a) acc[$i][0], inout($b) acc[$i][1], inout($c) acc[$i][2], inout($d) acc[$i][3],)+
                    out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _,
                    out("v22") _, out("v23") _, out("v24") _, out("v25") _, out("v26") _, out("v27") _,
                    out("v28") _, out("v29") _, out("v30") _, out("v31") _,
                    options(nostack, readonly)
                );
            }
        }
    };
}

by_eights!(pairs_1, 1; p0 p1 0 "v24" "v25", "v0" "v1" "v2" "v3";);
by_eights!(pairs_2, 2; p0 p1 0 "v24" "v25", "v0" "v1" "v2" "v3"; p2 p3 1 "v26" "v27", "v4" "v5" "v6" "v7";);
by_eights!(pairs_3, 3; p0 p1 0 "v24" "v25", "v0" "v1" "v2" "v3"; p2 p3 1 "v26" "v27", "v4" "v5" "v6" "v7";
    p4 p5 2 "v28" "v29", "v8" "v9" "v10" "v11";);
by_eights!(pairs_4, 4; p0 p1 0 "v24" "v25", "v0" "v1" "v2" "v3"; p2 p3 1 "v26" "v27", "v4" "v5" "v6" "v7";
    p4 p5 2 "v28" "v29", "v8" "v9" "v10" "v11"; p6 p7 3 "v30" "v31", "v12" "v13" "v14" "v15";);

/// As above, of pixels whose inputs lie in a panel `[eight inputs][pixel][input]`: both sides are read in whole vectors.
///
/// # Safety
/// So many inputs and weights are there, and the CPU has the instructions.
macro_rules! from_panel {
    ($name:ident, $pairs:literal; $($load:literal),+; $($i:literal $x:literal, $a:tt $b:tt $c:tt $d:tt;)+) => {
        #[inline(always)]
        pub(super) unsafe fn $name(acc: &mut [[int32x4_t; 4]; $pairs], x: *const u8, w: *const i8, eights: usize) {
            // SAFETY: the caller's; nothing but the named registers is written.
            unsafe {
                asm!(
                    ".arch_extension i8mm",
                    "2:",
                    "ld1 {{v24.16b, v25.16b, v26.16b, v27.16b}}, [{w}], #64",
                    $($load,)+
                    "subs {n}, {n}, #1",
                    $(
                        concat!("smmla ", $a, ".4s, ", $x, ".16b, v24.16b"),
                        concat!("smmla ", $b, ".4s, ", $x, ".16b, v25.16b"),
                        concat!("smmla ", $c, ".4s, ", $x, ".16b, v26.16b"),
                        concat!("smmla ", $d, ".4s, ", $x, ".16b, v27.16b"),
                    )+
                    "b.ne 2b",
                    x = inout(reg) x => _,
                    w = inout(reg) w => _,
                    n = inout(reg) eights => _,
                    $(inout($a) acc[$i][0], inout($b) acc[$i][1], inout($c) acc[$i][2], inout($d) acc[$i][3],)+
                    out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _,
                    out("v30") _, out("v31") _,
                    options(nostack, readonly)
                );
            }
        }
    };
}

from_panel!(panel_1, 1; "ldr q28, [{x}], #16"; 0 "v28", "v0" "v1" "v2" "v3";);
from_panel!(panel_2, 2; "ldp q28, q29, [{x}], #32"; 0 "v28", "v0" "v1" "v2" "v3"; 1 "v29", "v4" "v5" "v6" "v7";);
from_panel!(panel_3, 3; "ldp q28, q29, [{x}], #32", "ldr q30, [{x}], #16"; 0 "v28", "v0" "v1" "v2" "v3";
    1 "v29", "v4" "v5" "v6" "v7"; 2 "v30", "v8" "v9" "v10" "v11";);
from_panel!(panel_4, 4; "ldp q28, q29, [{x}], #32", "ldp q30, q31, [{x}], #32"; 0 "v28", "v0" "v1" "v2" "v3";
    1 "v29", "v4" "v5" "v6" "v7"; 2 "v30", "v8" "v9" "v10" "v11"; 3 "v31", "v12" "v13" "v14" "v15";);

/// As the others, of twelve pixels: 24 sums leave four registers for inputs, which are loaded in the midst. (Two rounds at once.)
///
/// # Safety
/// As above.
#[inline(always)]
pub(super) unsafe fn panel_6(acc: &mut [[int32x4_t; 4]; 6], x: *const u8, w: *const i8, eights: usize) {
    macro_rules! pair {
        ($x:literal, $a:literal $b:literal $c:literal $d:literal) => {
            concat!(
                "smmla v",
                $a,
                ".4s, v",
                $x,
                ".16b, v24.16b\n",
                "smmla v",
                $b,
                ".4s, v",
                $x,
                ".16b, v25.16b\n",
                "smmla v",
                $c,
                ".4s, v",
                $x,
                ".16b, v26.16b\n",
                "smmla v",
                $d,
                ".4s, v",
                $x,
                ".16b, v27.16b"
            )
        };
    }
    let [a, b, c, d, e, f] = acc;
    // SAFETY: the caller's; nothing but the named registers is written.
    unsafe {
        asm!(
            ".arch_extension i8mm",
            "lsr {n}, {eights}, #1",
            "cbz {n}, 3f",
            "2:",
            "ld1 {{v24.16b, v25.16b, v26.16b, v27.16b}}, [{w}], #64",
            "ld1 {{v28.16b, v29.16b, v30.16b, v31.16b}}, [{x}], #64",
            "subs {n}, {n}, #1",
            pair!("28", "0" "1" "2" "3"),
            pair!("29", "4" "5" "6" "7"),
            pair!("30", "8" "9" "10" "11"),
            pair!("31", "12" "13" "14" "15"),
            // The last pixels of these inputs, and the first of the next.
            "ld1 {{v28.16b, v29.16b, v30.16b, v31.16b}}, [{x}], #64",
            pair!("28", "16" "17" "18" "19"),
            pair!("29", "20" "21" "22" "23"),
            "ld1 {{v24.16b, v25.16b, v26.16b, v27.16b}}, [{w}], #64",
            pair!("30", "0" "1" "2" "3"),
            pair!("31", "4" "5" "6" "7"),
            "ld1 {{v28.16b, v29.16b, v30.16b, v31.16b}}, [{x}], #64",
            pair!("28", "8" "9" "10" "11"),
            pair!("29", "12" "13" "14" "15"),
            pair!("30", "16" "17" "18" "19"),
            pair!("31", "20" "21" "22" "23"),
            "b.ne 2b",
            "3:",
            "tbz {eights}, #0, 5f",
            "ld1 {{v24.16b, v25.16b, v26.16b, v27.16b}}, [{w}]",
            "ld1 {{v28.16b, v29.16b, v30.16b, v31.16b}}, [{x}], #64",
            pair!("28", "0" "1" "2" "3"),
            pair!("29", "4" "5" "6" "7"),
            pair!("30", "8" "9" "10" "11"),
            pair!("31", "12" "13" "14" "15"),
            "ldp q28, q29, [{x}]",
            pair!("28", "16" "17" "18" "19"),
            pair!("29", "20" "21" "22" "23"),
            "5:",
            x = inout(reg) x => _,
            w = inout(reg) w => _,
            eights = in(reg) eights,
            n = out(reg) _,
            inout("v0") a[0], inout("v1") a[1], inout("v2") a[2], inout("v3") a[3],
            inout("v4") b[0], inout("v5") b[1], inout("v6") b[2], inout("v7") b[3],
            inout("v8") c[0], inout("v9") c[1], inout("v10") c[2], inout("v11") c[3],
            inout("v12") d[0], inout("v13") d[1], inout("v14") d[2], inout("v15") d[3],
            inout("v16") e[0], inout("v17") e[1], inout("v18") e[2], inout("v19") e[3],
            inout("v20") f[0], inout("v21") f[1], inout("v22") f[2], inout("v23") f[3],
            out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _, out("v30") _, out("v31") _,
            options(nostack, readonly)
        );
    }
}

/// One pixel and several panels: more sums go on beside each other, and inputs are loaded once for all.
///
/// # Safety
/// So many inputs and weights are there, and the CPU has the dot product.
macro_rules! one_pixel {
    ($name:ident, $lanes:ident, $panels:literal; $($p:ident $i:literal, $a:tt $b:tt $c:tt $d:tt;)+) => {
        /// `acc[n][v]` has two partial sums each of channels `2 v` and `2 v + 1` of panel `n` of eight.
        #[inline(always)]
        pub(super) unsafe fn $name(
            acc: &mut [[int32x4_t; 4]; $panels],
            x: *const u8,
            w: [*const i8; $panels],
            eights: usize,
        ) {
            // SAFETY: the caller's; nothing but the named registers is written.
            unsafe {
                asm!(
                    ".arch_extension dotprod",
                    "cbz {n}, 5f",
                    "4:",
                    "ld1r {{v24.2d}}, [{x}], #8",
                    "subs {n}, {n}, #1",
                    $(
                        concat!("ld1 {{v20.16b, v21.16b, v22.16b, v23.16b}}, [{", stringify!($p), "}], #64"),
                        concat!("sdot ", $a, ".4s, v20.16b, v24.16b"),
                        concat!("sdot ", $b, ".4s, v21.16b, v24.16b"),
                        concat!("sdot ", $c, ".4s, v22.16b, v24.16b"),
                        concat!("sdot ", $d, ".4s, v23.16b, v24.16b"),
                    )+
                    "b.ne 4b",
                    "5:",
                    x = inout(reg) x => _,
                    n = inout(reg) eights => _,
                    $($p = inout(reg) w[$i] => _,)+
                    $(inout($a) acc[$i][0], inout($b) acc[$i][1], inout($c) acc[$i][2], inout($d) acc[$i][3],)+
                    out("v20") _, out("v21") _, out("v22") _, out("v23") _, out("v24") _,
                    options(nostack, readonly)
                );
            }
        }

        /// `acc[n][v]` has the sums of channels `4 v` to `4 v + 3` of panel `n` of sixteen, whose weights lie by fours.
        #[inline(always)]
        pub(super) unsafe fn $lanes(
            acc: &mut [[int32x4_t; 4]; $panels],
            x: *const u8,
            w: [*const i8; $panels],
            words: usize,
        ) {
            // SAFETY: the caller's; nothing but the named registers is written.
            unsafe {
                asm!(
                    ".arch_extension dotprod",
                    "lsr {n}, {words}, #2",
                    "cbz {n}, 3f",
                    "2:",
                    "ldr q24, [{x}], #16",
                    "subs {n}, {n}, #1",
                    ".irp l,0,1,2,3",
                    $(
                        concat!("ld1 {{v20.16b, v21.16b, v22.16b, v23.16b}}, [{", stringify!($p), "}], #64"),
                        concat!("sdot ", $a, ".4s, v20.16b, v24.4b[\\l]"),
                        concat!("sdot ", $b, ".4s, v21.16b, v24.4b[\\l]"),
                        concat!("sdot ", $c, ".4s, v22.16b, v24.4b[\\l]"),
                        concat!("sdot ", $d, ".4s, v23.16b, v24.4b[\\l]"),
                    )+
                    ".endr",
                    "b.ne 2b",
                    "3:",
                    "ands {n}, {words}, #3",
                    "b.eq 5f",
                    "4:",
                    "ldr s24, [{x}], #4",
                    "subs {n}, {n}, #1",
                    $(
                        concat!("ld1 {{v20.16b, v21.16b, v22.16b, v23.16b}}, [{", stringify!($p), "}], #64"),
                        concat!("sdot ", $a, ".4s, v20.16b, v24.4b[0]"),
                        concat!("sdot ", $b, ".4s, v21.16b, v24.4b[0]"),
                        concat!("sdot ", $c, ".4s, v22.16b, v24.4b[0]"),
                        concat!("sdot ", $d, ".4s, v23.16b, v24.4b[0]"),
                    )+
                    "b.ne 4b",
                    "5:",
                    x = inout(reg) x => _,
                    n = out(reg) _,
                    words = in(reg) words,
                    $($p = inout(reg) w[$i] => _,)+
                    $(inout($a) acc[$i][0], inout($b) acc[$i][1], inout($c) acc[$i][2], inout($d) acc[$i][3],)+
                    out("v20") _, out("v21") _, out("v22") _, out("v23") _, out("v24") _,
                    options(nostack, readonly)
                );
            }
        }
    };
}

one_pixel!(eights_1, fours_1, 1; w0 0, "v0" "v1" "v2" "v3";);
one_pixel!(eights_2, fours_2, 2; w0 0, "v0" "v1" "v2" "v3"; w1 1, "v4" "v5" "v6" "v7";);
one_pixel!(eights_4, fours_4, 4; w0 0, "v0" "v1" "v2" "v3"; w1 1, "v4" "v5" "v6" "v7"; w2 2, "v8" "v9" "v10" "v11";
    w3 3, "v12" "v13" "v14" "v15";);
