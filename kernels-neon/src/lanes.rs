//! The innermost loops of products whose inputs are taken by lane: a vector of a pixel's inputs has the factors of four vectors of 16
//! channels each.
//!
//! They are written in assembler: the dot product has no intrinsics in stable Rust, and with intrinsics loads are split and sums leave
//! registers.

use core::arch::aarch64::*;
use core::arch::asm;

/// A tile of `P` pixels and 16 channels.
pub(crate) trait Tile<const P: usize>: Copy {
    /// Inputs, as they lie.
    type X;
    /// Weights, as they lie.
    type W;
    /// Four sums.
    type Sum;

    /// Sums on the way; those of each pixel begin with these.
    fn start(sums: [Self::Sum; 4]) -> Self;

    /// Adds the products of a line of `words` from each of `x` on: a float each, or four bytes.
    ///
    /// # Safety
    /// So many inputs and weights are there, and the CPU has the instructions.
    unsafe fn add(&mut self, x: [*const Self::X; P], w: *const Self::W, words: usize);

    /// The sums of 16 channels by pixel, which began with these.
    fn sums(&self, start: [Self::Sum; 4]) -> [[Self::Sum; 4]; P];
}

/// Sums of bytes by the dot product, four inputs of a channel at a time.
#[derive(Clone, Copy)]
pub(crate) struct Dot<const P: usize>([[int32x4_t; 4]; P]);

/// Sums of floats, one input at a time.
#[derive(Clone, Copy)]
pub(crate) struct Fma<const P: usize>([[float32x4_t; 4]; P]);

/// The loop of a tile whose inputs are multiplied by lane: four bytes of a pixel with those of four channels.
macro_rules! by_lanes {
    ($name:ident $x_type:ty, $w_type:ty, $sum:ty, $extension:literal, $op:literal $of:literal $lane:literal,
        $pixels:literal; $($p:ident $i:literal $x:literal, $a:tt $b:tt $c:tt $d:tt;)+) => {
        impl Tile<$pixels> for $name<$pixels> {
            type X = $x_type;
            type W = $w_type;
            type Sum = $sum;

            #[inline(always)]
            fn start(sums: [$sum; 4]) -> Self {
                $name([sums; $pixels])
            }

            #[inline(always)]
            unsafe fn add(&mut self, x: [*const $x_type; $pixels], w: *const $w_type, words: usize) {
                let acc = &mut self.0;
                // SAFETY: the caller's; nothing but the named registers is written.
                unsafe {
                    asm!(
                        $extension,
                        "lsr {n}, {words}, #2",
                        "cbz {n}, 3f",
                        "2:",
                        $(concat!("ldr ", "q", $x, ", [{", stringify!($p), "}], #16"),)+
                        ".irp l,0,1,2,3",
                        "ld1 {{v20.16b, v21.16b, v22.16b, v23.16b}}, [{w}], #64",
                        $(
                            concat!($op, " ", $a, ".4s, v20.", $of, ", v", $x, $lane, "[\\l]"),
                            concat!($op, " ", $b, ".4s, v21.", $of, ", v", $x, $lane, "[\\l]"),
                            concat!($op, " ", $c, ".4s, v22.", $of, ", v", $x, $lane, "[\\l]"),
                            concat!($op, " ", $d, ".4s, v23.", $of, ", v", $x, $lane, "[\\l]"),
                        )+
                        ".endr",
                        "subs {n}, {n}, #1",
                        "b.ne 2b",
                        "3:",
                        "ands {n}, {words}, #3",
                        "b.eq 5f",
                        "4:",
                        $(concat!("ldr ", "s", $x, ", [{", stringify!($p), "}], #4"),)+
                        "ld1 {{v20.16b, v21.16b, v22.16b, v23.16b}}, [{w}], #64",
                        "subs {n}, {n}, #1",
                        $(
                            concat!($op, " ", $a, ".4s, v20.", $of, ", v", $x, $lane, "[0]"),
                            concat!($op, " ", $b, ".4s, v21.", $of, ", v", $x, $lane, "[0]"),
                            concat!($op, " ", $c, ".4s, v22.", $of, ", v", $x, $lane, "[0]"),
                            concat!($op, " ", $d, ".4s, v23.", $of, ", v", $x, $lane, "[0]"),
                        )+
                        "b.ne 4b",
                        "5:",
                        $($p = inout(reg) x[$i] => _,)+
                        w = inout(reg) w => _,
                        words = in(reg) words,
                        n = out(reg) _,
                        $(
                            inout($a) acc[$i][0], inout($b) acc[$i][1], inout($c) acc[$i][2], inout($d) acc[$i][3],
                        )+
                        out("v20") _, out("v21") _, out("v22") _, out("v23") _, out("v24") _,
                        out("v25") _, out("v26") _, out("v27") _, out("v28") _,
                        options(nostack, readonly)
                    );
                }
            }

            #[inline(always)]
            fn sums(&self, _: [$sum; 4]) -> [[$sum; 4]; $pixels] {
                self.0
            }
        }
    };
}

impl<const P: usize> Fma<P> {
    /// With sums so far.
    #[inline(always)]
    pub(crate) fn of(sums: [[float32x4_t; 4]; P]) -> Self {
        Fma(sums)
    }
}

macro_rules! tiles {
    ($($of:tt)*) => {
    by_lanes!($($of)*, 1; p0 0 "24", "v0" "v1" "v2" "v3";);
        by_lanes!($($of)*, 2; p0 0 "24", "v0" "v1" "v2" "v3"; p1 1 "25", "v4" "v5" "v6" "v7";);
        by_lanes!($($of)*, 3; p0 0 "24", "v0" "v1" "v2" "v3"; p1 1 "25", "v4" "v5" "v6" "v7"; p2 2 "26", "v8" "v9" "v10" "v11";);
        by_lanes!($($of)*, 4; p0 0 "24", "v0" "v1" "v2" "v3"; p1 1 "25", "v4" "v5" "v6" "v7"; p2 2 "26", "v8" "v9" "v10" "v11";
            p3 3 "27", "v12" "v13" "v14" "v15";);
        by_lanes!($($of)*, 5; p0 0 "24", "v0" "v1" "v2" "v3"; p1 1 "25", "v4" "v5" "v6" "v7"; p2 2 "26", "v8" "v9" "v10" "v11";
            p3 3 "27", "v12" "v13" "v14" "v15"; p4 4 "28", "v16" "v17" "v18" "v19";);
    };
}

tiles!(Dot u8, i8, int32x4_t, ".arch_extension dotprod", "sdot" "16b" ".4b");
tiles!(Fma f32, f32, float32x4_t, ".arch_extension simd", "fmla" "4s" ".s");
