//! Elements of tensors: bytes as reals and back, the larger of bytes, and Legendre memories, where the core has floats.

use core::arch::global_asm;

#[cfg(target_abi = "eabihf")]
use kinglet::DType;
#[cfg(target_abi = "eabihf")]
use kinglet::elementwise::Portable;
use kinglet::elementwise::{Chosen, Elementwise};
#[cfg(target_abi = "eabihf")]
use kinglet::kernels::MEMORY_LANES;
use kinglet::kernels::{BinaryOp, Frame, MemoryFrame, OpSet, UnaryOp};
use kinglet::rows::{View, ViewMut};

global_asm!(core_directives!(), include_str!("elements.s"), options(raw));

unsafe extern "C" {
    fn kinglet_larger_signed(one: *mut u8, other: *const u8, bytes: usize);
    fn kinglet_larger_unsigned(one: *mut u8, other: *const u8, bytes: usize);
}

#[cfg(target_abi = "eabihf")]
unsafe extern "C" {
    fn kinglet_reals(grid: &Grid, bytes: *const u8, reals: *mut f32, n: usize);
    fn kinglet_bytes(grid: &Grid, reals: *const f32, bytes: *mut u8, n: usize) -> usize;
    fn kinglet_memory(a: *const f32, memory: *const f32, order: usize, next: *mut f32, b: *const f32, u: u32);
}

/// What bytes stand for, word by word as functions of `elements.s` read it.
#[cfg(target_abi = "eabihf")]
#[repr(C)]
struct Grid {
    scale: f32,
    /// The zero point of signed bytes, negated where these become reals.
    zero: i32,
    /// What turns signed bytes to those that there are, four at once.
    turn: u32,
}

#[cfg(target_abi = "eabihf")]
impl Grid {
    /// Of a tensor of bytes; `None` if it is none.
    fn of(dtype: DType, scale: f32, zero: i32) -> Option<Grid> {
        match dtype {
            DType::I8 => Some(Grid { scale, zero, turn: 0 }),
            DType::U8 => Some(Grid { scale, zero: zero - 128, turn: 0x8080_8080 }),
            _ => None,
        }
    }
}

/// The functions of elements of a set ([`OpSet::bits`]), those of them that the core does better by its instructions for bytes and floats.
#[derive(Clone, Copy, Debug, Default)]
pub struct Elements<const OPS: u128>;

impl<const OPS: u128> Elementwise for Elements<OPS> {
    const OPS: OpSet = OpSet::from_bits(OPS);

    #[cfg(target_abi = "eabihf")]
    #[inline(never)]
    fn load(self, x: &View<'_>, start: usize, out: &mut [f32]) {
        let mut done = 0;
        if let Some(grid) = Grid::of(x.dtype, x.scale, x.zero_point) {
            let bytes = x.slice::<u8>(start, out.len());
            let n = bytes.len() & !3;
            if n > 0 {
                let grid = Grid { zero: grid.zero.wrapping_neg(), ..grid };
                // SAFETY: there are as many bytes as reals.
                unsafe { kinglet_reals(&grid, bytes.as_ptr(), out.as_mut_ptr(), n) };
                done = n;
            }
        }
        Portable.load(x, start + done, out.get_mut(done..).unwrap_or(&mut []));
    }

    #[cfg(target_abi = "eabihf")]
    #[inline(never)]
    fn store(self, out: &mut ViewMut<'_>, start: usize, v: &[f32]) {
        let mut done = 0;
        let grid = Grid::of(out.dtype(), out.scale(), out.zero_point());
        // All of them, or none.
        if let Some(grid) = grid.filter(|_| out.slice::<u8>(start, v.len()).len() == v.len()) {
            while let [_, _, _, _, ..] = v.get(done..).unwrap_or(&[]) {
                let rest = v.get(done..).unwrap_or(&[]);
                let n = rest.len() & !3;
                let bytes = out.slice::<u8>(start + done, n);
                if bytes.len() != n {
                    return;
                }
                // SAFETY: there are as many bytes as reals.
                let stored = unsafe { kinglet_bytes(&grid, rest.as_ptr(), bytes.as_mut_ptr(), n) };
                done += stored;
                if stored < n {
                    // One of the next four is no number, or they are infinite.
                    Portable.store(out, start + done, rest.get(stored..stored + 4).unwrap_or(&[]));
                    done += 4;
                }
            }
        }
        Portable.store(out, start + done, v.get(done..).unwrap_or(&[]));
    }

    #[cfg(target_abi = "eabihf")]
    #[inline(never)]
    fn memory(self, frame: MemoryFrame<'_>) {
        let MemoryFrame { mut next, memory, mut a, mut b, u } = frame;
        let block = memory.len() * MEMORY_LANES;
        // What is less than eight elements, and what is none, is left to the portable loop.
        while block > 0 && next.len() >= MEMORY_LANES {
            let (Some((to, others)), Some((rows, more)), Some((own, rest))) = (
                core::mem::take(&mut next).split_at_mut_checked(MEMORY_LANES),
                a.split_at_checked(block),
                b.split_at_checked(MEMORY_LANES),
            ) else {
                return;
            };
            // SAFETY: there are eight elements, and as many rows of A as each has columns.
            unsafe {
                kinglet_memory(rows.as_ptr(), memory.as_ptr(), memory.len(), to.as_mut_ptr(), own.as_ptr(), u.to_bits())
            };
            (next, a, b) = (others, more, rest);
        }
        if !next.is_empty() {
            Portable.memory(MemoryFrame { next, memory, a, b, u });
        }
    }

    #[cfg(not(target_abi = "eabihf"))]
    fn load(self, x: &View<'_>, start: usize, out: &mut [f32]) {
        Chosen::<OPS>.load(x, start, out);
    }

    #[cfg(not(target_abi = "eabihf"))]
    fn store(self, out: &mut ViewMut<'_>, start: usize, v: &[f32]) {
        Chosen::<OPS>.store(out, start, v);
    }

    #[cfg(not(target_abi = "eabihf"))]
    fn memory(self, frame: MemoryFrame<'_>) {
        Chosen::<OPS>.memory(frame);
    }

    fn larger(self, signed: bool, one: &mut [u8], other: &[u8]) {
        let n = one.len().min(other.len());
        let whole = n & !3;
        if whole > 0 {
            // SAFETY: both have so many bytes.
            unsafe {
                if signed {
                    kinglet_larger_signed(one.as_mut_ptr(), other.as_ptr(), whole);
                } else {
                    kinglet_larger_unsigned(one.as_mut_ptr(), other.as_ptr(), whole);
                }
            }
        }
        let (one, other) = (one.get_mut(whole..).unwrap_or(&mut []), other.get(whole..).unwrap_or(&[]));
        Chosen::<OPS>.larger(signed, one, other);
    }

    fn unary(self, op: UnaryOp, parameters: [f32; 2], v: &mut [f32]) {
        Chosen::<OPS>.unary(op, parameters, v);
    }

    fn binary(self, op: BinaryOp, a: &mut [f32], b: &[f32]) {
        Chosen::<OPS>.binary(op, a, b);
    }

    fn scan(self, frame: Frame<'_>) {
        Chosen::<OPS>.scan(frame);
    }
}
