//! Tables of bytes in registers.

use core::arch::aarch64::*;

use kinglet::rows::PixelsMut;

/// A table of 256 bytes in 16 registers.
#[derive(Clone, Copy)]
struct Table([uint8x16x4_t; 4]);

impl Table {
    #[inline(always)]
    fn of(table: &[u8; 256]) -> Table {
        // SAFETY: the table has four times 64 bytes.
        let quarter = |i: usize| unsafe { vld1q_u8_x4(table.as_ptr().add(64 * i)) };
        Table([quarter(0), quarter(1), quarter(2), quarter(3)])
    }

    /// The entries of 16 bytes: of four lookups of 64 entries each, the byte is in one. What is beyond a quarter leaves the result as it
    /// is, and what was within one before is beyond all others.
    #[inline(always)]
    fn entries(&self, i: uint8x16_t) -> uint8x16_t {
        // SAFETY: NEON is part of every AArch64 CPU that this crate is compiled for.
        unsafe {
            let next = vdupq_n_u8(64);
            let mut v = vqtbl4q_u8(self.0[0], i);
            let i = vsubq_u8(i, next);
            v = vqtbx4q_u8(v, self.0[1], i);
            let i = vsubq_u8(i, next);
            v = vqtbx4q_u8(v, self.0[2], i);
            vqtbx4q_u8(v, self.0[3], vsubq_u8(i, next))
        }
    }

    /// Replaces each byte of a run.
    #[inline(always)]
    fn apply(&self, bytes: &mut [u8]) {
        let (whole, rest) = bytes.as_chunks_mut::<16>();
        for bytes in whole {
            // SAFETY: 16 bytes.
            unsafe { vst1q_u8(bytes.as_mut_ptr(), self.entries(vld1q_u8(bytes.as_ptr()))) };
        }
        if !rest.is_empty() {
            let mut all = [0u8; 16];
            all[..rest.len()].copy_from_slice(rest);
            // SAFETY: 16 bytes.
            unsafe { vst1q_u8(all.as_mut_ptr(), self.entries(vld1q_u8(all.as_ptr()))) };
            rest.copy_from_slice(&all[..rest.len()]);
        }
    }
}

/// Replaces each byte by its entry in a table.
pub(crate) fn look_up(table: &[u8; 256], bytes: &mut [u8]) {
    Table::of(table).apply(bytes);
}

/// As [`look_up`], of all runs.
pub(crate) fn look_up_pixels(table: &[u8; 256], pixels: &mut PixelsMut<'_, u8>) {
    let table = Table::of(table);
    for i in 0..pixels.count() {
        table.apply(pixels.run(i));
    }
}

#[cfg(test)]
mod tests {
    /// Every byte, in slices of every length up to a few vectors.
    #[test]
    fn tables_are_those_of_the_portable_loop() {
        let table: [u8; 256] = core::array::from_fn(|i| (i * 167 + 13) as u8);
        for n in 0..300 {
            let mut bytes: Vec<u8> = (0..n).map(|i| (i * 91 + n) as u8).collect();
            let mut want = bytes.clone();
            kinglet::kernels::look_up(&table, &mut want);
            super::look_up(&table, &mut bytes);
            assert_eq!(bytes, want);
        }
    }
}
